/* SPDX-License-Identifier: Apache-2.0 */
/* etcd_link.h - how etcd is reached: endpoints, the one in use, files, credentials */
#pragma once

#include "base/err.h"
#include "io/dial.h"

#include <stdbool.h>
#include <stddef.h>

#define ETCD_ENDPOINTS_MAX 32
#define ETCD_PREFIX_MAX    512
#define ETCD_PASSWORD_MAX  1024

/* As on the command line; "": not given. Borrowed for the life of the link. */
struct etcd_settings {
	const char *endpoints; /* comma separated */
	const char *prefix;
	struct tls_files files;
	const char *username;
	const char *password;      /* secret */
	const char *password_file; /* read at each authentication; comes before `password` */
};

struct etcd_link {
	struct endpoint endpoint[ETCD_ENDPOINTS_MAX];
	size_t n_endpoints;
	size_t current;
	size_t failed;                /* endpoints in a row that did not work */
	char prefix[ETCD_PREFIX_MAX]; /* "/coreos.com/network": no slash at its end */
	const struct etcd_settings *settings;
};

/* Checks everything that can be checked without a connection: the URLs (http and https may
 * not be mixed), the prefix, the files, user and password going together. 0 or an error
 * that names flag, value and what is right; never a secret. */
int etcd_link_init(struct etcd_link *link, const struct etcd_settings *settings, struct err *err);

const struct endpoint *etcd_link_endpoint(const struct etcd_link *link);
/* The current one has failed: the next is tried. True: all have failed in a row, and it
 * is time to wait. */
bool etcd_link_next(struct etcd_link *link);
/* The current one works. */
void etcd_link_good(struct etcd_link *link);

/* Whether there is a user to authenticate as. */
bool etcd_link_has_user(const struct etcd_link *link);
/* The user's password, now: from the file (without the newline at its end), or as given.
 * Caller calls mem_free_secret(). */
int etcd_link_password(const struct etcd_link *link, char **ret_password, struct err *err);
