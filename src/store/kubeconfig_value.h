/* SPDX-License-Identifier: Apache-2.0 */
/* kubeconfig_value.h - values out of a kubeconfig, with words for what is wrong in which line */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <yaml.h>

/* A file that is being read. Names are borrowed from the document. */
struct kubeconfig_file {
	yaml_document_t document;
	const char *path;
	size_t dir_len; /* of path: with its last slash; 0: none */
	const char *context, *cluster, *user;
};

/* -EINVAL, with the file and the line of @node before the words. */
int value_fail(const struct kubeconfig_file *file, const yaml_node_t *node, struct err *err,
	       const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Absent, null and "" are the same: nothing. */
bool value_is_nothing(const yaml_node_t *node);
/* Whether it is the text @text. */
bool value_is(const yaml_node_t *node, const char *text);
/* The member of the mapping @map; NULL: nothing there, or @map is none. */
yaml_node_t *value_member(struct kubeconfig_file *file, const yaml_node_t *map, const char *name);
/* The text, borrowed. @what names it in the error. */
int value_text(const struct kubeconfig_file *file, const yaml_node_t *node, const char *what,
	       const char **ret_text, struct err *err);

/* Members of @map, owned; where there is nothing, what was there stays. */
int value_take_text(struct kubeconfig_file *file, const yaml_node_t *map, const char *name,
		    char **ret_text, struct err *err);
int value_take_bool(struct kubeconfig_file *file, const yaml_node_t *map, const char *name,
		    bool *value, struct err *err);
/* As value_resolve(). */
int value_take_path(struct kubeconfig_file *file, const yaml_node_t *map, const char *name,
		    char **ret_path, struct err *err);
/* PEM out of NAME-data, which is in base64, or else the path that NAME says. */
int value_take_pem_or_path(struct kubeconfig_file *file, const yaml_node_t *map, const char *name,
			   char **ret_pem, char **ret_path, struct err *err);

/* @text below the kubeconfig's directory, unless it is absolute. Owned. */
char *value_resolve(const struct kubeconfig_file *file, const char *text);
/* Overwrites, frees and forgets it. NULL inside is allowed. */
void value_wipe(char **text);

#ifdef __clang_analyzer__
#define value_fail(...) err_negative((value_fail)(__VA_ARGS__)) /* see err.h */
#endif
