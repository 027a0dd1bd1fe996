/* SPDX-License-Identifier: Apache-2.0 */
/* udp_load.c - small datagrams at a given rate, and how many of them arrive
 *
 *     udp_load send ADDRESS PORT BYTES RATE SECONDS   prints what was sent
 *     udp_load recv PORT SECONDS                      prints what came until it is quiet for so
 *                                                     long
 *
 * One system call per datagram on the sending side, as programs do it; the pauses between
 * its bursts are slept, since the tunnel needs the CPU.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BURST_NS 200000
#define BATCH    64

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec ts;

	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void sleep_until(int64_t ns)
{
	const struct timespec ts = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

static int send_load(char *argv[])
{
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)strtoul(argv[1], NULL, 10))};
	const size_t bytes = strtoul(argv[2], NULL, 10);
	const double rate = strtod(argv[3], NULL), seconds = strtod(argv[4], NULL);
	const int fd = socket(AF_INET, SOCK_DGRAM, 0);
	static char payload[65536];
	uint64_t calls = 0, sent = 0;
	int64_t begin, end;

	if (inet_pton(AF_INET, argv[0], &to.sin_addr) != 1 || bytes > sizeof(payload) ||
	    connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		die(argv[0]);
	(void)prctl(PR_SET_TIMERSLACK, 1UL);
	begin = now_ns();
	end = begin + (int64_t)(seconds * 1e9);
	for (int64_t next = begin; next < end; next += BURST_NS) {
		const uint64_t due = (uint64_t)((double)(next + BURST_NS - begin) / 1e9 * rate);

		/* Late bursts are made up for, but never by more than one more. */
		for (; calls < due; calls++)
			sent += send(fd, payload, bytes, 0) == (ssize_t)bytes;
		if (now_ns() > end)
			break;
		sleep_until(next + BURST_NS);
	}
	(void)printf("%llu %llu %.6f\n", (unsigned long long)calls, (unsigned long long)sent,
		     (double)(now_ns() - begin) / 1e9);
	return 0;
}

static int recv_load(char *argv[])
{
	struct sockaddr_in on = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)strtoul(argv[0], NULL, 10))};
	const double quiet_s = strtod(argv[1], NULL);
	struct timeval wait = {.tv_sec = (long)quiet_s,
			       .tv_usec = (long)((quiet_s - (double)(long)quiet_s) * 1e6)};
	const int fd = socket(AF_INET, SOCK_DGRAM, 0), room = 8 << 20;
	static char buf[BATCH][2048];
	struct mmsghdr msg[BATCH];
	struct iovec iov[BATCH];
	uint64_t came = 0;
	int n;

	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
	if (bind(fd, (struct sockaddr *)&on, sizeof(on)) < 0)
		die("bind");
	memset(msg, 0, sizeof(msg));
	for (int i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){buf[i], sizeof(buf[i])};
		msg[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1};
	}
	(void)puts("ready");
	(void)fflush(stdout);
	/* The first may take its time. */
	n = recvmmsg(fd, msg, 1, 0, NULL);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	for (; n > 0; n = recvmmsg(fd, msg, BATCH, MSG_WAITFORONE, NULL))
		came += (uint64_t)n;
	(void)printf("%llu\n", (unsigned long long)came);
	return 0;
}

int main(int argc, char *argv[])
{
	if (argc == 7 && !strcmp(argv[1], "send"))
		return send_load(argv + 2);
	if (argc == 4 && !strcmp(argv[1], "recv"))
		return recv_load(argv + 2);
	(void)fputs("usage: udp_load send ADDRESS PORT BYTES RATE SECONDS\n"
		    "       udp_load recv PORT SECONDS\n",
		    stderr);
	return 2;
}
