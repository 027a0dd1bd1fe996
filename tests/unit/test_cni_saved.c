/* SPDX-License-Identifier: Apache-2.0 */
/* test_cni_saved.c - the delegates' configs, kept for DEL, CHECK and GC */
#include "cni/saved.h"

#include "cni_site.h"

static json_t *config(const char *name)
{
	return json_pack("{s:s, s:s}", "name", name, "type", "bridge");
}

static void write_one(const char *container_id, const char *ifname, const char *name)
{
	_cleanup_json_ json_t *json = config(name);
	struct cni_error error;

	if (saved_write(site_path("a/data"), container_id, ifname, json, &error))
		fail_msg("%s", error.msg);
}

static int read_one(const char *container_id, const char *ifname, struct saved *ret_saved)
{
	struct cni_error error = {0};
	int r = saved_read(site_path("a/data"), container_id, ifname, ret_saved, &error);

	assert_non_null(ret_saved->path);
	assert_true(r >= 0 || *error.msg);
	if (r < 0)
		assert_int_equal(error.code, CNI_DECODING_FAILURE);
	return r;
}

static void test_round_trip(void **state)
{
	_cleanup_json_ json_t *json = config("n");
	_cleanup_saved_ struct saved saved = {0};
	struct cni_error error;
	struct stat st;

	(void)state;
	write_one("abc", "eth0", "n");
	assert_int_equal(stat(site_path("a/data"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(stat(site_path("a/data/abc"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_non_null(strstr(site_read("a/data/abc"), "\"weft\""));
	assert_int_equal(read_one("abc", "eth0", &saved), 1);
	assert_true(json_equal(saved.delegate, json));
	assert_string_equal(saved.container_id, "abc");
	assert_string_equal(saved.ifname, "eth0");
	assert_int_equal(saved_remove(&saved, &error), 0);
	assert_int_equal(saved_remove(&saved, &error), 0);
	assert_int_equal(site_count("a/data"), 0);
}

static void test_interfaces(void **state)
{
	struct saved saved;

	(void)state;
	assert_int_equal(read_one("abc", "eth0", &saved), 0);
	saved_done(&saved);
	write_one("abc", "eth0", "first");
	write_one("abc", "net1", "second");
	assert_true(site_has("a/data/abc:net1"));
	assert_int_equal(read_one("abc", "net1", &saved), 1);
	assert_string_equal(json_string_value(json_object_get(saved.delegate, "name")), "second");
	saved_done(&saved);
	/* That of eth0 is ours, and not for others. */
	assert_int_equal(read_one("abc", "net2", &saved), 0);
	assert_string_equal(saved.path, site_path("a/data/abc:net2"));
	saved_done(&saved);
	assert_int_equal(read_one("ab", "eth0", &saved), 0);
	saved_done(&saved);
}

static void test_of_the_original(void **state)
{
	static const char text[] = "{\"name\":\"n\",\"type\":\"bridge\"}";
	struct cni_error error;
	struct saved saved;

	(void)state;
	site_write("a/data/abc", 0600, text);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(read_one("abc", i ? "net7" : "eth0", &saved), 1);
		assert_null(saved.ifname);
		assert_string_equal(saved.container_id, "abc");
		assert_string_equal(saved.path, site_path("a/data/abc"));
		if (!i)
			saved_done(&saved);
	}
	/* Restored as it was. */
	site_write("a/data/abc", 0600, "{");
	assert_int_equal(saved_restore(&saved, &error), 0);
	assert_string_equal(site_read("a/data/abc"), text);
	saved_done(&saved);
}

static void test_restored(void **state)
{
	_cleanup_saved_ struct saved saved = {0};
	struct cni_error error;
	char before[256];

	(void)state;
	write_one("abc", "net1", "n");
	(void)snprintf(before, sizeof(before), "%s", site_read("a/data/abc:net1"));
	assert_int_equal(read_one("abc", "net1", &saved), 1);
	write_one("abc", "net1", "other");
	assert_int_equal(saved_restore(&saved, &error), 0);
	assert_string_equal(site_read("a/data/abc:net1"), before);
	assert_int_equal(site_count("a/data"), 1);
}

static void test_torn(void **state)
{
	static const char *const texts[] = {"", "{\"name\":", "[]", "\n", "{\"a\":1}x",
					    /* JSON, but no delegate's config */
					    "{}", "null", "{\"type\":7}", "{\"type\":null}",
					    "{\"type\":\"\"}", "{\"type\":\"../../evil\"}",
					    "{\"type\":\"..\"}", "{\"type\":\"flannel\"}"};
	struct cni_error error;
	struct saved saved;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		site_write("a/data/abc", 0600, texts[i]);
		assert_int_equal(read_one("abc", "eth0", &saved), -1);
		assert_null(saved.delegate);
		assert_int_equal(saved_remove(&saved, &error), 0);
		assert_false(site_has("a/data/abc"));
		saved_done(&saved);
		/* It is not in the way of another interface. */
		site_write("a/data/abc", 0600, texts[i]);
		assert_int_equal(read_one("abc", "net1", &saved), 0);
		saved_done(&saved);
	}
}

/* ADD was killed before the rename. */
static void test_killed_while_writing(void **state)
{
	static const struct timespec long_ago[2];
	struct cni_error error;
	struct saved saved;

	(void)state;
	site_write("a/data/.abc", 0600, "{\"na");
	site_write("a/data/.abc:net1", 0600, "{\"na");
	assert_int_equal(read_one("abc", "eth0", &saved), 0);
	assert_int_equal(saved_remove(&saved, &error), 0);
	saved_done(&saved);
	assert_false(site_has("a/data/.abc"));
	write_one("abc", "net1", "n");
	assert_false(site_has("a/data/.abc:net1"));

	/* Swept, but for one that is perhaps being written now. */
	site_write("a/data/.old", 0600, "{\"na");
	site_write("a/data/.new", 0600, "{\"na");
	site_write("a/data/visible", 0600, "{\"na");
	assert_int_equal(utimensat(AT_FDCWD, site_path("a/data/.old"), long_ago, 0), 0);
	assert_int_equal(utimensat(AT_FDCWD, site_path("a/data/visible"), long_ago, 0), 0);
	saved_sweep(site_path("a/data"));
	assert_false(site_has("a/data/.old"));
	assert_true(site_has("a/data/.new"));
	assert_true(site_has("a/data/visible"));
	saved_sweep(site_path("a/nowhere"));
}

static void test_errors(void **state)
{
	_cleanup_json_ json_t *json = config("n");
	struct cni_error error;
	struct saved saved;

	(void)state;
	site_write("file", 0600, "");
	assert_int_equal(saved_write(site_path("file"), "a", "eth0", json, &error), -1);
	assert_int_equal(error.code, CNI_IO_FAILURE);
	assert_non_null(strstr(error.msg, site_path("file")));
	assert_int_equal(saved_read(site_path("file"), "a", "eth0", &saved, &error), -1);
	assert_int_equal(error.code, CNI_IO_FAILURE);
	saved_done(&saved);
	/* Not through a link that somebody has put in the way. */
	assert_int_equal(mkdir(site_path("data"), 0700), 0);
	assert_int_equal(symlink(site_path("file"), site_path("data/.a")), 0);
	assert_int_equal(saved_write(site_path("data"), "a", "eth0", json, &error), -1);
	assert_string_equal(site_read("file"), "");
}

/* An id that is an id, and no name of a file with what goes around it. */
static void test_longest_names(void **state)
{
	_cleanup_json_ json_t *json = config("n");
	char id[NAME_MAX + 1];
	struct cni_error error;

	(void)state;
	memset(id, 'a', NAME_MAX);
	id[NAME_MAX] = '\0';
	assert_int_equal(mkdir(site_path("data"), 0700), 0);
	for (int i = 0; i < 2; i++) {
		const char *ifname = i ? "net1" : "eth0";
		struct saved saved;

		assert_int_equal(saved_write(site_path("data"), id, ifname, json, &error), -1);
		assert_int_equal(error.code, CNI_IO_FAILURE);
		/* DEL after that has nothing to do. */
		assert_int_equal(saved_read(site_path("data"), id, ifname, &saved, &error), 0);
		assert_int_equal(saved_remove(&saved, &error), 0);
		saved_done(&saved);
	}
	assert_int_equal(site_count("data"), 0);
}

struct seen {
	char text[256];
};

static void on_saved(const struct saved *saved, void *userdata)
{
	struct seen *seen = userdata;
	struct cni_error error;
	size_t n = strlen(seen->text);

	(void)snprintf(seen->text + n, sizeof(seen->text) - n, "%s %s, ", saved->container_id,
		       saved->ifname ? saved->ifname : "?");
	assert_int_equal(saved_remove(saved, &error), 0);
}

static void test_for_each(void **state)
{
	struct seen seen = {""};
	struct cni_error error;

	(void)state;
	assert_int_equal(saved_for_each(site_path("a/data"), "n", on_saved, &seen, &error), 0);
	write_one("abc", "eth0", "n");
	write_one("abc", "net1", "n");
	write_one("def", "eth0", "other");
	site_write("a/data/ghi", 0600, "{\"name\":\"n\",\"type\":\"x\"}");
	site_write("a/data/.jkl", 0600, "{\"name\":\"n\"}");
	site_write("a/data/mno", 0600, "{\"name\":7,\"type\":\"x\"}");
	site_write("a/data/torn", 0600, "{");
	assert_int_equal(mkdir(site_path("a/data/dir"), 0700), 0);
	assert_int_equal(saved_for_each(site_path("a/data"), "n", on_saved, &seen, &error), 0);
	assert_string_equal(seen.text, "abc eth0, abc net1, ghi ?, ");
	assert_int_equal(site_count("a/data"), 5);
	assert_int_equal(saved_for_each(site_path("a/data/torn"), "n", on_saved, &seen, &error),
			 -1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, site_setup, site_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_round_trip), TEST(test_interfaces),    TEST(test_of_the_original),
		TEST(test_restored),   TEST(test_torn),          TEST(test_killed_while_writing),
		TEST(test_errors),     TEST(test_longest_names), TEST(test_for_each),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
