/* SPDX-License-Identifier: Apache-2.0 */
/* coalesce.h - from single packets to what the tun device takes in one write
 *
 * Theory of operation. Packets of a burst are added in the order of their arrival. Those
 * of one TCP (or UDP) flow that continue each other become a run, which is written as one
 * super-packet: a vnet header, the first packet in place, the payloads of the others. The
 * rules are those of the kernel's GRO (tcp_gro_receive(), inet_gro_receive(),
 * udp_gro_receive()), so that splitting the super-packet again gives the same bytes. A run
 * of one is written as it came. Order inside a flow is kept, but for an ACK without payload:
 * it does not end a run, and data that continues the run may come out before it. Several
 * runs are open at a time, and all of them end with the burst.
 *
 * A merged packet's checksum is not looked at again by anybody. So only packets that are
 * vouched for are merged without a look (an outer checksum was verified by the kernel);
 * of others the transport checksum is verified first, and one that is wrong is written as
 * it came, for the kernel to drop.
 *
 * Packets are borrowed, and their headers may be changed, until coalesce_flush().
 */
#pragma once

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define COALESCE_RUNS     8
#define COALESCE_SEGMENTS 64 /* of a run: more would rarely fit 64 KB */

/* Takes one super-packet: @iov[0] is the vnet header. May be called by coalesce_add() for
 * a run that has to make room. */
typedef void (*coalesce_write_fn)(const struct iovec *iov, int n, void *userdata);

struct coalesce_run {
	bool open;          /* takes more */
	bool ipv4_id_steps; /* DF is clear: the identifications count up */
	uint8_t protocol;
	uint16_t header_len; /* IP and transport */
	uint16_t size;       /* payload of each but the last */
	uint16_t n;
	uint16_t last_id;
	uint32_t bytes; /* of the super-packet */
	uint32_t next_seq;
	uint32_t hash;                           /* of the flow, for a quick no */
	struct iovec iov[1 + COALESCE_SEGMENTS]; /* [0] vnet header */
	struct virtio_net_hdr vnet;
};

struct coalesce {
	coalesce_write_fn write;
	void *userdata;
	bool tcp, udp; /* what may be merged: what the device takes, TUN_F_TSO4, TUN_F_USO4 */
	unsigned n;    /* runs, oldest first */
	struct coalesce_run *run[COALESCE_RUNS]; /* order of arrival; point into store */
	struct coalesce_run store[COALESCE_RUNS];
};

void coalesce_init(struct coalesce *c, bool tcp, bool udp, coalesce_write_fn write, void *userdata);
/* @pkt has passed packet_hop(); @vouched: see above. */
void coalesce_add(struct coalesce *c, uint8_t *pkt, size_t len, bool vouched);
/* The burst is over: everything is written. */
void coalesce_flush(struct coalesce *c);
