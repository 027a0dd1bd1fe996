/* SPDX-License-Identifier: Apache-2.0 */
/* test_health.c - what /healthz and /readyz say, and what systemd is told */
#include "daemon/health.h"

#include "base/mem.h"
#include "messages.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static const struct ip localhost = {.family = IP_V4, .b = {127, 0, 0, 1}};
static struct loop *loop;
static struct health *health;
static uint16_t port;
static int notify_fd = -1;

static uint16_t free_port(void)
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&addr, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
	close(fd);
	return ntohs(addr.sin_port);
}

/* systemd's side of NOTIFY_SOCKET. */
static void listen_as_systemd(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char name[64];

	(void)snprintf(name, sizeof(name), "@weft-test-health-%d", (int)getpid());
	memcpy(addr.sun_path + 1, name + 1, strlen(name + 1));
	notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_int_equal(bind(notify_fd, (struct sockaddr *)&addr,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
			 0);
	assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
}

/* The next thing that systemd was told, "" for none. */
static const char *told(void)
{
	static char text[1024];
	ssize_t n = recv(notify_fd, text, sizeof(text) - 1, 0);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

/* The last of all that it was told so far. */
static const char *last_told(void)
{
	static char last[1024];
	const char *text;

	while (*(text = told()))
		(void)snprintf(last, sizeof(last), "%s", text);
	return last;
}

static int setup(void **state)
{
	struct err err;

	(void)state;
	listen_as_systemd();
	loop = loop_new();
	port = free_port();
	if (health_new(loop, &localhost, port, &health, &err))
		fail_msg("%s", err.text);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	health_free(health);
	loop_free(loop);
	close(notify_fd);
	return unsetenv("NOTIFY_SOCKET");
}

/* The whole answer to a request. */
static const char *ask(const char *path)
{
	static char answer[8192];
	struct sockaddr_in addr = {.sin_family = AF_INET,
				   .sin_port = htons(port),
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char request[128];
	size_t n = 0;

	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	(void)snprintf(request, sizeof(request), "GET %s HTTP/1.0\r\n\r\n", path);
	assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
	for (;;) {
		ssize_t got = recv(fd, answer + n, sizeof(answer) - 1 - n, MSG_DONTWAIT);

		if (got == 0)
			break;
		if (got > 0)
			n += (size_t)got;
		else
			assert_int_not_equal(event_base_loop(loop_base(loop), EVLOOP_NONBLOCK), -1);
	}
	close(fd);
	answer[n] = '\0';
	return answer;
}

static void expect(const char *path, const char *status, const char *body)
{
	const char *answer = ask(path), *text = strstr(answer, "\r\n\r\n");

	assert_non_null(text);
	assert_memory_equal(answer + strlen("HTTP/1.x "), status, 3);
	assert_string_equal(text + 4, body);
}

static void good_but(enum health_part part)
{
	for (int i = 0; i < HEALTH_PART_COUNT; i++)
		if (i != (int)part)
			health_good(health, (enum health_part)i);
}

static void test_from_the_first_moment(void **state)
{
	(void)state;
	expect("/healthz", "200", "flanneld is running\n");
	expect("/readyz", "503",
	       "flanneld is not ready\n"
	       "missing network config: waiting for the datastore\n"
	       "missing interface: waiting for the network config\n"
	       "missing lease: waiting for the interface\n"
	       "missing peers: waiting for the lease\n"
	       "missing kernel: waiting for the peers\n"
	       "missing rules: waiting for the lease\n"
	       "missing subnet file: waiting for devices, routes and rules\n");
	assert_false(health_is_ready(health));
}

static void test_each_part_is_needed(void **state)
{
	(void)state;
	for (int i = 0; i < HEALTH_PART_COUNT; i++) {
		good_but((enum health_part)i);
		health_missing(health, (enum health_part)i, "a reason");
		assert_false(health_is_ready(health));
		assert_non_null(strstr(ask("/readyz"), ": a reason\n"));
		health_degraded(health, (enum health_part)i, "half a reason");
		assert_true(health_is_ready(health));
	}
}

static void test_degraded(void **state)
{
	(void)state;
	good_but(HEALTH_STORE);
	health_degraded(health, HEALTH_STORE, "cannot open /d: Permission denied");
	expect("/readyz", "200",
	       "flanneld is ready\nwarning datastore: cannot open /d: Permission denied\n");
	health_good(health, HEALTH_STORE);
	expect("/readyz", "200", "flanneld is ready\n");
}

/* However long the reasons are, the answer fits and ends well. */
static void test_long_reasons(void **state)
{
	char why[ERR_TEXT_MAX];

	(void)state;
	memset(why, 'x', sizeof(why) - 1);
	why[sizeof(why) - 1] = '\0';
	for (int i = 0; i < HEALTH_PART_COUNT; i++)
		health_missing(health, (enum health_part)i, why);
	assert_non_null(strstr(ask("/readyz"), "flanneld is not ready\nmissing datastore: xxxx"));
}

static void test_systemd(void **state)
{
	(void)state;
	health_announce(health); /* nothing is ready */
	assert_string_equal(told(), "STATUS=network config: waiting for the datastore");
	health_missing(health, HEALTH_CONFIG, "no config yet");
	assert_string_equal(told(), "STATUS=network config: no config yet");
	health_missing(health, HEALTH_CONFIG, "no config yet");
	assert_string_equal(told(), ""); /* nothing new */
	health_good(health, HEALTH_CONFIG);
	assert_string_equal(told(), "STATUS=interface: waiting for the network config");
	good_but(HEALTH_PART_COUNT);
	while (strcmp(told(), "STATUS=ready") != 0)
		;
	health_announce(health);
	assert_string_equal(told(), "READY=1");
	health_degraded(health, HEALTH_KERNEL, "route x: Invalid argument");
	assert_string_equal(told(), "STATUS=kernel: route x: Invalid argument");
	health_announce(health); /* once */
	assert_string_equal(told(), "");
}

/* What is waited for comes before what merely is not as it should be. */
static void test_systemd_hears_what_is_missing(void **state)
{
	(void)state;
	good_but(HEALTH_LEASE);
	while (*told())
		;
	health_missing(health, HEALTH_LEASE, "no subnet is free");
	assert_string_equal(told(), "STATUS=lease: no subnet is free");
	health_degraded(health, HEALTH_STORE, "slow");
	assert_string_equal(told(), "");
	health_good(health, HEALTH_LEASE);
	assert_string_equal(told(), "STATUS=datastore: slow");
}

static const char *read_file(const char *path)
{
	static char text[1024];
	FILE *f = fopen(path, "r");
	size_t n;

	if (!f)
		return NULL;
	n = fread(text, 1, sizeof(text) - 1, f);
	(void)fclose(f);
	text[n] = '\0';
	return text;
}

static bool is_held(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(fd >= 0);
	return flock(fd, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK;
}

static void test_file(void **state)
{
	char dir[] = "/tmp/weft-health-XXXXXX", subnet[64], path[64];
	struct health *other = NULL;
	struct stat st;
	struct err err;

	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(subnet, sizeof(subnet), "%s/run/subnet.env", dir);
	(void)snprintf(path, sizeof(path), "%s/run/status", dir);
	good_but(HEALTH_LEASE);
	assert_null(read_file(path));
	health_missing(health, HEALTH_LEASE, "no subnet of 10.5.0.0/16 is free for this node");
	health_keep_file(health, subnet);
	assert_string_equal(read_file(path),
			    "lease: no subnet of 10.5.0.0/16 is free for this node\n");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	assert_true(is_held(path));
	/* A second one leaves it alone. */
	assert_int_equal(health_new(loop, &localhost, 0, &other, &err), 0);
	health_keep_file(other, subnet);
	health_missing(other, HEALTH_STORE, "this is not for your eyes");
	assert_memory_equal(read_file(path), "lease: ", 7);
	/* The shorter line leaves nothing of the longer one. */
	health_good(health, HEALTH_LEASE);
	assert_string_equal(read_file(path), "ready\n");
	/* Removed by somebody: made again with the next line. */
	assert_int_equal(unlink(path), 0);
	health_degraded(health, HEALTH_RULES, "a\nb");
	assert_string_equal(read_file(path), "rules: a b\n");
	/* The first one gone, its last line stays, and is history. */
	health_free(health);
	health = other;
	assert_false(is_held(path));
	assert_string_equal(read_file(path), "rules: a b\n");
	health_missing(health, HEALTH_STORE, "now it is");
	assert_string_equal(read_file(path), "datastore: now it is\n");
	assert_true(is_held(path));
	/* The last word, whatever is said after it; systemd has it, too. */
	health_stopped(health, "the config is\nwrong");
	health_good(health, HEALTH_STORE);
	assert_string_equal(read_file(path), "stopped: the config is wrong\n");
	assert_string_equal(last_told(), "STATUS=stopped: the config is wrong");
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(dirname(subnet)), 0);
	assert_int_equal(rmdir(dir), 0);
}

/* Nothing depends on it. */
static void test_no_file(void **state)
{
	(void)state;
	health_keep_file(health, "/proc/nowhere/subnet.env");
	good_but(HEALTH_PART_COUNT);
	expect("/readyz", "200", "flanneld is ready\n");
}

static void test_ports(void **state)
{
	struct health *other = NULL;
	struct err err = {""};

	(void)state;
	assert_int_equal(health_new(loop, &localhost, port, &other, &err), -EADDRINUSE);
	assert_null(other);
	assert_memory_equal(err.text, "--healthz-port: ", 16);
	assert_int_equal(health_new(loop, &localhost, 0, &other, &err), 0);
	health_free(other);
	health_free(NULL);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_from_the_first_moment),
		TEST(test_each_part_is_needed),
		TEST(test_degraded),
		TEST(test_long_reasons),
		TEST(test_systemd),
		TEST(test_systemd_hears_what_is_missing),
		TEST(test_file),
		TEST(test_no_file),
		TEST(test_ports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
