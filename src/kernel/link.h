/* SPDX-License-Identifier: Apache-2.0 */
/* link.h - network devices: what rtnetlink says of one, and how to ask for one
 *
 * Encoders write a complete message at @buf (NETLINK_MESSAGE_MAX bytes, zeroed)
 * and return it; decoders return 0 or -EINVAL and never log.
 */
#pragma once

#include "base/err.h"
#include "kernel/netlink.h"
#include "net/ip.h"
#include "net/mac.h"

#include <net/if.h>
#include <stdbool.h>
#include <stdint.h>

#define LINK_KIND_MAX  16
#define LINK_ALIAS_MAX 128

/* What a vxlan device is made of (IFLA_VXLAN_*). */
struct link_vxlan {
	uint32_t vni;
	uint16_t port;     /* UDP destination port, host order */
	int lower_ifindex; /* the uplink that carries it; 0: none */
	struct ip local;   /* source of outer packets; unset: none */
	bool learning;
	bool gbp;
};

/* What an ipip device is made of (IFLA_IPTUN_*). */
struct link_ipip {
	struct ip local, remote; /* unset: any; without a remote the route's gateway is it */
	int lower_ifindex;       /* 0: whatever the routes say */
	uint8_t ttl;             /* of outer packets; 0: that of inner ones */
	bool no_pmtu;            /* outer packets may be fragmented */
	/* A UDP header before the inner packet. */
	uint16_t encap;       /* TUNNEL_ENCAP_FOU; TUNNEL_ENCAP_NONE: there is none */
	uint16_t encap_flags; /* TUNNEL_ENCAP_FLAG_* */
	uint16_t source_port, port;
};

/* What a device is as the port of a bridge (IFLA_BRPORT_*). */
struct link_port {
	bool is_port;
	bool hairpin;
	uint8_t state; /* BR_STATE_* */
};

struct link {
	int ifindex;
	char name[IFNAMSIZ];
	char kind[LINK_KIND_MAX]; /* "vxlan", "bridge"; "" for a NIC */
	char alias[LINK_ALIAS_MAX];
	unsigned mtu;
	unsigned tx_queue_len; /* packets; 0: none, or whatever it is */
	struct mac mac;
	bool up; /* IFF_UP: set up by the administrator */
	bool loopback;
	bool promisc;
	uint8_t operstate;       /* IF_OPER_* (linux/if.h) */
	int peer_ifindex;        /* of a veth: the other end, in the netns where that one is */
	int master;              /* the bridge (or bond) that it is a port of; 0: none */
	struct link_port port;   /* when the master is a bridge */
	struct link_vxlan vxlan; /* when kind is "vxlan" */
	struct link_ipip ipip;   /* when kind is "ipip" */
};

/* From RTM_NEWLINK or RTM_DELLINK. Messages of other families (bridge ports,
 * AF_BRIDGE) are -ENOMSG. */
int link_parse(const struct nlmsghdr *msg, struct link *ret_link);

/* Dump of all devices; one device, by name or (NULL) by index. */
struct nlmsghdr *link_put_dump(void *buf);
struct nlmsghdr *link_put_get(void *buf, const char *name, int ifindex);

/* A request that no kernel fulfils: one that lacks devices of @kind answers
 * -EOPNOTSUPP (having tried to load the module), every other -EINVAL. */
struct nlmsghdr *link_put_probe(void *buf, const char *kind);

/* Creates @link as a vxlan (ipip) device, up, with its MAC, MTU and alias. */
struct nlmsghdr *link_put_create_vxlan(void *buf, const struct link *link);
struct nlmsghdr *link_put_create_ipip(void *buf, const struct link *link);
/* Makes of device @seen what @want says of MTU, queue, MAC, alias, up; asks only for what
 * differs, since setting a MAC anew flushes the neighbours. */
struct nlmsghdr *link_put_change(void *buf, const struct link *seen, const struct link *want);
/* Changes what a living vxlan device can change: local address, lower device, learning. */
struct nlmsghdr *link_put_change_vxlan(void *buf, int ifindex, const struct link *link);
/* Makes of a living ipip device what @link says of it as one. */
struct nlmsghdr *link_put_change_ipip(void *buf, int ifindex, const struct link *link);
struct nlmsghdr *link_put_delete(void *buf, int ifindex);
struct nlmsghdr *link_put_delete_name(void *buf, const char *name);

/* Creates a bridge, down; @mtu 0: the kernel's. -EEXIST when the name is taken. */
struct nlmsghdr *link_put_create_bridge(void *buf, const char *name, unsigned mtu);

/* A pair of veth devices without a queue: this end is up and in @master from the start, the
 * other one is made where @peer_netns (a file descriptor) points to, and down. */
struct link_veth {
	const char *name, *peer_name;
	int master;
	int peer_netns;
	unsigned mtu; /* 0: the kernel's */
};
struct nlmsghdr *link_put_create_veth(void *buf, const struct link_veth *veth);

/* Sets IFF_UP, IFF_PROMISC. */
struct nlmsghdr *link_put_flags(void *buf, int ifindex, unsigned flags);
/* Says that a device whose operational state is unknown is up: set_operstate(). */
struct nlmsghdr *link_put_oper_up(void *buf, int ifindex);
/* Sets the MAC, also to the one it has: so a bridge keeps it whatever its ports' are. */
struct nlmsghdr *link_put_mac(void *buf, int ifindex, const struct mac *mac);
/* Lets the bridge send frames back out of the port @name that they came from. */
struct nlmsghdr *link_put_hairpin(void *buf, const char *name, bool on);

/* Transmit checksum offload, by ETHTOOL_GTXCSUM and ETHTOOL_STXCSUM. 0 or -errno. */
int link_get_tx_checksum(const char *name, bool *ret_on);
int link_set_tx_checksum(const char *name, bool on);
