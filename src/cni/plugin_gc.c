/* SPDX-License-Identifier: Apache-2.0 */
/* plugin_gc.c - GC: what runtimes have forgotten; STATUS: whether ADD could succeed */
#include "cni/delegate.h"
#include "cni/plugin_internal.h"
#include "cni/subnet.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

/* ---- GC ---- */

struct gc {
	const struct cni_conf *conf;
	const struct cni_request *request;
	json_t *delegate; /* owned; of any attachment of the network, NULL when there is none */
	size_t n_failed;
	struct cni_error first; /* of the failures */
};

static void note(struct gc *gc, const struct cni_error *error)
{
	if (!gc->n_failed++)
		gc->first = *error;
	(void)fprintf(stderr, "flannel: GC: %s\n", error->msg);
}

/* @ifname NULL: any. */
static bool is_valid(const json_t *valid, const char *container_id, const char *ifname)
{
	const json_t *entry;
	size_t i;

	json_array_foreach (valid, i, entry)
		if (!strcmp(json_string_value(json_member(entry, "containerID")), container_id) &&
		    (!ifname || !strcmp(json_string_value(json_member(entry, "ifname")), ifname)))
			return true;
	return false;
}

static void collect(const struct saved *saved, void *userdata)
{
	struct gc *gc = userdata;
	const struct cni_request request = {
		.command = CNI_DEL,
		.container_id = saved->container_id,
		.netns = "",
		.ifname = saved->ifname ? saved->ifname : "eth0",
		.args = "",
		.path = gc->request->path,
	};
	struct cni_error error;

	if (!gc->delegate)
		gc->delegate = json_incref(saved->delegate);
	if (is_valid(gc->conf->valid_attachments, saved->container_id, saved->ifname))
		return;
	if (!cni_name_is_sound(request.container_id) || !cni_ifname_is_sound(request.ifname))
		return; /* no file of ours */
	if (plugin_del_saved(gc->conf, &request, saved, &error)) {
		(void)cni_fail_wrap(&error, "%.64s %s", request.container_id, request.ifname);
		note(gc, &error);
	}
}

/* By the delegate's own GC, if it has one. */
static int collect_by_delegate(const struct gc *gc, const struct worker *worker, json_t *delegate,
			       struct cni_error *error)
{
	const char *version;
	json_t *nothing;

	if (worker->is_builtin)
		return builtin_gc(&worker->builtin, gc->conf->valid_attachments, error);
	if (delegate_version(gc->request, worker->type, &version, error))
		return -1;
	if (!cni_version_at_least(version, "1.1.0"))
		return 0;
	(void)json_object_set(delegate, "cni.dev/valid-attachments", gc->conf->valid_attachments);
	return delegate_run(gc->request, worker->type, CNI_GC, delegate, &nothing, error);
}

/* GC comes after reboots, when flanneld may not be up yet: with the config of any attachment
 * that there was, or with what our own config says. */
static int collect_without_subnet(const struct gc *gc, const struct cni_error *missing,
				  struct cni_error *error)
{
	struct worker worker;

	if (worker_choose_without_subnet(gc->conf, &worker))
		return collect_by_delegate(gc, &worker, NULL, error);
	if (!gc->delegate) {
		(void)fprintf(stderr, "flannel: GC: %s; nothing is known that could be collected\n",
			      missing->msg);
		return 0;
	}
	(void)json_object_set_new(gc->delegate, "cniVersion", json_string(gc->conf->cni_version));
	if (worker_choose(gc->conf, gc->request, gc->delegate, &worker, error))
		return -1;
	return collect_by_delegate(gc, &worker, gc->delegate, error);
}

/* Addresses and the like of which no saved config tells. */
static int collect_the_rest(const struct gc *gc, struct cni_error *error)
{
	_cleanup_json_ json_t *delegate = NULL;
	struct subnet_file subnet;
	struct cni_error missing;
	struct worker worker;

	if (cni_subnet_read(gc->conf->subnet_file, &subnet, &missing))
		return collect_without_subnet(gc, &missing, error);
	if (cni_conf_make_delegate(gc->conf, &subnet, &delegate, error) ||
	    worker_choose(gc->conf, gc->request, delegate, &worker, error))
		return -1;
	return collect_by_delegate(gc, &worker, delegate, error);
}

int plugin_gc(const struct cni_conf *conf, const struct cni_request *request,
	      struct cni_error *error)
{
	struct gc gc = {.conf = conf, .request = request};
	struct cni_error one;

	/* Unknown is not empty. */
	if (!conf->valid_attachments)
		return cni_fail(error, CNI_CONFIG_INVALID,
				"cni.dev/valid-attachments: missing; GC removes what is not in it");
	saved_sweep(conf->data_dir);
	if (saved_for_each(conf->data_dir, conf->name, collect, &gc, &one))
		note(&gc, &one);
	if (collect_the_rest(&gc, &one))
		note(&gc, &one);
	json_decref(gc.delegate);
	if (!gc.n_failed)
		return 0;
	*error = gc.first;
	if (gc.n_failed > 1)
		(void)cni_fail_wrap(error, "%zu failures, the first", gc.n_failed);
	return -1;
}

/* ---- STATUS ---- */

int plugin_status(const struct cni_conf *conf, const struct cni_request *request,
		  struct cni_error *error)
{
	_cleanup_json_ json_t *delegate = NULL;
	const char *version;
	struct subnet_file subnet;
	struct worker worker;
	json_t *nothing;

	if (cni_subnet_read(conf->subnet_file, &subnet, error) ||
	    cni_conf_make_delegate(conf, &subnet, &delegate, error) ||
	    worker_choose(conf, request, delegate, &worker, error)) {
		error->code = CNI_NOT_AVAILABLE;
		return -1;
	}
	if (worker.is_builtin)
		return 0;
	if (delegate_version(request, worker.type, &version, error)) {
		error->code = CNI_NOT_AVAILABLE;
		return -1;
	}
	if (!cni_version_at_least(version, "1.1.0"))
		return 0;
	return delegate_run(request, worker.type, CNI_STATUS, delegate, &nothing, error);
}
