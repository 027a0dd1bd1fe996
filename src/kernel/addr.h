/* SPDX-License-Identifier: Apache-2.0 */
/* addr.h - addresses of devices */
#pragma once

#include "kernel/netlink.h"
#include "net/ip.h"

#include <stdbool.h>

struct addr {
	int ifindex;
	struct ip_net net;   /* the address with its prefix length, host bits kept */
	unsigned char scope; /* RT_SCOPE_* */
	bool tentative;      /* IPv6 DAD is still at it */
	bool deprecated;     /* preferred lifetime over, or IPv6 DAD failed */
	bool temporary;      /* IPv6 privacy address, or a secondary IPv4 address */
};

/* From RTM_NEWADDR or RTM_DELADDR. 0 or -EINVAL. */
int addr_parse(const struct nlmsghdr *msg, struct addr *ret_addr);
/* All addresses of a family; IP_NONE: of both. */
struct nlmsghdr *addr_put_dump(void *buf, enum ip_family family);
/* The same of one device; a kernel before 4.20 answers with those of all. */
struct nlmsghdr *addr_put_dump_device(void *buf, enum ip_family family, int ifindex);
/* Adds, without duplicate address detection; existing is success. */
struct nlmsghdr *addr_put_add(void *buf, int ifindex, const struct ip_net *net);
/* Adds, with the broadcast address of an IPv4 subnet, and with duplicate address detection
 * where the device does that; -EEXIST when it is there. */
struct nlmsghdr *addr_put_add_new(void *buf, int ifindex, const struct ip_net *net);
struct nlmsghdr *addr_put_delete(void *buf, int ifindex, const struct ip_net *net);
