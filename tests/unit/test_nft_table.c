/* SPDX-License-Identifier: Apache-2.0 */
/* test_nft_table.c - our own tables: their text, and what a kernel makes of it */
#include "rules/nft_table.h"

#include "base/mem.h"
#include "rules/nft.h"
#include "rulesets.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void test_text(void **state)
{
	struct policy policy = rulesets_policy();
	_cleanup_free_ char *v4 = NULL, *v6 = NULL;

	(void)state;
	v4 = nft_table_render(&policy, IP_V4);
	assert_string_equal(
		v4,
		"add table ip flannel-ipv4\n"
		"delete table ip flannel-ipv4\n"
		"table ip flannel-ipv4 {\n"
		"\tcomment \"rules of flanneld\"\n"
		"\tchain postrtg {\n"
		"\t\ttype nat hook postrouting priority srcnat; policy accept;\n"
		"\t\tmeta mark & 0x4000 == 0x4000 counter return comment \"flanneld masq\"\n"
		"\t\tip saddr 10.5.1.0/24 ip daddr 10.5.0.0/16 counter return comment \"flanneld "
		"masq\"\n"
		"\t\tip saddr 10.5.0.0/16 ip daddr 10.5.1.0/24 counter return comment \"flanneld "
		"masq\"\n"
		"\t\tip saddr != 10.5.0.0/16 ip daddr 10.5.1.0/24 counter return comment "
		"\"flanneld masq\"\n"
		"\t\tip saddr 10.5.0.0/16 ip daddr != 224.0.0.0/4 counter masquerade fully-random "
		"comment \"flanneld masq\"\n"
		"\t\tfib saddr . oif type local ip saddr != 10.5.0.0/16 ip daddr 10.5.0.0/16 "
		"counter return comment \"flanneld masq\"\n"
		"\t\tip saddr != 10.5.0.0/16 ip daddr 10.5.0.0/16 counter masquerade fully-random "
		"comment \"flanneld masq\"\n"
		"\t}\n"
		"\tchain forward {\n"
		"\t\ttype filter hook forward priority filter; policy accept;\n"
		"\t\tip saddr 10.5.0.0/16 counter accept comment \"flanneld forward\"\n"
		"\t\tip daddr 10.5.0.0/16 counter accept comment \"flanneld forward\"\n"
		"\t}\n"
		"}\n");
	policy.masquerade = false;
	v6 = nft_table_render(&policy, IP_V6);
	assert_string_equal(
		v6, "add table ip6 flannel-ipv6\n"
		    "delete table ip6 flannel-ipv6\n"
		    "table ip6 flannel-ipv6 {\n"
		    "\tcomment \"rules of flanneld\"\n"
		    "\tchain forward {\n"
		    "\t\ttype filter hook forward priority filter; policy accept;\n"
		    "\t\tip6 saddr fc00:5::/48 counter accept comment \"flanneld forward\"\n"
		    "\t\tip6 daddr fc00:5::/48 counter accept comment \"flanneld forward\"\n"
		    "\t}\n"
		    "}\n");
}

static void test_text_of_nothing(void **state)
{
	struct policy policy = rulesets_policy();
	_cleanup_free_ char *off = NULL, *no_family = NULL;

	(void)state;
	policy.network[IP_V6] = (struct ip_net){0};
	no_family = nft_table_render(&policy, IP_V6);
	assert_string_equal(no_family,
			    "add table ip6 flannel-ipv6\ndelete table ip6 flannel-ipv6\n");
	policy.masquerade = policy.forward = false;
	off = nft_table_render(&policy, IP_V4);
	assert_string_equal(off, "add table ip flannel-ipv4\ndelete table ip flannel-ipv4\n");
}

static char *install(const struct policy *policy, enum ip_family family)
{
	char *listing = NULL;
	struct err err;

	if (nft_table_install(policy, family, &listing, &err))
		fail_msg("%s", err.text);
	return listing;
}

static size_t count(const char *text, const char *word)
{
	size_t n = 0;

	for (; (text = strstr(text, word)); text++)
		n++;
	return n;
}

/* As another flannel left them, with a chain of another shape under each of our names. */
#define OTHER_SHAPE                                                                                \
	"table ip flannel-ipv4 { comment \"rules for flannel-ipv4\"; chain postrtg { type nat "    \
	"hook "                                                                                    \
	"postrouting priority 90; meta mark 0x4000 return; }; chain forward { type nat hook "      \
	"output "                                                                                  \
	"priority 5; accept; }; chain stray { accept; }; set s { type ipv4_addr; }; }\n"

static void test_install(void **state)
{
	struct policy policy = rulesets_policy();

	(void)state;
	rulesets_feed("nft -f -", OTHER_SHAPE);
	IP_FOREACH_FAMILY (f) {
		_cleanup_free_ char *first = install(&policy, f), *second = NULL;

		assert_int_equal(count(first, "\tchain "), 2);
		assert_int_equal(count(first, "flanneld masq"), 7);
		assert_int_equal(count(first, "flanneld forward"), 2);
		assert_int_equal(count(first, "masquerade fully-random"), 2);
		assert_non_null(strstr(first, "meta mark & 0x00004000 == 0x00004000"));
		assert_null(strstr(first, "packets"));
		assert_true(nft_table_is_intact(f, first));
		assert_false(nft_table_is_intact(f, NULL));
		second = install(&policy, f);
		assert_string_equal(first, second);
	}
}

/* In one transaction: a table that cannot be made leaves the old one. */
static void test_failure_changes_nothing(void **state)
{
	struct policy policy = rulesets_policy();
	_cleanup_free_ char *listing = install(&policy, IP_V4), *again = NULL;
	struct err err = {""};

	(void)state;
	policy.network[IP_V4].len = 77;
	policy.subnet[IP_V4].len = 78;
	assert_int_equal(nft_table_install(&policy, IP_V4, &again, &err), -EINVAL);
	assert_null(again);
	assert_non_null(strstr(err.text, "table ip flannel-ipv4: nftables: "));
	assert_true(nft_table_is_intact(IP_V4, listing));
}

#define ACCEPT_RULE(side)                                                                          \
	"add rule ip flannel-ipv4 forward ip " side " 10.5.0.0/16 counter accept comment "         \
	"\\\"flanneld forward\\\""
#define DOUBLED (ACCEPT_RULE("daddr"))
#define MOVED                                                                                      \
	(ACCEPT_RULE("saddr") "; delete rule ip flannel-ipv4 forward handle $(handle 'ip "         \
			      "saddr.*accept')")

static void test_every_change_is_seen(void **state)
{
	static const char *const changes[] = {
		"delete rule ip flannel-ipv4 postrtg handle $(handle 'return')",
		"delete rule ip flannel-ipv4 forward handle $(handle 'ip daddr.*accept')",
		"add rule ip flannel-ipv4 postrtg counter accept",
		"insert rule ip flannel-ipv4 forward counter drop",
		/* Doubled. */
		DOUBLED,
		/* Another order. */
		MOVED,
		"flush chain ip flannel-ipv4 postrtg",
		"flush table ip flannel-ipv4",
		"delete table ip flannel-ipv4",
		"flush ruleset",
		"add chain ip flannel-ipv4 stray",
		"add chain ip flannel-ipv4 forward { policy drop; }",
		"add table ip flannel-ipv4 { flags dormant; }",
	};
	struct policy policy = rulesets_policy();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		_cleanup_free_ char *listing = install(&policy, IP_V4);
		char command[1024];

		assert_true(nft_table_is_intact(IP_V4, listing));
		(void)snprintf(command, sizeof(command),
			       "handle() { nft -a list table ip flannel-ipv4 | grep \"$1\" | "
			       "sed -n '1s/.*handle //p'; }; nft \"%s\"",
			       changes[i]);
		rulesets_run(command);
		if (nft_table_is_intact(IP_V4, listing))
			fail_msg("not seen: %s", changes[i]);
	}
}

static void send_packet(const char *from, const char *to)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(7777)};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(inet_pton(AF_INET, from, &address.sin_addr), 1);
	assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(inet_pton(AF_INET, to, &address.sin_addr), 1);
	assert_int_equal(sendto(fd, "x", 1, 0, (const struct sockaddr *)&address, sizeof(address)),
			 1);
	(void)close(fd);
}

static void test_counters_are_no_change(void **state)
{
	struct policy policy = rulesets_policy();
	_cleanup_free_ char *listing = NULL;

	(void)state;
	rulesets_run("ip link set lo up && ip addr add 10.5.1.1/32 dev lo");
	listing = install(&policy, IP_V4);
	send_packet("127.0.0.1", "10.5.1.1");
	assert_non_null(strstr(rulesets_output("nft list table ip flannel-ipv4"), "packets 1 "));
	assert_true(nft_table_is_intact(IP_V4, listing));
}

/* Adds a rule again and again, until it is killed. */
static pid_t start_meddler(void)
{
	const pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid)
		return pid;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		(void)nft_run("add rule ip flannel-ipv4 forward counter drop\n", NULL);
		(void)usleep(500); /* a dump that is always interrupted has no end */
	}
}

/* What somebody does right after our transaction is not taken for a part of it. */
static void test_somebody_in_between(void **state)
{
	struct policy policy = rulesets_policy();
	pid_t meddler = start_meddler();
	size_t n_good = 0, n_meddled = 0;

	(void)state;
	for (size_t i = 0; i < 300; i++) {
		char *listing = NULL;
		struct err err = {""};
		int code = nft_table_install(&policy, IP_V4, &listing, &err);

		if (!code && strstr(listing, "drop"))
			n_meddled++;
		else if (!code)
			n_good++;
		else if (code != -EAGAIN)
			fail_msg("%s", err.text);
		free(listing);
	}
	assert_int_equal(kill(meddler, SIGKILL), 0);
	assert_int_equal(waitpid(meddler, NULL, 0), meddler);
	if (n_meddled)
		fail_msg("%zu listings with the rule of another, %zu without", n_meddled, n_good);
	free(install(&policy, IP_V4)); /* in peace */
}

static void test_removal(void **state)
{
	struct policy policy = rulesets_policy(), nothing = {.masquerade = false};
	bool removed = true;
	struct err err;

	(void)state;
	assert_true(nft_table_is_intact(IP_V4, NULL));
	assert_int_equal(nft_table_remove(IP_V4, &removed, &err), 0);
	assert_false(removed);
	free(install(&policy, IP_V4));
	free(install(&policy, IP_V6));
	assert_int_equal(nft_table_remove(IP_V4, &removed, &err), 0);
	assert_true(removed);
	assert_true(nft_table_is_intact(IP_V4, NULL));
	assert_false(nft_table_is_intact(IP_V6, NULL));
	/* A policy of nothing is a removal, too. */
	assert_null(install(&nothing, IP_V6));
	assert_string_equal(rulesets_output("nft list ruleset"), "");
}

static void test_listing_errors(void **state)
{
	char *text = NULL;
	struct err err = {""};

	(void)state;
	assert_int_equal(nft_list("table ip nope", &text, &err), -ENOENT);
	assert_int_equal(nft_list_json("chain ip nope nope", &text, &err), -ENOENT);
	assert_int_equal(nft_run("delete table ip nope\n", &err), -ENOENT);
	assert_int_equal(nft_run("add nonsense\n", &err), -EINVAL);
	assert_non_null(strstr(err.text, "syntax error"));
	assert_null(text);
}

/* The socket that stays open is none of our children's business, and not in the way of
 * what others change meanwhile. */
static void test_kept_context(void **state)
{
	char *text = NULL;

	(void)state;
	rulesets_run("nft 'table ip a { chain one { }; }; table ip6 b { chain two { }; }'");
	assert_int_equal(nft_list("table ip a", &text, NULL), 0);
	assert_non_null(strstr(text, "chain one"));
	free(text);
	assert_int_equal(nft_list("table ip6 b", &text, NULL), 0);
	assert_non_null(strstr(text, "chain two"));
	free(text);
	rulesets_run("nft 'delete table ip6 b; add chain ip a three'");
	assert_int_equal(nft_list("table ip6 b", &text, NULL), -ENOENT);
	assert_int_equal(nft_list("table ip a", &text, NULL), 0);
	assert_non_null(strstr(text, "chain three"));
	free(text);
	/* Complaints and warnings of one command do not show up with the next. */
	assert_int_equal(nft_run("add nonsense\n", NULL), -EINVAL);
	assert_int_equal(nft_list("table ip a", &text, NULL), 0);
	assert_string_equal(text, "table ip a {\n\tchain one {\n\t}\n\n\tchain three {\n\t}\n}\n");
	free(text);
	rulesets_run(
		"for fd in /proc/self/fd/*; do case $(readlink $fd) in socket:*) exit 1; esac; "
		"done");
}

#define N_CHAINS 100

static pid_t busy; /* the group of processes that changes nftables without a pause */

/* Also after a failure: teardown. */
static int stop_busy(void **state)
{
	(void)state;
	if (busy <= 0)
		return 0;
	(void)kill(-busy, SIGKILL);
	(void)waitpid(busy, NULL, 0);
	busy = 0;
	return 0;
}

/* Who lists many rules while somebody never pauses comes to no end in libnftables. */
static void test_no_end(void **state)
{
	_cleanup_free_ char *rules = NULL, *tables = NULL;
	struct err err = {""};
	size_t size;
	FILE *out = open_memstream(&rules, &size);

	(void)state;
	(void)fputs("table ip big {\n", out);
	for (int c = 0; c < N_CHAINS; c++) {
		(void)fprintf(out, "chain c%d {\n", c);
		for (int i = 0; i < 100; i++)
			(void)fprintf(out, "ip saddr 10.%d.%d.1 accept\n", c, i);
		(void)fputs("}\n", out);
	}
	(void)fputs("}\n", out);
	(void)fclose(out);
	rulesets_feed("nft -f -", rules);
	busy = fork();
	assert_true(busy >= 0);
	if (!busy) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)setpgid(0, 0);
		(void)execl("/bin/sh", "sh", "-c",
			    "yes 'add table ip x; delete table ip x' | exec nft -i >/dev/null",
			    (char *)NULL);
		_exit(1);
	}
	(void)setpgid(busy, busy); /* whoever of the two comes first */
	/* Until it is at it. */
	while (!nft_list("tables", &tables, &err))
		free(TAKE_PTR(tables));
	assert_string_equal(err.text, "somebody else has changed nftables without a pause for 5 s");
	assert_int_equal(stop_busy(state), 0);
	assert_int_equal(nft_list("tables", &tables, &err), 0);
	assert_non_null(strstr(tables, "table ip big\n"));
}

#define TEST(f) cmocka_unit_test_setup(f, rulesets_new_namespace)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_text),
		TEST(test_text_of_nothing),
		TEST(test_install),
		TEST(test_failure_changes_nothing),
		TEST(test_every_change_is_seen),
		TEST(test_counters_are_no_change),
		TEST(test_somebody_in_between),
		TEST(test_removal),
		TEST(test_listing_errors),
		TEST(test_kept_context),
		cmocka_unit_test_setup_teardown(test_no_end, rulesets_new_namespace, stop_busy),
	};

	if (!rulesets_can("nft list tables 2>/dev/null", "network namespaces with nftables"))
		return 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
