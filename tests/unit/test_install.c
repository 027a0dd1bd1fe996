/* SPDX-License-Identifier: Apache-2.0 */
/* test_install.c - `flannel --install`, with this program as the plugin */
#include "cni/install.h"

#include "base/file.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#define PROGRAM_MAX (64 << 20)
#define LIST                                                                                       \
	"{\"name\":\"cbr0\",\"cniVersion\":\"0.3.1\",\"plugins\":[{\"type\":\"flannel\"},"         \
	"{\"type\":\"portmap\"}]}\n"
#define SINGLE "{\"name\":\"cbr0\",\"type\":\"flannel\"}"

static char dir[] = "/tmp/weft-test-install-XXXXXX";
static char *said;

static const char *at(const char *name)
{
	static char path[8][128];
	static unsigned n;
	char *p = path[n++ % ARRAY_SIZE(path)];

	(void)snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	return p;
}

static void put(const char *name, const char *text)
{
	struct err err;

	if (file_write_atomic(at(name), text, 0644, &err))
		fail_msg("%s", err.text);
}

static int set_up(void **state)
{
	(void)state;
	memcpy(dir + sizeof(dir) - 7, "XXXXXX", 6);
	if (!mkdtemp(dir) || mkdir(at("bin"), 0755) || mkdir(at("net.d"), 0755))
		return -1;
	put("conf", LIST);
	return 0;
}

static int tear_down(void **state)
{
	char command[64];

	(void)state;
	free(TAKE_PTR(said));
	(void)snprintf(command, sizeof(command), "rm -r '%s'", dir);
	return system(command); /* NOLINT(cert-env33-c): our own directory */
}

/* install() with what it says on stdout in `said`. */
static int install_said(const char *conf, const char *bin_dir, const char *conf_dir,
			struct err *err)
{
	int out = dup(STDOUT_FILENO), r;
	int fd = open(at("said"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(out >= 0 && fd >= 0);
	(void)fflush(stdout);
	assert_true(dup2(fd, STDOUT_FILENO) >= 0);
	r = install(conf, bin_dir, conf_dir, err);
	(void)fflush(stdout);
	assert_true(dup2(out, STDOUT_FILENO) >= 0);
	close(out);
	close(fd);
	free(TAKE_PTR(said));
	assert_int_equal(file_read(AT_FDCWD, at("said"), 4096, &said, NULL, NULL), 0);
	return r;
}

static void installs(const char *want, const char *also)
{
	struct err err = {""};

	if (install_said(at("conf"), at("bin"), at("net.d"), &err))
		fail_msg("%s", err.text);
	if (!strstr(said, want) || !strstr(said, also))
		fail_msg("\"%s\" lacks \"%s\" or \"%s\"", said, want, also);
}

static void fails(const char *bin, const char *conf_dir, int code, const char *why)
{
	struct err err = {""};

	assert_int_equal(install_said(at("conf"), at(bin), at(conf_dir), &err), code);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" lacks \"%s\"", err.text, why);
}

static void holds(const char *name, const char *want)
{
	_cleanup_free_ char *text = NULL;
	struct err err;

	if (file_read(AT_FDCWD, at(name), 4096, &text, NULL, &err))
		fail_msg("%s", err.text);
	assert_string_equal(text, want);
}

static void has_mode(const char *name, mode_t mode)
{
	struct stat st;

	assert_int_equal(lstat(at(name), &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | mode);
}

static void is_this_program(const char *name)
{
	_cleanup_free_ char *a = NULL, *b = NULL;
	size_t n, m;

	assert_int_equal(file_read(AT_FDCWD, "/proc/self/exe", PROGRAM_MAX, &a, &n, NULL), 0);
	assert_int_equal(file_read(AT_FDCWD, at(name), PROGRAM_MAX, &b, &m, NULL), 0);
	assert_int_equal(n, m);
	assert_memory_equal(a, b, n);
}

static size_t count(const char *name)
{
	DIR *d = opendir(at(name));
	size_t n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	(void)closedir(d);
	return n - 2;
}

static ino_t inode(const char *name)
{
	struct stat st;

	assert_int_equal(stat(at(name), &st), 0);
	return st.st_ino;
}

static void test_new(void **state)
{
	mode_t mask = umask(077);

	(void)state;
	installs("/bin/flannel: installed\n", "/net.d/10-flannel.conflist: installed\n");
	(void)umask(mask);
	is_this_program("bin/flannel");
	has_mode("bin/flannel", 0755);
	holds("net.d/10-flannel.conflist", LIST);
	has_mode("net.d/10-flannel.conflist", 0644);
	assert_int_equal(count("bin"), 1);
	assert_int_equal(count("net.d"), 1);
}

static void test_again(void **state)
{
	ino_t bin, conf;

	(void)state;
	installs("", "");
	bin = inode("bin/flannel");
	conf = inode("net.d/10-flannel.conflist");
	installs("/bin/flannel: unchanged\n", "/net.d/10-flannel.conflist: unchanged\n");
	assert_int_equal(inode("bin/flannel"), bin);
	assert_int_equal(inode("net.d/10-flannel.conflist"), conf);
	put("conf", LIST "\n");
	assert_int_equal(chmod(at("bin/flannel"), 0644), 0); /* cannot be run */
	installs("/bin/flannel: installed\n", "/net.d/10-flannel.conflist: installed\n");
	has_mode("bin/flannel", 0755);
	holds("net.d/10-flannel.conflist", LIST "\n");
	put("conf", LIST);
	installs("unchanged", "/net.d/10-flannel.conflist: installed\n");
	holds("net.d/10-flannel.conflist", LIST);
	assert_int_equal(truncate(at("bin/flannel"), 100), 0); /* a copy that broke off */
	installs("/bin/flannel: installed\n", "unchanged");
	is_this_program("bin/flannel");
}

static void test_single(void **state)
{
	(void)state;
	put("conf", SINGLE);
	installs("bin/flannel: installed", "/net.d/10-flannel.conf: installed\n");
	holds("net.d/10-flannel.conf", SINGLE);
	assert_null(strstr(said, "as well"));
	put("conf", LIST);
	installs("10-flannel.conflist: installed", "10-flannel.conf: is there as well");
	holds("net.d/10-flannel.conf", SINGLE);
}

/* What is in the way is replaced, and nothing is followed out of the directories. */
static void test_in_the_way(void **state)
{
	(void)state;
	put("victim", "victim");
	assert_int_equal(symlink("../victim", at("bin/flannel")), 0);
	assert_int_equal(mkfifo(at("net.d/10-flannel.conflist"), 0644), 0);
	installs("bin/flannel: installed", "conflist: installed");
	holds("victim", "victim");
	has_mode("bin/flannel", 0755);
	has_mode("net.d/10-flannel.conflist", 0644);
	assert_int_equal(unlink(at("net.d/10-flannel.conflist")), 0);
	assert_int_equal(mkdir(at("net.d/10-flannel.conflist"), 0755), 0);
	fails("bin", "net.d", -EISDIR, "net.d/10-flannel.conflist: Is a directory");
	assert_int_equal(count("net.d"), 1);
}

/* The source is its own destination. */
static void test_itself(void **state)
{
	struct err err = {""};

	(void)state;
	installs("", "");
	if (install_said(at("net.d/10-flannel.conflist"), at("bin"), at("net.d"), &err))
		fail_msg("%s", err.text);
	assert_non_null(strstr(said, "conflist: unchanged"));
	holds("net.d/10-flannel.conflist", LIST);
}

/* A plugin that runs meanwhile goes on with the file that it has. */
static void test_busy(void **state)
{
	_cleanup_free_ char *flannel = mem_strdup(at("bin/flannel"));
	char command[256], byte = 'x';
	int in[2], out[2], status;
	pid_t pid;

	(void)state;
	(void)snprintf(command, sizeof(command), "cp /bin/cat '%s'", flannel);
	assert_int_equal(system(command), 0); /* NOLINT(cert-env33-c): our own paths */
	assert_int_equal(pipe2(in, O_CLOEXEC) | pipe2(out, O_CLOEXEC), 0);
	pid = fork();
	if (!pid) {
		if (dup2(in[0], STDIN_FILENO) >= 0 && dup2(out[1], STDOUT_FILENO) >= 0)
			execl(flannel, "cat", (char *)NULL);
		_exit(127);
	}
	assert_int_equal(write(in[1], &byte, 1), 1);
	assert_int_equal(read(out[0], &byte, 1), 1); /* it runs */
	installs("bin/flannel: installed", "");
	is_this_program("bin/flannel");
	close(in[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(in[0]);
	close(out[0]);
	close(out[1]);
}

static void test_directories(void **state)
{
	struct stat st;
	mode_t mask = umask(022);

	(void)state;
	fails("none/bin", "net.d", -ENOENT, "no directory");
	fails("bin", "none/net.d", -ENOENT, "none/net.d");
	fails("conf", "net.d", -ENOTDIR, "/conf is not a directory");
	fails("conf/bin", "net.d", -ENOTDIR, "/conf/bin");
	assert_int_equal(count("bin"), 0);
	assert_int_equal(count("net.d"), 0);
	assert_int_equal(rmdir(at("bin")), 0);
	assert_int_equal(rmdir(at("net.d")), 0);
	installs("bin/flannel: installed", "conflist: installed");
	(void)umask(mask);
	assert_int_equal(stat(at("net.d"), &st), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0755);
}

static const struct {
	const char *text, *why;
	int code;
} wrong[] = {
	{"", "conf line 1", -EINVAL},
	{"{\"name\":\"cbr0\",\"plugins\":[{\"type\":\"flannel\"}", "conf line 1", -EINVAL},
	{"[]", "conf must hold", -EINVAL},
	{"{}", "conf has no plugin of type flannel", -EINVAL},
	{"{\"type\":\"bridge\"}", "no plugin of type flannel", -EINVAL},
	{"{\"plugins\":[]}", "no plugin of type flannel", -EINVAL},
	{"{\"plugins\":{\"type\":\"flannel\"}}", "no plugin of type flannel", -EINVAL},
	{"{\"plugins\":[{\"type\":\"bridge\"},1,{\"type\":3}],\"type\":\"flannel\"}",
	 "no plugin of type flannel", -EINVAL},
};

static void test_wrong(void **state)
{
	_cleanup_free_ char *huge = mem_alloc(2 << 20, 1);

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
		put("conf", wrong[i].text);
		fails("bin", "net.d", wrong[i].code, wrong[i].why);
	}
	memset(huge, ' ', (2 << 20) - 1);
	put("conf", huge);
	fails("bin", "net.d", -EFBIG, "conf is longer than");
	assert_int_equal(unlink(at("conf")), 0);
	fails("bin", "net.d", -ENOENT, "/conf: No such file");
	assert_int_equal(mkfifo(at("conf"), 0644), 0);
	fails("bin", "net.d", -EINVAL, "conf is not a regular file");
	assert_int_equal(count("bin"), 0);
	assert_int_equal(count("net.d"), 0);
}

static void test_permission(void **state)
{
	pid_t pid;
	int status;

	(void)state;
	if (geteuid())
		skip();
	assert_int_equal(chmod(dir, 0755), 0);
	pid = fork();
	if (!pid) {
		struct err err = {""};

		if (setresuid(65534, 65534, 65534))
			_exit(77); /* a root of a user namespace with no other user */
		if (install(at("conf"), at("bin"), at("net.d"), &err) != -EACCES ||
		    !strstr(err.text, "bin: Permission denied"))
			_exit(1);
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(status, 0);
	assert_int_equal(count("bin"), 0);
	assert_int_equal(count("net.d"), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_new),         TEST(test_again),  TEST(test_single),
		TEST(test_in_the_way),  TEST(test_itself), TEST(test_busy),
		TEST(test_directories), TEST(test_wrong),  TEST(test_permission),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
