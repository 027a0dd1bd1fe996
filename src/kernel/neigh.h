/* SPDX-License-Identifier: Apache-2.0 */
/* neigh.h - neighbours, and forwarding entries (FDB) of vxlan devices */
#pragma once

#include "kernel/netlink.h"
#include "net/ip.h"
#include "net/mac.h"

#include <stdbool.h>

struct neigh {
	int ifindex;
	bool fdb;       /* FDB entry: ip is the remote VTEP's outer address */
	bool permanent; /* NUD_PERMANENT */
	struct ip ip;   /* unset in an FDB entry without a remote */
	struct mac mac; /* zero: unresolved */
	bool odd;       /* has more than we ever set: a port, VNI or device of its own */
};

/* From RTM_NEWNEIGH or RTM_DELNEIGH. -ENOMSG for proxies, foreign families, and what tells
 * of no FDB entry's state. */
int neigh_parse(const struct nlmsghdr *msg, struct neigh *ret_neigh);
/* Neighbours of one family, or with @fdb the FDB, of device @ifindex. */
struct nlmsghdr *neigh_put_dump(void *buf, int ifindex, bool fdb, enum ip_family family);
/* Adds or replaces a permanent entry. */
struct nlmsghdr *neigh_put_replace(void *buf, const struct neigh *neigh);
struct nlmsghdr *neigh_put_delete(void *buf, const struct neigh *neigh);
