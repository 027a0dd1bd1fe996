/* SPDX-License-Identifier: Apache-2.0 */
/* dir_own.c - directory store: this host's record
 *
 * A record is made whole under a name that begins with a dot, then linked (a new
 * one: link(2) has one winner) or renamed (our own). Two records of different
 * names can still overlap (dual-stack, or another SubnetLen): whoever made a new
 * record looks at the directory's names again and takes it back when it overlaps
 * another; of two who did so at the same moment at least one sees the other.
 */
#include "store/dir_internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#define ACQUIRE_TRIES  64 /* lost races in a row before a pause */
#define RENEW_RETRY_MS 10000
#define TEMP_NAME_MAX  32

/* ---- writing ---- */

static void temp_name(char buf[TEMP_NAME_MAX])
{
	unsigned long long random = 0;

	while (getrandom(&random, sizeof(random), 0) != sizeof(random))
		;
	(void)snprintf(buf, TEMP_NAME_MAX, DIR_TEMP_PREFIX "%016llx", random);
}

/* Writes @lease whole under a temporary name. */
static int write_temp(const struct dir *d, const struct lease *lease, char temp[TEMP_NAME_MAX],
		      struct err *err)
{
	_cleanup_free_ char *text = lease_format(lease);
	_cleanup_close_ int fd = -1;
	int code;

	temp_name(temp);
	fd = openat(d->subnets_fd, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_sys(err, -errno, "creating a file in %s/subnets", d->path);
	code = file_write_all(fd, text);
	if (code) {
		(void)unlinkat(d->subnets_fd, temp, 0);
		return err_sys(err, code, "writing to %s/subnets", d->path);
	}
	return 0;
}

/* Creates the record; -EEXIST: there is one of that name. */
static int create_record(const struct dir *d, const struct lease *lease, const char *key,
			 struct err *err)
{
	char temp[TEMP_NAME_MAX];
	int code = write_temp(d, lease, temp, err);

	if (code)
		return code;
	if (linkat(d->subnets_fd, temp, d->subnets_fd, key, 0))
		code = err_sys(err, -errno, "creating %s/subnets/%s", d->path, key);
	(void)unlinkat(d->subnets_fd, temp, 0);
	return code;
}

static int replace_record(const struct dir *d, const struct lease *lease, const char *key,
			  struct err *err)
{
	char temp[TEMP_NAME_MAX];
	int code = write_temp(d, lease, temp, err);

	if (code)
		return code;
	if (renameat(d->subnets_fd, temp, d->subnets_fd, key)) {
		code = err_sys(err, -errno, "replacing %s/subnets/%s", d->path, key);
		(void)unlinkat(d->subnets_fd, temp, 0);
	}
	return code;
}

/* What we publish with @subnet, for a fresh term or (@reserved) for ever. Owned by
 * the caller. */
static struct lease make_lease(const struct dir *d, const struct ip_net subnet[IP_FAMILY_COUNT],
			       bool reserved)
{
	return claim_lease(&d->claim, subnet, reserved ? 0 : dir_wall_now_s() + DIR_LEASE_TIME_S);
}

static void arm_renewal(struct dir *d)
{
	int64_t left_s = d->own_expires_s - dir_wall_now_s() - d->claim.renew_margin_s;

	if (!d->own_expires_s)
		loop_timer_stop(d->renew_timer);
	else
		loop_timer_set(d->renew_timer, left_s > 0 ? left_s * 1000 : 0);
}

/* The record of @lease is in the directory: it is our lease from now on. */
static void adopt(struct dir *d, const struct lease *lease)
{
	bool same = d->has_own && !memcmp(d->own, lease->subnet, sizeof(d->own));

	d->has_own = true;
	memcpy(d->own, lease->subnet, sizeof(d->own));
	lease_format_key(d->own, d->own_key);
	d->own_expires_s = lease->expires_s;
	memcpy(d->own_written.public_ip, lease->public_ip, sizeof(lease->public_ip));
	peers_remove(d->store.peers, d->own_key);
	arm_renewal(d);
	if (!same)
		d->store.events.own(lease, d->store.events.userdata);
}

/* (Re)writes the record of @subnet. */
static int publish(struct dir *d, const struct ip_net subnet[IP_FAMILY_COUNT], bool reserved,
		   struct err *err)
{
	struct lease lease = make_lease(d, subnet, reserved);
	char key[LEASE_KEY_MAX];
	int code = replace_record(d, &lease, lease_format_key(subnet, key), err);

	if (!code)
		adopt(d, &lease);
	lease_done(&lease);
	return code;
}

/* ---- acquiring ---- */

static bool is_over(const struct lease *lease)
{
	return lease->expires_s && lease->expires_s <= dir_wall_now_s();
}

/* Moves the record @key out of the way when its lease is over. */
static void reap(const struct dir *d, const char *key)
{
	struct lease lease = {0};
	char aside[TEMP_NAME_MAX];
	bool alive = dir_read_record(d, key, &lease, NULL) || !is_over(&lease);

	lease_done(&lease);
	lease = (struct lease){0};
	if (alive)
		return;
	temp_name(aside);
	if (renameat(d->subnets_fd, key, d->subnets_fd, aside))
		return;
	/* What we hold now may be a renewal of a moment ago: then it goes back. */
	{
		_cleanup_free_ char *text = NULL;
		size_t len;
		int code = file_read(d->subnets_fd, aside, LEASE_RECORD_MAX, &text, &len, NULL);

		if (!code)
			code = lease_parse(key, text, len, &lease, NULL);
		if ((code || !is_over(&lease)) &&
		    linkat(d->subnets_fd, aside, d->subnets_fd, key, 0) && errno != EEXIST)
			log_warning("Putting back %s/subnets/%s failed: %s; its host will write it "
				    "again",
				    d->path, key, strerror(errno));
		else if (!code && is_over(&lease))
			log_info("Taking over subnet %s: its lease has expired", key);
	}
	(void)unlinkat(d->subnets_fd, aside, 0);
	lease_done(&lease);
}

/* Whether the record called @name overlaps @subnet and is alive. */
static bool is_rival(const struct dir *d, const char *name,
		     const struct ip_net subnet[IP_FAMILY_COUNT])
{
	struct ip_net other[IP_FAMILY_COUNT];
	struct lease lease = {0};
	bool overlap = false, expired = false;

	if (*name == '.' || lease_parse_key(name, other, NULL))
		return false;
	IP_FOREACH_FAMILY (f)
		overlap |= ip_net_is_set(&other[f]) && ip_net_is_set(&subnet[f]) &&
			   ip_net_overlaps(&other[f], &subnet[f]);
	if (!overlap)
		return false;
	if (!dir_read_record(d, name, &lease, NULL))
		expired = is_over(&lease);
	lease_done(&lease);
	return !expired;
}

static bool has_rival(const struct dir *d, const char *own_key,
		      const struct ip_net subnet[IP_FAMILY_COUNT])
{
	int fd = openat(d->subnets_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	bool rival = !dir; /* who cannot look must not hold */
	struct dirent *e;

	while (dir && !rival && (e = readdir(dir)))
		rival = strcmp(e->d_name, own_key) && is_rival(d, e->d_name, subnet);
	if (dir)
		(void)closedir(dir);
	return rival;
}

/* Makes a new record of @subnet. -EEXIST: somebody else has it. */
static int try_subnet(struct dir *d, const struct ip_net subnet[IP_FAMILY_COUNT], struct err *err)
{
	struct lease lease = make_lease(d, subnet, false);
	char key[LEASE_KEY_MAX];
	int code;

	lease_format_key(subnet, key);
	code = create_record(d, &lease, key, err);
	if (code == -EEXIST) {
		reap(d, key);
		code = create_record(d, &lease, key, err);
	}
	if (!code && has_rival(d, key, subnet)) {
		(void)unlinkat(d->subnets_fd, key, 0);
		code = err_set(err, -EEXIST, "subnet %s overlaps that of another host", key);
	}
	if (!code)
		adopt(d, &lease);
	else if (code == -EEXIST)
		(void)dir_load_record(d, key, false, false); /* so that it counts as taken */
	lease_done(&lease);
	return code;
}

bool dir_find_own(struct store *store, const struct lease *attrs, struct lease *ret_own)
{
	struct dir *d = (struct dir *)store;
	const struct lease *own;

	/* The table is read here for the first time; the kernel is not touched before
	 * the lease is acquired. */
	if (!d->listed && d->subnets_fd >= 0)
		(void)dir_list(d, false);
	own = claim_find(store->peers, attrs, NULL, d->claim.preferred, NULL);
	if (own)
		*ret_own = lease_copy(own);
	return own != NULL;
}

/* Takes the record @found over. A reservation that says already what we publish is not
 * written: the directory may be read-only. */
static int reuse(struct dir *d, const struct lease *found, struct err *err)
{
	struct lease lease = make_lease(d, found->subnet, !found->expires_s);
	int code = 0;

	if (!found->expires_s && lease_same_content(found, &lease))
		adopt(d, &lease);
	else
		code = publish(d, lease.subnet, !found->expires_s, err);
	lease_done(&lease);
	return code;
}

/* One round of the order of COMPAT.md section 4: the lease whose public IP is ours,
 * the subnet we had (of the lost lease, or of the subnet file), a new one. */
static int acquire_once(struct dir *d, bool first, struct err *err)
{
	const struct claim *claim = &d->claim;
	const struct ip_net *wish = d->has_own ? d->own : claim->preferred;
	const struct lease *found =
		claim_find(d->store.peers, &claim->attrs, &claim->conf, claim->preferred, NULL);
	struct ip_net subnet[IP_FAMILY_COUNT];
	char key[LEASE_KEY_MAX];
	int code;

	if (found) {
		memcpy(subnet, found->subnet, sizeof(subnet));
		code = reuse(d, found, err);
		if (!code)
			log_info("Found lease (%s) for current IP, reusing",
				 lease_format_key(subnet, key));
		return code;
	}
	/* What stands in its way may be unreadable, and not in the table. */
	code = claim_choose(claim, d->store.peers, first ? wish : NULL, subnet, err);
	return code ? code : try_subnet(d, subnet, err);
}

int dir_own_acquire(struct dir *d)
{
	struct err err;
	int code = 0;

	/* While it is nobody's, our old record counts like any other. */
	*d->own_key = '\0';
	for (int tries = 0; tries < ACQUIRE_TRIES; tries++) {
		code = acquire_once(d, !tries, &err);
		if (code != -EEXIST)
			break;
		log_debug(1, "Lost a race for a subnet; trying another one");
	}
	if (code) {
		dir_failed(d, err.text);
	}
	return code;
}

/* ---- keeping ---- */

/* Our record is there: does it say what we publish? */
static int compare_own(struct dir *d, const struct lease *lease, struct err *err)
{
	struct lease want = make_lease(d, d->own, false);
	bool same = lease_same_content(&want, lease);

	lease_done(&want);
	/* An administrator may turn a lease into a reservation, or back. */
	d->own_expires_s = lease->expires_s;
	arm_renewal(d);
	if (same)
		return 0;
	log_warning("Our record %s was changed by somebody else; writing it anew", d->own_key);
	return publish(d, d->own, !lease->expires_s, err);
}

/* Ours, also when our address has changed since we wrote it. */
static bool is_own(const struct dir *d, const struct lease *lease)
{
	return lease_same_public_ip(&d->claim.attrs, lease) ||
	       lease_same_public_ip(&d->own_written, lease);
}

int dir_own_check(struct dir *d)
{
	struct lease lease = {0};
	struct err err;
	int code;

	if (!d->has_own || !*d->own_key)
		return 0;
	code = dir_read_record(d, d->own_key, &lease, &err);
	if (!code && !is_own(d, &lease)) {
		lease_done(&lease);
		log_warning("Our lease %s was taken by another host; acquiring one again",
			    d->own_key);
		return dir_own_acquire(d);
	}
	if (code == -ENOENT) {
		log_warning("Our lease %s was deleted; acquiring it again", d->own_key);
		return dir_own_acquire(d);
	}
	if (!code) {
		code = compare_own(d, &lease, &err);
	} else if (code == -EINVAL || code == -EFBIG) {
		log_warning(
			"Our record %s was overwritten with something else (%s); writing it anew",
			d->own_key, err.text);
		code = publish(d, d->own, !d->own_expires_s, &err);
	}
	lease_done(&lease);
	if (code) {
		dir_failed(d, err.text);
	}
	return code;
}

void dir_own_publish(struct dir *d)
{
	struct err err;

	if (d->subnets_fd < 0)
		return; /* connecting again compares the record, and publishes */
	if (publish(d, d->own, !d->own_expires_s, &err)) {
		dir_failed(d, err.text);
	}
}

/* Whether the record is to be written for a new term: soon over, or, after the clock was
 * set back, to last for longer than the others will believe it. */
static bool is_due(const struct dir *d)
{
	int64_t left_s = d->own_expires_s - dir_wall_now_s();

	return d->own_expires_s && (left_s <= d->claim.renew_margin_s + DIR_CLOCK_TOLERANCE_S ||
				    left_s > DIR_LEASE_TIME_S + DIR_CLOCK_TOLERANCE_S);
}

int dir_own_keep(struct dir *d)
{
	char until[32];
	struct err err;
	int code = dir_own_check(d);

	if (code || !d->has_own || !is_due(d))
		return code; /* a reservation, or acquired anew just now */
	code = publish(d, d->own, false, &err);
	if (code) {
		log_warning("Renewing our lease failed: %s; retrying in %d s", err.text,
			    RENEW_RETRY_MS / 1000);
		loop_timer_set(d->renew_timer, RENEW_RETRY_MS);
	} else {
		log_info("Lease renewed, new expiration: %s",
			 lease_format_time(d->own_expires_s, until));
	}
	return code;
}

void dir_own_renew(void *dir)
{
	struct dir *d = dir;

	if (d->subnets_fd >= 0) /* else connecting again comes here */
		(void)dir_own_keep(d);
}
