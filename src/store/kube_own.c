/* SPDX-License-Identifier: Apache-2.0 */
/* kube_own.c - Kubernetes store: our node
 *
 * Theory of operation. There is what we want to publish (the claim) and our node as an answer,
 * a list or the watch told it last. kube_own_step() looks at both and makes the one call that
 * brings them closer:
 *
 *	no name                 -> read our pod
 *	node not known, or not  -> read it (the watch tells metadata only: neither podCIDR nor
 *	all that matters of it     conditions)
 *	podCIDR, and it fits    -> our lease; told at once, it needs nobody's consent
 *	node says otherwise     -> patch it; the condition not before pods may run
 *
 * Of two tellings the one with the higher resourceVersion counts. A node that is not there is
 * waited for, and its lease stays ours: pods have addresses of it. A node that is made anew
 * has another uid, and perhaps another podCIDR; that is another lease.
 */
#include "store/kube_internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#define GET_EVERY_MS 1000  /* our node changes a few times in five minutes */
#define LOOK_MS      10000 /* for a podCIDR, also when no watch tells of it */

/* ---- problems ---- */

/* @what is in the way, "": nothing. */
static void set_own_problem(struct kube *k, const char *what)
{
	const struct kube_own *own = &k->own;

	kube_set_problem(k, k->own_problem,
			 *own->failure ? own->failure
			 : *what       ? what
				       : own->fight);
}

static void wait_for_retry(struct kube_own *own, unsigned least_ms)
{
	const int64_t wait_ms = kube_retry_wait_ms(&own->retry, least_ms);

	own->not_before_ms = loop_now_ms() + wait_ms;
	loop_timer_set(own->timer, wait_ms);
}

static void retry_later(struct kube *k, const char *why, unsigned least_ms)
{
	struct kube_own *own = &k->own;

	(void)snprintf(own->failure, sizeof(own->failure), "%s", why);
	wait_for_retry(own, least_ms);
	set_own_problem(k, "");
}

static void worked(struct kube_own *own)
{
	own->retry.next_ms = 0;
	own->not_before_ms = 0;
	*own->failure = '\0';
}

/* ---- what is told of our node ---- */

bool kube_own_is(const struct kube *k, const char *name)
{
	return k->own.name && name && !strcmp(k->own.name, name);
}

static bool same_uid(const struct kube_node *a, const struct kube_node *b)
{
	return a->uid && b->uid && !strcmp(a->uid, b->uid);
}

/* It is this now. */
static void see(struct kube *k, struct kube_node *node)
{
	struct kube_own *own = &k->own;

	if (own->absent) {
		log_info("Our node %s is there again", own->name);
		own->not_before_ms = 0; /* it need not be looked for */
	}
	/* Nobody has taken from it what it never had. */
	if (own->node.uid && !same_uid(node, &own->node))
		own->asked++;
	if (node->is_partial && same_uid(node, &own->node))
		memcpy(node->pod_cidr, own->node.pod_cidr, sizeof(node->pod_cidr));
	if (node->is_partial &&
	    (k->settings->set_network_unavailable ||
	     !(ip_net_is_set(&node->pod_cidr[IP_V4]) || ip_net_is_set(&node->pod_cidr[IP_V6]))))
		own->get_needed = true;
	kube_node_done(&own->node);
	own->node = *node;
	*node = (struct kube_node){0};
	own->absent = false;
	kube_publish_see_wishes(k);
	kube_conf_release(k);
}

void kube_own_take(struct kube *k, struct kube_node *node)
{
	struct kube_own *own = &k->own;
	const uint64_t version = kube_version(node->resource_version);
	const uint64_t before = kube_version(own->node.resource_version);

	if (own->node.name && version && version < before) {
		own->get_needed = true; /* which of the two is it? */
	} else if (own->node.name && version && version == before && !own->absent &&
		   (node->is_partial || !own->node.is_partial)) {
		return; /* our own patch, or an answer, as the watch tells it */
	} else {
		own->overtaken = true;
		see(k, node);
	}
	kube_own_step(k);
}

static void say_absent(struct kube *k, const char *why)
{
	struct kube_own *own = &k->own;
	char problem[ERR_TEXT_MAX];

	(void)snprintf(problem, sizeof(problem), "waiting for our node %s: %s%s", own->name, why,
		       own->told ? "; keeping its subnet, which pods have addresses of" : "");
	own->absent = true;
	*own->failure = '\0';
	set_own_problem(k, problem);
}

/* It is there no more, or not yet: somebody has to register it. */
static void on_absent(struct kube *k)
{
	say_absent(k, *k->settings->node_name
			      ? "Kubernetes has none of this name (is NODE_NAME right, and has the "
				"kubelet registered it?)"
			      : "Kubernetes has none of this name");
	k->own.get_needed = true;
	wait_for_retry(&k->own, 0);
}

void kube_own_doubt(struct kube *k)
{
	if (!k->own.name || k->own.absent)
		return;
	k->own.get_needed = true;
	kube_own_step(k);
}

void kube_own_deleted(struct kube *k, const struct kube_node *node)
{
	struct kube_own *own = &k->own;

	/* The end of the one before, told late. */
	if (own->node.uid && !same_uid(node, &own->node))
		return;
	if (!own->absent)
		log_warning("Our node %s was deleted", own->name);
	/* What it answers is about the one before. */
	kube_call_cancel(TAKE_PTR(own->call));
	own->get_needed = false;
	/* What was before its end, and is told later, is not believed. */
	kube_link_set_text(&own->node.resource_version,
			   node->resource_version ? mem_strdup(node->resource_version) : NULL);
	say_absent(k, "it was deleted");
}

/* ---- calls ---- */

static struct kube_call *call_own(struct kube *k, const char *path, const char *patch,
				  void (*done)(const struct kube_outcome *outcome, void *userdata))
{
	k->own.overtaken = false;
	return kube_call_new(k->api, &(struct kube_request){
					     .method = patch ? "PATCH" : "GET",
					     .path = path,
					     .accept = KUBE_ACCEPT_JSON,
					     .content_type = patch ? KUBE_STRATEGIC_MERGE : NULL,
					     .body = patch,
					     .timeout_ms = KUBE_CALL_MS,
					     .done = done,
					     .userdata = k,
				     });
}

/* Whether the watch has told meanwhile what came after the answer. */
static bool is_overtaken(const struct kube_own *own, const struct kube_node *node)
{
	const uint64_t version = kube_version(node->resource_version);

	return own->overtaken && (!version || version < kube_version(own->node.resource_version));
}

/* What a GET and a PATCH answer: our node, whole. False: it is not, which was said. */
static bool take_answer(struct kube *k, const struct kube_outcome *outcome)
{
	_cleanup_free_ char *name = NULL;
	struct kube_node node;
	struct err err;

	k->own.call = NULL;
	k->own.get_needed = true;
	if (outcome->absent) {
		on_absent(k);
		return false;
	}
	if (outcome->why) {
		retry_later(k, outcome->why, outcome->wait_ms);
		return false;
	}
	name = kube_link_string(outcome->body, "metadata.name");
	if (!kube_own_is(k, name)) {
		(void)err_set(&err, -EPROTO,
			      "%.200s: what it answers for our node is not that: is it a "
			      "Kubernetes API?",
			      kube_api_describe(k->api));
		retry_later(k, err.text, 0);
		return false;
	}
	if (kube_node_parse(outcome->body, &k->keys, &node, &err) < 0) {
		retry_later(k, err.text, 0);
		return false;
	}
	worked(&k->own);
	kube_link_note_version(&k->link, node.resource_version);
	if (!is_overtaken(&k->own, &node)) {
		k->own.get_needed = false;
		see(k, &node);
	}
	kube_node_done(&node);
	return true;
}

static void on_got(const struct kube_outcome *outcome, void *userdata)
{
	struct kube *k = userdata;

	if (take_answer(k, outcome))
		kube_own_step(k);
}

static void call_get(struct kube *k)
{
	_cleanup_free_ char *path = kube_node_path(k->own.name, "");

	k->own.get_after_ms = loop_now_ms() + GET_EVERY_MS;
	k->own.call = call_own(k, path, NULL, on_got);
}

static void on_patched(const struct kube_outcome *outcome, void *userdata)
{
	struct kube *k = userdata;

	/* Otherwise it may have been written for all that: it is read again. */
	if (!take_answer(k, outcome))
		return;
	k->own.served = k->own.sent;
	k->own.published = true;
	kube_tell_synced(k);
	kube_own_step(k);
}

static void call_patch(struct kube *k, const char *patch)
{
	_cleanup_free_ char *path = kube_node_path(k->own.name, "/status");

	log_debug(1, "Our node %s: %s", k->own.name, patch);
	k->own.sent = k->own.asked;
	k->own.call = call_own(k, path, patch, on_patched);
}

static void on_pod(const struct kube_outcome *outcome, void *userdata)
{
	struct kube *k = userdata;
	struct kube_own *own = &k->own;
	struct json_slice value;
	char why[ERR_TEXT_MAX];

	own->call = NULL;
	if (outcome->why) {
		retry_later(k, outcome->why, outcome->wait_ms);
		return;
	}
	if (json_slice_find(outcome->body, "spec.nodeName", &value) == 0 && value.p)
		own->name = json_slice_string(value);
	if (!own->name || !kube_name_is_good(own->name)) {
		free(TAKE_PTR(own->name));
		(void)snprintf(why, sizeof(why),
			       "pod %.100s in namespace %.100s (POD_NAME, POD_NAMESPACE) has no "
			       "node's name",
			       k->settings->pod_name, k->settings->pod_namespace);
		retry_later(k, why, 0);
		return;
	}
	worked(own);
	log_info("We are on node %s", own->name);
	kube_own_step(k);
}

static void call_pod(struct kube *k)
{
	_cleanup_free_ char *path = NULL;

	if (asprintf(&path, "/api/v1/namespaces/%s/pods/%s", k->settings->pod_namespace,
		     k->settings->pod_name) < 0)
		abort();
	k->own.call = call_own(k, path, NULL, on_pod);
}

/* ---- steps ---- */

static void tell(struct kube *k, const struct lease *lease)
{
	struct kube_own *own = &k->own;

	if (own->told && !memcmp(own->told_subnet, lease->subnet, sizeof(own->told_subnet)))
		return;
	own->told = true;
	memcpy(own->told_subnet, lease->subnet, sizeof(own->told_subnet));
	k->store.events.own(lease, k->store.events.userdata);
}

/* All is as it should be. */
static void settle(struct kube *k)
{
	struct kube_own *own = &k->own;

	own->served = own->asked;
	own->published = true;
	kube_tell_synced(k);
	/* While two write one node it is good in between. */
	if (*own->fight && loop_now_ms() > own->rewritten_ms + 2 * own->rewrite_wait_ms)
		*own->fight = '\0';
	else if (*own->fight)
		loop_timer_set_sooner(own->timer, 2 * own->rewrite_wait_ms);
	set_own_problem(k, "");
}

static void publish(struct kube *k)
{
	struct kube_own *own = &k->own;
	struct ip_net subnet[IP_FAMILY_COUNT];
	_cleanup_free_ char *patch = NULL;
	struct lease lease;
	struct err err;
	const int r = kube_publish_subnet(k, subnet, &err);

	if (r == -EAGAIN && own->node.is_partial)
		return; /* it is about to be read */
	if (r < 0) {
		set_own_problem(k, err.text);
		own->looking = r == -EAGAIN;
		if (own->looking && !own->get_needed)
			loop_timer_set_sooner(own->timer, loop_jitter_ms(LOOK_MS));
		return;
	}
	lease = kube_publish_lease(k, subnet);
	tell(k, &lease);
	patch = kube_node_patch(&own->node, &k->keys, &lease,
				own->up && k->settings->set_network_unavailable, time(NULL));
	lease_done(&lease);
	if (own->call)
		return; /* the owner has asked for more */
	if (!patch)
		settle(k);
	else if (kube_publish_may_rewrite(k))
		call_patch(k, patch);
}

void kube_own_step(struct kube *k)
{
	struct kube_own *own = &k->own;
	const int64_t now = loop_now_ms();

	if (!own->begun || own->call)
		return;
	if (now < own->not_before_ms) {
		loop_timer_set(own->timer, own->not_before_ms - now);
		return;
	}
	if (!own->name) {
		call_pod(k);
		return;
	}
	if (own->get_needed && now >= own->get_after_ms) {
		call_get(k);
		return;
	}
	if (own->get_needed)
		loop_timer_set(own->timer, own->get_after_ms - now);
	if (!own->node.name || own->absent)
		return;
	if (own->wanted)
		publish(k);
	else
		set_own_problem(k, "");
}

static void on_timer(void *userdata)
{
	struct kube *k = userdata;

	if (k->own.looking)
		k->own.get_needed = true;
	k->own.looking = false;
	kube_own_step(k);
}

/* ---- for the owner ---- */

void kube_own_want(struct kube *k, const struct store_request *request)
{
	claim_set(&k->own.claim, request);
	k->own.wanted = true;
	k->own.asked++;
	kube_own_step(k);
}

void kube_own_up(struct kube *k)
{
	if (k->own.up)
		return;
	k->own.up = true;
	k->own.asked++;
	kube_own_step(k);
}

bool kube_own_find(const struct kube *k, struct lease *ret_own)
{
	const bool families[IP_FAMILY_COUNT] = {[IP_V4] = true, [IP_V6] = true};
	struct lease lease = {0};

	if (!k->own.node.name)
		return false;
	(void)kube_node_lease(&k->own.node, families, &lease, NULL);
	if (!ip_net_is_set(&lease.subnet[IP_V4]) && !ip_net_is_set(&lease.subnet[IP_V6]))
		return false;
	lease.expires_s = 0; /* nobody else's: it is that of our name */
	*ret_own = lease;
	return true;
}

/* ---- life ---- */

void kube_own_init(struct kube *k)
{
	k->own.timer = loop_timer_new(k->store.loop, on_timer, k);
	k->own.get_needed = true;
	if (*k->settings->node_name)
		k->own.name = mem_strdup(k->settings->node_name);
}

void kube_own_start(struct kube *k)
{
	k->own.begun = true;
	kube_own_step(k);
}

void kube_own_done(struct kube *k)
{
	kube_call_cancel(TAKE_PTR(k->own.call));
	loop_event_free(k->own.timer);
	kube_node_done(&k->own.node);
	claim_done(&k->own.claim);
	free(k->own.name);
}
