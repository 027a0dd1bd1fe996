/* SPDX-License-Identifier: Apache-2.0 */
/* test_udp_packet.c - the hop of each packet, and the ICMP error */
#include "backend/udp/packet.h"

#include "base/mem.h"
#include "packets.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct {
	const char *name;
	struct order order;
	size_t cut; /* bytes of it that are there; 0: all */
	size_t at;  /* a byte of it is changed, */
	uint8_t byte;
	enum packet_fate fate;
} hops[] = {
	{"plain", {.payload = 100}, 0, 0, 0, PACKET_GOOD},
	{"IP options", {.payload = 100, .ip_options = 40}, 0, 0, 0, PACKET_GOOD},
	{"UDP", {.protocol = UDP, .payload = 1}, 0, 0, 0, PACKET_GOOD},
	{"ICMP", {.protocol = 1, .payload = 56}, 0, 0, 0, PACKET_GOOD},
	{"fragment", {.protocol = UDP, .frag = MF | 185, .payload = 80}, 0, 0, 0, PACKET_GOOD},
	{"nobody's protocol", {.protocol = 253}, 0, 0, 0, PACKET_GOOD},
	{"as large as a datagram", {.payload = 65507 - 40}, 0, 0, 0, PACKET_GOOD},
	{"TTL 2", {.ttl = 2}, 0, 0, 0, PACKET_GOOD},
	{"TTL 255", {.ttl = 255}, 0, 0, 0, PACKET_GOOD},
	{"TTL 1", {.ttl = 1}, 0, 0, 0, PACKET_EXPIRED},
	{"TTL 0", {.ttl = 64}, 0, 8, 0, PACKET_EXPIRED},
	{"tot_len too small", {.payload = 50}, 0, 3, 60, PACKET_GOOD},
	{"tot_len too large", {.payload = 50}, 0, 3, 200, PACKET_GOOD},
	{"tot_len 0", {.payload = 50}, 0, 3, 0, PACKET_GOOD},
	{"ihl 4", {.payload = 50}, 0, 0, 0x44, PACKET_GOOD},
	{"ihl 0", {.payload = 50}, 0, 0, 0x40, PACKET_GOOD},
	{"ihl beyond the end", {.payload = 0}, 24, 0, 0x4f, PACKET_GOOD},
	{"header alone", {.payload = 0}, 20, 0, 0, PACKET_GOOD},
	{"IPv6", {.payload = 50}, 0, 0, 0x60, PACKET_NOT_V4},
	{"version 0", {.payload = 50}, 0, 0, 0x05, PACKET_NOT_V4},
	{"19 bytes", {.payload = 50}, 19, 0, 0, PACKET_SHORT},
	{"1 byte", {.payload = 50}, 1, 0, 0, PACKET_SHORT},
};

static void test_hop(void **state)
{
	static uint8_t made[PACKETS_LEN_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(hops); i++) {
		size_t len = packets_make(&hops[i].order, made);
		_cleanup_free_ uint8_t *pkt = NULL;

		len = hops[i].cut ? hops[i].cut : len;
		if (hops[i].at || hops[i].byte)
			made[hops[i].at] = hops[i].byte;
		/* Odd, and exactly as long. */
		pkt = mem_alloc(len + 1, 1);
		memcpy(pkt + 1, made, len);
		if (packet_hop(pkt + 1, len) != hops[i].fate)
			fail_msg("%s: not the fate it should have", hops[i].name);
		if (hops[i].fate == PACKET_GOOD) {
			made[8]--;
			if (!hops[i].at && !hops[i].byte)
				ref_set_ip_check(made);
			else
				memcpy(made + 10, pkt + 11, 2); /* see test_patch() */
		}
		if (memcmp(made, pkt + 1, len) != 0)
			fail_msg("%s: not the bytes it should be", hops[i].name);
	}
	assert_int_equal(packet_hop(made, 0), PACKET_SHORT);
}

/* Any checksum at all is as right or wrong after it as it was before: RFC 1624. */
static void test_patch(void **state)
{
	(void)state;
	for (unsigned check = 0; check <= 0xffff; check++) {
		struct order o = {.ttl = (uint8_t)(2 + check % 254), .id = (uint16_t)(check * 3)};
		uint8_t pkt[40];
		uint16_t before;

		packets_make(&o, pkt);
		ref_put(pkt + 10, check);
		before = ref_sum(0, pkt, 20);
		assert_int_equal(packet_hop(pkt, sizeof(pkt)), PACKET_GOOD);
		assert_int_equal(ref_sum(0, pkt, 20) % 0xffff, before % 0xffff);
		assert_int_not_equal(ref_get(pkt + 10), 0xffff);
	}
}

static void test_addresses(void **state)
{
	struct order o = {.src = 0x0a050102, .dst = 0xfffefdfc};
	uint8_t pkt[41];

	(void)state;
	packets_make(&o, pkt + 1);
	assert_int_equal(packet_src(pkt + 1), 0x0a050102);
	assert_int_equal(packet_dst(pkt + 1), 0xfffefdfc);
}

/* -- ICMP ------------------------------------------------------------------------------- */

static const struct {
	const char *name;
	struct order order;
	size_t cut; /* bytes of it that are there; 0: all */
	size_t at;  /* a byte of it is changed */
	uint8_t byte;
	size_t quoted; /* 0: no answer */
} errors[] = {
	{"TCP", {.payload = 100}, 0, 0, 0, 28},
	{"UDP without payload", {.protocol = UDP}, 0, 0, 0, 28},
	{"IP options", {.payload = 100, .ip_options = 40}, 0, 0, 0, 68},
	{"first fragment", {.protocol = UDP, .frag = MF, .payload = 80}, 0, 0, 0, 28},
	{"longer than it says", {.payload = 100}, 0, 3, 60, 28},
	{"less than 8 bytes of payload", {.protocol = 253}, 24, 3, 24, 24},
	{"no payload", {.protocol = 253}, 20, 3, 20, 20},
	{"echo request", {.protocol = 1, .payload = 56}, 0, 20, 8, 28},
	{"echo reply", {.protocol = 1, .payload = 56}, 0, 20, 0, 28},
	{"ICMP unreachable", {.protocol = 1, .payload = 56}, 0, 20, 3, 0},
	{"ICMP source quench", {.protocol = 1, .payload = 56}, 0, 20, 4, 0},
	{"ICMP redirect", {.protocol = 1, .payload = 56}, 0, 20, 5, 0},
	{"ICMP time exceeded", {.protocol = 1, .payload = 56}, 0, 20, 11, 0},
	{"ICMP parameter problem", {.protocol = 1, .payload = 56}, 0, 20, 12, 0},
	{"ICMP of nothing", {.protocol = 1}, 20, 3, 20, 0},
	{"second fragment", {.protocol = UDP, .frag = MF | 1, .payload = 80}, 0, 0, 0, 0},
	{"last fragment", {.protocol = UDP, .frag = 0x1fff, .payload = 80}, 0, 0, 0, 0},
	{"ihl 4", {.payload = 100}, 0, 0, 0x44, 0},
	{"options cut short", {.ip_options = 40}, 40, 3, 40, 0},
	{"cut short", {.payload = 100}, 100, 0, 0, 0},
	{"tot_len less than the header", {.payload = 100}, 0, 3, 19, 0},
	{"to multicast", {.payload = 10, .dst = 0xe0000001}, 0, 0, 0, 0},
	{"to broadcast", {.payload = 10, .dst = 0xffffffff}, 0, 0, 0, 0},
	{"from multicast", {.payload = 10, .src = 0xefffffff}, 0, 0, 0, 0},
	{"from nobody", {.payload = 10}, 0, 12, 0, 0},
	{"from loopback", {.payload = 10, .src = 0x7f000001}, 0, 0, 0, 0},
	{"from class E", {.payload = 10, .src = 0xf0000001}, 0, 0, 0, 0},
};

static void check_error(const uint8_t *out, size_t len, const uint8_t *pkt, size_t quoted)
{
	assert_int_equal(len, 28 + quoted);
	assert_int_equal(out[0], 0x45);
	assert_int_equal(ref_get(out + 2), len);
	assert_int_equal(ref_get(out + 6), 0);
	assert_true(out[8] > 1);
	assert_int_equal(out[9], 1);
	assert_int_equal(ref_get32(out + 12), 0x0a050100);
	assert_memory_equal(out + 16, pkt + 12, 4);
	assert_int_equal(ref_sum(0, out, 20), 0xffff);
	assert_int_equal(out[20], 3); /* destination unreachable */
	assert_int_equal(out[21], 0); /* net */
	assert_int_equal(ref_get32(out + 24), 0);
	assert_int_equal(ref_sum(0, out + 20, len - 20), 0xffff);
	assert_memory_equal(out + 28, pkt, quoted);
}

static void test_unreachable(void **state)
{
	uint8_t made[200], out[PACKET_UNREACHABLE_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		size_t len = packets_make(&errors[i].order, made), n;
		_cleanup_free_ uint8_t *pkt = NULL;

		len = errors[i].cut ? errors[i].cut : len;
		if (errors[i].at || errors[i].byte)
			made[errors[i].at] = errors[i].byte;
		pkt = mem_alloc(len, 1);
		memcpy(pkt, made, len);
		memset(out, 0xa5, sizeof(out));
		n = packet_unreachable(pkt, len, 0x0a050100, out);
		if (!n != !errors[i].quoted)
			fail_msg("%s: %zu bytes", errors[i].name, n);
		if (n)
			check_error(out, n, pkt, errors[i].quoted);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hop),
		cmocka_unit_test(test_patch),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_unreachable),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
