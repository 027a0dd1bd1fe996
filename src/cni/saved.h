/* SPDX-License-Identifier: Apache-2.0 */
/* saved.h - the delegate's config of each attachment, kept for DEL, CHECK and GC
 *
 * DATA_DIR/<container id> for eth0, which is where the original keeps the one config that
 * it has for a container, DATA_DIR/<container id>:<interface> for every other interface
 * (":" is in neither name). The text is what the delegate was given, and a member "weft"
 * that says whose it is; a file without that member is the original's, for whatever
 * interface is asked for. Replaced by rename(2), removed only after the delegate's DEL.
 */
#pragma once

#include "base/json.h"
#include "cni/error.h"

struct saved {
	json_t *delegate;            /* owned; without our member */
	char *container_id, *ifname; /* owned; ifname NULL in a file of the original */
	char *path;                  /* owned */
	/* Of an ADD that failed: by which words the delegate refused to undo it. Owned; NULL:
	 * ADD succeeded, or nobody knows. */
	char *refusal;
};

/* Writes it with mode 0600, the directory with mode 0700. */
int saved_write(const char *data_dir, const char *container_id, const char *ifname,
		const json_t *delegate, struct cni_error *error);
/* Writes one that was read back where it was, as it was, but for @saved's refusal. */
int saved_restore(const struct saved *saved, struct cni_error *error);
/* 1 when there is one, 0 when not. A file that is no JSON object with the "type" of a delegate
 * is an error that names it, with code CNI_DECODING_FAILURE. @ret_saved is to be done in every
 * case, and has the path at least. */
int saved_read(const char *data_dir, const char *container_id, const char *ifname,
	       struct saved *ret_saved, struct cni_error *error);
/* With what a killed ADD has left beside it. Gone already is success. */
int saved_remove(const struct saved *saved, struct cni_error *error);
void saved_done(struct saved *saved);
#define _cleanup_saved_ _cleanup_(saved_done)

/* Removes what ADDs that were killed while they wrote have left, where no DEL came. */
void saved_sweep(const char *data_dir);

/* Calls @fn for each one of the network named @name; unreadable files are told on stderr
 * and left. */
typedef void (*saved_fn)(const struct saved *saved, void *userdata);
int saved_for_each(const char *data_dir, const char *name, saved_fn fn, void *userdata,
		   struct cni_error *error);
