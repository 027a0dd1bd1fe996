/* SPDX-License-Identifier: Apache-2.0 */
/* netconf.h - the network config: etcd key `<prefix>/config`, DIR/config, net-conf.json
 *
 * COMPAT.md section 3. Parsing and checking are pure.
 */
#pragma once

#include "base/err.h"
#include "model/lease.h"
#include "net/ip.h"

#include <jansson.h>
#include <stdbool.h>

#define NETCONF_MAX_BYTES (1024 * 1024)
#define NETCONF_KEEP_MAX  32

struct netconf_range {
	struct ip_net network;
	unsigned subnet_len; /* 0 until netconf_check_ranges() */
	struct ip subnet_min, subnet_max;
};

struct netconf {
	bool enabled[IP_FAMILY_COUNT]; /* EnableIPv4, EnableIPv6 */
	bool nftables;                 /* EnableNFTables */
	/* nonMasqueradeCIDRs (ours; flannel has none): pods keep their address towards
	 * these networks of either family. */
	struct ip_net keep[NETCONF_KEEP_MAX];
	size_t n_keep;
	struct netconf_range range[IP_FAMILY_COUNT];
	char backend_type[LEASE_BACKEND_TYPE_MAX]; /* lower case */
	bool backend_defaulted;                    /* no Backend given: vxlan is taken */
	json_t *backend;                           /* the Backend object, or NULL; owned */
};

void netconf_done(struct netconf *conf);

/* Reads @text, @what names it in errors. Keys match in any case. Only what every
 * store needs is checked: types, CIDRs, an enabled family has its network. Caller
 * owns *@ret_conf. 0 or -EINVAL, the error names key, value and what is right. */
int netconf_parse(const char *text, size_t len, const char *what, struct netconf *ret_conf,
		  struct err *err);

/* For stores that allocate: fills the defaults of SubnetLen, SubnetMin, SubnetMax
 * and checks them, each enabled family alike. 0 or -EINVAL. */
int netconf_check_ranges(struct netconf *conf, struct err *err);

/* Writes the text's top-level keys that nobody knows, comma separated, into @buf
 * (for one warning); returns whether there are any. */
bool netconf_unknown_keys(const char *text, size_t len, char *buf, size_t size);

/* Writes the members of nonMasqueradeCIDRs whose family the network has not, comma
 * separated, into @buf (for one warning); returns that family, IP_NONE: there are none. */
enum ip_family netconf_idle_keep(const struct netconf *conf, char *buf, size_t size);
