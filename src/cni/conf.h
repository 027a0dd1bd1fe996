/* SPDX-License-Identifier: Apache-2.0 */
/* conf.h - the plugin's network config, and the delegate's config made of it. Pure.
 *
 * COMPAT.md section 8.
 */
#pragma once

#include "base/json.h"
#include "cni/error.h"
#include "model/subnet_file.h"

#include <stdbool.h>

#define CNI_CONF_MAX_BYTES (1 << 20)
#define CNI_SUBNET_FILE    "/run/flannel/subnet.env"
#define CNI_DATA_DIR       "/var/lib/cni/flannel"

/* Strings and members are borrowed from `json`, which is owned. */
struct cni_conf {
	json_t *json;
	const char *name;
	const char *cni_version; /* "0.1.0" when the config says nothing */
	const char *subnet_file;
	const char *data_dir;
	bool builtin; /* false: always the real delegate */
	json_t *delegate, *ipam, *runtime_config, *prev_result; /* objects or NULL */
	json_t *valid_attachments;                              /* array or NULL */
};

/* Any version of the specification from 0.1.0 to 1.1.0. */
int cni_conf_parse(const char *text, size_t len, struct cni_conf *ret_conf,
		   struct cni_error *error);
void cni_conf_done(struct cni_conf *conf);
#define _cleanup_cni_conf_ _cleanup_(cni_conf_done)

/* What the delegate gets on ADD. Caller owns *@ret_delegate. */
int cni_conf_make_delegate(const struct cni_conf *conf, const struct subnet_file *subnet,
			   json_t **ret_delegate, struct cni_error *error);

/* All versions, oldest first; and whether @version is at least @other ("1.1.0"). */
extern const char *const cni_versions[];
extern const size_t cni_versions_count;
bool cni_version_is_known(const char *version);
bool cni_version_at_least(const char *version, const char *other);
