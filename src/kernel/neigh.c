/* SPDX-License-Identifier: Apache-2.0 */
/* neigh.c - neighbours and FDB entries over rtnetlink */
#include "kernel/neigh.h"

#include <errno.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>

int neigh_parse(const struct nlmsghdr *msg, struct neigh *ret_neigh)
{
	const struct ndmsg *info = mnl_nlmsg_get_payload(msg);
	const struct nlattr *attr;
	struct neigh neigh = {0};
	bool by_driver = false;

	if (mnl_nlmsg_get_payload_len(msg) < sizeof(*info))
		return -EINVAL;
	neigh.fdb = info->ndm_family == AF_BRIDGE;
	if (!neigh.fdb && ip_family_from_af(info->ndm_family) == IP_NONE)
		return -ENOMSG;
	if (info->ndm_flags & NTF_PROXY)
		return -ENOMSG;
	neigh.ifindex = info->ndm_ifindex;
	neigh.permanent = info->ndm_state & NUD_PERMANENT;
	mnl_attr_for_each (attr, msg, sizeof(*info)) {
		const void *bytes = mnl_attr_get_payload(attr);
		size_t len = mnl_attr_get_payload_len(attr);

		switch (mnl_attr_get_type(attr)) {
		case NDA_PORT:
		case NDA_VNI:
		case NDA_IFINDEX:
		case NDA_NH_ID:
			neigh.odd = true;
			break;
		case NDA_CACHEINFO:
			by_driver = true;
			break;
		case NDA_DST:
			(void)ip_from_bytes(bytes, len, &neigh.ip);
			break;
		case NDA_LLADDR:
			if (len == sizeof(neigh.mac.b))
				memcpy(neigh.mac.b, bytes, len);
			break;
		}
	}
	/* What the driver says has times in it: vxlan_fdb_info(). Behind it, older kernels
	 * (6.1) say that there was a request: rtnl_fdb_notify(), without the remote. */
	if (neigh.fdb && !by_driver)
		return -ENOMSG;
	if (!neigh.fdb && ip_af(neigh.ip.family) != info->ndm_family)
		return -EINVAL;
	*ret_neigh = neigh;
	return 0;
}

static struct nlmsghdr *put_header(void *buf, uint16_t type, uint16_t flags,
				   struct ndmsg **ret_info)
{
	struct nlmsghdr *msg = mnl_nlmsg_put_header(buf);

	msg->nlmsg_type = type;
	msg->nlmsg_flags = flags;
	*ret_info = mnl_nlmsg_put_extra_header(msg, sizeof(**ret_info));
	return msg;
}

struct nlmsghdr *neigh_put_dump(void *buf, int ifindex, bool fdb, enum ip_family family)
{
	struct ndmsg *info;
	struct nlmsghdr *msg = put_header(buf, RTM_GETNEIGH, 0, &info);

	if (fdb) {
		/* An FDB dump takes the device in the header, rtnl_fdb_dump(). */
		info->ndm_family = AF_BRIDGE;
		info->ndm_ifindex = ifindex;
	} else {
		info->ndm_family = (uint8_t)ip_af(family);
		mnl_attr_put_u32(msg, NDA_IFINDEX, (uint32_t)ifindex);
	}
	return msg;
}

static struct nlmsghdr *put_neigh(void *buf, uint16_t type, uint16_t flags,
				  const struct neigh *neigh)
{
	struct ndmsg *info;
	struct nlmsghdr *msg = put_header(buf, type, flags, &info);

	info->ndm_family = (uint8_t)(neigh->fdb ? AF_BRIDGE : ip_af(neigh->ip.family));
	info->ndm_ifindex = neigh->ifindex;
	info->ndm_state = NUD_PERMANENT;
	info->ndm_flags = neigh->fdb ? NTF_SELF : 0;
	if (ip_is_set(&neigh->ip))
		mnl_attr_put(msg, NDA_DST, ip_bytes(neigh->ip.family), neigh->ip.b);
	if (neigh->fdb || type == RTM_NEWNEIGH)
		mnl_attr_put(msg, NDA_LLADDR, sizeof(neigh->mac.b), neigh->mac.b);
	return msg;
}

struct nlmsghdr *neigh_put_replace(void *buf, const struct neigh *neigh)
{
	return put_neigh(buf, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, neigh);
}

struct nlmsghdr *neigh_put_delete(void *buf, const struct neigh *neigh)
{
	struct neigh key = *neigh;

	/* Without the remote the kernel removes the MAC whole, whatever its remotes
	 * have become meanwhile: __vxlan_fdb_delete(). */
	if (key.fdb)
		key.ip = (struct ip){0};
	return put_neigh(buf, RTM_DELNEIGH, 0, &key);
}
