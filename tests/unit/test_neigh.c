/* SPDX-License-Identifier: Apache-2.0 */
/* test_neigh.c - messages about neighbours, FDB entries and addresses */
#include "kernel/neigh.h"

#include "base/mem.h"
#include "kernel/addr.h"
#include "messages.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

static char buf[NETLINK_MESSAGE_MAX] __attribute__((aligned(8)));

static void *clean(void)
{
	return memset(buf, 0, sizeof(buf));
}

static const struct mac mac = {{2, 0, 0, 1, 2, 3}};

/* What the driver of a vxlan device says of an entry, and nobody who asks for one. */
static struct nlmsghdr *with_times(struct nlmsghdr *msg)
{
	const struct nda_cacheinfo times = {0};

	mnl_attr_put(msg, NDA_CACHEINFO, sizeof(times), &times);
	return msg;
}

static void test_neigh_round_trip(void **state)
{
	static const struct {
		const char *ip;
		bool fdb;
	} rows[] = {
		{"10.5.3.0", false},   {"fc00:5:3::", false}, {"192.0.2.3", true},
		{"2001:db8::3", true}, {NULL, true},
	};
	struct neigh got;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct neigh want = {.ifindex = 7,
				     .fdb = rows[i].fdb,
				     .permanent = true,
				     .ip = messages_ip(rows[i].ip),
				     .mac = mac};

		assert_int_equal(neigh_parse(with_times(neigh_put_replace(clean(), &want)), &got),
				 0);
		assert_int_equal(got.ifindex, 7);
		assert_int_equal(got.fdb, want.fdb);
		assert_true(got.permanent);
		assert_true(ip_equal(&got.ip, &want.ip));
		assert_true(mac_equal(&got.mac, &want.mac));
		/* A deletion names the key alone: a neighbour's address, an FDB entry's MAC. */
		assert_int_equal(neigh_parse(with_times(neigh_put_delete(clean(), &want)), &got),
				 0);
		assert_int_equal(ip_is_set(&got.ip), !want.fdb);
		assert_int_equal(mac_is_zero(&got.mac), !want.fdb);
	}
}

static void test_neigh_refused(void **state)
{
	struct neigh want = {.ifindex = 7, .ip = messages_ip("10.5.3.0"), .mac = mac}, got;
	struct nlmsghdr *msg = neigh_put_replace(clean(), &want);
	struct ndmsg *info = mnl_nlmsg_get_payload(msg);

	(void)state;
	info->ndm_flags = NTF_PROXY;
	assert_int_equal(neigh_parse(msg, &got), -ENOMSG);
	info->ndm_flags = 0;
	info->ndm_state = NUD_REACHABLE;
	assert_int_equal(neigh_parse(msg, &got), 0);
	assert_false(got.permanent);
	info->ndm_family = AF_INET6; /* with an IPv4 address */
	assert_int_equal(neigh_parse(msg, &got), -EINVAL);
	info->ndm_family = AF_DECnet;
	assert_int_equal(neigh_parse(msg, &got), -ENOMSG);
	msg->nlmsg_len = NLMSG_HDRLEN + sizeof(*info) - 1;
	assert_int_equal(neigh_parse(msg, &got), -EINVAL);
}

/* Of one `bridge fdb replace 02:00:00:00:00:03 dst 192.0.2.4`, and one `del`, Linux 6.1 says
 * two things: the driver what the entry is, and rtnl_fdb_notify() that there was a request. */
static void test_neigh_fdb_said_twice(void **state)
{
	static const char driver[] =
		"\x44\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"                    /* header */
		"\x07\0\0\0\x05\0\0\0\xc0\0\x02\x01"                    /* ndmsg */
		"\x0a\0\x02\0\x02\0\0\0\0\x03\0\0"                      /* NDA_LLADDR */
		"\x08\0\x01\0\xc0\0\x02\x04"                            /* NDA_DST */
		"\x14\0\x03\0\0\0\0\0\x14\0\0\0\x14\0\0\0\0\0\0\0";     /* NDA_CACHEINFO */
	static const char core[] = "\x28\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0" /* header */
				   "\x07\0\0\0\x05\0\0\0\xc0\0\x02\0"   /* ndmsg */
				   "\x0a\0\x02\0\x02\0\0\0\0\x03\0\0";  /* NDA_LLADDR */
	const struct ip remote = messages_ip("192.0.2.4");
	struct nlmsghdr *msg = clean();
	struct neigh got;

	(void)state;
	for (int type = RTM_NEWNEIGH; type <= RTM_DELNEIGH; type++) {
		memcpy(buf, driver, sizeof(driver) - 1);
		msg->nlmsg_type = (uint16_t)type;
		assert_int_equal(neigh_parse(msg, &got), 0);
		assert_true(got.fdb && got.permanent && !got.odd);
		assert_true(ip_equal(&got.ip, &remote));
		assert_true(mac_equal(&got.mac, &(struct mac){{2, 0, 0, 0, 0, 3}}));
		memcpy(buf, core, sizeof(core) - 1);
		msg->nlmsg_type = (uint16_t)type;
		assert_int_equal(neigh_parse(msg, &got), -ENOMSG);
	}
}

static void test_neigh_dump(void **state)
{
	const struct nlmsghdr *msg = neigh_put_dump(clean(), 7, true, IP_NONE);
	const struct ndmsg *info = mnl_nlmsg_get_payload(msg);

	(void)state;
	assert_int_equal(info->ndm_family, AF_BRIDGE);
	assert_int_equal(info->ndm_ifindex, 7);
	msg = neigh_put_dump(clean(), 7, false, IP_V6);
	assert_int_equal(info->ndm_family, AF_INET6);
	assert_int_equal(info->ndm_ifindex, 0); /* a kernel that checks strictly wants it so */
	assert_true(msg->nlmsg_len > NLMSG_HDRLEN + sizeof(*info));
}

static void test_addr_round_trip(void **state)
{
	static const char *const nets[] = {"10.5.1.0/32", "192.0.2.1/24", "fc00:5:1::/128"};
	struct addr got;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(nets); i++) {
		struct ip_net net = messages_net(nets[i]);

		assert_int_equal(addr_parse(addr_put_add(clean(), 7, &net), &got), 0);
		assert_int_equal(got.ifindex, 7);
		assert_true(ip_net_equal(&got.net, &net));
		assert_false(got.deprecated);
		assert_false(got.temporary);
		assert_int_equal(addr_parse(addr_put_delete(clean(), 7, &net), &got), 0);
		assert_true(ip_net_equal(&got.net, &net));
	}
}

static struct nlmsghdr *put_addr(unsigned family, unsigned len, unsigned flags, const char *local,
				 const char *address)
{
	struct nlmsghdr *msg = mnl_nlmsg_put_header(clean());
	struct ifaddrmsg *info = mnl_nlmsg_put_extra_header(msg, sizeof(*info));
	struct ip ip;

	info->ifa_family = (uint8_t)family;
	info->ifa_prefixlen = (uint8_t)len;
	info->ifa_index = 7;
	if (address) {
		ip = messages_ip(address);
		mnl_attr_put(msg, IFA_ADDRESS, ip_bytes((enum ip_family)ip.family), ip.b);
	}
	if (local) {
		ip = messages_ip(local);
		mnl_attr_put(msg, IFA_LOCAL, ip_bytes((enum ip_family)ip.family), ip.b);
	}
	if (flags)
		mnl_attr_put_u32(msg, IFA_FLAGS, flags);
	return msg;
}

static void test_addr_parse(void **state)
{
	static const struct {
		unsigned family, len, flags;
		const char *local, *address, *net;
		bool deprecated, temporary;
		int code;
	} rows[] = {
		/* On a point-to-point device the other address is the peer's. */
		{AF_INET, 32, 0, "192.0.2.1", "192.0.2.9", "192.0.2.1/32", false, false, 0},
		{AF_INET6, 64, 0, NULL, "2001:db8::1", "2001:db8::1/64", false, false, 0},
		{AF_INET6, 64, IFA_F_DEPRECATED, NULL, "2001:db8::1", "2001:db8::1/64", true, false,
		 0},
		{AF_INET6, 64, IFA_F_TENTATIVE, NULL, "2001:db8::1", "2001:db8::1/64", false, false,
		 0},
		{AF_INET6, 64, IFA_F_DADFAILED, NULL, "2001:db8::1", "2001:db8::1/64", true, false,
		 0},
		{AF_INET6, 64, IFA_F_TEMPORARY, NULL, "2001:db8::1", "2001:db8::1/64", false, true,
		 0},
		{AF_INET, 33, 0, "192.0.2.1", NULL, NULL, false, false, -EINVAL},
		{AF_INET, 24, 0, NULL, "2001:db8::1", NULL, false, false, -EINVAL},
		{AF_INET, 24, 0, NULL, NULL, NULL, false, false, -EINVAL},
		{AF_UNSPEC, 0, 0, NULL, NULL, NULL, false, false, -EINVAL},
	};
	struct addr got;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct nlmsghdr *msg = put_addr(rows[i].family, rows[i].len, rows[i].flags,
						rows[i].local, rows[i].address);
		struct ip_net net = messages_net(rows[i].net);

		if (addr_parse(msg, &got) != rows[i].code)
			fail_msg("row %zu is not %d", i, rows[i].code);
		if (rows[i].code)
			continue;
		assert_true(ip_net_equal(&got.net, &net));
		assert_int_equal(got.deprecated, rows[i].deprecated);
		assert_int_equal(got.temporary, rows[i].temporary);
	}
}

static void parse(const struct nlmsghdr *msg)
{
	struct neigh neigh;
	struct addr addr;

	(void)neigh_parse(msg, &neigh);
	if (!addr_parse(msg, &addr))
		assert_true(addr.net.len <= ip_bits((enum ip_family)addr.net.ip.family));
}

static void test_hostile(void **state)
{
	struct neigh want = {.ifindex = 7, .ip = messages_ip("2001:db8::3"), .mac = mac};
	struct ip_net net = messages_net("fc00:5:1::/128");

	(void)state;
	messages_maul(neigh_put_replace(clean(), &want), parse);
	messages_maul(addr_put_add(clean(), 7, &net), parse);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_neigh_round_trip),
		cmocka_unit_test(test_neigh_refused),
		cmocka_unit_test(test_neigh_fdb_said_twice),
		cmocka_unit_test(test_neigh_dump),
		cmocka_unit_test(test_addr_round_trip),
		cmocka_unit_test(test_addr_parse),
		cmocka_unit_test(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
