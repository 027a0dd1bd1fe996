/* SPDX-License-Identifier: Apache-2.0 */
/* test_notify.c - sd_notify to a socket of our own */
#include "daemon/notify.h"

#include "base/mem.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cmocka.h>

/* A datagram socket at @name ("@..." is abstract), which $NOTIFY_SOCKET then names. */
static int listen_at(const char *name)
{
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(sa_family_t) + (socklen_t)strlen(name);

	assert_true(fd >= 0);
	(void)snprintf(sun.sun_path, sizeof(sun.sun_path), "%s", name);
	if (*name == '@')
		sun.sun_path[0] = '\0';
	assert_int_equal(bind(fd, (const struct sockaddr *)&sun, len), 0);
	assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
	return fd;
}

static void test_sockets(void **state)
{
	char path[] = "/tmp/test_notify.XXXXXX", abstract[32], name[64], got[64] = "";
	const char *names[] = {name, abstract};

	(void)state;
	assert_non_null(mkdtemp(path));
	(void)snprintf(name, sizeof(name), "%s/socket", path);
	(void)snprintf(abstract, sizeof(abstract), "@test_notify.%d", (int)getpid());
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_close_ int fd = listen_at(names[i]);
		struct err err;

		assert_int_equal(notify_send("READY=1\nSTATUS=up", &err), 0);
		memset(got, 0, sizeof(got));
		assert_int_equal(recv(fd, got, sizeof(got), MSG_DONTWAIT), 17);
		assert_string_equal(got, "READY=1\nSTATUS=up");
	}
	(void)unlink(name);
	(void)rmdir(path);
}

static void test_nobody(void **state)
{
	struct err err = {""};

	(void)state;
	assert_int_equal(unsetenv("NOTIFY_SOCKET"), 0);
	assert_int_equal(notify_send("READY=1", &err), 0);
	assert_int_equal(setenv("NOTIFY_SOCKET", "", 1), 0);
	assert_int_equal(notify_send("READY=1", &err), 0);
	assert_string_equal(err.text, "");
}

static void test_errors(void **state)
{
	char path[200];
	struct err err;

	(void)state;
	assert_int_equal(setenv("NOTIFY_SOCKET", "vsock:2:1", 1), 0);
	assert_int_equal(notify_send("READY=1", &err), -EAFNOSUPPORT);
	assert_int_equal(setenv("NOTIFY_SOCKET", "/nowhere/socket", 1), 0);
	assert_int_equal(notify_send("READY=1", &err), -ENOENT);
	assert_string_equal(err.text, "cannot notify /nowhere/socket: No such file or directory");
	memset(path, '/', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(setenv("NOTIFY_SOCKET", path, 1), 0);
	assert_int_equal(notify_send("READY=1", &err), -ENAMETOOLONG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sockets),
		cmocka_unit_test(test_nobody),
		cmocka_unit_test(test_errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
