/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_ip.c - the text of addresses, prefixes and MACs
 *
 * Whatever reads is written in a form that reads as the same value.
 */
#include "base/mem.h"
#include "net/ip.h"
#include "net/mac.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_ip(const char *text)
{
	struct ip ip, again;
	char buf[IP_STRLEN];

	if (ip_parse(text, &ip) < 0)
		return;
	assert(ip_is_set(&ip));
	assert(ip_parse(ip_format(&ip, buf), &again) == 0 && ip_equal(&ip, &again));
	again = ip_from_num(ip.family, ip_to_num(&ip));
	assert(ip_equal(&ip, &again));
	assert(ip_from_bytes(ip.b, ip_bytes(ip.family), &again) == 0 && ip_equal(&ip, &again));
	assert(!(ip_is_global_unicast(&ip) && ip_is_link_local(&ip)));
}

static void check_net(const char *text)
{
	struct ip_net net, again, base, host;
	char buf[IP_NET_STRLEN];
	struct ip last;

	if (ip_net_parse(text, &net) < 0)
		return;
	assert(net.len <= ip_bits(net.ip.family));
	assert(ip_net_parse(ip_net_format(&net, buf), &again) == 0 && ip_net_equal(&net, &again));
	base = ip_net_base(&net);
	again = ip_net_base(&base);
	assert(ip_net_equal(&base, &again));
	last = ip_net_last(&net);
	assert(ip_to_num(&base.ip) <= ip_to_num(&net.ip) && ip_to_num(&net.ip) <= ip_to_num(&last));
	assert(ip_net_contains(&net, &base.ip) && ip_net_contains(&net, &last));
	assert(ip_net_contains_net(&net, &base) && ip_net_overlaps(&base, &net));
	host = ip_net_host(&last);
	assert(ip_net_contains_net(&net, &host));
	/* The first address behind it, unless it reaches to the end of all. */
	last = ip_from_num(last.family, ip_to_num(&last) + 1);
	assert(net.len == 0 || !ip_net_contains(&net, &last));
}

static void check_mac(const char *text)
{
	struct mac mac, again;
	char buf[MAC_STRLEN];

	again = mac_from_seed(text);
	assert(mac_is_unicast(&again));
	if (mac_parse(text, &mac) < 0)
		return;
	assert(mac_parse(mac_format(&mac, buf), &again) == 0 && mac_equal(&mac, &again));
	assert(!(mac_is_zero(&mac) && mac_is_unicast(&mac)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = mem_alloc(size + 1, 1);

	if (size)
		memcpy(text, data, size);
	check_ip(text);
	check_net(text);
	check_mac(text);
	return 0;
}
