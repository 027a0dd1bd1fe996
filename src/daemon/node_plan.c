/* SPDX-License-Identifier: Apache-2.0 */
/* node_plan.c - what the node wants of the kernel
 *
 * Each peer is planned by the backend whose record it publishes. When the config
 * changes the backend, hosts follow one after the other: until the last peer has
 * published the new one, the previous backend plans for those who have not, so
 * that no pod is cut off in between.
 */
#include "daemon/node_internal.h"

#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Behind every connected route of a bridge. */
#define BLACKHOLE_METRIC 4096
#define PLAN_SETTLE_MS   20 /* peers change in droves */

static const struct backend *backend_for(const struct node *node, const struct lease *peer)
{
	if (node->backend.ops->accepts(&node->backend, peer))
		return &node->backend;
	if (node->has_previous && node->previous.ops->accepts(&node->previous, peer))
		return &node->previous;
	return NULL;
}

/* A subnet that is our own, or not inside the cluster network, is not to be routed
 * away, whoever claims it. */
static bool is_sane(const struct node *node, const struct lease *peer, struct err *err)
{
	char subnet[IP_NET_STRLEN], network[IP_NET_STRLEN], ip[IP_STRLEN];

	IP_FOREACH_FAMILY (f) {
		const struct ip_net *net = &peer->subnet[f];

		if (!node->conf.enabled[f] || !ip_net_is_set(net))
			continue;
		if (node->has_own && ip_net_is_set(&node->own.subnet[f]) &&
		    ip_net_overlaps(net, &node->own.subnet[f])) {
			(void)err_set(err, -EINVAL, "%s overlaps our own subnet",
				      ip_net_format(net, subnet));
			return false;
		}
		if (!ip_is_global_unicast(&peer->public_ip[f])) {
			(void)err_set(err, -EINVAL, "its public IP %s is no host's address",
				      ip_format(&peer->public_ip[f], ip));
			return false;
		}
		if (ip_equal(&peer->public_ip[f], &node->backend.uplink.public_ip[f])) {
			(void)err_set(err, -EINVAL, "its public IP %s is our own",
				      ip_format(&peer->public_ip[f], ip));
			return false;
		}
		if (!ip_net_contains_net(&node->conf.range[f].network, net)) {
			(void)err_set(err, -EINVAL, "%s is outside Network %s",
				      ip_net_format(net, subnet),
				      ip_net_format(&node->conf.range[f].network, network));
			return false;
		}
	}
	return true;
}

/* Plans one peer. False: it is not for us, and *@ret_plan is empty; @complain: say why,
 * also of a family that is unusable. */
static bool plan_peer(const struct node *node, const char *key, const struct lease *peer,
		      bool complain, struct plan *ret_plan)
{
	const struct backend *backend = backend_for(node, peer);
	const char *type = *peer->backend_type ? peer->backend_type : "(none)";
	struct err err;

	*ret_plan = (struct plan){0};
	/* Our own record, which the store has not been asked for yet. */
	if (!memcmp(peer->subnet, node->own.subnet, sizeof(peer->subnet)) &&
	    !memcmp(peer->public_ip, node->own.public_ip, sizeof(peer->public_ip)))
		return false;
	if (!is_sane(node, peer, &err))
		(void)err_wrap(&err, -EINVAL, "Ignoring lease %s", key);
	else if (!backend && !strcmp(type, node->backend.ops->type))
		(void)err_set(&err, -EINVAL, "Ignoring lease %s: its VNI is not ours", key);
	else if (!backend)
		(void)err_set(&err, -EINVAL, "Ignoring lease %s: its backend is %s, ours %s", key,
			      type, node->backend.ops->type);
	else if (!backend_plan_peer(backend, peer, ret_plan, &err))
		return true;
	else
		(void)err_wrap(&err, -EINVAL, "Ignoring lease %s until it changes", key);
	if (complain && !*peer->backend_type && !backend)
		log_info("%s is reserved for a host that has not joined yet", key);
	else if (complain)
		log_warning("%s", err.text);
	/* One good family is served, whatever is wrong with the other. */
	return ret_plan->n > 0;
}

static void want(struct node *node, const struct plan *plan)
{
	for (size_t i = 0; i < plan->n; i++)
		reconciler_want(node->reconciler, &plan->entry[i]);
}

static void unwant(struct node *node, const struct plan *plan)
{
	for (size_t i = 0; i < plan->n; i++)
		reconciler_unwant(node->reconciler, &plan->entry[i]);
}

static void want_own(struct node *node, const struct backend *backend)
{
	struct plan plan = {0};

	if (backend->ops->plan_own)
		backend->ops->plan_own(backend, &node->own, &plan);
	want(node, &plan);
}

static void want_blackhole(struct node *node)
{
	IP_FOREACH_FAMILY (f) {
		struct entry entry = entry_blackhole(&node->own.subnet[f], BLACKHOLE_METRIC);

		if (ip_net_is_set(&node->own.subnet[f]))
			reconciler_want(node->reconciler, &entry);
	}
}

static void log_added(const struct lease *lease)
{
	char subnet[IP_NET_STRLEN], via[IP_STRLEN];

	IP_FOREACH_FAMILY (f)
		if (ip_net_is_set(&lease->subnet[f]))
			log_info("Subnet added: %s via %s",
				 ip_net_format(&lease->subnet[f], subnet),
				 ip_format(&lease->public_ip[f], via));
}

static void log_removed(const struct lease *lease)
{
	char subnet[IP_NET_STRLEN];

	IP_FOREACH_FAMILY (f)
		if (ip_net_is_set(&lease->subnet[f]))
			log_info("Subnet removed: %s", ip_net_format(&lease->subnet[f], subnet));
}

static void want_peer(const char *key, const struct lease *peer, void *userdata)
{
	struct node *node = userdata;
	struct plan plan;

	(void)plan_peer(node, key, peer, false, &plan);
	want(node, &plan);
}

static void want_first_peer(const char *key, const struct lease *peer, void *userdata)
{
	struct node *node = userdata;
	struct plan plan;

	if (plan_peer(node, key, peer, true, &plan))
		log_added(peer);
	want(node, &plan);
}

static void plan_all(struct node *node,
		     void (*visit)(const char *key, const struct lease *lease, void *userdata))
{
	reconciler_want_begin(node->reconciler);
	want_own(node, &node->backend);
	if (node->has_previous)
		want_own(node, &node->previous);
	if (node->options->ip_blackhole_route)
		want_blackhole(node);
	if (node->synced)
		peers_each(node->peers, visit, node);
	reconciler_want_end(node->reconciler);
	reconciler_kick(node->reconciler);
}

void node_plan_all(struct node *node)
{
	plan_all(node, want_peer);
}

void node_plan_first(struct node *node)
{
	plan_all(node, want_first_peer);
}

bool node_plan_is_usable(const char *key, const struct lease *lease, void *userdata)
{
	struct node *node = userdata;
	const struct backend *backend = node->has_backend ? backend_for(node, lease) : NULL;
	const struct lease *before = peers_find(node->peers, key);
	struct plan plan = {0};
	struct err err;

	/* Half a record of a host that has joined: the other half is about to follow. */
	if (!*lease->backend_type && before && *before->backend_type && backend != &node->backend &&
	    lease_same_public_ip(lease, before))
		return false;
	/* One good family is enough: they are independent. */
	if (!backend || !backend_plan_peer(backend, lease, &plan, &err) || plan.n)
		return true;
	(void)err_wrap(&err, -EINVAL, "Lease %s is unusable now", key);
	if (strcmp(node->unusable, err.text)) /* it is read again and again */
		log_warning("%s; its last good record stays", err.text);
	(void)snprintf(node->unusable, sizeof(node->unusable), "%s", err.text);
	return false;
}

void node_plan_peer(const char *key, const struct lease *before, const struct lease *after,
		    void *userdata)
{
	struct node *node = userdata;
	struct plan plan;

	/* Before the list is complete nothing was wanted; then all is planned at once. */
	if (!node->synced || !node->has_own || !node->has_backend)
		return;
	if (before && plan_peer(node, key, before, false, &plan)) {
		unwant(node, &plan);
		if (!after)
			log_removed(before);
	}
	if (after && plan_peer(node, key, after, true, &plan)) {
		want(node, &plan);
		log_added(after);
	}
	/* The previous backend may have lost its last peer, a conflict its reason. */
	if (node->has_previous || reconciler_has_conflicts(node->reconciler))
		loop_timer_set_sooner(node->plan_timer, PLAN_SETTLE_MS);
	reconciler_kick(node->reconciler);
}

static int tx_checksum_of(const struct options *options, const struct link *link)
{
	if (!strcmp(link->kind, "tun"))
		return -1;
	switch (options->tx_checksum) {
	case TX_CHECKSUM_ON:
		return 1;
	case TX_CHECKSUM_OFF:
		return 0;
	case TX_CHECKSUM_AUTO:
	case TX_CHECKSUM_COUNT:
		break;
	}
	return -1;
}

void node_plan_give_up(struct node *node, const struct backend *before)
{
	IP_FOREACH_FAMILY (f) {
		bool shared = false;

		if (!before->device[f])
			continue;
		IP_FOREACH_FAMILY (g)
			shared |= before->device[f] == node->backend.device[g] ||
				  (node->has_previous && before != &node->previous &&
				   before->device[f] == node->previous.device[g]);
		if (shared)
			continue;
		node_filter_unwant(node, before->device[f]);
		reconciler_unwant_link(node->reconciler, before->device[f]);
	}
}

void node_plan_devices(struct node *node, const struct backend *before)
{
	IP_FOREACH_FAMILY (f) {
		struct link link;

		if (!node->backend.device[f] ||
		    !node->backend.ops->device(&node->backend, f, &link))
			continue;
		node_device_alias(&node->conf.range[f].network, link.alias);
		reconciler_want_link(node->reconciler, node->backend.device[f], &link,
				     tx_checksum_of(node->options, &link));
		node_filter_want(node, node->backend.device[f], &link);
	}
	if (before)
		node_plan_give_up(node, before);
}

static void count_previous(const char *key, const struct lease *peer, void *userdata)
{
	struct node *node = ((void **)userdata)[0];
	size_t *n = ((void **)userdata)[1];

	(void)key;
	/* Accepted by udp, but also what reserves a subnet for a host that is yet to join. */
	if (!*peer->backend_type && !peer->expires_s)
		return;
	*n += backend_for(node, peer) == &node->previous;
}

void node_plan_drop_previous(struct node *node)
{
	size_t users = 0;

	if (!node->has_previous)
		return;
	peers_each(node->peers, count_previous, (void *[]){node, &users});
	if (users)
		return;
	log_info("No peer uses backend %s any more", node->previous.ops->type);
	node->has_previous = false;
	node_tunnel_check(node); /* stops before its device goes */
	node_plan_give_up(node, &node->previous);
	node_plan_all(node);
}
