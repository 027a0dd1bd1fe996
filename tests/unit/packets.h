/* SPDX-License-Identifier: Apache-2.0 */
/* packets.h - IPv4 packets made to order, and the work of backend/udp done to them the slow
 * way: one at a time, straight from the RFCs, each checksum taken anew
 *
 * Nothing of src/ is used here, so that a mistake there cannot be made here as well.
 */
#pragma once

#include <assert.h>
#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PACKETS_LEN_MAX 65535

#define FIN 0x01
#define SYN 0x02
#define RST 0x04
#define PSH 0x08
#define ACK 0x10
#define URG 0x20
#define ECE 0x40
#define CWR 0x80

#define TCP 6
#define UDP 17

#define DF 0x4000
#define MF 0x2000

/* What a packet is made from; 0 is a usual value, where there is one. */
struct order {
	uint32_t src, dst; /* 0: 10.5.1.2, 10.5.2.3 */
	uint8_t protocol;  /* 0: TCP */
	uint8_t tos;
	uint8_t ttl; /* 0: 64 */
	uint16_t id;
	uint16_t frag;
	uint8_t ip_options;    /* bytes, a multiple of 4 */
	uint16_t sport, dport; /* 0: 1000, 2000 */
	uint32_t seq, ack;
	uint8_t flags; /* 0: ACK */
	uint16_t window;
	uint16_t urgent;
	uint8_t tcp_options; /* bytes, a multiple of 4 */
	uint8_t option_byte; /* the last of them */
	uint8_t fill;        /* where the payload's pattern begins */
	size_t payload;
};

static inline uint16_t ref_get(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static inline uint32_t ref_get32(const uint8_t *p)
{
	return (uint32_t)ref_get(p) << 16 | ref_get(p + 2);
}

static inline void ref_put(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline void ref_put32(uint8_t *p, uint32_t v)
{
	ref_put(p, v >> 16);
	ref_put(p + 2, v & 0xffff);
}

/* RFC 1071: 16 bits at a time, in network order, folded whenever there is a carry. */
static inline uint16_t ref_sum(uint16_t sum, const uint8_t *p, size_t len)
{
	uint32_t s = sum;

	for (size_t i = 0; i < len; i += 2) {
		s += (uint32_t)p[i] << 8 | (i + 1 < len ? p[i + 1] : 0);
		if (s > 0xffff)
			s -= 0xffff;
	}
	return (uint16_t)s;
}

static inline size_t ref_ip_len(const uint8_t *p)
{
	return (p[0] & 15u) * 4u;
}

static inline uint16_t ref_pseudo(const uint8_t *ip, size_t transport_len)
{
	uint8_t pseudo[12];

	memcpy(pseudo, ip + 12, 8);
	pseudo[8] = 0;
	pseudo[9] = ip[9];
	ref_put(pseudo + 10, transport_len);
	return ref_sum(0, pseudo, sizeof(pseudo));
}

static inline void ref_set_ip_check(uint8_t *ip)
{
	ref_put(ip + 10, 0);
	ref_put(ip + 10, 0xffffu - ref_sum(0, ip, ref_ip_len(ip)));
}

static inline uint8_t *ref_transport_check(uint8_t *ip)
{
	return ip + ref_ip_len(ip) + (ip[9] == TCP ? 16 : 6);
}

static inline void ref_set_transport_check(uint8_t *ip, size_t len)
{
	size_t transport_len = len - ref_ip_len(ip);
	uint8_t *check = ref_transport_check(ip);
	uint16_t sum;

	ref_put(check, 0);
	sum = ref_sum(ref_pseudo(ip, transport_len), ip + ref_ip_len(ip), transport_len);
	ref_put(check, ip[9] == UDP && sum == 0xffff ? 0xffff : 0xffffu - sum);
}

/* Makes the packet at @out; its length. */
static inline size_t packets_make(const struct order *o, uint8_t *out)
{
	size_t ip_len = 20u + o->ip_options;
	bool udp = o->protocol == UDP, tcp = !o->protocol || o->protocol == TCP;
	size_t transport_len = tcp ? 20u + o->tcp_options : 8;
	size_t len = ip_len + transport_len + o->payload;
	uint8_t *t = out + ip_len;

	assert(len <= PACKETS_LEN_MAX);
	memset(out, 0, ip_len + transport_len);
	out[0] = (uint8_t)(0x40 | ip_len / 4);
	out[1] = o->tos;
	ref_put(out + 2, len);
	ref_put(out + 4, o->id);
	ref_put(out + 6, o->frag);
	out[8] = o->ttl ? o->ttl : 64;
	out[9] = tcp ? TCP : o->protocol;
	ref_put32(out + 12, o->src ? o->src : 0x0a050102);
	ref_put32(out + 16, o->dst ? o->dst : 0x0a050203);
	memset(out + 20, 1, o->ip_options); /* no operation */
	ref_put(t, o->sport ? o->sport : 1000);
	ref_put(t + 2, o->dport ? o->dport : 2000);
	if (tcp) {
		ref_put32(t + 4, o->seq);
		ref_put32(t + 8, o->ack);
		t[12] = (uint8_t)(transport_len / 4 << 4);
		t[13] = o->flags ? o->flags : ACK;
		ref_put(t + 14, o->window);
		ref_put(t + 18, o->urgent);
		memset(t + 20, 1, o->tcp_options);
		if (o->tcp_options)
			t[transport_len - 1] = o->option_byte;
	} else if (udp) {
		ref_put(t + 4, len - ip_len);
	} else {
		t[0] = 8; /* ICMP: echo request */
	}
	for (size_t i = 0; i < o->payload; i++)
		t[transport_len + i] = (uint8_t)(o->fill + i * 7 + (i >> 8));
	ref_set_ip_check(out);
	if (tcp || udp)
		ref_set_transport_check(out, len);
	return len;
}

/* Where the payload of the TCP or UDP packet begins. */
static inline size_t ref_headers_len(const uint8_t *p)
{
	size_t ip_len = ref_ip_len(p);

	return ip_len + (p[9] == TCP ? (p[ip_len + 12] >> 4) * 4u : 8);
}

/* Writes the segment at @at of the payload of the super-packet of @len bytes to @out; its
 * length. RFC 9293 knows how each would have been sent by itself; CWR is the first one's
 * (RFC 3168 section 6.1.2), FIN and PSH are the last one's. */
static inline size_t ref_segment(const uint8_t *super, size_t len, size_t size, size_t at,
				 uint8_t *out)
{
	size_t header_len = ref_headers_len(super), ip_len = ref_ip_len(super);
	size_t left = len - header_len - at;
	bool last = left <= size;
	size_t n = last ? left : size;
	uint8_t *t = out + ip_len;

	memcpy(out, super, header_len);
	memcpy(out + header_len, super + header_len + at, n);
	ref_put(out + 2, header_len + n);
	ref_put(out + 4, (ref_get(super + 4) + at / size) & 0xffff);
	ref_set_ip_check(out);
	if (super[9] == TCP) {
		ref_put32(t + 4, ref_get32(super + ip_len + 4) + (uint32_t)at);
		if (at)
			t[13] &= (uint8_t)~CWR;
		if (!last)
			t[13] &= (uint8_t) ~(FIN | PSH);
	} else {
		ref_put(t + 4, header_len + n - ip_len);
	}
	ref_set_transport_check(out, header_len + n);
	return header_len + n;
}

/* Turns what packets_make() made into what the kernel hands over of it: the checksum left
 * to do, and the vnet header. @size 0: not segmented. */
static inline struct virtio_net_hdr packets_offload(uint8_t *p, size_t len, size_t size)
{
	size_t ip_len = ref_ip_len(p);
	struct virtio_net_hdr vnet = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.hdr_len = (uint16_t)ref_headers_len(p),
		.gso_size = (uint16_t)size,
		.csum_start = (uint16_t)ip_len,
		.csum_offset = p[9] == TCP ? 16 : 6,
	};

	if (size)
		vnet.gso_type = p[9] == TCP ? VIRTIO_NET_HDR_GSO_TCPV4 : 5; /* UDP_L4 */
	ref_put(ref_transport_check(p), ref_pseudo(p, len - ip_len));
	return vnet;
}
