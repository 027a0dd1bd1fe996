/* SPDX-License-Identifier: Apache-2.0 */
/* state.h - the state file: the last good state of a remote store, for a start without it
 *
 * Lines, so that it is written and read as a stream:
 *
 *	weft-state 1
 *	store <the store's description>
 *	saved <RFC 3339>
 *	config <place> <text>               both as JSON strings
 *	own <key> <record>                  as in a datastore
 *	public-ip <address>                 that an admin has given this host: per family
 *	peer <key> <record>                 each; where its key is another name:
 *	node <name> <key> <record>
 *	end <number of peers>
 *
 * Lines of a later version, which begin with another word, are skipped. Without a right last
 * line the file is not whole. The config may hold a pre-shared key: only root reads it.
 */
#pragma once

#include "base/err.h"
#include "model/lease.h"
#include "model/netconf.h"
#include "model/peers.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* An escaped config takes up to twice its length: JSON has no control characters but white
 * space. */
#define STATE_PLACE_MAX 4096
#define STATE_LINE_MAX  (2 * NETCONF_MAX_BYTES + 2 * STATE_PLACE_MAX)

#define STATE_NAME_MAX 256 /* of a node of Kubernetes: 253 */

/* All but the peers. */
struct state {
	char *store;
	int64_t saved_s;
	char *place, *config;
	struct lease own;                     /* no subnet: none */
	struct ip public_ip[IP_FAMILY_COUNT]; /* an admin's wish; unset: none */
	size_t n_peers;                       /* read only */
};

void state_done(struct state *state);

/* Reads a whole file, up to its end; of the peers only their number. Caller calls
 * state_done(). 0, or -EINVAL with an error that names the line, or -errno. */
int state_read(FILE *stream, struct state *ret_state, struct err *err);
/* Once more from its beginning, for the peers. @each may take the strings of @lease. Returns
 * how many records could not be read, which were left out. */
size_t state_read_peers(FILE *stream,
			void (*each)(const char *key, struct lease *lease, void *userdata),
			void *userdata);
/* Whether it worked is in ferror(). */
void state_write(FILE *stream, const struct state *state, const struct peers *peers);

/* The file at @path: state_read(), and the stream for state_read_peers(), which stays on this
 * file also when another one takes its place. -ENOENT: none. */
int state_open(const char *path, FILE **ret_stream, struct state *ret_state, struct err *err);
int state_save(const char *path, const struct state *state, const struct peers *peers,
	       struct err *err);
