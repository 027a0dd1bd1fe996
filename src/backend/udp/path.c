/* SPDX-License-Identifier: Apache-2.0 */
/* path.c - the data path as the control thread has it: start, stop, peers, counters
 *
 * path_internal.h has the theory of operation.
 */
#include "backend/udp/send.h"
#include "base/mem.h"
#include "kernel/tun.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

/* Bursts of all peers fit while a worker is not scheduled: at 10 Gbit/s, 5 ms. */
#define RECEIVE_BUFFER (7 * 1024 * 1024)

static const char *const drop_names[] = {
	[UDP_DROP_SHORT] = "short",
	[UDP_DROP_NOT_V4] = "not_ipv4",
	[UDP_DROP_EXPIRED] = "ttl_expired",
	[UDP_DROP_NO_PEER] = "no_peer",
	[UDP_DROP_BAD_VNET] = "bad_vnet_header",
	[UDP_DROP_TOO_LARGE] = "too_large",
	[UDP_DROP_SEND] = "send_refused",
	[UDP_DROP_SEND_BUFFER] = "send_buffer_full",
	[UDP_DROP_UNKNOWN_SENDER] = "unknown_sender",
	[UDP_DROP_WRONG_SOURCE] = "wrong_source",
	[UDP_DROP_WRITE] = "write_refused",
	[UDP_DROP_OVERFLOW] = "receive_buffer_full",
};
static_assert(ARRAY_SIZE(drop_names) == UDP_DROP_COUNT, "a name for each");

static const char *const rung_names[] = {
	[UDP_RUNG_OUT_USO] = "out_uso",         [UDP_RUNG_OUT_TSO] = "out_tso",
	[UDP_RUNG_OUT_ONE] = "out_single",      [UDP_RUNG_SEND_GSO] = "send_gso",
	[UDP_RUNG_SEND_ONE] = "send_single",    [UDP_RUNG_RECV_GRO] = "receive_gro",
	[UDP_RUNG_RECV_ONE] = "receive_single", [UDP_RUNG_IN_USO] = "in_uso",
	[UDP_RUNG_IN_TSO] = "in_tso",           [UDP_RUNG_IN_ONE] = "in_single",
};
static_assert(ARRAY_SIZE(rung_names) == UDP_RUNG_COUNT, "a name for each");

const char *udp_drop_name(enum udp_drop drop)
{
	return drop_names[drop];
}

const char *udp_rung_name(enum udp_rung rung)
{
	return rung_names[rung];
}

/* -- telling --------------------------------------------------------------------------- */

static void describe(struct udp_path *path)
{
	const struct udp_able *able = &path->able;
	bool gso = able->segments_max > 1 && !(path->has_left & LEFT_SEND_GSO);

	(void)snprintf(path->description, sizeof(path->description),
		       "tun: %s%s; send: %s; receive: %s; %u thread%s",
		       !able->vnet ? "plain"
		       : able->tso ? "TSO"
				   : "no offload",
		       able->uso ? ", USO" : "",
		       gso          ? "UDP_SEGMENT"
		       : able->many ? "sendmmsg"
				    : "one by one",
		       able->gro    ? "UDP_GRO"
		       : able->many ? "recvmmsg"
				    : "one by one",
		       path->n_workers, path->n_workers == 1 ? "" : "s");
}

const char *udp_path_describe(const struct udp_path *path)
{
	return path->description;
}

static void tell_left(struct udp_path *path)
{
	static const struct {
		enum udp_rung_left rung;
		const char *words;
	} texts[] = {
		{LEFT_SEND_GSO, "the kernel refuses UDP_SEGMENT: datagrams are sent one by one"},
		{LEFT_WRITE_TSO, "the device refuses merged TCP packets: they are written singly"},
		{LEFT_WRITE_USO, "the device refuses merged UDP packets: they are written singly"},
	};
	unsigned left = atomic_exchange(&path->left, 0);

	path->has_left |= left;
	describe(path);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (left & texts[i].rung)
			path->events.demoted(texts[i].words, path->events.userdata);
}

static void tell_refused(struct udp_path *path)
{
	uint64_t refused = atomic_exchange(&path->refused_peer, 0);
	struct in_addr addr = {htonl((uint32_t)(refused >> 16))};
	char text[160], name[INET_ADDRSTRLEN];

	if (!refused)
		return;
	(void)snprintf(text, sizeof(text),
		       "the way to %s takes no datagrams of %u bytes by UDP_SEGMENT: "
		       "sending them one by one, for 10 minutes",
		       inet_ntop(AF_INET, &addr, name, sizeof(name)), (unsigned)(refused & 0xffff));
	path->events.demoted(text, path->events.userdata);
}

static void tell_unsent(struct udp_path *path)
{
	uint64_t unsent = atomic_exchange(&path->unsent, 0);
	struct in_addr addr = {htonl((uint32_t)(unsent >> 16))};
	char text[160], name[INET_ADDRSTRLEN];
	int code = (int)(unsent & 0xffff);

	if (!unsent)
		return;
	(void)snprintf(text, sizeof(text), "the kernel refuses to send to %s: %s%s",
		       inet_ntop(AF_INET, &addr, name, sizeof(name)), strerror(code),
		       code == EPERM ? " (a firewall of this host?)" : "");
	path->events.unsent(text, path->events.userdata);
}

static void on_tell(void *userdata)
{
	struct udp_path *path = userdata;
	const char *lost = path->lost;
	eventfd_t value;

	(void)eventfd_read(path->tell, &value);
	tell_left(path);
	tell_refused(path);
	tell_unsent(path);
	if (!lost || path->has_lost)
		return;
	path->has_lost = true;
	/* The last: they may stop us. */
	path->events.lost(lost, path->events.userdata);
}

/* -- peers ----------------------------------------------------------------------------- */

static uint64_t oldest_seen(const struct udp_path *path)
{
	uint64_t oldest = UINT64_MAX;

	for (unsigned i = 0; i < path->n_workers; i++) {
		uint64_t seen = path->worker[i]->seen;

		if (seen < oldest)
			oldest = seen;
	}
	return oldest;
}

static void free_retired(struct udp_path *path, uint64_t seen)
{
	struct udp_retired *retired;

	while ((retired = path->retired) && retired->generation <= seen) {
		path->retired = retired->next;
		free((void *)(uintptr_t)retired->table);
		free(retired);
	}
}

void udp_path_set_peers(struct udp_path *path, const struct udp_peer *peers, size_t n)
{
	struct udp_retired *retired = mem_alloc(1, sizeof(*retired)), **end = &path->retired;

	retired->table = atomic_exchange(&path->table, table_new(peers, n));
	retired->generation = atomic_fetch_add(&path->generation, 1) + 1;
	while (*end)
		end = &(*end)->next;
	*end = retired;
	free_retired(path, oldest_seen(path));
}

/* -- counters -------------------------------------------------------------------------- */

void udp_path_get_counters(const struct udp_path *path, struct udp_counters *ret_counters)
{
	uint64_t *sum = (uint64_t *)ret_counters;

	memset(ret_counters, 0, sizeof(*ret_counters));
	for (unsigned i = 0; i < path->n_workers; i++) {
		const uint64_t *counter = (const uint64_t *)&path->worker[i]->counters;

		for (size_t j = 0; j < sizeof(*ret_counters) / sizeof(*sum); j++)
			sum[j] += __atomic_load_n(&counter[j], __ATOMIC_RELAXED);
	}
}

/* -- start and stop -------------------------------------------------------------------- */

static void set_buffer(int sock, int force, int option, int size)
{
	if (setsockopt(sock, SOL_SOCKET, force, &size, sizeof(size)))
		(void)setsockopt(sock, SOL_SOCKET, option, &size, sizeof(size));
}

/* Without SO_REUSEADDR: of two sockets of UDP that have it, one gets nothing. The port of
 * one that was killed is free at once. */
static int open_socket(struct udp_path *path, struct err *err)
{
	struct sockaddr_in local = {.sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(path->settings.local),
				    .sin_port = htons(path->settings.port)};
	char name[INET_ADDRSTRLEN];
	int one = 1;

	path->sock = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_UDP);
	if (path->sock < 0)
		return err_sys(err, -errno, "opening a socket");
	set_buffer(path->sock, SO_RCVBUFFORCE, SO_RCVBUF, RECEIVE_BUFFER);
	set_buffer(path->sock, SO_SNDBUFFORCE, SO_SNDBUF, SEND_BUFFER);
	(void)setsockopt(path->sock, SOL_SOCKET, SO_RXQ_OVFL, &one, sizeof(one));
	if (bind(path->sock, (struct sockaddr *)&local, sizeof(local)))
		return err_sys(err, -errno, "binding to %s port %u",
			       inet_ntop(AF_INET, &local.sin_addr, name, sizeof(name)),
			       path->settings.port);
	return 0;
}

static int open_events(struct udp_path *path, struct loop *loop, struct err *err)
{
	path->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	path->tell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (path->wake < 0 || path->tell < 0)
		return err_sys(err, -errno, "eventfd");
	path->on_tell = loop_fd_new(loop, path->tell, on_tell, path);
	return path->on_tell ? 0 : err_set(err, -EMFILE, "no file descriptor for the loop");
}

static unsigned count_cpus(void)
{
	cpu_set_t cpus;

	/* It fails where there are more than fit. */
	return sched_getaffinity(0, sizeof(cpus), &cpus) ? CPU_SETSIZE : (unsigned)CPU_COUNT(&cpus);
}

static int add_worker(struct udp_path *path, struct err *err)
{
	struct udp_worker *w;

	w = aligned_alloc(_Alignof(struct udp_worker), sizeof(*w));
	if (!w)
		abort();
	memset(w, 0, sizeof(*w));
	w->path = path;
	w->seen = UINT64_MAX;
	w->out = path->out;
	w->in = path->n_workers ? NULL : udp_in_new(w);
	w->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	path->worker[path->n_workers++] = w;
	return w->bell < 0 ? err_sys(err, -errno, "eventfd") : 0;
}

static int start_workers(struct udp_path *path, struct err *err)
{
	unsigned n = path->settings.threads;
	int code = 0;

	if (!n)
		n = count_cpus() > 1 ? 2 : 1;
	path->out = udp_out_new(path);
	for (unsigned i = 0; i < n && !code; i++)
		code = add_worker(path, err);
	if (code)
		return code;
	path->out_by = path->worker[0];
	describe(path);
	for (unsigned i = 0; i < n; i++) {
		code = udp_worker_start(path->worker[i], i == 0 ? "udp" : "udp-out");
		if (code)
			return err_sys(err, code, "starting a thread");
	}
	return 0;
}

int udp_path_start(struct loop *loop, const struct udp_path_settings *settings,
		   const struct udp_peer *peers, size_t n, const struct udp_path_events *events,
		   struct udp_path **ret_path, struct err *err)
{
	struct udp_path *path = mem_alloc(1, sizeof(*path));
	int code;

	path->settings = *settings;
	path->events = *events;
	path->tun = path->sock = path->wake = path->tell = -1;
	/* Without CAP_NET_RAW nobody is answered. */
	path->icmp = socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_RAW);
	path->table = table_new(peers, n);
	code = open_events(path, loop, err);
	if (!code)
		code = open_socket(path, err);
	if (!code)
		code = tun_attach(settings->device, settings->offload != UDP_OFFLOAD_PLAIN,
				  &path->tun, err);
	if (!code) {
		udp_offload_probe(path);
		code = start_workers(path, err);
	}
	if (code) {
		udp_path_stop(path);
		return code;
	}
	*ret_path = path;
	return 0;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void free_worker(struct udp_worker *w)
{
	udp_in_free(w->in);
	close_fd(w->bell);
	free(w);
}

void udp_path_stop(struct udp_path *path)
{
	if (!path)
		return;
	atomic_store(&path->stopping, true);
	if (path->wake >= 0)
		(void)eventfd_write(path->wake, 1);
	for (unsigned i = 0; i < path->n_workers; i++)
		if (path->worker[i]->started)
			(void)pthread_join(path->worker[i]->thread, NULL);
	for (unsigned i = 0; i < path->n_workers; i++)
		free_worker(path->worker[i]);
	udp_out_free(path->out);
	loop_event_free(path->on_tell);
	free_retired(path, UINT64_MAX);
	free((void *)(uintptr_t)path->table);
	close_fd(path->wake);
	close_fd(path->tell);
	close_fd(path->tun);
	close_fd(path->sock);
	close_fd(path->icmp);
	free(path);
}
