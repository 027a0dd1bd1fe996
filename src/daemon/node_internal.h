/* SPDX-License-Identifier: Apache-2.0 */
/* node_internal.h - the node's insides, shared by node.c (config, lease, life), node_backend.c
 * (uplink, backend), node_plan.c (what is wanted), node_filter.c, node_rules.c, node_tunnel.c,
 * node_metrics.c and node_file.c
 */
#pragma once

#include "backend/backend.h"
#include "daemon/node.h"
#include "model/peers.h"
#include "model/subnet_file.h"
#include "reconcile/reconciler.h"
#include "rules/peer_filter.h"
#include "rules/rules.h"
#include "store/etcd_link.h"
#include "store/kube.h"
#include "store/store.h"

/* The peer filter of one device. */
struct node_filter {
	uint8_t device; /* slot; DEVICE_NONE: unused */
	struct peer_filter filter;
	bool has_set;
	bool repaired; /* what was there before comes back: no news */
	char *listing; /* the table as nft lists it with the rule; NULL: no rule yet */
};

/* The data path of backend udp. */
struct node_tunnel {
	struct udp_path *path;             /* NULL: it does not run */
	struct udp_path_settings settings; /* that it runs with, or that were tried last */
	int ifindex;                       /* the same of its device */
	bool lost;                         /* it has said so: to be stopped */
	unsigned failures;                 /* in a row */
	int64_t started_ms, retry_ms;      /* since when it runs; not before, 0: at once */
	char problem[ERR_TEXT_MAX];        /* why it does not run; "": it does, or need not */
	struct event *timer;
	struct udp_counters before; /* of paths that were stopped */
};

struct node {
	struct loop *loop;
	const struct options *options;
	struct health *health;
	node_fatal_fn fatal;
	void *userdata;
	bool dead; /* fatal was called: nothing is done any more */

	struct store *store;
	struct etcd_settings etcd;        /* what `store` borrows */
	struct kube_settings kube;        /* likewise */
	char store_problem[ERR_TEXT_MAX]; /* "": none */
	struct peers *peers;
	struct reconciler *reconciler;
	struct event *uplink_timer; /* look at the uplink again */
	struct event *plan_timer;   /* plan anew, perhaps without the previous backend */
	struct event *file_timer;   /* write the subnet file again */
	struct event *filter_timer; /* look at the peer filters */

	char *config_place;  /* where the newest config is from */
	struct netconf conf; /* in force */
	bool has_conf;
	struct netconf next_conf; /* read, but not in force yet: there is no uplink */
	bool has_next_conf;
	char refused[ERR_TEXT_MAX]; /* what was refused last; "": nothing since */
	struct uplink uplink;
	bool has_uplink;
	struct ip public_ip[IP_FAMILY_COUNT]; /* that the store gives us; unset: none */
	char waiting_for[ERR_TEXT_MAX];       /* what about the uplink; "": nothing */
	struct backend backend;               /* in force */
	bool has_backend;
	struct backend previous; /* left, but some peers still publish it */
	bool has_previous;
	struct lease own;
	bool has_own;
	char unusable[ERR_TEXT_MAX]; /* the last record of a known peer that was refused */
	bool synced;                 /* the peer table is complete */

	struct node_tunnel tunnel;
	struct node_filter filter[2 * IP_FAMILY_COUNT];
	bool filter_failed; /* and it was said */

	struct rules *rules;          /* NULL: none were wanted yet, or another keeps them */
	int rules_lock;               /* abstract socket */
	int rules_owner;              /* another, whose name says for which network */
	char rules_of[IP_NET_STRLEN]; /* the network whose daemon keeps the rules; "": ours */
	struct event *rules_timer;    /* look again at what they need */
	bool rules_tried;             /* in force, or it is known why not */
	char rules_problem[ERR_TEXT_MAX], rules_notice[ERR_TEXT_MAX]; /* "": none */
	char bridge_problem[ERR_TEXT_MAX];
	char forwarding_problem[ERR_TEXT_MAX];
	struct event *forwarding_timer; /* try again */

	struct subnet_file old_file; /* found at the start */
	bool has_old_file;
	char *file_text;                 /* last written */
	char file_problem[ERR_TEXT_MAX]; /* why it could not be written; "": it could */
	int network_lock;                /* abstract socket */
	struct ip_net locked_network;
	int running_lock; /* abstract socket, from the start: --cleanup sees it */
};

/* node_backend.c */
/* Chooses node->uplink for the families of @conf, and says what is new. -EAGAIN: there is
 * none yet, which was said and is in health; -ENODEV: no such interface. */
int node_find_uplink(struct node *node, const struct netconf *conf, struct err *err);
/* The backend over node->uplink, with its device slots and MACs. The kernel is not
 * touched. */
int node_make_backend(struct node *node, const struct netconf *conf, struct backend *ret_backend,
		      struct err *err);
/* The alias of our devices in cluster network @network. */
void node_device_alias(const struct ip_net *network, char alias[LINK_ALIAS_MAX]);
/* Devices that an earlier run left, under another config, are ours to remove. */
void node_sweep_devices(struct node *node);
/* What this host publishes under @backend, without a subnet. Caller calls lease_done(). */
struct lease node_make_attrs(const struct backend *backend);

/* node_store.c */
/* Makes node->store as the flags say. 0 or an error for the person who gave them. */
int node_open_store(struct node *node, const struct store_events *events, struct err *err);

/* node_file.c */
/* Reads what the last run left, for its subnet and network. */
void node_file_read_old(struct node *node);
/* Writes the file once devices, routes and rules are there; then tells that we are ready. */
void node_file_write_when_ready(struct node *node);
/* Writes the file when it is not as it should be (the first one not before all of that is
 * there); tries again later when it cannot. Also a timer callback: @userdata is a struct
 * node. */
void node_file_write(void *userdata);

/* node_plan.c */
/* Devices, own entries and all peers are wanted anew. */
void node_plan_all(struct node *node);
/* The same for the first time: every peer of the first complete list is news. */
void node_plan_first(struct node *node);
/* peers_changed_fn; @userdata is a struct node */
void node_plan_peer(const char *key, const struct lease *before, const struct lease *after,
		    void *userdata);
/* peers_usable_fn; @userdata is a struct node */
bool node_plan_is_usable(const char *key, const struct lease *lease, void *userdata);
/* Wants the devices of the backend in force; gives up those of @before (NULL: none)
 * that it does not share. */
void node_plan_devices(struct node *node, const struct backend *before);
/* Gives up those devices of @before that no backend in use shares. */
void node_plan_give_up(struct node *node, const struct backend *before);
/* Gives up the previous backend when no peer publishes it any more. */
void node_plan_drop_previous(struct node *node);

/* node.c */
/* Takes the host-wide lock @name, an abstract socket that goes with the process however it
 * ends; -EADDRINUSE: another process has it. Caller closes *@ret_fd. */
int node_lock(const char *name, int *ret_fd, struct err *err);

/* node_rules.c */
/* Rules as config, flags and lease want them. Also a timer callback: @userdata is a struct
 * node. */
void node_rules_want(void *userdata);
/* The host must forward packets: sees to it. Cheap when it does. Also a timer callback: @userdata
 * is a struct node. */
void node_forwarding_check(void *userdata);

/* node_filter.c */
/* @device, as @link says, gets a peer filter (or, switched off, loses it). */
void node_filter_want(struct node *node, uint8_t device, const struct link *link);
/* The device goes; so does its filter. */
void node_filter_unwant(struct node *node, uint8_t device);
/* The sets are filled: the rules may drop. */
void node_filter_activate(struct node *node);
/* Somebody touched a table: restores what is not as it was. */
void node_filter_check(struct node *node);
/* Removes the filter of a device that an earlier run left. */
void node_filter_sweep(const struct link *link);
void node_filter_done(struct node *node);

/* node_tunnel.c */
/* Sees to it that the data path runs where the backend in force (or the one before) is udp,
 * and only there. Cheap when all is well. Also a timer callback: @userdata is a struct node. */
void node_tunnel_check(void *userdata);
/* Hands the peers to the data path, if it runs. */
void node_tunnel_set_peers(struct node *node);
/* It runs, or need not. */
bool node_tunnel_is_ready(const struct node *node);
/* Whether there is to be one, and what all of this run have counted. */
bool node_tunnel_get_counters(const struct node *node, struct udp_counters *ret_counters);
void node_tunnel_done(struct node *node);

/* node_metrics.c */
/* GET /metrics from now on, where the health server runs. */
void node_metrics_serve(struct node *node);
