/* SPDX-License-Identifier: Apache-2.0 */
/* cni_site.h - a directory with plugins that are shell scripts, for tests of the CNI plugin */
#pragma once

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "cni/request.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static char site[] = "/tmp/weft-cni-XXXXXX";

/* SITE/@name; good until the fourth call after this one. */
static inline const char *site_path(const char *name)
{
	static char paths[4][PATH_MAX];
	static unsigned next;
	char *path = paths[next++ % ARRAY_SIZE(paths)];

	(void)snprintf(path, PATH_MAX, "%s/%s", site, name);
	return path;
}

static inline void site_write(const char *name, mode_t mode, const char *text)
{
	const char *path = site_path(name);
	int fd;

	assert_int_equal(file_make_parents(path, NULL), 0);
	(void)unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, mode);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	assert_int_equal(close(fd), 0);
}

/* A plugin that appends its command to SITE/log, keeps environment and stdin in SITE/env and
 * SITE/in, then runs @body with $SITE. */
static inline void site_plugin(const char *type, const char *body)
{
	char text[4096], name[64];

	(void)snprintf(text, sizeof(text),
		       "#!/bin/sh\nSITE=%s\necho $CNI_COMMAND >>$SITE/log\nenv >$SITE/env\n"
		       "cat >$SITE/in\n%s\n",
		       site, body);
	(void)snprintf(name, sizeof(name), "bin/%s", type);
	site_write(name, 0755, text);
}

/* The file's text, "" when there is none; good until the next call. */
static inline const char *site_read(const char *name)
{
	static char *text;
	size_t len;

	free(text);
	text = NULL;
	if (file_read(AT_FDCWD, site_path(name), 1 << 22, &text, &len, NULL))
		text = mem_strdup("");
	return text;
}

static inline bool site_has(const char *name)
{
	return !access(site_path(name), F_OK);
}

/* How many files are in a directory, hidden ones as well. */
static inline int site_count(const char *name)
{
	DIR *dir = opendir(site_path(name));
	int n = 0;

	for (const struct dirent *e; dir && (e = readdir(dir));)
		n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
	if (dir)
		closedir(dir);
	return n;
}

static inline int site_remove_one(const char *path, const struct stat *st, int type,
				  struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static inline int site_setup(void **state)
{
	(void)state;
	memcpy(site + strlen(site) - 6, "XXXXXX", 6);
	return mkdtemp(site) ? 0 : -1;
}

static inline int site_teardown(void **state)
{
	(void)state;
	return nftw(site, site_remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static inline struct cni_request site_request(enum cni_command command)
{
	static char path[PATH_MAX];

	(void)snprintf(path, sizeof(path), "%s/bin", site);
	return (struct cni_request){
		.command = command,
		.container_id = "abc",
		.netns = "/run/netns/weft-no-such-netns",
		.ifname = "eth0",
		.args = "K=V",
		.path = path,
	};
}
