/* SPDX-License-Identifier: Apache-2.0 */
/* dir_internal.h - the directory store's insides, shared by dir.c (watching, config,
 * life), dir_records.c (other hosts' records) and dir_own.c (this host's record)
 */
#pragma once

#include "store/claim.h"
#include "store/store.h"

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#define DIR_LEASE_TIME_S      86400
#define DIR_CLOCK_TOLERANCE_S 5
#define DIR_IO_RETRY_MS       2000     /* first delay before what could not be read is read again */
#define DIR_TEMP_PREFIX       ".weft-" /* files in the making */

struct dir {
	struct store store; /* first */
	char *path;         /* DIR; owned */
	int subnets_fd;     /* DIR/subnets; -1: away */
	int inotify_fd, clock_fd;
	int config_watch, subnets_watch; /* -1: not watched */
	struct event *inotify_event, *clock_event;
	struct event *retry_timer;  /* something is away: connect again */
	struct event *list_timer;   /* list again */
	struct event *expiry_timer; /* earliest deadline of a peer */
	struct event *renew_timer;
	int64_t retry_ms;
	int64_t expiry_ms;          /* when expiry_timer fires; 0: not armed */
	int64_t confirm_ms;         /* a list before this time confirms no doubt; 0: no doubt */
	int64_t list_due_ms;        /* when list_timer fires; 0: not armed */
	bool list_names_only;       /* what list_timer is to do */
	bool listed;                /* the peer table was complete once */
	bool list_needed;           /* nothing was listed since the directory was opened */
	bool synced;                /* and the owner knows it */
	char problem[ERR_TEXT_MAX]; /* last reported; "": none */
	bool reopened;              /* it was away: the next list may be half of the truth */
	size_t unreadable;          /* records that could not be read since the last full list */
	char unreadable_why[160];   /* the first of them */
	int64_t unreadable_retry_ms;
	char *config; /* last text reported */

	struct dir_grave *graves; /* leases that ended here, by key */

	bool acquiring; /* a lease was asked for */
	bool has_own;
	struct ip_net own[IP_FAMILY_COUNT]; /* subnets of our lease */
	char own_key[LEASE_KEY_MAX];        /* "": none */
	struct lease own_written;           /* public IPs that our record was last given */
	int64_t own_expires_s;              /* 0: a reservation */
	struct claim claim;                 /* what the owner asks for */
};

/* dir.c */
int64_t dir_wall_now_s(void);
/* Reports a problem, or with NULL that there is none any more. */
void dir_set_problem(struct dir *d, const char *problem);
/* Connects again after a jittered, growing delay. */
void dir_retry_later(struct dir *d);
/* Both: reports, and connects again later. */
void dir_failed(struct dir *d, const char *problem);

/* dir_records.c */
/* Reads one record. -ENOENT when it has gone; -EINVAL when it is none. */
int dir_read_record(const struct dir *d, const char *key, struct lease *ret_lease, struct err *err);
/* One record into the peer table. @live: it was written just now; @complain: say what
 * is wrong with it. 0, or -errno: the peer is then what it was. */
int dir_load_record(struct dir *d, const char *key, bool live, bool complain);
/* Lists the directory into the peer table, and again later. 0 or -errno. */
int dir_list(struct dir *d, bool names_only);
void dir_list_later(struct dir *d, int64_t ms, bool names_only);
void dir_free_graves(struct dir *d);
/* Timer callback, @dir is a struct dir. */
void dir_on_expiry(void *dir);

/* dir_own.c */
/* Gets a lease, or schedules another try. 0 or -errno. */
int dir_own_acquire(struct dir *d);
/* Publishes what is to be published now under the lease that we have. */
void dir_own_publish(struct dir *d);
/* store_ops.find_own */
bool dir_find_own(struct store *store, const struct lease *attrs, struct lease *ret_own);
/* Compares our record with what we publish, and puts it right. 0, or -errno when that
 * failed; it will be tried again. */
int dir_own_check(struct dir *d);
/* The same, and renews the lease when it is due. */
int dir_own_keep(struct dir *d);
/* Timer callback, @dir is a struct dir. */
void dir_own_renew(void *dir);
