/* SPDX-License-Identifier: Apache-2.0 */
/* notify.c - sd_notify(3)
 *
 * The protocol is one datagram of `NAME=value` lines to the socket that systemd
 * names in the environment: thirty lines that spare the daemon libsystemd.
 */
#include "daemon/notify.h"

#include "base/mem.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

static int fill_address(const char *path, struct sockaddr_un *ret_sun, socklen_t *ret_len,
			struct err *err)
{
	size_t n = strlen(path);

	if (path[0] != '/' && path[0] != '@')
		return err_set(err, -EAFNOSUPPORT,
			       "NOTIFY_SOCKET=%s: neither a path nor an abstract socket (@name)",
			       path);
	if (n >= sizeof(ret_sun->sun_path))
		return err_set(err, -ENAMETOOLONG, "NOTIFY_SOCKET is longer than %zu bytes",
			       sizeof(ret_sun->sun_path) - 1);
	memset(ret_sun, 0, sizeof(*ret_sun));
	ret_sun->sun_family = AF_UNIX;
	memcpy(ret_sun->sun_path, path, n);
	if (path[0] == '@')
		ret_sun->sun_path[0] = '\0';
	/* An abstract name ends where the address ends, a path with its NUL. */
	*ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + (path[0] == '/'));
	return 0;
}

int notify_send(const char *state, struct err *err)
{
	const char *path = getenv("NOTIFY_SOCKET");
	_cleanup_close_ int fd = -1;
	struct sockaddr_un sun;
	socklen_t len = 0;
	int r;

	if (!path || !*path)
		return 0;
	r = fill_address(path, &sun, &len, err);
	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_sys(err, -errno, "cannot open a socket for NOTIFY_SOCKET");
	/* Never wait for a reader that does not read: the loop has better to do. */
	if (sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT,
		   (const struct sockaddr *)&sun, len) < 0)
		return err_sys(err, -errno, "cannot notify %s", path);
	return 0;
}
