/* SPDX-License-Identifier: Apache-2.0 */
/* cached.h - a remote store with its last good state on disk
 *
 * Wraps another store. While that one is in touch, its config, this host's lease and the
 * peers are kept in a file; when it is away at the start, they are used at once, marked as
 * stale, and reconciled when it is back.
 */
#pragma once

#include "store/store.h"

typedef struct store *(*store_new_fn)(struct loop *loop, struct peers *peers,
				      const struct store_events *events, void *arg);

/* @path: the state file (copied), its directory is made when it is missing. The inner
 * store is made by @new_inner with events of the wrapper's own; NULL when that returns NULL.
 * Its description names the data: another one, and the file is not used. */
struct store *store_cached_new(struct loop *loop, const char *path, struct peers *peers,
			       const struct store_events *events, store_new_fn new_inner,
			       void *arg);
