/* SPDX-License-Identifier: Apache-2.0 */
/* senseless.c - records that make no sense: the first is told at once, the rest in one line */
#include "store/senseless.h"

#include "base/mem.h"

#include <stdio.h>

#define QUIET_MS 10000

static void on_timer(void *userdata)
{
	struct senseless *s = userdata;

	s->quiet = s->n > 0;
	if (!s->n)
		return;
	s->tell(s->n, s->names, s->userdata);
	s->n = 0;
	*s->names = '\0';
	loop_timer_set(s->timer, QUIET_MS);
}

void senseless_init(struct senseless *s, struct loop *loop, senseless_fn tell, void *userdata)
{
	*s = (struct senseless){.tell = tell, .userdata = userdata};
	s->timer = loop_timer_new(loop, on_timer, s);
}

void senseless_done(struct senseless *s)
{
	loop_event_free(s->timer);
}

bool senseless_may_tell(struct senseless *s, const char *name)
{
	size_t len = strlen(s->names);

	if (!s->quiet) {
		s->quiet = true;
		loop_timer_set(s->timer, QUIET_MS);
		return true;
	}
	/* What does not fit ends in "...". */
	(void)snprintf(s->names + len, sizeof(s->names) - len, "%s%.100s", len ? ", " : "", name);
	if (strlen(s->names) == sizeof(s->names) - 1)
		memcpy(s->names + sizeof(s->names) - 4, "...", 3);
	s->n++;
	return false;
}
