/* SPDX-License-Identifier: Apache-2.0 */
/* status_file.c - how flanneld is, in one line beside the subnet file
 *
 * Whoever holds the flock(2) is the flanneld that the line is about: held from the first
 * line on until the process ends, however it ends, so that a reader knows whether the line
 * is news or history. A reader may hold a lock of its own for a moment; we try again with
 * the next line.
 *
 * The line is written over the old one and the rest is cut off: a reader takes what is before
 * the first newline.
 */
#include "daemon/status_file.h"

#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

struct status_file {
	char *path;
	int fd; /* -1: not ours */
};

char *status_file_path(const char *subnet_path)
{
	const char *slash = strrchr(subnet_path, '/');
	char *path;

	if (asprintf(&path, "%.*sstatus", slash ? (int)(slash + 1 - subnet_path) : 0, subnet_path) <
	    0)
		abort();
	return path;
}

struct status_file *status_file_new(const char *subnet_path)
{
	struct status_file *file = mem_alloc(1, sizeof(*file));

	file->path = status_file_path(subnet_path);
	file->fd = -1;
	return file;
}

void status_file_free(struct status_file *file)
{
	if (!file)
		return;
	if (file->fd >= 0)
		(void)close(file->fd);
	free(file->path);
	free(file);
}

/* Somebody may have removed it: then nobody reads what we have open. */
static void close_removed(struct status_file *file)
{
	struct stat st;

	if (file->fd < 0 || (!fstat(file->fd, &st) && st.st_nlink))
		return;
	(void)close(file->fd);
	file->fd = -1;
}

static int open_and_lock(const char *path, int *ret_fd, struct err *err)
{
	_cleanup_close_ int fd = -1;
	struct stat st;
	int code = file_make_parents(path, err);

	if (code)
		return code;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0644);
	if (fd < 0)
		return err_sys(err, -errno, "cannot open %s", path);
	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "%s is not a regular file", path);
	if (flock(fd, LOCK_EX | LOCK_NB))
		return err_sys(err, -errno, "cannot lock %s", path);
	(void)fchmod(fd, 0644); /* whatever the umask */
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int status_file_write(struct status_file *file, const char *text, struct err *err)
{
	_cleanup_free_ char *line = NULL;
	ssize_t n;
	int len;

	close_removed(file);
	if (file->fd < 0) {
		int code = open_and_lock(file->path, &file->fd, err);

		if (code)
			return code;
	}
	len = asprintf(&line, "%s\n", text);
	if (len < 0)
		abort();
	n = pwrite(file->fd, line, (size_t)len, 0);
	if (n != len || ftruncate(file->fd, len))
		return err_sys(err, n < 0 || n == len ? -errno : -ENOSPC, "cannot write %s",
			       file->path);
	return 0;
}
