/* SPDX-License-Identifier: Apache-2.0 */
/* vxlan.c - backend vxlan: one vxlan device per family, three entries per peer
 *
 * Theory of operation. The device floods nothing and learns nothing: every peer
 * has a permanent neighbour (its subnet's base address -> its VTEP's MAC) and an
 * FDB entry (that MAC -> its public IP); the route to its subnet goes via the base
 * address, which needs no address of the same subnet on our side ("onlink").
 * DirectRouting leaves all that out for a peer on the uplink's own L2: a plain
 * route via its public IP.
 *
 * An IPv4 subnet travels over the IPv4 underlay, an IPv6 subnet over IPv6, each
 * through a device of its own (flannel.<VNI>, flannel-v6.<VNI>), as the original
 * does it.
 */
#include "backend/backend.h"
#include "base/json.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_VNI  1
#define DEFAULT_PORT 8472 /* the kernel's, older than IANA's 4789 */
#define VNI_MAX      0xffffff
/* Outer IP header, UDP 8, VXLAN 8, inner Ethernet 14. */
#define OVERHEAD_V4 50
#define OVERHEAD_V6 70
#define MIN_MTU_V4  576  /* RFC 791: what every host must take */
#define MIN_MTU_V6  1280 /* RFC 8200 section 5 */

static unsigned overhead(enum ip_family family)
{
	return family == IP_V6 ? OVERHEAD_V6 : OVERHEAD_V4;
}

static int check_mtu(const struct backend *b, bool given, struct err *err)
{
	IP_FOREACH_FAMILY (f) {
		unsigned least = (f == IP_V6 ? MIN_MTU_V6 : MIN_MTU_V4) + overhead(f);

		if (!b->enabled[f] || b->vxlan.outer_mtu >= least)
			continue;
		if (given)
			return err_set(err, -EINVAL,
				       "MTU %u is too small: %s inside VXLAN needs at least %u",
				       b->vxlan.outer_mtu, ip_family_name(f), least);
		return err_set(err, -EINVAL,
			       "MTU %u of %s is too small: %s inside VXLAN needs at least %u",
			       b->vxlan.outer_mtu, b->uplink.name, ip_family_name(f), least);
	}
	return 0;
}

/* Writes what the kernel would call the device of a family, and returns its length, which
 * may be more than there is room for. */
static int name_device(const struct backend *b, enum ip_family family, char name[IFNAMSIZ])
{
	return snprintf(name, IFNAMSIZ, "%s.%u", family == IP_V6 ? "flannel-v6" : "flannel",
			b->vxlan.vni);
}

/* A name that is cut would be another network's, too. */
static int check_names(const struct backend *b, struct err *err)
{
	char name[IFNAMSIZ];

	IP_FOREACH_FAMILY (f)
		if (b->enabled[f] && name_device(b, f, name) >= IFNAMSIZ)
			return err_set(err, -EINVAL,
				       "VNI %u is too large: the name of its %s device would have "
				       "more than %d characters",
				       b->vxlan.vni, ip_family_name(f), IFNAMSIZ - 1);
	return 0;
}

static int vxlan_configure(struct backend *b, const json_t *options, struct err *err)
{
	int64_t vni = DEFAULT_VNI, port = DEFAULT_PORT, mtu = 0;
	bool *gbp = &b->vxlan.gbp, *learning = &b->vxlan.learning;
	int code = json_member_int(options, "VNI", 1, VNI_MAX, &vni, err);

	if (!code)
		code = json_member_int(options, "Port", 0, UINT16_MAX, &port, err);
	if (!code)
		code = json_member_int(options, "MTU", 0, UINT16_MAX, &mtu, err);
	if (!code)
		code = json_member_bool(options, "GBP", gbp, err);
	if (!code)
		code = json_member_bool(options, "Learning", learning, err);
	if (!code)
		code = json_member_bool(options, "DirectRouting", &b->vxlan.direct_routing, err);
	if (code)
		return code;
	b->vxlan.vni = (uint32_t)vni;
	code = check_names(b, err);
	if (code)
		return code;
	b->vxlan.port = (uint16_t)(port ? port : DEFAULT_PORT);
	b->vxlan.asked_mtu = (unsigned)mtu;
	b->vxlan.outer_mtu = mtu && (unsigned)mtu < b->uplink.mtu ? (unsigned)mtu : b->uplink.mtu;
	return check_mtu(b, mtu && (unsigned)mtu == b->vxlan.outer_mtu, err);
}

static unsigned vxlan_mtu(const struct backend *b)
{
	return b->vxlan.outer_mtu - overhead(b->enabled[IP_V6] ? IP_V6 : IP_V4);
}

static bool vxlan_device(const struct backend *b, enum ip_family family, struct link *ret_link)
{
	struct link link = {.kind = "vxlan", .up = true};

	if (!b->enabled[family])
		return false;
	(void)name_device(b, family, link.name);
	link.mtu = b->vxlan.outer_mtu - overhead(family);
	link.mac = b->vxlan.mac[family];
	link.vxlan = (struct link_vxlan){
		.vni = b->vxlan.vni,
		.port = b->vxlan.port,
		.local = b->uplink.addr[family],
		.learning = b->vxlan.learning,
		.gbp = b->vxlan.gbp,
	};
	*ret_link = link;
	return true;
}

static bool vxlan_equal(const struct backend *a, const struct backend *b)
{
	const struct backend_vxlan *v = &a->vxlan, *w = &b->vxlan;

	return v->vni == w->vni && v->port == w->port && v->gbp == w->gbp &&
	       v->learning == w->learning && v->direct_routing == w->direct_routing &&
	       v->outer_mtu == w->outer_mtu && mac_equal(&v->mac[IP_V4], &w->mac[IP_V4]) &&
	       mac_equal(&v->mac[IP_V6], &w->mac[IP_V6]);
}

static char *vxlan_publish(const struct backend *b, enum ip_family family)
{
	char mac[MAC_STRLEN], text[80];

	if (!b->enabled[family])
		return NULL;
	(void)snprintf(text, sizeof(text), "{\"VNI\":%u,\"VtepMAC\":\"%s\"}", b->vxlan.vni,
		       mac_format(&b->vxlan.mac[family], mac));
	return mem_strdup(text);
}

/* VNI (0: not given, flannel v0.11 and older) and MAC of a record. */
static int parse_data(const char *text, int64_t *ret_vni, struct mac *ret_mac, struct err *err)
{
	_cleanup_json_ json_t *data = NULL;
	const char *mac = NULL;
	int code;

	if (!text)
		return err_set(err, -EINVAL, "BackendData is missing");
	code = json_parse_object(text, strlen(text), "BackendData", &data, err);
	*ret_vni = 0;
	if (!code)
		code = json_member_int(data, "VNI", 0, VNI_MAX, ret_vni, err);
	if (!code)
		code = json_member_string(data, "VtepMAC", &mac, err);
	if (code)
		return code;
	if (!mac)
		return err_set(err, -EINVAL, "BackendData has no VtepMAC");
	if (mac_parse(mac, ret_mac) || !mac_is_unicast(ret_mac))
		return err_set(err, -EINVAL, "VtepMAC \"%.40s\" is not a unicast MAC address", mac);
	return 0;
}

static bool vxlan_accepts(const struct backend *b, const struct lease *peer)
{
	struct mac mac;
	int64_t vni;

	if (strcmp(peer->backend_type, backend_vxlan.type))
		return false;
	/* An unusable record is "accepted": planning it names what is wrong. */
	IP_FOREACH_FAMILY (f)
		if (peer->backend_data[f] && !parse_data(peer->backend_data[f], &vni, &mac, NULL) &&
		    vni && vni != b->vxlan.vni)
			return false;
	return true;
}

static void vxlan_plan_own(const struct backend *b, const struct lease *own, struct plan *plan)
{
	IP_FOREACH_FAMILY (f) {
		struct ip_net host = ip_net_host(&own->subnet[f].ip);
		struct entry entry = entry_addr(b->device[f], &host);

		if (b->enabled[f] && ip_net_is_set(&own->subnet[f]))
			plan_add(plan, &entry);
	}
}

static int vxlan_plan_peer(const struct backend *b, enum ip_family family, const struct lease *peer,
			   struct plan *plan, struct err *err)
{
	const struct ip *remote = &peer->public_ip[family];
	const struct ip_net *subnet = &peer->subnet[family];
	bool direct = b->vxlan.direct_routing && uplink_is_onlink(&b->uplink, remote);
	char text[MAC_STRLEN];
	struct entry entry;
	struct mac mac;
	int64_t vni;
	int code = direct ? 0 : parse_data(peer->backend_data[family], &vni, &mac, err);

	if (code)
		return code;
	if (!direct && mac_equal(&mac, &b->vxlan.mac[family]))
		return err_set(
			err, -EINVAL,
			"its VtepMAC %s is our own: is that host a clone of this one, or was it "
			"started with our public IP? Restarting flanneld there cures it",
			mac_format(&mac, text));
	if (b->peer_filter) {
		entry = entry_filter(b->device[family], remote);
		plan_add(plan, &entry);
	}
	if (direct) {
		entry = entry_route(DEVICE_UPLINK, subnet, remote, false);
		plan_add(plan, &entry);
		return 0;
	}
	entry = entry_fdb(b->device[family], &mac, remote);
	plan_add(plan, &entry);
	entry = entry_neigh(b->device[family], &subnet->ip, &mac);
	plan_add(plan, &entry);
	entry = entry_route(b->device[family], subnet, &subnet->ip, true);
	plan_add(plan, &entry);
	return 0;
}

static const char *const vxlan_options[] = {"vni",      "port",          "mtu", "gbp",
					    "learning", "directrouting", NULL};

static const char *const vxlan_kinds[] = {"vxlan", NULL};

const struct backend_ops backend_vxlan = {
	.type = "vxlan",
	.kinds = vxlan_kinds,
	.options = vxlan_options,
	.configure = vxlan_configure,
	.equal = vxlan_equal,
	.mtu = vxlan_mtu,
	.device = vxlan_device,
	.publish = vxlan_publish,
	.accepts = vxlan_accepts,
	.plan_own = vxlan_plan_own,
	.plan_peer = vxlan_plan_peer,
};
