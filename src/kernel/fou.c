/* SPDX-License-Identifier: Apache-2.0 */
/* fou.c - FOU ports over generic netlink */
#include "kernel/fou.h"

#include "base/mem.h"
#include "kernel/port_owner.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/fou.h>
#include <linux/genetlink.h>
#include <sys/socket.h>

static struct nlmsghdr *put_header(void *buf, uint16_t family, uint8_t cmd, uint8_t version)
{
	struct nlmsghdr *msg = mnl_nlmsg_put_header(buf);
	struct genlmsghdr *head;

	msg->nlmsg_type = family;
	head = mnl_nlmsg_put_extra_header(msg, sizeof(*head));
	head->cmd = cmd;
	head->version = version;
	return msg;
}

struct nlmsghdr *fou_put_get_family(void *buf)
{
	struct nlmsghdr *msg = put_header(buf, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1);

	mnl_attr_put_strz(msg, CTRL_ATTR_FAMILY_NAME, FOU_GENL_NAME);
	return msg;
}

int fou_parse_family(const struct nlmsghdr *msg, uint16_t *ret_family)
{
	const struct nlattr *attr;

	if (mnl_nlmsg_get_payload_len(msg) < sizeof(struct genlmsghdr))
		return -EINVAL;
	mnl_attr_for_each (attr, msg, sizeof(struct genlmsghdr))
		if (mnl_attr_get_type(attr) == CTRL_ATTR_FAMILY_ID &&
		    mnl_attr_get_payload_len(attr) >= sizeof(*ret_family)) {
			*ret_family = mnl_attr_get_u16(attr);
			return 0;
		}
	return -EINVAL;
}

struct nlmsghdr *fou_put_dump(void *buf, uint16_t family)
{
	return put_header(buf, family, FOU_CMD_GET, FOU_GENL_VERSION);
}

struct nlmsghdr *fou_put_add(void *buf, uint16_t family, uint16_t port)
{
	struct nlmsghdr *msg = put_header(buf, family, FOU_CMD_ADD, FOU_GENL_VERSION);

	mnl_attr_put_u16(msg, FOU_ATTR_PORT, htons(port));
	mnl_attr_put_u8(msg, FOU_ATTR_AF, AF_INET);
	mnl_attr_put_u8(msg, FOU_ATTR_TYPE, FOU_ENCAP_DIRECT);
	mnl_attr_put_u8(msg, FOU_ATTR_IPPROTO, IPPROTO_IPIP);
	return msg;
}

struct nlmsghdr *fou_put_delete(void *buf, uint16_t family, uint16_t port)
{
	struct nlmsghdr *msg = put_header(buf, family, FOU_CMD_DEL, FOU_GENL_VERSION);

	mnl_attr_put_u16(msg, FOU_ATTR_PORT, htons(port));
	mnl_attr_put_u8(msg, FOU_ATTR_AF, AF_INET);
	return msg;
}

/* Newer kernels say so of every port, with zeros where it is bound to nothing. */
static bool is_any(const struct nlattr *attr)
{
	const uint8_t *byte = mnl_attr_get_payload(attr);

	for (size_t i = 0; i < mnl_attr_get_payload_len(attr); i++)
		if (byte[i])
			return false;
	return true;
}

static void parse_attr(const struct nlattr *attr, struct fou_port *port)
{
	size_t len = mnl_attr_get_payload_len(attr);

	switch (mnl_attr_get_type(attr)) {
	case FOU_ATTR_PORT:
		if (len >= 2)
			port->port = ntohs(mnl_attr_get_u16(attr));
		break;
	case FOU_ATTR_AF:
		if (len >= 1)
			port->family = mnl_attr_get_u8(attr);
		break;
	case FOU_ATTR_IPPROTO:
		if (len >= 1)
			port->protocol = mnl_attr_get_u8(attr);
		break;
	case FOU_ATTR_TYPE:
		if (len >= 1)
			port->type = mnl_attr_get_u8(attr);
		break;
	case FOU_ATTR_LOCAL_V4:
	case FOU_ATTR_LOCAL_V6:
	case FOU_ATTR_PEER_V4:
	case FOU_ATTR_PEER_V6:
	case FOU_ATTR_PEER_PORT:
	case FOU_ATTR_IFINDEX:
		port->narrow |= !is_any(attr);
		break;
	}
}

int fou_parse(const struct nlmsghdr *msg, struct fou_port *ret_port)
{
	struct fou_port port = {0};
	const struct nlattr *attr;

	if (mnl_nlmsg_get_payload_len(msg) < sizeof(struct genlmsghdr))
		return -EINVAL;
	mnl_attr_for_each (attr, msg, sizeof(struct genlmsghdr))
		parse_attr(attr, &port);
	if (!port.port)
		return -EINVAL;
	*ret_port = port;
	return 0;
}

static void on_family(const struct nlmsghdr *msg, void *userdata)
{
	(void)fou_parse_family(msg, userdata);
}

/* A socket of generic netlink, and the number of family "fou": another one after the module
 * was unloaded and loaded, so that it is not worth keeping. Caller closes *@ret_nl. */
static int open_family(struct netlink **ret_nl, uint16_t *ret_family, struct err *err)
{
	char buf[NETLINK_MESSAGE_MAX] = {0};
	struct netlink *nl;
	int code = netlink_open(NETLINK_GENERIC, &nl, err);

	if (code)
		return code;
	*ret_family = 0;
	code = netlink_request(nl, fou_put_get_family(buf), on_family, ret_family, err);
	if (code == -ENOENT || (!code && !*ret_family))
		code = err_set(err, -EOPNOTSUPP, "this kernel has no FOU (modprobe fou)");
	if (code) {
		netlink_close(nl);
		return code;
	}
	*ret_nl = nl;
	return 0;
}

int fou_probe(struct err *err)
{
	struct netlink *nl;
	uint16_t family;
	int code = open_family(&nl, &family, err);

	if (!code)
		netlink_close(nl);
	return code;
}

struct search {
	uint16_t port;
	bool found, as_wanted;
};

static void on_port(const struct nlmsghdr *msg, void *userdata)
{
	struct search *search = userdata;
	struct fou_port port;

	if (fou_parse(msg, &port) || port.port != search->port || port.family != AF_INET ||
	    port.narrow)
		return;
	search->found = true;
	search->as_wanted = port.protocol == IPPROTO_IPIP && port.type == FOU_ENCAP_DIRECT;
}

static int find(struct netlink *nl, uint16_t family, struct search *search, struct err *err)
{
	char buf[NETLINK_MESSAGE_MAX] = {0};
	int code = netlink_dump(nl, fou_put_dump(buf, family), on_port, search, err);

	return code ? err_wrap(err, code, "listing FOU ports") : 0;
}

static int delete (struct netlink *nl, uint16_t family, uint16_t port, struct err *err)
{
	char buf[NETLINK_MESSAGE_MAX] = {0};
	int code = netlink_request(nl, fou_put_delete(buf, family, port), NULL, NULL, err);

	return code ? err_wrap(err, code, "deleting FOU port %u", port) : 0;
}

static int add(struct netlink *nl, uint16_t family, uint16_t port, struct err *err)
{
	char buf[NETLINK_MESSAGE_MAX] = {0}, owner[PORT_OWNER_MAX];
	int code = netlink_request(nl, fou_put_add(buf, family, port), NULL, NULL, err);

	if (code == -EADDRINUSE)
		return err_set(err, code, "UDP port %u is taken: by %s", port,
			       udp_port_owner(0, port, owner));
	return code ? err_wrap(err, code, "adding FOU port %u", port) : 0;
}

int fou_open(uint16_t port, bool *ret_made, struct err *err)
{
	struct search search = {.port = port};
	struct netlink *nl;
	uint16_t family;
	int code = open_family(&nl, &family, err);

	if (code)
		return code;
	code = find(nl, family, &search, err);
	if (!code && search.found && !search.as_wanted)
		code = delete (nl, family, port, err);
	if (!code && !search.as_wanted)
		code = add(nl, family, port, err);
	netlink_close(nl);
	*ret_made = !search.as_wanted;
	return code;
}

int fou_close(uint16_t port, struct err *err)
{
	struct search search = {.port = port};
	struct netlink *nl;
	uint16_t family;
	int code = open_family(&nl, &family, err);

	if (code == -EOPNOTSUPP)
		return 0;
	if (code)
		return code;
	code = find(nl, family, &search, err);
	if (!code && search.as_wanted)
		code = delete (nl, family, port, err);
	netlink_close(nl);
	return code;
}
