/* SPDX-License-Identifier: Apache-2.0 */
/* policy.c - what is masqueraded and what is accepted */
#include "rules/policy.h"

#include "base/mem.h"

#include <string.h>

/* kube-proxy masquerades packets that carry this bit, whatever others they carry. */
#define KUBE_PROXY_MARK 0x4000

/* Decisions that are being collected. */
struct list {
	struct policy_decision *decision;
	size_t n;
};

static void put(struct list *list, struct policy_decision decision)
{
	if (list->n < POLICY_DECISIONS_MAX)
		list->decision[list->n++] = decision;
}

static struct policy_side in(const struct ip_net *net)
{
	/* Nobody's tool prints a prefix of no bits the way it was given: that is "any". */
	struct policy_side side = {.except = false};

	if (net->len)
		side.net = ip_net_base(net);
	return side;
}

static struct policy_side out_of(const struct ip_net *net)
{
	return (struct policy_side){.net = ip_net_base(net), .except = true};
}

static struct ip_net multicast(enum ip_family family)
{
	struct ip_net net = {.ip = {.family = (uint8_t)family, .b = {0xe0}}, .len = 4};

	if (family == IP_V6) {
		net.ip.b[0] = 0xff;
		net.len = 8;
	}
	return net;
}

/* A network or subnet that is not known must not become "any address". One of all addresses
 * has no outside, and "all but all" is said by no tool. */
static bool is_usable(const struct ip_net *net)
{
	return ip_net_is_set(net) && net->len;
}

/* Pods keep their addresses among each other; so does who comes from outside to a pod of
 * this host, since the answer passes here again. */
static void put_returns(struct list *list, const struct ip_net *cluster, const struct ip_net *pods)
{
	put(list, (struct policy_decision){.mark = KUBE_PROXY_MARK, .verdict = POLICY_RETURN});
	put(list, (struct policy_decision){.source = in(pods),
					   .destination = in(cluster),
					   .verdict = POLICY_RETURN});
	put(list, (struct policy_decision){.source = in(cluster),
					   .destination = in(pods),
					   .verdict = POLICY_RETURN});
	put(list, (struct policy_decision){.source = out_of(cluster),
					   .destination = in(pods),
					   .verdict = POLICY_RETURN});
}

size_t policy_masquerade(const struct policy *policy, enum ip_family family,
			 struct policy_decision ret_decision[POLICY_DECISIONS_MAX])
{
	const struct ip_net *cluster = &policy->network[family], *pods = &policy->subnet[family];
	enum policy_verdict masquerade =
		policy->fully_random ? POLICY_MASQUERADE_RANDOM : POLICY_MASQUERADE;
	struct ip_net group = multicast(family);
	struct list list = {.decision = ret_decision};

	if (!policy->masquerade || !is_usable(cluster) || !is_usable(pods))
		return 0;
	put_returns(&list, cluster, pods);
	for (size_t i = 0; i < policy->n_keep && i < POLICY_KEEP_MAX; i++)
		if (policy->keep[i].ip.family == family)
			put(&list, (struct policy_decision){.source = in(cluster),
							    .destination = in(&policy->keep[i]),
							    .verdict = POLICY_RETURN});
	put(&list, (struct policy_decision){.source = in(cluster),
					    .destination = out_of(&group),
					    .verdict = masquerade});
	/* The host itself towards pods. An address that it has on the device by which the
	 * packet leaves can be answered as it is. */
	put(&list, (struct policy_decision){.leaves_as_own = true,
					    .source = out_of(cluster),
					    .destination = in(cluster),
					    .verdict = POLICY_RETURN});
	put(&list, (struct policy_decision){.source = out_of(cluster),
					    .destination = in(cluster),
					    .verdict = masquerade});
	return list.n;
}

size_t policy_old_masquerade(const struct policy *policy, enum ip_family family,
			     struct policy_decision ret_decision[POLICY_DECISIONS_MAX])
{
	const struct ip_net *cluster = &policy->network[family], *pods = &policy->subnet[family];
	struct ip_net group = multicast(family);
	struct list list = {.decision = ret_decision};

	if (!(policy->masquerade || policy->masquerade_elsewhere) || !is_usable(cluster) ||
	    !is_usable(pods))
		return 0;
	put(&list, (struct policy_decision){.source = in(cluster),
					    .destination = in(cluster),
					    .verdict = POLICY_RETURN});
	put(&list, (struct policy_decision){.source = in(cluster),
					    .destination = out_of(&group),
					    .verdict = POLICY_MASQUERADE});
	put(&list, (struct policy_decision){.source = out_of(cluster),
					    .destination = in(pods),
					    .verdict = POLICY_RETURN});
	put(&list, (struct policy_decision){.source = out_of(cluster),
					    .destination = in(cluster),
					    .verdict = POLICY_MASQUERADE});
	return list.n;
}

size_t policy_forward(const struct policy *policy, enum ip_family family,
		      struct policy_decision ret_decision[POLICY_DECISIONS_MAX])
{
	const struct ip_net *cluster = &policy->network[family];
	struct list list = {.decision = ret_decision};

	if (!policy->forward || !is_usable(cluster))
		return 0;
	put(&list, (struct policy_decision){.source = in(cluster), .verdict = POLICY_ACCEPT});
	put(&list, (struct policy_decision){.destination = in(cluster), .verdict = POLICY_ACCEPT});
	return list.n;
}

bool policy_equal(const struct policy *a, const struct policy *b)
{
	if (a->masquerade != b->masquerade || a->masquerade_elsewhere != b->masquerade_elsewhere ||
	    a->fully_random != b->fully_random || a->forward != b->forward ||
	    a->n_keep != b->n_keep)
		return false;
	IP_FOREACH_FAMILY (f) {
		if (!ip_net_equal(&a->network[f], &b->network[f]) ||
		    !ip_net_equal(&a->subnet[f], &b->subnet[f]))
			return false;
	}
	for (size_t i = 0; i < a->n_keep && i < POLICY_KEEP_MAX; i++)
		if (!ip_net_equal(&a->keep[i], &b->keep[i]))
			return false;
	return true;
}

bool policy_stands_before(const char *chain)
{
	/* Docker's isolation drops between its own bridges and nothing else. */
	static const char *const prefixes[] = {"KUBE-", "cali-", "CILIUM_", "WEAVE-NPC",
					       "DOCKER-ISOLATION"};

	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (!strncmp(chain, prefixes[i], strlen(prefixes[i])))
			return true;
	return !strcmp(chain, "DOCKER-USER");
}
