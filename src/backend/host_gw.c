/* SPDX-License-Identifier: Apache-2.0 */
/* host_gw.c - backend host-gw: a plain route to each peer's subnet via its public IP
 *
 * No device, no encapsulation; every host must be on the uplink's own L2.
 */
#include "backend/backend.h"

#include <errno.h>
#include <string.h>

static int host_gw_configure(struct backend *b, const json_t *options, struct err *err)
{
	char public_ip[IP_STRLEN], addr[IP_STRLEN];

	(void)options;
	IP_FOREACH_FAMILY (f) {
		if (!b->enabled[f] || ip_equal(&b->uplink.public_ip[f], &b->uplink.addr[f]))
			continue;
		return err_set(err, -EINVAL,
			       "public IP %s is not the address %s of %s: host-gw cannot work "
			       "through NAT; leave out --public-ip%s or use vxlan",
			       ip_format(&b->uplink.public_ip[f], public_ip),
			       ip_format(&b->uplink.addr[f], addr), b->uplink.name,
			       f == IP_V6 ? "v6" : "");
	}
	return 0;
}

static unsigned host_gw_mtu(const struct backend *b)
{
	return b->uplink.mtu;
}

static bool host_gw_accepts(const struct backend *b, const struct lease *peer)
{
	(void)b;
	return !strcmp(peer->backend_type, backend_host_gw.type);
}

static int host_gw_plan_peer(const struct backend *b, enum ip_family family,
			     const struct lease *peer, struct plan *plan, struct err *err)
{
	struct entry entry =
		entry_route(DEVICE_UPLINK, &peer->subnet[family], &peer->public_ip[family], false);

	(void)b;
	(void)err;
	plan_add(plan, &entry);
	return 0;
}

static const char *const host_gw_options[] = {NULL};

const struct backend_ops backend_host_gw = {
	.type = "host-gw",
	.options = host_gw_options,
	.configure = host_gw_configure,
	.mtu = host_gw_mtu,
	.accepts = host_gw_accepts,
	.plan_peer = host_gw_plan_peer,
};
