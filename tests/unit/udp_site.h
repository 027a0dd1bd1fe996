/* SPDX-License-Identifier: Apache-2.0 */
/* udp_site.h - a network namespace for data paths: tun devices, peers on loopback, packets
 *
 * Paths "ta" (10.1.1.0/24 at 127.0.0.1) and "tb" (10.1.2.0/24 at 127.0.0.2), and a peer that is
 * but a socket, 10.1.3.0/24 at 127.0.0.3. A packet socket on a device stands for the host:
 * what it sends the path reads, and it sees what the path writes.
 */
#pragma once

#include "backend/udp/checksum.h"
#include "backend/udp/headers.h"
#include "backend/udp/packet.h"
#include "backend/udp/path.h"
#include "backend/udp/segment.h"
#include "base/mem.h"
#include "kernel/link.h"
#include "kernel/sysctl.h"
#include "kernel/tun.h"

#include <errno.h>
#include <libmnl/libmnl.h>
#include <linux/if_link.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

/* After the headers that it needs. */
#include <cmocka.h>

#define PORT            8285
#define LOCAL(n)        (0x7f000000u + (n))                  /* 127.0.0.n */
#define INNER(n)        (0x0a010000u + ((uint32_t)(n) << 8)) /* 10.1.n.0 */
#define SITE_ANSWER_MAX 8192
#define FRAME_MAX       (sizeof(struct virtio_net_hdr) + 65535)

static const struct udp_peer site_peers[] = {
	{INNER(1), 24, LOCAL(1)},
	{INNER(2), 24, LOCAL(2)},
	{INNER(3), 24, LOCAL(3)},
};

static inline void site_ioctl(const char *device, unsigned long request, struct ifreq *ifr)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	(void)snprintf(ifr->ifr_name, sizeof(ifr->ifr_name), "%s", device);
	assert_int_equal(ioctl(fd, request, ifr), 0);
	close(fd);
}

static inline void site_up(const char *device)
{
	site_ioctl(device, SIOCSIFFLAGS, &(struct ifreq){.ifr_flags = IFF_UP});
}

static inline void site_set_mtu(const char *device, int mtu)
{
	site_ioctl(device, SIOCSIFMTU, &(struct ifreq){.ifr_mtu = mtu});
}

static inline void site_set_addr(const char *device, uint32_t addr, uint32_t mask)
{
	struct ifreq ifr = {0};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(addr)};

	memcpy(&ifr.ifr_addr, &in, sizeof(in));
	site_ioctl(device, SIOCSIFADDR, &ifr);
	in.sin_addr.s_addr = htonl(mask);
	memcpy(&ifr.ifr_netmask, &in, sizeof(in));
	site_ioctl(device, SIOCSIFNETMASK, &ifr);
}

/* Sends @msg, and leaves in @buf what comes back: an acknowledgement, or the device. */
static inline ssize_t site_ask(struct nlmsghdr *msg, char buf[SITE_ANSWER_MAX])
{
	struct mnl_socket *nl = mnl_socket_open(NETLINK_ROUTE);
	ssize_t n;

	msg->nlmsg_flags |= NLM_F_REQUEST;
	assert_true(mnl_socket_sendto(nl, msg, msg->nlmsg_len) > 0);
	n = mnl_socket_recvfrom(nl, buf, SITE_ANSWER_MAX);
	(void)mnl_socket_close(nl);
	return n;
}

/* Not before the kernel has seen to a device that somebody has attached to does it send. */
static inline bool site_is_running(const char *device)
{
	_Alignas(8) char buf[SITE_ANSWER_MAX] = "";
	struct link link;

	assert_true(site_ask(link_put_get(buf, device, 0), buf) > 0);
	assert_int_equal(link_parse((void *)buf, &link), 0);
	return link.operstate == 6; /* IF_OPER_UP of linux/if.h, which does not go with net/if.h */
}

static inline void site_delete(const char *device)
{
	_Alignas(8) char buf[SITE_ANSWER_MAX] = "";
	struct nlmsghdr *msg = link_put_delete_name(buf, device);

	msg->nlmsg_flags |= NLM_F_ACK;
	assert_true(site_ask(msg, buf) > 0);
	assert_int_equal(((struct nlmsgerr *)mnl_nlmsg_get_payload((void *)buf))->error, 0);
}

/* A device for path @n. */
static inline void site_device(const char *name, unsigned n)
{
	struct err err;

	if (tun_create(name, &err))
		fail_msg("%s", err.text);
	site_set_mtu(name, 1472);
	site_up(name);
	site_set_addr(name, INNER(n), 0xffffffff);
}

static inline void site_enter(void)
{
	if (unshare(CLONE_NEWNET))
		fail_msg("a network namespace: %s", strerror(errno));
	(void)sysctl_set("net/ipv6/conf/default/disable_ipv6", 1, NULL);
	assert_int_equal(sysctl_set("net/ipv4/conf/all/rp_filter", 0, NULL), 0);
	assert_int_equal(sysctl_set("net/ipv4/conf/default/rp_filter", 0, NULL), 0);
	site_up("lo");
	site_device("ta", 1);
	site_device("tb", 2);
}

/* The peer @n, or a stranger: a socket at its address. */
static inline int site_peer(unsigned n)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), size = 4 << 20;
	struct sockaddr_in addr = {
		.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(LOCAL(n))};

	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	return fd;
}

static inline void site_send(int fd, unsigned to, const void *data, size_t len)
{
	struct sockaddr_in addr = {.sin_family = AF_INET,
				   .sin_port = htons(PORT),
				   .sin_addr.s_addr = htonl(LOCAL(to))};

	assert_int_equal(sendto(fd, data, len, 0, (struct sockaddr *)&addr, sizeof(addr)), len);
}

static inline int site_host(const char *device)
{
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;
	int size = 64 << 20;
	struct sockaddr_ll addr = {.sll_family = AF_PACKET,
				   .sll_protocol = htons(ETH_P_IP),
				   .sll_ifindex = (int)if_nametoindex(device)};

	assert_int_equal(setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)), 0);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static inline void site_out(int host, const struct virtio_net_hdr *vnet, const void *pkt,
			    size_t len)
{
	static const struct virtio_net_hdr none;
	struct iovec iov[] = {{(void *)(uintptr_t)(vnet ? vnet : &none), sizeof(none)},
			      {(void *)(uintptr_t)pkt, len}};

	struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};

	if (sendmsg(host, &msg, 0) < 0)
		fail_msg("sending %zu bytes: %s", len, strerror(errno));
}

/* What the path wrote next: vnet header and packet. 0: nothing within @ms. */
static inline size_t site_in(int host, uint8_t frame[FRAME_MAX], int ms)
{
	struct sockaddr_ll from = {0};

	for (;;) {
		socklen_t len = sizeof(from);
		ssize_t n = recvfrom(host, frame, FRAME_MAX, 0, (struct sockaddr *)&from, &len);

		if (n > 0 && from.sll_pkttype != PACKET_OUTGOING)
			return (size_t)n;
		if (n < 0 && poll(&(struct pollfd){.fd = host, .events = POLLIN}, 1, ms) <= 0)
			return 0;
	}
}

/* -- packets ----------------------------------------------------------------------------- */

struct site_packet {
	uint8_t protocol;
	unsigned from, to; /* 10.1.n.5 */
	size_t len;
	uint32_t seq;
	uint8_t flags; /* TCP */
	uint8_t ttl;   /* 0: 64 */
	uint16_t frag;
};

static inline void site_finish_transport(uint8_t *pkt, size_t len)
{
	size_t offset = pkt[IPV4_PROTOCOL] == IPPROTO_TCP ? TCP_CHECK : UDP_CHECK;
	uint64_t sum = checksum_pseudo(pkt, pkt[IPV4_PROTOCOL], len - IPV4_HEADER);
	uint16_t fold;

	put16(pkt + IPV4_HEADER + offset, 0);
	fold = checksum_fold(checksum_add(sum, pkt + IPV4_HEADER, len - IPV4_HEADER));
	/* Never 0, which in UDP is none. */
	put_sum(pkt + IPV4_HEADER + offset, fold == 0xffff ? fold : (uint16_t)~fold);
}

/* With right checksums; payload that tells its place. */
static inline void site_make(const struct site_packet *p, uint8_t *pkt)
{
	memset(pkt, 0, p->len);
	for (size_t i = IPV4_HEADER; i < p->len; i++)
		pkt[i] = (uint8_t)(i * 7 + p->seq);
	pkt[0] = 0x45;
	put16(pkt + IPV4_TOT_LEN, (unsigned)p->len);
	put16(pkt + IPV4_ID, p->seq & 0xffff);
	put16(pkt + IPV4_FRAG, p->frag);
	pkt[IPV4_TTL] = p->ttl ? p->ttl : 64;
	pkt[IPV4_PROTOCOL] = p->protocol;
	put32(pkt + IPV4_SRC, INNER(p->from) + 5);
	put32(pkt + IPV4_DST, INNER(p->to) + 5);
	put_sum(pkt + IPV4_CHECK, (uint16_t)~checksum_fold(checksum_add(0, pkt, IPV4_HEADER)));
	if (p->protocol == IPPROTO_TCP) {
		put16(pkt + IPV4_HEADER, 1000);
		put16(pkt + IPV4_HEADER + 2, 2000);
		put32(pkt + IPV4_HEADER + TCP_SEQ, p->seq);
		put32(pkt + IPV4_HEADER + TCP_ACK, 1);
		pkt[IPV4_HEADER + TCP_DOFF] = 0x50;
		pkt[IPV4_HEADER + TCP_FLAGS] = p->flags;
		put16(pkt + IPV4_HEADER + TCP_URGENT, 0);
		site_finish_transport(pkt, p->len);
	} else if (p->protocol == IPPROTO_UDP) {
		put16(pkt + IPV4_HEADER, 1000);
		put16(pkt + IPV4_HEADER + 2, 2000);
		put16(pkt + IPV4_HEADER + UDP_LEN, (unsigned)(p->len - IPV4_HEADER));
		site_finish_transport(pkt, p->len);
	}
}

/* As a super-packet of @size bytes of payload each; its vnet header. */
static inline struct virtio_net_hdr site_make_super(const struct site_packet *p, uint16_t size,
						    uint8_t *pkt)
{
	bool tcp = p->protocol == IPPROTO_TCP;
	struct virtio_net_hdr vnet = {
		.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
		.gso_type = tcp ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_UDP_L4,
		.hdr_len = IPV4_HEADER + (tcp ? TCP_HEADER : UDP_HEADER),
		.gso_size = size,
		.csum_start = IPV4_HEADER,
		.csum_offset = tcp ? TCP_CHECK : UDP_CHECK,
	};

	site_make(p, pkt);
	put_sum(pkt + IPV4_HEADER + vnet.csum_offset,
		checksum_fold(checksum_pseudo(pkt, p->protocol, p->len - IPV4_HEADER)));
	return vnet;
}
