/* SPDX-License-Identifier: Apache-2.0 */
/* port_owner.h - who has a UDP port, for error messages */
#pragma once

#include <stdint.h>

#define PORT_OWNER_MAX 80

/* Who is in the way of UDP port @port on @addr (IPv4, host order; 0: on any): "flanneld (pid
 * 42)", or that it is no process that can be seen. Returns @buf. Slow. */
const char *udp_port_owner(uint32_t addr, uint16_t port, char buf[PORT_OWNER_MAX]);
