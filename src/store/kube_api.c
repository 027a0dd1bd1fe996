/* SPDX-License-Identifier: Apache-2.0 */
/* kube_api.c - requests to the Kubernetes API: credentials, retries, words for failures
 *
 * A call waits for credentials (a program may have to print them first), is sent, and ends in
 * finish(), whatever comes first: an answer, a failure of the transport, its timeout. After
 * a 401 it goes round once more when there are other credentials by then. Files are read
 * anew by whoever uses them: the token by kube_credentials, certificates by TLS with each
 * new connection. The kept connection is one of somebody whom the server may not know any
 * more: it outlives neither a 401 nor a certificate that a program has printed.
 *
 * What fails at once is told from the loop as well; `timer` does that, and the timeout.
 */
#include "store/kube_api.h"

#include "base/log.h"
#include "base/mem.h"
#include "io/http.h"
#include "io/proxy.h"
#include "store/kube_credentials.h"
#include "store/kube_refusal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <utlist.h>

struct kube_api {
	struct loop *loop;
	struct kube_access access;
	struct endpoint endpoint;
	char *prefix; /* the URL's path, without a slash at its end */
	char *text;   /* of kube_api_describe() */
	struct proxy proxy;
	struct http_keeper *keeper;
	struct kube_credentials *credentials;
	unsigned certificate; /* generation that the kept connection was made with */
	struct kube_call *calls;
};

struct kube_call {
	struct kube_call *prev, *next; /* of the api */
	struct kube_api *api;
	char *method, *path, *target, *accept, *content_type, *body;
	struct kube_request request; /* its texts are the above */
	struct http_request *http;   /* while it is under way */
	struct event *timer;
	int64_t deadline_ms;
	bool waits;          /* for credentials */
	bool failed;         /* and the timer is to tell so */
	bool again;          /* it is the second try */
	unsigned generation; /* of the credentials that it was sent with */
	int http_status;     /* 0: no head yet */
	struct err why;
};

/* ---- the end of a call ---- */

static void call_free(struct kube_call *call)
{
	DL_DELETE(call->api->calls, call);
	http_request_cancel(call->http);
	loop_event_free(call->timer);
	free(call->method);
	free(call->path);
	free(call->target);
	free(call->accept);
	free(call->content_type);
	free(call->body);
	free(call);
}

void kube_call_cancel(struct kube_call *call)
{
	if (call)
		call_free(call);
}

static void finish(struct kube_call *call, const struct kube_outcome *outcome)
{
	void (*done)(const struct kube_outcome *, void *) = call->request.done;
	void *userdata = call->request.userdata;
	/* The text may be the call's. */
	struct kube_outcome own = *outcome;
	struct err why = {""};

	if (outcome->why) {
		(void)err_set(&why, -EIO, "%s", outcome->why);
		own.why = why.text;
	}
	call_free(call);
	done(&own, userdata);
}

/* ---- failures ---- */

/* What an operator can do about a server that cannot be reached. */
static const char *advice(const struct kube_api *api, const char *why)
{
	const bool refused = strstr(why, "connection refused") != NULL;
	const bool silent = strstr(why, "no answer within") != NULL ||
			    strstr(why, "no route to") != NULL ||
			    strstr(why, ": no answer") != NULL;

	if (strstr(why, "its certificate is made out to"))
		return " (one of these has to be in the URL, or be the kubeconfig's "
		       "tls-server-name)";
	/* The proxy's failures name it. */
	if ((!refused && !silent) || api->proxy.kind != PROXY_NONE)
		return "";
	if (api->access.place && !strcmp(api->access.place, KUBE_IN_POD))
		return " (a Service's address works once kube-proxy does: is it running on this "
		       "node?)";
	return refused ? " (is kube-apiserver running there?)" : " (is that the right address?)";
}

/* The transport has failed. */
static void fail(struct kube_call *call, const char *why)
{
	const struct kube_api *api = call->api;
	struct kube_outcome outcome = {.http_status = call->http_status};
	struct err err;

	(void)err_set(&err, -EIO, "%.150s: %s%s", api->access.server, why, advice(api, why));
	log_clean(err.text);
	outcome.why = err.text;
	finish(call, &outcome);
}

static void refuse(struct kube_call *call, const struct http_answer *answer)
{
	char who[256];
	struct kube_refused refused = {
		.method = call->method,
		.path = call->path,
		.who = who,
		.http_status = answer->status,
		.retry_after = http_answer_header(answer, "Retry-After"),
		.location = http_answer_header(answer, "Location"),
		.body = {answer->body, answer->len},
	};
	struct kube_outcome outcome = {.http_status = answer->status, .body = refused.body};
	struct kube_refusal refusal;

	kube_credentials_describe(call->api->credentials, who, sizeof(who));
	kube_refusal_explain(&refused, &refusal);
	(void)err_wrap(&refusal.why, -EIO, "%.150s", call->api->access.server);
	outcome.why = refusal.why.text;
	outcome.wait_ms = refusal.wait_ms;
	outcome.absent = refusal.absent;
	outcome.expired = refusal.expired;
	outcome.next = *refusal.next ? refusal.next : NULL;
	finish(call, &outcome);
}

/* ---- sending ---- */

static void start(struct kube_call *call);

static void on_head(const struct http_answer *answer, void *userdata)
{
	struct kube_call *call = userdata;

	call->http_status = answer->status;
	if (answer->status / 100 == 2 && call->request.begun)
		call->request.begun(call->request.userdata);
}

static void on_piece(const char *data, size_t len, void *userdata)
{
	const struct kube_call *call = userdata;

	call->request.piece(data, len, call->request.userdata);
}

/* After a 401: whether another try may end otherwise. A certificate is shown to a new
 * connection only, and the one in the file may be newer than what the kept one was made with. */
static bool may_try_again(const struct kube_call *call)
{
	struct kube_api *api = call->api;

	http_keeper_drop(api->keeper);
	if (call->again)
		return false;
	return kube_credentials_refused(api->credentials, call->generation) ||
	       (kube_is_given(api->access.cert_file) && !call->request.own_connection);
}

static void on_done(const struct http_answer *answer, const char *why, void *userdata)
{
	struct kube_call *call = userdata;
	struct kube_outcome outcome = {.http_status = 0};

	call->http = NULL;
	if (!answer) {
		fail(call, why);
	} else if (answer->status / 100 == 2) {
		outcome.http_status = answer->status;
		if (!call->request.piece)
			outcome.body = (struct json_slice){answer->body, answer->len};
		finish(call, &outcome);
	} else if (answer->status == 401 && may_try_again(call)) {
		log_debug(1, "%s: 401; once more with credentials read anew",
			  call->api->access.server);
		call->again = true;
		call->http_status = 0;
		start(call);
	} else {
		refuse(call, answer);
	}
}

/* Of the kubeconfig, or what a program has printed. */
static struct tls_files tls_of(const struct kube_api *api, const struct kube_credential *credential)
{
	const struct kube_access *access = &api->access;
	struct tls_files files = {
		.ca = access->ca_file,
		.cert = access->cert_file,
		.key = access->key_file,
		.ca_pem = access->ca_pem,
		.cert_pem = access->cert_pem,
		.key_pem = access->key_pem,
		.name = access->tls_server_name,
		.insecure = access->insecure,
	};

	if (credential && credential->cert_pem) {
		files.cert_pem = credential->cert_pem;
		files.key_pem = credential->key_pem;
	}
	return files;
}

static void add_header(struct http_options *options, struct http_header *headers, const char *name,
		       const char *value)
{
	if (kube_is_given(value))
		headers[options->n_headers++] = (struct http_header){name, value};
}

static void send_call(struct kube_call *call, const struct kube_credential *credential)
{
	struct kube_api *api = call->api;
	const struct tls_files files = tls_of(api, credential);
	struct http_header headers[3];
	struct http_options options = {
		.endpoint = &api->endpoint,
		.files = &files,
		.proxy = &api->proxy,
		.keeper = call->request.own_connection ? NULL : api->keeper,
		.method = call->method,
		.target = call->target,
		.headers = headers,
		.body = call->body,
		.timeout_ms = call->request.timeout_ms ? call->deadline_ms - loop_now_ms() : 0,
		.silence_ms = call->request.silence_ms,
		.head = on_head,
		.piece = call->request.piece ? on_piece : NULL,
		.done = on_done,
		.userdata = call,
	};

	if (credential->cert_pem && credential->generation != api->certificate)
		http_keeper_drop(api->keeper);
	api->certificate = credential->generation;
	add_header(&options, headers, "Accept", call->accept);
	add_header(&options, headers, "Content-Type", call->content_type);
	add_header(&options, headers, "Authorization", credential->authorization);
	if (call->request.timeout_ms && options.timeout_ms < 1)
		options.timeout_ms = 1;
	call->generation = credential->generation;
	loop_timer_stop(call->timer);
	call->http = http_request_new(api->loop, &options);
}

/* From the loop, as everything is told. */
static void fail_later(struct kube_call *call, const struct err *why)
{
	call->waits = false;
	call->failed = true;
	call->why = *why;
	loop_timer_set(call->timer, 0);
}

static void start(struct kube_call *call)
{
	struct kube_credential credential;
	struct err err = {""};
	const int r = kube_credentials_get(call->api->credentials, &credential, &err);

	call->waits = r == -EAGAIN;
	if (r == 0)
		send_call(call, &credential);
	else if (r != -EAGAIN)
		fail_later(call, &err);
	else if (call->request.timeout_ms)
		loop_timer_set(call->timer, call->deadline_ms - loop_now_ms());
}

static void on_timer(void *userdata)
{
	struct kube_call *call = userdata;
	struct err err;

	if (!call->failed)
		(void)err_set(
			&err, -ETIMEDOUT,
			"the kubeconfig's credential program %.100s has not ended within %g s",
			call->api->access.exec.command, (double)call->request.timeout_ms / 1000);
	else
		err = call->why;
	finish(call, &(struct kube_outcome){.why = err.text});
}

/* The program that some calls wait for has ended. Whom they tell of it may cancel others,
 * so each is only told by its timer. */
static void on_credentials(const char *why, void *userdata)
{
	struct kube_api *api = userdata;
	struct kube_call *call, *next;
	struct err err;

	DL_FOREACH_SAFE (api->calls, call, next) {
		if (!call->waits)
			continue;
		if (!why) {
			start(call);
			continue;
		}
		(void)err_set(&err, -EACCES, "%s", why);
		fail_later(call, &err);
	}
}

static char *copy(const char *text)
{
	return text ? mem_strdup(text) : NULL;
}

struct kube_call *kube_call_new(struct kube_api *api, const struct kube_request *request)
{
	struct kube_call *call = mem_alloc(1, sizeof(*call));

	call->api = api;
	call->request = *request;
	call->method = mem_strdup(request->method);
	call->path = mem_strdup(request->path);
	call->target = mem_alloc(strlen(api->prefix) + strlen(request->path) + 1, 1);
	(void)stpcpy(stpcpy(call->target, api->prefix), request->path);
	call->accept = copy(request->accept);
	call->content_type = copy(request->content_type);
	call->body = copy(request->body);
	call->timer = loop_timer_new(api->loop, on_timer, call);
	call->deadline_ms = loop_now_ms() + request->timeout_ms;
	DL_APPEND(api->calls, call);
	start(call);
	return call;
}

/* ---- the API ---- */

/* "https://rancher.example/k8s/clusters/c-1": the path comes before those of requests. */
static int read_url(struct kube_api *api, struct err *err)
{
	const char *text = api->access.server ? api->access.server : "";
	char *url = kubeconfig_server_url(text, &api->access), *path;
	const bool tls = !strncasecmp(url, "https:", 6);
	size_t len;
	int r;

	free(api->access.server);
	api->access.server = url;
	path = strstr(url, "://") + 3;
	path += strcspn(path, "/?#");
	len = strlen(path);
	if (strpbrk(path, "?# \t\r\n"))
		return err_set(err, -EINVAL,
			       "the API server's URL has a query, a fragment or a blank in it");
	while (len && path[len - 1] == '/')
		path[--len] = '\0';
	api->prefix = mem_strdup(path);
	*path = '\0';
	r = endpoint_parse(url, tls ? ENDPOINT_HTTPS : ENDPOINT_HTTP, &api->endpoint, err);
	(void)stpcpy(path, api->prefix);
	return r < 0 ? err_wrap(err, r, "the API server's URL") : 0;
}

static int find_proxy(struct kube_api *api, struct err *err)
{
	int r;

	if (!kube_is_given(api->access.proxy_url))
		return proxy_from_environment(getenv, &api->endpoint, &api->proxy, err);
	r = proxy_parse(api->access.proxy_url, &api->proxy, err);
	return r < 0 ? err_wrap(err, r, "proxy-url") : 0;
}

static int check_files(const struct kube_api *api, struct err *err)
{
	const struct tls_files files = tls_of(api, NULL);
	struct err why = {""};
	const int r = api->endpoint.tls ? tls_check(&files, &why) : 0;

	/* Nothing that a person gave wrongly: it may be renewed, or the clock be set. */
	if (r == -EKEYEXPIRED || r == -EKEYREJECTED) {
		log_warning("Kubernetes API: %s; going on", why.text);
		return 0;
	}
	return r < 0 ? err_set(err, r, "%s", why.text) : 0;
}

static int check(struct kube_api *api, struct err *err)
{
	int r = read_url(api, err);

	if (r == 0)
		r = find_proxy(api, err);
	if (r == 0)
		r = check_files(api, err);
	if (r == 0)
		r = kube_credentials_check(api->credentials, err);
	return r < 0 && kube_is_given(api->access.place)
		       ? err_wrap(err, r, "%.150s", api->access.place)
		       : r;
}

int kube_api_new(struct loop *loop, struct kube_access *access, struct kube_api **ret_api,
		 struct err *err)
{
	struct kube_api *api = mem_alloc(1, sizeof(*api));
	const char *place;
	size_t size;
	int r;

	api->loop = loop;
	api->access = *access;
	*access = (struct kube_access){.server = NULL};
	api->keeper = http_keeper_new(loop);
	api->credentials = kube_credentials_new(loop, &api->access, on_credentials, api);
	r = check(api, err);
	if (r < 0) {
		kube_api_free(api);
		return r;
	}
	place = kube_is_given(api->access.place) ? api->access.place : "as given";
	size = strlen(api->access.server) + strlen(place) + sizeof(" ()");
	api->text = mem_alloc(size, 1);
	(void)snprintf(api->text, size, "%s (%s)", api->access.server, place);
	*ret_api = api;
	return 0;
}

void kube_api_free(struct kube_api *api)
{
	struct kube_call *call, *next;

	if (!api)
		return;
	DL_FOREACH_SAFE (api->calls, call, next)
		call_free(call);
	http_keeper_free(api->keeper);
	kube_credentials_free(api->credentials);
	proxy_done(&api->proxy);
	kube_access_done(&api->access);
	free(api->prefix);
	free(api->text);
	free(api);
}

const char *kube_api_describe(const struct kube_api *api)
{
	return api->text;
}
