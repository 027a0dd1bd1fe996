/* SPDX-License-Identifier: Apache-2.0 */
/* cached.c - a remote store with its last good state on disk
 *
 * Theory of operation. The inner store's events pass through here to the owner, the owner's
 * calls to the inner store. As long as the inner store has given no config, the state file
 * may stand in for it: when the inner store reports a problem, or is silent for too long.
 *
 *	          inner: no config         inner: config            inner: synced
 *	config,   of the file, then in use of the inner store       of the inner store
 *	public_ip
 *	find_own  of the file              inner, else of the file  inner
 *	acquire   remembered; own, peers   passed on, also what     passed on
 *	          and synced of the file   was remembered
 *	state     "...; using the stale state of ..." while in use  as it is
 *	changes   -                        -                        saved
 *
 * What the owner knows already is not told again: the same config, the same subnet, a second
 * `synced`. The peers of the file are remembered ones (peers.h): the inner store's lists
 * are judged against them. Whatever happens, a request that the owner has made reaches the
 * inner store once that has a config: also when the owner refuses this config.
 *
 * Saved is what the owner works with: the config under which it has asked for a lease, the
 * subnet, what we publish, the peer table. Peers may be a little behind the times; our own
 * subnet may not, as the next start would take back one that is somebody else's by then.
 */
#include "store/cached.h"

#include "base/log.h"
#include "base/mem.h"
#include "store/claim.h"
#include "store/state.h"

#include <errno.h>
#include <inttypes.h>
#include <time.h>

#define SILENCE_MS      500 /* of the inner store at the start */
#define SETTLE_MS       2000
#define OWN_SETTLE_MS   100 /* of our subnet */
#define SAVE_EVERY_MS   30000
#define SAVE_SHARE      1000 /* saving may take this part of the time */
#define RETRY_FIRST_MS  SAVE_EVERY_MS
#define RETRY_MAX_MS    3600000
#define DESCRIPTION_MAX 1024

struct cached {
	struct store store; /* first */
	struct store *inner;
	char *path;
	char description[DESCRIPTION_MAX]; /* the inner store's */
	struct event *start_timer;         /* look at what the inner store has said */
	struct event *serve_timer;         /* lease and peers out of the state */
	struct event *save_timer;

	bool looked;        /* for the file */
	FILE *stream;       /* NULL: there is none that is good, or no need of it */
	struct state state; /* of `stream` */
	bool in_use;        /* the config was told from it */

	bool inner_has_config, inner_asked, inner_synced;
	char inner_problem[ERR_TEXT_MAX]; /* "": none */

	bool asked; /* for a lease */
	struct claim claim;
	char *config, *place; /* last told; NULL: none */
	bool has_own;
	struct ip_net own[IP_FAMILY_COUNT];   /* last told */
	struct ip public_ip[IP_FAMILY_COUNT]; /* last told */
	struct ip inner_public_ip[IP_FAMILY_COUNT];
	bool synced;
	char problem[ERR_TEXT_MAX]; /* last told; "": none */

	char *good_config, *good_place;           /* under which the owner asked */
	struct ip_net saved_own[IP_FAMILY_COUNT]; /* unset: we have not saved yet */
	bool dirty;
	int64_t save_after_ms; /* not sooner */
	int64_t retry_ms;
	bool save_failed;
};

static struct cached *to_cached(struct store *store)
{
	return (struct cached *)store; /* first member */
}

static int64_t wall_now_s(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec;
}

/* ---- the state file ---- */

static void forget_state(struct cached *c)
{
	c->looked = true;
	if (!c->stream)
		return;
	(void)fclose(TAKE_PTR(c->stream));
	state_done(&c->state);
}

static int parse_config(const struct cached *c, const char *text, const char *place,
			struct netconf *ret_conf, struct err *err)
{
	int code = netconf_parse(text, strlen(text), place, ret_conf, err);

	if (!code) {
		code = netconf_check_ranges(ret_conf, err);
		if (c->store.gives_subnets)
			code = 0;
		if (code)
			netconf_done(ret_conf);
	}
	return code;
}

/* Whether what was read may stand in for the inner store. */
static bool is_usable(const struct cached *c)
{
	struct netconf conf;
	struct err err;

	if (strcmp(c->state.store, c->description) != 0) {
		log_info("The state in %s is of another datastore (%.200s); not using it", c->path,
			 c->state.store);
		return false;
	}
	if (parse_config(c, c->state.config, c->state.place, &conf, &err)) {
		log_warning("The network config in %s cannot be used: %s; waiting for the "
			    "datastore",
			    c->path, err.text);
		return false;
	}
	netconf_done(&conf);
	return true;
}

/* Looks for the file, once. */
static bool have_state(struct cached *c)
{
	struct err err;
	int code;

	if (c->looked)
		return c->stream != NULL;
	c->looked = true;
	code = state_open(c->path, &c->stream, &c->state, &err);
	if (code && code != -ENOENT)
		log_warning("Ignoring the state file %s: %s; it will be written anew", c->path,
			    err.text);
	if (!code && !is_usable(c))
		forget_state(c);
	return c->stream != NULL;
}

static bool state_has_own(const struct cached *c)
{
	return ip_net_is_set(&c->state.own.subnet[IP_V4]) ||
	       ip_net_is_set(&c->state.own.subnet[IP_V6]);
}

/* ---- saving ---- */

static void mark_dirty(struct cached *c)
{
	int64_t now = loop_now_ms(), due = now + SETTLE_MS;

	if (!c->inner_synced || c->dirty)
		return;
	c->dirty = true;
	loop_timer_set(c->save_timer, (due > c->save_after_ms ? due : c->save_after_ms) - now);
}

static void own_changed(struct cached *c)
{
	if (!c->inner_synced || !memcmp(c->saved_own, c->own, sizeof(c->own))) {
		mark_dirty(c);
		return;
	}
	c->dirty = true;
	loop_timer_set(c->save_timer, OWN_SETTLE_MS);
}

static int write_state(struct cached *c, struct err *err)
{
	struct state state = {
		.store = c->description,
		.saved_s = wall_now_s(),
		.place = c->good_place,
		.config = c->good_config,
		.own = claim_lease(&c->claim, c->own, 0),
	};
	int code;

	memcpy(state.public_ip, c->inner_public_ip, sizeof(state.public_ip));
	code = state_save(c->path, &state, c->store.peers, err);

	lease_done(&state.own);
	return code;
}

static void save_failed(struct cached *c, const struct err *err)
{
	if (!c->save_failed)
		log_warning("Saving the state for the next start failed: %s; trying again, first "
			    "in %" PRId64 " s",
			    err->text, c->retry_ms / 1000);
	c->save_failed = true;
	c->save_after_ms = loop_now_ms() + c->retry_ms;
	c->retry_ms = c->retry_ms < RETRY_MAX_MS / 2 ? 2 * c->retry_ms : RETRY_MAX_MS;
	mark_dirty(c);
}

static void save(void *userdata)
{
	struct cached *c = userdata;
	int64_t begin = loop_now_ms(), least, pause;
	struct err err;

	c->dirty = false;
	if (!c->good_config || !c->has_own)
		return; /* what makes it complete comes with a change */
	if (write_state(c, &err)) {
		save_failed(c, &err);
		return;
	}
	if (c->save_failed)
		log_info("The state for the next start is saved in %s again", c->path);
	c->save_failed = false;
	/* That of our subnet came before its turn, and perhaps before most peers. */
	least = memcmp(c->saved_own, c->own, sizeof(c->own)) ? SETTLE_MS : SAVE_EVERY_MS;
	memcpy(c->saved_own, c->own, sizeof(c->own));
	c->retry_ms = RETRY_FIRST_MS;
	pause = (loop_now_ms() - begin) * SAVE_SHARE;
	c->save_after_ms = loop_now_ms() + (pause > least ? pause : least);
}

static void on_peer(const char *key, const struct lease *before, const struct lease *after,
		    void *userdata)
{
	(void)key;
	(void)before;
	(void)after;
	mark_dirty(userdata);
}

/* ---- what the owner is told ---- */

static void tell_config(struct cached *c, const char *text, size_t len, const char *place)
{
	free(c->config);
	free(c->place);
	c->config = mem_strdup(text);
	c->place = mem_strdup(place);
	c->store.events.config(text, len, place, c->store.events.userdata);
}

static void tell_public_ip(struct cached *c, const struct ip public_ip[IP_FAMILY_COUNT])
{
	if (!memcmp(c->public_ip, public_ip, sizeof(c->public_ip)))
		return;
	memcpy(c->public_ip, public_ip, sizeof(c->public_ip));
	if (c->store.events.public_ip)
		c->store.events.public_ip(public_ip, c->store.events.userdata);
}

static void tell_own(struct cached *c, const struct lease *own)
{
	if (c->has_own && !memcmp(c->own, own->subnet, sizeof(c->own)))
		return;
	c->has_own = true;
	memcpy(c->own, own->subnet, sizeof(c->own));
	c->store.events.own(own, c->store.events.userdata);
}

static void tell_synced(struct cached *c)
{
	if (c->synced)
		return;
	c->synced = true;
	c->store.events.synced(c->store.events.userdata);
}

/* The inner store's problem, and that what we work with is old. */
static void tell_problem(struct cached *c)
{
	const char *why = *c->inner_problem ? c->inner_problem : "no answer from the datastore";
	char text[ERR_TEXT_MAX], time[32];

	/* It answers again: good when it is in sync, in a moment. */
	if (c->in_use && !c->inner_synced && !*c->inner_problem && *c->problem)
		return;
	if (c->in_use && !c->inner_synced)
		(void)snprintf(text, sizeof(text), "%.*s; using the stale state of %s",
			       ERR_TEXT_MAX - 60, why, lease_format_time(c->state.saved_s, time));
	else
		(void)snprintf(text, sizeof(text), "%s", c->inner_problem);
	if (!strcmp(text, c->problem))
		return;
	memcpy(c->problem, text, sizeof(text));
	c->store.events.state(*text ? text : NULL, c->store.events.userdata);
}

/* ---- standing in ---- */

static const char *format_age(int64_t age_s, char *buf, size_t size)
{
	if (age_s < 0)
		(void)snprintf(buf, size, "of the future, by our clock");
	else if (age_s < 120)
		(void)snprintf(buf, size, "%" PRId64 " s old", age_s);
	else if (age_s < 2 * 3600)
		(void)snprintf(buf, size, "%" PRId64 " min old", age_s / 60);
	else if (age_s < 2 * 86400)
		(void)snprintf(buf, size, "%" PRId64 " h old", age_s / 3600);
	else
		(void)snprintf(buf, size, "%" PRId64 " days old", age_s / 86400);
	return buf;
}

static void use_state(struct cached *c)
{
	const struct state *state = &c->state;
	char time[32], age[40];

	c->in_use = true;
	log_warning("No network config from the datastore yet (%.200s): using the state of %s, %s, "
		    "with %zu peer%s",
		    *c->inner_problem ? c->inner_problem : "no answer",
		    lease_format_time(state->saved_s, time),
		    format_age(wall_now_s() - state->saved_s, age, sizeof(age)), state->n_peers,
		    state->n_peers == 1 ? "" : "s");
	tell_public_ip(c, state->public_ip);
	tell_config(c, state->config, strlen(state->config), state->place);
}

/* The inner store was silent, or has a problem, which was not told yet. */
static void on_start_timer(void *userdata)
{
	struct cached *c = userdata;

	if (!c->inner_has_config && !c->in_use && have_state(c))
		use_state(c);
	tell_problem(c);
}

static void recall_peer(const char *key, struct lease *lease, void *userdata)
{
	const struct cached *c = userdata;

	if (memcmp(lease->subnet, c->own, sizeof(c->own)) != 0)
		peers_recall(c->store.peers, key, lease);
}

/* The owner has asked, and the inner store cannot: lease and peers of the state. */
static void serve(void *userdata)
{
	struct cached *c = userdata;
	char key[LEASE_KEY_MAX];
	struct lease own;
	size_t unreadable;

	if (c->inner_asked || c->has_own || !c->stream)
		return;
	lease_format_key(c->state.own.subnet, key);
	if (c->store.gives_subnets ? !claim_holds(&c->claim.conf, c->state.own.subnet)
				   : !claim_fits(&c->claim.conf, c->state.own.subnet)) {
		log_warning("The state has no subnet that fits the network config%s%s; waiting for "
			    "the datastore",
			    *key ? ", but " : "", key);
		return;
	}
	/* Pods have addresses of it: it stays ours until the datastore says otherwise. */
	if (!lease_same_public_ip(&c->claim.attrs, &c->state.own))
		log_info("Our address is another one than in the state; keeping subnet %s", key);
	own = claim_lease(&c->claim, c->state.own.subnet, 0);
	tell_own(c, &own);
	lease_done(&own);
	unreadable = state_read_peers(c->stream, recall_peer, c);
	if (unreadable)
		log_warning("%zu of the %zu peers in %s cannot be read", unreadable,
			    c->state.n_peers, c->path);
	tell_synced(c);
}

/* ---- the inner store's events ---- */

static void ask_inner(struct cached *c)
{
	struct store_request request = claim_request(&c->claim);

	c->inner_asked = true;
	c->inner->ops->acquire(c->inner, &request);
}

static void on_inner_config(const char *text, size_t len, const char *place, void *userdata)
{
	struct cached *c = userdata;

	c->inner_has_config = true;
	tell_public_ip(c, c->inner_public_ip); /* that of the file may be none any more */
	if (!c->config || strcmp(c->config, text) != 0)
		tell_config(c, text, len, place);
	/* The owner knows it already, or goes on with what was in force before. */
	if (c->asked && !c->inner_asked)
		ask_inner(c);
}

static void on_inner_own(const struct lease *own, void *userdata)
{
	struct cached *c = userdata;

	tell_own(c, own);
	own_changed(c);
}

static void on_inner_synced(void *userdata)
{
	struct cached *c = userdata;

	c->inner_synced = true;
	forget_state(c);
	tell_synced(c);
	tell_problem(c);
	own_changed(c);
}

static void on_inner_public_ip(const struct ip public_ip[IP_FAMILY_COUNT], void *userdata)
{
	struct cached *c = userdata;

	memcpy(c->inner_public_ip, public_ip, sizeof(c->inner_public_ip));
	tell_public_ip(c, public_ip);
	mark_dirty(c);
}

static void on_inner_state(const char *problem, void *userdata)
{
	struct cached *c = userdata;

	(void)snprintf(c->inner_problem, sizeof(c->inner_problem), "%s", problem ? problem : "");
	/* First the state file is looked for, from the loop: then it is told with that. */
	if (!c->inner_has_config && !c->looked)
		loop_timer_set(c->start_timer, problem ? 0 : SILENCE_MS);
	else
		tell_problem(c);
}

/* ---- the owner's calls ---- */

static void cached_describe(const struct store *store, char *buf, size_t size)
{
	const struct cached *c = (const struct cached *)(const void *)store;

	c->inner->ops->describe(c->inner, buf, size);
}

static void cached_start(struct store *store)
{
	struct cached *c = to_cached(store);

	loop_timer_set(c->start_timer, SILENCE_MS);
	c->inner->ops->start(c->inner);
}

static bool cached_find_own(struct store *store, const struct lease *attrs, struct lease *ret_own)
{
	struct cached *c = to_cached(store);

	if (c->inner_has_config && c->inner->ops->find_own(c->inner, attrs, ret_own))
		return true;
	/* By public IP, as in a store: a clone of this host's disk must not take its MAC. */
	if (c->inner_synced || !have_state(c) || !state_has_own(c) ||
	    !lease_same_public_ip(attrs, &c->state.own))
		return false;
	*ret_own = lease_copy(&c->state.own);
	return true;
}

static bool same_ranges(const struct netconf *a, const struct netconf *b)
{
	IP_FOREACH_FAMILY (f) {
		const struct netconf_range *x = &a->range[f], *y = &b->range[f];

		if (a->enabled[f] != b->enabled[f])
			return false;
		if (a->enabled[f] &&
		    (!ip_net_equal(&x->network, &y->network) || x->subnet_len != y->subnet_len ||
		     !ip_equal(&x->subnet_min, &y->subnet_min) ||
		     !ip_equal(&x->subnet_max, &y->subnet_max)))
			return false;
	}
	return true;
}

/* The config last told is that of the owner's request, unless the owner has refused it. */
static void note_good_config(struct cached *c)
{
	struct netconf conf;
	bool same;

	if (!c->config || parse_config(c, c->config, c->place, &conf, NULL))
		return;
	same = same_ranges(&conf, &c->claim.conf);
	netconf_done(&conf);
	if (!same)
		return;
	free(c->good_config);
	free(c->good_place);
	c->good_config = mem_strdup(c->config);
	c->good_place = mem_strdup(c->place);
}

/* The subnet that we have had: after a reboot the subnet file is gone, and the owner knows
 * of none. */
static void set_preferred(struct cached *c)
{
	struct ip_net *preferred = c->claim.preferred;

	if (c->has_own)
		memcpy(preferred, c->own, sizeof(c->own));
	else if (!claim_fits(&c->claim.conf, preferred) && have_state(c) && state_has_own(c))
		memcpy(preferred, c->state.own.subnet, sizeof(c->state.own.subnet));
}

static void cached_acquire(struct store *store, const struct store_request *request)
{
	struct cached *c = to_cached(store);

	claim_set(&c->claim, request);
	c->asked = true;
	note_good_config(c);
	set_preferred(c);
	if (c->inner_has_config)
		ask_inner(c);
	else
		loop_timer_set(c->serve_timer, 0);
	mark_dirty(c);
}

static void cached_up(struct store *store)
{
	struct cached *c = to_cached(store);

	if (c->inner->ops->up)
		c->inner->ops->up(c->inner);
}

static void cached_free(struct store *store)
{
	struct cached *c = to_cached(store);

	if (c->dirty)
		save(c);
	peers_set_observer(store->peers, NULL, NULL);
	if (c->inner)
		c->inner->ops->free(c->inner);
	loop_event_free(c->start_timer);
	loop_event_free(c->serve_timer);
	loop_event_free(c->save_timer);
	forget_state(c);
	claim_done(&c->claim);
	free(c->path);
	free(c->config);
	free(c->place);
	free(c->good_config);
	free(c->good_place);
	free(c);
}

static const struct store_ops cached_ops = {
	.name = "cached",
	.describe = cached_describe,
	.start = cached_start,
	.find_own = cached_find_own,
	.acquire = cached_acquire,
	.up = cached_up,
	.free = cached_free,
};

struct store *store_cached_new(struct loop *loop, const char *path, struct peers *peers,
			       const struct store_events *events, store_new_fn new_inner, void *arg)
{
	struct cached *c = mem_alloc(1, sizeof(*c));
	const struct store_events inner_events = {on_inner_config,    on_inner_own,
						  on_inner_synced,    on_inner_state,
						  on_inner_public_ip, c};

	c->store =
		(struct store){.ops = &cached_ops, .loop = loop, .events = *events, .peers = peers};
	c->path = mem_strdup(path);
	c->retry_ms = RETRY_FIRST_MS;
	c->start_timer = loop_timer_new(loop, on_start_timer, c);
	c->serve_timer = loop_timer_new(loop, serve, c);
	c->save_timer = loop_timer_new(loop, save, c);
	peers_set_observer(peers, on_peer, c);
	c->inner = new_inner(loop, peers, &inner_events, arg);
	if (!c->inner) {
		cached_free(&c->store);
		return NULL;
	}
	c->store.gives_subnets = c->inner->gives_subnets;
	c->inner->ops->describe(c->inner, c->description, sizeof(c->description));
	log_clean(c->description);
	return &c->store;
}
