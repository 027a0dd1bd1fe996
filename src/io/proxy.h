/* SPDX-License-Identifier: Apache-2.0 */
/* proxy.h - proxies on the way to a server: which one, and what is said to it. Pure.
 *
 * HTTP CONNECT (RFC 9110, 9.3.6), over TCP or TLS, and SOCKS5 (RFC 1928, 1929). The choice is
 * that of Go's golang.org/x/net/http/httpproxy, which people write their settings for.
 */
#pragma once

#include "io/dial.h"

enum proxy_kind {
	PROXY_NONE,
	PROXY_CONNECT,
	PROXY_SOCKS5,
	PROXY_KIND_COUNT,
};

/* A zeroed one is PROXY_NONE. */
struct proxy {
	enum proxy_kind kind;
	struct endpoint
		endpoint;      /* tls: it is spoken to over TLS; text: without user and password */
	char *user, *password; /* NULL: none. Secrets, owned. */
};

/* `http://10.0.0.9:3128`, `https://user:password@proxy.example`, `socks5://[fd00::9]:1080`. 0
 * or -EINVAL and words, without the password. */
int proxy_parse(const char *url, struct proxy *ret_proxy, struct err *err);
/* What HTTPS_PROXY, HTTP_PROXY and NO_PROXY (or those in small letters) say for @target:
 * PROXY_NONE for loopback, or when nothing is said. -EINVAL names the variable. */
int proxy_from_environment(char *(*getenv_fn)(const char *name), const struct endpoint *target,
			   struct proxy *ret_proxy, struct err *err);
/* NULL: none. */
void proxy_copy(const struct proxy *proxy, struct proxy *ret_copy);
/* Wipes the secrets. */
void proxy_done(struct proxy *proxy);

/* What is said until the proxy has connected us. */
struct proxy_talk;
struct proxy_talk *proxy_talk_new(const struct proxy *proxy, const struct endpoint *target);
void proxy_talk_free(struct proxy_talk *talk);
/* What is to be sent now, once; *ret_len 0: nothing. Borrowed until the next call. */
const void *proxy_talk_output(struct proxy_talk *talk, size_t *ret_len);
/* Takes in what came. 1: all that follows is the server's; 0: more has to come, and there may
 * be output; -ECONNREFUSED: it will not, -EPROTO: it speaks otherwise, both with words. */
int proxy_talk_feed(struct proxy_talk *talk, const void *data, size_t len, struct err *err);
