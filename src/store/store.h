/* SPDX-License-Identifier: Apache-2.0 */
/* store.h - where the network config and the hosts' leases are kept
 *
 * A store reports, through callbacks and from the loop only:
 *   config       - the network config's text, at first and whenever it changes
 *   own          - this host's lease: acquired, or another one after a loss
 *   peers        - straight into the peer table (put, remove, whole lists)
 *   synced       - the table is complete for the first time
 *   state        - a problem in words, or NULL: in touch and up to date
 *   public_ip    - what an admin wants to be published (Kubernetes)
 * It never reports an unreadable thing as an empty one, and never gives up.
 */
#pragma once

#include "base/err.h"
#include "io/loop.h"
#include "model/lease.h"
#include "model/netconf.h"
#include "model/peers.h"

#include <stddef.h>

struct store;

struct store_events {
	/* @place names where the text is from, for errors: a path, a key */
	void (*config)(const char *text, size_t len, const char *place, void *userdata);
	void (*own)(const struct lease *own, void *userdata);
	void (*synced)(void *userdata);
	void (*state)(const char *problem, void *userdata);
	/* An admin wants this host to be reached by these addresses, as if by --public-ip; a
	 * family without one is unset. Before the config, and whenever it changes; NULL: not
	 * of interest */
	void (*public_ip)(const struct ip public_ip[IP_FAMILY_COUNT], void *userdata);
	void *userdata;
};

/* What this host asks for. Borrowed during the call. */
struct store_request {
	const struct netconf *conf; /* ranges checked */
	/* public IPs, backend type and data; the subnet is the store's choice */
	const struct lease *attrs;
	/* tried before a new one, when valid and free: of the old subnet file */
	const struct ip_net *preferred; /* [IP_FAMILY_COUNT] */
	/* the host's own prefixes: a new subnet must not overlap them */
	const struct ip_net *avoid;
	size_t n_avoid;
	unsigned renew_margin_min;
};

struct store_ops {
	const char *name;
	/* "Created subnet manager: ..." */
	void (*describe)(const struct store *store, char *buf, size_t size);
	/* Begins to watch the config; `config` follows, also later. */
	void (*start)(struct store *store);
	/* The record that is this host's already, by its public IPs; false: none (yet).
	 * Lets the backend keep its MAC. Caller frees *@ret_own by lease_done(). */
	bool (*find_own)(struct store *store, const struct lease *attrs, struct lease *ret_own);
	/* Acquires a lease and keeps it: renewed, published anew on later calls (the
	 * subnet stays), acquired anew when lost. `own` follows, then the peers. */
	void (*acquire)(struct store *store, const struct store_request *request);
	/* Pods may run here: what waits for that is published. Again: nothing. NULL: nothing
	 * waits. */
	void (*up)(struct store *store);
	void (*free)(struct store *store);
};

struct store {
	const struct store_ops *ops;
	struct loop *loop;
	struct store_events events;
	struct peers *peers; /* the owner's */
	/* Subnets are given by others, of any length inside Network: the config's SubnetLen,
	 * SubnetMin and SubnetMax do not count. */
	bool gives_subnets;
};

/* dir.c: @path is DIR of `--subnet-dir=DIR`. */
struct store *store_dir_new(struct loop *loop, const char *path, struct peers *peers,
			    const struct store_events *events);
