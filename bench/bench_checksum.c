/* SPDX-License-Identifier: Apache-2.0 */
/* bench_checksum.c - how fast bytes are summed up, copied with that, and peers are found
 *
 * Beside src/backend/udp/checksum.c in force stand the variants that it was chosen from, so
 * that another machine or compiler can choose again, and memcpy(), which is the floor. Prints
 * JSON: the best of several rounds, in turns, since what disturbs only ever slows.
 */
#include "backend/udp/checksum.h"
#include "backend/udp/table.h"
#include "base/mem.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define ROUNDS      12
#define BYTES_ROUND 8000000
#define LARGEST     65536

typedef uint64_t (*sum_fn)(uint64_t sum, void *dst, const void *src, size_t len);

/* Keeps the compiler from seeing that the same is done again and again. */
static void forget(void)
{
	__asm__ volatile("" ::: "memory");
}

static uint64_t load(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static uint64_t add_carry(uint64_t a, uint64_t b)
{
	a += b;
	return a + (a < b);
}

static uint64_t tail(uint64_t sum, const uint8_t *p, size_t len)
{
	uint64_t last = 0;

	memcpy(&last, p, len);
	return add_carry(sum, last);
}

/* 64 bits at a time, the carry folded back. */
static uint64_t carry(uint64_t sum, void *dst, const void *src, size_t len)
{
	const uint8_t *p = src;

	if (dst)
		p = memcpy(dst, src, len);
	for (; len >= 8; len -= 8, p += 8)
		sum = add_carry(sum, load(p));
	return tail(sum, p, len);
}

/* The same, into four accumulators. */
static uint64_t carry_4(uint64_t sum, void *dst, const void *src, size_t len)
{
	const uint8_t *p = src;
	uint64_t b = 0, c = 0, d = 0;

	if (dst)
		p = memcpy(dst, src, len);
	for (; len >= 32; len -= 32, p += 32) {
		sum = add_carry(sum, load(p));
		b = add_carry(b, load(p + 8));
		c = add_carry(c, load(p + 16));
		d = add_carry(d, load(p + 24));
	}
	return carry(add_carry(add_carry(sum, b), add_carry(c, d)), NULL, p, len);
}

/* Both halves of 64 bits into accumulators without carry. */
static uint64_t halves(uint64_t sum, void *dst, const void *src, size_t len)
{
	const uint8_t *p = src;
	uint64_t low = 0, high = 0;

	if (dst)
		p = memcpy(dst, src, len);
	for (; len >= 8; len -= 8, p += 8) {
		low += load(p) & UINT32_MAX;
		high += load(p) >> 32;
	}
	return tail(add_carry(add_carry(sum, low), high), p, len);
}

/* 32 bits at a time, for the compiler to make vectors of. */
static uint64_t words(uint64_t sum, void *dst, const void *src, size_t len)
{
	const uint8_t *p = src;
	uint64_t all = 0;

	if (dst)
		p = memcpy(dst, src, len);
	for (size_t i = 0; i < len / 4; i++) {
		uint32_t v;

		memcpy(&v, p + 4 * i, sizeof(v));
		all += v;
	}
	return tail(add_carry(sum, all), p + len / 4 * 4, len % 4);
}

typedef uint64_t wide __attribute__((vector_size(32)));

/* As in force, with vectors twice as wide. */
static uint64_t vectors_32(uint64_t sum, void *dst, const void *src, size_t len)
{
	const uint8_t *p = src;
	wide low = {0}, high = {0}, v;

	if (dst)
		p = memcpy(dst, src, len);
	for (; len >= sizeof(v); len -= sizeof(v), p += sizeof(v)) {
		memcpy(&v, p, sizeof(v));
		low += v & UINT32_MAX;
		high += v >> 32;
	}
	low += high;
	return carry(add_carry(sum, low[0] + low[1] + low[2] + low[3]), NULL, p, len);
}

static uint64_t in_force(uint64_t sum, void *dst, const void *src, size_t len)
{
	return dst ? checksum_copy(sum, dst, src, len) : checksum_add(sum, src, len);
}

static uint64_t just_copy(uint64_t sum, void *dst, const void *src, size_t len)
{
	memcpy(dst, src, len);
	return sum;
}

static const struct {
	const char *name;
	sum_fn sum;
	bool copy_only;
} variants[] = {
	{"memcpy", just_copy, true},
	{"in force", in_force, false},
	{"carry", carry, false},
	{"carry x 4", carry_4, false},
	{"halves", halves, false},
	{"words", words, false},
	{"vectors of 32", vectors_32, false},
};

static const size_t lens[] = {64, 1472, LARGEST};

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* GB/s of one round. Nothing lies as the machine would like it. */
static double sum_round(sum_fn sum, bool copy, size_t len)
{
	static uint8_t src[LARGEST + 8], dst[LARGEST + 8];
	volatile uint64_t sink;
	uint64_t total = 0;
	size_t n = BYTES_ROUND / (len + 100);
	double begin;

	memset(src, 0x5a, sizeof(src));
	memset(dst, 0, sizeof(dst));
	begin = now_s();
	for (size_t i = 0; i < n; i++) {
		total += sum(total & 1, copy ? dst + 1 : NULL, src + 2, len);
		forget();
	}
	sink = total;
	(void)sink;
	return (double)(n * len) / (now_s() - begin) / 1e9;
}

static void print_sums(void)
{
	double best[ARRAY_SIZE(variants)][2][ARRAY_SIZE(lens)] = {{{0}}};

	for (int r = 0; r < ROUNDS; r++) {
		for (size_t v = 0; v < ARRAY_SIZE(variants) * 2 * ARRAY_SIZE(lens); v++) {
			size_t which = v / (2 * ARRAY_SIZE(lens)), l = v % ARRAY_SIZE(lens);
			bool copy = v / ARRAY_SIZE(lens) % 2;
			double rate;

			if (!copy && variants[which].copy_only)
				continue;
			rate = sum_round(variants[which].sum, copy, lens[l]);
			if (rate > best[which][copy][l])
				best[which][copy][l] = rate;
		}
	}
	for (size_t v = 0; v < ARRAY_SIZE(variants); v++) {
		for (int copy = variants[v].copy_only; copy < 2; copy++) {
			printf("  {\"variant\": \"%s\", \"what\": \"%s\"", variants[v].name,
			       copy ? "copy" : "add");
			for (size_t l = 0; l < ARRAY_SIZE(lens); l++)
				printf(", \"%zu\": %.1f", lens[l], best[v][copy][l]);
			printf("}%s\n", v + 1 < ARRAY_SIZE(variants) || copy < 1 ? "," : "");
		}
	}
}

/* ns for a look at random subnets of @n peers; @mixed: of two lengths. */
static double find_round(uint32_t n, bool mixed)
{
	_cleanup_free_ struct udp_peer *peers = mem_alloc(n, sizeof(*peers));
	_cleanup_free_ struct table *table = NULL;
	enum { LOOKS = 1 << 19 };
	volatile uint64_t sink;
	uint64_t found = 0;
	uint32_t random = 1;
	double begin;

	for (uint32_t i = 0; i < n; i++)
		peers[i] = (struct udp_peer){.subnet = 0x0a000000 + (i << 8),
					     .subnet_len = mixed && i % 2 ? 25 : 24,
					     .addr = 0xac100000 + i};
	table = table_new(peers, n);
	begin = now_s();
	for (int i = 0; i < LOOKS; i++) {
		uint32_t dst;

		random = random * 1664525 + 1013904223;
		dst = 0x0a000000 + ((random >> 8) % n << 8);
		/* As the receiver does it: whose subnet, and who is the sender. */
		found += table_find(table, dst)->addr + table_knows(table, 0xac100000 + dst % n);
	}
	sink = found;
	(void)sink;
	return (now_s() - begin) / LOOKS * 1e9;
}

static void print_finds(void)
{
	static const struct {
		uint32_t n;
		bool mixed;
	} cases[] = {{2, false}, {64, false}, {5000, false}, {5000, true}};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		double best = 1e9;

		for (int r = 0; r < ROUNDS; r++) {
			double ns = find_round(cases[i].n, cases[i].mixed);

			best = ns < best ? ns : best;
		}
		printf("  {\"peers\": %u, \"lengths\": \"%s\", \"ns\": %.1f}%s\n", cases[i].n,
		       cases[i].mixed ? "mixed" : "equal", best,
		       i + 1 < ARRAY_SIZE(cases) ? "," : "");
	}
}

int main(void)
{
	printf("{\"GB/s\": [\n");
	print_sums();
	printf(" ],\n \"table\": [\n");
	print_finds();
	printf(" ]}\n");
	return 0;
}
