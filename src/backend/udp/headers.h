/* SPDX-License-Identifier: Apache-2.0 */
/* headers.h - fields of IPv4, TCP, UDP by their offsets (RFC 791, RFC 9293, RFC 768), at any
 * alignment
 */
#pragma once

#include <arpa/inet.h>
#include <linux/virtio_net.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5 /* linux/virtio_net.h since 6.2 */
#endif

enum {
	IPV4_TOS = 1,
	IPV4_TOT_LEN = 2,
	IPV4_ID = 4,
	IPV4_FRAG = 6,
	IPV4_TTL = 8,
	IPV4_PROTOCOL = 9,
	IPV4_CHECK = 10,
	IPV4_SRC = 12,
	IPV4_DST = 16,
	IPV4_HEADER = 20, /* without options */
};

#define IPV4_FLAG_DF  0x4000
#define IPV4_FRAGMENT 0x3fff /* MF, and the offset */

enum {
	TCP_SEQ = 4,
	TCP_ACK = 8,
	TCP_DOFF = 12,
	TCP_FLAGS = 13,
	TCP_WINDOW = 14,
	TCP_CHECK = 16,
	TCP_URGENT = 18,
	TCP_HEADER = 20, /* without options */
};

enum {
	TCP_FLAG_FIN = 0x01,
	TCP_FLAG_PSH = 0x08,
	TCP_FLAG_ACK = 0x10,
	TCP_FLAG_ECE = 0x40,
	TCP_FLAG_CWR = 0x80,
};

enum {
	UDP_LEN = 4,
	UDP_CHECK = 6,
	UDP_HEADER = 8,
};

static inline uint16_t get16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return ntohs(v);
}

static inline uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return ntohl(v);
}

static inline void put16(uint8_t *p, unsigned value)
{
	uint16_t v = htons((uint16_t)value);

	memcpy(p, &v, sizeof(v));
}

static inline void put32(uint8_t *p, uint32_t value)
{
	uint32_t v = htonl(value);

	memcpy(p, &v, sizeof(v));
}

/* A folded sum lies in memory order already. */
static inline void put_sum(uint8_t *p, uint16_t sum)
{
	memcpy(p, &sum, sizeof(sum));
}

/* Both in bytes, as the packet says: to be checked. */
static inline size_t ipv4_header_len(const uint8_t *ip)
{
	return (ip[0] & 0xfu) * 4u;
}

static inline size_t tcp_header_len(const uint8_t *tcp)
{
	return (tcp[TCP_DOFF] >> 4) * 4u;
}
