/* SPDX-License-Identifier: Apache-2.0 */
/* test_udp_table.c - the table of peers against a look at one after the other */
#include "backend/udp/table.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* The longest subnet that has @dst, of equal ones the last; -1: none. */
static int slow_find(const struct udp_peer *peers, size_t n, uint32_t dst)
{
	int found = -1;

	for (size_t i = 0; i < n; i++) {
		uint64_t size = UINT64_C(1) << (32 - peers[i].subnet_len);

		if (dst / size == peers[i].subnet / size &&
		    (found < 0 || peers[i].subnet_len >= peers[found].subnet_len))
			found = (int)i;
	}
	return found;
}

static bool slow_knows(const struct udp_peer *peers, size_t n, uint32_t addr)
{
	for (size_t i = 0; i < n; i++) {
		if (peers[i].addr == addr)
			return true;
	}
	return false;
}

static void check(const struct table *t, const struct udp_peer *peers, size_t n, uint32_t dst)
{
	const struct udp_peer *found = table_find(t, dst);
	int want = slow_find(peers, n, dst);

	if (!found != (want < 0))
		fail_msg("%08x: %s", dst, found ? "somebody's" : "nobody's");
	if (found &&
	    (found->addr != peers[want].addr || found->subnet_len != peers[want].subnet_len))
		fail_msg("%08x: %08x/%d's", dst, found->subnet, found->subnet_len);
}

/* At all borders, and at random. */
static void table_one(const struct udp_peer *peers, size_t n)
{
	_cleanup_free_ struct table *t = table_new(peers, n);

	check(t, peers, n, 0);
	check(t, peers, n, UINT32_MAX);
	for (size_t i = 0; i < n; i++) {
		uint32_t size = peers[i].subnet_len ? UINT32_C(1) << (32 - peers[i].subnet_len) : 0;
		uint32_t first = peers[i].subnet & (0 - size);

		check(t, peers, n, first);
		check(t, peers, n, first - 1);
		check(t, peers, n, first + size - 1);
		check(t, peers, n, first + size);
		check(t, peers, n, (uint32_t)i * 2654435761u);
		assert_true(table_knows(t, peers[i].addr));
		assert_int_equal(table_knows(t, peers[i].addr + 1),
				 slow_knows(peers, n, peers[i].addr + 1));
	}
}

#define NET(a, b, c, d) ((uint32_t)(a) << 24 | (b) << 16 | (c) << 8 | (d))

static void test_cases(void **state)
{
	static const struct {
		size_t n;
		struct udp_peer peer[6];
	} cases[] = {
		{0, {{0}}},
		{1, {{NET(10, 5, 1, 0), 24, 1}}},
		{2, {{NET(10, 5, 1, 0), 24, 1}, {NET(10, 5, 9, 0), 24, 2}}},
		/* Far from each other. */
		{2, {{NET(0, 0, 0, 0), 24, 1}, {NET(255, 255, 255, 0), 24, 2}}},
		{2, {{NET(0, 0, 0, 0), 1, 1}, {NET(128, 0, 0, 0), 1, 2}}},
		{2, {{NET(10, 5, 1, 1), 32, 1}, {NET(10, 5, 1, 3), 32, 2}}},
		{2, {{NET(0, 0, 0, 0), 32, 1}, {NET(255, 255, 255, 255), 32, 2}}},
		{1, {{0, 0, 1}}},
		{3, {{0, 0, 1}, {NET(10, 0, 0, 0), 8, 2}, {NET(10, 0, 0, 0), 24, 3}}},
		/* The same twice: the last; also with host bits, and among others. */
		{2, {{NET(10, 5, 1, 0), 24, 1}, {NET(10, 5, 1, 0), 24, 2}}},
		{2, {{NET(10, 5, 1, 7), 24, 1}, {NET(10, 5, 1, 9), 24, 2}}},
		{3,
		 {{NET(10, 5, 1, 0), 24, 1}, {NET(10, 5, 1, 0), 24, 2}, {NET(10, 5, 0, 0), 16, 3}}},
		/* One in another, at its beginning, its middle and its end. */
		{4,
		 {{NET(10, 5, 0, 0), 16, 1},
		  {NET(10, 5, 0, 0), 24, 2},
		  {NET(10, 5, 7, 0), 24, 3},
		  {NET(10, 5, 255, 0), 24, 4}}},
		{5,
		 {{NET(10, 5, 255, 255), 32, 1},
		  {NET(10, 5, 255, 0), 24, 2},
		  {NET(10, 5, 0, 0), 16, 3},
		  {NET(10, 0, 0, 0), 8, 4},
		  {NET(10, 6, 0, 0), 16, 5}}},
		{3, {{NET(255, 0, 0, 0), 8, 1}, {NET(255, 255, 0, 0), 16, 2}, {UINT32_MAX, 32, 3}}},
		/* One outer address for two. */
		{2, {{NET(10, 5, 1, 0), 24, 7}, {NET(10, 5, 2, 0), 25, 7}}},
		/* What a hash might take for no entry. */
		{2, {{NET(10, 5, 1, 0), 24, 0}, {NET(10, 5, 2, 0), 24, UINT32_MAX}}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		table_one(cases[i].peer, cases[i].n);
}

static uint32_t lcg = 1;

static uint32_t random_below(uint32_t n)
{
	lcg = lcg * 1664525 + 1013904223;
	return (lcg >> 8) % n;
}

static void test_random(void **state)
{
	struct udp_peer peers[60] = {{0}};

	(void)state;
	for (int round = 0; round < 3000; round++) {
		size_t n = random_below(ARRAY_SIZE(peers) + 1);
		/* Equal and mixed lengths, close and far. */
		uint8_t len = (uint8_t)(1 + random_below(32)), spread = (uint8_t)random_below(32);
		bool mixed = random_below(2);

		for (size_t i = 0; i < n; i++) {
			peers[i].subnet_len = mixed ? (uint8_t)random_below(33) : len;
			peers[i].subnet = 0x0a000000u + (random_below(1 << 24) << 8 >> spread);
			peers[i].addr = random_below(100);
		}
		table_one(peers, n);
	}
}

/* As many as flannel has: subnets in order, outer addresses in two networks. */
static void test_many(void **state)
{
	enum { N_PEERS = 5000 };
	_cleanup_free_ struct udp_peer *peers = mem_alloc(N_PEERS, sizeof(*peers));
	_cleanup_free_ struct table *t = NULL;

	(void)state;
	for (uint32_t i = 0; i < N_PEERS; i++)
		peers[i] = (struct udp_peer){NET(10, 0, 0, 0) + (i << 8), 24,
					     NET(172, 16 + i % 2, 0, 0) + i};
	t = table_new(peers, N_PEERS);
	for (uint32_t i = 0; i < N_PEERS; i++) {
		assert_int_equal(table_find(t, peers[i].subnet + 77)->addr, peers[i].addr);
		assert_true(table_knows(t, peers[i].addr));
		assert_false(table_knows(t, peers[i].addr + N_PEERS));
	}
	assert_null(table_find(t, NET(9, 255, 255, 255)));
	assert_null(table_find(t, NET(10, 0, 0, 0) + (N_PEERS << 8)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
