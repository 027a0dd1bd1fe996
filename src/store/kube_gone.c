/* SPDX-License-Identifier: Apache-2.0 */
/* kube_gone.c - Kubernetes store: nodes that have gone, and whose peers go in a moment
 *
 * When annotations are wiped by mistake, or nodes are registered anew, the hosts are back at
 * once, and nobody loses a packet. Whose podCIDR another node has by then, is not waited for.
 */
#include "store/kube_internal.h"

#include "base/mem.h"

#include <stdio.h>

/* Memory that runs out aborts, as in base/mem.h. */
#define uthash_fatal(msg) abort()
#include <uthash.h>

#define VANISHED_MS 1000 /* from a deleted node to its peer's end */

struct kube_gone {
	char name[KUBE_NAME_MAX];
	int64_t due_ms;
	UT_hash_handle hh;
};

static void forget(struct kube *k, struct kube_gone *gone)
{
	/* The analyzer does not know that the neighbours' links agree. */
	HASH_DEL(k->peers.gone, gone); /* NOLINT(clang-analyzer-unix.Malloc) */
	free(gone);
}

void kube_gone_add(struct kube *k, const char *name)
{
	struct kube_gone *gone;

	if (!peers_find(k->store.peers, name) || strlen(name) >= KUBE_NAME_MAX)
		return;
	HASH_FIND_STR(k->peers.gone, name, gone);
	if (gone)
		return;
	gone = mem_alloc(1, sizeof(*gone));
	(void)snprintf(gone->name, sizeof(gone->name), "%s", name);
	gone->due_ms = loop_now_ms() + VANISHED_MS;
	HASH_ADD_STR(k->peers.gone, name, gone);
	loop_timer_set_sooner(k->peers.gone_timer, VANISHED_MS);
}

void kube_gone_undo(struct kube *k, const char *name)
{
	struct kube_gone *gone;

	HASH_FIND_STR(k->peers.gone, name, gone);
	if (gone)
		forget(k, gone);
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

void kube_gone_give_way(struct kube *k, const struct lease *lease)
{
	struct kube_gone *gone, *next;

	HASH_ITER (hh, k->peers.gone, gone, next) {
		const struct lease *old = peers_find(k->store.peers, gone->name);

		if (!old || !overlaps(old, lease))
			continue;
		peers_remove(k->store.peers, gone->name);
		forget(k, gone);
	}
}

static void on_timer(void *userdata)
{
	struct kube *k = userdata;
	struct kube_gone *gone, *next;
	const int64_t now = loop_now_ms();

	if (k->link.phase != KUBE_WATCHING || !k->link.live_since_ms)
		return; /* it may be back already; kube_gone_resume() arms the timer again */
	/* In the order of their end. */
	HASH_ITER (hh, k->peers.gone, gone, next) {
		if (gone->due_ms > now) {
			loop_timer_set(k->peers.gone_timer, gone->due_ms - now);
			return;
		}
		peers_remove(k->store.peers, gone->name);
		forget(k, gone);
	}
}

void kube_gone_resume(struct kube *k)
{
	if (k->peers.gone)
		loop_timer_set(k->peers.gone_timer, VANISHED_MS);
}

void kube_gone_forget(struct kube *k)
{
	struct kube_gone *gone, *next;

	HASH_ITER (hh, k->peers.gone, gone, next)
		forget(k, gone);
}

void kube_gone_init(struct kube *k)
{
	k->peers.gone_timer = loop_timer_new(k->store.loop, on_timer, k);
}

void kube_gone_done(struct kube *k)
{
	kube_gone_forget(k);
	loop_event_free(k->peers.gone_timer);
}
