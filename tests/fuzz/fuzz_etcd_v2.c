/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_etcd_v2.c - answers of etcd's v2 keys API
 *
 * The first line is the HTTP status, the rest the body.
 */
#include "base/mem.h"
#include "store/etcd_v2_codec.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PREFIX "/coreos.com/network"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_kv(const struct etcd_kv *kv)
{
	_cleanup_free_ char *target = etcd_v2_target(PREFIX, kv->key, "quorum=true");
	_cleanup_free_ char *form = etcd_v2_form(kv->value, kv->lease);

	assert(!strcmp(kv->key, ETCD_CONFIG_KEY) ||
	       !strncmp(kv->key, ETCD_SUBNETS_DIR, strlen(ETCD_SUBNETS_DIR)));
	assert(kv->value[kv->len] == '\0');
	assert(kv->revision > 0 && kv->created >= 0);
	assert(kv->lease == 0 || kv->lease == 1);
	assert(!strpbrk(target, " \r\n") && !strpbrk(form, " \r\n"));
}

static void check_answer(const struct etcd_v2_answer *answer)
{
	_cleanup_free_ struct etcd_kv *kvs = NULL;
	enum etcd_v2_change change;
	struct err err = {""};
	struct etcd_kv kv;
	int64_t index;
	size_t n;

	assert(etcd_v2_ttl(answer->node) >= 0);
	if (etcd_v2_kv(PREFIX, answer->node, &kv))
		check_kv(&kv);
	n = etcd_v2_list(PREFIX, answer->node, &kvs);
	for (size_t i = 0; i < n; i++)
		check_kv(&kvs[i]);
	if (etcd_v2_event(PREFIX, answer, &change, &index, &kv, &err) < 0) {
		assert(*err.text);
		return;
	}
	assert(index > 0);
	if (change == ETCD_V2_PUT || change == ETCD_V2_GONE) {
		assert(kv.revision == index);
		check_kv(&kv);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = mem_alloc(size + 1, 1);
	struct etcd_v2_answer answer = {0};
	enum etcd_status status;
	struct err err = {""};
	const char *body;

	if (size)
		memcpy(text, data, size);
	body = memchr(text, '\n', size);
	body = body ? body + 1 : text + size;
	status = etcd_v2_read((int)strtol(text, NULL, 10), body, (size_t)(text + size - body),
			      "flannel", &answer, &err);
	assert((status == ETCD_OK) == !*err.text);
	if (status == ETCD_OK)
		check_answer(&answer);
	assert(!answer.absent || status == ETCD_CONFLICT);
	etcd_v2_answer_done(&answer);
	return 0;
}
