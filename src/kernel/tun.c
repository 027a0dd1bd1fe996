/* SPDX-License-Identifier: Apache-2.0 */
/* tun.c - tun devices: network devices whose other side is a file descriptor */
#include "kernel/tun.h"

#include "base/mem.h"
#include "kernel/link.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/virtio_net.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define TUN_FILE "/dev/net/tun"

static int open_tun(struct err *err)
{
	int fd = open(TUN_FILE, O_RDWR | O_NONBLOCK | O_CLOEXEC);

	return fd < 0 ? err_sys(err, -errno, "opening " TUN_FILE) : fd;
}

static int set_iff(int fd, const char *name, unsigned flags)
{
	struct ifreq ifr = {.ifr_flags = (short)flags};

	(void)snprintf(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", name);
	return ioctl(fd, TUNSETIFF, &ifr) ? -errno : 0;
}

int tun_create(const char *name, struct err *err)
{
	_cleanup_close_ int fd = open_tun(err);
	int code;

	if (fd < 0)
		return fd;
	code = set_iff(fd, name, IFF_TUN | IFF_NO_PI | IFF_TUN_EXCL);
	if (code == -EBUSY)
		code = -EEXIST;
	if (!code && ioctl(fd, TUNSETPERSIST, 1))
		code = -errno;
	return code ? err_sys(err, code, "creating tun device %s", name) : 0;
}

/* TUNSETIFF makes the device that it does not find. One of our making is not persistent,
 * and goes with the descriptor. */
static bool is_persistent(int fd)
{
	struct ifreq ifr = {0};

	return !ioctl(fd, TUNGETIFF, &ifr) && ifr.ifr_flags & IFF_PERSIST;
}

int tun_attach(const char *name, bool vnet_hdr, int *ret_fd, struct err *err)
{
	_cleanup_close_ int fd = open_tun(err);
	int code, size = sizeof(struct virtio_net_hdr);

	if (fd < 0)
		return fd;
	code = set_iff(fd, name, IFF_TUN | IFF_NO_PI | (vnet_hdr ? IFF_VNET_HDR : 0));
	/* A device of another kind. */
	if (code == -EINVAL || (!code && !is_persistent(fd)))
		code = -ENODEV;
	if (!code && vnet_hdr && ioctl(fd, TUNSETVNETHDRSZ, &size))
		code = -errno;
	/* It may have been another's, who knew how to. */
	if (!code)
		code = tun_set_offload(fd, 0);
	if (code)
		return err_sys(err, code, "attaching to tun device %s", name);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int tun_set_offload(int fd, unsigned features)
{
	return ioctl(fd, TUNSETOFFLOAD, (unsigned long)features) ? -errno : 0;
}

struct statistics {
	bool found;
	struct rtnl_link_stats64 value;
};

static void on_link(const struct nlmsghdr *msg, void *userdata)
{
	struct statistics *statistics = userdata;
	const struct nlattr *attr;
	struct link link;

	if (link_parse(msg, &link) || strcmp(link.kind, "tun") != 0)
		return;
	mnl_attr_for_each (attr, msg, sizeof(struct ifinfomsg)) {
		size_t len = mnl_attr_get_payload_len(attr);

		if (mnl_attr_get_type(attr) != IFLA_STATS64)
			continue;
		/* It grows with the kernel's version; what is asked for has always been there. */
		if (len > sizeof(statistics->value))
			len = sizeof(statistics->value);
		memcpy(&statistics->value, mnl_attr_get_payload(attr), len);
		statistics->found = true;
	}
}

int tun_get_dropped(struct netlink *nl, const char *name, uint64_t *ret_dropped, struct err *err)
{
	struct statistics statistics = {0};
	char buf[NETLINK_MESSAGE_MAX] = {0};
	int code = netlink_request(nl, link_put_get(buf, name, 0), on_link, &statistics, err);

	if (code)
		return code;
	if (!statistics.found)
		return err_set(err, -ENODEV, "%s is no tun device", name);
	*ret_dropped = statistics.value.tx_dropped;
	return 0;
}
