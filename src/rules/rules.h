/* SPDX-License-Identifier: Apache-2.0 */
/* rules.h - keeps the masquerade and forward rules in force, in nftables or iptables
 *
 * Its owner says what is wanted. What was in force before, in whichever mode and by
 * whomever (flannel, an earlier run), is removed only after what is wanted is there.
 */
#pragma once

#include "io/loop.h"
#include "rules/policy.h"

struct rules;

struct rules_events {
	/* When it is first known, and whenever it changes: all that is wanted is in force
	 * (@problem NULL), or why not. */
	void (*state)(const char *problem, void *userdata);
	/* Forwarded packets of pods may be dropped all the same, by rules that are not ours
	 * to change; NULL: no longer. */
	void (*notice)(const char *text, void *userdata);
	/* Before state(): why it takes so long. May be NULL. */
	void (*waiting)(const char *text, void *userdata);
	void *userdata;
};

/* @resync_s: how often what cannot be watched is compared. */
struct rules *rules_new(struct loop *loop, int resync_s, const struct rules_events *events);
/* What is in the kernel stays. */
void rules_free(struct rules *rules);

/* From now on @policy is wanted; @nftables: in tables of our own, else by iptables. A
 * policy that asks for nothing removes all that is ours, in both. */
void rules_want(struct rules *rules, const struct policy *policy, bool nftables);
/* Compares everything now. */
void rules_check(struct rules *rules);
/* How many places our rules were removed from since the start. */
size_t rules_n_removed(const struct rules *rules);
/* Whether all that was wanted has been tried, and nothing is under way. */
bool rules_is_idle(const struct rules *rules);
