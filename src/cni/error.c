/* SPDX-License-Identifier: Apache-2.0 */
/* error.c - CNI's error object */
#include "cni/error.h"

#include "base/json.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int(cni_fail)(struct cni_error *error, unsigned code, const char *fmt, ...)
{
	va_list ap;

	error->code = code;
	error->details[0] = '\0';
	va_start(ap, fmt);
	(void)vsnprintf(error->msg, sizeof(error->msg), fmt, ap);
	va_end(ap);
	return -1;
}

int(cni_fail_wrap)(struct cni_error *error, const char *fmt, ...)
{
	char context[ERR_TEXT_MAX], whole[2 * ERR_TEXT_MAX + 8];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(context, sizeof(context), fmt, ap);
	va_end(ap);
	(void)snprintf(whole, sizeof(whole), "%s: %s", context, error->msg);
	(void)snprintf(error->msg, sizeof(error->msg), "%.*s", (int)sizeof(error->msg) - 1, whole);
	return -1;
}

int cni_error_parse(const char *text, size_t len, struct cni_error *ret_error)
{
	_cleanup_json_ json_t *json = NULL;
	const char *msg = NULL, *details = "";
	int64_t code = 0;

	if (json_parse_object(text, len, "error", &json, NULL) ||
	    json_member_int(json, "code", 1, UINT32_MAX, &code, NULL) ||
	    json_member_string(json, "msg", &msg, NULL) ||
	    json_member_string(json, "details", &details, NULL) || !code || !msg)
		return -1;
	(void)cni_fail(ret_error, (unsigned)code, "%s", msg);
	(void)snprintf(ret_error->details, sizeof(ret_error->details), "%s", details);
	return 0;
}

char *cni_error_format(const struct cni_error *error, const char *cni_version)
{
	_cleanup_json_ json_t *json =
		json_pack("{s:s, s:I, s:s%}", "cniVersion", cni_version, "code",
			  (json_int_t)error->code, "msg", error->msg, strlen(error->msg));

	/* What a delegate has printed may have been cut inside a character. */
	if (!json)
		json = json_pack("{s:s, s:I, s:s}", "cniVersion", cni_version, "code",
				 (json_int_t)error->code, "msg", "the message is not UTF-8");
	if (error->details[0])
		(void)json_object_set_new(json, "details", json_string(error->details));
	return json_dumps(json, JSON_INDENT(4));
}
