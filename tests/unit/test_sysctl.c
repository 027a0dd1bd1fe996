/* SPDX-License-Identifier: Apache-2.0 */
/* test_sysctl.c - kernel settings: reading, errors that name the setting, notifications */
#include "kernel/sysctl.h"

#include "base/mem.h"

#include <errno.h>
#include <linux/netconf.h>
#include <linux/rtnetlink.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_read(void **state)
{
	long value = -1;
	struct err err = {""};

	(void)state;
	assert_int_equal(sysctl_get("kernel/pid_max", &value, &err), 0);
	assert_true(value > 1);
	value = 7;
	assert_int_equal(sysctl_get("net/ipv4/no_such_thing", &value, &err), -ENOENT);
	assert_int_equal(value, 7);
	assert_non_null(strstr(err.text, "net.ipv4.no_such_thing"));
	/* A dot in a device's name becomes a slash, as sysctl(8) has it. */
	assert_int_equal(sysctl_get("net/ipv6/conf/no.7/accept_ra", &value, &err), -ENOENT);
	assert_non_null(strstr(err.text, "net.ipv6.conf.no/7.accept_ra"));
	/* Not a number. */
	assert_int_equal(sysctl_get("kernel/ostype", &value, &err), -EPROTO);
	assert_int_equal(sysctl_set("kernel/no_such_thing", 1, &err), -ENOENT);
	assert_non_null(strstr(err.text, "setting kernel.no_such_thing"));
}

/* RTM_NEWNETCONF as inet_netconf_fill_devconf() writes it; @ifindex 0: without one. */
static bool is_host_wide(int ifindex, bool has_ifindex)
{
	char buf[256] = {0};
	struct nlmsghdr *msg = mnl_nlmsg_put_header(buf);

	msg->nlmsg_type = RTM_NEWNETCONF;
	mnl_nlmsg_put_extra_header(msg, sizeof(struct netconfmsg));
	if (has_ifindex)
		mnl_attr_put_u32(msg, NETCONFA_IFINDEX, (uint32_t)ifindex);
	mnl_attr_put_u32(msg, NETCONFA_FORWARDING, 0);
	return sysctl_is_host_wide(msg);
}

static void test_notification(void **state)
{
	struct nlmsghdr empty = {.nlmsg_len = sizeof(empty), .nlmsg_type = RTM_NEWNETCONF};

	(void)state;
	assert_true(is_host_wide(NETCONFA_IFINDEX_ALL, true));
	assert_false(is_host_wide(NETCONFA_IFINDEX_DEFAULT, true));
	assert_false(is_host_wide(3, true));
	assert_false(is_host_wide(0, false));
	assert_false(sysctl_is_host_wide(&empty));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_notification),
	};

	return cmocka_run_group_tests_name("sysctl", tests, NULL, NULL);
}
