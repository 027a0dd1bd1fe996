/* SPDX-License-Identifier: Apache-2.0 */
/* flows.h - what goes into a coalescer, what comes out, and whether that is the same
 *
 * Merged packets are split again the slow way of packets.h. Each packet has to come out
 * once, with the bytes it had, and behind those that came before it in its flow. Three things
 * may differ, which coalesce.h and coalesce.c say: a pure ACK may be behind data that came
 * after it and was merged with what came before it; packets with DF may have other
 * identifications (RFC 6864: they mean nothing); a merged one that was vouched for has a right
 * checksum.
 */
#pragma once

#include "backend/udp/coalesce.h"

#include "base/mem.h"
#include "packets.h"

#include <stdio.h>

#define FLOWS_MAX 256

struct flows_packet {
	uint8_t *bytes; /* owned */
	size_t len;
	bool vouched;
	int out;     /* its place in what came out; -1: did not */
	bool merged; /* came out with others */
};

struct flows {
	struct flows_packet in[FLOWS_MAX];
	uint8_t *given[FLOWS_MAX]; /* what the coalescer may change; owned */
	int n, n_out, n_writes, n_merged_writes;
	char problem[200]; /* the first one */
	struct coalesce c;
};

#define FLOWS_PROBLEM(f, ...)                                                                      \
	do {                                                                                       \
		if (!(f)->problem[0])                                                              \
			(void)snprintf((f)->problem, sizeof((f)->problem), __VA_ARGS__);           \
	} while (0)

static inline bool flows_regular(const struct flows_packet *p)
{
	return p->len >= 28 && p->bytes[0] == 0x45 && !(ref_get(p->bytes + 6) & 0xbfff);
}

static inline bool flows_pure_ack(const struct flows_packet *p)
{
	return flows_regular(p) && p->bytes[9] == TCP && p->len >= 40 &&
	       p->len == ref_headers_len(p->bytes);
}

/* Have an order to keep: of one flow, or perhaps of one. */
static inline bool flows_related(const struct flows_packet *a, const struct flows_packet *b)
{
	if (a->bytes[9] != b->bytes[9] || (a->bytes[9] != TCP && a->bytes[9] != UDP))
		return false;
	if (memcmp(a->bytes + 12, b->bytes + 12, 8) != 0)
		return false;
	return !flows_regular(a) || !flows_regular(b) ||
	       memcmp(a->bytes + 20, b->bytes + 20, 4) == 0;
}

/* What @in has become by coming out as @out, is written to @want. */
static inline void flows_expect(const struct flows_packet *in, const uint8_t *out, bool merged,
				uint8_t *want)
{
	memcpy(want, in->bytes, in->len);
	if (!merged || in->len < 28)
		return;
	if (ref_get(want + 6) & DF) {
		memcpy(want + 4, out + 4, 2);
		ref_set_ip_check(want);
	}
	if (in->vouched)
		ref_set_transport_check(want, in->len);
}

static inline void flows_came_out(struct flows *f, const uint8_t *bytes, size_t len, bool merged)
{
	static uint8_t want[PACKETS_LEN_MAX];

	for (int i = 0; i < f->n; i++) {
		struct flows_packet *in = &f->in[i];

		if (in->out >= 0 || in->len != len)
			continue;
		flows_expect(in, bytes, merged, want);
		if (memcmp(want, bytes, len) != 0)
			continue;
		in->out = f->n_out++;
		in->merged = merged;
		return;
	}
	FLOWS_PROBLEM(f, "%zu bytes came out that never went in", len);
}

static inline void flows_check_vnet(struct flows *f, const struct virtio_net_hdr *v,
				    const uint8_t *pkt, size_t len)
{
	bool tcp = pkt[9] == TCP;

	if (v->flags != VIRTIO_NET_HDR_F_NEEDS_CSUM || v->gso_type != (tcp ? 1 : 5) ||
	    v->csum_start != 20 || v->csum_offset != (tcp ? 16 : 6) ||
	    v->hdr_len != ref_headers_len(pkt) || v->gso_size == 0)
		FLOWS_PROBLEM(f, "a vnet header that is wrong");
	if (len > 65535 || ref_get(pkt + 2) != len || ref_sum(0, pkt, 20) != 0xffff)
		FLOWS_PROBLEM(f, "an IP header that is wrong");
	if (ref_get(pkt + (tcp ? 36 : 26)) != ref_pseudo(pkt, len - 20))
		FLOWS_PROBLEM(f, "no sum of the pseudo header");
	if (!tcp && ref_get(pkt + 24) != len - 20)
		FLOWS_PROBLEM(f, "a UDP length that is wrong");
	if (len - v->hdr_len <= v->gso_size)
		FLOWS_PROBLEM(f, "a super-packet of one");
}

static inline void flows_split(struct flows *f, const struct virtio_net_hdr *v,
			       const uint8_t *super, size_t len)
{
	static uint8_t one[PACKETS_LEN_MAX];

	for (size_t at = 0; at < len - v->hdr_len; at += v->gso_size) {
		size_t n = ref_segment(super, len, v->gso_size, at, one);

		flows_came_out(f, one, n, true);
	}
}

static inline void flows_write(const struct iovec *iov, int n, void *userdata)
{
	struct flows *f = userdata;
	struct virtio_net_hdr v;
	_cleanup_free_ uint8_t *joined = NULL;
	size_t len = 0, at = 0;

	f->n_writes++;
	if (n < 2 || n > 1 + COALESCE_SEGMENTS || iov[0].iov_len != sizeof(v)) {
		FLOWS_PROBLEM(f, "an iovec of %d", n);
		return;
	}
	memcpy(&v, iov[0].iov_base, sizeof(v));
	for (int i = 1; i < n; i++)
		len += iov[i].iov_len;
	joined = mem_alloc(len, 1);
	for (int i = 1; i < n; at += iov[i++].iov_len)
		memcpy(joined + at, iov[i].iov_base, iov[i].iov_len);

	if (n == 2) {
		struct virtio_net_hdr zero = {0};

		if (memcmp(&v, &zero, sizeof(v)) != 0)
			FLOWS_PROBLEM(f, "a vnet header of a single packet");
		flows_came_out(f, joined, len, false);
		return;
	}
	f->n_merged_writes++;
	flows_check_vnet(f, &v, joined, len);
	if (!f->problem[0])
		flows_split(f, &v, joined, len);
}

static inline struct flows *flows_new(bool tcp, bool udp)
{
	struct flows *f = mem_alloc(1, sizeof(*f));

	coalesce_init(&f->c, tcp, udp, flows_write, f);
	return f;
}

/* Adds a copy, which lies at an odd address. */
static inline void flows_add(struct flows *f, const uint8_t *bytes, size_t len, bool vouched)
{
	struct flows_packet *p = &f->in[f->n];

	assert(f->n < FLOWS_MAX);
	*p = (struct flows_packet){
		.bytes = mem_alloc(len, 1), .len = len, .vouched = vouched, .out = -1};
	memcpy(p->bytes, bytes, len);
	f->given[f->n] = mem_alloc(len + 1, 1);
	memcpy(f->given[f->n] + 1, bytes, len);
	f->n++;
	coalesce_add(&f->c, f->given[f->n - 1] + 1, len, vouched);
}

static inline void flows_check_order(struct flows *f, int i, int j)
{
	const struct flows_packet *a = &f->in[i], *b = &f->in[j];

	if (a->out < b->out || !flows_related(a, b))
		return;
	if (flows_pure_ack(a) && b->merged)
		return;
	FLOWS_PROBLEM(f, "packet %d came out before packet %d", j, i);
}

/* The burst is over; what was wrong with it, or NULL. */
static inline const char *flows_end(struct flows *f)
{
	coalesce_flush(&f->c);
	for (int i = 0; i < f->n; i++) {
		if (f->in[i].out < 0)
			FLOWS_PROBLEM(f, "packet %d did not come out", i);
	}
	for (int j = 1; j < f->n; j++) {
		for (int i = 0; i < j; i++)
			flows_check_order(f, i, j);
	}
	return f->problem[0] ? f->problem : NULL;
}

/* Forgets the packets; the coalescer lives on. */
static inline void flows_clear(struct flows *f)
{
	for (int i = 0; i < f->n; i++) {
		free(f->in[i].bytes);
		free(f->given[i]);
	}
	f->n = f->n_out = f->n_writes = f->n_merged_writes = 0;
}

static inline void flows_free(struct flows *f)
{
	flows_clear(f);
	free(f);
}
