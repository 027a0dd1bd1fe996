/* SPDX-License-Identifier: Apache-2.0 */
/* nft_set.c - elements of an nftables set of addresses */
#include "kernel/nft_set.h"

#include "kernel/nft_attr.h"

#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>

static uint8_t to_nfproto(enum ip_family family)
{
	return family == IP_V6 ? NFPROTO_IPV6 : NFPROTO_IPV4;
}

static struct nlmsghdr *put_header(void *buf, uint16_t type, uint16_t flags, uint8_t family,
				   uint16_t res_id)
{
	struct nlmsghdr *msg = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *nfg;

	msg->nlmsg_type = type;
	msg->nlmsg_flags = flags;
	nfg = mnl_nlmsg_put_extra_header(msg, sizeof(*nfg));
	nfg->nfgen_family = family;
	nfg->version = NFNETLINK_V0;
	nfg->res_id = htons(res_id);
	return msg;
}

struct nlmsghdr *nft_put_begin(void *buf)
{
	return put_header(buf, NFNL_MSG_BATCH_BEGIN, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
}

struct nlmsghdr *nft_put_end(void *buf)
{
	return put_header(buf, NFNL_MSG_BATCH_END, 0, AF_UNSPEC, NFNL_SUBSYS_NFTABLES);
}

static struct nlmsghdr *put_set(void *buf, uint16_t type, uint16_t flags, const struct nft_set *set)
{
	struct nlmsghdr *msg = put_header(buf, (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type), flags,
					  to_nfproto(set->family), 0);

	mnl_attr_put_strz(msg, NFTA_SET_ELEM_LIST_TABLE, set->table);
	mnl_attr_put_strz(msg, NFTA_SET_ELEM_LIST_SET, set->name);
	return msg;
}

struct nlmsghdr *nft_put_element(void *buf, const struct nft_set *set, const struct ip *ip,
				 bool add)
{
	struct nlmsghdr *msg = put_set(buf, add ? NFT_MSG_NEWSETELEM : NFT_MSG_DELSETELEM,
				       add ? NLM_F_CREATE : 0, set);
	struct nlattr *list = mnl_attr_nest_start(msg, NFTA_SET_ELEM_LIST_ELEMENTS);
	struct nlattr *elem = mnl_attr_nest_start(msg, NFTA_LIST_ELEM);
	struct nlattr *key = mnl_attr_nest_start(msg, NFTA_SET_ELEM_KEY);

	mnl_attr_put(msg, NFTA_DATA_VALUE, ip_bytes(ip->family), ip->b);
	mnl_attr_nest_end(msg, key);
	mnl_attr_nest_end(msg, elem);
	mnl_attr_nest_end(msg, list);
	return msg;
}

struct nlmsghdr *nft_put_dump(void *buf, const struct nft_set *set)
{
	return put_set(buf, NFT_MSG_GETSETELEM, 0, set);
}

/* The attribute of @type, NULL: none. */
static const struct nlattr *find_attr(const struct nlmsghdr *msg, uint16_t type)
{
	const struct nlattr *attr;

	mnl_attr_for_each (attr, msg, sizeof(struct nfgenmsg))
		if (mnl_attr_get_type(attr) == type)
			return attr;
	return NULL;
}

static void each_element(const struct nlmsghdr *msg, nft_element_fn on_element, void *userdata)
{
	const struct nlattr *list = find_attr(msg, NFTA_SET_ELEM_LIST_ELEMENTS), *elem;

	if (!list)
		return;
	mnl_attr_for_each_nested (elem, list) {
		const struct nlattr *key = nft_attr_find_nested(elem, NFTA_SET_ELEM_KEY);
		const struct nlattr *value =
			key ? nft_attr_find_nested(key, NFTA_DATA_VALUE) : NULL;
		struct ip ip;

		if (value && !ip_from_bytes(mnl_attr_get_payload(value),
					    mnl_attr_get_payload_len(value), &ip))
			on_element(&ip, userdata);
	}
}

bool nft_is_removal(const struct nlmsghdr *msg)
{
	unsigned type = msg->nlmsg_type & 0xff;

	return type == NFT_MSG_DELSETELEM || type == MSG_DESTROYSETELEM;
}

enum nft_event nft_parse(const struct nlmsghdr *msg, const struct nft_set *set,
			 nft_element_fn on_element, void *userdata)
{
	const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(msg);

	if (msg->nlmsg_type >> 8 != NFNL_SUBSYS_NFTABLES ||
	    mnl_nlmsg_get_payload_len(msg) < sizeof(*nfg) ||
	    nfg->nfgen_family != to_nfproto(set->family))
		return NFT_OTHER;
	/* The table's name is attribute 1 of every one of these messages. */
	if (!nft_attr_is_string(find_attr(msg, NFTA_SET_ELEM_LIST_TABLE), set->table))
		return NFT_OTHER;
	switch (msg->nlmsg_type & 0xff) {
	case NFT_MSG_NEWSETELEM:
	case NFT_MSG_DELSETELEM:
	case MSG_DESTROYSETELEM:
		if (!nft_attr_is_string(find_attr(msg, NFTA_SET_ELEM_LIST_SET), set->name))
			return NFT_OTHER;
		each_element(msg, on_element, userdata);
		return nft_is_removal(msg) ? NFT_ELEMENT_REMOVED : NFT_ELEMENT_ADDED;
	case NFT_MSG_DELTABLE:
	case MSG_DESTROYTABLE:
		return NFT_TABLE_REMOVED;
	case NFT_MSG_NEWCHAIN:
	case NFT_MSG_DELCHAIN:
	case NFT_MSG_NEWRULE:
	case NFT_MSG_DELRULE:
	case NFT_MSG_NEWSET:
	case NFT_MSG_DELSET:
	case NFT_MSG_NEWTABLE:
	case MSG_DESTROYCHAIN:
	case MSG_DESTROYRULE:
	case MSG_DESTROYSET:
		return NFT_TABLE_CHANGED;
	}
	return NFT_OTHER;
}
