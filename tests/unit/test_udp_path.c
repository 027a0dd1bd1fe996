/* SPDX-License-Identifier: Apache-2.0 */
/* test_udp_path.c - the data path with real tun devices and sockets, each test in a network
 * namespace of its own
 *
 * What no healthy kernel does on demand is done by this file's own sendmmsg() and writev(),
 * which take the place of libc's.
 */
#include "backend/udp/send.h"
#include "udp_site.h"
#include "wait.h"

#include <dirent.h>
#include <event2/event.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/udp.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

static struct loop *loop;
static struct event *tick;
static struct udp_path *a, *b;
static int host_a, host_b;
static unsigned n_lost, n_demoted, n_unsent;
static char demoted_words[256], unsent_words[256];
static uint8_t frame[FRAME_MAX], packet[65536];

#define WAIT(condition) WAIT_MS(20000, condition)

/* Looks all the time: to be there at the very moment. */
#define WAIT_AT_ONCE(condition)                                                                    \
	do {                                                                                       \
		int64_t _until = loop_now_ms() + 20000;                                            \
		while (!(condition)) {                                                             \
			if (loop_now_ms() > _until)                                                \
				fail_msg("not reached: %s", #condition);                           \
			(void)sched_yield();                                                       \
		}                                                                                  \
	} while (0)

/* -- a kernel that refuses ---------------------------------------------------------------- */

static atomic_int send_fault;          /* errno of the next sendmmsg() */
static atomic_bool send_fault_gso;     /* only where there is UDP_SEGMENT, but always */
static atomic_uint send_fault_to;      /* and only to this address; 0: to any */
static atomic_bool write_fault;        /* merged packets are refused */
static _Atomic int read_fault_fd;      /* the next read() of it is EINVAL */
static _Atomic int64_t clock_offset_s; /* of the coarse clock */
static _Atomic int64_t clock_stands_s; /* where it stands; 0: it does not */
static atomic_bool kernel_5_4;         /* what one can, and its errors */
static atomic_bool receive_held;       /* until all is there that is to come in one turn */
static atomic_uint n_receiving;        /* workers that may be in recvmmsg() */
static atomic_uint n_unsound;          /* messages that some kernel would refuse */

/* -- both workers at the way out ---------------------------------------------------------- */

static _Atomic(struct udp_path *) watched; /* its datagrams are of NUMBERED bytes, and counted */
static atomic_bool loaded;                 /* it finds no rest: no flush ends before more came */
/* Not atomic, though both workers touch them: the thread sanitizer sees whether a handover of
 * the way out is one of all that belongs to it. */
static uint32_t next_number, n_misplaced;

#define NUMBERED  64
#define NUMBER_AT 28

static void watch(const struct msghdr *msg)
{
	const uint8_t *data = msg->msg_iov->iov_base;

	for (size_t at = 0; at < msg->msg_iov->iov_len; at += NUMBERED)
		n_misplaced += get32(data + at + NUMBER_AT) != next_number++;
}

/* Of a kind that every kernel takes, see UDP_MAX_SEGMENTS; one by itself goes without
 * UDP_SEGMENT. */
static bool is_sound(const struct msghdr *msg)
{
	size_t len = msg->msg_iov->iov_len;
	uint16_t size;

	if (!msg->msg_controllen)
		return len <= PACKET_MAX;
	memcpy(&size, CMSG_DATA((struct cmsghdr *)msg->msg_control), sizeof(size));
	return len <= PACKET_MAX && size && size < len &&
	       (len + size - 1) / size <= (kernel_5_4 ? 63 : 127);
}

static void wait_for_more(const struct udp_path *path)
{
	struct pollfd more = {.fd = path->tun, .events = POLLIN};

	while (loaded && !poll(&more, 1, 1))
		;
}

static uint32_t addr_of(const struct msghdr *msg)
{
	const struct sockaddr_in *to = msg->msg_name;

	return ntohl(to->sin_addr.s_addr);
}

/* Segments that are too large, and a local address that there is not, have errors of their own in
 * later ones. */
static int code_of_5_4(int code, const struct msghdr *msg)
{
	bool one = code == ENETUNREACH || (code == EMSGSIZE && msg->msg_controllen);

	return kernel_5_4 && one ? EINVAL : code;
}

/* NOLINTBEGIN(readability-inconsistent-declaration-parameter-name): theirs are reserved */
int sendmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags)
{
	int code = send_fault, sent;
	const struct udp_path *path = watched;

	if (code && (!send_fault_gso || msgs[0].msg_hdr.msg_controllen) &&
	    (!send_fault_to || send_fault_to == addr_of(&msgs[0].msg_hdr))) {
		if (!send_fault_gso)
			send_fault = 0;
		errno = code;
		return -1;
	}
	for (unsigned i = 0; i < n; i++)
		n_unsound += !is_sound(&msgs[i].msg_hdr);
	sent = (int)syscall(SYS_sendmmsg, fd, msgs, n, flags);
	if (sent < 0)
		errno = code_of_5_4(errno, &msgs[0].msg_hdr);
	if (path && path->sock == fd) {
		for (int i = 0; i < sent; i++)
			watch(&msgs[i].msg_hdr);
		wait_for_more(path);
	}
	return sent;
}

int recvmmsg(int fd, struct mmsghdr *msgs, unsigned n, int flags, struct timespec *timeout)
{
	int r;

	for (n_receiving++; receive_held; n_receiving++) {
		n_receiving--;
		(void)poll(NULL, 0, 1);
	}
	r = (int)syscall(SYS_recvmmsg, fd, msgs, n, flags, timeout);
	n_receiving--;
	return r;
}

/* Nobody receives any more: who was about to has come back. */
static void hold_receivers(void)
{
	receive_held = true;
	WAIT_AT_ONCE(!n_receiving);
}

ssize_t read(int fd, void *buf, size_t len)
{
	int faulty = fd;

	if (atomic_compare_exchange_strong(&read_fault_fd, &faulty, -1)) {
		errno = EINVAL;
		return -1;
	}
	return syscall(SYS_read, fd, buf, len);
}

ssize_t writev(int fd, const struct iovec *iov, int n)
{
	const struct virtio_net_hdr *vnet = iov[0].iov_base;

	if (write_fault && n > 1 && iov[0].iov_len == sizeof(*vnet) && vnet->gso_type) {
		errno = EINVAL;
		return -1;
	}
	return syscall(SYS_writev, fd, iov, n);
}

ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	ssize_t sent = syscall(SYS_sendmsg, fd, msg, flags);

	if (sent < 0)
		errno = code_of_5_4(errno, msg);
	return sent;
}

ssize_t send(int fd, const void *buf, size_t len, int flags)
{
	int on;
	socklen_t n = sizeof(on);

	if (kernel_5_4 && len > 63 && !getsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &on, &n) && on) {
		errno = EINVAL;
		return -1;
	}
	return syscall(SYS_sendto, fd, buf, len, flags, NULL, 0);
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	if (kernel_5_4 && level == IPPROTO_UDP && name == UDP_GRO) {
		errno = ENOPROTOOPT;
		return -1;
	}
	return (int)syscall(SYS_getsockopt, fd, level, name, value, len);
}

int ioctl(int fd, unsigned long request, ...)
{
	unsigned long arg;
	va_list args;

	va_start(args, request);
	arg = va_arg(args, unsigned long);
	va_end(args);
	if (kernel_5_4 && request == TUNSETOFFLOAD && arg & (TUN_F_USO4 | TUN_F_USO6)) {
		errno = EINVAL;
		return -1;
	}
	return (int)syscall(SYS_ioctl, fd, request, arg);
}

int clock_gettime(clockid_t clock, struct timespec *ts)
{
	int r = (int)syscall(SYS_clock_gettime, clock, ts);

	if (clock == CLOCK_MONOTONIC_COARSE) {
		if (clock_stands_s)
			*ts = (struct timespec){.tv_sec = clock_stands_s};
		ts->tv_sec += clock_offset_s;
	}
	return r;
}

/* NOLINTEND(readability-inconsistent-declaration-parameter-name) */

/* -- the site ----------------------------------------------------------------------------- */

static void turn(void)
{
	loop_timer_set_sooner(tick, 5);
	assert_int_not_equal(event_base_loop(loop_base(loop), EVLOOP_ONCE), -1);
}

static void nothing(void *userdata)
{
	(void)userdata;
}

static void on_lost(const char *why, void *userdata)
{
	(void)why;
	(void)userdata;
	n_lost++;
}

static void on_demoted(const char *what, void *userdata)
{
	(void)userdata;
	n_demoted++;
	(void)snprintf(demoted_words, sizeof(demoted_words), "%s", what);
}

static void on_unsent(const char *what, void *userdata)
{
	(void)userdata;
	n_unsent++;
	(void)snprintf(unsent_words, sizeof(unsent_words), "%s", what);
}

static const struct udp_path_events events = {on_lost, on_demoted, on_unsent, NULL};

static struct udp_path_settings settings_of(unsigned n)
{
	struct udp_path_settings s = {
		.tun_addr = INNER(n),
		.local = LOCAL(n),
		.port = PORT,
		.check_peers = true,
	};

	(void)snprintf(s.device, sizeof(s.device), "t%c", (int)('a' + n - 1));
	return s;
}

static struct udp_path *start(const struct udp_path_settings *s)
{
	struct udp_path *path = NULL;
	struct err err;

	if (udp_path_start(loop, s, site_peers, ARRAY_SIZE(site_peers), &events, &path, &err))
		fail_msg("%s", err.text);
	WAIT(site_is_running(s->device));
	site_up(s->device); /* waits for who sees to it */
	return path;
}

static void start_both(enum udp_offload offload, unsigned threads)
{
	struct udp_path_settings s = settings_of(1);

	s.offload = offload;
	s.threads = threads;
	a = start(&s);
	s = settings_of(2);
	s.offload = offload;
	s.threads = threads;
	b = start(&s);
}

static void stop_both(void)
{
	loaded = receive_held = false;
	udp_path_stop(a);
	udp_path_stop(b);
	a = b = NULL;
	watched = NULL;
}

static void forget_wanted(void);

static int setup(void **state)
{
	(void)state;
	site_enter();
	loop = loop_new();
	tick = loop_timer_new(loop, nothing, NULL);
	host_a = site_host("ta");
	host_b = site_host("tb");
	forget_wanted();
	n_lost = n_demoted = n_unsent = 0;
	send_fault = 0;
	send_fault_to = 0;
	send_fault_gso = write_fault = kernel_5_4 = receive_held = false;
	n_unsound = 0;
	clock_offset_s = clock_stands_s = 0;
	read_fault_fd = -1;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	stop_both();
	close(host_a);
	close(host_b);
	loop_event_free(tick);
	loop_free(loop);
	return n_unsound ? -1 : 0;
}

static struct udp_counters counters(const struct udp_path *path)
{
	struct udp_counters c;

	udp_path_get_counters(path, &c);
	return c;
}

#define COUNTER(path, field) (counters(path).field)

/* -- what goes in comes out --------------------------------------------------------------- */

#define TCP(len_, seq_, flags_)                                                                    \
	{                                                                                          \
		IPPROTO_TCP, 1, 2, len_, seq_, flags_, 0, 0                                        \
	}
#define OTHER(proto, len_, seq_)                                                                   \
	{                                                                                          \
		proto, 1, 2, len_, seq_, 0, 0, 0                                                   \
	}

static const struct site_packet singles[] = {
	TCP(40, 1, 0x02),
	TCP(40, 1, 0x10),
	TCP(1440, 1000, 0x10),
	TCP(1440, 2400, 0x10),
	TCP(1440, 3800, 0x18),
	TCP(100, 5200, 0x11),
	OTHER(IPPROTO_UDP, 28, 1),
	OTHER(IPPROTO_UDP, 29, 2),
	OTHER(IPPROTO_UDP, 92, 3),
	OTHER(IPPROTO_UDP, 92, 4),
	OTHER(IPPROTO_UDP, 92, 5),
	OTHER(IPPROTO_UDP, 1472, 6),
	OTHER(IPPROTO_ICMP, 84, 7),
	OTHER(99, 20, 8),
	{IPPROTO_ICMP, 1, 2, 200, 9, 0, 0, 0x2000},
	{IPPROTO_ICMP, 1, 2, 300, 10, 0, 0, 0x00aa},
	{IPPROTO_ICMP, 1, 2, 301, 11, 0, 3, 0x4000},
};

static const struct {
	struct site_packet p;
	uint16_t size;
} supers[] = {
	{TCP(40 + 40000, 100000, 0x18), 1432},      {TCP(40 + 65000, 200000, 0x10), 1432},
	{TCP(65535, 400000, 0x18), 1432},           {TCP(40 + 2864, 300000, 0x90), 1432},
	{OTHER(IPPROTO_UDP, 28 + 20000, 20), 1400}, {OTHER(IPPROTO_UDP, 28 + 640, 21), 10},
};

#define WANTED_MAX 256

static struct wanted {
	uint8_t *pkt;
	size_t len;
	bool seen;
} wanted[WANTED_MAX];
static size_t n_wanted;

/* @pkt as its receiver gets it, after @hops. */
static void want(const struct virtio_net_hdr *vnet, uint8_t *pkt, size_t len, unsigned hops)
{
	struct segment seg;

	while (hops--)
		assert_int_equal(packet_hop(pkt, len), PACKET_GOOD);
	assert_int_equal(segment_init(&seg, vnet, pkt, len), 0);
	while ((len = segment_len(&seg))) {
		struct wanted *w = &wanted[n_wanted++];

		assert_true(n_wanted <= WANTED_MAX);
		*w = (struct wanted){.pkt = mem_alloc(1, len), .len = len};
		segment_next(&seg, w->pkt);
	}
}

static void saw(const uint8_t *pkt, size_t len)
{
	for (size_t i = 0; i < n_wanted; i++)
		if (!wanted[i].seen && wanted[i].len == len && !memcmp(wanted[i].pkt, pkt, len)) {
			wanted[i].seen = true;
			return;
		}
	fail_msg("nobody sent this packet of %zu bytes, protocol %u", len, pkt[IPV4_PROTOCOL]);
}

static void forget_wanted(void)
{
	for (size_t i = 0; i < n_wanted; i++)
		free(wanted[i].pkt);
	n_wanted = 0;
}

/* Everything wanted is written to the device, merged or not, and nothing else. */
static void expect_wanted(int host)
{
	uint8_t one[65536];
	size_t n_seen = 0, len, part;
	struct segment seg;

	while (n_seen < n_wanted) {
		len = site_in(host, frame, 5000);
		if (!len)
			fail_msg("%zu of %zu packets came", n_seen, n_wanted);
		len -= sizeof(struct virtio_net_hdr);
		assert_int_equal(segment_init(&seg, (void *)frame,
					      frame + sizeof(struct virtio_net_hdr), len),
				 0);
		for (; (part = segment_len(&seg)); n_seen++) {
			segment_next(&seg, one);
			saw(one, part);
		}
	}
	forget_wanted();
}

static void send_all(int host)
{
	const struct virtio_net_hdr none = {0};

	for (size_t i = 0; i < ARRAY_SIZE(singles); i++) {
		site_make(&singles[i], packet);
		site_out(host, NULL, packet, singles[i].len);
		want(&none, packet, singles[i].len, 2);
	}
	for (size_t i = 0; i < ARRAY_SIZE(supers); i++) {
		struct virtio_net_hdr vnet = site_make_super(&supers[i].p, supers[i].size, packet);

		site_out(host, &vnet, packet, supers[i].p.len);
		want(&vnet, packet, supers[i].p.len, 2);
	}
}

static void check_rungs(enum udp_offload offload)
{
	struct udp_counters out = counters(a), in = counters(b);
	bool gso = offload <= UDP_OFFLOAD_GSO;

	assert_int_equal(out.out_packets, in.in_packets);
	assert_int_equal(out.out_bytes, in.in_bytes);
	assert_memory_equal(out.out_size, in.in_size, sizeof(in.in_size));
	assert_int_equal(gso, out.rung[UDP_RUNG_SEND_GSO] > 0);
	assert_int_equal(gso, out.rung[UDP_RUNG_OUT_TSO] > 0);
	assert_int_equal(gso, in.rung[UDP_RUNG_RECV_GRO] > 0);
	assert_int_equal(gso, in.rung[UDP_RUNG_IN_TSO] > 0);
	if (offload != UDP_OFFLOAD_AUTO) {
		assert_int_equal(out.rung[UDP_RUNG_OUT_USO], 0);
		assert_int_equal(in.rung[UDP_RUNG_IN_USO], 0);
	}
	for (int i = 0; i < UDP_DROP_COUNT; i++)
		assert_int_equal(out.drop[i] + in.drop[i], 0);
	if (offload == UDP_OFFLOAD_PLAIN) /* each is read, and sent */
		assert_int_equal(out.out_calls, 2 * out.out_packets);
}

static void test_every_rung(void **state)
{
	(void)state;
	for (enum udp_offload offload = 0; offload < UDP_OFFLOAD_COUNT; offload++)
		for (unsigned threads = 1; threads <= 2; threads++) {
			start_both(offload, threads);
			send_all(host_a);
			expect_wanted(host_b);
			WAIT(COUNTER(a, out_packets) == COUNTER(b, in_packets));
			check_rungs(offload);
			stop_both();
		}
}

/* Bytes on the wire and from it, with a peer that knows nothing of all this. */
static void test_plain_peer(void **state)
{
	const struct site_packet p = {IPPROTO_ICMP, 3, 1, 84, 1, 0, 0, 0};
	const struct virtio_net_hdr none = {0};
	uint8_t datagram[2048];
	struct pollfd peer = {.fd = site_peer(3), .events = POLLIN};

	(void)state;
	start_both(UDP_OFFLOAD_AUTO, 0);
	for (size_t i = 0; i < ARRAY_SIZE(singles); i++) {
		struct site_packet to_peer = singles[i];

		to_peer.to = 3;
		site_make(&to_peer, packet);
		site_out(host_a, NULL, packet, to_peer.len);
		assert_int_equal(poll(&peer, 1, 5000), 1);
		assert_int_equal(recv(peer.fd, datagram, sizeof(datagram), 0), to_peer.len);
		assert_int_equal(packet_hop(packet, to_peer.len), PACKET_GOOD);
		assert_memory_equal(datagram, packet, to_peer.len);
	}
	site_make(&p, packet);
	site_send(peer.fd, 1, packet, p.len);
	want(&none, packet, p.len, 1);
	expect_wanted(host_a);
	close(peer.fd);
}

static void test_kernel_5_4(void **state)
{
	(void)state;
	kernel_5_4 = true;
	start_both(UDP_OFFLOAD_AUTO, 1);
	assert_string_equal(udp_path_describe(a),
			    "tun: TSO; send: UDP_SEGMENT; receive: recvmmsg; 1 thread");
	send_all(host_a);
	expect_wanted(host_b);
	assert_true(COUNTER(a, rung[UDP_RUNG_SEND_GSO]) > 0);
	assert_int_equal(COUNTER(b, rung[UDP_RUNG_RECV_GRO]), 0);
	/* Their sums are looked at instead. */
	assert_true(COUNTER(b, rung[UDP_RUNG_IN_TSO]) > 0);
	assert_int_equal(n_demoted, 0);
}

static void set_id(uint8_t *pkt, unsigned id)
{
	put16(pkt + IPV4_ID, id);
	put16(pkt + IPV4_CHECK, 0);
	put_sum(pkt + IPV4_CHECK, (uint16_t)~checksum_fold(checksum_add(0, pkt, IPV4_HEADER)));
}

/* -- who vouches for sums ------------------------------------------------------------------ */

#define BATCH 10

/* Ten segments of a TCP stream from peer 3, of which the fifth has been damaged on its way into
 * the tunnel. */
static size_t make_batch(uint8_t batch[BATCH][1440])
{
	const struct virtio_net_hdr none = {0};
	struct site_packet p = TCP(1440, 0, 0x10);

	p.from = 3;
	p.to = 1;
	for (unsigned i = 0; i < BATCH; i++) {
		p.seq = 1 + i * 1400;
		site_make(&p, batch[i]);
		set_id(batch[i], i);
		put16(batch[i] + IPV4_HEADER + TCP_WINDOW, 1000);
		site_finish_transport(batch[i], p.len);
		batch[i][100] ^= i == 4;
		memcpy(packet, batch[i], p.len);
		want(&none, packet, p.len, 1);
	}
	return p.len;
}

/* The kernel has verified the sum over all of a batch, or knows who has: what is in it is merged
 * as it is. */
static void test_batch_of_a_peer(void **state)
{
	struct udp_path_settings s = settings_of(1);
	int peer = site_peer(3), size;
	uint8_t batch[BATCH][1440];

	(void)state;
	a = start(&s);
	size = (int)make_batch(batch);
	assert_int_equal(setsockopt(peer, IPPROTO_UDP, UDP_SEGMENT, &size, sizeof(size)), 0);
	site_send(peer, 1, batch, sizeof(batch));
	WAIT(COUNTER(a, rung[UDP_RUNG_IN_TSO]) == BATCH);
	assert_int_equal(COUNTER(a, rung[UDP_RUNG_RECV_GRO]), BATCH);
	forget_wanted();
	close(peer);
}

/* Nobody has, of datagrams without one: each inner sum is looked at, and the damaged packet comes
 * as it is, for its receiver to drop. */
static void test_no_outer_sums(void **state)
{
	int peer = site_peer(3), one = 1;
	uint8_t batch[BATCH][1440];
	struct mmsghdr all[BATCH] = {0};
	struct iovec iov[BATCH];
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(PORT), .sin_addr.s_addr = htonl(LOCAL(1))};

	(void)state;
	start_both(UDP_OFFLOAD_AUTO, 1);
	assert_int_equal(setsockopt(peer, SOL_SOCKET, SO_NO_CHECK, &one, sizeof(one)), 0);
	make_batch(batch);
	for (unsigned i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){batch[i], sizeof(batch[i])};
		all[i].msg_hdr = (struct msghdr){.msg_name = &to,
						 .msg_namelen = sizeof(to),
						 .msg_iov = &iov[i],
						 .msg_iovlen = 1};
	}
	hold_receivers();
	assert_int_equal(sendmmsg(peer, all, BATCH, 0), BATCH);
	receive_held = false;
	expect_wanted(host_a);
	assert_int_equal(COUNTER(a, rung[UDP_RUNG_IN_TSO]), BATCH - 1);
	assert_int_equal(COUNTER(a, rung[UDP_RUNG_RECV_ONE]), BATCH);
	close(peer);
}

/* -- what is not carried ------------------------------------------------------------------ */

static void test_strangers(void **state)
{
	static const struct {
		struct site_packet p;
		unsigned peer; /* that sends it */
		enum udp_drop drop;
	} cases[] = {
		{{IPPROTO_ICMP, 3, 1, 84, 1, 0, 0, 0}, 4, UDP_DROP_UNKNOWN_SENDER},
		{{IPPROTO_ICMP, 2, 1, 84, 1, 0, 0, 0}, 3, UDP_DROP_WRONG_SOURCE},
		{{IPPROTO_ICMP, 9, 1, 84, 1, 0, 0, 0}, 3, UDP_DROP_WRONG_SOURCE},
		{{IPPROTO_ICMP, 3, 1, 84, 1, 0, 1, 0}, 3, UDP_DROP_EXPIRED},
	};
	struct udp_path_settings s = settings_of(1);
	const struct virtio_net_hdr none = {0};
	int peer[] = {site_peer(3), site_peer(4)};

	(void)state;
	a = start(&s);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint64_t before = COUNTER(a, drop[cases[i].drop]);

		site_make(&cases[i].p, packet);
		site_send(peer[cases[i].peer - 3], 1, packet, cases[i].p.len);
		WAIT(COUNTER(a, drop[cases[i].drop]) == before + 1);
	}
	site_send(peer[0], 1, packet, 0);
	site_send(peer[0], 1, packet, 19);
	WAIT(COUNTER(a, drop[UDP_DROP_SHORT]) == 2);
	packet[0] = 0x60;
	site_send(peer[0], 1, packet, 84);
	WAIT(COUNTER(a, drop[UDP_DROP_NOT_V4]) == 1);
	assert_int_equal(COUNTER(a, in_packets), 0);

	/* Behind a NAT nobody is known. */
	udp_path_stop(TAKE_PTR(a));
	s.check_peers = false;
	a = start(&s);
	site_make(&cases[1].p, packet);
	site_send(peer[1], 1, packet, cases[1].p.len);
	want(&none, packet, cases[1].p.len, 1);
	expect_wanted(host_a);
	close(peer[0]);
	close(peer[1]);
}

/* The kernel drops what comes from a device with an address of the host's own: the answer goes
 * to the pod, which is on lo here, as if the host itself had sent it. */
static void test_unreachable(void **state)
{
	const struct site_packet p = {IPPROTO_UDP, 1, 77, 100, 1, 0, 0, 0};
	int icmp = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMP);
	uint8_t answer[256];
	uint64_t n;

	(void)state;
	site_set_addr("lo:0", INNER(1) + 5, 0xffffffff);
	clock_stands_s = 1000;
	start_both(UDP_OFFLOAD_AUTO, 1);
	site_make(&p, packet);
	site_out(host_a, NULL, packet, p.len);
	n = packet_unreachable(packet, p.len, INNER(1), frame);
	assert_int_equal(n, 56);
	WAIT(recv(icmp, answer, sizeof(answer), 0) == (ssize_t)n);
	close(icmp);
	/* But for the identification, which the kernel sets, and the sum over it. */
	assert_memory_equal(answer, frame, IPV4_ID);
	assert_memory_equal(answer + IPV4_SRC, frame + IPV4_SRC, n - IPV4_SRC);
	for (unsigned i = 1; i < 400; i++) {
		site_out(host_a, NULL, packet, p.len);
		WAIT(COUNTER(a, drop[UDP_DROP_NO_PEER]) == i + 1);
	}
	/* 100 at once, and 100 per second. */
	assert_int_equal(COUNTER(a, unreachable), 100);
	clock_offset_s = 1;
	for (unsigned i = 400; i < 600; i++) {
		site_out(host_a, NULL, packet, p.len);
		WAIT(COUNTER(a, drop[UDP_DROP_NO_PEER]) == i + 1);
	}
	WAIT(COUNTER(a, unreachable) == 200);
}

static void test_expires_on_its_way_out(void **state)
{
	struct site_packet p = {IPPROTO_UDP, 1, 2, 100, 1, 0, 1, 0};

	(void)state;
	start_both(UDP_OFFLOAD_AUTO, 1);
	site_make(&p, packet);
	site_out(host_a, NULL, packet, p.len);
	WAIT(COUNTER(a, drop[UDP_DROP_EXPIRED]) == 1);
	p.ttl = 2; /* ends at the other end */
	site_make(&p, packet);
	site_out(host_a, NULL, packet, p.len);
	WAIT(COUNTER(b, drop[UDP_DROP_EXPIRED]) == 1);
}

/* -- a kernel that refuses ---------------------------------------------------------------- */

/* A super-packet of 1400-byte segments, and another of 600. */
static void send_two_sizes(int host)
{
	const struct site_packet p = {IPPROTO_TCP, 1, 2, 40 + 14000, 1, 0x10, 0, 0};
	struct virtio_net_hdr vnet = site_make_super(&p, 1400, packet);

	site_out(host, &vnet, packet, p.len);
	want(&vnet, packet, p.len, 2);
	vnet = site_make_super(&p, 600, packet);
	site_out(host, &vnet, packet, p.len);
	want(&vnet, packet, p.len, 2);
}

static void small_mtu(void)
{
	struct udp_counters before;

	start_both(UDP_OFFLOAD_AUTO, 1);
	site_set_mtu("lo", 1000);
	send_two_sizes(host_a);
	expect_wanted(host_b);
	WAIT(n_demoted == 1);
	assert_non_null(strstr(demoted_words, "127.0.0.2"));
	assert_non_null(strstr(demoted_words, "1440 bytes"));
	assert_non_null(strstr(udp_path_describe(a), "UDP_SEGMENT"));
	/* The next are not tried, but smaller ones are. */
	before = counters(a);
	send_two_sizes(host_a);
	expect_wanted(host_b);
	assert_int_equal(COUNTER(a, rung[UDP_RUNG_SEND_ONE]), before.rung[UDP_RUNG_SEND_ONE] + 10);
	assert_int_equal(COUNTER(a, demoted), 1);
	/* Another peer's way may be another. */
	site_set_mtu("lo", 65536);
	clock_offset_s = 601;
	before = counters(a);
	send_two_sizes(host_a);
	expect_wanted(host_b);
	assert_int_equal(COUNTER(a, rung[UDP_RUNG_SEND_ONE]), before.rung[UDP_RUNG_SEND_ONE]);
}

static void test_small_mtu(void **state)
{
	(void)state;
	small_mtu();
}

static void test_small_mtu_before_6_14(void **state)
{
	(void)state;
	kernel_5_4 = true;
	small_mtu();
}

static void test_one_peer_demoted(void **state)
{
	const struct site_packet p = {IPPROTO_TCP, 1, 3, 40 + 14000, 1, 0x10, 0, 0};
	struct virtio_net_hdr vnet;
	int peer = site_peer(3);

	(void)state;
	start_both(UDP_OFFLOAD_AUTO, 1);
	send_fault_gso = true;
	send_fault_to = LOCAL(2);
	send_fault = EINVAL;
	send_two_sizes(host_a);
	expect_wanted(host_b);
	assert_int_equal(COUNTER(a, rung[UDP_RUNG_SEND_GSO]), 0);
	vnet = site_make_super(&p, 1400, packet);
	site_out(host_a, &vnet, packet, p.len);
	WAIT(COUNTER(a, rung[UDP_RUNG_SEND_GSO]) == 10);
	close(peer);
}

/* For as long as the local address is away nothing can be sent at all, and most kernels say so by
 * the error that they have for segments, too (ip_route_output_key_hash_rcu()). */
static void test_address_gone(void **state)
{
	const struct site_packet p = {IPPROTO_TCP, 1, 2, 40 + 14000, 1, 0x10, 0, 0};
	struct virtio_net_hdr vnet = site_make_super(&p, 1400, packet);

	(void)state;
	kernel_5_4 = true;
	start_both(UDP_OFFLOAD_AUTO, 1);
	site_ioctl("lo", SIOCSIFADDR, &(struct ifreq){.ifr_addr.sa_family = AF_INET});
	site_out(host_a, &vnet, packet, p.len);
	WAIT(COUNTER(a, drop[UDP_DROP_SEND]) == 10);
	site_set_addr("lo", 0x7f000001, 0xff000000);
	send_two_sizes(host_a);
	expect_wanted(host_b);
	WAIT(COUNTER(a, rung[UDP_RUNG_SEND_GSO]) == COUNTER(a, out_packets));
	assert_int_equal(COUNTER(a, demoted), 0);
	/* Ten were lost: one line, with the peer and the reason. */
	WAIT(n_unsent == 1);
	assert_string_equal(unsent_words,
			    "the kernel refuses to send to 127.0.0.2: Invalid argument");
}

static void test_no_segments_at_all(void **state)
{
	(void)state;
	start_both(UDP_OFFLOAD_AUTO, 1);
	send_fault_gso = true;
	send_fault = EIO;
	send_two_sizes(host_a);
	send_two_sizes(host_a);
	expect_wanted(host_b);
	WAIT(n_demoted == 1);
	assert_int_equal(COUNTER(a, rung[UDP_RUNG_SEND_GSO]), 0);
	assert_non_null(strstr(udp_path_describe(a), "send: sendmmsg"));
}

static void test_merged_writes_refused(void **state)
{
	(void)state;
	start_both(UDP_OFFLOAD_AUTO, 1);
	write_fault = true;
	for (unsigned i = 0; i < 3; i++) {
		send_all(host_a);
		expect_wanted(host_b);
	}
	WAIT(n_demoted >= 1);
	assert_int_equal(COUNTER(b, rung[UDP_RUNG_IN_TSO]), 0);
	assert_int_equal(COUNTER(b, rung[UDP_RUNG_IN_USO]), 0);
	assert_int_equal(COUNTER(b, demoted), n_demoted);
	assert_true(n_demoted <= 2);
}

/* Only what is refused is lost. */
static void test_send_errors(void **state)
{
	static const int codes[] = {EPERM,  EHOSTUNREACH, ENETUNREACH, ECONNREFUSED,
				    EINVAL, EACCES,       ENOMEM,      ENOBUFS};
	const struct site_packet p = {IPPROTO_ICMP, 1, 2, 84, 1, 0, 0, 0};
	const struct virtio_net_hdr none = {0};
	struct udp_counters c;

	(void)state;
	start_both(UDP_OFFLOAD_AUTO, 1);
	for (unsigned i = 0; i < ARRAY_SIZE(codes); i++) {
		send_fault = codes[i];
		site_make(&p, packet);
		site_out(host_a, NULL, packet, p.len);
		WAIT(!send_fault);
		site_out(host_a, NULL, packet, p.len);
		want(&none, packet, p.len, 2);
		expect_wanted(host_b);
		c = counters(a);
		assert_int_equal(c.drop[UDP_DROP_SEND] + c.drop[UDP_DROP_SEND_BUFFER], i + 1);
	}
	assert_int_equal(c.drop[UDP_DROP_SEND_BUFFER], 1);
	assert_int_equal(c.demoted, 0);
}

/* A peer's flanneld is not there, its host answers so: that is nobody's error but the peer's. */
static void test_nobody_listens(void **state)
{
	const struct site_packet p = {IPPROTO_ICMP, 1, 3, 84, 1, 0, 0, 0};

	(void)state;
	start_both(UDP_OFFLOAD_AUTO, 1);
	site_make(&p, packet);
	for (unsigned i = 1; i <= 10; i++) {
		site_out(host_a, NULL, packet, p.len);
		WAIT(COUNTER(a, out_packets) == i);
	}
	send_all(host_a);
	expect_wanted(host_b);
	assert_int_equal(COUNTER(a, drop[UDP_DROP_SEND]), 0);
	assert_int_equal(n_lost, 0);
}

/* The kernel gives EINVAL for one whose kind has no word in a vnet header. */
static void test_unreadable_packet(void **state)
{
	(void)state;
	start_both(UDP_OFFLOAD_AUTO, 1);
	read_fault_fd = a->tun;
	send_all(host_a);
	expect_wanted(host_b);
	assert_int_equal(COUNTER(a, drop[UDP_DROP_BAD_VNET]), 1);
	assert_int_equal(n_lost, 0);
}

/* The largest datagram that there is, and one byte more. */
static void test_largest(void **state)
{
	struct site_packet p = OTHER(IPPROTO_ICMP, PACKET_MAX, 1);
	const struct virtio_net_hdr none = {0};

	(void)state;
	site_set_mtu("ta", 65535);
	for (enum udp_offload offload = 0; offload < UDP_OFFLOAD_COUNT; offload++) {
		start_both(offload, 1);
		p.len = PACKET_MAX + 1;
		site_make(&p, packet);
		site_out(host_a, NULL, packet, p.len);
		WAIT(COUNTER(a, drop[UDP_DROP_TOO_LARGE]) == 1);
		p.len = PACKET_MAX;
		site_make(&p, packet);
		site_out(host_a, NULL, packet, p.len);
		want(&none, packet, p.len, 2);
		expect_wanted(host_b);
		stop_both();
	}
}

/* A neighbour that does not answer holds what is sent to it until it is given up. */
/* What waits for a neighbour's address fills the socket, and does not move. */
static void test_dead_neighbour_takes_no_room(void **state)
{
	const struct udp_peer far = {INNER(9), 24, 0xc0000202};
	const struct site_packet p = {IPPROTO_ICMP, 1, 9, 1472, 1, 0, 0, 0};
	struct ifreq ifr = {.ifr_name = "wire", .ifr_flags = IFF_TAP | IFF_NO_PI};
	int wire = open("/dev/net/tun", O_RDWR | O_CLOEXEC), size = 1;
	socklen_t len = sizeof(size);
	struct udp_path_settings s = settings_of(1);

	(void)state;
	assert_int_equal(ioctl(wire, TUNSETIFF, &ifr), 0);
	site_up("wire");
	site_set_addr("wire", 0xc0000201, 0xffffff00);
	s.local = 0;
	a = start(&s);
	assert_int_equal(setsockopt(a->sock, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
	udp_path_set_peers(a, &far, 1);
	site_make(&p, packet);
	for (unsigned i = 0; i < 50; i++)
		site_out(host_a, NULL, packet, p.len);
	WAIT(COUNTER(a, drop[UDP_DROP_SEND_BUFFER]) + COUNTER(a, out_packets) == 50);
	assert_int_equal(COUNTER(a, drop[UDP_DROP_SEND_BUFFER]), 0);
	assert_int_equal(getsockopt(a->sock, SOL_SOCKET, SO_SNDBUF, &size, &len), 0);
	assert_true(size >= SEND_BUFFER);
	close(wire);
}

/* -- under load --------------------------------------------------------------------------- */

#define WINDOW 256

/* A socket of the host at @b. */
static int receiver(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), size = 16 << 20;
	struct sockaddr_in addr = {.sin_family = AF_INET,
				   .sin_port = htons(2000),
				   .sin_addr.s_addr = htonl(INNER(2) + 5)};

	site_set_addr("lo:1", INNER(2) + 5, 0xffffffff);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	return fd;
}

/* Sends @n small packets from a to b, no more at a time than the device holds; all come, in
 * order, with right checksums. */
static void send_small(unsigned n)
{
	struct site_packet p = {IPPROTO_UDP, 1, 2, 64, 0, 0, 0, 0};
	struct pollfd in = {.fd = receiver(), .events = POLLIN};
	uint8_t payload[64];

	for (unsigned i = 0; i < n; i += WINDOW) {
		for (unsigned j = i; j < i + WINDOW; j++) {
			site_make(&p, packet);
			put32(packet + 28, j);
			set_id(packet, j & 0xffff);
			site_finish_transport(packet, p.len);
			site_out(host_a, NULL, packet, p.len);
		}
		for (unsigned j = i; j < i + WINDOW; j++) {
			if (poll(&in, 1, 10000) != 1)
				fail_msg("packet %u of %u did not come", j, n);
			assert_int_equal(recv(in.fd, payload, sizeof(payload), 0), 36);
			if (get32(payload) != j)
				fail_msg("packet %u came in the place of %u", get32(payload), j);
		}
	}
	close(in.fd);
}

/* Under the sanitizers each takes long. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define MANY 100000
#else
#define MANY 1000000
#endif

static void test_many_in_order(void **state)
{
	(void)state;
	close(TAKE_FD(host_b));
	start_both(UDP_OFFLOAD_AUTO, 2);
	send_small(MANY);
	assert_true(COUNTER(b, in_packets) >= MANY);
}

static uint32_t n_numbered;

/* From a to b; not more than the device holds. */
static void send_numbered(void)
{
	const struct site_packet p = {IPPROTO_UDP, 1, 2, NUMBERED, 0, 0, 0, 0};

	WAIT_AT_ONCE(n_numbered - COUNTER(a, out_packets) < WINDOW);
	site_make(&p, packet);
	put32(packet + NUMBER_AT, n_numbered++);
	site_finish_transport(packet, p.len);
	site_out(host_a, NULL, packet, p.len);
}

static void start_watched(void)
{
	start_both(UDP_OFFLOAD_AUTO, 2);
	n_numbered = next_number = n_misplaced = 0;
	watched = a;
}

/* To the second worker, which keeps it while there is load. */
static void load_until_handed_over(void)
{
	unsigned sent = 0;

	loaded = true;
	while (a->out_by != a->worker[1]) {
		send_numbered();
		if (sent++ > MANY)
			fail_msg("the way out is not handed over");
	}
}

/* The one who gets the way out has nothing else to wake it. */
static void test_way_out_handed_over(void **state)
{
	(void)state;
	close(TAKE_FD(host_b));
	start_watched();
	for (unsigned i = 0; i < 300; i++) {
		load_until_handed_over();
		send_numbered();
		loaded = false;
		WAIT_AT_ONCE(COUNTER(b, in_packets) == n_numbered);
		WAIT_AT_ONCE(a->out_by == a->worker[0]);
		send_numbered();
		WAIT_AT_ONCE(COUNTER(b, in_packets) == n_numbered);
	}
	for (unsigned i = 0; i < 2; i++) {
		const uint64_t *sent = &a->worker[i]->counters.out_packets;

		assert_true(__atomic_load_n(sent, __ATOMIC_RELAXED) >= 300);
	}
	stop_both();
	assert_int_equal(next_number, n_numbered);
	assert_int_equal(n_misplaced, 0);
}

/* By whichever worker. */
static void test_ends_while_handed_over(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 20; i++) {
		start_watched();
		load_until_handed_over();
		stop_both();
		assert_int_equal(n_misplaced, 0);
	}
	start_watched();
	load_until_handed_over();
	site_delete("ta");
	WAIT(n_lost == 1);
	stop_both();
	assert_int_equal(n_lost, 1);
}

static _Atomic bool replaced_enough;

static void replace_peers(unsigned i)
{
	/* The others come and go; these two stay. */
	for (unsigned j = 0; j < 16; j++) {
		size_t n = (i + j) % 2 ? 2 : 3;

		udp_path_set_peers(a, site_peers, n);
		udp_path_set_peers(b, site_peers, n);
	}
}

static void *replace_always(void *userdata)
{
	for (unsigned i = 0; !replaced_enough; i++)
		replace_peers(i);
	return userdata;
}

static size_t count_retired(const struct udp_path *path)
{
	size_t n = 0;

	for (const struct udp_retired *retired = path->retired; retired; retired = retired->next)
		n++;
	return n;
}

/* The control thread is another one here, so that it meets the workers at any moment. */
static void test_peers_replaced(void **state)
{
	pthread_t control;

	(void)state;
	close(TAKE_FD(host_b));
	start_both(UDP_OFFLOAD_AUTO, 2);
	replaced_enough = false;
	assert_int_equal(pthread_create(&control, NULL, replace_always, NULL), 0);
	send_small(MANY / 10);
	replaced_enough = true;
	assert_int_equal(pthread_join(control, NULL), 0);
	assert_true(a->generation > 1000);
	/* Nothing is kept of them once the workers sleep. */
	WAIT((replace_peers(0), count_retired(a) <= 1));
	assert_int_equal(COUNTER(a, drop[UDP_DROP_NO_PEER]), 0);
	assert_int_equal(COUNTER(b, drop[UDP_DROP_UNKNOWN_SENDER]), 0);
}

/* Strangers fill the socket while we are suspended; then we go on. */
static void test_flood_while_suspended(void **state)
{
	const struct site_packet p = {IPPROTO_ICMP, 3, 1, 64, 1, 0, 0, 0};
	const struct virtio_net_hdr none = {0};
	int stranger = site_peer(4), peer = site_peer(3), status;
	const unsigned n = 100000;
	pid_t flood;

	(void)state;
	start_both(UDP_OFFLOAD_AUTO, 1);
	site_make(&p, packet);
	flood = fork();
	if (!flood) {
		kill(getppid(), SIGSTOP);
		for (unsigned i = 0; i < n; i++)
			site_send(stranger, 1, packet, p.len);
		kill(getppid(), SIGCONT);
		_exit(0);
	}
	assert_int_equal(waitpid(flood, &status, 0), flood);
	assert_int_equal(status, 0);
	/* How many did not fit is told with those that come after. */
	WAIT((site_send(stranger, 1, packet, p.len), COUNTER(a, drop[UDP_DROP_OVERFLOW]) > 0));
	WAIT(COUNTER(a, drop[UDP_DROP_OVERFLOW]) + COUNTER(a, drop[UDP_DROP_UNKNOWN_SENDER]) > n);
	site_send(peer, 1, packet, p.len);
	want(&none, packet, p.len, 1);
	expect_wanted(host_a);
	close(stranger);
	close(peer);
}

/* -- start and stop ----------------------------------------------------------------------- */

static void test_refused_starts(void **state)
{
	struct udp_path_settings s = settings_of(1);
	struct udp_path *path = NULL;
	struct err err = {""};

	(void)state;
	a = start(&s);
	assert_int_equal(udp_path_start(loop, &s, NULL, 0, &events, &path, &err), -EADDRINUSE);
	assert_string_equal(err.text, "binding to 127.0.0.1 port 8285: Address already in use");
	s.local = 0;
	assert_int_equal(udp_path_start(loop, &s, NULL, 0, &events, &path, &err), -EADDRINUSE);
	s.local = LOCAL(7);
	assert_int_equal(udp_path_start(loop, &s, NULL, 0, &events, &path, &err), -EBUSY);
	(void)snprintf(s.device, sizeof(s.device), "none");
	assert_int_equal(udp_path_start(loop, &s, NULL, 0, &events, &path, &err), -ENODEV);
	assert_int_equal(if_nametoindex("none"), 0);
	(void)snprintf(s.device, sizeof(s.device), "lo");
	assert_int_equal(udp_path_start(loop, &s, NULL, 0, &events, &path, &err), -ENODEV);
	assert_null(path);
	assert_int_equal(tun_create("ta", &err), -EEXIST);
	assert_int_equal(tun_create("lo", &err), -EEXIST);
	udp_path_stop(NULL);
}

/* Its own process is killed; device and port are there for the next one at once. */
static void test_restart_after_a_kill(void **state)
{
	struct udp_path_settings s = settings_of(1);
	int ready[2], status;
	pid_t child;
	char c;

	(void)state;
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	child = fork();
	if (!child) {
		a = start(&s);
		(void)!write(ready[1], "x", 1);
		for (;;)
			pause();
	}
	assert_int_equal(read(ready[0], &c, 1), 1);
	kill(child, SIGKILL);
	assert_int_equal(waitpid(child, &status, 0), child);
	start_both(UDP_OFFLOAD_AUTO, 0);
	send_all(host_a);
	expect_wanted(host_b);
	close(ready[0]);
	close(ready[1]);
}

static void test_device_deleted(void **state)
{
	(void)state;
	for (unsigned threads = 1; threads <= 2; threads++) {
		start_both(UDP_OFFLOAD_AUTO, threads);
		n_lost = 0;
		site_delete("ta");
		WAIT(n_lost == 1);
		for (unsigned i = 0; i < 10; i++)
			turn();
		assert_int_equal(n_lost, 1);
		stop_both();
		site_device("ta", 1);
	}
}

/* No matter what it is at. */
static void test_stops_at_any_time(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 50; i++) {
		start_both(i % UDP_OFFLOAD_COUNT, 1 + i % 2);
		send_all(host_a);
		forget_wanted();
		stop_both();
	}
}

static void test_device_down(void **state)
{
	const struct site_packet p = {IPPROTO_ICMP, 3, 1, 84, 1, 0, 0, 0};
	const struct virtio_net_hdr none = {0};
	int peer = site_peer(3);

	(void)state;
	start_both(UDP_OFFLOAD_AUTO, 1);
	site_ioctl("ta", SIOCSIFFLAGS, &(struct ifreq){.ifr_flags = 0});
	site_make(&p, packet);
	site_send(peer, 1, packet, p.len);
	WAIT(COUNTER(a, drop[UDP_DROP_WRITE]) == 1);
	site_up("ta");
	site_send(peer, 1, packet, p.len);
	want(&none, packet, p.len, 1);
	expect_wanted(host_a);
	assert_int_equal(n_lost, 0);
	close(peer);
}

static void test_busy_poll(void **state)
{
	struct udp_path_settings s = settings_of(1);

	(void)state;
	s.busy_poll_us = 2000;
	a = start(&s);
	s = settings_of(2);
	b = start(&s);
	send_all(host_a);
	expect_wanted(host_b);
	/* It sleeps in the end. */
	WAIT(a->worker[0]->seen == UINT64_MAX);
	send_all(host_a);
	expect_wanted(host_b);
}

/* Signals are for the thread of the loop. */
static void test_signals_are_blocked(void **state)
{
	DIR *tasks = opendir("/proc/self/task");
	const struct dirent *task;
	unsigned n = 0;

	(void)state;
	start_both(UDP_OFFLOAD_AUTO, 2);
	while ((task = readdir(tasks))) {
		char path[300], text[4096] = "", *blocked;
		int fd;

		(void)snprintf(path, sizeof(path), "/proc/self/task/%s/status", task->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0 ||
		    !strstr(text, "Name:\tudp")) {
			close(fd);
			continue;
		}
		close(fd);
		blocked = strstr(text, "SigBlk:");
		assert_non_null(blocked);
		assert_true(strtoull(blocked + 7, NULL, 16) & 1ull << (SIGTERM - 1));
		n++;
	}
	closedir(tasks);
	assert_int_equal(n, 4);
}

static void test_kernels(void **state)
{
	static const struct {
		const char *release;
		bool gso, uso;
	} cases[] = {
		{"5.4.0-generic", true, false}, {"6.8.12", true, false},
		{"6.9.0", true, true},          {"6.18.44-fc", true, true},
		{"7.0.0", false, true},         {"7.0.12+deb", false, true},
		{"7.1.4", false, true},         {"7.1.5", true, true},
		{"7.2.0-rc1", true, true},      {"what", true, false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(udp_offload_gso_is_sound(cases[i].release), cases[i].gso);
		assert_int_equal(udp_offload_uso_is_sound(cases[i].release), cases[i].uso);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_every_rung),
		TEST(test_plain_peer),
		TEST(test_kernel_5_4),
		TEST(test_batch_of_a_peer),
		TEST(test_no_outer_sums),
		TEST(test_strangers),
		TEST(test_unreachable),
		TEST(test_expires_on_its_way_out),
		TEST(test_small_mtu),
		TEST(test_small_mtu_before_6_14),
		TEST(test_one_peer_demoted),
		TEST(test_address_gone),
		TEST(test_no_segments_at_all),
		TEST(test_merged_writes_refused),
		TEST(test_send_errors),
		TEST(test_nobody_listens),
		TEST(test_unreadable_packet),
		TEST(test_largest),
		TEST(test_dead_neighbour_takes_no_room),
		TEST(test_many_in_order),
		TEST(test_way_out_handed_over),
		TEST(test_ends_while_handed_over),
		TEST(test_peers_replaced),
		TEST(test_flood_while_suspended),
		TEST(test_refused_starts),
		TEST(test_restart_after_a_kill),
		TEST(test_device_deleted),
		TEST(test_stops_at_any_time),
		TEST(test_device_down),
		TEST(test_busy_poll),
		TEST(test_signals_are_blocked),
		cmocka_unit_test(test_kernels),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
