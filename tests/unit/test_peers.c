/* SPDX-License-Identifier: Apache-2.0 */
/* test_peers.c - the peer table: changes, lists, and lists that are not believed */
#include "model/peers.h"

#include "base/mem.h"

#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* What the table told its owner: "+a" new, "~a" changed, "-a" gone. */
struct log {
	struct peers *peers;
	char text[4096];
	size_t calls;
};

static void on_changed(const char *key, const struct lease *before, const struct lease *after,
		       void *userdata)
{
	struct log *log = userdata;
	size_t n = strlen(log->text);

	assert_true(before || after);
	assert_false(before && after && lease_same_content(before, after));
	/* The table is already as it will be. */
	assert_ptr_equal(peers_find(log->peers, key), after);
	log->calls++;
	(void)snprintf(log->text + n, sizeof(log->text) - n, "%s%s%s", n ? " " : "",
		       !before  ? "+"
		       : !after ? "-"
				: "~",
		       key);
}

static int set_up(void **state)
{
	struct log *log = mem_alloc(1, sizeof(*log));

	log->peers = peers_new(on_changed, log);
	*state = log;
	return 0;
}

static int tear_down(void **state)
{
	struct log *log = *state;

	peers_free(log->peers);
	free(log);
	return 0;
}

/* The log since the last look is @want. */
static void told_one(struct log *log, const char *want)
{
	assert_string_equal(log->text, want);
	log->text[0] = '\0';
}

static struct lease lease_of(uint32_t public_ip, const char *data)
{
	struct lease lease = {.backend_type = "vxlan"};

	lease.public_ip[IP_V4] = ip_from_num(IP_V4, public_ip);
	lease.subnet[IP_V4] = (struct ip_net){ip_from_num(IP_V4, public_ip << 8), 24};
	lease.backend_data[IP_V4] = data ? mem_strdup(data) : NULL;
	return lease;
}

static void put(struct log *log, const char *key, uint32_t public_ip)
{
	struct lease lease = lease_of(public_ip, "{}"), empty = {0};

	peers_put(log->peers, key, &lease);
	assert_memory_equal(&lease, &empty, sizeof(lease));
}

/* A complete list of the one-letter peers in @names; a capital letter is only kept. */
static size_t list(struct log *log, const char *names)
{
	peers_list_begin(log->peers);
	for (; *names; names++) {
		char key[2] = {(char)(*names | 0x20), '\0'};

		if (*names & 0x20)
			put(log, key, (uint32_t)*names);
		else
			(void)peers_keep(log->peers, key);
	}
	return peers_list_end(log->peers);
}

/* The next list holds @names: @doubtful peers are doubted, the owner is told @told. */
static void list_one(struct log *log, const char *names, size_t doubtful, const char *told)
{
	assert_int_equal(list(log, names), doubtful);
	told_one(log, told);
}

static void collect(const char *key, const struct lease *lease, void *userdata)
{
	char *text = userdata;

	assert_true(ip_is_set(&lease->public_ip[IP_V4]));
	text[strlen(text)] = *key;
}

static void test_single_changes(void **state)
{
	struct log *log = *state;
	char names[16] = "";

	assert_int_equal(peers_count(log->peers), 0);
	assert_null(peers_find(log->peers, "a"));
	put(log, "a", 1);
	put(log, "b", 2);
	told_one(log, "+a +b");
	put(log, "a", 1);
	told_one(log, "");
	put(log, "a", 3);
	told_one(log, "~a");
	assert_int_equal(peers_count(log->peers), 2);
	peers_each(log->peers, collect, names);
	assert_int_equal(strlen(names), 2);
	peers_remove(log->peers, "b");
	peers_remove(log->peers, "b");
	peers_remove(log->peers, "c");
	told_one(log, "-b");
	assert_int_equal(peers_count(log->peers), 1);
	assert_non_null(peers_find(log->peers, "a"));
	assert_null(peers_find(log->peers, "b"));
	assert_false(peers_keep(log->peers, "b"));
	assert_true(peers_keep(log->peers, "a"));
	told_one(log, "");
}

static void test_what_is_stored(void **state)
{
	struct log *log = *state;
	struct lease lease = lease_of(7, "{\"VNI\":1}"), wanted = lease_of(7, "{\"VNI\":1}");
	const struct lease *found;

	lease.backend_data[IP_V6] = mem_strdup("{\"VNI\":2}");
	wanted.backend_data[IP_V6] = mem_strdup("{\"VNI\":2}");
	peers_put(log->peers, "a", &lease);
	found = peers_find(log->peers, "a");
	assert_true(lease_same_content(found, &wanted));
	told_one(log, "+a");
	/* Times change in place and silently. */
	lease = lease_copy(&wanted);
	lease.expires_s = 17;
	lease.deadline_ms = 18;
	peers_put(log->peers, "a", &lease);
	assert_ptr_equal(peers_find(log->peers, "a"), found);
	assert_int_equal(found->expires_s, 17);
	assert_int_equal(found->deadline_ms, 18);
	told_one(log, "");
	/* One family's data alone is a change. */
	lease = lease_copy(&wanted);
	free(TAKE_PTR(lease.backend_data[IP_V4]));
	peers_put(log->peers, "a", &lease);
	found = peers_find(log->peers, "a");
	assert_null(found->backend_data[IP_V4]);
	assert_string_equal(found->backend_data[IP_V6], "{\"VNI\":2}");
	assert_int_equal(found->expires_s, 0);
	told_one(log, "~a");
	lease_done(&wanted);
}

static void test_lists(void **state)
{
	struct log *log = *state;

	list_one(log, "abcd", 0, "+a +b +c +d");
	list_one(log, "abcd", 0, "");
	list_one(log, "ABCD", 0, "");
	list_one(log, "abC", 0, "-d");
	list_one(log, "abce", 0, "+e");
	list_one(log, "ab", 0, "-c -e"); /* half is not more than half */
	list_one(log, "AbX", 0, "");     /* X is not there and does not come in this way */
	assert_int_equal(peers_count(log->peers), 2);
}

static void test_confirmed(void **state)
{
	struct log *log = *state;

	list_one(log, "abcde", 0, "+a +b +c +d +e");
	list_one(log, "ab", 3, "");
	assert_int_equal(peers_count(log->peers), 5);
	list_one(log, "ab", 0, "-c -d -e");
	list_one(log, "", 2, "");
	list_one(log, "", 0, "-a -b");
	list_one(log, "", 0, "");
	list_one(log, "a", 0, "+a");
	list_one(log, "", 1, ""); /* a single peer is all there is */
	list_one(log, "a", 0, "");
	list_one(log, "", 1, "");
	list_one(log, "", 0, "-a");
}

static void test_recovered(void **state)
{
	struct log *log = *state;

	list_one(log, "abcde", 0, "+a +b +c +d +e");
	list_one(log, "", 5, "");
	list_one(log, "abcde", 0, "");
	list_one(log, "", 5, ""); /* an old doubt confirms nothing */
	list_one(log, "abcd", 0, "-e");
	list_one(log, "d", 3, "");
	list_one(log, "cd", 0, "-a -b"); /* c is back, the others are not */
}

/* Each doubtful peer needs two lists in a row of its own. */
static void test_other_half(void **state)
{
	struct log *log = *state;

	list_one(log, "abcdefgh", 0, "+a +b +c +d +e +f +g +h");
	list_one(log, "abc", 5, "");
	list_one(log, "d", 3, "-e -f -g -h"); /* of a to d now a, b, c: most of the rest */
	list_one(log, "d", 0, "-a -b -c");
	list_one(log, "abcd", 0, "+a +b +c");
	list_one(log, "", 4, "");
	list_one(log, "ab", 0, "-d -c");
	list_one(log, "abcdef", 0, "+c +d +e +f");
	list_one(log, "abc", 0, "-d -e -f");
	list_one(log, "a", 2, "");
	list_one(log, "b", 0, "-a -c"); /* c for good; a is one of two: an ordinary loss */
}

/* Newcomers are no sign that the others have left. */
static void test_newcomers_do_not_vote(void **state)
{
	struct log *log = *state;

	list_one(log, "abc", 0, "+a +b +c");
	list_one(log, "defghi", 3, "+d +e +f +g +h +i");
	list_one(log, "defghi", 0, "-a -b -c");
	list_one(log, "defghij", 0, "+j");
	/* The same through a change of all records, which are no newcomers. */
	peers_list_begin(log->peers);
	for (const char *s = "defghij"; *s; s++)
		put(log, (char[]){*s, '\0'}, 1000);
	assert_int_equal(peers_list_end(log->peers), 0);
	told_one(log, "~d ~e ~f ~g ~h ~i ~j");
	list_one(log, "", 7, "");
}

/* A list that breaks off removes nothing, and neither confirms nor forgets. */
static void test_broken_off(void **state)
{
	struct log *log = *state;

	list_one(log, "abcd", 0, "+a +b +c +d");
	peers_list_begin(log->peers);
	assert_true(peers_keep(log->peers, "a"));
	put(log, "e", 5);
	list_one(log, "abcd", 0, "+e -e");
	peers_list_begin(log->peers);
	list_one(log, "", 4, "");
	peers_list_begin(log->peers);
	peers_list_begin(log->peers);
	list_one(log, "", 0, "-a -b -c -d");
}

/* Whatever a suspect list lacks is doubted, were it a single peer. */
static void test_suspect(void **state)
{
	struct log *log = *state;

	list_one(log, "abcd", 0, "+a +b +c +d");
	peers_list_begin(log->peers);
	peers_list_suspect(log->peers);
	for (const char *s = "abc"; *s; s++)
		put(log, (char[]){*s, '\0'}, (uint32_t)*s);
	assert_int_equal(peers_list_end(log->peers), 1);
	told_one(log, "");
	list_one(log, "abc", 0, "-d");
	list_one(log, "ab", 0, "-c"); /* the suspicion was of that list alone */
	peers_list_begin(log->peers);
	peers_list_suspect(log->peers);
	assert_true(peers_keep(log->peers, "a") && peers_keep(log->peers, "b"));
	assert_int_equal(peers_list_end(log->peers), 0);
}

/* What happens between and during lists counts: seen is seen, gone is gone. */
static void test_changes_around_lists(void **state)
{
	struct log *log = *state;

	list_one(log, "abcd", 0, "+a +b +c +d");
	list_one(log, "", 4, "");
	put(log, "a", 'a');
	assert_true(peers_keep(log->peers, "b"));
	list_one(log, "", 2, "-c -d"); /* a and b were there in between: their first doubt */
	list_one(log, "", 0, "-a -b");
	list_one(log, "abcd", 0, "+a +b +c +d");
	put(log, "e", 'e');
	list_one(log, "abcd", 0, "+e -e");
	list_one(log, "abc", 0, "-d");
	list_one(log, "", 3, "");
	peers_remove(log->peers, "a");
	told_one(log, "-a");
	put(log, "a", 'a');
	list_one(log, "", 1, "+a -b -c"); /* a has come anew */
	peers_list_begin(log->peers);
	put(log, "x", 'x');
	peers_remove(log->peers, "x");
	put(log, "y", 'y');
	assert_int_equal(peers_list_end(log->peers), 0); /* a: doubted twice */
	told_one(log, "+x -x +y -a");
}

static void test_many(void **state)
{
	enum { PEERS = 50000, BYTES_MAX = 400 };
	struct log *log = *state;
	size_t before = mallinfo2().uordblks, used;
	char key[32];

	peers_list_begin(log->peers);
	for (uint32_t i = 1; i <= PEERS; i++) {
		struct lease lease = lease_of(i, "{\"VNI\":1,\"VtepMAC\":\"c6:d2:32:6f:8f:44\"}");

		(void)snprintf(key, sizeof(key), "10.%u.%u.0-24", i >> 8, i & 255);
		peers_put(log->peers, key, &lease);
	}
	assert_int_equal(peers_list_end(log->peers), 0);
	assert_int_equal(peers_count(log->peers), PEERS);
	used = (mallinfo2().uordblks - before) / PEERS;
	print_message("# %zu bytes a peer\n", used); /* 0 where a sanitizer allocates */
	assert_true(used < BYTES_MAX);
	assert_int_equal(log->calls, PEERS);
	peers_list_begin(log->peers);
	for (uint32_t i = 1; i <= PEERS; i++) {
		(void)snprintf(key, sizeof(key), "10.%u.%u.0-24", i >> 8, i & 255);
		if (i % 5)
			assert_true(peers_keep(log->peers, key));
	}
	assert_int_equal(peers_list_end(log->peers), 0);
	assert_int_equal(peers_count(log->peers), PEERS / 5 * 4);
	assert_int_equal(log->calls, PEERS + PEERS / 5);
	assert_int_equal(list(log, ""), PEERS / 5 * 4);
	assert_int_equal(peers_count(log->peers), PEERS / 5 * 4);
}

static void recall(struct log *log, const char *key, uint32_t public_ip)
{
	struct lease lease = lease_of(public_ip, "{}"), empty = {0};

	peers_recall(log->peers, key, &lease);
	assert_memory_equal(&lease, &empty, sizeof(lease));
}

/* What is remembered is like what was there before the first list, whether that one is
 * open already, has broken off or is to come. */
static void test_recall(void **state)
{
	struct log *log = *state;

	recall(log, "a", 1);
	recall(log, "b", 2);
	recall(log, "b", 3);
	told_one(log, "+a +b");
	assert_int_equal(ip_to_num(&peers_find(log->peers, "b")->public_ip[IP_V4]), 2);
	peers_list_begin(log->peers); /* breaks off */
	recall(log, "c", 3);
	told_one(log, "+c");

	peers_list_begin(log->peers);
	put(log, "a", 'a');
	put(log, "x", 'x');
	recall(log, "a", 1);
	recall(log, "d", 4);
	told_one(log, "~a +x +d");
	assert_int_equal(ip_to_num(&peers_find(log->peers, "a")->public_ip[IP_V4]), 'a');
	/* b, c and d of a, b, c and d are missing */
	assert_int_equal(peers_list_end(log->peers), 3);
	told_one(log, "");
	list_one(log, "axb", 0, "~b -c -d");
}

/* A list that lacks few of the remembered is believed. */
static void test_recall_few(void **state)
{
	struct log *log = *state;

	for (uint32_t i = 0; i < 4; i++)
		recall(log, (const char[]){(char)('a' + i), '\0'}, 'a' + i);
	told_one(log, "+a +b +c +d");
	list_one(log, "abc", 0, "-d");
}

static void test_observer(void **state)
{
	struct log *log = *state, other = {.peers = log->peers};

	peers_set_observer(log->peers, on_changed, &other);
	put(log, "a", 'a');
	put(log, "a", 'a');
	recall(log, "b", 'b');
	put(log, "a", 1);
	peers_remove(log->peers, "b");
	list_one(log, "aX", 0, "+a +b ~a -b ~a");
	told_one(&other, "+a +b ~a -b ~a");
	list_one(log, "", 1, "");
	list_one(log, "", 0, "-a");
	told_one(&other, "-a");
	peers_set_observer(log->peers, NULL, NULL);
	put(log, "a", 'a');
	told_one(&other, "");
}

static void test_free_null(void **state)
{
	(void)state;
	peers_free(NULL);
}

#define WITH_TABLE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_TABLE(test_single_changes),
		WITH_TABLE(test_what_is_stored),
		WITH_TABLE(test_lists),
		WITH_TABLE(test_confirmed),
		WITH_TABLE(test_recovered),
		WITH_TABLE(test_other_half),
		WITH_TABLE(test_newcomers_do_not_vote),
		WITH_TABLE(test_broken_off),
		WITH_TABLE(test_suspect),
		WITH_TABLE(test_changes_around_lists),
		WITH_TABLE(test_recall),
		WITH_TABLE(test_recall_few),
		WITH_TABLE(test_observer),
		WITH_TABLE(test_many),
		cmocka_unit_test(test_free_null),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
