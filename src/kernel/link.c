/* SPDX-License-Identifier: Apache-2.0 */
/* link.c - network devices over rtnetlink */
#include "kernel/link.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/if_tunnel.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <linux/veth.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

static void copy_string(char *to, size_t size, const struct nlattr *attr)
{
	size_t n = strnlen(mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr));

	if (n >= size)
		n = size - 1;
	memcpy(to, mnl_attr_get_payload(attr), n);
	to[n] = '\0';
}

static void parse_vxlan(const struct nlattr *data, struct link_vxlan *vxlan)
{
	const struct nlattr *attr;

	mnl_attr_for_each_nested (attr, data) {
		size_t len = mnl_attr_get_payload_len(attr);

		switch (mnl_attr_get_type(attr)) {
		case IFLA_VXLAN_ID:
			if (len >= 4)
				vxlan->vni = mnl_attr_get_u32(attr);
			break;
		case IFLA_VXLAN_PORT:
			if (len >= 2)
				vxlan->port = ntohs(mnl_attr_get_u16(attr));
			break;
		case IFLA_VXLAN_LINK:
			if (len >= 4)
				vxlan->lower_ifindex = (int)mnl_attr_get_u32(attr);
			break;
		case IFLA_VXLAN_LOCAL:
		case IFLA_VXLAN_LOCAL6:
			(void)ip_from_bytes(mnl_attr_get_payload(attr), len, &vxlan->local);
			break;
		case IFLA_VXLAN_LEARNING:
			if (len >= 1)
				vxlan->learning = mnl_attr_get_u8(attr);
			break;
		case IFLA_VXLAN_GBP:
			vxlan->gbp = true;
			break;
		}
	}
}

static void parse_ipip_attr(const struct nlattr *attr, struct link_ipip *ipip)
{
	size_t len = mnl_attr_get_payload_len(attr);
	uint16_t u16 = len >= 2 ? mnl_attr_get_u16(attr) : 0;

	switch (mnl_attr_get_type(attr)) {
	case IFLA_IPTUN_LINK:
		if (len >= 4)
			ipip->lower_ifindex = (int)mnl_attr_get_u32(attr);
		break;
	case IFLA_IPTUN_LOCAL:
		(void)ip_from_bytes(mnl_attr_get_payload(attr), len, &ipip->local);
		break;
	case IFLA_IPTUN_REMOTE:
		(void)ip_from_bytes(mnl_attr_get_payload(attr), len, &ipip->remote);
		break;
	case IFLA_IPTUN_TTL:
		if (len >= 1)
			ipip->ttl = mnl_attr_get_u8(attr);
		break;
	case IFLA_IPTUN_PMTUDISC:
		if (len >= 1)
			ipip->no_pmtu = !mnl_attr_get_u8(attr);
		break;
	case IFLA_IPTUN_ENCAP_TYPE:
		ipip->encap = u16;
		break;
	case IFLA_IPTUN_ENCAP_FLAGS:
		ipip->encap_flags = u16;
		break;
	case IFLA_IPTUN_ENCAP_SPORT:
		ipip->source_port = ntohs(u16);
		break;
	case IFLA_IPTUN_ENCAP_DPORT:
		ipip->port = ntohs(u16);
		break;
	}
}

static void parse_ipip(const struct nlattr *data, struct link_ipip *ipip)
{
	const struct nlattr *attr;

	mnl_attr_for_each_nested (attr, data)
		parse_ipip_attr(attr, ipip);
	/* The kernel has no "unset", but for the address of nobody. */
	if (!ip_to_num(&ipip->local))
		ipip->local = (struct ip){0};
	if (!ip_to_num(&ipip->remote))
		ipip->remote = (struct ip){0};
}

static void parse_port(const struct nlattr *data, struct link_port *port)
{
	const struct nlattr *attr;

	port->is_port = true;
	mnl_attr_for_each_nested (attr, data) {
		if (mnl_attr_get_payload_len(attr) < 1)
			continue;
		if (mnl_attr_get_type(attr) == IFLA_BRPORT_STATE)
			port->state = mnl_attr_get_u8(attr);
		else if (mnl_attr_get_type(attr) == IFLA_BRPORT_MODE)
			port->hairpin = mnl_attr_get_u8(attr);
	}
}

static void parse_linkinfo(const struct nlattr *info, struct link *link)
{
	const struct nlattr *attr, *data = NULL, *port = NULL;
	char master_kind[LINK_KIND_MAX] = "";

	mnl_attr_for_each_nested (attr, info) {
		if (mnl_attr_get_type(attr) == IFLA_INFO_KIND)
			copy_string(link->kind, sizeof(link->kind), attr);
		else if (mnl_attr_get_type(attr) == IFLA_INFO_DATA)
			data = attr;
		else if (mnl_attr_get_type(attr) == IFLA_INFO_SLAVE_KIND)
			copy_string(master_kind, sizeof(master_kind), attr);
		else if (mnl_attr_get_type(attr) == IFLA_INFO_SLAVE_DATA)
			port = attr;
	}
	if (data && !strcmp(link->kind, "vxlan"))
		parse_vxlan(data, &link->vxlan);
	if (data && !strcmp(link->kind, "ipip"))
		parse_ipip(data, &link->ipip);
	if (port && !strcmp(master_kind, "bridge"))
		parse_port(port, &link->port);
}

static void parse_attr(const struct nlattr *attr, struct link *link)
{
	size_t len = mnl_attr_get_payload_len(attr);

	switch (mnl_attr_get_type(attr)) {
	case IFLA_IFNAME:
		copy_string(link->name, sizeof(link->name), attr);
		break;
	case IFLA_IFALIAS:
		copy_string(link->alias, sizeof(link->alias), attr);
		break;
	case IFLA_MTU:
		if (len >= 4)
			link->mtu = mnl_attr_get_u32(attr);
		break;
	case IFLA_TXQLEN:
		if (len >= 4)
			link->tx_queue_len = mnl_attr_get_u32(attr);
		break;
	case IFLA_LINK:
		if (len >= 4)
			link->peer_ifindex = (int)mnl_attr_get_u32(attr);
		break;
	case IFLA_MASTER:
		if (len >= 4)
			link->master = (int)mnl_attr_get_u32(attr);
		break;
	case IFLA_OPERSTATE:
		if (len >= 1)
			link->operstate = mnl_attr_get_u8(attr);
		break;
	case IFLA_ADDRESS:
		if (len == sizeof(link->mac.b))
			memcpy(link->mac.b, mnl_attr_get_payload(attr), sizeof(link->mac.b));
		break;
	case IFLA_LINKINFO:
		parse_linkinfo(attr, link);
		break;
	}
}

int link_parse(const struct nlmsghdr *msg, struct link *ret_link)
{
	const struct ifinfomsg *info = mnl_nlmsg_get_payload(msg);
	const struct nlattr *attr;
	struct link link = {0};

	if (mnl_nlmsg_get_payload_len(msg) < sizeof(*info))
		return -EINVAL;
	if (info->ifi_family != AF_UNSPEC)
		return -ENOMSG;
	link.ifindex = info->ifi_index;
	link.up = info->ifi_flags & IFF_UP;
	link.loopback = info->ifi_flags & IFF_LOOPBACK;
	link.promisc = info->ifi_flags & IFF_PROMISC;
	mnl_attr_for_each (attr, msg, sizeof(*info))
		parse_attr(attr, &link);
	*ret_link = link;
	return 0;
}

static struct nlmsghdr *put_header(void *buf, uint16_t type, uint16_t flags, int ifindex,
				   struct ifinfomsg **ret_info)
{
	struct nlmsghdr *msg = mnl_nlmsg_put_header(buf);

	msg->nlmsg_type = type;
	msg->nlmsg_flags = flags;
	*ret_info = mnl_nlmsg_put_extra_header(msg, sizeof(**ret_info));
	(*ret_info)->ifi_index = ifindex;
	return msg;
}

struct nlmsghdr *link_put_dump(void *buf)
{
	struct ifinfomsg *info;

	return put_header(buf, RTM_GETLINK, 0, 0, &info);
}

struct nlmsghdr *link_put_get(void *buf, const char *name, int ifindex)
{
	struct ifinfomsg *info;
	struct nlmsghdr *msg = put_header(buf, RTM_GETLINK, 0, name ? 0 : ifindex, &info);

	if (name)
		mnl_attr_put_strz(msg, IFLA_IFNAME, name);
	return msg;
}

struct nlmsghdr *link_put_probe(void *buf, const char *kind)
{
	struct nlattr *linkinfo;
	struct ifinfomsg *info;
	struct nlmsghdr *msg = put_header(buf, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, &info);

	mnl_attr_put_strz(msg, IFLA_IFNAME, "weft-probe");
	/* A vxlan device lacks its VNI, but an ipip device could be made of nothing. */
	mnl_attr_put_u32(msg, IFLA_NUM_TX_QUEUES, UINT16_MAX);
	linkinfo = mnl_attr_nest_start(msg, IFLA_LINKINFO);
	mnl_attr_put_strz(msg, IFLA_INFO_KIND, kind);
	mnl_attr_nest_end(msg, linkinfo);
	return msg;
}

static void put_up(struct ifinfomsg *info, bool up)
{
	info->ifi_change = IFF_UP;
	info->ifi_flags = up ? IFF_UP : 0;
}

/* What is zero or empty is left out. */
static void put_common(struct nlmsghdr *msg, const struct link *link)
{
	if (link->mtu)
		mnl_attr_put_u32(msg, IFLA_MTU, link->mtu);
	if (link->tx_queue_len)
		mnl_attr_put_u32(msg, IFLA_TXQLEN, link->tx_queue_len);
	if (!mac_is_zero(&link->mac))
		mnl_attr_put(msg, IFLA_ADDRESS, sizeof(link->mac.b), link->mac.b);
	if (*link->alias)
		mnl_attr_put(msg, IFLA_IFALIAS, strlen(link->alias), link->alias);
}

/* What a living device takes, too. */
static void put_vxlan_changeable(struct nlmsghdr *msg, const struct link_vxlan *vxlan)
{
	if (vxlan->lower_ifindex)
		mnl_attr_put_u32(msg, IFLA_VXLAN_LINK, (uint32_t)vxlan->lower_ifindex);
	if (ip_is_set(&vxlan->local))
		mnl_attr_put(msg,
			     vxlan->local.family == IP_V4 ? IFLA_VXLAN_LOCAL : IFLA_VXLAN_LOCAL6,
			     ip_bytes(vxlan->local.family), vxlan->local.b);
	mnl_attr_put_u8(msg, IFLA_VXLAN_LEARNING, vxlan->learning);
}

struct nlmsghdr *link_put_create_vxlan(void *buf, const struct link *link)
{
	struct nlattr *linkinfo, *data;
	struct ifinfomsg *info;
	struct nlmsghdr *msg = put_header(buf, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, &info);

	put_up(info, true);
	mnl_attr_put_strz(msg, IFLA_IFNAME, link->name);
	put_common(msg, link);
	linkinfo = mnl_attr_nest_start(msg, IFLA_LINKINFO);
	mnl_attr_put_strz(msg, IFLA_INFO_KIND, "vxlan");
	data = mnl_attr_nest_start(msg, IFLA_INFO_DATA);
	mnl_attr_put_u32(msg, IFLA_VXLAN_ID, link->vxlan.vni);
	mnl_attr_put_u16(msg, IFLA_VXLAN_PORT, htons(link->vxlan.port));
	if (link->vxlan.gbp)
		mnl_attr_put(msg, IFLA_VXLAN_GBP, 0, NULL);
	put_vxlan_changeable(msg, &link->vxlan);
	mnl_attr_nest_end(msg, data);
	mnl_attr_nest_end(msg, linkinfo);
	return msg;
}

static void put_ip(struct nlmsghdr *msg, uint16_t type, const struct ip *ip)
{
	static const uint8_t any[4];

	mnl_attr_put(msg, type, sizeof(any), ip_is_set(ip) ? ip->b : any);
}

/* All of it, also when it is changed: what is left out, the kernel takes for unset. */
static void put_ipip(struct nlmsghdr *msg, const struct link_ipip *ipip)
{
	struct nlattr *linkinfo = mnl_attr_nest_start(msg, IFLA_LINKINFO), *data;

	mnl_attr_put_strz(msg, IFLA_INFO_KIND, "ipip");
	data = mnl_attr_nest_start(msg, IFLA_INFO_DATA);
	mnl_attr_put_u32(msg, IFLA_IPTUN_LINK, (uint32_t)ipip->lower_ifindex);
	put_ip(msg, IFLA_IPTUN_LOCAL, &ipip->local);
	put_ip(msg, IFLA_IPTUN_REMOTE, &ipip->remote);
	mnl_attr_put_u8(msg, IFLA_IPTUN_TTL, ipip->ttl);
	mnl_attr_put_u8(msg, IFLA_IPTUN_PMTUDISC, !ipip->no_pmtu);
	mnl_attr_put_u16(msg, IFLA_IPTUN_ENCAP_TYPE, ipip->encap);
	mnl_attr_put_u16(msg, IFLA_IPTUN_ENCAP_FLAGS, ipip->encap_flags);
	mnl_attr_put_u16(msg, IFLA_IPTUN_ENCAP_SPORT, htons(ipip->source_port));
	mnl_attr_put_u16(msg, IFLA_IPTUN_ENCAP_DPORT, htons(ipip->port));
	mnl_attr_nest_end(msg, data);
	mnl_attr_nest_end(msg, linkinfo);
}

struct nlmsghdr *link_put_create_ipip(void *buf, const struct link *link)
{
	struct ifinfomsg *info;
	struct nlmsghdr *msg = put_header(buf, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, &info);

	put_up(info, true);
	mnl_attr_put_strz(msg, IFLA_IFNAME, link->name);
	put_common(msg, link);
	put_ipip(msg, &link->ipip);
	return msg;
}

struct nlmsghdr *link_put_change_ipip(void *buf, int ifindex, const struct link *link)
{
	struct ifinfomsg *info;
	struct nlmsghdr *msg = put_header(buf, RTM_NEWLINK, 0, ifindex, &info);

	put_ipip(msg, &link->ipip);
	return msg;
}

struct nlmsghdr *link_put_change(void *buf, const struct link *seen, const struct link *want)
{
	struct ifinfomsg *info;
	struct nlmsghdr *msg = put_header(buf, RTM_NEWLINK, 0, seen->ifindex, &info);
	struct link differs = *want;

	if (differs.mtu == seen->mtu)
		differs.mtu = 0;
	if (differs.tx_queue_len == seen->tx_queue_len)
		differs.tx_queue_len = 0;
	if (mac_equal(&differs.mac, &seen->mac))
		differs.mac = (struct mac){0};
	*differs.alias = '\0';
	put_up(info, want->up);
	put_common(msg, &differs);
	/* An empty one takes off what is there. */
	if (strcmp(want->alias, seen->alias))
		mnl_attr_put(msg, IFLA_IFALIAS, strlen(want->alias), want->alias);
	return msg;
}

struct nlmsghdr *link_put_change_vxlan(void *buf, int ifindex, const struct link *link)
{
	struct nlattr *linkinfo, *data;
	struct ifinfomsg *info;
	struct nlmsghdr *msg = put_header(buf, RTM_NEWLINK, 0, ifindex, &info);

	linkinfo = mnl_attr_nest_start(msg, IFLA_LINKINFO);
	mnl_attr_put_strz(msg, IFLA_INFO_KIND, "vxlan");
	data = mnl_attr_nest_start(msg, IFLA_INFO_DATA);
	mnl_attr_put_u32(msg, IFLA_VXLAN_ID, link->vxlan.vni);
	put_vxlan_changeable(msg, &link->vxlan);
	mnl_attr_nest_end(msg, data);
	mnl_attr_nest_end(msg, linkinfo);
	return msg;
}

struct nlmsghdr *link_put_delete(void *buf, int ifindex)
{
	struct ifinfomsg *info;

	return put_header(buf, RTM_DELLINK, 0, ifindex, &info);
}

struct nlmsghdr *link_put_delete_name(void *buf, const char *name)
{
	struct ifinfomsg *info;
	struct nlmsghdr *msg = put_header(buf, RTM_DELLINK, 0, 0, &info);

	mnl_attr_put_strz(msg, IFLA_IFNAME, name);
	return msg;
}

struct nlmsghdr *link_put_create_bridge(void *buf, const char *name, unsigned mtu)
{
	const struct link common = {.mtu = mtu};
	struct nlattr *linkinfo;
	struct ifinfomsg *info;
	struct nlmsghdr *msg = put_header(buf, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, &info);

	mnl_attr_put_strz(msg, IFLA_IFNAME, name);
	put_common(msg, &common);
	linkinfo = mnl_attr_nest_start(msg, IFLA_LINKINFO);
	mnl_attr_put_strz(msg, IFLA_INFO_KIND, "bridge");
	mnl_attr_nest_end(msg, linkinfo);
	return msg;
}

static void put_veth_end(struct nlmsghdr *msg, const char *name, unsigned mtu)
{
	mnl_attr_put_strz(msg, IFLA_IFNAME, name);
	if (mtu)
		mnl_attr_put_u32(msg, IFLA_MTU, mtu);
	mnl_attr_put_u32(msg, IFLA_TXQLEN, 0);
}

struct nlmsghdr *link_put_create_veth(void *buf, const struct link_veth *veth)
{
	struct nlattr *linkinfo, *data, *peer;
	struct ifinfomsg *info;
	struct nlmsghdr *msg = put_header(buf, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0, &info);

	put_up(info, true);
	put_veth_end(msg, veth->name, veth->mtu);
	mnl_attr_put_u32(msg, IFLA_MASTER, (uint32_t)veth->master);
	linkinfo = mnl_attr_nest_start(msg, IFLA_LINKINFO);
	mnl_attr_put_strz(msg, IFLA_INFO_KIND, "veth");
	data = mnl_attr_nest_start(msg, IFLA_INFO_DATA);
	/* A struct ifinfomsg, then attributes as of a device. */
	peer = mnl_attr_nest_start(msg, VETH_INFO_PEER);
	(void)mnl_nlmsg_put_extra_header(msg, sizeof(*info));
	put_veth_end(msg, veth->peer_name, veth->mtu);
	mnl_attr_put_u32(msg, IFLA_NET_NS_FD, (uint32_t)veth->peer_netns);
	mnl_attr_nest_end(msg, peer);
	mnl_attr_nest_end(msg, data);
	mnl_attr_nest_end(msg, linkinfo);
	return msg;
}

struct nlmsghdr *link_put_flags(void *buf, int ifindex, unsigned flags)
{
	struct ifinfomsg *info;
	struct nlmsghdr *msg = put_header(buf, RTM_NEWLINK, 0, ifindex, &info);

	info->ifi_change = info->ifi_flags = flags;
	return msg;
}

struct nlmsghdr *link_put_oper_up(void *buf, int ifindex)
{
	struct ifinfomsg *info;
	struct nlmsghdr *msg = put_header(buf, RTM_NEWLINK, 0, ifindex, &info);

	mnl_attr_put_u8(msg, IFLA_OPERSTATE, IF_OPER_UP);
	return msg;
}

struct nlmsghdr *link_put_mac(void *buf, int ifindex, const struct mac *mac)
{
	struct ifinfomsg *info;
	struct nlmsghdr *msg = put_header(buf, RTM_NEWLINK, 0, ifindex, &info);

	mnl_attr_put(msg, IFLA_ADDRESS, sizeof(mac->b), mac->b);
	return msg;
}

struct nlmsghdr *link_put_hairpin(void *buf, const char *name, bool on)
{
	struct nlattr *linkinfo, *port;
	struct ifinfomsg *info;
	struct nlmsghdr *msg = put_header(buf, RTM_NEWLINK, 0, 0, &info);

	mnl_attr_put_strz(msg, IFLA_IFNAME, name);
	linkinfo = mnl_attr_nest_start(msg, IFLA_LINKINFO);
	mnl_attr_put_strz(msg, IFLA_INFO_SLAVE_KIND, "bridge");
	port = mnl_attr_nest_start(msg, IFLA_INFO_SLAVE_DATA);
	mnl_attr_put_u8(msg, IFLA_BRPORT_MODE, on);
	mnl_attr_nest_end(msg, port);
	mnl_attr_nest_end(msg, linkinfo);
	return msg;
}

static int ethtool_value(const char *name, struct ethtool_value *value)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq req = {0};

	if (fd < 0)
		return -errno;
	(void)snprintf(req.ifr_name, sizeof(req.ifr_name), "%s", name);
	req.ifr_data = (void *)value;
	return ioctl(fd, SIOCETHTOOL, &req) < 0 ? -errno : 0;
}

int link_get_tx_checksum(const char *name, bool *ret_on)
{
	struct ethtool_value value = {.cmd = ETHTOOL_GTXCSUM};
	int code = ethtool_value(name, &value);

	if (!code)
		*ret_on = value.data;
	return code;
}

int link_set_tx_checksum(const char *name, bool on)
{
	struct ethtool_value value = {.cmd = ETHTOOL_STXCSUM, .data = on};

	return ethtool_value(name, &value);
}
