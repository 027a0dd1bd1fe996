/* SPDX-License-Identifier: Apache-2.0 */
/* internal.h - the reconciler's insides, shared by reconciler.c, device.c, observe.c
 * and program.c
 */
#pragma once

#include "reconcile/reconciler.h"
#include "reconcile/set.h"

struct device {
	char name[IFNAMSIZ]; /* "": the slot is free */
	bool managed;        /* ours: created and removed by us; false: the uplink */
	bool wanted;
	bool confirmed; /* was as wanted: a difference now is drift */
	bool checked;   /* nothing has changed since the last look */
	struct link want;
	int tx_checksum;     /* 1 on, 0 off, -1 as it is */
	uint16_t fou_port;   /* that was opened for it; 0: none */
	int64_t fou_look_ms; /* when to see whether it is still open: nothing tells */
	bool has_seen;
	bool stale; /* a notification says that `seen` may be out of date */
	struct link seen;
	unsigned failures;
	int64_t retry_ms; /* not before; 0: at once */
	bool has_filter;
	struct nft_set filter; /* its peer set, when it exists */
};

struct reconciler {
	struct loop *loop;
	struct reconciler_events events;
	struct netlink *nl;      /* requests */
	struct netlink *monitor; /* notifications */
	struct netlink *nft;     /* the same of nftables; NULL while no device has a filter */
	struct netlink *nft_monitor;
	struct event *nft_event;
	struct event *monitor_event;
	struct event *run_timer;      /* work to do */
	struct event *retry_timer;    /* something failed */
	struct event *backstop_timer; /* full dump from time to time */

	struct set set;
	struct device device[DEVICE_MAX];
	char names[DEVICE_MAX][IFNAMSIZ]; /* for messages */
	struct diff_claims claims;

	struct netlink_batch *batch;
	struct item **inflight; /* items of the batch, by token */
	int *codes;             /* and what the kernel said */
	size_t n_inflight, cap_inflight;

	bool started; /* kicked once */
	bool may_remove;
	bool need_dump;
	bool settled;
	struct entry conflict;  /* of owners of different mind, the first */
	bool conflict_logged;   /* and it was said */
	bool raced;             /* the last batch met a kernel that had changed: not settled yet */
	int64_t drift_since_ms; /* first drift that is not yet repaired; 0: none */
	size_t drifted_devices;
	uint64_t repairs;
	unsigned log_budget; /* lines that may still be written in this window */
	unsigned log_hidden;
	int64_t log_window_ms;
	char failure[ERR_TEXT_MAX];
};

/* device.c */
uint8_t device_by_ifindex(const struct reconciler *r, int ifindex);
/* Present and up: entries can stand on it. DEVICE_NONE always is. */
bool device_is_ready(const struct reconciler *r, uint8_t slot);
/* A notification about a device: marks ours for device_refresh_stale(). */
void device_on_link(struct reconciler *r, const struct link *link, bool is_gone);
/* Asks the kernel for the device of @slot. */
void device_refresh(struct reconciler *r, uint8_t slot);
void device_refresh_stale(struct reconciler *r);
/* Asks the kernel for every device by name. */
void device_refresh_all(struct reconciler *r);
/* Creates and changes; next_retry_ms is lowered to the earliest retry. Whether it
 * changed anything: then there are notifications to read before entries are set. */
bool device_pass(struct reconciler *r, int64_t *next_retry_ms);
/* Removes unwanted devices. */
void device_remove_pass(struct reconciler *r);

/* observe.c */
void observe_message(const struct nlmsghdr *msg, void *reconciler);
void observe_nft_message(const struct nlmsghdr *msg, void *reconciler);
/* Reads everything anew. 0, or -errno: what was known stays. */
int observe_dump(struct reconciler *r, struct err *err);

/* program.c */
/* Sends one batch of differences (of peer sets; of everything else). Whether there may
 * be more to send. */
bool program_filter_batch(struct reconciler *r);
bool program_batch(struct reconciler *r);
/* Tells the owner when peers of a tunnel have changed. */
void program_tunnels(struct reconciler *r);

/* reconciler.c */
/* Another's hand changed what was as wanted. */
void reconciler_note_drift(struct reconciler *r);
/* Logs a failure that will be tried again in @retry_ms, within limits. */
void reconciler_log_failure(struct reconciler *r, const char *what, const char *why,
			    int64_t retry_ms);
/* Delay before try number @failures + 1 of one object: 10 ms growing to 30 s. */
int64_t reconciler_backoff_ms(unsigned failures);
