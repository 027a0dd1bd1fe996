/* SPDX-License-Identifier: Apache-2.0 */
/* nft_listing.c - reads what `nft -j -a list` prints */
#include "rules/nft_listing.h"

#include "base/mem.h"
#include "kernel/netlink.h"
#include "kernel/nft_rule.h"
#include "rules/policy.h"

#include <errno.h>
#include <linux/netfilter.h>
#include <linux/netlink.h>
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

static void on_rule(const struct nlmsghdr *msg, void *userdata)
{
	char comment[NFT_RULE_COMMENT_MAX];
	const json_t *list = userdata;
	uint64_t handle;
	json_t *object;
	size_t i;

	if (nft_rule_parse_comment(msg, &handle, comment) || !nft_listing_is_our_comment(comment))
		return;
	json_array_foreach (list, i, object) {
		json_t *rule = json_object_get(object, "rule");

		if (rule && (uint64_t)nft_listing_handle(rule) == handle)
			(void)json_object_set_new(rule, "comment", json_string(comment));
	}
}

static bool has_comment_match(const json_t *list)
{
	json_t *object, *expr;
	size_t i, j;

	json_array_foreach (list, i, object)
		json_array_foreach (json_object_get(json_object_get(object, "rule"), "expr"), j,
				    expr)
			if (nft_listing_is_comment(expr))
				return true;
	return false;
}

int nft_listing_show_comments(json_t *list, const char *family, const char *table,
			      const char *chain, struct err *err)
{
	char buf[NETLINK_MESSAGE_MAX] __attribute__((aligned(8))) = {0};
	struct nlmsghdr *msg;
	struct netlink *nl;
	int code;

	if (!has_comment_match(list))
		return 0;
	code = netlink_open(NETLINK_NETFILTER, &nl, err);
	if (code)
		return code;
	msg = nft_put_rule_dump(buf, !strcmp(family, "ip6") ? NFPROTO_IPV6 : NFPROTO_IPV4, table,
				chain);
	code = -EINTR;
	for (int i = 0; i < TRIES && code == -EINTR; i++)
		code = netlink_dump(nl, msg, on_rule, list, err);
	netlink_close(nl);
	return code;
}
