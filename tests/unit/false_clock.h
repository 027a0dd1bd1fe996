/* SPDX-License-Identifier: Apache-2.0 */
/* false_clock.h - time that only passes when the test says so, for libevent as well */
#pragma once

#include <stdint.h>
#include <time.h>

static int64_t false_now_ms = 1000000;

/* In the C library's place. */
int false_clock(clockid_t clock, struct timespec *ts) __asm__("clock_gettime");
int false_clock(clockid_t clock, struct timespec *ts)
{
	(void)clock;
	ts->tv_sec = false_now_ms / 1000;
	ts->tv_nsec = false_now_ms % 1000 * 1000000;
	return 0;
}
