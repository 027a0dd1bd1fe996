/* SPDX-License-Identifier: Apache-2.0 */
/* file.c - whole files: bounded read, atomic write */
#include "base/file.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_STEP 4096

/* Opens @path without ever waiting, and only when it is a regular file. */
static int open_regular(int dirfd, const char *path, struct stat *ret_st, struct err *err)
{
	_cleanup_close_ int fd = -1;
	int r;

	fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0) {
		r = -errno;
		return err_sys(err, r, "cannot open %s", path);
	}
	if (fstat(fd, ret_st) < 0) {
		r = -errno;
		return err_sys(err, r, "cannot stat %s", path);
	}
	if (!S_ISREG(ret_st->st_mode))
		return err_set(err, -EINVAL, "%s is not a regular file", path);
	return TAKE_FD(fd);
}

int file_read(int dirfd, const char *path, size_t limit, char **ret_text, size_t *ret_len,
	      struct err *err)
{
	_cleanup_close_ int fd = -1;
	_cleanup_free_ char *text = NULL;
	size_t len = 0, size;
	struct stat st;
	int r;

	fd = open_regular(dirfd, path, &st, err);
	if (fd < 0)
		return fd;
	/* The size only says where to begin: files of /proc have none, others grow.
	 * One byte more than the file makes the last read(2) see its end. */
	size = (uintmax_t)st.st_size < limit ? (size_t)st.st_size + 1 : limit + 1;
	text = mem_alloc(size + 1, 1);
	for (;;) {
		ssize_t n = read(fd, text + len, size - len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			r = -errno;
			return err_sys(err, r, "cannot read %s", path);
		}
		if (n == 0)
			break;
		len += (size_t)n;
		if (len > limit)
			return err_set(err, -EFBIG, "%s is longer than %zu bytes", path, limit);
		if (len < size)
			continue;
		size = limit - len < READ_STEP + len ? limit + 1 : 2 * len + READ_STEP;
		text = mem_realloc(text, size + 1, 1);
	}
	text[len] = '\0';
	*ret_text = TAKE_PTR(text);
	if (ret_len)
		*ret_len = len;
	return 0;
}

int file_make_parents(const char *path, struct err *err)
{
	_cleanup_free_ char *dir = mem_strdup(path);

	for (char *s = strchr(dir + 1, '/'); *dir && s; s = strchr(s + 1, '/')) {
		*s = '\0';
		if (mkdir(dir, 0755) < 0 && errno != EEXIST) {
			int r = -errno;

			return err_sys(err, r, "cannot create directory %s", dir);
		}
		*s = '/';
	}
	return 0;
}

int file_write_text(int fd, const char *text)
{
	size_t left = strlen(text);

	while (left) {
		ssize_t n = write(fd, text, left);

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0) {
			text += n;
			left -= (size_t)n;
		}
	}
	return 0;
}

int file_write_all(int fd, const char *text)
{
	int r = file_write_text(fd, text);

	if (!r && fsync(fd) < 0)
		r = -errno;
	return r;
}

/* Makes the rename itself last. Some file systems cannot; the file is in place anyway. */
static void sync_parent(const char *path, const char *name)
{
	_cleanup_free_ char *dir = mem_strdup(path);
	_cleanup_close_ int fd = -1;

	dir[name - path] = '\0';
	fd = open(*dir ? dir : ".", O_RDONLY | O_CLOEXEC | O_DIRECTORY);
	if (fd >= 0)
		(void)fsync(fd);
}

static const char *name_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* A new file of @mode beside @path, whose parents are made. The fd, or -errno. */
static int create_temporary(const char *path, mode_t mode, char **ret_temporary, struct err *err)
{
	_cleanup_free_ char *temporary = NULL;
	_cleanup_close_ int fd = -1;
	const char *name = name_of(path);
	size_t size = strlen(path) + sizeof("..XXXXXX");
	int r;

	if (!*name)
		return err_set(err, -EINVAL, "\"%s\" does not name a file", path);
	r = file_make_parents(path, err);
	if (r < 0)
		return r;
	/* The dot in front hides it from whoever lists the directory. */
	temporary = mem_alloc(size, 1);
	(void)snprintf(temporary, size, "%.*s.%s.XXXXXX", (int)(name - path), path, name);
	fd = mkostemp(temporary, O_CLOEXEC);
	if (fd < 0) {
		r = -errno;
		return err_sys(err, r, "cannot write %s", path);
	}
	/* The temporary file is 0600; the umask has no say in what was asked for. */
	if (fchmod(fd, mode) < 0) {
		r = -errno;
		(void)unlink(temporary);
		return err_sys(err, r, "cannot write %s", path);
	}
	*ret_temporary = TAKE_PTR(temporary);
	return TAKE_FD(fd);
}

/* @code: of writing @temporary, which replaces @path or goes. */
static int finish_temporary(const char *path, const char *temporary, int code, struct err *err)
{
	if (!code && rename(temporary, path) < 0)
		code = -errno;
	if (!code)
		return 0;
	(void)unlink(temporary);
	return err_sys(err, code, "cannot write %s", path);
}

int file_write_atomic(const char *path, const char *text, mode_t mode, struct err *err)
{
	_cleanup_free_ char *temporary = NULL;
	_cleanup_close_ int fd = create_temporary(path, mode, &temporary, err);
	int r;

	if (fd < 0)
		return fd;
	r = finish_temporary(path, temporary, file_write_all(fd, text), err);
	if (!r)
		sync_parent(path, name_of(path));
	return r;
}

int file_replace_begin(const char *path, mode_t mode, struct file_replacement *ret_replacement,
		       struct err *err)
{
	_cleanup_free_ char *temporary = NULL;
	int fd = create_temporary(path, mode, &temporary, err);

	if (fd < 0)
		return fd;
	*ret_replacement = (struct file_replacement){
		.stream = fdopen(fd, "w"),
		.path = mem_strdup(path),
		.temporary = TAKE_PTR(temporary),
	};
	if (!ret_replacement->stream)
		abort(); /* of the reasons only a lack of memory is left */
	return 0;
}

int file_replace_end(struct file_replacement *replacement, int code, struct err *err)
{
	/* What a failed write(2) said is lost by now, if it was not the last one. */
	bool failed = ferror(replacement->stream);

	errno = 0;
	if ((fclose(replacement->stream) || failed) && !code)
		code = errno ? -errno : -EIO;
	code = finish_temporary(replacement->path, replacement->temporary, code, err);
	free(replacement->path);
	free(replacement->temporary);
	*replacement = (struct file_replacement){0};
	return code;
}
