/* SPDX-License-Identifier: Apache-2.0 */
/* etcd_config.c - etcd store: the network config, and which of etcd's stores has it
 *
 * With --etcd-api=auto, v2 is asked for a config as long as v3 has none; the one that has
 * it is used from then on. When both have one, v3's counts, and that is said.
 */
#include "store/etcd_internal.h"

#include "base/log.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

#define ASK_V2_MS 10000

static void set_config_problem(struct etcd *e, const char *problem)
{
	(void)snprintf(e->config_problem, sizeof(e->config_problem), "%s", problem);
	etcd_tell_problem(e);
}

char *etcd_config_copy(const struct etcd_kv *kv)
{
	return memcpy(mem_alloc(kv->len + 1, 1), kv->value, kv->len);
}

void etcd_config_take(struct etcd *e, const struct etcd_kv *kv)
{
	char place[ETCD_PREFIX_MAX + 32];

	e->config_revision = kv->revision;
	set_config_problem(e, "");
	loop_timer_stop(e->v2_timer);
	if (e->config && e->config_len == kv->len && !memcmp(e->config, kv->value, kv->len))
		return;
	free(e->config);
	e->config = etcd_config_copy(kv);
	e->config_len = kv->len;
	if (!e->chosen) {
		e->chosen = true;
		log_info("The network config is in etcd's %s store: using that (--etcd-api=%s)",
			 e->api->ops->name, e->api->ops->name);
		if (e->api->ops->has_count) /* v3: does v2 have one as well? */
			loop_timer_set(e->v2_timer, ASK_V2_MS);
	}
	(void)snprintf(place, sizeof(place), "etcd key %s/" ETCD_CONFIG_KEY, e->link.prefix);
	e->store.events.config(e->config, e->config_len, place, e->store.events.userdata);
}

void etcd_config_lack(struct etcd *e)
{
	char problem[ERR_TEXT_MAX];

	if (!e->chosen && !e->v2_answered) {
		loop_timer_set_sooner(e->v2_timer, 0);
		return;
	}
	(void)snprintf(problem, sizeof(problem),
		       "%s: etcd key %.200s/" ETCD_CONFIG_KEY " does not exist%s",
		       e->config ? "keeping the last good network config"
				 : "waiting for the network config",
		       e->link.prefix, e->chosen ? "" : ", neither in v3 nor in v2");
	set_config_problem(e, problem);
}

static void on_v2_config(const struct etcd_reply *reply, void *userdata)
{
	struct etcd *e = userdata;
	bool has_config = reply->status == ETCD_OK && reply->kv;

	if (has_config && e->chosen) {
		log_warning("etcd's v2 store has a network config as well: hosts that use that one "
			    "are in another network; --etcd-api settles which it is");
	} else if (has_config) {
		e->api->ops->free(e->api);
		e->api = TAKE_PTR(e->v2);
		e->usable = e->live = e->listed = false; /* nothing is known of this one */
		e->list_needed = true;
		loop_timer_set(e->retry_timer, 0);
	} else if (!e->chosen) {
		log_debug(2, "v2 has no config: %s", reply->why ? reply->why : "no such key");
		e->v2_answered = true;
		etcd_config_lack(e);
		loop_timer_set(e->v2_timer, loop_jitter_ms(ASK_V2_MS));
	}
}

void etcd_config_ask_v2(void *userdata)
{
	struct etcd *e = userdata;

	if (!e->usable)
		return; /* the next list, or on_ready(), asks again */
	if (!e->v2)
		e->v2 = etcd_v2_new(e->store.loop, &e->link);
	e->v2->ops->hang_up(e->v2);
	e->v2->ops->get(e->v2, ETCD_CONFIG_KEY, on_v2_config, e);
}
