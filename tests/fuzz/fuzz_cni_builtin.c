/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_cni_builtin.c - CNI_ARGS in the first line, then a delegate's config: is it ours? */
#include "cni/bridge_internal.h"
#include "cni/builtin.h"

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first address of each set: gateways and default routes are of their families. */
static void try_plan(const struct builtin *builtin)
{
	const struct host_local_conf *ipam = &builtin->ipam;
	struct cni_address address[HOST_LOCAL_SETS_MAX] = {0};
	struct cni_route route[HOST_LOCAL_ROUTES_MAX + BRIDGE_ROUTES_MORE];
	size_t n_routes = ipam->n_routes;

	memcpy(route, ipam->route, n_routes * sizeof(*route));
	for (size_t i = 0; i < ipam->n_sets; i++) {
		const struct host_local_range *range = &ipam->set[i].range[0];

		address[i].net = (struct ip_net){.ip = range->start, .len = range->subnet.len};
		address[i].gateway = range->gateway;
	}
	bridge_plan(&builtin->bridge, address, ipam->n_sets, route, &n_routes);
	assert(n_routes >= ipam->n_routes && n_routes <= ipam->n_routes + BRIDGE_ROUTES_MORE);
	assert(!memcmp(route, ipam->route, ipam->n_routes * sizeof(*route)));
	for (size_t i = ipam->n_routes; i < n_routes; i++)
		assert(builtin->bridge.is_default_gateway && !route[i].dst.len &&
		       route[i].gateway.family == route[i].dst.ip.family);
	for (size_t i = 0; i < ipam->n_sets; i++)
		assert(address[i].gateway.family == address[i].net.ip.family ||
		       !builtin->bridge.is_gateway);
}

static void try_config(const json_t *json, const char *args)
{
	const struct cni_request request = {.args = args};
	struct cni_error error = {0};
	struct builtin builtin;
	const char *why = NULL;
	int code = builtin_parse(json, &request, &builtin, &why, &error);

	assert(code >= -1 && code <= 1);
	if (code < 0)
		assert(error.code && *error.msg);
	if (!code)
		assert(why && *why);
	if (code != 1)
		return;
	assert(cni_ifname_is_sound(builtin.bridge.bridge));
	assert(!builtin.bridge.hairpin || !builtin.bridge.promisc);
	assert(builtin.bridge.is_gateway || !builtin.bridge.is_default_gateway);
	assert(builtin.bridge.mtu <= INT32_MAX && builtin.ipam.n_sets);
	assert(!strstr(args, "IP=") || strstr(args, "K8S_POD_"));
	try_plan(&builtin);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = size ? memchr(data, '\n', size) : NULL;
	size_t len = end ? (size_t)(end - data) : 0;
	_cleanup_json_ json_t *json = NULL;
	char args[256];

	if (!end || len >= sizeof(args))
		return 0;
	memcpy(args, data, len);
	args[len] = '\0';
	if (!json_parse_object((const char *)end + 1, size - len - 1, "config", &json, NULL))
		try_config(json, args);
	return 0;
}
