/* SPDX-License-Identifier: Apache-2.0 */
/* test_uplink.c - the choice of the uplink over invented hosts
 *
 * A world is written as words: `link=INDEX:NAME[:MTU]`, `addr=INDEX:PREFIX[:FLAGS]`
 * (d: deprecated or tentative, t: temporary or secondary),
 * `via=FAMILY:METRIC:INDEX[,INDEX...][:blackhole]` (a default route over these
 * links) and `reach=INDEX:SOURCE` (the answer for --iface-can-reach).
 */
#include "daemon/uplink.h"

#include "base/mem.h"
#include "daemon/options.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define THINGS_MAX 24

struct world {
	struct uplink_world world;
	struct link links[THINGS_MAX];
	struct addr addrs[THINGS_MAX];
	struct route defaults[THINGS_MAX];
};

static void add_link(struct world *w, const char *text)
{
	struct link *link = &w->links[w->world.n_links++];

	link->mtu = 1500;
	link->up = true;
	assert_true(sscanf(text, "%d:%15[^:]:%u", &link->ifindex, link->name, &link->mtu) >= 2);
	link->loopback = !strcmp(link->name, "lo");
}

static void add_addr(struct world *w, const char *text)
{
	struct addr *addr = &w->addrs[w->world.n_addrs++];
	char prefix[64], *flags;

	assert_int_equal(sscanf(text, "%d:%63s", &addr->ifindex, prefix), 2);
	flags = strchr(prefix, '/');
	assert_non_null(flags);
	flags = strchr(flags, ':');
	if (flags) {
		addr->deprecated = strchr(flags, 'd') != NULL;
		addr->temporary = strchr(flags, 't') != NULL;
		*flags = '\0';
	}
	assert_int_equal(ip_net_parse(prefix, &addr->net), 0);
}

static void add_default(struct world *w, const char *text)
{
	struct route *route = &w->defaults[w->world.n_defaults++];
	char hops[64] = "", *cursor = hops, *hop;
	int family;

	assert_int_equal(sscanf(text, "%d:%u:%63s", &family, &route->metric, hops), 3);
	route->dst.ip.family = family == 4 ? IP_V4 : IP_V6;
	route->table = RT_TABLE_MAIN;
	route->type = strstr(hops, ":blackhole") ? RTN_BLACKHOLE : RTN_UNICAST;
	hops[strcspn(hops, ":")] = '\0';
	while ((hop = strsep(&cursor, ",")) != NULL)
		route->nexthop[route->n_nexthops++].ifindex = atoi(hop);
}

static void add_reach(struct world *w, const char *text)
{
	char source[64] = "";

	assert_true(sscanf(text, "%d:%63s", &w->world.can_reach_ifindex, source) >= 1);
	if (*source)
		assert_int_equal(ip_parse(source, &w->world.can_reach_source), 0);
}

static void make_world(struct world *w, const char *text)
{
	static const struct {
		const char *key;
		void (*add)(struct world *, const char *);
	} kinds[] = {{"link=", add_link},
		     {"addr=", add_addr},
		     {"via=", add_default},
		     {"reach=", add_reach}};
	_cleanup_free_ char *copy = mem_strdup(text);
	char *cursor = copy, *word;

	memset(w, 0, sizeof(*w));
	w->world.links = w->links;
	w->world.addrs = w->addrs;
	w->world.defaults = w->defaults;
	while ((word = strsep(&cursor, " ")) != NULL)
		for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
			if (!strncmp(word, kinds[i].key, strlen(kinds[i].key)))
				kinds[i].add(w, word + strlen(kinds[i].key));
}

/* "eth0 192.0.2.1 2001:db8::1", "eth0 192.0.2.1>203.0.113.1" with a public address
 * of its own, or "error -19: words". */
static void describe(const struct uplink *uplink, char *buf, size_t size)
{
	size_t n = (size_t)snprintf(buf, size, "%s", uplink->name);
	char text[IP_STRLEN];

	for (enum ip_family f = IP_V4; f < IP_FAMILY_COUNT; f++) {
		if (!ip_is_set(&uplink->addr[f]))
			continue;
		n += (size_t)snprintf(buf + n, size - n, " %s", ip_format(&uplink->addr[f], text));
		if (!ip_equal(&uplink->addr[f], &uplink->public_ip[f]))
			n += (size_t)snprintf(buf + n, size - n, ">%s",
					      ip_format(&uplink->public_ip[f], text));
	}
}

static void choose(const char *flags, const char *families, const char *world_text, char *ret_text,
		   size_t size)
{
	const bool enabled[IP_FAMILY_COUNT] = {
		[IP_V4] = strchr(families, '4') != NULL, [IP_V6] = strchr(families, '6') != NULL};
	_cleanup_free_ char *copy = mem_strdup(flags);
	char program[] = "flanneld", *argv[16] = {program}, *cursor = copy;
	struct options options;
	struct uplink uplink;
	struct err err = {""};
	struct world world;
	int argc = 1, r;

	while (*flags && cursor && argc < 15)
		argv[argc++] = strsep(&cursor, " ");
	if (options_parse(argc, argv, NULL, &options, &err) < 0)
		fail_msg("%s: %s", flags, err.text);
	make_world(&world, world_text);
	r = uplink_choose(&options, enabled, &world.world, &uplink, &err);
	if (r < 0)
		(void)snprintf(ret_text, size, "error %d: %s", r, err.text);
	else
		describe(&uplink, ret_text, size);
	options_done(&options);
}

/* A host with two NICs, loopback, a tunnel device of ours, both families. */
#define HOST                                                                                       \
	"link=1:lo addr=1:127.0.0.1/8 addr=1:::1/128 link=2:eth0 addr=2:192.0.2.2/24 "             \
	"addr=2:2001:db8:2::2/64 addr=2:fe80::2/64 link=3:eth1 addr=3:198.51.100.3/24 "            \
	"addr=3:2001:db8:3::3/64 link=4:flannel.1 addr=4:10.5.1.0/32 "

#define EAGAIN_TEXT "error -11: "
#define ENODEV_TEXT "error -19: "
#define NO_DEFAULT  " default route yet (none is needed with --iface)"

static const struct {
	const char *flags, *families, *world, *want;
} rows[] = {
	/* default route */
	{"", "4", HOST "via=4:0:2", "eth0 192.0.2.2"},
	{"", "4", HOST "via=4:200:2 via=4:100:3", "eth1 198.51.100.3"},
	{"", "4", HOST "via=4:100:2 via=4:100:3", "eth0 192.0.2.2"},
	{"", "4", HOST "via=4:0:3,2", "eth1 198.51.100.3"},
	{"", "4", HOST "link=5:eth2 via=4:0:5,2", "eth0 192.0.2.2"},
	{"", "4", HOST "via=4:0:99,3", "eth1 198.51.100.3"},
	{"", "4", HOST "via=4:0:4 via=4:5:3", "eth1 198.51.100.3"},
	{"", "4", HOST "via=4:0:1", EAGAIN_TEXT "no IPv4" NO_DEFAULT},
	{"", "4", HOST "via=4:0:2:blackhole", EAGAIN_TEXT "no IPv4" NO_DEFAULT},
	{"", "4", HOST, EAGAIN_TEXT "no IPv4" NO_DEFAULT},
	{"", "4", HOST "via=6:0:2", EAGAIN_TEXT "no IPv4" NO_DEFAULT},
	{"", "4", "link=2:eth0 via=4:0:2",
	 EAGAIN_TEXT "default route: eth0 has no IPv4 address yet"},
	{"", "4", "link=2:eth0:0 addr=2:192.0.2.2/24 via=4:0:2",
	 EAGAIN_TEXT "default route: the MTU of eth0 is unknown"},
	{"", "", HOST "via=4:0:2", "error -22: neither IPv4 nor IPv6 is enabled"},
	{"", "6", HOST "via=4:0:2 via=6:1024:3", "eth1 2001:db8:3::3"},
	{"", "6", HOST "via=4:0:2", EAGAIN_TEXT "no IPv6" NO_DEFAULT},
	/* dual-stack: one interface has to have both */
	{"", "46", HOST "via=4:0:2 via=6:0:2", "eth0 192.0.2.2 2001:db8:2::2"},
	{"", "46", HOST "via=4:0:2 via=4:9:3 via=6:0:3", "eth1 198.51.100.3 2001:db8:3::3"},
	{"", "46", HOST "via=4:0:2", EAGAIN_TEXT "no IPv6" NO_DEFAULT},
	{"", "46", HOST "via=6:0:2", EAGAIN_TEXT "no IPv4" NO_DEFAULT},
	{"", "46", HOST "via=4:0:2 via=6:0:3",
	 EAGAIN_TEXT "the default routes of IPv4 (eth0) and IPv6 (eth1) must be on one interface; "
		     "choose it by --iface"},
	/* addresses: global before link-local, others before temporary, order of the kernel */
	{"", "4", "link=2:e addr=2:169.254.1.1/16 addr=2:192.0.2.2/24 via=4:0:2", "e 192.0.2.2"},
	{"", "4", "link=2:e addr=2:169.254.1.1/16 via=4:0:2", "e 169.254.1.1"},
	{"", "4", "link=2:e addr=2:192.0.2.1/24:d addr=2:192.0.2.2/24 via=4:0:2", "e 192.0.2.2"},
	{"", "4", "link=2:e addr=2:192.0.2.3/24:t addr=2:192.0.2.2/24 via=4:0:2", "e 192.0.2.2"},
	{"", "4", "link=2:e addr=2:192.0.2.3/24:t via=4:0:2", "e 192.0.2.3"},
	{"", "4", "link=2:e addr=2:192.0.2.9/24 addr=2:192.0.2.2/24 via=4:0:2", "e 192.0.2.9"},
	{"", "6",
	 "link=2:e addr=2:fe80::1/64 addr=2:2001:db8::9/64:t addr=2:2001:db8::1/64 via=6:0:2",
	 "e 2001:db8::1"},
	{"", "6", "link=2:e addr=2:fe80::1/64 via=6:0:2", "e fe80::1"},
	{"", "6", "link=2:e addr=2:2001:db8::1/64:d via=6:0:2",
	 EAGAIN_TEXT "default route: e has no IPv6 address yet"},
	/* --iface */
	{"--iface=eth1", "4", HOST "via=4:0:2", "eth1 198.51.100.3"},
	{"--iface=eth9 --iface=eth1", "4", HOST, "eth1 198.51.100.3"},
	{"--iface=eth9", "4", HOST "via=4:0:2",
	 ENODEV_TEXT "--iface=eth9: there is no such interface"},
	{"--iface=eth9 --iface=eth8", "4", HOST,
	 ENODEV_TEXT "--iface=eth9: there is no such interface; --iface=eth8: there is no such "
		     "interface"},
	{"--iface=eth9 --iface=eth5", "4", HOST "link=5:eth5",
	 EAGAIN_TEXT "--iface=eth9: there is no such interface; --iface=eth5: eth5 has no IPv4 "
		     "address yet"},
	{"--iface=198.51.100.3", "4", HOST, "eth1 198.51.100.3"},
	{"--iface=198.51.100.3", "46", HOST, "eth1 198.51.100.3 2001:db8:3::3"},
	{"--iface=2001:db8:3::3", "46", HOST, "eth1 198.51.100.3 2001:db8:3::3"},
	{"--iface=203.0.113.1", "4", HOST,
	 ENODEV_TEXT "--iface=203.0.113.1: no interface has this address"},
	{"--iface=2001:db8:3::3", "4", HOST,
	 EAGAIN_TEXT "--iface=2001:db8:3::3: the network has no IPv6"},
	{"--iface=192.0.2.3", "4", "link=2:e addr=2:192.0.2.2/24 addr=2:192.0.2.3/24:t",
	 "e 192.0.2.3"},
	{"--iface=lo", "4", HOST "addr=1:192.0.2.200/32", "lo 192.0.2.200"},
	/* --iface-regex: on addresses, then names */
	{"--iface-regex=^198\\.51\\.", "4", HOST, "eth1 198.51.100.3"},
	{"--iface-regex=^eth", "4", HOST, "eth0 192.0.2.2"},
	{"--iface-regex=^eth", "4", "link=2:eth0 link=3:eth1 addr=3:192.0.2.3/24",
	 "eth1 192.0.2.3"},
	{"--iface-regex=3", "4", "link=2:eth3 addr=2:192.0.2.2/24 link=3:e addr=3:192.0.2.3/24",
	 "e 192.0.2.3"},
	{"--iface-regex=.", "4", HOST, "eth0 192.0.2.2"},
	{"--iface-regex=^10\\.5\\.", "4", HOST,
	 EAGAIN_TEXT "--iface-regex=^10\\.5\\. matches none of the interfaces (eth0 (192.0.2.2), "
		     "eth1 (198.51.100.3))"},
	{"--iface-regex=lo", "4", "link=1:lo addr=1:127.0.0.1/8",
	 EAGAIN_TEXT "--iface-regex=lo matches none of the interfaces (none)"},
	{"--iface-regex=nothing --iface-regex=eth1", "4", HOST, "eth1 198.51.100.3"},
	{"--iface-regex=eth0 --iface=eth1", "4", HOST, "eth1 198.51.100.3"},
	{"--iface-regex=3$", "46", HOST, "eth1 198.51.100.3 2001:db8:3::3"},
	{"--iface-regex=^198\\.", "46", HOST, "eth1 198.51.100.3 2001:db8:3::3"},
	{"--iface-regex=^eth1", "46", HOST, "eth1 198.51.100.3 2001:db8:3::3"},
	{"--iface-regex=^fe80", "6", HOST, "eth0 fe80::2"},
	/* --iface-can-reach */
	{"--iface-can-reach=198.51.100.9", "4", HOST "reach=3:198.51.100.3", "eth1 198.51.100.3"},
	{"--iface-can-reach=198.51.100.9", "46", HOST "reach=3:198.51.100.3",
	 "eth1 198.51.100.3 2001:db8:3::3"},
	{"--iface-can-reach=2001:db8:3::9", "4", HOST "reach=3:2001:db8:3::3", "eth1 198.51.100.3"},
	{"--iface-can-reach=198.51.100.9", "4", HOST,
	 EAGAIN_TEXT "--iface-can-reach=198.51.100.9: no route there yet"},
	{"--iface-can-reach=192.0.2.2", "4", HOST "reach=1:192.0.2.2",
	 EAGAIN_TEXT "--iface-can-reach=192.0.2.2: the route there is by lo, which cannot be used"},
	{"--iface-can-reach=198.51.100.9 --iface=eth0", "4", HOST "reach=3:198.51.100.3",
	 "eth0 192.0.2.2"},
	{"--iface=eth9 --iface-can-reach=198.51.100.9", "4", HOST "reach=3:198.51.100.3",
	 "eth1 198.51.100.3"},
	/* --public-ip */
	{"--public-ip=203.0.113.9", "4", HOST "via=4:0:2", "eth0 192.0.2.2>203.0.113.9"},
	{"--public-ip=203.0.113.9 --iface=eth1", "4", HOST, "eth1 198.51.100.3>203.0.113.9"},
	{"--public-ip=198.51.100.3", "4", HOST "via=4:0:2", "eth1 198.51.100.3"},
	{"--public-ip=198.51.100.3 --iface=eth0", "4", HOST, "eth0 192.0.2.2>198.51.100.3"},
	{"--public-ip=192.0.2.3 --iface=e", "4",
	 "link=2:e addr=2:192.0.2.2/24 addr=2:192.0.2.3/24:t", "e 192.0.2.3"},
	{"--public-ipv6=2001:db8:3::3", "46", HOST "via=4:0:2", "eth1 198.51.100.3 2001:db8:3::3"},
	{"--public-ip=203.0.113.9 --public-ipv6=2001:db8:f::9", "46", HOST "via=4:0:2 via=6:0:2",
	 "eth0 192.0.2.2>203.0.113.9 2001:db8:2::2>2001:db8:f::9"},
	{"--public-ip=203.0.113.9", "6", HOST "via=6:0:2", "eth0 2001:db8:2::2"},
};

static void test_choice(void **state)
{
	char text[ERR_TEXT_MAX + 16];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		choose(rows[i].flags, rows[i].families, rows[i].world, text, sizeof(text));
		if (strcmp(text, rows[i].want) != 0)
			fail_msg("row %zu [%s] (%s)\n got %s\nwant %s", i, rows[i].flags,
				 rows[i].world, text, rows[i].want);
	}
}

static struct uplink choose_first(const char *world_text)
{
	const bool enabled[IP_FAMILY_COUNT] = {[IP_V4] = true};
	char program[] = "flanneld", *argv[] = {program, NULL};
	struct options options;
	struct uplink uplink;
	struct world world;

	assert_int_equal(options_parse(1, argv, NULL, &options, NULL), 0);
	make_world(&world, world_text);
	assert_int_equal(uplink_choose(&options, enabled, &world.world, &uplink, NULL), 0);
	return uplink;
}

static void test_onlink(void **state)
{
	static const struct {
		const char *ip;
		bool want;
	} probes[] = {
		{"192.0.2.77", true},       {"198.51.100.9", true},   {"203.0.113.1", false},
		{"2001:db8:2::ffff", true}, {"2001:db8:3::1", false}, {"fe80::9", false},
	};
	struct uplink uplink = choose_first("link=2:e addr=2:192.0.2.2/24 addr=2:192.0.2.3/24:t "
					    "addr=2:198.51.100.1/24 addr=2:2001:db8:2::1/64 "
					    "addr=2:fe80::1/64 via=4:0:2");
	struct ip ip;

	(void)state;
	assert_int_equal(uplink.n_onlink, 3);
	for (size_t i = 0; i < ARRAY_SIZE(probes); i++) {
		assert_int_equal(ip_parse(probes[i].ip, &ip), 0);
		assert_int_equal(uplink_is_onlink(&uplink, &ip), probes[i].want);
	}
}

static void test_equal(void **state)
{
	struct uplink a = choose_first("link=2:e addr=2:192.0.2.2/24 addr=2:198.51.100.1/24:t "
				       "via=4:0:2");
	struct uplink b = choose_first("link=2:e addr=2:198.51.100.1/24:t addr=2:192.0.2.2/24 "
				       "via=4:0:2");

	(void)state;
	assert_true(uplink_equal(&a, &b));
	b = choose_first("link=2:e addr=2:192.0.2.2/24 via=4:0:2");
	assert_false(uplink_equal(&a, &b));
	b = a;
	b.mtu++;
	assert_false(uplink_equal(&a, &b));
	b = a;
	b.public_ip[IP_V4].b[3]++;
	assert_false(uplink_equal(&a, &b));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_choice),
		cmocka_unit_test(test_onlink),
		cmocka_unit_test(test_equal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
