/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_backend.c - from the network config's Backend object to devices and records */
#include "backend/backend.h"

#include "base/json.h"
#include "base/mem.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct uplink *an_uplink(void)
{
	static struct uplink uplink = {.ifindex = 7, .name = "eth0", .mtu = 1500, .up = true};

	(void)ip_parse("192.0.2.1", &uplink.addr[IP_V4]);
	(void)ip_parse("2001:db8::1", &uplink.addr[IP_V6]);
	memcpy(uplink.public_ip, uplink.addr, sizeof(uplink.addr));
	return &uplink;
}

static void check_device(const struct backend *b, enum ip_family family)
{
	_cleanup_free_ char *record = NULL;
	_cleanup_json_ json_t *data = NULL;
	struct link link;
	char digits[16];

	if (!b->ops->device || !b->ops->device(b, family, &link))
		return;
	assert(backend_has_kind(link.kind));
	if (b->ops == &backend_udp) {
		assert(b->udp.port && b->udp.offload < UDP_OFFLOAD_COUNT && family == IP_V4);
		return;
	}
	(void)snprintf(digits, sizeof(digits), ".%u", link.vxlan.vni);
	assert(strstr(link.name, digits)); /* not cut */
	assert(link.vxlan.port && link.mtu >= (family == IP_V6 ? 1280 : 576) && link.mtu <= 1450);
	assert(link.mtu >= b->ops->mtu(b));
	record = b->ops->publish(b, family);
	assert(record && !json_parse_object(record, strlen(record), "", &data, NULL));
}

static void try(const struct netconf *conf)
{
	struct backend b;
	struct err err = {""};
	char unknown[32];

	if (backend_make(conf, an_uplink(), &b, &err)) {
		assert(*err.text);
		return;
	}
	assert(backend_equal(&b, &b));
	assert(b.ops->mtu(&b) <= 1500);
	backend_unknown_options(&b, conf->backend, unknown, sizeof(unknown));
	IP_FOREACH_FAMILY (f)
		check_device(&b, f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const types[] = {"vxlan", "host-gw", "udp", "alloc"};
	_cleanup_json_ json_t *options = NULL;

	if (json_parse_object((const char *)data, size, "Backend", &options, NULL))
		return 0;
	for (size_t i = 0; i < ARRAY_SIZE(types); i++)
		for (unsigned families = 1; families < 4; families++) {
			struct netconf conf = {.backend = options,
					       .enabled = {false, families & 1, families & 2}};

			(void)snprintf(conf.backend_type, sizeof(conf.backend_type), "%s",
				       types[i]);
			try(&conf);
		}
	return 0;
}
