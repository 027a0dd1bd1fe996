/* SPDX-License-Identifier: Apache-2.0 */
/* node_metrics.c - GET /metrics: what the node counts, in the text format of Prometheus
 *
 * https://prometheus.io/docs/instrumenting/exposition_formats/
 */
#include "daemon/node_internal.h"

#include "base/mem.h"
#include "kernel/tun.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct page {
	char *text;
	size_t size, n;
};

__attribute__((format(printf, 2, 3))) static void put(struct page *page, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(page->text + page->n, page->size - page->n, format, args);
	va_end(args);
	page->n += n > 0 ? (size_t)n : 0;
	if (page->n >= page->size) /* never: all lines are ours, and fit */
		page->n = page->size - 1;
}

static void put_head(struct page *page, const char *name, const char *type, const char *help)
{
	put(page, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_one(struct page *page, const char *name, const char *help, uint64_t value)
{
	put_head(page, name, "counter", help);
	put(page, "%s %" PRIu64 "\n", name, value);
}

static void put_both_ways(struct page *page, const char *name, const char *help, uint64_t out,
			  uint64_t in)
{
	put_head(page, name, "counter", help);
	put(page, "%s{direction=\"out\"} %" PRIu64 "\n%s{direction=\"in\"} %" PRIu64 "\n", name,
	    out, name, in);
}

/* A histogram wants each class to hold those below it. */
static void put_sizes(struct page *page, const char *direction,
		      const uint64_t size[UDP_SIZE_CLASSES], uint64_t bytes)
{
	static const char *const upto[UDP_SIZE_CLASSES] = {"128",  "256",  "512",
							   "1024", "1500", "+Inf"};
	uint64_t sum = 0;

	for (size_t i = 0; i < UDP_SIZE_CLASSES; i++) {
		sum += size[i];
		put(page,
		    "flannel_udp_packet_size_bytes_bucket{direction=\"%s\",le=\"%s\"} %" PRIu64
		    "\n",
		    direction, upto[i], sum);
	}
	put(page, "flannel_udp_packet_size_bytes_sum{direction=\"%s\"} %" PRIu64 "\n", direction,
	    bytes);
	put(page, "flannel_udp_packet_size_bytes_count{direction=\"%s\"} %" PRIu64 "\n", direction,
	    sum);
}

static void put_dropped(struct page *page, const char *reason, uint64_t n)
{
	put(page, "flannel_udp_dropped_total{reason=\"%s\"} %" PRIu64 "\n", reason, n);
}

/* What never came to the path is counted by the device. Left out while there is none: a counter
 * that goes to 0 and back looks like one that jumped. */
static void put_drops(struct page *page, const struct node *node, const struct udp_counters *c)
{
	uint64_t queue_full;

	put_head(page, "flannel_udp_dropped_total", "counter", "Inner packets dropped.");
	for (int i = 0; i < UDP_DROP_COUNT; i++)
		put_dropped(page, udp_drop_name((enum udp_drop)i), c->drop[i]);
	if (!tun_get_dropped(reconciler_netlink(node->reconciler), node->tunnel.settings.device,
			     &queue_full, NULL))
		put_dropped(page, "queue_full", queue_full);
}

static void put_udp(struct page *page, const struct node *node, const struct udp_counters *c)
{
	put_head(page, "flannel_udp_up", "gauge", "Whether the data path of backend udp runs.");
	put(page, "flannel_udp_up %d\n", node->tunnel.path != NULL);
	put_both_ways(page, "flannel_udp_packets_total",
		      "Inner packets sent to peers (out), delivered to pods (in).", c->out_packets,
		      c->in_packets);
	put_both_ways(page, "flannel_udp_bytes_total", "Bytes of those packets.", c->out_bytes,
		      c->in_bytes);
	put_both_ways(page, "flannel_udp_calls_total", "System calls that carried packets.",
		      c->out_calls, c->in_calls);
	put_one(page, "flannel_udp_unreachable_total",
		"ICMP \"net unreachable\" answers to pods, for subnets that no peer has.",
		c->unreachable);
	put_one(page, "flannel_udp_demotions_total",
		"Times that the kernel, or the way to a peer, refused a faster way to send or "
		"receive.",
		c->demoted);
	put_drops(page, node, c);
	put_head(page, "flannel_udp_rung_packets_total", "counter",
		 "Inner packets by how they were read, sent, received and written.");
	for (int i = 0; i < UDP_RUNG_COUNT; i++)
		put(page, "flannel_udp_rung_packets_total{rung=\"%s\"} %" PRIu64 "\n",
		    udp_rung_name((enum udp_rung)i), c->rung[i]);
	put_head(page, "flannel_udp_packet_size_bytes", "histogram", "Sizes of inner packets.");
	put_sizes(page, "out", c->out_size, c->out_bytes);
	put_sizes(page, "in", c->in_size, c->in_bytes);
}

static int serve_metrics(char *text, size_t size, void *userdata)
{
	const struct node *node = userdata;
	struct page page = {text, size, 0};
	struct reconciler_status status;
	struct udp_counters counters;

	put_head(&page, "flannel_build_info", "gauge", "Always 1; what runs is in the label.");
	put(&page, "flannel_build_info{version=\"%s\"} 1\n", WEFT_VERSION);
	put_head(&page, "flannel_ready", "gauge", "Whether /readyz says so.");
	put(&page, "flannel_ready %d\n", health_is_ready(node->health));
	put_head(&page, "flannel_leases", "gauge", "Leases of other hosts that are known.");
	put(&page, "flannel_leases %zu\n", peers_count(node->peers));
	reconciler_get_status(node->reconciler, &status);
	put_one(&page, "flannel_repairs_total",
		"Devices and entries put back that somebody else had changed.", status.repairs);
	if (node_tunnel_get_counters(node, &counters))
		put_udp(&page, node, &counters);
	return 200;
}

void node_metrics_serve(struct node *node)
{
	health_serve(node->health, "/metrics", serve_metrics, node);
}
