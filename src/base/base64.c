/* SPDX-License-Identifier: Apache-2.0 */
/* base64.c - bytes as text */
#include "base/base64.h"

#include "base/mem.h"

#include <stdint.h>

char *base64_encode(const void *data, size_t len)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const uint8_t *p = data;
	char *text = mem_alloc((len + 2) / 3 * 4 + 1, 1), *at = text;

	for (size_t i = 0; i < len; i += 3) {
		const uint8_t second = i + 1 < len ? p[i + 1] : 0;
		const uint8_t third = i + 2 < len ? p[i + 2] : 0;

		*at++ = digits[p[i] >> 2];
		*at++ = digits[(p[i] & 3u) << 4 | second >> 4];
		*at++ = digits[(second & 15u) << 2 | third >> 6];
		*at++ = digits[third & 63];
	}
	if (len % 3)
		at[-1] = '=';
	if (len % 3 == 1)
		at[-2] = '=';
	return text;
}
