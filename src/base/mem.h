/* SPDX-License-Identifier: Apache-2.0 */
/* mem.h - ownership: cleanup attributes, TAKE_PTR, allocation that cannot fail
 *
 * Memory running out is not an error that a node daemon can repair (Linux
 * overcommits; the kernel kills before malloc() fails), so mem_* abort instead
 * of returning NULL. Whatever is sized from outside is limited before it gets
 * here.
 */
#pragma once

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define _cleanup_(f) __attribute__((cleanup(f)))

/* Moves ownership out of a variable: yields its value, leaves NULL (or -1) behind. */
#define TAKE_PTR(p)                                                                                \
	({                                                                                         \
		__typeof__(p) *_pp = &(p);                                                         \
		__typeof__(p) _p = *_pp;                                                           \
		*_pp = NULL;                                                                       \
		_p;                                                                                \
	})
#define TAKE_FD(fd)                                                                                \
	({                                                                                         \
		int *_fdp = &(fd);                                                                 \
		int _fd = *_fdp;                                                                   \
		*_fdp = -1;                                                                        \
		_fd;                                                                               \
	})

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

static inline void mem_cleanup_free(void *p)
{
	free(*(void **)p);
}
#define _cleanup_free_ _cleanup_(mem_cleanup_free)

static inline void mem_cleanup_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}
#define _cleanup_close_ _cleanup_(mem_cleanup_close)

/* Zeroed memory for @n objects of @size bytes; aborts when there is none. Caller frees. */
void *mem_alloc(size_t n, size_t size);
/* realloc() to @n objects of @size bytes; aborts when there is no memory. */
void *mem_realloc(void *p, size_t n, size_t size);
/* Copy of @s; aborts when there is no memory. Caller frees. */
char *mem_strdup(const char *s);

/* Overwrites a text and frees it. NULL is allowed. */
void mem_free_secret(char *text);
static inline void mem_cleanup_secret(char **text)
{
	mem_free_secret(*text);
}
#define _cleanup_secret_ _cleanup_(mem_cleanup_secret)
