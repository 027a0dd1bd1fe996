/* SPDX-License-Identifier: Apache-2.0 */
/* saved.c - the delegate's config of each attachment, kept for DEL, CHECK and GC
 *
 * A new text is written under a hidden name and renamed. The hidden name follows from the
 * attachment (two commands for one attachment do not run at the same time, says the
 * specification), so that DEL finds also what a killed ADD has left there. The disk is not
 * waited for: that would take longer than all the rest of an ADD, and what a crash of the
 * host cuts short reads as torn, which DEL copes with.
 */
#include "cni/saved.h"

#include "base/file.h"
#include "base/mem.h"
#include "cni/request.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define SAVED_MAX_BYTES (1 << 20)
#define MEMBER          "weft"
#define FIRST_IFNAME    "eth0" /* has the original's file name */
#define HIDDEN_MAX_S    60     /* that an ADD may take from writing it to renaming it */

static char *make_path(const char *data_dir, const char *container_id, const char *ifname)
{
	bool first = !strcmp(ifname, FIRST_IFNAME);
	char *path;

	if (asprintf(&path, "%s/%s%s%s", data_dir, container_id, first ? "" : ":",
		     first ? "" : ifname) < 0)
		abort();
	return path;
}

static char *make_hidden_path(const char *path)
{
	const char *name = strrchr(path, '/') + 1;
	char *hidden;

	if (asprintf(&hidden, "%.*s.%s", (int)(name - path), path, name) < 0)
		abort();
	return hidden;
}

/* ---- writing ---- */

static int make_data_dir(const char *data_dir, struct cni_error *error)
{
	struct err err;

	if (!mkdir(data_dir, 0700) || errno == EEXIST)
		return 0;
	if (file_make_parents(data_dir, &err))
		return cni_fail(error, CNI_IO_FAILURE, "dataDir: %s", err.text);
	if (mkdir(data_dir, 0700) && errno != EEXIST)
		return cni_fail(error, CNI_IO_FAILURE, "dataDir: cannot create directory %s: %s",
				data_dir, strerror(errno));
	return 0;
}

static int write_hidden(const char *hidden, const char *text)
{
	/* Nothing that somebody else has put there is written into. */
	int fd = open(hidden, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600), r;

	if (fd < 0)
		return -errno;
	r = file_write_text(fd, text);
	if (close(fd) && !r)
		r = -errno;
	return r;
}

static int write_file(const char *path, const json_t *json, struct cni_error *error)
{
	_cleanup_free_ char *text = json_dumps(json, JSON_COMPACT);
	_cleanup_free_ char *hidden = make_hidden_path(path);
	int r;

	if (!text)
		return cni_fail(error, CNI_INTERNAL, "the delegate's config is no JSON text");
	r = write_hidden(hidden, text);
	if (!r && rename(hidden, path))
		r = -errno;
	if (!r)
		return 0;
	(void)unlink(hidden);
	return cni_fail(error, CNI_IO_FAILURE, "cannot write %s: %s", path, strerror(-r));
}

static json_t *with_member(const json_t *delegate, const char *container_id, const char *ifname,
			   const char *refusal)
{
	json_t *json = json_deep_copy(delegate);
	json_t *member = json_pack("{s:s, s:s}", "containerID", container_id, "ifName", ifname);

	/* Words that are cut inside a character are no string to JSON, and not noted. */
	if (refusal)
		(void)json_object_set_new(member, "refusal", json_string(refusal));
	(void)json_object_set_new(json, MEMBER, member);
	return json;
}

int saved_write(const char *data_dir, const char *container_id, const char *ifname,
		const json_t *delegate, struct cni_error *error)
{
	_cleanup_free_ char *path = make_path(data_dir, container_id, ifname);
	_cleanup_json_ json_t *json = with_member(delegate, container_id, ifname, NULL);

	if (make_data_dir(data_dir, error))
		return -1;
	return write_file(path, json, error);
}

int saved_restore(const struct saved *saved, struct cni_error *error)
{
	_cleanup_json_ json_t *json = saved->ifname
					      ? with_member(saved->delegate, saved->container_id,
							    saved->ifname, saved->refusal)
					      : json_deep_copy(saved->delegate);

	return write_file(saved->path, json, error);
}

/* ---- reading ---- */

/* 1: @ret_saved has all but its path; 0: no such file. */
static int read_file(const char *path, const char *container_id, struct saved *ret_saved,
		     struct cni_error *error)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_json_ json_t *json = NULL;
	const char *ifname, *refusal, *type;
	const json_t *member;
	struct err err;
	size_t len;
	int r = file_read(AT_FDCWD, path, SAVED_MAX_BYTES, &text, &len, &err);

	if (r == -ENOENT || r == -ENAMETOOLONG)
		return 0;
	if (r)
		return cni_fail(error, CNI_IO_FAILURE, "%s", err.text);
	if (json_parse_object(text, len, path, &json, &err))
		return cni_fail(error, CNI_DECODING_FAILURE, "%s", err.text);
	type = json_string_value(json_member(json, "type"));
	if (!type || !cni_type_is_sound(type))
		return cni_fail(error, CNI_DECODING_FAILURE,
				"%s: its \"type\" is not the name of a plugin", path);
	member = json_object_get(json, MEMBER);
	ifname = json_string_value(json_object_get(member, "ifName"));
	refusal = json_string_value(json_object_get(member, "refusal"));
	ret_saved->container_id = mem_strdup(container_id);
	ret_saved->ifname = ifname ? mem_strdup(ifname) : NULL;
	ret_saved->refusal = refusal ? mem_strdup(refusal) : NULL;
	(void)json_object_del(json, MEMBER);
	ret_saved->delegate = TAKE_PTR(json);
	return 1;
}

int saved_read(const char *data_dir, const char *container_id, const char *ifname,
	       struct saved *ret_saved, struct cni_error *error)
{
	struct saved others = {0};
	int r;

	*ret_saved = (struct saved){.path = make_path(data_dir, container_id, ifname)};
	r = read_file(ret_saved->path, container_id, ret_saved, error);
	if (r || !strcmp(ifname, FIRST_IFNAME))
		return r;
	/* The original's, whatever the interface; not ours of eth0. One that cannot be read
	 * is in the way of eth0's commands only. */
	others.path = make_path(data_dir, container_id, FIRST_IFNAME);
	if (read_file(others.path, container_id, &others, error) == 1 && !others.ifname) {
		saved_done(ret_saved);
		*ret_saved = others;
		return 1;
	}
	saved_done(&others);
	return 0;
}

/* ---- removing ---- */

int saved_remove(const struct saved *saved, struct cni_error *error)
{
	_cleanup_free_ char *hidden = make_hidden_path(saved->path);

	(void)unlink(hidden);
	if (unlink(saved->path) && errno != ENOENT && errno != ENAMETOOLONG)
		return cni_fail(error, CNI_IO_FAILURE, "cannot remove %s: %s", saved->path,
				strerror(errno));
	return 0;
}

void saved_done(struct saved *saved)
{
	json_decref(saved->delegate);
	free(saved->container_id);
	free(saved->ifname);
	free(saved->refusal);
	free(saved->path);
	*saved = (struct saved){0};
}

/* ---- all of them ---- */

static void visit(const char *data_dir, const char *file_name, const char *name, saved_fn fn,
		  void *userdata)
{
	_cleanup_free_ char *container_id = mem_strdup(file_name);
	_cleanup_saved_ struct saved saved = {0};
	const char *network;
	struct cni_error error;
	int r;

	container_id[strcspn(container_id, ":")] = '\0';
	if (asprintf(&saved.path, "%s/%s", data_dir, file_name) < 0)
		abort();
	r = read_file(saved.path, container_id, &saved, &error);
	if (r < 0)
		(void)fprintf(stderr, "flannel: %s; leaving it\n", error.msg);
	if (r <= 0)
		return;
	network = json_string_value(json_member(saved.delegate, "name"));
	if (network && !strcmp(network, name))
		fn(&saved, userdata);
}

/* Hidden names are no configs. */
static int is_visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

static int is_hidden(const struct dirent *entry)
{
	return entry->d_name[0] == '.' && entry->d_name[1] && strcmp(entry->d_name, "..") != 0;
}

/* Nothing was made yet when it was left, so that it does not matter whose it is. */
static void sweep(const char *data_dir, const char *file_name)
{
	_cleanup_free_ char *path = NULL;
	struct stat st;

	if (asprintf(&path, "%s/%s", data_dir, file_name) < 0)
		abort();
	if (!lstat(path, &st) && S_ISREG(st.st_mode) && time(NULL) - st.st_mtime > HIDDEN_MAX_S)
		(void)unlink(path);
}

void saved_sweep(const char *data_dir)
{
	struct dirent **entries = NULL;
	int n = scandir(data_dir, &entries, is_hidden, NULL);

	for (int i = 0; i < n; i++) {
		sweep(data_dir, entries[i]->d_name);
		free(entries[i]);
	}
	free(entries);
}

int saved_for_each(const char *data_dir, const char *name, saved_fn fn, void *userdata,
		   struct cni_error *error)
{
	/* All names before the first call, which may remove files. */
	struct dirent **entries = NULL;
	int n = scandir(data_dir, &entries, is_visible, alphasort);

	if (n < 0 && errno == ENOENT)
		return 0;
	if (n < 0)
		return cni_fail(error, CNI_IO_FAILURE, "cannot list %s: %s", data_dir,
				strerror(errno));
	for (int i = 0; i < n; i++) {
		visit(data_dir, entries[i]->d_name, name, fn, userdata);
		free(entries[i]);
	}
	free(entries);
	return 0;
}
