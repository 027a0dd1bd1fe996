/* SPDX-License-Identifier: Apache-2.0 */
/* http.c - a client's HTTP/1.1 requests, each over a connection of its own
 *
 * A request dials, sends, and reads until its answer is complete, the connection ends or
 * the time is up; whatever comes first calls finish(), which takes the connection down,
 * calls `done`, and frees the request. `head` is called from the middle of reading; when it
 * cancels the request, that is only noted, and done when it has returned.
 */
#include "io/http.h"

#include "base/mem.h"
#include "io/http_parser.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/util.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define READ_MAX (64 << 10)

struct http_request {
	struct loop *loop;
	struct dial *dial;       /* while connecting */
	struct bufferevent *bev; /* afterwards */
	struct event *timer;     /* NULL: no timeout */
	int64_t timeout_ms;
	bool tls;
	char *text; /* what is to be sent; a secret; NULL: handed to the connection */
	struct http_parser parser;
	http_head_fn head;
	http_done_fn done;
	void *userdata;
	bool in_head, cancelled;
};

static void wipe(char *text, size_t len)
{
	explicit_bzero(text, len);
	free(text);
}

static void disconnect(struct http_request *request)
{
	dial_cancel(TAKE_PTR(request->dial));
	if (request->bev)
		bufferevent_free(TAKE_PTR(request->bev));
	loop_event_free(TAKE_PTR(request->timer));
	if (request->text)
		wipe(request->text, strlen(request->text));
	request->text = NULL;
}

static void request_free(struct http_request *request)
{
	http_parser_done(&request->parser);
	free(request);
}

void http_request_cancel(struct http_request *request)
{
	if (!request)
		return;
	disconnect(request);
	request->cancelled = true;
	if (!request->in_head)
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

	disconnect(request);
	request->done(why ? NULL : &answer, why, request->userdata);
	request_free(request);
}

/* Returns false when the request has been cancelled, and is gone. */
static bool tell_head(struct http_request *request)
{
	http_head_fn head = request->head;
	struct http_answer answer = answer_of(&request->parser);

	if (!head || !http_parser_has_head(&request->parser))
		return true;
	answer.body = "";
	answer.len = 0;
	request->head = NULL;
	request->in_head = true;
	head(&answer, request->userdata);
	request->in_head = false;
	if (!request->cancelled)
		return true;
	request_free(request);
	return false;
}

/* Takes in what has come. Returns false when the request is over, and gone. */
static bool take_input(struct http_request *request)
{
	struct evbuffer *input = bufferevent_get_input(request->bev);
	struct err err;
	size_t n;

	while ((n = evbuffer_get_contiguous_space(input))) {
		if (http_parser_feed(&request->parser, evbuffer_pullup(input, (ssize_t)n), n,
				     &err) < 0) {
			finish(request, err.text);
			return false;
		}
		(void)evbuffer_drain(input, n);
	}
	if (!tell_head(request))
		return false;
	if (!http_parser_is_done(&request->parser))
		return true;
	finish(request, NULL);
	return false;
}

static void on_read(struct bufferevent *bev, void *userdata)
{
	(void)bev;
	(void)take_input(userdata);
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

static void on_event(struct bufferevent *bev, short what, void *userdata)
{
	const int error = EVUTIL_SOCKET_ERROR();
	struct http_request *request = userdata;
	struct err err;

	if (!take_input(request))
		return;
	if (what & BEV_EVENT_EOF) {
		finish(request, http_parser_end(&request->parser, &err) < 0 ? err.text : NULL);
		return;
	}
	if (request->tls && tls_explain(bev, &err) < 0)
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

static void on_sent(const void *data, size_t len, void *userdata)
{
	(void)data;
	wipe(userdata, len);
}

static void on_dialled(struct bufferevent *bev, const char *why, void *userdata)
{
	struct http_request *request = userdata;
	char *text = request->text;

	request->dial = NULL;
	if (!bev) {
		finish(request, why);
		return;
	}
	request->bev = bev;
	bufferevent_setcb(bev, on_read, NULL, on_event, request);
	(void)bufferevent_set_max_single_read(bev, READ_MAX);
	/* By reference, so that no copy of it is left behind. */
	if (bufferevent_enable(bev, EV_READ | EV_WRITE) < 0 ||
	    evbuffer_add_reference(bufferevent_get_output(bev), text, strlen(text), on_sent, text) <
		    0)
		finish(request, strerror(ENOMEM));
	else
		request->text = NULL;
}

static void __attribute__((format(printf, 3, 4))) add(char *text, size_t size, const char *fmt, ...)
{
	const size_t len = strlen(text);
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(text + len, size - len, fmt, args);
	va_end(args);
}

/* The request as it is sent. Written in place: stdio would leave copies of it behind. */
static char *request_text(const struct http_options *options)
{
	const struct endpoint *endpoint = options->endpoint;
	const char *body = options->body ? options->body : "";
	size_t size = 256 + strlen(options->method) + strlen(options->target) +
		      strlen(endpoint->host) + strlen(body);
	const bool v6 = strchr(endpoint->host, ':') != NULL;
	char *text;

	for (size_t i = 0; i < options->n_headers; i++)
		size += strlen(options->headers[i].name) + strlen(options->headers[i].value) + 4;
	text = mem_alloc(size, 1);
	add(text, size, "%s %s HTTP/1.1\r\n", options->method, options->target);
	add(text, size, "Host: %s%s%s:%u\r\n", v6 ? "[" : "", endpoint->host, v6 ? "]" : "",
	    endpoint->port);
	add(text, size, "Connection: close\r\nUser-Agent: weft/%s\r\n", WEFT_VERSION);
	for (size_t i = 0; i < options->n_headers; i++)
		add(text, size, "%s: %s\r\n", options->headers[i].name, options->headers[i].value);
	if (options->body)
		add(text, size, "Content-Length: %zu\r\n", strlen(body));
	add(text, size, "\r\n%s", body);
	return text;
}

struct http_request *http_request_new(struct loop *loop, const struct http_options *options)
{
	struct http_request *request = mem_alloc(1, sizeof(*request));
	int64_t connect_ms = HTTP_CONNECT_TIMEOUT_MS;

	request->loop = loop;
	request->timeout_ms = options->timeout_ms;
	request->tls = options->endpoint->tls;
	request->text = request_text(options);
	request->parser.body_max = options->body_max ? options->body_max : HTTP_BODY_MAX;
	request->head = options->head;
	request->done = options->done;
	request->userdata = options->userdata;
	if (options->timeout_ms) {
		request->timer = loop_timer_new(loop, on_timeout, request);
		loop_timer_set(request->timer, options->timeout_ms);
		if (options->timeout_ms < connect_ms)
			connect_ms = options->timeout_ms;
	}
	request->dial = dial_new(loop, options->endpoint, options->files, "http/1.1", connect_ms,
				 on_dialled, request);
	return request;
}
