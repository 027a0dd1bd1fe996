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
#include "kernel/fou.h"

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
		if (ip_is_set(&node->options->public_ip[f]) || ip_is_set(&node->public_ip[f]))
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
	struct options options = *node->options; /* borrowed for the choice */
	struct uplink_world world = {0};
	struct uplink uplink;
	int code = uplink_world_read(reconciler_netlink(node->reconciler),
				     &node->options->iface_can_reach, &world, err);

	IP_FOREACH_FAMILY (f)
		if (ip_is_set(&node->public_ip[f]))
			options.public_ip[f] = node->public_ip[f];
	if (!code)
		code = uplink_choose(&options, conf->enabled, &world, &uplink, err);
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

struct mac_user {
	char text[MAC_STRLEN];
	const struct ip *public_ip; /* of our own, which does not count; NULL: every one does */
	bool found;
};

static void find_mac(const char *key, const struct lease *lease, void *userdata)
{
	struct mac_user *user = userdata;

	(void)key;
	IP_FOREACH_FAMILY (f)
		if (lease->backend_data[f] && strcasestr(lease->backend_data[f], user->text) &&
		    !(user->public_ip &&
		      ip_equal(user->public_ip, &lease->public_ip[user->public_ip->family])))
			user->found = true;
}

/* Whether a record has @mac: that of another host, or with @own also one with our address. */
static bool is_used(const struct node *node, const struct mac *mac, const struct ip *public_ip,
		    bool own)
{
	struct mac_user user = {.public_ip = own ? NULL : public_ip};

	mac_format(mac, user.text);
	peers_each(node->peers, find_mac, &user);
	return user.found;
}

/* A record with our address is from a run of this host when we know of its subnet, or when
 * a person made it. Otherwise another host with the same address may be using it now: with
 * a MAC of our own, both notice. */
static bool is_from_here(const struct node *node, const struct lease *record)
{
	return !record->expires_s ||
	       (node->has_old_file &&
		!memcmp(node->old_file.subnet, record->subnet, sizeof(record->subnet)));
}

static bool record_mac(const struct lease *record, enum ip_family family, struct mac *ret_mac)
{
	_cleanup_json_ json_t *data = NULL;
	const char *text = record->backend_data[family];

	if (!text || json_parse_object(text, strlen(text), "", &data, NULL))
		return false;
	text = NULL;
	(void)json_member_string(data, "VtepMAC", &text, NULL);
	return text && !mac_parse(text, ret_mac) && mac_is_unicast(ret_mac);
}

/* The MAC of one family: what our record says, what the device has, or one that is always
 * the same for this address; never that of another host. */
static struct mac choose_mac(const struct node *node, const struct backend *backend,
			     enum ip_family f, const struct lease *record)
{
	const struct ip *public_ip = &backend->uplink.public_ip[f];
	const struct link *seen = reconciler_link(node->reconciler, backend->device[f]);
	char seed[160], ip[IP_STRLEN];
	struct mac mac;

	if (record && is_from_here(node, record) && record_mac(record, f, &mac) &&
	    !is_used(node, &mac, public_ip, false))
		return mac;
	if (seen && !strcmp(seen->kind, "vxlan") && mac_is_unicast(&seen->mac) &&
	    !is_used(node, &seen->mac, public_ip, false))
		return seen->mac;
	(void)snprintf(seed, sizeof(seed), "vtep %s %s", ip_family_name(f),
		       ip_format(public_ip, ip));
	mac = mac_from_seed(seed);
	for (unsigned n = 1; is_used(node, &mac, public_ip, true); n++) {
		(void)snprintf(seed, sizeof(seed), "vtep %s %s %u", ip_family_name(f), ip, n);
		mac = mac_from_seed(seed);
	}
	return mac;
}

static void keep_macs(const struct node *node, struct backend *backend, const struct lease *record)
{
	bool running = node->has_backend && node->backend.ops == backend->ops;

	IP_FOREACH_FAMILY (f) {
		struct mac *mac = &backend->vxlan.mac[f];

		if (!backend->enabled[f])
			continue;
		if (running)
			*mac = node->backend.vxlan.mac[f];
		if (!running || !mac_is_unicast(mac))
			*mac = choose_mac(node, backend, f, record);
	}
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
						   &node->next_conf.range[f].network,
						   &node->old_file.network[f]};

		for (size_t i = 0; i < ARRAY_SIZE(networks); i++) {
			node_device_alias(networks[i], alias);
			if (ip_net_is_set(networks[i]) && !strcmp(alias, link->alias))
				return true;
		}
	}
	return false;
}

struct udp_names {
	const struct node *node;
	uint64_t taken;      /* flannel0 to flannel63, by bit */
	char ours[IFNAMSIZ]; /* "": none yet */
};

static bool is_udp_kind(const char *kind)
{
	const char *const *known = backend_udp.kinds;

	while (*known && strcmp(*known, kind) != 0)
		known++;
	return *known;
}

static void collect_udp_name(const struct nlmsghdr *msg, void *userdata)
{
	struct udp_names *names = userdata;
	static const char prefix[] = "flannel";
	unsigned long number;
	struct link link;
	char *end;

	if (link_parse(msg, &link))
		return;
	if (is_udp_kind(link.kind) && has_our_alias(names->node, &link))
		memcpy(names->ours, link.name, sizeof(names->ours));
	if (strncmp(link.name, prefix, strlen(prefix)) != 0)
		return;
	number = strtoul(link.name + strlen(prefix), &end, 10);
	if (end > link.name + strlen(prefix) && !*end && number < 64)
		names->taken |= UINT64_C(1) << number;
}

/* The device that we have; or else the one that an earlier run left; or else, as the
 * original takes it, the first number that is free. */
static void choose_udp_name(const struct node *node, struct backend *backend)
{
	struct udp_names names = {.node = node};
	char buf[NETLINK_MESSAGE_MAX] = {0};
	unsigned number = 0;

	if (node->has_own && node->has_backend && node->backend.ops == backend->ops) {
		memcpy(backend->udp.device, node->backend.udp.device, IFNAMSIZ);
		return;
	}
	(void)netlink_dump(reconciler_netlink(node->reconciler), link_put_dump(buf),
			   collect_udp_name, &names, NULL);
	while (number < 63 && names.taken & UINT64_C(1) << number)
		number++;
	if (*names.ours)
		memcpy(backend->udp.device, names.ours, IFNAMSIZ);
	else
		(void)snprintf(backend->udp.device, IFNAMSIZ, "flannel%u", number);
}

static int name_devices(struct node *node, struct backend *backend, struct err *err)
{
	struct link link;
	int slot;

	if (backend->ops == &backend_udp)
		choose_udp_name(node, backend);
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

struct left_devices {
	const struct node *node;
	struct link link[DEVICE_MAX];
	size_t n;
};

static void collect_left(const struct nlmsghdr *msg, void *userdata)
{
	struct left_devices *left = userdata;
	struct link link;

	if (left->n < DEVICE_MAX && !link_parse(msg, &link) && backend_has_kind(link.kind) &&
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

/* Any of its devices: all are of one kind. */
static bool find_device(const struct backend *backend, struct link *ret_link)
{
	IP_FOREACH_FAMILY (f)
		if (backend->ops->device && backend->ops->device(backend, f, ret_link))
			return true;
	return false;
}

/* Whether the kernel has the backend's kind of devices, or can have it. A module tun is
 * loaded by the opening of /dev/net/tun, not by netlink. */
static int probe_kind(struct node *node, const struct backend *backend, struct err *err)
{
	char buf[NETLINK_MESSAGE_MAX] = {0};
	const char *type = backend->ops->type, *kind;
	struct link link;
	int code;

	if (!find_device(backend, &link) || !strcmp(link.kind, "tun"))
		return 0;
	kind = link.kind;
	code = netlink_request(reconciler_netlink(node->reconciler), link_put_probe(buf, kind),
			       NULL, NULL, NULL);
	if (code == -EOPNOTSUPP && !strcmp(kind, "ipip"))
		return err_set(err, code,
			       "Backend %s: this kernel has no ipip devices, which Mode "
			       "\"kernel\" needs (kernel modules ipip and fou)",
			       type);
	if (code == -EOPNOTSUPP)
		return err_set(err, code,
			       "Backend %s: this kernel has no %s devices (kernel module %s)", type,
			       kind, kind);
	if (!strcmp(kind, "ipip") && fou_probe(NULL) == -EOPNOTSUPP)
		return err_set(err, -EOPNOTSUPP,
			       "Backend %s: this kernel has no FOU, which Mode \"kernel\" needs "
			       "(kernel module fou)",
			       type);
	return 0;
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
	code = probe_kind(node, &backend, err);
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
