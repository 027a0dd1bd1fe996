/* SPDX-License-Identifier: Apache-2.0 */
/* addr.c - addresses of devices over rtnetlink */
#include "kernel/addr.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>

int addr_parse(const struct nlmsghdr *msg, struct addr *ret_addr)
{
	const struct ifaddrmsg *info = mnl_nlmsg_get_payload(msg);
	struct ip local = {0}, address = {0};
	const struct nlattr *attr;
	uint32_t flags;

	if (mnl_nlmsg_get_payload_len(msg) < sizeof(*info))
		return -EINVAL;
	flags = info->ifa_flags;
	mnl_attr_for_each (attr, msg, sizeof(*info)) {
		const void *bytes = mnl_attr_get_payload(attr);
		size_t len = mnl_attr_get_payload_len(attr);

		switch (mnl_attr_get_type(attr)) {
		case IFA_LOCAL:
			(void)ip_from_bytes(bytes, len, &local);
			break;
		case IFA_ADDRESS:
			(void)ip_from_bytes(bytes, len, &address);
			break;
		case IFA_FLAGS:
			if (len >= 4)
				flags = mnl_attr_get_u32(attr);
			break;
		}
	}
	/* On point-to-point devices IFA_ADDRESS is the peer; ours is IFA_LOCAL. */
	if (!ip_is_set(&local))
		local = address;
	if (!ip_is_set(&local) || ip_af(local.family) != info->ifa_family ||
	    info->ifa_prefixlen > ip_bits(local.family))
		return -EINVAL;
	*ret_addr = (struct addr){
		.ifindex = (int)info->ifa_index,
		.net = {.ip = local, .len = info->ifa_prefixlen},
		.scope = info->ifa_scope,
		.deprecated = flags & (IFA_F_DEPRECATED | IFA_F_DADFAILED),
		.tentative = flags & IFA_F_TENTATIVE,
		.temporary = flags & IFA_F_TEMPORARY, /* the same bit as IFA_F_SECONDARY */
	};
	return 0;
}

static struct nlmsghdr *put_header(void *buf, uint16_t type, uint16_t flags, enum ip_family family,
				   struct ifaddrmsg **ret_info)
{
	struct nlmsghdr *msg = mnl_nlmsg_put_header(buf);

	msg->nlmsg_type = type;
	msg->nlmsg_flags = flags;
	*ret_info = mnl_nlmsg_put_extra_header(msg, sizeof(**ret_info));
	(*ret_info)->ifa_family = (uint8_t)ip_af(family);
	return msg;
}

struct nlmsghdr *addr_put_dump(void *buf, enum ip_family family)
{
	struct ifaddrmsg *info;

	return put_header(buf, RTM_GETADDR, 0, family, &info);
}

struct nlmsghdr *addr_put_dump_device(void *buf, enum ip_family family, int ifindex)
{
	struct ifaddrmsg *info;
	struct nlmsghdr *msg = put_header(buf, RTM_GETADDR, 0, family, &info);

	info->ifa_index = (uint32_t)ifindex;
	return msg;
}

static struct nlmsghdr *put_addr(void *buf, uint16_t type, uint16_t flags, int ifindex,
				 const struct ip_net *net)
{
	struct ifaddrmsg *info;
	struct nlmsghdr *msg = put_header(buf, type, flags, net->ip.family, &info);

	info->ifa_index = (uint32_t)ifindex;
	info->ifa_prefixlen = net->len;
	mnl_attr_put(msg, IFA_LOCAL, ip_bytes(net->ip.family), net->ip.b);
	mnl_attr_put(msg, IFA_ADDRESS, ip_bytes(net->ip.family), net->ip.b);
	return msg;
}

struct nlmsghdr *addr_put_add(void *buf, int ifindex, const struct ip_net *net)
{
	struct nlmsghdr *msg =
		put_addr(buf, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, ifindex, net);

	/* Nobody else can have an address of our own subnet, and a tentative one
	 * would be no source for a second. */
	if (net->ip.family == IP_V6)
		mnl_attr_put_u32(msg, IFA_FLAGS, IFA_F_NODAD | IFA_F_PERMANENT);
	return msg;
}

struct nlmsghdr *addr_put_add_new(void *buf, int ifindex, const struct ip_net *net)
{
	struct nlmsghdr *msg = put_addr(buf, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, ifindex, net);
	struct ip broadcast = ip_net_last(net);

	/* RFC 3021: two addresses alone have none. */
	if (net->ip.family == IP_V4 && net->len < 31)
		mnl_attr_put(msg, IFA_BROADCAST, ip_bytes(IP_V4), broadcast.b);
	return msg;
}

struct nlmsghdr *addr_put_delete(void *buf, int ifindex, const struct ip_net *net)
{
	return put_addr(buf, RTM_DELADDR, 0, ifindex, net);
}
