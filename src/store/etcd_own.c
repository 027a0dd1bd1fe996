/* SPDX-License-Identifier: Apache-2.0 */
/* etcd_own.c - etcd store: this host's record
 *
 * Theory of operation. There is what we want to publish (the claim) and what etcd has
 * under our key (as list, watch or an answer told). etcd_own_step() looks at both and
 * makes the one call that brings them closer; its answer, or the event that it causes,
 * leads to the next step. The lease is told to the owner when etcd has told us our
 * record: through the watch, in order, so that everything before it is known, too.
 *
 *	no key		-> the record with our public IP, or a free subnet
 *	absent		-> an etcd lease (grant), then create
 *	pending		-> the watch tells
 *	present		-> not ours: choose another. Different: update, with the revision
 *			   that we saw. Else it is settled: renew in time
 *
 * Nothing is written unconditionally: a key is created when it is absent, and changed or
 * deleted when it is as we saw it. A lost race is no failure, but news. A record without
 * an etcd lease is a reservation and stays one.
 */
#include "store/etcd_internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

#define RETRY_FIRST_MS   1000
#define RETRY_MAX_MS     60000
#define ACQUIRE_TRIES    64    /* lost races in a row before a pause */
#define REWRITE_QUIET_MS 60000 /* after this a change by others is undone at once again */
#define REWRITE_FIRST_MS 1000

static void step(void *userdata)
{
	etcd_own_step(userdata);
}

void etcd_own_init(struct etcd *e)
{
	e->own.timer = loop_timer_new(e->store.loop, step, e);
	e->own.retry_ms = RETRY_FIRST_MS;
}

static void forget_record(struct etcd_own *own)
{
	lease_done(&own->record);
	free(TAKE_PTR(own->value));
	own->readable = false;
	own->newborn = false;
	own->record_lease = 0;
}

void etcd_own_done(struct etcd *e)
{
	loop_event_free(e->own.timer);
	forget_record(&e->own);
	claim_done(&e->own.claim);
}

bool etcd_own_is_key(const struct etcd *e, const char *name)
{
	return *e->own.key && !strcmp(e->own.key, name);
}

bool etcd_own_find(const struct etcd *e, const struct lease *attrs, struct lease *ret_own)
{
	const struct ip_net none[IP_FAMILY_COUNT] = {0};
	const struct lease *found;
	const char *key;

	/* Also while it is being looked at again, or is missing: the MAC is in it. */
	if (*e->own.key && e->own.readable) {
		*ret_own = lease_copy(&e->own.record);
		return true;
	}
	found = claim_find(e->store.peers, attrs, NULL, none, &key);
	if (found)
		*ret_own = lease_copy(found);
	return found != NULL;
}

void etcd_own_want(struct etcd *e, const struct store_request *request)
{
	claim_set(&e->own.claim, request);
	e->own.wanted = true;
	e->own.asked++;
	etcd_own_step(e);
}

/* The owner knows that our key is ours. */
static bool is_told(const struct etcd_own *own)
{
	return own->told && !memcmp(own->told_subnet, own->subnet, sizeof(own->subnet));
}

/* ---- what etcd says of our key ---- */

static void see(struct etcd *e, const struct etcd_kv *kv)
{
	struct etcd_own *own = &e->own;
	bool newborn = own->newborn && own->revision == kv->revision;

	forget_record(own);
	own->newborn = newborn;
	own->seen = OWN_PRESENT;
	own->revision = kv->revision;
	own->created = kv->created;
	own->record_lease = kv->lease;
	own->value = mem_strdup(kv->value);
	own->readable = !lease_parse(own->key, kv->value, kv->len, &own->record, NULL);
	own->record.expires_s = kv->lease ? LEASE_EXPIRES_SOMEDAY : 0;
}

void etcd_own_listed(struct etcd *e, const struct etcd_kv *kv)
{
	see(e, kv);
}

static void say_deleted(struct etcd_own *own)
{
	if (!is_told(own) || own->seen == OWN_ABSENT)
		return;
	log_warning("Our lease %s was deleted; acquiring it again", own->key);
	own->deleted = true;
}

void etcd_own_missing(struct etcd *e, int64_t revision)
{
	say_deleted(&e->own);
	e->own.seen = OWN_ABSENT;
	e->own.revision = revision;
}

void etcd_own_put(struct etcd *e, const struct etcd_kv *kv)
{
	if (kv->revision < e->own.revision)
		return; /* older than what an answer said */
	see(e, kv);
	e->own.newborn = kv->created == kv->revision;
	etcd_own_step(e);
}

void etcd_own_gone(struct etcd *e, int64_t revision)
{
	struct etcd_own *own = &e->own;

	if (revision < own->revision || own->seen == OWN_ABSENT)
		return;
	say_deleted(own);
	own->reserved = false; /* somebody has put an end to it; a list proves no such thing */
	own->seen = OWN_ABSENT;
	own->revision = revision;
	etcd_own_step(e);
}

void etcd_own_dropped(struct etcd *e)
{
	e->own.calling = false;
	if (e->own.verifying && e->own.seen == OWN_UNKNOWN)
		e->own.seen = OWN_PRESENT;
	e->own.verifying = false;
}

void etcd_own_verify(struct etcd *e)
{
	struct etcd_own *own = &e->own;

	if (!*own->key || own->seen != OWN_PRESENT)
		return;
	own->verifying = true;
	own->seen = OWN_UNKNOWN;
}

/* ---- answers ---- */

static void set_own_problem(struct etcd *e, const char *problem)
{
	(void)snprintf(e->own_problem, sizeof(e->own_problem), "%s", problem);
	etcd_tell_problem(e);
}

void etcd_own_retry_later(struct etcd *e, const char *problem)
{
	struct etcd_own *own = &e->own;

	set_own_problem(e, problem);
	loop_timer_set(own->timer, loop_jitter_ms(own->retry_ms));
	own->retry_ms = own->retry_ms * 2 < RETRY_MAX_MS ? own->retry_ms * 2 : RETRY_MAX_MS;
}

/* True: the answer is one that the caller deals with. */
bool etcd_own_answered(struct etcd *e, const struct etcd_reply *reply)
{
	e->own.calling = false;
	switch (reply->status) {
	case ETCD_OK:
	case ETCD_CONFLICT:
	case ETCD_NO_LEASE:
		return true;
	case ETCD_AWAY:
	case ETCD_COMPACTED:
		etcd_lost(e, reply);
		return false;
	case ETCD_REFUSED:
	case ETCD_STATUS_COUNT:
		break;
	}
	etcd_own_retry_later(e, reply->why);
	return false;
}

/* Our key is as @reply says. */
void etcd_own_see_answer(struct etcd *e, const struct etcd_reply *reply)
{
	if (reply->kv)
		see(e, reply->kv);
	else
		etcd_own_missing(e, reply->revision);
}

/* All is as it should be. */
void etcd_own_settle(struct etcd *e)
{
	struct etcd_own *own = &e->own;

	own->retry_ms = RETRY_FIRST_MS;
	/* While two hosts write one record it is good in between. */
	if (!own->rewritten_ms || own->rewrite_wait_ms <= 2 * REWRITE_FIRST_MS ||
	    loop_now_ms() - own->rewritten_ms > REWRITE_QUIET_MS + own->rewrite_wait_ms)
		set_own_problem(e, "");
}

static void on_get(const struct etcd_reply *reply, void *userdata)
{
	struct etcd *e = userdata;

	if (!etcd_own_answered(e, reply))
		return;
	if (e->own.verifying && e->own.seen == OWN_UNKNOWN &&
	    (!reply->kv || reply->kv->created != e->own.created)) {
		e->own.verifying = false;
		etcd_list_suspect(e);
		return;
	}
	e->own.verifying = false;
	if (e->own.seen == OWN_UNKNOWN) /* else the watch has told something newer */
		etcd_own_see_answer(e, reply);
	etcd_own_step(e);
}

static void forget_key(struct etcd_own *own)
{
	own->reserved = false;
	*own->key = '\0';
	own->seen = OWN_ABSENT;
	own->revision = 0;
	forget_record(own);
}

static void on_written(const struct etcd_reply *reply, void *userdata)
{
	struct etcd *e = userdata;
	struct etcd_own *own = &e->own;

	if (!etcd_own_answered(e, reply))
		return;
	if (reply->status == ETCD_NO_LEASE && own->fresh) {
		etcd_lease_lose(own);
		etcd_own_retry_later(e, "etcd does not know the lease that it has granted: are the "
					"endpoints of one cluster?");
		return;
	}
	if (reply->status == ETCD_NO_LEASE) {
		etcd_lease_lose(own);
	} else if (reply->status == ETCD_CONFLICT) {
		etcd_own_see_answer(e, reply);
	} else {
		own->written = own->sent;
		own->fresh = false;
		/* The event may have come before the answer. */
		if (own->revision < reply->revision) {
			own->revision = reply->revision;
			own->seen = OWN_PENDING;
		}
	}
	etcd_own_step(e);
}

/* The key is another's: whether the next one can be tried at once. */
static bool try_another(struct etcd *e)
{
	struct etcd_own *own = &e->own;

	forget_key(own);
	if (++own->tries % ACQUIRE_TRIES)
		return true;
	etcd_own_retry_later(e, "each subnet that was tried is taken by another record");
	return false;
}

static void on_removed(const struct etcd_reply *reply, void *userdata)
{
	struct etcd *e = userdata;

	if (!etcd_own_answered(e, reply))
		return;
	if (reply->status == ETCD_CONFLICT && reply->kv) {
		see(e, reply->kv);
		e->own.newborn = true; /* still to go */
		etcd_own_step(e);
		return;
	}
	if (try_another(e))
		etcd_own_step(e);
}

/* ---- steps ---- */

/* Ours, also when our address has changed since we wrote it. */
static bool is_ours(const struct etcd_own *own)
{
	if (lease_same_public_ip(&own->claim.attrs, &own->record))
		return true;
	for (size_t i = 0; i < OWN_IPS; i++) {
		struct lease lease = {0};

		memcpy(lease.public_ip, own->published[i], sizeof(lease.public_ip));
		if (lease_same_public_ip(&lease, &own->record))
			return true;
	}
	return false;
}

/* Our record has these IPs, or may have. */
static void note_published(struct etcd_own *own)
{
	unsigned last = (own->n_published + OWN_IPS - 1) % OWN_IPS;

	if (!memcmp(own->published[last], own->claim.attrs.public_ip, sizeof(own->published[0])))
		return;
	memcpy(own->published[own->n_published++ % OWN_IPS], own->claim.attrs.public_ip,
	       sizeof(own->published[0]));
}

/* False: none is free; tried again later. */
static bool choose_key(struct etcd *e)
{
	struct etcd_own *own = &e->own;
	const struct ip_net *wish = own->told ? own->told_subnet : own->claim.preferred;
	const struct lease *found;
	const char *key;
	struct err err;

	found = claim_find(e->store.peers, &own->claim.attrs, &own->claim.conf, wish, &key);
	if (found) {
		memcpy(own->subnet, found->subnet, sizeof(own->subnet));
		(void)snprintf(own->key, sizeof(own->key), "%s", key);
		own->seen = OWN_UNKNOWN;
		log_info("Found lease (%s) for current IP, reusing", own->key);
		peers_remove(e->store.peers, own->key);
		return true;
	}
	if (claim_choose(&own->claim, e->store.peers, own->tries ? NULL : wish, own->subnet,
			 &err)) {
		etcd_own_retry_later(e, err.text);
		return false;
	}
	lease_format_key(own->subnet, own->key);
	own->seen = OWN_ABSENT;
	return true;
}

/* Somebody took the etcd lease away; junk is not meant so. */
static bool is_reserved(const struct etcd_own *own)
{
	return !own->record_lease && own->readable;
}

const char *etcd_own_path(const struct etcd_own *own, char buf[OWN_PATH_MAX])
{
	(void)snprintf(buf, OWN_PATH_MAX, ETCD_SUBNETS_DIR "%s", own->key);
	return buf;
}

static void call_write(struct etcd *e, bool create)
{
	struct etcd_own *own = &e->own;
	struct lease lease = claim_lease(&own->claim, own->subnet, 0);
	_cleanup_free_ char *value = lease_format(&lease);
	char key[OWN_PATH_MAX];

	lease_done(&lease);
	etcd_own_path(own, key);
	own->calling = true;
	own->sent = own->asked;
	note_published(own);
	if (create)
		e->api->ops->create(e->api, key, value, own->reserved ? 0 : own->lease, on_written,
				    e);
	else
		e->api->ops->update(e->api, key, value, is_reserved(own) ? 0 : own->lease,
				    own->revision, on_written, e);
}

static void call_on_key(struct etcd *e, bool remove)
{
	char key[OWN_PATH_MAX];

	etcd_own_path(&e->own, key);
	e->own.calling = true;
	if (remove)
		e->api->ops->remove(e->api, key, e->own.revision, on_removed, e);
	else
		e->api->ops->get(e->api, key, on_get, e);
}

/* Somebody else's record is under our key: it is that host's now. As try_another(). */
static bool give_up_key(struct etcd *e)
{
	struct etcd_own *own = &e->own;
	struct lease theirs = own->record;
	char key[LEASE_KEY_MAX], ip[IP_STRLEN];

	(void)snprintf(key, sizeof(key), "%s", own->key);
	if (is_told(own))
		log_warning(
			"Our lease %s was taken by host %s; acquiring another one", key,
			ip_format(&theirs.public_ip[ip_is_set(&theirs.public_ip[IP_V4]) ? IP_V4
											: IP_V6],
				  ip));
	else
		log_debug(1, "Lost a race for %s; trying another one", key);
	own->record = (struct lease){0};
	etcd_peers_put(e, key, &theirs);
	return try_another(e);
}

struct rival {
	const struct etcd_own *own;
	const struct lease *found;
};

static void find_rival(const char *key, const struct lease *lease, void *userdata)
{
	struct rival *r = userdata;

	(void)key;
	IP_FOREACH_FAMILY (f)
		if (ip_net_is_set(&lease->subnet[f]) && ip_net_is_set(&r->own->subnet[f]) &&
		    ip_net_overlaps(&lease->subnet[f], &r->own->subnet[f]) &&
		    !lease_same_public_ip(lease, &r->own->claim.attrs))
			r->found = lease;
}

static bool has_rival(const struct etcd *e)
{
	struct rival rival = {.own = &e->own};

	peers_each(e->store.peers, find_rival, &rival);
	return rival.found;
}

/* A record that overlaps our new one and was there before it: ours goes. */
static bool step_back(struct etcd *e)
{
	struct etcd_own *own = &e->own;

	if (!own->newborn || !has_rival(e))
		return false;
	log_info("Subnet %s overlaps one that was leased a moment earlier; taking another one",
		 own->key);
	call_on_key(e, true);
	return true;
}

/* Undoing what others do to our record is not a race: the wait grows. */
static bool may_rewrite(struct etcd *e)
{
	struct etcd_own *own = &e->own;
	int64_t now = loop_now_ms(), due;
	char problem[ERR_TEXT_MAX];

	if (own->written != own->asked || !is_told(own))
		return true;
	if (!own->rewritten_ms || now - own->rewritten_ms > REWRITE_QUIET_MS + own->rewrite_wait_ms)
		own->rewrite_wait_ms = 0;
	due = own->rewritten_ms + own->rewrite_wait_ms;
	if (own->rewrite_wait_ms && now < due) {
		loop_timer_set(own->timer, due - now);
		return false;
	}
	log_warning("Our record %s was changed by somebody else; writing it anew%s%s", own->key,
		    is_reserved(own) ? " (it has no etcd lease: a reservation from now on)" : "",
		    own->rewrite_wait_ms > 2 * REWRITE_FIRST_MS
			    ? " (again: does another host have the same public IP?)"
			    : "");
	own->rewritten_ms = now;
	own->rewrite_wait_ms = own->rewrite_wait_ms ? 2 * own->rewrite_wait_ms : REWRITE_FIRST_MS;
	if (own->rewrite_wait_ms > RETRY_MAX_MS)
		own->rewrite_wait_ms = RETRY_MAX_MS;
	if (own->rewrite_wait_ms > 2 * REWRITE_FIRST_MS) {
		(void)snprintf(problem, sizeof(problem),
			       "our record %s is changed by somebody else again and again: does "
			       "another host have our public IP?",
			       own->key);
		set_own_problem(e, problem);
	}
	return true;
}

static void tell(struct etcd *e)
{
	struct etcd_own *own = &e->own;

	own->tries = 0;
	own->newborn = false;
	own->reserved = !own->record_lease;
	own->written = own->asked;
	own->n_published = 0; /* what it said before does not make it ours any more */
	memset(own->published, 0, sizeof(own->published));
	note_published(own);
	if (own->deleted && is_told(own))
		log_info("Lease %s is ours again", own->key);
	own->deleted = false;
	if (!is_told(own)) {
		own->told = true;
		memcpy(own->told_subnet, own->subnet, sizeof(own->subnet));
		e->store.events.own(&own->record, e->store.events.userdata);
	}
	etcd_tell_synced(e);
}

/* Whether the record says what we want it to say. */
bool etcd_own_is_as_wanted(const struct etcd_own *own)
{
	struct lease want = claim_lease(&own->claim, own->subnet, 0);
	bool same = own->readable && lease_same_content(&want, &own->record);

	lease_done(&want);
	return same;
}

static bool step_present(struct etcd *e)
{
	struct etcd_own *own = &e->own;
	bool same;

	if (own->readable && !is_ours(own))
		return give_up_key(e);
	if (!is_told(own) && !own->readable) /* not for us to overwrite */
		return try_another(e);
	if (step_back(e))
		return false;
	/* That of an earlier run, for instance: it is ours to keep alive. */
	if (own->record_lease && own->record_lease != own->lease &&
	    own->record_lease != own->lost_lease) {
		own->lease = own->record_lease;
		own->expires_ms = 0;
	}
	same = etcd_own_is_as_wanted(own);
	if (!is_reserved(own) && !own->lease) {
		etcd_lease_grant(e);
	} else if (!same || (own->record_lease && own->record_lease != own->lease)) {
		if (same || may_rewrite(e))
			call_write(e, false);
	} else {
		tell(e);
		/* The owner may have asked for something else meanwhile. */
		if (!own->calling && own->seen == OWN_PRESENT && etcd_own_is_as_wanted(own))
			etcd_lease_keep(e);
	}
	return false;
}

/* True: there is more to do. */
static bool step_once(struct etcd *e)
{
	struct etcd_own *own = &e->own;

	if (!own->wanted || own->calling || !e->usable)
		return false;
	if (!*own->key && !choose_key(e))
		return false;
	switch (own->seen) {
	case OWN_UNKNOWN:
		if (!e->getting)
			call_on_key(e, false);
		break;
	case OWN_ABSENT:
		/* Another host has it, or a part of it, under another key. */
		if (is_told(own) && has_rival(e))
			return try_another(e);
		if (own->lease || own->reserved)
			call_write(e, true);
		else
			etcd_lease_grant(e);
		break;
	case OWN_PENDING:
		break;
	case OWN_PRESENT:
		return step_present(e);
	}
	return false;
}

void etcd_own_step(struct etcd *e)
{
	while (step_once(e))
		;
}
