/* SPDX-License-Identifier: Apache-2.0 */
/* bridge_conf.c - the config of the plugin bridge, and what follows from it. Pure. */
#include "cni/bridge_internal.h"

#include <stdio.h>
#include <strings.h>

/* What a member has to be, for us to do what it asks. */
enum rule {
	ANY,       /* whatever it says is done elsewhere, or nothing to a bridge */
	OFF,       /* false, 0, "", [] or {} */
	OURS_BOOL, /* read below */
	OURS,
};

/* Of the plugin up to 1.6. One that is not here may be of a plugin that is newer than we. */
static const struct member {
	const char *key;
	enum rule rule;
	size_t offset; /* OURS_BOOL */
} members[] = {
	{"args", OFF, 0},
	{"bridge", OURS, 0},
	{"capabilities", ANY, 0},
	{"cniVersion", ANY, 0},
	{"disableContainerInterface", OFF, 0},
	{"dns", ANY, 0},
	{"enabledad", OFF, 0},
	{"forceAddress", OURS_BOOL, offsetof(struct bridge_conf, force_address)},
	{"hairpinMode", OURS_BOOL, offsetof(struct bridge_conf, hairpin)},
	{"ipMasq", OFF, 0},
	{"ipMasqBackend", ANY, 0}, /* of ipMasq */
	{"ipam", ANY, 0},
	{"isDefaultGateway", OURS_BOOL, offsetof(struct bridge_conf, is_default_gateway)},
	{"isGateway", OURS_BOOL, offsetof(struct bridge_conf, is_gateway)},
	{"macspoofchk", OFF, 0},
	{"mtu", OURS, 0},
	{"name", ANY, 0},
	{"portIsolation", OFF, 0},
	{"preserveDefaultVlan", ANY, 0}, /* of vlan and vlanTrunk */
	{"prevResult", ANY, 0},
	{"promiscMode", OURS_BOOL, offsetof(struct bridge_conf, promisc)},
	{"runtimeConfig", ANY, 0}, /* looked into below */
	{"type", ANY, 0},
	{"vlan", OFF, 0},
	{"vlanTrunk", OFF, 0},
};

static bool is_off(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_NULL:
	case JSON_FALSE:
		return true;
	case JSON_OBJECT:
		return !json_object_size(value);
	case JSON_ARRAY:
		return !json_array_size(value);
	case JSON_STRING:
		return !*json_string_value(value);
	case JSON_INTEGER:
		return !json_integer_value(value);
	case JSON_REAL:
	case JSON_TRUE:
		return false;
	}
	return false;
}

static const struct member *find(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(members); i++)
		if (!strcasecmp(members[i].key, key))
			return &members[i];
	return NULL;
}

/* 0, with *@ret_why, for what is not ours. */
static int refuse(const char *key, const char **ret_why)
{
	static char why[64];

	(void)snprintf(why, sizeof(why), "delegate.%s", key);
	*ret_why = why;
	return 0;
}

/* 1; 0: a member that is not ours. */
static int check_members(const json_t *delegate, const char **ret_why)
{
	static const char *const per_pod[] = {"mac", "ips", "ipRanges"};
	const json_t *runtime = json_member(delegate, "runtimeConfig"), *value;
	const char *key;

	json_object_foreach ((json_t *)(uintptr_t)delegate, key, value) {
		const struct member *member = find(key);

		/* Members of the specification's own, for GC. */
		if (!member && !strncmp(key, "cni.dev/", 8))
			continue;
		if (!member || (member->rule == OFF && !is_off(value)))
			return refuse(key, ret_why);
	}
	for (size_t i = 0; i < ARRAY_SIZE(per_pod); i++) {
		value = json_member(runtime, per_pod[i]);
		if (value && !is_off(value))
			return refuse("runtimeConfig", ret_why);
	}
	return 1;
}

static int read_members(const json_t *delegate, struct bridge_conf *conf, const char **bridge,
			int64_t *mtu, struct err *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
		bool *to = (void *)((char *)conf + members[i].offset);

		if (members[i].rule == OURS_BOOL &&
		    json_member_bool(delegate, members[i].key, to, err))
			return -1;
	}
	if (json_member_string(delegate, "bridge", bridge, err) ||
	    json_member_int(delegate, "mtu", INT32_MIN, INT32_MAX, mtu, err))
		return -1;
	return 0;
}

int bridge_conf_parse(const json_t *delegate, struct bridge_conf *ret_conf, const char **ret_why,
		      struct cni_error *error)
{
	struct bridge_conf conf = {0};
	const char *bridge = "cni0";
	int64_t mtu = 0;
	struct err err;

	if (!check_members(delegate, ret_why))
		return 0;
	if (read_members(delegate, &conf, &bridge, &mtu, &err))
		return cni_fail(error, CNI_CONFIG_INVALID, "delegate: %s", err.text);
	/* The plugin leaves to the kernel what that makes of these. */
	if (!cni_ifname_is_sound(bridge))
		return refuse("bridge", ret_why);
	if (mtu < 0)
		return refuse("mtu", ret_why);
	if (conf.hairpin && conf.promisc)
		return cni_fail(error, CNI_CONFIG_INVALID,
				"delegate: hairpinMode and promiscMode exclude each other");
	(void)snprintf(conf.bridge, sizeof(conf.bridge), "%s", bridge);
	conf.is_gateway |= conf.is_default_gateway;
	conf.mtu = (unsigned)mtu;
	*ret_conf = conf;
	return 1;
}

static bool is_default(const struct ip_net *net, uint8_t family)
{
	const struct ip zero = {.family = family};

	return !net->len && ip_equal(&net->ip, &zero);
}

/* Whether @route has a default route of @family that names its gateway. */
static bool has_default(const struct cni_route *route, size_t n_routes, uint8_t family)
{
	for (size_t i = 0; i < n_routes; i++)
		if (ip_is_set(&route[i].gateway) && is_default(&route[i].dst, family))
			return true;
	return false;
}

void bridge_plan(const struct bridge_conf *conf, struct cni_address *address, size_t n_addresses,
		 struct cni_route *route, size_t *n_routes)
{
	bool seen[IP_FAMILY_COUNT] = {false};

	for (size_t i = 0; i < n_addresses; i++) {
		uint8_t family = address[i].net.ip.family;
		struct ip_net base = ip_net_base(&address[i].net);

		if (!ip_is_set(&address[i].gateway) && conf->is_gateway)
			address[i].gateway =
				ip_from_num((enum ip_family)family, ip_to_num(&base.ip) + 1);
		if (conf->is_default_gateway && !seen[family] &&
		    !has_default(route, *n_routes, family))
			route[(*n_routes)++] = (struct cni_route){
				.dst = {.ip = {.family = family}},
				.gateway = address[i].gateway,
			};
		seen[family] = true;
	}
}
