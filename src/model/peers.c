/* SPDX-License-Identifier: Apache-2.0 */
/* peers.c - the peer table: the other hosts' leases by record key
 *
 * A peer is one allocation: hash links, lease, and the strings of key and
 * backend data behind them, so that 50,000 peers take about 16 MB. It never
 * moves and never changes but for its times: a new record is a new peer.
 *
 * Lists are numbered. A peer remembers in which list it was first seen and last
 * listed, and the list that ended without it although it had been there before
 * ("doubted"). At the end of a list the peers fall apart:
 *
 *	listed by it                          stay
 *	lacked by it and by the list before   go: two lists say the same
 *	lacked by it alone                    go, unless they are more than half of
 *	                                      the peers that are in question; then
 *	                                      they are doubted and stay; so do all
 *	                                      that a suspect list lacks
 *
 * In question are those that were there when the list began and do not go by
 * the second rule: newcomers are no sign that the others have left. A list that
 * breaks off has no end and counts as none, in both roles.
 */
#include "model/peers.h"

#include "base/mem.h"

#include <stdint.h>
#include <string.h>

/* Memory that runs out aborts, as in base/mem.h. */
#define uthash_fatal(msg) abort()
#include <uthash.h>

struct peer {
	UT_hash_handle hh;
	struct lease lease; /* its backend data points into text[] */
	uint32_t born;      /* the list that was open or the last one when it was first seen */
	uint32_t listed;    /* likewise when it was last put or kept */
	uint32_t doubted;   /* the list that ended without it; 0: it has been seen since */
	char text[];        /* the key, then the backend data of each family that has one */
};

struct peers {
	struct peer *table;
	peers_changed_fn changed;
	peers_usable_fn usable; /* NULL: every record is */
	void *userdata;
	peers_changed_fn observer; /* NULL: none */
	void *observer_userdata;
	uint32_t list;       /* the last list that began; 0: none yet */
	uint32_t ended_list; /* the last one that came to its end */
	bool suspect;        /* the open list is not to be trusted */
};

struct peers *peers_new(peers_changed_fn changed, void *userdata)
{
	struct peers *peers = mem_alloc(1, sizeof(*peers));

	peers->changed = changed;
	peers->userdata = userdata;
	return peers;
}

void peers_set_usable(struct peers *peers, peers_usable_fn usable)
{
	peers->usable = usable;
}

void peers_set_observer(struct peers *peers, peers_changed_fn observer, void *userdata)
{
	peers->observer = observer;
	peers->observer_userdata = userdata;
}

static void tell(const struct peers *peers, const char *key, const struct lease *before,
		 const struct lease *after)
{
	peers->changed(key, before, after, peers->userdata);
	if (peers->observer)
		peers->observer(key, before, after, peers->observer_userdata);
}

void peers_free(struct peers *peers)
{
	struct peer *peer, *next;

	if (!peers)
		return;
	peer = peers->table;
	HASH_CLEAR(hh, peers->table); /* the links of the peers stay */
	for (; peer; peer = next) {
		next = peer->hh.next;
		free(peer);
	}
	free(peers);
}

size_t peers_count(const struct peers *peers)
{
	return HASH_COUNT(peers->table);
}

static struct peer *find(const struct peers *peers, const char *key)
{
	struct peer *peer;

	HASH_FIND_STR(peers->table, key, peer);
	return peer;
}

const struct lease *peers_find(const struct peers *peers, const char *key)
{
	const struct peer *peer = find(peers, key);

	return peer ? &peer->lease : NULL;
}

void peers_each(const struct peers *peers,
		void (*visit)(const char *key, const struct lease *lease, void *userdata),
		void *userdata)
{
	for (const struct peer *peer = peers->table; peer; peer = peer->hh.next)
		visit(peer->text, &peer->lease, userdata);
}

static struct peer *new_peer(const char *key, const struct lease *lease)
{
	size_t key_size = strlen(key) + 1, size = key_size;
	struct peer *peer;
	char *text;

	IP_FOREACH_FAMILY (f)
		if (lease->backend_data[f])
			size += strlen(lease->backend_data[f]) + 1;
	peer = mem_alloc(1, sizeof(*peer) + size);
	memcpy(peer->text, key, key_size);
	peer->lease = *lease;
	text = peer->text + key_size;
	IP_FOREACH_FAMILY (f) {
		if (!lease->backend_data[f])
			continue;
		size = strlen(lease->backend_data[f]) + 1;
		peer->lease.backend_data[f] = memcpy(text, lease->backend_data[f], size);
		text += size;
	}
	return peer;
}

static void mark_seen(const struct peers *peers, struct peer *peer)
{
	peer->listed = peers->list;
	peer->doubted = 0;
}

void peers_put(struct peers *peers, const char *key, struct lease *lease)
{
	struct peer *before = find(peers, key), *after;

	if (before && lease_same_content(&before->lease, lease)) {
		before->lease.expires_s = lease->expires_s;
		before->lease.deadline_ms = lease->deadline_ms;
		mark_seen(peers, before);
		lease_done(lease);
		return;
	}
	if (before && peers->usable && !peers->usable(key, lease, peers->userdata)) {
		mark_seen(peers, before);
		lease_done(lease);
		return;
	}
	after = new_peer(key, lease);
	lease_done(lease);
	after->born = before ? before->born : peers->list;
	mark_seen(peers, after);
	if (before)
		HASH_DEL(peers->table, before);
	HASH_ADD_STR(peers->table, text, after);
	tell(peers, after->text, before ? &before->lease : NULL, &after->lease);
	free(before);
}

void peers_recall(struct peers *peers, const char *key, struct lease *lease)
{
	struct peer *peer;

	if (!find(peers, key)) {
		/* born and listed 0: before every list */
		peer = new_peer(key, lease);
		HASH_ADD_STR(peers->table, text, peer);
		tell(peers, peer->text, NULL, &peer->lease);
	}
	lease_done(lease);
}

static void remove_peer(struct peers *peers, struct peer *peer)
{
	/* The analyzer does not know that the neighbours' links agree. */
	HASH_DEL(peers->table, peer); /* NOLINT(clang-analyzer-unix.Malloc) */
	tell(peers, peer->text, &peer->lease, NULL);
	free(peer);
}

void peers_remove(struct peers *peers, const char *key)
{
	struct peer *peer = find(peers, key);

	if (peer)
		remove_peer(peers, peer);
}

void peers_list_begin(struct peers *peers)
{
	peers->list++;
	peers->suspect = false;
}

void peers_list_suspect(struct peers *peers)
{
	peers->suspect = true;
}

bool peers_keep(struct peers *peers, const char *key)
{
	struct peer *peer = find(peers, key);

	if (peer)
		mark_seen(peers, peer);
	return peer != NULL;
}

/* What the list that ends now means for a peer that it lacks. */
static bool is_missing(const struct peers *peers, const struct peer *peer)
{
	return peer->listed != peers->list;
}

static bool is_confirmed(const struct peers *peers, const struct peer *peer)
{
	return peer->doubted && peer->doubted == peers->ended_list;
}

size_t peers_list_end(struct peers *peers)
{
	size_t questioned = 0, missing = 0;
	struct peer *peer, *next;
	bool doubtful;

	for (peer = peers->table; peer; peer = peer->hh.next) {
		if (peer->born == peers->list ||
		    (is_missing(peers, peer) && is_confirmed(peers, peer)))
			continue;
		questioned++;
		missing += is_missing(peers, peer);
	}
	doubtful = missing > (peers->suspect ? 0 : questioned / 2);
	HASH_ITER (hh, peers->table, peer, next) {
		if (!is_missing(peers, peer))
			continue;
		if (!doubtful || is_confirmed(peers, peer))
			remove_peer(peers, peer);
		else
			peer->doubted = peers->list;
	}
	peers->ended_list = peers->list;
	return doubtful ? missing : 0;
}
