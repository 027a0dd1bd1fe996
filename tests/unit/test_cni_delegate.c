/* SPDX-License-Identifier: Apache-2.0 */
/* test_cni_delegate.c - other plugins, run as a runtime runs them */
#include "cni/delegate.h"

#include "cni_site.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

static struct cni_error error;

/* Runs plugin "p" on @conf, which is borrowed. */
static int run_with(json_t *conf, enum cni_command command, json_t **ret_answer)
{
	struct cni_request request = site_request(command);

	memset(&error, 0, sizeof(error));
	return delegate_run(&request, "p", command, conf, ret_answer, &error);
}

static int run(enum cni_command command, json_t **ret_answer)
{
	_cleanup_json_ json_t *conf = json_pack("{s:s}", "cniVersion", "1.0.0");

	return run_with(conf, command, ret_answer);
}

static void failed_one(const char *body, unsigned code, const char *words)
{
	json_t *answer;

	site_plugin("p", body);
	assert_int_equal(run(CNI_ADD, &answer), -1);
	assert_null(answer);
	assert_int_equal(error.code, code);
	if (!strstr(error.msg, words))
		fail_msg("%s: \"%s\" lacks \"%s\"", body, error.msg, words);
}

static bool env_has(const char *line)
{
	char with_newline[PATH_MAX];

	(void)snprintf(with_newline, sizeof(with_newline), "%s\n", line);
	return strstr(site_read("env"), with_newline);
}

static void test_as_a_runtime(void **state)
{
	_cleanup_json_ json_t *answer = NULL;
	char path[PATH_MAX];

	(void)state;
	assert_int_equal(setenv("CNI_COMMAND", "CHECK", 1), 0);
	assert_int_equal(setenv("CNI_IFNAME", "wrong", 1), 0);
	assert_int_equal(setenv("OTHER", "kept", 1), 0);
	site_plugin("p", "echo '{\"cniVersion\":\"1.0.0\",\"x\":1}'");
	assert_int_equal(run(CNI_ADD, &answer), 0);
	assert_int_equal(json_integer_value(json_object_get(answer, "x")), 1);
	assert_string_equal(site_read("in"), "{\"cniVersion\":\"1.0.0\"}");
	assert_true(env_has("CNI_COMMAND=ADD"));
	assert_true(env_has("CNI_CONTAINERID=abc"));
	assert_true(env_has("CNI_NETNS=/run/netns/weft-no-such-netns"));
	assert_true(env_has("CNI_IFNAME=eth0"));
	assert_true(env_has("CNI_ARGS=K=V"));
	assert_true(env_has("OTHER=kept"));
	(void)snprintf(path, sizeof(path), "CNI_PATH=%s/bin", site);
	assert_true(env_has(path));
	assert_false(env_has("CNI_IFNAME=wrong"));
}

/* Only ADD and VERSION have answers. */
static void test_answers(void **state)
{
	json_t *answer;

	(void)state;
	site_plugin("p", "true");
	assert_int_equal(run(CNI_ADD, &answer), 0);
	assert_null(answer);
	site_plugin("p", "echo rubbish");
	assert_int_equal(run(CNI_DEL, &answer), 0);
	assert_null(answer);
	failed_one("echo rubbish", CNI_DECODING_FAILURE, "p: its answer line 1");
	failed_one("echo '[]'", CNI_DECODING_FAILURE, "p: its answer must hold a JSON object");
}

static void test_errors(void **state)
{
	(void)state;
	failed_one("echo '{\"code\":101,\"msg\":\"no way\",\"details\":\"at all\"}'; exit 1", 101,
		   "p: no way");
	assert_string_equal(error.msg, "p: no way");
	assert_string_equal(error.details, "at all");
	failed_one("exit 3", CNI_INTERNAL, "p: exit status 3, without a word");
	failed_one("echo oh; echo no; exit 1", CNI_INTERNAL,
		   "p: exit status 1, and no error object but \"oh no \"");
	failed_one("echo '{}'; exit 1", CNI_INTERNAL, "but \"{} \"");
	failed_one("kill -SEGV $$", CNI_INTERNAL, "p: killed by signal 11 (Segmentation fault)");
	failed_one("echo '{\"code\":7,\"msg\":\"x\"}'; kill -TERM $$", CNI_INTERNAL,
		   "killed by signal 15");
}

static void not_started_one(const char *path, const char *type, const char *words)
{
	_cleanup_json_ json_t *conf = json_object();
	struct cni_request request = site_request(CNI_ADD);
	json_t *answer;

	request.path = path;
	assert_int_equal(delegate_run(&request, type, CNI_ADD, conf, &answer, &error),
			 DELEGATE_NOT_STARTED);
	if (!strstr(error.msg, words))
		fail_msg("%s: \"%s\" lacks \"%s\"", path, error.msg, words);
}

static void test_not_found(void **state)
{
	char path[512], words[512];

	(void)state;
	site_write("bin/data", 0644, "#!/bin/sh\n");
	site_write("bin/garbage", 0755, "\x01\x02");
	assert_int_equal(mkdir(site_path("bin/dir"), 0755), 0);
	(void)snprintf(path, sizeof(path), ":/nowhere::%s:", site_path("bin"));
	(void)snprintf(words, sizeof(words),
		       "plugin \"p\" is not in CNI_PATH (/nowhere: No such file or directory, %s: "
		       "No such file or directory)",
		       site_path("bin"));
	not_started_one(path, "p", words);
	(void)snprintf(words, sizeof(words), "%s: Permission denied)", site_path("bin"));
	not_started_one(path, "data", words);
	(void)snprintf(words, sizeof(words), "%s: not a file)", site_path("bin"));
	not_started_one(path, "dir", words);
	(void)snprintf(words, sizeof(words), "cannot run %s: Exec format error",
		       site_path("bin/garbage"));
	not_started_one(path, "garbage", words);
	not_started_one("", "p", "(empty)");
	not_started_one("/", "bin/sh", "\"bin/sh\" is not the name of a plugin");
	not_started_one("/", "..", "\"..\" is not the name");
	not_started_one("/", "", "\"\" is not the name");
}

/* The first directory that has it, whatever is wrong in those before. */
static void test_search(void **state)
{
	struct cni_request request = site_request(CNI_ADD);
	char found[PATH_MAX], path[PATH_MAX];

	(void)state;
	site_write("one/p", 0644, "");
	site_write("two/p", 0755, "");
	site_write("three/p", 0755, "");
	(void)snprintf(path, sizeof(path), "%s/one:%s/two:%s/three", site, site, site);
	request.path = path;
	assert_int_equal(delegate_find(&request, "p", found, &error), 0);
	assert_string_equal(found, site_path("two/p"));
}

/* More than a pipe holds, in both directions at once. */
static void test_no_deadlock(void **state)
{
	_cleanup_json_ json_t *conf = json_object(), *answer = NULL;
	char *filler = mem_alloc(300001, 1);

	(void)state;
	memset(filler, 'x', 300000);
	(void)json_object_set_new(conf, "filler", json_string(filler));
	site_write("bin/p", 0755, "#!/bin/sh\nexec cat\n");
	assert_int_equal(run_with(conf, CNI_ADD, &answer), 0);
	assert_true(json_equal(answer, conf));
	json_decref(answer);
	/* And one that reads nothing. */
	site_write("bin/p", 0755, "#!/bin/sh\necho '{\"a\":1}'\n");
	assert_int_equal(run_with(conf, CNI_ADD, &answer), 0);
	assert_int_equal(json_integer_value(json_object_get(answer, "a")), 1);
	free(filler);
}

static void test_too_much(void **state)
{
	(void)state;
	failed_one("yes", CNI_INTERNAL, "p: killed, its answer was longer than 1048576 bytes");
}

/* Whether there is a process @pid that is no zombie. */
static bool lives(pid_t pid)
{
	char name[64], state_of = 'Z';
	FILE *f;

	(void)snprintf(name, sizeof(name), "/proc/%d/stat", (int)pid);
	f = fopen(name, "r");
	if (!f)
		return false;
	assert_int_equal(fscanf(f, "%*d (%*[^)]) %c", &state_of), 1);
	(void)fclose(f);
	return state_of != 'Z';
}

/* What it has started dies with it. */
static void test_timeout(void **state)
{
	pid_t child;

	(void)state;
	delegate_timeout_ms = 500;
	failed_one("sleep 1000 & echo $! >$SITE/child; wait", CNI_INTERNAL, "p: killed, it took");
	delegate_timeout_ms = DELEGATE_TIMEOUT_S * 1000;
	child = (pid_t)strtol(site_read("child"), NULL, 10);
	assert_true(child > 0);
	for (int i = 0; i < 5000 && lives(child); i++)
		(void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	assert_false(lives(child));
}

/* A grandchild that keeps the pipe is not waited for, and lives. */
static void test_grandchild(void **state)
{
	_cleanup_json_ json_t *answer = NULL;
	pid_t child;

	(void)state;
	site_plugin("p", "sleep 1000 & echo $! >$SITE/child; echo '{\"a\":1}'");
	assert_int_equal(run(CNI_ADD, &answer), 0);
	assert_int_equal(json_integer_value(json_object_get(answer, "a")), 1);
	child = (pid_t)strtol(site_read("child"), NULL, 10);
	assert_true(child > 0);
	assert_int_equal(kill(child, SIGKILL), 0);
}

/* A runtime that ignores SIGCHLD loses us no exit status; our own SIG_IGN is ours alone. */
static void test_signals(void **state)
{
	unsigned long long ignored = 0;
	json_t *answer;

	(void)state;
	(void)signal(SIGCHLD, SIG_IGN);
	site_plugin("p", "grep '^SigIgn' /proc/self/status >$SITE/signals; exit 4");
	assert_int_equal(run(CNI_DEL, &answer), -1);
	assert_non_null(strstr(error.msg, "exit status 4"));
	assert_int_equal(sscanf(site_read("signals"), "SigIgn: %llx", &ignored), 1);
	assert_int_equal(ignored & (1ULL << (SIGPIPE - 1) | 1ULL << (SIGCHLD - 1)), 0);
}

/* Knows the versions in @known, and says what its config's was. */
static void plugin_with_versions(const char *known)
{
	char body[1024];

	(void)snprintf(body, sizeof(body),
		       "if [ $CNI_COMMAND = VERSION ]; then\n"
		       "  echo '{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[%s]}'; exit; fi\n"
		       "V=$(grep -o '^{\"cniVersion\":\"[0-9.]*' $SITE/in | cut -d'\"' -f4)\n"
		       "case '%s' in *\\\"$V\\\"*) echo '{\"ok\":1}';;\n"
		       "*) echo '{\"code\":1,\"msg\":\"incompatible\"}'; exit 1;; esac",
		       known, known);
	site_plugin("p", body);
}

static void test_versions(void **state)
{
	_cleanup_json_ json_t *conf =
		json_pack("{s:s, s:{s:s, s:[{s:s}]}}", "cniVersion", "1.1.0", "prevResult",
			  "cniVersion", "1.1.0", "ips", "address", "10.0.0.2/8");
	_cleanup_json_ json_t *answer = NULL;
	const char *version;
	struct cni_request request = site_request(CNI_ADD);

	(void)state;
	plugin_with_versions("\"0.3.1\", \"0.4.0\", \"9.0.0\"");
	assert_int_equal(delegate_version(&request, "p", &version, &error), 0);
	assert_string_equal(version, "0.4.0");
	if (run_with(conf, CNI_ADD, &answer))
		fail_msg("%s", error.msg);
	assert_string_equal(site_read("log"), "VERSION\nADD\nVERSION\nADD\n");
	assert_string_equal(json_string_value(json_object_get(conf, "cniVersion")), "0.4.0");
	assert_non_null(strstr(site_read("in"), "\"prevResult\":{\"ips\":[{\"address\":\"10.0.0.2/8"
						"\",\"version\":\"4\"}],"));
	json_decref(answer);
	/* It is known by now. */
	assert_int_equal(run_with(conf, CNI_ADD, &answer), 0);
	assert_string_equal(site_read("log"), "VERSION\nADD\nVERSION\nADD\nADD\n");
}

static void test_no_version(void **state)
{
	json_t *answer;

	(void)state;
	/* Nothing in common: its own words. */
	plugin_with_versions("\"9.0.0\"");
	assert_int_equal(run(CNI_ADD, &answer), -1);
	assert_string_equal(error.msg, "p: incompatible");
	/* Code 1, but not for the version: no second try. */
	site_plugin("p", "[ $CNI_COMMAND = ADD ] || { echo '{\"supportedVersions\":[\"1.0.0\"]}'; "
			 "exit; }\necho '{\"code\":1,\"msg\":\"incompatible\"}'; exit 1");
	site_write("log", 0644, "");
	assert_int_equal(run(CNI_ADD, &answer), -1);
	assert_string_equal(site_read("log"), "ADD\nVERSION\n");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, site_setup, site_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_as_a_runtime), TEST(test_answers),  TEST(test_errors),
		TEST(test_not_found),    TEST(test_search),   TEST(test_no_deadlock),
		TEST(test_too_much),     TEST(test_timeout),  TEST(test_grandchild),
		TEST(test_signals),      TEST(test_versions), TEST(test_no_version),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
