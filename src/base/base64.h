/* SPDX-License-Identifier: Apache-2.0 */
/* base64.h - bytes as text (RFC 4648, section 4) */
#pragma once

#include <stddef.h>

/* Caller frees; what it wipes of the bytes, it wipes of this as well. */
char *base64_encode(const void *data, size_t len);
/* With padding; blanks are passed over. @bytes has room for as many as @text has. 0 or
 * -EINVAL, and then some of @bytes may be written. */
int base64_decode(const char *text, char *bytes, size_t *ret_len);
