/* SPDX-License-Identifier: Apache-2.0 */
/* pattern.c - regular expressions as --iface-regex takes them */
#include "daemon/pattern.h"

#include "base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <regex.h>
#include <string.h>

/* Limit on the copies that regcomp() makes of what is repeated: nested repetitions
 * multiply, and a short text could ask for gigabytes. */
#define COPIES_MAX 256

struct pattern {
	regex_t regex;
};

/* The rewritten text grows: \d becomes [0-9]. */
struct rewrite {
	const char *in;
	char out[PATTERN_MAX_BYTES * 8];
	size_t n;
	unsigned depth; /* of parentheses */
	unsigned long copies;
	enum { LAST_ATOM, LAST_GROUP, LAST_QUANTIFIER } last;
};

static void put(struct rewrite *rw, const char *text, size_t n)
{
	if (rw->n + n >= sizeof(rw->out))
		abort(); /* eight bytes for one is more than any rule below needs */
	memcpy(rw->out + rw->n, text, n);
	rw->n += n;
}

static void put_text(struct rewrite *rw, const char *text)
{
	put(rw, text, strlen(text));
}

/* \x outside of brackets; @rw->in is at x. */
static int rewrite_escape(struct rewrite *rw, struct err *err)
{
	char c = *rw->in++;

	switch (c) {
	case 'd':
		put_text(rw, "[0-9]");
		return 0;
	case 'D':
		put_text(rw, "[^0-9]");
		return 0;
	case 'w':
	case 'W':
	case 's':
	case 'S':
	case 'b':
	case 'B':
		break; /* glibc knows them */
	case '\0':
		return err_set(err, -EINVAL, "ends in a lone backslash");
	default:
		if (isalnum((unsigned char)c))
			return err_set(err, -EINVAL, "\\%c is not supported", c);
		break;
	}
	put(rw, (const char[]){'\\', c}, 2);
	return 0;
}

/* \x inside brackets, where POSIX takes a backslash as itself. */
static int rewrite_bracket_escape(struct rewrite *rw, struct err *err)
{
	char c = *rw->in++;

	switch (c) {
	case 'd':
		put_text(rw, "0-9");
		return 0;
	case 'w':
		put_text(rw, "a-zA-Z0-9_");
		return 0;
	case 's':
		put_text(rw, "[:space:]"); /* 9 bytes for 2 */
		return 0;
	default:
		if (!ispunct((unsigned char)c) || strchr("]-^[", c))
			return err_set(err, -EINVAL, "\\%.1s is not supported inside brackets",
				       isprint((unsigned char)c) ? &c : "?");
		put(rw, &c, 1);
		return 0;
	}
}

/* A bracket expression; @rw->in is behind the opening bracket. */
static int rewrite_bracket(struct rewrite *rw, struct err *err)
{
	int r;

	put(rw, "[", 1);
	if (*rw->in == '^')
		put(rw, rw->in++, 1);
	if (*rw->in == ']')
		put(rw, rw->in++, 1);
	while (*rw->in && *rw->in != ']') {
		const char *end =
			rw->in[0] == '[' && rw->in[1] == ':' ? strstr(rw->in, ":]") : NULL;

		if (end) {
			put(rw, rw->in, (size_t)(end + 2 - rw->in));
			rw->in = end + 2;
		} else if (*rw->in == '\\') {
			rw->in++;
			r = rewrite_bracket_escape(rw, err);
			if (r < 0)
				return r;
		} else {
			put(rw, rw->in++, 1);
		}
	}
	if (!*rw->in)
		return err_set(err, -EINVAL, "a bracket is not closed");
	put(rw, rw->in++, 1);
	return 0;
}

/* `(`; @rw->in is behind it. */
static int rewrite_group(struct rewrite *rw, struct err *err)
{
	put(rw, "(", 1);
	rw->depth++;
	if (rw->in[0] != '?')
		return 0;
	if (rw->in[1] != ':')
		return err_set(err, -EINVAL, "(?%.1s is not supported", rw->in + 1);
	rw->in += 2;
	return 0;
}

/* What regcomp() makes of a quantifier: copies of the atom before it. `+` is two. */
static unsigned long count_copies(char quantifier, const char *behind)
{
	unsigned long most = quantifier == '+' ? 2 : 1;

	if (quantifier != '{')
		return most;
	for (const char *c = behind; isdigit((unsigned char)*c) || *c == ','; c++) {
		unsigned long count = strtoul(*c == ',' ? c + 1 : c, NULL, 10);

		most = count > most ? count : most;
		if (most > COPIES_MAX)
			break;
	}
	return most;
}

/* One of *+?{; @rw->in is behind it. */
static int rewrite_quantifier(struct rewrite *rw, char c, struct err *err)
{
	unsigned long copies = count_copies(c, rw->in);

	if (rw->last == LAST_QUANTIFIER)
		return err_set(err, -EINVAL, "one repetition follows another");
	/* A repeated letter adds to the size, a repeated group multiplies it. */
	if (rw->last == LAST_GROUP || c == '{')
		rw->copies *= copies;
	if (rw->copies > COPIES_MAX)
		return err_set(err, -EINVAL, "repeats more than %d times", COPIES_MAX);
	put(rw, &c, 1);
	while (c == '{' && (isdigit((unsigned char)*rw->in) || *rw->in == ','))
		put(rw, rw->in++, 1);
	if (c == '{' && *rw->in == '}')
		put(rw, rw->in++, 1);
	if (*rw->in == '?') /* lazy or greedy: whether there is a match is the same */
		rw->in++;
	rw->last = LAST_QUANTIFIER;
	return 0;
}

static int rewrite_one(struct rewrite *rw, struct err *err)
{
	char c = *rw->in++;

	if (strchr("*+?{", c))
		return rewrite_quantifier(rw, c, err);
	rw->last = c == ')' ? LAST_GROUP : LAST_ATOM;
	if (c == '\\')
		return rewrite_escape(rw, err);
	if (c == '[')
		return rewrite_bracket(rw, err);
	if (c == '(')
		return rewrite_group(rw, err);
	if (c == ')' && rw->depth-- == 0)
		return err_set(err, -EINVAL, "a parenthesis is closed that was not opened");
	put(rw, &c, 1);
	return 0;
}

static int rewrite(struct rewrite *rw, struct err *err)
{
	int r = 0;

	while (r == 0 && *rw->in)
		r = rewrite_one(rw, err);
	rw->out[rw->n] = '\0';
	return r;
}

int pattern_new(const char *text, struct pattern **ret_pattern, struct err *err)
{
	int flags = REG_EXTENDED | REG_NOSUB, r;
	struct rewrite rw = {.in = text, .copies = 1};
	struct pattern *pattern;
	char reason[128];

	if (!*text || strlen(text) > PATTERN_MAX_BYTES)
		return err_set(err, -EINVAL, "must have 1 to %d characters", PATTERN_MAX_BYTES);
	if (!strncmp(text, "(?i)", 4)) {
		rw.in += 4;
		flags |= REG_ICASE;
	}
	r = rewrite(&rw, err);
	if (r < 0)
		return r;
	pattern = mem_alloc(1, sizeof(*pattern));
	r = regcomp(&pattern->regex, rw.out, flags);
	if (r != 0) {
		(void)regerror(r, &pattern->regex, reason, sizeof(reason));
		free(pattern);
		return err_set(err, -EINVAL, "not a regular expression: %s", reason);
	}
	*ret_pattern = pattern;
	return 0;
}

void pattern_free(struct pattern *pattern)
{
	if (!pattern)
		return;
	regfree(&pattern->regex);
	free(pattern);
}

bool pattern_matches(const struct pattern *pattern, const char *text)
{
	return regexec(&pattern->regex, text, 0, NULL, 0) == 0;
}
