/* SPDX-License-Identifier: Apache-2.0 */
/* test_json.c - objects and their members, as Go's encoding/json takes them */
#include "base/json.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static json_t *object_of(const char *text)
{
	json_t *obj = NULL;
	struct err err = {""};

	if (json_parse_object(text, strlen(text), "test", &obj, &err) != 0)
		fail_msg("%s: %s", text, err.text);
	return obj;
}

/* @text is refused with an error that holds @words. */
static void refused_one(const char *text, const char *words)
{
	json_t *obj = NULL;
	struct err err = {""};

	if (json_parse_object(text, strlen(text), "net-conf.json", &obj, &err) != -EINVAL)
		fail_msg("%s was taken", text);
	assert_null(obj);
	if (!strstr(err.text, words) || !strstr(err.text, "net-conf.json"))
		fail_msg("%s: \"%s\" lacks \"%s\"", text, err.text, words);
}

static void test_parse(void **state)
{
	_cleanup_json_ json_t *obj = NULL;

	(void)state;
	assert_int_equal(json_parse_object("{} ", 3, "test", &obj, NULL), 0);
	refused_one("", "line 1");
	refused_one("{\n\"a\": 1,\n  x}", "line 3, column 3");
	refused_one("{\"a\":1", "end of file");
	refused_one("{} {}", "end of file");
	refused_one("{\"a\":1,\"a\":2}", "duplicate");
	refused_one("{\"a\":\"\xff\"}", "byte 0xff");
	refused_one("{\"a\":99999999999999999999}", "too big");
	refused_one("[1]", "an array");
	refused_one("\"text\"", "a string");
	refused_one("null", "null");
	refused_one("17", "a number");
}

static void test_secret_stays(void **state)
{
	const char *text = "{\"PSK\" \"hunter2\"}";
	struct err err = {""};
	json_t *obj;

	(void)state;
	assert_int_equal(json_parse_object(text, strlen(text), "conf", &obj, &err), -EINVAL);
	assert_null(strstr(err.text, "hunter2"));
}

static void member_one(const char *text, const char *key, const char *want)
{
	_cleanup_json_ json_t *obj = object_of(text);
	json_t *member = json_member(obj, key);
	char buf[64];

	assert_string_equal(member ? json_brief(member, buf, sizeof(buf)) : "absent", want);
}

static void test_member(void **state)
{
	(void)state;
	member_one("{\"VNI\":1}", "VNI", "1");
	member_one("{\"vni\":1}", "VNI", "1");
	member_one("{\"vni\":1,\"VNI\":2}", "VNI", "2");
	member_one("{\"VNI\":2,\"vni\":1}", "VNI", "2");
	member_one("{\"vnI\":1,\"vni\":3}", "VNI", "1");
	member_one("{\"VNI\":null}", "VNI", "absent");
	member_one("{\"VNI\":null,\"vni\":1}", "VNI", "absent");
	member_one("{\"VNI2\":1,\"VN\":1}", "VNI", "absent");
	member_one("{}", "VNI", "absent");
	assert_null(json_member(NULL, "VNI"));
}

/* The member "Key" of @text as bool, int and string: what it becomes, or the
 * error's words. */
static void typed_one(const char *text, const char *as_bool, const char *as_int,
		      const char *as_string)
{
	_cleanup_json_ json_t *obj = object_of(text);
	const char *want[] = {as_bool, as_int, as_string}, *string = "kept";
	struct err err[3] = {{""}, {""}, {""}};
	char got[3][ERR_TEXT_MAX];
	int64_t number = -7;
	bool flag = false;
	int r[3];

	r[0] = json_member_bool(obj, "Key", &flag, &err[0]);
	r[1] = json_member_int(obj, "Key", -5, 4094, &number, &err[1]);
	r[2] = json_member_string(obj, "Key", &string, &err[2]);
	(void)snprintf(got[0], sizeof(got[0]), "%s", flag ? "true" : "false");
	(void)snprintf(got[1], sizeof(got[1]), "%d", (int)number);
	(void)snprintf(got[2], sizeof(got[2]), "%s", string);
	for (int i = 0; i < 3; i++) {
		const char *text_got = r[i] ? err[i].text : got[i];

		assert_true(r[i] == 0 || r[i] == -EINVAL);
		if (r[i] ? !strstr(text_got, want[i]) : strcmp(text_got, want[i]) != 0)
			fail_msg("%s: \"%s\", not \"%s\"", text, text_got, want[i]);
		if (r[i] && !strstr(text_got, "Key"))
			fail_msg("%s: \"%s\" does not name the key", text, text_got);
	}
}

static void test_typed(void **state)
{
	(void)state;
	typed_one("{}", "false", "-7", "kept");
	typed_one("{\"Key\":null}", "false", "-7", "kept");
	typed_one("{\"KEY\":true}", "true", "true is not a whole number", "true is not a string");
	typed_one("{\"Key\":false}", "false", "false is not", "false is not");
	typed_one("{\"Key\":1}", "1 is not true or false", "1", "1 is not");
	typed_one("{\"Key\":-5}", "-5 is not", "-5", "-5 is not");
	typed_one("{\"Key\":4094}", "4094 is not", "4094", "4094 is not");
	typed_one("{\"Key\":4095}", "is not", "4095 is not a whole number from -5 to 4094",
		  "is not");
	typed_one("{\"Key\":-6}", "is not", "-6 is not", "is not");
	typed_one("{\"Key\":1.0}", "is not", "1.0 is not", "is not");
	typed_one("{\"Key\":\"1\"}", "\"1\" is not", "\"1\" is not", "1");
	typed_one("{\"Key\":\"\"}", "is not", "is not", "");
	typed_one("{\"Key\":{\"a\":1}}", "{\"a\":1} is not", "is not", "is not");
	typed_one("{\"Key\":[]}", "[] is not", "is not", "is not");
}

static void brief_one(const char *value, size_t size, const char *want)
{
	_cleanup_json_ json_t *json = json_loads(value, JSON_DECODE_ANY, NULL);
	char buf[64];

	assert_string_equal(json_brief(json, buf, size), want);
}

static void test_brief(void **state)
{
	char buf[16];

	(void)state;
	brief_one("{ \"a\": [1, 2] }", 64, "{\"a\":[1,2]}");
	brief_one("\"0123456789\"", 13, "\"0123456789\"");
	brief_one("\"0123456789\"", 12, "\"0123456...");
	brief_one("\"\xc3\xa4\xc3\xa4\xc3\xa4\"", 8, "\"\xc3\xa4...");
	brief_one("\"\xc3\xa4\xc3\xa4\xc3\xa4\"", 7, "\"\xc3\xa4...");
	brief_one("\"0123456789\"", 3, "\"0");
	assert_string_equal(json_brief(NULL, buf, sizeof(buf)), "nothing");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse),  cmocka_unit_test(test_secret_stays),
		cmocka_unit_test(test_member), cmocka_unit_test(test_typed),
		cmocka_unit_test(test_brief),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
