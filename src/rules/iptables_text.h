/* SPDX-License-Identifier: Apache-2.0 */
/* iptables_text.h - what iptables-save prints, and what iptables-restore is given; pure
 *
 * A view is fed with the lines of iptables-save, keeps those that concern us, and says
 * whether they are as the policy wants them: our chains line by line, in order; exactly
 * one jump to each, that of filter FORWARD right behind those of others that
 * policy_stands_before(), that of nat POSTROUTING before or among them: Calico's felix puts
 * its own first again whenever another is (Canal is Calico's policies on flannel), and in
 * nat nothing is lost by that. If they are not, it writes the one text for
 * `iptables-restore --noflush` that makes them so: each table in one transaction.
 */
#pragma once

#include "base/err.h"
#include "rules/policy.h"

struct iptables_view;

struct iptables_view *iptables_view_new(enum ip_family family);
void iptables_view_free(struct iptables_view *view);
/* One line, without its end. Lines that are too long or make no sense are passed over. */
void iptables_view_feed(struct iptables_view *view, const char *line);

/* Whether the host has what @policy wants, in chains, jumps and their places; NULL or an
 * empty policy: nothing of ours. @learned: a view right after our own restore, whose
 * spelling of our chains counts as right, too (NULL: none). */
bool iptables_view_matches(const struct iptables_view *view, const struct policy *policy,
			   const struct iptables_view *learned);
/* Names in @buf the tables that @policy needs and iptables-save could not list ("": none):
 * iptables-nft knows not all words of nft. They match and are never repaired, since what
 * cannot be seen would be put in again and again. */
void iptables_view_unreadable(const struct iptables_view *view, const struct policy *policy,
			      char *buf, size_t size);
/* Whether anything of ours is there. */
bool iptables_view_has_ours(const struct iptables_view *view);
/* How many rules our chains have, as a check that a restore did what it said. */
size_t iptables_view_n_rules(const struct iptables_view *view);

/* The text that gets from @view to @policy (NULL: nothing of ours). Caller frees. Ours
 * are: the chains FLANNEL-POSTRTG and FLANNEL-FWD, jumps to them wherever they are,
 * rules with our comments, and the rules that flannel before v0.12 put into
 * POSTROUTING and FORWARD without a comment (only those of @policy's network). */
char *iptables_view_repair(const struct iptables_view *view, const struct policy *policy);
/* One line, in words, on what is not as @policy wants: "chain FLANNEL-FWD is missing". */
void iptables_view_explain(const struct iptables_view *view, const struct policy *policy,
			   const struct iptables_view *learned, char *buf, size_t size);
