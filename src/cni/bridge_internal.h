/* SPDX-License-Identifier: Apache-2.0 */
/* bridge_internal.h - what the bridge's files share */
#pragma once

#include "cni/bridge.h"
#include "kernel/link.h"
#include "kernel/netlink.h"

#define MESSAGE_BUFFER(buf) char buf[NETLINK_MESSAGE_MAX] __attribute__((aligned(8))) = {0}

/* An attachment in the making. */
struct bridge_job {
	const struct bridge_conf *conf;
	const struct cni_request *request;
	struct cni_address *address;
	size_t n_addresses;
	struct cni_route *route;
	size_t n_routes;
	int netns;
	struct netlink *host, *pod;
	struct link bridge, host_end, pod_end;
	struct cni_error *error;
};

/* Gateways of @address where they are unset and we are one; default routes. Pure. */
void bridge_plan(const struct bridge_conf *conf, struct cni_address *address, size_t n_addresses,
		 struct cni_route *route, size_t *n_routes);

/* Finds or makes the bridge, into job->bridge, and sets it up. */
int bridge_ensure(struct bridge_job *job);
/* Its addresses, forwarding. */
int bridge_ensure_gateways(struct bridge_job *job);

/* An rtnetlink socket in the calling thread's netns. */
int bridge_open_netlink(struct netlink **ret_nl, struct cni_error *error);
/* The same in the pod's; 1 (and @error): there is no such netns. */
int bridge_open_in_pod(const struct cni_request *request, struct netlink **ret_nl,
		       struct cni_error *error);
/* 1: there is one; 0: there is none. */
int bridge_get_link(struct netlink *nl, const char *name, struct link *ret_link,
		    struct cni_error *error);
/* A request that must succeed; the words say what it is about when it does not. */
int bridge_demand(struct netlink *nl, struct nlmsghdr *msg, const char *what, const char *object,
		  struct cni_error *error);
/* Addresses of a device, of one family or (IP_NONE) of both; what is beyond is dropped. */
#define BRIDGE_ADDRS_MAX 64
struct bridge_addrs {
	int ifindex;
	struct ip_net net[BRIDGE_ADDRS_MAX];
	size_t n;
	bool tentative; /* any */
};
int bridge_list_addrs(struct netlink *nl, enum ip_family family, int ifindex,
		      struct bridge_addrs *ret_list, struct cni_error *error);
/* A setting of a device that a kernel may lack, and which the plugin then goes without. */
void bridge_try_setting(const char *family, const char *device, const char *name, long value);

static inline void bridge_cleanup_netlink(struct netlink **nl)
{
	netlink_close(*nl);
}
#define _cleanup_netlink_ _cleanup_(bridge_cleanup_netlink)
