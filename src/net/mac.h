/* SPDX-License-Identifier: Apache-2.0 */
/* mac.h - Ethernet addresses */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define MAC_STRLEN 18

struct mac {
	uint8_t b[6];
};

/* Parses `aa:bb:cc:dd:ee:ff` (upper or lower case, also with '-'). 0 or -EINVAL. */
int mac_parse(const char *text, struct mac *ret_mac);
/* Writes the lower case form with ':' into @buf and returns it. */
const char *mac_format(const struct mac *mac, char buf[MAC_STRLEN]);
bool mac_equal(const struct mac *a, const struct mac *b);
/* All bits zero: no address (or, in an FDB, the default destination). */
bool mac_is_zero(const struct mac *mac);
/* A unicast address other than zero: what a VTEP can have. */
bool mac_is_unicast(const struct mac *mac);
/* A MAC made from @seed: always the same for the same text, locally
 * administered, unicast. So a VTEP keeps its address without a state file. */
struct mac mac_from_seed(const char *seed);
