/* SPDX-License-Identifier: Apache-2.0 */
/* test_cni_result.c - what ADD answers, in each version: as libcni converts it */
#include "cni/result.h"

#include "base/mem.h"
#include "cni/conf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* One result in each shape; %s is the version. */
#define OLD                                                                                        \
	"{\"cniVersion\":\"%s\",\"ip4\":{\"ip\":\"10.244.1.2/24\",\"gateway\":\"10.244.1.1\","     \
	"\"routes\":[{\"dst\":\"10.244.0.0/16\"},{\"dst\":\"0.0.0.0/0\",\"gw\":\"10.244.1.1\"}]}," \
	"\"ip6\":{\"ip\":\"fd00::2/64\",\"routes\":[{\"dst\":\"fd00::/48\"}]},"                    \
	"\"dns\":{\"domain\":\"d\"}}"
#define ROUTES                                                                                     \
	"\"routes\":[{\"dst\":\"10.244.0.0/16\"},{\"dst\":\"0.0.0.0/0\",\"gw\":\"10.244.1.1\"},"   \
	"{\"dst\":\"fd00::/48\"}],\"dns\":{\"domain\":\"d\"}}"
#define OLD_AS_0_3                                                                                 \
	"{\"cniVersion\":\"%s\",\"ips\":[{\"version\":\"4\",\"address\":\"10.244.1.2/24\","        \
	"\"gateway\":\"10.244.1.1\"},{\"version\":\"6\",\"address\":\"fd00::2/64\"}]," ROUTES
#define OLD_AS_1                                                                                   \
	"{\"cniVersion\":\"%s\",\"ips\":[{\"address\":\"10.244.1.2/24\","                          \
	"\"gateway\":\"10.244.1.1\"},{\"address\":\"fd00::2/64\"}]," ROUTES
#define INTERFACES                                                                                 \
	"\"interfaces\":[{\"name\":\"cni0\",\"mac\":\"02:00:00:00:00:01\"},{\"name\":\"eth0\","    \
	"\"sandbox\":\"/run/netns/x\"}],"
#define FULL_0_3                                                                                   \
	"{\"cniVersion\":\"%s\"," INTERFACES                                                       \
	"\"ips\":[{\"version\":\"4\",\"interface\":1,\"address\":\"10.244.1.2/24\","               \
	"\"gateway\":\"10.244.1.1\"},{\"version\":\"6\",\"interface\":1,"                          \
	"\"address\":\"fd00::2/64\"}]," ROUTES
#define FULL_1                                                                                     \
	"{\"cniVersion\":\"%s\"," INTERFACES                                                       \
	"\"ips\":[{\"interface\":1,\"address\":\"10.244.1.2/24\","                                 \
	"\"gateway\":\"10.244.1.1\"},{\"interface\":1,\"address\":\"fd00::2/64\"}]," ROUTES

static json_t *load(const char *text)
{
	json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);

	if (!json)
		fail_msg("no JSON: %s", text);
	return json;
}

static json_t *load_in(const char *format, const char *version)
{
	const char *place = strstr(format, "%s");
	char text[2048];

	(void)snprintf(text, sizeof(text), "%.*s%s%s", (int)(place - format), format, version,
		       place + 2);
	return load(text);
}

static void convert(const json_t *from, const char *version, const json_t *want)
{
	_cleanup_free_ char *said = NULL, *wanted = json_dumps(want, JSON_COMPACT);
	_cleanup_json_ json_t *before = json_deep_copy(from), *got = NULL;
	struct cni_error error;

	if (cni_result_convert(from, version, &got, &error))
		fail_msg("%s", error.msg);
	said = json_dumps(got, JSON_COMPACT);
	if (!json_equal(got, want))
		fail_msg("got  %s\nwant %s", said, wanted);
	assert_true(json_equal(from, before));
}

static size_t shape(const char *version)
{
	if (cni_version_at_least(version, "1.0.0"))
		return 2;
	return cni_version_at_least(version, "0.3.0") ? 1 : 0;
}

/* Every version into every other one. */
static void test_matrix(void **state)
{
	static const char *const from_old[] = {OLD, OLD_AS_0_3, OLD_AS_1};
	static const char *const full[] = {OLD, FULL_0_3, FULL_1};

	(void)state;
	for (size_t i = 0; i < cni_versions_count; i++) {
		for (size_t k = 0; k < cni_versions_count; k++) {
			const size_t from = shape(cni_versions[i]), to = shape(cni_versions[k]);
			_cleanup_json_ json_t *json = load_in(full[from], cni_versions[i]);
			_cleanup_json_ json_t *want =
				load_in(from ? full[to] : from_old[to], cni_versions[k]);

			convert(json, cni_versions[k], want);
		}
	}
}

static void convert_one(const char *from, const char *version, const char *want)
{
	_cleanup_json_ json_t *json = load(from), *wanted = load(want);

	convert(json, version, wanted);
}

static void test_what_is_lost(void **state)
{
	(void)state;
	/* Only the first address of a family, and routes of families that are left. */
	convert_one("{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.0.0.2/8\"},"
		    "{\"address\":\"10.0.0.3/8\",\"gateway\":\"10.0.0.1\"}],"
		    "\"routes\":[{\"dst\":\"fd00::/8\"},{\"dst\":\"10.0.0.0/8\",\"mtu\":1400}]}",
		    "0.2.0",
		    "{\"cniVersion\":\"0.2.0\",\"ip4\":{\"ip\":\"10.0.0.2/8\","
		    "\"routes\":[{\"dst\":\"10.0.0.0/8\"}]},\"dns\":{}}");
	/* What interfaces had not yet. */
	convert_one("{\"cniVersion\":\"1.1.0\",\"interfaces\":[{\"name\":\"a\",\"mtu\":1500,"
		    "\"socketPath\":\"/s\",\"pciID\":\"p\"}]}",
		    "0.4.0",
		    "{\"cniVersion\":\"0.4.0\",\"interfaces\":[{\"name\":\"a\"}],\"dns\":{}}");
	convert_one("{\"cniVersion\":\"1.1.0\",\"interfaces\":[{\"name\":\"a\",\"mtu\":1500}]}",
		    "1.0.0",
		    "{\"cniVersion\":\"1.0.0\",\"interfaces\":[{\"name\":\"a\",\"mtu\":1500}]}");
}

static void test_odds(void **state)
{
	(void)state;
	/* No version is the oldest one. */
	convert_one("{\"ip4\":{\"ip\":\"10.0.0.2/8\"}}", "1.0.0",
		    "{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.0.0.2/8\"}]}");
	/* Keys in any case, as Go reads them; what nobody knows is kept. */
	convert_one("{\"CNIVersion\":\"0.4.0\",\"IPs\":[{\"Version\":\"4\","
		    "\"Address\":\"10.0.0.2/8\"}],\"mine\":[1]}",
		    "1.0.0",
		    "{\"cniVersion\":\"1.0.0\",\"ips\":[{\"Address\":\"10.0.0.2/8\"}],"
		    "\"mine\":[1]}");
	convert_one("{\"cniVersion\":\"1.0.0\",\"ips\":null,\"routes\":[],\"dns\":{}}", "1.1.0",
		    "{\"cniVersion\":\"1.1.0\",\"ips\":null,\"routes\":[]}");
	/* The version member of an address counts for nothing. */
	convert_one("{\"cniVersion\":\"0.3.1\",\"ips\":[{\"version\":\"6\","
		    "\"address\":\"10.0.0.2/8\"}]}",
		    "0.1.0",
		    "{\"cniVersion\":\"0.1.0\",\"ip4\":{\"ip\":\"10.0.0.2/8\"},\"dns\":{}}");
}

static void refused_one(const char *text, const char *version, const char *words)
{
	_cleanup_json_ json_t *json = load(text);
	struct cni_error error = {0};
	json_t *got = NULL;

	assert_int_equal(cni_result_convert(json, version, &got, &error), -1);
	assert_null(got);
	if (!strstr(error.msg, words))
		fail_msg("%s: \"%s\" lacks \"%s\"", text, error.msg, words);
}

static void test_refused(void **state)
{
	(void)state;
	refused_one("{\"cniVersion\":\"3.0.0\"}", "1.0.0", "cniVersion \"3.0.0\" cannot be made");
	refused_one("{\"cniVersion\":\"1.0.0\"}", "3.0.0", "cannot be made \"3.0.0\"");
	refused_one("{\"cniVersion\":1}", "1.0.0", "cniVersion: 1 is not a string");
	refused_one("{\"cniVersion\":\"1.0.0\"}", "0.2.0", "it has no address");
	refused_one("{\"cniVersion\":\"1.0.0\",\"ips\":{}}", "1.0.0", "ips: {} is not an array");
	refused_one("{\"cniVersion\":\"1.0.0\",\"ips\":[7]}", "1.0.0", "ips: 7 is not an object");
	refused_one("{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.0.0.1\"}]}", "1.1.0",
		    "has no address with a prefix length");
	refused_one("{\"cniVersion\":\"1.0.0\",\"routes\":[{}]}", "0.4.0", "routes: {} has no");
	refused_one("{\"cniVersion\":\"1.0.0\",\"dns\":[]}", "0.4.0", "dns: [] is not an object");
	refused_one("{\"cniVersion\":\"1.0.0\",\"interfaces\":[[]]}", "0.4.0", "interfaces: []");
	refused_one("{\"ip4\":{\"ip\":\"fd00::1/64\"}}", "0.4.0", "no address of its family");
	refused_one("{\"ip4\":\"10.0.0.1/8\"}", "0.4.0", "no address of its family");
	refused_one("{\"ip4\":{\"ip\":\"10.0.0.1/8\",\"routes\":[{\"dst\":1}]}}", "0.4.0",
		    "routes: {\"dst\":1}");
}

static void test_new(void **state)
{
	struct cni_interface interfaces[] = {{.name = "cni0"}, {.name = "eth0", .sandbox = "/n"}};
	struct cni_address addresses[2] = {0};
	struct cni_route routes[2] = {0};
	_cleanup_json_ json_t *dns = load("{\"domain\":\"d\"}"), *got = NULL, *want = NULL;

	(void)state;
	assert_int_equal(mac_parse("02:00:00:00:00:01", &interfaces[0].mac), 0);
	assert_int_equal(ip_net_parse("10.244.1.2/24", &addresses[0].net), 0);
	assert_int_equal(ip_parse("10.244.1.1", &addresses[0].gateway), 0);
	assert_int_equal(ip_net_parse("fd00::2/64", &addresses[1].net), 0);
	assert_int_equal(ip_net_parse("10.244.0.0/16", &routes[0].dst), 0);
	assert_int_equal(ip_net_parse("0.0.0.0/0", &routes[1].dst), 0);
	assert_int_equal(ip_parse("10.244.1.1", &routes[1].gateway), 0);
	got = cni_result_new(interfaces, 2, addresses, 2, routes, 2, dns);
	want = load("{\"cniVersion\":\"1.1.0\",\"interfaces\":[{\"name\":\"cni0\","
		    "\"mac\":\"02:00:00:00:00:01\"},{\"name\":\"eth0\",\"sandbox\":\"/n\"}],"
		    "\"ips\":[{\"interface\":1,\"address\":\"10.244.1.2/24\","
		    "\"gateway\":\"10.244.1.1\"},{\"interface\":1,\"address\":\"fd00::2/64\"}],"
		    "\"routes\":[{\"dst\":\"10.244.0.0/16\"},{\"dst\":\"0.0.0.0/0\","
		    "\"gw\":\"10.244.1.1\"}],\"dns\":{\"domain\":\"d\"}}");
	assert_true(json_equal(got, want));
	json_decref(got);
	got = cni_result_new(NULL, 0, NULL, 0, NULL, 0, NULL);
	json_decref(want);
	want = load("{\"cniVersion\":\"1.1.0\",\"interfaces\":[],\"ips\":[]}");
	assert_true(json_equal(got, want));
}

static void test_gateways(void **state)
{
	_cleanup_json_ json_t *json =
		load("{\"ips\":[{\"address\":\"10.0.0.2/8\",\"gateway\":\"10.0.0.1\"},"
		     "{\"address\":\"10.0.0.3/8\",\"gateway\":\"10.0.0.9\"},"
		     "{\"address\":\"fd00::2/8\"}],\"routes\":[{\"dst\":\"10.0.0.0/8\"},"
		     "{\"dst\":\"1.0.0.0/8\",\"gw\":\"10.0.0.7\"},{\"dst\":\"fd00::/8\"},{}]}");
	_cleanup_json_ json_t *want =
		load("[{\"dst\":\"10.0.0.0/8\",\"gw\":\"10.0.0.1\"},"
		     "{\"dst\":\"1.0.0.0/8\",\"gw\":\"10.0.0.7\"},{\"dst\":\"fd00::/8\"},{}]");

	(void)state;
	cni_result_name_gateways(json);
	assert_true(json_equal(json_object_get(json, "routes"), want));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_matrix), cmocka_unit_test(test_what_is_lost),
		cmocka_unit_test(test_odds),   cmocka_unit_test(test_refused),
		cmocka_unit_test(test_new),    cmocka_unit_test(test_gateways),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
