/* SPDX-License-Identifier: Apache-2.0 */
/* http.h - a client's HTTP/1.1 requests, one at a time over a connection (RFC 9112)
 *
 * For etcd's v2 store, which has no HTTP/2, and Kubernetes, whose watch wants a connection of
 * its own anyway. libevent's evhttp is not used: it insists on making the connection itself
 * (2.1.12 closes one that is handed to it), tells no reason of a failure, and a header
 * callback cannot stop it.
 */
#pragma once

#include "io/dial.h"
#include "io/loop.h"

#include <stddef.h>
#include <stdint.h>

#define HTTP_CONNECT_TIMEOUT_MS 5000
#define HTTP_BODY_MAX           (64u << 20)

#define HTTP_IDLE_MS 30000 /* a kept connection is closed then */

struct http_request;
struct proxy;

/* One connection that is kept for the next request to the same server, by the same
 * credentials. A request that finds it in use makes another. */
struct http_keeper;
struct http_keeper *http_keeper_new(struct loop *loop);
/* The connection counts no more: credentials have changed. */
void http_keeper_drop(struct http_keeper *keeper);
/* NULL is allowed; after its requests. */
void http_keeper_free(struct http_keeper *keeper);

/* Borrowed during a callback. */
struct http_answer {
	int status;
	const char *body; /* NUL-terminated after len bytes; empty in `head` */
	size_t len;
	const struct http_parser *parser;
};
/* The header's value; NULL: there is none. @name in any case. */
const char *http_answer_header(const struct http_answer *answer, const char *name);

/* "Basic dXNlcjpwYXNz". A secret: the caller calls mem_free_secret(). */
char *http_basic(const char *user, const char *password);

typedef void (*http_head_fn)(const struct http_answer *answer, void *userdata);
/* Called once, from the loop; the handle is void. @answer: complete; or NULL, and @why says
 * in words why not, without naming the endpoint: "connection refused", "no answer within
 * 5 s", "it closed the connection in the middle of its answer". */
typedef void (*http_done_fn)(const struct http_answer *answer, const char *why, void *userdata);

struct http_header {
	const char *name, *value; /* without CR and LF */
};

struct http_options {
	const struct endpoint *endpoint;
	const struct tls_files *files;
	const struct proxy *proxy;  /* NULL: none */
	struct http_keeper *keeper; /* borrowed for as long as the request lasts; NULL: none */
	const char *method;         /* not HEAD */
	const char *target;         /* path and query, percent-encoded */
	/* Besides Host, Connection, User-Agent, Accept-Encoding and Content-Length. */
	const struct http_header *headers;
	size_t n_headers;
	const char *body;   /* NULL: none */
	int64_t timeout_ms; /* for all of it; 0: only for the connection */
	int64_t silence_ms; /* longest time without a byte, once connected; 0: any */
	size_t body_max;    /* longest answer taken; 0: HTTP_BODY_MAX */
	http_head_fn head;  /* status and headers are there; NULL: not of interest */
	/* Gets the body of a 2xx as it comes, of any length; NULL: it is collected. */
	void (*piece)(const char *data, size_t len, void *userdata);
	http_done_fn done;
	void *userdata; /* of all three */
};

/* Sends a request. All is copied, and what is sent is wiped afterwards: it may hold a
 * password. Never NULL; a failure at once is told from the loop as well. */
struct http_request *http_request_new(struct loop *loop, const struct http_options *options);
/* Gives up: no callback follows. NULL is allowed; allowed in `head` and `piece`, not in
 * `done`. */
void http_request_cancel(struct http_request *request);
