/* SPDX-License-Identifier: Apache-2.0 */
/* netns.h - a pod's network namespace: opened by path, visited by this thread */
#pragma once

#include "base/mem.h"
#include "cni/error.h"

/* Opens the netns at @path: 0, and *@ret_fd is the caller's; 1: there is nothing, or no
 * netns (any more) at that path, and @error says which; -1. */
int netns_open(const char *path, int *ret_fd, struct cni_error *error);

/* Enters the netns @fd (@path for the message). *@visit must be -1 before, and is what brings
 * the thread back at the end of its scope:
 *
 *	_cleanup_netns_visit_ int visit = -1;
 */
int netns_enter(int fd, const char *path, int *visit, struct cni_error *error);
/* Back home, if the thread is not there. Aborts when it cannot: whatever came next would
 * happen to the wrong network. */
void netns_leave(int *visit);
#define _cleanup_netns_visit_ _cleanup_(netns_leave)
