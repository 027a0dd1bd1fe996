/* SPDX-License-Identifier: Apache-2.0 */
/* peer_filter.h - encapsulated packets are accepted from known peers only
 *
 * Whoever can send UDP to the port of a tunnel would otherwise put packets into pods. One
 * table per device, of the outer family: a set of the peers' public IPs, which the
 * reconciler fills, and one rule that drops what comes from elsewhere, of VXLAN only what is for
 * our VNI. The set stands before the rule does, and is filled by then: no peer is cut off.
 */
#pragma once

#include "base/err.h"
#include "kernel/nft_set.h"
#include "net/ip.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct peer_filter {
	struct nft_set set;
	uint16_t port; /* UDP */
	uint32_t vni;  /* 0: it is no VXLAN, all that comes to the port counts */
};

/* The filter of tunnel device @device. */
struct peer_filter peer_filter_for(const char *device, enum ip_family family, uint16_t port,
				   uint32_t vni);

/* nft commands, pure: the table and its set (existing ones stay, with what is in
 * them); the rule, replacing what is in the chain - without the set it fails, since
 * over an empty set it would cut everybody off; and away with it all. */
void peer_filter_render_set(const struct peer_filter *filter, char *buf, size_t size);
void peer_filter_render_rule(const struct peer_filter *filter, char *buf, size_t size);
void peer_filter_render_removal(const struct peer_filter *filter, char *buf, size_t size);

/* The same, run. A set of another shape under our name is replaced. */
int peer_filter_install_set(const struct peer_filter *filter, struct err *err);
/* *@ret_listing is the table as nft lists it then, for peer_filter_is_intact(); caller
 * frees. */
int peer_filter_install_rule(const struct peer_filter *filter, char **ret_listing, struct err *err);
int peer_filter_remove(const struct peer_filter *filter, struct err *err);
/* Whether the table is still as @listing says. */
bool peer_filter_is_intact(const struct peer_filter *filter, const char *listing);
