/* SPDX-License-Identifier: Apache-2.0 */
/* kube_json.h - finding the few members that matter in large JSON, without building a tree
 *
 * A node has 14 KB of which we need 500 bytes, a list of 5,000 has 70 MB. Objects are cut out
 * of a stream as they come, members are found by skipping over the others; the few small
 * values that are wanted are then given to jansson. Pure.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

/* A value's text inside a larger one; p NULL: none. */
struct json_slice {
	const char *p;
	size_t len;
};

/* The member of the object @object named by @path ("metadata.annotations"; names are
 * compared byte for byte: Kubernetes is exact). Its value's text, blanks cut off; p NULL when
 * absent or null. 0 or -EINVAL when the text up to there is no JSON. */
int json_slice_find(struct json_slice object, const char *path, struct json_slice *ret_value);

/* Whether @value is the string @text, of which nobody escapes a character. */
bool json_slice_is(struct json_slice value, const char *text);

/* The members of an object, or the elements of an array (names empty), one after the other. */
struct json_walk {
	const char *p, *end;
	bool is_array, has_begun;
};
/* 0 or -EINVAL: neither object nor array. */
int json_walk_begin(struct json_slice value, struct json_walk *ret_walk);
/* 1; 0: there are no more; -EINVAL: the text up to there is no JSON. The name is what stands
 * between its quotes; a null is told as "null". */
int json_walk_next(struct json_walk *walk, struct json_slice *ret_name,
		   struct json_slice *ret_value);

/* The text of a string, escapes undone; NULL: @value is no string, or has a NUL in it or bytes
 * that are not UTF-8. Caller frees. */
char *json_slice_string(struct json_slice value);

/* Cuts the elements, which are objects, of the array member "items" out of an object that comes
 * in pieces, a list; or the objects out of a stream of them, as a watch's events. One element is
 * held at a time, what is around them is kept (a list's metadata). */
enum json_stream_kind { JSON_STREAM_ITEMS, JSON_STREAM_OBJECTS, JSON_STREAM_KIND_COUNT };
struct json_stream;
typedef void (*json_element_fn)(struct json_slice element, void *userdata);

/* @element_max: longest element taken, in bytes; what is around them may have as many. @fn may
 * not free the stream, and the element is only lent to it. */
struct json_stream *json_stream_new(enum json_stream_kind kind, size_t element_max,
				    json_element_fn fn, void *userdata);
void json_stream_free(struct json_stream *stream);
/* 0; -EINVAL: no JSON; -EMSGSIZE: an element is too long. Nothing more is taken then. */
int json_stream_feed(struct json_stream *stream, const char *data, size_t len, struct err *err);
/* Whether the text has come to its end, or (objects) stands between two of them. */
bool json_stream_is_complete(const struct json_stream *stream);
/* JSON_STREAM_ITEMS: the object with its items left out: {"metadata":{...},"items":[]}. */
struct json_slice json_stream_rest(const struct json_stream *stream);
