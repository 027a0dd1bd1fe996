/* SPDX-License-Identifier: Apache-2.0 */
/* reconciler.c - keeps the kernel as wanted
 *
 * Theory of operation. One run, from the loop: read the notifications to the end;
 * dump when something was missed; bring the devices right, since entries need
 * them; send one batch of entries; come back until nothing is left; then remove
 * devices that nobody wants and report "settled". A run is started by
 * notifications, by the owner's kick, by a retry timer, and by the backstop.
 */
#include "reconcile/internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <stdio.h>

#define BACKSTOP_MS      60000
#define RETRY_FIRST_MS   10
#define RETRY_MAX_MS     30000
#define LOG_WINDOW_MS    10000
#define LOG_WINDOW_LINES 20

int64_t reconciler_backoff_ms(unsigned failures)
{
	int64_t delay = RETRY_FIRST_MS;

	while (failures-- && delay < RETRY_MAX_MS)
		delay *= 4;
	return delay < RETRY_MAX_MS ? delay : RETRY_MAX_MS;
}

bool reconciler_may_log(struct reconciler *r)
{
	int64_t now = loop_now_ms();

	if (now - r->log_window_ms > LOG_WINDOW_MS) {
		if (r->log_hidden)
			log_warning("%u more lines about repairs and failures were not logged",
				    r->log_hidden);
		r->log_window_ms = now;
		r->log_budget = LOG_WINDOW_LINES;
		r->log_hidden = 0;
	}
	if (!r->log_budget) {
		r->log_hidden++;
		return false;
	}
	r->log_budget--;
	return true;
}

void reconciler_log_failure(struct reconciler *r, const char *what, const char *why,
			    int64_t retry_ms)
{
	if (reconciler_may_log(r))
		log_warning("%s failed: %s; retrying in %lld ms, then less often", what, why,
			    (long long)retry_ms);
}

void reconciler_note_drift(struct reconciler *r)
{
	if (!r->drift_since_ms)
		r->drift_since_ms = loop_now_ms();
}

static bool has_drift(const struct reconciler *r)
{
	for (int kind = 0; kind < ENTRY_KIND_COUNT; kind++)
		if (r->set.drifted[kind])
			return true;
	return r->drifted_devices;
}

/* One line for all that was repaired: "Repaired 1 device, 2 routes in 3 ms". */
static void report_repairs(struct reconciler *r)
{
	char text[256] = "";
	size_t n = 0, total = r->drifted_devices;

	if (r->drifted_devices)
		n = (size_t)snprintf(text, sizeof(text), " %zu device%s,", r->drifted_devices,
				     r->drifted_devices > 1 ? "s" : "");
	for (int kind = 0; kind < ENTRY_KIND_COUNT; kind++) {
		size_t count = r->set.repaired[kind];

		if (count)
			n += (size_t)snprintf(text + n, sizeof(text) - n, " %zu %s,", count,
					      entry_kind_name((enum entry_kind)kind, count > 1));
		total += count;
		r->set.drifted[kind] -= count;
		r->set.repaired[kind] = 0;
	}
	if (total) {
		text[n - 1] = '\0';
	}
	if (total && reconciler_may_log(r)) {
		log_warning("Repaired what somebody else had changed or removed:%s (in %lld ms)",
			    text, (long long)(loop_now_ms() - r->drift_since_ms));
	}
	r->repairs += total;
	r->drifted_devices = 0;
	if (!has_drift(r))
		r->drift_since_ms = 0;
}

static void read_monitor(struct reconciler *r, struct netlink *monitor,
			 netlink_message_fn on_message)
{
	int code = monitor ? netlink_monitor_drain(monitor, on_message, r) : 0;

	if (!code)
		return;
	if (code == -ENOBUFS)
		log_info("The kernel dropped notifications (%s): listing it anew", strerror(-code));
	else
		log_warning("Reading notifications failed: %s; listing the kernel anew",
			    strerror(-code));
	r->need_dump = true;
}

static void dump_if_needed(struct reconciler *r)
{
	struct err err;
	int code;

	for (int tries = 0; r->need_dump && tries < 3; tries++) {
		int64_t begin = loop_now_ms(), took;

		r->need_dump = false;
		code = observe_dump(r, &err);
		took = loop_now_ms() - begin;
		/* The backstop may take a thousandth of the time, no more. */
		loop_timer_set(r->backstop_timer,
			       took * 1000 > BACKSTOP_MS ? took * 1000 : BACKSTOP_MS);
		if (!code)
			return;
		r->need_dump = true;
		if (code != -EINTR) {
			log_warning("%s; retrying in 1 s", err.text);
			break;
		}
	}
	if (r->need_dump)
		loop_timer_set_sooner(r->retry_timer, 1000);
}

static void settle(struct reconciler *r)
{
	if (r->may_remove)
		device_remove_pass(r);
	if (!r->set.n_waiting)
		*r->failure = '\0';
	for (uint8_t slot = DEVICE_UPLINK + 1; slot < DEVICE_MAX; slot++)
		if (r->device[slot].wanted && !r->device[slot].checked)
			return;
	report_repairs(r);
	if (r->settled)
		return;
	r->settled = true;
	r->events.settled(r->events.userdata);
}

static void run(void *userdata)
{
	struct reconciler *r = userdata;
	int64_t next_retry, entry_retry;
	bool more;

	read_monitor(r, r->monitor, observe_message);
	read_monitor(r, r->nft_monitor, observe_nft_message);
	if (!r->started)
		return;
	device_refresh_stale(r);
	dump_if_needed(r);
	next_retry = set_requeue_due(&r->set, loop_now_ms());
	if (device_pass(r, &next_retry)) {
		loop_timer_set(r->run_timer, 0);
		return;
	}
	if (has_drift(r))
		reconciler_note_drift(r);
	if (!set_queues_empty(&r->set))
		r->settled = false;
	program_tunnels(r);
	/* Whom we send to may answer: the filter opens first. */
	r->raced = false;
	more = program_filter_batch(r);
	more |= program_batch(r);
	if (more || r->raced)
		loop_timer_set(r->run_timer, 0);
	else if (!r->need_dump)
		settle(r);
	/* What failed in this very batch waits, too. */
	entry_retry = set_requeue_due(&r->set, loop_now_ms());
	if (entry_retry && (!next_retry || entry_retry < next_retry))
		next_retry = entry_retry;
	if (next_retry)
		loop_timer_set_sooner(r->retry_timer, next_retry - loop_now_ms());
}

static void on_backstop(void *userdata)
{
	struct reconciler *r = userdata;

	r->need_dump = true;
	run(r);
}

static const int monitor_groups[] = {
	RTNLGRP_LINK,       RTNLGRP_NEIGH,      RTNLGRP_IPV4_IFADDR,  RTNLGRP_IPV6_IFADDR,
	RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV4_NETCONF, RTNLGRP_IPV6_NETCONF,
};

int reconciler_new(struct loop *loop, const struct reconciler_events *events,
		   struct reconciler **ret_reconciler, struct err *err)
{
	struct reconciler *r = mem_alloc(1, sizeof(*r));
	int code;

	r->loop = loop;
	r->events = *events;
	code = netlink_open(NETLINK_ROUTE, &r->nl, err);
	if (!code)
		code = netlink_monitor_open(NETLINK_ROUTE, monitor_groups,
					    ARRAY_SIZE(monitor_groups), &r->monitor, err);
	if (code) {
		reconciler_free(r);
		return code;
	}
	r->batch = netlink_batch_new();
	r->monitor_event = loop_fd_new(loop, netlink_fd(r->monitor), run, r);
	r->run_timer = loop_timer_new(loop, run, r);
	r->retry_timer = loop_timer_new(loop, run, r);
	r->backstop_timer = loop_timer_new(loop, on_backstop, r);
	r->need_dump = true;
	*ret_reconciler = r;
	return 0;
}

void reconciler_free(struct reconciler *r)
{
	if (!r)
		return;
	loop_event_free(r->monitor_event);
	loop_event_free(r->nft_event);
	netlink_close(r->nft_monitor);
	netlink_close(r->nft);
	loop_event_free(r->run_timer);
	loop_event_free(r->retry_timer);
	loop_event_free(r->backstop_timer);
	set_done(&r->set);
	netlink_batch_free(r->batch);
	netlink_close(r->monitor);
	netlink_close(r->nl);
	free(r->inflight);
	free(r->codes);
	free(r);
}

void reconciler_set_claims(struct reconciler *r, const struct diff_claims *claims)
{
	r->claims = *claims;
	reconciler_resync(r);
}

void reconciler_set_uplink(struct reconciler *r, const char *name)
{
	struct device *d = &r->device[DEVICE_UPLINK];

	if (!strcmp(d->name, name))
		return;
	/* Routes through the old NIC are no longer where they belong; a dump tells. */
	*d = (struct device){0};
	(void)snprintf(d->name, sizeof(d->name), "%s", name);
	(void)snprintf(r->names[DEVICE_UPLINK], IFNAMSIZ, "%s", name);
	for (uint8_t slot = DEVICE_UPLINK + 1; slot < DEVICE_MAX; slot++)
		r->device[slot].checked = false;
	reconciler_resync(r);
}

void reconciler_allow_removal(struct reconciler *r)
{
	if (r->may_remove)
		return;
	r->may_remove = true;
	reconciler_resync(r);
}

int reconciler_device(struct reconciler *r, const char *name)
{
	uint8_t free_slot = DEVICE_NONE;

	for (uint8_t slot = DEVICE_UPLINK + 1; slot < DEVICE_MAX; slot++) {
		if (!strcmp(r->device[slot].name, name))
			return slot;
		if (!*r->device[slot].name && !free_slot)
			free_slot = slot;
	}
	if (!free_slot)
		return -ENOSPC;
	(void)snprintf(r->device[free_slot].name, IFNAMSIZ, "%s", name);
	(void)snprintf(r->names[free_slot], IFNAMSIZ, "%s", name);
	r->device[free_slot].managed = true;
	device_refresh(r, free_slot);
	r->need_dump = true; /* what stands on a device of that name is seen from now on */
	return free_slot;
}

void reconciler_want_link(struct reconciler *r, int device, const struct link *want,
			  int tx_checksum)
{
	struct device *d = &r->device[device];

	d->want = *want;
	d->tx_checksum = tx_checksum;
	d->wanted = true;
	d->checked = d->confirmed = false;
	d->retry_ms = 0;
	r->settled = false;
	reconciler_kick(r);
}

void reconciler_unwant_link(struct reconciler *r, int device)
{
	r->device[device].wanted = false;
	r->settled = false;
	reconciler_kick(r);
}

bool reconciler_disown(struct reconciler *r, const struct link *link)
{
	int slot = reconciler_device(r, link->name);

	if (slot < 0 || r->device[slot].wanted)
		return false;
	r->device[slot].want = *link;
	reconciler_unwant_link(r, slot);
	return true;
}

const struct link *reconciler_link(const struct reconciler *r, int device)
{
	return r->device[device].has_seen ? &r->device[device].seen : NULL;
}

static int open_nft(struct reconciler *r, struct err *err)
{
	static const int groups[] = {NFNLGRP_NFTABLES};
	int code;

	if (r->nft)
		return 0;
	code = netlink_open(NETLINK_NETFILTER, &r->nft, err);
	if (!code)
		code = netlink_monitor_open(NETLINK_NETFILTER, groups, ARRAY_SIZE(groups),
					    &r->nft_monitor, err);
	if (code) {
		netlink_close(r->nft);
		r->nft = NULL;
		return code;
	}
	r->nft_event = loop_fd_new(r->loop, netlink_fd(r->nft_monitor), run, r);
	return 0;
}

void reconciler_set_filter(struct reconciler *r, int device, const struct nft_set *set)
{
	struct device *d = &r->device[device];
	struct err err;

	d->has_filter = false;
	if (!set)
		return;
	if (open_nft(r, &err)) {
		log_warning("Peer filter of %s: %s; leaving it as it is", d->name, err.text);
		return;
	}
	/* What is still to be told of a table of that name is about the one before. */
	(void)netlink_monitor_drain(r->nft_monitor, observe_nft_message, r);
	d->has_filter = true;
	d->filter = *set;
	/* What is in the set is read before anything is added or removed. */
	set_queue_device(&r->set, (uint8_t)device);
	reconciler_resync(r);
}

bool reconciler_has_filter(const struct reconciler *r, int device)
{
	return r->device[device].has_filter;
}

void reconciler_want(struct reconciler *r, const struct entry *entry)
{
	bool had_conflicts = r->set.conflicts;

	set_want(&r->set, entry);
	if (!had_conflicts && r->set.conflicts)
		r->conflict = *entry;
}

void reconciler_unwant(struct reconciler *r, const struct entry *entry)
{
	set_unwant(&r->set, &entry->key);
}

void reconciler_each_tunnel(const struct reconciler *r, int device, reconciler_tunnel_fn fn,
			    void *userdata)
{
	const struct item *item;

	for (item = r->set.items; item; item = item->hh.next)
		if (item->key.kind == ENTRY_TUNNEL && item->key.device == device && item->refs)
			fn(&item->key.net, &item->want.ip, userdata);
}

void reconciler_want_begin(struct reconciler *r)
{
	set_want_begin(&r->set);
}

void reconciler_want_end(struct reconciler *r)
{
	char text[ENTRY_STRLEN];

	set_want_end(&r->set);
	/* One that a single change makes may be gone with the next: a subnet changes hands. */
	if (r->set.conflicts && !r->conflict_logged)
		log_warning("Two leases want different things of one entry (%s): the newer one "
			    "counts",
			    entry_format(&r->conflict, (const char(*)[IFNAMSIZ])r->names, text));
	r->conflict_logged = r->set.conflicts;
}

bool reconciler_has_conflicts(const struct reconciler *r)
{
	return r->set.conflicts;
}

void reconciler_resync(struct reconciler *r)
{
	r->need_dump = true;
	r->settled = false;
	if (r->started)
		reconciler_kick(r);
}

void reconciler_kick(struct reconciler *r)
{
	r->started = true;
	loop_timer_set(r->run_timer, 0);
}

bool reconciler_is_settled(const struct reconciler *r)
{
	return r->settled && set_queues_empty(&r->set);
}

void reconciler_get_status(const struct reconciler *r, struct reconciler_status *ret_status)
{
	struct reconciler_status status = {.failing = r->set.n_waiting, .repairs = r->repairs};

	for (int kind = 0; kind < ENTRY_KIND_COUNT; kind++)
		status.wanted[kind] = r->set.wanted[kind];
	for (uint8_t slot = DEVICE_UPLINK + 1; slot < DEVICE_MAX; slot++)
		status.failing += r->device[slot].failures > 0;
	if (status.failing)
		(void)snprintf(status.failure, sizeof(status.failure), "%s", r->failure);
	*ret_status = status;
}

struct netlink *reconciler_netlink(const struct reconciler *r)
{
	return r->nl;
}
