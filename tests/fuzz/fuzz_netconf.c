/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_netconf.c - the network config
 *
 * A range that passes the checks keeps what allocation relies on, and passes again.
 */
#include "base/mem.h"
#include "model/allocate.h"
#include "model/netconf.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool count_down(const struct ip_net *subnet, void *left)
{
	(void)subnet;
	return (*(int *)left)-- > 0;
}

static void check_range(const struct netconf_range *range, uint64_t random)
{
	struct ip_net first = {range->subnet_min, (uint8_t)range->subnet_len};
	struct ip_net last = {range->subnet_max, (uint8_t)range->subnet_len}, picked;
	int left = 3;

	assert(range->subnet_len >= range->network.len + 2u);
	assert(range->subnet_len + 2 <= ip_bits(range->network.ip.family));
	assert(ip_net_contains_net(&range->network, &first));
	assert(ip_net_contains_net(&range->network, &last));
	assert(allocate_valid(range, &first) && allocate_valid(range, &last));
	if (allocate_pick(range, random, count_down, &left, &picked) == 0)
		assert(allocate_valid(range, &picked) &&
		       ip_net_contains_net(&range->network, &picked));
	else
		assert(left >= 0); /* no more than three subnets, and all were asked for */
}

/* The checks fill in ranges and touch nothing else. */
static bool same_ranges(const struct netconf *a, const struct netconf *b)
{
	IP_FOREACH_FAMILY (f)
		if (!ip_net_equal(&a->range[f].network, &b->range[f].network) ||
		    a->range[f].subnet_len != b->range[f].subnet_len ||
		    !ip_equal(&a->range[f].subnet_min, &b->range[f].subnet_min) ||
		    !ip_equal(&a->range[f].subnet_max, &b->range[f].subnet_max))
			return false;
	return true;
}

static void check_conf(struct netconf *conf, uint64_t random)
{
	struct netconf before = *conf;
	struct err err = {""};

	assert(conf->enabled[IP_V4] || conf->enabled[IP_V6]);
	assert(*conf->backend_type && !conf->backend == conf->backend_defaulted);
	IP_FOREACH_FAMILY (f)
		assert(!conf->enabled[f] || conf->range[f].network.ip.family == f);
	if (netconf_check_ranges(conf, &err) < 0) {
		assert(*err.text);
		assert(same_ranges(conf, &before));
		return;
	}
	IP_FOREACH_FAMILY (f)
		if (conf->enabled[f])
			check_range(&conf->range[f], random);
	before = *conf;
	assert(netconf_check_ranges(conf, NULL) == 0);
	assert(same_ranges(conf, &before));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = mem_alloc(size + 1, 1); /* the heap sees reads past the end */
	struct netconf conf;
	struct err err = {""};
	char unknown[64];

	if (size)
		memcpy(text, data, size);
	if (netconf_parse(text, size, "fuzz", &conf, &err) == 0) {
		check_conf(&conf, size * 0x9e3779b97f4a7c15);
		assert((netconf_idle_keep(&conf, unknown, sizeof(unknown)) == IP_NONE) ==
		       (*unknown == '\0'));
		netconf_done(&conf);
	} else {
		assert(*err.text);
	}
	assert(netconf_unknown_keys(text, size, unknown, sizeof(unknown)) == (*unknown != '\0'));
	return 0;
}
