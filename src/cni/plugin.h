/* SPDX-License-Identifier: Apache-2.0 */
/* plugin.h - what the runtime asks, done */
#pragma once

#include "base/json.h"
#include "cni/conf.h"
#include "cni/error.h"
#include "cni/request.h"

/* Does what @request asks, with @config (VERSION: rubbish and nothing will do). *@ret_answer is
 * what belongs on stdout (caller owns it), NULL for nothing; *@ret_version, of an error object, is
 * set in every case. */
int plugin_run(const struct cni_request *request, const char *config, size_t len,
	       json_t **ret_answer, const char **ret_version, struct cni_error *error);
