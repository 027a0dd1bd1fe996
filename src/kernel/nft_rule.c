/* SPDX-License-Identifier: Apache-2.0 */
/* nft_rule.c - comments of rules that iptables-nft made */
#include "kernel/nft_rule.h"

#include <endian.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>
#include <stdbool.h>
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

static const struct nlattr *find_nested(const struct nlattr *nest, uint16_t type)
{
	const struct nlattr *attr;

	mnl_attr_for_each_nested (attr, nest)
		if (mnl_attr_get_type(attr) == type)
			return attr;
	return NULL;
}

static bool is_string(const struct nlattr *attr, const char *text)
{
	return attr && mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0 &&
	       !strcmp(mnl_attr_get_str(attr), text);
}

/* struct xt_comment_info of a comment match; NULL when @expr is none. */
static const struct nlattr *comment_info(const struct nlattr *expr)
{
	const struct nlattr *data = find_nested(expr, NFTA_EXPR_DATA);

	if (!data || !is_string(find_nested(expr, NFTA_EXPR_NAME), "match") ||
	    !is_string(find_nested(data, NFTA_MATCH_NAME), "comment"))
		return NULL;
	return find_nested(data, NFTA_MATCH_INFO);
}

static int read_comment(const struct nlattr *list, char ret_comment[NFT_RULE_COMMENT_MAX])
{
	const struct nlattr *expr;

	mnl_attr_for_each_nested (expr, list) {
		const struct nlattr *info = comment_info(expr);
		size_t len = info ? mnl_attr_get_payload_len(info) : 0;

		if (!info)
			continue;
		len = strnlen(mnl_attr_get_payload(info), len);
		if (len >= NFT_RULE_COMMENT_MAX)
			len = NFT_RULE_COMMENT_MAX - 1;
		memcpy(ret_comment, mnl_attr_get_payload(info), len);
		ret_comment[len] = '\0';
		return 0;
	}
	return -ENOMSG;
}

int nft_rule_parse_comment(const struct nlmsghdr *msg, uint64_t *ret_handle,
			   char ret_comment[NFT_RULE_COMMENT_MAX])
{
	const struct nlattr *attr, *list = NULL, *handle = NULL;

	if (msg->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE) ||
	    mnl_nlmsg_get_payload_len(msg) < sizeof(struct nfgenmsg))
		return -ENOMSG;
	mnl_attr_for_each (attr, msg, sizeof(struct nfgenmsg)) {
		if (mnl_attr_get_type(attr) == NFTA_RULE_HANDLE)
			handle = attr;
		if (mnl_attr_get_type(attr) == NFTA_RULE_EXPRESSIONS)
			list = attr;
	}
	if (!list || !handle || mnl_attr_validate(handle, MNL_TYPE_U64) < 0 ||
	    read_comment(list, ret_comment))
		return -ENOMSG;
	*ret_handle = be64toh(mnl_attr_get_u64(handle));
	return 0;
}
