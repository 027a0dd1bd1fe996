/* SPDX-License-Identifier: Apache-2.0 */
/* clock.c - preloaded into flanneld by the lab: clocks that the test can set
 *
 * A time namespace cannot move CLOCK_REALTIME, and the lab must not move the
 * machine's. $LAB_CLOCK names a file of two int64_t, the seconds to add to the wall
 * clock and to the monotonic ones; it is mapped, so a test's write is felt at once.
 * What the kernel counts by itself (timerfd, poll timeouts) is not moved: a test that
 * moves the monotonic clock must give the program a reason to wake up.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *offsets;

__attribute__((constructor)) static void map_offsets(void)
{
	const char *path = getenv("LAB_CLOCK");
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *map;

	if (fd < 0)
		return;
	map = mmap(NULL, 2 * sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (map != MAP_FAILED)
		offsets = map;
}

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	int code = (int)syscall(SYS_clock_gettime, clock, ts);

	if (code || !offsets)
		return code;
	if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
		ts->tv_sec += offsets[0];
	else if (clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE ||
		 clock == CLOCK_MONOTONIC_RAW || clock == CLOCK_BOOTTIME)
		ts->tv_sec += offsets[1];
	return 0;
}

int gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
	struct timespec now;

	(void)tz;
	if (clock_gettime(CLOCK_REALTIME, &now))
		return -1;
	tv->tv_sec = now.tv_sec;
	tv->tv_usec = now.tv_nsec / 1000;
	return 0;
}

time_t time(time_t *ret)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	if (ret)
		*ret = now.tv_sec;
	return now.tv_sec;
}
