/* SPDX-License-Identifier: Apache-2.0 */
/* rules.h - keeps the masquerade and forward rules in force, in nftables or iptables
 *
 * Its owner says what is wanted; what was in force before, in whichever mode and by
 * whomever (flannel, an earlier run), is removed only after what is wanted is there.
 */
#pragma once

#include "io/loop.h"
#include "rules/policy.h"

#include <libmnl/libmnl.h>

struct rules;

struct rules_events {
	/* The first time, and whenever it changes: all that is wanted is in force (@problem
	 * NULL), or why not, and what happens next. */
	void (*state)(const char *problem, void *userdata);
	/* Something else that a person should know; NULL: no longer. */
	void (*notice)(const char *text, void *userdata);
	void *userdata;
};

/* @resync_s: how often what cannot be watched is compared. */
struct rules *rules_new(struct loop *loop, int resync_s, const struct rules_events *events);
/* What is in the kernel stays. */
void rules_free(struct rules *rules);

/* From now on @policy is wanted; @nftables: in tables of our own, else by iptables. */
void rules_want(struct rules *rules, const struct policy *policy, bool nftables);
/* A notification of nftables; NULL: some were lost. */
void rules_on_nft(struct rules *rules, const struct nlmsghdr *msg);
/* Compares everything now (SIGHUP). */
void rules_check(struct rules *rules);
