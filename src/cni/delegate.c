/* SPDX-License-Identifier: Apache-2.0 */
/* delegate.c - another plugin, run as a runtime would run it
 *
 * The delegate is the leader of a process group of its own, so that a timeout ends its
 * children as well. It is a zombie until the last moment: as long as it is not reaped, the
 * group's number belongs to nobody else.
 *
 * It is done when it has exited, not when its stdout is at its end: a grandchild that runs
 * on with the pipe open is not waited for.
 */
#include "cni/delegate.h"

#include "base/mem.h"
#include "cni/conf.h"
#include "cni/result.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

int delegate_timeout_ms = DELEGATE_TIMEOUT_S * 1000;

enum {
	TICK_MS = 20,        /* looks for the exit where the kernel has no pidfd_open(2) */
	BUSY_RETRIES = 50,   /* of a file that is just being written, */
	BUSY_RETRY_MS = 100, /* which takes no 5 s */
	SAID_MAX = 200,      /* of an answer that is no JSON, in the error */
	READ_STEP = 8 * 1024,
};

/* One run. */
struct run {
	const char *type, *path;
	pid_t pid;
	int in, out, pidfd; /* -1: closed */
	const char *input;
	size_t input_left;
	char *output; /* owned, with a NUL behind */
	size_t output_len, output_size;
	int64_t deadline_ms;
};

/* ---- where it is ---- */

/* What is wrong with @path as a program; NULL: nothing. */
static const char *why_not(const char *path)
{
	struct stat st;

	if (stat(path, &st))
		return strerror(errno);
	if (!S_ISREG(st.st_mode))
		return "not a file";
	return access(path, X_OK) ? strerror(errno) : NULL;
}

int delegate_find(const struct cni_request *request, const char *type, char ret_path[PATH_MAX],
		  struct cni_error *error)
{
	char searched[ERR_TEXT_MAX] = "";

	if (!cni_type_is_sound(type))
		return cni_fail(error, CNI_CONFIG_INVALID, "\"%.80s\" is not the name of a plugin",
				type);
	for (const char *dir = request->path; *dir;) {
		size_t len = strcspn(dir, ":"), n = strlen(searched);
		char path[PATH_MAX];
		const char *why = NULL;

		if (len && (size_t)snprintf(path, sizeof(path), "%.*s/%s", (int)len, dir, type) >=
				   sizeof(path))
			why = strerror(ENAMETOOLONG);
		else if (len)
			why = why_not(path);
		if (len && !why) {
			(void)snprintf(ret_path, PATH_MAX, "%s", path);
			return 0;
		}
		if (len)
			(void)snprintf(searched + n, sizeof(searched) - n, "%s%.*s: %s",
				       n ? ", " : "", (int)len, dir, why);
		dir += len + (dir[len] == ':');
	}
	return cni_fail(error, CNI_CONFIG_INVALID, "plugin \"%.80s\" is not in CNI_PATH (%s)", type,
			*searched ? searched : "empty");
}

/* ---- its start ---- */

static const char *const our_variables[] = {
	"CNI_COMMAND=", "CNI_CONTAINERID=", "CNI_NETNS=", "CNI_IFNAME=", "CNI_ARGS=", "CNI_PATH=",
};

static bool is_our_variable(const char *variable)
{
	for (size_t i = 0; i < ARRAY_SIZE(our_variables); i++)
		if (!strncmp(variable, our_variables[i], strlen(our_variables[i])))
			return true;
	return false;
}

/* The runtime's environment, but @request's for @command. The first ARRAY_SIZE(our_variables)
 * strings are owned, the rest borrowed. */
static char **make_environment(const struct cni_request *request, enum cni_command command)
{
	const char *const value[] = {
		cni_command_name(command), request->container_id, request->netns,
		request->ifname,           request->args,         request->path,
	};
	size_t n = 0, there = 0;
	char **env;

	_Static_assert(ARRAY_SIZE(value) == ARRAY_SIZE(our_variables), "a value for each");
	while (environ && environ[there])
		there++;
	env = mem_alloc(there + ARRAY_SIZE(value) + 1, sizeof(*env));
	for (size_t i = 0; i < ARRAY_SIZE(value); i++)
		if (asprintf(&env[n++], "%s%s", our_variables[i], value[i]) < 0)
			abort();
	for (size_t i = 0; i < there; i++)
		if (!is_our_variable(environ[i]))
			env[n++] = environ[i];
	return env;
}

static void free_environment(char **env)
{
	for (size_t i = 0; i < ARRAY_SIZE(our_variables); i++)
		free(env[i]);
	free(env);
}

static void wait_ms(long ms)
{
	const struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

	(void)nanosleep(&t, NULL);
}

/* posix_spawn(3) with these ends of the pipes, all signals as they are after a login. */
static int spawn_with(struct run *run, int in, int out, char **env)
{
	char *argv[] = {(char *)(uintptr_t)run->path, NULL};
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attr;
	sigset_t set;
	int r;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
	posix_spawnattr_init(&attr);
	posix_spawnattr_setpgroup(&attr, 0);
	sigemptyset(&set);
	posix_spawnattr_setsigmask(&attr, &set);
	sigaddset(&set, SIGPIPE); /* which we ignore */
	posix_spawnattr_setsigdefault(&attr, &set);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK |
						POSIX_SPAWN_SETSIGDEF);
	for (int i = 0;; i++) {
		r = posix_spawn(&run->pid, run->path, &actions, &attr, argv, env);
		if (r != ETXTBSY || i == BUSY_RETRIES)
			break;
		wait_ms(BUSY_RETRY_MS);
	}
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&actions);
	return -r;
}

/* A pipe of which neither end is stdin, stdout or stderr, which may be closed here. */
static int make_pipe(int ret_ends[2])
{
	int low[3], n = 0, r = 0;

	for (;;) {
		if (pipe2(ret_ends, O_CLOEXEC)) {
			r = -errno;
			break;
		}
		if (ret_ends[0] > STDERR_FILENO && ret_ends[1] > STDERR_FILENO)
			break;
		/* Kept until a pipe lies above: never more than three, one end each is low. */
		if (n == 3) {
			r = -EMFILE;
			break;
		}
		low[n++] = ret_ends[0];
		(void)close(ret_ends[1]);
	}
	while (n)
		(void)close(low[--n]);
	return r;
}

static int start(struct run *run, const struct cni_request *request, enum cni_command command)
{
	int in[2] = {-1, -1}, out[2] = {-1, -1}, r;
	char **env;

	r = make_pipe(in);
	if (!r)
		r = make_pipe(out);
	if (!r) {
		env = make_environment(request, command);
		r = spawn_with(run, in[0], out[1], env);
		free_environment(env);
	}
	if (in[0] >= 0)
		(void)close(in[0]);
	if (out[1] >= 0)
		(void)close(out[1]);
	run->in = in[1];
	run->out = out[0];
	if (r)
		return r;
	(void)fcntl(run->in, F_SETFL, O_NONBLOCK);
	(void)fcntl(run->out, F_SETFL, O_NONBLOCK);
	run->pidfd = (int)syscall(SYS_pidfd_open, run->pid, 0);
	return 0;
}

/* ---- its run ---- */

static int64_t now_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
}

/* One that does not read its stdin has all it wants to know. */
static void feed(struct run *run)
{
	ssize_t n = write(run->in, run->input, run->input_left);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		run->input += n;
		run->input_left -= (size_t)n;
	}
	if (n < 0 || !run->input_left)
		close_fd(&run->in);
}

/* Reads until there is nothing more for now; -EFBIG when it is too much. */
static int drain(struct run *run)
{
	while (run->out >= 0) {
		ssize_t n;

		if (run->output_size - run->output_len < READ_STEP) {
			run->output_size += run->output_size + READ_STEP;
			run->output = mem_realloc(run->output, run->output_size + 1, 1);
		}
		n = read(run->out, run->output + run->output_len,
			 run->output_size - run->output_len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return 0;
		if (n <= 0)
			close_fd(&run->out);
		else
			run->output_len += (size_t)n;
		if (run->output_len > CNI_RESULT_MAX_BYTES)
			return -EFBIG;
	}
	return 0;
}

static bool has_exited(const struct run *run)
{
	siginfo_t info = {0};

	return waitid(P_PID, (id_t)run->pid, &info, WEXITED | WNOHANG | WNOWAIT) || info.si_pid;
}

/* Until it has exited: 0; -ETIMEDOUT, -EFBIG. */
static int attend(struct run *run)
{
	for (;;) {
		struct pollfd fds[] = {
			{.fd = run->in, .events = POLLOUT},
			{.fd = run->out, .events = POLLIN},
			{.fd = run->pidfd, .events = POLLIN},
		};
		int64_t left_ms = run->deadline_ms - now_ms();
		bool exited = has_exited(run);

		/* What it wrote before its exit is in the pipe by now. */
		if (drain(run))
			return -EFBIG;
		if (exited)
			return 0;
		if (left_ms <= 0)
			return -ETIMEDOUT;
		if (run->pidfd < 0 && left_ms > TICK_MS)
			left_ms = TICK_MS;
		if (poll(fds, ARRAY_SIZE(fds), (int)left_ms) > 0 && fds[0].revents)
			feed(run);
	}
}

/* Ends it if it has not ended, and reaps it. The status of waitpid(2). */
static int finish(struct run *run, bool killed)
{
	int status = 0;

	if (killed)
		(void)kill(-run->pid, SIGKILL);
	while (waitpid(run->pid, &status, 0) < 0 && errno == EINTR)
		;
	close_fd(&run->in);
	close_fd(&run->out);
	close_fd(&run->pidfd);
	return status;
}

/* ---- what it said ---- */

static int fail_of_run(const struct run *run, int code, struct cni_error *error)
{
	if (code == -ETIMEDOUT)
		return cni_fail(error, CNI_INTERNAL, "%s: killed, it took longer than %d s (%s)",
				run->type, delegate_timeout_ms / 1000, run->path);
	return cni_fail(error, CNI_INTERNAL, "%s: killed, its answer was longer than %d bytes (%s)",
			run->type, CNI_RESULT_MAX_BYTES, run->path);
}

/* The beginning of its output as one line. */
static void quote(const struct run *run, char said[SAID_MAX])
{
	(void)snprintf(said, SAID_MAX, "%s", run->output ? run->output : "");
	for (char *c = said; *c; c++)
		if ((unsigned char)*c < ' ')
			*c = ' ';
}

static int fail_of_status(const struct run *run, int status, struct cni_error *error)
{
	char said[SAID_MAX], end[80];

	if (!WIFSIGNALED(status) && run->output_len &&
	    !cni_error_parse(run->output, run->output_len, error))
		return cni_fail_wrap(error, "%s", run->type);
	if (WIFSIGNALED(status))
		(void)snprintf(end, sizeof(end), "killed by signal %d (%s)", WTERMSIG(status),
			       strsignal(WTERMSIG(status)));
	else
		(void)snprintf(end, sizeof(end), "exit status %d", WEXITSTATUS(status));
	quote(run, said);
	if (*said)
		(void)cni_fail(error, CNI_INTERNAL, "%s: %s, and no error object but \"%s\" (%s)",
			       run->type, end, said, run->path);
	else
		(void)cni_fail(error, CNI_INTERNAL, "%s: %s, without a word (%s)", run->type, end,
			       run->path);
	error->is_refusal = !WIFSIGNALED(status);
	return -1;
}

static int parse_answer(const struct run *run, json_t **ret_answer, struct cni_error *error)
{
	char said[SAID_MAX];
	struct err err;

	*ret_answer = NULL;
	if (!run->output_len)
		return 0;
	if (!json_parse_object(run->output, run->output_len, "its answer", ret_answer, &err))
		return 0;
	quote(run, said);
	return cni_fail(error, CNI_DECODING_FAILURE, "%s: %s: \"%s\"", run->type, err.text, said);
}

static int run_once(const struct cni_request *request, const char *type, enum cni_command command,
		    const json_t *conf, json_t **ret_answer, struct cni_error *error)
{
	_cleanup_free_ char *input = json_dumps(conf, JSON_COMPACT), *output = NULL;
	struct run run = {.type = type, .in = -1, .out = -1, .pidfd = -1};
	char path[PATH_MAX];
	int r, status;

	*ret_answer = NULL;
	if (delegate_find(request, type, path, error))
		return DELEGATE_NOT_STARTED;
	run.path = path;
	run.input = input ? input : "";
	run.input_left = strlen(run.input);
	run.deadline_ms = now_ms() + delegate_timeout_ms;
	/* A runtime may have left us both the other way: no status of a child, no EPIPE. */
	(void)signal(SIGCHLD, SIG_DFL);
	(void)signal(SIGPIPE, SIG_IGN);
	r = start(&run, request, command);
	if (r) {
		close_fd(&run.in);
		close_fd(&run.out);
		(void)cni_fail(error, CNI_INTERNAL, "cannot run %s: %s", path, strerror(-r));
		return DELEGATE_NOT_STARTED;
	}
	r = attend(&run);
	status = finish(&run, r < 0);
	output = run.output;
	if (output)
		output[run.output_len] = '\0';
	if (r)
		return fail_of_run(&run, r, error);
	if (!WIFEXITED(status) || WEXITSTATUS(status))
		return fail_of_status(&run, status, error);
	if (command != CNI_ADD && command != CNI_VERSION)
		return 0;
	return parse_answer(&run, ret_answer, error);
}

/* ---- which version ---- */

int delegate_version(const struct cni_request *request, const char *type, const char **ret_version,
		     struct cni_error *error)
{
	_cleanup_json_ json_t *conf =
		json_pack("{s:s}", "cniVersion", cni_versions[cni_versions_count - 1]);
	_cleanup_json_ json_t *answer = NULL;
	const json_t *versions, *version;
	size_t known = cni_versions_count, i;
	int r = run_once(request, type, CNI_VERSION, conf, &answer, error);

	if (r == DELEGATE_NOT_STARTED || (r && !error->is_refusal))
		return -1;
	versions = json_member(answer, "supportedVersions");
	/* VERSION came with 0.2.0; libcni, too, takes who does not know it for older. */
	if (!json_is_array(versions)) {
		*ret_version = cni_versions[0];
		return 0;
	}
	json_array_foreach (versions, i, version)
		for (size_t k = 0; k < cni_versions_count && json_is_string(version); k++)
			if (!strcmp(json_string_value(version), cni_versions[k]) &&
			    (known == cni_versions_count || k > known))
				known = k;
	if (known == cni_versions_count)
		return cni_fail(error, CNI_VERSION_UNSUPPORTED,
				"%s: knows no version of the specification that we know", type);
	*ret_version = cni_versions[known];
	return 0;
}

static int set_version(json_t *conf, const char *version, struct cni_error *error)
{
	const json_t *prev_result = json_object_get(conf, "prevResult");
	json_t *converted = NULL;

	if (json_is_object(prev_result)) {
		if (cni_result_convert(prev_result, version, &converted, error))
			return cni_fail_wrap(error, "prevResult");
		(void)json_object_set_new(conf, "prevResult", converted);
	}
	(void)json_object_set_new(conf, "cniVersion", json_string(version));
	return 0;
}

int delegate_run(const struct cni_request *request, const char *type, enum cni_command command,
		 json_t *conf, json_t **ret_answer, struct cni_error *error)
{
	const char *had = json_string_value(json_object_get(conf, "cniVersion")), *version;
	struct cni_error why;
	int r = run_once(request, type, command, conf, ret_answer, error);

	if (r != -1 || error->code != CNI_VERSION_UNSUPPORTED || command == CNI_VERSION)
		return r;
	/* What it knows may be just what it was given: then it meant something else. */
	if (delegate_version(request, type, &version, &why) || (had && !strcmp(version, had)))
		return r;
	if (set_version(conf, version, error))
		return -1;
	return run_once(request, type, command, conf, ret_answer, error);
}
