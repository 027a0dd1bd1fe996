/* SPDX-License-Identifier: Apache-2.0 */
/* subnet_file.h - /run/flannel/subnet.env: what the CNI plugin and Docker units read
 *
 * COMPAT.md section 1. Pure; the caller reads and writes the file.
 */
#pragma once

#include "base/err.h"
#include "net/ip.h"

#include <stdbool.h>

#define SUBNET_FILE_MAX_BYTES    65536
#define SUBNET_FILE_NETWORKS_MAX 16 /* of a family */

struct subnet_file {
	struct ip_net network[IP_FAMILY_COUNT]; /* unset: the family is off */
	struct ip_net subnet[IP_FAMILY_COUNT];  /* base addresses, not the +1 of the file */
	/* FLANNEL_NETWORK may be a list: what is behind the first, none twice. */
	struct ip_net more[IP_FAMILY_COUNT][SUBNET_FILE_NETWORKS_MAX - 1];
	size_t n_more[IP_FAMILY_COUNT];
	unsigned mtu;
	bool ip_masq;
};

/* Beside the file at @subnet_path: what flanneld says about itself (docs/cni.md). Caller frees. */
char *subnet_file_status_path(const char *subnet_path);

/* The file's text. Caller frees. */
char *subnet_file_format(const struct subnet_file *file);
/* Reads such a text, written by us or by the original; unknown keys are ignored,
 * quotes around values allowed. -EINVAL names the line or the missing keys
 * (FLANNEL_MTU, FLANNEL_IPMASQ and one family are needed). */
int subnet_file_parse(const char *text, struct subnet_file *ret_file, struct err *err);
