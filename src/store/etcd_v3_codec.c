/* SPDX-License-Identifier: Apache-2.0 */
/* etcd_v3_codec.c - etcd's v3 messages: requests to bytes, bytes to answers
 *
 * protobuf-c unpacks a message into many small pieces. They come out of an arena here,
 * a few large blocks that go back to the kernel as a whole: the first list of a large
 * network leaves no holes behind. Every piece has a NUL behind it, so that keys and
 * values are C strings.
 */
#include "store/etcd_v3_codec.h"

#include "base/log.h"
#include "base/mem.h"
#include "io/grpc.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What protoc-c writes casts `const` away, in macros that are used below. */
#pragma GCC diagnostic ignored "-Wcast-qual"
#include <etcd_v3.pb-c.h>

#define ARENA_SMALL 2048
#define ARENA_ALIGN 16

struct arena_block {
	struct arena_block *next;
	size_t used, size;
	char data[] __attribute__((aligned(ARENA_ALIGN)));
};

struct arena {
	ProtobufCAllocator allocator; /* hands itself to arena_alloc() */
	struct arena_block *blocks;
	size_t next_size;
};

static void *arena_alloc(void *data, size_t size)
{
	struct arena *arena = data;
	struct arena_block *block = arena->blocks;
	size_t need = (size + 1 + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
	void *piece;

	if (!block || block->size - block->used < need) {
		size_t room = need > arena->next_size ? need : arena->next_size;

		block = mem_alloc(1, sizeof(*block) + room);
		block->size = room;
		block->next = arena->blocks;
		arena->blocks = block;
	}
	piece = block->data + block->used;
	block->used += need;
	return piece;
}

static void arena_free(void *data, void *piece)
{
	(void)data;
	(void)piece;
}

/* For the pieces of a message of @len bytes. */
static void arena_init(struct arena *arena, size_t len)
{
	*arena = (struct arena){
		.allocator = {arena_alloc, arena_free, arena},
		.next_size = len < ARENA_SMALL / 4 ? ARENA_SMALL : 4 * len,
	};
}

static void arena_done(struct arena *arena)
{
	struct arena_block *block, *next;

	for (block = arena->blocks; block; block = next) {
		next = block->next;
		free(block);
	}
}

#define _cleanup_arena_ _cleanup_(arena_done)

/* ---- requests ---- */

static uint8_t *pack(const ProtobufCMessage *message, uint8_t *before, size_t n_before,
		     size_t *ret_len)
{
	size_t len = protobuf_c_message_get_packed_size(message);
	uint8_t *body = mem_realloc(before, n_before + 5 + len, 1);

	grpc_frame(body + n_before, len);
	(void)protobuf_c_message_pack(message, body + n_before + 5);
	*ret_len = n_before + 5 + len;
	return body;
}

/* prefix/key; freed by the caller through `data`. */
static ProtobufCBinaryData full_key(const char *prefix, const char *key)
{
	char *text;
	int len = asprintf(&text, "%s/%s", prefix, key);

	if (len < 0)
		abort();
	return (ProtobufCBinaryData){.len = (size_t)len, .data = (uint8_t *)text};
}

/* The end of the range of all keys that begin with subnets/: '0' comes after '/'. */
static ProtobufCBinaryData subnets_end(const char *prefix)
{
	ProtobufCBinaryData end = full_key(prefix, ETCD_SUBNETS_DIR);

	end.data[end.len - 1]++;
	return end;
}

uint8_t *etcd_v3_list(const char *prefix, size_t *ret_len)
{
	Etcd__RangeRequest config = ETCD__RANGE_REQUEST__INIT, subnets = ETCD__RANGE_REQUEST__INIT;
	Etcd__RequestOp op[2] = {ETCD__REQUEST_OP__INIT, ETCD__REQUEST_OP__INIT};
	Etcd__RequestOp *ops[] = {&op[0], &op[1]};
	Etcd__TxnRequest txn = ETCD__TXN_REQUEST__INIT;
	uint8_t *body;

	config.key = full_key(prefix, ETCD_CONFIG_KEY);
	subnets.key = full_key(prefix, ETCD_SUBNETS_DIR);
	subnets.range_end = subnets_end(prefix);
	op[0].request_case = op[1].request_case = ETCD__REQUEST_OP__REQUEST_RANGE;
	op[0].range = &config;
	op[1].range = &subnets;
	txn.n_success = ARRAY_SIZE(ops);
	txn.success = ops;
	body = pack(&txn.base, NULL, 0, ret_len);
	free(config.key.data);
	free(subnets.key.data);
	free(subnets.range_end.data);
	return body;
}

static uint8_t *add_watch(Etcd__WatchCreateRequest *create, int64_t from, uint8_t *before,
			  size_t n_before, size_t *ret_len)
{
	Etcd__WatchRequest request = ETCD__WATCH_REQUEST__INIT;
	uint8_t *body;

	create->start_revision = from;
	create->fragment = 1;
	request.request_case = ETCD__WATCH_REQUEST__REQUEST_CREATE;
	request.create = create;
	body = pack(&request.base, before, n_before, ret_len);
	free(create->key.data);
	free(create->range_end.data);
	return body;
}

uint8_t *etcd_v3_watch(const char *prefix, int64_t from, size_t *ret_len)
{
	Etcd__WatchCreateRequest config = ETCD__WATCH_CREATE_REQUEST__INIT;
	Etcd__WatchCreateRequest subnets = ETCD__WATCH_CREATE_REQUEST__INIT;
	uint8_t *body;

	config.key = full_key(prefix, ETCD_CONFIG_KEY);
	body = add_watch(&config, from, NULL, 0, ret_len);
	subnets.key = full_key(prefix, ETCD_SUBNETS_DIR);
	subnets.range_end = subnets_end(prefix);
	subnets.progress_notify = 1;
	return add_watch(&subnets, from, body, *ret_len, ret_len);
}

uint8_t *etcd_v3_get(const char *prefix, const char *key, size_t *ret_len)
{
	Etcd__RangeRequest range = ETCD__RANGE_REQUEST__INIT;
	uint8_t *body;

	range.key = full_key(prefix, key);
	body = pack(&range.base, NULL, 0, ret_len);
	free(range.key.data);
	return body;
}

uint8_t *etcd_v3_count(const char *prefix, size_t *ret_len)
{
	Etcd__RangeRequest range = ETCD__RANGE_REQUEST__INIT;
	uint8_t *body;

	range.key = full_key(prefix, ETCD_SUBNETS_DIR);
	range.range_end = subnets_end(prefix);
	range.count_only = 1;
	body = pack(&range.base, NULL, 0, ret_len);
	free(range.key.data);
	free(range.range_end.data);
	return body;
}

uint8_t *etcd_v3_grant(int64_t ttl_s, size_t *ret_len)
{
	Etcd__LeaseGrantRequest grant = ETCD__LEASE_GRANT_REQUEST__INIT;

	grant.ttl = ttl_s;
	return pack(&grant.base, NULL, 0, ret_len);
}

uint8_t *etcd_v3_keep_alive(int64_t lease, size_t *ret_len)
{
	Etcd__LeaseKeepAliveRequest alive = ETCD__LEASE_KEEP_ALIVE_REQUEST__INIT;

	alive.id = lease;
	return pack(&alive.base, NULL, 0, ret_len);
}

uint8_t *etcd_v3_write(const char *prefix, const char *key, const char *value, int64_t lease,
		       int64_t revision, size_t *ret_len)
{
	ProtobufCBinaryData name = full_key(prefix, key);
	Etcd__Compare compare = ETCD__COMPARE__INIT, *compares[] = {&compare};
	Etcd__RequestOp write = ETCD__REQUEST_OP__INIT, *success[] = {&write};
	Etcd__RequestOp read = ETCD__REQUEST_OP__INIT, *failure[] = {&read};
	Etcd__PutRequest put = ETCD__PUT_REQUEST__INIT;
	Etcd__DeleteRangeRequest delete = ETCD__DELETE_RANGE_REQUEST__INIT;
	Etcd__RangeRequest range = ETCD__RANGE_REQUEST__INIT;
	Etcd__TxnRequest txn = ETCD__TXN_REQUEST__INIT;
	_cleanup_free_ char *text = value ? mem_strdup(value) : NULL;
	uint8_t *body;

	/* A key that is absent has the mod_revision 0. */
	compare.target = ETCD__COMPARE__TARGET__MOD;
	compare.what_case = ETCD__COMPARE__WHAT_MOD_REVISION;
	compare.mod_revision = revision;
	compare.key = put.key = delete.key = range.key = name;
	if (text) {
		put.value = (ProtobufCBinaryData){.len = strlen(text), .data = (uint8_t *)text};
		put.lease = lease;
		write.request_case = ETCD__REQUEST_OP__REQUEST_PUT;
		write.put = &put;
	} else {
		write.request_case = ETCD__REQUEST_OP__REQUEST_DELETE_RANGE;
		write.delete_range = &delete;
	}
	read.request_case = ETCD__REQUEST_OP__REQUEST_RANGE;
	read.range = &range;
	txn.n_compare = txn.n_success = txn.n_failure = 1;
	txn.compare = compares;
	txn.success = success;
	txn.failure = failure;
	body = pack(&txn.base, NULL, 0, ret_len);
	free(name.data);
	return body;
}

uint8_t *etcd_v3_authenticate(const char *user, const char *password, size_t *ret_len)
{
	Etcd__AuthenticateRequest request = ETCD__AUTHENTICATE_REQUEST__INIT;
	_cleanup_free_ char *name = mem_strdup(user);
	char *secret = mem_strdup(password);
	uint8_t *body;

	request.name = name;
	request.password = secret;
	body = pack(&request.base, NULL, 0, ret_len);
	mem_free_secret(secret);
	return body;
}

/* ---- answers ---- */

static struct etcd_v3_header header_of(const Etcd__Header *header)
{
	return header ? (struct etcd_v3_header){header->revision, header->cluster_id}
		      : (struct etcd_v3_header){0};
}

/* The key below @prefix, or "" for one that is not there or no text. */
static const char *relative_key(const ProtobufCBinaryData *key, const char *prefix)
{
	size_t len = strlen(prefix);
	const char *text = (const char *)key->data;

	if (key->len <= len + 1 || memchr(text, '\0', key->len) ||
	    strncmp(text, prefix, len) != 0 || text[len] != '/')
		return "";
	return text + len + 1;
}

static struct etcd_kv make_kv(const Etcd__KeyValue *kv, const char *prefix)
{
	return (struct etcd_kv){
		.key = relative_key(&kv->key, prefix),
		.value = kv->value.len ? (const char *)kv->value.data : "",
		.len = kv->value.len,
		.revision = kv->mod_revision,
		.created = kv->create_revision,
		.lease = kv->lease,
	};
}

static void tell_range(const Etcd__RangeResponse *range, const char *prefix, etcd_kv_fn each,
		       void *userdata)
{
	for (size_t i = 0; i < range->n_kvs; i++) {
		struct etcd_kv kv = make_kv(range->kvs[i], prefix);

		each(&kv, userdata);
	}
}

int etcd_v3_decode_txn(const uint8_t *message, size_t len, const char *prefix,
		       struct etcd_v3_header *ret_header, bool *ret_succeeded, etcd_kv_fn each,
		       void *userdata)
{
	_cleanup_arena_ struct arena arena;
	const Etcd__TxnResponse *txn;

	arena_init(&arena, len);
	txn = etcd__txn_response__unpack(&arena.allocator, len, message);
	if (!txn)
		return -EBADMSG;
	*ret_header = header_of(txn->header);
	*ret_succeeded = txn->succeeded;
	for (size_t i = 0; i < txn->n_responses; i++)
		if (txn->responses[i]->response_case == ETCD__RESPONSE_OP__RESPONSE_RANGE)
			tell_range(txn->responses[i]->range, prefix, each, userdata);
	return 0;
}

int etcd_v3_decode_range(const uint8_t *message, size_t len, const char *prefix,
			 struct etcd_v3_header *ret_header, size_t *ret_count, etcd_kv_fn each,
			 void *userdata)
{
	_cleanup_arena_ struct arena arena;
	const Etcd__RangeResponse *range;

	arena_init(&arena, len);
	range = etcd__range_response__unpack(&arena.allocator, len, message);
	if (!range)
		return -EBADMSG;
	*ret_header = header_of(range->header);
	*ret_count = range->count > 0 ? (size_t)range->count : 0;
	tell_range(range, prefix, each, userdata);
	return 0;
}

int etcd_v3_decode_lease(const uint8_t *message, size_t len, struct etcd_v3_header *ret_header,
			 int64_t *ret_lease, int64_t *ret_ttl_s)
{
	_cleanup_arena_ struct arena arena;
	const Etcd__LeaseGrantResponse *lease;

	arena_init(&arena, len);
	lease = etcd__lease_grant_response__unpack(&arena.allocator, len, message);
	if (!lease)
		return -EBADMSG;
	*ret_header = header_of(lease->header);
	*ret_lease = lease->id;
	*ret_ttl_s = lease->ttl;
	return 0;
}

int etcd_v3_decode_watch(const uint8_t *message, size_t len, const char *prefix,
			 struct etcd_v3_watch_answer *ret_answer, etcd_kv_fn put, etcd_kv_fn gone,
			 void *userdata)
{
	_cleanup_arena_ struct arena arena;
	const Etcd__WatchResponse *watch;

	arena_init(&arena, len);
	watch = etcd__watch_response__unpack(&arena.allocator, len, message);
	if (!watch)
		return -EBADMSG;
	*ret_answer = (struct etcd_v3_watch_answer){
		.header = header_of(watch->header),
		.created = watch->created,
		.canceled = watch->canceled,
		.fragment = watch->fragment,
		.compacted = watch->compact_revision,
	};
	/* The second watch of the stream: told when all before has been. */
	if (watch->watch_id == 1 && !watch->n_events && !watch->created && !watch->canceled)
		ret_answer->last_subnet = ret_answer->header.revision;
	(void)snprintf(ret_answer->reason, sizeof(ret_answer->reason), "%s", watch->cancel_reason);
	log_clean(ret_answer->reason);
	for (size_t i = 0; i < watch->n_events; i++) {
		const Etcd__Event *event = watch->events[i];
		struct etcd_kv kv;

		if (!event->kv)
			continue;
		kv = make_kv(event->kv, prefix);
		if (strcmp(kv.key, ETCD_CONFIG_KEY) != 0 && kv.revision > ret_answer->last_subnet)
			ret_answer->last_subnet = kv.revision;
		(event->type == ETCD__EVENT__TYPE__DELETE ? gone : put)(&kv, userdata);
	}
	return 0;
}

int etcd_v3_decode_token(const uint8_t *message, size_t len, char **ret_token)
{
	_cleanup_arena_ struct arena arena;
	const Etcd__AuthenticateResponse *answer;

	arena_init(&arena, len);
	answer = etcd__authenticate_response__unpack(&arena.allocator, len, message);
	if (!answer)
		return -EBADMSG;
	*ret_token = mem_strdup(answer->token);
	return 0;
}
