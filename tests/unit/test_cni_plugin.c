/* SPDX-License-Identifier: Apache-2.0 */
/* test_cni_plugin.c - the commands, with delegates that are shell scripts
 *
 * "builtin": false in all of them: what this process can do itself is tested elsewhere.
 */
#include "cni/plugin.h"

#include "cni_site.h"

#include <sys/file.h>

#define SUBNET                                                                                     \
	"FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\n"          \
	"FLANNEL_IPMASQ=true\n"
#define RESULT                                                                                     \
	"{\"cniVersion\":\"1.0.0\",\"ips\":[{\"address\":\"10.244.1.2/24\","                       \
	"\"gateway\":\"10.244.1.1\"}],\"routes\":[{\"dst\":\"10.244.0.0/16\"}]}"
#define VERSIONS(list)                                                                             \
	"[ $CNI_COMMAND != VERSION ] || { echo '{\"supportedVersions\":[" list "]}'; exit; }\n"
#define ANSWER "[ $CNI_COMMAND != ADD ] || echo '" RESULT "'\n"
#define REFUSE "{ echo '{\"code\":7,\"msg\":\"no\"}'; exit 1; }\n"

static struct cni_error error;
static const char *version;

static int run_request(const struct cni_request *request, const char *cni_version,
		       const char *members, json_t **ret_answer)
{
	char text[2048];

	(void)snprintf(text, sizeof(text),
		       "{\"cniVersion\":\"%s\",\"name\":\"n\",\"type\":\"flannel\","
		       "\"builtin\":false,\"subnetFile\":\"%s/run/subnet.env\","
		       "\"dataDir\":\"%s/data\"%s}",
		       cni_version, site, site, members);
	memset(&error, 0, sizeof(error));
	return plugin_run(request, text, strlen(text), ret_answer, &version, &error);
}

static int run_in(enum cni_command command, const char *cni_version, const char *members)
{
	struct cni_request request = site_request(command);
	json_t *answer;
	int r = run_request(&request, cni_version, members, &answer);

	if (!r && (command == CNI_ADD) != !!answer)
		fail_msg("an answer: %d", !!answer);
	json_decref(answer);
	return r;
}

/* With the newest version. */
static void works(enum cni_command command, const char *members)
{
	if (run_in(command, "1.1.0", members))
		fail_msg("%s: %s", cni_command_name(command), error.msg);
}

static void fails(enum cni_command command, const char *members, unsigned code, const char *words)
{
	if (!run_in(command, "1.1.0", members))
		fail_msg("%s succeeded", cni_command_name(command));
	assert_int_equal(error.code, code);
	if (!strstr(error.msg, words))
		fail_msg("\"%s\" lacks \"%s\"", error.msg, words);
}

static void did(const char *log)
{
	assert_string_equal(site_read("log"), log);
	site_write("log", 0644, "");
}

static int setup(void **state)
{
	if (site_setup(state))
		return -1;
	site_write("run/subnet.env", 0644, SUBNET);
	site_plugin("bridge", ANSWER);
	return 0;
}

/* ---- ADD and DEL ---- */

static void test_add_and_del(void **state)
{
	struct cni_request request = site_request(CNI_ADD);
	_cleanup_json_ json_t *answer = NULL, *want = json_loads(RESULT, 0, NULL);

	(void)state;
	if (run_request(&request, "1.0.0", "", &answer))
		fail_msg("%s", error.msg);
	assert_true(json_equal(answer, want));
	assert_string_equal(version, "1.0.0");
	did("ADD\n");
	assert_string_equal(site_read("in"),
			    "{\"ipam\":{\"routes\":[{\"dst\":\"10.244.0.0/16\"}],"
			    "\"ranges\":[[{\"subnet\":\"10.244.1.0/24\"}]],"
			    "\"type\":\"host-local\"},\"name\":\"n\",\"type\":\"bridge\","
			    "\"ipMasq\":false,\"mtu\":1450,\"isGateway\":true,"
			    "\"cniVersion\":\"1.0.0\"}");
	assert_int_equal(site_count("data"), 1);
	/* DEL needs neither flanneld nor netns, and gives the delegate what it had. */
	assert_int_equal(unlink(site_path("run/subnet.env")), 0);
	request.netns = "";
	request.command = CNI_DEL;
	json_decref(answer);
	assert_int_equal(run_request(&request, "1.0.0", "", &answer), 0);
	assert_null(answer);
	did("DEL\n");
	assert_non_null(strstr(site_read("in"), "\"mtu\":1450"));
	assert_null(strstr(site_read("in"), "weft"));
	assert_int_equal(site_count("data"), 0);
	works(CNI_DEL, "");
	did("");
}

static void test_converted(void **state)
{
	static const char *const old =
		"{\"cniVersion\":\"0.2.0\",\"ip4\":{\"ip\":\"10.244.1.2/24\",\"gateway\":"
		"\"10.244.1.1\",\"routes\":[{\"dst\":\"10.244.0.0/16\"}]},\"dns\":{}}";
	struct cni_request request = site_request(CNI_ADD);
	_cleanup_json_ json_t *answer = NULL, *want = json_loads(old, 0, NULL);

	(void)state;
	assert_int_equal(run_request(&request, "0.2.0", "", &answer), 0);
	assert_true(json_equal(answer, want));
	json_decref(answer);
	/* One that does not say its version means ours. */
	site_plugin("bridge", "echo '{\"ips\":[{\"version\":\"4\",\"address\":\"10.0.0.2/8\"}]}'");
	assert_int_equal(run_request(&request, "0.3.1", "", &answer), 0);
	assert_int_equal(json_array_size(json_object_get(answer, "ips")), 1);
}

/* The delegate that it is now is not the one that it was. */
static void test_del_as_it_was_made(void **state)
{
	(void)state;
	site_plugin("ptp", ANSWER);
	works(CNI_ADD, ",\"delegate\":{\"type\":\"ptp\"}");
	site_plugin("bridge", REFUSE);
	works(CNI_DEL, "");
	assert_int_equal(site_count("data"), 0);
}

static void test_del_fails(void **state)
{
	(void)state;
	works(CNI_ADD, "");
	site_plugin("bridge", REFUSE);
	fails(CNI_DEL, "", 7, "bridge: no");
	assert_int_equal(site_count("data"), 1);
	site_plugin("bridge", "");
	works(CNI_DEL, "");
	assert_int_equal(site_count("data"), 0);
}

static void test_add_fails(void **state)
{
	(void)state;
	site_plugin("bridge", "[ $CNI_COMMAND != ADD ] || " REFUSE);
	fails(CNI_ADD, "", 7, "bridge: no");
	did("ADD\nDEL\n");
	assert_int_equal(site_count("data"), 0);
	/* An answer that is none, or cannot be given. */
	site_plugin("bridge", "true");
	fails(CNI_ADD, "", CNI_DECODING_FAILURE, "bridge: succeeded without an answer");
	did("ADD\nDEL\n");
	assert_int_equal(site_count("data"), 0);
	site_plugin("bridge", "[ $CNI_COMMAND != ADD ] || echo '{\"cniVersion\":\"5.0.0\"}'");
	fails(CNI_ADD, "", CNI_VERSION_UNSUPPORTED, "\"5.0.0\"");
	did("ADD\nDEL\n");
	assert_int_equal(site_count("data"), 0);
}

/* What could not be undone is left to DEL. */
static void test_undo_fails(void **state)
{
	(void)state;
	site_plugin("bridge", REFUSE);
	fails(CNI_ADD, "", 7, "bridge: no");
	assert_string_equal(error.details, "undoing it failed as well: bridge: no");
	assert_int_equal(site_count("data"), 1);
	site_plugin("bridge", "");
	works(CNI_DEL, "");
	assert_int_equal(site_count("data"), 0);
}

static void test_nothing_has_run(void **state)
{
	(void)state;
	fails(CNI_ADD, ",\"delegate\":{\"type\":\"nowhere\"}", CNI_CONFIG_INVALID,
	      "plugin \"nowhere\" is not in CNI_PATH");
	site_write("bin/garbage", 0755, "\x01");
	fails(CNI_ADD, ",\"delegate\":{\"type\":\"garbage\"}", CNI_INTERNAL, "Exec format error");
	assert_string_equal(error.details, "");
	assert_int_equal(site_count("data"), 0);
	fails(CNI_ADD, ",\"delegate\":{\"name\":\"x\"}", CNI_CONFIG_INVALID, "delegate.name");
	assert_int_equal(site_count("data"), 0);
	did("");
}

/* A second ADD that fails does not touch what the first one made. */
static void test_add_again(void **state)
{
	char before[1024];

	(void)state;
	works(CNI_ADD, "");
	(void)snprintf(before, sizeof(before), "%s", site_read("data/abc"));
	site_plugin("bridge", REFUSE);
	site_write("log", 0644, "");
	fails(CNI_ADD, ",\"delegate\":{\"mtu\":1234}", 7, "bridge: no");
	did("ADD\n");
	assert_string_equal(site_read("data/abc"), before);
	assert_int_equal(site_count("data"), 1);
}

/* The same beside a config of the original, which is in a file of another name. */
static void test_add_beside_the_original(void **state)
{
	static const char original[] = "{\"name\":\"n\",\"type\":\"bridge\"}";
	struct cni_request request = site_request(CNI_ADD);
	json_t *answer;

	(void)state;
	request.ifname = "net1";
	site_write("data/abc", 0600, original);
	site_plugin("bridge", REFUSE);
	assert_int_equal(run_request(&request, "1.0.0", "", &answer), -1);
	did("ADD\n");
	assert_string_equal(site_read("data/abc"), original);
	assert_int_equal(site_count("data"), 1);
	site_plugin("bridge", "");
	request.command = CNI_DEL;
	assert_int_equal(run_request(&request, "1.0.0", "", &answer), 0);
	assert_string_equal(site_read("in"), original);
	assert_int_equal(site_count("data"), 0);
}

static void test_interfaces(void **state)
{
	struct cni_request request = site_request(CNI_ADD);
	json_t *answer;

	(void)state;
	works(CNI_ADD, "");
	request.ifname = "net1";
	assert_int_equal(run_request(&request, "1.0.0", ",\"delegate\":{\"mtu\":1300}", &answer),
			 0);
	json_decref(answer);
	works(CNI_DEL, "");
	assert_non_null(strstr(site_read("in"), "\"mtu\":1450"));
	assert_int_equal(site_count("data"), 1);
	request.command = CNI_DEL;
	assert_int_equal(run_request(&request, "1.0.0", "", &answer), 0);
	assert_non_null(strstr(site_read("in"), "\"mtu\":1300"));
	assert_int_equal(site_count("data"), 0);
}

static void test_netns_of_ours(void **state)
{
	struct cni_request request = site_request(CNI_ADD);
	json_t *answer;

	(void)state;
	request.netns = "/proc/self/ns/net";
	assert_int_equal(run_request(&request, "1.0.0", "", &answer), -1);
	assert_int_equal(error.code, CNI_NETNS_INVALID);
	request.command = CNI_DEL;
	assert_int_equal(run_request(&request, "1.0.0", "", &answer), -1);
	assert_int_equal(error.code, CNI_NETNS_INVALID);
	did("");
	request.command = CNI_ADD;
	request.netns_may_be_ours = true;
	assert_int_equal(run_request(&request, "1.0.0", "", &answer), 0);
	json_decref(answer);
}

/* ---- a saved config that is cut short ---- */

static void test_torn(void **state)
{
	(void)state;
	assert_int_equal(mkdir(site_path("data"), 0700), 0);
	site_write("data/abc", 0600, "");
	works(CNI_DEL, "");
	did("DEL\n");
	assert_non_null(strstr(site_read("in"), "\"ranges\":[[{\"subnet\":\"10.244.1.0/24\"}]]"));
	assert_int_equal(site_count("data"), 0);
	/* It is not there for ever, whatever fails. */
	site_write("data/abc", 0600, "{\"na");
	site_plugin("bridge", REFUSE);
	works(CNI_DEL, "");
	did("DEL\n");
	assert_int_equal(site_count("data"), 0);
	site_write("data/abc", 0600, "{\"na");
	site_write("run/subnet.env", 0644, "");
	works(CNI_DEL, "");
	did("");
	assert_int_equal(site_count("data"), 0);
}

static void test_torn_before_add(void **state)
{
	(void)state;
	site_write("data/abc", 0600, "{\"na");
	works(CNI_ADD, "");
	works(CNI_DEL, "");
	assert_int_equal(site_count("data"), 0);
}

/* ---- the subnet file ---- */

static void test_no_subnet_file(void **state)
{
	_cleanup_close_ int fd = -1;

	(void)state;
	assert_int_equal(unlink(site_path("run/subnet.env")), 0);
	fails(CNI_ADD, "", CNI_TRY_AGAIN_LATER, "is flanneld running on this node?");
	site_write("run/status", 0644, "lease: no subnet is free\nold");
	fails(CNI_ADD, "", CNI_TRY_AGAIN_LATER,
	      "is flanneld running on this node? The last one said: lease: no subnet is free");
	fd = open(site_path("run/status"), O_RDWR | O_CLOEXEC);
	assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
	fails(CNI_ADD, "", CNI_TRY_AGAIN_LATER,
	      "/run/subnet.env): flanneld is running, it says: lease: no subnet is free");
	assert_null(strstr(error.msg, "old"));
	fails(CNI_STATUS, "", CNI_NOT_AVAILABLE, "it says: lease: no subnet is free");
	did("");
	assert_false(site_has("data"));
}

static void test_incomplete_subnet_file(void **state)
{
	(void)state;
	site_write("run/subnet.env", 0644, "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_MTU=1450\n");
	fails(CNI_ADD, "", CNI_TRY_AGAIN_LATER, "missing: FLANNEL_SUBNET, FLANNEL_IPMASQ");
	site_write("run/subnet.env", 0644, SUBNET "FLANNEL_MTU\n");
	fails(CNI_ADD, "", CNI_TRY_AGAIN_LATER, "line 5: \"FLANNEL_MTU\" is not KEY=VALUE");
}

/* ---- versions ---- */

static void test_old_delegate(void **state)
{
	(void)state;
	site_plugin(
		"bridge",
		VERSIONS("\"0.4.0\",\"1.0.0\"") "grep -q '\"cniVersion\":\"1.1.0\"' $SITE/in && "
						"{ echo '{\"code\":1,\"msg\":\"incompatible\"}'; "
						"exit 1; }\n" ANSWER);
	works(CNI_ADD, "");
	did("ADD\nVERSION\nADD\n");
	assert_non_null(strstr(site_read("data/abc"), "\"cniVersion\":\"1.0.0\""));
	works(CNI_CHECK, ",\"prevResult\":" RESULT);
	works(CNI_DEL, "");
	did("CHECK\nDEL\n");
	assert_int_equal(site_count("data"), 0);
}

static void test_versions_of_commands(void **state)
{
	(void)state;
	assert_int_equal(run_in(CNI_CHECK, "0.3.1", ",\"prevResult\":" RESULT), -1);
	assert_int_equal(error.code, CNI_VERSION_UNSUPPORTED);
	assert_string_equal(version, "0.3.1");
	assert_int_equal(run_in(CNI_GC, "1.0.0", ",\"cni.dev/valid-attachments\":[]"), -1);
	assert_int_equal(error.code, CNI_VERSION_UNSUPPORTED);
	assert_int_equal(run_in(CNI_STATUS, "1.0.0", ""), -1);
	assert_int_equal(error.code, CNI_VERSION_UNSUPPORTED);
	assert_int_equal(run_in(CNI_ADD, "1.2.0", ""), -1);
	assert_int_equal(error.code, CNI_VERSION_UNSUPPORTED);
	assert_string_equal(version, "1.1.0");
	did("");
}

static void test_version(void **state)
{
	struct cni_request request = site_request(CNI_VERSION);
	_cleanup_json_ json_t *answer = NULL;

	(void)state;
	assert_int_equal(plugin_run(&request, "", 0, &answer, &version, &error), 0);
	assert_string_equal(json_string_value(json_object_get(answer, "cniVersion")), "1.1.0");
	assert_int_equal(json_array_size(json_object_get(answer, "supportedVersions")), 7);
}

/* ---- CHECK ---- */

static void test_check(void **state)
{
	(void)state;
	fails(CNI_CHECK, ",\"prevResult\":" RESULT, CNI_CONTAINER_UNKNOWN, "data/abc is missing");
	works(CNI_ADD, "");
	fails(CNI_CHECK, "", CNI_CONFIG_INVALID, "prevResult: missing");
	site_write("log", 0644, "");
	works(CNI_CHECK, ",\"runtimeConfig\":{\"x\":1},\"prevResult\":" RESULT);
	did("CHECK\n");
	assert_non_null(strstr(site_read("in"), "\"runtimeConfig\":{\"x\":1}"));
	assert_non_null(strstr(site_read("in"), "\"prevResult\":{\"ips\":"));
	/* The version of the config, the gateway that the route has. */
	assert_non_null(strstr(site_read("in"), "\"cniVersion\":\"1.1.0\"}"));
	assert_non_null(
		strstr(site_read("in"), "{\"dst\":\"10.244.0.0/16\",\"gw\":\"10.244.1.1\"}"));
	site_plugin("bridge", REFUSE);
	fails(CNI_CHECK, ",\"prevResult\":" RESULT, 7, "bridge: no");
	assert_int_equal(site_count("data"), 1);
}

/* ---- GC ---- */

#define VALID(list) ",\"cni.dev/valid-attachments\":[" list "]"

static void add_other(const char *container_id, const char *ifname)
{
	struct cni_request request = site_request(CNI_ADD);
	json_t *answer;

	request.container_id = container_id;
	request.ifname = ifname;
	assert_int_equal(run_request(&request, "1.0.0", "", &answer), 0);
	json_decref(answer);
}

static void test_gc(void **state)
{
	(void)state;
	site_plugin("bridge", VERSIONS("\"1.0.0\"") ANSWER);
	add_other("abc", "eth0");
	add_other("abc", "net1");
	add_other("def", "eth0");
	site_write("data/old", 0600, "{\"name\":\"n\",\"type\":\"bridge\"}");
	site_write("data/older", 0600, "{\"name\":\"n\",\"type\":\"bridge\"}");
	site_write("data/foreign", 0600, "{\"name\":\"other\",\"type\":\"bridge\"}");
	site_write("data/torn", 0600, "{");
	site_write("log", 0644, "");
	fails(CNI_GC, "", CNI_CONFIG_INVALID, "cni.dev/valid-attachments: missing");
	did("");
	works(CNI_GC, VALID("{\"containerID\":\"abc\",\"ifname\":\"net1\"},"
			    "{\"containerID\":\"old\",\"ifname\":\"net7\"}"));
	did("DEL\nDEL\nDEL\nVERSION\n");
	assert_true(site_has("data/abc:net1"));
	assert_true(site_has("data/old"));
	assert_true(site_has("data/foreign"));
	assert_true(site_has("data/torn"));
	assert_int_equal(site_count("data"), 4);
}

static void test_gc_of_delegate(void **state)
{
	(void)state;
	site_plugin("bridge", VERSIONS("\"1.0.0\",\"1.1.0\"") ANSWER);
	works(CNI_GC, VALID("{\"containerID\":\"a\",\"ifname\":\"b\"}"));
	did("VERSION\nGC\n");
	assert_non_null(strstr(site_read("in"), VALID("{\"containerID\":\"a\",\"ifname\":\"b\"}")));
}

/* One failure keeps it from nothing else. */
static void test_gc_goes_on(void **state)
{
	(void)state;
	site_plugin("bridge", VERSIONS("\"1.0.0\"") ANSWER
		    "[ $CNI_COMMAND$CNI_CONTAINERID != DELdef ] || " REFUSE);
	add_other("abc", "eth0");
	add_other("def", "eth0");
	add_other("ghi", "eth0");
	site_write("log", 0644, "");
	fails(CNI_GC, VALID(""), 7, "def eth0: bridge: no");
	did("DEL\nDEL\nDEL\nVERSION\n");
	assert_int_equal(site_count("data"), 1);
	assert_true(site_has("data/def"));
	assert_int_equal(unlink(site_path("run/subnet.env")), 0);
	fails(CNI_GC, VALID(""), 7, "2 failures, the first: def eth0: bridge: no");
}

/* ---- STATUS ---- */

static void test_status(void **state)
{
	(void)state;
	site_plugin("bridge", VERSIONS("\"1.0.0\"") REFUSE);
	works(CNI_STATUS, "");
	did("VERSION\n");
	site_plugin("bridge", VERSIONS("\"1.1.0\""));
	works(CNI_STATUS, "");
	did("VERSION\nSTATUS\n");
	site_plugin("bridge", VERSIONS("\"1.1.0\"") "echo '{\"code\":51,\"msg\":\"no\"}'; exit 1");
	fails(CNI_STATUS, "", 51, "bridge: no");
	fails(CNI_STATUS, ",\"delegate\":{\"type\":\"nowhere\"}", CNI_NOT_AVAILABLE,
	      "is not in CNI_PATH");
	site_write("run/subnet.env", 0644, "");
	fails(CNI_STATUS, "", CNI_NOT_AVAILABLE, "missing: FLANNEL_NETWORK");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, site_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_add_and_del),
		TEST(test_converted),
		TEST(test_del_as_it_was_made),
		TEST(test_del_fails),
		TEST(test_add_fails),
		TEST(test_undo_fails),
		TEST(test_nothing_has_run),
		TEST(test_add_again),
		TEST(test_add_beside_the_original),
		TEST(test_interfaces),
		TEST(test_netns_of_ours),
		TEST(test_torn),
		TEST(test_torn_before_add),
		TEST(test_no_subnet_file),
		TEST(test_incomplete_subnet_file),
		TEST(test_old_delegate),
		TEST(test_versions_of_commands),
		TEST(test_version),
		TEST(test_check),
		TEST(test_gc),
		TEST(test_gc_of_delegate),
		TEST(test_gc_goes_on),
		TEST(test_status),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
