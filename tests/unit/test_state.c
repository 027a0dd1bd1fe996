/* SPDX-License-Identifier: Apache-2.0 */
/* test_state.c - the state file: what is written is read, and nothing else is */
#include "store/state.h"

#include "base/file.h"
#include "base/mem.h"
#include "messages.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD                                                                                       \
	"weft-state 1\n"                                                                           \
	"store etcd http://192.0.2.1:2379 /coreos.com/network\n"                                   \
	"saved 2026-02-20T14:31:23Z\n"                                                             \
	"config \"/coreos.com/network/config\" \"{\\n\\t\\\"Network\\\": \\\"10.5.0.0/16\\\"}\"\n"
#define OWN                                                                                        \
	"own 10.5.1.0-24 "                                                                         \
	"{\"PublicIP\":\"192.0.2.1\",\"PublicIPv6\":null,\"BackendType\":\"host-gw\","             \
	"\"Expiration\":\"2026-02-21T14:31:23Z\"}\n"
#define PEER_2                                                                                     \
	"peer 10.5.2.0-24 "                                                                        \
	"{\"PublicIP\":\"192.0.2.2\",\"PublicIPv6\":null,\"BackendType\":\"vxlan\","               \
	"\"BackendData\":{\"VNI\":1,\"VtepMAC\":\"aa:bb:cc:dd:ee:02\"}}\n"
#define PEER_3                                                                                     \
	"peer 10.5.3.0-24&fc00:0:0:3::-64 "                                                        \
	"{\"PublicIP\":\"192.0.2.3\",\"PublicIPv6\":\"2001:db8::3\",\"BackendType\":\"host-gw\"}"  \
	"\n"
#define NODE_4                                                                                     \
	"node k8s-worker.4 10.5.4.0-24 "                                                           \
	"{\"PublicIP\":\"192.0.2.4\",\"PublicIPv6\":null,\"BackendType\":\"host-gw\"}\n"
#define PUBLIC "public-ip 203.0.113.9\npublic-ip 2001:db8::9\n"
#define WHOLE  HEAD OWN PUBLIC PEER_2 PEER_3 NODE_4 "end 3\n"

static void on_changed(const char *key, const struct lease *before, const struct lease *after,
		       void *userdata)
{
	(void)key;
	(void)before;
	(void)after;
	(void)userdata;
}

static void recall(const char *key, struct lease *lease, void *userdata)
{
	peers_recall(userdata, key, lease);
}

static FILE *stream_of(const char *text, size_t len)
{
	FILE *stream = fmemopen((char *)(uintptr_t)text, len, "r");

	assert_non_null(stream);
	return stream;
}

static char *text_of(const struct state *state, const struct peers *peers)
{
	char *text = NULL;
	size_t len;
	FILE *stream = open_memstream(&text, &len);

	assert_non_null(stream);
	state_write(stream, state, peers);
	assert_int_equal(fclose(stream), 0);
	assert_int_equal(strlen(text), len);
	return text;
}

static void test_round_trip(void **state)
{
	struct peers *peers = peers_new(on_changed, NULL);
	FILE *stream = stream_of(WHOLE, strlen(WHOLE));
	struct state s;
	struct err err;
	const struct lease *peer;
	char *text;

	(void)state;
	if (state_read(stream, &s, &err))
		fail_msg("%s", err.text);
	assert_string_equal(s.store, "etcd http://192.0.2.1:2379 /coreos.com/network");
	assert_int_equal(s.saved_s, 1771597883);
	assert_string_equal(s.place, "/coreos.com/network/config");
	assert_string_equal(s.config, "{\n\t\"Network\": \"10.5.0.0/16\"}");
	assert_int_equal(s.own.subnet[IP_V4].len, 24);
	assert_int_equal(s.own.expires_s, 1771597883 + 86400);
	assert_int_equal(s.public_ip[IP_V4].b[3], 9);
	assert_int_equal(s.n_peers, 3);

	assert_int_equal(state_read_peers(stream, recall, peers), 0);
	assert_int_equal(peers_count(peers), 3);
	assert_int_equal(peers_find(peers, "k8s-worker.4")->subnet[IP_V4].ip.b[2], 4);
	peer = peers_find(peers, "10.5.2.0-24");
	assert_string_equal(peer->backend_data[IP_V4],
			    "{\"VNI\":1,\"VtepMAC\":\"aa:bb:cc:dd:ee:02\"}");
	assert_int_equal(peers_find(peers, "10.5.3.0-24&fc00:0:0:3::-64")->subnet[IP_V6].len, 64);
	text = text_of(&s, peers);
	assert_string_equal(text, WHOLE);
	free(text);

	/* Without a lease, without peers, and what is no text. */
	lease_done(&s.own);
	memset(s.public_ip, 0, sizeof(s.public_ip));
	free(s.store);
	s.store = mem_strdup("two\nlines");
	free(s.place);
	s.place = mem_strdup("\xff");
	peers_free(peers);
	peers = peers_new(on_changed, NULL);
	text = text_of(&s, peers);
	assert_non_null(strstr(text, "\nstore two lines\n"));
	assert_non_null(strstr(text, "\nconfig \"\" \"{"));
	assert_non_null(strstr(text, "}\"\nend 0\n"));
	free(text);
	state_done(&s);
	state_done(&s);
	peers_free(peers);
	(void)fclose(stream);
}

/* Half of a file, down to one byte less, is none. */
static void test_torn(void **state)
{
	(void)state;
	for (size_t len = 1; len < strlen(WHOLE); len++) {
		FILE *stream = stream_of(WHOLE, len);
		struct state s;
		struct err err = {""};

		if (state_read(stream, &s, &err) != -EINVAL)
			fail_msg("%zu bytes are read", len);
		assert_int_not_equal(*err.text, '\0');
		(void)fclose(stream);
	}
}

static void test_damaged(void **state)
{
	static const struct {
		const char *text, *error;
	} cases[] = {
		{"weft-state 2\n", "first line"},
		{"{\"Network\":\"10.5.0.0/16\"}\n", "first line"},
		{"\n", "first line"},
		{HEAD "end 1\n", "not whole"},
		{HEAD "end 0\nend 0\n", "not whole"},
		{HEAD "end 0 \n", "not whole"},
		{HEAD "end\n", "not whole"},
		{HEAD "end 0\n\n", "not whole"},
		{HEAD OWN PEER_2 "end 2\n", "not whole"},
		{"weft-state 1\nend 0\n", "not whole"},
		{"weft-state 1\nstore a\nsaved yesterday\n", "line 3"},
		{"weft-state 1\nstore a\nstore b\n", "line 3"},
		{"weft-state 1\nconfig \"a\"\n", "line 2"},
		{"weft-state 1\nconfig \"a\" \"b\" \"c\"\n", "line 2"},
		{"weft-state 1\nconfig \"a\" {\"Network\":\"10.5.0.0/16\"}\n", "line 2"},
		{"weft-state 1\nconfig \"a\" \"b\n", "line 2"},
		{HEAD "config \"a\" \"b\"\n", "line 5"},
		{HEAD "own 10.5.1.0-24 {}\nend 0\n", "line 5"},
		{HEAD "own 10.5.1.0-24\nend 0\n", "line 5"},
		{HEAD "public-ip 203.0.113\nend 0\n", "line 5"},
		{HEAD
		 "own a-key-that-is-longer-than-any-key-of-a-lease-can-be-in-either-family-and-"
		 "in-both-of-them-together-whatever-they-are {}\nend 0\n",
		 "line 5"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		FILE *stream = stream_of(cases[i].text, strlen(cases[i].text));
		struct state s;
		struct err err = {""};

		if (state_read(stream, &s, &err) != -EINVAL || !strstr(err.text, cases[i].error))
			fail_msg("case %zu: %s", i, err.text);
		(void)fclose(stream);
	}
}

static void good_one(const char *text, size_t len, size_t n_peers, size_t unreadable)
{
	struct peers *peers = peers_new(on_changed, NULL);
	FILE *stream = stream_of(text, len);
	struct state s;
	struct err err;

	if (state_read(stream, &s, &err))
		fail_msg("%s", err.text);
	assert_int_equal(s.n_peers, n_peers + unreadable);
	assert_int_equal(state_read_peers(stream, recall, peers), unreadable);
	assert_int_equal(peers_count(peers), n_peers);
	state_done(&s);
	peers_free(peers);
	(void)fclose(stream);
}

static void test_tolerated(void **state)
{
	static const char later[] = HEAD "flavour vanilla\n\nownership x\n" PEER_2 "end 1\n";
	static const char bad_peers[] =
		HEAD PEER_2 "peer 10.5.9.0-24 {}\npeer 10.5.9.0-24\n"
			    "peer x {\"PublicIP\":\"192.0.2.4\"}\n" PEER_3 "end 5\n";

	(void)state;
	good_one(later, strlen(later), 1, 0);
	good_one(bad_peers, strlen(bad_peers), 2, 3);
}

/* The largest config passes, a line beyond all limits does not. */
static void test_limits(void **state)
{
	struct peers *peers = peers_new(on_changed, NULL);
	char *config = mem_alloc(NETCONF_MAX_BYTES + 1, 1), *text;
	struct state s = {.store = mem_strdup("s"), .place = mem_strdup("p"), .saved_s = 1};
	FILE *stream;
	struct err err;

	(void)state;
	memset(config, '\n', NETCONF_MAX_BYTES);
	s.config = config;
	text = text_of(&s, peers);
	state_done(&s);
	good_one(text, strlen(text), 0, 0);
	free(text);

	text = mem_alloc(STATE_LINE_MAX + 100, 1);
	memset(text, 'x', STATE_LINE_MAX + 99);
	memcpy(text, "weft-state 1\n", 13);
	stream = stream_of(text, STATE_LINE_MAX + 99);
	assert_int_equal(state_read(stream, &s, &err), -EINVAL);
	assert_non_null(strstr(err.text, "line 2 is too long"));
	(void)fclose(stream);
	free(text);
	peers_free(peers);
}

static void test_nul(void **state)
{
	static const char text[] = "weft-state 1\nstore a\0b\n";
	FILE *stream = stream_of(text, sizeof(text) - 1);
	struct state s;
	struct err err;

	(void)state;
	assert_int_equal(state_read(stream, &s, &err), -EINVAL);
	assert_non_null(strstr(err.text, "line 2"));
	(void)fclose(stream);
}

static void test_files(void **state)
{
	char dir[] = "/tmp/weft-state-XXXXXX", path[64], fifo[64];
	struct peers *peers = peers_new(on_changed, NULL);
	struct state s = {.store = mem_strdup("s"),
			  .place = mem_strdup("p"),
			  .config = mem_strdup("{}"),
			  .saved_s = 1};
	struct state again;
	struct stat st;
	FILE *stream;
	struct err err;

	(void)state;
	assert_non_null(mkdtemp(dir));
	(void)snprintf(path, sizeof(path), "%s/below/state", dir);
	(void)snprintf(fifo, sizeof(fifo), "%s/below/fifo", dir);
	assert_int_equal(state_open(path, &stream, &again, &err), -ENOENT);
	assert_int_equal(state_save(path, &s, peers, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(state_open(path, &stream, &again, &err), 0);
	state_done(&again);
	/* The stream stays on the file of before. */
	assert_int_equal(unlink(path), 0);
	rewind(stream);
	assert_int_equal(state_read(stream, &again, &err), 0);
	state_done(&again);
	(void)fclose(stream);

	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(state_open(fifo, &stream, &again, &err), -EINVAL);
	assert_int_equal(state_open(dir, &stream, &again, &err), -EINVAL);
	assert_int_equal(state_save("/dev/full/state", &s, peers, &err), -ENOTDIR);
	assert_int_equal(unlink(fifo), 0);
	assert_int_equal(rmdir(dirname(fifo)), 0);
	assert_int_equal(rmdir(dir), 0);
	state_done(&s);
	peers_free(peers);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_torn),
		cmocka_unit_test(test_damaged),    cmocka_unit_test(test_tolerated),
		cmocka_unit_test(test_limits),     cmocka_unit_test(test_nul),
		cmocka_unit_test(test_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
