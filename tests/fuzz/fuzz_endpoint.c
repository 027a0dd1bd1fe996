/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_endpoint.c - the URL of a server
 *
 * Whatever is accepted is inside its limits and reads again as the same; an error never
 * shows what stands before an @.
 */
#include "base/mem.h"
#include "io/dial.h"
#include "net/ip.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_again(const struct endpoint *endpoint)
{
	struct endpoint again;
	struct err err;

	assert(endpoint->port && endpoint->host[0]);
	assert(!strpbrk(endpoint->host, "[]@/?# \n"));
	assert(endpoint_parse(endpoint->text, endpoint->port, &again, &err) == 0);
	assert(again.tls == endpoint->tls && again.port == endpoint->port);
	assert(!strcmp(again.host, endpoint->host) && !strcmp(again.text, endpoint->text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *url = mem_alloc(size + 1, 1);
	struct err err = {""};
	struct endpoint endpoint;
	char *at, *secret;

	if (size)
		memcpy(url, data, size);
	if (endpoint_parse(url, 2379, &endpoint, &err) == 0) {
		check_again(&endpoint);
		return 0;
	}
	assert(err.text[0] && !strpbrk(err.text, "\n\r\x1b"));
	/* A secret that nothing else in the message can look like. */
	for (char *c = url; *c; c++)
		*c = (char)(*c == '%' ? 'x' : *c);
	at = strrchr(url, '@');
	secret = url + strcspn(url, "@:");
	secret = strncmp(secret, "://", 3) == 0 ? secret + 3 : url;
	if (at && at - secret > 1) {
		memset(secret, '%', (size_t)(at - secret));
		assert(endpoint_parse(url, 2379, &endpoint, &err) < 0);
		assert(!strstr(err.text, "%%"));
	}
	return 0;
}
