/* SPDX-License-Identifier: Apache-2.0 */
/* test_etcd_link.c - how etcd is reached: settings, right and wrong, and whose turn it is */
#include "store/etcd_link.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define GOOD .endpoints = "http://127.0.0.1:2379", .prefix = "/coreos.com/network"

/* What is not named is not given. */
static struct etcd_settings filled(const struct etcd_settings *row)
{
	struct etcd_settings s = *row;
	const char **members[] = {&s.endpoints, &s.prefix,   &s.files.ca, &s.files.cert,
				  &s.files.key, &s.username, &s.password, &s.password_file};

	for (size_t i = 0; i < ARRAY_SIZE(members); i++)
		if (!*members[i])
			*members[i] = "";
	return s;
}

#define LONG50  "aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeee"
#define LONG250 LONG50 LONG50 LONG50 LONG50 LONG50
#define FIVE    "http://a,http://b,http://c,http://d,http://e,"

static void test_faults(void **state)
{
	static const struct {
		struct etcd_settings settings;
		const char *says;
	} rows[] = {
		{{.prefix = "/p"}, "--etcd-endpoints: \"\" names no endpoint"},
		{{.endpoints = " , ,", .prefix = "/p"},
		 "--etcd-endpoints: \" , ,\" names no endpoint"},
		{{.endpoints = "http://a,ftp://b", .prefix = "/p"},
		 "--etcd-endpoints: 'ftp://b' does not begin with http:// or https://"},
		{{.endpoints = "http://a http://b", .prefix = "/p"},
		 "--etcd-endpoints: 'http://a http://b': "},
		{{.endpoints = "http://root:secret@a", .prefix = "/p"},
		 "--etcd-endpoints: 'http://***@a': a user name and password"},
		{{.endpoints = "root:secret@a:1", .prefix = "/p"},
		 "--etcd-endpoints: 'http://***@a:1': a user name and password"},
		{{.endpoints = "http://a:1,http://b:1,https://c:1", .prefix = "/p"},
		 "--etcd-endpoints: http://a:1 and https://c:1: http and https cannot be mixed"},
		{{.endpoints = FIVE FIVE FIVE FIVE FIVE FIVE FIVE, .prefix = "/p"},
		 "--etcd-endpoints: more than 32 endpoints"},
		{{.endpoints = "http://a"}, "--etcd-prefix is empty"},
		{{.endpoints = "http://a", .prefix = "/" LONG250 LONG250 LONG50},
		 "--etcd-prefix is longer than 511 characters"},
		{{GOOD, .files.cert = "c"},
		 "--etcd-certfile is given, but --etcd-keyfile is not: they go together"},
		{{GOOD, .files.key = "k"},
		 "--etcd-keyfile is given, but --etcd-certfile is not: they go together"},
		{{GOOD, .username = "u", .password = "secret", .password_file = "f"},
		 "--etcd-password and --etcd-password-file exclude each other"},
		{{GOOD, .username = "u", .password_file = "/nowhere/pw"}, "--etcd-password-file: "},
		{{GOOD, .username = "u", .password_file = "/dev/null"},
		 "--etcd-password-file: /dev/null is not a regular file"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct etcd_settings settings = filled(&rows[i].settings);
		struct etcd_link link;
		struct err err = {""};

		assert_true(etcd_link_init(&link, &settings, &err) < 0);
		if (strncmp(err.text, rows[i].says, strlen(rows[i].says)) != 0)
			fail_msg("row %zu says: %s", i, err.text);
		assert_null(strstr(err.text, "secret"));
	}
}

static void test_good(void **state)
{
	const struct etcd_settings row = {
		.endpoints = " http://10.0.0.1 ,\thttp://[fd00::1]:4001/,http://etcd.example:1,",
		.prefix = "/coreos.com/network//",
		.username = "u",
		.password = "p"};
	struct etcd_settings settings = filled(&row);
	_cleanup_free_ char *long_prefix = mem_strdup("/" LONG250 LONG250 "0123456789");
	struct etcd_link link;
	struct err err = {""};
	char *password;

	(void)state;
	if (etcd_link_init(&link, &settings, &err))
		fail_msg("%s", err.text);
	assert_int_equal(link.n_endpoints, 3);
	assert_int_equal(link.endpoint[0].port, 2379);
	assert_string_equal(link.endpoint[1].text, "http://[fd00::1]:4001");
	assert_string_equal(link.prefix, "/coreos.com/network");
	assert_int_equal(etcd_link_password(&link, &password, &err), 0);
	assert_string_equal(password, "p");
	mem_free_secret(password);
	settings.prefix = long_prefix;
	assert_int_equal(etcd_link_init(&link, &settings, &err), 0);
	assert_int_equal(strlen(link.prefix), 511);
}

/* What the original takes, in silence, and what its users may thus have. */
static void test_tolerated(void **state)
{
	static const struct {
		struct etcd_settings settings;
		const char *endpoint, *prefix;
		bool user;
	} rows[] = {
		{{.endpoints = "127.0.0.1:2379", .prefix = "/p"},
		 "http://127.0.0.1:2379",
		 "/p",
		 false},
		{{.endpoints = "http://a", .prefix = "coreos.com"},
		 "http://a",
		 "coreos.com",
		 false},
		{{.endpoints = "http://a", .prefix = "///"}, "http://a", "", false},
		{{GOOD, .files.ca = "ca"}, "http://127.0.0.1:2379", "/coreos.com/network", false},
		{{GOOD, .files.cert = "c", .files.key = "k"},
		 "http://127.0.0.1:2379",
		 "/coreos.com/network",
		 false},
		{{GOOD, .username = "u"}, "http://127.0.0.1:2379", "/coreos.com/network", false},
		{{GOOD, .password = "secret"},
		 "http://127.0.0.1:2379",
		 "/coreos.com/network",
		 false},
		{{GOOD, .username = "u", .password = "p"},
		 "http://127.0.0.1:2379",
		 "/coreos.com/network",
		 true},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct etcd_settings settings = filled(&rows[i].settings);
		struct etcd_link link;
		struct err err = {""};

		if (etcd_link_init(&link, &settings, &err))
			fail_msg("row %zu: %s", i, err.text);
		assert_string_equal(etcd_link_endpoint(&link)->text, rows[i].endpoint);
		assert_string_equal(link.prefix, rows[i].prefix);
		assert_int_equal(etcd_link_has_user(&link), rows[i].user);
	}
}

/* Read anew each time; what is behind the first line does not count. */
static void test_password_file(void **state)
{
	static const struct {
		const char *text, *password; /* NULL: refused */
	} rows[] = {{"s3 cret\n", "s3 cret"}, {"a", "a"},         {"b\r\n", "b"},
		    {"c\nmore\n", "c"},       {"\nbehind", NULL}, {"", NULL}};
	char path[] = "/tmp/weft-password-XXXXXX";
	const struct etcd_settings row = {GOOD, .username = "u", .password_file = path};
	struct etcd_settings settings = filled(&row);
	struct etcd_link link = {.settings = &settings};
	int fd = mkstemp(path);

	(void)state;
	assert_true(fd >= 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct err err = {""};
		char *password = NULL;
		int code;

		assert_int_equal(ftruncate(fd, 0), 0);
		assert_int_equal(pwrite(fd, rows[i].text, strlen(rows[i].text), 0),
				 strlen(rows[i].text));
		code = etcd_link_password(&link, &password, &err);
		assert_int_equal(code, rows[i].password ? 0 : -EINVAL);
		if (rows[i].password)
			assert_string_equal(password, rows[i].password);
		assert_null(strstr(err.text, "behind"));
		mem_free_secret(password);
	}
	assert_int_equal(ftruncate(fd, ETCD_PASSWORD_MAX + 1), 0);
	assert_true(etcd_link_password(&link, &(char *){NULL}, NULL) < 0);
	(void)close(fd);
	(void)unlink(path);
}

static void test_rotation(void **state)
{
	const struct etcd_settings row = {.endpoints = "http://a,http://b,http://c",
					  .prefix = "/p"};
	struct etcd_settings settings = filled(&row);
	unsigned begun[3] = {0};
	struct etcd_link link;

	(void)state;
	for (int i = 0; i < 200; i++) {
		assert_int_equal(etcd_link_init(&link, &settings, NULL), 0);
		begun[link.current]++;
	}
	/* Hosts spread. */
	assert_true(begun[0] && begun[1] && begun[2]);

	for (int round = 0; round < 2; round++)
		for (size_t i = 0; i < 3; i++) {
			const char *before = etcd_link_endpoint(&link)->text;

			assert_int_equal(etcd_link_next(&link), i == 2);
			assert_string_not_equal(etcd_link_endpoint(&link)->text, before);
		}
	assert_false(etcd_link_next(&link));
	etcd_link_good(&link);
	assert_false(etcd_link_next(&link));
	assert_false(etcd_link_next(&link));
	assert_true(etcd_link_next(&link));

	settings.endpoints = "http://a";
	assert_int_equal(etcd_link_init(&link, &settings, NULL), 0);
	assert_true(etcd_link_next(&link));
	assert_true(etcd_link_next(&link));
	assert_string_equal(etcd_link_endpoint(&link)->text, "http://a");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_faults),    cmocka_unit_test(test_good),
		cmocka_unit_test(test_tolerated), cmocka_unit_test(test_password_file),
		cmocka_unit_test(test_rotation),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
