/* SPDX-License-Identifier: Apache-2.0 */
/* checksum.h - the Internet checksum (RFC 1071) over bytes, alone and while copying
 *
 * Sums are one's complement sums of 16-bit words as they lie in memory, not folded: they
 * add up to each other with `+` as long as each but the last is over an even number of bytes
 * (there is room for 16 GB).
 * Whatever the byte order of the machine, the folded sum can be stored as it is.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* Adds @len bytes at @data to @sum. */
uint64_t checksum_add(uint64_t sum, const void *data, size_t len);
/* The same, and copies them to @dst (no overlap) in the same pass. */
uint64_t checksum_copy(uint64_t sum, void *dst, const void *src, size_t len);
/* The sum as 16 bits, in memory order, not inverted. */
uint16_t checksum_fold(uint64_t sum);
/* The sum of the pseudo header (RFC 9293 section 3.1, RFC 768) of the IPv4 packet at @ip:
 * addresses, @protocol, @len bytes of header and payload. */
uint64_t checksum_pseudo(const void *ip, uint8_t protocol, size_t len);
