/* SPDX-License-Identifier: Apache-2.0 */
/* grpc.h - gRPC calls over HTTP/2: one request message, any number of answers
 *
 * Bidirectional methods get all their requests at the beginning as well, which is what
 * etcd's Watch and LeaseKeepAlive need.
 */
#pragma once

#include "io/h2.h"

#include <stddef.h>
#include <stdint.h>

/* Longest answer taken: 50,000 leases are 13 MB. */
#define GRPC_MESSAGE_MAX (64u << 20)

enum grpc_code { /* https://grpc.github.io/grpc/core/md_doc_statuscodes.html */
		 GRPC_OK = 0,
		 GRPC_UNKNOWN = 2,
		 GRPC_INVALID_ARGUMENT = 3,
		 GRPC_DEADLINE_EXCEEDED = 4,
		 GRPC_NOT_FOUND = 5,
		 GRPC_PERMISSION_DENIED = 7,
		 GRPC_RESOURCE_EXHAUSTED = 8,
		 GRPC_FAILED_PRECONDITION = 9,
		 GRPC_OUT_OF_RANGE = 11,
		 GRPC_UNIMPLEMENTED = 12,
		 GRPC_UNAVAILABLE = 14,
		 GRPC_UNAUTHENTICATED = 16,
};

/* The messages of a stream of bytes that comes in pieces. Zeroed is ready. */
struct grpc_splitter {
	uint8_t head[5]; /* compressed flag, length (big endian) */
	size_t n_head;
	uint8_t *message;
	size_t len, want, cap;
};
typedef void (*grpc_message_fn)(const uint8_t *message, size_t len, void *userdata);

/* Calls @fn for each message that @data completes. -EMSGSIZE: one is longer than
 * GRPC_MESSAGE_MAX; -EPROTO: compressed, which we never ask for. @fn may free the
 * splitter's owner when it sets *@gone, which is then the last thing touched. */
int grpc_splitter_feed(struct grpc_splitter *splitter, const void *data, size_t len,
		       grpc_message_fn fn, void *userdata, const bool *gone);
/* Whether a message is incomplete. */
bool grpc_splitter_is_partial(const struct grpc_splitter *splitter);
void grpc_splitter_done(struct grpc_splitter *splitter);

struct grpc_call;

struct grpc_events {
	grpc_message_fn message;
	/* The call is over; the handle is void. @code: the server's grpc-status, or
	 * GRPC_UNAVAILABLE with words of ours when the connection or the protocol failed,
	 * GRPC_DEADLINE_EXCEEDED after the timeout. */
	void (*done)(int code, const char *text, void *userdata);
	void *userdata;
};

/* Borrowed during the call of grpc_call_new(). */
struct grpc_request {
	const char *path; /* "/etcdserverpb.KV/Range" */
	const char *authority;
	bool tls;
	const struct h2_header *metadata; /* more headers */
	size_t n_metadata;
	const void *body; /* one or several messages, framed already (grpc_frame()) */
	size_t len;
	bool open;          /* more could follow, for all the server knows: a proxy may end a
			       stream whose client has said everything */
	int64_t timeout_ms; /* for the whole call; 0: none */
};

/* A failure at once is told from the loop as well. The callbacks may cancel calls and free the
 * connection; calls are cancelled before their connection is freed. Never NULL. */
struct grpc_call *grpc_call_new(struct loop *loop, struct h2 *h2,
				const struct grpc_request *request,
				const struct grpc_events *events);
/* No callback follows. NULL is allowed. */
void grpc_call_cancel(struct grpc_call *call);

/* Writes the five bytes before a message of @len bytes. */
void grpc_frame(uint8_t head[5], size_t len);
