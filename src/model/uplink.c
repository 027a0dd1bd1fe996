/* SPDX-License-Identifier: Apache-2.0 */
/* uplink.c - the NIC that carries the overlay, as a value */
#include "model/uplink.h"

#include <string.h>

bool uplink_equal(const struct uplink *a, const struct uplink *b)
{
	if (a->ifindex != b->ifindex || strcmp(a->name, b->name) || a->mtu != b->mtu ||
	    a->up != b->up || a->n_onlink != b->n_onlink)
		return false;
	IP_FOREACH_FAMILY (f)
		if (!ip_equal(&a->addr[f], &b->addr[f]) ||
		    !ip_equal(&a->public_ip[f], &b->public_ip[f]))
			return false;
	for (size_t i = 0; i < a->n_onlink; i++)
		if (!ip_net_equal(&a->onlink[i], &b->onlink[i]))
			return false;
	return true;
}

bool uplink_is_onlink(const struct uplink *uplink, const struct ip *ip)
{
	for (size_t i = 0; i < uplink->n_onlink; i++)
		if (ip_net_contains(&uplink->onlink[i], ip))
			return true;
	return false;
}
