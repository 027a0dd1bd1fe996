/* SPDX-License-Identifier: Apache-2.0 */
/* kube_refusal.c - what the Kubernetes API means by an answer that is no success
 *
 * Most refusals carry a Status object, whose message is for people. A 403's, of RBAC, names
 * verb and resource; where it does not, both are told from the request.
 */
#include "store/kube_refusal.h"

#include "base/log.h"
#include "base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define WORD_MAX  64
#define BRIEF_MAX 160
#define NO_CREDENTIALS                                                                             \
	"no credentials are given: it wants a token, client certificate or program in the "        \
	"kubeconfig"

/* What somebody may not do. */
struct deed {
	char verb[WORD_MAX], resource[WORD_MAX], group[WORD_MAX];
};

/* ---- what was asked for ---- */

/* The text up to the first of @ends. Returns what follows. */
static const char *take_word(const char *text, const char *ends, char word[WORD_MAX])
{
	const size_t len = strcspn(text, ends);

	(void)snprintf(word, WORD_MAX, "%.*s", (int)(len < WORD_MAX ? len : 0), text);
	return text + len + (text[len] == '/');
}

static const char *find_verb(const char *method, const char *path, bool named)
{
	if (!strcmp(method, "PATCH"))
		return "patch";
	if (!strcmp(method, "GET") && strstr(path, "watch=true"))
		return "watch";
	if (!strcmp(method, "GET"))
		return named ? "get" : "list";
	return "";
}

/* The parts of "/api/v1/nodes/n1/status?a=b". */
static void read_request(const struct kube_refused *refused, struct deed *deed, char name[256])
{
	static const char core[] = "/api/v1/", spaces[] = "namespaces/";
	const char *at = refused->path;
	char space[WORD_MAX];
	size_t len;

	*deed = (struct deed){.verb = ""};
	*name = '\0';
	if (strncmp(at, core, strlen(core)) != 0)
		return;
	at += strlen(core);
	if (!strncmp(at, spaces, strlen(spaces)))
		at = take_word(at + strlen(spaces), "/?", space);
	at = take_word(at, "/?", deed->resource);
	if (*at != '?') {
		len = strcspn(at, "/?");
		(void)snprintf(name, 256, "%.*s", (int)(len < 256 ? len : 0), at);
		at += len;
	}
	if (*at == '/') {
		len = strlen(deed->resource);
		(void)snprintf(deed->resource + len, WORD_MAX - len, "%.*s", (int)strcspn(at, "?"),
			       at);
	}
	(void)snprintf(deed->verb, sizeof(deed->verb), "%s",
		       find_verb(refused->method, refused->path, *name));
}

/* Behind @before in @text. False: not there. */
static bool quoted(const char *text, const char *before, char word[WORD_MAX])
{
	const char *at = strstr(text, before);

	if (!at)
		return false;
	at += strlen(before);
	if (!strchr(at, '"'))
		return false;
	(void)take_word(at, "\"", word);
	return true;
}

/* `User "x" cannot patch resource "nodes/status" in API group "" at the cluster scope` */
static bool read_rbac(const char *message, struct deed *deed)
{
	static const char cannot[] = " cannot ";
	const char *at = strstr(message, cannot);
	struct deed found = {.verb = ""};

	if (!at)
		return false;
	(void)take_word(at + strlen(cannot), " ", found.verb);
	if (!quoted(at, "resource \"", found.resource) ||
	    !quoted(at, "API group \"", found.group) || !*found.verb || !*found.resource)
		return false;
	*deed = found;
	return true;
}

/* ---- words ---- */

static void explain_401(const struct kube_refused *refused, struct err *err)
{
	if (*refused->who)
		(void)err_set(err, -EACCES,
			      "401: it does not accept %.200s: expired, revoked, or of another "
			      "cluster",
			      refused->who);
	else
		(void)err_set(err, -EACCES, "401: " NO_CREDENTIALS);
}

static void explain_403(const struct kube_refused *refused, const char *message, struct err *err)
{
	bool by_rbac; /* who knows better than we which right is missing */
	char user[128] = "", name[256], word[WORD_MAX];
	struct deed deed;

	read_request(refused, &deed, name);
	by_rbac = read_rbac(message, &deed);
	if (quoted(message, "User \"", word))
		(void)snprintf(user, sizeof(user), "%s", word);
	if (!*deed.verb || !*deed.resource) {
		(void)err_set(err, -EACCES, "403: %.300s", message);
		return;
	}
	/* No rights are for the whole world. */
	if (!strcmp(user, "system:anonymous")) {
		(void)err_set(err, -EACCES, "403: it takes us for system:anonymous: %s%.200s%s",
			      *refused->who ? "" : NO_CREDENTIALS, refused->who,
			      *refused->who ? " did not get there: is a proxy in between?" : "");
		return;
	}
	(void)err_set(err, -EACCES,
		      "403: %s may not %s %s: a ClusterRole bound to it needs the rule "
		      "{apiGroups: [\"%s\"], resources: [\"%s\"], verbs: [\"%s\"]}%s%.120s%s",
		      *user ? user : "we", deed.verb, deed.resource, deed.group, deed.resource,
		      deed.verb, by_rbac || !*message ? "" : " (", by_rbac ? "" : message,
		      by_rbac || !*message ? "" : ")");
}

static void explain_404(const struct kube_refused *refused, bool is_status, const char *message,
			struct err *err)
{
	char name[256];
	struct deed deed;

	read_request(refused, &deed, name);
	if (!is_status)
		(void)err_set(err, -ENOENT,
			      "404, not from a Kubernetes API: are host, port and path in the URL "
			      "right?");
	else if (*name && !strncmp(deed.resource, "nodes", 5))
		(void)err_set(err, -ENOENT,
			      "404: there is no node %s: its kubelet registers it, under the name "
			      "that NODE_NAME has to have",
			      name);
	else if (*name && !strcmp(deed.resource, "pods"))
		(void)err_set(
			err, -ENOENT,
			"404: there is no pod %s: POD_NAME and POD_NAMESPACE have to be those "
			"of the pod that this is",
			name);
	else
		(void)err_set(err, -ENOENT, "404: %.300s", message);
}

static void explain(const struct kube_refused *refused, bool is_status, const char *message,
		    struct err *err)
{
	const int code = refused->http_status;

	if (code == 401)
		explain_401(refused, err);
	else if (code == 403)
		explain_403(refused, message, err);
	else if (code == 404)
		explain_404(refused, is_status, message, err);
	else if (code == 429)
		(void)err_set(err, -EBUSY, "429: it has too many requests to answer%s%.200s",
			      *message ? ": " : "", message);
	else if (code / 100 == 3)
		(void)err_set(err, -EPROTO,
			      "%d: it sends us elsewhere (%.200s), where we do not follow: is the "
			      "URL right?",
			      code,
			      refused->location ? refused->location : "it does not say where");
	else if (code == 400 && !is_status && strstr(message, "HTTP request to an HTTPS server"))
		(void)err_set(err, -EPROTO, "400: it speaks TLS: https:// instead of http://");
	else
		(void)err_set(err, -EIO, "%d: %.300s", code,
			      *message ? message : "it does not say why");
}

/* ---- what is not words ---- */

/* The first line of a body that is no Status: a load balancer's or a proxy's. */
static void brief(struct json_slice body, char text[BRIEF_MAX])
{
	size_t n = 0;

	while (n < body.len && n < BRIEF_MAX - 1 && body.p[n] && body.p[n] != '\n' &&
	       body.p[n] != '\r')
		n++;
	if (n)
		memcpy(text, body.p, n);
	text[n] = '\0';
}

/* Seconds; as a date it is not sent by Kubernetes, and taken for not given. */
static unsigned read_seconds(const char *text)
{
	unsigned seconds = 0;

	if (!text || !*text)
		return 0;
	for (; *text; text++) {
		if (!isdigit((unsigned char)*text))
			return 0;
		if (seconds <= KUBE_WAIT_MAX_S)
			seconds = seconds * 10 + (unsigned)(*text - '0');
	}
	return seconds;
}

void kube_refusal_explain(const struct kube_refused *refused, struct kube_refusal *ret_refusal)
{
	struct kube_status status = {.code = 0};
	struct kube_refusal refusal = {.wait_ms = 0};
	char text[BRIEF_MAX];
	const bool is_status = refused->body.len && kube_status_parse(refused->body, &status) == 0;
	unsigned wait_s = read_seconds(refused->retry_after);

	brief(refused->body, text);
	explain(refused, is_status, is_status ? status.message : text, &refusal.why);
	log_clean(refusal.why.text);
	if (!wait_s && is_status)
		wait_s = status.retry_after_s;
	refusal.wait_ms = (wait_s < KUBE_WAIT_MAX_S ? wait_s : KUBE_WAIT_MAX_S) * 1000;
	/* What stands before the API, or is in its place, says 404 as well. */
	refusal.absent = refused->http_status == 404 && is_status;
	refusal.expired = refused->http_status == 410 || !strcmp(status.reason, "Expired") ||
			  !strcmp(status.reason, "Gone");
	if (refusal.expired)
		(void)snprintf(refusal.next, sizeof(refusal.next), "%s", status.next);
	*ret_refusal = refusal;
}
