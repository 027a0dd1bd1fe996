/* SPDX-License-Identifier: Apache-2.0 */
/* http_parser.h - the answer of an HTTP/1.1 server, as it comes in pieces (RFC 9112): pure */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_HEAD_MAX    16384 /* bytes of status line and headers */
#define HTTP_HEADERS_MAX 64

enum http_parser_state {
	HTTP_STATUS_LINE,
	HTTP_HEADERS,
	HTTP_BODY_LENGTH, /* `left` bytes to come */
	HTTP_BODY_TO_END, /* all until the connection is closed */
	HTTP_CHUNK_SIZE,
	HTTP_CHUNK_DATA, /* `left` bytes to come */
	HTTP_CHUNK_END,
	HTTP_TRAILERS,
	HTTP_DONE,
	HTTP_BROKEN,
	HTTP_PARSER_STATE_COUNT,
};

struct http_text {
	char *p; /* NULL: nothing yet; otherwise NUL-terminated after len bytes */
	size_t len, size;
};

/* All but body_max and piece (with userdata) zeroed is ready. */
struct http_parser {
	size_t body_max;
	/* Gets the body of a 2xx as it comes, of any length; NULL: it is collected. */
	void (*piece)(const char *data, size_t len, void *userdata);
	void *userdata;
	enum http_parser_state state;
	int status;
	int minor; /* of the server's HTTP version */
	struct {
		char *name, *value;
	} header[HTTP_HEADERS_MAX];
	size_t n_headers;
	struct http_text line; /* unfinished */
	struct http_text body;
	size_t head_len; /* bytes of status line, headers and trailers so far */
	uint64_t left;
	bool to_end;  /* the body has no other end than the connection's */
	bool surplus; /* something came behind the answer */
};

/* Takes in what came next; what follows the answer is ignored. 0; -EPROTO: no HTTP/1.1, or
 * none that is understood; -EMSGSIZE: too long. After an error nothing more is taken. The
 * answer must not be one to HEAD or CONNECT. */
int http_parser_feed(struct http_parser *parser, const void *data, size_t len, struct err *err);
/* The connection was closed. 0: that was the answer's end; -EPIPE: it was cut short. */
int http_parser_end(struct http_parser *parser, struct err *err);
/* Whether status and headers are known. */
bool http_parser_has_head(const struct http_parser *parser);
bool http_parser_is_done(const struct http_parser *parser);
/* Whether the connection can carry another request: the answer has come, and nothing else, and
 * the server does not mean to close. */
bool http_parser_may_go_on(const struct http_parser *parser);
/* The first header of that name, in any case; NULL: none. */
const char *http_parser_header(const struct http_parser *parser, const char *name);
void http_parser_done(struct http_parser *parser);
