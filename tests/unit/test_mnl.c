/* SPDX-License-Identifier: Apache-2.0 */
/* test_mnl.c - our part of libmnl does what the real one does, byte for byte */
#include "mnl_api.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const struct mnl_api real = {
#define MEMBER(name) .name = mnl_##name,
	MNL_API(MEMBER)
#undef MEMBER
};
static const struct mnl_api *const apis[] = {&real, &mnl_own};

#define ROOM 1024

/* Two tables that were the same functions would agree on everything. */
static void test_are_two(void **state)
{
	(void)state;
#define DIFFERS(name) assert_true(real.name != mnl_own.name);
	MNL_API(DIFFERS)
#undef DIFFERS
}

/* The helpers that libmnl has as macros call the real functions, so they are spelled out. */
static struct nlmsghdr *build(const struct mnl_api *mnl, char room[ROOM], size_t seed)
{
	static const char bytes[] = "0123456789abcdefghijklmnopqrstuvwxyz";
	struct nlmsghdr *msg;
	struct nlattr *outer, *inner;

	memset(room, 0, ROOM); /* libmnl before 1.0.5 leaves padding as it is */
	msg = mnl->nlmsg_put_header(room);
	msg->nlmsg_type = RTM_NEWLINK;
	memset(mnl->nlmsg_put_extra_header(msg, 1 + seed % 19), 0x11, 1 + seed % 19);
	mnl->attr_put(msg, 1, seed % sizeof(bytes), bytes);
	mnl->attr_put_u8(msg, 2, (uint8_t)seed);
	mnl->attr_put_u16(msg, 3, (uint16_t)(0x1234 + seed));
	outer = mnl->attr_nest_start(msg, 4);
	mnl->attr_put_strz(msg, 5, bytes + seed % sizeof(bytes));
	inner = mnl->attr_nest_start(msg, NLA_F_NET_BYTEORDER | 6);
	mnl->attr_put_u32(msg, 7, 0xdeadbeef);
	mnl->attr_put(msg, 8, 0, NULL);
	mnl->attr_nest_end(msg, inner);
	mnl->attr_nest_end(msg, outer);
	mnl->attr_put_strz(msg, 9, "");
	return msg;
}

static void test_encode(void **state)
{
	static char rooms[2][ROOM] __attribute__((aligned(8)));

	(void)state;
	for (size_t seed = 0; seed < 50; seed++) {
		for (size_t i = 0; i < 2; i++)
			(void)build(apis[i], rooms[i], seed);
		assert_memory_equal(rooms[0], rooms[1], ROOM);
		assert_true(((const struct nlmsghdr *)rooms[0])->nlmsg_len > 60);
	}
}

struct walk {
	const struct mnl_api *mnl;
	const char *base;
	long seen[256];
	size_t n;
	int stop_at;
};

static void note(struct walk *walk, long what)
{
	if (walk->n < ARRAY_SIZE(walk->seen))
		walk->seen[walk->n++] = what;
}

static int visit(const struct nlattr *attr, void *data)
{
	struct walk *walk = data;
	const struct mnl_api *mnl = walk->mnl;

	note(walk, (const char *)attr - walk->base);
	note(walk, mnl->attr_get_type(attr));
	note(walk, mnl->attr_get_payload_len(attr));
	note(walk, (const char *)mnl->attr_get_payload(attr) - walk->base);
	note(walk, mnl->attr_get_str(attr) - walk->base);
	note(walk, (const char *)mnl->attr_next(attr) - walk->base);
	for (int type = MNL_TYPE_U32; type <= MNL_TYPE_NUL_STRING;
	     type += MNL_TYPE_NUL_STRING - MNL_TYPE_U32) {
		errno = 0;
		note(walk, mnl->attr_validate(attr, (enum mnl_attr_data_type)type));
		note(walk, errno);
	}
	if (mnl->attr_get_payload_len(attr) >= 4) {
		note(walk, mnl->attr_get_u8(attr));
		note(walk, mnl->attr_get_u16(attr));
		note(walk, mnl->attr_get_u32(attr));
	}
	return mnl->attr_get_type(attr) == walk->stop_at ? MNL_CB_STOP : MNL_CB_OK;
}

/* All that can be asked of the messages in the first @len bytes of @room. */
static void walk_all(struct walk *walk, const char *room, int len)
{
	const struct mnl_api *mnl = walk->mnl;
	const struct nlmsghdr *msg = (const void *)room;

	walk->base = room;
	for (; mnl->nlmsg_ok(msg, len); msg = mnl->nlmsg_next(msg, &len)) {
		note(walk, (const char *)msg - room);
		note(walk, (long)mnl->nlmsg_get_payload_len(msg));
		note(walk, (const char *)mnl->nlmsg_get_payload(msg) - room);
		note(walk, (const char *)mnl->nlmsg_get_payload_offset(msg, 5) - room);
		note(walk, (const char *)mnl->nlmsg_get_payload_tail(msg) - room);
		note(walk, mnl->attr_parse(msg, 4, visit, walk));
	}
	note(walk, len);
}

static void compare(const char *room, int len, int stop_at)
{
	struct walk walks[2] = {{.mnl = &real, .stop_at = stop_at},
				{.mnl = &mnl_own, .stop_at = stop_at}};

	for (size_t i = 0; i < 2; i++)
		walk_all(&walks[i], room, len);
	assert_memory_equal(walks[0].seen, walks[1].seen, sizeof(walks[0].seen));
	assert_int_equal(walks[0].n, walks[1].n);
}

/* With the highest bit of its length set, libmnl takes a message for a short one. */
static bool is_too_long_for_libmnl(const char *room, int len)
{
	const struct nlmsghdr *msg = (const void *)room;

	for (; mnl_own.nlmsg_ok(msg, len); msg = mnl_own.nlmsg_next(msg, &len))
		;
	return len >= (int)sizeof(*msg) && msg->nlmsg_len > INT32_MAX;
}

/* Sound messages, and each with every byte of its lengths changed and cut everywhere. */
static void test_decode(void **state)
{
	static const unsigned char values[] = {0, 1, 3, 4, 5, 8, 16, 0x7f, 0x80, 0xff};
	static char room[2 * ROOM] __attribute__((aligned(8)));

	(void)state;
	for (size_t seed = 0; seed < 40; seed += 13) {
		int len;

		memset(room, 0, sizeof(room));
		len = (int)build(&real, room, seed)->nlmsg_len;
		len += (int)build(&real, room + len, seed + 1)->nlmsg_len;
		for (int stop_at = 0; stop_at < 10; stop_at++)
			compare(room, len, stop_at);
		for (int cut = 0; cut < len; cut++)
			compare(room, cut, -1);
		for (int at = 0; at < len; at++) {
			char kept = room[at];

			for (size_t i = 0; i < sizeof(values); i++) {
				room[at] = (char)values[i];
				if (!is_too_long_for_libmnl(room, len))
					compare(room, len, -1);
			}
			room[at] = kept;
		}
	}
}

/* The attributes of one loopback device, as the kernel sends them. */
static ssize_t ask(const struct mnl_api *mnl, char answer[8192])
{
	struct mnl_socket *nl = mnl->socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | SOCK_NONBLOCK);
	char room[256] __attribute__((aligned(8)));
	struct nlmsghdr *msg = mnl->nlmsg_put_header(room);
	int on = 1;
	ssize_t n;

	assert_non_null(nl);
	assert_int_equal(mnl->socket_bind(nl, 0, MNL_SOCKET_AUTOPID), 0);
	assert_int_equal(mnl->socket_setsockopt(nl, NETLINK_CAP_ACK, &on, sizeof(on)), 0);
	assert_true(fcntl(mnl->socket_get_fd(nl), F_GETFD) & FD_CLOEXEC);
	errno = 0;
	assert_int_equal(mnl->socket_recvfrom(nl, answer, 8192), -1);
	assert_int_equal(errno, EAGAIN);
	msg->nlmsg_type = RTM_GETLINK;
	msg->nlmsg_flags = NLM_F_REQUEST;
	msg->nlmsg_seq = 7;
	((struct ifinfomsg *)mnl->nlmsg_put_extra_header(msg, sizeof(struct ifinfomsg)))
		->ifi_index = 1;
	assert_int_equal(mnl->socket_sendto(nl, msg, msg->nlmsg_len), msg->nlmsg_len);
	n = mnl->socket_recvfrom(nl, answer, 8192);
	assert_int_equal(mnl->socket_sendto(nl, msg, msg->nlmsg_len), msg->nlmsg_len);
	errno = 0;
	assert_int_equal(mnl->socket_recvfrom(nl, room, sizeof(room)), -1);
	assert_int_equal(errno, ENOSPC);
	assert_int_equal(mnl->socket_close(nl), 0);
	return n;
}

static void test_sockets(void **state)
{
	static char answers[2][8192] __attribute__((aligned(8)));

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		const struct nlmsghdr *msg = (const void *)answers[i];
		ssize_t n = ask(apis[i], answers[i]);

		assert_true(n > NLMSG_HDRLEN);
		assert_int_equal(msg->nlmsg_len, n);
		assert_int_equal(msg->nlmsg_type, RTM_NEWLINK);
		assert_int_equal(msg->nlmsg_seq, 7);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_are_two),
		cmocka_unit_test(test_encode),
		cmocka_unit_test(test_decode),
		cmocka_unit_test(test_sockets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
