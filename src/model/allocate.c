/* SPDX-License-Identifier: Apache-2.0 */
/* allocate.c - choosing a free subnet
 *
 * The subnets of a range are numbered. A stride without a common divisor with
 * their count visits every number once before it comes round, whatever the
 * start: a walk in random order without a list to shuffle.
 */
#include "model/allocate.h"

#include <errno.h>

#define TRIES_MAX (1u << 20)

/* splitmix64: turns one number that the caller drew into as many as are needed. */
static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static ip_num random_below(uint64_t *state, ip_num limit)
{
	ip_num high = next_random(state);

	return (high << 64 | next_random(state)) % limit;
}

static bool coprime(ip_num a, ip_num b)
{
	while (b) {
		ip_num rest = a % b;

		a = b;
		b = rest;
	}
	return a == 1;
}

int allocate_pick(const struct netconf_range *range, uint64_t random, allocate_taken_fn taken,
		  void *userdata, struct ip_net *ret_subnet)
{
	enum ip_family family = range->network.ip.family;
	ip_num first = ip_to_num(&range->subnet_min);
	unsigned host_bits = ip_bits(family) - range->subnet_len;
	ip_num count = ((ip_to_num(&range->subnet_max) - first) >> host_bits) + 1;
	ip_num index = random_below(&random, count), stride = random_below(&random, count) + 1;

	while (!coprime(stride, count))
		stride = stride % count + 1;
	for (ip_num tries = count < TRIES_MAX ? count : TRIES_MAX; tries > 0; tries--) {
		struct ip_net subnet = {
			.ip = ip_from_num(family, first + (index << host_bits)),
			.len = (uint8_t)range->subnet_len,
		};

		if (!taken(&subnet, userdata)) {
			*ret_subnet = subnet;
			return 0;
		}
		index = (index + stride) % count;
	}
	return -ENOSPC;
}

bool allocate_valid(const struct netconf_range *range, const struct ip_net *subnet)
{
	struct ip_net base = ip_net_base(subnet);
	ip_num num = ip_to_num(&subnet->ip);

	return ip_net_is_set(subnet) && subnet->ip.family == range->network.ip.family &&
	       subnet->len == range->subnet_len && ip_net_equal(&base, subnet) &&
	       num >= ip_to_num(&range->subnet_min) && num <= ip_to_num(&range->subnet_max);
}
