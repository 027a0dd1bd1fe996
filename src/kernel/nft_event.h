/* SPDX-License-Identifier: Apache-2.0 */
/* nft_event.h - notifications of the nftables ruleset, as far as rules/ needs them
 *
 * Each transaction is told object by object, then by one NEWGEN message that names the
 * process which made it (nf_tables_gen_notify()).
 */
#pragma once

#include "kernel/netlink.h"
#include "kernel/nft_set.h"

#include <stdbool.h>
#include <stdint.h>

enum nft_event_kind {
	NFT_EVENT_TABLE,
	NFT_EVENT_CHAIN,
	NFT_EVENT_RULE,
	NFT_EVENT_GENERATION, /* end of a transaction */
	NFT_EVENT_KIND_COUNT,
};

struct nft_change {
	enum nft_event_kind kind;
	bool removed;
	uint8_t family; /* NFPROTO_* */
	/* Borrowed from the message; "" where the kind has none. */
	const char *table;
	const char *chain;
	bool is_base; /* NFT_EVENT_CHAIN that came or changed: with a hook, whose number is: */
	uint32_t hook;
	const char *process; /* NFT_EVENT_GENERATION: command name (15 bytes), "" unknown */
	uint32_t pid;        /* of its thread, in the host's own PID namespace; 0: unknown */
	uint32_t generation; /* NFT_EVENT_GENERATION: counts transactions of this namespace */
};

/* 0, or -ENOMSG when @msg is of no such kind (sets and their elements), or malformed. */
int nft_change_parse(const struct nlmsghdr *msg, struct nft_change *ret_change);

/* Asks for the present generation: the answer is such a message, that names who asks. */
struct nlmsghdr *nft_put_get_generation(void *buf);
