/* SPDX-License-Identifier: Apache-2.0 */
/* test_udp_segment.c - super-packets against segments made one at a time */
#include "backend/udp/segment.h"

#include "base/mem.h"
#include "supers.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* @pkt and each segment lie @shift bytes off, in memory that is exactly as long. */
static void super_one(size_t i, size_t shift)
{
	static uint8_t made[PACKETS_LEN_MAX], want[PACKETS_LEN_MAX];
	size_t len = packets_make(&supers[i].order, made), at = 0, n;
	struct virtio_net_hdr vnet = packets_offload(made, len, supers[i].size);
	_cleanup_free_ uint8_t *pkt = mem_alloc(len + shift, 1);
	struct segment seg;

	memcpy(pkt + shift, made, len);
	vnet.gso_type |= supers[i].gso_more;
	vnet.hdr_len = (uint16_t)len; /* a hint, and a bad one */
	assert_int_equal(segment_init(&seg, &vnet, pkt + shift, len), 0);
	while ((n = segment_len(&seg))) {
		_cleanup_free_ uint8_t *out = mem_alloc(n + shift, 1);

		assert_true(at < len - ref_headers_len(made));
		assert_int_equal(n, ref_segment(made, len, supers[i].size, at, want));
		segment_next(&seg, out + shift);
		if (memcmp(out + shift, want, n) != 0)
			fail_msg("%s: another segment at %zu", supers[i].name, at);
		at += supers[i].size;
	}
	assert_true(at >= len - ref_headers_len(made));
	assert_memory_equal(pkt + shift, made, len);
}

static void test_supers(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(supers); i++) {
		for (size_t shift = 0; shift < 4; shift++)
			super_one(i, shift);
	}
}

/* -- single packets --------------------------------------------------------------------- */

static void single_one(const uint8_t *given, const struct virtio_net_hdr *vnet, size_t len,
		       const uint8_t *want)
{
	_cleanup_free_ uint8_t *out = mem_alloc(len, 1);
	struct segment seg;

	assert_int_equal(segment_init(&seg, vnet, given, len), 0);
	assert_int_equal(segment_len(&seg), len);
	segment_next(&seg, out);
	assert_int_equal(segment_len(&seg), 0);
	assert_memory_equal(out, want, len);
}

static void test_singles(void **state)
{
	static const struct order orders[] = {
		{.payload = 0},
		{.payload = 0, .flags = SYN, .tcp_options = 20},
		{.payload = 1448, .flags = ACK | PSH | CWR},
		{.payload = 777, .ip_options = 40},
		{.protocol = UDP},
		{.protocol = UDP, .payload = 1},
		{.protocol = UDP, .payload = 65507},
	};
	static uint8_t want[PACKETS_LEN_MAX], given[PACKETS_LEN_MAX];
	struct virtio_net_hdr none = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(orders); i++) {
		size_t len = packets_make(&orders[i], want);
		struct virtio_net_hdr vnet;

		single_one(want, &none, len, want);
		none.flags = VIRTIO_NET_HDR_F_DATA_VALID;
		single_one(want, &none, len, want);
		memcpy(given, want, len);
		vnet = packets_offload(given, len, 0);
		single_one(given, &vnet, len, want);
	}
}

/* What is not understood goes as it is: runts, lies about lengths, other protocols. */
static void test_as_it_is(void **state)
{
	uint8_t pkt[100];
	struct virtio_net_hdr none = {0};

	(void)state;
	memset(pkt, 0xee, sizeof(pkt));
	single_one(pkt, &none, 20, pkt);
	single_one(pkt, &none, 99, pkt);
}

/* A sum of 0 is "none" in UDP (RFC 768); skb_checksum_help() does it for all. */
static void test_zero_sum(void **state)
{
	static const uint8_t protocols[] = {UDP, TCP};
	uint8_t want[80], given[80];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
		struct order o = {.protocol = protocols[i], .payload = 30};
		size_t len = packets_make(&o, want);
		struct virtio_net_hdr vnet;

		/* The payload's last word takes what the checksum was, which becomes 0. */
		ref_put(want + len - 2,
			ref_sum(ref_get(ref_transport_check(want)), want + len - 2, 2));
		memcpy(given, want, len);
		vnet = packets_offload(given, len, 0);
		ref_put(ref_transport_check(want), 0xffff);
		single_one(given, &vnet, len, want);

		/* As one of many: of TCP it stays 0, tcp_gso_segment(). */
		vnet = packets_offload(given, len, 1000);
		ref_set_transport_check(want, len);
		assert_int_equal(ref_get(ref_transport_check(want)), i == 0 ? 0xffff : 0);
		single_one(given, &vnet, len, want);
	}
}

/* -- what no kernel does ---------------------------------------------------------------- */

enum { NOTHING, HEADER_TYPE, HEADER_SIZE, HEADER_START, HEADER_OFFSET, PACKET };

static const struct {
	const char *name;
	uint8_t protocol;
	size_t size;
	size_t cut; /* of 140 (TCP), 128 (UDP) bytes */
	struct {
		int what;
		unsigned value;
		size_t at; /* PACKET */
	} change[2];
} refused[] = {
	{"no such type", TCP, 50, 0, {{HEADER_TYPE, 2, 0}}},
	{"UFO", UDP, 50, 0, {{HEADER_TYPE, 3, 0}}},
	{"TCP over IPv6", TCP, 50, 0, {{HEADER_TYPE, 4, 0}}},
	{"ECN of nothing", TCP, 50, 0, {{HEADER_TYPE, 0x80, 0}}},
	{"ECN of UDP", UDP, 50, 0, {{HEADER_TYPE, 0x85, 0}}},
	{"UDP tunnel", TCP, 50, 0, {{HEADER_TYPE, 0x21, 0}}},
	{"type of the other", TCP, 50, 0, {{HEADER_TYPE, 5, 0}}},
	{"type of the other", UDP, 50, 0, {{HEADER_TYPE, 1, 0}}},
	{"size 0", TCP, 50, 0, {{HEADER_SIZE, 0, 0}}},
	{"no payload", TCP, 50, 40, {{NOTHING, 0, 0}}},
	{"no payload", UDP, 50, 28, {{NOTHING, 0, 0}}},
	{"TCP header cut", TCP, 50, 39, {{NOTHING, 0, 0}}},
	{"UDP header cut", UDP, 50, 27, {{NOTHING, 0, 0}}},
	{"TCP header cut before its length", TCP, 50, 32, {{NOTHING, 0, 0}}},
	{"IP header alone", TCP, 50, 20, {{NOTHING, 0, 0}}},
	{"ihl 4", TCP, 50, 0, {{PACKET, 0x44, 0}, {HEADER_START, 16, 0}}},
	{"ihl 4", UDP, 50, 0, {{PACKET, 0x44, 0}, {HEADER_START, 16, 0}}},
	{"ihl beyond", TCP, 50, 50, {{PACKET, 0x4f, 0}, {HEADER_START, 60, 0}}},
	{"doff 4", TCP, 50, 0, {{PACKET, 0x40, 32}}},
	{"doff 0", TCP, 50, 0, {{PACKET, 0x00, 32}}},
	{"doff beyond", TCP, 50, 70, {{PACKET, 0xf0, 32}}},
	{"fragment", TCP, 50, 0, {{PACKET, 0x20, 6}}},
	{"last fragment", UDP, 50, 0, {{PACKET, 0x01, 7}}},
	{"checksum from elsewhere", TCP, 50, 0, {{HEADER_START, 24, 0}}},
	{"checksum elsewhere", TCP, 50, 0, {{HEADER_OFFSET, 6, 0}}},
	{"checksum elsewhere", UDP, 50, 0, {{HEADER_OFFSET, 16, 0}}},
	{"single, checksum behind it", TCP, 0, 0, {{HEADER_START, 140 - 17, 0}}},
	{"single, checksum far behind it",
	 TCP,
	 0,
	 0,
	 {{HEADER_START, 0xffff, 0}, {HEADER_OFFSET, 0xffff, 0}}},
	{"single, checksum over its version",
	 TCP,
	 0,
	 0,
	 {{HEADER_START, 0, 0}, {HEADER_OFFSET, 0, 0}}},
};

static void change(struct virtio_net_hdr *vnet, uint8_t *pkt, int what, unsigned value, size_t at)
{
	switch (what) {
	case HEADER_TYPE:
		vnet->gso_type = (uint8_t)value;
		break;
	case HEADER_SIZE:
		vnet->gso_size = (uint16_t)value;
		break;
	case HEADER_START:
		vnet->csum_start = (uint16_t)value;
		break;
	case HEADER_OFFSET:
		vnet->csum_offset = (uint16_t)value;
		break;
	case PACKET:
		pkt[at] = (uint8_t)value;
		break;
	default:
		break;
	}
}

static void test_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
		struct order o = {.protocol = refused[i].protocol, .payload = 100};
		uint8_t made[140];
		size_t len = packets_make(&o, made);
		struct virtio_net_hdr vnet = packets_offload(made, len, refused[i].size);
		_cleanup_free_ uint8_t *pkt = NULL;
		struct segment seg;

		len = refused[i].cut ? refused[i].cut : len;
		for (size_t k = 0; k < 2; k++)
			change(&vnet, made, refused[i].change[k].what, refused[i].change[k].value,
			       refused[i].change[k].at);
		pkt = mem_alloc(len, 1);
		memcpy(pkt, made, len);
		if (segment_init(&seg, &vnet, pkt, len) != -EINVAL)
			fail_msg("taken: %s", refused[i].name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_supers),   cmocka_unit_test(test_singles),
		cmocka_unit_test(test_as_it_is), cmocka_unit_test(test_zero_sum),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
