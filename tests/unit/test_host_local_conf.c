/* SPDX-License-Identifier: Apache-2.0 */
/* test_host_local_conf.c - configs of host-local: what it takes, what it refuses */
#include "cni/host_local.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#define WHOLE(ipam) "{\"cniVersion\":\"1.0.0\",\"name\":\"net\",\"ipam\":" ipam "}"
#define IPAM(rest)  WHOLE("{\"type\":\"host-local\"," rest "}")
#define RANGE(rest) IPAM("\"ranges\":[[{" rest "}]]")
#define V4          "{\"subnet\":\"10.5.52.0/24\"}"
#define V6          "{\"subnet\":\"fc00:5::/64\"}"

static int parse(const char *text, struct host_local_conf *conf, const char **why,
		 struct cni_error *error, json_t **ret_json)
{
	struct err err;

	if (json_parse_object(text, strlen(text), "test", ret_json, &err))
		fail_msg("%s: %s", text, err.text);
	return host_local_conf_parse(*ret_json, conf, why, error);
}

/* "10.5.52.1-10.5.52.254 of /24 by 10.5.52.1, ..." with "; " between sets. */
static const char *describe(const struct host_local_conf *conf)
{
	static char text[2048];
	char start[IP_STRLEN], end[IP_STRLEN], gateway[IP_STRLEN];
	size_t len = 0;

	*text = '\0';
	for (size_t s = 0; s < conf->n_sets; s++)
		for (size_t r = 0; r < conf->set[s].n; r++) {
			const struct host_local_range *range = &conf->set[s].range[r];

			len += (size_t)snprintf(text + len, sizeof(text) - len,
						"%s%s-%s of /%u by %s", r ? ", " : (s ? "; " : ""),
						ip_format(&range->start, start),
						ip_format(&range->end, end), range->subnet.len,
						ip_format(&range->gateway, gateway));
		}
	return text;
}

static const struct {
	const char *text, *want;
} understood[] = {
	{RANGE("\"subnet\":\"10.5.52.0/24\""), "10.5.52.1-10.5.52.254 of /24 by 10.5.52.1"},
	{RANGE("\"subnet\":\"fc00:5::/64\""),
	 "fc00:5::1-fc00:5::ffff:ffff:ffff:ffff of /64 by fc00:5::1"},
	{RANGE("\"subnet\":\"10.5.52.0/30\""), "10.5.52.1-10.5.52.2 of /30 by 10.5.52.1"},
	{RANGE("\"subnet\":\"fc00::4/126\""), "fc00::5-fc00::7 of /126 by fc00::5"},
	{RANGE("\"Subnet\":\"10.5.0.0/16\",\"RANGEstart\":\"10.5.1.0\",\"rangeEnd\":\"10.5.1.9\","
	       "\"gateway\":\"10.5.1.4\""),
	 "10.5.1.0-10.5.1.9 of /16 by 10.5.1.4"},
	{RANGE("\"subnet\":\"10.5.0.0/16\",\"rangeStart\":\"\",\"rangeEnd\":null,\"gateway\":\"\""),
	 "10.5.0.1-10.5.255.254 of /16 by 10.5.0.1"},
	{RANGE("\"subnet\":\"10.5.52.0/24\",\"rangeStart\":\"::ffff:10.5.52.9\""),
	 "10.5.52.9-10.5.52.254 of /24 by 10.5.52.1"},
	/* The gateway may be anything. */
	{RANGE("\"subnet\":\"10.5.52.0/24\",\"gateway\":\"fc00::1\""),
	 "10.5.52.1-10.5.52.254 of /24 by fc00::1"},
	{RANGE("\"subnet\":\"10.5.52.0/24\",\"rangeStart\":\"10.5.52.0\",\"rangeEnd\":"
	       "\"10.5.52.255\""),
	 "10.5.52.0-10.5.52.255 of /24 by 10.5.52.1"},
	{IPAM("\"ranges\":[[" V4 "],[" V6 "]]"),
	 "10.5.52.1-10.5.52.254 of /24 by 10.5.52.1; "
	 "fc00:5::1-fc00:5::ffff:ffff:ffff:ffff of /64 by fc00:5::1"},
	{IPAM("\"ranges\":[[" V4 ",{\"subnet\":\"10.5.53.0/24\"}]]"),
	 "10.5.52.1-10.5.52.254 of /24 by 10.5.52.1, 10.5.53.1-10.5.53.254 of /24 by 10.5.53.1"},
	/* Two parts of one subnet. */
	{IPAM("\"ranges\":[[{\"subnet\":\"10.5.52.0/24\",\"rangeEnd\":\"10.5.52.9\"},"
	      "{\"subnet\":\"10.5.52.0/24\",\"rangeStart\":\"10.5.52.10\"}]]"),
	 "10.5.52.1-10.5.52.9 of /24 by 10.5.52.1, 10.5.52.10-10.5.52.254 of /24 by 10.5.52.1"},
	/* The old form, alone and before others. */
	{IPAM("\"subnet\":\"10.9.0.0/24\",\"rangeStart\":\"10.9.0.7\""),
	 "10.9.0.7-10.9.0.254 of /24 by 10.9.0.1"},
	{IPAM("\"subnet\":\"10.9.0.0/24\",\"ranges\":[[" V4 "]]"),
	 "10.9.0.1-10.9.0.254 of /24 by 10.9.0.1; 10.5.52.1-10.5.52.254 of /24 by 10.5.52.1"},
	/* Of the old form without a subnet the plugin takes no notice. */
	{IPAM("\"rangeStart\":\"10.9.0.7\",\"ranges\":[[" V4 "]]"),
	 "10.5.52.1-10.5.52.254 of /24 by 10.5.52.1"},
	{"{\"cniVersion\":\"0.2.0\",\"name\":\"net\",\"ipam\":{\"ranges\":[[" V4 "],[" V6 "]]},"
	 "\"runtimeConfig\":{\"ips\":[],\"portMappings\":[{}]},\"args\":{\"cni\":{}}}",
	 "10.5.52.1-10.5.52.254 of /24 by 10.5.52.1; "
	 "fc00:5::1-fc00:5::ffff:ffff:ffff:ffff of /64 by fc00:5::1"},
	{"{\"cniVersion\":\"0.3.0\",\"name\":\"net\",\"ipam\":{\"resolvConf\":\"\",\"ranges\":[[" V4
	 "],[{\"subnet\":\"10.6.0.0/24\"}]]}}",
	 "10.5.52.1-10.5.52.254 of /24 by 10.5.52.1; 10.6.0.1-10.6.0.254 of /24 by 10.6.0.1"},
};

static void test_understood(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(understood); i++) {
		_cleanup_json_ json_t *json = NULL;
		struct cni_error error = {0};
		struct host_local_conf conf;
		const char *why = "";

		if (parse(understood[i].text, &conf, &why, &error, &json) != 1)
			fail_msg("%s: %s%s", understood[i].text, error.msg, why);
		assert_string_equal(describe(&conf), understood[i].want);
		assert_string_equal(conf.network, "net");
		assert_string_equal(conf.dir, HOST_LOCAL_DIR);
	}
}

static void test_rest(void **state)
{
	_cleanup_json_ json_t *json = NULL;
	struct cni_error error = {0};
	struct host_local_conf conf;
	char text[IP_NET_STRLEN];
	const char *why;

	(void)state;
	assert_int_equal(parse(IPAM("\"dataDir\":\"/var/d\",\"ranges\":[[" V4 "]],\"routes\":["
				    "{\"dst\":\"0.0.0.0/0\"},{\"dst\":\"10.5.1.2/16\",\"GW\":"
				    "\"10.5.52.9\"},{\"dst\":\"fc00::/8\",\"gw\":\"\"}]"),
			       &conf, &why, &error, &json),
			 1);
	assert_string_equal(conf.dir, "/var/d");
	assert_int_equal(conf.n_routes, 3);
	assert_string_equal(ip_net_format(&conf.route[0].dst, text), "0.0.0.0/0");
	assert_false(ip_is_set(&conf.route[0].gateway));
	assert_string_equal(ip_net_format(&conf.route[1].dst, text), "10.5.1.2/16");
	assert_string_equal(ip_format(&conf.route[1].gateway, text), "10.5.52.9");
	assert_string_equal(ip_net_format(&conf.route[2].dst, text), "fc00::/8");
	assert_false(ip_is_set(&conf.route[2].gateway));
}

static const struct {
	const char *text, *why;
} not_ours[] = {
	{IPAM("\"resolvConf\":\"/etc/resolv.conf\",\"ranges\":[[" V4 "]]"), "ipam.resolvConf"},
	{IPAM("\"colour\":1,\"ranges\":[[" V4 "]]"), "an unknown member of ipam"},
	{RANGE("\"subnet\":\"10.5.52.0/24\",\"exclude\":[]"), "an unknown member of ipam.ranges"},
	{IPAM("\"ranges\":[[" V4 "]],\"routes\":[{\"dst\":\"0.0.0.0/0\",\"mtu\":1400}]"),
	 "an unknown member of ipam.routes"},
	{"{\"name\":\"net\",\"runtimeConfig\":{\"ips\":[\"10.5.52.7\"]},\"ipam\":{\"ranges\":[[" V4
	 "]]}}",
	 "runtimeConfig.ips"},
	{"{\"name\":\"net\",\"runtimeConfig\":{\"ipRanges\":[[" V4 "]]},\"ipam\":{}}",
	 "runtimeConfig.ipRanges"},
	{"{\"name\":\"net\",\"args\":{\"cni\":{\"ips\":[\"10.5.52.7\"]}},\"ipam\":{\"ranges\":[[" V4
	 "]]}}",
	 "args.cni.ips"},
	{IPAM("\"ranges\":[[" V4 "],[],[],[],[],[],[],[],[]]"), "so many ipam.ranges"},
};

static void test_not_ours(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(not_ours); i++) {
		_cleanup_json_ json_t *json = NULL;
		struct cni_error error = {0};
		struct host_local_conf conf = {0};
		const char *why = NULL;

		if (parse(not_ours[i].text, &conf, &why, &error, &json) != 0)
			fail_msg("%s: %s", not_ours[i].text, error.msg);
		assert_string_equal(why, not_ours[i].why);
		assert_int_equal(conf.n_sets, 0);
	}
}

struct refusal {
	const char *text, *names;
};

/* Each is refused by host-local 1.1.1 too. */
static const struct refusal wrong[] = {
	{"{\"name\":\"net\"}", "no ipam"},
	{WHOLE("[]"), "no ipam"},
	{IPAM("\"ranges\":[]"), "no ranges"},
	{IPAM("\"routes\":[]"), "no ranges"},
	{IPAM("\"ranges\":[[]]"), "list of ranges"},
	{IPAM("\"ranges\":[null]"), "list of ranges"},
	{IPAM("\"ranges\":{}"), "not a list"},
	{IPAM("\"ranges\":[[1]]"), "not an object"},
	{RANGE(""), "no subnet"},
	{RANGE("\"subnet\":7"), "subnet"},
	{RANGE("\"subnet\":\"\""), "\"\" is not a prefix"},
	{RANGE("\"subnet\":\"10.5.52.0\""), "\"10.5.52.0\" is not a prefix"},
	{RANGE("\"subnet\":\"10.5.52.0/33\""), "10.5.52.0/33"},
	{RANGE("\"subnet\":\"010.5.52.0/24\""), "010.5.52.0/24"},
	{RANGE("\"subnet\":\"::ffff:10.0.0.0/120\""), "::ffff:10.0.0.0/120"},
	{RANGE("\"subnet\":\"10.5.52.0/31\""), "10.5.52.0/31 is too small"},
	{RANGE("\"subnet\":\"fc00::/127\""), "fc00::/127 is too small"},
	{RANGE("\"subnet\":\"10.5.52.1/24\""), "prefix is 10.5.52.0/24"},
	{RANGE("\"subnet\":\"10.5.52.0/24\",\"rangeStart\":\"10.5.53.1\""), "rangeStart 10.5.53.1"},
	{RANGE("\"subnet\":\"10.5.52.0/24\",\"rangeStart\":\"fc00::1\""), "rangeStart fc00::1"},
	{RANGE("\"subnet\":\"10.5.52.0/24\",\"rangeEnd\":\"10.5.53.1\""), "rangeEnd 10.5.53.1"},
	{RANGE("\"subnet\":\"10.5.52.0/24\",\"rangeEnd\":\"10.5.52.0\""),
	 "behind its end 10.5.52.0"},
	{RANGE("\"subnet\":\"10.5.52.0/24\",\"rangeStart\":\"10.5.52.9\",\"rangeEnd\":"
	       "\"10.5.52.8\""),
	 "behind its end 10.5.52.8"},
	{RANGE("\"subnet\":\"10.5.52.0/24\",\"rangeStart\":\"10.5.52\""), "\"10.5.52\""},
	{RANGE("\"subnet\":\"10.5.52.0/24\",\"gateway\":\"gw\""), "gateway: \"gw\""},
	{IPAM("\"rangeEnd\":\"x\",\"ranges\":[[" V4 "]]"), "rangeEnd: \"x\""},
	{IPAM("\"ranges\":[[" V4 "," V6 "]]"), "both IPv4 and IPv6"},
	{IPAM("\"ranges\":[[" V4 "," V4 "]]"), "overlap"},
	{IPAM("\"ranges\":[[" V4 "],[" V4 "]]"), "overlap"},
	{IPAM("\"subnet\":\"10.5.0.0/16\",\"ranges\":[[" V6 "],[" V4 "]]"),
	 "10.5.0.1-10.5.255.254 and 10.5.52.1-10.5.52.254 overlap"},
	{"{\"cniVersion\":\"0.2.0\",\"name\":\"net\",\"ipam\":{\"ranges\":[[" V4
	 "],[{\"subnet\":\"10.6.0.0/24\"}]]}}",
	 "\"0.2.0\" has room for one"},
	{"{\"name\":\"net\",\"ipam\":{\"ranges\":[[" V4 "],[{\"subnet\":\"10.6.0.0/24\"}]]}}",
	 "has room for one"},
	{IPAM("\"ranges\":[[" V4 "]],\"routes\":{}"), "routes is not a list"},
	{IPAM("\"ranges\":[[" V4 "]],\"routes\":[{\"dst\":\"\"}]"), "dst"},
	{IPAM("\"ranges\":[[" V4 "]],\"routes\":[{\"dst\":\"10.0.0.0/8\",\"gw\":\"x\"}]"), "gw"},
	{IPAM("\"ranges\":[[" V4 "]],\"dataDir\":1"), "dataDir"},
	{"{\"ipam\":{\"ranges\":[[" V4 "]]}}", "\"\" is no name"},
	{"{\"name\":\"..\",\"ipam\":{\"ranges\":[[" V4 "]]}}", "\"..\" is no name"},
	{"{\"name\":\"a/../../b\",\"ipam\":{\"ranges\":[[" V4 "]]}}", "\"a/../../b\" is no name"},
	{"{\"name\":5,\"ipam\":{\"ranges\":[[" V4 "]]}}", "name"},
};

/* Of these it makes nonsense. */
static const struct refusal nonsense[] = {
	/* addresses behind the subnet */
	{RANGE("\"subnet\":\"10.5.52.0/24\",\"rangeStart\":\"10.5.52.255\""),
	 "starts at 10.5.52.255"},
	/* an answer with "<nil>" in it */
	{IPAM("\"ranges\":[[" V4 "]],\"routes\":[{}]"), "no dst"},
	{IPAM("\"ranges\":[[" V4 "]],\"routes\":[null]"), "not an object"},
};

static void refuses(const struct refusal *refusal)
{
	_cleanup_json_ json_t *json = NULL;
	struct cni_error error = {0};
	struct host_local_conf conf = {0};
	const char *why = "";
	int r = parse(refusal->text, &conf, &why, &error, &json);

	if (r != -1 || !strstr(error.msg, refusal->names))
		fail_msg("%s: %d \"%s\" %s", refusal->text, r, error.msg, why);
	assert_int_equal(error.code, CNI_CONFIG_INVALID);
	assert_int_equal(conf.n_sets, 0);
}

static void test_wrong(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		refuses(&wrong[i]);
	for (size_t i = 0; i < ARRAY_SIZE(nonsense); i++)
		refuses(&nonsense[i]);
}

/* ---- what the plugin says ---- */

#define PLUGIN "/usr/lib/cni/host-local"

static char dir[] = "/tmp/weft-test-host-local-XXXXXX";

static int make_dir(void **state)
{
	(void)state;
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	char command[64];

	(void)state;
	(void)snprintf(command, sizeof(command), "rm -r '%s'", dir);
	return system(command); /* NOLINT(cert-env33-c): our own directory */
}

/* Whether it gives an address by @text, in a directory of its own. */
static bool plugin_takes(const char *text)
{
	_cleanup_json_ json_t *json = json_loads(text, 0, NULL);
	json_t *ipam = json_object_get(json, "ipam");
	static unsigned n;
	char path[64], command[512];

	(void)snprintf(path, sizeof(path), "%s/%u", dir, n++);
	if (!json_object_get(ipam, "dataDir"))
		(void)json_object_set_new(ipam, "dataDir", json_string(path));
	(void)snprintf(path, sizeof(path), "%s/conf", dir);
	assert_int_equal(json_dump_file(json, path, 0), 0);
	(void)snprintf(command, sizeof(command),
		       "CNI_COMMAND=ADD CNI_CONTAINERID=c CNI_IFNAME=eth0 CNI_NETNS=/none "
		       "CNI_PATH=/ timeout 50 " PLUGIN " <'%s' >'%s/answer'",
		       path, dir);
	return !system(command); /* NOLINT(cert-env33-c): paths of our own */
}

static void test_plugin(void **state)
{
	(void)state;
	if (access(PLUGIN, X_OK)) {
		print_message("# skipped: there is no %s\n", PLUGIN);
		skip();
	}
	for (size_t i = 0; i < ARRAY_SIZE(understood); i++)
		if (!plugin_takes(understood[i].text))
			fail_msg("the plugin refuses %s", understood[i].text);
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		if (plugin_takes(wrong[i].text))
			fail_msg("the plugin takes %s", wrong[i].text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_understood),
		cmocka_unit_test(test_rest),
		cmocka_unit_test(test_not_ours),
		cmocka_unit_test(test_wrong),
		cmocka_unit_test_setup_teardown(test_plugin, make_dir, remove_dir),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
