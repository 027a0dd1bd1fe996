/* SPDX-License-Identifier: Apache-2.0 */
/* test_dial.c - endpoints, and connections to sockets of this host */
#include "io/dial.h"

#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/bufferevent.h>
#include <event2/dns.h>
#include <event2/dns_struct.h>
#include <event2/event.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>

#include <cmocka.h>

/* -- endpoints ------------------------------------------------------------------------- */

static void test_endpoint(void **state)
{
	static const struct {
		const char *url, *host;
		uint16_t port;
		bool tls;
		const char *text; /* NULL: as the URL */
	} rows[] = {
		{"http://10.0.0.1:2379", "10.0.0.1", 2379, false, NULL},
		{"http://10.0.0.1", "10.0.0.1", 4001, false, NULL},
		{"http://10.0.0.1/", "10.0.0.1", 4001, false, "http://10.0.0.1"},
		{"http://10.0.0.1:1/", "10.0.0.1", 1, false, "http://10.0.0.1:1"},
		{"https://[fd00::1]:65535", "fd00::1", 65535, true, NULL},
		{"https://[fd00::1]", "fd00::1", 4001, true, NULL},
		{"HTTPS://etcd.example", "etcd.example", 4001, true, NULL},
		{"http://etcd-0.etcd_x.example.:80", "etcd-0.etcd_x.example.", 80, false, NULL},
		{"http://localhost:0080", "localhost", 80, false, NULL},
		{"http://1password.example", "1password.example", 4001, false, NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct endpoint endpoint;
		struct err err = {""};

		if (endpoint_parse(rows[i].url, 4001, &endpoint, &err) < 0)
			fail_msg("%s: %s", rows[i].url, err.text);
		assert_string_equal(endpoint.host, rows[i].host);
		assert_int_equal(endpoint.port, rows[i].port);
		assert_int_equal(endpoint.tls, rows[i].tls);
		assert_string_equal(endpoint.text, rows[i].text ? rows[i].text : rows[i].url);
	}
}

static void test_endpoint_faults(void **state)
{
	static const struct {
		const char *url, *says;
	} rows[] = {
		{"", "'' does not begin with http:// or https://"},
		{"10.0.0.1:2379", "'10.0.0.1:2379' does not begin with http:// or https://"},
		{"unix:///run/etcd", "'unix:///run/etcd' does not begin with"},
		{"httpss://a", "does not begin with"},
		{" http://a", "does not begin with"},
		{"http:/a", "does not begin with"},
		{"http://", "'http://': the host is missing"},
		{"http:///", "the host is missing"},
		{"http://:2379", "the host is missing"},
		{"http://[]:2379", "the host is missing"},
		{"http://a:", "there is a colon but no port"},
		{"http://a:/", "there is a colon but no port"},
		{"http://a:x", "the port is not a number"},
		{"http://a:+1", "the port is not a number"},
		{"http://a:1 ", "the port is not a number"},
		{"http://a:0", "port 0"},
		{"http://a:65536", "the port is above 65535"},
		{"http://a:99999999999999999999", "the port is above 65535"},
		{"http://fd00::1", "an IPv6 address stands in brackets"},
		{"http://[fd00::1", "the ] behind the address is missing"},
		{"http://[fd00::1]2379", "only a port may follow the ]"},
		{"http://[10.0.0.1]", "what is in brackets is no IPv6 address"},
		{"http://[fe80::1%25eth0]", "what is in brackets is no IPv6 address"},
		{"http://10.0.0", "neither an address nor a name"},
		{"http://10.0.0.256:2379", "neither an address nor a name"},
		{"http://a..b", "neither an address nor a name"},
		{"http://-a", "neither an address nor a name"},
		{"http://.", "neither an address nor a name"},
		{"http://a b", "neither an address nor a name"},
		{"http://a\nb", "'http://a b': the host is neither an address nor a name"},
		{"http://a,http://b", "neither an address nor a name"},
		{"http://h\xc3\xb6st", "neither an address nor a name"},
		{"http://a/v3", "a path does not belong into it"},
		{"http://a//", "a path does not belong into it"},
		{"http://a?b", "a query does not belong into it"},
		{"http://a:1#b", "a fragment does not belong into it"},
		{"http://root:secret@a:1", "'http://***@a:1': a user name and password"},
		{"http://root:se/secret@a:1", "'http://***@a:1': a user name and password"},
		{"http://root:se@secret@a:1", "'http://***@a:1': a user name and password"},
		{"root:secret@a:1", "'***@a:1' does not begin with"},
		{"root:se://secret@a:1", "'***@a:1' does not begin with"},
		{"ftp://root:secret@a:1", "'ftp://***@a:1' does not begin with"},
		{"http://"
		 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.b",
		 "neither an address nor a name"},
	};
	char url[600];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct endpoint endpoint = {.port = 7};
		struct err err = {""};

		assert_int_equal(endpoint_parse(rows[i].url, 4001, &endpoint, &err), -EINVAL);
		if (!strstr(err.text, rows[i].says))
			fail_msg("%s: says: %s", rows[i].url, err.text);
		assert_null(strstr(err.text, "secret"));
		assert_int_equal(endpoint.port, 7);
	}
	for (size_t len = 240; len < sizeof(url) - 1; len++) {
		struct endpoint endpoint;
		struct err err = {""};

		memcpy(url, "http://", 7);
		for (size_t i = 7; i < len; i++)
			url[i] = i % 50 ? 'a' : '.';
		url[len] = '\0';
		if (endpoint_parse(url, 1, &endpoint, &err) == 0)
			assert_in_range(len, 1, 7 + ENDPOINT_HOST_MAX - 1);
		else
			assert_in_range(len, 7 + ENDPOINT_HOST_MAX, sizeof(url));
	}
}

/* -- connections ----------------------------------------------------------------------- */

struct fixture {
	struct loop *loop;
	int n_called;
	struct bufferevent *bev;
	char why[ERR_TEXT_MAX];
};

static void on_done(struct bufferevent *bev, const char *why, void *userdata)
{
	struct fixture *f = userdata;

	f->n_called++;
	f->bev = bev;
	assert_true(!bev == !!why);
	(void)snprintf(f->why, sizeof(f->why), "%s", why ? why : "");
	loop_exit(f->loop);
}

static void set_up(struct fixture *f)
{
	*f = (struct fixture){.loop = loop_new()};
}

static void tear_down(struct fixture *f)
{
	if (f->bev)
		bufferevent_free(f->bev);
	loop_free(f->loop);
}

/* A socket of @family on the loopback at a port that nobody else has; listens or not. */
static int bind_to(int family, int backlog, uint16_t *ret_port)
{
	struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	bool is_v6 = family == AF_INET6;
	struct sockaddr *sa = is_v6 ? (struct sockaddr *)&sin6 : (struct sockaddr *)&sin;
	socklen_t len = is_v6 ? sizeof(sin6) : sizeof(sin);
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, sa, len) < 0)
		return -1;
	assert_int_equal(getsockname(fd, sa, &len), 0);
	*ret_port = ntohs(is_v6 ? sin6.sin6_port : sin.sin_port);
	if (backlog >= 0)
		assert_int_equal(listen(fd, backlog), 0);
	return fd;
}

static void dial_and_wait(struct fixture *f, const char *host, uint16_t port, int64_t timeout_ms)
{
	struct endpoint endpoint = {.port = port};

	(void)snprintf(endpoint.host, sizeof(endpoint.host), "%s", host);
	(void)dial_new(f->loop, NULL, &endpoint, NULL, "h2", timeout_ms, on_done, f);
	assert_int_equal(f->n_called, 0);
	loop_run(f->loop);
	assert_int_equal(f->n_called, 1);
}

static int option(int fd, int level, int name)
{
	socklen_t len = sizeof(int);
	int value = -1;

	assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

static void test_connects(void **state)
{
	static const struct {
		const char *host;
		int family;
	} rows[] = {{"127.0.0.1", AF_INET}, {"::1", AF_INET6}, {"localhost", AF_INET}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		_cleanup_close_ int server = -1;
		struct fixture f;
		uint16_t port = 0;
		int fd;

		server = bind_to(rows[i].family, 1, &port);
		if (server < 0 && rows[i].family == AF_INET6)
			continue; /* a host without IPv6 */
		set_up(&f);
		dial_and_wait(&f, rows[i].host, port, 5000);
		assert_string_equal(f.why, "");
		fd = bufferevent_getfd(f.bev);
		assert_int_equal(option(fd, IPPROTO_TCP, TCP_NODELAY), 1);
		assert_int_equal(option(fd, SOL_SOCKET, SO_KEEPALIVE), 1);
		assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 10);
		assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPINTVL), 3);
		assert_int_equal(option(fd, IPPROTO_TCP, TCP_KEEPCNT), 3);
		assert_int_equal(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT), 15000);
		assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
		tear_down(&f);
	}
}

static void test_refused(void **state)
{
	uint16_t port = 0;
	_cleanup_close_ int server = bind_to(AF_INET, -1, &port);
	struct fixture f;

	(void)state;
	assert_true(server >= 0);
	set_up(&f);
	dial_and_wait(&f, "127.0.0.1", port, 5000);
	assert_string_equal(f.why, "connection refused");
	f.n_called = 0;
	dial_and_wait(&f, "localhost", port, 5000);
	assert_non_null(strstr(f.why, "127.0.0.1: connection refused"));
	tear_down(&f);
}

/* Multicast takes no TCP: connect(2) itself fails. */
static void test_fails_at_once(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	dial_and_wait(&f, "224.0.0.1", 1, 5000);
	assert_null(f.bev);
	assert_true(f.why[0]);
	tear_down(&f);
}

/* A listener whose queue is full answers nobody. */
static void test_no_answer(void **state)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	uint16_t port = 0;
	_cleanup_close_ int server = bind_to(AF_INET, 0, &port);
	struct fixture f;
	int clients[4];

	(void)state;
	assert_true(server >= 0);
	sin.sin_port = htons(port);
	for (size_t i = 0; i < ARRAY_SIZE(clients); i++) {
		clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void)connect(clients[i], (const struct sockaddr *)&sin, sizeof(sin));
	}
	set_up(&f);
	dial_and_wait(&f, "127.0.0.1", port, 200);
	assert_string_equal(f.why, "no answer within 0.2 s");
	tear_down(&f);
	for (size_t i = 0; i < ARRAY_SIZE(clients); i++)
		(void)close(clients[i]);
}

static void on_exit_timer(void *userdata)
{
	loop_exit(userdata);
}

/* In each state: before the loop ran, and while connecting. */
static void test_cancel(void **state)
{
	static const char *const hosts[] = {"127.0.0.1", "localhost"};
	uint16_t port = 0;
	_cleanup_close_ int server = bind_to(AF_INET, 64, &port);

	(void)state;
	assert_true(server >= 0);
	dial_cancel(NULL);
	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++)
		for (int rounds = 0; rounds < 3; rounds++) {
			struct endpoint endpoint = {.port = port};
			struct event *timer;
			struct fixture f;
			struct dial *dial;

			set_up(&f);
			(void)snprintf(endpoint.host, sizeof(endpoint.host), "%s", hosts[i]);
			timer = loop_timer_new(f.loop, on_exit_timer, f.loop);
			dial = dial_new(f.loop, NULL, &endpoint, NULL, "h2", 5000, on_done, &f);
			for (int n = 0; n < rounds && !f.n_called; n++) {
				loop_timer_set(timer, 0);
				loop_run(f.loop);
			}
			if (!f.n_called) {
				dial_cancel(dial);
				loop_timer_set(timer, 20);
				loop_run(f.loop);
				assert_int_equal(f.n_called, 0);
			}
			loop_event_free(timer);
			tear_down(&f);
		}
}

/* -- names ------------------------------------------------------------------------------ */

/* Puts files of ours in the place of /etc/hosts and /etc/resolv.conf, for this process
 * alone; for good. */
static bool replace_etc(void)
{
	char path[] = "/tmp/weft-test-dial.XXXXXX", command[512];

	if (!mkdtemp(path))
		return false;
	(void)snprintf(command, sizeof(command),
		       "cd %s && mount --make-rprivate / && mount -t tmpfs none . && "
		       "echo 127.0.0.1 here.example >%s/hosts && : >%s/resolv.conf && "
		       "mount --bind %s/hosts /etc/hosts && "
		       "mount --bind %s/resolv.conf /etc/resolv.conf && cd / && umount -l %s",
		       path, path, path, path, path, path);
	if (unshare(CLONE_NEWNS) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0)
		command[0] = '\0';
	if (!*command || system(command) != 0) { /* NOLINT(cert-env33-c): a fixed one */
		(void)rmdir(path);
		return false;
	}
	assert_int_equal(rmdir(path), 0);
	return true;
}

/* Our own /etc/resolv.conf: name servers at these ports of 127.0.0.1; 0: none. */
static void set_name_servers(uint16_t first, uint16_t second)
{
	FILE *file = fopen("/etc/resolv.conf", "we");

	assert_non_null(file);
	if (first)
		(void)fprintf(file, "nameserver 127.0.0.1:%u\n", first);
	if (second)
		(void)fprintf(file, "nameserver 127.0.0.1:%u\n", second);
	assert_int_equal(fclose(file), 0);
}

/* A socket of its own port that a name server might have. */
static int bind_dns(uint16_t *ret_port)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(sin);

	assert_int_equal(bind(fd, (const struct sockaddr *)&sin, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
	*ret_port = ntohs(sin.sin_port);
	return fd;
}

struct names {
	struct fixture f;
	int fd; /* of the name server */
	struct evdns_server_port *server;
	int n_asked;
	struct evdns_server_request *unanswered;
};

/* What the name server says. */
static const struct {
	const char *name;
	const char *a[2], *aaaa; /* NULL: none */
} zone[] = {
	{"both.example", {"127.0.0.1"}, "::1"},
	{"four.example", {"127.0.0.1"}, NULL},
	{"two.example", {"127.0.0.2", "127.0.0.1"}, NULL},
};

static int answer_question(struct evdns_server_request *req, const char *name, int type)
{
	for (size_t i = 0; i < ARRAY_SIZE(zone); i++) {
		uint8_t a[2][4], aaaa[16];
		int n = 0;

		if (strcasecmp(name, zone[i].name) != 0)
			continue;
		while (n < 2 && zone[i].a[n] && inet_pton(AF_INET, zone[i].a[n], a[n]) == 1)
			n++;
		if (type == EVDNS_TYPE_A && n)
			(void)evdns_server_request_add_a_reply(req, name, n, a, 60);
		if (type == EVDNS_TYPE_AAAA && zone[i].aaaa &&
		    inet_pton(AF_INET6, zone[i].aaaa, aaaa) == 1)
			(void)evdns_server_request_add_aaaa_reply(req, name, 1, aaaa, 60);
		return 0;
	}
	return 3; /* NXDOMAIN */
}

static void on_question(struct evdns_server_request *req, void *userdata)
{
	struct names *names = userdata;
	const struct evdns_server_question *question = req->questions[0];

	names->n_asked++;
	if (!strncasecmp(question->name, "silent.", 7)) {
		(void)evdns_server_request_drop(req);
		loop_exit(names->f.loop);
		return;
	}
	(void)evdns_server_request_respond(req,
					   answer_question(req, question->name, question->type));
}

static void start_names(struct names *names, int fd)
{
	*names = (struct names){.fd = fd};
	set_up(&names->f);
	names->server = evdns_add_server_port_with_base(loop_base(names->f.loop), dup(fd), 0,
							on_question, names);
	assert_non_null(names->server);
}

static void stop_names(struct names *names)
{
	evdns_close_server_port(names->server);
	tear_down(&names->f);
}

#define DNS_TIMEOUT_MS 800

static void check_name(int dns, const char *name, uint16_t port, const char *says)
{
	struct names names;

	start_names(&names, dns);
	dial_and_wait(&names.f, name, port, DNS_TIMEOUT_MS);
	if (strcmp(names.f.why, says) != 0)
		fail_msg("%s: says: %s", name, names.f.why);
	stop_names(&names);
}

/* The timeout, and giving up at once and a round later. */
static void check_silence(int dns)
{
	struct endpoint endpoint = {.host = "silent.example", .port = 1};
	struct names names;
	struct dial *dial;

	for (int way = 0; way < 3; way++) {
		start_names(&names, dns);
		dial = dial_new(names.f.loop, NULL, &endpoint, NULL, "h2", 200, on_done, &names.f);
		while (!names.n_asked)
			loop_run(names.f.loop);
		if (way > 0)
			dial_cancel(dial);
		else
			while (!names.f.n_called)
				loop_run(names.f.loop);
		assert_int_equal(names.f.n_called, way == 0);
		if (way == 0)
			assert_string_equal(names.f.why, "name silent.example: no answer from a "
							 "name server within 0.2 s");
		if (way == 2)
			(void)event_base_loop(loop_base(names.f.loop), EVLOOP_NONBLOCK);
		stop_names(&names);
	}
}

/* Runs last: it changes the process. */
static void test_names(void **state)
{
	uint16_t port = 0, closed = 0, dns_port = 0, mute_port = 0;
	_cleanup_close_ int server = bind_to(AF_INET, 64, &port);
	_cleanup_close_ int dns = bind_dns(&dns_port);
	_cleanup_close_ int mute = bind_dns(&mute_port);

	(void)state;
	if (!replace_etc()) {
		print_message("no mount namespace\n");
		skip();
	}
	(void)close(bind_to(AF_INET, -1, &closed));
	assert_true(server >= 0 && mute >= 0);

	set_name_servers(dns_port, 0);
	check_name(dns, "four.example", port, "");
	check_name(dns, "four.example.", port, "");
	check_name(dns, "both.example", port, "");
	check_name(dns, "two.example", port, "");
	check_name(dns, "here.example", port, "");
	check_name(dns, "nobody.example", port, "name nobody.example: not known");
	check_name(dns, "two.example", closed,
		   "127.0.0.2: connection refused, 127.0.0.1: connection refused");
	check_silence(dns);
	/* One of two is dead: whichever is asked first. */
	set_name_servers(mute_port, dns_port);
	check_name(dns, "four.example", port, "");
	set_name_servers(dns_port, mute_port);
	check_name(dns, "four.example", port, "");
	/* Nobody is there. */
	set_name_servers(closed, 0);
	check_name(dns, "four.example", port,
		   "name four.example: no answer from a name server within 0.8 s");
	check_name(dns, "here.example", port, "");
	set_name_servers(0, 0);
	check_name(dns, "here.example", port, "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_endpoint),      cmocka_unit_test(test_endpoint_faults),
		cmocka_unit_test(test_connects),      cmocka_unit_test(test_refused),
		cmocka_unit_test(test_fails_at_once), cmocka_unit_test(test_no_answer),
		cmocka_unit_test(test_cancel),        cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
