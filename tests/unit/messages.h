/* SPDX-License-Identifier: Apache-2.0 */
/* messages.h - netlink messages for tests: encoded ones, and what hostile hands make of them */
#pragma once

#include "kernel/netlink.h"
#include "net/ip.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Calls @parse with @msg in memory of exactly its length (but for the padding, which every
 * message has room for), so that a sanitizer sees every
 * byte that is read behind its end: cut at each length, with each byte turned into each of
 * some values that matter as lengths. What comes out is not looked at. */
static inline void messages_maul(const struct nlmsghdr *msg,
				 void (*parse)(const struct nlmsghdr *msg))
{
	static const uint8_t values[] = {0, 1, 3, 4, 5, 8, 0x7f, 0x80, 0xff};

	for (uint32_t len = NLMSG_HDRLEN; len <= msg->nlmsg_len; len++) {
		struct nlmsghdr *copy = calloc(1, NLMSG_ALIGN(len));

		assert_non_null(copy);
		memcpy(copy, msg, len);
		copy->nlmsg_len = len;
		parse(copy);
		free(copy);
	}
	for (uint32_t at = NLMSG_HDRLEN; at < msg->nlmsg_len; at++)
		for (size_t i = 0; i < sizeof(values); i++) {
			struct nlmsghdr *copy = calloc(1, NLMSG_ALIGN(msg->nlmsg_len));

			assert_non_null(copy);
			memcpy(copy, msg, msg->nlmsg_len);
			((uint8_t *)copy)[at] = values[i];
			parse(copy);
			free(copy);
		}
}

static inline struct ip messages_ip(const char *text)
{
	struct ip ip = {0};

	if (text)
		assert_int_equal(ip_parse(text, &ip), 0);
	return ip;
}

static inline struct ip_net messages_net(const char *text)
{
	struct ip_net net = {0};

	if (text)
		assert_int_equal(ip_net_parse(text, &net), 0);
	return net;
}
