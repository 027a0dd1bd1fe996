/* SPDX-License-Identifier: Apache-2.0 */
/* packet.h - inner IPv4 packets: what each one is asked, and what is done to each
 *
 * Bytes come from pods and from the network: nothing of them is believed, all offsets are
 * checked. Nothing here allocates or calls the kernel. Packets lie at any alignment.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PACKET_MIN 20    /* an IPv4 header without options */
#define PACKET_MAX 65507 /* that fits one UDP datagram over IPv4 (RFC 768, RFC 791) */

enum packet_fate {
	PACKET_GOOD,
	PACKET_SHORT,   /* less than an IPv4 header */
	PACKET_NOT_V4,  /* another IP version: the format has no place for it */
	PACKET_EXPIRED, /* its TTL ended here */
};

/* Decrements the TTL and patches the header's checksum (RFC 1624), as each end of the
 * tunnel does it; lengths and options are as they are, like the original. @pkt is
 * unchanged unless PACKET_GOOD. */
enum packet_fate packet_hop(uint8_t *pkt, size_t len);

/* Addresses in host order; @pkt is PACKET_GOOD. */
uint32_t packet_src(const uint8_t *pkt);
uint32_t packet_dst(const uint8_t *pkt);

#define PACKET_UNREACHABLE_MAX (20 + 8 + 60 + 8)
/* Writes the ICMP "net unreachable" (RFC 792, RFC 1812 section 4.3.2.7) that answers @pkt
 * (before packet_hop(): it is quoted as it is), from @from (host order, the tunnel device's
 * own address), and returns its length. 0: none is due: @pkt is ICMP itself, not a first fragment,
 * cut short, from or to no single host. */
size_t packet_unreachable(const uint8_t *pkt, size_t len, uint32_t from,
			  uint8_t out[PACKET_UNREACHABLE_MAX]);
