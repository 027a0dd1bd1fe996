/* SPDX-License-Identifier: Apache-2.0 */
/* diff.h - what to do about a difference: pure decisions */
#pragma once

#include "kernel/link.h"
#include "net/ip.h"
#include "reconcile/set.h"

#include <stdbool.h>
#include <stddef.h>

enum diff_action {
	DIFF_NONE,   /* as wanted, or not to be touched yet */
	DIFF_SET,    /* add or replace */
	DIFF_DELETE, /* ours and unwanted */
	DIFF_FORGET, /* unwanted and not ours */
};

/* @may_remove: the peers are known completely, so unwanted means stale. */
enum diff_action diff_item(const struct item *item, bool may_remove);

/* By what a route in the kernel is known to be ours. */
struct diff_claims {
	struct ip_net network[2 * IP_FAMILY_COUNT]; /* the cluster networks, now and before */
	size_t n;
	unsigned subnet_len[IP_FAMILY_COUNT]; /* of a lease; 0: unknown */
};

/* Whether the seen route @route is ours, or was the original flannel's: inside a
 * claimed network, and with our protocol number, or on one of our devices, or -
 * host-gw and DirectRouting of the original - of protocol boot via a gateway on
 * the uplink with the prefix length of a lease. */
bool diff_route_is_ours(const struct diff_claims *claims, const struct entry *route);

enum diff_link {
	LINK_SAME,
	LINK_CREATE,
	LINK_CHANGE,   /* MTU, queue, MAC, up, alias */
	LINK_REKIND,   /* what its kind has and a living device can change: local address, lower
			  device, learning of vxlan; everything of ipip */
	LINK_RECREATE, /* kind; VNI, port, GBP, address family of the underlay of vxlan */
};

/* Compares every attribute; writes what differs in words ("MTU 1400, not 1450")
 * into @why. @seen NULL: there is no such device. */
enum diff_link diff_link(const struct link *want, const struct link *seen, char *why, size_t size);
