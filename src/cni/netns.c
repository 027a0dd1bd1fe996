/* SPDX-License-Identifier: Apache-2.0 */
/* netns.c - a pod's network namespace: opened by path, visited by this thread */
#include "cni/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sched.h>
#include <string.h>
#include <sys/vfs.h>

int netns_open(const char *path, int *ret_fd, struct cni_error *error)
{
	/* A fifo in its place must not block us. */
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct statfs fs;

	if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
		(void)cni_fail(error, CNI_NETNS_INVALID, "there is no netns %s", path);
		return 1;
	}
	if (fd < 0 || fstatfs(fd, &fs) < 0)
		return cni_fail(error, CNI_NETNS_INVALID, "netns %s: %s", path, strerror(errno));
	/* Before Linux 3.19 they were files of /proc. */
	if (fs.f_type != NSFS_MAGIC && fs.f_type != PROC_SUPER_MAGIC) {
		(void)cni_fail(error, CNI_NETNS_INVALID, "%s is no netns", path);
		return 1;
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int netns_enter(int fd, const char *path, int *visit, struct cni_error *error)
{
	_cleanup_close_ int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	if (home < 0)
		return cni_fail(error, CNI_INTERNAL, "our own netns: %s", strerror(errno));
	if (setns(fd, CLONE_NEWNET) < 0)
		return cni_fail(error, CNI_NETNS_INVALID, "entering netns %s: %s", path,
				strerror(errno));
	*visit = TAKE_FD(home);
	return 0;
}

void netns_leave(int *visit)
{
	if (*visit < 0)
		return;
	if (setns(*visit, CLONE_NEWNET) < 0)
		abort();
	close(*visit);
	*visit = -1;
}
