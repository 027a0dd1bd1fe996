/* SPDX-License-Identifier: Apache-2.0 */
/* openssl.h - the functions of OpenSSL 3 and of libevent's glue, found at run time */
#pragma once

#include "base/err.h"

#include <event2/bufferevent_ssl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

/* X(library, function) */
#define OPENSSL_FUNCTIONS(X)                                                                       \
	X(CRYPTO, ASN1_STRING_get0_data)                                                           \
	X(CRYPTO, ASN1_STRING_length)                                                              \
	X(CRYPTO, ASN1_TIME_to_tm)                                                                 \
	X(CRYPTO, BIO_free)                                                                        \
	X(CRYPTO, BIO_new_mem_buf)                                                                 \
	X(CRYPTO, CRYPTO_get_ex_new_index)                                                         \
	X(CRYPTO, ERR_clear_error)                                                                 \
	X(CRYPTO, ERR_get_error)                                                                   \
	X(CRYPTO, ERR_reason_error_string)                                                         \
	X(CRYPTO, EVP_PKEY_free)                                                                   \
	X(CRYPTO, GENERAL_NAMES_free)                                                              \
	X(CRYPTO, OPENSSL_sk_new_null)                                                             \
	X(CRYPTO, OPENSSL_sk_num)                                                                  \
	X(CRYPTO, OPENSSL_sk_pop_free)                                                             \
	X(CRYPTO, OPENSSL_sk_push)                                                                 \
	X(CRYPTO, OPENSSL_sk_value)                                                                \
	X(CRYPTO, PEM_read_bio_PrivateKey)                                                         \
	X(CRYPTO, PEM_read_bio_X509)                                                               \
	X(CRYPTO, X509_NAME_get_text_by_NID)                                                       \
	X(CRYPTO, X509_STORE_CTX_get_current_cert)                                                 \
	X(CRYPTO, X509_STORE_CTX_get_error)                                                        \
	X(CRYPTO, X509_STORE_CTX_get_error_depth)                                                  \
	X(CRYPTO, X509_STORE_CTX_get_ex_data)                                                      \
	X(CRYPTO, X509_STORE_add_cert)                                                             \
	X(CRYPTO, X509_VERIFY_PARAM_set1_host)                                                     \
	X(CRYPTO, X509_VERIFY_PARAM_set1_ip_asc)                                                   \
	X(CRYPTO, X509_VERIFY_PARAM_set_flags)                                                     \
	X(CRYPTO, X509_check_private_key)                                                          \
	X(CRYPTO, X509_cmp_current_time)                                                           \
	X(CRYPTO, X509_free)                                                                       \
	X(CRYPTO, X509_get0_notAfter)                                                              \
	X(CRYPTO, X509_get0_notBefore)                                                             \
	X(CRYPTO, X509_get_ext_d2i)                                                                \
	X(CRYPTO, X509_get_issuer_name)                                                            \
	X(CRYPTO, X509_get_subject_name)                                                           \
	X(CRYPTO, X509_verify_cert_error_string)                                                   \
	X(SSL, SSL_CTX_ctrl)                                                                       \
	X(SSL, SSL_CTX_free)                                                                       \
	X(SSL, SSL_CTX_get_cert_store)                                                             \
	X(SSL, SSL_CTX_new)                                                                        \
	X(SSL, SSL_CTX_set_alpn_protos)                                                            \
	X(SSL, SSL_CTX_set_default_verify_paths)                                                   \
	X(SSL, SSL_CTX_set_options)                                                                \
	X(SSL, SSL_CTX_set_verify)                                                                 \
	X(SSL, SSL_CTX_use_PrivateKey)                                                             \
	X(SSL, SSL_CTX_use_certificate)                                                            \
	X(SSL, SSL_ctrl)                                                                           \
	X(SSL, SSL_free)                                                                           \
	X(SSL, SSL_get0_alpn_selected)                                                             \
	X(SSL, SSL_get0_param)                                                                     \
	X(SSL, SSL_get_certificate)                                                                \
	X(SSL, SSL_get_ex_data)                                                                    \
	X(SSL, SSL_get_ex_data_X509_STORE_CTX_idx)                                                 \
	X(SSL, SSL_is_init_finished)                                                               \
	X(SSL, SSL_new)                                                                            \
	X(SSL, SSL_peek)                                                                           \
	X(SSL, SSL_set_ex_data)                                                                    \
	X(SSL, TLS_client_method)                                                                  \
	X(EVENT, bufferevent_get_openssl_error)                                                    \
	X(EVENT, bufferevent_openssl_filter_new)                                                   \
	X(EVENT, bufferevent_openssl_get_ssl)                                                      \
	X(EVENT, bufferevent_openssl_socket_new)

/* They are called as openssl.SSL_new(...). */
struct openssl {
#define X(library, function) __typeof__(&(function)) function;
	OPENSSL_FUNCTIONS(X)
#undef X
};

/* All NULL until openssl_load() has succeeded once. */
extern struct openssl openssl;

/* Loads the libraries, once, for good. -ENOENT and an error that names what is missing and
 * the Debian package that has it. */
int openssl_load(struct err *err);
_Bool openssl_is_loaded(void);
