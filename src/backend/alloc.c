/* SPDX-License-Identifier: Apache-2.0 */
/* alloc.c - backend alloc: hands out subnets, forwards nothing */
#include "backend/backend.h"

static int alloc_configure(struct backend *b, const json_t *options, struct err *err)
{
	(void)b;
	(void)options;
	(void)err;
	return 0;
}

static unsigned alloc_mtu(const struct backend *b)
{
	return b->uplink.mtu;
}

static bool alloc_accepts(const struct backend *b, const struct lease *peer)
{
	(void)b;
	(void)peer;
	return true;
}

static const char *const alloc_options[] = {NULL};

const struct backend_ops backend_alloc = {
	.type = "alloc",
	.options = alloc_options,
	.configure = alloc_configure,
	.mtu = alloc_mtu,
	.accepts = alloc_accepts,
};
