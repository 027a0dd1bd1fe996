/* SPDX-License-Identifier: Apache-2.0 */
/* kube.c - the Kubernetes API as a store: Nodes are the hosts, PodCIDRs the subnets
 *
 * Theory of operation. Our own node is read first: it has our subnet, and what an admin wants
 * of us. Only then is the config (a file) told, so that an address given by annotation is
 * known before the uplink is chosen, and so that a state of an earlier run can stand in for
 * an API that is away (cached.h). With the owner's request come the families and the backend:
 * all nodes are listed, and watched from the list on (kube_link.c). A list has whole nodes; a
 * watch only their metadata, a fifth of the bytes, so that of a node that comes later the
 * podCIDR is asked for once (kube_peers.c).
 *
 * Our node is patched whenever it does not say what we want it to say, and its podCIDR is our
 * lease as it stands (kube_own.c); nothing is allocated, renewed or given back.
 *
 * What was learned stays until the API says otherwise. Each part tries again by itself, with
 * a wait of its own, and has a problem of its own in words.
 */
#include "store/kube_internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

static struct kube *to_kube(struct store *store)
{
	return (struct kube *)store; /* first member */
}

/* ---- for the parts ---- */

static void tell_problem(struct kube *k)
{
	const char *problem = *k->link_problem     ? k->link_problem
			      : *k->own_problem    ? k->own_problem
			      : *k->config_problem ? k->config_problem
						   : k->peers_problem;

	if (!strcmp(k->told, problem))
		return;
	(void)snprintf(k->told, sizeof(k->told), "%s", problem);
	k->store.events.state(*k->told ? k->told : NULL, k->store.events.userdata);
}

void kube_set_problem(struct kube *k, char problem[ERR_TEXT_MAX], const char *text)
{
	(void)snprintf(problem, ERR_TEXT_MAX, "%s", text);
	tell_problem(k);
}

void kube_tell_synced(struct kube *k)
{
	/* The others must be able to know of us before pods are started here. */
	if (k->synced || !k->link.listed || !k->own.told || !k->own.published)
		return;
	k->synced = true;
	k->store.events.synced(k->store.events.userdata);
}

int64_t kube_retry_wait_ms(struct kube_retry *retry, unsigned least_ms)
{
	int64_t limit = retry->next_ms ? retry->next_ms : KUBE_RETRY_FIRST_MS;

	retry->next_ms = limit < KUBE_RETRY_MAX_MS / 2 ? 2 * limit : KUBE_RETRY_MAX_MS;
	/* loop_jitter_ms() gives half to whole. */
	return least_ms + loop_jitter_ms(2 * limit) - limit;
}

uint64_t kube_version(const char *text)
{
	uint64_t number = 0;
	size_t len = text ? strlen(text) : 0;

	if (!len || len > 18)
		return 0;
	for (; *text; text++) {
		if (!isdigit((unsigned char)*text))
			return 0;
		number = 10 * number + (uint64_t)(*text - '0');
	}
	return number;
}

char *kube_node_path(const char *name, const char *rest)
{
	char *path;

	if (asprintf(&path, KUBE_NODES "/%s%s", name, rest) < 0)
		abort();
	return path;
}

/* ---- for the owner ---- */

static void kube_describe(const struct store *store, char *buf, size_t size)
{
	const struct kube *k = (const struct kube *)(const void *)store;
	const char *name = k->settings->node_name;

	/* The pod's name is another one at each start: its state on disk is the same. */
	(void)snprintf(buf, size, "Kubernetes Subnet Manager - %s%s%s", name, *name ? " at " : "",
		       kube_api_describe(k->api));
}

static void kube_start(struct store *store)
{
	struct kube *k = to_kube(store);

	kube_conf_start(k);
	kube_own_start(k);
}

static bool kube_find_own(struct store *store, const struct lease *attrs, struct lease *ret_own)
{
	(void)attrs; /* it is ours by the node's name */
	return kube_own_find(to_kube(store), ret_own);
}

static void kube_acquire(struct store *store, const struct store_request *request)
{
	struct kube *k = to_kube(store);

	kube_own_want(k, request);
	kube_link_want(k);
}

static void kube_up(struct store *store)
{
	kube_own_up(to_kube(store));
}

static void kube_free(struct store *store)
{
	struct kube *k = to_kube(store);

	kube_conf_done(k);
	kube_link_done(k);
	kube_peers_done(k);
	kube_own_done(k);
	kube_api_free(k->api);
	kube_keys_done(&k->keys);
	free(k);
}

static const struct store_ops kube_ops = {
	.name = "kube",
	.describe = kube_describe,
	.start = kube_start,
	.find_own = kube_find_own,
	.acquire = kube_acquire,
	.up = kube_up,
	.free = kube_free,
};

/* They go into URLs. */
static int check_name(const char *what, const char *name, struct err *err)
{
	if (*name && !kube_name_is_good(name))
		return err_set(err, -EINVAL, "%s: \"%.100s\" is not a name of Kubernetes", what,
			       name);
	return 0;
}

static int check_names(const struct kube_settings *settings, struct err *err)
{
	int r;

	if (!*settings->node_name && (!*settings->pod_name || !*settings->pod_namespace))
		return err_set(err, -EINVAL,
			       "which node is this? Set the environment variable NODE_NAME, or "
			       "POD_NAME and POD_NAMESPACE (in a manifest: valueFrom.fieldRef with "
			       "spec.nodeName, metadata.name, metadata.namespace)");
	r = check_name("NODE_NAME", settings->node_name, err);
	if (r == 0)
		r = check_name("POD_NAME", settings->pod_name, err);
	return r < 0 ? r : check_name("POD_NAMESPACE", settings->pod_namespace, err);
}

int store_kube_new(struct loop *loop, const struct kube_settings *settings, struct peers *peers,
		   const struct store_events *events, struct store **ret_store, struct err *err)
{
	_cleanup_kube_access_ struct kube_access access = {0};
	struct kube *k;
	int r = check_names(settings, err);

	if (r == 0)
		r = kube_access_find(settings, &access, err);
	if (r < 0)
		return r;
	k = mem_alloc(1, sizeof(*k));
	k->settings = settings;
	r = kube_keys_init(settings->annotation_prefix, &k->keys, err);
	if (r == 0)
		r = kube_api_new(loop, &access, &k->api, err);
	if (r < 0) {
		kube_keys_done(&k->keys);
		free(k);
		return r;
	}
	k->store = (struct store){.ops = &kube_ops,
				  .loop = loop,
				  .events = *events,
				  .peers = peers,
				  .gives_subnets = true};
	kube_conf_init(k);
	kube_link_init(k);
	kube_peers_init(k);
	kube_own_init(k);
	*ret_store = &k->store;
	return 0;
}
