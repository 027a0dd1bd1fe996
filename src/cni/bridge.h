/* SPDX-License-Identifier: Apache-2.0 */
/* bridge.h - a pod's veth on the host's bridge, made as the plugin bridge makes it
 *
 * Through rtnetlink, in this process; the pod's netns is entered only for what depends on
 * the thread's netns (the sockets opened there, /proc/sys/net).
 */
#pragma once

#include "base/json.h"
#include "cni/error.h"
#include "cni/request.h"
#include "cni/result.h"

#include <net/if.h>
#include <stdbool.h>

struct bridge_conf {
	char bridge[IFNAMSIZ];
	bool is_gateway, is_default_gateway, hairpin, promisc, force_address;
	unsigned mtu; /* 0: the kernel's */
};

/* Of a delegate's whole config; 1, 0 and @ret_why (valid until the next call), -1 as
 * host_local_conf_parse(). Pure. */
int bridge_conf_parse(const json_t *delegate, struct bridge_conf *ret_conf, const char **ret_why,
		      struct cni_error *error);

/* Makes bridge, veth, addresses, routes. @address gets its gateways where they were unset,
 * @route the default routes of isDefaultGateway (room for BRIDGE_ROUTES_MORE); @ret_interface
 * is bridge, host's end, pod's end. What a failed one has made in the pod is removed. */
#define BRIDGE_INTERFACES  3
#define BRIDGE_ROUTES_MORE 2
int bridge_add(const struct bridge_conf *conf, const struct cni_request *request,
	       struct cni_address *address, size_t n_addresses, struct cni_route *route,
	       size_t *n_routes, struct cni_interface ret_interface[BRIDGE_INTERFACES],
	       struct cni_error *error);
/* Removes the pod's interface; no netns, no such netns, no interface: success. */
int bridge_del(const struct cni_request *request, struct cni_error *error);
/* Whether bridge, veth, addresses and routes are as @prev_result (version 1.0.0) says. */
int bridge_check(const struct bridge_conf *conf, const struct cni_request *request,
		 const json_t *prev_result, struct cni_error *error);
