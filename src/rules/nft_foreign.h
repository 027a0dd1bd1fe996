/* SPDX-License-Identifier: Apache-2.0 */
/* nft_foreign.h - our rules in nftables chains that belong to others
 *
 * In nftables an `accept` ends one base chain only: any other chain of the forward hook
 * can still drop the packet. So where one is known to drop forwarded packets by default
 * (iptables-nft's FORWARD: Docker, ufw, firewalld; firewalld's own table), our forward
 * decisions are put there, at the top but behind what policy_stands_before(). A chain of
 * an administrator's own is not touched: it is named.
 *
 * And what iptables-nft has of ours (FLANNEL-POSTRTG, FLANNEL-FWD, jumps to them, rules with our
 * comments or of an old flannel) is removed here when nftables mode takes over, without
 * iptables.
 */
#pragma once

#include "base/err.h"
#include "rules/policy.h"

enum nft_foreign_chain {
	NFT_FOREIGN_IPTABLES,  /* ip filter FORWARD */
	NFT_FOREIGN_IP6TABLES, /* ip6 filter FORWARD */
	NFT_FOREIGN_FIREWALLD, /* inet firewalld filter_FORWARD */
	NFT_FOREIGN_COUNT,
};

/* "ip filter FORWARD" */
const char *nft_foreign_name(enum nft_foreign_chain which);

/* From what `nft -j -a list chain` prints (@json) to the commands that make our rules in
 * it right, "" when they are. @policy NULL or without forward: ours go. Pure; caller
 * frees. -EINVAL when @json is no such thing. */
int nft_foreign_plan(enum nft_foreign_chain which, const char *json, size_t len,
		     const struct policy *policy, char **ret_commands, struct err *err);

enum nft_foreign_outcome {
	NFT_FOREIGN_ABSENT, /* there is no such chain */
	NFT_FOREIGN_INTACT,
	NFT_FOREIGN_CHANGED, /* made right */
};

/* Lists the chain and does that. */
int nft_foreign_ensure(enum nft_foreign_chain which, const struct policy *policy,
		       enum nft_foreign_outcome *ret_outcome, struct err *err);

/* From what `nft -j -a list table` prints of iptables-nft's `nat` or `filter` table to the
 * commands that remove all of ours from it, in one transaction; "" for nothing. Of rules
 * without a comment, those that flannel before v0.12 made in POSTROUTING and FORWARD for
 * what @policy wants, with its very addresses; @policy may be NULL. Pure; caller frees. */
int nft_foreign_plan_sweep(const char *json, size_t len, const struct policy *policy,
			   char **ret_commands, struct err *err);
/* Does that in both tables of @family. Rules with the forward comment in filter FORWARD
 * itself are left to nft_foreign_ensure(), also when iptables has made them. *@ret_changed is
 * set also when one of the tables refuses. */
int nft_foreign_sweep(enum ip_family family, const struct policy *policy, bool *ret_changed,
		      struct err *err);

/* The base chains of the forward hook (both families) that drop by policy and are in
 * nobody's hands but an administrator's: "inet filter forward", comma separated, into
 * @buf; whether there are any. */
bool nft_foreign_blockers(char *buf, size_t size);
/* The same from what `nft -j list chains` prints. Pure. */
bool nft_foreign_parse_blockers(const char *json, size_t len, char *buf, size_t size);
/* Whether the chain @name ("inet filter forward") has rules that accept all that @policy wants
 * forwarded, or nothing of that comes by. Only rules that name the very networks and nothing
 * else are understood. */
bool nft_foreign_accepts(const char *name, const struct policy *policy);
/* The same from what `nft -j list chain` prints. Pure. */
bool nft_foreign_parse_accepts(const char *json, size_t len, const char *name,
			       const struct policy *policy);
