/* SPDX-License-Identifier: Apache-2.0 */
/* mnl_own.c - src/cni/mnl.c under other names, to be compared with the real libmnl */
#define mnl_nlmsg_put_header         own_nlmsg_put_header
#define mnl_nlmsg_put_extra_header   own_nlmsg_put_extra_header
#define mnl_nlmsg_get_payload_len    own_nlmsg_get_payload_len
#define mnl_nlmsg_get_payload_offset own_nlmsg_get_payload_offset
#define mnl_nlmsg_get_payload        own_nlmsg_get_payload
#define mnl_nlmsg_get_payload_tail   own_nlmsg_get_payload_tail
#define mnl_nlmsg_ok                 own_nlmsg_ok
#define mnl_nlmsg_next               own_nlmsg_next
#define mnl_attr_get_type            own_attr_get_type
#define mnl_attr_get_payload_len     own_attr_get_payload_len
#define mnl_attr_get_payload         own_attr_get_payload
#define mnl_attr_get_u8              own_attr_get_u8
#define mnl_attr_get_u16             own_attr_get_u16
#define mnl_attr_get_u32             own_attr_get_u32
#define mnl_attr_get_str             own_attr_get_str
#define mnl_attr_ok                  own_attr_ok
#define mnl_attr_next                own_attr_next
#define mnl_attr_validate            own_attr_validate
#define mnl_attr_parse               own_attr_parse
#define mnl_attr_put                 own_attr_put
#define mnl_attr_put_u8              own_attr_put_u8
#define mnl_attr_put_u16             own_attr_put_u16
#define mnl_attr_put_u32             own_attr_put_u32
#define mnl_attr_put_strz            own_attr_put_strz
#define mnl_attr_nest_start          own_attr_nest_start
#define mnl_attr_nest_end            own_attr_nest_end
#define mnl_socket_open2             own_socket_open2
#define mnl_socket_close             own_socket_close
#define mnl_socket_get_fd            own_socket_get_fd
#define mnl_socket_bind              own_socket_bind
#define mnl_socket_setsockopt        own_socket_setsockopt
#define mnl_socket_sendto            own_socket_sendto
#define mnl_socket_recvfrom          own_socket_recvfrom

#include "mnl_api.h"

#include "cni/mnl.c" /* NOLINT(bugprone-suspicious-include): under other names */

const struct mnl_api mnl_own = {
#define MEMBER(name) .name = mnl_##name,
	MNL_API(MEMBER)
#undef MEMBER
};
