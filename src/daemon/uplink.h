/* SPDX-License-Identifier: Apache-2.0 */
/* uplink.h - which NIC and which addresses carry the overlay
 *
 * COMPAT.md section 2, "Interface choice": each --iface (name or IP); each
 * --iface-regex (on addresses, then on names); --iface-can-reach; the interface of
 * the default route (lowest metric; every nexthop of a multipath route counts).
 * Without any of these flags, --public-ip or --public-ipv6 names the interface that
 * has it, when one has. The choice is a pure function of a snapshot of links,
 * addresses and routes.
 */
#pragma once

#include "base/err.h"
#include "kernel/addr.h"
#include "kernel/link.h"
#include "kernel/route.h"
#include "model/uplink.h"
#include "net/ip.h"

#include <stdbool.h>
#include <stddef.h>

struct options;

/* What the kernel said. Arrays are owned by the snapshot. */
struct uplink_world {
	struct link *links;
	size_t n_links;
	struct addr *addrs;
	size_t n_addrs;
	struct route *defaults; /* default routes of both families, as dumped */
	size_t n_defaults;
	int can_reach_ifindex; /* answer to the route lookup of --iface-can-reach, 0: none */
	struct ip can_reach_source;
};

/* Takes the snapshot through @nl; @can_reach unset: no route lookup. Caller calls
 * uplink_world_done(). 0 or -errno (-EINTR: it changed all the while). */
int uplink_world_read(struct netlink *nl, const struct ip *can_reach,
		      struct uplink_world *ret_world, struct err *err);
void uplink_world_done(struct uplink_world *world);

/* Chooses for the enabled families. 0; -ENODEV when every interface that was named
 * (by --iface, name or address) does not exist; -EAGAIN when it may come (no match,
 * no default route, no address yet: wait for it, the error says for what); -EINVAL
 * when it can never be (a regex that does not compile). Logs nothing. */
int uplink_choose(const struct options *options, const bool enabled[IP_FAMILY_COUNT],
		  const struct uplink_world *world, struct uplink *ret_uplink, struct err *err);
