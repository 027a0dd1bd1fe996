/* SPDX-License-Identifier: Apache-2.0 */
/* test_etcd_v3.c - the v3 API against a real etcd on the loopback, and against a false one */
#include "base/file.h"
#include "base/mem.h"
#include "h2_server.h"
#include "store/etcd_api.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define ETCD "/usr/bin/etcd"

static struct loop *loop;

static void on_tick(void *userdata)
{
	loop_exit(userdata);
}

static void turn(void)
{
	struct event *tick = loop_timer_new(loop, on_tick, loop);

	loop_timer_set(tick, 1);
	loop_run(loop);
	loop_event_free(tick);
}

#include "wait.h"

/* -- a real etcd ----------------------------------------------------------------------- */

static struct {
	pid_t pid; /* 0: there is none here */
	uint16_t port;
	char dir[32], url[32];
} etcd;

/* A port of the loopback that was free a moment ago; a socket that listens if asked for. */
static uint16_t free_port(int *ret_fd)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	socklen_t len = sizeof(sin);

	assert_int_equal(bind(fd, (const struct sockaddr *)&sin, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
	if (ret_fd) {
		assert_int_equal(listen(fd, 5), 0);
		*ret_fd = fd;
	} else {
		(void)close(fd);
	}
	return ntohs(sin.sin_port);
}

static pid_t spawn(const char *const *argv, const char *out)
{
	static char path[] = "PATH=/usr/bin:/bin", api[] = "ETCDCTL_API=3";
	char *env[] = {path, api, NULL};
	posix_spawn_file_actions_t files;
	pid_t pid;

	assert_int_equal(posix_spawn_file_actions_init(&files), 0);
	for (int fd = 1; fd <= 2; fd++)
		assert_int_equal(posix_spawn_file_actions_addopen(
					 &files, fd, out, O_WRONLY | O_CREAT | O_APPEND, 0600),
				 0);
	assert_int_equal(posix_spawn(&pid, argv[0], &files, NULL, (char **)(uintptr_t)argv, env),
			 0);
	posix_spawn_file_actions_destroy(&files);
	return pid;
}

static int run(const char *const *argv)
{
	pid_t pid = spawn(argv, "/dev/null");
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* A command line of etcdctl, as root: pw once authentication is on. */
static void ctl(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void ctl(const char *fmt, ...)
{
	_cleanup_free_ char *words = NULL, *line = NULL;
	const char *argv[] = {"/bin/sh", "-c", NULL, NULL};
	va_list ap;

	va_start(ap, fmt);
	assert_true(vasprintf(&words, fmt, ap) > 0);
	va_end(ap);
	assert_true(asprintf(&line, "etcdctl --endpoints=%s %s", etcd.url, words) > 0);
	argv[2] = line;
	if (run(argv))
		fail_msg("failed: %s", line);
}

static int start_etcd(void **state)
{
	char peer[64], cluster[80], log[64];
	const char *argv[] = {ETCD,     "--data-dir",
			      etcd.dir, "--listen-client-urls",
			      etcd.url, "--advertise-client-urls",
			      etcd.url, "--listen-peer-urls",
			      peer,     "--initial-advertise-peer-urls",
			      peer,     "--initial-cluster",
			      cluster,  NULL};

	(void)state;
	if (access(ETCD, X_OK) < 0)
		return 0;
	/* In memory: etcd waits for the disk at each write. */
	(void)snprintf(etcd.dir, sizeof(etcd.dir), "/dev/shm/weft-etcd-XXXXXX");
	if (!mkdtemp(etcd.dir)) {
		(void)snprintf(etcd.dir, sizeof(etcd.dir), "/tmp/weft-etcd-XXXXXX");
		assert_non_null(mkdtemp(etcd.dir));
	}
	(void)snprintf(etcd.url, sizeof(etcd.url), "http://127.0.0.1:%u", free_port(NULL));
	(void)snprintf(peer, sizeof(peer), "http://127.0.0.1:%u", free_port(NULL));
	(void)snprintf(cluster, sizeof(cluster), "default=%s", peer);
	(void)snprintf(log, sizeof(log), "%s/log", etcd.dir);
	etcd.pid = spawn(argv, log);
	return 0;
}

static int stop_etcd(void **state)
{
	const char *argv[] = {"/bin/rm", "-rf", etcd.dir, NULL};

	(void)state;
	if (!etcd.pid)
		return 0;
	(void)kill(etcd.pid, SIGKILL);
	(void)waitpid(etcd.pid, NULL, 0);
	return run(argv);
}

/* -- calls ----------------------------------------------------------------------------- */

struct fixture {
	struct etcd_settings settings;
	struct etcd_link link;
	struct etcd_api *api;
	bool hang_up; /* at the next answer */

	/* the last answer */
	int n_replies;
	struct etcd_reply reply;
	struct etcd_kv kv;
	char key[64], value[256], why[ERR_TEXT_MAX];

	/* the list, and the watch */
	int n_listed, n_ready, n_put, n_gone, n_upto, n_ended;
	int n_put_upto; /* puts when upto was told last */
	int64_t ready_revision, last_put, upto;
	char put_key[64], gone_key[64];
	bool in_order;
	struct etcd_reply ended;
	char ended_why[ERR_TEXT_MAX];
};

static void init(struct fixture *f, const char *url, const char *prefix)
{
	struct err err;

	memset(f, 0, sizeof(*f));
	loop = loop_new();
	f->in_order = true;
	f->settings = (struct etcd_settings){.endpoints = url,
					     .prefix = prefix,
					     .files = {.ca = "", .cert = "", .key = ""},
					     .username = "",
					     .password = "",
					     .password_file = ""};
	if (etcd_link_init(&f->link, &f->settings, &err))
		fail_msg("%s", err.text);
	f->api = etcd_v3_new(loop, &f->link);
}

static void done(struct fixture *f)
{
	f->api->ops->free(f->api);
	loop_free(loop);
}

static void on_reply(const struct etcd_reply *reply, void *userdata)
{
	struct fixture *f = userdata;

	f->n_replies++;
	f->reply = *reply;
	assert_int_equal(reply->status == ETCD_OK, reply->why == NULL);
	(void)snprintf(f->why, sizeof(f->why), "%s", reply->why ? reply->why : "");
	if (reply->kv) {
		f->kv = *reply->kv;
		assert_int_equal(f->kv.value[f->kv.len], '\0');
		(void)snprintf(f->key, sizeof(f->key), "%s", f->kv.key);
		(void)snprintf(f->value, sizeof(f->value), "%.200s", f->kv.value);
	}
	if (f->hang_up)
		f->api->ops->hang_up(f->api);
}

static void on_listed(const struct etcd_kv *kv, void *userdata)
{
	struct fixture *f = userdata;

	f->n_listed++;
	(void)snprintf(f->key, sizeof(f->key), "%s", kv->key);
}

static void on_ready(const struct etcd_reply *reply, void *userdata)
{
	struct fixture *f = userdata;

	f->n_ready++;
	f->ready_revision = reply->revision;
	assert_true(reply->cluster != 0);
}

static void on_put(const struct etcd_kv *kv, void *userdata)
{
	struct fixture *f = userdata;

	f->n_put++;
	f->in_order = f->in_order && kv->revision > f->last_put;
	f->last_put = kv->revision;
	(void)snprintf(f->put_key, sizeof(f->put_key), "%s", kv->key);
}

static void on_gone(const struct etcd_kv *kv, void *userdata)
{
	struct fixture *f = userdata;

	f->n_gone++;
	(void)snprintf(f->gone_key, sizeof(f->gone_key), "%s", kv->key);
}

static void on_upto(int64_t next, void *userdata)
{
	struct fixture *f = userdata;

	f->n_upto++;
	f->n_put_upto = f->n_put;
	assert_true(next > f->upto);
	f->upto = next;
}

static void on_ended(const struct etcd_reply *reply, void *userdata)
{
	struct fixture *f = userdata;

	f->n_ended++;
	f->ended = *reply;
	(void)snprintf(f->ended_why, sizeof(f->ended_why), "%s", reply->why);
	if (f->hang_up)
		f->api->ops->hang_up(f->api);
}

static void watch(struct fixture *f, int64_t from)
{
	const struct etcd_watch_events events = {on_ready, on_put, on_gone, on_upto, on_ended, f};

	f->api->ops->watch(f->api, from, &events);
}

/* Makes a call and waits for its answer, which never comes at once. */
#define ASK(f, verb, ...)                                                                          \
	do {                                                                                       \
		int _n = (f)->n_replies;                                                           \
		(f)->reply.kv = NULL;                                                              \
		(f)->api->ops->verb((f)->api, ##__VA_ARGS__, on_reply, (f));                       \
		assert_int_equal((f)->n_replies, _n);                                              \
		WAIT_MS(20000, (f)->n_replies > _n);                                               \
		assert_int_equal((f)->n_replies, _n + 1);                                          \
	} while (0)

#define EXPECT(f, wanted)                                                                          \
	do {                                                                                       \
		if ((f)->reply.status != (wanted))                                                 \
			fail_msg("status %d: %s", (f)->reply.status, (f)->why);                    \
	} while (0)

static void set_up(struct fixture *f, const char *prefix)
{
	if (!etcd.pid) {
		print_message("there is no " ETCD "\n");
		skip();
	}
	init(f, etcd.url, prefix);
	for (int64_t until = loop_now_ms() + 20000;;) {
		ASK(f, get, "config");
		if (f->reply.status == ETCD_OK)
			return;
		if (loop_now_ms() > until)
			fail_msg("no etcd: %s", f->why);
		f->api->ops->hang_up(f->api);
	}
}

#define KEY "subnets/10.5.52.0-24"

static void test_verbs(void **state)
{
	int64_t lease, created, revision;
	struct fixture f;
	size_t before;

	(void)state;
	set_up(&f, "/verbs");
	assert_null(f.reply.kv);
	assert_true(f.reply.cluster != 0 && f.reply.revision > 0);
	ASK(&f, count);
	before = f.reply.count;
	assert_int_equal(before, 0);
	ASK(&f, grant, 3600);
	EXPECT(&f, ETCD_OK);
	lease = f.reply.lease;
	assert_true(lease != 0);
	assert_int_equal(f.reply.ttl_s, 3600);

	ASK(&f, create, KEY, "{\"a\":1}", lease);
	EXPECT(&f, ETCD_OK);
	created = f.reply.revision;
	assert_null(f.reply.kv);
	ASK(&f, get, KEY);
	EXPECT(&f, ETCD_OK);
	assert_non_null(f.reply.kv);
	assert_string_equal(f.key, KEY);
	assert_string_equal(f.value, "{\"a\":1}");
	assert_int_equal(f.kv.revision, created);
	assert_int_equal(f.kv.created, created);
	assert_int_equal(f.kv.lease, lease);

	/* What is there is told. */
	ASK(&f, create, KEY, "{\"a\":2}", lease);
	EXPECT(&f, ETCD_CONFLICT);
	assert_non_null(f.reply.kv);
	assert_string_equal(f.value, "{\"a\":1}");
	assert_int_equal(f.kv.revision, created);
	ASK(&f, update, KEY, "{\"a\":2}", lease, created - 1);
	EXPECT(&f, ETCD_CONFLICT);
	assert_string_equal(f.value, "{\"a\":1}");

	ASK(&f, update, KEY, "{\"a\":3}", 0, created);
	EXPECT(&f, ETCD_OK);
	revision = f.reply.revision;
	ASK(&f, get, KEY);
	assert_string_equal(f.value, "{\"a\":3}");
	assert_int_equal(f.kv.lease, 0);
	assert_int_equal(f.kv.revision, revision);
	assert_int_equal(f.kv.created, created);

	ASK(&f, count);
	EXPECT(&f, ETCD_OK);
	assert_int_equal(f.reply.count, 1);
	ASK(&f, remove, KEY, created);
	EXPECT(&f, ETCD_CONFLICT);
	assert_string_equal(f.value, "{\"a\":3}");
	ASK(&f, remove, KEY, revision);
	EXPECT(&f, ETCD_OK);
	ASK(&f, remove, KEY, revision);
	EXPECT(&f, ETCD_CONFLICT);
	assert_null(f.reply.kv);
	ASK(&f, update, KEY, "{}", 0, revision);
	EXPECT(&f, ETCD_CONFLICT);
	assert_null(f.reply.kv);
	done(&f);
}

static void test_leases(void **state)
{
	struct etcd_kv kv = {.key = KEY, .value = "x", .len = 1};
	struct fixture f;

	(void)state;
	set_up(&f, "/leases");
	ASK(&f, grant, 600);
	kv.lease = f.reply.lease;
	ASK(&f, renew, &kv);
	EXPECT(&f, ETCD_OK);
	assert_int_equal(f.reply.ttl_s, 600);
	ASK(&f, create, KEY, "x", kv.lease);
	EXPECT(&f, ETCD_OK);
	ctl("lease revoke %llx", (unsigned long long)kv.lease);
	ASK(&f, renew, &kv);
	EXPECT(&f, ETCD_NO_LEASE);
	ASK(&f, create, KEY, "x", kv.lease);
	EXPECT(&f, ETCD_NO_LEASE);
	ASK(&f, get, KEY);
	assert_null(f.reply.kv);
	done(&f);
}

static void test_list(void **state)
{
	char key[64];
	int n = 0;
	struct fixture f;

	(void)state;
	set_up(&f, "/list");
	f.api->ops->list(f.api, on_listed, on_reply, &f);
	n = f.n_replies;
	WAIT_MS(5000, f.n_replies > n);
	EXPECT(&f, ETCD_OK);
	assert_int_equal(f.n_listed, 0);
	ctl("put /list/config '{}'");
	ctl("put /list/subnets0 not-below");
	ctl("put /lists/subnets/x not-below");
	for (int i = 0; i < 300; i++) {
		(void)snprintf(key, sizeof(key), "subnets/10.5.%d.0-24", i);
		ASK(&f, create, key, "{}", 0);
	}
	n = f.n_replies;
	f.api->ops->list(f.api, on_listed, on_reply, &f);
	WAIT_MS(5000, f.n_replies > n);
	EXPECT(&f, ETCD_OK);
	assert_int_equal(f.n_listed, 301);
	assert_int_equal(f.reply.revision >= 300, 1);
	ASK(&f, count);
	assert_int_equal(f.reply.count, 300);
	done(&f);
}

/* A value with a NUL, which the shell can write. */
static void test_nul(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f, "/nul");
	ctl("put /nul/x y && printf 'a\\0bcdefghijklmnopqrstuvwxyz' | etcdctl --endpoints=%s put "
	    "/nul/config",
	    etcd.url);
	ASK(&f, get, "config");
	EXPECT(&f, ETCD_OK);
	assert_int_equal(f.kv.len, 27);
	assert_string_equal(f.value, "a");
	done(&f);
}

static void test_watch(void **state)
{
	int64_t from, cursor, revision;
	char value[32];
	struct fixture f;

	(void)state;
	set_up(&f, "/watch");
	from = f.reply.revision + 1;
	watch(&f, from);
	WAIT_MS(5000, f.n_ready);
	assert_int_equal(f.ready_revision, from - 1);
	ASK(&f, create, KEY, "0", 0);
	revision = f.reply.revision;
	WAIT_MS(5000, f.n_put == 1);
	assert_string_equal(f.put_key, KEY);
	WAIT_MS(5000, f.upto == revision + 1);
	/* The cursor is that of the subnets. */
	ctl("put /watch/config '{}'");
	WAIT_MS(5000, f.n_put == 2);
	assert_string_equal(f.put_key, "config");
	assert_int_equal(f.upto, revision + 1);
	ctl("del /watch/config");
	WAIT_MS(5000, f.n_gone == 1);
	assert_string_equal(f.gone_key, "config");
	cursor = f.upto;
	f.api->ops->hang_up(f.api);

	/* More than the 1000 revisions that etcd replays in one go. */
	for (int i = 0; i < 2300; i++) {
		(void)snprintf(value, sizeof(value), "%d", i);
		ASK(&f, update, KEY, value, 0, revision);
		EXPECT(&f, ETCD_OK);
		revision = f.reply.revision;
	}
	ASK(&f, remove, KEY, revision);
	f.n_put = f.n_gone = f.n_ready = f.n_upto = 0;
	f.last_put = 0;
	watch(&f, cursor);
	WAIT_MS(20000, f.n_gone == 2); /* the config, too */
	assert_int_equal(f.n_put, 2301);
	assert_true(f.n_upto >= 3);
	WAIT_MS(5000, f.upto == revision + 2);
	assert_string_equal(f.gone_key, KEY);
	assert_int_equal(f.n_ended, 0);
	done(&f);
}

/* What is larger than one answer may be comes in fragments: all of them, then the cursor. */
static void test_fragments(void **state)
{
	_cleanup_free_ char *value = mem_alloc(1 << 20, 1);
	char key[64];
	int64_t from;
	struct fixture f;

	(void)state;
	memset(value, 'v', (1 << 20) - 1);
	set_up(&f, "/fragments");
	from = f.reply.revision + 1;
	for (int i = 0; i < 7; i++) {
		(void)snprintf(key, sizeof(key), "subnets/10.5.%d.0-24", i);
		ASK(&f, create, key, value, 0);
		EXPECT(&f, ETCD_OK);
	}
	watch(&f, from);
	WAIT_MS(20000, f.n_put == 7);
	WAIT_MS(5000, f.upto == from + 7);
	assert_true(f.in_order);
	assert_int_equal(f.n_put_upto, 7);
	assert_int_equal(f.n_upto, 1);
	ASK(&f, create, "subnets/large", value, 0);
	EXPECT(&f, ETCD_OK);
	done(&f);
}

static void test_too_large(void **state)
{
	_cleanup_free_ char *value = mem_alloc(1700 << 10, 1);
	struct fixture f;

	(void)state;
	memset(value, 'v', (1700 << 10) - 1);
	set_up(&f, "/large");
	ASK(&f, create, KEY, value, 0);
	EXPECT(&f, ETCD_REFUSED);
	assert_non_null(strstr(f.why, "request is too large"));
	done(&f);
}

static void test_compacted(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f, "/compacted");
	ASK(&f, create, KEY, "x", 0);
	ctl("compaction %lld", (long long)f.reply.revision);
	f.hang_up = true;
	watch(&f, 2);
	WAIT_MS(5000, f.n_ended);
	assert_int_equal(f.ended.status, ETCD_COMPACTED);
	f.hang_up = false;
	watch(&f, f.reply.revision + 1);
	WAIT_MS(5000, f.n_ready);
	done(&f);
}

/* Nothing is answered any more, whatever was under way. */
static void test_hang_up(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f, "/hang-up");
	for (int rounds = 0; rounds < 12; rounds++) {
		int n = f.n_replies;

		f.api->ops->hang_up(f.api);
		f.n_ended = 0;
		watch(&f, 0);
		f.api->ops->get(f.api, "config", on_reply, &f);
		f.api->ops->count(f.api, on_reply, &f);
		f.api->ops->list(f.api, on_listed, on_reply, &f);
		for (int i = 0; i < rounds && f.n_replies == n; i++)
			turn();
		f.api->ops->hang_up(f.api);
		n = f.n_replies;
		for (int i = 0; i < 5; i++)
			turn();
		assert_int_equal(f.n_replies, n);
		assert_int_equal(f.n_ended, 0);
		/* In the first of three answers. */
		f.hang_up = true;
		f.api->ops->get(f.api, "config", on_reply, &f);
		f.api->ops->count(f.api, on_reply, &f);
		f.api->ops->list(f.api, on_listed, on_reply, &f);
		WAIT_MS(5000, f.n_replies == n + 1);
		for (int i = 0; i < 5; i++)
			turn();
		assert_int_equal(f.n_replies, n + 1);
		f.hang_up = false;
	}
	done(&f);
}

static void test_away(void **state)
{
	char url[32], want[80];
	struct fixture f;

	(void)state;
	(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", free_port(NULL));
	(void)snprintf(want, sizeof(want), "etcd %s: connection refused", url);
	init(&f, url, "/p");
	ASK(&f, get, "config");
	EXPECT(&f, ETCD_AWAY);
	assert_string_equal(f.why, want);
	f.hang_up = true;
	watch(&f, 0);
	f.api->ops->count(f.api, on_reply, &f);
	WAIT_MS(5000, f.n_ended || f.n_replies == 2);
	turn();
	assert_int_equal(f.n_ended + f.n_replies, 2);
	done(&f);
}

/* -- users ----------------------------------------------------------------------------- */

#define ROOT "--user root:rpw "

static void check_user(const char *user, const char *password, enum etcd_status status,
		       const char *says)
{
	struct fixture f;

	init(&f, etcd.url, "/auth");
	f.settings.username = user;
	f.settings.password = password;
	ASK(&f, get, "config");
	EXPECT(&f, status);
	if (says && !strstr(f.why, says))
		fail_msg("says: %s", f.why);
	assert_null(strstr(f.why, "pw"));
	f.hang_up = true;
	watch(&f, 0);
	WAIT_MS(5000, status == ETCD_OK ? f.n_ready : f.n_ended);
	if (says) {
		assert_int_equal(f.ended.status, status);
		assert_non_null(strstr(f.ended_why, says));
	}
	done(&f);
}

static void check_token(struct fixture *f)
{
	int n;

	ASK(f, get, "config");
	EXPECT(f, ETCD_OK);
	/* Tokens go with authentication; several calls find out at the same time. */
	ctl(ROOT "auth disable");
	ctl("auth enable");
	n = f->n_replies;
	f->api->ops->get(f->api, "config", on_reply, f);
	f->api->ops->count(f->api, on_reply, f);
	f->api->ops->grant(f->api, 60, on_reply, f);
	WAIT_MS(20000, f->n_replies == n + 3);
	EXPECT(f, ETCD_OK);
	/* Without authentication, and with it again. */
	ctl(ROOT "auth disable");
	f->api->ops->hang_up(f->api);
	ASK(f, get, "config");
	EXPECT(f, ETCD_OK);
	ctl("auth enable");
	ASK(f, get, "config");
	EXPECT(f, ETCD_OK);
	watch(f, 0);
	WAIT_MS(5000, f->n_ready || f->n_ended);
	assert_int_equal(f->n_ready, 1);
}

static void check_password_file(struct fixture *f)
{
	char path[64];
	FILE *file;

	(void)snprintf(path, sizeof(path), "%s/pw", etcd.dir);
	file = fopen(path, "we");
	assert_non_null(file);
	assert_true(fputs("fpw\n", file) >= 0);
	assert_int_equal(fclose(file), 0);
	f->settings.password = "";
	f->settings.password_file = path;
	f->api->ops->hang_up(f->api);
	ASK(f, get, "config");
	EXPECT(f, ETCD_OK);
	(void)unlink(path);
	ctl(ROOT "auth disable");
	ctl("auth enable");
	ASK(f, get, "config");
	EXPECT(f, ETCD_REFUSED);
	assert_non_null(strstr(f->why, "--etcd-password-file"));
	/* Not at once, on a connection that stands, either. */
	ASK(f, get, "config");
	EXPECT(f, ETCD_REFUSED);
	f->settings.password_file = "";
}

static void test_auth(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f, "/auth");
	done(&f);
	ctl("user add root:rpw && etcdctl --endpoints=%s user grant-role root root", etcd.url);
	ctl("user add flannel:fpw && etcdctl --endpoints=%s role add net", etcd.url);
	ctl("role grant-permission net readwrite --prefix=true /auth/");
	ctl("user grant-role flannel net");
	ctl("user add nobody:npw");
	ctl("auth enable");
	check_user("flannel", "fpw", ETCD_OK, NULL);
	check_user("", "", ETCD_REFUSED, "--etcd-username");
	check_user("flannel", "wrong-pw", ETCD_REFUSED, "check --etcd-username");
	check_user("stranger", "spw", ETCD_REFUSED, "check --etcd-username");
	check_user("nobody", "npw", ETCD_REFUSED, "role grant-permission");

	init(&f, etcd.url, "/auth");
	f.settings.username = "flannel";
	f.settings.password = "fpw";
	check_token(&f);
	check_password_file(&f);
	ctl(ROOT "auth disable");
	done(&f);
}

/* -- a false one ----------------------------------------------------------------------- */

struct false_etcd {
	int fd;
	struct event *event;
	struct h2_server server;
};

static void on_connection(void *userdata)
{
	struct false_etcd *e = userdata;
	int fd = accept4(e->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (e->server.session)
		(void)close(fd);
	else
		h2_server_serve(&e->server, fd, 100);
}

/* An order that etcd never gives is no success, and no empty list. */
static void test_false_answers(void **state)
{
	static const char *const bodies[] = {"", "\0\0\0\0\1x", "\0\0\0\0\2\x0a\x7f"};
	struct h2_answer answers[6];
	static const char *const paths[] = {
		"/etcdserverpb.KV/Txn", "/etcdserverpb.KV/Range", "/etcdserverpb.Lease/LeaseGrant",
		"/etcdserverpb.Lease/LeaseKeepAlive", "/etcdserverpb.Watch/Watch"};
	static const size_t lengths[] = {0, 6, 7};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bodies); i++) {
		struct etcd_kv kv = {.key = KEY, .lease = 7};
		struct false_etcd e = {0};
		struct fixture f;
		char url[32];
		int n;

		for (size_t j = 0; j < ARRAY_SIZE(paths); j++)
			answers[j] = (struct h2_answer){.path = paths[j],
							.status = "0",
							.body = bodies[i],
							.len = lengths[i]};
		answers[ARRAY_SIZE(paths)] = (struct h2_answer){0};
		(void)snprintf(url, sizeof(url), "http://127.0.0.1:%u", free_port(&e.fd));
		init(&f, url, "/p");
		e.server.loop = loop;
		e.server.answers = answers;
		e.server.answer_open = true;
		e.event = loop_fd_new(loop, e.fd, on_connection, &e);
		ASK(&f, get, "config");
		EXPECT(&f, ETCD_AWAY);
		ASK(&f, grant, 60);
		EXPECT(&f, ETCD_AWAY);
		ASK(&f, create, KEY, "", 0);
		EXPECT(&f, ETCD_AWAY);
		ASK(&f, renew, &kv);
		EXPECT(&f, ETCD_AWAY);
		n = f.n_replies;
		f.api->ops->list(f.api, on_listed, on_reply, &f);
		WAIT_MS(5000, f.n_replies > n);
		EXPECT(&f, ETCD_AWAY);
		watch(&f, 0);
		WAIT_MS(5000, f.n_ended);
		assert_int_equal(f.ended.status, ETCD_AWAY);
		loop_event_free(e.event);
		(void)close(e.fd);
		h2_server_stop(&e.server);
		done(&f);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_verbs),     cmocka_unit_test(test_leases),
		cmocka_unit_test(test_list),      cmocka_unit_test(test_nul),
		cmocka_unit_test(test_watch),     cmocka_unit_test(test_fragments),
		cmocka_unit_test(test_too_large), cmocka_unit_test(test_compacted),
		cmocka_unit_test(test_hang_up),   cmocka_unit_test(test_auth),
		cmocka_unit_test(test_away),      cmocka_unit_test(test_false_answers),
	};

	return cmocka_run_group_tests(tests, start_etcd, stop_etcd);
}
