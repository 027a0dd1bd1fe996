/* SPDX-License-Identifier: Apache-2.0 */
/* claim.h - what this host asks a store for, and which lease that should be: pure
 *
 * The order of COMPAT.md section 4: the lease whose public IP is ours; the subnet that we
 * had; a new one.
 */
#pragma once

#include "store/store.h"

#include <stdbool.h>
#include <stdint.h>

#define CLAIM_AVOID_MAX 16

/* An owned copy of a store_request. Zeroed is valid and empty. */
struct claim {
	struct netconf conf; /* ranges only; borrows nothing */
	struct lease attrs;  /* what we publish; its subnet is unset */
	struct ip_net preferred[IP_FAMILY_COUNT];
	struct ip_net avoid[CLAIM_AVOID_MAX];
	size_t n_avoid;
	int64_t renew_margin_s;
};

void claim_set(struct claim *claim, const struct store_request *request);
void claim_done(struct claim *claim);
/* The request again, borrowing from @claim. */
struct store_request claim_request(const struct claim *claim);

/* Whether @subnet has exactly the config's families, each inside its range. */
bool claim_fits(const struct netconf *conf, const struct ip_net subnet[IP_FAMILY_COUNT]);

/* The same of a subnet that was given, whatever its length. */
bool claim_holds(const struct netconf *conf, const struct ip_net subnet[IP_FAMILY_COUNT]);

/* The record in @peers that is this host's by public IP: of several a reservation, then
 * @preferred (may be unset). @conf NULL: any subnet will do. Both results borrowed from
 * @peers; NULL: none. */
const struct lease *claim_find(const struct peers *peers, const struct lease *attrs,
			       const struct netconf *conf, const struct ip_net *preferred,
			       const char **ret_key);

/* A subnet per enabled family that neither a peer's nor one of the host's own overlaps:
 * @wish (NULL: none) where it is free and fits. -ENOSPC with an error naming the network. */
int claim_choose(const struct claim *claim, const struct peers *peers, const struct ip_net *wish,
		 struct ip_net ret_subnet[IP_FAMILY_COUNT], struct err *err);

/* What we publish with @subnet. Caller calls lease_done(). */
struct lease claim_lease(const struct claim *claim, const struct ip_net subnet[IP_FAMILY_COUNT],
			 int64_t expires_s);
