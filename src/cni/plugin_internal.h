/* SPDX-License-Identifier: Apache-2.0 */
/* plugin_internal.h - what the commands share */
#pragma once

#include "cni/builtin.h"
#include "cni/plugin.h"
#include "cni/saved.h"

/* Who does it: this process, or the plugin of that type. Borrows from the config. */
struct worker {
	bool is_builtin;
	struct builtin builtin;
	const char *type;
};

/* -1 when neither can do @delegate, or the plugin is not there. */
int worker_choose(const struct cni_conf *conf, const struct cni_request *request,
		  const json_t *delegate, struct worker *ret_worker, struct cni_error *error);
/* For DEL and GC when there is no subnet file; false when it cannot be done without. */
bool worker_choose_without_subnet(const struct cni_conf *conf, struct worker *ret_worker);
/* As DEL of the specification: nothing there is success. */
int worker_del(const struct worker *worker, const struct cni_request *request, json_t *delegate,
	       struct cni_error *error);

/* DEL of an attachment by its saved config, which goes when that has succeeded. */
int plugin_del_saved(const struct cni_conf *conf, const struct cni_request *request,
		     const struct saved *saved, struct cni_error *error);

int plugin_gc(const struct cni_conf *conf, const struct cni_request *request,
	      struct cni_error *error);
int plugin_status(const struct cni_conf *conf, const struct cni_request *request,
		  struct cni_error *error);
