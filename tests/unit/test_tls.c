/* SPDX-License-Identifier: Apache-2.0 */
/* test_tls.c - TLS with real servers (`openssl s_server`) and certificates made for it */
#include "io/tls.h"

#include "base/file.h"
#include "base/mem.h"
#include "io/dial.h"
#include "io/proxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/http.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cmocka.h>

#define TIMEOUT_MS 10000

static char dir[] = "/tmp/weft-test-tls.XXXXXX";

/* Two authorities, `ca` and `other`; servers and clients that they signed. */
static const char make_certs[] =
	"exec >log 2>&1; set -e; : >index\n"
	"printf '%s\\n' '[ca]' default_ca=d '[d]' database=index new_certs_dir=. "
	"default_md=sha256 rand_serial=yes policy=p unique_subject=no x509_extensions=e "
	"'[p]' commonName=optional '[e]' 'subjectAltName=$ENV::SAN' "
	"'extendedKeyUsage=$ENV::EKU' >ca.cnf\n"
	"new() { n=$1; shift; openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 "
	"-nodes -keyout $n.key -subj /CN=$n \"$@\"; }\n"
	"for a in ca other; do new $a -x509 -days 10 -out $a.pem; done\n"
	"sign() { new $1 -out $1.csr; SAN=$3 EKU=${6:-serverAuth,clientAuth} openssl ca "
	"-config ca.cnf -batch -notext -cert $2.pem -keyfile $2.key -in $1.csr -out $1.pem "
	"-startdate ${4}0101000000Z -enddate ${5}0101000000Z; }\n"
	"here=DNS:localhost,IP:127.0.0.1,IP:::1\n"
	"sign server ca $here 2020 2090\n"
	"sign stranger other $here 2020 2090\n"
	"sign expired ca $here 2020 2021\n"
	"sign future ca $here 2089 2090\n"
	"sign elsewhere ca DNS:etcd1.example,IP:10.0.0.1,IP:fd00::1 2020 2090\n"
	"sign nameless ca email:a@example 2020 2090\n"
	"sign client ca DNS:client 2020 2090\n"
	"sign clientonly ca $here 2020 2090 clientAuth\n"
	"sign late ca DNS:client 2020 2021\n"
	"sign unknown other DNS:client 2020 2090\n"
	"new self -x509 -days 10 -addext subjectAltName=$here -out self.pem\n"
	"openssl ec -in client.key -aes128 -passout pass:x -out locked.key\n"
	"openssl x509 -in expired.pem -out old-ca.pem\n"
	"cat other.pem ca.pem expired.pem >bundle.pem\n"
	"sed 's/^MI/MJ/' client.pem >damaged.pem; sed '3d' client.key >damaged.key\n"
	"echo text >text; : >empty; cat client.pem ca.pem >chain.pem\n";

static int run_here(const char *script)
{
	pid_t pid = fork();
	int status = -1;

	if (pid == 0) {
		if (chdir(dir) == 0)
			(void)execl("/bin/sh", "sh", "-c", script, NULL);
		_exit(127);
	}
	return waitpid(pid, &status, 0) == pid ? status : -1;
}

static int make_dir(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	if (run_here(make_certs) != 0)
		print_error("openssl (Debian: openssl) made no certificates: %s/log\n", dir);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	return run_here("rm -rf \"$PWD\"");
}

/* The path of @name in the directory; "" stays. From a ring, so that three can be used. */
static const char *at(const char *name)
{
	static char paths[4][128];
	static size_t next;
	char *path = paths[next++ % ARRAY_SIZE(paths)];

	(void)snprintf(path, sizeof(paths[0]), "%s%s%s", name ? dir : "", name ? "/" : "",
		       name ? name : "");
	return path;
}

/* -- servers --------------------------------------------------------------------------- */

struct server {
	pid_t pid;
	int in; /* it goes on as long as this is open */
	int out;
	uint16_t port;
};

/* `openssl s_server` with @options, listening. */
static void server_start(struct server *server, const char *options)
{
	int in[2], out[2];
	char command[512], line[64];
	FILE *file;

	(void)snprintf(command, sizeof(command), "exec openssl s_server %s 2>&1", options);
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	server->pid = fork();
	if (server->pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)dup2(in[0], 0);
		(void)dup2(out[1], 1);
		if (chdir(dir) == 0)
			(void)execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	assert_true(server->pid > 0);
	(void)close(in[0]);
	(void)close(out[1]);
	server->in = in[1];
	server->out = out[0];
	server->port = 0;
	file = fdopen(dup(out[0]), "r");
	assert_non_null(file);
	while (!server->port && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, "ACCEPT ", 7))
			server->port = (uint16_t)strtoul(strrchr(line, ':') + 1, NULL, 10);
	}
	(void)fclose(file);
	assert_int_not_equal(server->port, 0);
}

static void server_stop(const struct server *server)
{
	(void)kill(server->pid, SIGKILL);
	(void)waitpid(server->pid, NULL, 0);
	(void)close(server->in);
	(void)close(server->out);
}

/* -- clients --------------------------------------------------------------------------- */

struct client {
	struct loop *loop;
	struct bufferevent *bev;
	char why[ERR_TEXT_MAX];
	short event; /* after the handshake */
};

static void on_done(struct bufferevent *bev, const char *why, void *userdata)
{
	struct client *client = userdata;

	client->bev = bev;
	(void)snprintf(client->why, sizeof(client->why), "%s", why ? why : "");
	loop_exit(client->loop);
}

static void client_dial(struct client *client, const char *host, uint16_t port,
			const struct tls_files *files, const char *alpn, int64_t timeout_ms)
{
	struct endpoint endpoint = {.tls = true, .port = port};

	*client = (struct client){.loop = loop_new()};
	(void)snprintf(endpoint.host, sizeof(endpoint.host), "%s", host);
	(void)dial_new(client->loop, NULL, &endpoint, files, alpn, timeout_ms, on_done, client);
	loop_run(client->loop);
}

static void client_done(struct client *client)
{
	if (client->bev)
		bufferevent_free(client->bev);
	loop_free(client->loop);
}

static void on_event(struct bufferevent *bev, short what, void *userdata)
{
	struct client *client = userdata;
	struct err err = {""}, again = {""};

	client->event = what;
	if (tls_explain(bev, &err) < 0) {
		assert_int_equal(tls_explain(bev, &again), -EPROTO);
		assert_string_equal(err.text, again.text);
	}
	memcpy(client->why, err.text, sizeof(err.text));
	loop_exit(client->loop);
}

static void on_read(struct bufferevent *bev, void *userdata)
{
	struct client *client = userdata;

	(void)bev;
	loop_exit(client->loop);
}

/* -- tests ----------------------------------------------------------------------------- */

static bool has_libssl(void)
{
	char line[512];
	bool found = false;
	FILE *file = fopen("/proc/self/maps", "re");

	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		found = found || strstr(line, "libssl") || strstr(line, "libcrypto");
	(void)fclose(file);
	return found;
}

/* Runs first. */
static void test_loaded_when_needed(void **state)
{
	const struct tls_files none = {.ca = NULL}, ca = {.ca = at("ca.pem")};
	struct err err = {""};

	(void)state;
	assert_int_equal(tls_check(&none, NULL), 0);
	assert_false(has_libssl());
	if (tls_check(&ca, &err) < 0)
		fail_msg("%s", err.text);
	assert_true(has_libssl());
}

static void test_check(void **state)
{
	static const struct {
		const char *ca, *cert, *key;
		const char *says; /* NULL: all is well */
	} rows[] = {
		{NULL, NULL, NULL, NULL},
		{"ca.pem", NULL, NULL, NULL},
		{"bundle.pem", "client.pem", "client.key", NULL},
		{NULL, "client.pem", "client.key", NULL},
		{NULL, "chain.pem", "client.key", NULL},
		{"ca.pem", "client.pem", NULL, "a certificate without its key: "},
		{"ca.pem", NULL, "client.key", "a key without its certificate: "},
		{"no.pem", NULL, NULL, "/no.pem: No such file or directory"},
		{".", NULL, NULL, "is not a regular file"},
		{"text", NULL, NULL, "/text: no certificate in it (PEM)"},
		{"empty", NULL, NULL, "/empty: no certificate in it (PEM)"},
		{"ca.key", NULL, NULL, "/ca.key: no certificate in it (PEM), but a private key"},
		{"damaged.pem", NULL, NULL, "/damaged.pem: certificate 1 in it is damaged"},
		{"old-ca.pem", NULL, NULL,
		 "/old-ca.pem: the certificate of the authority has expired on 2021-01-01 00:00 "
		 "UTC"},
		{NULL, "no.pem", "client.key", "/no.pem: No such file or directory"},
		{NULL, "client.pem", "no.key", "/no.key: No such file or directory"},
		{NULL, "client.pem", "text", "/text: no private key in it (PEM)"},
		{NULL, "client.pem", "client.pem",
		 "/client.pem: no private key in it (PEM), but a certificate"},
		{NULL, "client.pem", "damaged.key", "/damaged.key: the private key is damaged"},
		{NULL, "client.pem", "locked.key",
		 "/locked.key: the private key is encrypted with a passphrase"},
		{NULL, "client.pem", "server.key",
		 "/server.key does not belong to the certificate"},
		{NULL, "late.pem", "late.key",
		 "/late.pem: the certificate has expired on 2021-01-01 00:00 UTC"},
		{NULL, "future.pem", "future.key",
		 "/future.pem: the certificate is not valid before 2089-01-01 00:00 UTC"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct tls_files files = {
			.ca = at(rows[i].ca), .cert = at(rows[i].cert), .key = at(rows[i].key)};
		struct err err = {""};
		int r = tls_check(&files, &err);

		if (!!rows[i].says != (r < 0) || (r < 0 && !strstr(err.text, rows[i].says)))
			fail_msg("row %zu: %d, says: %s", i, r, err.text);
	}
}

/* What the server gets wrong, or what the client asks too much. */
static void test_server_certificates(void **state)
{
	static const struct {
		const char *options; /* NULL: the same server as before */
		const char *host, *ca, *alpn;
		const char *says; /* "": all is well */
	} rows[] = {
		{"-accept 127.0.0.1:0 -alpn h2 -cert server.pem -key server.key", "127.0.0.1",
		 "ca.pem", "h2", ""},
		{NULL, "localhost", "ca.pem", "h2", ""},
		{NULL, "127.0.0.1", "bundle.pem", "h2", ""},
		{NULL, "127.0.0.1", "server.pem", "h2", ""},
		{NULL, "127.0.0.1", "other.pem", "h2",
		 "its certificate is signed by an authority that the CA file does not name (ca)"},
		{NULL, "127.0.0.1", NULL, "h2",
		 "its certificate is signed by an authority that this system does not know, and no "
		 "CA file is given (ca)"},
		{NULL, "127.0.0.1", "ca.pem", "http/1.1", "the server does not speak HTTP/1.1"},
		{NULL, "127.0.0.1", "no.pem", "h2", "No such file or directory"},
		{"-accept 127.0.0.1:0 -cert server.pem -key server.key -tls1_2", "127.0.0.1",
		 "ca.pem", "h2", "the server does not speak HTTP/2"},
		{NULL, "127.0.0.1", "ca.pem", "http/1.1", ""},
		{NULL, "127.0.0.1", "other.pem", "http/1.1",
		 "its certificate is signed by an authority that the CA file does not name (ca)"},
		{"-accept [::1]:0 -alpn h2 -cert server.pem -key server.key", "::1", "ca.pem", "h2",
		 ""},
		{"-accept 127.0.0.1:0 -alpn http/1.1 -cert server.pem -key server.key", "127.0.0.1",
		 "ca.pem", "h2", "the server does not speak HTTP/2"},
		{"-accept 127.0.0.1:0 -cert expired.pem -key expired.key", "127.0.0.1", "ca.pem",
		 "h2", "its certificate has expired on 2021-01-01 00:00 UTC"},
		{"-accept 127.0.0.1:0 -cert future.pem -key future.key", "127.0.0.1", "ca.pem",
		 "h2",
		 "its certificate is not valid before 2089-01-01 00:00 UTC (is this host's clock "
		 "right?)"},
		{"-accept 127.0.0.1:0 -cert elsewhere.pem -key elsewhere.key", "127.0.0.1",
		 "ca.pem", "h2",
		 "its certificate is made out to etcd1.example, 10.0.0.1, fd00::1, not to "
		 "127.0.0.1"},
		{NULL, "localhost", "ca.pem", "h2",
		 "its certificate is made out to etcd1.example, 10.0.0.1, fd00::1, not to "
		 "localhost"},
		{"-accept 127.0.0.1:0 -cert nameless.pem -key nameless.key", "127.0.0.1", "ca.pem",
		 "h2",
		 "its certificate is made out to no name or address (subjectAltName), not to "
		 "127.0.0.1"},
		{"-accept 127.0.0.1:0 -cert clientonly.pem -key clientonly.key", "127.0.0.1",
		 "ca.pem", "h2", "its certificate is not one for a server"},
		{"-accept 127.0.0.1:0 -cert self.pem -key self.key", "127.0.0.1", "ca.pem", "h2",
		 "its certificate is signed by itself, and the CA file does not hold it"},
		{NULL, "127.0.0.1", "self.pem", "http/1.1", ""},
		{"-accept 127.0.0.1:0 -cert server.pem -key server.key -tls1_1 -cipher "
		 "ALL:@SECLEVEL=0",
		 "127.0.0.1", "ca.pem", "h2", "the server does not speak TLS 1.2 or newer"},
	};
	struct server server = {0};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct tls_files files = {.ca = at(rows[i].ca)};
		struct client client;
		const char *why;

		if (rows[i].options) {
			if (server.pid)
				server_stop(&server);
			server_start(&server, rows[i].options);
		}
		client_dial(&client, rows[i].host, server.port, &files, rows[i].alpn, TIMEOUT_MS);
		/* A name's failures begin with the addresses tried. */
		why = strstr(client.why, rows[i].says);
		if (!why || (!*rows[i].says && *client.why))
			fail_msg("row %zu: says: %s", i, client.why);
		client_done(&client);
	}
	server_stop(&server);
}

/* The file's text; NULL stays. From a ring, so that three can be used. */
static const char *text_of(const char *name)
{
	static char texts[3][8192];
	static size_t next;
	_cleanup_free_ char *text = NULL;
	char *copy = texts[next++ % ARRAY_SIZE(texts)];
	size_t len;

	if (!name)
		return NULL;
	assert_int_equal(file_read(AT_FDCWD, at(name), 8191, &text, &len, NULL), 0);
	(void)stpcpy(copy, text);
	return copy;
}

/* What is text and not a file, comes before the file, and is not named by a path. */
static void test_check_text(void **state)
{
	static const struct {
		const char *ca, *cert, *key;
		const char *says; /* NULL: all is well */
	} rows[] = {
		{"ca.pem", NULL, NULL, NULL},
		{"bundle.pem", "client.pem", "client.key", NULL},
		{NULL, "client.pem", NULL,
		 "a certificate without its key: the client certificate data"},
		{NULL, NULL, "client.key", "a key without its certificate: the client key data"},
		{"text", NULL, NULL, "the CA data: no certificate in it (PEM)"},
		{"damaged.pem", NULL, NULL, "the CA data: certificate 1 in it is damaged"},
		{"old-ca.pem", NULL, NULL,
		 "the CA data: the certificate of the authority has expired"},
		{NULL, "client.key", "client.key",
		 "the client certificate data: no certificate in it (PEM), but a private key"},
		{NULL, "client.pem", "damaged.key",
		 "the client key data: the private key is damaged"},
		{NULL, "client.pem", "server.key",
		 "the private key in the client key data does not belong to the certificate in the "
		 "client certificate data"},
		{NULL, "late.pem", "late.key",
		 "the client certificate data: the certificate has expired on 2021-01-01"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct tls_files files = {.ca = rows[i].ca ? "/nowhere" : NULL,
						.cert = rows[i].cert ? "/nowhere" : NULL,
						.key = rows[i].key ? "/nowhere" : NULL,
						.ca_pem = text_of(rows[i].ca),
						.cert_pem = text_of(rows[i].cert),
						.key_pem = text_of(rows[i].key)};
		struct err err = {""};
		struct tls_files twin;
		int r;

		tls_files_copy(&files, &twin);
		r = tls_check(&twin, &err);
		tls_files_done(&twin);
		if (!!rows[i].says != (r < 0) || (r < 0 && !strstr(err.text, rows[i].says)))
			fail_msg("row %zu: %d, says: %s", i, r, err.text);
	}
	tls_files_copy(NULL, &(struct tls_files){.ca = NULL});
}

/* Another name than the host's, and no look at the certificate. */
static void test_names(void **state)
{
	static const struct {
		const char *ca, *name;
		bool insecure;
		const char *says;
	} rows[] = {
		{"ca.pem", NULL, false,
		 "is made out to etcd1.example, 10.0.0.1, fd00::1, not to 127.0.0.1"},
		{"ca.pem", "etcd1.example", false, ""},
		{"ca.pem", "fd00::1", false, ""},
		{"ca.pem", "etcd2.example", false, "not to etcd2.example"},
		{"other.pem", "etcd1.example", false,
		 "its certificate is signed by an authority that the CA data does not name (ca)"},
		{"other.pem", NULL, true, ""},
		{NULL, "etcd2.example", true, ""},
	};
	struct server server;

	(void)state;
	server_start(&server, "-accept 127.0.0.1:0 -cert elsewhere.pem -key elsewhere.key");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct tls_files files = {.ca_pem = text_of(rows[i].ca),
						.name = rows[i].name,
						.insecure = rows[i].insecure};
		struct client client;

		client_dial(&client, "127.0.0.1", server.port, &files, "http/1.1", TIMEOUT_MS);
		if (!strstr(client.why, rows[i].says) || (!*rows[i].says && *client.why))
			fail_msg("row %zu: says: %s", i, client.why);
		client_done(&client);
	}
	server_stop(&server);
	/* One that goes on only when it is asked for this name. */
	server_start(&server, "-accept 127.0.0.1:0 -cert elsewhere.pem -key elsewhere.key "
			      "-servername etcd1.example -servername_fatal -cert2 elsewhere.pem "
			      "-key2 elsewhere.key");
	for (int right = 0; right < 2; right++) {
		const struct tls_files files = {.name = right ? "etcd1.example" : "etcd2.example",
						.insecure = true};
		struct client client;

		client_dial(&client, "127.0.0.1", server.port, &files, "http/1.1", TIMEOUT_MS);
		assert_string_equal(client.why,
				    right ? "" : "the server has no certificate for this name");
		client_done(&client);
	}
	server_stop(&server);
}

/* The server wants to know who we are; with TLS 1.3 it complains after the handshake. */
static void test_client_certificates(void **state)
{
	static const char *const versions[] = {"-tls1_2", "-tls1_3"};
	static const struct {
		const char *cert, *key;
		const char *says[2]; /* TLS 1.2, 1.3 */
	} rows[] = {
		{"client.pem", "client.key", {"", ""}},
		{NULL,
		 NULL,
		 {"the server wants a client certificate, or accepts none of our ciphers",
		  "the server wants a client certificate"}},
		{"late.pem",
		 "late.key",
		 {"the server does not accept our client certificate: it has expired on 2021-01-01 "
		  "00:00 UTC",
		  "the server does not accept our client certificate: it has expired on 2021-01-01 "
		  "00:00 UTC"}},
		{"unknown.pem",
		 "unknown.key",
		 {"the server does not know the authority that signed our client certificate",
		  "the server does not know the authority that signed our client certificate"}},
	};

	(void)state;
	for (size_t v = 0; v < ARRAY_SIZE(versions); v++) {
		struct server server;
		char options[256];

		/* -rev answers each line with the line turned round. */
		(void)snprintf(options, sizeof(options),
			       "-accept 127.0.0.1:0 -alpn h2 -cert server.pem -key server.key "
			       "-CAfile ca.pem -verify_return_error -Verify 1 -rev %s",
			       versions[v]);
		server_start(&server, options);
		/* Nothing, a line, and more than fits into the socket. */
		for (size_t i = 0; i < 3 * ARRAY_SIZE(rows); i++) {
			static const char line[] = "ping\n";
			const size_t row = i % ARRAY_SIZE(rows), how = i / ARRAY_SIZE(rows);
			const struct tls_files files = {.ca = at("ca.pem"),
							.cert = at(rows[row].cert),
							.key = at(rows[row].key)};
			struct client client;

			client_dial(&client, "127.0.0.1", server.port, &files, "h2", TIMEOUT_MS);
			if (client.bev) {
				_cleanup_free_ char *much = mem_alloc(8 << 20, 1);

				bufferevent_setcb(client.bev, on_read, NULL, on_event, &client);
				if (how == 2 && row > 0)
					(void)bufferevent_write(client.bev, much, 8 << 20);
				else if (how > 0 || row == 0)
					(void)bufferevent_write(client.bev, line, 5);
				(void)bufferevent_enable(client.bev, EV_READ);
				loop_run(client.loop);
			}
			if (strcmp(client.why, rows[row].says[v]) != 0)
				fail_msg("%s, row %zu, way %zu: event %#x, says: %s", versions[v],
					 row, how, (unsigned)client.event, client.why);
			client_done(&client);
		}
		server_stop(&server);
	}
}

/* -- servers that speak no TLS --------------------------------------------------------- */

struct plain {
	int fd;
	const char *text; /* "": hangs up; "!": resets the connection; NULL: is silent */
	int client;
};

static void on_client(void *userdata)
{
	const struct linger reset = {.l_onoff = 1};
	struct plain *plain = userdata;

	plain->client = accept4(plain->fd, NULL, NULL, SOCK_CLOEXEC);
	assert_true(plain->client >= 0);
	if (!plain->text)
		return;
	if (!strcmp(plain->text, "!")) {
		(void)setsockopt(plain->client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
		(void)close(TAKE_FD(plain->client));
		return;
	}
	(void)!write(plain->client, plain->text, strlen(plain->text));
	(void)shutdown(plain->client, SHUT_WR);
}

static void test_no_tls(void **state)
{
	static const struct {
		const char *text, *says;
	} rows[] = {
		{"HTTP/1.1 400 Bad Request\r\n\r\n",
		 "the server speaks no TLS (http:// instead of https://?)"},
		{"", "the server closed the connection during the TLS handshake (does it speak "
		     "TLS?)"},
		{"!", "connection reset"},
		{NULL, "no answer to the TLS handshake within 0.3 s"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct sockaddr_in sin = {.sin_family = AF_INET,
					  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		struct plain plain = {.text = rows[i].text, .client = -1};
		const struct tls_files files = {.ca = at("ca.pem")};
		struct endpoint endpoint = {.tls = true, .host = "127.0.0.1"};
		socklen_t len = sizeof(sin);
		struct client client = {.loop = loop_new()};
		struct event *event;

		plain.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(bind(plain.fd, (const struct sockaddr *)&sin, len), 0);
		assert_int_equal(listen(plain.fd, 1), 0);
		assert_int_equal(getsockname(plain.fd, (struct sockaddr *)&sin, &len), 0);
		endpoint.port = ntohs(sin.sin_port);
		event = loop_fd_new(client.loop, plain.fd, on_client, &plain);
		(void)dial_new(client.loop, NULL, &endpoint, &files, "h2",
			       rows[i].text ? TIMEOUT_MS : 300, on_done, &client);
		loop_run(client.loop);
		assert_null(client.bev);
		assert_string_equal(client.why, rows[i].says);
		loop_event_free(event);
		(void)close(plain.fd);
		if (plain.client >= 0)
			(void)close(plain.client);
		client_done(&client);
	}
}

/* -- TLS in TLS ------------------------------------------------------------------------ */

/* A proxy over TLS: `openssl s_server` takes its TLS off; we are what is behind it. */
struct relay {
	struct loop *loop;
	struct server proxy;
	uint16_t target; /* that we go on to */
	int fd;          /* there; -1 before */
	struct event *on_proxy, *on_target;
	char asked[512];
	size_t n_asked;
};

static void pass(int from, int to, struct event **source)
{
	char data[16384];
	const ssize_t n = read(from, data, sizeof(data));

	if (n > 0) {
		assert_int_equal(write(to, data, (size_t)n), n);
		return;
	}
	loop_event_free(*source);
	*source = NULL;
}

static void on_from_target(void *userdata)
{
	struct relay *relay = userdata;

	pass(relay->fd, relay->proxy.in, &relay->on_target);
}

static void on_from_proxy(void *userdata)
{
	static const char ok[] = "HTTP/1.1 200 OK\r\n\r\n";
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct relay *relay = userdata;

	if (relay->fd >= 0) {
		pass(relay->proxy.out, relay->fd, &relay->on_proxy);
		return;
	}
	assert_true(relay->n_asked < sizeof(relay->asked) - 1);
	assert_int_equal(read(relay->proxy.out, relay->asked + relay->n_asked, 1), 1);
	if (!strstr(relay->asked, "\r\n\r\n") && ++relay->n_asked)
		return;
	relay->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	sin.sin_port = htons(relay->target);
	assert_int_equal(connect(relay->fd, (const struct sockaddr *)&sin, sizeof(sin)), 0);
	relay->on_target = loop_fd_new(relay->loop, relay->fd, on_from_target, relay);
	assert_int_equal(write(relay->proxy.in, ok, strlen(ok)), strlen(ok));
}

/* A port that was free a moment ago. */
static uint16_t free_port(void)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(sin);

	assert_int_equal(bind(fd, (const struct sockaddr *)&sin, len), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&sin, &len), 0);
	(void)close(fd);
	return ntohs(sin.sin_port);
}

/* It says nothing of its own with -quiet, not even that it listens: that is tried out. */
static void quiet_server_start(struct server *server)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	char options[256];
	int in[2], out[2], fd = -1;

	server->port = free_port();
	sin.sin_port = htons(server->port);
	(void)snprintf(options, sizeof(options),
		       "exec openssl s_server -quiet -accept 127.0.0.1:%u -cert server.pem -key "
		       "server.key 2>/dev/null",
		       server->port);
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	server->pid = fork();
	if (server->pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		(void)dup2(in[0], 0);
		(void)dup2(out[1], 1);
		if (chdir(dir) == 0)
			(void)execl("/bin/sh", "sh", "-c", options, NULL);
		_exit(127);
	}
	assert_true(server->pid > 0);
	(void)close(in[0]);
	(void)close(out[1]);
	server->in = in[1];
	server->out = out[0];
	for (int i = 0; i < 2000; i++) {
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (connect(fd, (const struct sockaddr *)&sin, sizeof(sin)) == 0)
			break;
		(void)close(TAKE_FD(fd));
		(void)usleep(5000);
	}
	assert_true(fd >= 0);
	(void)close(fd);
}

static void on_line(struct bufferevent *bev, void *userdata)
{
	struct client *client = userdata;
	char *line = evbuffer_readln(bufferevent_get_input(bev), NULL, EVBUFFER_EOL_LF);

	if (!line)
		return;
	(void)snprintf(client->why, sizeof(client->why), "%s", line);
	free(line);
	loop_exit(client->loop);
}

static void test_tls_proxy(void **state)
{
	static const struct {
		const char *ca;
		bool insecure;
		const char *says; /* at the end */
	} rows[] = {
		{"ca.pem", false, ""},
		{NULL, true, ""},
		{"bundle.pem", false, ""},
		{"other.pem", false,
		 "the proxy https://proxy.example: its certificate is signed by an authority that "
		 "the CA file does not name (ca)"},
	};
	struct server target;

	(void)state;
	server_start(&target, "-accept 127.0.0.1:0 -cert elsewhere.pem -key elsewhere.key -rev");
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct tls_files files = {.ca = at(rows[i].ca),
						.name = "etcd1.example",
						.insecure = rows[i].insecure};
		const struct endpoint endpoint = {.tls = true, .host = "10.0.0.1", .port = 6443};
		struct relay relay = {.target = target.port, .fd = -1};
		struct client client = {.loop = loop_new()};
		struct proxy proxy;

		quiet_server_start(&relay.proxy);
		relay.loop = client.loop;
		relay.on_proxy = loop_fd_new(client.loop, relay.proxy.out, on_from_proxy, &relay);
		assert_int_equal(proxy_parse("https://proxy.example", &proxy, NULL), 0);
		(void)stpcpy(proxy.endpoint.host, "127.0.0.1");
		proxy.endpoint.port = relay.proxy.port;
		(void)dial_new(client.loop, &proxy, &endpoint, &files, "http/1.1", TIMEOUT_MS,
			       on_done, &client);
		loop_run(client.loop);
		assert_string_equal(client.why, rows[i].says);
		if (client.bev) {
			assert_memory_equal(relay.asked, "CONNECT 10.0.0.1:6443 HTTP/1.1\r\n", 32);
			bufferevent_setcb(client.bev, on_line, NULL, on_event, &client);
			(void)bufferevent_enable(client.bev, EV_READ | EV_WRITE);
			(void)bufferevent_write(client.bev, "abc\n", 4);
			loop_run(client.loop);
			assert_string_equal(client.why, "cba");
		}
		loop_event_free(relay.on_proxy);
		loop_event_free(relay.on_target);
		client_done(&client);
		if (relay.fd >= 0)
			(void)close(relay.fd);
		server_stop(&relay.proxy);
	}
	server_stop(&target);
}

/* -- a user that connects by itself ----------------------------------------------------- */

struct http {
	struct loop *loop;
	int status;
};

static void on_http(struct evhttp_request *req, void *userdata)
{
	struct http *http = userdata;

	http->status = req ? evhttp_request_get_response_code(req) : -1;
	loop_exit(http->loop);
}

static int get(uint16_t port, const char *ca)
{
	const struct tls_files files = {.ca = at(ca)};
	struct http http = {.loop = loop_new()};
	struct evhttp_connection *connection;
	struct evhttp_request *req;
	struct bufferevent *bev;

	assert_int_equal(
		tls_bufferevent_new(http.loop, &files, "127.0.0.1", "http/1.1", NULL, &bev, NULL),
		0);
	connection = evhttp_connection_base_bufferevent_new(loop_base(http.loop), NULL, bev,
							    "127.0.0.1", port);
	assert_non_null(connection);
	req = evhttp_request_new(on_http, &http);
	assert_int_equal(evhttp_make_request(connection, req, EVHTTP_REQ_GET, "/"), 0);
	loop_run(http.loop);
	evhttp_connection_free(connection);
	loop_free(http.loop);
	return http.status;
}

static void test_evhttp(void **state)
{
	struct server server;

	(void)state;
	server_start(&server, "-accept 127.0.0.1:0 -cert server.pem -key server.key -www");
	assert_int_equal(get(server.port, "ca.pem"), HTTP_OK);
	assert_int_not_equal(get(server.port, "other.pem"), HTTP_OK);
	server_stop(&server);
	assert_int_not_equal(get(server.port, "ca.pem"), HTTP_OK);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_loaded_when_needed),
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_check_text),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_server_certificates),
		cmocka_unit_test(test_client_certificates),
		cmocka_unit_test(test_no_tls),
		cmocka_unit_test(test_tls_proxy),
		cmocka_unit_test(test_evhttp),
	};

	return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
