/* SPDX-License-Identifier: Apache-2.0 */
/* path_internal.h - the data path from inside: what its threads share, and its two directions
 *
 * Theory of operation. A worker is a thread that carries one direction or both, in turns
 * of a burst each, and sleeps in poll(2) when there was nothing (worker.c). Out: packets are read
 * from the device one by one, segmented straight into the open message of their peer, and all
 * messages of the burst are sent by one sendmmsg(2) (out.c, send.c). In: datagrams are
 * received into buffers where their packets stay until coalesce.h has written them (in.c).
 *
 * The control thread and the workers share this, and nothing else:
 *  - The table. A worker loads the pointer once per turn, after it has announced in `seen`
 *    the generation in force; idle, it announces UINT64_MAX. A replaced table is freed when
 *    every worker has announced a generation that is not older than its replacement: none of
 *    them can hold the pointer then. It is looked for at each replacement; nobody waits.
 *  - Counters: written by one worker, each on cache lines of its own, read by anybody.
 *  - `stopping`, with an eventfd that wakes sleepers, and what there is to tell the loop
 *    (`left`, `refused_peer`, `unsent`, `lost`), with an eventfd on the loop.
 */
#pragma once

#include "backend/udp/packet.h"
#include "backend/udp/path.h"

#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>

/* What is done in one turn of one direction. More would leave the CPU's second cache, and
 * let the other direction wait. */
#define BURST_PACKETS 64
#define BURST_BYTES   (256 * 1024)

#define WORKERS_MAX 2

/* Rungs that may be left while it runs, as bits. */
enum udp_rung_left {
	LEFT_SEND_GSO = 1, /* for all peers */
	LEFT_WRITE_TSO = 2,
	LEFT_WRITE_USO = 4,
};

/* What the kernel can, and the settings let it. */
struct udp_able {
	bool vnet;             /* packets of the device have a virtio_net_hdr */
	bool tso, uso;         /* they may be super-packets of TCP, UDP */
	bool write_uso;        /* also those that we write */
	bool gro;              /* UDP_GRO */
	bool many;             /* many packets per call */
	unsigned segments_max; /* of one send; 1: no UDP_SEGMENT */
};

struct udp_out;
struct udp_in;

struct udp_worker {
	_Alignas(64) struct udp_counters counters;
	_Alignas(64) _Atomic uint64_t seen;
	struct udp_path *path;
	const struct table *table; /* of this turn */
	struct udp_out *out;       /* shared; touched only while it is `out_by` */
	struct udp_in *in;         /* NULL: not its direction */
	int bell;                  /* eventfd: the way out was handed to it */
	pthread_t thread;
	bool started;
};

/* A table that was replaced when `generation` began. */
struct udp_retired {
	struct udp_retired *next;
	const struct table *table;
	uint64_t generation;
};

struct udp_path {
	struct udp_path_settings settings;
	struct udp_path_events events;
	struct udp_able able;
	int tun, sock;
	int icmp; /* raw, for answers; -1: there is none */
	char description[128];

	struct udp_worker *worker[WORKERS_MAX]; /* the first: in, and out as well by itself */
	unsigned n_workers;
	struct udp_out *out;
	_Atomic(struct udp_worker *) out_by;

	_Atomic(const struct table *) table;
	_Atomic uint64_t generation;
	struct udp_retired *retired; /* oldest first */

	int wake, tell; /* eventfds */
	struct event *on_tell;
	atomic_bool stopping;
	_Atomic unsigned left;         /* enum udp_rung_left, not told yet */
	_Atomic uint64_t refused_peer; /* udp_worker_refused(), not told yet; 0: none */
	_Atomic uint64_t unsent;       /* udp_worker_unsent(), the same */
	_Atomic(const char *) lost;
	unsigned has_left; /* told */
	bool has_lost;
};

/* Adds to a counter of one's own. */
static inline void udp_count(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

static inline void udp_count_drop(struct udp_worker *w, enum udp_drop why, uint64_t n)
{
	udp_count(&w->counters.drop[why], n);
}

/* What became of one that is not PACKET_GOOD. */
static inline enum udp_drop udp_drop_of(enum packet_fate fate)
{
	return fate == PACKET_SHORT    ? UDP_DROP_SHORT
	       : fate == PACKET_NOT_V4 ? UDP_DROP_NOT_V4
				       : UDP_DROP_EXPIRED;
}

static inline unsigned udp_size_class(size_t len)
{
	return len <= 128    ? 0
	       : len <= 256  ? 1
	       : len <= 512  ? 2
	       : len <= 1024 ? 3
	       : len <= 1500 ? 4
			     : 5;
}

/* offload.c: what can be found out before packets come. */
void udp_offload_probe(struct udp_path *path);
/* Whether this kernel (uname -r) sends with UDP_SEGMENT what it was given. */
bool udp_offload_gso_is_sound(const char *release);
/* Whether super-packets of UDP survive a tunnel device of this kernel. */
bool udp_offload_uso_is_sound(const char *release);

/* worker.c */
int udp_worker_start(struct udp_worker *w, const char *name);
/* What a worker has to tell; on the loop it becomes an event. @why is a literal. */
void udp_worker_lost(struct udp_worker *w, const char *why);
void udp_worker_left(struct udp_worker *w, enum udp_rung_left rung);
void udp_worker_refused(struct udp_worker *w, uint32_t addr, uint16_t size);
void udp_worker_unsent(struct udp_worker *w, uint32_t addr, int code);

/* A turn. Whether there were packets. */
bool udp_out_turn(struct udp_worker *w);
bool udp_in_turn(struct udp_worker *w);
struct udp_out *udp_out_new(const struct udp_path *path);
void udp_out_free(struct udp_out *out);
struct udp_in *udp_in_new(struct udp_worker *w);
void udp_in_free(struct udp_in *in);
