/* SPDX-License-Identifier: Apache-2.0 */
/* etcd_v2.c - etcd's v2 API: keys by HTTP/1.1
 *
 * Theory of operation. Every call is a request of its own over a connection of its own.
 * Where a comparison failed, a second request reads what is there, since v2 does not say.
 * Calls that need no request, or cannot make one, are answered by a timer: never from
 * inside the call.
 *
 * v2 has no leases: a key has a TTL of its own. `grant` remembers how long it is to be,
 * `create` and `update` write it with the key, and `renew` refreshes the key: that moves its
 * modifiedIndex, and watchers are not told.
 *
 * A watch is a chain of long polls; each is answered by one event, and the next one asks
 * for what came after. etcd keeps the last 1000 events of the whole store, looks through
 * them and begins to wait in one step, so nothing is lost between two polls, or etcd says
 * that the history has been cleared. A poll without an answer is given up after POLL_MS,
 * since a server without a quorum keeps silent, and asked again *from the same index*: that
 * index may have been cleared by then, and everything is listed once more, which happens at
 * most once in POLL_MS. To go on from the index of the poll's own header would spare the
 * list, but relies on no event being on its way when the poll is given up. An event of a
 * directory does not name the keys in it: that, too, ends the watch for a new list.
 *
 * Callbacks may hang up. Whoever calls one and goes on afterwards looks at `epoch`.
 */
#include "base/mem.h"
#include "io/http.h"
#include "store/etcd_api.h"
#include "store/etcd_v2_codec.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define TTL_DEFAULT_S 86400 /* where nothing was granted since the start */
#define LEASE         1     /* of every key with a TTL */
#define POLL_MS       (5 * 60 * 1000)

enum verb {
	VERB_LIST,
	VERB_GET,
	VERB_GRANT,
	VERB_CREATE,
	VERB_UPDATE,
	VERB_REMOVE,
	VERB_RENEW,
	VERB_COUNT
};

struct v2;

struct v2_call {
	struct v2 *v2;
	struct http_request *request;
	/* Takes the answer. @reply: its status and words, and what the headers tell. */
	void (*answered)(struct v2_call *call, const struct etcd_v2_answer *answer,
			 struct etcd_reply *reply);
	etcd_reply_fn done; /* NULL: there is no call */
	etcd_kv_fn each;    /* list */
	void *userdata;
	char *key, *value;  /* renew: the value that the key should have */
	bool renewed_again; /* renew: with the revision that was found */
	bool deferred;      /* the answer is `status` and `why`, and waits for the timer */
	enum etcd_status status;
	struct err why;
};

struct v2_watch {
	struct http_request *request;
	struct event *timer; /* of the poll under way */
	struct etcd_watch_events events;
	int64_t from;
	uint64_t cluster;
	bool standing; /* the poll's header has come */
	bool ready;    /* and so has one before it */
	bool deferred; /* it cannot even begin: why */
	struct err why;
};

struct v2 {
	struct etcd_api api; /* first */
	char prefix[ETCD_PREFIX_MAX];
	struct v2_call calls[VERB_COUNT];
	struct v2_watch watch;
	struct event *deferred_timer;
	int64_t ttl_s;
	unsigned epoch; /* of hang_up() */
};

static struct v2 *to_v2(struct etcd_api *api)
{
	return (struct v2 *)api; /* first member */
}

static const char *user_of(const struct v2 *v2)
{
	return v2->api.link->settings->username;
}

/* ---- requests ---- */

/* The header that carries user and password; *ret_text stays NULL without a user. */
static int authorize(const struct v2 *v2, char **ret_text, struct err *err)
{
	_cleanup_secret_ char *password = NULL;
	int r;

	if (!etcd_link_has_user(v2->api.link))
		return 0;
	r = etcd_link_password(v2->api.link, &password, err);
	if (r < 0)
		return r;
	*ret_text = http_basic(user_of(v2), password);
	return 0;
}

/* Fills in what all requests have in common, and sends. NULL with an error: the password
 * cannot be read. */
static struct http_request *send_request(struct v2 *v2, struct http_options *options,
					 const char *key, const char *query, struct err *err)
{
	_cleanup_secret_ char *authorization = NULL;
	_cleanup_free_ char *target = etcd_v2_target(v2->prefix, key, query);
	struct http_header headers[2];

	if (authorize(v2, &authorization, err) < 0)
		return NULL;
	if (authorization)
		headers[options->n_headers++] =
			(struct http_header){"Authorization", authorization};
	if (options->body)
		headers[options->n_headers++] =
			(struct http_header){"Content-Type", "application/x-www-form-urlencoded"};
	options->headers = headers;
	options->endpoint = etcd_link_endpoint(v2->api.link);
	options->files = &v2->api.link->settings->files;
	options->target = target;
	return http_request_new(v2->api.loop, options);
}

/* The server's word on its state. */
static void read_headers(const struct http_answer *http, struct etcd_reply *reply)
{
	const char *index = http_answer_header(http, "X-Etcd-Index");
	const char *cluster = http_answer_header(http, "X-Etcd-Cluster-Id");

	if (index)
		reply->revision = strtoll(index, NULL, 10);
	if (reply->revision < 0)
		reply->revision = 0;
	if (cluster)
		reply->cluster = strtoull(cluster, NULL, 16);
}

/* ---- calls ---- */

static void call_drop(struct v2_call *call)
{
	http_request_cancel(call->request);
	free(call->key);
	free(call->value);
	*call = (struct v2_call){.v2 = call->v2};
}

/* With the endpoint before the words where it is to blame. */
static void answer_caller(const struct v2 *v2, struct etcd_reply *reply, etcd_reply_fn done,
			  void *userdata)
{
	char words[ERR_TEXT_MAX];

	(void)snprintf(words, sizeof(words), "etcd %s: %.400s",
		       etcd_link_endpoint(v2->api.link)->text, reply->why ? reply->why : "");
	if (reply->status == ETCD_AWAY || reply->status == ETCD_REFUSED)
		reply->why = words;
	if (reply->status == ETCD_OK)
		reply->why = NULL;
	done(reply, userdata);
}

/* Answers @call, which is over. */
static void finish(struct v2_call *call, struct etcd_reply *reply)
{
	const struct err why = call->why; /* may be the words of @reply */
	etcd_reply_fn done = call->done;
	void *userdata = call->userdata;
	struct v2 *v2 = call->v2;

	if (reply->why == call->why.text)
		reply->why = why.text;
	call_drop(call);
	answer_caller(v2, reply, done, userdata);
}

static void defer(struct v2_call *call, enum etcd_status status)
{
	call->status = status;
	call->deferred = true;
	loop_timer_set(call->v2->deferred_timer, 0);
}

static void on_answer(const struct http_answer *http, const char *why, void *userdata)
{
	_cleanup_(etcd_v2_answer_done) struct etcd_v2_answer answer = {0};
	struct etcd_reply reply = {.status = ETCD_AWAY, .why = why};
	struct v2_call *call = userdata;
	struct err err = {""};
	struct etcd_kv kv;

	call->request = NULL;
	if (!http) {
		finish(call, &reply);
		return;
	}
	read_headers(http, &reply);
	reply.status =
		etcd_v2_read(http->status, http->body, http->len, user_of(call->v2), &answer, &err);
	reply.why = err.text;
	if (!reply.revision)
		reply.revision = answer.index;
	if (reply.status == ETCD_OK && etcd_v2_kv(call->v2->prefix, answer.node, &kv))
		reply.kv = &kv;
	/* Only a watch asks for history. */
	if (reply.status == ETCD_COMPACTED)
		reply.status = ETCD_AWAY;
	call->answered(call, &answer, &reply);
}

static void call_send(struct v2_call *call, const char *method, const char *query, const char *form,
		      int64_t timeout_ms)
{
	struct http_options options = {
		.method = method,
		.body = form,
		.timeout_ms = timeout_ms,
		.done = on_answer,
		.userdata = call,
	};

	call->request =
		send_request(call->v2, &options, call->key ? call->key : "", query, &call->why);
	if (!call->request)
		defer(call, ETCD_REFUSED);
}

static struct v2_call *call_new(struct etcd_api *api, enum verb verb, const char *key,
				etcd_reply_fn done, void *userdata)
{
	struct v2_call *call = &to_v2(api)->calls[verb];

	call->done = done;
	call->userdata = userdata;
	call->key = key ? mem_strdup(key) : NULL;
	return call;
}

static void on_deferred(void *userdata)
{
	struct v2 *v2 = userdata;

	/* Whoever hangs up here takes the mark from the others, too. */
	for (size_t i = 0; i < VERB_COUNT; i++) {
		struct v2_call *call = &v2->calls[i];
		struct etcd_reply reply = {.status = call->status, .why = call->why.text};

		if (!call->deferred)
			continue;
		if (i == VERB_GRANT) {
			reply.lease = LEASE;
			reply.ttl_s = v2->ttl_s;
		}
		finish(call, &reply);
	}
	if (v2->watch.deferred) {
		struct etcd_reply reply = {.status = ETCD_REFUSED, .why = v2->watch.why.text};

		v2->watch.deferred = false;
		answer_caller(v2, &reply, v2->watch.events.ended, v2->watch.events.userdata);
	}
}

/* ---- verbs ---- */

static void list_answered(struct v2_call *call, const struct etcd_v2_answer *answer,
			  struct etcd_reply *reply)
{
	_cleanup_free_ struct etcd_kv *kvs = NULL;
	const struct v2 *v2 = call->v2;
	const unsigned epoch = v2->epoch;
	size_t n = 0;

	if (answer->absent)
		reply->status = ETCD_OK;
	else if (reply->status == ETCD_OK)
		n = etcd_v2_list(v2->prefix, answer->node, &kvs);
	if (reply->status == ETCD_OK && !reply->revision) {
		/* Nothing to watch from. */
		reply->status = ETCD_AWAY;
		reply->why = "it answers without X-Etcd-Index";
	}
	for (size_t i = 0; i < n && reply->status == ETCD_OK; i++) {
		call->each(&kvs[i], call->userdata);
		if (v2->epoch != epoch)
			return;
	}
	finish(call, reply);
}

static void v2_list(struct etcd_api *api, etcd_kv_fn each, etcd_reply_fn done, void *userdata)
{
	struct v2_call *call = call_new(api, VERB_LIST, NULL, done, userdata);

	call->each = each;
	call->answered = list_answered;
	call_send(call, "GET", "recursive=true&quorum=true", NULL, ETCD_LIST_TIMEOUT_MS);
}

static void get_answered(struct v2_call *call, const struct etcd_v2_answer *answer,
			 struct etcd_reply *reply)
{
	if (answer->absent)
		reply->status = ETCD_OK;
	finish(call, reply);
}

static void v2_get(struct etcd_api *api, const char *key, etcd_reply_fn done, void *userdata)
{
	struct v2_call *call = call_new(api, VERB_GET, key, done, userdata);

	call->answered = get_answered;
	call_send(call, "GET", "quorum=true", NULL, ETCD_CALL_TIMEOUT_MS);
}

static void v2_grant(struct etcd_api *api, int64_t ttl_s, etcd_reply_fn done, void *userdata)
{
	to_v2(api)->ttl_s = ttl_s;
	defer(call_new(api, VERB_GRANT, NULL, done, userdata), ETCD_OK);
}

static void renew_send(struct v2_call *call, int64_t revision);

/* What is there instead of what was expected. */
static void conflict_answered(struct v2_call *call, const struct etcd_v2_answer *answer,
			      struct etcd_reply *reply)
{
	const struct etcd_kv *kv = reply->kv;

	/* A renewal that was not answered in time may have been done all the same: it is still
	 * our record, of another revision. */
	if (kv && kv->lease && call->value && !call->renewed_again &&
	    !strcmp(kv->value, call->value)) {
		call->renewed_again = true;
		renew_send(call, kv->revision);
		return;
	}
	if (reply->status == ETCD_OK || answer->absent) {
		reply->status = ETCD_CONFLICT;
		reply->why = call->why.text;
	}
	finish(call, reply);
}

/* Of create, update and remove. */
static void write_answered(struct v2_call *call, const struct etcd_v2_answer *answer,
			   struct etcd_reply *reply)
{
	if (reply->status == ETCD_CONFLICT && !answer->absent) {
		(void)err_set(&call->why, -EEXIST, "%s", reply->why);
		call->answered = conflict_answered;
		call_send(call, "GET", "quorum=true", NULL, ETCD_CALL_TIMEOUT_MS);
		return;
	}
	if (reply->kv)
		reply->revision = reply->kv->revision;
	reply->kv = NULL;
	finish(call, reply);
}

static void v2_create(struct etcd_api *api, const char *key, const char *value, int64_t lease,
		      etcd_reply_fn done, void *userdata)
{
	_cleanup_free_ char *form = etcd_v2_form(value, lease ? to_v2(api)->ttl_s : 0);
	struct v2_call *call = call_new(api, VERB_CREATE, key, done, userdata);

	call->answered = write_answered;
	call_send(call, "PUT", "prevExist=false", form, ETCD_CALL_TIMEOUT_MS);
}

/* Sends a request that holds only for @revision. etcd takes a prevIndex of 0 for none, and
 * would write in any case: there, what is to be compared cannot be the same. */
static void send_compared(struct v2_call *call, const char *method, int64_t revision,
			  const char *form)
{
	char query[64];

	if (revision < 1) {
		(void)err_set(&call->why, -EINVAL, "no revision to compare with");
		call->answered = conflict_answered;
		call_send(call, "GET", "quorum=true", NULL, ETCD_CALL_TIMEOUT_MS);
		return;
	}
	(void)snprintf(query, sizeof(query), "%sprevIndex=%" PRId64, form ? "prevExist=true&" : "",
		       revision);
	call_send(call, method, query, form, ETCD_CALL_TIMEOUT_MS);
}

static void v2_update(struct etcd_api *api, const char *key, const char *value, int64_t lease,
		      int64_t revision, etcd_reply_fn done, void *userdata)
{
	_cleanup_free_ char *form = etcd_v2_form(value, lease ? to_v2(api)->ttl_s : 0);
	struct v2_call *call = call_new(api, VERB_UPDATE, key, done, userdata);

	call->answered = write_answered;
	send_compared(call, "PUT", revision, form);
}

static void v2_remove(struct etcd_api *api, const char *key, int64_t revision, etcd_reply_fn done,
		      void *userdata)
{
	struct v2_call *call = call_new(api, VERB_REMOVE, key, done, userdata);

	call->answered = write_answered;
	send_compared(call, "DELETE", revision, NULL);
}

static void renew_answered(struct v2_call *call, const struct etcd_v2_answer *answer,
			   struct etcd_reply *reply)
{
	if (reply->status == ETCD_CONFLICT && !answer->absent) {
		write_answered(call, answer, reply); /* looks what is there */
		return;
	}
	if (answer->absent)
		reply->status = ETCD_NO_LEASE;
	if (reply->status == ETCD_OK)
		reply->ttl_s = etcd_v2_ttl(answer->node);
	finish(call, reply);
}

static void renew_send(struct v2_call *call, int64_t revision)
{
	_cleanup_free_ char *form = etcd_v2_form(NULL, call->v2->ttl_s);

	call->answered = renew_answered;
	send_compared(call, "PUT", revision, form);
}

static void v2_renew(struct etcd_api *api, const struct etcd_kv *kv, etcd_reply_fn done,
		     void *userdata)
{
	struct v2_call *call = call_new(api, VERB_RENEW, kv->key, done, userdata);

	call->value = mem_strdup(kv->value);
	renew_send(call, kv->revision);
}

/* ---- watch ---- */

static void poll(struct v2 *v2);

static void watch_drop(struct v2_watch *watch)
{
	http_request_cancel(TAKE_PTR(watch->request));
	loop_timer_stop(watch->timer);
	watch->deferred = false;
}

static void watch_end(struct v2 *v2, struct etcd_reply *reply)
{
	watch_drop(&v2->watch);
	answer_caller(v2, reply, v2->watch.events.ended, v2->watch.events.userdata);
}

/* The event that @http tells of. ETCD_OK, or why the watch ends. */
static enum etcd_status read_event(const struct v2 *v2, const struct http_answer *http,
				   struct etcd_v2_answer *answer, enum etcd_v2_change *ret_change,
				   int64_t *ret_index, struct etcd_kv *ret_kv, struct err *err)
{
	enum etcd_status status;

	if (http->status == 200 && !http->len) {
		(void)err_set(err, -ECANCELED, "etcd ended the watch");
		return ETCD_COMPACTED;
	}
	status = etcd_v2_read(http->status, http->body, http->len, user_of(v2), answer, err);
	if (status != ETCD_OK)
		return status;
	if (etcd_v2_event(v2->prefix, answer, ret_change, ret_index, ret_kv, err) < 0)
		return ETCD_AWAY;
	if (*ret_index < v2->watch.from) {
		(void)err_set(err, -EPROTO, "it tells of an event before those asked for");
		return ETCD_AWAY;
	}
	if (*ret_change == ETCD_V2_UNKNOWN) {
		(void)err_set(err, -ESTALE, "a directory was changed as a whole");
		return ETCD_COMPACTED;
	}
	return ETCD_OK;
}

/* The poll is answered by an event, or ends without. */
static void on_polled(const struct http_answer *http, const char *why, void *userdata)
{
	_cleanup_(etcd_v2_answer_done) struct etcd_v2_answer answer = {0};
	struct etcd_reply reply = {.status = ETCD_AWAY, .why = why};
	struct v2 *v2 = userdata;
	const struct etcd_watch_events *events = &v2->watch.events;
	const unsigned epoch = v2->epoch;
	enum etcd_v2_change change = ETCD_V2_OTHER;
	struct err err = {""};
	struct etcd_kv kv;
	int64_t index = 0;

	v2->watch.request = NULL;
	if (http) {
		read_headers(http, &reply);
		reply.status = read_event(v2, http, &answer, &change, &index, &kv, &err);
		reply.why = err.text;
	}
	if (reply.status != ETCD_OK) {
		watch_end(v2, &reply);
		return;
	}
	v2->watch.from = index + 1;
	if (change == ETCD_V2_PUT)
		events->put(&kv, events->userdata);
	else if (change == ETCD_V2_GONE)
		events->gone(&kv, events->userdata);
	if (v2->epoch == epoch)
		events->upto(index + 1, events->userdata);
	if (v2->epoch == epoch)
		poll(v2);
}

/* The poll stands. */
static void on_poll_head(const struct http_answer *http, void *userdata)
{
	struct etcd_reply reply = {.status = ETCD_OK};
	struct v2 *v2 = userdata;
	struct v2_watch *watch = &v2->watch;

	if (http->status != 200)
		return; /* the body tells why */
	read_headers(http, &reply);
	watch->standing = true;
	loop_timer_set(watch->timer, loop_jitter_ms(POLL_MS));
	if (!watch->ready) {
		watch->ready = true;
		watch->cluster = reply.cluster;
		watch->events.ready(&reply, watch->events.userdata);
		return;
	}
	if (reply.cluster == watch->cluster && reply.revision >= watch->from - 1)
		return;
	reply.status = ETCD_COMPACTED;
	reply.why = "its data is not that of before";
	watch_end(v2, &reply);
}

static void on_poll_timer(void *userdata)
{
	struct etcd_reply reply = {.status = ETCD_AWAY, .why = "no answer to a watch within 5 s"};
	struct v2 *v2 = userdata;

	if (!v2->watch.standing) {
		watch_end(v2, &reply);
		return;
	}
	http_request_cancel(TAKE_PTR(v2->watch.request));
	poll(v2);
}

static void poll(struct v2 *v2)
{
	struct http_options options = {
		.method = "GET", .head = on_poll_head, .done = on_polled, .userdata = v2};
	struct v2_watch *watch = &v2->watch;
	char query[80];

	(void)snprintf(query, sizeof(query), "wait=true&recursive=true&waitIndex=%" PRId64,
		       watch->from);
	watch->standing = false;
	watch->request = send_request(v2, &options, "", query, &watch->why);
	if (watch->request) {
		loop_timer_set(watch->timer, ETCD_CALL_TIMEOUT_MS);
	} else {
		watch->deferred = true;
		loop_timer_set(v2->deferred_timer, 0);
	}
}

static void v2_watch(struct etcd_api *api, int64_t from, const struct etcd_watch_events *events)
{
	struct v2 *v2 = to_v2(api);

	v2->watch.events = *events;
	v2->watch.from = from;
	v2->watch.ready = false;
	poll(v2);
}

/* ---- life ---- */

static void v2_hang_up(struct etcd_api *api)
{
	struct v2 *v2 = to_v2(api);

	v2->epoch++;
	for (size_t i = 0; i < VERB_COUNT; i++)
		call_drop(&v2->calls[i]);
	watch_drop(&v2->watch);
	loop_timer_stop(v2->deferred_timer);
}

static void v2_free(struct etcd_api *api)
{
	struct v2 *v2 = to_v2(api);

	v2_hang_up(api);
	loop_event_free(v2->watch.timer);
	loop_event_free(v2->deferred_timer);
	free(v2);
}

static const struct etcd_api_ops v2_ops = {
	.name = "v2",
	.has_count = false,
	.list = v2_list,
	.watch = v2_watch,
	.get = v2_get,
	.grant = v2_grant,
	.create = v2_create,
	.update = v2_update,
	.remove = v2_remove,
	.renew = v2_renew,
	.hang_up = v2_hang_up,
	.free = v2_free,
};

struct etcd_api *etcd_v2_new(struct loop *loop, struct etcd_link *link)
{
	struct v2 *v2 = mem_alloc(1, sizeof(*v2));

	v2->api = (struct etcd_api){.ops = &v2_ops, .loop = loop, .link = link};
	etcd_v2_prefix(link->prefix, v2->prefix);
	for (size_t i = 0; i < VERB_COUNT; i++)
		v2->calls[i].v2 = v2;
	v2->watch.timer = loop_timer_new(loop, on_poll_timer, v2);
	v2->deferred_timer = loop_timer_new(loop, on_deferred, v2);
	v2->ttl_s = TTL_DEFAULT_S;
	return &v2->api;
}
