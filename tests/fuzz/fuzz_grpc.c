/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_grpc.c - gRPC messages out of bytes that come in pieces
 *
 * The first eight bytes are the lengths of the pieces, in turn; the rest is the stream.
 * Whatever the pieces, the messages are those of the stream in one piece.
 */
#include "base/mem.h"
#include "io/grpc.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#define N_CUTS 8

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What has been told: the number of messages, and a sum over their bytes and lengths. */
struct told {
	size_t n, bytes;
	uint64_t sum;
};

static void add(struct told *told, uint64_t value)
{
	told->sum = (told->sum ^ value) * 1099511628211U;
}

static void on_message(const uint8_t *message, size_t len, void *userdata)
{
	struct told *told = userdata;

	told->n++;
	told->bytes += len;
	add(told, len + 256);
	for (size_t i = 0; i < len; i++)
		add(told, message[i]);
}

static int feed(const uint8_t *stream, size_t len, const uint8_t *cuts, struct told *told)
{
	struct grpc_splitter splitter = {0};
	const bool gone = false;
	size_t at = 0;
	int code = 0;

	for (size_t i = 0; !code && at < len; i++) {
		size_t n = cuts ? cuts[i % N_CUTS] % 16U + 1 : len;
		_cleanup_free_ uint8_t *piece = NULL;

		n = n < len - at ? n : len - at;
		piece = memcpy(mem_alloc(n, 1), stream + at, n);
		code = grpc_splitter_feed(&splitter, piece, n, on_message, told, &gone);
		at += n;
	}
	assert(code == 0 || code == -EPROTO || code == -EMSGSIZE);
	assert(code || grpc_splitter_is_partial(&splitter) == (5 * told->n + told->bytes != len));
	grpc_splitter_done(&splitter);
	return code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct told whole = {0}, pieces = {0};

	if (size < N_CUTS)
		return 0;
	assert(feed(data + N_CUTS, size - N_CUTS, NULL, &whole) ==
	       feed(data + N_CUTS, size - N_CUTS, data, &pieces));
	assert(whole.n == pieces.n && whole.bytes == pieces.bytes && whole.sum == pieces.sum);
	return 0;
}
