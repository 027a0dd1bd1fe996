/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_kubeconfig.c - kubeconfigs, which people write by hand
 *
 * What is taken is whole and has no two things that exclude each other.
 */
#include "base/mem.h"
#include "store/kubeconfig.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_exec(const struct kube_exec *exec)
{
	if (!exec->command) {
		assert(!exec->args && !exec->env && !exec->api_version);
		return;
	}
	assert(*exec->command && exec->api_version && exec->args && exec->env);
	for (char **env = exec->env; *env; env++)
		assert(strchr(*env, '=') > *env);
}

static void check_access(const struct kube_access *access)
{
	const char *const pems[] = {access->ca_pem, access->cert_pem, access->key_pem};
	const char *const paths[] = {access->ca_file, access->cert_file, access->key_file,
				     access->token_file};

	assert(strstr(access->server, "://"));
	assert(!strncmp(access->place, "/etc/k8s/a.conf (context ", 25));
	assert(!access->insecure || (!access->ca_file && !access->ca_pem));
	assert(!(access->token || access->token_file) || !(access->user || access->password));
	assert((access->cert_file || access->cert_pem) == (access->key_file || access->key_pem));
	for (size_t i = 0; i < ARRAY_SIZE(pems); i++)
		assert(!pems[i] || (strstr(pems[i], "-----BEGIN ") && !paths[i]));
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		assert(!paths[i] || (paths[i][0] == '/' && paths[i][1]));
	check_exec(&access->exec);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct kube_access access;
	struct err err = {""};
	int r = kubeconfig_parse((const char *)data, size, "/etc/k8s/a.conf", &access, &err);

	assert(!r || r == -EINVAL);
	assert(!r == !*err.text);
	assert(!r || !strncmp(err.text, "/etc/k8s/a.conf ", 16));
	assert(!strchr(err.text, '\n'));
	if (!r) {
		check_access(&access);
		kube_access_done(&access);
	}
	return 0;
}
