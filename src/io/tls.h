/* SPDX-License-Identifier: Apache-2.0 */
/* tls.h - a client's side of TLS (OpenSSL 3, loaded when the first https endpoint is dialled)
 *
 * OpenSSL costs a process some 5 MB, which a host without https does not pay: the
 * library is opened by dlopen(3) on first use.
 */
#pragma once

#include "base/err.h"
#include "io/loop.h"

#include <stdbool.h>

struct bufferevent;

/* PEM files; "" or NULL: none. Borrowed. */
struct tls_files {
	const char *ca;   /* whom to believe; none: the system's list */
	const char *cert; /* shown to the server, with its chain */
	const char *key;  /* the private key of cert */
	/* The same as text, instead of the file. */
	const char *ca_pem, *cert_pem, *key_pem;
	const char *name; /* what the server is asked for and must prove to be; none: the host */
	bool insecure;    /* whatever the server proves is taken */
};

/* A copy of @files (NULL: nothing given), to be given back to tls_files_done(), which wipes
 * it. */
void tls_files_copy(const struct tls_files *files, struct tls_files *ret_copy);
void tls_files_done(struct tls_files *copy);

/* Whether the files can be used: readable, of the right kind, cert and key given both
 * and belonging together, nothing expired. 0, or an error that names flag-neutrally the
 * file and what is wrong with it. */
int tls_check(const struct tls_files *files, struct err *err);

/* A bufferevent without a socket yet, for bufferevent_socket_connect*(): it shakes hands
 * as soon as it is connected; or, when @under is not NULL, one on top of that, which is
 * connected, and taken over on success. The server's certificate must be valid and made out
 * to @host (name or address), or to the name in @files. @alpn: "h2" or "http/1.1". The files are
 * read anew at each call, so a renewed certificate counts from the next connection on; sessions are
 * not resumed. Caller frees *@ret_bev by bufferevent_free(). */
int tls_bufferevent_new(struct loop *loop, const struct tls_files *files, const char *host,
			const char *alpn, struct bufferevent *under, struct bufferevent **ret_bev,
			struct err *err);

/* Whether the server agreed to speak @alpn, for a connection that is up: -EPROTO and words
 * when it did not choose "h2". HTTP/1.1 is what a server without ALPN speaks. */
int tls_check_alpn(struct bufferevent *bev, const char *alpn, struct err *err);

/* Why TLS on @bev failed, in words, with what to do where that is known (unknown
 * authority, expired, wrong name, client certificate wanted); -EPROTO. 0 and no text when
 * TLS knows of no failure, or @bev is a plain one. To be asked from the event callback, also
 * long after the handshake: with TLS 1.3 a server refuses our certificate only then. */
int tls_explain(struct bufferevent *bev, struct err *err);
