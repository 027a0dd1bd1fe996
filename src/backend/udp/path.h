/* SPDX-License-Identifier: Apache-2.0 */
/* path.h - the data path of backend udp: packets between a tun device and a UDP socket
 *
 * It runs in threads of its own (one on one CPU; two on more, see worker.c), which share
 * nothing with the rest of the process but a table of peers that is replaced as a whole, and
 * counters that are only read. All functions here are the control thread's; none of them
 * waits for packets.
 */
#pragma once

#include "backend/udp/table.h"
#include "base/err.h"
#include "io/loop.h"

#include <net/if.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How far the ladder is climbed; each rung is left for the next one below where the kernel
 * or a peer's way does not bear it. */
enum udp_offload {
	UDP_OFFLOAD_AUTO,  /* all of it */
	UDP_OFFLOAD_GSO,   /* the same, but no inner UDP super-packets (USO) */
	UDP_OFFLOAD_MMSG,  /* many datagrams per call, none larger than the MTU */
	UDP_OFFLOAD_PLAIN, /* one packet per call */
	UDP_OFFLOAD_COUNT,
};

struct udp_path_settings {
	char device[IFNAMSIZ]; /* a tun device that exists */
	uint32_t tun_addr;     /* its address, host order: ICMP comes from it */
	uint32_t local;        /* address to bind, host order */
	uint16_t port;         /* of both ends, host order */
	enum udp_offload offload;
	bool check_peers;      /* drop what is from no peer, or not from the peer's subnet */
	unsigned busy_poll_us; /* how long to look again before sleeping; 0: sleep at once */
	unsigned threads;      /* 1 or 2; 0: by the number of CPUs */
};

enum udp_drop {
	UDP_DROP_SHORT, /* either way */
	UDP_DROP_NOT_V4,
	UDP_DROP_EXPIRED,        /* TTL */
	UDP_DROP_NO_PEER,        /* out: nobody has this subnet */
	UDP_DROP_BAD_VNET,       /* out: see segment_init() */
	UDP_DROP_TOO_LARGE,      /* out: fits no datagram */
	UDP_DROP_SEND,           /* out: refused by the kernel (no route, firewall, ...) */
	UDP_DROP_SEND_BUFFER,    /* out: the socket's buffer is full */
	UDP_DROP_UNKNOWN_SENDER, /* in: from no peer */
	UDP_DROP_WRONG_SOURCE,   /* in: not from the sender's subnet */
	UDP_DROP_WRITE,          /* in: refused by the device (down, ...) */
	UDP_DROP_OVERFLOW,       /* in: the socket's buffer was full (SO_RXQ_OVFL) */
	UDP_DROP_COUNT,
};

/* How a datagram went out or came in; inner packets per system call are packets/calls. */
enum udp_rung {
	UDP_RUNG_OUT_USO,  /* read from the device as a super-packet of UDP */
	UDP_RUNG_OUT_TSO,  /* as one of TCP */
	UDP_RUNG_OUT_ONE,  /* single */
	UDP_RUNG_SEND_GSO, /* sent with UDP_SEGMENT */
	UDP_RUNG_SEND_ONE, /* by itself */
	UDP_RUNG_RECV_GRO, /* received in a batch of UDP_GRO */
	UDP_RUNG_RECV_ONE, /* by itself */
	UDP_RUNG_IN_USO,   /* written to the device merged, UDP */
	UDP_RUNG_IN_TSO,   /* merged, TCP */
	UDP_RUNG_IN_ONE,   /* by itself */
	UDP_RUNG_COUNT,
};

#define UDP_SIZE_CLASSES 6 /* inner packets of up to 128, 256, 512, 1024, 1500 bytes, more */

struct udp_counters {
	uint64_t out_packets, out_bytes; /* inner ones, sent */
	uint64_t in_packets, in_bytes;   /* inner ones, written to the device */
	uint64_t out_calls, in_calls;    /* system calls that carried packets */
	uint64_t unreachable;            /* ICMP sent back */
	uint64_t demoted;                /* times that a rung was left */
	uint64_t drop[UDP_DROP_COUNT];
	uint64_t rung[UDP_RUNG_COUNT]; /* inner packets */
	uint64_t out_size[UDP_SIZE_CLASSES], in_size[UDP_SIZE_CLASSES];
};

struct udp_path;

struct udp_path_events {
	/* The device has gone, or packets cannot be carried for another reason: start again
	 * when it is back. Once; on the loop. */
	void (*lost)(const char *why, void *userdata);
	/* A rung was left, in words: for one line in the log. On the loop. */
	void (*demoted)(const char *what, void *userdata);
	/* Datagrams are refused by the kernel and lost, in words: for one line in the log. Once a
	 * minute at most. On the loop. */
	void (*unsent)(const char *what, void *userdata);
	void *userdata;
};

/* Attaches to the device, binds the socket, probes what the kernel can, and starts the
 * threads. @peers (copied) are known from the first packet on. -EADDRINUSE: the port is taken;
 * -EBUSY: the device is in use; others with words. */
int udp_path_start(struct loop *loop, const struct udp_path_settings *settings,
		   const struct udp_peer *peers, size_t n, const struct udp_path_events *events,
		   struct udp_path **ret_path, struct err *err);
/* Ends the threads, and what they hold. The device stays. NULL: nothing. */
void udp_path_stop(struct udp_path *path);

/* In force for packets from now on. @peers is copied. */
void udp_path_set_peers(struct udp_path *path, const struct udp_peer *peers, size_t n);
/* A look while it runs: each number by itself is right, their sum may be a packet off. */
void udp_path_get_counters(const struct udp_path *path, struct udp_counters *ret_counters);
/* "tun: TSO, USO; send: UDP_SEGMENT; receive: UDP_GRO; 1 thread", for the log. */
const char *udp_path_describe(const struct udp_path *path);

/* Names of the counters, for people and for /metrics. */
const char *udp_drop_name(enum udp_drop drop);
const char *udp_rung_name(enum udp_rung rung);
