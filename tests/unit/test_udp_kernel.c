/* SPDX-License-Identifier: Apache-2.0 */
/* test_udp_kernel.c - segmentation and coalescing against the kernel's own
 *
 * In a network namespace of the test's own, packets written into one tun device are forwarded
 * to another. Where the second takes no super-packets, the kernel has to segment; where the
 * first is read with GRO, it has to merge. What comes out has to be what we would have made of
 * the same, after the hop that a router is.
 */
#include "backend/udp/coalesce.h"
#include "backend/udp/packet.h"
#include "backend/udp/segment.h"

#include "base/mem.h"
#include "supers.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include <cmocka.h>

#define PATIENCE_MS 10000
#define VNET        sizeof(struct virtio_net_hdr)

static int in = -1, out = -1;
static bool uso; /* USO is known to this kernel: 6.2 */

__attribute__((format(printf, 1, 2))) static int shell(const char *fmt, ...)
{
	char command[1024];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	return system(command); /* NOLINT(cert-env33-c): the test's own words */
}

static int open_tun(const char *name, short flags, const char *net)
{
	struct ifreq ifr = {.ifr_flags = (short)(IFF_TUN | IFF_NO_PI | flags)};
	int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	assert_true(fd >= 0);
	(void)snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (ioctl(fd, TUNSETIFF, &ifr))
		fail_msg("%s: %s", name, strerror(errno));
	if (shell("ip link set %s mtu 1500 txqueuelen 5000 up && ip route add %s dev %s", name, net,
		  name))
		fail_msg("%s: not up", name);
	return fd;
}

static void close_tuns(void)
{
	close(in);
	close(out);
	in = out = -1;
}

static size_t read_packet(uint8_t *packet, size_t size)
{
	struct pollfd p = {.fd = out, .events = POLLIN};
	ssize_t n;

	if (poll(&p, 1, PATIENCE_MS) <= 0)
		fail_msg("the kernel forwards nothing");
	n = read(out, packet, size);
	assert_true(n > 0);
	return (size_t)n;
}

static void write_packet(const struct virtio_net_hdr *vnet, const uint8_t *packet, size_t len)
{
	static uint8_t both[VNET + PACKETS_LEN_MAX];

	memcpy(both, vnet, VNET);
	memcpy(both + VNET, packet, len);
	if (write(in, both, VNET + len) != (ssize_t)(VNET + len))
		fail_msg("write: %s", strerror(errno));
}

/* -- segmentation ----------------------------------------------------------------------- */

/* @packet goes through the kernel, and through us. */
static void segment_one(const char *name, struct virtio_net_hdr vnet, uint8_t *packet, size_t len)
{
	static uint8_t ours[PACKETS_LEN_MAX], theirs[PACKETS_LEN_MAX];
	struct segment seg;
	size_t n, at = 0;

	write_packet(&vnet, packet, len);
	assert_int_equal(packet_hop(packet, len), PACKET_GOOD);
	assert_int_equal(segment_init(&seg, &vnet, packet, len), 0);
	for (; (n = segment_len(&seg)); at++) {
		size_t got = read_packet(theirs, sizeof(theirs));

		segment_next(&seg, ours);
		if (got != n || memcmp(ours, theirs, n) != 0)
			fail_msg("%s: the kernel's packet %zu is another", name, at);
	}
}

static void test_segment(void **state)
{
	static uint8_t packet[PACKETS_LEN_MAX];

	(void)state;
	in = open_tun("in", IFF_VNET_HDR, "10.5.1.0/24");
	out = open_tun("out", 0, "10.5.2.0/24");
	for (size_t i = 0; i < ARRAY_SIZE(supers); i++) {
		size_t len = packets_make(&supers[i].order, packet);
		struct virtio_net_hdr vnet = packets_offload(packet, len, supers[i].size);

		/* More than a UDP datagram of that size may be cut into: EINVAL. */
		if (vnet.gso_type == 5 && (!uso || (len - 28) / supers[i].size >= 63))
			continue;
		vnet.gso_type |= supers[i].gso_more;
		segment_one(supers[i].name, vnet, packet, len);
	}
	close_tuns();
}

/* A checksum to be finished, nothing else. */
static void test_single(void **state)
{
	static const struct order orders[] = {
		{.payload = 0, .flags = SYN, .tcp_options = 20},
		{.payload = 1448},
		{.payload = 777, .ip_options = 40},
		{.protocol = UDP},
		{.protocol = UDP, .payload = 1471},
	};
	uint8_t packet[1500];

	(void)state;
	in = open_tun("in", IFF_VNET_HDR, "10.5.1.0/24");
	out = open_tun("out", 0, "10.5.2.0/24");
	for (size_t i = 0; i < ARRAY_SIZE(orders) * 2; i++) {
		size_t len = packets_make(&orders[i / 2], packet);
		struct virtio_net_hdr vnet;

		if (i % 2 && orders[i / 2].payload > 1) /* a checksum of 0 */
			ref_put(packet + len - 2 - len % 2,
				ref_sum(ref_get(ref_transport_check(packet)),
					packet + len - 2 - len % 2, 2));
		vnet = packets_offload(packet, len, 0);
		segment_one("single", vnet, packet, len);
	}
	close_tuns();
}

/* -- coalescing ------------------------------------------------------------------------- */

#define BURST 12
#define SIZE  1000

static const struct burst {
	const char *name;
	struct order order;
	size_t last; /* payload of the last one; 0: SIZE */
	bool push;   /* of the last one */
	int ce_from; /* packets from there on have CE; 0: none */
} bursts[] = {
	{"TCP", {.frag = DF, .tcp_options = 12, .seq = 0xffffff00}, 0, false, 0},
	{"without options", {.frag = DF, .window = 500, .ack = 7}, 0, false, 0},
	{"short end", {.frag = DF, .tcp_options = 12}, 3, false, 0},
	{"PSH", {.frag = DF, .tcp_options = 12}, 999, true, 0},
	{"without DF", {.id = 0xfff8, .tcp_options = 12}, 0, false, 0},
	{"CE", {.frag = DF, .tos = 2}, 0, false, 6},
	{"ECE", {.frag = DF, .flags = ACK | ECE, .tos = 1}, 0, false, 0},
	{"UDP", {.protocol = UDP, .frag = DF}, 0, false, 0},
	{"UDP, short end", {.protocol = UDP, .frag = DF}, 1, false, 0},
};

struct packet {
	size_t len;
	uint8_t b[VNET + PACKETS_LEN_MAX];
};

/* What we make of a burst. */
struct ours {
	int n;
	struct packet packet[2];
};

static void on_write(const struct iovec *iov, int n, void *userdata)
{
	struct ours *ours = userdata;
	struct packet *p = &ours->packet[ours->n++];

	assert_true(ours->n <= 2);
	p->len = 0;
	for (int i = 0; i < n; i++) {
		memcpy(p->b + p->len, iov[i].iov_base, iov[i].iov_len);
		p->len += iov[i].iov_len;
	}
}

static size_t burst_packet(const struct burst *b, int i, uint8_t *packet)
{
	struct order o = b->order;
	bool last = i == BURST - 1;

	o.payload = last && b->last ? b->last : SIZE;
	o.seq += (uint32_t)i * SIZE;
	o.id = (uint16_t)(o.id + i);
	o.fill = (uint8_t)i;
	if (last && b->push)
		o.flags = ACK | PSH;
	if (b->ce_from && i >= b->ce_from)
		o.tos = 3;
	return packets_make(&o, packet);
}

static void coalesce_ours(const struct burst *b, struct ours *ours)
{
	static uint8_t packets[BURST][1500];
	struct coalesce c;

	ours->n = 0;
	coalesce_init(&c, true, true, on_write, ours);
	for (int i = 0; i < BURST; i++) {
		size_t len = burst_packet(b, i, packets[i]);

		assert_int_equal(packet_hop(packets[i], len), PACKET_GOOD);
		coalesce_add(&c, packets[i], len, false);
	}
	coalesce_flush(&c);
}

/* Whether the kernel has made the same of it. It does not if a tick of its clock came in
 * between: what waits from before is flushed, napi_gro_flush(). */
static bool same_merged(const struct burst *b, const struct ours *ours)
{
	static struct packet theirs;
	const struct virtio_net_hdr none = {0};
	size_t left = 0, header_len = 0;
	bool same = true;
	uint8_t packet[1500];

	for (int i = 0; i < BURST; i++) {
		size_t len = burst_packet(b, i, packet);

		header_len = ref_headers_len(packet);
		left += len - header_len;
		write_packet(&none, packet, len);
	}
	for (int i = 0; left; i++) {
		const struct packet *p = &ours->packet[i < ours->n ? i : 0];
		const uint8_t *o = p->b;

		theirs.len = read_packet(theirs.b, sizeof(theirs.b));
		assert_true(theirs.len > VNET + header_len);
		left -= theirs.len - VNET - header_len;
		/* hdr_len is a hint, and may have more in it. */
		memcpy(theirs.b + 2, o + 2, 2);
		same = same && i < ours->n && theirs.len == p->len &&
		       memcmp(theirs.b, o, p->len) == 0;
	}
	return same;
}

static bool is_merged(const struct ours *ours, const struct burst *b)
{
	return ours->n == (b->ce_from ? 2 : 1);
}

static void test_coalesce(void **state)
{
	static struct ours ours;
	unsigned offloads = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | (uso ? 0x20 | 0x40 : 0);
	bool udp;

	(void)state;
	in = open_tun("in", IFF_VNET_HDR | IFF_NAPI, "10.5.1.0/24");
	out = open_tun("out", IFF_VNET_HDR, "10.5.2.0/24");
	assert_int_equal(ioctl(out, TUNSETOFFLOAD, offloads), 0);
	if (shell("echo 20000000 >/sys/class/net/in/gro_flush_timeout"))
		skip();
	udp = uso && shell("ethtool -K in rx-udp-gro-forwarding on 2>/dev/null") == 0;
	if (!udp)
		print_message("skipped: the kernel's GRO of forwarded UDP\n");
	for (size_t i = 0; i < ARRAY_SIZE(bursts); i++) {
		int attempts = 0;

		if (bursts[i].order.protocol == UDP && !udp)
			continue;
		coalesce_ours(&bursts[i], &ours);
		assert_true(is_merged(&ours, &bursts[i]));
		while (!same_merged(&bursts[i], &ours)) {
			if (++attempts == 50)
				fail_msg("%s: the kernel merges otherwise", bursts[i].name);
		}
	}
	close_tuns();
}

/* What we merged and the kernel cuts again is what it was. */
static void test_cut_again(void **state)
{
	static uint8_t theirs[PACKETS_LEN_MAX];
	static struct ours ours;
	uint8_t packet[1500];

	(void)state;
	in = open_tun("in", IFF_VNET_HDR, "10.5.1.0/24");
	out = open_tun("out", 0, "10.5.2.0/24");
	for (size_t i = 0; i < ARRAY_SIZE(bursts); i++) {
		if (bursts[i].order.protocol == UDP && !uso)
			continue;
		coalesce_ours(&bursts[i], &ours);
		for (int k = 0; k < ours.n; k++) {
			const struct packet *p = &ours.packet[k];

			if (write(in, p->b, p->len) != (ssize_t)p->len)
				fail_msg("%s: %s", bursts[i].name, strerror(errno));
		}
		for (int k = 0; k < BURST; k++) {
			size_t len = burst_packet(&bursts[i], k, packet);

			(void)packet_hop(packet, len);
			(void)packet_hop(packet, len);
			assert_int_equal(read_packet(theirs, sizeof(theirs)), len);
			assert_memory_equal(theirs, packet, len);
		}
	}
	close_tuns();
}

/* -- the world -------------------------------------------------------------------------- */

static int prepare(void)
{
	struct ifreq ifr = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	int fd;

	/* Its own /sys as well, where the devices of its own namespace are. */
	if (unshare(CLONE_NEWNET | CLONE_NEWNS) ||
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return -errno;
	if (mount("sysfs", "/sys", "sysfs", 0, NULL))
		return -errno;
	if (shell("echo 1 >/proc/sys/net/ipv4/ip_forward && "
		  "{ echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6; } 2>/dev/null; "
		  "ip link set lo up"))
		return -EPERM;
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr))
		return -errno;
	uso = ioctl(fd, TUNSETOFFLOAD, TUN_F_CSUM | 0x20 | 0x40) == 0;
	close(fd);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_segment),
		cmocka_unit_test(test_single),
		cmocka_unit_test(test_coalesce),
		cmocka_unit_test(test_cut_again),
	};
	int r = prepare();

	if (r) {
		/* In TAP, a plan of nothing is a skip. */
		printf("1..0 # SKIP tun devices in a network namespace: %s\n", strerror(-r));
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
