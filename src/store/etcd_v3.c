/* SPDX-License-Identifier: Apache-2.0 */
/* etcd_v3.c - etcd's v3 API: gRPC over one HTTP/2 connection
 *
 * Theory of operation. A call waits until there is a connection and, with a user name,
 * a token; then it is a gRPC call until its answer comes. The first call dials. When
 * etcd does not take the token any more (its text says so in several ways), the call
 * waits again while a new one is fetched, once. Every call asks for a leader, so that a
 * member without one says so at once instead of keeping silent. All is dropped by
 * hang_up(); `epoch` tells a function whether that happened inside a callback.
 */
#include "base/log.h"
#include "base/mem.h"
#include "io/dial.h"
#include "io/grpc.h"
#include "io/h2.h"
#include "store/etcd_api.h"
#include "store/etcd_v3_codec.h"

#include <stdio.h>
#include <string.h>

#define DIAL_TIMEOUT_MS 3000
#define AUTHENTICATE_MS 15000 /* bcrypt costs etcd 0.1 s, and many hosts may ask at once */
#define TTL_MAX_S       (10LL * 365 * 86400) /* more is no time */
#define N_WATCHES       2                    /* config and subnets/, in this order */

/* Status of an answer that only this file deals with. */
#define NEEDS_AUTH ETCD_STATUS_COUNT

struct v3;

struct v3_call {
	struct v3 *v3;
	struct v3_call *next, **link;
	const char *path;
	uint8_t *body;
	size_t len;
	int64_t timeout_ms;
	bool open; /* a stream of requests, of which there is one */
	void (*message)(struct v3_call *call, const uint8_t *message, size_t len);
	etcd_kv_fn each; /* list */
	etcd_reply_fn done;
	void *userdata;
	struct grpc_call *grpc; /* NULL: waits for connection or token */
	bool authenticated_anew;
	unsigned token_serial; /* of the token that it was sent with */

	struct etcd_reply reply;
	struct etcd_kv kv; /* reply.kv; owns its strings */
	struct etcd_watch_events watch;
	int n_created;
	bool answered, malformed; /* a message has come; one of them made no sense */
};

struct v3 {
	struct etcd_api api; /* first */
	struct dial *dial;
	struct h2 *h2;
	char authority[ENDPOINT_TEXT_MAX];
	unsigned token_serial;        /* of `token` */
	char *token;                  /* secret; NULL: none */
	bool auth_off;                /* etcd says that it wants no user */
	struct v3_call *authenticate; /* in flight */
	struct event *refused_timer;  /* tells no_password from the loop */
	struct err no_password;
	struct v3_call *calls;
	unsigned epoch;
};

/* ---- errors ---- */

static const struct {
	const char *text;
	int status;
	const char *advice;
} errors[] = {
	{"requested lease not found", ETCD_NO_LEASE, ""},
	{"required revision has been compacted", ETCD_COMPACTED, ""},
	{"user name is empty", NEEDS_AUTH, ""},
	{"invalid auth token", NEEDS_AUTH, ""},
	{"revision of auth store is old", NEEDS_AUTH, ""},
	{"permission denied", ETCD_REFUSED,
	 "; the user needs a role with readwrite on the prefix (etcdctl role grant-permission "
	 "ROLE readwrite --prefix=true PREFIX/)"},
	{"invalid user ID or password", ETCD_REFUSED, "; check --etcd-username and its password"},
	{"database space exceeded", ETCD_REFUSED,
	 "; compact and defragment etcd, then: etcdctl alarm disarm"},
	{"request is too large", ETCD_REFUSED, ""},
};

/* What an error of etcd means to the caller; *@ret_advice goes behind its text. */
static int classify(int code, const char *text, const char **ret_advice)
{
	*ret_advice = "";
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
		if (strstr(text, errors[i].text)) {
			*ret_advice = errors[i].advice;
			return errors[i].status;
		}
	switch (code) {
	case GRPC_UNAUTHENTICATED:
		return NEEDS_AUTH;
	case GRPC_PERMISSION_DENIED:
	case GRPC_INVALID_ARGUMENT:
	case GRPC_UNIMPLEMENTED:
		return ETCD_REFUSED;
	default:
		return ETCD_AWAY;
	}
}

/* ---- calls ---- */

static struct v3 *to_v3(struct etcd_api *api)
{
	return (struct v3 *)api; /* first member */
}

static void free_kv(struct etcd_kv *kv)
{
	free((char *)(uintptr_t)kv->key);
	free((char *)(uintptr_t)kv->value);
	*kv = (struct etcd_kv){0};
}

static void free_call(struct v3_call *call)
{
	*call->link = call->next;
	if (call->next)
		call->next->link = call->link;
	if (call->v3->authenticate == call)
		call->v3->authenticate = NULL;
	grpc_call_cancel(call->grpc);
	explicit_bzero(call->body, call->len); /* may hold the password */
	free(call->body);
	free_kv(&call->kv);
	free(call);
}

/* Answers @call, which is over. */
static void finish(struct v3_call *call, enum etcd_status status, const char *why)
{
	const char *endpoint = etcd_link_endpoint(call->v3->api.link)->text;
	etcd_reply_fn done = call->watch.ended ? call->watch.ended : call->done;
	void *userdata = call->watch.ended ? call->watch.userdata : call->userdata;
	struct etcd_reply reply = call->reply;
	struct etcd_kv kv = call->kv;
	char words[ERR_TEXT_MAX];

	/* The caller of an authentication adds the endpoint itself. */
	if ((status == ETCD_AWAY || status == ETCD_REFUSED) && call != call->v3->authenticate)
		(void)snprintf(words, sizeof(words), "etcd %s: %s", endpoint, why);
	else
		(void)snprintf(words, sizeof(words), "%s", why ? why : "");
	reply.status = status;
	reply.why = status == ETCD_OK ? NULL : words;
	reply.kv = kv.key ? &kv : NULL;
	call->kv = (struct etcd_kv){0};
	free_call(call);
	done(&reply, userdata);
	free_kv(&kv);
}

/* Answers all that wait, until one of them hangs up. */
static void finish_waiting(struct v3 *v3, enum etcd_status status, const char *why)
{
	unsigned epoch = v3->epoch;
	struct v3_call *call = v3->calls, *next;

	/* cppcheck-suppress knownConditionTrueFalse # a callback may hang up */
	for (; call && v3->epoch == epoch; call = next) {
		next = call->next;
		if (!call->grpc)
			finish(call, status, why);
	}
}

static void start_waiting(struct v3 *v3);

static void forget_token(struct v3 *v3)
{
	mem_free_secret(TAKE_PTR(v3->token));
}

/* The call failed: it waits for a new token, or is answered. */
static void fail(struct v3_call *call, int code, const char *text)
{
	struct v3 *v3 = call->v3;
	char words[ERR_TEXT_MAX];
	const char *advice;
	int status = classify(code, text, &advice);

	/* So etcd 3.4 says when it does not know the token of a watch. */
	if (call->watch.ended && strstr(text, "permission denied") && v3->token &&
	    !call->authenticated_anew)
		status = NEEDS_AUTH;
	/* What it has told would be told again. */
	if (status == NEEDS_AUTH && call->n_created == N_WATCHES)
		status = ETCD_AWAY;
	if (status == NEEDS_AUTH && etcd_link_has_user(v3->api.link) && !call->authenticated_anew &&
	    call != v3->authenticate) {
		call->authenticated_anew = true;
		call->n_created = 0;
		grpc_call_cancel(TAKE_PTR(call->grpc));
		v3->auth_off = false;
		if (call->token_serial == v3->token_serial) /* else there is a newer one */
			forget_token(v3);
		start_waiting(v3);
		return;
	}
	if (status == NEEDS_AUTH) {
		status = ETCD_REFUSED;
		advice = etcd_link_has_user(v3->api.link) ? ""
							  : "; etcd wants --etcd-username, or a "
							    "client certificate whose CN is "
							    "a user";
	}
	(void)snprintf(words, sizeof(words), "%.200s%s", text, advice);
	finish(call, (enum etcd_status)status, words);
}

static void on_message(const uint8_t *message, size_t len, void *userdata)
{
	struct v3_call *call = userdata;

	call->answered = true;
	if (!call->malformed)
		call->message(call, message, len);
}

static void on_done(int code, const char *text, void *userdata)
{
	struct v3_call *call = userdata;

	call->grpc = NULL; /* the handle is void */
	if (code != GRPC_OK)
		fail(call, code, text);
	else if (call->watch.ended)
		finish(call, ETCD_AWAY, "the watch has ended");
	else if (call->malformed || !call->answered) /* no answer is not an empty list */
		finish(call, ETCD_AWAY, "an answer cannot be read: is this etcd?");
	else
		finish(call, call->reply.status, "");
}

static void start(struct v3_call *call)
{
	struct v3 *v3 = call->v3;
	const struct h2_header metadata[] = {{.name = "hasleader", .value = "true"},
					     {.name = "token", .value = v3->token, .secret = true}};
	const struct grpc_events events = {on_message, on_done, call};
	const struct grpc_request request = {
		.path = call->path,
		.authority = v3->authority,
		.tls = etcd_link_endpoint(v3->api.link)->tls,
		.metadata = metadata,
		.n_metadata = v3->token ? 2 : 1,
		.body = call->body,
		.len = call->len,
		.open = call->open,
		.timeout_ms = call->timeout_ms,
	};

	call->token_serial = v3->token_serial;
	call->grpc = grpc_call_new(v3->api.loop, v3->h2, &request, &events);
}

static struct v3_call *new_call(struct v3 *v3, const char *path, uint8_t *body, size_t len,
				etcd_reply_fn done, void *userdata)
{
	struct v3_call *call = mem_alloc(1, sizeof(*call));

	call->v3 = v3;
	call->path = path;
	call->body = body;
	call->len = len;
	call->timeout_ms = ETCD_CALL_TIMEOUT_MS;
	call->done = done;
	call->userdata = userdata;
	call->next = v3->calls;
	call->link = &v3->calls;
	if (call->next)
		call->next->link = &call->next;
	v3->calls = call;
	return call;
}

/* ---- connection and authentication ---- */

static void on_token(const struct etcd_reply *reply, void *userdata)
{
	struct v3 *v3 = userdata;
	bool off = reply->why && strstr(reply->why, "authentication is not enabled");

	if (off)
		log_info(
			"etcd has authentication switched off: going on without user and password");
	v3->auth_off = off;
	if (v3->token || off)
		start_waiting(v3);
	else
		finish_waiting(v3, reply->status == ETCD_OK ? ETCD_AWAY : reply->status,
			       reply->why ? reply->why : "no token in the answer");
}

static void take_token(struct v3_call *call, const uint8_t *message, size_t len)
{
	char *token = NULL;

	call->malformed = etcd_v3_decode_token(message, len, &token) || !*token;
	if (call->malformed) {
		free(token);
		return;
	}
	forget_token(call->v3);
	call->v3->token = token;
	call->v3->token_serial++;
}

static void on_refused_timer(void *userdata)
{
	struct v3 *v3 = userdata;

	finish_waiting(v3, ETCD_REFUSED, v3->no_password.text);
}

static void authenticate(struct v3 *v3)
{
	char *password;
	uint8_t *body;
	size_t len;

	if (etcd_link_password(v3->api.link, &password, &v3->no_password)) {
		loop_timer_set(v3->refused_timer, 0);
		return;
	}
	body = etcd_v3_authenticate(v3->api.link->settings->username, password, &len);
	mem_free_secret(password);
	v3->authenticate = new_call(v3, "/etcdserverpb.Auth/Authenticate", body, len, on_token, v3);
	v3->authenticate->message = take_token;
	v3->authenticate->timeout_ms = AUTHENTICATE_MS;
	start(v3->authenticate);
}

static void on_dialled(struct bufferevent *bev, const char *why, void *userdata)
{
	struct v3 *v3 = userdata;

	v3->dial = NULL;
	if (!bev) {
		finish_waiting(v3, ETCD_AWAY, why);
		return;
	}
	v3->h2 = h2_new(v3->api.loop, bev);
	start_waiting(v3);
}

/* Whatever is missing first: a connection, a token; then the calls that wait. */
static void start_waiting(struct v3 *v3)
{
	const struct endpoint *endpoint = etcd_link_endpoint(v3->api.link);

	if (v3->dial || v3->authenticate)
		return;
	if (!v3->h2) {
		/* "https://host:port" */
		(void)snprintf(v3->authority, sizeof(v3->authority), "%s",
			       strstr(endpoint->text, "//") + 2);
		v3->dial = dial_new(v3->api.loop, NULL, endpoint, &v3->api.link->settings->files,
				    "h2", DIAL_TIMEOUT_MS, on_dialled, v3);
	} else if (etcd_link_has_user(v3->api.link) && !v3->token && !v3->auth_off) {
		authenticate(v3);
	} else {
		for (struct v3_call *call = v3->calls; call; call = call->next)
			if (!call->grpc)
				start(call);
	}
}

/* ---- answers ---- */

static void take_header(struct v3_call *call, const struct etcd_v3_header *header)
{
	call->reply.revision = header->revision;
	call->reply.cluster = header->cluster;
}

static void keep_kv(const struct etcd_kv *kv, void *userdata)
{
	struct v3_call *call = userdata;

	free_kv(&call->kv);
	call->kv = *kv;
	call->kv.key = mem_strdup(kv->key);
	call->kv.value = memcpy(mem_alloc(kv->len + 1, 1), kv->value, kv->len);
}

static void take_list(struct v3_call *call, const uint8_t *message, size_t len)
{
	struct etcd_v3_header header;
	bool succeeded;

	call->malformed = etcd_v3_decode_txn(message, len, call->v3->api.link->prefix, &header,
					     &succeeded, call->each, call->userdata);
	if (!call->malformed)
		take_header(call, &header);
}

static void take_range(struct v3_call *call, const uint8_t *message, size_t len)
{
	struct etcd_v3_header header;

	call->malformed = etcd_v3_decode_range(message, len, call->v3->api.link->prefix, &header,
					       &call->reply.count, keep_kv, call);
	if (!call->malformed)
		take_header(call, &header);
}

static void take_written(struct v3_call *call, const uint8_t *message, size_t len)
{
	struct etcd_v3_header header;
	bool succeeded;

	call->malformed = etcd_v3_decode_txn(message, len, call->v3->api.link->prefix, &header,
					     &succeeded, keep_kv, call);
	if (call->malformed)
		return;
	take_header(call, &header);
	call->reply.status = succeeded ? ETCD_OK : ETCD_CONFLICT;
}

static void take_lease(struct v3_call *call, const uint8_t *message, size_t len)
{
	struct etcd_v3_header header;

	call->malformed =
		etcd_v3_decode_lease(message, len, &header, &call->reply.lease, &call->reply.ttl_s);
	if (call->malformed)
		return;
	take_header(call, &header);
	if (call->reply.ttl_s > TTL_MAX_S)
		call->reply.ttl_s = TTL_MAX_S;
	if (call->reply.ttl_s <= 0)
		call->reply.status = ETCD_NO_LEASE;
}

/* The stream of keep-alives: its first answer is ours. */
static void take_alive(struct v3_call *call, const uint8_t *message, size_t len)
{
	take_lease(call, message, len);
	if (!call->malformed)
		finish(call, call->reply.status, "the etcd lease has gone");
}

static void take_watch(struct v3_call *call, const uint8_t *message, size_t len)
{
	unsigned epoch = call->v3->epoch;
	struct v3 *v3 = call->v3;
	struct etcd_v3_watch_answer answer;
	const struct etcd_watch_events *watch = &call->watch;
	int code = etcd_v3_decode_watch(message, len, v3->api.link->prefix, &answer, watch->put,
					watch->gone, watch->userdata);

	if (v3->epoch != epoch)
		return;
	if (code) {
		finish(call, ETCD_AWAY, "an event cannot be read: is this etcd?");
		return;
	}
	/* One that cannot be created is said to be created and canceled. */
	if (answer.compacted) {
		finish(call, ETCD_COMPACTED, "the history has been compacted");
		return;
	}
	if (answer.canceled) {
		fail(call, GRPC_UNAVAILABLE, *answer.reason ? answer.reason : "watch canceled");
		return;
	}
	if (answer.created) {
		take_header(call, &answer.header);
		if (++call->n_created == N_WATCHES)
			watch->ready(&call->reply, watch->userdata);
		return;
	}
	if (answer.last_subnet && !answer.fragment)
		watch->upto(answer.last_subnet + 1, watch->userdata);
}

/* ---- verbs ---- */

static void submit(struct v3_call *call,
		   void (*message)(struct v3_call *call, const uint8_t *message, size_t len))
{
	call->message = message;
	start_waiting(call->v3);
}

static void v3_list(struct etcd_api *api, etcd_kv_fn each, etcd_reply_fn done, void *userdata)
{
	size_t len;
	uint8_t *body = etcd_v3_list(api->link->prefix, &len);
	struct v3_call *call =
		new_call(to_v3(api), "/etcdserverpb.KV/Txn", body, len, done, userdata);

	call->each = each;
	call->timeout_ms = ETCD_LIST_TIMEOUT_MS;
	submit(call, take_list);
}

static void v3_watch(struct etcd_api *api, int64_t from, const struct etcd_watch_events *events)
{
	size_t len;
	uint8_t *body = etcd_v3_watch(api->link->prefix, from, &len);
	struct v3_call *call =
		new_call(to_v3(api), "/etcdserverpb.Watch/Watch", body, len, NULL, NULL);

	call->watch = *events;
	call->open = true;
	call->timeout_ms = 0;
	submit(call, take_watch);
}

static void v3_get(struct etcd_api *api, const char *key, etcd_reply_fn done, void *userdata)
{
	size_t len;
	uint8_t *body = etcd_v3_get(api->link->prefix, key, &len);

	submit(new_call(to_v3(api), "/etcdserverpb.KV/Range", body, len, done, userdata),
	       take_range);
}

static void v3_count(struct etcd_api *api, etcd_reply_fn done, void *userdata)
{
	size_t len;
	uint8_t *body = etcd_v3_count(api->link->prefix, &len);

	submit(new_call(to_v3(api), "/etcdserverpb.KV/Range", body, len, done, userdata),
	       take_range);
}

static void v3_grant(struct etcd_api *api, int64_t ttl_s, etcd_reply_fn done, void *userdata)
{
	size_t len;
	uint8_t *body = etcd_v3_grant(ttl_s, &len);

	submit(new_call(to_v3(api), "/etcdserverpb.Lease/LeaseGrant", body, len, done, userdata),
	       take_lease);
}

static void write_if(struct etcd_api *api, const char *key, const char *value, int64_t lease,
		     int64_t revision, etcd_reply_fn done, void *userdata)
{
	size_t len;
	uint8_t *body = etcd_v3_write(api->link->prefix, key, value, lease, revision, &len);

	submit(new_call(to_v3(api), "/etcdserverpb.KV/Txn", body, len, done, userdata),
	       take_written);
}

static void v3_create(struct etcd_api *api, const char *key, const char *value, int64_t lease,
		      etcd_reply_fn done, void *userdata)
{
	write_if(api, key, value, lease, 0, done, userdata);
}

static void v3_update(struct etcd_api *api, const char *key, const char *value, int64_t lease,
		      int64_t revision, etcd_reply_fn done, void *userdata)
{
	write_if(api, key, value, lease, revision, done, userdata);
}

static void v3_remove(struct etcd_api *api, const char *key, int64_t revision, etcd_reply_fn done,
		      void *userdata)
{
	write_if(api, key, NULL, 0, revision, done, userdata);
}

static void v3_renew(struct etcd_api *api, const struct etcd_kv *kv, etcd_reply_fn done,
		     void *userdata)
{
	size_t len;
	uint8_t *body = etcd_v3_keep_alive(kv->lease, &len);
	struct v3_call *call = new_call(to_v3(api), "/etcdserverpb.Lease/LeaseKeepAlive", body, len,
					done, userdata);

	call->open = true;
	submit(call, take_alive);
}

static void v3_hang_up(struct etcd_api *api)
{
	struct v3 *v3 = to_v3(api);

	v3->epoch++;
	/* The analyzer does not know that free_call() takes the first one out. */
	while (v3->calls)
		free_call(v3->calls); /* NOLINT(clang-analyzer-unix.Malloc) */
	dial_cancel(TAKE_PTR(v3->dial));
	h2_free(TAKE_PTR(v3->h2));
	loop_timer_stop(v3->refused_timer);
}

static void v3_free(struct etcd_api *api)
{
	v3_hang_up(api);
	forget_token(to_v3(api)); /* it holds on every member: kept over hang_up() */
	loop_event_free(to_v3(api)->refused_timer);
	free(to_v3(api));
}

static const struct etcd_api_ops v3_ops = {
	.name = "v3",
	.has_count = true,
	.list = v3_list,
	.watch = v3_watch,
	.get = v3_get,
	.grant = v3_grant,
	.create = v3_create,
	.update = v3_update,
	.remove = v3_remove,
	.renew = v3_renew,
	.count = v3_count,
	.hang_up = v3_hang_up,
	.free = v3_free,
};

struct etcd_api *etcd_v3_new(struct loop *loop, struct etcd_link *link)
{
	struct v3 *v3 = mem_alloc(1, sizeof(*v3));

	v3->api = (struct etcd_api){.ops = &v3_ops, .loop = loop, .link = link};
	v3->refused_timer = loop_timer_new(loop, on_refused_timer, v3);
	return &v3->api;
}
