/* SPDX-License-Identifier: Apache-2.0 */
/* false_etcd.h - an etcd in memory behind `struct etcd_api`, and a clock, for test_etcd.c
 *
 * The store's etcd_v3_new() and etcd_v2_new() are these: the linker takes them in place of
 * the library's. Calls wait until the test turns the loop; then each is carried out and
 * answered, or kept, lost or refused as the test says. Time only passes when a test says so.
 */
#pragma once

#include "base/mem.h"
#include "false_clock.h"
#include "io/loop.h"
#include "store/etcd_api.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* -- the data -------------------------------------------------------------------------- */

#define FALSE_KEYS   64
#define FALSE_EVENTS 4096
#define FALSE_LEASES 4096

struct false_kv {
	char key[128];
	char value[512];
	int64_t revision, created, lease; /* revision 0: not there */
};

struct false_event {
	bool gone;
	struct false_kv kv;
};

struct false_data {
	uint64_t cluster;
	int64_t revision, compacted;
	struct false_kv kv[FALSE_KEYS];
	struct false_event event[FALSE_EVENTS];
	size_t n_events;
	bool lease_alive[FALSE_LEASES];
	int64_t n_leases;
	size_t n_writes;
};

static inline struct false_kv *false_find(struct false_data *d, const char *key)
{
	for (size_t i = 0; i < FALSE_KEYS; i++)
		if (d->kv[i].revision && !strcmp(d->kv[i].key, key))
			return &d->kv[i];
	return NULL;
}

static inline void false_record(struct false_data *d, bool gone, const struct false_kv *kv)
{
	assert_true(d->n_events < FALSE_EVENTS);
	d->event[d->n_events].gone = gone;
	d->event[d->n_events++].kv = *kv;
}

static inline void false_put(struct false_data *d, const char *key, const char *value,
			     int64_t lease)
{
	struct false_kv *kv = false_find(d, key);

	d->revision++;
	for (size_t i = 0; !kv && i < FALSE_KEYS; i++)
		if (!d->kv[i].revision)
			kv = &d->kv[i];
	if (!kv)
		abort(); /* more keys than a test has use for */
	if (!kv->revision)
		kv->created = d->revision;
	(void)snprintf(kv->key, sizeof(kv->key), "%s", key);
	(void)snprintf(kv->value, sizeof(kv->value), "%s", value);
	kv->revision = d->revision;
	kv->lease = lease;
	false_record(d, false, kv);
}

static inline void false_delete(struct false_data *d, const char *key)
{
	struct false_kv *kv = false_find(d, key), gone;

	if (!kv)
		return;
	gone = *kv;
	kv->revision = 0;
	gone.revision = ++d->revision;
	gone.value[0] = '\0';
	false_record(d, true, &gone);
}

static inline void false_revoke(struct false_data *d, int64_t lease)
{
	d->lease_alive[lease] = false;
	for (size_t i = 0; i < FALSE_KEYS; i++)
		if (d->kv[i].revision && d->kv[i].lease == lease)
			false_delete(d, d->kv[i].key);
}

/* -- the api --------------------------------------------------------------------------- */

enum false_verb { LIST, GET, GRANT, CREATE, UPDATE, REMOVE, RENEW, COUNT, WATCH, VERB_COUNT };

struct false_call {
	bool waits;
	char key[128], value[512];
	int64_t lease, revision;
	etcd_kv_fn each;
	etcd_reply_fn done;
	void *userdata;
};

struct false_api {
	struct etcd_api api; /* first */
	struct false_data *data;
	struct false_call call[VERB_COUNT];
	struct etcd_watch_events events;
	size_t next_event; /* of the data, to be told */
	bool watching;
};

static struct {
	struct false_data v3, v2;
	struct false_api *api[2]; /* v3, v2; NULL: there is none now */
	bool hold[VERB_COUNT];    /* no answer */
	bool lose[VERB_COUNT];    /* carried out, but the answer is lost with the connection */
	enum etcd_status say[VERB_COUNT]; /* in place of an answer, unless ETCD_OK */
	bool hold_events, answers_first;
	size_t miscount;
	size_t n_calls[VERB_COUNT];
	size_t n_hang_ups;
} etcd;

static inline struct etcd_kv false_view(const struct false_kv *kv)
{
	return (struct etcd_kv){kv->key,      kv->value,   strlen(kv->value),
				kv->revision, kv->created, kv->lease};
}

static inline struct false_call *false_begin(struct etcd_api *api, enum false_verb verb,
					     etcd_reply_fn done, void *userdata)
{
	struct false_call *call = &((struct false_api *)api)->call[verb];

	assert_false(call->waits); /* one of each at a time */
	etcd.n_calls[verb]++;
	*call = (struct false_call){.waits = true, .done = done, .userdata = userdata};
	return call;
}

static inline void false_list(struct etcd_api *api, etcd_kv_fn each, etcd_reply_fn done,
			      void *userdata)
{
	false_begin(api, LIST, done, userdata)->each = each;
}

static inline void false_watch(struct etcd_api *api, int64_t from,
			       const struct etcd_watch_events *events)
{
	struct false_call *call = false_begin(api, WATCH, events->ended, events->userdata);

	call->revision = from;
	((struct false_api *)api)->events = *events;
}

static inline void false_get(struct etcd_api *api, const char *key, etcd_reply_fn done,
			     void *userdata)
{
	struct false_call *call = false_begin(api, GET, done, userdata);

	(void)snprintf(call->key, sizeof(call->key), "%s", key);
}

static inline void false_grant(struct etcd_api *api, int64_t ttl_s, etcd_reply_fn done,
			       void *userdata)
{
	assert_int_equal(ttl_s, 86400);
	(void)false_begin(api, GRANT, done, userdata);
}

static inline void false_write(struct etcd_api *api, enum false_verb verb, const char *key,
			       const char *value, int64_t lease, int64_t revision,
			       etcd_reply_fn done, void *userdata)
{
	struct false_call *call = false_begin(api, verb, done, userdata);

	(void)snprintf(call->key, sizeof(call->key), "%s", key);
	(void)snprintf(call->value, sizeof(call->value), "%s", value);
	call->lease = lease;
	call->revision = revision;
}

static inline void false_create(struct etcd_api *api, const char *key, const char *value,
				int64_t lease, etcd_reply_fn done, void *userdata)
{
	false_write(api, CREATE, key, value, lease, 0, done, userdata);
}

static inline void false_update(struct etcd_api *api, const char *key, const char *value,
				int64_t lease, int64_t revision, etcd_reply_fn done, void *userdata)
{
	false_write(api, UPDATE, key, value, lease, revision, done, userdata);
}

static inline void false_remove(struct etcd_api *api, const char *key, int64_t revision,
				etcd_reply_fn done, void *userdata)
{
	false_write(api, REMOVE, key, "", 0, revision, done, userdata);
}

static inline void false_renew(struct etcd_api *api, const struct etcd_kv *kv, etcd_reply_fn done,
			       void *userdata)
{
	false_begin(api, RENEW, done, userdata)->lease = kv->lease;
}

static inline void false_count(struct etcd_api *api, etcd_reply_fn done, void *userdata)
{
	(void)false_begin(api, COUNT, done, userdata);
}

static inline void false_hang_up(struct etcd_api *api)
{
	struct false_api *a = (struct false_api *)api;

	etcd.n_hang_ups++;
	memset(a->call, 0, sizeof(a->call));
	a->watching = false;
}

static inline void false_free(struct etcd_api *api)
{
	for (size_t i = 0; i < 2; i++)
		if (etcd.api[i] == (struct false_api *)api)
			etcd.api[i] = NULL;
	free(api);
}

static const struct etcd_api_ops false_ops[2] = {
	{"v3", true, false_list, false_watch, false_get, false_grant, false_create, false_update,
	 false_remove, false_renew, false_count, false_hang_up, false_free},
	{"v2", false, false_list, false_watch, false_get, false_grant, false_create, false_update,
	 false_remove, false_renew, NULL, false_hang_up, false_free},
};

static inline struct etcd_api *false_new(size_t i, struct loop *loop, struct etcd_link *link)
{
	struct false_api *a = mem_alloc(1, sizeof(*a));

	assert_null(etcd.api[i]);
	etcd.api[i] = a;
	a->api = (struct etcd_api){&false_ops[i], loop, link};
	a->data = i ? &etcd.v2 : &etcd.v3;
	return &a->api;
}

struct etcd_api *etcd_v3_new(struct loop *loop, struct etcd_link *link)
{
	return false_new(0, loop, link);
}

struct etcd_api *etcd_v2_new(struct loop *loop, struct etcd_link *link)
{
	return false_new(1, loop, link);
}

/* -- answers --------------------------------------------------------------------------- */

/* Writes as a transaction does. @value "": deletes. */
static inline enum etcd_status false_txn(struct false_data *d, enum false_verb verb,
					 const struct false_call *call, struct etcd_kv *ret_there,
					 bool *ret_is_there)
{
	struct false_kv *kv = false_find(d, call->key);

	*ret_is_there = kv && kv->revision != call->revision;
	if (*ret_is_there)
		*ret_there = false_view(kv);
	if ((kv ? kv->revision : 0) != call->revision)
		return ETCD_CONFLICT;
	if (call->lease && !d->lease_alive[call->lease])
		return ETCD_NO_LEASE;
	d->n_writes++;
	if (verb == REMOVE)
		false_delete(d, call->key);
	else
		false_put(d, call->key, call->value, call->lease);
	return ETCD_OK;
}

static inline size_t false_n_subnets(const struct false_data *d)
{
	size_t n = 0;

	for (size_t i = 0; i < FALSE_KEYS; i++)
		n += d->kv[i].revision && !strncmp(d->kv[i].key, ETCD_SUBNETS_DIR, 8);
	return n;
}

/* Carries the call out; `kv` is the room for reply->kv. */
static inline void false_carry_out(struct false_api *a, enum false_verb verb,
				   const struct false_call *call, struct etcd_reply *reply,
				   struct etcd_kv *kv)
{
	struct false_data *d = a->data;
	const struct false_kv *found;
	bool there = false;

	switch (verb) {
	case LIST:
		for (size_t i = 0; i < FALSE_KEYS; i++)
			if (d->kv[i].revision) {
				*kv = false_view(&d->kv[i]);
				call->each(kv, call->userdata);
			}
		break;
	case GET:
		found = false_find(d, call->key);
		there = found != NULL;
		if (there)
			*kv = false_view(found);
		break;
	case GRANT:
		reply->lease = ++d->n_leases;
		assert_true(reply->lease < FALSE_LEASES);
		reply->ttl_s = 86400;
		d->lease_alive[reply->lease] = true;
		break;
	case CREATE:
	case UPDATE:
	case REMOVE:
		reply->status = false_txn(d, verb, call, kv, &there);
		break;
	case RENEW:
		reply->status = d->lease_alive[call->lease] ? ETCD_OK : ETCD_NO_LEASE;
		reply->ttl_s = 86400;
		break;
	case COUNT:
		reply->count = false_n_subnets(d) + etcd.miscount;
		break;
	case WATCH:
	case VERB_COUNT:
		break;
	}
	reply->kv = there ? kv : NULL;
	reply->revision = d->revision;
	reply->cluster = d->cluster;
}

static inline void false_start_watch(struct false_api *a, const struct false_call *call)
{
	struct false_data *d = a->data;
	const struct etcd_reply reply = {.revision = d->revision, .cluster = d->cluster};

	a->watching = true;
	for (a->next_event = 0; a->next_event < d->n_events; a->next_event++)
		if (d->event[a->next_event].kv.revision >= call->revision)
			break;
	a->events.ready(&reply, a->events.userdata);
}

static inline void false_answer(struct false_api *a, enum false_verb verb)
{
	struct etcd_reply reply = {.status = etcd.say[verb], .why = "etcd says no"};
	struct false_call call = a->call[verb];
	struct etcd_kv kv;

	a->call[verb].waits = false;
	if (verb == WATCH && reply.status == ETCD_OK) {
		if (call.revision > a->data->compacted) {
			false_start_watch(a, &call);
			return;
		}
		reply.status = ETCD_COMPACTED;
	} else if (reply.status == ETCD_OK) {
		false_carry_out(a, verb, &call, &reply, &kv);
	}
	if (etcd.lose[verb])
		reply = (struct etcd_reply){.status = ETCD_AWAY, .why = "connection lost"};
	if (reply.status == ETCD_OK)
		reply.why = NULL;
	call.done(&reply, call.userdata);
}

/* The hang-up is seen by the count: @a may have been freed. */
static inline void false_tell_events(struct false_api *a)
{
	size_t hang_ups = etcd.n_hang_ups;
	int64_t upto = 0;

	while (!etcd.hold_events && a->watching && a->next_event < a->data->n_events) {
		const struct false_event event = a->data->event[a->next_event++];
		const struct etcd_kv kv = false_view(&event.kv);

		if (strcmp(kv.key, ETCD_CONFIG_KEY) != 0)
			upto = kv.revision + 1;
		(event.gone ? a->events.gone : a->events.put)(&kv, a->events.userdata);
		if (etcd.n_hang_ups != hang_ups)
			return;
	}
	if (upto)
		a->events.upto(upto, a->events.userdata);
}

/* Answers what waits; what an answer asks for waits for the next round. */
static inline void false_round(void)
{
	for (size_t i = 0; i < 2; i++) {
		bool waited[VERB_COUNT] = {false};

		if (!etcd.api[i])
			continue;
		if (!etcd.answers_first)
			false_tell_events(etcd.api[i]);
		for (size_t v = 0; v < VERB_COUNT && etcd.api[i]; v++)
			waited[v] = etcd.api[i]->call[v].waits;
		for (size_t v = 0; v < VERB_COUNT && etcd.api[i]; v++)
			if (waited[v] && etcd.api[i]->call[v].waits && !etcd.hold[v])
				false_answer(etcd.api[i], (enum false_verb)v);
		if (etcd.answers_first && etcd.api[i])
			false_tell_events(etcd.api[i]);
	}
}
