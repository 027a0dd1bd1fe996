/* SPDX-License-Identifier: Apache-2.0 */
/* kube_json.c - finding the few members that matter in large JSON, without building a tree
 *
 * What is skipped is not checked but for what decides where it ends: quotes, backslashes
 * and brackets, which must match. So an end is never mistaken in JSON, and text that is none is
 * never left. Go writes keys without escapes, which is why names are compared as they stand.
 *
 * A stream goes through `place`s byte by byte outside of values, and through values, which
 * are nearly all of the text, as fast as memchr() finds quotes. Whatever the pieces, it
 * does the same: in `nesting` it is known at each byte how deep in brackets and strings that
 * is, and lengths are checked before the bytes beyond them are looked at.
 */
#include "store/kube_json.h"

#include "base/json.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>

/* A node has 12 levels. A bit each. */
#define DEPTH_MAX 64

/* ---- values ---- */

/* What is open at a byte. Zeroed: nothing. */
struct nesting {
	uint64_t arrays; /* a bit per level, the innermost is the lowest: it is an array */
	unsigned depth;
	bool in_string;
	bool escaped; /* by the backslash before */
};

static bool is_closed(const struct nesting *nesting)
{
	return !nesting->depth && !nesting->in_string;
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* Of a number, true, false or null. */
static bool is_scalar(char c)
{
	return isalnum((unsigned char)c) || c == '-' || c == '+' || c == '.';
}

static const char *skip_blanks(const char *p, const char *end)
{
	while (p < end && is_blank(*p))
		p++;
	return p;
}

/* Behind the quote that ends the string which @p is in; NULL: it does not end before @end. */
static const char *skip_string(const char *p, const char *end, bool *escaped)
{
	if (*escaped && p < end) {
		p++;
		*escaped = false;
	}
	while (p < end) {
		const char *quote = memchr(p, '"', (size_t)(end - p));
		const char *before = quote ? quote : end;
		bool odd = false;

		for (; before > p && before[-1] == '\\'; before--)
			odd = !odd;
		if (!quote) {
			*escaped = odd;
			return NULL;
		}
		if (!odd)
			return quote + 1;
		p = quote + 1;
	}
	return NULL;
}

/* Opens or closes a level at the bracket @c. */
static bool turn(struct nesting *nesting, char c)
{
	if (c == '{' || c == '[') {
		nesting->arrays = nesting->arrays << 1 | (c == '[');
		return nesting->depth++ < DEPTH_MAX;
	}
	if (!nesting->depth-- || (nesting->arrays & 1) != (c == ']'))
		return false;
	nesting->arrays >>= 1;
	return true;
}

/* Goes on from @p until what is open, or opens at @p, is closed. Behind the end of that;
 * @end when it is still open there; NULL: brackets that do not match, or too many. */
static const char *skip_nested(struct nesting *nesting, const char *p, const char *end)
{
	static const bool means[256] = {
		['"'] = true, ['{'] = true, ['['] = true, ['}'] = true, [']'] = true,
	};

	while (p < end) {
		if (nesting->in_string) {
			p = skip_string(p, end, &nesting->escaped);
			if (!p)
				return end;
			nesting->in_string = false;
		} else {
			while (p < end && !means[(unsigned char)*p])
				p++;
			if (p == end)
				break;
			if (*p == '"')
				nesting->in_string = true;
			else if (!turn(nesting, *p))
				return NULL;
			p++;
		}
		if (is_closed(nesting))
			return p;
	}
	return end;
}

/* Behind the value that begins at @p; NULL: there is none, or not all of it. */
static const char *skip_value(const char *p, const char *end)
{
	struct nesting nesting = {0};
	const char *begin = p;

	if (p < end && (*p == '{' || *p == '[' || *p == '"')) {
		p = skip_nested(&nesting, p, end);
		return p && is_closed(&nesting) ? p : NULL;
	}
	while (p < end && is_scalar(*p))
		p++;
	return p > begin ? p : NULL;
}

/* ---- slices ---- */

int json_walk_begin(struct json_slice value, struct json_walk *ret_walk)
{
	const char *end = value.p ? value.p + value.len : NULL;
	const char *p = skip_blanks(value.p, end);

	if (p == end || (*p != '{' && *p != '['))
		return -EINVAL;
	*ret_walk = (struct json_walk){.p = p + 1, .end = end, .is_array = *p == '['};
	return 0;
}

/* At a member's value, with its name. 1, or 0: there are no more; or -EINVAL. */
static int walk_to_value(struct json_walk *walk, struct json_slice *ret_name)
{
	const char *p = skip_blanks(walk->p, walk->end), *begin;
	bool escaped = false;

	if (p < walk->end && *p == (walk->is_array ? ']' : '}'))
		return 0;
	if (walk->has_begun) {
		if (p == walk->end || *p != ',')
			return -EINVAL;
		p = skip_blanks(p + 1, walk->end);
	}
	walk->has_begun = true;
	*ret_name = (struct json_slice){0};
	if (!walk->is_array) {
		if (p == walk->end || *p != '"')
			return -EINVAL;
		begin = p + 1;
		p = skip_string(begin, walk->end, &escaped);
		if (!p)
			return -EINVAL;
		*ret_name = (struct json_slice){begin, (size_t)(p - 1 - begin)};
		p = skip_blanks(p, walk->end);
		if (p == walk->end || *p != ':')
			return -EINVAL;
		p = skip_blanks(p + 1, walk->end);
	}
	walk->p = p;
	return p < walk->end ? 1 : -EINVAL;
}

static int walk_over_value(struct json_walk *walk, struct json_slice *ret_value)
{
	const char *begin = walk->p, *p = skip_value(begin, walk->end);

	if (!p)
		return -EINVAL;
	walk->p = p;
	*ret_value = (struct json_slice){begin, (size_t)(p - begin)};
	return 1;
}

int json_walk_next(struct json_walk *walk, struct json_slice *ret_name,
		   struct json_slice *ret_value)
{
	int r = walk_to_value(walk, ret_name);

	return r > 0 ? walk_over_value(walk, ret_value) : r;
}

/* At the value of the member named by the @len bytes at @name. As walk_to_value(). */
static int walk_to_member(struct json_walk *walk, const char *name, size_t len)
{
	struct json_slice found, value;
	int r;

	while ((r = walk_to_value(walk, &found)) > 0) {
		if (found.len == len && !memcmp(found.p, name, len))
			return 1;
		r = walk_over_value(walk, &value);
		if (r < 0)
			return r;
	}
	return r;
}

int json_slice_find(struct json_slice object, const char *path, struct json_slice *ret_value)
{
	struct json_slice value = {0};
	struct json_walk walk;
	int r = json_walk_begin(object, &walk);

	if (r < 0 || walk.is_array)
		return -EINVAL;
	/* Where an object on the way ends is not looked for: what is behind may be long. */
	for (;;) {
		size_t len = strcspn(path, ".");

		r = walk_to_member(&walk, path, len);
		if (r < 0)
			return r;
		if (!r || !path[len] || *walk.p != '{')
			break;
		path += len + 1;
		walk = (struct json_walk){.p = walk.p + 1, .end = walk.end};
	}
	if (r && !strchr(path, '.')) {
		r = walk_over_value(&walk, &value);
		if (r < 0)
			return r;
		if (value.len == 4 && !memcmp(value.p, "null", 4))
			value = (struct json_slice){0};
	}
	*ret_value = value;
	return 0;
}

bool json_slice_is(struct json_slice value, const char *text)
{
	const size_t len = strlen(text);

	return value.p && value.len == len + 2 && *value.p == '"' &&
	       !memcmp(value.p + 1, text, len);
}

char *json_slice_string(struct json_slice value)
{
	_cleanup_json_ json_t *parsed = NULL;
	const char *p;
	char *text;
	size_t n;

	if (!value.p || value.len < 2 || *value.p != '"')
		return NULL;
	p = value.p + 1;
	for (n = 0; n < value.len - 2; n++)
		if (p[n] < ' ' || p[n] > '~' || p[n] == '\\' || p[n] == '"')
			break;
	/* Nearly all are plain. */
	if (n == value.len - 2 && p[n] == '"') {
		text = mem_alloc(n + 1, 1);
		memcpy(text, p, n);
		return text;
	}
	parsed = json_loadb(value.p, value.len, JSON_DECODE_ANY, NULL);
	return json_is_string(parsed) ? mem_strdup(json_string_value(parsed)) : NULL;
}

/* ---- streams ---- */

struct text {
	char *p;
	size_t len, size;
};

enum place {
	BEGIN,
	NAME_OR_END,
	NAME,
	IN_NAME,
	COLON,
	VALUE,
	IN_VALUE,
	IN_SCALAR,
	COMMA_OR_END,
	ITEM_OR_END,
	ITEM,
	ITEM_COMMA_OR_END,
	IN_ELEMENT,
	BETWEEN, /* objects */
	END,
};

struct json_stream {
	enum json_stream_kind kind;
	enum place place;
	size_t element_max;
	json_element_fn fn;
	void *userdata;
	struct nesting nesting;
	struct text element; /* what is there of one that a piece has cut */
	struct text rest;
	size_t name_begin; /* in rest: the last name at the top, with its quotes */
	uint64_t fed;
	int failed;
};

struct json_stream *json_stream_new(enum json_stream_kind kind, size_t element_max,
				    json_element_fn fn, void *userdata)
{
	struct json_stream *stream = mem_alloc(1, sizeof(*stream));

	*stream = (struct json_stream){
		.kind = kind,
		.place = kind == JSON_STREAM_ITEMS ? BEGIN : BETWEEN,
		.element_max = element_max,
		.fn = fn,
		.userdata = userdata,
	};
	return stream;
}

void json_stream_free(struct json_stream *stream)
{
	if (!stream)
		return;
	free(stream->element.p);
	free(stream->rest.p);
	free(stream);
}

static void append(struct text *text, const char *p, size_t len)
{
	if (text->len + len > text->size) {
		text->size = text->len + len > 2 * text->size ? text->len + len : 2 * text->size;
		text->p = mem_realloc(text->p, text->size, 1);
	}
	if (len)
		memcpy(text->p + text->len, p, len);
	text->len += len;
}

static const char *fail(struct json_stream *stream, int code)
{
	stream->failed = code;
	return NULL;
}

/* Keeps the byte at @p in rest and goes to @place. */
static const char *keep(struct json_stream *stream, const char *p, enum place place)
{
	if (stream->rest.len >= stream->element_max)
		return fail(stream, -EMSGSIZE);
	append(&stream->rest, p, 1);
	stream->place = place;
	return p + 1;
}

/* As far as the value goes that is open, or opens, at @p, and that @text has the beginning
 * of; no further than it may. NULL: failed. */
static const char *span(struct json_stream *stream, const struct text *text, const char *p,
			const char *end)
{
	const size_t room = stream->element_max - text->len;
	const char *stop = (size_t)(end - p) > room ? p + room : end;
	const char *to = skip_nested(&stream->nesting, p, stop);

	if (!to)
		return fail(stream, -EINVAL);
	if (!is_closed(&stream->nesting) && stop < end)
		return fail(stream, -EMSGSIZE);
	return to;
}

static const char *take_element(struct json_stream *stream, const char *p, const char *end)
{
	const char *to = span(stream, &stream->element, p, end);
	struct json_slice element;

	if (!to)
		return NULL;
	if (!is_closed(&stream->nesting)) {
		append(&stream->element, p, (size_t)(to - p));
		return to;
	}
	element = (struct json_slice){p, (size_t)(to - p)};
	if (stream->element.len) {
		append(&stream->element, p, element.len);
		element = (struct json_slice){stream->element.p, stream->element.len};
	}
	stream->place = stream->kind == JSON_STREAM_ITEMS ? ITEM_COMMA_OR_END : BETWEEN;
	stream->element.len = 0;
	stream->fn(element, stream->userdata);
	return to;
}

/* Keeps a name or a value in rest, then goes to @place. */
static const char *take_kept(struct json_stream *stream, const char *p, const char *end,
			     enum place place)
{
	const char *to = span(stream, &stream->rest, p, end);

	if (!to)
		return NULL;
	append(&stream->rest, p, (size_t)(to - p));
	if (is_closed(&stream->nesting))
		stream->place = place;
	return to;
}

static const char *take_scalar(struct json_stream *stream, const char *p, const char *end)
{
	while (p && p < end && is_scalar(*p))
		p = keep(stream, p, IN_SCALAR);
	if (p && p < end)
		stream->place = COMMA_OR_END;
	return p;
}

static bool is_items(const struct json_stream *stream)
{
	static const char name[] = "\"items\":";

	return stream->rest.len - stream->name_begin == sizeof(name) - 1 &&
	       !memcmp(stream->rest.p + stream->name_begin, name, sizeof(name) - 1);
}

static const char *take_value(struct json_stream *stream, const char *p)
{
	if (*p == '[' && is_items(stream))
		return keep(stream, p, ITEM_OR_END);
	if (*p == '{' || *p == '[' || *p == '"')
		stream->place = IN_VALUE;
	else if (is_scalar(*p))
		stream->place = IN_SCALAR;
	else
		return fail(stream, -EINVAL);
	return p;
}

/* What may stand at each place where a byte decides, and where it leads. */
static const struct {
	enum place at;
	char c;
	bool keep; /* in rest; otherwise it is looked at again at the next place (IN_...), or
		      passed over */
	enum place to;
} ways[] = {
	{BEGIN, '{', true, NAME_OR_END},
	{NAME_OR_END, '"', false, IN_NAME},
	{NAME_OR_END, '}', true, END},
	{NAME, '"', false, IN_NAME},
	{COLON, ':', true, VALUE},
	{COMMA_OR_END, ',', true, NAME},
	{COMMA_OR_END, '}', true, END},
	{ITEM_OR_END, '{', false, IN_ELEMENT},
	{ITEM_OR_END, ']', true, COMMA_OR_END},
	{ITEM, '{', false, IN_ELEMENT},
	{ITEM_COMMA_OR_END, ',', false, ITEM},
	{ITEM_COMMA_OR_END, ']', true, COMMA_OR_END},
	{BETWEEN, '{', false, IN_ELEMENT},
};

static const char *go(struct json_stream *stream, const char *p)
{
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		if (ways[i].at != stream->place || ways[i].c != *p)
			continue;
		if (ways[i].keep)
			return keep(stream, p, ways[i].to);
		if (ways[i].to == IN_NAME)
			stream->name_begin = stream->rest.len;
		stream->place = ways[i].to;
		return ways[i].to == ITEM ? p + 1 : p;
	}
	return fail(stream, -EINVAL);
}

static const char *step(struct json_stream *stream, const char *p, const char *end)
{
	switch (stream->place) {
	case IN_NAME:
		return take_kept(stream, p, end, COLON);
	case IN_VALUE:
		return take_kept(stream, p, end, COMMA_OR_END);
	case IN_SCALAR:
		return take_scalar(stream, p, end);
	case IN_ELEMENT:
		return take_element(stream, p, end);
	case VALUE:
		return is_blank(*p) ? p + 1 : take_value(stream, p);
	case BEGIN:
	case NAME_OR_END:
	case NAME:
	case COLON:
	case COMMA_OR_END:
	case ITEM_OR_END:
	case ITEM:
	case ITEM_COMMA_OR_END:
	case BETWEEN:
	case END:
		break;
	}
	return is_blank(*p) ? p + 1 : go(stream, p);
}

int json_stream_feed(struct json_stream *stream, const char *data, size_t len, struct err *err)
{
	const char *p = data, *end = len ? data + len : data;

	while (!stream->failed && p < end) {
		const char *to = step(stream, p, end);

		if (!to)
			stream->fed += (uint64_t)(p - data);
		p = to;
	}
	if (!stream->failed) {
		stream->fed += len;
		return 0;
	}
	if (stream->failed == -EMSGSIZE)
		return err_set(err, -EMSGSIZE,
			       "an object of more than %zu bytes, near byte %" PRIu64,
			       stream->element_max, stream->fed);
	return err_set(err, stream->failed, "no JSON, near byte %" PRIu64, stream->fed);
}

bool json_stream_is_complete(const struct json_stream *stream)
{
	return !stream->failed && (stream->place == END || stream->place == BETWEEN);
}

struct json_slice json_stream_rest(const struct json_stream *stream)
{
	return (struct json_slice){stream->rest.p, stream->rest.len};
}
