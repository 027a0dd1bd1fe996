/* SPDX-License-Identifier: Apache-2.0 */
/* request.h - what the runtime asks: CNI_* of the environment, the config on stdin
 *
 * CNI specification, section 2. Pure but for the reading of stdin by the caller: names
 * become parts of paths further on, so they are checked here and nowhere else.
 */
#pragma once

#include "cni/error.h"

#include <stdbool.h>
#include <stddef.h>

enum cni_command {
	CNI_ADD,
	CNI_DEL,
	CNI_CHECK,
	CNI_GC,
	CNI_STATUS,
	CNI_VERSION,
	CNI_COMMAND_COUNT,
};

/* Strings are borrowed from the environment; "" where the variable is not set. */
struct cni_request {
	enum cni_command command;
	const char *container_id;
	const char *netns; /* path; "" is possible with DEL only */
	const char *ifname;
	const char *args;       /* CNI_ARGS, unparsed */
	const char *path;       /* CNI_PATH */
	bool netns_may_be_ours; /* CNI_NETNS_OVERRIDE */
};

/* @getenv_fn is getenv(3) but in tests. Names the variables that are missing, the value
 * that is wrong. */
int cni_request_parse(char *(*getenv_fn)(const char *name), struct cni_request *ret_request,
		      struct cni_error *error);
const char *cni_command_name(enum cni_command command);

/* [a-zA-Z0-9][a-zA-Z0-9_.-]*, at most NAME_MAX bytes: container ids, network names. */
bool cni_name_is_sound(const char *name);
/* The same of @len bytes, however many. */
bool cni_name_has_sound_bytes(const char *name, size_t len);
/* The name of a plugin that may be a delegate: a file of a directory, and not our own. */
bool cni_type_is_sound(const char *type);
/* 1 to 15 bytes, none of "/", ":", blank, control; not "." or "..": dev_valid_name(). */
bool cni_ifname_is_sound(const char *ifname);
