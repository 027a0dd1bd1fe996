/* SPDX-License-Identifier: Apache-2.0 */
/* rulesets.h - tests of rules in network namespaces of their own */
#pragma once

#include "messages.h"
#include "rules/policy.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>

static inline struct policy rulesets_policy(void)
{
	struct policy policy = {.masquerade = true, .fully_random = true, .forward = true};

	policy.network[IP_V4] = messages_net("10.5.0.0/16");
	policy.subnet[IP_V4] = messages_net("10.5.1.0/24");
	policy.network[IP_V6] = messages_net("fc00:5::/48");
	policy.subnet[IP_V6] = messages_net("fc00:5:0:1::/64");
	return policy;
}

/* Feeds a program, which must succeed. */
static inline void rulesets_feed(const char *program, const char *text)
{
	FILE *f = popen(program, "we");

	assert_non_null(f);
	(void)fputs(text, f);
	if (pclose(f))
		fail_msg("%s: %s", program, text);
}

static inline void rulesets_run(const char *command)
{
	if (system(command)) /* NOLINT(cert-env33-c) */
		fail_msg("%s", command);
}

/* What @command prints; good until the next call. */
static inline const char *rulesets_output(const char *command)
{
	static char out[65536];
	FILE *f = popen(command, "re"); /* NOLINT(cert-env33-c) */
	size_t n;

	assert_non_null(f);
	n = fread(out, 1, sizeof(out) - 1, f);
	out[n] = '\0';
	if (pclose(f))
		fail_msg("%s", command);
	return out;
}

static inline int rulesets_new_namespace(void **state)
{
	(void)state;
	return unshare(CLONE_NEWNET);
}

/* Whether @command works here; else says in TAP that all is skipped: a plan of nothing. */
static inline bool rulesets_can(const char *command, const char *what)
{
	if (!unshare(CLONE_NEWNET) && !system(command)) /* NOLINT(cert-env33-c) */
		return true;
	printf("1..0 # SKIP %s\n", what);
	return false;
}
