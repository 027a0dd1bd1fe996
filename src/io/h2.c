/* SPDX-License-Identifier: Apache-2.0 */
/* h2.c - one HTTP/2 connection of a client: nghttp2's frames over a bufferevent
 *
 * Theory of operation. nghttp2 keeps the protocol's state and calls back for every
 * header, piece of data and end of a stream; it is fed with what the bufferevent has
 * read, and what it wants to send is appended to the bufferevent. Callbacks of the
 * owner may free the connection from inside nghttp2_session_mem_recv(): h2_free() then
 * only marks it, and the outermost function of this file (`depth` 0) frees it.
 *
 * A server that has said nothing for a while is asked (PING); one that does not answer is
 * given up. gRPC servers allow that every 5 s, as long as there is a stream.
 *
 * A stream belongs to the connection. It ends by its `end` callback, by h2_cancel() or
 * with the connection, and is freed when nghttp2 has closed it.
 */
#include "io/h2.h"

#include "base/err.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/tls.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/util.h>
#include <nghttp2/nghttp2.h>
#include <stdint.h>
#include <stdio.h>

/* How much the server may send ahead of us: a list of 5,000 leases in one go. */
#define WINDOW_BYTES (4 << 20)
#define HEADERS_MAX  32
#define QUIET_MS     10000 /* without a word from the server: PING */
#define ANSWER_MS    5000
#define GREETING_MS  3000 /* from the connection to the server's first frame */

static const char closed[] = "the server has closed the connection";

struct h2_stream {
	struct h2 *h2;
	struct h2_stream *next, **link; /* in h2->streams */
	int32_t id;
	struct h2_stream_events events; /* zeroed: cancelled */
	uint8_t *body;
	size_t len, sent;
	bool open; /* our side stays open behind the body */
};

struct h2 {
	struct loop *loop;
	struct bufferevent *bev;
	nghttp2_session *session;
	struct h2_stream *streams;
	struct event *lost_timer; /* a failure outside of callbacks is told from the loop */
	char lost[ERR_TEXT_MAX];  /* why the connection is lost; "": it is not */
	bool answered;            /* the server has spoken HTTP/2 */
	struct event *quiet_timer;
	int64_t heard_ms; /* last word from the server */
	bool asked;       /* PING is on its way */
	unsigned depth;   /* inside callbacks */
	bool dead;        /* h2_free() was called inside of them */
};

static void free_stream(struct h2_stream *stream)
{
	explicit_bzero(stream->body, stream->len); /* may hold a password */
	free(stream->body);
	free(stream);
}

static void destroy(struct h2 *h2)
{
	while (h2->streams) {
		struct h2_stream *stream = h2->streams;

		h2->streams = stream->next;
		free_stream(stream);
	}
	nghttp2_session_del(h2->session);
	if (h2->bev)
		bufferevent_free(h2->bev);
	loop_event_free(h2->lost_timer);
	loop_event_free(h2->quiet_timer);
	free(h2);
}

static void enter(struct h2 *h2)
{
	h2->depth++;
}

/* True: the connection has gone, nothing of it may be touched. */
static bool leave(struct h2 *h2)
{
	if (--h2->depth || !h2->dead)
		return h2->dead;
	destroy(h2);
	return true;
}

static void unlink_stream(struct h2_stream *stream)
{
	*stream->link = stream->next;
	if (stream->next)
		stream->next->link = stream->link;
}

static void end_stream(struct h2_stream *stream, const char *why)
{
	struct h2_stream_events events = stream->events;

	(void)nghttp2_session_set_stream_user_data(stream->h2->session, stream->id, NULL);
	unlink_stream(stream);
	free_stream(stream);
	if (events.end)
		events.end(why, events.userdata);
}

/* Ends every stream. */
static void lose(struct h2 *h2, const char *why)
{
	if (!*h2->lost)
		(void)snprintf(h2->lost, sizeof(h2->lost), "%s", why);
	loop_timer_stop(h2->quiet_timer);
	bufferevent_setcb(h2->bev, NULL, NULL, NULL, NULL);
	(void)bufferevent_disable(h2->bev, EV_READ | EV_WRITE);
	enter(h2);
	/* The analyzer does not know that end_stream() takes the first one out. */
	while (h2->streams && !h2->dead)
		end_stream(h2->streams, h2->lost); /* NOLINT(clang-analyzer-unix.Malloc) */
	(void)leave(h2);
}

static void on_lost(void *userdata)
{
	struct h2 *h2 = userdata;

	lose(h2, h2->lost);
}

/* As lose(), from outside of callbacks. */
static void lose_later(struct h2 *h2, const char *why)
{
	if (!*h2->lost)
		(void)snprintf(h2->lost, sizeof(h2->lost), "%s", why);
	loop_timer_set(h2->lost_timer, 0);
}

/* Hands what nghttp2 wants to send to the bufferevent. False: the session is broken. */
static bool flush(struct h2 *h2)
{
	const uint8_t *data;
	ssize_t n;

	while ((n = nghttp2_session_mem_send(h2->session, &data)) > 0)
		if (bufferevent_write(h2->bev, data, (size_t)n))
			return false;
	return n == 0 &&
	       (nghttp2_session_want_read(h2->session) || nghttp2_session_want_write(h2->session));
}

/* Runs once in QUIET_MS at most, however busy the connection is. */
static void on_quiet(void *userdata)
{
	struct h2 *h2 = userdata;
	int64_t quiet_ms = loop_now_ms() - h2->heard_ms;

	if (!h2->answered) {
		lose(h2, "the server has said nothing for 3 s: is it the right port?");
		return;
	}
	if (quiet_ms < QUIET_MS) {
		h2->asked = false;
		loop_timer_set(h2->quiet_timer, QUIET_MS - quiet_ms);
		return;
	}
	if (h2->asked) {
		lose(h2, "the server has stopped answering");
		return;
	}
	h2->asked = true;
	(void)nghttp2_submit_ping(h2->session, NGHTTP2_FLAG_NONE, NULL);
	loop_timer_set(h2->quiet_timer, ANSWER_MS);
	if (!flush(h2))
		lose(h2, closed);
}

/* ---- the bufferevent's callbacks ---- */

static void on_readable(struct bufferevent *bev, void *userdata)
{
	struct h2 *h2 = userdata;
	struct evbuffer *input = bufferevent_get_input(bev);
	const char *why = NULL;

	h2->heard_ms = loop_now_ms();
	enter(h2);
	while (!h2->dead && !why && evbuffer_get_length(input)) {
		size_t len = evbuffer_get_contiguous_space(input);
		const uint8_t *data = evbuffer_pullup(input, (ssize_t)len);
		ssize_t n = nghttp2_session_mem_recv(h2->session, data, len);

		if (n < 0)
			why = nghttp2_strerror((int)n);
		else
			(void)evbuffer_drain(input, (size_t)n);
	}
	/* What cannot be read makes nghttp2 say goodbye, and want nothing any more. */
	if (!h2->dead && !flush(h2) && !why)
		why = closed;
	if (why && !h2->answered)
		why = "the server does not speak HTTP/2 (or wants https://)";
	if (leave(h2))
		return;
	if (why)
		lose(h2, why);
}

static void on_event(struct bufferevent *bev, short what, void *userdata)
{
	struct h2 *h2 = userdata;
	int error = (what & BEV_EVENT_ERROR) ? EVUTIL_SOCKET_ERROR() : 0;
	struct err err;

	if (!(what & (BEV_EVENT_EOF | BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT)))
		return;
	if (tls_explain(bev, &err))
		lose(h2, err.text);
	else if (error && error != ECONNRESET && error != EPIPE)
		lose(h2, evutil_socket_error_to_string(error));
	else if (h2->answered)
		lose(h2, closed);
	else
		lose(h2, "the server has closed the connection at once (does it want https://?)");
}

/* ---- nghttp2's callbacks ---- */

static struct h2_stream *find(nghttp2_session *session, int32_t id)
{
	return nghttp2_session_get_stream_user_data(session, id);
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
		     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
		     void *userdata)
{
	const struct h2_stream *stream = find(session, frame->hd.stream_id);
	const struct h2 *h2 = userdata;

	(void)name_len; /* both are NUL-terminated (nghttp2.h, nghttp2_on_header_callback) */
	(void)value_len;
	(void)flags;
	if (!h2->dead && stream && stream->events.header)
		stream->events.header((const char *)name, (const char *)value,
				      stream->events.userdata);
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data,
		   size_t len, void *userdata)
{
	const struct h2_stream *stream = find(session, id);
	const struct h2 *h2 = userdata;

	(void)flags;
	if (!h2->dead && stream && stream->events.data)
		stream->events.data(data, len, stream->events.userdata);
	return 0;
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *userdata)
{
	bool last = (frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS) &&
		    frame->hd.flags & NGHTTP2_FLAG_END_STREAM;
	struct h2_stream *stream = last ? find(session, frame->hd.stream_id) : NULL;
	struct h2 *h2 = userdata;

	h2->answered = true;
	if (frame->hd.type == NGHTTP2_GOAWAY)
		log_debug(2, "HTTP/2: the server says goodbye (code %u)", frame->goaway.error_code);
	if (!stream || !stream->open || h2->dead)
		return 0;
	(void)nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_NO_ERROR);
	end_stream(stream, NULL);
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t error_code,
			   void *userdata)
{
	struct h2_stream *stream = find(session, id);
	const struct h2 *h2 = userdata;
	char why[96];

	if (!stream || h2->dead)
		return 0;
	(void)snprintf(why, sizeof(why), "the server has broken off the call (%s)",
		       nghttp2_http2_strerror(error_code));
	end_stream(stream, error_code ? why : NULL);
	return 0;
}

static ssize_t read_body(nghttp2_session *session, int32_t id, uint8_t *buf, size_t size,
			 uint32_t *flags, nghttp2_data_source *source, void *userdata)
{
	struct h2_stream *stream = find(session, id);
	size_t left, n;

	(void)source;
	(void)userdata;
	if (!stream)
		return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
	left = stream->len - stream->sent;
	if (!left && stream->open)
		return NGHTTP2_ERR_DEFERRED;
	n = left < size ? left : size;
	if (n)
		memcpy(buf, stream->body + stream->sent, n);
	stream->sent += n;
	if (stream->sent == stream->len && !stream->open)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	return (ssize_t)n;
}

static nghttp2_session *new_session(struct h2 *h2)
{
	const nghttp2_settings_entry settings[] = {
		{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
		{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_BYTES},
	};
	nghttp2_session_callbacks *callbacks;
	nghttp2_session *session;

	if (nghttp2_session_callbacks_new(&callbacks))
		abort();
	nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
	if (nghttp2_session_client_new(&session, callbacks, h2))
		abort(); /* only memory can fail */
	nghttp2_session_callbacks_del(callbacks);
	(void)nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, ARRAY_SIZE(settings));
	(void)nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, WINDOW_BYTES);
	return session;
}

/* ---- for the owner ---- */

struct h2 *h2_new(struct loop *loop, struct bufferevent *bev)
{
	struct h2 *h2 = mem_alloc(1, sizeof(*h2));

	h2->loop = loop;
	h2->bev = bev;
	h2->session = new_session(h2);
	h2->lost_timer = loop_timer_new(loop, on_lost, h2);
	h2->quiet_timer = loop_timer_new(loop, on_quiet, h2);
	h2->heard_ms = loop_now_ms();
	loop_timer_set(h2->quiet_timer, GREETING_MS);
	bufferevent_setcb(bev, on_readable, NULL, on_event, h2);
	(void)bufferevent_enable(bev, EV_READ | EV_WRITE);
	if (!flush(h2))
		lose_later(h2, "the connection is broken");
	return h2;
}

void h2_free(struct h2 *h2)
{
	if (!h2 || h2->dead)
		return;
	h2->dead = true;
	if (!h2->depth)
		destroy(h2);
}

bool h2_is_usable(const struct h2 *h2)
{
	return !*h2->lost && !h2->dead && nghttp2_session_check_request_allowed(h2->session);
}

struct h2_stream *h2_request(struct h2 *h2, const struct h2_header *headers, size_t n_headers,
			     const void *body, size_t len, bool open,
			     const struct h2_stream_events *events)
{
	nghttp2_data_provider provider = {.read_callback = read_body};
	struct h2_stream *stream;
	nghttp2_nv nv[HEADERS_MAX];

	if (!h2_is_usable(h2) || n_headers > HEADERS_MAX)
		return NULL;
	for (size_t i = 0; i < n_headers; i++)
		nv[i] = (nghttp2_nv){.name = (uint8_t *)(uintptr_t)headers[i].name,
				     .namelen = strlen(headers[i].name),
				     .value = (uint8_t *)(uintptr_t)headers[i].value,
				     .valuelen = strlen(headers[i].value),
				     /* Secrets stay out of the compression table. */
				     .flags = headers[i].secret ? NGHTTP2_NV_FLAG_NO_INDEX
								: NGHTTP2_NV_FLAG_NONE};
	stream = mem_alloc(1, sizeof(*stream));
	stream->h2 = h2;
	stream->body = mem_alloc(1, len + 1);
	memcpy(stream->body, body, len);
	stream->len = len;
	stream->open = open;
	stream->events = *events;
	stream->id = nghttp2_submit_request(h2->session, NULL, nv, n_headers, &provider, stream);
	if (stream->id < 0) {
		free_stream(stream);
		return NULL;
	}
	stream->next = h2->streams;
	stream->link = &h2->streams;
	if (stream->next)
		stream->next->link = &stream->next;
	h2->streams = stream;
	/* Inside of callbacks on_readable() does it. */
	if (!h2->depth && !flush(h2))
		lose_later(h2, closed);
	return stream;
}

void h2_cancel(struct h2_stream *stream)
{
	struct h2 *h2 = stream->h2;

	(void)nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_CANCEL);
	stream->events = (struct h2_stream_events){0};
	end_stream(stream, NULL);
	if (!h2->depth && !*h2->lost && !flush(h2))
		lose_later(h2, closed);
}
