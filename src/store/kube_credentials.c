/* SPDX-License-Identifier: Apache-2.0 */
/* kube_credentials.c - who we are to the Kubernetes API, now
 *
 * A token file is opened by its path again whenever what was read of it is a minute old, as
 * client-go does it: the kubelet replaces it by turning a symlink round. When it cannot be
 * read any more, the token that was read last stays in use.
 *
 * A program (ExecCredential, client.authentication.k8s.io) is run when somebody asks and
 * what it printed last has expired or was refused; whoever asks meanwhile waits for the same
 * run. A failure is told to those who wait, and the next who asks makes it run again: how
 * often, is the caller's backoff.
 *
 * `generation` counts the changes, so that a refusal of what has been replaced meanwhile
 * causes nothing.
 */
#include "store/kube_credentials.h"

#include "base/base64.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/child.h"
#include "io/http.h"
#include "io/tls.h"
#include "model/lease.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define TOKEN_FILE_MAX  (64 << 10) /* HTTP servers take headers of a few KB */
#define TOKEN_FRESH_MS  60000
#define PROGRAM_MS      60000
#define PROGRAM_OUT_MAX (1 << 20)
#define CA_FILE_MAX     (4 << 20)

struct kube_credentials {
	struct loop *loop;
	const struct kube_access *access;
	kube_credentials_fn ready;
	void *userdata;

	char *authorization; /* secret; NULL: none */
	unsigned generation;
	int64_t read_ms; /* the token file; 0: never */

	struct child *child; /* while the program runs */
	char *output;        /* of it; a secret */
	size_t output_len;
	bool has_run;      /* and what it printed is not refused */
	int64_t expires_s; /* Unix time; INT64_MAX: never */
	char *cert_pem, *key_pem;
};

static void set(char **member, char *text)
{
	mem_free_secret(*member);
	*member = text;
}

static char *bearer(const char *token)
{
	char *text = mem_alloc(strlen(token) + sizeof("Bearer "), 1);

	(void)stpcpy(stpcpy(text, "Bearer "), token);
	return text;
}

/* -- a token in a file ----------------------------------------------------------------- */

/* Cuts off what is around the token; what is in it has to fit into a header. */
static int check_token(char *text, const char **ret_token, struct err *err)
{
	char *token = text + strspn(text, " \t\r\n");
	size_t len = strlen(token);

	while (len && strchr(" \t\r\n", token[len - 1]))
		token[--len] = '\0';
	if (!len)
		return err_set(err, -EINVAL, "the token is empty");
	for (size_t i = 0; i < len; i++)
		if (token[i] <= ' ' || token[i] > '~')
			return err_set(err, -EINVAL,
				       "the token has a character in it that no token has");
	*ret_token = token;
	return 0;
}

/* Whether the token has changed is in the generation. */
static int read_token(struct kube_credentials *c, struct err *err)
{
	_cleanup_secret_ char *text = NULL;
	_cleanup_secret_ char *header = NULL;
	const char *path = c->access->token_file, *token;
	size_t len;
	int r;

	r = file_read(AT_FDCWD, path, TOKEN_FILE_MAX, &text, &len, err);
	if (r < 0)
		return err_wrap(err, r, "the token");
	r = check_token(text, &token, err);
	if (r < 0)
		return err_wrap(err, r, "%s", path);
	c->read_ms = loop_now_ms();
	header = bearer(token);
	if (!c->authorization || strcmp(c->authorization, header) != 0) {
		set(&c->authorization, TAKE_PTR(header));
		c->generation++;
	}
	return 0;
}

static int refresh_token(struct kube_credentials *c, struct err *err)
{
	struct err own;
	int r;

	if (c->read_ms && loop_now_ms() - c->read_ms < TOKEN_FRESH_MS)
		return 0;
	r = read_token(c, &own);
	if (r == 0)
		return 0;
	if (!c->authorization)
		return err_set(err, r, "%s", own.text);
	log_debug(1, "%s; the one before stays in use", own.text);
	c->read_ms = loop_now_ms();
	return 0;
}

/* -- a program ------------------------------------------------------------------------- */

/* As for client-go, what the kubeconfig itself holds comes before a program, and is enough. */
static bool has_program(const struct kube_credentials *c)
{
	const struct kube_access *access = c->access;

	return kube_is_given(access->exec.command) && !kube_is_given(access->token_file) &&
	       !kube_is_given(access->token) && !kube_is_given(access->user) &&
	       !kube_is_given(access->cert_file) && !kube_is_given(access->cert_pem);
}

static void clear_output(struct kube_credentials *c)
{
	if (c->output)
		explicit_bzero(c->output, c->output_len);
	free(TAKE_PTR(c->output));
	c->output_len = 0;
}

static void on_output(const char *data, size_t len, void *userdata)
{
	struct kube_credentials *c = userdata;
	char *more;

	if (len > PROGRAM_OUT_MAX - c->output_len)
		len = PROGRAM_OUT_MAX - c->output_len; /* and is no JSON then */
	/* realloc() would leave copies of it behind. */
	more = mem_alloc(c->output_len + len + 1, 1);
	if (c->output_len)
		memcpy(more, c->output, c->output_len);
	memcpy(more + c->output_len, data, len);
	len += c->output_len;
	clear_output(c);
	c->output = more;
	c->output_len = len;
}

static int check_kind(const struct kube_credentials *c, const json_t *object, struct err *err)
{
	const char *kind = "", *version = "", *wanted = c->access->exec.api_version;
	int r = json_member_string(object, "kind", &kind, err);

	if (r == 0)
		r = json_member_string(object, "apiVersion", &version, err);
	if (r < 0)
		return r;
	if (strcmp(kind, "ExecCredential") != 0)
		return err_set(err, -EINVAL, "it prints no ExecCredential");
	if (kube_is_given(wanted) && strcmp(version, wanted) != 0)
		return err_set(err, -EINVAL,
			       "it prints an ExecCredential of %.60s, but the kubeconfig asks for "
			       "%s",
			       version, wanted);
	return 0;
}

/* The members of `status`; what is absent is NULL. */
static int read_status(const json_t *status, const char *ret_member[4], struct err *err)
{
	static const char *const names[] = {"token", "clientCertificateData", "clientKeyData",
					    "expirationTimestamp"};
	int r = 0;

	for (int i = 0; i < 4 && r == 0; i++) {
		ret_member[i] = NULL;
		r = json_member_string(status, names[i], &ret_member[i], NULL);
		if (r < 0)
			return err_set(err, r, "its status.%s is not a string", names[i]);
		if (ret_member[i] && !*ret_member[i])
			ret_member[i] = NULL;
	}
	return 0;
}

/* Found out only when it is shown, it would be tried until it expires. */
static int check_certificate(const char *cert, const char *key, struct err *err)
{
	const struct tls_files files = {.cert_pem = cert, .key_pem = key};
	struct err why = {""};
	const int r = tls_check(&files, &why);

	/* That it has expired, the server may say. */
	return r == 0 || r == -EKEYEXPIRED || r == -EKEYREJECTED ? 0
								 : err_set(err, r, "%s", why.text);
}

static int take_status(struct kube_credentials *c, const char *const member[4], struct err *err)
{
	_cleanup_secret_ char *copy = member[0] ? mem_strdup(member[0]) : NULL;
	const int64_t now_s = (int64_t)time(NULL);
	int64_t expires_s = INT64_MAX;
	const char *token = NULL;
	int r = 0;

	if (!member[0] && !member[1])
		return err_set(err, -EINVAL, "it prints neither a token nor a certificate");
	if (!member[1] != !member[2])
		return err_set(err, -EINVAL,
			       "it prints a certificate without its key, or a key "
			       "without its certificate");
	if (member[3] && lease_parse_time(member[3], &expires_s) < 0)
		return err_set(err, -EINVAL, "its expirationTimestamp is no time: %.60s",
			       member[3]);
	if (copy)
		r = check_token(copy, &token, err);
	if (r == 0 && member[1])
		r = check_certificate(member[1], member[2], err);
	if (r < 0)
		return r;
	set(&c->authorization, token ? bearer(token) : NULL);
	set(&c->cert_pem, member[1] ? mem_strdup(member[1]) : NULL);
	set(&c->key_pem, member[2] ? mem_strdup(member[2]) : NULL);
	/* Those who wait get what has expired already, too: another run would hardly differ. */
	c->expires_s = expires_s > now_s ? expires_s : now_s + 1;
	c->has_run = true;
	c->generation++;
	return 0;
}

static int take_output(struct kube_credentials *c, struct err *err)
{
	_cleanup_json_ json_t *object = NULL;
	const char *member[4];
	const json_t *status;
	int r;

	/* jansson would say which text is wrong, and that is a secret. */
	r = json_parse_object(c->output ? c->output : "", c->output_len, "", &object, NULL);
	if (r < 0)
		return err_set(err, r, "it does not print one JSON object");
	r = check_kind(c, object, err);
	if (r < 0)
		return r;
	status = json_member(object, "status");
	if (!json_is_object(status))
		return err_set(err, -EINVAL, "its ExecCredential has no status");
	r = read_status(status, member, err);
	return r < 0 ? r : take_status(c, member, err);
}

static void on_ended(const struct child_end *end, void *userdata)
{
	struct kube_credentials *c = userdata;
	struct err err = {""};
	char how[CHILD_COMPLAINT_MAX + 64];
	int r = 0;

	if (end->exit_code != 0) {
		child_describe_end(end, how, sizeof(how));
		r = err_set(&err, -EIO, "%.300s", how);
	} else {
		r = take_output(c, &err);
	}
	clear_output(c);
	child_free(TAKE_PTR(c->child));
	if (r < 0)
		(void)err_wrap(&err, r, "the kubeconfig's credential program %.100s",
			       c->access->exec.command);
	log_clean(err.text);
	c->ready(r < 0 ? err.text : NULL, c->userdata);
}

/* What the program is told of the cluster, when the kubeconfig wants it to know. */
static json_t *describe_cluster(const struct kube_access *access)
{
	_cleanup_free_ char *text = NULL;
	const char *ca = access->ca_pem;
	char *basic;
	size_t len;
	json_t *cluster = json_pack("{s:s}", "server", access->server ? access->server : "");

	if (kube_is_given(access->tls_server_name))
		(void)json_object_set_new(cluster, "tls-server-name",
					  json_string(access->tls_server_name));
	if (access->insecure)
		(void)json_object_set_new(cluster, "insecure-skip-tls-verify", json_true());
	if (kube_is_given(access->proxy_url))
		(void)json_object_set_new(cluster, "proxy-url", json_string(access->proxy_url));
	if (!kube_is_given(ca) && kube_is_given(access->ca_file) &&
	    file_read(AT_FDCWD, access->ca_file, CA_FILE_MAX, &text, &len, NULL) == 0)
		ca = text;
	if (kube_is_given(ca)) {
		basic = base64_encode(ca, strlen(ca));
		(void)json_object_set_new(cluster, "certificate-authority-data",
					  json_string(basic));
		free(basic);
	}
	return cluster;
}

static char *program_info(const struct kube_access *access)
{
	static const char name[] = "KUBERNETES_EXEC_INFO=";
	const char *version = access->exec.api_version;
	_cleanup_json_ json_t *info = json_pack(
		"{s:s, s:s, s:{s:b}}", "kind", "ExecCredential", "apiVersion",
		kube_is_given(version) ? version : KUBE_EXEC_API "v1", "spec", "interactive", 0);
	_cleanup_free_ char *json = NULL;
	char *text;

	if (access->exec.provide_cluster_info)
		(void)json_object_set_new(json_object_get(info, "spec"), "cluster",
					  describe_cluster(access));
	json = json_dumps(info, JSON_COMPACT);
	text = mem_alloc(sizeof(name) + (json ? strlen(json) : 0), 1);
	(void)stpcpy(stpcpy(text, name), json ? json : "");
	return text;
}

static size_t count(char *const *list)
{
	size_t n = 0;

	while (list && list[n])
		n++;
	return n;
}

/* @first, then @list, then @last unless it is NULL. Caller frees the array. */
static const char **join(const char *first, char *const *list, const char *last)
{
	const size_t n = count(list);
	const char **all = mem_alloc(n + 3, sizeof(*all)), **at = all;

	if (first)
		*at++ = first;
	for (size_t i = 0; i < n; i++)
		*at++ = list[i];
	if (last)
		*at = last;
	return all;
}

static int missing_program(const struct kube_credentials *c, int code, struct err *err)
{
	const char *hint = c->access->exec.install_hint;

	if (code == -ENOENT && kube_is_given(hint)) {
		struct err own = err ? *err : (struct err){""};

		(void)err_set(err, code, "%.150s: %.250s", own.text, hint);
		if (err)
			log_clean(err->text);
	}
	return err_wrap(err, code, "the kubeconfig's credential program");
}

static int run_program(struct kube_credentials *c, struct err *err)
{
	const struct kube_exec *exec = &c->access->exec;
	const struct child_events events = {.output = on_output, .ended = on_ended, .userdata = c};
	_cleanup_free_ char *info = program_info(c->access);
	_cleanup_free_ const char **argv = join(exec->command, exec->args, NULL);
	_cleanup_free_ const char **env = join(NULL, exec->env, info);
	int r;

	r = child_start_with(c->loop, argv, env, NULL, PROGRAM_MS, &events, &c->child, err);
	return r < 0 ? missing_program(c, r, err) : -EAGAIN;
}

/* -- all of them ----------------------------------------------------------------------- */

struct kube_credentials *kube_credentials_new(struct loop *loop, const struct kube_access *access,
					      kube_credentials_fn ready, void *userdata)
{
	struct kube_credentials *c = mem_alloc(1, sizeof(*c));

	c->loop = loop;
	c->access = access;
	c->ready = ready;
	c->userdata = userdata;
	if (kube_is_given(access->token))
		c->authorization = bearer(access->token);
	else if (kube_is_given(access->user))
		c->authorization =
			http_basic(access->user, access->password ? access->password : "");
	return c;
}

void kube_credentials_free(struct kube_credentials *c)
{
	if (!c)
		return;
	child_free(c->child);
	clear_output(c);
	mem_free_secret(c->authorization);
	mem_free_secret(c->cert_pem);
	mem_free_secret(c->key_pem);
	free(c);
}

int kube_credentials_check(struct kube_credentials *c, struct err *err)
{
	const char *token = c->access->token;
	char path[PATH_MAX];
	_cleanup_secret_ char *copy = kube_is_given(token) ? mem_strdup(token) : NULL;
	int r = 0;

	if (copy)
		r = check_token(copy, &token, err);
	if (r == 0 && kube_is_given(c->access->token_file))
		r = refresh_token(c, err);
	if (r == 0 && has_program(c)) {
		r = child_find_program(c->access->exec.command, path, sizeof(path), err);
		if (r < 0)
			r = missing_program(c, r, err);
	}
	return r;
}

int kube_credentials_get(struct kube_credentials *c, struct kube_credential *ret_credential,
			 struct err *err)
{
	int r = 0;

	if (c->child)
		return -EAGAIN;
	if (kube_is_given(c->access->token_file))
		r = refresh_token(c, err);
	else if (has_program(c) && (!c->has_run || (int64_t)time(NULL) >= c->expires_s))
		r = run_program(c, err);
	if (r < 0)
		return r;
	*ret_credential = (struct kube_credential){
		.authorization = c->authorization,
		.cert_pem = c->cert_pem,
		.key_pem = c->key_pem,
		.generation = c->generation,
	};
	return 0;
}

bool kube_credentials_refused(struct kube_credentials *c, unsigned generation)
{
	if (generation != c->generation || c->child)
		return true;
	if (kube_is_given(c->access->token_file)) {
		(void)read_token(c, NULL);
		return generation != c->generation;
	}
	if (!has_program(c))
		return false;
	c->has_run = false;
	return true;
}

void kube_credentials_describe(const struct kube_credentials *c, char *buf, size_t size)
{
	const struct kube_access *access = c->access;

	if (kube_is_given(access->token_file))
		(void)snprintf(buf, size, "the token in %s", access->token_file);
	else if (kube_is_given(access->token))
		(void)snprintf(buf, size, "the token");
	else if (kube_is_given(access->user))
		(void)snprintf(buf, size, "user %.60s and its password", access->user);
	else if (has_program(c))
		(void)snprintf(buf, size, "what %s printed", access->exec.command);
	else if (kube_is_given(access->cert_pem) || kube_is_given(access->cert_file))
		(void)snprintf(buf, size, "the client certificate");
	else
		*buf = '\0';
}
