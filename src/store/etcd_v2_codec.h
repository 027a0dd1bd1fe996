/* SPDX-License-Identifier: Apache-2.0 */
/* etcd_v2_codec.h - etcd's v2 keys API: requests to paths and forms, answers to keys; pure
 *
 * Texts that are made here are freed by the caller. Keys are relative to @prefix; only
 * those are told that the store asks for: "config" and those directly below "subnets/".
 */
#pragma once

#include "base/json.h"
#include "store/etcd_api.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The prefix as etcd names its keys: no slash twice, none at the end. */
void etcd_v2_prefix(const char *given, char ret_prefix[ETCD_PREFIX_MAX]);
/* `/v2/keys` PREFIX `/` @key `?` @query, percent-encoded but for the query. @key "": the
 * prefix itself. */
char *etcd_v2_target(const char *prefix, const char *key, const char *query);
/* The body of a PUT. @value NULL: the one that is there is kept, and only its time renewed.
 * @ttl_s 0: it stays for ever. */
char *etcd_v2_form(const char *value, int64_t ttl_s);

/* An answer of etcd's. Zeroed is valid and empty. */
struct etcd_v2_answer {
	json_t *json;                   /* owns all that is borrowed from here */
	bool absent;                    /* an error that says: no such key (or no such directory) */
	int64_t index;                  /* of an error: the store's; 0: not told */
	const json_t *node, *prev_node; /* NULL: none */
	const char *action;             /* "" when there is none */
};

/* What an answer means. ETCD_OK: *ret_answer has a node. Else words are in @err, and
 * *ret_answer tells whether the key is absent, which is ETCD_CONFLICT here and may be
 * something else to a caller. @body has a NUL behind its @len bytes; @user: of the request, "" for
 * none. */
enum etcd_status etcd_v2_read(int http_status, const char *body, size_t len, const char *user,
			      struct etcd_v2_answer *ret_answer, struct err *err);
void etcd_v2_answer_done(struct etcd_v2_answer *answer);

/* Of the answer to a GET, PUT or DELETE of one key: false and no kv when it is not below
 * @prefix. A directory in a key's place is told as a key with the value "". */
bool etcd_v2_kv(const char *prefix, const json_t *node, struct etcd_kv *ret_kv);
/* Seconds that the key has left; 0: it has no TTL. */
int64_t etcd_v2_ttl(const json_t *node);
/* Of the answer to a recursive GET of the prefix: the keys. Caller frees *ret_kvs. */
size_t etcd_v2_list(const char *prefix, const json_t *node, struct etcd_kv **ret_kvs);

enum etcd_v2_change {
	ETCD_V2_PUT,
	ETCD_V2_GONE,
	ETCD_V2_OTHER,   /* none of our keys */
	ETCD_V2_UNKNOWN, /* of a directory, with all below it: list again */
	ETCD_V2_CHANGE_COUNT,
};

/* Of the answer to a recursive wait on the prefix. *ret_index: the event's; *ret_kv is set
 * for PUT and GONE. -EPROTO: it is no event. */
int etcd_v2_event(const char *prefix, const struct etcd_v2_answer *answer,
		  enum etcd_v2_change *ret_change, int64_t *ret_index, struct etcd_kv *ret_kv,
		  struct err *err);
