/* SPDX-License-Identifier: Apache-2.0 */
/* test_kube_model.c - the Kubernetes store against a cluster in which anything happens at any time
 *
 * Nodes come, go, come back as others, get and lose annotations and podCIDRs, while answers are
 * late, the watch lags, ends, breaks or has lost its history, calls fail, and a backup is restored.
 * Then the cluster is left alone, and in a while the store must be of its opinion, and keep still.
 * Each case is a seed, and the same each time.
 */
#include "kube_fake.h"

#define NODES      8 /* the first one is ours */
#define SEEDS      60
#define HISTORY    4096
#define TEXT_MAX   1024
#define ROUNDS     2000
#define SETTLED_MS 150000 /* two lists, and the waits after failures */
#define QUIET_MS   60000

struct object {
	bool present, managed, condition;
	unsigned uid, version, cidr, ip; /* 0: none */
};

struct event_told {
	const char *type;
	unsigned n;
	struct object object;
};

/* What a call is answered is decided when it arrives, and told later. */
struct reply {
	struct kube_call *call; /* NULL: none */
	int code;               /* 0: it is a watch */
	int64_t due_ms;
	size_t told; /* a watch: events */
	bool begun;
	char body[NODES * TEXT_MAX];
};

static struct cluster {
	struct object node[NODES];
	unsigned version, uid;
	unsigned compacted; /* the history up to this version is gone */
	struct event_told history[HISTORY];
	size_t n_history;
	struct reply reply[CALLS];
	bool whole;   /* the watch tells whole nodes */
	bool trouble; /* of every kind */
	bool frozen;  /* nothing changes by itself */
	bool asked;   /* the owner has, for a lease */
} cluster, backup;

static uint64_t seed; /* of the cluster and of the store's own jitter */

static unsigned any(unsigned n)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(seed >> 33) % n;
}

static bool one_in(unsigned n)
{
	return any(n) == 0;
}

/* In the C library's place, for jitter. */
ssize_t false_random(void *buf, size_t len, unsigned flags) __asm__("getrandom");
ssize_t false_random(void *buf, size_t len, unsigned flags)
{
	(void)flags;
	for (size_t i = 0; i < len; i++)
		((uint8_t *)buf)[i] = (uint8_t)any(256);
	return (ssize_t)len;
}

/* -- the cluster ----------------------------------------------------------------------- */

static void note(const char *type, unsigned n)
{
	assert_true(cluster.n_history < HISTORY);
	cluster.node[n].version = ++cluster.version;
	cluster.history[cluster.n_history++] = (struct event_told){type, n, cluster.node[n]};
}

static void add(unsigned n, unsigned cidr)
{
	cluster.node[n] = (struct object){.present = true, .uid = ++cluster.uid, .cidr = cidr};
	note("ADDED", n);
}

static unsigned any_cidr(unsigned n)
{
	return 10 * n + 1 + any(9);
}

static void change(void)
{
	const unsigned n = any(NODES);
	struct object *object = &cluster.node[n];

	if (!object->present) {
		add(n, one_in(3) ? 0 : any_cidr(n));
		return;
	}
	switch (any(6)) {
	case 0:
		object->present = false;
		note("DELETED", n);
		return;
	case 1:
		object->cidr = object->cidr ? object->cidr : any_cidr(n);
		break;
	case 2:
		object->managed = n || object->managed;
		object->ip = n ? 10 * n + any(9) : object->ip;
		break;
	case 3:
		object->managed = false;
		break;
	case 4:
		object->condition = false;
		break;
	case 5: /* a heartbeat */
		break;
	}
	note("MODIFIED", n);
}

static int format(const struct object *object, unsigned n, bool partial, char *buf)
{
	int len = snprintf(buf, TEXT_MAX,
			   "{\"kind\":\"%s\",\"metadata\":{\"name\":\"h%u\",\"uid\":\"u%u\","
			   "\"resourceVersion\":\"%u\",\"annotations\":{",
			   partial ? "PartialObjectMetadata" : "Node", n + 1, object->uid,
			   object->version);

	if (object->managed)
		len += snprintf(buf + len, TEXT_MAX - (size_t)len,
				PREFIX_TYPE "\"" PREFIX "kube-subnet-manager\":\"true\","
					    "\"" PREFIX "backend-data\":\"null\","
					    "\"" PREFIX "public-ip\":\"192.0.2.%u\"",
				object->ip);
	len += snprintf(buf + len, TEXT_MAX - (size_t)len, "}}");
	if (!partial && object->cidr)
		len += snprintf(buf + len, TEXT_MAX - (size_t)len,
				",\"spec\":{\"podCIDRs\":[\"10.5.%u.0/24\"]}", object->cidr);
	else if (!partial)
		len += snprintf(buf + len, TEXT_MAX - (size_t)len, ",\"spec\":{}");
	if (!partial && object->condition)
		len += snprintf(buf + len, TEXT_MAX - (size_t)len,
				",\"status\":{\"conditions\":[{\"type\":\"NetworkUnavailable\","
				"\"status\":\"False\",\"reason\":\"FlannelIsUp\","
				"\"message\":\"Flannel is running on this node\"}]}");
	return len + snprintf(buf + len, TEXT_MAX - (size_t)len, "}");
}

/* -- its API --------------------------------------------------------------------------- */

static void list(struct reply *reply)
{
	int len = snprintf(reply->body, sizeof(reply->body),
			   "{\"kind\":\"NodeList\",\"metadata\":{\"resourceVersion\":\"%u\"},"
			   "\"items\":[",
			   cluster.version);
	bool comma = false;

	for (unsigned n = 0; n < NODES; n++) {
		if (!cluster.node[n].present)
			continue;
		if (comma)
			reply->body[len++] = ',';
		len += format(&cluster.node[n], n, false, reply->body + len);
		comma = true;
	}
	(void)stpcpy(reply->body + len, "]}");
}

static void patch(struct object *object, const char *body)
{
	if (strstr(body, PREFIX)) {
		object->managed = true;
		object->ip = 1;
	}
	if (strstr(body, "NetworkUnavailable"))
		object->condition = true;
	note("MODIFIED", 0);
}

static void decide(struct reply *reply)
{
	const struct kube_call *call = reply->call;
	const char *name = strstr(call->path, "/nodes/h"), *from;
	unsigned n;

	reply->due_ms = false_now_ms + (cluster.trouble ? any(4) * any(60) : 0);
	reply->code = 200;
	if (name) {
		n = (unsigned)atoi(name + strlen("/nodes/h")) - 1;
		if (!cluster.node[n].present)
			reply->code = 404;
		else if (!strcmp(call->method, "PATCH"))
			patch(&cluster.node[n], call->body);
		(void)format(&cluster.node[n], n, false, reply->body);
	} else if (strstr(call->path, "watch=true")) {
		from = strstr(call->path, "resourceVersion=");
		n = (unsigned)atoi(from + strlen("resourceVersion="));
		reply->code = n < cluster.compacted ? 410 : 0;
		while (reply->told < cluster.n_history &&
		       cluster.history[reply->told].object.version <= n)
			reply->told++;
	} else {
		list(reply);
	}
	/* Also of what was done. */
	if (reply->code == 200 && cluster.trouble && one_in(40))
		reply->code = 500;
}

static void serve_watch(struct reply *reply)
{
	struct kube_call *call = reply->call;
	const struct event_told *told = &cluster.history[reply->told];
	char object[TEXT_MAX], event[TEXT_MAX + 64];

	if (!reply->begun) {
		reply->begun = true;
		call->request.begun(call->request.userdata);
	} else if (cluster.trouble && one_in(400)) {
		refuse(call, 0, "reset");
	} else if (cluster.trouble && one_in(600)) {
		answer(call, &(struct kube_outcome){.http_status = 200});
	} else if (cluster.trouble && one_in(600)) {
		cluster.compacted = cluster.version;
		feed(call, "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"code\":410}}");
	} else if (reply->told < cluster.n_history && (!cluster.trouble || one_in(4))) {
		reply->told++;
		(void)format(&told->object, told->n, !cluster.whole, object);
		(void)snprintf(event, sizeof(event), "{\"type\":\"%s\",\"object\":%s}\n",
			       told->type, object);
		feed(call, event);
	}
}

static void serve_one(struct reply *reply)
{
	struct kube_call *call = reply->call;
	struct reply now = *reply; /* the call's place may be taken by the next one */

	if (!reply->code) {
		serve_watch(reply);
	} else if (reply->code != 200) {
		refuse(call, reply->code, "no");
	} else if (call->request.piece) {
		feed(call, now.body);
		answer(call, &(struct kube_outcome){.http_status = 200});
	} else {
		give(call, now.body);
	}
}

static void serve(void)
{
	for (size_t i = 0; i < CALLS; i++) {
		struct reply *reply = &cluster.reply[i];

		if (!calls[i].open || calls[i].is_new) {
			*reply = (struct reply){.call = &calls[i]};
			calls[i].is_new = false;
			if (calls[i].open)
				decide(reply);
		}
		if (calls[i].open && reply->due_ms <= false_now_ms)
			serve_one(reply);
	}
}

/* -- what must be ---------------------------------------------------------------------- */

static bool is_peer_right(unsigned n)
{
	const struct object *object = &cluster.node[n];
	const struct lease *lease;
	char name[8];

	(void)snprintf(name, sizeof(name), "h%u", n + 1);
	lease = peers_find(f.peers, name);
	if (!object->present || !object->managed || !object->cidr)
		return !lease;
	return lease && lease->subnet[IP_V4].ip.b[2] == object->cidr &&
	       lease->public_ip[IP_V4].b[3] == object->ip;
}

static bool is_right(void)
{
	const struct object *own = &cluster.node[0];
	char key[LEASE_KEY_MAX];

	for (unsigned n = 1; n < NODES; n++)
		if (!is_peer_right(n))
			return false;
	(void)snprintf(key, sizeof(key), "10.5.%u.0-24", own->cidr);
	return !strcmp(f.own, key) && own->managed && own->ip == 1 &&
	       own->condition == f.settings.set_network_unavailable && !*f.problem;
}

static bool has_watch(void)
{
	for (size_t i = 0; i < CALLS; i++)
		if (calls[i].open && !calls[i].is_new && cluster.reply[i].begun)
			return true;
	return false;
}

/* All is as it was then. What would be written until that is noticed could not be told from
 * what was, so nobody else does. */
static void restore(void)
{
	memcpy(cluster.node, backup.node, sizeof(cluster.node));
	cluster.version = backup.version;
	cluster.compacted = backup.compacted;
	cluster.n_history = backup.n_history;
	cluster.frozen = true;
	for (size_t i = 0; i < CALLS; i++)
		if (calls[i].open) {
			cluster.reply[i].begun = calls[i].is_new = false;
			refuse(&calls[i], 0, "reset");
		}
}

static void meddle(void)
{
	if (one_in(150))
		backup = cluster;
	if (!has_watch())
		return;
	cluster.frozen = false;
	if (backup.version && cluster.version > backup.version + 12 && one_in(150))
		restore();
}

static void go_on(void)
{
	serve();
	turn();
	if (f.n_config && !cluster.asked) {
		cluster.asked = true;
		want();
	}
}

static void run_seed(unsigned number)
{
	unsigned version;
	int64_t end_ms;

	seed = number;
	memset(&cluster, 0, sizeof(cluster));
	memset(&backup, 0, sizeof(backup));
	cluster.trouble = true;
	cluster.whole = one_in(4);
	set_up();
	f.settings.set_network_unavailable = one_in(2);
	for (unsigned i = 0; i < ROUNDS; i++) {
		meddle();
		if (!cluster.frozen && one_in(12))
			change();
		go_on();
	}
	cluster.trouble = false;
	if (!cluster.node[0].present)
		add(0, 5);
	cluster.node[0].cidr = cluster.node[0].cidr ? cluster.node[0].cidr : 5;
	cluster.node[0].condition &= f.settings.set_network_unavailable;
	note("MODIFIED", 0);
	for (end_ms = false_now_ms + SETTLED_MS; !is_right() && false_now_ms < end_ms;)
		go_on();
	/* Also late changes are nothing but right. */
	for (end_ms = false_now_ms + QUIET_MS; false_now_ms < end_ms;)
		go_on();
	version = cluster.version;
	for (end_ms = false_now_ms + QUIET_MS; false_now_ms < end_ms;)
		go_on();
	if (!is_right() || cluster.version != version)
		fail_msg("seed %u: %s, %u patches", number, is_right() ? "right" : "wrong",
			 cluster.version - version);
	tear_down();
}

static void test_any_cluster(void **state)
{
	(void)state;
	for (unsigned number = 1; number <= SEEDS; number++)
		run_seed(number);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_any_cluster)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
