/* SPDX-License-Identifier: Apache-2.0 */
/* bridge_kernel.c - questions and requests to the kernel that the bridge's files share */
#include "cni/bridge_internal.h"

#include "cni/netns.h"
#include "kernel/addr.h"
#include "kernel/sysctl.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <stdio.h>

int bridge_open_netlink(struct netlink **ret_nl, struct cni_error *error)
{
	struct err err;

	if (netlink_open(NETLINK_ROUTE, ret_nl, &err))
		return cni_fail(error, CNI_INTERNAL, "%s", err.text);
	return 0;
}

int bridge_open_in_pod(const struct cni_request *request, struct netlink **ret_nl,
		       struct cni_error *error)
{
	_cleanup_close_ int netns = -1;
	_cleanup_netns_visit_ int visit = -1;
	int code = netns_open(request->netns, &netns, error);

	if (code)
		return code;
	if (netns_enter(netns, request->netns, &visit, error))
		return -1;
	return bridge_open_netlink(ret_nl, error);
}

static void on_link(const struct nlmsghdr *msg, void *userdata)
{
	(void)link_parse(msg, userdata);
}

int bridge_get_link(struct netlink *nl, const char *name, struct link *ret_link,
		    struct cni_error *error)
{
	MESSAGE_BUFFER(buf);
	struct link link = {0};
	struct err err;
	int code = netlink_request(nl, link_put_get(buf, name, 0), on_link, &link, &err);

	if (code == -ENODEV || (!code && !link.ifindex))
		return 0;
	if (code)
		return cni_fail(error, CNI_INTERNAL, "looking for %s: %s", name, err.text);
	*ret_link = link;
	return 1;
}

int bridge_demand(struct netlink *nl, struct nlmsghdr *msg, const char *what, const char *object,
		  struct cni_error *error)
{
	struct err err;

	if (netlink_request(nl, msg, NULL, NULL, &err))
		return cni_fail(error, CNI_INTERNAL, "%s %s: %s", what, object, err.text);
	return 0;
}

void bridge_try_setting(const char *family, const char *device, const char *name, long value)
{
	char path[SYSCTL_NAME_MAX];

	(void)snprintf(path, sizeof(path), "net/%s/conf/%s/%s", family, device, name);
	(void)sysctl_set(path, value, NULL);
}

static void on_addr(const struct nlmsghdr *msg, void *userdata)
{
	struct bridge_addrs *list = userdata;
	struct addr addr;

	if (addr_parse(msg, &addr) || addr.ifindex != list->ifindex)
		return;
	list->tentative |= addr.tentative;
	if (list->n < ARRAY_SIZE(list->net))
		list->net[list->n++] = addr.net;
}

int bridge_list_addrs(struct netlink *nl, enum ip_family family, int ifindex,
		      struct bridge_addrs *ret_list, struct cni_error *error)
{
	struct err err;
	int code, attempts = 0;

	do {
		MESSAGE_BUFFER(buf);

		*ret_list = (struct bridge_addrs){.ifindex = ifindex};
		code = netlink_dump(nl, addr_put_dump_device(buf, family, ifindex), on_addr,
				    ret_list, &err);
	} while (code == -EINTR && ++attempts < 10);
	if (code)
		return cni_fail(error, CNI_INTERNAL, "listing addresses: %s", err.text);
	return 0;
}
