/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_etcd_v3.c - etcd's answers, each by every decoder */
#include "base/mem.h"
#include "store/etcd_v3_codec.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#define PREFIX "/coreos.com/network"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_kv(const struct etcd_kv *kv, void *userdata)
{
	size_t *n = userdata;

	(*n)++;
	assert(strlen(kv->key) < 1U << 20);
	assert(strlen(kv->value) <= kv->len);
	assert(kv->value[kv->len] == '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct etcd_v3_watch_answer answer;
	struct etcd_v3_header header;
	size_t n = 0, n_put = 0, count;
	int64_t id, ttl_s;
	bool succeeded;
	char *token;

	if (size > 65536)
		return 0;
	(void)etcd_v3_decode_txn(data, size, PREFIX, &header, &succeeded, on_kv, &n);
	(void)etcd_v3_decode_range(data, size, PREFIX, &header, &count, on_kv, &n);
	(void)etcd_v3_decode_lease(data, size, &header, &id, &ttl_s);
	if (!etcd_v3_decode_watch(data, size, PREFIX, &answer, on_kv, on_kv, &n_put)) {
		assert(strlen(answer.reason) < sizeof(answer.reason));
		/* Of an event, or of a progress message. */
		assert(!answer.last_subnet || n_put ||
		       answer.last_subnet == answer.header.revision);
	}
	if (!etcd_v3_decode_token(data, size, &token))
		free(token);
	return 0;
}
