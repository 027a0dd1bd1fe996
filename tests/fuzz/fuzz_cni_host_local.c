/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_cni_host_local.c - a config of host-local, and what a directory of its may hold
 *
 * The first line is the config. Each other line makes one entry, "NAME CONTENTS": a directory
 * when the name begins with "/", a symlink to CONTENTS with "@", else a file where each "~"
 * stands for the line break of the plugin. A config that is taken has ranges that make sense;
 * an ADD gives addresses of them that nothing in the directory has, and DEL leaves all as it
 * was.
 */
#include "base/file.h"
#include "cni/host_local.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#define ID    "fuzzed-container"
#define OWNER ID "\r\neth0"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[] = "/tmp/weft-fuzz-host-local-XXXXXX";
static int dir_fd = -1;

/* ---- the directory ---- */

static void clear(void)
{
	DIR *d = fdopendir(openat(dir_fd, "net", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	const struct dirent *entry;

	while (d && (entry = readdir(d)))
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
		    unlinkat(dirfd(d), entry->d_name, 0))
			assert(unlinkat(dirfd(d), entry->d_name, AT_REMOVEDIR) == 0);
	if (d)
		(void)closedir(d);
}

static void at_end(void)
{
	clear();
	(void)unlinkat(dir_fd, "net", AT_REMOVEDIR);
	(void)rmdir(dir);
}

static void make_entry(int net_fd, char *line)
{
	char *contents = strchr(line, ' ');
	FILE *f;
	int fd;

	if (contents)
		*contents++ = '\0';
	if (!line[strspn(line, "/@")] || strchr(line + 1, '/') || strlen(line) > NAME_MAX)
		return;
	if (*line == '/') {
		(void)mkdirat(net_fd, line + 1, 0755);
		return;
	}
	if (*line == '@') {
		/* One of that name is there already, or the target is too long: fine. */
		if (symlinkat(contents && *contents ? contents : "x", net_fd, line + 1))
			assert(errno == EEXIST || errno == ENAMETOOLONG);
		return;
	}
	fd = openat(net_fd, line, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	f = fd < 0 ? NULL : fdopen(fd, "w");
	for (const char *c = contents; f && c && *c; c++)
		(void)fputs(*c == '~' ? "\r\n" : (char[]){*c, '\0'}, f);
	if (f)
		(void)fclose(f);
}

static void make_entries(char *lines)
{
	int net_fd;
	char *line;

	(void)mkdirat(dir_fd, "net", 0755);
	net_fd = openat(dir_fd, "net", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert(net_fd >= 0);
	while ((line = strsep(&lines, "\n")))
		make_entry(net_fd, line);
	close(net_fd);
}

static int is_counted(const struct dirent *entry)
{
	return strcmp(entry->d_name, "lock") != 0 &&
	       strncmp(entry->d_name, "last_reserved_ip.", 17) != 0;
}

/* Names and sizes of all that ADD and DEL must leave. */
static char *describe(void)
{
	struct dirent **entries;
	struct stat st;
	char *text = NULL, path[PATH_MAX];
	size_t len;
	FILE *out = open_memstream(&text, &len);
	int n;

	(void)snprintf(path, sizeof(path), "%s/net", dir);
	n = scandir(path, &entries, is_counted, alphasort);
	assert(out && n >= 0);
	for (int i = 0; i < n; i++) {
		(void)snprintf(path, sizeof(path), "net/%s", entries[i]->d_name);
		assert(fstatat(dir_fd, path, &st, AT_SYMLINK_NOFOLLOW) == 0);
		/* What is torn may go. */
		if (!S_ISREG(st.st_mode) || st.st_size)
			(void)fprintf(out, "%s %u %lld\n", entries[i]->d_name, st.st_mode,
				      (long long)st.st_size);
		free(entries[i]);
	}
	free(entries);
	(void)fclose(out);
	return text;
}

/* ---- what must be so ---- */

static void check_conf(const struct host_local_conf *conf)
{
	assert(conf->n_sets && conf->n_sets <= HOST_LOCAL_SETS_MAX);
	assert(conf->n_routes <= HOST_LOCAL_ROUTES_MAX);
	assert(*conf->network && !strchr(conf->network, '/') && *conf->dir);
	for (size_t s = 0; s < conf->n_sets; s++) {
		assert(conf->set[s].n && conf->set[s].n <= HOST_LOCAL_RANGES_MAX);
		for (size_t r = 0; r < conf->set[s].n; r++) {
			const struct host_local_range *range = &conf->set[s].range[r];

			assert(ip_net_contains(&range->subnet, &range->start));
			assert(ip_net_contains(&range->subnet, &range->end));
			assert(ip_to_num(&range->start) <= ip_to_num(&range->end));
			assert(ip_is_set(&range->gateway));
			assert(range->start.family == conf->set[s].range[0].start.family);
		}
	}
}

static void check_address(const struct host_local_set *set, const struct cni_address *address)
{
	size_t n = 0;

	for (size_t r = 0; r < set->n; r++) {
		if (!host_local_range_contains(&set->range[r], &address->net.ip))
			continue;
		n++;
		assert(!ip_equal(&set->range[r].gateway, &address->net.ip));
		assert(ip_equal(&set->range[r].gateway, &address->gateway));
		assert(set->range[r].subnet.len == address->net.len);
	}
	assert(n == 1);
}

static void check_directory(const struct host_local_conf *conf)
{
	struct cni_address address[HOST_LOCAL_SETS_MAX];
	struct cni_error error = {0};
	_cleanup_json_ json_t *none = json_array();
	_cleanup_free_ char *before = describe(), *after = NULL;
	int r = host_local_add(conf, ID, "eth0", address, &error);

	assert(!r || *error.msg);
	for (size_t i = 0; !r && i < conf->n_sets; i++)
		check_address(&conf->set[i], &address[i]);
	if (!r) {
		assert(!host_local_check(conf, ID, "eth0", &error));
		assert(host_local_add(conf, ID, "eth0", address, &error) == -1);
		assert(!host_local_del(conf, ID, "eth0", &error));
	}
	assert(host_local_check(conf, ID, "eth0", &error) == -1);
	after = describe();
	assert(!strcmp(before, after));
	/* A lock that is none is in the way of all. */
	r = host_local_gc(conf, none, &error);
	assert(!r || (r == -1 && strstr(error.msg, "/lock")));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = mem_alloc(size + 1, 1);
	_cleanup_json_ json_t *json = NULL;
	struct host_local_conf conf;
	struct cni_error error = {0};
	const char *why = "";
	char *rest = text;
	int r;

	if (dir_fd < 0) {
		assert(mkdtemp(dir) && !atexit(at_end));
		dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert(dir_fd >= 0);
	}
	if (size)
		memcpy(text, data, size);
	(void)strsep(&rest, "\n");
	if (json_parse_object(text, strlen(text), "config", &json, NULL))
		return 0;
	r = host_local_conf_parse(json, &conf, &why, &error);
	assert(r == 1 ? !*why && !*error.msg : r == 0 ? *why : r == -1 && *error.msg);
	if (r != 1)
		return 0;
	check_conf(&conf);
	/* Nobody else has that name. */
	if (rest && strstr(rest, ID))
		return 0;
	conf.dir = dir;
	conf.network = "net";
	make_entries(rest);
	check_directory(&conf);
	clear();
	return 0;
}
