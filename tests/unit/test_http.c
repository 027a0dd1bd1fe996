/* SPDX-License-Identifier: Apache-2.0 */
/* test_http.c - requests to servers on the same loop: evhttp, and one that sends what a
 * test wants, piece by piece
 */
#include "io/http.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

#include <cmocka.h>

struct fixture {
	struct loop *loop;
	struct endpoint endpoint;
	struct http_request *request;
	struct event *watchdog;
	/* what the client got */
	int n_heads, n_done, status;
	char body[4096], why[ERR_TEXT_MAX], header[64];
	size_t len;
	bool cancel_in_head;
	int n_pieces, cancel_in_piece; /* the so manieth; 0: none */
	struct http_keeper *keeper;

	struct evhttp *http;
	struct evhttp_request *pending; /* not answered yet */
	char seen[512];                 /* the request as the server saw it */

	/* the other server */
	int listener, client;
	struct event *accepted, *readable, *pace;
	const char *const *pieces; /* to be sent; NULL ends them */
	bool reset;                /* and then: a reset in place of an end */
	bool hold;                 /* and then: nothing */
};

static void on_watchdog(void *userdata)
{
	(void)userdata;
	fail_msg("no end after 20 s");
}

static void set_up(struct fixture *f)
{
	*f = (struct fixture){.loop = loop_new(), .listener = -1, .client = -1};
	(void)snprintf(f->endpoint.host, sizeof(f->endpoint.host), "127.0.0.1");
	f->watchdog = loop_timer_new(f->loop, on_watchdog, f);
	loop_timer_set(f->watchdog, 20000);
}

static void tear_down(struct fixture *f)
{
	if (f->http)
		evhttp_free(f->http);
	loop_event_free(f->accepted);
	loop_event_free(f->readable);
	loop_event_free(f->pace);
	loop_event_free(f->watchdog);
	if (f->listener >= 0)
		(void)close(f->listener);
	if (f->client >= 0)
		(void)close(f->client);
	loop_free(f->loop);
}

/* ---- the client ---- */

static void on_head(const struct http_answer *answer, void *userdata)
{
	const char *header = http_answer_header(answer, "x-test");
	struct fixture *f = userdata;

	f->n_heads++;
	f->status = answer->status;
	assert_int_equal(answer->len, 0);
	(void)snprintf(f->header, sizeof(f->header), "%s", header ? header : "");
	if (f->cancel_in_head) {
		http_request_cancel(TAKE_PTR(f->request));
		loop_exit(f->loop);
	} else if (f->pending) {
		loop_exit(f->loop);
	}
}

static void on_done(const struct http_answer *answer, const char *why, void *userdata)
{
	struct fixture *f = userdata;

	f->request = NULL;
	f->n_done++;
	assert_true(!answer == !!why);
	if (answer) {
		assert_int_equal(f->n_heads, 1);
		assert_int_equal(answer->body[answer->len], 0);
		f->status = answer->status;
		if (!f->n_pieces) {
			f->len = answer->len;
			(void)snprintf(f->body, sizeof(f->body), "%s", answer->body);
		}
	}
	(void)snprintf(f->why, sizeof(f->why), "%s", why ? why : "");
	loop_exit(f->loop);
}

static void on_piece(const char *data, size_t len, void *userdata)
{
	struct fixture *f = userdata;

	assert_int_equal(f->n_heads, 1);
	assert_true(len > 0);
	(void)snprintf(f->body + strlen(f->body), sizeof(f->body) - strlen(f->body), "%.*s",
		       (int)len, data);
	f->len += len;
	if (++f->n_pieces == f->cancel_in_piece) {
		http_request_cancel(TAKE_PTR(f->request));
		loop_exit(f->loop);
	}
}

static void start_request(struct fixture *f, struct http_options options)
{
	options.endpoint = &f->endpoint;
	if (!options.method)
		options.method = "GET";
	if (!options.target)
		options.target = "/";
	options.head = on_head;
	options.done = on_done;
	options.userdata = f;
	options.keeper = f->keeper;
	/* The server may be about to send what comes next to who asked before. */
	if (f->pace)
		loop_timer_stop(f->pace);
	f->n_heads = f->n_done = f->status = f->n_pieces = 0;
	f->len = 0;
	*f->body = '\0';
	f->request = http_request_new(f->loop, &options);
	assert_int_equal(f->n_done, 0);
}

static void ask(struct fixture *f, struct http_options options)
{
	start_request(f, options);
	loop_run(f->loop);
	assert_int_equal(f->n_done, 1);
}

/* ---- evhttp ---- */

static void on_request(struct evhttp_request *req, void *userdata)
{
	struct evkeyvalq *in = evhttp_request_get_input_headers(req);
	struct evbuffer *body = evhttp_request_get_input_buffer(req);
	const char *target = evhttp_request_get_uri(req), *type, *authorization;
	struct evbuffer *out = evhttp_request_get_output_buffer(req);
	struct fixture *f = userdata;

	type = evhttp_find_header(in, "Content-Type");
	authorization = evhttp_find_header(in, "Authorization");
	(void)snprintf(f->seen, sizeof(f->seen), "%d %s host=%s %s %s [%.*s]",
		       (int)evhttp_request_get_command(req), target, evhttp_request_get_host(req),
		       type ? type : "-", authorization ? authorization : "-",
		       (int)evbuffer_get_length(body), evbuffer_pullup(body, -1));
	(void)evhttp_add_header(evhttp_request_get_output_headers(req), "X-Test", "seen");
	if (!strcmp(target, "/slow")) {
		f->pending = req;
		evhttp_send_reply_start(req, 200, "OK");
	} else if (!strcmp(target, "/big")) {
		for (int i = 0; i < 100000; i++)
			(void)evbuffer_add(out, "0123456789", 10);
		evhttp_send_reply(req, 200, "OK", NULL);
	} else if (!strcmp(target, "/missing")) {
		evhttp_send_error(req, 404, "gone");
	} else {
		(void)evbuffer_add(out, "hello", 5);
		evhttp_send_reply(req, 201, "Created", NULL);
	}
}

static void serve(struct fixture *f)
{
	struct evhttp_bound_socket *bound;
	struct sockaddr_in sin = {.sin_family = AF_INET};
	socklen_t len = sizeof(sin);
	int fd;

	f->http = evhttp_new(loop_base(f->loop));
	bound = evhttp_bind_socket_with_handle(f->http, "127.0.0.1", 0);
	assert_non_null(bound);
	fd = evhttp_bound_socket_get_fd(bound);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
	f->endpoint.port = ntohs(sin.sin_port);
	evhttp_set_gencb(f->http, on_request, f);
}

static void test_evhttp(void **state)
{
	static const struct http_header headers[] = {{"Authorization", "Basic YTpi"},
						     {"Content-Type", "text/x"}};
	struct fixture f;
	char want[200];

	(void)state;
	set_up(&f);
	serve(&f);
	ask(&f, (struct http_options){.target = "/a%26b?c=d"});
	assert_int_equal(f.status, 201);
	assert_string_equal(f.body, "hello");
	assert_string_equal(f.header, "seen");
	assert_string_equal(f.why, "");
	(void)snprintf(want, sizeof(want), "%d /a%%26b?c=d host=127.0.0.1 - - []", EVHTTP_REQ_GET);
	assert_string_equal(f.seen, want);

	ask(&f, (struct http_options){.method = "PUT",
				      .target = "/k",
				      .headers = headers,
				      .n_headers = ARRAY_SIZE(headers),
				      .body = "value=x",
				      .timeout_ms = 5000});
	assert_int_equal(f.status, 201);
	(void)snprintf(want, sizeof(want), "%d /k host=127.0.0.1 text/x Basic YTpi [value=x]",
		       EVHTTP_REQ_PUT);
	assert_string_equal(f.seen, want);

	ask(&f, (struct http_options){.target = "/missing"});
	assert_int_equal(f.status, 404);
	ask(&f, (struct http_options){.target = "/big", .timeout_ms = 10000});
	assert_int_equal(f.len, 1000000);
	ask(&f, (struct http_options){.target = "/big", .body_max = 999999});
	assert_string_equal(f.why, "it answers with more than 999999 bytes");
	tear_down(&f);
}

/* An answer in parts, far apart. */
static void test_slow(void **state)
{
	struct evbuffer *part = evbuffer_new();
	struct fixture f;

	(void)state;
	set_up(&f);
	serve(&f);
	start_request(&f, (struct http_options){.target = "/slow"});
	loop_run(f.loop); /* until its head is there */
	assert_int_equal(f.n_heads, 1);
	assert_int_equal(f.n_done, 0);
	assert_string_equal(f.header, "seen");
	for (int i = 0; i < 3; i++) {
		(void)evbuffer_add(part, "part ", 5);
		evhttp_send_reply_chunk(f.pending, part);
	}
	evhttp_send_reply_end(f.pending);
	loop_run(f.loop);
	assert_int_equal(f.n_done, 1);
	assert_string_equal(f.body, "part part part ");

	f.pending = NULL;
	start_request(&f, (struct http_options){.target = "/slow", .timeout_ms = 100});
	loop_run(f.loop);
	f.pending = NULL;
	loop_run(f.loop);
	assert_string_equal(f.why, "no complete answer within 0.1 s");
	tear_down(&f);
	evbuffer_free(part);
}

/* ---- a server that does as it is told ---- */

static void end_connection(struct fixture *f)
{
	const struct linger linger = {.l_onoff = 1, .l_linger = 0};

	if (f->hold)
		return;
	if (f->reset)
		assert_int_equal(
			setsockopt(f->client, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
	(void)close(TAKE_FD(f->client));
}

/* One piece per round of the loop. */
static void on_pace(void *userdata)
{
	struct fixture *f = userdata;

	if (f->client < 0)
		return;
	if (!*f->pieces) {
		end_connection(f);
		return;
	}
	assert_int_equal(write(f->client, *f->pieces, strlen(*f->pieces)), strlen(*f->pieces));
	f->pieces++;
	loop_timer_set(f->pace, 1);
}

/* A close with bytes unread would be a reset. */
static void on_readable(void *userdata)
{
	struct fixture *f = userdata;
	char request[512];

	if (read(f->client, request, sizeof(request)) > 0)
		on_pace(f);
	loop_event_free(TAKE_PTR(f->readable));
}

static void on_accept(void *userdata)
{
	struct fixture *f = userdata;

	if (f->client >= 0)
		(void)close(f->client);
	f->client = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(f->client >= 0);
	loop_event_free(f->readable);
	f->readable = loop_fd_new(f->loop, f->client, on_readable, f);
}

static void listen_raw(struct fixture *f)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sin);

	f->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(f->listener, (const struct sockaddr *)&sin, len), 0);
	assert_int_equal(listen(f->listener, 5), 0);
	assert_int_equal(getsockname(f->listener, (struct sockaddr *)&sin, &len), 0);
	f->endpoint.port = ntohs(sin.sin_port);
	f->accepted = loop_fd_new(f->loop, f->listener, on_accept, f);
	f->pace = loop_timer_new(f->loop, on_pace, f);
}

#define OK "HTTP/1.1 200 OK\r\n"

static void test_raw(void **state)
{
	static const struct {
		const char *pieces[8];
		bool reset, hold;
		const char *body, *why;
	} rows[] = {
		{{"HT", "TP/1.1 200 OK\r", "\nContent-", "Length: 5\r\n\r\nh", "el", "lo"},
		 false,
		 false,
		 "hello",
		 ""},
		{{OK "Content-Length: 5\r\n\r\nhello"}, false, true, "hello", ""},
		{{OK "\r\n", "he", "llo"}, false, false, "hello", ""},
		{{OK "Transfer-Encoding: chunked\r\n\r\n", "5\r\nhel", "lo\r\n0\r\n", "\r\n"},
		 false,
		 true,
		 "hello",
		 ""},
		{{OK "Content-Length: 5\r\n\r\nhel"},
		 false,
		 false,
		 "",
		 "it closed the connection in the middle of its answer"},
		{{OK "Transfer-Encoding: chunked\r\n\r\n"},
		 false,
		 false,
		 "",
		 "it closed the connection in the middle of its answer"},
		{{NULL}, false, false, "", "it closed the connection without an answer"},
		{{NULL}, true, false, "", "it broke the connection off"},
		{{OK "\r\nhel"}, true, false, "", "it broke the connection off"},
		{{"220 mail.example ESMTP\r\n"},
		 false,
		 true,
		 "",
		 "it answers, but does not speak HTTP/1.1"},
		{{OK "Content-Length: 101\r\n\r\n"},
		 false,
		 true,
		 "",
		 "it answers with more than 100 bytes"},
		{{NULL}, false, true, "", "no answer within 0.2 s"},
		{{OK, "A: b\r\n"}, false, true, "", "no complete answer within 0.2 s"},
	};
	struct fixture f;

	(void)state;
	set_up(&f);
	listen_raw(&f);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const bool late = strstr(rows[i].why, "within") != NULL;

		f.pieces = rows[i].pieces;
		f.reset = rows[i].reset;
		f.hold = rows[i].hold;
		*f.body = '\0';
		ask(&f, (struct http_options){.body_max = 100, .timeout_ms = late ? 200 : 10000});
		assert_string_equal(f.why, rows[i].why);
		assert_string_equal(f.body, rows[i].body);
	}
	tear_down(&f);
}

static void test_refused(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	listen_raw(&f);
	loop_event_free(TAKE_PTR(f.accepted));
	(void)close(TAKE_FD(f.listener));
	ask(&f, (struct http_options){.timeout_ms = 5000});
	assert_string_equal(f.why, "connection refused");
	tear_down(&f);
}

/* Before the connection, while waiting for the answer, and from inside `head`. */
static void test_cancel(void **state)
{
	static const char *const pieces[] = {OK "Content-Length: 5\r\n\r\nhello", NULL};
	static const char *const none[] = {NULL};
	struct fixture f;

	(void)state;
	http_request_cancel(NULL);
	set_up(&f);
	listen_raw(&f);
	f.pieces = pieces;
	start_request(&f, (struct http_options){.timeout_ms = 5000});
	http_request_cancel(TAKE_PTR(f.request));

	f.pieces = none;
	f.hold = true;
	start_request(&f, (struct http_options){.timeout_ms = 5000});
	while (f.client < 0)
		(void)event_base_loop(loop_base(f.loop), EVLOOP_ONCE);
	http_request_cancel(TAKE_PTR(f.request));
	assert_int_equal(f.n_done, 0);

	f.pieces = pieces;
	f.cancel_in_head = true;
	start_request(&f, (struct http_options){.timeout_ms = 5000});
	loop_run(f.loop);
	assert_int_equal(f.n_heads, 1);
	assert_int_equal(f.n_done, 0);
	tear_down(&f);
}

/* ---- bodies in pieces ---- */

static void test_pieces(void **state)
{
	static const struct {
		const char *pieces[8];
		bool hold;
		const char *body, *why;
		int n_pieces; /* or fewer: they may come together */
	} rows[] = {
		{{OK "Transfer-Encoding: chunked\r\n\r\n5\r\nhel", "lo\r\n1\r\n!\r\n0\r\n\r\n"},
		 true,
		 "hello!",
		 "",
		 3},
		{{OK "Content-Length: 12\r\n\r\n", "hello", ", world"},
		 true,
		 "hello, world",
		 "",
		 2},
		{{OK "\r\nhello", ", ", "world"}, false, "hello, world", "", 3},
		{{OK "Content-Length: 0\r\n\r\n"}, true, "", "", 0},
		{{"HTTP/1.1 410 Gone\r\nContent-Length: 5\r\n\r\nhello"}, true, "hello", "", 0},
		{{"HTTP/1.1 410 Gone\r\nContent-Length: 9\r\n\r\nhello"},
		 true,
		 "",
		 "it answers with more than 8 bytes",
		 0},
		{{OK "Content-Length: 9\r\n\r\nhello"},
		 false,
		 "hello",
		 "it closed the connection in the middle of its answer",
		 1},
	};
	static const char *const chunks[] = {
		OK "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n",
		NULL};
	struct fixture f;

	(void)state;
	set_up(&f);
	listen_raw(&f);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		f.pieces = rows[i].pieces;
		f.hold = rows[i].hold;
		ask(&f, (struct http_options){.piece = on_piece, .body_max = 8});
		assert_string_equal(f.why, rows[i].why);
		assert_string_equal(f.body, rows[i].body);
		assert_in_range(f.n_pieces, rows[i].n_pieces > 0, rows[i].n_pieces);
	}
	/* From inside each of them: nothing follows. */
	f.hold = true;
	for (f.cancel_in_piece = 1; f.cancel_in_piece <= 3; f.cancel_in_piece++) {
		f.pieces = chunks;
		start_request(&f, (struct http_options){.piece = on_piece});
		loop_run(f.loop);
		(void)event_base_loop(loop_base(f.loop), EVLOOP_NONBLOCK);
		assert_int_equal(f.n_pieces, f.cancel_in_piece);
		assert_int_equal(f.n_done, 0);
	}
	tear_down(&f);
}

static void test_silence(void **state)
{
	static const char *const none[] = {NULL};
	static const char *const head[] = {OK "\r\n", "a", NULL};
	struct fixture f;

	(void)state;
	set_up(&f);
	listen_raw(&f);
	f.hold = true;
	f.pieces = none;
	ask(&f, (struct http_options){.silence_ms = 50});
	assert_string_equal(f.why, "nothing came from it for 0.05 s");
	f.pieces = head;
	ask(&f, (struct http_options){.piece = on_piece, .silence_ms = 300});
	assert_string_equal(f.why, "nothing came from it for 0.3 s");
	assert_string_equal(f.body, "a");
	tear_down(&f);
}

struct beat {
	struct fixture *f;
	struct event *timer;
	int left;
};

static void on_beat(void *userdata)
{
	struct beat *beat = userdata;

	if (beat->f->client < 0 || beat->f->readable) {
		loop_timer_set(beat->timer, 5); /* not asked yet */
	} else if (beat->left--) {
		assert_int_equal(write(beat->f->client, "x", 1), 1);
		loop_timer_set(beat->timer, 100);
	} else {
		(void)close(TAKE_FD(beat->f->client));
	}
}

/* Six bytes 100 ms apart are no silence of 500 ms, though it is longer from first to last. */
static void test_heartbeat(void **state)
{
	static const char *const head[] = {OK "\r\n", NULL};
	struct fixture f;
	struct beat beat = {.f = &f, .left = 6};

	(void)state;
	set_up(&f);
	listen_raw(&f);
	f.hold = true;
	f.pieces = head;
	beat.timer = loop_timer_new(f.loop, on_beat, &beat);
	loop_timer_set(beat.timer, 50);
	ask(&f, (struct http_options){.piece = on_piece, .silence_ms = 500});
	assert_string_equal(f.why, "");
	assert_string_equal(f.body, "xxxxxx");
	loop_event_free(beat.timer);
	tear_down(&f);
}

/* ---- kept connections ---- */

#define ANSWER OK "Content-Length: 5\r\n\r\nhello"

enum after {
	GO_ON,
	CLOSE, /* the connection */
	RESET,
};

/* A server of several connections: each request gets the next answer of the script. */
struct keeping {
	struct fixture *f;
	struct event *accepted;
	int n_accepted, n_asked;
	struct {
		const char *answer; /* "": none */
		enum after after;
	} script[8];
	struct line {
		struct keeping *k;
		int fd;
		struct event *readable;
	} lines[8];
};

static void hang_up(struct line *line)
{
	loop_event_free(TAKE_PTR(line->readable));
	(void)close(TAKE_FD(line->fd));
}

static void on_line(void *userdata)
{
	const struct linger linger = {.l_onoff = 1, .l_linger = 0};
	struct line *line = userdata;
	struct keeping *k = line->k;
	char request[1024];
	const ssize_t n = read(line->fd, request, sizeof(request));
	const char *answer;

	if (n <= 0) {
		hang_up(line);
		return;
	}
	assert_memory_equal(request + n - 4, "\r\n\r\n", 4);
	answer = k->script[k->n_asked].answer;
	assert_non_null(answer);
	assert_int_equal(write(line->fd, answer, strlen(answer)), strlen(answer));
	if (k->script[k->n_asked].after == RESET)
		assert_int_equal(
			setsockopt(line->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
	if (k->script[k->n_asked++].after != GO_ON)
		hang_up(line);
}

static void on_keeping_accept(void *userdata)
{
	struct keeping *k = userdata;
	struct line *line = &k->lines[k->n_accepted++];

	line->k = k;
	line->fd = accept4(k->f->listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(line->fd >= 0);
	line->readable = loop_fd_new(k->f->loop, line->fd, on_line, line);
}

static void start_keeping(struct fixture *f, struct keeping *k)
{
	set_up(f);
	k->f = f;
	listen_raw(f);
	loop_event_free(TAKE_PTR(f->accepted));
	k->accepted = loop_fd_new(f->loop, f->listener, on_keeping_accept, k);
	f->keeper = http_keeper_new(f->loop);
}

static void stop_keeping(struct fixture *f, struct keeping *k)
{
	http_keeper_free(f->keeper);
	loop_event_free(k->accepted);
	for (int i = 0; i < k->n_accepted; i++)
		if (k->lines[i].readable)
			hang_up(&k->lines[i]);
	tear_down(f);
}

static void settle(struct fixture *f)
{
	for (int i = 0; i < 5; i++)
		(void)event_base_loop(loop_base(f->loop), EVLOOP_NONBLOCK);
}

/* A first request, and how many connections it takes to do a second one. */
static void test_kept(void **state)
{
	static const struct {
		const char *first, *second;
		enum after after_first, after_second;
		int n_connections, n_asked;
		const char *why;
	} rows[] = {
		{ANSWER, ANSWER, GO_ON, GO_ON, 1, 2, ""},
		{"HTTP/1.1 204 None\r\n\r\n", ANSWER, GO_ON, GO_ON, 1, 2, ""},
		{OK "Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n", ANSWER, GO_ON, GO_ON,
		 1, 2, ""},
		{"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", ANSWER, GO_ON, GO_ON, 1, 2, ""},
		{OK "Connection: keep-alive\r\nContent-Length: 0\r\n\r\n", ANSWER, GO_ON, GO_ON, 1,
		 2, ""},
		/* It says that it will close, or cannot say anything else. */
		{OK "Connection: Close\r\nContent-Length: 0\r\n\r\n", ANSWER, GO_ON, GO_ON, 2, 2,
		 ""},
		{OK "Connection: x, close\r\nContent-Length: 0\r\n\r\n", ANSWER, GO_ON, GO_ON, 2, 2,
		 ""},
		{"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", ANSWER, GO_ON, GO_ON, 2, 2, ""},
		{OK "\r\nto the end", ANSWER, CLOSE, GO_ON, 2, 2, ""},
		{ANSWER "more", ANSWER, GO_ON, GO_ON, 2, 2, ""},
		/* It closes while nobody looks, or when it is asked. */
		{ANSWER, ANSWER, CLOSE, GO_ON, 2, 2, ""},
		{ANSWER, ANSWER, RESET, GO_ON, 2, 2, ""},
		{ANSWER, "", GO_ON, CLOSE, 2, 3, ""},
		{ANSWER, "", GO_ON, RESET, 2, 3, ""},
		{ANSWER, "H", GO_ON, CLOSE, 1, 2,
		 "it closed the connection in the middle of its answer"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct keeping k = {.script = {{rows[i].first, rows[i].after_first},
					       {rows[i].second, rows[i].after_second},
					       {ANSWER, GO_ON}}};
		struct fixture f;

		start_keeping(&f, &k);
		ask(&f, (struct http_options){.timeout_ms = 5000});
		assert_string_equal(f.why, "");
		if (rows[i].after_first == GO_ON)
			settle(&f);
		ask(&f, (struct http_options){.timeout_ms = 5000});
		assert_string_equal(f.why, rows[i].why);
		assert_string_equal(f.body, *f.why ? "" : "hello");
		if (k.n_accepted != rows[i].n_connections || k.n_asked != rows[i].n_asked)
			fail_msg("row %zu: %d connections, %d requests", i, k.n_accepted,
				 k.n_asked);
		stop_keeping(&f, &k);
	}
}

/* The one in place of it is not replaced in turn. */
static void test_replaced_once(void **state)
{
	struct keeping k = {.script = {{ANSWER, GO_ON}, {"", CLOSE}, {"", CLOSE}}};
	struct fixture f;

	(void)state;
	start_keeping(&f, &k);
	ask(&f, (struct http_options){.timeout_ms = 5000});
	ask(&f, (struct http_options){.timeout_ms = 5000});
	assert_string_equal(f.why, "it closed the connection without an answer");
	assert_int_equal(k.n_accepted, 2);
	stop_keeping(&f, &k);
}

static void on_other_done(const struct http_answer *answer, const char *why, void *userdata)
{
	assert_non_null(answer);
	assert_null(why);
	++*(int *)userdata;
}

/* Two at once take two, of which one is kept; a drop ends it, also when it comes later. */
static void test_keeper(void **state)
{
	struct keeping k = {.script = {{ANSWER, GO_ON},
				       {ANSWER, GO_ON},
				       {ANSWER, GO_ON},
				       {ANSWER, GO_ON},
				       {ANSWER, GO_ON},
				       {ANSWER, GO_ON}}};
	struct http_options other = {.method = "GET", .target = "/", .done = on_other_done};
	struct fixture f;
	int n_other = 0;

	(void)state;
	start_keeping(&f, &k);
	other.endpoint = &f.endpoint;
	other.keeper = f.keeper;
	other.userdata = &n_other;
	(void)http_request_new(f.loop, &other);
	ask(&f, (struct http_options){.timeout_ms = 5000});
	while (!n_other)
		(void)event_base_loop(loop_base(f.loop), EVLOOP_ONCE);
	assert_int_equal(k.n_accepted, 2);
	ask(&f, (struct http_options){.timeout_ms = 5000});
	assert_int_equal(k.n_accepted, 2);
	http_keeper_drop(f.keeper);
	ask(&f, (struct http_options){.timeout_ms = 5000});
	assert_int_equal(k.n_accepted, 3);
	start_request(&f, (struct http_options){.timeout_ms = 5000});
	http_keeper_drop(f.keeper);
	loop_run(f.loop);
	assert_int_equal(k.n_accepted, 3);
	ask(&f, (struct http_options){.timeout_ms = 5000});
	assert_int_equal(k.n_accepted, 4);
	stop_keeping(&f, &k);
}

static void test_basic(void **state)
{
	static const char *const rows[][3] = {
		{"Aladdin", "open sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}, /* RFC 7617 */
		{"test", "123\xc2\xa3", "Basic dGVzdDoxMjPCow=="},
		{"a", "b", "Basic YTpi"},
		{"a", "bc", "Basic YTpiYw=="},
		{"a", "bcd", "Basic YTpiY2Q="},
		{"", "", "Basic Og=="},
		{"\xff\xff", "\xff\xff\xff", "Basic //86////"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_free_ char *text = http_basic(rows[i][0], rows[i][1]);

		assert_string_equal(text, rows[i][2]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_evhttp),        cmocka_unit_test(test_slow),
		cmocka_unit_test(test_raw),           cmocka_unit_test(test_refused),
		cmocka_unit_test(test_cancel),        cmocka_unit_test(test_basic),
		cmocka_unit_test(test_pieces),        cmocka_unit_test(test_silence),
		cmocka_unit_test(test_heartbeat),     cmocka_unit_test(test_kept),
		cmocka_unit_test(test_replaced_once), cmocka_unit_test(test_keeper),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
