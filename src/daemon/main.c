/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - flanneld: flags, one instance per subnet file, signals */
#include "base/err.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "daemon/cleanup.h"
#include "daemon/health.h"
#include "daemon/node.h"
#include "daemon/notify.h"
#include "daemon/options.h"
#include "io/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/syscall.h>

#define EXIT_USAGE 2

struct daemon {
	struct loop *loop;
	struct health *health;
	struct node *node;
	int exit_code;
};

static void on_fatal(const char *why, void *userdata)
{
	struct daemon *daemon = userdata;

	log_error("%s", why);
	if (daemon->health)
		health_stopped(daemon->health, why);
	daemon->exit_code = EXIT_FAILURE;
	loop_exit(daemon->loop);
}

static void on_terminate(void *userdata)
{
	struct daemon *daemon = userdata;

	log_info("Exiting cleanly...");
	(void)notify_send("STOPPING=1", NULL);
	loop_exit(daemon->loop);
}

static void on_hangup(void *userdata)
{
	struct daemon *daemon = userdata;

	log_info("SIGHUP: looking at everything again");
	if (daemon->node)
		node_refresh(daemon->node);
}

/* Links, routes, neighbours: all of it needs CAP_NET_ADMIN. */
static int check_privilege(struct err *err)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};

	if (syscall(SYS_capget, &header, data))
		return err_sys(err, -errno, "capget");
	if (data[0].effective & (1u << CAP_NET_ADMIN))
		return 0;
	return err_set(err, -EPERM,
		       "capability CAP_NET_ADMIN is missing: run flanneld as root, or give it that "
		       "capability");
}

/* One daemon per subnet file. The lock is held until the process ends. */
static int lock_subnet_file(const char *path, int *ret_fd, struct err *err)
{
	_cleanup_free_ char *lock = NULL;
	_cleanup_close_ int fd = -1;
	int code = file_make_parents(path, err);

	if (code)
		return code;
	if (asprintf(&lock, "%s.lock", path) < 0)
		abort();
	fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_sys(err, -errno, "opening %s", lock);
	if (flock(fd, LOCK_EX | LOCK_NB))
		return errno == EWOULDBLOCK
			       ? err_set(err, -EBUSY,
					 "another flanneld uses subnet file %s already", path)
			       : err_sys(err, -errno, "locking %s", lock);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int clean_up(const struct options *options)
{
	struct loop *loop = loop_new();
	struct err err;
	int code = check_privilege(&err);

	if (!code)
		code = cleanup_run(loop, options, &err);
	if (code)
		log_error("%s", err.text);
	loop_free(loop);
	return code ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int run(const struct options *options)
{
	struct daemon daemon = {.loop = loop_new()};
	struct event *sigterm, *sigint, *sighup;
	_cleanup_close_ int lock = -1;
	struct err err;
	int code;

	sigterm = loop_signal_new(daemon.loop, SIGTERM, on_terminate, &daemon);
	sigint = loop_signal_new(daemon.loop, SIGINT, on_terminate, &daemon);
	sighup = loop_signal_new(daemon.loop, SIGHUP, on_hangup, &daemon);
	code = health_new(daemon.loop, &options->healthz_ip, (uint16_t)options->healthz_port,
			  &daemon.health, &err);
	if (!code)
		code = check_privilege(&err);
	if (!code)
		code = lock_subnet_file(options->subnet_file, &lock, &err);
	if (!code) {
		health_keep_file(daemon.health, options->subnet_file);
		code = node_new(daemon.loop, options, daemon.health, on_fatal, &daemon,
				&daemon.node, &err);
	}
	if (code)
		on_fatal(err.text, &daemon);
	else if (!daemon.exit_code)
		loop_run(daemon.loop);
	node_free(daemon.node);
	health_free(daemon.health);
	loop_event_free(sigterm);
	loop_event_free(sigint);
	loop_event_free(sighup);
	loop_free(daemon.loop);
	return daemon.exit_code;
}

int main(int argc, char **argv, char **envp)
{
	struct options options;
	struct err err;
	int code;

	(void)signal(SIGPIPE, SIG_IGN);
	if (options_parse(argc, argv, envp, &options, &err)) {
		(void)fprintf(stderr, "flanneld: %s\nTry 'flanneld --help'.\n", err.text);
		return EXIT_USAGE;
	}
	options_hide_secrets(&options);
	if (options.help) {
		options_print_help(stdout);
		return EXIT_SUCCESS;
	}
	if (options.version) {
		(void)printf("weft %s, drop-in for flannel v0.28.9\n", WEFT_VERSION);
		return EXIT_SUCCESS;
	}
	log_set_verbosity(options.verbosity);
	if (log_set_vmodule(options.vmodule)) {
		(void)fprintf(stderr, "flanneld: --vmodule: \"%s\" is not a list of file=level\n",
			      options.vmodule);
		return EXIT_USAGE;
	}
	code = options.cleanup ? clean_up(&options) : run(&options);
	options_done(&options);
	return code;
}
