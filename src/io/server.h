/* SPDX-License-Identifier: Apache-2.0 */
/* server.h - a small HTTP server on the loop (evhttp): health now, metrics and control later */
#pragma once

#include "base/err.h"
#include "io/loop.h"
#include "net/ip.h"

#include <stdint.h>

struct server;

/* Fills @text (of @size bytes) with the plain-text body, returns the HTTP status. */
typedef int (*server_fn)(char *text, size_t size, void *userdata);

/* Listens at once. -EADDRINUSE and others come with an error naming address and port. */
int server_new(struct loop *loop, const struct ip *ip, uint16_t port, struct server **ret_server,
	       struct err *err);
void server_free(struct server *server);
/* GET and HEAD of exactly @path are answered by @fn; other paths are 404, other methods 405. */
void server_route(struct server *server, const char *path, server_fn fn, void *userdata);
