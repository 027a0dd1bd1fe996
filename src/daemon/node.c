/* SPDX-License-Identifier: Apache-2.0 */
/* node.c - the life of one host
 *
 * Theory of operation. Four things arrive in any order and may change at any time:
 * the network config (store), the uplink (kernel), the own lease (store), the
 * peers (store). configure() takes the first two and makes a backend of them,
 * which says what to publish; the store then leases a subnet under it; with that,
 * node_plan.c says what is wanted. Each stage waits for the one before it and is
 * run again when that has changed. What cannot be taken over while running is
 * refused: the last good config stays in force, and health names the reason.
 * A config that is wrong at the very start ends the daemon.
 */
#include "daemon/node_internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#define UPLINK_SETTLE_MS 50 /* a NIC that changes does so in several steps */
#define FILTER_SETTLE_MS 5  /* our own transaction is noticed, too */

/* ---- failures ---- */

/* Refuses what is new and goes on with what was; ends the daemon when there is
 * nothing to go on with (@alone). */
static void refuse(struct node *node, bool alone, enum health_part part, const char *why)
{
	if (alone) {
		node->dead = true;
		node->fatal(why, node->userdata);
		return;
	}
	if (strcmp(node->refused, why)) /* the same may come with every event of the NIC */
		log_error("%s; going on with what was in force before", why);
	(void)snprintf(node->refused, sizeof(node->refused), "%s", why);
	health_degraded(node->health, part, why);
}

/* ---- one daemon per network ---- */

int node_lock(const char *name, int *ret_fd, struct err *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), code;

	if (fd < 0)
		return err_sys(err, -errno, "socket");
	/* Abstract: per network namespace, hence per host. */
	(void)snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1, "%s", name);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr))) {
		code = -errno;
		close(fd);
		return err_sys(err, code, "locking %s", name);
	}
	*ret_fd = fd;
	return 0;
}

static int lock_network(struct node *node, const struct netconf *conf, struct err *err)
{
	const struct ip_net *network = &conf->range[conf->enabled[IP_V4] ? IP_V4 : IP_V6].network;
	char text[IP_NET_STRLEN], name[IP_NET_STRLEN + 16];
	int fd = -1, code;

	if (node->network_lock >= 0 && ip_net_equal(network, &node->locked_network))
		return 0;
	(void)snprintf(name, sizeof(name), "weft/network/%s", ip_net_format(network, text));
	code = node_lock(name, &fd, err);
	if (code == -EADDRINUSE)
		return err_set(err, code, "another flanneld serves network %s on this host already",
			       text);
	if (code)
		return code;
	if (node->network_lock >= 0)
		close(node->network_lock);
	node->network_lock = fd;
	node->locked_network = *network;
	return 0;
}

/* Before the network is known --cleanup must see us, too. Containers have pids of their own. */
static void tell_running(struct node *node)
{
	char name[64];

	(void)snprintf(name, sizeof(name), "weft/running/%d/%lld", (int)getpid(),
		       (long long)loop_now_ms());
	(void)node_lock(name, &node->running_lock, NULL);
}

/* ---- config and uplink ---- */

static bool share_a_device(const struct backend *a, const struct backend *b)
{
	IP_FOREACH_FAMILY (f)
		IP_FOREACH_FAMILY (g)
			if (a->device[f] && a->device[f] == b->device[g])
				return true;
	return false;
}

/* The new backend takes over; the one before stays for the peers that still publish
 * it, where the two can stand side by side. */
static void install_backend(struct node *node, const struct backend *backend)
{
	bool had = node->has_backend;
	struct backend before = node->backend, older = node->previous;
	bool had_older = node->has_previous;
	bool keep = had && node->has_own && !share_a_device(&before, backend) &&
		    (before.ops != backend->ops || backend->ops->device);

	node->backend = *backend;
	node->has_backend = true;
	node->has_previous = keep;
	if (keep) {
		node->previous = before;
		node->previous.uplink = backend->uplink;
	}
	reconciler_set_uplink(node->reconciler, backend->uplink.name);
	if (!node->has_own)
		return; /* the kernel is not touched before the lease is ours */
	node_plan_devices(node, had && !keep ? &before : NULL);
	if (had_older)
		node_plan_give_up(node, &older);
	node_plan_all(node);
	node_tunnel_check(node);
}

/* What is in the networks that were in force before goes, too. */
static void set_claims(struct node *node, const struct netconf *before)
{
	struct diff_claims claims = {0};

	IP_FOREACH_FAMILY (f) {
		if (node->conf.enabled[f])
			claims.network[claims.n++] = node->conf.range[f].network;
		claims.subnet_len[f] = node->conf.range[f].subnet_len;
		if (node->has_old_file && ip_net_is_set(&node->old_file.network[f]))
			claims.network[claims.n++] = node->old_file.network[f];
		if (before->enabled[f])
			claims.network[claims.n++] = before->range[f].network;
	}
	reconciler_set_claims(node->reconciler, &claims);
}

static void request_lease(struct node *node)
{
	struct lease attrs = node_make_attrs(&node->backend);
	struct store_request request = {
		.conf = &node->conf,
		.attrs = &attrs,
		.preferred = node->old_file.subnet,
		.avoid = node->uplink.onlink,
		.n_avoid = node->uplink.n_onlink,
		.renew_margin_min = (unsigned)node->options->subnet_lease_renew_margin_min,
	};

	node->store->ops->acquire(node->store, &request);
	lease_done(&attrs);
}

static void warn_of_overlap(const struct netconf *conf, const struct uplink *uplink,
			    const struct ip_net *net)
{
	char a[IP_NET_STRLEN], b[IP_NET_STRLEN];

	IP_FOREACH_FAMILY (f)
		if (conf->enabled[f] && ip_net_overlaps(&conf->range[f].network, net))
			log_warning(
				"Network %s overlaps %s, which %s is connected to: subnets in it "
				"cannot be routed",
				ip_net_format(&conf->range[f].network, a), ip_net_format(net, b),
				uplink->name);
}

static void warn_of_options(const struct backend *backend, const struct netconf *conf)
{
	unsigned nic_mtu = backend->uplink.mtu;
	char unknown[160];

	if (backend->ops == &backend_vxlan && backend->vxlan.asked_mtu > nic_mtu)
		log_warning("Backend vxlan: MTU %u is larger than the %u of %s; taking that",
			    backend->vxlan.asked_mtu, nic_mtu, backend->uplink.name);

	for (size_t i = 0; i < backend->uplink.n_onlink; i++)
		warn_of_overlap(conf, &backend->uplink, &backend->uplink.onlink[i]);
	backend_unknown_options(backend, conf->backend, unknown, sizeof(unknown));
	if (*unknown)
		log_warning("Backend %s has no option %s; ignoring it", backend->ops->type,
			    unknown);
}

/* The next config is in force from now on. */
static void adopt_next_conf(struct node *node, const struct backend *backend)
{
	struct netconf before = node->conf, *conf = &node->next_conf;

	log_info("Found network config - Backend type: %s", conf->backend_type);
	warn_of_options(backend, conf);
	node->conf = *conf;
	*conf = (struct netconf){0};
	node->has_next_conf = false;
	node->has_conf = true;
	health_good(node->health, HEALTH_CONFIG);
	set_claims(node, &before);
	netconf_done(&before);
}

/* Config or uplink are new: everything behind them follows. @conf is the one in force, or
 * the next one: taken over when it works, dropped when it cannot, kept while there is no
 * uplink. */
static void configure_with(struct node *node, struct netconf *conf)
{
	bool same_conf = conf == &node->conf, same_backend;
	struct backend backend;
	struct err err;
	int code = node_find_uplink(node, conf, &err);

	if (code == -EINTR) { /* links come and go all the while */
		loop_timer_set_sooner(node->uplink_timer, UPLINK_SETTLE_MS);
		return;
	}
	if (code == -EAGAIN)
		return;
	if (!code && !same_conf)
		code = lock_network(node, conf, &err);
	if (!code)
		code = node_make_backend(node, conf, &backend, &err);
	if (code) {
		if (!same_conf) {
			netconf_done(&node->next_conf);
			node->has_next_conf = false;
			if (node->has_conf)
				(void)lock_network(node, &node->conf, NULL);
		}
		refuse(node, !node->has_backend, same_conf ? HEALTH_UPLINK : HEALTH_CONFIG,
		       err.text);
		return;
	}
	*node->refused = '\0';
	if (!same_conf)
		adopt_next_conf(node, &backend);
	same_backend = node->has_backend && backend_equal(&backend, &node->backend);
	if (same_conf && same_backend) {
		reconciler_kick(node->reconciler);
		return;
	}
	node_rules_want(node);
	if (!same_backend)
		install_backend(node, &backend);
	else if (node->has_own)
		node_plan_all(node); /* other peers may lie inside Network now */
	request_lease(node);
	if (node->has_own)
		loop_timer_set(node->file_timer, 0); /* Network or MTU may be another */
}

static void configure(struct node *node)
{
	if (node->dead)
		return;
	if (node->has_next_conf)
		configure_with(node, &node->next_conf);
	else if (node->has_conf)
		configure_with(node, &node->conf);
}

/* Whether the running node can take @conf over: pods hold addresses of the subnet. */
static int check_live_change(const struct node *node, const struct netconf *conf, struct err *err)
{
	char a[IP_NET_STRLEN], b[IP_NET_STRLEN];

	IP_FOREACH_FAMILY (f) {
		if (conf->enabled[f] != node->conf.enabled[f])
			return err_set(err, -EBUSY,
				       "EnableIPv%c cannot change while flanneld runs: restart it",
				       f == IP_V4 ? '4' : '6');
		if (!conf->enabled[f] || !node->has_own ||
		    ip_net_contains_net(&conf->range[f].network, &node->own.subnet[f]))
			continue;
		return err_set(err, -EBUSY,
			       "Network %s does not hold our subnet %s, whose addresses pods have: "
			       "restart flanneld and the pods",
			       ip_net_format(&conf->range[f].network, a),
			       ip_net_format(&node->own.subnet[f], b));
	}
	return 0;
}

/* ---- events ---- */

/* What is right, and has no effect. */
static void warn_of_idle_members(const char *text, size_t len, const char *place,
				 const struct netconf *conf)
{
	enum ip_family f;
	char list[160];

	if (netconf_unknown_keys(text, len, list, sizeof(list)))
		log_warning("%s: there is no key %s; ignoring it", place, list);
	f = netconf_idle_keep(conf, list, sizeof(list));
	if (f != IP_NONE)
		log_warning("%s: nonMasqueradeCIDRs: the network has no %s; ignoring %s", place,
			    ip_family_name(f), list);
}

static void on_config(const char *text, size_t len, const char *place, void *userdata)
{
	struct node *node = userdata;
	struct netconf conf = {0};
	struct err err;
	int code;

	if (node->dead)
		return;
	if (!*node->store_problem)
		health_good(node->health, HEALTH_STORE);
	free(node->config_place);
	node->config_place = mem_strdup(place);
	code = netconf_parse(text, len, place, &conf, &err);
	if (!code) {
		code = netconf_check_ranges(&conf, &err);
		if (node->store->gives_subnets)
			code = 0; /* they tell what subnets are like when they are right */
		if (!code && node->has_conf)
			code = check_live_change(node, &conf, &err);
		if (code)
			(void)err_wrap(&err, code, "%s", place);
	}
	if (code) {
		refuse(node, !node->has_conf && !node->has_next_conf, HEALTH_CONFIG, err.text);
		netconf_done(&conf);
		return;
	}
	warn_of_idle_members(text, len, place, &conf);
	if (conf.backend_defaulted)
		log_info("%s names no Backend: taking vxlan", place);
	if (!node->has_conf)
		health_good(node->health, HEALTH_CONFIG);
	netconf_done(&node->next_conf);
	node->next_conf = conf;
	node->has_next_conf = true;
	configure(node);
}

static void on_own(const struct lease *own, void *userdata)
{
	struct node *node = userdata;
	bool had = node->has_own;
	char key[LEASE_KEY_MAX], old_key[LEASE_KEY_MAX];

	lease_format_key(own->subnet, key);
	if (had)
		log_warning("Our lease is %s now; pods that have addresses of %s must be restarted",
			    key, lease_format_key(node->own.subnet, old_key));
	else
		log_info("Lease acquired: %s", key);
	lease_done(&node->own);
	node->own = lease_copy(own);
	node->has_own = true;
	health_good(node->health, HEALTH_LEASE);
	node_plan_devices(node, NULL);
	node_plan_all(node);
	node_tunnel_check(node);
	node_forwarding_check(node);
	node_rules_want(node);
	if (had)
		loop_timer_set(node->file_timer, 0);
}

static void on_synced(void *userdata)
{
	struct node *node = userdata;

	log_info("Watching for new subnet leases");
	node->synced = true;
	if (*node->store_problem) /* told before, when nothing was there yet */
		health_degraded(node->health, HEALTH_STORE, node->store_problem);
	health_good(node->health, HEALTH_PEERS);
	node_plan_first(node);
	node_sweep_devices(node);
	reconciler_allow_removal(node->reconciler);
}

static void on_store_state(const char *problem, void *userdata)
{
	struct node *node = userdata;

	(void)snprintf(node->store_problem, sizeof(node->store_problem), "%s",
		       problem ? problem : "");
	if (!problem) {
		log_info("The datastore is fine again");
		health_good(node->health, HEALTH_STORE);
		health_announce(node->health); /* if it was the last part */
		return;
	}
	log_warning("Datastore: %s", problem);
	if (node->synced)
		health_degraded(node->health, HEALTH_STORE, problem);
	else
		health_missing(node->health, HEALTH_STORE, problem);
}

static void on_public_ip(const struct ip public_ip[IP_FAMILY_COUNT], void *userdata)
{
	struct node *node = userdata;
	char ip[IP_STRLEN];

	IP_FOREACH_FAMILY (f) {
		if (ip_equal(&public_ip[f], &node->public_ip[f]))
			continue;
		if (ip_is_set(&public_ip[f]))
			log_info("The datastore gives us the public %s %s", ip_family_name(f),
				 ip_format(&public_ip[f], ip));
		else
			log_info("The datastore gives us no public %s any more", ip_family_name(f));
		node->public_ip[f] = public_ip[f];
	}
	loop_timer_set_sooner(node->uplink_timer, 0);
}

static void on_world_changed(void *userdata)
{
	struct node *node = userdata;

	loop_timer_set_sooner(node->uplink_timer, UPLINK_SETTLE_MS);
}

static void on_uplink_timer(void *userdata)
{
	struct node *node = userdata;

	configure(node);
	node_forwarding_check(node);
}

static void on_plan_timer(void *userdata)
{
	struct node *node = userdata;

	if (!node->synced || node->dead)
		return;
	node_plan_drop_previous(node);
	if (reconciler_has_conflicts(node->reconciler))
		node_plan_all(node);
}

static void on_filter_changed(void *userdata)
{
	struct node *node = userdata;

	loop_timer_set_sooner(node->filter_timer, FILTER_SETTLE_MS);
}

static void on_filter_timer(void *userdata)
{
	node_filter_check(userdata);
}

static void on_tunnel_changed(void *userdata)
{
	node_tunnel_set_peers(userdata);
}

static void on_failing(const char *why, void *userdata)
{
	struct node *node = userdata;

	health_missing(node->health, HEALTH_KERNEL, why);
}

static void on_settled(void *userdata)
{
	struct node *node = userdata;
	struct reconciler_status status;

	if (!node->synced)
		return;
	reconciler_get_status(node->reconciler, &status);
	if (status.failing)
		health_degraded(node->health, HEALTH_KERNEL, status.failure);
	else
		health_good(node->health, HEALTH_KERNEL);
	node_plan_drop_previous(node);
	node_tunnel_check(node);
	node_file_write_when_ready(node);
	/* Replacing a rule takes the kernel 10 ms; until then the former one is in force. */
	node_filter_activate(node);
}

/* ---- life ---- */

int node_new(struct loop *loop, const struct options *options, struct health *health,
	     node_fatal_fn fatal, void *userdata, struct node **ret_node, struct err *err)
{
	struct node *node = mem_alloc(1, sizeof(*node));
	const struct reconciler_events kernel_events = {on_world_changed,  on_filter_changed,
							on_tunnel_changed, on_failing,
							on_settled,        node};
	const struct store_events store_events = {on_config,      on_own,       on_synced,
						  on_store_state, on_public_ip, node};
	char description[256];
	int code;

	node->loop = loop;
	node->options = options;
	node->health = health;
	node->fatal = fatal;
	node->userdata = userdata;
	node->network_lock = node->rules_lock = node->rules_owner = node->running_lock = -1;
	tell_running(node);
	code = reconciler_new(loop, &kernel_events, &node->reconciler, err);
	if (code) {
		node_free(node);
		return code;
	}
	node->uplink_timer = loop_timer_new(loop, on_uplink_timer, node);
	node->plan_timer = loop_timer_new(loop, on_plan_timer, node);
	node->file_timer = loop_timer_new(loop, node_file_write, node);
	node->filter_timer = loop_timer_new(loop, on_filter_timer, node);
	node->rules_timer = loop_timer_new(loop, node_rules_want, node);
	node->forwarding_timer = loop_timer_new(loop, node_forwarding_check, node);
	node->tunnel.timer = loop_timer_new(loop, node_tunnel_check, node);
	node_metrics_serve(node);
	node->peers = peers_new(node_plan_peer, node);
	peers_set_usable(node->peers, node_plan_is_usable);
	code = node_open_store(node, &store_events, err);
	if (code) {
		node_free(node);
		return code;
	}
	node_file_read_old(node);
	node->store->ops->describe(node->store, description, sizeof(description));
	log_info("Created subnet manager: %s", description);
	health_missing(node->health, HEALTH_STORE, "connecting");
	node->store->ops->start(node->store);
	*ret_node = node;
	return 0;
}

void node_refresh(struct node *node)
{
	configure(node);
	node_forwarding_check(node);
	reconciler_resync(node->reconciler);
	if (node->rules)
		rules_check(node->rules);
}

void node_free(struct node *node)
{
	if (!node)
		return;
	if (node->store)
		node->store->ops->free(node->store);
	peers_free(node->peers);
	node_tunnel_done(node);
	reconciler_free(node->reconciler);
	loop_event_free(node->uplink_timer);
	loop_event_free(node->plan_timer);
	loop_event_free(node->file_timer);
	loop_event_free(node->filter_timer);
	loop_event_free(node->rules_timer);
	loop_event_free(node->forwarding_timer);
	rules_free(node->rules);
	node_filter_done(node);
	netconf_done(&node->conf);
	netconf_done(&node->next_conf);
	lease_done(&node->own);
	free(node->file_text);
	free(node->config_place);
	if (node->network_lock >= 0)
		close(node->network_lock);
	if (node->rules_lock >= 0)
		close(node->rules_lock);
	if (node->rules_owner >= 0)
		close(node->rules_owner);
	if (node->running_lock >= 0)
		close(node->running_lock);
	free(node);
}
