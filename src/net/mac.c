/* SPDX-License-Identifier: Apache-2.0 */
/* mac.c - Ethernet addresses */
#include "net/mac.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

int mac_parse(const char *text, struct mac *ret_mac)
{
	struct mac mac;

	if (strlen(text) != MAC_STRLEN - 1 || (text[2] != ':' && text[2] != '-'))
		return -EINVAL;
	for (size_t i = 0; i < sizeof(mac.b); i++) {
		int high = hex_digit(text[3 * i]), low = hex_digit(text[3 * i + 1]);

		if (high < 0 || low < 0)
			return -EINVAL;
		if (i + 1 < sizeof(mac.b) && text[3 * i + 2] != text[2])
			return -EINVAL;
		mac.b[i] = (uint8_t)(high << 4 | low);
	}
	*ret_mac = mac;
	return 0;
}

const char *mac_format(const struct mac *mac, char buf[MAC_STRLEN])
{
	const uint8_t *b = mac->b;

	(void)snprintf(buf, MAC_STRLEN, "%02x:%02x:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3],
		       b[4], b[5]);
	return buf;
}

bool mac_equal(const struct mac *a, const struct mac *b)
{
	return !memcmp(a->b, b->b, sizeof(a->b));
}

bool mac_is_zero(const struct mac *mac)
{
	static const struct mac zero;

	return mac_equal(mac, &zero);
}

bool mac_is_unicast(const struct mac *mac)
{
	return !(mac->b[0] & 1) && !mac_is_zero(mac);
}

struct mac mac_from_seed(const char *seed)
{
	uint64_t hash = 0xcbf29ce484222325; /* FNV-1a */
	struct mac mac;

	for (; *seed; seed++)
		hash = (hash ^ (uint8_t)*seed) * 0x100000001b3;
	/* FNV leaves the last characters in the low bits: host names that differ in
	 * a last digit must differ everywhere (the finalizer of MurmurHash3). */
	hash = (hash ^ hash >> 33) * 0xff51afd7ed558ccd;
	hash = (hash ^ hash >> 33) * 0xc4ceb9fe1a85ec53;
	hash ^= hash >> 33;
	for (size_t i = 0; i < sizeof(mac.b); i++)
		mac.b[i] = (uint8_t)(hash >> 8 * i);
	mac.b[0] = (uint8_t)((mac.b[0] & 0xfc) | 0x02);
	return mac;
}
