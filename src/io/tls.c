/* SPDX-License-Identifier: Apache-2.0 */
/* tls.c - a client's side of TLS
 *
 * Each bufferevent has an SSL_CTX of its own, made from the files as they are then. Why the
 * server's certificate was refused is put into words by the verify callback, where the
 * certificate at fault is at hand, and kept with the SSL (`struct verdict`). All other
 * failures are error codes that libevent collects until tls_explain() asks for them.
 *
 * With TLS 1.3 the handshake is over before the server has looked at our certificate: its
 * complaint is an alert that comes on the first read, or that is still unread when the first
 * write fails. That is why tls_explain() looks into the socket as well.
 */
#include "io/tls.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/openssl.h"
#include "net/ip.h"

#include <errno.h>
#include <event2/bufferevent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define FILE_MAX      (4u << 20) /* the system's list is 220 KB */
#define HOST_TEXT_MAX 256
#define NAMES_MAX     200
#define TIME_TEXT_MAX 32
#define ALERT(number) (SSL_AD_REASON_OFFSET + (number))

/* What tls_explain() has to know. */
struct verdict {
	char host[HOST_TEXT_MAX];
	bool has_ca, has_cert, is_h2;
	struct err why; /* "" as long as nothing went wrong */
};

static int verdict_index = -1; /* its place among the data that an SSL carries */

static bool is_given(const char *path)
{
	return path && *path;
}

/* -- certificates ---------------------------------------------------------------------- */

static void free_cert(void *cert)
{
	openssl.X509_free(cert);
}

static void cleanup_certs(OPENSSL_STACK **certs)
{
	openssl.OPENSSL_sk_pop_free(*certs, free_cert);
}
#define _cleanup_certs_ _cleanup_(cleanup_certs)

static void cleanup_key(EVP_PKEY **key)
{
	openssl.EVP_PKEY_free(*key);
}

static void cleanup_bio(BIO **bio)
{
	(void)openssl.BIO_free(*bio);
}

static void cleanup_context(SSL_CTX **ctx)
{
	if (*ctx)
		openssl.SSL_CTX_free(*ctx);
}

/* A file's text. It may be a private key, so nothing of it stays in memory. */
struct secret {
	char *text;
	size_t len;
};

static void cleanup_secret(struct secret *secret)
{
	if (secret->text)
		explicit_bzero(secret->text, secret->len);
	free(secret->text);
}

/* The last error of OpenSSL in this thread, in words; none is left. */
static const char *last_reason(int *ret_reason)
{
	unsigned long code, last = 0;
	const char *text;

	while ((code = openssl.ERR_get_error()) != 0)
		last = code;
	*ret_reason = ERR_GET_LIB(last) == ERR_LIB_PEM ? ERR_GET_REASON(last) : 0;
	text = openssl.ERR_reason_error_string(last);
	return text ? text : "unknown error";
}

static const char *format_time(const ASN1_TIME *at, char buf[TIME_TEXT_MAX])
{
	struct tm tm;

	if (openssl.ASN1_TIME_to_tm(at, &tm) != 1 ||
	    !strftime(buf, TIME_TEXT_MAX, "%Y-%m-%d %H:%M UTC", &tm))
		(void)snprintf(buf, TIME_TEXT_MAX, "an odd date");
	return buf;
}

/* Whether @cert, called @what in the error, is valid today. */
static int check_dates(const X509 *cert, const char *what, struct err *err)
{
	const ASN1_TIME *begin = openssl.X509_get0_notBefore(cert);
	const ASN1_TIME *end = openssl.X509_get0_notAfter(cert);
	char text[TIME_TEXT_MAX];

	if (openssl.X509_cmp_current_time(end) < 0)
		return err_set(err, -EKEYEXPIRED, "%s has expired on %s", what,
			       format_time(end, text));
	if (openssl.X509_cmp_current_time(begin) > 0)
		return err_set(err, -EKEYREJECTED,
			       "%s is not valid before %s (is this host's clock right?)", what,
			       format_time(begin, text));
	return 0;
}

/* All certificates in the PEM file @path, at least one. Caller frees. */
static int read_certs(const char *path, OPENSSL_STACK **ret_certs, struct err *err)
{
	_cleanup_(cleanup_secret) struct secret file = {.text = NULL};
	_cleanup_(cleanup_bio) BIO *bio = NULL;
	_cleanup_certs_ OPENSSL_STACK *certs = NULL;
	const char *why;
	int reason, r;
	X509 *cert;

	r = file_read(AT_FDCWD, path, FILE_MAX, &file.text, &file.len, err);
	if (r < 0)
		return r;
	openssl.ERR_clear_error();
	bio = openssl.BIO_new_mem_buf(file.text, (int)file.len);
	certs = openssl.OPENSSL_sk_new_null();
	while ((cert = openssl.PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
		(void)openssl.OPENSSL_sk_push(certs, cert);
	why = last_reason(&reason);
	if (reason != PEM_R_NO_START_LINE) /* which is how the end is told */
		return err_set(err, -EINVAL, "%s: certificate %d in it is damaged (%s)", path,
			       openssl.OPENSSL_sk_num(certs) + 1, why);
	if (openssl.OPENSSL_sk_num(certs) == 0)
		return err_set(err, -EINVAL, "%s: no certificate in it (PEM)%s", path,
			       strstr(file.text, "PRIVATE KEY") ? ", but a private key" : "");
	*ret_certs = TAKE_PTR(certs);
	return 0;
}

static X509 *cert_at(const OPENSSL_STACK *certs, int i)
{
	return openssl.OPENSSL_sk_value(certs, i);
}

/* Called for a passphrase, which nobody is there to type. */
static int refuse_passphrase(char *buf, int size, int writing, void *userdata)
{
	bool *asked = userdata;

	(void)buf;
	(void)size;
	(void)writing;
	*asked = true;
	return -1;
}

static int read_key(const char *path, EVP_PKEY **ret_key, struct err *err)
{
	_cleanup_(cleanup_secret) struct secret file = {.text = NULL};
	_cleanup_(cleanup_bio) BIO *bio = NULL;
	bool asked = false;
	const char *why;
	EVP_PKEY *key;
	int reason, r;

	r = file_read(AT_FDCWD, path, FILE_MAX, &file.text, &file.len, err);
	if (r < 0)
		return r;
	openssl.ERR_clear_error();
	bio = openssl.BIO_new_mem_buf(file.text, (int)file.len);
	key = openssl.PEM_read_bio_PrivateKey(bio, NULL, refuse_passphrase, &asked);
	why = last_reason(&reason);
	if (!key && asked)
		return err_set(err, -EINVAL,
			       "%s: the private key is encrypted with a passphrase, which cannot "
			       "be given: store it without one",
			       path);
	/* OpenSSL's decoders have many words for it. */
	if (!key && !strstr(file.text, "PRIVATE KEY-----"))
		return err_set(err, -EINVAL, "%s: no private key in it (PEM)%s", path,
			       strstr(file.text, "CERTIFICATE") ? ", but a certificate" : "");
	if (!key)
		return err_set(err, -EINVAL, "%s: the private key is damaged (%s)", path, why);
	*ret_key = key;
	return 0;
}

/* -- contexts -------------------------------------------------------------------------- */

static int add_authorities(SSL_CTX *ctx, const char *path, struct err *err)
{
	_cleanup_certs_ OPENSSL_STACK *certs = NULL;
	int r;

	if (!is_given(path)) {
		if (openssl.SSL_CTX_set_default_verify_paths(ctx) == 1)
			return 0;
		return err_set(err, -EIO, "the system's list of authorities cannot be used");
	}
	r = read_certs(path, &certs, err);
	for (int i = 0; r == 0 && i < openssl.OPENSSL_sk_num(certs); i++)
		(void)openssl.X509_STORE_add_cert(openssl.SSL_CTX_get_cert_store(ctx),
						  cert_at(certs, i));
	return r;
}

/* Our own certificate, the chain behind it in the same file, and its key. */
static int add_identity(SSL_CTX *ctx, const struct tls_files *files, struct err *err)
{
	_cleanup_certs_ OPENSSL_STACK *certs = NULL;
	_cleanup_(cleanup_key) EVP_PKEY *key = NULL;
	int r, reason;

	if (!is_given(files->cert))
		return 0;
	r = read_certs(files->cert, &certs, err);
	if (r == 0)
		r = read_key(files->key, &key, err);
	if (r < 0)
		return r;
	openssl.ERR_clear_error();
	if (openssl.X509_check_private_key(cert_at(certs, 0), key) != 1) {
		openssl.ERR_clear_error();
		return err_set(err, -EINVAL,
			       "the private key in %s does not belong to the certificate in %s",
			       files->key, files->cert);
	}
	for (int i = 1; i < openssl.OPENSSL_sk_num(certs); i++)
		(void)openssl.SSL_CTX_ctrl(ctx, SSL_CTRL_CHAIN_CERT, 1, cert_at(certs, i));
	if (openssl.SSL_CTX_use_certificate(ctx, cert_at(certs, 0)) != 1 ||
	    openssl.SSL_CTX_use_PrivateKey(ctx, key) != 1)
		return err_set(err, -EINVAL, "%s: cannot be used: %s", files->cert,
			       last_reason(&reason));
	return 0;
}

static int check_pair(const struct tls_files *files, struct err *err)
{
	if (is_given(files->cert) && !is_given(files->key))
		return err_set(err, -EINVAL, "a certificate without its key: %s", files->cert);
	if (is_given(files->key) && !is_given(files->cert))
		return err_set(err, -EINVAL, "a key without its certificate: %s", files->key);
	return 0;
}

static int context_new(const struct tls_files *files, SSL_CTX **ret_ctx, struct err *err)
{
	_cleanup_(cleanup_context) SSL_CTX *ctx = NULL;
	int r = check_pair(files, err);

	if (r < 0)
		return r;
	ctx = openssl.SSL_CTX_new(openssl.TLS_client_method());
	if (!ctx)
		return err_set(err, -ENOMEM, "TLS cannot be set up: %s", last_reason(&r));
	(void)openssl.SSL_CTX_ctrl(ctx, SSL_CTRL_SET_MIN_PROTO_VERSION, TLS1_2_VERSION, NULL);
	(void)openssl.SSL_CTX_ctrl(ctx, SSL_CTRL_MODE, SSL_MODE_RELEASE_BUFFERS, NULL);
	/* A server that hangs up without a farewell is an end like any other: HTTP tells
	 * whether the answer was complete. */
	(void)openssl.SSL_CTX_set_options(ctx, SSL_OP_IGNORE_UNEXPECTED_EOF);
	r = add_authorities(ctx, files->ca, err);
	if (r == 0)
		r = add_identity(ctx, files, err);
	if (r < 0)
		return r;
	*ret_ctx = TAKE_PTR(ctx);
	return 0;
}

/* A list of authorities may hold old ones, but not only. */
static int check_authority_dates(const char *path, struct err *err)
{
	_cleanup_certs_ OPENSSL_STACK *certs = NULL;
	int r;

	if (!is_given(path))
		return 0;
	r = read_certs(path, &certs, err);
	if (r < 0)
		return r;
	for (int i = 0; i < openssl.OPENSSL_sk_num(certs); i++)
		if (check_dates(cert_at(certs, i), "", NULL) == 0)
			return 0;
	r = check_dates(cert_at(certs, 0), "the certificate of the authority", err);
	return err_wrap(err, r, "%s", path);
}

static int check_identity_dates(const char *path, struct err *err)
{
	_cleanup_certs_ OPENSSL_STACK *certs = NULL;
	int r;

	if (!is_given(path))
		return 0;
	r = read_certs(path, &certs, err);
	if (r < 0)
		return r;
	r = check_dates(cert_at(certs, 0), "the certificate", err);
	return r < 0 ? err_wrap(err, r, "%s", path) : 0;
}

int tls_check(const struct tls_files *files, struct err *err)
{
	_cleanup_(cleanup_context) SSL_CTX *ctx = NULL;
	int r = check_pair(files, err);

	if (r < 0 || (!is_given(files->ca) && !is_given(files->cert)))
		return r;
	r = openssl_load(err);
	if (r == 0)
		r = context_new(files, &ctx, err);
	if (r == 0)
		r = check_authority_dates(files->ca, err);
	if (r == 0)
		r = check_identity_dates(files->cert, err);
	return r;
}

/* -- the server's certificate ---------------------------------------------------------- */

static void append(char names[NAMES_MAX], const char *name, size_t len)
{
	size_t n = strlen(names);

	(void)snprintf(names + n, NAMES_MAX - n, "%s%.*s", n ? ", " : "", (int)len, name);
}

/* The names and addresses that @cert is made out to. */
static const char *format_names(const X509 *cert, char names[NAMES_MAX])
{
	GENERAL_NAMES *list = openssl.X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	int n = list ? openssl.OPENSSL_sk_num((const OPENSSL_STACK *)list) : 0;

	*names = '\0';
	for (int i = 0; i < n; i++) {
		const GENERAL_NAME *name = openssl.OPENSSL_sk_value((const OPENSSL_STACK *)list, i);
		const uint8_t *data;
		char text[IP_STRLEN];
		struct ip ip;
		size_t len;

		if (name->type != GEN_DNS && name->type != GEN_IPADD)
			continue;
		data = openssl.ASN1_STRING_get0_data(name->d.ia5);
		len = (size_t)openssl.ASN1_STRING_length(name->d.ia5);
		if (name->type == GEN_DNS)
			append(names, (const char *)data, len);
		else if (ip_from_bytes(data, len, &ip) == 0)
			append(names, ip_format(&ip, text), IP_STRLEN);
	}
	openssl.GENERAL_NAMES_free(list);
	if (!*names)
		(void)snprintf(names, NAMES_MAX, "no name or address (subjectAltName)");
	return names;
}

static const char *format_issuer(const X509 *cert, char name[NAMES_MAX])
{
	if (openssl.X509_NAME_get_text_by_NID(openssl.X509_get_issuer_name(cert), NID_commonName,
					      name, NAMES_MAX) < 0)
		(void)snprintf(name, NAMES_MAX, "without a name");
	return name;
}

/* Why the chain was refused: the certificate at fault is at hand only now. */
static void explain_verify(struct verdict *verdict, const X509 *cert, int code, int depth)
{
	const char *const whose = depth ? "the certificate of its authority" : "its certificate";
	char text[NAMES_MAX];
	struct err *err = &verdict->why;

	switch (code) {
	case X509_V_ERR_CERT_HAS_EXPIRED:
	case X509_V_ERR_CERT_NOT_YET_VALID:
		if (check_dates(cert, whose, err) == 0)
			(void)err_set(err, -EPROTO, "%s has expired", whose);
		break;
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		(void)err_set(err, -EPROTO, "its certificate is made out to %s, not to %s",
			      format_names(cert, text), verdict->host);
		break;
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
		(void)err_set(err, -EPROTO, "its certificate is signed by itself, and %s",
			      verdict->has_ca ? "the CA file does not hold it"
					      : "no CA file is given that holds it");
		break;
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
		(void)err_set(
			err, -EPROTO, "its certificate is signed by an authority that %s (%s)",
			verdict->has_ca ? "the CA file does not name"
					: "this system does not know, and no CA file is given",
			format_issuer(cert, text));
		break;
	case X509_V_ERR_INVALID_PURPOSE:
		(void)err_set(err, -EPROTO, "%s is not one for %s", whose,
			      depth ? "an authority" : "a server");
		break;
	default:
		(void)err_set(err, -EPROTO, "%s: %s", whose,
			      openssl.X509_verify_cert_error_string(code));
		break;
	}
	log_clean(err->text);
}

static int on_verify(int ok, X509_STORE_CTX *store)
{
	const SSL *ssl;
	struct verdict *verdict;

	if (ok)
		return 1;
	ssl = openssl.X509_STORE_CTX_get_ex_data(store,
						 openssl.SSL_get_ex_data_X509_STORE_CTX_idx());
	verdict = openssl.SSL_get_ex_data(ssl, verdict_index);
	explain_verify(verdict, openssl.X509_STORE_CTX_get_current_cert(store),
		       openssl.X509_STORE_CTX_get_error(store),
		       openssl.X509_STORE_CTX_get_error_depth(store));
	return 0;
}

/* -- connections ----------------------------------------------------------------------- */

static void free_verdict(void *parent, void *verdict, CRYPTO_EX_DATA *data, int index, long argl,
			 void *argp)
{
	(void)parent;
	(void)data;
	(void)index;
	(void)argl;
	(void)argp;
	free(verdict);
}

static int set_verdict(SSL *ssl, const struct tls_files *files, const char *host, const char *alpn)
{
	struct verdict *verdict;
	size_t len;

	if (verdict_index < 0)
		verdict_index = openssl.CRYPTO_get_ex_new_index(CRYPTO_EX_INDEX_SSL, 0, NULL, NULL,
								NULL, free_verdict);
	verdict = mem_alloc(1, sizeof(*verdict));
	if (verdict_index < 0 || openssl.SSL_set_ex_data(ssl, verdict_index, verdict) != 1) {
		free(verdict);
		return -ENOMEM;
	}
	(void)snprintf(verdict->host, sizeof(verdict->host), "%s", host);
	/* Absolute in the name system; names in certificates have no dot at the end. */
	len = strlen(verdict->host);
	if (len && verdict->host[len - 1] == '.')
		verdict->host[len - 1] = '\0';
	verdict->has_ca = is_given(files->ca);
	verdict->has_cert = is_given(files->cert);
	verdict->is_h2 = !strcmp(alpn, "h2");
	return 0;
}

/* Whom we want to speak to, and what. */
static int set_peer(SSL *ssl, const struct verdict *verdict)
{
	X509_VERIFY_PARAM *param = openssl.SSL_get0_param(ssl);
	char host[HOST_TEXT_MAX];
	struct ip ip;

	/* As Go does for the original: an authority in the CA file is believed even when the
	 * one above it is not there. */
	(void)openssl.X509_VERIFY_PARAM_set_flags(param, X509_V_FLAG_PARTIAL_CHAIN);
	if (ip_parse(verdict->host, &ip) == 0)
		return openssl.X509_VERIFY_PARAM_set1_ip_asc(param, verdict->host);
	(void)snprintf(host, sizeof(host), "%s", verdict->host);
	return openssl.SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
				host) == 1 &&
	       openssl.X509_VERIFY_PARAM_set1_host(param, host, 0) == 1;
}

static void set_alpn(SSL_CTX *ctx, const char *alpn)
{
	uint8_t list[32];
	size_t len = strlen(alpn);

	if (!len || len >= sizeof(list))
		return;
	list[0] = (uint8_t)len;
	memcpy(list + 1, alpn, list[0]);
	(void)openssl.SSL_CTX_set_alpn_protos(ctx, list, (unsigned)len + 1);
}

int tls_bufferevent_new(struct loop *loop, const struct tls_files *files, const char *host,
			const char *alpn, struct bufferevent **ret_bev, struct err *err)
{
	_cleanup_(cleanup_context) SSL_CTX *ctx = NULL;
	struct bufferevent *bev = NULL;
	SSL *ssl;
	int r;

	r = openssl_load(err);
	if (r < 0)
		return r;
	r = context_new(files, &ctx, err);
	if (r < 0)
		return r;
	openssl.SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, on_verify);
	set_alpn(ctx, alpn);
	ssl = openssl.SSL_new(ctx);
	if (ssl && set_verdict(ssl, files, host, alpn) == 0 &&
	    set_peer(ssl, openssl.SSL_get_ex_data(ssl, verdict_index)))
		bev = openssl.bufferevent_openssl_socket_new(loop_base(loop), -1, ssl,
							     BUFFEREVENT_SSL_CONNECTING,
							     BEV_OPT_CLOSE_ON_FREE);
	openssl.ERR_clear_error();
	if (!bev) {
		openssl.SSL_free(ssl);
		return err_set(err, -ENOMEM, "TLS to %s cannot be set up", host);
	}
	*ret_bev = bev;
	return 0;
}

int tls_check_alpn(struct bufferevent *bev, const char *alpn, struct err *err)
{
	const uint8_t *selected;
	unsigned len;

	openssl.SSL_get0_alpn_selected(openssl.bufferevent_openssl_get_ssl(bev), &selected, &len);
	if (strcmp(alpn, "h2") != 0 || (len == 2 && !memcmp(selected, "h2", 2)))
		return 0;
	return err_set(err, -EPROTO, "the server does not speak HTTP/2");
}

/* -- failures -------------------------------------------------------------------------- */

/* What the server or OpenSSL says, in the words of an operator; NULL: not in the list. */
static const char *explain_reason(int reason, const struct verdict *verdict)
{
	switch (reason) {
	case SSL_R_WRONG_VERSION_NUMBER:
	case SSL_R_PACKET_LENGTH_TOO_LONG:
	case SSL_R_HTTP_REQUEST:
		return "the server speaks no TLS (http:// instead of https://?)";
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case ALERT(SSL_AD_PROTOCOL_VERSION):
		return "the server does not speak TLS 1.2 or newer";
	case ALERT(SSL_AD_HANDSHAKE_FAILURE):
		return verdict->has_cert
			       ? "the server accepts none of our ciphers, or not our certificate"
			       : "the server wants a client certificate, or accepts none of our "
				 "ciphers";
	case ALERT(SSL_AD_BAD_CERTIFICATE):
	case ALERT(SSL_AD_CERTIFICATE_REQUIRED):
	case ALERT(SSL_AD_CERTIFICATE_UNKNOWN):
	case ALERT(SSL_AD_UNSUPPORTED_CERTIFICATE):
	case ALERT(SSL_AD_ACCESS_DENIED):
		return verdict->has_cert ? "the server does not accept our client certificate"
					 : "the server wants a client certificate";
	case ALERT(SSL_AD_UNKNOWN_CA):
		return "the server does not know the authority that signed our client certificate";
	case ALERT(SSL_AD_CERTIFICATE_EXPIRED):
		return "the server says that our client certificate has expired";
	case ALERT(SSL_AD_CERTIFICATE_REVOKED):
		return "the server says that our client certificate is revoked";
	case ALERT(SSL_AD_UNRECOGNIZED_NAME):
		return "the server has no certificate for this name";
	case ALERT(SSL_AD_NO_APPLICATION_PROTOCOL):
		return verdict->is_h2 ? "the server does not speak HTTP/2"
				      : "the server does not speak HTTP/1.1";
	default:
		return NULL;
	}
}

/* The code of what went wrong first; 0: nothing did. */
static unsigned long find_error(struct bufferevent *bev, SSL *ssl)
{
	unsigned long code, first = 0;
	char byte;

	/* The newest comes first. Not TLS's own: libevent puts an SSL_ERROR_* among them,
	 * which has no library, and there may be an errno. */
	while ((code = openssl.bufferevent_get_openssl_error(bev)) != 0)
		if (ERR_GET_LIB(code) && !ERR_SYSTEM_ERROR(code))
			first = code;
	if (first || !openssl.SSL_is_init_finished(ssl))
		return first;
	/* An alert may lie unread behind a write that failed. */
	openssl.ERR_clear_error();
	(void)openssl.SSL_peek(ssl, &byte, 1);
	first = openssl.ERR_get_error();
	openssl.ERR_clear_error();
	return ERR_SYSTEM_ERROR(first) ? 0 : first;
}

int tls_explain(struct bufferevent *bev, struct err *err)
{
	SSL *ssl = openssl_is_loaded() ? openssl.bufferevent_openssl_get_ssl(bev) : NULL;
	struct verdict *verdict;
	const char *words;
	unsigned long code;

	if (!ssl)
		return 0;
	verdict = openssl.SSL_get_ex_data(ssl, verdict_index);
	if (!verdict->why.text[0]) {
		code = find_error(bev, ssl);
		if (!code)
			return 0;
		words = ERR_GET_LIB(code) == ERR_LIB_SSL
				? explain_reason(ERR_GET_REASON(code), verdict)
				: NULL;
		if (words)
			(void)err_set(&verdict->why, -EPROTO, "%s", words);
		else
			(void)err_set(&verdict->why, -EPROTO, "TLS failed: %s",
				      openssl.ERR_reason_error_string(code));
	}
	return err_set(err, -EPROTO, "%s", verdict->why.text);
}
