/* SPDX-License-Identifier: Apache-2.0 */
/* lease.h - a host's lease of its subnet(s), and its record in a datastore
 *
 * COMPAT.md section 4. A record is a key, `10.5.52.0-24` or in dual-stack
 * `10.5.52.0-24&fc00:1::-64` (IPv6 only: `fc00:1::-64`), and a JSON value. The
 * original reads what we write and the other way round.
 *
 * `struct lease` owns its strings: lease_done() frees them, a zeroed lease is
 * valid and empty.
 */
#pragma once

#include "base/err.h"
#include "net/ip.h"

#include <stdbool.h>
#include <stdint.h>

#define LEASE_KEY_MAX          (2 * IP_NET_STRLEN + 2)
#define LEASE_BACKEND_TYPE_MAX 16
/* Longest record that is read at all; the extension backend may publish a page. */
#define LEASE_RECORD_MAX 65536

/* The lease ends, but only the store knows when. Not written into a record. */
#define LEASE_EXPIRES_SOMEDAY INT64_MAX

struct lease {
	struct ip_net subnet[IP_FAMILY_COUNT];     /* base addresses; at least one set */
	struct ip public_ip[IP_FAMILY_COUNT];      /* where the host's tunnels end */
	char backend_type[LEASE_BACKEND_TYPE_MAX]; /* lower case; "" in old udp records */
	char *backend_data[IP_FAMILY_COUNT];       /* compact JSON text; NULL: none */
	int64_t expires_s;                         /* Unix time; 0: never (a reservation) */
	int64_t deadline_ms;                       /* loop_now_ms() at which this host stops
						      believing a peer's lease; 0: never. Not
						      part of the record */
};

void lease_done(struct lease *lease);
/* Deep copy. */
struct lease lease_copy(const struct lease *lease);
/* Everything equal but the expiry: nothing that peers must act on has changed. */
bool lease_same_content(const struct lease *a, const struct lease *b);
/* Whether @b is of the host that publishes @a: by IPv4, or by IPv6 where @a has no IPv4. */
bool lease_same_public_ip(const struct lease *a, const struct lease *b);

/* Reads the subnets out of a record key. Host bits in the key, a length out of
 * range or two prefixes of one family are -EINVAL. Sets only `subnet`. */
int lease_parse_key(const char *key, struct ip_net ret_subnet[IP_FAMILY_COUNT], struct err *err);
/* Writes the key of @subnet into @buf and returns it. */
const char *lease_format_key(const struct ip_net subnet[IP_FAMILY_COUNT], char buf[LEASE_KEY_MAX]);

/* Reads a record: @key and the JSON value @text (any length up to
 * LEASE_RECORD_MAX). Members match in any case; null and absent are the same;
 * `Expiration` is RFC 3339 or absent. A family with a subnet needs its public
 * address. Caller owns *@ret_lease. 0 or -EINVAL with an error naming the member. */
int lease_parse(const char *key, const char *text, size_t len, struct lease *ret_lease,
		struct err *err);
/* The JSON value, `Expiration` only when @expires_s is a time. Member order as the
 * original writes: PublicIP, PublicIPv6, BackendType, BackendData, BackendV6Data,
 * Expiration; PublicIP "0.0.0.0" stands for none in an IPv6-only record, as there.
 * Caller frees. */
char *lease_format(const struct lease *lease);

/* What a record says in words, checked: @what names its place in the error. "" and the
 * unspecified address are none, types become lower case. 0 or -EINVAL. */
int lease_set_public_ip(struct lease *lease, enum ip_family family, const char *what,
			const char *text, struct err *err);
int lease_set_backend_type(struct lease *lease, const char *what, const char *text,
			   struct err *err);

/* RFC 3339 in UTC: `2026-02-20T14:31:23Z`. The parser takes fractions (cut) and
 * offsets. 0 or -EINVAL. */
int lease_parse_time(const char *text, int64_t *ret_unix_s);
const char *lease_format_time(int64_t unix_s, char buf[32]);
