/* SPDX-License-Identifier: Apache-2.0 */
/* test_addr.c - messages about addresses: what is encoded is what is parsed */
#include "kernel/addr.h"

#include "base/mem.h"
#include "messages.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>

static char buf[NETLINK_MESSAGE_MAX] __attribute__((aligned(8)));

static void *clean(void)
{
	return memset(buf, 0, sizeof(buf));
}

static const struct nlattr *find(const struct nlmsghdr *msg, uint16_t type)
{
	const struct nlattr *attr;

	mnl_attr_for_each (attr, msg, sizeof(struct ifaddrmsg))
		if (mnl_attr_get_type(attr) == type)
			return attr;
	return NULL;
}

static void test_add_new(void **state)
{
	static const struct {
		const char *net, *broadcast;
	} rows[] = {
		{"10.5.7.2/24", "10.5.7.255"},
		{"10.5.7.2/30", "10.5.7.3"},
		{"10.5.7.2/31", NULL},
		{"10.5.7.2/32", NULL},
		{"10.5.7.2/0", "255.255.255.255"},
		{"fc00:5:7::2/64", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct ip_net net = messages_net(rows[i].net);
		struct ip broadcast = messages_ip(rows[i].broadcast);
		const struct nlmsghdr *msg = addr_put_add_new(clean(), 7, &net);
		const struct nlattr *attr = find(msg, IFA_BROADCAST);
		struct addr got;

		assert_int_equal(addr_parse(msg, &got), 0);
		assert_int_equal(got.ifindex, 7);
		assert_true(ip_net_equal(&got.net, &net));
		assert_int_equal(msg->nlmsg_flags, NLM_F_CREATE | NLM_F_EXCL);
		assert_null(find(msg, IFA_FLAGS));
		assert_int_equal(attr != NULL, rows[i].broadcast != NULL);
		if (attr)
			assert_memory_equal(mnl_attr_get_payload(attr), broadcast.b, 4);
	}
}

static void test_others(void **state)
{
	struct ip_net net = messages_net("fc00:5:7::2/64");
	const struct nlmsghdr *msg = addr_put_dump_device(clean(), IP_V6, 7);
	const struct ifaddrmsg *info = mnl_nlmsg_get_payload(msg);
	struct addr got;

	(void)state;
	assert_int_equal(info->ifa_family, AF_INET6);
	assert_int_equal(info->ifa_index, 7);
	msg = addr_put_dump_device(clean(), IP_NONE, 8);
	assert_int_equal(info->ifa_family, AF_UNSPEC);
	assert_int_equal(info->ifa_index, 8);
	assert_int_equal(msg->nlmsg_type, RTM_GETADDR);
	msg = addr_put_delete(clean(), 7, &net);
	assert_int_equal(msg->nlmsg_type, RTM_DELADDR);
	assert_int_equal(addr_parse(msg, &got), 0);
	assert_true(ip_net_equal(&got.net, &net));
	msg = addr_put_add(clean(), 7, &net);
	assert_int_equal(mnl_attr_get_u32(find(msg, IFA_FLAGS)), IFA_F_NODAD | IFA_F_PERMANENT);
}

static void parse(const struct nlmsghdr *msg)
{
	struct addr got;

	if (!addr_parse(msg, &got))
		assert_true(got.net.len <= ip_bits((enum ip_family)got.net.ip.family));
}

static void test_hostile(void **state)
{
	struct ip_net v4 = messages_net("10.5.7.2/24"), v6 = messages_net("fc00:5:7::2/64");

	(void)state;
	messages_maul(addr_put_add_new(clean(), 7, &v4), parse);
	messages_maul(addr_put_add(clean(), 7, &v6), parse);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_add_new),
		cmocka_unit_test(test_others),
		cmocka_unit_test(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
