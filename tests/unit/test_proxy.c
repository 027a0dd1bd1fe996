/* SPDX-License-Identifier: Apache-2.0 */
/* test_proxy.c - which proxy, what is said to it, and connections through one on this loop */
#include "io/proxy.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

#include <cmocka.h>

/* -- URLs ------------------------------------------------------------------------------ */

static void test_parse(void **state)
{
	static const struct {
		const char *url;
		enum proxy_kind kind; /* PROXY_NONE: refused, */
		const char *text;     /* with these words in the error */
		bool tls;
		const char *host;
		uint16_t port;
		const char *user, *password;
	} rows[] = {
		{"http://10.0.0.9:3128", PROXY_CONNECT, "http://10.0.0.9:3128", false, "10.0.0.9",
		 3128, NULL, NULL},
		{"HTTP://proxy.example/", PROXY_CONNECT, "http://proxy.example", false,
		 "proxy.example", 80, NULL, NULL},
		{"https://proxy.example", PROXY_CONNECT, "https://proxy.example", true,
		 "proxy.example", 443, NULL, NULL},
		{"socks5://[fd00::9]:1081", PROXY_SOCKS5, "socks5://[fd00::9]:1081", false,
		 "fd00::9", 1081, NULL, NULL},
		{"socks5h://p/x?y", PROXY_SOCKS5, "socks5h://p", false, "p", 1080, NULL, NULL},
		{"http://u:p@h:1", PROXY_CONNECT, "http://h:1", false, "h", 1, "u", "p"},
		{"http://u@h", PROXY_CONNECT, "http://h", false, "h", 80, "u", ""},
		{"http://a%40b:c%3ad%2F@h", PROXY_CONNECT, "http://h", false, "h", 80, "a@b",
		 "c:d/"},
		{"http://a@b:c@h", PROXY_CONNECT, "http://h", false, "h", 80, "a@b", "c"},
		{.url = "", .text = "none of http://, https:// and socks5://"},
		{.url = "ftp://h", .text = "none of http://"},
		{.url = "://h", .text = "none of http://"},
		{.url = "proxy.example:3128", .text = "none of http://"},
		{.url = "http://", .text = "the host is missing"},
		{.url = "http://secret:secret@", .text = "the host is missing"},
		{.url = "http://h:0", .text = "port 0"},
		{.url = "http://secret:secret@h:x", .text = "the port is not a number"},
		{.url = "http://fd00::9:3128", .text = "brackets"},
		{.url = "http://a%4:secret@h", .text = "odd %XX"},
		{.url = "http://a%00:secret@h", .text = "odd %XX"},
		{.url = "http://a:secret%zz@h", .text = "odd %XX"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct proxy proxy = {.kind = PROXY_NONE}, twin;
		struct err err = {""};
		int r = proxy_parse(rows[i].url, &proxy, &err);

		if (rows[i].kind == PROXY_NONE) {
			if (r != -EINVAL || !strstr(err.text, rows[i].text) ||
			    strstr(err.text, "secret"))
				fail_msg("%s: %d, %s", rows[i].url, r, err.text);
			assert_null(proxy.user);
			continue;
		}
		if (r < 0)
			fail_msg("%s: %s", rows[i].url, err.text);
		proxy_copy(&proxy, &twin);
		proxy_done(&proxy);
		assert_int_equal(twin.kind, rows[i].kind);
		assert_string_equal(twin.endpoint.text, rows[i].text);
		assert_string_equal(twin.endpoint.host, rows[i].host);
		assert_int_equal(twin.endpoint.port, rows[i].port);
		assert_int_equal(twin.endpoint.tls, rows[i].tls);
		assert_int_equal(!twin.user, !rows[i].user);
		if (twin.user) {
			assert_string_equal(twin.user, rows[i].user);
			assert_string_equal(twin.password, rows[i].password);
		}
		proxy_done(&twin);
	}
}

static void test_long_secret(void **state)
{
	char url[700] = "http://";
	struct proxy proxy;

	(void)state;
	memset(url + 7, 'u', 255);
	(void)stpcpy(url + 7 + 255, ":p@h");
	assert_int_equal(proxy_parse(url, &proxy, NULL), 0);
	assert_int_equal(strlen(proxy.user), 255);
	proxy_done(&proxy);
	memset(url + 7, 'u', 256);
	(void)stpcpy(url + 7 + 256, ":p@h");
	assert_int_equal(proxy_parse(url, &proxy, NULL), -EINVAL);
}

/* -- the environment ------------------------------------------------------------------- */

static const char *env_https, *env_small_https, *env_http, *env_no, *env_small_no;

static char *get(const char *name)
{
	const char *value = NULL;

	if (!strcmp(name, "HTTPS_PROXY"))
		value = env_https;
	else if (!strcmp(name, "https_proxy"))
		value = env_small_https;
	else if (!strcmp(name, "HTTP_PROXY"))
		value = env_http;
	else if (!strcmp(name, "NO_PROXY"))
		value = env_no;
	else if (!strcmp(name, "no_proxy"))
		value = env_small_no;
	return (char *)(uintptr_t)value;
}

static const char *choose(const char *url)
{
	static char text[ERR_TEXT_MAX];
	struct endpoint target;
	struct proxy proxy;
	struct err err;

	assert_int_equal(endpoint_parse(url, !strncmp(url, "https", 5) ? 443 : 80, &target, NULL),
			 0);
	if (proxy_from_environment(get, &target, &proxy, &err) < 0) {
		(void)snprintf(text, sizeof(text), "%s", err.text);
		return text;
	}
	(void)stpcpy(text, proxy.kind == PROXY_NONE ? "" : proxy.endpoint.text);
	proxy_done(&proxy);
	return text;
}

static void test_environment(void **state)
{
	(void)state;
	env_https = env_small_https = env_http = env_no = env_small_no = NULL;
	assert_string_equal(choose("https://a.example"), "");
	env_small_https = "small:1";
	env_http = "plain:2";
	assert_string_equal(choose("https://a.example"), "http://small:1");
	env_https = "";
	assert_string_equal(choose("https://a.example"), "http://small:1");
	env_https = "socks5://u:p@large:3";
	assert_string_equal(choose("https://a.example"), "socks5://large:3");
	assert_string_equal(choose("http://a.example"), "http://plain:2");
	env_no = "";
	env_small_no = "a.example";
	assert_string_equal(choose("https://a.example"), "");
	env_no = "b.example"; /* comes before the small one */
	assert_string_equal(choose("https://a.example"), "socks5://large:3");
	env_https = "gopher://x";
	assert_non_null(strstr(choose("https://a.example"), "HTTPS_PROXY: the proxy's URL"));
	assert_string_equal(choose("https://b.example"), "");
}

static void test_no_proxy(void **state)
{
	static const struct {
		const char *no, *url;
		bool goes_direct;
	} rows[] = {
		{"", "https://localhost:6443", true},
		{"", "https://LOCALHOST", true},
		{"", "https://127.8.9.1", true},
		{"", "https://[::1]:6443", true},
		{"", "https://[::ffff:127.0.0.1]", true},
		{"", "https://localhost.example", false},
		{"", "https://10.0.0.1", false},
		{"*", "https://10.0.0.1", true},
		{"x , *", "https://a.example", true},
		{"*x", "https://a.example", false},
		{"a.example", "https://a.example", true},
		{"A.Example", "https://a.eXample", true},
		{"a.example", "https://b.a.example", true},
		{"a.example", "https://ba.example", false},
		{"a.example", "https://a.example.net", false},
		{".a.example", "https://a.example", false},
		{".a.example", "https://b.a.example", true},
		{"*.a.example", "https://a.example", false},
		{"*.a.example", "https://c.b.a.example", true},
		{"*.a.example", "https://ba.example", false},
		{".svc,.cluster.local", "https://kubernetes.default.svc", true},
		{"a.example:443", "https://a.example", true},
		{"a.example:6443", "https://a.example", false},
		{"a.example:6443", "https://b.a.example:6443", true},
		{"*.a.example:6443", "https://b.a.example:6443", true},
		{":443", "https://a.example", false},
		{"10.0.0.1", "https://10.0.0.1:6443", true},
		{"10.0.0.1:6443", "https://10.0.0.1:6443", true},
		{"10.0.0.1:443", "https://10.0.0.1:6443", false},
		{"::ffff:10.0.0.1", "https://10.0.0.1:6443", true},
		{"10.0.0.0/8", "https://10.255.0.1", true},
		{"10.1.2.3/8", "https://10.255.0.1", true},
		{"10.0.0.0/8", "https://11.0.0.1", false},
		{"10.0.0.0/8", "https://a10.example", false},
		{"10.0.0.0/8", "https://[::ffff:10.0.0.1]", true},
		{"0.0.0.0/0", "https://[fd00::1]", false},
		{"fd00::/8", "https://[fd12::1]:6443", true},
		{"fd00::1", "https://[fd00::1]:6443", true},
		{"[fd00::1]:6443", "https://[fd00:0::1]:6443", true},
		{"[fd00::1]:443", "https://[fd00::1]:6443", false},
		{"fd00::2", "https://[fd00::1]", false},
		{" ,,\t, a.example ,", "https://a.example", true},
		{".", "https://a.example", false},
		{"*.", "https://a.example", false},
		{":", "https://a.example", false},
		{"[", "https://a.example", false},
		{"[]:1", "https://a.example:1", false},
		{"]:1", "https://a.example:1", false},
		{"10", "https://10.0.0.1", false},
	};

	(void)state;
	env_https = "p:1";
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		env_no = rows[i].no;
		if (!*choose(rows[i].url) != rows[i].goes_direct)
			fail_msg("NO_PROXY=%s: %s goes to '%s'", rows[i].no, rows[i].url,
				 choose(rows[i].url));
	}
}

/* -- talks ----------------------------------------------------------------------------- */

#define BYTES(text) text, sizeof(text) - 1

struct step {
	const char *says;
	size_t says_len;
	const char *answer;
	size_t answer_len;
};

#define CONNECT(more)                                                                              \
	BYTES("CONNECT api.example:6443 HTTP/1.1\r\nHost: api.example:6443\r\n"                    \
	      "User-Agent: weft/" WEFT_VERSION "\r\n" more "\r\n")
#define SOCKS_NAME BYTES("\5\1\0\3\13api.example\x19\x2b")
#define SOCKS_OPEN BYTES("\5\0\0\1\12\0\0\1\0\1")
#define GREETING   BYTES("\5\1\0")
#define GREETING_2 BYTES("\5\2\0\2")

static const struct {
	const char *proxy, *host;
	struct step step[3];
	const char *why; /* NULL: the way is open */
} talks[] = {
	{"http://p", "api.example", {{CONNECT(""), BYTES("HTTP/1.1 200 OK\r\n\r\n")}}, NULL},
	{"http://p",
	 "api.example",
	 {{CONNECT(""), BYTES("HTTP/1.0 200 Connection established\r\nVia: x\r\n\r\n")}},
	 NULL},
	{"http://p",
	 "api.example",
	 {{CONNECT(""), BYTES("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")}},
	 NULL},
	{"http://Aladdin:open%20sesame@p",
	 "api.example",
	 {{CONNECT("Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"),
	   BYTES("HTTP/1.1 200 OK\r\n\r\n")}},
	 NULL},
	{"http://p",
	 "api.example",
	 {{CONNECT(""), BYTES("HTTP/1.1 407 No\r\nContent-Length: 3\r\n\r\n")}},
	 "it wants a user name and password in its URL"},
	{"http://Aladdin:open%20sesame@p",
	 "api.example",
	 {{CONNECT("Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"),
	   BYTES("HTTP/1.1 407 No\r\n\r\n")}},
	 "it does not accept the user name and password in its URL"},
	{"http://p",
	 "api.example",
	 {{CONNECT(""), BYTES("HTTP/1.1 403 No\r\n\r\n")}},
	 "it refuses to connect to api.example:6443 (403)"},
	{"http://p",
	 "api.example",
	 {{CONNECT(""), BYTES("HTTP/1.1 502 No\r\n\r\n")}},
	 "it cannot connect to api.example:6443 (502)"},
	{"http://p",
	 "fd00::1",
	 {{BYTES("CONNECT [fd00::1]:6443 HTTP/1.1\r\nHost: [fd00::1]:6443\r\nUser-Agent: "
		 "weft/" WEFT_VERSION "\r\n\r\n"),
	   BYTES("HTTP/1.1 200 OK\r\n\r\n")}},
	 NULL},
	{"http://p",
	 "api.example",
	 {{CONNECT(""), BYTES("S")}},
	 "it answers, but does not speak HTTP/1.1"},
	{"socks5://p", "api.example", {{GREETING, BYTES("\5\0")}, {SOCKS_NAME, SOCKS_OPEN}}, NULL},
	{"socks5://p",
	 "10.0.0.1",
	 {{GREETING, BYTES("\5\0")}, {BYTES("\5\1\0\1\12\0\0\1\x19\x2b"), SOCKS_OPEN}},
	 NULL},
	{"socks5://p",
	 "fd00::1",
	 {{GREETING, BYTES("\5\0")},
	  {BYTES("\5\1\0\4\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1\x19\x2b"),
	   BYTES("\5\0\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")}},
	 NULL},
	{"socks5://u:pw@p",
	 "api.example",
	 {{GREETING_2, BYTES("\5\2")},
	  {BYTES("\1\1u\2pw"), BYTES("\1\0")},
	  {SOCKS_NAME, BYTES("\5\0\0\3\4host\0\1")}},
	 NULL},
	{"socks5://u:pw@p",
	 "api.example",
	 {{GREETING_2, BYTES("\5\0")}, {SOCKS_NAME, BYTES("\5\0\0\3\0\0\1")}},
	 NULL},
	{"socks5://p",
	 "api.example",
	 {{GREETING, BYTES("\5\xff")}},
	 "it wants a user name and password in its URL"},
	{"socks5://p",
	 "api.example",
	 {{GREETING, BYTES("\5\2")}},
	 "it wants a user name and password in its URL"},
	{"socks5://u:pw@p",
	 "api.example",
	 {{GREETING_2, BYTES("\5\2")}, {BYTES("\1\1u\2pw"), BYTES("\1\1")}},
	 "it does not accept the user name and password in its URL"},
	{"socks5://p",
	 "api.example",
	 {{GREETING, BYTES("\5\0")}, {SOCKS_NAME, BYTES("\5\5")}},
	 "the server refuses its connection"},
	{"socks5://p",
	 "api.example",
	 {{GREETING, BYTES("\5\0")}, {SOCKS_NAME, BYTES("\5\x7f")}},
	 "it refuses with an unknown code"},
	{"socks5://p",
	 "api.example",
	 {{GREETING, BYTES("\5\0")}, {SOCKS_NAME, BYTES("\5\0\0\2\0\0")}},
	 "it answers with an address of an unknown kind"},
	{"socks5://p",
	 "api.example",
	 {{GREETING, BYTES("HT")}},
	 "it answers, but does not speak SOCKS5"},
};

/* The answer @at in pieces of up to @first and then @rest bytes. What the last feed returned. */
static int feed(struct proxy_talk *talk, const struct step *step, size_t first, size_t rest,
		struct err *err)
{
	size_t len, at = 0, n = first;
	const void *says = proxy_talk_output(talk, &len);
	int r = 0;

	assert_int_equal(len, step->says_len);
	assert_memory_equal(says, step->says, len);
	while (at < step->answer_len && r == 0) {
		if (at) {
			(void)proxy_talk_output(talk, &len);
			assert_int_equal(len, 0);
		}
		if (n > step->answer_len - at)
			n = step->answer_len - at;
		r = proxy_talk_feed(talk, step->answer + at, n, err);
		at += n;
		n = rest;
	}
	assert_int_equal(at, step->answer_len); /* it has not ended early */
	return r;
}

static void run_talk(size_t i, size_t first, size_t rest)
{
	struct endpoint target = {.tls = true, .port = 6443};
	struct proxy_talk *talk;
	struct err err = {""};
	struct proxy proxy;
	int r = 0;

	assert_int_equal(proxy_parse(talks[i].proxy, &proxy, NULL), 0);
	(void)stpcpy(target.host, talks[i].host);
	talk = proxy_talk_new(&proxy, &target);
	proxy_done(&proxy);
	for (size_t s = 0; s < 3 && talks[i].step[s].says && r == 0; s++)
		r = feed(talk, &talks[i].step[s], first, rest, &err);
	if (!!talks[i].why != (r < 0) || r == 0 || strcmp(err.text, r < 0 ? talks[i].why : ""))
		fail_msg("talk %zu, cut at %zu: %d, %s", i, first, r, err.text);
	/* Whatever comes now is too much. */
	assert_int_equal(proxy_talk_feed(talk, "x", 1, NULL), -EPROTO);
	proxy_talk_free(talk);
}

static void test_talks(void **state)
{
	(void)state;
	proxy_talk_free(NULL);
	for (size_t i = 0; i < ARRAY_SIZE(talks); i++) {
		run_talk(i, 1, 1);
		for (size_t cut = 1; cut < 80; cut++)
			run_talk(i, cut, 80);
	}
}

/* The server never speaks first. */
static void test_surplus(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(talks); i++) {
		struct endpoint target = {.host = "api.example", .port = 6443};
		const struct step *step = talks[i].step;
		struct proxy_talk *talk;
		struct err err = {""};
		struct proxy proxy;
		char answer[300];
		size_t len;
		int r;

		if (talks[i].why)
			continue;
		assert_int_equal(proxy_parse(talks[i].proxy, &proxy, NULL), 0);
		talk = proxy_talk_new(&proxy, &target);
		for (;; step++) {
			(void)proxy_talk_output(talk, &len);
			memcpy(answer, step->answer, step->answer_len);
			answer[step->answer_len] = 'x';
			r = proxy_talk_feed(talk, answer, step->answer_len + 1, &err);
			assert_int_equal(r, -EPROTO);
			assert_string_equal(err.text, "it sends more than its answer");
			break;
		}
		proxy_talk_free(talk);
		proxy_done(&proxy);
	}
}

/* -- connections ----------------------------------------------------------------------- */

struct fixture {
	struct loop *loop;
	int listener;
	uint16_t port;
	struct event *on_listener, *watchdog;
	struct bufferevent *served; /* the proxy's side */
	struct step step[4];        /* the last one, and any that says nothing: all comes back */
	size_t at;
	size_t cut;  /* of the last answer, this much is sent; and then */
	bool closes; /* an end, or nothing */
	struct bufferevent *bev;
	int n_done;
	char why[ERR_TEXT_MAX], echo[16];
};

static void on_watchdog(void *userdata)
{
	(void)userdata;
	fail_msg("no end after 20 s");
}

/* What was said is answered; behind the last answer, all comes back. */
static void on_served(struct bufferevent *bev, void *userdata)
{
	struct evbuffer *input = bufferevent_get_input(bev);
	struct fixture *f = userdata;
	const struct step *step = &f->step[f->at];
	size_t len = evbuffer_get_length(input);
	bool last;

	if (!step->says) {
		(void)bufferevent_write_buffer(bev, input);
		return;
	}
	last = !step[1].says;
	if (len < step->says_len)
		return;
	assert_int_equal(len, step->says_len);
	assert_memory_equal(evbuffer_pullup(input, -1), step->says, len);
	(void)evbuffer_drain(input, len);
	f->at = last ? 3 : f->at + 1;
	len = last && f->cut < step->answer_len ? f->cut : step->answer_len;
	assert_int_equal(write(bufferevent_getfd(bev), step->answer, len), len);
	if (len < step->answer_len && f->closes)
		(void)shutdown(bufferevent_getfd(bev), SHUT_WR);
}

static void on_accept(void *userdata)
{
	struct fixture *f = userdata;
	int fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	assert_true(fd >= 0);
	f->served = bufferevent_socket_new(loop_base(f->loop), fd, BEV_OPT_CLOSE_ON_FREE);
	bufferevent_setcb(f->served, on_served, NULL, NULL, f);
	(void)bufferevent_enable(f->served, EV_READ | EV_WRITE);
}

static void set_up(struct fixture *f)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sin);

	f->loop = loop_new();
	f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(f->listener, (const struct sockaddr *)&sin, len), 0);
	assert_int_equal(listen(f->listener, 5), 0);
	assert_int_equal(getsockname(f->listener, (struct sockaddr *)&sin, &len), 0);
	f->port = ntohs(sin.sin_port);
	f->on_listener = loop_fd_new(f->loop, f->listener, on_accept, f);
	f->watchdog = loop_timer_new(f->loop, on_watchdog, NULL);
	loop_timer_set(f->watchdog, 20000);
}

static void tear_down(struct fixture *f)
{
	if (f->served)
		bufferevent_free(f->served);
	if (f->bev)
		bufferevent_free(f->bev);
	loop_event_free(f->on_listener);
	loop_event_free(f->watchdog);
	if (f->listener >= 0)
		(void)close(f->listener);
	loop_free(f->loop);
}

static void on_dialled(struct bufferevent *bev, const char *why, void *userdata)
{
	struct fixture *f = userdata;

	f->bev = bev;
	f->n_done++;
	(void)snprintf(f->why, sizeof(f->why), "%s", why ? why : "");
	loop_exit(f->loop);
}

static void on_echo(struct bufferevent *bev, void *userdata)
{
	struct fixture *f = userdata;
	size_t len = bufferevent_read(bev, f->echo, sizeof(f->echo) - 1);

	f->echo[len] = '\0';
	loop_exit(f->loop);
}

static struct dial *dial_through(struct fixture *f, const char *url, const char *host,
				 int64_t timeout_ms)
{
	struct endpoint target = {.port = 6443};
	struct proxy proxy;
	struct dial *dial;

	assert_int_equal(proxy_parse(url, &proxy, NULL), 0);
	(void)stpcpy(proxy.endpoint.host, "127.0.0.1");
	proxy.endpoint.port = f->port;
	(void)stpcpy(target.host, host);
	dial = dial_new(f->loop, &proxy, &target, NULL, "http/1.1", timeout_ms, on_dialled, f);
	proxy_done(&proxy);
	return dial;
}

/* Each talk that opens the way, and what is said then reaches the other side. */
static void test_through(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(talks); i++) {
		struct fixture f = {.cut = SIZE_MAX};

		memcpy(f.step, talks[i].step, sizeof(talks[i].step));
		set_up(&f);
		(void)dial_through(&f, talks[i].proxy, talks[i].host, 5000);
		loop_run(f.loop);
		if (talks[i].why) {
			assert_null(f.bev);
			assert_memory_equal(f.why, "the proxy ", 10);
			assert_non_null(strstr(f.why, talks[i].why));
		} else {
			assert_string_equal(f.why, "");
			bufferevent_setcb(f.bev, on_echo, NULL, NULL, &f);
			(void)bufferevent_enable(f.bev, EV_READ | EV_WRITE);
			(void)bufferevent_write(f.bev, "ping", 4);
			loop_run(f.loop);
			assert_string_equal(f.echo, "ping");
		}
		tear_down(&f);
	}
}

/* The last answer ends, or stops, after each of its bytes. */
static void test_cut(void **state)
{
	static const size_t rows[] = {1, 10, 13};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct step *step = talks[rows[i]].step;
		size_t last = 0;

		while (last < 2 && step[last + 1].says)
			last++;
		for (size_t cut = 0; cut < step[last].answer_len; cut++) {
			struct fixture f = {.cut = cut, .closes = cut % 5 != 4};

			memcpy(f.step, step, sizeof(talks[0].step));
			set_up(&f);
			(void)dial_through(&f, talks[rows[i]].proxy, talks[rows[i]].host,
					   f.closes ? 5000 : 30);
			loop_run(f.loop);
			assert_null(f.bev);
			assert_memory_equal(f.why, "the proxy ", 10);
			assert_non_null(strstr(f.why, f.closes ? "it closed the connection"
							       : "no answer within 0.03 s"));
			tear_down(&f);
		}
	}
}

static void test_no_proxy_there(void **state)
{
	struct fixture f = {.cut = SIZE_MAX};

	(void)state;
	set_up(&f);
	loop_event_free(TAKE_PTR(f.on_listener));
	(void)close(TAKE_FD(f.listener));
	(void)dial_through(&f, "http://p:3128", "api.example", 5000);
	loop_run(f.loop);
	assert_string_equal(f.why, "the proxy http://p:3128: connection refused");
	tear_down(&f);
}

/* While it talks. */
static void test_cancel(void **state)
{
	struct fixture f = {.cut = 3};
	struct dial *dial;

	(void)state;
	memcpy(f.step, talks[0].step, sizeof(talks[0].step));
	set_up(&f);
	dial = dial_through(&f, talks[0].proxy, "api.example", 5000);
	while (f.at == 0)
		(void)event_base_loop(loop_base(f.loop), EVLOOP_ONCE);
	dial_cancel(dial);
	(void)event_base_loop(loop_base(f.loop), EVLOOP_NONBLOCK);
	assert_int_equal(f.n_done, 0);
	tear_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),          cmocka_unit_test(test_long_secret),
		cmocka_unit_test(test_environment),    cmocka_unit_test(test_no_proxy),
		cmocka_unit_test(test_talks),          cmocka_unit_test(test_surplus),
		cmocka_unit_test(test_through),        cmocka_unit_test(test_cut),
		cmocka_unit_test(test_no_proxy_there), cmocka_unit_test(test_cancel),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
