/* SPDX-License-Identifier: Apache-2.0 */
/* fou.h - FOU ports: UDP ports whose datagrams the kernel takes for IPv4 packets
 *
 * Such a port is a socket of the kernel itself, not of a process; it goes with the network
 * namespace, and has neither a name nor a mark by which it could be told whose it is. Only
 * the receiving half: who sends is an ipip device (link.h).
 */
#pragma once

#include "base/err.h"
#include "kernel/netlink.h"

#include <stdbool.h>
#include <stdint.h>

struct fou_port {
	uint16_t port;    /* host order */
	uint8_t family;   /* AF_INET */
	uint8_t protocol; /* of what is inside: IPPROTO_IPIP */
	uint8_t type;     /* FOU_ENCAP_DIRECT: no header of its own before that */
	bool narrow;      /* bound to some address or device */
};

/* Whether the kernel has FOU at all. -EOPNOTSUPP: no, the error says how to get it. */
int fou_probe(struct err *err);
/* Datagrams to UDP port @port, of any address of this host, are IPv4 packets from now on.
 * *@ret_made: they were not before. -EADDRINUSE: the error says who has the port. */
int fou_open(uint16_t port, bool *ret_made, struct err *err);
/* No longer. Not an error when they never were. */
int fou_close(uint16_t port, struct err *err);

/* Messages, pure: as in link.h. The number of family "fou" is the kernel's to choose. */
struct nlmsghdr *fou_put_get_family(void *buf);
int fou_parse_family(const struct nlmsghdr *msg, uint16_t *ret_family);
struct nlmsghdr *fou_put_dump(void *buf, uint16_t family);
struct nlmsghdr *fou_put_add(void *buf, uint16_t family, uint16_t port);
struct nlmsghdr *fou_put_delete(void *buf, uint16_t family, uint16_t port);
int fou_parse(const struct nlmsghdr *msg, struct fou_port *ret_port);
