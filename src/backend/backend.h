/* SPDX-License-Identifier: Apache-2.0 */
/* backend.h - what carries packets between hosts
 *
 * A backend is a value: made from the network config and the uplink, it says which
 * devices it wants, what it publishes about this host, and - a pure function - which
 * kernel entries one peer's lease means. It never calls the kernel.
 */
#pragma once

#include "backend/udp/path.h"
#include "base/err.h"
#include "kernel/link.h"
#include "model/lease.h"
#include "model/netconf.h"
#include "model/uplink.h"
#include "reconcile/entry.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Entries of one lease at the most: three and a filter entry per family, twice. */
#define PLAN_MAX 16

struct plan {
	struct entry entry[PLAN_MAX];
	size_t n;
};

void plan_add(struct plan *plan, const struct entry *entry);

struct backend_vxlan {
	uint32_t vni;
	uint16_t port;
	bool gbp;
	bool learning;
	bool direct_routing;
	unsigned asked_mtu; /* option MTU; 0: not given */
	unsigned outer_mtu; /* of the packets on the uplink: no more than it takes */
	struct mac mac[IP_FAMILY_COUNT];
};

struct backend_udp {
	uint16_t port;
	enum udp_offload offload;
	unsigned busy_poll_us;
	bool by_kernel;        /* Mode kernel: no path of ours, but an ipip device in FOU */
	char device[IFNAMSIZ]; /* flannel0, or what the caller knows to be free */
};

struct backend_ops;

struct backend {
	const struct backend_ops *ops;
	bool enabled[IP_FAMILY_COUNT];
	struct ip_net network[IP_FAMILY_COUNT]; /* of all hosts' subnets */
	struct uplink uplink;
	uint8_t device[IP_FAMILY_COUNT]; /* reconciler slots of its devices, by family */
	bool peer_filter;                /* plans filter entries, too */
	union {
		struct backend_vxlan vxlan;
		struct backend_udp udp;
	};
};

struct backend_ops {
	const char *type; /* BackendType, lower case */
	/* Of its devices, in rtnetlink's words; NULL-terminated. NULL: it has none. */
	const char *const *kinds;

	/* Reads the Backend object (NULL: none) into the zeroed options of @backend,
	 * whose enabled families and uplink are set. -EINVAL with an error naming the
	 * option, its value and what is right. */
	int (*configure)(struct backend *backend, const json_t *options, struct err *err);
	/* Options that exist, for warning about others; NULL-terminated, lower case. */
	const char *const *options;
	/* Whether two backends of this kind, of the same uplink and devices, have the same
	 * options. NULL: there are none. */
	bool (*equal)(const struct backend *a, const struct backend *b);
	/* MTU for pods: largest inner packet. */
	unsigned (*mtu)(const struct backend *backend);

	/* The device of a family; false: it has none. Local address, MTU, MAC and all,
	 * but for the lower device. NULL: no devices. */
	bool (*device)(const struct backend *backend, enum ip_family family, struct link *ret_link);
	/* BackendData of a family as compact JSON, caller frees; NULL: none. */
	char *(*publish)(const struct backend *backend, enum ip_family family);
	/* Whether the peer's record is of this backend (type and, for instance, VNI). */
	bool (*accepts)(const struct backend *backend, const struct lease *peer);
	/* What the own lease means: the devices' addresses, and what else they need once.
	 * NULL: nothing. */
	void (*plan_own)(const struct backend *backend, const struct lease *own, struct plan *plan);
	/* What one family of an accepted peer means. -EINVAL when its record is unusable,
	 * the error names the member; @plan is then as it was. NULL: nothing. */
	int (*plan_peer)(const struct backend *backend, enum ip_family family,
			 const struct lease *peer, struct plan *plan, struct err *err);
};

extern const struct backend_ops backend_vxlan;
extern const struct backend_ops backend_host_gw;
extern const struct backend_ops backend_udp;
extern const struct backend_ops backend_alloc;

/* By BackendType; NULL: there is no such backend. */
const struct backend_ops *backend_find(const char *type);
/* Whether some backend's devices are of this kind. */
bool backend_has_kind(const char *kind);
/* "vxlan, host-gw, udp, alloc": for error messages. */
const char *backend_names(void);

/* Makes the backend that @conf asks for. -EINVAL: the config or the uplink does not
 * allow it. MACs and device slots are the caller's to fill in. */
int backend_make(const struct netconf *conf, const struct uplink *uplink,
		 struct backend *ret_backend, struct err *err);

/* The backend's options that it does not know, comma separated ("" for none): a
 * misspelt option must not pass in silence. */
void backend_unknown_options(const struct backend *backend, const json_t *options, char *buf,
			     size_t size);

/* Both families of a peer, each by itself: an error in one leaves the other's plan.
 * 0, or -EINVAL with the last error. */
int backend_plan_peer(const struct backend *backend, const struct lease *peer, struct plan *plan,
		      struct err *err);

/* The backends alike but for what does not touch devices or records. */
bool backend_equal(const struct backend *a, const struct backend *b);
