/* SPDX-License-Identifier: Apache-2.0 */
/* backends.h - for tests of backends: made of options, asked for plans */
#pragma once

#include "backend/backend.h"

#include "base/json.h"
#include "base/mem.h"
#include "messages.h"

#include <errno.h>
#include <stdio.h>

#define V4_DEVICE 2
#define V6_DEVICE 3

enum families { V4 = 1, V6 = 2, DUAL = 3 };

static inline struct uplink an_uplink(void)
{
	struct uplink uplink = {.ifindex = 7, .name = "eth0", .mtu = 1500, .up = true};

	uplink.addr[IP_V4] = uplink.public_ip[IP_V4] = messages_ip("192.0.2.1");
	uplink.addr[IP_V6] = uplink.public_ip[IP_V6] = messages_ip("2001:db8::1");
	uplink.onlink[0] = messages_net("192.0.2.1/24");
	uplink.onlink[1] = messages_net("2001:db8::1/64");
	uplink.n_onlink = 2;
	return uplink;
}

/* 0 or the error of making a backend of @options. */
static inline int make_on(const struct uplink *uplink, const char *options, enum families families,
			  struct backend *ret_backend, struct err *err)
{
	_cleanup_json_ json_t *backend = NULL;
	struct netconf conf = {0};
	const char *type = NULL;
	int code;

	assert_int_equal(json_parse_object(options, strlen(options), "", &backend, NULL), 0);
	assert_int_equal(json_member_string(backend, "Type", &type, NULL), 0);
	(void)snprintf(conf.backend_type, sizeof(conf.backend_type), "%s", type);
	conf.enabled[IP_V4] = families & V4;
	conf.enabled[IP_V6] = families & V6;
	conf.range[IP_V4].network = messages_net("10.5.0.0/16");
	conf.backend = backend;
	code = backend_make(&conf, uplink, ret_backend, err);
	if (!code) {
		ret_backend->device[IP_V4] = V4_DEVICE;
		ret_backend->device[IP_V6] = V6_DEVICE;
	}
	return code;
}

static inline struct backend make(const char *options, enum families families)
{
	struct uplink uplink = an_uplink();
	struct backend backend;
	struct err err;

	if (make_on(&uplink, options, families, &backend, &err))
		fail_msg("%s: %s", options, err.text);
	return backend;
}

/* Options that make no backend, and what the error begins with. */
struct refusal {
	const char *options;
	enum families families;
	unsigned nic_mtu;
	const char *text;
};

static inline void expect_refused(const struct refusal *refusal)
{
	struct uplink uplink = an_uplink();
	struct backend backend;
	struct err err = {""};

	uplink.mtu = refusal->nic_mtu;
	if (make_on(&uplink, refusal->options, refusal->families, &backend, &err) != -EINVAL)
		fail_msg("%s is accepted", refusal->options);
	if (strncmp(err.text, refusal->text, strlen(refusal->text)) != 0)
		fail_msg("%s: %s", refusal->options, err.text);
}

/* A record of another host. */
static inline struct lease a_peer(const char *subnet, const char *subnet6, const char *public_ip,
				  const char *public_ip6, const char *data, const char *data6)
{
	struct lease peer = {.backend_type = "vxlan"};

	peer.subnet[IP_V4] = messages_net(subnet);
	peer.subnet[IP_V6] = messages_net(subnet6);
	peer.public_ip[IP_V4] = messages_ip(public_ip);
	peer.public_ip[IP_V6] = messages_ip(public_ip6);
	peer.backend_data[IP_V4] = data ? mem_strdup(data) : NULL;
	peer.backend_data[IP_V6] = data6 ? mem_strdup(data6) : NULL;
	return peer;
}

/* The plan in words, one entry after the other. */
static inline void expect_plan(const struct backend *b, const struct lease *peer, int code,
			       const char *words)
{
	static const char names[][DEVICE_MAX][IFNAMSIZ] = {
		{"", "eth0", "flannel.1", "flannel-v6.1"},
		{"", "eth0", "flannel0"},
	};
	char text[1024] = "", line[ENTRY_STRLEN];
	struct plan plan = {0};
	struct err err = {""};

	assert_int_equal(backend_plan_peer(b, peer, &plan, &err), code);
	assert_int_equal(code != 0, *err.text != '\0');
	for (size_t i = 0; i < plan.n; i++) {
		size_t n = strlen(text);

		(void)snprintf(text + n, sizeof(text) - n, "%s%s", n ? "; " : "",
			       entry_format(&plan.entry[i], names[b->ops == &backend_udp], line));
	}
	assert_string_equal(text, words);
}
