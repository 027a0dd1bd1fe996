/* SPDX-License-Identifier: Apache-2.0 */
/* test_nft_rule.c - extensions in rules that iptables-nft made, as Linux encodes them */
#include "kernel/nft_rule.h"

#include "base/mem.h"
#include "messages.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nf_tables_compat.h>
#include <linux/netfilter/nfnetlink.h>

static char buf[2 * NETLINK_MESSAGE_MAX] __attribute__((aligned(8)));

static struct nlattr *put_expr(struct nlmsghdr *msg, const char *name)
{
	struct nlattr *expr = mnl_attr_nest_start(msg, NFTA_LIST_ELEM);

	mnl_attr_put_strz(msg, NFTA_EXPR_NAME, name);
	return expr;
}

/* nf_tables_fill_rule_info() of a rule with a counter and an extension of @kind ("match",
 * "target") that is called @name, whose data are @size bytes at @info. */
static struct nlmsghdr *extension_message(uint8_t family, const char *kind, const char *name,
					  const void *info, size_t size)
{
	struct nlmsghdr *msg = mnl_nlmsg_put_header(memset(buf, 0, sizeof(buf)));
	struct nlattr *list, *expr, *data;
	struct nfgenmsg *nfg;

	msg->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE;
	nfg = mnl_nlmsg_put_extra_header(msg, sizeof(*nfg));
	nfg->nfgen_family = family;
	mnl_attr_put_strz(msg, NFTA_RULE_TABLE, "nat");
	mnl_attr_put_strz(msg, NFTA_RULE_CHAIN, "POSTROUTING");
	mnl_attr_put_u64(msg, NFTA_RULE_HANDLE, htobe64(0x100000007));
	list = mnl_attr_nest_start(msg, NFTA_RULE_EXPRESSIONS);
	expr = put_expr(msg, "counter");
	mnl_attr_nest_end(msg, expr);
	expr = put_expr(msg, kind);
	data = mnl_attr_nest_start(msg, NFTA_EXPR_DATA);
	mnl_attr_put_strz(msg, NFTA_MATCH_NAME, name);
	mnl_attr_put_u32(msg, NFTA_MATCH_REV, 0);
	mnl_attr_put(msg, NFTA_MATCH_INFO, size, info);
	mnl_attr_nest_end(msg, data);
	mnl_attr_nest_end(msg, expr);
	mnl_attr_nest_end(msg, list);
	return msg;
}

static struct nlmsghdr *rule_message(const char *match, const char *info, size_t size)
{
	return extension_message(NFPROTO_IPV4, "match", match, info, size);
}

static void test_comment(void **state)
{
	char info[NFT_RULE_COMMENT_MAX] = "flanneld masq", comment[NFT_RULE_COMMENT_MAX];
	uint64_t handle;

	(void)state;
	assert_int_equal(nft_rule_parse_comment(rule_message("comment", info, sizeof(info)),
						&handle, comment),
			 0);
	assert_true(handle == 0x100000007);
	assert_string_equal(comment, "flanneld masq");
	/* Without an end. */
	memset(info, 'x', sizeof(info));
	assert_int_equal(nft_rule_parse_comment(rule_message("comment", info, 5), &handle, comment),
			 0);
	assert_string_equal(comment, "xxxxx");
	assert_int_equal(nft_rule_parse_comment(rule_message("comment", info, sizeof(info)),
						&handle, comment),
			 0);
	assert_int_equal(strlen(comment), sizeof(comment) - 1);
}

static void test_others(void **state)
{
	char comment[NFT_RULE_COMMENT_MAX];
	struct nlmsghdr *msg;
	uint64_t handle;

	(void)state;
	assert_int_equal(nft_rule_parse_comment(rule_message("mark", "x", 1), &handle, comment),
			 -ENOMSG);
	msg = rule_message("comment", "x", 1);
	msg->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWCHAIN;
	assert_int_equal(nft_rule_parse_comment(msg, &handle, comment), -ENOMSG);
	msg = nft_put_rule_dump(memset(buf, 0, sizeof(buf)), NFPROTO_IPV4, "nat", NULL);
	msg->nlmsg_type = NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE;
	assert_int_equal(nft_rule_parse_comment(msg, &handle, comment), -ENOMSG);
}

static void test_masquerade(void **state)
{
	struct nf_nat_ipv4_multi_range_compat v4 = {.rangesize = 1};
	struct nf_nat_range v6 = {.flags = NF_NAT_RANGE_PROTO_RANDOM};
	uint64_t handle;
	uint32_t flags;

	(void)state;
	v4.range[0].flags = NF_NAT_RANGE_PROTO_RANDOM_FULLY;
	assert_int_equal(nft_rule_parse_masquerade(extension_message(NFPROTO_IPV4, "target",
								     "MASQUERADE", &v4, sizeof(v4)),
						   &handle, &flags),
			 0);
	assert_true(handle == 0x100000007);
	assert_int_equal(flags, NF_NAT_RANGE_PROTO_RANDOM_FULLY);
	assert_int_equal(nft_rule_parse_masquerade(extension_message(NFPROTO_IPV6, "target",
								     "MASQUERADE", &v6, sizeof(v6)),
						   &handle, &flags),
			 0);
	assert_int_equal(flags, NF_NAT_RANGE_PROTO_RANDOM);
	/* Too short; another target; a match of that name. */
	assert_int_equal(nft_rule_parse_masquerade(
				 extension_message(NFPROTO_IPV4, "target", "MASQUERADE", &v4, 4),
				 &handle, &flags),
			 -ENOMSG);
	assert_int_equal(nft_rule_parse_masquerade(
				 extension_message(NFPROTO_IPV4, "target", "SNAT", &v4, sizeof(v4)),
				 &handle, &flags),
			 -ENOMSG);
	assert_int_equal(nft_rule_parse_masquerade(extension_message(NFPROTO_IPV4, "match",
								     "MASQUERADE", &v4, sizeof(v4)),
						   &handle, &flags),
			 -ENOMSG);
}

static void parse(const struct nlmsghdr *msg)
{
	char comment[NFT_RULE_COMMENT_MAX];
	uint64_t handle;
	uint32_t flags;

	(void)nft_rule_parse_masquerade(msg, &handle, &flags);

	if (!nft_rule_parse_comment(msg, &handle, comment))
		assert_true(strnlen(comment, sizeof(comment)) < sizeof(comment));
}

static void test_hostile(void **state)
{
	const struct nf_nat_ipv4_multi_range_compat range = {.rangesize = 1};

	(void)state;
	messages_maul(
		extension_message(NFPROTO_IPV4, "target", "MASQUERADE", &range, sizeof(range)),
		parse);
	messages_maul(rule_message("comment", "flanneld masq", 14), parse);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_comment),
		cmocka_unit_test(test_others),
		cmocka_unit_test(test_masquerade),
		cmocka_unit_test(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
