/* SPDX-License-Identifier: Apache-2.0 */
/* table.h - the peers as the data path sees them: immutable, replaced as a whole
 *
 * Subnets of equal length (flannel's always are, unless given by others) are an array by
 * their number in the network: one look. Others fall back to a sorted list. The outer
 * address is found by a hash.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Host order. */
struct udp_peer {
	uint32_t subnet;
	uint8_t subnet_len;
	uint32_t addr; /* where its datagrams go to, and come from */
};

struct table;

/* Copies @peers. Of overlapping subnets the longest wins, of equal ones the last. Caller frees
 * with free(). */
struct table *table_new(const struct udp_peer *peers, size_t n);
/* Whose subnet @dst is in; NULL: nobody's. */
const struct udp_peer *table_find(const struct table *table, uint32_t dst);
/* Whether some peer has this address. */
bool table_knows(const struct table *table, uint32_t addr);
