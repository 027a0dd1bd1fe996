/* SPDX-License-Identifier: Apache-2.0 */
/* nft_attr.h - what the readers of nftables' messages share */
#pragma once

#include <libmnl/libmnl.h>
#include <stdbool.h>
#include <string.h>

/* The first attribute of @type inside @nest; NULL: none. */
static inline const struct nlattr *nft_attr_find_nested(const struct nlattr *nest, uint16_t type)
{
	const struct nlattr *attr;

	mnl_attr_for_each_nested (attr, nest)
		if (mnl_attr_get_type(attr) == type)
			return attr;
	return NULL;
}

/* Whether @attr, which may be NULL, is this string. */
static inline bool nft_attr_is_string(const struct nlattr *attr, const char *text)
{
	return attr && mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0 &&
	       !strcmp(mnl_attr_get_str(attr), text);
}
