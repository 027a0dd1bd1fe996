/* SPDX-License-Identifier: Apache-2.0 */
/* out.c - from the tun device to the peers */
#include "backend/udp/packet.h"
#include "backend/udp/segment.h"
#include "backend/udp/send.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/virtio_net.h>
#include <sys/socket.h>
#include <time.h>

/* As the kernel limits its own ICMP (icmp_global_allow()), but for a smaller burst. */
#define UNREACHABLE_PER_S 100

/* The vnet header ends where packets are aligned as the kernel aligns them. */
#define READ_MAX (65535 + 1)
#define READ_PAD 16

struct udp_out {
	struct send send;
	size_t header_len; /* of what is read and written before each packet */
	int64_t bucket_ms; /* when the bucket was filled last */
	unsigned bucket;   /* ICMP that may be sent */
	_Alignas(64) uint8_t buffer[READ_PAD + READ_MAX];
};

struct udp_out *udp_out_new(const struct udp_path *path)
{
	struct udp_out *out = aligned_alloc(_Alignof(struct udp_out), sizeof(*out));

	if (!out)
		abort();
	memset(out, 0, sizeof(*out));
	out->header_len = path->able.vnet ? sizeof(struct virtio_net_hdr) : 0;
	send_init(&out->send, path);
	return out;
}

void udp_out_free(struct udp_out *out)
{
	if (!out)
		return;
	send_done(&out->send);
	free(out);
}

/* A token bucket of a second's. */
static bool may_answer(struct udp_out *out)
{
	struct timespec ts;
	int64_t now_ms, n;

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	now_ms = (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
	n = (now_ms - out->bucket_ms) * UNREACHABLE_PER_S / 1000;
	if (n > 0) {
		out->bucket = n + out->bucket < UNREACHABLE_PER_S ? out->bucket + (unsigned)n
								  : UNREACHABLE_PER_S;
		out->bucket_ms = now_ms;
	}
	if (!out->bucket)
		return false;
	out->bucket--;
	return true;
}

/* Not by way of the device, as the original tries it: what comes from there with an address
 * of this host's own is a martian, and dropped (fib_validate_source()). */
static void answer_unreachable(struct udp_worker *w, const uint8_t *pkt, size_t len)
{
	struct sockaddr_in to = {.sin_family = AF_INET};
	uint8_t answer[PACKET_UNREACHABLE_MAX];
	size_t n = packet_unreachable(pkt, len, w->path->settings.tun_addr, answer);

	if (!n || !may_answer(w->out))
		return;
	to.sin_addr.s_addr = htonl(packet_src(pkt));
	if (sendto(w->path->icmp, answer, n, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof(to)) > 0)
		udp_count(&w->counters.unreachable, 1);
}

static void send_segments(struct udp_worker *w, struct segment *seg, uint32_t addr)
{
	struct udp_counters *c = &w->counters;
	enum udp_rung rung = seg->protocol == IPPROTO_TCP   ? UDP_RUNG_OUT_TSO
			     : seg->protocol == IPPROTO_UDP ? UDP_RUNG_OUT_USO
							    : UDP_RUNG_OUT_ONE;
	size_t len;

	while ((len = segment_len(seg))) {
		if (len > PACKET_MAX) {
			udp_count_drop(w, UDP_DROP_TOO_LARGE, 1);
			return;
		}
		segment_next(seg, send_room(w, &w->out->send, addr, len));
	}
	udp_count(&c->rung[rung], seg->n);
}

/* For nobody that we know. */
static void refuse(struct udp_worker *w, const uint8_t *pkt, size_t len)
{
	if (len < PACKET_MIN) {
		udp_count_drop(w, UDP_DROP_SHORT, 1);
	} else if (pkt[0] >> 4 != 4) {
		udp_count_drop(w, UDP_DROP_NOT_V4, 1);
	} else {
		udp_count_drop(w, UDP_DROP_NO_PEER, 1);
		answer_unreachable(w, pkt, len);
	}
}

static void carry(struct udp_worker *w, uint8_t *frame, size_t len)
{
	static const struct virtio_net_hdr plain;
	size_t header_len = w->out->header_len;
	const struct virtio_net_hdr *vnet = header_len ? (void *)frame : &plain;
	uint8_t *pkt = frame + header_len;
	const struct udp_peer *peer;
	enum packet_fate fate;
	struct segment seg;

	len = len < header_len ? 0 : len - header_len;
	peer = len < PACKET_MIN ? NULL : table_find(w->table, packet_dst(pkt));
	if (!peer) {
		refuse(w, pkt, len);
		return;
	}
	fate = packet_hop(pkt, len);
	if (fate != PACKET_GOOD) {
		udp_count_drop(w, udp_drop_of(fate), 1);
		return;
	}
	if (segment_init(&seg, vnet, pkt, len))
		udp_count_drop(w, UDP_DROP_BAD_VNET, 1);
	else
		send_segments(w, &seg, peer->addr);
}

/* One packet; 0: there is none. */
static size_t read_frame(struct udp_worker *w, uint8_t *frame, size_t max)
{
	for (;;) {
		ssize_t n = read(w->path->tun, frame, max);

		if (n > 0)
			return (size_t)n;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n < 0 && errno == EINVAL) {
			/* A packet of a kind that a vnet header cannot tell; it is gone. */
			udp_count_drop(w, UDP_DROP_BAD_VNET, 1);
		} else if (n == 0 || errno != EINTR) {
			udp_worker_lost(w, "the tun device has gone");
			return 0;
		}
	}
}

bool udp_out_turn(struct udp_worker *w)
{
	uint8_t *frame = w->out->buffer + READ_PAD - w->out->header_len;
	size_t max = READ_MAX - 1 + w->out->header_len, bytes = 0, n;
	unsigned packets = 0;

	while (packets < BURST_PACKETS && bytes < BURST_BYTES && (n = read_frame(w, frame, max))) {
		packets++;
		bytes += n;
		carry(w, frame, n);
		if (!w->path->able.many)
			send_flush(w, &w->out->send);
	}
	udp_count(&w->counters.out_calls, packets);
	send_flush(w, &w->out->send);
	return packets > 0;
}
