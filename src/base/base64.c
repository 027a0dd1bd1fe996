/* SPDX-License-Identifier: Apache-2.0 */
/* base64.c - bytes as text */
#include "base/base64.h"

#include "base/mem.h"

#include <errno.h>
#include <stdint.h>

static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *base64_encode(const void *data, size_t len)
{
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

int base64_decode(const char *text, char *bytes, size_t *ret_len)
{
	unsigned held = 0, n_digits = 0, n_pads = 0;
	size_t len = 0;

	for (; *text; text++) {
		const char *digit = strchr(digits, *text);

		if (strchr(" \t\r\n", *text))
			continue;
		if (*text == '=' && n_digits % 4 + n_pads >= 2 && n_pads < 2) {
			n_pads++;
			continue;
		}
		if (!digit || n_pads)
			return -EINVAL;
		held = held << 6 | (unsigned)(digit - digits);
		if (n_digits++ % 4)
			bytes[len++] = (char)(held >> (6 - 2 * ((n_digits - 1) % 4)));
	}
	if ((n_digits + n_pads) % 4)
		return -EINVAL;
	*ret_len = len;
	return 0;
}
