/* SPDX-License-Identifier: Apache-2.0 */
/* nft_foreign.c - our rules in nftables chains that belong to others
 *
 * A listing in JSON becomes a plan of commands, without any state between: whatever was
 * done to our rules (moved, doubled, rewritten by iptables-nft-restore), they go by their
 * handles and the right ones come, in one transaction. Rules of others keep their handles
 * and counters.
 *
 * Ours are known by their comment. One of iptables-nft's kind is not in the listing, so
 * it is read from the kernel and put there first (nft_rule.h): rules of ours come to have
 * such when somebody saves and restores the host's, and flannels without a chain of their
 * own made them.
 */
#include "rules/nft_foreign.h"

#include "base/json.h"
#include "base/mem.h"
#include "rules/nft.h"
#include "rules/nft_listing.h"

#include <errno.h>
#include <stdio.h>

/* Somebody else may change the chain between our look at it and our command. */
#define TRIES 3

struct place {
	const char *family, *table, *chain;
	bool has_family[IP_FAMILY_COUNT]; /* whose packets come by */
};

static const struct place places[NFT_FOREIGN_COUNT] = {
	[NFT_FOREIGN_IPTABLES] = {"ip", "filter", "FORWARD", {[IP_V4] = true}},
	[NFT_FOREIGN_IP6TABLES] = {"ip6", "filter", "FORWARD", {[IP_V6] = true}},
	[NFT_FOREIGN_FIREWALLD] = {"inet",
				   "firewalld",
				   "filter_FORWARD",
				   {[IP_V4] = true, [IP_V6] = true}},
};

const char *nft_foreign_name(enum nft_foreign_chain which)
{
	static const char *const names[NFT_FOREIGN_COUNT] = {
		[NFT_FOREIGN_IPTABLES] = "ip filter FORWARD",
		[NFT_FOREIGN_IP6TABLES] = "ip6 filter FORWARD",
		[NFT_FOREIGN_FIREWALLD] = "inet firewalld filter_FORWARD",
	};

	return names[which];
}

static const char *field_of(const struct policy_decision *decision)
{
	return ip_net_is_set(&decision->source.net) ? "saddr" : "daddr";
}

/* A forward decision names one side only. */
static const struct ip_net *net_of(const struct policy_decision *decision)
{
	return ip_net_is_set(&decision->source.net) ? &decision->source.net
						    : &decision->destination.net;
}

static const char *protocol_of(const struct policy_decision *decision)
{
	return net_of(decision)->ip.family == IP_V6 ? "ip6" : "ip";
}

/* ---- our rules in one chain ---- */

/* Decisions for @place, in their order. */
static size_t decide(const struct place *place, const struct policy *policy,
		     struct policy_decision decision[2 * POLICY_DECISIONS_MAX])
{
	size_t n = 0;

	if (!policy)
		return 0;
	IP_FOREACH_FAMILY (f) {
		if (place->has_family[f])
			n += policy_forward(policy, f, decision + n);
	}
	return n;
}

/* What the chain has, walked from its top. */
struct chain_view {
	json_int_t anchor; /* the last of the leading jumps that may stand before us; 0: none */
	bool in_place;     /* ours stand right behind them and nowhere else, and are as decided */
	size_t n_ours;
};

static bool is_rule_of(const json_t *rule, const struct place *place)
{
	return nft_listing_handle(rule) && nft_listing_is(rule, "family", place->family) &&
	       nft_listing_is(rule, "table", place->table) &&
	       nft_listing_is(rule, "chain", place->chain);
}

static bool is_ours(const json_t *rule)
{
	return nft_listing_is(rule, "comment", POLICY_FORWARD_COMMENT);
}

/* Leading are jumps that no other rule but ours comes before. */
static struct chain_view view_chain(const struct place *place, const json_t *list,
				    const struct policy_decision *decision, size_t n)
{
	struct chain_view view = {.in_place = true};
	bool leading = true;
	json_t *object;
	size_t i;

	json_array_foreach (list, i, object) {
		const json_t *rule = json_object_get(object, "rule");

		if (!is_rule_of(rule, place))
			continue;
		if (is_ours(rule)) {
			if (view.n_ours >= n || !nft_listing_says(rule, &decision[view.n_ours]) ||
			    (!leading && !view.n_ours))
				view.in_place = false;
			view.n_ours++;
			continue;
		}
		leading = leading && policy_stands_before(nft_listing_target(rule));
		if (leading)
			view.anchor = nft_listing_handle(rule);
		/* Before the last of ours, only those; behind the first, none of those. */
		if (view.n_ours && (leading || view.n_ours < n))
			view.in_place = false;
	}
	view.in_place = view.in_place && view.n_ours == n;
	return view;
}

static void put_deletions(FILE *out, const struct place *place, const json_t *list)
{
	json_t *object;
	size_t i;

	json_array_foreach (list, i, object) {
		const json_t *rule = json_object_get(object, "rule");

		if (is_rule_of(rule, place) && is_ours(rule))
			(void)fprintf(out, "delete rule %s %s %s handle %" JSON_INTEGER_FORMAT "\n",
				      place->family, place->table, place->chain,
				      nft_listing_handle(rule));
	}
}

/* Each comes to the top, or right behind the anchor: so the last goes first. Only the
 * latter makes libnftables read all rules of the host. */
static void put_additions(FILE *out, const struct place *place, json_int_t anchor,
			  const struct policy_decision *decision, size_t n)
{
	char net[IP_NET_STRLEN], position[40] = "";

	if (anchor)
		(void)snprintf(position, sizeof(position), " position %" JSON_INTEGER_FORMAT,
			       anchor);
	for (size_t i = n; i-- > 0;)
		(void)fprintf(out, "%s rule %s %s %s%s %s %s %s counter accept comment \"%s\"\n",
			      anchor ? "add" : "insert", place->family, place->table, place->chain,
			      position, protocol_of(&decision[i]), field_of(&decision[i]),
			      ip_net_format(net_of(&decision[i]), net), POLICY_FORWARD_COMMENT);
}

static char *plan(const struct place *place, const json_t *list, const struct policy *policy)
{
	struct policy_decision decision[2 * POLICY_DECISIONS_MAX];
	size_t n = decide(place, policy, decision), size;
	struct chain_view view = view_chain(place, list, decision, n);
	char *text = NULL;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		abort(); /* only for want of memory, as in mem_alloc() */
	if (!view.in_place) {
		put_deletions(out, place, list);
		put_additions(out, place, view.anchor, decision, n);
	}
	(void)fclose(out);
	return text;
}

int nft_foreign_plan(enum nft_foreign_chain which, const char *json, size_t len,
		     const struct policy *policy, char **ret_commands, struct err *err)
{
	_cleanup_json_ json_t *root = NULL;
	json_t *list;
	int code = nft_listing_read(json, len, &root, &list, err);

	if (!code)
		*ret_commands = plan(&places[which], list, policy);
	return code;
}

/* One attempt: look, decide, act. */
static int ensure_once(const struct place *place, const char *object, const struct policy *policy,
		       enum nft_foreign_outcome *ret_outcome, struct err *err)
{
	_cleanup_free_ char *json = NULL, *commands = NULL;
	_cleanup_json_ json_t *root = NULL;
	json_t *list;
	int code = nft_list_json(object, &json, err);

	if (code == -ENOENT) {
		*ret_outcome = NFT_FOREIGN_ABSENT;
		return 0;
	}
	if (!code)
		code = nft_listing_read(json, strlen(json), &root, &list, err);
	if (!code)
		code = nft_listing_show_extensions(list, place->family, place->table, place->chain,
						   err);
	if (code)
		return code;
	commands = plan(place, list, policy);
	code = *commands ? nft_run(commands, err) : 0;
	*ret_outcome = *commands ? NFT_FOREIGN_CHANGED : NFT_FOREIGN_INTACT;
	return code;
}

int nft_foreign_ensure(enum nft_foreign_chain which, const struct policy *policy,
		       enum nft_foreign_outcome *ret_outcome, struct err *err)
{
	enum nft_foreign_outcome outcome = NFT_FOREIGN_ABSENT;
	char object[64];
	int code = -ENOENT;

	(void)snprintf(object, sizeof(object), "chain %s", nft_foreign_name(which));
	for (int i = 0; i < TRIES && code == -ENOENT; i++)
		code = ensure_once(&places[which], object, policy, &outcome, err);
	if (code)
		return err_wrap(err, code, "chain %s", nft_foreign_name(which));
	*ret_outcome = outcome;
	return 0;
}

/* ---- blockers ---- */

/* Ours, and those of programs that drop what pods may not do (policy_stands_before() has
 * the same). Tables of Docker, libvirt or podman are not among them: they do not drop by
 * policy, and if one comes to, pods of ours are cut off like by anybody else's. */
static bool is_known_table(const char *table)
{
	static const char *const prefixes[] = {"flannel-ipv", "weft-",  "kube-",
					       "calico",      "cilium", "kindnet"};

	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (!strncmp(table, prefixes[i], strlen(prefixes[i])))
			return true;
	return false;
}

/* A name that goes into a line of a log. */
static bool is_printable(const char *name)
{
	for (const char *p = name; *p; p++)
		if (*p <= ' ' || *p > '~')
			return false;
	return *name;
}

static bool is_place(const json_t *chain)
{
	for (size_t i = 0; i < NFT_FOREIGN_COUNT; i++)
		if (nft_listing_is(chain, "family", places[i].family) &&
		    nft_listing_is(chain, "table", places[i].table) &&
		    nft_listing_is(chain, "name", places[i].chain))
			return true;
	return false;
}

static bool is_blocker(const json_t *chain)
{
	return (nft_listing_is(chain, "family", "ip") || nft_listing_is(chain, "family", "ip6") ||
		nft_listing_is(chain, "family", "inet")) &&
	       nft_listing_is(chain, "hook", "forward") &&
	       nft_listing_is(chain, "policy", "drop") &&
	       is_printable(nft_listing_text(chain, "table")) &&
	       is_printable(nft_listing_text(chain, "name")) &&
	       !is_known_table(nft_listing_text(chain, "table")) && !is_place(chain);
}

bool nft_foreign_parse_blockers(const char *json, size_t len, char *buf, size_t size)
{
	_cleanup_json_ json_t *root = NULL;
	json_t *list, *object;
	size_t i, n = 0;

	buf[0] = '\0';
	if (nft_listing_read(json, len, &root, &list, NULL))
		return false;
	json_array_foreach (list, i, object) {
		const json_t *chain = json_object_get(object, "chain");

		if (!is_blocker(chain))
			continue;
		(void)snprintf(buf + n, size - n, "%s%s %s %s", n ? ", " : "",
			       nft_listing_text(chain, "family"), nft_listing_text(chain, "table"),
			       nft_listing_text(chain, "name"));
		n += strlen(buf + n);
	}
	return n > 0;
}

bool nft_foreign_blockers(char *buf, size_t size)
{
	_cleanup_free_ char *json = NULL;

	buf[0] = '\0';
	return !nft_list_json("chains", &json, NULL) &&
	       nft_foreign_parse_blockers(json, strlen(json), buf, size);
}

static bool has_rule(const json_t *list, const struct policy_decision *decision)
{
	json_t *object;
	size_t i;

	json_array_foreach (list, i, object)
		if (nft_listing_does(json_object_get(object, "rule"), decision))
			return true;
	return false;
}

bool nft_foreign_parse_accepts(const char *json, size_t len, const char *name,
			       const struct policy *policy)
{
	const struct place place = {.has_family = {[IP_V4] = strncmp(name, "ip6 ", 4) != 0,
						   [IP_V6] = strncmp(name, "ip ", 3) != 0}};
	struct policy_decision decision[2 * POLICY_DECISIONS_MAX];
	size_t n = decide(&place, policy, decision);
	_cleanup_json_ json_t *root = NULL;
	json_t *list;

	if (nft_listing_read(json, len, &root, &list, NULL))
		return false;
	while (n && has_rule(list, &decision[n - 1]))
		n--;
	return !n;
}

bool nft_foreign_accepts(const char *name, const struct policy *policy)
{
	_cleanup_free_ char *json = NULL;
	char object[256];

	(void)snprintf(object, sizeof(object), "chain %s", name);
	return !nft_list_json(object, &json, NULL) &&
	       nft_foreign_parse_accepts(json, strlen(json), name, policy);
}
