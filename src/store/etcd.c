/* SPDX-License-Identifier: Apache-2.0 */
/* etcd.c - the etcd store: connection, config, peers
 *
 * Theory of operation. A connection begins with a list (config and all records in one
 * call) or, when an earlier one got that far, without: then a watch from the list's
 * revision on, or from where the last watch ended, brings every change in order. What
 * is known of etcd is thus known as of revision `cursor` - 1, and stays when the
 * connection goes. A list is needed again only when the history has been compacted, or
 * when cluster id or revision say that the data is not that of before; then it is
 * suspect, and the peer table wants to see it twice (peers.h).
 *
 * Every failure ends in etcd_lost(): all calls are dropped, the next endpoint is tried,
 * and when each has failed, after a growing wait. A server that keeps silent is noticed
 * by the probe, which also counts the keys: when it counts otherwise twice, the watch has
 * missed something and everything is listed again.
 */
#include "store/etcd_internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>

#define RETRY_FIRST_MS   100
#define RETRY_MAX_MS     10000
#define RETRY_CAP_MS     800 /* the longest wait of a small network, plus this for every key: */
#define RETRY_PER_KEY_MS 2   /* what comes down on etcd when it is back stays the same */
#define RETRY_REFUSED_MS 5000
#define WORKED_MS        1000  /* a watch that stood for so long ends a round of tries */
#define STEADY_MS        5000  /* a watch that stood for so long has proved the endpoint */
#define READY_MS         15000 /* from asking for a watch, dialling included, to its answer */
#define PROBE_MS         30000
#define PROBE_PER_KEY_MS 10 /* counting costs etcd more with every key */
#define RECOUNT_MS       5000
/* From a doubtful list to the second one, at most: by then every host has tried again,
 * dialled and written its record. */
#define CONFIRM_MS 20000

static void connect_etcd(void *userdata);

static struct etcd *to_etcd(struct store *store)
{
	return (struct etcd *)store; /* first member */
}

static void hang_up(struct etcd *e)
{
	e->usable = e->live = e->getting = false;
	e->api->ops->hang_up(e->api);
	etcd_own_dropped(e);
}

/* ---- problems ---- */

void etcd_tell_problem(struct etcd *e)
{
	const char *problem = *e->link_problem     ? e->link_problem
			      : *e->config_problem ? e->config_problem
						   : e->own_problem;

	if (!strcmp(e->told, problem))
		return;
	(void)snprintf(e->told, sizeof(e->told), "%s", problem);
	e->store.events.state(*e->told ? e->told : NULL, e->store.events.userdata);
}

void etcd_tell_synced(struct etcd *e)
{
	if (e->synced)
		return;
	e->synced = true;
	e->store.events.synced(e->store.events.userdata);
}

/* ---- list ---- */

static const char *subnet_name(const struct etcd_kv *kv)
{
	size_t n = strlen(ETCD_SUBNETS_DIR);

	return strncmp(kv->key, ETCD_SUBNETS_DIR, n) ? NULL : kv->key + n;
}

static void forget_listed(struct etcd *e)
{
	free((char *)(uintptr_t)e->listed_config.value);
	e->listed_config = (struct etcd_kv){0};
}

static void on_listed_kv(const struct etcd_kv *kv, void *userdata)
{
	struct etcd *e = userdata;
	const char *name = subnet_name(kv);

	if (!strcmp(kv->key, ETCD_CONFIG_KEY)) {
		forget_listed(e);
		e->listed_config = *kv;
		e->listed_config.value = etcd_config_copy(kv);
		return;
	}
	e->n_keys++;
	if (!name)
		return;
	if (etcd_own_is_key(e, name)) {
		e->own_listed = true;
		etcd_own_listed(e, kv);
	} else {
		etcd_peers_take(e, name, kv);
	}
}

static void start_watch(struct etcd *e);

/* The list is complete. */
static void end_list(struct etcd *e, const struct etcd_reply *reply)
{
	bool other = e->listed && (reply->cluster != e->cluster || reply->revision < e->cursor - 1);
	size_t doubtful;

	if (other)
		log_warning("etcd's data is not that of before (another cluster, or restored)");
	if (*e->own.key && !e->own_listed)
		etcd_own_missing(e, reply->revision);
	/* Where our own record is missing, others will be back in a moment, too. */
	if (other || e->suspect || (e->own.told && !e->own_listed))
		peers_list_suspect(e->store.peers);
	doubtful = peers_list_end(e->store.peers);
	if (doubtful) {
		int64_t wait_ms = loop_jitter_ms(CONFIRM_MS);

		log_warning("%zu of %zu peers have vanished from etcd at once: keeping them until "
			    "a second look in %lld s",
			    doubtful, peers_count(e->store.peers), (long long)(wait_ms / 1000));
		loop_timer_set(e->list_timer, wait_ms);
	}
	vanished_forget(&e->vanished);
	e->cluster = reply->cluster;
	e->cursor = reply->revision + 1;
	e->listed = true;
	e->list_needed = e->suspect = false;
	e->usable = true;
}

static void on_listed(const struct etcd_reply *reply, void *userdata)
{
	struct etcd *e = userdata;

	if (reply->status != ETCD_OK) {
		etcd_lost(e, reply);
		return;
	}
	end_list(e, reply);
	start_watch(e);
	e->config_revision = reply->revision;
	if (e->listed_config.value)
		etcd_config_take(e, &e->listed_config);
	else
		etcd_config_lack(e);
	forget_listed(e);
	etcd_own_step(e);
}

static void start_list(struct etcd *e)
{
	e->n_keys = 0;
	e->own_listed = false;
	forget_listed(e);
	peers_list_begin(e->store.peers);
	e->api->ops->list(e->api, on_listed_kv, on_listed, e);
}

/* Drops the connection and lists everything, for a reason that is no failure. */
static void list_again(void *userdata)
{
	struct etcd *e = userdata;

	e->list_needed = true;
	connect_etcd(e);
}

void etcd_list_suspect(struct etcd *e)
{
	log_info("Our record in etcd is not the one of before: listing everything again");
	e->suspect = true;
	list_again(e);
}

/* ---- watch ---- */

static void on_config_read(const struct etcd_reply *reply, void *userdata)
{
	struct etcd *e = userdata;

	e->getting = false;
	if (reply->status != ETCD_OK) {
		etcd_lost(e, reply);
		return;
	}
	/* A member may lag behind with its watch, but not with an answer. */
	if (reply->revision < e->cursor - 1) {
		list_again(e);
		return;
	}
	if (reply->revision < e->config_revision) {
		etcd_own_step(e);
		return; /* the watch has told a newer one */
	}
	e->config_revision = reply->revision;
	if (reply->kv)
		etcd_config_take(e, reply->kv);
	else
		etcd_config_lack(e);
	etcd_own_step(e);
}

static void get_config(struct etcd *e, etcd_reply_fn done)
{
	e->getting = true;
	e->api->ops->get(e->api, ETCD_CONFIG_KEY, done, e);
}

static void arm_probe(struct etcd *e)
{
	loop_timer_set(e->probe_timer,
		       loop_jitter_ms(2 * (PROBE_MS + PROBE_PER_KEY_MS * (int64_t)e->n_keys)));
}

static void on_ready(const struct etcd_reply *reply, void *userdata)
{
	struct etcd *e = userdata;
	bool resumed = e->resumed;

	loop_timer_stop(e->ready_timer);
	if (resumed && reply->cluster != e->cluster) {
		list_again(e);
		return;
	}
	if (!e->said_connected)
		log_info("Connected to etcd %s (%s)", etcd_link_endpoint(&e->link)->text,
			 e->api->ops->name);
	e->usable = e->live = e->was_live = true;
	e->said_connected = true;
	e->live_since_ms = loop_now_ms();
	*e->link_problem = '\0';
	etcd_tell_problem(e);
	arm_probe(e);
	/* What is back comes in a moment. */
	vanished_resume(&e->vanished);
	/* The cursor is that of the records; the config may have changed in between. */
	if (resumed) {
		etcd_own_verify(e);
		get_config(e, on_config_read);
	} else if (!e->config) {
		etcd_config_lack(e);
	}
	etcd_own_step(e);
}

static void on_put(const struct etcd_kv *kv, void *userdata)
{
	struct etcd *e = userdata;
	const char *name = subnet_name(kv);

	if (!strcmp(kv->key, ETCD_CONFIG_KEY)) {
		if (kv->revision > e->config_revision)
			etcd_config_take(e, kv);
		return;
	}
	e->n_keys += kv->created == kv->revision;
	if (!name)
		return;
	if (etcd_own_is_key(e, name))
		etcd_own_put(e, kv);
	else
		etcd_peers_take(e, name, kv);
}

static void on_gone(const struct etcd_kv *kv, void *userdata)
{
	struct etcd *e = userdata;
	const char *name = subnet_name(kv);

	if (!strcmp(kv->key, ETCD_CONFIG_KEY)) {
		if (kv->revision <= e->config_revision)
			return;
		e->config_revision = kv->revision;
		etcd_config_lack(e);
		return;
	}
	e->n_keys -= e->n_keys > 0;
	if (!name)
		return;
	if (etcd_own_is_key(e, name))
		etcd_own_gone(e, kv->revision);
	else
		vanished_add(&e->vanished, name);
}

static void on_upto(int64_t next, void *userdata)
{
	struct etcd *e = userdata;

	if (next > e->cursor)
		e->cursor = next;
}

static void on_ended(const struct etcd_reply *reply, void *userdata)
{
	struct etcd *e = userdata;

	if (reply->status != ETCD_COMPACTED) {
		etcd_lost(e, reply);
		return;
	}
	log_info("etcd has compacted the history that was asked for: listing everything again");
	e->list_needed = true;
	hang_up(e);
	/* Every host hears of it at the same time. */
	loop_timer_set(e->retry_timer,
		       loop_jitter_ms(RETRY_FIRST_MS + RETRY_PER_KEY_MS * (int64_t)e->n_keys));
}

static void start_watch(struct etcd *e)
{
	const struct etcd_watch_events events = {on_ready, on_put, on_gone, on_upto, on_ended, e};

	/* A server may keep silent: a watch has no timeout of its own. */
	loop_timer_set(e->ready_timer, READY_MS);
	e->api->ops->watch(e->api, e->cursor, &events);
}

static void on_not_ready(void *userdata)
{
	struct etcd *e = userdata;
	char why[ENDPOINT_TEXT_MAX + 64];
	const struct etcd_reply reply = {.status = ETCD_AWAY, .why = why};

	(void)snprintf(why, sizeof(why), "etcd %s: no watch within %d s",
		       etcd_link_endpoint(&e->link)->text, READY_MS / 1000);
	etcd_lost(e, &reply);
}

/* ---- probe ---- */

static void on_counted(const struct etcd_reply *reply, void *userdata)
{
	struct etcd *e = userdata;

	e->getting = false;
	if (reply->status != ETCD_OK) {
		etcd_lost(e, reply);
		return;
	}
	etcd_own_step(e); /* it may have waited for us; and nothing is stuck for long */
	if (!e->api->ops->has_count || reply->count == e->n_keys) {
		e->miscounted = 0;
		arm_probe(e);
		return;
	}
	/* An event may be on its way. */
	if (!e->miscounted++) {
		loop_timer_set(e->probe_timer, RECOUNT_MS);
		return;
	}
	log_warning("etcd has %zu records, %zu were told by the watch: listing everything again",
		    reply->count, e->n_keys);
	e->miscounted = 0;
	list_again(e);
}

static void probe(void *userdata)
{
	struct etcd *e = userdata;

	if (!e->live)
		return;
	if (e->api->ops->has_count)
		e->api->ops->count(e->api, on_counted, e);
	else if (e->own.calling)
		arm_probe(e); /* that shows it as well */
	else
		get_config(e, on_counted);
}

/* ---- connection ---- */

static void connect_etcd(void *userdata)
{
	struct etcd *e = userdata;

	loop_timer_stop(e->retry_timer);
	hang_up(e);
	e->resumed = e->listed && !e->list_needed;
	loop_timer_stop(e->ready_timer);
	if (e->resumed) {
		start_watch(e); /* a second look that is due stays due */
	} else {
		loop_timer_stop(e->list_timer);
		start_list(e);
	}
}

/* One line for each endpoint that fails, until one works again. */
static void say_lost(struct etcd *e, const char *why)
{
	uint32_t bit = 1u << e->link.current;

	if (e->said_lost & bit)
		log_debug(1, "%s", why);
	else if (e->link.n_endpoints > 1 || e->was_live)
		log_info("%s%s", why, e->link.n_endpoints > 1 ? "; trying the next endpoint" : "");
	e->said_lost |= bit;
}

/* The same words at the end of each round: the problem is that of the same endpoint. */
static void set_link_problem(struct etcd *e, const char *why)
{
	(void)snprintf(e->link_problem, sizeof(e->link_problem), "%s%s%.380s",
		       e->listed ? "keeping what is known; " : "waiting for etcd; ",
		       e->link.n_endpoints > 1 ? "no endpoint works, the last is " : "", why);
}

static int64_t next_retry_ms(const struct etcd *e)
{
	size_t size = peers_count(e->store.peers);
	int64_t max_ms = size || e->listed ? RETRY_CAP_MS + RETRY_PER_KEY_MS * (int64_t)size
					   : RETRY_MAX_MS / 2;
	int64_t next_ms = e->retry_ms * 5 / 4;

	if (max_ms > RETRY_MAX_MS)
		max_ms = RETRY_MAX_MS;
	return next_ms < max_ms ? next_ms : max_ms;
}

void etcd_lost(struct etcd *e, const struct etcd_reply *reply)
{
	int64_t stood_ms = e->live ? loop_now_ms() - e->live_since_ms : 0;
	int64_t wait_ms = 0;

	/* Endpoints that work for a moment, again and again, are not news each time. */
	if (stood_ms >= STEADY_MS) {
		e->retry_ms = RETRY_FIRST_MS;
		e->said_lost = 0;
		e->said_connected = false;
	}
	say_lost(e, reply->why);
	e->was_live = false;
	loop_timer_stop(e->ready_timer);
	loop_timer_stop(e->probe_timer);
	/* One that takes a watch, but nothing more, has not worked. */
	if (stood_ms >= WORKED_MS)
		etcd_link_good(&e->link);
	if (etcd_link_next(&e->link)) {
		set_link_problem(e, reply->why);
		wait_ms = loop_jitter_ms(e->retry_ms);
		e->retry_ms = next_retry_ms(e);
		/* It will not say otherwise soon. */
		if (reply->status == ETCD_REFUSED && wait_ms < RETRY_REFUSED_MS)
			wait_ms = loop_jitter_ms(RETRY_REFUSED_MS);
	}
	hang_up(e);
	loop_timer_set(e->retry_timer, wait_ms);
	etcd_tell_problem(e);
}

/* ---- for the owner ---- */

static void etcd_describe(const struct store *store, char *buf, size_t size)
{
	const struct etcd *e = (const struct etcd *)(const void *)store;

	/* Other endpoints may be another cluster: its state on disk is not that of this one. */
	(void)snprintf(buf, size, "Etcd Local Manager - %s at %s", e->link.prefix,
		       e->link.settings->endpoints);
}

static void etcd_start(struct store *store)
{
	connect_etcd(to_etcd(store));
}

static bool etcd_find_own(struct store *store, const struct lease *attrs, struct lease *ret_own)
{
	return etcd_own_find(to_etcd(store), attrs, ret_own);
}

static void etcd_acquire(struct store *store, const struct store_request *request)
{
	etcd_own_want(to_etcd(store), request);
}

static void etcd_free(struct store *store)
{
	struct etcd *e = to_etcd(store);

	if (e->v2)
		e->v2->ops->free(e->v2);
	e->api->ops->free(e->api);
	loop_event_free(e->retry_timer);
	loop_event_free(e->ready_timer);
	loop_event_free(e->probe_timer);
	loop_event_free(e->list_timer);
	loop_event_free(e->v2_timer);
	senseless_done(&e->senseless);
	vanished_done(&e->vanished);
	etcd_own_done(e);
	free(e->config);
	forget_listed(e);
	free(e);
}

static const struct store_ops etcd_ops = {
	.name = "etcd",
	.describe = etcd_describe,
	.start = etcd_start,
	.find_own = etcd_find_own,
	.acquire = etcd_acquire,
	.free = etcd_free,
};

int store_etcd_new(struct loop *loop, const struct etcd_settings *settings,
		   enum etcd_api_choice choice, struct peers *peers,
		   const struct store_events *events, struct store **ret_store, struct err *err)
{
	struct etcd *e = mem_alloc(1, sizeof(*e));
	int code = etcd_link_init(&e->link, settings, err);

	if (code) {
		free(e);
		return code;
	}
	e->store =
		(struct store){.ops = &etcd_ops, .loop = loop, .events = *events, .peers = peers};
	e->chosen = choice != ETCD_API_AUTO;
	e->api = choice == ETCD_API_V2 ? etcd_v2_new(loop, &e->link) : etcd_v3_new(loop, &e->link);
	e->retry_ms = RETRY_FIRST_MS;
	e->retry_timer = loop_timer_new(loop, connect_etcd, e);
	e->ready_timer = loop_timer_new(loop, on_not_ready, e);
	e->probe_timer = loop_timer_new(loop, probe, e);
	e->list_timer = loop_timer_new(loop, list_again, e);
	e->v2_timer = loop_timer_new(loop, etcd_config_ask_v2, e);
	vanished_init(&e->vanished, loop, peers, etcd_peers_on_vanished, e);
	senseless_init(&e->senseless, loop, etcd_peers_tell_senseless, e);
	etcd_own_init(e);
	*ret_store = &e->store;
	return 0;
}
