/* SPDX-License-Identifier: Apache-2.0 */
/* http.c - a client's HTTP/1.1 requests, one at a time over a connection
 *
 * A request dials, sends, and reads until its answer is complete, the connection ends or
 * the time is up; whatever comes first calls finish(), which takes the connection down,
 * calls `done`, and frees the request. `head` and `piece` are called from the middle of
 * reading; when they cancel the request, that is only noted, and done when they have returned.
 *
 * With a keeper, the connection of an answer that has come to its end is not taken down but
 * left there, for the next request to take. It may have been closed meanwhile, which shows
 * only when the request is on its way: when it ends before a byte of an answer has come, the
 * request dials as if there had been no such connection. Its text is therefore held until
 * the answer begins, together with the connection that sends it (`struct text`).
 */
#include "io/http.h"

#include "base/base64.h"
#include "base/mem.h"
#include "io/http_parser.h"
#include "io/proxy.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/util.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define READ_MAX (64 << 10)

/* What is sent: a secret. The request and its connection both hold it. */
struct text {
	unsigned refs;
	size_t len;
	char p[];
};

struct http_keeper {
	struct bufferevent *bev; /* NULL: none is idle */
	struct event *timer;
	unsigned drops; /* a connection from before the last drop is not kept */
};

struct http_request {
	struct loop *loop;
	struct endpoint endpoint;
	struct tls_files files;
	struct proxy proxy;
	struct http_keeper *keeper; /* NULL: none */
	unsigned drops;             /* of it, when the connection was made */
	struct dial *dial;          /* while connecting */
	struct bufferevent *bev;    /* afterwards */
	bool is_kept;               /* the connection has served others */
	struct event *timer;        /* NULL: no timeout */
	struct event *silence;      /* NULL: any */
	int64_t timeout_ms, deadline_ms, silence_ms;
	struct text *text; /* NULL: nobody will need it again */
	struct http_parser parser;
	http_head_fn head;
	void (*piece)(const char *data, size_t len, void *userdata);
	http_done_fn done;
	void *userdata;
	bool in_call, cancelled;
};

static void text_unref(struct text *text)
{
	if (!text || --text->refs)
		return;
	explicit_bzero(text->p, text->len);
	free(text);
}

/* -- kept connections ------------------------------------------------------------------ */

void http_keeper_drop(struct http_keeper *keeper)
{
	keeper->drops++;
	loop_timer_stop(keeper->timer);
	if (keeper->bev)
		bufferevent_free(TAKE_PTR(keeper->bev));
}

static void on_idle_end(void *userdata)
{
	struct http_keeper *keeper = userdata;

	loop_timer_stop(keeper->timer);
	if (keeper->bev)
		bufferevent_free(TAKE_PTR(keeper->bev));
}

/* Nobody has asked for anything. */
static void on_idle_read(struct bufferevent *bev, void *userdata)
{
	(void)bev;
	on_idle_end(userdata);
}

static void on_idle_event(struct bufferevent *bev, short what, void *userdata)
{
	(void)bev;
	(void)what;
	on_idle_end(userdata);
}

static void keep(struct http_keeper *keeper, struct bufferevent *bev)
{
	keeper->bev = bev;
	bufferevent_setcb(bev, on_idle_read, NULL, on_idle_event, keeper);
	loop_timer_set(keeper->timer, HTTP_IDLE_MS);
}

static struct bufferevent *take_kept(struct http_keeper *keeper)
{
	loop_timer_stop(keeper->timer);
	return TAKE_PTR(keeper->bev);
}

struct http_keeper *http_keeper_new(struct loop *loop)
{
	struct http_keeper *keeper = mem_alloc(1, sizeof(*keeper));

	keeper->timer = loop_timer_new(loop, on_idle_end, keeper);
	return keeper;
}

void http_keeper_free(struct http_keeper *keeper)
{
	if (!keeper)
		return;
	http_keeper_drop(keeper);
	loop_event_free(keeper->timer);
	free(keeper);
}

/* -- the end --------------------------------------------------------------------------- */

static void disconnect(struct http_request *request)
{
	dial_cancel(TAKE_PTR(request->dial));
	if (request->bev)
		bufferevent_free(TAKE_PTR(request->bev));
	loop_event_free(TAKE_PTR(request->timer));
	loop_event_free(TAKE_PTR(request->silence));
	text_unref(TAKE_PTR(request->text));
}

/* The answer is complete: the next one may go on where it was. */
static void keep_connection(struct http_request *request)
{
	struct http_keeper *keeper = request->keeper;

	if (!keeper || keeper->bev || keeper->drops != request->drops ||
	    !http_parser_may_go_on(&request->parser) ||
	    evbuffer_get_length(bufferevent_get_output(request->bev)))
		return;
	keep(keeper, TAKE_PTR(request->bev));
}

static void request_free(struct http_request *request)
{
	disconnect(request);
	http_parser_done(&request->parser);
	tls_files_done(&request->files);
	proxy_done(&request->proxy);
	free(request);
}

void http_request_cancel(struct http_request *request)
{
	if (!request)
		return;
	request->cancelled = true;
	if (!request->in_call)
		request_free(request);
}

static struct http_answer answer_of(const struct http_parser *parser)
{
	return (struct http_answer){
		.status = parser->status,
		.body = parser->body.p ? parser->body.p : "",
		.len = parser->body.len,
		.parser = parser,
	};
}

const char *http_answer_header(const struct http_answer *answer, const char *name)
{
	return http_parser_header(answer->parser, name);
}

/* @why NULL: the answer is complete. */
static void finish(struct http_request *request, const char *why)
{
	const struct http_answer answer = answer_of(&request->parser);

	if (!why)
		keep_connection(request);
	disconnect(request);
	request->done(why ? NULL : &answer, why, request->userdata);
	request_free(request);
}

/* Once, as soon as it is known. */
static void tell_head(struct http_request *request)
{
	http_head_fn head = request->head;
	struct http_answer answer = answer_of(&request->parser);

	if (!head || request->cancelled || !http_parser_has_head(&request->parser))
		return;
	answer.body = "";
	answer.len = 0;
	request->head = NULL;
	head(&answer, request->userdata);
}

static void on_piece(const char *data, size_t len, void *userdata)
{
	struct http_request *request = userdata;

	tell_head(request);
	if (!request->cancelled)
		request->piece(data, len, request->userdata);
}

/* All of what has come. 0, or -errno as the parser's. */
static int parse_input(struct http_request *request, struct err *err)
{
	struct evbuffer *input = bufferevent_get_input(request->bev);
	int r = 0;
	size_t n;

	while (!r && !request->cancelled && (n = evbuffer_get_contiguous_space(input))) {
		text_unref(TAKE_PTR(request->text));
		r = http_parser_feed(&request->parser, evbuffer_pullup(input, (ssize_t)n), n, err);
		(void)evbuffer_drain(input, n);
	}
	tell_head(request);
	return r;
}

/* Takes in what has come. Returns false when the request is over, and gone. */
static bool take_input(struct http_request *request)
{
	struct err err;
	int r;

	request->in_call = true;
	r = parse_input(request, &err);
	request->in_call = false;
	if (request->cancelled)
		request_free(request);
	else if (r < 0)
		finish(request, err.text);
	else if (http_parser_is_done(&request->parser))
		finish(request, NULL);
	else
		return true;
	return false;
}

static void on_read(struct bufferevent *bev, void *userdata)
{
	struct http_request *request = userdata;

	(void)bev;
	if (take_input(request) && request->silence)
		loop_timer_set(request->silence, request->silence_ms);
}

static const char *lost_words(int error)
{
	switch (error) {
	case ECONNRESET:
	case EPIPE:
		return "it broke the connection off";
	case ETIMEDOUT:
		return "the connection has gone dead";
	case 0:
		return "the connection is lost";
	default:
		return strerror(error);
	}
}

static void dial_server(struct http_request *request);

static void on_event(struct bufferevent *bev, short what, void *userdata)
{
	const int error = EVUTIL_SOCKET_ERROR();
	struct http_request *request = userdata;
	struct err err;

	if (!take_input(request))
		return;
	if (request->is_kept && request->text) {
		bufferevent_free(TAKE_PTR(request->bev));
		dial_server(request);
		return;
	}
	if (what & BEV_EVENT_EOF) {
		finish(request, http_parser_end(&request->parser, &err) < 0 ? err.text : NULL);
		return;
	}
	if (request->endpoint.tls && tls_explain(bev, &err) < 0)
		finish(request, err.text);
	else
		finish(request, lost_words(error));
}

static void on_timeout(void *userdata)
{
	struct http_request *request = userdata;
	struct err err;

	(void)err_set(&err, -ETIMEDOUT, "no%s answer within %g s",
		      request->parser.head_len ? " complete" : "",
		      (double)request->timeout_ms / 1000);
	finish(request, err.text);
}

static void on_silence(void *userdata)
{
	struct http_request *request = userdata;
	struct err err;

	(void)err_set(&err, -ETIMEDOUT, "nothing came from it for %g s",
		      (double)request->silence_ms / 1000);
	finish(request, err.text);
}

static void on_sent(const void *data, size_t len, void *userdata)
{
	(void)data;
	(void)len;
	text_unref(userdata);
}

/* The connection is up. 0 or -ENOMEM. */
static int send_text(struct http_request *request)
{
	struct bufferevent *bev = request->bev;
	struct text *text = request->text;

	bufferevent_setcb(bev, on_read, NULL, on_event, request);
	(void)bufferevent_set_max_single_read(bev, READ_MAX);
	if (request->silence)
		loop_timer_set(request->silence, request->silence_ms);
	text->refs++;
	/* By reference, so that no copy of it is left behind. */
	if (bufferevent_enable(bev, EV_READ | EV_WRITE) == 0 &&
	    evbuffer_add_reference(bufferevent_get_output(bev), text->p, text->len, on_sent,
				   text) == 0)
		return 0;
	text->refs--;
	return -ENOMEM;
}

static void on_dialled(struct bufferevent *bev, const char *why, void *userdata)
{
	struct http_request *request = userdata;

	request->dial = NULL;
	request->bev = bev;
	if (!bev)
		finish(request, why);
	else if (send_text(request) < 0)
		finish(request, strerror(ENOMEM));
}

static void dial_server(struct http_request *request)
{
	int64_t connect_ms = HTTP_CONNECT_TIMEOUT_MS;

	request->is_kept = false;
	if (request->silence)
		loop_timer_stop(request->silence);
	if (request->timer && request->deadline_ms - loop_now_ms() < connect_ms)
		connect_ms = request->deadline_ms - loop_now_ms();
	request->dial = dial_new(request->loop, &request->proxy, &request->endpoint,
				 &request->files, "http/1.1", connect_ms, on_dialled, request);
}

static void __attribute__((format(printf, 3, 4))) add(char *text, size_t size, const char *fmt, ...)
{
	const size_t len = strlen(text);
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(text + len, size - len, fmt, args);
	va_end(args);
}

/* A port that goes without saying is left out, as everybody does: to some gateways
 * "api.example:443" is another host. */
static void add_host(char *text, size_t size, const struct endpoint *endpoint)
{
	const bool v6 = strchr(endpoint->host, ':') != NULL;

	add(text, size, "Host: %s%s%s", v6 ? "[" : "", endpoint->host, v6 ? "]" : "");
	if (endpoint->port != (endpoint->tls ? ENDPOINT_HTTPS : ENDPOINT_HTTP))
		add(text, size, ":%u", endpoint->port);
	add(text, size, "\r\n");
}

/* The request as it is sent. Written in place: stdio would leave copies of it behind. */
static struct text *request_text(const struct http_options *options)
{
	const struct endpoint *endpoint = options->endpoint;
	const char *body = options->body ? options->body : "";
	size_t size = 256 + strlen(options->method) + strlen(options->target) +
		      strlen(endpoint->host) + strlen(body);
	struct text *text;

	for (size_t i = 0; i < options->n_headers; i++)
		size += strlen(options->headers[i].name) + strlen(options->headers[i].value) + 4;
	text = mem_alloc(1, sizeof(*text) + size);
	text->refs = 1;
	add(text->p, size, "%s %s HTTP/1.1\r\n", options->method, options->target);
	add_host(text->p, size, endpoint);
	if (!options->keeper)
		add(text->p, size, "Connection: close\r\n");
	/* Without it, any coding would be right (RFC 9110, 12.5.3). */
	add(text->p, size, "User-Agent: weft/%s\r\nAccept-Encoding: identity\r\n", WEFT_VERSION);
	for (size_t i = 0; i < options->n_headers; i++)
		add(text->p, size, "%s: %s\r\n", options->headers[i].name,
		    options->headers[i].value);
	if (options->body)
		add(text->p, size, "Content-Length: %zu\r\n", strlen(body));
	add(text->p, size, "\r\n%s", body);
	text->len = strlen(text->p);
	return text;
}

char *http_basic(const char *user, const char *password)
{
	const size_t len = strlen(user) + 1 + strlen(password);
	char *plain = mem_alloc(len + 1, 1), *encoded, *text;

	(void)stpcpy(stpcpy(stpcpy(plain, user), ":"), password);
	encoded = base64_encode(plain, len);
	text = mem_alloc(sizeof("Basic ") + strlen(encoded), 1);
	(void)stpcpy(stpcpy(text, "Basic "), encoded);
	mem_free_secret(plain);
	mem_free_secret(encoded);
	return text;
}

/* The kept connection, when there is one. */
static bool use_kept(struct http_request *request)
{
	if (!request->keeper)
		return false;
	request->drops = request->keeper->drops;
	request->bev = take_kept(request->keeper);
	request->is_kept = true;
	if (!request->bev)
		return false;
	if (send_text(request) == 0)
		return true;
	bufferevent_free(TAKE_PTR(request->bev));
	return false;
}

struct http_request *http_request_new(struct loop *loop, const struct http_options *options)
{
	struct http_request *request = mem_alloc(1, sizeof(*request));

	request->loop = loop;
	request->endpoint = *options->endpoint;
	tls_files_copy(options->files, &request->files);
	proxy_copy(options->proxy, &request->proxy);
	request->keeper = options->keeper;
	request->timeout_ms = options->timeout_ms;
	request->silence_ms = options->silence_ms;
	request->text = request_text(options);
	request->parser.body_max = options->body_max ? options->body_max : HTTP_BODY_MAX;
	request->parser.piece = options->piece ? on_piece : NULL;
	request->parser.userdata = request;
	request->head = options->head;
	request->piece = options->piece;
	request->done = options->done;
	request->userdata = options->userdata;
	if (options->timeout_ms) {
		request->timer = loop_timer_new(loop, on_timeout, request);
		loop_timer_set(request->timer, options->timeout_ms);
		request->deadline_ms = loop_now_ms() + options->timeout_ms;
	}
	if (options->silence_ms)
		request->silence = loop_timer_new(loop, on_silence, request);
	if (!use_kept(request))
		dial_server(request);
	return request;
}
