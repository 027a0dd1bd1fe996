/* SPDX-License-Identifier: Apache-2.0 */
/* iptables.c - keeps the policy in force through iptables-save and iptables-restore
 *
 * A check goes through these states; in each but IDLE and REFUSED a child runs:
 *
 *	IDLE -> LOOKING     iptables-save, fed to a view
 *	     -> IDLE        it is as wanted
 *	     -> RESTORING   the repair of that view goes to iptables-restore
 *	     -> VERIFYING   iptables-save again
 *	     -> IDLE        it is as wanted, or differs in spelling only: then this view is
 *	                    `learned`, and counts as right as long as the same is wanted
 *	     -> RESTORING   somebody was there in between: once more, ROUNDS_MAX times
 *
 * A restore that failed is followed by another look. If that leads to the same text, it
 * would fail again: the check has failed (but for EAGAIN of the kernel, to whom somebody
 * else handed a table in the same moment). If it leads to another one, the world had changed
 * between look and restore (a rule that was to be deleted is gone), and that text is tried.
 *
 * A table that iptables-nft-save cannot list is left alone, and the check has failed, once
 * the other table is right.
 *
 * What is wanted may change at any time: the next look is compared with what is wanted
 * then. A program that cannot be started is told from a timer (REFUSED), since `done` must
 * not be called from within iptables_check().
 *
 * Nobody but `done` is told; and it is called last, since it may free us.
 */
#include "rules/iptables.h"

#include "base/log.h"
#include "base/mem.h"
#include "io/child.h"
#include "rules/iptables_text.h"
#include "rules/iptables_words.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>

#define SAVE_TIMEOUT_MS 30000
#ifndef RESTORE_TIMEOUT_MS /* tests wait less */
#define RESTORE_TIMEOUT_MS 60000
#define LOCK_PATIENCE_MS   5000
#endif
#define ASK_TIMEOUT_MS 10000
#define ROUNDS_MAX     3
#define TEXT_MAX       1024

enum state {
	STATE_IDLE,
	STATE_REFUSED,
	STATE_LOOKING,
	STATE_RESTORING,
	STATE_VERIFYING,
	STATE_COUNT,
};

struct iptables {
	struct loop *loop;
	enum iptables_variant variant;
	enum ip_family family;
	iptables_fn done;
	void *userdata;

	struct policy wanted;
	bool changed; /* since it was last in force */
	bool current; /* the last restore was of what is still wanted */
	bool again;   /* a check was asked for that this one does not answer */

	enum state state;
	struct child *child;
	struct event *timer; /* REFUSED; RESTORING: patience with the lock */
	struct iptables_view *view, *learned;
	bool was_slow;            /* and it was logged; until a check does not fail */
	int rounds;               /* restores of this check */
	char *text;               /* given to the last one; NULL: none yet, or it succeeded */
	char failure[TEXT_MAX];   /* of that one, or why REFUSED */
	char was_wrong[TEXT_MAX]; /* what this check found at first */
};

static const char *const programs[IPTABLES_VARIANT_COUNT][IP_FAMILY_COUNT][2] = {
	[IPTABLES_DEFAULT] = {[IP_V4] = {"iptables-save", "iptables-restore"},
			      [IP_V6] = {"ip6tables-save", "ip6tables-restore"}},
	[IPTABLES_LEGACY] = {[IP_V4] = {"iptables-legacy-save", "iptables-legacy-restore"},
			     [IP_V6] = {"ip6tables-legacy-save", "ip6tables-legacy-restore"}},
	[IPTABLES_NFT] = {[IP_V4] = {"iptables-nft-save", "iptables-nft-restore"},
			  [IP_V6] = {"ip6tables-nft-save", "ip6tables-nft-restore"}},
};

static const char *save_program(const struct iptables *ipt)
{
	return programs[ipt->variant][ipt->family][0];
}

static const char *restore_program(const struct iptables *ipt)
{
	return programs[ipt->variant][ipt->family][1];
}

static void look(struct iptables *ipt, enum state state);

/* -- the end of a check ------------------------------------------------------------------ */

static void begin(struct iptables *ipt)
{
	ipt->again = false;
	ipt->rounds = 0;
	*ipt->was_wrong = '\0';
	free(TAKE_PTR(ipt->text));
	look(ipt, STATE_LOOKING);
}

/* We may be gone after this. */
static void conclude(struct iptables *ipt, enum iptables_outcome outcome, const char *text)
{
	char copy[TEXT_MAX];

	/* @text may be in a field that the next check writes to. */
	(void)snprintf(copy, sizeof(copy), "%s", text);
	ipt->state = STATE_IDLE;
	loop_timer_stop(ipt->timer);
	if (outcome != IPTABLES_FAILED)
		ipt->changed = ipt->was_slow = false;
	if (ipt->again)
		begin(ipt);
	ipt->done(outcome, copy, ipt->userdata);
}

static void fail(struct iptables *ipt, const char *program, const char *what)
{
	char text[TEXT_MAX];

	(void)snprintf(text, sizeof(text), "%s: %s", program, what);
	conclude(ipt, IPTABLES_FAILED, text);
}

/* A restore takes long. We may be gone after this. */
static void tell_waiting(struct iptables *ipt)
{
	char why[256], text[TEXT_MAX];

	iptables_explain_lock(child_pid(ipt->child), why, sizeof(why));
	if (!*why)
		(void)snprintf(why, sizeof(why),
			       "it has not ended for %d s; it is killed after %d s",
			       LOCK_PATIENCE_MS / 1000, RESTORE_TIMEOUT_MS / 1000);
	(void)snprintf(text, sizeof(text), "waiting for %s: %s", restore_program(ipt), why);
	if (!ipt->was_slow)
		log_warning("W%s", text + 1);
	ipt->was_slow = true;
	ipt->done(IPTABLES_WAITING, text, ipt->userdata);
}

static void on_timer(void *userdata)
{
	struct iptables *ipt = userdata;

	if (ipt->state == STATE_REFUSED)
		conclude(ipt, IPTABLES_FAILED, ipt->failure);
	else
		tell_waiting(ipt);
}

/* -- children ---------------------------------------------------------------------------- */

static void run(struct iptables *ipt, enum state state, const char *const argv[], const char *input,
		int timeout_ms, const struct child_events *events)
{
	struct err err = {""};
	int code;

	child_free(TAKE_PTR(ipt->child));
	code = child_start(ipt->loop, argv, input, timeout_ms, events, &ipt->child, &err);
	ipt->state = code ? STATE_REFUSED : state;
	if (!code)
		return;
	/* The other variants are used for what is beside the mode that was chosen. */
	(void)snprintf(ipt->failure, sizeof(ipt->failure), "%s%s", err.text,
		       code == -ENOENT && ipt->variant == IPTABLES_DEFAULT
			       ? ": install iptables, or set EnableNFTables in the network config"
			       : "");
	loop_timer_set(ipt->timer, 0);
}

static void on_line(const char *line, void *userdata)
{
	struct iptables *ipt = userdata;

	iptables_view_feed(ipt->view, line);
}

static void on_looked(const struct child_end *end, void *userdata);

static void look(struct iptables *ipt, enum state state)
{
	const struct child_events events = {.line = on_line, .ended = on_looked, .userdata = ipt};

	iptables_view_free(ipt->view);
	ipt->view = iptables_view_new(ipt->family);
	run(ipt, state, (const char *const[]){save_program(ipt), NULL}, NULL, SAVE_TIMEOUT_MS,
	    &events);
}

/* Puts behind @ended who has the lock. */
static void explain_waiting(const struct iptables *ipt, char *ended, size_t size)
{
	const size_t n = strlen(ended);
	char why[256];

	iptables_explain_lock(child_pid(ipt->child), why, sizeof(why));
	if (*why)
		(void)snprintf(ended + n, size - n, ": %s", why);
}

/* Before 1.6.2 MASQUERADE had no random ports of that kind. Flannel does without then. */
static bool give_up_random_ports(struct iptables *ipt, const char *complaint)
{
	if (!ipt->wanted.fully_random || !strstr(complaint, "--random-fully"))
		return false;
	ipt->wanted.fully_random = ipt->current = false;
	log_info("%s knows no --random-fully (1.6.2 and later do): masquerading without",
		 restore_program(ipt));
	return true;
}

static void on_restored(const struct child_end *end, void *userdata)
{
	struct iptables *ipt = userdata;
	char ended[CHILD_COMPLAINT_MAX + 320];

	loop_timer_stop(ipt->timer);
	child_describe_end(end, ended, sizeof(ended));
	if (end->timed_out) {
		explain_waiting(ipt, ended, sizeof(ended));
		fail(ipt, restore_program(ipt), ended);
		return;
	}
	if (end->exit_code && !give_up_random_ports(ipt, ended))
		iptables_explain_failure(restore_program(ipt), ended, ipt->text, ipt->failure,
					 sizeof(ipt->failure));
	else
		free(TAKE_PTR(ipt->text));
	look(ipt, STATE_VERIFYING);
}

/* The view is not as wanted: writes what makes it so. */
static void restore(struct iptables *ipt)
{
	const struct child_events events = {.ended = on_restored, .userdata = ipt};
	_cleanup_free_ char *text = iptables_view_repair(ipt->view, &ipt->wanted);
	const bool same = ipt->text && !strcmp(ipt->text, text) &&
			  !strstr(ipt->failure, "temporarily unavailable");

	if (ipt->text && (same || ipt->rounds >= ROUNDS_MAX)) {
		conclude(ipt, IPTABLES_FAILED, ipt->failure);
		return;
	}
	if (ipt->rounds >= ROUNDS_MAX) {
		fail(ipt, restore_program(ipt),
		     "it succeeds, but the rules are not there afterwards: somebody else removes "
		     "them, or iptables-save does not show them");
		return;
	}
	ipt->rounds++;
	ipt->current = true;
	free(ipt->text);
	ipt->text = TAKE_PTR(text);
	run(ipt, STATE_RESTORING,
	    (const char *const[]){restore_program(ipt), "--noflush", "-w", NULL}, ipt->text,
	    RESTORE_TIMEOUT_MS, &events);
	if (ipt->state == STATE_RESTORING)
		loop_timer_set(ipt->timer, LOCK_PATIENCE_MS);
}

/* -- what was seen ----------------------------------------------------------------------- */

static bool is_right(struct iptables *ipt)
{
	if (iptables_view_matches(ipt->view, &ipt->wanted, ipt->learned))
		return true;
	/* After a restore that succeeded, whatever iptables makes of our words is right. */
	if (ipt->state != STATE_VERIFYING || ipt->text || !ipt->current ||
	    !iptables_view_matches(ipt->view, &ipt->wanted, ipt->view))
		return false;
	iptables_view_free(ipt->learned);
	ipt->learned = TAKE_PTR(ipt->view);
	return true;
}

/* What can be seen is as wanted; @unreadable names what cannot. */
static void conclude_right(struct iptables *ipt, const char *unreadable)
{
	char words[256];

	if (*unreadable) {
		(void)snprintf(words, sizeof(words),
			       "it cannot list table %s, in which somebody has put what only nft "
			       "knows: our rules there are not kept; remove it, or set "
			       "EnableNFTables in the network config",
			       unreadable);
		fail(ipt, save_program(ipt), words);
	} else if (!ipt->rounds) {
		conclude(ipt, IPTABLES_INTACT, "");
	} else {
		conclude(ipt, ipt->changed ? IPTABLES_APPLIED : IPTABLES_REPAIRED, ipt->was_wrong);
	}
}

static void on_looked(const struct child_end *end, void *userdata)
{
	struct iptables *ipt = userdata;
	char words[CHILD_COMPLAINT_MAX + 64], unreadable[32];

	if (end->exit_code) {
		child_describe_end(end, words, sizeof(words));
		fail(ipt, save_program(ipt), words);
		return;
	}
	/* Before the view becomes `learned`. */
	iptables_view_unreadable(ipt->view, &ipt->wanted, unreadable, sizeof(unreadable));
	if (!is_right(ipt)) {
		if (!*ipt->was_wrong)
			iptables_view_explain(ipt->view, &ipt->wanted, ipt->learned, ipt->was_wrong,
					      sizeof(ipt->was_wrong));
		restore(ipt);
		return;
	}
	conclude_right(ipt, unreadable);
}

/* -- the outside ------------------------------------------------------------------------- */

struct iptables *iptables_new(struct loop *loop, enum iptables_variant variant,
			      enum ip_family family, iptables_fn done, void *userdata)
{
	struct iptables *ipt = mem_alloc(1, sizeof(*ipt));

	ipt->loop = loop;
	ipt->variant = variant;
	ipt->family = family;
	ipt->done = done;
	ipt->userdata = userdata;
	ipt->changed = true;
	ipt->timer = loop_timer_new(loop, on_timer, ipt);
	return ipt;
}

void iptables_free(struct iptables *ipt)
{
	if (!ipt)
		return;
	child_free(ipt->child);
	loop_event_free(ipt->timer);
	iptables_view_free(ipt->view);
	iptables_view_free(ipt->learned);
	free(ipt->text);
	free(ipt);
}

void iptables_want(struct iptables *ipt, const struct policy *policy)
{
	static const struct policy nothing;

	if (!policy)
		policy = &nothing;
	if (!policy_equal(policy, &ipt->wanted)) {
		ipt->wanted = *policy;
		ipt->changed = true;
		ipt->current = false;
		ipt->rounds = 0;
		iptables_view_free(TAKE_PTR(ipt->learned));
	}
	iptables_check(ipt);
}

void iptables_check(struct iptables *ipt)
{
	if (ipt->state == STATE_IDLE)
		begin(ipt);
	else
		ipt->again = true;
}

bool iptables_is_busy(const struct iptables *ipt)
{
	return ipt->state != STATE_IDLE;
}

bool iptables_legacy_in_use(enum ip_family family)
{
	_cleanup_close_ int fd =
		open(family == IP_V6 ? "/proc/net/ip6_tables_names" : "/proc/net/ip_tables_names",
		     O_RDONLY | O_CLOEXEC);
	char byte;

	return fd >= 0 && read(fd, &byte, 1) == 1;
}

/* -- which iptables this is -------------------------------------------------------------- */

struct iptables_version {
	iptables_fn done;
	void *userdata;
	struct child *child;
	struct event *timer;
	char text[TEXT_MAX]; /* its first line, or why it did not start */
};

static void on_version_line(const char *line, void *userdata)
{
	struct iptables_version *version = userdata;

	if (!*version->text)
		(void)snprintf(version->text, sizeof(version->text), "%s", line);
}

static void on_version_ended(const struct child_end *end, void *userdata)
{
	struct iptables_version *version = userdata;
	char ended[CHILD_COMPLAINT_MAX + 64], text[TEXT_MAX];

	if (!end->exit_code && *version->text) {
		version->done(IPTABLES_INTACT, version->text, version->userdata);
		return;
	}
	child_describe_end(end, ended, sizeof(ended));
	(void)snprintf(text, sizeof(text), "iptables-restore --version: %s", ended);
	version->done(IPTABLES_FAILED, text, version->userdata);
}

static void on_version_refused(void *userdata)
{
	struct iptables_version *version = userdata;

	version->done(IPTABLES_FAILED, version->text, version->userdata);
}

struct iptables_version *iptables_ask_version(struct loop *loop, iptables_fn done, void *userdata)
{
	struct iptables_version *version = mem_alloc(1, sizeof(*version));
	const struct child_events events = {
		.line = on_version_line, .ended = on_version_ended, .userdata = version};
	struct err err = {""};

	version->done = done;
	version->userdata = userdata;
	version->timer = loop_timer_new(loop, on_version_refused, version);
	if (child_start(loop, (const char *const[]){"iptables-restore", "--version", NULL}, NULL,
			ASK_TIMEOUT_MS, &events, &version->child, &err)) {
		(void)snprintf(version->text, sizeof(version->text), "%s", err.text);
		loop_timer_set(version->timer, 0);
	}
	return version;
}

void iptables_version_free(struct iptables_version *version)
{
	if (!version)
		return;
	child_free(version->child);
	loop_event_free(version->timer);
	free(version);
}
