/* SPDX-License-Identifier: Apache-2.0 */
/* rules.c - keeps the masquerade and forward rules in force, in nftables or iptables
 *
 * Theory of operation. For each family one home is chosen: a table of our own in
 * nftables, or the chains FLANNEL-* of the host's iptables. First the home is put
 * right, then what is ours elsewhere is cleared: there is never a moment without
 * rules, and for one moment they are there twice, which decides the same.
 *
 * A packet must pass every filter of a host, so an `accept` at home is not enough:
 * where iptables-legacy filters beside nftables, and in chains of others in nftables
 * (nft_foreign.h), the forward decisions are repeated.
 *
 * nftables tells of every change, and look() puts right what was touched. iptables is
 * compared from time to time by its tools (iptables.h): once in each resync period;
 * where iptables works on nftables, only after a notification that concerns us, and
 * once a minute. Whoever undoes our repairs again and again slows them down.
 */
#include "rules/rules.h"

#include "base/log.h"
#include "base/mem.h"
#include "io/child.h"
#include "kernel/nft_event.h"
#include "rules/iptables.h"
#include "rules/nft_foreign.h"
#include "rules/nft_table.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdio.h>
#include <string.h>

#define SETTLE_MS        5     /* our own transactions are notified, too */
#define FAILED_RETRY_MS  5000  /* nftables has refused something */
#define FULL_CHECK_MS    60000 /* of what is watched anyway */
#define IPTABLES_PACE_MS 1000  /* between two checks that notifications ask for */
#define FIGHT_WINDOW_MS  10000
#define FIGHT_REPAIRS    10 /* so many in a window: somebody else wants it otherwise */
#define FIGHT_PACE_MS    1000

enum default_variant { DEFAULT_UNKNOWN, DEFAULT_IS_NFT, DEFAULT_IS_LEGACY };

/* Our rules in one variant and family of iptables. */
struct keeper {
	struct rules *rules;
	enum ip_family family;
	enum iptables_variant variant;
	struct iptables *ipt; /* NULL: not used */
	bool wants;           /* something, not nothing */
	bool done;            /* a check of what is wanted has ended */
	char problem[ERR_TEXT_MAX];
	int64_t checked_ms; /* begin of the last check */
};

struct home {
	char *listing; /* our table as nft lists it; NULL: none */
	bool has_table;
	char problem[ERR_TEXT_MAX];
	bool cleared; /* elsewhere */
	struct keeper keeper, legacy;
};

struct rules {
	struct loop *loop;
	int64_t resync_ms;
	struct rules_events events;
	bool has_want;
	struct policy policy;
	bool nftables;
	struct home home[IP_FAMILY_COUNT];
	bool foreign[NFT_FOREIGN_COUNT]; /* our rules are there */
	enum default_variant default_variant;
	struct child *asking; /* for it */

	struct netlink *monitor;
	struct event *monitor_event;
	struct event *look_timer;
	struct event *resync_timer;
	/* What notifications have touched since the last look. */
	bool touched_table[IP_FAMILY_COUNT], touched_iptables[IP_FAMILY_COUNT];
	bool touched_foreign[NFT_FOREIGN_COUNT], touched_hooks;
	bool touched;     /* any of these in the transaction that is being read */
	char culprit[64]; /* who made the last transaction that touched us */

	int64_t full_check_ms; /* the last one */
	int64_t fight_ms;      /* begin of the window */
	unsigned repairs;      /* in it */
	size_t removed;        /* places that ours were removed from */
	bool told;             /* state() was called */
	char state[ERR_TEXT_MAX], notice[ERR_TEXT_MAX];
	char refused[ERR_TEXT_MAX];  /* a chain of others that cannot be changed; "": none */
	char blockers[ERR_TEXT_MAX]; /* chains that drop and are not ours to change */
};

/* ---- what is wanted ---- */

static bool wants_rules(const struct rules *r, enum ip_family f)
{
	return ip_net_is_set(&r->policy.network[f]) && (r->policy.masquerade || r->policy.forward);
}

static bool by_iptables(const struct rules *r, enum ip_family f)
{
	return !r->nftables && wants_rules(r, f);
}

static bool any_by_iptables(const struct rules *r)
{
	return by_iptables(r, IP_V4) || by_iptables(r, IP_V6);
}

/* The home of @f is as wanted. */
static bool is_home(const struct rules *r, enum ip_family f)
{
	const struct home *h = &r->home[f];

	return by_iptables(r, f) ? h->keeper.done && !*h->keeper.problem : !*h->problem;
}

/* ---- what is told ---- */

/* Tells the state, once everything has been tried. */
static void tell(struct rules *r)
{
	const char *problem = "";

	IP_FOREACH_FAMILY (f) {
		const struct home *h = &r->home[f];

		if (by_iptables(r, f) && !h->keeper.done)
			return;
		if (!*problem)
			problem = by_iptables(r, f) ? h->keeper.problem : h->problem;
	}
	if (r->told && !strcmp(r->state, problem))
		return;
	r->told = true;
	(void)snprintf(r->state, sizeof(r->state), "%s", problem);
	r->events.state(*problem ? r->state : NULL, r->events.userdata);
}

/* Tells what may drop packets of pods although our rules are in force. */
static void tell_notice(struct rules *r)
{
	const char *text = *r->refused ? r->refused : r->blockers;

	IP_FOREACH_FAMILY (f)
		if (!*text && r->home[f].legacy.wants)
			text = r->home[f].legacy.problem;
	if (!strcmp(r->notice, text))
		return;
	(void)snprintf(r->notice, sizeof(r->notice), "%s", text);
	r->events.notice(*text ? r->notice : NULL, r->events.userdata);
}

static bool is_fight(const struct rules *r)
{
	return r->repairs > FIGHT_REPAIRS && loop_now_ms() - r->fight_ms < FIGHT_WINDOW_MS;
}

/* One line for each repair, until they become too many. */
static void log_repair(struct rules *r, const char *what)
{
	int64_t now = loop_now_ms();

	if (now - r->fight_ms >= FIGHT_WINDOW_MS) {
		r->fight_ms = now;
		r->repairs = 0;
	}
	r->repairs++;
	if (!is_fight(r))
		log_warning("%s", what);
	else if (r->repairs == FIGHT_REPAIRS + 1)
		log_warning("%s, again and again: repairing at most once in %d ms", what,
			    FIGHT_PACE_MS);
}

static void log_removal(struct rules *r, const char *what, const char *where)
{
	r->removed++;
	log_info("Removed %s %s", what, where);
}

/* ---- nftables: our own tables ---- */

static void install_table(struct rules *r, enum ip_family f)
{
	struct home *h = &r->home[f];
	struct err err;

	free(h->listing);
	h->listing = NULL;
	h->has_table = !nft_table_install(&r->policy, f, &h->listing, &err);
	(void)snprintf(h->problem, sizeof(h->problem), "%s", h->has_table ? "" : err.text);
	if (!h->has_table)
		loop_timer_set_sooner(r->look_timer, FAILED_RETRY_MS);
}

static void look_at_table(struct rules *r, enum ip_family f)
{
	struct home *h = &r->home[f];
	char text[160];

	if (!wants_rules(r, f)) {
		*h->problem = '\0'; /* nothing of ours: clear_elsewhere() sees to that */
		return;
	}
	if (!h->has_table) {
		install_table(r, f);
		if (h->has_table)
			log_info("Rules are in force: nftables table %s", nft_table_name(f));
	} else if (r->touched_table[f] && !nft_table_is_intact(f, h->listing)) {
		(void)snprintf(text, sizeof(text), "Restored nftables table %s, changed by %s",
			       nft_table_name(f), r->culprit);
		install_table(r, f);
		log_repair(r, text);
	}
}

static void drop_table(struct rules *r, enum ip_family f)
{
	struct home *h = &r->home[f];
	bool removed = false;
	struct err err;

	free(h->listing);
	h->listing = NULL;
	h->has_table = false;
	if (nft_table_remove(f, &removed, &err))
		log_debug(1, "Removing nftables table %s: %s", nft_table_name(f), err.text);
	else if (removed)
		log_removal(r, "nftables table", nft_table_name(f));
}

/* ---- nftables: chains of others ---- */

/* Whether our rules belong into @which; false in *@ret_ours: iptables sees to it. */
static bool belongs_into(const struct rules *r, enum nft_foreign_chain which, bool *ret_ours)
{
	enum ip_family f = which == NFT_FOREIGN_IP6TABLES ? IP_V6 : IP_V4;

	*ret_ours = which == NFT_FOREIGN_FIREWALLD || !by_iptables(r, f) ||
		    r->default_variant == DEFAULT_IS_LEGACY;
	return r->policy.forward &&
	       (which == NFT_FOREIGN_FIREWALLD ? wants_rules(r, IP_V4) || wants_rules(r, IP_V6)
					       : wants_rules(r, f));
}

static void log_foreign(struct rules *r, enum nft_foreign_chain which, bool wanted)
{
	char text[192];

	if (!wanted) {
		log_removal(r, "our rules from nftables chain", nft_foreign_name(which));
		return;
	}
	if (!r->foreign[which]) {
		log_info("Accepting forwarded packets of pods in nftables chain %s, too",
			 nft_foreign_name(which));
		return;
	}
	(void)snprintf(text, sizeof(text), "Restored our rules in nftables chain %s, changed by %s",
		       nft_foreign_name(which), r->culprit);
	log_repair(r, text);
}

static void look_at_foreign(struct rules *r, enum nft_foreign_chain which)
{
	bool ours, wanted = belongs_into(r, which, &ours), changed = false, touched;
	struct err err;

	touched = r->touched_foreign[which];
	r->touched_foreign[which] = false;
	if (!touched || !ours)
		return;
	if (!nft_foreign_ensure(which, wanted ? &r->policy : NULL, &changed, &err)) {
		if (changed)
			log_foreign(r, which, wanted);
		r->foreign[which] = wanted && (changed || r->foreign[which]);
	} else if (wanted) {
		(void)snprintf(r->refused, sizeof(r->refused),
			       "nftables chain %s may drop packets of pods, and refuses our rules: "
			       "%.300s",
			       nft_foreign_name(which), err.text);
	}
}

static void look_at_all_foreign(struct rules *r)
{
	bool touched = false;

	for (int i = 0; i < NFT_FOREIGN_COUNT; i++)
		touched |= r->touched_foreign[i];
	if (touched)
		*r->refused = '\0';
	for (int i = 0; i < NFT_FOREIGN_COUNT; i++)
		look_at_foreign(r, (enum nft_foreign_chain)i);
}

/* Chains that an administrator lets drop what they do not accept are named. */
static void look_at_hooks(struct rules *r)
{
	char chains[200];

	if (!r->touched_hooks)
		return;
	r->touched_hooks = false;
	*r->blockers = '\0';
	if (r->policy.forward && nft_foreign_blockers(chains, sizeof(chains)))
		(void)snprintf(r->blockers, sizeof(r->blockers),
			       "nftables drops forwarded packets by policy in %s: its owner must "
			       "accept those of pods there",
			       chains);
}

/* ---- iptables ---- */

static void on_checked(enum iptables_outcome outcome, const char *text, void *userdata)
{
	struct keeper *k = userdata;
	struct rules *r = k->rules;
	const char *tool = k->variant == IPTABLES_LEGACY ? "iptables-legacy" : "iptables";
	const char *family = ip_family_name(k->family);
	char line[ERR_TEXT_MAX];

	switch (outcome) {
	case IPTABLES_APPLIED:
		if (k->wants)
			log_info("Rules are in force: %s, %s", tool, family);
		else
			log_removal(r, "our rules from iptables,", family);
		break;
	case IPTABLES_REPAIRED:
		(void)snprintf(line, sizeof(line), "Restored our rules in %s, %s: %.300s", tool,
			       family, text);
		log_repair(r, line);
		break;
	case IPTABLES_FAILED:
		log_debug(1, "%s, %s: %s", tool, family, text);
		break;
	case IPTABLES_INTACT:
		break;
	}
	k->done = true;
	(void)snprintf(k->problem, sizeof(k->problem), "%.400s",
		       outcome == IPTABLES_FAILED ? text : "");
	loop_timer_set(r->look_timer, 0);
}

static void start_keeper(struct rules *r, struct keeper *k, const struct policy *policy)
{
	k->wants = policy != NULL;
	k->done = false;
	k->checked_ms = loop_now_ms();
	if (!k->ipt)
		k->ipt = iptables_new(r->loop, k->variant, k->family, on_checked, k);
	iptables_want(k->ipt, policy);
}

static void stop_keeper(struct keeper *k)
{
	iptables_free(k->ipt);
	k->ipt = NULL;
	k->done = k->wants = false;
	*k->problem = '\0';
}

static void check_keeper(struct keeper *k)
{
	if (!k->ipt)
		return;
	k->checked_ms = loop_now_ms();
	iptables_check(k->ipt);
}

/* Notifications ask for a check: not more than one in a while. */
static void look_at_iptables(struct rules *r, enum ip_family f)
{
	struct keeper *k = &r->home[f].keeper;
	int64_t wait_ms;

	if (!k->ipt || r->default_variant == DEFAULT_IS_LEGACY)
		r->touched_iptables[f] = false;
	if (!r->touched_iptables[f] || r->default_variant == DEFAULT_UNKNOWN)
		return;
	wait_ms = k->checked_ms + IPTABLES_PACE_MS - loop_now_ms();
	if (wait_ms > 0) {
		loop_timer_set_sooner(r->look_timer, wait_ms);
		return;
	}
	r->touched_iptables[f] = false;
	check_keeper(k);
}

static void on_version(enum iptables_outcome outcome, const char *text, void *userdata)
{
	struct rules *r = userdata;

	child_free(r->asking);
	r->asking = NULL;
	/* Before 1.8 there was only one kind, and no word about it. */
	r->default_variant = outcome == IPTABLES_INTACT && strstr(text, "nf_tables")
				     ? DEFAULT_IS_NFT
				     : DEFAULT_IS_LEGACY;
	loop_timer_set(r->look_timer, 0);
}

static void ask_version(struct rules *r)
{
	if (r->asking || r->default_variant != DEFAULT_UNKNOWN || !any_by_iptables(r))
		return;
	if (iptables_ask_version(r->loop, on_version, r, &r->asking, NULL))
		r->default_variant = DEFAULT_IS_LEGACY;
}

/* iptables-legacy filters beside nftables: forwarded packets must be accepted in both. */
static void look_at_legacy(struct rules *r, enum ip_family f)
{
	struct keeper *k = &r->home[f].legacy;
	struct policy forward = r->policy;

	if (k->ipt || !iptables_legacy_in_use(f))
		return;
	forward.masquerade = false;
	start_keeper(r, k, wants_rules(r, f) && r->policy.forward ? &forward : NULL);
}

/* ---- one home a family, and nothing elsewhere ---- */

static void clear_elsewhere(struct rules *r, enum ip_family f)
{
	struct home *h = &r->home[f];
	bool changed = false;
	struct err err;

	if (h->cleared)
		return;
	h->cleared = true;
	if (by_iptables(r, f) || !wants_rules(r, f))
		drop_table(r, f);
	if (by_iptables(r, f) && r->default_variant == DEFAULT_IS_NFT)
		return;
	if (nft_foreign_sweep(f, &changed, &err))
		log_debug(1, "Clearing iptables rules in nftables, %s: %s", ip_family_name(f),
			  err.text);
	else if (changed)
		log_removal(r, "our rules from iptables,", ip_family_name(f));
}

static void look_elsewhere(struct rules *r)
{
	look_at_all_foreign(r);
	look_at_hooks(r);
	IP_FOREACH_FAMILY (f) {
		if (!is_home(r, f))
			continue;
		if (!by_iptables(r, f))
			stop_keeper(&r->home[f].keeper);
		clear_elsewhere(r, f);
		if (!by_iptables(r, f) || r->default_variant == DEFAULT_IS_NFT)
			look_at_legacy(r, f);
	}
}

static void look(void *userdata)
{
	struct rules *r = userdata;

	if (!r->has_want)
		return;
	ask_version(r);
	IP_FOREACH_FAMILY (f) {
		if (by_iptables(r, f))
			look_at_iptables(r, f);
		else
			look_at_table(r, f);
		r->touched_table[f] = false;
	}
	/* Before the variant is known nobody can say what is "elsewhere". */
	if (!any_by_iptables(r) || r->default_variant != DEFAULT_UNKNOWN)
		look_elsewhere(r);
	tell(r);
	tell_notice(r);
}

/* ---- notifications ---- */

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

static void on_message(const struct nlmsghdr *msg, void *userdata)
{
	struct rules *r = userdata;
	struct nft_change change;
	enum ip_family f;

	if (nft_change_parse(msg, &change))
		return;
	if (change.kind == NFT_EVENT_GENERATION) {
		if (r->touched)
			(void)snprintf(r->culprit, sizeof(r->culprit), "%s (pid %u)",
				       *change.process ? change.process : "another process",
				       change.pid);
		r->touched = false;
		return;
	}
	f = family_of(&change);
	if (f != IP_NONE && !strcmp(change.table, strchr(nft_table_name(f), ' ') + 1))
		r->touched_table[f] = r->touched = true;
	else if (f != IP_NONE)
		touch_iptables(r, f, &change);
	else if (change.family == NFPROTO_INET && is_about(&change, "firewalld", "filter_FORWARD"))
		r->touched_foreign[NFT_FOREIGN_FIREWALLD] = r->touched = true;
	if (change.kind == NFT_EVENT_CHAIN &&
	    (change.is_base ? change.hook == NF_INET_FORWARD : change.removed && *r->blockers))
		r->touched_hooks = true;
}

static void touch_all(struct rules *r)
{
	IP_FOREACH_FAMILY (f)
		r->touched_table[f] = r->touched_iptables[f] = true;
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

static void on_monitor(void *userdata)
{
	struct rules *r = userdata;

	if (netlink_monitor_drain(r->monitor, on_message, r)) {
		log_debug(1, "Notifications of nftables were lost: comparing all rules");
		(void)snprintf(r->culprit, sizeof(r->culprit), "another process");
		touch_all(r);
	}
	if (is_touched(r))
		loop_timer_set_sooner(r->look_timer, is_fight(r) ? FIGHT_PACE_MS : SETTLE_MS);
}

static void open_monitor(struct rules *r)
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

/* ---- life ---- */

static void on_resync(void *userdata)
{
	struct rules *r = userdata;
	int64_t now = loop_now_ms();
	bool full = now - r->full_check_ms >= FULL_CHECK_MS;

	loop_timer_set(r->resync_timer, r->resync_ms);
	if (full) {
		r->full_check_ms = now;
		touch_all(r);
	}
	IP_FOREACH_FAMILY (f) {
		struct home *h = &r->home[f];

		if (full || r->default_variant != DEFAULT_IS_NFT || *h->keeper.problem)
			check_keeper(&h->keeper);
		if (h->legacy.wants || *h->legacy.problem)
			check_keeper(&h->legacy);
	}
	look(r);
}

struct rules *rules_new(struct loop *loop, int resync_s, const struct rules_events *events)
{
	struct rules *r = mem_alloc(1, sizeof(*r));

	r->loop = loop;
	r->resync_ms = (int64_t)resync_s * 1000;
	r->events = *events;
	r->look_timer = loop_timer_new(loop, look, r);
	r->resync_timer = loop_timer_new(loop, on_resync, r);
	IP_FOREACH_FAMILY (f) {
		struct keeper keeper = {.rules = r, .family = f, .variant = IPTABLES_DEFAULT};

		r->home[f].keeper = keeper;
		keeper.variant = IPTABLES_LEGACY;
		r->home[f].legacy = keeper;
	}
	(void)snprintf(r->culprit, sizeof(r->culprit), "another process");
	return r;
}

void rules_free(struct rules *r)
{
	if (!r)
		return;
	IP_FOREACH_FAMILY (f) {
		stop_keeper(&r->home[f].keeper);
		stop_keeper(&r->home[f].legacy);
		free(r->home[f].listing);
	}
	child_free(r->asking);
	loop_event_free(r->monitor_event);
	netlink_close(r->monitor);
	loop_event_free(r->look_timer);
	loop_event_free(r->resync_timer);
	free(r);
}

void rules_want(struct rules *r, const struct policy *policy, bool nftables)
{
	if (r->has_want && r->nftables == nftables && policy_equal(&r->policy, policy))
		return;
	open_monitor(r);
	r->has_want = true;
	r->policy = *policy;
	r->nftables = nftables;
	r->full_check_ms = loop_now_ms();
	IP_FOREACH_FAMILY (f) {
		struct home *h = &r->home[f];

		h->has_table = h->cleared = false;
		stop_keeper(&h->legacy); /* look() begins it again */
		if (by_iptables(r, f))
			start_keeper(r, &h->keeper, policy);
	}
	touch_all(r);
	loop_timer_set(r->resync_timer, r->resync_ms);
	look(r);
}

void rules_check(struct rules *r)
{
	if (!r->has_want)
		return;
	touch_all(r);
	IP_FOREACH_FAMILY (f) {
		check_keeper(&r->home[f].keeper);
		check_keeper(&r->home[f].legacy);
	}
	loop_timer_set(r->look_timer, 0);
}

size_t rules_n_removed(const struct rules *r)
{
	return r->removed;
}

bool rules_is_idle(const struct rules *r)
{
	if (!r->told)
		return false;
	IP_FOREACH_FAMILY (f)
		if ((r->home[f].keeper.ipt && iptables_is_busy(r->home[f].keeper.ipt)) ||
		    (r->home[f].legacy.ipt && iptables_is_busy(r->home[f].legacy.ipt)))
			return false;
	return true;
}
