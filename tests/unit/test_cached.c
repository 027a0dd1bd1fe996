/* SPDX-License-Identifier: Apache-2.0 */
/* test_cached.c - a store that comes, goes and lies, and the state file that stands in for it
 *
 * The inner store is played by the test: its events are called by hand, what it is asked is
 * noted.
 */
#include "store/cached.h"

#include "base/file.h"
#include "base/mem.h"
#include "messages.h"
#include "store/claim.h"
#include "store/state.h"
#include "wait.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIG       "{\"Network\":\"10.5.0.0/16\"}"
#define CONFIG_OTHER "{\"Network\":\"10.5.0.0/16\",\"Backend\":{\"Type\":\"host-gw\"}}"
#define PLACE        "etcd key /coreos.com/network/config"
#define STORE        "etcd /coreos.com/network"
#define SAVED        "2026-02-20T14:31:23Z"
#define USING        "; using the stale state of " SAVED
#define NO_SYNC      "no answer from the datastore" USING
#define PEER(n)                                                                                    \
	"peer 10.5." #n ".0-24 {\"PublicIP\":\"192.0.2." #n "\",\"BackendType\":\"host-gw\"}\n"
#define HEAD(store, config)                                                                        \
	"weft-state 1\nstore " store "\nsaved " SAVED "\nconfig \"" PLACE "\" \"" config "\"\n"
#define CONFIG_LINE "{\\\"Network\\\":\\\"10.5.0.0/16\\\"}"
#define OWN                                                                                        \
	"own 10.5.1.0-24 {\"PublicIP\":\"192.0.2.1\",\"BackendType\":\"host-gw\","                 \
	"\"BackendData\":\"mine\"}\n"
#define WHOLE HEAD(STORE, CONFIG_LINE) OWN PEER(2) PEER(3) PEER(4) PEER(5) "end 4\n"

/* ---- the inner store ---- */

static struct inner {
	struct store store; /* first */
	size_t n_starts, n_acquires, n_ups, n_frees;
	struct claim claim;
	const char *find; /* public IP whose record it has; NULL: none */
	const char *start_problem;
} inner;

static void inner_describe(const struct store *store, char *buf, size_t size)
{
	(void)store;
	(void)snprintf(buf, size, "%s", STORE);
}

static void inner_start(struct store *store)
{
	inner.n_starts++;
	if (inner.start_problem)
		store->events.state(inner.start_problem, store->events.userdata);
}

static bool inner_find_own(struct store *store, const struct lease *attrs, struct lease *ret_own)
{
	struct lease own = {.public_ip = {[IP_V4] = messages_ip(inner.find)}};

	(void)store;
	if (!inner.find || !lease_same_public_ip(attrs, &own))
		return false;
	own.backend_data[IP_V4] = mem_strdup("\"live\"");
	*ret_own = own;
	return true;
}

static void inner_acquire(struct store *store, const struct store_request *request)
{
	(void)store;
	inner.n_acquires++;
	claim_set(&inner.claim, request);
}

static void inner_free(struct store *store)
{
	(void)store;
	inner.n_frees++;
	claim_done(&inner.claim);
}

static void inner_up(struct store *store)
{
	(void)store;
	inner.n_ups++;
}

static const struct store_ops inner_ops = {
	"inner", inner_describe, inner_start, inner_find_own, inner_acquire, inner_up, inner_free};

static struct store *inner_new(struct loop *loop, struct peers *peers,
			       const struct store_events *events, void *arg)
{
	if (arg) {
		++*(size_t *)arg;
		return NULL;
	}
	inner.store =
		(struct store){.ops = &inner_ops, .loop = loop, .events = *events, .peers = peers};
	return &inner.store;
}

static void inner_config(const char *text)
{
	inner.store.events.config(text, strlen(text), PLACE, inner.store.events.userdata);
}

static void inner_own(const char *key)
{
	struct lease own = lease_copy(&inner.claim.attrs);

	assert_int_equal(lease_parse_key(key, own.subnet, NULL), 0);
	inner.store.events.own(&own, inner.store.events.userdata);
	lease_done(&own);
}

static void inner_synced(void)
{
	inner.store.events.synced(inner.store.events.userdata);
}

static void inner_public_ip(const char *text)
{
	struct ip public_ip[IP_FAMILY_COUNT] = {0};

	if (text)
		public_ip[IP_V4] = messages_ip(text);
	inner.store.events.public_ip(public_ip, inner.store.events.userdata);
}

static void inner_state(const char *problem)
{
	inner.store.events.state(problem, inner.store.events.userdata);
}

static void put_peer(struct peers *peers, unsigned number)
{
	struct lease lease = {.backend_type = "host-gw"};
	char text[LEASE_KEY_MAX];

	(void)snprintf(text, sizeof(text), "192.0.2.%u", number);
	lease.public_ip[IP_V4] = messages_ip(text);
	(void)snprintf(text, sizeof(text), "10.5.%u.0-24", number);
	assert_int_equal(lease_parse_key(text, lease.subnet, NULL), 0);
	peers_put(peers, text, &lease);
}

/* ---- the owner ---- */

static struct loop *loop;
static struct event *tick;
static char dir[64], path[128];

static struct owner {
	struct store *store;
	struct peers *peers;
	struct lease attrs;
	struct ip_net preferred[IP_FAMILY_COUNT];
	const char *refuses; /* a config that it does not ask a lease under; "": any */
	char told[1024];     /* since the last look */
} owner;

#define WAIT(condition) WAIT_MS(20000, condition)

static void on_tick(void *userdata)
{
	(void)userdata;
}

static void turn(void)
{
	loop_timer_set_sooner(tick, 20);
	assert_int_not_equal(event_base_loop(loop_base(loop), EVLOOP_ONCE), -1);
}

static void run_for(int64_t ms)
{
	int64_t until = loop_now_ms() + ms;

	while (loop_now_ms() < until)
		turn();
}

/* A path inside the test's directory, valid until the fourth next call. */
static const char *in_dir(const char *name)
{
	static char paths[4][128];
	static unsigned n;
	char *in = paths[n++ % ARRAY_SIZE(paths)];

	(void)snprintf(in, sizeof(paths[0]), "%s/%s", dir, name);
	return in;
}

static void tell(const char *what, const char *text)
{
	size_t n = strlen(owner.told);

	(void)snprintf(owner.told + n, sizeof(owner.told) - n, "%s%s %s", n ? "\n" : "", what,
		       text);
}

/* What the owner was told since the last look is @want. */
static void told_one(const char *want)
{
	assert_string_equal(owner.told, want);
	*owner.told = '\0';
}

static void acquire(const char *text)
{
	struct netconf conf;
	struct err err;
	struct store_request request = {.conf = &conf,
					.attrs = &owner.attrs,
					.preferred = owner.preferred,
					.renew_margin_min = 60};

	if (netconf_parse(text, strlen(text), "config", &conf, &err) ||
	    netconf_check_ranges(&conf, &err))
		fail_msg("%s", err.text);
	owner.store->ops->acquire(owner.store, &request);
	netconf_done(&conf);
}

static void on_config(const char *text, size_t len, const char *place, void *userdata)
{
	(void)userdata;
	assert_int_equal(strlen(text), len);
	if (strcmp(place, PLACE) != 0)
		assert_string_equal(place, in_dir("store/config"));
	tell("config", text);
	if (!owner.refuses || (*owner.refuses && strcmp(text, owner.refuses) != 0))
		acquire(text);
}

static void on_own(const struct lease *own, void *userdata)
{
	char key[LEASE_KEY_MAX];

	(void)userdata;
	assert_true(lease_same_public_ip(own, &owner.attrs));
	tell("own", lease_format_key(own->subnet, key));
}

static void on_synced(void *userdata)
{
	char count[32];

	(void)userdata;
	(void)snprintf(count, sizeof(count), "%zu", peers_count(owner.peers));
	tell("synced", count);
	owner.store->ops->up(owner.store);
}

static void on_state(const char *problem, void *userdata)
{
	(void)userdata;
	tell("state", problem ?: "fine");
}

static void on_public_ip(const struct ip public_ip[IP_FAMILY_COUNT], void *userdata)
{
	char text[IP_STRLEN];

	(void)userdata;
	tell("public_ip",
	     ip_is_set(&public_ip[IP_V4]) ? ip_format(&public_ip[IP_V4], text) : "none");
}

static void on_changed(const char *key, const struct lease *before, const struct lease *after,
		       void *userdata)
{
	(void)key;
	(void)before;
	(void)after;
	(void)userdata;
}

static void make(store_new_fn new_inner, void *arg)
{
	const struct store_events events = {on_config, on_own,       on_synced,
					    on_state,  on_public_ip, NULL};

	owner.attrs.public_ip[IP_V4] = messages_ip("192.0.2.1");
	(void)snprintf(owner.attrs.backend_type, sizeof(owner.attrs.backend_type), "host-gw");
	owner.peers = peers_new(on_changed, NULL);
	owner.store = store_cached_new(loop, path, owner.peers, &events, new_inner, arg);
	assert_non_null(owner.store);
}

static void start(void)
{
	make(inner_new, NULL);
	owner.store->ops->start(owner.store);
	assert_int_equal(inner.n_starts, 1);
}

static void stop(void)
{
	if (owner.store) {
		owner.store->ops->free(owner.store);
		assert_int_equal(inner.n_frees, 1);
	}
	peers_free(owner.peers);
	lease_done(&owner.attrs);
	owner = (struct owner){0};
	inner = (struct inner){0};
}

static int setup(void **state)
{
	(void)state;
	loop = loop_new();
	tick = loop_timer_new(loop, on_tick, NULL);
	(void)snprintf(dir, sizeof(dir), "/tmp/weft-cached-XXXXXX");
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s", in_dir("below/state"));
	return 0;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	stop();
	loop_event_free(tick);
	loop_free(loop);
	(void)snprintf(command, sizeof(command), "rm -r '%s'", dir);
	return system(command); /* NOLINT(cert-env33-c): our own directory */
}

/* ---- the file ---- */

static void put(const char *to, const char *text)
{
	struct err err;

	if (file_write_atomic(to, text, 0600, &err))
		fail_msg("%s", err.text);
}

static void put_file(const char *text)
{
	put(path, text);
}

static bool has_file(void)
{
	return !access(path, F_OK);
}

/* The file has this config, subnet and number of peers. */
static void check_file(const char *config, const char *own, size_t n_peers)
{
	char key[LEASE_KEY_MAX];
	struct state state;
	FILE *stream;
	struct err err;

	if (state_open(path, &stream, &state, &err))
		fail_msg("%s", err.text);
	assert_string_equal(state.store, STORE);
	assert_string_equal(state.config, config);
	assert_string_equal(state.place, PLACE);
	assert_string_equal(lease_format_key(state.own.subnet, key), own);
	assert_true(lease_same_public_ip(&state.own, &owner.attrs));
	assert_int_equal(state.n_peers, n_peers);
	state_done(&state);
	(void)fclose(stream);
}

/* ---- without a file ---- */

/* All events pass; with the first complete state the file appears. */
static void test_first_start(void **state)
{
	char description[64];
	int64_t synced_ms;

	(void)state;
	start();
	owner.store->ops->describe(owner.store, description, sizeof(description));
	assert_string_equal(description, STORE);
	run_for(600);
	told_one("");
	inner_state("no such key");
	WAIT(*owner.told);
	told_one("state no such key");
	inner_state("another");
	told_one("state another");
	inner_state(NULL);
	inner_state(NULL);
	told_one("state fine");
	inner_config(CONFIG);
	told_one("config " CONFIG);
	assert_int_equal(inner.n_acquires, 1);
	assert_int_equal(inner.claim.renew_margin_s, 3600);
	assert_false(ip_net_is_set(&inner.claim.preferred[IP_V4]));
	inner_own("10.5.1.0-24");
	put_peer(owner.peers, 2);
	inner_synced();
	synced_ms = loop_now_ms();
	told_one("own 10.5.1.0-24\nsynced 1");
	put_peer(owner.peers, 3);
	assert_false(has_file());
	WAIT(has_file());
	assert_true(loop_now_ms() - synced_ms < 1000);
	check_file(CONFIG, "10.5.1.0-24", 2);

	/* The peers that came just behind our subnet do not wait for long. */
	put_peer(owner.peers, 4);
	assert_int_equal(unlink(path), 0);
	WAIT(has_file());
	assert_true(loop_now_ms() - synced_ms < 5000);
	check_file(CONFIG, "10.5.1.0-24", 3);

	/* Soon after the last time it is not saved again, but at the end. */
	put_peer(owner.peers, 6);
	run_for(2500);
	check_file(CONFIG, "10.5.1.0-24", 3);
	inner_config(CONFIG_OTHER);
	assert_int_equal(inner.n_acquires, 2);
	inner_state("away");
	told_one("config " CONFIG_OTHER "\nstate away");
	assert_int_equal(inner.n_ups, 1);
	owner.store->ops->free(owner.store);
	owner.store = NULL;
	check_file(CONFIG_OTHER, "10.5.1.0-24", 4);
	/* The observer has gone with it. */
	put_peer(owner.peers, 5);
}

/* A start with the one before would take what is somebody else's by now. */
static void test_another_subnet_is_saved_at_once(void **state)
{
	(void)state;
	start();
	inner_config(CONFIG);
	inner_own("10.5.1.0-24");
	inner_synced();
	WAIT(has_file());
	inner_own("10.5.2.0-24");
	assert_int_equal(unlink(path), 0);
	run_for(500);
	check_file(CONFIG, "10.5.2.0-24", 0);
	/* Renewed: it is the same, and waits for its turn. */
	inner_own("10.5.2.0-24");
	assert_int_equal(unlink(path), 0);
	run_for(1000);
	assert_false(has_file());
}

static void test_not_saved_before_synced(void **state)
{
	(void)state;
	start();
	inner_config(CONFIG);
	inner_own("10.5.1.0-24");
	put_peer(owner.peers, 2);
	stop();
	assert_false(has_file());
}

/* A config that the owner has refused is not the last good one. */
static void test_refused_is_not_saved(void **state)
{
	(void)state;
	owner.refuses = "{}";
	start();
	inner_config(CONFIG);
	inner_own("10.5.1.0-24");
	inner_synced();
	inner_config("{}");
	acquire(CONFIG); /* the NIC's address has changed */
	owner.store->ops->free(owner.store);
	owner.store = NULL;
	check_file(CONFIG, "10.5.1.0-24", 0);
}

static void test_save_fails(void **state)
{
	(void)state;
	(void)snprintf(path, sizeof(path), "%s", in_dir("file/state"));
	start();
	inner_config(CONFIG);
	inner_own("10.5.1.0-24");
	inner_synced();
	put(in_dir("file"), "");
	run_for(2200);
	assert_int_equal(unlink(in_dir("file")), 0);
	owner.store->ops->free(owner.store);
	owner.store = NULL;
	check_file(CONFIG, "10.5.1.0-24", 0);
}

/* ---- with a file ---- */

/* The file is there, but not needed. */
static void test_in_touch(void **state)
{
	(void)state;
	put_file(WHOLE);
	start();
	inner_config(CONFIG_OTHER);
	told_one("config " CONFIG_OTHER);
	assert_int_equal(inner.n_acquires, 1);
	/* Its subnet is a wish: the owner has none. */
	assert_true(ip_net_is_set(&inner.claim.preferred[IP_V4]));
	run_for(600);
	inner_state("slow");
	told_one("state slow");
	inner_own("10.5.7.0-24");
	inner_synced();
	told_one("own 10.5.7.0-24\nsynced 0");
}

static void test_owner_prefers(void **state)
{
	struct ip_net wish = messages_net("10.5.9.0/24");

	(void)state;
	put_file(WHOLE);
	owner.preferred[IP_V4] = wish;
	start();
	inner_config(CONFIG);
	assert_true(ip_net_equal(&inner.claim.preferred[IP_V4], &wish));
	/* What it has comes first. */
	inner_own("10.5.8.0-24");
	acquire(CONFIG);
	assert_int_equal(inner.n_acquires, 2);
	assert_int_equal(inner.claim.preferred[IP_V4].ip.b[2], 8);
}

static void use_file(void)
{
	put_file(WHOLE);
	start();
	told_one("");
	WAIT(strstr(owner.told, "synced"));
	told_one("config " CONFIG "\nstate " NO_SYNC "\nown 10.5.1.0-24\nsynced 4");
	assert_int_equal(inner.n_acquires, 0);
}

/* Silence; then it is back, and says the same. */
static void test_silent_then_same(void **state)
{
	int64_t begin = loop_now_ms();
	struct lease own;

	(void)state;
	use_file();
	assert_true(loop_now_ms() - begin >= 450);
	assert_true(owner.store->ops->find_own(owner.store, &owner.attrs, &own));
	assert_string_equal(own.backend_data[IP_V4], "\"mine\"");
	lease_done(&own);

	/* Another address meanwhile: nothing to do yet. */
	owner.attrs.public_ip[IP_V4] = messages_ip("192.0.2.99");
	acquire(CONFIG);
	run_for(50);
	told_one("");
	assert_int_equal(inner.n_acquires, 0);
	inner_state("refused");
	told_one("state refused" USING);

	inner_config(CONFIG);
	told_one("");
	assert_int_equal(inner.n_acquires, 1);
	assert_true(lease_same_public_ip(&inner.claim.attrs, &owner.attrs));
	assert_int_equal(inner.claim.preferred[IP_V4].ip.b[2], 1);
	inner_state(NULL);
	told_one("");
	inner_own("10.5.1.0-24");
	/* The list lacks three of four: it is doubted. */
	peers_list_begin(owner.peers);
	put_peer(owner.peers, 2);
	assert_int_equal(peers_list_end(owner.peers), 3);
	inner_synced();
	told_one("state fine");
	assert_int_equal(peers_count(owner.peers), 4);
	assert_false(owner.store->ops->find_own(owner.store, &owner.attrs, &own));
	owner.store->ops->free(owner.store);
	owner.store = NULL;
	check_file(CONFIG, "10.5.1.0-24", 4);
}

/* A problem right at the start: at once, and told with it. */
static void test_problem(void **state)
{
	int64_t begin = loop_now_ms();

	(void)state;
	put_file(WHOLE);
	inner.start_problem = "connection refused";
	start();
	told_one("");
	WAIT(strstr(owner.told, "synced"));
	assert_true(loop_now_ms() - begin < 400);
	told_one("config " CONFIG "\nstate connection refused" USING "\nown 10.5.1.0-24\nsynced 4");
	inner_state("connection refused");
	told_one("");
	inner_config(CONFIG);
	inner_state(NULL);
	inner_own("10.5.6.0-24"); /* ours was taken */
	inner_synced();
	told_one("own 10.5.6.0-24\nstate fine");
	inner_synced();
	inner_state("away again");
	told_one("state away again");
}

static void test_other_config(void **state)
{
	(void)state;
	use_file();
	inner_config(CONFIG_OTHER);
	told_one("config " CONFIG_OTHER);
	assert_int_equal(inner.n_acquires, 1);
	inner_config(CONFIG);
	told_one("config " CONFIG);
	assert_int_equal(inner.n_acquires, 2);
}

/* The lease is kept although the owner does not like the new config. */
static void test_refused_config(void **state)
{
	(void)state;
	use_file();
	owner.refuses = "{}";
	inner_config("{}");
	told_one("config {}");
	assert_int_equal(inner.n_acquires, 1);
	assert_int_equal(inner.claim.conf.range[IP_V4].network.len, 16);
	inner_own("10.5.1.0-24");
	inner_synced();
	owner.store->ops->free(owner.store);
	owner.store = NULL;
	check_file(CONFIG, "10.5.1.0-24", 4);
}

/* The owner has no NIC yet when the state is used, and asks later. */
static void test_asks_later(void **state)
{
	(void)state;
	put_file(WHOLE);
	owner.refuses = "";
	start();
	WAIT(strstr(owner.told, "state"));
	told_one("config " CONFIG "\nstate " NO_SYNC);
	acquire(CONFIG);
	told_one(""); /* from the loop only */
	WAIT(*owner.told);
	told_one("own 10.5.1.0-24\nsynced 4");
}

/* The inner store is back before lease and peers of the state were taken. */
static void test_back_just_now(void **state)
{
	(void)state;
	put_file(WHOLE);
	owner.refuses = "";
	start();
	WAIT(strstr(owner.told, "state"));
	*owner.told = '\0';
	acquire(CONFIG);
	inner_config(CONFIG);
	assert_int_equal(inner.n_acquires, 1);
	run_for(50);
	told_one("");
	assert_int_equal(peers_count(owner.peers), 0);
	inner_own("10.5.1.0-24");
	inner_synced();
	told_one("own 10.5.1.0-24\nsynced 0\nstate fine");
}

/* Our address is another one since: the subnet stays, the MAC does not. */
static void test_other_address(void **state)
{
	struct lease own;

	(void)state;
	put_file(WHOLE);
	make(inner_new, NULL);
	owner.attrs.public_ip[IP_V4] = messages_ip("192.0.2.77");
	owner.store->ops->start(owner.store);
	WAIT(strstr(owner.told, "synced"));
	assert_non_null(strstr(owner.told, "own 10.5.1.0-24\n"));
	assert_false(owner.store->ops->find_own(owner.store, &owner.attrs, &own));
}

/* An address that an admin has given us is ours without the datastore as well. */
static void test_public_ip(void **state)
{
	static const char file[] = HEAD(STORE, CONFIG_LINE) OWN "public-ip 203.0.113.9\nend 0\n";

	(void)state;
	put_file(file);
	inner.start_problem = "refused";
	start();
	WAIT(strstr(owner.told, "synced"));
	told_one("public_ip 203.0.113.9\nconfig " CONFIG "\nstate refused" USING
		 "\nown 10.5.1.0-24\nsynced 0");
	/* It is another now; the config comes behind. */
	inner_public_ip("203.0.113.10");
	inner_config(CONFIG);
	told_one("public_ip 203.0.113.10");
	inner_own("10.5.1.0-24");
	inner_synced();
	owner.store->ops->free(owner.store);
	owner.store = NULL;
	stop();

	/* Without one, nothing is told by the inner store. */
	inner.start_problem = "refused";
	start();
	WAIT(strstr(owner.told, "synced"));
	assert_non_null(strstr(owner.told, "public_ip 203.0.113.10\n"));
	*owner.told = '\0';
	inner_config(CONFIG);
	told_one("public_ip none");
}

static void test_find_own(void **state)
{
	struct lease own;

	(void)state;
	put_file(WHOLE);
	inner.find = "192.0.2.1";
	start();
	inner_config(CONFIG);
	assert_true(owner.store->ops->find_own(owner.store, &owner.attrs, &own));
	assert_string_equal(own.backend_data[IP_V4], "\"live\"");
	lease_done(&own);
	inner.find = NULL;
	assert_true(owner.store->ops->find_own(owner.store, &owner.attrs, &own));
	assert_string_equal(own.backend_data[IP_V4], "\"mine\"");
	lease_done(&own);
	inner_own("10.5.1.0-24");
	inner_synced();
	assert_false(owner.store->ops->find_own(owner.store, &owner.attrs, &own));
}

/* A list that is open while the peers of the state come. */
static void test_open_list(void **state)
{
	(void)state;
	put_file(WHOLE);
	start();
	peers_list_begin(owner.peers);
	put_peer(owner.peers, 2);
	WAIT(strstr(owner.told, "synced 4"));
	put_peer(owner.peers, 3);
	put_peer(owner.peers, 4);
	assert_int_equal(peers_list_end(owner.peers), 0);
	assert_int_equal(peers_count(owner.peers), 3);
	assert_null(peers_find(owner.peers, "10.5.5.0-24"));
}

/* A peer that cannot be read is the only one to miss; one that holds our subnet is not
 * brought back. */
static void test_bad_peers(void **state)
{
	(void)state;
	put_file(HEAD(STORE, CONFIG_LINE) OWN PEER(1) PEER(2) "peer 10.5.3.0-24 {}\nend 3\n");
	start();
	WAIT(strstr(owner.told, "synced"));
	assert_non_null(strstr(owner.told, "synced 1"));
	assert_non_null(peers_find(owner.peers, "10.5.2.0-24"));
}

/* Files that cannot stand in; what was told of them. */
static void test_useless_files(void **state)
{
	static const struct {
		const char *text, *told;
	} cases[] = {
		{"", "state away"},
		{HEAD(STORE, CONFIG_LINE) OWN PEER(2), "state away"},
		{HEAD("etcd /other", CONFIG_LINE) OWN "end 0\n", "state away"},
		{HEAD(STORE, "{}") OWN "end 0\n", "state away"},
		{HEAD(STORE, "{\\\"Network\\\":\\\"10.5.0.0/29\\\"}") OWN "end 0\n", "state away"},
		{HEAD(STORE, CONFIG_LINE) "end 0\n", "config " CONFIG "\nstate away" USING},
		{HEAD(STORE, "{\\\"Network\\\":\\\"10.6.0.0/16\\\"}") OWN PEER(2) "end 1\n",
		 "config {\"Network\":\"10.6.0.0/16\"}\nstate away" USING},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		put_file(cases[i].text);
		inner.start_problem = "away";
		start();
		WAIT(strstr(owner.told, "state"));
		run_for(30);
		told_one(cases[i].told);
		assert_int_equal(peers_count(owner.peers), 0);
		inner_config(CONFIG);
		inner_own("10.5.3.0-24");
		inner_synced();
		assert_non_null(strstr(owner.told, "own 10.5.3.0-24\nsynced 0"));
		assert_int_equal(inner.n_acquires, 1);
		stop();
	}
}

/* ---- around a real store ---- */

static struct store *dir_new(struct loop *the_loop, struct peers *peers,
			     const struct store_events *events, void *arg)
{
	return store_dir_new(the_loop, arg, peers, events);
}

static void start_dir(char *store)
{
	make(dir_new, store);
	owner.store->ops->start(owner.store);
	WAIT(strstr(owner.told, "synced"));
}

static void stop_dir(void)
{
	owner.store->ops->free(owner.store);
	owner.store = NULL;
	stop();
}

static void test_real_store(void **state)
{
	char store[128], own[64], record[256];

	(void)state;
	(void)snprintf(store, sizeof(store), "%s", in_dir("store"));
	put(in_dir("store/config"), CONFIG);
	put(in_dir("store/subnets/10.5.2.0-24"), "{\"PublicIP\":\"192.0.2.2\"}");
	put(in_dir("store/subnets/10.5.3.0-24"), "{\"PublicIP\":\"192.0.2.3\"}");
	start_dir(store);
	assert_int_equal(sscanf(owner.told, "config " CONFIG "\nown %63s\nsynced 2", own), 1);
	stop_dir();
	assert_true(has_file());

	/* The host boots, the store is away, and comes back without our record and one peer. */
	assert_int_equal(rename(store, in_dir("away")), 0);
	start_dir(store);
	assert_non_null(strstr(owner.told, "; using the stale state of "));
	assert_non_null(strstr(owner.told, own));
	assert_int_equal(peers_count(owner.peers), 2);
	*owner.told = '\0';
	assert_int_equal(unlink(in_dir("away/subnets/10.5.3.0-24")), 0);
	(void)snprintf(record, sizeof(record), "%s/away/subnets/%s", dir, own);
	assert_int_equal(unlink(record), 0);
	assert_int_equal(rename(in_dir("away"), store), 0);
	WAIT(strstr(owner.told, "state fine"));
	(void)snprintf(record, sizeof(record), "%s/subnets/%s", store, own);
	WAIT(!access(record, F_OK));
	assert_null(strstr(owner.told, "own"));
	assert_null(strstr(owner.told, "synced"));
	assert_null(strstr(owner.told, "config"));
	WAIT(peers_count(owner.peers) == 1);
	stop_dir();
}

static void test_no_inner(void **state)
{
	const struct store_events events = {on_config, on_own, on_synced, on_state, NULL, NULL};

	size_t calls = 0;

	(void)state;
	owner.peers = peers_new(on_changed, NULL);
	assert_null(store_cached_new(loop, path, owner.peers, &events, inner_new, &calls));
	assert_int_equal(calls, 1);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_first_start),
		TEST(test_another_subnet_is_saved_at_once),
		TEST(test_not_saved_before_synced),
		TEST(test_refused_is_not_saved),
		TEST(test_save_fails),
		TEST(test_in_touch),
		TEST(test_owner_prefers),
		TEST(test_silent_then_same),
		TEST(test_problem),
		TEST(test_other_config),
		TEST(test_refused_config),
		TEST(test_asks_later),
		TEST(test_back_just_now),
		TEST(test_other_address),
		TEST(test_public_ip),
		TEST(test_find_own),
		TEST(test_open_list),
		TEST(test_bad_peers),
		TEST(test_useless_files),
		TEST(test_real_store),
		TEST(test_no_inner),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
