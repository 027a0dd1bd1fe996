/* SPDX-License-Identifier: Apache-2.0 */
/* etcd_peers.c - etcd store: the other hosts' records
 */
#include "store/etcd_internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>

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

void etcd_peers_take(struct etcd *e, const char *name, const struct etcd_kv *kv)
{
	struct lease lease = {0};
	struct err err;

	if (lease_parse(name, kv->value, kv->len, &lease, &err)) {
		/* Unreadable is not gone. */
		vanished_undo(&e->vanished, name);
		complain(e, name, peers_keep(e->store.peers, name), &err);
		return;
	}
	lease.expires_s = kv->lease ? LEASE_EXPIRES_SOMEDAY : 0;
	etcd_peers_put(e, name, &lease);
}

void etcd_peers_put(struct etcd *e, const char *name, struct lease *lease)
{
	vanished_undo(&e->vanished, name);
	peers_put(e->store.peers, name, lease);
}

void etcd_peers_on_vanished(void *userdata)
{
	struct etcd *e = userdata;

	if (!e->live)
		return;
	vanished_expire(&e->vanished);
	if (!e->vanished.first && !*e->own.key)
		etcd_own_step(e); /* a subnet may be free now */
}
