/* SPDX-License-Identifier: Apache-2.0 */
/* in.c - from the peers to the tun device */
#include "backend/udp/coalesce.h"
#include "backend/udp/packet.h"
#include "backend/udp/path_internal.h"
#include "backend/udp/segment.h"
#include "base/mem.h"

#include <errno.h>
#include <linux/udp.h>
#include <sys/socket.h>

#define RECEIVE_MESSAGES 16
/* Not a power of two: see SEND_STRIDE. */
#define RECEIVE_STRIDE (65536 + 2112)
#define WRITE_TRIES    3

struct udp_in {
	struct coalesce coalesce;
	unsigned n_max;
	size_t header_len;
	unsigned left;     /* enum udp_rung_left */
	uint32_t overflow; /* SO_RXQ_OVFL: all since the socket is there */
	/* Whose inner address was right last. */
	uint32_t checked_src, checked_from;
	uint8_t *buffer;
	struct mmsghdr header[RECEIVE_MESSAGES];
	struct iovec iov[RECEIVE_MESSAGES];
	struct sockaddr_in from[RECEIVE_MESSAGES];
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(uint32_t))];
	} control[RECEIVE_MESSAGES];
	/* For a run that the device has refused: all of it, and one packet. */
	uint8_t run[65536], one[65536];
};

/* -- writing ----------------------------------------------------------------------------- */

static size_t bytes_of(const struct iovec *iov, int n)
{
	size_t bytes = 0;

	for (int i = 0; i < n; i++)
		bytes += iov[i].iov_len;
	return bytes;
}

/* 0 or -errno. */
static int write_frame(struct udp_worker *w, const struct iovec *iov, int n)
{
	int code = 0;

	/* A device without vnet headers is given none. */
	if (!w->in->header_len) {
		iov++;
		n--;
	}
	for (int i = 0; i < WRITE_TRIES; i++) {
		udp_count(&w->counters.in_calls, 1);
		code = writev(w->path->tun, iov, n) < 0 ? -errno : 0;
		if (code != -EAGAIN && code != -EINTR)
			break;
	}
	return code;
}

static void write_one(struct udp_worker *w, const struct iovec *iov)
{
	size_t len = iov[1].iov_len;
	int code = write_frame(w, iov, 2);

	if (code) {
		udp_count_drop(w, UDP_DROP_WRITE, 1);
		if (code == -EBADFD)
			udp_worker_lost(w, "the tun device has gone");
		return;
	}
	udp_count(&w->counters.in_packets, 1);
	udp_count(&w->counters.in_bytes, len);
	udp_count(&w->counters.rung[UDP_RUNG_IN_ONE], 1);
	udp_count(&w->counters.in_size[udp_size_class(len)], 1);
}

/* Takes a super-packet apart again: segmented, it is what was received. */
static void write_singly(struct udp_worker *w, const struct iovec *iov, int n)
{
	struct virtio_net_hdr none = {0};
	struct iovec one[] = {{&none, sizeof(none)}, {w->in->one, 0}};
	struct segment seg;
	size_t len = 0;

	for (int i = 1; i < n; i++) {
		memcpy(w->in->run + len, iov[i].iov_base, iov[i].iov_len);
		len += iov[i].iov_len;
	}
	if (segment_init(&seg, iov[0].iov_base, w->in->run, len)) {
		udp_count_drop(w, UDP_DROP_WRITE, (uint64_t)n - 1);
		return;
	}
	while ((one[1].iov_len = segment_len(&seg))) {
		segment_next(&seg, w->in->one);
		write_one(w, one);
	}
}

/* From the next turn on: of this one there may be packets of the same flow yet. */
static void leave_merging(struct udp_worker *w, bool tcp)
{
	enum udp_rung_left rung = tcp ? LEFT_WRITE_TSO : LEFT_WRITE_USO;

	if (w->in->left & rung)
		return;
	w->in->left |= rung;
	udp_worker_left(w, rung);
}

static void write_run(const struct iovec *iov, int n, void *userdata)
{
	struct udp_worker *w = userdata;
	struct udp_counters *c = &w->counters;
	const struct virtio_net_hdr *vnet = iov[0].iov_base;
	bool tcp = vnet->gso_type == VIRTIO_NET_HDR_GSO_TCPV4;
	uint64_t packets = (uint64_t)n - 1;
	int code;

	if (n == 2) {
		write_one(w, iov);
		return;
	}
	code = write_frame(w, iov, n);
	if (code == -EINVAL) {
		leave_merging(w, tcp);
		write_singly(w, iov, n);
		return;
	}
	if (code) {
		udp_count_drop(w, UDP_DROP_WRITE, packets);
		if (code == -EBADFD)
			udp_worker_lost(w, "the tun device has gone");
		return;
	}
	udp_count(&c->in_packets, packets);
	udp_count(&c->in_bytes, bytes_of(iov + 1, n - 1) + (packets - 1) * vnet->hdr_len);
	udp_count(&c->rung[tcp ? UDP_RUNG_IN_TSO : UDP_RUNG_IN_USO], packets);
	udp_count(&c->in_size[udp_size_class(iov[1].iov_len)], packets - 1);
	udp_count(&c->in_size[udp_size_class(vnet->hdr_len + iov[n - 1].iov_len)], 1);
}

/* -- receiving --------------------------------------------------------------------------- */

struct udp_in *udp_in_new(struct udp_worker *w)
{
	const struct udp_able *able = &w->path->able;
	struct udp_in *in = mem_alloc(1, sizeof(*in));

	in->n_max = able->many ? RECEIVE_MESSAGES : 1;
	in->header_len = able->vnet ? sizeof(struct virtio_net_hdr) : 0;
	in->buffer = mem_alloc(in->n_max, RECEIVE_STRIDE);
	for (unsigned i = 0; i < in->n_max; i++) {
		struct msghdr *header = &in->header[i].msg_hdr;

		in->iov[i] = (struct iovec){in->buffer + (size_t)i * RECEIVE_STRIDE, 65536};
		header->msg_name = &in->from[i];
		header->msg_iov = &in->iov[i];
		header->msg_iovlen = 1;
		header->msg_control = &in->control[i];
	}
	coalesce_init(&in->coalesce, able->tso, able->write_uso, write_run, w);
	return in;
}

void udp_in_free(struct udp_in *in)
{
	if (!in)
		return;
	free(in->buffer);
	free(in);
}

/* Whether one with the inner address @src may come from @from. */
static bool is_peers(struct udp_worker *w, uint32_t src, uint32_t from)
{
	const struct udp_peer *peer;

	if (!w->path->settings.check_peers)
		return true;
	if (src == w->in->checked_src && from == w->in->checked_from)
		return true;
	peer = table_find(w->table, src);
	if (!peer || peer->addr != from)
		return false;
	w->in->checked_src = src;
	w->in->checked_from = from;
	return true;
}

static void take_packet(struct udp_worker *w, uint8_t *pkt, size_t len, uint32_t from, bool vouched)
{
	enum packet_fate fate = packet_hop(pkt, len);

	if (fate != PACKET_GOOD)
		udp_count_drop(w, udp_drop_of(fate), 1);
	else if (!is_peers(w, packet_src(pkt), from))
		udp_count_drop(w, UDP_DROP_WRONG_SOURCE, 1);
	else
		coalesce_add(&w->in->coalesce, pkt, len, vouched);
}

/* The size of each datagram in a batch; 0: no batch. */
static size_t read_control(struct udp_worker *w, struct msghdr *header)
{
	size_t size = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
		if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_GRO) {
			int value;

			memcpy(&value, CMSG_DATA(c), sizeof(value));
			size = value > 0 ? (size_t)value : 0;
		} else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
			uint32_t all;

			memcpy(&all, CMSG_DATA(c), sizeof(all));
			udp_count_drop(w, UDP_DROP_OVERFLOW, all - w->in->overflow);
			w->in->overflow = all;
		}
	}
	return size;
}

static void take_message(struct udp_worker *w, unsigned i)
{
	struct udp_in *in = w->in;
	uint32_t from = ntohl(in->from[i].sin_addr.s_addr);
	uint8_t *at = in->iov[i].iov_base;
	size_t left = in->header[i].msg_len, size = read_control(w, &in->header[i].msg_hdr);
	bool batch = size && size < left;
	uint64_t n = batch ? (left + size - 1) / size : 1;

	if (w->path->settings.check_peers && !table_knows(w->table, from)) {
		udp_count_drop(w, UDP_DROP_UNKNOWN_SENDER, n);
		return;
	}
	udp_count(&w->counters.rung[batch ? UDP_RUNG_RECV_GRO : UDP_RUNG_RECV_ONE], n);
	/* An empty datagram is one as well. */
	do {
		size_t len = batch && size < left ? size : left;

		take_packet(w, at, len, from, batch);
		at += len;
		left -= len;
	} while (left);
}

static int receive(struct udp_worker *w)
{
	struct udp_in *in = w->in;
	int n;

	for (unsigned i = 0; i < in->n_max; i++) {
		struct msghdr *header = &in->header[i].msg_hdr;

		header->msg_namelen = sizeof(in->from[i]);
		header->msg_controllen = sizeof(in->control[i].space);
	}
	n = recvmmsg(w->path->sock, in->header, in->n_max, MSG_DONTWAIT, NULL);
	if (n < 0 && errno != EAGAIN && errno != EINTR && errno != ENOMEM && errno != ENOBUFS)
		udp_worker_lost(w, "the socket fails");
	return n;
}

bool udp_in_turn(struct udp_worker *w)
{
	int n = receive(w);

	if (n <= 0)
		return false;
	udp_count(&w->counters.in_calls, 1);
	/* The table may be another one. */
	w->in->checked_from = 0;
	for (int i = 0; i < n; i++)
		take_message(w, (unsigned)i);
	coalesce_flush(&w->in->coalesce);
	w->in->coalesce.tcp &= !(w->in->left & LEFT_WRITE_TSO);
	w->in->coalesce.udp &= !(w->in->left & LEFT_WRITE_USO);
	return true;
}
