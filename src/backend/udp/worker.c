/* SPDX-License-Identifier: Apache-2.0 */
/* worker.c - a thread of the data path: turns while there are packets, then sleep
 *
 * Theory of operation. The first worker carries both directions as long as it finds time to
 * rest: a packet in, and the answer that the kernel makes while it is written, then cost one
 * wake-up. Once it has carried something out HANDOVER_TURNS times without a rest, it hands the
 * way out to the second, which gives it back when nothing has gone out for RETURN_MS. So each
 * direction has a CPU while there is much to carry. Who holds the way out is all that they share;
 * the order of its packets stays, since a handover is between two turns.
 *
 * To sleep and be woken costs tens of microseconds, in which TCP stands still. After a sleep
 * shorter than SPIN_US the next one is put off for as long, and the device and the socket are
 * looked at instead; the CPU is offered to others between the looks. Traffic with longer
 * pauses never pays for that.
 */
#include "backend/udp/path_internal.h"
#include "base/mem.h"

#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <time.h>

#define IDLE           UINT64_MAX
#define SPIN_US        50
#define HANDOVER_TURNS 16
#define RETURN_MS      1

static uint64_t now_us(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static bool has_out(const struct udp_worker *w)
{
	return atomic_load_explicit(&w->path->out_by, memory_order_acquire) == w;
}

/* Whether it is the second's. */
static bool is_lent(const struct udp_worker *w)
{
	return w != w->path->worker[0] && has_out(w);
}

static void hand_out_to(struct udp_worker *w)
{
	atomic_store_explicit(&w->path->out_by, w, memory_order_release);
	(void)eventfd_write(w->bell, 1);
}

static void sleep_until_packets(struct udp_worker *w)
{
	struct pollfd fds[] = {
		{.fd = w->path->wake, .events = POLLIN},
		{.fd = w->bell, .events = POLLIN},
		{.fd = has_out(w) ? w->path->tun : -1, .events = POLLIN},
		{.fd = w->in ? w->path->sock : -1, .events = POLLIN},
	};
	eventfd_t rings;

	w->seen = IDLE;
	(void)poll(fds, ARRAY_SIZE(fds), is_lent(w) ? RETURN_MS : -1);
	if (fds[1].revents)
		(void)eventfd_read(w->bell, &rings);
}

enum carried {
	CARRIED_OUT = 1,
	CARRIED_IN = 2,
};

/* Of enum carried; 0: there was nothing. */
static unsigned turn(struct udp_worker *w)
{
	unsigned carried = 0;

	/* In this order: see path_internal.h. */
	w->seen = w->path->generation;
	w->table = w->path->table;
	if (has_out(w) && udp_out_turn(w))
		carried |= CARRIED_OUT;
	if (w->in && udp_in_turn(w))
		carried |= CARRIED_IN;
	return carried;
}

/* The first one's, when it has carried something out so often without a rest. */
static void share_out(const struct udp_worker *w, unsigned out_turns)
{
	const struct udp_path *path = w->path;

	if (out_turns >= HANDOVER_TURNS && path->n_workers > 1 && w == path->worker[0] &&
	    has_out(w))
		hand_out_to(path->worker[1]);
}

static void *run(void *userdata)
{
	struct udp_worker *w = userdata;
	const uint64_t busy_poll_us = w->path->settings.busy_poll_us;
	uint64_t patience_us = busy_poll_us, nothing_since_us = 0, nothing_us, looked_us;
	unsigned out_turns = 0, carried; /* since the last rest */

	while (!atomic_load_explicit(&w->path->stopping, memory_order_relaxed)) {
		carried = turn(w);
		if (carried) {
			nothing_since_us = 0;
			out_turns += carried & CARRIED_OUT;
			share_out(w, out_turns);
			continue;
		}
		looked_us = now_us();
		if (!nothing_since_us)
			nothing_since_us = looked_us;
		nothing_us = looked_us - nothing_since_us;
		if (nothing_us >= patience_us) {
			sleep_until_packets(w);
			nothing_us = now_us() - nothing_since_us;
			nothing_since_us = 0;
			patience_us = busy_poll_us < SPIN_US && nothing_us < SPIN_US ? SPIN_US
										     : busy_poll_us;
			if (nothing_us >= RETURN_MS * 1000 && is_lent(w))
				hand_out_to(w->path->worker[0]);
		} else {
			(void)sched_yield();
		}
		if (nothing_us >= SPIN_US)
			out_turns = 0;
	}
	w->seen = IDLE;
	return NULL;
}

int udp_worker_start(struct udp_worker *w, const char *name)
{
	sigset_t all, old;
	int code;

	/* Signals are the control thread's. */
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &old);
	code = pthread_create(&w->thread, NULL, run, w);
	(void)pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (code)
		return -code;
	(void)pthread_setname_np(w->thread, name);
	w->started = true;
	return 0;
}

void udp_worker_lost(struct udp_worker *w, const char *why)
{
	struct udp_path *path = w->path;
	const char *nothing = NULL;

	(void)atomic_compare_exchange_strong(&path->lost, &nothing, why);
	/* The other one has nothing to do either. */
	atomic_store(&path->stopping, true);
	(void)eventfd_write(path->wake, 1);
	(void)eventfd_write(path->tell, 1);
}

void udp_worker_left(struct udp_worker *w, enum udp_rung_left rung)
{
	udp_count(&w->counters.demoted, 1);
	(void)atomic_fetch_or(&w->path->left, rung);
	(void)eventfd_write(w->path->tell, 1);
}

void udp_worker_refused(struct udp_worker *w, uint32_t addr, uint16_t size)
{
	udp_count(&w->counters.demoted, 1);
	/* One not told yet gives way: it is but a line in the log. */
	atomic_store(&w->path->refused_peer, (uint64_t)addr << 16 | size);
	(void)eventfd_write(w->path->tell, 1);
}

void udp_worker_unsent(struct udp_worker *w, uint32_t addr, int code)
{
	atomic_store(&w->path->unsent, (uint64_t)addr << 16 | (uint16_t)code);
	(void)eventfd_write(w->path->tell, 1);
}
