/* SPDX-License-Identifier: Apache-2.0 */
/* route.h - routes of the main table */
#pragma once

#include "kernel/netlink.h"
#include "net/ip.h"

#include <stdbool.h>
#include <stdint.h>

/* Routes that Weft installed carry this protocol number (free in iproute2's
 * rt_protos); the original's carry RTPROT_BOOT. */
#define ROUTE_PROTOCOL_WEFT 87

#define ROUTE_MAX_NEXTHOPS 16

struct route_nexthop {
	int ifindex;
	struct ip gateway; /* unset: directly attached */
	bool onlink;
};

struct route {
	struct ip_net dst; /* family always set; len 0: the default route */
	uint32_t table;
	uint32_t metric;
	unsigned char type;     /* RTN_UNICAST, RTN_BLACKHOLE, ... */
	unsigned char protocol; /* RTPROT_* */
	unsigned char scope;
	struct ip source; /* preferred source; unset: none */
	bool odd;         /* has more than we ever set: metrics, an encapsulation, a nexthop id */
	unsigned n_nexthops; /* more than one: multipath */
	struct route_nexthop nexthop[ROUTE_MAX_NEXTHOPS];
};

/* From RTM_NEWROUTE or RTM_DELROUTE. -ENOMSG for cached and other clones, routes by TOS and
 * families that are not ours; nexthops beyond ROUTE_MAX_NEXTHOPS are dropped. */
int route_parse(const struct nlmsghdr *msg, struct route *ret_route);
/* All routes of table main of one family. */
struct nlmsghdr *route_put_dump(void *buf, enum ip_family family);
/* Adds @route; -EEXIST when there is one with the same destination and metric. */
struct nlmsghdr *route_put_add(void *buf, const struct route *route);
/* Adds @route with its own scope, beside one with the same destination and metric; -EEXIST
 * when that is the same. */
struct nlmsghdr *route_put_add_beside(void *buf, const struct route *route);
/* Adds @route or replaces the one with the same destination and metric. */
struct nlmsghdr *route_put_replace(void *buf, const struct route *route);
/* Deletes exactly @route: its destination, metric, protocol and nexthop. */
struct nlmsghdr *route_put_delete(void *buf, const struct route *route);
/* Asks which route reaches @ip (as `ip route get`). */
struct nlmsghdr *route_put_get(void *buf, const struct ip *ip);
