/* SPDX-License-Identifier: Apache-2.0 */
/* nft_table.c - the policy as nftables tables of our own
 *
 * Names and hooks are those of flannel (pkg/trafficmngr/nftables), so that its tables are
 * taken over by being replaced. The comparison is one of nft's own words for the table
 * right after we made it with its words for it now: no text of ours has to foretell how
 * nft of some version spells a rule. "Right after" is proven by the kernel's count of
 * transactions: what somebody changed in between would count as right ever after.
 */
#include "rules/nft_table.h"

#include "base/mem.h"
#include "rules/nft.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Somebody else may have a transaction between ours and the listing. */
#define TRIES 5

static const char *const table_names[IP_FAMILY_COUNT] = {
	[IP_V4] = "ip flannel-ipv4",
	[IP_V6] = "ip6 flannel-ipv6",
};

const char *nft_table_name(enum ip_family family)
{
	return table_names[family];
}

static void put_side(FILE *out, const char *what, const struct policy_side *side)
{
	char text[IP_NET_STRLEN];

	if (ip_net_is_set(&side->net))
		(void)fprintf(out, "%s %s %s%s ", side->net.ip.family == IP_V6 ? "ip6" : "ip", what,
			      side->except ? "!= " : "", ip_net_format(&side->net, text));
}

static void put_rule(FILE *out, const struct policy_decision *decision, const char *comment)
{
	static const char *const verdicts[POLICY_VERDICT_COUNT] = {
		[POLICY_RETURN] = "return",
		[POLICY_MASQUERADE] = "masquerade",
		[POLICY_MASQUERADE_RANDOM] = "masquerade fully-random",
		[POLICY_ACCEPT] = "accept",
	};

	(void)fputs("\t\t", out);
	if (decision->mark)
		(void)fprintf(out, "meta mark & 0x%x == 0x%x ", decision->mark, decision->mark);
	if (decision->leaves_as_own)
		(void)fputs("fib saddr . oif type local ", out);
	put_side(out, "saddr", &decision->source);
	put_side(out, "daddr", &decision->destination);
	(void)fprintf(out, "counter %s comment \"%s\"\n", verdicts[decision->verdict], comment);
}

/* @head: the chain's name, and what it hooks into. */
static void put_chain(FILE *out, const char *head, const struct policy_decision *decision, size_t n,
		      const char *comment)
{
	if (!n)
		return;
	(void)fprintf(out, "\tchain %s; policy accept;\n", head);
	for (size_t i = 0; i < n; i++)
		put_rule(out, &decision[i], comment);
	(void)fputs("\t}\n", out);
}

char *nft_table_render(const struct policy *policy, enum ip_family family)
{
	struct policy_decision masquerade[POLICY_DECISIONS_MAX], forward[POLICY_DECISIONS_MAX];
	size_t n_masquerade = policy_masquerade(policy, family, masquerade);
	size_t n_forward = policy_forward(policy, family, forward);
	const char *name = nft_table_name(family);
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		abort(); /* only for want of memory, as in mem_alloc() */
	/* Adding first makes the removal of a missing table no error. */
	(void)fprintf(out, "add table %s\ndelete table %s\n", name, name);
	if (n_masquerade || n_forward) {
		(void)fprintf(out, "table %s {\n\tcomment \"rules of flanneld\"\n", name);
		put_chain(out, "postrtg {\n\t\ttype nat hook postrouting priority srcnat",
			  masquerade, n_masquerade, POLICY_MASQUERADE_COMMENT);
		put_chain(out, "forward {\n\t\ttype filter hook forward priority filter", forward,
			  n_forward, POLICY_FORWARD_COMMENT);
		(void)fputs("}\n", out);
	}
	if (fclose(out))
		abort();
	return text;
}

static int list_table(enum ip_family family, char **ret_text, struct err *err)
{
	char object[64];

	(void)snprintf(object, sizeof(object), "table %s", nft_table_name(family));
	return nft_list(object, ret_text, err);
}

/* -EAGAIN: somebody else was there, too. */
static int install_once(const char *commands, enum ip_family family, char **ret_listing,
			struct err *err)
{
	_cleanup_free_ char *listing = NULL;
	uint32_t before, after;
	int code;

	code = nft_get_generation(&before, err);
	if (!code)
		code = nft_run(commands, err);
	if (!code)
		code = list_table(family, &listing, err);
	if (code == -ENOENT)
		code = -EAGAIN; /* removed again */
	if (!code)
		code = nft_get_generation(&after, err);
	if (!code && after != before + 1)
		code = err_set(err, -EAGAIN, "somebody else keeps changing nftables");
	if (!code)
		*ret_listing = TAKE_PTR(listing);
	return code;
}

int nft_table_install(const struct policy *policy, enum ip_family family, char **ret_listing,
		      struct err *err)
{
	_cleanup_free_ char *commands = nft_table_render(policy, family);
	int code = -EAGAIN;

	if (!strchr(commands, '{')) {
		code = nft_run(commands, err);
		if (!code)
			*ret_listing = NULL;
	}
	for (int i = 0; i < TRIES && code == -EAGAIN; i++)
		code = install_once(commands, family, ret_listing, err);
	return code ? err_wrap(err, code, "table %s", nft_table_name(family)) : 0;
}

bool nft_table_is_intact(enum ip_family family, const char *listing)
{
	_cleanup_free_ char *now = NULL;
	int code = list_table(family, &now, NULL);

	/* What cannot be listed for another reason is no table to be removed, either. */
	return listing ? !code && !strcmp(now, listing) : code < 0;
}

int nft_table_remove(enum ip_family family, bool *ret_removed, struct err *err)
{
	_cleanup_free_ char *commands = NULL, *listing = NULL;
	const struct policy nothing = {.masquerade = false};
	int code = list_table(family, &listing, err);

	if (code == -ENOENT) {
		*ret_removed = false;
		return 0;
	}
	commands = nft_table_render(&nothing, family);
	code = nft_run(commands, err);
	if (!code)
		*ret_removed = true;
	return code;
}
