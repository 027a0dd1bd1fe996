/* SPDX-License-Identifier: Apache-2.0 */
/* loop.h - the one event loop: fds, timers, signals (libevent glue)
 *
 * Sources are owned by the caller: loop_*_free() takes NULL. Callbacks run on the
 * loop's thread; none may block.
 */
#pragma once

#include <stdint.h>

struct loop;
struct event;
struct event_base;

typedef void (*loop_fn)(void *userdata);

struct loop *loop_new(void);
/* All sources are gone; libraries get a last round for what they put off. */
void loop_free(struct loop *loop);
/* For libraries that bring libevent glue of their own (evhttp). */
struct event_base *loop_base(struct loop *loop);
/* Runs until loop_exit(). */
void loop_run(struct loop *loop);
void loop_exit(struct loop *loop);

/* @fn whenever @fd is readable. NULL when out of fds. */
struct event *loop_fd_new(struct loop *loop, int fd, loop_fn fn, void *userdata);
/* @fn whenever @fd is writable: connect(2) has come to an end. NULL when out of fds. */
struct event *loop_writable_new(struct loop *loop, int fd, loop_fn fn, void *userdata);
struct event *loop_signal_new(struct loop *loop, int signal, loop_fn fn, void *userdata);
/* A timer, not armed. */
struct event *loop_timer_new(struct loop *loop, loop_fn fn, void *userdata);
/* Arms or re-arms: once, in @ms milliseconds (monotonic; 0: after pending events). */
void loop_timer_set(struct event *timer, int64_t ms);
/* Arms only when it is not armed, or armed for later. */
void loop_timer_set_sooner(struct event *timer, int64_t ms);
void loop_timer_stop(struct event *timer);
void loop_event_free(struct event *event);

/* Milliseconds of CLOCK_BOOTTIME: counts through suspend, never jumps. */
int64_t loop_now_ms(void);
/* Half to whole of @ms, at random: so that many hosts do not act in step. */
int64_t loop_jitter_ms(int64_t ms);
