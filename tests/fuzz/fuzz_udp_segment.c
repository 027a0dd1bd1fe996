/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_udp_segment.c - what a tun device might hand over: a vnet header, a packet
 *
 * What is refused is refused; all else becomes packets that are together what was given, each
 * with right lengths and checksums.
 */
#include "backend/udp/packet.h"
#include "backend/udp/segment.h"

#include "../unit/packets.h"
#include "base/mem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_unreachable(const uint8_t *pkt, size_t len)
{
	uint8_t out[PACKET_UNREACHABLE_MAX];
	size_t n = packet_unreachable(pkt, len, 0x0a050100, out);

	if (n == 0)
		return;
	assert(n >= 28 + PACKET_MIN && n <= sizeof(out) && ref_get(out + 2) == n);
	assert(ref_sum(0, out, 20) == 0xffff && ref_sum(0, out + 20, n - 20) == 0xffff);
	assert(memcmp(out + 28, pkt, n - 28) == 0);
}

static void check_segments(struct segment *seg, const struct virtio_net_hdr *vnet,
			   const uint8_t *pkt, size_t len)
{
	static uint8_t want[PACKETS_LEN_MAX];
	size_t at = 0, n;

	while ((n = segment_len(seg))) {
		_cleanup_free_ uint8_t *out = mem_alloc(n, 1);

		segment_next(seg, out);
		if (vnet->gso_type) {
			assert(ref_segment(pkt, len, vnet->gso_size, at, want) == n);
			assert(memcmp(out, want, n) == 0);
			at += vnet->gso_size;
		} else if (vnet->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
			size_t field = (size_t)vnet->csum_start + vnet->csum_offset;

			assert(n == len && memcmp(out, pkt, field) == 0);
			assert(memcmp(out + field + 2, pkt + field + 2, n - field - 2) == 0);
		} else {
			assert(n == len && memcmp(out, pkt, n) == 0);
		}
	}
	assert(!vnet->gso_type || at >= len - ref_headers_len(pkt));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ uint8_t *pkt = NULL;
	struct virtio_net_hdr vnet;
	struct segment seg;
	size_t len;

	if (size < sizeof(vnet))
		return 0;
	memcpy(&vnet, data, sizeof(vnet));
	len = size - sizeof(vnet);
	pkt = mem_alloc(len ? len : 1, 1);
	memcpy(pkt, data + sizeof(vnet), len);
	if (packet_hop(pkt, len) != PACKET_GOOD) {
		assert(!len || memcmp(pkt, data + sizeof(vnet), len) == 0);
		return 0;
	}
	check_unreachable(pkt, len);
	if (segment_init(&seg, &vnet, pkt, len) == 0)
		check_segments(&seg, &vnet, pkt, len);
	return 0;
}
