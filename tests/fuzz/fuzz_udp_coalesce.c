/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_udp_coalesce.c - a burst of packets
 *
 * The input is a program of 8-byte instructions: each makes the next packet of one of four
 * flows, after a change of that flow or of the packet. Raw bytes would never get past a
 * checksum.
 */
#include "backend/udp/packet.h"

#include "../unit/flows.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FLOW, CHANGE, VALUE, BYTE_AT = 4, BYTE, HOW, INSTRUCTION = 8 };

#define HOW_UDP     0x01
#define HOW_VOUCHED 0x02
#define HOW_BYTE    0x04 /* changes a byte of the packet */
#define HOW_RIGHT   0x08 /* and the checksums with it */
#define HOW_STAYS   0x10 /* the change is for all from now on */
#define HOW_CUT     0x20 /* drops the packet's end */

static void change(struct order *o, uint8_t what, uint16_t value)
{
	switch (what % 16) {
	case 1:
		o->payload = value % 3000;
		break;
	case 2:
		o->flags = (uint8_t)value;
		break;
	case 3:
		o->seq += value;
		break;
	case 4:
		o->ack += value;
		break;
	case 5:
		o->id = value;
		break;
	case 6:
		o->frag = value;
		break;
	case 7:
		o->tos = (uint8_t)value;
		break;
	case 8:
		o->ttl = (uint8_t)value;
		break;
	case 9:
		o->window = value;
		break;
	case 10:
		o->tcp_options = value % 11 * 4;
		break;
	case 11:
		o->ip_options = value % 11 * 4;
		break;
	case 12:
		o->dport = value;
		break;
	case 13:
		o->protocol = (uint8_t)value;
		break;
	case 14:
		o->option_byte = (uint8_t)value;
		break;
	case 15:
		o->payload = 32000;
		break;
	default:
		break;
	}
}

static void run_one(struct flows *f, struct order *flow, const uint8_t *i, uint8_t *packet)
{
	struct order *base = &flow[i[FLOW] % 4], o;
	uint16_t value = (uint16_t)(i[VALUE] | i[VALUE + 1] << 8);
	size_t len;

	base->protocol = i[HOW] & HOW_UDP ? UDP : TCP;
	if (i[HOW] & HOW_STAYS)
		change(base, i[CHANGE], value);
	o = *base;
	change(&o, i[CHANGE], value);
	len = packets_make(&o, packet);
	if (i[HOW] & HOW_BYTE) {
		packet[i[BYTE_AT] % len] = i[BYTE];
		if ((i[HOW] & HOW_RIGHT) && ref_ip_len(packet) + 20 <= len) {
			ref_set_ip_check(packet);
			ref_set_transport_check(packet, len);
		}
	}
	if ((i[HOW] & HOW_CUT) && len - i[BYTE_AT] % len > 20)
		len -= i[BYTE_AT] % len;
	base->seq += (uint32_t)o.payload;
	base->id++;
	base->fill++;
	if (packet_hop(packet, len) == PACKET_GOOD)
		flows_add(f, packet, len, i[HOW] & HOW_VOUCHED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t packet[PACKETS_LEN_MAX];
	struct order flow[4];
	struct flows *f = flows_new(true, true);

	for (uint16_t i = 0; i < 4; i++)
		flow[i] = (struct order){.sport = 7 + i, .payload = 100, .frag = i & 1 ? DF : 0};
	for (; size >= INSTRUCTION && f->n < FLOWS_MAX; size -= INSTRUCTION, data += INSTRUCTION)
		run_one(f, flow, data, packet);
	if (flows_end(f)) {
		(void)fprintf(stderr, "%s\n", f->problem);
		abort();
	}
	flows_free(f);
	return 0;
}
