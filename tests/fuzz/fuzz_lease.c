/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_lease.c - records of a datastore, which any host may have written
 *
 * The first line is the key, the rest the value. What reads is written in a form
 * that reads as the same lease and is written the same again.
 */
#include "base/mem.h"
#include "model/lease.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_key(const char *key)
{
	struct ip_net subnet[IP_FAMILY_COUNT], again[IP_FAMILY_COUNT];
	struct err err = {""};
	char buf[LEASE_KEY_MAX];

	if (lease_parse_key(key, subnet, &err) < 0) {
		assert(*err.text);
		return;
	}
	assert(ip_net_is_set(&subnet[IP_V4]) || ip_net_is_set(&subnet[IP_V6]));
	IP_FOREACH_FAMILY (f) {
		struct ip_net base = ip_net_base(&subnet[f]);

		assert(!ip_net_is_set(&subnet[f]) ||
		       (subnet[f].ip.family == f && subnet[f].len > 0));
		assert(ip_net_equal(&base, &subnet[f]));
	}
	assert(strlen(lease_format_key(subnet, buf)) < LEASE_KEY_MAX - 1);
	assert(lease_parse_key(buf, again, NULL) == 0);
	assert(!memcmp(subnet, again, sizeof(subnet)));
}

static void check_time(const char *text)
{
	int64_t time_s, again_s;
	char buf[32];

	if (lease_parse_time(text, &time_s) < 0)
		return;
	(void)lease_format_time(time_s, buf);
	assert(lease_parse_time(buf, &again_s) == 0);
	/* An offset can reach a day past the years that the text can tell. */
	assert(time_s == again_s || buf[0] == '0' || buf[0] == '9');
}

static void check_record(const char *key, const char *text, size_t len)
{
	_cleanup_free_ char *written = NULL, *rewritten = NULL;
	struct lease lease, again, copy;
	struct err err = {""};

	if (lease_parse(key, text, len, &lease, &err) < 0) {
		assert(*err.text);
		return;
	}
	IP_FOREACH_FAMILY (f)
		assert(!ip_net_is_set(&lease.subnet[f]) || lease.public_ip[f].family == f);
	written = lease_format(&lease);
	if (lease_parse(key, written, strlen(written), &again, &err) < 0) {
		/* Only a record near the limit may grow beyond it by our spelling. */
		assert(len > LEASE_RECORD_MAX / 8);
	} else {
		rewritten = lease_format(&again);
		assert(!strcmp(written, rewritten));
		assert(lease_same_content(&lease, &again));
		lease_done(&again);
	}
	copy = lease_copy(&lease);
	assert(lease_same_content(&copy, &lease));
	lease_done(&copy);
	lease_done(&lease);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *key = mem_alloc(size + 1, 1);
	const char *text;
	char *newline;

	if (size)
		memcpy(key, data, size);
	newline = memchr(key, '\n', size);
	text = newline ? newline + 1 : key + size;
	if (newline)
		*newline = '\0';
	check_key(key);
	check_time(key);
	check_record(key, text, (size_t)(key + size - text));
	return 0;
}
