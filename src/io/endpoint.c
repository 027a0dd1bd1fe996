/* SPDX-License-Identifier: Apache-2.0 */
/* endpoint.c - the URL of a server, read strictly */
#include "base/log.h"
#include "io/dial.h"
#include "net/ip.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define SHOWN_MAX 200

/* @url for a message: what may be a password is left out, control characters too. */
static const char *show(const char *url, char buf[SHOWN_MAX])
{
	const char *at = strrchr(url, '@');
	size_t n = strcspn(url, "@:");
	int scheme_len = strncmp(url + n, "://", 3) == 0 ? (int)n + 3 : 0;

	if (at)
		(void)snprintf(buf, SHOWN_MAX, "%.*s***%s", scheme_len, url, at);
	else
		(void)snprintf(buf, SHOWN_MAX, "%s", url);
	log_clean(buf);
	return buf;
}

static bool is_label_char(char c)
{
	return isalnum((unsigned char)c) || c == '-' || c == '_';
}

/* Labels of 1 to 63 characters, the last one not a number: `10.0.0` and `10.0.0.256` are
 * addresses gone wrong, not names. A dot at the end is allowed. */
static bool is_name(const char *name)
{
	const char *label = name;
	bool number = false;

	while (*label) {
		size_t n = 0, digits = 0;

		while (is_label_char(label[n])) {
			digits += isdigit((unsigned char)label[n]) != 0;
			n++;
		}
		if (n == 0 || n > 63 || label[0] == '-' || (label[n] && label[n] != '.'))
			return false;
		number = digits == n;
		label += label[n] ? n + 1 : n;
	}
	return *name && !number;
}

/* Splits "host:port" or "[v6]:port" of @len bytes. NULL, or what is wrong. */
static const char *split_host(const char *text, size_t len, bool *ret_brackets, char *ret_host,
			      const char **ret_port)
{
	const char *end = text + len, *colon, *close;
	size_t host_len;

	*ret_port = NULL;
	*ret_brackets = len && *text == '[';
	if (*ret_brackets) {
		close = memchr(text, ']', len);
		if (!close)
			return "the ] behind the address is missing";
		text++;
		host_len = (size_t)(close - text);
		if (close + 1 < end && close[1] != ':')
			return "only a port may follow the ]";
		colon = close + 1 < end ? close + 1 : NULL;
	} else {
		colon = memchr(text, ':', len);
		if (colon && memchr(colon + 1, ':', (size_t)(end - colon - 1)))
			return "an IPv6 address stands in brackets: [fd00::1]:2379";
		host_len = colon ? (size_t)(colon - text) : len;
	}
	if (!host_len)
		return "the host is missing";
	if (host_len >= ENDPOINT_HOST_MAX)
		return "the host is too long";
	memcpy(ret_host, text, host_len);
	ret_host[host_len] = '\0';
	*ret_port = colon ? colon + 1 : NULL;
	return NULL;
}

static const char *check_host(const char *host, bool brackets)
{
	struct ip ip;
	int r = ip_parse(host, &ip);

	if (brackets)
		return r < 0 || ip.family != IP_V6 ? "what is in brackets is no IPv6 address"
						   : NULL;
	if (r < 0 && !is_name(host))
		return "the host is neither an address nor a name";
	return NULL;
}

/* Digits up to @end. */
static const char *parse_port(const char *text, const char *end, uint16_t *ret_port)
{
	unsigned port = 0;

	if (text == end)
		return "there is a colon but no port";
	for (; text < end; text++) {
		if (!isdigit((unsigned char)*text))
			return "the port is not a number";
		port = port * 10 + (unsigned)(*text - '0');
		if (port > UINT16_MAX)
			return "the port is above 65535";
	}
	if (!port)
		return "port 0 cannot be connected to";
	*ret_port = (uint16_t)port;
	return NULL;
}

/* What follows host and port: nothing, or one slash. */
static const char *check_rest(const char *rest)
{
	switch (*rest) {
	case '/':
		return rest[1] ? "a path does not belong into it" : NULL;
	case '?':
		return "a query does not belong into it";
	case '#':
		return "a fragment does not belong into it";
	default:
		return NULL;
	}
}

/* Everything behind "://". NULL, or what is wrong. */
static const char *parse_authority(const char *text, struct endpoint *endpoint)
{
	size_t len = strcspn(text, "/?#");
	const char *port, *fault;
	bool brackets;

	if (strchr(text, '@'))
		return "a user name and password do not belong into it";
	fault = split_host(text, len, &brackets, endpoint->host, &port);
	if (!fault)
		fault = check_host(endpoint->host, brackets);
	if (!fault && port)
		fault = parse_port(port, text + len, &endpoint->port);
	if (!fault)
		fault = check_rest(text + len);
	return fault;
}

int endpoint_parse(const char *url, uint16_t default_port, struct endpoint *ret_endpoint,
		   struct err *err)
{
	struct endpoint endpoint = {.port = default_port};
	const char *rest = strstr(url, "://"), *fault;
	char shown[SHOWN_MAX];
	size_t len;

	if (rest && (rest - url == 5) && !strncasecmp(url, "https", 5))
		endpoint.tls = true;
	else if (!rest || rest - url != 4 || strncasecmp(url, "http", 4) != 0)
		return err_set(err, -EINVAL, "'%s' does not begin with http:// or https://",
			       show(url, shown));
	fault = parse_authority(rest + 3, &endpoint);
	if (fault)
		return err_set(err, -EINVAL, "'%s': %s (right: http%s://10.0.0.1:%u)",
			       show(url, shown), fault, default_port == ENDPOINT_HTTPS ? "s" : "",
			       default_port);
	len = strlen(url);
	if (url[len - 1] == '/')
		len--;
	if (len >= sizeof(endpoint.text))
		return err_set(err, -EINVAL, "'%s': too long", show(url, shown));
	memcpy(endpoint.text, url, len);
	*ret_endpoint = endpoint;
	return 0;
}
