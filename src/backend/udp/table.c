/* SPDX-License-Identifier: Apache-2.0 */
/* table.c - the peers as the data path sees them: immutable, replaced as a whole
 *
 * One block of memory: the peers, the slots of the hash of outer addresses, and the way from
 * an inner address to a peer, which is one of two. `direct`: all subnets are of one length
 * and lie close to each other; an array by the subnet's number holds the peer. Otherwise:
 * the address space cut at each border of a subnet into ranges, each with the peer whose
 * subnet is the longest there, in order, so that half of them are out of the question with
 * each look. Places in `peers` count from 1; 0 is nobody.
 */
#include "backend/udp/table.h"

#include "base/mem.h"

#include <assert.h>

/* Of the array, beyond the number of peers: 64 KB more are never the larger evil. */
#define DIRECT_GAPS 16384u

struct range {
	uint32_t start; /* it ends where the next one begins */
	uint32_t place;
};

struct table {
	uint32_t n;
	uint8_t shift;  /* of `direct` */
	uint32_t first; /* number of the first subnet in `direct` */
	uint32_t n_direct;
	uint32_t n_ranges;
	unsigned slot_shift; /* of the hash: its upper bits are the slot */
	struct udp_peer *peers;
	uint32_t *slots;
	uint32_t *direct;
	struct range *ranges;
};

static uint32_t mask_of(unsigned len)
{
	return len ? UINT32_MAX << (32 - len) : 0;
}

static uint32_t last_of(const struct udp_peer *peer)
{
	return peer->subnet | ~mask_of(peer->subnet_len);
}

/* -- by outer address ------------------------------------------------------------------- */

static uint32_t slot_of(const struct table *t, uint32_t addr)
{
	return (addr * UINT32_C(0x9e3779b1)) >> t->slot_shift;
}

static uint32_t n_slots(const struct table *t)
{
	return UINT32_C(1) << (32 - t->slot_shift);
}

/* The slot that has @addr, or would get it. */
static uint32_t find_slot(const struct table *t, uint32_t addr)
{
	uint32_t slot = slot_of(t, addr);

	while (t->slots[slot] && t->peers[t->slots[slot] - 1].addr != addr)
		slot = (slot + 1) & (n_slots(t) - 1);
	return slot;
}

bool table_knows(const struct table *t, uint32_t addr)
{
	return t->slots[find_slot(t, addr)] != 0;
}

/* -- by inner address ------------------------------------------------------------------- */

const struct udp_peer *table_find(const struct table *t, uint32_t dst)
{
	uint32_t place, low = 0, high = t->n_ranges;

	if (t->direct) {
		/* Below the first one wraps around to beyond the last. */
		uint32_t number = (dst >> t->shift) - t->first;

		place = number < t->n_direct ? t->direct[number] : 0;
	} else {
		/* The last range that begins at @dst or before; the first begins at 0. */
		while (high - low > 1) {
			uint32_t middle = low + (high - low) / 2;

			if (t->ranges[middle].start <= dst)
				low = middle;
			else
				high = middle;
		}
		place = t->ranges[low].place;
	}
	return place ? &t->peers[place - 1] : NULL;
}

/* By subnet, those that contain others first; of equal ones the one given last in front,
 * which makes its place in the caller's array the last thing to compare. */
static int compare_peers(const void *pa, const void *pb, void *peers_given)
{
	const struct udp_peer *peers = peers_given;
	uint32_t ia = *(const uint32_t *)pa, ib = *(const uint32_t *)pb;
	const struct udp_peer *a = &peers[ia - 1], *b = &peers[ib - 1];

	if (a->subnet != b->subnet)
		return a->subnet < b->subnet ? -1 : 1;
	if (a->subnet_len != b->subnet_len)
		return a->subnet_len < b->subnet_len ? -1 : 1;
	return ia > ib ? -1 : ia < ib;
}

static void add_range(struct table *t, uint64_t start, uint32_t place)
{
	if (start > UINT32_MAX)
		return;
	/* One that begins at the same address is of no length. */
	if (t->n_ranges && t->ranges[t->n_ranges - 1].start == start)
		t->n_ranges--;
	t->ranges[t->n_ranges++] = (struct range){(uint32_t)start, place};
}

/* Goes through the subnets from left to right with those that are open around it: at most
 * one of each length. */
static void cut_ranges(struct table *t, uint32_t *sorted)
{
	uint32_t around[33 + 1] = {0};
	unsigned depth = 0;

	for (uint32_t i = 0; i < t->n; i++)
		sorted[i] = i + 1;
	qsort_r(sorted, t->n, sizeof(sorted[0]), compare_peers, t->peers);
	add_range(t, 0, 0);
	for (uint32_t i = 0; i <= t->n; i++) {
		const struct udp_peer *next = i < t->n ? &t->peers[sorted[i] - 1] : NULL;
		const struct udp_peer *inner;

		for (; depth; depth--) {
			inner = &t->peers[around[depth] - 1];
			if (next && next->subnet <= last_of(inner))
				break;
			add_range(t, (uint64_t)last_of(inner) + 1, around[depth - 1]);
		}
		if (!next)
			break;
		inner = depth ? &t->peers[around[depth] - 1] : NULL;
		if (inner && inner->subnet == next->subnet && inner->subnet_len == next->subnet_len)
			continue;
		around[++depth] = sorted[i];
		add_range(t, next->subnet, sorted[i]);
	}
}

/* How long `direct` would be; 0: it cannot be used. */
static uint32_t direct_len(const struct udp_peer *peers, size_t n)
{
	uint32_t low = UINT32_MAX, high = 0, number;

	for (size_t i = 0; i < n; i++) {
		if (peers[i].subnet_len != peers[0].subnet_len || peers[i].subnet_len == 0)
			return 0;
		number = peers[i].subnet >> (32 - peers[i].subnet_len);
		low = number < low ? number : low;
		high = number > high ? number : high;
	}
	return n && high - low < n + DIRECT_GAPS ? high - low + 1 : 0;
}

static void fill_direct(struct table *t)
{
	t->shift = (uint8_t)(32 - t->peers[0].subnet_len);
	t->first = UINT32_MAX;
	for (uint32_t i = 0; i < t->n; i++) {
		uint32_t number = t->peers[i].subnet >> t->shift;

		t->first = number < t->first ? number : t->first;
	}
	for (uint32_t i = 0; i < t->n; i++)
		t->direct[(t->peers[i].subnet >> t->shift) - t->first] = i + 1;
}

struct table *table_new(const struct udp_peer *peers, size_t n)
{
	_cleanup_free_ uint32_t *sorted = NULL;
	uint32_t n_direct = direct_len(peers, n);
	size_t n_ranges = n_direct ? 0 : 2 * n + 1;
	unsigned slot_shift = 31;
	struct table *t;

	assert(n < UINT32_C(1) << 28);
	while (UINT32_C(1) << (32 - slot_shift) < 2 * n)
		slot_shift--;
	t = mem_alloc(1, sizeof(*t) + n_ranges * sizeof(t->ranges[0]) + n * sizeof(t->peers[0]) +
				 (sizeof(uint32_t) << (32 - slot_shift)) +
				 n_direct * sizeof(uint32_t));
	t->n = (uint32_t)n;
	t->slot_shift = slot_shift;
	t->ranges = (struct range *)(t + 1);
	t->peers = (struct udp_peer *)(t->ranges + n_ranges);
	t->slots = (uint32_t *)(t->peers + n);
	for (uint32_t i = 0; i < n; i++) {
		assert(peers[i].subnet_len <= 32);
		t->peers[i] = peers[i];
		t->peers[i].subnet &= mask_of(peers[i].subnet_len);
		t->slots[find_slot(t, peers[i].addr)] = i + 1;
	}
	if (n_direct) {
		t->direct = t->slots + n_slots(t);
		t->n_direct = n_direct;
		fill_direct(t);
	} else {
		sorted = mem_alloc(n + 1, sizeof(sorted[0]));
		cut_ranges(t, sorted);
	}
	return t;
}
