/* SPDX-License-Identifier: Apache-2.0 */
/* grpc.c - gRPC calls over HTTP/2
 *
 * The frames are five bytes (compressed flag, length) and a protobuf message; the
 * outcome comes as the trailers grpc-status and grpc-message
 * (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
 *
 * A call ends exactly once: by its stream's end, by its timeout or by a failure at
 * once, which a timer of 0 ms tells. grpc_call_cancel() may come from inside of its
 * callbacks; `gone` then tells the splitter to stop.
 */
#include "io/grpc.h"

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>

#define METADATA_MAX 8

struct grpc_call {
	struct grpc_events events;
	struct h2_stream *stream; /* NULL: ended, or never begun */
	struct event *timer;
	int64_t timeout_ms;
	struct grpc_splitter splitter;
	bool *gone;      /* set while messages are told */
	int code;        /* the trailer's; -1: none seen */
	int http_status; /* 0: none seen */
	char type[64];   /* content-type that is not gRPC's; "": it is */
	char text[ERR_TEXT_MAX];
};

/* ---- frames ---- */

void grpc_frame(uint8_t head[5], size_t len)
{
	head[0] = 0;
	for (int i = 0; i < 4; i++)
		head[1 + i] = (uint8_t)(len >> (24 - 8 * i));
}

/* The head is there. */
static int begin_message(struct grpc_splitter *s)
{
	size_t len = (size_t)s->head[1] << 24 | (size_t)s->head[2] << 16 | (size_t)s->head[3] << 8 |
		     s->head[4];

	if (s->head[0])
		return -EPROTO;
	if (len > GRPC_MESSAGE_MAX)
		return -EMSGSIZE;
	s->want = len;
	s->len = 0;
	return 0;
}

/* A length is only believed as far as bytes have come: the buffer doubles. */
static void append(struct grpc_splitter *s, const uint8_t *data, size_t n)
{
	if (s->len + n > s->cap) {
		size_t cap = 2 * (s->len + n);

		s->cap = cap < s->want ? cap : s->want;
		s->message = mem_realloc(s->message, s->cap, 1);
	}
	memcpy(s->message + s->len, data, n);
	s->len += n;
}

int grpc_splitter_feed(struct grpc_splitter *s, const void *data, size_t len, grpc_message_fn fn,
		       void *userdata, const bool *gone)
{
	const uint8_t *p = data;

	while (len) {
		if (s->n_head < sizeof(s->head)) {
			int code;

			s->head[s->n_head++] = *p++;
			len--;
			if (s->n_head < sizeof(s->head))
				continue;
			code = begin_message(s);
			if (code)
				return code;
		} else {
			size_t left = s->want - s->len, n = left < len ? left : len;

			append(s, p, n);
			p += n;
			len -= n;
		}
		if (s->len == s->want) {
			_cleanup_free_ uint8_t *message = TAKE_PTR(s->message);

			s->n_head = s->cap = 0;
			fn(message, s->want, userdata);
			if (*gone)
				return 0;
		}
	}
	return 0;
}

bool grpc_splitter_is_partial(const struct grpc_splitter *s)
{
	return s->n_head > 0;
}

void grpc_splitter_done(struct grpc_splitter *s)
{
	free(s->message);
	*s = (struct grpc_splitter){0};
}

/* ---- calls ---- */

static void free_call(struct grpc_call *call)
{
	if (call->gone)
		*call->gone = true;
	loop_event_free(call->timer);
	grpc_splitter_done(&call->splitter);
	free(call);
}

void grpc_call_cancel(struct grpc_call *call)
{
	if (!call)
		return;
	if (call->stream)
		h2_cancel(call->stream);
	free_call(call);
}

static void finish(struct grpc_call *call, int code, const char *text)
{
	struct grpc_events events = call->events;
	char copy[ERR_TEXT_MAX];

	(void)snprintf(copy, sizeof(copy), "%s", text);
	if (call->stream)
		h2_cancel(call->stream);
	free_call(call);
	events.done(code, copy, events.userdata);
}

static void on_timer(void *userdata)
{
	struct grpc_call *call = userdata;
	char text[64];

	if (!call->stream) {
		finish(call, GRPC_UNAVAILABLE, "the connection is lost");
		return;
	}
	(void)snprintf(text, sizeof(text), "no answer within %g s",
		       (double)call->timeout_ms / 1000);
	finish(call, GRPC_DEADLINE_EXCEEDED, text);
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'                     ? c - '0'
	       : (c | 0x20) >= 'a' && (c | 0x20) <= 'f' ? (c | 0x20) - 'a' + 10
							: -1;
}

/* grpc-message is percent-encoded; what is not stays as it is. */
static void decode_text(const char *value, char *buf, size_t size)
{
	size_t n = 0;

	for (; *value && n + 1 < size; value++) {
		int high = *value == '%' ? hex_digit(value[1]) : -1;
		int low = high >= 0 ? hex_digit(value[2]) : -1;

		if (low >= 0) {
			buf[n++] = (char)(high << 4 | low);
			value += 2;
		} else {
			buf[n++] = *value;
		}
	}
	buf[n] = '\0';
	log_clean(buf);
}

/* -1: no number, or too large. */
static int parse_number(const char *value)
{
	char *end;
	unsigned long number = strtoul(value, &end, 10);

	return *value < '0' || *value > '9' || *end || number > INT_MAX ? -1 : (int)number;
}

static void on_header(const char *name, const char *value, void *userdata)
{
	static const char grpc_type[] = "application/grpc"; /* +proto, ;charset=... */
	struct grpc_call *call = userdata;

	if (!strcmp(name, ":status"))
		call->http_status = parse_number(value);
	else if (!strcmp(name, "grpc-status"))
		call->code = parse_number(value) < 0 ? GRPC_UNKNOWN : parse_number(value);
	else if (!strcmp(name, "grpc-message"))
		decode_text(value, call->text, sizeof(call->text));
	else if (!strcmp(name, "content-type") && strncmp(value, grpc_type, strlen(grpc_type)) != 0)
		decode_text(value, call->type, sizeof(call->type));
}

/* A proxy's error page, for instance. */
static bool is_grpc(const struct grpc_call *call)
{
	return call->http_status == 200 && !*call->type;
}

static void on_data(const void *data, size_t len, void *userdata)
{
	struct grpc_call *call = userdata;
	bool gone = false;
	int code;

	if (!is_grpc(call))
		return; /* on_end() says so */
	call->gone = &gone;
	code = grpc_splitter_feed(&call->splitter, data, len, call->events.message,
				  call->events.userdata, &gone);
	if (gone)
		return;
	call->gone = NULL;
	if (code)
		finish(call, GRPC_UNAVAILABLE,
		       code == -EMSGSIZE ? "an answer is too large" : "an answer is compressed");
}

static void on_end(const char *why, void *userdata)
{
	struct grpc_call *call = userdata;
	char text[128];

	call->stream = NULL;
	if (call->code == GRPC_OK && grpc_splitter_is_partial(&call->splitter)) {
		finish(call, GRPC_UNAVAILABLE, "an answer was cut off");
	} else if (call->code >= 0) {
		finish(call, call->code, call->text);
	} else if (why) {
		finish(call, GRPC_UNAVAILABLE, why);
	} else if (call->http_status && call->http_status != 200) {
		(void)snprintf(text, sizeof(text), "HTTP status %d instead of gRPC's",
			       call->http_status);
		finish(call, GRPC_UNAVAILABLE, text);
	} else if (*call->type) {
		(void)snprintf(text, sizeof(text), "the answer is %s instead of gRPC", call->type);
		finish(call, GRPC_UNAVAILABLE, text);
	} else {
		finish(call, GRPC_UNAVAILABLE, "the call has ended without a status");
	}
}

struct grpc_call *grpc_call_new(struct loop *loop, struct h2 *h2,
				const struct grpc_request *request,
				const struct grpc_events *events)
{
	struct h2_header headers[7 + METADATA_MAX] = {
		{":method", "POST"},
		{":scheme", request->tls ? "https" : "http"},
		{":path", request->path},
		{":authority", request->authority},
		{"te", "trailers"},
		{"content-type", "application/grpc"},
		{"user-agent", "weft/" WEFT_VERSION},
	};
	struct grpc_call *call = mem_alloc(1, sizeof(*call));
	struct h2_stream_events stream_events = {on_header, on_data, on_end, call};
	size_t n = request->n_metadata < METADATA_MAX ? request->n_metadata : METADATA_MAX;

	if (n)
		memcpy(&headers[7], request->metadata, n * sizeof(*headers));
	call->events = *events;
	call->code = -1;
	call->timer = loop_timer_new(loop, on_timer, call);
	call->timeout_ms = request->timeout_ms;
	call->stream = h2_request(h2, headers, 7 + n, request->body, request->len, request->open,
				  &stream_events);
	if (!call->stream)
		loop_timer_set(call->timer, 0);
	else if (call->timeout_ms)
		loop_timer_set(call->timer, call->timeout_ms);
	return call;
}
