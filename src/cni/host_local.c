/* SPDX-License-Identifier: Apache-2.0 */
/* host_local.c - addresses of pods, in the files of the plugin host-local
 *
 * One scan of the directory tells what is in use and whether the container has an address
 * already; which one is free follows from the sorted list, so that neither a full /16 nor
 * the size of a /64 costs anything more. A file with the name of an address is in the way
 * whatever it holds; what belongs to somebody is told by contents in the plugin's form alone.
 */
#include "cni/host_local.h"

#include "cni/host_local_files.h"
#include "cni/request.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <net/if.h>
#include <stdio.h>

/* The longest id, the longest interface. */
#define OWNER_SIZE (NAME_MAX + sizeof(HOST_LOCAL_BREAK) - 1 + IFNAMSIZ - 1)

static_assert(OWNER_SIZE < HOST_LOCAL_OWNER_MAX, "what is written can be read");

/* Names of files. */
struct names {
	char **name;
	size_t n;
};

static void names_add(struct names *names, const char *name)
{
	/* Space doubles when the count is a power of two. */
	if (!(names->n & (names->n - 1)))
		names->name =
			mem_realloc(names->name, names->n ? 2 * names->n : 1, sizeof(*names->name));
	names->name[names->n++] = mem_strdup(name);
}

static void names_done(struct names *names)
{
	for (size_t i = 0; i < names->n; i++)
		free(names->name[i]);
	free(names->name);
	*names = (struct names){0};
}
#define _cleanup_names_ _cleanup_(names_done)

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool names_have(const struct names *sorted, const char *name)
{
	return sorted->n &&
	       bsearch(&name, sorted->name, sorted->n, sizeof(*sorted->name), compare_names);
}

/* Removes them all; the first failure is told when all have been tried. */
static int remove_names(const struct host_local_files *files, const struct names *names,
			struct cni_error *error)
{
	int code = 0;

	for (size_t i = 0; i < names->n; i++) {
		int r = host_local_files_remove(files, names->name[i]);

		if (r && !code)
			code = cni_fail(error, CNI_IO_FAILURE, "cannot remove %s/%s: %s",
					files->path, names->name[i], strerror(-r));
	}
	return code;
}

/* ---- whose ---- */

static int make_owner(const char *container_id, const char *ifname, char owner[OWNER_SIZE + 1],
		      struct cni_error *error)
{
	size_t n = (size_t)snprintf(owner, OWNER_SIZE + 1, "%s" HOST_LOCAL_BREAK "%s", container_id,
				    ifname);

	if (n > OWNER_SIZE)
		return cni_fail(error, CNI_ENVIRONMENT_INVALID,
				"the container id has %zu bytes: that is too long",
				strlen(container_id));
	return 0;
}

/* What files of one container there are: of this interface, and of the time when the plugin
 * did not tell interfaces apart. */
struct search {
	const char *owner, *container_id;
	struct names ours, old;
};

static void search_done(struct search *search)
{
	names_done(&search->ours);
	names_done(&search->old);
}

static void on_searched(const struct host_local_entry *entry, void *userdata)
{
	struct search *search = userdata;

	if (entry->kind != HOST_LOCAL_HELD)
		return;
	if (!strcmp(entry->owner, search->owner))
		names_add(&search->ours, entry->name);
	else if (!strcmp(entry->owner, search->container_id))
		names_add(&search->old, entry->name);
}

/* ---- the choice ---- */

struct set_use {
	const struct host_local_set *set;
	ip_num *used; /* sorted once all are known */
	size_t n;
	struct ip mine; /* the container has it already */
};

struct use {
	const char *owner, *container_id;
	struct set_use set[HOST_LOCAL_SETS_MAX];
	size_t n_sets;
	struct names rubbish;
};

static void use_done(struct use *use)
{
	for (size_t i = 0; i < use->n_sets; i++)
		free(use->set[i].used);
	names_done(&use->rubbish);
}

static bool set_contains(const struct host_local_set *set, const struct ip *ip)
{
	for (size_t i = 0; i < set->n; i++)
		if (host_local_range_contains(&set->range[i], ip))
			return true;
	return false;
}

static void set_use_add(struct set_use *use, ip_num num)
{
	if (!(use->n & (use->n - 1)))
		use->used = mem_realloc(use->used, use->n ? 2 * use->n : 1, sizeof(*use->used));
	use->used[use->n++] = num;
}

static void on_used(const struct host_local_entry *entry, void *userdata)
{
	struct use *use = userdata;
	char name[IP_STRLEN];

	if (!ip_is_set(&entry->ip)) {
		if (entry->kind == HOST_LOCAL_TORN)
			names_add(&use->rubbish, entry->name);
		return;
	}
	for (size_t i = 0; i < use->n_sets; i++) {
		if (!set_contains(use->set[i].set, &entry->ip))
			continue;
		if (entry->kind == HOST_LOCAL_HELD &&
		    (!strcmp(entry->owner, use->owner) || !strcmp(entry->owner, use->container_id)))
			use->set[i].mine = entry->ip;
		/* Another spelling of the address is not in the way. */
		if (entry->kind != HOST_LOCAL_TORN &&
		    !strcmp(host_local_files_name(&entry->ip, name), entry->name))
			set_use_add(&use->set[i], ip_to_num(&entry->ip));
	}
}

static int compare_nums(const void *a, const void *b)
{
	const ip_num *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* The first of @used, which is sorted, that is not below @num. */
static size_t lower_bound(const struct set_use *use, ip_num num)
{
	size_t low = 0, high = use->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (use->used[middle] < num)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* The first free address of @range from @num to @last. */
static bool first_free(const struct set_use *use, const struct host_local_range *range, ip_num num,
		       ip_num last, ip_num *ret_num)
{
	bool has_gateway = range->gateway.family == range->start.family;
	ip_num gateway = ip_to_num(&range->gateway);

	for (size_t i = lower_bound(use, num);; num++) {
		bool taken = i < use->n && use->used[i] == num;

		if (!taken && !(has_gateway && num == gateway)) {
			*ret_num = num;
			return true;
		}
		if (num == last)
			return false;
		i += taken;
	}
}

/* The next free address behind @last (unset: from the beginning), round and round the ranges
 * of the set. The one whose range it is, NULL when all are in use. */
static const struct host_local_range *next_free(const struct set_use *use, const struct ip *last,
						struct ip *ret_ip)
{
	const struct host_local_set *set = use->set;
	ip_num last_num = ip_to_num(last), num;
	size_t first = 0;
	bool has_last;

	while (first < set->n && !host_local_range_contains(&set->range[first], last))
		first++;
	has_last = first < set->n;
	if (!has_last)
		first = 0;
	/* With a last one its range comes twice: what is behind it first, the front at the end. */
	for (size_t i = 0; i < set->n + has_last; i++) {
		size_t index = first + i < set->n ? first + i : first + i - set->n;
		const struct host_local_range *range = &set->range[index];
		ip_num from = ip_to_num(&range->start), to = ip_to_num(&range->end);

		if (has_last && i == 0 && last_num == to)
			continue;
		if (has_last && i == 0)
			from = last_num + 1;
		if (has_last && i == set->n)
			to = last_num;
		if (first_free(use, range, from, to, &num)) {
			*ret_ip = ip_from_num(range->start.family, num);
			return range;
		}
	}
	return NULL;
}

/* ---- giving ---- */

static int exhausted(const struct host_local_files *files, const struct set_use *use,
		     struct cni_error *error)
{
	char ranges[ERR_TEXT_MAX / 2] = "", start[IP_STRLEN], end[IP_STRLEN];

	for (size_t i = 0, len = 0; i < use->set->n && len < sizeof(ranges); i++)
		len += (size_t)snprintf(ranges + len, sizeof(ranges) - len, "%s%s-%s",
					i ? ", " : "", ip_format(&use->set->range[i].start, start),
					ip_format(&use->set->range[i].end, end));
	return cni_fail(error, CNI_TRY_AGAIN_LATER,
			"no address is free in %s: %zu are in use, by the files in %s", ranges,
			use->n, files->path);
}

/* Under the lock nobody should come in between; an address that is taken all the same counts
 * as used. */
static int give_one(const struct host_local_files *files, struct set_use *use, size_t index,
		    const char *owner, struct cni_address *ret_address, struct cni_error *error)
{
	const struct host_local_range *range;
	struct ip last = {0}, ip;
	char name[IP_STRLEN];
	int r;

	if (host_local_files_read_last(files, index, &last) && !set_contains(use->set, &last))
		last = (struct ip){0};
	for (;;) {
		range = next_free(use, &last, &ip);
		if (!range)
			return exhausted(files, use, error);
		r = host_local_files_take(files, &ip, owner);
		if (r != -EEXIST)
			break;
		set_use_add(use, ip_to_num(&ip));
		qsort(use->used, use->n, sizeof(*use->used), compare_nums);
	}
	if (r)
		return cni_fail(error, CNI_IO_FAILURE, "cannot create %s/%s: %s", files->path,
				host_local_files_name(&ip, name), strerror(-r));
	host_local_files_write_last(files, index, &ip);
	*ret_address = (struct cni_address){
		.net = {.ip = ip, .len = range->subnet.len},
		.gateway = range->gateway,
	};
	return 0;
}

static int give(const struct host_local_files *files, struct use *use,
		struct cni_address *ret_address, struct cni_error *error)
{
	struct cni_address address[HOST_LOCAL_SETS_MAX] = {0};
	char name[IP_STRLEN];

	for (size_t i = 0; i < use->n_sets; i++) {
		if (!give_one(files, &use->set[i], i, use->owner, &address[i], error))
			continue;
		while (i-- > 0)
			(void)host_local_files_remove(
				files, host_local_files_name(&address[i].net.ip, name));
		return -1;
	}
	memcpy(ret_address, address, use->n_sets * sizeof(*address));
	return 0;
}

int host_local_add(const struct host_local_conf *conf, const char *container_id, const char *ifname,
		   struct cni_address *ret_address, struct cni_error *error)
{
	_cleanup_host_local_files_ struct host_local_files files = {.fd = -1, .lock_fd = -1};
	_cleanup_(use_done) struct use use = {.container_id = container_id, .n_sets = conf->n_sets};
	char owner[OWNER_SIZE + 1], name[IP_STRLEN];

	use.owner = owner;
	for (size_t i = 0; i < use.n_sets; i++)
		use.set[i].set = &conf->set[i];
	if (make_owner(container_id, ifname, owner, error) ||
	    host_local_files_open(conf, true, &files, error) ||
	    host_local_files_scan(&files, on_used, &use, error))
		return -1;
	for (size_t i = 0; i < use.n_sets; i++) {
		if (ip_is_set(&use.set[i].mine))
			return cni_fail(error, CNI_INTERNAL,
					"%s has %s already (%s): it must be deleted before it is "
					"added again",
					container_id, ip_format(&use.set[i].mine, name),
					files.path);
		if (use.set[i].n)
			qsort(use.set[i].used, use.set[i].n, sizeof(*use.set[i].used),
			      compare_nums);
	}
	if (use.rubbish.n)
		(void)remove_names(&files, &use.rubbish, &(struct cni_error){0});
	return give(&files, &use, ret_address, error);
}

/* ---- taking back ---- */

/* 1: no directory. */
static int find_files(const struct host_local_conf *conf, const char *container_id,
		      const char *ifname, struct host_local_files *files, struct search *ret_search,
		      char owner[OWNER_SIZE + 1], struct cni_error *error)
{
	int r = make_owner(container_id, ifname, owner, error);

	if (!r)
		r = host_local_files_open(conf, false, files, error);
	ret_search->owner = owner;
	ret_search->container_id = container_id;
	return r ? r : host_local_files_scan(files, on_searched, ret_search, error);
}

int host_local_del(const struct host_local_conf *conf, const char *container_id, const char *ifname,
		   struct cni_error *error)
{
	_cleanup_host_local_files_ struct host_local_files files = {.fd = -1, .lock_fd = -1};
	_cleanup_(search_done) struct search found = {0};
	char owner[OWNER_SIZE + 1];
	int r = find_files(conf, container_id, ifname, &files, &found, owner, error);

	if (r)
		return r < 0 ? -1 : 0;
	return remove_names(&files, found.ours.n ? &found.ours : &found.old, error);
}

int host_local_check(const struct host_local_conf *conf, const char *container_id,
		     const char *ifname, struct cni_error *error)
{
	_cleanup_host_local_files_ struct host_local_files files = {.fd = -1, .lock_fd = -1};
	_cleanup_(search_done) struct search found = {0};
	char owner[OWNER_SIZE + 1];
	int r = find_files(conf, container_id, ifname, &files, &found, owner, error);

	if (r < 0)
		return -1;
	if (r || (!found.ours.n && !found.old.n))
		return cni_fail(error, CNI_INTERNAL, "%s has no address in %s/%s", container_id,
				conf->dir, conf->network);
	return 0;
}

/* ---- collecting what nobody has ---- */

struct collection {
	struct names valid, valid_ids; /* sorted */
	struct names garbage;
};

static void collection_done(struct collection *collection)
{
	names_done(&collection->valid);
	names_done(&collection->valid_ids);
	names_done(&collection->garbage);
}

static int read_valid(const json_t *valid, struct collection *collection, struct cni_error *error)
{
	if (!json_is_array(valid))
		return cni_fail(error, CNI_CONFIG_INVALID, "there is no list of valid attachments");
	for (size_t i = 0; i < json_array_size(valid); i++) {
		const json_t *attachment = json_array_get(valid, i);
		const char *container_id = NULL, *ifname = NULL;
		char owner[OWNER_SIZE + 1];

		if (json_member_string(attachment, "containerID", &container_id, NULL) ||
		    json_member_string(attachment, "ifname", &ifname, NULL) || !container_id ||
		    !ifname)
			return cni_fail(error, CNI_CONFIG_INVALID,
					"valid attachment %zu has no containerID or no ifname", i);
		if (make_owner(container_id, ifname, owner, error))
			return -1;
		names_add(&collection->valid, owner);
		names_add(&collection->valid_ids, container_id);
	}
	if (collection->valid.n) {
		qsort(collection->valid.name, collection->valid.n, sizeof(char *), compare_names);
		qsort(collection->valid_ids.name, collection->valid_ids.n, sizeof(char *),
		      compare_names);
	}
	return 0;
}

/* Whether @owner is text that the plugin may have written: an id, with an interface or not. */
static bool is_plugins_form(const char *owner)
{
	const char *end = strstr(owner, HOST_LOCAL_BREAK);
	size_t len = end ? (size_t)(end - owner) : strlen(owner);

	if (!cni_name_has_sound_bytes(owner, len))
		return false;
	if (!end)
		return true;
	end += sizeof(HOST_LOCAL_BREAK) - 1;
	len = strlen(end);
	return len && len < IFNAMSIZ && strcspn(end, "/: \t\r\n\v\f") == len;
}

static void on_collected(const struct host_local_entry *entry, void *userdata)
{
	struct collection *collection = userdata;
	const struct names *valid = &collection->valid_ids;

	if (entry->kind == HOST_LOCAL_FOREIGN)
		return;
	if (entry->kind == HOST_LOCAL_HELD) {
		if (strstr(entry->owner, HOST_LOCAL_BREAK))
			valid = &collection->valid;
		if (names_have(valid, entry->owner) || !is_plugins_form(entry->owner))
			return;
	}
	names_add(&collection->garbage, entry->name);
}

int host_local_gc(const struct host_local_conf *conf, const json_t *valid, struct cni_error *error)
{
	_cleanup_host_local_files_ struct host_local_files files = {.fd = -1, .lock_fd = -1};
	_cleanup_(collection_done) struct collection collection = {0};
	int r = read_valid(valid, &collection, error);

	if (!r)
		r = host_local_files_open(conf, false, &files, error);
	if (!r)
		r = host_local_files_scan(&files, on_collected, &collection, error);
	if (r)
		return r < 0 ? -1 : 0;
	return remove_names(&files, &collection.garbage, error);
}
