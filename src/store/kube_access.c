/* SPDX-License-Identifier: Apache-2.0 */
/* kube_access.c - Kubernetes store: which API server, and who we are there
 *
 * As client-go's BuildConfigFromFlags(): a kubeconfig when one is named, else what a pod is
 * given; --kube-api-url takes the place of the server in both, and alone means a server that
 * wants no credentials.
 */
#include "store/kube_internal.h"

#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

static int read_kubeconfig(const char *path, struct kube_access *ret_access, struct err *err)
{
	_cleanup_free_ char *text = NULL;
	size_t len;
	int r = file_read(AT_FDCWD, path, KUBECONFIG_MAX_BYTES, &text, &len, err);

	if (r == 0)
		r = kubeconfig_parse(text, len, path, ret_access, err);
	if (text)
		explicit_bzero(text, len); /* tokens, keys */
	return r < 0 ? err_wrap(err, r, "--kubeconfig-file") : 0;
}

/* Failures are to name the flag; who we are there is still said by the other. */
static void override_server(const char *url, struct kube_access *access)
{
	static const char flag[] = "--kube-api-url";
	_cleanup_free_ char *place = access->place;
	const bool alone = !place;
	const size_t size = sizeof(flag) + strlen(", ") + (alone ? 0 : strlen(place));

	free(access->server);
	access->server = mem_strdup(url);
	access->place = mem_alloc(size, 1);
	(void)snprintf(access->place, size, "%s%s%s", flag, alone ? "" : ", ", alone ? "" : place);
}

int kube_access_find(const struct kube_settings *settings, struct kube_access *ret_access,
		     struct err *err)
{
	const char *url = settings->api_url;
	struct err why;
	int r;

	if (*settings->kubeconfig_file) {
		r = read_kubeconfig(settings->kubeconfig_file, ret_access, err);
	} else {
		r = kubeconfig_in_cluster(getenv, KUBE_SERVICE_ACCOUNT_DIR, ret_access, &why);
		if (r == -ENOENT && *url) {
			*ret_access = (struct kube_access){.place = NULL};
			r = 0;
		}
		if (r < 0)
			return err_set(err, r, "%s", why.text);
	}
	if (r == 0 && *url)
		override_server(url, ret_access);
	return r;
}
