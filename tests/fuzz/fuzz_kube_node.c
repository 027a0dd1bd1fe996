/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_kube_node.c - Nodes and Status objects, of which anybody with the right may write parts
 *
 * The first byte says which families there are and which lease is ours. A node that has been
 * patched says what we wanted, and needs no second patch.
 */
#include "base/json.h"
#include "store/kube_node.h"

#include <assert.h>
#include <errno.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct kube_keys keys;

/* What the API server makes of the patch. */
static void apply(json_t *object, const char *patch)
{
	_cleanup_json_ json_t *parsed = json_loads(patch, 0, NULL);
	json_t *metadata = json_object_get(object, "metadata"), *annotations, *value;
	const json_t *wanted = json_object_get(json_object_get(parsed, "metadata"), "annotations");
	const json_t *status = json_object_get(parsed, "status");
	void *i;

	assert(parsed);
	annotations = json_object_get(metadata, "annotations");
	if (wanted && !json_is_object(annotations)) {
		if (!json_is_object(metadata))
			(void)json_object_set_new(object, "metadata", json_object());
		metadata = json_object_get(object, "metadata");
		(void)json_object_set_new(metadata, "annotations", json_object());
		annotations = json_object_get(metadata, "annotations");
	}
	for (i = json_object_iter((json_t *)(uintptr_t)wanted); i;
	     i = json_object_iter_next((json_t *)(uintptr_t)wanted, i)) {
		value = json_object_iter_value(i);
		if (json_is_null(value))
			(void)json_object_del(annotations, json_object_iter_key(i));
		else
			(void)json_object_set(annotations, json_object_iter_key(i), value);
	}
	if (status)
		(void)json_object_set(object, "status", (json_t *)(uintptr_t)status);
}

static void check_patch(json_t *object, const struct kube_node *node, const struct lease *own)
{
	_cleanup_free_ char *patch = kube_node_patch(node, &keys, own, true, 1771597883);
	_cleanup_free_ char *text = NULL, *second = NULL;
	struct kube_node patched;
	struct err err = {""};

	if (!patch)
		return;
	apply(object, patch);
	text = json_dumps(object, JSON_COMPACT);
	assert(kube_node_parse((struct json_slice){text, strlen(text)}, &keys, &patched, &err) ==
	       0);
	assert(patched.is_partial == node->is_partial);
	second = kube_node_patch(&patched, &keys, own, true, 1771597883);
	assert(!second);
	kube_node_done(&patched);
}

static void check_lease(json_t *object, const struct kube_node *node,
			const bool families[IP_FAMILY_COUNT])
{
	struct lease lease = {0};
	struct err err = {""};
	int r = kube_node_lease(node, families, &lease, &err);
	bool any = false;

	assert(!r == !*err.text);
	assert(!r || r == -ENOENT || r == -EAGAIN || r == -EINVAL);
	IP_FOREACH_FAMILY (f) {
		const bool has = ip_net_is_set(&lease.subnet[f]);

		any = any || has;
		assert(has == ip_is_set(&lease.public_ip[f]));
		assert(!has || (families[f] && lease.public_ip[f].family == f &&
				lease.subnet[f].ip.family == f && lease.subnet[f].len));
		assert(has || !lease.backend_data[f]);
	}
	assert(r == -EINVAL || any == !r);
	if (any)
		check_patch(object, node, &lease);
	lease_done(&lease);
}

static void check_node(json_t *object, bool dual)
{
	static const char *const records[][2] = {
		{"10.5.1.0-24", "{\"PublicIP\":\"192.0.2.2\",\"BackendType\":\"vxlan\","
				"\"BackendData\":{\"VNI\":1}}"},
		{"10.5.1.0-24&fc00::-64", "{\"PublicIP\":\"192.0.2.2\",\"PublicIPv6\":\"fd00::2\","
					  "\"BackendType\":\"host-gw\"}"},
	};
	const bool families[IP_FAMILY_COUNT] = {[IP_V4] = true, [IP_V6] = dual};
	_cleanup_free_ char *text = json_dumps(object, JSON_COMPACT);
	struct kube_node node;
	struct err err = {""};
	struct lease own;

	if (kube_node_parse((struct json_slice){text, strlen(text)}, &keys, &node, &err) < 0) {
		assert(*err.text);
		return;
	}
	assert(!node.name || (*node.name && strlen(node.name) < KUBE_NAME_MAX));
	assert(lease_parse(records[dual][0], records[dual][1], strlen(records[dual][1]), &own,
			   NULL) == 0);
	check_lease(object, &node, families);
	kube_node_done(&node);
	free(text);
	text = json_dumps(object, JSON_COMPACT);
	assert(!kube_node_parse((struct json_slice){text, strlen(text)}, &keys, &node, &err));
	check_patch(object, &node, &own);
	lease_done(&own);
	kube_node_done(&node);
}

static void check_status(struct json_slice text)
{
	struct kube_status status;

	if (kube_status_parse(text, &status) < 0)
		return;
	assert(status.code >= 0);
	assert(strlen(status.reason) < sizeof(status.reason));
	assert(strlen(status.message) < sizeof(status.message));
	assert(strlen(status.next) < sizeof(status.next));
	assert(!strpbrk(status.message, "\n\r\t"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct json_slice text = {(const char *)data + 1, size - 1};
	_cleanup_json_ json_t *object = NULL;
	struct kube_node node;

	if (!size)
		return 0;
	if (!keys.name[0])
		assert(kube_keys_init("flannel.alpha.coreos.com", &keys, NULL) == 0);
	check_status(text);
	if (kube_node_parse(text, &keys, &node, NULL) == 0)
		kube_node_done(&node);
	/* As the API server would write it. */
	object = json_loadb(text.p, text.len, JSON_REJECT_DUPLICATES, NULL);
	if (json_is_object(object))
		check_node(object, data[0] & 1);
	return 0;
}
