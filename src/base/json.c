/* SPDX-License-Identifier: Apache-2.0 */
/* json.c - jansson with what Go's encoding/json does to our inputs */
#include "base/json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

#define BRIEF_MAX 80

static const char *type_name(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
	case JSON_REAL:
		return "a number";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a boolean";
	case JSON_NULL:
		return "null";
	}
	return "something else";
}

/* jansson quotes the token it stumbled over, and that may be a password or a
 * key; the position says as much. The name of a repeated key is no secret. */
static void cut_quoted_input(json_error_t *error)
{
	char *near = strstr(error->text, " near '");

	if (near && json_error_code(error) != json_error_duplicate_key)
		*near = '\0';
}

int json_parse_object(const char *text, size_t len, const char *what, json_t **ret_obj,
		      struct err *err)
{
	_cleanup_json_ json_t *value = NULL;
	json_error_t error;

	value = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
	if (!value) {
		cut_quoted_input(&error);
		return err_set(err, -EINVAL, "%s line %d, column %d: %s", what, error.line,
			       error.column, error.text);
	}
	if (!json_is_object(value))
		return err_set(err, -EINVAL, "%s must hold a JSON object, not %s", what,
			       type_name(value));
	*ret_obj = TAKE_PTR(value);
	return 0;
}

json_t *json_member(const json_t *obj, const char *key)
{
	json_t *value = json_object_get(obj, key);

	/* jansson's iterators take a non-const object, but do not touch it. */
	json_t *walked = (json_t *)(uintptr_t)obj;
	for (void *i = json_object_iter(walked); i && !value; i = json_object_iter_next(walked, i))
		if (!strcasecmp(json_object_iter_key(i), key))
			value = json_object_iter_value(i);
	return json_is_null(value) ? NULL : value;
}

static int wrong_value(const json_t *value, const char *key, const char *right, struct err *err)
{
	char brief[BRIEF_MAX];

	return err_set(err, -EINVAL, "%s: %s is not %s", key,
		       json_brief(value, brief, sizeof(brief)), right);
}

int json_member_bool(const json_t *obj, const char *key, bool *value, struct err *err)
{
	const json_t *member = json_member(obj, key);

	if (!member)
		return 0;
	if (!json_is_boolean(member))
		return wrong_value(member, key, "true or false", err);
	*value = json_is_true(member);
	return 0;
}

int json_member_int(const json_t *obj, const char *key, int64_t min, int64_t max, int64_t *value,
		    struct err *err)
{
	const json_t *member = json_member(obj, key);
	char right[80];

	if (!member)
		return 0;
	if (!json_is_integer(member) || json_integer_value(member) < min ||
	    json_integer_value(member) > max) {
		(void)snprintf(right, sizeof(right), "a whole number from %" PRId64 " to %" PRId64,
			       min, max);
		return wrong_value(member, key, right, err);
	}
	*value = json_integer_value(member);
	return 0;
}

int json_member_string(const json_t *obj, const char *key, const char **value, struct err *err)
{
	const json_t *member = json_member(obj, key);

	if (!member)
		return 0;
	if (!json_is_string(member))
		return wrong_value(member, key, "a string", err);
	*value = json_string_value(member);
	return 0;
}

const char *json_brief(const json_t *value, char *buf, size_t size)
{
	_cleanup_free_ char *text = NULL;
	size_t n;

	text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	(void)snprintf(buf, size, "%s", text ? text : "nothing");
	if (!text || strlen(text) < size || size < sizeof("..."))
		return buf;
	n = size - sizeof("...");
	while (n && ((unsigned char)buf[n] & 0xc0) == 0x80)
		n--; /* not in the middle of a UTF-8 character */
	memcpy(buf + n, "...", sizeof("..."));
	return buf;
}
