/* SPDX-License-Identifier: Apache-2.0 */
/* policy.h - what is masqueraded and what is accepted: decided here, once
 *
 * The decisions are data; nft_table.c and iptables_text.c write them down in the words
 * of their tools and add nothing. Pure. COMPAT.md section 7; the order of decisions
 * is that of flannel's pkg/trafficmngr.
 */
#pragma once

#include "net/ip.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define POLICY_KEEP_MAX      32
#define POLICY_DECISIONS_MAX (POLICY_KEEP_MAX + 8)

/* The comments of our rules, by which people (and we) know them. */
#define POLICY_MASQUERADE_COMMENT "flanneld masq"
#define POLICY_FORWARD_COMMENT    "flanneld forward"

/* What this host asks for. All zero: nothing. */
struct policy {
	struct ip_net network[IP_FAMILY_COUNT]; /* cluster network C; unset: family is off */
	struct ip_net subnet[IP_FAMILY_COUNT];  /* this host's pods, P, inside C */
	bool masquerade;
	bool masquerade_elsewhere; /* not in these rules: but an old flannel's go from here */
	bool fully_random;         /* masquerade with fully random source ports */
	bool forward;
	struct ip_net keep[POLICY_KEEP_MAX]; /* pods keep their address towards these */
	size_t n_keep;                       /* of both families */
};

enum policy_verdict {
	POLICY_RETURN, /* not ours: the rules of others decide */
	POLICY_MASQUERADE,
	POLICY_MASQUERADE_RANDOM, /* with fully random source ports */
	POLICY_ACCEPT,
	POLICY_VERDICT_COUNT,
};

struct policy_side {
	struct ip_net net; /* unset: any */
	bool except;       /* whatever is not in `net` */
};

/* All that is given must match. */
struct policy_decision {
	uint32_t mark;      /* these bits are set in the packet's mark; 0: any mark */
	bool leaves_as_own; /* the source is an address of the interface it leaves by */
	struct policy_side source, destination;
	enum policy_verdict verdict;
};

/* The decisions of @family in their order, into @ret_decision; how many (0: none, the
 * family is off or this is not asked for). */
size_t policy_masquerade(const struct policy *policy, enum ip_family family,
			 struct policy_decision ret_decision[POLICY_DECISIONS_MAX]);
size_t policy_forward(const struct policy *policy, enum ip_family family,
		      struct policy_decision ret_decision[POLICY_DECISIONS_MAX]);
/* What flannel before v0.12 masqueraded by, in rules that bear no comment: only the
 * addresses tell them. Also when we masquerade elsewhere. (v0.11, network/iptables.go; MASQUERADE
 * stands for both kinds.) Its forward decisions were those of today. */
size_t policy_old_masquerade(const struct policy *policy, enum ip_family family,
			     struct policy_decision ret_decision[POLICY_DECISIONS_MAX]);

bool policy_equal(const struct policy *a, const struct policy *b);

/* Whether a jump to @chain may stand before ours where forwarded packets are filtered:
 * chains in which somebody decides about pods on purpose (an admin's DOCKER-USER,
 * kube-proxy's, network policies, Docker's isolation of its networks). Everything else that drops
 * comes behind us. */
bool policy_stands_before(const char *chain);
