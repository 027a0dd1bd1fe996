/* SPDX-License-Identifier: Apache-2.0 */
/* dir.c - the embedded store: a directory
 *
 * Theory of operation. DIR/config is the network config; DIR/subnets/<key> is one
 * record each, the JSON of etcd plus `Expiration`. Changes come by inotify. A file
 * that vanishes does not remove its peer at once: the directory is listed (names
 * only) a moment later, and the peer table believes that list or waits for a
 * second one (peers.h). A directory that cannot be listed says nothing about the
 * peers. connect_dir() is the one way back from every failure: it opens, watches
 * and lists everything anew.
 */
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/dir_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define VANISHED_MS    100 /* from a deletion to the list that confirms it */
#define RETRY_FIRST_MS 100
#define RETRY_MAX_MS   10000
#define NEVER_S        8000000000 /* the year 2223; below the kernel's KTIME_SEC_MAX */

static struct dir *to_dir(struct store *store)
{
	return (struct dir *)store; /* first member */
}

int64_t dir_wall_now_s(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec;
}

void dir_set_problem(struct dir *d, const char *problem)
{
	if (!strcmp(d->problem, problem ? problem : ""))
		return;
	(void)snprintf(d->problem, sizeof(d->problem), "%s", problem ? problem : "");
	d->store.events.state(problem, d->store.events.userdata);
}

void dir_retry_later(struct dir *d)
{
	loop_timer_set_sooner(d->retry_timer, loop_jitter_ms(d->retry_ms));
	d->retry_ms = d->retry_ms * 2 < RETRY_MAX_MS ? d->retry_ms * 2 : RETRY_MAX_MS;
}

void dir_failed(struct dir *d, const char *problem)
{
	dir_set_problem(d, problem);
	dir_retry_later(d);
}

/* 0, or -errno with the text of a problem. */
static int load_config(struct dir *d, struct err *err)
{
	_cleanup_free_ char *text = NULL, *path = NULL;
	size_t len;
	int code;

	if (asprintf(&path, "%s/config", d->path) < 0)
		abort();
	code = file_read(AT_FDCWD, path, NETCONF_MAX_BYTES, &text, &len, err);
	if (code == -ENOENT && !d->config)
		return err_set(err, code, "waiting for the network config: %s does not exist",
			       path);
	if (code)
		return err_wrap(err, code,
				d->config ? "keeping the last good network config"
					  : "waiting for the network config");
	if (d->config && !strcmp(d->config, text))
		return 0;
	free(d->config);
	d->config = TAKE_PTR(text);
	d->store.events.config(d->config, len, path, d->store.events.userdata);
	return 0;
}

static void disconnect(struct dir *d)
{
	if (d->config_watch >= 0)
		(void)inotify_rm_watch(d->inotify_fd, d->config_watch);
	if (d->subnets_watch >= 0)
		(void)inotify_rm_watch(d->inotify_fd, d->subnets_watch);
	if (d->subnets_fd >= 0)
		close(d->subnets_fd);
	d->config_watch = d->subnets_watch = d->subnets_fd = -1;
	d->list_needed = true;
	d->reopened = d->listed;
	loop_timer_stop(d->list_timer);
	d->list_due_ms = 0;
}

static void on_inotify(void *userdata);

static int open_inotify(struct dir *d)
{
	if (d->inotify_fd >= 0)
		return 0;
	d->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (d->inotify_fd < 0)
		return -errno;
	d->inotify_event = loop_fd_new(d->store.loop, d->inotify_fd, on_inotify, d);
	return 0;
}

static int open_and_watch(struct dir *d, struct err *err)
{
	const uint32_t events = IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_TO | IN_DELETE |
				IN_MOVED_FROM | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
	_cleanup_free_ char *subnets = NULL;

	if (open_inotify(d))
		return err_set(err, -EMFILE,
			       "no inotify instance is left (sysctl "
			       "fs.inotify.max_user_instances)");
	if (asprintf(&subnets, "%s/subnets", d->path) < 0)
		abort();
	d->config_watch = inotify_add_watch(d->inotify_fd, d->path, events);
	if (d->config_watch < 0)
		return err_sys(err, -errno, "store directory %s", d->path);
	/* The first host of a network finds no directory of subnets. */
	if (mkdir(subnets, 0755) && errno != EEXIST)
		return err_sys(err, -errno, "creating %s", subnets);
	d->subnets_fd = open(subnets, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->subnets_fd < 0)
		return err_sys(err, -errno, "opening %s", subnets);
	d->subnets_watch = inotify_add_watch(d->inotify_fd, subnets, events);
	if (d->subnets_watch < 0)
		return err_sys(err, -errno, "watching %s", subnets);
	return 0;
}

/* Lists, when that was asked for, and says so when it fails. */
static int list(struct dir *d, bool names_only, struct err *err)
{
	int code = dir_list(d, names_only);

	return code ? err_sys(err, code, "listing %s/subnets; keeping what is known", d->path) : 0;
}

static int connect_once(struct dir *d, struct err *err)
{
	int code = 0;

	if (d->subnets_watch < 0) {
		disconnect(d);
		code = open_and_watch(d, err);
	}
	if (!code)
		code = load_config(d, err);
	/* The last good config does for the peers. */
	if ((!code || d->config) && d->acquiring && d->subnets_fd >= 0 && d->list_needed)
		code = list(d, false, err) ?: code;
	return code;
}

/* Our own record: kept, or acquired. 0 or -errno, then it was said and is tried again. */
static int keep_own(struct dir *d)
{
	int code;

	if (d->has_own && *d->own_key)
		return dir_own_keep(d);
	code = dir_own_acquire(d);
	if (!code && !d->synced) {
		d->synced = true;
		d->store.events.synced(d->store.events.userdata);
	}
	return code;
}

/* (Re)opens and reads everything; what fails is tried again later, less and less often. */
static void connect_dir(void *userdata)
{
	struct dir *d = userdata;
	struct err err;
	int code = connect_once(d, &err);

	if (code) {
		dir_set_problem(d, err.text);
		/* A missing config comes with a notification. */
		if (d->subnets_watch < 0 || d->acquiring)
			dir_retry_later(d);
		return;
	}
	if (d->acquiring && keep_own(d))
		return;
	if (!d->unreadable)
		dir_set_problem(d, NULL);
	d->retry_ms = RETRY_FIRST_MS;
}

static void on_list_timer(void *userdata)
{
	struct dir *d = userdata;
	struct err config_err, err;
	int code = 0, config_code;

	d->list_due_ms = 0;
	if (d->subnets_fd < 0)
		return;
	/* A file system that notifies nothing may also have a new config. */
	config_code = load_config(d, &config_err);
	if (d->acquiring && d->config) {
		code = list(d, d->list_names_only, &err);
		if (!code)
			dir_own_check(d);
	}
	if (config_code && !code)
		dir_set_problem(d, config_err.text);
	if (code) {
		dir_set_problem(d, err.text);
		disconnect(d);
	}
	if (code || config_code)
		dir_retry_later(d);
}

static void on_subnet_event(struct dir *d, const struct inotify_event *event)
{
	if (!event->len || *event->name == '.' || !d->acquiring)
		return;
	if (event->mask & (IN_DELETE | IN_MOVED_FROM))
		dir_list_later(d, VANISHED_MS, true);
	else if (!strcmp(event->name, d->own_key))
		dir_own_check(d);
	else
		/* A file that is created empty and then filled is read, and complained
		 * about, when it is closed. */
		(void)dir_load_record(d, event->name, true, !(event->mask & IN_CREATE));
}

static void lose(struct dir *d)
{
	disconnect(d);
	dir_failed(d, "the store's directory has been removed; keeping what is known");
}

static void on_config_event(struct dir *d, const struct inotify_event *event)
{
	struct err err;
	int code;

	if (event->len && !strcmp(event->name, "subnets") &&
	    (event->mask & (IN_DELETE | IN_MOVED_FROM))) {
		/* It cannot say so itself: we hold it open. */
		lose(d);
		return;
	}
	if (!event->len)
		return;
	if (strcmp(event->name, "config") != 0) {
		/* What `config` is a link to may have been swapped (a ConfigMap); in the
		 * middle of that it may be unreadable, which is no news. */
		if (!load_config(d, &err))
			dir_set_problem(d, NULL);
		return;
	}
	if (event->mask & (IN_CREATE | IN_DELETE | IN_MOVED_FROM)) {
		dir_list_later(d, VANISHED_MS, true); /* half-written, or being replaced */
		return;
	}
	code = load_config(d, &err);
	dir_set_problem(d, code ? err.text : NULL);
}

static void on_event(struct dir *d, const struct inotify_event *event)
{
	if (event->mask & IN_Q_OVERFLOW) {
		dir_list_later(d, 0, false);
		return;
	}
	if (event->wd != d->subnets_watch && event->wd != d->config_watch)
		return;
	if (event->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED | IN_UNMOUNT)) {
		lose(d);
	} else if (event->wd == d->subnets_watch) {
		on_subnet_event(d, event);
	} else {
		on_config_event(d, event);
	}
}

static void on_inotify(void *userdata)
{
	struct dir *d = userdata;
	char buf[16384] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t n;

	while ((n = read(d->inotify_fd, buf, sizeof(buf))) > 0)
		for (char *p = buf; p < buf + n;) {
			const struct inotify_event *event = (const void *)p;

			p += sizeof(*event) + event->len;
			on_event(d, event);
		}
}

/* A timer that is never due; its read fails with ECANCELED when the wall clock is set. */
static void arm_clock(const struct dir *d)
{
	struct itimerspec far = {.it_value.tv_sec = NEVER_S};

	(void)timerfd_settime(d->clock_fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &far, NULL);
}

/* Our record's `Expiration` must fit the new time, for the other hosts to believe it. */
static void on_clock(void *userdata)
{
	struct dir *d = userdata;
	uint64_t count;

	if (read(d->clock_fd, &count, sizeof(count)) < 0 && errno != ECANCELED)
		return;
	arm_clock(d);
	/* What seemed to be over may be alive by the new time. */
	if (d->listed)
		dir_list_later(d, 0, false);
	dir_own_renew(d);
}

static void dir_describe(const struct store *store, char *buf, size_t size)
{
	(void)snprintf(buf, size, "Directory Manager - %s",
		       ((const struct dir *)(const void *)store)->path);
}

static void dir_start(struct store *store)
{
	connect_dir(to_dir(store));
}

static void dir_acquire(struct store *store, const struct store_request *request)
{
	struct dir *d = to_dir(store);

	claim_set(&d->claim, request);
	d->acquiring = true;
	if (d->has_own && *d->own_key)
		dir_own_publish(d);
	else
		loop_timer_set(d->retry_timer, 0);
}

static void dir_free(struct store *store)
{
	struct dir *d = to_dir(store);

	loop_event_free(d->inotify_event);
	loop_event_free(d->clock_event);
	disconnect(d);
	loop_event_free(d->retry_timer);
	loop_event_free(d->list_timer);
	loop_event_free(d->expiry_timer);
	loop_event_free(d->renew_timer);
	if (d->inotify_fd >= 0)
		close(d->inotify_fd);
	if (d->clock_fd >= 0)
		close(d->clock_fd);
	dir_free_graves(d);
	claim_done(&d->claim);
	free(d->path);
	free(d->config);
	free(d);
}

static const struct store_ops dir_ops = {
	.name = "dir",
	.describe = dir_describe,
	.start = dir_start,
	.find_own = dir_find_own,
	.acquire = dir_acquire,
	.free = dir_free,
};

struct store *store_dir_new(struct loop *loop, const char *path, struct peers *peers,
			    const struct store_events *events)
{
	struct dir *d = mem_alloc(1, sizeof(*d));

	d->store = (struct store){.ops = &dir_ops, .loop = loop, .events = *events, .peers = peers};
	d->path = mem_strdup(path);
	d->config_watch = d->subnets_watch = d->subnets_fd = -1;
	d->retry_ms = RETRY_FIRST_MS;
	d->unreadable_retry_ms = DIR_IO_RETRY_MS;
	d->inotify_fd = -1;
	d->clock_fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK | TFD_CLOEXEC);
	if (d->clock_fd >= 0) {
		arm_clock(d);
		d->clock_event = loop_fd_new(loop, d->clock_fd, on_clock, d);
	}
	d->retry_timer = loop_timer_new(loop, connect_dir, d);
	d->list_timer = loop_timer_new(loop, on_list_timer, d);
	d->expiry_timer = loop_timer_new(loop, dir_on_expiry, d);
	d->renew_timer = loop_timer_new(loop, dir_own_renew, d);
	return &d->store;
}
