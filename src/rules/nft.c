/* SPDX-License-Identifier: Apache-2.0 */
/* nft.c - nftables by text */
#include "rules/nft.h"

#include "base/mem.h"

#include <errno.h>
#include <nftables/libnftables.h>
#include <stdio.h>

static void free_context(struct nft_ctx **nft)
{
	if (*nft)
		nft_ctx_free(*nft);
}

/* What there is not is told in words: of errno libnftables leaves whatever came last. */
static int complaint_code(const char *complaint)
{
	return strstr(complaint, strerror(ENOENT)) ? -ENOENT : -EINVAL;
}

static int run(const char *commands, unsigned output_flags, char **ret_text, struct err *err)
{
	_cleanup_(free_context) struct nft_ctx *nft = nft_ctx_new(NFT_CTX_DEFAULT);
	const char *complaint;

	if (!nft)
		return err_set(err, -ENOMEM, "libnftables cannot start");
	nft_ctx_output_set_flags(nft, output_flags);
	(void)nft_ctx_buffer_error(nft);
	(void)nft_ctx_buffer_output(nft);
	if (nft_run_cmd_from_buffer(nft, commands)) {
		complaint = nft_ctx_get_error_buffer(nft);
		return err_set(err, complaint_code(complaint), "nftables: %.*s",
			       (int)strcspn(complaint, "\n"), complaint);
	}
	if (ret_text)
		*ret_text = mem_strdup(nft_ctx_get_output_buffer(nft));
	return 0;
}

int nft_run(const char *commands, struct err *err)
{
	return run(commands, 0, NULL, err);
}

static int list(const char *object, unsigned output_flags, char **ret_text, struct err *err)
{
	char command[128];

	(void)snprintf(command, sizeof(command), "list %s\n", object);
	return run(command, output_flags, ret_text, err);
}

int nft_list(const char *object, char **ret_text, struct err *err)
{
	return list(object, NFT_CTX_OUTPUT_STATELESS | NFT_CTX_OUTPUT_TERSE, ret_text, err);
}

int nft_list_json(const char *object, char **ret_text, struct err *err)
{
	return list(object,
		    NFT_CTX_OUTPUT_JSON | NFT_CTX_OUTPUT_HANDLE | NFT_CTX_OUTPUT_STATELESS |
			    NFT_CTX_OUTPUT_TERSE,
		    ret_text, err);
}
