/* SPDX-License-Identifier: Apache-2.0 */
/* offload.c - how far the ladder can be climbed: what is found out before packets come
 *
 * Features are asked for, not concluded from versions, but for faults that do not show:
 * UDP_SEGMENT of some kernels sends other bytes than it was given, and super-packets of UDP
 * were lost in tunnel devices. What can only be seen with packets (refused super-packets, a
 * way with a small MTU) is met when it happens: send.c, in.c.
 */
#include "backend/udp/path_internal.h"
#include "base/mem.h"
#include "kernel/tun.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <linux/udp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/utsname.h>

/* UDP_MAX_SEGMENTS of linux/udp.h is 64, and 128 since 6.9. Kernels before 5.16 counted the
 * outer headers as well, so that one fewer is what all take. */
#define SEGMENTS_ALL  63
#define SEGMENTS_MORE 127

#define VERSION(major, minor, patch) ((major) << 20 | (minor) << 10 | (patch))

/* "6.1.0-13-amd64" as VERSION(6, 1, 0); 0 when there is no version in it. */
static unsigned long parse_release(const char *release)
{
	unsigned long number[3] = {0};
	char *end;

	for (size_t i = 0; i < ARRAY_SIZE(number); i++) {
		number[i] = strtoul(release, &end, 10);
		if (*end != '.')
			break;
		release = end + 1;
	}
	return VERSION(number[0], number[1], number[2]);
}

bool udp_offload_gso_is_sound(const char *release)
{
	unsigned long version = parse_release(release);

	/* Linux commits 78effd8 and 5f17ae0 mend what b10b446 broke. */
	return version < VERSION(7, 0, 0) || version >= VERSION(7, 1, 5);
}

bool udp_offload_uso_is_sound(const char *release)
{
	/* Kernels up to 6.8.4 lose them on their way into vxlan and geneve. */
	return parse_release(release) >= VERSION(6, 9, 0);
}

/* Sends @n datagrams of one byte to itself at once. */
static bool sends_segments(unsigned n)
{
	_cleanup_close_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_in self = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(self);
	char data[SEGMENTS_MORE] = {0};
	int one = 1;

	return fd >= 0 && !bind(fd, (struct sockaddr *)&self, len) &&
	       !getsockname(fd, (struct sockaddr *)&self, &len) &&
	       !connect(fd, (struct sockaddr *)&self, len) &&
	       !setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &one, sizeof(one)) &&
	       send(fd, data, n, 0) == (ssize_t)n;
}

static unsigned probe_segments(int sock, const char *release)
{
	int value = 0;
	socklen_t len = sizeof(value);

	if (getsockopt(sock, IPPROTO_UDP, UDP_SEGMENT, &value, &len) ||
	    !udp_offload_gso_is_sound(release))
		return 1;
	/* Whether it works at all is seen by sending: loopback may be down. */
	return sends_segments(SEGMENTS_MORE) ? SEGMENTS_MORE : SEGMENTS_ALL;
}

/* UDP_GRO cannot be read back before 5.12, where it had faults on some drivers. */
static bool set_gro(int sock)
{
	int value = 1;
	socklen_t len = sizeof(value);

	if (setsockopt(sock, IPPROTO_UDP, UDP_GRO, &value, sizeof(value)))
		return false;
	if (!getsockopt(sock, IPPROTO_UDP, UDP_GRO, &value, &len))
		return true;
	value = 0;
	(void)setsockopt(sock, IPPROTO_UDP, UDP_GRO, &value, sizeof(value));
	return false;
}

void udp_offload_probe(struct udp_path *path)
{
	struct udp_able *able = &path->able;
	enum udp_offload level = path->settings.offload;
	const unsigned tso = TUN_F_CSUM | TUN_F_TSO4;
	struct utsname kernel;

	*able = (struct udp_able){
		.vnet = level != UDP_OFFLOAD_PLAIN,
		.many = level != UDP_OFFLOAD_PLAIN,
		.segments_max = 1,
	};
	if (level > UDP_OFFLOAD_GSO)
		return;
	(void)uname(&kernel);
	if (level == UDP_OFFLOAD_AUTO)
		able->uso = !tun_set_offload(path->tun, tso | TUN_F_USO4 | TUN_F_USO6);
	able->tso = able->uso || !tun_set_offload(path->tun, tso);
	able->write_uso = able->uso && udp_offload_uso_is_sound(kernel.release);
	able->segments_max = probe_segments(path->sock, kernel.release);
	able->gro = set_gro(path->sock);
}
