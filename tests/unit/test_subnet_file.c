/* SPDX-License-Identifier: Apache-2.0 */
/* test_subnet_file.c - subnet.env: what we write, what others wrote */
#include "model/subnet_file.h"

#include "base/mem.h"

#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define V4   "FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n"
#define V6   "FLANNEL_IPV6_NETWORK=fd00::/48\nFLANNEL_IPV6_SUBNET=fd00:0:0:1::1/64\n"
#define REST "FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"

static struct subnet_file parse_ok(const char *text)
{
	struct subnet_file file;
	struct err err = {""};

	if (subnet_file_parse(text, &file, &err) != 0)
		fail_msg("%s: %s", text, err.text);
	return file;
}

/* @text reads, and is written as @canonical. */
static void parse_one(const char *text, const char *canonical)
{
	struct subnet_file file = parse_ok(text);
	_cleanup_free_ char *written = subnet_file_format(&file);

	assert_string_equal(written, canonical);
}

static void test_members(void **state)
{
	struct subnet_file file = parse_ok(V4 V6 "FLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n");
	char buf[IP_NET_STRLEN];

	(void)state;
	assert_string_equal(ip_net_format(&file.network[IP_V4], buf), "10.244.0.0/16");
	assert_string_equal(ip_net_format(&file.subnet[IP_V4], buf), "10.244.1.0/24");
	assert_string_equal(ip_net_format(&file.network[IP_V6], buf), "fd00::/48");
	assert_string_equal(ip_net_format(&file.subnet[IP_V6], buf), "fd00:0:0:1::/64");
	assert_int_equal(file.mtu, 1450);
	assert_false(file.ip_masq);
	file = parse_ok(V4 REST);
	assert_true(file.ip_masq);
	assert_false(ip_net_is_set(&file.network[IP_V6]) || ip_net_is_set(&file.subnet[IP_V6]));
}

static void test_ours(void **state)
{
	(void)state;
	parse_one(V4 REST, V4 REST);
	parse_one(V6 REST, V6 REST);
	parse_one(V4 V6 REST, V4 V6 REST);
	parse_one(V4 "FLANNEL_MTU=4294967295\nFLANNEL_IPMASQ=false\n",
		  V4 "FLANNEL_MTU=4294967295\nFLANNEL_IPMASQ=false\n");
	parse_one("FLANNEL_NETWORK=10.0.0.0/8\nFLANNEL_SUBNET=10.1.2.4/32\n" REST,
		  "FLANNEL_NETWORK=10.0.0.0/8\nFLANNEL_SUBNET=10.1.2.4/32\n" REST);
	parse_one("FLANNEL_NETWORK=10.0.0.0/8\nFLANNEL_SUBNET=10.1.2.3/31\n" REST,
		  "FLANNEL_NETWORK=10.0.0.0/8\nFLANNEL_SUBNET=10.1.2.3/31\n" REST);
}

static void test_single_address(void **state)
{
	struct subnet_file file =
		parse_ok("FLANNEL_NETWORK=10.0.0.0/8\nFLANNEL_SUBNET=10.1.2.4/32\n" REST);
	char buf[IP_NET_STRLEN];

	(void)state;
	assert_string_equal(ip_net_format(&file.subnet[IP_V4], buf), "10.1.2.3/32");
}

static void test_others(void **state)
{
	(void)state;
	parse_one("FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n" V6 V4, V4 V6 REST);
	parse_one("# by hand\r\n\r\n  FLANNEL_NETWORK = \"10.244.0.0/16\" \r\n"
		  "FLANNEL_SUBNET='10.244.1.1/24'\r\nFLANNEL_MTU=\t1450\nFLANNEL_IPMASQ=\"true\"",
		  V4 REST);
	parse_one(V4 REST "OTHER=thing=more\nEMPTY=\n=\n", V4 REST);
	parse_one("FLANNEL_MTU=9000\n" V4 REST, V4 REST); /* the last one counts, as in a shell */
	/* Host bits, or a first address that somebody changed by hand. */
	parse_one("FLANNEL_NETWORK=10.244.7.7/16\nFLANNEL_SUBNET=10.244.1.99/24\n" REST, V4 REST);
}

#define LIST "FLANNEL_NETWORK=10.244.0.0/16,10.245.0.0/16,10.246.0.0/16\n"

static void test_several_networks(void **state)
{
	struct subnet_file file = parse_ok(LIST V4 REST);
	char buf[IP_NET_STRLEN];

	(void)state;
	assert_int_equal(file.n_more[IP_V4], 0);
	file = parse_ok(V4 V6 LIST "FLANNEL_IPV6_NETWORK=fd00::/48,fd01::/48\n" REST);
	assert_string_equal(ip_net_format(&file.network[IP_V4], buf), "10.244.0.0/16");
	assert_int_equal(file.n_more[IP_V4], 2);
	assert_string_equal(ip_net_format(&file.more[IP_V4][0], buf), "10.245.0.0/16");
	assert_string_equal(ip_net_format(&file.more[IP_V4][1], buf), "10.246.0.0/16");
	assert_int_equal(file.n_more[IP_V6], 1);
	assert_string_equal(ip_net_format(&file.more[IP_V6][0], buf), "fd01::/48");
	parse_one(LIST "FLANNEL_SUBNET=10.244.1.1/24\n" REST,
		  LIST "FLANNEL_SUBNET=10.244.1.1/24\n" REST);
	/* Each once, without host bits. */
	parse_one("FLANNEL_NETWORK=10.244.0.0/16, 10.245.0.0/16,10.244.7.7/16,10.246.0.1/16,"
		  "10.245.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n" REST,
		  LIST "FLANNEL_SUBNET=10.244.1.1/24\n" REST);
}

static void append_network(char *text, size_t size, int i)
{
	size_t n = strlen(text);

	(void)snprintf(text + n, size - n, ",10.%d.0.0/16", i);
}

static void test_many_networks(void **state)
{
	char text[1024] = V4 REST "FLANNEL_NETWORK=10.0.0.0/16";
	struct subnet_file file;
	struct err err = {""};

	(void)state;
	for (int i = 1; i < SUBNET_FILE_NETWORKS_MAX; i++)
		append_network(text, sizeof(text), i);
	file = parse_ok(text);
	assert_int_equal(file.n_more[IP_V4], SUBNET_FILE_NETWORKS_MAX - 1);
	append_network(text, sizeof(text), 3);
	assert_int_equal(subnet_file_parse(text, &file, &err), 0);
	append_network(text, sizeof(text), 99);
	assert_int_equal(subnet_file_parse(text, &file, &err), -EINVAL);
	assert_string_equal(err.text, "line 5: more than 16 networks in FLANNEL_NETWORK");
}

static void refused_one(const char *text, const char *words)
{
	struct subnet_file file = {.mtu = 77};
	struct err err = {""};

	if (subnet_file_parse(text, &file, &err) != -EINVAL)
		fail_msg("%s was taken", text);
	assert_int_equal(file.mtu, 77);
	if (!strstr(err.text, words))
		fail_msg("%s: \"%s\" lacks \"%s\"", text, err.text, words);
}

static void test_refused_lines(void **state)
{
	(void)state;
	refused_one(V4 "rubbish\n" REST, "line 3: \"rubbish\" is not KEY=VALUE");
	refused_one("FLANNEL_NETWORK", "line 1: \"FLANNEL_NETWORK\" is not KEY=VALUE");
	refused_one("FLANNEL_NETWORK=10.244.0.0\n",
		    "line 1: \"10.244.0.0\" is not a value of FLANNEL_NETWORK");
	refused_one("FLANNEL_NETWORK=10.244.0.0/16,10.245.0.0\n",
		    "\"10.244.0.0/16,10.245.0.0\" is not a value of FLANNEL_NETWORK");
	refused_one("FLANNEL_NETWORK=10.244.0.0/16,\n", "not a value of FLANNEL_NETWORK");
	refused_one("FLANNEL_NETWORK=10.244.0.0/16,fd00::/48\n", "not a value of FLANNEL_NETWORK");
	refused_one("FLANNEL_NETWORK=\n", "line 1: \"\" is not a value of FLANNEL_NETWORK");
	refused_one("FLANNEL_NETWORK=\"10.244.0.0/16'\n", "FLANNEL_NETWORK");
	refused_one("FLANNEL_SUBNET=fd00::1/64\n",
		    "\"fd00::1/64\" is not a value of FLANNEL_SUBNET");
	refused_one("\nFLANNEL_IPV6_SUBNET=10.0.0.1/24\n", "line 2");
	refused_one("FLANNEL_MTU=\n", "\"\" is not a value of FLANNEL_MTU");
	refused_one("FLANNEL_MTU=-1\n", "\"-1\" is not a value of FLANNEL_MTU");
	refused_one("FLANNEL_MTU=1450x\n", "\"1450x\" is not a value of FLANNEL_MTU");
	refused_one("FLANNEL_MTU=4294967296\n", "4294967296");
	refused_one("FLANNEL_MTU=99999999999999999999999\n", "FLANNEL_MTU");
	refused_one("FLANNEL_IPMASQ=yes\n", "\"yes\" is not a value of FLANNEL_IPMASQ");
}

static void test_refused_incomplete(void **state)
{
	(void)state;
	refused_one("", "missing: FLANNEL_NETWORK, FLANNEL_SUBNET, FLANNEL_MTU, FLANNEL_IPMASQ");
	refused_one(REST, "missing: FLANNEL_NETWORK, FLANNEL_SUBNET");
	refused_one(V4, "missing: FLANNEL_MTU, FLANNEL_IPMASQ");
	refused_one(V6 "FLANNEL_MTU=1450\n", "missing: FLANNEL_IPMASQ");
	refused_one(V4 "FLANNEL_IPMASQ=true\n", "missing: FLANNEL_MTU");
	refused_one("FLANNEL_SUBNET=10.244.1.1/24\n" REST, "missing: FLANNEL_NETWORK");
	refused_one("FLANNEL_IPV6_NETWORK=fd00::/48\n" V4 REST, "missing: FLANNEL_IPV6_SUBNET");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_members),          cmocka_unit_test(test_ours),
		cmocka_unit_test(test_single_address),   cmocka_unit_test(test_others),
		cmocka_unit_test(test_several_networks), cmocka_unit_test(test_many_networks),
		cmocka_unit_test(test_refused_lines),    cmocka_unit_test(test_refused_incomplete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
