/* SPDX-License-Identifier: Apache-2.0 */
/* dir_records.c - directory store: the other hosts' records
 *
 * Expiry is judged by deadlines on a clock that does not jump, computed when a
 * record is first seen or changes: a step of the wall clock expires nobody. A
 * record that is written while we watch is alive, whatever its `Expiration` says.
 */
#include "store/dir_internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* Memory that runs out aborts, as in base/mem.h. */
#define uthash_fatal(msg) abort()
#include <uthash.h>

#define RELIST_MS    60000 /* the whole directory, at least: for file systems without inotify */
#define RELIST_SHARE 1000  /* listing may take this part of the time */
#define TEMP_AGE_S   3600
#define CONFIRM_MS   2000 /* from a doubtful list to the second one */

int dir_read_record(const struct dir *d, const char *key, struct lease *ret_lease, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int code = file_read(d->subnets_fd, key, LEASE_RECORD_MAX, &text, &len, err);

	return code ? code : lease_parse(key, text, len, ret_lease, err);
}

static void arm_expiry(struct dir *d, int64_t deadline_ms)
{
	int64_t now = loop_now_ms();

	if (!deadline_ms || (d->expiry_ms && d->expiry_ms <= deadline_ms))
		return;
	d->expiry_ms = deadline_ms;
	loop_timer_set(d->expiry_timer, deadline_ms > now ? deadline_ms - now : 0);
}

/* A lease that has ended here, so that it does not rise from the dead. */
struct dir_grave {
	char key[LEASE_KEY_MAX];
	int64_t expires_s;
	UT_hash_handle hh;
};

static bool is_buried(const struct dir *d, const char *key, int64_t expires_s)
{
	struct dir_grave *grave;

	HASH_FIND_STR(d->graves, key, grave);
	return grave && grave->expires_s == expires_s;
}

static void bury(struct dir *d, const char *key, int64_t expires_s)
{
	struct dir_grave *grave;

	HASH_FIND_STR(d->graves, key, grave);
	if (!grave) {
		grave = mem_alloc(1, sizeof(*grave));
		(void)snprintf(grave->key, sizeof(grave->key), "%s", key);
		HASH_ADD_STR(d->graves, key, grave);
	}
	grave->expires_s = expires_s;
}

void dir_free_graves(struct dir *d)
{
	struct dir_grave *grave, *next;

	HASH_ITER (hh, d->graves, grave, next) {
		/* The analyzer does not know that the neighbours' links agree. */
		HASH_DEL(d->graves, grave); /* NOLINT(clang-analyzer-unix.Malloc) */
		free(grave);
	}
}

/* When this host stops believing @lease; 0: never, -1: it is over already. */
static int64_t deadline_of(const struct dir *d, const char *key, const struct lease *lease,
			   bool live)
{
	const struct lease *known = peers_find(d->store.peers, key);
	int64_t left_s = lease->expires_s - dir_wall_now_s();

	if (!lease->expires_s)
		return 0;
	if (known && known->expires_s == lease->expires_s)
		return known->deadline_ms;
	/* It has ended by the time that passed, whatever a clock says that was set back. */
	if (!live && is_buried(d, key, lease->expires_s))
		return -1;
	if (left_s <= 0 && !live)
		return -1;
	if (left_s <= 0) {
		log_warning("Record %s was written just now, but by our clock it is over since "
			    "%lld s: the hosts' clocks differ; taking it for a whole term",
			    key, (long long)-left_s);
		left_s = DIR_LEASE_TIME_S;
	}
	/* No living host leaves its record alone for longer than a term. */
	if (left_s > DIR_LEASE_TIME_S + DIR_CLOCK_TOLERANCE_S)
		left_s = DIR_LEASE_TIME_S + DIR_CLOCK_TOLERANCE_S;
	return loop_now_ms() + left_s * 1000;
}

/* The file could not be read, which says nothing about the record. */
static bool is_io_error(int code)
{
	return code != -EINVAL && code != -EFBIG && code != -ELOOP && code != -ENXIO &&
	       code != -ENODEV;
}

static void load_failed(struct dir *d, const char *key, int code, bool complain,
			const struct err *err)
{
	/* Unreadable is not gone. */
	bool kept = peers_keep(d->store.peers, key);

	if (is_io_error(code)) {
		if (!d->unreadable++)
			(void)snprintf(d->unreadable_why, sizeof(d->unreadable_why), "%.155s",
				       err->text);
		dir_list_later(d, d->unreadable_retry_ms, false);
	} else if (complain)
		log_warning("Ignoring %s/subnets/%s%s: %s", d->path, key,
			    kept ? " (its last good record stays)" : "", err->text);
}

int dir_load_record(struct dir *d, const char *key, bool live, bool complain)
{
	struct lease lease = {0};
	struct err err;
	int code;

	if (*key == '.' || !strcmp(key, d->own_key))
		return 0;
	code = lease_parse_key(key, lease.subnet, &err);
	lease = (struct lease){0};
	if (!code)
		code = dir_read_record(d, key, &lease, &err);
	if (code == -ENOENT)
		return code;
	if (code) {
		load_failed(d, key, code, complain, &err);
		return code;
	}
	lease.deadline_ms = deadline_of(d, key, &lease, live);
	if (lease.deadline_ms >= 0) {
		arm_expiry(d, lease.deadline_ms);
		peers_put(d->store.peers, key, &lease);
	}
	lease_done(&lease);
	return 0;
}

/* What one walk over the table finds: keys that are over, and when the next one is. */
struct expired {
	int64_t now_ms, next_ms;
	char (*key)[LEASE_KEY_MAX];
	size_t n, cap;
};

static void find_expired(const char *key, const struct lease *lease, void *userdata)
{
	struct expired *x = userdata;

	if (!lease->deadline_ms)
		return;
	if (lease->deadline_ms > x->now_ms) {
		if (!x->next_ms || lease->deadline_ms < x->next_ms)
			x->next_ms = lease->deadline_ms;
		return;
	}
	if (x->n == x->cap) {
		x->cap = x->cap ? 2 * x->cap : 16;
		x->key = mem_realloc(x->key, x->cap, sizeof(*x->key));
	}
	(void)snprintf(x->key[x->n++], LEASE_KEY_MAX, "%s", key);
}

/* The deadline of a peer is over: its file may say otherwise. */
static void expire(struct dir *d, const char *key, int64_t now_ms)
{
	int code = dir_load_record(d, key, false, false);
	const struct lease *lease = peers_find(d->store.peers, key);

	if (!lease || !lease->deadline_ms || lease->deadline_ms > now_ms)
		return;
	if (code && code != -ENOENT && is_io_error(code)) {
		arm_expiry(d, now_ms + DIR_IO_RETRY_MS);
		return;
	}
	log_info("Lease %s has expired", key);
	bury(d, key, lease->expires_s);
	peers_remove(d->store.peers, key);
}

void dir_on_expiry(void *dir)
{
	struct dir *d = dir;
	struct expired x = {.now_ms = loop_now_ms()};

	d->expiry_ms = 0;
	/* Without the directory nobody can know who has renewed; listing it anew comes
	 * back here. */
	if (d->subnets_fd < 0 || d->list_needed)
		return;
	peers_each(d->store.peers, find_expired, &x);
	for (size_t i = 0; i < x.n; i++)
		expire(d, x.key[i], x.now_ms);
	free(x.key);
	arm_expiry(d, x.next_ms);
}

void dir_list_later(struct dir *d, int64_t ms, bool names_only)
{
	int64_t now = loop_now_ms(), due;

	/* The second look at vanished peers must not come early. */
	if (now + ms < d->confirm_ms)
		ms = d->confirm_ms - now;
	due = now + ms;

	/* What is due earlier stays, as a full listing when either asks for one: events
	 * without end do not put it off. */
	if (d->list_due_ms && d->list_due_ms <= due) {
		d->list_names_only &= names_only;
		return;
	}
	d->list_due_ms = due;
	d->list_names_only = names_only;
	loop_timer_set(d->list_timer, ms);
}

/* What a daemon that was killed left half done; a living one is done in a moment. */
static void sweep_temp(const struct dir *d, const char *name)
{
	struct stat st;

	if (!fstatat(d->subnets_fd, name, &st, AT_SYMLINK_NOFOLLOW) &&
	    st.st_mtime < dir_wall_now_s() - TEMP_AGE_S)
		(void)unlinkat(d->subnets_fd, name, 0);
}

/* Every name in DIR/subnets to the peer table. 0 or -errno. */
static int read_names(struct dir *d, bool names_only)
{
	bool own_listed = !*d->own_key;
	int fd = openat(d->subnets_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *e;
	int code;

	if (!dir) {
		code = -errno;
		if (fd >= 0)
			close(fd);
		return code;
	}
	errno = 0;
	while ((e = readdir(dir))) {
		if (!strncmp(e->d_name, DIR_TEMP_PREFIX, strlen(DIR_TEMP_PREFIX)))
			sweep_temp(d, e->d_name);
		own_listed |= !strcmp(e->d_name, d->own_key);
		if (!names_only || !peers_keep(d->store.peers, e->d_name))
			(void)dir_load_record(d, e->d_name, false, !d->listed);
		errno = 0;
	}
	code = -errno;
	(void)closedir(dir);
	/* Where our own record is missing, others will be back in a moment, too. */
	if (!own_listed || d->reopened)
		peers_list_suspect(d->store.peers);
	return code;
}

/* Whether DIR/subnets is still the directory that we hold open: one that was removed
 * lists as empty. 0 or -errno. */
static int check_identity(const struct dir *d)
{
	_cleanup_free_ char *subnets = NULL;
	struct stat held, named;

	if (asprintf(&subnets, "%s/subnets", d->path) < 0)
		abort();
	if (fstat(d->subnets_fd, &held) || stat(subnets, &named))
		return -errno;
	return held.st_dev == named.st_dev && held.st_ino == named.st_ino ? 0 : -ESTALE;
}

/* One problem for all of them; asked for less and less often, and never for more than
 * @cost_ms allows. */
static void retry_unreadable(struct dir *d, int64_t cost_ms)
{
	char problem[ERR_TEXT_MAX];

	(void)snprintf(problem, sizeof(problem),
		       "%zu record%s of %.150s/subnets cannot be read (%s); keeping what is known",
		       d->unreadable, d->unreadable > 1 ? "s" : "", d->path, d->unreadable_why);
	dir_set_problem(d, problem);
	dir_list_later(d, cost_ms > d->unreadable_retry_ms ? cost_ms : d->unreadable_retry_ms,
		       false);
	if (d->unreadable_retry_ms < RELIST_MS)
		d->unreadable_retry_ms *= 2;
}

int dir_list(struct dir *d, bool names_only)
{
	int64_t begin = loop_now_ms(), next;
	bool was_unreadable = d->unreadable > 0;
	size_t doubtful;
	int code = check_identity(d);

	if (code)
		return code;

	d->list_due_ms = d->confirm_ms = 0;
	if (!names_only) /* known records are not read then */
		d->unreadable = 0;
	/* Without an end, a list that broke off removes nothing. */
	peers_list_begin(d->store.peers);
	code = read_names(d, names_only);
	if (code)
		return code;
	doubtful = peers_list_end(d->store.peers);
	if (doubtful)
		log_warning("%zu of %zu peers have vanished from %s/subnets at once: keeping them "
			    "until a second look in %d ms",
			    doubtful, peers_count(d->store.peers), d->path, CONFIRM_MS);
	d->confirm_ms = doubtful ? loop_now_ms() + CONFIRM_MS : 0;
	d->listed = true;
	d->list_needed = false;
	arm_expiry(d, loop_now_ms() + 1); /* finds the earliest deadline */
	d->reopened &= doubtful > 0;
	next = (loop_now_ms() - begin) * RELIST_SHARE;
	if (d->unreadable)
		retry_unreadable(d, next);
	else if (doubtful)
		dir_list_later(d, CONFIRM_MS, true);
	else
		dir_list_later(d, next > RELIST_MS ? next : RELIST_MS, false);
	if (was_unreadable && !d->unreadable)
		dir_set_problem(d, NULL);
	if (!d->unreadable)
		d->unreadable_retry_ms = DIR_IO_RETRY_MS;
	return 0;
}
