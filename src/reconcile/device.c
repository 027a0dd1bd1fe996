/* SPDX-License-Identifier: Apache-2.0 */
/* device.c - the reconciler's devices: created, compared, repaired, removed */
#include "reconcile/internal.h"

#include "base/log.h"
#include "base/mem.h"
#include "kernel/fou.h"
#include "kernel/tun.h"

#include <errno.h>
#include <linux/if_tunnel.h>
#include <stdio.h>

#define FOU_LOOK_MS 1000

uint8_t device_by_ifindex(const struct reconciler *r, int ifindex)
{
	for (uint8_t slot = DEVICE_UPLINK; slot < DEVICE_MAX; slot++)
		if (r->device[slot].has_seen && r->device[slot].seen.ifindex == ifindex)
			return slot;
	return DEVICE_NONE;
}

bool device_is_ready(const struct reconciler *r, uint8_t slot)
{
	const struct device *d = &r->device[slot];

	if (slot == DEVICE_NONE)
		return true;
	/* A stranger under our name gets nothing put on it. */
	return d->has_seen && d->seen.up && (!d->managed || !strcmp(d->seen.kind, d->want.kind));
}

static void note_device_drift(struct reconciler *r, struct device *d, const char *what)
{
	if (!d->managed || !d->wanted || !d->confirmed)
		return;
	if (reconciler_may_log(r))
		log_warning("Device %s: %s; restoring it", d->name, what);
	d->confirmed = false;
	r->drifted_devices++;
	reconciler_note_drift(r);
}

static void gone(struct reconciler *r, uint8_t slot, bool drift)
{
	struct device *d = &r->device[slot];

	d->has_seen = d->checked = false;
	d->failures = 0;
	d->retry_ms = 0;
	set_unsee_device(&r->set, slot, false, drift);
	/* Everything of ours rides on the uplink. */
	if (slot == DEVICE_UPLINK)
		for (uint8_t other = DEVICE_UPLINK + 1; other < DEVICE_MAX; other++)
			r->device[other].checked = false;
}

static void delete_by_ifindex(struct reconciler *r, int ifindex)
{
	char buf[NETLINK_MESSAGE_MAX] = {0};
	struct err err;
	int code = netlink_request(r->nl, link_put_delete(buf, ifindex), NULL, NULL, &err);

	if (code && code != -ENODEV)
		log_warning("Deleting the device with index %d failed: %s", ifindex, err.text);
}

/* The device as the kernel has it now, under its name. */
static void seen(struct reconciler *r, uint8_t slot, const struct link *link)
{
	struct device *d = &r->device[slot];
	bool was_ready = device_is_ready(r, slot);

	d->has_seen = true;
	d->seen = *link;
	d->checked = false;
	if (!was_ready && device_is_ready(r, slot))
		set_queue_device(&r->set, slot);
	if (slot == DEVICE_UPLINK)
		for (uint8_t other = DEVICE_UPLINK + 1; other < DEVICE_MAX; other++)
			r->device[other].checked = false;
}

void device_on_link(struct reconciler *r, const struct link *link, bool is_gone)
{
	for (uint8_t slot = DEVICE_UPLINK; slot < DEVICE_MAX; slot++) {
		struct device *d = &r->device[slot];
		bool same_index = d->has_seen && d->seen.ifindex == link->ifindex;

		if (same_index || (*d->name && !strcmp(d->name, link->name)))
			d->stale = true;
		/* The kernel drops a device's routes when it goes down, those of IPv4
		 * without a word: fib_sync_down_dev(). It may be up again by now. */
		if (same_index && !link->up)
			r->need_dump = true;
		/* Perhaps it was what stood in the way of ours. */
		if (is_gone && d->failures && !same_index && !strcmp(link->kind, d->want.kind))
			d->retry_ms = 0;
	}
}

static void on_link_answer(const struct nlmsghdr *msg, void *userdata)
{
	struct link *link = userdata;

	(void)link_parse(msg, link);
}

/* The device as it is, by name or (NULL) by index. 0; -ENODEV: there is none; other -errno:
 * who knows. */
static int ask(struct reconciler *r, const char *name, int ifindex, struct link *ret_link)
{
	char buf[NETLINK_MESSAGE_MAX] = {0};
	int code;

	*ret_link = (struct link){0};
	code = netlink_request(r->nl, link_put_get(buf, name, ifindex), on_link_answer, ret_link,
			       NULL);
	return code ? code : ret_link->ifindex ? 0 : -ENODEV;
}

/* The device that we knew is no longer there under its name. */
static void lost(struct reconciler *r, uint8_t slot)
{
	struct device *d = &r->device[slot];
	struct link link;

	if (d->managed && d->wanted && !ask(r, NULL, d->seen.ifindex, &link) &&
	    !strcmp(link.kind, d->want.kind)) {
		/* Under another name it would only stand in the way of the new one. */
		note_device_drift(r, d, "somebody renamed it");
		delete_by_ifindex(r, d->seen.ifindex);
	} else {
		note_device_drift(r, d, "somebody deleted it");
	}
	gone(r, slot, true);
}

/* A notification may be older than what we did since; only an answer is the truth. */
void device_refresh(struct reconciler *r, uint8_t slot)
{
	struct device *d = &r->device[slot];
	struct link link;
	int code = ask(r, d->name, 0, &link);

	d->stale = false;
	if (code && code != -ENODEV) {
		r->need_dump = true;
		return;
	}
	if (d->has_seen && (code || link.ifindex != d->seen.ifindex))
		lost(r, slot);
	if (!code)
		seen(r, slot, &link);
}

void device_refresh_stale(struct reconciler *r)
{
	for (uint8_t slot = DEVICE_UPLINK; slot < DEVICE_MAX; slot++)
		if (*r->device[slot].name && r->device[slot].stale)
			device_refresh(r, slot);
}

void device_refresh_all(struct reconciler *r)
{
	for (uint8_t slot = DEVICE_UPLINK; slot < DEVICE_MAX; slot++)
		if (*r->device[slot].name)
			device_refresh(r, slot);
}

static int change(struct reconciler *r, const struct device *d, struct err *err)
{
	char buf[NETLINK_MESSAGE_MAX] = {0};

	return netlink_request(r->nl, link_put_change(buf, &d->seen, &d->want), NULL, NULL, err);
}

/* What its kind has, on the living device. */
static int change_kind(struct reconciler *r, const struct device *d, struct err *err)
{
	char buf[NETLINK_MESSAGE_MAX] = {0};
	struct nlmsghdr *msg = strcmp(d->want.kind, "ipip")
				       ? link_put_change_vxlan(buf, d->seen.ifindex, &d->want)
				       : link_put_change_ipip(buf, d->seen.ifindex, &d->want);

	return netlink_request(r->nl, msg, NULL, NULL, err);
}

struct rival {
	const struct link *want;
	char name[IFNAMSIZ];
};

static void find_rival(const struct nlmsghdr *msg, void *userdata)
{
	struct rival *rival = userdata;
	struct link link;

	if (!link_parse(msg, &link) && !strcmp(link.kind, "vxlan") &&
	    link.vxlan.vni == rival->want->vxlan.vni && link.vxlan.port == rival->want->vxlan.port)
		memcpy(rival->name, link.name, sizeof(rival->name));
}

/* Names who has the VNI or the port that our device needs. */
static int explain_busy(struct reconciler *r, const struct device *d, int code, struct err *err)
{
	char buf[NETLINK_MESSAGE_MAX] = {0};
	struct rival rival = {.want = &d->want};

	if (code == -EADDRINUSE)
		return err_set(
			err, code,
			"UDP port %u is in use, by a program or a vxlan device with other options",
			d->want.vxlan.port);
	(void)netlink_dump(r->nl, link_put_dump(buf), find_rival, &rival, NULL);
	return *rival.name ? err_set(err, code, "device %s has VNI %u on port %u already",
				     rival.name, d->want.vxlan.vni, d->want.vxlan.port)
			   : code;
}

static int create_vxlan(struct reconciler *r, const struct device *d, struct err *err)
{
	char buf[NETLINK_MESSAGE_MAX] = {0}, mac[MAC_STRLEN], local[IP_STRLEN];
	int code = netlink_request(r->nl, link_put_create_vxlan(buf, &d->want), NULL, NULL, err);

	if (code == -EEXIST || code == -EADDRINUSE)
		return explain_busy(r, d, code, err);
	if (code == -EOPNOTSUPP)
		return err_set(err, code, "this kernel has no vxlan devices (modprobe vxlan)");
	if (!code && reconciler_may_log(r))
		log_info("Created device %s: VNI %u, port %u, local %s dev %s, MTU %u, MAC %s",
			 d->name, d->want.vxlan.vni, d->want.vxlan.port,
			 ip_format(&d->want.vxlan.local, local), r->names[DEVICE_UPLINK],
			 d->want.mtu, mac_format(&d->want.mac, mac));
	return code;
}

static int create_tun(struct reconciler *r, const struct device *d, struct err *err)
{
	int code = tun_create(d->name, err);

	if (!code && reconciler_may_log(r))
		log_info("Created device %s: tun, MTU %u", d->name, d->want.mtu);
	return code;
}

static int create_ipip(struct reconciler *r, const struct device *d, struct err *err)
{
	char buf[NETLINK_MESSAGE_MAX] = {0}, local[IP_STRLEN];
	int code = netlink_request(r->nl, link_put_create_ipip(buf, &d->want), NULL, NULL, err);

	if (code == -EOPNOTSUPP)
		return err_set(err, code, "this kernel has no ipip devices (modprobe ipip)");
	if (!code && reconciler_may_log(r))
		log_info("Created device %s: ipip in UDP port %u, local %s, MTU %u", d->name,
			 d->want.ipip.port, ip_format(&d->want.ipip.local, local), d->want.mtu);
	return code;
}

static int create(struct reconciler *r, uint8_t slot, struct err *err)
{
	struct device *d = &r->device[slot];
	int code;

	if (!strcmp(d->want.kind, "tun"))
		code = create_tun(r, d, err);
	else if (!strcmp(d->want.kind, "ipip"))
		code = create_ipip(r, d, err);
	else
		code = create_vxlan(r, d, err);
	/* The kernel takes no alias with the creation (rtnl_create_link()), and a tun device
	 * nothing but its name. */
	device_refresh(r, slot);
	if (!code && d->has_seen)
		code = change(r, d, err);
	return code;
}

static int recreate(struct reconciler *r, uint8_t slot, const char *why, struct err *err)
{
	struct device *d = &r->device[slot];

	/* By its alias one of an earlier run, or config, is known, whatever its kind. */
	if (strcmp(d->seen.kind, d->want.kind) && strcmp(d->seen.alias, d->want.alias))
		log_warning("Device %s is somebody else's (%s): replacing it", d->name, why);
	else
		log_info("Device %s has %s: re-creating it", d->name, why);
	delete_by_ifindex(r, d->seen.ifindex);
	gone(r, slot, false);
	return create(r, slot, err);
}

/* The UDP port that goes with a device; 0: none. */
static uint16_t fou_port_of(const struct link *link)
{
	bool has = !strcmp(link->kind, "ipip") && link->ipip.encap == TUNNEL_ENCAP_FOU;

	return has ? link->ipip.port : 0;
}

static void leave_fou_port(struct device *d)
{
	struct err err;

	if (d->fou_port && fou_close(d->fou_port, &err))
		log_warning("%s; leaving it", err.text);
	else if (d->fou_port)
		log_info("FOU port %u is closed: no longer wanted", d->fou_port);
	d->fou_port = 0;
}

/* Sees to the port that the device needs, and only to that one. */
static int keep_fou_port(struct reconciler *r, struct device *d, struct err *err)
{
	uint16_t port = fou_port_of(&d->want);
	bool made;
	int code;

	/* An earlier run's. */
	if (!d->fou_port && d->has_seen && !strcmp(d->seen.alias, d->want.alias))
		d->fou_port = fou_port_of(&d->seen);
	if (d->fou_port != port)
		leave_fou_port(d);
	if (!port)
		return 0;
	code = fou_open(port, &made, err);
	if (code)
		return code;
	if (made && d->fou_port)
		note_device_drift(r, d, "somebody closed its FOU port");
	if (made && reconciler_may_log(r))
		log_info("Opened FOU port %u: the kernel takes IPv4 packets from it", port);
	d->fou_port = port;
	d->fou_look_ms = loop_now_ms() + FOU_LOOK_MS;
	return 0;
}

/* A veth takes a packet in FOU for finished once its UDP checksum is, and leaves the inner one
 * to nobody: to a peer whose data path is in user space it would never be right. */
static bool leaves_inner_checksum(const struct reconciler *r, const struct device *d)
{
	return fou_port_of(&d->want) && !strcmp(r->device[DEVICE_UPLINK].seen.kind, "veth");
}

static int set_tx_checksum(const struct reconciler *r, const struct device *d, struct err *err)
{
	int want = d->tx_checksum < 0 && leaves_inner_checksum(r, d) ? 0 : d->tx_checksum;
	bool on;
	int code;

	if (want < 0)
		return 0;
	code = link_get_tx_checksum(d->name, &on);
	if (!code && on != want)
		code = link_set_tx_checksum(d->name, want);
	return code ? err_sys(err, code, "transmit checksum offload") : 0;
}

/* Brings one device to what is wanted; sets *@acted when that took a change. 0 or -errno. */
static int converge(struct reconciler *r, uint8_t slot, bool *acted, struct err *err)
{
	struct device *d = &r->device[slot];
	char why[256];
	enum diff_link diff = diff_link(&d->want, d->has_seen ? &d->seen : NULL, why, sizeof(why));
	int code = keep_fou_port(r, d, err);

	if (code)
		return code;
	if (diff != LINK_SAME && d->has_seen)
		note_device_drift(r, d, why);
	switch (diff) {
	case LINK_SAME:
		break;
	case LINK_CREATE:
		code = create(r, slot, err);
		break;
	case LINK_CHANGE:
		code = change(r, d, err);
		break;
	case LINK_REKIND:
		code = change_kind(r, d, err);
		if (code) /* an older kernel, or nothing that it lets be changed */
			code = recreate(r, slot, why, err);
		else
			code = change(r, d, err);
		break;
	case LINK_RECREATE:
		code = recreate(r, slot, why, err);
		break;
	}
	if (!code)
		code = set_tx_checksum(r, d, err);
	if (diff != LINK_SAME) {
		*acted = true;
		device_refresh(r, slot);
	}
	return code;
}

/* @raced: the device came or went between our look and our call, if it happens once. */
static void device_failed(struct reconciler *r, struct device *d, bool raced, const struct err *err)
{
	int64_t delay = reconciler_backoff_ms(d->failures++);
	unsigned news = raced ? 2 : 1;
	char what[64];

	d->retry_ms = loop_now_ms() + delay;
	d->stale = true;
	r->settled = false;
	if (d->failures < news)
		return;
	(void)snprintf(what, sizeof(what), "Device %s", d->name);
	if (d->failures == news)
		reconciler_log_failure(r, what, err->text, delay);
	(void)snprintf(r->failure, sizeof(r->failure), "device %s: %.400s", d->name, err->text);
	r->events.failing(r->failure, r->events.userdata);
}

static void lower(int64_t *next_ms, int64_t ms)
{
	if (!*next_ms || ms < *next_ms)
		*next_ms = ms;
}

bool device_pass(struct reconciler *r, int64_t *next_retry_ms)
{
	bool acted = false;
	const struct device *uplink = &r->device[DEVICE_UPLINK];
	int64_t now = loop_now_ms();
	struct err err;

	for (uint8_t slot = DEVICE_UPLINK + 1; slot < DEVICE_MAX; slot++) {
		struct device *d = &r->device[slot];

		/* The port and its device: the kernel says nothing of a change that it half
		 * refused. */
		if (d->fou_port && d->checked && d->fou_look_ms <= now)
			device_refresh(r, slot);
		if (d->fou_port && d->checked)
			lower(next_retry_ms, d->fou_look_ms);
		/* Without an uplink nothing can be built; its return wakes us. */
		if (!d->wanted || d->checked || !uplink->has_seen)
			continue;
		d->want.vxlan.lower_ifindex = uplink->seen.ifindex;
		if (d->retry_ms <= now) {
			int code = converge(r, slot, &acted, &err);

			if (code) {
				device_failed(r, d, code == -ENODEV || code == -EEXIST, &err);
			} else {
				/* It may have gone meanwhile: then we come again. */
				d->checked = d->confirmed = d->has_seen;
				d->failures = 0;
				d->retry_ms = 0;
				if (d->fou_port)
					lower(next_retry_ms, d->fou_look_ms);
				continue;
			}
		}
		lower(next_retry_ms, d->retry_ms);
	}
	return acted;
}

void device_remove_pass(struct reconciler *r)
{
	for (uint8_t slot = DEVICE_UPLINK + 1; slot < DEVICE_MAX; slot++) {
		struct device *d = &r->device[slot];

		if (!*d->name || d->wanted)
			continue;
		if (d->has_seen && !strcmp(d->seen.kind, d->want.kind)) {
			log_info("Removing device %s: no longer wanted", d->name);
			delete_by_ifindex(r, d->seen.ifindex);
		}
		gone(r, slot, false);
		if (!d->fou_port)
			d->fou_port = fou_port_of(&d->want);
		leave_fou_port(d);
		*d = (struct device){0};
		*r->names[slot] = '\0';
	}
}
