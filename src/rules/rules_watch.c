/* SPDX-License-Identifier: Apache-2.0 */
/* rules_watch.c - what nftables tells of changes, sorted by whom it concerns */
#include "rules/rules_internal.h"

#include "base/log.h"
#include "base/mem.h"
#include "kernel/nft_event.h"
#include "rules/nft_table.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>
#include <string.h>

#define SETTLE_MS 5 /* our own transactions are notified, too */
/* Who adds rules to a chain of his own does so one by one (Docker): none of them takes ours
 * away, so that the last one is waited for. */
#define ADDED_SETTLE_MS     100
#define ADDED_SETTLE_MAX_MS 1000

static enum ip_family family_of(const struct nft_change *change)
{
	return change->family == NFPROTO_IPV4   ? IP_V4
	       : change->family == NFPROTO_IPV6 ? IP_V6
						: IP_NONE;
}

/* Whether @change is about @table as a whole, or about its chain @chain. */
static bool is_about(const struct nft_change *change, const char *table, const char *chain)
{
	return !strcmp(change->table, table) &&
	       (change->kind == NFT_EVENT_TABLE || !strcmp(change->chain, chain));
}

static void touch_iptables(struct rules *r, enum ip_family f, const struct nft_change *change)
{
	enum nft_foreign_chain foreign = f == IP_V6 ? NFT_FOREIGN_IP6TABLES : NFT_FOREIGN_IPTABLES;

	if (is_about(change, "filter", "FORWARD")) {
		r->touched_foreign[foreign] = r->touched_iptables[f] = r->touched = true;
	} else if (is_about(change, "nat", "POSTROUTING") ||
		   ((!strcmp(change->table, "nat") || !strcmp(change->table, "filter")) &&
		    !strncmp(change->chain, "FLANNEL-", strlen("FLANNEL-")))) {
		r->touched_iptables[f] = r->touched = true;
	}
}

/* A chain of others whose rules decide what is said of it. */
static bool is_of_dropper(const struct rules *r, const struct nft_change *change)
{
	const char *family = change->family == NFPROTO_IPV4   ? "ip"
			     : change->family == NFPROTO_IPV6 ? "ip6"
							      : "inet";
	char name[sizeof(r->droppers)];

	(void)snprintf(name, sizeof(name), "%s %s %s", family, change->table, change->chain);
	return strstr(r->droppers, name);
}

static void on_message(const struct nlmsghdr *msg, void *userdata)
{
	struct rules *r = userdata;
	struct nft_change change;
	enum ip_family f;

	if (nft_change_parse(msg, &change))
		return;
	if (change.kind == NFT_EVENT_GENERATION) {
		/* Our own transactions are no news, and take nobody's place. */
		if (r->touched && strcmp(change.process, program_invocation_short_name) != 0)
			(void)snprintf(r->culprit, sizeof(r->culprit), "%s (pid %u)",
				       *change.process ? change.process : "another process",
				       change.pid);
		r->touched = false;
		return;
	}
	f = family_of(&change);
	if (f != IP_NONE && !strcmp(change.table, strchr(nft_table_name(f), ' ') + 1))
		r->touched_table[f] = r->touched = r->lost = true;
	else if (f != IP_NONE)
		touch_iptables(r, f, &change);
	else if (change.family == NFPROTO_INET && is_about(&change, "firewalld", "filter_FORWARD"))
		r->touched_foreign[NFT_FOREIGN_FIREWALLD] = r->touched = true;
	if (change.kind == NFT_EVENT_CHAIN &&
	    (change.is_base ? change.hook == NF_INET_FORWARD : change.removed && *r->droppers))
		r->touched_hooks = true;
	if (change.kind == NFT_EVENT_RULE && *r->droppers && is_of_dropper(r, &change))
		r->touched_hooks = true;
	r->lost |= r->touched && change.removed;
}

void rules_touch_all(struct rules *r)
{
	IP_FOREACH_FAMILY (f) {
		r->touched_table[f] = r->touched_iptables[f] = true;
		r->home[f].cleared = false;
	}
	for (int i = 0; i < NFT_FOREIGN_COUNT; i++)
		r->touched_foreign[i] = true;
	r->touched_hooks = true;
}

static bool is_touched(const struct rules *r)
{
	bool touched = r->touched_hooks;

	IP_FOREACH_FAMILY (f)
		touched |= r->touched_table[f] || r->touched_iptables[f];
	for (int i = 0; i < NFT_FOREIGN_COUNT; i++)
		touched |= r->touched_foreign[i];
	return touched;
}

static void look_soon(struct rules *r)
{
	int64_t now = loop_now_ms();

	if (rules_is_fight(r)) {
		loop_timer_set_sooner(r->look_timer, RULES_FIGHT_PACE_MS);
		return;
	}
	if (r->lost || (r->added_ms && now - r->added_ms > ADDED_SETTLE_MAX_MS)) {
		loop_timer_set_sooner(r->look_timer, SETTLE_MS);
		r->look_is_urgent = true;
		return;
	}
	if (!r->added_ms)
		r->added_ms = now;
	if (!r->look_is_urgent)
		loop_timer_set(r->look_timer, ADDED_SETTLE_MS);
}

static void on_monitor(void *userdata)
{
	struct rules *r = userdata;

	if (netlink_monitor_drain(r->monitor, on_message, r)) {
		log_debug(1, "Notifications of nftables were lost: comparing all rules");
		(void)snprintf(r->culprit, sizeof(r->culprit), "another process");
		rules_touch_all(r);
		r->lost = true;
	}
	if (is_touched(r))
		look_soon(r);
	r->lost = false;
}

void rules_open_monitor(struct rules *r)
{
	static const int groups[] = {NFNLGRP_NFTABLES};
	struct err err;

	if (r->monitor)
		return;
	if (netlink_monitor_open(NETLINK_NETFILTER, groups, ARRAY_SIZE(groups), &r->monitor, &err))
		log_debug(1, "nftables cannot be watched: %s", err.text);
	else
		r->monitor_event = loop_fd_new(r->loop, netlink_fd(r->monitor), on_monitor, r);
}
