/* SPDX-License-Identifier: Apache-2.0 */
/* etcd_lease.c - etcd store: the etcd lease that keeps our record alive
 *
 * It is granted for a day, or taken over from an earlier run, and renewed the margin
 * before its end. One that etcd does not know any more is replaced; so is one that
 * somebody made for another time than a day. v2 has no leases: there it stands for the
 * key's own TTL.
 */
#include "store/etcd_internal.h"

#include "base/log.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static void on_grant(const struct etcd_reply *reply, void *userdata)
{
	struct etcd *e = userdata;

	if (!etcd_own_answered(e, reply))
		return;
	if (reply->status != ETCD_OK) {
		etcd_own_retry_later(e, "etcd grants no lease");
		return;
	}
	e->own.lease = e->own.granted = reply->lease;
	e->own.expires_ms = loop_now_ms() + reply->ttl_s * 1000;
	e->own.fresh = true;
	etcd_own_step(e);
}

void etcd_lease_grant(struct etcd *e)
{
	e->own.calling = true;
	e->api->ops->grant(e->api, ETCD_LEASE_TIME_S, on_grant, e);
}

void etcd_lease_lose(struct etcd_own *own)
{
	own->fresh = false;
	own->lost_lease = own->lease;
	own->lease = 0;
}

static void arm_renewal(struct etcd *e)
{
	const struct etcd_own *own = &e->own;
	int64_t left_ms = own->expires_ms - loop_now_ms();
	int64_t wait_ms = left_ms - own->claim.renew_margin_s * 1000;

	/* An etcd lease that is shorter than the margin was made by somebody else. */
	if (wait_ms <= 0 && left_ms > 0)
		wait_ms = left_ms / 3;
	loop_timer_set(own->timer, wait_ms > 0 ? wait_ms : 0);
}

static void on_renewed(const struct etcd_reply *reply, void *userdata)
{
	struct etcd *e = userdata;
	struct etcd_own *own = &e->own;
	char until[32];

	if (!etcd_own_answered(e, reply))
		return;
	if (reply->status == ETCD_CONFLICT) {
		own->expires_ms = 0; /* not renewed: again, if the key is still ours */
		etcd_own_see_answer(e, reply);
		etcd_own_step(e);
		return;
	}
	if (reply->status != ETCD_OK) {
		log_warning("The etcd lease of %s has gone; taking a new one", own->key);
		etcd_lease_lose(own);
		etcd_own_step(e);
		return;
	}
	if (reply->kv)
		own->revision = reply->kv->revision;
	if (reply->ttl_s != ETCD_LEASE_TIME_S && own->lease != own->granted) {
		log_info("The etcd lease of %s lasts for %lld s; taking one of a day", own->key,
			 (long long)reply->ttl_s);
		etcd_lease_lose(own);
		etcd_own_step(e);
		return;
	}
	own->expires_ms = loop_now_ms() + reply->ttl_s * 1000;
	log_info("Lease renewed, new expiration: %s",
		 lease_format_time(time(NULL) + reply->ttl_s, until));
	etcd_own_settle(e);
	arm_renewal(e);
	/* What has come meanwhile. */
	if (own->seen != OWN_PRESENT || !etcd_own_is_as_wanted(own))
		etcd_own_step(e);
}

static void call_renew(struct etcd *e)
{
	struct etcd_own *own = &e->own;
	char key[OWN_PATH_MAX];
	struct etcd_kv kv = {.key = etcd_own_path(own, key),
			     .value = own->value,
			     .len = strlen(own->value),
			     .revision = own->revision,
			     .lease = own->lease};

	own->calling = true;
	e->api->ops->renew(e->api, &kv, on_renewed, e);
}

/* The record is as it should be. */
void etcd_lease_keep(struct etcd *e)
{
	struct etcd_own *own = &e->own;

	if (own->record_lease &&
	    (!own->expires_ms ||
	     own->expires_ms - own->claim.renew_margin_s * 1000 <= loop_now_ms())) {
		call_renew(e);
		return;
	}
	etcd_own_settle(e);
	if (own->record_lease)
		arm_renewal(e);
	else
		loop_timer_stop(own->timer); /* a reservation */
}
