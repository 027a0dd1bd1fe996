/* SPDX-License-Identifier: Apache-2.0 */
/* node_rules.c - what packets of pods need from this host: forwarding, the masquerade
 * and forward rules
 *
 * Rules are wanted as soon as the own subnet is known; the subnet file, which makes pods
 * possible, waits until they have been tried. All networks of a host share the names of
 * chains and tables, so one daemon keeps them: the one that was first. Its rules are for
 * pods that go on when it stops; so whoever has seen another keep them leaves them alone, also
 * when that one is gone, until it is started anew. Who wants none removes what was there, and
 * gives way.
 */
#include "daemon/node_internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "kernel/sysctl.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define LOCK_NAME    "weft/rules"
#define OWNER_PREFIX "weft/rules/" /* and the network that the rules are for */
#define SOCKETS_MAX  (16 * 1024 * 1024)
#define RETRY_MS     20000
#define GIVE_WAY_MS  1000

/* ---- rules ---- */

static struct policy make_policy(const struct node *node)
{
	const struct options *options = node->options;
	struct policy policy = {
		.masquerade = options->ip_masq,
		.fully_random = !options->ip_masq_fully_random_disable,
		.forward = options->iptables_forward_rules,
	};

	static_assert(POLICY_KEEP_MAX == NETCONF_KEEP_MAX, "the policy takes the config's list");
	IP_FOREACH_FAMILY (f) {
		if (!node->conf.enabled[f])
			continue;
		policy.network[f] = node->conf.range[f].network;
		policy.subnet[f] = node->own.subnet[f];
	}
	memcpy(policy.keep, node->conf.keep, sizeof(policy.keep));
	policy.n_keep = node->conf.n_keep;
	return policy;
}

/* Pods cannot leave the network without masquerading, when it was asked for; without the
 * forward rules most hosts serve them as well. */
static void report(struct node *node)
{
	const char *problem = *node->rules_problem ? node->rules_problem : node->bridge_problem;

	if (*problem && node->options->ip_masq)
		health_missing(node->health, HEALTH_RULES, problem);
	else if (*problem)
		health_degraded(node->health, HEALTH_RULES, problem);
	else if (*node->rules_notice)
		health_degraded(node->health, HEALTH_RULES, node->rules_notice);
	else
		health_good(node->health, HEALTH_RULES);
	node_file_write_when_ready(node);
}

/* Keeps @text as the newest of its kind, and logs it when it is news; NULL: all is well. */
static void note(char stored[ERR_TEXT_MAX], const char *text, char severity, const char *recovered)
{
	if (!text && *stored)
		log_info("%s", recovered);
	else if (text && strcmp(stored, text))
		log_write(severity, __FILE__, __LINE__, "%s", text);
	(void)snprintf(stored, ERR_TEXT_MAX, "%s", text ? text : "");
}

static void on_state(const char *problem, void *userdata)
{
	struct node *node = userdata;

	note(node->rules_problem, problem, 'E', "The masquerade and forward rules are in force");
	node->rules_tried = true;
	report(node);
}

static void on_notice(const char *text, void *userdata)
{
	struct node *node = userdata;

	note(node->rules_notice, text, 'W', "No rules of others stand against pods any more");
	/* What others do may be known before our own rules have been tried: that is no end of
	 * the wait for them. */
	if (node->rules_tried)
		report(node);
}

static void on_waiting(const char *text, void *userdata)
{
	struct node *node = userdata;

	if (!node->rules_tried)
		health_missing(node->health, HEALTH_RULES, text);
}

/* In iptables mode packets between pods of one bridge must pass iptables, too: kube-proxy's
 * services need it, and flannel insists. */
static void check_bridge_netfilter(struct node *node)
{
	static const char *const setting[IP_FAMILY_COUNT] = {
		[IP_V4] = "net/bridge/bridge-nf-call-iptables",
		[IP_V6] = "net/bridge/bridge-nf-call-ip6tables",
	};
	struct err err = {""};
	long value;

	IP_FOREACH_FAMILY (f)
		if (node->conf.enabled[f] && !node->conf.nftables &&
		    sysctl_get(setting[f], &value, NULL) == -ENOENT)
			(void)err_set(&err, -ENOENT,
				      "net.bridge.%s does not exist: load kernel module "
				      "br_netfilter (modprobe br_netfilter), or set EnableNFTables "
				      "in the network config",
				      strrchr(setting[f], '/') + 1);
	note(node->bridge_problem, *err.text ? err.text : NULL, 'E',
	     "br_netfilter is there, or not needed any more");
	if (*err.text)
		loop_timer_set(node->rules_timer, RETRY_MS);
}

static void close_socket(int *fd)
{
	if (*fd >= 0)
		(void)close(*fd);
	*fd = -1;
}

/* The network of whoever keeps the rules, "10.5.0.0/16"; "": nobody says so. */
static void find_owner(char *buf, size_t size)
{
	_cleanup_free_ char *sockets = NULL;
	const char *name;
	size_t len;

	*buf = '\0';
	if (file_read(AT_FDCWD, "/proc/net/unix", SOCKETS_MAX, &sockets, &len, NULL))
		return;
	name = strstr(sockets, "@" OWNER_PREFIX);
	if (!name)
		return;
	name += strlen("@" OWNER_PREFIX);
	(void)snprintf(buf, size, "%.*s", (int)strcspn(name, "@\n"), name);
}

/* Who comes second can name us. A config may change the network. */
static void tell_owner(struct node *node)
{
	const struct netconf *conf = &node->conf;
	char network[IP_NET_STRLEN], name[sizeof(OWNER_PREFIX) + IP_NET_STRLEN];

	(void)ip_net_format(&conf->range[conf->enabled[IP_V4] ? IP_V4 : IP_V6].network, network);
	(void)snprintf(name, sizeof(name), OWNER_PREFIX "%s", network);
	close_socket(&node->rules_owner);
	(void)node_lock(name, &node->rules_owner, NULL);
}

/* Whether another daemon keeps the rules of this host, or did. */
static bool comes_second(struct node *node)
{
	if (*node->rules_of)
		return true;
	if (node->rules_lock >= 0 || !node_lock(LOCK_NAME, &node->rules_lock, NULL))
		return false;
	find_owner(node->rules_of, sizeof(node->rules_of));
	if (!*node->rules_of)
		loop_timer_set(node->rules_timer, RETRY_MS);
	return true;
}

static void stay_behind(struct node *node, bool wants)
{
	char text[256] = "another flanneld is at the masquerade and forward rules of this host; "
			 "those of this network are not in force";

	if (*node->rules_of)
		(void)snprintf(text, sizeof(text),
			       "the masquerade and forward rules of this host are kept by another "
			       "flanneld, for network %s; those of this network are not in force: "
			       "when the other has gone for good, restart this one",
			       node->rules_of);
	on_state(wants ? text : NULL, node);
}

/* Nothing is wanted and nothing is left: another may come. */
static bool give_way(struct node *node)
{
	if (!node->rules || !node->rules_tried || *node->rules_problem ||
	    !rules_is_idle(node->rules))
		return false;
	rules_free(TAKE_PTR(node->rules));
	close_socket(&node->rules_owner);
	close_socket(&node->rules_lock);
	return true;
}

void node_rules_want(void *userdata)
{
	struct node *node = userdata;
	const struct rules_events events = {on_state, on_notice, on_waiting, node};
	struct policy policy;
	bool wants;

	if (!node->has_own || node->dead)
		return;
	policy = make_policy(node);
	wants = policy.masquerade || policy.forward;
	if (!wants && give_way(node))
		return;
	if (comes_second(node)) {
		stay_behind(node, wants);
		return;
	}
	if (wants) {
		tell_owner(node);
		check_bridge_netfilter(node);
	}
	if (!node->rules)
		node->rules = rules_new(node->loop, node->options->iptables_resync_s, &events);
	if (!node->rules_tried)
		health_missing(node->health, HEALTH_RULES,
			       node->conf.nftables ? "waiting for nftables"
						   : "waiting for iptables-restore");
	rules_want(node->rules, &policy, node->conf.nftables);
	if (!wants)
		loop_timer_set(node->rules_timer, *node->rules_problem ? RETRY_MS : GIVE_WAY_MS);
	if (node->rules_tried)
		report(node);
}

/* ---- forwarding ---- */

/* A host that forwards ignores router advertisements, and would lose its default route,
 * unless told otherwise: accept_ra 2 (ipv6_accept_ra()). */
static void keep_default_route(const struct node *node)
{
	char name[SYSCTL_NAME_MAX];
	struct err err;
	long value;

	(void)snprintf(name, sizeof(name), "net/ipv6/conf/%s/accept_ra", node->backend.uplink.name);
	if (sysctl_get(name, &value, NULL) || value != 1)
		return;
	if (sysctl_set(name, 2, &err))
		log_warning("%s: %s may lose the IPv6 default route that routers announce",
			    err.text, node->backend.uplink.name);
	else
		log_info("Set accept_ra of %s to 2, so that it keeps its IPv6 default route",
			 node->backend.uplink.name);
}

static const struct {
	const char *path, *name;
} forwarding[IP_FAMILY_COUNT] = {
	[IP_V4] = {"net/ipv4/ip_forward", "net.ipv4.ip_forward"},
	[IP_V6] = {"net/ipv6/conf/all/forwarding", "net.ipv6.conf.all.forwarding"},
};

static int ensure_forwarding(const struct node *node, enum ip_family f, struct err *err)
{
	long value;
	int code = sysctl_get(forwarding[f].path, &value, err);

	if (code || value)
		return code;
	if (f == IP_V6)
		keep_default_route(node);
	code = sysctl_set(forwarding[f].path, 1, err);
	if (!code)
		log_info("Set %s to 1: this host did not forward packets of pods",
			 forwarding[f].name);
	return code;
}

void node_forwarding_check(void *userdata)
{
	struct node *node = userdata;
	struct err err, wrapped = {""};

	if (!node->has_own || !node->has_backend || node->dead)
		return;
	IP_FOREACH_FAMILY (f)
		if (node->conf.enabled[f] && ensure_forwarding(node, f, &err) && !*wrapped.text)
			(void)err_set(&wrapped, -EPERM,
				      "this host does not forward packets of pods, and that cannot "
				      "be changed: %.300s; on the host itself: sysctl -w %s=1",
				      err.text, forwarding[f].name);
	note(node->forwarding_problem, *wrapped.text ? wrapped.text : NULL, 'E',
	     "This host forwards packets again");
	if (*wrapped.text)
		health_missing(node->health, HEALTH_FORWARDING, wrapped.text);
	else
		health_good(node->health, HEALTH_FORWARDING);
	/* What is set is notified; that it can be set is not. */
	if (*wrapped.text)
		loop_timer_set(node->forwarding_timer, RETRY_MS);
	else
		health_announce(node->health);
}
