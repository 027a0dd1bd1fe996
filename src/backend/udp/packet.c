/* SPDX-License-Identifier: Apache-2.0 */
/* packet.c - inner IPv4 packets: what each one is asked, and what is done to each */
#include "backend/udp/packet.h"

#include "backend/udp/checksum.h"
#include "backend/udp/headers.h"

#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>

#define ICMP_HEADER     8
#define ICMP_QUOTED     8 /* bytes behind the IP header */
#define UNREACHABLE_TTL 64

enum packet_fate packet_hop(uint8_t *pkt, size_t len)
{
	uint32_t check;

	if (len < PACKET_MIN)
		return PACKET_SHORT;
	if (pkt[0] >> 4 != 4)
		return PACKET_NOT_V4;
	if (pkt[IPV4_TTL] <= 1)
		return PACKET_EXPIRED;
	pkt[IPV4_TTL]--;
	/* The TTL is the high byte of its word. Never 0xffff, which is no sum of anything. */
	check = get16(pkt + IPV4_CHECK) + 0x100u;
	put16(pkt + IPV4_CHECK, check + (check >= 0xffff));
	return PACKET_GOOD;
}

uint32_t packet_src(const uint8_t *pkt)
{
	return get32(pkt + IPV4_SRC);
}

uint32_t packet_dst(const uint8_t *pkt)
{
	return get32(pkt + IPV4_DST);
}

/* No multicast, no broadcast, nothing of this host only (RFC 1812 section 4.3.2.7). */
static bool is_single_host(uint32_t addr)
{
	return addr >> 28 < 0xe && addr >> 24 != 0 && addr >> 24 != IN_LOOPBACKNET;
}

/* No error is answered by one (RFC 1122 section 3.2.2); @icmp: as much as there is of it. */
static bool is_icmp_error(const uint8_t *icmp, size_t len)
{
	return len == 0 || icmp[0] == ICMP_DEST_UNREACH || icmp[0] == ICMP_SOURCE_QUENCH ||
	       icmp[0] == ICMP_REDIRECT || icmp[0] == ICMP_TIME_EXCEEDED ||
	       icmp[0] == ICMP_PARAMETERPROB;
}

/* How much of @pkt is quoted; 0: it is not answered. */
static size_t quoted_len(const uint8_t *pkt, size_t len)
{
	size_t header_len = ipv4_header_len(pkt), tot_len = get16(pkt + IPV4_TOT_LEN);

	if (header_len < IPV4_HEADER || tot_len < header_len || tot_len > len)
		return 0;
	if (get16(pkt + IPV4_FRAG) & IP_OFFMASK)
		return 0;
	if (pkt[IPV4_PROTOCOL] == IPPROTO_ICMP &&
	    is_icmp_error(pkt + header_len, tot_len - header_len))
		return 0;
	if (!is_single_host(packet_src(pkt)) || !is_single_host(packet_dst(pkt)))
		return 0;
	return tot_len < header_len + ICMP_QUOTED ? tot_len : header_len + ICMP_QUOTED;
}

size_t packet_unreachable(const uint8_t *pkt, size_t len, uint32_t from,
			  uint8_t out[PACKET_UNREACHABLE_MAX])
{
	size_t n_quoted = quoted_len(pkt, len), total = IPV4_HEADER + ICMP_HEADER + n_quoted;
	uint8_t *icmp = out + IPV4_HEADER;

	if (n_quoted == 0)
		return 0;
	memset(out, 0, IPV4_HEADER + ICMP_HEADER);
	memcpy(icmp + ICMP_HEADER, pkt, n_quoted);
	icmp[0] = ICMP_DEST_UNREACH;
	icmp[1] = ICMP_NET_UNREACH;
	put_sum(icmp + 2, (uint16_t)~checksum_fold(checksum_add(0, icmp, total - IPV4_HEADER)));

	out[0] = 0x45;
	out[IPV4_TOS] = IPTOS_PREC_INTERNETCONTROL;
	put16(out + IPV4_TOT_LEN, (unsigned)total);
	out[IPV4_TTL] = UNREACHABLE_TTL;
	out[IPV4_PROTOCOL] = IPPROTO_ICMP;
	put32(out + IPV4_SRC, from);
	memcpy(out + IPV4_DST, pkt + IPV4_SRC, 4);
	put_sum(out + IPV4_CHECK, (uint16_t)~checksum_fold(checksum_add(0, out, IPV4_HEADER)));
	return total;
}
