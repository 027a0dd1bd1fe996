/* SPDX-License-Identifier: Apache-2.0 */
/* options.c - reads flanneld's flags and their environment variables
 *
 * Defaults, variables and flags all pass through option_set(), so a value means the
 * same wherever it comes from. Flags are read as Go's flag package reads them.
 */
#include "daemon/options.h"

#include "base/mem.h"
#include "daemon/options_table.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

/* Longest part of a value that an error repeats. */
#define SHOWN_MAX 120

static void *field(struct options *options, const struct option_row *row)
{
	return (char *)options + row->offset;
}

/* Go's strconv.ParseBool(). */
static int parse_bool(const char *text, bool *ret_value)
{
	static const char *const words[][6] = {
		{"0", "f", "F", "false", "FALSE", "False"},
		{"1", "t", "T", "true", "TRUE", "True"},
	};

	for (size_t value = 0; value < ARRAY_SIZE(words); value++) {
		for (size_t i = 0; i < ARRAY_SIZE(words[value]); i++) {
			if (!strcmp(text, words[value][i])) {
				*ret_value = value == 1;
				return 0;
			}
		}
	}
	return -EINVAL;
}

static int set_bool(bool *field, const char *value, struct err *err)
{
	if (parse_bool(value, field) < 0)
		return err_set(err, -EINVAL, "must be true or false");
	return 0;
}

static int set_int(int *field, const struct option_row *row, const char *value, struct err *err)
{
	char *end;
	long number;

	errno = 0;
	number = strtol(value, &end, 0); /* Go also takes 0x1f */
	if (errno || end == value || *end || strchr(" \t\n\v\f\r", *value) || number < row->min ||
	    number > row->max)
		return err_set(err, -EINVAL, "must be a whole number from %d to %d", row->min,
			       row->max);
	*field = (int)number;
	return 0;
}

/* Unspecified and multicast addresses, 255.255.255.255: no host has them. */
static bool is_host_address(const struct ip *ip)
{
	bool unspecified = true;

	for (size_t i = 0; i < sizeof(ip->b); i++)
		unspecified = unspecified && !ip->b[i];
	return !unspecified && (ip->family == IP_V4 ? ip->b[0] < 224 : ip->b[0] != 0xff);
}

static int set_ip(struct ip *field, const struct option_row *row, const char *value,
		  struct err *err)
{
	struct ip ip;

	if (!*value)
		value = row->fallback; /* --public-ip= is no address given */
	if (!*value) {
		*field = (struct ip){.family = IP_NONE};
		return 0;
	}
	if (ip_parse(value, &ip) < 0 || (row->family != IP_NONE && ip.family != row->family) ||
	    (row->host_address && !is_host_address(&ip)))
		return err_set(err, -EINVAL, "must be an %s address%s",
			       row->family == IP_NONE ? "IP" : ip_family_name(row->family),
			       row->host_address ? " that a host can have" : "");
	*field = ip;
	return 0;
}

static int set_choice(unsigned *field, const struct option_row *row, const char *value,
		      struct err *err)
{
	for (unsigned i = 0; row->choices[i]; i++) {
		if (!strcmp(value, row->choices[i])) {
			*field = i;
			return 0;
		}
	}
	return err_set(err, -EINVAL, "must be one of %s", row->arg);
}

static int add_to_list(struct options_list *list, const struct option_row *row, const char *value,
		       struct err *err)
{
	int r;

	if (!*value)
		return 0; /* --iface= is no choice made */
	r = row->check ? row->check(value, err) : 0;
	if (r < 0)
		return r;
	if (list->n == OPTIONS_LIST_MAX)
		return err_set(err, -EINVAL, "may be given at most %d times", OPTIONS_LIST_MAX);
	list->item[list->n++] = value;
	return 0;
}

static int set_string(const char **field, const struct option_row *row, const char *value,
		      struct err *err)
{
	int r = row->check ? row->check(value, err) : 0;

	if (r == 0)
		*field = value;
	return r;
}

/* Reads @value into the row's field; the error says only what is right. */
static int set_field(struct options *options, const struct option_row *row, const char *value,
		     struct err *err)
{
	switch (row->type) {
	case OPTION_BOOL:
		return set_bool(field(options, row), value, err);
	case OPTION_INT:
		return set_int(field(options, row), row, value, err);
	case OPTION_STRING:
		return set_string(field(options, row), row, value, err);
	case OPTION_LIST:
		return add_to_list(field(options, row), row, value, err);
	case OPTION_IP:
		return set_ip(field(options, row), row, value, err);
	case OPTION_CHOICE:
		return set_choice(field(options, row), row, value, err);
	case OPTION_HEADING:
	case OPTION_TYPE_COUNT:
		break;
	}
	abort(); /* a row without a type */
}

/* @dashes and @name are how the user gave it: flag or variable. */
static int option_set(struct options *options, const struct option_row *row, const char *dashes,
		      const char *name, const char *value, struct err *err)
{
	int r = set_field(options, row, value, err);

	if (r == 0)
		return 0;
	if (row->secret)
		return err_wrap(err, r, "%s%s", dashes, name);
	return err_wrap(err, r, "%s%s=%.*s", dashes, name, SHOWN_MAX, value);
}

static void set_defaults(struct options *options)
{
	struct err err;

	for (const struct option_row *row = option_rows; row < option_rows + option_n_rows; row++) {
		if (row->type == OPTION_HEADING || row->type == OPTION_LIST)
			continue;
		if (set_field(options, row, row->fallback, &err) < 0)
			abort(); /* the table contradicts itself */
	}
}

static const struct option_row *find_row(const char *name, size_t n)
{
	for (const struct option_row *row = option_rows; row < option_rows + option_n_rows; row++) {
		if (row->type == OPTION_HEADING)
			continue;
		if (strlen(row->name) == n && !strncmp(row->name, name, n))
			return row;
		if (row->alias && n == 1 && *name == row->alias)
			return row;
	}
	return NULL;
}

/* Levenshtein's distance: insertions, deletions and replacements from @a to @b. */
static size_t edit_distance(const char *a, size_t n_a, const char *b)
{
	size_t n_b = strlen(b), cost[OPTION_ENV_MAX];

	for (size_t j = 0; j <= n_b; j++)
		cost[j] = j;
	for (size_t i = 1; i <= n_a; i++) {
		size_t diagonal = cost[0];

		cost[0] = i;
		for (size_t j = 1; j <= n_b; j++) {
			size_t best = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = cost[j];
			best = cost[j] + 1 < best ? cost[j] + 1 : best;
			cost[j] = cost[j - 1] + 1 < best ? cost[j - 1] + 1 : best;
		}
	}
	return cost[n_b];
}

/* The known flag that @name was probably meant to be, or NULL. */
static const char *nearest_name(const char *name, size_t n)
{
	size_t best = n / 3 + 1; /* one typing error in three letters is still a likeness */
	const char *nearest = NULL;

	if (n < 2 || n >= OPTION_ENV_MAX)
		return NULL;
	for (const struct option_row *row = option_rows; row < option_rows + option_n_rows; row++) {
		size_t distance;

		if (row->type == OPTION_HEADING)
			continue;
		distance = edit_distance(name, n, row->name);
		if (distance < best && distance < strlen(row->name)) {
			best = distance;
			nearest = row->name;
		}
	}
	return nearest;
}

/* The unknown flag's value is not repeated: it may be a misspelt flag's secret. */
static int unknown_flag(const char *name, size_t n, struct err *err)
{
	const char *nearest = nearest_name(name, n);
	int shown = n < SHOWN_MAX ? (int)n : SHOWN_MAX;

	if (!nearest)
		return err_set(err, -EINVAL, "unknown flag --%.*s (see --help)", shown, name);
	return err_set(err, -EINVAL, "unknown flag --%.*s; did you mean --%s?", shown, name,
		       nearest);
}

/* @last is the flag before it, or NULL. */
static int stray_argument(const char *arg, const struct option_row *last, struct err *err)
{
	bool value;

	if (last && last->secret)
		return err_set(err, -EINVAL, "unexpected argument after --%s", last->name);
	if (last && last->type == OPTION_BOOL && parse_bool(arg, &value) == 0)
		return err_set(err, -EINVAL, "unexpected argument %s; did you mean --%s=%s?", arg,
			       last->name, arg);
	return err_set(err, -EINVAL, "unexpected argument %.*s: there are only flags", SHOWN_MAX,
		       arg);
}

struct arguments {
	char *const *argv; /* what is left */
	int argc;
	bool seen[OPTION_ROWS_MAX]; /* rows given as flags */
};

/* Reads one flag, with its value when that is an argument of its own. */
static int parse_flag(struct arguments *args, struct options *options,
		      const struct option_row **ret_row, struct err *err)
{
	const char *name = args->argv[0] + (args->argv[0][1] == '-' ? 2 : 1);
	size_t n = strcspn(name, "=");
	const char *value = name[n] ? name + n + 1 : NULL;
	const struct option_row *row;
	int r;

	if (n == 0 || *name == '-')
		return err_set(err, -EINVAL, "%.*s is not a flag (see --help)", SHOWN_MAX,
			       args->argv[0]);
	args->argv++, args->argc--;
	row = find_row(name, n);
	if (!row)
		return unknown_flag(name, n, err);
	if (!value && row->type == OPTION_BOOL) {
		value = "true";
	} else if (!value) {
		if (args->argc == 0)
			return err_set(err, -EINVAL, "--%s needs a value: --%s=%s", row->name,
				       row->name, row->arg);
		value = args->argv[0];
		args->argv++, args->argc--;
	}
	r = option_set(options, row, "--", row->name, value, err);
	if (r < 0)
		return r;
	args->seen[row - option_rows] = true;
	*ret_row = row;
	return 0;
}

static int parse_arguments(struct arguments *args, struct options *options, struct err *err)
{
	const struct option_row *last = NULL;
	int r;

	while (args->argc > 0) {
		const char *arg = args->argv[0];

		if (!strcmp(arg, "--")) {
			if (args->argc > 1)
				return stray_argument(args->argv[1], NULL, err);
			break;
		}
		if (arg[0] != '-' || !arg[1])
			return stray_argument(arg, last, err);
		r = parse_flag(args, options, &last, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static const char *find_variable(char *const *envp, const char *name)
{
	size_t n = strlen(name);

	for (; envp && *envp; envp++)
		if (!strncmp(*envp, name, n) && (*envp)[n] == '=')
			return *envp + n + 1;
	return NULL;
}

/* A variable that holds several values. Its copy is cut at the commas; empty pieces
 * are skipped. */
static int set_list(struct options *options, const struct option_row *row, const char *name,
		    const char *value, struct err *err)
{
	char *cursor, *piece;
	int r;

	free(options->list_storage);
	options->list_storage = mem_strdup(value);
	cursor = options->list_storage;
	while ((piece = strsep(&cursor, ",")) != NULL) {
		if (!*piece)
			continue;
		r = option_set(options, row, "", name, piece, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int parse_environment(char *const *envp, const bool *seen, struct options *options,
			     struct err *err)
{
	char name[OPTION_ENV_MAX];

	for (size_t i = 0; i < option_n_rows; i++) {
		const struct option_row *row = &option_rows[i];
		const char *value;
		int r;

		if (row->type == OPTION_HEADING || seen[i])
			continue;
		value = find_variable(envp, option_env_name(row, name));
		if (!value || !*value)
			continue;
		r = row->env_commas ? set_list(options, row, name, value, err)
				    : option_set(options, row, "", name, value, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int options_parse(int argc, char *const *argv, char *const *envp, struct options *ret_options,
		  struct err *err)
{
	struct arguments args = {.argv = argv + 1, .argc = argc - 1};
	struct options options = {.subnet_dir = ""};
	int r;

	set_defaults(&options);
	r = parse_arguments(&args, &options, err);
	if (r == 0 && !options.help && !options.version)
		r = parse_environment(envp, args.seen, &options, err);
	/* Who wants to remove the files does not want the daemon to write them. */
	if (r == 0 && options.cleanup_files && !options.cleanup && !options.help &&
	    !options.version)
		r = err_set(err, -EINVAL, "--cleanup-files goes with --cleanup");
	if (r < 0) {
		options_done(&options);
		return r;
	}
	*ret_options = options;
	return 0;
}

/* One page for all of them. */
#define SECRET_BYTES 4096

void options_hide_secrets(struct options *options)
{
	size_t used = 0;

	options->secret_storage = mmap(NULL, SECRET_BYTES, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (options->secret_storage == MAP_FAILED)
		abort(); /* only memory can fail */
	(void)madvise(options->secret_storage, SECRET_BYTES, MADV_DONTDUMP);
	for (const struct option_row *row = option_rows; row < option_rows + option_n_rows; row++) {
		const char **value = field(options, row);
		size_t len;

		if (!row->secret || !**value)
			continue;
		len = strlen(*value);
		if (len >= SECRET_BYTES - used)
			continue; /* nobody's password */
		memcpy(options->secret_storage + used, *value, len + 1);
		explicit_bzero((char *)(uintptr_t)*value, len);
		*value = options->secret_storage + used;
		used += len + 1;
	}
}

void options_done(struct options *options)
{
	if (!options)
		return;
	if (options->secret_storage) {
		explicit_bzero(options->secret_storage, SECRET_BYTES);
		(void)munmap(options->secret_storage, SECRET_BYTES);
		options->secret_storage = NULL;
	}
	free(options->list_storage);
	options->list_storage = NULL;
	options->iface.n = 0;
}
