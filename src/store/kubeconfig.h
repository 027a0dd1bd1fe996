/* SPDX-License-Identifier: Apache-2.0 */
/* kubeconfig.h - how to reach the Kubernetes API and who we are there
 *
 * Out of a kubeconfig file, or of what a pod is given. All strings are owned; "" and NULL
 * are the same: not given.
 */
#pragma once

#include "base/err.h"
#include "io/dial.h"

#include <stdbool.h>

#define KUBECONFIG_MAX_BYTES (4 << 20)
/* Where a pod finds token, ca.crt and namespace. */
#define KUBE_SERVICE_ACCOUNT_DIR "/var/run/secrets/kubernetes.io/serviceaccount"

/* The `place` of what a pod is given. */
#define KUBE_IN_POD "the pod's environment"

/* A program that prints an ExecCredential, of v1 or v1beta1. */
#define KUBE_EXEC_API "client.authentication.k8s.io/"
struct kube_exec {
	char *command; /* NULL: none; with a "/": relative to the kubeconfig's directory */
	char **args;   /* NULL-terminated, without argv[0] */
	char **env;    /* "NAME=value", NULL-terminated */
	char *api_version;
	char *install_hint;
	bool provide_cluster_info;
};

struct kube_access {
	char *server;           /* https://10.96.0.1:443, maybe with a path (Rancher); has a
				   scheme and no slash at the end */
	char *tls_server_name;  /* name in the server's certificate, instead of the host */
	bool insecure;          /* insecure-skip-tls-verify */
	char *ca_file, *ca_pem; /* ca_pem (from ...-data, decoded): then there is no file */
	char *cert_file, *cert_pem;
	char *key_file, *key_pem;
	char *token, *token_file; /* the file, once readable, beats the token */
	char *user, *password;
	char *proxy_url; /* http, https or socks5; NULL: the environment's */
	struct kube_exec exec;
	char *place; /* for messages: the kubeconfig's path and context, or KUBE_IN_POD */
};

/* Of texts here: NULL and "" are none. */
static inline bool kube_is_given(const char *text)
{
	return text && *text;
}

/* The current context of @text, a kubeconfig in YAML or JSON read from @path (whose
 * directory relative paths start at). Errors name file, line, context and member, and never
 * a secret. What client-go refuses is refused (CA together with insecure-skip-tls-verify,
 * auth-provider, a missing context); what we cannot do is named. -EINVAL. Pure. */
int kubeconfig_parse(const char *text, size_t len, const char *path, struct kube_access *ret_access,
		     struct err *err);
/* In a pod: KUBERNETES_SERVICE_HOST and _PORT, and the service account's files in @dir (ca_file
 * NULL where that is missing: the system's list). -ENOENT when the environment is not a pod's or
 * there is no token, with an error that says what was looked for; -EINVAL: an odd port. */
int kubeconfig_in_cluster(char *(*getenv_fn)(const char *name), const char *dir,
			  struct kube_access *ret_access, struct err *err);
/* @given with a scheme and without slashes at its end; where it has none, client-go's choice
 * (DefaultServerURL()): https when there is anything about TLS. Caller frees. */
char *kubeconfig_server_url(const char *given, const struct kube_access *access);
/* All that is sent to say who we are; the client certificate, which is only shown, stays.
 * Whether there was any. */
bool kube_access_forget_user(struct kube_access *access);
void kube_access_done(struct kube_access *access);
#define _cleanup_kube_access_ _cleanup_(kube_access_done)
