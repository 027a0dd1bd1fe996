/* SPDX-License-Identifier: Apache-2.0 */
/* kubeconfig_value.c - values out of a kubeconfig, with words for what is wrong in which line
 *
 * Nothing of a value is ever in an error: it may be a secret in the wrong place.
 */
#include "store/kubeconfig_value.h"

#include "base/base64.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <strings.h>

void value_wipe(char **text)
{
	mem_free_secret(*text);
	*text = NULL;
}

int(value_fail)(const struct kubeconfig_file *file, const yaml_node_t *node, struct err *err,
		const char *fmt, ...)
{
	char text[300];
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	log_clean(text);
	return err_set(err, -EINVAL, "%s line %zu: %s", file->path, node->start_mark.line + 1,
		       text);
}

/* Absent, null and "" are the same. */
bool value_is_nothing(const yaml_node_t *node)
{
	const char *text;

	if (!node)
		return true;
	if (node->type != YAML_SCALAR_NODE)
		return false;
	text = (const char *)node->data.scalar.value;
	if (node->data.scalar.style != YAML_PLAIN_SCALAR_STYLE)
		return !*text;
	return !*text || !strcmp(text, "~") || !strcasecmp(text, "null");
}

bool value_is(const yaml_node_t *node, const char *text)
{
	return node && node->type == YAML_SCALAR_NODE && node->data.scalar.length == strlen(text) &&
	       !memcmp(node->data.scalar.value, text, node->data.scalar.length);
}

/* The member of the mapping @map; NULL: nothing there. */
yaml_node_t *value_member(struct kubeconfig_file *file, const yaml_node_t *map, const char *name)
{
	if (!map || map->type != YAML_MAPPING_NODE)
		return NULL;
	for (const yaml_node_pair_t *pair = map->data.mapping.pairs.start;
	     pair < map->data.mapping.pairs.top; pair++) {
		yaml_node_t *value;

		if (!value_is(yaml_document_get_node(&file->document, pair->key), name))
			continue;
		value = yaml_document_get_node(&file->document, pair->value);
		return value_is_nothing(value) ? NULL : value;
	}
	return NULL;
}

/* The text of a scalar, borrowed. @what names it. */
int value_text(const struct kubeconfig_file *file, const yaml_node_t *node, const char *what,
	       const char **ret_text, struct err *err)
{
	if (node->type != YAML_SCALAR_NODE)
		return value_fail(file, node, err, "%s is not a text", what);
	if (memchr(node->data.scalar.value, '\0', node->data.scalar.length))
		return value_fail(file, node, err, "%s has a NUL in it", what);
	*ret_text = (const char *)node->data.scalar.value;
	return 0;
}

/* A text member, owned; NULL where there is none. */
int value_take_text(struct kubeconfig_file *file, const yaml_node_t *map, const char *name,
		    char **ret_text, struct err *err)
{
	const yaml_node_t *node = value_member(file, map, name);
	const char *text;
	int r;

	if (!node)
		return 0;
	r = value_text(file, node, name, &text, err);
	if (!r)
		*ret_text = mem_strdup(text);
	return r;
}

/* YAML 1.1 has more words for it than JSON. */
int value_take_bool(struct kubeconfig_file *file, const yaml_node_t *map, const char *name,
		    bool *value, struct err *err)
{
	static const struct {
		const char *word;
		bool means;
	} words[] = {{"true", true},   {"yes", true}, {"on", true},
		     {"false", false}, {"no", false}, {"off", false}};
	const yaml_node_t *node = value_member(file, map, name);

	if (!node)
		return 0;
	if (node->type == YAML_SCALAR_NODE && node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
		for (size_t i = 0; i < ARRAY_SIZE(words); i++)
			if (!strcasecmp((const char *)node->data.scalar.value, words[i].word)) {
				*value = words[i].means;
				return 0;
			}
	return value_fail(file, node, err, "%s is neither true nor false", name);
}

/* @text below the kubeconfig's directory, unless it is absolute. Owned. */
char *value_resolve(const struct kubeconfig_file *file, const char *text)
{
	const size_t dir_len = *text == '/' ? 0 : file->dir_len;
	char *path = mem_alloc(dir_len + strlen(text) + 1, 1);

	memcpy(path, file->path, dir_len);
	(void)stpcpy(path + dir_len, text);
	return path;
}

int value_take_path(struct kubeconfig_file *file, const yaml_node_t *map, const char *name,
		    char **ret_path, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	int r = value_take_text(file, map, name, &text, err);

	if (!r && text)
		*ret_path = value_resolve(file, text);
	return r;
}

/* PEM out of a member in base64. */
static int take_pem(struct kubeconfig_file *file, const yaml_node_t *map, const char *name,
		    char **ret_pem, struct err *err)
{
	const yaml_node_t *node = value_member(file, map, name);
	const char *text;
	size_t len;
	char *pem;
	int r;

	if (!node)
		return 0;
	r = value_text(file, node, name, &text, err);
	if (r < 0)
		return r;
	pem = mem_alloc(strlen(text) + 1, 1);
	r = base64_decode(text, pem, &len);
	if (r < 0)
		r = value_fail(file, node, err, "%s is not base64", name);
	else if (strlen(pem) != len || !strstr(pem, "-----BEGIN "))
		r = value_fail(file, node, err, "%s is base64, but not of PEM", name);
	if (r < 0) {
		explicit_bzero(pem, strlen(text));
		free(pem);
		return r;
	}
	*ret_pem = pem;
	return 0;
}

/* NAME-data, or else the file that NAME says. */
int value_take_pem_or_path(struct kubeconfig_file *file, const yaml_node_t *map, const char *name,
			   char **ret_pem, char **ret_path, struct err *err)
{
	char data[64];
	int r;

	(void)snprintf(data, sizeof(data), "%s-data", name);
	r = take_pem(file, map, data, ret_pem, err);
	return r < 0 || *ret_pem ? r : value_take_path(file, map, name, ret_path, err);
}
