/* SPDX-License-Identifier: Apache-2.0 */
/* notify.h - sd_notify(3): READY=1, STATUS=..., STOPPING=1 to $NOTIFY_SOCKET */
#pragma once

#include "base/err.h"

/* Sends @state ("READY=1\nSTATUS=...") as one datagram. 0, also without
 * $NOTIFY_SOCKET; otherwise -errno. Path and abstract ("@...") sockets. */
int notify_send(const char *state, struct err *err);
