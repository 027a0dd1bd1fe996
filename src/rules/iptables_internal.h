/* SPDX-License-Identifier: Apache-2.0 */
/* iptables_internal.h - what iptables_view.c and iptables_repair.c share */
#pragma once

#include "rules/iptables_text.h"

#define IPTABLES_LINE_MAX 1024 /* a rule of ours is nowhere near */

/* The two tables that we have something in. */
enum iptables_table {
	IPTABLES_NAT,
	IPTABLES_FILTER,
	IPTABLES_TABLE_COUNT,
};

struct iptables_names {
	const char *table, *base, *chain, *comment;
};
extern const struct iptables_names iptables_names[IPTABLES_TABLE_COUNT];

/* Rules as iptables-save prints them: "-A FLANNEL-FWD -s 10.5.0.0/16 ...". */
struct iptables_lines {
	size_t n;
	char line[POLICY_DECISIONS_MAX][256];
};

/* Our chain as @policy (NULL: nothing) wants it. */
void iptables_render_chain(const struct policy *policy, enum ip_family family,
			   enum iptables_table table, struct iptables_lines *ret_lines);
/* The rules that flannel before v0.12 had in the base chain for the same purpose; none if
 * @policy has no such purpose, in this table or elsewhere. */
void iptables_render_old(const struct policy *policy, enum ip_family family,
			 enum iptables_table table, struct iptables_lines *ret_lines);
/* What follows "-A POSTROUTING " or "-I POSTROUTING 1 ": our jump. */
void iptables_render_jump(enum iptables_table table, char *buf, size_t size);

/* A rule outside of our chain that is ours, or might be. */
enum iptables_kept_kind {
	IPTABLES_KEPT_JUMP,      /* to our chain */
	IPTABLES_KEPT_COMMENTED, /* in the base chain, with one of our comments */
	IPTABLES_KEPT_PLAIN,     /* in the base chain, without a comment: of old flannel? */
	IPTABLES_KEPT_KIND_COUNT,
};
struct iptables_kept {
	enum iptables_kept_kind kind;
	size_t index; /* in the base chain, from 1; 0: in another chain */
	char *line;
};

struct iptables_part {
	bool has_chain;
	size_t n_rules; /* in our chain */
	char **rule;    /* the first of them */
	size_t n_kept, n_of_kind[IPTABLES_KEPT_KIND_COUNT];
	struct iptables_kept *kept;
	size_t n_base;   /* rules in the base chain */
	size_t foreign;  /* index of the first that must not stand before our jump; 0: none */
	bool unreadable; /* iptables-save does not say what it holds */
};

struct iptables_view {
	enum ip_family family;
	int table; /* that is being fed; -1: none of ours */
	struct iptables_part part[IPTABLES_TABLE_COUNT];
};

/* One table compared with what is wanted. */
struct iptables_finding {
	struct iptables_lines want, old;
	bool chain_right, base_right;
	size_t place, last; /* of our jump among the rules of others, from 1: the best, and the
			     * last that will do */
};
void iptables_compare(const struct iptables_view *view, const struct policy *policy,
		      const struct iptables_view *learned, enum iptables_table table,
		      struct iptables_finding *ret_finding);
/* Whether it has to go, or (the jump) to be the one that stays. */
bool iptables_is_ours(const struct iptables_kept *kept, const struct iptables_finding *finding);
