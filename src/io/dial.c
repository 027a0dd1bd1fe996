/* SPDX-License-Identifier: Apache-2.0 */
/* dial.c - a connection to a server, plain or TLS, without blocking
 *
 * A dial goes through these states, driven by one timer and by what it waits for:
 *
 *   START    until the loop runs: whatever fails at once is thereby told from the loop
 *   LOOKUP   evdns asks for the name; addresses in the URL skip this
 *   ADDRESS  the addresses are known, the next one is tried when the loop comes round
 *   CONNECT  connect(2) is under way
 *   PROXY    the proxy is asked for the server
 *   SHAKE    the TLS handshake is under way
 *
 * With a proxy, all up to PROXY is about its name and addresses; one that is spoken to over
 * TLS has a SHAKE of its own before, and the server's TLS runs inside of it. The talk needs a
 * bufferevent, which a proxy without TLS has only for that long: `fd` stays ours.
 *
 * Addresses are tried one after the other; each gets its share of the time that is left,
 * so that a dead one does not keep the next from being tried. The dial is freed before
 * `done` is called, which may therefore do what it likes.
 *
 * The resolver lives for one lookup: /etc/hosts and /etc/resolv.conf are read anew, and no
 * socket stays open. evdns calls back exactly once, but when it is freed early only in a
 * later round of the loop; `struct lookup` is what waits for that call when the dial is gone.
 */
#include "io/dial.h"

#include "base/log.h"
#include "base/mem.h"
#include "io/proxy.h"
#include "net/ip.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/dns.h>
#include <event2/event.h>
#include <event2/util.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define ADDRESSES_MAX    16
#define KEEP_IDLE_S      10
#define KEEP_INTERVAL_S  3
#define KEEP_PROBES      3
#define USER_TIMEOUT_MS  15000
#define DNS_TRIES        4
#define RESOLV_CONF      "/etc/resolv.conf"
#define HOSTS            "/etc/hosts"
#define ADDRESS_TEXT_MAX (IP_STRLEN + 16) /* with a zone */

enum dial_state {
	DIAL_START,
	DIAL_LOOKUP,
	DIAL_ADDRESS,
	DIAL_CONNECT,
	DIAL_PROXY,
	DIAL_SHAKE,
};

struct address {
	struct sockaddr_storage ss;
	socklen_t len;
};

struct lookup {
	struct dial *dial; /* NULL: nobody waits any more */
};

struct dial {
	struct loop *loop;
	struct endpoint endpoint;
	struct proxy proxy;
	struct tls_files files;
	char *alpn;
	int64_t timeout_ms, deadline_ms;
	dial_fn done;
	void *userdata;

	enum dial_state state;
	struct event *timer;
	struct evdns_base *dns;
	struct lookup *lookup; /* until evdns has called back */
	struct address addresses[ADDRESSES_MAX];
	size_t n_addresses, next;
	int fd; /* while connecting */
	struct event *writable;
	struct bufferevent *bev; /* while talking to the proxy, or shaking hands */
	struct proxy_talk *talk;
	bool through;   /* this attempt is past the proxy, or there is none */
	struct err why; /* of all addresses so far */
};

/* -- the end --------------------------------------------------------------------------- */

static void stop_lookup(struct dial *dial)
{
	if (dial->lookup)
		dial->lookup->dial = NULL;
	dial->lookup = NULL;
	if (dial->dns)
		evdns_base_free(dial->dns, 1);
	dial->dns = NULL;
}

static void stop_attempt(struct dial *dial)
{
	loop_event_free(TAKE_PTR(dial->writable));
	if (dial->bev)
		bufferevent_free(TAKE_PTR(dial->bev));
	if (dial->fd >= 0)
		(void)close(TAKE_FD(dial->fd));
	proxy_talk_free(TAKE_PTR(dial->talk));
}

void dial_cancel(struct dial *dial)
{
	if (!dial)
		return;
	stop_lookup(dial);
	stop_attempt(dial);
	loop_event_free(dial->timer);
	proxy_done(&dial->proxy);
	tls_files_done(&dial->files);
	free(dial->alpn);
	free(dial);
}

/* Whom we connect to. */
static const struct endpoint *next_hop(const struct dial *dial)
{
	return dial->proxy.kind == PROXY_NONE ? &dial->endpoint : &dial->proxy.endpoint;
}

static void finish(struct dial *dial, struct bufferevent *bev)
{
	struct err why = dial->why;
	void *userdata = dial->userdata;
	dial_fn done = dial->done;

	if (!bev && dial->proxy.kind != PROXY_NONE)
		(void)err_wrap(&why, -EIO, "%s proxy %s", dial->through ? "through" : "the",
			       dial->proxy.endpoint.text);
	dial_cancel(dial);
	done(bev, bev ? NULL : why.text, userdata);
}

/* -- one address ----------------------------------------------------------------------- */

static const char *format_seconds(int64_t ms, char buf[24])
{
	(void)snprintf(buf, 24, "%g s", (double)ms / 1000);
	return buf;
}

static const char *format_address(const struct address *address, char buf[ADDRESS_TEXT_MAX])
{
	const struct sockaddr_in6 *sin6 = (const struct sockaddr_in6 *)&address->ss;
	const struct sockaddr_in *sin = (const struct sockaddr_in *)&address->ss;
	struct ip ip = {0};

	if (address->ss.ss_family == AF_INET6)
		(void)ip_from_bytes(&sin6->sin6_addr, 16, &ip);
	else
		(void)ip_from_bytes(&sin->sin_addr, 4, &ip);
	return ip_format(&ip, buf);
}

/* The attempt under way has failed: notes why, and the next address is tried when the loop
 * comes round. A name may stand for an address that nobody thinks of: it is told, too. */
static void fail_attempt(struct dial *dial, const char *words)
{
	char address[ADDRESS_TEXT_MAX], all[ERR_TEXT_MAX];
	struct ip ip;

	stop_attempt(dial);
	if (ip_parse(next_hop(dial)->host, &ip) == 0) {
		(void)err_set(&dial->why, -EIO, "%s", words);
	} else {
		memcpy(all, dial->why.text, sizeof(all));
		(void)err_set(&dial->why, -EIO, "%s%s%s: %s", all, *all ? ", " : "",
			      format_address(&dial->addresses[dial->next - 1], address), words);
	}
	dial->state = DIAL_ADDRESS;
	loop_timer_set(dial->timer, 0);
}

/* strerror() in the middle of a sentence. */
static const char *connect_words(int error)
{
	switch (error) {
	case ECONNREFUSED:
		return "connection refused";
	case EHOSTUNREACH:
		return "no route to host";
	case ENETUNREACH:
		return "no route to its network";
	case ETIMEDOUT:
		return "no answer";
	case ECONNRESET:
		return "connection reset";
	default:
		return strerror(error);
	}
}

static void begin_talk(struct dial *dial);

static void on_shake(struct bufferevent *bev, short what, void *userdata)
{
	struct dial *dial = userdata;
	int error = EVUTIL_SOCKET_ERROR();
	struct err err;

	if (what & BEV_EVENT_CONNECTED && !dial->through) {
		begin_talk(dial);
		return;
	}
	if (what & BEV_EVENT_CONNECTED) {
		if (tls_check_alpn(bev, dial->alpn, &err) < 0) {
			fail_attempt(dial, err.text);
			return;
		}
		bufferevent_setcb(bev, NULL, NULL, NULL, NULL);
		finish(dial, TAKE_PTR(dial->bev));
		return;
	}
	if (tls_explain(bev, &err) < 0)
		fail_attempt(dial, err.text);
	else if (what & BEV_EVENT_EOF || !error)
		fail_attempt(dial, "the server closed the connection during the TLS handshake "
				   "(does it speak TLS?)");
	else
		fail_attempt(dial, connect_words(error));
}

/* TCP is up, or the proxy's TLS, which is then in `bev`. The proxy is believed by the same
 * authorities, as Go does it, but knows neither our name for the server nor who we are. */
static void shake(struct dial *dial)
{
	const struct tls_files for_proxy = {.ca = dial->files.ca,
					    .ca_pem = dial->files.ca_pem,
					    .insecure = dial->files.insecure};
	const struct endpoint *peer = dial->through ? &dial->endpoint : next_hop(dial);
	struct bufferevent *under = dial->bev;
	struct err err;

	if (tls_bufferevent_new(dial->loop, dial->through ? &dial->files : &for_proxy, peer->host,
				dial->through ? dial->alpn : "http/1.1", under, &dial->bev,
				&err) < 0) {
		fail_attempt(dial, err.text);
		return;
	}
	dial->state = DIAL_SHAKE;
	bufferevent_setcb(dial->bev, NULL, NULL, on_shake, dial);
	if (!under)
		(void)bufferevent_setfd(dial->bev, TAKE_FD(dial->fd));
}

/* The way to the server is open. */
static void on_through(struct dial *dial)
{
	struct bufferevent *bev;

	dial->through = true;
	if (dial->endpoint.tls) {
		shake(dial);
		return;
	}
	if (dial->bev) {
		bufferevent_setcb(dial->bev, NULL, NULL, NULL, NULL);
		finish(dial, TAKE_PTR(dial->bev));
		return;
	}
	bev = bufferevent_socket_new(loop_base(dial->loop), dial->fd, BEV_OPT_CLOSE_ON_FREE);
	if (!bev) {
		fail_attempt(dial, strerror(ENOMEM));
		return;
	}
	(void)TAKE_FD(dial->fd);
	finish(dial, bev);
}

static void send_output(const struct dial *dial)
{
	size_t len;
	const void *output = proxy_talk_output(dial->talk, &len);

	(void)bufferevent_write(dial->bev, output, len);
}

static void on_talk_read(struct bufferevent *bev, void *userdata)
{
	struct evbuffer *input = bufferevent_get_input(bev);
	const size_t len = evbuffer_get_length(input);
	struct dial *dial = userdata;
	struct err err;
	int r;

	r = proxy_talk_feed(dial->talk, evbuffer_pullup(input, -1), len, &err);
	(void)evbuffer_drain(input, len);
	if (r < 0) {
		fail_attempt(dial, err.text);
		return;
	}
	if (r == 0) {
		send_output(dial);
		return;
	}
	proxy_talk_free(TAKE_PTR(dial->talk));
	(void)bufferevent_disable(bev, EV_READ);
	if (!dial->proxy.endpoint.tls)
		bufferevent_free(TAKE_PTR(dial->bev));
	on_through(dial);
}

static void on_talk_event(struct bufferevent *bev, short what, void *userdata)
{
	const int error = EVUTIL_SOCKET_ERROR();
	struct err err;

	if (tls_explain(bev, &err) < 0)
		fail_attempt(userdata, err.text);
	else if (what & BEV_EVENT_EOF || !error)
		fail_attempt(userdata, "it closed the connection without an answer");
	else
		fail_attempt(userdata, connect_words(error));
}

/* The proxy is connected: over TLS, with `bev`, or `fd` is. */
static void begin_talk(struct dial *dial)
{
	if (!dial->bev)
		dial->bev = bufferevent_socket_new(loop_base(dial->loop), dial->fd, 0);
	if (!dial->bev) {
		fail_attempt(dial, strerror(ENOMEM));
		return;
	}
	dial->state = DIAL_PROXY;
	dial->talk = proxy_talk_new(&dial->proxy, &dial->endpoint);
	bufferevent_setcb(dial->bev, on_talk_read, NULL, on_talk_event, dial);
	send_output(dial);
	(void)bufferevent_enable(dial->bev, EV_READ | EV_WRITE);
}

static void on_connected(struct dial *dial)
{
	if (dial->proxy.kind == PROXY_NONE)
		on_through(dial);
	else if (dial->proxy.endpoint.tls)
		shake(dial);
	else
		begin_talk(dial);
}

static void on_writable(void *userdata)
{
	struct dial *dial = userdata;
	socklen_t len = sizeof(int);
	int error = 0;

	loop_event_free(TAKE_PTR(dial->writable));
	if (getsockopt(dial->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error)
		fail_attempt(dial, connect_words(error));
	else
		on_connected(dial);
}

/* A peer that vanishes is noticed: by keep-alive while we are silent, by the user timeout
 * while what we sent is not acknowledged. Best effort: without, it takes longer. */
static void set_options(int fd)
{
	const struct {
		int level, name, value;
	} options[] = {
		{IPPROTO_TCP, TCP_NODELAY, 1},
		{SOL_SOCKET, SO_KEEPALIVE, 1},
		{IPPROTO_TCP, TCP_KEEPIDLE, KEEP_IDLE_S},
		{IPPROTO_TCP, TCP_KEEPINTVL, KEEP_INTERVAL_S},
		{IPPROTO_TCP, TCP_KEEPCNT, KEEP_PROBES},
		{IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS},
	};

	for (size_t i = 0; i < ARRAY_SIZE(options); i++)
		(void)setsockopt(fd, options[i].level, options[i].name, &options[i].value,
				 sizeof(options[i].value));
}

static int start_connect(struct dial *dial, const struct address *address)
{
	dial->fd = socket(address->ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (dial->fd < 0)
		return -errno;
	set_options(dial->fd);
	if (connect(dial->fd, (const struct sockaddr *)&address->ss, address->len) < 0 &&
	    errno != EINPROGRESS)
		return -errno;
	dial->writable = loop_writable_new(dial->loop, dial->fd, on_writable, dial);
	return dial->writable ? 0 : -ENOMEM;
}

static void try_next(struct dial *dial)
{
	int64_t left_ms = dial->deadline_ms - loop_now_ms();
	int r;

	if (dial->next == dial->n_addresses) {
		finish(dial, NULL);
		return;
	}
	loop_timer_set(dial->timer, left_ms / (int64_t)(dial->n_addresses - dial->next));
	dial->state = DIAL_CONNECT;
	dial->through = false;
	r = start_connect(dial, &dial->addresses[dial->next++]);
	if (r < 0)
		fail_attempt(dial, connect_words(-r));
}

/* -- addresses ------------------------------------------------------------------------- */

static void add_address(struct dial *dial, const struct sockaddr *sa, socklen_t len)
{
	struct address *address = &dial->addresses[dial->n_addresses];

	if (dial->n_addresses == ADDRESSES_MAX || len > sizeof(address->ss) ||
	    (sa->sa_family != AF_INET && sa->sa_family != AF_INET6))
		return;
	memcpy(&address->ss, sa, len);
	address->len = len;
	dial->n_addresses++;
}

static void add_ip(struct dial *dial, const struct ip *ip)
{
	const uint16_t port = htons(next_hop(dial)->port);
	struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6, .sin6_port = port};
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = port};

	if (ip->family == IP_V6) {
		memcpy(&sin6.sin6_addr, ip->b, 16);
		add_address(dial, (const struct sockaddr *)&sin6, sizeof(sin6));
	} else {
		memcpy(&sin.sin_addr, ip->b, 4);
		add_address(dial, (const struct sockaddr *)&sin, sizeof(sin));
	}
}

static void on_lookup(int result, struct evutil_addrinfo *list, void *userdata)
{
	_cleanup_free_ struct lookup *lookup = userdata;
	struct dial *dial = lookup->dial;

	if (dial) {
		dial->lookup = NULL;
		for (const struct evutil_addrinfo *ai = list; ai; ai = ai->ai_next)
			add_address(dial, ai->ai_addr, (socklen_t)ai->ai_addrlen);
		if (!dial->n_addresses)
			(void)err_set(&dial->why, -ENOENT, "name %s: %s", next_hop(dial)->host,
				      result == EVUTIL_EAI_AGAIN || result == EVUTIL_EAI_FAIL
					      ? "no name server answers"
					      : "not known");
		/* evdns is freed by the timer: not from inside its own callback. */
		dial->state = DIAL_ADDRESS;
		loop_timer_set(dial->timer, 0);
	}
	if (list)
		evutil_freeaddrinfo(list);
}

/* "All nameservers have failed" at each try is not for the log. */
static void on_dns_log(int is_warning, const char *text)
{
	(void)is_warning;
	log_debug(4, "libevent: %s", text);
}

static struct evdns_base *dns_new(const struct dial *dial)
{
	struct evdns_base *dns;
	char seconds[24];

	evdns_set_log_fn(on_dns_log);
	dns = evdns_base_new(loop_base(dial->loop), EVDNS_BASE_DISABLE_WHEN_INACTIVE);
	/* EVDNS_BASE_INITIALIZE_NAMESERVERS would give up on a host without resolv.conf,
	 * whose names may all be in the hosts file. */
	if (dns && evdns_base_resolv_conf_parse(dns, DNS_OPTIONS_ALL, RESOLV_CONF) != 0)
		(void)evdns_base_load_hosts(dns, HOSTS);
	if (!dns)
		return NULL;
	/* A name server that is silent must not use up our time before the next is asked. */
	(void)snprintf(seconds, sizeof(seconds), "%.3f",
		       (double)dial->timeout_ms / 1000 / DNS_TRIES);
	(void)evdns_base_set_option(dns, "timeout:", seconds);
	(void)evdns_base_set_option(dns, "attempts:", "8"); /* our timer ends it */
	/* Mixed case in the question, against forged answers, is more than some servers
	 * can take. */
	(void)evdns_base_set_option(dns, "randomize-case:", "0");
	return dns;
}

static void start_lookup(struct dial *dial)
{
	const struct evutil_addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	char port[8];

	(void)snprintf(port, sizeof(port), "%u", next_hop(dial)->port);
	dial->dns = dns_new(dial);
	if (!dial->dns) {
		(void)err_set(&dial->why, -ENOMEM, "name %s: the resolver does not start",
			      next_hop(dial)->host);
		finish(dial, NULL);
		return;
	}
	dial->state = DIAL_LOOKUP;
	loop_timer_set(dial->timer, dial->timeout_ms);
	dial->lookup = mem_alloc(1, sizeof(*dial->lookup));
	dial->lookup->dial = dial;
	/* It may call back before it returns. */
	(void)evdns_getaddrinfo(dial->dns, next_hop(dial)->host, port, &hints, on_lookup,
				dial->lookup);
}

static void start(struct dial *dial)
{
	struct ip ip;

	dial->deadline_ms = loop_now_ms() + dial->timeout_ms;
	if (ip_parse(next_hop(dial)->host, &ip) < 0) {
		start_lookup(dial);
		return;
	}
	add_ip(dial, &ip);
	try_next(dial);
}

static void on_timer(void *userdata)
{
	struct dial *dial = userdata;
	char seconds[24];
	struct err err;

	switch (dial->state) {
	case DIAL_START:
		start(dial);
		return;
	case DIAL_LOOKUP:
		(void)err_set(&dial->why, -ETIMEDOUT,
			      "name %s: no answer from a name server within %s",
			      next_hop(dial)->host, format_seconds(dial->timeout_ms, seconds));
		finish(dial, NULL);
		return;
	case DIAL_ADDRESS:
		stop_lookup(dial);
		try_next(dial);
		return;
	case DIAL_CONNECT:
	case DIAL_PROXY:
	case DIAL_SHAKE:
		(void)err_set(&err, -ETIMEDOUT, "no answer%s within %s",
			      dial->state == DIAL_SHAKE ? " to the TLS handshake" : "",
			      format_seconds(dial->timeout_ms, seconds));
		fail_attempt(dial, err.text);
		return;
	}
}

struct dial *dial_new(struct loop *loop, const struct proxy *proxy, const struct endpoint *endpoint,
		      const struct tls_files *files, const char *alpn, int64_t timeout_ms,
		      dial_fn done, void *userdata)
{
	struct dial *dial = mem_alloc(1, sizeof(*dial));

	dial->loop = loop;
	dial->endpoint = *endpoint;
	proxy_copy(proxy, &dial->proxy);
	tls_files_copy(files, &dial->files);
	dial->alpn = mem_strdup(alpn);
	dial->timeout_ms = timeout_ms;
	dial->done = done;
	dial->userdata = userdata;
	dial->fd = -1;
	dial->timer = loop_timer_new(loop, on_timer, dial);
	loop_timer_set(dial->timer, 0);
	return dial;
}
