/* SPDX-License-Identifier: Apache-2.0 */
/* sysctl.h - kernel settings below /proc/sys that hold one number */
#pragma once

#include "base/err.h"
#include "kernel/netlink.h"

#include <stdbool.h>

#define SYSCTL_NAME_MAX 96

/* @name with slashes: "net/ipv4/ip_forward". 0; -ENOENT: the kernel has none. The error
 * names the setting with dots, as sysctl(8) does. */
int sysctl_get(const char *name, long *ret_value, struct err *err);
int sysctl_set(const char *name, long value, struct err *err);
/* Whether @msg (RTM_NEWNETCONF) tells of a setting of the whole host, such as forwarding, and
 * not of one device. */
bool sysctl_is_host_wide(const struct nlmsghdr *msg);
