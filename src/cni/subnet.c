/* SPDX-License-Identifier: Apache-2.0 */
/* subnet.c - the node's subnet file, as the plugin needs it */
#include "cni/subnet.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#define STATUS_MAX_BYTES 4096

/* Whether somebody holds @path. Our own lock lasts for this call: flanneld tries again. */
static bool is_held(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	return fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK;
}

/* Puts into @buf how flanneld is, in its own words where it has left some. */
static const char *flanneld_says(const char *subnet_path, char *buf, size_t size)
{
	_cleanup_free_ char *path = subnet_file_status_path(subnet_path), *text = NULL;
	size_t len;

	if (file_read(AT_FDCWD, path, STATUS_MAX_BYTES, &text, &len, NULL)) {
		(void)snprintf(buf, size, "is flanneld running on this node?");
		return buf;
	}
	text[strcspn(text, "\n")] = '\0';
	log_clean(text);
	if (is_held(path))
		(void)snprintf(buf, size, "flanneld is running, it says: %.200s",
			       *text ? text : "nothing");
	else
		(void)snprintf(buf, size,
			       "is flanneld running on this node? The last one said: %.200s",
			       *text ? text : "nothing");
	return buf;
}

int cni_subnet_read(const char *path, struct subnet_file *ret_subnet, struct cni_error *error)
{
	_cleanup_free_ char *text = NULL;
	char says[ERR_TEXT_MAX];
	struct err err;
	size_t len;
	int r = file_read(AT_FDCWD, path, SUBNET_FILE_MAX_BYTES, &text, &len, &err);

	if (r == -ENOENT)
		/* In parentheses the original's words, which people look for. */
		return cni_fail(error, CNI_TRY_AGAIN_LATER,
				"subnet.env missing (open %s: no such file or directory): %s", path,
				flanneld_says(path, says, sizeof(says)));
	if (r)
		return cni_fail(error, CNI_TRY_AGAIN_LATER, "subnet.env: %s", err.text);
	if (!subnet_file_parse(text, ret_subnet, &err))
		return 0;
	return cni_fail(error, CNI_TRY_AGAIN_LATER, "subnet.env %s: %s; %s", path, err.text,
			flanneld_says(path, says, sizeof(says)));
}
