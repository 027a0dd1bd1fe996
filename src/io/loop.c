/* SPDX-License-Identifier: Apache-2.0 */
/* loop.c - the one event loop, on libevent
 *
 * Each source is a libevent event whose argument is our `struct source`; the event
 * is the handle that the caller holds, and event_get_callback_arg() leads back. A
 * callback may free any source, its own included: nothing of a source is touched
 * after its callback was entered, and event_free() takes a source that is already
 * due out of the queue.
 *
 * Nothing here is periodic. An idle loop sleeps in epoll_wait(2) without a timeout.
 */
#include "io/loop.h"

#include "base/log.h"
#include "base/mem.h"

#include <event2/event.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/random.h>
#include <time.h>

struct loop {
	struct event_base *base;
	bool exiting;
};

struct source {
	loop_fn fn;
	void *userdata;
	int64_t due_ms; /* timers: CLOCK_MONOTONIC, valid while armed */
};

static int64_t clock_ms(clockid_t clock)
{
	struct timespec ts;

	(void)clock_gettime(clock, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void on_libevent_log(int severity, const char *text)
{
	switch (severity) {
	case EVENT_LOG_ERR: /* libevent ends the program after this */
		log_error("libevent: %s", text);
		break;
	case EVENT_LOG_WARN:
		log_warning("libevent: %s", text);
		break;
	default:
		log_debug(4, "libevent: %s", text);
		break;
	}
}

struct loop *loop_new(void)
{
	struct event_config *config;
	struct loop *loop;

	/* A peer that hangs up while we write is an error code to us, not the end. */
	(void)signal(SIGPIPE, SIG_IGN);
	event_set_log_callback(on_libevent_log);

	config = event_config_new();
	if (!config)
		return NULL;
	/* One thread: no locks. Timers by timerfd: libevent's default clock is the
	 * coarse one, off by up to 4 ms, more than a whole repair takes. */
	event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_PRECISE_TIMER);
	loop = mem_alloc(1, sizeof(*loop));
	loop->base = event_base_new_with_config(config);
	event_config_free(config);
	if (!loop->base) {
		free(loop);
		return NULL;
	}
	return loop;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	/* evdns frees some of its own only when the loop comes round. */
	(void)event_base_loop(loop->base, EVLOOP_NONBLOCK);
	event_base_free(loop->base);
	free(loop);
}

struct event_base *loop_base(struct loop *loop)
{
	return loop->base;
}

void loop_run(struct loop *loop)
{
	/* event_base_loop() forgets a break that came before it. */
	if (!loop->exiting)
		(void)event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY);
	loop->exiting = false;
}

void loop_exit(struct loop *loop)
{
	loop->exiting = true;
	(void)event_base_loopbreak(loop->base);
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	const struct source *source = arg;

	(void)fd;
	(void)what;
	source->fn(source->userdata);
}

static struct event *source_new(struct loop *loop, int fd, short what, loop_fn fn, void *userdata)
{
	struct source *source = mem_alloc(1, sizeof(*source));
	struct event *event;

	source->fn = fn;
	source->userdata = userdata;
	event = event_new(loop->base, fd, what, on_event, source);
	if (!event)
		free(source);
	return event;
}

/* A source that waits from the start, unlike a timer. */
static struct event *source_new_armed(struct loop *loop, int fd, short what, loop_fn fn,
				      void *userdata)
{
	struct event *event = source_new(loop, fd, (short)(what | EV_PERSIST), fn, userdata);

	if (event && event_add(event, NULL) < 0) {
		loop_event_free(event);
		return NULL;
	}
	return event;
}

struct event *loop_fd_new(struct loop *loop, int fd, loop_fn fn, void *userdata)
{
	return source_new_armed(loop, fd, EV_READ, fn, userdata);
}

struct event *loop_writable_new(struct loop *loop, int fd, loop_fn fn, void *userdata)
{
	return source_new_armed(loop, fd, EV_WRITE, fn, userdata);
}

struct event *loop_signal_new(struct loop *loop, int signal, loop_fn fn, void *userdata)
{
	struct event *event = source_new_armed(loop, signal, EV_SIGNAL, fn, userdata);
	sigset_t set;

	/* Who has started us may have blocked it, and a mask is inherited: nobody could end us,
	 * and each child would seem to run into its time limit. */
	(void)sigemptyset(&set);
	(void)sigaddset(&set, signal);
	if (event)
		(void)sigprocmask(SIG_UNBLOCK, &set, NULL);
	return event;
}

struct event *loop_timer_new(struct loop *loop, loop_fn fn, void *userdata)
{
	return source_new(loop, -1, 0, fn, userdata);
}

void loop_timer_set(struct event *timer, int64_t ms)
{
	struct source *source = event_get_callback_arg(timer);
	int64_t wait_ms = ms > 0 ? ms : 0;
	struct timeval tv = {.tv_sec = wait_ms / 1000, .tv_usec = wait_ms % 1000 * 1000};

	source->due_ms = clock_ms(CLOCK_MONOTONIC) + wait_ms;
	(void)event_add(timer, &tv);
}

void loop_timer_set_sooner(struct event *timer, int64_t ms)
{
	const struct source *source = event_get_callback_arg(timer);

	/* Our own note of the time, since event_pending() answers in wall clock time,
	 * which may jump. */
	if (event_pending(timer, EV_TIMEOUT, NULL) &&
	    source->due_ms <= clock_ms(CLOCK_MONOTONIC) + ms)
		return;
	loop_timer_set(timer, ms);
}

void loop_timer_stop(struct event *timer)
{
	(void)event_del(timer);
}

void loop_event_free(struct event *event)
{
	struct source *source;

	if (!event)
		return;
	source = event_get_callback_arg(event);
	event_free(event);
	free(source);
}

int64_t loop_now_ms(void)
{
	return clock_ms(CLOCK_BOOTTIME);
}

int64_t loop_jitter_ms(int64_t ms)
{
	int64_t half = ms / 2;
	uint32_t random;

	if (half <= 0)
		return ms;
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random))
		random = (uint32_t)clock_ms(CLOCK_MONOTONIC); /* early boot: better than in step */
	return ms - (int64_t)random % (half + 1);
}
