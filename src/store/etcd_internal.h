/* SPDX-License-Identifier: Apache-2.0 */
/* etcd_internal.h - the etcd store's insides, shared by etcd.c (connection, config),
 * etcd_config.c, etcd_peers.c (the other hosts' records), etcd_own.c (this host's
 * record) and etcd_lease.c (what keeps it alive)
 */
#pragma once

#include "store/claim.h"
#include "store/etcd.h"
#include "store/etcd_api.h"
#include "store/senseless.h"
#include "store/vanished.h"

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#define ETCD_LEASE_TIME_S 86400
#define OWN_IPS           4
#define OWN_PATH_MAX      (sizeof(ETCD_SUBNETS_DIR) + LEASE_KEY_MAX)

/* What is known of our key. */
enum own_seen {
	OWN_UNKNOWN, /* it is there, its revision and etcd lease are to be asked for */
	OWN_ABSENT,
	OWN_PENDING, /* we have written it; the watch or a list will tell */
	OWN_PRESENT,
};

struct etcd_own {
	bool wanted;  /* a lease was asked for */
	bool calling; /* a call of ours is in flight */
	struct claim claim;
	char key[LEASE_KEY_MAX]; /* "": none chosen */
	struct ip_net subnet[IP_FAMILY_COUNT];
	enum own_seen seen;
	/* of the key, as last seen */
	struct lease record;
	bool readable;
	char *value;
	int64_t revision, record_lease;
	int64_t created;
	bool verifying; /* is it still the one that we know? */
	bool newborn;   /* seen in order by the watch: who was there before us comes first */

	int64_t lease;      /* the etcd lease that we keep alive; 0: none */
	int64_t lost_lease; /* the last one that etcd did not know any more */
	int64_t granted;    /* the last one that we made ourselves */
	bool fresh;         /* it was granted just now, and nothing was written under it yet */
	int64_t expires_ms; /* loop_now_ms(); 0: not known */
	unsigned tries;     /* subnets lost to others in a row */
	/* Which of our requests etcd has, and which one was in the write that was sent last. */
	unsigned asked, written, sent;
	/* Public IPs that our record was given of late, whether the write got there or not. */
	struct ip published[OWN_IPS][IP_FAMILY_COUNT];
	unsigned n_published;
	int64_t rewritten_ms; /* when we last undid a change of others; 0: never */
	int64_t rewrite_wait_ms;
	int64_t retry_ms;
	bool reserved; /* without an etcd lease when it was told */
	bool told;     /* the owner knows told_subnet */
	bool deleted;  /* and that its key is not there */
	struct ip_net told_subnet[IP_FAMILY_COUNT];
	struct event *timer; /* renew, or try again */
};

static_assert(ETCD_ENDPOINTS_MAX <= 32, "struct etcd: said_lost has a bit for each");

struct etcd {
	struct store store; /* first */
	struct etcd_link link;
	struct etcd_api *api;      /* in use */
	struct etcd_api *v2;       /* asked for a config while v3 has none; NULL: not now */
	bool chosen;               /* which api it is has been settled and said */
	bool v2_answered;          /* it has no config either */
	struct event *retry_timer; /* connect */
	struct event *ready_timer; /* the watch does not come */
	struct event *probe_timer; /* is etcd alive? */
	struct event *list_timer;  /* list again */
	struct event *v2_timer;    /* ask v2 for a config again */
	int64_t retry_ms;
	bool usable;  /* this connection has answered: calls for our record make sense */
	bool live;    /* the watch stands */
	bool resumed; /* the watch goes on where an earlier one ended */
	int64_t live_since_ms;
	bool was_live;       /* since the failure that was last told */
	uint32_t said_lost;  /* bit n: endpoint n has failed since, and it was said */
	bool said_connected; /* likewise, since it was lost after a steady time */
	bool listed;         /* the peer table was complete once */
	bool list_needed;    /* nothing to resume from */
	bool suspect;        /* the next list may be half of the truth */
	bool own_listed;
	bool getting;   /* the config is being asked for: one get at a time */
	int64_t cursor; /* next revision to hear of */
	uint64_t cluster;
	size_t n_keys;       /* below subnets/ */
	unsigned miscounted; /* probes in a row that counted otherwise */
	char *config;        /* last text told */
	size_t config_len;
	int64_t config_revision;      /* of what is known of it; older news is none */
	struct etcd_kv listed_config; /* of the list that is being read; owns `value` */
	struct vanished vanished;     /* deleted keys */
	struct senseless senseless;   /* those that cannot be read */
	bool synced;
	char link_problem[ERR_TEXT_MAX], config_problem[ERR_TEXT_MAX], own_problem[ERR_TEXT_MAX];
	char told[ERR_TEXT_MAX]; /* the problem that the owner knows; "": none */
	struct etcd_own own;
};

/* ---- etcd.c ---- */

/* The endpoint has failed: connects anew, to the next one. */
void etcd_lost(struct etcd *e, const struct etcd_reply *reply);
/* There is reason to doubt that the data is that of before: lists everything. */
void etcd_list_suspect(struct etcd *e);
/* The first of link_problem, config_problem and own_problem that is set is told. */
void etcd_tell_problem(struct etcd *e);
/* Everything is settled for the first time. */
void etcd_tell_synced(struct etcd *e);

/* ---- etcd_config.c ---- */

/* The value of @kv, with a NUL behind it. Caller frees. */
char *etcd_config_copy(const struct etcd_kv *kv);
/* The config is this. */
void etcd_config_take(struct etcd *e, const struct etcd_kv *kv);
/* There is none: it is waited for, or the last good one stays. */
void etcd_config_lack(struct etcd *e);
void etcd_config_ask_v2(void *userdata); /* a struct etcd */

/* ---- etcd_peers.c ---- */

/* One key below subnets/, not our own, to the peer table. */
void etcd_peers_take(struct etcd *e, const char *name, const struct etcd_kv *kv);
/* The same, read already; takes over the strings of @lease. */
void etcd_peers_put(struct etcd *e, const char *name, struct lease *lease);
void etcd_peers_on_vanished(void *userdata);                                 /* a struct etcd */
void etcd_peers_tell_senseless(size_t n, const char *names, void *userdata); /* senseless_fn */

/* ---- etcd_own.c ---- */

void etcd_own_init(struct etcd *e);
void etcd_own_done(struct etcd *e);
/* What the host asks for is new. */
void etcd_own_want(struct etcd *e, const struct store_request *request);
bool etcd_own_find(const struct etcd *e, const struct lease *attrs, struct lease *ret_own);
bool etcd_own_is_key(const struct etcd *e, const char *name);
/* Our key as a list has it; all of them count. */
void etcd_own_listed(struct etcd *e, const struct etcd_kv *kv);
/* Our key is not there, as of @revision. */
void etcd_own_missing(struct etcd *e, int64_t revision);
/* The watch tells of our key. */
void etcd_own_put(struct etcd *e, const struct etcd_kv *kv);
void etcd_own_gone(struct etcd *e, int64_t revision);
/* The watch goes on where it ended: our record is read once more. When it is another one, or
 * none, the data may not be that of before, whatever cluster id and revision say (etcd wiped
 * and filled again has the same id). */
void etcd_own_verify(struct etcd *e);
/* Calls in flight have been dropped. */
void etcd_own_dropped(struct etcd *e);
/* Does the next thing that brings our record to what it should be. */
void etcd_own_step(struct etcd *e);
/* Whether an answer to a call of ours says something: otherwise etcd is lost, or the call is
 * tried again later, and that is arranged. */
bool etcd_own_answered(struct etcd *e, const struct etcd_reply *reply);
/* Our key is as @reply says. */
void etcd_own_see_answer(struct etcd *e, const struct etcd_reply *reply);
void etcd_own_retry_later(struct etcd *e, const char *problem);
/* Our key below the prefix, into @buf, which is returned. */
const char *etcd_own_path(const struct etcd_own *own, char buf[OWN_PATH_MAX]);
/* All is as it should be. */
void etcd_own_settle(struct etcd *e);
/* Whether the record says what we want it to say. */
bool etcd_own_is_as_wanted(const struct etcd_own *own);

/* ---- etcd_lease.c ---- */

/* Asks for an etcd lease; a step follows. */
void etcd_lease_grant(struct etcd *e);
/* etcd does not know our lease any more. */
void etcd_lease_lose(struct etcd_own *own);
/* The record is as it should be: renews the lease now, or in time. */
void etcd_lease_keep(struct etcd *e);
