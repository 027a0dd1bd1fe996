/* SPDX-License-Identifier: Apache-2.0 */
/* test_route.c - messages about routes: what is encoded is what is parsed */
#include "kernel/route.h"

#include "base/mem.h"
#include "messages.h"

#include <errno.h>
#include <linux/rtnetlink.h>

static char buf[1024] __attribute__((aligned(8)));

static void *clean(void)
{
	return memset(buf, 0, sizeof(buf));
}

static struct route a_route(const char *dst, int ifindex, const char *gateway)
{
	struct route route = {
		.dst = messages_net(dst),
		.type = RTN_UNICAST,
		.protocol = ROUTE_PROTOCOL_WEFT,
		.n_nexthops = 1,
	};

	route.nexthop[0] = (struct route_nexthop){
		.ifindex = ifindex, .gateway = messages_ip(gateway), .onlink = gateway != NULL};
	return route;
}

static void check_equal(const struct route *a, const struct route *b)
{
	assert_true(ip_net_equal(&a->dst, &b->dst));
	assert_int_equal(a->metric, b->metric);
	assert_int_equal(a->type, b->type);
	assert_int_equal(a->protocol, b->protocol);
	assert_true(ip_equal(&a->source, &b->source));
	assert_int_equal(a->n_nexthops, b->n_nexthops);
	for (unsigned i = 0; i < a->n_nexthops; i++) {
		assert_int_equal(a->nexthop[i].ifindex, b->nexthop[i].ifindex);
		assert_true(ip_equal(&a->nexthop[i].gateway, &b->nexthop[i].gateway));
		assert_int_equal(a->nexthop[i].onlink, b->nexthop[i].onlink);
	}
}

static void test_round_trip(void **state)
{
	static const struct {
		const char *dst, *gateway, *source;
		uint32_t metric;
		bool blackhole;
	} rows[] = {
		{"10.5.3.0/24", "10.5.3.0", NULL, 0, false},
		{"10.5.3.0/24", "192.0.2.3", "192.0.2.1", 7, false},
		{"10.5.0.0/16", NULL, NULL, 0, false},
		{"fc00:5:3::/64", "fc00:5:3::", NULL, 1024, false},
		{"10.5.1.0/24", NULL, NULL, 4096, true},
		{"fc00:5:1::/64", NULL, NULL, 4096, true},
		{"0.0.0.0/0", "192.0.2.254", NULL, 0, false},
		{"::/0", "fe80::1", NULL, 1024, false},
	};
	struct route want, got;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		want = a_route(rows[i].dst, 7, rows[i].gateway);
		want.metric = rows[i].metric;
		want.source = messages_ip(rows[i].source);
		if (rows[i].blackhole) {
			want.type = RTN_BLACKHOLE;
			want.n_nexthops = 0;
		}
		assert_int_equal(route_parse(route_put_replace(clean(), &want), &got), 0);
		check_equal(&got, &want);
		assert_int_equal(got.table, RT_TABLE_MAIN);
		assert_int_equal(got.scope, rows[i].gateway || rows[i].blackhole ? RT_SCOPE_UNIVERSE
										 : RT_SCOPE_LINK);
		assert_int_equal(route_parse(route_put_delete(clean(), &want), &got), 0);
		check_equal(&got, &want);
		assert_int_equal(got.scope, RT_SCOPE_NOWHERE);
	}
}

/* A pod's routes have the scope that they are given, also without a gateway. */
static void test_add_beside(void **state)
{
	static const char *const gateways[] = {"10.5.7.1", NULL};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(gateways); i++) {
		struct route want = a_route("10.5.0.0/16", 2, gateways[i]), got;
		const struct nlmsghdr *msg;

		want.scope = RT_SCOPE_UNIVERSE;
		want.protocol = RTPROT_BOOT;
		msg = route_put_add_beside(clean(), &want);
		assert_int_equal(msg->nlmsg_flags, NLM_F_CREATE);
		assert_int_equal(route_parse(msg, &got), 0);
		check_equal(&got, &want);
		assert_int_equal(got.scope, RT_SCOPE_UNIVERSE);
		assert_int_equal(got.table, RT_TABLE_MAIN);
	}
}

/* One nexthop of a multipath route. */
static void put_hop(struct nlmsghdr *msg, int ifindex, unsigned flags, uint16_t type,
		    const void *gateway, size_t len)
{
	struct rtnexthop *hop = mnl_nlmsg_get_payload_tail(msg);

	*hop = (struct rtnexthop){.rtnh_ifindex = ifindex, .rtnh_flags = (unsigned char)flags};
	msg->nlmsg_len += sizeof(*hop);
	if (len)
		mnl_attr_put(msg, type, len, gateway);
	hop->rtnh_len = (unsigned short)((char *)mnl_nlmsg_get_payload_tail(msg) - (char *)hop);
}

static struct nlmsghdr *multipath(unsigned n)
{
	static const uint8_t gateway[] = {192, 0, 2, 1};
	static const struct {
		uint16_t family;
		uint8_t b[16];
	} via = {10 /* AF_INET6 */, {0xfe, 0x80, [15] = 1}};
	struct nlmsghdr *msg = mnl_nlmsg_put_header(clean());
	struct rtmsg *info = mnl_nlmsg_put_extra_header(msg, sizeof(*info));
	struct nlattr *nest;

	info->rtm_family = 2; /* AF_INET */
	info->rtm_table = RT_TABLE_MAIN;
	info->rtm_type = RTN_UNICAST;
	nest = mnl_attr_nest_start(msg, RTA_MULTIPATH);
	put_hop(msg, 5, RTNH_F_ONLINK, RTA_GATEWAY, gateway, sizeof(gateway));
	put_hop(msg, 6, 0, RTA_VIA, &via, 18);
	for (unsigned i = 2; i < n; i++)
		put_hop(msg, 7, 0, 0, NULL, 0);
	mnl_attr_nest_end(msg, nest);
	return msg;
}

static void test_multipath(void **state)
{
	struct ip first = messages_ip("192.0.2.1"), second = messages_ip("fe80::1");
	struct route got;

	(void)state;
	assert_int_equal(route_parse(multipath(3), &got), 0);
	assert_int_equal(got.n_nexthops, 3);
	assert_int_equal(got.nexthop[0].ifindex, 5);
	assert_true(got.nexthop[0].onlink);
	assert_true(ip_equal(&got.nexthop[0].gateway, &first));
	assert_int_equal(got.nexthop[1].ifindex, 6);
	assert_true(ip_equal(&got.nexthop[1].gateway, &second));
	assert_int_equal(got.nexthop[2].ifindex, 7);
	assert_false(ip_is_set(&got.nexthop[2].gateway));
	/* What there is no room for is dropped. */
	assert_int_equal(route_parse(multipath(40), &got), 0);
	assert_int_equal(got.n_nexthops, ROUTE_MAX_NEXTHOPS);
}

static void test_refused(void **state)
{
	struct route want = a_route("10.5.3.0/24", 7, "192.0.2.1"), got;
	struct nlmsghdr *msg = route_put_replace(clean(), &want);
	struct rtmsg *info = mnl_nlmsg_get_payload(msg);

	(void)state;
	info->rtm_tos = 4;
	assert_int_equal(route_parse(msg, &got), -ENOMSG);
	info->rtm_tos = 0;
	info->rtm_flags |= RTM_F_CLONED;
	assert_int_equal(route_parse(msg, &got), -ENOMSG);
	info->rtm_flags = 0;
	info->rtm_family = 28; /* AF_MPLS */
	assert_int_equal(route_parse(msg, &got), -ENOMSG);
	info->rtm_family = 10; /* an IPv4 destination of an IPv6 route */
	assert_int_equal(route_parse(msg, &got), -EINVAL);
	info->rtm_family = 2;
	info->rtm_dst_len = 33;
	assert_int_equal(route_parse(msg, &got), -EINVAL);
	msg->nlmsg_len = NLMSG_HDRLEN + sizeof(*info) - 1;
	assert_int_equal(route_parse(msg, &got), -EINVAL);
}

static void test_queries(void **state)
{
	struct ip ip = messages_ip("2001:db8::9");
	const struct nlmsghdr *msg = route_put_get(clean(), &ip);
	const struct rtmsg *info = mnl_nlmsg_get_payload(msg);

	(void)state;
	assert_int_equal(msg->nlmsg_type, RTM_GETROUTE);
	assert_int_equal(info->rtm_dst_len, 128);
	info = mnl_nlmsg_get_payload(route_put_dump(clean(), IP_V4));
	assert_int_equal(info->rtm_family, 2);
	assert_int_equal(info->rtm_table, RT_TABLE_MAIN);
}

static void parse(const struct nlmsghdr *msg)
{
	struct route got;

	if (route_parse(msg, &got))
		return;
	assert_true(got.n_nexthops <= ROUTE_MAX_NEXTHOPS);
	assert_true(got.dst.len <= ip_bits((enum ip_family)got.dst.ip.family));
}

static void test_hostile(void **state)
{
	struct route want = a_route("fc00:5:3::/64", 7, "fc00:5:3::");

	(void)state;
	want.metric = 1024;
	want.source = messages_ip("fc00::1");
	messages_maul(route_put_replace(clean(), &want), parse);
	messages_maul(multipath(4), parse);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_add_beside),
		cmocka_unit_test(test_multipath),  cmocka_unit_test(test_refused),
		cmocka_unit_test(test_queries),    cmocka_unit_test(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
