/* SPDX-License-Identifier: Apache-2.0 */
/* iptables_view.c - what iptables-save prints, as far as it concerns us
 *
 * Of ten thousand rules of kube-proxy nothing is kept. What is: the rules of our two
 * chains; jumps to them; in POSTROUTING and FORWARD the rules with our comments, and the
 * few without a comment that look as those of an old flannel (whether they are depends on
 * the policy, which is not known here); and how many rules the two base chains have, and
 * the first of them that must not stand before our jump.
 *
 * A table that is not printed is empty: iptables-legacy-save leaves out what nobody has
 * used since boot. But iptables-nft-save also leaves out one that has a rule or a set which
 * only nft can show, ends with success all the same, and says so in a remark alone.
 */
#include "rules/iptables_internal.h"

#include "base/mem.h"

#include <stdio.h>

#define RULES_MAX   (2 * POLICY_DECISIONS_MAX) /* kept of one of our chains */
#define OF_KIND_MAX 512                        /* kept outside of them, of one kind */
#define WORD_MAX    64                         /* what we compare is shorter */

/* What one line says, as far as we care. */
struct rule {
	char chain[WORD_MAX], target[WORD_MAX];
	bool commented; /* with one of our comments */
	bool plain;     /* nothing but addresses, and a target of old flannel */
};

struct iptables_view *iptables_view_new(enum ip_family family)
{
	struct iptables_view *view = mem_alloc(1, sizeof(*view));

	view->family = family;
	view->table = -1;
	return view;
}

void iptables_view_free(struct iptables_view *view)
{
	if (!view)
		return;
	for (size_t t = 0; t < IPTABLES_TABLE_COUNT; t++) {
		struct iptables_part *part = &view->part[t];

		for (size_t i = 0; i < part->n_rules && i < RULES_MAX; i++)
			free(part->rule[i]);
		for (size_t i = 0; i < part->n_kept; i++)
			free(part->kept[i].line);
		free(part->rule);
		free(part->kept);
	}
	free(view);
}

/* -- one line ---------------------------------------------------------------------------- */

/* The next word after *@cursor, without its quotes: "a b \" c". Cut to @buf, which is
 * longer than any that we look for. False at the end. */
static bool next_word(const char **cursor, char buf[WORD_MAX])
{
	const char *c = *cursor + strspn(*cursor, " ");
	bool quoted = false;
	size_t n = 0;

	if (!*c)
		return false;
	for (; *c && (quoted || *c != ' '); c++) {
		if (*c == '"') {
			quoted = !quoted;
			continue;
		}
		if (*c == '\\' && c[1])
			c++;
		if (n < WORD_MAX - 1)
			buf[n++] = *c;
	}
	buf[n] = '\0';
	*cursor = c;
	return true;
}

/* The name of a chain, which is never quoted. */
static void take_chain(const char **cursor, char buf[WORD_MAX])
{
	const char *name = *cursor + strspn(*cursor, " ");
	const size_t len = strcspn(name, " ");

	(void)snprintf(buf, WORD_MAX, "%.*s", (int)len, name);
	*cursor = name + len;
}

static bool is_our_comment(const char *comment)
{
	return !strcmp(comment, POLICY_MASQUERADE_COMMENT) ||
	       !strcmp(comment, POLICY_FORWARD_COMMENT);
}

static bool is_old_target(const char *target)
{
	return !strcmp(target, "RETURN") || !strcmp(target, "MASQUERADE") ||
	       !strcmp(target, "ACCEPT");
}

/* @line begins with "-A ". What makes no sense in it is still a rule, and has its place. */
static struct rule parse_rule(const char *line)
{
	struct rule rule = {.plain = true};
	const char *cursor = line + 3;
	char word[WORD_MAX], value[WORD_MAX];

	take_chain(&cursor, rule.chain);
	while (next_word(&cursor, word)) {
		if (!strcmp(word, "!") || !strcmp(word, "--random-fully"))
			continue;
		if (!strcmp(word, "-j") || !strcmp(word, "-g"))
			(void)next_word(&cursor, *rule.target ? value : rule.target);
		else if (!strcmp(word, "-s") || !strcmp(word, "-d"))
			(void)next_word(&cursor, value);
		else if (!strcmp(word, "--comment"))
			rule.commented |= next_word(&cursor, value) && is_our_comment(value);
		else
			rule.plain = false;
	}
	rule.plain = rule.plain && !rule.commented && is_old_target(rule.target);
	return rule;
}

/* -- feeding ----------------------------------------------------------------------------- */

static void add_rule(struct iptables_part *part, const char *line)
{
	part->has_chain = true;
	if (part->n_rules < RULES_MAX) {
		part->rule = mem_realloc(part->rule, part->n_rules + 1, sizeof(*part->rule));
		/* One that long is not as we wrote it; that will do. */
		part->rule[part->n_rules] =
			mem_strdup(strlen(line) < IPTABLES_LINE_MAX ? line : "");
	}
	part->n_rules++;
}

static bool keep(struct iptables_part *part, enum iptables_kept_kind kind, size_t index,
		 const char *line)
{
	if (part->n_of_kind[kind] >= OF_KIND_MAX || strlen(line) >= IPTABLES_LINE_MAX)
		return false;
	part->kept = mem_realloc(part->kept, part->n_kept + 1, sizeof(*part->kept));
	part->kept[part->n_kept++] =
		(struct iptables_kept){.kind = kind, .index = index, .line = mem_strdup(line)};
	part->n_of_kind[kind]++;
	return true;
}

static void add_base_rule(struct iptables_part *part, const struct rule *rule, bool jumps,
			  const char *line)
{
	const size_t index = ++part->n_base;

	if (jumps && keep(part, IPTABLES_KEPT_JUMP, index, line))
		return;
	if (!jumps && rule->commented && keep(part, IPTABLES_KEPT_COMMENTED, index, line))
		return;
	if (!jumps && rule->plain && keep(part, IPTABLES_KEPT_PLAIN, index, line))
		return;
	if (!part->foreign && !policy_stands_before(rule->target))
		part->foreign = index;
}

static void feed_rule(struct iptables_view *view, const char *line)
{
	const struct iptables_names *names = &iptables_names[view->table];
	struct iptables_part *part = &view->part[view->table];
	const struct rule rule = parse_rule(line);
	const bool jumps = !strcmp(rule.target, names->chain);

	if (!strcmp(rule.chain, names->chain))
		add_rule(part, line);
	else if (!strcmp(rule.chain, names->base))
		add_base_rule(part, &rule, jumps, line);
	else if (jumps)
		(void)keep(part, IPTABLES_KEPT_JUMP, 0, line);
}

/* "*nat" */
static int find_table(const char *name)
{
	for (int t = 0; t < IPTABLES_TABLE_COUNT; t++)
		if (!strcmp(name, iptables_names[t].table))
			return t;
	return -1;
}

/* "# Table `filter' is incompatible, use 'nft' tool." */
static void feed_remark(struct iptables_view *view, const char *remark)
{
	static const char before[] = "# Table `", after[] = "' is incompatible";
	char name[WORD_MAX];
	const char *end;
	int t;

	if (strncmp(remark, before, strlen(before)) != 0)
		return;
	remark += strlen(before);
	end = strstr(remark, after);
	if (!end)
		return;
	(void)snprintf(name, sizeof(name), "%.*s", (int)(end - remark), remark);
	t = find_table(name);
	if (t >= 0)
		view->part[t].unreadable = true;
}

void iptables_view_feed(struct iptables_view *view, const char *line)
{
	char name[WORD_MAX];
	const char *cursor = line + 1;

	if (*line == '#') {
		feed_remark(view, line);
		return;
	}
	if (*line == '*') {
		view->table = find_table(line + 1);
		return;
	}
	if (view->table < 0)
		return;
	if (!strcmp(line, "COMMIT")) {
		view->table = -1;
	} else if (!strncmp(line, "-A ", 3)) {
		feed_rule(view, line);
	} else if (*line == ':') {
		take_chain(&cursor, name);
		view->part[view->table].has_chain |=
			!strcmp(name, iptables_names[view->table].chain);
	}
}

/* -- comparing --------------------------------------------------------------------------- */

/* "RETURN" of "... -j RETURN": a spelling may vary, but not in what it does. */
static const char *target_of(const char *line)
{
	const char *target = strstr(line, " -j ");

	return target ? target : "";
}

static bool is_chain_right(const struct iptables_part *part, const struct iptables_lines *want,
			   const struct iptables_part *learned)
{
	if (!want->n || part->n_rules != want->n)
		return !want->n && !part->has_chain;
	for (size_t i = 0; i < want->n; i++) {
		if (!strcmp(part->rule[i], want->line[i]))
			continue;
		if (!learned || i >= learned->n_rules ||
		    strcmp(part->rule[i], learned->rule[i]) != 0 ||
		    strcmp(target_of(part->rule[i]), target_of(want->line[i])) != 0)
			return false;
	}
	return true;
}

bool iptables_is_ours(const struct iptables_kept *kept, const struct iptables_finding *finding)
{
	if (kept->kind != IPTABLES_KEPT_PLAIN)
		return true;
	for (size_t i = 0; i < finding->old.n; i++)
		if (!strcmp(kept->line, finding->old.line[i]))
			return true;
	return false;
}

/* Before which foreign rule our jump must stand when all that is ours has been taken away. */
static size_t find_last_place(const struct iptables_part *part,
			      const struct iptables_finding *finding)
{
	size_t end = part->foreign ? part->foreign : part->n_base + 1, n_ours = 0;

	for (size_t i = 0; i < part->n_kept; i++) {
		const struct iptables_kept *kept = &part->kept[i];

		if (!kept->index || kept->index > end)
			continue;
		if (iptables_is_ours(kept, finding))
			n_ours++;
		else
			end = kept->index; /* they are in order: the loop is done */
	}
	return end - n_ours;
}

static bool is_jump(const struct iptables_kept *kept, enum iptables_table table)
{
	char jump[IPTABLES_LINE_MAX], line[IPTABLES_LINE_MAX + 32];

	iptables_render_jump(table, jump, sizeof(jump));
	(void)snprintf(line, sizeof(line), "-A %s %s", iptables_names[table].base, jump);
	return !strcmp(kept->line, line);
}

static bool is_learned_jump(const struct iptables_kept *kept, const struct iptables_part *learned)
{
	for (size_t i = 0; learned && i < learned->n_kept; i++)
		if (learned->kept[i].index && learned->kept[i].kind == IPTABLES_KEPT_JUMP &&
		    !strcmp(learned->kept[i].line, kept->line))
			return true;
	return false;
}

static bool is_at_its_place(size_t index, const struct iptables_finding *finding)
{
	return index >= finding->place && index <= finding->last;
}

/* One jump at its place and nothing else of ours; or nothing at all. */
static bool is_base_right(const struct iptables_part *part, enum iptables_table table,
			  const struct iptables_finding *finding,
			  const struct iptables_part *learned)
{
	const struct iptables_kept *ours = NULL;

	for (size_t i = 0; i < part->n_kept; i++) {
		if (!iptables_is_ours(&part->kept[i], finding))
			continue;
		if (ours)
			return false;
		ours = &part->kept[i];
	}
	if (!finding->want.n || !ours)
		return !finding->want.n && !ours;
	return ours->kind == IPTABLES_KEPT_JUMP && is_at_its_place(ours->index, finding) &&
	       (is_jump(ours, table) || is_learned_jump(ours, learned));
}

void iptables_compare(const struct iptables_view *view, const struct policy *policy,
		      const struct iptables_view *learned, enum iptables_table table,
		      struct iptables_finding *ret_finding)
{
	const struct iptables_part *part = &view->part[table];
	const struct iptables_part *known = learned ? &learned->part[table] : NULL;

	iptables_render_chain(policy, view->family, table, &ret_finding->want);
	iptables_render_old(policy, view->family, table, &ret_finding->old);
	ret_finding->last = find_last_place(part, ret_finding);
	/* In nat it does not matter who comes first of us and those. */
	ret_finding->place = table == IPTABLES_NAT ? 1 : ret_finding->last;
	ret_finding->chain_right =
		part->unreadable || is_chain_right(part, &ret_finding->want, known);
	ret_finding->base_right =
		part->unreadable || is_base_right(part, table, ret_finding, known);
}

bool iptables_view_matches(const struct iptables_view *view, const struct policy *policy,
			   const struct iptables_view *learned)
{
	struct iptables_finding finding;

	for (enum iptables_table t = 0; t < IPTABLES_TABLE_COUNT; t++) {
		iptables_compare(view, policy, learned, t, &finding);
		if (!finding.chain_right || !finding.base_right)
			return false;
	}
	return true;
}

void iptables_view_unreadable(const struct iptables_view *view, const struct policy *policy,
			      char *buf, size_t size)
{
	struct iptables_lines want;
	size_t n = 0;

	*buf = '\0';
	for (enum iptables_table t = 0; t < IPTABLES_TABLE_COUNT; t++) {
		iptables_render_chain(policy, view->family, t, &want);
		if (!want.n || !view->part[t].unreadable)
			continue;
		(void)snprintf(buf + n, size - n, "%s%s", n ? ", " : "", iptables_names[t].table);
		n = strlen(buf);
	}
}

bool iptables_view_has_ours(const struct iptables_view *view)
{
	for (size_t t = 0; t < IPTABLES_TABLE_COUNT; t++) {
		const struct iptables_part *part = &view->part[t];

		if (part->has_chain || part->n_of_kind[IPTABLES_KEPT_JUMP] ||
		    part->n_of_kind[IPTABLES_KEPT_COMMENTED])
			return true;
	}
	return false;
}

size_t iptables_view_n_rules(const struct iptables_view *view)
{
	return view->part[IPTABLES_NAT].n_rules + view->part[IPTABLES_FILTER].n_rules;
}

/* -- in words ---------------------------------------------------------------------------- */

static void explain_chain(const struct iptables_part *part, const char *chain,
			  const struct iptables_finding *finding, char *buf, size_t size)
{
	const struct iptables_lines *want = &finding->want;
	size_t i = 0;

	if (!part->has_chain) {
		(void)snprintf(buf, size, "chain %s is missing", chain);
		return;
	}
	if (!want->n) {
		(void)snprintf(buf, size, "chain %s is there", chain);
		return;
	}
	while (i < part->n_rules && i < want->n && !strcmp(part->rule[i], want->line[i]))
		i++;
	if (part->n_rules != want->n)
		(void)snprintf(buf, size, "chain %s has %zu rules instead of %zu", chain,
			       part->n_rules, want->n);
	else if (i < want->n)
		(void)snprintf(buf, size, "rule %zu of chain %s is another", i + 1, chain);
	else
		(void)snprintf(buf, size, "chain %s differs", chain);
}

static void explain_base(const struct iptables_part *part, const struct iptables_names *names,
			 const struct iptables_finding *finding, char *buf, size_t size)
{
	size_t n_jumps = 0, n_others = 0, index = 0;

	for (size_t i = 0; i < part->n_kept; i++) {
		const struct iptables_kept *kept = &part->kept[i];

		if (kept->kind == IPTABLES_KEPT_JUMP) {
			n_jumps++;
			index = kept->index;
		} else if (iptables_is_ours(kept, finding)) {
			n_others++;
		}
	}
	if (n_others)
		(void)snprintf(buf, size, "%s has %zu rules of an older flannel", names->base,
			       n_others);
	else if (!finding->want.n)
		(void)snprintf(buf, size, "there is a jump to %s", names->chain);
	else if (!n_jumps)
		(void)snprintf(buf, size, "the jump from %s to %s is missing", names->base,
			       names->chain);
	else if (n_jumps > 1)
		(void)snprintf(buf, size, "there are %zu jumps to %s", n_jumps, names->chain);
	else if (!is_at_its_place(index, finding))
		(void)snprintf(buf, size, "the jump to %s is rule %zu of %s instead of %zu",
			       names->chain, index, names->base, finding->place);
	else
		(void)snprintf(buf, size, "the jump to %s is another", names->chain);
}

void iptables_view_explain(const struct iptables_view *view, const struct policy *policy,
			   const struct iptables_view *learned, char *buf, size_t size)
{
	struct iptables_finding finding;
	char words[128];
	size_t n = 0;

	*buf = '\0';
	for (enum iptables_table t = 0; t < IPTABLES_TABLE_COUNT; t++) {
		const struct iptables_part *part = &view->part[t];

		iptables_compare(view, policy, learned, t, &finding);
		if (finding.chain_right && finding.base_right)
			continue;
		if (!finding.chain_right)
			explain_chain(part, iptables_names[t].chain, &finding, words,
				      sizeof(words));
		else
			explain_base(part, &iptables_names[t], &finding, words, sizeof(words));
		(void)snprintf(buf + n, size - n, "%s%s", n ? "; " : "", words);
		n = strlen(buf);
	}
}
