/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_cni_conf.c - a network config on the plugin's stdin, and a result in it
 *
 * A config that is taken makes a delegate's config with our name, our ranges and all routes,
 * which reads again as the same JSON. A result that is taken in one version can be made any
 * other one that has a place for it, and what has come so far comes back unchanged.
 */
#include "base/mem.h"
#include "cni/conf.h"
#include "cni/request.h"
#include "cni/result.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char subnet_env[] = "FLANNEL_NETWORK=10.244.0.0/16,10.99.0.0/16\n"
				 "FLANNEL_SUBNET=10.244.1.1/24\n"
				 "FLANNEL_IPV6_NETWORK=fd00::/48\n"
				 "FLANNEL_IPV6_SUBNET=fd00:0:0:1::1/64\n"
				 "FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";

static const char *string_of(const json_t *json, const char *key)
{
	const char *text = json_string_value(json_object_get(json, key));

	assert(text);
	return text;
}

static void check_delegate(const struct cni_conf *conf, const json_t *delegate)
{
	const json_t *ipam = json_object_get(delegate, "ipam");
	const json_t *given = json_object_get(conf->ipam, "routes");
	_cleanup_free_ char *text = json_dumps(delegate, JSON_COMPACT);
	_cleanup_json_ json_t *again = NULL;

	assert(!strcmp(string_of(delegate, "name"), conf->name));
	assert(*string_of(delegate, "type") && !strchr(string_of(delegate, "type"), '/'));
	assert(json_object_get(delegate, "mtu") && json_object_get(delegate, "ipMasq"));
	assert(json_array_size(json_object_get(ipam, "ranges")) == 2);
	assert(json_array_size(json_object_get(ipam, "routes")) == 3 + json_array_size(given));
	assert(json_object_get(ipam, "type"));
	assert(text);
	assert(!json_parse_object(text, strlen(text), "it", &again, NULL));
	assert(json_equal(again, delegate));
}

static void check_conf(const struct cni_conf *conf)
{
	_cleanup_json_ json_t *delegate = NULL;
	struct cni_error error = {0};
	struct subnet_file subnet;

	assert(cni_name_is_sound(conf->name) && cni_version_is_known(conf->cni_version));
	assert(*conf->subnet_file && *conf->data_dir);
	assert(!subnet_file_parse(subnet_env, &subnet, NULL));
	if (!cni_conf_make_delegate(conf, &subnet, &delegate, &error))
		check_delegate(conf, delegate);
	else
		assert(error.code && *error.msg && !delegate);
}

/* @there and back again: a result of a new shape loses nothing by way of another new one. */
static void check_back(const json_t *there, const char *version, const char *by_way_of)
{
	_cleanup_json_ json_t *way = NULL, *back = NULL;
	struct cni_error error = {0};

	/* Only the old shape is refused: it needs an address. */
	if (cni_result_convert(there, by_way_of, &way, &error)) {
		assert(!cni_version_at_least(by_way_of, "0.3.0") && *error.msg);
		return;
	}
	assert(!strcmp(string_of(way, "cniVersion"), by_way_of));
	if (cni_result_convert(way, version, &back, &error)) {
		assert(!cni_version_at_least(version, "0.3.0") && *error.msg);
		return;
	}
	if (cni_version_at_least(by_way_of, "1.0.0") && cni_version_at_least(version, "1.0.0"))
		assert(json_equal(there, back));
}

static void check_result(const json_t *result)
{
	for (size_t i = 0; i < cni_versions_count; i++) {
		_cleanup_json_ json_t *there = NULL;
		struct cni_error error = {0};

		if (cni_result_convert(result, cni_versions[i], &there, &error)) {
			assert(error.code && *error.msg && !there);
			continue;
		}
		for (size_t k = 0; k < cni_versions_count; k++)
			check_back(there, cni_versions[i], cni_versions[k]);
		cni_result_name_gateways(there);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_cni_conf_ struct cni_conf conf = {0};
	_cleanup_json_ json_t *json = NULL;
	struct cni_error error = {0};

	if (!cni_conf_parse((const char *)data, size, &conf, &error))
		check_conf(&conf);
	else
		assert(error.code && *error.msg);
	/* The whole as a result, and the one inside. */
	if (!json_parse_object((const char *)data, size, "it", &json, NULL))
		check_result(json);
	if (conf.prev_result)
		check_result(conf.prev_result);
	return 0;
}
