/* SPDX-License-Identifier: Apache-2.0 */
/* etcd_peers.c - etcd store: the other hosts' records
 *
 * A peer goes a moment after its key: when all are deleted by mistake, the hosts write
 * theirs anew at once, and nobody loses a packet.
 */
#include "store/etcd_internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>

/* Memory that runs out aborts, as in base/mem.h. */
#define uthash_fatal(msg) abort()
#include <uthash.h>

#define VANISHED_MS      1000 /* from a deleted key to its peer's end */
#define IGNORED_QUIET_MS 10000

/* The first one at once, what follows in one line a while later. */
static void complain(struct etcd *e, const char *name, bool kept, const struct err *err)
{
	if (e->ignored_quiet) {
		size_t len = strlen(e->ignored_names);

		/* What does not fit ends in "...". */
		(void)snprintf(e->ignored_names + len, sizeof(e->ignored_names) - len, "%s%.100s",
			       len ? ", " : "", name);
		if (strlen(e->ignored_names) == sizeof(e->ignored_names) - 1)
			memcpy(e->ignored_names + sizeof(e->ignored_names) - 4, "...", 3);
		e->ignored++;
		return;
	}
	log_warning("Ignoring key %s/" ETCD_SUBNETS_DIR "%.100s%s: %s", e->link.prefix, name,
		    kept ? " (its last good record stays)" : "", err->text);
	e->ignored_quiet = true;
	loop_timer_set(e->ignored_timer, IGNORED_QUIET_MS);
}

void etcd_peers_on_ignored_timer(void *userdata)
{
	struct etcd *e = userdata;

	e->ignored_quiet = e->ignored > 0;
	if (!e->ignored)
		return;
	log_warning("Ignoring %zu more key%s below %s/" ETCD_SUBNETS_DIR " that make no sense: %s",
		    e->ignored, e->ignored > 1 ? "s" : "", e->link.prefix, e->ignored_names);
	e->ignored = 0;
	*e->ignored_names = '\0';
	loop_timer_set(e->ignored_timer, IGNORED_QUIET_MS);
}

/* A key that was deleted; its peer stays for a moment. */
struct etcd_gone {
	char name[LEASE_KEY_MAX];
	int64_t due_ms;
	UT_hash_handle hh;
};

static void forget_gone(struct etcd *e, struct etcd_gone *gone)
{
	/* The analyzer does not know that the neighbours' links agree. */
	HASH_DEL(e->gone, gone); /* NOLINT(clang-analyzer-unix.Malloc) */
	free(gone);
}

static void is_back(struct etcd *e, const char *name)
{
	struct etcd_gone *gone;

	HASH_FIND_STR(e->gone, name, gone);
	if (gone)
		forget_gone(e, gone);
}

void etcd_peers_take(struct etcd *e, const char *name, const struct etcd_kv *kv)
{
	struct lease lease = {0};
	struct err err;

	if (lease_parse(name, kv->value, kv->len, &lease, &err)) {
		/* Unreadable is not gone. */
		is_back(e, name);
		complain(e, name, peers_keep(e->store.peers, name), &err);
		return;
	}
	lease.expires_s = kv->lease ? LEASE_EXPIRES_SOMEDAY : 0;
	etcd_peers_put(e, name, &lease);
}

void etcd_peers_put(struct etcd *e, const char *name, struct lease *lease)
{
	is_back(e, name);
	peers_put(e->store.peers, name, lease);
}

void etcd_peers_gone(struct etcd *e, const char *name)
{
	struct etcd_gone *gone;

	if (!peers_find(e->store.peers, name) || strlen(name) >= LEASE_KEY_MAX)
		return;
	HASH_FIND_STR(e->gone, name, gone);
	if (gone)
		return;
	gone = mem_alloc(1, sizeof(*gone));
	(void)snprintf(gone->name, sizeof(gone->name), "%s", name);
	gone->due_ms = loop_now_ms() + VANISHED_MS;
	HASH_ADD_STR(e->gone, name, gone);
	loop_timer_set_sooner(e->gone_timer, VANISHED_MS);
}

void etcd_peers_on_gone_timer(void *userdata)
{
	struct etcd *e = userdata;
	struct etcd_gone *gone, *next;
	int64_t now = loop_now_ms();

	if (!e->live)
		return; /* it may be back already; etcd_peers_resume() arms the timer again */
	/* In the order of their end. */
	HASH_ITER (hh, e->gone, gone, next) {
		if (gone->due_ms > now) {
			loop_timer_set(e->gone_timer, gone->due_ms - now);
			return;
		}
		peers_remove(e->store.peers, gone->name);
		forget_gone(e, gone);
	}
	if (!*e->own.key)
		etcd_own_step(e); /* a subnet may be free now */
}

void etcd_peers_resume(struct etcd *e)
{
	if (e->gone)
		loop_timer_set(e->gone_timer, VANISHED_MS);
}

void etcd_peers_forget_gone(struct etcd *e)
{
	struct etcd_gone *gone, *next;

	HASH_ITER (hh, e->gone, gone, next)
		forget_gone(e, gone);
}
