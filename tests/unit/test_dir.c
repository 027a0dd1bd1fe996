/* SPDX-License-Identifier: Apache-2.0 */
/* test_dir.c - the directory store over a real directory, many hosts on one loop */
#include "store/store.h"

#include "base/file.h"
#include "base/mem.h"
#include "messages.h"
#include "store/dir_internal.h"
#include "wait.h"

#include <dirent.h>
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>

#define HOSTS_MAX 64
#define CONFIG_V4 "{\"Network\":\"10.5.0.0/16\"}"
/* Three subnets: 10.5.0.64/26, .128, .192. */
#define CONFIG_TINY "{\"Network\":\"10.5.0.0/24\",\"SubnetLen\":26}"

struct host {
	struct store *store;
	struct peers *peers;
	struct lease attrs;
	struct ip_net preferred[IP_FAMILY_COUNT];
	struct lease own;
	size_t n_configs, n_own, n_synced, n_problems, n_fine;
	char problem[ERR_TEXT_MAX], config[1024];
};

static struct loop *loop;
static struct event *tick;
static char dir[64];
static struct host hosts[HOSTS_MAX];

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

/* ---- a host ---- */

static const char *path_of(const char *name)
{
	static char path[256];

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void acquire(struct host *h, const char *text)
{
	struct netconf conf;
	struct err err;
	struct store_request request = {.conf = &conf,
					.attrs = &h->attrs,
					.preferred = h->preferred,
					.renew_margin_min = 60};

	if (netconf_parse(text, strlen(text), "config", &conf, &err) ||
	    netconf_check_ranges(&conf, &err))
		fail_msg("%s", err.text);
	h->store->ops->acquire(h->store, &request);
	netconf_done(&conf);
}

static void on_config(const char *text, size_t len, const char *place, void *userdata)
{
	struct host *h = userdata;

	assert_string_equal(place, path_of("config"));
	assert_int_equal(strlen(text), len);
	h->n_configs++;
	(void)snprintf(h->config, sizeof(h->config), "%s", text);
	acquire(h, text);
}

static void on_own(const struct lease *own, void *userdata)
{
	struct host *h = userdata;

	h->n_own++;
	lease_done(&h->own);
	h->own = lease_copy(own);
}

static void on_synced(void *userdata)
{
	((struct host *)userdata)->n_synced++;
}

static void on_state(const char *problem, void *userdata)
{
	struct host *h = userdata;

	h->n_problems += problem != NULL;
	h->n_fine += problem == NULL;
	(void)snprintf(h->problem, sizeof(h->problem), "%s", problem ? problem : "");
}

static void on_peer(const char *key, const struct lease *before, const struct lease *after,
		    void *userdata)
{
	(void)key;
	(void)before;
	(void)after;
	(void)userdata;
}

static struct host *host_start(unsigned number)
{
	struct host *h = &hosts[number];
	const struct store_events events = {on_config, on_own, on_synced, on_state, NULL, h};
	char ip[IP_STRLEN];

	(void)snprintf(ip, sizeof(ip), "192.0.2.%u", number + 1);
	h->attrs.public_ip[IP_V4] = messages_ip(ip);
	(void)snprintf(ip, sizeof(ip), "2001:db8::%x", number + 1);
	h->attrs.public_ip[IP_V6] = messages_ip(ip);
	(void)snprintf(h->attrs.backend_type, sizeof(h->attrs.backend_type), "host-gw");
	h->peers = peers_new(on_peer, h);
	h->store = store_dir_new(loop, dir, h->peers, &events);
	h->store->ops->start(h->store);
	return h;
}

static void host_stop(struct host *h)
{
	if (h->store)
		h->store->ops->free(h->store);
	peers_free(h->peers);
	lease_done(&h->own);
	lease_done(&h->attrs);
	*h = (struct host){0};
}

static const char *own_key(const struct host *h)
{
	static char key[LEASE_KEY_MAX];

	return lease_format_key(h->own.subnet, key);
}

/* ---- the directory ---- */

static const char *record_path(const char *key)
{
	char name[LEASE_KEY_MAX + 16];

	(void)snprintf(name, sizeof(name), "subnets/%s", key);
	return path_of(name);
}

static void put(const char *path, const char *text)
{
	struct err err;

	if (file_write_atomic(path, text, 0644, &err))
		fail_msg("%s", err.text);
}

/* A record of a host; @left_s: until it expires, 0: never. */
static void put_record(const char *key, const char *public_ip, int64_t left_s)
{
	char text[256], until[64] = "", time_text[32];

	if (left_s)
		(void)snprintf(until, sizeof(until), ",\"Expiration\":\"%s\"",
			       lease_format_time(dir_wall_now_s() + left_s, time_text));
	(void)snprintf(text, sizeof(text), "{\"PublicIP\":\"%s\",\"BackendType\":\"host-gw\"%s}",
		       public_ip, until);
	put(record_path(key), text);
}

static struct lease get_record(const char *key)
{
	_cleanup_free_ char *text = NULL;
	struct lease lease = {0};
	size_t len;
	struct err err;

	if (file_read(AT_FDCWD, record_path(key), LEASE_RECORD_MAX, &text, &len, &err) ||
	    lease_parse(key, text, len, &lease, &err))
		fail_msg("%s: %s", key, err.text);
	return lease;
}

static int64_t expiry_of(const char *key)
{
	struct lease lease = get_record(key);
	int64_t left = lease.expires_s ? lease.expires_s - dir_wall_now_s() : 0;

	lease_done(&lease);
	return left;
}

static bool record_is_of(const char *key, const struct host *h)
{
	_cleanup_free_ char *text = NULL;
	struct lease lease = {0};
	size_t len;
	bool is;

	is = !file_read(AT_FDCWD, record_path(key), LEASE_RECORD_MAX, &text, &len, NULL) &&
	     !lease_parse(key, text, len, &lease, NULL) &&
	     ip_equal(&lease.public_ip[IP_V4], &h->attrs.public_ip[IP_V4]);
	lease_done(&lease);
	return is;
}

static void remove_all(const char *path)
{
	DIR *d = opendir(path);
	struct dirent *e;

	while (d && (e = readdir(d))) {
		char inner[512];

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		(void)snprintf(inner, sizeof(inner), "%s/%s", path, e->d_name);
		if (unlink(inner) && (errno == EISDIR || errno == EPERM))
			remove_all(inner);
	}
	if (d)
		(void)closedir(d);
	(void)rmdir(path);
}

static int setup(void **state)
{
	(void)state;
	loop = loop_new();
	tick = loop_timer_new(loop, on_tick, NULL);
	(void)snprintf(dir, sizeof(dir), "/tmp/weft-test-dir-XXXXXX");
	assert_non_null(mkdtemp(dir));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (size_t i = 0; i < HOSTS_MAX; i++)
		host_stop(&hosts[i]);
	loop_event_free(tick);
	loop_free(loop);
	remove_all(dir);
	return 0;
}

/* ---- acquiring ---- */

static void check_distinct(size_t n, enum ip_family family)
{
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < i; j++)
			assert_false(ip_net_overlaps(&hosts[i].own.subnet[family],
						     &hosts[j].own.subnet[family]));
}

static size_t count_leases(size_t n, size_t peers_each_has)
{
	size_t count = 0;

	for (size_t i = 0; i < n; i++)
		count += hosts[i].n_own && peers_count(hosts[i].peers) == peers_each_has;
	return count;
}

/* As many hosts as there are subnets, at the same moment. */
static void test_race_for_the_last(void **state)
{
	const size_t n = 31;

	(void)state;
	for (unsigned i = 0; i < n; i++)
		(void)host_start(i);
	for (size_t i = 0; i < n; i++)
		assert_string_equal(hosts[i].problem + strlen(hosts[i].problem) - 14,
				    "does not exist");
	put(path_of("config"), "{\"Network\":\"10.5.0.0/24\",\"SubnetLen\":29}");
	WAIT_MS(60000, count_leases(n, n - 1) == n);
	check_distinct(n, IP_V4);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(hosts[i].n_synced, 1);
		assert_string_equal(hosts[i].problem, "");
		assert_true(record_is_of(own_key(&hosts[i]), &hosts[i]));
		assert_in_range(expiry_of(own_key(&hosts[i])), DIR_LEASE_TIME_S - 60,
				DIR_LEASE_TIME_S);
	}
}

/* Records of different names that share one subnet are as much of a clash. */
static void test_race_dual_stack(void **state)
{
	const size_t n = 12;

	(void)state;
	put(path_of("config"), "{\"Network\":\"10.5.0.0/16\",\"EnableIPv6\":true,"
			       "\"IPv6Network\":\"fc00:5::/120\",\"IPv6SubnetLen\":124}");
	for (unsigned i = 0; i < n; i++)
		(void)host_start(i);
	WAIT_MS(60000, count_leases(n, n - 1) == n);
	check_distinct(n, IP_V4);
	check_distinct(n, IP_V6);
}

static void one_process(unsigned number, int fd)
{
	struct host *h;

	loop = loop_new();
	tick = loop_timer_new(loop, on_tick, NULL);
	h = host_start(number);
	while (!h->n_synced)
		turn();
	if (write(fd, own_key(h), strlen(own_key(h)) + 1) < 0)
		_exit(1);
	_exit(0);
}

static void test_race_of_processes(void **state)
{
	const size_t n = 24;
	char keys[24 * LEASE_KEY_MAX];
	size_t len = 0, i = 0;
	int pipe_fd[2], status;
	ssize_t got;

	(void)state;
	put(path_of("config"), "{\"Network\":\"10.5.0.0/22\",\"SubnetLen\":27}");
	assert_int_equal(pipe(pipe_fd), 0);
	for (unsigned p = 0; p < n; p++) {
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (!pid)
			one_process(p, pipe_fd[1]);
	}
	close(pipe_fd[1]);
	while ((got = read(pipe_fd[0], keys + len, sizeof(keys) - len)) > 0)
		len += (size_t)got;
	close(pipe_fd[0]);
	while (wait(&status) > 0)
		assert_int_equal(status, 0);
	for (const char *key = keys; key < keys + len; key += strlen(key) + 1)
		assert_int_equal(lease_parse_key(key, hosts[i++].own.subnet, NULL), 0);
	assert_int_equal(i, n);
	check_distinct(n, IP_V4);
}

static void test_reuse(void **state)
{
	struct host *h = &hosts[0];

	(void)state;
	put(path_of("config"), CONFIG_V4);
	put_record("10.5.7.0-24", "192.0.2.1", 50000);
	put_record("10.5.8.0-24", "192.0.2.8", 50000);
	/* The record that has our address goes before the subnet file. */
	h->preferred[IP_V4] = messages_net("10.5.9.0/24");
	(void)host_start(0);
	WAIT(h->n_synced);
	assert_string_equal(own_key(h), "10.5.7.0-24");
	assert_true(expiry_of("10.5.7.0-24") > 80000);
	assert_int_equal(peers_count(h->peers), 1);
	/* The subnet file's goes before a new one, and not when another has it. */
	hosts[1].preferred[IP_V4] = messages_net("10.5.9.0/24");
	hosts[2].preferred[IP_V4] = messages_net("10.5.8.0/24");
	hosts[3].preferred[IP_V4] = messages_net("10.5.16.0/20"); /* of another SubnetLen */
	for (unsigned i = 1; i < 4; i++)
		(void)host_start(i);
	WAIT(hosts[1].n_synced && hosts[2].n_synced && hosts[3].n_synced);
	assert_string_equal(own_key(&hosts[1]), "10.5.9.0-24");
	assert_string_not_equal(own_key(&hosts[2]), "10.5.8.0-24");
	assert_int_equal(hosts[3].own.subnet[IP_V4].len, 24);
	check_distinct(4, IP_V4);
}

static void test_find_own(void **state)
{
	struct lease attrs = {0}, found = {0};
	struct host *h = &hosts[0];

	(void)state;
	put_record("10.5.7.0-24", "192.0.2.1", 50000);
	(void)host_start(0);
	attrs.public_ip[IP_V4] = messages_ip("192.0.2.1");
	assert_true(h->store->ops->find_own(h->store, &attrs, &found));
	assert_true(ip_net_is_set(&found.subnet[IP_V4]));
	lease_done(&found);
	attrs.public_ip[IP_V4] = messages_ip("192.0.2.9");
	assert_false(h->store->ops->find_own(h->store, &attrs, &found));
}

static void test_reservation(void **state)
{
	struct host *h = &hosts[0];

	(void)state;
	put(path_of("config"), CONFIG_V4);
	put_record("10.5.7.0-24", "192.0.2.1", 0);
	put_record("10.5.8.0-24", "192.0.2.8", 0);
	(void)host_start(0);
	WAIT(h->n_synced);
	assert_string_equal(own_key(h), "10.5.7.0-24");
	assert_int_equal(h->own.expires_s, 0);
	assert_int_equal(expiry_of("10.5.7.0-24"), 0);
	/* It stays one when it is published anew, */
	(void)snprintf(h->attrs.backend_type, sizeof(h->attrs.backend_type), "alloc");
	acquire(h, CONFIG_V4);
	assert_int_equal(expiry_of("10.5.7.0-24"), 0);
	/* and is turned into a lease and back by its administrator. */
	put_record("10.5.7.0-24", "192.0.2.1", 30000);
	WAIT(expiry_of("10.5.7.0-24") > 80000);
	put_record("10.5.7.0-24", "192.0.2.1", 0);
	WAIT(expiry_of("10.5.7.0-24") == 0 && record_is_of("10.5.7.0-24", h));
	turn();
	assert_int_equal(expiry_of("10.5.7.0-24"), 0);
}

static void test_takes_over_expired(void **state)
{
	struct host *h = &hosts[0];

	(void)state;
	put(path_of("config"), CONFIG_TINY);
	put_record("10.5.0.64-26", "192.0.2.8", 40000);
	put_record("10.5.0.128-26", "192.0.2.9", -10);
	put_record("10.5.0.192-26", "192.0.2.10", 0);
	(void)host_start(0);
	WAIT(h->n_synced);
	assert_string_equal(own_key(h), "10.5.0.128-26");
	assert_true(record_is_of("10.5.0.128-26", h));
	assert_int_equal(peers_count(h->peers), 2);
}

/* ---- waiting ---- */

/* No subnet is free: said once in a while, tried less and less often, and then had. */
static void test_full(void **state)
{
	struct host *h = &hosts[0];
	int64_t until;

	(void)state;
	put(path_of("config"), CONFIG_TINY);
	put_record("10.5.0.64-26", "192.0.2.8", 40000);
	put_record("10.5.0.128-26", "192.0.2.9", 40000);
	put_record("10.5.0.192-26", "192.0.2.10", 40000);
	(void)host_start(0);
	until = loop_now_ms() + 1500;
	WAIT(loop_now_ms() > until);
	assert_string_equal(h->problem,
			    "no subnet is free in 10.5.0.0/24; waiting for one to expire");
	assert_int_equal(h->n_fine, 0);
	assert_true(h->n_problems < 8);
	assert_int_equal(unlink(record_path("10.5.0.128-26")), 0);
	WAIT(h->n_synced);
	assert_string_equal(own_key(h), "10.5.0.128-26");
	assert_string_equal(h->problem, "");
}

/* ---- records of others ---- */

static void test_expiry(void **state)
{
	struct host *h = &hosts[0];

	(void)state;
	put(path_of("config"), CONFIG_V4);
	put_record("10.5.3.0-24", "192.0.2.3", 2);
	put_record("10.5.4.0-24", "192.0.2.4", 0);
	put_record("10.5.5.0-24", "192.0.2.5", -5);
	(void)host_start(0);
	WAIT(h->n_synced);
	assert_int_equal(peers_count(h->peers), 2);
	WAIT(peers_count(h->peers) == 1);
	assert_non_null(peers_find(h->peers, "10.5.4.0-24"));
	/* Written just now: alive, whatever our clock says. */
	put_record("10.5.6.0-24", "192.0.2.6", -5);
	WAIT(peers_find(h->peers, "10.5.6.0-24"));
}

static void test_changes(void **state)
{
	const struct lease *peer;
	struct host *h = &hosts[0];

	(void)state;
	put(path_of("config"), CONFIG_V4);
	for (unsigned i = 3; i < 9; i++) {
		char key[32];

		(void)snprintf(key, sizeof(key), "10.5.%u.0-24", i);
		put_record(key, "192.0.2.3", 40000);
	}
	(void)host_start(0);
	WAIT(h->n_synced);
	put_record("10.5.20.0-24", "192.0.2.20", 40000);
	WAIT(peers_count(h->peers) == 7);
	put_record("10.5.3.0-24", "192.0.2.99", 40000);
	WAIT((peer = peers_find(h->peers, "10.5.3.0-24")) && peer->public_ip[IP_V4].b[3] == 99);
	assert_int_equal(unlink(record_path("10.5.4.0-24")), 0);
	WAIT_MS(1500, peers_count(h->peers) == 6);
	/* Most of them at once are believed to be gone at the second look. */
	for (unsigned i = 5; i < 9; i++) {
		char key[32];

		(void)snprintf(key, sizeof(key), "10.5.%u.0-24", i);
		assert_int_equal(unlink(record_path(key)), 0);
	}
	int64_t gone = loop_now_ms();
	WAIT(peers_count(h->peers) == 2);
	assert_true(loop_now_ms() - gone > 1500);
}

static void test_garbage(void **state)
{
	static const char *const texts[] = {"",         "{",  "{\"PublicIP\":\"x\"}",
					    "\xff\xfe", "[]", "{\"BackendType\":\"vxlan\"}"};
	struct host *h = &hosts[0];

	(void)state;
	put(path_of("config"), CONFIG_V4);
	put(record_path("README"), "not a record");
	put(record_path(".10.5.9.0-24"), "hidden");
	put(record_path("10.5.10.1-24"), "{\"PublicIP\":\"192.0.2.10\"}"); /* host bits */
	put(record_path("10.5.11.0-24"), "{\"PublicIP\":");
	assert_int_equal(mkdir(record_path("10.5.12.0-24"), 0755), 0);
	assert_int_equal(mkfifo(record_path("10.5.13.0-24"), 0644), 0);
	put_record("10.5.3.0-24", "192.0.2.3", 40000);
	(void)host_start(0);
	WAIT(h->n_synced);
	assert_int_equal(peers_count(h->peers), 1);
	/* Unreadable is not gone. */
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		put(record_path("10.5.3.0-24"), texts[i]);
		put_record("10.5.30.0-24", "192.0.2.30", 40000 + (int64_t)i);
		WAIT(peers_find(h->peers, "10.5.30.0-24"));
		assert_non_null(peers_find(h->peers, "10.5.3.0-24"));
	}
	put_record("10.5.11.0-24", "192.0.2.11", 40000);
	WAIT(peers_find(h->peers, "10.5.11.0-24"));
}

/* The subnet that we had is named by a file that is no record: after a crash of the host
 * it may well be empty. */
static void test_garbage_where_ours_was(void **state)
{
	struct host *h = &hosts[0];

	(void)state;
	put(path_of("config"), CONFIG_V4);
	put(record_path("10.5.7.0-24"), "");
	h->preferred[IP_V4] = messages_net("10.5.7.0/24");
	(void)host_start(0);
	WAIT_MS(5000, h->n_synced);
	assert_true(ip_net_is_set(&h->own.subnet[IP_V4]));
}

/* ---- our own record ---- */

static void test_own_record_damaged(void **state)
{
	char key[LEASE_KEY_MAX], big[LEASE_RECORD_MAX + 2];
	struct host *h = &hosts[0];

	(void)state;
	put(path_of("config"), CONFIG_V4);
	(void)host_start(0);
	WAIT(h->n_synced);
	(void)snprintf(key, sizeof(key), "%s", own_key(h));

	assert_int_equal(unlink(record_path(key)), 0);
	WAIT(record_is_of(key, h));
	put(record_path(key), "{\"Publ");
	WAIT(record_is_of(key, h));
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	put(record_path(key), big);
	WAIT(record_is_of(key, h));
	/* Our address, another's ideas. */
	put(record_path(key), "{\"PublicIP\":\"192.0.2.1\",\"PublicIPv6\":\"2001:db8::1\","
			      "\"BackendType\":\"udp\"}");
	WAIT(record_is_of(key, h) && h->n_own == 1);
	for (;;) {
		struct lease lease = get_record(key);
		bool ours = !strcmp(lease.backend_type, "host-gw");

		lease_done(&lease);
		if (ours)
			break;
		turn();
	}
	assert_string_equal(own_key(h), key);
	assert_int_equal(h->n_own, 1);
}

static void test_own_record_stolen(void **state)
{
	char key[LEASE_KEY_MAX];
	struct host *h = &hosts[0];

	(void)state;
	put(path_of("config"), CONFIG_V4);
	(void)host_start(0);
	WAIT(h->n_synced);
	(void)snprintf(key, sizeof(key), "%s", own_key(h));
	put_record(key, "192.0.2.77", 40000);
	WAIT(h->n_own == 2);
	assert_string_not_equal(own_key(h), key);
	assert_true(record_is_of(own_key(h), h));
	assert_false(record_is_of(key, h));
	WAIT(peers_find(h->peers, key));
}

/* Lost, and no other to be had at once: it is asked for until there is one. */
static void test_own_record_stolen_when_full(void **state)
{
	char key[LEASE_KEY_MAX];
	struct host *h = &hosts[0];

	(void)state;
	put(path_of("config"), CONFIG_TINY);
	put_record("10.5.0.64-26", "192.0.2.8", 40000);
	put_record("10.5.0.128-26", "192.0.2.9", 40000);
	(void)host_start(0);
	WAIT(h->n_synced);
	(void)snprintf(key, sizeof(key), "%s", own_key(h));
	assert_string_equal(key, "10.5.0.192-26");
	put_record(key, "192.0.2.77", 40000);
	WAIT(h->n_problems);
	/* Another config must not make it write over the thief's. */
	acquire(h, CONFIG_TINY);
	assert_false(record_is_of(key, h));
	assert_int_equal(unlink(record_path("10.5.0.64-26")), 0);
	WAIT(h->n_own == 2);
	assert_string_equal(own_key(h), "10.5.0.64-26");
	assert_false(record_is_of(key, h));
}

static void test_published_anew(void **state)
{
	char key[LEASE_KEY_MAX];
	struct host *h = &hosts[0];

	(void)state;
	put(path_of("config"), CONFIG_V4);
	(void)host_start(0);
	WAIT(h->n_synced);
	(void)snprintf(key, sizeof(key), "%s", own_key(h));
	h->attrs.public_ip[IP_V4] = messages_ip("192.0.2.200");
	acquire(h, CONFIG_V4);
	assert_true(record_is_of(key, h));
	for (int i = 0; i < 20; i++)
		turn();
	assert_int_equal(h->n_own, 1);
	assert_string_equal(own_key(h), key);
}

/* The address changes while the directory is away: the subnet stays ours. */
static void test_address_changes_while_away(void **state)
{
	char key[LEASE_KEY_MAX], away[80];
	struct host *h = &hosts[0];

	(void)state;
	put(path_of("config"), CONFIG_V4);
	(void)host_start(0);
	WAIT(h->n_synced);
	(void)snprintf(key, sizeof(key), "%s", own_key(h));
	(void)snprintf(away, sizeof(away), "%s.away", dir);
	assert_int_equal(rename(dir, away), 0);
	WAIT(h->n_problems);
	h->attrs.public_ip[IP_V4] = messages_ip("192.0.2.200");
	acquire(h, CONFIG_V4);
	assert_int_equal(rename(away, dir), 0);
	WAIT(record_is_of(key, h) || h->n_own > 1);
	assert_int_equal(h->n_own, 1);
	assert_string_equal(own_key(h), key);
}

/* The wall clock was set back: our record would seem to last for too long. */
static void test_clock_set(void **state)
{
	static const struct itimerspec now = {.it_value.tv_nsec = 1};
	char key[LEASE_KEY_MAX], text[256], until[32];
	struct host *h = &hosts[0];

	(void)state;
	put(path_of("config"), CONFIG_V4);
	(void)host_start(0);
	WAIT(h->n_synced);
	(void)snprintf(key, sizeof(key), "%s", own_key(h));
	(void)snprintf(text, sizeof(text),
		       "{\"PublicIP\":\"192.0.2.1\",\"PublicIPv6\":\"2001:db8::1\","
		       "\"BackendType\":\"host-gw\",\"Expiration\":\"%s\"}",
		       lease_format_time(dir_wall_now_s() + 2 * DIR_LEASE_TIME_S, until));
	put(record_path(key), text);
	assert_int_equal(timerfd_settime(((struct dir *)h->store)->clock_fd, 0, &now, NULL), 0);
	WAIT_MS(3000, expiry_of(key) <= DIR_LEASE_TIME_S);
}

static void test_renewal(void **state)
{
	char key[LEASE_KEY_MAX];
	struct host *h = &hosts[0];

	(void)state;
	put(path_of("config"), CONFIG_V4);
	put_record("10.5.7.0-24", "192.0.2.1", 3600 + 2);
	(void)host_start(0);
	WAIT(h->n_synced);
	(void)snprintf(key, sizeof(key), "%s", own_key(h));
	assert_string_equal(key, "10.5.7.0-24");
	/* Set back by hand to just before the margin: it is renewed in time. */
	((struct dir *)h->store)->own_expires_s = dir_wall_now_s() + 3600;
	put(record_path(key), "{\"PublicIP\":\"192.0.2.1\"}");
	WAIT(expiry_of(key) == 0 || expiry_of(key) > 80000);
}

/* ---- directory and config ---- */

static void test_directory_away(void **state)
{
	char key[LEASE_KEY_MAX];
	struct host *h = &hosts[0];
	const char *other;

	(void)state;
	put(path_of("config"), CONFIG_V4);
	put_record("10.5.3.0-24", "192.0.2.3", 40000);
	(void)host_start(0);
	WAIT(h->n_synced);
	(void)snprintf(key, sizeof(key), "%s", own_key(h));
	other = strcmp(key, "10.5.4.0-24") ? "10.5.4.0-24" : "10.5.5.0-24"; /* not ours */
	remove_all(dir);
	WAIT(h->n_problems);
	assert_int_equal(peers_count(h->peers), 1); /* unknown is not empty */
	put(path_of("config"), CONFIG_V4);
	WAIT(record_is_of(key, h));
	put_record("10.5.3.0-24", "192.0.2.3", 40000);
	put_record(other, "192.0.2.4", 40000);
	WAIT(peers_count(h->peers) == 2);
	WAIT(!*h->problem);
	assert_int_equal(h->n_own, 1);
	assert_int_equal(h->n_configs, 1);
}

static void test_config_changes(void **state)
{
	struct host *h = &hosts[0];

	(void)state;
	(void)host_start(0);
	assert_non_null(strstr(h->problem, "waiting for the network config"));
	assert_int_equal(h->n_configs, 0);
	put(path_of("config"), CONFIG_V4);
	WAIT(h->n_synced);
	assert_int_equal(h->n_configs, 1);
	put(path_of("config"), CONFIG_V4); /* the same */
	put(path_of("config"), CONFIG_V4 " ");
	WAIT(h->n_configs == 2);
	assert_int_equal(h->n_own, 1);
	assert_string_equal(h->problem, "");
	/* Written in place. */
	int fd = open(path_of("config"), O_WRONLY | O_TRUNC | O_CLOEXEC);
	assert_true(write(fd, CONFIG_V4 "\n", sizeof(CONFIG_V4)) > 0);
	close(fd);
	WAIT(h->n_configs == 3);
	assert_string_equal(h->config, CONFIG_V4 "\n");
}

/* Without a config the last good one counts, and peers come and go as before. */
static void test_config_deleted(void **state)
{
	struct host *h = &hosts[0];

	(void)state;
	put(path_of("config"), CONFIG_V4);
	put_record("10.5.3.0-24", "192.0.2.3", 40000);
	put_record("10.5.4.0-24", "192.0.2.4", 40000);
	put_record("10.5.5.0-24", "192.0.2.5", 40000);
	(void)host_start(0);
	WAIT(h->n_synced);
	assert_int_equal(unlink(path_of("config")), 0);
	WAIT(*h->problem);
	assert_non_null(strstr(h->problem, "keeping the last good network config"));
	put_record("10.5.6.0-24", "192.0.2.6", 40000);
	WAIT(peers_count(h->peers) == 4);
	assert_int_equal(unlink(record_path("10.5.3.0-24")), 0);
	WAIT_MS(5000, peers_count(h->peers) == 3);
	put(path_of("config"), CONFIG_V4);
	WAIT(!*h->problem);
	assert_int_equal(h->n_configs, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_race_for_the_last),
		TEST(test_race_dual_stack),
		TEST(test_race_of_processes),
		TEST(test_reuse),
		TEST(test_find_own),
		TEST(test_reservation),
		TEST(test_takes_over_expired),
		TEST(test_full),
		TEST(test_expiry),
		TEST(test_changes),
		TEST(test_garbage),
		TEST(test_garbage_where_ours_was),
		TEST(test_own_record_damaged),
		TEST(test_own_record_stolen),
		TEST(test_own_record_stolen_when_full),
		TEST(test_published_anew),
		TEST(test_address_changes_while_away),
		TEST(test_clock_set),
		TEST(test_renewal),
		TEST(test_directory_away),
		TEST(test_config_changes),
		TEST(test_config_deleted),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
