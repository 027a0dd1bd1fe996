/* SPDX-License-Identifier: Apache-2.0 */
/* kube_watch.c - Kubernetes store: the watch of all nodes, and its probe
 *
 * A watch that is silent may be one that is idle, dead, or forgotten by its server. TCP
 * notices some of that. The probe notices the rest: it reads our own node, and compares its
 * resourceVersion with what the watch has told.
 */
#include "store/kube_internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#define WATCH_MIN_S   300
#define WATCH_MAX_S   600
#define WATCH_GRACE_S 30
#define SILENCE_MS    30000 /* of the watch, until it is probed */
#define BEHIND_MS     3000  /* between our node's change and the watch's word of it */

static void on_error_event(struct kube *k, struct json_slice object)
{
	struct kube_link *link = &k->link;
	struct kube_status status;
	char why[ERR_TEXT_MAX];

	if (kube_status_parse(object, &status) < 0) {
		kube_link_fail_stream(link, -EPROTO,
				      "the watch has ended with an error that makes no sense");
		return;
	}
	link->failed_wait_ms = 1000 * (status.retry_after_s < KUBE_WAIT_MAX_S ? status.retry_after_s
									      : KUBE_WAIT_MAX_S);
	(void)snprintf(why, sizeof(why), "the watch has ended: %d %s: %.300s", status.code,
		       status.reason, status.message);
	kube_link_fail_stream(link,
			      status.code == 410 || !strcmp(status.reason, "Expired") ||
					      !strcmp(status.reason, "Gone")
				      ? -ESTALE
				      : -EPROTO,
			      why);
}

/* The watch has told of our node what the probe has seen. */
static void note_own(struct kube_link *link, const struct kube_node *node)
{
	if (link->behind && kube_version(node->resource_version) >= link->behind)
		link->behind = 0;
}

static void on_node_event(struct kube *k, struct json_slice object, bool deleted)
{
	struct kube_link *link = &k->link;
	struct kube_node node;
	struct err err;

	if (kube_node_parse(object, &k->keys, &node, &err) < 0) {
		kube_list_take_unreadable(k, object, &err);
		return;
	}
	kube_link_note_version(link, node.resource_version);
	if (node.resource_version && *node.resource_version)
		kube_link_set_text(&link->cursor, mem_strdup(node.resource_version));
	if (node.name && kube_own_is(k, node.name)) {
		note_own(link, &node);
		if (deleted)
			kube_own_deleted(k, &node);
		else
			kube_own_take(k, &node);
	} else if (node.name && deleted) {
		kube_peers_delete(k, &node);
	} else if (node.name) {
		kube_peers_take(k, &node, false);
	}
	kube_node_done(&node);
}

static void on_event(struct json_slice event, void *userdata)
{
	struct kube *k = userdata;
	struct json_slice type, object;
	char *version;

	if (k->link.failed)
		return;
	if (json_slice_find(event, "type", &type) < 0 ||
	    json_slice_find(event, "object", &object) < 0 || !type.p || !object.p) {
		kube_link_fail_stream(&k->link, -EPROTO,
				      "the watch tells something that is no event");
	} else if (json_slice_is(type, "ADDED") || json_slice_is(type, "MODIFIED")) {
		on_node_event(k, object, false);
	} else if (json_slice_is(type, "DELETED")) {
		on_node_event(k, object, true);
	} else if (json_slice_is(type, "BOOKMARK")) {
		version = kube_link_string(object, "metadata.resourceVersion");
		kube_link_note_version(&k->link, version);
		if (version && *version)
			kube_link_set_text(&k->link.cursor, version);
		else
			free(version);
	} else if (json_slice_is(type, "ERROR")) {
		on_error_event(k, object);
	}
}

/* What cannot be read is asked for once more; what then cannot be read either is left out by
 * listing what there is now. */
static void end_broken_watch(struct kube *k)
{
	struct kube_link *link = &k->link;
	struct err why = link->failure;

	link->doubt = true;
	if (link->failed == -ESTALE || link->has_garbage) {
		link->has_garbage = false;
		kube_link_forget_history(k, why.text);
		return;
	}
	/* An error is the server's word; the rest is not. */
	link->has_garbage = link->failed != -EPROTO;
	kube_link_lost(k, why.text, link->failed_wait_ms);
}

static void arm_probe(struct kube *k)
{
	loop_timer_set(k->link.probe_timer, loop_jitter_ms(SILENCE_MS));
}

static void on_watch_begun(void *userdata)
{
	struct kube *k = userdata;
	struct kube_link *link = &k->link;

	link->live_since_ms = link->heard_ms = loop_now_ms();
	link->was_live = true;
	arm_probe(k);
	vanished_resume(&k->peers.vanished);
	kube_link_alive(k);
}

static void on_watch_piece(const char *data, size_t len, void *userdata)
{
	struct kube *k = userdata;
	struct kube_link *link = &k->link;
	char why[ERR_TEXT_MAX];
	struct err err;
	int r;

	link->heard_ms = loop_now_ms();
	r = json_stream_feed(link->stream, data, len, &err);
	if (r < 0) {
		(void)snprintf(why, sizeof(why), "the watch makes no sense: %.400s", err.text);
		kube_link_fail_stream(link, r, why);
	}
	if (link->failed)
		end_broken_watch(k);
	else
		link->has_garbage = false;
}

static void on_watch_done(const struct kube_outcome *outcome, void *userdata)
{
	struct kube *k = userdata;
	struct kube_link *link = &k->link;

	link->call = NULL;
	if (outcome->expired) {
		kube_link_forget_history(k, outcome->why);
	} else if (outcome->why || !json_stream_is_complete(link->stream)) {
		link->doubt = true;
		kube_link_lost(k,
			       outcome->why ? outcome->why : "the watch has ended within an event",
			       outcome->wait_ms);
	} else if (loop_now_ms() - link->live_since_ms < KUBE_STEADY_MS) {
		/* A server that ends one watch after the other is not to be run down. */
		kube_link_hang_up(k);
		loop_timer_set(link->retry_timer, kube_retry_wait_ms(&link->retry, 0));
	} else {
		link->retry.next_ms = 0;
		kube_link_hang_up(k);
		kube_watch_start(k);
	}
}

void kube_watch_start(struct kube *k)
{
	struct kube_link *link = &k->link;
	const int64_t seconds = WATCH_MIN_S + loop_jitter_ms(2 * (WATCH_MAX_S - WATCH_MIN_S)) -
				(WATCH_MAX_S - WATCH_MIN_S);
	_cleanup_free_ char *path = NULL, *query = NULL, *version = kube_link_encode(link->cursor);

	if (asprintf(&query,
		     "watch=true&resourceVersion=%s&allowWatchBookmarks=true&timeoutSeconds="
		     "%" PRId64,
		     version, seconds) < 0)
		abort();
	path = kube_link_path(k, query);
	link->phase = KUBE_WATCHING;
	link->failed = 0;
	link->failed_wait_ms = 0;
	link->live_since_ms = 0;
	link->stream = json_stream_new(JSON_STREAM_OBJECTS, KUBE_ELEMENT_MAX, on_event, k);
	link->call = kube_call_new(k->api,
				   &(struct kube_request){
					   .method = "GET",
					   .path = path,
					   .accept = KUBE_ACCEPT_PARTIAL,
					   .timeout_ms = (unsigned)(seconds + WATCH_GRACE_S) * 1000,
					   .own_connection = true,
					   .begun = on_watch_begun,
					   .piece = on_watch_piece,
					   .done = on_watch_done,
					   .userdata = k,
				   });
	/* A server that takes the request and is silent is noticed as well. */
	arm_probe(k);
}

/* ---- probe ---- */

static void on_probed(const struct kube_outcome *outcome, void *userdata)
{
	struct kube *k = userdata;
	struct kube_link *link = &k->link;
	struct kube_node node = {0};
	struct err err;

	link->probe = NULL;
	/* That it refuses to tell is no sign of a watch's death. */
	if (outcome->why && !outcome->http_status) {
		link->doubt = true;
		kube_link_lost(k, outcome->why, 0);
		return;
	}
	arm_probe(k);
	if (outcome->why || kube_node_parse(outcome->body, &k->keys, &node, &err) < 0)
		return;
	if (kube_version(node.resource_version) > kube_version(k->own.node.resource_version) &&
	    !link->behind) {
		link->behind = kube_version(node.resource_version);
		loop_timer_set(link->probe_timer, BEHIND_MS);
	}
	kube_node_done(&node);
}

void kube_watch_probe(void *userdata)
{
	struct kube *k = userdata;
	struct kube_link *link = &k->link;
	const int64_t silent_ms = loop_now_ms() - link->heard_ms;
	_cleanup_free_ char *path = NULL;

	if (link->phase != KUBE_WATCHING || link->probe || !k->own.name)
		return;
	if (link->behind) {
		kube_link_forget_history(k, "the watch is silent about a change of our node");
		return;
	}
	if (!link->live_since_ms) {
		link->doubt = true;
		kube_link_lost(k, "no answer to the request for a watch", 0);
		return;
	}
	if (silent_ms < SILENCE_MS / 2) {
		loop_timer_set(link->probe_timer, SILENCE_MS - silent_ms);
		return;
	}
	path = kube_node_path(k->own.name, "");
	link->probe = kube_call_new(k->api, &(struct kube_request){
						    .method = "GET",
						    .path = path,
						    .accept = KUBE_ACCEPT_PARTIAL,
						    .timeout_ms = KUBE_CALL_MS,
						    .done = on_probed,
						    .userdata = k,
					    });
}
