/* SPDX-License-Identifier: Apache-2.0 */
/* vanished.h - records that have gone, and whose peers go in a moment
 *
 * When records are deleted by mistake, the hosts write theirs anew at once, and nobody loses
 * a packet. Whose subnet another peer has by then, is not waited for.
 */
#pragma once

#include "io/loop.h"
#include "model/lease.h"
#include "model/peers.h"

struct vanished_peer;

struct vanished {
	struct peers *peers; /* the owner's */
	struct event *timer;
	struct vanished_peer *first; /* by name, in the order of their end */
};

/* @due calls vanished_expire(), unless the store is out of touch: what has gone may be back
 * already, and vanished_resume() is called when it could tell. */
void vanished_init(struct vanished *v, struct loop *loop, struct peers *peers, loop_fn due,
		   void *userdata);
void vanished_done(struct vanished *v);

/* The record of peer @name has gone; nothing when there is no such peer. */
void vanished_add(struct vanished *v, const char *name);
/* It is back. */
void vanished_undo(struct vanished *v, const char *name);
/* To a peer that is put: the subnets of @lease are its own now. */
void vanished_give_way(struct vanished *v, const struct lease *lease);
/* Removes the peers whose moment is over. */
void vanished_expire(struct vanished *v);
/* The watch stands again, and tells in a moment what is back. */
void vanished_resume(struct vanished *v);
/* A list says the same. */
void vanished_forget(struct vanished *v);
