/* SPDX-License-Identifier: Apache-2.0 */
/* child.h - a program run beside the loop (posix_spawn)
 *
 * It gets a text on stdin; its stdout comes back line by line, of its stderr the first
 * lines are kept. It is never a shell.
 */
#pragma once

#include "base/err.h"
#include "io/loop.h"

#include <stdbool.h>
#include <sys/types.h>

#define CHILD_LINE_MAX      8192 /* longer ones are cut */
#define CHILD_COMPLAINT_MAX 512

struct child_end {
	int exit_code;         /* -1: it did not exit by itself */
	int signal;            /* that killed it; 0: none */
	bool timed_out;        /* and we killed it for that */
	int ran_ms;            /* how long it took */
	const char *complaint; /* beginning of its stderr, one line, trimmed; "" for none */
};

struct child_events {
	/* One line of stdout, without its end. May be NULL. The child must not be freed here. */
	void (*line)(const char *line, void *userdata);
	/* It has ended and all its output was read. The child may be freed here. */
	void (*ended)(const struct child_end *end, void *userdata);
	void *userdata;
	/* All of stdout as it comes, in place of lines. May be NULL. As `line`. */
	void (*output)(const char *data, size_t len, void *userdata);
};

struct child;

/* The file that child_start() starts for @name. -ENOENT: no such program; other -errno. */
int child_find_program(const char *name, char *ret_path, size_t size, struct err *err);
/* Starts @argv[0] (with a slash: that file), searched in PATH and then in the system's sbin and bin
 * directories, with the daemon's environment and LC_ALL=C. @input may be NULL; it is copied.
 * @timeout_ms: after that it is killed. -ENOENT: no such program; other -errno. */
int child_start(struct loop *loop, const char *const argv[], const char *input, int timeout_ms,
		const struct child_events *events, struct child **ret_child, struct err *err);
/* The same with @env ("NAME=value", NULL-terminated) put over the environment. */
int child_start_with(struct loop *loop, const char *const argv[], const char *const env[],
		     const char *input, int timeout_ms, const struct child_events *events,
		     struct child **ret_child, struct err *err);
/* Kills it when it runs, without a call of @ended; no zombie stays. */
void child_free(struct child *child);
/* To tell it from others: who holds a lock. */
pid_t child_pid(const struct child *child);
/* In words: "exit code 2: iptables-restore: line 5 failed", "killed after 60 s". */
void child_describe_end(const struct child_end *end, char *buf, size_t size);
