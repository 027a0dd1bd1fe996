/* SPDX-License-Identifier: Apache-2.0 */
/* test_file.c - whole files: bounds, kinds, replacement */
#include "base/file.h"

#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/weft-file-XXXXXX";

/* A path inside the test's directory, valid until the fourth next call. */
static const char *at(const char *name)
{
	static char paths[4][128];
	static unsigned n;
	char *path = paths[n++ % ARRAY_SIZE(paths)];

	(void)snprintf(path, sizeof(paths[0]), "%s/%s", dir, name);
	return path;
}

static int make_dir(void **state)
{
	(void)state;
	memcpy(dir + sizeof(dir) - 7, "XXXXXX", 6);
	return mkdtemp(dir) ? 0 : -1;
}

static int remove_dir(void **state)
{
	char command[64];

	(void)state;
	(void)snprintf(command, sizeof(command), "rm -r '%s'", dir);
	return system(command); /* NOLINT(cert-env33-c): our own directory */
}

static size_t count_names(const char *path)
{
	DIR *d = opendir(path);
	size_t n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	(void)closedir(d);
	return n - 2;
}

static void write_ok(const char *path, const char *text)
{
	struct err err = {""};

	if (file_write_atomic(path, text, 0644, &err) != 0)
		fail_msg("%s", err.text);
}

/* The file named @name reads as @code, and its error names the file. */
static void read_fails_one(const char *name, size_t limit, int code)
{
	char *text = NULL;
	size_t len = 77;
	struct err err = {""};

	assert_int_equal(file_read(AT_FDCWD, at(name), limit, &text, &len, &err), code);
	assert_non_null(strstr(err.text, at(name)));
	assert_null(text);
	assert_int_equal(len, 77);
}

static void read_one(const char *name, size_t limit, const char *want)
{
	_cleanup_free_ char *text = NULL;
	struct err err = {""};
	size_t len;

	if (file_read(AT_FDCWD, at(name), limit, &text, &len, &err) != 0)
		fail_msg("%s", err.text);
	assert_int_equal(len, strlen(want));
	assert_string_equal(text, want);
}

static void test_read(void **state)
{
	(void)state;
	write_ok(at("a"), "0123456789");
	read_one("a", 100, "0123456789");
	read_one("a", 10, "0123456789");
	read_fails_one("a", 9, -EFBIG);
	read_fails_one("a", 0, -EFBIG);
	write_ok(at("empty"), "");
	read_one("empty", 100, "");
	read_one("empty", 0, "");
	read_fails_one("nothing", 100, -ENOENT);
}

static void test_read_kinds(void **state)
{
	(void)state;
	assert_int_equal(mkdir(at("d"), 0755), 0);
	assert_int_equal(mkfifo(at("fifo"), 0644), 0); /* nobody writes: must not block */
	assert_int_equal(symlink("loop", at("loop")), 0);
	assert_int_equal(symlink("fifo", at("link")), 0);
	read_fails_one("d", 100, -EINVAL);
	read_fails_one("fifo", 100, -EINVAL);
	read_fails_one("link", 100, -EINVAL);
	read_fails_one("loop", 100, -ELOOP);
	assert_int_equal(file_read(AT_FDCWD, "/dev/null", 9, &(char *){NULL}, NULL, NULL), -EINVAL);
}

static void test_read_relative(void **state)
{
	_cleanup_close_ int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_free_ char *text = NULL;

	(void)state;
	write_ok(at("a"), "text");
	assert_int_equal(file_read(fd, "a", 100, &text, NULL, NULL), 0);
	assert_string_equal(text, "text");
}

/* The size that the kernel tells is 0 for every file of /proc. */
static void test_read_sizeless(void **state)
{
	_cleanup_free_ char *text = NULL;
	size_t len = 0;

	(void)state;
	assert_int_equal(file_read(AT_FDCWD, "/proc/self/status", 65536, &text, &len, NULL), 0);
	assert_true(len > 100);
	assert_int_equal(strlen(text), len);
	free(TAKE_PTR(text));
	assert_int_equal(file_read(AT_FDCWD, "/proc/self/status", 100, &text, &len, NULL), -EFBIG);
	assert_null(text);
}

static void test_write_replaces(void **state)
{
	struct stat st;
	mode_t old = umask(077);

	(void)state;
	write_ok(at("sub/dir/file"), "one");
	(void)umask(old);
	read_one("sub/dir/file", 100, "one");
	assert_int_equal(stat(at("sub/dir/file"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	write_ok(at("sub/dir/file"), "a longer two");
	read_one("sub/dir/file", 100, "a longer two");
	write_ok(at("sub/dir/file"), "");
	read_one("sub/dir/file", 100, "");
	assert_int_equal(count_names(at("sub/dir")), 1);
	assert_int_equal(file_write_atomic(at("key"), "secret", 0600, NULL), 0);
	assert_int_equal(stat(at("key"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

/* Who has the old file open keeps its text. */
static void test_write_leaves_readers(void **state)
{
	_cleanup_close_ int fd = -1;
	char buf[16] = "";

	(void)state;
	write_ok(at("a"), "old");
	fd = open(at("a"), O_RDONLY | O_CLOEXEC);
	write_ok(at("a"), "new");
	assert_int_equal(read(fd, buf, sizeof(buf) - 1), 3);
	assert_string_equal(buf, "old");
}

static void write_fails_one(const char *path, int code)
{
	struct err err = {""};

	assert_int_equal(file_write_atomic(path, "text", 0644, &err), code);
	assert_true(*err.text);
}

static void test_write_fails(void **state)
{
	(void)state;
	write_ok(at("file"), "text");
	assert_int_equal(mkdir(at("d"), 0755), 0);
	write_fails_one(at("d"), -EISDIR);
	write_fails_one(at("d/"), -EINVAL);
	write_fails_one("", -EINVAL);
	write_fails_one(at("file/below"), -ENOTDIR);
	write_fails_one("/proc/weft/file", -ENOENT);
	read_one("file", 100, "text");
	assert_int_equal(count_names(dir), 2); /* no temporary file stays behind */
}

static void test_write_relative(void **state)
{
	char *before = getcwd(NULL, 0);

	(void)state;
	assert_int_equal(chdir(dir), 0);
	write_ok("plain", "text");
	write_ok("below/plain", "text");
	assert_int_equal(chdir(before), 0);
	free(before);
	read_one("plain", 100, "text");
	read_one("below/plain", 100, "text");
}

static int replace(const char *path, const char *text, int code, struct err *err)
{
	struct file_replacement replacement;
	int r = file_replace_begin(path, 0600, &replacement, err);

	if (r)
		return r;
	(void)fputs(text, replacement.stream);
	return file_replace_end(&replacement, code, err);
}

static void test_replace(void **state)
{
	struct err err = {""};
	struct stat st;

	(void)state;
	assert_int_equal(replace(at("below/file"), "first", 0, &err), 0);
	read_one("below/file", 100, "first");
	assert_int_equal(stat(at("below/file"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(replace(at("below/file"), "second", 0, &err), 0);
	read_one("below/file", 100, "second");
	/* the caller's own failure, and those of the system */
	assert_int_equal(replace(at("below/file"), "third", -ENOMSG, &err), -ENOMSG);
	assert_non_null(strstr(err.text, "below/file"));
	assert_int_equal(replace(at("below/"), "third", 0, &err), -EINVAL);
	assert_int_equal(replace(at("below/file/x"), "third", 0, &err), -ENOTDIR);
	assert_int_equal(mkdir(at("taken"), 0755), 0);
	assert_int_equal(replace(at("taken"), "third", 0, &err), -EISDIR);
	read_one("below/file", 100, "second");
	assert_int_equal(count_names(at("below")), 1); /* no temporary file stays behind */
	assert_int_equal(count_names(dir), 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_read, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_read_kinds, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_read_relative, make_dir, remove_dir),
		cmocka_unit_test(test_read_sizeless),
		cmocka_unit_test_setup_teardown(test_write_replaces, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_write_leaves_readers, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_write_fails, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_write_relative, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_replace, make_dir, remove_dir),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
