/* SPDX-License-Identifier: Apache-2.0 */
/* builtin.c - the plugins bridge and host-local in this process: the fast path
 *
 * The address comes first, the pair second: what the plugin does in the other order, so that
 * a node without free addresses does no work for a pod that cannot be. What a failed ADD has
 * taken is given back in reverse.
 */
#include "cni/builtin.h"

#include "base/mem.h"

/* The plugins know CNI_ARGS of their own (IP, GATEWAY, MAC) and refuse all others but with
 * IgnoreUnknown: whatever is more than a runtime's usual "IgnoreUnknown=1;K8S_POD_..." is
 * theirs to judge. */
static bool args_are_nothing(const char *args)
{
	bool ignore_unknown = !*args;

	while (*args) {
		size_t len = strcspn(args, ";");

		if ((len == 15 && !strncmp(args, "IgnoreUnknown=1", len)) ||
		    (len == 18 && !strncmp(args, "IgnoreUnknown=true", len)))
			ignore_unknown = true;
		else if (strncmp(args, "K8S_POD_", 8) || !memchr(args, '=', len))
			return false;
		args += len;
		args += *args == ';';
	}
	return ignore_unknown;
}

static bool is_list_of_strings(const json_t *value)
{
	const json_t *item;
	size_t i;

	json_array_foreach (value, i, item)
		if (!json_is_string(item))
			return false;
	return json_array_size(value);
}

/* What the plugin would answer with as it is: it leaves out what is empty or unknown. */
static bool dns_is_plain(const json_t *dns)
{
	const json_t *value;
	const char *key;

	if (dns && !json_is_object(dns))
		return false;
	json_object_foreach ((json_t *)(uintptr_t)dns, key, value) {
		if (!strcmp(key, "domain")) {
			if (!json_string_length(value))
				return false;
		} else if ((strcmp(key, "nameservers") && strcmp(key, "search") &&
			    strcmp(key, "options")) ||
			   !is_list_of_strings(value))
			return false;
	}
	return true;
}

/* The plugin makes something of a gateway of the other family; nobody wants to know what. */
static bool gateways_are_plain(const struct host_local_conf *ipam)
{
	for (size_t i = 0; i < ipam->n_sets; i++)
		for (size_t j = 0; j < ipam->set[i].n; j++) {
			const struct host_local_range *range = &ipam->set[i].range[j];

			if (ip_is_set(&range->gateway) &&
			    range->gateway.family != range->subnet.ip.family)
				return false;
		}
	return ipam->n_sets;
}

static bool is_type(const json_t *object, const char *type)
{
	const char *text = json_string_value(json_member(object, "type"));

	return text && !strcmp(text, type);
}

int builtin_parse(const json_t *delegate, const struct cni_request *request,
		  struct builtin *ret_builtin, const char **ret_why, struct cni_error *error)
{
	struct builtin builtin = {.dns = json_member(delegate, "dns")};
	const char *why = NULL;
	int code;

	if (!is_type(delegate, "bridge"))
		why = "delegate.type";
	else if (!is_type(json_member(delegate, "ipam"), "host-local"))
		why = "ipam.type";
	else if (!args_are_nothing(request->args))
		why = "CNI_ARGS";
	else if (!dns_is_plain(builtin.dns))
		why = "delegate.dns";
	*ret_why = why;
	if (why)
		return 0;
	code = bridge_conf_parse(delegate, &builtin.bridge, ret_why, error);
	if (code == 1)
		code = host_local_conf_parse(delegate, &builtin.ipam, ret_why, error);
	if (code == 1 && !gateways_are_plain(&builtin.ipam)) {
		*ret_why = "ipam.ranges";
		return 0;
	}
	if (code == 1)
		*ret_builtin = builtin;
	return code;
}

static size_t copy_routes(const struct host_local_conf *ipam, struct cni_route *to)
{
	memcpy(to, ipam->route, ipam->n_routes * sizeof(*to));
	return ipam->n_routes;
}

int builtin_add(struct builtin *builtin, const struct cni_request *request, json_t **ret_result,
		struct cni_error *error)
{
	const struct host_local_conf *ipam = &builtin->ipam;
	struct cni_address address[HOST_LOCAL_SETS_MAX] = {0};
	struct cni_route route[HOST_LOCAL_ROUTES_MAX + BRIDGE_ROUTES_MORE];
	struct cni_interface interface[BRIDGE_INTERFACES];
	size_t n_routes = copy_routes(ipam, route);
	struct cni_error ignored;

	if (host_local_add(ipam, request->container_id, request->ifname, address, error))
		return -1;
	if (bridge_add(&builtin->bridge, request, address, ipam->n_sets, route, &n_routes,
		       interface, error)) {
		(void)host_local_del(ipam, request->container_id, request->ifname, &ignored);
		return -1;
	}
	*ret_result = cni_result_new(interface, BRIDGE_INTERFACES, address, ipam->n_sets, route,
				     n_routes, builtin->dns);
	return 0;
}

/* An address may go to the next pod only when this one has lost its interface. */
int builtin_del(const struct builtin *builtin, const struct cni_request *request,
		struct cni_error *error)
{
	if (bridge_del(request, error))
		return -1;
	return host_local_del(&builtin->ipam, request->container_id, request->ifname, error);
}

int builtin_check(const struct builtin *builtin, const struct cni_request *request,
		  const json_t *prev_result, struct cni_error *error)
{
	if (!prev_result)
		return cni_fail(error, CNI_CONFIG_INVALID, "CHECK needs prevResult, ADD's answer");
	if (host_local_check(&builtin->ipam, request->container_id, request->ifname, error))
		return -1;
	return bridge_check(&builtin->bridge, request, prev_result, error);
}

/* What the bridge had of a pod went with the pod's netns. */
int builtin_gc(const struct builtin *builtin, const json_t *valid, struct cni_error *error)
{
	return host_local_gc(&builtin->ipam, valid, error);
}
