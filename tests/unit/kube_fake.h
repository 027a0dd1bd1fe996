/* SPDX-License-Identifier: Apache-2.0 */
/* kube_fake.h - the Kubernetes store with a false API, a false clock, and an owner
 *
 * Calls are taken down instead of being sent; the test answers those that it expects.
 */
#pragma once

#include "false_clock.h"
#include "messages.h"
#include "store/kube_internal.h"

#include <errno.h>
#include <event2/event.h>
#include <stdio.h>
#include <sys/stat.h>

#define PREFIX      "flannel.alpha.coreos.com/"
#define PREFIX_TYPE "\"" PREFIX "backend-type\":\"host-gw\","
#define CONFIG      "{\"Network\":\"10.5.0.0/16\"}"

/* -- the API --------------------------------------------------------------------------- */

#define CALLS 8

struct kube_call {
	bool open;
	bool is_new; /* for the test to take back */
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
	*call = (struct kube_call){.open = true, .is_new = true, .request = *request};
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

static inline void on_changed(const char *key, const struct lease *before,
			      const struct lease *after, void *userdata)
{
	(void)key;
	(void)before;
	(void)userdata;
	f.n_changed++;
	f.n_removed += !after;
}

static inline void on_config(const char *text, size_t len, const char *place, void *userdata)
{
	(void)userdata;
	assert_int_equal(text[len], '\0');
	assert_string_equal(place, f.path);
	f.n_config++;
	(void)snprintf(f.config, sizeof(f.config), "%s", text);
}

static inline void on_own(const struct lease *own, void *userdata)
{
	(void)userdata;
	f.n_own++;
	lease_format_key(own->subnet, f.own);
}

static inline void on_synced(void *userdata)
{
	(void)userdata;
	f.n_synced++;
}

static inline void on_state(const char *problem, void *userdata)
{
	(void)userdata;
	(void)snprintf(f.problem, sizeof(f.problem), "%s", problem ? problem : "");
}

static inline void on_public_ip(const struct ip public_ip[IP_FAMILY_COUNT], void *userdata)
{
	(void)userdata;
	assert_true(f.n_config || !f.n_own);
	if (ip_is_set(&public_ip[IP_V4]))
		ip_format(&public_ip[IP_V4], f.public_ip);
	else
		*f.public_ip = '\0';
}

/* -- rounds ---------------------------------------------------------------------------- */

static inline void turn(void)
{
	(void)event_base_loop(loop_base(f.loop), EVLOOP_NONBLOCK);
	false_now_ms += 10;
}

#include "wait.h"

static inline void pass_ms(int64_t ms)
{
	for (int64_t until = false_now_ms + ms; false_now_ms < until;)
		turn();
}

/* The open call whose path has @part in it; NULL: there is none. */
static inline struct kube_call *find(const char *method, const char *part)
{
	for (struct kube_call *call = calls; call < calls + CALLS; call++)
		if (call->open && !strcmp(call->method, method) && strstr(call->path, part))
			return call;
	return NULL;
}

static inline struct kube_call *expect(const char *method, const char *part)
{
	struct kube_call *call;

	WAIT_MS(90000, (call = find(method, part)) != NULL);
	return call;
}

static inline void answer(struct kube_call *call, const struct kube_outcome *outcome)
{
	const struct kube_request request = call->request;

	call->open = false;
	request.done(outcome, request.userdata);
}

static inline void give(struct kube_call *call, const char *body)
{
	answer(call, &(struct kube_outcome){.http_status = 200, .body = {body, strlen(body)}});
}

static inline void refuse(struct kube_call *call, int code, const char *why)
{
	answer(call, &(struct kube_outcome){.http_status = code,
					    .why = why,
					    .absent = code == 404,
					    .expired = code == 410});
}

static inline void feed(struct kube_call *call, const char *text)
{
	assert_true(call->open);
	call->request.piece(text, strlen(text), call->request.userdata);
}

/* -- beginning and end ----------------------------------------------------------------- */

static inline void write_config(const char *text)
{
	FILE *file = fopen(f.path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static inline void set_up(void)
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

static inline void tear_down(void)
{
	f.store->ops->free(f.store);
	for (const struct kube_call *call = calls; call < calls + CALLS; call++)
		assert_false(call->open);
	peers_free(f.peers);
	loop_free(f.loop);
	(void)unlink(f.path);
	assert_int_equal(rmdir(f.dir), 0);
}

static inline void want(void)
{
	struct lease attrs = {.public_ip[IP_V4] = messages_ip("192.0.2.1"),
			      .backend_type = "host-gw"};
	struct netconf conf;
	const struct store_request request = {.conf = &conf, .attrs = &attrs};

	assert_int_equal(netconf_parse(CONFIG, strlen(CONFIG), "c", &conf, NULL), 0);
	f.store->ops->acquire(f.store, &request);
	netconf_done(&conf);
}
