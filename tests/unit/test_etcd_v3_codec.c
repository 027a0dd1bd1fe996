/* SPDX-License-Identifier: Apache-2.0 */
/* test_etcd_v3_codec.c - etcd's messages, against bytes put together by hand from the field
 * numbers of etcd's rpc.proto and kv.proto
 */
#include "store/etcd_v3_codec.h"

#include "base/mem.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define P "/coreos.com/network"

/* -- bytes by hand --------------------------------------------------------------------- */

struct bytes {
	uint8_t b[2048];
	size_t n;
};

static void put_varint(struct bytes *to, uint64_t value)
{
	for (; value > 0x7f; value >>= 7)
		to->b[to->n++] = (uint8_t)(value | 0x80);
	to->b[to->n++] = (uint8_t)value;
}

/* Zero is not written, as in proto3. */
static void put_int(struct bytes *to, unsigned field, int64_t value)
{
	if (!value)
		return;
	put_varint(to, field << 3);
	put_varint(to, (uint64_t)value);
}

static void put_data(struct bytes *to, unsigned field, const void *data, size_t len)
{
	put_varint(to, field << 3 | 2);
	put_varint(to, len);
	memcpy(to->b + to->n, data, len);
	to->n += len;
}

static void put_text(struct bytes *to, unsigned field, const char *text)
{
	put_data(to, field, text, strlen(text));
}

static void put_message(struct bytes *to, unsigned field, const struct bytes *message)
{
	put_data(to, field, message->b, message->n);
}

static void put_frame(struct bytes *to, const struct bytes *message)
{
	const uint8_t head[5] = {0, 0, 0, (uint8_t)(message->n >> 8), (uint8_t)message->n};

	memcpy(to->b + to->n, head, 5);
	memcpy(to->b + to->n + 5, message->b, message->n);
	to->n += 5 + message->n;
}

static void check_request(uint8_t *got, size_t len, const struct bytes *message)
{
	struct bytes want = {0};

	put_frame(&want, message);
	assert_int_equal(len, want.n);
	assert_memory_equal(got, want.b, len);
	free(got);
}

static struct bytes range_of(const char *key, const char *end)
{
	struct bytes range = {0};

	put_text(&range, 1, key);
	if (end)
		put_text(&range, 2, end);
	return range;
}

/* -- requests -------------------------------------------------------------------------- */

static void test_list(void **state)
{
	struct bytes config = range_of(P "/config", NULL);
	struct bytes subnets = range_of(P "/subnets/", P "/subnets0");
	struct bytes op = {0}, txn = {0};
	size_t len;
	uint8_t *got = etcd_v3_list(P, &len);

	(void)state;
	put_message(&op, 1, &config);
	put_message(&txn, 2, &op);
	op.n = 0;
	put_message(&op, 1, &subnets);
	put_message(&txn, 2, &op);
	check_request(got, len, &txn);
}

static void test_range(void **state)
{
	struct bytes range = range_of("/p/config", NULL);
	size_t len;
	uint8_t *got = etcd_v3_get("/p", "config", &len);

	(void)state;
	check_request(got, len, &range);
	range = range_of("/p/subnets/", "/p/subnets0");
	put_int(&range, 9, 1);
	got = etcd_v3_count("/p", &len);
	check_request(got, len, &range);
}

static void test_watch(void **state)
{
	struct bytes create = range_of(P "/config", NULL), request = {0}, want = {0};
	size_t len;
	uint8_t *got = etcd_v3_watch(P, 300, &len);

	(void)state;
	put_int(&create, 3, 300);
	put_int(&create, 8, 1);
	put_message(&request, 1, &create);
	put_frame(&want, &request);
	create = range_of(P "/subnets/", P "/subnets0");
	put_int(&create, 3, 300);
	put_int(&create, 4, 1); /* progress, so that the cursor moves in quiet times as well */
	put_int(&create, 8, 1);
	request.n = 0;
	put_message(&request, 1, &create);
	put_frame(&want, &request);
	assert_int_equal(len, want.n);
	assert_memory_equal(got, want.b, len);
	free(got);
}

static void test_leases(void **state)
{
	struct bytes want = {0};
	size_t len;
	uint8_t *got = etcd_v3_grant(86400, &len);

	(void)state;
	put_int(&want, 1, 86400);
	check_request(got, len, &want);
	want.n = 0;
	put_int(&want, 1, 9041998777038556427);
	got = etcd_v3_keep_alive(9041998777038556427, &len);
	check_request(got, len, &want);
	want.n = 0;
	put_int(&want, 1, -2); /* ten bytes */
	assert_int_equal(want.n, 11);
	got = etcd_v3_keep_alive(-2, &len);
	check_request(got, len, &want);
}

/* @value NULL: a deletion. */
static struct bytes write_of(const char *key, const char *value, int64_t lease, int64_t revision)
{
	struct bytes compare = {0}, put = {0}, op = {0}, txn = {0}, range = range_of(key, NULL);

	put_int(&compare, 2, 2);
	put_text(&compare, 3, key);
	/* A member of a oneof is written when it is 0, too. */
	put_varint(&compare, 6 << 3);
	put_varint(&compare, (uint64_t)revision);
	put_message(&txn, 1, &compare);
	put_text(&put, 1, key);
	if (value) {
		put_text(&put, 2, value);
		put_int(&put, 3, lease);
	}
	put_message(&op, value ? 2 : 3, &put);
	put_message(&txn, 2, &op);
	op.n = 0;
	put_message(&op, 1, &range);
	put_message(&txn, 3, &op);
	return txn;
}

static void test_write(void **state)
{
	const char *key = "subnets/10.5.52.0-24";
	struct bytes want = write_of("/p/subnets/10.5.52.0-24", "{}", 7, 0);
	size_t len;
	uint8_t *got = etcd_v3_write("/p", key, "{}", 7, 0, &len);

	(void)state;
	check_request(got, len, &want);
	want = write_of("/p/subnets/10.5.52.0-24", "{}", 0, 41);
	got = etcd_v3_write("/p", key, "{}", 0, 41, &len);
	check_request(got, len, &want);
	want = write_of("/p/subnets/10.5.52.0-24", NULL, 0, 41);
	got = etcd_v3_write("/p", key, NULL, 0, 41, &len);
	check_request(got, len, &want);
}

static void test_authenticate(void **state)
{
	struct bytes want = {0};
	size_t len;
	uint8_t *got = etcd_v3_authenticate("flannel", "f\"pw", &len);

	(void)state;
	put_text(&want, 1, "flannel");
	put_text(&want, 2, "f\"pw");
	check_request(got, len, &want);
}

/* -- answers --------------------------------------------------------------------------- */

struct told {
	size_t n_put, n_gone;
	struct etcd_kv last;
	char key[64], value[64];
};

static void remember(struct told *told, const struct etcd_kv *kv)
{
	told->last = *kv;
	assert_int_equal(kv->value[kv->len], '\0');
	(void)snprintf(told->key, sizeof(told->key), "%s", kv->key);
	(void)snprintf(told->value, sizeof(told->value), "%s", kv->value);
}

static void on_put(const struct etcd_kv *kv, void *userdata)
{
	struct told *told = userdata;

	told->n_put++;
	remember(told, kv);
}

static void on_gone(const struct etcd_kv *kv, void *userdata)
{
	struct told *told = userdata;

	told->n_gone++;
	remember(told, kv);
}

static struct bytes header_of(uint64_t cluster, int64_t revision)
{
	struct bytes header = {0};

	put_int(&header, 1, (int64_t)cluster);
	put_int(&header, 2, 77); /* member */
	put_int(&header, 3, revision);
	put_int(&header, 4, 5); /* term */
	return header;
}

static struct bytes kv_of(const void *key, size_t len, const char *value, size_t n_value)
{
	struct bytes kv = {0};

	put_data(&kv, 1, key, len);
	put_int(&kv, 2, 3);
	put_int(&kv, 3, 4);
	put_int(&kv, 4, 2);
	put_data(&kv, 5, value, n_value);
	put_int(&kv, 6, 9);
	put_text(&kv, 900, "of a later version of etcd");
	return kv;
}

static struct bytes text_kv(const char *key, const char *value)
{
	return kv_of(key, strlen(key), value, strlen(value));
}

static struct bytes range_answer(const struct bytes *kv, size_t n)
{
	struct bytes header = header_of(12101053776118486841U, 41), range = {0};

	put_message(&range, 1, &header);
	for (size_t i = 0; i < n; i++)
		put_message(&range, 2, &kv[i]);
	put_int(&range, 3, 1); /* more */
	put_int(&range, 4, (int64_t)n);
	return range;
}

/* In memory of exactly its length. */
static int decode_range(const struct bytes *m, size_t len, struct etcd_v3_header *header,
			size_t *count, struct told *told)
{
	_cleanup_free_ uint8_t *copy = malloc(len ? len : 1);

	memcpy(copy, m->b, len);
	return etcd_v3_decode_range(copy, len, P, header, count, on_put, told);
}

static void test_range_answer(void **state)
{
	struct bytes kv = text_kv(P "/config", "{\"Network\":\"10.5.0.0/16\"}");
	struct bytes range = range_answer(&kv, 1);
	struct etcd_v3_header header;
	struct told told = {0};
	size_t count;

	(void)state;
	assert_int_equal(decode_range(&range, range.n, &header, &count, &told), 0);
	assert_true(header.cluster == 12101053776118486841U);
	assert_int_equal(header.revision, 41);
	assert_int_equal(count, 1);
	assert_int_equal(told.n_put, 1);
	assert_string_equal(told.key, "config");
	assert_string_equal(told.value, "{\"Network\":\"10.5.0.0/16\"}");
	assert_int_equal(told.last.created, 3);
	assert_int_equal(told.last.revision, 4);
	assert_int_equal(told.last.lease, 9);

	/* Nothing at all is an answer: no header, no keys. */
	assert_int_equal(decode_range(&range, 0, &header, &count, &told), 0);
	assert_int_equal(header.revision, 0);
	assert_int_equal(count, 0);
	assert_int_equal(told.n_put, 1);
}

static void test_keys(void **state)
{
	static const struct {
		const char *key;
		size_t len;
		const char *relative;
	} rows[] = {
		{P "/config", sizeof(P "/config") - 1, "config"},
		{P "/subnets/10.5.1.0-24", sizeof(P "/subnets/10.5.1.0-24") - 1,
		 "subnets/10.5.1.0-24"},
		{P "/", sizeof(P "/") - 1, ""},
		{P, sizeof(P) - 1, ""},
		{"", 0, ""},
		{"/", 1, ""},
		{P "s/config", sizeof(P "s/config") - 1, ""},
		{"/coreos.com/other/config", 24, ""},
		{P "/con\0fig", sizeof(P "/con\0fig") - 1, ""},
		{P "/config\0", sizeof(P "/config\0") - 1, ""},
		{"/coreos.com\0network/config", 26, ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct bytes kv = kv_of(rows[i].key, rows[i].len, "a\0b", 3);
		struct bytes range = range_answer(&kv, 1);
		struct etcd_v3_header header;
		struct told told = {0};
		size_t count;

		assert_int_equal(decode_range(&range, range.n, &header, &count, &told), 0);
		assert_int_equal(told.n_put, 1);
		assert_string_equal(told.key, rows[i].relative);
		assert_int_equal(told.last.len, 3);
	}
}

static void test_txn_answer(void **state)
{
	struct bytes kv[2] = {text_kv(P "/config", "{}"), text_kv(P "/subnets/a", "")};
	struct bytes range, op = {0}, txn = {0}, header = header_of(1, 50), put = {0};
	struct etcd_v3_header got;
	struct told told = {0};
	bool succeeded;

	(void)state;
	put_message(&txn, 1, &header);
	put_int(&txn, 2, 1);
	for (size_t i = 0; i < 2; i++) {
		range = range_answer(&kv[i], 1);
		op.n = 0;
		put_message(&op, 1, &range);
		put_message(&txn, 3, &op);
	}
	op.n = 0; /* of a put: not ours to read */
	put_message(&put, 1, &header);
	put_message(&op, 2, &put);
	put_message(&txn, 3, &op);
	assert_int_equal(etcd_v3_decode_txn(txn.b, txn.n, P, &got, &succeeded, on_put, &told), 0);
	assert_true(succeeded);
	assert_int_equal(got.revision, 50);
	assert_int_equal(told.n_put, 2);
	assert_string_equal(told.key, "subnets/a");
	assert_string_equal(told.value, "");
	assert_int_equal(etcd_v3_decode_txn(NULL, 0, P, &got, &succeeded, on_put, &told), 0);
	assert_false(succeeded);
}

static void test_lease_answer(void **state)
{
	struct bytes header = header_of(1, 50), lease = {0};
	struct etcd_v3_header got;
	int64_t id, ttl_s;

	(void)state;
	put_message(&lease, 1, &header);
	put_int(&lease, 2, 9041998777038556427);
	put_int(&lease, 3, 3600);
	assert_int_equal(etcd_v3_decode_lease(lease.b, lease.n, &got, &id, &ttl_s), 0);
	assert_int_equal(id, 9041998777038556427);
	assert_int_equal(ttl_s, 3600);
	assert_int_equal(etcd_v3_decode_lease(lease.b, lease.n - 3, &got, &id, &ttl_s), 0);
	assert_int_equal(ttl_s, 0); /* gone */
}

static struct bytes event_of(int64_t type, const char *key, int64_t revision)
{
	struct bytes kv = {0}, event = {0};

	put_text(&kv, 1, key);
	put_int(&kv, 3, revision);
	put_int(&event, 1, type);
	put_message(&event, 2, &kv);
	return event;
}

static struct bytes watch_answer(void)
{
	struct bytes header = header_of(1, 99), watch = {0}, event, none = {0};

	put_message(&watch, 1, &header);
	put_int(&watch, 2, 1);
	event = event_of(0, P "/subnets/a", 60);
	put_message(&watch, 11, &event);
	event = event_of(1, P "/subnets/b", 61);
	put_message(&watch, 11, &event);
	event = event_of(0, P "/config", 62);
	put_message(&watch, 11, &event);
	put_message(&watch, 11, &none); /* an event without a key */
	return watch;
}

static void test_watch_answer(void **state)
{
	struct bytes watch = watch_answer(), header = header_of(1, 0), progress = header_of(1, 70);
	struct etcd_v3_watch_answer got;
	struct told told = {0};

	(void)state;
	assert_int_equal(etcd_v3_decode_watch(watch.b, watch.n, P, &got, on_put, on_gone, &told),
			 0);
	assert_int_equal(told.n_put, 2);
	assert_int_equal(told.n_gone, 1);
	assert_int_equal(got.last_subnet, 61);
	assert_int_equal(got.header.revision, 99);
	assert_false(got.created || got.canceled || got.fragment || got.compacted);
	assert_string_equal(got.reason, "");

	/* Progress: of the second watch alone. */
	for (int id = 0; id < 2; id++) {
		watch.n = 0;
		put_message(&watch, 1, &progress);
		put_int(&watch, 2, id);
		assert_int_equal(
			etcd_v3_decode_watch(watch.b, watch.n, P, &got, on_put, on_gone, &told), 0);
		assert_int_equal(got.last_subnet, id ? 70 : 0);
	}

	watch.n = 0;
	put_message(&watch, 1, &header);
	put_int(&watch, 3, 1);
	put_int(&watch, 4, 1);
	put_int(&watch, 5, 11);
	put_text(&watch, 6, "etcdserver: mvcc:\nrequired");
	put_int(&watch, 7, 1);
	assert_int_equal(etcd_v3_decode_watch(watch.b, watch.n, P, &got, on_put, on_gone, &told),
			 0);
	assert_true(got.created && got.canceled && got.fragment);
	assert_int_equal(got.compacted, 11);
	assert_string_equal(got.reason, "etcdserver: mvcc: required");
	assert_int_equal(got.last_subnet, 0);
}

static void test_token_answer(void **state)
{
	struct bytes header = header_of(1, 5), token = {0};
	char *text = NULL;

	(void)state;
	put_message(&token, 1, &header);
	put_text(&token, 2, "VTIBMZhcqzxbKntG.46");
	assert_int_equal(etcd_v3_decode_token(token.b, token.n, &text), 0);
	assert_string_equal(text, "VTIBMZhcqzxbKntG.46");
	free(text);
	assert_int_equal(etcd_v3_decode_token(NULL, 0, &text), 0);
	assert_string_equal(text, "");
	free(text);
}

/* Every decoder with every beginning of a message, and with each byte turned. */
static void maul(const struct bytes *message)
{
	for (size_t len = 0; len <= message->n; len++)
		for (unsigned turn = 0; turn < 9; turn++) {
			_cleanup_free_ uint8_t *copy = malloc(len ? len : 1);
			struct etcd_v3_watch_answer answer;
			struct etcd_v3_header header;
			struct told told = {0};
			int64_t id, ttl_s;
			bool succeeded;
			char *token;
			size_t count;
			int codes[5];

			memcpy(copy, message->b, len);
			if (len && turn)
				copy[len - 1] ^= (uint8_t)(1 << (turn - 1));
			codes[0] = etcd_v3_decode_txn(copy, len, P, &header, &succeeded, on_put,
						      &told);
			codes[1] =
				etcd_v3_decode_range(copy, len, P, &header, &count, on_put, &told);
			codes[2] = etcd_v3_decode_lease(copy, len, &header, &id, &ttl_s);
			codes[3] =
				etcd_v3_decode_watch(copy, len, P, &answer, on_put, on_gone, &told);
			codes[4] = etcd_v3_decode_token(copy, len, &token);
			if (!codes[4])
				free(token);
			for (size_t i = 0; i < ARRAY_SIZE(codes); i++)
				assert_true(codes[i] == 0 || codes[i] == -EBADMSG);
		}
}

static void test_mauled(void **state)
{
	struct bytes kv[2] = {text_kv(P "/config", "{}"), text_kv(P "/subnets/a", "x")};
	struct bytes range = range_answer(kv, 2), op = {0}, txn = {0}, watch = watch_answer();
	struct bytes header = header_of(1, 2);

	(void)state;
	put_message(&txn, 1, &header);
	put_message(&op, 1, &range);
	put_message(&txn, 3, &op);
	maul(&range);
	maul(&txn);
	maul(&watch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_list),         cmocka_unit_test(test_range),
		cmocka_unit_test(test_watch),        cmocka_unit_test(test_leases),
		cmocka_unit_test(test_write),        cmocka_unit_test(test_authenticate),
		cmocka_unit_test(test_range_answer), cmocka_unit_test(test_keys),
		cmocka_unit_test(test_txn_answer),   cmocka_unit_test(test_lease_answer),
		cmocka_unit_test(test_watch_answer), cmocka_unit_test(test_token_answer),
		cmocka_unit_test(test_mauled),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
