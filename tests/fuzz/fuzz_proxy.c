/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_proxy.c - what proxies answer, and how they are given
 *
 * The first byte says which: a URL and NO_PROXY, or answers of a kind of proxy, whose cuts
 * change nothing.
 */
#include "base/mem.h"
#include "io/proxy.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *no_proxy;

static char *get(const char *name)
{
	static char url[] = "proxy.example:3128";

	if (!strcmp(name, "NO_PROXY"))
		return no_proxy;
	return !strcmp(name, "HTTPS_PROXY") ? url : NULL;
}

static void try_settings(char *text)
{
	static const char *const hosts[] = {"a.example", "10.0.0.1", "fd00::1"};
	struct endpoint target = {.tls = true, .port = 6443};
	struct proxy proxy;

	if (proxy_parse(text, &proxy, NULL) == 0) {
		assert(proxy.kind != PROXY_NONE && *proxy.endpoint.host && proxy.endpoint.port);
		assert(!proxy.user == !proxy.password);
		assert(!proxy.user ||
		       (strlen(proxy.user) <= UINT8_MAX && strlen(proxy.password) <= UINT8_MAX));
		assert(!strchr(proxy.endpoint.text, '@'));
		proxy_done(&proxy);
	}
	no_proxy = text;
	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++) {
		(void)stpcpy(target.host, hosts[i]);
		assert(proxy_from_environment(get, &target, &proxy, NULL) == 0);
		if (!strcmp(text, "*"))
			assert(proxy.kind == PROXY_NONE);
		proxy_done(&proxy);
	}
}

static int talk_to(const char *url, const uint8_t *data, size_t size, size_t piece)
{
	const struct endpoint target = {.host = "api.example", .port = 6443};
	struct err err = {""};
	struct proxy_talk *talk;
	struct proxy proxy;
	size_t len;
	int r = 0;

	assert(proxy_parse(url, &proxy, NULL) == 0);
	talk = proxy_talk_new(&proxy, &target);
	proxy_done(&proxy);
	(void)proxy_talk_output(talk, &len);
	assert(len > 0);
	for (size_t i = 0; i < size && r >= 0; i += piece) {
		r = proxy_talk_feed(talk, data + i, piece < size - i ? piece : size - i, &err);
		(void)proxy_talk_output(talk, &len);
		assert(r == 0 || len == 0 || r < 0);
	}
	assert(!(r < 0) == !*err.text);
	assert(r == 0 || r == 1 || r == -EPROTO || r == -ECONNREFUSED);
	proxy_talk_free(talk);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const urls[] = {"http://p", "socks5://p", "socks5://u:p@p"};
	char *text;

	if (!size)
		return 0;
	if (data[0] % 4 == 3) {
		text = mem_alloc(size, 1);
		memcpy(text, data + 1, size - 1);
		try_settings(text);
		free(text);
		return 0;
	}
	/* Whole, an answer ahead of its question is too much; cut, it may be in time. */
	if (talk_to(urls[data[0] % 4], data + 1, size - 1, size) == 1)
		assert(talk_to(urls[data[0] % 4], data + 1, size - 1, 1) == 1);
	(void)talk_to(urls[data[0] % 4], data + 1, size - 1, 2);
	return 0;
}
