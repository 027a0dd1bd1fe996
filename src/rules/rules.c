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
#include "rules/rules_internal.h"

#include "base/log.h"
#include "base/mem.h"
#include "io/child.h"
#include "rules/nft_table.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FULL_CHECK_MS    60000 /* of what is watched anyway */
#define IPTABLES_PACE_MS 1000  /* between two checks that notifications ask for */
#define FIGHT_WINDOW_MS  10000
#define FIGHT_REPAIRS    10 /* so many in a window: somebody else wants it otherwise */

/* ---- what is wanted ---- */

bool rules_wants(const struct rules *r, enum ip_family f)
{
	return ip_net_is_set(&r->policy.network[f]) && (r->policy.masquerade || r->policy.forward);
}

bool rules_by_iptables(const struct rules *r, enum ip_family f)
{
	return !r->nftables && rules_wants(r, f);
}

bool rules_any_by_iptables(const struct rules *r)
{
	return rules_by_iptables(r, IP_V4) || rules_by_iptables(r, IP_V6);
}

bool rules_is_home(const struct rules *r, enum ip_family f)
{
	const struct home *h = &r->home[f];

	return rules_by_iptables(r, f) ? h->keeper.done && !*h->keeper.problem : !*h->problem;
}

/* ---- what is told ---- */

/* Tells the state, once everything has been tried. */
static void tell(struct rules *r)
{
	char text[ERR_TEXT_MAX];
	const char *problem = "";

	IP_FOREACH_FAMILY (f) {
		const struct home *h = &r->home[f];

		if (rules_by_iptables(r, f) && !h->keeper.done)
			return;
		if (!*problem)
			problem = rules_by_iptables(r, f) ? h->keeper.problem
				  : rules_wants(r, f)     ? h->problem
							  : h->leftover;
		/* Nothing is wanted, and nobody can say what iptables-legacy has. */
		if (!*problem && !rules_wants(r, f) && *h->legacy.problem) {
			(void)snprintf(text, sizeof(text),
				       "iptables-legacy may still have some of ours: %.400s",
				       h->legacy.problem);
			problem = text;
		}
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
	char legacy[ERR_TEXT_MAX];

	IP_FOREACH_FAMILY (f) {
		if (*text || !r->home[f].legacy.wants || !*r->home[f].legacy.problem)
			continue;
		(void)snprintf(legacy, sizeof(legacy),
			       "iptables-legacy, beside nftables, may drop packets of pods: %.400s",
			       r->home[f].legacy.problem);
		text = legacy;
	}
	if (!strcmp(r->notice, text))
		return;
	(void)snprintf(r->notice, sizeof(r->notice), "%s", text);
	r->events.notice(*text ? r->notice : NULL, r->events.userdata);
}

bool rules_is_fight(const struct rules *r)
{
	return r->repairs > FIGHT_REPAIRS && loop_now_ms() - r->fight_ms < FIGHT_WINDOW_MS;
}

/* One line for each repair, until they become too many. */
void rules_log_repair(struct rules *r, const char *what)
{
	int64_t now = loop_now_ms();

	if (now - r->fight_ms >= FIGHT_WINDOW_MS) {
		r->fight_ms = now;
		r->repairs = 0;
	}
	r->repairs++;
	if (!rules_is_fight(r))
		log_warning("%s", what);
	else if (r->repairs == FIGHT_REPAIRS + 1)
		log_warning("%s, again and again: repairing at most once in %d ms", what,
			    RULES_FIGHT_PACE_MS);
}

void rules_log_removal(struct rules *r, const char *what, const char *where)
{
	r->removed++;
	log_info("Removed %s %s", what, where);
}

static const char *name_rules(bool masquerade, bool forward)
{
	return masquerade && forward ? "Masquerade and forward"
	       : masquerade          ? "Masquerade"
				     : "Forward";
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
		loop_timer_set_sooner(r->look_timer, RULES_FAILED_RETRY_MS);
}

static void look_at_table(struct rules *r, enum ip_family f)
{
	struct home *h = &r->home[f];
	char text[160];

	if (!rules_wants(r, f)) {
		*h->problem = '\0'; /* nothing of ours: clear_elsewhere() sees to that */
		return;
	}
	if (!h->has_table) {
		install_table(r, f);
		if (h->has_table)
			log_info("%s rules are in force: nftables table %s",
				 name_rules(r->policy.masquerade, r->policy.forward),
				 nft_table_name(f));
	} else if (r->touched_table[f] && !nft_table_is_intact(f, h->listing)) {
		(void)snprintf(text, sizeof(text), "Restored nftables table %s, changed by %s",
			       nft_table_name(f), r->culprit);
		install_table(r, f);
		if (h->has_table)
			rules_log_repair(r, text);
	}
}

/* ---- iptables ---- */

static const char *name_tool(const struct keeper *k)
{
	static const char *const names[] = {
		[DEFAULT_UNKNOWN] = "iptables",
		[DEFAULT_IS_NFT] = "iptables-nft",
		[DEFAULT_IS_LEGACY] = "iptables-legacy",
	};

	return k->variant == IPTABLES_LEGACY ? names[DEFAULT_IS_LEGACY]
					     : names[k->rules->default_variant];
}

/* Beside nftables only forwarding matters. */
static void log_applied(struct rules *r, const struct keeper *k)
{
	const bool home = k->variant == IPTABLES_DEFAULT;
	char where[48];

	if (k->wants) {
		log_info("%s rules are in force: %s, %s",
			 name_rules(home && r->policy.masquerade, r->policy.forward), name_tool(k),
			 ip_family_name(k->family));
		return;
	}
	(void)snprintf(where, sizeof(where), "%s, %s", name_tool(k), ip_family_name(k->family));
	rules_log_removal(r, "our rules from", where);
}

/* Not after what others add. */
static void look_now(struct rules *r)
{
	r->look_is_urgent = true;
	loop_timer_set(r->look_timer, 0);
}

static void on_checked(enum iptables_outcome outcome, const char *text, void *userdata)
{
	struct keeper *k = userdata;
	struct rules *r = k->rules;
	const char *tool = name_tool(k);
	const char *family = ip_family_name(k->family);
	char line[ERR_TEXT_MAX];

	switch (outcome) {
	case IPTABLES_WAITING:
		if (!r->told && r->events.waiting)
			r->events.waiting(text, r->events.userdata);
		return;
	case IPTABLES_APPLIED:
		log_applied(r, k);
		break;
	case IPTABLES_REPAIRED:
		(void)snprintf(line, sizeof(line), "Restored our rules in %s, %s: %.300s", tool,
			       family, text);
		rules_log_repair(r, line);
		break;
	case IPTABLES_FAILED:
		log_debug(1, "%s, %s: %s", tool, family, text);
		break;
	case IPTABLES_INTACT:
		break;
	}
	k->done = r->ended = true;
	(void)snprintf(k->problem, sizeof(k->problem), "%.400s",
		       outcome == IPTABLES_FAILED ? text : "");
	look_now(r);
}

void rules_start_keeper(struct rules *r, struct keeper *k, const struct policy *policy)
{
	k->wants = policy && (policy->masquerade || policy->forward);
	k->done = false;
	k->checked_ms = loop_now_ms();
	if (!k->ipt)
		k->ipt = iptables_new(r->loop, k->variant, k->family, on_checked, k);
	iptables_want(k->ipt, policy);
}

void rules_stop_keeper(struct keeper *k)
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

	/* A failure: it may be installed later, and is asked again. Before 1.8 there was only
	 * one kind, and no word about it. */
	if (outcome != IPTABLES_FAILED)
		r->default_variant = strstr(text, "nf_tables") ? DEFAULT_IS_NFT : DEFAULT_IS_LEGACY;
	iptables_version_free(r->asking); /* with the text */
	r->asking = NULL;
	if (outcome != IPTABLES_FAILED)
		look_now(r);
}

static void ask_version(struct rules *r)
{
	if (r->asking || r->default_variant != DEFAULT_UNKNOWN || !rules_any_by_iptables(r))
		return;
	r->asking = iptables_ask_version(r->loop, on_version, r);
}

/* ---- one home a family, and nothing elsewhere ---- */

static void look(void *userdata)
{
	struct rules *r = userdata;

	r->look_is_urgent = r->ended = false;
	r->added_ms = 0;
	if (!r->has_want)
		return;
	ask_version(r);
	IP_FOREACH_FAMILY (f) {
		if (rules_by_iptables(r, f)) {
			look_at_iptables(r, f);
		} else {
			look_at_table(r, f);
			r->touched_iptables[f] = false;
		}
		r->touched_table[f] = false;
	}
	/* Before the variant is known nobody can say what is "elsewhere". */
	if (!rules_any_by_iptables(r) || r->default_variant != DEFAULT_UNKNOWN)
		rules_look_elsewhere(r);
	tell(r);
	tell_notice(r);
}

/* ---- life ---- */

/* The file of the host's iptables-restore, behind all links; 0: there is none. */
static ino_t find_iptables(void)
{
	char path[PATH_MAX];
	struct stat st;

	if (child_find_program("iptables-restore", path, sizeof(path), NULL) || stat(path, &st))
		return 0;
	return st.st_ino;
}

/* Nothing is known to be as wanted. */
static void begin(struct rules *r)
{
	r->full_check_ms = loop_now_ms();
	r->default_variant = DEFAULT_UNKNOWN;
	iptables_version_free(TAKE_PTR(r->asking));
	r->iptables_file = find_iptables();
	IP_FOREACH_FAMILY (f) {
		struct home *h = &r->home[f];

		h->has_table = h->taken_over = false;
		rules_stop_keeper(&h->legacy); /* look() begins it again */
		if (rules_by_iptables(r, f))
			rules_start_keeper(r, &h->keeper, &r->policy);
	}
	rules_touch_all(r);
	loop_timer_set(r->resync_timer, r->resync_ms);
	look(r);
}

/* The administrator has chosen the other variant (update-alternatives), or installed one. */
static void begin_with_another_iptables(struct rules *r)
{
	log_info("The host's iptables is another program now: beginning anew with it");
	IP_FOREACH_FAMILY (f)
		rules_stop_keeper(&r->home[f].keeper);
	begin(r);
}

static void on_resync(void *userdata)
{
	struct rules *r = userdata;
	int64_t now = loop_now_ms();
	bool full = now - r->full_check_ms >= FULL_CHECK_MS;

	if (rules_any_by_iptables(r) && find_iptables() != r->iptables_file) {
		begin_with_another_iptables(r);
		return;
	}
	loop_timer_set(r->resync_timer, r->resync_ms);
	if (full) {
		r->full_check_ms = now;
		rules_touch_all(r);
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
		rules_stop_keeper(&r->home[f].keeper);
		rules_stop_keeper(&r->home[f].legacy);
		free(r->home[f].listing);
	}
	iptables_version_free(r->asking);
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
	rules_open_monitor(r);
	r->has_want = true;
	r->policy = *policy;
	r->nftables = nftables;
	begin(r);
}

void rules_check(struct rules *r)
{
	if (!r->has_want)
		return;
	rules_touch_all(r);
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
	if (!r->told || r->ended)
		return false;
	IP_FOREACH_FAMILY (f)
		if ((r->home[f].keeper.ipt && iptables_is_busy(r->home[f].keeper.ipt)) ||
		    (r->home[f].legacy.ipt && iptables_is_busy(r->home[f].legacy.ipt)))
			return false;
	return true;
}
