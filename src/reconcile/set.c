/* SPDX-License-Identifier: Apache-2.0 */
/* set.c - WANTED and SEEN in one table */
#include "reconcile/set.h"

#include "base/mem.h"

#include <utlist.h>

struct item *set_find(const struct set *set, const struct entry_key *key)
{
	struct item *item;

	HASH_FIND(hh, set->items, key, sizeof(*key), item);
	return item;
}

static struct item *find_or_add(struct set *set, const struct entry_key *key)
{
	struct item *item = set_find(set, key);

	if (item)
		return item;
	item = mem_alloc(1, sizeof(*item));
	item->key = *key;
	HASH_ADD(hh, set->items, key, sizeof(item->key), item);
	return item;
}

void set_unqueue(struct set *set, struct item *item)
{
	if (item->queued) {
		DL_DELETE(set->queue[item->key.kind], item);
	} else if (item->retry_ms) {
		DL_DELETE(set->waiting, item);
		set->n_waiting--;
		item->retry_ms = 0;
	}
	item->queued = false;
}

static void queue(struct set *set, struct item *item)
{
	if (item->queued)
		return;
	set_unqueue(set, item);
	DL_APPEND(set->queue[item->key.kind], item);
	item->queued = true;
}

static void free_item(struct set *set, struct item *item)
{
	set_unqueue(set, item);
	HASH_DEL(set->items, item);
	free(item);
}

void set_done(struct set *set)
{
	struct item *item, *tmp;

	HASH_ITER (hh, set->items, item, tmp)
		free_item(set, item);
}

void set_want(struct set *set, const struct entry *entry)
{
	struct item *item = find_or_add(set, &entry->key);
	bool changed = !item->refs || !entry_value_equal(&item->want, &entry->value);

	/* In a round, the first owner starts the count anew. */
	if (item->want_round != set->want_round) {
		set->wanted[item->key.kind] -= item->refs > 0;
		item->refs = 0;
		item->conflict = false;
		item->want_round = set->want_round;
	}
	set->wanted[item->key.kind] += !item->refs;
	if (item->refs && changed)
		item->conflict = set->conflicts = true;
	item->refs++;
	item->want = entry->value;
	if (!changed)
		return;
	item->failures = 0;
	item->confirmed = false;
	queue(set, item);
}

static void no_longer_wanted(struct set *set, struct item *item)
{
	set->wanted[item->key.kind]--;
	set->drifted[item->key.kind] -= item->drifted;
	item->drifted = false;
	item->refs = 0;
	item->confirmed = false;
	item->failures = 0;
	if (item->has_seen)
		queue(set, item);
	else
		free_item(set, item);
}

void set_unwant(struct set *set, const struct entry_key *key)
{
	struct item *item = set_find(set, key);

	if (!item || !item->refs)
		return;
	if (item->refs > 1)
		item->refs--;
	else
		no_longer_wanted(set, item);
}

void set_want_begin(struct set *set)
{
	set->want_round++;
	set->conflicts = false;
}

void set_want_end(struct set *set)
{
	struct item *item, *tmp;

	HASH_ITER (hh, set->items, item, tmp)
		if (item->refs && item->want_round != set->want_round)
			no_longer_wanted(set, item);
}

/* A confirmed item is about to change by another's hand. */
static void note_drift(struct set *set, struct item *item)
{
	if (item->confirmed && !item->drifted) {
		set->drifted[item->key.kind]++;
		item->drifted = true;
	}
	item->confirmed = false;
}

/* The item is as wanted. */
static void confirm(struct set *set, struct item *item)
{
	set->repaired[item->key.kind] += item->drifted;
	item->drifted = false;
	item->confirmed = true;
	item->failures = 0;
}

void set_see(struct set *set, const struct entry *entry, bool ours)
{
	struct item *item = ours ? find_or_add(set, &entry->key) : set_find(set, &entry->key);

	if (!item)
		return;
	item->seen_round = set->seen_round;
	item->has_seen = true;
	item->ours = ours;
	item->seen = entry->value;
	if (item->refs && entry_value_equal(&item->want, &item->seen)) {
		confirm(set, item);
		set_unqueue(set, item);
		return;
	}
	note_drift(set, item);
	queue(set, item);
}

void set_unsee(struct set *set, struct item *item)
{
	item->has_seen = item->ours = false;
	if (!item->refs) {
		free_item(set, item);
		return;
	}
	note_drift(set, item);
	queue(set, item);
}

void set_see_begin(struct set *set)
{
	set->seen_round++;
}

void set_see_end(struct set *set, enum entry_kind kind, uint8_t device)
{
	struct item *item, *tmp;

	HASH_ITER (hh, set->items, item, tmp)
		if (item->has_seen && item->key.kind == kind &&
		    item->seen_round != set->seen_round &&
		    (device == DEVICE_NONE || item->key.device == device))
			set_unsee(set, item);
}

void set_unsee_kind(struct set *set, enum entry_kind kind, uint8_t device)
{
	struct item *item, *tmp;

	HASH_ITER (hh, set->items, item, tmp)
		if (item->has_seen && item->key.kind == kind && item->key.device == device)
			set_unsee(set, item);
}

void set_queue_device(struct set *set, uint8_t device)
{
	struct item *item, *tmp;

	HASH_ITER (hh, set->items, item, tmp)
		if (item->refs && (item->key.device == device || item->want.device == device) &&
		    !(item->has_seen && entry_value_equal(&item->want, &item->seen)))
			queue(set, item);
}

void set_unsee_device(struct set *set, uint8_t device, bool only_routes, bool drift)
{
	struct item *item, *tmp;

	HASH_ITER (hh, set->items, item, tmp) {
		bool route = item->key.kind == ENTRY_ROUTE && item->seen.device == device;

		/* Elements of the peer set outlive the device, peers of a tunnel are not in
		 * it. */
		bool on_it = !only_routes && item->key.device == device &&
			     item->key.kind != ENTRY_FILTER && item->key.kind != ENTRY_TUNNEL;

		if (!item->has_seen || !(route || on_it))
			continue;
		item->confirmed &= drift;
		set_unsee(set, item);
	}
}

void set_wait(struct set *set, struct item *item, int64_t retry_ms)
{
	set_unqueue(set, item);
	item->retry_ms = retry_ms;
	DL_APPEND(set->waiting, item);
	set->n_waiting++;
}

int64_t set_requeue_due(struct set *set, int64_t now_ms)
{
	struct item *item, *tmp;
	int64_t next = 0;

	DL_FOREACH_SAFE (set->waiting, item, tmp) {
		if (item->retry_ms <= now_ms)
			queue(set, item);
		else if (!next || item->retry_ms < next)
			next = item->retry_ms;
	}
	return next;
}

bool set_queues_empty(const struct set *set)
{
	for (size_t kind = 0; kind < ENTRY_KIND_COUNT; kind++)
		if (set->queue[kind])
			return false;
	return true;
}

void set_applied(struct set *set, struct item *item)
{
	set_unqueue(set, item);
	if (!item->refs) {
		free_item(set, item);
		return;
	}
	item->has_seen = item->ours = true;
	item->seen = item->want;
	confirm(set, item);
}
