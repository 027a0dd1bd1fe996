/* SPDX-License-Identifier: Apache-2.0 */
/* coalesce.c - from single packets to what the tun device takes in one write
 *
 * What waits is in order of arrival. Of a flow that is at most one run, which is open, and
 * behind it pure ACKs. These do not end a run: data that continues it comes before an ACK
 * that it followed, which is as if the network had swapped them, and such data acknowledges
 * no more than the run. Nothing else changes its place in a flow: whatever ends a run writes
 * all that waits of the flow. What can have no successor, and has nothing before it, is
 * written at once.
 */
#include "backend/udp/coalesce.h"

#include "backend/udp/checksum.h"
#include "backend/udp/headers.h"

#include <netinet/in.h>

#define TOTAL_MAX 65535u

enum kind {
	KIND_FREE,  /* belongs to no flow that is merged: no order to keep */
	KIND_MAYBE, /* of such a flow perhaps, but its ports cannot be told */
	KIND_ALONE, /* of such a flow, not to be merged */
	KIND_ACK,   /* of such a flow, without payload */
	KIND_DATA,
};

struct parsed {
	uint8_t *pkt;
	size_t len;
	size_t header_len;
	size_t payload;
	uint32_t hash;
	uint32_t seq;
	bool push;
	bool ipv4_id_steps;
	uint16_t id;
	uint8_t protocol;
};

/* Tunnels that kernels up to 6.8.4 dropped when their packets came merged. */
static bool is_tunnel_port(uint16_t port)
{
	return port == 4789 || port == 8472 || port == 6081;
}

static enum kind parse_tcp(struct parsed *p, const uint8_t *tcp)
{
	size_t header_len = tcp_header_len(tcp);
	uint8_t flags = tcp[TCP_FLAGS];

	p->header_len = IPV4_HEADER + header_len;
	if (header_len < TCP_HEADER || p->header_len > p->len)
		return KIND_ALONE;
	p->payload = p->len - p->header_len;
	p->seq = get32(tcp + TCP_SEQ);
	p->push = flags & TCP_FLAG_PSH;
	if ((flags & ~(TCP_FLAG_PSH | TCP_FLAG_ECE)) != TCP_FLAG_ACK)
		return KIND_ALONE;
	if (p->payload == 0)
		return KIND_ACK;
	/* 0xffff is right where 0 is, but not what a segmentation writes. */
	return get16(tcp + TCP_CHECK) == 0xffff ? KIND_ALONE : KIND_DATA;
}

static enum kind parse_udp(struct parsed *p, const uint8_t *udp)
{
	p->header_len = IPV4_HEADER + UDP_HEADER;
	p->payload = p->len - p->header_len;
	if (get16(udp + UDP_LEN) != p->len - IPV4_HEADER || p->payload == 0)
		return KIND_ALONE;
	if (get16(udp + UDP_CHECK) == 0) /* none; and segments would get one */
		return KIND_ALONE;
	return is_tunnel_port(get16(udp)) || is_tunnel_port(get16(udp + 2)) ? KIND_ALONE
									    : KIND_DATA;
}

static uint32_t hash_flow(const uint8_t *pkt)
{
	uint32_t ports;
	uint64_t addrs;

	memcpy(&addrs, pkt + IPV4_SRC, sizeof(addrs));
	memcpy(&ports, pkt + IPV4_HEADER, sizeof(ports));
	addrs = (addrs ^ pkt[IPV4_PROTOCOL]) * UINT64_C(0x9e3779b97f4a7c15);
	addrs = (addrs ^ addrs >> 32 ^ ports) * UINT64_C(0xff51afd7ed558ccd);
	return (uint32_t)(addrs >> 32);
}

/* The header's checksum is right, and in the form that a segmentation writes. */
static bool ip_check_right(const uint8_t *pkt)
{
	return get16(pkt + IPV4_CHECK) != 0xffff &&
	       checksum_fold(checksum_add(0, pkt, IPV4_HEADER)) == 0xffff;
}

static bool transport_check_right(const struct parsed *p)
{
	size_t len = p->len - IPV4_HEADER;
	uint64_t sum = checksum_pseudo(p->pkt, p->protocol, len);

	return checksum_fold(checksum_add(sum, p->pkt + IPV4_HEADER, len)) == 0xffff;
}

static enum kind parse(const struct coalesce *c, uint8_t *pkt, size_t len, bool vouched,
		       struct parsed *p)
{
	uint8_t protocol = pkt[IPV4_PROTOCOL];
	bool tcp = protocol == IPPROTO_TCP && c->tcp, udp = protocol == IPPROTO_UDP && c->udp;
	uint16_t frag = get16(pkt + IPV4_FRAG);
	enum kind kind;

	*p = (struct parsed){.pkt = pkt, .len = len, .protocol = protocol};
	if (!tcp && !udp)
		return KIND_FREE;
	if (pkt[0] != 0x45 || get16(pkt + IPV4_TOT_LEN) != len || (frag & ~IPV4_FLAG_DF) ||
	    len < IPV4_HEADER + (size_t)(tcp ? TCP_HEADER : UDP_HEADER) || !ip_check_right(pkt))
		return KIND_MAYBE;
	p->hash = hash_flow(pkt);
	p->ipv4_id_steps = !(frag & IPV4_FLAG_DF);
	p->id = get16(pkt + IPV4_ID);
	kind = tcp ? parse_tcp(p, pkt + IPV4_HEADER) : parse_udp(p, pkt + IPV4_HEADER);
	if (kind == KIND_DATA && !vouched && !transport_check_right(p))
		return KIND_ALONE;
	return kind;
}

/* -- what is written -------------------------------------------------------------------- */

static void write_single(const struct coalesce *c, uint8_t *pkt, size_t len)
{
	struct virtio_net_hdr vnet = {0};
	struct iovec iov[2] = {{&vnet, sizeof(vnet)}, {pkt, len}};

	c->write(iov, 2, c->userdata);
}

/* The first packet's headers become those of all, and its checksum what is left to do:
 * tcp_gro_complete(), udp_gro_complete_segment(). */
static void finish_headers(struct coalesce_run *run)
{
	uint8_t *ip = run->iov[1].iov_base, *transport = ip + IPV4_HEADER;
	bool tcp = run->protocol == IPPROTO_TCP;
	size_t offset = tcp ? TCP_CHECK : UDP_CHECK, transport_len = run->bytes - IPV4_HEADER;

	put16(ip + IPV4_TOT_LEN, run->bytes);
	put16(ip + IPV4_CHECK, 0);
	put_sum(ip + IPV4_CHECK, (uint16_t)~checksum_fold(checksum_add(0, ip, IPV4_HEADER)));
	if (!tcp)
		put16(transport + UDP_LEN, (unsigned)transport_len);
	put_sum(transport + offset,
		checksum_fold(checksum_pseudo(ip, run->protocol, transport_len)));
	run->vnet = (struct virtio_net_hdr){
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = tcp ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_UDP_L4,
		.hdr_len = run->header_len,
		.gso_size = run->size,
		.csum_start = IPV4_HEADER,
		.csum_offset = (uint16_t)offset,
	};
}

/* Writes the run at @i, and takes it out. */
static void write_run(struct coalesce *c, unsigned i)
{
	struct coalesce_run *run = c->run[i];

	if (run->n > 1) {
		finish_headers(run);
		c->write(run->iov, 1 + run->n, c->userdata);
	} else {
		write_single(c, run->iov[1].iov_base, run->iov[1].iov_len);
	}
	c->n--;
	memmove(&c->run[i], &c->run[i + 1], (c->n - i) * sizeof(c->run[0]));
	c->run[c->n] = run;
}

static void write_flow(struct coalesce *c, uint32_t hash)
{
	for (unsigned i = 0; i < c->n;) {
		if (c->run[i]->hash == hash)
			write_run(c, i);
		else
			i++;
	}
}

/* All flows from one host to the other. */
static void write_hosts(struct coalesce *c, const uint8_t *pkt)
{
	for (unsigned i = 0; i < c->n;) {
		const uint8_t *waiting = c->run[i]->iov[1].iov_base;

		if (memcmp(waiting + IPV4_SRC, pkt + IPV4_SRC, 8) == 0)
			write_run(c, i);
		else
			i++;
	}
}

/* -- runs ------------------------------------------------------------------------------- */

/* The flow's run, or the last of its ACKs; NULL: nothing of it waits. */
static struct coalesce_run *find(const struct coalesce *c, uint32_t hash)
{
	struct coalesce_run *found = NULL;

	for (unsigned i = 0; i < c->n; i++) {
		if (c->run[i]->hash != hash)
			continue;
		found = c->run[i];
		if (found->open)
			break;
	}
	return found;
}

static void begin(struct coalesce *c, const struct parsed *p, bool open)
{
	struct coalesce_run *run;

	if (c->n == COALESCE_RUNS)
		write_run(c, 0);
	run = c->run[c->n++];
	run->open = open;
	run->ipv4_id_steps = p->ipv4_id_steps;
	run->protocol = p->protocol;
	run->header_len = (uint16_t)p->header_len;
	run->size = (uint16_t)p->payload;
	run->n = 1;
	run->last_id = p->id;
	run->bytes = (uint32_t)p->len;
	run->next_seq = p->seq + (uint32_t)p->payload;
	run->hash = p->hash;
	run->iov[0] = (struct iovec){&run->vnet, sizeof(run->vnet)};
	run->iov[1] = (struct iovec){p->pkt, p->len};
}

/* Equal but for sequence number, PSH and checksum. */
static bool same_tcp(const uint8_t *a, const uint8_t *b, size_t len)
{
	return memcmp(a + TCP_ACK, b + TCP_ACK, 5) == 0 && /* and doff */
	       ((a[TCP_FLAGS] ^ b[TCP_FLAGS]) & ~TCP_FLAG_PSH) == 0 &&
	       memcmp(a + TCP_WINDOW, b + TCP_WINDOW, 2) == 0 &&
	       memcmp(a + TCP_URGENT, b + TCP_URGENT, len - TCP_URGENT) == 0;
}

static bool continues(const struct coalesce_run *run, const struct parsed *p)
{
	const uint8_t *first = run->iov[1].iov_base;

	if (run->n == COALESCE_SEGMENTS || p->payload > run->size ||
	    run->bytes + p->payload > TOTAL_MAX || run->header_len != p->header_len)
		return false;
	if (run->ipv4_id_steps && p->id != (uint16_t)(run->last_id + 1))
		return false;
	/* Protocol, addresses, ports; TOS, TTL; DF. */
	if (p->protocol != run->protocol || memcmp(first + IPV4_SRC, p->pkt + IPV4_SRC, 12) != 0 ||
	    first[IPV4_TOS] != p->pkt[IPV4_TOS] || first[IPV4_TTL] != p->pkt[IPV4_TTL] ||
	    run->ipv4_id_steps != p->ipv4_id_steps)
		return false;
	return p->protocol == IPPROTO_UDP ||
	       (p->seq == run->next_seq &&
		same_tcp(first + IPV4_HEADER, p->pkt + IPV4_HEADER, p->header_len - IPV4_HEADER));
}

static void append(struct coalesce_run *run, const struct parsed *p)
{
	uint8_t *first = run->iov[1].iov_base;

	run->n++;
	run->iov[run->n] = (struct iovec){p->pkt + p->header_len, p->payload};
	run->last_id = p->id;
	run->bytes += (uint32_t)p->payload;
	run->next_seq += (uint32_t)p->payload;
	if (p->push)
		first[IPV4_HEADER + TCP_FLAGS] |= TCP_FLAG_PSH;
}

static void add_data(struct coalesce *c, const struct parsed *p)
{
	struct coalesce_run *run = find(c, p->hash);

	if (run && run->open && continues(run, p)) {
		append(run, p);
		if (p->push || p->payload < run->size)
			write_flow(c, p->hash);
		return;
	}
	if (run)
		write_flow(c, p->hash);
	if (p->push)
		write_single(c, p->pkt, p->len);
	else
		begin(c, p, true);
}

/* -- the contract ----------------------------------------------------------------------- */

void coalesce_init(struct coalesce *c, bool tcp, bool udp, coalesce_write_fn write, void *userdata)
{
	c->write = write;
	c->userdata = userdata;
	c->tcp = tcp;
	c->udp = udp;
	c->n = 0;
	for (unsigned i = 0; i < COALESCE_RUNS; i++)
		c->run[i] = &c->store[i];
}

void coalesce_add(struct coalesce *c, uint8_t *pkt, size_t len, bool vouched)
{
	struct parsed p;

	switch (parse(c, pkt, len, vouched, &p)) {
	case KIND_DATA:
		add_data(c, &p);
		return;
	case KIND_ACK:
		if (find(c, p.hash)) {
			begin(c, &p, false);
			return;
		}
		break;
	case KIND_ALONE:
		write_flow(c, p.hash);
		break;
	case KIND_MAYBE:
		write_hosts(c, pkt);
		break;
	case KIND_FREE:
		break;
	}
	write_single(c, pkt, len);
}

void coalesce_flush(struct coalesce *c)
{
	while (c->n)
		write_run(c, 0);
}
