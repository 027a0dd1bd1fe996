/* SPDX-License-Identifier: Apache-2.0 */
/* test_nft_set.c - elements of nftables sets: what is encoded is what is parsed; the text of
 * the peer filter
 */
#include "kernel/nft_set.h"

#include "base/mem.h"
#include "messages.h"
#include "rules/peer_filter.h"

#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

static char buf[NETLINK_MESSAGE_MAX] __attribute__((aligned(8)));
static struct nft_set set = {.family = IP_V4, .table = "weft-flannel.1", .name = "peers"};

static void *clean(void)
{
	return memset(buf, 0, sizeof(buf));
}

struct elements {
	size_t n;
	struct ip last;
};

static void on_element(const struct ip *ip, void *userdata)
{
	struct elements *e = userdata;

	e->n++;
	e->last = *ip;
}

static void test_round_trip(void **state)
{
	static const char *const ips[] = {"192.0.2.3", "2001:db8::3"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ips); i++) {
		struct elements e = {0};
		struct ip ip = messages_ip(ips[i]);
		const struct nlmsghdr *msg;

		set.family = (enum ip_family)ip.family;
		msg = nft_put_element(clean(), &set, &ip, true);
		assert_int_equal(nft_parse(msg, &set, on_element, &e), NFT_ELEMENT_ADDED);
		assert_false(nft_is_removal(msg));
		msg = nft_put_element(clean(), &set, &ip, false);
		assert_int_equal(nft_parse(msg, &set, on_element, &e), NFT_ELEMENT_REMOVED);
		assert_true(nft_is_removal(msg));
		assert_int_equal(e.n, 2);
		assert_true(ip_equal(&e.last, &ip));
	}
	set.family = IP_V4;
}

static void test_events(void **state)
{
	static const struct {
		unsigned type;
		enum nft_event event;
	} rows[] = {
		{NFT_MSG_DELTABLE, NFT_TABLE_REMOVED},
		{26 /* NFT_MSG_DESTROYTABLE */, NFT_TABLE_REMOVED},
		{NFT_MSG_NEWTABLE, NFT_TABLE_CHANGED},
		{NFT_MSG_NEWCHAIN, NFT_TABLE_CHANGED},
		{NFT_MSG_DELRULE, NFT_TABLE_CHANGED},
		{NFT_MSG_DELSET, NFT_TABLE_CHANGED},
		{28 /* NFT_MSG_DESTROYRULE */, NFT_TABLE_CHANGED},
		{29 /* NFT_MSG_DESTROYSET */, NFT_TABLE_CHANGED},
		{30 /* NFT_MSG_DESTROYSETELEM */, NFT_ELEMENT_REMOVED},
		{NFT_MSG_NEWGEN, NFT_OTHER},
		{NFT_MSG_TRACE, NFT_OTHER},
	};
	struct ip ip = messages_ip("192.0.2.3");
	struct elements e = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct nlmsghdr *msg = nft_put_element(clean(), &set, &ip, true);

		msg->nlmsg_type = (uint16_t)(NFNL_SUBSYS_NFTABLES << 8 | rows[i].type);
		if (nft_parse(msg, &set, on_element, &e) != rows[i].event)
			fail_msg("type %u is not %d", rows[i].type, rows[i].event);
	}
}

static void test_others(void **state)
{
	struct ip ip = messages_ip("192.0.2.3");
	struct elements e = {0};
	struct nft_set other = set;

	(void)state;
	other.name[0] = 'x';
	assert_int_equal(
		nft_parse(nft_put_element(clean(), &other, &ip, true), &set, on_element, &e),
		NFT_OTHER);
	other = set;
	other.table[0] = 'x';
	assert_int_equal(
		nft_parse(nft_put_element(clean(), &other, &ip, true), &set, on_element, &e),
		NFT_OTHER);
	other = set;
	other.family = IP_V6;
	assert_int_equal(
		nft_parse(nft_put_element(clean(), &other, &ip, true), &set, on_element, &e),
		NFT_OTHER);
	assert_int_equal(nft_parse(nft_put_begin(clean()), &set, on_element, &e), NFT_OTHER);
	assert_int_equal(nft_parse(nft_put_end(clean()), &set, on_element, &e), NFT_OTHER);
	assert_int_equal(e.n, 0);
}

static void parse(const struct nlmsghdr *msg)
{
	struct elements e = {0};

	(void)nft_parse(msg, &set, on_element, &e);
}

static void test_hostile(void **state)
{
	struct ip ip = messages_ip("192.0.2.3");

	(void)state;
	messages_maul(nft_put_element(clean(), &set, &ip, true), parse);
	messages_maul(nft_put_element(clean(), &set, &ip, false), parse);
}

static void test_filter_text(void **state)
{
	struct peer_filter v4 = peer_filter_for("flannel.1", IP_V4, 8472, 1),
			   v6 = peer_filter_for("flannel-v6.9999", IP_V6, 4789, 9999),
			   udp = peer_filter_for("flannel0", IP_V4, 8285, 0);
	char text[1024], little[16];

	(void)state;
	peer_filter_render_set(&v4, text, sizeof(text));
	assert_string_equal(text, "add table ip weft-flannel.1\n"
				  "add set ip weft-flannel.1 peers { type ipv4_addr; comment "
				  "\"public IPs of peers\"; }\n");
	peer_filter_render_rule(&v6, text, sizeof(text));
	assert_string_equal(
		text,
		"add table ip6 weft-flannel-v6.9999\n"
		"add set ip6 weft-flannel-v6.9999 peers { type ipv6_addr; comment "
		"\"public IPs of peers\"; }\n"
		"add chain ip6 weft-flannel-v6.9999 input { type filter hook input priority raw; "
		"policy accept; }\n"
		"flush chain ip6 weft-flannel-v6.9999 input\n"
		"add rule ip6 weft-flannel-v6.9999 input udp dport 4789 @th,96,24 9999 ip6 saddr "
		"!= "
		"@peers counter drop comment \"VXLAN from a host that is no peer\"\n");
	peer_filter_render_rule(&udp, text, sizeof(text));
	assert_non_null(strstr(text, "add rule ip weft-flannel0 input udp dport 8285 ip saddr != "
				     "@peers counter drop comment \"UDP from a host that is no "
				     "peer\"\n"));
	peer_filter_render_removal(&v4, text, sizeof(text));
	assert_string_equal(text, "add table ip weft-flannel.1\ndelete table ip weft-flannel.1\n");
	peer_filter_render_rule(&v4, little, sizeof(little));
	assert_string_equal(little, "add table ip we");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),  cmocka_unit_test(test_events),
		cmocka_unit_test(test_others),      cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_filter_text),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
