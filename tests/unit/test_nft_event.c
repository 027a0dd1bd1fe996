/* SPDX-License-Identifier: Apache-2.0 */
/* test_nft_event.c - notifications of the nftables ruleset, as Linux encodes them */
#include "kernel/nft_event.h"

#include "base/mem.h"
#include "messages.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

static char buf[NETLINK_MESSAGE_MAX] __attribute__((aligned(8)));

static struct nlmsghdr *begin(unsigned type, uint8_t family)
{
	struct nlmsghdr *msg = mnl_nlmsg_put_header(memset(buf, 0, sizeof(buf)));
	struct nfgenmsg *nfg;

	msg->nlmsg_type = (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | type);
	nfg = mnl_nlmsg_put_extra_header(msg, sizeof(*nfg));
	nfg->nfgen_family = family;
	nfg->res_id = htons(5); /* generation */
	return msg;
}

/* nf_tables_fill_table_info() */
static struct nlmsghdr *table_message(unsigned type)
{
	struct nlmsghdr *msg = begin(type, NFPROTO_IPV4);

	mnl_attr_put_strz(msg, NFTA_TABLE_NAME, "flannel-ipv4");
	mnl_attr_put_u32(msg, NFTA_TABLE_USE, htonl(2));
	mnl_attr_put_u64(msg, NFTA_TABLE_HANDLE, 7);
	mnl_attr_put_u32(msg, NFTA_TABLE_FLAGS, 0);
	return msg;
}

/* nf_tables_fill_chain_info(); a chain that is removed comes without its hook. */
static struct nlmsghdr *chain_message(unsigned type, bool base)
{
	struct nlmsghdr *msg = begin(type, NFPROTO_INET);
	struct nlattr *hook;

	mnl_attr_put_strz(msg, NFTA_CHAIN_TABLE, "filter");
	mnl_attr_put_strz(msg, NFTA_CHAIN_NAME, "FORWARD");
	mnl_attr_put_u64(msg, NFTA_CHAIN_HANDLE, 3);
	if (base) {
		hook = mnl_attr_nest_start(msg, NFTA_CHAIN_HOOK);
		mnl_attr_put_u32(msg, NFTA_HOOK_HOOKNUM, htonl(NF_INET_FORWARD));
		mnl_attr_put_u32(msg, NFTA_HOOK_PRIORITY, htonl(0));
		mnl_attr_nest_end(msg, hook);
		mnl_attr_put_u32(msg, NFTA_CHAIN_POLICY, htonl(NF_DROP));
		mnl_attr_put_strz(msg, NFTA_CHAIN_TYPE, "filter");
	}
	return msg;
}

static struct nlmsghdr *rule_message(unsigned type)
{
	struct nlmsghdr *msg = begin(type, NFPROTO_IPV6);

	mnl_attr_put_strz(msg, NFTA_RULE_TABLE, "filter");
	mnl_attr_put_strz(msg, NFTA_RULE_CHAIN, "FORWARD");
	mnl_attr_put_u64(msg, NFTA_RULE_HANDLE, 9);
	return msg;
}

/* nf_tables_fill_gen_info() */
static struct nlmsghdr *generation_message(const char *process)
{
	struct nlmsghdr *msg = begin(NFT_MSG_NEWGEN, AF_UNSPEC);

	mnl_attr_put_u32(msg, NFTA_GEN_ID, htonl(5));
	if (process) {
		mnl_attr_put_u32(msg, NFTA_GEN_PROC_PID, htonl(4711));
		mnl_attr_put_strz(msg, NFTA_GEN_PROC_NAME, process);
	}
	return msg;
}

static void assert_change(const struct nlmsghdr *msg, const struct nft_change *want)
{
	struct nft_change got;

	assert_int_equal(nft_change_parse(msg, &got), 0);
	assert_int_equal(got.kind, want->kind);
	assert_int_equal(got.removed, want->removed);
	assert_int_equal(got.family, want->family);
	assert_string_equal(got.table, want->table);
	assert_string_equal(got.chain, want->chain);
	assert_int_equal(got.is_base, want->is_base);
	assert_int_equal(got.hook, want->hook);
	assert_string_equal(got.process, want->process);
	assert_int_equal(got.pid, want->pid);
	assert_int_equal(got.generation, want->generation);
}

static void test_kinds(void **state)
{
	static const struct {
		unsigned add, remove, destroy;
		struct nft_change want;
	} rows[] = {
		{NFT_MSG_NEWTABLE,
		 NFT_MSG_DELTABLE,
		 26,
		 {.kind = NFT_EVENT_TABLE,
		  .family = NFPROTO_IPV4,
		  .table = "flannel-ipv4",
		  .chain = "",
		  .process = ""}},
		{NFT_MSG_NEWCHAIN,
		 NFT_MSG_DELCHAIN,
		 27,
		 {.kind = NFT_EVENT_CHAIN,
		  .family = NFPROTO_INET,
		  .table = "filter",
		  .chain = "FORWARD",
		  .process = ""}},
		{NFT_MSG_NEWRULE,
		 NFT_MSG_DELRULE,
		 28,
		 {.kind = NFT_EVENT_RULE,
		  .family = NFPROTO_IPV6,
		  .table = "filter",
		  .chain = "FORWARD",
		  .process = ""}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const unsigned types[] = {rows[i].add, rows[i].remove, rows[i].destroy};

		for (size_t j = 0; j < ARRAY_SIZE(types); j++) {
			struct nft_change want = rows[i].want;
			const struct nlmsghdr *msg =
				want.kind == NFT_EVENT_TABLE   ? table_message(types[j])
				: want.kind == NFT_EVENT_CHAIN ? chain_message(types[j], false)
							       : rule_message(types[j]);

			want.removed = j > 0;
			assert_change(msg, &want);
		}
	}
}

static void test_base_chain(void **state)
{
	(void)state;
	assert_change(chain_message(NFT_MSG_NEWCHAIN, true),
		      &(struct nft_change){.kind = NFT_EVENT_CHAIN,
					   .family = NFPROTO_INET,
					   .table = "filter",
					   .chain = "FORWARD",
					   .is_base = true,
					   .hook = NF_INET_FORWARD,
					   .process = ""});
}

static void test_generation(void **state)
{
	struct nft_change want = {.kind = NFT_EVENT_GENERATION,
				  .table = "",
				  .chain = "",
				  .process = "iptables-nft-re",
				  .pid = 4711,
				  .generation = 5};

	(void)state;
	assert_change(generation_message("iptables-nft-re"), &want);
	want.process = "";
	want.pid = 0;
	assert_change(generation_message(NULL), &want);
}

static void test_others(void **state)
{
	static const unsigned types[] = {NFT_MSG_NEWSET,
					 NFT_MSG_NEWSETELEM,
					 NFT_MSG_TRACE,
					 NFT_MSG_GETRULE,
					 NFT_MSG_NEWFLOWTABLE,
					 29,
					 30};
	struct nft_change change = {.pid = 1};
	struct nlmsghdr *msg;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		assert_int_equal(nft_change_parse(rule_message(types[i]), &change), -ENOMSG);
	msg = rule_message(NFT_MSG_NEWRULE);
	msg->nlmsg_type = NFT_MSG_NEWRULE; /* of another subsystem */
	assert_int_equal(nft_change_parse(msg, &change), -ENOMSG);
	msg = begin(NFT_MSG_NEWRULE, NFPROTO_IPV4); /* of no table */
	assert_int_equal(nft_change_parse(msg, &change), -ENOMSG);
	mnl_attr_put_strz(msg, NFTA_RULE_TABLE, "filter"); /* of no chain */
	assert_int_equal(nft_change_parse(msg, &change), -ENOMSG);
	mnl_attr_put(msg, NFTA_RULE_CHAIN, 3, "abc"); /* without its end */
	assert_int_equal(nft_change_parse(msg, &change), -ENOMSG);
	msg = begin(NFT_MSG_NEWGEN, AF_UNSPEC);
	mnl_attr_put(msg, NFTA_GEN_PROC_NAME, 3, "abc");
	assert_int_equal(nft_change_parse(msg, &change), -ENOMSG);
	assert_int_equal(change.pid, 1); /* untouched */
}

static void parse(const struct nlmsghdr *msg)
{
	struct nft_change change;

	if (!nft_change_parse(msg, &change))
		assert_true(strlen(change.table) + strlen(change.chain) + strlen(change.process) <
			    sizeof(buf));
}

static void test_hostile(void **state)
{
	(void)state;
	messages_maul(table_message(NFT_MSG_NEWTABLE), parse);
	messages_maul(chain_message(NFT_MSG_NEWCHAIN, true), parse);
	messages_maul(rule_message(NFT_MSG_DELRULE), parse);
	messages_maul(generation_message("nft"), parse);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kinds),      cmocka_unit_test(test_base_chain),
		cmocka_unit_test(test_generation), cmocka_unit_test(test_others),
		cmocka_unit_test(test_hostile),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
