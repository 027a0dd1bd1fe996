/* SPDX-License-Identifier: Apache-2.0 */
/* health.c - what is missing, what is wrong: /healthz, /readyz, systemd's STATUS, a file */
#include "daemon/health.h"

#include "base/log.h"
#include "base/mem.h"
#include "daemon/notify.h"
#include "daemon/status_file.h"

#include <errno.h>
#include <stdio.h>

enum {
	TELL_AGAIN_MS = 50,
};

enum condition { MISSING, DEGRADED, GOOD };

struct health {
	struct server *server;
	struct {
		enum condition condition;
		char what[ERR_TEXT_MAX];
	} part[HEALTH_PART_COUNT];
	bool announced;
	char stopped[ERR_TEXT_MAX]; /* why; "": it goes on */
	/* What systemd knows. */
	bool told_ready;
	char told_status[ERR_TEXT_MAX];
	struct event *again; /* its queue was full */
	/* What is in the file; NULL: none is kept. */
	struct status_file *file;
	char written[ERR_TEXT_MAX];
	bool file_failed;
};

static const char *const part_names[] = {
	[HEALTH_STORE] = "datastore",       [HEALTH_CONFIG] = "network config",
	[HEALTH_UPLINK] = "interface",      [HEALTH_LEASE] = "lease",
	[HEALTH_PEERS] = "peers",           [HEALTH_KERNEL] = "kernel",
	[HEALTH_FILTER] = "peer filter",    [HEALTH_FILE] = "subnet file",
	[HEALTH_FORWARDING] = "forwarding", [HEALTH_RULES] = "rules",
	[HEALTH_TUNNEL] = "udp tunnel",
};
_Static_assert(ARRAY_SIZE(part_names) == HEALTH_PART_COUNT, "a name for each part");

/* What each part waits for at first: the one before it. */
static const char *const waits_for[] = {
	[HEALTH_STORE] = "",
	[HEALTH_CONFIG] = "waiting for the datastore",
	[HEALTH_UPLINK] = "waiting for the network config",
	[HEALTH_LEASE] = "waiting for the interface",
	[HEALTH_PEERS] = "waiting for the lease",
	[HEALTH_KERNEL] = "waiting for the peers",
	[HEALTH_TUNNEL] = "",
	[HEALTH_FILTER] = "",
	[HEALTH_FORWARDING] = "",
	[HEALTH_RULES] = "waiting for the lease",
	[HEALTH_FILE] = "waiting for devices, routes and rules",
};
_Static_assert(ARRAY_SIZE(waits_for) == HEALTH_PART_COUNT, "a reason for each part");

static int serve_healthz(char *text, size_t size, void *userdata)
{
	(void)userdata;
	(void)snprintf(text, size, "flanneld is running\n");
	return 200;
}

/* One line for each part in @condition, behind what is in @text. */
static void list_parts(const struct health *h, enum condition condition, const char *prefix,
		       char *text, size_t size)
{
	for (int i = 0; i < HEALTH_PART_COUNT; i++) {
		size_t n = strlen(text);

		if (h->part[i].condition == condition)
			(void)snprintf(text + n, size - n, "%s%s: %s\n", prefix, part_names[i],
				       h->part[i].what);
	}
}

bool health_is_ready(const struct health *h)
{
	for (int i = 0; i < HEALTH_PART_COUNT; i++)
		if (h->part[i].condition == MISSING)
			return false;
	return true;
}

static int serve_readyz(char *text, size_t size, void *userdata)
{
	const struct health *h = userdata;
	bool ready = health_is_ready(h);

	(void)snprintf(text, size, ready ? "flanneld is ready\n" : "flanneld is not ready\n");
	list_parts(h, MISSING, "missing ", text, size);
	list_parts(h, DEGRADED, "warning ", text, size);
	return ready ? 200 : 503;
}

/* The first part in @condition, HEALTH_PART_COUNT: none. */
static int first_part(const struct health *h, enum condition condition)
{
	int i = 0;

	while (i < HEALTH_PART_COUNT && h->part[i].condition != condition)
		i++;
	return i;
}

/* One line: why it ends, or what is missing, or else what is wrong, or else "ready". */
static void format_status(const struct health *h, char *text, size_t size)
{
	int part = first_part(h, MISSING);

	if (part == HEALTH_PART_COUNT)
		part = first_part(h, DEGRADED);
	if (*h->stopped)
		(void)snprintf(text, size, "stopped: %.440s", h->stopped);
	else if (part == HEALTH_PART_COUNT)
		(void)snprintf(text, size, "ready");
	else
		(void)snprintf(text, size, "%s: %.440s", part_names[part], h->part[part].what);
}

/* A file that cannot be written is told once: nobody but the CNI plugin's words need it. */
static void write_file(struct health *h)
{
	char status[ERR_TEXT_MAX];
	struct err err;
	int code;

	format_status(h, status, sizeof(status));
	if (!h->file || !strcmp(status, h->written))
		return;
	code = status_file_write(h->file, status, &err);
	if (code && code != -EWOULDBLOCK && !h->file_failed)
		log_warning("Writing the status file failed: %s; ignoring", err.text);
	h->file_failed = code;
	if (!code)
		(void)snprintf(h->written, sizeof(h->written), "%s", status);
}

/* Tells systemd what it has not been told yet: that we are ready, how things stand. Its queue
 * may be full for a moment (net.unix.max_dgram_qlen, 10 messages in the kernel's own setting);
 * a READY=1 that is lost makes systemd end us after TimeoutStartSec. */
static void tell(struct health *h)
{
	bool ready = h->announced && !h->told_ready;
	char status[ERR_TEXT_MAX], message[ERR_TEXT_MAX + 32] = "";
	struct err err;
	int code;

	format_status(h, status, sizeof(status));
	if (strcmp(status, h->told_status) != 0)
		(void)snprintf(message, sizeof(message), "%sSTATUS=%s", ready ? "READY=1\n" : "",
			       status);
	else if (ready)
		(void)snprintf(message, sizeof(message), "READY=1");
	else
		return;
	code = notify_send(message, &err);
	if (code == -EAGAIN) {
		loop_timer_set_sooner(h->again, TELL_AGAIN_MS);
		return;
	}
	if (code && ready)
		log_warning("Telling systemd that we are ready failed: %s; ignoring", err.text);
	h->told_ready |= ready;
	(void)snprintf(h->told_status, sizeof(h->told_status), "%s", status);
}

static void on_again(void *userdata)
{
	tell(userdata);
}

static void set_part(struct health *h, enum health_part part, enum condition condition,
		     const char *what)
{
	bool same = h->part[part].condition == condition && !strcmp(h->part[part].what, what);

	if (same)
		return;
	h->part[part].condition = condition;
	(void)snprintf(h->part[part].what, sizeof(h->part[part].what), "%s", what);
	/* Outside text must not forge a line of its own, least of all for systemd. */
	log_clean(h->part[part].what);
	write_file(h);
	tell(h);
}

int health_new(struct loop *loop, const struct ip *ip, uint16_t port, struct health **ret_health,
	       struct err *err)
{
	struct health *h = mem_alloc(1, sizeof(*h));
	int code;

	h->again = loop_timer_new(loop, on_again, h);
	for (int i = 0; i < HEALTH_PART_COUNT; i++)
		(void)snprintf(h->part[i].what, sizeof(h->part[i].what), "%s", waits_for[i]);
	/* Good until they say otherwise. */
	health_good(h, HEALTH_STORE);
	health_good(h, HEALTH_TUNNEL);
	health_good(h, HEALTH_FILTER);
	health_good(h, HEALTH_FORWARDING);
	if (port) {
		code = server_new(loop, ip, port, &h->server, err);
		if (code) {
			health_free(h);
			return err_wrap(err, code, "--healthz-port");
		}
		server_route(h->server, "/healthz", serve_healthz, h);
		server_route(h->server, "/readyz", serve_readyz, h);
	}
	*ret_health = h;
	return 0;
}

void health_free(struct health *h)
{
	if (!h)
		return;
	server_free(h->server);
	loop_event_free(h->again);
	status_file_free(h->file);
	free(h);
}

void health_serve(struct health *h, const char *path, server_fn fn, void *userdata)
{
	if (h->server)
		server_route(h->server, path, fn, userdata);
}

void health_keep_file(struct health *h, const char *subnet_path)
{
	h->file = status_file_new(subnet_path);
	write_file(h);
}

void health_missing(struct health *h, enum health_part part, const char *what)
{
	set_part(h, part, MISSING, what);
}

void health_degraded(struct health *h, enum health_part part, const char *what)
{
	set_part(h, part, DEGRADED, what);
}

void health_good(struct health *h, enum health_part part)
{
	set_part(h, part, GOOD, "");
}

void health_stopped(struct health *h, const char *why)
{
	(void)snprintf(h->stopped, sizeof(h->stopped), "%s", why);
	log_clean(h->stopped);
	write_file(h);
	tell(h);
}

void health_announce(struct health *h)
{
	if (h->announced || !health_is_ready(h))
		return;
	h->announced = true;
	log_info("flannel is ready");
	tell(h);
}
