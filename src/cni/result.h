/* SPDX-License-Identifier: Apache-2.0 */
/* result.h - what ADD answers, in each version of the specification. Pure.
 *
 * Three shapes: 0.1.0 and 0.2.0 (ip4, ip6), 0.3.0 to 0.4.0 (ips with a version),
 * 1.0.0 and 1.1.0 (ips without).
 */
#pragma once

#include "base/json.h"
#include "cni/error.h"
#include "net/ip.h"
#include "net/mac.h"

#include <stdbool.h>

#define CNI_RESULT_MAX_BYTES (1 << 20)

/* One of the result of a bridge: what we make ourselves. */
struct cni_interface {
	char name[16];
	struct mac mac;
	const char *sandbox; /* the netns' path, borrowed; NULL: the host */
};

struct cni_address {
	struct ip_net net; /* host bits kept */
	struct ip gateway; /* may be unset */
};

struct cni_route {
	struct ip_net dst;
	struct ip gateway; /* may be unset: that of the family's first address */
};

/* A result in version 1.1.0 as JSON: the last interface (container's) has all addresses.
 * @dns may be NULL. Caller owns it. */
json_t *cni_result_new(const struct cni_interface *interfaces, size_t n_interfaces,
		       const struct cni_address *addresses, size_t n_addresses,
		       const struct cni_route *routes, size_t n_routes, json_t *dns);

/* @result (in the version that its cniVersion names, 0.1.0 without one) as @version wants it;
 * members of the whole that no version knows are kept. A new object of the caller's. */
int cni_result_convert(const json_t *result, const char *version, json_t **ret_result,
		       struct cni_error *error);

/* Names the gateway of each route of @result (0.3.0 and later) that has none: that of the
 * family's first address, which is what plugins make of such a route. */
void cni_result_name_gateways(json_t *result);
