/* SPDX-License-Identifier: Apache-2.0 */
/* test_claim.c - which lease a host takes: its own, the one it had, a free one */
#include "store/claim.h"

#include "base/mem.h"
#include "messages.h"

#include <errno.h>

#define V4   "{\"Network\":\"10.5.0.0/16\"}"
#define TINY "{\"Network\":\"10.5.0.0/24\",\"SubnetLen\":26}" /* .64, .128, .192 */
#define DUAL "{\"Network\":\"10.5.0.0/16\",\"EnableIPv6\":true,\"IPv6Network\":\"fc00::/48\"}"
#define V6   "{\"EnableIPv4\":false,\"EnableIPv6\":true,\"IPv6Network\":\"fc00::/48\"}"

static void on_changed(const char *key, const struct lease *before, const struct lease *after,
		       void *userdata)
{
	(void)key;
	(void)before;
	(void)after;
	(void)userdata;
}

static struct netconf make_conf(const char *text)
{
	struct netconf conf;
	struct err err;

	if (netconf_parse(text, strlen(text), "config", &conf, &err) ||
	    netconf_check_ranges(&conf, &err))
		fail_msg("%s", err.text);
	return conf;
}

/* The subnets of a key; NULL: none. */
static void subnet_of(const char *key, struct ip_net ret_subnet[IP_FAMILY_COUNT])
{
	memset(ret_subnet, 0, IP_FAMILY_COUNT * sizeof(*ret_subnet));
	if (key)
		assert_int_equal(lease_parse_key(key, ret_subnet, NULL), 0);
}

struct record {
	const char *key, *ip, *ip6;
	int64_t expires_s;
};

static struct lease attrs_of(const char *ip, const char *ip6)
{
	return (struct lease){.public_ip = {[IP_V4] = messages_ip(ip), [IP_V6] = messages_ip(ip6)},
			      .backend_type = "vxlan"};
}

static struct peers *make_peers(const struct record *records, size_t n)
{
	struct peers *peers = peers_new(on_changed, NULL);

	for (size_t i = 0; i < n && records[i].key; i++) {
		struct lease lease = attrs_of(records[i].ip, records[i].ip6);

		subnet_of(records[i].key, lease.subnet);
		lease.expires_s = records[i].expires_s;
		peers_put(peers, records[i].key, &lease);
	}
	return peers;
}

/* ---- the request ---- */

static void test_copy(void **state)
{
	struct netconf conf = make_conf(DUAL);
	struct ip_net preferred[IP_FAMILY_COUNT], avoid[CLAIM_AVOID_MAX + 3];
	struct lease attrs = attrs_of("192.0.2.1", NULL), lease;
	struct claim claim = {0};
	struct store_request request = {
		.conf = &conf,
		.attrs = &attrs,
		.preferred = preferred,
		.avoid = avoid,
		.n_avoid = ARRAY_SIZE(avoid),
		.renew_margin_min = 7,
	};
	struct store_request again;

	(void)state;
	subnet_of("10.5.9.0-24&fc00:0:0:9::-64", preferred);
	for (size_t i = 0; i < ARRAY_SIZE(avoid); i++)
		avoid[i] = messages_net("192.0.2.0/24");
	attrs.backend_data[IP_V4] = mem_strdup("{\"VNI\":1}");
	claim_set(&claim, &request);
	netconf_done(&conf);
	lease_done(&attrs);
	memset(preferred, 0xff, sizeof(preferred));

	again = claim_request(&claim);
	assert_int_equal(again.renew_margin_min, 7);
	assert_int_equal(claim.renew_margin_s, 420);
	assert_int_equal(again.n_avoid, CLAIM_AVOID_MAX);
	assert_int_equal(again.preferred[IP_V6].len, 64);
	assert_int_equal(again.conf->range[IP_V4].subnet_len, 24);
	assert_null(again.conf->backend);
	assert_string_equal(again.attrs->backend_data[IP_V4], "{\"VNI\":1}");

	/* Its own request, and one without wishes. */
	claim_set(&claim, &again);
	again.preferred = NULL;
	again.avoid = NULL;
	again.n_avoid = 0;
	claim_set(&claim, &again);
	assert_false(ip_net_is_set(&claim.preferred[IP_V4]));
	assert_int_equal(claim.n_avoid, 0);

	subnet_of("10.5.9.0-24&fc00:0:0:9::-64", preferred);
	lease = claim_lease(&claim, preferred, 17);
	assert_true(ip_net_equal(&lease.subnet[IP_V6], &preferred[IP_V6]));
	assert_int_equal(lease.expires_s, 17);
	assert_string_equal(lease.backend_type, "vxlan");
	assert_string_equal(lease.backend_data[IP_V4], "{\"VNI\":1}");
	lease_done(&lease);
	claim_done(&claim);
	claim_done(&claim);
}

static void test_fits(void **state)
{
	static const struct {
		const char *conf, *key;
		bool fits;
	} cases[] = {
		{V4, "10.5.9.0-24", true},
		{V4, "10.5.0.0-24", false}, /* below SubnetMin */
		{V4, "10.5.255.0-24", true},
		{V4, "10.6.9.0-24", false},
		{V4, "10.5.8.0-23", false},
		{V4, "fc00:0:0:9::-64", false},
		{V4, "10.5.9.0-24&fc00:0:0:9::-64", false},
		{V4, NULL, false},
		{V6, "fc00:0:0:9::-64", true},
		{V6, "10.5.9.0-24", false},
		{DUAL, "10.5.9.0-24", false},
		{DUAL, "10.5.9.0-24&fc00:0:0:9::-64", true},
		{DUAL, "10.5.9.0-24&fc01:0:0:9::-64", false},
		{TINY, "10.5.0.64-26", true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct netconf conf = make_conf(cases[i].conf);
		struct ip_net subnet[IP_FAMILY_COUNT];

		subnet_of(cases[i].key, subnet);
		if (claim_fits(&conf, subnet) != cases[i].fits)
			fail_msg("%s in %s", cases[i].key, cases[i].conf);
		netconf_done(&conf);
	}
}

/* ---- ours already ---- */

static void test_find(void **state)
{
	static const struct {
		const char *ip, *ip6; /* ours */
		const char *conf;     /* NULL: any */
		const char *preferred, *want;
		struct record records[4];
	} cases[] = {
		{"192.0.2.1", NULL, V4, NULL, NULL, {{0}}},
		{"192.0.2.1", NULL, V4, NULL, NULL, {{"10.5.1.0-24", "192.0.2.2", NULL, 9}}},
		{"192.0.2.1",
		 NULL,
		 V4,
		 NULL,
		 "10.5.2.0-24",
		 {{"10.5.1.0-24", "192.0.2.2", NULL, 9}, {"10.5.2.0-24", "192.0.2.1", NULL, 9}}},
		/* of several: the preferred one; before it a reservation */
		{"192.0.2.1",
		 NULL,
		 V4,
		 "10.5.2.0-24",
		 "10.5.2.0-24",
		 {{"10.5.1.0-24", "192.0.2.1", NULL, 9},
		  {"10.5.2.0-24", "192.0.2.1", NULL, 9},
		  {"10.5.3.0-24", "192.0.2.1", NULL, 9}}},
		{"192.0.2.1",
		 NULL,
		 V4,
		 "10.5.2.0-24",
		 "10.5.3.0-24",
		 {{"10.5.1.0-24", "192.0.2.1", NULL, 9},
		  {"10.5.2.0-24", "192.0.2.1", NULL, 9},
		  {"10.5.3.0-24", "192.0.2.1", NULL, 0}}},
		/* one that does not fit is none, unless any will do */
		{"192.0.2.1", NULL, V4, NULL, NULL, {{"10.6.1.0-24", "192.0.2.1", NULL, 9}}},
		{"192.0.2.1",
		 NULL,
		 NULL,
		 NULL,
		 "10.6.1.0-24",
		 {{"10.6.1.0-24", "192.0.2.1", NULL, 9}}},
		/* IPv6 counts only where there is no IPv4 */
		{"192.0.2.1",
		 "2001:db8::1",
		 NULL,
		 NULL,
		 NULL,
		 {{"fc00:0:0:1::-64", NULL, "2001:db8::1", 9}}},
		{NULL,
		 "2001:db8::1",
		 V6,
		 NULL,
		 "fc00:0:0:1::-64",
		 {{"fc00:0:0:1::-64", "192.0.2.9", "2001:db8::1", 9}}},
		{NULL, NULL, NULL, NULL, NULL, {{"10.6.1.0-24", "192.0.2.1", NULL, 9}}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct netconf conf = make_conf(cases[i].conf ?: V4);
		struct lease attrs = attrs_of(cases[i].ip, cases[i].ip6);
		struct peers *peers = make_peers(cases[i].records, ARRAY_SIZE(cases[i].records));
		struct ip_net preferred[IP_FAMILY_COUNT];
		const struct lease *found;
		const char *key = "none";

		subnet_of(cases[i].preferred, preferred);
		found = claim_find(peers, &attrs, cases[i].conf ? &conf : NULL,
				   cases[i].preferred ? preferred : NULL, &key);
		if (strcmp(key, cases[i].want ?: "none") ||
		    found != (cases[i].want ? peers_find(peers, cases[i].want) : NULL))
			fail_msg("case %zu: found %s", i, key);
		assert_ptr_equal(
			claim_find(peers, &attrs, cases[i].conf ? &conf : NULL, preferred, NULL),
			found);
		peers_free(peers);
		netconf_done(&conf);
	}
}

/* ---- a new one ---- */

static void test_choose(void **state)
{
	static const struct {
		const char *conf, *wish, *avoid;
		const char *want; /* NULL: none is free; "": any that is free */
		struct record records[3];
	} cases[] = {
		{V4, NULL, NULL, "", {{0}}},
		{V4, "10.5.9.0-24", NULL, "10.5.9.0-24", {{0}}},
		{TINY, "10.5.0.0-26", NULL, "", {{0}}}, /* below SubnetMin */
		{TINY,
		 "10.5.0.64-26",
		 NULL,
		 "10.5.0.192-26",
		 {{"10.5.0.64-26", "192.0.2.2", NULL, 9}, {"10.5.0.128-26", "192.0.2.3", NULL, 0}}},
		/* a record of another SubnetLen, and our own NIC */
		{TINY,
		 "10.5.0.192-26",
		 NULL,
		 "10.5.0.64-26",
		 {{"10.5.0.128-25", "192.0.2.2", NULL, 9}}},
		{TINY, "10.5.0.192-26", "10.5.0.128/25", "10.5.0.64-26", {{0}}},
		{TINY, NULL, "10.5.0.0/16", NULL, {{0}}},
		{TINY, NULL, "10.5.0.128/25", NULL, {{"10.5.0.64-26", "192.0.2.2", NULL, 9}}},
		{DUAL,
		 "10.5.9.0-24&fc00:0:0:9::-64",
		 NULL,
		 "10.5.9.0-24&fc00:0:0:9::-64",
		 {{"10.5.8.0-24&fc00:0:0:8::-64", "192.0.2.2", "2001:db8::2", 9}}},
		{V6, "fc00:0:0:9::-64", NULL, "fc00:0:0:9::-64", {{0}}},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct claim claim = {.conf = make_conf(cases[i].conf)};
		struct peers *peers = make_peers(cases[i].records, ARRAY_SIZE(cases[i].records));
		struct ip_net wish[IP_FAMILY_COUNT], subnet[IP_FAMILY_COUNT] = {0};
		char key[LEASE_KEY_MAX];
		struct err err = {""};
		int code;

		subnet_of(cases[i].wish, wish);
		if (cases[i].avoid)
			claim.avoid[claim.n_avoid++] = messages_net(cases[i].avoid);
		code = claim_choose(&claim, peers, cases[i].wish ? wish : NULL, subnet, &err);
		if (!cases[i].want) {
			assert_int_equal(code, -ENOSPC);
			assert_non_null(strstr(err.text, "no subnet is free in 10.5.0.0/24"));
			assert_false(ip_net_is_set(&subnet[IP_V4]));
		} else {
			assert_int_equal(code, 0);
			assert_true(claim_fits(&claim.conf, subnet));
			lease_format_key(subnet, key);
			if (*cases[i].want && strcmp(key, cases[i].want))
				fail_msg("case %zu: chose %s", i, key);
		}
		peers_free(peers);
		netconf_done(&claim.conf);
	}
}

/* The wish holds per family: where one is taken, the other stays. */
static void test_choose_half(void **state)
{
	const struct record records[] = {{"10.5.9.0-24", "192.0.2.2", NULL, 9}};
	struct claim claim = {.conf = make_conf(DUAL)};
	struct peers *peers = make_peers(records, 1);
	struct ip_net wish[IP_FAMILY_COUNT], subnet[IP_FAMILY_COUNT];

	(void)state;
	subnet_of("10.5.9.0-24&fc00:0:0:9::-64", wish);
	assert_int_equal(claim_choose(&claim, peers, wish, subnet, NULL), 0);
	assert_true(claim_fits(&claim.conf, subnet));
	assert_false(ip_net_equal(&subnet[IP_V4], &wish[IP_V4]));
	assert_true(ip_net_equal(&subnet[IP_V6], &wish[IP_V6]));
	peers_free(peers);
	netconf_done(&claim.conf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_copy),        cmocka_unit_test(test_fits),
		cmocka_unit_test(test_find),        cmocka_unit_test(test_choose),
		cmocka_unit_test(test_choose_half),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
