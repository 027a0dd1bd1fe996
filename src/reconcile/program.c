/* SPDX-License-Identifier: Apache-2.0 */
/* program.c - differences become kernel requests, one batch at a time
 *
 * Everything that is to be set goes before everything that is to be removed: a
 * route moves to its new device before the old device's entries go.
 */
#include "reconcile/internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <utlist.h>

#define TOKEN_OF_NOBODY (UINT32_MAX - 1) /* above every item's: its failure is dropped */
#define RACES_MAX       3 /* a device that goes this often under our hands is a failure */

static struct route to_route(const struct reconciler *r, const struct item *item,
			     const struct entry_value *value)
{
	struct route route = {
		.dst = item->key.net,
		.metric = item->key.metric,
		.type = value->type,
		.protocol = value->protocol,
	};

	if (value->device != DEVICE_NONE) {
		route.n_nexthops = 1;
		route.nexthop[0] = (struct route_nexthop){
			.ifindex = r->device[value->device].seen.ifindex,
			.gateway = value->ip,
			.onlink = value->onlink,
		};
	}
	return route;
}

static struct neigh to_neigh(const struct reconciler *r, const struct item *item,
			     const struct entry_value *value)
{
	bool fdb = item->key.kind == ENTRY_FDB;

	return (struct neigh){
		.ifindex = r->device[item->key.device].seen.ifindex,
		.fdb = fdb,
		.permanent = true,
		.ip = fdb ? value->ip : item->key.net.ip,
		.mac = fdb ? item->key.mac : value->mac,
	};
}

static struct nlmsghdr *encode(const struct reconciler *r, const struct item *item, bool set,
			       void *buf)
{
	const struct entry_value *value = set ? &item->want : &item->seen;
	int ifindex = r->device[item->key.device].seen.ifindex;
	struct neigh neigh;
	struct route route;

	switch ((enum entry_kind)item->key.kind) {
	case ENTRY_ADDR:
		return set ? addr_put_add(buf, ifindex, &item->key.net)
			   : addr_put_delete(buf, ifindex, &item->key.net);
	case ENTRY_FDB:
	case ENTRY_NEIGH:
		neigh = to_neigh(r, item, value);
		return set ? neigh_put_replace(buf, &neigh) : neigh_put_delete(buf, &neigh);
	case ENTRY_ROUTE:
		route = to_route(r, item, value);
		if (!set)
			return route_put_delete(buf, &route);
		/* What was not seen is not to be replaced unseen: it may be the host's own. */
		return item->has_seen ? route_put_replace(buf, &route) : route_put_add(buf, &route);
	case ENTRY_FILTER:
		return nft_put_element(buf, &r->device[item->key.device].filter, &item->key.net.ip,
				       set);
	case ENTRY_TUNNEL: /* see program_tunnels() */
	case ENTRY_KIND_COUNT:
		break;
	}
	return NULL;
}

static bool can_set(const struct reconciler *r, const struct item *item)
{
	if (item->key.kind == ENTRY_FILTER)
		return r->device[item->key.device].has_filter;
	return device_is_ready(r, item->key.device) && device_is_ready(r, item->want.device);
}

static bool can_delete(const struct reconciler *r, const struct item *item)
{
	if (item->key.kind == ENTRY_FILTER)
		return r->device[item->key.device].has_filter;
	return item->key.device == DEVICE_NONE || r->device[item->key.device].has_seen;
}

static void add_inflight(struct reconciler *r, struct item *item)
{
	if (r->n_inflight == r->cap_inflight) {
		r->cap_inflight = r->cap_inflight ? 2 * r->cap_inflight : 256;
		r->inflight = mem_realloc(r->inflight, r->cap_inflight, sizeof(*r->inflight));
		r->codes = mem_realloc(r->codes, r->cap_inflight, sizeof(*r->codes));
	}
	r->codes[r->n_inflight] = 0;
	r->inflight[r->n_inflight++] = item;
}

/* A connected route of the host: replacing it would take the host off its network, and
 * nothing would bring it back. */
static bool is_connected(const struct item *item)
{
	return item->key.kind == ENTRY_ROUTE && item->refs && item->has_seen &&
	       item->seen.protocol == RTPROT_KERNEL;
}

static void refuse_connected(struct reconciler *r, struct item *item)
{
	int64_t delay = reconciler_backoff_ms(UINT8_MAX);
	char net[IP_NET_STRLEN], what[ENTRY_STRLEN];

	(void)snprintf(what, sizeof(what), "Routing subnet %s", ip_net_format(&item->key.net, net));
	if (item->failures != UINT8_MAX)
		reconciler_log_failure(r, what, "it is a network that this host is connected to",
				       delay);
	(void)snprintf(r->failure, sizeof(r->failure),
		       "route %s: it is a network that this host is connected to", net);
	item->failures = UINT8_MAX; /* it was said */
	set_wait(&r->set, item, delay + loop_now_ms());
}

/* The gateway of an IPv6 route of ours lies in the destination itself, and the kernel
 * looks it up: ip6_route_check_nh_onlink() refuses what leads to another device, so that
 * the old route goes first, in the same batch. */
static bool must_go_first(const struct item *item)
{
	return item->key.kind == ENTRY_ROUTE && item->key.net.ip.family == IP_V6 &&
	       item->want.onlink && item->has_seen &&
	       (item->seen.device != item->want.device || item->seen.foreign);
}

static void commit_removal(struct reconciler *r, struct item *item)
{
	void *room = netlink_batch_room(r->batch);

	if (room) /* its failure is of no interest: the route that follows tells */
		netlink_batch_commit(r->batch, encode(r, item, false, room), TOKEN_OF_NOBODY);
	item->has_seen = false;
}

/* Moves items of one queue into the batch, either those to set or those to
 * delete. False when the batch is full. */
static bool collect(struct reconciler *r, enum entry_kind kind, enum diff_action wanted_action)
{
	struct item *item, *tmp;

	DL_FOREACH_SAFE (r->set.queue[kind], item, tmp) {
		enum diff_action action = diff_item(item, r->may_remove);
		bool possible = action == DIFF_SET ? can_set(r, item) : can_delete(r, item);
		void *room;

		if (action == DIFF_FORGET) {
			set_unsee(&r->set, item);
			continue;
		}
		if (action == DIFF_NONE || (action == wanted_action && !possible)) {
			set_unqueue(&r->set, item); /* its device's return queues it again */
			continue;
		}
		if (action != wanted_action)
			continue;
		if (is_connected(item)) {
			refuse_connected(r, item);
			continue;
		}
		if (action == DIFF_SET && must_go_first(item))
			commit_removal(r, item);
		room = netlink_batch_room(r->batch);
		if (!room)
			return false;
		netlink_batch_commit(r->batch, encode(r, item, action == DIFF_SET, room),
				     (uint32_t)r->n_inflight);
		set_unqueue(&r->set, item);
		add_inflight(r, item);
	}
	return true;
}

static void on_failure(uint32_t token, int error, const char *text, void *userdata)
{
	struct reconciler *r = userdata;

	if (token >= r->n_inflight)
		return;
	r->codes[token] = error;
	if (*text)
		log_debug(2, "kernel: %s", text);
}

/* Deleting what is gone is success. */
static bool is_gone_already(const struct item *item, int code)
{
	return !item->refs &&
	       (code == -ENOENT || code == -ESRCH || code == -ENODEV || code == -EADDRNOTAVAIL);
}

static const char *explain(const struct item *item, int code)
{
	if (item->key.kind == ENTRY_ROUTE && code == -ENETUNREACH && !item->want.onlink)
		return "the gateway is not on the uplink's own L2 network";
	return strerror(-code);
}

/* Somebody put an IPv4 route in front of ours: fib_table_insert() replaces the first
 * one of a destination and metric only, and calls ours a duplicate. */
static void clear_the_way(struct reconciler *r, const struct item *item)
{
	char buf[NETLINK_MESSAGE_MAX] = {0};
	struct route front = to_route(r, item, &item->seen);

	if (item->has_seen && item->seen.protocol != RTPROT_KERNEL &&
	    !entry_value_equal(&item->want, &item->seen))
		(void)netlink_request(r->nl, route_put_delete(buf, &front), NULL, NULL, NULL);
	r->need_dump = true;
}

/* Whether the failure is that of a kernel which has changed under our hands, so that
 * another look helps; three times in a row it is a failure like others. */
static bool is_raced(struct reconciler *r, struct item *item, int code)
{
	bool in_front = code == -EEXIST && item->refs && item->key.kind == ENTRY_ROUTE;

	if ((code != -ENODEV && !in_front) || item->failures >= RACES_MAX)
		return false;
	item->failures++;
	r->raced = true;
	r->device[item->key.device].stale |= code == -ENODEV;
	r->device[item->want.device].stale |= code == -ENODEV;
	if (in_front)
		clear_the_way(r, item);
	return true;
}

static void failed(struct reconciler *r, struct item *item, int code)
{
	int64_t delay = reconciler_backoff_ms(item->failures);
	struct entry entry = {.key = item->key, .value = item->refs ? item->want : item->seen};
	char text[ENTRY_STRLEN], what[ENTRY_STRLEN + 16];

	/* Rolled back for another's fault, or to be looked at again. */
	if (code == -EAGAIN || is_raced(r, item, code)) {
		set_wait(&r->set, item, loop_now_ms() + reconciler_backoff_ms(0));
		return;
	}
	entry_format(&entry, (const char(*)[IFNAMSIZ])r->names, text);
	(void)snprintf(what, sizeof(what), "%s %s", item->refs ? "Setting" : "Removing", text);
	/* The first failure is often a device on its way; only the second is news. */
	if (item->failures == 1 || item->failures == RACES_MAX)
		reconciler_log_failure(r, what, explain(item, code), delay);
	if (item->failures >= 1)
		(void)snprintf(r->failure, sizeof(r->failure), "%s: %s", text, explain(item, code));
	if (item->failures < UINT8_MAX)
		item->failures++;
	set_wait(&r->set, item, loop_now_ms() + delay);
}

static void finish(struct reconciler *r, bool unknown)
{
	for (size_t i = 0; i < r->n_inflight; i++) {
		struct item *item = r->inflight[i];

		if (unknown)
			set_wait(&r->set, item, loop_now_ms() + reconciler_backoff_ms(1));
		else if (!r->codes[i] || is_gone_already(item, r->codes[i]))
			set_applied(&r->set, item);
		else
			failed(r, item, r->codes[i]);
	}
	r->n_inflight = 0;
}

/* A transaction that failed applied nothing: what failed by itself is dealt with, the
 * rest goes again. */
static void roll_back(struct reconciler *r)
{
	bool any = false;

	for (size_t i = 0; i < r->n_inflight; i++)
		any |= r->codes[i] != 0;
	for (size_t i = 0; i < r->n_inflight && any; i++)
		if (!r->codes[i])
			r->codes[i] = -EAGAIN;
}

static void send_batch(struct reconciler *r, struct netlink *nl, bool transaction)
{
	struct err err;
	int code = netlink_batch_send(nl, r->batch, on_failure, r, &err);

	if (code) {
		log_warning("Programming the kernel failed: %s; listing it anew", err.text);
		r->need_dump = true;
	} else if (transaction) {
		roll_back(r);
	}
	finish(r, code != 0);
}

bool program_filter_batch(struct reconciler *r)
{
	bool all;

	if (!r->nft || !r->set.queue[ENTRY_FILTER])
		return false;
	netlink_batch_commit_frame(r->batch, nft_put_begin(netlink_batch_frame_room(r->batch)));
	all = collect(r, ENTRY_FILTER, DIFF_SET) && collect(r, ENTRY_FILTER, DIFF_DELETE);
	if (!r->n_inflight) {
		netlink_batch_reset(r->batch);
		return false;
	}
	netlink_batch_commit_frame(r->batch, nft_put_end(netlink_batch_frame_room(r->batch)));
	send_batch(r, r->nft, true);
	return !all;
}

/* Nobody but the owner has these: what is wanted is there once it is told. */
void program_tunnels(struct reconciler *r)
{
	struct item *item, *tmp;

	if (!r->set.queue[ENTRY_TUNNEL])
		return;
	DL_FOREACH_SAFE (r->set.queue[ENTRY_TUNNEL], item, tmp)
		set_applied(&r->set, item);
	r->events.tunnel_changed(r->events.userdata);
}

static bool is_in_batch(int kind)
{
	return kind != ENTRY_FILTER && kind != ENTRY_TUNNEL;
}

bool program_batch(struct reconciler *r)
{
	bool all = true;

	for (int kind = 0; kind < ENTRY_KIND_COUNT && all; kind++)
		if (is_in_batch(kind))
			all = collect(r, (enum entry_kind)kind, DIFF_SET);
	for (int kind = ENTRY_KIND_COUNT - 1; kind >= 0 && all; kind--)
		if (is_in_batch(kind))
			all = collect(r, (enum entry_kind)kind, DIFF_DELETE);
	if (!r->n_inflight)
		return false;
	send_batch(r, r->nl, false);
	return !all;
}
