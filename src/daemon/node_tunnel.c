/* SPDX-License-Identifier: Apache-2.0 */
/* node_tunnel.c - the data path of backend udp: started, fed with peers, started again
 *
 * Theory of operation. The reconciler keeps the tun device, its address and its route;
 * the path carries the packets. It is started once the device is there and the peers are
 * known (to one that knows none of them all are strangers, and every pod's packet goes
 * nowhere), and anew when anything that it was started with has changed: the device (by index),
 * addresses, port, options. What it says it has lost, and what did not start, is tried again by a
 * timer; until then nothing is carried, and health says why. While hosts move from udp to another
 * backend the path goes on for the peers that still publish udp.
 */
#include "daemon/node_internal.h"

#include "base/log.h"
#include "base/mem.h"
#include "kernel/port_owner.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RETRY_FIRST_MS 50 /* who is about to let go of the port has done so by then */
#define RETRY_MAX_MS   5000

static bool needs_path(const struct backend *backend)
{
	return backend->ops == &backend_udp && !backend->udp.by_kernel;
}

/* The backend that needs the path; NULL: none (yet). */
static const struct backend *user_of(const struct node *node)
{
	if (!node->has_own || !node->synced)
		return NULL;
	if (node->has_backend && needs_path(&node->backend))
		return &node->backend;
	if (node->has_previous && needs_path(&node->previous))
		return &node->previous;
	return NULL;
}

static uint32_t host_order(const struct ip *ip)
{
	return (uint32_t)ip_to_num(ip);
}

static struct udp_path_settings make_settings(const struct node *node, const struct backend *b)
{
	struct udp_path_settings settings = {
		.tun_addr = host_order(&node->own.subnet[IP_V4].ip),
		.local = host_order(&b->uplink.addr[IP_V4]),
		.port = b->udp.port,
		.offload = b->udp.offload,
		.check_peers = b->peer_filter,
		.busy_poll_us = b->udp.busy_poll_us,
	};

	(void)snprintf(settings.device, sizeof(settings.device), "%s", b->udp.device);
	return settings;
}

static bool same_settings(const struct udp_path_settings *a, const struct udp_path_settings *b)
{
	return !strcmp(a->device, b->device) && a->tun_addr == b->tun_addr &&
	       a->local == b->local && a->port == b->port && a->offload == b->offload &&
	       a->check_peers == b->check_peers && a->busy_poll_us == b->busy_poll_us;
}

/* The counters are nothing but numbers. */
static void add_counters(struct udp_counters *sum, const struct udp_counters *more)
{
	uint64_t *to = (uint64_t *)sum;
	const uint64_t *from = (const uint64_t *)more;

	_Static_assert(sizeof(*sum) % sizeof(*to) == 0, "whole numbers");
	for (size_t i = 0; i < sizeof(*sum) / sizeof(*to); i++)
		to[i] += from[i];
}

static void stop(struct node_tunnel *t)
{
	struct udp_counters counters;

	t->lost = false;
	if (!t->path)
		return;
	udp_path_get_counters(t->path, &counters);
	add_counters(&t->before, &counters);
	udp_path_stop(TAKE_PTR(t->path));
}

/* It does not run, and why. @next: what comes then, for the log; NULL: nothing to log. When
 * it is only the backend before, pods of most hosts are reached all the same. */
static void problem(struct node *node, const char *text, const char *next)
{
	struct node_tunnel *t = &node->tunnel;

	if (next && strcmp(t->problem, text) != 0 && reconciler_may_log(node->reconciler))
		log_warning("UDP data path: %s; %s", text, next);
	(void)snprintf(t->problem, sizeof(t->problem), "%s", text);
	if (needs_path(&node->backend))
		health_missing(node->health, HEALTH_TUNNEL, text);
	else
		health_degraded(node->health, HEALTH_TUNNEL, text);
}

/* Tries again later; at once when what it starts with has changed by then. */
static void retry(struct node_tunnel *t)
{
	int64_t delay = RETRY_FIRST_MS;

	for (unsigned i = 0; i < t->failures && delay < RETRY_MAX_MS; i++)
		delay *= 2;
	t->failures++;
	t->retry_ms = loop_now_ms() + delay;
	loop_timer_set(t->timer, delay);
}

static void on_lost(const char *why, void *userdata)
{
	struct node *node = userdata;
	struct node_tunnel *t = &node->tunnel;

	t->lost = true;
	if (loop_now_ms() - t->started_ms > RETRY_MAX_MS)
		t->failures = 0;
	problem(node, why, "starting it anew");
	retry(t);
	loop_timer_set(t->timer, 0); /* stops it; not from here */
}

static void on_demoted(const char *what, void *userdata)
{
	(void)userdata;
	log_info("UDP data path: %s", what);
}

static void on_unsent(const char *what, void *userdata)
{
	(void)userdata;
	log_warning("UDP data path: %s", what);
}

static void start_failed(struct node *node, int code, struct err *err)
{
	struct node_tunnel *t = &node->tunnel;
	char owner[PORT_OWNER_MAX];

	if (code == -EADDRINUSE)
		(void)err_set(err, code, "UDP port %u is taken: by %s", t->settings.port,
			      udp_port_owner(t->settings.local, t->settings.port, owner));
	retry(t);
	problem(node, err->text, "trying again every few seconds");
}

struct peer_list {
	struct udp_peer *peer;
	size_t n, cap;
};

static void list_peer(const struct ip_net *subnet, const struct ip *remote, void *userdata)
{
	struct peer_list *list = userdata;

	if (list->n == list->cap) {
		list->cap = list->cap ? 2 * list->cap : 64;
		list->peer = mem_realloc(list->peer, list->cap, sizeof(*list->peer));
	}
	list->peer[list->n++] = (struct udp_peer){
		.subnet = host_order(&subnet->ip),
		.subnet_len = subnet->len,
		.addr = host_order(remote),
	};
}

/* Of the backend that needs the path. Caller frees the array. */
static struct peer_list list_peers(const struct node *node)
{
	struct peer_list list = {0};

	reconciler_each_tunnel(node->reconciler, user_of(node)->device[IP_V4], list_peer, &list);
	return list;
}

void node_tunnel_set_peers(struct node *node)
{
	struct peer_list list;

	if (!node->tunnel.path || !user_of(node))
		return;
	list = list_peers(node);
	udp_path_set_peers(node->tunnel.path, list.peer, list.n);
	free(list.peer);
}

static void start(struct node *node)
{
	const struct udp_path_events events = {on_lost, on_demoted, on_unsent, node};
	struct node_tunnel *t = &node->tunnel;
	struct peer_list list = list_peers(node);
	struct err err = {""};
	int code = udp_path_start(node->loop, &t->settings, list.peer, list.n, &events, &t->path,
				  &err);

	free(list.peer);
	if (code) {
		start_failed(node, code, &err);
		return;
	}
	t->started_ms = loop_now_ms();
	t->retry_ms = 0;
	*t->problem = '\0';
	if (reconciler_may_log(node->reconciler))
		log_info("Carrying packets between %s and UDP port %u: %s", t->settings.device,
			 t->settings.port, udp_path_describe(t->path));
	health_good(node->health, HEALTH_TUNNEL);
	loop_timer_set_sooner(node->file_timer, 0); /* the subnet file may have waited for us */
}

static void stop_for_good(struct node *node)
{
	struct node_tunnel *t = &node->tunnel;

	if (t->path)
		log_info("No longer carrying packets between %s and UDP port %u",
			 t->settings.device, t->settings.port);
	stop(t);
	t->failures = 0;
	t->retry_ms = 0;
	*t->problem = '\0';
	health_good(node->health, HEALTH_TUNNEL);
}

void node_tunnel_check(void *userdata)
{
	struct node *node = userdata;
	struct node_tunnel *t = &node->tunnel;
	const struct backend *backend = user_of(node);
	const struct link *link =
		backend ? reconciler_link(node->reconciler, backend->device[IP_V4]) : NULL;
	struct udp_path_settings settings;
	int64_t now = loop_now_ms();
	bool same;

	if (t->lost)
		stop(t);
	if (!backend) {
		stop_for_good(node);
		return;
	}
	settings = make_settings(node, backend);
	if (!link || strcmp(link->kind, "tun") != 0) {
		char text[64];

		/* The reconciler makes it, and has words of its own if it cannot. */
		(void)snprintf(text, sizeof(text), "device %s is not there", settings.device);
		stop(t);
		problem(node, text, NULL);
		return;
	}
	same = same_settings(&settings, &t->settings) && link->ifindex == t->ifindex;
	if (same && t->path)
		return;
	if (same && t->retry_ms > now) { /* timers may be early by a bit */
		loop_timer_set_sooner(t->timer, t->retry_ms - now);
		return;
	}
	if (!same)
		t->failures = 0;
	stop(t);
	t->settings = settings;
	t->ifindex = link->ifindex;
	start(node);
}

bool node_tunnel_is_ready(const struct node *node)
{
	return !needs_path(&node->backend) || node->tunnel.path;
}

bool node_tunnel_get_counters(const struct node *node, struct udp_counters *ret_counters)
{
	const struct node_tunnel *t = &node->tunnel;
	struct udp_counters now = {0};

	if (!user_of(node))
		return false;
	if (t->path)
		udp_path_get_counters(t->path, &now);
	add_counters(&now, &t->before);
	*ret_counters = now;
	return true;
}

void node_tunnel_done(struct node *node)
{
	udp_path_stop(node->tunnel.path);
	loop_event_free(node->tunnel.timer);
}
