/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_nft_foreign.c - what nft lists of the chains of others, and what we would do about it
 *
 * A plan is carried out on the listing itself: then there must be nothing left to do.
 */
#include "rules/nft_foreign.h"

#include "base/json.h"
#include "base/mem.h"

#include <assert.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define RULE_FORMAT                                                                                \
	"{s:{s:s,s:s,s:s,s:I,s:s,s:[{s:{s:s,s:{s:{s:s,s:s}},s:{s:{s:s,s:i}}}},{s:n},{s:n}]}}"

static struct policy make_policy(void)
{
	struct policy policy = {.forward = true, .masquerade = true};

	(void)ip_net_parse("10.5.0.0/16", &policy.network[IP_V4]);
	(void)ip_net_parse("10.5.1.0/24", &policy.subnet[IP_V4]);
	(void)ip_net_parse("fc00:5::/48", &policy.network[IP_V6]);
	(void)ip_net_parse("fc00:5:0:1::/64", &policy.subnet[IP_V6]);
	return policy;
}

/* A rule of a chain in a listing; NULL for anything else. */
static const json_t *rule_at(const json_t *list, size_t i, const char *family, const char *table,
			     const char *chain)
{
	const json_t *rule = json_object_get(json_array_get(list, i), "rule");
	const char *f = json_string_value(json_object_get(rule, "family"));
	const char *t = json_string_value(json_object_get(rule, "table"));
	const char *c = json_string_value(json_object_get(rule, "chain"));

	return f && t && c && !strcmp(f, family) && !strcmp(t, table) && !strcmp(c, chain) ? rule
											   : NULL;
}

static json_int_t handle_of(const json_t *rule)
{
	return json_integer_value(json_object_get(rule, "handle"));
}

static size_t find_rule(const json_t *list, const char *family, const char *table,
			const char *chain, json_int_t handle)
{
	size_t i = 0;

	while (i < json_array_size(list) &&
	       handle_of(rule_at(list, i, family, table, chain)) != handle)
		i++;
	return i;
}

/* No kernel gives one handle twice; a listing that does cannot be worked on. */
static bool has_handle_twice(const json_t *list)
{
	for (size_t i = 0; i < json_array_size(list); i++)
		for (size_t j = i + 1; j < json_array_size(list); j++) {
			json_int_t a = handle_of(json_object_get(json_array_get(list, i), "rule"));
			json_int_t b = handle_of(json_object_get(json_array_get(list, j), "rule"));

			if (a && a == b)
				return true;
		}
	return false;
}

static json_t *make_rule(const char *family, const char *table, const char *chain,
			 const char *protocol, const char *field, const char *net)
{
	static json_int_t last = INT32_MAX; /* of handles that no input is likely to have */
	char address[IP_NET_STRLEN];
	const char *slash = strchr(net, '/');
	json_t *rule;

	assert(slash);
	(void)snprintf(address, sizeof(address), "%.*s", (int)(slash - net), net);
	rule = json_pack(RULE_FORMAT, "rule", "family", family, "table", table, "chain", chain,
			 "handle", ++last, "comment", POLICY_FORWARD_COMMENT, "expr", "match", "op",
			 "==", "left", "payload", "protocol", protocol, "field", field, "right",
			 "prefix", "addr", address, "len", atoi(slash + 1), "counter", "accept");
	assert(rule);
	return rule;
}

/* "insert rule ip filter FORWARD ip saddr 10.5.0.0/16 counter accept ..." and the like. */
static void add_rule(json_t *list, const char *line, const char *family, const char *table,
		     const char *chain)
{
	char protocol[8], field[8], net[IP_NET_STRLEN];
	json_int_t anchor = 0;
	size_t at = 0;
	int n = 0;

	if (!strncmp(line, "add ", 4)) {
		assert(sscanf(line, "add rule %*s %*s %*s position %" JSON_INTEGER_FORMAT " %n",
			      &anchor, &n) == 1);
		at = find_rule(list, family, table, chain, anchor) + 1;
		assert(at <= json_array_size(list));
	} else {
		(void)sscanf(line, "insert rule %*s %*s %*s %n", &n);
	}
	assert(n > 0);
	assert(sscanf(line + n, "%7s %7s %49s", protocol, field, net) == 3);
	assert(strstr(line, " counter accept comment \"" POLICY_FORWARD_COMMENT "\""));
	(void)json_array_insert_new(list, at,
				    make_rule(family, table, chain, protocol, field, net));
}

static void delete_chain(json_t *list, const char *family, const char *table, const char *name)
{
	assert(!strcmp(name, "FLANNEL-POSTRTG") || !strcmp(name, "FLANNEL-FWD"));
	for (size_t i = json_array_size(list); i-- > 0;) {
		const json_t *chain = json_object_get(json_array_get(list, i), "chain");
		const char *f = json_string_value(json_object_get(chain, "family"));
		const char *t = json_string_value(json_object_get(chain, "table"));
		const char *n = json_string_value(json_object_get(chain, "name"));

		if (f && t && n && !strcmp(f, family) && !strcmp(t, table) && !strcmp(n, name))
			(void)json_array_remove(list, i);
	}
}

/* Does what a line says; nothing but these is ever said. */
static void carry_out(json_t *list, const char *line)
{
	char verb[8], kind[8], family[8], table[16], chain[256];
	json_int_t handle;
	size_t at;

	assert(sscanf(line, "%7s %7s %7s %15s %255s", verb, kind, family, table, chain) == 5);
	if (!strcmp(kind, "chain")) {
		assert(!strcmp(verb, "flush") || !strcmp(verb, "delete"));
		if (!strcmp(verb, "delete"))
			delete_chain(list, family, table, chain);
		return;
	}
	assert(!strcmp(kind, "rule"));
	if (strcmp(verb, "delete")) {
		add_rule(list, line, family, table, chain);
		return;
	}
	assert(sscanf(line, "delete rule %*s %*s %*s handle %" JSON_INTEGER_FORMAT, &handle) == 1);
	at = find_rule(list, family, table, chain, handle);
	assert(handle > 0 && at < json_array_size(list));
	(void)json_array_remove(list, at);
}

/* @allowed: what the place of every line may be, NULL: those of a sweep. */
static void carry_out_all(json_t *list, char *commands, const char *allowed)
{
	static const char *const swept[] = {"ip nat ", "ip filter ", "ip6 nat ", "ip6 filter "};
	char *rest = commands;

	for (char *line = strsep(&rest, "\n"); line && *line; line = strsep(&rest, "\n")) {
		const char *place = strchr(line, ' ') ? strchr(strchr(line, ' ') + 1, ' ') : NULL;
		bool good = place && allowed && !strncmp(place + 1, allowed, strlen(allowed));

		for (size_t i = 0; place && !allowed && i < ARRAY_SIZE(swept); i++)
			good = good || !strncmp(place + 1, swept[i], strlen(swept[i]));
		assert(good && strlen(line) < 512);
		carry_out(list, line);
	}
	assert(!rest || !*rest);
}

static char *dump(json_t *root)
{
	char *text = json_dumps(root, JSON_COMPACT);

	assert(text);
	return text;
}

static void try_plan(enum nft_foreign_chain which, json_t *root, const struct policy *policy)
{
	_cleanup_free_ char *before = dump(root), *after = NULL, *commands = NULL, *more = NULL;
	_cleanup_json_ json_t *copy = json_deep_copy(root);

	assert(!nft_foreign_plan(which, before, strlen(before), policy, &commands, NULL));
	carry_out_all(json_object_get(copy, "nftables"), commands, nft_foreign_name(which));
	after = dump(copy);
	assert(!nft_foreign_plan(which, after, strlen(after), policy, &more, NULL));
	assert(!*more);
}

static void try_sweep(json_t *root, const struct policy *policy)
{
	_cleanup_free_ char *before = dump(root), *after = NULL, *commands = NULL, *more = NULL;
	_cleanup_json_ json_t *copy = json_deep_copy(root);

	assert(!nft_foreign_plan_sweep(before, strlen(before), policy, &commands, NULL));
	carry_out_all(json_object_get(copy, "nftables"), commands, NULL);
	after = dump(copy);
	assert(!nft_foreign_plan_sweep(after, strlen(after), policy, &more, NULL));
	assert(!*more);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct policy policy = make_policy();
	_cleanup_json_ json_t *root = NULL;
	_cleanup_free_ char *sweep = NULL;
	char text[64];
	bool accepts;

	if (nft_foreign_parse_blockers((const char *)data, size, text, sizeof(text)))
		assert(*text && strnlen(text, sizeof(text)) < sizeof(text) && !strchr(text, '\n'));
	accepts = nft_foreign_parse_accepts((const char *)data, size, "inet x y", &policy);
	if (nft_foreign_plan_sweep((const char *)data, size, &policy, &sweep, NULL)) {
		assert(!accepts);
		return 0;
	}
	assert(!json_parse_object((const char *)data, size, "input", &root, NULL));
	if (has_handle_twice(json_object_get(root, "nftables")))
		return 0;
	for (unsigned i = 0; i < NFT_FOREIGN_COUNT; i++) {
		try_plan((enum nft_foreign_chain)i, root, &policy);
		try_plan((enum nft_foreign_chain)i, root, NULL);
	}
	try_sweep(root, &policy);
	try_sweep(root, NULL);
	return 0;
}
