/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_options.c - flags and variables from outside
 *
 * One argument per line; after an empty line, one variable per line.
 */
#include "daemon/options.h"

#include "base/mem.h"
#include "daemon/pattern.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#define WORDS_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Whatever was accepted is inside its range. */
static void check(const struct options *options)
{

	assert(options->iface.n <= OPTIONS_LIST_MAX && options->iface_regex.n <= OPTIONS_LIST_MAX);
	assert(options->healthz_port >= 0 && options->healthz_port <= 65535);
	assert(options->subnet_lease_renew_margin_min >= 1 &&
	       options->subnet_lease_renew_margin_min <= 1439);
	assert(options->tx_checksum < TX_CHECKSUM_COUNT);
	assert(ip_is_set(&options->healthz_ip));
	assert(options->public_ip[IP_V4].family != IP_V6);
	assert(options->public_ip[IP_V6].family != IP_V4);
	for (size_t i = 0; i < options->iface_regex.n; i++) {
		struct pattern *pattern;
		int r = pattern_new(options->iface_regex.item[i], &pattern, NULL);

		assert(r == 0);
		(void)pattern_matches(pattern, "eth0");
		pattern_free(pattern);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char program[] = "flanneld", *words[2][WORDS_MAX] = {{program}};
	_cleanup_free_ char *text = mem_alloc(size + 1, 1);
	size_t n[2] = {1, 0}, list = 0;
	char *cursor = text, *line;
	struct options options;
	struct err err = {""};

	if (size)
		memcpy(text, data, size);
	while ((line = strsep(&cursor, "\n")) != NULL) {
		if (!*line && list == 0)
			list = 1;
		else if (n[list] < WORDS_MAX - 1)
			words[list][n[list]++] = line;
	}
	words[0][n[0]] = NULL;
	words[1][n[1]] = NULL;
	if (options_parse((int)n[0], words[0], words[1], &options, &err) == 0) {
		check(&options);
		options_done(&options);
	} else {
		assert(err.text[0]);
	}
	return 0;
}
