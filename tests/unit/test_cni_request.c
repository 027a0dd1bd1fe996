/* SPDX-License-Identifier: Apache-2.0 */
/* test_cni_request.c - the environment that a runtime gives the plugin */
#include "cni/request.h"

#include "base/mem.h"

#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* "NAME=value" strings, NULL at the end. */
static const char *const *variables;

static char *get(const char *name)
{
	size_t n = strlen(name);

	for (const char *const *v = variables; *v; v++)
		if (!strncmp(*v, name, n) && (*v)[n] == '=')
			return (char *)(uintptr_t)(*v + n + 1);
	return NULL;
}

#define PARSE(request, error, ...)                                                                 \
	(variables = (const char *const[]){__VA_ARGS__, NULL},                                     \
	 cni_request_parse(get, request, error))
#define ALL                                                                                        \
	"CNI_CONTAINERID=abc", "CNI_NETNS=/run/netns/x", "CNI_IFNAME=eth0", "CNI_ARGS=A=1;B=2",    \
		"CNI_PATH=/opt/cni/bin:/usr/lib/cni"

static void test_whole(void **state)
{
	struct cni_request request;
	struct cni_error error;

	(void)state;
	assert_int_equal(PARSE(&request, &error, "CNI_COMMAND=ADD", ALL), 0);
	assert_int_equal(request.command, CNI_ADD);
	assert_string_equal(request.container_id, "abc");
	assert_string_equal(request.netns, "/run/netns/x");
	assert_string_equal(request.ifname, "eth0");
	assert_string_equal(request.args, "A=1;B=2");
	assert_string_equal(request.path, "/opt/cni/bin:/usr/lib/cni");
	assert_false(request.netns_may_be_ours);
}

static void test_commands(void **state)
{
	struct cni_request request;
	struct cni_error error;

	(void)state;
	for (enum cni_command c = 0; c < CNI_COMMAND_COUNT; c++) {
		char command[32];

		(void)snprintf(command, sizeof(command), "CNI_COMMAND=%s", cni_command_name(c));
		assert_int_equal(PARSE(&request, &error, command, ALL), 0);
		assert_int_equal(request.command, c);
	}
}

static void test_override(void **state)
{
	static const struct {
		const char *text;
		bool wanted;
	} cases[] = {
		{"CNI_NETNS_OVERRIDE=1", true},      {"CNI_NETNS_OVERRIDE=TRUE", true},
		{"CNI_NETNS_OVERRIDE=true", true},   {"CNI_NETNS_OVERRIDE=0", false},
		{"CNI_NETNS_OVERRIDE=false", false}, {"CNI_NETNS_OVERRIDE=", false},
	};
	struct cni_request request;
	struct cni_error error;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(PARSE(&request, &error, "CNI_COMMAND=ADD", ALL, cases[i].text), 0);
		assert_int_equal(request.netns_may_be_ours, cases[i].wanted);
	}
}

#define REFUSED(words, ...)                                                                        \
	do {                                                                                       \
		struct cni_request refused = {.command = CNI_COMMAND_COUNT};                       \
		struct cni_error why = {0};                                                        \
		assert_int_equal(PARSE(&refused, &why, __VA_ARGS__), -1);                          \
		assert_int_equal(why.code, CNI_ENVIRONMENT_INVALID);                               \
		assert_int_equal(refused.command, CNI_COMMAND_COUNT);                              \
		if (!strstr(why.msg, words))                                                       \
			fail_msg("\"%s\" lacks \"%s\"", why.msg, words);                           \
	} while (0)

static void test_missing(void **state)
{
	(void)state;
	REFUSED("CNI_COMMAND is not set", ALL);
	REFUSED("CNI_COMMAND is not set", "CNI_COMMAND=", ALL);
	REFUSED("CNI_COMMAND=FROB: unknown", "CNI_COMMAND=FROB", ALL);
	REFUSED("CNI_COMMAND=add: unknown", "CNI_COMMAND=add", ALL);
	REFUSED("ADD needs CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_PATH in the environment",
		"CNI_COMMAND=ADD");
	REFUSED("DEL needs CNI_CONTAINERID, CNI_IFNAME, CNI_PATH in", "CNI_COMMAND=DEL");
	REFUSED("CHECK needs CNI_NETNS in", "CNI_COMMAND=CHECK", "CNI_CONTAINERID=a",
		"CNI_NETNS=", "CNI_IFNAME=b", "CNI_PATH=/p");
	REFUSED("GC needs CNI_PATH in", "CNI_COMMAND=GC");
	REFUSED("STATUS needs CNI_PATH in", "CNI_COMMAND=STATUS");
}

static void test_not_needed(void **state)
{
	struct cni_request request;
	struct cni_error error;

	(void)state;
	assert_int_equal(PARSE(&request, &error, "CNI_COMMAND=VERSION"), 0);
	assert_int_equal(PARSE(&request, &error, "CNI_COMMAND=DEL", "CNI_CONTAINERID=abc",
			       "CNI_IFNAME=eth0", "CNI_PATH=/p"),
			 0);
	assert_string_equal(request.netns, "");
	assert_string_equal(request.args, "");
	/* Of no attachment: what is there is not looked at, and not used. */
	assert_int_equal(PARSE(&request, &error, "CNI_COMMAND=GC", "CNI_CONTAINERID=../..",
			       "CNI_IFNAME=/", "CNI_PATH=/p"),
			 0);
	assert_string_equal(request.container_id, "");
	assert_string_equal(request.ifname, "");
}

static void test_tricks(void **state)
{
	(void)state;
	REFUSED("CNI_CONTAINERID=../../etc/passwd: ", "CNI_COMMAND=DEL",
		"CNI_CONTAINERID=../../etc/passwd", "CNI_IFNAME=eth0", "CNI_PATH=/p");
	REFUSED("CNI_IFNAME=../x is no name", "CNI_COMMAND=DEL", "CNI_CONTAINERID=a",
		"CNI_IFNAME=../x", "CNI_PATH=/p");
}

static void test_names(void **state)
{
	static const char *const good[] = {"a", "0", "Ab_c.d-e", "a.", "3f2a..b"};
	static const char *const bad[] = {"",    ".",   "..", ".a",  "-a",      "_a",
					  "a/b", "a b", "a:", "a\n", "\xc3\xa4"};
	char name[NAME_MAX + 2] = "";

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_true(cni_name_is_sound(good[i]));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(cni_name_is_sound(bad[i]));
	memset(name, 'a', NAME_MAX);
	assert_true(cni_name_is_sound(name));
	memset(name, 'a', NAME_MAX + 1);
	assert_false(cni_name_is_sound(name));
}

static void test_ifnames(void **state)
{
	static const char *const good[] = {"e",   "eth0",    "a.b", "fifteen-bytes-1",
					   "...", "\xc3\xa4"};
	static const char *const bad[] = {
		"", ".", "..", "sixteen-bytes-16", "a/b", "a:b", "a b", "a\tb", "a\n", "\x7f"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_true(cni_ifname_is_sound(good[i]));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(cni_ifname_is_sound(bad[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole),      cmocka_unit_test(test_commands),
		cmocka_unit_test(test_override),   cmocka_unit_test(test_missing),
		cmocka_unit_test(test_not_needed), cmocka_unit_test(test_tricks),
		cmocka_unit_test(test_names),      cmocka_unit_test(test_ifnames),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
