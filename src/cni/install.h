/* SPDX-License-Identifier: Apache-2.0 */
/* install.h - `flannel --install CONF BIN-DIR CONF-DIR`
 *
 * What the init containers of the Kubernetes manifest do with cp: this program as
 * BIN-DIR/flannel (mode 0755), CONF as CONF-DIR/10-flannel.conflist (10-flannel.conf when
 * it is a single plugin's), each by rename(2), so that a runtime sees the old file or the
 * new one. CONF must be JSON with a plugin of type flannel; nothing is touched otherwise.
 */
#pragma once

#include "base/err.h"

/* Says on stdout what it installed, and what was the same already. 0 or -errno. */
int install(const char *conf, const char *bin_dir, const char *conf_dir, struct err *err);
