/* SPDX-License-Identifier: Apache-2.0 */
/* uplink.c - which NIC and which addresses carry the overlay: the choice
 *
 * Each way of choosing (a flag's value, the default routes) offers a candidate: a
 * link, and perhaps an address of it per family. complete() fills in the addresses
 * that are still missing; the first candidate that it can complete wins. Why the
 * others did not is gathered in the error, because the operator who named them
 * wants to know all of it at once.
 *
 * Preferences among addresses are those of flannel (pkg/ip/iface.go, compareAddrs),
 * but an IPv6 address that is still tentative is not taken: nothing could be sent
 * from it.
 */
#include "daemon/uplink.h"

#include "base/mem.h"
#include "daemon/options.h"
#include "daemon/pattern.h"

#include <errno.h>
#include <limits.h>
#include <linux/rtnetlink.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_LINKS_MAX 32

/* Everything that the ways of choosing read, and what the first to succeed writes. */
struct choice {
	const struct options *options;
	const bool *enabled; /* by family */
	const struct uplink_world *world;
	struct uplink uplink;
	char reasons[ERR_TEXT_MAX];
	bool may_come; /* some candidate lacks only what may come by itself */
};

__attribute__((format(printf, 2, 3))) static int refuse(struct choice *choice, const char *fmt, ...)
{
	size_t n = strlen(choice->reasons);
	va_list ap;

	if (n && n < sizeof(choice->reasons) - 3)
		n += (size_t)snprintf(choice->reasons + n, sizeof(choice->reasons) - n, "; ");
	va_start(ap, fmt);
	(void)vsnprintf(choice->reasons + n, sizeof(choice->reasons) - n, fmt, ap);
	va_end(ap);
	return -EAGAIN;
}

static const struct link *link_by_index(const struct uplink_world *world, int ifindex)
{
	for (size_t i = 0; i < world->n_links; i++)
		if (world->links[i].ifindex == ifindex)
			return &world->links[i];
	return NULL;
}

static const struct link *link_by_name(const struct uplink_world *world, const char *name)
{
	for (size_t i = 0; i < world->n_links; i++)
		if (!strcmp(world->links[i].name, name))
			return &world->links[i];
	return NULL;
}

static const struct link *link_by_address(const struct uplink_world *world, const struct ip *ip)
{
	for (size_t i = 0; i < world->n_addrs; i++)
		if (ip_equal(&world->addrs[i].net.ip, ip))
			return link_by_index(world, world->addrs[i].ifindex);
	return NULL;
}

/* Nobody who does not name them means loopback or a device of ours. */
static bool is_eligible(const struct link *link)
{
	return link && !link->loopback && strncmp(link->name, "flannel", strlen("flannel")) != 0;
}

/* How good an address is as the end of a tunnel: less is better, -1 is not at all. One
 * that is still checked for duplicates will do: it is the one that we had before a reboot,
 * and a link-local one in its stead would cost us our lease. */
static int address_rank(const struct addr *addr)
{
	const bool global = ip_is_global_unicast(&addr->net.ip);

	if (addr->deprecated || (!global && !ip_is_link_local(&addr->net.ip)))
		return -1;
	return (global ? 0 : 4) + (addr->tentative ? 2 : 0) + (addr->temporary ? 1 : 0);
}

/* The best address of @family on @link that matches @pattern (NULL: any); of equal
 * ones the first in the kernel's order. */
static const struct ip *best_address(const struct uplink_world *world, const struct link *link,
				     enum ip_family family, const struct pattern *pattern)
{
	const struct ip *best = NULL;
	int best_rank = INT_MAX;

	for (size_t i = 0; i < world->n_addrs; i++) {
		const struct addr *addr = &world->addrs[i];
		int rank = address_rank(addr);
		char text[IP_STRLEN];

		if (addr->ifindex != link->ifindex || addr->net.ip.family != family || rank < 0 ||
		    rank >= best_rank)
			continue;
		if (pattern && !pattern_matches(pattern, ip_format(&addr->net.ip, text)))
			continue;
		best = &addr->net.ip;
		best_rank = rank;
	}
	return best;
}

static bool has_address(const struct uplink_world *world, const struct link *link,
			const struct ip *ip)
{
	for (size_t i = 0; i < world->n_addrs; i++)
		if (world->addrs[i].ifindex == link->ifindex &&
		    ip_equal(&world->addrs[i].net.ip, ip))
			return true;
	return false;
}

/* Adds @net's prefix, sorted and once, so that two snapshots in another order of the
 * same addresses make equal uplinks. */
static void add_onlink(struct uplink *uplink, const struct ip_net *net)
{
	struct ip_net base = ip_net_base(net);
	size_t at = 0;

	while (at < uplink->n_onlink && memcmp(&uplink->onlink[at], &base, sizeof(base)) < 0)
		at++;
	if (at < uplink->n_onlink && ip_net_equal(&uplink->onlink[at], &base))
		return;
	if (uplink->n_onlink == UPLINK_ONLINK_MAX)
		return;
	memmove(&uplink->onlink[at + 1], &uplink->onlink[at],
		(uplink->n_onlink - at) * sizeof(base));
	uplink->onlink[at] = base;
	uplink->n_onlink++;
}

/* Fills the chosen link's addresses in: those in @given, where unset the best one.
 * 0, or -EAGAIN when a family has none. @what is how the link was found. */
static int complete(struct choice *choice, const struct link *link,
		    const struct ip given[IP_FAMILY_COUNT], const char *what)
{
	const struct uplink_world *world = choice->world;
	struct uplink uplink = {.ifindex = link->ifindex, .mtu = link->mtu, .up = link->up};

	memcpy(uplink.name, link->name, sizeof(uplink.name));
	for (enum ip_family f = IP_V4; f < IP_FAMILY_COUNT; f++) {
		const struct ip *wish = &choice->options->public_ip[f];
		const struct ip *addr = best_address(world, link, f, NULL);

		if (!choice->enabled[f])
			continue;
		/* The address that peers are told is the one to send from, if it is here.
		 */
		if (ip_is_set(wish) && has_address(world, link, wish))
			addr = wish;
		if (ip_is_set(&given[f]))
			addr = &given[f];
		if (!addr) {
			choice->may_come = true;
			return refuse(choice, "%s: %s has no %s address yet", what, link->name,
				      ip_family_name(f));
		}
		uplink.addr[f] = *addr;
		uplink.public_ip[f] = ip_is_set(wish) ? *wish : *addr;
	}
	if (!link->mtu) {
		choice->may_come = true;
		return refuse(choice, "%s: the MTU of %s is unknown", what, link->name);
	}
	for (size_t i = 0; i < world->n_addrs; i++)
		if (world->addrs[i].ifindex == link->ifindex &&
		    !ip_is_link_local(&world->addrs[i].net.ip))
			add_onlink(&uplink, &world->addrs[i].net);
	choice->uplink = uplink;
	return 0;
}

/* --iface, or --public-ip in its stead: @text is a name or an address. */
static int try_named(struct choice *choice, const char *flag, const char *text)
{
	struct ip given[IP_FAMILY_COUNT] = {{0}}, ip;
	const struct link *link;
	char what[160];

	(void)snprintf(what, sizeof(what), "%s=%.100s", flag, text);
	if (ip_parse(text, &ip) < 0) {
		link = link_by_name(choice->world, text);
		if (!link)
			return refuse(choice, "%s: there is no such interface", what);
		return complete(choice, link, given, what);
	}
	if (!choice->enabled[ip.family]) {
		choice->may_come = true; /* the network config may change */
		return refuse(choice, "%s: the network has no %s", what, ip_family_name(ip.family));
	}
	link = link_by_address(choice->world, &ip);
	if (!link)
		return refuse(choice, "%s: no interface has this address", what);
	given[ip.family] = ip;
	return complete(choice, link, given, what);
}

/* How a regular expression is laid against a link; tried in this order. The last is
 * ours: a pattern that fits addresses of one family is enough in dual-stack. */
enum match { MATCH_EVERY_FAMILY, MATCH_NAME, MATCH_ANY_FAMILY, MATCH_COUNT };

static bool link_matches(const struct choice *choice, const struct link *link,
			 const struct pattern *pattern, enum match match,
			 struct ip ret_given[IP_FAMILY_COUNT])
{
	unsigned n_wanted = 0, n_matched = 0;

	memset(ret_given, 0, IP_FAMILY_COUNT * sizeof(*ret_given));
	if (match == MATCH_NAME)
		return pattern_matches(pattern, link->name);
	for (enum ip_family f = IP_V4; f < IP_FAMILY_COUNT; f++) {
		const struct ip *addr = NULL;

		if (!choice->enabled[f])
			continue;
		n_wanted++;
		addr = best_address(choice->world, link, f, pattern);
		if (addr) {
			ret_given[f] = *addr;
			n_matched++;
		}
	}
	return n_matched > 0 && (match == MATCH_ANY_FAMILY || n_matched == n_wanted);
}

/* The eligible links for a person, "eth0, eth1 (192.0.2.1)", cut to the buffer. */
static const char *list_links(const struct choice *choice, char *buf, size_t size)
{
	const struct uplink_world *world = choice->world;
	size_t n = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < world->n_links && n < size; i++) {
		const struct link *link = &world->links[i];
		const struct ip *addr = NULL;
		char text[IP_STRLEN];

		if (!is_eligible(link))
			continue;
		for (enum ip_family f = IP_V4; f < IP_FAMILY_COUNT; f++)
			if (choice->enabled[f] && !addr)
				addr = best_address(world, link, f, NULL);
		n += (size_t)snprintf(buf + n, size - n, addr ? "%s%s (%s)" : "%s%s", n ? ", " : "",
				      link->name, addr ? ip_format(addr, text) : "");
	}
	return *buf ? buf : "none";
}

static int try_pattern(struct choice *choice, const char *text, const struct pattern *pattern)
{
	const struct uplink_world *world = choice->world;
	struct ip given[IP_FAMILY_COUNT];
	char what[160], links[200];
	bool found = false;

	(void)snprintf(what, sizeof(what), "--iface-regex=%.100s", text);
	for (enum match match = 0; match < MATCH_COUNT; match++) {
		for (size_t i = 0; i < world->n_links; i++) {
			const struct link *link = &world->links[i];

			if (!is_eligible(link) ||
			    !link_matches(choice, link, pattern, match, given))
				continue;
			found = true;
			if (complete(choice, link, given, what) == 0)
				return 0;
		}
	}
	choice->may_come = true;
	if (found)
		return -EAGAIN;
	return refuse(choice, "%s matches none of the interfaces (%s)", what,
		      list_links(choice, links, sizeof(links)));
}

static int try_can_reach(struct choice *choice)
{
	const struct uplink_world *world = choice->world;
	const struct link *link = link_by_index(world, world->can_reach_ifindex);
	struct ip given[IP_FAMILY_COUNT] = {{0}};
	char what[80], text[IP_STRLEN];

	(void)snprintf(what, sizeof(what), "--iface-can-reach=%s",
		       ip_format(&choice->options->iface_can_reach, text));
	choice->may_come = true;
	if (!link)
		return refuse(choice, "%s: no route there yet", what);
	if (!is_eligible(link))
		return refuse(choice, "%s: the route there is by %s, which cannot be used", what,
			      link->name);
	if (ip_is_set(&world->can_reach_source))
		given[world->can_reach_source.family] = world->can_reach_source;
	return complete(choice, link, given, what);
}

static bool contains(const struct link *const *links, size_t n, const struct link *link)
{
	for (size_t i = 0; i < n; i++)
		if (links[i] == link)
			return true;
	return false;
}

/* The least metric from @floor on among the default routes of @family; UINT64_MAX: none. */
static uint64_t next_metric(const struct uplink_world *world, enum ip_family family, uint64_t floor)
{
	uint64_t metric = UINT64_MAX;

	for (size_t i = 0; i < world->n_defaults; i++) {
		const struct route *route = &world->defaults[i];

		if (route->dst.ip.family == family && route->type == RTN_UNICAST &&
		    route->metric >= floor && route->metric < metric)
			metric = route->metric;
	}
	return metric;
}

/* The links of the default routes of @family, each once, best metric first, every
 * nexthop of a multipath route, at most @max. Returns how many. */
static size_t default_links(const struct uplink_world *world, enum ip_family family,
			    const struct link **ret_links, size_t max)
{
	uint64_t metric = next_metric(world, family, 0);
	size_t n = 0;

	for (; metric != UINT64_MAX; metric = next_metric(world, family, metric + 1)) {
		for (size_t i = 0; i < world->n_defaults; i++) {
			const struct route *route = &world->defaults[i];

			if (route->dst.ip.family != family || route->metric != metric ||
			    route->type != RTN_UNICAST)
				continue;
			for (unsigned k = 0; k < route->n_nexthops && n < max; k++) {
				const struct link *link =
					link_by_index(world, route->nexthop[k].ifindex);

				if (is_eligible(link) && !contains(ret_links, n, link))
					ret_links[n++] = link;
			}
		}
	}
	return n;
}

/* The interface of the default route; in dual-stack of the default routes, both. */
static int try_default(struct choice *choice)
{
	const struct link *links[DEFAULT_LINKS_MAX], *links6[DEFAULT_LINKS_MAX];
	const struct ip given[IP_FAMILY_COUNT] = {{0}};
	const bool dual = choice->enabled[IP_V4] && choice->enabled[IP_V6];
	enum ip_family family = choice->enabled[IP_V4] ? IP_V4 : IP_V6;
	size_t n = default_links(choice->world, family, links, ARRAY_SIZE(links));
	size_t n6 = dual ? default_links(choice->world, IP_V6, links6, ARRAY_SIZE(links6)) : 0;
	bool tried = false;

	choice->may_come = true;
	if (!n || (dual && !n6))
		return refuse(choice, "no %s default route yet (none is needed with --iface)",
			      ip_family_name(n ? IP_V6 : family));
	for (size_t i = 0; i < n; i++) {
		if (dual && !contains(links6, n6, links[i]))
			continue;
		tried = true;
		if (complete(choice, links[i], given, "default route") == 0)
			return 0;
	}
	if (tried)
		return -EAGAIN;
	return refuse(choice,
		      "the default routes of IPv4 (%s) and IPv6 (%s) must be on one "
		      "interface; choose it by --iface",
		      links[0]->name, links6[0]->name);
}

/* Without any flag that chooses, the interface that has the public address. */
static int try_public_ip(struct choice *choice)
{
	static const char *const flags[IP_FAMILY_COUNT] = {
		[IP_V4] = "--public-ip",
		[IP_V6] = "--public-ipv6",
	};

	for (enum ip_family f = IP_V4; f < IP_FAMILY_COUNT; f++) {
		const struct ip *ip = &choice->options->public_ip[f];
		const struct link *link = NULL;
		char text[IP_STRLEN];

		if (choice->enabled[f] && ip_is_set(ip))
			link = link_by_address(choice->world, ip);
		if (is_eligible(link))
			return try_named(choice, flags[f], ip_format(ip, text));
	}
	return -EAGAIN; /* an address outside of a NAT, say */
}

static int try_patterns(struct choice *choice, struct err *err)
{
	const struct options_list *list = &choice->options->iface_regex;

	for (size_t i = 0; i < list->n; i++) {
		struct pattern *pattern;
		int r = pattern_new(list->item[i], &pattern, err);

		if (r < 0)
			return err_wrap(err, r, "--iface-regex=%.100s", list->item[i]);
		r = try_pattern(choice, list->item[i], pattern);
		pattern_free(pattern);
		if (r == 0)
			return 0;
	}
	return -EAGAIN;
}

/* 0, -EAGAIN when nothing would do, -EINVAL. */
static int try_all(struct choice *choice, struct err *err)
{
	const struct options *o = choice->options;
	int r;

	if (!o->iface.n && !o->iface_regex.n && !ip_is_set(&o->iface_can_reach)) {
		r = try_public_ip(choice);
		return r == 0 ? 0 : try_default(choice);
	}
	for (size_t i = 0; i < o->iface.n; i++)
		if (try_named(choice, "--iface", o->iface.item[i]) == 0)
			return 0;
	r = try_patterns(choice, err);
	if (r != -EAGAIN)
		return r;
	return ip_is_set(&o->iface_can_reach) ? try_can_reach(choice) : -EAGAIN;
}

int uplink_choose(const struct options *options, const bool enabled[IP_FAMILY_COUNT],
		  const struct uplink_world *world, struct uplink *ret_uplink, struct err *err)
{
	struct choice choice = {.options = options, .enabled = enabled, .world = world};
	int r;

	if (!enabled[IP_V4] && !enabled[IP_V6])
		return err_set(err, -EINVAL, "neither IPv4 nor IPv6 is enabled");
	r = try_all(&choice, err);
	if (r == -EAGAIN)
		return err_set(err, choice.may_come ? -EAGAIN : -ENODEV, "%s", choice.reasons);
	if (r == 0)
		*ret_uplink = choice.uplink;
	return r;
}
