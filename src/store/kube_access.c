/* SPDX-License-Identifier: Apache-2.0 */
/* kube_access.c - Kubernetes store: which API server, and who we are there
 *
 * As client-go's BuildConfigFromFlags(): a kubeconfig when one is named, else what a pod is
 * given; --kube-api-url takes the place of the server in both (there, only in the first), and
 * alone means a server that wants no credentials. As there, a server without TLS gets none.
 */
#include "store/kube_internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

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
	char *server = kubeconfig_server_url(url, access);

	free(access->server);
	access->server = server;
	access->place = mem_alloc(size, 1);
	(void)snprintf(access->place, size, "%s%s%s", flag, alone ? "" : ", ", alone ? "" : place);
}

/* Whoever reads along on the way, or stands in the server's place, would be us from then on. */
static void guard_credentials(struct kube_access *access)
{
	if (strncasecmp(access->server, "https:", 6) != 0) {
		if (kube_access_forget_user(access))
			log_warning("Kubernetes API (%s): its URL is one without TLS: none of the "
				    "credentials go there",
				    access->place);
	} else if (access->insecure) {
		log_warning("Kubernetes API (%s): insecure-skip-tls-verify is set: whoever answers "
			    "in its place is believed, and gets our credentials",
			    access->place);
	}
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
	if (r == 0)
		guard_credentials(ret_access);
	return r;
}
