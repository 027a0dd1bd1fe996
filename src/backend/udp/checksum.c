/* SPDX-License-Identifier: Apache-2.0 */
/* checksum.c - the Internet checksum (RFC 1071) over bytes, alone and while copying
 *
 * Words of 32 bits are added up in lanes of 64, so that no carry is lost and none has to be
 * looked for. Vectors of 16 bytes are what every machine's compiler knows to lower, to scalar
 * code where there is nothing else; wider ones are emulated, and slower, without a -march of
 * their own. bench/bench_checksum.c has what else was tried, and measures it again.
 */
#include "backend/udp/checksum.h"

#include <arpa/inet.h>
#include <string.h>

typedef uint64_t vector __attribute__((vector_size(16)));

/* Without @dst it only adds: the compiler sees that, once this is part of its callers. */
__attribute__((always_inline)) static inline uint64_t pass(uint64_t sum, uint8_t *dst,
							   const uint8_t *src, size_t len)
{
	vector low_a = {0}, high_a = {0}, low_b = {0}, high_b = {0}, a, b;
	size_t at = 0;
	uint32_t word;

	for (; len - at >= 2 * sizeof(vector); at += 2 * sizeof(vector)) {
		memcpy(&a, src + at, sizeof(a));
		memcpy(&b, src + at + sizeof(a), sizeof(b));
		if (dst) {
			memcpy(dst + at, &a, sizeof(a));
			memcpy(dst + at + sizeof(a), &b, sizeof(b));
		}
		low_a += a & UINT32_MAX;
		high_a += a >> 32;
		low_b += b & UINT32_MAX;
		high_b += b >> 32;
	}
	low_a += low_b + high_a + high_b;
	sum += low_a[0] + low_a[1];

	for (; len - at >= sizeof(word); at += sizeof(word)) {
		memcpy(&word, src + at, sizeof(word));
		if (dst)
			memcpy(dst + at, &word, sizeof(word));
		sum += word;
	}
	word = 0;
	memcpy(&word, src + at, len - at);
	if (dst)
		memcpy(dst + at, src + at, len - at);
	return sum + word;
}

uint64_t checksum_add(uint64_t sum, const void *data, size_t len)
{
	return pass(sum, NULL, data, len);
}

uint64_t checksum_copy(uint64_t sum, void *dst, const void *src, size_t len)
{
	return pass(sum, dst, src, len);
}

uint16_t checksum_fold(uint64_t sum)
{
	sum = (sum & UINT32_MAX) + (sum >> 32);
	sum = (sum & UINT16_MAX) + (sum >> 16 & UINT16_MAX) + (sum >> 32); /* up to 0x1fffe */
	return (uint16_t)((sum & UINT16_MAX) + (sum >> 16));
}

uint64_t checksum_pseudo(const void *ip, uint8_t protocol, size_t len)
{
	uint32_t addr[2];

	memcpy(addr, (const uint8_t *)ip + 12, sizeof(addr));
	return (uint64_t)addr[0] + addr[1] + htons(protocol) + htonl((uint32_t)len);
}
