/* SPDX-License-Identifier: Apache-2.0 */
/* test_ip.c - addresses and prefixes: text, numbers, sets */
#include "net/ip.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

static struct ip ip_of(const char *text)
{
	struct ip ip;

	if (ip_parse(text, &ip) < 0)
		fail_msg("%s does not parse", text);
	return ip;
}

static struct ip_net net_of(const char *text)
{
	struct ip_net net;

	if (ip_net_parse(text, &net) < 0)
		fail_msg("%s does not parse", text);
	return net;
}

/* @text reads as an address whose own text is @canonical; NULL: does not read. */
static void parse_one(const char *text, const char *canonical)
{
	struct ip ip = {.family = 77};
	char buf[IP_STRLEN];

	if (!canonical) {
		if (ip_parse(text, &ip) != -EINVAL || ip.family != 77)
			fail_msg("\"%s\" was taken", text);
		return;
	}
	ip = ip_of(text);
	assert_string_equal(ip_format(&ip, buf), canonical);
}

static void test_parse(void **state)
{
	(void)state;
	parse_one("10.5.52.1", "10.5.52.1");
	parse_one("0.0.0.0", "0.0.0.0");
	parse_one("255.255.255.255", "255.255.255.255");
	parse_one("::", "::");
	parse_one("fc00:1::", "fc00:1::");
	parse_one("2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1");
	parse_one("fe80::1", "fe80::1");
	parse_one("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8");
	parse_one("1:0:3:4:5:6:7:8", "1:0:3:4:5:6:7:8"); /* RFC 5952: no :: for one group */
	parse_one("::ffff:10.0.0.1", "::ffff:10.0.0.1");
	parse_one("", NULL);
	parse_one("10.5.52", NULL);
	parse_one("10.5.52.1.1", NULL);
	parse_one("10.5.52.256", NULL);
	parse_one("10.5.52.01", NULL);
	parse_one("0x0a.5.52.1", NULL);
	parse_one(" 10.5.52.1", NULL);
	parse_one("10.5.52.1 ", NULL);
	parse_one("10.5.52.1/24", NULL);
	parse_one("fe80::1%eth0", NULL);
	parse_one("1::2::3", NULL);
	parse_one("12345::", NULL);
	parse_one(":", NULL);
	parse_one("node-1", NULL);
}

static void test_no_residue(void **state)
{
	struct ip v6 = ip_of("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), a, b;

	(void)state;
	a = v6;
	assert_int_equal(ip_parse("10.0.0.1", &a), 0);
	b = ip_from_num(IP_V4, 0x0a000001);
	assert_memory_equal(&a, &b, sizeof(a));
	a = v6;
	assert_int_equal(ip_from_bytes("\x0a\0\0\x01", 4, &a), 0);
	assert_memory_equal(&a, &b, sizeof(a));
}

static void test_from_bytes(void **state)
{
	struct ip ip;
	char buf[IP_STRLEN];

	(void)state;
	assert_int_equal(ip_from_bytes("\xfc\0\0\1\0\0\0\0\0\0\0\0\0\0\0\2", 16, &ip), 0);
	assert_string_equal(ip_format(&ip, buf), "fc00:1::2");
	assert_int_equal(ip_from_bytes("", 0, &ip), -EINVAL);
	assert_int_equal(ip_from_bytes("12345", 5, &ip), -EINVAL);
}

static void number_one(const char *text, uint64_t high, uint64_t low)
{
	struct ip ip = ip_of(text), back;
	ip_num num = ip_to_num(&ip);

	assert_true(num == ((ip_num)high << 64 | low));
	back = ip_from_num(ip.family, num);
	assert_true(ip_equal(&ip, &back));
}

static void test_numbers(void **state)
{
	(void)state;
	number_one("0.0.0.0", 0, 0);
	number_one("10.5.52.1", 0, 0x0a053401);
	number_one("255.255.255.255", 0, 0xffffffff);
	number_one("::1", 0, 1);
	number_one("fc00:1::2", 0xfc00000100000000, 2);
	number_one("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", UINT64_MAX, UINT64_MAX);
}

static void test_families(void **state)
{
	struct ip unset = {0};
	struct ip_net unset_net = {0};
	char buf[IP_NET_STRLEN];
	int n = 0;

	(void)state;
	assert_int_equal(ip_bits(IP_V4), 32);
	assert_int_equal(ip_bits(IP_V6), 128);
	assert_int_equal(ip_bits(IP_NONE), 0);
	assert_int_equal(ip_bytes(IP_V4), 4);
	assert_int_equal(ip_bytes(IP_V6), 16);
	assert_int_equal(ip_af(IP_V6), AF_INET6);
	assert_int_equal(ip_family_from_af(AF_INET), IP_V4);
	assert_int_equal(ip_family_from_af(AF_UNSPEC), IP_NONE);
	assert_int_equal(ip_family_from_af(AF_UNIX), IP_NONE);
	assert_string_equal(ip_family_name(IP_V6), "IPv6");
	assert_string_equal(ip_format(&unset, buf), "none");
	assert_string_equal(ip_net_format(&unset_net, buf), "none");
	assert_false(ip_is_set(&unset) || ip_net_is_set(&unset_net));
	IP_FOREACH_FAMILY (f)
		n += (int)f;
	assert_int_equal(n, IP_V4 + IP_V6);
}

static void unicast_one(const char *text, bool global, bool link_local)
{
	struct ip ip = ip_of(text);

	if (ip_is_global_unicast(&ip) != global || ip_is_link_local(&ip) != link_local)
		fail_msg("%s: global %d, link-local %d", text, !global, !link_local);
}

static void test_unicast(void **state)
{
	struct ip unset = {0};

	(void)state;
	unicast_one("192.168.64.3", true, false);
	unicast_one("fc00::1", true, false);
	unicast_one("2001:db8::1", true, false);
	unicast_one("0.0.0.0", false, false);
	unicast_one("::", false, false);
	unicast_one("127.0.0.1", false, false);
	unicast_one("::1", false, false);
	unicast_one("169.254.1.1", false, true);
	unicast_one("fe80::1", false, true);
	unicast_one("febf::1", false, true);
	unicast_one("fec0::1", true, false);
	unicast_one("224.0.0.1", false, false);
	unicast_one("239.255.255.255", false, false);
	unicast_one("ff02::1", false, false);
	unicast_one("255.255.255.255", false, false);
	assert_false(ip_is_global_unicast(&unset));
	assert_false(ip_is_link_local(&unset));
}

/* NULL @base: does not read. */
static void net_one(const char *text, const char *base, const char *last)
{
	struct ip_net net = {.len = 77}, cleared;
	struct ip end;
	char buf[IP_NET_STRLEN];

	if (!base) {
		if (ip_net_parse(text, &net) != -EINVAL || net.len != 77)
			fail_msg("\"%s\" was taken", text);
		return;
	}
	net = net_of(text);
	assert_string_equal(ip_net_format(&net, buf), text);
	cleared = ip_net_base(&net);
	assert_string_equal(ip_net_format(&cleared, buf), base);
	end = ip_net_last(&net);
	assert_string_equal(ip_format(&end, buf), last);
}

static void test_nets(void **state)
{
	(void)state;
	net_one("10.5.0.0/16", "10.5.0.0/16", "10.5.255.255");
	net_one("10.5.52.7/16", "10.5.0.0/16", "10.5.255.255");
	net_one("10.5.52.7/32", "10.5.52.7/32", "10.5.52.7");
	net_one("10.5.52.7/31", "10.5.52.6/31", "10.5.52.7");
	net_one("255.1.2.3/0", "0.0.0.0/0", "255.255.255.255");
	net_one("fc00:1::5/64", "fc00:1::/64", "fc00:1::ffff:ffff:ffff:ffff");
	net_one("fc00::1/0", "::/0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
	net_one("fc00::1/128", "fc00::1/128", "fc00::1");
	net_one("fc00::ffff/121", "fc00::ff80/121", "fc00::ffff");
	net_one("", NULL, NULL);
	net_one("10.5.0.0", NULL, NULL);
	net_one("10.5.0.0/", NULL, NULL);
	net_one("/16", NULL, NULL);
	net_one("10.5.0.0/33", NULL, NULL);
	net_one("10.5.0.0/-1", NULL, NULL);
	net_one("10.5.0.0/+8", NULL, NULL);
	net_one("10.5.0.0/ 8", NULL, NULL);
	net_one("10.5.0.0/8 ", NULL, NULL);
	net_one("10.5.0.0/8/8", NULL, NULL);
	net_one("10.5.0.0/0000000000000000016", NULL, NULL);
	net_one("10.5.0.0/4294967304", NULL, NULL);
	net_one("fc00::/129", NULL, NULL);
	net_one("fc00::/256", NULL, NULL);
	net_one("1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111/8", NULL, NULL);
}

static void relation_one(const char *a_text, const char *b_text, bool contains, bool overlaps)
{
	struct ip_net a = net_of(a_text), b = net_of(b_text);

	if (ip_net_contains_net(&a, &b) != contains)
		fail_msg("%s contains %s: %d", a_text, b_text, !contains);
	if (ip_net_overlaps(&a, &b) != overlaps || ip_net_overlaps(&b, &a) != overlaps)
		fail_msg("%s overlaps %s: %d", a_text, b_text, !overlaps);
}

static void test_relations(void **state)
{
	struct ip_net unset = {0}, all = net_of("0.0.0.0/0");
	struct ip unset_ip = {0}, inside = ip_of("10.5.255.255"), outside = ip_of("10.6.0.0");
	struct ip_net net = net_of("10.5.0.0/16"), host = ip_net_host(&inside);

	(void)state;
	relation_one("10.5.0.0/16", "10.5.52.0/24", true, true);
	relation_one("10.5.52.0/24", "10.5.0.0/16", false, true);
	relation_one("10.5.0.0/16", "10.5.0.0/16", true, true);
	relation_one("10.5.0.0/16", "10.6.0.0/16", false, false);
	relation_one("0.0.0.0/0", "10.6.0.0/16", true, true);
	relation_one("0.0.0.0/0", "fc00::/16", false, false);
	relation_one("::/0", "10.0.0.0/8", false, false);
	relation_one("fc00::/48", "fc00:0:0:1::/64", true, true);
	relation_one("fc00::/48", "fc00:0:1::/64", false, false);
	assert_true(ip_net_contains(&net, &inside));
	assert_false(ip_net_contains(&net, &outside));
	assert_false(ip_net_contains(&all, &unset_ip));
	assert_false(ip_net_contains(&unset, &unset_ip));
	assert_false(ip_net_overlaps(&unset, &unset));
	assert_int_equal(host.len, 32);
	assert_true(ip_net_contains(&host, &inside));
	assert_true(ip_net_equal(&net, &net));
	assert_false(ip_net_equal(&net, &host));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),      cmocka_unit_test(test_no_residue),
		cmocka_unit_test(test_from_bytes), cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_families),   cmocka_unit_test(test_unicast),
		cmocka_unit_test(test_nets),       cmocka_unit_test(test_relations),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
