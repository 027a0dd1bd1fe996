/* SPDX-License-Identifier: Apache-2.0 */
/* test_udp.c - backend udp: options, device, records, plans */
#include "backends.h"

#include <linux/if_tunnel.h>

#define UDP "{\"Type\":\"udp\"}"

static void test_options(void **state)
{
	struct backend b = make(UDP, V4);

	(void)state;
	assert_int_equal(b.udp.port, 8285);
	assert_int_equal(b.udp.offload, UDP_OFFLOAD_AUTO);
	assert_int_equal(b.udp.busy_poll_us, 0);
	b = make("{\"type\":\"udp\",\"port\":4000,\"Offload\":\"MMSG\",\"busypoll\":50,"
		 "\"Mode\":\"userspace\"}",
		 V4);
	assert_int_equal(b.udp.port, 4000);
	assert_int_equal(b.udp.offload, UDP_OFFLOAD_MMSG);
	assert_int_equal(b.udp.busy_poll_us, 50);
	assert_int_equal(make("{\"Type\":\"udp\",\"Port\":0}", V4).udp.port, 8285);
	assert_int_equal(make("{\"Type\":\"udp\",\"Offload\":\"gso\"}", V4).udp.offload,
			 UDP_OFFLOAD_GSO);
	assert_int_equal(make("{\"Type\":\"udp\",\"Offload\":\"plain\"}", V4).udp.offload,
			 UDP_OFFLOAD_PLAIN);
}

static void test_refused(void **state)
{
	static const struct refusal rows[] = {
		{"{\"Type\":\"udp\",\"Port\":65536}", V4, 1500,
		 "Backend udp: Port: 65536 is not a whole number from 0 to 65535"},
		{"{\"Type\":\"udp\",\"Port\":-1}", V4, 1500, "Backend udp: Port: -1 is not"},
		{"{\"Type\":\"udp\",\"Port\":\"8285\"}", V4, 1500,
		 "Backend udp: Port: \"8285\" is not"},
		{"{\"Type\":\"udp\",\"Port\":1.5}", V4, 1500, "Backend udp: Port: 1.5 is not"},
		{"{\"Type\":\"udp\",\"BusyPoll\":-1}", V4, 1500,
		 "Backend udp: BusyPoll: -1 is not a whole number from 0 to 1000000"},
		{"{\"Type\":\"udp\",\"BusyPoll\":1000001}", V4, 1500,
		 "Backend udp: BusyPoll: 1000001 is not"},
		{"{\"Type\":\"udp\",\"BusyPoll\":9223372036854775807}", V4, 1500,
		 "Backend udp: BusyPoll: 9223372036854775807 is not"},
		{"{\"Type\":\"udp\",\"BusyPoll\":\"50\"}", V4, 1500,
		 "Backend udp: BusyPoll: \"50\" is not"},
		{"{\"Type\":\"udp\",\"BusyPoll\":true}", V4, 1500,
		 "Backend udp: BusyPoll: true is not"},
		{"{\"Type\":\"udp\",\"Offload\":\"\"}", V4, 1500,
		 "Backend udp: Offload is \"\"; it must be \"auto\", \"gso\", \"mmsg\" or "
		 "\"plain\""},
		{"{\"Type\":\"udp\",\"Offload\":\"fast\"}", V4, 1500,
		 "Backend udp: Offload is \"fast\"; it must be"},
		{"{\"Type\":\"udp\",\"Offload\":1}", V4, 1500,
		 "Backend udp: Offload: 1 is not a string"},
		{"{\"Type\":\"udp\",\"Mode\":true}", V4, 1500,
		 "Backend udp: Mode: true is not a string"},
		{"{\"Type\":\"udp\",\"Mode\":\"fast\"}", V4, 1500,
		 "Backend udp: Mode is \"fast\"; it must be \"userspace\" or \"kernel\""},
		{UDP, DUAL, 1500,
		 "Backend udp: it carries IPv4 only: set EnableIPv6 to false, or take vxlan"},
		{UDP, V6, 1500,
		 "Backend udp: it carries IPv4 only: set EnableIPv6 to false and EnableIPv4 to "
		 "true"},
		{UDP, V4, 603, "Backend udp: MTU 603 of eth0 is too small: it needs at least 604"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		expect_refused(&rows[i]);
}

static void test_device(void **state)
{
	struct backend b = make(UDP, V4);
	struct link link;

	(void)state;
	assert_true(b.ops->device(&b, IP_V4, &link));
	assert_false(b.ops->device(&b, IP_V6, &link));
	assert_string_equal(link.name, "flannel0");
	assert_string_equal(link.kind, "tun");
	assert_true(link.up && mac_is_zero(&link.mac));
	assert_int_equal(link.mtu, 1472);
	assert_int_equal(b.ops->mtu(&b), 1472);
	assert_int_equal(link.tx_queue_len, 1000);
	(void)snprintf(b.udp.device, sizeof(b.udp.device), "flannel7");
	b.udp.offload = UDP_OFFLOAD_MMSG;
	assert_true(b.ops->device(&b, IP_V4, &link));
	assert_string_equal(link.name, "flannel7");
	assert_int_equal(link.tx_queue_len, 1000);
	assert_true(backend_has_kind("tun") && backend_has_kind("vxlan"));
	assert_false(backend_has_kind("") || backend_has_kind("bridge"));
}

/* As the original: a public IP, and no data. Its own records have no type either. */
static void test_records(void **state)
{
	static const struct {
		const char *type;
		bool accepted;
	} rows[] = {{"udp", true}, {"", true}, {"vxlan", false}, {"host-gw", false}};
	struct backend b = make(UDP, V4);

	(void)state;
	assert_null(b.ops->publish);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct lease peer = a_peer("10.5.3.0/24", NULL, "192.0.2.3", NULL, NULL, NULL);

		(void)snprintf(peer.backend_type, sizeof(peer.backend_type), "%s", rows[i].type);
		assert_int_equal(b.ops->accepts(&b, &peer), rows[i].accepted);
		lease_done(&peer);
	}
}

static void test_plans(void **state)
{
	static const char names[DEVICE_MAX][IFNAMSIZ] = {"", "eth0", "flannel0"};
	struct backend b = make(UDP, V4);
	struct lease peer = a_peer("10.5.3.0/24", "fc00:5:3::/64", "198.51.100.3", "2001:db8::3",
				   NULL, NULL),
		     own = a_peer("10.5.1.0/24", NULL, NULL, NULL, NULL, NULL);
	struct plan plan = {0};
	char line[ENTRY_STRLEN];

	(void)state;
	expect_plan(&b, &peer, 0, "tunnel peer 10.5.3.0/24 at 198.51.100.3 dev flannel0");
	/* The path looks for itself: nothing in the kernel. */
	b.peer_filter = true;
	expect_plan(&b, &peer, 0, "tunnel peer 10.5.3.0/24 at 198.51.100.3 dev flannel0");
	lease_done(&peer);
	b.ops->plan_own(&b, &own, &plan);
	assert_int_equal(plan.n, 2);
	assert_string_equal(entry_format(&plan.entry[0], names, line),
			    "address 10.5.1.0/32 dev flannel0");
	assert_string_equal(entry_format(&plan.entry[1], names, line),
			    "route 10.5.0.0/16 dev flannel0");
}

static void test_mode_kernel(void **state)
{
	static const char names[DEVICE_MAX][IFNAMSIZ] = {"", "eth0", "flannel0"};
	struct backend b = make("{\"Type\":\"udp\",\"Mode\":\"Kernel\",\"Port\":4000}", V4);
	struct lease peer = a_peer("10.5.3.0/24", NULL, "198.51.100.3", NULL, NULL, NULL),
		     own = a_peer("10.5.1.0/24", NULL, NULL, NULL, NULL, NULL);
	struct plan plan = {0};
	char line[ENTRY_STRLEN];
	struct link link;

	(void)state;
	assert_true(b.udp.by_kernel);
	assert_true(b.ops->device(&b, IP_V4, &link));
	assert_string_equal(link.name, "flannel0");
	assert_string_equal(link.kind, "ipip");
	assert_true(link.up && mac_is_zero(&link.mac) && backend_has_kind("ipip"));
	assert_int_equal(link.mtu, 1472);
	assert_int_equal(link.tx_queue_len, 0);
	assert_true(ip_equal(&link.ipip.local, &b.uplink.addr[IP_V4]));
	assert_false(ip_is_set(&link.ipip.remote) || link.ipip.lower_ifindex || link.ipip.no_pmtu);
	assert_int_equal(link.ipip.ttl, 64);
	assert_int_equal(link.ipip.encap, TUNNEL_ENCAP_FOU);
	assert_int_equal(link.ipip.encap_flags, TUNNEL_ENCAP_FLAG_CSUM);
	assert_int_equal(link.ipip.source_port, 4000);
	assert_int_equal(link.ipip.port, 4000);
	expect_plan(&b, &peer, 0, "route 10.5.3.0/24 via 198.51.100.3 dev flannel0 onlink");
	b.peer_filter = true;
	expect_plan(&b, &peer, 0,
		    "route 10.5.3.0/24 via 198.51.100.3 dev flannel0 onlink; "
		    "peer filter entry 198.51.100.3 of flannel0");
	lease_done(&peer);
	b.ops->plan_own(&b, &own, &plan);
	assert_int_equal(plan.n, 1);
	assert_string_equal(entry_format(&plan.entry[0], names, line),
			    "address 10.5.1.0/32 dev flannel0");
}

static void test_equal(void **state)
{
	static const char *const others[] = {
		"{\"Type\":\"udp\",\"Port\":8286}",
		"{\"Type\":\"udp\",\"Offload\":\"gso\"}",
		"{\"Type\":\"udp\",\"BusyPoll\":1}",
		"{\"Type\":\"udp\",\"Mode\":\"kernel\"}",
		"{\"Type\":\"host-gw\"}",
	};
	struct backend a = make(UDP, V4), b = make(UDP, V4);

	(void)state;
	assert_true(backend_equal(&a, &b));
	b.network[IP_V4] = messages_net("10.4.0.0/15");
	assert_false(backend_equal(&a, &b)); /* another route */
	for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
		b = make(others[i], V4);
		assert_false(backend_equal(&a, &b));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options),     cmocka_unit_test(test_refused),
		cmocka_unit_test(test_device),      cmocka_unit_test(test_records),
		cmocka_unit_test(test_plans),       cmocka_unit_test(test_equal),
		cmocka_unit_test(test_mode_kernel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
