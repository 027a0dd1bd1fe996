/* SPDX-License-Identifier: Apache-2.0 */
/* kube_link.c - Kubernetes store: list, then watch, and what to do when that fails
 *
 * Theory of operation. One call is under way at a time:
 *
 *	        want             complete             ended by itself
 *	IDLE ---------> LISTING ----------> WATCHING ----------------+
 *	  ^               |  ^                |   ^------------------+
 *	  |   failed      |  | 410            | failed      ^
 *	  +---------------+  +-------------<--+             | not before what we know
 *	  +--------------------------------<--+             |
 *	  |  listed before                                  |
 *	  +----------> COMPARING ---------------------------+--> LISTING: it went back
 *
 * A list is read page by page, each node as it comes: memory is bounded by one page's
 * metadata and one node. A page that fails is asked for again. What was heard last is
 * `cursor`, a resourceVersion; a watch goes on from there, also after a failure. A server
 * whose etcd was restored from a backup would be silent then until its history has caught up,
 * and then tell half of the truth: so after each watch that did not end by itself, the
 * server's present resourceVersion is compared first with the newest that was heard of, in the
 * watch or in an answer. (One whose restored history is longer than ours by then cannot be told
 * from one that went on.)
 */
#include "store/kube_internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <ctype.h>
#include <stdio.h>

#define SPREAD_PER_NODE_MS 2 /* what comes down on the API at once stays the same */

void kube_link_set_text(char **member, char *text)
{
	free(*member);
	*member = text;
}

/* ---- failures ---- */

void kube_link_hang_up(struct kube *k)
{
	struct kube_link *link = &k->link;

	kube_call_cancel(TAKE_PTR(link->call));
	kube_call_cancel(TAKE_PTR(link->probe));
	json_stream_free(TAKE_PTR(link->stream));
	loop_timer_stop(link->probe_timer);
	link->phase = KUBE_IDLE;
	link->behind = 0;
}

/* A watch that stood for a while ends a round of tries. */
static void note_end(struct kube_link *link)
{
	if (link->live_since_ms && loop_now_ms() - link->live_since_ms >= KUBE_STEADY_MS)
		link->retry.next_ms = 0;
	link->live_since_ms = 0;
}

void kube_link_lost(struct kube *k, const char *why, unsigned least_ms)
{
	struct kube_link *link = &k->link;
	char problem[ERR_TEXT_MAX];
	int64_t wait_ms;

	note_end(link);
	if (link->was_live)
		log_info("%s", why);
	link->was_live = false;
	(void)snprintf(problem, sizeof(problem), "%s; %.440s",
		       link->listed ? "keeping what is known" : "waiting for the Kubernetes API",
		       why);
	kube_link_hang_up(k);
	wait_ms = kube_retry_wait_ms(&link->retry, least_ms);
	loop_timer_set(link->retry_timer, wait_ms);
	kube_set_problem(k, k->link_problem, problem);
}

void kube_link_forget_history(struct kube *k, const char *why)
{
	struct kube_link *link = &k->link;
	const int64_t spread_ms = SPREAD_PER_NODE_MS * (int64_t)peers_count(k->store.peers);

	log_info("%s: listing all nodes again", why);
	note_end(link);
	link->again = true;
	kube_link_hang_up(k);
	/* Every host hears of it at the same time. */
	loop_timer_set(link->retry_timer,
		       kube_retry_wait_ms(&link->retry, 0) + loop_jitter_ms(spread_ms));
}

void kube_link_alive(struct kube *k)
{
	kube_set_problem(k, k->link_problem, "");
}

void kube_link_fail_stream(struct kube_link *link, int code, const char *why)
{
	if (link->failed)
		return;
	link->failed = code;
	(void)err_set(&link->failure, code, "%s", why);
}

void kube_link_note_version(struct kube_link *link, const char *version)
{
	const uint64_t number = kube_version(version);

	if (number > link->newest)
		link->newest = number;
}

/* Our name is known: the owner asks for a lease once it has the config. */
char *kube_link_path(const struct kube *k, const char *query)
{
	const bool alone = k->link.alone;
	char *path;

	if (asprintf(&path, KUBE_NODES "?%s%s%s", query,
		     alone ? "&fieldSelector=metadata.name%3D" : "", alone ? k->own.name : "") < 0)
		abort();
	return path;
}

char *kube_link_encode(const char *text)
{
	static const char hex[] = "0123456789ABCDEF";
	char *encoded = mem_alloc(3 * strlen(text) + 1, 1), *p = encoded;

	for (; *text; text++) {
		const unsigned char c = (unsigned char)*text;

		if (isalnum(c) || strchr("-._~", c)) {
			*p++ = *text;
			continue;
		}
		*p++ = '%';
		*p++ = hex[c >> 4];
		*p++ = hex[c & 15];
	}
	return encoded;
}

char *kube_link_string(struct json_slice object, const char *path)
{
	struct json_slice value;

	return json_slice_find(object, path, &value) == 0 && value.p ? json_slice_string(value)
								     : NULL;
}

/* ---- has it gone back? ---- */

static void on_compared(const struct kube_outcome *outcome, void *userdata)
{
	struct kube *k = userdata;
	struct kube_link *link = &k->link;
	_cleanup_free_ char *version = NULL;
	uint64_t now;

	link->call = NULL;
	if (outcome->why) {
		kube_link_lost(k, outcome->why, outcome->wait_ms);
		return;
	}
	version = kube_link_string(outcome->body, "metadata.resourceVersion");
	now = kube_version(version);
	if (now && now < link->newest) {
		link->suspect = true;
		kube_list_start(k);
		return;
	}
	link->doubt = false;
	kube_watch_start(k);
}

static void start_compare(struct kube *k)
{
	struct kube_link *link = &k->link;
	_cleanup_free_ char *path = kube_link_path(k, "limit=1");

	link->phase = KUBE_COMPARING;
	link->call = kube_call_new(k->api, &(struct kube_request){
						   .method = "GET",
						   .path = path,
						   .accept = KUBE_ACCEPT_JSON,
						   .timeout_ms = KUBE_CALL_MS,
						   .done = on_compared,
						   .userdata = k,
					   });
}

/* ---- life ---- */

void kube_link_connect(void *userdata)
{
	struct kube *k = userdata;
	struct kube_link *link = &k->link;

	loop_timer_stop(link->retry_timer);
	kube_link_hang_up(k);
	if (!link->started)
		return;
	if (!link->listed || link->again)
		kube_list_start(k);
	else if (link->doubt)
		start_compare(k);
	else
		kube_watch_start(k);
}

static void list_again(void *userdata)
{
	struct kube *k = userdata;

	k->link.again = true;
	kube_link_connect(k);
}

void kube_link_want(struct kube *k)
{
	struct kube_link *link = &k->link;
	/* It wants nothing but a subnet. */
	const bool alone = !strcmp(k->own.claim.attrs.backend_type, "alloc");

	if (link->started && alone == link->alone)
		return;
	link->again = link->started;
	link->started = true;
	link->alone = alone;
	kube_link_set_text(&link->next, NULL);
	loop_timer_set(link->retry_timer, 0); /* we may be called out of a watch */
}

void kube_link_init(struct kube *k)
{
	k->link.retry_timer = loop_timer_new(k->store.loop, kube_link_connect, k);
	k->link.list_timer = loop_timer_new(k->store.loop, list_again, k);
	k->link.probe_timer = loop_timer_new(k->store.loop, kube_watch_probe, k);
}

void kube_link_done(struct kube *k)
{
	struct kube_link *link = &k->link;

	kube_link_hang_up(k);
	loop_event_free(link->retry_timer);
	loop_event_free(link->list_timer);
	loop_event_free(link->probe_timer);
	free(link->cursor);
	free(link->next);
	free(link->first);
}
