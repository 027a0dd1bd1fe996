/* SPDX-License-Identifier: Apache-2.0 */
/* iptables.h - keeps the policy in force through iptables-save and iptables-restore
 *
 * One object for one variant and family. A check is one iptables-save, compared as a
 * whole; what differs is put right by one iptables-restore, seen by another save.
 * Everything happens beside the loop (io/child).
 */
#pragma once

#include "base/err.h"
#include "io/loop.h"
#include "rules/policy.h"

enum iptables_variant {
	IPTABLES_DEFAULT, /* iptables-restore, whichever that is on this host */
	IPTABLES_LEGACY,  /* iptables-legacy-restore */
	IPTABLES_NFT,     /* iptables-nft-restore */
	IPTABLES_VARIANT_COUNT,
};

struct iptables;

/* How a check ended. */
enum iptables_outcome {
	IPTABLES_INTACT,   /* as wanted, nothing was done */
	IPTABLES_APPLIED,  /* put into force, since it was wanted otherwise than before */
	IPTABLES_REPAIRED, /* somebody else had changed it; @text says what */
	IPTABLES_FAILED,   /* @text says why, and what helps */
	IPTABLES_WAITING,  /* it has not ended; @text says for what it waits so long */
};
typedef void (*iptables_fn)(enum iptables_outcome outcome, const char *text, void *userdata);

struct iptables *iptables_new(struct loop *loop, enum iptables_variant variant,
			      enum ip_family family, iptables_fn done, void *userdata);
/* A child that is running is killed. What is in the kernel stays. Also from within @done. */
void iptables_free(struct iptables *ipt);

/* From now on @policy is wanted (NULL: nothing of ours), and a check begins. @done is
 * called once for each check that has ended (and before, if it waits); several calls may be
 * answered by one. */
void iptables_want(struct iptables *ipt, const struct policy *policy);
/* Begins a check, or another one after that which is under way. */
void iptables_check(struct iptables *ipt);
bool iptables_is_busy(const struct iptables *ipt);

/* Whether legacy (not nft) tables of @family are in use on this host, by
 * /proc/net/ip_tables_names: then they filter beside nftables. No process is started. */
bool iptables_legacy_in_use(enum ip_family family);
/* Whether the host's plain `iptables-restore` works on nftables ("nf_tables" in its
 * --version). Answered by @done (not before this function returns, and once) with
 * IPTABLES_INTACT and the version's line, or IPTABLES_FAILED and why. */
struct iptables_version;
struct iptables_version *iptables_ask_version(struct loop *loop, iptables_fn done, void *userdata);
/* Also from within @done. */
void iptables_version_free(struct iptables_version *version);
