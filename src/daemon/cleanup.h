/* SPDX-License-Identifier: Apache-2.0 */
/* cleanup.h - flanneld --cleanup: removes what flanneld has left on this host */
#pragma once

#include "base/err.h"
#include "daemon/options.h"
#include "io/loop.h"

/* Rules, routes, devices, peer filters and, when asked for, files; nothing of others. Each
 * thing removed is a log line. The loop is run until that is done. 0; -EBUSY: a flanneld is
 * running; other -errno: something could not be removed, the rest was. */
int cleanup_run(struct loop *loop, const struct options *options, struct err *err);
