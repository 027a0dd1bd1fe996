/* SPDX-License-Identifier: Apache-2.0 */
/* test_mac.c - Ethernet addresses */
#include "net/mac.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* @text reads as the MAC whose own text is @canonical; NULL: does not read. */
static void parse_one(const char *text, const char *canonical)
{
	struct mac mac = {{77}};
	char buf[MAC_STRLEN];

	if (canonical) {
		assert_int_equal(mac_parse(text, &mac), 0);
		assert_string_equal(mac_format(&mac, buf), canonical);
	} else if (mac_parse(text, &mac) != -EINVAL || mac.b[0] != 77) {
		fail_msg("\"%s\" was taken", text);
	}
}

static void test_parse(void **state)
{
	(void)state;
	parse_one("c6:d2:32:6f:8f:44", "c6:d2:32:6f:8f:44");
	parse_one("C6:D2:32:6F:8F:44", "c6:d2:32:6f:8f:44");
	parse_one("c6-d2-32-6f-8f-44", "c6:d2:32:6f:8f:44");
	parse_one("00:00:00:00:00:00", "00:00:00:00:00:00");
	parse_one("", NULL);
	parse_one("c6:d2", NULL);
	parse_one("c6:d2:32:6f:8f", NULL);
	parse_one("c6:d2:32:6f:8f:4", NULL);
	parse_one("c6:d2:32:6f:8f:444", NULL);
	parse_one("c6:d2:32:6f:8f:44:", NULL);
	parse_one("c6:d2-32:6f-8f:44", NULL);
	parse_one("c6.d2.32.6f.8f.44", NULL);
	parse_one("g6:d2:32:6f:8f:44", NULL);
	parse_one("c6:d2:32: f:8f:44", NULL);
	parse_one("c6:d2:32:+f:8f:44", NULL);
}

static void kind_one(const char *text, bool zero, bool unicast)
{
	struct mac mac;

	assert_int_equal(mac_parse(text, &mac), 0);
	assert_int_equal(mac_is_zero(&mac), zero);
	assert_int_equal(mac_is_unicast(&mac), unicast);
}

static void test_kinds(void **state)
{
	(void)state;
	kind_one("c6:d2:32:6f:8f:44", false, true);
	kind_one("00:00:00:00:00:01", false, true);
	kind_one("00:00:00:00:00:00", true, false);
	kind_one("01:00:5e:00:00:01", false, false);
	kind_one("ff:ff:ff:ff:ff:ff", false, false);
}

static void test_seed(void **state)
{
	enum { SEEDS = 2000 };
	static struct mac seen[SEEDS];
	struct mac a = mac_from_seed("flannel.1 node-1"), b = mac_from_seed("flannel.1 node-1");
	char seed[32], text[MAC_STRLEN];

	(void)state;
	assert_true(mac_equal(&a, &b));
	/* Peers know it: it must stay the same from release to release. */
	assert_string_equal(mac_format(&a, text), "0a:48:38:68:77:ba");
	for (int i = 0; i < SEEDS; i++) {
		(void)snprintf(seed, sizeof(seed), "node-%d", i);
		seen[i] = mac_from_seed(seed);
		assert_int_equal(seen[i].b[0] & 3, 2); /* local, unicast */
		for (int j = 0; j < i; j++)
			assert_false(mac_equal(&seen[i], &seen[j]));
	}
	a = mac_from_seed("");
	assert_true(mac_is_unicast(&a));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),
		cmocka_unit_test(test_kinds),
		cmocka_unit_test(test_seed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
