/* SPDX-License-Identifier: Apache-2.0 */
/* host_local.h - addresses of pods, in the files of the plugin host-local
 *
 * DATA_DIR/<network>/<address> holds "<container id>\r\n<interface>"; last_reserved_ip.<n>
 * the address that range set n gave last; lock is held by flock(2) meanwhile. Either
 * program can clean up after the other.
 */
#pragma once

#include "base/json.h"
#include "cni/error.h"
#include "cni/result.h"

#include <stdbool.h>

#define HOST_LOCAL_DIR        "/var/lib/cni/networks"
#define HOST_LOCAL_SETS_MAX   8  /* one address of each */
#define HOST_LOCAL_RANGES_MAX 16 /* in a set */
#define HOST_LOCAL_ROUTES_MAX 64

struct host_local_range {
	struct ip_net subnet; /* no host bits */
	struct ip start, end; /* inclusive */
	struct ip gateway;    /* never given; may lie outside, even be of the other family */
};

struct host_local_set {
	struct host_local_range range[HOST_LOCAL_RANGES_MAX];
	size_t n;
};

struct host_local_conf {
	const char *dir;     /* "dataDir", borrowed */
	const char *network; /* the config's name, borrowed */
	struct host_local_set set[HOST_LOCAL_SETS_MAX];
	size_t n_sets;
	struct cni_route route[HOST_LOCAL_ROUTES_MAX];
	size_t n_routes;
};

bool host_local_range_contains(const struct host_local_range *range, const struct ip *ip);

/* Of a delegate's whole config, with the checks and defaults of the plugin. 1: understood;
 * 0: has something that the plugin knows and we do not (@ret_why names it: "ipam.resolvConf"),
 * so the plugin is to be called; -1: wrong for the plugin as well. Pure. */
int host_local_conf_parse(const json_t *delegate, struct host_local_conf *ret_conf,
			  const char **ret_why, struct cni_error *error);

/* One address of each set, from behind the one given last, as the plugin does; none or all.
 * @ret_address has room for HOST_LOCAL_SETS_MAX. */
int host_local_add(const struct host_local_conf *conf, const char *container_id, const char *ifname,
		   struct cni_address *ret_address, struct cni_error *error);
/* Gives all of them back; none there is success. */
int host_local_del(const struct host_local_conf *conf, const char *container_id, const char *ifname,
		   struct cni_error *error);
/* Whether the container has an address of this network. */
int host_local_check(const struct host_local_conf *conf, const char *container_id,
		     const char *ifname, struct cni_error *error);
/* Gives back what no attachment in @valid (array of {"containerID", "ifname"}) has. */
int host_local_gc(const struct host_local_conf *conf, const json_t *valid, struct cni_error *error);
