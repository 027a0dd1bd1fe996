/* SPDX-License-Identifier: Apache-2.0 */
/* backend.c - the table of backends, and what they share */
#include "backend/backend.h"

#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static const struct backend_ops *const backends[] = {
	&backend_vxlan,
	&backend_host_gw,
	&backend_udp,
	&backend_alloc,
};

const struct backend_ops *backend_find(const char *type)
{
	for (size_t i = 0; i < ARRAY_SIZE(backends); i++)
		if (!strcmp(backends[i]->type, type))
			return backends[i];
	return NULL;
}

bool backend_has_kind(const char *kind)
{
	for (size_t i = 0; i < ARRAY_SIZE(backends); i++)
		for (const char *const *k = backends[i]->kinds; k && *k; k++)
			if (!strcmp(*k, kind))
				return true;
	return false;
}

const char *backend_names(void)
{
	static char names[64];

	if (!*names)
		for (size_t i = 0; i < ARRAY_SIZE(backends); i++) {
			size_t n = strlen(names);

			(void)snprintf(names + n, sizeof(names) - n, "%s%s", n ? ", " : "",
				       backends[i]->type);
		}
	return names;
}

void plan_add(struct plan *plan, const struct entry *entry)
{
	if (plan->n < PLAN_MAX)
		plan->entry[plan->n++] = *entry;
}

int backend_make(const struct netconf *conf, const struct uplink *uplink,
		 struct backend *ret_backend, struct err *err)
{
	struct backend backend = {0};
	int code;

	backend.ops = backend_find(conf->backend_type);
	if (!backend.ops)
		return err_set(err, -EINVAL, "Backend Type \"%s\" is unknown; this build has %s",
			       conf->backend_type, backend_names());
	memcpy(backend.enabled, conf->enabled, sizeof(backend.enabled));
	IP_FOREACH_FAMILY (f)
		backend.network[f] = conf->range[f].network;
	backend.uplink = *uplink;
	code = backend.ops->configure(&backend, conf->backend, err);
	if (code)
		return err_wrap(err, code, "Backend %s", backend.ops->type);
	*ret_backend = backend;
	return 0;
}

void backend_unknown_options(const struct backend *backend, const json_t *options, char *buf,
			     size_t size)
{
	const char *key;
	json_t *value;

	*buf = '\0';
	json_object_foreach ((json_t *)(uintptr_t)options, key, value) {
		const char *const *known = backend->ops->options;
		size_t n = strlen(buf);

		(void)value;
		if (!strcasecmp(key, "Type"))
			continue;
		while (*known && strcasecmp(*known, key))
			known++;
		if (!*known)
			(void)snprintf(buf + n, size - n, "%s%s", n ? ", " : "", key);
	}
}

int backend_plan_peer(const struct backend *backend, const struct lease *peer, struct plan *plan,
		      struct err *err)
{
	int result = 0;

	IP_FOREACH_FAMILY (f) {
		int code = 0;

		if (!backend->enabled[f] || !ip_net_is_set(&peer->subnet[f]))
			continue;
		if (backend->ops->plan_peer)
			code = backend->ops->plan_peer(backend, f, peer, plan, err);
		if (code)
			result = code;
	}
	return result;
}

bool backend_equal(const struct backend *a, const struct backend *b)
{
	return a->ops == b->ops && !memcmp(a->enabled, b->enabled, sizeof(a->enabled)) &&
	       uplink_equal(&a->uplink, &b->uplink) &&
	       !memcmp(a->device, b->device, sizeof(a->device)) &&
	       a->peer_filter == b->peer_filter && (!a->ops->equal || a->ops->equal(a, b));
}
