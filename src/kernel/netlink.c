/* SPDX-License-Identifier: Apache-2.0 */
/* netlink.c - netlink sockets: request, dump, batch, monitor
 *
 * Theory of operation: the kernel works on a netlink request inside our send
 * call, so that its answer lies in the socket's queue when send returns; a dump
 * goes on inside each receive call. Hence every read here is non-blocking: an
 * empty queue where an answer must be is an error (-EPROTO), never a wait.
 *
 * A batch asks for one acknowledgement, on its last message. The kernel answers
 * failures of the others by themselves, in order, so the answer to the last
 * message ends the batch.
 */
#include "kernel/netlink.h"

#include "base/mem.h"

#include <errno.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <sys/socket.h>

#define NETLINK_RECV_BYTES  (32 * 1024) /* largest dump part of the kernel */
#define NETLINK_BATCH_BYTES (64 * 1024) /* below the default send buffer */
#define NETLINK_QUEUE_BYTES (8 * 1024 * 1024)

struct netlink {
	struct mnl_socket *socket;
	uint32_t seq;
	char buf[NETLINK_RECV_BYTES];
};

struct netlink_batch {
	char buf[NETLINK_BATCH_BYTES + NETLINK_MESSAGE_MAX];
	size_t len;
	size_t last;       /* offset of the last message that answers */
	size_t last_index; /* and its place in tokens */
	uint32_t *tokens;
	size_t n, cap;
};

#define FRAME_TOKEN UINT32_MAX

static void set_option(const struct mnl_socket *socket, int level, int option, int value)
{
	/* All of these are improvements that an old kernel may lack. */
	(void)setsockopt(mnl_socket_get_fd(socket), level, option, &value, sizeof(value));
}

int netlink_open(int bus, struct netlink **ret_nl, struct err *err)
{
	struct netlink *nl = mem_alloc(1, sizeof(*nl));
	int code;

	nl->socket = mnl_socket_open2(bus, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (!nl->socket || mnl_socket_bind(nl->socket, 0, MNL_SOCKET_AUTOPID) < 0) {
		code = err_sys(err, -errno, "netlink socket (bus %d)", bus);
		netlink_close(nl);
		return code;
	}
	set_option(nl->socket, SOL_NETLINK, NETLINK_EXT_ACK, 1);
	set_option(nl->socket, SOL_NETLINK, NETLINK_CAP_ACK, 1);
	set_option(nl->socket, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
	set_option(nl->socket, SOL_SOCKET, SO_RCVBUFFORCE, NETLINK_QUEUE_BYTES);
	*ret_nl = nl;
	return 0;
}

void netlink_close(struct netlink *nl)
{
	if (!nl)
		return;
	if (nl->socket)
		mnl_socket_close(nl->socket);
	free(nl);
}

int netlink_fd(const struct netlink *nl)
{
	return mnl_socket_get_fd(nl->socket);
}

/* One datagram from the kernel into nl->buf. Its length, or -errno. */
static ssize_t receive(struct netlink *nl)
{
	ssize_t n;

	do {
		n = mnl_socket_recvfrom(nl->socket, nl->buf, sizeof(nl->buf));
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/* The same where there must be one: the kernel has answered by now. */
static ssize_t receive_answer(struct netlink *nl, struct err *err)
{
	ssize_t n = receive(nl);

	if (n == -EAGAIN)
		return err_set(err, -EPROTO, "the kernel did not answer");
	return n < 0 ? err_sys(err, (int)n, "netlink receive") : n;
}

static int find_ext_text(const struct nlattr *attr, void *data)
{
	const char **text = data;

	if (mnl_attr_get_type(attr) == NLMSGERR_ATTR_MSG &&
	    mnl_attr_validate(attr, MNL_TYPE_NUL_STRING) >= 0)
		*text = mnl_attr_get_str(attr);
	return MNL_CB_OK;
}

/* The code (0: success) of an NLMSG_ERROR and the kernel's own words, "" for none. */
static int parse_ack(const struct nlmsghdr *msg, const char **ret_text)
{
	const struct nlmsgerr *ack = mnl_nlmsg_get_payload(msg);
	size_t skip;

	*ret_text = "";
	if (mnl_nlmsg_get_payload_len(msg) < sizeof(*ack))
		return -EPROTO;
	if (msg->nlmsg_flags & NLM_F_ACK_TLVS) {
		skip = sizeof(*ack);
		if (!(msg->nlmsg_flags & NLM_F_CAPPED) && ack->error)
			skip += MNL_ALIGN(ack->msg.nlmsg_len) - sizeof(ack->msg);
		if (mnl_nlmsg_get_payload_len(msg) > skip)
			(void)mnl_attr_parse(msg, (unsigned)skip, find_ext_text, ret_text);
	}
	return ack->error;
}

/* The code (0: success) of an NLMSG_DONE: a dump that fails half-way ends like any other. */
static int parse_done(const struct nlmsghdr *msg, const char **ret_text)
{
	int code = 0;

	*ret_text = "";
	if (mnl_nlmsg_get_payload_len(msg) < sizeof(code))
		return 0;
	memcpy(&code, mnl_nlmsg_get_payload(msg), sizeof(code));
	if (msg->nlmsg_flags & NLM_F_ACK_TLVS)
		(void)mnl_attr_parse(msg, sizeof(code), find_ext_text, ret_text);
	return code < 0 ? code : 0;
}

static int set_kernel_error(struct err *err, int code, const char *text)
{
	return *text ? err_set(err, code, "%s (%s)", strerror(-code), text)
		     : err_set(err, code, "%s", strerror(-code));
}

/* Reads answers to @seq until the terminating one. */
static int read_answers(struct netlink *nl, uint32_t seq, netlink_message_fn on_message,
			void *userdata, struct err *err)
{
	bool interrupted = false;
	const char *text;

	for (;;) {
		ssize_t n = receive_answer(nl, err);
		int left = (int)n, code;

		if (n < 0)
			return (int)n;
		for (const struct nlmsghdr *m = (const void *)nl->buf; mnl_nlmsg_ok(m, left);
		     m = mnl_nlmsg_next(m, &left)) {
			if (m->nlmsg_seq != seq)
				continue; /* rest of a request that was given up */
			interrupted |= !!(m->nlmsg_flags & NLM_F_DUMP_INTR);
			if (m->nlmsg_type == NLMSG_ERROR) {
				code = parse_ack(m, &text);
				return code ? set_kernel_error(err, code, text) : 0;
			}
			if (m->nlmsg_type == NLMSG_DONE) {
				code = parse_done(m, &text);
				if (code)
					return set_kernel_error(err, code, text);
				return interrupted
					       ? err_set(err, -EINTR, "changed while it was listed")
					       : 0;
			}
			if (on_message && m->nlmsg_type >= NLMSG_MIN_TYPE)
				on_message(m, userdata);
		}
	}
}

static int send_and_read(struct netlink *nl, struct nlmsghdr *msg, uint16_t flags,
			 netlink_message_fn on_message, void *userdata, struct err *err)
{
	msg->nlmsg_flags |= NLM_F_REQUEST | flags;
	msg->nlmsg_seq = ++nl->seq;
	if (mnl_socket_sendto(nl->socket, msg, msg->nlmsg_len) < 0)
		return err_sys(err, -errno, "netlink send");
	return read_answers(nl, msg->nlmsg_seq, on_message, userdata, err);
}

int netlink_request(struct netlink *nl, struct nlmsghdr *msg, netlink_message_fn on_message,
		    void *userdata, struct err *err)
{
	return send_and_read(nl, msg, NLM_F_ACK, on_message, userdata, err);
}

int netlink_dump(struct netlink *nl, struct nlmsghdr *msg, netlink_message_fn on_message,
		 void *userdata, struct err *err)
{
	return send_and_read(nl, msg, NLM_F_DUMP, on_message, userdata, err);
}

struct netlink_batch *netlink_batch_new(void)
{
	return mem_alloc(1, sizeof(struct netlink_batch));
}

void netlink_batch_free(struct netlink_batch *batch)
{
	if (!batch)
		return;
	free(batch->tokens);
	free(batch);
}

void *netlink_batch_room(struct netlink_batch *batch)
{
	if (NETLINK_BATCH_BYTES - batch->len < NETLINK_MESSAGE_MAX)
		return NULL;
	return memset(batch->buf + batch->len, 0, NETLINK_MESSAGE_MAX);
}

void *netlink_batch_frame_room(struct netlink_batch *batch)
{
	return memset(batch->buf + batch->len, 0, NETLINK_MESSAGE_MAX);
}

static void append(struct netlink_batch *batch, const struct nlmsghdr *msg, uint32_t token)
{
	if (batch->n == batch->cap) {
		batch->cap = batch->cap ? 2 * batch->cap : 256;
		batch->tokens = mem_realloc(batch->tokens, batch->cap, sizeof(*batch->tokens));
	}
	batch->tokens[batch->n++] = token;
	batch->len += MNL_ALIGN(msg->nlmsg_len);
}

void netlink_batch_commit(struct netlink_batch *batch, const struct nlmsghdr *msg, uint32_t token)
{
	batch->last = batch->len;
	batch->last_index = batch->n;
	append(batch, msg, token);
}

void netlink_batch_commit_frame(struct netlink_batch *batch, const struct nlmsghdr *msg)
{
	append(batch, msg, FRAME_TOKEN);
}

void netlink_batch_reset(struct netlink_batch *batch)
{
	batch->n = batch->len = batch->last = batch->last_index = 0;
}

/* Numbers the messages, first to last; one alone asks for an answer. */
static uint32_t number_messages(struct netlink *nl, struct netlink_batch *batch)
{
	uint32_t first = nl->seq + 1;

	for (size_t off = 0; off < batch->len;) {
		struct nlmsghdr *m = (void *)(batch->buf + off);

		m->nlmsg_flags |= NLM_F_REQUEST;
		m->nlmsg_seq = ++nl->seq;
		if (off == batch->last)
			m->nlmsg_flags |= NLM_F_ACK;
		off += MNL_ALIGN(m->nlmsg_len);
	}
	return first;
}

static int read_batch_answers(struct netlink *nl, const struct netlink_batch *batch, uint32_t first,
			      netlink_failure_fn on_failure, void *userdata, struct err *err)
{
	const char *text;

	for (;;) {
		ssize_t n = receive_answer(nl, err);
		int left = (int)n, code;

		if (n < 0)
			return (int)n;
		for (const struct nlmsghdr *m = (const void *)nl->buf; mnl_nlmsg_ok(m, left);
		     m = mnl_nlmsg_next(m, &left)) {
			uint32_t index = m->nlmsg_seq - first;

			if (m->nlmsg_type != NLMSG_ERROR || index >= batch->n)
				continue;
			code = parse_ack(m, &text);
			if (code && batch->tokens[index] == FRAME_TOKEN)
				return set_kernel_error(err, code, text);
			if (code)
				on_failure(batch->tokens[index], code, text, userdata);
			if (index == batch->last_index)
				return 0;
		}
	}
}

int netlink_batch_send(struct netlink *nl, struct netlink_batch *batch,
		       netlink_failure_fn on_failure, void *userdata, struct err *err)
{
	uint32_t first;
	int code = 0;

	if (!batch->n)
		return 0;
	first = number_messages(nl, batch);
	if (mnl_socket_sendto(nl->socket, batch->buf, batch->len) < 0)
		code = err_sys(err, -errno, "netlink send");
	else
		code = read_batch_answers(nl, batch, first, on_failure, userdata, err);
	netlink_batch_reset(batch);
	return code;
}

int netlink_monitor_open(int bus, const int *groups, size_t n_groups, struct netlink **ret_nl,
			 struct err *err)
{
	struct netlink *nl;
	int code = netlink_open(bus, &nl, err);

	if (code)
		return code;
	for (size_t i = 0; i < n_groups; i++) {
		int group = groups[i];

		if (mnl_socket_setsockopt(nl->socket, NETLINK_ADD_MEMBERSHIP, &group,
					  sizeof(group)) < 0) {
			code = err_sys(err, -errno, "join netlink group %d", group);
			netlink_close(nl);
			return code;
		}
	}
	*ret_nl = nl;
	return 0;
}

int netlink_monitor_drain(struct netlink *nl, netlink_message_fn on_message, void *userdata)
{
	for (;;) {
		ssize_t n = receive(nl);
		int left = (int)n;

		if (n == -EAGAIN)
			return 0;
		if (n < 0)
			return (int)n;
		for (const struct nlmsghdr *m = (const void *)nl->buf; mnl_nlmsg_ok(m, left);
		     m = mnl_nlmsg_next(m, &left))
			if (m->nlmsg_type >= NLMSG_MIN_TYPE)
				on_message(m, userdata);
	}
}
