/* SPDX-License-Identifier: Apache-2.0 */
/* subnet_file.c - /run/flannel/subnet.env */
#include "model/subnet_file.h"

#include "base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define KEY_MTU     "FLANNEL_MTU"
#define KEY_IP_MASQ "FLANNEL_IPMASQ"

static const struct {
	const char *network, *subnet;
} keys[IP_FAMILY_COUNT] = {
	[IP_V4] = {"FLANNEL_NETWORK", "FLANNEL_SUBNET"},
	[IP_V6] = {"FLANNEL_IPV6_NETWORK", "FLANNEL_IPV6_SUBNET"},
};

/* Room for every line of both families. */
#define TEXT_MAX 512

char *subnet_file_format(const struct subnet_file *file)
{
	char *text = mem_alloc(TEXT_MAX, 1);
	int n = 0;

	IP_FOREACH_FAMILY (f) {
		char network[IP_NET_STRLEN], subnet[IP_NET_STRLEN];
		struct ip_net first = file->subnet[f];

		if (!ip_net_is_set(&file->network[f]))
			continue;
		first.ip = ip_from_num(f, ip_to_num(&first.ip) + 1);
		n += snprintf(text + n, (size_t)(TEXT_MAX - n), "%s=%s\n%s=%s\n", keys[f].network,
			      ip_net_format(&file->network[f], network), keys[f].subnet,
			      ip_net_format(&first, subnet));
	}
	(void)snprintf(text + n, (size_t)(TEXT_MAX - n), KEY_MTU "=%u\n" KEY_IP_MASQ "=%s\n",
		       file->mtu, file->ip_masq ? "true" : "false");
	return text;
}

/* Cuts blanks off both ends, and one pair of quotes around the rest. */
static char *strip(char *s)
{
	size_t n;

	s += strspn(s, " \t\r");
	n = strlen(s);
	while (n && isspace((unsigned char)s[n - 1]))
		n--;
	if (n >= 2 && (*s == '"' || *s == '\'') && s[n - 1] == *s) {
		s++;
		n -= 2;
	}
	s[n] = '\0';
	return s;
}

static int parse_network(char *value, enum ip_family family, struct ip_net *ret_net)
{
	struct ip_net net;

	/* The original once wrote several networks; the first is the cluster's own. */
	value[strcspn(value, ",")] = '\0';
	if (ip_net_parse(value, &net) < 0 || net.ip.family != family)
		return -EINVAL;
	*ret_net = ip_net_base(&net);
	return 0;
}

static int parse_subnet(const char *value, enum ip_family family, struct ip_net *ret_net)
{
	struct ip_net net;

	if (ip_net_parse(value, &net) < 0 || net.ip.family != family)
		return -EINVAL;
	/* In a subnet of one address the file's + 1 is outside. */
	if (net.len == ip_bits(family))
		net.ip = ip_from_num(family, ip_to_num(&net.ip) - 1);
	*ret_net = ip_net_base(&net);
	return 0;
}

static int parse_mtu(const char *value, unsigned *ret_mtu)
{
	uint64_t mtu = 0;
	size_t n = strspn(value, "0123456789");

	if (!n || n > 10 || value[n])
		return -EINVAL;
	for (size_t i = 0; i < n; i++)
		mtu = mtu * 10 + (uint64_t)(value[i] - '0');
	if (mtu > UINT_MAX)
		return -EINVAL;
	*ret_mtu = (unsigned)mtu;
	return 0;
}

static int parse_bool(const char *value, bool *ret_value)
{
	bool yes = !strcmp(value, "true");

	if (!yes && strcmp(value, "false") != 0)
		return -EINVAL;
	*ret_value = yes;
	return 0;
}

struct parsed {
	struct subnet_file file;
	bool has_mtu, has_ip_masq;
};

/* The error is only the value's form; which line it was the caller knows. */
static int parse_value(const char *key, char *value, struct parsed *parsed)
{
	int r;

	IP_FOREACH_FAMILY (f) {
		if (!strcmp(key, keys[f].network))
			return parse_network(value, f, &parsed->file.network[f]);
		if (!strcmp(key, keys[f].subnet))
			return parse_subnet(value, f, &parsed->file.subnet[f]);
	}
	if (!strcmp(key, KEY_MTU)) {
		r = parse_mtu(value, &parsed->file.mtu);
		parsed->has_mtu = !r;
		return r;
	}
	if (!strcmp(key, KEY_IP_MASQ)) {
		r = parse_bool(value, &parsed->file.ip_masq);
		parsed->has_ip_masq = !r;
		return r;
	}
	return 0;
}

static int parse_line(char *line, unsigned number, struct parsed *parsed, struct err *err)
{
	char *key = strip(line), *equals, *value;

	if (!*key || *key == '#')
		return 0;
	equals = strchr(key, '=');
	if (!equals)
		return err_set(err, -EINVAL, "line %u: \"%.60s\" is not KEY=VALUE", number, key);
	*equals = '\0';
	key = strip(key);
	value = strip(equals + 1);
	if (parse_value(key, value, parsed) < 0)
		return err_set(err, -EINVAL, "line %u: \"%.60s\" is not a value of %s", number,
			       value, key);
	return 0;
}

static void add_missing(char *buf, size_t size, const char *key)
{
	size_t n = strlen(buf);

	(void)snprintf(buf + n, size - n, "%s%s", n ? ", " : "", key);
}

static int check_complete(const struct parsed *parsed, struct err *err)
{
	const struct subnet_file *file = &parsed->file;
	char missing[160] = "";
	bool any = false;

	IP_FOREACH_FAMILY (f)
		any |= ip_net_is_set(&file->network[f]) || ip_net_is_set(&file->subnet[f]);
	IP_FOREACH_FAMILY (f) {
		bool network = ip_net_is_set(&file->network[f]);
		bool subnet = ip_net_is_set(&file->subnet[f]);

		/* A file without any family is most likely meant to be an IPv4 one. */
		if (!network && (subnet || (!any && f == IP_V4)))
			add_missing(missing, sizeof(missing), keys[f].network);
		if (!subnet && (network || (!any && f == IP_V4)))
			add_missing(missing, sizeof(missing), keys[f].subnet);
	}
	if (!parsed->has_mtu)
		add_missing(missing, sizeof(missing), KEY_MTU);
	if (!parsed->has_ip_masq)
		add_missing(missing, sizeof(missing), KEY_IP_MASQ);
	if (*missing)
		return err_set(err, -EINVAL, "missing: %s", missing);
	return 0;
}

int subnet_file_parse(const char *text, struct subnet_file *ret_file, struct err *err)
{
	_cleanup_free_ char *copy = mem_strdup(text);
	struct parsed parsed = {0};
	char *rest = copy, *line;
	int r;

	for (unsigned number = 1; (line = strsep(&rest, "\n")); number++) {
		r = parse_line(line, number, &parsed, err);
		if (r < 0)
			return r;
	}
	r = check_complete(&parsed, err);
	if (r < 0)
		return r;
	*ret_file = parsed.file;
	return 0;
}
