/* SPDX-License-Identifier: Apache-2.0 */
/* test_lease.c - keys, records and times, ours and the original's */
#include "model/lease.h"

#include "base/mem.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define KEY_V4   "10.5.52.0-24"
#define KEY_V6   "fc00:1::-64"
#define KEY_DUAL KEY_V4 "&" KEY_V6

/* @key reads, and its own form is @canonical; NULL: refused. */
static void key_one(const char *key, const char *canonical)
{
	struct ip_net subnet[IP_FAMILY_COUNT] = {[IP_NONE] = {.len = 77}};
	struct err err = {""};
	char buf[LEASE_KEY_MAX];
	int r = lease_parse_key(key, subnet, &err);

	if (!canonical) {
		if (r != -EINVAL || subnet[IP_NONE].len != 77)
			fail_msg("key \"%s\" was taken", key);
		assert_non_null(strstr(err.text, "is not the key of a lease"));
		return;
	}
	if (r != 0)
		fail_msg("%s", err.text);
	assert_false(ip_net_is_set(&subnet[IP_NONE]));
	assert_string_equal(lease_format_key(subnet, buf), canonical);
}

static void test_key(void **state)
{
	(void)state;
	key_one(KEY_V4, KEY_V4);
	key_one(KEY_V6, KEY_V6);
	key_one(KEY_DUAL, KEY_DUAL);
	key_one("FC00:1::-64", KEY_V6);
	key_one("fc00:1::-64&10.5.52.0-24", KEY_DUAL);
	key_one("0.0.0.0-0&fc00:1::-64", KEY_V6); /* the original, IPv6 only */
	key_one("10.5.52.1-32", "10.5.52.1-32");
	key_one("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00-120&255.255.255.252-30",
		"255.255.255.252-30&ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00-120");
	key_one("", NULL);
	key_one("config", NULL);
	key_one("10.5.52.0", NULL);
	key_one("10.5.52.0-", NULL);
	key_one("-24", NULL);
	key_one("10.5.52.0/24", NULL);
	key_one("10.5.52.0/2-4", NULL);
	key_one("10.5.52.0-33", NULL);
	key_one("10.5.52.0-24 ", NULL);
	key_one(" 10.5.52.0-24", NULL);
	key_one("10.5.52.0-24x", NULL);
	key_one("10.5.52.0--24", NULL);
	key_one("10.5.52.1-24", NULL); /* host bits */
	key_one("fc00:1::1-64", NULL);
	key_one("fc00:1::-129", NULL);
	key_one("0.0.0.0-0", NULL);
	key_one("::-0", NULL);
	key_one("10.5.52.0-24&::-0", NULL);
	key_one("0.0.0.0-0&0.0.0.0-0", NULL);
	key_one("fc00:1::-64&0.0.0.0-0", NULL);
	key_one("0.0.0.0-0&", NULL);
	key_one(KEY_V4 "&", NULL);
	key_one("&" KEY_V6, NULL);
	key_one(KEY_V4 "&&" KEY_V6, NULL);
	key_one(KEY_V4 "&10.5.53.0-24", NULL);
	key_one(KEY_V6 "&" KEY_V6, NULL);
	key_one(KEY_DUAL "&" KEY_V4, NULL);
	key_one("1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111-64", NULL);
}

static struct lease parse_ok(const char *key, const char *text)
{
	struct lease lease;
	struct err err = {""};

	if (lease_parse(key, text, strlen(text), &lease, &err) != 0)
		fail_msg("%s", err.text);
	return lease;
}

/* The record reads and writes back as @want. */
static void record_one(const char *key, const char *text, const char *want)
{
	struct lease lease = parse_ok(key, text), again;
	_cleanup_free_ char *written = lease_format(&lease), *rewritten = NULL;

	assert_string_equal(written, want);
	again = parse_ok(key, written);
	rewritten = lease_format(&again);
	assert_string_equal(rewritten, want);
	assert_true(lease_same_content(&lease, &again));
	lease_done(&again);
	lease_done(&lease);
}

#define VXLAN_DATA "{\"VNI\":1,\"VtepMAC\":\"c6:d2:32:6f:8f:44\"}"

static void test_record(void **state)
{
	(void)state;
	record_one(KEY_V4,
		   "{\"PublicIP\":\"192.168.64.3\",\"PublicIPv6\":null,\"BackendType\":\"vxlan\","
		   "\"BackendData\":" VXLAN_DATA "}",
		   "{\"PublicIP\":\"192.168.64.3\",\"PublicIPv6\":null,\"BackendType\":\"vxlan\","
		   "\"BackendData\":" VXLAN_DATA "}");
	record_one(KEY_DUAL,
		   "{\"PublicIP\":\"192.168.64.3\",\"PublicIPv6\":\"FC00::3\","
		   "\"BackendType\":\"vxlan\",\"BackendData\":" VXLAN_DATA
		   ",\"BackendV6Data\": {\"VNI\": 2} }",
		   "{\"PublicIP\":\"192.168.64.3\",\"PublicIPv6\":\"fc00::3\","
		   "\"BackendType\":\"vxlan\",\"BackendData\":" VXLAN_DATA
		   ",\"BackendV6Data\":{\"VNI\":2}}");
	record_one("0.0.0.0-0&" KEY_V6, "{\"PublicIP\":\"0.0.0.0\",\"PublicIPv6\":\"fc00::3\"}",
		   "{\"PublicIP\":\"0.0.0.0\",\"PublicIPv6\":\"fc00::3\"}");
	/* host-gw, old udp, any case, members that nobody knows. */
	record_one(KEY_V4,
		   "{\"publicip\":\"192.168.64.3\",\"BACKENDTYPE\":\"Host-GW\","
		   "\"BackendData\":null,\"Asof\":7}",
		   "{\"PublicIP\":\"192.168.64.3\",\"PublicIPv6\":null,"
		   "\"BackendType\":\"host-gw\"}");
	record_one(KEY_V4, "{\"PublicIP\":\"192.168.64.3\",\"PublicIPv6\":\"\"}",
		   "{\"PublicIP\":\"192.168.64.3\",\"PublicIPv6\":null}");
	record_one(KEY_V4, "{\"PublicIP\":\"192.168.64.3\",\"PublicIPv6\":\"::\"}",
		   "{\"PublicIP\":\"192.168.64.3\",\"PublicIPv6\":null}");
}

static void test_record_data(void **state)
{
	(void)state;
	/* extension: a string. The order of members stays, for who compares texts. */
	record_one(KEY_V4,
		   "{\"PublicIP\":\"192.168.64.3\",\"BackendData\":\"a \\\"b\\\"\\n\\u00e4/\"}",
		   "{\"PublicIP\":\"192.168.64.3\",\"PublicIPv6\":null,"
		   "\"BackendData\":\"a \\\"b\\\"\\n\xc3\xa4/\"}");
	record_one(KEY_V4,
		   "{\"PublicIP\":\"192.168.64.3\",\"BackendData\":{\"b\":[1,2.5,{}],\"a\":false}}",
		   "{\"PublicIP\":\"192.168.64.3\",\"PublicIPv6\":null,"
		   "\"BackendData\":{\"b\":[1,2.5,{}],\"a\":false}}");
	record_one(KEY_V4,
		   "{\"PublicIP\":\"1.2.3.4\",\"Expiration\":\"2026-02-20T14:31:23.5+02:00\"}",
		   "{\"PublicIP\":\"1.2.3.4\",\"PublicIPv6\":null,"
		   "\"Expiration\":\"2026-02-20T12:31:23Z\"}");
}

static void test_members(void **state)
{
	struct lease lease = parse_ok(KEY_DUAL, "{\"PublicIP\":\"192.168.64.3\","
						"\"PublicIPv6\":\"fc00::3\","
						"\"BackendType\":\"VXLAN\",\"BackendData\":{ }}");
	char buf[IP_NET_STRLEN];

	(void)state;
	assert_string_equal(ip_net_format(&lease.subnet[IP_V4], buf), "10.5.52.0/24");
	assert_string_equal(ip_net_format(&lease.subnet[IP_V6], buf), "fc00:1::/64");
	assert_string_equal(ip_format(&lease.public_ip[IP_V4], buf), "192.168.64.3");
	assert_string_equal(ip_format(&lease.public_ip[IP_V6], buf), "fc00::3");
	assert_string_equal(lease.backend_type, "vxlan");
	assert_string_equal(lease.backend_data[IP_V4], "{}");
	assert_null(lease.backend_data[IP_V6]);
	assert_int_equal(lease.expires_s, 0);
	assert_int_equal(lease.deadline_ms, 0);
	lease_done(&lease);
	lease = parse_ok(KEY_V4, "{\"PublicIP\":\"1.2.3.4\","
				 "\"Expiration\":\"1970-01-01T00:00:00Z\"}");
	assert_int_equal(lease.expires_s, 1); /* not 0: that is "never" */
	lease_done(&lease);
}

/* The record is refused, and the error holds the key and @words. */
static void refused_one(const char *key, const char *text, const char *words)
{
	struct lease lease = {.expires_s = 77};
	struct err err = {""};

	if (lease_parse(key, text, strlen(text), &lease, &err) != -EINVAL)
		fail_msg("%s: %s was taken", key, text);
	assert_int_equal(lease.expires_s, 77);
	if (!strstr(err.text, key) || !strstr(err.text, words))
		fail_msg("%s: \"%s\" lacks \"%s\"", text, err.text, words);
}

static void test_refused(void **state)
{
	(void)state;
	refused_one("config", "{}", "is not the key");
	refused_one(KEY_V4, "", "line 1");
	refused_one(KEY_V4, "{\"PublicIP\":", "line 1, column 12");
	refused_one(KEY_V4, "[]", "object");
	refused_one(KEY_V4, "{}", "PublicIP is missing");
	refused_one(KEY_V4, "{\"PublicIP\":null}", "PublicIP is missing");
	refused_one(KEY_V4, "{\"PublicIP\":\"\"}", "PublicIP is missing");
	refused_one(KEY_V4, "{\"PublicIP\":\"0.0.0.0\"}", "PublicIP is missing");
	refused_one(KEY_DUAL, "{\"PublicIP\":\"1.2.3.4\"}", "PublicIPv6 is missing");
	refused_one(KEY_V6, "{\"PublicIP\":\"1.2.3.4\"}", "PublicIPv6 is missing");
	refused_one(KEY_V4, "{\"PublicIP\":\"1.2.3\"}", "PublicIP: \"1.2.3\" is not an IPv4");
	refused_one(KEY_V4, "{\"PublicIP\":\"fc00::3\"}", "PublicIP: \"fc00::3\" is not an IPv4");
	refused_one(KEY_V4, "{\"PublicIP\":\"1.2.3.4\",\"PublicIPv6\":\"1.2.3.4\"}",
		    "PublicIPv6: \"1.2.3.4\" is not an IPv6");
	refused_one(KEY_V4, "{\"PublicIP\":7}", "PublicIP: 7 is not a string");
	refused_one(KEY_V4, "{\"PublicIP\":\"1.2.3.4\",\"BackendType\":1}",
		    "BackendType: 1 is not a string");
	refused_one(KEY_V4, "{\"PublicIP\":\"1.2.3.4\",\"BackendType\":\"0123456789abcdef\"}",
		    "BackendType: \"0123456789abcdef\" is longer than 15");
	refused_one(KEY_V4, "{\"PublicIP\":\"1.2.3.4\",\"Expiration\":\"soon\"}",
		    "Expiration: \"soon\" is not a time");
	refused_one(KEY_V4, "{\"PublicIP\":\"1.2.3.4\",\"Expiration\":1700000000}",
		    "Expiration: 1700000000 is not a string");
}

static void test_limit(void **state)
{
	_cleanup_free_ char *text = mem_alloc(LEASE_RECORD_MAX + 2, 1);
	struct lease lease;
	struct err err;

	(void)state;
	memset(text, ' ', LEASE_RECORD_MAX + 1);
	memcpy(text, "{\"PublicIP\":\"1.2.3.4\"}", 22);
	assert_int_equal(lease_parse(KEY_V4, text, LEASE_RECORD_MAX, &lease, NULL), 0);
	lease_done(&lease);
	assert_int_equal(lease_parse(KEY_V4, text, LEASE_RECORD_MAX + 1, &lease, &err), -EINVAL);
	assert_non_null(strstr(err.text, "longer than 65536"));
}

static void test_same_content(void **state)
{
	const char *base = "{\"PublicIP\":\"1.2.3.4\",\"BackendType\":\"vxlan\","
			   "\"BackendData\":{\"VNI\":1}}";
	const char *others[] = {
		"{\"PublicIP\":\"1.2.3.5\",\"BackendType\":\"vxlan\",\"BackendData\":{\"VNI\":1}}",
		"{\"PublicIP\":\"1.2.3.4\",\"BackendType\":\"ipip\",\"BackendData\":{\"VNI\":1}}",
		"{\"PublicIP\":\"1.2.3.4\",\"BackendType\":\"vxlan\",\"BackendData\":{\"VNI\":2}}",
		"{\"PublicIP\":\"1.2.3.4\",\"BackendType\":\"vxlan\"}",
		"{\"PublicIP\":\"1.2.3.4\",\"BackendType\":\"vxlan\",\"BackendData\":{\"VNI\":1},"
		"\"BackendV6Data\":{}}",
		"{\"PublicIP\":\"1.2.3.4\",\"PublicIPv6\":\"fc00::1\",\"BackendType\":\"vxlan\","
		"\"BackendData\":{\"VNI\":1}}",
	};
	struct lease lease = parse_ok(KEY_V4, base), copy = lease_copy(&lease), other;

	(void)state;
	copy.expires_s = 17;
	copy.deadline_ms = 18;
	assert_true(lease_same_content(&lease, &copy));
	assert_ptr_not_equal(lease.backend_data[IP_V4], copy.backend_data[IP_V4]);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		other = parse_ok(KEY_V4, others[i]);
		assert_false(lease_same_content(&lease, &other));
		assert_false(lease_same_content(&other, &lease));
		lease_done(&other);
	}
	other = parse_ok("10.5.53.0-24", base);
	assert_false(lease_same_content(&lease, &other));
	lease_done(&other);
	lease_done(&copy);
	lease_done(&lease);
	lease_done(&lease); /* empty now */
	lease_done(NULL);
}

/* -1: refused. */
static void time_one(const char *text, int64_t want, const char *canonical)
{
	int64_t got = 77;
	char buf[32];

	if (!canonical) {
		if (lease_parse_time(text, &got) != -EINVAL || got != 77)
			fail_msg("\"%s\" was taken", text);
		return;
	}
	if (lease_parse_time(text, &got) != 0)
		fail_msg("\"%s\" was refused", text);
	if (got != want)
		fail_msg("%s: %lld, not %lld", text, (long long)got, (long long)want);
	assert_string_equal(lease_format_time(got, buf), canonical);
}

static void test_time(void **state)
{
	(void)state;
	time_one("1970-01-01T00:00:00Z", 0, "1970-01-01T00:00:00Z");
	time_one("2026-02-20T14:31:23Z", 1771597883, "2026-02-20T14:31:23Z");
	time_one("2026-02-20t14:31:23z", 1771597883, "2026-02-20T14:31:23Z");
	time_one("2026-02-20T14:31:23.347252999Z", 1771597883, "2026-02-20T14:31:23Z");
	time_one("2026-02-20T15:31:23+01:00", 1771597883, "2026-02-20T14:31:23Z");
	time_one("2026-02-20T09:01:23.1-05:30", 1771597883, "2026-02-20T14:31:23Z");
	time_one("2024-02-29T00:00:00Z", 1709164800, "2024-02-29T00:00:00Z");
	time_one("2000-02-29T00:00:00Z", 951782400, "2000-02-29T00:00:00Z");
	time_one("2016-12-31T23:59:60Z", 1483228800, "2017-01-01T00:00:00Z");
	time_one("0001-01-01T00:00:00Z", -62135596800, "0001-01-01T00:00:00Z");
	time_one("9999-12-31T23:59:59Z", 253402300799, "9999-12-31T23:59:59Z");
}

static void test_time_refused(void **state)
{
	const char *refused[] = {
		"",
		"2026-02-20",
		"2026-02-20T14:31:23",
		"2026-02-20 14:31:23Z",
		"2026-02-20T14:31Z",
		"2026-02-20T14:31:23Zx",
		"2026-02-20T14:31:23.Z",
		"2026-02-20T14:31:23.5",
		"2026-02-20T14:31:23+0100",
		"2026-02-20T14:31:23+24:00",
		"2026-02-20T14:31:23+01:60",
		"2026-02-20T14:31:23+01",
		"2026-02-29T00:00:00Z",
		"2100-02-29T00:00:00Z",
		"2026-04-31T00:00:00Z",
		"2026-00-20T14:31:23Z",
		"2026-13-20T14:31:23Z",
		"2026-02-00T14:31:23Z",
		"2026-02-20T24:00:00Z",
		"2026-02-20T14:60:00Z",
		"2026-02-20T14:31:61Z",
		"26-02-20T14:31:23Z",
		"+026-02-20T14:31:23Z",
		"1700000000",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		time_one(refused[i], 0, NULL);
}

static void test_time_far(void **state)
{
	char buf[32];

	(void)state;
	assert_string_equal(lease_format_time(INT64_MAX, buf), "9999-12-31T23:59:59Z");
	assert_string_equal(lease_format_time(INT64_MIN, buf), "0000-01-01T00:00:00Z");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_key),          cmocka_unit_test(test_record),
		cmocka_unit_test(test_record_data),  cmocka_unit_test(test_members),
		cmocka_unit_test(test_refused),      cmocka_unit_test(test_limit),
		cmocka_unit_test(test_same_content), cmocka_unit_test(test_time),
		cmocka_unit_test(test_time_refused), cmocka_unit_test(test_time_far),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
