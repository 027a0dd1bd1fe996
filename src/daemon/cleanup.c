/* SPDX-License-Identifier: Apache-2.0 */
/* cleanup.c - flanneld --cleanup: removes what flanneld has left on this host
 *
 * There is no config and no lease to go by, so ours is what says so itself: devices by
 * their alias, routes by their protocol number, nftables tables and iptables chains by
 * their names, rules by their comments. Devices, addresses and routes of the original
 * flannel that we have never seen say nothing, and stay.
 */
#include "daemon/cleanup.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "daemon/node.h"
#include "kernel/fou.h"
#include "kernel/link.h"
#include "kernel/route.h"
#include "model/subnet_file.h"
#include "rules/nft.h"
#include "rules/rules.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tunnel.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define RULES_TIMEOUT_MS  90000 /* a child has up to 60 s */
#define POLL_MS           5
#define DUMPS_MAX         10
#define SOCKETS_MAX_BYTES (16 * 1024 * 1024)

struct cleanup {
	struct loop *loop;
	const struct options *options;
	struct netlink *nl;
	/* Ours, from the last dump. */
	struct route *route;
	struct link *link;
	size_t n_routes, n_links;
	struct rules *rules;
	struct event *poll;
	int64_t deadline_ms;
	size_t removed, failed;
};

static void note(struct cleanup *c, int code, const char *what, const struct err *err)
{
	if (!code) {
		c->removed++;
		log_info("Removed %s", what);
	} else {
		c->failed++;
		log_error("Removing %s failed: %s", what, err->text);
	}
}

/* ---- is anybody at home ---- */

static int check_alone(struct err *err)
{
	static const char prefix[] = "@weft/network/", running[] = "@weft/running/";
	_cleanup_free_ char *sockets = NULL;
	const char *name;
	size_t len;
	int code = file_read(AT_FDCWD, "/proc/net/unix", SOCKETS_MAX_BYTES, &sockets, &len, err);

	if (code)
		return err_wrap(err, code, "cannot tell whether flanneld is running");
	name = strstr(sockets, prefix);
	if (!name && strstr(sockets, running))
		return err_set(err, -EBUSY,
			       "flanneld is running on this host, and waits for its network: stop "
			       "it first");
	if (!name)
		return 0;
	name += strlen(prefix);
	return err_set(err, -EBUSY,
		       "flanneld is running on this host, for network %.*s: stop it first",
		       (int)strcspn(name, "@\n"), name);
}

/* ---- rules ---- */

static void on_state(const char *problem, void *userdata)
{
	struct cleanup *c = userdata;

	if (problem) {
		log_error("Removing the rules failed: %s", problem);
		c->failed++;
	}
}

static void on_notice(const char *text, void *userdata)
{
	(void)text;
	(void)userdata;
}

static void on_poll(void *userdata)
{
	struct cleanup *c = userdata;

	if (rules_is_idle(c->rules) || loop_now_ms() > c->deadline_ms)
		loop_exit(c->loop);
	else
		loop_timer_set(c->poll, POLL_MS);
}

static void remove_rules(struct cleanup *c)
{
	const struct rules_events events = {on_state, on_notice, NULL, c};
	const struct policy nothing = {0};

	c->rules = rules_new(c->loop, c->options->iptables_resync_s, &events);
	c->poll = loop_timer_new(c->loop, on_poll, c);
	c->deadline_ms = loop_now_ms() + RULES_TIMEOUT_MS;
	rules_want(c->rules, &nothing, true);
	loop_timer_set(c->poll, 0);
	loop_run(c->loop);
	if (!rules_is_idle(c->rules))
		on_state("iptables does not come to an end", c);
	c->removed += rules_n_removed(c->rules);
	loop_event_free(c->poll);
	rules_free(c->rules);
}

/* The peer filters: tables named after their device, which may have gone before. */
static void remove_filters(struct cleanup *c)
{
	_cleanup_free_ char *list = NULL;
	char *rest, *line;

	if (nft_list("tables", &list, NULL))
		return; /* no nftables here */
	for (line = strtok_r(list, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		char command[128], what[128];
		struct err err;

		if (strncmp(line, "table ip weft-", strlen("table ip weft-")) != 0 &&
		    strncmp(line, "table ip6 weft-", strlen("table ip6 weft-")) != 0)
			continue;
		(void)snprintf(command, sizeof(command), "delete %.100s\n", line);
		(void)snprintf(what, sizeof(what), "nftables %.100s", line);
		note(c, nft_run(command, &err), what, &err);
	}
}

/* ---- routes and devices ---- */

/* What was found is deleted when the dump is at its end: a kernel may pass over something
 * when what it lists changes meanwhile. */
static void on_route(const struct nlmsghdr *msg, void *userdata)
{
	struct cleanup *c = userdata;
	struct route route;

	if (route_parse(msg, &route) || route.table != RT_TABLE_MAIN ||
	    route.protocol != ROUTE_PROTOCOL_WEFT)
		return;
	c->route = mem_realloc(c->route, c->n_routes + 1, sizeof(*c->route));
	c->route[c->n_routes++] = route;
}

static void on_link(const struct nlmsghdr *msg, void *userdata)
{
	struct cleanup *c = userdata;
	struct link link;

	if (link_parse(msg, &link) || strncmp(link.alias, "weft ", strlen("weft ")) != 0 ||
	    !*link.kind)
		return;
	c->link = mem_realloc(c->link, c->n_links + 1, sizeof(*c->link));
	c->link[c->n_links++] = link;
}

/* Dumps until nobody changes what is listed meanwhile, a few times. */
static int find_all(struct cleanup *c, bool links, enum ip_family f, struct err *err)
{
	int code = -EINTR;

	for (int i = 0; i < DUMPS_MAX && code == -EINTR; i++) {
		char buf[NETLINK_MESSAGE_MAX] = {0};

		c->n_routes = c->n_links = 0;
		code = netlink_dump(c->nl, links ? link_put_dump(buf) : route_put_dump(buf, f),
				    links ? on_link : on_route, c, err);
	}
	return code == -ENOENT ? 0 : code; /* a host without any route of the family */
}

/* The port has no mark of its own; it is ours as the device is whose it was. */
static void close_fou_port(struct cleanup *c, const struct link *link)
{
	char what[32];
	struct err err;

	if (strcmp(link->kind, "ipip") != 0 || link->ipip.encap != TUNNEL_ENCAP_FOU)
		return;
	(void)snprintf(what, sizeof(what), "FOU port %u", link->ipip.port);
	note(c, fou_close(link->ipip.port, &err), what, &err);
}

static void delete_all(struct cleanup *c)
{
	char net[IP_NET_STRLEN], what[IP_NET_STRLEN + IFNAMSIZ + 16];
	struct err err;

	for (size_t i = 0; i < c->n_routes; i++) {
		char buf[NETLINK_MESSAGE_MAX] = {0};

		(void)snprintf(what, sizeof(what), "route %s",
			       ip_net_format(&c->route[i].dst, net));
		note(c,
		     netlink_request(c->nl, route_put_delete(buf, &c->route[i]), NULL, NULL, &err),
		     what, &err);
	}
	for (size_t i = 0; i < c->n_links; i++) {
		char buf[NETLINK_MESSAGE_MAX] = {0};

		(void)snprintf(what, sizeof(what), "device %s", c->link[i].name);
		note(c,
		     netlink_request(c->nl, link_put_delete(buf, c->link[i].ifindex), NULL, NULL,
				     &err),
		     what, &err);
		close_fou_port(c, &c->link[i]);
	}
}

static void remove_from_kernel(struct cleanup *c)
{
	struct err err;

	if (netlink_open(NETLINK_ROUTE, &c->nl, &err)) {
		note(c, -EIO, "routes and devices", &err);
		return;
	}
	IP_FOREACH_FAMILY (f) {
		if (find_all(c, false, f, &err))
			note(c, -EIO, "routes", &err);
		delete_all(c);
	}
	if (find_all(c, true, IP_V4, &err))
		note(c, -EIO, "devices", &err);
	delete_all(c);
	free(c->route);
	free(c->link);
	netlink_close(c->nl);
}

/* ---- files ---- */

static void remove_file(struct cleanup *c, const char *path)
{
	struct err err = {""};
	int code = unlink(path) ? -errno : 0;

	/* A file system that is read-only, or a directory that is none, says so of files that
	 * are not there, too. */
	if (code && access(path, F_OK))
		return;
	note(c, code ? err_sys(&err, code, "unlink") : 0, path, &err);
}

static void remove_files(struct cleanup *c)
{
	_cleanup_free_ char *state = node_state_path(c->options), *lock = NULL;
	_cleanup_free_ char *status = subnet_file_status_path(c->options->subnet_file);

	if (asprintf(&lock, "%s.lock", c->options->subnet_file) < 0)
		abort();
	remove_file(c, c->options->subnet_file);
	remove_file(c, lock);
	remove_file(c, status);
	if (*c->options->state_dir)
		remove_file(c, state);
}

int cleanup_run(struct loop *loop, const struct options *options, struct err *err)
{
	struct cleanup c = {.loop = loop, .options = options};
	int code = check_alone(err);

	if (code)
		return code;
	remove_rules(&c);
	remove_filters(&c);
	remove_from_kernel(&c);
	if (options->cleanup_files)
		remove_files(&c);
	if (c.failed)
		return err_set(err, -EIO, "%zu of %zu things could not be removed", c.failed,
			       c.failed + c.removed);
	if (!c.removed)
		log_info("Nothing of flanneld is left on this host");
	return 0;
}
