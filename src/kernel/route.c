/* SPDX-License-Identifier: Apache-2.0 */
/* route.c - routes of the main table over rtnetlink */
#include "kernel/route.h"

#include <errno.h>
#include <linux/rtnetlink.h>

static void parse_gateway(const struct nlattr *attr, struct ip *gateway)
{
	(void)ip_from_bytes(mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr), gateway);
}

/* RTA_VIA: a gateway of another family, as in `10.0.0.0/24 via inet6 fe80::1`. */
static void parse_via(const struct nlattr *attr, struct ip *gateway)
{
	const struct rtvia *via = mnl_attr_get_payload(attr);
	size_t len = mnl_attr_get_payload_len(attr);

	if (len > sizeof(*via))
		(void)ip_from_bytes(via->rtvia_addr, len - sizeof(*via), gateway);
}

static void parse_multipath(const struct nlattr *attr, struct route *route)
{
	const char *p = mnl_attr_get_payload(attr);
	size_t left = mnl_attr_get_payload_len(attr);

	while (left >= sizeof(struct rtnexthop) && route->n_nexthops < ROUTE_MAX_NEXTHOPS) {
		const struct rtnexthop *hop = (const void *)p;
		struct route_nexthop *to = &route->nexthop[route->n_nexthops];
		size_t len = hop->rtnh_len;

		if (len < sizeof(*hop) || len > left)
			return;
		to->ifindex = hop->rtnh_ifindex;
		to->onlink = hop->rtnh_flags & RTNH_F_ONLINK;
		for (const struct nlattr *a = (const void *)(p + sizeof(*hop));
		     mnl_attr_ok(a, (int)(p + len - (const char *)a)); a = mnl_attr_next(a)) {
			if (mnl_attr_get_type(a) == RTA_GATEWAY)
				parse_gateway(a, &to->gateway);
			else if (mnl_attr_get_type(a) == RTA_VIA)
				parse_via(a, &to->gateway);
		}
		route->n_nexthops++;
		if (MNL_ALIGN(len) >= left)
			return;
		p += MNL_ALIGN(len);
		left -= MNL_ALIGN(len);
	}
}

static void parse_attr(const struct nlattr *attr, struct route *route, struct route_nexthop *hop)
{
	const void *bytes = mnl_attr_get_payload(attr);
	size_t len = mnl_attr_get_payload_len(attr);

	switch (mnl_attr_get_type(attr)) {
	case RTA_DST:
		(void)ip_from_bytes(bytes, len, &route->dst.ip);
		break;
	case RTA_TABLE:
		if (len >= 4)
			route->table = mnl_attr_get_u32(attr);
		break;
	case RTA_PRIORITY:
		if (len >= 4)
			route->metric = mnl_attr_get_u32(attr);
		break;
	case RTA_PREFSRC:
		(void)ip_from_bytes(bytes, len, &route->source);
		break;
	case RTA_OIF:
		if (len >= 4)
			hop->ifindex = (int)mnl_attr_get_u32(attr);
		break;
	case RTA_GATEWAY:
		parse_gateway(attr, &hop->gateway);
		break;
	case RTA_VIA:
		parse_via(attr, &hop->gateway);
		break;
	case RTA_MULTIPATH:
		parse_multipath(attr, route);
		break;
	case RTA_METRICS:
	case RTA_ENCAP:
	case RTA_NH_ID:
		route->odd = true;
		break;
	}
}

int route_parse(const struct nlmsghdr *msg, struct route *ret_route)
{
	const struct rtmsg *info = mnl_nlmsg_get_payload(msg);
	struct route route = {0};
	struct route_nexthop hop = {0};
	enum ip_family family;
	const struct nlattr *attr;

	if (mnl_nlmsg_get_payload_len(msg) < sizeof(*info))
		return -EINVAL;
	family = ip_family_from_af(info->rtm_family);
	if (family == IP_NONE || (info->rtm_flags & RTM_F_CLONED) || info->rtm_tos)
		return -ENOMSG;
	route.dst.ip.family = (uint8_t)family;
	route.dst.len = info->rtm_dst_len;
	route.table = info->rtm_table;
	route.type = info->rtm_type;
	route.protocol = info->rtm_protocol;
	route.scope = info->rtm_scope;
	hop.onlink = info->rtm_flags & RTNH_F_ONLINK;
	mnl_attr_for_each (attr, msg, sizeof(*info))
		parse_attr(attr, &route, &hop);
	if (route.dst.ip.family != family || route.dst.len > ip_bits(family))
		return -EINVAL;
	if (!route.n_nexthops && hop.ifindex) {
		route.n_nexthops = 1;
		route.nexthop[0] = hop;
	}
	*ret_route = route;
	return 0;
}

static struct nlmsghdr *put_header(void *buf, uint16_t type, uint16_t flags, enum ip_family family,
				   struct rtmsg **ret_info)
{
	struct nlmsghdr *msg = mnl_nlmsg_put_header(buf);

	msg->nlmsg_type = type;
	msg->nlmsg_flags = flags;
	*ret_info = mnl_nlmsg_put_extra_header(msg, sizeof(**ret_info));
	(*ret_info)->rtm_family = (uint8_t)ip_af(family);
	return msg;
}

struct nlmsghdr *route_put_dump(void *buf, enum ip_family family)
{
	struct rtmsg *info;
	struct nlmsghdr *msg = put_header(buf, RTM_GETROUTE, 0, family, &info);

	info->rtm_table = RT_TABLE_MAIN;
	/* The compact form may not name the table to a kernel that checks strictly. */
	mnl_attr_put_u32(msg, RTA_TABLE, RT_TABLE_MAIN);
	return msg;
}

static void put_nexthops(struct nlmsghdr *msg, struct rtmsg *info, const struct route *route)
{
	const struct route_nexthop *hop = &route->nexthop[0];

	/* Nothing of ours is multipath; deleting one takes destination and protocol. */
	if (route->n_nexthops != 1)
		return;
	mnl_attr_put_u32(msg, RTA_OIF, (uint32_t)hop->ifindex);
	if (ip_is_set(&hop->gateway))
		mnl_attr_put(msg, RTA_GATEWAY, ip_bytes(hop->gateway.family), hop->gateway.b);
	if (hop->onlink)
		info->rtm_flags |= RTNH_F_ONLINK;
}

static struct nlmsghdr *put_route(void *buf, uint16_t type, uint16_t flags,
				  const struct route *route, unsigned char scope)
{
	struct rtmsg *info;
	struct nlmsghdr *msg = put_header(buf, type, flags, route->dst.ip.family, &info);

	info->rtm_table = RT_TABLE_MAIN;
	info->rtm_dst_len = route->dst.len;
	info->rtm_type = route->type;
	info->rtm_protocol = route->protocol;
	info->rtm_scope = scope;
	mnl_attr_put(msg, RTA_DST, ip_bytes(route->dst.ip.family), route->dst.ip.b);
	if (route->metric)
		mnl_attr_put_u32(msg, RTA_PRIORITY, route->metric);
	if (ip_is_set(&route->source))
		mnl_attr_put(msg, RTA_PREFSRC, ip_bytes(route->source.family), route->source.b);
	put_nexthops(msg, info, route);
	return msg;
}

static struct nlmsghdr *put_new(void *buf, uint16_t flags, const struct route *route)
{
	bool direct = route->n_nexthops && !ip_is_set(&route->nexthop[0].gateway);

	return put_route(buf, RTM_NEWROUTE, NLM_F_CREATE | flags, route,
			 direct ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE);
}

struct nlmsghdr *route_put_add(void *buf, const struct route *route)
{
	return put_new(buf, NLM_F_EXCL, route);
}

struct nlmsghdr *route_put_add_beside(void *buf, const struct route *route)
{
	return put_route(buf, RTM_NEWROUTE, NLM_F_CREATE, route, route->scope);
}

struct nlmsghdr *route_put_replace(void *buf, const struct route *route)
{
	return put_new(buf, NLM_F_REPLACE, route);
}

struct nlmsghdr *route_put_delete(void *buf, const struct route *route)
{
	/* RT_SCOPE_NOWHERE: any scope matches. */
	return put_route(buf, RTM_DELROUTE, 0, route, RT_SCOPE_NOWHERE);
}

struct nlmsghdr *route_put_get(void *buf, const struct ip *ip)
{
	struct rtmsg *info;
	struct nlmsghdr *msg = put_header(buf, RTM_GETROUTE, 0, ip->family, &info);

	info->rtm_dst_len = (uint8_t)ip_bits(ip->family);
	mnl_attr_put(msg, RTA_DST, ip_bytes(ip->family), ip->b);
	return msg;
}
