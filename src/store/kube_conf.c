/* SPDX-License-Identifier: Apache-2.0 */
/* kube_conf.c - Kubernetes store: the network config, a file
 *
 * Of a ConfigMap's volume it is a link into `..data`, which is a link itself and swapped as
 * a whole: so the directory is watched, and after anything that happens in it the file is
 * read. Only another text is news. Without the directory it is looked for again and again.
 */
#include "store/kube_internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/inotify.h>

#define SETTLE_MS      20 /* a swap takes several steps */
#define RETRY_FIRST_MS 1000
#define RETRY_MAX_MS   10000

static void tell(struct kube *k)
{
	struct kube_conf *conf = &k->conf;

	if (!conf->released || !conf->text || conf->told)
		return;
	conf->told = true;
	k->store.events.config(conf->text, conf->len, k->settings->net_config_path,
			       k->store.events.userdata);
}

void kube_conf_release(struct kube *k)
{
	k->conf.released = true;
	tell(k);
}

static int load(struct kube *k, struct err *err)
{
	struct kube_conf *conf = &k->conf;
	const char *path = k->settings->net_config_path;
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = file_read(AT_FDCWD, path, NETCONF_MAX_BYTES, &text, &len, err);

	if (r == -ENOENT && !conf->text)
		return err_set(err, r,
			       "waiting for the network config: %.200s does not exist "
			       "(--net-config-path; in a pod, the ConfigMap mounted there)",
			       path);
	if (r < 0)
		return err_wrap(err, r,
				conf->text ? "keeping the last good network config"
					   : "waiting for the network config");
	if (conf->text && conf->len == len && !memcmp(conf->text, text, len))
		return 0;
	free(conf->text);
	conf->text = TAKE_PTR(text);
	conf->len = len;
	conf->told = false;
	return 0;
}

static void on_inotify(void *userdata)
{
	struct kube *k = userdata;
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t n;

	while ((n = read(k->conf.inotify_fd, buf, sizeof(buf))) > 0)
		for (const char *p = buf; p < buf + n;) {
			const struct inotify_event *event = (const void *)p;

			p += sizeof(*event) + event->len;
			if (event->wd == k->conf.watch &&
			    (event->mask & (IN_DELETE_SELF | IN_MOVE_SELF | IN_IGNORED))) {
				(void)inotify_rm_watch(k->conf.inotify_fd, k->conf.watch);
				k->conf.watch = -1;
			}
		}
	loop_timer_set_sooner(k->conf.timer, SETTLE_MS);
}

/* Without a watch the file is looked at now and then. */
static void watch_directory(struct kube *k)
{
	const uint32_t events = IN_CREATE | IN_CLOSE_WRITE | IN_MOVED_TO | IN_DELETE |
				IN_MOVED_FROM | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR;
	struct kube_conf *conf = &k->conf;
	_cleanup_free_ char *dir = mem_strdup(k->settings->net_config_path);
	char *slash = strrchr(dir, '/');

	if (conf->watch >= 0)
		return;
	if (conf->inotify_fd < 0) {
		conf->inotify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
		if (conf->inotify_fd < 0)
			return;
		conf->inotify_event = loop_fd_new(k->store.loop, conf->inotify_fd, on_inotify, k);
	}
	if (slash)
		slash[slash == dir] = '\0';
	conf->watch = inotify_add_watch(conf->inotify_fd, slash ? dir : ".", events);
}

static void read_config(void *userdata)
{
	struct kube *k = userdata;
	struct kube_conf *conf = &k->conf;
	struct err err = {""};
	int r;

	watch_directory(k); /* before it is read: nothing is missed in between */
	r = load(k, &err);
	if (r == 0 && conf->watch >= 0)
		conf->retry_ms = RETRY_FIRST_MS;
	if (conf->watch < 0 || (r < 0 && r != -ENOENT)) {
		loop_timer_set(conf->timer, loop_jitter_ms(conf->retry_ms));
		conf->retry_ms =
			conf->retry_ms < RETRY_MAX_MS / 2 ? 2 * conf->retry_ms : RETRY_MAX_MS;
	}
	kube_set_problem(k, k->config_problem, r < 0 ? err.text : "");
	tell(k);
}

void kube_conf_init(struct kube *k)
{
	k->conf.inotify_fd = k->conf.watch = -1;
	k->conf.retry_ms = RETRY_FIRST_MS;
	k->conf.timer = loop_timer_new(k->store.loop, read_config, k);
}

void kube_conf_start(struct kube *k)
{
	read_config(k);
}

void kube_conf_done(struct kube *k)
{
	loop_event_free(k->conf.timer);
	loop_event_free(k->conf.inotify_event);
	if (k->conf.inotify_fd >= 0)
		close(k->conf.inotify_fd);
	free(k->conf.text);
}
