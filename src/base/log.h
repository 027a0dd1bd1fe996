/* SPDX-License-Identifier: Apache-2.0 */
/* log.h - klog-like lines on stderr: `I0220 14:31:23.347252    4711 main.c:475] message`
 *
 * Levels, as operators should read them: error - something is down and stays
 * down until somebody acts; warning - something failed and we say what happens
 * next ("retrying in 5 s"); info - a change of state. log_debug() needs -v.
 * The text has no trailing newline and never holds a secret.
 */
#pragma once

/* Lines of log_debug(level) appear when level <= @verbosity (flag -v, default 0). */
void log_set_verbosity(int verbosity);
/* Per-file verbosity in klog's --vmodule syntax, `dir_store=2,node=1`: the file's
 * name without directory and `.c`, `*` and `?` as wildcards. The text must live
 * as long as the program. Returns 0 or -EINVAL. */
int log_set_vmodule(const char *patterns);

void log_write(char severity, const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Makes blanks of control characters: outside text (a file name, a record) stays one line. */
void log_clean(char *text);
_Bool log_enabled(int level, const char *file);

#define log_error(...)   log_write('E', __FILE__, __LINE__, __VA_ARGS__)
#define log_warning(...) log_write('W', __FILE__, __LINE__, __VA_ARGS__)
#define log_info(...)    log_write('I', __FILE__, __LINE__, __VA_ARGS__)
#define log_debug(level, ...)                                                                      \
	do {                                                                                       \
		if (log_enabled((level), __FILE__))                                                \
			log_write('I', __FILE__, __LINE__, __VA_ARGS__);                           \
	} while (0)
