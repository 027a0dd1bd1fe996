/* SPDX-License-Identifier: Apache-2.0 */
/* udp.c - backend udp: inner IPv4 packets as they are, each in one UDP datagram
 *
 * Theory of operation. The whole Network is routed into one tun device; who has which
 * subnet is known to nobody but the data path (path.h), which reads packets from the
 * device and sends them to the peer's public IP, and the other way round. So a peer is
 * no kernel entry: it is planned as ENTRY_TUNNEL, and the daemon hands all of those to
 * the path.
 *
 * In Mode kernel the kernel sends and receives the same bytes: an ipip device without a remote
 * takes the outer destination from the route's gateway, and FOU puts a UDP header in between.
 * A peer is a route there, and who may send is left to the peer filter, as with vxlan.
 */
#include "backend/backend.h"
#include "base/json.h"

#include <errno.h>
#include <linux/if_tunnel.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_PORT     8285
#define OVERHEAD         28      /* outer IPv4 header, UDP 8 */
#define MIN_MTU          576     /* RFC 791: what every host must take */
#define OUTER_TTL        64      /* what a socket's datagrams have */
#define BUSY_POLL_US_MAX 1000000 /* longer is no polling before sleep, but no sleep */
/* Packets that wait in the device while the path is not on a CPU, of whatever size: what
 * 100,000 small ones a second are in 10 ms. */
#define QUEUE_LEN 1000

static int parse_offload(const char *text, enum udp_offload *ret_offload, struct err *err)
{
	static const char *const names[] = {
		[UDP_OFFLOAD_AUTO] = "auto",
		[UDP_OFFLOAD_GSO] = "gso",
		[UDP_OFFLOAD_MMSG] = "mmsg",
		[UDP_OFFLOAD_PLAIN] = "plain",
	};
	_Static_assert(ARRAY_SIZE(names) == UDP_OFFLOAD_COUNT, "a name for each rung");

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcasecmp(names[i], text)) {
			*ret_offload = (enum udp_offload)i;
			return 0;
		}
	return err_set(err, -EINVAL,
		       "Offload is \"%.40s\"; it must be \"auto\", \"gso\", \"mmsg\" or \"plain\"",
		       text);
}

static int parse_mode(const char *text, bool *ret_by_kernel, struct err *err)
{
	*ret_by_kernel = !strcasecmp(text, "kernel");
	if (*ret_by_kernel || !strcasecmp(text, "userspace"))
		return 0;
	return err_set(err, -EINVAL, "Mode is \"%.40s\"; it must be \"userspace\" or \"kernel\"",
		       text);
}

/* The format has no place for IPv6, inside or outside. The original leases IPv6 subnets
 * under it all the same, which nothing carries. */
static int check_families(const struct backend *b, struct err *err)
{
	if (b->enabled[IP_V6])
		return err_set(err, -EINVAL,
			       "it carries IPv4 only: set EnableIPv6 to false%s, or take vxlan",
			       b->enabled[IP_V4] ? "" : " and EnableIPv4 to true");
	if (b->uplink.mtu < MIN_MTU + OVERHEAD)
		return err_set(err, -EINVAL, "MTU %u of %s is too small: it needs at least %u",
			       b->uplink.mtu, b->uplink.name, (unsigned)(MIN_MTU + OVERHEAD));
	return 0;
}

static int udp_configure(struct backend *b, const json_t *options, struct err *err)
{
	const char *offload = "auto", *mode = "userspace";
	int64_t port = DEFAULT_PORT, busy_poll_us = 0;
	int code = check_families(b, err);

	if (!code)
		code = json_member_int(options, "Port", 0, UINT16_MAX, &port, err);
	if (!code)
		code = json_member_int(options, "BusyPoll", 0, BUSY_POLL_US_MAX, &busy_poll_us,
				       err);
	if (!code)
		code = json_member_string(options, "Offload", &offload, err);
	if (!code)
		code = json_member_string(options, "Mode", &mode, err);
	if (!code)
		code = parse_offload(offload, &b->udp.offload, err);
	if (!code)
		code = parse_mode(mode, &b->udp.by_kernel, err);
	if (code)
		return code;
	b->udp.port = (uint16_t)(port ? port : DEFAULT_PORT);
	b->udp.busy_poll_us = (unsigned)busy_poll_us;
	(void)snprintf(b->udp.device, sizeof(b->udp.device), "flannel0");
	return 0;
}

static bool udp_equal(const struct backend *a, const struct backend *b)
{
	return a->udp.port == b->udp.port && a->udp.offload == b->udp.offload &&
	       a->udp.busy_poll_us == b->udp.busy_poll_us && a->udp.by_kernel == b->udp.by_kernel &&
	       ip_net_equal(&a->network[IP_V4], &b->network[IP_V4]);
}

static unsigned udp_mtu(const struct backend *b)
{
	return b->uplink.mtu - OVERHEAD;
}

static void shape_ipip(const struct backend *b, struct link *link)
{
	link->ipip = (struct link_ipip){
		.local = b->uplink.addr[IP_V4],
		.ttl = OUTER_TTL,
		.encap = TUNNEL_ENCAP_FOU,
		/* Without, a peer's UDP_GRO does nothing. */
		.encap_flags = TUNNEL_ENCAP_FLAG_CSUM,
		.source_port = b->udp.port,
		.port = b->udp.port,
	};
}

static bool udp_device(const struct backend *b, enum ip_family family, struct link *ret_link)
{
	struct link link = {.up = true, .mtu = udp_mtu(b)};

	if (family != IP_V4)
		return false;
	(void)snprintf(link.name, sizeof(link.name), "%s", b->udp.device);
	(void)snprintf(link.kind, sizeof(link.kind), "%s", b->udp.by_kernel ? "ipip" : "tun");
	if (b->udp.by_kernel)
		shape_ipip(b, &link);
	else
		link.tx_queue_len = QUEUE_LEN;
	*ret_link = link;
	return true;
}

/* The original writes no BackendType at all under this backend. */
static bool udp_accepts(const struct backend *b, const struct lease *peer)
{
	(void)b;
	return !*peer->backend_type || !strcmp(peer->backend_type, backend_udp.type);
}

static void udp_plan_own(const struct backend *b, const struct lease *own, struct plan *plan)
{
	struct ip_net host = ip_net_host(&own->subnet[IP_V4].ip);
	struct entry entry = entry_addr(b->device[IP_V4], &host);

	if (!ip_net_is_set(&own->subnet[IP_V4]))
		return;
	plan_add(plan, &entry);
	if (b->udp.by_kernel)
		return;
	entry = entry_route(b->device[IP_V4], &b->network[IP_V4], &(struct ip){0}, false);
	plan_add(plan, &entry);
}

static int udp_plan_peer(const struct backend *b, enum ip_family family, const struct lease *peer,
			 struct plan *plan, struct err *err)
{
	const struct ip *remote = &peer->public_ip[family];
	const struct ip_net *subnet = &peer->subnet[family];
	uint8_t device = b->device[family];
	struct entry entry = b->udp.by_kernel ? entry_route(device, subnet, remote, true)
					      : entry_tunnel(device, subnet, remote);

	(void)err;
	plan_add(plan, &entry);
	if (b->udp.by_kernel && b->peer_filter) {
		entry = entry_filter(device, remote);
		plan_add(plan, &entry);
	}
	return 0;
}

static const char *const udp_options[] = {"port", "offload", "busypoll", "mode", NULL};

static const char *const udp_kinds[] = {"tun", "ipip", NULL};

const struct backend_ops backend_udp = {
	.type = "udp",
	.kinds = udp_kinds,
	.options = udp_options,
	.configure = udp_configure,
	.equal = udp_equal,
	.mtu = udp_mtu,
	.device = udp_device,
	.accepts = udp_accepts,
	.plan_own = udp_plan_own,
	.plan_peer = udp_plan_peer,
};
