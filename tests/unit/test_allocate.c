/* SPDX-License-Identifier: Apache-2.0 */
/* test_allocate.c - the choice of a subnet: whole range, no order, no end */
#include "model/allocate.h"

#include "base/mem.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct netconf_range range_of(const char *network, unsigned len, const char *min,
				     const char *max)
{
	struct netconf_range range = {.subnet_len = len};

	assert_int_equal(ip_net_parse(network, &range.network), 0);
	assert_int_equal(ip_parse(min, &range.subnet_min), 0);
	assert_int_equal(ip_parse(max, &range.subnet_max), 0);
	return range;
}

struct asked {
	const struct netconf_range *range;
	size_t n, limit; /* the first @limit subnets are taken */
	unsigned char *seen;
	struct ip_net last;
};

static bool note(const struct ip_net *subnet, void *userdata)
{
	struct asked *asked = userdata;

	assert_true(allocate_valid(asked->range, subnet));
	if (asked->seen) {
		unsigned host_bits = ip_bits(subnet->ip.family) - subnet->len;
		ip_num first = ip_to_num(&asked->range->subnet_min);
		size_t index = (size_t)((ip_to_num(&subnet->ip) - first) >> host_bits);

		assert_int_equal(asked->seen[index], 0); /* each once */
		asked->seen[index] = 1;
	}
	asked->last = *subnet;
	return asked->n++ < asked->limit;
}

/* With all taken but one, that one is found, in any range and for any draw. */
static void whole_one(const char *network, unsigned len, const char *min, const char *max,
		      size_t count)
{
	struct netconf_range range = range_of(network, len, min, max);
	struct ip_net subnet;

	for (uint64_t random = 0; random < (count > 1000 ? 4 : 40); random++) {
		_cleanup_free_ unsigned char *seen = mem_alloc(count, 1);
		struct asked asked = {.range = &range, .limit = SIZE_MAX, .seen = seen};

		memset(&subnet, 77, sizeof(subnet));
		assert_int_equal(allocate_pick(&range, random, note, &asked, &subnet), -ENOSPC);
		assert_int_equal(subnet.len, 77);
		assert_int_equal(asked.n, count);
		memset(seen, 0, count);
		asked = (struct asked){.range = &range, .limit = count - 1, .seen = seen};
		assert_int_equal(allocate_pick(&range, random, note, &asked, &subnet), 0);
		assert_true(ip_net_equal(&subnet, &asked.last));
	}
}

static void test_whole_range(void **state)
{
	(void)state;
	whole_one("10.1.0.0/16", 24, "10.1.1.0", "10.1.255.0", 255);
	whole_one("10.1.0.0/16", 24, "10.1.0.0", "10.1.255.0", 256);
	whole_one("10.1.0.0/16", 24, "10.1.9.0", "10.1.9.0", 1);
	whole_one("10.1.0.0/16", 24, "10.1.9.0", "10.1.10.0", 2);
	whole_one("10.1.0.0/28", 30, "10.1.0.4", "10.1.0.12", 3);
	whole_one("10.0.0.0/8", 24, "10.0.1.0", "10.30.29.0", 7709); /* 13 * 593 */
	whole_one("fd00::/48", 64, "fd00:0:0:1::", "fd00:0:0:ffff::", 65535);
	whole_one("fd00::/124", 126, "fd00::4", "fd00::c", 3);
	whole_one("255.255.255.0/24", 30, "255.255.255.4", "255.255.255.252", 63);
}

/* A huge range ends after a bounded search. */
static void test_huge(void **state)
{
	struct netconf_range range =
		range_of("8000::/1", 126, "8000::4", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc");
	struct asked asked = {.range = &range, .limit = SIZE_MAX};
	struct ip_net subnet;

	(void)state;
	assert_int_equal(allocate_pick(&range, 1, note, &asked, &subnet), -ENOSPC);
	assert_int_equal(asked.n, 1 << 20);
	range = range_of("0.0.0.0/1", 30, "0.0.0.4", "127.255.255.252");
	asked = (struct asked){.range = &range, .limit = 1000};
	assert_int_equal(allocate_pick(&range, 1, note, &asked, &subnet), 0);
	assert_int_equal(asked.n, 1001);
}

/* Hosts that start at one moment over the same empty table rarely meet: the birthday
 * paradox allows about 20 pairs among 100 hosts in 255 subnets, order would give 4950. */
static void test_spread(void **state)
{
	struct netconf_range range = range_of("10.1.0.0/16", 24, "10.1.1.0", "10.1.255.0");
	int hosts[256] = {0}, pairs = 0, low = 0;

	(void)state;
	for (uint64_t random = 0; random < 100; random++) {
		struct asked asked = {.range = &range};
		struct ip_net subnet;

		assert_int_equal(allocate_pick(&range, random, note, &asked, &subnet), 0);
		pairs += hosts[subnet.ip.b[2]]++;
		low += subnet.ip.b[2] < 128;
	}
	assert_in_range(pairs, 0, 40);
	assert_in_range(low, 30, 70);
}

static void valid_one(const char *text, bool want)
{
	struct netconf_range range = range_of("10.1.0.0/16", 24, "10.1.2.0", "10.1.8.0");
	struct ip_net subnet;

	assert_int_equal(ip_net_parse(text, &subnet), 0);
	if (allocate_valid(&range, &subnet) != want)
		fail_msg("%s: %d", text, !want);
}

static void test_valid(void **state)
{
	struct netconf_range range = range_of("10.1.0.0/16", 24, "10.1.2.0", "10.1.8.0");
	struct ip_net unset = {0};

	(void)state;
	valid_one("10.1.2.0/24", true);
	valid_one("10.1.5.0/24", true);
	valid_one("10.1.8.0/24", true);
	valid_one("10.1.1.0/24", false);
	valid_one("10.1.9.0/24", false);
	valid_one("10.1.5.1/24", false);
	valid_one("10.1.4.0/23", false);
	valid_one("10.1.5.0/25", false);
	valid_one("10.2.5.0/24", false);
	valid_one("::10.1.5.0/24", false);
	valid_one("fd00::/24", false);
	assert_false(allocate_valid(&range, &unset));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole_range),
		cmocka_unit_test(test_huge),
		cmocka_unit_test(test_spread),
		cmocka_unit_test(test_valid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
