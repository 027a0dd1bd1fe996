/* SPDX-License-Identifier: Apache-2.0 */
/* udp_reference.c - the format of backend udp, done in the plainest way
 *
 *     udp_reference DEVICE LOCAL PORT TUN-ADDRESS SUBNET/LEN=PEER...
 *
 * One packet per system call, one thread, no offloads, a linear look for the peer: what
 * flannel's own udp backend does, and the measure of ours, in tests (its bytes are right
 * because there is so little of it) and in benchmarks (its speed is what people have).
 * Shares no code with flanneld. DEVICE exists, with its address and routes, or is made.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define PACKET_MAX 65536

struct peer {
	uint32_t subnet, mask; /* host order */
	struct sockaddr_in addr;
};

static struct peer *peers;
static int n_peers;
static uint32_t tun_addr; /* network order */

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static void put16(uint8_t *p, unsigned v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

/* RFC 1071, word by word. */
static uint16_t checksum(const uint8_t *p, size_t len)
{
	uint32_t sum = 0;

	for (size_t i = 0; i < len; i++)
		sum += i % 2 ? p[i] : (uint32_t)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static const struct peer *find(uint32_t dst)
{
	for (int i = 0; i < n_peers; i++)
		if ((dst & peers[i].mask) == peers[i].subnet)
			return &peers[i];
	return NULL;
}

/* RFC 1624, equation 3: the word of TTL and protocol is less by 0x0100. */
static bool hop(uint8_t *pkt, ssize_t len)
{
	uint32_t sum;

	if (len < 20 || pkt[0] >> 4 != 4 || pkt[8] <= 1)
		return false;
	sum = (uint16_t)~get16(pkt + 10);
	sum += (uint16_t)~get16(pkt + 8);
	pkt[8]--;
	sum += get16(pkt + 8);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	put16(pkt + 10, (uint16_t)~sum);
	return true;
}

static void unreachable(int tun, const uint8_t *pkt, ssize_t len)
{
	const size_t quoted = (size_t)(pkt[0] & 15) * 4 + 8;
	uint8_t icmp[20 + 8 + 68] = {0x45};

	if (len < 28 || (size_t)len < quoted || pkt[0] >> 4 != 4 || pkt[9] == IPPROTO_ICMP ||
	    (get16(pkt + 6) & 0x1fff))
		return;
	put16(icmp + 2, (unsigned)(28 + quoted));
	icmp[8] = 8;
	icmp[9] = IPPROTO_ICMP;
	memcpy(icmp + 12, &tun_addr, 4);
	memcpy(icmp + 16, pkt + 12, 4);
	put16(icmp + 10, checksum(icmp, 20));
	icmp[20] = 3; /* destination unreachable, network */
	memcpy(icmp + 28, pkt, quoted);
	put16(icmp + 22, checksum(icmp + 20, 8 + quoted));
	if (write(tun, icmp, 28 + quoted) < 0)
		perror("write ICMP");
}

static bool out(int tun, int sock)
{
	static uint8_t pkt[PACKET_MAX];
	const ssize_t len = read(tun, pkt, sizeof(pkt));
	const struct peer *peer;

	if (len < 0 && errno != EAGAIN)
		die("read from the device");
	if (len < 0)
		return false;
	peer = len >= 20 ? find(get32(pkt + 16)) : NULL;
	if (!peer)
		unreachable(tun, pkt, len);
	else if (hop(pkt, len))
		(void)sendto(sock, pkt, (size_t)len, 0, (const struct sockaddr *)&peer->addr,
			     sizeof(peer->addr));
	return true;
}

static bool in(int tun, int sock)
{
	static uint8_t pkt[PACKET_MAX];
	const ssize_t len = recv(sock, pkt, sizeof(pkt), MSG_DONTWAIT);

	if (len < 0)
		return errno == EINTR || errno == ECONNREFUSED;
	if (hop(pkt, len))
		(void)!write(tun, pkt, (size_t)len);
	return true;
}

static int open_tun(const char *name)
{
	struct ifreq ifr = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	const int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);

	(void)snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	if (fd < 0 || ioctl(fd, TUNSETIFF, &ifr) < 0)
		die(name);
	return fd;
}

static int open_socket(const char *local, uint16_t port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
	const int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (inet_pton(AF_INET, local, &addr.sin_addr) != 1 ||
	    bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		die(local);
	return fd;
}

/* "10.5.7.0/24=192.0.2.7" */
static void add_peer(const char *text, uint16_t port)
{
	char subnet[16], addr[16];
	struct in_addr net;
	unsigned len;
	struct peer *p = &peers[n_peers];

	*p = (struct peer){.addr = {.sin_family = AF_INET, .sin_port = htons(port)}};
	if (sscanf(text, "%15[0-9.]/%u=%15[0-9.]", subnet, &len, addr) != 3 || len > 32 ||
	    inet_pton(AF_INET, subnet, &net) != 1 ||
	    inet_pton(AF_INET, addr, &p->addr.sin_addr) != 1) {
		(void)fprintf(stderr, "%s is not SUBNET/LEN=PEER\n", text);
		exit(2);
	}
	p->mask = len ? UINT32_MAX << (32 - len) : 0;
	p->subnet = ntohl(net.s_addr) & p->mask;
	n_peers++;
}

int main(int argc, char *argv[])
{
	struct pollfd fds[2];

	if (argc < 5 || inet_pton(AF_INET, argv[4], &tun_addr) != 1) {
		(void)fprintf(stderr, "usage: udp_reference DEVICE LOCAL PORT TUN-ADDRESS "
				      "SUBNET/LEN=PEER...\n");
		return 2;
	}
	peers = calloc((size_t)argc, sizeof(*peers));
	if (!peers)
		die("calloc");
	for (int i = 5; i < argc; i++)
		add_peer(argv[i], (uint16_t)atoi(argv[3]));
	fds[0] = (struct pollfd){.fd = open_tun(argv[1]), .events = POLLIN};
	fds[1] = (struct pollfd){.fd = open_socket(argv[2], (uint16_t)atoi(argv[3])),
				 .events = POLLIN};
	(void)puts("ready");
	(void)fflush(stdout);
	for (;;) {
		bool busy;

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			die("poll");
		do {
			busy = out(fds[0].fd, fds[1].fd);
			busy |= in(fds[0].fd, fds[1].fd);
		} while (busy);
	}
}
