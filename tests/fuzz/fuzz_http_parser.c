/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_http_parser.c - answers of HTTP servers
 *
 * The first byte says in pieces of which length the rest comes: that changes nothing.
 */
#include "base/mem.h"
#include "io/http_parser.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#define BODY_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int read_answer(struct http_parser *parser, const uint8_t *data, size_t size, size_t piece)
{
	struct err err = {""};
	int r = 0;

	*parser = (struct http_parser){.body_max = BODY_MAX};
	for (size_t i = 0; i < size && !r; i += piece)
		r = http_parser_feed(parser, data + i, piece < size - i ? piece : size - i, &err);
	if (!r)
		r = http_parser_end(parser, &err);
	assert(!r == !*err.text);
	assert(!r == http_parser_is_done(parser));
	assert(parser->body.len <= BODY_MAX && parser->head_len <= HTTP_HEAD_MAX);
	return r;
}

struct sum {
	size_t len;
	uint32_t hash;
};

static void add(const char *data, size_t len, void *userdata)
{
	struct sum *sum = userdata;

	assert(len > 0);
	for (size_t i = 0; i < len; i++)
		sum->hash = sum->hash * 31 + (uint8_t)data[i];
	sum->len += len;
}

/* What a 2xx has for a body is the same in pieces, but that there may be more of it. */
static void check_pieces(const struct http_parser *whole, int r, const uint8_t *data, size_t size)
{
	struct sum sum = {0}, collected = {0};
	struct http_parser parser = {.body_max = BODY_MAX, .piece = add, .userdata = &sum};
	int r_pieces = http_parser_feed(&parser, data, size, NULL);

	if (!r_pieces)
		r_pieces = http_parser_end(&parser, NULL);
	if (!r) {
		assert(!r_pieces && parser.status == whole->status);
		if (whole->body.len)
			add(whole->body.p, whole->body.len, &collected);
		if (whole->status / 100 == 2)
			assert(!parser.body.len && sum.len == collected.len &&
			       sum.hash == collected.hash);
		else
			assert(!sum.len && parser.body.len == whole->body.len);
		assert(http_parser_may_go_on(&parser) == http_parser_may_go_on(whole));
	}
	assert(!http_parser_may_go_on(&parser) || (!r_pieces && !parser.to_end));
	http_parser_done(&parser);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct http_parser whole, cut;
	int r, r_cut;

	if (!size)
		return 0;
	r = read_answer(&whole, data + 1, size - 1, size);
	r_cut = read_answer(&cut, data + 1, size - 1, data[0] ? data[0] : 1);
	assert(r_cut == r);
	assert(cut.status == whole.status && cut.n_headers == whole.n_headers);
	if (!r) {
		assert(whole.status >= 200 && whole.status <= 599);
		assert(cut.body.len == whole.body.len);
		assert(!whole.body.len || !memcmp(cut.body.p, whole.body.p, whole.body.len));
		assert(!whole.body.p || strlen(whole.body.p) <= whole.body.len);
	}
	check_pieces(&whole, r, data + 1, size - 1);
	http_parser_done(&whole);
	http_parser_done(&cut);
	return 0;
}
