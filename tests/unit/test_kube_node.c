/* SPDX-License-Identifier: Apache-2.0 */
/* test_kube_node.c - what nodes say about leases, patches, Status objects */
#include "store/kube_node.h"

#include "base/json.h"
#include "base/mem.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define PREFIX "flannel.alpha.coreos.com/"
#define DATA   "{\"VNI\":1,\"VtepMAC\":\"c6:d2:32:6f:8f:44\"}"
/* As a JSON string. */
#define DATA_STRING "\"{\\\"VNI\\\":1,\\\"VtepMAC\\\":\\\"c6:d2:32:6f:8f:44\\\"}\""

static const bool v4_only[IP_FAMILY_COUNT] = {[IP_V4] = true};
static const bool v6_only[IP_FAMILY_COUNT] = {[IP_V6] = true};
static const bool dual[IP_FAMILY_COUNT] = {[IP_V4] = true, [IP_V6] = true};

static struct kube_keys keys;

static int set_up(void **state)
{
	(void)state;
	return kube_keys_init("flannel.alpha.coreos.com", &keys, NULL);
}

static int tear_down(void **state)
{
	(void)state;
	kube_keys_done(&keys);
	return 0;
}

static struct json_slice slice(const char *text)
{
	return (struct json_slice){text, strlen(text)};
}

/* ---- names ---- */

static void test_keys(void **state)
{
	static const struct {
		const char *prefix, *want; /* backend-type's name; NULL: refused */
	} rows[] = {
		{"flannel.alpha.coreos.com", PREFIX "backend-type"},
		{"flannel.alpha.coreos.com/", PREFIX "backend-type"},
		{"flannel.alpha.coreos.com/prefix", PREFIX "prefix-backend-type"},
		{"flannel.alpha.coreos.com/prefix-", PREFIX "prefix-backend-type"},
		{"org.com", "org.com/backend-type"},
		{"org9.com", "org9.com/backend-type"},
		{"org.com/9", "org.com/9-backend-type"},
		{"org-.c_m/a_b", "org-.c_m/a_b-backend-type"},
		{"", NULL},
		{"/", NULL},
		{"org", NULL},
		{"org/", NULL},
		{"org/prefix", NULL},
		{"org.COM", NULL},
		{"ORG.org.com", NULL},
		{"org.com/PREFIX", NULL},
		{"org.com/a/b", NULL},
		{"org.com//", NULL},
		{"org.com/a.b", NULL},
		{"org.com/-", NULL},
		{".org.com", NULL},
		{"org..com", NULL},
		{"org.com.", NULL},
		{"org.com ", NULL},
		{"org.com/a\n", NULL},
		/* Kubernetes' limit of 63 characters, with public-ipv6-overwrite behind it. */
		{"org.com/a23456789012345678901234567890123456789-",
		 "org.com/a23456789012345678901234567890123456789-backend-type"},
		{"org.com/a2345678901234567890123456789012345678901-",
		 "org.com/a2345678901234567890123456789012345678901-backend-type"},
		{"org.com/a23456789012345678901234567890123456789012-", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct kube_keys got = {0};
		struct err err = {""};
		int r = kube_keys_init(rows[i].prefix, &got, &err);

		if (!rows[i].want) {
			if (r != -EINVAL || got.name[0])
				fail_msg("\"%s\" was taken", rows[i].prefix);
			assert_non_null(strstr(err.text, "--kube-annotation-prefix"));
			continue;
		}
		if (r)
			fail_msg("%s", err.text);
		assert_string_equal(got.name[KUBE_BACKEND_TYPE], rows[i].want);
		kube_keys_done(&got);
	}
}

static void test_key_names(void **state)
{
	static const char *const want[KUBE_ANNOTATION_COUNT] = {
		"kube-subnet-manager", "backend-type",
		"backend-data",        "backend-v6-data",
		"public-ip",           "public-ipv6",
		"public-ip-overwrite", "public-ipv6-overwrite",
		"node-public-ip",      "node-public-ipv6",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		assert_memory_equal(keys.name[i], PREFIX, strlen(PREFIX));
		assert_string_equal(keys.name[i] + strlen(PREFIX), want[i]);
	}
}

/* ---- nodes ---- */

#define CONDITION(status, reason, message)                                                         \
	"{\"type\":\"NetworkUnavailable\",\"status\":\"" status                                    \
	"\",\"lastHeartbeatTime\":\"2026-02-20T14:31:23Z\",\"reason\":\"" reason                   \
	"\",\"message\":\"" message "\"}"
#define OUR_CONDITION CONDITION("False", "FlannelIsUp", "Flannel is running on this node")
#define KUBELETS      "{\"type\":\"Ready\",\"status\":\"False\",\"reason\":\"FlannelIsUp\"}"

static struct kube_node parse(const char *text)
{
	struct kube_node node;
	struct err err = {""};

	if (kube_node_parse(slice(text), &keys, &node, &err) != 0)
		fail_msg("%s: %s", text, err.text);
	return node;
}

static void test_whole_node(void **state)
{
	struct kube_node node = parse(
		"{\"kind\":\"Node\",\"apiVersion\":\"v1\",\"metadata\":{\"name\":\"n-1.example\","
		"\"uid\":\"6a1\",\"resourceVersion\":\"309\",\"annotations\":{\"" PREFIX
		"kube-subnet-manager\":\"true\",\"" PREFIX "backend-type\":\"vxlan\",\"" PREFIX
		"backend-data\":" DATA_STRING ",\"" PREFIX "backend-v6-data\":\"null\",\"" PREFIX
		"public-ip\":\"192.0.2.2\",\"" PREFIX "public-ipv6\":\"fd00::2\",\"" PREFIX
		"public-ip-overwrite\":\"\",\"" PREFIX "public-ipv6-overwrite\":null,\"" PREFIX
		"node-public-ip\":\"192.0.2.9\",\"x\":3,\"node-public-ipv6\":\"fd00::9\"},"
		"\"managedFields\":[{\"name\":\"no\"}]},\"spec\":{\"podCIDR\":\"10.5.1.0/24\","
		"\"podCIDRs\":[\"10.5.1.7/24\",\"fc00:1::/64\"]},\"status\":{\"conditions\":"
		"[" KUBELETS "," OUR_CONDITION "],\"images\":[{\"names\":[\"a\"]}]}}");
	char buf[IP_NET_STRLEN];

	(void)state;
	assert_string_equal(node.name, "n-1.example");
	assert_string_equal(node.uid, "6a1");
	assert_string_equal(node.resource_version, "309");
	assert_false(node.is_partial);
	assert_string_equal(node.annotation[KUBE_SUBNET_MANAGER], "true");
	assert_string_equal(node.annotation[KUBE_BACKEND_TYPE], "vxlan");
	assert_string_equal(node.annotation[KUBE_BACKEND_DATA], DATA);
	assert_string_equal(node.annotation[KUBE_BACKEND_V6_DATA], "null");
	assert_string_equal(node.annotation[KUBE_PUBLIC_IP], "192.0.2.2");
	assert_string_equal(node.annotation[KUBE_PUBLIC_IPV6], "fd00::2");
	assert_string_equal(node.annotation[KUBE_PUBLIC_IP_OVERWRITE], "");
	assert_null(node.annotation[KUBE_PUBLIC_IPV6_OVERWRITE]);
	assert_string_equal(node.annotation[KUBE_NODE_PUBLIC_IP], "192.0.2.9");
	assert_null(node.annotation[KUBE_NODE_PUBLIC_IPV6]); /* without the prefix: not ours */
	assert_string_equal(ip_net_format(&node.pod_cidr[IP_V4], buf), "10.5.1.0/24");
	assert_string_equal(ip_net_format(&node.pod_cidr[IP_V6], buf), "fc00:1::/64");
	assert_true(node.network_unavailable_is_false_by_us);
	kube_node_done(&node);
	kube_node_done(&node);
	kube_node_done(NULL);
}

static void test_partial(void **state)
{
	struct kube_node node =
		parse("{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\","
		      "\"metadata\":{\"name\":\"n1\",\"annotations\":{\"" PREFIX
		      "public-ip\":\"192.0.2.2\"}}}");

	(void)state;
	assert_true(node.is_partial);
	assert_string_equal(node.annotation[KUBE_PUBLIC_IP], "192.0.2.2");
	assert_null(node.uid);
	assert_false(ip_net_is_set(&node.pod_cidr[IP_V4]));
	kube_node_done(&node);
	/* Of two the first counts, as everywhere in kube_json. */
	node = parse("{\"metadata\":{\"annotations\":{\"" PREFIX
		     "public-ip\":\"192.0.2.2\",\"" PREFIX "public-ip\":\"x\"}}}");
	assert_string_equal(node.annotation[KUBE_PUBLIC_IP], "192.0.2.2");
	kube_node_done(&node);
	/* An item of a partial list, without a kind. */
	node = parse("{\"metadata\":{\"name\":\"n1\"}}");
	assert_true(node.is_partial);
	kube_node_done(&node);
	/* An item of a list of nodes. */
	node = parse("{\"metadata\":{\"name\":\"n1\"},\"spec\":{},\"status\":{}}");
	assert_false(node.is_partial);
	kube_node_done(&node);
	/* Bookmarks, as in STORES.md 3.3 and 3.4. */
	node = parse("{\"kind\":\"Node\",\"apiVersion\":\"v1\",\"metadata\":{\"resourceVersion\":"
		     "\"318\",\"creationTimestamp\":null},\"spec\":{},\"status\":{}}");
	assert_null(node.name);
	assert_string_equal(node.resource_version, "318");
	kube_node_done(&node);
	node = parse("{\"kind\":\"Node\",\"metadata\":{\"name\":\"\"}}");
	assert_null(node.name);
	kube_node_done(&node);
}

/* The podCIDRs of a spec; NULL: that family has none. */
static void test_cidrs(void **state)
{
	static const struct {
		const char *spec, *v4, *v6;
	} rows[] = {
		{"{}", NULL, NULL},
		{"{\"podCIDR\":\"\"}", NULL, NULL},
		{"{\"podCIDR\":null,\"podCIDRs\":null}", NULL, NULL},
		{"{\"podCIDR\":\"10.5.1.0/24\"}", "10.5.1.0/24", NULL},
		{"{\"podCIDR\":\"fc00:1::/64\"}", NULL, "fc00:1::/64"},
		{"{\"podCIDR\":\"10.5.1.0/24\",\"podCIDRs\":[]}", "10.5.1.0/24", NULL},
		{"{\"podCIDR\":\"10.5.1.0/24\",\"podCIDRs\":[\"fc00:1::/64\"]}", NULL,
		 "fc00:1::/64"},
		{"{\"podCIDRs\":[\"fc00:1::/64\",\"10.5.1.0/24\"]}", "10.5.1.0/24", "fc00:1::/64"},
		{"{\"podCIDRs\":[\"10.5.1.0/24\",\"10.5.2.0/24\"]}", "10.5.1.0/24", NULL},
		{"{\"podCIDRs\":[\"10.5.1.9/24\"]}", "10.5.1.0/24", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *want[IP_FAMILY_COUNT] = {NULL, rows[i].v4, rows[i].v6};
		char text[300], buf[IP_NET_STRLEN];
		struct kube_node node;

		(void)snprintf(text, sizeof(text), "{\"metadata\":{\"name\":\"n1\"},\"spec\":%s}",
			       rows[i].spec);
		node = parse(text);
		IP_FOREACH_FAMILY (f) {
			assert_int_equal(ip_net_is_set(&node.pod_cidr[f]), want[f] != NULL);
			if (want[f])
				assert_string_equal(ip_net_format(&node.pod_cidr[f], buf), want[f]);
		}
		kube_node_done(&node);
	}
}

static void test_condition(void **state)
{
	static const struct {
		const char *conditions;
		bool ours;
	} rows[] = {
		{"null", false},
		{"[]", false},
		{"[" KUBELETS "]", false},
		{"[" KUBELETS "," OUR_CONDITION "]", true},
		{"[" CONDITION("True", "FlannelIsUp", "Flannel is running on this node") "]",
		 false},
		{"[" CONDITION("False", "RouteCreated", "Flannel is running on this node") "]",
		 false},
		{"[" CONDITION("False", "FlannelIsUp", "") "]", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct kube_node node;
		char text[600];

		(void)snprintf(text, sizeof(text),
			       "{\"metadata\":{\"name\":\"n1\"},\"spec\":{},"
			       "\"status\":{\"conditions\":%s}}",
			       rows[i].conditions);
		node = parse(text);
		assert_int_equal(node.network_unavailable_is_false_by_us, rows[i].ours);
		kube_node_done(&node);
	}
}

#define NAMED "{\"metadata\":{\"name\":\"n1\"}"

static void test_node_refused(void **state)
{
	static const struct {
		const char *text, *words;
	} rows[] = {
		{"", "no node"},
		{"[]", "no JSON object"},
		{"{\"kind\":\"Status\",\"code\":410}", "its kind is \"Status\""},
		{"{\"kind\":7}", "its kind is 7"},
		{"{\"metadata\":{\"name\":7}}", "metadata.name is not a string"},
		{"{\"metadata\":{\"name\":\"a/b\"}}", "\"a/b\" is not a node's name"},
		{"{\"metadata\":{\"name\":\"a b\"}}", "is not a node's name"},
		{"{\"metadata\":{\"name\":\"n1\",\"uid\":{}}}", "node n1: metadata.uid"},
		{"{\"metadata\":{\"name\":\"n1\",\"annotations\":[]}}", "metadata.annotations"},
		{"{\"metadata\":{\"name\":\"n1\",\"annotations\":{\"" PREFIX "public-ip\":1}}}",
		 "annotation public-ip is not a string"},
		{"{\"metadata\":{\"name\":\"n1\",\"annotations\":{\"" PREFIX
		 "public-ip\":\"a\\u0000\"}}}",
		 "annotation public-ip"},
		{"{\"metadata\":{\"name\":\"n1\",\"annotations\":{\"a\" 1}}}", "no JSON"},
		{NAMED ",\"spec\":[]}", "spec is no JSON object"},
		{NAMED ",\"spec\":{\"podCIDR\":\"10.5.1.0\"}}", "podCIDR \"10.5.1.0\" is not"},
		{NAMED ",\"spec\":{\"podCIDR\":\"0.0.0.0/0\"}}", "podCIDR \"0.0.0.0/0\""},
		{NAMED ",\"spec\":{\"podCIDR\":{}}}", "list of strings"},
		{NAMED ",\"spec\":{\"podCIDRs\":{}}}", "podCIDRs is not a list"},
		{NAMED ",\"spec\":{\"podCIDRs\":[7]}}", "list of strings"},
		{NAMED ",\"spec\":{\"podCIDRs\":[\"10.5.1.0/24\",\"x\"]}}", "podCIDR \"x\""},
		{NAMED ",\"spec\":{\"podCIDRs\":[\"10.5.1.0/24\",\"fc00::/64\",\"10.5.2.0/24\"]}}",
		 "more than two"},
		{NAMED ",\"spec\":{},\"status\":{\"conditions\":{}}}", "conditions is not a list"},
		{NAMED ",\"spec\":{}", "no JSON"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct kube_node node = {.is_partial = true};
		struct err err = {""};

		if (kube_node_parse(slice(rows[i].text), &keys, &node, &err) != -EINVAL)
			fail_msg("%s was taken", rows[i].text);
		if (!strstr(err.text, rows[i].words))
			fail_msg("%s: \"%s\" lacks \"%s\"", rows[i].text, err.text, rows[i].words);
		assert_true(node.is_partial && !node.name);
	}
}

/* ---- leases ---- */

/* A node n1 with these annotations (of ours, the names without prefix) and this spec. */
static struct kube_node make_node(const char *const annotations[][2], const char *spec)
{
	_cleanup_json_ json_t *object = json_object();
	_cleanup_free_ char *text = NULL;
	json_t *metadata = json_pack("{s:s,s:o}", "name", "n1", "annotations", json_object());
	char name[100];

	for (size_t i = 0; annotations[i][0]; i++) {
		(void)snprintf(name, sizeof(name), PREFIX "%s", annotations[i][0]);
		(void)json_object_set_new(json_object_get(metadata, "annotations"), name,
					  json_string(annotations[i][1]));
	}
	(void)json_object_set_new(object, "metadata", metadata);
	if (spec)
		(void)json_object_set_new(object, "spec", json_loads(spec, 0, NULL));
	text = json_dumps(object, 0);
	return parse(text);
}

#define MANAGED                                                                                    \
	{                                                                                          \
		"kube-subnet-manager", "true"                                                      \
	}
#define VXLAN                                                                                      \
	{                                                                                          \
		"backend-type", "vxlan"                                                            \
	}
#define V4                                                                                         \
	{"public-ip", "192.0.2.2"},                                                                \
	{                                                                                          \
		"backend-data", DATA                                                               \
	}
#define V6                                                                                         \
	{"public-ipv6", "fd00::2"},                                                                \
	{                                                                                          \
		"backend-v6-data", DATA                                                            \
	}
#define CIDR4       "\"10.5.1.0/24\""
#define CIDR6       "\"fc00:1::/64\""
#define CIDRS(list) "{\"podCIDRs\":[" list "]}"

struct lease_row {
	const char *annotations[8][2];
	const char *spec; /* NULL: partial */
	const bool *families;
	int code;
	const char *words; /* of the error */
	const char *key;   /* NULL: no lease */
	const char *value;
};

#define VALUE_V4                                                                                   \
	"{\"PublicIP\":\"192.0.2.2\",\"PublicIPv6\":null,\"BackendType\":\"vxlan\","               \
	"\"BackendData\":" DATA "}"
#define VALUE_V6                                                                                   \
	"{\"PublicIP\":\"0.0.0.0\",\"PublicIPv6\":\"fd00::2\",\"BackendType\":\"vxlan\","          \
	"\"BackendV6Data\":" DATA "}"
#define VALUE_DUAL                                                                                 \
	"{\"PublicIP\":\"192.0.2.2\",\"PublicIPv6\":\"fd00::2\",\"BackendType\":\"vxlan\","        \
	"\"BackendData\":" DATA ",\"BackendV6Data\":" DATA "}"

static const struct lease_row lease_rows[] = {
	{{MANAGED, VXLAN, V4}, CIDRS(CIDR4), v4_only, 0, NULL, "10.5.1.0-24", VALUE_V4},
	{{MANAGED, VXLAN, V6}, CIDRS(CIDR6), v6_only, 0, NULL, "fc00:1::-64", VALUE_V6},
	{{MANAGED, VXLAN, V4, V6},
	 CIDRS(CIDR4 "," CIDR6),
	 dual,
	 0,
	 NULL,
	 "10.5.1.0-24&fc00:1::-64",
	 VALUE_DUAL},
	/* Each family by itself, where the original refuses all. */
	{{MANAGED, VXLAN, V4}, CIDRS(CIDR4), dual, 0, NULL, "10.5.1.0-24", VALUE_V4},
	{{MANAGED, VXLAN, V4}, CIDRS(CIDR4 "," CIDR6), dual, 0, NULL, "10.5.1.0-24", VALUE_V4},
	{{MANAGED, VXLAN, V4, V6}, CIDRS(CIDR4), dual, 0, NULL, "10.5.1.0-24", VALUE_V4},
	{{MANAGED, VXLAN, V4, V6}, CIDRS(CIDR6), dual, 0, NULL, "fc00:1::-64", VALUE_V6},
	/* A family that is off is not looked at. */
	{{MANAGED, VXLAN, V4, {"public-ipv6", "x"}},
	 CIDRS(CIDR4 "," CIDR6),
	 v4_only,
	 0,
	 NULL,
	 "10.5.1.0-24",
	 VALUE_V4},
	/* One that is wrong is named, the other one stays. */
	{{MANAGED, VXLAN, V4, {"public-ipv6", "192.0.2.3"}},
	 CIDRS(CIDR4 "," CIDR6),
	 dual,
	 -EINVAL,
	 "annotation public-ipv6: \"192.0.2.3\" is not an IPv6 address",
	 "10.5.1.0-24",
	 VALUE_V4},
	{{MANAGED, VXLAN, {"public-ip", "192.0.2.2"}, {"backend-data", "{"}, V6},
	 CIDRS(CIDR4 "," CIDR6),
	 dual,
	 -EINVAL,
	 "annotation backend-data: \"{\" is not JSON",
	 "fc00:1::-64",
	 VALUE_V6},
	{{MANAGED, VXLAN, {"public-ip", "x"}, {"public-ipv6", "y"}},
	 CIDRS(CIDR4 "," CIDR6),
	 dual,
	 -EINVAL,
	 "node n1: annotation public-ip: \"x\" is not an IPv4 address",
	 NULL,
	 NULL},
	{{MANAGED, {"backend-type", "a-type-of-17-char"}, V4},
	 CIDRS(CIDR4),
	 v4_only,
	 -EINVAL,
	 "annotation backend-type: \"a-type-of-17-char\" is longer",
	 NULL,
	 NULL},
	{{MANAGED, VXLAN, {"public-ip", "192.0.2.2"}, {"backend-data", "{\"a\":1,\"a\":2}"}},
	 CIDRS(CIDR4),
	 v4_only,
	 -EINVAL,
	 "annotation backend-data",
	 NULL,
	 NULL},
	/* host-gw; udp, whose type is empty; extension, whose data is a string; any case. */
	{{MANAGED,
	  {"backend-type", "host-gw"},
	  {"backend-data", "null"},
	  {"public-ip", "192.0.2.2"}},
	 CIDRS(CIDR4),
	 v4_only,
	 0,
	 NULL,
	 "10.5.1.0-24",
	 "{\"PublicIP\":\"192.0.2.2\",\"PublicIPv6\":null,\"BackendType\":\"host-gw\"}"},
	{{MANAGED, {"backend-type", ""}, {"backend-data", ""}, {"public-ip", "192.0.2.2"}},
	 CIDRS(CIDR4),
	 v4_only,
	 0,
	 NULL,
	 "10.5.1.0-24",
	 "{\"PublicIP\":\"192.0.2.2\",\"PublicIPv6\":null}"},
	{{MANAGED, {"public-ip", "192.0.2.2"}},
	 CIDRS(CIDR4),
	 v4_only,
	 0,
	 NULL,
	 "10.5.1.0-24",
	 "{\"PublicIP\":\"192.0.2.2\",\"PublicIPv6\":null}"},
	{{MANAGED,
	  {"backend-type", "Extension"},
	  {"backend-data", " \"a\\nb\" "},
	  {"public-ip", "192.0.2.2"}},
	 CIDRS(CIDR4),
	 v4_only,
	 0,
	 NULL,
	 "10.5.1.0-24",
	 "{\"PublicIP\":\"192.0.2.2\",\"PublicIPv6\":null,\"BackendType\":\"extension\","
	 "\"BackendData\":\"a\\nb\"}"},
	/* The admin's annotations are for the node itself, not for its peers. */
	{{MANAGED, VXLAN, V4, {"public-ip-overwrite", "198.51.100.2"}},
	 CIDRS(CIDR4),
	 v4_only,
	 0,
	 NULL,
	 "10.5.1.0-24",
	 VALUE_V4},
	/* Not managed. */
	{{VXLAN, V4}, CIDRS(CIDR4), v4_only, -ENOENT, "node n1 is not managed", NULL, NULL},
	{{{"kube-subnet-manager", "True"}, VXLAN, V4},
	 CIDRS(CIDR4),
	 v4_only,
	 -ENOENT,
	 "kube-subnet-manager",
	 NULL,
	 NULL},
	{{{"kube-subnet-manager", "false"}, {"public-ip", "x"}},
	 CIDRS(CIDR4),
	 v4_only,
	 -ENOENT,
	 "",
	 NULL,
	 NULL},
	/* Not yet. */
	{{MANAGED, VXLAN, V4}, NULL, v4_only, -EAGAIN, "podCIDR is not known", NULL, NULL},
	{{MANAGED, VXLAN, V4}, "{}", v4_only, -EAGAIN, "no podCIDR", NULL, NULL},
	{{MANAGED, VXLAN, V4}, CIDRS(CIDR4), v6_only, -EAGAIN, "no podCIDR", NULL, NULL},
	{{MANAGED, VXLAN}, CIDRS(CIDR4), dual, -EAGAIN, "public IP", NULL, NULL},
	{{MANAGED, VXLAN, V6}, CIDRS(CIDR4), dual, -EAGAIN, "public IP", NULL, NULL},
	{{MANAGED, VXLAN, {"public-ip", "0.0.0.0"}},
	 CIDRS(CIDR4),
	 v4_only,
	 -EAGAIN,
	 "public IP",
	 NULL,
	 NULL},
};

static void test_lease(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lease_rows); i++) {
		const struct lease_row *row = &lease_rows[i];
		struct kube_node node = make_node(row->annotations, row->spec);
		_cleanup_free_ char *value = NULL;
		char key[LEASE_KEY_MAX];
		struct lease lease = {0};
		struct err err = {""};
		int r = kube_node_lease(&node, row->families, &lease, &err);

		if (r != row->code || (row->words && !strstr(err.text, row->words)))
			fail_msg("row %zu: %d, \"%s\"", i, r, err.text);
		assert_int_equal(!*err.text, !r);
		assert_string_equal(lease_format_key(lease.subnet, key), row->key ? row->key : "");
		if (row->key) {
			assert_int_equal(lease.expires_s, LEASE_EXPIRES_SOMEDAY);
			value = lease_format(&lease);
			assert_string_equal(value, row->value);
		}
		lease_done(&lease);
		kube_node_done(&node);
	}
}

/* ---- patches ---- */

#define NOW_S 1771597883 /* 2026-02-20T14:31:23Z */
#define PATCH_CONDITION                                                                            \
	"{\"status\":{\"conditions\":[{\"type\":\"NetworkUnavailable\",\"status\":\"False\","      \
	"\"lastHeartbeatTime\":\"2026-02-20T14:31:23Z\",\"lastTransitionTime\":"                   \
	"\"2026-02-20T14:31:23Z\",\"reason\":\"FlannelIsUp\",\"message\":"                         \
	"\"Flannel is running on this node\"}]}}"
#define PATCH(members) "{\"metadata\":{\"annotations\":{" members "}}}"
#define A(name)        "\"" PREFIX name "\":"

struct patch_row {
	const char *annotations[12][2];
	const char *key, *value; /* of our lease */
	const char *patch;       /* NULL: nothing differs */
};

#define KEY_DUAL "10.5.1.0-24&fc00:1::-64"
#define HOST_GW  "{\"PublicIP\":\"192.0.2.2\",\"BackendType\":\"host-gw\"}"
#define HOST_GW_DUAL                                                                               \
	"{\"PublicIP\":\"192.0.2.2\",\"PublicIPv6\":\"fd00::2\",\"BackendType\":\"host-gw\"}"

static const struct patch_row patch_rows[] = {
	{{{NULL}},
	 "10.5.1.0-24",
	 VALUE_V4,
	 PATCH(A("kube-subnet-manager") "\"true\"," A("backend-type") "\"vxlan\"," A("backend-data")
		       DATA_STRING "," A("public-ip") "\"192.0.2.2\"")},
	{{MANAGED, VXLAN, V4}, "10.5.1.0-24", VALUE_V4, NULL},
	{{MANAGED, VXLAN, V4, V6}, KEY_DUAL, VALUE_DUAL, NULL},
	{{MANAGED, VXLAN, V6}, "fc00:1::-64", VALUE_V6, NULL},
	/* Only what differs, byte for byte. */
	{{MANAGED, VXLAN, {"public-ip", "192.0.2.3"}, {"backend-data", DATA}},
	 "10.5.1.0-24",
	 VALUE_V4,
	 PATCH(A("public-ip") "\"192.0.2.2\"")},
	{{MANAGED, VXLAN, {"public-ip", "192.0.2.2"}, {"backend-data", DATA " "}},
	 "10.5.1.0-24",
	 VALUE_V4,
	 PATCH(A("backend-data") DATA_STRING)},
	{{{"kube-subnet-manager", "false"}, {"backend-type", "VXLAN"}, V4},
	 "10.5.1.0-24",
	 VALUE_V4,
	 PATCH(A("kube-subnet-manager") "\"true\"," A("backend-type") "\"vxlan\"")},
	{{{NULL}},
	 "10.5.1.0-24",
	 HOST_GW,
	 PATCH(A("kube-subnet-manager") "\"true\"," A("backend-type") "\"host-gw\"," A(
		 "backend-data") "\"null\"," A("public-ip") "\"192.0.2.2\"")},
	{{MANAGED,
	  {"backend-type", "host-gw"},
	  {"backend-data", "null"},
	  {"public-ip", "192.0.2.2"}},
	 KEY_DUAL,
	 HOST_GW_DUAL,
	 PATCH(A("backend-v6-data") "\"null\"," A("public-ipv6") "\"fd00::2\"")},
	/* udp of the original; extension. */
	{{MANAGED, VXLAN, V4},
	 "10.5.1.0-24",
	 "{\"PublicIP\":\"192.0.2.2\"}",
	 PATCH(A("backend-type") "\"\"," A("backend-data") "\"null\"")},
	{{MANAGED, {"backend-type", "extension"}, {"public-ip", "192.0.2.2"}},
	 "10.5.1.0-24",
	 "{\"PublicIP\":\"192.0.2.2\",\"BackendType\":\"extension\",\"BackendData\":\"a\\nb\"}",
	 PATCH(A("backend-data") "\"\\\"a\\\\nb\\\"\"")},
	/* Families that are off: ours go, the admin's stay. */
	{{MANAGED, VXLAN, V4, V6, {"public-ipv6-overwrite", "fd00::9"}, {"node-public-ipv6", "a"}},
	 "10.5.1.0-24",
	 VALUE_V4,
	 PATCH(A("backend-v6-data") "null," A("public-ipv6") "null")},
	{{MANAGED, VXLAN, V4, V6, {"public-ip-overwrite", "192.0.2.9"}},
	 "fc00:1::-64",
	 VALUE_V6,
	 PATCH(A("backend-data") "null," A("public-ip") "null")},
	/* What tunnels is not published without data: the original does not. */
	{{MANAGED, VXLAN},
	 "10.5.1.0-24",
	 "{\"PublicIP\":\"192.0.2.2\",\"BackendType\":\"vxlan\"}",
	 NULL},
	{{MANAGED,
	  {"backend-type", "wireguard"},
	  {"backend-data", "{}"},
	  {"public-ip", "192.0.2.2"}},
	 KEY_DUAL,
	 "{\"PublicIP\":\"192.0.2.2\",\"PublicIPv6\":\"fd00::2\",\"BackendType\":\"wireguard\","
	 "\"BackendData\":{}}",
	 NULL},
};

static void test_patch(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(patch_rows); i++) {
		const struct patch_row *row = &patch_rows[i];
		struct kube_node node = make_node(row->annotations, "{}");
		_cleanup_free_ char *patch = NULL;
		struct lease own;

		assert_int_equal(lease_parse(row->key, row->value, strlen(row->value), &own, NULL),
				 0);
		patch = kube_node_patch(&node, &keys, &own, false, NOW_S);
		if (!patch != !row->patch || (patch && strcmp(patch, row->patch) != 0))
			fail_msg("row %zu: %s", i, patch ? patch : "none");
		lease_done(&own);
		kube_node_done(&node);
	}
}

static void test_patch_condition(void **state)
{
	static const char *const annotations[][2] = {MANAGED, VXLAN, V4, {NULL, NULL}};
	struct kube_node node = make_node(annotations, "{}");
	_cleanup_free_ char *alone = NULL, *both = NULL;
	struct lease own;

	(void)state;
	assert_int_equal(lease_parse("10.5.1.0-24", VALUE_V4, strlen(VALUE_V4), &own, NULL), 0);
	assert_null(kube_node_patch(&node, &keys, &own, false, NOW_S));
	alone = kube_node_patch(&node, &keys, &own, true, NOW_S);
	assert_string_equal(alone, PATCH_CONDITION);
	node.network_unavailable_is_false_by_us = true;
	assert_null(kube_node_patch(&node, &keys, &own, true, NOW_S));
	/* Unknown is not wrong. */
	node.network_unavailable_is_false_by_us = false;
	node.is_partial = true;
	assert_null(kube_node_patch(&node, &keys, &own, true, NOW_S));
	node.is_partial = false;
	free(node.annotation[KUBE_BACKEND_TYPE]);
	node.annotation[KUBE_BACKEND_TYPE] = NULL;
	both = kube_node_patch(&node, &keys, &own, true, NOW_S);
	assert_memory_equal(both, "{\"metadata\":{\"annotations\":{\"" PREFIX,
			    strlen("{\"metadata\":{\"annotations\":{\"" PREFIX));
	assert_non_null(strstr(both, "},\"status\":{\"conditions\":[{"));
	lease_done(&own);
	kube_node_done(&node);
}

/* ---- Status ---- */

static void test_status(void **state)
{
	struct kube_status status;

	(void)state;
	assert_int_equal(
		kube_status_parse(
			slice("{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},"
			      "\"status\":\"Failure\",\"message\":\"too old resource version: 5 "
			      "(318)\",\"reason\":\"Expired\",\"code\":410}"),
			&status),
		0);
	assert_int_equal(status.code, 410);
	assert_string_equal(status.reason, "Expired");
	assert_string_equal(status.message, "too old resource version: 5 (318)");
	assert_int_equal(status.retry_after_s, 0);
	assert_string_equal(status.next, "");

	assert_int_equal(kube_status_parse(slice("{\"kind\":\"Status\",\"metadata\":{\"continue\":"
						 "\"eyJ2\"},\"message\":\"a\\nb\",\"details\":{"
						 "\"retryAfterSeconds\":1},\"code\":504}"),
					   &status),
			 0);
	assert_int_equal(status.retry_after_s, 1);
	assert_string_equal(status.next, "eyJ2");
	assert_string_equal(status.message, "a b");
	assert_string_equal(status.reason, "");

	assert_int_equal(kube_status_parse(slice("{\"kind\":\"Status\",\"code\":-1,\"message\":{},"
						 "\"details\":{\"retryAfterSeconds\":1e3}}"),
					   &status),
			 0);
	assert_int_equal(status.code, 0);
	assert_int_equal(status.retry_after_s, 0);
	assert_string_equal(status.message, "");

	status.code = 77;
	assert_int_equal(kube_status_parse(slice("{\"kind\":\"Node\"}"), &status), -EINVAL);
	assert_int_equal(kube_status_parse(slice("{\"kind\":\"Status\""), &status), -EINVAL);
	assert_int_equal(kube_status_parse(slice("Too many requests"), &status), -EINVAL);
	assert_int_equal(status.code, 77);
}

/* A long message is cut between characters; a long token is none. */
static void test_status_long(void **state)
{
	struct kube_status status;
	char text[4000], *at = text;

	(void)state;
	at = stpcpy(at, "{\"kind\":\"Status\",\"message\":\"a");
	for (int i = 0; i < 300; i++)
		at = stpcpy(at, "\xc3\xa4");
	at = stpcpy(at, "\",\"metadata\":{\"continue\":\"");
	for (size_t i = 0; i < sizeof(status.next); i++)
		*at++ = 'x';
	(void)stpcpy(at, "\"}}");
	assert_int_equal(kube_status_parse(slice(text), &status), 0);
	assert_int_equal(strlen(status.message), ERR_TEXT_MAX - 1);
	assert_string_equal(status.next, "");
	(void)memmove(strstr(text, "\"a\xc3") + 1, strstr(text, "\"a\xc3") + 2,
		      strlen(strstr(text, "\"a\xc3") + 2) + 1);
	(void)stpcpy(text + strlen(text) - 4, "\"}}");
	assert_int_equal(kube_status_parse(slice(text), &status), 0);
	assert_int_equal(strlen(status.message), ERR_TEXT_MAX - 2);
	assert_int_equal(strlen(status.next), sizeof(status.next) - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_keys),         cmocka_unit_test(test_key_names),
		cmocka_unit_test(test_whole_node),   cmocka_unit_test(test_partial),
		cmocka_unit_test(test_cidrs),        cmocka_unit_test(test_condition),
		cmocka_unit_test(test_node_refused), cmocka_unit_test(test_lease),
		cmocka_unit_test(test_patch),        cmocka_unit_test(test_patch_condition),
		cmocka_unit_test(test_status),       cmocka_unit_test(test_status_long),
	};

	return cmocka_run_group_tests(tests, set_up, tear_down);
}
