/* SPDX-License-Identifier: Apache-2.0 */
/* test_cni_conf.c - the network config, and the delegate's config made of it */
#include "cni/conf.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define V4                                                                                         \
	"FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\n"          \
	"FLANNEL_IPMASQ=true\n"
#define BOTH                                                                                       \
	"FLANNEL_NETWORK=10.244.0.0/16,10.99.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n"               \
	"FLANNEL_IPV6_NETWORK=fd00::/48\nFLANNEL_IPV6_SUBNET=fd00:0:0:1::1/64\n"                   \
	"FLANNEL_MTU=1400\nFLANNEL_IPMASQ=false\n"

static void test_defaults(void **state)
{
	static const char text[] = "{\"name\":\"cbr0\",\"type\":\"flannel\"}";
	_cleanup_cni_conf_ struct cni_conf conf;
	struct cni_error error;

	(void)state;
	assert_int_equal(cni_conf_parse(text, strlen(text), &conf, &error), 0);
	assert_string_equal(conf.name, "cbr0");
	assert_string_equal(conf.cni_version, "0.1.0");
	assert_string_equal(conf.subnet_file, "/run/flannel/subnet.env");
	assert_string_equal(conf.data_dir, "/var/lib/cni/flannel");
	assert_true(conf.builtin);
	assert_null(conf.delegate);
	assert_null(conf.ipam);
	assert_null(conf.runtime_config);
	assert_null(conf.prev_result);
	assert_null(conf.valid_attachments);
}

static void test_members(void **state)
{
	static const char text[] =
		"{\"cniVersion\":\"1.1.0\",\"Name\":\"n\",\"subnetfile\":\"/s\",\"dataDir\":\"/d\","
		"\"builtin\":false,\"delegate\":{\"a\":1},\"ipam\":{\"b\":2},"
		"\"runtimeConfig\":{\"c\":3},\"prevResult\":{\"d\":4},\"unknown\":[],"
		"\"cni.dev/valid-attachments\":[{\"containerID\":\"x\",\"ifname\":\"eth0\"}]}";
	_cleanup_cni_conf_ struct cni_conf conf;
	struct cni_error error;

	(void)state;
	assert_int_equal(cni_conf_parse(text, strlen(text), &conf, &error), 0);
	assert_string_equal(conf.name, "n");
	assert_string_equal(conf.cni_version, "1.1.0");
	assert_string_equal(conf.subnet_file, "/s");
	assert_string_equal(conf.data_dir, "/d");
	assert_false(conf.builtin);
	assert_int_equal(json_integer_value(json_object_get(conf.delegate, "a")), 1);
	assert_int_equal(json_integer_value(json_object_get(conf.ipam, "b")), 2);
	assert_int_equal(json_integer_value(json_object_get(conf.runtime_config, "c")), 3);
	assert_int_equal(json_integer_value(json_object_get(conf.prev_result, "d")), 4);
	assert_int_equal(json_array_size(conf.valid_attachments), 1);
}

/* libcni writes null when nothing is valid; no key at all says nothing. */
static void test_no_valid_attachments(void **state)
{
	static const char text[] = "{\"name\":\"n\",\"cni.dev/valid-attachments\":null}";
	_cleanup_cni_conf_ struct cni_conf conf;
	struct cni_error error;

	(void)state;
	assert_int_equal(cni_conf_parse(text, strlen(text), &conf, &error), 0);
	assert_non_null(conf.valid_attachments);
	assert_int_equal(json_array_size(conf.valid_attachments), 0);
}

static void refused_one(const char *text, unsigned code, const char *words)
{
	struct cni_conf conf = {.name = "untouched"};
	struct cni_error error = {0};

	if (!cni_conf_parse(text, strlen(text), &conf, &error))
		fail_msg("%s was taken", text);
	assert_string_equal(conf.name, "untouched");
	assert_int_equal(error.code, code);
	if (!strstr(error.msg, words))
		fail_msg("%s: \"%s\" lacks \"%s\"", text, error.msg, words);
}

static void test_refused(void **state)
{
	(void)state;
	refused_one("", CNI_DECODING_FAILURE, "the network config");
	refused_one("[]", CNI_DECODING_FAILURE, "a JSON object");
	refused_one("{\"name\":\"n\"", CNI_DECODING_FAILURE, "line 1");
	refused_one("{}", CNI_CONFIG_INVALID, "name: missing");
	refused_one("{\"name\":\"\"}", CNI_CONFIG_INVALID, "name: missing");
	refused_one("{\"name\":7}", CNI_CONFIG_INVALID, "name: 7 is not a string");
	refused_one("{\"name\":\"../n\"}", CNI_CONFIG_INVALID, "name: \"../n\" is not");
	refused_one("{\"name\":\"n\",\"cniVersion\":\"2.0.0\"}", CNI_VERSION_UNSUPPORTED,
		    "cniVersion: \"2.0.0\" is not supported");
	refused_one("{\"name\":\"n\",\"cniVersion\":1}", CNI_CONFIG_INVALID, "cniVersion: 1");
	refused_one("{\"name\":\"n\",\"dataDir\":\"\"}", CNI_CONFIG_INVALID,
		    "dataDir: \"\" is not a path");
	refused_one("{\"name\":\"n\",\"subnetFile\":{}}", CNI_CONFIG_INVALID, "subnetFile: {}");
	refused_one("{\"name\":\"n\",\"delegate\":\"bridge\"}", CNI_CONFIG_INVALID,
		    "delegate: \"bridge\" is not an object");
	refused_one("{\"name\":\"n\",\"ipam\":[]}", CNI_CONFIG_INVALID, "ipam: [] is not");
	refused_one("{\"name\":\"n\",\"runtimeConfig\":1}", CNI_CONFIG_INVALID, "runtimeConfig: 1");
	refused_one("{\"name\":\"n\",\"prevResult\":1}", CNI_CONFIG_INVALID, "prevResult: 1");
	refused_one("{\"name\":\"n\",\"builtin\":\"no\"}", CNI_CONFIG_INVALID, "builtin: \"no\"");
	refused_one("{\"name\":\"n\",\"cni.dev/valid-attachments\":{}}", CNI_CONFIG_INVALID,
		    "cni.dev/valid-attachments: {} is not an array");
	refused_one("{\"name\":\"n\",\"cni.dev/valid-attachments\":[{\"containerID\":\"a\"}]}",
		    CNI_CONFIG_INVALID, "lacks containerID or ifname");
}

static void test_supported_versions_are_told(void **state)
{
	static const char text[] = "{\"name\":\"n\",\"cniVersion\":\"9\"}";
	struct cni_error error;
	struct cni_conf conf;

	(void)state;
	assert_int_equal(cni_conf_parse(text, strlen(text), &conf, &error), -1);
	assert_string_equal(error.details,
			    "supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0");
}

static void test_versions(void **state)
{
	(void)state;
	assert_true(cni_version_is_known("0.3.1"));
	assert_false(cni_version_is_known("0.3"));
	assert_false(cni_version_is_known(""));
	assert_true(cni_version_at_least("1.1.0", "1.1.0"));
	assert_true(cni_version_at_least("1.0.0", "0.4.0"));
	assert_false(cni_version_at_least("0.3.1", "0.4.0"));
	assert_false(cni_version_at_least("7.0.0", "0.1.0"));
}

/* 0 and the config in *@ret_delegate, or -1. */
static int make(const char *text, const char *subnet_env, json_t **ret_delegate,
		struct cni_error *error)
{
	_cleanup_cni_conf_ struct cni_conf conf = {0};
	struct subnet_file subnet;

	if (cni_conf_parse(text, strlen(text), &conf, error))
		fail_msg("%s: %s", text, error->msg);
	assert_int_equal(subnet_file_parse(subnet_env, &subnet, NULL), 0);
	return cni_conf_make_delegate(&conf, &subnet, ret_delegate, error);
}

static void make_one(const char *text, const char *subnet_env, const char *wanted)
{
	_cleanup_json_ json_t *want = json_loads(wanted, 0, NULL), *got = NULL;
	_cleanup_free_ char *said = NULL;
	struct cni_error error;

	assert_non_null(want);
	if (make(text, subnet_env, &got, &error))
		fail_msg("%s: %s", text, error.msg);
	said = json_dumps(got, JSON_COMPACT);
	if (!json_equal(want, got))
		fail_msg("%s\nmade %s\nnot  %s", text, said, wanted);
}

static void test_delegate(void **state)
{
	(void)state;
	make_one("{\"name\":\"cbr0\",\"type\":\"flannel\"}", V4,
		 "{\"name\":\"cbr0\",\"type\":\"bridge\",\"ipMasq\":false,\"mtu\":1450,"
		 "\"isGateway\":true,\"ipam\":{\"type\":\"host-local\","
		 "\"ranges\":[[{\"subnet\":\"10.244.1.0/24\"}]],"
		 "\"routes\":[{\"dst\":\"10.244.0.0/16\"}]}}");
	make_one(
		"{\"name\":\"n\",\"cniVersion\":\"1.0.0\",\"delegate\":{\"hairpinMode\":true,"
		"\"mtu\":null,\"isGateway\":false,\"ipMasq\":\"odd\",\"x\":{\"y\":[1]}},"
		"\"dns\":{\"domain\":\"not for the delegate\"},"
		"\"runtimeConfig\":{\"mac\":\"02:00:00:00:00:01\"}}",
		BOTH,
		"{\"name\":\"n\",\"cniVersion\":\"1.0.0\",\"type\":\"bridge\",\"hairpinMode\":true,"
		"\"mtu\":null,\"isGateway\":false,\"ipMasq\":\"odd\",\"x\":{\"y\":[1]},"
		"\"runtimeConfig\":{\"mac\":\"02:00:00:00:00:01\"},"
		"\"ipam\":{\"type\":\"host-local\",\"ranges\":[[{\"subnet\":\"10.244.1.0/24\"}],"
		"[{\"subnet\":\"fd00:0:0:1::/64\"}]],\"routes\":[{\"dst\":\"10.244.0.0/16\"},"
		"{\"dst\":\"10.99.0.0/16\"},{\"dst\":\"fd00::/48\"}]}}");
	/* Only a bridge has a gateway; who does not masquerade has it done. */
	make_one("{\"name\":\"n\",\"delegate\":{\"type\":\"ptp\"},\"ipam\":{\"type\":\"mine\","
		 "\"dataDir\":\"/x\",\"ranges\":[1],\"routes\":[{\"dst\":\"0.0.0.0/0\","
		 "\"gw\":\"10.244.1.9\"}]}}",
		 "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\nFLANNEL_MTU=1450\n"
		 "FLANNEL_IPMASQ=false\n",
		 "{\"name\":\"n\",\"type\":\"ptp\",\"ipMasq\":true,\"mtu\":1450,"
		 "\"ipam\":{\"type\":\"mine\",\"dataDir\":\"/x\","
		 "\"ranges\":[[{\"subnet\":\"10.244.1.0/24\"}]],\"routes\":[{\"dst\":\"0.0.0.0/0\","
		 "\"gw\":\"10.244.1.9\"},{\"dst\":\"10.244.0.0/16\"}]}}");
	make_one(
		"{\"name\":\"n\",\"cniVersion\":\"\",\"delegate\":null,\"ipam\":{\"routes\":null}}",
		V4,
		"{\"name\":\"n\",\"type\":\"bridge\",\"ipMasq\":false,\"mtu\":1450,"
		"\"isGateway\":true,\"ipam\":{\"type\":\"host-local\","
		"\"ranges\":[[{\"subnet\":\"10.244.1.0/24\"}]],"
		"\"routes\":[{\"dst\":\"10.244.0.0/16\"}]}}");
}

static void refused_delegate(const char *members, const char *words)
{
	char text[256];
	struct cni_error error = {0};
	json_t *delegate = NULL;

	(void)snprintf(text, sizeof(text), "{\"name\":\"n\",%s}", members);
	if (!make(text, V4, &delegate, &error))
		fail_msg("%s was taken", text);
	assert_null(delegate);
	assert_int_equal(error.code, CNI_CONFIG_INVALID);
	if (!strstr(error.msg, words))
		fail_msg("%s: \"%s\" lacks \"%s\"", text, error.msg, words);
}

static void test_delegate_refused(void **state)
{
	(void)state;
	refused_delegate("\"delegate\":{\"type\":7}", "delegate.type: 7 is not the name");
	refused_delegate("\"delegate\":{\"type\":\"\"}", "delegate.type: \"\" is not");
	refused_delegate("\"delegate\":{\"type\":\"../bridge\"}", "delegate.type: \"../bridge\"");
	refused_delegate("\"delegate\":{\"type\":null}", "delegate.type: null");
	refused_delegate("\"delegate\":{\"type\":\"flannel\"}", "cannot be its own delegate");
	refused_delegate("\"delegate\":{\"name\":\"x\"}", "delegate.name: \"x\" must not be there");
	refused_delegate("\"delegate\":{\"Name\":null}", "delegate.Name: null must not be there");
	refused_delegate("\"delegate\":{\"ipam\":{}}", "delegate.ipam: {} must not be there");
	refused_delegate("\"ipam\":{\"routes\":{}}", "ipam.routes: {} is not an array");
	refused_delegate("\"ipam\":{\"routes\":[{\"dst\":\"10.0.0.0\"}]}",
			 "ipam.routes: {\"dst\":\"10.0.0.0\"} has no \"dst\"");
	refused_delegate("\"ipam\":{\"routes\":[null]}", "ipam.routes: null has no \"dst\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_members),
		cmocka_unit_test(test_no_valid_attachments),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_supported_versions_are_told),
		cmocka_unit_test(test_versions),
		cmocka_unit_test(test_delegate),
		cmocka_unit_test(test_delegate_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
