/* SPDX-License-Identifier: Apache-2.0 */
/* subnet.h - the node's subnet file, as the plugin needs it: complete, or an error that
 * says what flanneld has to say about it
 *
 * flanneld writes one line about itself into the file `status` beside the subnet file, and
 * holds a flock(2) on it as long as it lives (docs/cni.md).
 */
#pragma once

#include "cni/error.h"
#include "model/subnet_file.h"

/* A failure has code CNI_TRY_AGAIN_LATER: it is flanneld that has to come. */
int cni_subnet_read(const char *path, struct subnet_file *ret_subnet, struct cni_error *error);
