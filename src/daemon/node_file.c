/* SPDX-License-Identifier: Apache-2.0 */
/* node_file.c - the node's subnet file: what the last run left, and what it is now */
#include "daemon/node_internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define FILE_RETRY_MS 5000

static struct subnet_file make_file(const struct node *node)
{
	struct subnet_file file = {
		.mtu = node->backend.ops->mtu(&node->backend),
		.ip_masq = node->options->ip_masq,
	};

	IP_FOREACH_FAMILY (f) {
		if (!node->conf.enabled[f])
			continue;
		file.network[f] = node->conf.range[f].network;
		file.subnet[f] = node->own.subnet[f];
	}
	return file;
}

static bool is_written(const struct node *node, const char *text)
{
	return node->file_text && !strcmp(node->file_text, text) &&
	       !access(node->options->subnet_file, F_OK);
}

/* Pods are possible from now on. */
static void tell_up(struct node *node)
{
	if (node->store->ops->up)
		node->store->ops->up(node->store);
	health_announce(node->health);
}

/* All that pods need is there, or has been tried. */
static bool is_ready(const struct node *node)
{
	return node->synced && node->rules_tried && node_tunnel_is_ready(node) &&
	       reconciler_is_settled(node->reconciler);
}

void node_file_write(void *userdata)
{
	struct node *node = userdata;
	struct subnet_file file;
	_cleanup_free_ char *text = NULL;
	struct err err;

	/* The first file of a run makes pods possible; a change of it must not come before. */
	if (!node->file_text && !is_ready(node))
		return;
	file = make_file(node);
	text = subnet_file_format(&file);
	if (is_written(node, text)) {
		*node->file_problem = '\0';
		health_good(node->health, HEALTH_FILE); /* a change that failed was taken back */
		return;
	}
	if (file_write_atomic(node->options->subnet_file, text, 0644, &err)) {
		if (strcmp(node->file_problem, err.text) != 0)
			log_warning("Writing the subnet file failed: %s; trying again every %d s",
				    err.text, FILE_RETRY_MS / 1000);
		(void)snprintf(node->file_problem, sizeof(node->file_problem), "%s", err.text);
		health_missing(node->health, HEALTH_FILE, err.text);
		loop_timer_set(node->file_timer, FILE_RETRY_MS);
		return;
	}
	log_info("Wrote subnet file to %s", node->options->subnet_file);
	free(node->file_text);
	node->file_text = TAKE_PTR(text);
	*node->file_problem = '\0';
	health_good(node->health, HEALTH_FILE);
	tell_up(node);
}

void node_file_write_when_ready(struct node *node)
{
	if (!is_ready(node))
		return;
	node_file_write(node);
	health_announce(node->health);
}

void node_file_read_old(struct node *node)
{
	_cleanup_free_ char *text = NULL;
	const char *path = node->options->subnet_file;
	struct err err;
	size_t len;
	int code = file_read(AT_FDCWD, path, SUBNET_FILE_MAX_BYTES, &text, &len, &err);

	if (code == -ENOENT)
		return;
	if (!code)
		code = subnet_file_parse(text, &node->old_file, &err);
	if (code)
		log_warning("Ignoring the old subnet file %s: %s", path, err.text);
	node->has_old_file = !code;
}
