/* SPDX-License-Identifier: Apache-2.0 */
/* test_grpc.c - messages out of bytes in any pieces, and calls against a real HTTP/2 server */
#include "io/grpc.h"

#include "base/err.h"
#include "h2_server.h"

#include <errno.h>
#include <stdio.h>

/* -- the splitter ---------------------------------------------------------------------- */

static const char *const messages[] = {"", "a", "", "", "messages", "x", ""};

struct seen {
	size_t n;
	bool gone, leave; /* leave: gone after the first one */
};

static void on_split(const uint8_t *message, size_t len, void *userdata)
{
	struct seen *seen = userdata;

	assert_true(seen->n < ARRAY_SIZE(messages));
	assert_int_equal(len, strlen(messages[seen->n]));
	if (len)
		assert_memory_equal(message, messages[seen->n], len);
	seen->n++;
	seen->gone = seen->leave;
}

/* In memory of exactly its length, so that a sanitizer sees every byte beyond. */
static int feed(struct grpc_splitter *s, const uint8_t *data, size_t len, grpc_message_fn fn,
		struct seen *seen)
{
	_cleanup_free_ uint8_t *copy = malloc(len ? len : 1);

	assert_non_null(copy);
	memcpy(copy, data, len);
	return grpc_splitter_feed(s, copy, len, fn, seen, &seen->gone);
}

static size_t all_messages(uint8_t *buf)
{
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(messages); i++) {
		size_t len = strlen(messages[i]);

		grpc_frame(buf + n, len);
		memcpy(buf + n + 5, messages[i], len);
		n += 5 + len;
	}
	return n;
}

static void test_split_everywhere(void **state)
{
	uint8_t stream[128];
	size_t len = all_messages(stream);

	(void)state;
	for (size_t a = 0; a <= len; a++)
		for (size_t b = a; b <= len; b++) {
			struct grpc_splitter s = {0};
			struct seen seen = {0};

			assert_int_equal(feed(&s, stream, a, on_split, &seen), 0);
			assert_int_equal(feed(&s, stream + a, b - a, on_split, &seen), 0);
			assert_int_equal(feed(&s, stream + b, len - b, on_split, &seen), 0);
			assert_int_equal(seen.n, ARRAY_SIZE(messages));
			assert_false(grpc_splitter_is_partial(&s));
			grpc_splitter_done(&s);
		}
}

static void test_split_partial(void **state)
{
	uint8_t stream[128];
	size_t len = all_messages(stream);

	(void)state;
	for (size_t cut = 0; cut <= len; cut++) {
		struct grpc_splitter s = {0};
		struct seen seen = {0};
		size_t whole = 0, n = 0;

		while (n < ARRAY_SIZE(messages) && whole + 5 + strlen(messages[n]) <= cut)
			whole += 5 + strlen(messages[n++]);
		for (size_t i = 0; i < cut; i++)
			assert_int_equal(feed(&s, stream + i, 1, on_split, &seen), 0);
		assert_int_equal(seen.n, n);
		assert_int_equal(grpc_splitter_is_partial(&s), cut != whole);
		grpc_splitter_done(&s);
	}
}

static void test_split_gone(void **state)
{
	struct seen seen = {.leave = true};
	struct grpc_splitter s = {0};
	uint8_t stream[128];
	size_t len = all_messages(stream);

	(void)state;
	assert_int_equal(feed(&s, stream, len, on_split, &seen), 0);
	assert_int_equal(seen.n, 1);
	grpc_splitter_done(&s);
}

static void test_split_faults(void **state)
{
	static const struct {
		uint8_t head[5];
		int code;
	} rows[] = {
		{{1, 0, 0, 0, 1}, -EPROTO},
		{{0xff, 0, 0, 0, 0}, -EPROTO},
		{{'<', 'h', 't', 'm', 'l'}, -EPROTO},
		{{0, 4, 0, 0, 1}, -EMSGSIZE},
		{{0, 0xff, 0xff, 0xff, 0xff}, -EMSGSIZE},
		{{0, 4, 0, 0, 0}, 0}, /* the longest */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct grpc_splitter s = {0};
		struct seen seen = {0};

		assert_int_equal(feed(&s, rows[i].head, 4, on_split, &seen), 0);
		assert_int_equal(feed(&s, rows[i].head + 4, 1, on_split, &seen), rows[i].code);
		assert_int_equal(seen.n, 0);
		/* A length alone takes no memory. */
		assert_null(s.message);
		grpc_splitter_done(&s);
	}
}

/* -- calls ----------------------------------------------------------------------------- */

struct fixture;

enum in_callback { NOTHING, CANCEL, FREE, CALL };

struct call {
	struct fixture *f;
	struct grpc_call *grpc;
	enum in_callback in_message, in_done;
	size_t n_messages, bytes;
	uint8_t first; /* of the last message */
	int n_done, code;
	char text[ERR_TEXT_MAX];
};

struct fixture {
	struct loop *loop;
	struct h2_server server;
	struct h2 *h2;
	struct call call[20];
};

static struct fixture *current;

static void on_tick(void *userdata)
{
	loop_exit(userdata);
}

static void turn(void)
{
	struct event *tick = loop_timer_new(current->loop, on_tick, current->loop);

	loop_timer_set(tick, 1);
	loop_run(current->loop);
	loop_event_free(tick);
}

#include "wait.h"

static void start_with(struct call *call, const char *path, int64_t timeout_ms, const void *body,
		       size_t len);

static void act(struct call *call, enum in_callback what)
{
	struct fixture *f = call->f;

	switch (what) {
	case NOTHING:
		break;
	case CANCEL:
	case FREE: /* calls go before their connection */
		for (size_t i = 0; i < ARRAY_SIZE(f->call); i++)
			grpc_call_cancel(TAKE_PTR(f->call[i].grpc));
		if (what == FREE)
			h2_free(TAKE_PTR(f->h2));
		break;
	case CALL:
		start_with(&f->call[19], "/ok", 5000, "x", 1);
		break;
	}
}

static void on_message(const uint8_t *message, size_t len, void *userdata)
{
	struct call *call = userdata;

	assert_non_null(call->grpc);
	call->n_messages++;
	call->bytes += len;
	call->first = len ? message[0] : 0;
	for (size_t i = 0; i < len; i++)
		assert_int_equal(message[i], call->first);
	act(call, call->in_message);
}

static void on_done(int code, const char *text, void *userdata)
{
	struct call *call = userdata;

	assert_non_null(call->grpc);
	call->grpc = NULL;
	call->n_done++;
	call->code = code;
	(void)snprintf(call->text, sizeof(call->text), "%s", text);
	act(call, call->in_done);
}

static void start_with(struct call *call, const char *path, int64_t timeout_ms, const void *body,
		       size_t len)
{
	const struct h2_header metadata[] = {{"hasleader", "true"}};
	const struct grpc_events events = {on_message, on_done, call};
	const struct grpc_request request = {.path = path,
					     .authority = "etcd.example:2379",
					     .metadata = metadata,
					     .n_metadata = 1,
					     .body = body,
					     .len = len,
					     .timeout_ms = timeout_ms};

	call->f = current;
	call->grpc = grpc_call_new(current->loop, current->h2, &request, &events);
	assert_non_null(call->grpc);
	assert_int_equal(call->n_done, 0);
}

static void start(struct call *call, const char *path)
{
	start_with(call, path, 10000, "request", 7);
}

#define FRAME1 "\0\0\0\0\3aaa"
#define FRAME2                                                                                     \
	FRAME1 "\0\0\0\0\0"                                                                        \
	       "\0\0\0\0\2bb"
#define HTML       "<html><body>502 Bad Gateway</body></html>"
#define BODY(text) .body = (text), .len = sizeof(text) - 1

static uint8_t large[10 << 20];

static const struct h2_answer answers[] = {
	{.path = "/ok", .act = H2_ANSWER, .status = "0", .message = "", BODY(FRAME1)},
	{.path = "/three", .act = H2_ANSWER, .status = "0", BODY(FRAME2)},
	{.path = "/large", .act = H2_ANSWER, .status = "0", .body = large, .len = sizeof(large)},
	{.path = "/refused",
	 .act = H2_ANSWER,
	 .status = "7",
	 .message = "etcdserver: permission denied"},
	{.path = "/refused-late",
	 .act = H2_ANSWER,
	 .status = "14",
	 .message = "no leader",
	 BODY(FRAME1)},
	{.path = "/headers-only",
	 .act = H2_NO_BODY,
	 .status = "3",
	 .message = "user%20name%20is empty%21"},
	{.path = "/percent",
	 .act = H2_NO_BODY,
	 .status = "3",
	 .message = "%41%zz%4%%2B% 1%+1%0ax%"},
	{.path = "/no-status", .act = H2_CUT, BODY(FRAME1)},
	{.path = "/nothing", .act = H2_CUT, BODY("")},
	{.path = "/odd-status", .act = H2_NO_BODY, .status = "ok"},
	{.path = "/empty-status", .act = H2_NO_BODY, .status = ""},
	{.path = "/negative-status", .act = H2_NO_BODY, .status = "-1"},
	{.path = "/large-status", .act = H2_NO_BODY, .status = "4294967296"},
	{.path = "/cut", .act = H2_ANSWER, .status = "0", BODY("\0\0\0\0\3aa")},
	{.path = "/cut-head", .act = H2_ANSWER, .status = "0", BODY(FRAME1 "\0\0")},
	{.path = "/compressed", .act = H2_HANG, BODY("\1\0\0\0\1x")},
	{.path = "/too-large", .act = H2_HANG, BODY("\0\xff\xff\xff\xff")},
	{.path = "/502", .act = H2_CUT, .http_status = "502", .type = "text/html", BODY(HTML)},
	{.path = "/404",
	 .act = H2_CUT,
	 .http_status = "404",
	 .type = "text/plain",
	 BODY("404 page not found")},
	{.path = "/html", .act = H2_CUT, .type = "text/html", BODY(HTML)},
	{.path = "/reset", .act = H2_RESET},
	{.path = "/reset-late", .act = H2_RESET_LATE, BODY(FRAME1)},
	{.path = "/goaway", .act = H2_GOAWAY},
	{.path = "/close", .act = H2_CLOSE},
	{.path = "/close-late", .act = H2_CLOSE_LATE, BODY(FRAME1)},
	{.path = "/silent", .act = H2_SILENT},
	{.path = "/watch", .act = H2_HANG, BODY(FRAME2)},
	{.path = NULL},
};

static void set_up_limited(struct fixture *f, uint32_t max_streams)
{
	struct bufferevent *bev;

	memset(f, 0, sizeof(*f));
	current = f;
	f->loop = loop_new();
	bev = h2_server_start(&f->server, f->loop, answers, max_streams);
	f->h2 = h2_new(f->loop, bev);
}

static void set_up(struct fixture *f)
{
	set_up_limited(f, 100);
}

static void tear_down(struct fixture *f)
{
	for (size_t i = 0; i < ARRAY_SIZE(f->call); i++)
		grpc_call_cancel(f->call[i].grpc);
	h2_free(f->h2);
	h2_server_stop(&f->server);
	loop_free(f->loop);
}

static void test_outcomes(void **state)
{
	static const struct {
		const char *path;
		int code;
		const char *text;
		size_t n_messages;
	} rows[] = {
		{"/ok", GRPC_OK, "", 1},
		{"/three", GRPC_OK, "", 3},
		{"/refused", GRPC_PERMISSION_DENIED, "etcdserver: permission denied", 0},
		{"/refused-late", GRPC_UNAVAILABLE, "no leader", 1},
		{"/headers-only", GRPC_INVALID_ARGUMENT, "user name is empty!", 0},
		{"/percent", GRPC_INVALID_ARGUMENT, "A%zz%4%+% 1%+1 x%", 0},
		{"/no-status", GRPC_UNAVAILABLE, "the call has ended without a status", 1},
		{"/nothing", GRPC_UNAVAILABLE, "the call has ended without a status", 0},
		{"/odd-status", GRPC_UNKNOWN, "", 0},
		{"/empty-status", GRPC_UNKNOWN, "", 0},
		{"/negative-status", GRPC_UNKNOWN, "", 0},
		{"/large-status", GRPC_UNKNOWN, "", 0},
		{"/cut", GRPC_UNAVAILABLE, "an answer was cut off", 0},
		{"/cut-head", GRPC_UNAVAILABLE, "an answer was cut off", 1},
		{"/compressed", GRPC_UNAVAILABLE, "an answer is compressed", 0},
		{"/too-large", GRPC_UNAVAILABLE, "an answer is too large", 0},
		{"/502", GRPC_UNAVAILABLE, "HTTP status 502 instead of gRPC's", 0},
		{"/404", GRPC_UNAVAILABLE, "HTTP status 404 instead of gRPC's", 0},
		{"/html", GRPC_UNAVAILABLE, "the answer is text/html instead of gRPC", 0},
		{"/reset", GRPC_UNAVAILABLE, "the server has broken off the call (INTERNAL_ERROR)",
		 0},
		{"/reset-late", GRPC_UNAVAILABLE,
		 "the server has broken off the call (INTERNAL_ERROR)", 1},
		{"/close", GRPC_UNAVAILABLE, "the server has closed the connection", 0},
		{"/close-late", GRPC_UNAVAILABLE, "the server has closed the connection", 1},
		{"/goaway", GRPC_UNAVAILABLE, "the server has broken off the call (REFUSED_STREAM)",
		 0},
	};

	(void)state;
	/* In the pieces that come, and one byte at a time. */
	for (size_t i = 0; i < 2 * ARRAY_SIZE(rows); i++) {
		size_t row = i / 2;
		struct fixture f;
		struct bufferevent *bev;

		memset(&f, 0, sizeof(f));
		current = &f;
		f.loop = loop_new();
		bev = h2_server_start(&f.server, f.loop, answers, 100);
		if (i % 2)
			assert_int_equal(bufferevent_set_max_single_read(bev, 1), 0);
		f.h2 = h2_new(f.loop, bev);
		start(&f.call[0], rows[row].path);
		WAIT_MS(5000, f.call[0].n_done);
		if (f.call[0].code != rows[row].code || strcmp(f.call[0].text, rows[row].text) != 0)
			fail_msg("%s: code %d: %s", rows[row].path, f.call[0].code, f.call[0].text);
		assert_int_equal(f.call[0].n_messages, rows[row].n_messages);
		turn();
		assert_int_equal(f.call[0].n_done, 1);
		tear_down(&f);
	}
}

static void test_request(void **state)
{
	_cleanup_free_ uint8_t *body = calloc(1, 3 << 20);
	struct fixture f;

	(void)state;
	set_up(&f);
	start(&f.call[0], "/ok");
	WAIT_MS(5000, f.call[0].n_done);
	assert_int_equal(f.server.request_len, 7);
	assert_memory_equal(f.server.request, "request", 7);
	/* Larger than the server's window, and an empty one. */
	start_with(&f.call[1], "/ok", 10000, body, 3 << 20);
	WAIT_MS(10000, f.call[1].n_done);
	assert_int_equal(f.call[1].code, GRPC_OK);
	assert_int_equal(f.server.request_len, 7 + (3 << 20));
	start_with(&f.call[2], "/ok", 10000, body, 0);
	WAIT_MS(5000, f.call[2].n_done);
	assert_int_equal(f.call[2].code, GRPC_OK);
	tear_down(&f);
}

/* Several windows long. */
static void test_large_answer(void **state)
{
	struct fixture f;

	(void)state;
	memset(large, 'z', sizeof(large));
	grpc_frame(large, sizeof(large) - 5);
	set_up(&f);
	for (size_t i = 0; i < 3; i++)
		start(&f.call[i], "/large");
	for (size_t i = 0; i < 3; i++) {
		WAIT_MS(20000, f.call[i].n_done);
		assert_int_equal(f.call[i].code, GRPC_OK);
		assert_int_equal(f.call[i].n_messages, 1);
		assert_int_equal(f.call[i].bytes, sizeof(large) - 5);
	}
	/* The window is whole again. */
	start(&f.call[3], "/large");
	WAIT_MS(20000, f.call[3].n_done);
	assert_int_equal(f.call[3].code, GRPC_OK);
	tear_down(&f);
}

static void test_many(void **state)
{
	static const uint32_t limits[] = {100, 1};

	(void)state;
	/* At once, and queued because the server wants one after the other. */
	for (size_t limit = 0; limit < ARRAY_SIZE(limits); limit++) {
		struct fixture f;

		set_up_limited(&f, limits[limit]);
		start(&f.call[18], "/ok"); /* thereafter the limit is known */
		WAIT_MS(5000, f.call[18].n_done);
		for (size_t i = 0; i < 18; i++)
			start(&f.call[i], i % 3 ? "/three" : "/refused");
		for (size_t i = 0; i < 18; i++) {
			WAIT_MS(5000, f.call[i].n_done);
			assert_int_equal(f.call[i].code, i % 3 ? 0 : GRPC_PERMISSION_DENIED);
			assert_int_equal(f.call[i].n_messages, i % 3 ? 3 : 0);
		}
		assert_int_equal(f.server.n_requests, 19);
		tear_down(&f);
	}
}

static void test_timeout(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	start(&f.call[0], "/watch");
	start_with(&f.call[1], "/silent", 100, "x", 1);
	start_with(&f.call[2], "/watch", 1500, "x", 1);
	WAIT_MS(5000, f.call[2].n_done);
	assert_int_equal(f.call[1].code, GRPC_DEADLINE_EXCEEDED);
	assert_string_equal(f.call[1].text, "no answer within 0.1 s");
	assert_int_equal(f.call[2].code, GRPC_DEADLINE_EXCEEDED);
	assert_string_equal(f.call[2].text, "no answer within 1.5 s");
	assert_int_equal(f.call[2].n_messages, 3);
	/* The connection lives, and so does the call without a timeout. */
	start(&f.call[3], "/ok");
	WAIT_MS(5000, f.call[3].n_done);
	assert_int_equal(f.call[3].code, GRPC_OK);
	assert_int_equal(f.call[0].n_done, 0);
	tear_down(&f);
}

/* Everything that a callback may do, in every place where it may do it. */
static void test_inside_callbacks(void **state)
{
	static const char *const paths[] = {"/three",  "/refused", "/watch", "/reset-late",
					    "/goaway", "/close",   "/large", "/headers-only",
					    "/silent", "/502",     "/cut",   "/compressed"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		for (int message = NOTHING; message <= CALL; message++)
			for (int done = NOTHING; done <= CALL; done++) {
				struct fixture f;
				bool ends = strcmp(paths[i], "/watch") != 0;

				if (message == CALL && done == CALL)
					continue;
				set_up(&f);
				start(&f.call[1], "/silent");
				start_with(&f.call[0], paths[i], 50, "x", 1);
				start(&f.call[2], "/watch");
				f.call[0].in_message = (enum in_callback)message;
				f.call[0].in_done = (enum in_callback)done;
				if (message == CALL && !strcmp(paths[i], "/three"))
					f.call[0].in_message = NOTHING;
				if (message == CALL && !strcmp(paths[i], "/watch"))
					f.call[0].in_message = NOTHING;
				WAIT_MS(5000, f.call[0].n_done || !f.call[0].grpc);
				if (ends && !f.call[0].n_messages)
					assert_int_equal(f.call[0].n_done, 1);
				turn();
				if (f.call[19].f)
					WAIT_MS(5000, f.call[19].n_done || !f.call[19].grpc);
				assert_in_range(f.call[0].n_done, 0, 1);
				tear_down(&f);
			}
}

/* A connection that is lost answers every call, and takes no more. */
static void test_lost(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	start(&f.call[0], "/silent");
	start(&f.call[1], "/watch");
	WAIT_MS(5000, f.call[1].n_messages == 3);
	assert_true(h2_is_usable(f.h2));
	start(&f.call[2], "/close");
	for (size_t i = 0; i < 3; i++) {
		WAIT_MS(5000, f.call[i].n_done);
		assert_int_equal(f.call[i].code, GRPC_UNAVAILABLE);
		assert_string_equal(f.call[i].text, "the server has closed the connection");
	}
	assert_false(h2_is_usable(f.h2));
	start(&f.call[3], "/ok");
	WAIT_MS(5000, f.call[3].n_done);
	assert_int_equal(f.call[3].code, GRPC_UNAVAILABLE);
	assert_string_equal(f.call[3].text, "the connection is lost");
	tear_down(&f);
}

/* What runs goes on; what is new is not taken. */
static void test_goaway(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	start(&f.call[0], "/watch");
	WAIT_MS(5000, f.call[0].n_messages == 3);
	start(&f.call[1], "/goaway");
	WAIT_MS(5000, f.call[1].n_done);
	assert_int_equal(f.call[0].n_done, 0);
	assert_false(h2_is_usable(f.h2));
	start(&f.call[2], "/ok");
	WAIT_MS(5000, f.call[2].n_done);
	assert_int_equal(f.call[2].code, GRPC_UNAVAILABLE);
	assert_int_equal(f.call[0].n_done, 0);
	tear_down(&f);
}

static void test_cancelled_before_sent(void **state)
{
	struct fixture f;

	(void)state;
	set_up_limited(&f, 1);
	start(&f.call[0], "/ok");
	WAIT_MS(5000, f.call[0].n_done);
	start(&f.call[1], "/silent");
	for (size_t i = 2; i < 6; i++)
		start(&f.call[i], "/ok");
	grpc_call_cancel(TAKE_PTR(f.call[3].grpc));
	turn();
	grpc_call_cancel(TAKE_PTR(f.call[1].grpc));
	WAIT_MS(5000, f.call[2].n_done && f.call[4].n_done && f.call[5].n_done);
	assert_int_equal(f.call[3].n_done, 0);
	assert_int_equal(f.server.n_requests, 5);
	tear_down(&f);
}

/* -- servers that are none ------------------------------------------------------------- */

struct stranger {
	const char *says; /* NULL: closes at once */
	const char *text;
};

static void test_strangers(void **state)
{
	static const struct stranger rows[] = {
		{NULL, "the server has closed the connection at once (does it want https://?)"},
		{"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
		 "the server does not speak HTTP/2 (or wants https://)"},
		{"\x15\x03\x01",
		 "the server has closed the connection at once (does it want https://?)"},
		{"SSH-2.0-OpenSSH_9.2\r\n", "the server does not speak HTTP/2 (or wants https://)"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct fixture f;
		int fds[2];

		memset(&f, 0, sizeof(f));
		current = &f;
		f.loop = loop_new();
		assert_int_equal(
			socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
		f.h2 = h2_new(f.loop, bufferevent_socket_new(loop_base(f.loop), fds[0],
							     BEV_OPT_CLOSE_ON_FREE));
		start(&f.call[0], "/ok");
		turn();
		if (rows[i].says)
			assert_int_equal(write(fds[1], rows[i].says, strlen(rows[i].says)),
					 strlen(rows[i].says));
		(void)shutdown(fds[1], SHUT_WR);
		WAIT_MS(5000, f.call[0].n_done);
		assert_int_equal(f.call[0].code, GRPC_UNAVAILABLE);
		assert_string_equal(f.call[0].text, rows[i].text);
		h2_free(f.h2);
		(void)close(fds[1]);
		loop_free(f.loop);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_split_everywhere),
		cmocka_unit_test(test_split_partial),
		cmocka_unit_test(test_split_gone),
		cmocka_unit_test(test_split_faults),
		cmocka_unit_test(test_outcomes),
		cmocka_unit_test(test_request),
		cmocka_unit_test(test_large_answer),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_timeout),
		cmocka_unit_test(test_inside_callbacks),
		cmocka_unit_test(test_lost),
		cmocka_unit_test(test_goaway),
		cmocka_unit_test(test_cancelled_before_sent),
		cmocka_unit_test(test_strangers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
