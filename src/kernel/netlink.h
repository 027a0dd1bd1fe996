/* SPDX-License-Identifier: Apache-2.0 */
/* netlink.h - netlink sockets: request, dump, batch, monitor (over libmnl)
 *
 * Message encoders and decoders live in link.h, addr.h, route.h, neigh.h and are
 * pure; this file is the only one that sends and receives.
 */
#pragma once

#include "base/err.h"

#include <libmnl/libmnl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct netlink;

/* @bus is NETLINK_ROUTE or NETLINK_NETFILTER. Returns 0 or -errno. */
int netlink_open(int bus, struct netlink **ret_nl, struct err *err);
void netlink_close(struct netlink *nl);

/* Sends @msg (sequence number and flags NLM_F_REQUEST|NLM_F_ACK are filled in) and
 * waits for the kernel's answer. @on_message, when given, gets what is answered
 * before the acknowledgement. Returns 0 or the kernel's -errno; the error has the
 * kernel's own words (extended ack) where it gave some. */
typedef void (*netlink_message_fn)(const struct nlmsghdr *msg, void *userdata);
int netlink_request(struct netlink *nl, struct nlmsghdr *msg, netlink_message_fn on_message,
		    void *userdata, struct err *err);

/* Sends @msg as a dump and calls @on_message for each object. -EINTR when the
 * kernel says that the dump was inconsistent (NLM_F_DUMP_INTR): dump again. */
int netlink_dump(struct netlink *nl, struct nlmsghdr *msg, netlink_message_fn on_message,
		 void *userdata, struct err *err);

/* A batch: many messages in one send. Only failures are answered, each of them
 * reaches @on_failure with the token of its message. */
struct netlink_batch;
typedef void (*netlink_failure_fn)(uint32_t token, int error, const char *text, void *userdata);

struct netlink_batch *netlink_batch_new(void);
void netlink_batch_free(struct netlink_batch *batch);
/* Room for one message of up to NETLINK_MESSAGE_MAX bytes, zeroed; NULL when the
 * batch is full. The caller encodes the message there, then commits it. */
#define NETLINK_MESSAGE_MAX 512
void *netlink_batch_room(struct netlink_batch *batch);
void netlink_batch_commit(struct netlink_batch *batch, const struct nlmsghdr *msg, uint32_t token);
/* The same for a message that never answers, the frame of an nftables transaction: also
 * a full batch has room for its end. Its failure is that of the whole batch. */
void *netlink_batch_frame_room(struct netlink_batch *batch);
void netlink_batch_commit_frame(struct netlink_batch *batch, const struct nlmsghdr *msg);
/* Forgets what was committed. */
void netlink_batch_reset(struct netlink_batch *batch);
/* Sends what was committed, reports failures, empties the batch. 0, or -errno when
 * the whole batch's fate is unknown. */
int netlink_batch_send(struct netlink *nl, struct netlink_batch *batch,
		       netlink_failure_fn on_failure, void *userdata, struct err *err);

/* A monitor: joins multicast groups, never blocks. */
int netlink_monitor_open(int bus, const int *groups, size_t n_groups, struct netlink **ret_nl,
			 struct err *err);
int netlink_fd(const struct netlink *nl);
/* Reads what is queued, calls @on_message for each notification. 0; -ENOBUFS when
 * the kernel dropped some (dump again); other -errno. */
int netlink_monitor_drain(struct netlink *nl, netlink_message_fn on_message, void *userdata);
