/* SPDX-License-Identifier: Apache-2.0 */
/* test_udp_checksum.c - sums against those of 16 bits at a time, at all alignments */
#include "backend/udp/checksum.h"

#include "base/mem.h"
#include "packets.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* A folded sum as a number in network order. */
static uint16_t number(uint64_t sum)
{
	uint16_t folded = checksum_fold(sum);
	uint8_t b[2];

	memcpy(b, &folded, sizeof(b));
	return ref_get(b);
}

/* Each of the two is exactly as long as it has to be, for the sanitizers to see. */
static void sum_one(const uint8_t *bytes, size_t len, size_t src_at, size_t dst_at)
{
	_cleanup_free_ uint8_t *src = mem_alloc(src_at + len + 1, 1);
	_cleanup_free_ uint8_t *dst = mem_alloc(dst_at + len + 1, 1);
	uint16_t want = ref_sum(0, bytes, len);

	memcpy(src + src_at, bytes, len);
	dst[dst_at + len] = 0xa5;
	assert_int_equal(number(checksum_add(0, src + src_at, len)), want);
	assert_int_equal(number(checksum_copy(0, dst + dst_at, src + src_at, len)), want);
	assert_memory_equal(dst + dst_at, bytes, len);
	assert_int_equal(dst[dst_at + len], 0xa5);
}

static void test_lengths(void **state)
{
	uint8_t bytes[300];

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 37 + 11);
	for (size_t len = 0; len <= sizeof(bytes); len++) {
		for (size_t at = 0; at < 9; at++)
			sum_one(bytes, len, at, 8 - at);
	}
}

static void test_values(void **state)
{
	_cleanup_free_ uint8_t *bytes = mem_alloc(65537, 1);

	(void)state;
	/* All carries there can be; and none. */
	sum_one(bytes, 65535, 0, 0);
	memset(bytes, 0xff, 65537);
	for (size_t len = 65530; len <= 65537; len++)
		sum_one(bytes, len, 1, 2);
	assert_int_equal(number(checksum_add(0, bytes, 65536)), 0xffff);
	assert_int_equal(number(0), 0);
	/* RFC 1071 section 3. */
	assert_int_equal(number(checksum_add(0, "\0\1\xf2\3\xf4\xf5\xf6\xf7", 8)), 0xddf2);
}

static void test_fold(void **state)
{
	static const uint64_t sums[] = {
		0,
		1,
		0xffff,
		0x10000,
		0x1fffe,
		0xffffffff,
		0x100000000,
		0x1fffffffe,
		0xffff0000ffff0000,
		0xfffffffffffffffe,
		UINT64_MAX,
		0x0001000100010001,
		0xffff00000000ffff,
		0x8000800080008000,
	};

	(void)state;
	/* The remainder by 65535, but for that nothing becomes 0. */
	for (size_t i = 0; i < ARRAY_SIZE(sums); i++)
		assert_int_equal(checksum_fold(sums[i]), sums[i] % 0xffff ? sums[i] % 0xffff
							 : sums[i]        ? 0xffff
									  : 0);
}

/* Parts add up, with + as well. */
static void test_parts(void **state)
{
	uint8_t bytes[257], copy[257];
	uint16_t whole;

	(void)state;
	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(255 - i * 3);
	whole = ref_sum(0, bytes, sizeof(bytes));
	for (size_t cut = 0; cut <= sizeof(bytes); cut += 2) {
		size_t rest = sizeof(bytes) - cut;
		uint64_t first = checksum_add(0, bytes, cut);

		assert_int_equal(number(checksum_add(first, bytes + cut, rest)), whole);
		assert_int_equal(number(first + checksum_add(0, bytes + cut, rest)), whole);
		assert_int_equal(number(checksum_copy(first, copy, bytes + cut, rest)), whole);
	}
}

static void test_pseudo(void **state)
{
	static const size_t lens[] = {0, 8, 20, 1480, 65515, 65535};
	uint8_t packet[61];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		struct order o = {.protocol = i % 2 ? UDP : TCP, .src = 0xfffefdfc};

		packets_make(&o, packet + 1); /* at an odd address */
		assert_int_equal(number(checksum_pseudo(packet + 1, packet[10], lens[i])),
				 ref_pseudo(packet + 1, lens[i]));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lengths), cmocka_unit_test(test_values),
		cmocka_unit_test(test_fold),    cmocka_unit_test(test_parts),
		cmocka_unit_test(test_pseudo),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
