/* SPDX-License-Identifier: Apache-2.0 */
/* kube_internal.h - the Kubernetes store's insides, shared by kube.c (life, problems),
 * kube_access.c (the flags), kube_conf.c (net-conf.json), kube_link.c, kube_list.c and
 * kube_watch.c (what is told of all nodes), kube_peers.c (the others), kube_own.c and
 * kube_publish.c (our node)
 */
#pragma once

#include "store/claim.h"
#include "store/kube.h"
#include "store/kube_api.h"
#include "store/kube_node.h"
#include "store/senseless.h"
#include "store/vanished.h"

#include <stdbool.h>
#include <stdint.h>

#define KUBE_NODES          "/api/v1/nodes"
#define KUBE_ELEMENT_MAX    (8u << 20) /* a server takes objects of 3 MB at most */
#define KUBE_CALL_MS        10000      /* of one object */
#define KUBE_RETRY_FIRST_MS 800
#define KUBE_RETRY_MAX_MS   30000
#define KUBE_STEADY_MS      10000 /* a watch that stood for so long ends a round of tries */

/* What grows with each failure. */
struct kube_retry {
	int64_t next_ms; /* 0: KUBE_RETRY_FIRST_MS */
};

/* kube_conf.c: net-conf.json and the directory it is in. */
struct kube_conf {
	int inotify_fd; /* -1: none */
	int watch;      /* -1: none */
	struct event *inotify_event;
	struct event *timer; /* read it */
	int64_t retry_ms;
	char *text; /* last good; NULL: none yet */
	size_t len;
	bool released; /* it may be told */
	bool told;     /* and was */
};

/* kube_link.c, kube_list.c, kube_watch.c */
enum kube_phase {
	KUBE_IDLE, /* not asked yet, or waiting for the next try */
	KUBE_LISTING,
	KUBE_COMPARING, /* does the server still know what we know? */
	KUBE_WATCHING,
};

struct kube_link {
	enum kube_phase phase;
	struct kube_call *call;
	struct json_stream *stream;
	struct err failure;        /* of the stream that is being read; "": none */
	int failed;                /* -errno of it; -ESTALE: the history is gone */
	unsigned failed_wait_ms;   /* that an ERROR event asked for */
	struct event *retry_timer; /* connect */
	struct event *list_timer;  /* list again */
	struct event *probe_timer; /* is the watch alive? */
	struct kube_call *probe;
	struct kube_retry retry;
	bool alone;    /* only our own node is of interest */
	bool started;  /* there is a list, or will be */
	bool listed;   /* one was complete */
	bool again;    /* nothing to resume from */
	bool suspect;  /* the next list may be half of the truth */
	bool doubt;    /* the watch did not end by itself: the server may have been restored */
	bool was_live; /* since the failure that was last told */
	bool own_listed;
	bool has_garbage; /* the watch was unreadable, once */
	char *cursor;     /* resourceVersion; NULL: none */
	uint64_t newest;  /* heard of in any way: answers may be ahead of the watch */
	char *next;       /* of the list, percent-encoded; NULL: from its beginning */
	char *first;      /* the first page's resourceVersion */
	int64_t live_since_ms, heard_ms;
	uint64_t behind; /* our node's resourceVersion that the watch has not told; 0: none */
};

/* kube_peers.c */
struct kube_known;

struct kube_peers {
	struct kube_known *table; /* by name */
	uint32_t list;            /* the open list, or the last one */
	size_t n_asked;           /* nodes whose podCIDR is to be asked for */
	struct kube_call *call;   /* asks for one */
	char asked[KUBE_NAME_MAX];
	uint64_t asked_version; /* that was known of it then */
	struct event *timer;    /* ask again */
	struct kube_retry retry;
	int64_t not_before_ms;    /* after a failure; 0: now */
	struct vanished vanished; /* nodes that are not flannel's any more */
	struct senseless senseless;
};

/* kube_own.c, kube_publish.c */
struct kube_own {
	char *name; /* NULL: to be asked for */
	bool begun;
	bool wanted; /* a lease was asked for */
	bool up;     /* pods may run here: the condition may say so */
	struct claim claim;
	struct kube_node node; /* as last seen; no name: not yet */
	bool absent;           /* it is not there, and that was said */
	bool get_needed;
	bool looking;         /* for a podCIDR, with the timer */
	int64_t get_after_ms; /* not before */
	struct kube_call *call;
	bool overtaken;      /* the watch has told more since the call began */
	struct event *timer; /* step */
	struct kube_retry retry;
	int64_t not_before_ms;        /* after a failure; 0: now */
	unsigned asked, served, sent; /* of the owner's requests: the last, which our node has,
					 which was in the last patch */
	int64_t rewritten_ms;         /* when we last undid a change of others; 0: never */
	int64_t rewrite_wait_ms;
	char failure[ERR_TEXT_MAX]; /* of a call; "": none */
	char fight[ERR_TEXT_MAX];   /* who undoes what we write; "": nobody */
	bool published;             /* our node has said what it is to say, once */
	bool told;                  /* the owner knows told_subnet */
	struct ip_net told_subnet[IP_FAMILY_COUNT];
	struct ip told_public_ip[IP_FAMILY_COUNT], overwrite[IP_FAMILY_COUNT];
	char complaint[ERR_TEXT_MAX]; /* the last about an admin's annotation; "": none */
};

struct kube {
	struct store store; /* first */
	const struct kube_settings *settings;
	struct kube_api *api;
	struct kube_keys keys;
	struct kube_conf conf;
	struct kube_link link;
	struct kube_peers peers;
	struct kube_own own;
	bool synced;
	char link_problem[ERR_TEXT_MAX], config_problem[ERR_TEXT_MAX], own_problem[ERR_TEXT_MAX],
		peers_problem[ERR_TEXT_MAX];
	char told[ERR_TEXT_MAX]; /* the problem that the owner knows; "": none */
};

/* ---- kube.c ---- */

/* Sets one of the problems above ("": none), and tells the first that is set. */
void kube_set_problem(struct kube *k, char problem[ERR_TEXT_MAX], const char *text);
/* Everything is settled for the first time. */
void kube_tell_synced(struct kube *k);
/* How long to wait after a failure: at random up to a limit that doubles, and @least_ms. */
int64_t kube_retry_wait_ms(struct kube_retry *retry, unsigned least_ms);
/* A resourceVersion as a number, 0: it is none. They are opaque, but of one history those
 * of a server that counts (all do, and Kubernetes 1.35 promises it) can be compared. */
uint64_t kube_version(const char *text);
/* "/api/v1/nodes/NAME" and @rest. Caller frees. */
char *kube_node_path(const char *name, const char *rest);

/* ---- kube_access.c ---- */

int kube_access_find(const struct kube_settings *settings, struct kube_access *ret_access,
		     struct err *err);

/* ---- kube_conf.c ---- */

void kube_conf_init(struct kube *k);
void kube_conf_start(struct kube *k);
/* What our node says is known: the config may be told. */
void kube_conf_release(struct kube *k);
void kube_conf_done(struct kube *k);

/* ---- kube_link.c ---- */

void kube_link_init(struct kube *k);
/* A lease was asked for: families and backend are known. */
void kube_link_want(struct kube *k);
void kube_link_done(struct kube *k);
/* Goes on where it ended, with whichever call that needs. @userdata is a struct kube. */
void kube_link_connect(void *userdata);
void kube_link_hang_up(struct kube *k);
/* What is under way has failed: it is tried again later, after @least_ms at the least. */
void kube_link_lost(struct kube *k, const char *why, unsigned least_ms);
/* Nothing to resume from: lists again in a moment. */
void kube_link_forget_history(struct kube *k, const char *why);
/* The API answers. */
void kube_link_alive(struct kube *k);
/* The stream that is being read makes no sense, or says that it has ended: looked at when
 * the piece has been read. */
void kube_link_fail_stream(struct kube_link *link, int code, const char *why);
/* This resourceVersion was heard of. */
void kube_link_note_version(struct kube_link *link, const char *version);
/* "/api/v1/nodes?" and @query. Caller frees. */
char *kube_link_path(const struct kube *k, const char *query);
/* Percent-encoded. Caller frees. */
char *kube_link_encode(const char *text);
/* The member's text; NULL: none. Caller frees. */
char *kube_link_string(struct json_slice object, const char *path);
/* Frees the one that was there; takes over @text. */
void kube_link_set_text(char **member, char *text);

/* ---- kube_list.c ---- */

void kube_list_start(struct kube *k);
/* An object that does not read as a node may have a name for all that: unreadable is not
 * gone. */
void kube_list_take_unreadable(struct kube *k, struct json_slice object, const struct err *err);

/* ---- kube_watch.c ---- */

void kube_watch_start(struct kube *k);
void kube_watch_probe(void *userdata); /* a struct kube */

/* ---- kube_peers.c ---- */

void kube_peers_init(struct kube *k);
void kube_peers_list_begin(struct kube *k);
/* Nodes that the list lacked are forgotten; how many peers are doubted (peers.h). */
size_t kube_peers_list_end(struct kube *k);
/* A node, not our own, as a list, the watch or a GET tells of it. */
void kube_peers_take(struct kube *k, struct kube_node *node, bool listed);
/* Listed, but unreadable. */
void kube_peers_keep(struct kube *k, const struct kube_node *node);
void kube_peers_delete(struct kube *k, const struct kube_node *node);
/* Of an object that makes no sense; @name "": it has none. @why names it. */
void kube_peers_complain(struct kube *k, const char *name, const char *why);
void kube_peers_done(struct kube *k);

/* ---- kube_own.c ---- */

void kube_own_init(struct kube *k);
void kube_own_start(struct kube *k);
/* What the host asks for is new. */
void kube_own_want(struct kube *k, const struct store_request *request);
void kube_own_up(struct kube *k);
bool kube_own_find(const struct kube *k, struct lease *ret_own);
bool kube_own_is(const struct kube *k, const char *name);
/* Our node as a list or the watch tells of it. Its strings are taken over. */
void kube_own_take(struct kube *k, struct kube_node *node);
/* A list is complete, and our node is not in it, or is perhaps not the one that we know. */
void kube_own_doubt(struct kube *k);
void kube_own_deleted(struct kube *k, const struct kube_node *node);
/* Does the next thing that brings our node to what it should be. */
void kube_own_step(struct kube *k);
void kube_own_done(struct kube *k);

/* ---- kube_publish.c ---- */

/* The node is what is there now: tells what an admin wants of us. */
void kube_publish_see_wishes(struct kube *k);
/* Our subnet, checked; -EAGAIN: there is none yet; -EINVAL: not that one. */
int kube_publish_subnet(const struct kube *k, struct ip_net ret_subnet[IP_FAMILY_COUNT],
			struct err *err);
/* What our node is to say. Caller calls lease_done(). */
struct lease kube_publish_lease(const struct kube *k, const struct ip_net subnet[IP_FAMILY_COUNT]);
/* Undoing what others do to our node is not a race: the wait grows. */
bool kube_publish_may_rewrite(struct kube *k);
