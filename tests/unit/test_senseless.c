/* SPDX-License-Identifier: Apache-2.0 */
#include "store/senseless.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <event2/event.h>

static size_t told;
static char told_names[1024];

static void tell(size_t n, const char *names, void *userdata)
{
	assert_ptr_equal(userdata, &told);
	told = n;
	(void)snprintf(told_names, sizeof(told_names), "%s", names);
}

/* The end of a quiet time. */
static void ring(const struct senseless *s)
{
	told = 0;
	event_active(s->timer, EV_TIMEOUT, 0);
	(void)event_base_loop(event_get_base(s->timer), EVLOOP_NONBLOCK);
}

static void test_first_at_once_rest_together(void **state)
{
	struct loop *loop = loop_new();
	struct senseless s;

	(void)state;
	senseless_init(&s, loop, tell, &told);
	assert_true(senseless_may_tell(&s, "a"));
	assert_false(senseless_may_tell(&s, "b"));
	assert_false(senseless_may_tell(&s, "c"));
	ring(&s);
	assert_int_equal(told, 2);
	assert_string_equal(told_names, "b, c");
	/* It was just logged: quiet again. */
	assert_false(senseless_may_tell(&s, "d"));
	ring(&s);
	assert_int_equal(told, 1);
	assert_string_equal(told_names, "d");
	ring(&s);
	assert_int_equal(told, 0);
	assert_true(senseless_may_tell(&s, "e"));
	senseless_done(&s);
	loop_free(loop);
}

static void test_too_many_names(void **state)
{
	struct loop *loop = loop_new();
	struct senseless s;

	(void)state;
	senseless_init(&s, loop, tell, &told);
	for (int i = 0; i < 5000; i++)
		assert_int_equal(senseless_may_tell(&s, "10.5.100.0-24"), i == 0);
	ring(&s);
	assert_int_equal(told, 4999);
	assert_int_equal(strlen(told_names), sizeof(s.names) - 1);
	assert_string_equal(told_names + sizeof(s.names) - 4, "...");
	senseless_done(&s);
	loop_free(loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_at_once_rest_together),
		cmocka_unit_test(test_too_many_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
