/* SPDX-License-Identifier: Apache-2.0 */
/* delegate.h - another plugin, run as a runtime would run it
 *
 * Found through CNI_PATH, started without a shell: config on stdin, our CNI_* in its
 * environment, its stderr is ours, its stdout its answer.
 */
#pragma once

#include "base/json.h"
#include "cni/error.h"
#include "cni/request.h"

/* No runtime waits longer for a pod (kubelet: 2 min; the bridge plugin waits up to 10 s for
 * IPv6 addresses). Then it is killed with all its children. */
#define DELEGATE_TIMEOUT_S 90

/* Runs plugin @type for @command with @conf. *@ret_answer is the JSON object it printed
 * (caller owns it), NULL when it printed nothing. A delegate's error object becomes ours,
 * its name before the message. When it refuses the config's cniVersion it is asked for its
 * own ones (VERSION) and gets the newest of them that we know. */
int delegate_run(const struct cni_request *request, const char *type, enum cni_command command,
		 const json_t *conf, json_t **ret_answer, struct cni_error *error);
