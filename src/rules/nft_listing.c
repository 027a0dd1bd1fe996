/* SPDX-License-Identifier: Apache-2.0 */
/* nft_listing.c - reads what `nft -j -a list` prints */
#include "rules/nft_listing.h"

#include "base/mem.h"
#include "kernel/nft_rule.h"
#include "rules/nft.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_nat.h>
#include <string.h>

/* An inconsistent dump is tried again. */
#define TRIES 3

const char *nft_listing_text(const json_t *obj, const char *key)
{
	const char *text = json_string_value(json_object_get(obj, key));

	return text ? text : "";
}

bool nft_listing_is(const json_t *obj, const char *key, const char *text)
{
	return !strcmp(nft_listing_text(obj, key), text);
}

int nft_listing_read(const char *json, size_t len, json_t **ret_root, json_t **ret_list,
		     struct err *err)
{
	_cleanup_json_ json_t *root = NULL;
	json_t *list;
	int code;

	code = json_parse_object(json, len, "nft's listing", &root, err);
	if (code)
		return code;
	list = json_object_get(root, "nftables");
	if (!json_is_array(list))
		return err_set(err, -EINVAL, "nft's listing has no \"nftables\"");
	*ret_list = list;
	*ret_root = TAKE_PTR(root);
	return 0;
}

json_int_t nft_listing_handle(const json_t *rule)
{
	json_int_t handle = json_integer_value(json_object_get(rule, "handle"));

	return handle > 0 ? handle : 0;
}

const char *nft_listing_target(const json_t *rule)
{
	json_t *expr;
	size_t i;

	json_array_foreach (json_object_get(rule, "expr"), i, expr) {
		const char *jump = nft_listing_text(json_object_get(expr, "jump"), "target");
		const char *go = nft_listing_text(json_object_get(expr, "goto"), "target");

		if (*jump || *go)
			return *jump ? jump : go;
	}
	return "";
}

bool nft_listing_is_comment(const json_t *expr)
{
	const json_t *xt = json_object_get(expr, "xt");

	return nft_listing_is(xt, "type", "match") && nft_listing_is(xt, "name", "comment");
}

bool nft_listing_is_our_comment(const char *comment)
{
	return !strcmp(comment, POLICY_FORWARD_COMMENT) ||
	       !strcmp(comment, POLICY_MASQUERADE_COMMENT);
}

bool nft_listing_has_comment(const json_t *rule)
{
	json_t *expr;
	size_t i;

	json_array_foreach (json_object_get(rule, "expr"), i, expr)
		if (nft_listing_is_comment(expr))
			return true;
	return json_object_get(rule, "comment") != NULL;
}

/* ---- what a rule says ---- */

/* "10.5.0.0/16" as nft writes it: an object, or a string when it is one address. */
static bool is_net(const json_t *value, const struct ip_net *net)
{
	const json_t *prefix = json_object_get(value, "prefix"), *len;
	struct ip ip;

	if (json_is_string(value))
		return net->len == ip_bits((enum ip_family)net->ip.family) &&
		       !ip_parse(json_string_value(value), &ip) && ip_equal(&ip, &net->ip);
	len = json_object_get(prefix, "len");
	return json_is_integer(len) && json_integer_value(len) == net->len &&
	       !ip_parse(nft_listing_text(prefix, "addr"), &ip) && ip_equal(&ip, &net->ip);
}

static bool is_side(const json_t *expr, const char *field, const struct policy_side *side)
{
	const json_t *match = json_object_get(expr, "match");
	const json_t *payload = json_object_get(json_object_get(match, "left"), "payload");

	return ip_net_is_set(&side->net) &&
	       nft_listing_is(match, "op", side->except ? "!=" : "==") &&
	       nft_listing_is(payload, "protocol", side->net.ip.family == IP_V6 ? "ip6" : "ip") &&
	       nft_listing_is(payload, "field", field) &&
	       is_net(json_object_get(match, "right"), &side->net);
}

/* One flag is told as a text or as a list of one. */
static bool is_masquerade(const json_t *expr)
{
	const json_t *value = json_object_get(expr, "masquerade");
	const json_t *flags = json_object_get(value, "flags");

	if (json_is_null(value))
		return true;
	if (json_array_size(flags) == 1)
		flags = json_array_get(flags, 0);
	return json_object_size(value) == 1 && json_is_string(flags) &&
	       !strcmp(json_string_value(flags), "fully-random");
}

static bool is_verdict(const json_t *expr, enum policy_verdict verdict)
{
	switch (verdict) {
	case POLICY_RETURN:
		return json_object_get(expr, "return");
	case POLICY_ACCEPT:
		return json_object_get(expr, "accept");
	case POLICY_MASQUERADE:
	case POLICY_MASQUERADE_RANDOM:
		return is_masquerade(expr);
	case POLICY_VERDICT_COUNT:
		break;
	}
	return false;
}

/* Whether @rule does what @decision says and nothing else; how often it counts. */
static bool does(const json_t *rule, const struct policy_decision *decision, size_t *ret_counters)
{
	size_t n_source = 0, n_destination = 0, n_verdict = 0, i;
	json_t *expr;

	*ret_counters = 0;
	if (decision->mark || decision->leaves_as_own)
		return false; /* we know no such rule of others */
	json_array_foreach (json_object_get(rule, "expr"), i, expr) {
		if (is_side(expr, "saddr", &decision->source))
			n_source++;
		else if (is_side(expr, "daddr", &decision->destination))
			n_destination++;
		else if (json_object_get(expr, "counter"))
			(*ret_counters)++;
		else if (is_verdict(expr, decision->verdict))
			n_verdict++;
		else if (!nft_listing_is_comment(expr))
			return false;
	}
	return n_source == ip_net_is_set(&decision->source.net) &&
	       n_destination == ip_net_is_set(&decision->destination.net) && n_verdict == 1;
}

bool nft_listing_says(const json_t *rule, const struct policy_decision *decision)
{
	size_t n_counters;

	return does(rule, decision, &n_counters) && n_counters == 1;
}

bool nft_listing_does(const json_t *rule, const struct policy_decision *decision)
{
	size_t n_counters;

	return does(rule, decision, &n_counters);
}

/* ---- what nft does not show ---- */

static bool is_xt_masquerade(const json_t *expr)
{
	const json_t *xt = json_object_get(expr, "xt");

	return nft_listing_is(xt, "type", "target") && nft_listing_is(xt, "name", "MASQUERADE");
}

/* As nft shows the rule of its own kind. */
static void show_masquerade(json_t *rule, uint32_t flags)
{
	json_t *exprs = json_object_get(rule, "expr"), *expr;
	size_t i;

	if (flags & ~(uint32_t)NF_NAT_RANGE_PROTO_RANDOM_FULLY)
		return; /* nothing that we know */
	json_array_foreach (exprs, i, expr)
		if (is_xt_masquerade(expr))
			(void)json_array_set_new(exprs, i,
						 flags ? json_pack("{s:{s:s}}", "masquerade",
								   "flags", "fully-random")
						       : json_pack("{s:n}", "masquerade"));
}

static json_t *find_rule(const json_t *list, uint64_t handle)
{
	json_t *object;
	size_t i;

	json_array_foreach (list, i, object) {
		json_t *rule = json_object_get(object, "rule");

		if (rule && (uint64_t)nft_listing_handle(rule) == handle)
			return rule;
	}
	return NULL;
}

static void on_rule(const struct nlmsghdr *msg, void *userdata)
{
	char comment[NFT_RULE_COMMENT_MAX];
	const json_t *list = userdata;
	uint64_t handle;
	uint32_t flags;

	if (!nft_rule_parse_comment(msg, &handle, comment) && nft_listing_is_our_comment(comment))
		(void)json_object_set_new(find_rule(list, handle), "comment", json_string(comment));
	if (!nft_rule_parse_masquerade(msg, &handle, &flags))
		show_masquerade(find_rule(list, handle), flags);
}

static bool has_extension(const json_t *list)
{
	json_t *object, *expr;
	size_t i, j;

	json_array_foreach (list, i, object)
		json_array_foreach (json_object_get(json_object_get(object, "rule"), "expr"), j,
				    expr)
			if (nft_listing_is_comment(expr) || is_xt_masquerade(expr))
				return true;
	return false;
}

int nft_listing_show_extensions(json_t *list, const char *family, const char *table,
				const char *chain, struct err *err)
{
	char buf[NETLINK_MESSAGE_MAX] __attribute__((aligned(8))) = {0};
	struct nlmsghdr *msg;
	int code = -EINTR;

	if (!has_extension(list))
		return 0;
	msg = nft_put_rule_dump(buf, !strcmp(family, "ip6") ? NFPROTO_IPV6 : NFPROTO_IPV4, table,
				chain);
	for (int i = 0; i < TRIES && code == -EINTR; i++)
		code = nft_dump(msg, on_rule, list, err);
	return code;
}
