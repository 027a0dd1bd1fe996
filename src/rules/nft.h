/* SPDX-License-Identifier: Apache-2.0 */
/* nft.h - nftables by text (libnftables): one buffer is one transaction
 *
 * And, where libnftables does not say it, the kernel's own messages.
 */
#pragma once

#include "kernel/netlink.h"

#include <stdint.h>

/* Runs @commands; all of them take effect, or none. -ENOENT when something that they name
 * does not exist; -ETIMEDOUT when others change so much that nft finds no end (5 s; they may or may
 * not have taken effect); else -EINVAL, with nft's first line of complaint. */
int nft_run(const char *commands, struct err *err);

/* What `nft list` prints for @object ("table ip x"), without elements of sets and
 * without counters' values. Caller frees *@ret_text. -ENOENT when there is none.
 * "table X" and "chain X Y" read no more than that from the kernel; "tables" and every
 * command with a `position` read all rules of the host (0.15 s where there are 10,000). */
int nft_list(const char *object, char **ret_text, struct err *err);
/* The same in JSON, with handles. */
int nft_list_json(const char *object, char **ret_text, struct err *err);

/* As netlink_dump(). */
int nft_dump(struct nlmsghdr *msg, netlink_message_fn on_message, void *userdata, struct err *err);
/* How many transactions there were in this namespace, of anybody. */
int nft_get_generation(uint32_t *ret_generation, struct err *err);
