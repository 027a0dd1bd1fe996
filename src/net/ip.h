/* SPDX-License-Identifier: Apache-2.0 */
/* ip.h - addresses and prefixes, one type for both families
 *
 * Both are plain values without padding: bytes past the family's length are
 * zero, so that memcmp() and hashing whole structs are right. A zeroed value is
 * "unset" (family IP_NONE).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ip_family {
	IP_NONE,
	IP_V4,
	IP_V6,
	IP_FAMILY_COUNT, /* arrays by family have this size; [IP_NONE] stays empty */
};

/* A loop over the real families: IP_FOREACH_FAMILY (f) { ... } */
#define IP_FOREACH_FAMILY(f) for (enum ip_family f = IP_V4; f < IP_FAMILY_COUNT; f++)

struct ip {
	uint8_t family; /* enum ip_family */
	uint8_t b[16];  /* network byte order */
};

struct ip_net {
	struct ip ip;
	uint8_t len; /* 0..32, 0..128 */
};

/* The address as a number, for arithmetic; IPv4 uses the low 32 bits. */
__extension__ typedef unsigned __int128 ip_num;

#define IP_STRLEN     46
#define IP_NET_STRLEN 50

static inline bool ip_is_set(const struct ip *ip)
{
	return ip->family != IP_NONE;
}

static inline bool ip_net_is_set(const struct ip_net *net)
{
	return net->ip.family != IP_NONE;
}

/* "IPv4", "IPv6". */
const char *ip_family_name(enum ip_family family);
/* Bits of an address: 32, 128; 0 for IP_NONE. */
unsigned ip_bits(enum ip_family family);
/* Bytes of an address: 4, 16; 0 for IP_NONE. */
unsigned ip_bytes(enum ip_family family);
/* AF_INET, AF_INET6, AF_UNSPEC. */
int ip_af(enum ip_family family);
enum ip_family ip_family_from_af(int af);

/* Dotted quad or RFC 4291 text, nothing before or behind it, no zone. 0 or -EINVAL. */
int ip_parse(const char *text, struct ip *ret_ip);
/* From @len (4 or 16) bytes in network order. 0 or -EINVAL. */
int ip_from_bytes(const void *bytes, size_t len, struct ip *ret_ip);
struct ip ip_from_num(enum ip_family family, ip_num num);
ip_num ip_to_num(const struct ip *ip);
/* RFC 5952 text into @buf, which is returned; "none" when unset. */
const char *ip_format(const struct ip *ip, char buf[IP_STRLEN]);
bool ip_equal(const struct ip *a, const struct ip *b);
/* Usable as a unicast address outside this host: not unset, unspecified, loopback,
 * link-local, multicast or 255.255.255.255. */
bool ip_is_global_unicast(const struct ip *ip);
bool ip_is_link_local(const struct ip *ip);

/* `10.5.0.0/16`; host bits may be set (ip_net_base() clears them). 0 or -EINVAL. */
int ip_net_parse(const char *text, struct ip_net *ret_net);
const char *ip_net_format(const struct ip_net *net, char buf[IP_NET_STRLEN]);
bool ip_net_equal(const struct ip_net *a, const struct ip_net *b);
/* The prefix with all host bits zero. */
struct ip_net ip_net_base(const struct ip_net *net);
/* The last address inside. */
struct ip ip_net_last(const struct ip_net *net);
bool ip_net_contains(const struct ip_net *net, const struct ip *ip);
/* @inner lies wholly inside @net (or equals it). */
bool ip_net_contains_net(const struct ip_net *net, const struct ip_net *inner);
bool ip_net_overlaps(const struct ip_net *a, const struct ip_net *b);
/* A prefix of one address: /32, /128. */
struct ip_net ip_net_host(const struct ip *ip);
