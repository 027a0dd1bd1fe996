/* SPDX-License-Identifier: Apache-2.0 */
/* result.c - what ADD answers, in each version of the specification
 *
 * A result is taken apart into lists that every version can be made of (addresses without
 * a "version", all routes), and put together again. Between versions of one shape only the
 * version changes. What a shape has no place for is lost, as in libcni: interfaces and
 * further addresses in 0.2.0, an interface's MTU before 1.0.0.
 */
#include "cni/result.h"

#include "base/mem.h"
#include "cni/conf.h"

#include <string.h>
#include <strings.h>

#define BRIEF_MAX 80

enum shape {
	SHAPE_IP4_IP6,      /* 0.1.0, 0.2.0 */
	SHAPE_IPS_VERSIONS, /* 0.3.0 to 0.4.0 */
	SHAPE_IPS,          /* from 1.0.0 */
};

static const struct {
	const char *member; /* of a result in 0.2.0 */
	const char *version;
} families[IP_FAMILY_COUNT] = {
	[IP_V4] = {"ip4", "4"},
	[IP_V6] = {"ip6", "6"},
};

/* What a result says; all owned. */
struct parts {
	json_t *interfaces, *ips, *routes, *dns; /* NULL when absent; ips, routes: arrays */
};

static void parts_done(struct parts *parts)
{
	json_decref(parts->interfaces);
	json_decref(parts->ips);
	json_decref(parts->routes);
	json_decref(parts->dns);
}

static enum shape shape_of(const char *version)
{
	if (cni_version_at_least(version, "1.0.0"))
		return SHAPE_IPS;
	return cni_version_at_least(version, "0.3.0") ? SHAPE_IPS_VERSIONS : SHAPE_IP4_IP6;
}

/* ---- made by ourselves ---- */

static json_t *new_interface(const struct cni_interface *interface)
{
	json_t *json = json_pack("{s:s}", "name", interface->name);
	char mac[MAC_STRLEN];

	if (!mac_is_zero(&interface->mac))
		(void)json_object_set_new(json, "mac",
					  json_string(mac_format(&interface->mac, mac)));
	if (interface->sandbox)
		(void)json_object_set_new(json, "sandbox", json_string(interface->sandbox));
	return json;
}

static void set_net(json_t *json, const char *key, const struct ip_net *net)
{
	char text[IP_NET_STRLEN];

	(void)json_object_set_new(json, key, json_string(ip_net_format(net, text)));
}

static void set_gateway(json_t *json, const char *key, const struct ip *gateway)
{
	char text[IP_STRLEN];

	if (ip_is_set(gateway))
		(void)json_object_set_new(json, key, json_string(ip_format(gateway, text)));
}

json_t *cni_result_new(const struct cni_interface *interfaces, size_t n_interfaces,
		       const struct cni_address *addresses, size_t n_addresses,
		       const struct cni_route *routes, size_t n_routes, json_t *dns)
{
	json_t *result = json_pack("{s:s, s:[], s:[]}", "cniVersion", "1.1.0", "interfaces", "ips");
	json_t *list = json_object_get(result, "interfaces");

	for (size_t i = 0; i < n_interfaces; i++)
		(void)json_array_append_new(list, new_interface(&interfaces[i]));
	list = json_object_get(result, "ips");
	for (size_t i = 0; i < n_addresses; i++) {
		json_t *ip = json_object();

		if (n_interfaces)
			(void)json_object_set_new(ip, "interface",
						  json_integer((json_int_t)n_interfaces - 1));
		set_net(ip, "address", &addresses[i].net);
		set_gateway(ip, "gateway", &addresses[i].gateway);
		(void)json_array_append_new(list, ip);
	}
	list = json_array();
	for (size_t i = 0; i < n_routes; i++) {
		json_t *route = json_object();

		set_net(route, "dst", &routes[i].dst);
		set_gateway(route, "gw", &routes[i].gateway);
		(void)json_array_append_new(list, route);
	}
	if (n_routes)
		(void)json_object_set(result, "routes", list);
	json_decref(list);
	if (json_object_size(dns))
		(void)json_object_set(result, "dns", dns);
	return result;
}

/* ---- taken apart ---- */

static int wrong(struct cni_error *error, const char *key, const json_t *value, const char *right)
{
	char brief[BRIEF_MAX];

	return cni_fail(error, CNI_DECODING_FAILURE, "result: %s: %s %s", key,
			json_brief(value, brief, sizeof(brief)), right);
}

/* The optional member @key as a list of objects; a copy of the caller's, empty when absent. */
static int get_list(const json_t *object, const char *key, json_t **ret_list,
		    struct cni_error *error)
{
	const json_t *list = json_member(object, key), *entry;
	size_t i;

	if (list && !json_is_array(list))
		return wrong(error, key, list, "is not an array");
	json_array_foreach (list, i, entry)
		if (!json_is_object(entry))
			return wrong(error, key, entry, "is not an object");
	*ret_list = list ? json_deep_copy(list) : json_array();
	return 0;
}

/* The family of the prefix at @key; IP_NONE when there is none. */
static enum ip_family family_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_member(object, key));
	struct ip_net net = {0};

	return text && !ip_net_parse(text, &net) ? net.ip.family : IP_NONE;
}

static int check_prefixes(const json_t *list, const char *what, const char *key,
			  struct cni_error *error)
{
	const json_t *entry;
	size_t i;

	json_array_foreach (list, i, entry)
		if (family_of(entry, key) == IP_NONE)
			return wrong(error, what, entry, "has no address with a prefix length");
	return 0;
}

static void copy_member(json_t *to, const char *to_key, const json_t *from, const char *key)
{
	json_t *value = json_member(from, key);

	if (value)
		(void)json_object_set_new(to, to_key, json_deep_copy(value));
}

static int take_ip4_ip6(const json_t *result, struct parts *parts, struct cni_error *error)
{
	parts->ips = json_array();
	parts->routes = json_array();
	IP_FOREACH_FAMILY (f) {
		const char *key = families[f].member;
		const json_t *from = json_member(result, key);
		json_t *routes = NULL, *ip;

		if (!from)
			continue;
		if (family_of(from, "ip") != f)
			return wrong(error, key, from, "has no address of its family");
		if (get_list(from, "routes", &routes, error))
			return -1;
		(void)json_array_extend(parts->routes, routes);
		json_decref(routes);
		ip = json_object();
		copy_member(ip, "address", from, "ip");
		copy_member(ip, "gateway", from, "gateway");
		(void)json_array_append_new(parts->ips, ip);
	}
	return 0;
}

/* Takes the member @key in whatever case it was written. */
static void remove_member(json_t *object, const char *key)
{
	void *next;

	for (void *i = json_object_iter(object); i; i = next) {
		const char *name = json_object_iter_key(i);

		next = json_object_iter_next(object, i);
		if (!strcasecmp(name, key))
			(void)json_object_del(object, name);
	}
}

static int take_ips(const json_t *result, struct parts *parts, struct cni_error *error)
{
	json_t *ip;
	size_t i;

	if (get_list(result, "interfaces", &parts->interfaces, error) ||
	    get_list(result, "ips", &parts->ips, error) ||
	    get_list(result, "routes", &parts->routes, error))
		return -1;
	json_array_foreach (parts->ips, i, ip)
		remove_member(ip, "version");
	return check_prefixes(parts->ips, "ips", "address", error);
}

static int take_apart(const json_t *result, enum shape shape, struct parts *parts,
		      struct cni_error *error)
{
	const json_t *dns = json_member(result, "dns");
	int r = shape == SHAPE_IP4_IP6 ? take_ip4_ip6(result, parts, error)
				       : take_ips(result, parts, error);

	if (r || check_prefixes(parts->routes, "routes", "dst", error))
		return -1;
	if (dns && !json_is_object(dns))
		return wrong(error, "dns", dns, "is not an object");
	parts->dns = dns ? json_deep_copy(dns) : NULL;
	return 0;
}

/* ---- put together ---- */

static void set_list(json_t *result, const char *key, json_t *list)
{
	if (json_array_size(list))
		(void)json_object_set(result, key, list);
}

static void put_ips(json_t *result, const struct parts *parts, enum shape shape)
{
	static const char *const newer[] = {"mtu", "socketPath", "pciID"};
	json_t *entry;
	size_t i;

	if (shape == SHAPE_IPS_VERSIONS) {
		json_array_foreach (parts->ips, i, entry)
			(void)json_object_set_new(
				entry, "version",
				json_string(families[family_of(entry, "address")].version));
		json_array_foreach (parts->interfaces, i, entry)
			for (size_t k = 0; k < ARRAY_SIZE(newer); k++)
				remove_member(entry, newer[k]);
	}
	set_list(result, "interfaces", parts->interfaces);
	set_list(result, "ips", parts->ips);
	set_list(result, "routes", parts->routes);
}

static void put_family(json_t *result, const struct parts *parts, enum ip_family f)
{
	const json_t *entry, *ip = NULL;
	json_t *to, *routes;
	size_t i;

	json_array_foreach (parts->ips, i, entry)
		if (!ip && family_of(entry, "address") == f)
			ip = entry;
	if (!ip)
		return;
	to = json_object();
	routes = json_array();
	copy_member(to, "ip", ip, "address");
	copy_member(to, "gateway", ip, "gateway");
	json_array_foreach (parts->routes, i, entry) {
		json_t *route;

		if (family_of(entry, "dst") != f)
			continue;
		route = json_object();
		copy_member(route, "dst", entry, "dst");
		copy_member(route, "gw", entry, "gw");
		(void)json_array_append_new(routes, route);
	}
	set_list(to, "routes", routes);
	json_decref(routes);
	(void)json_object_set_new(result, families[f].member, to);
}

static int put_together(json_t *result, const struct parts *parts, enum shape shape,
			struct cni_error *error)
{
	if (shape != SHAPE_IP4_IP6) {
		put_ips(result, parts, shape);
		return 0;
	}
	IP_FOREACH_FAMILY (f)
		put_family(result, parts, f);
	if (!json_object_get(result, "ip4") && !json_object_get(result, "ip6"))
		return cni_fail(error, CNI_VERSION_UNSUPPORTED,
				"result: it has no address, which versions before 0.3.0 need");
	return 0;
}

/* Go writes an empty "dns" in the older versions, none in the newer ones. */
static void put_dns(json_t *result, json_t *dns, enum shape shape)
{
	if (json_object_size(dns))
		(void)json_object_set(result, "dns", dns);
	else if (shape != SHAPE_IPS)
		(void)json_object_set_new(result, "dns", json_object());
}

int cni_result_convert(const json_t *result, const char *version, json_t **ret_result,
		       struct cni_error *error)
{
	static const char *const known[] = {"cniVersion", "interfaces", "ips", "ip4",
					    "ip6",        "routes",     "dns"};
	__attribute__((cleanup(parts_done))) struct parts parts = {0};
	_cleanup_json_ json_t *to = json_deep_copy(result);
	const char *from = NULL;
	struct err err;

	if (json_member_string(result, "cniVersion", &from, &err))
		return cni_fail(error, CNI_DECODING_FAILURE, "result: %s", err.text);
	if (!from || !*from)
		from = "0.1.0";
	if (!cni_version_is_known(from) || !cni_version_is_known(version))
		return cni_fail(error, CNI_VERSION_UNSUPPORTED,
				"result: cniVersion \"%.40s\" cannot be made \"%.40s\"", from,
				version);
	if (take_apart(result, shape_of(from), &parts, error))
		return -1;
	if (shape_of(from) != shape_of(version)) {
		for (size_t i = 0; i < ARRAY_SIZE(known); i++)
			remove_member(to, known[i]);
		if (put_together(to, &parts, shape_of(version), error))
			return -1;
	}
	remove_member(to, "cniVersion");
	remove_member(to, "dns");
	put_dns(to, parts.dns, shape_of(version));
	(void)json_object_set_new(to, "cniVersion", json_string(version));
	*ret_result = TAKE_PTR(to);
	return 0;
}

static json_t *first_gateway(const json_t *result, enum ip_family family)
{
	const json_t *ips = json_member(result, "ips"), *ip;
	size_t i;

	json_array_foreach (ips, i, ip)
		if (family_of(ip, "address") == family)
			return json_member(ip, "gateway");
	return NULL;
}

void cni_result_name_gateways(json_t *result)
{
	const json_t *routes = json_member(result, "routes");
	json_t *route;
	size_t i;

	json_array_foreach (routes, i, route) {
		json_t *gateway = first_gateway(result, family_of(route, "dst"));

		if (gateway && !json_member(route, "gw"))
			(void)json_object_set_new(route, "gw", json_deep_copy(gateway));
	}
}
