/* SPDX-License-Identifier: Apache-2.0 */
/* tls_internal.h - what tls.c and tls_files.c share; OpenSSL is loaded before */
#pragma once

#include "base/mem.h"
#include "io/openssl.h"
#include "io/tls.h"

#include <stdbool.h>

static inline bool tls_is_given(const char *path)
{
	return path && *path;
}

static inline void tls_cleanup_context(SSL_CTX **ctx)
{
	if (*ctx)
		openssl.SSL_CTX_free(*ctx);
}
#define _cleanup_context_ _cleanup_(tls_cleanup_context)

/* What a client uses with @files. Caller frees. 0, or an error that names file and fault. */
int tls_context_new(const struct tls_files *files, SSL_CTX **ret_ctx, struct err *err);

/* Whether @cert, called @what in the error, is valid today. */
int tls_check_dates(const X509 *cert, const char *what, struct err *err);
