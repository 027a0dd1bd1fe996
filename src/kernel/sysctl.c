/* SPDX-License-Identifier: Apache-2.0 */
/* sysctl.c - kernel settings below /proc/sys that hold one number */
#include "kernel/sysctl.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netconf.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Dots and slashes change places: "net.ipv6.conf.eth0/7.accept_ra" is of device eth0.7. */
static int fail(struct err *err, const char *verb, const char *name)
{
	char dots[SYSCTL_NAME_MAX];
	int code = -errno;

	(void)snprintf(dots, sizeof(dots), "%s", name);
	for (char *c = dots; (c = strpbrk(c, "/.")); c++)
		*c = *c == '/' ? '.' : '/';
	return err_sys(err, code, "%s %s", verb, dots);
}

static int open_setting(const char *name, int flags)
{
	char path[SYSCTL_NAME_MAX + 16];

	(void)snprintf(path, sizeof(path), "/proc/sys/%s", name);
	return open(path, flags | O_CLOEXEC);
}

int sysctl_get(const char *name, long *ret_value, struct err *err)
{
	_cleanup_close_ int fd = open_setting(name, O_RDONLY);
	char text[32] = "", *end;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	long value;

	if (n < 0)
		return fail(err, "reading", name);
	value = strtol(text, &end, 10);
	if (end == text) {
		errno = EPROTO;
		return fail(err, "reading", name);
	}
	*ret_value = value;
	return 0;
}

int sysctl_set(const char *name, long value, struct err *err)
{
	_cleanup_close_ int fd = open_setting(name, O_WRONLY);
	char text[32];
	size_t len = (size_t)snprintf(text, sizeof(text), "%ld\n", value);

	if (fd < 0 || write(fd, text, len) < 0)
		return fail(err, "setting", name);
	return 0;
}

bool sysctl_is_host_wide(const struct nlmsghdr *msg)
{
	const struct nlattr *attr;

	if (mnl_nlmsg_get_payload_len(msg) < sizeof(struct netconfmsg))
		return false;
	mnl_attr_for_each (attr, msg, sizeof(struct netconfmsg))
		if (mnl_attr_get_type(attr) == NETCONFA_IFINDEX &&
		    mnl_attr_validate(attr, MNL_TYPE_U32) >= 0)
			return (int32_t)mnl_attr_get_u32(attr) == NETCONFA_IFINDEX_ALL;
	return false;
}
