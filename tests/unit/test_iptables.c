/* SPDX-License-Identifier: Apache-2.0 */
/* test_iptables.c - the real iptables, in network namespaces of the test's own
 *
 * The real iptables-restore stands behind a script that writes down that it was called, and
 * does first what a test has put into the file `first`: fail, hang, change the world.
 */
static int restore_timeout_ms = 60000, lock_patience_ms = 5000;
#define RESTORE_TIMEOUT_MS restore_timeout_ms
#define LOCK_PATIENCE_MS   lock_patience_ms
#include "rules/iptables.c" /* NOLINT(bugprone-suspicious-include): for its limits */

#include "base/file.h"
#include "messages.h"

#include <event2/event.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cmocka.h>

static char directory[] = "/tmp/weft-iptables-XXXXXX";

/* One combination of variant and family, in a namespace of its own. */
struct fixture {
	struct loop *loop;
	struct iptables *ipt;
	enum iptables_variant variant;
	enum ip_family family;
	const char *tool; /* "iptables-legacy" */
	struct policy policy;
	int n_waiting;
	char waiting[512];
	int n_done;
	enum iptables_outcome outcome;
	char text[TEXT_MAX];
	bool free_when_done;
	struct iptables_version *version;
};

__attribute__((format(printf, 1, 2))) static void run_shell(const char *fmt, ...)
{
	char command[4096];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	if (system(command) != 0) /* NOLINT(cert-env33-c): the test's own words */
		fail_msg("failed: %s", command);
}

/* What it prints; caller frees. */
__attribute__((format(printf, 1, 2))) static char *output_of(const char *fmt, ...)
{
	char command[1024], *text = mem_alloc(1, 1 << 20);
	FILE *f;
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	f = popen(command, "re"); /* NOLINT(cert-env33-c): the same */
	assert_non_null(f);
	text[fread(text, 1, (1 << 20) - 1, f)] = '\0';
	(void)pclose(f);
	return text;
}

static void on_done(enum iptables_outcome outcome, const char *text, void *userdata)
{
	struct fixture *f = userdata;

	if (outcome == IPTABLES_WAITING) {
		f->n_waiting++;
		(void)snprintf(f->waiting, sizeof(f->waiting), "%s", text);
		return;
	}
	f->n_done++;
	f->outcome = outcome;
	(void)snprintf(f->text, sizeof(f->text), "%s", text);
	if (f->free_when_done)
		iptables_free(TAKE_PTR(f->ipt));
	loop_exit(f->loop);
}

static struct policy policy_of(const char *network, const char *subnet, enum ip_family family)
{
	struct policy policy = {.masquerade = true, .fully_random = true, .forward = true};

	policy.network[family] = messages_net(network);
	policy.subnet[family] = messages_net(subnet);
	policy.keep[0] = messages_net(family == IP_V6 ? "2001:db8::/32" : "192.168.7.1/32");
	policy.n_keep = 1;
	return policy;
}

static const char *const tools[IPTABLES_VARIANT_COUNT][IP_FAMILY_COUNT] = {
	[IPTABLES_DEFAULT] = {[IP_V4] = "iptables", [IP_V6] = "ip6tables"},
	[IPTABLES_LEGACY] = {[IP_V4] = "iptables-legacy", [IP_V6] = "ip6tables-legacy"},
	[IPTABLES_NFT] = {[IP_V4] = "iptables-nft", [IP_V6] = "ip6tables-nft"},
};

static void set_up(struct fixture *f, enum iptables_variant variant, enum ip_family family)
{
	*f = (struct fixture){.variant = variant, .family = family};
	f->tool = tools[variant][family];
	f->policy = family == IP_V6 ? policy_of("fd05::/48", "fd05:0:0:3::/64", family)
				    : policy_of("10.5.0.0/16", "10.5.3.0/24", family);
	if (unshare(CLONE_NEWNET))
		fail_msg("unshare: %s", strerror(errno));
	run_shell("rm -f %s/log %s/first; : > %s/log", directory, directory, directory);
	f->loop = loop_new();
	f->ipt = iptables_new(f->loop, variant, family, on_done, f);
}

static void tear_down(struct fixture *f)
{
	iptables_free(f->ipt);
	loop_free(f->loop);
}

static enum iptables_outcome wait_for_outcome(struct fixture *f)
{
	const int before = f->n_done;

	while (f->n_done == before)
		loop_run(f->loop);
	return f->outcome;
}

static enum iptables_outcome want(struct fixture *f, const struct policy *policy)
{
	iptables_want(f->ipt, policy);
	assert_true(iptables_is_busy(f->ipt));
	return wait_for_outcome(f);
}

static enum iptables_outcome check(struct fixture *f)
{
	iptables_check(f->ipt);
	return wait_for_outcome(f);
}

/* How often iptables-restore was called since the last time that this was asked. */
static int n_restores(void)
{
	_cleanup_free_ char *log = output_of("cat %s/log; : > %s/log", directory, directory);
	int n = 0;

	for (const char *c = log; *c; c++)
		n += *c == '\n';
	return n;
}

/* The rules of both tables as they are saved, without counters and remarks. */
static char *saved(const struct fixture *f)
{
	return output_of("%s-save -t nat | sed '/^#/d; s/ \\[.*//';"
			 "%s-save -t filter | sed '/^#/d; s/ \\[.*//'",
			 f->tool, f->tool);
}

#define M "-m comment --comment \"flanneld masq\" -j "
#define W "-m comment --comment \"flanneld forward\" -j "
static const char canonical_v4[] =
	"*nat\n:PREROUTING ACCEPT\n:INPUT ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\n"
	":FLANNEL-POSTRTG -\n"
	"-A POSTROUTING " M "FLANNEL-POSTRTG\n"
	"-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 " M "RETURN\n"
	"-A FLANNEL-POSTRTG -s 10.5.3.0/24 -d 10.5.0.0/16 " M "RETURN\n"
	"-A FLANNEL-POSTRTG -s 10.5.0.0/16 -d 10.5.3.0/24 " M "RETURN\n"
	"-A FLANNEL-POSTRTG ! -s 10.5.0.0/16 -d 10.5.3.0/24 " M "RETURN\n"
	"-A FLANNEL-POSTRTG -s 10.5.0.0/16 -d 192.168.7.1/32 " M "RETURN\n"
	"-A FLANNEL-POSTRTG -s 10.5.0.0/16 ! -d 224.0.0.0/4 " M "MASQUERADE --random-fully\n"
	"-A FLANNEL-POSTRTG ! -s 10.5.0.0/16 -d 10.5.0.0/16 "
	"-m addrtype --src-type LOCAL --limit-iface-out " M "RETURN\n"
	"-A FLANNEL-POSTRTG ! -s 10.5.0.0/16 -d 10.5.0.0/16 " M "MASQUERADE --random-fully\n"
	"COMMIT\n"
	"*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n:FLANNEL-FWD -\n"
	"-A FORWARD " W "FLANNEL-FWD\n"
	"-A FLANNEL-FWD -s 10.5.0.0/16 " W "ACCEPT\n"
	"-A FLANNEL-FWD -d 10.5.0.0/16 " W "ACCEPT\n"
	"COMMIT\n";
static const char canonical_v6[] =
	"*nat\n:PREROUTING ACCEPT\n:INPUT ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\n"
	":FLANNEL-POSTRTG -\n"
	"-A POSTROUTING " M "FLANNEL-POSTRTG\n"
	"-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 " M "RETURN\n"
	"-A FLANNEL-POSTRTG -s fd05:0:0:3::/64 -d fd05::/48 " M "RETURN\n"
	"-A FLANNEL-POSTRTG -s fd05::/48 -d fd05:0:0:3::/64 " M "RETURN\n"
	"-A FLANNEL-POSTRTG ! -s fd05::/48 -d fd05:0:0:3::/64 " M "RETURN\n"
	"-A FLANNEL-POSTRTG -s fd05::/48 -d 2001:db8::/32 " M "RETURN\n"
	"-A FLANNEL-POSTRTG -s fd05::/48 ! -d ff00::/8 " M "MASQUERADE --random-fully\n"
	"-A FLANNEL-POSTRTG ! -s fd05::/48 -d fd05::/48 "
	"-m addrtype --src-type LOCAL --limit-iface-out " M "RETURN\n"
	"-A FLANNEL-POSTRTG ! -s fd05::/48 -d fd05::/48 " M "MASQUERADE --random-fully\n"
	"COMMIT\n"
	"*filter\n:INPUT ACCEPT\n:FORWARD ACCEPT\n:OUTPUT ACCEPT\n:FLANNEL-FWD -\n"
	"-A FORWARD " W "FLANNEL-FWD\n"
	"-A FLANNEL-FWD -s fd05::/48 " W "ACCEPT\n"
	"-A FLANNEL-FWD -d fd05::/48 " W "ACCEPT\n"
	"COMMIT\n";

static void assert_canonical(const struct fixture *f)
{
	_cleanup_free_ char *now = saved(f);

	assert_string_equal(now, f->family == IP_V6 ? canonical_v6 : canonical_v4);
}

/* $T: the tool, $C and $P: network and subnet. */
static void change_world(const struct fixture *f, const char *script)
{
	run_shell("T='%s' C='%s' P='%s'; set -e; %s", f->tool,
		  f->family == IP_V6 ? "fd05::/48" : "10.5.0.0/16",
		  f->family == IP_V6 ? "fd05:0:0:3::/64" : "10.5.3.0/24", script);
}

/* The chains that the rules of FORWARD (or @base) go to, in order: "KUBE-FORWARD DROP ". */
static char *targets_of(const struct fixture *f, const char *base)
{
	return output_of("%s-save | sed -n 's/^-A %s .*-j \\([^ ]*\\).*/\\1/p' | tr '\\n' ' '",
			 f->tool, base);
}

#define JUMP "FORWARD -m comment --comment 'flanneld forward' -j FLANNEL-FWD"

struct drift {
	const char *script, *text;
};
static const struct drift drifts[] = {
	{"$T -t nat -D FLANNEL-POSTRTG 2", "chain FLANNEL-POSTRTG has 7 rules instead of 8"},
	{"$T -t nat -F FLANNEL-POSTRTG", "chain FLANNEL-POSTRTG has 0 rules instead of 8"},
	{"$T -D " JUMP, "the jump from FORWARD to FLANNEL-FWD is missing"},
	{"$T -D " JUMP "; $T -F FLANNEL-FWD; $T -X FLANNEL-FWD", "chain FLANNEL-FWD is missing"},
	{"$T -D FLANNEL-FWD 1; "
	 "$T -A FLANNEL-FWD -s $C -m comment --comment 'flanneld forward' -j ACCEPT",
	 "rule 1 of chain FLANNEL-FWD is another"},
	{"$T -A FLANNEL-FWD -d $C -m comment --comment 'flanneld forward' -j ACCEPT",
	 "chain FLANNEL-FWD has 3 rules instead of 2"},
	{"$T -t nat -I FLANNEL-POSTRTG 3 -p udp -j ACCEPT",
	 "chain FLANNEL-POSTRTG has 9 rules instead of 8"},
	{"$T -R FLANNEL-FWD 2 -d $C -m comment --comment 'flanneld forward' -j DROP",
	 "rule 2 of chain FLANNEL-FWD is another"},
	{"$T -A " JUMP, "there are 2 jumps to FLANNEL-FWD"},
	{"$T -t nat -I POSTROUTING -j FLANNEL-POSTRTG", "there are 2 jumps to FLANNEL-POSTRTG"},
	{"$T -A INPUT -j FLANNEL-FWD", "there are 2 jumps to FLANNEL-FWD"},
	{"$T -F FORWARD; $T -A FORWARD -g FLANNEL-FWD", "the jump to FLANNEL-FWD is another"},
	{"$T -F; $T -t nat -F", "chain FLANNEL-POSTRTG has 0 rules instead of 8; "
				"chain FLANNEL-FWD has 0 rules instead of 2"},
	{"$T -F; $T -t nat -F; $T -X; $T -t nat -X",
	 "chain FLANNEL-POSTRTG is missing; chain FLANNEL-FWD is missing"},
	{"printf '*nat\\nCOMMIT\\n*filter\\nCOMMIT\\n' | $T-restore",
	 "chain FLANNEL-POSTRTG is missing; chain FLANNEL-FWD is missing"},
};

static void go_through_drifts(enum iptables_variant variant, enum ip_family family)
{
	struct fixture f;

	set_up(&f, variant, family);
	assert_int_equal(want(&f, &f.policy), IPTABLES_APPLIED);
	assert_string_equal(f.text,
			    "chain FLANNEL-POSTRTG is missing; chain FLANNEL-FWD is missing");
	assert_canonical(&f);
	assert_int_equal(n_restores(), 1);
	assert_int_equal(check(&f), IPTABLES_INTACT);
	assert_int_equal(want(&f, &f.policy), IPTABLES_INTACT);
	assert_null(f.ipt->learned);
	for (size_t i = 0; i < ARRAY_SIZE(drifts); i++) {
		change_world(&f, drifts[i].script);
		n_restores();
		assert_int_equal(check(&f), IPTABLES_REPAIRED);
		assert_string_equal(f.text, drifts[i].text);
		assert_int_equal(n_restores(), 1);
		assert_canonical(&f);
		assert_int_equal(check(&f), IPTABLES_INTACT);
		assert_int_equal(n_restores(), 0);
	}
	if (variant != IPTABLES_LEGACY) {
		run_shell("nft flush ruleset");
		assert_int_equal(check(&f), IPTABLES_REPAIRED);
		assert_canonical(&f);
	}
	tear_down(&f);
}

/* Each with both families. */
static void for_each_variant(void (*test)(enum iptables_variant, enum ip_family))
{
	for (enum iptables_variant v = 0; v < IPTABLES_VARIANT_COUNT; v++)
		IP_FOREACH_FAMILY (f)
			test(v, f);
}

static void test_drift(void **state)
{
	(void)state;
	for_each_variant(go_through_drifts);
}

#define OTHERS                                                                                     \
	"$T -N DOCKER-USER; $T -N ufw-before-forward; $T -N KUBE-FORWARD; "                        \
	"$T -N KUBE-PROXY-FIREWALL; $T -t nat -N KUBE-POSTROUTING; $T -P FORWARD DROP; "           \
	"$T -A FORWARD -m conntrack --ctstate NEW -m comment --comment 'a -j b' "                  \
	"-j KUBE-PROXY-FIREWALL; $T -A FORWARD -j KUBE-FORWARD; $T -A FORWARD -j DOCKER-USER; "    \
	"$T -A FORWARD -j ufw-before-forward; $T -A FORWARD -p udp -j REJECT; "                    \
	"$T -t nat -A POSTROUTING -j KUBE-POSTROUTING; "                                           \
	"$T -t nat -A POSTROUTING -s $C -p udp -j MASQUERADE; "

static void go_among_others(enum iptables_variant variant, enum ip_family family)
{
	_cleanup_free_ char *before = NULL, *after = NULL;
	static const struct {
		const char *script, *forward, *postrouting;
	} places[] = {
		{":",
		 "KUBE-PROXY-FIREWALL KUBE-FORWARD DOCKER-USER FLANNEL-FWD "
		 "ufw-before-forward REJECT ",
		 "FLANNEL-POSTRTG KUBE-POSTROUTING MASQUERADE "},
		{"$T -D " JUMP "; $T -A " JUMP, NULL, NULL},
		{"$T -D " JUMP "; $T -I " JUMP, NULL, NULL},
		{"$T -t nat -D POSTROUTING 1; $T -t nat -A POSTROUTING -m comment "
		 "--comment 'flanneld masq' -j FLANNEL-POSTRTG",
		 NULL, NULL},
	};
	struct fixture f;

	set_up(&f, variant, family);
	change_world(&f, OTHERS);
	before = saved(&f);
	assert_int_equal(want(&f, &f.policy), IPTABLES_APPLIED);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		_cleanup_free_ char *forward = NULL, *postrouting = NULL;

		change_world(&f, places[i].script);
		n_restores();
		assert_int_equal(check(&f), i ? IPTABLES_REPAIRED : IPTABLES_INTACT);
		assert_int_equal(n_restores(), i ? 1 : 0);
		forward = targets_of(&f, "FORWARD");
		assert_string_equal(forward, places[0].forward);
		postrouting = targets_of(&f, "POSTROUTING");
		assert_string_equal(postrouting, places[0].postrouting);
		assert_int_equal(check(&f), IPTABLES_INTACT);
	}
	/* One of theirs more in front is no drift; what it stands before is. */
	change_world(&f, "$T -N cali-FORWARD; $T -I FORWARD -j cali-FORWARD");
	assert_int_equal(check(&f), IPTABLES_INTACT);
	change_world(&f, "$T -D FORWARD -j cali-FORWARD; $T -X cali-FORWARD; "
			 "$T -I FORWARD 3 -p tcp -j DROP");
	assert_int_equal(check(&f), IPTABLES_REPAIRED);
	change_world(&f, "$T -D FORWARD -p tcp -j DROP");
	assert_int_equal(check(&f), IPTABLES_REPAIRED);
	/* Calico's felix wants to be first, and would come back again and again. */
	change_world(&f, "$T -t nat -N cali-POSTROUTING; "
			 "$T -t nat -I POSTROUTING -j cali-POSTROUTING");
	assert_int_equal(check(&f), IPTABLES_INTACT);
	change_world(&f, "$T -t nat -D POSTROUTING -j cali-POSTROUTING; "
			 "$T -t nat -X cali-POSTROUTING");

	/* All of ours goes, and nothing else. */
	n_restores();
	assert_int_equal(want(&f, NULL), IPTABLES_APPLIED);
	assert_int_equal(n_restores(), 1);
	after = saved(&f);
	assert_string_equal(after, before);
	assert_int_equal(check(&f), IPTABLES_INTACT);
	assert_int_equal(n_restores(), 0);
	tear_down(&f);
}

static void test_among_others(void **state)
{
	(void)state;
	for_each_variant(go_among_others);
}

/* The rules of flannel itself: as it appends them now, in v0.12 to v0.19, and in v0.11. */
static const char *const takeovers[] = {
	"$T -t nat -N FLANNEL-POSTRTG; $T -N FLANNEL-FWD; "
	"$T -t nat -A POSTROUTING -m comment --comment 'flanneld masq' -j FLANNEL-POSTRTG; "
	"$T -A " JUMP "; $T -A FLANNEL-FWD -s $C -m comment --comment 'flanneld forward' "
	"-j ACCEPT; $T -t nat -A FLANNEL-POSTRTG -s $P -d $C -m comment --comment "
	"'flanneld masq' -j RETURN",
	"$T -t nat -A POSTROUTING -s $C -d $C -m comment --comment 'flanneld masq' -j RETURN; "
	"$T -t nat -A POSTROUTING -s $C ! -d $G -m comment --comment 'flanneld masq' "
	"-j MASQUERADE --random-fully; "
	"$T -A FORWARD -s $C -m comment --comment 'flanneld forward' -j ACCEPT",
	"$T -t nat -A POSTROUTING -s $C -d $C -j RETURN; "
	"$T -t nat -A POSTROUTING -s $C ! -d $G -j MASQUERADE --random-fully; "
	"$T -t nat -A POSTROUTING ! -s $C -d $P -j RETURN; "
	"$T -t nat -A POSTROUTING ! -s $C -d $C -j MASQUERADE; "
	"$T -A FORWARD -s $C -j ACCEPT; $T -A FORWARD -d $C -j ACCEPT",
};

static void go_take_over(enum iptables_variant variant, enum ip_family family)
{
	struct policy none = {.masquerade = true};
	struct fixture f;

	for (size_t i = 0; i < ARRAY_SIZE(takeovers); i++) {
		_cleanup_free_ char *forward = NULL, *postrouting = NULL;

		set_up(&f, variant, family);
		/* Rules of others that are nearly like those. */
		change_world(&f, "$T -A FORWARD -s $P -j ACCEPT; "
				 "$T -t nat -A POSTROUTING -s $P -d $C -j RETURN");
		run_shell("T='%s' C='%s' P='%s' G=%s; set -e; %s", f.tool,
			  family == IP_V6 ? "fd05::/48" : "10.5.0.0/16",
			  family == IP_V6 ? "fd05:0:0:3::/64" : "10.5.3.0/24",
			  family == IP_V6 ? "ff00::/8" : "224.0.0.0/4", takeovers[i]);
		assert_int_equal(want(&f, &f.policy), IPTABLES_APPLIED);
		assert_int_equal(n_restores(), 1);
		forward = targets_of(&f, "FORWARD");
		assert_string_equal(forward, "FLANNEL-FWD ACCEPT ");
		postrouting = targets_of(&f, "POSTROUTING");
		assert_string_equal(postrouting, "FLANNEL-POSTRTG RETURN ");
		change_world(&f, "$T -D FORWARD -s $P -j ACCEPT; "
				 "$T -t nat -D POSTROUTING -s $P -d $C -j RETURN");
		assert_canonical(&f);
		/* Nothing of this family is wanted: as if nothing were wanted at all. */
		assert_int_equal(want(&f, &none), IPTABLES_APPLIED);
		assert_false(iptables_view_has_ours(f.ipt->view));
		tear_down(&f);
	}
}

static void test_take_over(void **state)
{
	(void)state;
	for_each_variant(go_take_over);
}

/* What nftables mode has put into a chain of iptables-nft, seen and removed by iptables. */
static void test_take_over_from_nft(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f, IPTABLES_NFT, IP_V4);
	change_world(&f, "$T -A FORWARD -p udp -j DROP; for d in saddr daddr; do nft insert rule "
			 "ip filter FORWARD ip $d $C counter accept comment '\"flanneld "
			 "forward\"'; done");
	assert_int_equal(want(&f, &f.policy), IPTABLES_APPLIED);
	assert_int_equal(n_restores(), 1);
	change_world(&f, "$T -D FORWARD -p udp -j DROP");
	assert_canonical(&f);
	tear_down(&f);
}

/* Another subnet, masquerade alone, forward alone. */
static void go_change(enum iptables_variant variant, enum ip_family family)
{
	_cleanup_free_ char *one = NULL, *other = NULL;
	struct policy policy;
	struct fixture f;

	set_up(&f, variant, family);
	policy = f.policy;
	assert_int_equal(want(&f, &policy), IPTABLES_APPLIED);
	policy.forward = false;
	assert_int_equal(want(&f, &policy), IPTABLES_APPLIED);
	one = saved(&f);
	assert_null(strstr(one, "flanneld forward"));
	assert_non_null(strstr(one, "flanneld masq"));
	policy.forward = true;
	policy.masquerade = false;
	n_restores();
	assert_int_equal(want(&f, &policy), IPTABLES_APPLIED);
	assert_int_equal(n_restores(), 1);
	other = saved(&f);
	assert_non_null(strstr(other, "flanneld forward"));
	assert_null(strstr(other, "flanneld masq"));
	assert_int_equal(want(&f, &f.policy), IPTABLES_APPLIED);
	assert_canonical(&f);

	/* While a restore is under way: what is wanted last is what comes out. */
	policy = f.policy;
	policy.fully_random = false;
	policy.n_keep = 0;
	iptables_want(f.ipt, &policy);
	while (f.ipt->state != STATE_RESTORING)
		(void)event_base_loop(loop_base(f.loop), EVLOOP_ONCE);
	policy = f.policy;
	policy.subnet[family] = messages_net(family == IP_V6 ? "fd05:0:0:4::/64" : "10.5.4.0/24");
	iptables_want(f.ipt, &policy);
	iptables_want(f.ipt, &f.policy);
	while (iptables_is_busy(f.ipt))
		loop_run(f.loop);
	assert_canonical(&f);
	assert_null(f.ipt->learned);
	tear_down(&f);
}

static void test_change(void **state)
{
	(void)state;
	for_each_variant(go_change);
}

/* What the script in front of iptables-restore does first. */
static void do_first(const char *script)
{
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/first", directory);
	assert_int_equal(file_write_atomic(path, script, 0644, NULL), 0);
}

struct failure {
	const char *first, *text;
};
static const struct failure failures[] = {
	{"echo 'iptables-restore: line 4 failed' >&2; exit 1",
	 "iptables-nft-restore: exit code 1: iptables-restore: line 4 failed: that is "
	 "`-A FLANNEL-POSTRTG -s 10.5.3.0/24 -d 10.5.0.0/16 -m comment --comment "
	 "\"flanneld masq\" -j RETURN'"},
	{"printf 'line 9: RULE_APPEND failed (No such file or directory): rule in chain X\\n' "
	 ">&2; exit 4",
	 "iptables-nft-restore: exit code 4: line 9: RULE_APPEND failed (No such file or "
	 "directory): rule in chain X: that is `-A FLANNEL-POSTRTG ! -s 10.5.0.0/16 -d "
	 "10.5.0.0/16 -m addrtype --src-type LOCAL --limit-iface-out -m comment --comment "
	 "\"flanneld masq\" -j RETURN'"},
	{"echo 'iptables-restore: line 12 failed' >&2; exit 1",
	 "iptables-nft-restore: exit code 1: iptables-restore: line 12 failed: the kernel "
	 "refuses the table as a whole"},
	{"exit 7", "iptables-nft-restore: exit code 7"},
	{"kill -KILL $$", "iptables-nft-restore: killed by signal 9 (Killed)"},
	/* It says that all is well, and does nothing. */
	{"exit 0", "iptables-nft-restore: it succeeds, but the rules are not there afterwards: "
		   "somebody else removes them, or iptables-save does not show them"},
	/* The real one, without its extensions. */
	{"XTABLES_LIBDIR=/nowhere; export XTABLES_LIBDIR", "iptables has no `"},
};

static void test_failures(void **state)
{
	struct fixture f;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(failures); i++) {
		set_up(&f, IPTABLES_NFT, IP_V4);
		do_first(failures[i].first);
		assert_int_equal(want(&f, &f.policy), IPTABLES_FAILED);
		if (strncmp(f.text, failures[i].text, strlen(failures[i].text)) != 0)
			assert_string_equal(f.text, failures[i].text);
		/* What fails the same way again is not tried again. */
		assert_int_equal(n_restores(), strstr(f.text, "succeeds") ? ROUNDS_MAX : 1);
		assert_false(iptables_is_busy(f.ipt));
		/* And once that is over, it was not somebody else's change. */
		run_shell("rm %s/first", directory);
		assert_int_equal(check(&f), IPTABLES_APPLIED);
		assert_canonical(&f);
		tear_down(&f);
	}
}

/* A match that iptables, or the kernel, does not have. */
static void test_missing_extension(void **state)
{
	struct fixture f;

	(void)state;
	for (enum iptables_variant v = IPTABLES_LEGACY; v <= IPTABLES_NFT; v++) {
		set_up(&f, v, IP_V4);
		do_first(
			"mkdir -p $D/lib; ln -sf $(find /usr/lib -name 'libxt_mark.so' -o -name "
			"libxt_comment.so -o -name libxt_MASQUERADE.so -o -name libxt_standard.so) "
			"$D/lib/; XTABLES_LIBDIR=$D/lib; export XTABLES_LIBDIR");
		assert_int_equal(want(&f, &f.policy), IPTABLES_FAILED);
		assert_non_null(strstr(f.text, "-m addrtype --src-type LOCAL"));
		assert_non_null(strstr(f.text, "iptables has no `addrtype' (libxt_addrtype.so): "));
		assert_null(strstr(f.text, "Try "));
		tear_down(&f);
	}
	set_up(&f, IPTABLES_NFT, IP_V4);
	do_first("echo 'Warning: Extension addrtype revision 0 not supported, missing kernel "
		 "module?' >&2; echo 'line 9: RULE_APPEND failed' >&2; exit 4");
	assert_int_equal(want(&f, &f.policy), IPTABLES_FAILED);
	assert_non_null(strstr(f.text, "the kernel has no `addrtype' (module xt_addrtype): "));
	tear_down(&f);
}

/* Between the look and the restore somebody takes away what was to be deleted. */
static void go_race(enum iptables_variant variant, enum ip_family family)
{
	char script[256];
	struct fixture f;

	set_up(&f, variant, family);
	assert_int_equal(want(&f, &f.policy), IPTABLES_APPLIED);
	change_world(&f, "$T -I FORWARD -p udp -j DROP");
	n_restores();
	(void)snprintf(script, sizeof(script), "rm $D/first; %s -D " JUMP, f.tool);
	do_first(script);
	assert_int_equal(check(&f), IPTABLES_REPAIRED);
	assert_string_equal(f.text, "the jump to FLANNEL-FWD is rule 2 of FORWARD instead of 1");
	assert_int_equal(n_restores(), 2);
	assert_int_equal(check(&f), IPTABLES_INTACT);
	tear_down(&f);
}

static void test_race(void **state)
{
	(void)state;
	for_each_variant(go_race);
}

/* A save that prints our words otherwise, as another version of iptables may. */
static void test_other_spelling(void **state)
{
	struct policy policy;
	struct fixture f;
	char path[128];

	(void)state;
	set_up(&f, IPTABLES_NFT, IP_V4);
	(void)snprintf(path, sizeof(path), "%s/iptables-nft-save", directory);
	assert_int_equal(file_write_atomic(path,
					   "#!/bin/sh\n/usr/sbin/iptables-nft-save \"$@\" | sed "
					   "'s|-m mark --mark 0x4000/0x4000|--mark 16384|; "
					   "s|-A FORWARD -m comment|-A FORWARD -m  comment|'\n",
					   0755, NULL),
			 0);
	assert_int_equal(want(&f, &f.policy), IPTABLES_APPLIED);
	assert_int_equal(n_restores(), 1);
	assert_non_null(f.ipt->learned);
	assert_int_equal(check(&f), IPTABLES_INTACT);
	change_world(&f, "$T -t nat -D FLANNEL-POSTRTG 1");
	assert_int_equal(check(&f), IPTABLES_REPAIRED);
	assert_int_equal(n_restores(), 1);
	/* What was learned ends with what was wanted. */
	policy = f.policy;
	policy.n_keep = 0;
	assert_int_equal(want(&f, &policy), IPTABLES_APPLIED);
	assert_int_equal(check(&f), IPTABLES_INTACT);
	assert_int_equal(want(&f, NULL), IPTABLES_APPLIED);
	assert_false(iptables_view_has_ours(f.ipt->view));
	tear_down(&f);
	(void)unlink(path);
}

static void test_hanging(void **state)
{
	const int64_t start = loop_now_ms();
	struct fixture f;

	(void)state;
	set_up(&f, IPTABLES_NFT, IP_V4);
	do_first("sleep 1000");
	restore_timeout_ms = 700;
	assert_int_equal(want(&f, &f.policy), IPTABLES_FAILED);
	restore_timeout_ms = 60000;
	assert_non_null(strstr(f.text, "iptables-nft-restore: killed after "));
	assert_true(loop_now_ms() - start < 20000);
	/* Freed in the middle of it. */
	iptables_check(f.ipt);
	while (f.ipt->state != STATE_RESTORING)
		(void)event_base_loop(loop_base(f.loop), EVLOOP_ONCE);
	tear_down(&f);
}

static void release_lock(void *userdata)
{
	const int *fd = userdata;

	assert_int_equal(flock(*fd, LOCK_UN), 0);
}

/* xtables.lock in the hands of somebody else: it is waited for, and told. */
static void test_lock(void **state)
{
	_cleanup_free_ char *said = NULL;
	char path[128], who[64], log[128];
	struct event *timer;
	int lock, log_fd, saved_stderr;
	struct fixture f;

	(void)state;
	set_up(&f, IPTABLES_LEGACY, IP_V4);
	(void)snprintf(path, sizeof(path), "%s/xtables.lock", directory);
	(void)snprintf(log, sizeof(log), "%s/stderr", directory);
	lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	log_fd = open(log, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	saved_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
	assert_int_equal(flock(lock, LOCK_EX), 0);
	lock_patience_ms = 100;
	timer = loop_timer_new(f.loop, release_lock, &lock);
	loop_timer_set(timer, 1500);
	assert_int_equal(dup2(log_fd, STDERR_FILENO), STDERR_FILENO);
	iptables_want(f.ipt, &f.policy);
	(void)wait_for_outcome(&f);
	(void)dup2(saved_stderr, STDERR_FILENO);
	assert_int_equal(f.outcome, IPTABLES_APPLIED);
	assert_int_equal(n_restores(), 1);
	assert_canonical(&f);
	said = output_of("cat %s", log);
	(void)snprintf(who, sizeof(who), "xtables.lock is held by test_iptables (pid %d)",
		       (int)getpid());
	assert_non_null(strstr(said, "Waiting for iptables-legacy-restore: "));
	assert_int_equal(f.n_waiting, 1);
	assert_non_null(strstr(f.waiting, who));
	assert_non_null(strstr(said, who));
	assert_null(strstr(strstr(said, "Waiting") + 1, "Waiting")); /* once */

	assert_false(f.ipt->was_slow);

	/* Longer than we wait for anything. */
	assert_int_equal(flock(lock, LOCK_EX), 0);
	restore_timeout_ms = 500;
	f.policy.n_keep = 0;
	assert_int_equal(want(&f, &f.policy), IPTABLES_FAILED);
	assert_int_equal(f.n_waiting, 2);
	assert_true(f.ipt->was_slow);
	lock_patience_ms = 5000;
	restore_timeout_ms = 60000;
	assert_non_null(strstr(f.text, "iptables-legacy-restore: killed after"));
	assert_non_null(strstr(f.text, who));
	release_lock(&lock);
	assert_int_equal(check(&f), IPTABLES_APPLIED);
	loop_event_free(timer);
	tear_down(&f);
	(void)close(lock);
	(void)close(log_fd);
	(void)close(saved_stderr);
}

static void test_freed_when_done(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f, IPTABLES_DEFAULT, IP_V4);
	f.free_when_done = true;
	iptables_check(f.ipt);
	iptables_check(f.ipt); /* another one begins before we are told */
	assert_int_equal(wait_for_outcome(&f), IPTABLES_INTACT);
	assert_null(f.ipt);
	loop_free(f.loop);
}

static void on_version(enum iptables_outcome outcome, const char *text, void *userdata)
{
	struct fixture *f = userdata;

	f->n_done++;
	f->outcome = outcome;
	(void)snprintf(f->text, sizeof(f->text), "%s", text);
	iptables_version_free(TAKE_PTR(f->version));
	loop_exit(f->loop);
}

static void test_version(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f, IPTABLES_DEFAULT, IP_V4);
	f.version = iptables_ask_version(f.loop, on_version, &f);
	assert_int_equal(wait_for_outcome(&f), IPTABLES_INTACT);
	assert_non_null(strstr(f.text, " v1."));
	do_first("echo bad >&2; exit 3");
	f.version = iptables_ask_version(f.loop, on_version, &f);
	assert_int_equal(wait_for_outcome(&f), IPTABLES_FAILED);
	assert_string_equal(f.text, "iptables-restore --version: exit code 3: bad");
	tear_down(&f);
}

static void test_legacy_in_use(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f, IPTABLES_LEGACY, IP_V6);
	assert_false(iptables_legacy_in_use(IP_V4));
	assert_false(iptables_legacy_in_use(IP_V6));
	assert_int_equal(want(&f, &f.policy), IPTABLES_APPLIED);
	assert_false(iptables_legacy_in_use(IP_V4));
	assert_true(iptables_legacy_in_use(IP_V6));
	tear_down(&f);
	set_up(&f, IPTABLES_NFT, IP_V4);
	assert_int_equal(want(&f, &f.policy), IPTABLES_APPLIED);
	assert_false(iptables_legacy_in_use(IP_V4));
	tear_down(&f);
}

/* An iptables that is older than --random-fully. */
static void test_no_random_ports(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f, IPTABLES_LEGACY, IP_V4);
	do_first("cat >$D/in; if grep -q random-fully $D/in; then "
		 "echo \"$0 v1.6.1: unknown option \\\"--random-fully\\\"\" >&2; "
		 "echo 'Error occurred at line: 9' >&2; exit 2; fi; exec <$D/in");
	assert_int_equal(want(&f, &f.policy), IPTABLES_APPLIED);
	assert_int_equal(n_restores(), 2);
	run_shell("iptables-legacy-save -t nat | grep -c 'MASQUERADE$' | grep -qx 2");
	assert_int_equal(check(&f), IPTABLES_INTACT);
	run_shell("iptables-legacy -t nat -F FLANNEL-POSTRTG");
	assert_int_equal(check(&f), IPTABLES_REPAIRED);
	assert_int_equal(n_restores(), 1);
	tear_down(&f);
}

/* A table of which iptables-nft-save says nothing is not taken for an empty one: the jump
 * would come once more at each check. */
static void test_words_of_nft(void **state)
{
	static const char vmap[] = "nft insert rule ip filter FORWARD ct state vmap "
				   "'{ established : accept }'";
	_cleanup_free_ char *before = NULL, *after = NULL;
	struct fixture f;

	(void)state;
	set_up(&f, IPTABLES_NFT, IP_V4);
	run_shell("iptables-nft -P FORWARD DROP; %s", vmap);
	n_restores();
	before = output_of("nft -s list table ip filter");
	/* nat can be listed, and gets what belongs there. */
	assert_int_equal(want(&f, &f.policy), IPTABLES_FAILED);
	assert_int_equal(n_restores(), 1);
	assert_non_null(
		strstr(f.text, "iptables-nft-save: it cannot list table filter, in which "));
	assert_non_null(strstr(f.text, "EnableNFTables"));
	assert_int_equal(check(&f), IPTABLES_FAILED);
	assert_int_equal(n_restores(), 0);
	after = output_of("nft -s list table ip filter");
	assert_string_equal(after, before);
	run_shell("iptables-nft-save -t nat | grep -q -- '-A POSTROUTING .* FLANNEL-POSTRTG'");

	run_shell("nft delete rule ip filter FORWARD handle "
		  "$(nft -a list chain ip filter FORWARD | sed -n 's/.*vmap.*handle //p')");
	run_shell("iptables-nft -P FORWARD ACCEPT");
	assert_int_equal(check(&f), IPTABLES_APPLIED);
	assert_canonical(&f);
	run_shell("%s", vmap);
	assert_int_equal(check(&f), IPTABLES_FAILED);
	assert_int_equal(n_restores(), 1);
	tear_down(&f);
}

/* Last: from then on this process sees none of the system's programs. */
static void test_not_installed(void **state)
{
	static const char help[] =
		": install iptables, or set EnableNFTables in the network config";
	struct fixture f;

	(void)state;
	set_up(&f, IPTABLES_NFT, IP_V4);
	run_shell("rm %s/iptables-*", directory);
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", "/usr/sbin", "tmpfs", 0, NULL))
		fail_msg("mount: %s", strerror(errno));
	assert_int_equal(want(&f, &f.policy), IPTABLES_FAILED);
	/* Nobody has chosen that one: no advice. */
	assert_string_equal(f.text, "iptables-nft-save is not installed");
	assert_int_equal(check(&f), IPTABLES_FAILED);
	assert_int_equal(f.n_done, 2);
	f.ipt->variant = IPTABLES_DEFAULT;
	assert_int_equal(check(&f), IPTABLES_FAILED);
	assert_non_null(strstr(f.text, help));
	f.version = iptables_ask_version(f.loop, on_version, &f);
	assert_int_equal(wait_for_outcome(&f), IPTABLES_FAILED);
	assert_string_equal(f.text, "iptables-restore is not installed");
	tear_down(&f);
}

/* The scripts in front of the real programs. */
static int prepare(void)
{
	char path[256], text[512];

	if (!mkdtemp(directory))
		return -errno;
	for (enum iptables_variant v = 0; v < IPTABLES_VARIANT_COUNT; v++) {
		IP_FOREACH_FAMILY (f) {
			(void)snprintf(path, sizeof(path), "%s/%s-restore", directory, tools[v][f]);
			(void)snprintf(text, sizeof(text),
				       "#!/bin/sh\nD=%s\necho \"$0 $*\" >>$D/log\n"
				       "if [ -e $D/first ]; then . $D/first; fi\n"
				       "exec /usr/sbin/%s-restore \"$@\"\n",
				       directory, tools[v][f]);
			if (file_write_atomic(path, text, 0755, NULL))
				return -EIO;
		}
	}
	(void)snprintf(path, sizeof(path), "%s:%s", directory, getenv("PATH"));
	(void)snprintf(text, sizeof(text), "%s/xtables.lock", directory);
	return setenv("PATH", path, 1) || setenv("XTABLES_LOCKFILE", text, 1) ? -errno : 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_drift),
		cmocka_unit_test(test_among_others),
		cmocka_unit_test(test_take_over),
		cmocka_unit_test(test_take_over_from_nft),
		cmocka_unit_test(test_change),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_missing_extension),
		cmocka_unit_test(test_race),
		cmocka_unit_test(test_other_spelling),
		cmocka_unit_test(test_hanging),
		cmocka_unit_test(test_lock),
		cmocka_unit_test(test_freed_when_done),
		cmocka_unit_test(test_version),
		cmocka_unit_test(test_legacy_in_use),
		cmocka_unit_test(test_no_random_ports),
		cmocka_unit_test(test_words_of_nft),
		cmocka_unit_test(test_not_installed),
	};
	int n_failed;

	if (access("/usr/sbin/iptables-legacy-restore", X_OK) || unshare(CLONE_NEWNET)) {
		/* In TAP, a plan of nothing is a skip. */
		printf("1..0 # SKIP iptables in a network namespace: %s\n", strerror(errno));
		return 0;
	}
	if (prepare())
		return 1;
	n_failed = cmocka_run_group_tests(tests, NULL, NULL);
	run_shell("rm -r %s", directory);
	return n_failed;
}
