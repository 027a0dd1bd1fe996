/* SPDX-License-Identifier: Apache-2.0 */
/* test_rules.c - the keeper of rules in nftables mode, beside others who are in its way
 *
 * What it does with packets, and with iptables, is the lab's to see (tests/lab/test_rules_*).
 */
#include "rules/rules_internal.h"

#include "base/mem.h"
#include "rulesets.h"
#include "wait.h"

#include <event2/event.h>
#include <unistd.h>

static struct {
	struct loop *loop;
	struct rules *rules;
	struct event *tick;
	char problem[ERR_TEXT_MAX], notice[ERR_TEXT_MAX];
} t;

static void on_state(const char *problem, void *userdata)
{
	(void)userdata;
	(void)snprintf(t.problem, sizeof(t.problem), "%s", problem ? problem : "");
}

static void on_notice(const char *text, void *userdata)
{
	(void)userdata;
	(void)snprintf(t.notice, sizeof(t.notice), "%s", text ? text : "");
}

static void on_tick(void *userdata)
{
	(void)userdata;
}

static int set_up(void **state)
{
	const struct rules_events events = {on_state, on_notice, NULL, NULL};

	if (rulesets_new_namespace(state))
		return -1;
	t.loop = loop_new();
	t.tick = loop_timer_new(t.loop, on_tick, NULL);
	t.rules = rules_new(t.loop, 1, &events);
	(void)snprintf(t.problem, sizeof(t.problem), "not told");
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	rules_free(t.rules);
	loop_event_free(t.tick);
	loop_free(t.loop);
	return 0;
}

static void turn(void)
{
	loop_timer_set_sooner(t.tick, 20);
	assert_int_not_equal(event_base_loop(loop_base(t.loop), EVLOOP_ONCE), -1);
}

static void want(bool forward)
{
	struct policy policy = rulesets_policy();

	policy.forward = forward;
	rules_want(t.rules, &policy, true);
	assert_string_equal(t.problem, "");
}

static bool has(const char *command, const char *word)
{
	return strstr(rulesets_output(command), word);
}

static bool is_touched(void)
{
	const struct rules *r = t.rules;
	bool touched = r->touched_hooks;

	IP_FOREACH_FAMILY (f)
		touched |= r->touched_table[f] || r->touched_iptables[f];
	for (int i = 0; i < NFT_FOREIGN_COUNT; i++)
		touched |= r->touched_foreign[i];
	return touched;
}

/* What others do elsewhere does not wake us for the rest of our life. */
static void test_nothing_is_left_to_do(void **state)
{
	(void)state;
	want(true);
	assert_false(is_touched());
	rulesets_run(
		"nft 'table ip filter { chain FORWARD { type filter hook forward priority 0; }; "
		"}; table ip nat { chain POSTROUTING { type nat hook postrouting priority "
		"srcnat; }; }'");
	WAIT_MS(3000, is_touched());
	WAIT_MS(3000, !is_touched());
	assert_true(has("nft list table ip filter", "flanneld forward"));
}

static void test_our_table_comes_back(void **state)
{
	(void)state;
	want(true);
	rulesets_run("nft delete table ip flannel-ipv4");
	WAIT_MS(3000, has("nft list ruleset", "table ip flannel-ipv4"));
	rulesets_run("nft flush ruleset");
	WAIT_MS(3000, has("nft list ruleset", "table ip flannel-ipv4") &&
			      has("nft list ruleset", "table ip6 flannel-ipv6"));
	assert_string_equal(t.problem, "");
}

/* A table that belongs to a process: nobody else may change it. */
static FILE *own_filter(void)
{
	FILE *owner = popen("nft -i >/dev/null", "we"); /* NOLINT(cert-env33-c) */

	assert_non_null(owner);
	(void)fputs("table ip filter { flags owner; chain FORWARD { type filter hook forward "
		    "priority 0; policy drop; }; }\n",
		    owner);
	(void)fflush(owner);
	for (int i = 0; i < 500 && !has("nft list ruleset", "chain FORWARD"); i++)
		(void)usleep(10000);
	assert_true(has("nft list ruleset", "flags owner"));
	return owner;
}

static void test_refused(void **state)
{
	FILE *owner = own_filter();

	(void)state;
	want(true);
	assert_non_null(strstr(t.notice, "nftables chain ip filter FORWARD may drop"));
	/* What happens to another chain does not make this one better. */
	rulesets_run(
		"nft 'table ip6 filter { chain FORWARD { type filter hook forward priority 0; }; "
		"}'");
	WAIT_MS(3000, has("nft list table ip6 filter", "flanneld forward"));
	WAIT_MS(3000, !t.rules->touched_foreign[NFT_FOREIGN_IP6TABLES]);
	assert_non_null(strstr(t.notice, "nftables chain ip filter FORWARD may drop"));
	(void)pclose(owner);
	WAIT_MS(3000, !*t.notice);
}

static void test_owner_that_drops(void **state)
{
	(void)state;
	rulesets_feed("nft -f -", "table inet mine { chain f { type filter hook forward priority "
				  "0; policy drop; }; }\n");
	want(true);
	assert_non_null(strstr(t.notice, "by policy in inet mine f: "));
	rulesets_run("nft 'add rule inet mine f ip saddr 10.5.0.0/16 accept; add rule inet mine f "
		     "ip daddr 10.5.0.0/16 counter accept; add rule inet mine f ip6 saddr "
		     "fc00:5::/48 accept'");
	WAIT_MS(3000, !t.rules->touched_hooks);
	assert_true(*t.notice);
	rulesets_run("nft add rule inet mine f ip6 daddr fc00:5::/48 accept comment mine");
	WAIT_MS(3000, !*t.notice);
	rulesets_run("nft flush chain inet mine f");
	WAIT_MS(3000, strstr(t.notice, "by policy in inet mine f: "));
	rulesets_run("nft delete table inet mine");
	WAIT_MS(3000, !*t.notice);
}

/* A jump that is not in a rule of its own keeps the chain from going. */
#define LEAVINGS                                                                                   \
	"table ip nat { chain FLANNEL-POSTRTG { return; }; chain POSTROUTING { type nat hook "     \
	"postrouting priority srcnat; jump FLANNEL-POSTRTG; }; chain mine { ip saddr vmap { "      \
	"192.0.2.1 : jump FLANNEL-POSTRTG }; }; }\n"

static void test_leavings_are_removed_later(void **state)
{
	(void)state;
	rulesets_feed("nft -f -", LEAVINGS);
	want(false);
	assert_true(has("nft list ruleset", "jump FLANNEL-POSTRTG"));
	rulesets_run("nft flush chain ip nat mine");
	t.rules->full_check_ms -= 60000;
	WAIT_MS(3000, !has("nft list ruleset", "FLANNEL"));
	/* And what comes back, from some file. */
	rulesets_run("nft flush chain ip nat mine; nft 'table ip nat { chain FLANNEL-POSTRTG { "
		     "return; }; }'");
	t.rules->full_check_ms -= 60000;
	WAIT_MS(3000, !has("nft list ruleset", "FLANNEL"));
}

/* The accept rules of iptables mode do not go before ours stand in the same chain. */
static void test_not_cut_off(void **state)
{
	FILE *owner = own_filter();

	(void)state;
	(void)fputs("add chain ip filter FLANNEL-FWD; add rule ip filter FORWARD jump "
		    "FLANNEL-FWD\n",
		    owner);
	(void)fflush(owner);
	for (int i = 0; i < 500 && !has("nft list ruleset", "jump FLANNEL-FWD"); i++)
		(void)usleep(10000);
	want(true);
	assert_false(t.rules->home[IP_V4].cleared);
	assert_true(t.rules->home[IP_V6].cleared);
	(void)pclose(owner);
	WAIT_MS(3000, t.rules->home[IP_V4].cleared);
}

/* Who wants nothing is told what could not be removed. */
static void test_removal_that_fails(void **state)
{
	const struct policy nothing = {.masquerade = false};

	(void)state;
	rulesets_feed("nft -f -", LEAVINGS);
	rules_want(t.rules, &nothing, true);
	assert_non_null(strstr(t.problem, "table ip nat"));
	rulesets_run("nft flush chain ip nat mine");
	t.rules->full_check_ms -= 60000;
	WAIT_MS(3000, !*t.problem);
	assert_false(has("nft list ruleset", "FLANNEL"));
	assert_int_equal(rules_n_removed(t.rules), 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_nothing_is_left_to_do),
		TEST(test_our_table_comes_back),
		TEST(test_refused),
		TEST(test_owner_that_drops),
		TEST(test_leavings_are_removed_later),
		TEST(test_not_cut_off),
		TEST(test_removal_that_fails),
	};

	if (!rulesets_can("nft list tables 2>/dev/null", "network namespaces with nftables"))
		return 0;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
