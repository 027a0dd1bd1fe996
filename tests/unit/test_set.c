/* SPDX-License-Identifier: Apache-2.0 */
/* test_set.c - WANTED and SEEN: owners, rounds, drift, queues */
#include "reconcile/set.h"

#include "base/mem.h"
#include "messages.h"

#include <linux/rtnetlink.h>

#define VXLAN  2
#define VXLAN6 3

static struct entry route(const char *dst, uint8_t device, const char *gateway)
{
	struct ip_net net = messages_net(dst);
	struct ip ip = messages_ip(gateway);

	return entry_route(device, &net, &ip, true);
}

static struct entry fdb(uint8_t last, const char *remote)
{
	struct mac mac = {{2, 0, 0, 0, 0, last}};
	struct ip ip = messages_ip(remote);

	return entry_fdb(VXLAN, &mac, &ip);
}

static struct item *find(struct set *set, const struct entry *e)
{
	return set_find(set, &e->key);
}

/* Everything queued is programmed. */
static void apply(struct set *set)
{
	for (int kind = 0; kind < ENTRY_KIND_COUNT; kind++)
		while (set->queue[kind])
			set_applied(set, set->queue[kind]);
}

static void test_want_and_unwant(void **state)
{
	struct entry e = route("10.5.3.0/24", VXLAN, "10.5.3.0");
	struct set set = {0};

	(void)state;
	set_want(&set, &e);
	assert_true(find(&set, &e)->queued);
	assert_int_equal(set.wanted[ENTRY_ROUTE], 1);
	assert_false(set_queues_empty(&set));
	apply(&set);
	assert_true(set_queues_empty(&set));
	assert_true(find(&set, &e)->confirmed);
	/* Nobody wants it: it is queued until it has gone from the kernel. */
	set_unwant(&set, &e.key);
	assert_int_equal(set.wanted[ENTRY_ROUTE], 0);
	assert_true(find(&set, &e)->queued);
	apply(&set);
	assert_null(find(&set, &e));
	/* Never programmed: nothing is left to do. */
	set_want(&set, &e);
	set_unwant(&set, &e.key);
	assert_null(find(&set, &e));
	assert_true(set_queues_empty(&set));
	set_unwant(&set, &e.key);
	assert_null(set.items);
}

static void test_owners(void **state)
{
	struct entry e = fdb(1, "192.0.2.1"), other = fdb(1, "192.0.2.2");
	struct set set = {0};

	(void)state;
	set_want(&set, &e);
	set_want(&set, &e);
	apply(&set);
	assert_int_equal(set.wanted[ENTRY_FDB], 1);
	assert_false(set.conflicts);
	set_unwant(&set, &e.key);
	assert_true(set_queues_empty(&set));
	assert_int_equal(find(&set, &e)->refs, 1);

	/* Two of different mind: the last one counts, and the owner of all hears of it. */
	set_want(&set, &other);
	assert_true(set.conflicts);
	assert_true(find(&set, &e)->queued);
	assert_true(ip_equal(&find(&set, &e)->want.ip, &other.value.ip));
	apply(&set);
	set_unwant(&set, &other.key);
	assert_int_equal(find(&set, &e)->refs, 1);
	/* Said anew, the one that is left gets its way. */
	set_want_begin(&set);
	assert_false(set.conflicts);
	set_want(&set, &e);
	set_want_end(&set);
	assert_false(set.conflicts);
	assert_true(find(&set, &e)->queued);
	assert_true(ip_equal(&find(&set, &e)->want.ip, &e.value.ip));
	assert_int_equal(set.wanted[ENTRY_FDB], 1);
	set_done(&set);
}

static void test_rounds(void **state)
{
	struct entry stays = route("10.5.3.0/24", VXLAN, "10.5.3.0"),
		     goes = route("10.5.4.0/24", VXLAN, "10.5.4.0"),
		     moves = route("10.5.5.0/24", VXLAN, "10.5.5.0"),
		     comes = route("10.5.6.0/24", VXLAN, "10.5.6.0"), moved = moves;
	struct set set = {0};

	(void)state;
	set_want(&set, &stays);
	set_want(&set, &stays);
	set_want(&set, &goes);
	set_want(&set, &moves);
	apply(&set);
	moved.value.device = DEVICE_UPLINK;
	set_want_begin(&set);
	set_want(&set, &stays);
	set_want(&set, &moved);
	set_want(&set, &comes);
	set_want_end(&set);
	assert_int_equal(set.wanted[ENTRY_ROUTE], 3);
	assert_int_equal(find(&set, &stays)->refs, 1);
	assert_false(find(&set, &stays)->queued);
	assert_true(find(&set, &stays)->confirmed);
	assert_int_equal(find(&set, &goes)->refs, 0);
	assert_true(find(&set, &goes)->queued);
	assert_true(find(&set, &moves)->queued);
	assert_int_equal(find(&set, &moves)->refs, 1);
	assert_true(find(&set, &comes)->queued);
	assert_false(set.conflicts);
	/* A round in which nothing is wanted. */
	apply(&set);
	assert_null(find(&set, &goes));
	set_want_begin(&set);
	set_want_end(&set);
	assert_int_equal(set.wanted[ENTRY_ROUTE], 0);
	apply(&set);
	assert_null(set.items);
}

static void test_seeing(void **state)
{
	struct entry e = route("10.5.3.0/24", VXLAN, "10.5.3.0"), old = e, alien = e;
	struct set set = {0};

	(void)state;
	/* Neither ours nor wanted: not kept. */
	set_see(&set, &e, false);
	assert_null(set.items);
	/* Ours and unwanted: to be looked at. */
	set_see(&set, &e, true);
	assert_true(find(&set, &e)->queued && find(&set, &e)->ours);
	/* It is wanted, and there already: no work. */
	set_want(&set, &e);
	set_see(&set, &e, true);
	assert_false(find(&set, &e)->queued);
	assert_true(find(&set, &e)->confirmed);
	assert_int_equal(set.drifted[ENTRY_ROUTE], 0);
	/* The original's entry in its place is work, and no drift. */
	set_want_begin(&set);
	set_want_end(&set);
	apply(&set);
	old.value.protocol = RTPROT_BOOT;
	set_want(&set, &e);
	set_see(&set, &old, true);
	assert_true(find(&set, &e)->queued);
	assert_int_equal(set.drifted[ENTRY_ROUTE], 0);
	apply(&set);
	/* Another's entry in the place of one that was right is drift, counted once. */
	alien.value.foreign = true;
	set_see(&set, &alien, false);
	set_see(&set, &alien, false);
	assert_int_equal(set.drifted[ENTRY_ROUTE], 1);
	assert_true(find(&set, &e)->queued);
	/* Put right by the same hand. */
	set_see(&set, &e, true);
	assert_false(find(&set, &e)->queued);
	set_unsee(&set, find(&set, &e));
	assert_int_equal(set.drifted[ENTRY_ROUTE], 2);
	assert_true(find(&set, &e)->queued);
	set_done(&set);
}

static void test_unseen(void **state)
{
	struct entry ours = route("10.5.9.0/24", VXLAN, "10.5.9.0"),
		     wanted = route("10.5.3.0/24", VXLAN, "10.5.3.0"), f = fdb(1, "192.0.2.1");
	struct set set = {0};

	(void)state;
	set_want(&set, &wanted);
	set_want(&set, &f);
	apply(&set);
	set_see(&set, &ours, true);
	set_see_begin(&set);
	set_see(&set, &f, true);
	set_see_end(&set, ENTRY_ROUTE, DEVICE_NONE);
	set_see_end(&set, ENTRY_FDB, DEVICE_NONE);
	assert_null(find(&set, &ours)); /* gone by itself */
	assert_true(find(&set, &wanted)->queued);
	assert_int_equal(set.drifted[ENTRY_ROUTE], 1);
	assert_int_equal(set.drifted[ENTRY_FDB], 0);
	/* Of one device alone. */
	set_see_begin(&set);
	set_see_end(&set, ENTRY_FDB, VXLAN6);
	assert_true(find(&set, &f)->has_seen);
	set_see_end(&set, ENTRY_FDB, VXLAN);
	assert_false(find(&set, &f)->has_seen);
	set_done(&set);
}

static void fill(struct set *set)
{
	struct ip_net own = messages_net("10.5.1.0/32");
	struct ip peer = messages_ip("192.0.2.3"), base = messages_ip("10.5.3.0");
	struct mac mac = {{2, 0, 0, 0, 0, 1}};
	struct entry entries[] = {
		entry_addr(VXLAN, &own),
		fdb(1, "192.0.2.3"),
		entry_neigh(VXLAN, &base, &mac),
		entry_filter(VXLAN, &peer),
		route("10.5.3.0/24", VXLAN, "10.5.3.0"),
		route("10.5.4.0/24", DEVICE_UPLINK, "192.0.2.4"),
	};

	for (size_t i = 0; i < ARRAY_SIZE(entries); i++)
		set_want(set, &entries[i]);
	apply(set);
}

static void test_device_flushed(void **state)
{
	static const struct {
		bool only_routes, drift;
		size_t queued, drifted;
	} rows[] = {
		/* The peer set outlives the device, the other's route is on the uplink. */
		{false, true, 4, 4},
		{false, false, 4, 0},
		{true, true, 1, 1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct set set = {0};
		size_t queued = 0, drifted = 0;

		fill(&set);
		set_unsee_device(&set, VXLAN, rows[i].only_routes, rows[i].drift);
		for (struct item *item = set.items; item; item = item->hh.next)
			queued += item->queued;
		for (int kind = 0; kind < ENTRY_KIND_COUNT; kind++)
			drifted += set.drifted[kind];
		assert_int_equal(queued, rows[i].queued);
		assert_int_equal(drifted, rows[i].drifted);
		assert_null(set.queue[ENTRY_FILTER]);
		/* What waits for the device is queued again when it is back, once. */
		while (set.queue[ENTRY_ROUTE])
			set_unqueue(&set, set.queue[ENTRY_ROUTE]);
		set_queue_device(&set, VXLAN);
		set_queue_device(&set, VXLAN);
		assert_non_null(set.queue[ENTRY_ROUTE]);
		assert_null(set.queue[ENTRY_ROUTE]->next);
		set_done(&set);
	}
}

static void test_retry(void **state)
{
	struct entry a = route("10.5.3.0/24", VXLAN, "10.5.3.0"),
		     b = route("10.5.4.0/24", VXLAN, "10.5.4.0"), changed = a;
	struct set set = {0};

	(void)state;
	set_want(&set, &a);
	set_want(&set, &b);
	find(&set, &a)->failures = find(&set, &b)->failures = 3;
	set_wait(&set, find(&set, &a), 1000);
	set_wait(&set, find(&set, &b), 2000);
	assert_int_equal(set.n_waiting, 2);
	assert_true(set_queues_empty(&set));
	assert_int_equal(set_requeue_due(&set, 999), 1000);
	assert_true(set_queues_empty(&set));
	assert_int_equal(set_requeue_due(&set, 1000), 2000);
	assert_true(find(&set, &a)->queued);
	assert_int_equal(set.n_waiting, 1);
	/* The next failure waits longer, another wish starts anew. */
	assert_int_equal(find(&set, &a)->failures, 3);
	set_wait(&set, find(&set, &a), 3000);
	changed.value.device = DEVICE_UPLINK;
	set_want_begin(&set);
	set_want(&set, &changed);
	set_want_end(&set);
	assert_true(find(&set, &a)->queued);
	assert_int_equal(find(&set, &a)->failures, 0);
	/* The other one is gone, with its retry. */
	assert_null(find(&set, &b));
	assert_int_equal(set.n_waiting, 0);
	assert_int_equal(set_requeue_due(&set, 99999), 0);
	/* Seen as wanted meanwhile: somebody else was faster. */
	set_wait(&set, find(&set, &a), 3000);
	set_see(&set, &changed, true);
	assert_int_equal(set.n_waiting, 0);
	assert_true(set_queues_empty(&set));
	set_done(&set);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_want_and_unwant), cmocka_unit_test(test_owners),
		cmocka_unit_test(test_rounds),          cmocka_unit_test(test_seeing),
		cmocka_unit_test(test_unseen),          cmocka_unit_test(test_device_flushed),
		cmocka_unit_test(test_retry),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
