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
#define NETWORKS_STRLEN (SUBNET_FILE_NETWORKS_MAX * IP_NET_STRLEN)
#define TEXT_MAX        (2 * NETWORKS_STRLEN + 512)

static const char *format_networks(const struct subnet_file *file, enum ip_family f,
				   char buf[NETWORKS_STRLEN])
{
	char text[IP_NET_STRLEN];
	int n = snprintf(buf, NETWORKS_STRLEN, "%s", ip_net_format(&file->network[f], text));

	for (size_t i = 0; i < file->n_more[f]; i++)
		n += snprintf(buf + n, (size_t)(NETWORKS_STRLEN - n), ",%s",
			      ip_net_format(&file->more[f][i], text));
	return buf;
}

char *subnet_file_status_path(const char *subnet_path)
{
	const char *slash = strrchr(subnet_path, '/');
	char *path;

	if (asprintf(&path, "%.*sstatus", slash ? (int)(slash + 1 - subnet_path) : 0, subnet_path) <
	    0)
		abort();
	return path;
}

char *subnet_file_format(const struct subnet_file *file)
{
	char *text = mem_alloc(TEXT_MAX, 1);
	int n = 0;

	IP_FOREACH_FAMILY (f) {
		char networks[NETWORKS_STRLEN], subnet[IP_NET_STRLEN];
		struct ip_net first = file->subnet[f];

		if (!ip_net_is_set(&file->network[f]))
			continue;
		first.ip = ip_from_num(f, ip_to_num(&first.ip) + 1);
		n += snprintf(text + n, (size_t)(TEXT_MAX - n), "%s=%s\n%s=%s\n", keys[f].network,
			      format_networks(file, f, networks), keys[f].subnet,
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

static bool has_network(const struct subnet_file *file, const struct ip_net *net)
{
	const enum ip_family f = net->ip.family;
	bool found = ip_net_equal(&file->network[f], net);

	for (size_t i = 0; i < file->n_more[f] && !found; i++)
		found = ip_net_equal(&file->more[f][i], net);
	return found;
}

/* "10.244.0.0/16", or several with commas between; the first is the cluster's own. */
static int parse_networks(char *value, enum ip_family family, struct subnet_file *file)
{
	char *word;

	/* A second line replaces the first one, as in a shell. */
	file->network[family] = (struct ip_net){0};
	file->n_more[family] = 0;
	while ((word = strsep(&value, ","))) {
		struct ip_net net;

		if (ip_net_parse(strip(word), &net) < 0 || net.ip.family != family)
			return -EINVAL;
		net = ip_net_base(&net);
		if (!ip_net_is_set(&file->network[family]))
			file->network[family] = net;
		else if (has_network(file, &net))
			continue;
		else if (file->n_more[family] < SUBNET_FILE_NETWORKS_MAX - 1)
			file->more[family][file->n_more[family]++] = net;
		else
			return -E2BIG;
	}
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
			return parse_networks(value, f, &parsed->file);
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
	_cleanup_free_ char *whole = NULL;
	char *key = strip(line), *equals, *value;
	int r;

	if (!*key || *key == '#')
		return 0;
	equals = strchr(key, '=');
	if (!equals)
		return err_set(err, -EINVAL, "line %u: \"%.60s\" is not KEY=VALUE", number, key);
	*equals = '\0';
	key = strip(key);
	value = strip(equals + 1);
	whole = mem_strdup(value); /* a list is cut in pieces */
	r = parse_value(key, value, parsed);
	if (r == -E2BIG)
		return err_set(err, -EINVAL, "line %u: more than %d networks in %s", number,
			       SUBNET_FILE_NETWORKS_MAX, key);
	if (r < 0)
		return err_set(err, -EINVAL, "line %u: \"%.60s\" is not a value of %s", number,
			       whole, key);
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
