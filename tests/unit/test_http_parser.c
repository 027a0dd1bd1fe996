/* SPDX-License-Identifier: Apache-2.0 */
/* test_http_parser.c - answers of HTTP servers, cut at every byte */
#include "io/http_parser.h"

#include "base/mem.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define BODY_MAX 64

#define OK "HTTP/1.1 200 OK\r\n"

/* What becomes of @text when the connection is closed behind it; the body goes to @ret_body,
 * the error's words too. @cut: it comes in two pieces; @bytewise: in single bytes. */
static int read_answer(const char *text, size_t cut, bool bytewise, char ret_body[256],
		       int *ret_status)
{
	struct http_parser parser = {.body_max = BODY_MAX};
	const size_t len = strlen(text);
	struct err err = {""};
	int r = 0;

	if (bytewise) {
		for (size_t i = 0; i < len && !r; i++)
			r = http_parser_feed(&parser, text + i, 1, &err);
	} else {
		r = http_parser_feed(&parser, text, cut, &err);
		if (!r)
			r = http_parser_feed(&parser, text + cut, len - cut, &err);
	}
	if (!r)
		r = http_parser_end(&parser, &err);
	assert_int_equal(!r, http_parser_is_done(&parser));
	*ret_status = parser.status;
	(void)snprintf(ret_body, 256, "%.255s", parser.body.p && !r ? parser.body.p : err.text);
	http_parser_done(&parser);
	return r;
}

static const struct {
	const char *text;
	int result, status;
	const char *body; /* or a part of the error */
} answers[] = {
	{OK "Content-Length: 5\r\n\r\nhello", 0, 200, "hello"},
	{OK "content-length:5\r\n\r\nhello, and more", 0, 200, "hello"},
	{OK "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello", 0, 200, "hello"},
	{OK "Content-Length: 0\r\n\r\n", 0, 200, ""},
	{OK "content-encoding: Identity\r\nContent-Length: 5\r\n\r\nhello", 0, 200, "hello"},
	{"HTTP/1.1 502 No\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", 0, 502, "x"},
	{OK "\r\nhello", 0, 200, "hello"},
	{OK "\r\n", 0, 200, ""},
	{"HTTP/1.0 404 Not Found\nX: y\n\nno", 0, 404, "no"},
	{"HTTP/1.1 204\r\nX: y\r\n\r\n", 0, 204, ""},
	{"HTTP/1.1 304 \r\nContent-Length: 5\r\n\r\n", 0, 304, ""},
	{"HTTP/1.1 100 Continue\r\nA: b\r\n\r\n" OK "Content-Length: 2\r\n\r\nhi", 0, 200, "hi"},
	{OK "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 0, 200, "hello"},
	{OK "Transfer-Encoding: Chunked\r\n\r\n05;a=b\r\nhello\r\nA \r\n0123456789\r\n"
	    "0\r\nTrailer: x\r\n\r\n",
	 0, 200, "hello0123456789"},
	{OK "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 0, 200, ""},
	/* cut short */
	{"", -EPIPE, 0, "without an answer"},
	{"HTTP/1.1 200 O", -EPIPE, 0, "in the middle"},
	{OK "Content-Le", -EPIPE, 200, "in the middle"},
	{OK "Content-Length: 5\r\n\r\nhell", -EPIPE, 200, "in the middle"},
	{OK "Transfer-Encoding: chunked\r\n\r\n", -EPIPE, 200, "in the middle"},
	{OK "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", -EPIPE, 200, "in the middle"},
	{OK "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", -EPIPE, 200, "middle"},
	/* too long */
	{OK "Content-Length: 65\r\n\r\n", -EMSGSIZE, 200, "more than 64 bytes"},
	{OK "Content-Length: 1000000000000000000\r\n\r\n", -EMSGSIZE, 200, "more than 64"},
	{OK "Transfer-Encoding: chunked\r\n\r\n41\r\n", -EMSGSIZE, 200, "more than 64 bytes"},
	{OK "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n40\r\n", -EMSGSIZE, 200, "more than 64"},
	{OK "\r\n0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef+", -EMSGSIZE, 200,
	 "more than 64 bytes"},
	/* nonsense */
	{"SSH-2.0-OpenSSH_9.2\r\n", -EPROTO, 0, "does not speak HTTP/1.1"},
	{"HTTP/2 200\r\n", -EPROTO, 0, "does not speak HTTP/1.1"},
	{"HTTP/1.1 2000 OK\r\n", -EPROTO, 0, "does not speak HTTP/1.1"},
	{"HTTP/1.1 20\r\n", -EPROTO, 0, "does not speak HTTP/1.1"},
	{"HTTP/1.1\r\n", -EPROTO, 0, "does not speak HTTP/1.1"},
	{"\r\n" OK, -EPROTO, 0, "does not speak HTTP/1.1"},
	{"HTTP/1.1 101 Switching Protocols\r\n\r\n", -EPROTO, 101, "another protocol"},
	{OK "no colon\r\n", -EPROTO, 200, "odd header"},
	{OK ": x\r\n", -EPROTO, 200, "odd header"},
	{OK "A : x\r\n", -EPROTO, 200, "odd header"},
	{OK "A: x\r\n folded\r\n", -EPROTO, 200, "odd header"},
	{OK "Content-Length: -5\r\n\r\n", -EPROTO, 200, "odd Content-Length"},
	{OK "Content-Length: 5, 5\r\n\r\n", -EPROTO, 200, "odd Content-Length"},
	{OK "Content-Length:\r\n\r\n", -EPROTO, 200, "odd Content-Length"},
	{OK "Content-Length: 99999999999999999999\r\n\r\n", -EPROTO, 200, "odd Content-Length"},
	{OK "Content-Length: 5\r\nContent-length: 6\r\n\r\n", -EPROTO, 200, "two Content-length"},
	{OK "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", -EPROTO, 200, "coding"},
	{OK "Transfer-Encoding: gzip, chunked\r\n\r\n", -EPROTO, 200, "coding"},
	{OK "Content-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", -EPROTO, 200,
	 "a content coding that was not asked for (gzip)"},
	{OK "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", -EPROTO, 200, "odd chunk size"},
	{OK "Transfer-Encoding: chunked\r\n\r\n\r\n", -EPROTO, 200, "odd chunk size"},
	{OK "Transfer-Encoding: chunked\r\n\r\n-1\r\n", -EPROTO, 200, "odd chunk size"},
	{OK "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", -EPROTO, 200, "odd chunk"},
	{OK "Transfer-Encoding: chunked\r\n\r\n2\r\nhello\r\n", -EPROTO, 200, "too long"},
};

static void check(size_t row, size_t cut, bool bytewise)
{
	char body[256];
	int status, r;

	r = read_answer(answers[row].text, cut, bytewise, body, &status);
	if (r != answers[row].result || status != answers[row].status ||
	    (r ? !strstr(body, answers[row].body) : strcmp(body, answers[row].body) != 0))
		fail_msg("%s\ncut at %zu: %d, %d: %s", answers[row].text, cut, r, status, body);
}

static void test_answers(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(answers); i++) {
		for (size_t cut = 0; cut <= strlen(answers[i].text); cut++)
			check(i, cut, false);
		check(i, 0, true);
	}
}

static void test_headers(void **state)
{
	static const char text[] =
		OK "X-Etcd-Index: 12\r\nEmpty:\r\nDate:  a b\t\r\nDate: c\r\n\r\n";
	struct http_parser parser = {.body_max = BODY_MAX};

	(void)state;
	for (size_t i = 0; i < sizeof(text) - 1; i++) {
		assert_false(http_parser_has_head(&parser));
		assert_int_equal(http_parser_feed(&parser, text + i, 1, NULL), 0);
	}
	assert_true(http_parser_has_head(&parser));
	assert_string_equal(http_parser_header(&parser, "x-etcd-index"), "12");
	assert_string_equal(http_parser_header(&parser, "Empty"), "");
	assert_string_equal(http_parser_header(&parser, "DATE"), "a b");
	assert_null(http_parser_header(&parser, "Dat"));
	http_parser_done(&parser);
}

/* A server that never ends its headers, in each of the ways there are. */
static void test_endless(void **state)
{
	static const struct {
		const char *start, *again;
	} rows[] = {
		{OK "A: ", "b"},
		{OK, "A: b\r\n"},
		{"", "HTTP/1.1 100 Continue\r\n\r\n"},
		{"HTTP/1.1 200 ", "O"},
		{OK "Transfer-Encoding: chunked\r\n\r\n1;", "x"},
		{OK "Transfer-Encoding: chunked\r\n\r\n0\r\n", "A: b\r\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct http_parser parser = {.body_max = BODY_MAX};
		int n = 0, r;

		r = http_parser_feed(&parser, rows[i].start, strlen(rows[i].start), NULL);
		for (; !r && n < HTTP_HEAD_MAX + 1; n++)
			r = http_parser_feed(&parser, rows[i].again, strlen(rows[i].again), NULL);
		assert_int_equal(r, -EMSGSIZE);
		assert_int_equal(http_parser_feed(&parser, "x", 1, NULL), -EPROTO);
		http_parser_done(&parser);
	}
}

static void test_zero_byte(void **state)
{
	struct http_parser parser = {.body_max = BODY_MAX};
	static const char text[] = OK "A: b\0c\r\n";

	(void)state;
	assert_int_equal(http_parser_feed(&parser, text, sizeof(text) - 1, NULL), -EPROTO);
	http_parser_done(&parser);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers),
		cmocka_unit_test(test_headers),
		cmocka_unit_test(test_endless),
		cmocka_unit_test(test_zero_byte),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
