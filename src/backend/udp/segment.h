/* SPDX-License-Identifier: Apache-2.0 */
/* segment.h - from what the tun device gives to single packets
 *
 * With IFF_VNET_HDR the kernel hands over TCP (and, since 6.2, UDP) packets of up to 64 KB
 * with the work of segmentation and checksums left to us (linux/virtio_net.h). Each
 * segment gets the bytes that the kernel's own segmentation would have given it
 * (tcp_gso_segment(), __udp_gso_segment(), inet_gso_segment()); the TTL of all is already
 * that of after the hop.
 */
#pragma once

#include <linux/virtio_net.h>
#include <stddef.h>
#include <stdint.h>

/* One packet on its way out. */
struct segment {
	const uint8_t *pkt;   /* the super-packet; borrowed */
	size_t header_len;    /* that each segment repeats */
	size_t payload_len;   /* of all */
	size_t size;          /* payload bytes of each segment but the last */
	size_t at;            /* payload bytes done */
	unsigned n;           /* segments done */
	uint16_t csum_offset; /* of the transport checksum within the packet; 0: nothing to do */
	uint16_t csum_start;
	uint8_t protocol;               /* IPPROTO_TCP, IPPROTO_UDP; 0: not segmented */
	uint16_t id;                    /* IPv4 identification of the first, host order */
	uint32_t seq;                   /* TCP */
	uint8_t flags;                  /* TCP: of the whole */
	uint64_t ip_sum, transport_sum; /* of what is the same in all headers */
};

/* Looks at what was read. 0; -EINVAL: header and packet do not agree (no kernel does
 * that), drop it. @pkt has passed packet_hop(). */
int segment_init(struct segment *seg, const struct virtio_net_hdr *vnet, const uint8_t *pkt,
		 size_t len);
/* Length of the next one; 0: all are done. */
size_t segment_len(const struct segment *seg);
/* Writes the next one at @out, which has room for segment_len() bytes. */
void segment_next(struct segment *seg, uint8_t *out);
