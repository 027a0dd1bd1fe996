/* SPDX-License-Identifier: Apache-2.0 */
/* server.c - a small HTTP server on the loop
 *
 * evhttp reads and writes; we hold the listening socket, because evhttp does not
 * say why a bind failed. The port may face the whole pod network, hence the limits:
 * one request per connection, small headers and bodies, a silent client is gone
 * after TIMEOUT_S, and while the process holds DESCRIPTORS_MAX descriptors nobody is
 * let in: a flood of connections must not keep the daemon from opening its sockets.
 */
#include "io/server.h"

#include "base/mem.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/http.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define ROUTES_MAX      8
#define TIMEOUT_S       5
#define HEADERS_MAX     8192
#define BODY_MAX        1024
#define DESCRIPTORS_MAX 256
#define PAUSE_MS        500
#define TEXT_MAX        16384
#define BUSY_TRIES      20
#define BUSY_WAIT_US    10000
#define LISTEN_BACKLOG  128

struct route {
	const char *path;
	server_fn fn;
	void *userdata;
};

struct server {
	struct evhttp *http;
	struct evconnlistener *listener; /* owned by http */
	struct event *resume;            /* armed while the listener pauses */
	struct route routes[ROUTES_MAX];
	size_t n_routes;
};

static const struct route *find_route(const struct server *server, const char *path)
{
	for (size_t i = 0; path && i < server->n_routes; i++)
		if (!strcmp(server->routes[i].path, path))
			return &server->routes[i];
	return NULL;
}

/* Sends @text and closes. To HEAD goes the header of the same answer. */
static void reply(struct evhttp_request *req, int status, const char *text)
{
	struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
	struct evbuffer *body = evhttp_request_get_output_buffer(req);
	char length[24];

	(void)snprintf(length, sizeof(length), "%zu", strlen(text));
	(void)evhttp_add_header(headers, "Content-Type", "text/plain; charset=utf-8");
	(void)evhttp_add_header(headers, "Content-Length", length);
	(void)evhttp_add_header(headers, "Cache-Control", "no-store");
	(void)evhttp_add_header(headers, "Connection", "close");
	if (evhttp_request_get_command(req) != EVHTTP_REQ_HEAD)
		(void)evbuffer_add(body, text, strlen(text));
	evhttp_send_reply(req, status, NULL, NULL);
}

static void on_request(struct evhttp_request *req, void *userdata)
{
	const struct server *server = userdata;
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
	const struct route *route = find_route(server, uri ? evhttp_uri_get_path(uri) : NULL);
	char text[TEXT_MAX] = "";
	int status;

	if (!route) {
		reply(req, HTTP_NOTFOUND, "not found\n");
		return;
	}
	switch ((int)evhttp_request_get_command(req)) {
	case EVHTTP_REQ_GET:
	case EVHTTP_REQ_HEAD:
		status = route->fn(text, sizeof(text), route->userdata);
		reply(req, status, text);
		return;
	default:
		(void)evhttp_add_header(evhttp_request_get_output_headers(req), "Allow",
					"GET, HEAD");
		reply(req, HTTP_BADMETHOD, "only GET and HEAD\n");
		return;
	}
}

static void on_resume(void *userdata)
{
	const struct server *server = userdata;

	(void)evconnlistener_enable(server->listener);
}

/* Called for each accepted connection. The lowest free descriptor tells how many are
 * in use. NULL leaves the making of the buffer to evhttp. */
static struct bufferevent *on_accept(struct event_base *base, void *userdata)
{
	struct server *server = userdata;
	int lowest = fcntl(evconnlistener_get_fd(server->listener), F_DUPFD_CLOEXEC, 0);

	(void)base;
	if (lowest < 0 || lowest >= DESCRIPTORS_MAX) {
		(void)evconnlistener_disable(server->listener);
		loop_timer_set(server->resume, PAUSE_MS);
	}
	if (lowest >= 0)
		(void)close(lowest);
	return NULL;
}

static socklen_t fill_address(const struct ip *ip, uint16_t port, struct sockaddr_storage *ret_ss)
{
	struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)ret_ss;
	struct sockaddr_in *sin = (struct sockaddr_in *)ret_ss;

	memset(ret_ss, 0, sizeof(*ret_ss));
	if (ip->family == IP_V6) {
		sin6->sin6_family = AF_INET6;
		sin6->sin6_port = htons(port);
		memcpy(&sin6->sin6_addr, ip->b, 16);
		return sizeof(*sin6);
	}
	sin->sin_family = AF_INET;
	sin->sin_port = htons(port);
	memcpy(&sin->sin_addr, ip->b, 4);
	return sizeof(*sin);
}

/* A listening socket, or -errno. A port that is taken is tried for a moment: a child that our
 * predecessor was starting when it was killed has its sockets until it is executed. */
static int listen_on(const struct ip *ip, uint16_t port)
{
	_cleanup_close_ int fd = -1;
	struct sockaddr_storage ss;
	socklen_t len = fill_address(ip, port, &ss);
	const int on = 1, off = 0;

	fd = socket(ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		return -errno;
	if (ss.ss_family == AF_INET6 &&
	    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0)
		return -errno;
	for (int tries = 0; bind(fd, (const struct sockaddr *)&ss, len) < 0; tries++) {
		if (errno != EADDRINUSE || tries == BUSY_TRIES)
			return -errno;
		(void)usleep(BUSY_WAIT_US);
	}
	if (listen(fd, LISTEN_BACKLOG) < 0)
		return -errno;
	return TAKE_FD(fd);
}

/* 0.0.0.0 is all addresses of both families, as in Go's net.Listen(): the probes of
 * an IPv6-only node reach the default --healthz-ip too. */
static int listen_on_any(const struct ip *ip, uint16_t port)
{
	const struct ip any6 = {.family = IP_V6};
	bool unspecified = true;
	int fd;

	for (size_t i = 0; i < sizeof(ip->b); i++)
		unspecified = unspecified && !ip->b[i];
	if (!unspecified || ip->family == IP_V6)
		return listen_on(ip, port);
	fd = listen_on(&any6, port);
	if (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL) /* a kernel without IPv6 */
		return listen_on(ip, port);
	return fd;
}

static void set_limits(struct server *server)
{
	evhttp_set_timeout(server->http, TIMEOUT_S);
	evhttp_set_max_headers_size(server->http, HEADERS_MAX);
	evhttp_set_max_body_size(server->http, BODY_MAX);
	/* All that evhttp knows, so that the answer to the wrong ones is ours. */
	evhttp_set_allowed_methods(
		server->http, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD | EVHTTP_REQ_POST | EVHTTP_REQ_PUT |
				      EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS | EVHTTP_REQ_PATCH);
	evhttp_set_bevcb(server->http, on_accept, server);
	evhttp_set_gencb(server->http, on_request, server);
}

int server_new(struct loop *loop, const struct ip *ip, uint16_t port, struct server **ret_server,
	       struct err *err)
{
	_cleanup_close_ int fd = listen_on_any(ip, port);
	struct evhttp_bound_socket *bound = NULL;
	struct server *server;
	char text[IP_STRLEN];

	if (fd < 0)
		return err_sys(err, fd,
			       ip->family == IP_V6 ? "cannot listen on [%s]:%u"
						   : "cannot listen on %s:%u",
			       ip_format(ip, text), port);
	server = mem_alloc(1, sizeof(*server));
	server->http = evhttp_new(loop_base(loop));
	server->resume = loop_timer_new(loop, on_resume, server);
	if (server->http)
		bound = evhttp_accept_socket_with_handle(server->http, fd);
	if (bound)
		(void)TAKE_FD(fd);
	if (!bound || !server->resume) {
		server_free(server);
		return err_set(err, -ENOMEM, "cannot start the HTTP server on port %u", port);
	}
	server->listener = evhttp_bound_socket_get_listener(bound);
	set_limits(server);
	*ret_server = server;
	return 0;
}

void server_free(struct server *server)
{
	if (!server)
		return;
	if (server->http)
		evhttp_free(server->http);
	loop_event_free(server->resume);
	free(server);
}

void server_route(struct server *server, const char *path, server_fn fn, void *userdata)
{
	if (server->n_routes == ROUTES_MAX)
		abort(); /* a table of ours that outgrew its limit */
	server->routes[server->n_routes++] =
		(struct route){.path = path, .fn = fn, .userdata = userdata};
}
