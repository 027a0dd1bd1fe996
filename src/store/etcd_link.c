/* SPDX-License-Identifier: Apache-2.0 */
/* etcd_link.c - how etcd is reached: endpoints, the one in use, files, credentials
 *
 * Hosts start at an endpoint drawn at random, so that many hosts with the same list
 * spread over the members, and stay with the one that works. When it fails the others
 * are tried in turn, those that failed earlier included.
 */
#include "store/etcd_link.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#define DEFAULT_PORT 2379

static int parse_endpoints(struct etcd_link *link, const char *list, struct err *err)
{
	_cleanup_free_ char *copy = mem_strdup(list);
	bool with_tls = *link->settings->files.cert && *link->settings->files.key;
	char *rest = copy, *url, text[ENDPOINT_TEXT_MAX + 64];
	int code;

	while ((url = strsep(&rest, ","))) {
		size_t len;

		url += strspn(url, " \t");
		len = strlen(url);
		while (len && strchr(" \t", url[len - 1]))
			url[--len] = '\0';
		if (!*url)
			continue;
		if (link->n_endpoints == ETCD_ENDPOINTS_MAX)
			return err_set(err, -E2BIG, "--etcd-endpoints: more than %d endpoints",
				       ETCD_ENDPOINTS_MAX);
		/* As the original's client has it. */
		(void)snprintf(text, sizeof(text), "%s%s",
			       strstr(url, "://") ? ""
			       : with_tls         ? "https://"
						  : "http://",
			       url);
		code = endpoint_parse(text, DEFAULT_PORT, &link->endpoint[link->n_endpoints], err);
		if (code)
			return err_wrap(err, code, "--etcd-endpoints");
		link->n_endpoints++;
	}
	if (!link->n_endpoints)
		return err_set(err, -EINVAL, "--etcd-endpoints: \"%.100s\" names no endpoint",
			       list);
	for (size_t i = 1; i < link->n_endpoints; i++)
		if (link->endpoint[i].tls != link->endpoint[0].tls)
			return err_set(
				err, -EINVAL,
				"--etcd-endpoints: %s and %s: http and https cannot be mixed",
				link->endpoint[0].text, link->endpoint[i].text);
	return 0;
}

/* "/coreos.com/network"; the original takes one without a slash before it as well. */
static int parse_prefix(struct etcd_link *link, const char *prefix, struct err *err)
{
	size_t len = strlen(prefix);

	if (!len)
		return err_set(err, -EINVAL,
			       "--etcd-prefix is empty: give a path such as /coreos.com/network");
	while (len && prefix[len - 1] == '/')
		len--;
	if (len >= sizeof(link->prefix))
		return err_set(err, -EINVAL, "--etcd-prefix is longer than %zu characters",
			       sizeof(link->prefix) - 1);
	if (*prefix != '/')
		log_info("--etcd-prefix %s does not begin with a slash: its keys are others than "
			 "those of /%s",
			 prefix, prefix);
	memcpy(link->prefix, prefix, len);
	link->prefix[len] = '\0';
	return 0;
}

static int check_files(const struct etcd_link *link, const struct tls_files *files, struct err *err)
{
	bool any = *files->ca || *files->cert || *files->key;
	int code;

	if (!*files->cert != !*files->key)
		return err_set(err, -EINVAL, "%s is given, but %s is not: they go together",
			       *files->cert ? "--etcd-certfile" : "--etcd-keyfile",
			       *files->cert ? "--etcd-keyfile" : "--etcd-certfile");
	if (!link->endpoint[0].tls) {
		/* The original keeps silent, and works. */
		if (any)
			log_warning("%s has no effect: endpoint %s has no TLS (https://)",
				    *files->ca ? "--etcd-cafile" : "--etcd-certfile",
				    link->endpoint[0].text);
		return 0;
	}
	code = tls_check(files, err);
	/* Nothing that a person gave wrongly: it may be renewed, or the clock be set. */
	if (code == -EKEYEXPIRED || code == -EKEYREJECTED) {
		log_warning("etcd's TLS files: %s; going on", err->text);
		return 0;
	}
	return code ? err_wrap(err, code, "etcd's TLS files") : 0;
}

static int check_user(const struct etcd_settings *settings, struct err *err)
{
	_cleanup_secret_ char *password = NULL;
	const struct etcd_link link = {.settings = settings};

	if (*settings->password && *settings->password_file)
		return err_set(err, -EINVAL,
			       "--etcd-password and --etcd-password-file exclude each other");
	/* With one but not the other the original goes without, and so may the cluster. */
	if (!*settings->username && (*settings->password || *settings->password_file))
		log_warning("A password for etcd has no effect without --etcd-username");
	else if (*settings->username && !etcd_link_has_user(&link))
		log_warning("--etcd-username has no effect without a password: give "
			    "--etcd-password-file, or FLANNELD_ETCD_PASSWORD in the environment");
	if (!etcd_link_has_user(&link))
		return 0;
	return etcd_link_password(&link, &password, err);
}

int etcd_link_init(struct etcd_link *link, const struct etcd_settings *settings, struct err *err)
{
	unsigned random = 0;
	int code;

	*link = (struct etcd_link){.settings = settings};
	code = parse_endpoints(link, settings->endpoints, err);
	if (!code)
		code = parse_prefix(link, settings->prefix, err);
	if (!code)
		code = check_files(link, &settings->files, err);
	if (!code)
		code = check_user(settings, err);
	if (code)
		return code;
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = 0; /* early boot */
	link->current = random % link->n_endpoints;
	return 0;
}

const struct endpoint *etcd_link_endpoint(const struct etcd_link *link)
{
	return &link->endpoint[link->current];
}

bool etcd_link_next(struct etcd_link *link)
{
	link->current = (link->current + 1) % link->n_endpoints;
	link->failed++;
	return link->failed % link->n_endpoints == 0;
}

void etcd_link_good(struct etcd_link *link)
{
	link->failed = 0;
}

bool etcd_link_has_user(const struct etcd_link *link)
{
	const struct etcd_settings *settings = link->settings;

	return *settings->username && (*settings->password || *settings->password_file);
}

int etcd_link_password(const struct etcd_link *link, char **ret_password, struct err *err)
{
	const struct etcd_settings *settings = link->settings;
	char *text;
	size_t len;
	int code;

	if (!*settings->password_file) {
		*ret_password = mem_strdup(settings->password);
		return 0;
	}
	code = file_read(AT_FDCWD, settings->password_file, ETCD_PASSWORD_MAX, &text, &len, err);
	if (code)
		return err_wrap(err, code, "--etcd-password-file");
	text[strcspn(text, "\r\n")] = '\0';
	if (!*text) {
		free(text);
		return err_set(err, -EINVAL, "--etcd-password-file %s: its first line is empty",
			       settings->password_file);
	}
	*ret_password = text;
	return 0;
}
