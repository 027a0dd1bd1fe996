/* SPDX-License-Identifier: Apache-2.0 */
/* kube_node.c - what a Node object says about its host's lease, and how to say ours
 *
 * pkg/subnet/kube of the original, which peers may be running: they ignore a node whose
 * annotations do not read for every family that they have enabled. We take each family by itself.
 */
#include "store/kube_node.h"

#include "base/json.h"
#include "base/log.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>

/* Kubernetes' limits for both parts of an annotation's name. */
#define PREFIX_MAX 253
#define NAME_MAX   63

#define CONDITION_TYPE    "NetworkUnavailable"
#define CONDITION_STATUS  "False"
#define CONDITION_REASON  "FlannelIsUp"
#define CONDITION_MESSAGE "Flannel is running on this node"

static const char *const annotation_names[] = {
	[KUBE_SUBNET_MANAGER] = "kube-subnet-manager",
	[KUBE_BACKEND_TYPE] = "backend-type",
	[KUBE_BACKEND_DATA] = "backend-data",
	[KUBE_BACKEND_V6_DATA] = "backend-v6-data",
	[KUBE_PUBLIC_IP] = "public-ip",
	[KUBE_PUBLIC_IPV6] = "public-ipv6",
	[KUBE_PUBLIC_IP_OVERWRITE] = "public-ip-overwrite",
	[KUBE_PUBLIC_IPV6_OVERWRITE] = "public-ipv6-overwrite",
	[KUBE_NODE_PUBLIC_IP] = "node-public-ip",
	[KUBE_NODE_PUBLIC_IPV6] = "node-public-ipv6",
};
static_assert(ARRAY_SIZE(annotation_names) == KUBE_ANNOTATION_COUNT, "a name for each");

/* Those that exist once per family. */
static const struct {
	enum kube_annotation public_ip, backend_data;
} of_family[IP_FAMILY_COUNT] = {
	[IP_V4] = {KUBE_PUBLIC_IP, KUBE_BACKEND_DATA},
	[IP_V6] = {KUBE_PUBLIC_IPV6, KUBE_BACKEND_V6_DATA},
};

/* ---- names ---- */

static size_t count_word(const char *text)
{
	return strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789_-");
}

/* Whether @text, with its slash, is `domain.name/` or `domain.name/word-`. */
static bool is_prefix(const char *text)
{
	const char *p = text;
	unsigned dots = 0;
	size_t n;

	for (;; p++) {
		n = count_word(p);
		p += n;
		if (!n || (*p != '.' && *p != '/'))
			return false;
		if (*p == '/')
			break;
		dots++;
	}
	if (!dots || p - text > PREFIX_MAX)
		return false;
	n = count_word(++p);
	return !p[n] && n != 1 && n + strlen("public-ipv6-overwrite") <= NAME_MAX;
}

int kube_keys_init(const char *prefix, struct kube_keys *ret_keys, struct err *err)
{
	char text[PREFIX_MAX + NAME_MAX + sizeof("/-")];
	const char *slash = strchr(prefix, '/');
	size_t len = strlen(prefix);

	if (slash && strchr(slash + 1, '/'))
		return err_set(err, -EINVAL,
			       "--kube-annotation-prefix: \"%.80s\" has more than one slash",
			       prefix);
	if (len >= PREFIX_MAX + NAME_MAX)
		return err_set(err, -EINVAL, "--kube-annotation-prefix: \"%.80s...\" is too long",
			       prefix);
	(void)snprintf(text, sizeof(text), "%s%s", prefix,
		       !slash                                             ? "/"
		       : prefix[len - 1] == '/' || prefix[len - 1] == '-' ? ""
									  : "-");
	if (!is_prefix(text))
		return err_set(
			err, -EINVAL,
			"--kube-annotation-prefix: \"%.80s\" is not a domain name with a dot, "
			"maybe with a slash and a word behind it, of lower case letters, "
			"digits, - and _ (right: flannel.alpha.coreos.com, example.com/blue)",
			prefix);
	for (size_t i = 0; i < KUBE_ANNOTATION_COUNT; i++) {
		const size_t size = strlen(text) + strlen(annotation_names[i]) + 1;

		ret_keys->name[i] = mem_alloc(size, 1);
		(void)snprintf(ret_keys->name[i], size, "%s%s", text, annotation_names[i]);
	}
	return 0;
}

void kube_keys_done(struct kube_keys *keys)
{
	if (!keys)
		return;
	for (size_t i = 0; i < KUBE_ANNOTATION_COUNT; i++)
		free(keys->name[i]);
	*keys = (struct kube_keys){0};
}

/* ---- reading a node ---- */

/* A string, owned; absent or null: NULL. */
static int take_string(struct json_slice object, const char *path, char **ret_text, struct err *err)
{
	struct json_slice value;
	char *text = NULL;

	if (json_slice_find(object, path, &value) < 0)
		return err_set(err, -EINVAL, "it is no JSON");
	if (value.p) {
		text = json_slice_string(value);
		if (!text)
			return err_set(err, -EINVAL, "%s is not a string", path);
	}
	*ret_text = text;
	return 0;
}

bool kube_name_is_good(const char *name)
{
	size_t n =
		strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._");

	return n && !name[n] && n < KUBE_NAME_MAX;
}

static int parse_names(struct json_slice object, struct kube_node *node, struct err *err)
{
	struct json_slice kind;
	int r = json_slice_find(object, "kind", &kind);

	if (r < 0)
		return err_set(err, r, "it is no JSON object");
	node->is_partial = json_slice_is(kind, "PartialObjectMetadata");
	/* The items of a list have no kind. */
	if (kind.p && !node->is_partial && !json_slice_is(kind, "Node"))
		return err_set(err, -EINVAL, "its kind is %.*s", kind.len > 60 ? 60 : (int)kind.len,
			       kind.p);
	r = take_string(object, "metadata.name", &node->name, err);
	if (!r)
		r = take_string(object, "metadata.uid", &node->uid, err);
	if (!r)
		r = take_string(object, "metadata.resourceVersion", &node->resource_version, err);
	if (r < 0)
		return r;
	if (node->name && !*node->name) {
		free(node->name);
		node->name = NULL;
	}
	if (node->name && !kube_name_is_good(node->name))
		return err_set(err, -EINVAL, "\"%.60s\" is not a node's name", node->name);
	return 0;
}

static int take_annotation(struct json_slice name, struct json_slice value,
			   const struct kube_keys *keys, struct kube_node *node, struct err *err)
{
	for (size_t i = 0; i < KUBE_ANNOTATION_COUNT; i++) {
		if (strlen(keys->name[i]) != name.len ||
		    memcmp(keys->name[i], name.p, name.len) != 0 || node->annotation[i])
			continue;
		if (value.len == 4 && !memcmp(value.p, "null", 4))
			return 0;
		node->annotation[i] = json_slice_string(value);
		if (!node->annotation[i])
			return err_set(err, -EINVAL, "annotation %s is not a string",
				       annotation_names[i]);
	}
	return 0;
}

static int parse_annotations(struct json_slice object, const struct kube_keys *keys,
			     struct kube_node *node, struct err *err)
{
	struct json_slice annotations, name, value;
	struct json_walk walk;
	int r = json_slice_find(object, "metadata.annotations", &annotations);

	if (r < 0)
		return err_set(err, r, "metadata is no JSON");
	if (!annotations.p)
		return 0;
	if (json_walk_begin(annotations, &walk) < 0 || walk.is_array)
		return err_set(err, -EINVAL, "metadata.annotations is not an object");
	while ((r = json_walk_next(&walk, &name, &value)) > 0)
		if (take_annotation(name, value, keys, node, err) < 0)
			return -EINVAL;
	return r < 0 ? err_set(err, r, "metadata.annotations is no JSON") : 0;
}

static int take_cidr(struct json_slice value, struct kube_node *node, struct err *err)
{
	_cleanup_free_ char *text = json_slice_string(value);
	struct ip_net net;

	if (!text)
		return err_set(err, -EINVAL, "spec.podCIDRs is not a list of strings");
	if (ip_net_parse(text, &net) < 0 || !net.len)
		return err_set(err, -EINVAL, "podCIDR \"%.60s\" is not a subnet", text);
	/* Of two in a family the first counts, as in the original. */
	if (!ip_net_is_set(&node->pod_cidr[net.ip.family]))
		node->pod_cidr[net.ip.family] = ip_net_base(&net);
	return 0;
}

/* podCIDRs, or where there is none podCIDR, which repeats the first of them. */
static int parse_cidrs(struct json_slice spec, struct kube_node *node, struct err *err)
{
	struct json_slice cidrs, name, value;
	struct json_walk walk;
	unsigned n = 0;
	int r;

	if (json_slice_find(spec, "podCIDRs", &cidrs) < 0 ||
	    json_slice_find(spec, "podCIDR", &value) < 0)
		return err_set(err, -EINVAL, "spec is no JSON object");
	if (cidrs.p) {
		if (json_walk_begin(cidrs, &walk) < 0 || !walk.is_array)
			return err_set(err, -EINVAL, "spec.podCIDRs is not a list");
		for (; (r = json_walk_next(&walk, &name, &cidrs)) > 0; n++) {
			if (n == 2)
				return err_set(err, -EINVAL, "it has more than two podCIDRs");
			if (take_cidr(cidrs, node, err) < 0)
				return -EINVAL;
		}
		if (r < 0)
			return err_set(err, r, "spec.podCIDRs is no JSON");
	}
	return n || !value.p || json_slice_is(value, "") ? 0 : take_cidr(value, node, err);
}

/* As kube_node_patch() writes it. */
static bool is_our_condition(struct json_slice condition)
{
	static const char *const members[][2] = {
		{"type", CONDITION_TYPE},
		{"status", CONDITION_STATUS},
		{"reason", CONDITION_REASON},
		{"message", CONDITION_MESSAGE},
	};
	struct json_slice value;

	for (size_t i = 0; i < ARRAY_SIZE(members); i++)
		if (json_slice_find(condition, members[i][0], &value) < 0 ||
		    !json_slice_is(value, members[i][1]))
			return false;
	return true;
}

static int parse_conditions(struct json_slice object, struct kube_node *node, struct err *err)
{
	struct json_slice conditions, name, value;
	struct json_walk walk;
	int r = json_slice_find(object, "status.conditions", &conditions);

	if (r < 0)
		return err_set(err, r, "status is no JSON");
	if (!conditions.p)
		return 0;
	if (json_walk_begin(conditions, &walk) < 0 || !walk.is_array)
		return err_set(err, -EINVAL, "status.conditions is not a list");
	while ((r = json_walk_next(&walk, &name, &value)) > 0)
		if (is_our_condition(value))
			node->network_unavailable_is_false_by_us = true;
	return r < 0 ? err_set(err, r, "status.conditions is no JSON") : 0;
}

static int parse_node(struct json_slice object, const struct kube_keys *keys,
		      struct kube_node *node, struct err *err)
{
	struct json_slice spec;
	int r = parse_names(object, node, err);

	if (!r)
		r = parse_annotations(object, keys, node, err);
	if (r < 0 || node->is_partial)
		return r;
	r = json_slice_find(object, "spec", &spec);
	if (r < 0)
		return err_set(err, r, "it is no JSON");
	/* A whole node has one, be it empty. */
	if (!spec.p) {
		node->is_partial = true;
		return 0;
	}
	r = parse_cidrs(spec, node, err);
	return r < 0 ? r : parse_conditions(object, node, err);
}

int kube_node_parse(struct json_slice object, const struct kube_keys *keys,
		    struct kube_node *ret_node, struct err *err)
{
	struct kube_node node = {0};
	int r = parse_node(object, keys, &node, err);

	if (r < 0) {
		if (node.name && kube_name_is_good(node.name))
			(void)err_wrap(err, r, "node %s", node.name);
		else
			(void)err_wrap(err, r, "an object that is no node");
		kube_node_done(&node);
		return r;
	}
	*ret_node = node;
	return 0;
}

void kube_node_done(struct kube_node *node)
{
	if (!node)
		return;
	free(node->name);
	free(node->uid);
	free(node->resource_version);
	for (size_t i = 0; i < KUBE_ANNOTATION_COUNT; i++)
		free(node->annotation[i]);
	*node = (struct kube_node){0};
}

/* ---- a node's lease ---- */

static const char *annotation(const struct kube_node *node, enum kube_annotation key)
{
	return node->annotation[key] ? node->annotation[key] : "";
}

/* Compact JSON, owned; NULL: none. */
static int take_data(const struct kube_node *node, enum kube_annotation key, char **ret_data,
		     struct err *err)
{
	const char *text = annotation(node, key);
	_cleanup_json_ json_t *data = NULL;

	if (!*text)
		return 0;
	if (strlen(text) <= LEASE_RECORD_MAX)
		data = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
	if (!data)
		return err_set(err, -EINVAL, "annotation %s: \"%.60s\" is not JSON",
			       annotation_names[key], text);
	if (!json_is_null(data))
		*ret_data = json_dumps(data, JSON_COMPACT | JSON_ENCODE_ANY);
	return 0;
}

/* 1: the lease has this family now; 0: the node has none. */
static int take_family(const struct kube_node *node, enum ip_family f, struct lease *lease,
		       struct err *err)
{
	const enum kube_annotation key = of_family[f].public_ip;
	struct lease part = {0};
	char what[64];
	int r;

	(void)snprintf(what, sizeof(what), "annotation %s", annotation_names[key]);
	r = lease_set_public_ip(&part, f, what, annotation(node, key), err);
	if (r < 0 || !ip_is_set(&part.public_ip[f]) || !ip_net_is_set(&node->pod_cidr[f]))
		return r;
	r = take_data(node, of_family[f].backend_data, &lease->backend_data[f], err);
	if (r < 0)
		return r;
	lease->public_ip[f] = part.public_ip[f];
	lease->subnet[f] = node->pod_cidr[f];
	return 1;
}

/* What a managed node without an error lacks for a lease. */
static int set_missing(const struct kube_node *node, const bool families[IP_FAMILY_COUNT],
		       struct err *err)
{
	bool has_cidr = false;

	if (node->is_partial)
		return err_set(err, -EAGAIN, "its podCIDR is not known yet");
	IP_FOREACH_FAMILY (f)
		has_cidr = has_cidr || (families[f] && ip_net_is_set(&node->pod_cidr[f]));
	return err_set(err, -EAGAIN, "%s",
		       has_cidr ? "no annotation with its public IP in the family of its podCIDR"
				: "no podCIDR of an enabled family is assigned to it");
}

int kube_node_lease(const struct kube_node *node, const bool families[IP_FAMILY_COUNT],
		    struct lease *ret_lease, struct err *err)
{
	const char *name = node->name ? node->name : "(no name)";
	struct lease lease = {.expires_s = LEASE_EXPIRES_SOMEDAY};
	int r, wrong;
	bool any = false;

	if (strcmp(annotation(node, KUBE_SUBNET_MANAGER), "true") != 0)
		return err_set(err, -ENOENT,
			       "node %s is not managed by flannel: its annotation %s is not "
			       "\"true\"",
			       name, annotation_names[KUBE_SUBNET_MANAGER]);
	wrong = lease_set_backend_type(&lease, "annotation backend-type",
				       annotation(node, KUBE_BACKEND_TYPE), err);
	if (wrong < 0)
		return err_wrap(err, wrong, "node %s", name);
	IP_FOREACH_FAMILY (f) {
		/* The first error is told. */
		r = families[f] ? take_family(node, f, &lease, wrong < 0 ? NULL : err) : 0;
		any = any || r > 0;
		wrong = r < 0 ? r : wrong;
	}
	if (any)
		*ret_lease = lease;
	else if (!wrong)
		wrong = set_missing(node, families, err);
	return wrong < 0 ? err_wrap(err, wrong, "node %s", name) : 0;
}

/* ---- the patch ---- */

/* As the original, of whose backends those need data that tunnel. */
static bool is_published(const struct lease *own, enum ip_family f)
{
	const bool needs_data = !strcmp(own->backend_type, "vxlan") ||
				(f == IP_V6 && !strcmp(own->backend_type, "wireguard"));

	return ip_is_set(&own->public_ip[f]) && (own->backend_data[f] || !needs_data);
}

static void want(const struct kube_node *node, const struct kube_keys *keys,
		 enum kube_annotation key, const char *value, json_t *patch)
{
	if (!node->annotation[key] || strcmp(node->annotation[key], value) != 0)
		(void)json_object_set_new(patch, keys->name[key], json_string(value));
}

static void unwant(const struct kube_node *node, const struct kube_keys *keys,
		   enum kube_annotation key, json_t *patch)
{
	if (node->annotation[key])
		(void)json_object_set_new(patch, keys->name[key], json_null());
}

static json_t *patch_annotations(const struct kube_node *node, const struct kube_keys *keys,
				 const struct lease *own)
{
	json_t *patch = json_object();
	char text[IP_STRLEN];

	want(node, keys, KUBE_SUBNET_MANAGER, "true", patch);
	want(node, keys, KUBE_BACKEND_TYPE, own->backend_type, patch);
	IP_FOREACH_FAMILY (f) {
		const enum kube_annotation ip = of_family[f].public_ip;
		const enum kube_annotation data = of_family[f].backend_data;

		/* A family that is off now would go on misleading peers that have it on; the
		 * original leaves it there. What an admin has set is never touched. */
		if (!is_published(own, f)) {
			unwant(node, keys, data, patch);
			unwant(node, keys, ip, patch);
			continue;
		}
		want(node, keys, data, own->backend_data[f] ? own->backend_data[f] : "null", patch);
		want(node, keys, ip, ip_format(&own->public_ip[f], text), patch);
	}
	return patch;
}

/* In the order of Kubernetes' types. */
static json_t *our_condition(int64_t now_s)
{
	const char *const members[][2] = {
		{"type", CONDITION_TYPE},     {"status", CONDITION_STATUS},
		{"lastHeartbeatTime", NULL},  {"lastTransitionTime", NULL},
		{"reason", CONDITION_REASON}, {"message", CONDITION_MESSAGE},
	};
	json_t *condition = json_object();
	char now[32];

	(void)lease_format_time(now_s, now);
	for (size_t i = 0; i < ARRAY_SIZE(members); i++)
		(void)json_object_set_new(condition, members[i][0],
					  json_string(members[i][1] ? members[i][1] : now));
	return condition;
}

char *kube_node_patch(const struct kube_node *node, const struct kube_keys *keys,
		      const struct lease *own, bool set_condition, int64_t now_s)
{
	_cleanup_json_ json_t *patch = json_object(), *annotations = NULL;
	char *text;

	annotations = patch_annotations(node, keys, own);
	if (json_object_size(annotations))
		(void)json_object_set_new(patch, "metadata",
					  json_pack("{s:O}", "annotations", annotations));
	if (set_condition && !node->is_partial && !node->network_unavailable_is_false_by_us)
		(void)json_object_set_new(patch, "status",
					  json_pack("{s:[o]}", "conditions", our_condition(now_s)));
	if (!json_object_size(patch))
		return NULL;
	text = json_dumps(patch, JSON_COMPACT);
	if (!text)
		abort(); /* only memory can fail */
	return text;
}

/* ---- Status ---- */

/* Cut to @size, never within a character; one line. */
static void cut(const char *text, char *buf, size_t size)
{
	size_t n = strlen(text);

	if (n >= size)
		for (n = size - 1; n && ((unsigned char)text[n] & 0xc0) == 0x80;)
			n--;
	memcpy(buf, text, n);
	buf[n] = '\0';
	log_clean(buf);
}

/* Text of a member, cut to the buffer; "" when it is no string. */
static int take_text(struct json_slice object, const char *path, char *buf, size_t size)
{
	_cleanup_free_ char *text = NULL;
	struct json_slice value;
	int r = json_slice_find(object, path, &value);

	if (r < 0)
		return r;
	text = json_slice_string(value);
	cut(text ? text : "", buf, size);
	return 0;
}

/* A whole number of up to 9 digits, else 0. */
static int take_number(struct json_slice object, const char *path, unsigned *ret_number)
{
	struct json_slice value;
	unsigned number = 0;
	int r = json_slice_find(object, path, &value);

	if (r < 0)
		return r;
	for (size_t i = 0; i < value.len; i++) {
		if (value.len > 9 || !isdigit((unsigned char)value.p[i])) {
			number = 0;
			break;
		}
		number = number * 10 + (unsigned)(value.p[i] - '0');
	}
	*ret_number = number;
	return 0;
}

int kube_status_parse(struct json_slice object, struct kube_status *ret_status)
{
	_cleanup_free_ char *next = NULL;
	struct kube_status status = {0};
	struct json_slice value;
	unsigned code = 0;

	if (json_slice_find(object, "kind", &value) < 0 || !json_slice_is(value, "Status") ||
	    take_number(object, "code", &code) < 0 ||
	    take_text(object, "reason", status.reason, sizeof(status.reason)) < 0 ||
	    take_text(object, "message", status.message, sizeof(status.message)) < 0 ||
	    take_number(object, "details.retryAfterSeconds", &status.retry_after_s) < 0 ||
	    json_slice_find(object, "metadata.continue", &value) < 0)
		return -EINVAL;
	status.code = (int)code;
	/* Half of one would be a wrong one. */
	next = json_slice_string(value);
	if (next && strlen(next) < sizeof(status.next))
		(void)stpcpy(status.next, next);
	*ret_status = status;
	return 0;
}
