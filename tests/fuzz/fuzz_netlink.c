/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_netlink.c - messages as a kernel would send them, one behind the other */
#include "kernel/addr.h"
#include "kernel/fou.h"
#include "kernel/link.h"
#include "kernel/neigh.h"
#include "kernel/nft_event.h"
#include "kernel/nft_rule.h"
#include "kernel/nft_set.h"
#include "kernel/route.h"
#include "reconcile/diff.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_net(const struct ip_net *net)
{
	assert(net->ip.family < IP_FAMILY_COUNT);
	assert(net->len <= ip_bits((enum ip_family)net->ip.family));
}

static void try_link(const struct nlmsghdr *msg)
{
	struct link link, want = {.kind = "vxlan"}, tunnel = {.kind = "ipip"};
	char why[64];

	if (link_parse(msg, &link))
		return;
	assert(strnlen(link.name, sizeof(link.name)) < sizeof(link.name));
	assert(strnlen(link.kind, sizeof(link.kind)) < sizeof(link.kind));
	assert(strnlen(link.alias, sizeof(link.alias)) < sizeof(link.alias));
	assert(diff_link(&want, &link, why, sizeof(why)) != LINK_CREATE);
	assert(strnlen(why, sizeof(why)) < sizeof(why));
	assert(diff_link(&tunnel, &link, why, sizeof(why)) != LINK_CREATE);
	assert(strnlen(why, sizeof(why)) < sizeof(why));
}

static void try_route(const struct nlmsghdr *msg)
{
	static const char names[DEVICE_MAX][IFNAMSIZ] = {"", "eth0", "flannel.1"};
	struct diff_claims claims = {.n = 1};
	char text[ENTRY_STRLEN];
	struct route route;
	struct entry entry;

	if (route_parse(msg, &route))
		return;
	check_net(&route.dst);
	assert(route.n_nexthops <= ROUTE_MAX_NEXTHOPS);
	entry = entry_from_route(&route, 2);
	(void)diff_route_is_ours(&claims, &entry);
	(void)entry_format(&entry, names, text);
}

static void try_others(const struct nlmsghdr *msg)
{
	struct addr addr;
	struct neigh neigh;

	if (!addr_parse(msg, &addr)) {
		check_net(&addr.net);
		assert(ip_is_set(&addr.net.ip));
	}
	if (!neigh_parse(msg, &neigh))
		assert(neigh.fdb || ip_is_set(&neigh.ip));
}

static void try_fou(const struct nlmsghdr *msg)
{
	struct fou_port port;
	uint16_t family;

	(void)fou_parse_family(msg, &family);
	assert(fou_parse(msg, &port) || port.port);
}

static void on_element(const struct ip *ip, void *userdata)
{
	(void)userdata;
	assert(ip_is_set(ip));
}

static void try_nft(const struct nlmsghdr *msg)
{
	static const struct nft_set sets[] = {{IP_V4, "weft-flannel.1", "peers"},
					      {IP_V6, "weft-flannel-v6.1", "peers"}};

	for (size_t i = 0; i < 2; i++)
		(void)nft_parse(msg, &sets[i], on_element, NULL);
}

static void try_ruleset(const struct nlmsghdr *msg)
{
	char comment[NFT_RULE_COMMENT_MAX];
	struct nft_change change;
	uint64_t handle;
	uint32_t flags;

	(void)nft_rule_parse_masquerade(msg, &handle, &flags);
	if (!nft_change_parse(msg, &change)) {
		assert(change.kind < NFT_EVENT_KIND_COUNT);
		/* Inside the message, whole. */
		assert(strlen(change.table) + strlen(change.chain) + strlen(change.process) <
		       msg->nlmsg_len);
	}
	if (!nft_rule_parse_comment(msg, &handle, comment))
		assert(strnlen(comment, sizeof(comment)) < sizeof(comment));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* Aligned and padded, as every buffer that is received into. */
	char *copy = calloc(1, NLMSG_ALIGN(size) + 1);
	int left = (int)size;

	assert(copy && size < INT32_MAX);
	if (size)
		memcpy(copy, data, size);
	/* libmnl takes a length above INT_MAX for a negative one; no kernel says such. */
	for (const struct nlmsghdr *m = (const void *)copy;
	     mnl_nlmsg_ok(m, left) && m->nlmsg_len <= (uint32_t)left;
	     m = mnl_nlmsg_next(m, &left)) {
		try_link(m);
		try_route(m);
		try_others(m);
		try_fou(m);
		try_nft(m);
		try_ruleset(m);
	}
	free(copy);
	return 0;
}
