/* SPDX-License-Identifier: Apache-2.0 */
/* etcd_peers.c - etcd store: the other hosts' records
 */
#include "store/etcd_internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>

void etcd_peers_tell_senseless(size_t n, const char *names, void *userdata)
{
	const struct etcd *e = userdata;

	log_warning("Ignoring %zu more key%s below %s/" ETCD_SUBNETS_DIR " that make no sense: %s",
		    n, n > 1 ? "s" : "", e->link.prefix, names);
}

void etcd_peers_take(struct etcd *e, const char *name, const struct etcd_kv *kv)
{
	struct lease lease = {0};
	struct err err;
	bool kept;

	if (lease_parse(name, kv->value, kv->len, &lease, &err)) {
		/* Unreadable is not gone. */
		vanished_undo(&e->vanished, name);
		kept = peers_keep(e->store.peers, name);
		if (senseless_may_tell(&e->senseless, name))
			log_warning("Ignoring key %s/" ETCD_SUBNETS_DIR "%.100s%s: %s",
				    e->link.prefix, name,
				    kept ? " (its last good record stays)" : "", err.text);
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
