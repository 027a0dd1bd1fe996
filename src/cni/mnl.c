/* SPDX-License-Identifier: Apache-2.0 */
/* mnl.c - the part of libmnl(3) that src/kernel uses, for the static plugin
 *
 * Debian has libmnl as a shared library only, and the plugin is copied onto hosts that need
 * not have it. Same functions, same bytes: tests/unit/test_mnl.c compares the two.
 */
#include <libmnl/libmnl.h>

#include "base/mem.h"

#include <errno.h>

struct mnl_socket {
	int fd;
};

/* -- messages -------------------------------------------------------------------------- */

struct nlmsghdr *mnl_nlmsg_put_header(void *buf)
{
	struct nlmsghdr *nlh = memset(buf, 0, MNL_NLMSG_HDRLEN);

	nlh->nlmsg_len = MNL_NLMSG_HDRLEN;
	return nlh;
}

void *mnl_nlmsg_put_extra_header(struct nlmsghdr *nlh, size_t size)
{
	char *header = (char *)nlh + nlh->nlmsg_len;

	nlh->nlmsg_len += (uint32_t)MNL_ALIGN(size);
	return memset(header, 0, MNL_ALIGN(size));
}

size_t mnl_nlmsg_get_payload_len(const struct nlmsghdr *nlh)
{
	return nlh->nlmsg_len - MNL_NLMSG_HDRLEN;
}

/* Whoever has a const message casts what these return: it is the library's signature. */
void *mnl_nlmsg_get_payload_offset(const struct nlmsghdr *nlh, size_t offset)
{
	return (void *)((uintptr_t)nlh + MNL_NLMSG_HDRLEN + MNL_ALIGN(offset));
}

void *mnl_nlmsg_get_payload(const struct nlmsghdr *nlh)
{
	return mnl_nlmsg_get_payload_offset(nlh, 0);
}

void *mnl_nlmsg_get_payload_tail(const struct nlmsghdr *nlh)
{
	return (void *)((uintptr_t)nlh + MNL_ALIGN(nlh->nlmsg_len));
}

bool mnl_nlmsg_ok(const struct nlmsghdr *nlh, int len)
{
	return len >= (int)sizeof(*nlh) && nlh->nlmsg_len >= sizeof(*nlh) &&
	       nlh->nlmsg_len <= (uint32_t)len;
}

struct nlmsghdr *mnl_nlmsg_next(const struct nlmsghdr *nlh, int *len)
{
	*len -= (int)MNL_ALIGN(nlh->nlmsg_len);
	return mnl_nlmsg_get_payload_tail(nlh);
}

/* -- attributes ------------------------------------------------------------------------ */

uint16_t mnl_attr_get_type(const struct nlattr *attr)
{
	return attr->nla_type & NLA_TYPE_MASK;
}

uint16_t mnl_attr_get_payload_len(const struct nlattr *attr)
{
	return (uint16_t)(attr->nla_len - MNL_ATTR_HDRLEN);
}

void *mnl_attr_get_payload(const struct nlattr *attr)
{
	return (void *)((uintptr_t)attr + MNL_ATTR_HDRLEN);
}

/* An attribute's payload need not lie at a multiple of its own size. */
#define GETTER(type, name)                                                                         \
	type name(const struct nlattr *attr)                                                       \
	{                                                                                          \
		type value;                                                                        \
                                                                                                   \
		memcpy(&value, mnl_attr_get_payload(attr), sizeof(value));                         \
		return value;                                                                      \
	}
GETTER(uint8_t, mnl_attr_get_u8)
GETTER(uint16_t, mnl_attr_get_u16)
GETTER(uint32_t, mnl_attr_get_u32)

const char *mnl_attr_get_str(const struct nlattr *attr)
{
	return mnl_attr_get_payload(attr);
}

bool mnl_attr_ok(const struct nlattr *attr, int len)
{
	return len >= (int)sizeof(*attr) && attr->nla_len >= sizeof(*attr) &&
	       (int)attr->nla_len <= len;
}

struct nlattr *mnl_attr_next(const struct nlattr *attr)
{
	return (void *)((uintptr_t)attr + MNL_ALIGN(attr->nla_len));
}

static int refuse(int code)
{
	errno = code;
	return -1;
}

/* Of the two types that are asked for. */
int mnl_attr_validate(const struct nlattr *attr, enum mnl_attr_data_type type)
{
	uint16_t len = mnl_attr_get_payload_len(attr);

	if (type == MNL_TYPE_U32)
		return len == sizeof(uint32_t) ? 0 : refuse(ERANGE);
	if (type != MNL_TYPE_NUL_STRING)
		return refuse(EINVAL);
	if (!len)
		return refuse(ERANGE);
	return mnl_attr_get_str(attr)[len - 1] ? refuse(EINVAL) : 0;
}

int mnl_attr_parse(const struct nlmsghdr *nlh, unsigned int offset, mnl_attr_cb_t cb, void *data)
{
	const struct nlattr *attr;
	int verdict = MNL_CB_OK;

	mnl_attr_for_each (attr, nlh, offset) {
		verdict = cb(attr, data);
		if (verdict <= MNL_CB_STOP)
			break;
	}
	return verdict;
}

void mnl_attr_put(struct nlmsghdr *nlh, uint16_t type, size_t len, const void *data)
{
	struct nlattr *attr = mnl_nlmsg_get_payload_tail(nlh);
	char *payload = mnl_attr_get_payload(attr);

	attr->nla_type = type;
	attr->nla_len = (uint16_t)(MNL_ATTR_HDRLEN + len);
	if (len)
		memcpy(payload, data, len);
	memset(payload + len, 0, MNL_ALIGN(len) - len);
	nlh->nlmsg_len += (uint32_t)MNL_ALIGN(attr->nla_len);
}

void mnl_attr_put_u8(struct nlmsghdr *nlh, uint16_t type, uint8_t data)
{
	mnl_attr_put(nlh, type, sizeof(data), &data);
}

void mnl_attr_put_u16(struct nlmsghdr *nlh, uint16_t type, uint16_t data)
{
	mnl_attr_put(nlh, type, sizeof(data), &data);
}

void mnl_attr_put_u32(struct nlmsghdr *nlh, uint16_t type, uint32_t data)
{
	mnl_attr_put(nlh, type, sizeof(data), &data);
}

void mnl_attr_put_strz(struct nlmsghdr *nlh, uint16_t type, const char *data)
{
	mnl_attr_put(nlh, type, strlen(data) + 1, data);
}

struct nlattr *mnl_attr_nest_start(struct nlmsghdr *nlh, uint16_t type)
{
	struct nlattr *start = mnl_nlmsg_get_payload_tail(nlh);

	/* Its length is what is put behind it until its end. */
	start->nla_type = NLA_F_NESTED | type;
	nlh->nlmsg_len += (uint32_t)MNL_ATTR_HDRLEN;
	return start;
}

void mnl_attr_nest_end(struct nlmsghdr *nlh, struct nlattr *start)
{
	start->nla_len = (uint16_t)((char *)mnl_nlmsg_get_payload_tail(nlh) - (char *)start);
}

/* -- sockets --------------------------------------------------------------------------- */

struct mnl_socket *mnl_socket_open2(int bus, int flags)
{
	struct mnl_socket *nl;
	int fd = socket(AF_NETLINK, SOCK_RAW | flags, bus);

	if (fd < 0)
		return NULL;
	nl = mem_alloc(1, sizeof(*nl));
	nl->fd = fd;
	return nl;
}

int mnl_socket_close(struct mnl_socket *nl)
{
	int code = close(nl->fd);

	free(nl);
	return code;
}

int mnl_socket_get_fd(const struct mnl_socket *nl)
{
	return nl->fd;
}

int mnl_socket_bind(struct mnl_socket *nl, unsigned int groups, pid_t pid)
{
	struct sockaddr_nl addr = {
		.nl_family = AF_NETLINK, .nl_groups = groups, .nl_pid = (uint32_t)pid};

	return bind(nl->fd, (struct sockaddr *)&addr, sizeof(addr));
}

int mnl_socket_setsockopt(const struct mnl_socket *nl, int type, void *buf, socklen_t len)
{
	return setsockopt(nl->fd, SOL_NETLINK, type, buf, len);
}

ssize_t mnl_socket_sendto(const struct mnl_socket *nl, const void *req, size_t size)
{
	static const struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};

	return sendto(nl->fd, req, size, 0, (const struct sockaddr *)&kernel, sizeof(kernel));
}

ssize_t mnl_socket_recvfrom(const struct mnl_socket *nl, void *buf, size_t size)
{
	struct sockaddr_nl from;
	struct iovec part = {.iov_base = buf, .iov_len = size};
	struct msghdr msg = {
		.msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &part, .msg_iovlen = 1};
	ssize_t n = recvmsg(nl->fd, &msg, 0);

	if (n < 0)
		return n;
	if (msg.msg_flags & MSG_TRUNC)
		return refuse(ENOSPC);
	return msg.msg_namelen == sizeof(from) ? n : refuse(EINVAL);
}
