/* SPDX-License-Identifier: Apache-2.0 */
/* observe.c - what the kernel says, by dump or notification, becomes SEEN
 *
 * The monitor is open before the first dump, so whatever happens during a dump
 * is also in the queue behind it. A notification that is older than the dump can
 * make us believe a stale thing for a moment, but the notification of the newest
 * state follows it in the same queue, which is read to its end before we act.
 */
#include "reconcile/internal.h"

#include "base/log.h"
#include "kernel/sysctl.h"

#include <errno.h>
#include <linux/rtnetlink.h>

static void see(struct reconciler *r, const struct entry *entry, bool ours, bool is_gone)
{
	struct item *item;

	if (!is_gone) {
		set_see(&r->set, entry, ours);
		return;
	}
	item = set_find(&r->set, &entry->key);
	/* A route beside ours, of the same destination, may have gone. */
	if (item && item->has_seen &&
	    (entry->key.kind != ENTRY_ROUTE || entry_value_equal(&item->seen, &entry->value) ||
	     item->seen.foreign))
		set_unsee(&r->set, item);
}

static void on_link(struct reconciler *r, const struct nlmsghdr *msg)
{
	struct link link;

	if (link_parse(msg, &link))
		return;
	device_on_link(r, &link, msg->nlmsg_type == RTM_DELLINK);
	/* Pods' devices come and go without end: only those that may be the uplink count. */
	if (r->device[DEVICE_UPLINK].stale || !r->device[DEVICE_UPLINK].has_seen)
		r->events.world_changed(r->events.userdata);
}

static void on_addr(struct reconciler *r, const struct nlmsghdr *msg)
{
	bool is_gone = msg->nlmsg_type == RTM_DELADDR;
	struct entry entry;
	struct addr addr;
	uint8_t slot;

	if (addr_parse(msg, &addr))
		return;
	slot = device_by_ifindex(r, addr.ifindex);
	/* With a device's last IPv4 address its routes go, without a word:
	 * fib_disable_ip(). */
	if (is_gone && slot != DEVICE_NONE && addr.net.ip.family == IP_V4)
		r->need_dump = true;
	if (slot > DEVICE_UPLINK && !ip_is_link_local(&addr.net.ip)) {
		entry = entry_from_addr(&addr, slot);
		see(r, &entry, r->device[slot].wanted, is_gone);
	} else if (slot == DEVICE_UPLINK || !r->device[DEVICE_UPLINK].has_seen) {
		r->events.world_changed(r->events.userdata);
	}
}

static void on_route(struct reconciler *r, const struct nlmsghdr *msg)
{
	struct entry entry;
	struct route route;
	struct item *item;

	if (route_parse(msg, &route) || route.table != RT_TABLE_MAIN)
		return;
	if (!route.dst.len) {
		r->events.world_changed(r->events.userdata);
		return;
	}
	entry = entry_from_route(
		&route, device_by_ifindex(r, route.n_nexthops ? route.nexthop[0].ifindex : 0));
	/* Of routes with one destination and metric the first counts: a later one of a
	 * dump, and in IPv4 an appended one, changes nothing. */
	item = set_find(&r->set, &entry.key);
	if (item && item->has_seen &&
	    ((msg->nlmsg_flags & NLM_F_MULTI)
		     ? item->seen_round == r->set.seen_round
		     : route.dst.ip.family == IP_V4 && (msg->nlmsg_flags & NLM_F_APPEND)))
		return;
	see(r, &entry, diff_route_is_ours(&r->claims, &entry), msg->nlmsg_type == RTM_DELROUTE);
}

static void on_neigh(struct reconciler *r, const struct nlmsghdr *msg)
{
	struct entry entry;
	struct neigh neigh;
	uint8_t slot;

	if (neigh_parse(msg, &neigh))
		return;
	slot = device_by_ifindex(r, neigh.ifindex);
	if (slot <= DEVICE_UPLINK)
		return;
	entry = entry_from_neigh(&neigh, slot);
	/* What the kernel learns by itself (multicast neighbours, learned FDB entries)
	 * is not permanent and stays, unless it stands where ours belongs. */
	see(r, &entry, neigh.permanent && r->device[slot].wanted, msg->nlmsg_type == RTM_DELNEIGH);
}

void observe_message(const struct nlmsghdr *msg, void *reconciler)
{
	struct reconciler *r = reconciler;

	switch (msg->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK:
		on_link(r, msg);
		break;
	case RTM_NEWADDR:
	case RTM_DELADDR:
		on_addr(r, msg);
		break;
	case RTM_NEWROUTE:
	case RTM_DELROUTE:
		on_route(r, msg);
		break;
	case RTM_NEWNEIGH:
	case RTM_DELNEIGH:
		on_neigh(r, msg);
		break;
	case RTM_NEWNETCONF:
		if (sysctl_is_host_wide(msg))
			r->events.world_changed(r->events.userdata);
		break;
	}
}

struct seen_elements {
	struct reconciler *r;
	uint8_t slot;
	bool gone;
};

static void on_element(const struct ip *ip, void *userdata)
{
	const struct seen_elements *seen = userdata;
	struct entry entry = entry_filter(seen->slot, ip);

	see(seen->r, &entry, true, seen->gone);
}

/* The set is gone: nothing of it is in the kernel any more. */
static void filter_gone(struct reconciler *r, uint8_t slot)
{
	r->device[slot].has_filter = false;
	set_unsee_kind(&r->set, ENTRY_FILTER, slot); /* perhaps within a dump's round */
}

void observe_nft_message(const struct nlmsghdr *msg, void *reconciler)
{
	struct reconciler *r = reconciler;

	for (uint8_t slot = DEVICE_UPLINK + 1; slot < DEVICE_MAX; slot++) {
		struct device *d = &r->device[slot];
		struct seen_elements seen = {r, slot, nft_is_removal(msg)};

		if (!d->has_filter)
			continue;
		switch (nft_parse(msg, &d->filter, on_element, &seen)) {
		case NFT_TABLE_REMOVED:
			filter_gone(r, slot);
			r->events.filter_changed(r->events.userdata);
			break;
		case NFT_TABLE_CHANGED:
			r->events.filter_changed(r->events.userdata);
			break;
		case NFT_ELEMENT_ADDED:
		case NFT_ELEMENT_REMOVED:
		case NFT_OTHER:
			break;
		}
	}
}

static int dump_filter(struct reconciler *r, uint8_t slot, struct err *err)
{
	char buf[NETLINK_MESSAGE_MAX] = {0};
	int code = netlink_dump(r->nft, nft_put_dump(buf, &r->device[slot].filter),
				observe_nft_message, r, err);

	if (code != -ENOENT)
		return code ? err_wrap(err, code, "listing the peer set") : 0;
	filter_gone(r, slot);
	r->events.filter_changed(r->events.userdata);
	return 0;
}

static int dump(struct reconciler *r, struct nlmsghdr *msg, const char *what, struct err *err)
{
	int code = netlink_dump(r->nl, msg, observe_message, r, err);

	return code ? err_wrap(err, code, "listing %s", what) : 0;
}

static int dump_device(struct reconciler *r, uint8_t slot, struct err *err)
{
	int ifindex = r->device[slot].seen.ifindex, code;

	IP_FOREACH_FAMILY (f) {
		char buf[NETLINK_MESSAGE_MAX] = {0};

		code = dump(r, neigh_put_dump(buf, ifindex, false, f), "neighbours", err);
		if (code)
			return code;
	}
	char buf[NETLINK_MESSAGE_MAX] = {0};
	return dump(r, neigh_put_dump(buf, ifindex, true, IP_NONE), "FDB entries", err);
}

int observe_dump(struct reconciler *r, struct err *err)
{
	char buf[NETLINK_MESSAGE_MAX] = {0};
	int code;

	device_refresh_all(r);
	set_see_begin(&r->set);
	code = dump(r, addr_put_dump(buf, IP_NONE), "addresses", err);
	for (enum ip_family f = IP_V4; f < IP_FAMILY_COUNT && !code; f++) {
		memset(buf, 0, sizeof(buf));
		code = dump(r, route_put_dump(buf, f), "routes", err);
		/* A host without any route of a family may lack the table, too. */
		if (code == -ENOENT)
			code = 0;
	}
	for (uint8_t slot = DEVICE_UPLINK + 1; slot < DEVICE_MAX && !code; slot++)
		if (r->device[slot].has_seen)
			code = dump_device(r, slot, err);
	for (uint8_t slot = DEVICE_UPLINK + 1; slot < DEVICE_MAX && !code; slot++)
		if (r->device[slot].has_filter)
			code = dump_filter(r, slot, err);
	if (code)
		return code;
	set_see_end(&r->set, ENTRY_ADDR, DEVICE_NONE);
	set_see_end(&r->set, ENTRY_FDB, DEVICE_NONE);
	set_see_end(&r->set, ENTRY_NEIGH, DEVICE_NONE);
	set_see_end(&r->set, ENTRY_ROUTE, DEVICE_NONE);
	set_see_end(&r->set, ENTRY_FILTER, DEVICE_NONE);
	return 0;
}
