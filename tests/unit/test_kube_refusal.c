/* SPDX-License-Identifier: Apache-2.0 */
/* test_kube_refusal.c - what the Kubernetes API's refusals are told as */
#include "store/kube_refusal.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define STATUS(code, reason, message)                                                              \
	"{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\"status\":\"Failure\","       \
	"\"message\":\"" message "\",\"reason\":\"" reason "\",\"details\":{},\"code\":" #code "}"
#define FORBIDDEN(name, verb, resource)                                                            \
	STATUS(403, "Forbidden",                                                                   \
	       name " is forbidden: User \\\"system:serviceaccount:kube-flannel:flannel\\\" "      \
		    "cannot " verb " resource \\\"" resource                                       \
		    "\\\" in API group \\\"\\\" at the cluster scope")
#define RULE(verb, resource)                                                                       \
	"403: system:serviceaccount:kube-flannel:flannel may not " verb " " resource               \
	": a ClusterRole bound to it needs the rule {apiGroups: [\"\"], resources: [\"" resource   \
	"\"], verbs: [\"" verb "\"]}"
#define ANONYMOUS                                                                                  \
	STATUS(403, "Forbidden",                                                                   \
	       "nodes \\\"n1\\\" is forbidden: User \\\"system:anonymous\\\" cannot get resource " \
	       "\\\"nodes\\\" in API group \\\"\\\" at the cluster scope")
#define GET_NODE   "GET", "/api/v1/nodes/n1"
#define LIST_NODES "GET", "/api/v1/nodes?limit=500"

static const struct {
	const char *method, *path;
	int http_status;
	const char *body, *who, *why;
} words[] = {
	{LIST_NODES, 401, STATUS(401, "Unauthorized", "Unauthorized"), "the token in /x",
	 "401: it does not accept the token in /x: expired, revoked, or of another "
	 "cluster"},
	{LIST_NODES, 401, "", "",
	 "401: no credentials are given: it wants a token, client certificate or program "
	 "in the kubeconfig"},
	{LIST_NODES, 403, FORBIDDEN("nodes", "list", "nodes"), "", RULE("list", "nodes")},
	{"GET", "/api/v1/nodes?a=b&watch=true", 403, FORBIDDEN("nodes", "watch", "nodes"), "",
	 RULE("watch", "nodes")},
	{"PATCH", "/api/v1/nodes/n1/status", 403,
	 FORBIDDEN("nodes \\\"n1\\\"", "patch", "nodes/status"), "", RULE("patch", "nodes/status")},
	/* What the words do not tell, the request does. */
	{"PATCH", "/api/v1/nodes/n1/status", 403, STATUS(403, "Forbidden", "webhook x"), "",
	 "403: we may not patch nodes/status: a ClusterRole bound to it needs the rule "
	 "{apiGroups: [\"\"], resources: [\"nodes/status\"], verbs: [\"patch\"]} (webhook "
	 "x)"},
	{"GET", "/api/v1/namespaces/kube-flannel/pods/p-1", 403, "", "",
	 "403: we may not get pods: a ClusterRole bound to it needs the rule {apiGroups: "
	 "[\"\"], resources: [\"pods\"], verbs: [\"get\"]}"},
	{"GET", "/api/v1/nodes?watch=true", 403, "", "",
	 "403: we may not watch nodes: a ClusterRole bound to it needs the rule "
	 "{apiGroups: "
	 "[\"\"], resources: [\"nodes\"], verbs: [\"watch\"]}"},
	{GET_NODE, 403, ANONYMOUS, "",
	 "403: it takes us for system:anonymous: no credentials are given: it wants a "
	 "token, client certificate or program in the kubeconfig"},
	{GET_NODE, 403, ANONYMOUS, "the client certificate",
	 "403: it takes us for system:anonymous: the client certificate did not get "
	 "there: is a proxy in between?"},
	{LIST_NODES, 403, "You cannot pass.\n", "",
	 "403: we may not list nodes: a ClusterRole bound to it needs the rule {apiGroups: "
	 "[\"\"], resources: [\"nodes\"], verbs: [\"list\"]} (You cannot pass.)"},
	{"GET", "/version", 403, STATUS(403, "Forbidden", "no"), "", "403: no"},
	{GET_NODE, 404, STATUS(404, "NotFound", "nodes \\\"n1\\\" not found"), "",
	 "404: there is no node n1: its kubelet registers it, under the name that "
	 "NODE_NAME has to have"},
	{GET_NODE, 404, "404 page not found\n", "",
	 "404, not from a Kubernetes API: are host, port and path in the URL right?"},
	{"GET", "/api/v1/namespaces/n/pods/p", 404,
	 STATUS(404, "NotFound", "pods \\\"p\\\" not found"), "",
	 "404: there is no pod p: POD_NAME and POD_NAMESPACE have to be those of the pod "
	 "that this is"},
	{LIST_NODES, 429, "Too many requests, please try again later.\n", "",
	 "429: it has too many requests to answer: Too many requests, please try again "
	 "later."},
	{LIST_NODES, 500, STATUS(500, "InternalError", "etcd is gone"), "", "500: etcd is gone"},
	{LIST_NODES, 503, "", "", "503: it does not say why"},
	{LIST_NODES, 502, "<html>\nmore", "", "502: <html>"},
	{LIST_NODES, 400, "Client sent an HTTP request to an HTTPS server.\n", "",
	 "400: it speaks TLS: https:// instead of http://"},
	{LIST_NODES, 302, "", "",
	 "302: it sends us elsewhere (https://login), where we do not follow: is the URL "
	 "right?"},
	{"PATCH", "/api/v1/nodes/n1/status", 422, STATUS(422, "Invalid", "bad\\nline"), "",
	 "422: bad line"},
};

static void test_words(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		const struct kube_refused refused = {
			.method = words[i].method,
			.path = words[i].path,
			.who = words[i].who,
			.http_status = words[i].http_status,
			.location = words[i].http_status == 302 ? "https://login" : NULL,
			.body = {words[i].body, strlen(words[i].body)},
		};
		struct kube_refusal refusal;

		kube_refusal_explain(&refused, &refusal);
		if (strcmp(refusal.why.text, words[i].why) != 0)
			fail_msg("row %zu: %s", i, refusal.why.text);
		assert_int_equal(refusal.absent, strstr(words[i].body, "NotFound") != NULL);
		assert_false(refusal.expired);
		assert_int_equal(refusal.wait_ms, 0);
	}
}

static void test_facts(void **state)
{
	static const struct {
		int http_status;
		const char *body, *retry_after;
		unsigned wait_ms;
		bool expired;
		const char *next;
	} rows[] = {
		{429, "x", "1", 1000, false, ""},
		{503, "x", "120", 120000, false, ""},
		{503, "x", "121", 120000, false, ""},
		{503, "x", "99999999999", 120000, false, ""},
		{503, "x", "Wed, 21 Oct 2015 07:28:00 GMT", 0, false, ""},
		{503, "x", "-1", 0, false, ""},
		{503, "x", "", 0, false, ""},
		{504,
		 "{\"kind\":\"Status\",\"reason\":\"Timeout\",\"details\":{\"retryAfterSeconds\":2}"
		 ","
		 "\"code\":504}",
		 NULL, 2000, false, ""},
		{504, "{\"kind\":\"Status\",\"details\":{\"retryAfterSeconds\":2},\"code\":504}",
		 "5", 5000, false, ""},
		{410, "x", NULL, 0, true, ""},
		{410,
		 "{\"kind\":\"Status\",\"metadata\":{\"continue\":\"abc\"},\"reason\":\"Expired\","
		 "\"code\":410}",
		 NULL, 0, true, "abc"},
		{500, STATUS(410, "Gone", "x"), NULL, 0, true, ""},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct kube_refused refused = {
			.method = "GET",
			.path = "/api/v1/nodes",
			.who = "",
			.http_status = rows[i].http_status,
			.retry_after = rows[i].retry_after,
			.body = {rows[i].body, strlen(rows[i].body)},
		};
		struct kube_refusal refusal;

		kube_refusal_explain(&refused, &refusal);
		assert_int_equal(refusal.wait_ms, rows[i].wait_ms);
		assert_int_equal(refusal.expired, rows[i].expired);
		assert_string_equal(refusal.next, rows[i].next);
	}
}

/* What comes from outside has no length. */
static void test_long(void **state)
{
	static char path[3000] = "/api/v1/nodes/", body[3000];
	struct kube_refused refused = {
		.method = "GET", .path = path, .who = "", .body = {body, sizeof(body) - 1}};
	static const int codes[] = {401, 403, 404, 429, 500, 302};
	struct kube_refusal refusal;

	(void)state;
	memset(path + strlen(path), 'n', 2000);
	memset(body, '"', sizeof(body) - 1);
	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		refused.http_status = codes[i];
		kube_refusal_explain(&refused, &refusal);
		assert_true(*refusal.why.text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_facts),
		cmocka_unit_test(test_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
