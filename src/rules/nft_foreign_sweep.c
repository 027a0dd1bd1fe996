/* SPDX-License-Identifier: Apache-2.0 */
/* nft_foreign_sweep.c - removes what iptables-nft has of ours */
#include "rules/nft_foreign.h"

#include "base/json.h"
#include "base/mem.h"
#include "rules/nft.h"
#include "rules/nft_listing.h"

#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <stdio.h>

/* Somebody else may change the table between our look at it and our command. */
#define TRIES 3

/* Of iptables mode, and of flannel (pkg/trafficmngr/iptables). */
static const char *const our_chains[] = {"FLANNEL-POSTRTG", "FLANNEL-FWD"};

/* Whether nft takes @name in a command. A chain that was made by other means may have any. */
static bool is_nameable(const char *name)
{
	static const char first[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
	static const char rest[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789-.";

	return strspn(name, first) && !name[strspn(name, rest)] && strlen(name) < NFT_NAME_MAXLEN;
}

static bool is_our_chain(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(our_chains); i++)
		if (!strcmp(name, our_chains[i]))
			return true;
	return false;
}

static bool is_swept_table(const json_t *object)
{
	return (nft_listing_is(object, "family", "ip") ||
		nft_listing_is(object, "family", "ip6")) &&
	       (nft_listing_is(object, "table", "nat") ||
		nft_listing_is(object, "table", "filter"));
}

/* Whether flannel before v0.12 made @rule, for what @policy wants. It says nothing of
 * itself, but somebody else who wants exactly this has it from us. */
static bool is_old_rule(const json_t *rule, const struct policy *policy)
{
	struct policy_decision decision[POLICY_DECISIONS_MAX];
	bool is_nat = nft_listing_is(rule, "table", "nat");
	enum ip_family f = nft_listing_is(rule, "family", "ip6") ? IP_V6 : IP_V4;
	size_t n;

	if (!policy || nft_listing_has_comment(rule) ||
	    !nft_listing_is(rule, "chain", is_nat ? "POSTROUTING" : "FORWARD"))
		return false;
	n = is_nat ? policy_old_masquerade(policy, f, decision)
		   : policy_forward(policy, f, decision);
	for (size_t i = 0; i < n; i++)
		if (nft_listing_says(rule, &decision[i]))
			return true;
	return false;
}

/* Rules in our own chains go with them. In the chain that nft_foreign_plan() keeps, rules
 * with our comment are its business. */
static bool is_swept_rule(const json_t *rule, const struct policy *policy)
{
	const char *chain = nft_listing_text(rule, "chain");
	bool is_planned = nft_listing_is(rule, "table", "filter") && !strcmp(chain, "FORWARD") &&
			  nft_listing_is(rule, "comment", POLICY_FORWARD_COMMENT);

	if (!is_swept_table(rule) || !nft_listing_handle(rule) || !is_nameable(chain) ||
	    is_our_chain(chain))
		return false;
	return is_our_chain(nft_listing_target(rule)) || is_old_rule(rule, policy) ||
	       (nft_listing_is_our_comment(nft_listing_text(rule, "comment")) && !is_planned);
}

static void put_sweep_rules(FILE *out, const json_t *list, const struct policy *policy)
{
	json_t *object;
	size_t i;

	json_array_foreach (list, i, object) {
		const json_t *rule = json_object_get(object, "rule");

		if (is_swept_rule(rule, policy))
			(void)fprintf(out, "delete rule %s %s %s handle %" JSON_INTEGER_FORMAT "\n",
				      nft_listing_text(rule, "family"),
				      nft_listing_text(rule, "table"),
				      nft_listing_text(rule, "chain"), nft_listing_handle(rule));
	}
}

/* A chain that is jumped to by another of ours can only go when all are empty. */
static void put_sweep_chains(FILE *out, const json_t *list, const char *verb)
{
	json_t *object;
	size_t i;

	json_array_foreach (list, i, object) {
		const json_t *chain = json_object_get(object, "chain");

		if (is_swept_table(chain) && is_our_chain(nft_listing_text(chain, "name")))
			(void)fprintf(
				out, "%s chain %s %s %s\n", verb, nft_listing_text(chain, "family"),
				nft_listing_text(chain, "table"), nft_listing_text(chain, "name"));
	}
}

static char *plan_sweep(const json_t *list, const struct policy *policy)
{
	char *text = NULL;
	size_t size;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		abort(); /* only for want of memory, as in mem_alloc() */
	put_sweep_rules(out, list, policy);
	put_sweep_chains(out, list, "flush");
	put_sweep_chains(out, list, "delete");
	(void)fclose(out);
	return text;
}

int nft_foreign_plan_sweep(const char *json, size_t len, const struct policy *policy,
			   char **ret_commands, struct err *err)
{
	_cleanup_json_ json_t *root = NULL;
	json_t *list;
	int code = nft_listing_read(json, len, &root, &list, err);

	if (!code)
		*ret_commands = plan_sweep(list, policy);
	return code;
}

static bool has_our_chain(const json_t *list, const char *family, const char *table)
{
	json_t *object;
	size_t i;

	json_array_foreach (list, i, object) {
		const json_t *chain = json_object_get(object, "chain");

		if (nft_listing_is(chain, "family", family) &&
		    nft_listing_is(chain, "table", table) &&
		    is_our_chain(nft_listing_text(chain, "name")))
			return true;
	}
	return false;
}

/* A table, and the chain of it into which flannel puts rules. */
struct swept {
	const char *table, *chain;
};

/* Nothing jumps to a chain that is not there: then one chain is read instead of a table
 * in which others may have tens of thousands of rules. */
static int list_swept(const char *family, const struct swept *swept, char **ret_json,
		      struct err *err)
{
	_cleanup_free_ char *json = NULL;
	_cleanup_json_ json_t *root = NULL;
	char object[64];
	json_t *list;
	int code = nft_list_json("chains", &json, err);

	if (!code)
		code = nft_listing_read(json, strlen(json), &root, &list, err);
	if (code)
		return code;
	if (has_our_chain(list, family, swept->table))
		(void)snprintf(object, sizeof(object), "table %s %s", family, swept->table);
	else
		(void)snprintf(object, sizeof(object), "chain %s %s %s", family, swept->table,
			       swept->chain);
	return nft_list_json(object, ret_json, err);
}

static int sweep_once(const char *family, const struct swept *swept, const struct policy *policy,
		      bool *ret_changed, struct err *err)
{
	_cleanup_free_ char *json = NULL, *commands = NULL;
	_cleanup_json_ json_t *root = NULL;
	json_t *list;
	int code = list_swept(family, swept, &json, err);

	if (code == -ENOENT)
		return 0;
	if (!code)
		code = nft_listing_read(json, strlen(json), &root, &list, err);
	if (!code)
		code = nft_listing_show_extensions(list, family, swept->table, NULL, err);
	if (code)
		return code;
	commands = plan_sweep(list, policy);
	code = *commands ? nft_run(commands, err) : 0;
	*ret_changed = *ret_changed || (!code && *commands);
	return code;
}

int nft_foreign_sweep(enum ip_family family, const struct policy *policy, bool *ret_changed,
		      struct err *err)
{
	static const struct swept swept[] = {{"nat", "POSTROUTING"}, {"filter", "FORWARD"}};
	const char *name = family == IP_V6 ? "ip6" : "ip";
	int failed = 0;

	*ret_changed = false;
	for (size_t i = 0; i < ARRAY_SIZE(swept); i++) {
		int code = -ENOENT;
		struct err why;

		for (int j = 0; j < TRIES && code == -ENOENT; j++)
			code = sweep_once(name, &swept[i], policy, ret_changed, &why);
		if (code)
			failed = err_set(err, code, "table %s %s: %s", name, swept[i].table,
					 why.text);
	}
	return failed;
}
