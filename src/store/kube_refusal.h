/* SPDX-License-Identifier: Apache-2.0 */
/* kube_refusal.h - what the Kubernetes API means by an answer that is no success. Pure. */
#pragma once

#include "store/kube_node.h"

struct kube_refusal {
	struct err why;
	unsigned wait_ms;                                   /* Retry-After; 0: not given */
	bool absent;                                        /* 404 of an object */
	bool expired;                                       /* 410 */
	char next[sizeof(((struct kube_status *)0)->next)]; /* "": none */
};

struct kube_refused {
	const char *method, *path; /* of the request */
	const char *who;           /* "the token in ..."; "": we have said nothing about us */
	int http_status;
	const char *retry_after; /* the header; NULL: none */
	const char *location;    /* the header; NULL: none */
	struct json_slice body;
};
/* In words with what to do; of 403 with the RBAC rule that is missing. */
void kube_refusal_explain(const struct kube_refused *refused, struct kube_refusal *ret_refusal);
