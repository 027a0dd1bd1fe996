/* SPDX-License-Identifier: Apache-2.0 */
/* main.c - flannel, the CNI plugin */
#include "base/mem.h"
#include "cni/install.h"
#include "cni/plugin.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define EXIT_USAGE 2

static const char help[] =
	"flannel - CNI plugin: gives pods an interface in flannel's network\n"
	"\n"
	"A container runtime runs it with the CNI_* variables in its environment and the\n"
	"network config on its stdin. By hand:\n"
	"\n"
	"  flannel --version\n"
	"  flannel --install CONF BIN-DIR CONF-DIR\n"
	"        copies this program to BIN-DIR/flannel and the network config CONF into\n"
	"        CONF-DIR, each as a whole or not at all\n";

static void print_about(FILE *stream)
{
	(void)fprintf(stream, "CNI plugin flannel, weft %s\nCNI versions:", WEFT_VERSION);
	for (size_t i = 0; i < cni_versions_count; i++)
		(void)fprintf(stream, "%s %s", i ? "," : "", cni_versions[i]);
	(void)fputc('\n', stream);
}

static int run_by_hand(int argc, char **argv)
{
	struct err err;

	if (argc == 2 && !strcmp(argv[1], "--version")) {
		print_about(stdout);
		return EXIT_SUCCESS;
	}
	if (argc == 2 && !strcmp(argv[1], "--help")) {
		(void)fputs(help, stdout);
		return EXIT_SUCCESS;
	}
	if (argc == 5 && !strcmp(argv[1], "--install")) {
		if (!install(argv[2], argv[3], argv[4], &err))
			return EXIT_SUCCESS;
		(void)fprintf(stderr, "flannel: %s\n", err.text);
		return EXIT_FAILURE;
	}
	(void)fprintf(stderr, "flannel: cannot make sense of \"%s\"\n\n%s", argv[1], help);
	return EXIT_USAGE;
}

/* The whole config. Caller frees. */
static int read_stdin(char **ret_text, size_t *ret_len, struct cni_error *error)
{
	_cleanup_free_ char *text = NULL;
	size_t len = 0, size = 0;

	for (;;) {
		ssize_t n;

		if (len == size) {
			size += size + 4096;
			text = mem_realloc(text, size, 1);
		}
		n = read(STDIN_FILENO, text + len, size - len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return cni_fail(error, CNI_IO_FAILURE, "cannot read the network config: %s",
					strerror(errno));
		if (!n)
			break;
		len += (size_t)n;
		if (len > CNI_CONF_MAX_BYTES)
			return cni_fail(error, CNI_DECODING_FAILURE,
					"the network config is longer than %d bytes",
					CNI_CONF_MAX_BYTES);
	}
	*ret_text = TAKE_PTR(text);
	*ret_len = len;
	return 0;
}

/* @text and a newline; it is nobody's business to wait for a disk here. */
static int print(const char *text)
{
	return puts(text) < 0 || fflush(stdout) ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* A result that nobody has read is an attachment that nobody knows of. */
static void take_back(const struct cni_request *added, const char *config, size_t len)
{
	struct cni_request request = *added;
	struct cni_error error;
	const char *version;
	json_t *answer;

	request.command = CNI_DEL;
	if (plugin_run(&request, config, len, &answer, &version, &error))
		(void)fprintf(stderr, "flannel: undoing ADD failed: %s\n", error.msg);
}

int main(int argc, char **argv)
{
	_cleanup_free_ char *config = NULL, *text = NULL;
	const char *command = getenv("CNI_COMMAND"), *version = "1.0.0";
	_cleanup_json_ json_t *answer = NULL;
	struct cni_request request;
	struct cni_error error;
	size_t len = 0;

	if (argc > 1)
		return run_by_hand(argc, argv);
	if (!command || !*command) {
		print_about(stderr);
		return EXIT_SUCCESS;
	}
	/* A runtime that has gone must not keep us from cleaning up. */
	(void)signal(SIGPIPE, SIG_IGN);
	if (cni_request_parse(getenv, &request, &error) ||
	    (request.command != CNI_VERSION && read_stdin(&config, &len, &error)) ||
	    plugin_run(&request, config, len, &answer, &version, &error)) {
		text = cni_error_format(&error, version);
		(void)print(text);
		return EXIT_FAILURE;
	}
	if (!answer)
		return EXIT_SUCCESS;
	text = json_dumps(answer, JSON_INDENT(4));
	if (text && print(text) == EXIT_SUCCESS)
		return EXIT_SUCCESS;
	(void)fprintf(stderr, "flannel: cannot write the answer: %s\n", strerror(errno));
	if (request.command == CNI_ADD)
		take_back(&request, config, len);
	return EXIT_FAILURE;
}
