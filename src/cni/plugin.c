/* SPDX-License-Identifier: Apache-2.0 */
/* plugin.c - what the runtime asks, done: ADD, DEL, CHECK
 *
 * The delegate's config is saved before anything is made, and goes after everything is
 * gone: whenever we are killed in between, the next DEL has what it needs. An ADD that fails
 * takes back what it made; if that fails too, the saved config stays for DEL and GC. When the
 * delegate then refuses DEL by the very words by which it refused the undoing, it is the config
 * that it refuses, for ever: the attachment that never was is forgotten.
 *
 * Whether this process or the real plugin does the work is decided anew each time: either
 * can undo what the other has done.
 */
#include "cni/plugin.h"

#include "base/mem.h"
#include "cni/delegate.h"
#include "cni/plugin_internal.h"
#include "cni/result.h"
#include "cni/subnet.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

static const char *newest_version(void)
{
	return cni_versions[cni_versions_count - 1];
}

/* ---- who does it ---- */

int worker_choose(const struct cni_conf *conf, const struct cni_request *request,
		  const json_t *delegate, struct worker *ret_worker, struct cni_error *error)
{
	const char *type = json_string_value(json_member(delegate, "type")), *why;
	char path[PATH_MAX];
	int r = 0;

	if (!type)
		return cni_fail(error, CNI_CONFIG_INVALID, "the delegate's config has no type");
	*ret_worker = (struct worker){.type = type};
	if (conf->builtin)
		r = builtin_parse(delegate, request, &ret_worker->builtin, &why, error);
	if (r < 0)
		return -1;
	ret_worker->is_builtin = r == 1;
	return r == 1 ? 0 : delegate_find(request, type, path, error);
}

bool worker_choose_without_subnet(const struct cni_conf *conf, struct worker *ret_worker)
{
	*ret_worker = (struct worker){.is_builtin = true, .type = "bridge"};
	return conf->builtin &&
	       builtin_parse_network(conf->name, conf->delegate, conf->ipam, &ret_worker->builtin);
}

/* For what was made already: what our own parser does not like the plugin may. */
static int choose_again(const struct cni_conf *conf, const struct cni_request *request,
			const json_t *delegate, struct worker *ret_worker, struct cni_error *error)
{
	struct cni_conf others = *conf;

	if (!worker_choose(conf, request, delegate, ret_worker, error))
		return 0;
	others.builtin = false;
	return worker_choose(&others, request, delegate, ret_worker, error);
}

static int worker_add(const struct worker *worker, const struct cni_request *request,
		      json_t *delegate, json_t **ret_answer, struct cni_error *error)
{
	struct builtin builtin = worker->builtin;
	const char *version;
	int r;

	if (worker->is_builtin)
		return builtin_add(&builtin, request, ret_answer, error);
	r = delegate_run(request, worker->type, CNI_ADD, delegate, ret_answer, error);
	if (r)
		return r;
	if (!*ret_answer)
		return cni_fail(error, CNI_DECODING_FAILURE, "%s: succeeded without an answer",
				worker->type);
	/* An answer without a version is in that of the config. */
	version = json_string_value(json_member(delegate, "cniVersion"));
	if (!json_member(*ret_answer, "cniVersion") && version)
		(void)json_object_set_new(*ret_answer, "cniVersion", json_string(version));
	return 0;
}

int worker_del(const struct worker *worker, const struct cni_request *request, json_t *delegate,
	       struct cni_error *error)
{
	json_t *nothing;

	if (worker->is_builtin)
		return builtin_del(&worker->builtin, request, error);
	return delegate_run(request, worker->type, CNI_DEL, delegate, &nothing, error);
}

/* ---- ADD ---- */

/* A pod of this netns would be the host itself: its routes, its interfaces. */
static int check_netns(const struct cni_request *request, struct cni_error *error)
{
	struct stat theirs, ours;

	if (request->netns_may_be_ours || stat(request->netns, &theirs) ||
	    stat("/proc/self/ns/net", &ours) || theirs.st_dev != ours.st_dev ||
	    theirs.st_ino != ours.st_ino)
		return 0;
	return cni_fail(error, CNI_NETNS_INVALID,
			"CNI_NETNS=%.200s is the netns of the plugin itself, not a container's",
			request->netns);
}

static void note_refusal(const struct cni_conf *conf, const struct cni_request *request,
			 const char *words)
{
	_cleanup_saved_ struct saved saved = {0};
	struct cni_error ignored;

	if (saved_read(conf->data_dir, request->container_id, request->ifname, &saved, &ignored) !=
	    1)
		return;
	free(saved.refusal);
	saved.refusal = mem_strdup(words);
	(void)saved_restore(&saved, &ignored);
}

/* @earlier: what this attachment had before, NULL for nothing. It was not this ADD that made
 * it, so that nothing may be taken back. */
static void undo(const struct cni_conf *conf, const struct cni_request *request,
		 const struct worker *worker, json_t *delegate, const struct saved *earlier,
		 bool made_something, struct cni_error *error)
{
	_cleanup_saved_ struct saved saved = {0};
	struct cni_error why = {0};

	if (!earlier && made_something && worker_del(worker, request, delegate, &why)) {
		(void)fprintf(stderr, "flannel: undoing ADD of %s failed: %s; DEL tries again\n",
			      request->container_id, why.msg);
		if (!error->details[0])
			(void)snprintf(error->details, sizeof(error->details),
				       "undoing it failed as well: %s", why.msg);
		if (why.is_refusal)
			note_refusal(conf, request, why.msg);
		return;
	}
	(void)saved_read(conf->data_dir, request->container_id, request->ifname, &saved, &why);
	if (earlier && !strcmp(earlier->path, saved.path) ? saved_restore(earlier, &why)
							  : saved_remove(&saved, &why))
		(void)fprintf(stderr, "flannel: %s\n", why.msg);
}

/* From the saved config on. */
static int add_saved(const struct cni_conf *conf, const struct cni_request *request,
		     const struct worker *worker, json_t *delegate, const struct saved *earlier,
		     json_t **ret_answer, struct cni_error *error)
{
	_cleanup_json_ json_t *before = json_incref(json_object_get(delegate, "cniVersion"));
	_cleanup_json_ json_t *answer = NULL;
	struct cni_error ignored;
	const json_t *after;
	int r, converted = -1;

	if (saved_write(conf->data_dir, request->container_id, request->ifname, delegate, error))
		return -1;
	r = worker_add(worker, request, delegate, &answer, error);
	if (!r)
		converted = cni_result_convert(answer, conf->cni_version, ret_answer, error);
	if (!r && converted)
		(void)cni_fail_wrap(error, "%s", worker->type);
	if (converted) {
		undo(conf, request, worker, delegate, earlier,
		     !r || (!worker->is_builtin && r != DELEGATE_NOT_STARTED), error);
		return -1;
	}
	/* The version that it took. If this fails, DEL finds out again. */
	after = json_object_get(delegate, "cniVersion");
	if (after != before && !json_equal(after, before))
		(void)saved_write(conf->data_dir, request->container_id, request->ifname, delegate,
				  &ignored);
	return 0;
}

/* Runtimes ask for one thing at a time of one container, says the specification; of two ADDs
 * at once the one that fails would take the other's saved config for its own, and away. */
static void lock_netns(const struct cni_request *request, int *ret_fd)
{
	*ret_fd = open(request->netns, O_RDONLY | O_CLOEXEC);
	if (*ret_fd >= 0)
		(void)flock(*ret_fd, LOCK_EX);
}

static int add(const struct cni_conf *conf, const struct cni_request *request, json_t **ret_answer,
	       struct cni_error *error)
{
	_cleanup_close_ int lock = -1;
	_cleanup_json_ json_t *delegate = NULL;
	_cleanup_saved_ struct saved earlier = {0};
	struct subnet_file subnet;
	struct cni_error torn;
	struct worker worker;
	int r;

	if (check_netns(request, error) || cni_subnet_read(conf->subnet_file, &subnet, error) ||
	    cni_conf_make_delegate(conf, &subnet, &delegate, error) ||
	    worker_choose(conf, request, delegate, &worker, error))
		return -1;
	lock_netns(request, &lock);
	/* A torn one is as good as none, and so is one of an ADD that failed. */
	r = saved_read(conf->data_dir, request->container_id, request->ifname, &earlier, &torn);
	return add_saved(conf, request, &worker, delegate,
			 r == 1 && !earlier.refusal ? &earlier : NULL, ret_answer, error);
}

/* ---- DEL ---- */

int plugin_del_saved(const struct cni_conf *conf, const struct cni_request *request,
		     const struct saved *saved, struct cni_error *error)
{
	struct worker worker;

	if (choose_again(conf, request, saved->delegate, &worker, error))
		return -1;
	if (worker_del(&worker, request, saved->delegate, error)) {
		if (!saved->refusal || !error->is_refusal || strcmp(saved->refusal, error->msg))
			return -1;
		(void)fprintf(stderr, "flannel: ADD of %s %s failed, and DEL as its undoing: %s\n",
			      request->container_id, request->ifname, error->msg);
	}
	return saved_remove(saved, error);
}

/* The config can only be guessed, and DEL of the same attachment must come to its end: what
 * fails here is told and not tried again. */
static int del_torn(const struct cni_conf *conf, const struct cni_request *request,
		    const struct saved *saved, const struct cni_error *torn,
		    struct cni_error *error)
{
	_cleanup_json_ json_t *delegate = NULL;
	struct subnet_file subnet;
	struct worker worker;
	struct cni_error why;
	int r = cni_subnet_read(conf->subnet_file, &subnet, &why);

	(void)fprintf(stderr, "flannel: %s; cleaning up with what the config says\n", torn->msg);
	if (!r)
		r = cni_conf_make_delegate(conf, &subnet, &delegate, &why) ||
		    choose_again(conf, request, delegate, &worker, &why);
	else if (worker_choose_without_subnet(conf, &worker))
		r = 0;
	if (r || worker_del(&worker, request, delegate, &why))
		(void)fprintf(stderr,
			      "flannel: cleaning up %s %s failed: %s; what is left of it stays\n",
			      request->container_id, request->ifname, why.msg);
	return saved_remove(saved, error);
}

static int del(const struct cni_conf *conf, const struct cni_request *request,
	       struct cni_error *error)
{
	_cleanup_saved_ struct saved saved = {0};
	struct cni_error why;
	int r;

	if (check_netns(request, error))
		return -1;
	r = saved_read(conf->data_dir, request->container_id, request->ifname, &saved, &why);
	if (r == 1)
		return plugin_del_saved(conf, request, &saved, error);
	if (!r) /* but perhaps the beginning of one */
		return saved_remove(&saved, error);
	if (why.code == CNI_DECODING_FAILURE)
		return del_torn(conf, request, &saved, &why, error);
	*error = why;
	return -1;
}

/* ---- CHECK ---- */

/* The saved config with what the runtime adds to it now. */
static int make_check_config(const struct cni_conf *conf, json_t *delegate, struct cni_error *error)
{
	const char *version = json_string_value(json_member(delegate, "cniVersion"));
	json_t *prev_result;

	if (cni_result_convert(conf->prev_result, version ? version : conf->cni_version,
			       &prev_result, error))
		return cni_fail_wrap(error, "prevResult");
	/* Up to 1.1.1 the plugins look for routes without a gateway then, though it was they who
	 * set it (ValidateExpectedRoute()). */
	cni_result_name_gateways(prev_result);
	(void)json_object_set_new(delegate, "prevResult", prev_result);
	if (conf->runtime_config)
		(void)json_object_set_new(delegate, "runtimeConfig",
					  json_deep_copy(conf->runtime_config));
	return 0;
}

static int check(const struct cni_conf *conf, const struct cni_request *request,
		 struct cni_error *error)
{
	_cleanup_json_ json_t *prev_result = NULL;
	_cleanup_saved_ struct saved saved = {0};
	struct worker worker;
	json_t *nothing;
	int r;

	if (!conf->prev_result)
		return cni_fail(error, CNI_CONFIG_INVALID,
				"prevResult: missing; CHECK compares with it");
	r = saved_read(conf->data_dir, request->container_id, request->ifname, &saved, error);
	if (r < 0)
		return -1;
	if (!r)
		return cni_fail(error, CNI_CONTAINER_UNKNOWN,
				"no ADD of container %.80s, interface %s: %s is missing",
				request->container_id, request->ifname, saved.path);
	if (worker_choose(conf, request, saved.delegate, &worker, error))
		return -1;
	if (worker.is_builtin) {
		if (cni_result_convert(conf->prev_result, "1.0.0", &prev_result, error))
			return cni_fail_wrap(error, "prevResult");
		cni_result_name_gateways(prev_result);
		return builtin_check(&worker.builtin, request, prev_result, error);
	}
	if (make_check_config(conf, saved.delegate, error))
		return -1;
	return delegate_run(request, worker.type, CNI_CHECK, saved.delegate, &nothing, error);
}

/* ---- which of them ---- */

static int check_version(const struct cni_conf *conf, enum cni_command command,
			 struct cni_error *error)
{
	static const char *const since[CNI_COMMAND_COUNT] = {
		[CNI_ADD] = "0.1.0", [CNI_DEL] = "0.1.0",    [CNI_CHECK] = "0.4.0",
		[CNI_GC] = "1.1.0",  [CNI_STATUS] = "1.1.0", [CNI_VERSION] = "0.1.0",
	};

	if (cni_version_at_least(conf->cni_version, since[command]))
		return 0;
	return cni_fail(error, CNI_VERSION_UNSUPPORTED,
			"cniVersion: %s has no %s, which came with %s", conf->cni_version,
			cni_command_name(command), since[command]);
}

/* In the version of the config where that is one: specification, "VERSION Success". */
static json_t *versions_answer(const char *config, size_t len)
{
	_cleanup_json_ json_t *json = NULL;
	json_t *versions = json_array();
	const char *version = NULL;

	if (!len || json_parse_object(config, len, "", &json, NULL) ||
	    json_member_string(json, "cniVersion", &version, NULL) || !version ||
	    !cni_version_is_known(version))
		version = newest_version();

	for (size_t i = 0; i < cni_versions_count; i++)
		(void)json_array_append_new(versions, json_string(cni_versions[i]));
	return json_pack("{s:s, s:o}", "cniVersion", version, "supportedVersions", versions);
}

static int run(const struct cni_conf *conf, const struct cni_request *request, json_t **ret_answer,
	       struct cni_error *error)
{
	switch (request->command) {
	case CNI_ADD:
		return add(conf, request, ret_answer, error);
	case CNI_DEL:
		return del(conf, request, error);
	case CNI_CHECK:
		return check(conf, request, error);
	case CNI_GC:
		return plugin_gc(conf, request, error);
	case CNI_STATUS:
		return plugin_status(conf, request, error);
	case CNI_VERSION: /* has its answer already */
	case CNI_COMMAND_COUNT:
		break;
	}
	return cni_fail(error, CNI_INTERNAL, "a command that is none");
}

int plugin_run(const struct cni_request *request, const char *config, size_t len,
	       json_t **ret_answer, const char **ret_version, struct cni_error *error)
{
	_cleanup_cni_conf_ struct cni_conf conf = {0};

	*ret_version = newest_version();
	*ret_answer = NULL;
	if (request->command == CNI_VERSION) {
		*ret_answer = versions_answer(config, len);
		return 0;
	}
	if (cni_conf_parse(config, len, &conf, error))
		return -1;
	/* Of the table, which outlives the config. */
	for (size_t i = 0; i < cni_versions_count; i++)
		if (!strcmp(conf.cni_version, cni_versions[i]))
			*ret_version = cni_versions[i];
	if (check_version(&conf, request->command, error))
		return -1;
	return run(&conf, request, ret_answer, error) ? -1 : 0;
}
