/* SPDX-License-Identifier: Apache-2.0 */
/* send.h - datagrams to peers, many per system call
 *
 * Theory of operation. A message is what one UDP_SEGMENT send takes: datagrams to one peer,
 * of one size but for a shorter last, in one flat buffer (a copy costs less than the kernel's
 * walk over many iovecs). Each peer has at most one message that takes more; one that cannot
 * take the next datagram is closed and the next is opened, so that the order inside a peer is
 * kept. All are sent at the end of a turn, or when there are as many as there are buffers.
 *
 * A refused message costs only what is in it. Was it refused because of UDP_SEGMENT, its
 * datagrams are sent again by themselves, so that nothing is lost: the kernel has sent none
 * of them. Where a peer's way has a smaller MTU the kernel fragments single datagrams, but
 * refuses segments; such a peer's datagrams of that size and more go by themselves for 10
 * minutes.
 *
 * All have DF, as the single ones of the original. By default the kernel decides by the size
 * of the whole message, and segments without DF would be fragmented by routers, with
 * identifications that repeat after a few dozen. So the socket has IP_PMTUDISC_DO, but for
 * datagrams that are too large for the way, as long as they are sent.
 */
#pragma once

#include "backend/udp/path_internal.h"

#define SEND_MESSAGES 64
/* Not a power of two: the beginnings of all buffers would meet in a few sets of the cache. */
#define SEND_STRIDE (65536 + 2112)
#define SEND_LIMITS 4096
/* Some turns. More would be a queue that no sender knows of: before a NIC of 300 Mbit/s, 7 MB
 * are 400 ms, and carry not more than these, which are 50 ms. */
#define SEND_BUFFER (1024 * 1024)

struct send_message {
	uint32_t addr;
	uint32_t bytes;
	uint16_t size; /* of each datagram but the last */
	uint16_t n;
	bool open;
};

/* What the way to a peer has refused. */
struct send_limit {
	uint32_t addr;
	uint16_t size; /* refused, as all above */
	int64_t until_s;
};

struct send {
	unsigned n, n_max;
	unsigned segments_max;
	uint8_t newest[256]; /* message of an address, by its hash; looked at, not believed */
	struct send_message message[SEND_MESSAGES];
	uint8_t *buffer;
	/* What the kernel is given. */
	struct mmsghdr header[SEND_MESSAGES];
	struct iovec iov[SEND_MESSAGES];
	struct sockaddr_in to[SEND_MESSAGES];
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(uint16_t))];
	} control[SEND_MESSAGES];
	/* By hash of the address: of two that meet, the older is forgotten, and is refused anew. */
	struct send_limit limit[SEND_LIMITS];
	bool has_waited;        /* in this flush */
	int buffer_size;        /* of the socket, where it is not SEND_BUFFER; 0: it is */
	int64_t full_s;         /* when it was full or looked at last */
	int64_t unsent_quiet_s; /* until then nothing is told of what was refused */
};

void send_init(struct send *s, const struct udp_path *path);
void send_done(struct send *s);
/* Where the next datagram to @addr, of @len bytes (1 to PACKET_MAX), is to be written. */
uint8_t *send_room(struct udp_worker *w, struct send *s, uint32_t addr, size_t len);
/* All is sent, or dropped and counted. */
void send_flush(struct udp_worker *w, struct send *s);
