/* SPDX-License-Identifier: Apache-2.0 */
/* test_netconf.c - the network config: defaults, checks and their words, both families alike */
#include "model/netconf.h"

#include "base/mem.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define WHAT "net-conf.json"

static struct netconf parse_ok(const char *text)
{
	struct netconf conf;
	struct err err = {""};

	if (netconf_parse(text, strlen(text), WHAT, &conf, &err) != 0)
		fail_msg("%s: %s", text, err.text);
	return conf;
}

/* netconf_parse() refuses @text with an error that names the file and holds @words. */
static void refused_one(const char *text, const char *words)
{
	struct netconf conf = {.backend_type = "kept"};
	struct err err = {""};

	if (netconf_parse(text, strlen(text), WHAT, &conf, &err) != -EINVAL)
		fail_msg("%s was taken", text);
	assert_string_equal(conf.backend_type, "kept");
	if (!strstr(err.text, WHAT) || !strstr(err.text, words))
		fail_msg("%s: \"%s\" lacks \"%s\"", text, err.text, words);
}

static void test_defaults(void **state)
{
	struct netconf conf = parse_ok("{\"Network\":\"10.244.0.0/16\"}");
	char buf[IP_NET_STRLEN];

	(void)state;
	assert_true(conf.enabled[IP_V4]);
	assert_false(conf.enabled[IP_V6] || conf.nftables);
	assert_string_equal(ip_net_format(&conf.range[IP_V4].network, buf), "10.244.0.0/16");
	assert_string_equal(conf.backend_type, "vxlan");
	assert_true(conf.backend_defaulted);
	assert_null(conf.backend);
	netconf_done(&conf);
	netconf_done(&conf);
	netconf_done(NULL);
}

static void test_keep(void **state)
{
	struct netconf conf = parse_ok("{\"Network\":\"10.244.0.0/16\",\"NonMasqueradeCidrs\":"
				       "[\"192.168.7.1/16\",\"fd00::/8\"]}");
	char buf[IP_NET_STRLEN], text[64 + 20 * (NETCONF_KEEP_MAX + 1)];
	size_t n;

	(void)state;
	assert_int_equal(conf.n_keep, 2);
	assert_string_equal(ip_net_format(&conf.keep[0], buf), "192.168.0.0/16");
	assert_string_equal(ip_net_format(&conf.keep[1], buf), "fd00::/8");
	netconf_done(&conf);
	conf = parse_ok("{\"Network\":\"10.244.0.0/16\",\"nonMasqueradeCIDRs\":[]}");
	assert_int_equal(conf.n_keep, 0);
	netconf_done(&conf);
	refused_one("{\"Network\":\"10.244.0.0/16\",\"nonMasqueradeCIDRs\":\"10.0.0.0/8\"}",
		    "nonMasqueradeCIDRs: \"10.0.0.0/8\" is not a list");
	refused_one("{\"Network\":\"10.244.0.0/16\",\"nonMasqueradeCIDRs\":[\"10.0.0.0\"]}",
		    "\"10.0.0.0\" is not a network");
	refused_one("{\"Network\":\"10.244.0.0/16\",\"nonMasqueradeCIDRs\":[7]}",
		    "7 is not a network");
	n = (size_t)snprintf(
		text, sizeof(text),
		"{\"Network\":\"10.244.0.0/16\",\"nonMasqueradeCIDRs\":[\"1.0.0.0/8\"");
	for (int i = 0; i < NETCONF_KEEP_MAX; i++)
		n += (size_t)snprintf(text + n, sizeof(text) - n, ",\"1.0.0.0/8\"");
	(void)snprintf(text + n, sizeof(text) - n, "]}");
	refused_one(text, "33 networks, at most 32");
}

static void test_everything(void **state)
{
	struct netconf conf = parse_ok(
		"{\"network\":\"10.244.3.7/16\",\"IPV6NETWORK\":\"fd00:10:244::1/48\","
		"\"enableipv4\":true,\"EnableIPv6\":true,\"EnableNFTables\":true,"
		"\"SubnetLen\":26,\"SubnetMin\":\"10.244.1.0\",\"SubnetMax\":\"10.244.9.0\","
		"\"IPv6SubnetLen\":64,\"IPv6SubnetMin\":\"fd00:10:244:1::\","
		"\"IPv6SubnetMax\":\"::\",\"Unknown\":{},"
		"\"Backend\":{\"type\":\"VXLAN\",\"VNI\":7,\"Directrouting\":true}}");
	char buf[IP_NET_STRLEN];

	(void)state;
	assert_true(conf.enabled[IP_V4] && conf.enabled[IP_V6] && conf.nftables);
	/* Host bits are cleared, as the original does. */
	assert_string_equal(ip_net_format(&conf.range[IP_V4].network, buf), "10.244.0.0/16");
	assert_string_equal(ip_net_format(&conf.range[IP_V6].network, buf), "fd00:10:244::/48");
	assert_int_equal(conf.range[IP_V4].subnet_len, 26);
	assert_string_equal(ip_format(&conf.range[IP_V6].subnet_min, buf), "fd00:10:244:1::");
	assert_false(ip_is_set(&conf.range[IP_V6].subnet_max));
	assert_string_equal(conf.backend_type, "vxlan");
	assert_false(conf.backend_defaulted);
	assert_int_equal(json_integer_value(json_object_get(conf.backend, "VNI")), 7);
	netconf_done(&conf);
}

static void test_ipv6_only(void **state)
{
	struct netconf conf = parse_ok("{\"EnableIPv4\":false,\"EnableIPv6\":true,"
				       "\"IPv6Network\":\"fd00::/48\",\"Network\":null,"
				       "\"SubnetLen\":null,\"Backend\":null}");

	(void)state;
	assert_false(conf.enabled[IP_V4]);
	assert_true(conf.enabled[IP_V6] && conf.backend_defaulted);
	netconf_done(&conf);
}

static void test_refused(void **state)
{
	(void)state;
	refused_one("", "line 1");
	refused_one("{\"Network\": \"10.0.0.0/8\",\n \"Backend\": {\"Type\": vxlan}}", "line 2");
	refused_one("[]", "object");
	refused_one("{}", "Network is missing");
	refused_one("{\"Network\":null}", "Network is missing");
	refused_one("{\"Network\":16}", "Network: 16 is not a string");
	refused_one("{\"Network\":\"\"}", "Network: \"\" is not an IPv4 network");
	refused_one("{\"Network\":\"10.244.0.0\"}", "Network: \"10.244.0.0\" is not");
	refused_one("{\"Network\":\"10.244.0.0/33\"}", "Network: \"10.244.0.0/33\" is not");
	refused_one("{\"Network\":\"0.0.0.0/0\"}", "Network: \"0.0.0.0/0\" is not");
	refused_one("{\"Network\":\"fd00::/48\"}", "Network: \"fd00::/48\" is not an IPv4");
	refused_one("{\"Network\":\"10.0.0.0/8\",\"IPv6Network\":\"10.0.0.0/8\"}",
		    "IPv6Network: \"10.0.0.0/8\" is not an IPv6");
	refused_one("{\"Network\":\"10.0.0.0/8\",\"EnableIPv6\":true}", "IPv6Network is missing");
	refused_one("{\"Network\":\"10.0.0.0/8\",\"EnableIPv4\":false}", "both false");
	refused_one("{\"Network\":\"10.0.0.0/8\",\"EnableIPv4\":\"yes\"}",
		    "EnableIPv4: \"yes\" is not true or false");
	refused_one("{\"Network\":\"10.0.0.0/8\",\"EnableIPv6\":1}", "EnableIPv6: 1 is not");
	refused_one("{\"Network\":\"10.0.0.0/8\",\"EnableNFTables\":0}",
		    "EnableNFTables: 0 is not");
}

static void test_refused_values(void **state)
{
	(void)state;
	refused_one("{\"Network\":\"10.0.0.0/8\",\"SubnetLen\":\"24\"}",
		    "SubnetLen: \"24\" is not a whole number");
	refused_one("{\"Network\":\"10.0.0.0/8\",\"SubnetLen\":24.5}", "SubnetLen: 24.5 is not");
	refused_one("{\"Network\":\"10.0.0.0/8\",\"SubnetLen\":-1}", "SubnetLen: -1 is not");
	refused_one("{\"Network\":\"10.0.0.0/8\",\"SubnetLen\":33}", "SubnetLen: 33 is not");
	refused_one("{\"Network\":\"10.0.0.0/8\",\"IPv6SubnetLen\":129}", "IPv6SubnetLen: 129 is");
	refused_one("{\"Network\":\"10.0.0.0/8\",\"SubnetMin\":\"10.0\"}",
		    "SubnetMin: \"10.0\" is not an IPv4 address");
	refused_one("{\"Network\":\"10.0.0.0/8\",\"SubnetMax\":\"fd00::\"}",
		    "SubnetMax: \"fd00::\" is not an IPv4 address");
	refused_one("{\"Network\":\"10.0.0.0/8\",\"IPv6SubnetMin\":\"10.0.0.0\"}",
		    "IPv6SubnetMin: \"10.0.0.0\" is not an IPv6 address");
	refused_one("{\"Network\":\"10.0.0.0/8\",\"Backend\":\"vxlan\"}",
		    "Backend: \"vxlan\" is not an object");
	refused_one("{\"Network\":\"10.0.0.0/8\",\"Backend\":{}}", "Backend: Type is missing");
	refused_one("{\"Network\":\"10.0.0.0/8\",\"Backend\":{\"Type\":\"\"}}", "Type is missing");
	refused_one("{\"Network\":\"10.0.0.0/8\",\"Backend\":{\"Type\":3}}",
		    "Backend: Type: 3 is not a string");
	refused_one("{\"Network\":\"10.0.0.0/8\",\"Backend\":{\"Type\":\"virtual-extensible\"}}",
		    "Type: \"virtual-extensible\" is not the name of a backend");
}

/* The range of @network and @more members: what the checks make of it, as
 * `len min max`, or words of the error. */
static void range_one(enum ip_family family, const char *network, const char *more,
		      const char *want)
{
	const char *prefix = family == IP_V6 ? "IPv6" : "";
	char text[256], got[ERR_TEXT_MAX], min[IP_STRLEN], max[IP_STRLEN];
	struct netconf conf, before;
	struct err err = {""};
	int r;

	(void)snprintf(text, sizeof(text),
		       "{\"EnableIPv4\":%s,\"EnableIPv6\":%s,\"%sNetwork\":\"%s\"%s}",
		       family == IP_V4 ? "true" : "false", family == IP_V6 ? "true" : "false",
		       prefix, network, more);
	conf = parse_ok(text);
	before = conf;
	r = netconf_check_ranges(&conf, &err);
	if (r == 0) {
		(void)snprintf(got, sizeof(got), "%u %s %s", conf.range[family].subnet_len,
			       ip_format(&conf.range[family].subnet_min, min),
			       ip_format(&conf.range[family].subnet_max, max));
		if (strcmp(got, want) != 0)
			fail_msg("%s: %s, not %s", text, got, want);
	} else {
		assert_int_equal(r, -EINVAL);
		assert_memory_equal(&conf, &before, sizeof(conf)); /* nothing half done */
		if (!strstr(err.text, want))
			fail_msg("%s: \"%s\" lacks \"%s\"", text, err.text, want);
	}
	netconf_done(&conf);
}

static void test_range_v4(void **state)
{
	(void)state;
	range_one(IP_V4, "10.244.0.0/16", "", "24 10.244.1.0 10.244.255.0");
	range_one(IP_V4, "10.0.0.0/8", "", "24 10.0.1.0 10.255.255.0");
	range_one(IP_V4, "128.0.0.0/1", "", "24 128.0.1.0 255.255.255.0");
	range_one(IP_V4, "10.1.0.0/22", "", "24 10.1.1.0 10.1.3.0");
	range_one(IP_V4, "10.1.0.0/23", "", "25 10.1.0.128 10.1.1.128");
	range_one(IP_V4, "10.1.0.0/24", "", "26 10.1.0.64 10.1.0.192");
	range_one(IP_V4, "10.1.0.0/28", "", "30 10.1.0.4 10.1.0.12");
	range_one(IP_V4, "10.1.0.0/28", ",\"SubnetLen\":30", "30 10.1.0.4 10.1.0.12");
	range_one(IP_V4, "10.1.0.0/16", ",\"SubnetLen\":18", "18 10.1.64.0 10.1.192.0");
	range_one(IP_V4, "10.1.0.0/16", ",\"SubnetLen\":0", "24 10.1.1.0 10.1.255.0");
	range_one(IP_V4, "10.1.0.0/16", ",\"SubnetMin\":\"10.1.0.0\"", "24 10.1.0.0 10.1.255.0");
	range_one(IP_V4, "10.1.0.0/16", ",\"SubnetMin\":\"0.0.0.0\",\"SubnetMax\":\"10.1.9.0\"",
		  "24 10.1.1.0 10.1.9.0");
	range_one(IP_V4, "10.1.0.0/16", ",\"SubnetMin\":\"10.1.9.0\",\"SubnetMax\":\"10.1.9.0\"",
		  "24 10.1.9.0 10.1.9.0");
}

static void test_range_v4_refused(void **state)
{
	(void)state;
	range_one(IP_V4, "10.1.0.0/29", "", "Network: 10.1.0.0/29 is too small, must be /28");
	range_one(IP_V4, "10.1.0.0/32", ",\"SubnetLen\":30", "Network: 10.1.0.0/32 is too small");
	range_one(IP_V4, "10.1.0.0/16", ",\"SubnetLen\":31", "SubnetLen: 31 is too long");
	range_one(IP_V4, "10.1.0.0/16", ",\"SubnetLen\":17", "SubnetLen: 17 is too short, Network");
	range_one(IP_V4, "10.1.0.0/16", ",\"SubnetLen\":1", "at least 18");
	range_one(IP_V4, "10.1.0.0/16", ",\"SubnetMin\":\"10.2.0.0\"",
		  "SubnetMin: 10.2.0.0 is not inside Network 10.1.0.0/16");
	range_one(IP_V4, "10.1.0.0/16", ",\"SubnetMax\":\"10.0.255.0\"",
		  "SubnetMax: 10.0.255.0 is not inside Network 10.1.0.0/16");
	range_one(IP_V4, "10.1.0.0/16", ",\"SubnetMin\":\"10.1.5.1\"",
		  "SubnetMin: 10.1.5.1 is not the first address of a /24 subnet (10.1.5.0");
	range_one(IP_V4, "10.1.0.0/16", ",\"SubnetMax\":\"10.1.5.255\"",
		  "SubnetMax: 10.1.5.255 is not the first address of a /24 subnet (10.1.5.0");
	range_one(IP_V4, "10.1.0.0/16", ",\"SubnetMin\":\"10.1.9.0\",\"SubnetMax\":\"10.1.8.0\"",
		  "SubnetMin: 10.1.9.0 is above SubnetMax 10.1.8.0");
}

static void test_range_v6(void **state)
{
	(void)state;
	range_one(IP_V6, "fd00::/48", "", "64 fd00:0:0:1:: fd00:0:0:ffff::");
	range_one(IP_V6, "8000::/1", "", "64 8000:0:0:1:: ffff:ffff:ffff:ffff::");
	range_one(IP_V6, "fd00::/62", "", "64 fd00:0:0:1:: fd00:0:0:3::");
	range_one(IP_V6, "fd00::/63", "", "65 fd00::8000:0:0:0 fd00:0:0:1:8000::");
	range_one(IP_V6, "fd00::/124", "", "126 fd00::4 fd00::c");
	range_one(IP_V6, "fd00::/48", ",\"IPv6SubnetLen\":80",
		  "80 fd00::1:0:0:0 fd00:0:0:ffff:ffff::");
	range_one(IP_V6, "fd00::/48", ",\"IPv6SubnetMin\":\"fd00::\"", "64 fd00:: fd00:0:0:ffff::");
}

static void test_range_v6_refused(void **state)
{
	(void)state;
	range_one(IP_V6, "fd00::/125", "", "IPv6Network: fd00::/125 is too small, must be /124");
	range_one(IP_V6, "fd00::/48", ",\"IPv6SubnetLen\":127", "IPv6SubnetLen: 127 is too long");
	range_one(IP_V6, "fd00::/48", ",\"IPv6SubnetLen\":49", "IPv6SubnetLen: 49 is too short");
	range_one(IP_V6, "fd00::/48", ",\"IPv6SubnetMin\":\"fd01::\"",
		  "IPv6SubnetMin: fd01:: is not inside IPv6Network fd00::/48");
	range_one(IP_V6, "fd00::/48", ",\"IPv6SubnetMax\":\"fd01::\"",
		  "IPv6SubnetMax: fd01:: is not inside");
	range_one(IP_V6, "fd00::/48", ",\"IPv6SubnetMin\":\"fd00::1\"",
		  "IPv6SubnetMin: fd00::1 is not the first address of a /64");
	range_one(IP_V6, "fd00::/48", ",\"IPv6SubnetMax\":\"fd00::1\"",
		  "IPv6SubnetMax: fd00::1 is not the first address of a /64");
	range_one(IP_V6, "fd00::/48",
		  ",\"IPv6SubnetMin\":\"fd00:0:0:9::\",\"IPv6SubnetMax\":\"fd00:0:0:8::\"",
		  "IPv6SubnetMin: fd00:0:0:9:: is above IPv6SubnetMax");
}

/* What a family that is off says is nobody's business. */
static void test_range_off(void **state)
{
	struct netconf conf =
		parse_ok("{\"Network\":\"10.0.0.0/8\",\"IPv6Network\":\"fd00::/127\"}");

	(void)state;
	assert_int_equal(netconf_check_ranges(&conf, NULL), 0);
	assert_int_equal(netconf_check_ranges(&conf, NULL), 0); /* again: the same */
	assert_int_equal(conf.range[IP_V4].subnet_len, 24);
	assert_int_equal(conf.range[IP_V6].subnet_len, 0);
	netconf_done(&conf);
}

static void unknown_one(const char *text, const char *want)
{
	char buf[32];

	assert_int_equal(netconf_unknown_keys(text, strlen(text), buf, sizeof(buf)), *want != 0);
	assert_string_equal(buf, want);
}

static void test_unknown_keys(void **state)
{
	(void)state;
	unknown_one("{\"Network\":1,\"subnetlen\":2,\"IPv6SubnetMax\":3,\"BACKEND\":{\"x\":1},"
		    "\"EnableIPv4\":1,\"EnableIPv6\":1,\"EnableNFTables\":1}",
		    "");
	unknown_one("{\"Netwrok\":1,\"Network\":1,\"cniVersion\":2}", "Netwrok, cniVersion");
	unknown_one("{\"a\":1,\"bcdefghijklmnopqrstuvwxyz0123456789\":1,\"c\":2}",
		    "a, bcdefghijklmnopqrstuvwxyz012");
	unknown_one("not JSON", "");
	unknown_one("", "");
}

static void idle_one(const char *members, enum ip_family family, const char *want)
{
	char text[200], buf[24];
	struct netconf conf;

	(void)snprintf(text, sizeof(text), "{%s}", members);
	conf = parse_ok(text);
	assert_int_equal(netconf_idle_keep(&conf, buf, sizeof(buf)), family);
	assert_string_equal(buf, want);
	netconf_done(&conf);
}

static void test_idle_keep(void **state)
{
	(void)state;
	idle_one("\"Network\":\"10.5.0.0/16\",\"nonMasqueradeCIDRs\":[\"10.0.0.0/8\"]", IP_NONE,
		 "");
	idle_one("\"Network\":\"10.5.0.0/16\",\"nonMasqueradeCIDRs\":[\"fd00::/8\",\"10.0.0.0/8\","
		 "\"fc00::1/16\"]",
		 IP_V6, "fd00::/8, fc00::/16");
	idle_one("\"Network\":\"10.5.0.0/16\",\"nonMasqueradeCIDRs\":[\"fd00:1234:5678::/48\","
		 "\"fd00::/8\",\"fd00::/9\"]",
		 IP_V6, "fd00:1234:5678::/48, fd");
	idle_one("\"EnableIPv4\":false,\"EnableIPv6\":true,\"IPv6Network\":\"fd00:5::/48\","
		 "\"nonMasqueradeCIDRs\":[\"fd00::/8\",\"10.0.0.0/8\"]",
		 IP_V4, "10.0.0.0/8");
}

static void test_limit(void **state)
{
	_cleanup_free_ char *text = mem_alloc(NETCONF_MAX_BYTES + 2, 1);
	struct netconf conf;
	struct err err;

	(void)state;
	memset(text, ' ', NETCONF_MAX_BYTES + 1);
	assert_int_equal(netconf_parse(text, NETCONF_MAX_BYTES + 1, WHAT, &conf, &err), -EINVAL);
	assert_non_null(strstr(err.text, "longer than"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),   cmocka_unit_test(test_keep),
		cmocka_unit_test(test_everything), cmocka_unit_test(test_ipv6_only),
		cmocka_unit_test(test_refused),    cmocka_unit_test(test_refused_values),
		cmocka_unit_test(test_range_v4),   cmocka_unit_test(test_range_v4_refused),
		cmocka_unit_test(test_range_v6),   cmocka_unit_test(test_range_v6_refused),
		cmocka_unit_test(test_range_off),  cmocka_unit_test(test_unknown_keys),
		cmocka_unit_test(test_idle_keep),  cmocka_unit_test(test_limit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
