/* SPDX-License-Identifier: Apache-2.0 */
/* node_filter.c - the peer filters of the node's tunnel devices
 *
 * A filter is built in the order set, elements (by the reconciler, with the peers'
 * other entries), rule. Whatever is touched by another's hand is put back the same
 * way. A host without nftables goes on without the filter, and says so.
 */
#include "daemon/node_internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define RETRY_MS 20000

static struct node_filter *find(struct node *node, uint8_t device)
{
	for (size_t i = 0; i < ARRAY_SIZE(node->filter); i++)
		if (node->filter[i].device == device)
			return &node->filter[i];
	return NULL;
}

/* Goes on without the filter, and tries again. */
static void no_filter(struct node *node, const struct err *err)
{
	char text[ERR_TEXT_MAX];

	(void)snprintf(
		text, sizeof(text),
		"%.300s; packets from anyone who can send to the tunnel's UDP port are accepted",
		err->text);
	if (!node->filter_failed)
		log_warning("Peer filter: %s; trying again every %d s", text, RETRY_MS / 1000);
	node->filter_failed = true;
	health_degraded(node->health, HEALTH_FILTER, text);
	loop_timer_set(node->filter_timer, RETRY_MS);
}

static void install_set(struct node *node, struct node_filter *f)
{
	struct err err;

	free(f->listing);
	f->listing = NULL;
	f->has_set = !peer_filter_install_set(&f->filter, &err);
	if (f->has_set)
		reconciler_set_filter(node->reconciler, f->device, &f->filter.set);
	if (f->has_set && !reconciler_has_filter(node->reconciler, f->device))
		f->has_set = err_set(&err, 0, "no netlink socket for nftables");
	if (!f->has_set)
		no_filter(node, &err);
}

/* The filter of a device. False: it is to have none, a data path of ours looks for itself. */
static bool filter_of(const struct link *link, struct peer_filter *ret_filter)
{
	const struct link_vxlan *vxlan = &link->vxlan;
	const struct link_ipip *ipip = &link->ipip;

	if (!strcmp(link->kind, "vxlan"))
		*ret_filter = peer_filter_for(link->name, (enum ip_family)vxlan->local.family,
					      vxlan->port, vxlan->vni);
	else
		*ret_filter = peer_filter_for(link->name, IP_V4, ipip->port, 0);
	return strcmp(link->kind, "tun") != 0;
}

void node_filter_want(struct node *node, uint8_t device, const struct link *link)
{
	struct node_filter *f = find(node, device);
	struct peer_filter wanted;
	struct err err;

	if (!filter_of(link, &wanted) || !node->options->peer_filter) {
		/* Of the kind before, or of a run that had it. */
		if (f)
			node_filter_unwant(node, device);
		else
			(void)peer_filter_remove(&wanted, &err);
		return;
	}
	if (!f)
		f = find(node, DEVICE_NONE);
	if (!f)
		return;
	if (f->device && f->filter.port == wanted.port && f->filter.vni == wanted.vni &&
	    !strcmp(f->filter.set.table, wanted.set.table))
		return;
	f->device = device;
	f->filter = wanted;
	install_set(node, f);
}

void node_filter_unwant(struct node *node, uint8_t device)
{
	struct node_filter *f = device ? find(node, device) : NULL;
	struct err err;

	if (!f)
		return;
	reconciler_set_filter(node->reconciler, device, NULL);
	if (peer_filter_remove(&f->filter, &err))
		log_warning("Removing the peer filter %s: %s; leaving it", f->filter.set.table,
			    err.text);
	free(f->listing);
	*f = (struct node_filter){0};
}

static void install_rule(struct node *node, struct node_filter *f)
{
	struct err err;

	if (peer_filter_install_rule(&f->filter, &f->listing, &err)) {
		no_filter(node, &err);
		return;
	}
	if ((!f->repaired || node->filter_failed) && !f->filter.vni)
		log_info("Accepting packets to UDP port %u from known peers only (nftables table "
			 "%s)",
			 f->filter.port, f->filter.set.table);
	else if (!f->repaired || node->filter_failed)
		log_info("Accepting VXLAN packets of VNI %u from known peers only (nftables table "
			 "%s)",
			 f->filter.vni, f->filter.set.table);
	f->repaired = false;
	node->filter_failed = false;
	health_good(node->health, HEALTH_FILTER);
}

void node_filter_activate(struct node *node)
{
	for (size_t i = 0; i < ARRAY_SIZE(node->filter); i++) {
		struct node_filter *f = &node->filter[i];

		if (f->device && f->has_set && !f->listing &&
		    reconciler_has_filter(node->reconciler, f->device))
			install_rule(node, f);
	}
}

void node_filter_check(struct node *node)
{
	for (size_t i = 0; i < ARRAY_SIZE(node->filter); i++) {
		struct node_filter *f = &node->filter[i];
		bool there = f->device && f->has_set &&
			     reconciler_has_filter(node->reconciler, f->device);

		if (!f->device || (there && !f->listing) ||
		    (there && peer_filter_is_intact(&f->filter, f->listing)))
			continue;
		f->repaired |= f->has_set;
		if (f->has_set && reconciler_may_log(node->reconciler))
			log_warning("The peer filter (nftables table %s) was changed or removed; "
				    "restoring it",
				    f->filter.set.table);
		/* Settling again puts the rule back. */
		install_set(node, f);
	}
}

void node_filter_sweep(const struct link *link)
{
	struct peer_filter filter;

	if (filter_of(link, &filter))
		(void)peer_filter_remove(&filter, NULL);
}

void node_filter_done(struct node *node)
{
	for (size_t i = 0; i < ARRAY_SIZE(node->filter); i++)
		free(node->filter[i].listing);
}
