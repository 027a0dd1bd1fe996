/* SPDX-License-Identifier: Apache-2.0 */
/* test_bridge_conf.c - which configs of the plugin bridge are ours, and what they ask for */
#include "cni/bridge_internal.h"

#include "cni/builtin.h"
#include "messages.h"

#include <stdio.h>

static json_t *parse_json(const char *text)
{
	json_t *json = json_loads(text, 0, NULL);

	assert_non_null(json);
	return json;
}

/* {"type": "bridge"} with more members. */
static json_t *config_with(const char *members)
{
	char text[1024];

	(void)snprintf(text, sizeof(text),
		       "{\"type\":\"bridge\",\"name\":\"cbr0\",\"cniVersion\":\"1.0.0\"%s%s}",
		       *members ? "," : "", members);
	return parse_json(text);
}

static void test_ours(void **state)
{
	static const struct {
		const char *members;
		struct bridge_conf conf;
	} rows[] = {
		{"", {.bridge = "cni0"}},
		{"'isGateway':true,'mtu':1450,'ipMasq':false",
		 {.bridge = "cni0", .is_gateway = true, .mtu = 1450}},
		{"'isDefaultGateway':true,'bridge':'br-pods'",
		 {.bridge = "br-pods", .is_gateway = true, .is_default_gateway = true}},
		{"'ISGATEWAY':true,'HairpinMode':true", /* as Go reads them */
		 {.bridge = "cni0", .is_gateway = true, .hairpin = true}},
		{"'promiscMode':true,'forceAddress':true,'mtu':0",
		 {.bridge = "cni0", .promisc = true, .force_address = true}},
		{"'vlan':0,'macspoofchk':false,'enabledad':false,'vlanTrunk':[],'args':{}",
		 {.bridge = "cni0"}},
		{"'vlan':null,'bridge':null,'mtu':null,'args':null,'portIsolation':false,"
		 "'disableContainerInterface':false,'preserveDefaultVlan':true",
		 {.bridge = "cni0"}},
		{"'capabilities':{'portMappings':true},'dns':{},'prevResult':{'ips':[]},"
		 "'runtimeConfig':{'portMappings':[{}],'mac':'','ips':[]}",
		 {.bridge = "cni0"}},
		{"'cni.dev/valid-attachments':[{}],'ipam':{'type':'host-local'}",
		 {.bridge = "cni0"}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char members[512];
		_cleanup_json_ json_t *json = NULL;
		struct bridge_conf conf;
		struct cni_error error;
		const char *why;

		(void)snprintf(members, sizeof(members), "%s", rows[i].members);
		for (char *c = members; *c; c++)
			if (*c == '\'')
				*c = '"';
		json = config_with(members);
		assert_int_equal(bridge_conf_parse(json, &conf, &why, &error), 1);
		assert_string_equal(conf.bridge, rows[i].conf.bridge);
		assert_int_equal(conf.mtu, rows[i].conf.mtu);
		assert_int_equal(conf.is_gateway, rows[i].conf.is_gateway);
		assert_int_equal(conf.is_default_gateway, rows[i].conf.is_default_gateway);
		assert_int_equal(conf.hairpin, rows[i].conf.hairpin);
		assert_int_equal(conf.promisc, rows[i].conf.promisc);
		assert_int_equal(conf.force_address, rows[i].conf.force_address);
	}
}

static void test_not_ours(void **state)
{
	static const struct {
		const char *members, *why; /* NULL: wrong for the plugin as well */
	} rows[] = {
		{"\"vlan\":7", "delegate.vlan"},
		{"\"ipMasq\":true", "delegate.ipMasq"},
		{"\"macspoofchk\":true", "delegate.macspoofchk"},
		{"\"enabledad\":true", "delegate.enabledad"},
		{"\"portIsolation\":true", "delegate.portIsolation"},
		{"\"disableContainerInterface\":true", "delegate.disableContainerInterface"},
		{"\"vlanTrunk\":[{\"id\":1}]", "delegate.vlanTrunk"},
		{"\"args\":{\"cni\":{\"mac\":\"x\"}}", "delegate.args"},
		{"\"runtimeConfig\":{\"mac\":\"02:00:00:00:00:01\"}", "delegate.runtimeConfig"},
		{"\"runtimeConfig\":{\"ips\":[\"10.5.7.9\"]}", "delegate.runtimeConfig"},
		{"\"runtimeConfig\":{\"ipRanges\":[[]]}", "delegate.runtimeConfig"},
		{"\"of-tomorrow\":false", "delegate.of-tomorrow"},
		{"\"bridge\":\"\"", "delegate.bridge"},
		{"\"bridge\":\"a/b\"", "delegate.bridge"},
		{"\"bridge\":\"longer-than-15-characters\"", "delegate.bridge"},
		{"\"mtu\":-1", "delegate.mtu"},
		{"\"mtu\":\"1450\"", NULL},
		{"\"mtu\":99999999999", NULL},
		{"\"bridge\":7", NULL},
		{"\"isGateway\":\"yes\"", NULL},
		{"\"hairpinMode\":true,\"promiscMode\":true", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_json_ json_t *json = config_with(rows[i].members);
		struct bridge_conf conf = {.mtu = 7};
		struct cni_error error = {0};
		const char *why = NULL;
		int code = bridge_conf_parse(json, &conf, &why, &error);

		assert_int_equal(conf.mtu, 7);
		if (rows[i].why) {
			assert_int_equal(code, 0);
			assert_string_equal(why, rows[i].why);
		} else {
			assert_int_equal(code, -1);
			assert_int_equal(error.code, CNI_CONFIG_INVALID);
			assert_non_null(strchr(error.msg, ' '));
		}
	}
}

/* Gateways and default routes, as calcGateways() of the plugin. */
struct plan {
	bool is_gateway, is_default;
	const char *address[3], *gateway[3], *want_gateway[3];
	const char *dst[2], *via[2]; /* routes that there are */
	const char *want_dst[4], *want_via[4];
};

static const struct plan plans[] = {
	{false, false, {"10.5.7.2/24"}, {NULL}, {NULL}, {NULL}, {NULL}, {NULL}, {NULL}},
	{true, false, {"10.5.7.2/24"}, {NULL}, {"10.5.7.1"}, {NULL}, {NULL}, {NULL}, {NULL}},
	{true,
	 false,
	 {"10.5.7.130/25", "fc00::42/64"},
	 {NULL},
	 {"10.5.7.129", "fc00::1"},
	 {"10.5.0.0/16"},
	 {NULL},
	 {"10.5.0.0/16"},
	 {NULL}},
	{true,
	 true,
	 {"10.5.7.2/24", "fc00::2/64"},
	 {"10.5.7.9", NULL},
	 {"10.5.7.9", "fc00::1"},
	 {NULL},
	 {NULL},
	 {"0.0.0.0/0", "::/0"},
	 {"10.5.7.9", "fc00::1"}},
	/* Two addresses of a family, one default route: of the first. */
	{true,
	 true,
	 {"10.5.7.2/24", "10.5.8.2/24"},
	 {NULL},
	 {"10.5.7.1", "10.5.8.1"},
	 {NULL},
	 {NULL},
	 {"0.0.0.0/0"},
	 {"10.5.7.1"}},
	/* One that is there, with its gateway, is enough; without one it is not. */
	{true,
	 true,
	 {"10.5.7.2/24"},
	 {NULL},
	 {"10.5.7.1"},
	 {"0.0.0.0/0"},
	 {"10.5.7.5"},
	 {"0.0.0.0/0"},
	 {"10.5.7.5"}},
	{true,
	 true,
	 {"10.5.7.2/24"},
	 {NULL},
	 {"10.5.7.1"},
	 {"0.0.0.0/0"},
	 {NULL},
	 {"0.0.0.0/0", "0.0.0.0/0"},
	 {NULL, "10.5.7.1"}},
	{true,
	 true,
	 {"fc00::2/64"},
	 {NULL},
	 {"fc00::1"},
	 {"0.0.0.0/0"},
	 {"10.5.7.5"},
	 {"0.0.0.0/0", "::/0"},
	 {"10.5.7.5", "fc00::1"}},
};

static size_t fill_addresses(const struct plan *plan, struct cni_address address[3])
{
	size_t n = 0;

	for (; n < 3 && plan->address[n]; n++) {
		address[n].net = messages_net(plan->address[n]);
		address[n].gateway = messages_ip(plan->gateway[n]);
	}
	return n;
}

static size_t fill_routes(struct cni_route *route, const char *const *dst, const char *const *via,
			  size_t max)
{
	size_t n = 0;

	for (; n < max && dst[n]; n++) {
		route[n].dst = messages_net(dst[n]);
		route[n].gateway = messages_ip(via[n]);
	}
	return n;
}

static void test_plan(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(plans); i++) {
		const struct plan *plan = &plans[i];
		const struct bridge_conf conf = {.is_gateway = plan->is_gateway,
						 .is_default_gateway = plan->is_default};
		struct cni_address address[3] = {0};
		struct cni_route route[2 + BRIDGE_ROUTES_MORE] = {0}, want_route[4] = {0};
		size_t n = fill_addresses(plan, address);
		size_t n_routes = fill_routes(route, plan->dst, plan->via, 2);
		size_t n_want = fill_routes(want_route, plan->want_dst, plan->want_via, 4);

		bridge_plan(&conf, address, n, route, &n_routes);
		for (size_t j = 0; j < n; j++) {
			struct ip want = messages_ip(plan->want_gateway[j]);

			assert_true(ip_equal(&address[j].gateway, &want));
		}
		assert_int_equal(n_routes, n_want);
		for (size_t j = 0; j < n_want; j++) {
			assert_true(ip_net_equal(&route[j].dst, &want_route[j].dst));
			assert_true(ip_equal(&route[j].gateway, &want_route[j].gateway));
		}
	}
}

#define IPAM "{\"type\":\"host-local\",\"ranges\":[[{\"subnet\":\"10.5.7.0/24\"}]]}"

static void test_builtin(void **state)
{
	static const struct {
		const char *json, *args, *why; /* NULL: ours */
	} rows[] = {
		{"{\"type\":\"bridge\",\"name\":\"n\",\"ipam\":" IPAM "}", "", NULL},
		{"{\"type\":\"ptp\",\"name\":\"n\",\"ipam\":" IPAM "}", "", "delegate.type"},
		{"{\"type\":\"bridge\",\"name\":\"n\"}", "", "ipam.type"},
		{"{\"type\":\"bridge\",\"name\":\"n\",\"ipam\":{\"type\":\"dhcp\"}}", "",
		 "ipam.type"},
		{"{\"type\":\"bridge\",\"name\":\"n\",\"vlan\":3,\"ipam\":" IPAM "}", "",
		 "delegate.vlan"},
		{"{\"type\":\"bridge\",\"name\":\"n\",\"ipam\":" IPAM
		 ",\"dns\":{\"nameservers\":[\"10.0.0.1\"],\"domain\":\"x\"}}",
		 "", NULL},
		{"{\"type\":\"bridge\",\"name\":\"n\",\"ipam\":" IPAM
		 ",\"dns\":{\"nameservers\":[]}}",
		 "", "delegate.dns"},
		{"{\"type\":\"bridge\",\"name\":\"n\",\"ipam\":" IPAM
		 ",\"dns\":{\"Domain\":\"x\"}}",
		 "", "delegate.dns"},
		{"{\"type\":\"bridge\",\"name\":\"n\",\"ipam\":" IPAM ",\"dns\":{\"search\":[7]}}",
		 "", "delegate.dns"},
		{"{\"type\":\"bridge\",\"name\":\"n\",\"ipam\":" IPAM ",\"dns\":\"x\"}", "",
		 "delegate.dns"},
		{"{\"type\":\"bridge\",\"name\":\"n\",\"ipam\":" IPAM "}",
		 "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0", NULL},
		{"{\"type\":\"bridge\",\"name\":\"n\",\"ipam\":" IPAM "}",
		 "K8S_POD_NAME=web-0;IgnoreUnknown=true", NULL},
		{"{\"type\":\"bridge\",\"name\":\"n\",\"ipam\":" IPAM "}", "K8S_POD_NAME=web-0",
		 "CNI_ARGS"},
		{"{\"type\":\"bridge\",\"name\":\"n\",\"ipam\":" IPAM "}",
		 "IgnoreUnknown=1;IP=10.5.7.9", "CNI_ARGS"},
		{"{\"type\":\"bridge\",\"name\":\"n\",\"ipam\":" IPAM "}",
		 "IgnoreUnknown=1;MAC=02:00:00:00:00:01", "CNI_ARGS"},
		{"{\"type\":\"bridge\",\"name\":\"n\",\"ipam\":" IPAM "}", "IgnoreUnknown=0",
		 "CNI_ARGS"},
		{"{\"type\":\"bridge\",\"name\":\"n\",\"ipam\":" IPAM "}", ";", "CNI_ARGS"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_json_ json_t *json = parse_json(rows[i].json);
		const struct cni_request request = {.args = rows[i].args};
		struct cni_error error = {0};
		struct builtin builtin;
		const char *why = NULL;
		int code = builtin_parse(json, &request, &builtin, &why, &error);

		assert_int_equal(code, rows[i].why ? 0 : 1);
		if (rows[i].why)
			assert_string_equal(why, rows[i].why);
		else
			assert_int_equal(builtin.ipam.n_sets, 1);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ours),
		cmocka_unit_test(test_not_ours),
		cmocka_unit_test(test_plan),
		cmocka_unit_test(test_builtin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
