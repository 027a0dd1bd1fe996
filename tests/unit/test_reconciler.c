/* SPDX-License-Identifier: Apache-2.0 */
/* test_reconciler.c - the reconciler, and netlink itself, against a kernel: each test has a
 * network namespace of its own, with a NIC called up0
 */
#include "reconcile/reconciler.h"

#include "base/mem.h"
#include "messages.h"
#include "reconcile/internal.h"
#include "rules/nft.h"
#include "wait.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>

static struct loop *loop;
static struct event *tick;
static struct reconciler *r;
static struct netlink *nl; /* another's hand */
static size_t n_settled, n_filter_changed, n_tunnel_changed;
static int vxlan;
static const struct mac mac = {{2, 0, 0, 0, 0, 1}}, peer_mac = {{2, 0, 0, 0, 0, 3}};

#define WAIT(condition) WAIT_MS(10000, condition)

static void nothing(void *userdata)
{
	(void)userdata;
}

static void nothing_said(const char *text, void *userdata)
{
	(void)text;
	(void)userdata;
}

static void on_settled(void *userdata)
{
	(void)userdata;
	n_settled++;
}

static void on_filter_changed(void *userdata)
{
	(void)userdata;
	n_filter_changed++;
}

static void on_tunnel_changed(void *userdata)
{
	(void)userdata;
	n_tunnel_changed++;
}

static void turn(void)
{
	loop_timer_set_sooner(tick, 20);
	assert_int_not_equal(event_base_loop(loop_base(loop), EVLOOP_ONCE), -1);
}

static void run(const char *command)
{
	if (system(command) != 0)
		fail_msg("%s", command);
}

static bool says(const char *command, const char *text)
{
	static char out[65536];
	FILE *f = popen(command, "re");
	size_t n;

	assert_non_null(f);
	n = fread(out, 1, sizeof(out) - 1, f);
	out[n] = '\0';
	(void)pclose(f);
	return strstr(out, text) != NULL;
}

#define ROUTES "ip route show table main; ip -6 route show table main"

static int setup(void **state)
{
	const struct reconciler_events events = {
		.world_changed = nothing,
		.filter_changed = on_filter_changed,
		.tunnel_changed = on_tunnel_changed,
		.settled = on_settled,
		.failing = nothing_said,
	};
	struct err err;

	(void)state;
	n_settled = n_filter_changed = n_tunnel_changed = 0;
	if (unshare(CLONE_NEWNET))
		return -1;
	run("ip link set lo up && ip link add up0 type veth peer name up1 && ip link set up1 up && "
	    "ip addr add 192.0.2.1/24 dev up0 && ip addr add 2001:db8::1/64 dev up0 nodad && "
	    "ip link set up0 up");
	loop = loop_new();
	tick = loop_timer_new(loop, nothing, NULL);
	if (reconciler_new(loop, &events, &r, &err) || netlink_open(NETLINK_ROUTE, &nl, &err))
		fail_msg("%s", err.text);
	reconciler_set_uplink(r, "up0");
	reconciler_set_claims(
		r, &(struct diff_claims){
			   .network = {messages_net("10.5.0.0/16"), messages_net("fc00:5::/32")},
			   .n = 2,
			   .subnet_len = {[IP_V4] = 24, [IP_V6] = 64},
		   });
	vxlan = reconciler_device(r, "flannel.1");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	reconciler_free(r);
	netlink_close(nl);
	loop_event_free(tick);
	loop_free(loop);
	return 0;
}

/* ---- what is wanted ---- */

static void want_device(void)
{
	const struct link link = {
		.name = "flannel.1",
		.kind = "vxlan",
		.mtu = 1450,
		.mac = mac,
		.up = true,
		.vxlan = {.vni = 1, .port = 8472, .local = messages_ip("192.0.2.1")},
	};

	reconciler_want_link(r, vxlan, &link, -1);
}

static struct entry route_to(const char *dst, int device, const char *gateway)
{
	struct ip_net net = messages_net(dst);
	struct ip ip = messages_ip(gateway);

	return entry_route((uint8_t)device, &net, &ip, device != DEVICE_UPLINK);
}

static void want_peer(void)
{
	struct ip base = messages_ip("10.5.3.0"), remote = messages_ip("192.0.2.3");
	struct ip_net own = messages_net("10.5.1.0/32");
	struct entry entries[] = {
		entry_addr((uint8_t)vxlan, &own),
		entry_fdb((uint8_t)vxlan, &peer_mac, &remote),
		entry_neigh((uint8_t)vxlan, &base, &peer_mac),
		route_to("10.5.3.0/24", vxlan, "10.5.3.0"),
		route_to("10.5.4.0/24", DEVICE_UPLINK, "192.0.2.4"),
		route_to("fc00:5:4::/64", DEVICE_UPLINK, "2001:db8::4"),
	};

	for (size_t i = 0; i < ARRAY_SIZE(entries); i++)
		reconciler_want(r, &entries[i]);
	reconciler_kick(r);
}

static bool all_there(void)
{
	return says("ip -d link show flannel.1", "vxlan id 1 local 192.0.2.1 dev up0") &&
	       says("ip link show flannel.1", "02:00:00:00:00:01") &&
	       says("ip link show flannel.1", "mtu 1450") &&
	       says("ip link show flannel.1", ",UP") &&
	       says("ip addr show flannel.1", "inet 10.5.1.0/32") &&
	       says("bridge fdb show dev flannel.1", "02:00:00:00:00:03 dst 192.0.2.3") &&
	       says("ip neigh show dev flannel.1", "10.5.3.0 lladdr 02:00:00:00:00:03 PERMANENT") &&
	       says(ROUTES, "10.5.3.0/24 via 10.5.3.0 dev flannel.1 proto 87 onlink") &&
	       says(ROUTES, "10.5.4.0/24 via 192.0.2.4 dev up0 proto 87") &&
	       says(ROUTES, "fc00:5:4::/64 via 2001:db8::4 dev up0 proto 87");
}

static void settle(void)
{
	WAIT(reconciler_is_settled(r));
}

static uint64_t repairs(void)
{
	struct reconciler_status status;

	reconciler_get_status(r, &status);
	return status.repairs;
}

/* ---- converging ---- */

static void test_converges(void **state)
{
	struct reconciler_status status;

	(void)state;
	want_device();
	want_peer();
	settle();
	assert_true(all_there());
	reconciler_get_status(r, &status);
	assert_int_equal(status.wanted[ENTRY_ROUTE], 3);
	assert_int_equal(status.wanted[ENTRY_NEIGH], 1);
	assert_int_equal(status.failing, 0);
	assert_int_equal(status.repairs, 0);
	/* Another full look finds nothing to do. */
	reconciler_resync(r);
	settle();
	assert_int_equal(repairs(), 0);
}

static void test_repairs(void **state)
{
	static const struct {
		const char *damage;
		unsigned least; /* repairs */
	} rows[] = {
		{"ip route del 10.5.3.0/24", 1},
		{"ip route replace 10.5.3.0/24 dev up0", 1},
		{"ip route replace 10.5.4.0/24 via 192.0.2.9 dev up0 proto static", 1},
		{"ip route replace blackhole 10.5.4.0/24", 1},
		{"ip -6 route del fc00:5:4::/64", 1},
		{"ip -6 route append fc00:5:4::/64 via 2001:db8::9 dev up0 metric 1024", 1},
		{"ip neigh del 10.5.3.0 dev flannel.1", 1},
		{"ip neigh replace 10.5.3.0 lladdr 02:00:00:00:00:99 dev flannel.1 nud reachable",
		 1},
		{"ip neigh flush dev flannel.1 nud permanent", 1},
		{"bridge fdb del 02:00:00:00:00:03 dev flannel.1", 1},
		{"bridge fdb replace 02:00:00:00:00:03 dev flannel.1 dst 192.0.2.9 self permanent",
		 1},
		{"ip addr del 10.5.1.0/32 dev flannel.1", 1},
		{"ip addr flush dev flannel.1", 1},
		{"ip link set flannel.1 down", 1},
		{"ip link set flannel.1 mtu 1300", 1},
		{"ip link set flannel.1 address 02:00:00:00:00:77", 1},
		{"ip link set flannel.1 alias mine", 1},
		{"ip link set flannel.1 name other", 1},
		{"ip link del flannel.1", 1},
		{"ip link del flannel.1 && ip link add flannel.1 type vxlan id 1 dstport 4789 dev "
		 "up0",
		 1},
		{"ip link del flannel.1 && ip link add flannel.1 type bridge", 1},
		{"ip link set up0 down && ip link set up0 up && ip -6 addr add 2001:db8::1/64 dev "
		 "up0 "
		 "nodad",
		 1},
		{"ip route flush proto 87; ip -6 route flush proto 87; ip neigh flush dev "
		 "flannel.1 "
		 "nud permanent",
		 3},
	};

	(void)state;
	want_device();
	want_peer();
	settle();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint64_t before = repairs();

		run(rows[i].damage);
		WAIT(repairs() >= before + rows[i].least && reconciler_is_settled(r));
		if (!all_there())
			WAIT(all_there()); /* an IPv6 address that came later */
		if (says("ip link", "other") || says("ip link show flannel.1", "alias"))
			fail_msg("left behind by: %s", rows[i].damage);
	}
}

/* The NIC itself goes and comes back with another number. */
static void test_uplink_back(void **state)
{
	(void)state;
	want_device();
	want_peer();
	settle();
	run("ip link del up0");
	WAIT(!reconciler_link(r, DEVICE_UPLINK));
	run("ip link add up0 type veth peer name up1 && ip link set up1 up && ip addr add "
	    "192.0.2.1/24 dev up0 && "
	    "ip addr add 2001:db8::1/64 dev up0 nodad && ip link set up0 up");
	WAIT(all_there());
}

/* ---- removing ---- */

#define LEAVE_OLD_ENTRIES                                                                          \
	"ip link add flannel.1 address 02:00:00:00:00:01 mtu 1450 type vxlan id 1 dstport 8472 "   \
	"local 192.0.2.1 dev up0 nolearning && ip link set flannel.1 up && "                       \
	"ip addr add 10.5.1.0/32 dev flannel.1 && "                                                \
	"ip route add 10.5.3.0/24 via 10.5.3.0 dev flannel.1 onlink && "                           \
	"ip route add 10.5.4.0/24 via 192.0.2.4 dev up0 && "                                       \
	"ip route add 10.5.8.0/24 via 10.5.8.0 dev flannel.1 onlink && "                           \
	"ip route add 10.5.9.0/24 via 192.0.2.9 dev up0 && "                                       \
	"ip neigh add 10.5.3.0 lladdr 02:00:00:00:00:03 dev flannel.1 nud permanent && "           \
	"ip neigh add 10.5.8.0 lladdr 02:00:00:00:00:08 dev flannel.1 nud permanent && "           \
	"bridge fdb add 02:00:00:00:00:03 dst 192.0.2.3 dev flannel.1 self permanent && "          \
	"bridge fdb add 02:00:00:00:00:08 dst 192.0.2.8 dev flannel.1 self permanent && "          \
	"ip route add 10.5.10.0/24 via 192.0.2.9 dev up0 proto static && "                         \
	"ip route add 172.16.0.0/24 via 192.0.2.9 dev up0"

static void test_adopts_and_removes(void **state)
{
	int ifindex;

	(void)state;
	run(LEAVE_OLD_ENTRIES);
	want_device();
	want_peer();
	settle();
	ifindex = reconciler_link(r, vxlan)->ifindex;
	assert_true(all_there());
	/* Unknown is not empty: nothing goes before the peers are complete. */
	assert_true(says(ROUTES, "10.5.8.0/24"));
	assert_true(says(ROUTES, "10.5.9.0/24"));
	assert_true(says("ip neigh show dev flannel.1", "10.5.8.0"));
	assert_true(says("bridge fdb show dev flannel.1", "192.0.2.8"));
	reconciler_allow_removal(r);
	settle();
	assert_true(all_there());
	assert_false(says(ROUTES, "10.5.8.0/24"));
	assert_false(says(ROUTES, "10.5.9.0/24"));
	assert_false(says("ip neigh show dev flannel.1", "10.5.8.0"));
	assert_false(says("bridge fdb show dev flannel.1", "192.0.2.8"));
	/* What others put there stays, and so does the device. */
	assert_true(says(ROUTES, "10.5.10.0/24"));
	assert_true(says(ROUTES, "172.16.0.0/24"));
	assert_int_equal(reconciler_link(r, vxlan)->ifindex, ifindex);
	assert_int_equal(repairs(), 0);
}

static void test_unwanted(void **state)
{
	struct entry e = route_to("10.5.4.0/24", DEVICE_UPLINK, "192.0.2.4");

	(void)state;
	want_device();
	want_peer();
	reconciler_allow_removal(r);
	settle();
	reconciler_unwant(r, &e);
	reconciler_kick(r);
	WAIT(!says(ROUTES, "10.5.4.0/24"));
	reconciler_want_begin(r);
	reconciler_want_end(r);
	reconciler_unwant_link(r, vxlan);
	WAIT(!says("ip link", "flannel.1"));
	settle();
	assert_false(says(ROUTES, "proto 87"));
	assert_int_equal(repairs(), 0);
	assert_int_equal(reconciler_device(r, "flannel.2"), vxlan); /* the slot is free again */
}

/* ---- failing ---- */

/* Each object is tried again by itself: one that cannot be keeps no other. */
static void test_retry_per_object(void **state)
{
	struct entry bad = route_to("10.5.7.0/24", DEVICE_UPLINK, "198.51.100.7");
	struct reconciler_status status;

	(void)state;
	reconciler_want(r, &bad);
	want_device();
	want_peer();
	settle();
	assert_true(all_there());
	reconciler_get_status(r, &status);
	assert_int_equal(status.failing, 1);
	WAIT((reconciler_get_status(r, &status), *status.failure));
	assert_non_null(strstr(status.failure, "10.5.7.0/24 via 198.51.100.7 dev up0"));
	assert_non_null(strstr(status.failure, "not on the uplink's own L2 network"));
	run("ip addr add 198.51.100.1/24 dev up0");
	WAIT_MS(20000, says(ROUTES, "10.5.7.0/24 via 198.51.100.7"));
	settle();
	reconciler_get_status(r, &status);
	assert_int_equal(status.failing, 0);
}

/* A device's retry does not wait for an entry that has failed for long. */
static void test_retry_of_a_device(void **state)
{
	struct entry bad = route_to("10.5.7.0/24", DEVICE_UPLINK, "198.51.100.7");
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(8472)};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	(void)state;
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	reconciler_want(r, &bad);
	set_find(&r->set, &bad.key)->failures = 6; /* the next try in 30 s */
	reconciler_kick(r);
	settle();
	assert_int_equal(r->set.n_waiting, 1);
	want_device(); /* its port is taken */
	WAIT(r->device[vxlan].failures > 1);
	close(fd);
	WAIT_MS(3000, says("ip link", "flannel.1"));
}

/* ---- the peer set ---- */

static struct nft_set make_set(void)
{
	const struct nft_set set = {.family = IP_V4, .table = "weft-flannel.1", .name = "peers"};
	struct err err;

	if (nft_run("add table ip weft-flannel.1\n"
		    "add set ip weft-flannel.1 peers { type ipv4_addr; }\n",
		    &err))
		fail_msg("%s", err.text);
	return set;
}

static void want_filter(void)
{
	struct nft_set set = make_set();
	struct ip peer = messages_ip("192.0.2.3");
	struct entry e = entry_filter((uint8_t)vxlan, &peer);

	want_device();
	want_peer();
	reconciler_want(r, &e);
	reconciler_set_filter(r, vxlan, &set);
	settle();
	WAIT(says("nft list set ip weft-flannel.1 peers", "192.0.2.3"));
	settle();
}

static void test_filter(void **state)
{
	uint64_t before;

	(void)state;
	want_filter();
	assert_true(all_there());
	before = repairs();
	run("nft delete element ip weft-flannel.1 peers '{ 192.0.2.3 }'");
	WAIT(repairs() > before);
	assert_true(says("nft list set ip weft-flannel.1 peers", "192.0.2.3"));
	run("nft add element ip weft-flannel.1 peers '{ 198.51.100.66 }'");
	reconciler_allow_removal(r);
	WAIT(!says("nft list set ip weft-flannel.1 peers", "198.51.100.66"));
	/* The table goes with all in it: its owner is told, and makes it anew. */
	n_filter_changed = 0;
	run("nft delete table ip weft-flannel.1");
	WAIT(n_filter_changed);
	assert_false(reconciler_has_filter(r, vxlan));
	settle();
	struct nft_set set = make_set();
	reconciler_set_filter(r, vxlan, &set);
	WAIT(says("nft list set ip weft-flannel.1 peers", "192.0.2.3"));
	assert_true(reconciler_has_filter(r, vxlan));
}

/* A set that is not there any more says nothing about routes. */
static void test_filter_gone_in_a_dump(void **state)
{
	uint64_t before;

	(void)state;
	want_filter();
	before = repairs();
	run("nft delete set ip weft-flannel.1 peers");
	WAIT(n_filter_changed);
	reconciler_resync(r);
	settle();
	assert_true(all_there());
	/* The one element, and nothing else. */
	assert_in_range(repairs(), before, before + 1);
}

/* ---- netlink ---- */

static void count(const struct nlmsghdr *msg, void *userdata)
{
	(void)msg;
	(*(size_t *)userdata)++;
}

static void test_netlink_errors(void **state)
{
	char buf[NETLINK_MESSAGE_MAX] = {0};
	struct err err;
	size_t n = 0;

	(void)state;
	assert_int_equal(netlink_request(nl, link_put_get(buf, "none", 0), count, &n, &err),
			 -ENODEV);
	assert_string_equal(err.text, "No such device");
	memset(buf, 0, sizeof(buf));
	assert_int_equal(netlink_request(nl, link_put_get(buf, "up0", 0), count, &n, &err), 0);
	assert_int_equal(n, 1);
	memset(buf, 0, sizeof(buf));
	n = 0;
	assert_int_equal(netlink_dump(nl, link_put_dump(buf), count, &n, &err), 0);
	assert_true(n >= 2);
}

/* A dump that the kernel gives up says so in its last message; that is not an empty one. */
static void test_netlink_dump_fails(void **state)
{
	char buf[NETLINK_MESSAGE_MAX] = {0};
	struct nlmsghdr *msg = mnl_nlmsg_put_header(buf);
	struct rtmsg *info;
	struct err err;
	size_t n = 0;

	(void)state;
	msg->nlmsg_type = RTM_GETROUTE;
	info = mnl_nlmsg_put_extra_header(msg, sizeof(*info));
	info->rtm_family = AF_INET;
	info->rtm_table = 77; /* there is no such table */
	assert_int_equal(netlink_dump(nl, msg, count, &n, &err), -ENOENT);
	assert_int_equal(n, 0);
	assert_non_null(strstr(err.text, "No such file or directory"));
}

struct failures {
	size_t n;
	uint32_t token[8];
	int code[8];
};

static void on_failure(uint32_t token, int error, const char *text, void *userdata)
{
	struct failures *f = userdata;

	(void)text;
	assert_true(f->n < ARRAY_SIZE(f->token));
	f->token[f->n] = token;
	f->code[f->n++] = error;
}

static void test_netlink_batch(void **state)
{
	struct netlink_batch *batch = netlink_batch_new();
	struct failures f = {0};
	struct err err;
	size_t n = 0;
	void *room;

	(void)state;
	/* Every third one deletes what is not there; the last one, too. */
	for (uint32_t i = 0; i < 7; i++) {
		struct route route = {.type = RTN_BLACKHOLE, .protocol = ROUTE_PROTOCOL_WEFT};
		char dst[32];

		(void)snprintf(dst, sizeof(dst), "10.9.%u.0/24", i);
		route.dst = messages_net(dst);
		room = netlink_batch_room(batch);
		assert_non_null(room);
		netlink_batch_commit(batch,
				     i % 3 ? route_put_replace(room, &route)
					   : route_put_delete(room, &route),
				     100 + i);
	}
	assert_int_equal(netlink_batch_send(nl, batch, on_failure, &f, &err), 0);
	assert_int_equal(f.n, 3);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(f.token[i], 100 + 3 * i);
		assert_int_equal(f.code[i], -ESRCH);
	}
	assert_true(says(ROUTES, "blackhole 10.9.5.0/24"));
	/* As many as there is room for. */
	while ((room = netlink_batch_room(batch))) {
		struct route route = {.dst = messages_net("10.9.1.0/24"),
				      .type = RTN_BLACKHOLE,
				      .protocol = ROUTE_PROTOCOL_WEFT};

		netlink_batch_commit(batch, route_put_replace(room, &route), (uint32_t)n++);
	}
	assert_true(n > 1000);
	f.n = 0;
	assert_int_equal(netlink_batch_send(nl, batch, on_failure, &f, &err), 0);
	assert_int_equal(f.n, 0);
	assert_int_equal(netlink_batch_send(nl, batch, on_failure, &f, &err), 0); /* empty */
	netlink_batch_free(batch);
}

/* ---- a tun device, and peers that are nobody's but ours ---- */

#define TUN_ROUTES "ip route show dev flannel0"

static int want_tun(void)
{
	const struct link link = {.name = "flannel0",
				  .kind = "tun",
				  .alias = "weft 10.5.0.0/16",
				  .mtu = 1472,
				  .tx_queue_len = 256,
				  .up = true};
	int tun = reconciler_device(r, link.name);
	struct ip_net own = messages_net("10.5.1.0/32"), network = messages_net("10.5.0.0/16");
	struct entry addr = entry_addr((uint8_t)tun, &own),
		     route = entry_route((uint8_t)tun, &network, &(struct ip){0}, false);

	reconciler_want_link(r, tun, &link, -1);
	reconciler_want(r, &addr);
	reconciler_want(r, &route);
	reconciler_kick(r);
	return tun;
}

static bool tun_is_there(void)
{
	return says("ip -d link show flannel0", "tun type tun pi off") &&
	       says("ip -d link show flannel0", "persist on") &&
	       says("ip link show flannel0", ",UP") && says("ip link show flannel0", "mtu 1472") &&
	       says("ip link show flannel0", "qlen 256") &&
	       says("ip link show flannel0", "alias weft 10.5.0.0/16") &&
	       says("ip addr show flannel0", "inet 10.5.1.0/32") &&
	       says(TUN_ROUTES, "10.5.0.0/16 proto 87");
}

static void test_tun(void **state)
{
	static const char *const damages[] = {
		"ip link del flannel0",
		"ip link set flannel0 down",
		"ip link set flannel0 mtu 1300",
		"ip link set flannel0 txqueuelen 5",
		"ip link set flannel0 alias mine",
		"ip link set flannel0 name other",
		"ip addr flush dev flannel0",
		"ip route del 10.5.0.0/16",
		"ip route replace 10.5.0.0/16 dev up0",
		"ip link del flannel0 && ip link add flannel0 type bridge",
		"ip link del flannel0 && ip tuntap add flannel0 mode tun",
	};
	uint64_t all;
	int tun;

	(void)state;
	if (access("/dev/net/tun", R_OK | W_OK))
		skip();
	tun = want_tun();
	settle();
	assert_true(tun_is_there());
	for (size_t i = 0; i < ARRAY_SIZE(damages); i++) {
		uint64_t before = repairs();

		run(damages[i]);
		WAIT(repairs() > before && reconciler_is_settled(r));
		if (!tun_is_there() || says("ip link", "other"))
			fail_msg("left behind by: %s", damages[i]);
	}
	/* Another look changes nothing; nobody wants it: it goes. */
	all = repairs();
	reconciler_resync(r);
	settle();
	assert_int_equal(repairs(), all);
	reconciler_want_begin(r);
	reconciler_want_end(r);
	reconciler_unwant_link(r, tun);
	reconciler_allow_removal(r);
	settle();
	WAIT(!says("ip link", "flannel0"));
}

/* Between our look and our call. */
static void test_renamed_under_our_hands(void **state)
{
	int64_t next_retry_ms = 0;
	int tun;

	(void)state;
	if (access("/dev/net/tun", R_OK | W_OK))
		skip();
	tun = want_tun();
	settle();
	run("ip link set flannel0 mtu 1300");
	device_refresh(r, (uint8_t)tun);
	run("ip link set flannel0 name other");
	assert_true(device_pass(r, &next_retry_ms));
	WAIT(tun_is_there() && reconciler_is_settled(r));
	assert_false(says("ip link", "other"));
}

struct told {
	size_t n;
	char text[1024];
};

static void tell_peer(const struct ip_net *subnet, const struct ip *remote, void *userdata)
{
	struct told *told = userdata;
	char net[IP_NET_STRLEN], ip[IP_STRLEN];
	size_t at = strlen(told->text);

	(void)snprintf(told->text + at, sizeof(told->text) - at, "%s=%s ",
		       ip_net_format(subnet, net), ip_format(remote, ip));
	told->n++;
}

static struct told told_of(int device)
{
	struct told told = {0};

	reconciler_each_tunnel(r, device, tell_peer, &told);
	return told;
}

static struct entry tunnel(int device, const char *subnet, const char *remote)
{
	struct ip_net net = messages_net(subnet);
	struct ip ip = messages_ip(remote);

	return entry_tunnel((uint8_t)device, &net, &ip);
}

static void test_tunnel_peers(void **state)
{
	int tun = reconciler_device(r, "flannel0"), other = reconciler_device(r, "flannel1");
	struct entry a = tunnel(tun, "10.5.3.0/24", "192.0.2.3"),
		     b = tunnel(tun, "10.5.4.0/24", "192.0.2.4"),
		     moved = tunnel(tun, "10.5.3.0/24", "192.0.2.33"),
		     elsewhere = tunnel(other, "10.5.3.0/24", "192.0.2.9");
	struct reconciler_status status;

	(void)state;
	reconciler_allow_removal(r);
	reconciler_want(r, &a);
	reconciler_want(r, &b);
	reconciler_want(r, &elsewhere);
	reconciler_kick(r);
	settle();
	/* Once for all of them, and without a device. */
	assert_int_equal(n_tunnel_changed, 1);
	assert_int_equal(told_of(tun).n, 2);
	assert_non_null(strstr(told_of(tun).text, "10.5.3.0/24=192.0.2.3 "));
	assert_string_equal(told_of(other).text, "10.5.3.0/24=192.0.2.9 ");
	/* What the kernel has does not matter; nor does wanting the same again. */
	reconciler_resync(r);
	settle();
	reconciler_want_begin(r);
	reconciler_want(r, &a);
	reconciler_want(r, &b);
	reconciler_want_end(r);
	reconciler_kick(r);
	WAIT(n_tunnel_changed == 2); /* that of the other device has gone */
	assert_int_equal(told_of(other).n, 0);
	reconciler_get_status(r, &status);
	assert_int_equal(status.wanted[ENTRY_TUNNEL], 2);
	assert_int_equal(status.repairs, 0);
	/* Another host takes the subnet; two want it. */
	reconciler_want(r, &moved);
	assert_true(reconciler_has_conflicts(r));
	reconciler_kick(r);
	WAIT(n_tunnel_changed == 3);
	assert_non_null(strstr(told_of(tun).text, "10.5.3.0/24=192.0.2.33 "));
	reconciler_unwant(r, &b);
	reconciler_kick(r);
	WAIT(n_tunnel_changed == 4);
	assert_int_equal(told_of(tun).n, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_converges),
		TEST(test_repairs),
		TEST(test_uplink_back),
		TEST(test_adopts_and_removes),
		TEST(test_unwanted),
		TEST(test_retry_per_object),
		TEST(test_retry_of_a_device),
		TEST(test_filter),
		TEST(test_filter_gone_in_a_dump),
		TEST(test_tun),
		TEST(test_renamed_under_our_hands),
		TEST(test_tunnel_peers),
		TEST(test_netlink_errors),
		TEST(test_netlink_dump_fails),
		TEST(test_netlink_batch),
	};

	if (unshare(CLONE_NEWNET)) {
		/* In TAP, a plan of nothing is a skip. */
		printf("1..0 # SKIP network namespaces: %s\n", strerror(errno));
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
