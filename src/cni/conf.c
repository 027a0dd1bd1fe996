/* SPDX-License-Identifier: Apache-2.0 */
/* conf.c - the plugin's network config, and the delegate's config made of it */
#include "cni/conf.h"

#include "base/mem.h"
#include "cni/request.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define KEY_VALID "cni.dev/valid-attachments"
#define BRIEF_MAX 80

const char *const cni_versions[] = {
	"0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
};
const size_t cni_versions_count = ARRAY_SIZE(cni_versions);

/* Its place in the table; cni_versions_count when it is none of them. */
static size_t version_index(const char *version)
{
	size_t i = 0;

	while (i < cni_versions_count && strcmp(version, cni_versions[i]) != 0)
		i++;
	return i;
}

bool cni_version_is_known(const char *version)
{
	return version_index(version) < cni_versions_count;
}

bool cni_version_at_least(const char *version, const char *other)
{
	size_t i = version_index(version);

	return i < cni_versions_count && i >= version_index(other);
}

/* ---- our own config ---- */

static int check_version(const char *version, struct cni_error *error)
{
	size_t n = 0;

	if (cni_version_is_known(version))
		return 0;
	(void)cni_fail(error, CNI_VERSION_UNSUPPORTED, "cniVersion: \"%.40s\" is not supported",
		       version);
	for (size_t i = 0; i < cni_versions_count; i++)
		n += (size_t)snprintf(error->details + n, sizeof(error->details) - n, "%s%s",
				      i ? ", " : "supported: ", cni_versions[i]);
	return -1;
}

static int get_string(const json_t *json, const char *key, const char **value,
		      struct cni_error *error)
{
	struct err err;

	if (json_member_string(json, key, value, &err))
		return cni_fail(error, CNI_CONFIG_INVALID, "%s", err.text);
	return 0;
}

static int get_path(const json_t *json, const char *key, const char *normal, const char **value,
		    struct cni_error *error)
{
	*value = normal;
	if (get_string(json, key, value, error))
		return -1;
	if (!**value)
		return cni_fail(error, CNI_CONFIG_INVALID, "%s: \"\" is not a path", key);
	return 0;
}

static int get_object(const json_t *json, const char *key, json_t **value, struct cni_error *error)
{
	char brief[BRIEF_MAX];

	*value = json_member(json, key);
	if (*value && !json_is_object(*value))
		return cni_fail(error, CNI_CONFIG_INVALID, "%s: %s is not an object", key,
				json_brief(*value, brief, sizeof(brief)));
	return 0;
}

/* What is not understood here must not be taken for a list of fewer attachments. */
static int get_valid_attachments(json_t *json, json_t **value, struct cni_error *error)
{
	char brief[BRIEF_MAX];
	json_t *entry;
	size_t i;

	/* libcni writes null for the empty list. */
	if (json_is_null(json_object_get(json, KEY_VALID)))
		(void)json_object_set_new(json, KEY_VALID, json_array());
	*value = json_member(json, KEY_VALID);
	if (*value && !json_is_array(*value))
		return cni_fail(error, CNI_CONFIG_INVALID, KEY_VALID ": %s is not an array",
				json_brief(*value, brief, sizeof(brief)));
	json_array_foreach (*value, i, entry)
		if (!json_is_string(json_member(entry, "containerID")) ||
		    !json_is_string(json_member(entry, "ifname")))
			return cni_fail(error, CNI_CONFIG_INVALID,
					KEY_VALID ": %s lacks containerID or ifname",
					json_brief(entry, brief, sizeof(brief)));
	return 0;
}

static int get_name(const json_t *json, const char **value, struct cni_error *error)
{
	*value = "";
	if (get_string(json, "name", value, error))
		return -1;
	if (!**value)
		return cni_fail(error, CNI_CONFIG_INVALID, "name: missing; the network needs one");
	if (!cni_name_is_sound(*value))
		return cni_fail(error, CNI_CONFIG_INVALID,
				"name: \"%.80s\" is not a letter or digit, then letters, digits, "
				"\"_\", \".\", \"-\"",
				*value);
	return 0;
}

static int get_version(const json_t *json, const char **value, struct cni_error *error)
{
	*value = "";
	if (get_string(json, "cniVersion", value, error))
		return -1;
	if (!**value)
		*value = "0.1.0";
	return check_version(*value, error);
}

int cni_conf_parse(const char *text, size_t len, struct cni_conf *ret_conf, struct cni_error *error)
{
	_cleanup_cni_conf_ struct cni_conf conf = {.builtin = true};
	struct err err;

	if (json_parse_object(text, len, "the network config", &conf.json, &err))
		return cni_fail(error, CNI_DECODING_FAILURE, "%s", err.text);
	if (get_version(conf.json, &conf.cni_version, error) ||
	    get_name(conf.json, &conf.name, error) ||
	    get_path(conf.json, "subnetFile", CNI_SUBNET_FILE, &conf.subnet_file, error) ||
	    get_path(conf.json, "dataDir", CNI_DATA_DIR, &conf.data_dir, error) ||
	    get_object(conf.json, "delegate", &conf.delegate, error) ||
	    get_object(conf.json, "ipam", &conf.ipam, error) ||
	    get_object(conf.json, "runtimeConfig", &conf.runtime_config, error) ||
	    get_object(conf.json, "prevResult", &conf.prev_result, error) ||
	    get_valid_attachments(conf.json, &conf.valid_attachments, error))
		return -1;
	if (json_member_bool(conf.json, "builtin", &conf.builtin, &err))
		return cni_fail(error, CNI_CONFIG_INVALID, "%s", err.text);
	*ret_conf = conf;
	conf.json = NULL;
	return 0;
}

void cni_conf_done(struct cni_conf *conf)
{
	json_decref(conf->json);
	*conf = (struct cni_conf){0};
}

/* ---- the delegate's config ---- */

/* Keys of "delegate" and "ipam" are looked at as they are written: they are the delegate's,
 * and the original, too, looks for these spellings only. */
static void set_default(json_t *object, const char *key, json_t *value)
{
	if (json_object_get(object, key))
		json_decref(value);
	else
		(void)json_object_set_new(object, key, value);
}

/* "Name" would be a second name to the plugin that reads it: refused like "name". */
static int check_is_ours_to_set(json_t *delegate, const char *key, struct cni_error *error)
{
	for (void *i = json_object_iter(delegate); i; i = json_object_iter_next(delegate, i)) {
		char brief[BRIEF_MAX];

		if (!strcasecmp(json_object_iter_key(i), key))
			return cni_fail(
				error, CNI_CONFIG_INVALID, "delegate.%s: %s must not be there: %s",
				json_object_iter_key(i),
				json_brief(json_object_iter_value(i), brief, sizeof(brief)),
				!strcmp(key, "name")
					? "the delegate has the name of the network"
					: "\"ipam\" belongs beside \"delegate\", not in it");
	}
	return 0;
}

static int check_delegate(json_t *delegate, struct cni_error *error)
{
	const json_t *type = json_object_get(delegate, "type");
	char brief[BRIEF_MAX];

	if (check_is_ours_to_set(delegate, "name", error) ||
	    check_is_ours_to_set(delegate, "ipam", error))
		return -1;
	if (!type)
		return 0;
	if (json_is_string(type) && !strcmp(json_string_value(type), "flannel"))
		return cni_fail(error, CNI_CONFIG_INVALID,
				"delegate.type: \"flannel\" cannot be its own delegate");
	if (!json_is_string(type) || !cni_type_is_sound(json_string_value(type)))
		return cni_fail(error, CNI_CONFIG_INVALID,
				"delegate.type: %s is not the name of a plugin",
				json_brief(type, brief, sizeof(brief)));
	return 0;
}

static int check_routes(const json_t *routes, struct cni_error *error)
{
	char brief[BRIEF_MAX];
	const json_t *route;
	struct ip_net net;
	size_t i;

	if (routes && !json_is_array(routes))
		return cni_fail(error, CNI_CONFIG_INVALID, "ipam.routes: %s is not an array",
				json_brief(routes, brief, sizeof(brief)));
	json_array_foreach (routes, i, route) {
		const char *dst = json_string_value(json_member(route, "dst"));

		if (!dst || ip_net_parse(dst, &net))
			return cni_fail(error, CNI_CONFIG_INVALID,
					"ipam.routes: %s has no \"dst\" of the form \"10.0.0.0/8\"",
					json_brief(route, brief, sizeof(brief)));
	}
	return 0;
}

static json_t *net_object(const char *key, const struct ip_net *net)
{
	char text[IP_NET_STRLEN];

	return json_pack("{s:s}", key, ip_net_format(net, text));
}

static json_t *make_ranges(const struct subnet_file *subnet)
{
	json_t *ranges = json_array();

	IP_FOREACH_FAMILY (f)
		if (ip_net_is_set(&subnet->subnet[f]))
			(void)json_array_append_new(
				ranges, json_pack("[o]", net_object("subnet", &subnet->subnet[f])));
	return ranges;
}

static void append_routes(json_t *routes, const struct subnet_file *subnet)
{
	IP_FOREACH_FAMILY (f) {
		if (!ip_net_is_set(&subnet->network[f]))
			continue;
		(void)json_array_append_new(routes, net_object("dst", &subnet->network[f]));
		for (size_t i = 0; i < subnet->n_more[f]; i++)
			(void)json_array_append_new(routes, net_object("dst", &subnet->more[f][i]));
	}
}

static int make_ipam(const struct cni_conf *conf, const struct subnet_file *subnet,
		     json_t **ret_ipam, struct cni_error *error)
{
	_cleanup_json_ json_t *ipam = conf->ipam ? json_deep_copy(conf->ipam) : json_object();
	json_t *routes = json_object_get(ipam, "routes");
	const json_t *type = json_object_get(ipam, "type");
	char brief[BRIEF_MAX];

	/* null and "" are a bridge without addresses. */
	if (type && !json_is_null(type) && !json_is_string(type))
		return cni_fail(error, CNI_CONFIG_INVALID,
				"ipam.type: %s is not the name of a plugin",
				json_brief(type, brief, sizeof(brief)));
	if (json_is_null(routes))
		routes = NULL;
	if (check_routes(routes, error))
		return -1;
	routes = routes ? json_incref(routes) : json_array();
	append_routes(routes, subnet);
	(void)json_object_set_new(ipam, "routes", routes);
	(void)json_object_set_new(ipam, "ranges", make_ranges(subnet));
	set_default(ipam, "type", json_string("host-local"));
	*ret_ipam = TAKE_PTR(ipam);
	return 0;
}

int cni_conf_make_delegate(const struct cni_conf *conf, const struct subnet_file *subnet,
			   json_t **ret_delegate, struct cni_error *error)
{
	_cleanup_json_ json_t *delegate =
		conf->delegate ? json_deep_copy(conf->delegate) : json_object();
	const char *version = json_string_value(json_member(conf->json, "cniVersion"));
	json_t *ipam;

	if (check_delegate(delegate, error) || make_ipam(conf, subnet, &ipam, error))
		return -1;
	(void)json_object_set_new(delegate, "ipam", ipam);
	(void)json_object_set_new(delegate, "name", json_string(conf->name));
	set_default(delegate, "type", json_string("bridge"));
	/* Somebody must masquerade: when flanneld does not, the delegate does. */
	set_default(delegate, "ipMasq", json_boolean(!subnet->ip_masq));
	set_default(delegate, "mtu", json_integer(subnet->mtu));
	if (!strcmp(json_string_value(json_object_get(delegate, "type")), "bridge"))
		set_default(delegate, "isGateway", json_true());
	if (version && *version)
		(void)json_object_set_new(delegate, "cniVersion", json_string(version));
	if (conf->runtime_config)
		(void)json_object_set_new(delegate, "runtimeConfig",
					  json_deep_copy(conf->runtime_config));
	*ret_delegate = TAKE_PTR(delegate);
	return 0;
}
