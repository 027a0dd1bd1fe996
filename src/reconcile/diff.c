/* SPDX-License-Identifier: Apache-2.0 */
/* diff.c - what to do about a difference */
#include "reconcile/diff.h"

#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

enum diff_action diff_item(const struct item *item, bool may_remove)
{
	if (item->refs) {
		if (item->has_seen && entry_value_equal(&item->want, &item->seen))
			return DIFF_NONE;
		return DIFF_SET;
	}
	if (!item->has_seen || !item->ours)
		return DIFF_FORGET;
	return may_remove ? DIFF_DELETE : DIFF_NONE;
}

bool diff_route_is_ours(const struct diff_claims *claims, const struct entry *route)
{
	const struct ip_net *dst = &route->key.net;
	const struct entry_value *value = &route->value;
	bool inside = false;

	/* On a device of ours nobody else uses our protocol number. */
	if (value->protocol == ROUTE_PROTOCOL_WEFT && value->device > DEVICE_UPLINK)
		return true;
	for (size_t i = 0; i < claims->n && !inside; i++)
		inside = ip_net_contains_net(&claims->network[i], dst);
	if (!inside)
		return false;
	if (value->protocol == ROUTE_PROTOCOL_WEFT)
		return true;
	if (value->device > DEVICE_UPLINK)
		return value->protocol != RTPROT_KERNEL;
	return value->protocol == RTPROT_BOOT && value->device == DEVICE_UPLINK &&
	       ip_is_set(&value->ip) && dst->len == claims->subnet_len[dst->ip.family];
}

static enum diff_link differs(enum diff_link so_far, enum diff_link level, char *why, size_t size,
			      const char *what)
{
	size_t n = strlen(why);

	(void)snprintf(why + n, size - n, "%s%s", n ? ", " : "", what);
	return level > so_far ? level : so_far;
}

static enum diff_link diff_vxlan(const struct link *want, const struct link *seen, char *why,
				 size_t size)
{
	const struct link_vxlan *w = &want->vxlan, *s = &seen->vxlan;
	enum diff_link r = LINK_SAME;
	char text[96], a[IP_STRLEN], b[IP_STRLEN];

	if (s->vni != w->vni) {
		(void)snprintf(text, sizeof(text), "VNI %u, not %u", s->vni, w->vni);
		r = differs(r, LINK_RECREATE, why, size, text);
	}
	if (s->port != w->port) {
		(void)snprintf(text, sizeof(text), "port %u, not %u", s->port, w->port);
		r = differs(r, LINK_RECREATE, why, size, text);
	}
	if (s->gbp != w->gbp)
		r = differs(r, LINK_RECREATE, why, size, s->gbp ? "GBP on" : "GBP off");
	if (!ip_equal(&s->local, &w->local)) {
		(void)snprintf(text, sizeof(text), "local address %s, not %s",
			       ip_format(&s->local, a), ip_format(&w->local, b));
		r = differs(r, s->local.family == w->local.family ? LINK_REKIND : LINK_RECREATE,
			    why, size, text);
	}
	if (s->lower_ifindex != w->lower_ifindex)
		r = differs(r, LINK_REKIND, why, size, "another uplink");
	if (s->learning != w->learning)
		r = differs(r, LINK_REKIND, why, size,
			    s->learning ? "learning on" : "learning off");
	return r;
}

static enum diff_link diff_ipip(const struct link *want, const struct link *seen, char *why,
				size_t size)
{
	const struct link_ipip *w = &want->ipip, *s = &seen->ipip;
	enum diff_link r = LINK_SAME;
	char text[96], a[IP_STRLEN], b[IP_STRLEN];

	if (!ip_equal(&s->local, &w->local)) {
		(void)snprintf(text, sizeof(text), "local address %s, not %s",
			       ip_format(&s->local, a), ip_format(&w->local, b));
		r = differs(r, LINK_REKIND, why, size, text);
	}
	if (!ip_equal(&s->remote, &w->remote))
		r = differs(r, LINK_REKIND, why, size, "a remote address");
	if (s->lower_ifindex != w->lower_ifindex)
		r = differs(r, LINK_REKIND, why, size, "another uplink");
	if (s->ttl != w->ttl) {
		(void)snprintf(text, sizeof(text), "TTL %u, not %u", s->ttl, w->ttl);
		r = differs(r, LINK_REKIND, why, size, text);
	}
	if (s->no_pmtu != w->no_pmtu)
		r = differs(r, LINK_REKIND, why, size, "path MTU discovery");
	if (s->encap != w->encap || s->encap_flags != w->encap_flags)
		r = differs(r, LINK_REKIND, why, size, "another encapsulation");
	if (s->port != w->port || s->source_port != w->source_port) {
		(void)snprintf(text, sizeof(text), "ports %u and %u, not %u and %u", s->source_port,
			       s->port, w->source_port, w->port);
		r = differs(r, LINK_REKIND, why, size, text);
	}
	return r;
}

static enum diff_link diff_kind(const struct link *want, const struct link *seen, char *why,
				size_t size)
{
	if (!strcmp(want->kind, "vxlan"))
		return diff_vxlan(want, seen, why, size);
	if (!strcmp(want->kind, "ipip"))
		return diff_ipip(want, seen, why, size);
	return LINK_SAME;
}

enum diff_link diff_link(const struct link *want, const struct link *seen, char *why, size_t size)
{
	enum diff_link r;
	char text[96], a[MAC_STRLEN], b[MAC_STRLEN];

	*why = '\0';
	if (!seen)
		return LINK_CREATE;
	if (strcmp(want->kind, seen->kind)) {
		(void)snprintf(text, sizeof(text), "kind %s, not %s",
			       *seen->kind ? seen->kind : "unknown", want->kind);
		return differs(LINK_SAME, LINK_RECREATE, why, size, text);
	}
	r = diff_kind(want, seen, why, size);
	if (seen->mtu != want->mtu) {
		(void)snprintf(text, sizeof(text), "MTU %u, not %u", seen->mtu, want->mtu);
		r = differs(r, LINK_CHANGE, why, size, text);
	}
	if (want->tx_queue_len && seen->tx_queue_len != want->tx_queue_len) {
		(void)snprintf(text, sizeof(text), "queue of %u packets, not %u",
			       seen->tx_queue_len, want->tx_queue_len);
		r = differs(r, LINK_CHANGE, why, size, text);
	}
	if (!mac_equal(&seen->mac, &want->mac)) {
		(void)snprintf(text, sizeof(text), "MAC %s, not %s", mac_format(&seen->mac, a),
			       mac_format(&want->mac, b));
		r = differs(r, LINK_CHANGE, why, size, text);
	}
	if (!seen->up)
		r = differs(r, LINK_CHANGE, why, size, "down");
	if (strcmp(seen->alias, want->alias))
		r = differs(r, LINK_CHANGE, why, size, "alias");
	return r;
}
