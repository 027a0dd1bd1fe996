/* SPDX-License-Identifier: Apache-2.0 */
/* netconf.c - the network config */
#include "model/netconf.h"

#include "base/json.h"
#include "base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define BACKEND_DEFAULT "vxlan"
#define KEEP_KEY        "nonMasqueradeCIDRs"

/* Everything in which the families differ. */
static const struct family_rules {
	const char *enable, *network, *subnet_len, *subnet_min, *subnet_max;
	const char *example;
	unsigned subnet_len_default;
	unsigned subnet_len_max;  /* four addresses: two hosts and the ends */
	unsigned network_len_max; /* four such subnets */
} rules[IP_FAMILY_COUNT] = {
	[IP_V4] = {"EnableIPv4", "Network", "SubnetLen", "SubnetMin", "SubnetMax", "10.244.0.0/16",
		   24, 30, 28},
	[IP_V6] = {"EnableIPv6", "IPv6Network", "IPv6SubnetLen", "IPv6SubnetMin", "IPv6SubnetMax",
		   "fd00:10:244::/48", 64, 126, 124},
};

void netconf_done(struct netconf *conf)
{
	if (!conf)
		return;
	json_decref(conf->backend);
	*conf = (struct netconf){0};
}

static void cleanup_netconf(struct netconf *conf)
{
	netconf_done(conf);
}

static int parse_network(const json_t *obj, enum ip_family family, struct ip_net *ret_net,
			 struct err *err)
{
	const struct family_rules *rule = &rules[family];
	const char *text = NULL;
	struct ip_net net;
	int r;

	r = json_member_string(obj, rule->network, &text, err);
	if (r < 0 || !text)
		return r;
	if (ip_net_parse(text, &net) < 0 || net.ip.family != family || net.len == 0)
		return err_set(err, -EINVAL, "%s: \"%.60s\" is not an %s network such as %s",
			       rule->network, text, ip_family_name(family), rule->example);
	/* As in the original, 10.5.1.0/16 means 10.5.0.0/16. */
	*ret_net = ip_net_base(&net);
	return 0;
}

/* SubnetMin or SubnetMax; the unspecified address means "not given", as in the original. */
static int parse_bound(const json_t *obj, const char *key, enum ip_family family, struct ip *ret_ip,
		       struct err *err)
{
	const char *text = NULL;
	struct ip ip;
	int r;

	r = json_member_string(obj, key, &text, err);
	if (r < 0 || !text)
		return r;
	if (ip_parse(text, &ip) < 0 || ip.family != family)
		return err_set(err, -EINVAL, "%s: \"%.60s\" is not an %s address", key, text,
			       ip_family_name(family));
	if (ip_to_num(&ip) != 0)
		*ret_ip = ip;
	return 0;
}

static int parse_range(const json_t *obj, enum ip_family family, struct netconf_range *range,
		       struct err *err)
{
	const struct family_rules *rule = &rules[family];
	int64_t len = 0;
	int r;

	r = parse_network(obj, family, &range->network, err);
	if (r < 0)
		return r;
	r = json_member_int(obj, rule->subnet_len, 0, ip_bits(family), &len, err);
	if (r < 0)
		return r;
	range->subnet_len = (unsigned)len;
	r = parse_bound(obj, rule->subnet_min, family, &range->subnet_min, err);
	if (r < 0)
		return r;
	return parse_bound(obj, rule->subnet_max, family, &range->subnet_max, err);
}

static int parse_family(const json_t *obj, enum ip_family family, struct netconf *conf,
			struct err *err)
{
	const struct family_rules *rule = &rules[family];
	int r;

	r = json_member_bool(obj, rule->enable, &conf->enabled[family], err);
	if (r < 0)
		return r;
	r = parse_range(obj, family, &conf->range[family], err);
	if (r < 0)
		return r;
	if (conf->enabled[family] && !ip_net_is_set(&conf->range[family].network))
		return err_set(err, -EINVAL, "%s is missing, %s needs it (such as \"%s\")",
			       rule->network, ip_family_name(family), rule->example);
	return 0;
}

static int parse_backend(const json_t *obj, struct netconf *conf, struct err *err)
{
	json_t *backend = json_member(obj, "Backend");
	const char *type = "";
	char brief[80];
	int r;

	if (!backend) {
		(void)snprintf(conf->backend_type, sizeof(conf->backend_type), BACKEND_DEFAULT);
		conf->backend_defaulted = true;
		return 0;
	}
	if (!json_is_object(backend))
		return err_set(err, -EINVAL,
			       "Backend: %s is not an object such as {\"Type\":\"vxlan\"}",
			       json_brief(backend, brief, sizeof(brief)));
	r = json_member_string(backend, "Type", &type, err);
	if (r < 0)
		return err_wrap(err, r, "Backend");
	if (!*type)
		return err_set(err, -EINVAL, "Backend: Type is missing (such as \"vxlan\")");
	if (strlen(type) >= sizeof(conf->backend_type))
		return err_set(err, -EINVAL,
			       "Backend: Type: \"%.60s\" is not the name of a backend", type);
	for (size_t i = 0; type[i]; i++)
		conf->backend_type[i] = (char)tolower((unsigned char)type[i]);
	conf->backend = json_incref(backend);
	return 0;
}

static int parse_keep(const json_t *obj, struct netconf *conf, struct err *err)
{
	const json_t *list = json_member(obj, KEEP_KEY), *item;
	char brief[80];
	size_t i;

	if (!list || json_is_null(list))
		return 0;
	if (!json_is_array(list))
		return err_set(err, -EINVAL,
			       KEEP_KEY ": %s is not a list such as [\"192.168.0.0/16\"]",
			       json_brief(list, brief, sizeof(brief)));
	if (json_array_size(list) > NETCONF_KEEP_MAX)
		return err_set(err, -EINVAL, KEEP_KEY " has %zu networks, at most %d are possible",
			       json_array_size(list), NETCONF_KEEP_MAX);
	json_array_foreach (list, i, item) {
		const char *text = json_string_value(item);
		struct ip_net net;

		if (!text || ip_net_parse(text, &net) < 0)
			return err_set(err, -EINVAL,
				       KEEP_KEY ": %s is not a network such as \"192.168.0.0/16\"",
				       json_brief(item, brief, sizeof(brief)));
		conf->keep[conf->n_keep++] = ip_net_base(&net);
	}
	return 0;
}

static int parse_members(const json_t *obj, struct netconf *conf, struct err *err)
{
	int r;

	IP_FOREACH_FAMILY (f) {
		r = parse_family(obj, f, conf, err);
		if (r < 0)
			return r;
	}
	if (!conf->enabled[IP_V4] && !conf->enabled[IP_V6])
		return err_set(err, -EINVAL,
			       "EnableIPv4 and EnableIPv6 are both false, one must be true");
	r = json_member_bool(obj, "EnableNFTables", &conf->nftables, err);
	if (!r)
		r = parse_keep(obj, conf, err);
	return r < 0 ? r : parse_backend(obj, conf, err);
}

int netconf_parse(const char *text, size_t len, const char *what, struct netconf *ret_conf,
		  struct err *err)
{
	_cleanup_(cleanup_netconf) struct netconf conf = {.enabled[IP_V4] = true};
	_cleanup_json_ json_t *obj = NULL;
	int r;

	if (len > NETCONF_MAX_BYTES)
		return err_set(err, -EINVAL, "%s is longer than %d bytes", what, NETCONF_MAX_BYTES);
	r = json_parse_object(text, len, what, &obj, err);
	if (r < 0)
		return r;
	r = parse_members(obj, &conf, err);
	if (r < 0)
		return err_wrap(err, r, "%s", what);
	*ret_conf = conf;
	conf = (struct netconf){0};
	return 0;
}

static int check_subnet_len(enum ip_family family, struct netconf_range *range, struct err *err)
{
	const struct family_rules *rule = &rules[family];
	char network[IP_NET_STRLEN];

	(void)ip_net_format(&range->network, network);
	if (range->network.len > rule->network_len_max)
		return err_set(err, -EINVAL, "%s: %s is too small, must be /%u or larger",
			       rule->network, network, rule->network_len_max);
	if (!range->subnet_len)
		range->subnet_len = range->network.len + 2u <= rule->subnet_len_default
					    ? rule->subnet_len_default
					    : range->network.len + 2u;
	if (range->subnet_len > rule->subnet_len_max)
		return err_set(err, -EINVAL, "%s: %u is too long, must be at most %u",
			       rule->subnet_len, range->subnet_len, rule->subnet_len_max);
	/* The first subnet stays unused, so two would leave a single host. */
	if (range->subnet_len < range->network.len + 2u)
		return err_set(err, -EINVAL,
			       "%s: %u is too short, %s %s must hold at least four subnets: at "
			       "least %u",
			       rule->subnet_len, range->subnet_len, rule->network, network,
			       range->network.len + 2u);
	return 0;
}

static int check_bound(const struct netconf_range *range, const char *key, const char *network_key,
		       const struct ip *bound, struct err *err)
{
	struct ip_net subnet = {*bound, (uint8_t)range->subnet_len}, base = ip_net_base(&subnet);
	char text[IP_STRLEN], right[IP_STRLEN], network[IP_NET_STRLEN];

	(void)ip_format(bound, text);
	if (!ip_net_contains(&range->network, bound))
		return err_set(err, -EINVAL, "%s: %s is not inside %s %s", key, text, network_key,
			       ip_net_format(&range->network, network));
	if (!ip_net_equal(&subnet, &base))
		return err_set(err, -EINVAL,
			       "%s: %s is not the first address of a /%u subnet (%s would be)", key,
			       text, range->subnet_len, ip_format(&base.ip, right));
	return 0;
}

static int check_range(enum ip_family family, struct netconf_range *range, struct err *err)
{
	const struct family_rules *rule = &rules[family];
	ip_num size, last;
	char min[IP_STRLEN], max[IP_STRLEN];
	struct ip end;
	int r;

	r = check_subnet_len(family, range, err);
	if (r < 0)
		return r;
	size = (ip_num)1 << (ip_bits(family) - range->subnet_len);
	end = ip_net_last(&range->network);
	last = ip_to_num(&end) - (size - 1);
	/* The first subnet has the network's own address as its base: not given to a host. */
	if (!ip_is_set(&range->subnet_min))
		range->subnet_min = ip_from_num(family, ip_to_num(&range->network.ip) + size);
	if (!ip_is_set(&range->subnet_max))
		range->subnet_max = ip_from_num(family, last);
	r = check_bound(range, rule->subnet_min, rule->network, &range->subnet_min, err);
	if (r < 0)
		return r;
	r = check_bound(range, rule->subnet_max, rule->network, &range->subnet_max, err);
	if (r < 0)
		return r;
	if (ip_to_num(&range->subnet_min) > ip_to_num(&range->subnet_max))
		return err_set(err, -EINVAL, "%s: %s is above %s %s", rule->subnet_min,
			       ip_format(&range->subnet_min, min), rule->subnet_max,
			       ip_format(&range->subnet_max, max));
	return 0;
}

int netconf_check_ranges(struct netconf *conf, struct err *err)
{
	struct netconf_range checked[IP_FAMILY_COUNT];

	memcpy(checked, conf->range, sizeof(checked));
	IP_FOREACH_FAMILY (f) {
		int r = conf->enabled[f] ? check_range(f, &checked[f], err) : 0;

		if (r < 0)
			return r;
	}
	memcpy(conf->range, checked, sizeof(checked));
	return 0;
}

static bool is_known_key(const char *key)
{
	if (!strcasecmp(key, "EnableNFTables") || !strcasecmp(key, "Backend") ||
	    !strcasecmp(key, KEEP_KEY))
		return true;
	IP_FOREACH_FAMILY (f) {
		const struct family_rules *rule = &rules[f];
		const char *known[] = {rule->enable, rule->network, rule->subnet_len,
				       rule->subnet_min, rule->subnet_max};

		for (size_t i = 0; i < ARRAY_SIZE(known); i++)
			if (!strcasecmp(key, known[i]))
				return true;
	}
	return false;
}

bool netconf_unknown_keys(const char *text, size_t len, char *buf, size_t size)
{
	_cleanup_json_ json_t *obj = NULL;
	const char *key;
	json_t *value;
	size_t n = 0;

	buf[0] = '\0';
	if (json_parse_object(text, len, "", &obj, NULL) < 0)
		return false;
	json_object_foreach (obj, key, value) {
		if (is_known_key(key) || n >= size)
			continue;
		n += (size_t)snprintf(buf + n, size - n, "%s%s", n ? ", " : "", key);
	}
	return n > 0;
}

/* One family is on at least, so what is in vain is of the other one. */
enum ip_family netconf_idle_keep(const struct netconf *conf, char *buf, size_t size)
{
	enum ip_family idle = IP_NONE;
	size_t n = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < conf->n_keep; i++) {
		char net[IP_NET_STRLEN];

		if (conf->enabled[conf->keep[i].ip.family] || n >= size)
			continue;
		idle = conf->keep[i].ip.family;
		n += (size_t)snprintf(buf + n, size - n, "%s%s", n ? ", " : "",
				      ip_net_format(&conf->keep[i], net));
	}
	return idle;
}
