/* SPDX-License-Identifier: Apache-2.0 */
/* options.h - flanneld's flags: one table that is the parser, the environment
 * mapping, --help and the man page
 */
#pragma once

#include "base/err.h"
#include "net/ip.h"
#include "store/etcd.h"

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
	/* store */
	const char *subnet_dir;
	const char *etcd_endpoints; /* comma separated */
	const char *etcd_prefix;
	const char *etcd_keyfile;
	const char *etcd_certfile;
	const char *etcd_cafile;
	const char *etcd_username;
	const char *etcd_password; /* secret: never in a log line or an error */
	const char *etcd_password_file;
	enum etcd_api_choice etcd_api;
	const char *state_dir;
	bool kube_subnet_mgr;
	const char *kube_api_url;
	const char *kube_annotation_prefix;
	const char *kubeconfig_file;
	const char *net_config_path;
	bool set_node_network_unavailable;
	int subnet_lease_renew_margin_min;
	const char *subnet_file;

	/* uplink */
	struct options_list iface;
	struct options_list iface_regex;
	struct ip iface_can_reach;
	struct ip public_ip[IP_FAMILY_COUNT];

	/* data path */
	bool ip_blackhole_route;
	enum tx_checksum tx_checksum;
	bool peer_filter;

	/* rules */
	bool ip_masq;
	bool ip_masq_fully_random_disable;
	bool iptables_forward_rules;
	int iptables_resync_s;

	/* health, log */
	struct ip healthz_ip;
	int healthz_port; /* 0: off */
	int verbosity;
	const char *vmodule; /* for log_set_vmodule(), which checks it */
	const char *log_backtrace_at;
	bool cleanup;
	bool cleanup_files;
	bool version;
	bool help;

	char *secret_storage; /* see options_hide_secrets(); owned */
	char *list_storage;   /* the comma separated variable behind `iface`, cut up; owned */
};

/* Reads argv (Go style: -x, --x, --x=v, --x v; booleans --x, --x=false; `--` ends)
 * over the environment (FLANNELD_X; an empty variable is no variable) over the
 * defaults. After --help or --version the environment is not looked at: neither may
 * fail for it. 0, or -EINVAL with an error naming flag (or variable), value and what
 * is right; never the value of a secret. Caller calls options_done(). */
int options_parse(int argc, char *const *argv, char *const *envp, struct options *ret_options,
		  struct err *err);
void options_done(struct options *options);

/* Moves the values of secrets to memory that is left out of core dumps, and wipes them
 * where they were: on the command line (/proc/PID/cmdline) or in the environment. */
void options_hide_secrets(struct options *options);

void options_print_help(FILE *out);
/* The man page flanneld(8), in man macros. */
void options_print_man(FILE *out);
