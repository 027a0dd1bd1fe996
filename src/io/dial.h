/* SPDX-License-Identifier: Apache-2.0 */
/* dial.h - a connection to a server, plain or TLS, without blocking */
#pragma once

#include "base/err.h"
#include "io/loop.h"
#include "io/tls.h"

#include <stdbool.h>
#include <stdint.h>

#define ENDPOINT_HOST_MAX 254
#define ENDPOINT_HTTP     80 /* the ports that go without saying */
#define ENDPOINT_HTTPS    443
#define ENDPOINT_TEXT_MAX (ENDPOINT_HOST_MAX + sizeof("https://[]:65535"))

/* `http://10.0.0.1:2379`, `https://[fd00::1]:2379`, `https://etcd.example`. */
struct endpoint {
	bool tls;
	char host[ENDPOINT_HOST_MAX]; /* name or address, without brackets */
	uint16_t port;
	char text[ENDPOINT_TEXT_MAX]; /* as given, without a slash at the end: for messages */
};

/* @default_port where the URL has none. A user name, password, path, query or fragment
 * in the URL, another scheme, a missing or odd host or port are -EINVAL with an error that
 * names the URL (not a password in it) and what is right. */
int endpoint_parse(const char *url, uint16_t default_port, struct endpoint *ret_endpoint,
		   struct err *err);

struct dial;
struct proxy;

/* Called once, from the loop: @bev is connected (and TLS is up), owned by the callee, with
 * no callbacks set and not reading yet; or NULL, and @why says in words why not, without naming the
 * endpoint: "connection refused", "no answer within 2 s", "its certificate has expired on ...". For
 * a name, each address that was tried stands before its words; the proxy, when there is one,
 * before all of them. */
typedef void (*dial_fn)(struct bufferevent *bev, const char *why, void *userdata);

/* Connects to @endpoint, through @proxy unless that is NULL or PROXY_NONE, within @timeout_ms. The
 * socket has TCP_NODELAY, keep-alive (10 s, then 3 probes 3 s apart) and TCP_USER_TIMEOUT (15 s).
 * All is copied. Never NULL; an error at once is told from the loop as well. */
struct dial *dial_new(struct loop *loop, const struct proxy *proxy, const struct endpoint *endpoint,
		      const struct tls_files *files, const char *alpn, int64_t timeout_ms,
		      dial_fn done, void *userdata);
/* Gives up: @done will not be called. NULL is allowed; not after @done was called. */
void dial_cancel(struct dial *dial);
