/* SPDX-License-Identifier: Apache-2.0 */
/* nft.h - nftables by text (libnftables): one buffer is one transaction */
#pragma once

#include "base/err.h"

/* Runs @commands; all of them take effect, or none. -EINVAL with nft's first line of
 * complaint. */
int nft_run(const char *commands, struct err *err);

/* What `nft list` prints for @object ("table ip x"), without elements of sets and
 * without counters' values. Caller frees *@ret_text. -ENOENT when there is none. */
int nft_list(const char *object, char **ret_text, struct err *err);
