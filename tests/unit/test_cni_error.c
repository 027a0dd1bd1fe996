/* SPDX-License-Identifier: Apache-2.0 */
/* test_cni_error.c - CNI's error object */
#include "cni/error.h"

#include "base/mem.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_no_utf8(void **state)
{
	static const char *const texts[][2] = {
		{"caf\xc3\xa9", "caf\xc3\xa9"},
		{"caf\xc3", "caf?"},
		{"\xff: no", "?: no"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct cni_error error, back;
		_cleanup_free_ char *text = NULL;

		(void)cni_fail(&error, 7, "%s", texts[i][0]);
		(void)snprintf(error.details, sizeof(error.details), "%s", texts[i][0]);
		text = cni_error_format(&error, "1.0.0");
		assert_int_equal(cni_error_parse(text, strlen(text), &back), 0);
		assert_int_equal(back.code, 7);
		assert_string_equal(back.msg, texts[i][1]);
		assert_string_equal(back.details, texts[i][1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_utf8),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
