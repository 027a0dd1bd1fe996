/* SPDX-License-Identifier: Apache-2.0 */
/* vanished.c - records that have gone, and whose peers go in a moment */
#include "store/vanished.h"

#include "base/mem.h"

/* Memory that runs out aborts, as in base/mem.h. */
#define uthash_fatal(msg) abort()
#include <uthash.h>

#define VANISHED_MS 1000 /* from a deleted record to its peer's end */

struct vanished_peer {
	UT_hash_handle hh;
	int64_t due_ms;
	char name[];
};

void vanished_init(struct vanished *v, struct loop *loop, struct peers *peers, loop_fn due,
		   void *userdata)
{
	*v = (struct vanished){.peers = peers, .timer = loop_timer_new(loop, due, userdata)};
}

void vanished_done(struct vanished *v)
{
	vanished_forget(v);
	loop_event_free(v->timer);
}

static void forget(struct vanished *v, struct vanished_peer *peer)
{
	/* The analyzer does not know that the neighbours' links agree. */
	HASH_DEL(v->first, peer); /* NOLINT(clang-analyzer-unix.Malloc) */
	free(peer);
}

void vanished_add(struct vanished *v, const char *name)
{
	const size_t size = strlen(name) + 1;
	struct vanished_peer *peer;

	if (!peers_find(v->peers, name))
		return;
	HASH_FIND_STR(v->first, name, peer);
	if (peer)
		return;
	peer = mem_alloc(1, sizeof(*peer) + size);
	memcpy(peer->name, name, size);
	peer->due_ms = loop_now_ms() + VANISHED_MS;
	HASH_ADD_STR(v->first, name, peer);
	loop_timer_set_sooner(v->timer, VANISHED_MS);
}

void vanished_undo(struct vanished *v, const char *name)
{
	struct vanished_peer *peer;

	HASH_FIND_STR(v->first, name, peer);
	if (peer)
		forget(v, peer);
}

static bool overlaps(const struct lease *a, const struct lease *b)
{
	IP_FOREACH_FAMILY (f) {
		if (ip_net_is_set(&a->subnet[f]) && ip_net_is_set(&b->subnet[f]) &&
		    ip_net_overlaps(&a->subnet[f], &b->subnet[f]))
			return true;
	}
	return false;
}

void vanished_give_way(struct vanished *v, const struct lease *lease)
{
	struct vanished_peer *peer, *next;

	HASH_ITER (hh, v->first, peer, next) {
		const struct lease *old = peers_find(v->peers, peer->name);

		if (!old || !overlaps(old, lease))
			continue;
		peers_remove(v->peers, peer->name);
		forget(v, peer);
	}
}

void vanished_expire(struct vanished *v)
{
	struct vanished_peer *peer, *next;
	const int64_t now = loop_now_ms();

	HASH_ITER (hh, v->first, peer, next) {
		if (peer->due_ms > now) {
			loop_timer_set(v->timer, peer->due_ms - now);
			return;
		}
		peers_remove(v->peers, peer->name);
		forget(v, peer);
	}
}

void vanished_resume(struct vanished *v)
{
	if (v->first)
		loop_timer_set(v->timer, VANISHED_MS);
}

void vanished_forget(struct vanished *v)
{
	struct vanished_peer *peer, *next;

	HASH_ITER (hh, v->first, peer, next)
		forget(v, peer);
}
