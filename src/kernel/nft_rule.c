/* SPDX-License-Identifier: Apache-2.0 */
/* nft_rule.c - what nft does not tell of rules that iptables-nft made */
#include "kernel/nft_rule.h"

#include "kernel/nft_attr.h"

#include <endian.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct nlmsghdr *nft_put_rule_dump(void *buf, uint8_t family, const char *table, const char *chain)
{
	struct nlmsghdr *msg = mnl_nlmsg_put_header(buf);
	struct nfgenmsg *nfg;

	msg->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETRULE;
	nfg = mnl_nlmsg_put_extra_header(msg, sizeof(*nfg));
	nfg->nfgen_family = family;
	nfg->version = NFNETLINK_V0;
	mnl_attr_put_strz(msg, NFTA_RULE_TABLE, table);
	if (chain)
		mnl_attr_put_strz(msg, NFTA_RULE_CHAIN, chain);
	return msg;
}

/* The data of the first extension of @kind ("match", "target") that is called @name; NULL:
 * there is none. */
static const struct nlattr *find_extension(const struct nlattr *list, const char *kind,
					   const char *name)
{
	/* NFTA_TARGET_* have the numbers of NFTA_MATCH_*. */
	const struct nlattr *expr;

	mnl_attr_for_each_nested (expr, list) {
		const struct nlattr *data = nft_attr_find_nested(expr, NFTA_EXPR_DATA);

		if (data && nft_attr_is_string(nft_attr_find_nested(expr, NFTA_EXPR_NAME), kind) &&
		    nft_attr_is_string(nft_attr_find_nested(data, NFTA_MATCH_NAME), name) &&
		    nft_attr_find_nested(data, NFTA_MATCH_INFO))
			return nft_attr_find_nested(data, NFTA_MATCH_INFO);
	}
	return NULL;
}

/* The expressions of a rule; NULL: it is none, or has none. */
static const struct nlattr *read_rule(const struct nlmsghdr *msg, uint64_t *ret_handle)
{
	const struct nlattr *attr, *list = NULL, *handle = NULL;

	if (msg->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE) ||
	    mnl_nlmsg_get_payload_len(msg) < sizeof(struct nfgenmsg))
		return NULL;
	mnl_attr_for_each (attr, msg, sizeof(struct nfgenmsg)) {
		if (mnl_attr_get_type(attr) == NFTA_RULE_HANDLE)
			handle = attr;
		if (mnl_attr_get_type(attr) == NFTA_RULE_EXPRESSIONS)
			list = attr;
	}
	if (!list || !handle || mnl_attr_validate(handle, MNL_TYPE_U64) < 0)
		return NULL;
	*ret_handle = be64toh(mnl_attr_get_u64(handle));
	return list;
}

int nft_rule_parse_comment(const struct nlmsghdr *msg, uint64_t *ret_handle,
			   char ret_comment[NFT_RULE_COMMENT_MAX])
{
	const struct nlattr *list, *info;
	uint64_t handle;
	size_t len;

	list = read_rule(msg, &handle);
	info = list ? find_extension(list, "match", "comment") : NULL;
	if (!info)
		return -ENOMSG;
	/* struct xt_comment_info */
	len = strnlen(mnl_attr_get_payload(info), mnl_attr_get_payload_len(info));
	if (len >= NFT_RULE_COMMENT_MAX)
		len = NFT_RULE_COMMENT_MAX - 1;
	memcpy(ret_comment, mnl_attr_get_payload(info), len);
	ret_comment[len] = '\0';
	*ret_handle = handle;
	return 0;
}

int nft_rule_parse_masquerade(const struct nlmsghdr *msg, uint64_t *ret_handle, uint32_t *ret_flags)
{
	const struct nfgenmsg *nfg = mnl_nlmsg_get_payload(msg);
	const struct nlattr *list, *info;
	uint64_t handle;
	size_t at;

	list = read_rule(msg, &handle);
	info = list ? find_extension(list, "target", "MASQUERADE") : NULL;
	if (!info)
		return -ENOMSG;
	/* masquerade_tg() and masquerade_tg6() in the kernel's xt_MASQUERADE.c */
	at = nfg->nfgen_family == NFPROTO_IPV6
		     ? offsetof(struct nf_nat_range, flags)
		     : offsetof(struct nf_nat_ipv4_multi_range_compat, range[0].flags);
	if (mnl_attr_get_payload_len(info) < at + sizeof(*ret_flags))
		return -ENOMSG;
	memcpy(ret_flags, (const char *)mnl_attr_get_payload(info) + at, sizeof(*ret_flags));
	*ret_handle = handle;
	return 0;
}
