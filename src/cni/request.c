/* SPDX-License-Identifier: Apache-2.0 */
/* request.c - what the runtime asks: CNI_* of the environment */
#include "cni/request.h"

#include "base/mem.h"

#include <limits.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const char *const command_names[] = {
	[CNI_ADD] = "ADD", [CNI_DEL] = "DEL",       [CNI_CHECK] = "CHECK",
	[CNI_GC] = "GC",   [CNI_STATUS] = "STATUS", [CNI_VERSION] = "VERSION",
};
_Static_assert(ARRAY_SIZE(command_names) == CNI_COMMAND_COUNT, "a name for each command");

enum variable { CONTAINER_ID, NETNS, IFNAME, ARGS, PATH, VARIABLE_COUNT };

/* The variables, and the commands that cannot do without. */
#define OF(command) (1U << (command))
static const struct {
	const char *name;
	unsigned needed_by;
} variables[] = {
	[CONTAINER_ID] = {"CNI_CONTAINERID", OF(CNI_ADD) | OF(CNI_DEL) | OF(CNI_CHECK)},
	[NETNS] = {"CNI_NETNS", OF(CNI_ADD) | OF(CNI_CHECK)},
	[IFNAME] = {"CNI_IFNAME", OF(CNI_ADD) | OF(CNI_DEL) | OF(CNI_CHECK)},
	[ARGS] = {"CNI_ARGS", 0},
	[PATH] = {"CNI_PATH",
		  OF(CNI_ADD) | OF(CNI_DEL) | OF(CNI_CHECK) | OF(CNI_GC) | OF(CNI_STATUS)},
};
_Static_assert(ARRAY_SIZE(variables) == VARIABLE_COUNT, "a row for each variable");

const char *cni_command_name(enum cni_command command)
{
	return command_names[command];
}

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool cni_name_has_sound_bytes(const char *name, size_t len)
{
	if (!len || !is_alnum(name[0]))
		return false;
	for (size_t i = 1; i < len; i++)
		if (!is_alnum(name[i]) && !strchr("_.-", name[i]))
			return false;
	return true;
}

bool cni_name_is_sound(const char *name)
{
	size_t n = strlen(name);

	return n <= NAME_MAX && cni_name_has_sound_bytes(name, n);
}

bool cni_type_is_sound(const char *type)
{
	return *type && !strchr(type, '/') && strcmp(type, ".") && strcmp(type, "..") &&
	       strcmp(type, "flannel");
}

bool cni_ifname_is_sound(const char *ifname)
{
	size_t n = strlen(ifname);

	if (!n || n >= IFNAMSIZ || !strcmp(ifname, ".") || !strcmp(ifname, ".."))
		return false;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)ifname[i] <= ' ' || strchr("/:\x7f", ifname[i]))
			return false;
	return true;
}

static int parse_command(const char *name, enum cni_command *ret_command, struct cni_error *error)
{
	for (enum cni_command c = 0; c < CNI_COMMAND_COUNT; c++) {
		if (!strcmp(name, command_names[c])) {
			*ret_command = c;
			return 0;
		}
	}
	return cni_fail(error, CNI_ENVIRONMENT_INVALID,
			"CNI_COMMAND=%.40s: unknown (ADD, DEL, CHECK, GC, STATUS, VERSION)", name);
}

/* Reads all variables; those that @command needs must be there. */
static int get_variables(char *(*getenv_fn)(const char *name), enum cni_command command,
			 const char *value[VARIABLE_COUNT], struct cni_error *error)
{
	char missing[128] = "";

	for (int i = 0; i < VARIABLE_COUNT; i++) {
		size_t n = strlen(missing);

		value[i] = getenv_fn(variables[i].name);
		if (!value[i])
			value[i] = "";
		if (!*value[i] && (variables[i].needed_by & OF(command)))
			(void)snprintf(missing + n, sizeof(missing) - n, "%s%s", n ? ", " : "",
				       variables[i].name);
	}
	if (!*missing)
		return 0;
	return cni_fail(error, CNI_ENVIRONMENT_INVALID, "%s needs %s in the environment",
			command_names[command], missing);
}

int cni_request_parse(char *(*getenv_fn)(const char *name), struct cni_request *ret_request,
		      struct cni_error *error)
{
	const char *value[VARIABLE_COUNT], *name = getenv_fn("CNI_COMMAND");
	const char *override = getenv_fn("CNI_NETNS_OVERRIDE");
	enum cni_command command = CNI_VERSION;
	bool of_attachment;

	if (!name || !*name)
		return cni_fail(error, CNI_ENVIRONMENT_INVALID, "CNI_COMMAND is not set");
	if (parse_command(name, &command, error) || get_variables(getenv_fn, command, value, error))
		return -1;
	/* GC, STATUS and VERSION are of no attachment, whatever the environment holds. */
	of_attachment = variables[CONTAINER_ID].needed_by & OF(command);
	if (of_attachment && !cni_name_is_sound(value[CONTAINER_ID]))
		return cni_fail(error, CNI_ENVIRONMENT_INVALID,
				"CNI_CONTAINERID=%.80s: a letter or digit, then letters, digits, "
				"\"_\", \".\", \"-\", at most %d",
				value[CONTAINER_ID], NAME_MAX);
	if (of_attachment && !cni_ifname_is_sound(value[IFNAME]))
		return cni_fail(error, CNI_ENVIRONMENT_INVALID,
				"CNI_IFNAME=%.40s is no name for an interface: 1 to %d bytes, none "
				"of \"/\", \":\", blanks",
				value[IFNAME], IFNAMSIZ - 1);
	*ret_request = (struct cni_request){
		.command = command,
		.container_id = of_attachment ? value[CONTAINER_ID] : "",
		.netns = of_attachment ? value[NETNS] : "",
		.ifname = of_attachment ? value[IFNAME] : "",
		.args = of_attachment ? value[ARGS] : "",
		.path = value[PATH],
		.netns_may_be_ours =
			override && (!strcasecmp(override, "true") || !strcmp(override, "1")),
	};
	return 0;
}
