/* SPDX-License-Identifier: Apache-2.0 */
/* test_fou.c - messages about FOU ports, as the kernel has them and as it takes them */
#include "kernel/fou.h"

#include "base/mem.h"
#include "messages.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/fou.h>
#include <linux/genetlink.h>

#define FAMILY 31

static char buf[NETLINK_MESSAGE_MAX] __attribute__((aligned(8)));

static void *clean(void)
{
	return memset(buf, 0, sizeof(buf));
}

static void check_header(const struct nlmsghdr *msg, uint16_t type, uint8_t cmd)
{
	const struct genlmsghdr *head = mnl_nlmsg_get_payload(msg);

	assert_int_equal(msg->nlmsg_type, type);
	assert_int_equal(head->cmd, cmd);
	assert_int_equal(head->version, 1);
}

static void test_requests(void **state)
{
	const struct nlmsghdr *msg = fou_put_get_family(clean());
	struct fou_port port;

	(void)state;
	check_header(msg, GENL_ID_CTRL, CTRL_CMD_GETFAMILY);
	check_header(fou_put_dump(clean(), FAMILY), FAMILY, FOU_CMD_GET);
	msg = fou_put_add(clean(), FAMILY, 8285);
	check_header(msg, FAMILY, FOU_CMD_ADD);
	assert_int_equal(fou_parse(msg, &port), 0);
	assert_int_equal(port.port, 8285);
	assert_int_equal(port.family, AF_INET);
	assert_int_equal(port.protocol, 4);
	assert_int_equal(port.type, FOU_ENCAP_DIRECT);
	assert_false(port.narrow);
	msg = fou_put_delete(clean(), FAMILY, 8285);
	check_header(msg, FAMILY, FOU_CMD_DEL);
	assert_int_equal(fou_parse(msg, &port), 0);
	assert_int_equal(port.port, 8285);
	assert_int_equal(port.family, AF_INET);
}

/* A kernel of today says all of them of each port, one of 2019 none. */
static void test_narrow_ports(void **state)
{
	static const struct {
		uint16_t attr;
		const char *value;
		size_t len;
		bool narrow;
	} rows[] = {
		{FOU_ATTR_LOCAL_V4, "\0\0\0\0", 4, false},
		{FOU_ATTR_LOCAL_V4, "\xc0\0\2\1", 4, true},
		{FOU_ATTR_PEER_V4, "\0\0\0\0", 4, false},
		{FOU_ATTR_PEER_V4, "\xc0\0\2\1", 4, true},
		{FOU_ATTR_PEER_PORT, "\0\0", 2, false},
		{FOU_ATTR_PEER_PORT, "\0\1", 2, true},
		{FOU_ATTR_IFINDEX, "\0\0\0\0", 4, false},
		{FOU_ATTR_IFINDEX, "\2\0\0\0", 4, true},
		{FOU_ATTR_LOCAL_V6, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16, true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct nlmsghdr *msg = fou_put_add(clean(), FAMILY, 8285);
		struct fou_port port;

		mnl_attr_put(msg, rows[i].attr, rows[i].len, rows[i].value);
		assert_int_equal(fou_parse(msg, &port), 0);
		if (port.narrow != rows[i].narrow)
			fail_msg("row %zu", i);
	}
}

static struct nlmsghdr *put_family(void)
{
	struct nlmsghdr *msg = fou_put_get_family(clean());

	mnl_attr_put_u16(msg, CTRL_ATTR_FAMILY_ID, FAMILY);
	return msg;
}

static void test_family(void **state)
{
	uint16_t family = 0;

	(void)state;
	assert_int_equal(fou_parse_family(put_family(), &family), 0);
	assert_int_equal(family, FAMILY);
	assert_int_equal(fou_parse_family(fou_put_get_family(clean()), &family), -EINVAL);
}

static void parse(const struct nlmsghdr *msg)
{
	struct fou_port port;
	uint16_t family;

	(void)fou_parse(msg, &port);
	(void)fou_parse_family(msg, &family);
}

static void test_hostile(void **state)
{
	struct fou_port port;

	(void)state;
	messages_maul(put_family(), parse);
	messages_maul(fou_put_add(clean(), FAMILY, 8285), parse);
	assert_int_equal(fou_parse(fou_put_dump(clean(), FAMILY), &port), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_narrow_ports),
		cmocka_unit_test(test_family),
		cmocka_unit_test(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
