/* SPDX-License-Identifier: Apache-2.0 */
/* h2.h - one HTTP/2 connection of a client, several streams (RFC 9113, nghttp2) */
#pragma once

#include "io/loop.h"

#include <stdbool.h>
#include <stddef.h>

struct bufferevent;
struct h2;
struct h2_stream;

struct h2_header {
	const char *name; /* lower case */
	const char *value;
};

/* Callbacks of one stream. Each may cancel the stream, or free the connection. */
struct h2_stream_events {
	/* Headers and trailers alike; `:status` too. */
	void (*header)(const char *name, const char *value, void *userdata);
	void (*data)(const void *data, size_t len, void *userdata);
	/* The stream is over; the handle is void. @why: NULL when the server ended it in
	 * order, otherwise words (reset, connection lost). */
	void (*end)(const char *why, void *userdata);
	void *userdata;
};

/* Speaks over @bev, which is connected, and now its own. */
struct h2 *h2_new(struct loop *loop, struct bufferevent *bev);
/* Closes the connection; its streams end without a callback. NULL is allowed. */
void h2_free(struct h2 *h2);
/* Whether requests can be made. A connection that is lost stays lost. */
bool h2_is_usable(const struct h2 *h2);

/* Sends a request with @body (copied). @open: our side of the stream stays open behind it, as
 * long as the server's does. @headers: pseudo-headers first. NULL: the connection is lost, or
 * refuses new streams. The handle is valid until `end`. */
struct h2_stream *h2_request(struct h2 *h2, const struct h2_header *headers, size_t n_headers,
			     const void *body, size_t len, bool open,
			     const struct h2_stream_events *events);
/* Resets the stream; no callback follows. */
void h2_cancel(struct h2_stream *stream);
