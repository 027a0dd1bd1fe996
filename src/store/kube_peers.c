/* SPDX-License-Identifier: Apache-2.0 */
/* kube_peers.c - Kubernetes store: the other nodes
 *
 * Theory of operation. Of every node there is an entry: which one it is (its uid), and its
 * podCIDRs, which never change while it is that node. They are in lists and in answers to a
 * GET, not in a watch that tells metadata only; so when such an event tells of a node of
 * flannel's and there is no podCIDR for it, it is asked for, one node after the other.
 *
 * Events may be doubled or out of order: an entry remembers its resourceVersion and a digest
 * of what mattered in it. What is older than the entry is nothing, what has the same digest
 * (a kubelet's heartbeat) is nothing new. What is told of a node without an entry is not
 * believed but asked for: it may have been deleted already.
 *
 * The entry of a node that is not flannel's (yet) has its podCIDRs all the same.
 */
#include "store/kube_internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

/* Memory that runs out aborts, as in base/mem.h. */
#define uthash_fatal(msg) abort()
#include <uthash.h>

#define CROWD    1000 /* hosts that may ask for a node at the same moment */
#define CROWD_MS 200  /* for so many more to ask */

struct kube_known {
	UT_hash_handle hh;
	uint64_t uid;     /* digest of it */
	uint64_t version; /* 0: none that can be compared */
	uint64_t digest;  /* of what its peer was made of; 0: of nothing */
	uint32_t listed;  /* the last list that it was in */
	bool asked;       /* its podCIDR is to be asked for */
	bool stays;       /* what the digest is of makes a peer, or keeps the one before */
	struct ip_net pod_cidr[IP_FAMILY_COUNT - 1];
	char name[];
};

/* ---- digests (FNV-1a) ---- */

static uint64_t digest_text(uint64_t digest, const char *text)
{
	/* The NUL parts it from what follows; absent is not empty. */
	const char *end = text ? text + strlen(text) + 1 : "";

	for (digest = (digest ^ (text ? 0u : 1u)) * 0x100000001b3u; text && text < end; text++)
		digest = (digest ^ (unsigned char)*text) * 0x100000001b3u;
	return digest;
}

static uint64_t digest_node(const struct kube_node *node)
{
	uint64_t digest = 0xcbf29ce484222325u;

	for (size_t i = 0; i < KUBE_ANNOTATION_COUNT; i++)
		digest = digest_text(digest, node->annotation[i]);
	return digest ? digest : 1;
}

static uint64_t digest_uid(const struct kube_node *node)
{
	return digest_text(0xcbf29ce484222325u, node->uid);
}

/* ---- entries ---- */

static struct kube_known *find(const struct kube *k, const char *name)
{
	struct kube_known *known;

	HASH_FIND_STR(k->peers.table, name, known);
	return known;
}

static struct kube_known *add(struct kube *k, const char *name)
{
	const size_t size = strlen(name) + 1;
	struct kube_known *known = mem_alloc(1, sizeof(*known) + size);

	memcpy(known->name, name, size);
	known->listed = k->peers.list;
	HASH_ADD_STR(k->peers.table, name, known);
	return known;
}

/* After a failure not before its wait is over. Every host hears of a new node at the same
 * time, and asks. */
static void ask_soon(struct kube *k)
{
	const int64_t limit_ms = (int64_t)(peers_count(k->store.peers) / CROWD) * CROWD_MS;
	const int64_t spread_ms = loop_jitter_ms(2 * limit_ms) - limit_ms;
	const int64_t wait_ms = k->peers.not_before_ms - loop_now_ms();

	if (!k->peers.call)
		loop_timer_set_sooner(k->peers.timer, wait_ms > spread_ms ? wait_ms : spread_ms);
}

static void set_asked(struct kube *k, struct kube_known *known, bool asked)
{
	if (known->asked == asked)
		return;
	known->asked = asked;
	if (asked) {
		k->peers.n_asked++;
		ask_soon(k);
		return;
	}
	k->peers.n_asked--;
	if (k->peers.call && !strcmp(k->peers.asked, known->name)) {
		kube_call_cancel(TAKE_PTR(k->peers.call));
		ask_soon(k);
	}
}

static void forget(struct kube *k, struct kube_known *known)
{
	set_asked(k, known, false);
	/* The analyzer does not know that the neighbours' links agree. */
	HASH_DEL(k->peers.table, known); /* NOLINT(clang-analyzer-unix.Malloc) */
	free(known);
}

static bool has_cidr(const struct kube_known *known)
{
	return ip_net_is_set(&known->pod_cidr[0]) || ip_net_is_set(&known->pod_cidr[1]);
}

/* ---- complaints ---- */

void kube_peers_complain(struct kube *k, const char *name, const char *why)
{
	if (senseless_may_tell(&k->peers.senseless, *name ? name : "(no name)"))
		log_warning("Kubernetes: %s%s", why,
			    peers_find(k->store.peers, name) ? "; what was known of it before stays"
							     : "");
}

static void tell_senseless(size_t n, const char *names, void *userdata)
{
	(void)userdata;
	log_warning("Kubernetes: %zu more node%s that make no sense: %s", n, n > 1 ? "s" : "",
		    names);
}

/* ---- from nodes to peers ---- */

/* What of one family does not read, is as it was. */
static void keep_family(const struct kube *k, const struct kube_node *node, struct lease *lease)
{
	const struct lease *old = peers_find(k->store.peers, node->name);

	if (!old || strcmp(old->backend_type, lease->backend_type) != 0)
		return;
	IP_FOREACH_FAMILY (f) {
		if (ip_net_is_set(&lease->subnet[f]) || !ip_net_is_set(&old->subnet[f]) ||
		    !ip_net_equal(&old->subnet[f], &node->pod_cidr[f]))
			continue;
		lease->subnet[f] = old->subnet[f];
		lease->public_ip[f] = old->public_ip[f];
		lease->backend_data[f] =
			old->backend_data[f] ? mem_strdup(old->backend_data[f]) : NULL;
	}
}

/* The peer that @node says, all of which is known. Whether there is one, or the one before is
 * to stay. */
static bool apply(struct kube *k, const struct kube_node *node)
{
	struct lease lease = {0};
	struct err err = {""};
	const int r = kube_node_lease(node, k->own.claim.conf.enabled, &lease, &err);
	const bool is_peer =
		ip_net_is_set(&lease.subnet[IP_V4]) || ip_net_is_set(&lease.subnet[IP_V6]);

	if (r == -EINVAL) {
		kube_peers_complain(k, node->name, err.text);
		keep_family(k, node, &lease);
	}
	if (!is_peer && r != -EINVAL) {
		vanished_add(&k->peers.vanished, node->name);
		return false;
	}
	vanished_undo(&k->peers.vanished, node->name);
	/* Unreadable is not gone. */
	if (is_peer) {
		vanished_give_way(&k->peers.vanished, &lease);
		peers_put(k->store.peers, node->name, &lease);
	} else {
		(void)peers_keep(k->store.peers, node->name);
	}
	lease_done(&lease);
	return true;
}

static bool is_managed(const struct kube_node *node)
{
	const char *value = node->annotation[KUBE_SUBNET_MANAGER];

	return value && !strcmp(value, "true");
}

/* What never changes while it is that node: but a backup may be from before it was given. */
static bool is_same_node(const struct kube_known *known, const struct kube_node *node)
{
	return known->uid == digest_uid(node) &&
	       (node->is_partial ||
		!memcmp(known->pod_cidr, &node->pod_cidr[IP_V4], sizeof(known->pod_cidr)));
}

/* Whether it is the same as before, or older. */
static bool is_no_news(struct kube *k, struct kube_known *known, const struct kube_node *node,
		       bool listed)
{
	const uint64_t version = kube_version(node->resource_version);

	/* A list is as of one moment, which may be an earlier one than that of an answer; but
	 * then the watch that follows it tells the rest. */
	if (!listed && version && version < known->version)
		return true;
	known->version = version;
	if (!is_same_node(known, node) || known->digest != digest_node(node) || known->asked)
		return false;
	/* One of flannel's without a podCIDR may have it by now. */
	if (!known->stays)
		return !is_managed(node);
	/* Also: listed. */
	(void)peers_keep(k->store.peers, node->name);
	return has_cidr(known);
}

void kube_peers_take(struct kube *k, struct kube_node *node, bool listed)
{
	struct kube_known *known = find(k, node->name);
	const bool is_new = !known;

	if (is_new)
		known = add(k, node->name);
	known->listed = k->peers.list;
	if (is_no_news(k, known, node, listed))
		return;
	if (is_new || known->uid != digest_uid(node))
		memset(known->pod_cidr, 0, sizeof(known->pod_cidr));
	known->uid = digest_uid(node);
	known->digest = 0;
	IP_FOREACH_FAMILY (f) {
		if (node->is_partial)
			node->pod_cidr[f] = known->pod_cidr[f - 1];
		else
			known->pod_cidr[f - 1] = node->pod_cidr[f];
	}
	if (node->is_partial && is_managed(node) && !has_cidr(known)) {
		set_asked(k, known, true);
		return;
	}
	set_asked(k, known, false);
	/* What is not partial and has none, has none. */
	node->is_partial = false;
	known->digest = digest_node(node);
	known->stays = apply(k, node);
}

void kube_peers_keep(struct kube *k, const struct kube_node *node)
{
	struct kube_known *known = find(k, node->name);

	if (known) {
		known->listed = k->peers.list;
		known->digest = 0;
	}
	vanished_undo(&k->peers.vanished, node->name);
	(void)peers_keep(k->store.peers, node->name);
}

void kube_peers_delete(struct kube *k, const struct kube_node *node)
{
	struct kube_known *known = find(k, node->name);
	const uint64_t version = kube_version(node->resource_version);

	/* The end of an earlier node of this name, after the begin of the next. */
	if (known && known->uid != digest_uid(node) && version && version < known->version)
		return;
	if (known)
		forget(k, known);
	vanished_add(&k->peers.vanished, node->name);
}

/* ---- lists ---- */

void kube_peers_list_begin(struct kube *k)
{
	k->peers.list++;
	peers_list_begin(k->store.peers);
}

size_t kube_peers_list_end(struct kube *k)
{
	struct kube_known *known, *next;

	HASH_ITER (hh, k->peers.table, known, next)
		if (known->listed != k->peers.list)
			forget(k, known);
	vanished_forget(&k->peers.vanished);
	return peers_list_end(k->store.peers);
}

/* ---- podCIDRs that are asked for ---- */

static void ask_next(struct kube *k);

static void take_answer(struct kube *k, struct json_slice body)
{
	struct kube_known *known = find(k, k->peers.asked);
	struct kube_node node = {0};
	struct err err;

	if (!known)
		return;
	/* The watch tells again when it matters. */
	set_asked(k, known, false);
	if (kube_node_parse(body, &k->keys, &node, &err) < 0) {
		kube_peers_complain(k, k->peers.asked, err.text);
	} else if (node.name && !strcmp(node.name, k->peers.asked)) {
		kube_link_note_version(&k->link, node.resource_version);
		if (known->version != k->peers.asked_version &&
		    kube_version(node.resource_version) < known->version) {
			set_asked(k, known, true); /* the watch has been faster */
		} else {
			known->version = 0; /* this is what it is now, older or not */
			kube_peers_take(k, &node, false);
		}
	}
	kube_node_done(&node);
}

static void on_answer(const struct kube_outcome *outcome, void *userdata)
{
	struct kube *k = userdata;
	struct kube_peers *p = &k->peers;
	struct kube_known *known = find(k, p->asked);

	p->call = NULL;
	if (outcome->absent) {
		/* The watch will say so, too, or has said it out of order. */
		if (known)
			forget(k, known);
		vanished_add(&k->peers.vanished, p->asked);
	} else if (outcome->why) {
		kube_set_problem(k, k->peers_problem, outcome->why);
		p->not_before_ms = loop_now_ms() + kube_retry_wait_ms(&p->retry, outcome->wait_ms);
		ask_soon(k);
		return;
	} else {
		take_answer(k, outcome->body);
	}
	p->retry.next_ms = p->not_before_ms = 0;
	kube_set_problem(k, k->peers_problem, "");
	ask_next(k);
}

/* Not older than what the watch has told: a server has that at hand, and need not ask etcd. */
static char *path_to_ask(const struct kube_known *known)
{
	char query[48] = "";

	if (known->version)
		(void)snprintf(query, sizeof(query), "?resourceVersion=%" PRIu64, known->version);
	return kube_node_path(known->name, query);
}

static void ask_next(struct kube *k)
{
	struct kube_peers *p = &k->peers;
	struct kube_known *known = p->n_asked ? p->table : NULL;
	_cleanup_free_ char *path = NULL;

	while (known && !known->asked)
		known = known->hh.next;
	if (p->call)
		return;
	if (!known) {
		kube_set_problem(k, k->peers_problem, "");
		return;
	}
	(void)snprintf(p->asked, sizeof(p->asked), "%s", known->name);
	p->asked_version = known->version;
	path = path_to_ask(known);
	p->call = kube_call_new(k->api, &(struct kube_request){
						.method = "GET",
						.path = path,
						.accept = KUBE_ACCEPT_JSON,
						.timeout_ms = KUBE_CALL_MS,
						.done = on_answer,
						.userdata = k,
					});
}

static void on_timer(void *userdata)
{
	ask_next(userdata);
}

/* ---- life ---- */

static void on_vanished(void *userdata)
{
	struct kube *k = userdata;

	if (k->link.phase == KUBE_WATCHING && k->link.live_since_ms)
		vanished_expire(&k->peers.vanished);
}

void kube_peers_init(struct kube *k)
{
	vanished_init(&k->peers.vanished, k->store.loop, k->store.peers, on_vanished, k);
	k->peers.timer = loop_timer_new(k->store.loop, on_timer, k);
	senseless_init(&k->peers.senseless, k->store.loop, tell_senseless, NULL);
}

void kube_peers_done(struct kube *k)
{
	struct kube_known *known, *next;

	kube_call_cancel(TAKE_PTR(k->peers.call));
	HASH_ITER (hh, k->peers.table, known, next)
		forget(k, known);
	loop_event_free(k->peers.timer);
	senseless_done(&k->peers.senseless);
	vanished_done(&k->peers.vanished);
}
