/* SPDX-License-Identifier: Apache-2.0 */
/* http_parser.c - the answer of an HTTP/1.1 server, as it comes in pieces
 *
 * The grammar is RFC 9112, sections 4 to 7, with what a client must refuse: a body whose
 * length is told twice, folded headers, codings that were not asked for. Everything up to
 * the body, and what is around its chunks, is lines; they are collected in `line` until
 * they are whole. An interim answer (1xx) is read and forgotten.
 */
#include "io/http_parser.h"

#include "base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <strings.h>
#include <sys/types.h>

#define TEXT_MIN 256

static void text_add(struct http_text *text, const char *data, size_t len)
{
	size_t size = text->size ? text->size : TEXT_MIN;

	while (size <= text->len + len)
		size *= 2;
	if (size != text->size)
		text->p = mem_realloc(text->p, size, 1);
	text->size = size;
	memcpy(text->p + text->len, data, len);
	text->len += len;
	text->p[text->len] = '\0';
}

static void forget_headers(struct http_parser *p)
{
	for (size_t i = 0; i < p->n_headers; i++) {
		free(p->header[i].name);
		free(p->header[i].value);
	}
	p->n_headers = 0;
}

static int no_http(struct err *err)
{
	return err_set(err, -EPROTO, "it answers, but does not speak HTTP/1.1");
}

static int too_long(struct err *err)
{
	return err_set(err, -EMSGSIZE, "it answers with headers of more than %d bytes",
		       HTTP_HEAD_MAX);
}

static int body_too_long(const struct http_parser *p, struct err *err)
{
	return err_set(err, -EMSGSIZE, "it answers with more than %zu bytes", p->body_max);
}

/* `HTTP/1.1 200 OK`; the reason may be missing, with or without its blank. */
static int read_status_line(struct http_parser *p, const char *line, struct err *err)
{
	const char *s = line + strlen("HTTP/1.x "); /* looked at only when it is there */

	if (strncmp(line, "HTTP/1.", strlen("HTTP/1.")) != 0 || !isdigit((unsigned char)line[7]) ||
	    line[8] != ' ' || s[0] < '1' || s[0] > '5' || !isdigit((unsigned char)s[1]) ||
	    !isdigit((unsigned char)s[2]) || (s[3] && s[3] != ' '))
		return no_http(err);
	p->minor = line[7] - '0';
	p->status = (s[0] - '0') * 100 + (s[1] - '0') * 10 + s[2] - '0';
	p->state = HTTP_HEADERS;
	return 0;
}

/* Only digits: strtoull() would take signs and blanks as well. */
static int read_number(const char *text, size_t len, int base, uint64_t *ret_number)
{
	uint64_t number = 0;

	for (size_t i = 0; i < len; i++) {
		const int c = tolower((unsigned char)text[i]);
		const int digit = isdigit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 16;

		if (digit >= base || number > UINT64_MAX / 16 - 1)
			return -EPROTO;
		number = number * (uint64_t)base + (uint64_t)digit;
	}
	if (!len)
		return -EPROTO;
	*ret_number = number;
	return 0;
}

static bool in_pieces(const struct http_parser *p)
{
	return p->piece && p->status / 100 == 2;
}

static size_t room(const struct http_parser *p)
{
	return in_pieces(p) ? SIZE_MAX : p->body_max - p->body.len;
}

/* Of a failure the status counts, whatever its text is packed into. */
static int check_content(const struct http_parser *p, struct err *err)
{
	const char *coding = http_parser_header(p, "Content-Encoding");

	if (!coding || !*coding || !strcasecmp(coding, "identity") || p->status / 100 != 2)
		return 0;
	return err_set(err, -EPROTO,
		       "it answers in a content coding that was not asked for (%.40s)", coding);
}

/* What the headers say of the body: RFC 9112, section 6.3. */
static int begin_body(struct http_parser *p, struct err *err)
{
	const char *coding = http_parser_header(p, "Transfer-Encoding");
	const char *length = http_parser_header(p, "Content-Length");

	if (p->status == 204 || p->status == 304) {
		p->state = HTTP_DONE;
		return 0;
	}
	if (coding) {
		if (length || strcasecmp(coding, "chunked") != 0)
			return err_set(err, -EPROTO,
				       "it answers in a transfer coding that was not asked for");
		p->state = HTTP_CHUNK_SIZE;
		return 0;
	}
	if (!length) {
		p->to_end = true;
		p->state = HTTP_BODY_TO_END;
		return 0;
	}
	if (read_number(length, strlen(length), 10, &p->left) < 0)
		return err_set(err, -EPROTO, "it answers with an odd Content-Length");
	if (p->left > room(p))
		return body_too_long(p, err);
	p->state = p->left ? HTTP_BODY_LENGTH : HTTP_DONE;
	return 0;
}

static int end_head(struct http_parser *p, struct err *err)
{
	if (p->status == 101)
		return err_set(err, -EPROTO, "it wants to speak another protocol");
	if (p->status >= 200)
		return check_content(p, err) < 0 ? -EPROTO : begin_body(p, err);
	forget_headers(p);
	p->state = HTTP_STATUS_LINE;
	return 0;
}

/* Two headers that tell the length are one too many, unless they agree (RFC 9112, 6.3). */
static bool contradicts(const struct http_parser *p, const char *name, const char *value)
{
	const char *before = http_parser_header(p, name);

	return before && strcmp(before, value) != 0 &&
	       (!strcasecmp(name, "Content-Length") || !strcasecmp(name, "Transfer-Encoding"));
}

static int read_header(struct http_parser *p, char *line, struct err *err)
{
	char *value = strchr(line, ':');
	char *end = line + strlen(line);

	/* A blank before the colon, or a folded line, is read in two ways by two readers. */
	if (!value || value == line || strcspn(line, " \t") < (size_t)(value - line))
		return err_set(err, -EPROTO, "it answers with an odd header");
	*value++ = '\0';
	value += strspn(value, " \t");
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		*--end = '\0';
	if (p->n_headers == HTTP_HEADERS_MAX)
		return err_set(err, -EMSGSIZE, "it answers with more than %d headers",
			       HTTP_HEADERS_MAX);
	if (contradicts(p, line, value))
		return err_set(err, -EPROTO, "it answers with two %s headers", line);
	p->header[p->n_headers].name = mem_strdup(line);
	p->header[p->n_headers++].value = mem_strdup(value);
	return 0;
}

static int read_chunk_size(struct http_parser *p, const char *line, struct err *err)
{
	if (read_number(line, strcspn(line, "; \t"), 16, &p->left) < 0)
		return err_set(err, -EPROTO, "it answers with an odd chunk size");
	if (p->left > room(p))
		return body_too_long(p, err);
	p->state = p->left ? HTTP_CHUNK_DATA : HTTP_TRAILERS;
	return 0;
}

static int read_line(struct http_parser *p, char *line, struct err *err)
{
	switch (p->state) {
	case HTTP_STATUS_LINE:
		return read_status_line(p, line, err);
	case HTTP_HEADERS:
		return *line ? read_header(p, line, err) : end_head(p, err);
	case HTTP_CHUNK_SIZE:
		return read_chunk_size(p, line, err);
	case HTTP_CHUNK_END:
		if (*line)
			return err_set(err, -EPROTO, "it answers with a chunk that is too long");
		p->state = HTTP_CHUNK_SIZE;
		return 0;
	case HTTP_TRAILERS:
		if (!*line)
			p->state = HTTP_DONE;
		return 0;
	case HTTP_BODY_LENGTH:
	case HTTP_BODY_TO_END:
	case HTTP_CHUNK_DATA:
	case HTTP_DONE:
	case HTTP_BROKEN:
	case HTTP_PARSER_STATE_COUNT:
		break;
	}
	return -EPROTO; /* none of these is read by lines */
}

/* Takes bytes up to the end of a line. Returns how many, or -errno. */
static ssize_t take_line(struct http_parser *p, const char *data, size_t len, struct err *err)
{
	const char *newline = memchr(data, '\n', len);
	const size_t n = newline ? (size_t)(newline - data) + 1 : len;
	const bool in_chunks = p->state == HTTP_CHUNK_SIZE || p->state == HTTP_CHUNK_END;
	struct http_text *line = &p->line;
	int r;

	if ((in_chunks ? line->len : p->head_len) + n > HTTP_HEAD_MAX)
		return too_long(err);
	if (!in_chunks)
		p->head_len += n;
	text_add(line, data, n);
	/* What is no HTTP at all may have no lines either. */
	if (p->state == HTTP_STATUS_LINE &&
	    memcmp(line->p, "HTTP/1.", line->len < 7 ? line->len : 7) != 0)
		return no_http(err);
	if (!newline)
		return (ssize_t)n;
	line->p[--line->len] = '\0';
	if (line->len && line->p[line->len - 1] == '\r')
		line->p[--line->len] = '\0';
	if (strlen(line->p) != line->len)
		return err_set(err, -EPROTO, "it answers with a zero byte in a header");
	r = read_line(p, line->p, err);
	line->len = 0;
	return r < 0 ? r : (ssize_t)n;
}

static ssize_t take_body(struct http_parser *p, const char *data, size_t len, struct err *err)
{
	size_t n = len;

	if (p->state != HTTP_BODY_TO_END && n > p->left)
		n = (size_t)p->left;
	if (n > room(p))
		return body_too_long(p, err);
	if (in_pieces(p))
		p->piece(data, n, p->userdata);
	else
		text_add(&p->body, data, n);
	if (p->state == HTTP_BODY_TO_END)
		return (ssize_t)n;
	p->left -= n;
	if (!p->left)
		p->state = p->state == HTTP_CHUNK_DATA ? HTTP_CHUNK_END : HTTP_DONE;
	return (ssize_t)n;
}

static bool in_body(const struct http_parser *p)
{
	return p->state == HTTP_BODY_LENGTH || p->state == HTTP_BODY_TO_END ||
	       p->state == HTTP_CHUNK_DATA;
}

int http_parser_feed(struct http_parser *parser, const void *data, size_t len, struct err *err)
{
	const char *at = data;

	if (parser->state == HTTP_BROKEN)
		return no_http(err);
	while (len && parser->state != HTTP_DONE) {
		const ssize_t n = in_body(parser) ? take_body(parser, at, len, err)
						  : take_line(parser, at, len, err);

		if (n < 0) {
			parser->state = HTTP_BROKEN;
			return (int)n;
		}
		at += n;
		len -= (size_t)n;
	}
	parser->surplus = parser->surplus || len;
	return 0;
}

int http_parser_end(struct http_parser *parser, struct err *err)
{
	if (parser->state == HTTP_BODY_TO_END)
		parser->state = HTTP_DONE;
	if (parser->state == HTTP_DONE)
		return 0;
	if (!parser->head_len)
		return err_set(err, -EPIPE, "it closed the connection without an answer");
	return err_set(err, -EPIPE, "it closed the connection in the middle of its answer");
}

bool http_parser_has_head(const struct http_parser *parser)
{
	return parser->state > HTTP_HEADERS && parser->state != HTTP_BROKEN;
}

bool http_parser_is_done(const struct http_parser *parser)
{
	return parser->state == HTTP_DONE;
}

/* Whether @list, of words with commas between them, has @word. */
static bool has_word(const char *list, const char *word)
{
	const size_t len = strlen(word);

	while (*list) {
		list += strspn(list, ", \t");
		if (!strncasecmp(list, word, len) && strchr(", \t", list[len]))
			return true;
		list += strcspn(list, ",");
	}
	return false;
}

bool http_parser_may_go_on(const struct http_parser *parser)
{
	const char *connection = http_parser_header(parser, "Connection");

	return parser->state == HTTP_DONE && !parser->to_end && !parser->surplus &&
	       parser->minor >= 1 && !(connection && has_word(connection, "close"));
}

const char *http_parser_header(const struct http_parser *parser, const char *name)
{
	for (size_t i = 0; i < parser->n_headers; i++)
		if (!strcasecmp(parser->header[i].name, name))
			return parser->header[i].value;
	return NULL;
}

void http_parser_done(struct http_parser *parser)
{
	forget_headers(parser);
	free(parser->line.p);
	free(parser->body.p);
	*parser = (struct http_parser){
		.body_max = parser->body_max,
		.piece = parser->piece,
		.userdata = parser->userdata,
	};
}
