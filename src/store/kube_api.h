/* SPDX-License-Identifier: Apache-2.0 */
/* kube_api.h - requests to the Kubernetes API: credentials, retries, words for failures
 *
 * HTTP/1.1, as a watch needs a connection of its own anyway; the others share one that is
 * kept. Credentials are read anew when their files change, and on 401.
 */
#pragma once

#include "io/loop.h"
#include "store/kube_json.h"
#include "store/kubeconfig.h"

struct kube_api;
struct kube_call;

/* Takes over @access. 0 or an error for the person who gave the flags: what can be checked
 * without the network (files readable, URL sound, exec program there). */
int kube_api_new(struct loop *loop, struct kube_access *access, struct kube_api **ret_api,
		 struct err *err);
void kube_api_free(struct kube_api *api);
/* "https://10.96.0.1:443 (the pod's environment)" */
const char *kube_api_describe(const struct kube_api *api);

#define KUBE_ACCEPT_JSON "application/json"
#define KUBE_ACCEPT_PARTIAL                                                                        \
	"application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
#define KUBE_STRATEGIC_MERGE "application/strategic-merge-patch+json"

struct kube_outcome {
	int http_status;  /* 0: no answer; of one that was cut short, its status all the same */
	const char *why;  /* NULL: success (2xx, complete); otherwise in words with what to do:
			     for 403 the RBAC rule that is missing */
	unsigned wait_ms; /* not before: Retry-After; 0: not given */
	bool absent;      /* 404, by Kubernetes' own word: there is no such object */
	bool expired;     /* 410, of whichever form: list anew */
	const char *next; /* metadata.continue to go on with, of an expired list; NULL: none */
	struct json_slice body; /* when no stream was asked for */
};

struct kube_request {
	const char *method, *path; /* "/api/v1/nodes?limit=500", percent-encoded */
	const char *accept;
	const char *content_type, *body; /* of a PATCH */
	unsigned timeout_ms;             /* for all of it */
	unsigned silence_ms;             /* 0: none; otherwise longest time without a byte */
	bool own_connection;             /* a watch */
	/* Called when a 2xx begins: a watch stands, long before its first event. NULL: not of
	 * interest. Must not cancel the call. */
	void (*begun)(void *userdata);
	/* Called with each piece of a 2xx body; NULL: it is collected. */
	void (*piece)(const char *data, size_t len, void *userdata);
	/* Called once, from the loop; the handle is void. */
	void (*done)(const struct kube_outcome *outcome, void *userdata);
	void *userdata;
};
/* 401 is answered with credentials read anew and one more try, a kept connection that turns
 * out closed with a new one; everything else is the caller's to repeat. */
struct kube_call *kube_call_new(struct kube_api *api, const struct kube_request *request);
void kube_call_cancel(struct kube_call *call);
