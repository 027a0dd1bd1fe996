/* SPDX-License-Identifier: Apache-2.0 */
/* log.c - klog-like lines on stderr */
#include "base/log.h"

#include <errno.h>
#include <fnmatch.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE_MAX 1024

static int verbosity;
static const char *vmodule = "";

void log_set_verbosity(int v)
{
	verbosity = v;
}

static const char *base_name(const char *file)
{
	const char *slash = strrchr(file, '/');

	return slash ? slash + 1 : file;
}

/* Cuts the next `pattern=level` off *@cursor. False at the end of the text; a
 * malformed piece sets *@ret_level to -1. */
static bool next_vmodule(const char **cursor, char *ret_pattern, size_t size, int *ret_level)
{
	const char *s = *cursor, *comma = strchrnul(s, ',');
	const char *eq = memchr(s, '=', (size_t)(comma - s));
	char *end;

	if (!*s)
		return false;
	*cursor = *comma ? comma + 1 : comma;
	*ret_level = -1;
	if (!eq || eq == s || (size_t)(eq - s) >= size)
		return true;
	memcpy(ret_pattern, s, (size_t)(eq - s));
	ret_pattern[eq - s] = '\0';
	errno = 0;
	long level = strtol(eq + 1, &end, 10);
	if (end == comma && end != eq + 1 && !errno && level >= 0 && level < 100)
		*ret_level = (int)level;
	return true;
}

int log_set_vmodule(const char *patterns)
{
	const char *cursor = patterns;
	char pattern[64];
	int level;

	while (next_vmodule(&cursor, pattern, sizeof(pattern), &level))
		if (level < 0)
			return -EINVAL;
	vmodule = patterns;
	return 0;
}

_Bool log_enabled(int level, const char *file)
{
	const char *cursor = vmodule;
	char name[64], pattern[64];
	int file_level;

	if (level <= verbosity)
		return true;
	(void)snprintf(name, sizeof(name), "%s", base_name(file));
	name[strcspn(name, ".")] = '\0';
	while (next_vmodule(&cursor, pattern, sizeof(pattern), &file_level))
		if (level <= file_level && !fnmatch(pattern, name, 0))
			return true;
	return false;
}

void log_clean(char *text)
{
	for (char *c = text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			*c = ' ';
}

void log_write(char severity, const char *file, int line, const char *fmt, ...)
{
	char text[LOG_LINE_MAX];
	struct timespec now;
	struct tm tm;
	size_t n;
	va_list ap;
	static int pid; /* we never fork without exec: one system call is enough */

	if (!pid)
		pid = (int)getpid();
	(void)clock_gettime(CLOCK_REALTIME, &now);
	if (!localtime_r(&now.tv_sec, &tm))
		memset(&tm, 0, sizeof(tm));
	(void)snprintf(text, sizeof(text), "%c%02d%02d %02d:%02d:%02d.%06ld %7d %s:%d] ", severity,
		       tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
		       now.tv_nsec / 1000, pid, base_name(file), line);
	n = strlen(text);
	va_start(ap, fmt);
	(void)vsnprintf(text + n, sizeof(text) - n - 1, fmt, ap);
	va_end(ap);
	log_clean(text + n);
	n = strlen(text);
	text[n++] = '\n';
	if (write(STDERR_FILENO, text, n) < 0)
		return; /* nowhere left to say so */
}
