/* SPDX-License-Identifier: Apache-2.0 */
/* options.h - flanneld's flags: one table that is the parser, the environment
 * mapping, --help and the man page
 */
#pragma once

#include "base/err.h"
#include "net/ip.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define OPTIONS_LIST_MAX 16

/* A repeatable flag. */
struct options_list {
	const char *item[OPTIONS_LIST_MAX];
	size_t n;
};

enum tx_checksum { TX_CHECKSUM_AUTO, TX_CHECKSUM_ON, TX_CHECKSUM_OFF, TX_CHECKSUM_COUNT };

/* Strings are borrowed from argv, the environment or the defaults; "" is unset. */
struct options {
	const char *subnet_dir;
	struct options_list iface;
	struct options_list iface_regex;
	struct ip iface_can_reach;
	struct ip public_ip[IP_FAMILY_COUNT];
	const char *subnet_file;
	int subnet_lease_renew_margin_min;
	bool ip_masq;
	bool ip_blackhole_route;
	enum tx_checksum tx_checksum;
	bool peer_filter;
	struct ip healthz_ip;
	int healthz_port; /* 0: off */
	bool version;
	bool help;
	int verbosity;
	const char *vmodule;
};

enum options_result {
	OPTIONS_RUN,
	OPTIONS_USAGE, /* unknown flag, bad value: exit code 2 */
};

/* Reads argv (Go style: -x, --x, --x=v, --x v; booleans --x, --x=false; `--` ends)
 * over the environment (FLANNELD_X) over the defaults. 0, or -EINVAL with an error
 * naming flag (or variable), value and what is right. */
int options_parse(int argc, char *const *argv, char *const *envp, struct options *ret_options,
		  struct err *err);

/* The first flag that was used and belongs to a feature this build lacks, with the
 * feature in words in *@ret_feature; NULL: none. */
const char *options_unsupported(const struct options *options, const char **ret_feature);

void options_print_help(FILE *out);
/* The man page flanneld(8), in mdoc or man macros. */
void options_print_man(FILE *out);
