/* SPDX-License-Identifier: Apache-2.0 */
/* reconciler.h - keeps the kernel as wanted
 *
 * Its owner says what is wanted (devices, entries); it watches the kernel through
 * netlink, and whenever the two differ, it programs the difference. Nothing it
 * does blocks; each object that fails is tried again by itself.
 */
#pragma once

#include "base/err.h"
#include "io/loop.h"
#include "kernel/link.h"
#include "kernel/nft_set.h"
#include "reconcile/diff.h"
#include "reconcile/entry.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct reconciler;

struct reconciler_events {
	/* Links, addresses, default routes or forwarding of the host have changed: choose
	 * the uplink again. Called often; must be cheap. */
	void (*world_changed)(void *userdata);
	/* Somebody touched the table of a device's peer set, or it has gone. */
	void (*filter_changed)(void *userdata);
	/* The ENTRY_TUNNEL entries are others now. Once for all that change together. */
	void (*tunnel_changed)(void *userdata);
	/* A device cannot be had as wanted, so that nothing that stands on it is there;
	 * `settled` follows when it can. */
	void (*failing)(const char *why, void *userdata);
	/* Everything wanted is in the kernel, but for what waits for a retry. */
	void (*settled)(void *userdata);
	void *userdata;
};

/* Opens the sockets; programs nothing before reconciler_kick(). */
int reconciler_new(struct loop *loop, const struct reconciler_events *events,
		   struct reconciler **ret_reconciler, struct err *err);
void reconciler_free(struct reconciler *r);

/* Routes inside @claims that nobody wants are removed, see diff_route_is_ours(). */
void reconciler_set_claims(struct reconciler *r, const struct diff_claims *claims);
/* The host's own NIC, slot DEVICE_UPLINK. */
void reconciler_set_uplink(struct reconciler *r, const char *name);
/* Unwanted entries of ours may be removed from now on: the peers are complete. */
void reconciler_allow_removal(struct reconciler *r);

/* The slot of our device @name, kept until the device is unwanted and gone; -ENOSPC
 * when there are DEVICE_MAX. */
int reconciler_device(struct reconciler *r, const char *name);
/* The device is wanted so (again): it is created, changed or re-created.
 * @want->vxlan.lower_ifindex is filled in from the uplink. @tx_checksum: 1 on, 0
 * off, -1 as it is. */
void reconciler_want_link(struct reconciler *r, int device, const struct link *want,
			  int tx_checksum);
/* The device is to go, once nothing that is wanted stands on it. */
void reconciler_unwant_link(struct reconciler *r, int device);
/* A device that an earlier run made: unless it is wanted, it goes as one that no longer
 * is. Whether it goes. */
bool reconciler_disown(struct reconciler *r, const struct link *link);
/* The device as the kernel has it now; NULL: none. */
const struct link *reconciler_link(const struct reconciler *r, int device);

/* The peer set of a device: its ENTRY_FILTER entries are elements of @set, which
 * exists. NULL: it does not (any more). */
void reconciler_set_filter(struct reconciler *r, int device, const struct nft_set *set);
/* False: there is none, or it has gone since. */
bool reconciler_has_filter(const struct reconciler *r, int device);

void reconciler_want(struct reconciler *r, const struct entry *entry);
void reconciler_unwant(struct reconciler *r, const struct entry *entry);
/* The peers of a tunnel device: its wanted ENTRY_TUNNEL entries, in no order. */
typedef void (*reconciler_tunnel_fn)(const struct ip_net *subnet, const struct ip *remote,
				     void *userdata);
void reconciler_each_tunnel(const struct reconciler *r, int device, reconciler_tunnel_fn fn,
			    void *userdata);
/* Everything wanted is said anew between begin and end. */
void reconciler_want_begin(struct reconciler *r);
void reconciler_want_end(struct reconciler *r);
/* Owners of one entry want it differently, and one may have gone: plan anew. */
bool reconciler_has_conflicts(const struct reconciler *r);

/* Whether one more line about repairs or failures may be written now: who fights with us
 * must not fill the log. What is held back is counted, and the number logged later. */
bool reconciler_may_log(struct reconciler *r);
/* Reads the kernel anew, wholly. */
void reconciler_resync(struct reconciler *r);
/* Something wanted has changed: work soon, from the loop. */
void reconciler_kick(struct reconciler *r);
bool reconciler_is_settled(const struct reconciler *r);

struct reconciler_status {
	size_t wanted[ENTRY_KIND_COUNT];
	size_t failing;             /* entries and devices waiting for a retry */
	char failure[ERR_TEXT_MAX]; /* the newest failure that stands, "" for none */
	uint64_t repairs;           /* entries and devices put back since the start */
};
void reconciler_get_status(const struct reconciler *r, struct reconciler_status *ret_status);

/* The netlink request socket, for reading the host's state. */
struct netlink *reconciler_netlink(const struct reconciler *r);
