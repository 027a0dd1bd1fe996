/* SPDX-License-Identifier: Apache-2.0 */
/* health.h - what is missing, what is wrong: /healthz, /readyz, systemd's STATUS, a file
 *
 * Every part of the daemon reports its own condition, in words; health keeps the
 * newest of each part, logs changes once, and answers.
 */
#pragma once

#include "base/err.h"
#include "io/loop.h"
#include "io/server.h"
#include "net/ip.h"

#include <stdbool.h>
#include <stdint.h>

enum health_part {
	HEALTH_STORE,      /* datastore */
	HEALTH_CONFIG,     /* network config */
	HEALTH_UPLINK,     /* interface choice */
	HEALTH_LEASE,      /* own lease */
	HEALTH_PEERS,      /* first complete list of peers */
	HEALTH_KERNEL,     /* devices, routes, ... */
	HEALTH_TUNNEL,     /* data path of backend udp */
	HEALTH_FILTER,     /* peer filter */
	HEALTH_FORWARDING, /* the host forwards packets */
	HEALTH_RULES,      /* masquerade and forward rules */
	HEALTH_FILE,       /* subnet file */
	HEALTH_PART_COUNT,
};

struct health;

/* Answers on @ip:@port from now on; port 0: no server. */
int health_new(struct loop *loop, const struct ip *ip, uint16_t port, struct health **ret_health,
	       struct err *err);
void health_free(struct health *health);

/* GET @path is answered by @fn, too, if there is a server. */
void health_serve(struct health *health, const char *path, server_fn fn, void *userdata);
/* From now on the same line as systemd's is in the file `status` beside @subnet_path. */
void health_keep_file(struct health *health, const char *subnet_path);

/* The part is not there yet, @what says what is waited for: /readyz is 503. */
void health_missing(struct health *health, enum health_part part, const char *what);
/* The part works, but @what is wrong: /readyz stays 200 and names it. */
void health_degraded(struct health *health, enum health_part part, const char *what);
void health_good(struct health *health, enum health_part part);

/* flanneld is about to end, and @why: the last that systemd and the file are told. */
void health_stopped(struct health *health, const char *why);

bool health_is_ready(const struct health *health);
/* Told to systemd, and logged, once: "flannel is ready". Called after the last part
 * has become good; a no-op before. */
void health_announce(struct health *health);
