/* SPDX-License-Identifier: Apache-2.0 */
/* test_kube_json.c - members and elements out of JSON, in pieces of any length */
#include "store/kube_json.h"

#include "base/mem.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static struct json_slice slice(const char *text)
{
	return (struct json_slice){text, strlen(text)};
}

/* ---- slices ---- */

#define NODE                                                                                       \
	"{ \"kind\" : \"Node\",\n\t\"metadata\":{\"name\":\"n1\",\"annotations\":{\"a.b/c\":"      \
	"\"x\\\"}\\\\\"},\"nothing\":null},\"spec\":{},\"numbers\":[1,-2.5e+3,true , false],"      \
	"\"status\":{\"conditions\":[{\"type\":\"]\"}]} }"

static void test_find(void **state)
{
	static const struct {
		const char *path, *want; /* NULL: absent */
	} rows[] = {
		{"kind", "\"Node\""},
		{"metadata.name", "\"n1\""},
		{"metadata.annotations", "{\"a.b/c\":\"x\\\"}\\\\\"}"},
		{"metadata.nothing", NULL},
		{"metadata.absent", NULL},
		{"metadata", "{\"name\":\"n1\",\"annotations\":{\"a.b/c\":\"x\\\"}\\\\\"},"
			     "\"nothing\":null}"},
		{"spec", "{}"},
		{"spec.podCIDR", NULL},
		{"kind.name", NULL}, /* not an object */
		{"numbers.1", NULL},
		{"numbers", "[1,-2.5e+3,true , false]"},
		{"status.conditions", "[{\"type\":\"]\"}]"},
		{"Kind", NULL}, /* Kubernetes is exact */
		{"kin", NULL},
		{"kinds", NULL},
		{"", NULL},
		{"metadata.", NULL},
		{".name", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct json_slice value = {"", 77};

		assert_int_equal(json_slice_find(slice(NODE), rows[i].path, &value), 0);
		if (!rows[i].want) {
			if (value.p)
				fail_msg("%s: found", rows[i].path);
			continue;
		}
		if (!value.p || value.len != strlen(rows[i].want) ||
		    memcmp(value.p, rows[i].want, value.len) != 0)
			fail_msg("%s: \"%.*s\"", rows[i].path, (int)value.len, value.p);
	}
}

/* Looks for "b.c" in what is no JSON, also in memory of exactly that length. */
static void test_find_refused(void **state)
{
	static const char *const rows[] = {
		"",
		" ",
		"[]",
		"\"b\"",
		"null",
		"{",
		"{\"",
		"{\"a",
		"{\"a\"",
		"{\"a\":",
		"{\"a\":}",
		"{\"a\":1",
		"{\"a\":1,",
		"{\"a\":1,}",
		"{,}",
		"{a:1}",
		"{\"a\" 1}",
		"{\"a\":1 \"b\":2}",
		"{\"a\":\"x\\\"}",
		"{\"a\":[1}}",
		"{\"a\":{1]}",
		"{\"a\":]",
		"{\"a\":{\"x\":[}]}}",
		"{\"b\":{\"c\":[1,2}}",
		"{\"b\":{\"c\":",
		"{\"b\":{",
		"{\"b\":{\"c\":tru",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct json_slice value = {"", 77};
		size_t len = strlen(rows[i]);
		_cleanup_free_ char *text = mem_alloc(len ? len : 1, 1);
		int r;

		memcpy(text, rows[i], len);
		r = json_slice_find((struct json_slice){text, len}, "b.c", &value);
		/* The last row is cut within a value that cannot be told from a whole one. */
		if (i == ARRAY_SIZE(rows) - 1)
			assert_true(r == 0 && value.len == 3);
		else if (r != -EINVAL || value.len != 77)
			fail_msg("\"%s\" was taken", rows[i]);
	}
	assert_int_equal(json_slice_find((struct json_slice){0}, "a", &(struct json_slice){0}),
			 -EINVAL);
}

/* @depth arrays, or objects, in each other. */
static void depth_one(const char *open, const char *close, int depth)
{
	struct json_slice value;
	char text[600], *at = stpcpy(text, "{\"a\":");

	for (int i = 0; i < depth; i++)
		at = stpcpy(at, open);
	at = stpcpy(at, "1");
	for (int i = 0; i < depth; i++)
		at = stpcpy(at, close);
	(void)stpcpy(at, ",\"b\":1}");
	assert_int_equal(json_slice_find(slice(text), "b", &value), depth <= 64 ? 0 : -EINVAL);
}

static void test_depth(void **state)
{
	(void)state;
	for (int depth = 1; depth <= 66; depth++) {
		depth_one("[", "]", depth);
		depth_one("{\"\":", "}", depth);
	}
}

static void test_walk(void **state)
{
	static const size_t lens[] = {3, 2, 1};
	struct json_slice name, value;
	struct json_walk walk;

	(void)state;
	assert_int_equal(json_walk_begin(slice(" {\"a\\u0062\": null , \"\":[ ] }"), &walk), 0);
	assert_int_equal(json_walk_next(&walk, &name, &value), 1);
	assert_true(name.len == 7 && !memcmp(name.p, "a\\u0062", 7));
	assert_true(value.len == 4 && !memcmp(value.p, "null", 4));
	assert_int_equal(json_walk_next(&walk, &name, &value), 1);
	assert_true(name.len == 0 && value.len == 3);
	assert_int_equal(json_walk_next(&walk, &name, &value), 0);
	assert_int_equal(json_walk_next(&walk, &name, &value), 0);

	assert_int_equal(json_walk_begin(slice("[\"]\",{},3]"), &walk), 0);
	for (size_t i = 0; i < 3; i++) {
		assert_int_equal(json_walk_next(&walk, &name, &value), 1);
		assert_int_equal(value.len, lens[i]);
		assert_null(name.p);
	}
	assert_int_equal(json_walk_next(&walk, &name, &value), 0);

	assert_int_equal(json_walk_begin(slice("[1,]"), &walk), 0);
	assert_int_equal(json_walk_next(&walk, &name, &value), 1);
	assert_int_equal(json_walk_next(&walk, &name, &value), -EINVAL);
	assert_int_equal(json_walk_begin(slice("3"), &walk), -EINVAL);
	assert_int_equal(json_walk_begin(slice(""), &walk), -EINVAL);
}

static void test_string(void **state)
{
	static const struct {
		const char *text, *want; /* NULL: refused */
	} rows[] = {
		{"\"\"", ""},
		{"\"plain text\"", "plain text"},
		{"\"{\\\"VNI\\\":1}\"", "{\"VNI\":1}"},
		{"\"\\u003ca\\u00e4\xc3\xa4\\n\\/\"", "<a\xc3\xa4\xc3\xa4\n/"},
		{"\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80"},
		{"\"a\\u0000b\"", NULL},
		{"\"\xff\"", NULL},
		{"\"a\nb\"", NULL},
		{"\"\\x\"", NULL},
		{"\"a\"b\"", NULL},
		{"\"\\\"", NULL},
		{"\"", NULL},
		{"", NULL},
		{"12", NULL},
		{"null", NULL},
		{"{}", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *got = json_slice_string(slice(rows[i].text));

		if (!rows[i].want != !got || (got && strcmp(got, rows[i].want) != 0))
			fail_msg("%s: %s", rows[i].text, got ? got : "refused");
	}
	assert_null(json_slice_string((struct json_slice){0}));
}

/* ---- streams ---- */

struct seen {
	char text[4096]; /* the elements, a | behind each */
	size_t len;
};

static void on_element(struct json_slice element, void *userdata)
{
	struct seen *seen = userdata;

	assert_true(seen->len + element.len + 2 < sizeof(seen->text));
	memcpy(seen->text + seen->len, element.p, element.len);
	seen->len += element.len;
	seen->text[seen->len++] = '|';
	seen->text[seen->len] = '\0';
}

/* Feeds @text in pieces of @piece, each in memory of its own. */
static int feed(struct json_stream *stream, const char *text, size_t piece, struct err *err)
{
	size_t len = strlen(text);
	int r = 0;

	for (size_t i = 0; i < len && !r; i += piece) {
		size_t n = piece < len - i ? piece : len - i;
		_cleanup_free_ char *copy = mem_alloc(n, 1);

		memcpy(copy, text + i, n);
		r = json_stream_feed(stream, copy, n, err);
	}
	return r;
}

struct stream_row {
	enum json_stream_kind kind;
	const char *text;
	int code;
	bool complete;
	const char *elements, *rest;
};

static void check_row(const struct stream_row *row, size_t piece, size_t max)
{
	struct seen seen = {.len = 0};
	struct json_stream *stream = json_stream_new(row->kind, max, on_element, &seen);
	struct err err = {""};
	struct json_slice rest;
	int r = feed(stream, row->text, piece, &err);

	if (r != row->code || !r != !*err.text)
		fail_msg("%s by %zu: %d, \"%s\"", row->text, piece, r, err.text);
	if (strcmp(seen.text, row->elements) != 0)
		fail_msg("%s by %zu: elements %s", row->text, piece, seen.text);
	assert_int_equal(json_stream_is_complete(stream), row->complete);
	rest = json_stream_rest(stream);
	if (row->rest && (rest.len != strlen(row->rest) ||
			  (rest.len && memcmp(rest.p, row->rest, rest.len) != 0)))
		fail_msg("%s by %zu: rest %.*s", row->text, piece, (int)rest.len, rest.p);
	if (r)
		assert_int_equal(json_stream_feed(stream, "{}", 2, &err), r);
	json_stream_free(stream);
}

#define ITEMS   JSON_STREAM_ITEMS
#define OBJECTS JSON_STREAM_OBJECTS

static const struct stream_row stream_rows[] = {
	{ITEMS,
	 "{\"kind\":\"NodeList\",\"metadata\":{\"resourceVersion\":\"309\",\"items\":[{}],"
	 "\"continue\":\"a\\\"]\"},\"items\":[{\"a\":\"}\\\\\"},{\"b\":[{}]}]}\n",
	 0, true, "{\"a\":\"}\\\\\"}|{\"b\":[{}]}|",
	 "{\"kind\":\"NodeList\",\"metadata\":{\"resourceVersion\":\"309\",\"items\":[{}],"
	 "\"continue\":\"a\\\"]\"},\"items\":[]}"},
	{ITEMS, " { \"items\" : [ { } , {\"x\" : 1 } ] , \"n\" : 12 , \"t\":true } ", 0, true,
	 "{ }|{\"x\" : 1 }|", "{\"items\":[],\"n\":12,\"t\":true}"},
	{ITEMS, "{\"items\":[]}", 0, true, "", "{\"items\":[]}"},
	{ITEMS, "{\"items\":null}", 0, true, "", "{\"items\":null}"},
	{ITEMS, "{}", 0, true, "", "{}"},
	{ITEMS, "{\"items\":{\"items\":[{}]}}", 0, true, "", NULL},
	{ITEMS, "{\"a\":[{}],\"itemss\":[{}],\"items \":[{}]}", 0, true, "", NULL},
	{ITEMS, "{\"items\":[{\"a\":1}", 0, false, "{\"a\":1}|", "{\"items\":["},
	{ITEMS, "{\"items\":[{\"a\":1},{\"a\"", 0, false, "{\"a\":1}|", NULL},
	{ITEMS, "{\"items\":[{}]", 0, false, "{}|", NULL},
	{ITEMS, "{\"a\":1", 0, false, "", NULL},
	{ITEMS, "", 0, false, "", ""},
	{ITEMS, "<html>", -EINVAL, false, "", NULL},
	{ITEMS, "[]", -EINVAL, false, "", NULL},
	{ITEMS, "{\"items\":[{},]}", -EINVAL, false, "{}|", NULL},
	{ITEMS, "{\"items\":[,{}]}", -EINVAL, false, "", NULL},
	{ITEMS, "{\"items\":[{}{}]}", -EINVAL, false, "{}|", NULL},
	{ITEMS, "{\"items\":[1]}", -EINVAL, false, "", NULL},
	{ITEMS, "{\"items\":[{]}]}", -EINVAL, false, "", NULL},
	{ITEMS, "{\"a\":1,}", -EINVAL, false, "", NULL},
	{ITEMS, "{\"a\":1 2}", -EINVAL, false, "", NULL},
	{ITEMS, "{\"a\":}", -EINVAL, false, "", NULL},
	{ITEMS, "{\"a\":1}{", -EINVAL, false, "", NULL},
	{OBJECTS,
	 "{\"type\":\"ADDED\",\"object\":{\"a\":\"\\\\\\\"}\"}}\n{\"type\":\"BOOKMARK\"}\n", 0,
	 true, "{\"type\":\"ADDED\",\"object\":{\"a\":\"\\\\\\\"}\"}}|{\"type\":\"BOOKMARK\"}|",
	 ""},
	{OBJECTS, "{}{}", 0, true, "{}|{}|", ""},
	{OBJECTS, "{} \r\n\t{}", 0, true, "{}|{}|", ""},
	{OBJECTS, "", 0, true, "", ""},
	{OBJECTS, "{}\n{\"type\":\"ADD", 0, false, "{}|", ""},
	{OBJECTS, "{}\n,{}", -EINVAL, false, "{}|", ""},
	{OBJECTS, "Too many requests, please try again later.", -EINVAL, false, "", ""},
	{OBJECTS, "{\"a\":]}", -EINVAL, false, "", ""},
};

static void test_stream(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(stream_rows); i++)
		for (size_t piece = 1; piece <= strlen(stream_rows[i].text) + 1; piece++)
			check_row(&stream_rows[i], piece, 1000);
}

/* Lengths that are just enough, and a byte less: of an element, of what is around them. */
static void test_too_long(void **state)
{
	static const struct stream_row fits[] = {
		{OBJECTS, "{}{\"a\":\"1234\"}", 0, true, "{}|{\"a\":\"1234\"}|", ""},
		{ITEMS, "{ \"items\": [ {\"b\":12} , {}]}", 0, true, "{\"b\":12}|{}|",
		 "{\"items\":[]}"},
		{ITEMS, "{\"name\":\"123\"}", 0, true, "", "{\"name\":\"123\"}"},
		{ITEMS, "{\"na\":1234567}", 0, true, "", "{\"na\":1234567}"},
	};
	static const size_t least[] = {12, 12, 14, 14};
	static const char *const cut[] = {"{}|", "{\"b\":12}|{}|", "", ""};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(fits); i++)
		for (size_t piece = 1; piece <= strlen(fits[i].text); piece++) {
			struct stream_row not = fits[i];

			check_row(&fits[i], piece, least[i]);
			not .code = -EMSGSIZE;
			not .complete = false;
			not .elements = cut[i];
			not .rest = NULL;
			check_row(&not, piece, least[i] - 1);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find),     cmocka_unit_test(test_find_refused),
		cmocka_unit_test(test_depth),    cmocka_unit_test(test_walk),
		cmocka_unit_test(test_string),   cmocka_unit_test(test_stream),
		cmocka_unit_test(test_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
