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

#include "base/log.h"
#include "base/mem.h"
#include "io/openssl.h"
#include "io/tls_internal.h"
#include "net/ip.h"

#include <errno.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define HOST_TEXT_MAX 256
#define NAMES_MAX     200
#define ALERT(number) (SSL_AD_REASON_OFFSET + (number))

/* What tls_explain() has to know. */
struct verdict {
	char host[HOST_TEXT_MAX];
	const char *ca; /* what it is called; NULL: none is given */
	bool has_cert, is_h2;
	struct err why; /* "" as long as nothing went wrong */
};

static int verdict_index = -1; /* its place among the data that an SSL carries */

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
		if (tls_check_dates(cert, whose, err) == 0)
			(void)err_set(err, -EPROTO, "%s has expired", whose);
		break;
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		(void)err_set(err, -EPROTO, "its certificate is made out to %s, not to %s",
			      format_names(cert, text), verdict->host);
		break;
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
		(void)err_set(err, -EPROTO, "its certificate is signed by itself, and %s%s",
			      verdict->ca ? verdict->ca : "no CA file is given that holds it",
			      verdict->ca ? " does not hold it" : "");
		break;
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_CERT_SIGNATURE_FAILURE:
		(void)err_set(err, -EPROTO,
			      "its certificate is signed by an authority that %s%s (%s)",
			      verdict->ca ? verdict->ca
					  : "this system does not know, and no CA file is given",
			      verdict->ca ? " does not name" : "", format_issuer(cert, text));
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
	(void)snprintf(verdict->host, sizeof(verdict->host), "%s",
		       tls_is_given(files->name) ? files->name : host);
	/* Absolute in the name system; names in certificates have no dot at the end. */
	len = strlen(verdict->host);
	if (len && verdict->host[len - 1] == '.')
		verdict->host[len - 1] = '\0';
	if (tls_is_given(files->ca_pem))
		verdict->ca = "the CA data";
	else if (tls_is_given(files->ca))
		verdict->ca = "the CA file";
	verdict->has_cert = tls_is_given(files->cert) || tls_is_given(files->cert_pem);
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

static struct bufferevent *put_on(struct loop *loop, struct bufferevent *under, SSL *ssl)
{
	struct bufferevent *bev;

	if (!under)
		return openssl.bufferevent_openssl_socket_new(loop_base(loop), -1, ssl,
							      BUFFEREVENT_SSL_CONNECTING,
							      BEV_OPT_CLOSE_ON_FREE);
	bev = openssl.bufferevent_openssl_filter_new(
		loop_base(loop), under, ssl, BUFFEREVENT_SSL_CONNECTING, BEV_OPT_CLOSE_ON_FREE);
	/* It begins to shake hands when it is told that it can write, of which one over TLS
	 * that has nothing to write says nothing. */
	if (bev)
		bufferevent_trigger(under, EV_WRITE, BEV_TRIG_DEFER_CALLBACKS);
	return bev;
}

int tls_bufferevent_new(struct loop *loop, const struct tls_files *files, const char *host,
			const char *alpn, struct bufferevent *under, struct bufferevent **ret_bev,
			struct err *err)
{
	_cleanup_context_ SSL_CTX *ctx = NULL;
	struct bufferevent *bev = NULL;
	SSL *ssl;
	int r;

	r = openssl_load(err);
	if (r < 0)
		return r;
	r = tls_context_new(files, &ctx, err);
	if (r < 0)
		return r;
	openssl.SSL_CTX_set_verify(ctx, files->insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER,
				   files->insecure ? NULL : on_verify);
	set_alpn(ctx, alpn);
	ssl = openssl.SSL_new(ctx);
	if (ssl && set_verdict(ssl, files, host, alpn) == 0 &&
	    set_peer(ssl, openssl.SSL_get_ex_data(ssl, verdict_index)))
		bev = put_on(loop, under, ssl);
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

static const char cert_refused[] = "the server does not accept our client certificate";

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
	case ALERT(SSL_AD_CERTIFICATE_EXPIRED):
		return verdict->has_cert ? cert_refused : "the server wants a client certificate";
	case ALERT(SSL_AD_UNKNOWN_CA):
		return "the server does not know the authority that signed our client certificate";
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

/* Puts @code into words. */
static void explain_code(SSL *ssl, struct verdict *verdict, unsigned long code)
{
	int reason = ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0;
	const char *words = explain_reason(reason, verdict);
	const char *text = openssl.ERR_reason_error_string(code);
	struct err *err = &verdict->why;

	if (!words)
		(void)err_set(err, -EPROTO, "TLS failed: %s", text ? text : "unknown error");
	/* Go's servers do not tell that it has expired. */
	else if (words == cert_refused &&
		 tls_check_dates(openssl.SSL_get_certificate(ssl), "it", err) < 0)
		(void)err_wrap(err, -EPROTO, "%s", words);
	else
		(void)err_set(err, -EPROTO, "%s", words);
}

int tls_explain(struct bufferevent *bev, struct err *err)
{
	SSL *ssl = openssl_is_loaded() ? openssl.bufferevent_openssl_get_ssl(bev) : NULL;
	struct verdict *verdict;
	unsigned long code;

	if (!ssl)
		return 0;
	verdict = openssl.SSL_get_ex_data(ssl, verdict_index);
	if (!verdict->why.text[0]) {
		code = find_error(bev, ssl);
		if (!code)
			return 0;
		explain_code(ssl, verdict, code);
	}
	return err_set(err, -EPROTO, "%s", verdict->why.text);
}
