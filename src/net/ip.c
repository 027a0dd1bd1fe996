/* SPDX-License-Identifier: Apache-2.0 */
/* ip.c - addresses and prefixes, one type for both families */
#include "net/ip.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* Callers hash and compare these with memcmp(). */
static_assert(sizeof(struct ip) == 17 && sizeof(struct ip_net) == 18, "no padding");

static const struct {
	const char *name;
	unsigned bytes;
	int af;
} families[IP_FAMILY_COUNT] = {
	[IP_NONE] = {"none", 0, AF_UNSPEC},
	[IP_V4] = {"IPv4", 4, AF_INET},
	[IP_V6] = {"IPv6", 16, AF_INET6},
};

const char *ip_family_name(enum ip_family family)
{
	return families[family].name;
}

unsigned ip_bits(enum ip_family family)
{
	return families[family].bytes * 8;
}

unsigned ip_bytes(enum ip_family family)
{
	return families[family].bytes;
}

int ip_af(enum ip_family family)
{
	return families[family].af;
}

enum ip_family ip_family_from_af(int af)
{
	IP_FOREACH_FAMILY (f)
		if (families[f].af == af)
			return f;
	return IP_NONE;
}

int ip_parse(const char *text, struct ip *ret_ip)
{
	struct ip ip = {.family = strchr(text, ':') ? IP_V6 : IP_V4};

	if (inet_pton(ip_af(ip.family), text, ip.b) != 1)
		return -EINVAL;
	*ret_ip = ip;
	return 0;
}

int ip_from_bytes(const void *bytes, size_t len, struct ip *ret_ip)
{
	IP_FOREACH_FAMILY (f) {
		if (len != ip_bytes(f))
			continue;
		*ret_ip = (struct ip){.family = (uint8_t)f};
		memcpy(ret_ip->b, bytes, len);
		return 0;
	}
	return -EINVAL;
}

struct ip ip_from_num(enum ip_family family, ip_num num)
{
	struct ip ip = {.family = (uint8_t)family};

	for (unsigned i = ip_bytes(family); i-- > 0; num >>= 8)
		ip.b[i] = (uint8_t)num;
	return ip;
}

ip_num ip_to_num(const struct ip *ip)
{
	ip_num num = 0;

	for (unsigned i = 0; i < ip_bytes(ip->family); i++)
		num = num << 8 | ip->b[i];
	return num;
}

const char *ip_format(const struct ip *ip, char buf[IP_STRLEN])
{
	if (!ip_is_set(ip) || !inet_ntop(ip_af(ip->family), ip->b, buf, IP_STRLEN))
		(void)snprintf(buf, IP_STRLEN, "none");
	return buf;
}

bool ip_equal(const struct ip *a, const struct ip *b)
{
	return !memcmp(a, b, sizeof(*a));
}

bool ip_is_link_local(const struct ip *ip)
{
	if (ip->family == IP_V4)
		return ip->b[0] == 169 && ip->b[1] == 254;
	return ip->family == IP_V6 && ip->b[0] == 0xfe && (ip->b[1] & 0xc0) == 0x80;
}

bool ip_is_global_unicast(const struct ip *ip)
{
	ip_num num = ip_to_num(ip);

	if (!ip_is_set(ip) || num == 0 || ip_is_link_local(ip))
		return false;
	if (ip->family == IP_V4)
		return ip->b[0] != 127 && (ip->b[0] & 0xf0) != 0xe0 && num != 0xffffffff;
	return num != 1 && ip->b[0] != 0xff;
}

/* @digits is a decimal number of at most three digits and nothing else. */
static int parse_prefix_len(const char *digits, unsigned max, unsigned *ret_len)
{
	unsigned len = 0;
	size_t n = strspn(digits, "0123456789");

	if (n < 1 || n > 3 || digits[n])
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		len = len * 10 + (unsigned)(digits[i] - '0');
	if (len > max)
		return -EINVAL;
	*ret_len = len;
	return 0;
}

int ip_net_parse(const char *text, struct ip_net *ret_net)
{
	const char *slash = strchr(text, '/');
	char address[IP_STRLEN];
	unsigned len;
	struct ip ip;

	if (!slash || (size_t)(slash - text) >= sizeof(address))
		return -EINVAL;
	memcpy(address, text, (size_t)(slash - text));
	address[slash - text] = '\0';
	if (ip_parse(address, &ip) < 0 || parse_prefix_len(slash + 1, ip_bits(ip.family), &len) < 0)
		return -EINVAL;
	*ret_net = (struct ip_net){.ip = ip, .len = (uint8_t)len};
	return 0;
}

const char *ip_net_format(const struct ip_net *net, char buf[IP_NET_STRLEN])
{
	char address[IP_STRLEN];

	if (ip_net_is_set(net))
		(void)snprintf(buf, IP_NET_STRLEN, "%s/%u", ip_format(&net->ip, address), net->len);
	else
		(void)snprintf(buf, IP_NET_STRLEN, "none");
	return buf;
}

bool ip_net_equal(const struct ip_net *a, const struct ip_net *b)
{
	return !memcmp(a, b, sizeof(*a));
}

/* Ones where the host bits are. A shift by all 128 bits would be undefined. */
static ip_num host_mask(const struct ip_net *net)
{
	unsigned host_bits = ip_bits(net->ip.family) - net->len;

	return host_bits >= 128 ? ~(ip_num)0 : ((ip_num)1 << host_bits) - 1;
}

struct ip_net ip_net_base(const struct ip_net *net)
{
	struct ip_net base = *net;

	base.ip = ip_from_num(net->ip.family, ip_to_num(&net->ip) & ~host_mask(net));
	return base;
}

struct ip ip_net_last(const struct ip_net *net)
{
	return ip_from_num(net->ip.family, ip_to_num(&net->ip) | host_mask(net));
}

bool ip_net_contains(const struct ip_net *net, const struct ip *ip)
{
	if (!ip_net_is_set(net) || net->ip.family != ip->family)
		return false;
	return !((ip_to_num(&net->ip) ^ ip_to_num(ip)) & ~host_mask(net));
}

bool ip_net_contains_net(const struct ip_net *net, const struct ip_net *inner)
{
	return net->len <= inner->len && ip_net_contains(net, &inner->ip);
}

bool ip_net_overlaps(const struct ip_net *a, const struct ip_net *b)
{
	return ip_net_contains_net(a, b) || ip_net_contains_net(b, a);
}

struct ip_net ip_net_host(const struct ip *ip)
{
	return (struct ip_net){.ip = *ip, .len = (uint8_t)ip_bits(ip->family)};
}
