/* SPDX-License-Identifier: Apache-2.0 */
/* nft.c - nftables by text
 *
 * One context of libnftables is kept for the life of the process, because of its socket,
 * and one socket of our own: closing one waits until the kernel has freed what was deleted
 * (nft_rcv_nl_event()), some 8 to 30 ms, while a command takes less than one. They belong
 * to the network namespace that they were made in. What it has read is dropped after each command:
 * nothing stale is looked at, and the rules of others take no memory.
 *
 * libnftables reads anew whenever somebody has changed something meanwhile, without an end: where
 * there are many rules and somebody who never pauses, a command would take for ever. It is
 * ended by a signal that takes its socket away.
 */
#include "rules/nft.h"

#include "base/mem.h"
#include "kernel/nft_event.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <nftables/libnftables.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>

#define PATIENCE_S 5 /* 10,000 rules are read in 0.15 s */

static struct {
	struct nft_ctx *nft;
	int nft_fd; /* its socket; -1: unknown */
	struct netlink *netlink;
	ino_t namespace; /* of both */
} kept = {.nft_fd = -1};

/* For the signal handler. */
static volatile sig_atomic_t watched_fd = -1, null_fd = -1, overdue;

/* 0 where /proc tells nothing. */
static ino_t current_namespace(void)
{
	struct stat st;

	return stat("/proc/thread-self/ns/net", &st) ? 0 : st.st_ino;
}

static void drop_socket(void)
{
	netlink_close(kept.netlink);
	kept.netlink = NULL;
}

static void drop_context(void)
{
	if (kept.nft)
		nft_ctx_free(kept.nft);
	kept.nft = NULL;
}

/* libnftables lets programs that we start inherit its socket. It says nowhere which that
 * is; it is the first that it opens, where @fd was free. */
static void find_socket(int fd)
{
	int protocol;
	socklen_t len = sizeof(protocol);

	kept.nft_fd = -1;
	if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) ||
	    protocol != NETLINK_NETFILTER)
		return;
	(void)fcntl(fd, F_SETFD, FD_CLOEXEC);
	kept.nft_fd = fd;
}

/* ---- patience ---- */

static void on_alarm(int signal)
{
	const int code = errno;

	(void)signal;
	overdue = 1;
	(void)dup3(null_fd, watched_fd, O_CLOEXEC);
	errno = code;
}

static void set_alarm(int seconds)
{
	const struct itimerval when = {.it_value.tv_sec = seconds};

	(void)setitimer(ITIMER_REAL, &when, NULL);
}

static void begin_watch(void)
{
	struct sigaction action = {.sa_handler = on_alarm};
	sigset_t set;

	overdue = 0;
	if (null_fd < 0)
		null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (kept.nft_fd < 0 || null_fd < 0)
		return;
	watched_fd = kept.nft_fd;
	(void)sigaction(SIGALRM, &action, NULL);
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGALRM);
	(void)sigprocmask(SIG_UNBLOCK, &set, NULL);
	set_alarm(PATIENCE_S);
}

/* Whether it took too long: then nothing that libnftables says is true. */
static bool end_watch(void)
{
	set_alarm(0);
	return overdue;
}

/* ---- commands ---- */

/* Drops what was made elsewhere. */
static void enter_namespace(void)
{
	ino_t namespace = current_namespace();

	if (kept.namespace == namespace)
		return;
	drop_context();
	drop_socket();
	kept.namespace = namespace;
}

/* NULL: libnftables cannot start. */
static struct nft_ctx *get_context(void)
{
	int fd;

	enter_namespace();
	if (kept.nft)
		return kept.nft;
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (fd >= 0)
		(void)close(fd);
	kept.nft = nft_ctx_new(NFT_CTX_DEFAULT);
	if (kept.nft) {
		find_socket(fd);
		(void)nft_ctx_buffer_error(kept.nft);
		(void)nft_ctx_buffer_output(kept.nft);
	}
	return kept.nft;
}

/* What there is not is told in words: of errno libnftables leaves whatever came last. */
static int complaint_code(const char *complaint)
{
	return strstr(complaint, strerror(ENOENT)) ? -ENOENT : -EINVAL;
}

/* libnftables forgets what it has read of the kernel when a command fails. Reading the
 * buffers empties them. */
static void forget(struct nft_ctx *nft)
{
	(void)nft_run_cmd_from_buffer(nft, "?");
	(void)nft_ctx_get_error_buffer(nft);
	(void)nft_ctx_get_output_buffer(nft);
}

static int run(const char *commands, unsigned output_flags, char **ret_text, struct err *err)
{
	struct nft_ctx *nft = get_context();
	const char *complaint, *text;
	int code;

	if (!nft)
		return err_set(err, -ENOMEM, "libnftables cannot start");
	nft_ctx_output_set_flags(nft, output_flags);
	begin_watch();
	code = nft_run_cmd_from_buffer(nft, commands);
	if (end_watch()) {
		drop_context();
		return err_set(err, -ETIMEDOUT,
			       "somebody else has changed nftables without a pause for %d s",
			       PATIENCE_S);
	}
	complaint = nft_ctx_get_error_buffer(nft);
	text = nft_ctx_get_output_buffer(nft);
	if (code) {
		code = err_set(err, complaint_code(complaint), "nftables: %.*s",
			       (int)strcspn(complaint, "\n"), complaint);
		/* Whatever else has failed, the next command begins with another socket. */
		if (code != -ENOENT)
			drop_context();
		return code;
	}
	if (ret_text)
		*ret_text = mem_strdup(text);
	forget(nft);
	return 0;
}

int nft_run(const char *commands, struct err *err)
{
	return run(commands, 0, NULL, err);
}

static int list(const char *object, unsigned output_flags, char **ret_text, struct err *err)
{
	char command[128];

	(void)snprintf(command, sizeof(command), "list %s\n", object);
	return run(command, output_flags, ret_text, err);
}

int nft_list(const char *object, char **ret_text, struct err *err)
{
	return list(object, NFT_CTX_OUTPUT_STATELESS | NFT_CTX_OUTPUT_TERSE, ret_text, err);
}

int nft_list_json(const char *object, char **ret_text, struct err *err)
{
	return list(object,
		    NFT_CTX_OUTPUT_JSON | NFT_CTX_OUTPUT_HANDLE | NFT_CTX_OUTPUT_STATELESS |
			    NFT_CTX_OUTPUT_TERSE,
		    ret_text, err);
}

/* ---- the kernel's own messages ---- */

static int get_socket(struct err *err)
{
	enter_namespace();
	return kept.netlink ? 0 : netlink_open(NETLINK_NETFILTER, &kept.netlink, err);
}

int nft_dump(struct nlmsghdr *msg, netlink_message_fn on_message, void *userdata, struct err *err)
{
	int code = get_socket(err);

	if (!code)
		code = netlink_dump(kept.netlink, msg, on_message, userdata, err);
	if (code)
		drop_socket(); /* who knows what is still to come */
	return code;
}

static void on_generation(const struct nlmsghdr *msg, void *userdata)
{
	uint32_t *generation = userdata;
	struct nft_change change;

	if (!nft_change_parse(msg, &change) && change.kind == NFT_EVENT_GENERATION)
		*generation = change.generation;
}

int nft_get_generation(uint32_t *ret_generation, struct err *err)
{
	char buf[NETLINK_MESSAGE_MAX] __attribute__((aligned(8))) = {0};
	uint32_t generation = 0;
	int code = get_socket(err);

	if (!code)
		code = netlink_request(kept.netlink, nft_put_get_generation(buf), on_generation,
				       &generation, err);
	if (code)
		drop_socket();
	else
		*ret_generation = generation;
	return code;
}
