/* SPDX-License-Identifier: Apache-2.0 */
/* port_owner.c - who has a UDP port, as ss(8) finds it: by the socket's inode */
#include "kernel/port_owner.h"

#include "base/file.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SOCKETS_MAX_BYTES (16 * 1024 * 1024)

/* "0100007F:205D", the address in the byte order of this host. Of IPv6 the last four bytes say
 * enough: 0 is ::, what is mapped from IPv4 has its address there. */
static bool is_in_the_way(const char *local, uint32_t addr, uint16_t port)
{
	const char *colon = strchr(local, ':');
	uint32_t its;

	if (!colon || colon - local < 8 || strtoul(colon + 1, NULL, 16) != port)
		return false;
	its = ntohl((uint32_t)strtoul(colon - 8, NULL, 16));
	return !addr || !its || its == addr;
}

/* The inode of such a socket in @file; -1: there is none. */
static long long find_inode(const char *file, uint32_t addr, uint16_t port)
{
	_cleanup_free_ char *sockets = NULL;
	char *rest, *line;
	size_t len;

	if (file_read(AT_FDCWD, file, SOCKETS_MAX_BYTES, &sockets, &len, NULL))
		return -1;
	for (line = strtok_r(sockets, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		/* sl local:port remote:port st tx:rx tr:when retrnsmt uid timeout inode */
		char *field[10], *more;
		size_t n = 0;

		for (char *word = strtok_r(line, " ", &more); word && n < ARRAY_SIZE(field);
		     word = strtok_r(NULL, " ", &more))
			field[n++] = word;
		if (n == ARRAY_SIZE(field) && is_in_the_way(field[1], addr, port))
			return strtoll(field[9], NULL, 10);
	}
	return -1;
}

static bool has_socket(int proc, const char *pid, const char *socket)
{
	char path[32], target[64];
	const struct dirent *entry;
	bool found = false;
	DIR *dir;
	int fd;

	(void)snprintf(path, sizeof(path), "%.20s/fd", pid);
	fd = openat(proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dir = fd < 0 ? NULL : fdopendir(fd);
	if (!dir)
		return false;
	while (!found && (entry = readdir(dir))) {
		ssize_t n = readlinkat(fd, entry->d_name, target, sizeof(target) - 1);

		target[n > 0 ? n : 0] = '\0';
		found = !strcmp(target, socket);
	}
	(void)closedir(dir);
	return found;
}

static bool name_process(int proc, const char *pid, char buf[PORT_OWNER_MAX])
{
	_cleanup_free_ char *name = NULL;
	char path[32];
	size_t len;

	(void)snprintf(path, sizeof(path), "%.20s/comm", pid);
	if (file_read(proc, path, 64, &name, &len, NULL))
		return false;
	name[strcspn(name, "\n")] = '\0';
	(void)snprintf(buf, PORT_OWNER_MAX, "%.16s (pid %.20s)", name, pid);
	return true;
}

static bool find_process(long long inode, char buf[PORT_OWNER_MAX])
{
	const struct dirent *entry;
	bool found = false;
	char socket[40];
	DIR *proc = opendir("/proc");

	(void)snprintf(socket, sizeof(socket), "socket:[%lld]", inode);
	while (proc && !found && (entry = readdir(proc)))
		found = isdigit((unsigned char)entry->d_name[0]) &&
			has_socket(dirfd(proc), entry->d_name, socket) &&
			name_process(dirfd(proc), entry->d_name, buf);
	if (proc)
		(void)closedir(proc);
	return found;
}

const char *udp_port_owner(uint32_t addr, uint16_t port, char buf[PORT_OWNER_MAX])
{
	long long inode = find_inode("/proc/net/udp", addr, port);

	if (inode < 0) /* most programs that speak both have one socket of IPv6 */
		inode = find_inode("/proc/net/udp6", addr, port);
	/* Sockets of the kernel's own have an inode, too, but no process. */
	if (!find_process(inode, buf))
		(void)snprintf(buf, PORT_OWNER_MAX,
			       "the kernel (vxlan or FOU), or a program in a container");
	return buf;
}
