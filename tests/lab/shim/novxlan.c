/* SPDX-License-Identifier: Apache-2.0 */
/* novxlan.c - preloaded into flanneld by the lab: a kernel without vxlan
 *
 * Spoils the device kind in what is sent by netlink; the real kernel then answers as
 * one that lacks the module.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static void spoil(void *data, size_t size)
{
	char *kind;

	while ((kind = memmem(data, size, "vxlan", 6)) != NULL)
		memcpy(kind, "vxlam", 5);
}

ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to,
	       socklen_t to_len)
{
	spoil((void *)(size_t)data, size);
	return syscall(SYS_sendto, fd, data, size, flags, to, to_len);
}

ssize_t send(int fd, const void *data, size_t size, int flags)
{
	return sendto(fd, data, size, flags, NULL, 0);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	for (size_t i = 0; i < message->msg_iovlen; i++)
		spoil(message->msg_iov[i].iov_base, message->msg_iov[i].iov_len);
	return syscall(SYS_sendmsg, fd, message, flags);
}
