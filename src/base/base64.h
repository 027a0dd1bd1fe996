/* SPDX-License-Identifier: Apache-2.0 */
/* base64.h - bytes as text (RFC 4648, section 4) */
#pragma once

#include <stddef.h>

/* Caller frees; what it wipes of the bytes, it wipes of this as well. */
char *base64_encode(const void *data, size_t len);
