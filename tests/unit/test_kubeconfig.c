/* SPDX-License-Identifier: Apache-2.0 */
/* test_kubeconfig.c - kubeconfigs good and bad, and a pod's environment */
#include "store/kubeconfig.h"

#include "base/file.h"
#include "base/mem.h"
#include "store/kube_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#define PATH "/etc/k8s/admin.conf"
/* "-----BEGIN X-----\n" */
#define PEM        "-----BEGIN X-----\n"
#define PEM_BASE64 "LS0tLS1CRUdJTiBYLS0tLS0K"

/* A file with one context; @cluster and @user are in braces. */
#define FILE_OF(cluster, user)                                                                     \
	"apiVersion: v1\nkind: Config\ncurrent-context: c\n"                                       \
	"contexts: [{name: c, context: {cluster: k, user: u}}]\n"                                  \
	"clusters:\n- {name: k, cluster: " cluster "}\n"                                           \
	"users:\n- {name: u, user: " user "}\n"
#define SERVER      "server: 'https://10.0.0.1:6443'"
#define USER(user)  FILE_OF("{" SERVER "}", user)
#define CLUSTER(of) FILE_OF("{" SERVER ", " of "}", "{token: t}")

static struct kube_access parse(const char *text, const char *path)
{
	struct kube_access access;
	struct err err = {""};

	if (kubeconfig_parse(text, strlen(text), path, &access, &err) != 0)
		fail_msg("%s: %s", text, err.text);
	assert_string_equal(err.text, "");
	return access;
}

static void test_kubeadm(void **state)
{
	/* As kubeadm writes it. */
	struct kube_access access = parse("apiVersion: v1\n"
					  "clusters:\n"
					  "- cluster:\n"
					  "    certificate-authority-data: " PEM_BASE64 "\n"
					  "    server: https://10.0.0.1:6443\n"
					  "  name: kubernetes\n"
					  "contexts:\n"
					  "- context:\n"
					  "    cluster: other\n"
					  "    user: other\n"
					  "  name: other\n"
					  "- context:\n"
					  "    cluster: kubernetes\n"
					  "    namespace: default\n"
					  "    user: kubernetes-admin\n"
					  "  name: kubernetes-admin@kubernetes\n"
					  "current-context: kubernetes-admin@kubernetes\n"
					  "kind: Config\n"
					  "preferences: {}\n"
					  "users:\n"
					  "- name: kubernetes-admin\n"
					  "  user:\n"
					  "    client-certificate-data: " PEM_BASE64 "\n"
					  "    client-key-data: " PEM_BASE64 "\n",
					  PATH);

	(void)state;
	assert_string_equal(access.server, "https://10.0.0.1:6443");
	assert_string_equal(access.ca_pem, PEM);
	assert_string_equal(access.cert_pem, PEM);
	assert_string_equal(access.key_pem, PEM);
	assert_null(access.ca_file);
	assert_null(access.cert_file);
	assert_null(access.key_file);
	assert_null(access.token);
	assert_null(access.exec.command);
	assert_false(access.insecure);
	assert_string_equal(access.place, PATH " (context kubernetes-admin@kubernetes)");
	kube_access_done(&access);
	kube_access_done(&access);
}

static void test_json(void **state)
{
	struct kube_access access = parse(
		"{\"kind\":\"Config\",\"apiVersion\":\"v1\",\"current-context\":\"c\","
		"\t\"contexts\":"
		"[{\"name\":\"c\",\"context\":{\"cluster\":\"k\",\"user\":\"u\"}}],\"clusters\":[{"
		"\"name\":\"k\",\"cluster\":{\"server\":\"https:\\/\\/[fd00::1]:6443/k8s/"
		"c\\u002d1\","
		"\"insecure-skip-tls-verify\":true}}],\n\t\"users\":[{\"name\":\"u\",\"user\":{"
		"\"username\":\"me\",\"password\":\"null\"}}]}\n",
		"admin.json");

	(void)state;
	assert_string_equal(access.server, "https://[fd00::1]:6443/k8s/c-1");
	assert_true(access.insecure);
	assert_string_equal(access.user, "me");
	assert_string_equal(access.password, "null");
	assert_string_equal(access.place, "admin.json (context c)");
	kube_access_done(&access);
}

/* Where things are in struct kube_access. */
#define AT(member) offsetof(struct kube_access, member)

static void test_members(void **state)
{
	static const struct {
		const char *text, *path;
		size_t at;
		const char *want; /* NULL: none */
	} rows[] = {
		{CLUSTER("tls-server-name: api.example"), PATH, AT(tls_server_name), "api.example"},
		{CLUSTER("certificate-authority: ca.crt"), PATH, AT(ca_file), "/etc/k8s/ca.crt"},
		{CLUSTER("certificate-authority: ../pki/ca.crt"), "conf/a", AT(ca_file),
		 "conf/../pki/ca.crt"},
		{CLUSTER("certificate-authority: ca.crt"), "a.conf", AT(ca_file), "ca.crt"},
		{CLUSTER("certificate-authority: /pki/ca.crt"), PATH, AT(ca_file), "/pki/ca.crt"},
		{CLUSTER("certificate-authority: a, certificate-authority-data: " PEM_BASE64), PATH,
		 AT(ca_pem), PEM},
		{CLUSTER("certificate-authority: a, certificate-authority-data: " PEM_BASE64), PATH,
		 AT(ca_file), NULL},
		{CLUSTER("certificate-authority: a, certificate-authority-data: ''"), PATH,
		 AT(ca_file), "/etc/k8s/a"},
		{CLUSTER("certificate-authority-data: \"LS0tLS1CRUdJ\\n TiBYLS0tLS0=\""), PATH,
		 AT(ca_pem), "-----BEGIN X-----"},
		{CLUSTER("certificate-authority-data: LS0tLS1CRUdJTiBZWS0tLS0tCg=="), PATH,
		 AT(ca_pem), "-----BEGIN YY-----\n"},
		{CLUSTER("proxy-url: 'socks5://10.0.0.9:1080'"), PATH, AT(proxy_url),
		 "socks5://10.0.0.9:1080"},
		{CLUSTER("proxy-url: HTTP://p"), PATH, AT(proxy_url), "HTTP://p"},
		{CLUSTER("disable-compression: true"), PATH, AT(proxy_url), NULL},
		{CLUSTER("server2: x"), PATH, AT(server), "https://10.0.0.1:6443"},
		/* Without a scheme, as client-go. */
		{FILE_OF("{server: '10.0.0.1:8080'}", "{token: t}"), PATH, AT(server),
		 "http://10.0.0.1:8080"},
		{FILE_OF("{server: '10.0.0.1:8080/', certificate-authority: a}", "{token: t}"),
		 PATH, AT(server), "https://10.0.0.1:8080"},
		{FILE_OF("{server: a, insecure-skip-tls-verify: yes}", "{token: t}"), PATH,
		 AT(server), "https://a"},
		{FILE_OF("{server: a}", "{client-certificate: c, client-key: k}"), PATH, AT(server),
		 "https://a"},
		{FILE_OF("{server: 'https://a/k8s//'}", "{token: t}"), PATH, AT(server),
		 "https://a/k8s"},
		{USER("{token: 12345}"), PATH, AT(token), "12345"},
		{USER("{token: ''}"), PATH, AT(token), NULL},
		{USER("{token: ~}"), PATH, AT(token), NULL},
		{USER("{token: null}"), PATH, AT(token), NULL},
		{USER("{token: 'null'}"), PATH, AT(token), "null"},
		{USER("{token: a, tokenFile: t}"), PATH, AT(token), "a"},
		{USER("{token: a, tokenFile: t}"), PATH, AT(token_file), "/etc/k8s/t"},
		{USER("{client-certificate: c, client-key: /k}"), PATH, AT(cert_file),
		 "/etc/k8s/c"},
		{USER("{client-certificate: c, client-key: /k}"), PATH, AT(key_file), "/k"},
		{USER("{client-certificate: c, client-key-data: " PEM_BASE64 "}"), PATH,
		 AT(key_pem), PEM},
		{USER("{token: t, client-key: k}"), PATH, AT(key_file), NULL}, /* not used */
		{USER("{username: a}"), PATH, AT(user), "a"},
		{USER("{username: a}"), PATH, AT(password), NULL},
		{USER("&x {token: a}"), PATH, AT(token), "a"},
		/* Nobody in particular. */
		{"current-context: c\ncontexts: [{name: c, context: {cluster: k}}]\n"
		 "clusters: [{name: k, cluster: {" SERVER "}}]\n",
		 PATH, AT(server), "https://10.0.0.1:6443"},
		{"---\n" USER("{token: a}") "---\nkind: Other\n", PATH, AT(token), "a"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct kube_access access = parse(rows[i].text, rows[i].path);
		const char *got = *(char **)((char *)&access + rows[i].at);

		if (!got != !rows[i].want || (got && strcmp(got, rows[i].want) != 0))
			fail_msg("row %zu: \"%s\" is not \"%s\"", i, got ? got : "nothing",
				 rows[i].want ? rows[i].want : "nothing");
		kube_access_done(&access);
	}
}

static void test_bool(void **state)
{
	static const struct {
		const char *text;
		bool want;
	} rows[] = {
		{CLUSTER("insecure-skip-tls-verify: true"), true},
		{CLUSTER("insecure-skip-tls-verify: True"), true},
		{CLUSTER("insecure-skip-tls-verify: on"), true},
		{CLUSTER("insecure-skip-tls-verify: false"), false},
		{CLUSTER("insecure-skip-tls-verify: off"), false},
		{CLUSTER("insecure-skip-tls-verify: "), false},
		{CLUSTER("insecure-skip-tls-verify: false, certificate-authority: a"), false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct kube_access access = parse(rows[i].text, PATH);

		assert_int_equal(access.insecure, rows[i].want);
		kube_access_done(&access);
	}
}

#define V1 "client.authentication.k8s.io/v1"

static void test_exec(void **state)
{
	static const char *const args[] = {"--cluster", "7", ""};
	static const char *const env[] = {"A=b=c", "B="};
	struct kube_access access = parse(
		USER("{exec: {apiVersion: " V1 ", command: ./bin/get-token,\n"
		     "    args: [--cluster, 7, ''], env: [{name: A, value: b=c}, {name: B}],\n"
		     "    installHint: Install it., interactiveMode: IfAvailable,\n"
		     "    provideClusterInfo: true}}"),
		PATH);

	(void)state;
	assert_string_equal(access.exec.command, "/etc/k8s/./bin/get-token");
	assert_string_equal(access.exec.api_version, V1);
	assert_string_equal(access.exec.install_hint, "Install it.");
	assert_true(access.exec.provide_cluster_info);
	for (size_t i = 0; i < ARRAY_SIZE(args); i++)
		assert_string_equal(access.exec.args[i], args[i]);
	assert_null(access.exec.args[ARRAY_SIZE(args)]);
	for (size_t i = 0; i < ARRAY_SIZE(env); i++)
		assert_string_equal(access.exec.env[i], env[i]);
	assert_null(access.exec.env[ARRAY_SIZE(env)]);
	kube_access_done(&access);

	/* Found by PATH; nothing else given. */
	access = parse(USER("{exec: {apiVersion: " V1 "beta1, command: aws}}"), PATH);
	assert_string_equal(access.exec.command, "aws");
	assert_null(access.exec.install_hint);
	assert_false(access.exec.provide_cluster_info);
	assert_null(access.exec.args[0]);
	assert_null(access.exec.env[0]);
	kube_access_done(&access);
	access =
		parse(USER("{exec: {apiVersion: " V1 ", command: /bin/a, interactiveMode: Never}}"),
		      PATH);
	assert_string_equal(access.exec.command, "/bin/a");
	kube_access_done(&access);
}

/* Refused, in line @line, with @words. */
static const struct {
	const char *text;
	unsigned line; /* 0: of the whole file */
	const char *words;
} refused_rows[] = {
	{"", 0, "is empty"},
	{"# nothing\n", 0, "is empty"},
	{"---\n", 0, "is empty"},
	{"SECRET", 1, "not a kubeconfig"},
	{"[SECRET]", 1, "not a kubeconfig"},
	{"a: b\n\tSECRET: d\n", 2, ""},
	{"a: 'SECRET\n", 2, ""},
	{"a: b: c\n", 1, "mapping values"},
	{"\xff\xfe SECRET", 1, ""},
	{"a: *SECRET\n", 1, "undefined alias"},
	{"kind: Secret\n", 1, "kind is not Config"},
	{"apiVersion: v2\n", 1, "apiVersion is not v1"},
	{"kind: Config\n", 1, "has no current-context"},
	{"current-context: {a: SECRET}\n", 1, "current-context is not a text"},
	{"current-context: \"a\\0b\"\n", 1, "has a NUL"},
	{"kind: Config\ncurrent-context: c\n", 2, "context \"c\" is not among the contexts"},
	{"current-context: c\ncontexts: SECRET\n", 2, "contexts is not a list"},
	{"current-context: c\ncontexts:\n- name: c\n", 3, "context \"c\" has nothing"},
	{"current-context: c\ncontexts:\n- name: c\n  context: {user: u}\n", 4,
	 "context \"c\" has no cluster"},
	{"current-context: c\ncontexts:\n- name: c\n  context: {cluster: k, user: [SECRET]}\n"
	 "clusters: [{name: k, cluster: {server: s}}]\n",
	 4, "user is not a text"},
	{"current-context: c\ncontexts:\n- name: c\n  context: {cluster: k}\n", 4,
	 "cluster \"k\" is not among the clusters"},
	{"current-context: c\ncontexts:\n- name: c\n  context: {cluster: k, user: u}\n", 4,
	 "cluster \"k\" is not among the clusters"},
	{"current-context: c\ncontexts:\n- name: c\n  context: {cluster: k,\n"
	 "   user: u}\nclusters: [{name: k, cluster: {server: s}}]\n",
	 5, "user \"u\" is not among the users"},
	{"current-context: c\ncontexts:\n- {name: c, context: {}}\n- {name: c}\n", 4,
	 "two contexts named \"c\""},
	{"a: 1\nb: {SECRET: 1,\n SECRET: 2}\n", 3, "in the mapping already"},
	{"a: &x {b: SECRET}\nc:\n  <<: *x\n", 3, "merge keys"},
	{"? [SECRET]\n: 1\n", 1, "name is not a text"},
	{FILE_OF("{insecure-skip-tls-verify: true}", "{token: SECRET}"), 6,
	 "cluster \"k\" has no server"},
	{FILE_OF("{server: 'https:///'}", "{token: SECRET}"), 6, "server is not a URL"},
	{FILE_OF("{server: /}", "{token: SECRET}"), 6, "server is not a URL"},
	{FILE_OF("{server: 'https:///a'}", "{token: SECRET}"), 6, "server is not a URL"},
	{CLUSTER("insecure-skip-tls-verify: 'true'"), 6, "neither true nor false"},
	{CLUSTER("insecure-skip-tls-verify: SECRET"), 6, "neither true nor false"},
	{CLUSTER("insecure-skip-tls-verify: true, certificate-authority: a"), 6,
	 "cannot go together"},
	{CLUSTER("insecure-skip-tls-verify: true, certificate-authority-data: " PEM_BASE64), 6,
	 "cannot go together"},
	{CLUSTER("proxy-url: ftp://SECRET@h"), 6, "proxy-url is not a URL"},
	{CLUSTER("proxy-url: http://"), 6, "proxy-url is not a URL"},
	{CLUSTER("certificate-authority-data: 'SECRET!'"), 6, "is not base64"},
	{CLUSTER("certificate-authority-data: 'LS0tLS1CRUdJTiBYLS0tLS0'"), 6, "is not base64"},
	{CLUSTER("certificate-authority-data: 'LS0tLS1CRUdJTiBYLS0tLS==='"), 6, "is not base64"},
	{CLUSTER("certificate-authority-data: 'LS0t=LS1'"), 6, "is not base64"},
	{CLUSTER("certificate-authority-data: 'LS==LSLS'"), 6, "is not base64"},
	{CLUSTER("certificate-authority-data: 'LS======'"), 6, "is not base64"},
	{CLUSTER("certificate-authority-data: U0VDUkVU"), 6, "not of PEM"},
	{CLUSTER("certificate-authority-data: LS0tLS1CRUdJTiBYLS0tLS0A"), 6, "not of PEM"},
	{CLUSTER("certificate-authority-data: [SECRET]"), 6, "is not a text"},
	{CLUSTER("certificate-authority: {SECRET: a}"), 6, "is not a text"},
	{USER("{token: {SECRET: a}}"), 8, "token is not a text"},
	{USER("{token: SECRET, username: a}"), 8, "both a token and username or password"},
	{USER("{tokenFile: a, password: SECRET}"), 8, "both a token and username"},
	{USER("{client-certificate: a}"), 8, "no client-key"},
	{USER("{client-key-data: SECRETSECRET}"), 8, "client-key-data is base64, but"},
	{USER("{auth-provider: {name: gcp}}"), 8, "auth-provider: such plugins are gone"},
	{USER("{token: SECRET, as: somebody}"), 8, "acting as somebody else"},
	{USER("{token: SECRET, as-groups: [a]}"), 8, "acting as somebody else"},
	{USER("{token: SECRET, as-uid: a}"), 8, "acting as somebody else"},
	{USER("{token: SECRET, as-user-extra: {a: [b]}}"), 8, "acting as somebody else"},
	{USER("{exec: {apiVersion: " V1 ", interactiveMode: Never}}"), 8, "exec has no command"},
	{USER("{exec: {command: a}}"), 8, "apiVersion is neither"},
	{USER("{exec: {command: a, apiVersion: " V1 "alpha1}}"), 8, "apiVersion is neither"},
	{USER("{exec: {command: a, apiVersion: " V1 "}}"), 8, "needs interactiveMode"},
	{USER("{exec: {command: a, apiVersion: " V1 ", interactiveMode: Always}}"), 8, "is Always"},
	{USER("{exec: {command: a, apiVersion: " V1 ", interactiveMode: never}}"), 8,
	 "neither Never nor IfAvailable"},
	{USER("{exec: {command: a, apiVersion: " V1 "beta1, args: SECRET}}"), 8,
	 "args is not a list"},
	{USER("{exec: {command: a, apiVersion: " V1 "beta1, args: [[SECRET]]}}"), 8,
	 "element of exec.args is not a text"},
	{USER("{exec: {command: a, apiVersion: " V1 "beta1, env: {A: SECRET}}}"), 8,
	 "env is not a list"},
	{USER("{exec: {command: a, apiVersion: " V1 "beta1, env: [{value: SECRET}]}}"), 8,
	 "no proper name"},
	{USER("{exec: {command: a, apiVersion: " V1 "beta1, env: [{name: a=b, value: SECRET}]}}"),
	 8, "no proper name"},
	{USER("{exec: SECRET}"), 8, "exec has no command"},
	{USER("SECRET"), 8, "user \"u\" has nothing in it"},
};

/* And nothing that is secret is in the error. */
static void test_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(refused_rows); i++) {
		struct kube_access access = {.insecure = true};
		struct err err = {""};
		char line[50];

		if (kubeconfig_parse(refused_rows[i].text, strlen(refused_rows[i].text), PATH,
				     &access, &err) != -EINVAL)
			fail_msg("%s was taken", refused_rows[i].text);
		assert_true(access.insecure && !access.server);
		(void)snprintf(line, sizeof(line), PATH " line %u", refused_rows[i].line);
		if (!strstr(err.text, refused_rows[i].line ? line : PATH " ") ||
		    !strstr(err.text, refused_rows[i].words) || strstr(err.text, "SECRET"))
			fail_msg("%s: \"%s\", wanted line %u, \"%s\"", refused_rows[i].text,
				 err.text, refused_rows[i].line, refused_rows[i].words);
	}
}

static void test_limits(void **state)
{
	_cleanup_free_ char *text = mem_alloc(KUBECONFIG_MAX_BYTES + 2, 1);
	struct kube_access access;
	struct err err = {""};
	char *at = text;

	(void)state;
	memset(text, '\n', KUBECONFIG_MAX_BYTES + 1);
	assert_int_equal(kubeconfig_parse(text, KUBECONFIG_MAX_BYTES + 1, PATH, &access, &err),
			 -EINVAL);
	assert_non_null(strstr(err.text, "has more than 4194304 bytes"));
	for (int i = 0; i < 257; i++)
		at += sprintf(at, "k%d: 1\n", i);
	assert_int_equal(kubeconfig_parse(text, (size_t)(at - text), PATH, &access, &err), -EINVAL);
	assert_non_null(strstr(err.text, "more than 256 members"));
	/* Aliases that hold themselves are not followed. */
	at = stpcpy(text, USER("&x {token: a, b: *x, c: [*x, *x]}"));
	assert_int_equal(kubeconfig_parse(text, (size_t)(at - text), PATH, &access, &err), 0);
	kube_access_done(&access);
}

/* ---- in a pod ---- */

static const char *pod_host, *pod_port;

static char *pod_getenv(const char *name)
{
	const char *value = !strcmp(name, "KUBERNETES_SERVICE_HOST")   ? pod_host
			    : !strcmp(name, "KUBERNETES_SERVICE_PORT") ? pod_port
								       : "other";

	return (char *)(uintptr_t)value;
}

static void touch(const char *dir, const char *name)
{
	char path[100];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	(void)close(fd);
}

static void test_in_cluster(void **state)
{
	char dir[] = "/tmp/weft-test-XXXXXX", path[100];
	struct kube_access access;
	struct err err = {""};

	(void)state;
	assert_non_null(mkdtemp(dir));
	pod_host = "10.96.0.1";
	pod_port = "443";
	assert_int_equal(kubeconfig_in_cluster(pod_getenv, dir, &access, &err), -ENOENT);
	assert_non_null(strstr(err.text, "/token"));
	assert_non_null(strstr(err.text, "automountServiceAccountToken"));
	touch(dir, "token");
	assert_int_equal(kubeconfig_in_cluster(pod_getenv, dir, &access, &err), 0);
	assert_string_equal(access.server, "https://10.96.0.1:443");
	(void)snprintf(path, sizeof(path), "%s/token", dir);
	assert_string_equal(access.token_file, path);
	assert_null(access.ca_file);
	assert_string_equal(access.place, "the pod's environment");
	kube_access_done(&access);
	touch(dir, "ca.crt");
	pod_host = "fd00::1";
	pod_port = "6443";
	assert_int_equal(kubeconfig_in_cluster(pod_getenv, dir, &access, &err), 0);
	assert_string_equal(access.server, "https://[fd00::1]:6443");
	(void)unlink(path);
	(void)snprintf(path, sizeof(path), "%s/ca.crt", dir);
	assert_string_equal(access.ca_file, path);
	kube_access_done(&access);
	(void)unlink(path);
	(void)rmdir(dir);
}

static void test_no_pod(void **state)
{
	static const struct {
		const char *host, *port;
		int code;
	} rows[] = {
		{NULL, NULL, -ENOENT},          {"10.0.0.1", NULL, -ENOENT},
		{NULL, "443", -ENOENT},         {"", "443", -ENOENT},
		{"10.0.0.1", "", -ENOENT},      {"10.0.0.1", "0", -EINVAL},
		{"10.0.0.1", "65536", -EINVAL}, {"10.0.0.1", "tcp://10.0.0.1:443", -EINVAL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct kube_access access;
		struct err err = {""};

		pod_host = rows[i].host;
		pod_port = rows[i].port;
		assert_int_equal(kubeconfig_in_cluster(pod_getenv, "/", &access, &err),
				 rows[i].code);
		assert_non_null(strstr(err.text, "KUBERNETES_SERVICE_PORT"));
	}
}

/* ---- with the flags ---- */

/* As kube_access_find(); what it logs goes to @log. */
static struct kube_access find(const struct kube_settings *settings, char *log, size_t size)
{
	char path[] = "/tmp/weft-test-log-XXXXXX";
	const int fd = mkostemp(path, O_CLOEXEC), before = dup(STDERR_FILENO);
	struct kube_access access;
	struct err err = {""};
	ssize_t n;
	int r;

	assert_true(fd >= 0 && before >= 0);
	(void)unlink(path);
	(void)dup2(fd, STDERR_FILENO);
	r = kube_access_find(settings, &access, &err);
	(void)dup2(before, STDERR_FILENO);
	n = pread(fd, log, size - 1, 0);
	assert_true(n >= 0);
	log[n] = '\0';
	(void)close(before);
	(void)close(fd);
	if (r < 0)
		fail_msg("%s", err.text);
	return access;
}

/* Credentials go where nobody reads along, and a certificate that is not looked at is told. */
static void test_find(void **state)
{
	static const struct {
		const char *text, *api_url;
		const char *server, *log;
		bool sent;
	} rows[] = {
		{USER("{token: SECRET}"), "", "https://10.0.0.1:6443", "", true},
		{USER("{token: SECRET}"), "https://a/b/", "https://a/b", "", true},
		{USER("{token: SECRET}"), "http://a:SECRET@b", "http://a:SECRET@b", "without TLS",
		 false},
		{USER("{token: SECRET}"), "a:8080", "http://a:8080", "without TLS", false},
		{USER("{client-certificate: a, client-key: b, username: SECRET}"), "a", "https://a",
		 "", true},
		{FILE_OF("{server: 'http://a'}", "{tokenFile: SECRET}"), "", "http://a",
		 "without TLS", false},
		{FILE_OF("{server: 'http://a'}", "{username: SECRET}"), "", "http://a",
		 "without TLS", false},
		{FILE_OF("{server: 'HTTP://a'}",
			 "{exec: {command: SECRET, apiVersion: " V1 "beta1, args: [SECRET]}}"),
		 "", "HTTP://a", "without TLS", false},
		{FILE_OF("{server: 'http://a'}", "{}"), "", "http://a", "", false},
		{CLUSTER("insecure-skip-tls-verify: true"), "", "https://10.0.0.1:6443",
		 "(context c)): insecure-skip-tls-verify is set", true},
	};
	char path[] = "/tmp/weft-test-kubeconfig-XXXXXX", log[1024];
	const int fd = mkostemp(path, O_CLOEXEC);

	(void)state;
	assert_true(fd >= 0);
	(void)close(fd);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct kube_settings settings = {.kubeconfig_file = path,
						       .api_url = rows[i].api_url};
		struct kube_access access;
		bool sent;

		assert_int_equal(file_write_atomic(path, rows[i].text, 0600, NULL), 0);
		access = find(&settings, log, sizeof(log));
		sent = access.token || access.token_file || access.user || access.exec.command ||
		       access.exec.args;
		if (strcmp(access.server, rows[i].server) != 0 || sent != rows[i].sent ||
		    !strstr(log, rows[i].log) || !*log != !*rows[i].log || strstr(log, "SECRET"))
			fail_msg("row %zu: %s, %d, %s", i, access.server, sent, log);
		kube_access_done(&access);
	}
	(void)unlink(path);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_kubeadm), cmocka_unit_test(test_json),
		cmocka_unit_test(test_members), cmocka_unit_test(test_bool),
		cmocka_unit_test(test_exec),    cmocka_unit_test(test_refused),
		cmocka_unit_test(test_limits),  cmocka_unit_test(test_in_cluster),
		cmocka_unit_test(test_no_pod),  cmocka_unit_test(test_find),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
