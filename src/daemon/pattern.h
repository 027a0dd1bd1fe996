/* SPDX-License-Identifier: Apache-2.0 */
/* pattern.h - regular expressions as --iface-regex takes them
 *
 * The original has Go's regexp (RE2). Here it is regcomp(3), with that of Go's
 * syntax which names and addresses need put into POSIX's: \d \D \w \W \s \S also
 * inside brackets, (?:...), a leading (?i), lazy quantifiers. Other Go syntax is
 * refused rather than misread.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>

#define PATTERN_MAX_BYTES 512

struct pattern;

/* 0, or -EINVAL with an error that says what is wrong (not naming @text). */
int pattern_new(const char *text, struct pattern **ret_pattern, struct err *err);
void pattern_free(struct pattern *pattern);
/* Whether @text has a match anywhere. */
bool pattern_matches(const struct pattern *pattern, const char *text);
