/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_kube_json.c - JSON in pieces
 *
 * The first byte says which kind of stream the rest is, and in pieces of which length it
 * comes: that changes nothing. Where jansson can read the text, both find the same.
 */
#include "base/json.h"
#include "store/kube_json.h"

#include <assert.h>
#include <errno.h>

#define ELEMENT_MAX 1024

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct elements {
	char *text; /* one after the other, a newline behind each */
	size_t len, n;
};

static void on_element(struct json_slice element, void *userdata)
{
	struct elements *elements = userdata;

	assert(element.len >= 2 && element.len <= ELEMENT_MAX);
	assert(element.p[0] == '{' && element.p[element.len - 1] == '}');
	elements->text = mem_realloc(elements->text, elements->len + element.len + 1, 1);
	memcpy(elements->text + elements->len, element.p, element.len);
	elements->len += element.len;
	elements->text[elements->len++] = '\n';
	elements->n++;
}

static int feed(struct json_stream *stream, const char *text, size_t len, size_t piece)
{
	struct err err = {""};
	int r = 0;

	for (size_t i = 0; i < len && !r; i += piece) {
		size_t n = piece < len - i ? piece : len - i;
		/* Of its own, so that what is read beyond it is seen. */
		_cleanup_free_ char *copy = mem_alloc(n, 1);

		memcpy(copy, text + i, n);
		r = json_stream_feed(stream, copy, n, &err);
	}
	assert(!r == !*err.text);
	assert(!r || r == -EINVAL || r == -EMSGSIZE);
	return r;
}

/* Names with escapes are known by jansson only, which takes a NUL for a blank behind a number;
 * both have limits. */
static bool is_comparable(const char *text, size_t len)
{
	size_t brackets = 0;

	for (size_t i = 0; i < len; i++) {
		if (!text[i] || (text[i] == '\\' && i + 1 < len && text[i + 1] == 'u'))
			return false;
		brackets += text[i] == '{' || text[i] == '[';
	}
	return len <= ELEMENT_MAX && brackets < 64;
}

static bool is_equal(struct json_slice slice, const json_t *value)
{
	_cleanup_json_ json_t *parsed =
		json_loadb(slice.p, slice.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);

	return parsed && json_equal(parsed, value);
}

static void check_items(const json_t *object, int r, const struct elements *elements,
			struct json_slice rest)
{
	_cleanup_json_ json_t *copy = json_copy((json_t *)(uintptr_t)object);
	const json_t *items = json_object_get(object, "items"), *item;
	const char *at = elements->text;
	bool all_objects = true;
	size_t i;

	if (!json_is_array(items)) {
		assert(!r && !elements->n && is_equal(rest, object));
		return;
	}
	json_array_foreach (items, i, item)
		all_objects = all_objects && json_is_object(item);
	if (!all_objects) {
		assert(r == -EINVAL);
		return;
	}
	assert(!r && elements->n == json_array_size(items));
	json_array_foreach (items, i, item) {
		json_error_t error;
		_cleanup_json_ json_t *parsed =
			json_loadb(at, (size_t)(elements->text + elements->len - at),
				   JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, &error);

		assert(parsed && json_equal(parsed, item));
		at += error.position + 1;
	}
	(void)json_object_set_new(copy, "items", json_array());
	assert(is_equal(rest, copy));
}

static void check_stream(enum json_stream_kind kind, const char *text, size_t len, size_t piece,
			 const json_t *object)
{
	struct elements whole = {.n = 0}, cut = {.n = 0};
	struct json_stream *a = json_stream_new(kind, ELEMENT_MAX, on_element, &whole);
	struct json_stream *b = json_stream_new(kind, ELEMENT_MAX, on_element, &cut);
	struct json_slice rest = {0}, rest_cut;
	int r = feed(a, text, len, len ? len : 1);

	assert(feed(b, text, len, piece) == r);
	assert(json_stream_is_complete(a) == json_stream_is_complete(b));
	assert(whole.n == cut.n && whole.len == cut.len);
	assert(!whole.len || !memcmp(whole.text, cut.text, whole.len));
	rest = json_stream_rest(a);
	rest_cut = json_stream_rest(b);
	assert(rest.len <= ELEMENT_MAX);
	if (!r) {
		assert(rest.len == rest_cut.len);
		assert(!rest.len || !memcmp(rest.p, rest_cut.p, rest.len));
	}
	if (object && kind == JSON_STREAM_ITEMS) {
		assert(r || json_stream_is_complete(a));
		check_items(object, r, &whole, rest);
	}
	if (object && kind == JSON_STREAM_OBJECTS) {
		assert(!r && json_stream_is_complete(a) && whole.n == 1);
		assert(is_equal((struct json_slice){whole.text, whole.len - 1}, object));
	}
	json_stream_free(a);
	json_stream_free(b);
	free(whole.text);
	free(cut.text);
}

static void check_find(struct json_slice text, const json_t *object)
{
	static const char *const paths[][2] = {
		{"metadata", ""},         {"metadata", "name"}, {"spec", "podCIDRs"},
		{"status", "conditions"}, {"items", ""},        {"", "a"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		const json_t *want = object ? json_object_get(object, paths[i][0]) : NULL;
		struct json_slice value = {0};
		char path[50];
		int r;

		(void)stpcpy(stpcpy(stpcpy(path, paths[i][0]), *paths[i][1] ? "." : ""),
			     paths[i][1]);
		if (*paths[i][1])
			want = json_object_get(want, paths[i][1]);
		r = json_slice_find(text, path, &value);
		assert(!r || r == -EINVAL);
		if (value.p)
			assert(value.len && value.p > text.p &&
			       value.p + value.len < text.p + text.len + 1);
		if (!object)
			continue;
		assert(!r);
		if (want && !json_is_null(want))
			assert(value.p && is_equal(value, want));
		else
			assert(!value.p);
	}
}

static void check_walk(struct json_slice text, const json_t *object)
{
	struct json_slice name, value;
	struct json_walk walk;
	size_t n = 0;
	int r = json_walk_begin(text, &walk);

	while (!r && (r = json_walk_next(&walk, &name, &value)) > 0) {
		_cleanup_free_ char *string = json_slice_string(value);
		_cleanup_json_ json_t *parsed =
			json_loadb(value.p, value.len, JSON_DECODE_ANY, NULL);

		assert(!string == !json_is_string(parsed));
		assert(!string || !strcmp(string, json_string_value(parsed)));
		n++;
		r = 0;
	}
	if (object)
		assert(!r && n == json_object_size(object));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data + 1;
	_cleanup_json_ json_t *object = NULL;
	enum json_stream_kind kind;
	size_t len = size - 1;

	if (!size)
		return 0;
	if (is_comparable(text, len))
		object = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
	if (object && !json_is_object(object)) {
		json_decref(object);
		object = NULL;
	}
	kind = data[0] & 1 ? JSON_STREAM_ITEMS : JSON_STREAM_OBJECTS;
	check_stream(kind, text, len, data[0] / 2 + 1, object);
	check_find((struct json_slice){text, len}, object);
	check_walk((struct json_slice){text, len}, object);
	return 0;
}
