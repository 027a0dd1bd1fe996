/* SPDX-License-Identifier: Apache-2.0 */
/* mnl.c - the part of libmnl(3) that src/kernel uses, for the static plugin
 *
 * Debian has libmnl as a shared library only, and the plugin is copied onto hosts that need
 * not have it. Same functions, same bytes: tests/unit/test_mnl.c compares the two.
 */
#include <libmnl/libmnl.h>
