/* SPDX-License-Identifier: Apache-2.0 */
/* claim.c - what this host asks a store for, and which lease that should be */
#include "store/claim.h"

#include "base/mem.h"
#include "model/allocate.h"

#include <errno.h>
#include <sys/random.h>

void claim_set(struct claim *claim, const struct store_request *request)
{
	struct lease attrs = lease_copy(request->attrs);

	memset(attrs.subnet, 0, sizeof(attrs.subnet));
	lease_done(&claim->attrs);
	claim->attrs = attrs;
	claim->conf = *request->conf;
	claim->conf.backend = NULL;
	memset(claim->preferred, 0, sizeof(claim->preferred));
	if (request->preferred)
		memcpy(claim->preferred, request->preferred, sizeof(claim->preferred));
	claim->n_avoid = request->n_avoid < CLAIM_AVOID_MAX ? request->n_avoid : CLAIM_AVOID_MAX;
	if (claim->n_avoid)
		memcpy(claim->avoid, request->avoid, claim->n_avoid * sizeof(*claim->avoid));
	claim->renew_margin_s = request->renew_margin_min * 60LL;
}

void claim_done(struct claim *claim)
{
	lease_done(&claim->attrs);
	*claim = (struct claim){0};
}

struct store_request claim_request(const struct claim *claim)
{
	return (struct store_request){
		.conf = &claim->conf,
		.attrs = &claim->attrs,
		.preferred = claim->preferred,
		.avoid = claim->avoid,
		.n_avoid = claim->n_avoid,
		.renew_margin_min = (unsigned)(claim->renew_margin_s / 60),
	};
}

bool claim_fits(const struct netconf *conf, const struct ip_net subnet[IP_FAMILY_COUNT])
{
	IP_FOREACH_FAMILY (f) {
		if (conf->enabled[f] != ip_net_is_set(&subnet[f]))
			return false;
		if (conf->enabled[f] && !allocate_valid(&conf->range[f], &subnet[f]))
			return false;
	}
	return true;
}

bool claim_holds(const struct netconf *conf, const struct ip_net subnet[IP_FAMILY_COUNT])
{
	IP_FOREACH_FAMILY (f) {
		if (conf->enabled[f] != ip_net_is_set(&subnet[f]))
			return false;
		if (conf->enabled[f] && !ip_net_contains_net(&conf->range[f].network, &subnet[f]))
			return false;
	}
	return true;
}

/* ---- the lease that is ours already ---- */

struct find {
	const struct lease *attrs;
	const struct netconf *conf;     /* NULL: any subnet will do */
	const struct ip_net *preferred; /* of several records of ours, this one; NULL: none */
	const struct lease *found;
	const char *key; /* of `found` */
};

/* Of several records of ours: a person's wish, then what pods have addresses of. */
static int rank(const struct find *f, const struct lease *lease)
{
	return (lease->expires_s ? 0 : 2) +
	       (f->preferred && !memcmp(lease->subnet, f->preferred, sizeof(lease->subnet)));
}

static void find_own(const char *key, const struct lease *lease, void *userdata)
{
	struct find *f = userdata;

	if ((f->found && rank(f, lease) <= rank(f, f->found)) ||
	    !lease_same_public_ip(f->attrs, lease) ||
	    (f->conf && !claim_fits(f->conf, lease->subnet)))
		return;
	f->found = lease;
	f->key = key;
}

const struct lease *claim_find(const struct peers *peers, const struct lease *attrs,
			       const struct netconf *conf, const struct ip_net *preferred,
			       const char **ret_key)
{
	struct find find = {.attrs = attrs, .conf = conf, .preferred = preferred};

	peers_each(peers, find_own, &find);
	if (find.found && ret_key)
		*ret_key = find.key;
	return find.found;
}

/* ---- a new one ---- */

/* The peers' subnets of one family, sorted, for a fast "is it taken?". */
struct taken {
	enum ip_family family;
	const struct claim *claim;
	struct ip_net *item;
	size_t n, cap;
};

static void collect_taken(const char *key, const struct lease *lease, void *userdata)
{
	struct taken *t = userdata;

	(void)key;
	if (!ip_net_is_set(&lease->subnet[t->family]))
		return;
	if (t->n == t->cap) {
		t->cap = t->cap ? 2 * t->cap : 64;
		t->item = mem_realloc(t->item, t->cap, sizeof(*t->item));
	}
	t->item[t->n++] = lease->subnet[t->family];
}

static int compare_nets(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct ip_net));
}

/* A prefix inside another one says nothing new, and would lead bsearch() astray. */
static void drop_nested(struct taken *t)
{
	size_t n = 0;

	for (size_t i = 0; i < t->n; i++)
		if (!n || !ip_net_overlaps(&t->item[n - 1], &t->item[i]))
			t->item[n++] = t->item[i];
	t->n = n;
}

/* bsearch() order in which overlapping prefixes are equal. */
static int compare_overlap(const void *a, const void *b)
{
	return ip_net_overlaps(a, b) ? 0 : compare_nets(a, b);
}

static bool is_taken(const struct ip_net *subnet, void *userdata)
{
	const struct taken *t = userdata;

	for (size_t i = 0; i < t->claim->n_avoid; i++)
		if (ip_net_overlaps(subnet, &t->claim->avoid[i]))
			return true;
	return t->n && bsearch(subnet, t->item, t->n, sizeof(*t->item), compare_overlap);
}

static uint64_t random_u64(void)
{
	uint64_t value = 0;

	/* In early boot there is none, and this must not wait: the clock is better than nothing,
	 * and a lost race only costs another try. */
	if (getrandom(&value, sizeof(value), GRND_NONBLOCK) != sizeof(value))
		value = (uint64_t)loop_now_ms() * 0x9e3779b97f4a7c15;
	return value;
}

/* @wish NULL: none. */
static int choose_one(const struct claim *claim, const struct peers *peers, enum ip_family family,
		      const struct ip_net *wish, struct ip_net *ret_subnet, struct err *err)
{
	const struct netconf_range *range = &claim->conf.range[family];
	struct taken t = {.family = family, .claim = claim};
	char network[IP_NET_STRLEN];
	int code = 0;

	peers_each(peers, collect_taken, &t);
	if (t.n)
		qsort(t.item, t.n, sizeof(*t.item), compare_nets);
	drop_nested(&t);
	if (wish && !is_taken(wish, &t))
		*ret_subnet = *wish;
	else if (allocate_pick(range, random_u64(), is_taken, &t, ret_subnet))
		code = err_set(err, -ENOSPC, "no subnet is free in %s; waiting for one to expire",
			       ip_net_format(&range->network, network));
	free(t.item);
	return code;
}

int claim_choose(const struct claim *claim, const struct peers *peers, const struct ip_net *wish,
		 struct ip_net ret_subnet[IP_FAMILY_COUNT], struct err *err)
{
	struct ip_net subnet[IP_FAMILY_COUNT] = {0};

	if (wish && !claim_fits(&claim->conf, wish))
		wish = NULL;
	IP_FOREACH_FAMILY (f) {
		int code = claim->conf.enabled[f]
				   ? choose_one(claim, peers, f, wish ? &wish[f] : NULL, &subnet[f],
						err)
				   : 0;

		if (code)
			return code;
	}
	memcpy(ret_subnet, subnet, sizeof(subnet));
	return 0;
}

struct lease claim_lease(const struct claim *claim, const struct ip_net subnet[IP_FAMILY_COUNT],
			 int64_t expires_s)
{
	struct lease lease = lease_copy(&claim->attrs);

	memcpy(lease.subnet, subnet, sizeof(lease.subnet));
	lease.expires_s = expires_s;
	return lease;
}
