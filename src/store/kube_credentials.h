/* SPDX-License-Identifier: Apache-2.0 */
/* kube_credentials.h - who we are to the Kubernetes API, now
 *
 * A token (given, in a file, or printed by a program), a user's password, or a client
 * certificate printed by a program; the one in the kubeconfig is TLS's business.
 */
#pragma once

#include "io/loop.h"
#include "store/kubeconfig.h"

struct kube_credentials;

/* What a request carries. Borrowed until the loop comes round. */
struct kube_credential {
	const char *authorization;      /* the header's value, a secret; NULL: none */
	const char *cert_pem, *key_pem; /* printed by a program; NULL: none */
	unsigned generation;
};

/* A program that was waited for has ended. @why NULL: there are credentials; otherwise why
 * not, in words. */
typedef void (*kube_credentials_fn)(const char *why, void *userdata);

/* @access is borrowed. @ready is called from the loop. */
struct kube_credentials *kube_credentials_new(struct loop *loop, const struct kube_access *access,
					      kube_credentials_fn ready, void *userdata);
void kube_credentials_free(struct kube_credentials *credentials);

/* What can be told without running a program: the token file can be read, the program is
 * there. 0 or -errno with words. */
int kube_credentials_check(struct kube_credentials *credentials, struct err *err);
/* 0; -EAGAIN: a program runs, and `ready` will be called; other -errno with words. */
int kube_credentials_get(struct kube_credentials *credentials,
			 struct kube_credential *ret_credential, struct err *err);
/* The server refused those of @generation. Whether there are, or may be, others by now. */
bool kube_credentials_refused(struct kube_credentials *credentials, unsigned generation);
/* "the token in /var/run/...": for messages. */
void kube_credentials_describe(const struct kube_credentials *credentials, char *buf, size_t size);
