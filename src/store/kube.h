/* SPDX-License-Identifier: Apache-2.0 */
/* kube.h - the Kubernetes API as a store: Nodes are the hosts, PodCIDRs the subnets */
#pragma once

#include "store/store.h"

/* Strings are borrowed for the store's life. */
struct kube_settings {
	const char *api_url;           /* --kube-api-url; "": none */
	const char *kubeconfig_file;   /* --kubeconfig-file; "": in the pod's environment */
	const char *annotation_prefix; /* --kube-annotation-prefix */
	const char *net_config_path;   /* --net-config-path */
	const char *node_name;         /* NODE_NAME; "": POD_NAME and POD_NAMESPACE */
	const char *pod_name, *pod_namespace;
	bool set_network_unavailable; /* --set-node-network-unavailable */
};

/* 0 or an error for the person who gave the flags; everything that may get better by itself
 * is `state` instead. */
int store_kube_new(struct loop *loop, const struct kube_settings *settings, struct peers *peers,
		   const struct store_events *events, struct store **ret_store, struct err *err);
