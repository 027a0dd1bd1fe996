/* SPDX-License-Identifier: Apache-2.0 */
/* test_child.c - programs beside the loop: how they start, talk, end, and are ended */
#include "io/child.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define SHELL(x)  ARGS("sh", "-c", x)

/* What came of one child. */
struct run {
	struct loop *loop;
	struct child *child;
	size_t n_lines, n_bytes, longest;
	char first[CHILD_LINE_MAX + 1], last[CHILD_LINE_MAX + 1];
	int n_ended;
	int *left; /* the loop ends with the last of several */
	bool free_at_end;
	struct child_end end;
	char complaint[CHILD_COMPLAINT_MAX], described[CHILD_COMPLAINT_MAX + 64];
};

static void on_line(const char *line, void *userdata)
{
	struct run *run = userdata;
	const size_t len = strlen(line);

	if (!run->n_lines++)
		(void)snprintf(run->first, sizeof(run->first), "%s", line);
	(void)snprintf(run->last, sizeof(run->last), "%s", line);
	run->n_bytes += len;
	if (len > run->longest)
		run->longest = len;
}

static void on_ended(const struct child_end *end, void *userdata)
{
	struct run *run = userdata;

	run->n_ended++;
	run->end = *end;
	(void)snprintf(run->complaint, sizeof(run->complaint), "%s", end->complaint);
	child_describe_end(end, run->described, sizeof(run->described));
	if (run->free_at_end) {
		child_free(run->child);
		run->child = NULL;
	}
	if (!run->left || !--*run->left)
		loop_exit(run->loop);
}

static int start(struct run *run, const char *const argv[], const char *input, int timeout_ms)
{
	const struct child_events events = {.line = on_line, .ended = on_ended, .userdata = run};
	struct err err = {""};
	int code;

	code = child_start(run->loop, argv, input, timeout_ms, &events, &run->child, &err);
	if (code)
		(void)snprintf(run->complaint, sizeof(run->complaint), "%s", err.text);
	return code;
}

/* Runs it to its end; what is left of it is freed. */
static struct run run_child(const char *const argv[], const char *input, int timeout_ms)
{
	struct run run = {.loop = loop_new()};

	assert_int_equal(start(&run, argv, input, timeout_ms), 0);
	loop_run(run.loop);
	assert_int_equal(run.n_ended, 1);
	child_free(run.child);
	run.child = NULL;
	loop_free(run.loop);
	/* No zombie, of whatever kind. */
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
	return run;
}

struct ending {
	const char *script, *input;
	int timeout_ms;
	int exit_code, signal;
	size_t n_lines;
	const char *last, *described;
};

static const struct ending endings[] = {
	{"exit 0", NULL, 20000, 0, 0, 0, "", "exit code 0"},
	{"cat", "one\ntwo\n", 20000, 0, 0, 2, "two", "exit code 0"},
	{"cat", "one\n\nno end", 20000, 0, 0, 3, "no end", "exit code 0"},
	{"cat", "", 20000, 0, 0, 0, "", "exit code 0"},
	{"cat", NULL, 20000, 0, 0, 0, "", "exit code 0"}, /* stdin is empty, not ours */
	{"echo out; printf '  it is\\n\\t broken \\n' >&2; exit 3", NULL, 20000, 3, 0, 1, "out",
	 "exit code 3: it is broken"},
	{"echo $LC_ALL", NULL, 20000, 0, 0, 1, "C", "exit code 0"},
	{"kill -SEGV $$", NULL, 20000, -1, SIGSEGV, 0, "",
	 "killed by signal 11 (Segmentation fault)"},
	/* SIGPIPE is ignored in the daemon, not in its children. */
	{"kill -PIPE $$; exit 4", NULL, 20000, -1, SIGPIPE, 0, "",
	 "killed by signal 13 (Broken pipe)"},
	/* The exit is seen before the last output. */
	{"(exec 2>&-; sleep 0.1; echo late) & exit 5", NULL, 20000, 5, 0, 1, "late", "exit code 5"},
};

static void test_endings(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(endings); i++) {
		const struct ending *want = &endings[i];
		const struct run run =
			run_child(SHELL(want->script), want->input, want->timeout_ms);

		assert_int_equal(run.end.exit_code, want->exit_code);
		assert_int_equal(run.end.signal, want->signal);
		assert_false(run.end.timed_out);
		assert_int_equal(run.n_lines, want->n_lines);
		assert_string_equal(run.last, want->last);
		assert_string_equal(run.described, want->described);
	}
}

/* Whoever starts the daemon may have blocked SIGCHLD, and a mask is inherited. */
static void test_blocked_signal(void **state)
{
	struct run run;
	sigset_t set;

	(void)state;
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	assert_int_equal(sigprocmask(SIG_BLOCK, &set, NULL), 0);
	run = run_child(ARGS("sh", "-c", "exit 3"), NULL, 3000);
	(void)sigprocmask(SIG_UNBLOCK, &set, NULL);
	assert_int_equal(run.end.exit_code, 3);
	assert_false(run.end.timed_out);
}

static void test_missing(void **state)
{
	struct run run = {.loop = loop_new()};

	(void)state;
	assert_int_equal(start(&run, ARGS("weft-no-such-program"), NULL, 1000), -ENOENT);
	assert_string_equal(run.complaint, "weft-no-such-program is not installed");
	assert_int_equal(start(&run, ARGS("/weft/no/such"), NULL, 1000), -ENOENT);
	assert_non_null(strstr(run.complaint, "/weft/no/such"));
	assert_int_equal(start(&run, ARGS("/etc/passwd"), NULL, 1000), -EACCES);
	assert_null(run.child);
	loop_free(run.loop);
}

/* What is not in PATH is found in the system's directories; an empty entry is not ".". */
static void test_search(void **state)
{
	_cleanup_free_ char *path = mem_strdup(getenv("PATH"));
	char directory[] = "/tmp/weft-child-XXXXXX", place[64];
	struct run run, refused = {.loop = loop_new()};

	(void)state;
	assert_int_equal(setenv("PATH", "/nowhere:", 1), 0);
	run = run_child(ARGS("cat"), "x\n", 20000);
	assert_int_equal(run.n_lines, 1);
	/* Nor is a directory a program, which "may be executed" as well. */
	assert_non_null(mkdtemp(directory));
	(void)snprintf(place, sizeof(place), "%s/cat", directory);
	assert_int_equal(mkdir(place, 0755), 0);
	assert_int_equal(setenv("PATH", directory, 1), 0);
	run = run_child(ARGS("cat"), "x\n", 20000);
	assert_int_equal(run.n_lines, 1);
	assert_int_equal(start(&refused, (const char *const[]){place, NULL}, NULL, 1000), -EACCES);
	loop_free(refused.loop);
	assert_int_equal(rmdir(place) | rmdir(directory), 0);
	assert_int_equal(unsetenv("PATH"), 0);
	run = run_child(ARGS("cat"), "x\n", 20000);
	assert_int_equal(run.n_lines, 1);
	assert_int_equal(setenv("PATH", path, 1), 0);
}

static void on_output(const char *data, size_t len, void *userdata)
{
	struct run *run = userdata;

	for (size_t i = 0; i < len; i++)
		if (run->n_bytes < sizeof(run->first) - 1)
			run->first[run->n_bytes++] = data[i];
	run->longest += len;
}

/* Variables of its own over the daemon's; and its output as it is. */
static void test_environment_and_output(void **state)
{
	static const char *const env[] = {"WEFT_A=new", "WEFT_C=", "LC_ALL=POSIX", NULL};
	struct run run = {.loop = loop_new()};
	const struct child_events events = {
		.ended = on_ended, .userdata = &run, .output = on_output};
	struct err err;

	(void)state;
	assert_int_equal(setenv("WEFT_A", "old", 1), 0);
	assert_int_equal(setenv("WEFT_AB", "kept", 1), 0);
	assert_int_equal(child_start_with(run.loop,
					  SHELL("env | grep -e WEFT_A -e WEFT_C -e LC_ALL | sort; "
						"head -c 100000 /dev/zero"),
					  env, NULL, 5000, &events, &run.child, &err),
			 0);
	loop_run(run.loop);
	assert_int_equal(run.end.exit_code, 0);
	assert_string_equal(run.first, "LC_ALL=POSIX\nWEFT_A=new\nWEFT_AB=kept\nWEFT_C=\n");
	assert_int_equal(run.longest, strlen(run.first) + 100000);
	child_free(run.child);
	loop_free(run.loop);
}

static void test_much_output(void **state)
{
	struct run run;

	(void)state;
	run = run_child(SHELL("seq 1 100000; seq 1 100000 >&2"), NULL, 50000);
	assert_int_equal(run.n_lines, 100000);
	assert_string_equal(run.first, "1");
	assert_string_equal(run.last, "100000");
	assert_int_equal(run.n_bytes, 488895);
	assert_int_equal(run.end.exit_code, 0);
	/* What was printed first is kept, the rest is not waited for by the child. */
	assert_int_equal(strncmp(run.complaint, "1 2 3 4 ", 8), 0);
	assert_true(strlen(run.complaint) <= CHILD_COMPLAINT_MAX - 1);
}

static void test_long_line(void **state)
{
	struct run run;

	(void)state;
	run = run_child(SHELL("head -c 100000 /dev/zero | tr '\\0' x; echo; echo next"), NULL,
			20000);
	assert_int_equal(run.n_lines, 2);
	assert_int_equal(run.longest, CHILD_LINE_MAX);
	assert_string_equal(run.last, "next");
}

/* More than a pipe holds, both ways. */
static void test_much_input(void **state)
{
	const size_t n = 300000;
	_cleanup_free_ char *text = mem_alloc(2 * n + 1, 1);
	struct run run;

	(void)state;
	for (size_t i = 0; i < n; i++)
		memcpy(text + 2 * i, "y\n", 2);
	run = run_child(ARGS("cat"), text, 50000);
	assert_int_equal(run.n_lines, n);
	assert_int_equal(run.end.exit_code, 0);

	/* Nobody reads it: no SIGPIPE for us, its exit code counts. */
	run = run_child(SHELL("exec <&-; echo closed; exit 7"), text, 20000);
	assert_string_equal(run.last, "closed");
	assert_int_equal(run.end.exit_code, 7);
}

/* Whether a process of that pid runs: a zombie of somebody else's does not. */
static bool runs(const char *pid)
{
	char path[64], text[256] = "";
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%s/stat", pid);
	file = fopen(path, "r");
	if (!file)
		return false;
	if (!fgets(text, sizeof(text), file))
		*text = '\0';
	(void)fclose(file);
	return *text && !strstr(text, ") Z ");
}

static void wait_until_gone(const char *pid)
{
	const int64_t until = loop_now_ms() + 10000;

	assert_true(strlen(pid) > 0);
	while (runs(pid)) {
		assert_true(loop_now_ms() < until);
		(void)usleep(1000);
	}
}

static void test_timeout(void **state)
{
	struct run run;

	(void)state;
	/* Its child is killed as well, or the pipes would stay open. */
	run = run_child(SHELL("trap '' TERM INT; sleep 1000 & echo $!; wait; wait"), NULL, 600);
	assert_true(run.end.timed_out);
	assert_int_equal(run.end.signal, SIGKILL);
	assert_int_equal(run.end.exit_code, -1);
	assert_true(run.end.ran_ms >= 590 && run.end.ran_ms < 20000);
	assert_non_null(strstr(run.described, "killed after 1 s"));
	wait_until_gone(run.last);
}

/* A grandchild that keeps the pipes is not waited for. */
static void test_grandchild(void **state)
{
	struct run run;

	(void)state;
	run = run_child(SHELL("sleep 1000 & echo $!; exit 6"), NULL, 50000);
	assert_int_equal(run.end.exit_code, 6);
	assert_false(run.end.timed_out);
	assert_true(run.end.ran_ms < 20000);
	wait_until_gone(run.last);

	/* One that has left the group, and is none of ours to kill. */
	run = run_child(SHELL("setsid sh -c 'echo $$; exec sleep 1000' & sleep 0.2; exit 0"), NULL,
			50000);
	assert_int_equal(run.end.exit_code, 0);
	assert_true(run.end.ran_ms < 20000);
	assert_true(runs(run.last));
	assert_int_equal(kill(atoi(run.last), SIGKILL), 0);
}

static void exit_loop(void *userdata)
{
	loop_exit(userdata);
}

static void test_freed_while_running(void **state)
{
	struct run run = {.loop = loop_new()};
	struct event *timer = loop_timer_new(run.loop, exit_loop, run.loop);
	char pid[32];

	(void)state;
	assert_int_equal(start(&run, ARGS("sleep", "1000"), NULL, 50000), 0);
	(void)snprintf(pid, sizeof(pid), "%d", (int)child_pid(run.child));
	assert_true(runs(pid));
	child_free(run.child);
	assert_false(runs(pid));
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);

	/* At once, and after it has exited but before the loop knew. */
	assert_int_equal(start(&run, ARGS("true"), "text", 50000), 0);
	(void)snprintf(pid, sizeof(pid), "%d", (int)child_pid(run.child));
	wait_until_gone(pid);
	child_free(run.child);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	loop_timer_set(timer, 20);
	loop_run(run.loop);
	assert_int_equal(run.n_ended, 0);
	loop_event_free(timer);
	loop_free(run.loop);
}

static void test_several(void **state)
{
	struct loop *loop = loop_new();
	struct run runs_of[20];
	int left = ARRAY_SIZE(runs_of);
	char script[64];

	(void)state;
	for (int i = 0; i < (int)ARRAY_SIZE(runs_of); i++) {
		runs_of[i] = (struct run){.loop = loop, .left = &left, .free_at_end = i % 2};
		(void)snprintf(script, sizeof(script), "read a; echo $a; exit %d", i);
		assert_int_equal(start(&runs_of[i], SHELL(script), script, 50000), 0);
	}
	loop_run(loop);
	for (int i = 0; i < (int)ARRAY_SIZE(runs_of); i++) {
		assert_int_equal(runs_of[i].n_ended, 1);
		assert_int_equal(runs_of[i].end.exit_code, i);
		assert_int_equal(runs_of[i].n_lines, 1);
		child_free(runs_of[i].child);
	}
	loop_free(loop);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static int n_fds(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Those that whoever started this test has left open for everybody. */
static size_t n_inherited(void)
{
	size_t n = 0;

	for (int fd = 3; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) == 0;
	return n;
}

/* It has the three descriptors and no other of ours, also when the daemon lacks those. */
static void test_descriptors(void **state)
{
	const int secret = open("/dev/null", O_RDONLY | O_CLOEXEC), before = n_fds();
	int saved[3];
	struct run run;

	(void)state;
	/* ls(1) itself opens the directory. */
	run = run_child(ARGS("ls", "/proc/self/fd"), "input", 20000);
	assert_int_equal(run.n_lines, 4 + n_inherited());
	for (int fd = 0; fd < 3; fd++) {
		saved[fd] = fcntl(fd, F_DUPFD_CLOEXEC, 100);
		(void)close(fd);
	}
	run = run_child(SHELL("cat; echo bad >&2; ls /proc/self/fd"), "1\n", 20000);
	for (int fd = 0; fd < 3; fd++) {
		(void)dup2(saved[fd], fd);
		(void)close(saved[fd]);
	}
	assert_int_equal(run.n_lines, 5 + n_inherited());
	assert_string_equal(run.first, "1");
	assert_string_equal(run.complaint, "bad");
	assert_int_equal(n_fds(), before);
	(void)close(secret);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_endings),
		cmocka_unit_test(test_blocked_signal),
		cmocka_unit_test(test_missing),
		cmocka_unit_test(test_search),
		cmocka_unit_test(test_much_output),
		cmocka_unit_test(test_environment_and_output),
		cmocka_unit_test(test_long_line),
		cmocka_unit_test(test_much_input),
		cmocka_unit_test(test_timeout),
		cmocka_unit_test(test_grandchild),
		cmocka_unit_test(test_freed_while_running),
		cmocka_unit_test(test_several),
		cmocka_unit_test(test_descriptors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
