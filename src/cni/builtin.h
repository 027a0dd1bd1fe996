/* SPDX-License-Identifier: Apache-2.0 */
/* builtin.h - the plugins bridge and host-local in this process: the fast path
 *
 * Same files, same kernel objects, same answer as the real ones, at a fraction of the time:
 * whichever of the two made an attachment, the other can check and remove it.
 */
#pragma once

#include "base/json.h"
#include "cni/bridge.h"
#include "cni/error.h"
#include "cni/host_local.h"
#include "cni/request.h"

struct builtin {
	struct bridge_conf bridge;
	struct host_local_conf ipam;
	json_t *dns; /* borrowed; NULL for none */
};

/* Whether we can do what @delegate (a whole config for the plugin `type`) asks: 1; 0 and
 * @ret_why ("delegate.vlan"): the real plugin is to be called; -1: nobody can. */
int builtin_parse(const json_t *delegate, const struct cni_request *request,
		  struct builtin *ret_builtin, const char **ret_why, struct cni_error *error);

/* Enough of one for DEL and GC where the ranges are not known (no subnet file), of what stands
 * in the plugin's own config; NULL for an object that is not there. False: another plugin's. */
bool builtin_parse_network(const char *name, const json_t *delegate, const json_t *ipam,
			   struct builtin *ret_builtin);

/* The answer in version 1.1.0; caller owns it. A failed one leaves nothing. */
int builtin_add(struct builtin *builtin, const struct cni_request *request, json_t **ret_result,
		struct cni_error *error);
int builtin_del(const struct builtin *builtin, const struct cni_request *request,
		struct cni_error *error);
int builtin_check(const struct builtin *builtin, const struct cni_request *request,
		  const json_t *prev_result, struct cni_error *error);
int builtin_gc(const struct builtin *builtin, const json_t *valid, struct cni_error *error);
