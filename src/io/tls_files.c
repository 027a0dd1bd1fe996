/* SPDX-License-Identifier: Apache-2.0 */
/* tls_files.c - certificates and keys from PEM files, checked, and what OpenSSL makes of them
 *
 * Files are read by us and only then parsed: the error is ours, nothing blocks, and of a
 * private key no copy stays in memory that OpenSSL does not need.
 */
#include "io/tls_internal.h"

#include "base/file.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define FILE_MAX      (4u << 20) /* the system's list is 220 KB */
#define TIME_TEXT_MAX 32

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

int tls_check_dates(const X509 *cert, const char *what, struct err *err)
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

/* Where PEM is to come from: a file, or a text that stands for it. */
struct source {
	const char *shown; /* "" : nothing is given */
	const char *path, *text;
};

static struct source source_of(const char *path, const char *text, const char *what)
{
	if (tls_is_given(text))
		return (struct source){.shown = what, .text = text};
	return (struct source){.shown = tls_is_given(path) ? path : "", .path = path};
}

static struct source source_of_ca(const struct tls_files *files)
{
	return source_of(files->ca, files->ca_pem, "the CA data");
}

static struct source source_of_cert(const struct tls_files *files)
{
	return source_of(files->cert, files->cert_pem, "the client certificate data");
}

static struct source source_of_key(const struct tls_files *files)
{
	return source_of(files->key, files->key_pem, "the client key data");
}

/* What is borrowed needs no wiping. */
static int read_source(const struct source *source, struct secret *file, const char **ret_text,
		       size_t *ret_len, struct err *err)
{
	int r;

	if (source->text) {
		*ret_text = source->text;
		*ret_len = strlen(source->text);
		return 0;
	}
	r = file_read(AT_FDCWD, source->path, FILE_MAX, &file->text, &file->len, err);
	if (r < 0)
		return r;
	*ret_text = file->text;
	*ret_len = file->len;
	return 0;
}

/* All certificates in @source, at least one. Caller frees. */
static int read_certs(const struct source *source, OPENSSL_STACK **ret_certs, struct err *err)
{
	_cleanup_(cleanup_secret) struct secret file = {.text = NULL};
	_cleanup_(cleanup_bio) BIO *bio = NULL;
	_cleanup_certs_ OPENSSL_STACK *certs = NULL;
	const char *why, *text;
	int reason, r;
	X509 *cert;
	size_t len;

	r = read_source(source, &file, &text, &len, err);
	if (r < 0)
		return r;
	openssl.ERR_clear_error();
	bio = openssl.BIO_new_mem_buf(text, (int)len);
	certs = openssl.OPENSSL_sk_new_null();
	while ((cert = openssl.PEM_read_bio_X509(bio, NULL, NULL, NULL)) != NULL)
		(void)openssl.OPENSSL_sk_push(certs, cert);
	why = last_reason(&reason);
	if (reason != PEM_R_NO_START_LINE) /* which is how the end is told */
		return err_set(err, -EINVAL, "%s: certificate %d in it is damaged (%s)",
			       source->shown, openssl.OPENSSL_sk_num(certs) + 1, why);
	if (openssl.OPENSSL_sk_num(certs) == 0)
		return err_set(err, -EINVAL, "%s: no certificate in it (PEM)%s", source->shown,
			       strstr(text, "PRIVATE KEY") ? ", but a private key" : "");
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

static int read_key(const struct source *source, EVP_PKEY **ret_key, struct err *err)
{
	_cleanup_(cleanup_secret) struct secret file = {.text = NULL};
	_cleanup_(cleanup_bio) BIO *bio = NULL;
	bool asked = false;
	const char *why, *text;
	EVP_PKEY *key;
	int reason, r;
	size_t len;

	r = read_source(source, &file, &text, &len, err);
	if (r < 0)
		return r;
	openssl.ERR_clear_error();
	bio = openssl.BIO_new_mem_buf(text, (int)len);
	key = openssl.PEM_read_bio_PrivateKey(bio, NULL, refuse_passphrase, &asked);
	why = last_reason(&reason);
	if (!key && asked)
		return err_set(err, -EINVAL,
			       "%s: the private key is encrypted with a passphrase, which cannot "
			       "be given: store it without one",
			       source->shown);
	/* OpenSSL's decoders have many words for it. */
	if (!key && !strstr(text, "PRIVATE KEY-----"))
		return err_set(err, -EINVAL, "%s: no private key in it (PEM)%s", source->shown,
			       strstr(text, "CERTIFICATE") ? ", but a certificate" : "");
	if (!key)
		return err_set(err, -EINVAL, "%s: the private key is damaged (%s)", source->shown,
			       why);
	*ret_key = key;
	return 0;
}

/* -- contexts -------------------------------------------------------------------------- */

static int add_authorities(SSL_CTX *ctx, const struct source *source, struct err *err)
{
	_cleanup_certs_ OPENSSL_STACK *certs = NULL;
	int r;

	if (!*source->shown) {
		if (openssl.SSL_CTX_set_default_verify_paths(ctx) == 1)
			return 0;
		return err_set(err, -EIO, "the system's list of authorities cannot be used");
	}
	r = read_certs(source, &certs, err);
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
	const struct source from = source_of_cert(files), key_from = source_of_key(files);
	int r, reason;

	if (!*from.shown)
		return 0;
	r = read_certs(&from, &certs, err);
	if (r == 0)
		r = read_key(&key_from, &key, err);
	if (r < 0)
		return r;
	openssl.ERR_clear_error();
	if (openssl.X509_check_private_key(cert_at(certs, 0), key) != 1) {
		openssl.ERR_clear_error();
		return err_set(err, -EINVAL,
			       "the private key in %s does not belong to the certificate in %s",
			       key_from.shown, from.shown);
	}
	for (int i = 1; i < openssl.OPENSSL_sk_num(certs); i++)
		(void)openssl.SSL_CTX_ctrl(ctx, SSL_CTRL_CHAIN_CERT, 1, cert_at(certs, i));
	if (openssl.SSL_CTX_use_certificate(ctx, cert_at(certs, 0)) != 1 ||
	    openssl.SSL_CTX_use_PrivateKey(ctx, key) != 1)
		return err_set(err, -EINVAL, "%s: cannot be used: %s", from.shown,
			       last_reason(&reason));
	return 0;
}

static int check_pair(const struct tls_files *files, struct err *err)
{
	const struct source cert = source_of_cert(files), key = source_of_key(files);

	if (*cert.shown && !*key.shown)
		return err_set(err, -EINVAL, "a certificate without its key: %s", cert.shown);
	if (*key.shown && !*cert.shown)
		return err_set(err, -EINVAL, "a key without its certificate: %s", key.shown);
	return 0;
}

int tls_context_new(const struct tls_files *files, SSL_CTX **ret_ctx, struct err *err)
{
	_cleanup_context_ SSL_CTX *ctx = NULL;
	const struct source ca = source_of_ca(files);
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
	/* Not even looked for where nothing is believed by them. */
	if (!files->insecure)
		r = add_authorities(ctx, &ca, err);
	if (r == 0)
		r = add_identity(ctx, files, err);
	if (r < 0)
		return r;
	*ret_ctx = TAKE_PTR(ctx);
	return 0;
}

/* Whether one of the first @n certificates in @source is valid today; of several that
 * are not, the first one is named, as @what. */
static int check_dates(const struct source *source, int n, const char *what, struct err *err)
{
	_cleanup_certs_ OPENSSL_STACK *certs = NULL;
	int r;

	if (!*source->shown)
		return 0;
	r = read_certs(source, &certs, err);
	if (r < 0)
		return r;
	for (int i = 0; i < n && i < openssl.OPENSSL_sk_num(certs); i++)
		if (tls_check_dates(cert_at(certs, i), "", NULL) == 0)
			return 0;
	r = tls_check_dates(cert_at(certs, 0), what, err);
	return r < 0 ? err_wrap(err, r, "%s", source->shown) : 0;
}

int tls_check(const struct tls_files *files, struct err *err)
{
	_cleanup_context_ SSL_CTX *ctx = NULL;
	const struct source ca = source_of_ca(files), cert = source_of_cert(files);
	int r = check_pair(files, err);

	if (r < 0 || (!*ca.shown && !*cert.shown))
		return r;
	r = openssl_load(err);
	if (r == 0)
		r = tls_context_new(files, &ctx, err);
	if (r == 0)
		/* A list of authorities may hold old ones, but not only. */
		r = check_dates(&ca, INT_MAX, "the certificate of the authority", err);
	if (r == 0)
		r = check_dates(&cert, 1, "the certificate", err);
	return r;
}

/* -- copies ---------------------------------------------------------------------------- */

static const char *copy(const char *text)
{
	return tls_is_given(text) ? mem_strdup(text) : NULL;
}

void tls_files_copy(const struct tls_files *files, struct tls_files *ret_copy)
{
	const struct tls_files none = {.ca = NULL};
	const struct tls_files *from = files ? files : &none;

	*ret_copy = (struct tls_files){
		.ca = copy(from->ca),
		.cert = copy(from->cert),
		.key = copy(from->key),
		.ca_pem = copy(from->ca_pem),
		.cert_pem = copy(from->cert_pem),
		.key_pem = copy(from->key_pem),
		.name = copy(from->name),
		.insecure = from->insecure,
	};
}

void tls_files_done(struct tls_files *copy)
{
	const char *const texts[] = {copy->ca,       copy->cert,    copy->key, copy->ca_pem,
				     copy->cert_pem, copy->key_pem, copy->name};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		mem_free_secret((char *)(uintptr_t)texts[i]); /* ours, of tls_files_copy() */
	*copy = (struct tls_files){.ca = NULL};
}
