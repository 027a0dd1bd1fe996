/* SPDX-License-Identifier: Apache-2.0 */
/* uplink_world.c - which NIC and which addresses carry the overlay: the snapshot
 *
 * Links, addresses and routes come from separate dumps and may disagree when
 * something changes in between. That does no harm: the change is notified too, and
 * the daemon then takes another snapshot.
 */
#include "daemon/uplink.h"

#include "base/mem.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>

/* How often a dump that the kernel calls inconsistent is begun again. */
#define DUMP_ATTEMPTS 8

/* Room for one more behind @n objects of @size bytes: doubled at each power of two. */
static void *grow(void *array, size_t n, size_t size)
{
	if (n & (n - 1))
		return array;
	return mem_realloc(array, n ? 2 * n : 1, size);
}

static void on_link(const struct nlmsghdr *msg, void *userdata)
{
	struct uplink_world *world = userdata;
	struct link link;

	if (link_parse(msg, &link) < 0)
		return;
	world->links = grow(world->links, world->n_links, sizeof(link));
	world->links[world->n_links++] = link;
}

static void on_addr(const struct nlmsghdr *msg, void *userdata)
{
	struct uplink_world *world = userdata;
	struct addr addr;

	if (addr_parse(msg, &addr) < 0)
		return;
	world->addrs = grow(world->addrs, world->n_addrs, sizeof(addr));
	world->addrs[world->n_addrs++] = addr;
}

static void on_route(const struct nlmsghdr *msg, void *userdata)
{
	struct uplink_world *world = userdata;
	struct route route;

	if (route_parse(msg, &route) < 0 || route.dst.len != 0 || route.table != RT_TABLE_MAIN)
		return;
	world->defaults = grow(world->defaults, world->n_defaults, sizeof(route));
	world->defaults[world->n_defaults++] = route;
}

/* Runs a dump until it is consistent. @count is the number of objects that
 * @on_object has added to, and goes back to where it was before another attempt. */
static int dump(struct netlink *nl, struct nlmsghdr *msg, netlink_message_fn on_object,
		struct uplink_world *world, size_t *count, struct err *err)
{
	const size_t before = *count;
	int r = -EINTR;

	for (int i = 0; i < DUMP_ATTEMPTS && r == -EINTR; i++) {
		*count = before;
		r = netlink_dump(nl, msg, on_object, world, err);
	}
	return r;
}

static int read_links_and_addrs(struct netlink *nl, struct uplink_world *world, struct err *err)
{
	char links[NETLINK_MESSAGE_MAX] = {0}, addrs[NETLINK_MESSAGE_MAX] = {0};
	int r;

	r = dump(nl, link_put_dump(links), on_link, world, &world->n_links, err);
	if (r < 0)
		return err_wrap(err, r, "cannot list the interfaces");
	r = dump(nl, addr_put_dump(addrs, IP_NONE), on_addr, world, &world->n_addrs, err);
	if (r < 0)
		return err_wrap(err, r, "cannot list the addresses");
	return 0;
}

static int read_defaults(struct netlink *nl, struct uplink_world *world, struct err *err)
{
	for (enum ip_family f = IP_V4; f < IP_FAMILY_COUNT; f++) {
		char buf[NETLINK_MESSAGE_MAX] = {0};
		int r;

		r = dump(nl, route_put_dump(buf, f), on_route, world, &world->n_defaults, err);
		if (r == -EAFNOSUPPORT || r == -EOPNOTSUPP || r == -ENOENT)
			continue; /* a kernel without IPv6, a table without any route yet */
		if (r < 0)
			return err_wrap(err, r, "cannot list the %s routes", ip_family_name(f));
	}
	return 0;
}

/* The answer to a route lookup is a clone, which route_parse() does not take. */
static void on_lookup(const struct nlmsghdr *msg, void *userdata)
{
	struct uplink_world *world = userdata;
	struct nlattr *attr;

	if (msg->nlmsg_type != RTM_NEWROUTE ||
	    mnl_nlmsg_get_payload_len(msg) < sizeof(struct rtmsg))
		return;
	mnl_attr_for_each (attr, msg, sizeof(struct rtmsg)) {
		const uint16_t type = mnl_attr_get_type(attr), len = mnl_attr_get_payload_len(attr);

		if (type == RTA_OIF && len == sizeof(uint32_t))
			world->can_reach_ifindex = (int)mnl_attr_get_u32(attr);
		else if (type == RTA_PREFSRC)
			(void)ip_from_bytes(mnl_attr_get_payload(attr), len,
					    &world->can_reach_source);
	}
}

static int look_up(struct netlink *nl, const struct ip *ip, struct uplink_world *world,
		   struct err *err)
{
	char buf[NETLINK_MESSAGE_MAX] = {0}, text[IP_STRLEN];
	int r = netlink_request(nl, route_put_get(buf, ip), on_lookup, world, err);

	switch (-r) {
	case 0:
	case ENETUNREACH:
	case EHOSTUNREACH:
	case EACCES:      /* a prohibit route */
	case EINVAL:      /* a blackhole route */
		return 0; /* no way there, now: can_reach_ifindex stays 0 */
	default:
		return err_wrap(err, r, "cannot look up the route to %s", ip_format(ip, text));
	}
}

int uplink_world_read(struct netlink *nl, const struct ip *can_reach,
		      struct uplink_world *ret_world, struct err *err)
{
	struct uplink_world world = {.links = NULL};
	int r;

	r = read_links_and_addrs(nl, &world, err);
	if (r == 0)
		r = read_defaults(nl, &world, err);
	if (r == 0 && can_reach && ip_is_set(can_reach))
		r = look_up(nl, can_reach, &world, err);
	if (r < 0) {
		uplink_world_done(&world);
		return r;
	}
	*ret_world = world;
	return 0;
}

void uplink_world_done(struct uplink_world *world)
{
	if (!world)
		return;
	free(world->links);
	free(world->addrs);
	free(world->defaults);
	*world = (struct uplink_world){.links = NULL};
}
