/* SPDX-License-Identifier: Apache-2.0 */
/* test_kube.c - the Kubernetes store against an API that does what the test says
 *
 * Calls are taken down instead of being sent; the test answers those that it expects.
 */
#include "messages.h"
#include "store/kube_internal.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>

#define PREFIX      "flannel.alpha.coreos.com/"
#define PREFIX_TYPE "\"" PREFIX "backend-type\":\"host-gw\","
#define CONFIG      "{\"Network\":\"10.5.0.0/16\"}"

/* -- time ------------------------------------------------------------------------------ */

static int64_t false_now_ms = 1000000;

/* In the C library's place, for libevent as well. */
int false_clock(clockid_t clock, struct timespec *ts) __asm__("clock_gettime");
int false_clock(clockid_t clock, struct timespec *ts)
{
	(void)clock;
	ts->tv_sec = false_now_ms / 1000;
	ts->tv_nsec = false_now_ms % 1000 * 1000000;
	return 0;
}

/* -- the API --------------------------------------------------------------------------- */

#define CALLS 8

struct kube_call {
	bool open;
	char method[8], path[512], body[2048];
	struct kube_request request;
};

static struct kube_call calls[CALLS];

int kube_api_new(struct loop *loop, struct kube_access *access, struct kube_api **ret_api,
		 struct err *err)
{
	(void)loop;
	(void)access;
	(void)err;
	*ret_api = NULL;
	return 0;
}

void kube_api_free(struct kube_api *api)
{
	assert_null(api);
}

const char *kube_api_describe(const struct kube_api *api)
{
	(void)api;
	return "https://a (test)";
}

struct kube_call *kube_call_new(struct kube_api *api, const struct kube_request *request)
{
	struct kube_call *call = calls;

	(void)api;
	while (call->open)
		assert_true(++call < calls + CALLS);
	*call = (struct kube_call){.open = true, .request = *request};
	(void)snprintf(call->method, sizeof(call->method), "%s", request->method);
	(void)snprintf(call->path, sizeof(call->path), "%s", request->path);
	(void)snprintf(call->body, sizeof(call->body), "%s", request->body ? request->body : "");
	return call;
}

void kube_call_cancel(struct kube_call *call)
{
	if (!call)
		return;
	assert_true(call->open);
	call->open = false;
}

/* -- the store's owner ----------------------------------------------------------------- */

struct fixture {
	struct loop *loop;
	struct peers *peers;
	struct store *store;
	struct kube_settings settings;
	char dir[64], path[128];
	char own[LEASE_KEY_MAX], config[128], problem[ERR_TEXT_MAX], public_ip[IP_STRLEN];
	int n_own, n_synced, n_config, n_changed, n_removed;
};

static struct fixture f;

static void on_changed(const char *key, const struct lease *before, const struct lease *after,
		       void *userdata)
{
	(void)key;
	(void)before;
	(void)userdata;
	f.n_changed++;
	f.n_removed += !after;
}

static void on_config(const char *text, size_t len, const char *place, void *userdata)
{
	(void)userdata;
	assert_int_equal(text[len], '\0');
	assert_string_equal(place, f.path);
	f.n_config++;
	(void)snprintf(f.config, sizeof(f.config), "%s", text);
}

static void on_own(const struct lease *own, void *userdata)
{
	(void)userdata;
	f.n_own++;
	lease_format_key(own->subnet, f.own);
}

static void on_synced(void *userdata)
{
	(void)userdata;
	f.n_synced++;
}

static void on_state(const char *problem, void *userdata)
{
	(void)userdata;
	(void)snprintf(f.problem, sizeof(f.problem), "%s", problem ? problem : "");
}

static void on_public_ip(const struct ip public_ip[IP_FAMILY_COUNT], void *userdata)
{
	(void)userdata;
	assert_true(f.n_config || !f.n_own);
	if (ip_is_set(&public_ip[IP_V4]))
		ip_format(&public_ip[IP_V4], f.public_ip);
	else
		*f.public_ip = '\0';
}

/* -- rounds ---------------------------------------------------------------------------- */

static void turn(void)
{
	(void)event_base_loop(loop_base(f.loop), EVLOOP_NONBLOCK);
	false_now_ms += 10;
}

#include "wait.h"

static void pass_ms(int64_t ms)
{
	for (int64_t until = false_now_ms + ms; false_now_ms < until;)
		turn();
}

/* The open call whose path has @part in it; NULL: there is none. */
static struct kube_call *find(const char *method, const char *part)
{
	for (struct kube_call *call = calls; call < calls + CALLS; call++)
		if (call->open && !strcmp(call->method, method) && strstr(call->path, part))
			return call;
	return NULL;
}

static struct kube_call *expect(const char *method, const char *part)
{
	struct kube_call *call;

	WAIT_MS(90000, (call = find(method, part)) != NULL);
	return call;
}

static void answer(struct kube_call *call, const struct kube_outcome *outcome)
{
	const struct kube_request request = call->request;

	call->open = false;
	request.done(outcome, request.userdata);
}

static void give(struct kube_call *call, const char *body)
{
	answer(call, &(struct kube_outcome){.http_status = 200, .body = {body, strlen(body)}});
}

static void refuse(struct kube_call *call, int code, const char *why)
{
	answer(call, &(struct kube_outcome){.http_status = code,
					    .why = why,
					    .absent = code == 404,
					    .expired = code == 410});
}

static void feed(struct kube_call *call, const char *text)
{
	assert_true(call->open);
	call->request.piece(text, strlen(text), call->request.userdata);
}

/* -- objects --------------------------------------------------------------------------- */

/* A node of flannel's; @kind "" in lists, @cidr NULL: it is partial. */
static char *node_text(const char *kind, const char *name, const char *uid, unsigned version,
		       const char *cidr, const char *ip)
{
	static char text[2][1024];
	static unsigned n;
	char *p = text[n++ % 2];
	int len =
		snprintf(p, 1024,
			 "{%s%s%s\"metadata\":{\"name\":\"%s\",\"uid\":\"%s\","
			 "\"resourceVersion\":\"%u\",\"annotations\":{",
			 *kind ? "\"kind\":\"" : "", kind, *kind ? "\"," : "", name, uid, version);

	if (ip)
		len += snprintf(p + len, 1024 - (size_t)len,
				"\"" PREFIX "kube-subnet-manager\":\"true\"," PREFIX_TYPE
				"\"" PREFIX "backend-data\":\"null\","
				"\"" PREFIX "public-ip\":\"%s\"",
				ip);
	len += snprintf(p + len, 1024 - (size_t)len, "}}");
	if (cidr)
		len += snprintf(p + len, 1024 - (size_t)len, ",\"spec\":{\"podCIDR\":\"%s\"}",
				cidr);
	(void)snprintf(p + len, 1024 - (size_t)len, "}");
	return p;
}

static char *whole(const char *name, const char *uid, unsigned version, const char *cidr,
		   const char *ip)
{
	return node_text("Node", name, uid, version, cidr, ip);
}

/* An event of the watch that is open. */
static void tell(const char *type, const char *name, const char *uid, unsigned version,
		 const char *ip)
{
	char event[1200];

	(void)snprintf(event, sizeof(event), "{\"type\":\"%s\",\"object\":%s}\n", type,
		       node_text("PartialObjectMetadata", name, uid, version, NULL, ip));
	feed(expect("GET", "watch=true"), event);
}

/* A page of a list: @items is JSON. */
static void page(const char *part, unsigned version, const char *next, const char *items)
{
	struct kube_call *call = expect("GET", part);
	char text[8192];

	(void)snprintf(text, sizeof(text),
		       "{\"kind\":\"NodeList\",\"metadata\":{\"resourceVersion\":\"%u\","
		       "\"continue\":\"%s\"},\"items\":[%s]}",
		       version, next, items);
	feed(call, text);
	answer(call, &(struct kube_outcome){.http_status = 200});
}

static char *items(const char *const names[], unsigned n)
{
	static char text[8192];
	int len = snprintf(text, sizeof(text), "%s",
			   node_text("", "h1", "u1", 1, "10.5.1.0/24", "192.0.2.1"));
	char cidr[32], ip[32];

	for (unsigned i = 0; i < n; i++) {
		(void)snprintf(cidr, sizeof(cidr), "10.5.%s.0/24", names[i] + 1);
		(void)snprintf(ip, sizeof(ip), "192.0.2.%s", names[i] + 1);
		len += snprintf(text + len, sizeof(text) - (size_t)len, ",%s",
				node_text("", names[i], names[i], 2, cidr, ip));
	}
	return text;
}

static struct kube_call *watch_begins(void)
{
	struct kube_call *call = expect("GET", "watch=true");

	call->request.begun(call->request.userdata);
	return call;
}

/* -- beginning and end ----------------------------------------------------------------- */

static void write_config(const char *text)
{
	FILE *file = fopen(f.path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void set_up(void)
{
	const struct store_events events = {on_config, on_own,       on_synced,
					    on_state,  on_public_ip, NULL};
	struct err err;

	memset(&f, 0, sizeof(f));
	memset(calls, 0, sizeof(calls));
	(void)snprintf(f.dir, sizeof(f.dir), "/tmp/test_kube.XXXXXX");
	assert_non_null(mkdtemp(f.dir));
	(void)snprintf(f.path, sizeof(f.path), "%s/net-conf.json", f.dir);
	write_config(CONFIG);
	f.loop = loop_new();
	f.peers = peers_new(on_changed, NULL);
	f.settings = (struct kube_settings){.api_url = "http://a",
					    .kubeconfig_file = "",
					    .annotation_prefix = "flannel.alpha.coreos.com",
					    .net_config_path = f.path,
					    .node_name = "h1",
					    .pod_name = "",
					    .pod_namespace = ""};
	if (store_kube_new(f.loop, &f.settings, f.peers, &events, &f.store, &err))
		fail_msg("%s", err.text);
	f.store->ops->start(f.store);
}

static void tear_down(void)
{
	f.store->ops->free(f.store);
	for (const struct kube_call *call = calls; call < calls + CALLS; call++)
		assert_false(call->open);
	peers_free(f.peers);
	loop_free(f.loop);
	(void)unlink(f.path);
	assert_int_equal(rmdir(f.dir), 0);
}

static void want(void)
{
	struct lease attrs = {.public_ip[IP_V4] = messages_ip("192.0.2.1"),
			      .backend_type = "host-gw"};
	struct netconf conf;
	const struct store_request request = {.conf = &conf, .attrs = &attrs};

	assert_int_equal(netconf_parse(CONFIG, strlen(CONFIG), "c", &conf, NULL), 0);
	f.store->ops->acquire(f.store, &request);
	netconf_done(&conf);
}

/* Our node is as it should be, the peers named by @names are there, and the watch stands. */
static void reach_watch(const char *const names[], unsigned n)
{
	give(expect("GET", "/h1"), whole("h1", "u1", 1, "10.5.1.0/24", "192.0.2.1"));
	assert_int_equal(f.n_config, 1);
	want();
	assert_string_equal(f.own, "10.5.1.0-24");
	page("limit=500", 10, "", items(names, n));
	assert_int_equal(f.n_synced, 1);
	assert_int_equal(peers_count(f.peers), n);
	(void)watch_begins();
	assert_null(find("PATCH", ""));
	f.n_changed = f.n_removed = 0;
}

static const char *const two[] = {"n2", "n3"};

/* -- our node -------------------------------------------------------------------------- */

static void test_the_config_waits_for_our_node(void **state)
{
	(void)state;
	set_up();
	pass_ms(1000);
	assert_int_equal(f.n_config, 0);
	refuse(expect("GET", "/h1"), 0, "connection refused");
	assert_string_equal(f.problem, "connection refused");
	give(expect("GET", "/h1"),
	     "{\"kind\":\"Node\",\"metadata\":{\"name\":\"h1\",\"uid\":\"u\","
	     "\"annotations\":{\"" PREFIX "node-public-ip\":\"192.0.2.9\"}},\"spec\":{}}");
	assert_string_equal(f.public_ip, "192.0.2.9");
	assert_string_equal(f.config, CONFIG);
	tear_down();
}

static void test_a_patch_that_fails_is_tried_again(void **state)
{
	(void)state;
	set_up();
	give(expect("GET", "/h1"), whole("h1", "u1", 1, "10.5.1.0/24", NULL));
	want();
	/* The subnet needs nobody's consent. */
	assert_string_equal(f.own, "10.5.1.0-24");
	assert_non_null(strstr(expect("PATCH", "/h1/status")->body, "\"192.0.2.1\""));
	pass_ms(1000); /* since it was read */
	refuse(expect("PATCH", "/h1/status"), 403, "403: no");
	assert_string_equal(f.problem, "403: no");
	page("limit=500", 10, "", items(two, 2));
	assert_int_equal(f.n_synced, 0);
	give(expect("GET", "/h1"), whole("h1", "u1", 1, "10.5.1.0/24", NULL));
	give(expect("PATCH", "/h1/status"), whole("h1", "u1", 2, "10.5.1.0/24", "192.0.2.1"));
	assert_string_equal(f.problem, "");
	assert_int_equal(f.n_synced, 1);
	pass_ms(5000);
	assert_null(find("PATCH", ""));
	tear_down();
}

/* Whoever undoes what we write is slowed down. */
static void test_a_fight_is_slow(void **state)
{
	unsigned version = 20, patched = 0;

	(void)state;
	set_up();
	reach_watch(two, 2);
	tell("MODIFIED", "h1", "u1", version++, NULL);
	for (int64_t end = false_now_ms + 120000; false_now_ms < end; turn()) {
		struct kube_call *call = find("PATCH", "/h1/status");
		struct kube_call *probe = find("GET", "/h1");

		if (probe)
			give(probe, whole("h1", "u1", version, "10.5.1.0/24", NULL));
		if (!call)
			continue;
		patched++;
		give(call, whole("h1", "u1", version++, "10.5.1.0/24", "192.0.2.1"));
		tell("MODIFIED", "h1", "u1", version++, NULL);
	}
	assert_in_range(patched, 6, 10);
	assert_non_null(strstr(f.problem, "again and again"));
	tear_down();
}

static void test_our_node_is_made_anew(void **state)
{
	(void)state;
	set_up();
	reach_watch(two, 2);
	tell("DELETED", "h1", "u1", 20, "192.0.2.1");
	assert_non_null(strstr(f.problem, "deleted; keeping its subnet"));
	pass_ms(5000);
	assert_null(find("PATCH", ""));
	tell("ADDED", "h1", "u9", 21, NULL);
	/* Late: the end of the first one. */
	tell("DELETED", "h1", "u1", 20, "192.0.2.1");
	give(expect("GET", "/h1"), whole("h1", "u9", 21, "10.5.9.0/24", NULL));
	assert_string_equal(f.own, "10.5.9.0-24");
	give(expect("PATCH", "/h1/status"), whole("h1", "u9", 22, "10.5.9.0/24", "192.0.2.1"));
	assert_string_equal(f.problem, "");
	assert_int_equal(f.n_own, 2);
	tear_down();
}

/* -- the others ------------------------------------------------------------------------ */

static void test_heartbeats_are_nothing(void **state)
{
	(void)state;
	set_up();
	reach_watch(two, 2);
	for (unsigned i = 0; i < 100; i++)
		tell("MODIFIED", "n2", "n2", 20 + i, "192.0.2.2");
	assert_int_equal(f.n_changed, 0);
	assert_null(find("GET", "/n2"));
	tell("MODIFIED", "n2", "n2", 200, "192.0.2.77");
	assert_int_equal(f.n_changed, 1);
	/* Older, and doubled. */
	tell("MODIFIED", "n2", "n2", 150, "192.0.2.2");
	tell("MODIFIED", "n2", "n2", 200, "192.0.2.77");
	assert_int_equal(f.n_changed, 1);
	tear_down();
}

static void test_the_podcidr_of_a_new_node_is_asked_for(void **state)
{
	(void)state;
	set_up();
	reach_watch(two, 2);
	tell("ADDED", "n4", "n4", 20, NULL);
	pass_ms(100);
	assert_null(find("GET", "/n4"));
	tell("MODIFIED", "n4", "n4", 21, "192.0.2.4");
	tell("ADDED", "n5", "n5", 22, "192.0.2.5");
	refuse(expect("GET", "/n4"), 500, "500: no");
	assert_string_equal(f.problem, "500: no");
	give(expect("GET", "/n4"), whole("n4", "n4", 21, "10.5.4.0/24", "192.0.2.4"));
	assert_non_null(peers_find(f.peers, "n4"));
	give(expect("GET", "/n5"), whole("n5", "n5", 22, "10.5.5.0/24", "192.0.2.5"));
	assert_string_equal(f.problem, "");
	/* It is known from now on. */
	tell("MODIFIED", "n4", "n4", 23, "192.0.2.44");
	assert_int_equal(peers_find(f.peers, "n4")->public_ip[IP_V4].b[3], 44);
	assert_null(find("GET", "/n4"));
	/* Another node of that name is another. */
	tell("DELETED", "n4", "n4", 24, "192.0.2.44");
	tell("ADDED", "n4", "m4", 25, "192.0.2.4");
	give(expect("GET", "/n4"), whole("n4", "m4", 25, "10.5.40.0/24", "192.0.2.4"));
	assert_int_equal(peers_find(f.peers, "n4")->subnet[IP_V4].ip.b[2], 40);
	/* Also when the end of the one before comes late, or not at all. */
	tell("DELETED", "n4", "n4", 24, "192.0.2.44");
	tell("ADDED", "n5", "m5", 26, "192.0.2.5");
	give(expect("GET", "/n5"), whole("n5", "m5", 26, "10.5.50.0/24", "192.0.2.5"));
	assert_int_equal(peers_find(f.peers, "n5")->subnet[IP_V4].ip.b[2], 50);
	pass_ms(3000);
	assert_non_null(peers_find(f.peers, "n4"));
	tear_down();
}

static void test_a_node_that_goes_while_it_is_asked_for(void **state)
{
	(void)state;
	set_up();
	reach_watch(two, 2);
	tell("ADDED", "n4", "n4", 20, "192.0.2.4");
	tell("ADDED", "n5", "n5", 21, "192.0.2.5");
	(void)expect("GET", "/n4");
	tell("DELETED", "n4", "n4", 22, "192.0.2.4");
	give(expect("GET", "/n5"), whole("n5", "n5", 21, "10.5.5.0/24", "192.0.2.5"));
	assert_null(find("GET", "/n4"));
	/* What is told after the end is not believed. */
	tell("MODIFIED", "n4", "n4", 21, "192.0.2.4");
	refuse(expect("GET", "/n4"), 404, "404");
	assert_null(peers_find(f.peers, "n4"));
	assert_string_equal(f.problem, "");
	tear_down();
}

/* The server's end of it, and ours should the server not keep to that. */
static void test_a_watch_has_an_end(void **state)
{
	static const char name[] = "timeoutSeconds=";
	const struct kube_call *watch;
	const char *at;
	long seconds;

	(void)state;
	set_up();
	reach_watch(two, 2);
	watch = expect("GET", "watch=true");
	at = strstr(watch->path, name);
	assert_non_null(at);
	seconds = strtol(at + strlen(name), NULL, 10);
	assert_in_range(seconds, 300, 600);
	assert_int_equal(watch->request.timeout_ms, (seconds + 30) * 1000);
	assert_true(watch->request.own_connection);
	tear_down();
}

/* A controller gives podCIDRs that are free to the next node that comes. */
static void test_another_node_has_the_podcidr_at_once(void **state)
{
	(void)state;
	set_up();
	reach_watch(two, 2);
	tell("DELETED", "n2", "n2", 20, "192.0.2.2");
	tell("ADDED", "n4", "n4", 21, "192.0.2.4");
	assert_int_equal(f.n_removed, 0);
	give(expect("GET", "/n4"), whole("n4", "n4", 21, "10.5.2.0/24", "192.0.2.4"));
	assert_int_equal(f.n_removed, 1);
	assert_null(peers_find(f.peers, "n2"));
	assert_non_null(peers_find(f.peers, "n4"));
	pass_ms(3000);
	assert_int_equal(f.n_removed, 1);
	tear_down();
}

/* A load balancer's, say. */
static void test_a_404_that_is_not_of_the_api(void **state)
{
	const struct kube_outcome not_found = {.http_status = 404, .why = "404 page not found"};

	(void)state;
	set_up();
	reach_watch(two, 2);
	tell("MODIFIED", "n2", "n2-anew", 20, "192.0.2.2");
	answer(expect("GET", "/n2"), &not_found);
	assert_string_equal(f.problem, "404 page not found");
	pass_ms(3000);
	assert_int_equal(f.n_removed, 0);
	give(expect("GET", "/n2"), whole("n2", "n2-anew", 20, "10.5.2.0/24", "192.0.2.2"));
	assert_string_equal(f.problem, "");
	tear_down();
}

static void test_a_peer_goes_in_a_moment_or_comes_back(void **state)
{
	(void)state;
	set_up();
	reach_watch(two, 2);
	tell("DELETED", "n2", "n2", 20, "192.0.2.2");
	tell("MODIFIED", "n3", "n3", 21, NULL); /* wiped */
	pass_ms(500);
	assert_int_equal(f.n_removed, 0);
	tell("MODIFIED", "n3", "n3", 22, "192.0.2.3");
	pass_ms(1000);
	assert_int_equal(f.n_removed, 1);
	assert_null(peers_find(f.peers, "n2"));
	assert_non_null(peers_find(f.peers, "n3"));
	tear_down();
}

/* -- list and watch -------------------------------------------------------------------- */

static void test_pages(void **state)
{
	static const char *const third[] = {"n4"};

	(void)state;
	set_up();
	give(expect("GET", "/h1"), whole("h1", "u1", 1, "10.5.1.0/24", "192.0.2.1"));
	want();
	page("limit=500", 10, "a+b/c=", items(two, 2));
	/* The token is encoded; a page that fails is asked for again. */
	refuse(expect("GET", "continue=a%2Bb%2Fc%3D"), 500, "500: no");
	assert_int_equal(f.n_synced, 0);
	page("continue=a%2Bb%2Fc%3D", 10, "", items(third, 1));
	assert_int_equal(peers_count(f.peers), 3);
	assert_int_equal(f.n_synced, 1);
	assert_non_null(find("GET", "resourceVersion=10&"));
	tear_down();
}

/* A list that went on with what there is now is watched from its first page on. */
static void test_a_list_that_expires(void **state)
{
	(void)state;
	set_up();
	give(expect("GET", "/h1"), whole("h1", "u1", 1, "10.5.1.0/24", "192.0.2.1"));
	want();
	page("limit=500", 10, "old", items(two, 2));
	answer(expect("GET", "continue=old"),
	       &(struct kube_outcome){
		       .http_status = 410, .why = "410", .expired = true, .next = "new"});
	page("continue=new", 30, "", items(two, 0));
	assert_int_equal(peers_count(f.peers), 2);
	assert_non_null(find("GET", "resourceVersion=10&"));
	tear_down();
}

static void test_the_watch_goes_on_where_it_ended(void **state)
{
	(void)state;
	set_up();
	reach_watch(two, 2);
	feed(expect("GET", "resourceVersion=10&"),
	     "{\"type\":\"BOOKMARK\",\"object\":{\"kind\":\"Node\",\"metadata\":"
	     "{\"resourceVersion\":\"44\"}}}\n");
	/* An end by itself. */
	pass_ms(20000);
	if (find("GET", "/h1"))
		give(expect("GET", "/h1"), whole("h1", "u1", 1, "10.5.1.0/24", "192.0.2.1"));
	answer(expect("GET", "watch=true"), &(struct kube_outcome){.http_status = 200});
	assert_non_null(find("GET", "resourceVersion=44&"));
	(void)watch_begins();
	/* A failure: is it still the same data? */
	refuse(expect("GET", "watch=true"), 0, "connection refused");
	assert_string_equal(f.problem, "keeping what is known; connection refused");
	give(expect("GET", "limit=1"), "{\"metadata\":{\"resourceVersion\":\"50\"},\"items\":[]}");
	(void)watch_begins();
	assert_string_equal(f.problem, "");
	assert_non_null(find("GET", "resourceVersion=44&"));
	assert_int_equal(f.n_changed, 0);
	tear_down();
}

static void test_data_that_is_older_is_doubted(void **state)
{
	(void)state;
	set_up();
	reach_watch(two, 2);
	refuse(expect("GET", "watch=true"), 0, "connection refused");
	give(expect("GET", "limit=1"), "{\"metadata\":{\"resourceVersion\":\"9\"},\"items\":[]}");
	page("limit=500", 9, "", items(two, 1));
	assert_int_equal(peers_count(f.peers), 2);
	/* The second look. */
	page("limit=500", 9, "", items(two, 1));
	assert_int_equal(peers_count(f.peers), 1);
	tear_down();
}

static void test_410_lists_again(void **state)
{
	(void)state;
	for (int as_event = 0; as_event < 2; as_event++) {
		set_up();
		reach_watch(two, 2);
		if (as_event)
			feed(expect("GET", "watch=true"),
			     "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410,"
			     "\"reason\":\"Expired\",\"message\":\"too old\"}}\n");
		else
			refuse(expect("GET", "watch=true"), 410, "410");
		page("limit=500", 60, "", items(two, 2));
		assert_non_null(find("GET", "resourceVersion=60&"));
		assert_int_equal(f.n_changed, 0);
		tear_down();
	}
}

static void test_what_cannot_be_read_twice_is_listed(void **state)
{
	(void)state;
	set_up();
	reach_watch(two, 2);
	feed(expect("GET", "watch=true"), "{]");
	give(expect("GET", "limit=1"), "{\"metadata\":{\"resourceVersion\":\"10\"},\"items\":[]}");
	(void)watch_begins();
	feed(expect("GET", "watch=true"), "{]");
	page("limit=500", 12, "", items(two, 2));
	assert_int_equal(f.n_changed, 0);
	tear_down();
}

static void test_a_silent_watch_is_noticed(void **state)
{
	(void)state;
	set_up();
	reach_watch(two, 2);
	/* It answers, and the watch has told all that there is. */
	give(expect("GET", "/h1"), whole("h1", "u1", 1, "10.5.1.0/24", "192.0.2.1"));
	pass_ms(5000);
	assert_non_null(find("GET", "watch=true"));
	/* Our node has changed since, and the watch does not say so. */
	give(expect("GET", "/h1"), whole("h1", "u1", 99, "10.5.1.0/24", "192.0.2.1"));
	page("limit=500", 100, "", items(two, 2));
	(void)watch_begins();
	/* No answer at all. */
	refuse(expect("GET", "/h1"), 0, "no answer within 10 s");
	assert_non_null(strstr(f.problem, "no answer within"));
	(void)expect("GET", "limit=1");
	tear_down();
}

/* -- the config ------------------------------------------------------------------------ */

static void test_the_config_changes(void **state)
{
	char there[160], link[160];

	(void)state;
	set_up();
	reach_watch(two, 2);
	assert_int_equal(unlink(f.path), 0);
	WAIT_MS(5000, strstr(f.problem, "keeping the last good network config"));
	write_config(CONFIG);
	WAIT_MS(5000, !*f.problem);
	assert_int_equal(f.n_config, 1);
	/* As the kubelet does it. */
	(void)snprintf(there, sizeof(there), "%s/real", f.dir);
	(void)snprintf(link, sizeof(link), "%s/link", f.dir);
	{
		FILE *file = fopen(there, "w");

		assert_non_null(file);
		assert_true(fputs("{\"Network\":\"10.6.0.0/16\"}", file) >= 0);
		assert_int_equal(fclose(file), 0);
	}
	assert_int_equal(symlink("real", link), 0);
	assert_int_equal(rename(link, f.path), 0);
	WAIT_MS(5000, f.n_config == 2);
	assert_string_equal(f.config, "{\"Network\":\"10.6.0.0/16\"}");
	assert_int_equal(unlink(there), 0);
	tear_down();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_config_waits_for_our_node),
		cmocka_unit_test(test_a_patch_that_fails_is_tried_again),
		cmocka_unit_test(test_a_fight_is_slow),
		cmocka_unit_test(test_our_node_is_made_anew),
		cmocka_unit_test(test_heartbeats_are_nothing),
		cmocka_unit_test(test_the_podcidr_of_a_new_node_is_asked_for),
		cmocka_unit_test(test_a_node_that_goes_while_it_is_asked_for),
		cmocka_unit_test(test_a_watch_has_an_end),
		cmocka_unit_test(test_another_node_has_the_podcidr_at_once),
		cmocka_unit_test(test_a_404_that_is_not_of_the_api),
		cmocka_unit_test(test_a_peer_goes_in_a_moment_or_comes_back),
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_a_list_that_expires),
		cmocka_unit_test(test_the_watch_goes_on_where_it_ended),
		cmocka_unit_test(test_data_that_is_older_is_doubted),
		cmocka_unit_test(test_410_lists_again),
		cmocka_unit_test(test_what_cannot_be_read_twice_is_listed),
		cmocka_unit_test(test_a_silent_watch_is_noticed),
		cmocka_unit_test(test_the_config_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
