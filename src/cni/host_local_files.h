/* SPDX-License-Identifier: Apache-2.0 */
/* host_local_files.h - the directory of a network: its lock, the files in it. Private to
 * host_local.
 */
#pragma once

#include "cni/host_local.h"

/* "<id>\r\n<interface>", and some room for what others put behind it. */
#define HOST_LOCAL_OWNER_MAX 512
#define HOST_LOCAL_BREAK     "\r\n"

struct host_local_files {
	char *path;
	int fd, lock_fd;
};

enum host_local_kind {
	HOST_LOCAL_FOREIGN, /* whatever it is: the address is not free, and nobody's to give back */
	HOST_LOCAL_TORN,    /* a crash of some writer has left it without contents */
	HOST_LOCAL_HELD,
	HOST_LOCAL_KIND_COUNT,
};

struct host_local_entry {
	const char *name;
	struct ip ip; /* unset: a temporary file that a crash has left */
	enum host_local_kind kind;
	const char *owner; /* of one that is held; no blanks at its ends */
};

/* Seconds to wait for the lock; 30 but in tests. */
extern unsigned host_local_lock_wait_s;

/* Opens and locks the directory. 1: there is none, and @create is not set. 0 or -1. */
int host_local_files_open(const struct host_local_conf *conf, bool create,
			  struct host_local_files *ret_files, struct cni_error *error);
void host_local_files_done(struct host_local_files *files);
#define _cleanup_host_local_files_ _cleanup_(host_local_files_done)

/* Calls @fn for each address and temporary file; everything else is passed over unopened.
 * @fn must not change the directory. 0 or -1. */
typedef void (*host_local_fn)(const struct host_local_entry *entry, void *userdata);
int host_local_files_scan(const struct host_local_files *files, host_local_fn fn, void *userdata,
			  struct cni_error *error);

/* The name of the file of @ip: as Go prints it. */
const char *host_local_files_name(const struct ip *ip, char buf[IP_STRLEN]);
/* Makes the file of @ip, whole or not at all. -EEXIST when there is one that is not torn. */
int host_local_files_take(const struct host_local_files *files, const struct ip *ip,
			  const char *owner);
/* Gone already is success. 0 or -errno. */
int host_local_files_remove(const struct host_local_files *files, const char *name);

/* The address given last of set @set; false when that is not known. */
bool host_local_files_read_last(const struct host_local_files *files, size_t set,
				struct ip *ret_ip);
/* A failure is told on stderr: only the round robin suffers. */
void host_local_files_write_last(const struct host_local_files *files, size_t set,
				 const struct ip *ip);
