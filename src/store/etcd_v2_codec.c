/* SPDX-License-Identifier: Apache-2.0 */
/* etcd_v2_codec.c - etcd's v2 keys API: requests to paths and forms, answers to keys
 *
 * The API is described in etcd's Documentation/v2/api.md and errorcode.md; what servers
 * really answer was seen on 3.4.
 */
#include "store/etcd_v2_codec.h"

#include "base/log.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define KEYS_PATH "/v2/keys"

/* ---- requests ---- */

/* Room for @text with every byte encoded, and more. */
static size_t encoded_max(const char *text)
{
	return 3 * strlen(text);
}

/* RFC 3986: what is not unreserved is encoded, but for what is in @keep. Returns the end. */
static char *encode(char *at, const char *text, const char *keep)
{
	static const char hex[] = "0123456789ABCDEF";

	for (; *text; text++) {
		const unsigned char c = (unsigned char)*text;

		if (isalnum(c) || strchr("-._~", c) || strchr(keep, c)) {
			*at++ = (char)c;
			continue;
		}
		*at++ = '%';
		*at++ = hex[c >> 4];
		*at++ = hex[c & 15];
	}
	*at = '\0';
	return at;
}

void etcd_v2_prefix(const char *given, char ret_prefix[ETCD_PREFIX_MAX])
{
	size_t n = 0;

	for (; *given && n < ETCD_PREFIX_MAX - 1; given++)
		if (*given != '/' || (given[1] && given[1] != '/'))
			ret_prefix[n++] = *given;
	ret_prefix[n] = '\0';
}

char *etcd_v2_target(const char *prefix, const char *key, const char *query)
{
	char *target = mem_alloc(
		sizeof(KEYS_PATH "/?") + encoded_max(prefix) + encoded_max(key) + strlen(query), 1);
	char *at = stpcpy(target, KEYS_PATH);

	at = encode(at, prefix, "/");
	/* The prefix itself has a slash behind it: a role for "PREFIX/" and a star, which is
	 * what the original needs, then is enough. */
	at = encode(stpcpy(at, "/"), key, "/");
	if (*query)
		(void)stpcpy(stpcpy(at, "?"), query);
	return target;
}

char *etcd_v2_form(const char *value, int64_t ttl_s)
{
	const size_t size = (value ? encoded_max(value) : 0) + 64;
	char *form = mem_alloc(size, 1), *at;

	at = value ? encode(stpcpy(form, "value="), value, "") : stpcpy(form, "refresh=true");
	if (ttl_s)
		(void)snprintf(at, size - (size_t)(at - form), "&ttl=%" PRId64, ttl_s);
	else
		(void)stpcpy(at, "&ttl=");
	return form;
}

/* ---- answers ---- */

#define ERROR_KEY_NOT_FOUND 100

/* Documentation/v2/errorcode.md. Codes that are not here mean what their HTTP status does. */
static const struct {
	int64_t code;
	enum etcd_status status;
} errors[] = {
	{ERROR_KEY_NOT_FOUND, ETCD_CONFLICT},
	{101, ETCD_CONFLICT},  /* compare failed */
	{102, ETCD_CONFLICT},  /* not a file: a directory is in the key's place */
	{105, ETCD_CONFLICT},  /* key already exists */
	{110, ETCD_REFUSED},   /* user */
	{300, ETCD_AWAY},      /* raft: no quorum, or a request that timed out */
	{301, ETCD_AWAY},      /* leader election */
	{400, ETCD_COMPACTED}, /* the watcher was cleared by a recovery */
	{401, ETCD_COMPACTED}, /* the events asked for have been cleared */
};

static enum etcd_status status_of(int http_status, int64_t code)
{
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++)
		if (errors[i].code == code)
			return errors[i].status;
	return http_status >= 400 && http_status < 500 && http_status != 408 && http_status != 429
		       ? ETCD_REFUSED
		       : ETCD_AWAY;
}

static void refuse_user(const char *user, const char *said, struct err *err)
{
	if (*user)
		(void)err_set(
			err, -EACCES,
			"user %.100s is refused: wrong password, or no role that may read and "
			"write the prefix (%s)",
			user, said);
	else
		(void)err_set(err, -EACCES, "it wants a user: --etcd-username (%s)", said);
}

/* `{"errorCode":105,"message":"Key already exists","cause":"/a/config","index":5}` */
static enum etcd_status read_error(int http_status, const char *user, struct etcd_v2_answer *answer,
				   struct err *err)
{
	const char *message = "", *cause = "";
	enum etcd_status status;
	int64_t code = 0;
	char said[200];

	(void)json_member_int(answer->json, "errorCode", 0, INT32_MAX, &code, NULL);
	(void)json_member_int(answer->json, "index", 0, INT64_MAX, &answer->index, NULL);
	(void)json_member_string(answer->json, "message", &message, NULL);
	(void)json_member_string(answer->json, "cause", &cause, NULL);
	(void)snprintf(said, sizeof(said), "%.90s%s%.90s", message, *cause ? ": " : "", cause);
	log_clean(said);
	answer->absent = code == ERROR_KEY_NOT_FOUND;
	status = status_of(http_status, code);
	if (code == 110 || http_status == 401)
		refuse_user(user, said, err);
	else if (*said)
		(void)err_set(err, -EREMOTEIO, "%s", said);
	else
		(void)err_set(err, -EREMOTEIO, "it answers HTTP status %d", http_status);
	return status;
}

/* Something that is not of the keys API. */
static enum etcd_status read_foreign(int http_status, const char *body, const char *user,
				     struct err *err)
{
	if (http_status == 404 && strstr(body, "404 page not found")) {
		(void)err_set(err, -EOPNOTSUPP,
			      "its v2 API is switched off (etcd --enable-v2; etcd 3.6 has none)");
		return ETCD_REFUSED;
	}
	if (http_status == 401) {
		refuse_user(user, "HTTP status 401", err);
		return ETCD_REFUSED;
	}
	(void)err_set(err, -EPROTO, "it answers HTTP status %d, and not as etcd does", http_status);
	return http_status == 403 ? ETCD_REFUSED : ETCD_AWAY;
}

enum etcd_status etcd_v2_read(int http_status, const char *body, size_t len, const char *user,
			      struct etcd_v2_answer *ret_answer, struct err *err)
{
	struct etcd_v2_answer answer = {.action = ""};
	enum etcd_status status = ETCD_OK;

	/* A key with a NUL in it is to be skipped, not to spoil the whole answer. */
	answer.json = json_loadb(body, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, NULL);
	if (!json_is_object(answer.json)) {
		json_decref(answer.json);
		return read_foreign(http_status, body, user, err);
	}
	if (http_status != 200 && http_status != 201) {
		status = read_error(http_status, user, &answer, err);
	} else {
		answer.node = json_member(answer.json, "node");
		answer.prev_node = json_member(answer.json, "prevNode");
		if (json_member_string(answer.json, "action", &answer.action, NULL) < 0 ||
		    !json_is_object(answer.node)) {
			json_decref(answer.json);
			(void)err_set(err, -EPROTO, "its answer has no node");
			return ETCD_AWAY;
		}
	}
	*ret_answer = answer;
	return status;
}

void etcd_v2_answer_done(struct etcd_v2_answer *answer)
{
	json_decref(answer->json);
	*answer = (struct etcd_v2_answer){0};
}

/* ---- nodes ---- */

/* A string without NUL bytes, borrowed; NULL: none. */
static const char *plain_string(const json_t *node, const char *name)
{
	const json_t *value = json_member(node, name);
	const char *text = json_string_value(value);

	return text && strlen(text) == json_string_length(value) ? text : NULL;
}

static bool is_dir(const json_t *node)
{
	return json_is_true(json_member(node, "dir"));
}

/* @key below @prefix; NULL: it is not there. */
static const char *below(const char *prefix, const char *key)
{
	const size_t len = strlen(prefix);

	return !strncmp(key, prefix, len) && key[len] == '/' ? key + len + 1 : NULL;
}

/* Whether @key is the prefix itself, or a directory that it is in. */
static bool holds(const char *key, const char *prefix)
{
	const size_t len = strlen(key);

	return !strncmp(key, prefix, len) && (!prefix[len] || prefix[len] == '/' || !len);
}

static bool is_ours(const char *key)
{
	const size_t n = strlen(ETCD_SUBNETS_DIR);

	return !strcmp(key, ETCD_CONFIG_KEY) ||
	       (!strncmp(key, ETCD_SUBNETS_DIR, n) && key[n] && !strchr(key + n, '/'));
}

int64_t etcd_v2_ttl(const json_t *node)
{
	int64_t ttl_s = 0;

	(void)json_member_int(node, "ttl", 0, INT64_MAX / 1000, &ttl_s, NULL);
	return ttl_s;
}

bool etcd_v2_kv(const char *prefix, const json_t *node, struct etcd_kv *ret_kv)
{
	const char *path = plain_string(node, "key");
	const char *key = path ? below(prefix, path) : NULL;
	const json_t *value = json_member(node, "value");
	struct etcd_kv kv = {.key = key, .value = "", .lease = json_member(node, "ttl") != NULL};

	if (!key || !is_ours(key) ||
	    json_member_int(node, "modifiedIndex", 1, INT64_MAX, &kv.revision, NULL) < 0 ||
	    json_member_int(node, "createdIndex", 1, INT64_MAX, &kv.created, NULL) < 0 ||
	    !kv.revision)
		return false;
	if (json_is_string(value)) {
		kv.value = json_string_value(value);
		kv.len = json_string_length(value);
	}
	*ret_kv = kv;
	return true;
}

size_t etcd_v2_list(const char *prefix, const json_t *node, struct etcd_kv **ret_kvs)
{
	const json_t *nodes = json_member(node, "nodes"), *subnets = NULL, *child;
	struct etcd_kv *kvs;
	size_t i, n = 0;

	json_array_foreach (nodes, i, child) {
		const char *path = plain_string(child, "key");
		const char *key = path ? below(prefix, path) : NULL;

		if (key && !strcmp(key, "subnets"))
			subnets = json_member(child, "nodes");
	}
	kvs = mem_alloc(json_array_size(nodes) + json_array_size(subnets) + 1, sizeof(*kvs));
	json_array_foreach (nodes, i, child)
		n += !is_dir(child) && etcd_v2_kv(prefix, child, &kvs[n]);
	json_array_foreach (subnets, i, child)
		n += !is_dir(child) && etcd_v2_kv(prefix, child, &kvs[n]);
	*ret_kvs = kvs;
	return n;
}

/* ---- events ---- */

/* Whether the event is of a directory that has our keys in it, or is in the place of one. */
static bool is_of_our_dirs(const char *prefix, const struct etcd_v2_answer *answer)
{
	const char *path = plain_string(answer->node, "key");
	const char *key = path ? below(prefix, path) : NULL;

	if (path && holds(path, prefix))
		return true;
	return key && (is_ours(key) || !strcmp(key, "subnets")) &&
	       (is_dir(answer->node) || is_dir(answer->prev_node));
}

int etcd_v2_event(const char *prefix, const struct etcd_v2_answer *answer,
		  enum etcd_v2_change *ret_change, int64_t *ret_index, struct etcd_kv *ret_kv,
		  struct err *err)
{
	static const char *const ends[] = {"delete", "expire", "compareAndDelete"};
	enum etcd_v2_change change = ETCD_V2_PUT;
	struct etcd_kv kv;
	int64_t index = 0;

	if (json_member_int(answer->node, "modifiedIndex", 1, INT64_MAX, &index, err) < 0 || !index)
		return err_set(err, -EPROTO, "its event has no modifiedIndex");
	*ret_index = index;
	if (is_of_our_dirs(prefix, answer)) {
		*ret_change = ETCD_V2_UNKNOWN;
		return 0;
	}
	if (!etcd_v2_kv(prefix, answer->node, &kv)) {
		*ret_change = ETCD_V2_OTHER;
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		if (!strcmp(answer->action, ends[i]))
			change = ETCD_V2_GONE;
	if (change == ETCD_V2_GONE) {
		kv.value = "";
		kv.len = 0;
	}
	*ret_change = change;
	*ret_kv = kv;
	return 0;
}
