/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_iptables_text.c - whatever iptables-save prints, the repair of it makes it right
 *
 * Here is a small iptables: it reads a save, carries out the text for iptables-restore as
 * the real one would (what is to be deleted must be there, a place must exist), and prints
 * itself. That must be as wanted, with every rule of others as it was and in its order.
 */
#include "base/mem.h"
#include "rules/iptables_text.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define LINES_MAX 4096
#define INPUT_MAX 8192

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One table: all its rules in one list, in which the order within a chain counts. */
struct table {
	const char *name, *chain;
	bool has_chain, unreadable;
	size_t n;
	char *rule[LINES_MAX]; /* "-A CHAIN ..." */
};

static struct table tables[] = {{.name = "nat", .chain = "FLANNEL-POSTRTG"},
				{.name = "filter", .chain = "FLANNEL-FWD"}};

static void clear(void)
{
	for (size_t t = 0; t < ARRAY_SIZE(tables); t++) {
		for (size_t i = 0; i < tables[t].n; i++)
			free(tables[t].rule[i]);
		tables[t].n = 0;
		tables[t].has_chain = false;
	}
}

/* Whether @rule ("-A X ..." or "-F X") is about @chain. */
static bool is_about(const char *rule, const char *chain)
{
	const char *name = rule + 3 + strspn(rule + 3, " ");
	const size_t len = strcspn(name, " ");

	return len == strlen(chain) && !strncmp(name, chain, len);
}

static void insert(struct table *table, size_t at, const char *words)
{
	assert(table->n < LINES_MAX && at <= table->n);
	memmove(&table->rule[at + 1], &table->rule[at], (table->n - at) * sizeof(char *));
	table->rule[at] = mem_strdup(words);
	table->n++;
}

static void take_out(struct table *table, size_t at)
{
	free(table->rule[at]);
	table->n--;
	memmove(&table->rule[at], &table->rule[at + 1], (table->n - at) * sizeof(char *));
}

static void flush(struct table *table)
{
	for (size_t i = table->n; i-- > 0;)
		if (is_about(table->rule[i], table->chain))
			take_out(table, i);
}

/* "-D X ...": the first that reads so. */
static void delete (struct table *table, const char *line)
{
	for (size_t i = 0; i < table->n; i++) {
		if (!strcmp(table->rule[i] + 2, line + 2)) {
			take_out(table, i);
			return;
		}
	}
	assert(!"what is to be deleted is there");
}

/* "-I FORWARD 2 ...". */
static void insert_at(struct table *table, const char *line)
{
	char chain[32], words[1024];
	size_t place, seen = 0, i = 0;
	int n = 0;

	assert(sscanf(line, "-I %31s %zu %n", chain, &place, &n) == 2 && place > 0);
	(void)snprintf(words, sizeof(words), "-A %s %s", chain, line + n);
	for (; i < table->n; i++)
		if (is_about(table->rule[i], chain) && ++seen == place)
			break;
	assert(i < table->n || seen == place - 1);
	insert(table, i, words);
}

static void restore_line(struct table *table, const char *line)
{
	if (*line == ':') {
		flush(table);
		table->has_chain = true;
	} else if (!strncmp(line, "-A ", 3)) {
		assert(table->has_chain && is_about(line, table->chain));
		insert(table, table->n, line);
	} else if (!strncmp(line, "-D ", 3)) {
		delete (table, line);
	} else if (!strncmp(line, "-I ", 3)) {
		insert_at(table, line);
	} else if (!strncmp(line, "-F ", 3)) {
		assert(table->has_chain && is_about(line, table->chain));
		flush(table);
	} else {
		assert(!strncmp(line, "-X ", 3) && is_about(line, table->chain));
		table->has_chain = false;
	}
}

/* A save as the view reads it: no word counts outside of a table. */
static void save_line(struct table *table, const char *line)
{
	if (!strncmp(line, "-A ", 3)) {
		table->has_chain |= is_about(line, table->chain);
		insert(table, table->n, line);
	} else if (*line == ':') {
		const char *name = line + 1 + strspn(line + 1, " ");
		const size_t len = strcspn(name, " ");

		table->has_chain |=
			len == strlen(table->chain) && !strncmp(name, table->chain, len);
	}
}

static void for_each_line(const char *text, void (*take)(struct table *, const char *),
			  struct iptables_view *view)
{
	_cleanup_free_ char *copy = mem_strdup(text);
	struct table *table = NULL;

	for (char *next, *line = strtok_r(copy, "\n", &next); line;
	     line = strtok_r(NULL, "\n", &next)) {
		if (view)
			iptables_view_feed(view, line);
		if (*line == '*') {
			table = NULL;
			for (size_t t = 0; t < ARRAY_SIZE(tables); t++)
				if (!strcmp(line + 1, tables[t].name))
					table = &tables[t];
			assert(take == save_line || (table && !table->unreadable));
		} else if (!strcmp(line, "COMMIT")) {
			table = NULL;
		} else if (table) {
			take(table, line);
		}
	}
}

/* The rules that no word of ours is in; caller frees. */
static char *others(void)
{
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert(out);
	for (size_t t = 0; t < ARRAY_SIZE(tables); t++)
		for (size_t i = 0; i < tables[t].n; i++)
			if (!strstr(tables[t].rule[i], "FLANNEL") &&
			    !strstr(tables[t].rule[i], "flanneld") &&
			    !strstr(tables[t].rule[i], "10.5.") &&
			    !strchr(tables[t].rule[i], '"') && !strchr(tables[t].rule[i], '\\'))
				(void)fprintf(out, "%s\n", tables[t].rule[i]);
	(void)fclose(out);
	return text;
}

static struct iptables_view *look(void)
{
	struct iptables_view *view = iptables_view_new(IP_V4);
	char line[64];

	for (size_t t = 0; t < ARRAY_SIZE(tables); t++) {
		if (tables[t].unreadable) {
			(void)snprintf(line, sizeof(line), "# Table `%s' is incompatible, use",
				       tables[t].name);
			iptables_view_feed(view, line);
		}
		(void)snprintf(line, sizeof(line), "*%s", tables[t].name);
		iptables_view_feed(view, line);
		(void)snprintf(line, sizeof(line), ":%s - [0:0]", tables[t].chain);
		if (tables[t].has_chain)
			iptables_view_feed(view, line);
		for (size_t i = 0; i < tables[t].n; i++)
			iptables_view_feed(view, tables[t].rule[i]);
		iptables_view_feed(view, "COMMIT");
	}
	return view;
}

static void check_repair(const char *saved, const struct policy *policy)
{
	struct iptables_view *before = iptables_view_new(IP_V4), *after;
	_cleanup_free_ char *text = NULL, *again = NULL, *theirs = NULL, *theirs_after = NULL;
	char words[256];

	clear();
	for_each_line(saved, save_line, before);
	iptables_view_unreadable(before, policy, words, sizeof(words));
	for (size_t t = 0; t < ARRAY_SIZE(tables); t++)
		tables[t].unreadable = strstr(words, tables[t].name);
	theirs = others();
	text = iptables_view_repair(before, policy);
	assert(iptables_view_matches(before, policy, NULL) == !*text);
	iptables_view_explain(before, policy, NULL, words, sizeof(words));
	assert(!*words == !*text);

	for_each_line(text, restore_line, NULL);
	theirs_after = others();
	assert(!strcmp(theirs, theirs_after));
	after = look();
	assert(iptables_view_matches(after, policy, NULL));
	again = iptables_view_repair(after, policy);
	assert(!*again);
	if (!policy && !strstr(saved, "' is incompatible"))
		assert(!iptables_view_has_ours(after));
	iptables_view_free(before);
	iptables_view_free(after);
	clear();
}

static void set_net(struct ip_net *net, const char *text)
{
	assert(!ip_net_parse(text, net));
}

/* The first byte chooses what is wanted, the rest is the save. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct policy policy = {.masquerade = true, .forward = true};
	_cleanup_free_ char *saved = NULL;

	/* Longer ones would reach the limit of a line, behind which a rule is a stranger's. */
	if (!size || size > INPUT_MAX)
		return 0;
	saved = mem_alloc(size, 1);
	memcpy(saved, data + 1, size - 1);
	for (const char *line = saved; *line; line += strcspn(line, "\n"), line += *line == '\n')
		if (strcspn(line, "\n") >= 1000)
			return 0;
	set_net(&policy.network[IP_V4], "10.5.0.0/16");
	set_net(&policy.subnet[IP_V4], "10.5.3.0/24");
	policy.masquerade = !(data[0] & 1);
	policy.forward = !(data[0] & 2);
	policy.fully_random = data[0] & 4;
	check_repair(saved, data[0] & 8 ? NULL : &policy);
	return 0;
}
