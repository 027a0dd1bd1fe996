/* SPDX-License-Identifier: Apache-2.0 */
/* set.h - WANTED and SEEN in one table
 *
 * Theory of operation. An item stands for one kernel entry. It knows what is
 * wanted there (by how many owners: two leases of one host share an FDB entry),
 * what the kernel was last seen to have, and whether an unwanted one is ours to
 * remove. An item whose two sides may differ is queued, by kind; the reconciler
 * empties the queues. Items that nobody wants and that are not seen are freed.
 *
 * Rounds serve "this is the whole list": begin a round, report every entry, end
 * it; what was not reported in the round is no longer wanted (or seen).
 */
#pragma once

#include "reconcile/entry.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

struct item {
	struct entry_key key;
	struct entry_value want;
	struct entry_value seen;
	uint32_t refs; /* owners that want it; 0: unwanted */
	bool conflict; /* owners want different values: the last one counts */
	bool has_seen;
	bool ours;      /* seen, and to be removed when unwanted */
	bool confirmed; /* was as wanted since it was last wanted anew: a change now is drift */
	bool drifted;   /* changed by another's hand, and not yet as wanted again */
	bool queued;
	uint8_t failures; /* in a row */
	uint32_t want_round, seen_round;
	int64_t retry_ms; /* not before this time; 0: at once */
	struct item *prev, *next;
	UT_hash_handle hh;
};

struct set {
	struct item *items;
	struct item *queue[ENTRY_KIND_COUNT]; /* utlist */
	struct item *waiting;                 /* failed, to be tried again at retry_ms */
	size_t wanted[ENTRY_KIND_COUNT];
	/* Entries that drifted, and those of them that are right again; whoever reports
	 * repairs takes `repaired` off both. */
	size_t drifted[ENTRY_KIND_COUNT], repaired[ENTRY_KIND_COUNT];
	size_t n_waiting;
	uint32_t want_round, seen_round;
	bool conflicts; /* some item had owners of different mind: plan anew after a change */
};

void set_done(struct set *set);
struct item *set_find(const struct set *set, const struct entry_key *key);

void set_want(struct set *set, const struct entry *entry);
/* One owner less. */
void set_unwant(struct set *set, const struct entry_key *key);
/* All wants are given anew between begin and end. */
void set_want_begin(struct set *set);
void set_want_end(struct set *set);

/* The kernel has the entry. @ours: to be removed when unwanted; entries neither
 * ours nor wanted are not kept. Drift (a confirmed item that changes) is counted. */
void set_see(struct set *set, const struct entry *entry, bool ours);
/* The kernel no longer has it. */
void set_unsee(struct set *set, struct item *item);
/* Each seen item of @kind on @device (DEVICE_NONE: any) that is not reported
 * between begin and end is no longer seen. */
void set_see_begin(struct set *set);
void set_see_end(struct set *set, enum entry_kind kind, uint8_t device);
/* Nothing of @kind on @device is seen any more; rounds go on. */
void set_unsee_kind(struct set *set, enum entry_kind kind, uint8_t device);

/* Queues every item that stands on @device, by key or value. */
void set_queue_device(struct set *set, uint8_t device);
/* Forgets what was seen on @device, because the kernel flushed it: everything (the
 * device is gone), or only its routes (it is down). @drift: by another's hand. */
void set_unsee_device(struct set *set, uint8_t device, bool only_routes, bool drift);

/* Takes the item off its queue or the waiting list. */
void set_unqueue(struct set *set, struct item *item);
/* Puts a failed item aside until @retry_ms. */
void set_wait(struct set *set, struct item *item, int64_t retry_ms);
/* Queues what waits and is due at @now_ms; returns the next due time, 0: none. */
int64_t set_requeue_due(struct set *set, int64_t now_ms);
bool set_queues_empty(const struct set *set);
/* Records that the kernel now has what is wanted (or, unwanted, has it no more). */
void set_applied(struct set *set, struct item *item);
