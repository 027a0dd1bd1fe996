/* SPDX-License-Identifier: Apache-2.0 */
/* host_local_files.c - the directory of a network: its lock, the files in it
 *
 * All is done under flock(2) of "lock", which host-local takes as well. An address file is
 * written without a name and linked when it is whole (O_TMPFILE, linkat(2)); where the file
 * system has no such files, under a temporary name, with contents by which either program
 * gives it back should we die before the rename. Nothing waits for the disk: after a power
 * failure a file may be there without its contents. Such a file, like the one of a
 * host-local that was killed between open(2) and write(2), is "torn": under the lock nobody
 * can be about to fill it, so that its address is free.
 *
 * Names are opened relative to the directory, never through a symlink, never waiting (a fifo).
 */
#include "cni/host_local_files.h"

#include "base/file.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <time.h>

#define TEMP_PREFIX    ".weft-"
#define LAST_PREFIX    "last_reserved_ip."
#define NAME_SIZE      64
#define LOCK_TRIES     16
#define LOCK_TICK_US   50000
#define PROC_LOCKS_MAX 65536

unsigned host_local_lock_wait_s = 30;

static int open_at(const struct host_local_files *files, const char *name, int flags, mode_t mode)
{
	return openat(files->fd, name, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY,
		      mode);
}

static bool is_regular(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* ---- the lock ---- */

static void on_alarm(int signo)
{
	(void)signo;
}

static int64_t now_us(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* Waits in flock(2), in the kernel's queue with everybody else: whoever polls starves behind
 * those who queue. A timer that fires again and again (the first time may be just before the
 * call) ends the wait. 0 or -errno, -EWOULDBLOCK when the time is over. */
static int wait_in_queue(int fd)
{
	int64_t until = now_us() + (int64_t)host_local_lock_wait_s * 1000000;
	const struct itimerval ticks = {{0, LOCK_TICK_US}, {0, LOCK_TICK_US}};
	const struct sigaction interrupt = {.sa_handler = on_alarm};
	struct itimerval old_ticks;
	struct sigaction old_action;
	sigset_t mask, old_mask;
	int r;

	(void)sigemptyset(&mask);
	(void)sigaddset(&mask, SIGALRM);
	(void)sigaction(SIGALRM, &interrupt, &old_action);
	(void)sigprocmask(SIG_UNBLOCK, &mask, &old_mask);
	(void)setitimer(ITIMER_REAL, &ticks, &old_ticks);
	do
		r = flock(fd, LOCK_EX) ? -errno : 0;
	while (r == -EINTR && now_us() < until);
	(void)setitimer(ITIMER_REAL, &old_ticks, NULL);
	(void)sigprocmask(SIG_SETMASK, &old_mask, NULL);
	(void)sigaction(SIGALRM, &old_action, NULL);
	return r == -EINTR ? -EWOULDBLOCK : r;
}

static void program_of(long pid, char *buf, size_t size)
{
	_cleanup_free_ char *comm = NULL;
	char path[NAME_SIZE];

	/* 0: in another PID namespace. */
	if (pid <= 0)
		return;
	(void)snprintf(path, sizeof(path), "/proc/%ld/comm", pid);
	if (file_read(AT_FDCWD, path, NAME_SIZE, &comm, NULL, NULL) == 0) {
		comm[strcspn(comm, "\n")] = '\0';
		(void)snprintf(buf, size, "%s (pid %ld)", comm, pid);
	} else {
		(void)snprintf(buf, size, "pid %ld", pid);
	}
}

/* "host-local (pid 4711)", by /proc/locks. */
static const char *lock_holder(int fd, char *buf, size_t size)
{
	_cleanup_free_ char *locks = NULL;
	char file[NAME_SIZE], its_pid[NAME_SIZE], its_file[NAME_SIZE];
	struct stat st;

	(void)snprintf(buf, size, "another process");
	if (fstat(fd, &st) ||
	    file_read(AT_FDCWD, "/proc/locks", PROC_LOCKS_MAX, &locks, NULL, NULL))
		return buf;
	(void)snprintf(file, sizeof(file), "%02x:%02x:%ju", major(st.st_dev), minor(st.st_dev),
		       (uintmax_t)st.st_ino);
	/* "7: FLOCK  ADVISORY  WRITE 4711 fe:00:1312 0 EOF"; who waits has "->" before FLOCK. */
	for (char *next = locks, *line; (line = strsep(&next, "\n"));) {
		if (sscanf(line, "%*s FLOCK %*s %*s %63s %63s", its_pid, its_file) == 2 &&
		    !strcmp(file, its_file)) {
			program_of(strtol(its_pid, NULL, 10), buf, size);
			break;
		}
	}
	return buf;
}

static int lock(struct host_local_files *files, struct cni_error *error)
{
	char holder[NAME_SIZE];
	struct stat st;
	int r = 0;

	/* Administrators empty the directory to get addresses back: a lock that is in no
	 * directory any more excludes nobody. */
	for (int tries = 0; tries < LOCK_TRIES; tries++) {
		_cleanup_close_ int fd = open_at(files, "lock", O_RDONLY | O_CREAT, 0640);

		if (fd < 0)
			return cni_fail(error, CNI_IO_FAILURE, "cannot open %s/lock: %s",
					files->path, strerror(errno));
		if (!is_regular(fd))
			return cni_fail(error, CNI_IO_FAILURE, "%s/lock is not a regular file",
					files->path);
		r = flock(fd, LOCK_EX | LOCK_NB) ? -errno : 0;
		if (r == -EWOULDBLOCK)
			r = wait_in_queue(fd);
		if (r == -EWOULDBLOCK)
			return cni_fail(error, CNI_TRY_AGAIN_LATER,
					"%s/lock has been held by %s for %u s", files->path,
					lock_holder(fd, holder, sizeof(holder)),
					host_local_lock_wait_s);
		if (r)
			break;
		if (fstat(fd, &st) == 0 && st.st_nlink) {
			files->lock_fd = TAKE_FD(fd);
			return 0;
		}
	}
	return cni_fail(error, CNI_IO_FAILURE, "cannot lock %s/lock: %s", files->path,
			r ? strerror(-r) : "somebody removes it again and again");
}

int host_local_files_open(const struct host_local_conf *conf, bool create,
			  struct host_local_files *ret_files, struct cni_error *error)
{
	_cleanup_host_local_files_ struct host_local_files files = {.fd = -1, .lock_fd = -1};
	size_t size = strlen(conf->dir) + strlen(conf->network) + sizeof("//");
	struct err err;

	files.path = mem_alloc(size, 1);
	/* The slash at the end makes a parent of the last part. */
	(void)snprintf(files.path, size, "%s/%s/", conf->dir, conf->network);
	if (create && file_make_parents(files.path, &err))
		return cni_fail(error, CNI_IO_FAILURE, "%s", err.text);
	files.path[size - 2] = '\0';
	files.fd = open(files.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (files.fd < 0 && errno == ENOENT && !create)
		return 1;
	if (files.fd < 0)
		return cni_fail(error, CNI_IO_FAILURE, "cannot open directory %s: %s", files.path,
				strerror(errno));
	if (lock(&files, error))
		return -1;
	*ret_files = files;
	files = (struct host_local_files){.fd = -1, .lock_fd = -1};
	return 0;
}

void host_local_files_done(struct host_local_files *files)
{
	if (files->lock_fd >= 0)
		close(files->lock_fd);
	if (files->fd >= 0)
		close(files->fd);
	free(files->path);
	*files = (struct host_local_files){.fd = -1, .lock_fd = -1};
}

/* ---- reading ---- */

static bool is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Reads the regular file @name; @buf without the blanks around it is *@ret_owner. */
static enum host_local_kind read_owner(const struct host_local_files *files, const char *name,
				       char buf[HOST_LOCAL_OWNER_MAX + 1], const char **ret_owner)
{
	_cleanup_close_ int fd = open_at(files, name, O_RDONLY, 0);
	ssize_t n = fd < 0 ? -1 : read(fd, buf, HOST_LOCAL_OWNER_MAX + 1);
	ssize_t start = 0;

	if (n < 0 || n > HOST_LOCAL_OWNER_MAX)
		return HOST_LOCAL_FOREIGN;
	/* Some file systems have zeroes where the disk never got the contents. */
	while (start < n && !buf[start])
		start++;
	if (start == n)
		return HOST_LOCAL_TORN;
	start = 0;
	while (n && is_blank(buf[n - 1]))
		n--;
	while (start < n && is_blank(buf[start]))
		start++;
	buf[n] = '\0';
	if (start == n || strlen(buf) != (size_t)n)
		return HOST_LOCAL_FOREIGN;
	*ret_owner = buf + start;
	return HOST_LOCAL_HELD;
}

static bool is_regular_entry(const struct host_local_files *files, const struct dirent *entry)
{
	struct stat st;

	if (entry->d_type != DT_UNKNOWN)
		return entry->d_type == DT_REG;
	return fstatat(files->fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       S_ISREG(st.st_mode);
}

static void look_at(const struct host_local_files *files, const struct dirent *dirent,
		    host_local_fn fn, void *userdata)
{
	struct host_local_entry entry = {.name = dirent->d_name};
	char buf[HOST_LOCAL_OWNER_MAX + 1];

	if (ip_parse(entry.name, &entry.ip) &&
	    strncmp(entry.name, TEMP_PREFIX, sizeof(TEMP_PREFIX) - 1) != 0)
		return;
	if (is_regular_entry(files, dirent))
		entry.kind = read_owner(files, entry.name, buf, &entry.owner);
	fn(&entry, userdata);
}

int host_local_files_scan(const struct host_local_files *files, host_local_fn fn, void *userdata,
			  struct cni_error *error)
{
	/* A descriptor of its own: the position in the directory is shared by copies. */
	int fd = open_at(files, ".", O_RDONLY | O_DIRECTORY, 0);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *dirent;

	while (dir && (errno = 0, dirent = readdir(dir)))
		look_at(files, dirent, fn, userdata);
	if (!dir || errno) {
		(void)cni_fail(error, CNI_IO_FAILURE, "cannot read directory %s: %s", files->path,
			       strerror(errno));
		if (dir)
			(void)closedir(dir);
		else if (fd >= 0)
			close(fd);
		return -1;
	}
	(void)closedir(dir);
	return 0;
}

const char *host_local_files_name(const struct ip *ip, char buf[IP_STRLEN])
{
	(void)ip_format(ip, buf);
	/* glibc writes ::a.b.c.d where Go, as RFC 5952, has ::aabb:ccdd. */
	if (ip->family == IP_V6 && strchr(buf, '.'))
		(void)snprintf(buf, IP_STRLEN, "::%x:%x", (unsigned)(ip_to_num(ip) >> 16 & 0xffff),
			       (unsigned)(ip_to_num(ip) & 0xffff));
	return buf;
}

/* ---- writing ---- */

static int write_text(int fd, const char *text)
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

/* Gives @name to a file without one. */
static int link_fd(const struct host_local_files *files, int fd, const char *name)
{
	char path[NAME_SIZE];

	if (linkat(fd, "", files->fd, name, AT_EMPTY_PATH) == 0)
		return 0;
	if (errno == EEXIST)
		return -EEXIST;
	/* Without CAP_DAC_READ_SEARCH the way is through /proc. */
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, path, files->fd, name, AT_SYMLINK_FOLLOW) ? -errno : 0;
}

/* -EOPNOTSUPP where the file system cannot. */
static int create_nameless(const struct host_local_files *files, const char *name, const char *text)
{
	/* Not O_NOFOLLOW: one flag less for a file system to stumble over. */
	_cleanup_close_ int fd = openat(files->fd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0644);
	int r;

	if (fd < 0)
		return errno == EISDIR || errno == ENOENT || errno == EINVAL ? -EOPNOTSUPP : -errno;
	r = write_text(fd, text);
	if (r)
		return r;
	r = link_fd(files, fd, name);
	return r == -ENOENT || r == -EXDEV || r == -EPERM || r == -EINVAL ? -EOPNOTSUPP : r;
}

static int rename_to_new(const struct host_local_files *files, const char *temporary,
			 const char *name)
{
	if (renameat2(files->fd, temporary, files->fd, name, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	/* Not every file system has that flag; under the lock nobody comes in between. */
	if (faccessat(files->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return -EEXIST;
	return renameat(files->fd, temporary, files->fd, name) ? -errno : 0;
}

static int create_named(const struct host_local_files *files, const char *name, const char *text)
{
	_cleanup_close_ int fd = -1;
	char temporary[NAME_SIZE];
	uint64_t random = 0;
	int r;

	while (getrandom(&random, sizeof(random), 0) != sizeof(random))
		;
	(void)snprintf(temporary, sizeof(temporary), TEMP_PREFIX "%016" PRIx64, random);
	fd = open_at(files, temporary, O_WRONLY | O_CREAT | O_EXCL, 0644);
	if (fd < 0)
		return -errno;
	r = write_text(fd, text);
	if (!r)
		r = rename_to_new(files, temporary, name);
	if (r)
		(void)unlinkat(files->fd, temporary, 0);
	return r;
}

static bool is_torn(const struct host_local_files *files, const char *name)
{
	char buf[HOST_LOCAL_OWNER_MAX + 1];
	const char *owner;
	struct stat st;

	return fstatat(files->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	       read_owner(files, name, buf, &owner) == HOST_LOCAL_TORN;
}

int host_local_files_take(const struct host_local_files *files, const struct ip *ip,
			  const char *owner)
{
	char name[IP_STRLEN];
	int r = create_nameless(files, host_local_files_name(ip, name), owner);

	if (r == -EEXIST && is_torn(files, name)) {
		r = host_local_files_remove(files, name);
		if (!r)
			r = create_nameless(files, name, owner);
	}
	if (r != -EOPNOTSUPP)
		return r;
	if (is_torn(files, name))
		(void)host_local_files_remove(files, name);
	return create_named(files, name, owner);
}

int host_local_files_remove(const struct host_local_files *files, const char *name)
{
	return unlinkat(files->fd, name, 0) && errno != ENOENT ? -errno : 0;
}

/* ---- the address given last ---- */

bool host_local_files_read_last(const struct host_local_files *files, size_t set, struct ip *ret_ip)
{
	char name[NAME_SIZE], text[IP_STRLEN];
	_cleanup_close_ int fd = -1;
	ssize_t n;

	(void)snprintf(name, sizeof(name), LAST_PREFIX "%zu", set);
	fd = open_at(files, name, O_RDONLY, 0);
	if (fd < 0 || !is_regular(fd))
		return false;
	n = read(fd, text, sizeof(text));
	if (n < 0 || (size_t)n == sizeof(text))
		return false;
	text[n] = '\0';
	return strlen(text) == (size_t)n && ip_parse(text, ret_ip) == 0;
}

void host_local_files_write_last(const struct host_local_files *files, size_t set,
				 const struct ip *ip)
{
	char name[NAME_SIZE], text[IP_STRLEN];
	_cleanup_close_ int fd = -1;
	int r;

	(void)snprintf(name, sizeof(name), LAST_PREFIX "%zu", set);
	(void)host_local_files_name(ip, text);
	fd = open_at(files, name, O_WRONLY | O_CREAT, 0644);
	if (fd < 0)
		r = -errno;
	else if (!is_regular(fd))
		r = -EINVAL;
	else
		/* Cut behind it, not before: a full disk has room for a text of that size. */
		r = write_text(fd, text);
	if (!r && ftruncate(fd, (off_t)strlen(text)))
		r = -errno;
	if (r)
		log_warning("%s/%s: %s: the next pod may get an address that was used lately",
			    files->path, name, strerror(-r));
}
