/* SPDX-License-Identifier: Apache-2.0 */
/* test_server.c - the HTTP server, asked by plain sockets on the same loop */
#include "io/server.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

#include <cmocka.h>

struct fixture {
	struct loop *loop;
	struct server *server;
	uint16_t port;
	char answer[4096]; /* all that the client got until the server closed */
	size_t n;
	int fd;
};

static const struct ip localhost = {.family = IP_V4, .b = {127, 0, 0, 1}};

static int serve_health(char *text, size_t size, void *userdata)
{
	(void)snprintf(text, size, "%s\n", (const char *)userdata);
	return 503;
}

/* A port that was free a moment ago. */
static uint16_t free_port(void)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	_cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t len = sizeof(sin);

	assert_int_equal(bind(fd, (const struct sockaddr *)&sin, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
	return ntohs(sin.sin_port);
}

static void set_up(struct fixture *f, const struct ip *ip)
{
	static char text[] = "not ready";
	int r = -EADDRINUSE;

	*f = (struct fixture){.loop = loop_new(), .fd = -1};
	for (int i = 0; i < 10 && r == -EADDRINUSE; i++) {
		f->port = free_port();
		r = server_new(f->loop, ip, f->port, &f->server, NULL);
	}
	assert_int_equal(r, 0);
	server_route(f->server, "/readyz", serve_health, text);
}

static void tear_down(struct fixture *f)
{
	server_free(f->server);
	loop_free(f->loop);
}

static int connect_to(uint16_t port)
{
	struct sockaddr_in sin = {.sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (const struct sockaddr *)&sin, sizeof(sin)), 0);
	return fd;
}

static void on_answer(void *userdata)
{
	struct fixture *f = userdata;
	ssize_t n = read(f->fd, f->answer + f->n, sizeof(f->answer) - 1 - f->n);

	if (n > 0)
		f->n += (size_t)n;
	else
		loop_exit(f->loop);
}

static const char *ask(struct fixture *f, const char *request)
{
	_cleanup_close_ int fd = connect_to(f->port);
	struct event *event;

	f->n = 0;
	memset(f->answer, 0, sizeof(f->answer));
	f->fd = fd;
	assert_int_equal(write(fd, request, strlen(request)), strlen(request));
	event = loop_fd_new(f->loop, fd, on_answer, f);
	loop_run(f->loop);
	loop_event_free(event);
	return f->answer;
}

static const char *body(const char *answer)
{
	const char *end = strstr(answer, "\r\n\r\n");

	assert_non_null(end);
	return end + 4;
}

static void test_answers(void **state)
{
	static const struct {
		const char *request, *status, *body;
	} rows[] = {
		{"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 503 ", "not ready\n"},
		{"GET /readyz HTTP/1.0\r\n\r\n", "HTTP/1.0 503 ", "not ready\n"},
		{"GET /readyz?verbose=1 HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 503 ",
		 "not ready\n"},
		{"HEAD /readyz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 503 ", ""},
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 ", "not found\n"},
		{"GET /readyz/ HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 ", "not found\n"},
		{"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n",
		 "HTTP/1.1 503 ", "not ready\n"},
		{"POST /readyz HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na=b",
		 "HTTP/1.1 405 ", "only GET and HEAD\n"},
		{"DELETE /readyz HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 405 ",
		 "only GET and HEAD\n"},
	};
	struct fixture f;

	(void)state;
	set_up(&f, &localhost);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *answer = ask(&f, rows[i].request);

		if (strncmp(answer, rows[i].status, strlen(rows[i].status)) != 0)
			fail_msg("%s got %s", rows[i].request, answer);
		assert_string_equal(body(answer), rows[i].body);
	}
	assert_non_null(strstr(ask(&f, rows[0].request), "Content-Length: 10\r\n"));
	assert_non_null(strstr(ask(&f, rows[3].request), "Content-Length: 10\r\n"));
	tear_down(&f);
}

static void test_nonsense(void **state)
{
	_cleanup_free_ char *long_header = mem_alloc(20000, 1);
	struct fixture f;

	(void)state;
	set_up(&f, &localhost);
	memset(long_header, 'a', 19999);
	memcpy(long_header, "GET /readyz HTTP/1.1\r\nX: ", 25);
	assert_memory_equal(ask(&f, "nonsense\r\n\r\n"), "HTTP/1.", 7);
	assert_null(strstr(f.answer, "not ready"));
	(void)ask(&f, "POST /readyz HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n");
	assert_null(strstr(f.answer, "not ready"));
	(void)ask(&f, long_header);
	assert_null(strstr(f.answer, "not ready"));
	/* None of it was its last. */
	assert_string_equal(body(ask(&f, "GET /readyz HTTP/1.0\r\n\r\n")), "not ready\n");
	tear_down(&f);
}

static void test_any_address(void **state)
{
	const struct ip any = {.family = IP_V4};
	struct fixture f;

	(void)state;
	set_up(&f, &any);
	assert_string_equal(body(ask(&f, "GET /readyz HTTP/1.0\r\n\r\n")), "not ready\n");
	tear_down(&f);
}

static void exit_loop(void *userdata)
{
	loop_exit(userdata);
}

/* More connections than are let in: descriptors stay free, and so does the way in
 * once the flood is over. */
static void test_flood(void **state)
{
	struct event *pass;
	struct fixture f;
	int fds[240], probe; /* the rest waits in the backlog, of 128 */

	(void)state;
	set_up(&f, &localhost);
	pass = loop_timer_new(f.loop, exit_loop, f.loop);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		fds[i] = connect_to(f.port);
		if (i % 40 == 39) {
			loop_timer_set(pass, 0);
			loop_run(f.loop);
		}
	}
	probe = dup(fds[0]);
	assert_in_range(probe, 256, 256 + 120);
	(void)close(probe);
	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		(void)close(fds[i]);
	assert_string_equal(body(ask(&f, "GET /readyz HTTP/1.0\r\n\r\n")), "not ready\n");
	loop_event_free(pass);
	tear_down(&f);
}

static void test_busy_port(void **state)
{
	struct server *second = NULL;
	struct fixture f;
	struct err err;
	char want[80];

	(void)state;
	set_up(&f, &localhost);
	assert_int_equal(server_new(f.loop, &localhost, f.port, &second, &err), -EADDRINUSE);
	(void)snprintf(want, sizeof(want), "cannot listen on 127.0.0.1:%u: Address already in use",
		       f.port);
	assert_string_equal(err.text, want);
	assert_null(second);
	tear_down(&f);
	server_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers),     cmocka_unit_test(test_nonsense),
		cmocka_unit_test(test_any_address), cmocka_unit_test(test_flood),
		cmocka_unit_test(test_busy_port),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
