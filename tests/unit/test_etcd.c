/* SPDX-License-Identifier: Apache-2.0 */
/* test_etcd.c - the etcd store against an etcd in memory that does what the test says
 *
 * After each round of the loop it is checked that something will happen next: a call in
 * flight, a timer, or an event that is due.
 */
#include "false_etcd.h"
#include "messages.h"
#include "store/etcd_internal.h"

#include <event2/event.h>

#define DUAL "{\"Network\":\"10.5.0.0/16\",\"EnableIPv6\":true,\"IPv6Network\":\"fd00::/48\"}"
#define V4   "{\"Network\":\"10.5.0.0/16\"}"
#define TINY "{\"Network\":\"10.5.0.0/24\",\"SubnetLen\":26}" /* .64, .128, .192 */
#define RECORD(ip, vni)                                                                            \
	"{\"PublicIP\":\"" ip "\",\"PublicIPv6\":null,\"BackendType\":\"vxlan\","                  \
	"\"BackendData\":{\"VNI\":" vni "}}"
#define OURS    RECORD("192.0.2.1", "1")
#define OLD     RECORD("192.0.2.1", "9")
#define PEER(n) RECORD("192.0.2." #n, "1")
#define K(n)    "subnets/10.5." #n ".0-24"

struct fixture {
	struct loop *loop;
	struct peers *peers;
	struct store *store;
	struct etcd_settings settings;
	char own[128]; /* key below the prefix; "": none told */
	int n_own, n_synced, n_config, n_state, n_removed;
	char config[128], problem[ERR_TEXT_MAX];
	int64_t step_ms;
};

static struct fixture f;

/* -- the store's owner ----------------------------------------------------------------- */

static void on_changed(const char *key, const struct lease *before, const struct lease *after,
		       void *userdata)
{
	(void)key;
	(void)before;
	(void)userdata;
	f.n_removed += !after;
}

static void on_config(const char *text, size_t len, const char *place, void *userdata)
{
	(void)place;
	(void)userdata;
	assert_int_equal(text[len], '\0');
	f.n_config++;
	(void)snprintf(f.config, sizeof(f.config), "%s", text);
}

static void on_own(const struct lease *own, void *userdata)
{
	char key[LEASE_KEY_MAX];

	(void)userdata;
	f.n_own++;
	(void)snprintf(f.own, sizeof(f.own), ETCD_SUBNETS_DIR "%s",
		       lease_format_key(own->subnet, key));
}

static void on_synced(void *userdata)
{
	(void)userdata;
	f.n_synced++;
}

static void on_state(const char *problem, void *userdata)
{
	(void)userdata;
	f.n_state++;
	(void)snprintf(f.problem, sizeof(f.problem), "%s", problem ? problem : "");
}

/* -- rounds ---------------------------------------------------------------------------- */

static bool waits(struct event *timer)
{
	return event_pending(timer, EV_TIMEOUT, NULL);
}

/* Something will happen next. */
static void check_not_stuck(void)
{
	const struct etcd *e = (const struct etcd *)(void *)f.store;
	const struct false_api *api = (const struct false_api *)(void *)e->api;
	const struct etcd_own *own = &e->own;
	bool calls = false;

	if (e->live)
		assert_true(api->watching &&
			    waits(e->probe_timer) + api->call[COUNT].waits + api->call[GET].waits >
				    0);
	else
		assert_true(api->call[LIST].waits || waits(e->retry_timer) ||
			    waits(e->ready_timer));
	if (!own->wanted || !e->usable)
		return;
	for (int verb = GET; verb <= RENEW; verb++)
		calls = calls || api->call[verb].waits;
	if (own->calling)
		assert_true(calls);
	else if (own->seen == OWN_PENDING)
		assert_true(api->watching || api->call[WATCH].waits);
	else if (own->seen == OWN_UNKNOWN && e->getting)
		assert_true(api->call[GET].waits);
	else if (own->seen != OWN_PRESENT || own->record_lease || !own->told)
		assert_true(waits(own->timer));
}

static void turn(void)
{
	false_round();
	(void)event_base_loop(loop_base(f.loop), EVLOOP_NONBLOCK);
	check_not_stuck();
	false_now_ms += f.step_ms;
}

#include "wait.h"

static void pass_ms(int64_t ms)
{
	for (int64_t until = false_now_ms + ms; false_now_ms < until;)
		turn();
}

/* What hangs on the connection goes with it. */
static void break_connection(void)
{
	struct false_api *a = etcd.api[0];
	const struct etcd_reply reply = {.status = ETCD_AWAY, .why = "broken"};

	assert_true(a->watching);
	a->events.ended(&reply, a->events.userdata);
}

/* -- beginning and end ----------------------------------------------------------------- */

static void set_up_with(const char *config, enum etcd_api_choice choice, const char *endpoints)
{
	const struct store_events events = {on_config, on_own, on_synced, on_state, NULL, NULL};
	struct err err;

	memset(&f, 0, sizeof(f));
	memset(&etcd, 0, sizeof(etcd));
	etcd.v3.cluster = 1;
	etcd.v2.cluster = 2;
	etcd.v3.revision = etcd.v2.revision = 10;
	if (config)
		false_put(&etcd.v3, "config", config, 0);
	f.step_ms = 10;
	f.loop = loop_new();
	f.peers = peers_new(on_changed, NULL);
	f.settings = (struct etcd_settings){endpoints, "/p", {.ca = "", .cert = "", .key = ""},
					    "",        "",   ""};
	assert_int_equal(
		store_etcd_new(f.loop, &f.settings, choice, f.peers, &events, &f.store, &err), 0);
}

static void set_up(const char *config)
{
	set_up_with(config, ETCD_API_V3, "http://a");
}

static void begin(void)
{
	f.store->ops->start(f.store);
	WAIT_MS(5000, f.n_config);
}

static void tear_down(void)
{
	f.store->ops->free(f.store);
	assert_null(etcd.api[0]);
	assert_null(etcd.api[1]);
	peers_free(f.peers);
	loop_free(f.loop);
}

static void want_with(const char *config, const char *ip, const char *data, const char *preferred)
{
	struct lease attrs = {.public_ip[IP_V4] = messages_ip(ip), .backend_type = "vxlan"};
	struct ip_net subnet[IP_FAMILY_COUNT] = {0};
	struct netconf conf;
	struct store_request request = {
		.conf = &conf, .attrs = &attrs, .preferred = subnet, .renew_margin_min = 60};

	assert_int_equal(netconf_parse(config, strlen(config), "c", &conf, NULL), 0);
	assert_int_equal(netconf_check_ranges(&conf, NULL), 0);
	if (preferred)
		assert_int_equal(lease_parse_key(preferred, subnet, NULL), 0);
	attrs.backend_data[IP_V4] = mem_strdup(data);
	f.store->ops->acquire(f.store, &request);
	lease_done(&attrs);
	netconf_done(&conf);
}

static void want(const char *preferred)
{
	want_with(V4, "192.0.2.1", "{\"VNI\":1}", preferred);
}

/* Our record, as it is in etcd; revision 0: it is not. */
static const struct false_kv *our_record(void)
{
	static const struct false_kv none;
	const struct false_kv *kv = false_find(&etcd.v3, f.own);

	return kv ? kv : &none;
}

static bool is_settled(const char *value)
{
	const struct false_kv *kv = our_record();

	return kv->revision && !strcmp(kv->value, value) && kv->lease &&
	       etcd.v3.lease_alive[kv->lease];
}

/* Our record stands, and we keep it alive. */
static void acquire(const char *preferred)
{
	begin();
	want(preferred);
	WAIT_MS(5000, f.n_own == 1);
	assert_true(is_settled(OURS));
	pass_ms(1000);
}

/* -- acquiring ------------------------------------------------------------------------- */

static void test_acquire(void **state)
{
	(void)state;
	set_up(V4);
	false_put(&etcd.v3, K(7), PEER(7), 0);
	acquire("10.5.9.0-24");
	assert_string_equal(f.own, K(9));
	assert_int_equal(f.n_synced, 1);
	assert_int_equal(f.n_own, 1);
	assert_int_equal(peers_count(f.peers), 1);
	assert_string_equal(f.problem, "");
	assert_int_equal(etcd.n_calls[CREATE], 1);
	assert_int_equal(etcd.n_calls[GRANT], 1);
	/* All is quiet but for the probe and a renewal a day. */
	etcd.v3.n_writes = 0;
	f.step_ms = 1000;
	pass_ms(86400 * 1000);
	assert_int_equal(etcd.n_calls[RENEW], 1);
	assert_int_equal(etcd.v3.n_writes, 0);
	assert_int_equal(etcd.n_calls[LIST], 1);
	tear_down();
}

/* A record of ours from before: its lease is kept alive. */
static void test_found(void **state)
{
	(void)state;
	set_up(V4);
	etcd.v3.n_leases = 5;
	etcd.v3.lease_alive[5] = true;
	false_put(&etcd.v3, K(3), OLD, 5);
	acquire("10.5.9.0-24");
	assert_string_equal(f.own, K(3));
	assert_int_equal(etcd.n_calls[GRANT], 0);
	assert_int_equal(etcd.n_calls[RENEW], 1);
	assert_int_equal(our_record()->lease, 5);
	assert_int_equal(peers_count(f.peers), 0);
	tear_down();
}

static void test_reservation(void **state)
{
	(void)state;
	set_up(V4);
	false_put(&etcd.v3, K(3), OLD, 0);
	begin();
	want(NULL);
	WAIT_MS(5000, f.n_own);
	assert_string_equal(our_record()->value, OURS);
	f.step_ms = 1000;
	pass_ms(2 * 86400 * 1000);
	assert_int_equal(our_record()->lease, 0);
	assert_int_equal(etcd.n_calls[RENEW] + etcd.n_calls[GRANT], 0);
	tear_down();
}

static void test_race(void **state)
{
	(void)state;
	for (int first = 0; first < 2; first++) {
		set_up(V4);
		etcd.answers_first = first;
		begin();
		etcd.hold[CREATE] = etcd.hold_events = true;
		want("10.5.9.0-24");
		WAIT_MS(5000, etcd.n_calls[CREATE]);
		false_put(&etcd.v3, K(9), PEER(9), 0);
		etcd.hold[CREATE] = false;
		WAIT_MS(5000, etcd.n_calls[CREATE] == 2);
		etcd.hold_events = false;
		WAIT_MS(5000, f.n_own);
		assert_string_not_equal(f.own, K(9));
		assert_non_null(peers_find(f.peers, "10.5.9.0-24"));
		assert_string_equal(false_find(&etcd.v3, K(9))->value, PEER(9));
		tear_down();
	}
}

/* Every host but us is unreadable: no flood of tries. */
static void test_unreadable_everywhere(void **state)
{
	(void)state;
	set_up(TINY);
	false_put(&etcd.v3, "subnets/10.5.0.64-26", "garbage", 0);
	false_put(&etcd.v3, "subnets/10.5.0.128-26", "", 0);
	false_put(&etcd.v3, "subnets/10.5.0.192-26", "{}", 0);
	begin();
	want_with(TINY, "192.0.2.1", "{\"VNI\":1}", NULL);
	pass_ms(60000);
	assert_int_equal(f.n_own, 0);
	assert_in_range(etcd.n_calls[CREATE], 3, 1500);
	assert_true(*f.problem);
	assert_string_equal(false_find(&etcd.v3, "subnets/10.5.0.64-26")->value, "garbage");
	false_delete(&etcd.v3, "subnets/10.5.0.128-26");
	WAIT_MS(120000, f.n_own);
	assert_string_equal(f.own, "subnets/10.5.0.128-26");
	WAIT_MS(1000, !*f.problem);
	tear_down();
}

static void test_full(void **state)
{
	(void)state;
	set_up(TINY);
	false_put(&etcd.v3, "subnets/10.5.0.64-26", PEER(2), 0);
	false_put(&etcd.v3, "subnets/10.5.0.128-26", PEER(3), 0);
	false_put(&etcd.v3, "subnets/10.5.0.192-26", PEER(4), 0);
	begin();
	want_with(TINY, "192.0.2.1", "{\"VNI\":1}", NULL);
	pass_ms(20000);
	assert_non_null(strstr(f.problem, "no subnet is free in 10.5.0.0/24"));
	false_delete(&etcd.v3, "subnets/10.5.0.128-26");
	WAIT_MS(3000, f.n_own);
	assert_string_equal(f.problem, "");
	tear_down();
}

/* A record that overlaps ours was there a moment earlier: ours goes, also when the
 * connection is lost meanwhile. */
static void test_rival(void **state)
{
	static const char *const rival = "subnets/10.5.0.0-25";

	(void)state;
	for (int lost = 0; lost < 3; lost++) {
		set_up(TINY);
		begin();
		WAIT_MS(5000, etcd.api[0]->watching);
		etcd.hold_events = true;
		want_with(TINY, "192.0.2.1", "{\"VNI\":1}", "10.5.0.64-26");
		false_put(&etcd.v3, rival, PEER(9), 0);
		WAIT_MS(5000, false_find(&etcd.v3, "subnets/10.5.0.64-26"));
		etcd.say[REMOVE] = lost == 1 ? ETCD_AWAY : ETCD_OK;
		etcd.lose[REMOVE] = lost == 2;
		etcd.hold_events = false;
		WAIT_MS(5000, etcd.n_calls[REMOVE]);
		pass_ms(20);
		etcd.say[REMOVE] = ETCD_OK;
		etcd.lose[REMOVE] = false;
		WAIT_MS(10000, f.n_own);
		assert_string_not_equal(f.own, "subnets/10.5.0.64-26");
		assert_null(false_find(&etcd.v3, "subnets/10.5.0.64-26"));
		assert_int_equal(false_n_subnets(&etcd.v3), 2);
		tear_down();
	}
}

/* -- keeping --------------------------------------------------------------------------- */

static void test_deleted(void **state)
{
	(void)state;
	set_up(V4);
	acquire("10.5.9.0-24");
	false_delete(&etcd.v3, K(9));
	turn();
	WAIT_MS(300, is_settled(OURS)); /* before anybody has removed us */
	/* With its etcd lease. */
	false_revoke(&etcd.v3, our_record()->lease);
	turn();
	WAIT_MS(300, is_settled(OURS)); /* before anybody has removed us */
	assert_int_equal(f.n_own, 1);
	/* While we were away, with and without a list. */
	for (int listed = 0; listed < 2; listed++) {
		break_connection();
		false_delete(&etcd.v3, K(9));
		if (listed)
			etcd.v3.compacted = etcd.v3.revision;
		WAIT_MS(5000, is_settled(OURS));
		pass_ms(3000);
	}
	assert_int_equal(f.n_own, 1);
	tear_down();
}

static void test_stolen(void **state)
{
	(void)state;
	set_up(V4);
	acquire("10.5.9.0-24");
	false_put(&etcd.v3, K(9), PEER(9), 0);
	WAIT_MS(5000, f.n_own == 2);
	assert_string_not_equal(f.own, K(9));
	assert_true(is_settled(OURS));
	assert_string_equal(false_find(&etcd.v3, K(9))->value, PEER(9));
	assert_non_null(peers_find(f.peers, "10.5.9.0-24"));
	tear_down();
}

/* The next key that we try holds what we cannot read: it is not ours to overwrite. */
static void test_stolen_then_unreadable(void **state)
{
	(void)state;
	set_up(TINY);
	begin();
	want_with(TINY, "192.0.2.1", "{\"VNI\":1}", "10.5.0.64-26");
	WAIT_MS(5000, f.n_own);
	false_put(&etcd.v3, "subnets/10.5.0.128-26", "garbage", 0);
	false_put(&etcd.v3, "subnets/10.5.0.192-26", "garbage", 0);
	false_put(&etcd.v3, "subnets/10.5.0.64-26", PEER(9), 0);
	pass_ms(10000);
	assert_string_equal(false_find(&etcd.v3, "subnets/10.5.0.128-26")->value, "garbage");
	assert_string_equal(false_find(&etcd.v3, "subnets/10.5.0.192-26")->value, "garbage");
	assert_int_equal(f.n_own, 1);
	tear_down();
}

static void test_lease_lost(void **state)
{
	int64_t lease;

	(void)state;
	set_up(V4);
	acquire("10.5.9.0-24");
	lease = our_record()->lease;
	etcd.v3.lease_alive[lease] = false;
	f.step_ms = 1000;
	pass_ms((86400 - 3600 + 60) * 1000LL);
	assert_true(is_settled(OURS));
	assert_int_not_equal(our_record()->lease, lease);
	assert_int_equal(f.n_own, 1);
	assert_int_equal(etcd.n_calls[RENEW], 1);
	tear_down();
}

/* A renewal that is refused is a problem until it succeeds; it is tried less and less. */
static void test_renewal_refused(void **state)
{
	int n_state;

	(void)state;
	set_up(V4);
	acquire("10.5.9.0-24");
	etcd.say[RENEW] = ETCD_REFUSED;
	f.step_ms = 1000;
	pass_ms((86400 - 3600) * 1000LL);
	f.step_ms = 100;
	WAIT_MS(20000, *f.problem);
	assert_string_equal(f.problem, "etcd says no");
	n_state = f.n_state;
	etcd.n_calls[RENEW] = 0;
	pass_ms(600 * 1000);
	assert_int_equal(f.n_state, n_state);
	assert_in_range(etcd.n_calls[RENEW], 5, 40);
	etcd.say[RENEW] = ETCD_OK;
	WAIT_MS(120000, !*f.problem);
	tear_down();
}

static void test_refused(void **state)
{
	static const enum false_verb verbs[] = {GRANT, CREATE};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		set_up(V4);
		etcd.say[verbs[i]] = ETCD_REFUSED;
		begin();
		want(NULL);
		pass_ms(300 * 1000);
		assert_string_equal(f.problem, "etcd says no");
		assert_in_range(etcd.n_calls[verbs[i]], 5, 30);
		assert_int_equal(etcd.n_calls[LIST], 1);
		etcd.say[verbs[i]] = ETCD_OK;
		WAIT_MS(120000, f.n_own);
		WAIT_MS(1000, !*f.problem);
		tear_down();
	}
}

/* Another host writes its own idea of our record again and again. */
static void test_rewritten(void **state)
{
	size_t updates;

	(void)state;
	set_up(V4);
	acquire("10.5.9.0-24");
	f.step_ms = 100;
	for (int i = 0; i < 600; i++) {
		if (!strcmp(our_record()->value, OURS))
			false_put(&etcd.v3, K(9), OLD, our_record()->lease);
		pass_ms(1000);
	}
	updates = etcd.n_calls[UPDATE];
	assert_in_range(updates, 5, 25);
	WAIT_MS(120000, is_settled(OURS));
	/* After a quiet while, at once again; garbage and lost etcd leases, too. */
	pass_ms(300 * 1000);
	false_put(&etcd.v3, K(9), "garbage", our_record()->lease);
	WAIT_MS(300, is_settled(OURS));
	assert_int_equal(f.n_own, 1);
	tear_down();
}

/* What we want changes while a write of ours is on its way. */
static void test_changed_while_writing(void **state)
{
	(void)state;
	set_up(V4);
	acquire("10.5.9.0-24");
	etcd.hold[UPDATE] = true;
	want_with(V4, "192.0.2.101", "{\"VNI\":1}", NULL);
	turn();
	assert_int_equal(etcd.n_calls[UPDATE], 1);
	want_with(V4, "192.0.2.102", "{\"VNI\":1}", NULL);
	etcd.hold[UPDATE] = false;
	WAIT_MS(100, is_settled(PEER(102)));
	want_with(V4, "192.0.2.103", "{\"VNI\":1}", NULL);
	WAIT_MS(100, is_settled(PEER(103)));
	/* The answer is lost, the write is not. */
	etcd.lose[UPDATE] = true;
	want_with(V4, "192.0.2.104", "{\"VNI\":1}", NULL);
	turn();
	turn();
	etcd.lose[UPDATE] = false;
	want_with(V4, "192.0.2.105", "{\"VNI\":1}", NULL);
	WAIT_MS(2000, is_settled(PEER(105)));
	assert_int_equal(f.n_own, 1);
	assert_string_equal(f.own, K(9));
	tear_down();
}

/* -- the peers ------------------------------------------------------------------------- */

static void test_peers(void **state)
{
	(void)state;
	set_up(V4);
	false_put(&etcd.v3, K(2), PEER(2), 0);
	false_put(&etcd.v3, K(3), "garbage", 0);
	false_put(&etcd.v3, "subnets/nonsense", PEER(4), 0);
	acquire("10.5.9.0-24");
	assert_int_equal(peers_count(f.peers), 1);
	/* Unreadable is not gone. */
	false_put(&etcd.v3, K(2), "garbage", 0);
	pass_ms(5000);
	assert_int_equal(peers_count(f.peers), 1);
	/* Deleted and back at once: nobody loses a packet. */
	false_put(&etcd.v3, K(2), PEER(2), 0);
	false_delete(&etcd.v3, K(2));
	pass_ms(500);
	false_put(&etcd.v3, K(2), PEER(2), 0);
	pass_ms(5000);
	assert_int_equal(f.n_removed, 0);
	/* And when the connection was lost in between. */
	false_delete(&etcd.v3, K(2));
	pass_ms(500);
	etcd.hold[WATCH] = true;
	break_connection();
	false_put(&etcd.v3, K(2), PEER(2), 0);
	pass_ms(3000);
	etcd.hold[WATCH] = false;
	etcd.answers_first = false;
	pass_ms(5000);
	assert_int_equal(f.n_removed, 0);
	false_delete(&etcd.v3, K(2));
	WAIT_MS(1500, f.n_removed == 1);
	assert_int_equal(etcd.n_calls[LIST], 1);
	tear_down();
}

static void test_other_data(void **state)
{
	(void)state;
	set_up(V4);
	false_put(&etcd.v3, K(2), PEER(2), 0);
	false_put(&etcd.v3, K(3), PEER(3), 0);
	false_put(&etcd.v3, K(4), PEER(4), 0);
	acquire("10.5.9.0-24");
	break_connection();
	memset(&etcd.v3, 0, sizeof(etcd.v3));
	etcd.v3.cluster = 3;
	false_put(&etcd.v3, "config", V4, 0);
	false_put(&etcd.v3, K(2), PEER(2), 0);
	false_put(&etcd.v3, K(3), PEER(3), 0);
	WAIT_MS(5000, is_settled(OURS));
	assert_int_equal(peers_count(f.peers), 3);
	assert_string_equal(f.own, K(9));
	pass_ms(10000); /* another host may take so long to be back */
	assert_int_equal(peers_count(f.peers), 3);
	WAIT_MS(30000, peers_count(f.peers) == 2);
	assert_int_equal(f.n_own, 1);
	tear_down();
}

static void test_compacted(void **state)
{
	(void)state;
	set_up(V4);
	false_put(&etcd.v3, K(2), PEER(2), 0);
	false_put(&etcd.v3, K(3), PEER(3), 0);
	false_put(&etcd.v3, K(4), PEER(4), 0);
	acquire("10.5.9.0-24");
	break_connection();
	false_delete(&etcd.v3, K(3));
	false_put(&etcd.v3, K(5), PEER(5), 0);
	etcd.v3.compacted = etcd.v3.revision;
	WAIT_MS(5000, peers_find(f.peers, "10.5.5.0-24") && !peers_find(f.peers, "10.5.3.0-24"));
	assert_int_equal(etcd.n_calls[LIST], 2);
	assert_int_equal(f.n_own, 1);
	tear_down();
}

static void test_miscount(void **state)
{
	(void)state;
	set_up(V4);
	acquire("10.5.9.0-24");
	f.step_ms = 100;
	etcd.miscount = 1;
	WAIT_MS(100000, etcd.n_calls[LIST] == 2);
	assert_in_range(etcd.n_calls[COUNT], 2, 2);
	etcd.miscount = 0;
	pass_ms(600 * 1000);
	assert_int_equal(etcd.n_calls[LIST], 2);
	tear_down();
}

/* -- the connection -------------------------------------------------------------------- */

/* What has been told already is not told again after a reconnect. */
static void test_config(void **state)
{
	(void)state;
	set_up(V4);
	acquire("10.5.9.0-24");
	false_put(&etcd.v3, "config", TINY, 0);
	pass_ms(100);
	false_delete(&etcd.v3, "config");
	pass_ms(100);
	assert_non_null(strstr(f.problem, "keeping the last good network config"));
	false_put(&etcd.v3, "config", V4, 0);
	pass_ms(100);
	assert_int_equal(f.n_config, 3);
	f.n_state = 0;
	break_connection();
	pass_ms(5000);
	assert_int_equal(f.n_config, 3);
	assert_string_equal(f.problem, "");
	assert_in_range(f.n_state, 0, 2); /* the connection's own */
	/* Changed while we were away. */
	break_connection();
	false_put(&etcd.v3, "config", TINY, 0);
	WAIT_MS(5000, f.n_config == 4);
	assert_string_equal(f.config, TINY);
	tear_down();
}

/* A server that takes the watch and says nothing. */
static void test_silent_watch(void **state)
{
	(void)state;
	set_up(V4);
	etcd.hold[WATCH] = true;
	begin();
	want(NULL);
	f.step_ms = 100;
	pass_ms(60000);
	assert_in_range(etcd.n_calls[WATCH], 3, 6);
	assert_non_null(strstr(f.problem, "no watch within 15 s"));
	etcd.hold[WATCH] = false;
	WAIT_MS(20000, f.n_own);
	assert_string_equal(f.problem, "");
	tear_down();
}

/* Endpoints that list and watch well, but do no more, are not tried at full speed. */
static void test_no_hot_loop(void **state)
{
	(void)state;
	set_up_with(V4, ETCD_API_V3, "http://a,http://b,http://c");
	etcd.say[GRANT] = ETCD_AWAY;
	begin();
	want(NULL);
	f.step_ms = 1;
	pass_ms(60000);
	assert_in_range(etcd.n_calls[GRANT], 10, 400);
	/* None while an endpoint has just been found to list and watch. */
	WAIT_MS(1000, *f.problem);
	etcd.say[GRANT] = ETCD_OK;
	WAIT_MS(20000, f.n_own);
	pass_ms(10000);
	assert_string_equal(f.problem, "");
	tear_down();
}

static void test_v2(void **state)
{
	(void)state;
	set_up_with(NULL, ETCD_API_AUTO, "http://a");
	f.store->ops->start(f.store);
	pass_ms(30000);
	assert_non_null(strstr(f.problem, "/p/config does not exist, neither in v3 nor in v2"));
	false_put(&etcd.v2, "config", V4, 0);
	WAIT_MS(20000, f.n_config);
	assert_null(etcd.api[0]);
	want("10.5.9.0-24");
	WAIT_MS(5000, f.n_own);
	assert_non_null(false_find(&etcd.v2, K(9)));
	assert_string_equal(f.problem, "");
	tear_down();
}

/* -- anything -------------------------------------------------------------------------- */

static unsigned next_random(unsigned *seed, unsigned n)
{
	*seed = *seed * 1103515245 + 12345;
	return (*seed >> 16) % n;
}

static void do_something(unsigned *seed)
{
	static const char *const keys[] = {"subnets/10.5.0.64-26", "subnets/10.5.0.128-26",
					   "subnets/10.5.0.192-26", "subnets/10.5.0.0-25"};
	static const char *const values[] = {PEER(2), PEER(3), OURS, OLD, "garbage"};
	const char *key = keys[next_random(seed, 4)];
	unsigned verb = next_random(seed, VERB_COUNT);

	switch (next_random(seed, 14)) {
	case 0:
	case 1:
		false_put(&etcd.v3, key, values[next_random(seed, 5)], 0);
		break;
	case 2:
	case 3:
	case 4:
		false_delete(&etcd.v3, key);
		break;
	case 5:
		if (etcd.v3.n_leases)
			false_revoke(&etcd.v3, 1 + next_random(seed, (unsigned)etcd.v3.n_leases));
		break;
	case 6:
		if (etcd.api[0]->watching)
			break_connection();
		break;
	case 7:
		etcd.say[verb] = (enum etcd_status[]){ETCD_AWAY, ETCD_REFUSED,
						      ETCD_OK}[next_random(seed, 3)];
		break;
	case 8:
		etcd.hold[verb] = verb != LIST && next_random(seed, 2);
		break;
	case 9:
		etcd.lose[verb] = next_random(seed, 2);
		break;
	case 10:
		etcd.hold_events = next_random(seed, 2);
		break;
	case 11:
		etcd.v3.compacted = etcd.v3.revision;
		break;
	case 12:
		want_with(TINY, "192.0.2.1", next_random(seed, 2) ? "{\"VNI\":1}" : "{\"VNI\":2}",
			  NULL);
		break;
	default:
		etcd.answers_first = next_random(seed, 2);
		break;
	}
}

static void calm_down(void)
{
	memset(etcd.hold, 0, sizeof(etcd.hold));
	memset(etcd.lose, 0, sizeof(etcd.lose));
	memset(etcd.say, 0, sizeof(etcd.say));
	etcd.hold_events = false;
	for (size_t i = 0; i < FALSE_KEYS; i++)
		if (etcd.v3.kv[i].revision && !strcmp(etcd.v3.kv[i].value, "garbage"))
			false_delete(&etcd.v3, etcd.v3.kv[i].key);
	false_delete(&etcd.v3, "subnets/10.5.0.0-25");
	false_delete(&etcd.v3, "subnets/10.5.0.128-26");
	want_with(TINY, "192.0.2.1", "{\"VNI\":1}", NULL);
}

/* The record is ours as we want it, its etcd lease lives, and the table is etcd's. */
static bool is_whole(void)
{
	const struct false_kv *kv = our_record();
	size_t n = 0;

	if (!kv->revision || strcmp(kv->value, OURS) != 0 ||
	    (kv->lease && !etcd.v3.lease_alive[kv->lease]) || *f.problem)
		return false;
	for (size_t i = 0; i < FALSE_KEYS; i++) {
		const struct false_kv *other = &etcd.v3.kv[i];

		if (!other->revision || !strcmp(other->key, "config") || other == kv)
			continue;
		n++;
		if (!peers_find(f.peers, other->key + strlen(ETCD_SUBNETS_DIR)))
			return false;
	}
	return peers_count(f.peers) == n;
}

static void test_random_walk(void **state)
{
	(void)state;

	for (unsigned walk = 1; walk <= 300; walk++) {
		unsigned seed = walk;

		set_up(TINY);
		begin();
		want_with(TINY, "192.0.2.1", "{\"VNI\":1}", NULL);
		for (int i = 0; i < 60; i++) {
			do_something(&seed);
			f.step_ms = 1;
			pass_ms(next_random(&seed, 4));
			f.step_ms = 50;
			if (!next_random(&seed, 3))
				pass_ms(next_random(&seed, 3000));
		}
		calm_down();
		for (int i = 0; i < 4000 && !is_whole(); i++)
			turn();
		if (!is_whole())
			fail_msg("walk %u: own %s, problem %s, %zu peers", walk, f.own, f.problem,
				 peers_count(f.peers));
		tear_down();
	}
}

/* What comes while a keep-alive is on its way is not forgotten. */
static void test_news_while_renewing(void **state)
{
	for (int deleted = 0; deleted < 2; deleted++) {
		(void)state;
		set_up(V4);
		etcd.v3.n_leases = 5;
		etcd.v3.lease_alive[5] = true;
		false_put(&etcd.v3, K(3), OURS, 5);
		begin();
		etcd.hold[RENEW] = true;
		want("10.5.9.0-24");
		WAIT_MS(5000, etcd.n_calls[RENEW]);
		if (deleted)
			false_delete(&etcd.v3, K(3));
		else
			want_with(V4, "192.0.2.77", "{\"VNI\":1}", NULL);
		pass_ms(100);
		etcd.hold[RENEW] = false;
		WAIT_MS(2000, is_settled(deleted ? OURS : RECORD("192.0.2.77", "1")));
		tear_down();
	}
}

static void want_dual(void)
{
	struct lease attrs = {
		.public_ip =
			{[IP_V4] = messages_ip("192.0.2.1"), [IP_V6] = messages_ip("2001:db8::1")},
		.backend_type = "vxlan"};
	struct ip_net subnet[IP_FAMILY_COUNT] = {0};
	struct netconf conf;
	struct store_request request = {
		.conf = &conf, .attrs = &attrs, .preferred = subnet, .renew_margin_min = 60};

	assert_int_equal(netconf_parse(DUAL, strlen(DUAL), "c", &conf, NULL), 0);
	assert_int_equal(netconf_check_ranges(&conf, NULL), 0);
	assert_int_equal(lease_parse_key("10.5.9.0-24&fd00:0:0:9::-64", subnet, NULL), 0);
	f.store->ops->acquire(f.store, &request);
	lease_done(&attrs);
	netconf_done(&conf);
}

/* While ours was gone another host took the IPv4 half, under another key. */
static void test_half_taken(void **state)
{
	(void)state;
	set_up(DUAL);
	begin();
	want_dual();
	WAIT_MS(5000, f.n_own == 1);
	etcd.hold_events = true;
	false_put(&etcd.v3, "subnets/10.5.9.0-24&fd00:0:0:7::-64",
		  "{\"PublicIP\":\"192.0.2.7\",\"PublicIPv6\":\"2001:db8::7\","
		  "\"BackendType\":\"vxlan\"}",
		  0);
	false_delete(&etcd.v3, f.own);
	etcd.hold_events = false;
	WAIT_MS(5000, f.n_own == 2);
	tear_down();
}

/* A reservation comes before a lease, and is one again after all was lost. */
static void test_reservation_first_and_last(void **state)
{
	(void)state;
	set_up(V4);
	etcd.v3.n_leases = 5;
	etcd.v3.lease_alive[5] = true;
	false_put(&etcd.v3, K(3), OURS, 5);
	false_put(&etcd.v3, K(4), OURS, 0);
	begin();
	want("10.5.3.0-24");
	WAIT_MS(5000, f.n_own == 1);
	assert_string_equal(f.own, K(4));
	memset(&etcd.v3, 0, sizeof(etcd.v3));
	etcd.v3.cluster = 1;
	etcd.v3.revision = 2;
	break_connection();
	pass_ms(20000);
	assert_string_equal(our_record()->value, OURS);
	assert_int_equal(our_record()->lease, 0);
	tear_down();
}

/* A list that is due while a retry waits is the retry. */
static void test_one_retry(void **state)
{
	struct etcd *e;
	size_t watches;

	(void)state;
	set_up(V4);
	acquire(NULL);
	e = (struct etcd *)(void *)f.store;
	loop_timer_set(e->list_timer, 200);
	e->retry_ms = 3000;
	e->live_since_ms = false_now_ms;
	break_connection();
	watches = etcd.n_calls[WATCH];
	WAIT_MS(5000, e->live);
	pass_ms(4000);
	assert_int_equal(etcd.n_calls[WATCH] - watches, 1);
	tear_down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_news_while_renewing),
		cmocka_unit_test(test_half_taken),
		cmocka_unit_test(test_reservation_first_and_last),
		cmocka_unit_test(test_one_retry),
		cmocka_unit_test(test_acquire),
		cmocka_unit_test(test_found),
		cmocka_unit_test(test_reservation),
		cmocka_unit_test(test_race),
		cmocka_unit_test(test_unreadable_everywhere),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_rival),
		cmocka_unit_test(test_deleted),
		cmocka_unit_test(test_stolen),
		cmocka_unit_test(test_stolen_then_unreadable),
		cmocka_unit_test(test_lease_lost),
		cmocka_unit_test(test_renewal_refused),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_rewritten),
		cmocka_unit_test(test_changed_while_writing),
		cmocka_unit_test(test_peers),
		cmocka_unit_test(test_other_data),
		cmocka_unit_test(test_compacted),
		cmocka_unit_test(test_miscount),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_silent_watch),
		cmocka_unit_test(test_no_hot_loop),
		cmocka_unit_test(test_v2),
		cmocka_unit_test(test_random_walk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
