/* SPDX-License-Identifier: Apache-2.0 */
/* file.h - whole files: bounded read, atomic write */
#pragma once

#include "base/err.h"

#include <stddef.h>
#include <stdio.h>
#include <sys/types.h>

/* Reads the whole file at @path relative to @dirfd (AT_FDCWD for none) into a
 * NUL-terminated buffer that the caller frees. Errors: as open(2) and read(2);
 * -EFBIG above @limit bytes; -EINVAL when it is not a regular file (a fifo in
 * its place must not block us). */
int file_read(int dirfd, const char *path, size_t limit, char **ret_text, size_t *ret_len,
	      struct err *err);

/* Replaces @path by @text through a temporary file in the same directory,
 * fsync(2) and rename(2): a reader sees the old text or the new one, also after
 * a crash. Creates missing parent directories (mode 0755). */
int file_write_atomic(const char *path, const char *text, mode_t mode, struct err *err);

/* The same for a text that is never in memory as a whole. Between the two the caller writes
 * to `stream`. The disk is not waited for: after a crash the file may be cut short or empty,
 * so that the text must show where it ends. */
struct file_replacement {
	FILE *stream;
	char *path, *temporary;
};
int file_replace_begin(const char *path, mode_t mode, struct file_replacement *ret_replacement,
		       struct err *err);
/* Puts the new text in the place of the old one, unless writing has failed or @code is
 * one: then the old one stays, and that code is returned. */
int file_replace_end(struct file_replacement *replacement, int code, struct err *err);

/* Writes all of @text. 0 or -errno. */
int file_write_text(int fd, const char *text);
/* The same, and has it on disk (fsync(2)). */
int file_write_all(int fd, const char *text);

/* Creates the missing directories before the last slash of @path (mode 0755). */
int file_make_parents(const char *path, struct err *err);
