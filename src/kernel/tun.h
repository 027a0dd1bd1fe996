/* SPDX-License-Identifier: Apache-2.0 */
/* tun.h - tun devices: network devices whose other side is a file descriptor */
#pragma once

#include "base/err.h"
#include "kernel/netlink.h"

#include <stdbool.h>
#include <stdint.h>

/* What linux/if_tun.h has had since 6.2; older kernels refuse it. */
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

/* Creates a persistent device, down: it outlives us. -EEXIST: there is a device of this name. */
int tun_create(const char *name, struct err *err);
/* Attaches to the persistent device @name, non-blocking. @vnet_hdr: each packet has a struct
 * virtio_net_hdr before it; nothing is left to us yet (tun_set_offload()). -ENODEV: there is
 * none, or it is no persistent tun; -EBUSY: somebody else is attached. */
int tun_attach(const char *name, bool vnet_hdr, int *ret_fd, struct err *err);
/* What is left to us, and may be left to the kernel: TUN_F_*. 0; -EINVAL: not known here. */
int tun_set_offload(int fd, unsigned features);
/* Packets that nobody has read since device @name was made: its queue was full, or nobody was
 * attached. @nl: a socket of NETLINK_ROUTE. -ENODEV: there is no tun device of this name. */
int tun_get_dropped(struct netlink *nl, const char *name, uint64_t *ret_dropped, struct err *err);
