/* SPDX-License-Identifier: Apache-2.0 */
/* host_local_conf.c - the config of host-local: its checks, its defaults
 *
 * As host-local 1.1.1 reads it. Where a value is one that it would stumble over later, in
 * the middle of its work, the config is refused here. Pure.
 */
#include "cni/host_local.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>

/* What a reader of one part returns; the first two as host_local_conf_parse(). */
enum {
	UNDERSTOOD = 1,
	NOT_OURS = 0,
	WRONG = -1,
};

/* The members of a range that are there. */
struct range_text {
	struct ip_net subnet;
	struct ip start, end, gateway;
};

/* Whether @obj has no members but those of @known, which ends with NULL. */
static bool knows_all(const json_t *obj, const char *const *known)
{
	/* jansson's iterators take a non-const object, but do not touch it. */
	json_t *walked = (json_t *)(uintptr_t)obj;

	for (void *i = json_object_iter(walked); i; i = json_object_iter_next(walked, i)) {
		const char *const *name = known;

		while (*name && strcasecmp(*name, json_object_iter_key(i)) != 0)
			name++;
		if (!*name)
			return false;
	}
	return true;
}

static int not_ours(const char **ret_why, const char *why)
{
	*ret_why = why;
	return NOT_OURS;
}

/* ---- addresses ---- */

static bool is_mapped(const struct ip *ip)
{
	static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};

	return ip->family == IP_V6 && !memcmp(ip->b, prefix, sizeof(prefix));
}

/* An address that may be missing or "" (unset then). Go makes an IPv4 address of a mapped one. */
static int read_ip(const json_t *obj, const char *key, struct ip *ip, struct cni_error *error)
{
	const char *text = "";
	struct err err;

	if (json_member_string(obj, key, &text, &err))
		return cni_fail(error, CNI_CONFIG_INVALID, "ipam: %s", err.text);
	if (!*text)
		return 0;
	if (ip_parse(text, ip))
		return cni_fail(error, CNI_CONFIG_INVALID, "ipam: %s: \"%s\" is not an address",
				key, text);
	if (is_mapped(ip))
		*ip = ip_from_num(IP_V4, ip_to_num(ip));
	return 0;
}

/* A prefix that may be missing (unset then). */
static int read_net(const json_t *obj, const char *key, struct ip_net *net, struct cni_error *error)
{
	const char *text = NULL;
	struct err err;

	if (json_member_string(obj, key, &text, &err))
		return cni_fail(error, CNI_CONFIG_INVALID, "ipam: %s", err.text);
	if (text && (ip_net_parse(text, net) || is_mapped(&net->ip)))
		return cni_fail(error, CNI_CONFIG_INVALID,
				"ipam: %s: \"%s\" is not a prefix such as 10.5.52.0/24", key, text);
	return 0;
}

static struct ip ip_after(const struct ip *ip, int steps)
{
	return ip_from_num(ip->family, ip_to_num(ip) + (ip_num)steps);
}

/* ---- a range ---- */

static int read_range(const json_t *obj, struct range_text *text, struct cni_error *error)
{
	if (read_net(obj, "subnet", &text->subnet, error) ||
	    read_ip(obj, "rangeStart", &text->start, error) ||
	    read_ip(obj, "rangeEnd", &text->end, error) ||
	    read_ip(obj, "gateway", &text->gateway, error))
		return WRONG;
	return UNDERSTOOD;
}

static int check_subnet(const struct ip_net *subnet, struct cni_error *error)
{
	char name[IP_NET_STRLEN], right[IP_NET_STRLEN];
	struct ip_net base = ip_net_base(subnet);

	if (!ip_net_is_set(subnet))
		return cni_fail(error, CNI_CONFIG_INVALID, "ipam: a range has no subnet");
	if (subnet->len + 2U > ip_bits(subnet->ip.family))
		return cni_fail(error, CNI_CONFIG_INVALID,
				"ipam: subnet %s is too small to give addresses of",
				ip_net_format(subnet, name));
	if (!ip_net_equal(subnet, &base))
		return cni_fail(error, CNI_CONFIG_INVALID,
				"ipam: subnet %s has host bits, the prefix is %s",
				ip_net_format(subnet, name), ip_net_format(&base, right));
	return 0;
}

static bool is_between(const struct ip *ip, const struct ip *start, const struct ip *end)
{
	return ip->family == start->family && ip_to_num(ip) >= ip_to_num(start) &&
	       ip_to_num(ip) <= ip_to_num(end);
}

bool host_local_range_contains(const struct host_local_range *range, const struct ip *ip)
{
	return is_between(ip, &range->start, &range->end);
}

static int check_ends(const struct host_local_range *range, struct cni_error *error)
{
	char start[IP_STRLEN], end[IP_STRLEN], subnet[IP_NET_STRLEN];

	(void)ip_net_format(&range->subnet, subnet);
	(void)ip_format(&range->start, start);
	(void)ip_format(&range->end, end);
	if (!ip_net_contains(&range->subnet, &range->start))
		return cni_fail(error, CNI_CONFIG_INVALID, "ipam: rangeStart %s is not in %s",
				start, subnet);
	if (!ip_net_contains(&range->subnet, &range->end))
		return cni_fail(error, CNI_CONFIG_INVALID, "ipam: rangeEnd %s is not in %s", end,
				subnet);
	/* Of start = broadcast without an end the plugin makes addresses outside the subnet. */
	if (!is_between(&range->start, &range->start, &range->end))
		return cni_fail(error, CNI_CONFIG_INVALID,
				"ipam: the range of %s starts at %s, behind its end %s", subnet,
				start, end);
	return 0;
}

/* Fills in what @text leaves open. */
static int make_range(const struct range_text *text, struct host_local_range *range,
		      struct cni_error *error)
{
	struct ip last;

	if (check_subnet(&text->subnet, error))
		return WRONG;
	last = ip_net_last(&text->subnet);
	*range = (struct host_local_range){
		.subnet = text->subnet,
		.start = text->start,
		.end = text->end,
		.gateway = text->gateway,
	};
	if (!ip_is_set(&range->start))
		range->start = ip_after(&text->subnet.ip, 1);
	if (!ip_is_set(&range->end))
		range->end = last.family == IP_V4 ? ip_after(&last, -1) : last;
	if (!ip_is_set(&range->gateway))
		range->gateway = ip_after(&text->subnet.ip, 1);
	return check_ends(range, error) ? WRONG : UNDERSTOOD;
}

/* ---- sets ---- */

static bool overlap(const struct host_local_range *a, const struct host_local_range *b)
{
	return host_local_range_contains(a, &b->start) || host_local_range_contains(b, &a->start);
}

static int overlapping(const struct host_local_range *a, const struct host_local_range *b,
		       struct cni_error *error)
{
	char text[4][IP_STRLEN];

	return cni_fail(error, CNI_CONFIG_INVALID, "ipam: ranges %s-%s and %s-%s overlap",
			ip_format(&a->start, text[0]), ip_format(&a->end, text[1]),
			ip_format(&b->start, text[2]), ip_format(&b->end, text[3]));
}

static int read_set(const json_t *json, struct host_local_set *set, const char **ret_why,
		    struct cni_error *error)
{
	static const char *const known[] = {"subnet", "rangeStart", "rangeEnd", "gateway", NULL};

	if (!json_is_array(json) || !json_array_size(json))
		return cni_fail(error, CNI_CONFIG_INVALID,
				"ipam: a member of ranges is not a list of ranges");
	if (json_array_size(json) > HOST_LOCAL_RANGES_MAX)
		return not_ours(ret_why, "so many ipam.ranges");
	for (size_t i = 0; i < json_array_size(json); i++) {
		const json_t *obj = json_array_get(json, i);
		struct range_text text = {0};

		if (!json_is_object(obj))
			return cni_fail(error, CNI_CONFIG_INVALID,
					"ipam: a range is not an object");
		if (!knows_all(obj, known))
			return not_ours(ret_why, "an unknown member of ipam.ranges");
		if (read_range(obj, &text, error) < 0 ||
		    make_range(&text, &set->range[set->n], error) < 0)
			return WRONG;
		if (set->range[set->n++].subnet.ip.family != set->range[0].subnet.ip.family)
			return cni_fail(error, CNI_CONFIG_INVALID,
					"ipam: a range set has both IPv4 and IPv6");
	}
	return UNDERSTOOD;
}

static int read_sets(const json_t *ipam, struct host_local_conf *conf, const char **ret_why,
		     struct cni_error *error)
{
	const json_t *sets = json_member(ipam, "ranges");
	struct range_text old = {0};

	/* What configs were before ranges: one, which goes first. */
	if (read_range(ipam, &old, error) < 0)
		return WRONG;
	if (ip_net_is_set(&old.subnet)) {
		if (make_range(&old, &conf->set[0].range[0], error) < 0)
			return WRONG;
		conf->set[0].n = 1;
		conf->n_sets = 1;
	}
	if (sets && !json_is_array(sets))
		return cni_fail(error, CNI_CONFIG_INVALID, "ipam: ranges is not a list");
	if (json_array_size(sets) + conf->n_sets > HOST_LOCAL_SETS_MAX)
		return not_ours(ret_why, "so many ipam.ranges");
	for (size_t i = 0; i < json_array_size(sets); i++) {
		int r = read_set(json_array_get(sets, i), &conf->set[conf->n_sets++], ret_why,
				 error);

		if (r != UNDERSTOOD)
			return r;
	}
	if (!conf->n_sets)
		return cni_fail(error, CNI_CONFIG_INVALID, "ipam: there are no ranges");
	return UNDERSTOOD;
}

static int check_overlaps(const struct host_local_conf *conf, struct cni_error *error)
{
	for (size_t i = 0; i < conf->n_sets * HOST_LOCAL_RANGES_MAX; i++) {
		const struct host_local_set *a = &conf->set[i / HOST_LOCAL_RANGES_MAX];
		size_t ra = i % HOST_LOCAL_RANGES_MAX;

		for (size_t j = i + 1; ra < a->n && j < conf->n_sets * HOST_LOCAL_RANGES_MAX; j++) {
			const struct host_local_set *b = &conf->set[j / HOST_LOCAL_RANGES_MAX];
			size_t rb = j % HOST_LOCAL_RANGES_MAX;

			if (rb < b->n && overlap(&a->range[ra], &b->range[rb]))
				return overlapping(&a->range[ra], &b->range[rb], error);
		}
	}
	return 0;
}

/* An answer before 0.3.0 has room for one address of a family. */
static int check_families(const struct host_local_conf *conf, const char *version,
			  struct cni_error *error)
{
	size_t n[IP_FAMILY_COUNT] = {0};
	char *dot;

	if (strtoul(version, &dot, 10) > 0 || (*dot == '.' && strtoul(dot + 1, NULL, 10) >= 3))
		return 0;
	for (size_t i = 0; i < conf->n_sets; i++)
		if (++n[conf->set[i].range[0].subnet.ip.family] > 1)
			return cni_fail(error, CNI_CONFIG_INVALID,
					"ipam: CNI version \"%s\" has room for one address of a "
					"family: ranges wants more",
					version);
	return 0;
}

/* ---- the rest ---- */

static int read_routes(const json_t *ipam, struct host_local_conf *conf, const char **ret_why,
		       struct cni_error *error)
{
	static const char *const known[] = {"dst", "gw", NULL};
	const json_t *routes = json_member(ipam, "routes");

	if (routes && !json_is_array(routes))
		return cni_fail(error, CNI_CONFIG_INVALID, "ipam: routes is not a list");
	if (json_array_size(routes) > HOST_LOCAL_ROUTES_MAX)
		return not_ours(ret_why, "so many ipam.routes");
	for (size_t i = 0; i < json_array_size(routes); i++) {
		const json_t *obj = json_array_get(routes, i);
		struct cni_route *route = &conf->route[conf->n_routes++];

		if (!json_is_object(obj))
			return cni_fail(error, CNI_CONFIG_INVALID,
					"ipam: a route is not an object");
		if (!knows_all(obj, known))
			return not_ours(ret_why, "an unknown member of ipam.routes");
		if (read_net(obj, "dst", &route->dst, error) ||
		    read_ip(obj, "gw", &route->gateway, error))
			return WRONG;
		if (!ip_net_is_set(&route->dst))
			return cni_fail(error, CNI_CONFIG_INVALID, "ipam: a route has no dst");
	}
	return UNDERSTOOD;
}

/* Anything but an empty list, which is as good as none. */
static bool wants(const json_t *obj, const char *key)
{
	const json_t *value = json_member(obj, key);

	return value && (!json_is_array(value) || json_array_size(value));
}

/* The name becomes a part of a path. */
static int read_names(const json_t *delegate, const json_t *ipam, struct host_local_conf *conf,
		      struct cni_error *error)
{
	struct err err;

	conf->dir = conf->network = "";
	if (json_member_string(delegate, "name", &conf->network, &err) ||
	    json_member_string(ipam, "dataDir", &conf->dir, &err))
		return cni_fail(error, CNI_CONFIG_INVALID, "%s", err.text);
	if (!*conf->network || *conf->network == '.' || strchr(conf->network, '/'))
		return cni_fail(error, CNI_CONFIG_INVALID, "\"%s\" is no name for a network",
				conf->network);
	if (!*conf->dir)
		conf->dir = HOST_LOCAL_DIR;
	return UNDERSTOOD;
}

static int find_foreign(const json_t *delegate, const json_t *ipam, const char **ret_why,
			struct cni_error *error)
{
	static const char *const known[] = {"name",    "type",       "routes",     "dataDir",
					    "ranges",  "resolvConf", "rangeStart", "rangeEnd",
					    "gateway", "subnet",     NULL};
	const char *resolv_conf = "";
	struct err err;

	if (wants(json_member(delegate, "runtimeConfig"), "ips"))
		return not_ours(ret_why, "runtimeConfig.ips");
	if (wants(json_member(delegate, "runtimeConfig"), "ipRanges"))
		return not_ours(ret_why, "runtimeConfig.ipRanges");
	if (wants(json_member(json_member(delegate, "args"), "cni"), "ips"))
		return not_ours(ret_why, "args.cni.ips");
	if (json_member_string(ipam, "resolvConf", &resolv_conf, &err))
		return cni_fail(error, CNI_CONFIG_INVALID, "ipam: %s", err.text);
	if (*resolv_conf)
		return not_ours(ret_why, "ipam.resolvConf");
	if (!knows_all(ipam, known))
		return not_ours(ret_why, "an unknown member of ipam");
	return UNDERSTOOD;
}

int host_local_conf_parse(const json_t *delegate, struct host_local_conf *ret_conf,
			  const char **ret_why, struct cni_error *error)
{
	const json_t *ipam = json_member(delegate, "ipam");
	_cleanup_free_ struct host_local_conf *conf = mem_alloc(1, sizeof(*conf));
	const char *version = "";
	struct err err;
	int r;

	if (!json_is_object(ipam))
		return cni_fail(error, CNI_CONFIG_INVALID, "the config has no ipam");
	if (json_member_string(delegate, "cniVersion", &version, &err))
		return cni_fail(error, CNI_CONFIG_INVALID, "%s", err.text);
	r = find_foreign(delegate, ipam, ret_why, error);
	if (r == UNDERSTOOD)
		r = read_names(delegate, ipam, conf, error);
	if (r == UNDERSTOOD)
		r = read_sets(ipam, conf, ret_why, error);
	if (r == UNDERSTOOD)
		r = read_routes(ipam, conf, ret_why, error);
	if (r != UNDERSTOOD)
		return r;
	if (check_families(conf, version, error) || check_overlaps(conf, error))
		return WRONG;
	*ret_conf = *conf;
	return UNDERSTOOD;
}
