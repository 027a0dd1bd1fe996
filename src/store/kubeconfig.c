/* SPDX-License-Identifier: Apache-2.0 */
/* kubeconfig.c - how to reach the Kubernetes API and who we are there
 *
 * The file is read as client-go does (tools/clientcmd): names are exact, unknown members are
 * passed over, of a list's entries the named one counts. libyaml's tree has the line of each
 * value. Nothing of a value is ever in an error but names of contexts, clusters, users and
 * programs: anything else may be a secret in the wrong place.
 */
#include "store/kubeconfig.h"

#include "base/log.h"
#include "base/mem.h"
#include "store/kubeconfig_value.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>

/* ---- contexts, clusters, users ---- */

/* The @inner of the list's entry that is named @name. @of tells where the name is from. */
static int find_entry(struct kubeconfig_file *file, const char *list, const char *inner,
		      const char *name, const yaml_node_t *of, const yaml_node_t **ret_entry,
		      struct err *err)
{
	const yaml_node_t *root = yaml_document_get_root_node(&file->document);
	const yaml_node_t *entries = value_member(file, root, list), *found = NULL;

	if (entries && entries->type != YAML_SEQUENCE_NODE)
		return value_fail(file, entries, err, "%s is not a list", list);
	for (const yaml_node_item_t *i = entries ? entries->data.sequence.items.start : NULL;
	     entries && i < entries->data.sequence.items.top; i++) {
		const yaml_node_t *entry = yaml_document_get_node(&file->document, *i);

		if (!value_is(value_member(file, entry, "name"), name))
			continue;
		if (found)
			return value_fail(file, entry, err, "there are two %s named \"%.60s\"",
					  list, name);
		found = entry;
	}
	if (!found)
		return value_fail(file, of, err, "%s \"%.60s\" is not among the %s", inner, name,
				  list);
	*ret_entry = value_member(file, found, inner);
	if (!*ret_entry || (*ret_entry)->type != YAML_MAPPING_NODE)
		return value_fail(file, found, err, "%s \"%.60s\" has nothing in it", inner, name);
	return 0;
}

/* A name that must be there, in @map, which is @where. */
static int need_name(struct kubeconfig_file *file, const yaml_node_t *map, const char *name,
		     const char *where, const char **ret_name, struct err *err)
{
	const yaml_node_t *node = value_member(file, map, name);

	if (!node)
		return value_fail(file, map, err, "%s has no %s", where, name);
	return value_text(file, node, name, ret_name, err);
}

/* The current context's cluster, and user; without one it is a server that asks for none. */
static int find_context(struct kubeconfig_file *file, const yaml_node_t **ret_cluster,
			const yaml_node_t **ret_user, struct err *err)
{
	const yaml_node_t *root = yaml_document_get_root_node(&file->document), *context;
	char where[100];
	int r = need_name(file, root, "current-context", "the file", &file->context, err);

	if (r < 0)
		return r;
	r = find_entry(file, "contexts", "context", file->context,
		       value_member(file, root, "current-context"), &context, err);
	if (r < 0)
		return r;
	(void)snprintf(where, sizeof(where), "context \"%.60s\"", file->context);
	r = need_name(file, context, "cluster", where, &file->cluster, err);
	if (!r)
		r = find_entry(file, "clusters", "cluster", file->cluster,
			       value_member(file, context, "cluster"), ret_cluster, err);
	if (r < 0 || !value_member(file, context, "user"))
		return r;
	r = need_name(file, context, "user", where, &file->user, err);
	if (!r)
		r = find_entry(file, "users", "user", file->user,
			       value_member(file, context, "user"), ret_user, err);
	return r;
}

/* ---- cluster ---- */

char *kubeconfig_server_url(const char *given, const struct kube_access *access)
{
	const bool tls = access->ca_file || access->ca_pem || access->cert_file ||
			 access->cert_pem || access->insecure;
	const char *colon = strstr(given, "://");
	const char *scheme = colon ? "" : tls ? "https://" : "http://";
	const size_t least = colon ? (size_t)(colon - given) + 3 : 0;
	size_t len = strlen(given), size;
	char *server;

	while (len > least && given[len - 1] == '/')
		len--;
	size = strlen(scheme) + len + 1;
	server = mem_alloc(size, 1);
	(void)snprintf(server, size, "%s%.*s", scheme, (int)len, given);
	return server;
}

static int take_server(struct kubeconfig_file *file, const yaml_node_t *cluster,
		       struct kube_access *access, struct err *err)
{
	_cleanup_free_ char *server = NULL;
	int r = value_take_text(file, cluster, "server", &server, err);
	const char *host;

	if (r < 0)
		return r;
	if (!server)
		return value_fail(file, cluster, err, "cluster \"%.60s\" has no server",
				  file->cluster);
	access->server = kubeconfig_server_url(server, access);
	host = strstr(access->server, "://");
	if (!host || !host[3] || host[3] == '/')
		return value_fail(file, value_member(file, cluster, "server"), err,
				  "server is not a URL such as https://10.0.0.1:6443");
	return 0;
}

static int check_proxy(struct kubeconfig_file *file, const yaml_node_t *cluster, const char *url,
		       struct err *err)
{
	static const char *const schemes[] = {"http://", "https://", "socks5://"};

	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++)
		if (!strncasecmp(url, schemes[i], strlen(schemes[i])) && url[strlen(schemes[i])])
			return 0;
	return value_fail(file, value_member(file, cluster, "proxy-url"), err,
			  "proxy-url is not a URL of http, https or socks5");
}

static int parse_cluster(struct kubeconfig_file *file, const yaml_node_t *cluster,
			 struct kube_access *access, struct err *err)
{
	int r = value_take_text(file, cluster, "tls-server-name", &access->tls_server_name, err);

	if (!r)
		r = value_take_bool(file, cluster, "insecure-skip-tls-verify", &access->insecure,
				    err);
	if (!r)
		r = value_take_pem_or_path(file, cluster, "certificate-authority", &access->ca_pem,
					   &access->ca_file, err);
	if (!r && access->insecure && (access->ca_pem || access->ca_file))
		r = value_fail(file, value_member(file, cluster, "insecure-skip-tls-verify"), err,
			       "insecure-skip-tls-verify and a certificate-authority cannot go "
			       "together: one of them has to go");
	if (!r)
		r = value_take_text(file, cluster, "proxy-url", &access->proxy_url, err);
	if (!r && access->proxy_url)
		r = check_proxy(file, cluster, access->proxy_url, err);
	return r < 0 ? r : take_server(file, cluster, access, err);
}

/* ---- user ---- */

/* A list of @n words, NULL-terminated. */
static char **new_list(size_t n)
{
	return mem_alloc(n + 1, sizeof(char *));
}

/* A list member's node and length; NULL and 0: none. */
static int find_list(struct kubeconfig_file *file, const yaml_node_t *map, const char *name,
		     const yaml_node_t **ret_list, size_t *ret_n, struct err *err)
{
	const yaml_node_t *list = value_member(file, map, name);

	if (list && list->type != YAML_SEQUENCE_NODE)
		return value_fail(file, list, err, "exec: %s is not a list", name);
	*ret_list = list;
	*ret_n = list ? (size_t)(list->data.sequence.items.top - list->data.sequence.items.start)
		      : 0;
	return 0;
}

static int parse_args(struct kubeconfig_file *file, const yaml_node_t *node, struct kube_exec *exec,
		      struct err *err)
{
	const yaml_node_t *list;
	const char *text;
	size_t n;
	int r = find_list(file, node, "args", &list, &n, err);

	if (r < 0)
		return r;
	exec->args = new_list(n);
	for (size_t i = 0; i < n; i++) {
		r = value_text(
			file,
			yaml_document_get_node(&file->document, list->data.sequence.items.start[i]),
			"an element of exec.args", &text, err);
		if (r < 0)
			return r;
		exec->args[i] = mem_strdup(text);
	}
	return 0;
}

/* One `{name: AWS_PROFILE, value: dev}`; of "NAME=value". */
static int parse_variable(struct kubeconfig_file *file, const yaml_node_t *node,
			  char **ret_variable, struct err *err)
{
	_cleanup_secret_ char *value = NULL;
	_cleanup_free_ char *name = NULL;
	size_t size;
	int r = value_take_text(file, node, "name", &name, err);

	if (!r)
		r = value_take_text(file, node, "value", &value, err);
	if (!r && (!name || strchr(name, '='))) {
		r = value_fail(file, node, err, "an element of exec.env has no proper name");
	} else if (!r) {
		size = strlen(name) + 1 + (value ? strlen(value) : 0) + 1;
		*ret_variable = mem_alloc(size, 1);
		(void)snprintf(*ret_variable, size, "%s=%s", name, value ? value : "");
	}
	return r;
}

static int parse_env(struct kubeconfig_file *file, const yaml_node_t *node, struct kube_exec *exec,
		     struct err *err)
{
	const yaml_node_t *list;
	size_t n;
	int r = find_list(file, node, "env", &list, &n, err);

	if (r < 0)
		return r;
	exec->env = new_list(n);
	for (size_t i = 0; i < n && !r; i++)
		r = parse_variable(
			file,
			yaml_document_get_node(&file->document, list->data.sequence.items.start[i]),
			&exec->env[i], err);
	return r;
}

/* apiVersion and interactiveMode. */
static int check_exec(struct kubeconfig_file *file, const yaml_node_t *node,
		      const struct kube_exec *exec, struct err *err)
{
	const yaml_node_t *mode = value_member(file, node, "interactiveMode");
	const bool is_v1 = exec->api_version && !strcmp(exec->api_version, KUBE_EXEC_API "v1");

	if (!is_v1 &&
	    (!exec->api_version || strcmp(exec->api_version, KUBE_EXEC_API "v1beta1") != 0))
		return value_fail(file, node, err,
				  "exec: apiVersion is neither " KUBE_EXEC_API
				  "v1 nor " KUBE_EXEC_API "v1beta1");
	if (!mode && is_v1)
		return value_fail(file, node, err,
				  "exec: apiVersion " KUBE_EXEC_API
				  "v1 needs interactiveMode (Never)");
	if (value_is(mode, "Always"))
		return value_fail(
			file, mode, err,
			"exec: interactiveMode is Always, but a daemon has nobody to ask");
	if (mode && !value_is(mode, "Never") && !value_is(mode, "IfAvailable"))
		return value_fail(file, mode, err,
				  "exec: interactiveMode is neither Never nor IfAvailable");
	return 0;
}

static int parse_exec(struct kubeconfig_file *file, const yaml_node_t *user, struct kube_exec *exec,
		      struct err *err)
{
	const yaml_node_t *node = value_member(file, user, "exec");
	_cleanup_free_ char *command = NULL;
	int r;

	if (!node)
		return 0;
	r = value_take_text(file, node, "command", &command, err);
	if (r < 0)
		return r;
	if (!command)
		return value_fail(file, node, err, "exec has no command");
	exec->command = strchr(command, '/') ? value_resolve(file, command) : mem_strdup(command);
	r = value_take_text(file, node, "apiVersion", &exec->api_version, err);
	if (!r)
		r = value_take_text(file, node, "installHint", &exec->install_hint, err);
	if (!r)
		r = value_take_bool(file, node, "provideClusterInfo", &exec->provide_cluster_info,
				    err);
	if (!r)
		r = check_exec(file, node, exec, err);
	if (!r)
		r = parse_args(file, node, exec, err);
	return r < 0 ? r : parse_env(file, node, exec, err);
}

/* What we cannot do is refused rather than passed over. */
static int check_user(struct kubeconfig_file *file, const yaml_node_t *user,
		      const struct kube_access *access, struct err *err)
{
	static const struct {
		const char *name, *why;
	} refused[] = {
		{"auth-provider", "such plugins are gone from Kubernetes: use exec"},
		{"as", "acting as somebody else is not supported"},
		{"as-uid", "acting as somebody else is not supported"},
		{"as-groups", "acting as somebody else is not supported"},
		{"as-user-extra", "acting as somebody else is not supported"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(refused); i++)
		if (value_member(file, user, refused[i].name))
			return value_fail(file, value_member(file, user, refused[i].name), err,
					  "%s: %s", refused[i].name, refused[i].why);
	if ((access->token || access->token_file) && (access->user || access->password))
		return value_fail(
			file, user, err,
			"user \"%.60s\" has both a token and username or password: one of "
			"them has to go",
			file->user);
	if ((access->cert_pem || access->cert_file) && !access->key_pem && !access->key_file)
		return value_fail(file, user, err,
				  "user \"%.60s\" has a client-certificate but no client-key",
				  file->user);
	return 0;
}

static int parse_user(struct kubeconfig_file *file, const yaml_node_t *user,
		      struct kube_access *access, struct err *err)
{
	const struct {
		const char *name;
		char **value;
	} texts[] = {{"token", &access->token},
		     {"username", &access->user},
		     {"password", &access->password}};
	int r = value_take_pem_or_path(file, user, "client-certificate", &access->cert_pem,
				       &access->cert_file, err);

	if (!r)
		r = value_take_pem_or_path(file, user, "client-key", &access->key_pem,
					   &access->key_file, err);
	if (!r)
		r = value_take_path(file, user, "tokenFile", &access->token_file, err);
	for (size_t i = 0; i < ARRAY_SIZE(texts) && !r; i++)
		r = value_take_text(file, user, texts[i].name, texts[i].value, err);
	if (!r)
		r = check_user(file, user, access, err);
	/* client-go looks at it only together with a certificate. */
	if (!r && !access->cert_pem && !access->cert_file) {
		value_wipe(&access->key_pem);
		value_wipe(&access->key_file);
	}
	return r < 0 ? r : parse_exec(file, user, &access->exec, err);
}

/* ---- the file ---- */

static char *make_place(const struct kubeconfig_file *file)
{
	const size_t size = strlen(file->path) + strlen(file->context) + sizeof(" (context )");
	char *place = mem_alloc(size, 1);

	(void)snprintf(place, size, "%s (context %s)", file->path, file->context);
	log_clean(place);
	return place;
}

/* The longest mapping, so that looking for repeated names does not take for ever. */
#define MEMBERS_MAX 256

/* What would make another file of it than it seems: merge keys, and names that are there
 * twice. A name may be a secret in the wrong place. */
static int check_mapping(struct kubeconfig_file *file, const yaml_node_t *map, struct err *err)
{
	const yaml_node_pair_t *begin = map->data.mapping.pairs.start;
	const yaml_node_pair_t *end = map->data.mapping.pairs.top;

	if (end - begin > MEMBERS_MAX)
		return value_fail(file, map, err, "a mapping of more than %d members", MEMBERS_MAX);
	for (const yaml_node_pair_t *a = begin; a < end; a++) {
		const yaml_node_t *name = yaml_document_get_node(&file->document, a->key);

		if (name->type != YAML_SCALAR_NODE)
			return value_fail(file, name, err, "a member's name is not a text");
		if (value_is(name, "<<"))
			return value_fail(file, name, err, "merge keys (<<) are not supported");
		for (const yaml_node_pair_t *b = begin; b < a; b++)
			if (value_is(yaml_document_get_node(&file->document, b->key),
				     (const char *)name->data.scalar.value))
				return value_fail(file, name, err,
						  "this name is in the mapping already");
	}
	return 0;
}

static int check_mappings(struct kubeconfig_file *file, struct err *err)
{
	const yaml_node_t *begin = file->document.nodes.start;
	const yaml_node_t *end = file->document.nodes.top;
	int r = 0;

	for (const yaml_node_t *node = begin; node < end && !r; node++)
		if (node->type == YAML_MAPPING_NODE)
			r = check_mapping(file, node, err);
	return r;
}

static int check_root(struct kubeconfig_file *file, struct err *err)
{
	const yaml_node_t *root = yaml_document_get_root_node(&file->document);

	if (value_is_nothing(root))
		return err_set(err, -EINVAL, "%s is empty", file->path);
	if (root->type != YAML_MAPPING_NODE)
		return value_fail(file, root, err, "this is not a kubeconfig");
	if (value_member(file, root, "kind") &&
	    !value_is(value_member(file, root, "kind"), "Config"))
		return value_fail(file, value_member(file, root, "kind"), err,
				  "kind is not Config");
	if (value_member(file, root, "apiVersion") &&
	    !value_is(value_member(file, root, "apiVersion"), "v1"))
		return value_fail(file, value_member(file, root, "apiVersion"), err,
				  "apiVersion is not v1");
	return 0;
}

static int parse_document(struct kubeconfig_file *file, struct kube_access *access, struct err *err)
{
	const yaml_node_t *cluster = NULL, *user = NULL;
	int r = check_root(file, err);

	if (!r)
		r = check_mappings(file, err);
	if (!r)
		r = find_context(file, &cluster, &user, err);
	if (!r)
		r = parse_user(file, user, access, err);
	if (!r)
		r = parse_cluster(file, cluster, access, err);
	if (!r)
		access->place = make_place(file);
	return r;
}

/* libyaml's words have nothing of the text in them. */
static int load(yaml_parser_t *parser, const char *text, size_t len, struct kubeconfig_file *file,
		struct err *err)
{
	if (len > KUBECONFIG_MAX_BYTES)
		return err_set(err, -EINVAL, "%s has more than %d bytes", file->path,
			       KUBECONFIG_MAX_BYTES);
	yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(parser, (const unsigned char *)text, len);
	if (yaml_parser_load(parser, &file->document))
		return 0;
	if (parser->error == YAML_MEMORY_ERROR)
		abort();
	return err_set(err, -EINVAL, "%s line %zu, column %zu: %s", file->path,
		       parser->problem_mark.line + 1, parser->problem_mark.column + 1,
		       parser->problem ? parser->problem : "no YAML");
}

int kubeconfig_parse(const char *text, size_t len, const char *path, struct kube_access *ret_access,
		     struct err *err)
{
	const char *slash = strrchr(path, '/');
	struct kubeconfig_file file = {.path = path,
				       .dir_len = slash ? (size_t)(slash - path) + 1 : 0};
	_cleanup_kube_access_ struct kube_access access = {0};
	yaml_parser_t parser;
	int r;

	if (!yaml_parser_initialize(&parser))
		abort();
	r = load(&parser, text, len, &file, err);
	if (!r) {
		r = parse_document(&file, &access, err);
		yaml_document_delete(&file.document);
	}
	yaml_parser_delete(&parser);
	if (r < 0)
		return r;
	*ret_access = access;
	access = (struct kube_access){0};
	return 0;
}

/* ---- in a pod ---- */

static char *join(const char *dir, const char *name)
{
	const size_t size = strlen(dir) + 1 + strlen(name) + 1;
	char *path = mem_alloc(size, 1);

	(void)snprintf(path, size, "%s/%s", dir, name);
	return path;
}

static bool is_port(const char *text)
{
	const size_t n = strspn(text, "0123456789");
	const long port = n && n <= 5 && !text[n] ? strtol(text, NULL, 10) : 0;

	return port > 0 && port <= 65535;
}

int kubeconfig_in_cluster(char *(*getenv_fn)(const char *name), const char *dir,
			  struct kube_access *ret_access, struct err *err)
{
	const char *host = getenv_fn("KUBERNETES_SERVICE_HOST");
	const char *port = getenv_fn("KUBERNETES_SERVICE_PORT");
	struct kube_access found = {0};
	size_t size;
	bool v6;

	if (!host || !*host || !port || !*port)
		return err_set(err, -ENOENT,
			       "this is no pod of Kubernetes: KUBERNETES_SERVICE_HOST and "
			       "KUBERNETES_SERVICE_PORT are not both in the environment. Outside "
			       "of one, --kubeconfig-file says how to reach the API");
	if (!is_port(port))
		return err_set(err, -EINVAL, "KUBERNETES_SERVICE_PORT: \"%.40s\" is not a port",
			       port);
	found.token_file = join(dir, "token");
	if (access(found.token_file, F_OK) < 0) {
		kube_access_done(&found);
		return err_set(
			err, -ENOENT,
			"this pod has no %s/token: its automountServiceAccountToken must not "
			"be false, nor its service account's",
			dir);
	}
	/* Without it, client-go goes by the system's list. */
	found.ca_file = join(dir, "ca.crt");
	if (access(found.ca_file, F_OK) < 0) {
		free(found.ca_file);
		found.ca_file = NULL;
	}
	v6 = strchr(host, ':') && *host != '[';
	size = strlen(host) + strlen(port) + sizeof("https://[]:");
	found.server = mem_alloc(size, 1);
	(void)snprintf(found.server, size, "https://%s%s%s:%s", v6 ? "[" : "", host, v6 ? "]" : "",
		       port);
	found.place = mem_strdup(KUBE_IN_POD);
	*ret_access = found;
	return 0;
}

/* ---- the end ---- */

static void free_list(char **list)
{
	for (char **text = list; text && *text; text++)
		value_wipe(text);
	free(list);
}

bool kube_access_forget_user(struct kube_access *access)
{
	char **const texts[] = {
		&access->token,
		&access->token_file,
		&access->user,
		&access->password,
		&access->exec.command,
		&access->exec.api_version,
		&access->exec.install_hint,
	};
	bool any = false;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		any = any || *texts[i];
		value_wipe(texts[i]);
	}
	free_list(access->exec.args);
	free_list(access->exec.env);
	access->exec = (struct kube_exec){.command = NULL};
	return any;
}

void kube_access_done(struct kube_access *access)
{
	char **const texts[] = {
		&access->server,    &access->tls_server_name, &access->ca_file,  &access->ca_pem,
		&access->cert_file, &access->cert_pem,        &access->key_file, &access->key_pem,
		&access->proxy_url, &access->place,
	};

	(void)kube_access_forget_user(access);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		value_wipe(texts[i]);
	*access = (struct kube_access){0};
}
