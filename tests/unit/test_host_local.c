/* SPDX-License-Identifier: Apache-2.0 */
/* test_host_local.c - addresses in the files of host-local: a real directory, faults, crashes */
#include "cni/host_local.h"

#include "base/file.h"
#include "cni/host_local_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#define V4(range) "[{\"subnet\":\"10.5.52.0/24\"" range "}]"
#define V6        "[{\"subnet\":\"fc00:5::/64\"}]"
/* Three addresses: .2, .3, .4 */
#define SMALL V4(",\"rangeEnd\":\"10.5.52.4\"")

static char dir[] = "/tmp/weft-test-host-local-XXXXXX";
static json_t *json;
static struct host_local_conf conf;
static struct cni_error error;
static struct cni_address got[HOST_LOCAL_SETS_MAX];

/* ---- the system, with faults ---- */

static bool no_linkat, lock_goes;
static int renameat2_errno;
/* Somebody without the lock makes this file just before we do. */
static const char *intruder;

static void put(const char *name, const char *text);

/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): reserved ones */
int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
	if (no_linkat) {
		errno = EPERM;
		return -1;
	}
	if (intruder)
		put(intruder, "intruder");
	intruder = NULL;
	return (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
}

/* NOLINTNEXTLINE(readability-inconsistent-declaration-parameter-name): reserved ones */
int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
	if (renameat2_errno) {
		errno = renameat2_errno;
		return -1;
	}
	return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
}

static const char *at(const char *name)
{
	static char path[4][256];
	static unsigned n;
	char *p = path[n++ % ARRAY_SIZE(path)];

	(void)snprintf(p, sizeof(path[0]), "%s/net/%s", dir, name);
	return p;
}

int flock(int fd, int operation)
{
	if (lock_goes)
		assert_int_equal(unlink(at("lock")), 0);
	lock_goes = false;
	return (int)syscall(SYS_flock, fd, operation);
}

/* ---- set-up ---- */

static void configure(const char *ranges)
{
	char text[1024];
	const char *why = "";

	(void)snprintf(text, sizeof(text),
		       "{\"cniVersion\":\"1.0.0\",\"name\":\"net\",\"ipam\":{\"dataDir\":\"%s\","
		       "\"ranges\":[%s]}}",
		       dir, ranges);
	json_decref(json);
	json = NULL;
	if (json_parse_object(text, strlen(text), "test", &json, NULL) ||
	    host_local_conf_parse(json, &conf, &why, &error) != 1)
		fail_msg("%s: %s%s", text, error.msg, why);
}

static int set_up(void **state)
{
	(void)state;
	memcpy(dir + sizeof(dir) - 7, "XXXXXX", 6);
	if (!mkdtemp(dir))
		return -1;
	no_linkat = lock_goes = false;
	renameat2_errno = 0;
	intruder = NULL;
	host_local_lock_wait_s = 30;
	memset(&error, 0, sizeof(error));
	configure(V4(""));
	return 0;
}

static int tear_down(void **state)
{
	char command[64];

	(void)state;
	json_decref(TAKE_PTR(json));
	(void)snprintf(command, sizeof(command), "rm -r '%s'", dir);
	return system(command); /* NOLINT(cert-env33-c): our own directory */
}

static void put(const char *name, const char *text)
{
	struct err err;

	if (file_write_atomic(at(name), text, 0644, &err))
		fail_msg("%s", err.text);
}

static void holds(const char *name, const char *want)
{
	_cleanup_free_ char *text = NULL;
	struct err err;

	if (file_read(AT_FDCWD, at(name), 1000000, &text, NULL, &err))
		fail_msg("%s", err.text);
	assert_string_equal(text, want);
}

static bool is_there(const char *name)
{
	return faccessat(AT_FDCWD, at(name), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Files of the directory but for lock and last_reserved_ip. */
static size_t count(void)
{
	DIR *d = opendir(at(""));
	const struct dirent *entry;
	size_t n = 0;

	assert_non_null(d);
	while ((entry = readdir(d)))
		n += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
		     strcmp(entry->d_name, "lock") != 0 &&
		     strncmp(entry->d_name, "last_reserved_ip.", 17) != 0;
	(void)closedir(d);
	return n;
}

/* ---- one call each ---- */

/* "10.5.52.2/24 by 10.5.52.1; ..." */
static const char *described(void)
{
	static char text[512];
	char net[IP_NET_STRLEN], gateway[IP_STRLEN];
	size_t len = 0;

	for (size_t i = 0; i < conf.n_sets; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s by %s", i ? "; " : "",
					ip_net_format(&got[i].net, net),
					ip_format(&got[i].gateway, gateway));
	return text;
}

static void gives(const char *id, const char *want)
{
	if (host_local_add(&conf, id, "eth0", got, &error))
		fail_msg("%s", error.msg);
	assert_string_equal(described(), want);
}

static void gives_not(const char *id, unsigned code, const char *why)
{
	memset(got, 0xee, sizeof(got));
	assert_int_equal(host_local_add(&conf, id, "eth0", got, &error), -1);
	if (!strstr(error.msg, why))
		fail_msg("\"%s\" lacks \"%s\"", error.msg, why);
	assert_int_equal(error.code, code);
	assert_int_equal(got[0].net.len, 0xee);
}

static void takes_back(const char *id)
{
	if (host_local_del(&conf, id, "eth0", &error))
		fail_msg("%s", error.msg);
}

static void has(const char *id, bool want)
{
	assert_int_equal(host_local_check(&conf, id, "eth0", &error), want ? 0 : -1);
	if (!want)
		assert_non_null(strstr(error.msg, id));
}

static void collect(const char *valid)
{
	_cleanup_json_ json_t *list = json_loads(valid, 0, NULL);

	assert_non_null(list);
	if (host_local_gc(&conf, list, &error))
		fail_msg("%s", error.msg);
}

/* ---- what host-local does ---- */

static void test_life(void **state)
{
	struct stat st;
	mode_t mask = umask(022);

	(void)state;
	has("one", false);
	takes_back("one");
	assert_false(is_there("")); /* what gives nothing makes nothing */
	gives("one", "10.5.52.2/24 by 10.5.52.1");
	(void)umask(mask);
	holds("10.5.52.2", "one\r\neth0");
	holds("last_reserved_ip.0", "10.5.52.2");
	assert_int_equal(stat(at("10.5.52.2"), &st), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0644);
	assert_int_equal(stat(at(""), &st), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0755);
	gives("two", "10.5.52.3/24 by 10.5.52.1");
	has("one", true);
	assert_int_equal(host_local_check(&conf, "one", "eth1", &error), -1);
	assert_int_equal(host_local_del(&conf, "one", "eth1", &error), 0);
	has("one", true);
	assert_int_equal(host_local_add(&conf, "one", "eth1", got, &error), 0);
	assert_string_equal(described(), "10.5.52.4/24 by 10.5.52.1");
	takes_back("one");
	takes_back("one");
	has("one", false);
	assert_false(is_there("10.5.52.2"));
	assert_int_equal(count(), 2);
	gives("one", "10.5.52.5/24 by 10.5.52.1"); /* round, not back */
}

static void test_long_names(void **state)
{
	char id[NAME_MAX + 2];

	(void)state;
	memset(id, 'x', sizeof(id) - 1);
	id[NAME_MAX] = '\0';
	assert_int_equal(host_local_add(&conf, id, "fifteen-letters", got, &error), 0);
	assert_int_equal(host_local_check(&conf, id, "fifteen-letters", &error), 0);
	assert_int_equal(host_local_del(&conf, id, "fifteen-letters", &error), 0);
	assert_int_equal(count(), 0);
	id[NAME_MAX] = 'x';
	id[NAME_MAX + 1] = '\0';
	assert_int_equal(host_local_add(&conf, id, "fifteen-letters", got, &error), -1);
	assert_non_null(strstr(error.msg, "256 bytes"));
}

static void test_round_robin(void **state)
{
	(void)state;
	configure(SMALL);
	for (int i = 0; i < 3; i++) {
		gives("a", "10.5.52.2/24 by 10.5.52.1");
		gives("b", "10.5.52.3/24 by 10.5.52.1");
		takes_back("a");
		gives("c", "10.5.52.4/24 by 10.5.52.1");
		gives("a", "10.5.52.2/24 by 10.5.52.1");
		takes_back("b");
		gives("b", "10.5.52.3/24 by 10.5.52.1");
		takes_back("c");
		gives("c", "10.5.52.4/24 by 10.5.52.1");
		gives_not("d", CNI_TRY_AGAIN_LATER, "10.5.52.1-10.5.52.4: 3 are in use");
		assert_non_null(strstr(error.msg, dir));
		takes_back("a");
		takes_back("b");
		takes_back("c");
	}
	assert_int_equal(count(), 0);
}

/* What last_reserved_ip may hold, and what is given then. */
static void test_last(void **state)
{
	static const struct {
		const char *last, *want;
	} cases[] = {
		{"10.5.52.2", "10.5.52.3"},
		{"10.5.52.4", "10.5.52.2"},
		{"10.5.52.1", "10.5.52.2"},
		{"10.5.52.9", "10.5.52.2"},
		{"10.5.52.3\n", "10.5.52.2"},
		{"", "10.5.52.2"},
		{"fc00::1", "10.5.52.2"},
		{"junk, and much more than an address has of it: "
		 "0123456789012345678901234567890",
		 "10.5.52.2"},
	};
	char text[IP_STRLEN];

	(void)state;
	configure(SMALL);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		put("last_reserved_ip.0", cases[i].last);
		assert_int_equal(host_local_add(&conf, "a", "eth0", got, &error), 0);
		assert_string_equal(ip_format(&got[0].net.ip, text), cases[i].want);
		holds("last_reserved_ip.0", cases[i].want);
		takes_back("a");
	}
}

static void test_sets(void **state)
{
	(void)state;
	configure("[{\"subnet\":\"10.5.52.0/30\"},{\"subnet\":\"10.5.53.0/30\"}]," V6);
	gives("a", "10.5.52.2/30 by 10.5.52.1; fc00:5::2/64 by fc00:5::1");
	gives("b", "10.5.53.2/30 by 10.5.53.1; fc00:5::3/64 by fc00:5::1");
	holds("fc00:5::3", "b\r\neth0");
	holds("last_reserved_ip.1", "fc00:5::3");
	/* All or nothing. */
	gives_not("c", CNI_TRY_AGAIN_LATER, "10.5.52.1-10.5.52.2, 10.5.53.1-10.5.53.2: 2 are");
	takes_back("a");
	assert_int_equal(count(), 2);
	gives("c", "10.5.52.2/30 by 10.5.52.1; fc00:5::4/64 by fc00:5::1");
	configure(V6 ",[{\"subnet\":\"10.5.52.0/30\"}]");
	gives_not("d", CNI_TRY_AGAIN_LATER, "10.5.52.2: 1 are in use");
	assert_int_equal(count(), 4);
}

/* Both ends of the number space, and gateways at the ends of a range. */
static void test_ends(void **state)
{
	(void)state;
	configure("[{\"subnet\":\"255.255.255.252/30\",\"rangeEnd\":\"255.255.255.255\"}],"
		  "[{\"subnet\":\"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126\","
		  "\"gateway\":\"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff\"}]");
	gives("a", "255.255.255.254/30 by 255.255.255.253; "
		   "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffd/126 by "
		   "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
	gives("b", "255.255.255.255/30 by 255.255.255.253; "
		   "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/126 by "
		   "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
	gives_not("c", CNI_TRY_AGAIN_LATER, "255.255.255.253-255.255.255.255: 2 are");
	takes_back("a");
	gives("c", "255.255.255.254/30 by 255.255.255.253; "
		   "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffd/126 by "
		   "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
	configure("[{\"subnet\":\"::/64\"}]");
	put("last_reserved_ip.0", "::1:2");
	gives("d", "::0.1.0.3/64 by ::1");
	holds("::1:3", "d\r\neth0"); /* as Go writes it */
}

static void test_duplicate(void **state)
{
	(void)state;
	configure(SMALL "," V6);
	gives("a", "10.5.52.2/24 by 10.5.52.1; fc00:5::2/64 by fc00:5::1");
	gives_not("a", CNI_INTERNAL, "a has 10.5.52.2 already");
	put("10.5.52.3", "old");
	put("fc00:5::3", "new\r\neth0\n");
	put("FC00:5:0::9", "odd\r\neth0");
	gives_not("old", CNI_INTERNAL, "old has 10.5.52.3 already");
	gives_not("new", CNI_INTERNAL, "new has fc00:5::3 already");
	gives_not("odd", CNI_INTERNAL, "odd has fc00:5::9 already");
	holds("last_reserved_ip.0", "10.5.52.2");
	assert_int_equal(count(), 5);
	has("old", true);
	takes_back("old");
	has("old", false);
	takes_back("new");
	takes_back("odd");
	assert_int_equal(count(), 2);
	/* The old form only when there is none of this interface. */
	put("10.5.52.4", "a");
	takes_back("a");
	assert_int_equal(count(), 1);
	holds("10.5.52.4", "a");
	takes_back("a");
	assert_int_equal(count(), 0);
}

/* ---- torn and foreign files ---- */

static void test_torn(void **state)
{
	(void)state;
	configure(SMALL);
	put("10.5.52.2", "");
	put(".weft-0000000000000001", "");
	put(".weft-0000000000000002", "dead\r\neth0");
	assert_int_equal(truncate(at("10.5.52.2"), 0), 0);
	takes_back("a");
	assert_true(is_there("10.5.52.2"));
	gives("a", "10.5.52.2/24 by 10.5.52.1");
	holds("10.5.52.2", "a\r\neth0");
	assert_false(is_there(".weft-0000000000000001"));
	put("10.5.52.3", "");
	assert_int_equal(truncate(at("10.5.52.3"), 13), 0); /* zeroes */
	no_linkat = true;
	gives("b", "10.5.52.3/24 by 10.5.52.1");
	holds("10.5.52.3", "b\r\neth0");
	takes_back("dead");
	assert_int_equal(count(), 2);
}

static void make_foreign(void)
{
	put("10.5.52.2", "");
	assert_int_equal(unlink(at("10.5.52.2")), 0);
	assert_int_equal(mkdir(at("10.5.52.2"), 0755), 0);
	assert_int_equal(mkfifo(at("10.5.52.3"), 0644), 0);
	assert_int_equal(symlink("/dev/zero", at("10.5.52.4")), 0);
	assert_int_equal(symlink("nowhere", at("10.5.52.5")), 0);
	put("10.5.52.6", "a file of some other program, which does not look like ours");
	put("10.5.52.7", "");
	assert_int_equal(truncate(at("10.5.52.7"), 1LL << 40), 0); /* sparse */
	put("10.5.52.8", " \r\n");
	put("note", "a\r\neth0");
	put("outside", "a\r\neth0");
	assert_int_equal(symlink("outside", at("10.5.52.9")), 0);
	put("010.5.52.10", "a\r\neth0");
}

static void test_foreign(void **state)
{
	(void)state;
	make_foreign();
	takes_back("a");
	gives("a", "10.5.52.10/24 by 10.5.52.1");
	has("note", false);
	collect("[]");
	assert_int_equal(count(), 11);
	assert_false(is_there("10.5.52.10"));
	holds("note", "a\r\neth0");
	holds("10.5.52.6", "a file of some other program, which does not look like ours");
}

/* The lock, and the address given last, replaced by something else. */
static void test_foreign_own(void **state)
{
	(void)state;
	gives("a", "10.5.52.2/24 by 10.5.52.1");
	assert_int_equal(unlink(at("last_reserved_ip.0")), 0);
	assert_int_equal(symlink("victim", at("last_reserved_ip.0")), 0);
	gives("b", "10.5.52.3/24 by 10.5.52.1");
	assert_false(is_there("victim"));
	assert_int_equal(unlink(at("last_reserved_ip.0")), 0);
	assert_int_equal(mkfifo(at("last_reserved_ip.0"), 0644), 0);
	gives("c", "10.5.52.4/24 by 10.5.52.1");
	assert_int_equal(unlink(at("lock")), 0);
	assert_int_equal(mkfifo(at("lock"), 0644), 0);
	gives_not("d", CNI_IO_FAILURE, "lock is not a regular file");
	assert_int_equal(unlink(at("lock")), 0);
	assert_int_equal(symlink("victim", at("lock")), 0);
	gives_not("d", CNI_IO_FAILURE, "cannot open");
	assert_false(is_there("victim"));
	configure(V4("") "," V6);
	conf.dir = "/dev/null";
	gives_not("d", CNI_IO_FAILURE, "/dev/null");
}

static void test_intruder(void **state)
{
	(void)state;
	intruder = "10.5.52.2";
	gives("a", "10.5.52.3/24 by 10.5.52.1");
	holds("10.5.52.2", "intruder");
}

/* ---- gc ---- */

static void test_gc(void **state)
{
	_cleanup_json_ json_t *broken = json_pack("[{s:s}]", "containerID", "a");

	(void)state;
	collect("[]");
	assert_false(is_there(""));
	gives("a", "10.5.52.2/24 by 10.5.52.1");
	gives("b", "10.5.52.3/24 by 10.5.52.1");
	assert_int_equal(host_local_add(&conf, "a", "eth1", got, &error), 0);
	put("10.5.52.20", "old");
	put("10.5.52.21", "older");
	put("10.5.52.22", "");
	put(".weft-0000000000000001", "dead\r\neth0");
	put(".weft-0000000000000002", "");
	assert_int_equal(host_local_gc(&conf, broken, &error), -1);
	assert_int_equal(host_local_gc(&conf, NULL, &error), -1);
	assert_int_equal(count(), 8);
	collect("[{\"containerID\":\"old\",\"ifname\":\"eth7\"},{\"containerID\":\"b\","
		"\"ifname\":\"eth0\"},{\"containerID\":\"a\",\"ifname\":\"eth1\"}]");
	assert_int_equal(count(), 3);
	holds("10.5.52.3", "b\r\neth0");
	holds("10.5.52.4", "a\r\neth1");
	holds("10.5.52.20", "old");
	collect("[]");
	assert_int_equal(count(), 0);
}

/* ---- file systems ---- */

static bool write_proc(const char *path, const char *text)
{
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 && write(fd, text, strlen(text)) > 0;
}

/* As the only user of a user namespace; root needs none. */
static bool enter_namespaces(void)
{
	char users[64], groups[64];

	(void)snprintf(users, sizeof(users), "0 %u 1", (unsigned)geteuid());
	(void)snprintf(groups, sizeof(groups), "0 %u 1", (unsigned)getegid());
	if (!geteuid())
		return unshare(CLONE_NEWNS) == 0;
	return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 &&
	       write_proc("/proc/self/uid_map", users) &&
	       write_proc("/proc/self/setgroups", "deny") &&
	       write_proc("/proc/self/gid_map", groups);
}

/* In a child with mounts of its own, where the directory is a tmpfs with @options; @fn may
 * use cmocka's assertions only by way of its exit status. */
static void in_tmpfs(const char *options, void (*fn)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid) {
		if (!enter_namespaces() || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		    mkdir(at(""), 0755) || mount("test", at(""), "tmpfs", 0, options))
			_exit(77);
		fn();
		_exit(0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(status, 0);
}

#define MUST(condition)                                                                            \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			(void)fprintf(stderr, "# line %d: %s (%s)\n", __LINE__, #condition,        \
				      error.msg);                                                  \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

static void fail_full(void)
{
	MUST(host_local_add(&conf, "a", "eth0", got, &error) == 0);
	/* One page is left for the next address of the first set, none for the second. */
	for (int fd = open(at("ballast"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644); fd >= 0;) {
		if (write(fd, dir, 4) != 4 || lseek(fd, 4092, SEEK_CUR) < 0)
			break;
	}
	MUST(host_local_add(&conf, "b", "eth0", got, &error) == -1);
	MUST(error.code == CNI_IO_FAILURE);
	MUST(strstr(error.msg, "10.5.52.3: No space left on device"));
	MUST(count() == 3);
	MUST(host_local_del(&conf, "a", "eth0", &error) == 0);
	MUST(count() == 1);
	MUST(host_local_add(&conf, "b", "eth0", got, &error) == 0);
}

static void test_full(void **state)
{
	(void)state;
	configure(V4("") "," V6);
	in_tmpfs("size=64k", fail_full);
}

static void fail_inodes(void)
{
	MUST(host_local_add(&conf, "a", "eth0", got, &error) == -1);
	MUST(error.code == CNI_IO_FAILURE);
	MUST(strstr(error.msg, "fc00:5::2: No space left on device"));
	MUST(count() == 0);
}

static void test_no_inodes(void **state)
{
	(void)state;
	/* Root, lock, the address of the first set and last_reserved_ip.0. */
	configure(V4("") "," V6);
	in_tmpfs("nr_inodes=4", fail_inodes);
}

static void fail_read_only(void)
{
	MUST(host_local_add(&conf, "a", "eth0", got, &error) == 0);
	MUST(mount("test", at(""), NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0);
	MUST(host_local_add(&conf, "b", "eth0", got, &error) == -1);
	MUST(strstr(error.msg, "10.5.52.3: Read-only file system"));
	MUST(host_local_check(&conf, "a", "eth0", &error) == 0);
	MUST(host_local_del(&conf, "a", "eth0", &error) == -1);
	MUST(strstr(error.msg, "cannot remove") && strstr(error.msg, "Read-only file system"));
	MUST(host_local_del(&conf, "b", "eth0", &error) == 0);
}

static void test_read_only(void **state)
{
	(void)state;
	in_tmpfs("", fail_read_only);
}

static void fail_permission(void)
{
	MUST(host_local_add(&conf, "a", "eth0", got, &error) == 0);
	MUST(chmod(at("last_reserved_ip.0"), 0) == 0);
	MUST(chmod(at("lock"), 0644) == 0 && chmod(at(""), 0777) == 0);
	if (setresuid(65534, 65534, 65534))
		_exit(77); /* a root of a user namespace with no other user */
	/* Without its privileges linkat(2) goes by /proc; the round robin is lost. */
	MUST(host_local_add(&conf, "b", "eth0", got, &error) == 0);
	MUST(host_local_del(&conf, "a", "eth0", &error) == 0);
	MUST(count() == 1);
	MUST(chmod(at(""), 0555) == -1);
}

static void fail_permission_dir(void)
{
	MUST(host_local_add(&conf, "a", "eth0", got, &error) == 0);
	MUST(chmod(at("lock"), 0644) == 0 && chmod(at(""), 0755) == 0);
	if (setresuid(65534, 65534, 65534))
		_exit(77); /* a root of a user namespace with no other user */
	MUST(host_local_add(&conf, "b", "eth0", got, &error) == -1);
	MUST(strstr(error.msg, "cannot create") && strstr(error.msg, "Permission denied"));
	MUST(host_local_del(&conf, "a", "eth0", &error) == -1);
	MUST(strstr(error.msg, "Permission denied"));
	MUST(count() == 1);
}

static void test_permission(void **state)
{
	(void)state;
	if (geteuid())
		skip();
	assert_int_equal(chmod(dir, 0755), 0);
	in_tmpfs("", fail_permission);
	assert_int_equal(rmdir(at("")), 0);
	in_tmpfs("", fail_permission_dir);
}

/* Where there are no files without a name; where there is no RENAME_NOREPLACE either. */
static void test_fallbacks(void **state)
{
	(void)state;
	no_linkat = true;
	gives("a", "10.5.52.2/24 by 10.5.52.1");
	holds("10.5.52.2", "a\r\neth0");
	renameat2_errno = EINVAL;
	gives("b", "10.5.52.3/24 by 10.5.52.1");
	holds("10.5.52.3", "b\r\neth0");
	assert_int_equal(mkdir(at("10.5.52.4"), 0755), 0);
	put("last_reserved_ip.0", "10.5.52.3");
	gives("c", "10.5.52.5/24 by 10.5.52.1");
	renameat2_errno = ENOSPC;
	gives_not("d", CNI_IO_FAILURE, "10.5.52.6: No space left on device");
	assert_int_equal(count(), 4);
}

/* ---- the lock ---- */

static void test_lock_is_held(void **state)
{
	int ready[2], status;
	char pid_text[32], byte;
	pid_t pid;

	(void)state;
	gives("a", "10.5.52.2/24 by 10.5.52.1");
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	pid = fork();
	if (!pid) {
		int fd = open(at("lock"), O_RDONLY | O_CLOEXEC);

		if (flock(fd, LOCK_EX) || write(ready[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			(void)pause();
	}
	assert_int_equal(read(ready[0], &byte, 1), 1);
	host_local_lock_wait_s = 0;
	(void)snprintf(pid_text, sizeof(pid_text), "(pid %d) for 0 s", pid);
	gives_not("b", CNI_TRY_AGAIN_LATER, pid_text);
	assert_non_null(strstr(error.msg, "net/lock has been held by test_host_local"));
	assert_int_equal(host_local_del(&conf, "a", "eth0", &error), -1);
	assert_int_equal(error.code, CNI_TRY_AGAIN_LATER);
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	gives("b", "10.5.52.3/24 by 10.5.52.1");
	close(ready[0]);
	close(ready[1]);
}

static void test_lock_is_removed(void **state)
{
	(void)state;
	lock_goes = true;
	gives("a", "10.5.52.2/24 by 10.5.52.1");
	assert_false(lock_goes);
	assert_true(is_there("lock"));
}

/* ---- many, and killed ones ---- */

#define MANY 200

/* Children 0 to MANY at the same time; each ends with the last byte of its address. */
static void run_many(int (*fn)(int i), bool *ret_seen)
{
	pid_t pid[MANY];
	int status;

	for (int i = 0; i < MANY; i++) {
		pid[i] = fork();
		assert_true(pid[i] >= 0);
		if (!pid[i])
			_exit(fn(i));
	}
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_true(WIFEXITED(status));
		if (ret_seen) {
			assert_false(ret_seen[WEXITSTATUS(status)]);
			ret_seen[WEXITSTATUS(status)] = true;
		} else {
			assert_int_equal(status, 0);
		}
	}
}

static int add_child(int i)
{
	char id[16];

	(void)snprintf(id, sizeof(id), "c%d", i);
	return host_local_add(&conf, id, "eth0", got, &error) ? 0 : got[0].net.ip.b[3];
}

static int del_child(int i)
{
	char id[16];

	(void)snprintf(id, sizeof(id), "c%d", i);
	return host_local_del(&conf, id, "eth0", &error);
}

static void test_parallel(void **state)
{
	bool seen[256] = {false};

	(void)state;
	run_many(add_child, seen);
	assert_false(seen[0]); /* none has failed */
	assert_int_equal(count(), MANY);
	run_many(del_child, NULL);
	assert_int_equal(count(), 0);
}

/* Runs an ADD that is killed before its system call number @n; false when it had fewer. */
static bool killed_at(int n)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) || raise(SIGSTOP))
			_exit(1);
		_exit(host_local_add(&conf, "a", "eth0", got, &error) ? 1 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status))
		skip(); /* no ptrace here */
	for (int i = 0; WIFSTOPPED(status) && i < n; i++) {
		assert_int_equal(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
	}
	if (WIFEXITED(status)) {
		assert_int_equal(status, 0);
		return false;
	}
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return true;
}

static void test_killed(void **state)
{
	size_t n_whole = 0;
	int n = 1;

	(void)state;
	configure(SMALL "," V6);
	for (int fallback = 0; fallback < 2; fallback++) {
		no_linkat = fallback;
		for (n = 1; killed_at(n); n++) {
			if (is_there("")) {
				n_whole += is_there("10.5.52.2") && is_there("fc00:5::2");
				put("last_reserved_ip.0", "");
				put("last_reserved_ip.1", "");
			}
			takes_back("a");
			if (!is_there(""))
				continue;
			/* Only what a fallback has not filled yet may stay, till the next ADD. */
			assert_true(count() <= (size_t)fallback);
			gives("b", "10.5.52.2/24 by 10.5.52.1; fc00:5::2/64 by fc00:5::1");
			takes_back("b");
			assert_int_equal(count(), 0);
			put("last_reserved_ip.0", "");
			put("last_reserved_ip.1", "");
		}
		assert_true(n > 20);
		takes_back("a");
	}
	assert_true(n_whole > 0);
}

/* What is in the way of nearly everything, and the two that are left. */
static void test_nearly_full(void **state)
{
	char name[IP_STRLEN];

	(void)state;
	configure("[{\"subnet\":\"10.6.0.0/21\"}]");
	put("last_reserved_ip.0", "10.6.3.0");
	for (uint32_t i = 2; i < 2047; i++) {
		struct ip ip = ip_from_num(IP_V4, 0x0a060000 + i);
		int fd;

		if (i == 0x2ff || i == 0x7f0)
			continue;
		fd = open(at(ip_format(&ip, name)), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
		assert_true(fd >= 0);
		assert_int_equal(write(fd, "x\r\neth0", 7), 7);
		close(fd);
	}
	gives("a", "10.6.7.240/21 by 10.6.0.1");
	gives("b", "10.6.2.255/21 by 10.6.0.1");
	gives_not("c", CNI_TRY_AGAIN_LATER, "10.6.0.1-10.6.7.254: 2045 are in use");
	takes_back("x");
	assert_int_equal(count(), 2);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(test_life),
		TEST(test_long_names),
		TEST(test_round_robin),
		TEST(test_last),
		TEST(test_sets),
		TEST(test_ends),
		TEST(test_duplicate),
		TEST(test_torn),
		TEST(test_foreign),
		TEST(test_foreign_own),
		TEST(test_gc),
		TEST(test_full),
		TEST(test_intruder),
		TEST(test_no_inodes),
		TEST(test_read_only),
		TEST(test_permission),
		TEST(test_fallbacks),
		TEST(test_lock_is_held),
		TEST(test_lock_is_removed),
		TEST(test_parallel),
		TEST(test_killed),
		TEST(test_nearly_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
