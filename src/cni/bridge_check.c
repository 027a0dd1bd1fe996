/* SPDX-License-Identifier: Apache-2.0 */
/* bridge_check.c - CHECK: whether an attachment is as ADD has said
 *
 * In one thing more lenient than the plugin, which never finds a route that names no gateway
 * in the result (the networks of flannel are such routes) and so fails every CHECK: here it
 * is found with the gateway that ADD gave it.
 */
#include "cni/bridge_internal.h"

#include "cni/netns.h"
#include "kernel/route.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdarg.h>
#include <stdio.h>

#define CHECK_ROUTES_MAX 256

struct check {
	const struct bridge_conf *conf;
	const struct cni_request *request;
	const json_t *interfaces, *ips, *routes; /* arrays of the result, or NULL */
	struct netlink *host, *pod;
	struct link bridge, pod_end;
	struct cni_error *error;
};

static int differs(const struct check *check, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static int differs(const struct check *check, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return cni_fail(check->error, CNI_INTERNAL, "%s", text);
}

/* "" where there is none. */
static const char *string_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_member(object, key));

	return text ? text : "";
}

static bool has_mac(const json_t *interface, const struct link *link)
{
	const char *text = string_of(interface, "mac");
	struct mac mac;

	return !*text || (!mac_parse(text, &mac) && mac_equal(&mac, &link->mac));
}

static int check_mac(const struct check *check, const json_t *interface, const struct link *link)
{
	char have[MAC_STRLEN];

	if (has_mac(interface, link))
		return 0;
	return differs(check, "%s has MAC %s, not %s as ADD said", link->name,
		       mac_format(&link->mac, have), string_of(interface, "mac"));
}

/* The interface of the result named @name, in our netns or (NULL) the host's. */
static const json_t *find_interface(const struct check *check, const char *name,
				    const char *sandbox)
{
	const json_t *interface;
	size_t i;

	json_array_foreach (check->interfaces, i, interface)
		if (!strcmp(string_of(interface, "name"), name) &&
		    !strcmp(string_of(interface, "sandbox"), sandbox))
			return interface;
	return NULL;
}

/* Gets device @name of @kind. */
static int demand_link(const struct check *check, struct netlink *nl, const char *name,
		       const char *kind, const char *where, struct link *ret_link)
{
	int found = bridge_get_link(nl, name, ret_link, check->error);

	if (found < 0)
		return -1;
	if (!found)
		return differs(check, "there is no %s %s %s", kind, name, where);
	if (strcmp(ret_link->kind, kind))
		return differs(check, "%s %s is no %s", name, where, kind);
	return 0;
}

static int check_bridge(struct check *check)
{
	const char *name = check->conf->bridge;
	const json_t *interface = find_interface(check, name, "");

	if (!interface)
		return differs(check, "ADD's result has no bridge %s", name);
	if (demand_link(check, check->host, name, "bridge", "on the host", &check->bridge) ||
	    check_mac(check, interface, &check->bridge))
		return -1;
	if (check->bridge.promisc != check->conf->promisc)
		return differs(check, "promiscuous mode of bridge %s is %s, the config's is %s",
			       name, check->bridge.promisc ? "on" : "off",
			       check->conf->promisc ? "on" : "off");
	return 0;
}

static int check_pod_end(struct check *check)
{
	const char *name = check->request->ifname, *netns = check->request->netns;
	const json_t *interface = find_interface(check, name, netns);

	if (!interface)
		return differs(check, "ADD's result has no interface %s in netns %s", name, netns);
	if (demand_link(check, check->pod, name, "veth", netns, &check->pod_end))
		return -1;
	return check_mac(check, interface, &check->pod_end);
}

/* 1: this is the other end, and sound; 0: it is not it; -1. */
static int try_host_end(const struct check *check, const json_t *interface)
{
	const char *name = string_of(interface, "name");
	struct link link;
	int found;

	if (*string_of(interface, "sandbox") || !strcmp(name, check->conf->bridge))
		return 0;
	found = bridge_get_link(check->host, name, &link, check->error);
	if (found < 0)
		return -1;
	if (!found)
		return differs(check, "there is no veth %s on the host", name);
	if (strcmp(link.kind, "veth") || link.peer_ifindex != check->pod_end.ifindex ||
	    check->pod_end.peer_ifindex != link.ifindex)
		return 0;
	if (link.master != check->bridge.ifindex)
		return differs(check, "%s is not a port of bridge %s", name, check->conf->bridge);
	return check_mac(check, interface, &link) ? -1 : 1;
}

static int check_host_end(const struct check *check)
{
	const json_t *interface;
	size_t i;

	json_array_foreach (check->interfaces, i, interface) {
		int code = try_host_end(check, interface);

		if (code)
			return code < 0 ? -1 : 0;
	}
	return differs(check, "no interface of ADD's result is the other end of %s in %s",
		       check->request->ifname, check->request->netns);
}

/* -- addresses and routes -------------------------------------------------------------- */

struct routes {
	struct route route[CHECK_ROUTES_MAX];
	size_t n;
};

static void on_route(const struct nlmsghdr *msg, void *userdata)
{
	struct routes *routes = userdata;
	struct route route;

	if (routes->n < ARRAY_SIZE(routes->route) && !route_parse(msg, &route) &&
	    route.table == RT_TABLE_MAIN)
		routes->route[routes->n++] = route;
}

static int list_routes(const struct check *check, enum ip_family family, struct routes *ret_routes)
{
	struct err err;
	int code, attempts = 0;

	do {
		MESSAGE_BUFFER(buf);

		ret_routes->n = 0;
		code = netlink_dump(check->pod, route_put_dump(buf, family), on_route, ret_routes,
				    &err);
	} while (code == -EINTR && ++attempts < 10);
	if (code)
		return cni_fail(check->error, CNI_INTERNAL, "listing routes of %s: %s",
				check->request->netns, err.text);
	return 0;
}

/* The gateway that ADD gave to routes without one. */
static struct ip first_gateway(const struct check *check, enum ip_family family)
{
	const json_t *address;
	struct ip gateway;
	size_t i;

	json_array_foreach (check->ips, i, address)
		if (!ip_parse(string_of(address, "gateway"), &gateway) && gateway.family == family)
			return gateway;
	return (struct ip){0};
}

/* With @gateway unset: whatever its gateway. */
static bool has_route(const struct routes *routes, const struct ip_net *dst,
		      const struct ip *gateway)
{
	for (size_t i = 0; i < routes->n; i++) {
		const struct route *route = &routes->route[i];

		/* A default route has no destination in the kernel's message. */
		if (route->dst.len != dst->len || (dst->len && !ip_equal(&route->dst.ip, &dst->ip)))
			continue;
		if (!ip_is_set(gateway))
			return true;
		for (unsigned hop = 0; hop < route->n_nexthops; hop++)
			if (ip_equal(&route->nexthop[hop].gateway, gateway))
				return true;
	}
	return false;
}

static int check_address(const struct check *check, const struct routes *routes,
			 const struct bridge_addrs *addrs, const struct ip_net *net)
{
	const char *ifname = check->request->ifname, *netns = check->request->netns;
	const struct ip_net base = ip_net_base(net);
	char text[IP_NET_STRLEN];
	bool found = false;

	for (size_t i = 0; i < addrs->n; i++)
		found |= ip_net_equal(&addrs->net[i], net);
	if (!found)
		return differs(check, "%s in %s does not have the address %s", ifname, netns,
			       ip_net_format(net, text));
	if (!has_route(routes, &base, &(struct ip){0}))
		return differs(check, "there is no route to %s in %s", ip_net_format(&base, text),
			       netns);
	return 0;
}

static int check_route(const struct check *check, const struct routes *routes,
		       const struct ip_net *dst, const char *gateway_text)
{
	struct ip gateway = first_gateway(check, (enum ip_family)dst->ip.family);
	char text[IP_NET_STRLEN], via[IP_STRLEN];

	if (*gateway_text && ip_parse(gateway_text, &gateway))
		return cni_fail(check->error, CNI_DECODING_FAILURE, "prevResult: gateway '%s'",
				gateway_text);
	/* As the plugin: any default route will do. */
	if (!dst->len)
		gateway = (struct ip){0};
	if (has_route(routes, dst, &gateway))
		return 0;
	return differs(check, "there is no route to %s via %s in %s", ip_net_format(dst, text),
		       ip_format(&gateway, via), check->request->netns);
}

static int read_net(const struct check *check, const json_t *object, const char *key,
		    struct ip_net *ret_net)
{
	if (!ip_net_parse(string_of(object, key), ret_net))
		return 0;
	return cni_fail(check->error, CNI_DECODING_FAILURE, "prevResult: %s '%s'", key,
			string_of(object, key));
}

static int check_family(const struct check *check, enum ip_family family, struct routes *routes)
{
	struct bridge_addrs addrs;
	const json_t *object;
	struct ip_net net;
	size_t i;

	if (list_routes(check, family, routes) ||
	    bridge_list_addrs(check->pod, family, check->pod_end.ifindex, &addrs, check->error))
		return -1;
	json_array_foreach (check->ips, i, object)
		if (read_net(check, object, "address", &net) ||
		    (net.ip.family == family && check_address(check, routes, &addrs, &net)))
			return -1;
	json_array_foreach (check->routes, i, object)
		if (read_net(check, object, "dst", &net) ||
		    (net.ip.family == family &&
		     check_route(check, routes, &net, string_of(object, "gw"))))
			return -1;
	return 0;
}

static int check_all(struct check *check)
{
	_cleanup_free_ struct routes *routes = mem_alloc(1, sizeof(*routes));

	if (check_bridge(check) || check_pod_end(check) || check_host_end(check))
		return -1;
	IP_FOREACH_FAMILY (family)
		if (check_family(check, family, routes))
			return -1;
	return 0;
}

int bridge_check(const struct bridge_conf *conf, const struct cni_request *request,
		 const json_t *prev_result, struct cni_error *error)
{
	_cleanup_netlink_ struct netlink *host = NULL, *pod = NULL;
	struct check check = {
		.conf = conf,
		.request = request,
		.interfaces = json_member(prev_result, "interfaces"),
		.ips = json_member(prev_result, "ips"),
		.routes = json_member(prev_result, "routes"),
		.error = error,
	};

	if (bridge_open_in_pod(request, &pod, error) || bridge_open_netlink(&host, error))
		return -1;
	check.host = host;
	check.pod = pod;
	return check_all(&check);
}
