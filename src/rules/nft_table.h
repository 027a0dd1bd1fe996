/* SPDX-License-Identifier: Apache-2.0 */
/* nft_table.h - the policy as nftables tables of our own: `ip flannel-ipv4`, `ip6 flannel-ipv6`
 *
 * A table is always replaced as a whole, in one transaction: there is no moment
 * without it, and nothing foreign stays in it.
 */
#pragma once

#include "base/err.h"
#include "rules/policy.h"

/* "ip flannel-ipv4" */
const char *nft_table_name(enum ip_family family);

/* nft commands that put the table of @family into force, whatever was there; when the
 * policy asks for nothing in it, that remove it. Pure; caller frees. */
char *nft_table_render(const struct policy *policy, enum ip_family family);

/* Runs that. *@ret_listing is the table as nft lists it then, for nft_table_is_intact(),
 * NULL when there is to be none; caller frees. 0 or -errno with nft's words; -EAGAIN when
 * others change nftables so busily that nobody can say what it is like. */
int nft_table_install(const struct policy *policy, enum ip_family family, char **ret_listing,
		      struct err *err);
/* Whether the table is as @listing says (NULL: that there is none). */
bool nft_table_is_intact(enum ip_family family, const char *listing);
/* *@ret_removed: whether there was one. */
int nft_table_remove(enum ip_family family, bool *ret_removed, struct err *err);
