/* SPDX-License-Identifier: Apache-2.0 */
/* test_etcd_v2.c - the v2 api against a real etcd, which the test starts and ends
 *
 * Skipped where there is none (Debian: etcd-server).
 */
#include "base/mem.h"
#include "io/http.h"
#include "store/etcd_api.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

#define ETCD   "/usr/bin/etcd"
#define PREFIX "/coreos.com/network"
#define V4     "subnets/10.5.52.0-24"
#define DUAL   "subnets/10.5.53.0-24&fd00:5:53::-64"

struct fixture {
	struct loop *loop;
	struct etcd_settings settings;
	struct etcd_link link;
	struct etcd_api *api;
	struct event *watchdog;
	pid_t etcd;
	bool tls;
	char dir[32], url[64], ca[64], cert[64], key_file[64];

	bool answered;
	struct etcd_reply reply; /* the last one; kv and why are copied */
	struct etcd_kv kv;
	char key[128], value[256], why[ERR_TEXT_MAX];
	char listed[512];

	char events[512]; /* all that the watch told since events_of() */
	int64_t next;
	bool ready, ended, hang_up_in_put, hang_up_in_each;
	int http_status;
};

static void on_watchdog(void *userdata)
{
	const struct fixture *f = userdata;

	fail_msg("nothing happens any more; the watch told: %s", f->events);
}

static void turn(struct fixture *f)
{
	loop_timer_set(f->watchdog, 20000);
	(void)event_base_loop(loop_base(f->loop), EVLOOP_ONCE);
}

/* ---- etcd ---- */

static uint16_t free_port(void)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(sin);

	assert_int_equal(bind(fd, (const struct sockaddr *)&sin, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
	return ntohs(sin.sin_port);
}

/* An authority, and a certificate of it for server and client alike. */
static void make_certificates(const struct fixture *f)
{
	char command[1000];

	(void)snprintf(
		command, sizeof(command),
		"cd %s && exec >log 2>&1\n"
		"new() { n=$1; shift; openssl req -x509 -newkey ec -pkeyopt "
		"ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=$n -keyout $n.key "
		"-out $n.pem \"$@\"; }\n"
		"new ca && new leaf -CA ca.pem -CAkey ca.key -addext basicConstraints=CA:FALSE "
		"-addext subjectAltName=IP:127.0.0.1\n",
		f->dir);
	if (system(command) != 0) /* NOLINT(cert-env33-c): the test's own words */
		fail_msg("openssl (Debian: openssl) made no certificates: %s/log", f->dir);
}

#define N_PLAIN 14 /* arguments without TLS */

static void exec_etcd(const struct fixture *f, const char *v2, const char *peer)
{
	const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	char cluster[80], data[64];
	const char *argv[] = {ETCD,
			      v2,
			      "--data-dir",
			      data,
			      "--listen-client-urls",
			      f->url,
			      "--advertise-client-urls",
			      f->url,
			      "--listen-peer-urls",
			      peer,
			      "--initial-advertise-peer-urls",
			      peer,
			      "--initial-cluster",
			      cluster,
			      "--client-cert-auth",
			      "--cert-file",
			      f->cert,
			      "--key-file",
			      f->key_file,
			      "--trusted-ca-file",
			      f->ca,
			      NULL};

	(void)snprintf(cluster, sizeof(cluster), "default=%s", peer);
	(void)snprintf(data, sizeof(data), "%s/data", f->dir);
	if (!f->tls)
		argv[N_PLAIN] = NULL;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)dup2(null, 1);
	(void)dup2(null, 2);
	execv(ETCD, (char *const *)(uintptr_t)argv);
	_exit(127);
}

static void start_etcd(struct fixture *f, const char *v2)
{
	char peer[64];

	(void)snprintf(f->dir, sizeof(f->dir), "/tmp/weft-etcd-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	(void)snprintf(f->ca, sizeof(f->ca), "%s/ca.pem", f->dir);
	(void)snprintf(f->cert, sizeof(f->cert), "%s/leaf.pem", f->dir);
	(void)snprintf(f->key_file, sizeof(f->key_file), "%s/leaf.key", f->dir);
	if (f->tls)
		make_certificates(f);
	(void)snprintf(f->url, sizeof(f->url), "http%s://127.0.0.1:%u", f->tls ? "s" : "",
		       free_port());
	(void)snprintf(peer, sizeof(peer), "http://127.0.0.1:%u", free_port());
	f->etcd = fork();
	if (!f->etcd)
		exec_etcd(f, v2, peer);
	assert_true(f->etcd > 0);
}

static void kill_etcd(struct fixture *f, int signal)
{
	if (f->etcd <= 0)
		return;
	(void)kill(f->etcd, signal);
	(void)waitpid(f->etcd, NULL, 0);
	f->etcd = 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void stop_etcd(struct fixture *f)
{
	kill_etcd(f, SIGKILL);
	(void)nftw(f->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void use_link(struct fixture *f, const char *user, const char *password)
{
	struct err err;

	f->settings = (struct etcd_settings){
		.endpoints = f->url,
		.prefix = PREFIX,
		.files = {.ca = f->tls ? f->ca : "",
			  .cert = f->tls ? f->cert : "",
			  .key = f->tls ? f->key_file : ""},
		.username = user,
		.password = password,
		.password_file = "",
	};
	if (etcd_link_init(&f->link, &f->settings, &err) < 0)
		fail_msg("%s", err.text);
}

/* ---- answers ---- */

static void on_reply(const struct etcd_reply *reply, void *userdata)
{
	struct fixture *f = userdata;

	assert_false(f->answered);
	f->answered = true;
	f->reply = *reply;
	assert_true(!reply->why == (reply->status == ETCD_OK));
	(void)snprintf(f->why, sizeof(f->why), "%s", reply->why ? reply->why : "");
	f->reply.kv = NULL;
	if (!reply->kv)
		return;
	f->kv = *reply->kv;
	(void)snprintf(f->key, sizeof(f->key), "%s", reply->kv->key);
	(void)snprintf(f->value, sizeof(f->value), "%s", reply->kv->value);
	assert_int_equal(reply->kv->len, strlen(f->value));
	f->kv.key = f->key;
	f->kv.value = f->value;
	f->reply.kv = &f->kv;
}

static void on_each(const struct etcd_kv *kv, void *userdata)
{
	struct fixture *f = userdata;
	const size_t n = strlen(f->listed);

	(void)snprintf(f->listed + n, sizeof(f->listed) - n, "%s=%s%s ", kv->key, kv->value,
		       kv->lease ? "!" : "");
	if (f->hang_up_in_each)
		f->api->ops->hang_up(f->api);
}

static enum etcd_status wait_reply(struct fixture *f)
{
	assert_false(f->answered); /* never from inside the call */
	while (!f->answered)
		turn(f);
	f->answered = false;
	return f->reply.status;
}

static void expect(struct fixture *f, enum etcd_status status)
{
	const enum etcd_status got = wait_reply(f);

	if (got != status)
		fail_msg("status %d in place of %d: %s", (int)got, (int)status, f->why);
}

static void list(struct fixture *f, enum etcd_status status)
{
	*f->listed = '\0';
	f->api->ops->list(f->api, on_each, on_reply, f);
	expect(f, status);
}

static void get(struct fixture *f, const char *key)
{
	f->api->ops->get(f->api, key, on_reply, f);
	expect(f, ETCD_OK);
}

static void create(struct fixture *f, const char *key, const char *value, int64_t lease,
		   enum etcd_status status)
{
	f->api->ops->create(f->api, key, value, lease, on_reply, f);
	expect(f, status);
}

static void update(struct fixture *f, const char *key, const char *value, int64_t lease,
		   int64_t revision, enum etcd_status status)
{
	f->api->ops->update(f->api, key, value, lease, revision, on_reply, f);
	expect(f, status);
}

static void remove_key(struct fixture *f, const char *key, int64_t revision,
		       enum etcd_status status)
{
	f->api->ops->remove(f->api, key, revision, on_reply, f);
	expect(f, status);
}

static void renew(struct fixture *f, const char *key, const char *value, int64_t revision,
		  enum etcd_status status)
{
	const struct etcd_kv kv = {
		.key = key, .value = value, .len = strlen(value), .revision = revision, .lease = 1};

	f->api->ops->renew(f->api, &kv, on_reply, f);
	expect(f, status);
}

static void grant(struct fixture *f, int64_t ttl_s)
{
	f->api->ops->grant(f->api, ttl_s, on_reply, f);
	expect(f, ETCD_OK);
	assert_int_equal(f->reply.lease, 1);
	assert_int_equal(f->reply.ttl_s, ttl_s);
}

/* ---- as another client ---- */

static void on_raw(const struct http_answer *answer, const char *why, void *userdata)
{
	struct fixture *f = userdata;

	f->http_status = answer ? answer->status : -1;
	(void)snprintf(f->why, sizeof(f->why), "%s", answer ? answer->body : why);
}

static int raw(struct fixture *f, const char *method, const char *target, const char *body)
{
	const struct http_header form = {"Content-Type",
					 *body == '{' ? "application/json"
						      : "application/x-www-form-urlencoded"};
	const struct http_options options = {.endpoint = etcd_link_endpoint(&f->link),
					     .files = &f->settings.files,
					     .method = method,
					     .target = target,
					     .headers = &form,
					     .n_headers = 1,
					     .body = body,
					     .timeout_ms = 10000,
					     .done = on_raw,
					     .userdata = f};

	f->http_status = 0;
	(void)http_request_new(f->loop, &options);
	while (!f->http_status)
		turn(f);
	return f->http_status;
}

/* ---- the watch ---- */

static void on_ready(const struct etcd_reply *reply, void *userdata)
{
	struct fixture *f = userdata;

	assert_false(f->ready);
	assert_int_equal(reply->status, ETCD_OK);
	assert_true(reply->revision > 0 && reply->cluster);
	f->ready = true;
}

static void note(struct fixture *f, char sign, const struct etcd_kv *kv)
{
	const size_t n = strlen(f->events);

	assert_int_equal(kv->len, strlen(kv->value));
	assert_true(kv->revision >= f->next);
	(void)snprintf(f->events + n, sizeof(f->events) - n, "%c%s=%s%s ", sign, kv->key, kv->value,
		       kv->lease ? "!" : "");
}

static void on_put(const struct etcd_kv *kv, void *userdata)
{
	struct fixture *f = userdata;

	note(f, '+', kv);
	if (f->hang_up_in_put)
		f->api->ops->hang_up(f->api);
}

static void on_gone(const struct etcd_kv *kv, void *userdata)
{
	note(userdata, '-', kv);
}

static void on_upto(int64_t next, void *userdata)
{
	struct fixture *f = userdata;

	assert_true(next > f->next);
	f->next = next;
}

static void on_ended(const struct etcd_reply *reply, void *userdata)
{
	struct fixture *f = userdata;

	f->ended = true;
	on_reply(reply, f);
	f->answered = false;
}

static void start_watch(struct fixture *f, int64_t from)
{
	const struct etcd_watch_events events = {on_ready, on_put, on_gone, on_upto, on_ended, f};

	f->ready = f->ended = false;
	f->next = from;
	*f->events = '\0';
	f->api->ops->watch(f->api, from, &events);
}

static void wait_ready(struct fixture *f)
{
	while (!f->ready && !f->ended)
		turn(f);
	if (f->ended)
		fail_msg("%s", f->why);
}

/* The watch tells exactly @events. */
static void expect_events(struct fixture *f, const char *events)
{
	while (strlen(f->events) < strlen(events) && !f->ended)
		turn(f);
	assert_string_equal(f->events, events);
	*f->events = '\0';
}

static void expect_end(struct fixture *f, enum etcd_status status)
{
	while (!f->ended)
		turn(f);
	if (f->reply.status != status)
		fail_msg("status %d in place of %d: %s", (int)f->reply.status, (int)status, f->why);
}

/* ---- set-up ---- */

/* Whether it answers, and knows its leader. */
static bool is_up(struct fixture *f)
{
	for (int i = 0; i < 400; i++) {
		if (raw(f, "GET", "/health", "") == 200)
			return true;
		if (waitpid(f->etcd, NULL, WNOHANG) == f->etcd)
			break;
		(void)usleep(25000);
	}
	return false;
}

static void set_up_with(struct fixture *f, const char *v2, bool tls)
{
	bool up = false;

	*f = (struct fixture){.loop = loop_new(), .tls = tls};
	f->watchdog = loop_timer_new(f->loop, on_watchdog, f);
	/* A port that was free may be somebody else's by now. */
	for (int i = 0; i < 5 && !up; i++) {
		start_etcd(f, v2);
		use_link(f, "", "");
		up = is_up(f);
		if (!up)
			stop_etcd(f);
	}
	assert_true(up);
	f->api = etcd_v2_new(f->loop, &f->link);
}

static void set_up(struct fixture *f, const char *v2)
{
	set_up_with(f, v2, false);
}

static void tear_down(struct fixture *f)
{
	f->api->ops->free(f->api);
	stop_etcd(f);
	loop_event_free(f->watchdog);
	loop_free(f->loop);
}

/* ---- tests ---- */

static void walk_keys(struct fixture *f)
{
	int64_t revision;

	create(f, V4, "a", 0, ETCD_OK);
	revision = f->reply.revision;
	get(f, V4);
	assert_string_equal(f->kv.value, "a");
	assert_int_equal(f->kv.revision, revision);
	assert_int_equal(f->kv.created, revision);
	assert_int_equal(f->kv.lease, 0);

	create(f, V4, "b", 0, ETCD_CONFLICT);
	assert_non_null(f->reply.kv);
	assert_string_equal(f->kv.value, "a");
	assert_string_equal(f->kv.key, V4);
	update(f, V4, "b", 0, revision + 1, ETCD_CONFLICT);
	assert_string_equal(f->kv.value, "a");
	update(f, V4, "b", 0, 0, ETCD_CONFLICT);
	assert_string_equal(f->kv.value, "a");
	update(f, V4, "{\"b\": \"&+=%\"}", 0, revision, ETCD_OK);
	assert_true(f->reply.revision > revision);
	remove_key(f, V4, revision, ETCD_CONFLICT);
	assert_string_equal(f->kv.value, "{\"b\": \"&+=%\"}");
	remove_key(f, V4, f->kv.revision, ETCD_OK);
	remove_key(f, V4, revision, ETCD_CONFLICT);
	assert_null(f->reply.kv);
	update(f, V4, "b", 0, revision, ETCD_CONFLICT);
	assert_null(f->reply.kv);
	get(f, V4);
	assert_null(f->reply.kv);
}

static void walk_leases(struct fixture *f)
{
	int64_t revision;

	grant(f, 1000);
	create(f, DUAL, "a", 1, ETCD_OK);
	revision = f->reply.revision;
	get(f, DUAL);
	assert_int_equal(f->kv.lease, 1);
	renew(f, DUAL, "a", revision, ETCD_OK);
	assert_in_range(f->reply.ttl_s, 999, 1000);
	assert_true(f->kv.revision > revision);
	assert_string_equal(f->kv.value, "a");
	/* As after an answer that was lost. */
	renew(f, DUAL, "a", revision, ETCD_OK);
	renew(f, DUAL, "b", revision, ETCD_CONFLICT);
	assert_string_equal(f->kv.value, "a");

	update(f, DUAL, "b", 1, f->kv.revision, ETCD_OK);
	get(f, DUAL);
	assert_int_equal(f->kv.lease, 1);
	update(f, DUAL, "c", 0, f->kv.revision, ETCD_OK);
	get(f, DUAL);
	assert_int_equal(f->kv.lease, 0);
	/* A reservation stays one. */
	renew(f, DUAL, "c", revision, ETCD_CONFLICT);
	get(f, DUAL);
	assert_int_equal(f->kv.lease, 0);
	remove_key(f, DUAL, f->kv.revision, ETCD_OK);
	renew(f, DUAL, "c", revision, ETCD_NO_LEASE);
}

static void test_verbs(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f, "--enable-v2");
	list(&f, ETCD_OK); /* no such directory */
	assert_string_equal(f.listed, "");
	assert_true(f.reply.revision > 0 && f.reply.cluster);
	get(&f, ETCD_CONFIG_KEY);
	assert_null(f.reply.kv);
	walk_keys(&f);
	walk_leases(&f);

	create(&f, ETCD_CONFIG_KEY, "{}", 0, ETCD_OK);
	create(&f, V4, "a", 1, ETCD_OK);
	create(&f, DUAL, "b", 0, ETCD_OK);
	assert_int_equal(raw(&f, "PUT", "/v2/keys" PREFIX "/subnets/nul", "value=a%00b"), 201);
	assert_int_equal(raw(&f, "PUT", "/v2/keys" PREFIX "/other/x", "value=x"), 201);
	assert_int_equal(raw(&f, "PUT", "/v2/keys" PREFIX "/subnets/dir/x", "value=x"), 201);
	list(&f, ETCD_OK);
	assert_non_null(strstr(f.listed, ETCD_CONFIG_KEY "={} "));
	assert_non_null(strstr(f.listed, V4 "=a! "));
	assert_non_null(strstr(f.listed, DUAL "=b "));
	assert_null(strstr(f.listed, "x"));
	/* A directory in a subnet's place: the place is taken. */
	create(&f, "subnets/dir", "a", 0, ETCD_CONFLICT);
	assert_non_null(f.reply.kv);
	update(&f, "subnets/dir", "a", 0, f.kv.revision, ETCD_CONFLICT);
	remove_key(&f, "subnets/dir", f.kv.revision, ETCD_CONFLICT);

	/* Hung up in the middle. */
	f.hang_up_in_each = true;
	*f.listed = '\0';
	f.api->ops->list(f.api, on_each, on_reply, &f);
	while (!*f.listed)
		turn(&f);
	assert_int_equal(strchr(f.listed, ' ') - f.listed, strlen(f.listed) - 1);
	get(&f, V4);
	tear_down(&f);
}

static void test_watch(void **state)
{
	int64_t from, revision;
	struct fixture f;

	(void)state;
	set_up(&f, "--enable-v2");
	create(&f, ETCD_CONFIG_KEY, "1", 0, ETCD_OK);
	from = f.reply.revision;
	/* What has happened, then what happens. */
	create(&f, V4, "a", 1, ETCD_OK);
	start_watch(&f, from + 1);
	expect_events(&f, "+" V4 "=a! ");
	assert_true(f.ready);
	create(&f, DUAL, "b", 0, ETCD_OK);
	expect_events(&f, "+" DUAL "=b ");
	get(&f, V4);
	revision = f.kv.revision;
	renew(&f, V4, "a", revision, ETCD_OK); /* nobody is told */
	update(&f, V4, "c", 0, f.kv.revision, ETCD_OK);
	expect_events(&f, "+" V4 "=c ");
	assert_int_equal(raw(&f, "PUT", "/v2/keys" PREFIX "/other/x", "value=x"), 201);
	assert_int_equal(raw(&f, "PUT", "/v2/keys" PREFIX "/config", "value=2"), 200);
	expect_events(&f, "+config=2 ");
	get(&f, V4);
	remove_key(&f, V4, f.kv.revision, ETCD_OK);
	assert_int_equal(raw(&f, "DELETE", "/v2/keys" PREFIX "/config", ""), 200);
	expect_events(&f, "-" V4 "= -config= ");
	/* Expiry. */
	grant(&f, 1);
	create(&f, V4, "d", 1, ETCD_OK);
	revision = f.reply.revision;
	expect_events(&f, "+" V4 "=d! -" V4 "= ");
	while (f.next <= revision)
		turn(&f);

	/* Hung up in the middle: neither told nor asked again. */
	revision = f.next;
	f.hang_up_in_put = true;
	assert_int_equal(raw(&f, "PUT", "/v2/keys" PREFIX "/" V4, "value=e"), 201);
	expect_events(&f, "+" V4 "=e ");
	assert_int_equal(f.next, revision);
	f.hang_up_in_put = false;
	start_watch(&f, revision);
	expect_events(&f, "+" V4 "=e ");
	assert_false(f.ended);
	tear_down(&f);
}

/* All that makes another list necessary. */
static void test_compacted(void **state)
{
	static const char *const targets[] = {
		"/v2/keys" PREFIX "/subnets?recursive=true",
		"/v2/keys" PREFIX "?recursive=true",
		"/v2/keys/coreos.com?recursive=true",
	};
	struct fixture f;
	int64_t from = 0;

	(void)state;
	set_up(&f, "--enable-v2");
	for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
		create(&f, V4, "a", 0, ETCD_OK);
		from = f.reply.revision + 1;
		start_watch(&f, from);
		wait_ready(&f);
		assert_int_equal(raw(&f, "DELETE", targets[i], ""), 200);
		expect_end(&f, ETCD_COMPACTED);
		/* And out of the history. */
		start_watch(&f, from);
		expect_end(&f, ETCD_COMPACTED);
		assert_string_equal(f.events, "");
	}
	/* A directory that expires. */
	assert_int_equal(raw(&f, "PUT", "/v2/keys" PREFIX "/subnets", "dir=true&ttl=1"), 201);
	list(&f, ETCD_OK);
	start_watch(&f, f.reply.revision + 1);
	wait_ready(&f);
	expect_end(&f, ETCD_COMPACTED);

	for (int i = 0; i < 1001; i++)
		(void)raw(&f, "PUT", "/v2/keys/elsewhere", "value=x");
	start_watch(&f, from);
	expect_end(&f, ETCD_COMPACTED);
	assert_false(f.ready);
	assert_non_null(strstr(f.why, "cleared"));
	tear_down(&f);
}

static void check_away(int signal)
{
	char want[160];
	struct fixture f;

	set_up(&f, "--enable-v2");
	start_watch(&f, 1000000); /* far ahead: it waits, and says how far it is */
	wait_ready(&f);
	kill_etcd(&f, signal);
	expect_end(&f, ETCD_AWAY);
	list(&f, ETCD_AWAY);
	(void)snprintf(want, sizeof(want), "etcd %s: connection refused", f.url);
	assert_string_equal(f.why, want);
	create(&f, V4, "a", 0, ETCD_AWAY);
	start_watch(&f, 1);
	expect_end(&f, ETCD_AWAY);
	assert_string_equal(f.why, want);
	tear_down(&f);
}

static void test_away(void **state)
{
	(void)state;
	check_away(SIGKILL);
	check_away(SIGTERM);
}

/* It takes connections, and keeps silent. */
static void test_silent(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f, "--enable-v2");
	(void)kill(f.etcd, SIGSTOP);
	assert_int_equal(waitpid(f.etcd, NULL, WUNTRACED), f.etcd); /* all its threads */
	start_watch(&f, 1);
	expect_end(&f, ETCD_AWAY);
	assert_non_null(strstr(f.why, "no answer to a watch within 5 s"));
	tear_down(&f);
}

static void test_switched_off(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f, "--enable-v2=false");
	list(&f, ETCD_REFUSED);
	assert_non_null(strstr(f.why, "its v2 API is switched off (etcd --enable-v2"));
	start_watch(&f, 1);
	expect_end(&f, ETCD_REFUSED);
	assert_false(f.ready);
	tear_down(&f);
}

static void test_users(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f, "--enable-v2");
	create(&f, ETCD_CONFIG_KEY, "1", 0, ETCD_OK);
	assert_int_equal(raw(&f, "PUT", "/v2/auth/users/root",
			     "{\"user\":\"root\",\"password\":\"s:cret\"}"),
			 201);
	assert_int_equal(raw(&f, "PUT", "/v2/auth/enable", ""), 200);
	use_link(&f, "root", "s:cret");
	list(&f, ETCD_OK);
	assert_string_equal(f.listed, "config=1 ");
	create(&f, V4, "a", 0, ETCD_OK);
	start_watch(&f, 1);
	expect_events(&f, "+config=1 +" V4 "=a ");

	use_link(&f, "root", "wrong");
	list(&f, ETCD_REFUSED);
	assert_non_null(strstr(f.why, "user root is refused"));
	assert_null(strstr(f.why, "wrong:"));
	f.settings.password_file = "/nonexistent/password";
	list(&f, ETCD_REFUSED);
	assert_non_null(strstr(f.why, "--etcd-password-file"));
	f.api->ops->hang_up(f.api);
	start_watch(&f, 1);
	expect_end(&f, ETCD_REFUSED);
	tear_down(&f);
}

static void test_tls(void **state)
{
	struct fixture f;

	(void)state;
	set_up_with(&f, "--enable-v2", true);
	walk_keys(&f);
	walk_leases(&f);
	start_watch(&f, 1);
	create(&f, ETCD_CONFIG_KEY, "1", 0, ETCD_OK);
	while (!strstr(f.events, "+config=1 "))
		turn(&f);
	/* Without the client's certificate. */
	f.settings.files.cert = f.settings.files.key = "";
	list(&f, ETCD_AWAY);
	assert_non_null(strstr(f.why, "certificate"));
	f.settings.files.ca = "";
	list(&f, ETCD_AWAY);
	assert_non_null(strstr(f.why, "authority"));
	tear_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_verbs),     cmocka_unit_test(test_watch),
		cmocka_unit_test(test_compacted), cmocka_unit_test(test_away),
		cmocka_unit_test(test_silent),    cmocka_unit_test(test_switched_off),
		cmocka_unit_test(test_users),     cmocka_unit_test(test_tls),
	};

	if (access(ETCD, X_OK) < 0) {
		print_message("1..0 # SKIP no " ETCD " (Debian: etcd-server)\n");
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
