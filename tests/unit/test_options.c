/* SPDX-License-Identifier: Apache-2.0 */
/* test_options.c - flags and their variables: values, precedence, errors, documents */
#include "daemon/options.h"

#include "base/mem.h"
#include "daemon/options_table.h"
#include "daemon/pattern.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ARGS_MAX 24

static char no_env_end[] = "";

/* Parses space separated @flags over space separated @variables. */
static int parse(const char *flags, const char *variables, struct options *ret_options,
		 struct err *err)
{
	static char words[2][1024]; /* the options borrow from them */
	char *list[2][ARGS_MAX] = {{no_env_end}};
	const char *text[2] = {flags, variables};
	size_t n[2] = {1, 0}; /* argv[0] is the program */

	for (size_t i = 0; i < 2; i++) {
		char *cursor = words[i];

		(void)snprintf(words[i], sizeof(words[i]), "%s", text[i]);
		while (*text[i] && cursor && n[i] < ARGS_MAX - 1)
			list[i][n[i]++] = strsep(&cursor, " ");
		list[i][n[i]] = NULL;
	}
	err->text[0] = '\0';
	return options_parse((int)n[0], list[0], list[1], ret_options, err);
}

static struct options parse_ok(const char *flags, const char *variables)
{
	struct options options;
	struct err err;

	if (parse(flags, variables, &options, &err) != 0)
		fail_msg("%s [%s]: %s", flags, variables, err.text);
	return options;
}

static void test_defaults(void **state)
{
	struct options o = parse_ok("", "");
	char text[IP_STRLEN];

	(void)state;
	assert_string_equal(o.subnet_dir, "");
	assert_string_equal(o.etcd_endpoints, "http://127.0.0.1:4001,http://127.0.0.1:2379");
	assert_string_equal(o.etcd_prefix, "/coreos.com/network");
	assert_string_equal(o.kube_annotation_prefix, "flannel.alpha.coreos.com");
	assert_string_equal(o.net_config_path, "/etc/kube-flannel/net-conf.json");
	assert_string_equal(o.subnet_file, "/run/flannel/subnet.env");
	assert_int_equal(o.subnet_lease_renew_margin_min, 60);
	assert_int_equal(o.iptables_resync_s, 5);
	assert_true(o.iptables_forward_rules);
	assert_true(o.set_node_network_unavailable);
	assert_true(o.peer_filter);
	assert_false(o.ip_masq);
	assert_int_equal(o.tx_checksum, TX_CHECKSUM_AUTO);
	assert_string_equal(ip_format(&o.healthz_ip, text), "0.0.0.0");
	assert_int_equal(o.healthz_port, 0);
	assert_int_equal(o.verbosity, 0);
	assert_int_equal(o.iface.n, 0);
	assert_false(ip_is_set(&o.public_ip[IP_V4]));
}

static void test_spellings(void **state)
{
	static const char *const flags[] = {
		"-subnet-dir=/d",
		"--subnet-dir=/d",
		"-subnet-dir /d",
		"--subnet-dir /d",
		"--subnet-dir /d --",
		"--subnet-dir=/x --subnet-dir=/d",
		"--subnet-dir -d -v 3 --subnet-dir /d",
	};
	static const char *const on[] = {"--ip-masq",      "-ip-masq",      "--ip-masq=1",
					 "--ip-masq=t",    "--ip-masq=T",   "--ip-masq=TRUE",
					 "--ip-masq=true", "--ip-masq=True"};
	static const char *const off[] = {"--peer-filter=0",     "--peer-filter=f",
					  "--peer-filter=F",     "--peer-filter=FALSE",
					  "--peer-filter=false", "--peer-filter=False"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++)
		assert_string_equal(parse_ok(flags[i], "").subnet_dir, "/d");
	for (size_t i = 0; i < ARRAY_SIZE(on); i++)
		assert_true(parse_ok(on[i], "").ip_masq);
	for (size_t i = 0; i < ARRAY_SIZE(off); i++)
		assert_false(parse_ok(off[i], "").peer_filter);
	assert_true(parse_ok("-h", "").help);
	assert_true(parse_ok("--help", "").help);
	assert_true(parse_ok("-version", "").version);
	assert_int_equal(parse_ok("-v=4", "").verbosity, 4);
	assert_int_equal(parse_ok("--healthz-port 0x1f90", "").healthz_port, 8080);
	assert_int_equal(parse_ok("--tx-checksum=off", "").tx_checksum, TX_CHECKSUM_OFF);
	assert_string_equal(parse_ok("--log_backtrace_at=main.c:3", "").log_backtrace_at,
			    "main.c:3");
}

static void test_lists(void **state)
{
	struct options o = parse_ok("--iface=eth0 --iface eth1 --iface-regex=^e.{1,2}$", "");

	(void)state;
	assert_int_equal(o.iface.n, 2);
	assert_string_equal(o.iface.item[0], "eth0");
	assert_string_equal(o.iface.item[1], "eth1");
	assert_int_equal(o.iface_regex.n, 1);

	o = parse_ok("", "FLANNELD_IFACE=eth0,,eth1 FLANNELD_IFACE_REGEX=^e.{1,2}$");
	assert_int_equal(o.iface.n, 2);
	assert_string_equal(o.iface.item[1], "eth1");
	assert_int_equal(o.iface_regex.n, 1);
	assert_string_equal(o.iface_regex.item[0], "^e.{1,2}$");
	options_done(&o);

	/* Flags replace the variable's list; an empty choice is none. */
	o = parse_ok("--iface=eth2", "FLANNELD_IFACE=eth0,eth1");
	assert_int_equal(o.iface.n, 1);
	assert_int_equal(parse_ok("--iface= --iface-regex=", "").iface.n, 0);
}

static void test_environment(void **state)
{
	struct options o = parse_ok("--healthz-port=1 --public-ip=192.0.2.1",
				    "FLANNELD_HEALTHZ_PORT=2 FLANNELD_SUBNET_DIR=/d FLANNELD_V=3 "
				    "FLANNELD_IP_MASQ=true FLANNELD_PEER_FILTER= "
				    "FLANNELD_PUBLIC_IPV6=2001:db8::1 FLANNELD_SERVICE_HOST=x "
				    "EVENT_QUEUE_DEPTH=9 NODE_NAME=n XFLANNELD_V=9");
	char text[IP_STRLEN];

	(void)state;
	assert_int_equal(o.healthz_port, 1);
	assert_string_equal(o.subnet_dir, "/d");
	assert_int_equal(o.verbosity, 3);
	assert_true(o.ip_masq);
	assert_true(o.peer_filter);
	assert_string_equal(ip_format(&o.public_ip[IP_V4], text), "192.0.2.1");
	assert_string_equal(ip_format(&o.public_ip[IP_V6], text), "2001:db8::1");
	/* Help comes whatever the environment holds. */
	assert_true(parse_ok("--help", "FLANNELD_V=x").help);
}

static void test_errors(void **state)
{
	static const struct {
		const char *flags, *variables, *text;
	} rows[] = {
		{"--subnet_dir=/d", "", "unknown flag --subnet_dir; did you mean --subnet-dir?"},
		{"--pubic-ip=1.2.3.4", "", "unknown flag --pubic-ip; did you mean --public-ip?"},
		{"--frobnicate", "", "unknown flag --frobnicate (see --help)"},
		{"-x", "", "unknown flag --x (see --help)"},
		{"---v=1", "", "---v=1 is not a flag (see --help)"},
		{"--=1", "", "--=1 is not a flag (see --help)"},
		{"--subnet-dir", "", "--subnet-dir needs a value: --subnet-dir=DIR"},
		{"start", "", "unexpected argument start: there are only flags"},
		{"-", "", "unexpected argument -: there are only flags"},
		{"-- start", "", "unexpected argument start: there are only flags"},
		{"--ip-masq false", "", "unexpected argument false; did you mean --ip-masq=false?"},
		{"--cleanup-files", "", "--cleanup-files goes with --cleanup"},
		{"--cleanup-files --cleanup=false", "FLANNELD_CLEANUP=true",
		 "--cleanup-files goes with --cleanup"},
		{"", "FLANNELD_CLEANUP_FILES=true", "--cleanup-files goes with --cleanup"},
		{"--ip-masq=yes", "", "--ip-masq=yes: must be true or false"},
		{"--ip-masq=", "", "--ip-masq=: must be true or false"},
		{"--healthz-port=65536", "",
		 "--healthz-port=65536: must be a whole number from 0 to 65535"},
		{"--healthz-port=8x", "",
		 "--healthz-port=8x: must be a whole number from 0 to 65535"},
		{"--healthz-port=", "", "--healthz-port=: must be a whole number from 0 to 65535"},
		{"-v=99999999999999999999", "",
		 "--v=99999999999999999999: must be a whole number from 0 to 2147483647"},
		{"--subnet-lease-renew-margin 1440", "",
		 "--subnet-lease-renew-margin=1440: must be a whole number from 1 to 1439"},
		{"--subnet-lease-renew-margin 0", "",
		 "--subnet-lease-renew-margin=0: must be a whole number from 1 to 1439"},
		{"--public-ip=2001:db8::1", "",
		 "--public-ip=2001:db8::1: must be an IPv4 address that a host can have"},
		{"--public-ip=224.0.0.1", "",
		 "--public-ip=224.0.0.1: must be an IPv4 address that a host can have"},
		{"--public-ipv6=::", "",
		 "--public-ipv6=::: must be an IPv6 address that a host can have"},
		{"--iface-can-reach=host", "",
		 "--iface-can-reach=host: must be an IP address that a host can have"},
		{"--healthz-ip=localhost", "", "--healthz-ip=localhost: must be an IP address"},
		{"--tx-checksum=maybe", "", "--tx-checksum=maybe: must be one of auto|on|off"},
		{"--subnet-file=", "", "--subnet-file=: may not be empty"},
		{"--kube-annotation-prefix=a/b/c", "",
		 "--kube-annotation-prefix=a/b/c: may hold at most one slash"},
		{"--iface-regex=(eth", "",
		 "--iface-regex=(eth: not a regular expression: Unmatched ( or \\("},
		{"", "FLANNELD_IP_MASQ=yes", "FLANNELD_IP_MASQ=yes: must be true or false"},
		{"", "FLANNELD_HEALTHZ_PORT=-1",
		 "FLANNELD_HEALTHZ_PORT=-1: must be a whole number from 0 to 65535"},
	};
	struct options options, untouched;
	struct err err;

	(void)state;
	memset(&untouched, 0x5a, sizeof(untouched));
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		memset(&options, 0x5a, sizeof(options));
		assert_int_equal(parse(rows[i].flags, rows[i].variables, &options, &err), -EINVAL);
		assert_string_equal(err.text, rows[i].text);
		assert_memory_equal(&options, &untouched, sizeof(options));
	}
}

static void test_list_limit(void **state)
{
	char flags[512] = "--iface=e";
	struct options options;
	struct err err;

	(void)state;
	for (size_t i = 1; i < OPTIONS_LIST_MAX; i++)
		(void)strncat(flags, " --iface=e", sizeof(flags) - strlen(flags) - 1);
	assert_int_equal(parse_ok(flags, "").iface.n, OPTIONS_LIST_MAX);
	(void)strncat(flags, " --iface=e", sizeof(flags) - strlen(flags) - 1);
	assert_int_equal(parse(flags, "", &options, &err), -EINVAL);
	assert_string_equal(err.text, "--iface=e: may be given at most 16 times");
}

static void test_secrets_are_not_repeated(void **state)
{
	static const char *const flags[] = {
		"--etcd-pasword=hunter2",
		"--etcd-pasword hunter2",
		"--etcd-password= hunter2",
	};
	struct options options;
	struct err err;

	(void)state;
	assert_string_equal(parse_ok("--etcd-password=hunter2", "").etcd_password, "hunter2");
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		assert_int_equal(parse(flags[i], "", &options, &err), -EINVAL);
		assert_null(strstr(err.text, "hunter2"));
	}
}

static char *document(void (*print)(FILE *))
{
	char *text = NULL;
	size_t n;
	FILE *out = open_memstream(&text, &n);

	assert_non_null(out);
	print(out);
	assert_int_equal(fclose(out), 0);
	return text;
}

static void test_documents(void **state)
{
	_cleanup_free_ char *help = document(options_print_help);
	_cleanup_free_ char *man = document(options_print_man);

	(void)state;
	for (size_t i = 0; i < option_n_rows; i++) {
		char name[OPTION_ENV_MAX];

		if (option_rows[i].type == OPTION_HEADING)
			continue;
		(void)snprintf(name, sizeof(name), "%s%s", option_rows[i].name[1] ? "--" : "-",
			       option_rows[i].name);
		assert_non_null(strstr(help, name));
		assert_true(strlen(option_env_name(&option_rows[i], name)) < sizeof(name) - 1);
	}
	for (const char *line = help; line; line = strchr(line + 1, '\n'))
		assert_true(strcspn(line + 1, "\n") <= 100);
	assert_non_null(strstr(man, ".SH OPTIONS\n"));
	assert_non_null(strstr(man, "\\-\\-subnet\\-dir"));
	assert_non_null(strstr(man, "\nFrom 1 to 1439.\nDefault: 60.\n"));
}

static void test_patterns(void **state)
{
	static const struct {
		const char *pattern, *text;
		int match; /* -1: refused */
	} rows[] = {
		{"^eth", "eth0", 1},
		{"^eth", "veth0", 0},
		{"eth|ens", "ens3", 1},
		{"^(?:eth|ens)\\d+$", "ens33", 1},
		{"^(?:eth|ens)\\d+$", "ensx", 0},
		{"^\\d{1,3}\\.0\\.", "10.0.1.2", 1},
		{"(\\d{1,3}\\.){3}\\d{1,3}", "10.0.1.2", 1},
		{"^10\\.0\\.\\d+?\\.2$", "10.0.17.2", 1},
		{"^10\\.0\\.\\d+?\\.2$", "10.0..2", 0},
		{"^[\\w.]+$", "eth0.100", 1},
		{"^[\\d.]+$", "10.1", 1},
		{"^[^\\d]+$", "lo", 1},
		{"^[[:alpha:]]+$", "lo", 1},
		{"^[\\.]$", "\\", 0},
		{"(?i)^ETH", "eth0", 1},
		{"", "", -1},
		{"[a", "", -1},
		{"a)", "", -1},
		{"*", "", -1},
		{"\\", "", -1},
		{"\\pL", "", -1},
		{"(?P<x>a)", "", -1},
		{"a{2,1}", "", -1},
		{"(a{100}){100}", "", -1},
		{"((((((((((a)+)+)+)+)+)+)+)+)+)+", "", -1},
		{"a++", "", -1},
		{"a+b+c+d+e+f+g+h+i+j+k+", "abcdefghijk", 1},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct pattern *pattern = NULL;
		struct err err;
		int got = pattern_new(rows[i].pattern, &pattern, &err);

		if (got == 0)
			got = pattern_matches(pattern, rows[i].text);
		else
			got = -1;
		pattern_free(pattern);
		if (got != rows[i].match)
			fail_msg("%s on %s: %d", rows[i].pattern, rows[i].text, got);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_spellings),
		cmocka_unit_test(test_lists),
		cmocka_unit_test(test_environment),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_list_limit),
		cmocka_unit_test(test_secrets_are_not_repeated),
		cmocka_unit_test(test_documents),
		cmocka_unit_test(test_patterns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
