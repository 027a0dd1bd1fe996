/* SPDX-License-Identifier: Apache-2.0 */
/* nft_event.c - notifications of the nftables ruleset */
#include "kernel/nft_event.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>

/* Above all attributes that are read here. */
#define ATTR_MAX 8

static int keep_attr(const struct nlattr *attr, void *userdata)
{
	const struct nlattr **attrs = userdata;

	if (mnl_attr_get_type(attr) < ATTR_MAX)
		attrs[mnl_attr_get_type(attr)] = attr;
	return MNL_CB_OK;
}

/* NULL when there is none, or no string. */
static const char *string(const struct nlattr *attr)
{
	return attr && mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0 ? mnl_attr_get_str(attr)
									 : NULL;
}

/* In network byte order, as all numbers of nftables. */
static uint32_t number(const struct nlattr *attr)
{
	return attr && mnl_attr_validate(attr, MNL_TYPE_U32) >= 0 ? ntohl(mnl_attr_get_u32(attr))
								  : 0;
}

static void read_hook(const struct nlattr *nest, struct nft_change *change)
{
	const struct nlattr *attrs[ATTR_MAX] = {NULL};

	if (!nest || mnl_attr_parse_nested(nest, keep_attr, attrs) < 0 || !attrs[NFTA_HOOK_HOOKNUM])
		return;
	change->is_base = true;
	change->hook = number(attrs[NFTA_HOOK_HOOKNUM]);
}

/* Kind and direction of a message; false: of another kind. */
static bool read_type(unsigned type, struct nft_change *change)
{
	static const struct {
		unsigned type;
		enum nft_event_kind kind;
		bool removed;
	} rows[] = {
		{NFT_MSG_NEWTABLE, NFT_EVENT_TABLE, false},
		{NFT_MSG_DELTABLE, NFT_EVENT_TABLE, true},
		{MSG_DESTROYTABLE, NFT_EVENT_TABLE, true},
		{NFT_MSG_NEWCHAIN, NFT_EVENT_CHAIN, false},
		{NFT_MSG_DELCHAIN, NFT_EVENT_CHAIN, true},
		{MSG_DESTROYCHAIN, NFT_EVENT_CHAIN, true},
		{NFT_MSG_NEWRULE, NFT_EVENT_RULE, false},
		{NFT_MSG_DELRULE, NFT_EVENT_RULE, true},
		{MSG_DESTROYRULE, NFT_EVENT_RULE, true},
		{NFT_MSG_NEWGEN, NFT_EVENT_GENERATION, false},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (rows[i].type == type) {
			change->kind = rows[i].kind;
			change->removed = rows[i].removed;
			return true;
		}
	return false;
}

/* NULL for a string that has to be there and is not. */
static void read_names(const struct nlattr *const attrs[ATTR_MAX], struct nft_change *change)
{
	switch (change->kind) {
	case NFT_EVENT_TABLE:
		change->table = string(attrs[NFTA_TABLE_NAME]);
		return;
	case NFT_EVENT_CHAIN:
		change->table = string(attrs[NFTA_CHAIN_TABLE]);
		change->chain = string(attrs[NFTA_CHAIN_NAME]);
		read_hook(attrs[NFTA_CHAIN_HOOK], change);
		return;
	case NFT_EVENT_RULE:
		change->table = string(attrs[NFTA_RULE_TABLE]);
		change->chain = string(attrs[NFTA_RULE_CHAIN]);
		return;
	case NFT_EVENT_GENERATION:
		change->generation = number(attrs[NFTA_GEN_ID]);
		change->pid = number(attrs[NFTA_GEN_PROC_PID]);
		if (attrs[NFTA_GEN_PROC_NAME])
			change->process = string(attrs[NFTA_GEN_PROC_NAME]);
		return;
	case NFT_EVENT_KIND_COUNT:
		break;
	}
}

int nft_change_parse(const struct nlmsghdr *msg, struct nft_change *ret_change)
{
	struct nft_change change = {.table = "", .chain = "", .process = ""};
	const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(msg);
	const struct nlattr *attrs[ATTR_MAX] = {NULL};

	if (msg->nlmsg_type >> 8 != NFNL_SUBSYS_NFTABLES ||
	    mnl_nlmsg_get_payload_len(msg) < sizeof(*nfg) ||
	    !read_type(msg->nlmsg_type & 0xff, &change) ||
	    mnl_attr_parse(msg, sizeof(*nfg), keep_attr, attrs) < 0)
		return -ENOMSG;
	change.family = nfg->nfgen_family;
	read_names(attrs, &change);
	if (!change.table || !change.chain || !change.process)
		return -ENOMSG;
	*ret_change = change;
	return 0;
}

struct nlmsghdr *nft_put_get_generation(void *buf)
{
	struct nlmsghdr *msg = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *nfg;

	msg->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN;
	nfg = mnl_nlmsg_put_extra_header(msg, sizeof(*nfg));
	nfg->version = NFNETLINK_V0;
	return msg;
}
