/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_subnet_file.c - a subnet file, which an administrator may have edited
 *
 * What reads is written in a form that reads as the same values.
 */
#include "base/mem.h"
#include "model/subnet_file.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct subnet_file *file)
{
	_cleanup_free_ char *written = subnet_file_format(file), *rewritten = NULL;
	struct subnet_file again;

	IP_FOREACH_FAMILY (f) {
		struct ip_net base = ip_net_base(&file->subnet[f]);

		assert(ip_net_is_set(&file->network[f]) == ip_net_is_set(&file->subnet[f]));
		assert(ip_net_equal(&base, &file->subnet[f]));
		assert(file->n_more[f] < SUBNET_FILE_NETWORKS_MAX);
		for (size_t i = 0; i < file->n_more[f]; i++)
			assert(!ip_net_equal(&file->network[f], &file->more[f][i]));
	}
	assert(subnet_file_parse(written, &again, NULL) == 0);
	assert(!memcmp(file->network, again.network, sizeof(again.network)));
	assert(!memcmp(file->n_more, again.n_more, sizeof(again.n_more)));
	IP_FOREACH_FAMILY (f)
		assert(!memcmp(file->more[f], again.more[f],
			       again.n_more[f] * sizeof(again.more[f][0])));
	assert(!memcmp(file->subnet, again.subnet, sizeof(again.subnet)));
	assert(file->mtu == again.mtu && file->ip_masq == again.ip_masq);
	rewritten = subnet_file_format(&again);
	assert(!strcmp(written, rewritten));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = mem_alloc(size + 1, 1);
	struct subnet_file file;
	struct err err = {""};

	if (size)
		memcpy(text, data, size);
	if (subnet_file_parse(text, &file, &err) == 0)
		check(&file);
	else
		assert(*err.text);
	return 0;
}
