/* SPDX-License-Identifier: Apache-2.0 */
/* tls.c - a client's side of TLS */
#include "io/tls.h"

#include <errno.h>

int tls_check(const struct tls_files *files, struct err *err)
{
	(void)files;
	(void)err;
	return 0;
}

int tls_bufferevent_new(struct loop *loop, const struct tls_files *files, const char *host,
			const char *alpn, struct bufferevent **ret_bev, struct err *err)
{
	(void)loop;
	(void)files;
	(void)host;
	(void)alpn;
	(void)ret_bev;
	return err_set(err, -ENOTSUP, "no TLS yet");
}

int tls_check_alpn(struct bufferevent *bev, const char *alpn, struct err *err)
{
	(void)bev;
	(void)alpn;
	(void)err;
	return 0;
}

int tls_explain(struct bufferevent *bev, struct err *err)
{
	(void)bev;
	(void)err;
	return 0;
}
