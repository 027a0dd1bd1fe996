/* SPDX-License-Identifier: Apache-2.0 */
/* test_host_local_twin.c - ours and the real host-local: the same answers, the same files
 *
 * Three directories see the same random steps: one those of the plugin, one ours, the third
 * now the one, now the other. Skipped where the plugin is not installed (Debian:
 * containernetworking-plugins).
 */
#include "cni/host_local.h"

#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>

#include <cmocka.h>

#define PLUGIN     "/usr/lib/cni/host-local"
#define STEPS      150
#define MANY       200
#define CONTAINERS 12
#define ANSWER_MAX 4096
#define NO_ADDRESS "none"

enum actor {
	REAL,
	OURS,
	MIXED,
	ACTOR_COUNT,
};

static const struct {
	const char *version, *ipam;
} configs[] = {
	{"1.0.0", "\"ranges\":[[{\"subnet\":\"10.5.52.0/28\"}]]"},
	{"0.4.0", "\"ranges\":[[{\"subnet\":\"10.5.52.0/24\",\"rangeStart\":\"10.5.52.250\","
		  "\"gateway\":\"10.5.52.252\"}]]"},
	{"1.0.0",
	 "\"ranges\":[[{\"subnet\":\"10.5.52.0/29\"},{\"subnet\":\"10.5.53.0/29\","
	 "\"rangeStart\":\"10.5.53.3\",\"rangeEnd\":\"10.5.53.7\",\"gateway\":\"10.5.53.5\"}],"
	 "[{\"subnet\":\"fc00:0:0:5::/64\"}]]"},
	{"0.3.1",
	 "\"ranges\":[[{\"subnet\":\"fc00:5::8/125\"}],[{\"subnet\":\"fd00:1:0:0:2:0:0:0/96\","
	 "\"gateway\":\"fd00:1::2:0:0:1\"}],[{\"subnet\":\"10.5.0.0/16\",\"rangeEnd\":"
	 "\"10.5.0.9\",\"rangeStart\":\"10.5.0.0\"}]]"},
	{"1.0.0", "\"subnet\":\"255.255.255.240/28\",\"rangeEnd\":\"255.255.255.255\",\"ranges\":"
		  "[[{\"subnet\":\"ffff:ffff:ffff:ffff:ffff:ffff:ffff:fff0/124\"}]]"},
};

static char dir[] = "/tmp/weft-test-host-local-XXXXXX";
static json_t *json[ACTOR_COUNT];
static struct host_local_conf conf[ACTOR_COUNT];

static const char *path_of(enum actor actor, const char *name)
{
	static char path[4][400];
	static unsigned n;
	char *p = path[n++ % ARRAY_SIZE(path)];

	(void)snprintf(p, sizeof(path[0]), "%s/%u%s", dir, (unsigned)actor, name);
	return p;
}

static int set_up(void **state)
{
	(void)state;
	memcpy(dir + sizeof(dir) - 7, "XXXXXX", 6);
	return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state)
{
	char command[64];

	(void)state;
	for (unsigned i = 0; i < ACTOR_COUNT; i++)
		json_decref(TAKE_PTR(json[i]));
	(void)snprintf(command, sizeof(command), "rm -r '%s'", dir);
	return system(command); /* NOLINT(cert-env33-c): our own directory */
}

static void configure(enum actor actor, const char *version, const char *ipam)
{
	struct cni_error error;
	struct err err;
	const char *why = "";
	char text[2048];

	(void)snprintf(text, sizeof(text),
		       "{\"cniVersion\":\"%s\",\"name\":\"net\",\"ipam\":{\"type\":\"host-local\","
		       "\"dataDir\":\"%s\",%s}}",
		       version, path_of(actor, ""), ipam);
	json_decref(json[actor]);
	json[actor] = NULL;
	if (json_parse_object(text, strlen(text), "test", &json[actor], &err) ||
	    host_local_conf_parse(json[actor], &conf[actor], &why, &error) != 1)
		fail_msg("%s: %s", text, why);
	if (file_write_atomic(path_of(actor, ".conf"), text, 0644, &err))
		fail_msg("%s", err.text);
}

/* ---- the two ---- */

/* The addresses of the plugin's answer as add_ours() tells them. */
static void read_answer(const char *path, char answer[ANSWER_MAX])
{
	_cleanup_json_ json_t *result = json_load_file(path, 0, NULL);
	const json_t *ips = json_object_get(result, "ips");
	size_t len = 0;

	for (size_t i = 0; i < json_array_size(ips); i++) {
		const json_t *one = json_array_get(ips, i);

		len += (size_t)snprintf(answer + len, ANSWER_MAX - len, "%s by %s; ",
					json_string_value(json_object_get(one, "address")),
					json_string_value(json_object_get(one, "gateway")));
	}
}

static int run_real(enum actor actor, const char *verb, const char *id, const char *ifname,
		    char answer[ANSWER_MAX])
{
	char command[1024], out[256];
	int status;

	(void)snprintf(out, sizeof(out), "%s/%s-%s.out", dir, id, ifname);
	(void)snprintf(command, sizeof(command),
		       "CNI_COMMAND=%s CNI_CONTAINERID=%s CNI_IFNAME=%s CNI_NETNS=/none CNI_PATH=/ "
		       "timeout 50 " PLUGIN " <'%s' >'%s'",
		       verb, id, ifname, path_of(actor, ".conf"), out);
	status = system(command); /* NOLINT(cert-env33-c): names and paths of our own */
	(void)snprintf(answer, ANSWER_MAX, "%s", NO_ADDRESS);
	if (!strcmp(verb, "ADD") && !status)
		read_answer(out, answer);
	return status ? -1 : 0;
}

static int add_ours(enum actor actor, const char *id, const char *ifname, char answer[ANSWER_MAX])
{
	struct cni_address address[HOST_LOCAL_SETS_MAX];
	struct cni_error error;
	char net[IP_NET_STRLEN], gateway[IP_STRLEN];
	size_t len = 0;

	(void)snprintf(answer, ANSWER_MAX, "%s", NO_ADDRESS);
	if (host_local_add(&conf[actor], id, ifname, address, &error))
		return -1;
	for (size_t i = 0; i < conf[actor].n_sets; i++)
		len += (size_t)snprintf(answer + len, ANSWER_MAX - len, "%s by %s; ",
					ip_net_format(&address[i].net, net),
					ip_format(&address[i].gateway, gateway));
	return 0;
}

static int run_ours(enum actor actor, const char *verb, const char *id, const char *ifname,
		    char answer[ANSWER_MAX])
{
	struct cni_error error;

	if (!strcmp(verb, "ADD"))
		return add_ours(actor, id, ifname, answer);
	(void)snprintf(answer, ANSWER_MAX, "%s", NO_ADDRESS);
	if (!strcmp(verb, "DEL"))
		return host_local_del(&conf[actor], id, ifname, &error);
	return host_local_check(&conf[actor], id, ifname, &error);
}

/* ---- the same ---- */

static int is_file(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/* "NAME: CONTENTS" of all files, sorted. Caller frees. */
static char *contents_of(enum actor actor)
{
	struct dirent **entries;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);
	int n = scandir(path_of(actor, "/net"), &entries, is_file, alphasort);

	assert_true(n >= 0);
	for (int i = 0; i < n; i++) {
		_cleanup_free_ char *file = NULL;
		char name[300];

		(void)snprintf(name, sizeof(name), "/net/%s", entries[i]->d_name);
		assert_int_equal(file_read(AT_FDCWD, path_of(actor, name), 1000, &file, NULL, NULL),
				 0);
		(void)fprintf(out, "%s: %s\n", entries[i]->d_name, file);
		free(entries[i]);
	}
	free(entries);
	(void)fclose(out);
	return text;
}

static void step(const char *verb, const char *id, const char *ifname, bool mixed_is_real)
{
	_cleanup_free_ char *files[ACTOR_COUNT] = {NULL};
	char answer[ACTOR_COUNT][ANSWER_MAX];
	int r[ACTOR_COUNT];

	for (unsigned i = 0; i < ACTOR_COUNT; i++) {
		bool real = i == REAL || (i == MIXED && mixed_is_real);

		r[i] = (real ? run_real : run_ours)(i, verb, id, ifname, answer[i]);
		files[i] = contents_of(i);
		if (r[i] != r[0] || strcmp(answer[i], answer[0]) != 0 ||
		    strcmp(files[i], files[0]) != 0)
			fail_msg("%s %s %s: the plugin: %d, %s, with\n%s\nactor %u: %d, %s, "
				 "with\n%s",
				 verb, id, ifname, r[0], answer[0], files[0], i, r[i], answer[i],
				 files[i]);
	}
	for (unsigned i = 1; i < ACTOR_COUNT; i++)
		free(files[i]);
}

static unsigned draw(unsigned *seed, unsigned n)
{
	*seed = *seed * 1103515245 + 12345;
	return (*seed >> 16) % n;
}

static void need_plugin(void)
{
	if (access(PLUGIN, X_OK)) {
		print_message("# skipped: there is no %s\n", PLUGIN);
		skip();
	}
}

static void test_same(void **state)
{
	static const char *const verbs[] = {"ADD", "ADD", "ADD", "DEL", "DEL", "CHECK"};
	unsigned seed = 1;

	(void)state;
	need_plugin();
	for (unsigned i = 0; i < STEPS; i++) {
		size_t config = i * ARRAY_SIZE(configs) / STEPS;
		const char *verb = verbs[draw(&seed, ARRAY_SIZE(verbs))];
		char id[16], ifname[8];

		for (unsigned a = 0; a < ACTOR_COUNT; a++)
			configure(a, configs[config].version, configs[config].ipam);
		(void)snprintf(id, sizeof(id), "c%u", draw(&seed, CONTAINERS));
		(void)snprintf(ifname, sizeof(ifname), "eth%u", draw(&seed, 5) / 4);
		if (i == 0)
			verb = "ADD"; /* the directory, which only the plugin makes for a DEL */
		if (!strcmp(verb, "CHECK") && strcmp(configs[config].version, "0.4.0") < 0)
			verb = "DEL"; /* there was no CHECK */
		step(verb, id, ifname, draw(&seed, 2));
	}
}

/* ---- at the same time ---- */

static int child(const char *verb, int i)
{
	char id[16], answer[ANSWER_MAX];

	(void)snprintf(id, sizeof(id), "c%d", i);
	/* Who gives and who takes back are different ones half the time. */
	return (i % 2 == (!strcmp(verb, "DEL") && i % 3 == 0) ? run_real : run_ours)(
		       MIXED, verb, id, "eth0", answer)
		       ? 1
		       : 0;
}

static void run_many(const char *verb)
{
	pid_t pid[MANY];
	int status;

	for (int i = 0; i < MANY; i++) {
		pid[i] = fork();
		assert_true(pid[i] >= 0);
		if (!pid[i])
			_exit(child(verb, i));
	}
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(waitpid(pid[i], &status, 0), pid[i]);
		assert_int_equal(status, 0);
	}
}

static size_t count_addresses(void)
{
	_cleanup_free_ char *text = contents_of(MIXED);
	size_t n = 0;

	for (const char *s = text; (s = strstr(s, "10.5.52.")); s++)
		n += s == text || s[-1] == '\n';
	return n;
}

static void test_parallel(void **state)
{
	(void)state;
	need_plugin();
	configure(MIXED, "1.0.0", "\"ranges\":[[{\"subnet\":\"10.5.52.0/24\"}]]");
	run_many("ADD");
	assert_int_equal(count_addresses(), MANY);
	run_many("CHECK");
	run_many("DEL");
	assert_int_equal(count_addresses(), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_same, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_parallel, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
