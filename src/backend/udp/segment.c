/* SPDX-License-Identifier: Apache-2.0 */
/* segment.c - from what the tun device gives to single packets
 *
 * The sums of all that no segment changes are taken once. A segment adds its own length,
 * identification, sequence number and flags to them, and its payload while that is copied.
 */
#include "backend/udp/segment.h"

#include "backend/udp/checksum.h"
#include "backend/udp/headers.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>

/* The packet is one, whose checksum may have to be finished: skb_checksum_help(). */
static int init_single(struct segment *seg, const struct virtio_net_hdr *vnet)
{
	if (!(vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM))
		return 0;
	if ((size_t)vnet->csum_start + vnet->csum_offset + 2 > seg->payload_len)
		return -EINVAL;
	seg->csum_start = vnet->csum_start;
	seg->csum_offset = (uint16_t)(vnet->csum_start + vnet->csum_offset);
	return seg->csum_offset ? 0 : -EINVAL;
}

/* All headers of a super-packet are within @len; their length, or 0. The vnet header's own
 * hdr_len is a hint: it may include payload. */
static size_t headers_len(const uint8_t *pkt, size_t len, uint8_t protocol)
{
	size_t ip_len = ipv4_header_len(pkt), transport_len = UDP_HEADER;

	if (ip_len < IPV4_HEADER || pkt[IPV4_PROTOCOL] != protocol ||
	    (get16(pkt + IPV4_FRAG) & IPV4_FRAGMENT))
		return 0;
	if (protocol == IPPROTO_TCP) {
		if (len < ip_len + TCP_HEADER)
			return 0;
		transport_len = tcp_header_len(pkt + ip_len);
		if (transport_len < TCP_HEADER)
			return 0;
	}
	return ip_len + transport_len < len ? ip_len + transport_len : 0;
}

static void sum_headers(struct segment *seg)
{
	uint8_t ip[60], transport[60];
	size_t transport_len = seg->header_len - seg->csum_start;

	memcpy(ip, seg->pkt, seg->csum_start);
	put16(ip + IPV4_TOT_LEN, 0);
	put16(ip + IPV4_ID, 0);
	put16(ip + IPV4_CHECK, 0);
	seg->ip_sum = checksum_add(0, ip, seg->csum_start);

	memcpy(transport, seg->pkt + seg->csum_start, transport_len);
	put16(transport + (seg->csum_offset - seg->csum_start), 0);
	if (seg->protocol == IPPROTO_TCP) {
		put32(transport + TCP_SEQ, 0);
		transport[TCP_FLAGS] = 0;
	} else {
		put16(transport + UDP_LEN, 0);
	}
	seg->transport_sum =
		checksum_add(checksum_pseudo(ip, seg->protocol, 0), transport, transport_len);
}

static int init_super(struct segment *seg, const struct virtio_net_hdr *vnet, uint8_t protocol)
{
	uint16_t ip_len = (uint16_t)ipv4_header_len(seg->pkt);
	uint16_t offset = protocol == IPPROTO_TCP ? TCP_CHECK : UDP_CHECK;
	size_t len = seg->payload_len, header_len = headers_len(seg->pkt, len, protocol);

	if (header_len == 0 || vnet->gso_size == 0 || len > UINT16_MAX)
		return -EINVAL;
	if ((vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) &&
	    (vnet->csum_start != ip_len || vnet->csum_offset != offset))
		return -EINVAL;
	seg->header_len = header_len;
	seg->payload_len = len - header_len;
	seg->size = vnet->gso_size;
	seg->protocol = protocol;
	seg->csum_start = ip_len;
	seg->csum_offset = ip_len + offset;
	seg->id = get16(seg->pkt + IPV4_ID);
	if (protocol == IPPROTO_TCP) {
		seg->seq = get32(seg->pkt + ip_len + TCP_SEQ);
		seg->flags = seg->pkt[ip_len + TCP_FLAGS];
	}
	sum_headers(seg);
	return 0;
}

int segment_init(struct segment *seg, const struct virtio_net_hdr *vnet, const uint8_t *pkt,
		 size_t len)
{
	*seg = (struct segment){.pkt = pkt, .payload_len = len, .size = len};
	switch (vnet->gso_type) {
	case VIRTIO_NET_HDR_GSO_NONE:
		return init_single(seg, vnet);
	case VIRTIO_NET_HDR_GSO_TCPV4:
	/* That the first segment alone has CWR, is so in any case. */
	case VIRTIO_NET_HDR_GSO_TCPV4 | VIRTIO_NET_HDR_GSO_ECN:
		return init_super(seg, vnet, IPPROTO_TCP);
	case VIRTIO_NET_HDR_GSO_UDP_L4:
		return init_super(seg, vnet, IPPROTO_UDP);
	default:
		return -EINVAL;
	}
}

static size_t next_payload(const struct segment *seg)
{
	size_t left = seg->payload_len - seg->at;

	return left < seg->size ? left : seg->size;
}

size_t segment_len(const struct segment *seg)
{
	size_t payload = next_payload(seg);

	return payload ? seg->header_len + payload : 0;
}

static void copy_single(const struct segment *seg, uint8_t *out)
{
	uint64_t sum;
	uint16_t check;

	if (seg->csum_offset == 0) {
		memcpy(out, seg->pkt, seg->payload_len);
		return;
	}
	memcpy(out, seg->pkt, seg->csum_start);
	sum = checksum_copy(0, out + seg->csum_start, seg->pkt + seg->csum_start,
			    seg->payload_len - seg->csum_start);
	check = checksum_fold(sum) ^ 0xffff;
	/* 0 is "none" in UDP; the kernel writes its other form for all protocols. */
	put_sum(out + seg->csum_offset, check ? check : 0xffff);
}

static void put_ip(const struct segment *seg, uint8_t *out, size_t len)
{
	uint16_t id = (uint16_t)(seg->id + seg->n);

	put16(out + IPV4_TOT_LEN, (unsigned)len);
	put16(out + IPV4_ID, id);
	put_sum(out + IPV4_CHECK,
		(uint16_t)~checksum_fold(seg->ip_sum + htons((uint16_t)len) + htons(id)));
}

/* What differs in the transport header of this segment; the sum of it. */
static uint64_t put_transport(const struct segment *seg, uint8_t *transport, size_t len, bool last)
{
	uint32_t seq = seg->seq + (uint32_t)seg->at;
	uint8_t flags = seg->flags;

	if (seg->protocol == IPPROTO_UDP) {
		put16(transport + UDP_LEN, (unsigned)len);
		return htons((uint16_t)len);
	}
	if (seg->at)
		flags &= (uint8_t)~TCP_FLAG_CWR;
	if (!last)
		flags &= (uint8_t) ~(TCP_FLAG_FIN | TCP_FLAG_PSH);
	put32(transport + TCP_SEQ, seq);
	transport[TCP_FLAGS] = flags;
	return (uint64_t)htonl(seq) + htons(flags);
}

void segment_next(struct segment *seg, uint8_t *out)
{
	size_t payload = next_payload(seg), len = seg->header_len + payload;
	size_t transport_len = len - seg->csum_start;
	uint64_t sum;
	uint16_t check;

	if (seg->protocol == 0) {
		copy_single(seg, out);
		seg->at = seg->payload_len;
		seg->n++;
		return;
	}
	memcpy(out, seg->pkt, seg->header_len);
	put_ip(seg, out, len);
	sum = seg->transport_sum + htons((uint16_t)transport_len) +
	      put_transport(seg, out + seg->csum_start, transport_len,
			    seg->at + payload == seg->payload_len);
	sum = checksum_copy(sum, out + seg->header_len, seg->pkt + seg->header_len + seg->at,
			    payload);
	check = checksum_fold(sum) ^ 0xffff;
	if (check == 0 && seg->protocol == IPPROTO_UDP)
		check = 0xffff;
	put_sum(out + seg->csum_offset, check);
	seg->at += payload;
	seg->n++;
}
