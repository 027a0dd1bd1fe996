/* SPDX-License-Identifier: Apache-2.0 */
/* test_vxlan.c - the backends vxlan, host-gw and alloc: options, devices, plans */
#include "backends.h"

static void test_options(void **state)
{
	struct backend b = make("{\"Type\":\"vxlan\"}", V4);

	(void)state;
	assert_int_equal(b.vxlan.vni, 1);
	assert_int_equal(b.vxlan.port, 8472);
	assert_false(b.vxlan.gbp || b.vxlan.learning || b.vxlan.direct_routing);
	b = make("{\"Type\":\"vxlan\",\"vni\":42,\"Port\":4789,\"GBP\":true,\"Learning\":true,"
		 "\"Directrouting\":true,\"MTU\":1400}",
		 DUAL);
	assert_int_equal(b.vxlan.vni, 42);
	assert_int_equal(b.vxlan.port, 4789);
	assert_true(b.vxlan.gbp && b.vxlan.learning && b.vxlan.direct_routing);
	assert_int_equal(b.ops->mtu(&b), 1330);
	b = make("{\"Type\":\"vxlan\",\"Port\":0,\"MTU\":0}", V4);
	assert_int_equal(b.vxlan.port, 8472);
	assert_int_equal(b.ops->mtu(&b), 1450);
	assert_int_equal(make("{\"Type\":\"vxlan\"}", V6).vxlan.outer_mtu, 1500);
}

static void test_refused(void **state)
{
	static const struct refusal rows[] = {
		{"{\"Type\":\"xvlan\"}", V4, 1500,
		 "Backend Type \"xvlan\" is unknown; this build has vxlan, host-gw, udp, "
		 "alloc"},
		{"{\"Type\":\"vxlan\",\"VNI\":0}", V4, 1500, "Backend vxlan: VNI"},
		{"{\"Type\":\"vxlan\",\"VNI\":16777216}", V4, 1500, "Backend vxlan: VNI"},
		{"{\"Type\":\"vxlan\",\"VNI\":\"1\"}", V4, 1500, "Backend vxlan: VNI"},
		{"{\"Type\":\"vxlan\",\"VNI\":1.5}", V4, 1500, "Backend vxlan: VNI"},
		{"{\"Type\":\"vxlan\",\"Port\":65536}", V4, 1500, "Backend vxlan: Port"},
		{"{\"Type\":\"vxlan\",\"Port\":-1}", V4, 1500, "Backend vxlan: Port"},
		{"{\"Type\":\"vxlan\",\"GBP\":1}", V4, 1500, "Backend vxlan: GBP"},
		{"{\"Type\":\"vxlan\",\"DirectRouting\":\"yes\"}", V4, 1500,
		 "Backend vxlan: DirectRouting"},
		{"{\"Type\":\"vxlan\",\"MTU\":600}", V4, 1500,
		 "Backend vxlan: MTU 600 is too small: IPv4 inside VXLAN needs at least 626"},
		{"{\"Type\":\"vxlan\",\"MTU\":1349}", DUAL, 1500,
		 "Backend vxlan: MTU 1349 is too small: IPv6 inside VXLAN needs at least 1350"},
		{"{\"Type\":\"vxlan\"}", V6, 1280,
		 "Backend vxlan: MTU 1280 of eth0 is too small: IPv6 inside VXLAN needs at least "
		 "1350"},
		/* The kernel's names of devices have 15 characters. */
		{"{\"Type\":\"vxlan\",\"VNI\":10000}", DUAL, 1500, "Backend vxlan: VNI 10000"},
		{"{\"Type\":\"vxlan\",\"VNI\":10000000}", V4, 1500, "Backend vxlan: VNI 10000000"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		expect_refused(&rows[i]);
}

static void test_unknown_options(void **state)
{
	static const char text[] =
		"{\"Type\":\"vxlan\",\"VNI\":1,\"DirectRooting\":true,\"port\":1,"
		"\"Vtep\":1}";
	_cleanup_json_ json_t *options = NULL;
	struct backend b = make("{\"Type\":\"vxlan\"}", V4);
	char unknown[64], little[8];

	(void)state;
	assert_int_equal(json_parse_object(text, strlen(text), "", &options, NULL), 0);
	backend_unknown_options(&b, options, unknown, sizeof(unknown));
	assert_string_equal(unknown, "DirectRooting, Vtep");
	backend_unknown_options(&b, options, little, sizeof(little));
	assert_string_equal(little, "DirectR");
	backend_unknown_options(&b, NULL, unknown, sizeof(unknown));
	assert_string_equal(unknown, "");
}

static void test_devices(void **state)
{
	struct backend b = make("{\"Type\":\"vxlan\",\"VNI\":42}", DUAL);
	struct ip v4 = messages_ip("192.0.2.1"), v6 = messages_ip("2001:db8::1");
	struct link link;
	char *text;

	(void)state;
	b.vxlan.mac[IP_V4] = (struct mac){{2, 0, 0, 0, 0, 4}};
	b.vxlan.mac[IP_V6] = (struct mac){{2, 0, 0, 0, 0, 6}};
	assert_true(b.ops->device(&b, IP_V4, &link));
	assert_string_equal(link.name, "flannel.42");
	assert_string_equal(link.kind, "vxlan");
	assert_int_equal(link.mtu, 1450);
	assert_true(link.up && ip_equal(&link.vxlan.local, &v4));
	assert_int_equal(link.vxlan.port, 8472);
	assert_false(link.vxlan.learning);
	assert_true(b.ops->device(&b, IP_V6, &link));
	assert_string_equal(link.name, "flannel-v6.42");
	assert_int_equal(link.mtu, 1430);
	assert_true(ip_equal(&link.vxlan.local, &v6));
	assert_int_equal(b.ops->mtu(&b), 1430); /* what fits through both */
	text = b.ops->publish(&b, IP_V6);
	assert_string_equal(text, "{\"VNI\":42,\"VtepMAC\":\"02:00:00:00:00:06\"}");
	free(text);

	b = make("{\"Type\":\"vxlan\"}", V4);
	assert_false(b.ops->device(&b, IP_V6, &link));
	assert_null(b.ops->publish(&b, IP_V6));
}

#define MAC_A "{\"VNI\":1,\"VtepMAC\":\"02:00:00:00:00:0a\"}"
#define MAC_B "{\"VNI\":1,\"VtepMAC\":\"02:00:00:00:00:0B\"}"
#define PLAN_V4                                                                                    \
	"FDB entry 02:00:00:00:00:0a dst 198.51.100.3 dev flannel.1; "                             \
	"neighbour 10.5.3.0 lladdr 02:00:00:00:00:0a dev flannel.1; "                              \
	"route 10.5.3.0/24 via 10.5.3.0 dev flannel.1 onlink"
#define PLAN_V6                                                                                    \
	"FDB entry 02:00:00:00:00:0b dst 2001:db8:1::3 dev flannel-v6.1; "                         \
	"neighbour fc00:5:3:: lladdr 02:00:00:00:00:0b dev flannel-v6.1; "                         \
	"route fc00:5:3::/64 via fc00:5:3:: dev flannel-v6.1 onlink"

static void test_plan_peer(void **state)
{
	struct backend v4 = make("{\"Type\":\"vxlan\"}", V4), v6 = make("{\"Type\":\"vxlan\"}", V6),
		       dual = make("{\"Type\":\"vxlan\"}", DUAL);
	struct lease peer = a_peer("10.5.3.0/24", "fc00:5:3::/64", "198.51.100.3", "2001:db8:1::3",
				   MAC_A, MAC_B);

	(void)state;
	expect_plan(&v4, &peer, 0, PLAN_V4);
	expect_plan(&v6, &peer, 0, PLAN_V6);
	expect_plan(&dual, &peer, 0, PLAN_V4 "; " PLAN_V6);
	v4.peer_filter = true;
	expect_plan(&v4, &peer, 0, "peer filter entry 198.51.100.3 of flannel.1; " PLAN_V4);
	lease_done(&peer);
	/* A host of one family in a network of both. */
	peer = a_peer("10.5.3.0/24", NULL, "198.51.100.3", NULL, MAC_A, NULL);
	expect_plan(&dual, &peer, 0, PLAN_V4);
	lease_done(&peer);
}

static void test_bad_records(void **state)
{
	static const char *const bad[] = {
		NULL,
		"null",
		"[]",
		"\"x\"",
		"{}",
		"{\"VNI\":1}",
		"{\"VNI\":\"1\",\"VtepMAC\":\"02:00:00:00:00:0a\"}",
		"{\"VNI\":1,\"VtepMAC\":17}",
		"{\"VNI\":1,\"VtepMAC\":\"\"}",
		"{\"VNI\":1,\"VtepMAC\":\"02:00:00:00:00\"}",
		"{\"VNI\":1,\"VtepMAC\":\"00:00:00:00:00:00\"}",
		"{\"VNI\":1,\"VtepMAC\":\"ff:ff:ff:ff:ff:ff\"}",
		"{\"VNI\":1,\"VtepMAC\":\"01:00:5e:00:00:01\"}",
		"{\"VNI\":16777216,\"VtepMAC\":\"02:00:00:00:00:0a\"}",
	};
	struct backend dual = make("{\"Type\":\"vxlan\"}", DUAL);

	(void)state;
	dual.peer_filter = true;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct lease peer = a_peer("10.5.3.0/24", "fc00:5:3::/64", "198.51.100.3",
					   "2001:db8:1::3", bad[i], MAC_B);

		/* Planning says what is wrong, and plans the other family, nothing of this. */
		assert_true(dual.ops->accepts(&dual, &peer));
		expect_plan(&dual, &peer, -EINVAL,
			    "peer filter entry 2001:db8:1::3 of flannel-v6.1; " PLAN_V6);
		lease_done(&peer);
	}
}

static void test_accepts(void **state)
{
	static const struct {
		const char *type, *data;
		bool accepted;
	} rows[] = {
		{"vxlan", MAC_A, true},
		{"vxlan", "{\"VtepMAC\":\"02:00:00:00:00:0a\"}", true}, /* flannel before VNIs */
		{"vxlan", "{\"VNI\":2,\"VtepMAC\":\"02:00:00:00:00:0a\"}", false},
		{"host-gw", NULL, false},
		{"", NULL, false},
	};
	struct backend b = make("{\"Type\":\"vxlan\"}", V4),
		       host_gw = make("{\"Type\":\"host-gw\"}", V4),
		       alloc = make("{\"Type\":\"alloc\"}", V4);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct lease peer =
			a_peer("10.5.3.0/24", NULL, "192.0.2.3", NULL, rows[i].data, NULL);

		(void)snprintf(peer.backend_type, sizeof(peer.backend_type), "%s", rows[i].type);
		assert_int_equal(b.ops->accepts(&b, &peer), rows[i].accepted);
		assert_int_equal(host_gw.ops->accepts(&host_gw, &peer),
				 !strcmp(rows[i].type, "host-gw"));
		assert_true(alloc.ops->accepts(&alloc, &peer));
		lease_done(&peer);
	}
}

static void test_direct_routing(void **state)
{
	struct backend b = make("{\"Type\":\"vxlan\",\"DirectRouting\":true}", DUAL);
	struct lease near = a_peer("10.5.3.0/24", "fc00:5:3::/64", "192.0.2.3", "2001:db8::3",
				   MAC_A, MAC_B),
		     far = a_peer("10.5.3.0/24", NULL, "198.51.100.3", NULL, MAC_A, NULL);

	(void)state;
	expect_plan(&b, &near, 0,
		    "route 10.5.3.0/24 via 192.0.2.3 dev eth0; "
		    "route fc00:5:3::/64 via 2001:db8::3 dev eth0");
	expect_plan(&b, &far, 0, PLAN_V4);
	/* Behind another router in one family alone. */
	lease_done(&far);
	far = a_peer("10.5.3.0/24", "fc00:5:3::/64", "192.0.2.3", "2001:db8:1::3", MAC_A, MAC_B);
	expect_plan(&b, &far, 0, "route 10.5.3.0/24 via 192.0.2.3 dev eth0; " PLAN_V6);
	lease_done(&near);
	lease_done(&far);
}

static void test_plan_own(void **state)
{
	static const char names[DEVICE_MAX][IFNAMSIZ] = {"", "eth0", "flannel.1", "flannel-v6.1"};
	struct backend b = make("{\"Type\":\"vxlan\"}", DUAL);
	struct lease own = a_peer("10.5.1.0/24", "fc00:5:1::/64", NULL, NULL, NULL, NULL);
	struct plan plan = {0};
	char line[ENTRY_STRLEN];

	(void)state;
	b.ops->plan_own(&b, &own, &plan);
	assert_int_equal(plan.n, 2);
	assert_string_equal(entry_format(&plan.entry[0], names, line),
			    "address 10.5.1.0/32 dev flannel.1");
	assert_string_equal(entry_format(&plan.entry[1], names, line),
			    "address fc00:5:1::/128 dev flannel-v6.1");
}

static void test_host_gw(void **state)
{
	struct backend b = make("{\"Type\":\"host-gw\"}", DUAL);
	struct lease peer =
		a_peer("10.5.3.0/24", "fc00:5:3::/64", "192.0.2.3", "2001:db8::3", NULL, NULL);
	struct uplink uplink = an_uplink();
	struct err err;

	(void)state;
	assert_int_equal(b.ops->mtu(&b), 1500);
	assert_null(b.ops->device);
	assert_null(b.ops->publish);
	expect_plan(&b, &peer, 0,
		    "route 10.5.3.0/24 via 192.0.2.3 dev eth0; "
		    "route fc00:5:3::/64 via 2001:db8::3 dev eth0");
	lease_done(&peer);

	uplink.public_ip[IP_V4] = messages_ip("198.51.100.1");
	assert_int_equal(make_on(&uplink, "{\"Type\":\"host-gw\"}", DUAL, &b, &err), -EINVAL);
	assert_string_equal(err.text, "Backend host-gw: public IP 198.51.100.1 is not the address "
				      "192.0.2.1 of eth0: host-gw cannot work through NAT; leave "
				      "out --public-ip or use vxlan");
	assert_int_equal(make_on(&uplink, "{\"Type\":\"host-gw\"}", V6, &b, &err), 0);
	uplink.public_ip[IP_V6] = messages_ip("2001:db8::9");
	assert_int_equal(make_on(&uplink, "{\"Type\":\"host-gw\"}", V6, &b, &err), -EINVAL);
	assert_non_null(strstr(err.text, "--public-ipv6 "));
	/* Tunnels do work through NAT. */
	assert_int_equal(make_on(&uplink, "{\"Type\":\"vxlan\"}", DUAL, &b, &err), 0);
}

static void test_alloc(void **state)
{
	struct backend b = make("{\"Type\":\"alloc\",\"x\":1}", DUAL);
	struct lease peer = a_peer("10.5.3.0/24", NULL, "192.0.2.3", NULL, NULL, NULL);

	(void)state;
	assert_int_equal(b.ops->mtu(&b), 1500);
	expect_plan(&b, &peer, 0, "");
	lease_done(&peer);
	assert_null(backend_find("VXLAN"));
	assert_ptr_equal(backend_find("alloc"), &backend_alloc);
}

static void test_equal(void **state)
{
	struct backend a = make("{\"Type\":\"vxlan\"}", DUAL),
		       b = make("{\"Type\":\"vxlan\"}", DUAL);

	(void)state;
	assert_true(backend_equal(&a, &b));
	b.uplink.addr[IP_V6].b[15]++;
	assert_false(backend_equal(&a, &b));
	b = a;
	b.vxlan.mac[IP_V4].b[5]++;
	assert_false(backend_equal(&a, &b));
	b = make("{\"Type\":\"vxlan\",\"Learning\":true}", DUAL);
	assert_false(backend_equal(&a, &b));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options),         cmocka_unit_test(test_refused),
		cmocka_unit_test(test_unknown_options), cmocka_unit_test(test_devices),
		cmocka_unit_test(test_plan_peer),       cmocka_unit_test(test_bad_records),
		cmocka_unit_test(test_accepts),         cmocka_unit_test(test_direct_routing),
		cmocka_unit_test(test_plan_own),        cmocka_unit_test(test_host_gw),
		cmocka_unit_test(test_alloc),           cmocka_unit_test(test_equal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
