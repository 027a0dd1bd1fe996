/* SPDX-License-Identifier: Apache-2.0 */
/* node_store.c - which datastore, and where its last good state is kept */
#include "daemon/node_internal.h"

#include "base/log.h"
#include "base/mem.h"
#include "store/cached.h"

#include <stdio.h>

static struct etcd_settings etcd_settings(const struct options *options)
{
	return (struct etcd_settings){
		.endpoints = options->etcd_endpoints,
		.prefix = options->etcd_prefix,
		.files = {.ca = options->etcd_cafile,
			  .cert = options->etcd_certfile,
			  .key = options->etcd_keyfile},
		.username = options->etcd_username,
		.password = options->etcd_password,
		.password_file = options->etcd_password_file,
	};
}

static const char *from_environment(const char *name)
{
	const char *value = getenv(name);

	return value ? value : "";
}

static struct kube_settings kube_settings(const struct options *options)
{
	return (struct kube_settings){
		.api_url = options->kube_api_url,
		.kubeconfig_file = options->kubeconfig_file,
		.annotation_prefix = options->kube_annotation_prefix,
		.net_config_path = options->net_config_path,
		.node_name = from_environment("NODE_NAME"),
		.pod_name = from_environment("POD_NAME"),
		.pod_namespace = from_environment("POD_NAMESPACE"),
		.set_network_unavailable = options->set_node_network_unavailable,
	};
}

/* One daemon per subnet file. */
char *node_state_path(const struct options *options)
{
	const char *file = options->subnet_file + strspn(options->subnet_file, "/");
	char *path, *name;
	int len = asprintf(&path, "%s/%s.state", options->state_dir, file);

	if (len < 0)
		abort();
	name = path + strlen(options->state_dir) + 1;
	while ((name = strchr(name, '/')))
		*name = '-';
	return path;
}

struct inner {
	struct node *node;
	int code;
	struct err *err;
};

static struct store *new_etcd(struct loop *loop, struct peers *peers,
			      const struct store_events *events, void *arg)
{
	struct inner *inner = arg;
	struct store *store = NULL;

	inner->code = store_etcd_new(loop, &inner->node->etcd, inner->node->options->etcd_api,
				     peers, events, &store, inner->err);
	return store;
}

static struct store *new_kube(struct loop *loop, struct peers *peers,
			      const struct store_events *events, void *arg)
{
	struct inner *inner = arg;
	struct store *store = NULL;

	inner->code = store_kube_new(loop, &inner->node->kube, peers, events, &store, inner->err);
	return store;
}

int node_open_store(struct node *node, const struct store_events *events, struct err *err)
{
	const struct options *options = node->options;
	struct inner inner = {.node = node, .err = err};
	const store_new_fn new_inner = options->kube_subnet_mgr ? new_kube : new_etcd;
	_cleanup_free_ char *path = NULL;

	if (*options->subnet_dir) {
		node->store = store_dir_new(node->loop, options->subnet_dir, node->peers, events);
		return 0;
	}
	node->etcd = etcd_settings(options);
	node->kube = kube_settings(options);
	if (!*options->state_dir) {
		node->store = new_inner(node->loop, node->peers, events, &inner);
		return inner.code;
	}
	path = node_state_path(options);
	node->store = store_cached_new(node->loop, path, node->peers, events, new_inner, &inner);
	return inner.code;
}
