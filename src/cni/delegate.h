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

#include <limits.h>

/* No runtime waits longer for a pod (kubelet: 2 min; the bridge plugin waits up to 10 s for
 * IPv6 addresses). Then it is killed with all its children. */
#define DELEGATE_TIMEOUT_S 90
extern int delegate_timeout_ms; /* tests have less time */

/* The file that CNI_PATH has for plugin @type; the error names each directory and what is
 * wrong there. */
int delegate_find(const struct cni_request *request, const char *type, char ret_path[PATH_MAX],
		  struct cni_error *error);

#define DELEGATE_NOT_STARTED (-2)
/* Runs plugin @type for @command with @conf. *@ret_answer, of ADD and VERSION, is the JSON
 * object that it printed (caller owns it), NULL when it printed nothing; of other commands
 * it is always NULL. A delegate's error object becomes ours, its name before the message.
 * When it refuses the config's cniVersion it is asked for its own ones (VERSION), and gets
 * the newest of them that we know: @conf has what it accepted afterwards, its prevResult
 * converted. DELEGATE_NOT_STARTED is an error before which no plugin has run. */
int delegate_run(const struct cni_request *request, const char *type, enum cni_command command,
		 json_t *conf, json_t **ret_answer, struct cni_error *error);

/* The newest version that it knows as we do: one of cni_versions, the oldest of them when it
 * does not know VERSION. */
int delegate_version(const struct cni_request *request, const char *type, const char **ret_version,
		     struct cni_error *error);
