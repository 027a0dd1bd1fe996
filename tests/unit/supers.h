/* SPDX-License-Identifier: Apache-2.0 */
/* supers.h - super-packets of all sorts, for those who segment them */
#pragma once

#include "packets.h"

static const struct {
	const char *name;
	struct order order;
	size_t size;
	uint8_t gso_more; /* into gso_type */
} supers[] = {
	{"two", {.payload = 2000}, 1448, 0},
	{"even end", {.payload = 4344}, 1448, 0},
	{"one", {.payload = 100}, 1448, 0},
	{"exactly one", {.payload = 1448, .flags = ACK | FIN | PSH | CWR}, 1448, 0},
	{"as large as can be", {.payload = 65495, .seq = 77}, 1448, 0},
	{"one byte each", {.payload = 999}, 1, 0},
	{"odd sizes", {.payload = 4000, .fill = 3}, 999, 0},
	{"timestamps", {.payload = 20000, .tcp_options = 12, .option_byte = 9}, 1436, 0},
	{"all TCP options", {.payload = 20000, .tcp_options = 40}, 1408, 0},
	{"IP options", {.payload = 20000, .ip_options = 8}, 1440, 0},
	{"all IP options", {.payload = 20000, .ip_options = 40, .tcp_options = 40}, 1360, 0},
	{"PSH", {.payload = 20000, .flags = ACK | PSH}, 1448, 0},
	{"FIN", {.payload = 20000, .flags = ACK | PSH | FIN}, 1448, 0},
	{"CWR", {.payload = 20000, .flags = ACK | CWR}, 1448, VIRTIO_NET_HDR_GSO_ECN},
	{"CWR unannounced", {.payload = 20000, .flags = ACK | CWR}, 1448, 0},
	{"ECE", {.payload = 20000, .flags = ACK | ECE | CWR | PSH}, 1448, 0},
	{"URG", {.payload = 20000, .flags = ACK | URG, .urgent = 5000}, 1448, 0},
	{"SYN with data", {.payload = 3000, .flags = SYN}, 1448, 0},
	{"all flags", {.payload = 3000, .flags = 0xff}, 1000, 0},
	{"DF", {.payload = 20000, .frag = DF, .id = 0x1234}, 1448, 0},
	{"id wraps", {.payload = 20000, .id = 0xfffa}, 1448, 0},
	{"seq wraps", {.payload = 20000, .seq = 0xffffff00}, 1448, 0},
	{"ECN", {.payload = 20000, .tos = 0x03, .ttl = 3}, 1448, 0},
	{"DSCP", {.payload = 20000, .tos = 0xb9, .ttl = 255, .window = 0xffff}, 1448, 0},
	{"UDP", {.protocol = UDP, .payload = 20000}, 1472, 0},
	{"UDP, even end", {.protocol = UDP, .payload = 12000, .frag = DF}, 1200, 0},
	{"UDP, as large as can be", {.protocol = UDP, .payload = 65507}, 1472, 0},
	{"UDP of one byte", {.protocol = UDP, .payload = 64, .id = 0xffff}, 1, 0},
	{"UDP, IP options", {.protocol = UDP, .payload = 5000, .ip_options = 12}, 1460, 0},
};
