/* SPDX-License-Identifier: Apache-2.0 */
/* node_backend.c - from a network config and the kernel's state to a backend
 *
 * The uplink is chosen, then the backend made for it, with the MACs that this host
 * has published or that its devices have.
 */
#include "daemon/node_internal.h"

#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "daemon/uplink.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void log_choice(const struct node *node, const struct uplink *uplink)
{
	char addr[IP_STRLEN];

	IP_FOREACH_FAMILY (f) {
		const char *v6 = f == IP_V6 ? "v6 " : "";

		if (!ip_is_set(&uplink->addr[f]))
			continue;
		log_info("Using interface with name %s and %saddress %s", uplink->name, v6,
			 ip_format(&uplink->addr[f], addr));
		if (ip_is_set(&node->options->public_ip[f]))
			log_info("Using %s as external address",
				 ip_format(&uplink->public_ip[f], addr));
		else
			log_info("Defaulting external %saddress to interface address (%s)", v6,
				 ip_format(&uplink->addr[f], addr));
	}
}

/* Whether the addresses that our tunnels end at are still on a NIC that is up. */
static bool uplink_lives(const struct node *node, const struct uplink_world *world)
{
	const struct link *nic = reconciler_link(node->reconciler, DEVICE_UPLINK);

	if (!node->has_backend || !nic || !nic->up)
		return false;
	IP_FOREACH_FAMILY (f) {
		bool found = !ip_is_set(&node->uplink.addr[f]);

		for (size_t i = 0; i < world->n_addrs && !found; i++)
			found = world->addrs[i].ifindex == nic->ifindex &&
				ip_equal(&world->addrs[i].net.ip, &node->uplink.addr[f]);
		if (!found)
			return false;
	}
	return true;
}

/* Nothing to choose (now): a NIC that is gone comes back, an address is on its way. What
 * is there works on, as long as its addresses are. */
static void wait_for_uplink(struct node *node, const struct uplink_world *world,
			    const struct err *err)
{
	bool alive = uplink_lives(node, world);

	if (alive)
		health_degraded(node->health, HEALTH_UPLINK, err->text);
	else
		health_missing(node->health, HEALTH_UPLINK, err->text);
	if (strcmp(node->waiting_for, err->text))
		log_warning("%s; %s", err->text,
			    alive ? "going on with what is there" : "waiting for it");
	(void)snprintf(node->waiting_for, sizeof(node->waiting_for), "%s", err->text);
}

/* Says what is new about the uplink. */
static void log_uplink(const struct node *node, const struct uplink *uplink)
{
	const struct uplink *old = &node->uplink;

	if (node->has_uplink && old->mtu != uplink->mtu && !strcmp(old->name, uplink->name))
		log_info("The MTU of %s is %u now, it was %u; pods that are there keep theirs",
			 uplink->name, uplink->mtu, old->mtu);
	if (!node->has_uplink || *node->waiting_for || strcmp(old->name, uplink->name) ||
	    memcmp(old->addr, uplink->addr, sizeof(old->addr)) ||
	    memcmp(old->public_ip, uplink->public_ip, sizeof(old->public_ip)))
		log_choice(node, uplink);
}

int node_find_uplink(struct node *node, const struct netconf *conf, struct err *err)
{
	struct uplink_world world = {0};
	struct uplink uplink;
	int code = uplink_world_read(reconciler_netlink(node->reconciler),
				     &node->options->iface_can_reach, &world, err);

	if (!code)
		code = uplink_choose(node->options, conf->enabled, &world, &uplink, err);
	if (code == -EAGAIN || (code == -ENODEV && node->has_backend)) {
		wait_for_uplink(node, &world, err);
		code = -EAGAIN;
	}
	uplink_world_done(&world);
	if (code)
		return code;
	log_uplink(node, &uplink);
	health_good(node->health, HEALTH_UPLINK);
	*node->waiting_for = '\0';
	node->uplink = uplink;
	node->has_uplink = true;
	return 0;
}

/* The MACs of a vxlan backend: what our record says, what the device has, or one
 * that is always the same for this host. */
static void keep_macs(struct node *node, struct backend *backend, const struct lease *record)
{
	IP_FOREACH_FAMILY (f) {
		_cleanup_json_ json_t *data = NULL;
		const struct link *seen;
		const char *text = NULL;
		char seed[160], ip[IP_STRLEN];
		const char *published = record ? record->backend_data[f] : NULL;
		struct mac *mac = &backend->vxlan.mac[f];

		if (!backend->enabled[f])
			continue;
		if (node->has_backend && node->backend.ops == backend->ops) {
			*mac = node->backend.vxlan.mac[f];
			if (mac_is_unicast(mac))
				continue;
		}
		if (published && !json_parse_object(published, strlen(published), "", &data, NULL))
			(void)json_member_string(data, "VtepMAC", &text, NULL);
		if (text && !mac_parse(text, mac) && mac_is_unicast(mac))
			continue;
		seen = reconciler_link(node->reconciler, backend->device[f]);
		if (seen && !strcmp(seen->kind, "vxlan") && mac_is_unicast(&seen->mac)) {
			*mac = seen->mac;
			continue;
		}
		(void)snprintf(seed, sizeof(seed), "vtep %s %s", ip_family_name(f),
			       ip_format(&backend->uplink.public_ip[f], ip));
		*mac = mac_from_seed(seed);
	}
}

static int name_devices(struct node *node, struct backend *backend, struct err *err)
{
	struct link link;
	int slot;

	IP_FOREACH_FAMILY (f) {
		if (!backend->ops->device || !backend->ops->device(backend, f, &link))
			continue;
		slot = reconciler_device(node->reconciler, link.name);
		if (slot < 0)
			return err_sys(err, slot, "device %s", link.name);
		backend->device[f] = (uint8_t)slot;
	}
	return 0;
}

/* By its alias a device of ours is known after a restart, whatever the config says by
 * then. */
void node_device_alias(const struct ip_net *network, char alias[LINK_ALIAS_MAX])
{
	char text[IP_NET_STRLEN];

	(void)snprintf(alias, LINK_ALIAS_MAX, "weft %s", ip_net_format(network, text));
}

static bool has_our_alias(const struct node *node, const struct link *link)
{
	char alias[LINK_ALIAS_MAX];

	IP_FOREACH_FAMILY (f) {
		const struct ip_net *networks[] = {&node->conf.range[f].network,
						   &node->old_file.network[f]};

		for (size_t i = 0; i < ARRAY_SIZE(networks); i++) {
			node_device_alias(networks[i], alias);
			if (ip_net_is_set(networks[i]) && !strcmp(alias, link->alias))
				return true;
		}
	}
	return false;
}

struct left_devices {
	const struct node *node;
	struct link link[DEVICE_MAX];
	size_t n;
};

static void collect_left(const struct nlmsghdr *msg, void *userdata)
{
	struct left_devices *left = userdata;
	struct link link;

	if (left->n < DEVICE_MAX && !link_parse(msg, &link) && !strcmp(link.kind, "vxlan") &&
	    has_our_alias(left->node, &link))
		left->link[left->n++] = link;
}

void node_sweep_devices(struct node *node)
{
	struct left_devices left = {.node = node};
	char buf[NETLINK_MESSAGE_MAX] = {0};

	(void)netlink_dump(reconciler_netlink(node->reconciler), link_put_dump(buf), collect_left,
			   &left, NULL);
	for (size_t i = 0; i < left.n; i++)
		if (reconciler_disown(node->reconciler, &left.link[i]))
			node_filter_sweep(&left.link[i]);
}

static int probe_vxlan(struct node *node, struct err *err)
{
	char buf[NETLINK_MESSAGE_MAX] = {0};
	int code = netlink_request(reconciler_netlink(node->reconciler),
				   link_put_probe(buf, "vxlan"), NULL, NULL, NULL);

	if (code != -EOPNOTSUPP)
		return 0;
	return err_set(err, code,
		       "Backend vxlan: this kernel has no vxlan devices (kernel module vxlan)");
}

struct lease node_make_attrs(const struct backend *backend)
{
	struct lease attrs = {0};

	(void)snprintf(attrs.backend_type, sizeof(attrs.backend_type), "%s", backend->ops->type);
	IP_FOREACH_FAMILY (f) {
		if (!backend->enabled[f])
			continue;
		attrs.public_ip[f] = backend->uplink.public_ip[f];
		if (backend->ops->publish)
			attrs.backend_data[f] = backend->ops->publish(backend, f);
	}
	return attrs;
}

int node_make_backend(struct node *node, const struct netconf *conf, struct backend *ret_backend,
		      struct err *err)
{
	struct lease ids = {0}, record = {0};
	struct backend backend;
	int code = backend_make(conf, &node->uplink, &backend, err);
	bool found;

	if (code)
		return err_wrap(err, code, "%s", node->config_place);
	backend.peer_filter = node->options->peer_filter;
	code = backend.ops->device ? probe_vxlan(node, err) : 0;
	if (!code)
		code = name_devices(node, &backend, err);
	if (code)
		return code;
	if (backend.ops == &backend_vxlan) {
		memcpy(ids.public_ip, node->uplink.public_ip, sizeof(ids.public_ip));
		found = node->store->ops->find_own(node->store, &ids, &record);
		keep_macs(node, &backend, found ? &record : NULL);
		lease_done(&record);
	}
	*ret_backend = backend;
	return 0;
}
