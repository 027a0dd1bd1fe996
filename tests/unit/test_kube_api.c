/* SPDX-License-Identifier: Apache-2.0 */
/* test_kube_api.c - requests to an API server on the same loop that does as it is told, and
 * to `openssl s_server` where it is about TLS
 */
#include "store/kube_api.h"

#include "base/file.h"
#include "base/mem.h"
#include "store/kube_credentials.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

#define OK     "HTTP/1.1 200 OK\r\n"
#define HELLO  OK "Content-Length: 5\r\n\r\nhello"
#define REFUSE "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n"

/* How far the clocks are ahead of the machine's, for all but libevent's timers. */
static int64_t ahead_s;

/* In the C library's place. */
int false_clock(clockid_t clock, struct timespec *ts) __asm__("clock_gettime");
int false_clock(clockid_t clock, struct timespec *ts)
{
	const long r = syscall(SYS_clock_gettime, clock, ts);

	if (clock == CLOCK_BOOTTIME)
		ts->tv_sec += ahead_s;
	return (int)r;
}

static char dir[] = "/tmp/weft-test-kube-api.XXXXXX";

static const char *at(const char *name)
{
	static char paths[4][128];
	static size_t next;
	char *path = paths[next++ % ARRAY_SIZE(paths)];

	(void)snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}

static void put(const char *name, const char *text)
{
	assert_int_equal(file_write_atomic(at(name), text, 0600, NULL), 0);
}

/* ---- the server ---- */

struct line {
	struct fixture *f;
	int fd;
	struct event *readable;
};

struct fixture {
	struct loop *loop;
	struct event *watchdog;
	int listener;
	struct event *accepted;
	struct line lines[16];
	int n_accepted, n_asked;
	const char *answers[8]; /* in turn; NULL: none; the last one is repeated */
	char asked[4096];       /* the last request */

	struct kube_access access;
	struct kube_api *api;
	char url[64];
	/* what came of a call */
	int n_done, n_begun, n_pieces;
	struct kube_call *call;
	struct kube_outcome outcome;
	char why[ERR_TEXT_MAX], body[256], next[64];
};

static void on_line(void *userdata)
{
	struct line *line = userdata;
	struct fixture *f = line->f;
	ssize_t n = read(line->fd, f->asked, sizeof(f->asked) - 1);
	const char *answer;
	int i = f->n_asked;

	if (n <= 0) {
		loop_event_free(TAKE_PTR(line->readable));
		(void)close(TAKE_FD(line->fd));
		return;
	}
	f->asked[n] = '\0';
	f->n_asked++;
	while (i > 0 && (i >= 8 || !f->answers[i]))
		i--;
	answer = f->answers[i];
	if (!answer)
		return;
	assert_int_equal(write(line->fd, answer, strlen(answer)), strlen(answer));
	if (strstr(answer, "Content-Length"))
		return;
	loop_event_free(TAKE_PTR(line->readable));
	(void)close(TAKE_FD(line->fd));
}

static void on_accept(void *userdata)
{
	struct fixture *f = userdata;
	struct line *line = &f->lines[f->n_accepted++];

	assert_true(f->n_accepted <= (int)ARRAY_SIZE(f->lines));
	line->f = f;
	line->fd = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(line->fd >= 0);
	line->readable = loop_fd_new(f->loop, line->fd, on_line, line);
}

static void on_watchdog(void *userdata)
{
	(void)userdata;
	fail_msg("no end after 20 s");
}

static void set_up(struct fixture *f)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sin);

	*f = (struct fixture){.loop = loop_new(), .answers = {HELLO}};
	f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(f->listener, (const struct sockaddr *)&sin, len), 0);
	assert_int_equal(listen(f->listener, 5), 0);
	assert_int_equal(getsockname(f->listener, (struct sockaddr *)&sin, &len), 0);
	f->accepted = loop_fd_new(f->loop, f->listener, on_accept, f);
	f->watchdog = loop_timer_new(f->loop, on_watchdog, NULL);
	loop_timer_set(f->watchdog, 20000);
	(void)snprintf(f->url, sizeof(f->url), "http://127.0.0.1:%u", ntohs(sin.sin_port));
	f->access.server = mem_strdup(f->url);
	f->access.place = mem_strdup("the test");
}

static void tear_down(struct fixture *f)
{
	kube_api_free(f->api);
	kube_access_done(&f->access);
	for (int i = 0; i < f->n_accepted; i++) {
		loop_event_free(f->lines[i].readable);
		if (f->lines[i].readable)
			(void)close(f->lines[i].fd);
	}
	loop_event_free(f->accepted);
	loop_event_free(f->watchdog);
	if (f->listener >= 0)
		(void)close(f->listener);
	loop_free(f->loop);
}

/* ---- the client ---- */

static void open_api(struct fixture *f)
{
	struct err err = {""};

	if (kube_api_new(f->loop, &f->access, &f->api, &err) < 0)
		fail_msg("%s", err.text);
	assert_null(f->access.server);
}

static void on_done(const struct kube_outcome *outcome, void *userdata)
{
	struct fixture *f = userdata;

	f->call = NULL;
	f->n_done++;
	f->outcome = *outcome;
	(void)snprintf(f->why, sizeof(f->why), "%s", outcome->why ? outcome->why : "");
	(void)snprintf(f->next, sizeof(f->next), "%s", outcome->next ? outcome->next : "");
	if (outcome->body.p)
		(void)snprintf(f->body, sizeof(f->body), "%.*s", (int)outcome->body.len,
			       outcome->body.p);
	loop_exit(f->loop);
}

static void on_begun(void *userdata)
{
	struct fixture *f = userdata;

	assert_int_equal(f->n_pieces, 0);
	f->n_begun++;
}

static void on_piece(const char *data, size_t len, void *userdata)
{
	struct fixture *f = userdata;

	f->n_pieces++;
	(void)snprintf(f->body + strlen(f->body), sizeof(f->body) - strlen(f->body), "%.*s",
		       (int)len, data);
}

static void begin(struct fixture *f, struct kube_request request)
{
	if (!request.method)
		request.method = "GET";
	if (!request.path)
		request.path = "/api/v1/nodes";
	request.done = on_done;
	request.userdata = f;
	f->n_done = f->n_begun = f->n_pieces = 0;
	*f->body = '\0';
	f->call = kube_call_new(f->api, &request);
	assert_int_equal(f->n_done, 0);
}

static void ask(struct fixture *f, struct kube_request request)
{
	if (!request.timeout_ms)
		request.timeout_ms = 10000;
	begin(f, request);
	loop_run(f->loop);
	assert_int_equal(f->n_done, 1);
}

static void assert_header(const struct fixture *f, const char *header)
{
	if (!strstr(f->asked, header))
		fail_msg("no '%s' in: %s", header, f->asked);
}

static void assert_why(const struct fixture *f, const char *why)
{
	if (!strstr(f->why, why) || !*f->why != !*why)
		fail_msg("not '%s' but: %s", why, f->why);
}

/* ---- what can be told at once ---- */

static void test_new(void **state)
{
	static const struct {
		struct {
			const char *server, *place, *ca_file, *ca_pem, *token, *token_file,
				*proxy_url, *command, *hint;
			bool insecure;
		} access;
		const char *says; /* begins with "!": an error */
	} rows[] = {
		{{.server = "https://10.96.0.1:443", .place = "p"}, "https://10.96.0.1:443 (p)"},
		{{.server = "https://[fd00::1]:6443/", .place = "p"}, "https://[fd00::1]:6443 (p)"},
		{{.server = "https://r.example/k8s/clusters/c-1/"},
		 "https://r.example/k8s/clusters/c-1 (as given)"},
		{{.server = "10.0.0.1:8080"}, "http://10.0.0.1:8080 (as given)"},
		{{.server = "10.0.0.1:6443", .insecure = true}, "https://10.0.0.1:6443 (as given)"},
		{{.server = "https://10.0.0.1?x", .place = "p"},
		 "!p: the API server's URL has a query"},
		{{.server = "https://10.0.0.1/a b"}, "!the API server's URL has a query"},
		{{.server = "https://10.0.0.1:x/a", .place = "p"},
		 "!p: the API server's URL: 'https://10.0.0.1:x': the port is not a number (right: "
		 "https://10.0.0.1:443)"},
		{{.server = "https://a:secret@10.0.0.1"},
		 "!a user name and password do not belong into it"},
		{{.place = "p"}, "!the host is missing"},
		{{.server = "https://10.0.0.1", .ca_file = "/nowhere"}, "!/nowhere: No such file"},
		{{.server = "https://10.0.0.1", .ca_pem = "secret"},
		 "!the CA data: no certificate in it"},
		{{.server = "http://10.0.0.1", .token_file = "/nowhere", .token = ""},
		 "!the token: cannot open /nowhere: No such file"},
		{{.server = "http://10.0.0.1", .token_file = "/nowhere", .token = "t"},
		 "http://10.0.0.1 (as given)"},
		{{.server = "http://10.0.0.1", .token = "sec ret"},
		 "!the token has a character in it that no token has"},
		{{.server = "http://10.0.0.1", .token = "sec\r\nret"},
		 "!the token has a character in it that no token has"},
		{{.server = "http://10.0.0.1", .command = "/nowhere/x"},
		 "!the kubeconfig's credential program: /nowhere/x: No such file"},
		{{.server = "http://10.0.0.1", .command = "weft-nowhere", .hint = "get it\nthere"},
		 "!the kubeconfig's credential program: weft-nowhere is not installed: get it "
		 "there"},
		{{.server = "http://10.0.0.1", .proxy_url = "gopher://x"},
		 "!proxy-url: the proxy's URL begins with none of"},
	};
	struct loop *loop = loop_new();

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct kube_access access = {.insecure = rows[i].access.insecure};
		struct kube_api *api = NULL;
		struct err err = {""};
		int r;

#define COPY(to, member)                                                                           \
	access.to = rows[i].access.member ? mem_strdup(rows[i].access.member) : NULL
		COPY(server, server);
		COPY(place, place);
		COPY(ca_file, ca_file);
		COPY(ca_pem, ca_pem);
		COPY(token, token);
		COPY(token_file, token_file);
		COPY(proxy_url, proxy_url);
		COPY(exec.command, command);
		COPY(exec.install_hint, hint);
#undef COPY
		r = kube_api_new(loop, &access, &api, &err);
		if ((r < 0) != (*rows[i].says == '!') || strstr(err.text, "secret"))
			fail_msg("row %zu: %d, %s", i, r, err.text);
		if (r < 0 && !strstr(err.text, rows[i].says + 1))
			fail_msg("row %zu: %s", i, err.text);
		if (r == 0)
			assert_string_equal(kube_api_describe(api), rows[i].says);
		kube_api_free(api);
	}
	kube_api_free(NULL);
	loop_free(loop);
}

/* ---- requests ---- */

static void test_requests(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	free(f.access.server);
	f.access.server = mem_alloc(100, 1);
	(void)snprintf(f.access.server, 100, "%s/k8s/clusters/c-1/", f.url);
	f.access.token = mem_strdup("abc");
	open_api(&f);
	ask(&f, (struct kube_request){.path = "/api/v1/nodes?limit=500",
				      .accept = KUBE_ACCEPT_PARTIAL});
	assert_why(&f, "");
	assert_int_equal(f.outcome.http_status, 200);
	assert_string_equal(f.body, "hello");
	assert_header(&f, "GET /k8s/clusters/c-1/api/v1/nodes?limit=500 HTTP/1.1\r\nHost: 127");
	assert_header(&f, "Accept: " KUBE_ACCEPT_PARTIAL "\r\n");
	assert_header(&f, "User-Agent: weft/");
	assert_header(&f, "\r\nAccept-Encoding: identity\r\n");
	assert_header(&f, "Authorization: Bearer abc\r\n");
	assert_null(strstr(f.asked, "Connection: close"));
	ask(&f, (struct kube_request){.method = "PATCH",
				      .path = "/api/v1/nodes/n/status",
				      .content_type = KUBE_STRATEGIC_MERGE,
				      .body = "{\"a\":1}"});
	assert_header(&f, "Content-Type: " KUBE_STRATEGIC_MERGE "\r\n");
	assert_header(&f, "Content-Length: 7\r\n\r\n{\"a\":1}");
	assert_int_equal(f.n_accepted, 1); /* kept */
	ask(&f, (struct kube_request){.own_connection = true, .piece = on_piece});
	assert_int_equal(f.n_accepted, 2);
	assert_int_equal(f.n_pieces, 1);
	assert_string_equal(f.body, "hello");
	ask(&f, (struct kube_request){.path = "/x"});
	assert_int_equal(f.n_accepted, 2);
	tear_down(&f);
}

static void test_failures(void **state)
{
	static const struct {
		const char *answer;
		int http_status;
		const char *why;
		unsigned wait_ms;
		bool expired;
		const char *next;
	} rows[] = {
		{"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", 403,
		 ": 403: we may not list nodes: a ClusterRole bound to it needs the rule "
		 "{apiGroups: [\"\"], resources: [\"nodes\"], verbs: [\"list\"]}",
		 0, false, ""},
		{"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 3\r\nContent-Length: 1\r\n\r\nx",
		 429, ": 429: it has too many requests to answer: x", 3000, false, ""},
		{"HTTP/1.1 503 No\r\nRetry-After: 1\r\nContent-Length: 1\r\n\r\nx", 503, ": 503: x",
		 1000, false, ""},
		{"HTTP/1.1 410 Gone\r\nContent-Length: 72\r\n\r\n"
		 "{\"kind\":\"Status\",\"metadata\":{\"continue\":\"abc\"},"
		 "\"reason\":\"Expired\",\"a\":1}",
		 410, ": 410: it does not say why", 0, true, "abc"},
		{OK "\r\nhalf", 200, "", 0, false, ""},
		{OK "Transfer-Encoding: chunked\r\n\r\n5\r\nhel", 200,
		 ": it closed the connection in the middle of its answer", 0, false, ""},
		{"HTTP/1.1 200", 0, ": it closed the connection in the middle of its answer", 0,
		 false, ""},
		{"SSH-2.0\r\n", 0, ": it answers, but does not speak HTTP/1.1", 0, false, ""},
		{REFUSE, 401, ": 401: no credentials are given", 0, false, ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct fixture f;

		set_up(&f);
		f.answers[0] = rows[i].answer;
		open_api(&f);
		ask(&f, (struct kube_request){.begun = on_begun, .piece = i % 2 ? on_piece : NULL});
		if (!strstr(f.why, rows[i].why) || !*f.why != !*rows[i].why)
			fail_msg("row %zu: %s", i, f.why);
		assert_true(!*f.why || !strncmp(f.why, f.url, strlen(f.url)));
		assert_int_equal(f.outcome.http_status, rows[i].http_status);
		assert_int_equal(f.n_begun, rows[i].http_status == 200);
		assert_int_equal(f.outcome.wait_ms, rows[i].wait_ms);
		assert_int_equal(f.outcome.expired, rows[i].expired);
		assert_string_equal(f.next, rows[i].next);
		assert_int_equal(f.n_asked, 1);
		tear_down(&f);
	}
}

/* Nobody is there, or says a thing. */
static void test_away(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	f.answers[0] = NULL;
	open_api(&f);
	ask(&f, (struct kube_request){.timeout_ms = 50});
	assert_why(&f, ": no answer within 0.05 s (is that the right address?)");
	ask(&f, (struct kube_request){.silence_ms = 50, .own_connection = true});
	assert_why(&f, ": nothing came from it for 0.05 s");
	assert_int_equal(f.outcome.http_status, 0);
	loop_event_free(TAKE_PTR(f.accepted));
	(void)close(TAKE_FD(f.listener));
	ask(&f, (struct kube_request){.method = "GET"});
	assert_why(&f, ": connection refused (is kube-apiserver running there?)");
	tear_down(&f);

	set_up(&f);
	free(f.access.place);
	f.access.place = mem_strdup("the pod's environment");
	open_api(&f);
	loop_event_free(TAKE_PTR(f.accepted));
	(void)close(TAKE_FD(f.listener));
	ask(&f, (struct kube_request){.method = "GET"});
	assert_why(&f, ": connection refused (a Service's address works once kube-proxy does");
	tear_down(&f);
}

static void test_cancel(void **state)
{
	struct fixture f;

	(void)state;
	kube_call_cancel(NULL);
	set_up(&f);
	open_api(&f);
	begin(&f, (struct kube_request){.timeout_ms = 5000});
	kube_call_cancel(f.call);
	begin(&f, (struct kube_request){.timeout_ms = 5000});
	while (!f.n_asked)
		(void)event_base_loop(loop_base(f.loop), EVLOOP_ONCE);
	kube_call_cancel(f.call);
	begin(&f, (struct kube_request){.timeout_ms = 5000});
	kube_api_free(TAKE_PTR(f.api)); /* with calls under way */
	(void)event_base_loop(loop_base(f.loop), EVLOOP_NONBLOCK);
	assert_int_equal(f.n_done, 0);
	tear_down(&f);
}

static void test_proxy(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	f.answers[0] = "HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n";
	f.access.proxy_url = mem_strdup(f.url);
	free(f.access.server);
	f.access.server = mem_strdup("http://api.example:8080");
	open_api(&f);
	ask(&f, (struct kube_request){.method = "GET"});
	assert_header(&f, "CONNECT api.example:8080 HTTP/1.1\r\n");
	assert_why(&f, "http://api.example:8080: the proxy http://127.0.0.1:");
	assert_why(&f, ": it wants a user name and password in its URL");
	loop_event_free(TAKE_PTR(f.accepted));
	(void)close(TAKE_FD(f.listener));
	ask(&f, (struct kube_request){.method = "GET"});
	assert_string_equal(f.why + strlen(f.why) - strlen(": connection refused"),
			    ": connection refused");
	tear_down(&f);
}

/* The port that everybody knows is left out: some servers compare the whole text. */
static void test_host(void **state)
{
	static const struct {
		const char *url, *host;
	} rows[] = {
		{"http://api.example", "\r\nHost: api.example\r\n"},
		{"http://[fd00::1]:80", "\r\nHost: [fd00::1]\r\n"},
		{"http://api.example:443/a", "\r\nHost: api.example:443\r\n"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct fixture f;

		set_up(&f);
		f.answers[0] = OK "Content-Length: 0\r\n\r\n"; /* of the proxy */
		f.answers[1] = HELLO;
		f.access.proxy_url = mem_strdup(f.url);
		free(f.access.server);
		f.access.server = mem_strdup(rows[i].url);
		open_api(&f);
		ask(&f, (struct kube_request){.method = "GET"});
		assert_why(&f, "");
		assert_header(&f, rows[i].host);
		tear_down(&f);
	}
}

/* ---- tokens ---- */

static void test_token_file(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	put("token-1", "one\n");
	put("token-2", "\ttwo \n\n");
	assert_int_equal(symlink("token-1", at("token")), 0);
	f.access.token_file = mem_strdup(at("token"));
	f.access.token = mem_strdup("given");
	open_api(&f);
	ask(&f, (struct kube_request){.method = "GET"});
	assert_header(&f, "Authorization: Bearer one\r\n");
	/* Not read each time; but after a refusal, and by the path. */
	assert_int_equal(symlink("token-2", at("token.new")), 0);
	assert_int_equal(rename(at("token.new"), at("token")), 0);
	ask(&f, (struct kube_request){.method = "GET"});
	assert_header(&f, "Authorization: Bearer one\r\n");
	/* A minute later it is. */
	ahead_s += 61;
	ask(&f, (struct kube_request){.method = "GET"});
	assert_header(&f, "Authorization: Bearer two\r\n");
	assert_int_equal(symlink("token-1", at("token.new")), 0);
	assert_int_equal(rename(at("token.new"), at("token")), 0);
	f.n_asked = 0;
	f.answers[0] = REFUSE;
	f.answers[1] = HELLO;
	ask(&f, (struct kube_request){.method = "GET"});
	assert_why(&f, "");
	assert_int_equal(f.n_asked, 2);
	assert_header(&f, "Authorization: Bearer one\r\n");
	/* Nothing new is there: no second try. */
	f.n_asked = 0;
	f.answers[1] = NULL;
	ask(&f, (struct kube_request){.method = "GET"});
	assert_int_equal(f.n_asked, 1);
	assert_int_equal(f.outcome.http_status, 401);
	assert_why(&f, ": 401: it does not accept the token in /tmp/");
	/* What cannot be read changes nothing. */
	assert_int_equal(unlink(at("token")), 0);
	ahead_s += 61;
	f.answers[0] = HELLO;
	ask(&f, (struct kube_request){.method = "GET"});
	assert_why(&f, "");
	assert_header(&f, "Authorization: Bearer one\r\n");
	tear_down(&f);
}

/* The file may hold another certificate than the one that the kept connection was made with. */
static void test_certificate_file(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	f.access.cert_file = mem_strdup("/nowhere"); /* not looked at without TLS */
	f.access.key_file = mem_strdup("/nowhere");
	open_api(&f);
	ask(&f, (struct kube_request){.method = "GET"});
	f.answers[1] = REFUSE;
	f.answers[2] = HELLO;
	ask(&f, (struct kube_request){.method = "GET"});
	assert_why(&f, "");
	assert_int_equal(f.n_asked, 3);
	assert_int_equal(f.n_accepted, 2);
	/* Once; and the next one does not find a connection that is refused. */
	f.n_asked = 0;
	f.answers[0] = REFUSE;
	f.answers[1] = NULL;
	ask(&f, (struct kube_request){.method = "GET"});
	assert_why(&f, ": 401: it does not accept the client certificate");
	assert_int_equal(f.n_asked, 2);
	assert_int_equal(f.n_accepted, 3);
	f.answers[0] = HELLO;
	ask(&f, (struct kube_request){.method = "GET"});
	assert_why(&f, "");
	assert_int_equal(f.n_accepted, 4);
	/* A watch's connection is new anyway. */
	f.n_asked = 0;
	f.answers[0] = REFUSE;
	ask(&f, (struct kube_request){.own_connection = true});
	assert_int_equal(f.n_asked, 1);
	tear_down(&f);
}

static void test_static(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	f.answers[0] = REFUSE;
	f.access.user = mem_strdup("a");
	f.access.password = mem_strdup("b");
	open_api(&f);
	ask(&f, (struct kube_request){.method = "GET"});
	assert_int_equal(f.n_asked, 1);
	assert_header(&f, "Authorization: Basic YTpi\r\n");
	assert_why(&f, ": 401: it does not accept user a and its password");
	tear_down(&f);
}

/* ---- programs ---- */

#define V1 "client.authentication.k8s.io/v1"

/* A program that notes each run of it, and then does @script. */
static void set_program(struct fixture *f, const char *script)
{
	char text[2048];

	(void)snprintf(text, sizeof(text), "#!/bin/sh\necho run >>%s\n%s\n", at("runs"), script);
	put("program", text);
	assert_int_equal(chmod(at("program"), 0700), 0);
	(void)unlink(at("runs"));
	if (f->access.exec.command)
		return;
	f->access.exec.command = mem_strdup(at("program"));
	f->access.exec.api_version = mem_strdup(V1);
}

static int runs(void)
{
	_cleanup_free_ char *text = NULL;
	size_t len;

	if (file_read(AT_FDCWD, at("runs"), 4096, &text, &len, NULL) < 0)
		return 0;
	return (int)len / 4;
}

#define CREDENTIAL(status)                                                                         \
	"echo '{\"kind\":\"ExecCredential\",\"apiVersion\":\"" V1 "\",\"status\":{" status "}}'"

static void test_program(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	set_program(&f, "echo \"$KUBERNETES_EXEC_INFO\" >\"$OUT\"; echo \"$@\" >>\"$OUT\"\n"
			"n=$(grep -c . $RUNS)\n"
			"echo '{\"kind\":\"ExecCredential\",\"apiVersion\":\"" V1
			"\",\"status\":{\"token\":\"t-'$n'\"}}'");
	f.access.exec.args = mem_alloc(3, sizeof(char *));
	f.access.exec.args[0] = mem_strdup("get");
	f.access.exec.args[1] = mem_strdup("a b");
	f.access.exec.env = mem_alloc(3, sizeof(char *));
	f.access.exec.env[0] = mem_alloc(200, 1);
	f.access.exec.env[1] = mem_alloc(200, 1);
	(void)snprintf(f.access.exec.env[0], 200, "OUT=%s", at("out"));
	(void)snprintf(f.access.exec.env[1], 200, "RUNS=%s", at("runs"));
	f.access.exec.provide_cluster_info = true;
	f.access.ca_pem = mem_strdup("Aladdin");
	open_api(&f);
	assert_int_equal(runs(), 0);
	/* Two wait for one run. */
	begin(&f, (struct kube_request){.timeout_ms = 10000});
	ask(&f, (struct kube_request){.method = "GET"});
	while (f.n_done < 2)
		loop_run(f.loop);
	assert_int_equal(runs(), 1);
	assert_header(&f, "Authorization: Bearer t-1\r\n");
	{
		_cleanup_free_ char *text = NULL;
		char want[512];
		size_t len;

		assert_int_equal(file_read(AT_FDCWD, at("out"), 4096, &text, &len, NULL), 0);
		(void)snprintf(want, sizeof(want),
			       "{\"kind\":\"ExecCredential\",\"apiVersion\":\"" V1
			       "\",\"spec\":{\"interactive\":false,\"cluster\":{\"server\":\"%s\","
			       "\"certificate-authority-data\":\"QWxhZGRpbg==\"}}}\nget a b\n",
			       f.url);
		assert_string_equal(text, want);
	}
	/* Refused: run again, once. */
	f.n_asked = 0;
	f.answers[0] = REFUSE;
	f.answers[1] = HELLO;
	ask(&f, (struct kube_request){.method = "GET"});
	assert_why(&f, "");
	assert_header(&f, "Authorization: Bearer t-2\r\n");
	f.answers[1] = NULL;
	f.n_asked = 0;
	ask(&f, (struct kube_request){.method = "GET"});
	assert_int_equal(f.n_asked, 2);
	assert_int_equal(runs(), 3);
	assert_why(&f, ": 401: it does not accept what /tmp/");
	tear_down(&f);
}

/* Until it expires; what has expired when it comes is used for the one who waits. */
static void test_program_expiry(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	set_program(&f, CREDENTIAL("\"token\":\"t\","
				   "\"expirationTimestamp\":\"2099-01-02T03:04:05Z\""));
	open_api(&f);
	ask(&f, (struct kube_request){.method = "GET"});
	ask(&f, (struct kube_request){.method = "GET"});
	assert_int_equal(runs(), 1);
	tear_down(&f);

	set_up(&f);
	set_program(&f, CREDENTIAL("\"token\":\"t\","
				   "\"expirationTimestamp\":\"2001-01-02T03:04:05Z\""));
	open_api(&f);
	ask(&f, (struct kube_request){.method = "GET"});
	assert_why(&f, "");
	assert_header(&f, "Authorization: Bearer t\r\n");
	tear_down(&f);
}

static void test_program_faults(void **state)
{
	static const struct {
		const char *script, *why;
	} rows[] = {
		{"echo no login >&2; exit 3", ": exit code 3: no login"},
		{"echo secret", ": it does not print one JSON object"},
		{":", ": it does not print one JSON object"},
		{"echo '{\"kind\":\"secret\"}'", ": it prints no ExecCredential"},
		{"echo '{\"kind\":\"ExecCredential\",\"apiVersion\":\"v9\"}'",
		 ": it prints an ExecCredential of v9, but the kubeconfig asks for " V1},
		{"echo '{\"kind\":\"ExecCredential\",\"apiVersion\":\"" V1 "\"}'",
		 ": its ExecCredential has no status"},
		{CREDENTIAL(""), ": it prints neither a token nor a certificate"},
		{CREDENTIAL("\"token\":1"), ": its status.token is not a string"},
		{CREDENTIAL("\"token\":\"se cret\""), ": the token has a character in it"},
		{CREDENTIAL("\"clientKeyData\":\"secret\""),
		 ": it prints neither a token nor a certificate"},
		{CREDENTIAL("\"clientCertificateData\":\"secret\""),
		 ": it prints a certificate without its key"},
		{CREDENTIAL("\"token\":\"secret\",\"expirationTimestamp\":\"soon\""),
		 ": its expirationTimestamp is no time: soon"},
		{CREDENTIAL("\"clientCertificateData\":\"secret\",\"clientKeyData\":\"secret\""),
		 ": the client certificate data: no certificate in it"},
		{"exec sleep 10", ": the kubeconfig's credential program /tmp/"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const bool slow = strstr(rows[i].script, "sleep") != NULL;
		struct fixture f;

		set_up(&f);
		set_program(&f, rows[i].script);
		open_api(&f);
		ask(&f, (struct kube_request){.timeout_ms = slow ? 200 : 0});
		if (!strstr(f.why, slow ? "has not ended within 0.2 s" : rows[i].why) ||
		    strstr(f.why, "secret"))
			fail_msg("row %zu: %s", i, f.why);
		assert_int_equal(f.outcome.http_status, 0);
		assert_int_equal(f.n_accepted, 0);
		/* And the next one has it run again. */
		if (!slow) {
			set_program(&f, CREDENTIAL("\"token\":\"t\""));
			ask(&f, (struct kube_request){.method = "GET"});
			assert_why(&f, "");
		}
		tear_down(&f);
	}
}

/* ---- TLS ---- */

static const char make_certs[] =
	"exec >log 2>&1; set -e\n"
	"for a in ca other; do openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 "
	"-nodes -keyout $a.key -subj /CN=$a -days 10 -out $a.pem "
	"-addext subjectAltName=IP:127.0.0.1,DNS:api.example; done\n"
	"printf 'HTTP/1.0 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nhello' >nodes\n";

static int run_here(const char *script)
{
	pid_t pid = fork();
	int status = -1;

	if (pid == 0) {
		if (chdir(dir) == 0)
			(void)execl("/bin/sh", "sh", "-c", script, NULL);
		_exit(127);
	}
	return waitpid(pid, &status, 0) == pid ? status : -1;
}

static pid_t start_server(const char *options, uint16_t *ret_port)
{
	char command[512], line[64];
	FILE *file;
	int out[2];
	pid_t pid;

	(void)snprintf(
		command, sizeof(command),
		"exec openssl s_server -accept 127.0.0.1:0 -cert ca.pem -key ca.key -HTTP %s "
		"2>&1",
		options);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)dup2(out[1], 1);
		if (chdir(dir) == 0)
			(void)execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	assert_true(pid > 0);
	(void)close(out[1]);
	file = fdopen(out[0], "r");
	*ret_port = 0;
	while (!*ret_port && fgets(line, sizeof(line), file))
		if (!strncmp(line, "ACCEPT ", 7))
			*ret_port = (uint16_t)strtoul(strrchr(line, ':') + 1, NULL, 10);
	assert_int_not_equal(*ret_port, 0);
	(void)fclose(file);
	return pid;
}

static void set_url(struct fixture *f, const char *scheme, uint16_t port)
{
	free(f->access.server);
	f->access.server = mem_alloc(64, 1);
	(void)snprintf(f->access.server, 64, "%s://127.0.0.1:%u", scheme, port);
}

/* An authority that is put in the other's place counts from the next request on. */
static void test_ca_file(void **state)
{
	struct fixture f;
	uint16_t port;
	pid_t pid = start_server("", &port);

	(void)state;
	set_up(&f);
	assert_int_equal(run_here("cp other.pem live.pem"), 0);
	set_url(&f, "https", port);
	f.access.ca_file = mem_strdup(at("live.pem"));
	open_api(&f);
	ask(&f, (struct kube_request){.path = "/nodes"});
	assert_why(&f, ": its certificate is signed by itself, and the CA file does not hold it");
	assert_int_equal(run_here("cp ca.pem new.pem && mv new.pem live.pem"), 0);
	ask(&f, (struct kube_request){.path = "/nodes"});
	assert_why(&f, "");
	assert_string_equal(f.body, "hello");
	tear_down(&f);

	for (int right = 0; right < 2; right++) {
		set_up(&f);
		set_url(&f, "https", port);
		f.access.ca_file = mem_strdup(at("live.pem"));
		f.access.tls_server_name = mem_strdup(right ? "api.example" : "other.example");
		open_api(&f);
		ask(&f, (struct kube_request){.path = "/nodes"});
		assert_why(&f, right ? ""
				     : "127.0.0.1, api.example, not to other.example (one of these "
				       "has to be in the URL, or be the kubeconfig's "
				       "tls-server-name)");
		tear_down(&f);
	}

	set_up(&f);
	set_url(&f, "http", port);
	open_api(&f);
	ask(&f, (struct kube_request){.path = "/nodes"});
	assert_true(*f.why);
	tear_down(&f);
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
}

/* It may be renewed, or this host's clock be set: no reason not to start. */
static void test_dates(void **state)
{
	struct fixture f;

	(void)state;
	assert_int_equal(
		run_here("exec >log 2>&1; openssl req -new -newkey ec -pkeyopt "
			 "ec_paramgen_curve:prime256v1 -nodes -keyout old.key -subj /CN=old -out "
			 "old.csr && echo 01 >serial && : >index && printf "
			 "'[ca]\\ndatabase=index\\nserial=serial\\nnew_certs_dir=.\\n"
			 "default_md=sha256\\npolicy=p\\n[p]\\ncommonName=supplied\\n' >cnf && "
			 "openssl ca -batch -config cnf -name ca -selfsign -keyfile old.key -in "
			 "old.csr -out old.pem -notext -startdate 20200101000000Z -enddate "
			 "20210101000000Z"),
		0);
	for (int ca = 0; ca < 2; ca++) {
		set_up(&f);
		set_url(&f, "https", 1);
		if (ca) {
			f.access.ca_file = mem_strdup(at("old.pem"));
		} else {
			f.access.cert_file = mem_strdup(at("old.pem"));
			f.access.key_file = mem_strdup(at("old.key"));
		}
		open_api(&f);
		tear_down(&f);
	}
}

/* The server wants a certificate, which a program prints. */
static void test_program_certificate(void **state)
{
	struct fixture f;
	uint16_t port;
	pid_t pid = start_server("-Verify 1 -verify_return_error -CAfile other.pem", &port);

	(void)state;
	set_up(&f);
	set_url(&f, "https", port);
	f.access.insecure = true;
	open_api(&f);
	ask(&f, (struct kube_request){.path = "/nodes"});
	assert_why(&f, ": the server wants a client certificate");
	tear_down(&f);

	set_up(&f);
	set_url(&f, "https", port);
	f.access.insecure = true;
	set_program(&f, "pem() { awk '{printf \"%s\\\\n\", $0}' $(dirname $0)/$1; }\n"
			"printf '%s\\n' '{\"kind\":\"ExecCredential\",\"apiVersion\":\"" V1
			"\",\"status\":{\"clientCertificateData\":\"'\"$(pem other.pem)\"'\","
			"\"clientKeyData\":\"'\"$(pem other.key)\"'\"}}'");
	open_api(&f);
	ask(&f, (struct kube_request){.path = "/nodes"});
	assert_why(&f, "");
	assert_string_equal(f.body, "hello");
	tear_down(&f);

	/* With one of the kubeconfig's own, nobody asks the program. */
	set_up(&f);
	set_url(&f, "https", port);
	f.access.insecure = true;
	f.access.cert_file = mem_strdup(at("other.pem"));
	f.access.key_file = mem_strdup(at("other.key"));
	set_program(&f, CREDENTIAL("\"token\":\"t\""));
	open_api(&f);
	ask(&f, (struct kube_request){.path = "/nodes"});
	assert_why(&f, "");
	assert_int_equal(runs(), 0);
	tear_down(&f);
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
}

static int make_dir(void **state)
{
	static const char *const proxies[] = {"HTTP_PROXY", "http_proxy", "HTTPS_PROXY",
					      "https_proxy"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(proxies); i++)
		(void)unsetenv(proxies[i]);
	if (!mkdtemp(dir))
		return -1;
	return run_here(make_certs);
}

static int remove_dir(void **state)
{
	(void)state;
	return run_here("rm -rf \"$PWD\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new),
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_away),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_proxy),
		cmocka_unit_test(test_host),
		cmocka_unit_test(test_token_file),
		cmocka_unit_test(test_certificate_file),
		cmocka_unit_test(test_static),
		cmocka_unit_test(test_program),
		cmocka_unit_test(test_program_expiry),
		cmocka_unit_test(test_program_faults),
		cmocka_unit_test(test_ca_file),
		cmocka_unit_test(test_dates),
		cmocka_unit_test(test_program_certificate),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
