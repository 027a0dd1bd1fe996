/* SPDX-License-Identifier: Apache-2.0 */
/* test_kube.c - the Kubernetes store against an API that does what the test says */
#include "kube_fake.h"

#include <sys/param.h>

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
	give(expect("GET", "/h1"), whole("h1", "u", 1, "10.5.1.0/240", NULL));
	assert_string_equal(f.problem, "node h1: podCIDR \"10.5.1.0/240\" is not a subnet");
	give(expect("GET", "/h1"), whole("h2", "u", 1, "10.5.2.0/24", NULL));
	assert_non_null(strstr(f.problem, "is it a Kubernetes API?"));
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

/* Again and again, and each time it is new: nobody undoes what we write. */
static void test_our_node_flaps(void **state)
{
	(void)state;
	set_up();
	reach_watch(two, 2);
	for (unsigned i = 0; i < 10; i++) {
		const unsigned version = 20 + 10 * i;
		char uid[8];

		(void)snprintf(uid, sizeof(uid), "m%u", i);
		tell("ADDED", "h1", uid, version, NULL);
		assert_null(strstr(f.problem, "podCIDR")); /* it was not read yet */
		give(expect("GET", "/h1"), whole("h1", uid, version, "10.5.1.0/24", NULL));
		assert_non_null(find("PATCH", "/h1/status"));
		give(expect("PATCH", "/h1/status"),
		     whole("h1", uid, version + 1, "10.5.1.0/24", "192.0.2.1"));
		tell("DELETED", "h1", uid, version + 2, "192.0.2.1");
	}
	assert_null(strstr(f.problem, "again and again"));
	tear_down();
}

/* Of our node, too: what is wiped while our patch is answered is seen. */
static void test_an_answer_of_ours_that_the_watch_has_overtaken(void **state)
{
	struct kube_call *call;

	(void)state;
	set_up();
	reach_watch(two, 2);
	tell("MODIFIED", "h1", "u1", 20, NULL);
	call = expect("PATCH", "/h1/status");
	tell("MODIFIED", "h1", "u1", 21, "192.0.2.1");
	tell("MODIFIED", "h1", "u1", 22, NULL);
	give(call, whole("h1", "u1", 21, "10.5.1.0/24", "192.0.2.1"));
	give(expect("GET", "/h1"), whole("h1", "u1", 22, "10.5.1.0/24", NULL));
	give(expect("PATCH", "/h1/status"), whole("h1", "u1", 23, "10.5.1.0/24", "192.0.2.1"));
	tell("MODIFIED", "h1", "u1", 23, "192.0.2.1");
	pass_ms(10000);
	assert_null(find("GET", "/h1"));
	assert_null(find("PATCH", "/h1"));
	tear_down();
}

/* An answer says more than the watch's word of the same change. */
static void test_our_patch_is_not_read_once_more(void **state)
{
	struct kube_call *call;

	(void)state;
	set_up();
	f.settings.set_network_unavailable = true;
	give(expect("GET", "/h1"), whole("h1", "u1", 1, "10.5.1.0/24", NULL));
	want();
	f.store->ops->up(f.store);
	page("limit=500", 10, "", items(two, 2));
	(void)watch_begins();
	call = expect("PATCH", "/h1/status");
	tell("MODIFIED", "h1", "u1", 11, "192.0.2.1");
	give(call, "{\"kind\":\"Node\",\"metadata\":{\"name\":\"h1\",\"uid\":\"u1\","
		   "\"resourceVersion\":\"11\",\"annotations\":{" PREFIX_TYPE "\"" PREFIX
		   "kube-subnet-manager\":\"true\","
		   "\"" PREFIX "backend-data\":\"null\",\"" PREFIX "public-ip\":\"192.0.2.1\"}},"
		   "\"spec\":{\"podCIDR\":\"10.5.1.0/24\"},\"status\":{\"conditions\":["
		   "{\"type\":\"NetworkUnavailable\",\"status\":\"False\","
		   "\"reason\":\"FlannelIsUp\","
		   "\"message\":\"Flannel is running on this node\"}]}}");
	pass_ms(5000);
	assert_null(find("GET", "/h1"));
	tear_down();
}

/* Schedulers take the condition's word that pods may come. */
static void test_the_condition_waits_for_the_data_path(void **state)
{
	struct kube_call *call;

	(void)state;
	set_up();
	f.settings.set_network_unavailable = true;
	give(expect("GET", "/h1"), whole("h1", "u1", 1, "10.5.1.0/24", NULL));
	want();
	page("limit=500", 10, "", items(two, 2));
	(void)watch_begins();
	call = expect("PATCH", "/h1/status");
	assert_null(strstr(call->body, "NetworkUnavailable"));
	give(call, whole("h1", "u1", 11, "10.5.1.0/24", "192.0.2.1"));
	pass_ms(5000);
	assert_null(find("PATCH", "/h1"));
	f.store->ops->up(f.store);
	call = expect("PATCH", "/h1/status");
	assert_non_null(strstr(call->body, "\"FlannelIsUp\""));
	assert_null(strstr(call->body, "public-ip"));
	refuse(call, 0, "reset");
	f.store->ops->up(f.store);
	tear_down();
}

/* What is told after the end is not believed. */
static void test_our_node_stays_deleted(void **state)
{
	(void)state;
	set_up();
	reach_watch(two, 2);
	tell("DELETED", "h1", "u1", 20, "192.0.2.1");
	tell("MODIFIED", "h1", "u1", 19, "192.0.2.1");
	assert_non_null(strstr(f.problem, "deleted; keeping its subnet"));
	for (int i = 0; i < 7; i++)
		refuse(expect("GET", "/h1"), 404, "404");
	assert_non_null(strstr(f.problem, "keeping its subnet"));
	/* It need not be looked for when the watch says that it is there. */
	tell("ADDED", "h1", "u9", 21, NULL);
	pass_ms(1100);
	assert_non_null(find("GET", "/h1"));
	give(expect("GET", "/h1"), whole("h1", "u9", 21, "10.5.9.0/24", NULL));
	assert_string_equal(f.own, "10.5.9.0-24");
	tear_down();
}

/* What was in the way is told no longer than it was. */
static void test_a_problem_goes_when_the_api_answers(void **state)
{
	(void)state;
	set_up();
	assert_int_equal(unlink(f.path), 0);
	refuse(expect("GET", "/h1"), 0, "connection refused");
	pass_ms(100);
	assert_string_equal(f.problem, "connection refused");
	give(expect("GET", "/h1"), whole("h1", "u1", 1, "10.5.1.0/24", NULL));
	assert_non_null(strstr(f.problem, "keeping the last good network config"));
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

/* Heartbeats do not bring back what was wiped. */
static void test_a_wiped_node_goes_whatever_is_told_of_it_after(void **state)
{
	(void)state;
	set_up();
	reach_watch(two, 2);
	tell("MODIFIED", "n3", "n3", 21, NULL);
	tell("MODIFIED", "n3", "n3", 22, NULL);
	pass_ms(1500);
	assert_null(peers_find(f.peers, "n3"));
	assert_non_null(peers_find(f.peers, "n2"));
	tear_down();
}

/* Nor does a list that says the same once more, which is what it was asked for. */
static void test_nodes_that_are_not_flannels_any_more_go_with_the_second_list(void **state)
{
	char text[2048];

	(void)state;
	set_up();
	reach_watch(two, 2);
	refuse(expect("GET", "watch=true"), 410, "410");
	(void)snprintf(text, sizeof(text), "%s,%s", items(two, 0),
		       node_text("", "n2", "n2", 20, "10.5.2.0/24", NULL));
	(void)snprintf(text + strlen(text), sizeof(text) - strlen(text), ",%s",
		       node_text("", "n3", "n3", 21, "10.5.3.0/24", NULL));
	page("limit=500", 60, "", text);
	assert_int_equal(peers_count(f.peers), 2);
	(void)watch_begins();
	page("limit=500", 61, "", text);
	assert_int_equal(peers_count(f.peers), 0);
	tear_down();
}

/* The watch may be faster than an answer, and what it tells lacks the podCIDR. */
static void test_an_answer_that_the_watch_has_overtaken(void **state)
{
	struct kube_call *call;

	(void)state;
	set_up();
	reach_watch(two, 2);
	tell("ADDED", "n4", "n4", 20, "192.0.2.4");
	call = expect("GET", "/n4?resourceVersion=20");
	tell("MODIFIED", "n4", "n4", 22, "192.0.2.44");
	give(call, whole("n4", "n4", 21, "10.5.4.0/24", "192.0.2.4"));
	give(expect("GET", "/n4?resourceVersion=22"),
	     whole("n4", "n4", 22, "10.5.4.0/24", "192.0.2.44"));
	assert_int_equal(peers_find(f.peers, "n4")->public_ip[IP_V4].b[3], 44);
	assert_null(find("GET", "/n4"));
	/* What is older without that is the truth: a backup was restored. */
	tell("ADDED", "n5", "n5", 40, "192.0.2.5");
	give(expect("GET", "/n5"), whole("n5", "n5", 30, "10.5.5.0/24", "192.0.2.55"));
	assert_int_equal(peers_find(f.peers, "n5")->public_ip[IP_V4].b[3], 55);
	pass_ms(1000);
	assert_null(find("GET", "/n5"));
	tear_down();
}

/* A backup from before a podCIDR was assigned: the next one may be another. */
static void test_a_podcidr_that_was_never_given(void **state)
{
	char text[2048];

	(void)state;
	set_up();
	reach_watch(two, 2);
	refuse(expect("GET", "watch=true"), 0, "connection refused");
	give(expect("GET", "limit=1"), "{\"metadata\":{\"resourceVersion\":\"9\"},\"items\":[]}");
	(void)snprintf(text, sizeof(text), "%s,", items(two, 1));
	(void)snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s",
		       node_text("", "n3", "n3", 2, "10.5.33.0/24", "192.0.2.3"));
	page("limit=500", 9, "", text);
	assert_int_equal(peers_find(f.peers, "n3")->subnet[IP_V4].ip.b[2], 33);
	assert_int_equal(peers_find(f.peers, "n2")->subnet[IP_V4].ip.b[2], 2);
	tear_down();
}

/* 5,000 hosts hear of a new node, and do not ask at once. */
static void test_many_hosts_ask_one_after_the_other(void **state)
{
	int64_t took_ms[2] = {INT64_MAX, 0};

	(void)state;
	set_up();
	reach_watch(two, 2);
	for (unsigned i = 0; i < 5000; i++) {
		struct lease lease = {.subnet[IP_V4] = messages_net("10.9.9.0/24"),
				      .public_ip[IP_V4] = messages_ip("192.0.2.99")};
		char name[16];

		(void)snprintf(name, sizeof(name), "m%u", i);
		peers_put(f.peers, name, &lease);
	}
	for (unsigned i = 0; i < 20; i++) {
		const int64_t begin_ms = false_now_ms;

		tell("ADDED", "n4", "n4", 20 + 2 * i, "192.0.2.4");
		refuse(expect("GET", "/n4"), 404, "404");
		took_ms[0] = MIN(took_ms[0], false_now_ms - begin_ms);
		took_ms[1] = MAX(took_ms[1], false_now_ms - begin_ms);
	}
	assert_in_range(took_ms[0], 0, 300);
	assert_in_range(took_ms[1], 500, 1100);
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

/* Also when only an answer was newer. */
static void test_data_that_is_older_than_an_answer_is_doubted(void **state)
{
	(void)state;
	set_up();
	reach_watch(two, 2);
	tell("MODIFIED", "h1", "u1", 11, NULL);
	give(expect("PATCH", "/h1/status"), whole("h1", "u1", 20, "10.5.1.0/24", "192.0.2.1"));
	refuse(expect("GET", "watch=true"), 0, "connection refused");
	give(expect("GET", "limit=1"), "{\"metadata\":{\"resourceVersion\":\"15\"},\"items\":[]}");
	page("limit=500", 15, "", items(two, 2));
	(void)watch_begins();
	/* And is what there is from then on. */
	refuse(expect("GET", "watch=true"), 0, "connection refused");
	give(expect("GET", "limit=1"), "{\"metadata\":{\"resourceVersion\":\"15\"},\"items\":[]}");
	(void)watch_begins();
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

/* As of a Retry-After in an answer's head. */
static void test_a_wait_in_the_watch_is_bounded(void **state)
{
	(void)state;
	set_up();
	reach_watch(two, 2);
	feed(expect("GET", "watch=true"),
	     "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":503,"
	     "\"details\":{\"retryAfterSeconds\":3600}}}\n");
	pass_ms(119000);
	assert_null(find("GET", "limit=1"));
	(void)expect("GET", "limit=1");
	tear_down();
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
		cmocka_unit_test(test_our_node_flaps),
		cmocka_unit_test(test_an_answer_of_ours_that_the_watch_has_overtaken),
		cmocka_unit_test(test_our_patch_is_not_read_once_more),
		cmocka_unit_test(test_the_condition_waits_for_the_data_path),
		cmocka_unit_test(test_our_node_stays_deleted),
		cmocka_unit_test(test_a_problem_goes_when_the_api_answers),
		cmocka_unit_test(test_heartbeats_are_nothing),
		cmocka_unit_test(test_the_podcidr_of_a_new_node_is_asked_for),
		cmocka_unit_test(test_a_node_that_goes_while_it_is_asked_for),
		cmocka_unit_test(test_a_watch_has_an_end),
		cmocka_unit_test(test_another_node_has_the_podcidr_at_once),
		cmocka_unit_test(test_a_404_that_is_not_of_the_api),
		cmocka_unit_test(test_a_peer_goes_in_a_moment_or_comes_back),
		cmocka_unit_test(test_a_wiped_node_goes_whatever_is_told_of_it_after),
		cmocka_unit_test(test_nodes_that_are_not_flannels_any_more_go_with_the_second_list),
		cmocka_unit_test(test_an_answer_that_the_watch_has_overtaken),
		cmocka_unit_test(test_a_podcidr_that_was_never_given),
		cmocka_unit_test(test_many_hosts_ask_one_after_the_other),
		cmocka_unit_test(test_pages),
		cmocka_unit_test(test_a_list_that_expires),
		cmocka_unit_test(test_the_watch_goes_on_where_it_ended),
		cmocka_unit_test(test_data_that_is_older_is_doubted),
		cmocka_unit_test(test_data_that_is_older_than_an_answer_is_doubted),
		cmocka_unit_test(test_410_lists_again),
		cmocka_unit_test(test_a_wait_in_the_watch_is_bounded),
		cmocka_unit_test(test_what_cannot_be_read_twice_is_listed),
		cmocka_unit_test(test_a_silent_watch_is_noticed),
		cmocka_unit_test(test_the_config_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
