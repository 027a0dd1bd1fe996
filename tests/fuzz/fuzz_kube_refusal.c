/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_kube_refusal.c - what is said of a Kubernetes API's refusals
 *
 * The first byte says which status and which request; Retry-After is up to the first newline,
 * the body behind it.
 */
#include "base/mem.h"
#include "store/kube_refusal.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const int statuses[] = {400, 401, 403, 404, 410, 429, 302, 500};

static const struct {
	const char *method, *path, *who;
} requests[] = {
	{"GET", "/api/v1/nodes?limit=500", "the token"},
	{"GET", "/api/v1/nodes/n1", ""},
	{"GET", "/api/v1/namespaces/a/pods/b", "user a"},
	{"PATCH", "/api/v1/nodes/n1/status", "the token"},
};

static void check(const struct kube_refused *refused, const struct kube_refusal *refusal)
{
	char code[8];

	(void)snprintf(code, sizeof(code), "%d", refused->http_status);
	assert(!strncmp(refusal->why.text, code, strlen(code)));
	assert(strlen(refusal->why.text) > strlen(code));
	for (const char *c = refusal->why.text; *c; c++)
		assert((unsigned char)*c >= ' ' && *c != 0x7f);
	assert(refusal->wait_ms <= 120 * 1000 && refusal->wait_ms % 1000 == 0);
	assert(refusal->expired || (refused->http_status != 410 && !*refusal->next));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *newline = size ? memchr(data, '\n', size) : NULL;
	_cleanup_free_ char *retry_after = NULL;
	struct kube_refused refused = {.location = "https://login.example"};
	struct kube_refusal refusal;
	size_t which;

	if (!newline || newline == data)
		return 0;
	which = data[0];
	retry_after = mem_alloc((size_t)(newline - data), 1);
	memcpy(retry_after, data + 1, (size_t)(newline - data) - 1);
	refused.http_status = statuses[which % ARRAY_SIZE(statuses)];
	which = which / ARRAY_SIZE(statuses) % ARRAY_SIZE(requests);
	refused.method = requests[which].method;
	refused.path = requests[which].path;
	refused.who = requests[which].who;
	refused.retry_after = *retry_after ? retry_after : NULL;
	refused.body =
		(struct json_slice){(const char *)newline + 1, (size_t)(data + size - newline) - 1};
	kube_refusal_explain(&refused, &refusal);
	check(&refused, &refusal);
	return 0;
}
