/* SPDX-License-Identifier: Apache-2.0 */
/* entry.h - kernel entries as values: what the reconciler compares
 *
 * An entry is a key, by which the kernel knows it, and a value. Devices are named
 * by a small number (a slot of the reconciler), not by ifindex: when a device is
 * created anew, what is wanted on it does not change.
 */
#pragma once

#include "kernel/addr.h"
#include "kernel/neigh.h"
#include "kernel/route.h"
#include "net/ip.h"
#include "net/mac.h"

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

/* In the order in which entries are set; they are removed in the reverse order. */
enum entry_kind {
	ENTRY_ADDR,   /* address on one of our devices */
	ENTRY_FDB,    /* VTEP MAC -> remote public IP */
	ENTRY_NEIGH,  /* subnet base -> VTEP MAC */
	ENTRY_FILTER, /* public IP in the peer set of a device */
	ENTRY_TUNNEL, /* subnet -> public IP in a data path of ours: not in the kernel */
	ENTRY_ROUTE,  /* subnet -> gateway, device */
	ENTRY_KIND_COUNT,
};

/* Slot numbers of devices. */
#define DEVICE_NONE   0 /* routes without a nexthop; a device that is not ours */
#define DEVICE_UPLINK 1
#define DEVICE_MAX    8 /* two generations of backends with two devices each fit well */

struct entry_key {
	uint8_t kind;   /* enum entry_kind */
	uint8_t device; /* slot; DEVICE_NONE for routes: they are known by destination */
	union {
		struct ip_net net; /* address, route destination, tunnel: a peer's subnet;
				      neighbour, filter: a host */
		struct mac mac;    /* FDB */
	};
	uint32_t metric; /* routes */
};

/* Unused members are zero. */
struct entry_value {
	uint8_t type;     /* routes: RTN_UNICAST, RTN_BLACKHOLE */
	uint8_t protocol; /* routes: RTPROT_* */
	uint8_t device;   /* routes: slot */
	bool onlink;      /* routes */
	bool foreign;     /* seen only: a shape that we never want (multipath, not permanent,
			     another device), so it equals nothing */
	struct ip ip;     /* routes: gateway; FDB, tunnel: remote */
	struct mac mac;   /* neighbours */
};

struct entry {
	struct entry_key key;
	struct entry_value value;
};

/* Wanted entries. */
struct entry entry_addr(uint8_t device, const struct ip_net *net);
struct entry entry_neigh(uint8_t device, const struct ip *ip, const struct mac *mac);
struct entry entry_fdb(uint8_t device, const struct mac *mac, const struct ip *remote);
struct entry entry_filter(uint8_t device, const struct ip *peer);
struct entry entry_tunnel(uint8_t device, const struct ip_net *subnet, const struct ip *remote);
/* @gateway unset: directly attached. */
struct entry entry_route(uint8_t device, const struct ip_net *dst, const struct ip *gateway,
			 bool onlink);
struct entry entry_blackhole(const struct ip_net *dst, uint32_t metric);

/* Seen entries. @device is the slot of the ifindex, DEVICE_NONE for a foreign one. */
struct entry entry_from_addr(const struct addr *addr, uint8_t device);
struct entry entry_from_neigh(const struct neigh *neigh, uint8_t device);
struct entry entry_from_route(const struct route *route, uint8_t device);

bool entry_value_equal(const struct entry_value *a, const struct entry_value *b);

/* The kind in the field's words ("route", "FDB entry"), singular or plural. */
const char *entry_kind_name(enum entry_kind kind, bool plural);
#define ENTRY_STRLEN 192
/* For people: "route 10.5.3.0/24 via 10.5.3.0 dev flannel.1 onlink". @names are the
 * slots' device names. Returns @buf. */
const char *entry_format(const struct entry *entry, const char names[DEVICE_MAX][IFNAMSIZ],
			 char buf[ENTRY_STRLEN]);
