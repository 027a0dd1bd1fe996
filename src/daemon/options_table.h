/* SPDX-License-Identifier: Apache-2.0 */
/* options_table.h - one row per flag: what the parser, --help and the man page share
 *
 * Internal to options*.c.
 */
#pragma once

#include "base/err.h"
#include "net/ip.h"

#include <stdbool.h>
#include <stddef.h>

enum option_type {
	OPTION_HEADING, /* a title in --help and the man page; only `help` is set */
	OPTION_BOOL,    /* bool */
	OPTION_INT,     /* int */
	OPTION_STRING,  /* const char * */
	OPTION_LIST,    /* struct options_list */
	OPTION_IP,      /* struct ip */
	OPTION_CHOICE,  /* enum whose values count the words of `choices` */
	OPTION_TYPE_COUNT,
};

struct option_row {
	enum option_type type;
	const char *name;
	char alias;           /* a second name of one letter; 0: none */
	size_t offset;        /* of the field in struct options */
	const char *fallback; /* the default as text, read like any other value */
	const char *arg;      /* what --help calls the value */
	const char *help;     /* one sentence or more, plain text */

	int min, max;               /* OPTION_INT */
	enum ip_family family;      /* OPTION_IP; IP_NONE: both */
	bool host_address;          /* OPTION_IP: one that a host can have */
	const char *const *choices; /* OPTION_CHOICE, NULL-terminated */
	bool env_commas;            /* OPTION_LIST: its variable holds several, comma separated */
	bool secret;                /* the value stays out of every message */
	int (*check)(const char *value, struct err *err); /* OPTION_STRING, OPTION_LIST */
};

#define OPTION_ROWS_MAX 64

extern const struct option_row option_rows[];
extern const size_t option_n_rows;

#define OPTION_ENV_MAX 48
/* FLANNELD_ + upper case, `-` to `_`, into @buf, which is returned. */
const char *option_env_name(const struct option_row *row, char buf[OPTION_ENV_MAX]);
