/* SPDX-License-Identifier: Apache-2.0 */
/* nft_listing.h - reads what `nft -j -a list` prints; shared by nft_foreign*.c
 *
 * All of them take NULL, and JSON of any other shape, for a thing without what is asked.
 */
#pragma once

#include "base/err.h"
#include "base/json.h"
#include "rules/policy.h"

#include <stdbool.h>
#include <stddef.h>

/* The list of objects that nft has printed, borrowed from *@ret_root, which the caller
 * owns. -EINVAL: it is no such thing. */
int nft_listing_read(const char *json, size_t len, json_t **ret_root, json_t **ret_list,
		     struct err *err);

/* A member that is a text; "" where there is none. */
const char *nft_listing_text(const json_t *obj, const char *key);
bool nft_listing_is(const json_t *obj, const char *key, const char *text);
/* 0: none. */
json_int_t nft_listing_handle(const json_t *rule);
/* The chain that a rule jumps or goes to; "" when it does not. */
const char *nft_listing_target(const json_t *rule);
/* Whether an expression is iptables-nft's comment, of which nft does not show the words. */
bool nft_listing_is_comment(const json_t *expr);

/* One of the comments in policy.h. */
bool nft_listing_is_our_comment(const char *comment);
/* Whether @rule has any comment, ours or not, of either kind. */
bool nft_listing_has_comment(const json_t *rule);
/* Whether @rule counts, does what @decision says and nothing else, whatever its comment. Of
 * masquerading, source ports may be fully random or not. */
bool nft_listing_says(const json_t *rule, const struct policy_decision *decision);
/* The same, whether it counts or not. */
bool nft_listing_does(const json_t *rule, const struct policy_decision *decision);

/* Gives the rules of @list what nft could not show of iptables' extensions: those of our
 * comments, as "comment", and masquerading without more ado, as "masquerade". @family: "ip",
 * "ip6" (others have no such rules). @chain may be NULL: the table's. */
int nft_listing_show_extensions(json_t *list, const char *family, const char *table,
				const char *chain, struct err *err);
