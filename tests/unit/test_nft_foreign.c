/* SPDX-License-Identifier: Apache-2.0 */
/* test_nft_foreign.c - our rules among those of Docker, firewalld and iptables-nft, in a kernel */
#include "rules/nft_foreign.h"

#include "base/mem.h"
#include "rulesets.h"

#define COMMENT "-m comment --comment \"flanneld forward\""

/* As Docker leaves it. */
#define DOCKER                                                                                     \
	"*filter\n"                                                                                \
	":FORWARD DROP [0:0]\n"                                                                    \
	":DOCKER - [0:0]\n"                                                                        \
	":DOCKER-USER - [0:0]\n"                                                                   \
	":KUBE-FORWARD - [0:0]\n"                                                                  \
	"-A FORWARD -j DOCKER-USER\n"                                                              \
	"-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"             \
	"-A FORWARD -o docker0 -j DOCKER\n"                                                        \
	"-A DOCKER-USER -j RETURN\n"                                                               \
	"COMMIT\n"
#define OURS_V4                                                                                    \
	"-A FORWARD -s 10.5.0.0/16 " COMMENT " -j ACCEPT\n"                                        \
	"-A FORWARD -d 10.5.0.0/16 " COMMENT " -j ACCEPT\n"
#define REST                                                                                       \
	"-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n"             \
	"-A FORWARD -o docker0 -j DOCKER\n"

/* A new namespace, with Docker's rules where there is iptables. */
static bool have_docker(const char *restore)
{
	if (system("command -v iptables-nft-restore >/dev/null"))
		return false;
	rulesets_feed(restore, DOCKER);
	return true;
}

static bool ensure(enum nft_foreign_chain which, const struct policy *policy)
{
	enum nft_foreign_outcome outcome;
	struct err err;

	if (nft_foreign_ensure(which, policy, &outcome, &err))
		fail_msg("%s", err.text);
	return outcome == NFT_FOREIGN_CHANGED;
}

/* The chain as iptables-nft sees it: it must be able to, whatever we have put there. */
static const char *forward(void)
{
	return rulesets_output("iptables-nft-save -t filter | grep '^-A FORWARD'");
}

static void test_no_chain(void **state)
{
	struct policy policy = rulesets_policy();

	(void)state;
	for (unsigned i = 0; i < NFT_FOREIGN_COUNT; i++)
		assert_false(ensure((enum nft_foreign_chain)i, &policy));
	assert_string_equal(rulesets_output("nft list ruleset"), "");
}

static void test_docker(void **state)
{
	struct policy policy = rulesets_policy();

	(void)state;
	if (!have_docker("iptables-nft-restore"))
		skip();
	assert_true(ensure(NFT_FOREIGN_IPTABLES, &policy));
	assert_string_equal(forward(), "-A FORWARD -j DOCKER-USER\n" OURS_V4 REST);
	assert_false(ensure(NFT_FOREIGN_IPTABLES, &policy));
	/* What saves and restores the host's rules gives ours another kind of comment. */
	rulesets_run("iptables-nft-save | iptables-nft-restore");
	assert_non_null(strstr(rulesets_output("nft -j list chain ip filter FORWARD"),
			       "{\"xt\": {\"type\": \"match\", \"name\": \"comment\"}}"));
	assert_false(ensure(NFT_FOREIGN_IPTABLES, &policy));
	assert_true(ensure(NFT_FOREIGN_IPTABLES, NULL));
	assert_string_equal(forward(), "-A FORWARD -j DOCKER-USER\n" REST);
	assert_false(ensure(NFT_FOREIGN_IPTABLES, NULL));
	policy.forward = false;
	assert_false(ensure(NFT_FOREIGN_IPTABLES, &policy));
}

static void test_ip6tables(void **state)
{
	struct policy policy = rulesets_policy();

	(void)state;
	if (!have_docker("ip6tables-nft-restore"))
		skip();
	assert_true(ensure(NFT_FOREIGN_IP6TABLES, &policy));
	assert_string_equal(rulesets_output("ip6tables-nft-save -t filter | grep '^-A FORWARD'"),
			    "-A FORWARD -j DOCKER-USER\n"
			    "-A FORWARD -s fc00:5::/48 " COMMENT " -j ACCEPT\n"
			    "-A FORWARD -d fc00:5::/48 " COMMENT " -j ACCEPT\n" REST);
	assert_false(ensure(NFT_FOREIGN_IP6TABLES, &policy));
}

/* What others do to the chain, and how it is when we have seen to it. */
static void test_repair(void **state)
{
	static const struct {
		const char *damage, *repaired; /* NULL: nothing is to be done */
	} rows[] = {
		{"iptables-nft -D FORWARD 2", "-A FORWARD -j DOCKER-USER\n" OURS_V4 REST},
		{"iptables-nft -D FORWARD 3", "-A FORWARD -j DOCKER-USER\n" OURS_V4 REST},
		{"iptables-nft -F FORWARD", OURS_V4},
		{"iptables-nft -D FORWARD -j DOCKER-USER", NULL},
		/* Doubled, by either tool. */
		{"iptables-nft -A FORWARD -s 10.5.0.0/16 " COMMENT " -j ACCEPT",
		 "-A FORWARD -j DOCKER-USER\n" OURS_V4 REST},
		{"nft 'add rule ip filter FORWARD ip daddr 10.5.0.0/16 counter accept comment "
		 "\"flanneld forward\"'",
		 "-A FORWARD -j DOCKER-USER\n" OURS_V4 REST},
		/* Of a network that was, and of another shape. */
		{"nft 'insert rule ip filter FORWARD ip saddr 10.4.0.0/16 counter accept comment "
		 "\"flanneld forward\"'",
		 "-A FORWARD -j DOCKER-USER\n" OURS_V4 REST},
		{"iptables-nft -R FORWARD 2 -s 10.5.0.0/16 -i eth9 " COMMENT " -j ACCEPT",
		 "-A FORWARD -j DOCKER-USER\n" OURS_V4 REST},
		{"iptables-nft -R FORWARD 2 -s 10.5.0.0/16 " COMMENT " -j DROP",
		 "-A FORWARD -j DOCKER-USER\n" OURS_V4 REST},
		/* In another order. */
		{"iptables-nft -D FORWARD 2 && iptables-nft -I FORWARD 3 -s 10.5.0.0/16 " COMMENT
		 " -j ACCEPT",
		 "-A FORWARD -j DOCKER-USER\n" OURS_V4 REST},
		/* Rules of others before, between and behind ours. */
		{"iptables-nft -I FORWARD -j DROP",
		 OURS_V4 "-A FORWARD -j DROP\n-A FORWARD -j DOCKER-USER\n" REST},
		{"iptables-nft -I FORWARD 3 -j DROP",
		 "-A FORWARD -j DOCKER-USER\n" OURS_V4 "-A FORWARD -j DROP\n" REST},
		{"iptables-nft -I FORWARD 4 -j DROP", NULL},
		{"iptables-nft -A FORWARD -j DROP", NULL},
		/* Docker's and kube-proxy's jumps come to the top, where they may be ... */
		{"iptables-nft -I FORWARD -m conntrack --ctstate NEW -j KUBE-FORWARD", NULL},
		{"iptables-nft -I FORWARD 2 -j KUBE-FORWARD", NULL},
		/* ... and ours are put behind those that would miss something. */
		{"iptables-nft -I FORWARD 4 -j KUBE-FORWARD",
		 "-A FORWARD -j DOCKER-USER\n-A FORWARD -j KUBE-FORWARD\n" OURS_V4 REST},
		{"iptables-nft -D FORWARD 1 && iptables-nft -I FORWARD 3 -j DOCKER-USER",
		 "-A FORWARD -j DOCKER-USER\n" OURS_V4 REST},
		{"iptables-nft -A FORWARD -j KUBE-FORWARD", NULL},
		/* Somebody else's opinion of our network is his own. */
		{"iptables-nft -A FORWARD -s 10.5.0.0/16 -m comment --comment mine -j ACCEPT",
		 NULL},
	};
	struct policy policy = rulesets_policy();

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(rulesets_new_namespace(state), 0);
		if (!have_docker("iptables-nft-restore"))
			skip();
		assert_true(ensure(NFT_FOREIGN_IPTABLES, &policy));
		rulesets_run(rows[i].damage);
		if (ensure(NFT_FOREIGN_IPTABLES, &policy) != !!rows[i].repaired)
			fail_msg("%s: %s", rows[i].damage, forward());
		if (rows[i].repaired && strcmp(forward(), rows[i].repaired))
			fail_msg("%s: %s", rows[i].damage, forward());
		if (ensure(NFT_FOREIGN_IPTABLES, &policy))
			fail_msg("%s: not settled: %s", rows[i].damage, forward());
	}
}

/* Prefixes that nft writes in other ways. */
static void test_prefixes(void **state)
{
	static const char *const networks[] = {"10.0.0.0/8", "10.128.0.0/9", "192.0.2.7/32",
					       "10.5.1.128/25"};
	struct policy policy = rulesets_policy();

	(void)state;
	rulesets_run("nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; "
		     "policy drop; }; }'");
	for (size_t i = 0; i < ARRAY_SIZE(networks); i++) {
		policy.network[IP_V4] = messages_net(networks[i]);
		assert_true(ensure(NFT_FOREIGN_IPTABLES, &policy));
		assert_non_null(strstr(rulesets_output("nft list ruleset"), "flanneld forward"));
		if (ensure(NFT_FOREIGN_IPTABLES, &policy))
			fail_msg("%s is not settled", networks[i]);
	}
}

#define FIREWALLD                                                                                  \
	"table inet firewalld {\n"                                                                 \
	"\tchain filter_FORWARD {\n"                                                               \
	"\t\ttype filter hook forward priority filter + 10; policy accept;\n"

static void test_firewalld(void **state)
{
	struct policy policy = rulesets_policy();

	(void)state;
	rulesets_feed("nft -f -", FIREWALLD "ct state established,related accept\n"
					    "reject with icmpx admin-prohibited\n}\n}\n");
	assert_true(ensure(NFT_FOREIGN_FIREWALLD, &policy));
	assert_string_equal(
		rulesets_output("nft -s list table inet firewalld"),
		FIREWALLD "\t\tip saddr 10.5.0.0/16 counter accept comment \"flanneld forward\"\n"
			  "\t\tip daddr 10.5.0.0/16 counter accept comment \"flanneld forward\"\n"
			  "\t\tip6 saddr fc00:5::/48 counter accept comment \"flanneld forward\"\n"
			  "\t\tip6 daddr fc00:5::/48 counter accept comment \"flanneld forward\"\n"
			  "\t\tct state established,related accept\n"
			  "\t\treject with icmpx admin-prohibited\n"
			  "\t}\n}\n");
	assert_false(ensure(NFT_FOREIGN_FIREWALLD, &policy));
	policy.network[IP_V6] = (struct ip_net){0};
	assert_true(ensure(NFT_FOREIGN_FIREWALLD, &policy));
	assert_null(strstr(rulesets_output("nft list ruleset"), "ip6 saddr"));
	assert_true(ensure(NFT_FOREIGN_FIREWALLD, NULL));
	assert_string_equal(rulesets_output("nft -s list table inet firewalld"),
			    FIREWALLD "\t\tct state established,related accept\n"
				      "\t\treject with icmpx admin-prohibited\n"
				      "\t}\n}\n");
}

/* ---- iptables-nft's leavings ---- */

#define OTHERS_FILTER ":FORWARD ACCEPT [0:0]\n:user - [0:0]\n"
#define OTHERS_NAT    ":POSTROUTING ACCEPT [0:0]\n:FLANNEL-ISH - [0:0]\n"
#define OTHERS_NAT_RULES                                                                           \
	"-A POSTROUTING -o docker0 -j MASQUERADE\n-A POSTROUTING -j FLANNEL-ISH\n"                 \
	"-A POSTROUTING -m comment --comment \"not flanneld masq\" -j RETURN\n"
#define MASQ "-m comment --comment \"flanneld masq\""

static bool sweep(enum ip_family family)
{
	struct policy policy = rulesets_policy();
	bool changed = false;
	struct err err;

	if (nft_foreign_sweep(family, &policy, &changed, &err))
		fail_msg("%s", err.text);
	return changed;
}

static void fill(const char *restore)
{
	rulesets_feed(restore,
		      "*filter\n" OTHERS_FILTER ":FLANNEL-FWD - [0:0]\n"
		      "-A FORWARD " COMMENT " -j FLANNEL-FWD\n"
		      "-A FORWARD -j user\n"
		      "-A user -g FLANNEL-FWD\n"
		      "-A user -o x " COMMENT " -j ACCEPT\n"
		      "-A user -o y -j ACCEPT\n"
		      "-A FLANNEL-FWD -o z " COMMENT " -j ACCEPT\n"
		      "COMMIT\n"
		      "*nat\n" OTHERS_NAT ":FLANNEL-POSTRTG - [0:0]\n"
		      "-A POSTROUTING -o docker0 -j MASQUERADE\n"
		      "-A POSTROUTING -j FLANNEL-ISH\n"
		      "-A POSTROUTING " MASQ " -j FLANNEL-POSTRTG\n"
		      "-A POSTROUTING -m comment --comment \"not flanneld masq\" -j RETURN\n"
		      "-A POSTROUTING -o old " MASQ " -j MASQUERADE\n"
		      "-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 " MASQ " -j RETURN\n"
		      "-A FLANNEL-POSTRTG -o z " MASQ " -j MASQUERADE --random-fully\n"
		      "COMMIT\n");
}

static void test_sweep(void **state)
{
	(void)state;
	if (!have_docker("iptables-nft-restore"))
		skip();
	assert_int_equal(rulesets_new_namespace(state), 0);
	assert_false(sweep(IP_V4));
	fill("iptables-nft-restore");
	fill("ip6tables-nft-restore");
	/* nft that knows none of iptables' extensions, as on a host without it. */
	assert_int_equal(setenv("XTABLES_LIBDIR", "/nonexistent", 1), 0);
	assert_true(sweep(IP_V4));
	assert_false(sweep(IP_V4));
	assert_int_equal(unsetenv("XTABLES_LIBDIR"), 0);
	assert_string_equal(rulesets_output("iptables-nft-save -t filter | grep -e ^- -e FLANNEL"),
			    "-A FORWARD -j user\n-A user -o y -j ACCEPT\n");
	assert_string_equal(rulesets_output("iptables-nft-save -t nat | grep -e ^- -e FLANNEL"),
			    ":FLANNEL-ISH - [0:0]\n" OTHERS_NAT_RULES);
	assert_non_null(strstr(rulesets_output("ip6tables-nft-save"), "FLANNEL-FWD"));
	assert_true(sweep(IP_V6));
	assert_null(strstr(rulesets_output("ip6tables-nft-save"), "FLANNEL-FWD"));
	assert_false(sweep(IP_V6));
}

/* Rules of a flannel that had no chains of its own. */
static void test_sweep_without_chains(void **state)
{
	struct policy policy = rulesets_policy();

	(void)state;
	if (!have_docker("iptables-nft-restore"))
		skip();
	rulesets_feed("iptables-nft-restore --noflush",
		      "*filter\n-A FORWARD -s 10.5.0.0/16 " COMMENT " -j ACCEPT\nCOMMIT\n"
		      "*nat\n:POSTROUTING ACCEPT [0:0]\n"
		      "-A POSTROUTING -s 10.5.0.0/16 ! -d 224.0.0.0/4 " MASQ " -j MASQUERADE\n"
		      "-A POSTROUTING -j ACCEPT\nCOMMIT\n");
	/* In FORWARD they are in the hands of the other one. */
	assert_true(ensure(NFT_FOREIGN_IPTABLES, &policy));
	assert_true(sweep(IP_V4));
	assert_string_equal(forward(), "-A FORWARD -j DOCKER-USER\n" OURS_V4 REST);
	assert_string_equal(rulesets_output("iptables-nft-save -t nat | grep ^-"),
			    "-A POSTROUTING -j ACCEPT\n");
	assert_false(ensure(NFT_FOREIGN_IPTABLES, &policy));
	assert_false(sweep(IP_V4));
}

#define OLD_FLANNEL(c, p, group, randomness)                                                       \
	"*nat\n:POSTROUTING ACCEPT [0:0]\n"                                                        \
	"-A POSTROUTING -s " c " -d " c " -j RETURN\n"                                             \
	"-A POSTROUTING -s " c " ! -d " group " -j MASQUERADE" randomness "\n"                     \
	"-A POSTROUTING ! -s " c " -d " p " -j RETURN\n"                                           \
	"-A POSTROUTING ! -s " c " -d " c " -j MASQUERADE" randomness "\nCOMMIT\n"                 \
	"*filter\n:FORWARD ACCEPT [0:0]\n"                                                         \
	"-A FORWARD -s " c " -j ACCEPT\n-A FORWARD -d " c " -j ACCEPT\nCOMMIT\n"

/* Nothing that the old flannel would have made for 10.5.0.0/16 and 10.5.1.0/24. */
#define NEARLY_NAT                                                                                 \
	"-A POSTROUTING -s 10.5.0.0/17 -d 10.5.0.0/17 -j RETURN\n"                                 \
	"-A POSTROUTING -s 10.5.0.0/16 -d 10.6.0.0/16 -j RETURN\n"                                 \
	"-A POSTROUTING ! -s 10.5.0.0/16 -d 10.5.2.0/24 -j RETURN\n"                               \
	"-A POSTROUTING -s 10.5.0.0/16 ! -d 10.5.0.0/16 -j MASQUERADE\n"                           \
	"-A POSTROUTING -s 10.5.0.0/16 -j MASQUERADE\n"                                            \
	"-A POSTROUTING -s 10.5.0.0/16 ! -d 224.0.0.0/4 -o eth0 -j MASQUERADE\n"                   \
	"-A POSTROUTING -s 10.5.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE --random\n"                  \
	"-A POSTROUTING ! -s 10.5.0.0/16 -d 10.5.0.0/16 -p tcp -j MASQUERADE --to-ports 1024\n"    \
	"-A POSTROUTING -s 10.5.0.0/16 ! -d 224.0.0.0/4 -j SNAT --to-source 192.0.2.1\n"           \
	"-A POSTROUTING -s 10.5.0.0/16 ! -d 224.0.0.0/4 -m comment --comment mine -j "             \
	"MASQUERADE\n"                                                                             \
	"-A POSTROUTING -s 10.5.0.0/16 -d 10.5.0.0/16 -j ACCEPT\n"                                 \
	"-A mine -s 10.5.0.0/16 -d 10.5.0.0/16 -j RETURN\n"
#define NEARLY_FILTER                                                                              \
	"-A FORWARD -s 10.5.0.0/16 -j DROP\n"                                                      \
	"-A FORWARD ! -s 10.5.0.0/16 -j ACCEPT\n"                                                  \
	"-A FORWARD -s 10.5.0.0/16 -d 10.5.0.0/16 -j ACCEPT\n"                                     \
	"-A FORWARD -s 10.5.0.0/16 -i cni0 -j ACCEPT\n"                                            \
	"-A FORWARD -s 10.5.1.0/24 -j ACCEPT\n"                                                    \
	"-A FORWARD -s 10.5.0.0/16 -m comment --comment mine -j ACCEPT\n"                          \
	"-A mine -s 10.5.0.0/16 -j ACCEPT\n"

static void assert_nearly_alone(void)
{
	assert_string_equal(rulesets_output("iptables-nft-save -t nat | grep ^-"), NEARLY_NAT);
	assert_string_equal(rulesets_output("iptables-nft-save -t filter | grep ^-"),
			    NEARLY_FILTER);
}

/* Before v0.12 rules had neither chains nor comments. */
static void test_sweep_old_flannel(void **state)
{
	static const char *const laid[] = {
		OLD_FLANNEL("10.5.0.0/16", "10.5.1.0/24", "224.0.0.0/4", " --random-fully"),
		OLD_FLANNEL("10.5.0.0/16", "10.5.1.0/24", "224.0.0.0/4", ""),
	};

	(void)state;
	if (!have_docker("iptables-nft-restore"))
		skip();
	assert_int_equal(rulesets_new_namespace(state), 0);
	rulesets_feed("iptables-nft-restore",
		      "*nat\n:POSTROUTING ACCEPT [0:0]\n:mine - [0:0]\n" NEARLY_NAT "COMMIT\n"
		      "*filter\n:FORWARD ACCEPT [0:0]\n:mine - [0:0]\n" NEARLY_FILTER "COMMIT\n");
	/* Written by hand in nftables: it counts nothing. */
	rulesets_run("nft add rule ip filter FORWARD ip saddr 10.5.0.0/16 accept");
	assert_false(sweep(IP_V4));
	rulesets_run("nft delete rule ip filter FORWARD handle $(nft -a list chain ip filter "
		     "FORWARD | sed -n 's/.*10.5.0.0.16 accept # handle //p')");
	for (size_t i = 0; i < ARRAY_SIZE(laid); i++) {
		rulesets_feed("iptables-nft-restore --noflush", laid[i]);
		assert_int_equal(setenv("XTABLES_LIBDIR", "/nonexistent", 1), 0);
		assert_true(sweep(IP_V4));
		assert_false(sweep(IP_V4));
		assert_int_equal(unsetenv("XTABLES_LIBDIR"), 0);
		assert_nearly_alone();
	}
	rulesets_feed("ip6tables-nft-restore",
		      OLD_FLANNEL("fc00:5::/48", "fc00:5:0:1::/64", "ff00::/8", " --random-fully"));
	assert_true(sweep(IP_V6));
	assert_false(sweep(IP_V6));
	assert_string_equal(rulesets_output("ip6tables-nft-save | grep ^- || :"), "");
}

/* Who wants no such rules knows nobody by them. */
static void test_sweep_old_flannel_by_policy(void **state)
{
	struct policy policy = rulesets_policy();
	const char *before;
	bool changed;

	(void)state;
	if (!have_docker("iptables-nft-restore"))
		skip();
	assert_int_equal(rulesets_new_namespace(state), 0);
	rulesets_feed("iptables-nft-restore",
		      OLD_FLANNEL("10.5.0.0/16", "10.5.1.0/24", "224.0.0.0/4", ""));
	before = strdup(rulesets_output("nft -s list ruleset"));
	assert_int_equal(nft_foreign_sweep(IP_V4, NULL, &changed, NULL), 0);
	assert_false(changed);
	policy.masquerade = policy.forward = false;
	assert_int_equal(nft_foreign_sweep(IP_V4, &policy, &changed, NULL), 0);
	assert_false(changed);
	assert_string_equal(rulesets_output("nft -s list ruleset"), before);
	free((void *)(uintptr_t)before);
	policy.forward = true;
	assert_int_equal(nft_foreign_sweep(IP_V4, &policy, &changed, NULL), 0);
	assert_true(changed);
	assert_string_equal(rulesets_output("iptables-nft-save -t filter | grep ^- || :"), "");
	assert_non_null(strstr(rulesets_output("iptables-nft-save -t nat"), "-j MASQUERADE"));
}

/* ---- blockers ---- */

static void test_blockers(void **state)
{
	char text[128], little[12];

	(void)state;
	assert_false(nft_foreign_blockers(text, sizeof(text)));
	assert_string_equal(text, "");
	rulesets_feed("nft -f -",
		      "table ip filter { chain FORWARD { type filter hook forward priority 0; "
		      "policy drop; }; }\n"
		      "table inet firewalld { chain filter_FORWARD { type filter hook forward "
		      "priority 0; policy drop; }; }\n"
		      "table ip calico { chain f { type filter hook forward priority 0; policy "
		      "drop; }; }\n"
		      "table ip flannel-ipv4 { chain forward { type filter hook forward priority "
		      "0; policy drop; }; }\n"
		      "table inet other { chain forward { type filter hook forward priority 0; "
		      "policy accept; }; chain input { type filter hook input priority 0; policy "
		      "drop; }; chain none { drop; }; }\n");
	assert_false(nft_foreign_blockers(text, sizeof(text)));
	assert_string_equal(text, "");
	rulesets_feed("nft -f -",
		      "table inet filter { chain forward { type filter hook forward priority 0; "
		      "policy drop; }; }\n"
		      "table ip6 mine { chain f { type filter hook forward priority 9; policy "
		      "drop; }; }\n");
	assert_true(nft_foreign_blockers(text, sizeof(text)));
	assert_string_equal(text, "inet filter forward, ip6 mine f");
	assert_true(nft_foreign_blockers(little, sizeof(little)));
	assert_string_equal(little, "inet filter");
}

static const struct {
	const char *family, *rules;
	bool accepts;
} owners[] = {
	{"ip", "ip saddr 10.5.0.0/16 accept; ip daddr 10.5.0.0/16 counter accept;", true},
	{"ip", "ip daddr 10.5.0.0/16 accept; ip saddr 10.5.0.0/16 accept comment \"x\";", true},
	{"ip", "ip saddr 10.5.0.0/16 accept;", false},
	{"ip", "ip saddr 10.5.0.0/16 accept; ip daddr 10.5.0.0/17 accept;", false},
	{"ip", "ip saddr 10.5.0.0/16 accept; ip daddr 10.5.0.0/16 drop;", false},
	{"ip", "ip saddr 10.5.0.0/16 accept; ip daddr 10.5.0.0/16 tcp dport 1 accept;", false},
	{"ip6", "ip6 saddr fc00:5::/48 accept; ip6 daddr fc00:5::/48 accept;", true},
	{"ip6", "ip6 saddr fc00:5::/48 accept;", false},
	{"inet", "ip saddr 10.5.0.0/16 accept; ip daddr 10.5.0.0/16 accept;", false},
	{"inet", "", false},
};

static void test_owners(void **state)
{
	const struct policy nothing = {.masquerade = true};
	struct policy policy = rulesets_policy();
	char text[512];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(owners); i++) {
		(void)snprintf(text, sizeof(text), "table %s mine { chain f { %s }; }\n",
			       owners[i].family, owners[i].rules);
		rulesets_feed("nft -f -", text);
		(void)snprintf(text, sizeof(text), "%s mine f", owners[i].family);
		if (nft_foreign_accepts(text, &policy) != owners[i].accepts)
			fail_msg("%s { %s }", text, owners[i].rules);
		assert_true(nft_foreign_accepts(text, &nothing));
		rulesets_run("nft flush ruleset");
	}
	assert_false(nft_foreign_accepts("ip no such", &policy));
}

/* ---- what is no listing, or one that nobody should have ---- */

static void assert_plans(const char *json, const char *forward_plan, const char *sweep_plan)
{
	_cleanup_free_ char *one = NULL, *two = NULL;
	struct policy policy = rulesets_policy();
	struct err err = {""};

	assert_int_equal(
		nft_foreign_plan(NFT_FOREIGN_IPTABLES, json, strlen(json), &policy, &one, &err),
		forward_plan ? 0 : -EINVAL);
	assert_int_equal(nft_foreign_plan_sweep(json, strlen(json), &policy, &two, &err),
			 sweep_plan ? 0 : -EINVAL);
	if (forward_plan)
		assert_string_equal(one, forward_plan);
	else
		assert_true(*err.text);
	if (sweep_plan)
		assert_string_equal(two, sweep_plan);
}

#define INSERTED                                                                                   \
	"insert rule ip filter FORWARD ip daddr 10.5.0.0/16 counter accept comment \"flanneld "    \
	"forward\"\n"                                                                              \
	"insert rule ip filter FORWARD ip saddr 10.5.0.0/16 counter accept comment \"flanneld "    \
	"forward\"\n"

static void test_strange_listings(void **state)
{
	(void)state;
	assert_plans("", NULL, NULL);
	assert_plans("[]", NULL, NULL);
	assert_plans("{}", NULL, NULL);
	assert_plans("{\"nftables\": 5}", NULL, NULL);
	assert_plans("{\"nftables\": [5, {\"rule\": []}, {\"rule\": {\"expr\": {}}}]}", INSERTED,
		     "");
	/* Names that would be commands; other tables; no handle. */
	assert_plans(
		"{\"nftables\": [{\"rule\": {\"family\": \"ip\", \"table\": \"nat\", \"chain\": "
		"\"a\\nflush ruleset\", \"handle\": 3, \"comment\": \"flanneld masq\"}},"
		"{\"rule\": {\"family\": \"ip\", \"table\": \"mangle\", \"chain\": \"x\", "
		"\"handle\": 3, \"comment\": \"flanneld masq\"}},"
		"{\"rule\": {\"family\": \"ip\", \"table\": \"nat\", \"chain\": \"x\", "
		"\"handle\": -3, \"comment\": \"flanneld masq\"}},"
		"{\"rule\": {\"family\": \"ip\", \"table\": \"nat\", \"chain\": \"x\", "
		"\"handle\": 7, \"comment\": \"flanneld masq\"}}]}",
		INSERTED, "delete rule ip nat x handle 7\n");
	/* The leading jump is the anchor. */
	assert_plans(
		"{\"nftables\": [{\"rule\": {\"family\": \"ip\", \"table\": \"filter\", \"chain\": "
		"\"FORWARD\", \"handle\": 9, \"expr\": [{\"jump\": {\"target\": "
		"\"KUBE-X\"}}]}}]}",
		"add rule ip filter FORWARD position 9 ip daddr 10.5.0.0/16 counter accept comment "
		"\"flanneld forward\"\n"
		"add rule ip filter FORWARD position 9 ip saddr 10.5.0.0/16 counter accept comment "
		"\"flanneld forward\"\n",
		"");
}

#define TEST(f) cmocka_unit_test_setup(f, rulesets_new_namespace)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_no_chain),
		TEST(test_docker),
		TEST(test_ip6tables),
		TEST(test_repair),
		TEST(test_prefixes),
		TEST(test_firewalld),
		TEST(test_sweep),
		TEST(test_sweep_without_chains),
		TEST(test_sweep_old_flannel),
		TEST(test_sweep_old_flannel_by_policy),
		TEST(test_blockers),
		TEST(test_owners),
		TEST(test_strange_listings),
	};

	if (!rulesets_can("nft list tables 2>/dev/null", "network namespaces with nftables"))
		return 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
