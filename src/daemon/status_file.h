/* SPDX-License-Identifier: Apache-2.0 */
/* status_file.h - how flanneld is, in one line beside the subnet file: for the CNI plugin,
 * which can say why there is no subnet file yet (docs/cni.md)
 */
#pragma once

#include "base/err.h"

struct status_file;

/* `status` in the directory of @subnet_path. Touches nothing yet. */
struct status_file *status_file_new(const char *subnet_path);
/* Leaves the last line there; the lock ends. NULL is allowed. */
void status_file_free(struct status_file *file);
/* Has @text (one line) in it. -EWOULDBLOCK: another flanneld holds the file, which stays as
 * it is; other errors of open(2), write(2). */
int status_file_write(struct status_file *file, const char *text, struct err *err);

/* The path. Caller frees. */
char *status_file_path(const char *subnet_path);
