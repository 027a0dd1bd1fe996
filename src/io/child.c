/* SPDX-License-Identifier: Apache-2.0 */
/* child.c - a program run beside the loop (posix_spawn)
 *
 * A child has ended when three things have come: it is a zombie, its stdout is at its
 * end, and its stderr. The order is open: a last line may be read after the exit, and a
 * grandchild may hold the pipes for as long as it likes, which is waited for no longer
 * than DRAIN_MS.
 *
 * SIGCHLD only says that somebody has ended. Every child looks for itself, at its own pid
 * and without reaping it (WNOWAIT): as long as the zombie is there, its pid and the
 * process group of the same number belong to nobody else, so that killing the group can
 * never hit a stranger. It is reaped in finish() or child_free().
 *
 * What does not die from SIGKILL (it is stuck in the kernel) is given up after UNDEAD_MS;
 * its pid is kept in a list and reaped by whichever child comes later.
 */
#include "io/child.h"

#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define DRAIN_MS       1000
#define UNDEAD_MS      5000
#define UNDEAD_MAX     64
#define FREE_WAIT_MS   50
#define READ_MAX       16384
#define READS_PER_WAKE 16 /* then others have their turn */
#define SYSTEM_PATH    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct child {
	struct child_events events;
	pid_t pid; /* 0: never started, or reaped */
	int64_t started_ms;
	bool exited, killed;
	struct child_end end;

	/* Our ends of the pipes, -1 when closed; NULL sources with them. */
	int in, out, complaint_fd;
	struct event *on_in, *on_out, *on_complaint, *on_sigchld, *timer;

	char *input;
	size_t input_len, input_done;
	char line[CHILD_LINE_MAX + 1];
	size_t line_len;
	char complaint[CHILD_COMPLAINT_MAX];
	size_t complaint_len;
};

/* Killed, but not dead when their child was freed. */
static pid_t undead[UNDEAD_MAX];

static void bury_undead(void)
{
	for (size_t i = 0; i < UNDEAD_MAX; i++)
		if (undead[i] && waitpid(undead[i], NULL, WNOHANG) != 0)
			undead[i] = 0;
}

static void add_undead(pid_t pid)
{
	for (size_t i = 0; i < UNDEAD_MAX; i++) {
		if (!undead[i]) {
			undead[i] = pid;
			return;
		}
	}
}

/* -- the program ------------------------------------------------------------------------ */

/* errno says why not. A directory may be "executed" too, and may stand in PATH before the
 * program. */
static bool is_program(const char *path)
{
	struct stat st;

	if (access(path, X_OK) || stat(path, &st))
		return false;
	errno = EACCES;
	return S_ISREG(st.st_mode);
}

/* Looks for @name in the directories of @list. */
static bool find_in(const char *list, const char *name, char *ret_path, size_t size)
{
	char path[PATH_MAX];

	for (const char *dir = list; *dir;) {
		const size_t len = strcspn(dir, ":");

		/* An empty entry means the current directory to a shell; not to a daemon. */
		if (len &&
		    (size_t)snprintf(path, sizeof(path), "%.*s/%s", (int)len, dir, name) <
			    sizeof(path) &&
		    is_program(path)) {
			(void)snprintf(ret_path, size, "%s", path);
			return true;
		}
		dir += len + (dir[len] == ':');
	}
	return false;
}

int child_find_program(const char *name, char *ret_path, size_t size, struct err *err)
{
	const char *list = getenv("PATH");

	if (strchr(name, '/')) {
		if (!is_program(name))
			return err_sys(err, -errno, "%s", name);
		(void)snprintf(ret_path, size, "%s", name);
		return 0;
	}
	if ((list && find_in(list, name, ret_path, size)) ||
	    find_in(SYSTEM_PATH, name, ret_path, size))
		return 0;
	return err_set(err, -ENOENT, "%s is not installed", name);
}

/* Whether @env, which may be NULL, sets what @entry does. */
static bool sets(const char *const env[], const char *entry)
{
	const size_t len = strcspn(entry, "=") + 1;

	for (size_t i = 0; env && env[i]; i++)
		if (!strncmp(env[i], entry, len))
			return true;
	return false;
}

/* The daemon's environment in plain English, with @more over it; caller frees the array
 * alone. */
static const char **environment(const char *const more[])
{
	const char **env;
	size_t n = 0, n_more = 0;

	while (environ && environ[n])
		n++;
	while (more && more[n_more])
		n_more++;
	env = mem_alloc(n + n_more + 2, sizeof(*env));
	n = 0;
	for (char **e = environ; e && *e; e++)
		if (strncmp(*e, "LC_ALL=", 7) != 0 && !sets(more, *e))
			env[n++] = *e;
	if (!sets(more, "LC_ALL="))
		env[n++] = "LC_ALL=C";
	for (size_t i = 0; i < n_more; i++)
		env[n++] = more[i];
	return env;
}

/* -- its end ---------------------------------------------------------------------------- */

static void close_end(int *fd, struct event **source)
{
	loop_event_free(*source);
	*source = NULL;
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
}

static void close_all(struct child *child)
{
	close_end(&child->in, &child->on_in);
	close_end(&child->out, &child->on_out);
	close_end(&child->complaint_fd, &child->on_complaint);
	loop_event_free(child->on_sigchld);
	child->on_sigchld = NULL;
	loop_event_free(child->timer);
	child->timer = NULL;
}

static void kill_group(const struct child *child)
{
	if (!child->pid)
		return;
	(void)kill(-child->pid, SIGKILL);
	(void)kill(child->pid, SIGKILL); /* should it have left its group */
}

/* Its stderr as one line: blanks for control characters, one each, none around. */
static void trim_complaint(struct child *child)
{
	size_t n = 0;

	child->complaint[child->complaint_len] = '\0';
	log_clean(child->complaint);
	for (size_t i = 0; i < child->complaint_len && child->complaint[i]; i++)
		if (child->complaint[i] != ' ' || (n && child->complaint[n - 1] != ' '))
			child->complaint[n++] = child->complaint[i];
	if (n && child->complaint[n - 1] == ' ')
		n--;
	child->complaint[n] = '\0';
}

static void reap(struct child *child)
{
	int status;
	const pid_t pid = waitpid(child->pid, &status, WNOHANG);

	child->end.exit_code = -1;
	if (pid == 0) {
		add_undead(child->pid);
	} else if (pid == child->pid) {
		if (WIFEXITED(status))
			child->end.exit_code = WEXITSTATUS(status);
		else if (WIFSIGNALED(status))
			child->end.signal = WTERMSIG(status);
	}
	child->pid = 0;
}

/* The child may be gone after this. */
static void finish(struct child *child)
{
	if (child->line_len && child->events.line) {
		child->line[child->line_len] = '\0';
		child->events.line(child->line, child->events.userdata);
	}
	/* Whoever still holds the pipes has nobody to write to. */
	if (child->out >= 0 || child->complaint_fd >= 0)
		kill_group(child);
	reap(child);
	close_all(child);
	trim_complaint(child);
	child->end.complaint = child->complaint;
	child->end.ran_ms = (int)(loop_now_ms() - child->started_ms);
	child->events.ended(&child->end, child->events.userdata);
}

static void finish_when_all_came(struct child *child)
{
	if (child->exited && child->out < 0 && child->complaint_fd < 0)
		finish(child);
}

static void on_sigchld(void *userdata)
{
	struct child *child = userdata;
	siginfo_t info = {0};

	bury_undead();
	if (child->exited)
		return;
	if (!waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG | WNOWAIT) && !info.si_pid)
		return;
	child->exited = true;
	loop_timer_set(child->timer, DRAIN_MS);
	finish_when_all_came(child);
}

/* Armed for the time limit, then for what has to follow a kill or an exit. */
static void on_timer(void *userdata)
{
	struct child *child = userdata;

	if (child->exited || child->killed) {
		finish(child);
		return;
	}
	child->killed = child->end.timed_out = true;
	kill_group(child);
	loop_timer_set(child->timer, UNDEAD_MS);
}

/* -- its pipes -------------------------------------------------------------------------- */

static void take_output(struct child *child, const char *data, size_t n)
{
	if (child->events.output) {
		child->events.output(data, n, child->events.userdata);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		if (data[i] != '\n') {
			if (child->line_len < CHILD_LINE_MAX)
				child->line[child->line_len++] = data[i];
			continue;
		}
		child->line[child->line_len] = '\0';
		child->line_len = 0;
		if (child->events.line)
			child->events.line(child->line, child->events.userdata);
	}
}

static void take_complaint(struct child *child, const char *data, size_t n)
{
	const size_t room = CHILD_COMPLAINT_MAX - 1 - child->complaint_len;
	const size_t take = n < room ? n : room;

	memcpy(child->complaint + child->complaint_len, data, take);
	child->complaint_len += take;
}

/* Reads what is there. Whether more may come. */
static bool drain(struct child *child, int fd, void (*take)(struct child *, const char *, size_t))
{
	char data[READ_MAX];

	for (int i = 0; i < READS_PER_WAKE; i++) {
		const ssize_t n = read(fd, data, sizeof(data));

		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		if (!n)
			return false;
		take(child, data, (size_t)n);
	}
	return true;
}

static void on_output(void *userdata)
{
	struct child *child = userdata;

	if (drain(child, child->out, take_output))
		return;
	close_end(&child->out, &child->on_out);
	finish_when_all_came(child);
}

static void on_complaint(void *userdata)
{
	struct child *child = userdata;

	if (drain(child, child->complaint_fd, take_complaint))
		return;
	close_end(&child->complaint_fd, &child->on_complaint);
	finish_when_all_came(child);
}

static void on_writable(void *userdata)
{
	struct child *child = userdata;
	const ssize_t n = write(child->in, child->input + child->input_done,
				child->input_len - child->input_done);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n >= 0) {
		child->input_done += (size_t)n;
		if (child->input_done < child->input_len)
			return;
	}
	/* All was written; or it has closed its stdin, and its exit code will tell why. */
	close_end(&child->in, &child->on_in);
}

/* -- its start -------------------------------------------------------------------------- */

/* Above stdin, stdout and stderr, which a daemon may have been started without: in the
 * child, they must not be overwritten by one another. */
static int move_up(int *fd)
{
	int high;

	if (*fd > STDERR_FILENO)
		return 0;
	high = fcntl(*fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	if (high < 0)
		return -errno;
	(void)close(*fd);
	*fd = high;
	return 0;
}

/* A pipe to the child's @fd (0) or from it; *@ret_ours does not block. */
static int make_pipe(int fd, int *ret_ours, int *ret_its)
{
	_cleanup_close_ int ours = -1, its = -1;
	int fds[2], code;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	ours = fds[fd == STDIN_FILENO];
	its = fds[fd != STDIN_FILENO];
	code = move_up(&its);
	if (code)
		return code;
	if (fcntl(ours, F_SETFL, O_NONBLOCK) < 0)
		return -errno;
	*ret_ours = TAKE_FD(ours);
	*ret_its = TAKE_FD(its);
	return 0;
}

/* Everything that the loop is to tell us, before the child can do any of it. */
static int listen_to(struct loop *loop, struct child *child, int timeout_ms)
{
	child->on_sigchld = loop_signal_new(loop, SIGCHLD, on_sigchld, child);
	child->timer = loop_timer_new(loop, on_timer, child);
	child->on_out = loop_fd_new(loop, child->out, on_output, child);
	child->on_complaint = loop_fd_new(loop, child->complaint_fd, on_complaint, child);
	if (child->in >= 0)
		child->on_in = loop_writable_new(loop, child->in, on_writable, child);
	if (!child->on_sigchld || !child->timer || !child->on_out || !child->on_complaint ||
	    (child->in >= 0 && !child->on_in))
		return -ENFILE;
	loop_timer_set(child->timer, timeout_ms);
	return 0;
}

/* Its own group, so that a kill reaches its children as well; and the signals as a program
 * expects them: SIGPIPE is ignored in the daemon, and exec(2) would hand that on. */
static void set_attributes(posix_spawnattr_t *attr)
{
	sigset_t none, all;

	(void)sigemptyset(&none);
	(void)sigfillset(&all);
	(void)posix_spawnattr_setpgroup(attr, 0);
	(void)posix_spawnattr_setsigmask(attr, &none);
	(void)posix_spawnattr_setsigdefault(attr, &all);
	(void)posix_spawnattr_setflags(attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
						     POSIX_SPAWN_SETSIGDEF);
}

static int spawn(const char *path, const char *const argv[], const char *const more[],
		 const int fds[3], pid_t *ret_pid)
{
	_cleanup_free_ const char **env = environment(more);
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	int code = 0;

	if (posix_spawn_file_actions_init(&actions))
		return -ENOMEM;
	if (posix_spawnattr_init(&attr)) {
		(void)posix_spawn_file_actions_destroy(&actions);
		return -ENOMEM;
	}
	set_attributes(&attr);
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO && !code; fd++)
		code = posix_spawn_file_actions_adddup2(&actions, fds[fd], fd);
	if (!code)
		code = posix_spawn(ret_pid, path, &actions, &attr, (char *const *)(uintptr_t)argv,
				   (char *const *)(uintptr_t)env);
	(void)posix_spawnattr_destroy(&attr);
	(void)posix_spawn_file_actions_destroy(&actions);
	return -code;
}

static int open_pipes(struct child *child, int its[3])
{
	int code;

	if (child->input) {
		code = make_pipe(STDIN_FILENO, &child->in, &its[STDIN_FILENO]);
	} else {
		its[STDIN_FILENO] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		code = its[STDIN_FILENO] < 0 ? -errno : move_up(&its[STDIN_FILENO]);
	}
	if (!code)
		code = make_pipe(STDOUT_FILENO, &child->out, &its[STDOUT_FILENO]);
	if (!code)
		code = make_pipe(STDERR_FILENO, &child->complaint_fd, &its[STDERR_FILENO]);
	return code;
}

int child_start(struct loop *loop, const char *const argv[], const char *input, int timeout_ms,
		const struct child_events *events, struct child **ret_child, struct err *err)
{
	return child_start_with(loop, argv, NULL, input, timeout_ms, events, ret_child, err);
}

int child_start_with(struct loop *loop, const char *const argv[], const char *const env[],
		     const char *input, int timeout_ms, const struct child_events *events,
		     struct child **ret_child, struct err *err)
{
	int its[3] = {-1, -1, -1}, code;
	struct child *child;
	char path[PATH_MAX];

	bury_undead();
	code = child_find_program(argv[0], path, sizeof(path), err);
	if (code)
		return code;
	child = mem_alloc(1, sizeof(*child));
	child->events = *events;
	child->in = child->out = child->complaint_fd = -1;
	if (input) {
		child->input = mem_strdup(input);
		child->input_len = strlen(input);
	}
	code = open_pipes(child, its);
	if (!code)
		code = listen_to(loop, child, timeout_ms);
	if (!code)
		code = spawn(path, argv, env, its, &child->pid);
	for (int fd = 0; fd < 3; fd++)
		if (its[fd] >= 0)
			(void)close(its[fd]);
	if (code) {
		child->pid = 0;
		child_free(child);
		return err_sys(err, code, "cannot start %s", path);
	}
	child->started_ms = loop_now_ms();
	*ret_child = child;
	return 0;
}

pid_t child_pid(const struct child *child)
{
	return child->pid;
}

/* SIGKILL takes effect within a millisecond, but where the kernel is busy for the child. */
static void kill_and_reap(const struct child *child)
{
	kill_group(child);
	for (int ms = 0; ms < FREE_WAIT_MS; ms++) {
		if (waitpid(child->pid, NULL, WNOHANG) != 0)
			return;
		(void)usleep(1000);
	}
	add_undead(child->pid);
}

void child_free(struct child *child)
{
	if (!child)
		return;
	if (child->pid)
		kill_and_reap(child);
	close_all(child);
	free(child->input);
	free(child);
}

void child_describe_end(const struct child_end *end, char *buf, size_t size)
{
	const char *complaint = end->complaint ? end->complaint : "";
	const char *colon = *complaint ? ": " : "";

	if (end->timed_out)
		(void)snprintf(buf, size, "killed after %d s%s%s", (end->ran_ms + 500) / 1000,
			       colon, complaint);
	else if (end->signal)
		(void)snprintf(buf, size, "killed by signal %d (%s)%s%s", end->signal,
			       strsignal(end->signal), colon, complaint);
	else if (end->exit_code < 0)
		(void)snprintf(buf, size, "ended in a way that cannot be told%s%s", colon,
			       complaint);
	else
		(void)snprintf(buf, size, "exit code %d%s%s", end->exit_code, colon, complaint);
}
