/* SPDX-License-Identifier: Apache-2.0 */
/* mnl_api.h - libmnl's functions as a table, so that two of them can be compared */
#pragma once

#include <libmnl/libmnl.h>

#define MNL_API(X)                                                                                 \
	X(nlmsg_put_header)                                                                        \
	X(nlmsg_put_extra_header)                                                                  \
	X(nlmsg_get_payload_len)                                                                   \
	X(nlmsg_get_payload_offset)                                                                \
	X(nlmsg_get_payload)                                                                       \
	X(nlmsg_get_payload_tail)                                                                  \
	X(nlmsg_ok)                                                                                \
	X(nlmsg_next)                                                                              \
	X(attr_get_type)                                                                           \
	X(attr_get_payload_len)                                                                    \
	X(attr_get_payload)                                                                        \
	X(attr_get_u8)                                                                             \
	X(attr_get_u16)                                                                            \
	X(attr_get_u32)                                                                            \
	X(attr_get_str)                                                                            \
	X(attr_ok)                                                                                 \
	X(attr_next)                                                                               \
	X(attr_validate)                                                                           \
	X(attr_parse)                                                                              \
	X(attr_put)                                                                                \
	X(attr_put_u8)                                                                             \
	X(attr_put_u16)                                                                            \
	X(attr_put_u32)                                                                            \
	X(attr_put_strz)                                                                           \
	X(attr_nest_start)                                                                         \
	X(attr_nest_end)                                                                           \
	X(socket_open2)                                                                            \
	X(socket_close)                                                                            \
	X(socket_get_fd)                                                                           \
	X(socket_bind)                                                                             \
	X(socket_setsockopt)                                                                       \
	X(socket_sendto)                                                                           \
	X(socket_recvfrom)

struct mnl_api {
#define MEMBER(name) __typeof__(mnl_##name) *name;
	MNL_API(MEMBER)
#undef MEMBER
};

/* Ours, from src/cni/mnl.c. */
extern const struct mnl_api mnl_own;
