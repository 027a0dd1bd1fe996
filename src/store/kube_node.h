/* SPDX-License-Identifier: Apache-2.0 */
/* kube_node.h - what a Node object says about its host's lease, and how to say ours. Pure.
 *
 * COMPAT.md section 5.
 */
#pragma once

#include "base/err.h"
#include "model/lease.h"
#include "store/kube_json.h"

#include <stdbool.h>

#define KUBE_NAME_MAX 254

/* Of a node, a pod, a namespace: it may go into paths and messages as it is. */
bool kube_name_is_good(const char *name);

/* The annotations' full names. */
enum kube_annotation {
	KUBE_SUBNET_MANAGER,
	KUBE_BACKEND_TYPE,
	KUBE_BACKEND_DATA,
	KUBE_BACKEND_V6_DATA,
	KUBE_PUBLIC_IP,
	KUBE_PUBLIC_IPV6,
	KUBE_PUBLIC_IP_OVERWRITE,
	KUBE_PUBLIC_IPV6_OVERWRITE,
	KUBE_NODE_PUBLIC_IP,
	KUBE_NODE_PUBLIC_IPV6,
	KUBE_ANNOTATION_COUNT,
};
struct kube_keys {
	char *name[KUBE_ANNOTATION_COUNT];
};
/* @prefix is --kube-annotation-prefix; its rules are COMPAT.md's. */
int kube_keys_init(const char *prefix, struct kube_keys *ret_keys, struct err *err);
void kube_keys_done(struct kube_keys *keys);

/* One Node or PartialObjectMetadata of one. Strings are owned. */
struct kube_node {
	char *name, *uid, *resource_version; /* NULL: absent; a bookmark has no name */
	bool is_partial; /* no spec, no status: podCIDR and conditions unknown */
	char *annotation[KUBE_ANNOTATION_COUNT]; /* NULL: absent */
	struct ip_net pod_cidr[IP_FAMILY_COUNT]; /* unset: none assigned, or unknown */
	bool network_unavailable_is_false_by_us; /* the condition is as we would write it */
};
/* -EINVAL: no such object; the error names the node, where it can. */
int kube_node_parse(struct json_slice object, const struct kube_keys *keys,
		    struct kube_node *ret_node, struct err *err);
void kube_node_done(struct kube_node *node);

/* The lease of a peer's node: families independently, those in @families ([IP_V4], [IP_V6])
 * that have a podCIDR and a public address. It ends SOMEDAY, with its node. -ENOENT: not managed
 * by flannel (kube-subnet-manager is not "true"); -EAGAIN: no such family (yet), the error says
 * what is missing; -EINVAL names the annotation and value, and if that leaves a family that is
 * right, *ret_lease has it: so give it a zeroed one, and look. */
int kube_node_lease(const struct kube_node *node, const bool families[IP_FAMILY_COUNT],
		    struct lease *ret_lease, struct err *err);

/* What has to be patched so that @node says @own (public IPs as after the admin's overwrite)
 * and, with @set_condition, the condition NetworkUnavailable=False: a strategic merge patch
 * for the status subresource. NULL: nothing differs. @now_s: Unix time. Caller frees.
 * Annotations of a family without public IP in @own are removed, but for the admin's. Of a
 * partial @node the condition is unknown, and is left alone. */
char *kube_node_patch(const struct kube_node *node, const struct kube_keys *keys,
		      const struct lease *own, bool set_condition, int64_t now_s);

/* The longest wait that a server is granted: what stands before the API may say an hour, and be
 * back in a minute. */
#define KUBE_WAIT_MAX_S 120

/* A Status object ({"kind":"Status",...}). */
struct kube_status {
	int code;
	char reason[64];
	char message[ERR_TEXT_MAX];
	unsigned retry_after_s; /* details.retryAfterSeconds; 0: not given */
	char next[2048];        /* metadata.continue of an expired list; "" for none */
};
int kube_status_parse(struct json_slice object, struct kube_status *ret_status);
