/* SPDX-License-Identifier: Apache-2.0 */
/* test_etcd_v2_codec.c - requests and answers of etcd's v2 keys API, as seen on 3.4 */
#include "store/etcd_v2_codec.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define PREFIX "/coreos.com/network"

/* ---- requests ---- */

static void test_prefix(void **state)
{
	static const char *const rows[][2] = {
		{PREFIX, PREFIX}, {"//a//b/", "/a/b"}, {"/a///", "/a"}, {"/", ""}, {"/a", "/a"},
	};
	char prefix[ETCD_PREFIX_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		etcd_v2_prefix(rows[i][0], prefix);
		assert_string_equal(prefix, rows[i][1]);
	}
}

static void test_target(void **state)
{
	static const struct {
		const char *prefix, *key, *query, *target;
	} rows[] = {
		{PREFIX, "config", "", "/v2/keys/coreos.com/network/config"},
		{PREFIX, "", "recursive=true", "/v2/keys/coreos.com/network/?recursive=true"},
		{"/a b%?#", "subnets/10.5.52.0-24&fd00::-64", "x=y&z",
		 "/v2/keys/a%20b%25%3F%23/subnets/10.5.52.0-24%26fd00%3A%3A-64?x=y&z"},
		{"/\xc3\xb6\x7f", "~", "", "/v2/keys/%C3%B6%7F/~"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *target =
			etcd_v2_target(rows[i].prefix, rows[i].key, rows[i].query);

		assert_string_equal(target, rows[i].target);
	}
}

static void test_form(void **state)
{
	static const struct {
		const char *value;
		int64_t ttl_s;
		const char *form;
	} rows[] = {
		{"{\"a\": \"b&c=d+e\"}", 86400,
		 "value=%7B%22a%22%3A%20%22b%26c%3Dd%2Be%22%7D&ttl=86400"},
		{"", 0, "value=&ttl="},
		{"x/y\n", 0, "value=x%2Fy%0A&ttl="},
		{NULL, INT64_MAX, "refresh=true&ttl=9223372036854775807"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *form = etcd_v2_form(rows[i].value, rows[i].ttl_s);

		assert_string_equal(form, rows[i].form);
	}
}

/* ---- answers ---- */

#define KEY(name) "\"key\":\"" PREFIX "/" name "\""
#define INDEXES   ",\"modifiedIndex\":6,\"createdIndex\":5"

static void test_errors(void **state)
{
	static const struct {
		int http_status;
		const char *body, *user;
		enum etcd_status status;
		bool absent;
		const char *says;
	} rows[] = {
		{404,
		 "{\"errorCode\":100,\"message\":\"Key not found\",\"cause\":\"/coreos.com\","
		 "\"index\":3}",
		 "", ETCD_CONFLICT, true, "Key not found: /coreos.com"},
		{412, "{\"errorCode\":105,\"message\":\"Key already exists\",\"index\":5}", "",
		 ETCD_CONFLICT, false, "Key already exists"},
		{412, "{\"errorCode\":101,\"message\":\"Compare failed\",\"cause\":\"[1 != 6]\"}",
		 "", ETCD_CONFLICT, false, "Compare failed: [1 != 6]"},
		{403, "{\"errorCode\":102,\"message\":\"Not a file\"}", "", ETCD_CONFLICT, false,
		 "Not a file"},
		{403, "{\"errorCode\":107,\"message\":\"Root is read only\"}", "", ETCD_REFUSED,
		 false, "Root is read only"},
		{401,
		 "{\"errorCode\":110,\"message\":\"The request requires user authentication\","
		 "\"cause\":\"Insufficient credentials\",\"index\":0}",
		 "flannel", ETCD_REFUSED, false, "user flannel is refused: wrong password, or"},
		{401, "{\"errorCode\":110,\"message\":\"The request\"}", "", ETCD_REFUSED, false,
		 "--etcd-username (The request)"},
		{401, "<html>", "flannel", ETCD_REFUSED, false, "user flannel is refused"},
		{400,
		 "{\"errorCode\":401,\"message\":\"The event in requested index is outdated and "
		 "cleared\",\"cause\":\"the requested history has been cleared [114/5]\","
		 "\"index\":1113}",
		 "", ETCD_COMPACTED, false, "cleared [114/5]"},
		{500,
		 "{\"errorCode\":300,\"message\":\"Raft Internal Error\",\"cause\":\"etcdserver: "
		 "request timed out\",\"index\":0}",
		 "", ETCD_AWAY, false, "Raft Internal Error: etcdserver: request timed out"},
		{503, "{\"message\":\"no leader\"}", "", ETCD_AWAY, false, "no leader"},
		{400, "{\"errorCode\":209,\"message\":\"Invalid\\nfield\"}", "", ETCD_REFUSED,
		 false, "Invalid field"},
		{429, "{}", "", ETCD_AWAY, false, "HTTP status 429"},
		{404, "404 page not found\n", "", ETCD_REFUSED, false, "etcd --enable-v2"},
		{404, "<html>not here</html>", "", ETCD_AWAY, false, "404, and not as etcd does"},
		{403, "<html>", "", ETCD_REFUSED, false, "403"},
		{200, "<html>welcome</html>", "", ETCD_AWAY, false, "200, and not as etcd does"},
		{200, "[1]", "", ETCD_AWAY, false, "not as etcd does"},
		{200, "", "", ETCD_AWAY, false, "not as etcd does"},
		{200, "{\"action\":\"get\"}", "", ETCD_AWAY, false, "no node"},
		{200, "{\"action\":\"get\",\"node\":5}", "", ETCD_AWAY, false, "no node"},
		{200, "{\"action\":5,\"node\":{}}", "", ETCD_AWAY, false, "no node"},
		{302, "", "", ETCD_AWAY, false, "302"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct etcd_v2_answer answer = {0};
		struct err err = {""};
		enum etcd_status status =
			etcd_v2_read(rows[i].http_status, rows[i].body, strlen(rows[i].body),
				     rows[i].user, &answer, &err);

		if (status != rows[i].status || answer.absent != rows[i].absent ||
		    !strstr(err.text, rows[i].says))
			fail_msg("%s: %d: %s", rows[i].body, (int)status, err.text);
		etcd_v2_answer_done(&answer);
	}
}

static struct etcd_v2_answer read_ok(const char *body)
{
	struct etcd_v2_answer answer = {0};
	struct err err = {""};

	if (etcd_v2_read(200, body, strlen(body), "", &answer, &err) != ETCD_OK)
		fail_msg("%s: %s", body, err.text);
	return answer;
}

static void test_kv(void **state)
{
	struct etcd_v2_answer answer;
	struct etcd_kv kv;

	(void)state;
	answer = read_ok("{\"action\":\"get\",\"node\":{" KEY(
		"subnets/10.5.52.0-24") ","
					"\"value\":\"{\\\"a\\\"\\u0000b\","
					"\"expiration\":\"2026-11-21T23:10:26.793787003Z\",\"ttl\":"
					"86399" INDEXES "}}");
	assert_true(etcd_v2_kv(PREFIX, answer.node, &kv));
	assert_string_equal(kv.key, "subnets/10.5.52.0-24");
	assert_int_equal(kv.len, 6);
	assert_memory_equal(kv.value, "{\"a\"\0b", 7);
	assert_int_equal(kv.revision, 6);
	assert_int_equal(kv.created, 5);
	assert_int_equal(kv.lease, 1);
	assert_int_equal(etcd_v2_ttl(answer.node), 86399);
	assert_false(etcd_v2_kv("/coreos.com/net", answer.node, &kv));
	assert_false(etcd_v2_kv("/coreos.com", answer.node, &kv));
	etcd_v2_answer_done(&answer);

	answer = read_ok("{\"action\":\"get\",\"node\":{" KEY("config") ",\"dir\":true" INDEXES
									"}}");
	assert_true(etcd_v2_kv(PREFIX, answer.node, &kv));
	assert_string_equal(kv.value, "");
	assert_int_equal(kv.lease, 0);
	assert_int_equal(etcd_v2_ttl(answer.node), 0);
	etcd_v2_answer_done(&answer);
}

/* One odd node spoils nothing but itself. */
static void test_list(void **state)
{
	static const char *const keys[] = {"config", "subnets/a", "subnets/b"};
	_cleanup_free_ struct etcd_kv *kvs = NULL, *none = NULL;
	struct etcd_v2_answer answer = read_ok(
		"{\"action\":\"get\",\"node\":{\"key\":\"" PREFIX "\",\"dir\":true,\"nodes\":["
		"{" KEY("config") ",\"value\":\"{}\"" INDEXES "},"
				  "{" KEY("other") ",\"value\":\"x\"" INDEXES "},"
						   "{" KEY("locks") ",\"dir\":true,\"nodes\":["
								    "{" KEY("locks/a") INDEXES
		"}]},"
		"{\"key\":\"" PREFIX "x/config\",\"value\":\"x\"" INDEXES "},"
		"5,null,{},"
		"{" KEY("subnets") ",\"dir\":true,\"nodes\":["
				   "{" KEY("subnets/a") ",\"value\":\"1\",\"ttl\":5" INDEXES "},"
							"{" KEY("subnets/dir") ",\"dir\":true,"
									       "\"nodes\":[{" KEY(
										       "subnets/"
										       "dir/a")
										       INDEXES
		"}]},"
		"{" KEY("subnets/") ",\"value\":\"x\"" INDEXES "},"
				    "{" KEY("subnets/nul\\u0000") ",\"value\":\"x\"" INDEXES "},"
								  "{" KEY("subnets/old") ",\"value"
											 "\":\"x\","
											 "\"modifie"
											 "dIndex\":"
											 "0},"
											 "{" KEY("s"
												 "u"
												 "b"
												 "n"
												 "e"
												 "t"
												 "s"
												 "/"
												 "o"
												 "d"
												 "d") ",\"value\":\"x\",\"modifiedIndex\":\"6\"},"
												      "{" KEY("subnets/b") ",\"value\":\"2\"" INDEXES
															   "}"
															   "]" INDEXES
															   "}]" INDEXES
															   "}}");

	(void)state;
	assert_int_equal(etcd_v2_list(PREFIX, answer.node, &kvs), ARRAY_SIZE(keys));
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		assert_string_equal(kvs[i].key, keys[i]);
	assert_int_equal(kvs[1].lease, 1);
	assert_int_equal(kvs[2].lease, 0);
	etcd_v2_answer_done(&answer);

	answer = read_ok("{\"action\":\"get\",\"node\":{\"key\":\"" PREFIX "\",\"dir\":true}}");
	assert_int_equal(etcd_v2_list(PREFIX, answer.node, &none), 0);
	etcd_v2_answer_done(&answer);
}

static void test_event(void **state)
{
	static const struct {
		const char *action, *node, *prev;
		enum etcd_v2_change change;
		const char *key;
	} rows[] = {
		{"set", KEY("config") ",\"value\":\"v\"", "", ETCD_V2_PUT, "config"},
		{"create", KEY("subnets/a") ",\"value\":\"v\"", "", ETCD_V2_PUT, "subnets/a"},
		{"update", KEY("subnets/a") ",\"value\":\"v\"", KEY("subnets/a"), ETCD_V2_PUT,
		 "subnets/a"},
		{"compareAndSwap", KEY("subnets/a") ",\"value\":\"v\"", "", ETCD_V2_PUT,
		 "subnets/a"},
		{"delete", KEY("subnets/a"), KEY("subnets/a") ",\"value\":\"old\"", ETCD_V2_GONE,
		 "subnets/a"},
		{"compareAndDelete", KEY("config"), "", ETCD_V2_GONE, "config"},
		{"expire", KEY("subnets/a"), "", ETCD_V2_GONE, "subnets/a"},
		/* others' */
		{"set", KEY("other") ",\"value\":\"v\"", "", ETCD_V2_OTHER, NULL},
		{"set", KEY("subnets") ",\"value\":\"v\"", "", ETCD_V2_OTHER, NULL},
		{"set", KEY("subnets/a/b") ",\"value\":\"v\"", "", ETCD_V2_OTHER, NULL},
		{"delete", KEY("other") ",\"dir\":true", "", ETCD_V2_OTHER, NULL},
		{"delete", "\"key\":\"/coreos.co\",\"dir\":true", "", ETCD_V2_OTHER, NULL},
		{"delete", "\"dir\":true", "", ETCD_V2_OTHER, NULL},
		/* directories */
		{"delete", KEY("subnets") ",\"dir\":true", "", ETCD_V2_UNKNOWN, NULL},
		{"expire", KEY("subnets") ",\"dir\":true", "", ETCD_V2_UNKNOWN, NULL},
		{"set", KEY("subnets") ",\"dir\":true", "", ETCD_V2_UNKNOWN, NULL},
		{"delete", KEY("config"), KEY("config") ",\"dir\":true", ETCD_V2_UNKNOWN, NULL},
		{"delete", KEY("subnets/a") ",\"dir\":true", "", ETCD_V2_UNKNOWN, NULL},
		{"delete", "\"key\":\"" PREFIX "\",\"dir\":true", "", ETCD_V2_UNKNOWN, NULL},
		{"delete", "\"key\":\"/coreos.com\",\"dir\":true", "", ETCD_V2_UNKNOWN, NULL},
		{"expire", "\"key\":\"\",\"dir\":true", "", ETCD_V2_UNKNOWN, NULL},
	};
	char body[600];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct etcd_kv kv = {.key = NULL};
		enum etcd_v2_change change;
		struct etcd_v2_answer answer;
		int64_t index = 0;

		(void)snprintf(body, sizeof(body),
			       "{\"action\":\"%s\",\"node\":{%s" INDEXES "},\"prevNode\":{%s}}",
			       rows[i].action, rows[i].node, rows[i].prev);
		answer = read_ok(body);
		assert_int_equal(etcd_v2_event(PREFIX, &answer, &change, &index, &kv, NULL), 0);
		if (change != rows[i].change)
			fail_msg("%s: %d", body, (int)change);
		assert_int_equal(index, 6);
		if (rows[i].key) {
			assert_string_equal(kv.key, rows[i].key);
			assert_string_equal(kv.value, change == ETCD_V2_PUT ? "v" : "");
			assert_int_equal(kv.revision, 6);
		} else {
			assert_null(kv.key);
		}
		etcd_v2_answer_done(&answer);
	}
}

static void test_no_event(void **state)
{
	static const char *const bodies[] = {
		"{\"action\":\"set\",\"node\":{" KEY("config") "}}",
		"{\"action\":\"set\",\"node\":{" KEY("config") ",\"modifiedIndex\":-1}}",
		"{\"action\":\"set\",\"node\":{" KEY("config") ",\"modifiedIndex\":1.5}}",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		struct etcd_v2_answer answer = read_ok(bodies[i]);
		enum etcd_v2_change change;
		struct etcd_kv kv;
		int64_t index;

		assert_int_equal(etcd_v2_event(PREFIX, &answer, &change, &index, &kv, NULL),
				 -EPROTO);
		etcd_v2_answer_done(&answer);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_prefix), cmocka_unit_test(test_target),
		cmocka_unit_test(test_form),   cmocka_unit_test(test_errors),
		cmocka_unit_test(test_kv),     cmocka_unit_test(test_list),
		cmocka_unit_test(test_event),  cmocka_unit_test(test_no_event),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
