/* SPDX-License-Identifier: Apache-2.0 */
/* proxy.c - proxies on the way to a server: which one, and what is said to it
 *
 * A talk is a row of answers, each with the output that asks for it: one for CONNECT, up to
 * three for SOCKS5. The server never speaks first (TLS and HTTP do not), so whatever comes
 * behind the last answer is a fault.
 */
#include "io/proxy.h"

#include "base/mem.h"
#include "io/http.h"
#include "io/http_parser.h"
#include "net/ip.h"

#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define SOCKS_PORT       1080
#define SECRET_MAX       255 /* bytes of a user name or password: RFC 1929 */
#define OUTPUT_MAX       2048
#define ANSWER_BODY_MAX  4096
#define SOCKS_ANSWER_MAX (4 + 1 + UINT8_MAX + 2)
#define NO_PROXY_MAX     512 /* of one entry */

void proxy_done(struct proxy *proxy)
{
	mem_free_secret(proxy->user);
	mem_free_secret(proxy->password);
	*proxy = (struct proxy){.kind = PROXY_NONE};
}

void proxy_copy(const struct proxy *proxy, struct proxy *ret_copy)
{
	*ret_copy = proxy ? *proxy : (struct proxy){.kind = PROXY_NONE};
	if (ret_copy->user)
		ret_copy->user = mem_strdup(ret_copy->user);
	if (ret_copy->password)
		ret_copy->password = mem_strdup(ret_copy->password);
}

/* -- its URL --------------------------------------------------------------------------- */

static const struct {
	const char *scheme;
	enum proxy_kind kind;
	bool tls;
	uint16_t port;
} schemes[] = {
	{"http", PROXY_CONNECT, false, ENDPOINT_HTTP},
	{"https", PROXY_CONNECT, true, ENDPOINT_HTTPS},
	{"socks5", PROXY_SOCKS5, false, SOCKS_PORT},
	{"socks5h", PROXY_SOCKS5, false, SOCKS_PORT},
};

static int hex(char c)
{
	if (isdigit((unsigned char)c))
		return c - '0';
	return isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10 : -1;
}

/* A copy of @len bytes with %XX undone; NULL: not possible, or too long. */
static char *decode(const char *text, size_t len)
{
	char *plain = mem_alloc(len + 1, 1), *at = plain;

	for (size_t i = 0; i < len; i++) {
		if (text[i] != '%') {
			*at++ = text[i];
			continue;
		}
		if (i + 2 >= len || hex(text[i + 1]) < 0 || hex(text[i + 2]) < 0)
			goto fail;
		*at = (char)(hex(text[i + 1]) * 16 + hex(text[i + 2]));
		if (!*at++)
			goto fail;
		i += 2;
	}
	if (at - plain <= SECRET_MAX)
		return plain;
fail:
	explicit_bzero(plain, len);
	free(plain);
	return NULL;
}

/* "user:password" or "user" of @len bytes. */
static int parse_user(const char *text, size_t len, struct proxy *proxy, struct err *err)
{
	const char *colon = memchr(text, ':', len);
	const size_t user_len = colon ? (size_t)(colon - text) : len;

	proxy->user = decode(text, user_len);
	proxy->password = colon ? decode(colon + 1, len - user_len - 1) : mem_strdup("");
	if (proxy->user && proxy->password && !strchr(proxy->user, ':'))
		return 0;
	return err_set(err, -EINVAL,
		       "the proxy's user name or password is longer than %d bytes, or has an odd "
		       "%%XX in it",
		       SECRET_MAX);
}

/* Behind "://". */
static int parse_rest(const char *rest, size_t scheme, struct proxy *proxy, struct err *err)
{
	const size_t len = strcspn(rest, "/?#");
	const char *at = memrchr(rest, '@', len), *host = at ? at + 1 : rest;
	const int host_len = (int)(rest + len - host);
	char url[ENDPOINT_TEXT_MAX + 16];
	int r;

	if (at) {
		r = parse_user(rest, (size_t)(at - rest), proxy, err);
		if (r < 0)
			return r;
	}
	if (host_len > ENDPOINT_HOST_MAX + 8)
		return err_set(err, -EINVAL, "the proxy's host is too long");
	(void)snprintf(url, sizeof(url), "http://%.*s", host_len, host);
	r = endpoint_parse(url, schemes[scheme].port, &proxy->endpoint, err);
	if (r < 0)
		return err_wrap(err, r, "the proxy");
	proxy->kind = schemes[scheme].kind;
	proxy->endpoint.tls = schemes[scheme].tls;
	(void)snprintf(proxy->endpoint.text, sizeof(proxy->endpoint.text), "%s://%.*s",
		       schemes[scheme].scheme, host_len, host);
	return 0;
}

int proxy_parse(const char *url, struct proxy *ret_proxy, struct err *err)
{
	const char *colon = strstr(url, "://");
	const size_t len = colon ? (size_t)(colon - url) : 0;
	struct proxy proxy = {.kind = PROXY_NONE};
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
		if (!len || strlen(schemes[i].scheme) != len ||
		    strncasecmp(url, schemes[i].scheme, len) != 0)
			continue;
		r = parse_rest(colon + 3, i, &proxy, err);
		if (r < 0)
			proxy_done(&proxy);
		else
			*ret_proxy = proxy;
		return r;
	}
	return err_set(err, -EINVAL,
		       "the proxy's URL begins with none of http://, https:// and socks5://");
}

/* -- the choice ------------------------------------------------------------------------ */

static const char *first_of(char *(*getenv_fn)(const char *name), const char *const names[2],
			    const char **ret_name)
{
	for (int i = 0; i < 2; i++) {
		const char *value = getenv_fn(names[i]);

		*ret_name = names[i];
		if (value && *value)
			return value;
	}
	return NULL;
}

/* ::ffff:10.0.0.1 is 10.0.0.1, as Go compares. */
static void unmap(struct ip *ip)
{
	static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};

	const struct ip mapped = *ip;

	if (ip->family == IP_V6 && !memcmp(ip->b, prefix, sizeof(prefix)))
		(void)ip_from_bytes(mapped.b + sizeof(prefix), 4, ip);
}

static bool is_loopback(const struct ip *ip)
{
	static const uint8_t v6[16] = {[15] = 1};

	return ip->family == IP_V4 ? ip->b[0] == 127
				   : ip->family == IP_V6 && !memcmp(ip->b, v6, sizeof(v6));
}

/* Cuts ":port" off @entry, and brackets around what is before it. NULL: no port. */
static const char *cut_port(char **entry)
{
	char *colon = strrchr(*entry, ':'), *end;
	const bool brackets = **entry == '[';

	if (!colon || (brackets && colon[-1] != ']') || (!brackets && strchr(*entry, ':') != colon))
		return NULL;
	*colon = '\0';
	end = colon - 1;
	if (brackets) {
		*end = '\0';
		++*entry;
	}
	return colon + 1;
}

/* "foo.com" is itself and what is below it, ".foo.com" and "*.foo.com" only what is below. */
static bool name_matches(const char *entry, const char *host)
{
	const size_t skip = !strncmp(entry, "*.", 2) ? 2 : *entry == '.';
	const char *suffix = entry + skip;
	const size_t host_len = strlen(host), len = strlen(suffix);

	if (!len)
		return false;
	if (host_len > len && host[host_len - len - 1] == '.' &&
	    !strcasecmp(host + host_len - len, suffix))
		return true;
	return !skip && !strcasecmp(host, suffix);
}

/* Whether @entry of NO_PROXY, which is written to, holds for @target; @ip is set when its
 * host is an address. */
static bool excepts(char *entry, const struct endpoint *target, const struct ip *ip)
{
	struct ip_net net;
	const char *port;
	struct ip own;

	if (!strcmp(entry, "*"))
		return true;
	if (ip_net_parse(entry, &net) == 0) {
		net = ip_net_base(&net);
		return ip_is_set(ip) && ip->family == net.ip.family && ip_net_contains(&net, ip);
	}
	port = cut_port(&entry);
	if (port && *port && strtoul(port, NULL, 10) != target->port)
		return false;
	if (ip_parse(entry, &own) == 0) {
		unmap(&own);
		return ip_is_set(ip) && ip_equal(&own, ip);
	}
	return *entry && name_matches(entry, target->host);
}

static bool is_excepted(const char *list, const struct endpoint *target)
{
	char entry[NO_PROXY_MAX];
	struct ip ip = {0};

	if (!strcasecmp(target->host, "localhost"))
		return true;
	if (ip_parse(target->host, &ip) == 0) {
		unmap(&ip);
		if (is_loopback(&ip))
			return true;
	}
	while (list && *list) {
		const size_t len = strcspn(list, ",");
		const char *begin = list + strspn(list, " \t");
		const char *end = list + len;

		list = end + (*end == ',');
		while (end > begin && isspace((unsigned char)end[-1]))
			end--;
		if (begin >= end || (size_t)(end - begin) >= sizeof(entry))
			continue;
		(void)snprintf(entry, sizeof(entry), "%.*s", (int)(end - begin), begin);
		if (excepts(entry, target, &ip))
			return true;
	}
	return false;
}

int proxy_from_environment(char *(*getenv_fn)(const char *name), const struct endpoint *target,
			   struct proxy *ret_proxy, struct err *err)
{
	static const char *const https[2] = {"HTTPS_PROXY", "https_proxy"};
	static const char *const http[2] = {"HTTP_PROXY", "http_proxy"};
	static const char *const no[2] = {"NO_PROXY", "no_proxy"};
	const char *name, *no_name, *url = first_of(getenv_fn, target->tls ? https : http, &name);
	char *with_scheme;
	int r;

	if (!url || is_excepted(first_of(getenv_fn, no, &no_name), target)) {
		*ret_proxy = (struct proxy){.kind = PROXY_NONE};
		return 0;
	}
	/* "10.0.0.9:3128" alone is an HTTP proxy. */
	with_scheme = mem_alloc(strlen(url) + sizeof("http://"), 1);
	(void)stpcpy(stpcpy(with_scheme, strstr(url, "://") ? "" : "http://"), url);
	r = proxy_parse(with_scheme, ret_proxy, err);
	mem_free_secret(with_scheme);
	return r < 0 ? err_wrap(err, r, "%s", name) : 0;
}

/* -- the talk -------------------------------------------------------------------------- */

enum talk_state {
	TALK_CONNECT,
	TALK_GREETING, /* SOCKS5: which way to authenticate */
	TALK_PASSWORD,
	TALK_REQUEST,
	TALK_OPEN,
	TALK_FAILED,
};

struct proxy_talk {
	struct proxy proxy;
	struct endpoint target;
	enum talk_state state;
	struct http_parser parser; /* CONNECT */
	uint8_t answer[SOCKS_ANSWER_MAX];
	size_t answer_len;
	uint8_t output[OUTPUT_MAX];
	size_t output_len;
};

static void say(struct proxy_talk *talk, const void *data, size_t len)
{
	memcpy(talk->output + talk->output_len, data, len);
	talk->output_len += len;
}

static void say_byte(struct proxy_talk *talk, unsigned byte)
{
	const uint8_t b = (uint8_t)byte;

	say(talk, &b, 1);
}

static void say_text(struct proxy_talk *talk, const char *text)
{
	say(talk, text, strlen(text));
}

/* Host and port are at most 260 bytes, the secrets of 255 bytes each 684 in base64. */
static void say_connect(struct proxy_talk *talk)
{
	const struct endpoint *target = &talk->target;
	const bool v6 = strchr(target->host, ':') != NULL;
	char place[ENDPOINT_TEXT_MAX];

	talk->state = TALK_CONNECT;
	talk->parser.body_max = ANSWER_BODY_MAX;
	(void)snprintf(place, sizeof(place), "%s%s%s:%u", v6 ? "[" : "", target->host,
		       v6 ? "]" : "", target->port);
	say_text(talk, "CONNECT ");
	say_text(talk, place);
	say_text(talk, " HTTP/1.1\r\nHost: ");
	say_text(talk, place);
	say_text(talk, "\r\nUser-Agent: weft/" WEFT_VERSION "\r\n");
	if (talk->proxy.user) {
		char *basic = http_basic(talk->proxy.user, talk->proxy.password);

		say_text(talk, "Proxy-Authorization: ");
		say_text(talk, basic);
		say_text(talk, "\r\n");
		mem_free_secret(basic);
	}
	say_text(talk, "\r\n");
}

static void say_greeting(struct proxy_talk *talk)
{
	talk->state = TALK_GREETING;
	say_byte(talk, 5);
	say_byte(talk, talk->proxy.user ? 2 : 1);
	say_byte(talk, 0); /* no authentication */
	if (talk->proxy.user)
		say_byte(talk, 2); /* user name and password */
}

static void say_password(struct proxy_talk *talk)
{
	talk->state = TALK_PASSWORD;
	say_byte(talk, 1);
	say_byte(talk, (unsigned)strlen(talk->proxy.user));
	say_text(talk, talk->proxy.user);
	say_byte(talk, (unsigned)strlen(talk->proxy.password));
	say_text(talk, talk->proxy.password);
}

static void say_request(struct proxy_talk *talk)
{
	const struct endpoint *target = &talk->target;
	struct ip ip;

	talk->state = TALK_REQUEST;
	say_byte(talk, 5);
	say_byte(talk, 1); /* connect */
	say_byte(talk, 0);
	if (ip_parse(target->host, &ip) == 0) {
		say_byte(talk, ip.family == IP_V4 ? 1 : 4);
		say(talk, ip.b, ip_bytes(ip.family));
	} else {
		say_byte(talk, 3);
		say_byte(talk, (unsigned)strlen(target->host)); /* at most 253 */
		say_text(talk, target->host);
	}
	say_byte(talk, target->port >> 8);
	say_byte(talk, target->port & 0xff);
}

struct proxy_talk *proxy_talk_new(const struct proxy *proxy, const struct endpoint *target)
{
	struct proxy_talk *talk = mem_alloc(1, sizeof(*talk));

	proxy_copy(proxy, &talk->proxy);
	talk->target = *target;
	if (proxy->kind == PROXY_SOCKS5)
		say_greeting(talk);
	else
		say_connect(talk);
	return talk;
}

void proxy_talk_free(struct proxy_talk *talk)
{
	if (!talk)
		return;
	proxy_done(&talk->proxy);
	http_parser_done(&talk->parser);
	explicit_bzero(talk, sizeof(*talk));
	free(talk);
}

const void *proxy_talk_output(struct proxy_talk *talk, size_t *ret_len)
{
	*ret_len = talk->output_len;
	talk->output_len = 0;
	return talk->output;
}

static int no_user(const struct proxy_talk *talk, struct err *err)
{
	return err_set(err, -ECONNREFUSED,
		       talk->proxy.user ? "it does not accept the user name and password in its URL"
					: "it wants a user name and password in its URL");
}

static int feed_connect(struct proxy_talk *talk, const void *data, size_t len, struct err *err)
{
	struct http_parser *parser = &talk->parser;
	int r = http_parser_feed(parser, data, len, err);

	if (r < 0)
		return -EPROTO;
	if (!http_parser_has_head(parser))
		return 0;
	if (parser->status / 100 == 2 && !parser->body.len && !parser->surplus)
		return 1;
	if (parser->status / 100 == 2)
		return err_set(err, -EPROTO, "it sends more than its answer");
	if (parser->status == 407)
		return no_user(talk, err);
	return err_set(err, -ECONNREFUSED, "it %s %s:%u (%d)",
		       parser->status >= 500 ? "cannot connect to" : "refuses to connect to",
		       talk->target.host, talk->target.port, parser->status);
}

/* RFC 1928, section 6. */
static const char *socks_words(unsigned code)
{
	static const char *const words[] = {
		[1] = "it fails to connect",
		[2] = "its rules forbid the connection",
		[3] = "it has no route to the server's network",
		[4] = "it has no route to the server, or does not know its name",
		[5] = "the server refuses its connection",
		[6] = "it gets no answer from the server",
		[7] = "it cannot connect (the command is not known)",
		[8] = "it does not speak the server's address family",
	};

	return code < ARRAY_SIZE(words) && words[code] ? words[code]
						       : "it refuses with an unknown code";
}

/* How long the answer is, as far as can be told. */
static size_t socks_wanted(const struct proxy_talk *talk)
{
	const uint8_t *a = talk->answer;

	if (talk->state != TALK_REQUEST)
		return 2;
	/* Of a refusal, some send no more than this. */
	if (talk->answer_len < 2 || a[0] != 5 || a[1])
		return 2;
	if (talk->answer_len < 5)
		return 5;
	return 4 + 2 + (a[3] == 1 ? 4 : a[3] == 4 ? 16 : a[3] == 3 ? 1u + a[4] : 0u);
}

/* One whole answer is there. As proxy_talk_feed(). */
static int take_socks(struct proxy_talk *talk, struct err *err)
{
	const uint8_t *a = talk->answer;

	if (a[0] != (talk->state == TALK_PASSWORD ? 1 : 5))
		return err_set(err, -EPROTO, "it answers, but does not speak SOCKS5");
	if (talk->state == TALK_GREETING) {
		if (a[1] == 2 && talk->proxy.user)
			say_password(talk);
		else if (a[1] == 0)
			say_request(talk);
		else
			return no_user(talk, err);
		return 0;
	}
	if (talk->state == TALK_PASSWORD) {
		if (a[1])
			return no_user(talk, err);
		say_request(talk);
		return 0;
	}
	if (a[1])
		return err_set(err, -ECONNREFUSED, "%s", socks_words(a[1]));
	if (a[3] != 1 && a[3] != 3 && a[3] != 4)
		return err_set(err, -EPROTO, "it answers with an address of an unknown kind");
	return 1;
}

static int feed_socks(struct proxy_talk *talk, const uint8_t *data, size_t len, struct err *err)
{
	for (size_t i = 0; i < len;) {
		int r = 0;

		talk->answer[talk->answer_len++] = data[i++];
		if (talk->answer_len < socks_wanted(talk))
			continue;
		/* The next answer cannot come before it was asked for. */
		r = take_socks(talk, err);
		if (r >= 0 && i < len)
			return err_set(err, -EPROTO, "it sends more than its answer");
		talk->answer_len = 0;
		if (r)
			return r;
	}
	return 0;
}

int proxy_talk_feed(struct proxy_talk *talk, const void *data, size_t len, struct err *err)
{
	int r;

	if (talk->state == TALK_OPEN || talk->state == TALK_FAILED)
		return err_set(err, -EPROTO, "it sends more than its answer");
	if (talk->state == TALK_CONNECT)
		r = feed_connect(talk, data, len, err);
	else
		r = feed_socks(talk, data, len, err);
	if (r)
		talk->state = r < 0 ? TALK_FAILED : TALK_OPEN;
	return r;
}
