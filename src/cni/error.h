/* SPDX-License-Identifier: Apache-2.0 */
/* error.h - what the plugin answers when it cannot: CNI's error object
 *
 * CNI specification, section 5 "Error". Functions of the plugin return 0, or -1 with
 * a filled `struct cni_error` as their last parameter.
 */
#pragma once

#include "base/err.h"

/* The specification's codes; 100 and above are the plugin's own. */
enum cni_code {
	CNI_VERSION_UNSUPPORTED = 1,
	CNI_FIELD_UNSUPPORTED = 2,
	CNI_CONTAINER_UNKNOWN = 3,
	CNI_ENVIRONMENT_INVALID = 4,
	CNI_IO_FAILURE = 5,
	CNI_DECODING_FAILURE = 6,
	CNI_CONFIG_INVALID = 7,
	CNI_NETNS_INVALID = 8,
	CNI_TRY_AGAIN_LATER = 11,
	CNI_NOT_AVAILABLE = 50, /* STATUS: no ADD can succeed */
	CNI_INTERNAL = 999,
};

#define CNI_DETAILS_MAX 1024

struct cni_error {
	unsigned code; /* enum cni_code, or a delegate's own */
	char msg[ERR_TEXT_MAX];
	char details[CNI_DETAILS_MAX]; /* "" for none */
};

/* Fills in code and msg, no details; returns -1. */
int cni_fail(struct cni_error *error, unsigned code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Puts context and ": " before the message that is there. Returns -1. */
int cni_fail_wrap(struct cni_error *error, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* Reads an error object that a delegate has printed; -1 when @text is none. */
int cni_error_parse(const char *text, size_t len, struct cni_error *ret_error);
/* The object as JSON text. Caller frees. */
char *cni_error_format(const struct cni_error *error, const char *cni_version);

#ifdef __clang_analyzer__
/* As in base/err.h: that nobody goes on after a failure. */
#define cni_fail(...)      ((void)(cni_fail)(__VA_ARGS__), -1)
#define cni_fail_wrap(...) ((void)(cni_fail_wrap)(__VA_ARGS__), -1)
#endif
