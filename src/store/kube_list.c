/* SPDX-License-Identifier: Apache-2.0 */
/* kube_list.c - Kubernetes store: the list of all nodes, in pages
 *
 * Each node is taken as it comes. A page that fails is asked for again; a list whose history
 * is gone meanwhile goes on with what there is now, where the server offers that.
 */
#include "store/kube_internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>

#define PAGE_NODES   500
#define PAGE_MS      120000
#define PAGE_SILENCE 20000
#define CONFIRM_MS   20000 /* from a doubtful list to the second one, at most */

static void start_page(struct kube *k);

void kube_list_take_unreadable(struct kube *k, struct json_slice object, const struct err *err)
{
	struct json_slice value;
	struct kube_node node = {0};

	if (json_slice_find(object, "metadata.name", &value) == 0)
		node.name = json_slice_string(value);
	if (node.name && kube_own_is(k, node.name))
		k->link.own_listed = true;
	else if (node.name)
		kube_peers_keep(k, &node);
	kube_peers_complain(k, node.name ? node.name : "", err->text);
	kube_node_done(&node);
}

static void on_item(struct json_slice item, void *userdata)
{
	struct kube *k = userdata;
	struct kube_node node;
	struct err err;

	if (kube_node_parse(item, &k->keys, &node, &err) < 0) {
		kube_list_take_unreadable(k, item, &err);
		return;
	}
	if (node.name && kube_own_is(k, node.name)) {
		k->link.own_listed = true;
		kube_own_take(k, &node);
	} else if (node.name) {
		kube_peers_take(k, &node, true);
	}
	kube_node_done(&node);
}

static void on_page_piece(const char *data, size_t len, void *userdata)
{
	struct kube *k = userdata;
	struct err err;
	int r;

	if (k->link.failed)
		return;
	r = json_stream_feed(k->link.stream, data, len, &err);
	if (r < 0)
		kube_link_fail_stream(&k->link, r, err.text);
}

/* The list is complete. */
static void end_list(struct kube *k)
{
	struct kube_link *link = &k->link;
	const uint64_t before = kube_version(link->cursor), now = kube_version(link->first);
	const bool back = before && now && now < before;
	size_t doubtful;

	if (back)
		log_warning("The cluster's data is older than before (etcd was restored?)");
	if (back || link->suspect || (k->own.told && !link->own_listed))
		peers_list_suspect(k->store.peers);
	doubtful = kube_peers_list_end(k);
	if (doubtful) {
		const int64_t wait_ms = loop_jitter_ms(CONFIRM_MS);

		log_warning("%zu of %zu peers have vanished from Kubernetes at once: keeping them "
			    "until a second look in %lld s",
			    doubtful, peers_count(k->store.peers), (long long)(wait_ms / 1000));
		loop_timer_set(link->list_timer, wait_ms);
	}
	kube_link_set_text(&link->cursor, TAKE_PTR(link->first));
	link->newest = now;
	kube_link_set_text(&link->next, NULL);
	link->listed = true;
	link->again = link->suspect = link->doubt = false;
	if (!link->own_listed)
		kube_own_missing(k);
}

/* One page is. */
static void end_page(struct kube *k)
{
	struct kube_link *link = &k->link;
	const struct json_slice rest = json_stream_rest(link->stream);
	_cleanup_free_ char *next = kube_link_string(rest, "metadata.continue");
	_cleanup_free_ char *version = kube_link_string(rest, "metadata.resourceVersion");

	if (!version || !*version) {
		kube_link_lost(
			k, "the list of nodes has no resourceVersion: is that a Kubernetes API?",
			0);
		return;
	}
	/* A list that went on after its history was gone is watched from its first page on. */
	if (!link->first)
		link->first = TAKE_PTR(version);
	json_stream_free(TAKE_PTR(link->stream));
	kube_link_alive(k);
	if (next && *next) {
		kube_link_set_text(&link->next, kube_link_encode(next));
		start_page(k);
		return;
	}
	end_list(k);
	kube_watch_start(k);
	kube_own_step(k);
	kube_tell_synced(k);
}

static void on_page_done(const struct kube_outcome *outcome, void *userdata)
{
	struct kube *k = userdata;
	struct kube_link *link = &k->link;
	char why[ERR_TEXT_MAX];

	link->call = NULL;
	if (outcome->expired) {
		/* It cannot be gone on with as of its begin; perhaps as of now. */
		kube_link_set_text(&link->next,
				   outcome->next ? kube_link_encode(outcome->next) : NULL);
		if (!link->next)
			link->again = true;
		kube_link_lost(k, outcome->why, outcome->wait_ms);
	} else if (outcome->why) {
		kube_link_lost(k, outcome->why, outcome->wait_ms);
	} else if (link->failed || !json_stream_is_complete(link->stream)) {
		(void)snprintf(why, sizeof(why), "the list of nodes makes no sense: %.400s",
			       link->failed ? link->failure.text : "it is cut short");
		kube_link_lost(k, why, 0);
	} else {
		end_page(k);
	}
}

static void start_page(struct kube *k)
{
	struct kube_link *link = &k->link;
	_cleanup_free_ char *path = NULL, *query = NULL;

	if (asprintf(&query, "limit=%d%s%s", PAGE_NODES, link->next ? "&continue=" : "",
		     link->next ? link->next : "") < 0)
		abort();
	path = kube_link_path(k, query);
	link->phase = KUBE_LISTING;
	link->failed = 0;
	link->stream = json_stream_new(JSON_STREAM_ITEMS, KUBE_ELEMENT_MAX, on_item, k);
	link->call = kube_call_new(k->api, &(struct kube_request){
						   .method = "GET",
						   .path = path,
						   .accept = KUBE_ACCEPT_JSON,
						   .timeout_ms = PAGE_MS,
						   .silence_ms = PAGE_SILENCE,
						   .piece = on_page_piece,
						   .done = on_page_done,
						   .userdata = k,
					   });
}

void kube_list_start(struct kube *k)
{
	struct kube_link *link = &k->link;

	loop_timer_stop(link->list_timer); /* this is the second look */
	/* A list that was broken off is gone on with. */
	if (!link->next) {
		kube_link_set_text(&link->first, NULL);
		link->own_listed = false;
		kube_peers_list_begin(k);
	}
	start_page(k);
}
