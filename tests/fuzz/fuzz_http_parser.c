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
	http_parser_done(&whole);
	http_parser_done(&cut);
	return 0;
}
