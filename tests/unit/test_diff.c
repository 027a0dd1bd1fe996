/* SPDX-License-Identifier: Apache-2.0 */
/* test_diff.c - decisions: what to do with an entry, a device, a stranger's route */
#include "reconcile/diff.h"

#include "base/mem.h"
#include "messages.h"

#include <linux/rtnetlink.h>

#define VXLAN 2

static void test_item(void **state)
{
	static const struct {
		uint16_t refs;
		bool has_seen, same, ours, may_remove;
		enum diff_action action;
	} rows[] = {
		{1, true, true, true, true, DIFF_NONE},
		{1, true, true, false, false, DIFF_NONE},
		{1, true, false, false, false, DIFF_SET}, /* a stranger in our place */
		{1, true, false, true, false, DIFF_SET},
		{2, false, false, false, false, DIFF_SET},
		{0, true, false, true, false, DIFF_NONE}, /* unknown is not empty */
		{0, true, false, true, true, DIFF_DELETE},
		{0, true, false, false, true, DIFF_FORGET},
		{0, false, false, false, true, DIFF_FORGET},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct item item = {
			.refs = rows[i].refs, .has_seen = rows[i].has_seen, .ours = rows[i].ours};

		item.want.protocol = ROUTE_PROTOCOL_WEFT;
		item.seen.protocol = rows[i].same ? ROUTE_PROTOCOL_WEFT : RTPROT_BOOT;
		if (diff_item(&item, rows[i].may_remove) != rows[i].action)
			fail_msg("row %zu is not %d", i, rows[i].action);
	}
}

static void test_routes_that_are_ours(void **state)
{
	static const struct {
		const char *dst, *gateway;
		uint8_t device, protocol;
		bool ours;
	} rows[] = {
		{"10.5.3.0/24", "10.5.3.0", VXLAN, ROUTE_PROTOCOL_WEFT, true},
		{"10.5.3.0/24", "192.0.2.3", DEVICE_UPLINK, ROUTE_PROTOCOL_WEFT, true},
		{"10.5.3.0/24", NULL, DEVICE_NONE, ROUTE_PROTOCOL_WEFT, true},
		{"10.4.3.0/24", "192.0.2.3", DEVICE_UPLINK, ROUTE_PROTOCOL_WEFT, false},
		/* of the original flannel: on its device; host-gw and DirectRouting */
		{"10.5.3.0/24", "10.5.3.0", VXLAN, RTPROT_BOOT, true},
		{"10.5.3.0/24", "192.0.2.3", DEVICE_UPLINK, RTPROT_BOOT, true},
		{"fc00:5:3::/64", "2001:db8::3", DEVICE_UPLINK, RTPROT_BOOT, true},
		{"10.6.3.0/24", "192.0.2.3", DEVICE_UPLINK, RTPROT_BOOT, true}, /* network before */
		/* the kernel's and other people's */
		{"10.5.1.0/32", NULL, VXLAN, RTPROT_KERNEL, false},
		{"10.5.3.0/25", "192.0.2.3", DEVICE_UPLINK, RTPROT_BOOT, false},
		{"10.5.1.0/24", NULL, DEVICE_UPLINK, RTPROT_BOOT, false},
		{"10.5.3.0/24", "192.0.2.3", DEVICE_NONE, RTPROT_BOOT, false},
		{"10.5.3.0/24", "192.0.2.3", DEVICE_UPLINK, RTPROT_STATIC, false},
		{"10.5.3.0/24", "192.0.2.3", DEVICE_UPLINK, 186 /* BGP */, false},
		{"10.0.0.0/8", "192.0.2.3", DEVICE_UPLINK, ROUTE_PROTOCOL_WEFT, false},
		{"192.168.0.0/24", "192.0.2.3", DEVICE_UPLINK, RTPROT_BOOT, false},
	};
	struct diff_claims claims = {
		.network = {messages_net("10.5.0.0/16"), messages_net("fc00:5::/32"),
			    messages_net("10.6.0.0/16")},
		.n = 3,
		.subnet_len = {[IP_V4] = 24, [IP_V6] = 64},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct ip_net dst = messages_net(rows[i].dst);
		struct ip gateway = messages_ip(rows[i].gateway);
		struct entry e = entry_route(rows[i].device, &dst, &gateway, false);

		e.value.protocol = rows[i].protocol;
		if (diff_route_is_ours(&claims, &e) != rows[i].ours)
			fail_msg("row %zu: %s", i, rows[i].dst);
	}
	claims.n = 0;
	assert_false(diff_route_is_ours(&claims, &(struct entry){0}));
}

static struct link a_vxlan(void)
{
	return (struct link){
		.name = "flannel.1",
		.kind = "vxlan",
		.mtu = 1450,
		.mac = {{2, 0, 0, 0xab, 0xcd, 0xef}},
		.up = true,
		.vxlan = {.vni = 1,
			  .port = 8472,
			  .lower_ifindex = 7,
			  .local = messages_ip("192.0.2.1")},
	};
}

static void expect(const struct link *want, const struct link *seen, enum diff_link verdict,
		   const char *words)
{
	char why[256];

	assert_int_equal(diff_link(want, seen, why, sizeof(why)), verdict);
	assert_string_equal(why, words);
}

static void test_link(void **state)
{
	const struct link want = a_vxlan();
	struct link seen = want;

	(void)state;
	expect(&want, NULL, LINK_CREATE, "");
	seen.ifindex = 12;
	expect(&want, &seen, LINK_SAME, "");

	seen = want;
	seen.mtu = 1400;
	expect(&want, &seen, LINK_CHANGE, "MTU 1400, not 1450");
	seen = want;
	seen.mac.b[5] = 0;
	expect(&want, &seen, LINK_CHANGE, "MAC 02:00:00:ab:cd:00, not 02:00:00:ab:cd:ef");
	seen = want;
	seen.up = false;
	expect(&want, &seen, LINK_CHANGE, "down");
	seen = want;
	seen.alias[0] = 'x';
	expect(&want, &seen, LINK_CHANGE, "alias");

	seen = want;
	seen.vxlan.local = messages_ip("192.0.2.9");
	expect(&want, &seen, LINK_REKIND, "local address 192.0.2.9, not 192.0.2.1");
	seen = want;
	seen.vxlan.lower_ifindex = 8;
	expect(&want, &seen, LINK_REKIND, "another uplink");
	seen = want;
	seen.vxlan.learning = true;
	expect(&want, &seen, LINK_REKIND, "learning on");

	seen = want;
	seen.vxlan.vni = 2;
	expect(&want, &seen, LINK_RECREATE, "VNI 2, not 1");
	seen = want;
	seen.vxlan.port = 4789;
	expect(&want, &seen, LINK_RECREATE, "port 4789, not 8472");
	seen = want;
	seen.vxlan.gbp = true;
	expect(&want, &seen, LINK_RECREATE, "GBP on");
	seen = want;
	seen.vxlan.local = messages_ip("2001:db8::1");
	expect(&want, &seen, LINK_RECREATE, "local address 2001:db8::1, not 192.0.2.1");
	seen = want;
	memcpy(seen.kind, "dummy", 6);
	expect(&want, &seen, LINK_RECREATE, "kind dummy, not vxlan");
	*seen.kind = '\0';
	expect(&want, &seen, LINK_RECREATE, "kind unknown, not vxlan");

	/* The strongest means counts, every word is said. */
	seen = want;
	seen.vxlan.vni = 2;
	seen.vxlan.lower_ifindex = 8;
	seen.mtu = 1400;
	seen.up = false;
	expect(&want, &seen, LINK_RECREATE,
	       "VNI 2, not 1, another uplink, MTU 1400, not 1450, down");
}

static void test_ipip(void **state)
{
	const struct link want = {
		.kind = "ipip",
		.up = true,
		.mtu = 1472,
		.ipip = {.local = messages_ip("192.0.2.1"),
			 .ttl = 64,
			 .encap = 1,
			 .encap_flags = 1,
			 .source_port = 8285,
			 .port = 8285},
	};
	const struct {
		struct link_ipip ipip;
		const char *why;
	} rows[] = {
		{{want.ipip.local, {0}, 0, 64, false, 1, 1, 8285, 8285}, ""},
		{{messages_ip("192.0.2.9"), {0}, 0, 64, false, 1, 1, 8285, 8285},
		 "local address 192.0.2.9, not 192.0.2.1"},
		{{want.ipip.local, want.ipip.local, 0, 64, false, 1, 1, 8285, 8285},
		 "a remote address"},
		{{want.ipip.local, {0}, 7, 64, false, 1, 1, 8285, 8285}, "another uplink"},
		{{want.ipip.local, {0}, 0, 5, false, 1, 1, 8285, 8285}, "TTL 5, not 64"},
		{{want.ipip.local, {0}, 0, 64, true, 1, 1, 8285, 8285}, "path MTU discovery"},
		{{want.ipip.local, {0}, 0, 64, false, 2, 1, 8285, 8285}, "another encapsulation"},
		{{want.ipip.local, {0}, 0, 64, false, 1, 0, 8285, 8285}, "another encapsulation"},
		{{want.ipip.local, {0}, 0, 64, false, 1, 1, 8285, 4000},
		 "ports 8285 and 4000, not 8285 and 8285"},
		{{want.ipip.local, {0}, 0, 64, false, 1, 1, 0, 8285},
		 "ports 0 and 8285, not 8285 and 8285"},
	};
	struct link seen = want;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		seen.ipip = rows[i].ipip;
		expect(&want, &seen, i ? LINK_REKIND : LINK_SAME, rows[i].why);
	}
	seen.mtu = 1400;
	seen.ipip.ttl = 5;
	expect(&want, &seen, LINK_REKIND,
	       "TTL 5, not 64, ports 0 and 8285, not 8285 and 8285, MTU 1400, not 1472");
	memcpy(seen.kind, "tun", 4);
	expect(&want, &seen, LINK_RECREATE, "kind tun, not ipip");
}

static void test_words_are_cut(void **state)
{
	struct link want = a_vxlan(), seen = {.kind = "vxlan"};
	char why[24];

	(void)state;
	assert_int_equal(diff_link(&want, &seen, why, sizeof(why)), LINK_RECREATE);
	assert_string_equal(why, "VNI 0, not 1, port 0, n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_item),          cmocka_unit_test(test_routes_that_are_ours),
		cmocka_unit_test(test_link),          cmocka_unit_test(test_ipip),
		cmocka_unit_test(test_words_are_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
