/* SPDX-License-Identifier: Apache-2.0 */
/* h2_server.h - an HTTP/2 server for tests: nghttp2's other side, on a socket pair in the same
 * loop; what it answers hangs on the path that is asked for
 */
#pragma once

#include "base/mem.h"
#include "io/loop.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <nghttp2/nghttp2.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

/* What follows the header block, or stands in its place. */
enum h2_act {
	H2_ANSWER,  /* the body, then the trailers */
	H2_NO_BODY, /* status and message in the header block, which ends the stream */
	H2_CUT,     /* the body, and the end without trailers */
	H2_SILENT,
	H2_HANG, /* the body, and no end */
	H2_RESET,
	H2_RESET_LATE, /* after the body */
	H2_GOAWAY,     /* nothing was done for this stream, or any later one */
	H2_CLOSE,
	H2_CLOSE_LATE, /* after the body */
};

/* Named members only: the others are none. */
struct h2_answer {
	const char *path;
	enum h2_act act;
	const char *http_status; /* NULL: 200 */
	const char *type;        /* NULL: application/grpc */
	const char *status;      /* grpc-status; NULL: none */
	const char *message;     /* grpc-message; NULL: none */
	const void *body;
	size_t len;
};

struct h2_server {
	struct loop *loop;
	struct bufferevent *bev;
	nghttp2_session *session;
	const struct h2_answer *answers;
	size_t n_requests;
	bool answer_open; /* the first data of a request are all of it */
	uint8_t *request; /* the last one's body */
	size_t request_len;
	struct event *closer;
};

struct h2_server_stream {
	const struct h2_answer *answer;
	size_t sent;
};

static inline void h2_server_flush(struct h2_server *s)
{
	const uint8_t *data;
	ssize_t n;

	while (s->bev && (n = nghttp2_session_mem_send(s->session, &data)) > 0)
		assert_int_equal(bufferevent_write(s->bev, data, (size_t)n), 0);
}

static inline nghttp2_nv h2_server_nv(const char *name, const char *value)
{
	return (nghttp2_nv){.name = (uint8_t *)(uintptr_t)name,
			    .value = (uint8_t *)(uintptr_t)value,
			    .namelen = strlen(name),
			    .valuelen = strlen(value)};
}

static inline size_t h2_server_outcome(const struct h2_answer *a, nghttp2_nv *nv, size_t n)
{
	if (a->status)
		nv[n++] = h2_server_nv("grpc-status", a->status);
	if (a->message)
		nv[n++] = h2_server_nv("grpc-message", a->message);
	return n;
}

/* From the loop, when what was written before has left. */
static inline void h2_server_close(void *userdata)
{
	struct h2_server *s = userdata;

	if (s->bev && evbuffer_get_length(bufferevent_get_output(s->bev))) {
		loop_timer_set(s->closer, 1);
		return;
	}
	if (s->bev)
		bufferevent_free(TAKE_PTR(s->bev));
}

static inline ssize_t h2_server_read_body(nghttp2_session *session, int32_t id, uint8_t *buf,
					  size_t size, uint32_t *flags, nghttp2_data_source *source,
					  void *userdata)
{
	struct h2_server_stream *stream = nghttp2_session_get_stream_user_data(session, id);
	const struct h2_answer *a = stream->answer;
	struct h2_server *s = userdata;
	size_t left = a->len - stream->sent, n = left < size ? left : size;
	nghttp2_nv nv[2];

	(void)source;
	if (n)
		memcpy(buf, (const uint8_t *)a->body + stream->sent, n);
	stream->sent += n;
	if (stream->sent < a->len)
		return (ssize_t)n;
	if (a->act == H2_HANG || a->act == H2_CLOSE_LATE || a->act == H2_RESET_LATE) {
		if (!n && a->act == H2_CLOSE_LATE)
			loop_timer_set(s->closer, 1);
		if (!n && a->act == H2_RESET_LATE)
			assert_int_equal(
				nghttp2_submit_rst_stream(session, 0, id, NGHTTP2_INTERNAL_ERROR),
				0);
		return n ? (ssize_t)n : NGHTTP2_ERR_DEFERRED;
	}
	*flags |= NGHTTP2_DATA_FLAG_EOF;
	if (a->act != H2_CUT && (a->status || a->message)) {
		*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
		assert_int_equal(
			nghttp2_submit_trailer(session, id, nv, h2_server_outcome(a, nv, 0)), 0);
	}
	return (ssize_t)n;
}

static inline void h2_server_answer(struct h2_server *s, int32_t id,
				    struct h2_server_stream *stream)
{
	nghttp2_data_provider provider = {.read_callback = h2_server_read_body};
	const struct h2_answer *a = stream->answer;
	nghttp2_nv nv[4] = {
		h2_server_nv(":status", a->http_status ? a->http_status : "200"),
		h2_server_nv("content-type", a->type ? a->type : "application/grpc"),
	};

	switch (a->act) {
	case H2_ANSWER:
	case H2_CUT:
	case H2_HANG:
	case H2_RESET_LATE:
	case H2_CLOSE_LATE:
		assert_int_equal(nghttp2_submit_response(s->session, id, nv, 2, &provider), 0);
		break;
	case H2_NO_BODY:
		assert_int_equal(nghttp2_submit_response(s->session, id, nv,
							 h2_server_outcome(a, nv, 2), NULL),
				 0);
		break;
	case H2_SILENT:
		break;
	case H2_RESET:
		assert_int_equal(
			nghttp2_submit_rst_stream(s->session, 0, id, NGHTTP2_INTERNAL_ERROR), 0);
		break;
	case H2_GOAWAY:
		assert_int_equal(nghttp2_submit_goaway(s->session, 0, id > 2 ? id - 2 : 0,
						       NGHTTP2_NO_ERROR, NULL, 0),
				 0);
		break;
	case H2_CLOSE:
		loop_timer_set(s->closer, 0);
		break;
	}
}

static inline int h2_server_on_begin(nghttp2_session *session, const nghttp2_frame *frame,
				     void *userdata)
{
	(void)userdata;
	return nghttp2_session_set_stream_user_data(session, frame->hd.stream_id,
						    mem_alloc(1, sizeof(struct h2_server_stream)));
}

static inline int h2_server_on_header(nghttp2_session *session, const nghttp2_frame *frame,
				      const uint8_t *name, size_t name_len, const uint8_t *value,
				      size_t value_len, uint8_t flags, void *userdata)
{
	struct h2_server_stream *stream =
		nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
	const struct h2_server *s = userdata;

	(void)name_len;
	(void)value_len;
	(void)flags;
	if (strcmp((const char *)name, ":path") != 0)
		return 0;
	for (const struct h2_answer *a = s->answers; a->path; a++)
		if (!strcmp(a->path, (const char *)value))
			stream->answer = a;
	assert_non_null(stream->answer);
	return 0;
}

static inline int h2_server_on_data(nghttp2_session *session, uint8_t flags, int32_t id,
				    const uint8_t *data, size_t len, void *userdata)
{
	struct h2_server *s = userdata;

	(void)session;
	(void)flags;
	(void)id;
	s->request = mem_realloc(s->request, s->request_len + len, 1);
	memcpy(s->request + s->request_len, data, len);
	s->request_len += len;
	return 0;
}

static inline int h2_server_on_frame(nghttp2_session *session, const nghttp2_frame *frame,
				     void *userdata)
{
	struct h2_server *s = userdata;

	/* A stream of requests stays open behind its only one. */
	if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM)
		    ? frame->hd.type == NGHTTP2_DATA || frame->hd.type == NGHTTP2_HEADERS
		    : frame->hd.type == NGHTTP2_DATA && s->answer_open) {
		s->n_requests++;
		h2_server_answer(
			s, frame->hd.stream_id,
			nghttp2_session_get_stream_user_data(session, frame->hd.stream_id));
	}
	return 0;
}

static inline int h2_server_on_stream_close(nghttp2_session *session, int32_t id, uint32_t code,
					    void *userdata)
{
	(void)code;
	(void)userdata;
	free(nghttp2_session_get_stream_user_data(session, id));
	(void)nghttp2_session_set_stream_user_data(session, id, NULL);
	return 0;
}

static inline void h2_server_on_readable(struct bufferevent *bev, void *userdata)
{
	struct evbuffer *input = bufferevent_get_input(bev);
	struct h2_server *s = userdata;
	size_t len = evbuffer_get_length(input);

	(void)nghttp2_session_mem_recv(s->session, evbuffer_pullup(input, -1), len);
	(void)evbuffer_drain(input, len);
	h2_server_flush(s);
}

static inline void h2_server_on_event(struct bufferevent *bev, short what, void *userdata)
{
	struct h2_server *s = userdata;

	(void)bev;
	(void)what;
	bufferevent_free(TAKE_PTR(s->bev));
}

static inline void h2_server_session(struct h2_server *s, uint32_t max_streams)
{
	const nghttp2_settings_entry settings[] = {
		{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, max_streams}};
	nghttp2_session_callbacks *callbacks;

	assert_int_equal(nghttp2_session_callbacks_new(&callbacks), 0);
	nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, h2_server_on_begin);
	nghttp2_session_callbacks_set_on_header_callback(callbacks, h2_server_on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, h2_server_on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, h2_server_on_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(callbacks,
							       h2_server_on_stream_close);
	assert_int_equal(nghttp2_session_server_new(&s->session, callbacks, s), 0);
	nghttp2_session_callbacks_del(callbacks);
	assert_int_equal(nghttp2_submit_settings(s->session, 0, settings, 1), 0);
}

static inline void h2_server_serve(struct h2_server *s, int fd, uint32_t max_streams)
{
	s->bev = bufferevent_socket_new(loop_base(s->loop), fd, BEV_OPT_CLOSE_ON_FREE);
	h2_server_session(s, max_streams);
	bufferevent_setcb(s->bev, h2_server_on_readable, NULL, h2_server_on_event, s);
	assert_int_equal(bufferevent_enable(s->bev, EV_READ | EV_WRITE), 0);
	h2_server_flush(s);
}

/* @answers end with an empty one. Returns the client's end of the connection. */
static inline struct bufferevent *h2_server_start(struct h2_server *s, struct loop *loop,
						  const struct h2_answer *answers,
						  uint32_t max_streams)
{
	int fds[2];

	*s = (struct h2_server){.loop = loop, .answers = answers};
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
			 0);
	s->closer = loop_timer_new(loop, h2_server_close, s);
	h2_server_serve(s, fds[0], max_streams);
	return bufferevent_socket_new(loop_base(loop), fds[1], BEV_OPT_CLOSE_ON_FREE);
}

static inline void h2_server_stop(struct h2_server *s)
{
	for (int32_t id = 1; id < 200; id += 2)
		free(nghttp2_session_get_stream_user_data(s->session, id));
	nghttp2_session_del(s->session);
	if (s->bev)
		bufferevent_free(s->bev);
	loop_event_free(s->closer);
	free(s->request);
}
