/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_vxlan.c - from a record to kernel entries: a key, a line break, the record */
#include "backend/backend.h"

#include "base/mem.h"

#include <assert.h>
#include <linux/rtnetlink.h>
#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct backend make(bool direct)
{
	struct backend b = {.ops = &backend_vxlan, .enabled = {false, true, true}};

	b.device[IP_V4] = 2;
	b.device[IP_V6] = 3;
	b.peer_filter = true;
	b.vxlan.vni = 1;
	b.vxlan.direct_routing = direct;
	(void)ip_net_parse("192.0.2.1/24", &b.uplink.onlink[0]);
	(void)ip_net_parse("2001:db8::1/64", &b.uplink.onlink[1]);
	b.uplink.n_onlink = 2;
	return b;
}

/* Nothing is planned that would name no host, no MAC, no device. */
static void check(const struct entry *e)
{
	static const char names[DEVICE_MAX][IFNAMSIZ] = {"", "eth0", "flannel.1", "flannel-v6.1"};
	char text[ENTRY_STRLEN];

	assert(e->key.kind < ENTRY_KIND_COUNT && e->key.device < 4 && e->value.device < 4);
	if (e->key.kind == ENTRY_FDB)
		assert(mac_is_unicast(&e->key.mac) && ip_is_set(&e->value.ip));
	else
		assert(ip_net_is_set(&e->key.net));
	if (e->key.kind == ENTRY_NEIGH)
		assert(mac_is_unicast(&e->value.mac));
	if (e->key.kind == ENTRY_ROUTE)
		assert(e->value.type == RTN_UNICAST && e->value.ip.family == e->key.net.ip.family);
	assert(*entry_format(e, names, text));
}

static void plan(const struct lease *lease, const struct backend *b)
{
	struct plan p = {0};
	struct err err = {""};
	int code;

	if (!b->ops->accepts(b, lease))
		return;
	code = backend_plan_peer(b, lease, &p, &err);
	assert(!code == !*err.text);
	assert(p.n <= PLAN_MAX);
	for (size_t i = 0; i < p.n; i++)
		check(&p.entry[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *end = size ? memchr(data, '\n', size) : NULL;
	_cleanup_free_ char *key = NULL;
	struct lease lease = {0};
	struct backend tunnel = make(false), direct = make(true);

	if (!end)
		return 0;
	key = mem_alloc((size_t)(end - data) + 1, 1);
	memcpy(key, data, (size_t)(end - data));
	if (lease_parse(key, (const char *)end + 1, size - (size_t)(end - data) - 1, &lease, NULL))
		return 0;
	plan(&lease, &tunnel);
	plan(&lease, &direct);
	lease_done(&lease);
	return 0;
}
