/* SPDX-License-Identifier: Apache-2.0 */
/* mem.c - allocation that cannot fail, and memory that nothing is left in */
#include "base/mem.h"

void *mem_alloc(size_t n, size_t size)
{
	void *p = calloc(n, size);

	if (!p && n && size)
		abort();
	return p;
}

void *mem_realloc(void *p, size_t n, size_t size)
{
	p = reallocarray(p, n, size);
	if (!p && n && size)
		abort();
	return p;
}

void mem_free_secret(char *text)
{
	if (text)
		explicit_bzero(text, strlen(text));
	free(text);
}

char *mem_strdup(const char *s)
{
	char *copy = strdup(s);

	if (!copy)
		abort();
	return copy;
}
