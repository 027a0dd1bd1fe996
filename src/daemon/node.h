/* SPDX-License-Identifier: Apache-2.0 */
/* node.h - the life of one host: wires store, backend, reconciler and rules together */
#pragma once

#include "base/err.h"
#include "daemon/health.h"
#include "daemon/options.h"
#include "io/loop.h"

struct node;

/* Called once when the daemon cannot go on: the config it started with is wrong. */
typedef void (*node_fatal_fn)(const char *why, void *userdata);

/* Starts; everything else happens on the loop. @options and @health are borrowed. */
int node_new(struct loop *loop, const struct options *options, struct health *health,
	     node_fatal_fn fatal, void *userdata, struct node **ret_node, struct err *err);
/* Looks at everything again: uplink, kernel (SIGHUP). */
void node_refresh(struct node *node);
/* The state file: of `/run/flannel/subnet.env` it is DIR/run-flannel-subnet.env.state. Caller
 * frees. */
char *node_state_path(const struct options *options);
/* Lets go; what is in the kernel stays. */
void node_free(struct node *node);
