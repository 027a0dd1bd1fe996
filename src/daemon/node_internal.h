/* SPDX-License-Identifier: Apache-2.0 */
/* node_internal.h - the node's insides, shared by node.c (config, uplink, lease) and
 * node_plan.c (what is wanted)
 */
#pragma once

#include "backend/backend.h"
#include "daemon/node.h"
#include "model/peers.h"
#include "model/subnet_file.h"
#include "reconcile/reconciler.h"
#include "store/store.h"

struct node {
	struct loop *loop;
	const struct options *options;
	struct health *health;
	node_fatal_fn fatal;
	void *userdata;
	bool dead; /* fatal was called: nothing is done any more */

	struct store *store;
	struct peers *peers;
	struct reconciler *reconciler;
	struct event *uplink_timer; /* look at the uplink again */
	struct event *file_timer;   /* write the subnet file again */

	struct netconf conf; /* in force */
	bool has_conf;
	struct netconf first_conf; /* read, but there is no uplink yet */
	bool has_first_conf;
	struct uplink uplink;
	bool has_uplink;
	struct backend backend; /* in force */
	bool has_backend;
	struct backend previous; /* left, but some peers still publish it */
	bool has_previous;
	struct lease own;
	bool has_own;
	bool synced; /* the peer table is complete */

	struct subnet_file old_file; /* found at the start */
	bool has_old_file;
	char *file_text; /* last written */
	int network_lock; /* abstract socket */
	struct ip_net locked_network;
};

/* node_plan.c */
/* Devices, own entries and all peers are wanted anew. */
void node_plan_all(struct node *node);
/* The same for the first time: every peer of the first complete list is news. */
void node_plan_first(struct node *node);
/* peers_changed_fn */
void node_plan_peer(const char *key, const struct lease *before, const struct lease *after,
		    void *node);
/* Wants the devices of the backend in force; gives up those of @before (NULL: none)
 * that it does not share. */
void node_plan_devices(struct node *node, const struct backend *before);
/* Gives up the previous backend when no peer publishes it any more. */
void node_plan_drop_previous(struct node *node);
