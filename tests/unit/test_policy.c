/* SPDX-License-Identifier: Apache-2.0 */
/* test_policy.c - the decisions, in their order, and what they decide about flows */
#include "rules/policy.h"

#include "base/mem.h"
#include "messages.h"

#include <stdio.h>

static struct policy both(void)
{
	struct policy policy = {.masquerade = true, .fully_random = true, .forward = true};

	policy.network[IP_V4] = messages_net("10.5.0.0/16");
	policy.subnet[IP_V4] = messages_net("10.5.1.0/24");
	policy.network[IP_V6] = messages_net("fc00:5::/48");
	policy.subnet[IP_V6] = messages_net("fc00:5:0:1::/64");
	return policy;
}

/* A decision in the words of iptables, as far as it has some. */
static size_t describe(const struct policy_decision *d, char *buf, size_t size)
{
	static const char *const verdicts[POLICY_VERDICT_COUNT] = {"RETURN", "MASQ", "RANDOM",
								   "ACCEPT"};
	char s[IP_NET_STRLEN], t[IP_NET_STRLEN], mark[16];

	(void)snprintf(mark, sizeof(mark), "mark %#x ", d->mark);
	return (size_t)snprintf(
		buf, size, "%s%s%s%s%s%s%s%s%s%s%s\n", d->mark ? mark : "",
		d->leaves_as_own ? "own " : "", d->source.except ? "! " : "",
		ip_net_is_set(&d->source.net) ? "-s " : "",
		ip_net_is_set(&d->source.net) ? ip_net_format(&d->source.net, s) : "",
		ip_net_is_set(&d->source.net) ? " " : "", d->destination.except ? "! " : "",
		ip_net_is_set(&d->destination.net) ? "-d " : "",
		ip_net_is_set(&d->destination.net) ? ip_net_format(&d->destination.net, t) : "",
		ip_net_is_set(&d->destination.net) ? " " : "", verdicts[d->verdict]);
}

typedef size_t (*decide_fn)(const struct policy *policy, enum ip_family family,
			    struct policy_decision ret_decision[POLICY_DECISIONS_MAX]);

static void assert_decisions(decide_fn decide, const struct policy *policy, enum ip_family family,
			     const char *expected)
{
	struct policy_decision decision[POLICY_DECISIONS_MAX];
	size_t n = decide(policy, family, decision), at = 0;
	char text[4096] = "";

	for (size_t i = 0; i < n; i++)
		at += describe(&decision[i], text + at, sizeof(text) - at);
	assert_string_equal(text, expected);
}

static void test_masquerade(void **state)
{
	struct policy policy = both();

	(void)state;
	assert_decisions(policy_masquerade, &policy, IP_V4,
			 "mark 0x4000 RETURN\n"
			 "-s 10.5.1.0/24 -d 10.5.0.0/16 RETURN\n"
			 "-s 10.5.0.0/16 -d 10.5.1.0/24 RETURN\n"
			 "! -s 10.5.0.0/16 -d 10.5.1.0/24 RETURN\n"
			 "-s 10.5.0.0/16 ! -d 224.0.0.0/4 RANDOM\n"
			 "own ! -s 10.5.0.0/16 -d 10.5.0.0/16 RETURN\n"
			 "! -s 10.5.0.0/16 -d 10.5.0.0/16 RANDOM\n");
	policy.fully_random = false;
	assert_decisions(policy_masquerade, &policy, IP_V6,
			 "mark 0x4000 RETURN\n"
			 "-s fc00:5:0:1::/64 -d fc00:5::/48 RETURN\n"
			 "-s fc00:5::/48 -d fc00:5:0:1::/64 RETURN\n"
			 "! -s fc00:5::/48 -d fc00:5:0:1::/64 RETURN\n"
			 "-s fc00:5::/48 ! -d ff00::/8 MASQ\n"
			 "own ! -s fc00:5::/48 -d fc00:5::/48 RETURN\n"
			 "! -s fc00:5::/48 -d fc00:5::/48 MASQ\n");
}

static void test_keep(void **state)
{
	struct policy policy = both();

	(void)state;
	policy.keep[policy.n_keep++] = messages_net("192.168.7.9/16"); /* host bits are cleared */
	policy.keep[policy.n_keep++] = messages_net("2001:db8::/32");
	policy.keep[policy.n_keep++] = messages_net("0.0.0.0/0");
	assert_decisions(policy_masquerade, &policy, IP_V4,
			 "mark 0x4000 RETURN\n"
			 "-s 10.5.1.0/24 -d 10.5.0.0/16 RETURN\n"
			 "-s 10.5.0.0/16 -d 10.5.1.0/24 RETURN\n"
			 "! -s 10.5.0.0/16 -d 10.5.1.0/24 RETURN\n"
			 "-s 10.5.0.0/16 -d 192.168.0.0/16 RETURN\n"
			 "-s 10.5.0.0/16 RETURN\n"
			 "-s 10.5.0.0/16 ! -d 224.0.0.0/4 RANDOM\n"
			 "own ! -s 10.5.0.0/16 -d 10.5.0.0/16 RETURN\n"
			 "! -s 10.5.0.0/16 -d 10.5.0.0/16 RANDOM\n");
	/* As many as there may be. */
	for (policy.n_keep = 0; policy.n_keep < POLICY_KEEP_MAX; policy.n_keep++)
		policy.keep[policy.n_keep] = messages_net("192.0.2.0/24");
	assert_int_equal(policy_masquerade(&policy, IP_V4,
					   (struct policy_decision[POLICY_DECISIONS_MAX]){{0}}),
			 POLICY_KEEP_MAX + 7);
}

static void test_forward(void **state)
{
	struct policy policy = both();

	(void)state;
	assert_decisions(policy_forward, &policy, IP_V4,
			 "-s 10.5.0.0/16 ACCEPT\n-d 10.5.0.0/16 ACCEPT\n");
	assert_decisions(policy_forward, &policy, IP_V6,
			 "-s fc00:5::/48 ACCEPT\n-d fc00:5::/48 ACCEPT\n");
}

static void test_old_flannel(void **state)
{
	struct policy_decision decision[POLICY_DECISIONS_MAX];
	struct policy policy = both(), elsewhere;

	(void)state;
	assert_decisions(policy_old_masquerade, &policy, IP_V4,
			 "-s 10.5.0.0/16 -d 10.5.0.0/16 RETURN\n"
			 "-s 10.5.0.0/16 ! -d 224.0.0.0/4 MASQ\n"
			 "! -s 10.5.0.0/16 -d 10.5.1.0/24 RETURN\n"
			 "! -s 10.5.0.0/16 -d 10.5.0.0/16 MASQ\n");
	policy.masquerade = false;
	assert_decisions(policy_old_masquerade, &policy, IP_V4, "");
	elsewhere = policy;
	elsewhere.masquerade_elsewhere = true;
	assert_false(policy_equal(&policy, &elsewhere));
	assert_decisions(policy_masquerade, &elsewhere, IP_V4, "");
	assert_int_equal(policy_old_masquerade(&elsewhere, IP_V4, decision), 4);
	policy = both();
	policy.subnet[IP_V6] = (struct ip_net){0};
	assert_decisions(policy_old_masquerade, &policy, IP_V6, "");
}

static void test_nothing(void **state)
{
	struct policy policy = both();

	(void)state;
	policy.subnet[IP_V4] = (struct ip_net){0}; /* must not become "any" */
	assert_decisions(policy_masquerade, &policy, IP_V4, "");
	policy = both();
	policy.network[IP_V4] = (struct ip_net){0};
	assert_decisions(policy_masquerade, &policy, IP_V4, "");
	assert_decisions(policy_forward, &policy, IP_V4, "");
	policy = both();
	policy.masquerade = policy.forward = false;
	assert_decisions(policy_masquerade, &policy, IP_V6, "");
	assert_decisions(policy_forward, &policy, IP_V6, "");
	policy = (struct policy){.masquerade = true, .forward = true};
	assert_decisions(policy_masquerade, &policy, IP_V4, "");
	assert_decisions(policy_forward, &policy, IP_V6, "");
}

struct flow {
	const char *source, *destination;
	uint32_t mark;
	bool own; /* the source is an address of the outgoing interface */
};

static bool side_matches(const struct policy_side *side, const char *ip)
{
	struct ip address = messages_ip(ip);

	return !ip_net_is_set(&side->net) || ip_net_contains(&side->net, &address) != side->except;
}

/* What the first decision that matches says; RETURN when none does. */
static enum policy_verdict judge(const struct policy *policy, const struct flow *flow)
{
	struct policy_decision decision[POLICY_DECISIONS_MAX];
	size_t n = policy_masquerade(policy, IP_V4, decision);

	for (size_t i = 0; i < n; i++)
		if ((flow->mark & decision[i].mark) == decision[i].mark &&
		    (!decision[i].leaves_as_own || flow->own) &&
		    side_matches(&decision[i].source, flow->source) &&
		    side_matches(&decision[i].destination, flow->destination))
			return decision[i].verdict;
	return POLICY_RETURN;
}

static void test_flows(void **state)
{
	static const struct {
		const char *what;
		struct flow flow;
		enum policy_verdict verdict;
	} rows[] = {
		{"pod to pod here", {"10.5.1.2", "10.5.1.3", 0, false}, POLICY_RETURN},
		{"pod to pod there", {"10.5.1.2", "10.5.2.2", 0, false}, POLICY_RETURN},
		{"pod there to pod here", {"10.5.2.2", "10.5.1.2", 0, false}, POLICY_RETURN},
		{"outside to pod here", {"192.0.2.7", "10.5.1.2", 0, false}, POLICY_RETURN},
		{"pod to outside", {"10.5.1.2", "192.0.2.7", 0, false}, POLICY_MASQUERADE_RANDOM},
		{"pod to kept network", {"10.5.1.2", "198.51.100.7", 0, false}, POLICY_RETURN},
		{"pod to a group", {"10.5.1.2", "224.0.0.5", 0, false}, POLICY_RETURN},
		{"host to pod there",
		 {"192.0.2.1", "10.5.2.2", 0, false},
		 POLICY_MASQUERADE_RANDOM},
		{"host by its tunnel", {"172.16.0.1", "10.5.2.2", 0, true}, POLICY_RETURN},
		{"host to outside", {"192.0.2.1", "192.0.2.7", 0, false}, POLICY_RETURN},
		{"kube-proxy's mark", {"192.0.2.1", "10.5.2.2", 0x4000, false}, POLICY_RETURN},
		{"with other bits", {"192.0.2.1", "10.5.2.2", 0xc001, false}, POLICY_RETURN},
		{"only other bits",
		 {"192.0.2.1", "10.5.2.2", 0x8001, false},
		 POLICY_MASQUERADE_RANDOM},
	};
	struct policy policy = both();

	(void)state;
	policy.keep[policy.n_keep++] = messages_net("198.51.100.0/24");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (judge(&policy, &rows[i].flow) != rows[i].verdict)
			fail_msg("%s: not verdict %d", rows[i].what, rows[i].verdict);
}

static void test_equal(void **state)
{
	struct policy a = both(), b = both();

	(void)state;
	assert_true(policy_equal(&a, &b));
	b.masquerade = false;
	assert_false(policy_equal(&a, &b));
	b = both();
	b.fully_random = false;
	assert_false(policy_equal(&a, &b));
	b = both();
	b.forward = false;
	assert_false(policy_equal(&a, &b));
	b = both();
	b.subnet[IP_V6] = messages_net("fc00:5:0:2::/64");
	assert_false(policy_equal(&a, &b));
	b = both();
	b.network[IP_V4] = messages_net("10.4.0.0/15");
	assert_false(policy_equal(&a, &b));
	b = both();
	b.keep[b.n_keep++] = messages_net("192.0.2.0/24");
	assert_false(policy_equal(&a, &b));
	a.keep[a.n_keep++] = messages_net("192.0.2.0/25");
	assert_false(policy_equal(&a, &b));
	a.keep[0] = b.keep[0];
	assert_true(policy_equal(&a, &b));
	/* What lies behind the last one does not count. */
	a.keep[5] = messages_net("192.0.2.0/25");
	assert_true(policy_equal(&a, &b));
}

static void test_stands_before(void **state)
{
	static const struct {
		const char *chain;
		bool before;
	} rows[] = {
		{"DOCKER-USER", true},
		{"KUBE-FORWARD", true},
		{"KUBE-ROUTER-FORWARD", true},
		{"cali-FORWARD", true},
		{"CILIUM_FORWARD", true},
		{"WEAVE-NPC", true},
		{"WEAVE-NPC-EGRESS", true},
		{"DOCKER-ISOLATION-STAGE-1", true},
		{"DOCKER-ISOLATION", true},
		{"DOCKER-USERS", false},
		{"DOCKER-FORWARD", false},
		{"DOCKER", false},
		{"ufw-before-forward", false},
		{"FLANNEL-FWD", false},
		{"kube-", false},
		{"", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (policy_stands_before(rows[i].chain) != rows[i].before)
			fail_msg("%s", rows[i].chain);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_masquerade), cmocka_unit_test(test_keep),
		cmocka_unit_test(test_forward),    cmocka_unit_test(test_old_flannel),
		cmocka_unit_test(test_nothing),    cmocka_unit_test(test_flows),
		cmocka_unit_test(test_equal),      cmocka_unit_test(test_stands_before),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
