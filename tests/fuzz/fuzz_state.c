/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_state.c - the state file, which a crash may have left in any state
 *
 * What reads is written in a form that reads as the same and is written the same again.
 */
#include "base/mem.h"
#include "store/state.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_changed(const char *key, const struct lease *before, const struct lease *after,
		       void *userdata)
{
	(void)key;
	(void)before;
	(void)after;
	(void)userdata;
}

static void recall(const char *key, struct lease *lease, void *userdata)
{
	assert(ip_net_is_set(&lease->subnet[IP_V4]) || ip_net_is_set(&lease->subnet[IP_V6]));
	peers_recall(userdata, key, lease);
}

/* NULL: it cannot be read. Else it as we would write it; caller frees. */
static char *rewrite(const void *data, size_t size)
{
	struct peers *peers = peers_new(on_changed, NULL);
	FILE *in = fmemopen((void *)(uintptr_t)data, size, "r"), *out;
	struct state state = {0};
	struct err err = {""};
	char *text = NULL;
	size_t len, unreadable;

	assert(in);
	if (state_read(in, &state, &err)) {
		assert(*err.text);
		assert(!state.config);
	} else {
		assert(strlen(state.config) <= NETCONF_MAX_BYTES);
		unreadable = state_read_peers(in, recall, peers);
		assert(unreadable + peers_count(peers) <= state.n_peers);
		out = open_memstream(&text, &len);
		assert(out);
		state_write(out, &state, peers);
		(void)fclose(out);
	}
	state_done(&state);
	peers_free(peers);
	(void)fclose(in);
	return text;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *written = size ? rewrite(data, size) : NULL, *again = NULL;

	if (!written)
		return 0;
	again = rewrite(written, strlen(written));
	assert(again);
	assert(!strcmp(written, again));
	return 0;
}
