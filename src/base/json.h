/* SPDX-License-Identifier: Apache-2.0 */
/* json.h - jansson with what Go's encoding/json does to our inputs: keys match
 * case-insensitively, unknown keys are ignored by default, a value of the wrong
 * type is an error that names the key.
 */
#pragma once

#include "base/err.h"
#include "base/mem.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

static inline void json_cleanup_decref(json_t **json)
{
	json_decref(*json);
}
#define _cleanup_json_ _cleanup_(json_cleanup_decref)

/* Parses one JSON object; @what names the text in the error, which has line and
 * column ("net-conf.json line 3, column 7: ..."). Duplicate keys are refused.
 * Caller owns *@ret_obj. 0 or -EINVAL. */
int json_parse_object(const char *text, size_t len, const char *what, json_t **ret_obj,
		      struct err *err);

/* The member named @key in any case (an exact match wins), borrowed; NULL when
 * absent or null. */
json_t *json_member(const json_t *obj, const char *key);

/* Optional members: absent or null leaves *@value as it is and returns 0; the
 * wrong type or range is -EINVAL and an error naming @key, the value and what is
 * right. */
int json_member_bool(const json_t *obj, const char *key, bool *value, struct err *err);
int json_member_int(const json_t *obj, const char *key, int64_t min, int64_t max, int64_t *value,
		    struct err *err);
/* The string is borrowed from @obj. */
int json_member_string(const json_t *obj, const char *key, const char **value, struct err *err);

/* The member's value as compact text for an error message, cut to the buffer. */
const char *json_brief(const json_t *value, char *buf, size_t size);
