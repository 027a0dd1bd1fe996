/* SPDX-License-Identifier: Apache-2.0 */
/* peer_filter.c - encapsulated packets are accepted from known peers only
 *
 * The rule sits in the input hook, where fragments have been put together, and
 * matches the VNI (24 bits, 12 bytes into the UDP header: RFC 7348 section 5), so
 * that networks of other VNIs on the same port are left alone. Backend udp in Mode
 * kernel has nothing but its port.
 */
#include "rules/peer_filter.h"

#include "base/mem.h"
#include "rules/nft.h"

#include <errno.h>
#include <stdio.h>

#define COMMANDS_MAX 1024

static const char *nft_family(enum ip_family family)
{
	return family == IP_V6 ? "ip6" : "ip";
}

struct peer_filter peer_filter_for(const char *device, enum ip_family family, uint16_t port,
				   uint32_t vni)
{
	struct peer_filter filter = {
		.set = {.family = family, .name = "peers"}, .port = port, .vni = vni};

	(void)snprintf(filter.set.table, sizeof(filter.set.table), "weft-%s", device);
	return filter;
}

void peer_filter_render_set(const struct peer_filter *filter, char *buf, size_t size)
{
	const char *family = nft_family(filter->set.family), *table = filter->set.table;

	(void)snprintf(buf, size,
		       "add table %s %s\n"
		       "add set %s %s %s { type ipv%c_addr; comment \"public IPs of peers\"; }\n",
		       family, table, family, table, filter->set.name,
		       filter->set.family == IP_V6 ? '6' : '4');
}

void peer_filter_render_rule(const struct peer_filter *filter, char *buf, size_t size)
{
	const char *family = nft_family(filter->set.family), *table = filter->set.table;
	char vni[40] = "";
	size_t n;

	peer_filter_render_set(filter, buf, size);
	n = strlen(buf);
	if (filter->vni)
		(void)snprintf(vni, sizeof(vni), "@th,96,24 %u ", filter->vni);
	(void)snprintf(
		buf + n, size - n,
		"add chain %s %s input { type filter hook input priority raw; policy accept; }\n"
		"flush chain %s %s input\n"
		"add rule %s %s input udp dport %u %s%s saddr != @%s counter drop "
		"comment \"%s from a host that is no peer\"\n",
		family, table, family, table, family, table, filter->port, vni, family,
		filter->set.name, filter->vni ? "VXLAN" : "UDP");
}

void peer_filter_render_removal(const struct peer_filter *filter, char *buf, size_t size)
{
	const char *family = nft_family(filter->set.family), *table = filter->set.table;

	/* Adding first makes the removal of a missing table no error. */
	(void)snprintf(buf, size, "add table %s %s\ndelete table %s %s\n", family, table, family,
		       table);
}

int peer_filter_install_set(const struct peer_filter *filter, struct err *err)
{
	char commands[COMMANDS_MAX], anew[2 * COMMANDS_MAX];
	size_t n;

	peer_filter_render_set(filter, commands, sizeof(commands));
	if (!nft_run(commands, NULL))
		return 0;
	peer_filter_render_removal(filter, anew, sizeof(anew));
	n = strlen(anew);
	(void)snprintf(anew + n, sizeof(anew) - n, "%s", commands);
	return nft_run(anew, err);
}

static int list_table(const struct peer_filter *filter, char **ret_text)
{
	char object[NFT_NAME_MAX + 16];

	(void)snprintf(object, sizeof(object), "table %s %s", nft_family(filter->set.family),
		       filter->set.table);
	return nft_list(object, ret_text, NULL);
}

int peer_filter_install_rule(const struct peer_filter *filter, char **ret_listing, struct err *err)
{
	char commands[COMMANDS_MAX];
	int code;

	peer_filter_render_rule(filter, commands, sizeof(commands));
	code = nft_run(commands, err);
	if (!code && list_table(filter, ret_listing))
		*ret_listing = mem_strdup("");
	return code;
}

int peer_filter_remove(const struct peer_filter *filter, struct err *err)
{
	char commands[COMMANDS_MAX];

	peer_filter_render_removal(filter, commands, sizeof(commands));
	return nft_run(commands, err);
}

bool peer_filter_is_intact(const struct peer_filter *filter, const char *listing)
{
	_cleanup_free_ char *now = NULL;

	return !list_table(filter, &now) && !strcmp(now, listing);
}
