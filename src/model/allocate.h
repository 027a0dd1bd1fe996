/* SPDX-License-Identifier: Apache-2.0 */
/* allocate.h - choosing a free subnet: pure, the store decides who wins the race */
#pragma once

#include "model/netconf.h"
#include "net/ip.h"

#include <stdbool.h>
#include <stdint.h>

/* Whether some lease holds @subnet or a part of it. */
typedef bool (*allocate_taken_fn)(const struct ip_net *subnet, void *userdata);

/* Picks a subnet of @range (checked by netconf_check_ranges()) that is not taken,
 * spread over the whole range: @random chooses where the search starts and the
 * stride it walks in, which visits every subnet once; hosts that draw different
 * numbers try different subnets. 0, or -ENOSPC when every one is taken (ranges
 * above 2^20 subnets are given up after 2^20 tries). */
int allocate_pick(const struct netconf_range *range, uint64_t random, allocate_taken_fn taken,
		  void *userdata, struct ip_net *ret_subnet);

/* Whether @subnet may be leased under @range: its length, aligned, between
 * SubnetMin and SubnetMax. */
bool allocate_valid(const struct netconf_range *range, const struct ip_net *subnet);
