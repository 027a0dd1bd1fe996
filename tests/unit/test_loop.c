/* SPDX-License-Identifier: Apache-2.0 */
/* test_loop.c - the event loop: fds, timers, signals, sources that free each other */
#include "io/loop.h"

#include "base/mem.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>

struct fixture {
	struct loop *loop;
	struct event *event, *other;
	int fd;
	int n_calls;
};

static void set_up(struct fixture *f)
{
	*f = (struct fixture){.loop = loop_new(), .fd = -1};
	assert_non_null(f->loop);
}

static void count_and_exit(void *userdata)
{
	struct fixture *f = userdata;

	f->n_calls++;
	loop_exit(f->loop);
}

/* Milliseconds that the loop runs until a callback ends it. */
static int64_t run_ms(struct fixture *f)
{
	const int64_t start = loop_now_ms();

	loop_run(f->loop);
	return loop_now_ms() - start;
}

static void test_timer(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	f.event = loop_timer_new(f.loop, count_and_exit, &f);
	loop_timer_set(f.event, 20);
	assert_true(run_ms(&f) >= 19);
	assert_int_equal(f.n_calls, 1);

	/* Once only, until it is set again. */
	f.other = loop_timer_new(f.loop, count_and_exit, &f);
	loop_timer_set(f.other, 10);
	loop_run(f.loop);
	assert_int_equal(f.n_calls, 2);

	/* The last setting counts, sooner or later. */
	loop_timer_set(f.event, 60000);
	loop_timer_set(f.event, 0);
	assert_true(run_ms(&f) < 30000);
	assert_int_equal(f.n_calls, 3);

	loop_timer_set(f.event, 0);
	loop_timer_stop(f.event);
	loop_timer_set(f.other, 20);
	assert_true(run_ms(&f) >= 19);
	assert_int_equal(f.n_calls, 4);
	loop_event_free(f.event);
	loop_event_free(f.other);
	loop_free(f.loop);
}

static void test_timer_sooner(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	f.event = loop_timer_new(f.loop, count_and_exit, &f);
	loop_timer_set_sooner(f.event, 60000); /* not armed: arms */
	loop_timer_set_sooner(f.event, 20);    /* sooner: moves */
	loop_timer_set_sooner(f.event, 60000); /* later: stays */
	assert_true(run_ms(&f) < 30000);
	loop_timer_set_sooner(f.event, 20); /* it fired: arms again */
	assert_true(run_ms(&f) >= 19);
	assert_int_equal(f.n_calls, 2);
	loop_event_free(f.event);
	loop_free(f.loop);
}

static void read_and_exit(void *userdata)
{
	struct fixture *f = userdata;
	char byte;

	assert_int_equal(read(f->fd, &byte, 1), 1);
	count_and_exit(userdata);
}

static void test_fd(void **state)
{
	struct fixture f;
	int fds[2];

	(void)state;
	set_up(&f);
	assert_int_equal(pipe(fds), 0);
	f.fd = fds[0];
	f.event = loop_fd_new(f.loop, fds[0], read_and_exit, &f);
	for (int i = 1; i <= 3; i++) {
		assert_int_equal(write(fds[1], "x", 1), 1);
		loop_run(f.loop);
		assert_int_equal(f.n_calls, i);
	}
	loop_event_free(f.event);
	loop_free(f.loop);
	(void)close(fds[0]);
	(void)close(fds[1]);
}

static void test_signal(void **state)
{
	struct fixture f;
	sigset_t set;

	(void)state;
	set_up(&f);
	/* As whoever starts the daemon may have it. */
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGTERM);
	assert_int_equal(sigprocmask(SIG_BLOCK, &set, NULL), 0);
	f.event = loop_signal_new(f.loop, SIGTERM, count_and_exit, &f);
	for (int i = 1; i <= 2; i++) {
		assert_int_equal(raise(SIGTERM), 0);
		loop_run(f.loop);
		assert_int_equal(f.n_calls, i);
	}
	loop_event_free(f.event);
	loop_free(f.loop);
}

static void test_exit_before_run(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	loop_exit(f.loop);
	loop_run(f.loop); /* would never return */
	loop_free(f.loop);
}

/* Both timers are due at once; whichever comes first frees both. */
static void free_both(void *userdata)
{
	struct fixture *f = userdata;

	loop_event_free(f->event);
	loop_event_free(f->other);
	f->event = NULL;
	f->other = NULL;
	count_and_exit(f);
}

static void test_free_from_callback(void **state)
{
	struct fixture f;

	(void)state;
	set_up(&f);
	f.event = loop_timer_new(f.loop, free_both, &f);
	f.other = loop_timer_new(f.loop, free_both, &f);
	loop_timer_set(f.event, 0);
	loop_timer_set(f.other, 0);
	loop_run(f.loop);
	assert_int_equal(f.n_calls, 1);
	loop_event_free(NULL);
	loop_free(f.loop);
	loop_free(NULL);
}

static void test_jitter(void **state)
{
	int64_t least = INT64_MAX, most = 0;

	(void)state;
	for (int i = 0; i < 1000; i++) {
		int64_t ms = loop_jitter_ms(1000);

		assert_in_range(ms, 500, 1000);
		least = ms < least ? ms : least;
		most = ms > most ? ms : most;
	}
	assert_true(least < 600 && most > 900);
	assert_int_equal(loop_jitter_ms(0), 0);
	assert_int_equal(loop_jitter_ms(1), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_timer),
		cmocka_unit_test(test_timer_sooner),
		cmocka_unit_test(test_fd),
		cmocka_unit_test(test_signal),
		cmocka_unit_test(test_exit_before_run),
		cmocka_unit_test(test_free_from_callback),
		cmocka_unit_test(test_jitter),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
