/* SPDX-License-Identifier: Apache-2.0 */
/* kube_publish.c - Kubernetes store: what our node gives us, and what it is to say */
#include "store/kube_internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>

#define REWRITE_QUIET_MS 60000 /* after this a change by others is undone at once again */
#define REWRITE_FIRST_MS 1000
#define REWRITE_MAX_MS   60000

static const struct {
	enum kube_annotation wish, overwrite;
	const char *wish_name, *overwrite_name;
} of_family[IP_FAMILY_COUNT] = {
	[IP_V4] = {KUBE_NODE_PUBLIC_IP, KUBE_PUBLIC_IP_OVERWRITE, "node-public-ip",
		   "public-ip-overwrite"},
	[IP_V6] = {KUBE_NODE_PUBLIC_IPV6, KUBE_PUBLIC_IPV6_OVERWRITE, "node-public-ipv6",
		   "public-ipv6-overwrite"},
};

/* ---- what an admin wants ---- */

/* The address in an annotation; unset: there is none that makes sense. */
static struct ip read_ip(const struct kube *k, enum ip_family f, enum kube_annotation key,
			 const char *name, struct err *complaint)
{
	const char *text = k->own.node.annotation[key];
	struct lease lease = {0};
	char what[80];

	(void)snprintf(what, sizeof(what), "annotation %s", name);
	if (text && lease_set_public_ip(&lease, f, what, text, complaint) < 0)
		return (struct ip){0};
	return lease.public_ip[f];
}

static struct ip overwrite_ip(const struct kube *k, enum ip_family f, struct err *complaint)
{
	return read_ip(k, f, of_family[f].overwrite, of_family[f].overwrite_name, complaint);
}

void kube_publish_see_wishes(struct kube *k)
{
	struct kube_own *own = &k->own;
	struct ip wish[IP_FAMILY_COUNT] = {0}, overwrite[IP_FAMILY_COUNT] = {0};
	struct err complaint = {""};

	IP_FOREACH_FAMILY (f) {
		wish[f] = read_ip(k, f, of_family[f].wish, of_family[f].wish_name, &complaint);
		overwrite[f] = overwrite_ip(k, f, &complaint);
	}
	/* What we write is new, and nobody has changed it. */
	if (memcmp(overwrite, own->overwrite, sizeof(overwrite)) != 0)
		own->asked++;
	memcpy(own->overwrite, overwrite, sizeof(overwrite));
	if (*complaint.text && strcmp(complaint.text, own->complaint) != 0)
		log_warning("Our node %s: %s; ignoring it", own->name, complaint.text);
	(void)snprintf(own->complaint, sizeof(own->complaint), "%s", complaint.text);
	if (!memcmp(wish, own->told_public_ip, sizeof(wish)))
		return;
	memcpy(own->told_public_ip, wish, sizeof(wish));
	if (k->store.events.public_ip)
		k->store.events.public_ip(wish, k->store.events.userdata);
}

/* ---- our lease ---- */

static int check_cidr(const struct kube *k, enum ip_family f, struct err *err)
{
	const struct ip_net *cidr = &k->own.node.pod_cidr[f];
	const struct ip_net *network = &k->own.claim.conf.range[f].network;
	char a[IP_NET_STRLEN], b[IP_NET_STRLEN];

	if (!ip_net_is_set(cidr))
		return err_set(err, -EAGAIN,
			       "waiting for the podCIDR: node %s has none of %s (is "
			       "kube-controller-manager run with --allocate-node-cidrs and a "
			       "--cluster-cidr of that family, which is kubeadm's "
			       "--pod-network-cidr?)",
			       k->own.name, ip_family_name(f));
	if (!ip_net_contains_net(network, cidr))
		return err_set(err, -EINVAL,
			       "podCIDR %s of node %s is outside of %sNetwork %s in %.200s: change "
			       "that, or kube-controller-manager's --cluster-cidr",
			       ip_net_format(cidr, a), k->own.name, f == IP_V6 ? "IPv6" : "",
			       ip_net_format(network, b), k->settings->net_config_path);
	return 0;
}

int kube_publish_subnet(const struct kube *k, struct ip_net ret_subnet[IP_FAMILY_COUNT],
			struct err *err)
{
	struct ip_net subnet[IP_FAMILY_COUNT] = {0};

	IP_FOREACH_FAMILY (f) {
		int r = k->own.claim.conf.enabled[f] ? check_cidr(k, f, err) : 0;

		if (r < 0)
			return r;
		if (k->own.claim.conf.enabled[f])
			subnet[f] = k->own.node.pod_cidr[f];
	}
	memcpy(ret_subnet, subnet, sizeof(subnet));
	return 0;
}

struct lease kube_publish_lease(const struct kube *k, const struct ip_net subnet[IP_FAMILY_COUNT])
{
	struct lease lease = claim_lease(&k->own.claim, subnet, 0);

	IP_FOREACH_FAMILY (f) {
		const struct ip ip = overwrite_ip(k, f, NULL);

		if (ip_is_set(&lease.public_ip[f]) && ip_is_set(&ip))
			lease.public_ip[f] = ip;
	}
	return lease;
}

/* ---- others who write it, too ---- */

bool kube_publish_may_rewrite(struct kube *k)
{
	struct kube_own *own = &k->own;
	const int64_t now = loop_now_ms(), due = own->rewritten_ms + own->rewrite_wait_ms;
	bool again;

	if (own->served != own->asked)
		return true; /* it is our own wish that is new */
	if (!own->rewritten_ms || now - due > REWRITE_QUIET_MS)
		own->rewrite_wait_ms = 0;
	if (own->rewrite_wait_ms && now < due) {
		loop_timer_set_sooner(own->timer, due - now);
		return false;
	}
	again = own->rewrite_wait_ms > 2 * REWRITE_FIRST_MS;
	log_warning("Our node %s was changed by somebody else; writing what is ours anew%s",
		    own->name,
		    again ? " (again: is another flannel running, or a cloud's route controller?)"
			  : "");
	own->rewritten_ms = now;
	own->rewrite_wait_ms = own->rewrite_wait_ms ? 2 * own->rewrite_wait_ms : REWRITE_FIRST_MS;
	if (own->rewrite_wait_ms > REWRITE_MAX_MS)
		own->rewrite_wait_ms = REWRITE_MAX_MS;
	if (again)
		(void)snprintf(own->fight, sizeof(own->fight),
			       "what we write to our node %s is changed by somebody else again and "
			       "again: is another flannel running, or a cloud's route controller?",
			       own->name);
	return true;
}
