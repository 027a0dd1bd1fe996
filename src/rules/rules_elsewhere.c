/* SPDX-License-Identifier: Apache-2.0 */
/* rules_elsewhere.c - our rules in filters of others, and what is left of ours where it is not
 * home
 */
#include "rules/rules_internal.h"

#include "base/log.h"
#include "base/mem.h"
#include "rules/nft.h"
#include "rules/nft_table.h"

#include <stdio.h>
#include <string.h>

/* ---- nftables: chains of others ---- */

/* Whether our rules belong into @which; false in *@ret_ours: iptables sees to it. */
static bool belongs_into(const struct rules *r, enum nft_foreign_chain which, bool *ret_ours)
{
	enum ip_family f = which == NFT_FOREIGN_IP6TABLES ? IP_V6 : IP_V4;

	*ret_ours = which == NFT_FOREIGN_FIREWALLD || !rules_by_iptables(r, f) ||
		    r->default_variant == DEFAULT_IS_LEGACY;
	return r->policy.forward &&
	       (which == NFT_FOREIGN_FIREWALLD ? rules_wants(r, IP_V4) || rules_wants(r, IP_V6)
					       : rules_wants(r, f));
}

static void log_foreign(struct rules *r, enum nft_foreign_chain which, bool wanted)
{
	char text[192];

	if (!wanted) {
		rules_log_removal(r, "our rules from nftables chain", nft_foreign_name(which));
		return;
	}
	if (!r->foreign[which]) {
		log_info("Accepting forwarded packets of pods in nftables chain %s, too",
			 nft_foreign_name(which));
		return;
	}
	(void)snprintf(text, sizeof(text), "Restored our rules in nftables chain %s, changed by %s",
		       nft_foreign_name(which), r->culprit);
	rules_log_repair(r, text);
}

static void look_at_foreign(struct rules *r, enum nft_foreign_chain which)
{
	bool ours, wanted = belongs_into(r, which, &ours), touched;
	enum nft_foreign_outcome outcome;
	struct err err;

	touched = r->touched_foreign[which];
	r->touched_foreign[which] = false;
	if (!ours)
		r->foreign[which] = false; /* iptables has taken its place */
	if (!touched || !ours)
		return;
	if (!nft_foreign_ensure(which, wanted ? &r->policy : NULL, &outcome, &err)) {
		if (outcome == NFT_FOREIGN_CHANGED)
			log_foreign(r, which, wanted);
		r->foreign[which] = wanted && outcome != NFT_FOREIGN_ABSENT;
		return;
	}
	/* Whatever is touched next, this is tried again with it. */
	r->touched_foreign[which] = true;
	loop_timer_set_sooner(r->look_timer, RULES_FAILED_RETRY_MS);
	if (wanted)
		(void)snprintf(r->refused, sizeof(r->refused),
			       "nftables chain %s may drop packets of pods, and refuses our rules: "
			       "%.300s",
			       nft_foreign_name(which), err.text);
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

/* Chains that an administrator lets drop what they do not accept are named, unless they
 * accept what is of pods. */
static void look_at_hooks(struct rules *r)
{
	char names[sizeof(r->droppers)], chains[sizeof(r->droppers)] = "";
	char *rest, *name;
	size_t n = 0;

	if (!r->touched_hooks)
		return;
	r->touched_hooks = false;
	*r->droppers = *r->blockers = '\0';
	if (!r->policy.forward || !nft_foreign_blockers(r->droppers, sizeof(r->droppers)))
		return;
	(void)snprintf(names, sizeof(names), "%s", r->droppers);
	for (name = strtok_r(names, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
		name += *name == ' ';
		if (nft_foreign_accepts(name, &r->policy))
			continue;
		(void)snprintf(chains + n, sizeof(chains) - n, "%s%s", n ? ", " : "", name);
		n = strlen(chains);
	}
	if (n)
		(void)snprintf(r->blockers, sizeof(r->blockers),
			       "nftables drops forwarded packets by policy in %s: those of pods, "
			       "too, unless a rule there accepts them",
			       chains);
}

/* iptables-legacy filters beside nftables: forwarded packets must be accepted in both. */
static void look_at_legacy(struct rules *r, enum ip_family f)
{
	struct keeper *k = &r->home[f].legacy;
	struct policy beside = r->policy;

	if (k->ipt || !iptables_legacy_in_use(f))
		return;
	beside.masquerade = false;
	beside.masquerade_elsewhere = r->policy.masquerade;
	rules_start_keeper(r, k, rules_wants(r, f) ? &beside : NULL);
}

/* What could not be removed is told to those who want nothing else. A kernel without
 * nftables has nothing of ours. */
static void note_leftover(struct home *h, const char *what, const struct err *err)
{
	_cleanup_free_ char *tables = NULL;

	log_debug(1, "Removing %s: %s", what, err->text);
	if (!nft_list("tables", &tables, NULL))
		(void)snprintf(h->leftover, sizeof(h->leftover), "%s is still there: %.300s", what,
			       err->text);
}

static void drop_table(struct rules *r, enum ip_family f)
{
	struct home *h = &r->home[f];
	bool removed = false;
	struct err err;
	char what[64];

	free(h->listing);
	h->listing = NULL;
	h->has_table = false;
	(void)snprintf(what, sizeof(what), "nftables table %s", nft_table_name(f));
	if (nft_table_remove(f, &removed, &err))
		note_leftover(h, what, &err);
	else if (removed)
		rules_log_removal(r, "nftables table", nft_table_name(f));
}

/* Rules that bear no sign of their maker are taken for an old flannel's once, when we come. */
static void sweep(struct rules *r, enum ip_family f)
{
	struct home *h = &r->home[f];
	bool changed = false;
	struct err err;

	if (nft_foreign_sweep(f, h->taken_over ? NULL : &r->policy, &changed, &err))
		note_leftover(h, "what iptables has of our rules in nftables", &err);
	else
		h->taken_over = true;
	if (changed)
		rules_log_removal(r, "our rules from iptables-nft,", ip_family_name(f));
}

/* Whether the accept rules of iptables mode are still the only ones in FORWARD. */
static bool is_needed(const struct rules *r, enum ip_family f)
{
	enum nft_foreign_chain which = f == IP_V6 ? NFT_FOREIGN_IP6TABLES : NFT_FOREIGN_IPTABLES;
	bool ours;

	return belongs_into(r, which, &ours) && ours && r->touched_foreign[which];
}

static void clear_elsewhere(struct rules *r, enum ip_family f)
{
	struct home *h = &r->home[f];

	if (h->cleared || is_needed(r, f))
		return;
	h->cleared = true;
	*h->leftover = '\0';
	if (rules_by_iptables(r, f) || !rules_wants(r, f))
		drop_table(r, f);
	if (!rules_by_iptables(r, f) || r->default_variant != DEFAULT_IS_NFT)
		sweep(r, f);
}

void rules_look_elsewhere(struct rules *r)
{
	look_at_all_foreign(r);
	look_at_hooks(r);
	IP_FOREACH_FAMILY (f) {
		if (!rules_is_home(r, f))
			continue;
		if (!rules_by_iptables(r, f))
			rules_stop_keeper(&r->home[f].keeper);
		clear_elsewhere(r, f);
		if (!rules_by_iptables(r, f) || r->default_variant == DEFAULT_IS_NFT)
			look_at_legacy(r, f);
	}
}
