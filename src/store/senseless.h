/* SPDX-License-Identifier: Apache-2.0 */
/* senseless.h - records that make no sense: the first is told at once, the rest in one line
 *
 * Thousands of them at once, when somebody has broken them all, are a line each time a
 * quiet time is over.
 */
#pragma once

#include "io/loop.h"

#include <stdbool.h>
#include <stddef.h>

/* @n more, of these names; logs them in the store's own words. */
typedef void (*senseless_fn)(size_t n, const char *names, void *userdata);

struct senseless {
	struct event *timer;
	senseless_fn tell;
	void *userdata;
	bool quiet;      /* something was just logged */
	size_t n;        /* records since */
	char names[400]; /* the first of them */
};

void senseless_init(struct senseless *s, struct loop *loop, senseless_fn tell, void *userdata);
void senseless_done(struct senseless *s);

/* Whether the owner logs now what is wrong with record @name; else it is among the next. */
bool senseless_may_tell(struct senseless *s, const char *name);
