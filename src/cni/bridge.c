/* SPDX-License-Identifier: Apache-2.0 */
/* bridge.c - a pod's veth on the host's bridge, made as the plugin bridge makes it
 *
 * Theory of operation: the bridge comes first, which is no pod's. Then one request makes both
 * ends of the veth, the host's up and in the bridge, the pod's in the pod's netns. From there
 * on a failure, and nothing else, removes the pair; killed at any point we leave a pair or
 * none, never a half of one, and DEL finds it by the pod's end. What else is on the host
 * (the bridge's addresses, its MAC, forwarding) stays for the next pod.
 *
 * The pod's netns is visited once, to open a socket there (it stays in that netns wherever
 * the thread goes) and to set what exists below /proc/sys only. Addresses, up and routes of
 * the pod's end then go in one batch, in this order: arp_notify announces the addresses that
 * are there when the device comes up, routes need it up.
 *
 * Nothing of the kernel's comes later than the answer to our requests but two things that
 * its work queues do: link state (linkwatch), without which the port does not forward, and
 * IPv6 addresses leaving the tentative state, at once when DAD is off. Both are a matter of
 * microseconds, looked at in steps of 50 and up.
 */
#include "cni/bridge_internal.h"

#include "cni/netns.h"
#include "kernel/addr.h"
#include "kernel/route.h"
#include "kernel/sysctl.h"

#include <errno.h>
#include <linux/if.h>
#include <linux/if_bridge.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#define PORT_TIMEOUT_US   2550000 /* the plugin's */
#define SETTLE_TIMEOUT_US 10000000
#define STEP_MIN_US       50
#define STEP_MAX_US       20000
#define NAME_ATTEMPTS     10

/* -- the pair -------------------------------------------------------------------------- */

static int random_name(struct bridge_job *job, char name[IFNAMSIZ])
{
	uint32_t number;

	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		return cni_fail(job->error, CNI_INTERNAL, "no random numbers: %s", strerror(errno));
	(void)snprintf(name, IFNAMSIZ, "veth%08x", number);
	return 0;
}

static int make_pair(struct bridge_job *job)
{
	const char *ifname = job->request->ifname, *netns = job->request->netns;
	char name[IFNAMSIZ];
	struct link_veth veth = {.name = name,
				 .peer_name = ifname,
				 .master = job->bridge.ifindex,
				 .peer_netns = job->netns,
				 .mtu = job->conf->mtu};
	struct err err;
	int code = 0;

	for (int i = 0; i < NAME_ATTEMPTS; i++) {
		MESSAGE_BUFFER(buf);

		if (random_name(job, name))
			return -1;
		code = netlink_request(job->host, link_put_create_veth(buf, &veth), NULL, NULL,
				       &err);
		if (!code) {
			memcpy(job->host_end.name, name, sizeof(name));
			return 0;
		}
		if (code != -EEXIST)
			return cni_fail(job->error, CNI_INTERNAL, "making veth %s in %s: %s",
					ifname, netns, err.text);
		/* Which of the two names is taken? */
		code = bridge_get_link(job->host, name, &job->host_end, job->error);
		if (code <= 0)
			break;
	}
	if (code < 0)
		return -1;
	return cni_fail(job->error, CNI_INTERNAL, "there is an interface %s already in %s", ifname,
			netns);
}

static void remove_pair(struct bridge_job *job)
{
	MESSAGE_BUFFER(buf);

	(void)netlink_request(job->host, link_put_delete_name(buf, job->host_end.name), NULL, NULL,
			      NULL);
}

static int finish_host_end(struct bridge_job *job)
{
	MESSAGE_BUFFER(buf);

	bridge_try_setting("ipv6", job->host_end.name, "accept_ra", 0);
	if (!job->conf->hairpin)
		return 0;
	return bridge_demand(job->host, link_put_hairpin(buf, job->host_end.name, true),
			     "hairpin mode of", job->host_end.name, job->error);
}

/* -- the pod --------------------------------------------------------------------------- */

/* Off where the pod's netns was made without IPv6. */
static int enable_ipv6(struct bridge_job *job, const char *device)
{
	char path[SYSCTL_NAME_MAX];
	struct err err;
	long value;

	(void)snprintf(path, sizeof(path), "net/ipv6/conf/%s/disable_ipv6", device);
	if (sysctl_get(path, &value, NULL) || !value)
		return 0;
	if (sysctl_set(path, 0, &err))
		return cni_fail(job->error, CNI_INTERNAL, "IPv6 in %s: %s", job->request->netns,
				err.text);
	return 0;
}

static bool has_family(const struct bridge_job *job, enum ip_family family)
{
	for (size_t i = 0; i < job->n_addresses; i++)
		if (job->address[i].net.ip.family == family)
			return true;
	return false;
}

/* What depends on the netns that the thread is in. */
static int visit_pod(struct bridge_job *job)
{
	const char *ifname = job->request->ifname;
	_cleanup_netns_visit_ int visit = -1;

	if (netns_enter(job->netns, job->request->netns, &visit, job->error) ||
	    bridge_open_netlink(&job->pod, job->error))
		return -1;
	/* Its address is nobody else's: no second of waiting for that to be found out. */
	bridge_try_setting("ipv6", ifname, "accept_dad", 0);
	bridge_try_setting("ipv4", ifname, "arp_notify", 1);
	if (has_family(job, IP_V6) && (enable_ipv6(job, "lo") || enable_ipv6(job, ifname)))
		return -1;
	return 0;
}

/* Messages of the pod's batch are numbered: addresses, then "up", then routes. */
struct failure {
	uint32_t token;
	int code; /* 0: none */
	char text[128];
};

static void on_failure(uint32_t token, int code, const char *text, void *userdata)
{
	struct failure *failure = userdata;

	/* The first one: what follows may have failed for it. */
	if (failure->code)
		return;
	failure->token = token;
	failure->code = code;
	(void)snprintf(failure->text, sizeof(failure->text), "%s%s%s%s", strerror(-code),
		       *text ? " (" : "", text, *text ? ")" : "");
}

/* The gateway that it has, or that of the first address of its family. */
static struct ip gateway_of(const struct bridge_job *job, const struct cni_route *route)
{
	if (ip_is_set(&route->gateway))
		return route->gateway;
	for (size_t i = 0; i < job->n_addresses; i++)
		if (job->address[i].gateway.family == route->dst.ip.family)
			return job->address[i].gateway;
	return (struct ip){0};
}

static struct nlmsghdr *put_route(const struct bridge_job *job, const struct cni_route *from,
				  void *room)
{
	const struct route route = {
		.dst = from->dst,
		.type = RTN_UNICAST,
		.protocol = RTPROT_BOOT,
		.scope = RT_SCOPE_UNIVERSE,
		.n_nexthops = 1,
		.nexthop = {{.ifindex = job->pod_end.ifindex, .gateway = gateway_of(job, from)}},
	};

	return route_put_add_beside(room, &route);
}

static void commit(struct netlink_batch *batch, const struct nlmsghdr *msg, uint32_t *token)
{
	netlink_batch_commit(batch, msg, (*token)++);
}

/* There is room: a message is at most 512 bytes, there are far fewer than 128 of them. */
static void fill_batch(const struct bridge_job *job, struct netlink_batch *batch)
{
	int ifindex = job->pod_end.ifindex;
	uint32_t token = 0;

	for (size_t i = 0; i < job->n_addresses; i++)
		commit(batch,
		       addr_put_add_new(netlink_batch_room(batch), ifindex, &job->address[i].net),
		       &token);
	commit(batch, link_put_flags(netlink_batch_room(batch), ifindex, IFF_UP), &token);
	for (size_t i = 0; i < job->n_routes; i++)
		commit(batch, put_route(job, &job->route[i], netlink_batch_room(batch)), &token);
}

static int tell_failure(struct bridge_job *job, const struct failure *failure)
{
	const char *ifname = job->request->ifname, *netns = job->request->netns;
	char net[IP_NET_STRLEN], gateway[IP_STRLEN];
	const struct cni_route *route;
	struct ip via;

	if (failure->token < job->n_addresses)
		return cni_fail(job->error, CNI_INTERNAL, "giving %s to %s in %s: %s",
				ip_net_format(&job->address[failure->token].net, net), ifname,
				netns, failure->text);
	if (failure->token == job->n_addresses)
		return cni_fail(job->error, CNI_INTERNAL, "setting up %s in %s: %s", ifname, netns,
				failure->text);
	route = &job->route[failure->token - job->n_addresses - 1];
	via = gateway_of(job, route);
	return cni_fail(job->error, CNI_INTERNAL, "route to %s via %s on %s in %s: %s",
			ip_net_format(&route->dst, net), ip_format(&via, gateway), ifname, netns,
			failure->text);
}

static void cleanup_batch(struct netlink_batch **batch)
{
	netlink_batch_free(*batch);
}

static int configure_pod(struct bridge_job *job)
{
	_cleanup_(cleanup_batch) struct netlink_batch *batch = netlink_batch_new();
	const char *ifname = job->request->ifname;
	struct failure failure = {0};
	struct err err;
	int found = bridge_get_link(job->pod, ifname, &job->pod_end, job->error);

	if (found <= 0)
		return found ? -1
			     : cni_fail(job->error, CNI_INTERNAL, "%s vanished from %s", ifname,
					job->request->netns);
	fill_batch(job, batch);
	if (netlink_batch_send(job->pod, batch, on_failure, &failure, &err))
		return cni_fail(job->error, CNI_INTERNAL, "%s in %s: %s", ifname,
				job->request->netns, err.text);
	return failure.code ? tell_failure(job, &failure) : 0;
}

/* -- what the kernel does later -------------------------------------------------------- */

/* A step of waiting, twice as long as the one before. False when the time is over. */
static bool step(unsigned *step_us, unsigned *left_us)
{
	struct timespec pause = {.tv_nsec = 1000L * (long)*step_us};

	if (*left_us < *step_us)
		return false;
	(void)nanosleep(&pause, NULL);
	*left_us -= *step_us;
	*step_us = 2 * *step_us > STEP_MAX_US ? STEP_MAX_US : 2 * *step_us;
	return true;
}

/* The host's end has its carrier, and the bridge has seen that. With spanning tree, which
 * takes half a minute, it listens first: so any state but "disabled" will do. */
static int await_port(struct bridge_job *job)
{
	unsigned step_us = STEP_MIN_US, left_us = PORT_TIMEOUT_US;
	char name[IFNAMSIZ];
	int found;

	memcpy(name, job->host_end.name, sizeof(name));
	do {
		found = bridge_get_link(job->host, name, &job->host_end, job->error);
		if (found < 0)
			return -1;
		if (!found)
			return cni_fail(job->error, CNI_INTERNAL, "%s vanished", name);
		if (job->host_end.operstate == IF_OPER_UP &&
		    (!job->host_end.port.is_port || job->host_end.port.state != BR_STATE_DISABLED))
			return 0;
	} while (step(&step_us, &left_us));
	return cni_fail(job->error, CNI_INTERNAL,
			"%s does not come up as a port of %s (operational state %u, port state "
			"%u)",
			name, job->conf->bridge, job->host_end.operstate, job->host_end.port.state);
}

/* IPv6 addresses are usable: no time but where the netns has DAD on for all devices. */
static int await_addresses(struct bridge_job *job)
{
	unsigned step_us = STEP_MIN_US, left_us = SETTLE_TIMEOUT_US;
	struct bridge_addrs list;

	if (!has_family(job, IP_V6))
		return 0;
	do {
		if (bridge_list_addrs(job->pod, IP_V6, job->pod_end.ifindex, &list, job->error))
			return -1;
		if (!list.tentative)
			return 0;
	} while (step(&step_us, &left_us));
	return cni_fail(job->error, CNI_INTERNAL,
			"an IPv6 address of %s in %s is still tentative after %d s",
			job->request->ifname, job->request->netns, SETTLE_TIMEOUT_US / 1000000);
}

/* -- the whole ------------------------------------------------------------------------- */

static struct cni_interface interface_of(const struct link *link, const char *sandbox)
{
	struct cni_interface interface = {.mac = link->mac, .sandbox = sandbox};

	memcpy(interface.name, link->name, sizeof(interface.name));
	return interface;
}

/* A bridge that never was without a port that forwards, because its first one came this fast,
 * has a carrier but no operational state, and monitoring takes it for down. */
static int settle_bridge(struct bridge_job *job)
{
	const char *name = job->conf->bridge;
	MESSAGE_BUFFER(buf);
	/* Without an address its MAC is the lowest of its ports', perhaps the new one's. */
	int found = bridge_get_link(job->host, name, &job->bridge, job->error);

	if (found <= 0)
		return found ? -1 : cni_fail(job->error, CNI_INTERNAL, "bridge %s vanished", name);
	if (job->bridge.operstate == IF_OPER_UNKNOWN)
		(void)netlink_request(job->host, link_put_oper_up(buf, job->bridge.ifindex), NULL,
				      NULL, NULL);
	return 0;
}

static int make_attachment(struct bridge_job *job)
{
	if ((job->conf->is_gateway && bridge_ensure_gateways(job)) || finish_host_end(job) ||
	    visit_pod(job) || configure_pod(job) || await_port(job) || await_addresses(job))
		return -1;
	return settle_bridge(job);
}

static int add(struct bridge_job *job)
{
	if (netns_open(job->request->netns, &job->netns, job->error) ||
	    bridge_open_netlink(&job->host, job->error) || bridge_ensure(job) || make_pair(job))
		return -1;
	if (make_attachment(job)) {
		remove_pair(job);
		return -1;
	}
	return 0;
}

int bridge_add(const struct bridge_conf *conf, const struct cni_request *request,
	       struct cni_address *address, size_t n_addresses, struct cni_route *route,
	       size_t *n_routes, struct cni_interface ret_interface[BRIDGE_INTERFACES],
	       struct cni_error *error)
{
	struct bridge_job job = {.conf = conf,
				 .request = request,
				 .address = address,
				 .n_addresses = n_addresses,
				 .route = route,
				 .netns = -1,
				 .error = error};
	int code;

	bridge_plan(conf, address, n_addresses, route, n_routes);
	job.n_routes = *n_routes;
	code = add(&job);
	if (!code) {
		ret_interface[0] = interface_of(&job.bridge, NULL);
		ret_interface[1] = interface_of(&job.host_end, NULL);
		ret_interface[2] = interface_of(&job.pod_end, request->netns);
	}
	netlink_close(job.pod);
	netlink_close(job.host);
	mem_cleanup_close(&job.netns);
	return code;
}

int bridge_del(const struct cni_request *request, struct cni_error *error)
{
	_cleanup_netlink_ struct netlink *pod = NULL;
	MESSAGE_BUFFER(buf);
	struct err err;
	int code;

	if (!*request->netns)
		return 0;
	code = bridge_open_in_pod(request, &pod, error);
	if (code)
		return code < 0 ? -1 : 0;
	code = netlink_request(pod, link_put_delete_name(buf, request->ifname), NULL, NULL, &err);
	if (code && code != -ENODEV)
		return cni_fail(error, CNI_INTERNAL, "removing %s from %s: %s", request->ifname,
				request->netns, err.text);
	return 0;
}
