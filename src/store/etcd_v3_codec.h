/* SPDX-License-Identifier: Apache-2.0 */
/* etcd_v3_codec.h - etcd's v3 messages: requests to bytes, bytes to answers; pure
 *
 * Requests come framed for gRPC and are freed by the caller. Keys are relative to
 * @prefix. Decoders return 0 or -EBADMSG; what they tell is borrowed from the message
 * during the callback.
 */
#pragma once

#include "store/etcd_api.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of every answer. */
struct etcd_v3_header {
	int64_t revision;
	uint64_t cluster;
};

struct etcd_v3_watch_answer {
	struct etcd_v3_header header;
	bool created, canceled, fragment;
	int64_t compacted;   /* 0, or what is left begins there: the history asked for has gone */
	char reason[200];    /* why it was canceled */
	int64_t last_subnet; /* all below subnets/ has been told up to this revision; 0: no news */
};

uint8_t *etcd_v3_list(const char *prefix, size_t *ret_len); /* a Txn */
/* Two watches in one stream: the config and all below subnets/. */
uint8_t *etcd_v3_watch(const char *prefix, int64_t from, size_t *ret_len);
uint8_t *etcd_v3_get(const char *prefix, const char *key, size_t *ret_len);
uint8_t *etcd_v3_count(const char *prefix, size_t *ret_len); /* a Range */
uint8_t *etcd_v3_grant(int64_t ttl_s, size_t *ret_len);
uint8_t *etcd_v3_keep_alive(int64_t lease, size_t *ret_len);
/* A Txn that writes when the key is unchanged since @revision (0: absent), and else
 * reads it. @value NULL: deletes it. */
uint8_t *etcd_v3_write(const char *prefix, const char *key, const char *value, int64_t lease,
		       int64_t revision, size_t *ret_len);
uint8_t *etcd_v3_authenticate(const char *user, const char *password, size_t *ret_len);

/* The answer to a Txn: @each for every key that was read. */
int etcd_v3_decode_txn(const uint8_t *message, size_t len, const char *prefix,
		       struct etcd_v3_header *ret_header, bool *ret_succeeded, etcd_kv_fn each,
		       void *userdata);
/* The answer to a Range. */
int etcd_v3_decode_range(const uint8_t *message, size_t len, const char *prefix,
			 struct etcd_v3_header *ret_header, size_t *ret_count, etcd_kv_fn each,
			 void *userdata);
/* To LeaseGrant and LeaseKeepAlive, which look the same; a TTL of 0: there is no such lease. */
int etcd_v3_decode_lease(const uint8_t *message, size_t len, struct etcd_v3_header *ret_header,
			 int64_t *ret_lease, int64_t *ret_ttl_s);
int etcd_v3_decode_watch(const uint8_t *message, size_t len, const char *prefix,
			 struct etcd_v3_watch_answer *ret_answer, etcd_kv_fn put, etcd_kv_fn gone,
			 void *userdata);
/* Caller frees *@ret_token. */
int etcd_v3_decode_token(const uint8_t *message, size_t len, char **ret_token);
