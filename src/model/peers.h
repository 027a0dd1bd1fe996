/* SPDX-License-Identifier: Apache-2.0 */
/* peers.h - the peer table: the other hosts' leases by record key
 *
 * The store feeds it, either with single changes or with complete lists
 * (begin, put..., end). Each change that matters to the kernel reaches the
 * owner through one callback with the old and the new lease. A change of the
 * expiry alone is stored silently.
 *
 * Unknown is not empty: a list under which most peers would vanish at once is
 * not believed until the next list says the same (LESSONS.md). The table keeps
 * the doubtful peers meanwhile and asks for that list.
 */
#pragma once

#include "model/lease.h"

#include <stdbool.h>
#include <stddef.h>

struct peers;

/* @before is NULL when the peer is new, @after when it has gone; both are only
 * valid during the call. Must not change the table. */
typedef void (*peers_changed_fn)(const char *key, const struct lease *before,
				 const struct lease *after, void *userdata);

/* Whether a record that parses can also be used; called for records of known peers
 * only. One that cannot leaves the peer as it was: its last good record stays. */
typedef bool (*peers_usable_fn)(const char *key, const struct lease *lease, void *userdata);

struct peers *peers_new(peers_changed_fn changed, void *userdata);
void peers_free(struct peers *peers);
/* Without one every record is usable. */
void peers_set_usable(struct peers *peers, peers_usable_fn usable);

/* Another callback behind the owner's, for whoever keeps a copy. NULL: none. */
void peers_set_observer(struct peers *peers, peers_changed_fn observer, void *userdata);

size_t peers_count(const struct peers *peers);
const struct lease *peers_find(const struct peers *peers, const char *key);
/* Calls @visit for each peer. */
void peers_each(const struct peers *peers,
		void (*visit)(const char *key, const struct lease *lease, void *userdata),
		void *userdata);

/* One peer is there or has changed; takes over the strings of @lease and leaves it empty. */
void peers_put(struct peers *peers, const char *key, struct lease *lease);
/* The same for a peer that is remembered from an earlier run, and only when there is none
 * under this key: the first list, even one that is open, may lack it like any other. */
void peers_recall(struct peers *peers, const char *key, struct lease *lease);
/* One peer has gone; unknown keys are ignored. */
void peers_remove(struct peers *peers, const char *key);

/* A complete list: begin, then peers_put() or peers_keep() for each, then end. */
void peers_list_begin(struct peers *peers);
/* The peer is listed, and is what it was (also: listed but unreadable, so that
 * the last good record stays). False when there is no such peer. */
bool peers_keep(struct peers *peers, const char *key);
/* There is reason not to trust this list (the store has just come back, our own record
 * is missing): whatever it lacks is doubted. */
void peers_list_suspect(struct peers *peers);
/* Removes the peers that the list lacked. When they are more than half of the
 * table (and the list before did not lack them too), none is removed: returns
 * their number and the caller lists again in a while. 0: done. */
size_t peers_list_end(struct peers *peers);
