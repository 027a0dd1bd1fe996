/* SPDX-License-Identifier: Apache-2.0 */
/* install.c - `flannel --install CONF BIN-DIR CONF-DIR`
 *
 * All is read and checked before anything is changed; the plugin goes first, so that no
 * config is ever there without it. What has the right contents and mode is not touched: a
 * runtime that watches its directory sees no change, and a program that runs stays the one
 * that its file holds.
 */
#include "cni/install.h"

#include "base/file.h"
#include "base/json.h"
#include "cni/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#define PROGRAM   "/proc/self/exe"
#define PLUGIN    "flannel"
#define BIN_MODE  0755
#define CONF_MODE 0644
#define STEP      65536

/* ---- the config ---- */

static bool is_ours(const json_t *plugin)
{
	const char *type = NULL;

	return json_member_string(plugin, "type", &type, NULL) == 0 && type &&
	       !strcmp(type, PLUGIN);
}

/* The name of the file that a runtime wants for a config such as @text; NULL: none of ours. */
static int choose_name(const char *path, const char *text, size_t len, const char **ret_name,
		       struct err *err)
{
	_cleanup_json_ json_t *conf = NULL;
	const json_t *plugins;
	bool ours;
	int r = json_parse_object(text, len, path, &conf, err);

	if (r)
		return r;
	plugins = json_member(conf, "plugins");
	ours = !plugins && is_ours(conf);
	for (size_t i = 0; i < json_array_size(plugins); i++)
		ours = ours || is_ours(json_array_get(plugins, i));
	if (!ours)
		return err_set(err, -EINVAL, "%s has no plugin of type %s", path, PLUGIN);
	*ret_name = plugins ? "10-flannel.conflist" : "10-flannel.conf";
	return 0;
}

/* ---- directories ---- */

/* The directories are mounts of the host's: one whose parent is missing is a slip of the
 * manifest, and files in a directory of our own making would reach nobody. */
static int check_dir(const char *dir, struct err *err)
{
	struct stat st;
	int r;

	if (stat(dir, &st) == 0)
		return S_ISDIR(st.st_mode) ? 0
					   : err_set(err, -ENOTDIR, "%s is not a directory", dir);
	r = -errno;
	if (r != -ENOENT)
		return err_sys(err, r, "cannot look at %s", dir);
	if (mkdir(dir, 0755) == 0)
		return 0;
	r = -errno;
	if (r == -ENOENT)
		return err_set(err, r,
			       "there is no directory %s, nor the one that it is to be in: is the "
			       "host's mounted there?",
			       dir);
	return err_sys(err, r, "cannot create directory %s", dir);
}

/* ---- files ---- */

static char *path_in(const char *dir, const char *name)
{
	size_t size = strlen(dir) + strlen(name) + sizeof("/");
	char *path = mem_alloc(size, 1);

	(void)snprintf(path, size, "%s/%s", dir, name);
	return path;
}

/* As much of @buf as there is before the end of the file. */
static ssize_t read_step(int fd, char *buf)
{
	size_t len = 0;
	ssize_t n = 1;

	while (len < STEP && n) {
		n = read(fd, buf + len, STEP - len);
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0)
			len += (size_t)n;
	}
	return (ssize_t)len;
}

/* Whether the regular file @path has @mode and what is in @fd, which is read from its start. */
static bool is_same(int fd, const char *path, mode_t mode)
{
	_cleanup_free_ char *a = mem_alloc(2, STEP);
	_cleanup_close_ int other = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	char *b = a + STEP;
	struct stat st;
	ssize_t n, m;

	if (other < 0 || fstat(other, &st) || !S_ISREG(st.st_mode) ||
	    (st.st_mode & 07777) != mode || lseek(fd, 0, SEEK_SET) < 0)
		return false;
	do {
		n = read_step(fd, a);
		m = read_step(other, b);
		if (n < 0 || n != m || memcmp(a, b, (size_t)n) != 0)
			return false;
	} while (n == STEP);
	return true;
}

static int copy(int from, int to)
{
	_cleanup_free_ char *buf = mem_alloc(1, STEP);

	if (lseek(from, 0, SEEK_SET) < 0)
		return -errno;
	for (;;) {
		ssize_t n = read_step(from, buf);

		for (ssize_t done = 0, w; done < n; done += w) {
			w = write(to, buf + done, (size_t)(n - done));
			if (w < 0 && errno != EINTR)
				return -errno;
			w = w < 0 ? 0 : w;
		}
		if (n < STEP)
			return n < 0 ? (int)n : 0;
	}
}

static void sync_dir(const char *dir)
{
	_cleanup_close_ int fd = open(dir, O_RDONLY | O_CLOEXEC | O_DIRECTORY);

	/* Some file systems cannot; the file is in place anyway. */
	if (fd >= 0)
		(void)fsync(fd);
}

/* Puts what is in @fd in the place of DIR/NAME. */
static int install_file(int fd, const char *dir, const char *name, mode_t mode, struct err *err)
{
	_cleanup_free_ char *path = path_in(dir, name);
	/* Neither a plugin's name nor a config's, should it stay behind. */
	_cleanup_free_ char *temporary = path_in(dir, "." PLUGIN ".XXXXXX");
	_cleanup_close_ int to = -1;
	int r = 0;

	if (is_same(fd, path, mode)) {
		(void)printf("%s: unchanged\n", path);
		return 0;
	}
	to = mkostemp(temporary, O_CLOEXEC);
	if (to < 0)
		return err_sys(err, -errno, "cannot create a file in %s", dir);
	r = copy(fd, to);
	if (!r && (fchmod(to, mode) || fsync(to)))
		r = -errno;
	/* A file that is open for writing cannot be run (ETXTBSY). */
	if (close(TAKE_FD(to)) && !r)
		r = -errno;
	if (!r && rename(temporary, path))
		r = -errno;
	if (r) {
		(void)unlink(temporary);
		return err_sys(err, r, "cannot write %s", path);
	}
	sync_dir(dir);
	(void)printf("%s: installed\n", path);
	return 0;
}

/* Of two files a runtime takes the one whose name is the first. */
static void tell_of_other(const char *conf_dir, const char *name)
{
	_cleanup_free_ char *other = path_in(conf_dir, "10-flannel.conf");

	if (strcmp(name, "10-flannel.conf") != 0 && access(other, F_OK) == 0)
		(void)printf("%s: is there as well, and runtimes take it rather than %s\n", other,
			     name);
}

int install(const char *conf, const char *bin_dir, const char *conf_dir, struct err *err)
{
	_cleanup_close_ int program = open(PROGRAM, O_RDONLY | O_CLOEXEC), conf_fd = -1;
	_cleanup_free_ char *text = NULL;
	const char *name;
	size_t len;
	int r;

	if (program < 0)
		return err_sys(err, -errno, "cannot open %s (is /proc mounted?)", PROGRAM);
	r = file_read(AT_FDCWD, conf, CNI_CONF_MAX_BYTES, &text, &len, err);
	if (!r)
		r = choose_name(conf, text, len, &name, err);
	if (!r)
		r = check_dir(bin_dir, err);
	if (!r)
		r = check_dir(conf_dir, err);
	if (r)
		return r;
	/* What was checked, whatever the file holds by now. */
	conf_fd = memfd_create("conf", MFD_CLOEXEC);
	r = conf_fd < 0 ? -errno : file_write_all(conf_fd, text);
	if (r)
		return err_sys(err, r, "cannot copy %s", conf);
	r = install_file(program, bin_dir, PLUGIN, BIN_MODE, err);
	if (!r)
		r = install_file(conf_fd, conf_dir, name, CONF_MODE, err);
	if (!r)
		tell_of_other(conf_dir, name);
	return r;
}
