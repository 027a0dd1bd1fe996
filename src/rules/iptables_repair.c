/* SPDX-License-Identifier: Apache-2.0 */
/* iptables_repair.c - the policy in the words of iptables, and the text that enforces it
 *
 * A rule is written exactly as iptables-save of 1.8 prints it back, legacy and nft, so that
 * a check is a comparison of texts. Where another version spells it otherwise, what was
 * read back right after our own restore is what counts (iptables.c).
 *
 * All that belongs to one table stands between its name and COMMIT, which is one
 * transaction: the jumps that are there go in the very words they were printed in, our
 * chain is flushed by declaring it, and the jump comes back. Who is in between sees
 * either the old rules or the new ones.
 */
#include "rules/iptables_internal.h"

#include "base/mem.h"

#include <assert.h>
#include <stdio.h>

const struct iptables_names iptables_names[IPTABLES_TABLE_COUNT] = {
	[IPTABLES_NAT] = {"nat", "POSTROUTING", "FLANNEL-POSTRTG", POLICY_MASQUERADE_COMMENT},
	[IPTABLES_FILTER] = {"filter", "FORWARD", "FLANNEL-FWD", POLICY_FORWARD_COMMENT},
};

static const char *const targets[] = {
	[POLICY_RETURN] = "RETURN",
	[POLICY_MASQUERADE] = "MASQUERADE",
	[POLICY_MASQUERADE_RANDOM] = "MASQUERADE --random-fully",
	[POLICY_ACCEPT] = "ACCEPT",
};
static_assert(ARRAY_SIZE(targets) == POLICY_VERDICT_COUNT, "a word for each verdict");

/* "! -s 10.5.0.0/16 ", or nothing. */
static void render_side(const struct policy_side *side, char option, char *buf, size_t size)
{
	char net[IP_NET_STRLEN];

	*buf = '\0';
	if (ip_net_is_set(&side->net))
		(void)snprintf(buf, size, "%s-%c %s ", side->except ? "! " : "", option,
			       ip_net_format(&side->net, net));
}

/* The matches of a decision, each with a blank behind it. */
static void render_matches(const struct policy_decision *decision, char *buf, size_t size)
{
	char source[IP_NET_STRLEN + 8], destination[IP_NET_STRLEN + 8], mark[48] = "";

	render_side(&decision->source, 's', source, sizeof(source));
	render_side(&decision->destination, 'd', destination, sizeof(destination));
	if (decision->mark)
		(void)snprintf(mark, sizeof(mark), "-m mark --mark 0x%x/0x%x ", decision->mark,
			       decision->mark);
	(void)snprintf(buf, size, "%s%s%s%s", source, destination, mark,
		       decision->leaves_as_own ? "-m addrtype --src-type LOCAL --limit-iface-out "
					       : "");
}

static void render_decision(const struct policy_decision *decision, enum iptables_table table,
			    char *buf, size_t size)
{
	const struct iptables_names *names = &iptables_names[table];
	char matches[192];

	render_matches(decision, matches, sizeof(matches));
	(void)snprintf(buf, size, "-A %s %s-m comment --comment \"%s\" -j %s", names->chain,
		       matches, names->comment, targets[decision->verdict]);
}

void iptables_render_chain(const struct policy *policy, enum ip_family family,
			   enum iptables_table table, struct iptables_lines *ret_lines)
{
	struct policy_decision decision[POLICY_DECISIONS_MAX];

	ret_lines->n = 0;
	if (!policy)
		return;
	ret_lines->n = table == IPTABLES_NAT ? policy_masquerade(policy, family, decision)
					     : policy_forward(policy, family, decision);
	for (size_t i = 0; i < ret_lines->n; i++)
		render_decision(&decision[i], table, ret_lines->line[i],
				sizeof(ret_lines->line[i]));
}

void iptables_render_jump(enum iptables_table table, char *buf, size_t size)
{
	(void)snprintf(buf, size, "-m comment --comment \"%s\" -j %s",
		       iptables_names[table].comment, iptables_names[table].chain);
}

static void add_old(struct iptables_lines *lines, enum iptables_table table,
		    const struct policy_decision *decision, enum policy_verdict verdict)
{
	char matches[192];

	render_matches(decision, matches, sizeof(matches));
	(void)snprintf(lines->line[lines->n], sizeof(lines->line[0]), "-A %s %s-j %s",
		       iptables_names[table].base, matches, targets[verdict]);
	lines->n++;
}

void iptables_render_old(const struct policy *policy, enum ip_family family,
			 enum iptables_table table, struct iptables_lines *ret_lines)
{
	struct policy_decision decision[POLICY_DECISIONS_MAX];
	size_t n;

	ret_lines->n = 0;
	if (!policy)
		return;
	n = table == IPTABLES_NAT ? policy_old_masquerade(policy, family, decision)
				  : policy_forward(policy, family, decision);
	for (size_t i = 0; i < n; i++) {
		add_old(ret_lines, table, &decision[i], decision[i].verdict);
		/* Of two kinds, as iptables was able to. */
		if (decision[i].verdict == POLICY_MASQUERADE)
			add_old(ret_lines, table, &decision[i], POLICY_MASQUERADE_RANDOM);
	}
}

/* The rules outside of our chain that have to go: "-A" becomes "-D", the rest stays. */
static void write_deletions(FILE *out, const struct iptables_part *part,
			    const struct iptables_finding *finding)
{
	for (size_t i = 0; i < part->n_kept; i++)
		if (iptables_is_ours(&part->kept[i], finding))
			(void)fprintf(out, "-D%s\n", part->kept[i].line + 2);
}

static void write_wanted(FILE *out, const struct iptables_part *part, enum iptables_table table,
			 const struct iptables_finding *finding)
{
	const struct iptables_names *names = &iptables_names[table];
	char jump[IPTABLES_LINE_MAX];

	if (!finding->chain_right)
		(void)fprintf(out, ":%s - [0:0]\n", names->chain);
	if (!finding->base_right)
		write_deletions(out, part, finding);
	if (!finding->chain_right)
		for (size_t i = 0; i < finding->want.n; i++)
			(void)fprintf(out, "%s\n", finding->want.line[i]);
	if (finding->base_right)
		return;
	iptables_render_jump(table, jump, sizeof(jump));
	(void)fprintf(out, "-I %s %zu %s\n", names->base, finding->place, jump);
}

static void write_removal(FILE *out, const struct iptables_part *part, enum iptables_table table,
			  const struct iptables_finding *finding)
{
	write_deletions(out, part, finding);
	if (part->has_chain)
		(void)fprintf(out, "-F %s\n-X %s\n", iptables_names[table].chain,
			      iptables_names[table].chain);
}

char *iptables_view_repair(const struct iptables_view *view, const struct policy *policy)
{
	struct iptables_finding finding;
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (!out)
		abort(); /* as mem_alloc() */
	for (enum iptables_table t = 0; t < IPTABLES_TABLE_COUNT; t++) {
		iptables_compare(view, policy, NULL, t, &finding);
		if (finding.chain_right && finding.base_right)
			continue;
		(void)fprintf(out, "*%s\n", iptables_names[t].table);
		if (finding.want.n)
			write_wanted(out, &view->part[t], t, &finding);
		else
			write_removal(out, &view->part[t], t, &finding);
		(void)fputs("COMMIT\n", out);
	}
	(void)fclose(out);
	return text;
}
