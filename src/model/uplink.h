/* SPDX-License-Identifier: Apache-2.0 */
/* uplink.h - the NIC that carries the overlay, as a value */
#pragma once

#include "net/ip.h"

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>

#define UPLINK_ONLINK_MAX 16

struct uplink {
	int ifindex;
	char name[IFNAMSIZ];
	unsigned mtu;
	bool up;
	struct ip addr[IP_FAMILY_COUNT];      /* the NIC's own address */
	struct ip public_ip[IP_FAMILY_COUNT]; /* what peers are told */
	/* prefixes of the NIC's addresses: who is on the same L2 */
	struct ip_net onlink[UPLINK_ONLINK_MAX];
	size_t n_onlink;
};

bool uplink_equal(const struct uplink *a, const struct uplink *b);
/* Whether @ip is on the NIC's own L2: inside one of its prefixes. */
bool uplink_is_onlink(const struct uplink *uplink, const struct ip *ip);
