/* SPDX-License-Identifier: Apache-2.0 */
/* entry.c - kernel entries as values */
#include "reconcile/entry.h"

#include "base/mem.h"

#include <linux/rtnetlink.h>
#include <stdio.h>

_Static_assert(sizeof(struct entry_key) == 24, "keys are hashed whole: no padding");

/* Keys are hashed and compared as bytes, so every one starts from zeroed memory. */
static struct entry entry_new(enum entry_kind kind, uint8_t device)
{
	struct entry e;

	memset(&e, 0, sizeof(e));
	e.key.kind = (uint8_t)kind;
	e.key.device = device;
	return e;
}

struct entry entry_addr(uint8_t device, const struct ip_net *net)
{
	struct entry e = entry_new(ENTRY_ADDR, device);

	e.key.net = *net;
	return e;
}

struct entry entry_neigh(uint8_t device, const struct ip *ip, const struct mac *mac)
{
	struct entry e = entry_new(ENTRY_NEIGH, device);

	e.key.net = ip_net_host(ip);
	e.value.mac = *mac;
	return e;
}

struct entry entry_fdb(uint8_t device, const struct mac *mac, const struct ip *remote)
{
	struct entry e = entry_new(ENTRY_FDB, device);

	e.key.mac = *mac;
	e.value.ip = *remote;
	return e;
}

struct entry entry_filter(uint8_t device, const struct ip *peer)
{
	struct entry e = entry_new(ENTRY_FILTER, device);

	e.key.net = ip_net_host(peer);
	return e;
}

struct entry entry_tunnel(uint8_t device, const struct ip_net *subnet, const struct ip *remote)
{
	struct entry e = entry_new(ENTRY_TUNNEL, device);

	e.key.net = *subnet;
	e.value.ip = *remote;
	return e;
}

struct entry entry_route(uint8_t device, const struct ip_net *dst, const struct ip *gateway,
			 bool onlink)
{
	struct entry e = entry_new(ENTRY_ROUTE, DEVICE_NONE);

	e.key.net = *dst;
	e.value.type = RTN_UNICAST;
	e.value.protocol = ROUTE_PROTOCOL_WEFT;
	e.value.device = device;
	e.value.onlink = onlink;
	e.value.ip = *gateway;
	/* What the kernel makes of "no metric": IP6_RT_PRIO_USER. */
	e.key.metric = dst->ip.family == IP_V6 ? 1024 : 0;
	return e;
}

struct entry entry_blackhole(const struct ip_net *dst, uint32_t metric)
{
	struct entry e = entry_new(ENTRY_ROUTE, DEVICE_NONE);

	e.key.net = *dst;
	e.key.metric = metric;
	e.value.type = RTN_BLACKHOLE;
	e.value.protocol = ROUTE_PROTOCOL_WEFT;
	return e;
}

struct entry entry_from_addr(const struct addr *addr, uint8_t device)
{
	return entry_addr(device, &addr->net);
}

struct entry entry_from_neigh(const struct neigh *neigh, uint8_t device)
{
	struct entry e = neigh->fdb ? entry_fdb(device, &neigh->mac, &neigh->ip)
				    : entry_neigh(device, &neigh->ip, &neigh->mac);

	e.value.foreign = !neigh->permanent || neigh->odd;
	return e;
}

struct entry entry_from_route(const struct route *route, uint8_t device)
{
	const struct route_nexthop *hop = &route->nexthop[0];
	struct entry e = entry_new(ENTRY_ROUTE, DEVICE_NONE);

	e.key.net = route->dst;
	e.key.metric = route->metric;
	e.value.type = route->type;
	e.value.protocol = route->protocol;
	if (route->n_nexthops) {
		e.value.device = device;
		e.value.onlink = hop->onlink;
		e.value.ip = hop->gateway;
	}
	/* The kernel hangs IPv6 blackholes on lo. */
	if (route->type == RTN_BLACKHOLE)
		e.value.device = DEVICE_NONE;
	e.value.foreign = route->odd || route->n_nexthops > 1 || ip_is_set(&route->source) ||
			  (route->type == RTN_UNICAST && device == DEVICE_NONE);
	return e;
}

bool entry_value_equal(const struct entry_value *a, const struct entry_value *b)
{
	return !a->foreign && !b->foreign && a->type == b->type && a->protocol == b->protocol &&
	       a->device == b->device && a->onlink == b->onlink && ip_equal(&a->ip, &b->ip) &&
	       mac_equal(&a->mac, &b->mac);
}

const char *entry_kind_name(enum entry_kind kind, bool plural)
{
	static const char *const names[][2] = {
		[ENTRY_ADDR] = {"address", "addresses"},
		[ENTRY_FDB] = {"FDB entry", "FDB entries"},
		[ENTRY_NEIGH] = {"neighbour", "neighbours"},
		[ENTRY_FILTER] = {"peer filter entry", "peer filter entries"},
		[ENTRY_TUNNEL] = {"tunnel peer", "tunnel peers"},
		[ENTRY_ROUTE] = {"route", "routes"},
	};
	_Static_assert(ARRAY_SIZE(names) == ENTRY_KIND_COUNT, "a name for each kind");

	return names[kind][plural];
}

static void format_route(const struct entry *e, const char *device, char *buf, size_t size)
{
	char net[IP_NET_STRLEN], gateway[IP_STRLEN];
	const char *kind = e->value.type == RTN_BLACKHOLE ? "blackhole " : "";

	ip_net_format(&e->key.net, net);
	if (!*device)
		(void)snprintf(buf, size, "%sroute %s", kind, net);
	else if (!ip_is_set(&e->value.ip))
		(void)snprintf(buf, size, "%sroute %s dev %s", kind, net, device);
	else
		(void)snprintf(buf, size, "route %s via %s dev %s%s", net,
			       ip_format(&e->value.ip, gateway), device,
			       e->value.onlink ? " onlink" : "");
}

const char *entry_format(const struct entry *e, const char names[DEVICE_MAX][IFNAMSIZ],
			 char buf[ENTRY_STRLEN])
{
	const char *device = names[e->key.device];
	char a[IP_NET_STRLEN], b[IP_STRLEN];

	switch ((enum entry_kind)e->key.kind) {
	case ENTRY_ADDR:
		(void)snprintf(buf, ENTRY_STRLEN, "address %s dev %s",
			       ip_net_format(&e->key.net, a), device);
		break;
	case ENTRY_FDB:
		(void)snprintf(buf, ENTRY_STRLEN, "FDB entry %s dst %s dev %s",
			       mac_format(&e->key.mac, a), ip_format(&e->value.ip, b), device);
		break;
	case ENTRY_NEIGH:
		(void)snprintf(buf, ENTRY_STRLEN, "neighbour %s lladdr %s dev %s",
			       ip_format(&e->key.net.ip, b), mac_format(&e->value.mac, a), device);
		break;
	case ENTRY_FILTER:
		(void)snprintf(buf, ENTRY_STRLEN, "peer filter entry %s of %s",
			       ip_format(&e->key.net.ip, b), device);
		break;
	case ENTRY_TUNNEL:
		(void)snprintf(buf, ENTRY_STRLEN, "tunnel peer %s at %s dev %s",
			       ip_net_format(&e->key.net, a), ip_format(&e->value.ip, b), device);
		break;
	case ENTRY_ROUTE:
		format_route(e, names[e->value.device], buf, ENTRY_STRLEN);
		break;
	case ENTRY_KIND_COUNT:
		*buf = '\0';
		break;
	}
	return buf;
}
