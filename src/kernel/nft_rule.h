/* SPDX-License-Identifier: Apache-2.0 */
/* nft_rule.h - what nft does not tell of rules that iptables-nft made
 *
 * Such a rule has extensions of iptables in it (xt). Of the match "comment" and the target
 * MASQUERADE nft's JSON shows that they are there, and not what they say.
 */
#pragma once

#include <libmnl/libmnl.h>
#include <stdint.h>

#define NFT_RULE_COMMENT_MAX 256 /* XT_MAX_COMMENT_LEN */

/* Dump of the rules of @table, or (@chain not NULL) of one chain of it. @family: NFPROTO_*. */
struct nlmsghdr *nft_put_rule_dump(void *buf, uint8_t family, const char *table, const char *chain);
/* Of one message of that dump: the rule's handle and what its comment match says. -ENOMSG:
 * no rule, or one without such a comment. */
int nft_rule_parse_comment(const struct nlmsghdr *msg, uint64_t *ret_handle,
			   char ret_comment[NFT_RULE_COMMENT_MAX]);
/* The same for its target MASQUERADE: NF_NAT_RANGE_*. */
int nft_rule_parse_masquerade(const struct nlmsghdr *msg, uint64_t *ret_handle,
			      uint32_t *ret_flags);
