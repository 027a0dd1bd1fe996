/* SPDX-License-Identifier: Apache-2.0 */
/* rules_internal.h - the insides of the keeper of rules, shared by rules.c (home, life),
 * rules_elsewhere.c (everything that is not home) and rules_watch.c (notifications)
 */
#pragma once

#include "base/err.h"
#include "kernel/netlink.h"
#include "rules/iptables.h"
#include "rules/nft_foreign.h"
#include "rules/rules.h"

#include <stdint.h>
#include <sys/types.h>

/* Between two repairs, when somebody undoes them again and again. */
#define RULES_FIGHT_PACE_MS 1000
/* nftables has refused something. */
#define RULES_FAILED_RETRY_MS 5000

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
	bool cleared;                /* elsewhere, since everything was touched */
	bool taken_over;             /* from an old flannel */
	char leftover[ERR_TEXT_MAX]; /* what could not be cleared; "": nothing */
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
	struct iptables_version *asking; /* for it */
	ino_t iptables_file;             /* what `iptables-restore` was then; 0: nothing */

	struct netlink *monitor;
	struct event *monitor_event;
	struct event *look_timer;
	struct event *resync_timer;
	/* What notifications have touched since the last look, and chains of others that
	 * have refused our rules. */
	bool touched_table[IP_FAMILY_COUNT], touched_iptables[IP_FAMILY_COUNT];
	bool touched_foreign[NFT_FOREIGN_COUNT], touched_hooks;
	bool touched; /* any of these in the transaction that is being read */
	bool lost;    /* something was removed, or is of our own table */
	bool look_is_urgent;
	int64_t added_ms; /* since when only additions are waited for; 0: none */
	char culprit[64]; /* who made the last transaction that touched us */

	int64_t full_check_ms; /* the last one */
	int64_t fight_ms;      /* begin of the window */
	unsigned repairs;      /* in it */
	size_t removed;        /* places that ours were removed from */
	bool told;             /* state() was called */
	bool ended;            /* a check of iptables has, and was not looked at yet */
	char state[ERR_TEXT_MAX], notice[ERR_TEXT_MAX];
	char refused[ERR_TEXT_MAX];  /* a chain of others that cannot be changed; "": none */
	char droppers[200];          /* chains that drop by policy and are not ours to change */
	char blockers[ERR_TEXT_MAX]; /* of those that do not accept what is of pods; in words */
};

/* rules.c */
bool rules_wants(const struct rules *r, enum ip_family f);
/* The home of @f is iptables (else nftables, or nothing is wanted). */
bool rules_by_iptables(const struct rules *r, enum ip_family f);
bool rules_any_by_iptables(const struct rules *r);
void rules_start_keeper(struct rules *r, struct keeper *k, const struct policy *policy);
void rules_stop_keeper(struct keeper *k);
/* One line for each repair, until they become too many. */
void rules_log_repair(struct rules *r, const char *what);
bool rules_is_fight(const struct rules *r);
void rules_log_removal(struct rules *r, const char *what, const char *where);
/* The home of @f is as wanted. */
bool rules_is_home(const struct rules *r, enum ip_family f);

/* rules_elsewhere.c */
/* The forward decisions in filters of others, and nothing else of ours but at home. */
void rules_look_elsewhere(struct rules *r);

/* rules_watch.c */
void rules_open_monitor(struct rules *r);
/* Everything may have been changed. */
void rules_touch_all(struct rules *r);
