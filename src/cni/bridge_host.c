/* SPDX-License-Identifier: Apache-2.0 */
/* bridge_host.c - what all pods share: the bridge, its addresses, forwarding */
#include "cni/bridge_internal.h"

#include "kernel/addr.h"
#include "kernel/sysctl.h"

#include <errno.h>
#include <linux/if.h>
#include <stdio.h>

/* Finds it or makes it. Two of us may be about to make the first one. */
static int find_bridge(struct bridge_job *job)
{
	const char *name = job->conf->bridge;
	int found = bridge_get_link(job->host, name, &job->bridge, job->error);
	MESSAGE_BUFFER(buf);
	struct err err;
	int code;

	if (!found) {
		code = netlink_request(job->host, link_put_create_bridge(buf, name, job->conf->mtu),
				       NULL, NULL, &err);
		if (code && code != -EEXIST)
			return cni_fail(job->error, CNI_INTERNAL, "making bridge %s: %s", name,
					err.text);
		found = bridge_get_link(job->host, name, &job->bridge, job->error);
	}
	if (found < 0)
		return -1;
	if (!found)
		return cni_fail(job->error, CNI_INTERNAL, "bridge %s vanished as it was made",
				name);
	if (strcmp(job->bridge.kind, "bridge"))
		return cni_fail(job->error, CNI_INTERNAL,
				"there is a device %s that is no bridge but %s", name,
				*job->bridge.kind ? job->bridge.kind : "a NIC");
	return 0;
}

int bridge_ensure(struct bridge_job *job)
{
	unsigned missing = 0;
	MESSAGE_BUFFER(buf);

	if (find_bridge(job))
		return -1;
	/* Its routes are ours to make. */
	bridge_try_setting("ipv6", job->conf->bridge, "accept_ra", 0);
	if (job->conf->promisc && !job->bridge.promisc)
		missing |= IFF_PROMISC;
	if (!job->bridge.up)
		missing |= IFF_UP;
	if (!missing)
		return 0;
	return bridge_demand(job->host, link_put_flags(buf, job->bridge.ifindex, missing),
			     "setting up bridge", job->conf->bridge, job->error);
}

/* A bridge has one IPv4 address, and one IPv6 address in each subnet. */
static bool conflicts(const struct ip_net *have, const struct ip_net *want)
{
	if (have->ip.family != want->ip.family)
		return false;
	return want->ip.family == IP_V4 || ip_net_contains(have, &want->ip) ||
	       ip_net_contains(want, &have->ip);
}

static int remove_address(struct bridge_job *job, const struct ip_net *net)
{
	char text[IP_NET_STRLEN];
	MESSAGE_BUFFER(buf);
	struct err err;
	int code = netlink_request(job->host, addr_put_delete(buf, job->bridge.ifindex, net), NULL,
				   NULL, &err);

	if (code && code != -EADDRNOTAVAIL)
		return cni_fail(job->error, CNI_INTERNAL, "taking %s from bridge %s: %s",
				ip_net_format(net, text), job->conf->bridge, err.text);
	return 0;
}

/* 1: it is there; 0: nothing is in its way (any more). */
static int clear_way(struct bridge_job *job, const struct bridge_addrs *list,
		     const struct ip_net *want)
{
	char have_text[IP_NET_STRLEN], want_text[IP_NET_STRLEN];

	for (size_t i = 0; i < list->n; i++) {
		const struct ip_net *have = &list->net[i];

		if (ip_net_equal(have, want))
			return 1;
		if (!conflicts(have, want))
			continue;
		if (!job->conf->force_address)
			return cni_fail(job->error, CNI_INTERNAL,
					"bridge %s has address %s, which is in the way of %s "
					"(forceAddress would replace it)",
					job->conf->bridge, ip_net_format(have, have_text),
					ip_net_format(want, want_text));
		if (remove_address(job, have))
			return -1;
	}
	return 0;
}

static int add_gateway(struct bridge_job *job, const struct ip_net *want)
{
	char text[IP_NET_STRLEN];
	struct bridge_addrs list;
	MESSAGE_BUFFER(buf);
	struct err err;
	int code;

	if (bridge_list_addrs(job->host, (enum ip_family)want->ip.family, job->bridge.ifindex,
			      &list, job->error))
		return -1;
	code = clear_way(job, &list, want);
	if (code)
		return code < 0 ? -1 : 0;
	code = netlink_request(job->host, addr_put_add_new(buf, job->bridge.ifindex, want), NULL,
			       NULL, &err);
	/* Another ADD was faster, and does what follows. */
	if (code == -EEXIST)
		return 0;
	if (code)
		return cni_fail(job->error, CNI_INTERNAL, "giving %s to bridge %s: %s",
				ip_net_format(want, text), job->conf->bridge, err.text);
	/* Otherwise it takes the lowest MAC of its ports, another one with every pod: the pods
	 * that are there would have a dead neighbour for a gateway. It has a port by now and
	 * so another MAC, or this would give it no bridge id: br_set_mac_address(). */
	memset(buf, 0, sizeof(buf));
	return bridge_demand(job->host, link_put_mac(buf, job->bridge.ifindex, &job->bridge.mac),
			     "keeping the MAC of bridge", job->conf->bridge, job->error);
}

static int enable_forwarding(struct bridge_job *job, enum ip_family family)
{
	const char *name = family == IP_V4 ? "net/ipv4/ip_forward" : "net/ipv6/conf/all/forwarding";
	struct err err;
	long value;

	if (!sysctl_get(name, &value, NULL) && value == 1)
		return 0;
	if (sysctl_set(name, 1, &err))
		return cni_fail(job->error, CNI_INTERNAL, "forwarding: %s", err.text);
	return 0;
}

/* In the order of families, as the plugin does it. */
int bridge_ensure_gateways(struct bridge_job *job)
{
	IP_FOREACH_FAMILY (family) {
		bool any = false;

		for (size_t i = 0; i < job->n_addresses; i++) {
			struct ip_net gateway = {.ip = job->address[i].gateway,
						 .len = job->address[i].net.len};

			if (job->address[i].net.ip.family != family)
				continue;
			any = true;
			if (add_gateway(job, &gateway))
				return -1;
		}
		if (any && enable_forwarding(job, family))
			return -1;
	}
	return 0;
}
