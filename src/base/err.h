/* SPDX-License-Identifier: Apache-2.0 */
/* err.h - an error in words, carried outward to the one layer that logs it
 *
 * Functions return 0 or -errno. Where a person needs more than strerror(), a
 * caller-owned `struct err *` is the last parameter: the place that fails
 * writes the text, each caller on the way up may put context before it. On
 * success the text is untouched. A NULL err is allowed everywhere.
 */
#pragma once

#include <stddef.h>

#define ERR_TEXT_MAX 480

struct err {
	char text[ERR_TEXT_MAX];
};

/* Writes the text. @code is a negative errno and is returned, so that a failing
 * function can end in `return err_set(err, -EINVAL, "...")`. Long texts are cut. */
int err_set(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* As err_set(), with ": " and strerror(-code) behind the text. */
int err_sys(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Puts context and ": " before the text that is there. Returns @code. */
int err_wrap(struct err *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#ifdef __clang_analyzer__
/* Tells clang's analyzer what it cannot see from here: that what these return is negative,
 * so that nobody goes on after a failure. */
static inline int err_negative(int code)
{
	return code < 0 ? code : -1;
}
#define err_set(...)  err_negative((err_set)(__VA_ARGS__))
#define err_sys(...)  err_negative((err_sys)(__VA_ARGS__))
#define err_wrap(...) err_negative((err_wrap)(__VA_ARGS__))
#endif
