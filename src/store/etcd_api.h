/* SPDX-License-Identifier: Apache-2.0 */
/* etcd_api.h - what the etcd store asks of etcd: one list of verbs, spoken in v3 and in v2
 *
 * An api speaks to one endpoint at a time (etcd_link.h says which) over a connection that
 * it makes when the first call needs one. Calls are answered from the loop, each exactly
 * once, unless hang_up() comes first. An answer's callback may hang up, and call again.
 * Credentials are the api's affair: it authenticates, and does so again when etcd has
 * forgotten it, without the caller noticing.
 */
#pragma once

#include "base/err.h"
#include "io/loop.h"
#include "store/etcd_link.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ETCD_CALL_TIMEOUT_MS 5000
#define ETCD_LIST_TIMEOUT_MS 30000
#define ETCD_CONFIG_KEY      "config"
#define ETCD_SUBNETS_DIR     "subnets/"

/* One key as etcd has it. Borrowed during a callback. */
struct etcd_kv {
	const char *key;   /* below the prefix: "config", "subnets/10.5.52.0-24" */
	const char *value; /* NUL-terminated after len bytes */
	size_t len;
	int64_t revision; /* of the last change: mod_revision, modifiedIndex */
	int64_t created;  /* create_revision, createdIndex */
	int64_t lease;    /* v3: the etcd lease's id; v2: 1 when it has a TTL; 0: stays for ever */
};

enum etcd_status {
	ETCD_OK,
	ETCD_CONFLICT,  /* a comparison failed: `kv` is what is there, NULL: nothing */
	ETCD_NO_LEASE,  /* the etcd lease has gone */
	ETCD_COMPACTED, /* the history asked for has gone: list again */
	ETCD_AWAY,      /* this endpoint does not answer as it should: try another one */
	ETCD_REFUSED,   /* it answers, and every other one would answer the same */
	ETCD_STATUS_COUNT,
};

struct etcd_reply {
	enum etcd_status status;
	const char *why;  /* in words, with what to do where that is known; NULL when ETCD_OK */
	int64_t revision; /* of the store when it answered; 0: not told */
	uint64_t cluster; /* id; 0: not told */
	int64_t lease;    /* grant: the new one */
	int64_t ttl_s;    /* grant, renew: from now */
	size_t count;     /* count: keys below subnets/ */
	const struct etcd_kv *kv; /* get, create and update on ETCD_CONFLICT, renew in v2 (its
				     new revision); NULL: no such key, or not told */
};
typedef void (*etcd_reply_fn)(const struct etcd_reply *reply, void *userdata);
typedef void (*etcd_kv_fn)(const struct etcd_kv *kv, void *userdata);

struct etcd_watch_events {
	/* The watch stands. reply->revision may be less than what was asked for: then the
	 * data is not that of before. */
	void (*ready)(const struct etcd_reply *reply, void *userdata);
	etcd_kv_fn put;
	/* Deleted or expired; `value` is "". */
	etcd_kv_fn gone;
	/* All that happened before @next was told: resume there. */
	void (*upto)(int64_t next, void *userdata);
	/* It has ended, for a reason. */
	etcd_reply_fn ended;
	void *userdata;
};

struct etcd_api;

/* A call in flight is named by its verb: one of each at a time. Keys are below the prefix. */
struct etcd_api_ops {
	const char *name; /* "v3", "v2" */
	bool has_count;
	/* The config and all below subnets/: @each for every key, then @done. */
	void (*list)(struct etcd_api *api, etcd_kv_fn each, etcd_reply_fn done, void *userdata);
	/* The same keys' changes, from revision @from on. */
	void (*watch)(struct etcd_api *api, int64_t from, const struct etcd_watch_events *events);
	void (*get)(struct etcd_api *api, const char *key, etcd_reply_fn done, void *userdata);
	/* An etcd lease of @ttl_s seconds (v2: only remembered, for create). */
	void (*grant)(struct etcd_api *api, int64_t ttl_s, etcd_reply_fn done, void *userdata);
	/* A key that is not there yet. reply->revision is its revision. */
	void (*create)(struct etcd_api *api, const char *key, const char *value, int64_t lease,
		       etcd_reply_fn done, void *userdata);
	/* A key that is unchanged since @revision. @lease 0: without one. */
	void (*update)(struct etcd_api *api, const char *key, const char *value, int64_t lease,
		       int64_t revision, etcd_reply_fn done, void *userdata);
	void (*remove)(struct etcd_api *api, const char *key, int64_t revision, etcd_reply_fn done,
		       void *userdata);
	/* A new term of the lease of @kv (in v2: of the key itself). */
	void (*renew)(struct etcd_api *api, const struct etcd_kv *kv, etcd_reply_fn done,
		      void *userdata);
	/* How many keys are below subnets/: a cheap question that shows whether etcd works. */
	void (*count)(struct etcd_api *api, etcd_reply_fn done, void *userdata);
	/* Drops the connection and every call; none is answered any more. */
	void (*hang_up)(struct etcd_api *api);
	void (*free)(struct etcd_api *api);
};

struct etcd_api {
	const struct etcd_api_ops *ops;
	struct loop *loop;
	struct etcd_link *link; /* the owner's */
};

struct etcd_api *etcd_v3_new(struct loop *loop, struct etcd_link *link);
struct etcd_api *etcd_v2_new(struct loop *loop, struct etcd_link *link);
