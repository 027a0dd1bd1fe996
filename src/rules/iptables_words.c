/* SPDX-License-Identifier: Apache-2.0 */
/* iptables_words.c - why iptables-restore failed, or waits, in words that help
 *
 * It names the line of its input and, where an extension is missing, that: "line 5
 * failed", "Error occurred at line: 5", "Couldn't load match `addrtype'", "Extension
 * MASQUERADE revision 0 not supported, missing kernel module?". iptables-legacy hands a
 * whole table to the kernel at its COMMIT, which is then the line that failed.
 */
#include "rules/iptables_words.h"

#include "base/file.h"
#include "base/mem.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define NAME_MAX_LEN 64
#define LOCKS_MAX    (1 << 20)

/* The number behind "line 5" or "line: 5"; 0: none. */
static unsigned long find_line(const char *words)
{
	for (const char *c = strstr(words, "line"); c; c = strstr(c + 1, "line")) {
		const char *number = c + 4 + strspn(c + 4, ": ");

		if (number > c + 4 && isdigit((unsigned char)*number))
			return strtoul(number, NULL, 10);
	}
	return 0;
}

/* Line @n of @text, from 1; NULL: there is none. */
static const char *nth_line(const char *text, unsigned long n, int *ret_len)
{
	for (; n > 1 && text; n--) {
		text = strchr(text, '\n');
		text = text ? text + 1 : NULL;
	}
	if (!n || !text || !*text)
		return NULL;
	*ret_len = (int)strcspn(text, "\n");
	return text;
}

/* The name that stands in @words behind @before, up to one of @ends. */
static bool find_name(const char *words, const char *before, const char *ends, char *buf)
{
	const char *name = strstr(words, before);
	size_t len;

	if (!name)
		return false;
	name += strlen(before);
	len = strcspn(name, ends);
	if (!len || len >= NAME_MAX_LEN)
		return false;
	(void)snprintf(buf, NAME_MAX_LEN, "%.*s", (int)len, name);
	return true;
}

/* What is lacking, as far as the words tell; or "". */
static void explain_lack(const char *words, char *buf, size_t size)
{
	char name[NAME_MAX_LEN];

	*buf = '\0';
	if (find_name(words, "Extension ", " ", name))
		(void)snprintf(buf, size, "the kernel has no `%s' (module xt_%s): ", name, name);
	else if (find_name(words, "load match `", "'", name) ||
		 find_name(words, "load target `", "'", name))
		(void)snprintf(buf, size, "iptables has no `%s' (libxt_%s.so): ", name, name);
	else if (strstr(words, "can't initialize") || strstr(words, "Table does not exist"))
		(void)snprintf(buf, size,
			       "the kernel may lack a module (iptable_nat, iptable_filter), or we "
			       "the privilege to load it: ");
}

/* "Try `iptables-restore -h' or 'iptables-restore --help' for more information." helps
 * nobody. */
static void cut_hint(char *words)
{
	static const char end[] = "for more information.";
	char *from = strstr(words, " Try `"), *to = from ? strstr(from, end) : NULL;

	if (to)
		(void)memmove(from, to + strlen(end), strlen(to + strlen(end)) + 1);
}

void iptables_explain_failure(const char *program, const char *ended, const char *text, char *buf,
			      size_t size)
{
	_cleanup_free_ char *words = mem_strdup(ended);
	char lack[224];
	const char *line;
	int len = 0;

	cut_hint(words);
	explain_lack(words, lack, sizeof(lack));
	line = nth_line(text, find_line(words), &len);
	if (!line)
		(void)snprintf(buf, size, "%s%s: %s", lack, program, words);
	else if (!strncmp(line, "COMMIT", 6))
		(void)snprintf(buf, size, "%s%s: %s: the kernel refuses the table as a whole", lack,
			       program, words);
	else
		(void)snprintf(buf, size, "%s%s: %s: that is `%.*s'", lack, program, words, len,
			       line);
}

/* The fifth word of a line of /proc/locks; 0: no number. */
static long fifth_number(const char *line)
{
	for (int i = 0; i < 4; i++) {
		line += strspn(line, " ");
		line += strcspn(line, " ");
	}
	return strtol(line, NULL, 10);
}

/* Who holds a lock on the file @st, as /proc/locks says; 0: nobody that we can see. */
static pid_t find_holder(const struct stat *st, bool *ret_held)
{
	_cleanup_free_ char *locks = NULL;
	char file[64];
	size_t len;
	long pid;

	*ret_held = false;
	if (file_read(AT_FDCWD, "/proc/locks", LOCKS_MAX, &locks, &len, NULL))
		return 0;
	(void)snprintf(file, sizeof(file), " %02x:%02x:%lu ", major(st->st_dev), minor(st->st_dev),
		       (unsigned long)st->st_ino);
	/* "7: FLOCK  ADVISORY  WRITE 4711 00:19:1234 0 EOF"; who waits has "->" behind the
	 * number. */
	for (char *next, *line = strtok_r(locks, "\n", &next); line;
	     line = strtok_r(NULL, "\n", &next)) {
		if (!strstr(line, file) || strstr(line, "->"))
			continue;
		*ret_held = true;
		pid = fifth_number(line);
		if (pid > 0)
			return (pid_t)pid;
	}
	return 0;
}

void iptables_explain_lock(pid_t self, char *buf, size_t size)
{
	const char *path = getenv("XTABLES_LOCKFILE");
	_cleanup_free_ char *name = NULL;
	char comm[48];
	struct stat st;
	size_t len;
	bool held;
	pid_t pid;

	*buf = '\0';
	if (!path || !*path)
		path = "/run/xtables.lock";
	if (stat(path, &st) < 0)
		return;
	pid = find_holder(&st, &held);
	if (!held || (pid && pid == self))
		return;
	(void)snprintf(comm, sizeof(comm), "/proc/%d/comm", (int)pid);
	if (!pid)
		(void)snprintf(buf, size, "%s is held by another program", path);
	else if (file_read(AT_FDCWD, comm, 64, &name, &len, NULL))
		(void)snprintf(buf, size, "%s is held by pid %d", path, (int)pid);
	else
		(void)snprintf(buf, size, "%s is held by %.*s (pid %d)", path,
			       (int)strcspn(name, "\n"), name, (int)pid);
}
