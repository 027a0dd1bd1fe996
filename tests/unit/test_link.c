/* SPDX-License-Identifier: Apache-2.0 */
/* test_link.c - messages about devices: what is encoded is what is parsed */
#include "kernel/link.h"

#include "base/mem.h"
#include "messages.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/if_tunnel.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <stdio.h>

static char buf[NETLINK_MESSAGE_MAX] __attribute__((aligned(8)));

static void *clean(void)
{
	return memset(buf, 0, sizeof(buf));
}

static struct link a_vxlan(const char *local)
{
	return (struct link){
		.name = "flannel.1",
		.kind = "vxlan",
		.alias = "the overlay",
		.mtu = 1450,
		.mac = {{2, 0, 0, 0xab, 0xcd, 0xef}},
		.up = true,
		.vxlan = {.vni = 1,
			  .port = 8472,
			  .lower_ifindex = 7,
			  .local = messages_ip(local),
			  .learning = true,
			  .gbp = true},
	};
}

static void check_equal(const struct link *a, const struct link *b)
{
	assert_string_equal(a->name, b->name);
	assert_string_equal(a->kind, b->kind);
	assert_string_equal(a->alias, b->alias);
	assert_int_equal(a->mtu, b->mtu);
	assert_true(mac_equal(&a->mac, &b->mac));
	assert_int_equal(a->up, b->up);
	assert_int_equal(a->vxlan.vni, b->vxlan.vni);
	assert_int_equal(a->vxlan.port, b->vxlan.port);
	assert_int_equal(a->vxlan.lower_ifindex, b->vxlan.lower_ifindex);
	assert_true(ip_equal(&a->vxlan.local, &b->vxlan.local));
	assert_int_equal(a->vxlan.learning, b->vxlan.learning);
	assert_int_equal(a->vxlan.gbp, b->vxlan.gbp);
}

static void test_create_round_trip(void **state)
{
	static const char *const locals[] = {"192.0.2.1", "2001:db8::1", NULL};
	struct link want, got;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(locals); i++) {
		want = a_vxlan(locals[i]);
		want.vxlan.gbp = want.vxlan.learning = i % 2;
		assert_int_equal(link_parse(link_put_create_vxlan(clean(), &want), &got), 0);
		check_equal(&got, &want);
	}
	want = (struct link){.name = "flannel.16777", .kind = "vxlan", .up = true};
	want.vxlan.vni = 0xffffff;
	assert_int_equal(link_parse(link_put_create_vxlan(clean(), &want), &got), 0);
	check_equal(&got, &want);
}

static const struct nlattr *find(const struct nlmsghdr *msg, uint16_t type)
{
	const struct nlattr *attr;

	mnl_attr_for_each (attr, msg, sizeof(struct ifinfomsg))
		if (mnl_attr_get_type(attr) == type)
			return attr;
	return NULL;
}

/* Only what differs is asked for: setting the same MAC anew would flush neighbours. */
static void test_change_asks_for_differences(void **state)
{
	const struct link same = a_vxlan("192.0.2.1");
	struct link seen = same, want = same;
	const struct nlmsghdr *msg = link_put_change(clean(), &seen, &want);

	(void)state;
	assert_null(find(msg, IFLA_MTU));
	assert_null(find(msg, IFLA_ADDRESS));
	assert_null(find(msg, IFLA_IFALIAS));

	seen.mtu = 1400;
	msg = link_put_change(clean(), &seen, &want);
	assert_int_equal(mnl_attr_get_u32(find(msg, IFLA_MTU)), 1450);
	assert_null(find(msg, IFLA_ADDRESS));

	seen = same;
	seen.mac.b[5]++;
	msg = link_put_change(clean(), &seen, &want);
	assert_memory_equal(mnl_attr_get_payload(find(msg, IFLA_ADDRESS)), want.mac.b, 6);
	assert_null(find(msg, IFLA_MTU));

	seen = same;
	seen.up = false;
	seen.ifindex = 9;
	msg = link_put_change(clean(), &seen, &want);
	assert_int_equal(((const struct ifinfomsg *)mnl_nlmsg_get_payload(msg))->ifi_index, 9);
	assert_int_equal(((const struct ifinfomsg *)mnl_nlmsg_get_payload(msg))->ifi_change,
			 IFF_UP);
	assert_int_equal(((const struct ifinfomsg *)mnl_nlmsg_get_payload(msg))->ifi_flags, IFF_UP);
}

/* An alias that somebody gave a device which is to have none is taken off by an empty one. */
static void test_change_takes_an_alias_off(void **state)
{
	struct link want = a_vxlan("192.0.2.1"), seen = want;
	const struct nlattr *alias;

	(void)state;
	*want.alias = '\0';
	alias = find(link_put_change(clean(), &seen, &want), IFLA_IFALIAS);
	assert_non_null(alias);
	assert_int_equal(mnl_attr_get_payload_len(alias), 0);
}

static void test_change_vxlan(void **state)
{
	struct link want = a_vxlan("192.0.2.1"), got;

	(void)state;
	assert_int_equal(link_parse(link_put_change_vxlan(clean(), 9, &want), &got), 0);
	assert_int_equal(got.ifindex, 9);
	assert_string_equal(got.kind, "vxlan");
	assert_int_equal(got.vxlan.vni, 1);
	assert_int_equal(got.vxlan.lower_ifindex, 7);
	assert_true(got.vxlan.learning);
	assert_int_equal(got.vxlan.port, 0); /* a living device keeps its port */
	assert_false(got.vxlan.gbp);
}

static struct link an_ipip(void)
{
	return (struct link){
		.name = "flannel0",
		.kind = "ipip",
		.mtu = 1472,
		.up = true,
		.ipip = {.local = messages_ip("192.0.2.1"),
			 .lower_ifindex = 7,
			 .ttl = 64,
			 .encap = TUNNEL_ENCAP_FOU,
			 .encap_flags = TUNNEL_ENCAP_FLAG_CSUM,
			 .source_port = 4000,
			 .port = 8285},
	};
}

static void check_equal_ipip(const struct link_ipip *a, const struct link_ipip *b)
{
	assert_true(ip_equal(&a->local, &b->local) && ip_equal(&a->remote, &b->remote));
	assert_int_equal(a->lower_ifindex, b->lower_ifindex);
	assert_int_equal(a->ttl, b->ttl);
	assert_int_equal(a->no_pmtu, b->no_pmtu);
	assert_int_equal(a->encap, b->encap);
	assert_int_equal(a->encap_flags, b->encap_flags);
	assert_int_equal(a->source_port, b->source_port);
	assert_int_equal(a->port, b->port);
}

static void test_ipip(void **state)
{
	struct link want = an_ipip(), got;

	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(link_parse(link_put_create_ipip(clean(), &want), &got), 0);
		check_equal(&got, &want);
		check_equal_ipip(&got.ipip, &want.ipip);
		assert_int_equal(link_parse(link_put_change_ipip(clean(), 9, &want), &got), 0);
		assert_int_equal(got.ifindex, 9);
		assert_string_equal(got.kind, "ipip");
		check_equal_ipip(&got.ipip, &want.ipip);
		want.ipip = (struct link_ipip){.remote = messages_ip("192.0.2.2"), .no_pmtu = true};
	}
}

static void test_queries(void **state)
{
	const struct nlmsghdr *msg = link_put_get(clean(), "eth0", 5);
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(msg);
	struct link got;

	(void)state;
	assert_int_equal(info->ifi_index, 0);
	assert_string_equal(mnl_attr_get_str(find(msg, IFLA_IFNAME)), "eth0");
	msg = link_put_get(clean(), NULL, 5);
	assert_int_equal(info->ifi_index, 5);
	assert_null(find(msg, IFLA_IFNAME));
	msg = link_put_delete(clean(), 5);
	assert_int_equal(msg->nlmsg_type, RTM_DELLINK);
	assert_int_equal(info->ifi_index, 5);
	assert_int_equal(link_parse(link_put_probe(clean(), "vxlan"), &got), 0);
	assert_string_equal(got.kind, "vxlan");
	/* An ipip device could be made of nothing, were it not for that. */
	assert_int_equal(
		mnl_attr_get_u32(find(link_put_probe(clean(), "ipip"), IFLA_NUM_TX_QUEUES)),
		UINT16_MAX);
	msg = link_put_dump(clean());
	assert_int_equal(msg->nlmsg_type, RTM_GETLINK);
}

static void test_create_bridge(void **state)
{
	const struct nlmsghdr *msg = link_put_create_bridge(clean(), "cni0", 1450);
	struct link got;

	(void)state;
	assert_int_equal(link_parse(msg, &got), 0);
	assert_string_equal(got.name, "cni0");
	assert_string_equal(got.kind, "bridge");
	assert_int_equal(got.mtu, 1450);
	assert_false(got.up);
	assert_null(find(link_put_create_bridge(clean(), "cni0", 0), IFLA_MTU));
}

static const struct nlattr *find_nested(const struct nlattr *nest, uint16_t type)
{
	const struct nlattr *attr;

	mnl_attr_for_each_nested (attr, nest)
		if (mnl_attr_get_type(attr) == type)
			return attr;
	return NULL;
}

/* The peer's attributes as a message of their own. */
static const struct nlmsghdr *peer_of(const struct nlmsghdr *msg)
{
	static char room[NETLINK_MESSAGE_MAX] __attribute__((aligned(8)));
	const struct nlattr *peer =
		find_nested(find_nested(find(msg, IFLA_LINKINFO), IFLA_INFO_DATA), VETH_INFO_PEER);
	struct nlmsghdr *found = mnl_nlmsg_put_header(memset(room, 0, sizeof(room)));

	assert_non_null(peer);
	memcpy(mnl_nlmsg_get_payload(found), mnl_attr_get_payload(peer),
	       mnl_attr_get_payload_len(peer));
	found->nlmsg_len += mnl_attr_get_payload_len(peer);
	return found;
}

static void test_create_veth(void **state)
{
	struct link_veth veth = {.name = "veth0badcafe",
				 .peer_name = "an-ifname-of-15",
				 .master = 4,
				 .peer_netns = 9,
				 .mtu = 1450};
	const struct nlmsghdr *msg = link_put_create_veth(clean(), &veth), *peer;
	struct link got;

	(void)state;
	assert_true(msg->nlmsg_len <= NETLINK_MESSAGE_MAX);
	assert_int_equal(link_parse(msg, &got), 0);
	assert_string_equal(got.name, "veth0badcafe");
	assert_string_equal(got.kind, "veth");
	assert_int_equal(got.mtu, 1450);
	assert_int_equal(got.master, 4);
	assert_true(got.up);
	assert_int_equal(mnl_attr_get_u32(find(msg, IFLA_TXQLEN)), 0);
	peer = peer_of(msg);
	assert_int_equal(link_parse(peer, &got), 0);
	assert_string_equal(got.name, "an-ifname-of-15");
	assert_int_equal(got.mtu, 1450);
	assert_false(got.up);
	assert_int_equal(mnl_attr_get_u32(find(peer, IFLA_NET_NS_FD)), 9);
	assert_int_equal(mnl_attr_get_u32(find(peer, IFLA_TXQLEN)), 0);

	veth.mtu = 0;
	msg = link_put_create_veth(clean(), &veth);
	assert_null(find(msg, IFLA_MTU));
	assert_null(find(peer_of(msg), IFLA_MTU));
}

static void test_small_changes(void **state)
{
	const struct mac mac = {{2, 0, 0, 1, 2, 3}};
	const struct nlmsghdr *msg = link_put_flags(clean(), 5, IFF_UP | IFF_PROMISC);
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(msg);
	struct link got;

	(void)state;
	assert_int_equal(info->ifi_change, IFF_UP | IFF_PROMISC);
	assert_int_equal(link_parse(msg, &got), 0);
	assert_true(got.up && got.promisc);
	assert_int_equal(link_parse(link_put_mac(clean(), 5, &mac), &got), 0);
	assert_true(mac_equal(&got.mac, &mac));
	assert_int_equal(got.ifindex, 5);
	assert_int_equal(link_parse(link_put_oper_up(clean(), 5), &got), 0);
	assert_int_equal(got.operstate, IF_OPER_UP);
	for (int on = 0; on < 2; on++) {
		assert_int_equal(link_parse(link_put_hairpin(clean(), "veth1", on), &got), 0);
		assert_string_equal(got.name, "veth1");
		assert_true(got.port.is_port);
		assert_int_equal(got.port.hairpin, on);
	}
	msg = link_put_delete_name(clean(), "eth0");
	assert_int_equal(msg->nlmsg_type, RTM_DELLINK);
	assert_int_equal(info->ifi_index, 0);
	assert_string_equal(mnl_attr_get_str(find(msg, IFLA_IFNAME)), "eth0");
}

/* A kind that is not vxlan has no vxlan attributes, whatever its data says. */
static void test_other_kinds(void **state)
{
	struct nlattr *info, *data;
	struct nlmsghdr *msg = mnl_nlmsg_put_header(clean());
	struct link got;

	(void)state;
	((struct ifinfomsg *)mnl_nlmsg_put_extra_header(msg, sizeof(struct ifinfomsg)))->ifi_flags =
		IFF_LOOPBACK | IFF_UP;
	mnl_attr_put_strz(msg, IFLA_IFNAME, "a-name-of-more-than-15-characters");
	mnl_attr_put_u16(msg, IFLA_MTU, 1500); /* too short to be one */
	mnl_attr_put(msg, IFLA_ADDRESS, 4, "\1\2\3\4");
	info = mnl_attr_nest_start(msg, IFLA_LINKINFO);
	data = mnl_attr_nest_start(msg, IFLA_INFO_DATA);
	mnl_attr_put_u32(msg, IFLA_VXLAN_ID, 42);
	mnl_attr_nest_end(msg, data);
	mnl_attr_put_strz(msg, IFLA_INFO_KIND, "a-kind-that-is-too-long");
	mnl_attr_nest_end(msg, info);
	assert_int_equal(link_parse(msg, &got), 0);
	assert_string_equal(got.name, "a-name-of-more-");
	assert_string_equal(got.kind, "a-kind-that-is-");
	assert_int_equal(got.vxlan.vni, 0);
	assert_int_equal(got.mtu, 0);
	assert_true(mac_is_zero(&got.mac));
	assert_true(got.loopback);
}

static void test_refused(void **state)
{
	struct link want = a_vxlan("192.0.2.1"), got;
	struct nlmsghdr *msg = link_put_create_vxlan(clean(), &want);

	(void)state;
	((struct ifinfomsg *)mnl_nlmsg_get_payload(msg))->ifi_family = AF_BRIDGE;
	assert_int_equal(link_parse(msg, &got), -ENOMSG);
	msg->nlmsg_len = NLMSG_HDRLEN + sizeof(struct ifinfomsg) - 1;
	assert_int_equal(link_parse(msg, &got), -EINVAL);
}

static void parse(const struct nlmsghdr *msg)
{
	struct link got;

	if (!link_parse(msg, &got)) {
		assert_true(strlen(got.name) < sizeof(got.name));
		assert_true(strlen(got.kind) < sizeof(got.kind));
		assert_true(strlen(got.alias) < sizeof(got.alias));
	}
}

static void test_hostile(void **state)
{
	struct link want = a_vxlan("2001:db8::1");

	(void)state;
	messages_maul(link_put_create_vxlan(clean(), &want), parse);
	messages_maul(link_put_hairpin(clean(), "veth1", true), parse);
	memset(want.alias, 'x', sizeof(want.alias) - 1);
	messages_maul(link_put_create_vxlan(clean(), &want), parse);
}

/* The longest message that is ever made fits into the room for one. */
static void test_longest(void **state)
{
	struct link want = a_vxlan("2001:db8::1");

	(void)state;
	memset(want.alias, 'x', sizeof(want.alias) - 1);
	memset(want.name, 'x', sizeof(want.name) - 1);
	assert_true(link_put_create_vxlan(clean(), &want)->nlmsg_len <= NETLINK_MESSAGE_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create_round_trip),
		cmocka_unit_test(test_change_asks_for_differences),
		cmocka_unit_test(test_change_takes_an_alias_off),
		cmocka_unit_test(test_change_vxlan),
		cmocka_unit_test(test_ipip),
		cmocka_unit_test(test_queries),
		cmocka_unit_test(test_create_bridge),
		cmocka_unit_test(test_create_veth),
		cmocka_unit_test(test_small_changes),
		cmocka_unit_test(test_other_kinds),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_longest),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
