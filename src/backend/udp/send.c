/* SPDX-License-Identifier: Apache-2.0 */
/* send.c - datagrams to peers, many per system call */
#include "backend/udp/send.h"

#include "backend/udp/packet.h"
#include "base/mem.h"

#include <errno.h>
#include <linux/sockios.h>
#include <linux/udp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

#define LIMIT_S        600
#define UNSENT_QUIET_S 60
/* How long a full socket is waited for in one flush, then its messages are dropped. Not at all
 * would be to read packets only to drop them: it carries no more, and takes the CPU. */
#define WAIT_MS 5
/* A NIC of 400 Mbit/s sends so much in that time. */
#define MOVES           (SEND_BUFFER / 4)
#define SEND_BUFFER_MAX (32 * 1024 * 1024)
#define QUIET_S         10

static unsigned hash(uint32_t addr)
{
	return (addr * 0x9e3779b1u) >> 16;
}

static void set_df(int sock, int value)
{
	(void)setsockopt(sock, IPPROTO_IP, IP_MTU_DISCOVER, &value, sizeof(value));
}

void send_init(struct send *s, const struct udp_path *path)
{
	if (path->able.segments_max > 1)
		set_df(path->sock, IP_PMTUDISC_DO);
	s->n_max = path->able.many ? SEND_MESSAGES : 1;
	s->segments_max = path->able.segments_max;
	s->buffer = mem_alloc(s->n_max, SEND_STRIDE);
	for (unsigned i = 0; i < s->n_max; i++) {
		struct msghdr *header = &s->header[i].msg_hdr;

		s->to[i] = (struct sockaddr_in){.sin_family = AF_INET,
						.sin_port = htons(path->settings.port)};
		s->iov[i].iov_base = s->buffer + (size_t)i * SEND_STRIDE;
		s->control[i].header = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(uint16_t)),
							.cmsg_level = IPPROTO_UDP,
							.cmsg_type = UDP_SEGMENT};
		header->msg_name = &s->to[i];
		header->msg_namelen = sizeof(s->to[i]);
		header->msg_iov = &s->iov[i];
		header->msg_iovlen = 1;
		header->msg_control = &s->control[i];
	}
}

void send_done(struct send *s)
{
	free(s->buffer);
}

/* -- what a way refuses ------------------------------------------------------------------ */

static int64_t now_s(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return ts.tv_sec;
}

static struct send_limit *limit_of(struct send *s, uint32_t addr)
{
	return &s->limit[hash(addr) % SEND_LIMITS];
}

static bool is_refused(struct send *s, uint32_t addr, size_t size)
{
	const struct send_limit *limit = limit_of(s, addr);

	return limit->addr == addr && size >= limit->size && now_s() < limit->until_s;
}

static void refuse(struct udp_worker *w, struct send *s, const struct send_message *m)
{
	struct send_limit *limit = limit_of(s, m->addr);

	*limit = (struct send_limit){m->addr, m->size, now_s() + LIMIT_S};
	udp_worker_refused(w, m->addr, m->size);
}

/* @code: what the kernel said of @n datagrams that are lost now. */
static void lose(struct udp_worker *w, struct send *s, uint32_t addr, int code, uint64_t n)
{
	bool full = code == EAGAIN || code == ENOBUFS;

	udp_count_drop(w, full ? UDP_DROP_SEND_BUFFER : UDP_DROP_SEND, n);
	if (full || now_s() < s->unsent_quiet_s)
		return;
	s->unsent_quiet_s = now_s() + UNSENT_QUIET_S;
	udp_worker_unsent(w, addr, code);
}

/* -- building ---------------------------------------------------------------------------- */

static bool takes(const struct send *s, const struct send_message *m, uint32_t addr, size_t len)
{
	return m->open && m->addr == addr && len <= m->size && m->n < s->segments_max &&
	       m->bytes + len <= PACKET_MAX;
}

static struct send_message *open_message(struct udp_worker *w, struct send *s, uint32_t addr,
					 size_t len)
{
	struct send_message *m;

	if (s->n == s->n_max)
		send_flush(w, s);
	m = &s->message[s->n];
	*m = (struct send_message){
		.addr = addr,
		.size = (uint16_t)len,
		.open = s->segments_max > 1 && !is_refused(s, addr, len),
	};
	/* An older message to another peer of the same hash is out of sight: it gets no more. */
	s->newest[hash(addr) % sizeof(s->newest)] = (uint8_t)s->n++;
	return m;
}

uint8_t *send_room(struct udp_worker *w, struct send *s, uint32_t addr, size_t len)
{
	unsigned i = s->newest[hash(addr) % sizeof(s->newest)];
	struct send_message *m = &s->message[i];
	uint8_t *room;

	if (i >= s->n || !takes(s, m, addr, len))
		m = open_message(w, s, addr, len);
	room = s->buffer + (size_t)(m - s->message) * SEND_STRIDE + m->bytes;
	/* A shorter one is the last. */
	if (len < m->size)
		m->open = false;
	m->bytes += (uint32_t)len;
	m->n++;
	return room;
}

/* -- sending ----------------------------------------------------------------------------- */

static void count_sent(struct udp_worker *w, const struct send_message *m)
{
	struct udp_counters *c = &w->counters;
	size_t last = m->bytes - (size_t)(m->n - 1) * m->size;

	udp_count(&c->out_packets, m->n);
	udp_count(&c->out_bytes, m->bytes);
	udp_count(&c->rung[m->n > 1 ? UDP_RUNG_SEND_GSO : UDP_RUNG_SEND_ONE], m->n);
	udp_count(&c->out_size[udp_size_class(m->size)], m->n - 1u);
	udp_count(&c->out_size[udp_size_class(last)], 1);
}

/* The kernel is given messages [0, n) of @m, which lie at the same places of @s. */
static void prepare(struct send *s, unsigned i, const struct send_message *m)
{
	s->to[i].sin_addr.s_addr = htonl(m->addr);
	s->iov[i].iov_len = m->bytes;
	/* One by itself needs no UDP_SEGMENT, and is spared its restrictions. */
	s->header[i].msg_hdr.msg_controllen = m->n > 1 ? sizeof(s->control[i].space) : 0;
	if (m->n > 1)
		memcpy(CMSG_DATA(&s->control[i].header), &m->size, sizeof(m->size));
}

/* Bytes of ours that wait, for a NIC or for a neighbour. */
static int held_bytes(int sock)
{
	int bytes = 0;

	(void)ioctl(sock, SIOCOUTQ, &bytes);
	return bytes;
}

static void set_buffer(int sock, int size)
{
	(void)setsockopt(sock, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof(size));
}

/* For each neighbour that does not answer the kernel keeps 200 KB, for seconds
 * (neigh.unres_qlen_bytes), and takes them for ours: a dozen hosts that are down would leave no
 * room for the others. What does not move is given room beside. */
static bool make_room(struct udp_worker *w, struct send *s, int held_before)
{
	int held = held_bytes(w->path->sock), size = held + SEND_BUFFER;

	if (held_before - held > MOVES || size > SEND_BUFFER_MAX || size <= s->buffer_size)
		return false;
	s->buffer_size = size;
	set_buffer(w->path->sock, size);
	return true;
}

/* After a quiet time, as much as is needed by then. */
static void give_room_back(struct udp_worker *w, struct send *s)
{
	int held = held_bytes(w->path->sock);

	s->full_s = now_s(); /* to look at it again */
	s->buffer_size = held > SEND_BUFFER ? held + SEND_BUFFER : 0;
	set_buffer(w->path->sock, s->buffer_size ? s->buffer_size : SEND_BUFFER);
}

static bool wait_writable(struct udp_worker *w, struct send *s)
{
	struct pollfd fd = {.fd = w->path->sock, .events = POLLOUT};
	int held;

	if (s->has_waited)
		return false;
	s->has_waited = true;
	s->full_s = now_s();
	held = held_bytes(fd.fd);
	return poll(&fd, 1, WAIT_MS) > 0 || make_room(w, s, held);
}

/* Datagram by datagram, what was refused as a whole; those too large for the way in fragments
 * that this kernel makes. Whether any went. */
static bool send_singly(struct udp_worker *w, struct send *s, unsigned i)
{
	struct send_message all = s->message[i];
	struct iovec *iov = &s->iov[i];
	size_t left = all.bytes;
	bool went = false;

	set_df(w->path->sock, IP_PMTUDISC_WANT);
	while (left) {
		struct send_message one = {.addr = all.addr, .n = 1};

		one.bytes = left < all.size ? (uint32_t)left : all.size;
		one.size = (uint16_t)one.bytes;
		iov->iov_base = s->buffer + (size_t)i * SEND_STRIDE + (all.bytes - left);
		prepare(s, i, &one);
		left -= one.bytes;
		udp_count(&w->counters.out_calls, 1);
		while (sendmsg(w->path->sock, &s->header[i].msg_hdr, MSG_DONTWAIT) < 0) {
			int code = errno;

			if (code == EINTR || (code == EAGAIN && wait_writable(w, s)))
				continue;
			lose(w, s, all.addr, code, 1);
			one.n = 0;
			break;
		}
		if (one.n)
			count_sent(w, &one);
		went |= one.n;
	}
	if (w->path->able.segments_max > 1)
		set_df(w->path->sock, IP_PMTUDISC_DO);
	iov->iov_base = s->buffer + (size_t)i * SEND_STRIDE;
	return went;
}

/* @m was refused, and its datagrams were not. */
static void leave_segments(struct udp_worker *w, struct send *s, const struct send_message *m,
			   int code)
{
	if (code != EIO) {
		if (!is_refused(s, m->addr, m->size))
			refuse(w, s, m);
	} else if (s->segments_max > 1) {
		s->segments_max = 1;
		udp_worker_left(w, LEFT_SEND_GSO);
	}
}

/* Message @i was refused. Whether that is done with: it need not be tried again. */
static bool take_refusal(struct udp_worker *w, struct send *s, unsigned i, int code)
{
	const struct send_message *m = &s->message[i];

	if (code == EINTR || (code == EAGAIN && wait_writable(w, s)))
		return false;
	/* EINVAL is also said of blackhole routes, and of a local address that is away. */
	if (m->n > 1 && (code == EIO || code == EMSGSIZE || code == EINVAL)) {
		if (send_singly(w, s, i))
			leave_segments(w, s, m, code);
		return true;
	}
	if (code == EMSGSIZE && w->path->able.segments_max > 1) {
		(void)send_singly(w, s, i);
		return true;
	}
	lose(w, s, m->addr, code, m->n);
	return true;
}

void send_flush(struct udp_worker *w, struct send *s)
{
	unsigned at = 0, n = s->n;

	s->has_waited = false;
	for (unsigned i = 0; i < n; i++)
		prepare(s, i, &s->message[i]);
	while (at < n) {
		int sent = sendmmsg(w->path->sock, s->header + at, n - at, MSG_DONTWAIT);

		udp_count(&w->counters.out_calls, 1);
		if (sent < 0)
			at += take_refusal(w, s, at, errno);
		for (int i = 0; i < sent; i++)
			count_sent(w, &s->message[at++]);
	}
	s->n = 0;
	if (s->buffer_size && now_s() - s->full_s > QUIET_S)
		give_room_back(w, s);
}
