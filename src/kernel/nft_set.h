/* SPDX-License-Identifier: Apache-2.0 */
/* nft_set.h - elements of an nftables set of addresses, over nfnetlink
 *
 * Tables, chains and rules are text for libnftables (rules/). Elements are many
 * and change one by one, so the reconciler programs them itself, in batches of
 * which each is one transaction: all of it or nothing.
 */
#pragma once

#include "kernel/netlink.h"
#include "net/ip.h"

#include <stdbool.h>

#define NFT_NAME_MAX 48

/* Since Linux 6.3, newer than the headers that we build with: `nft destroy` is notified so. */
enum {
	MSG_DESTROYTABLE = 26,
	MSG_DESTROYCHAIN,
	MSG_DESTROYRULE,
	MSG_DESTROYSET,
	MSG_DESTROYSETELEM,
};

/* A set of single addresses of one family, in a table of the same family. */
struct nft_set {
	enum ip_family family;
	char table[NFT_NAME_MAX];
	char name[NFT_NAME_MAX];
};

/* A transaction's frame. */
struct nlmsghdr *nft_put_begin(void *buf);
struct nlmsghdr *nft_put_end(void *buf);
/* Adds (existing is success) or deletes (missing is -ENOENT) one element. */
struct nlmsghdr *nft_put_element(void *buf, const struct nft_set *set, const struct ip *ip,
				 bool add);
/* Dump of all elements. */
struct nlmsghdr *nft_put_dump(void *buf, const struct nft_set *set);

enum nft_event {
	NFT_OTHER,           /* not about our kind of thing */
	NFT_ELEMENT_ADDED,   /* @on_element was called for each */
	NFT_ELEMENT_REMOVED, /* same */
	NFT_TABLE_REMOVED,   /* with everything in it */
	NFT_TABLE_CHANGED,   /* a set, chain or rule of it came, went or changed */
};
/* Whether the elements of this message are removed, for use inside nft_element_fn. */
bool nft_is_removal(const struct nlmsghdr *msg);

typedef void (*nft_element_fn)(const struct ip *ip, void *userdata);

/* Reads a notification or a message of a dump, when it is about table and set of
 * @set; NFT_OTHER otherwise. */
enum nft_event nft_parse(const struct nlmsghdr *msg, const struct nft_set *set,
			 nft_element_fn on_element, void *userdata);
