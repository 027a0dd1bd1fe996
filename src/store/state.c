/* SPDX-License-Identifier: Apache-2.0 */
/* state.c - the state file: the last good state of a remote store
 *
 * Read twice: first all of it, to know that it is whole, then the peers. The file is never
 * in memory, only one line of it.
 */
#include "store/state.h"

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>

#define FIRST_LINE  "weft-state 1"
#define LINE_STEP   1024
#define BUFFER_SIZE 65536

void state_done(struct state *state)
{
	free(state->store);
	free(state->place);
	free(state->config);
	lease_done(&state->own);
	*state = (struct state){0};
}

/* ---- lines ---- */

struct line {
	char *text; /* NUL-terminated, without its newline; owned */
	size_t len, size;
	size_t number;
};

static void cleanup_line(struct line *line)
{
	free(line->text);
}

/* 0; -ENODATA at the end of the file, where half a line counts as none; -EINVAL when it
 * is too long. */
static int read_line(FILE *stream, struct line *line)
{
	int c;

	line->len = 0;
	line->number++;
	while ((c = getc_unlocked(stream)) != EOF) {
		if (line->len + 1 >= line->size) {
			line->size = 2 * line->size + LINE_STEP;
			line->text = mem_realloc(line->text, line->size, 1);
		}
		if (c == '\n') {
			line->text[line->len] = '\0';
			return 0;
		}
		if (line->len == STATE_LINE_MAX)
			return -EINVAL;
		line->text[line->len++] = (char)c;
	}
	return -ENODATA;
}

/* What follows @word and a blank; NULL: it is another line. */
static const char *after_word(const struct line *line, const char *word)
{
	size_t len = strlen(word);

	return !strncmp(line->text, word, len) && line->text[len] == ' ' ? line->text + len + 1
									 : NULL;
}

/* ---- reading ---- */

static int parse_store(const char *text, struct state *state)
{
	if (state->store)
		return -EINVAL;
	state->store = mem_strdup(text);
	return 0;
}

static int parse_saved(const char *text, struct state *state)
{
	return lease_parse_time(text, &state->saved_s);
}

/* One JSON string at *@cursor. */
static int cut_string(const char **cursor, size_t max, char **ret_text)
{
	json_error_t error;
	json_t *value = json_loads(*cursor, JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK, &error);
	bool good = json_is_string(value) && json_string_length(value) <= max;

	if (good) {
		*ret_text = mem_strdup(json_string_value(value));
		*cursor += error.position;
	}
	json_decref(value);
	return good ? 0 : -EINVAL;
}

static int parse_config(const char *text, struct state *state)
{
	if (state->config || cut_string(&text, STATE_PLACE_MAX, &state->place) || *text++ != ' ' ||
	    cut_string(&text, NETCONF_MAX_BYTES, &state->config) || *text)
		return -EINVAL;
	return 0;
}

/* <name> and a blank; what follows. NULL: it is no such line. */
static const char *cut_name(const char *text, char ret_name[STATE_NAME_MAX])
{
	const char *blank = strchr(text, ' ');

	if (!blank || blank == text || blank - text >= STATE_NAME_MAX)
		return NULL;
	(void)snprintf(ret_name, STATE_NAME_MAX, "%.*s", (int)(blank - text), text);
	return blank + 1;
}

/* <key> <record> */
static int parse_lease(const char *text, char ret_key[LEASE_KEY_MAX], struct lease *ret_lease)
{
	const char *blank = strchr(text, ' ');
	char key[LEASE_KEY_MAX];
	int code;

	if (!blank || (size_t)(blank - text) >= sizeof(key))
		return -EINVAL;
	(void)snprintf(key, sizeof(key), "%.*s", (int)(blank - text), text);
	code = lease_parse(key, blank + 1, strlen(blank + 1), ret_lease, NULL);
	if (!code)
		memcpy(ret_key, key, sizeof(key));
	return code;
}

static int parse_own(const char *text, struct state *state)
{
	char key[LEASE_KEY_MAX];

	lease_done(&state->own);
	return parse_lease(text, key, &state->own);
}

static int parse_public_ip(const char *text, struct state *state)
{
	struct ip ip;

	if (ip_parse(text, &ip))
		return -EINVAL;
	state->public_ip[ip.family] = ip;
	return 0;
}

static int count_peer(const char *text, struct state *state)
{
	(void)text;
	state->n_peers++;
	return 0;
}

static const struct {
	const char *word;
	int (*parse)(const char *text, struct state *state);
} words[] = {
	{"store", parse_store},         {"saved", parse_saved},
	{"config", parse_config},       {"own", parse_own},
	{"peer", count_peer},           {"node", count_peer},
	{"public-ip", parse_public_ip},
};

static int parse_line(const struct line *line, struct state *state)
{
	if (strlen(line->text) != line->len)
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		const char *text = after_word(line, words[i].word);

		if (text)
			return words[i].parse(text, state);
	}
	return 0;
}

/* The last line says how many peers there are, and that we have come this far. */
static bool is_right_end(const struct line *line, const struct state *state)
{
	const char *text = after_word(line, "end");
	char want[32];

	(void)snprintf(want, sizeof(want), "%zu", state->n_peers);
	return text && !strcmp(text, want) && state->store && state->saved_s && state->config;
}

static int read_all(FILE *stream, struct line *line, struct state *state, struct err *err)
{
	bool ended = false;
	int code = read_line(stream, line);

	if (code || strcmp(line->text, FIRST_LINE) != 0)
		return err_set(err, -EINVAL, "its first line is not \"" FIRST_LINE "\"");
	while (!(code = read_line(stream, line))) {
		ended = is_right_end(line, state);
		if (ended)
			break;
		if (parse_line(line, state))
			return err_set(err, -EINVAL, "its line %zu is damaged", line->number);
	}
	if (ferror(stream))
		return err_sys(err, -EIO, "reading it");
	if (code == -EINVAL)
		return err_set(err, code, "its line %zu is too long", line->number);
	if (!ended || getc_unlocked(stream) != EOF)
		return err_set(err, -EINVAL, "it is not whole");
	return 0;
}

int state_read(FILE *stream, struct state *ret_state, struct err *err)
{
	_cleanup_(cleanup_line) struct line line = {0};
	struct state state = {0};
	int code = read_all(stream, &line, &state, err);

	if (code)
		state_done(&state);
	else
		*ret_state = state;
	return code;
}

size_t state_read_peers(FILE *stream,
			void (*each)(const char *key, struct lease *lease, void *userdata),
			void *userdata)
{
	_cleanup_(cleanup_line) struct line line = {0};
	size_t unreadable = 0;

	rewind(stream);
	while (!read_line(stream, &line)) {
		const char *text = after_word(&line, "peer"), *node = after_word(&line, "node");
		struct lease lease = {0};
		char key[LEASE_KEY_MAX], name[STATE_NAME_MAX] = "";

		if (!text && !node)
			continue;
		if (node)
			text = cut_name(node, name);
		if (!text || parse_lease(text, key, &lease))
			unreadable++;
		else
			each(node ? name : key, &lease, userdata);
		lease_done(&lease);
	}
	return unreadable;
}

/* ---- writing ---- */

/* @text as a JSON string; one that is no UTF-8, hence no config, is "". */
static void write_string(FILE *stream, const char *text)
{
	json_t *value = json_string(text) ?: json_string("");

	(void)json_dumpf(value, stream, JSON_ENCODE_ANY);
	json_decref(value);
}

static void write_record(FILE *stream, const char *key, const struct lease *lease)
{
	_cleanup_free_ char *record = lease_format(lease);

	(void)fprintf(stream, "%s %s\n", key, record);
}

static void write_peer(const char *name, const struct lease *lease, void *userdata)
{
	FILE *stream = userdata;
	char key[LEASE_KEY_MAX];

	if (!strcmp(name, lease_format_key(lease->subnet, key)))
		(void)fputs("peer ", stream);
	else
		(void)fprintf(stream, "node %s ", name);
	write_record(stream, key, lease);
}

void state_write(FILE *stream, const struct state *state, const struct peers *peers)
{
	_cleanup_free_ char *store = mem_strdup(state->store);
	char time[32], key[LEASE_KEY_MAX], ip[IP_STRLEN];

	log_clean(store);
	(void)fprintf(stream, FIRST_LINE "\nstore %s\nsaved %s\nconfig ", store,
		      lease_format_time(state->saved_s, time));
	write_string(stream, state->place);
	(void)fputc(' ', stream);
	write_string(stream, state->config);
	(void)fputc('\n', stream);
	if (*lease_format_key(state->own.subnet, key)) {
		(void)fputs("own ", stream);
		write_record(stream, key, &state->own);
	}
	IP_FOREACH_FAMILY (f)
		if (ip_is_set(&state->public_ip[f]))
			(void)fprintf(stream, "public-ip %s\n",
				      ip_format(&state->public_ip[f], ip));
	peers_each(peers, write_peer, stream);
	(void)fprintf(stream, "end %zu\n", peers_count(peers));
}

/* ---- files ---- */

int state_open(const char *path, FILE **ret_stream, struct state *ret_state, struct err *err)
{
	/* Without ever waiting: a fifo in its place must not block us. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK), code;
	struct stat st;
	FILE *stream;

	if (fd < 0)
		return err_sys(err, -errno, "cannot open it");
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		close(fd);
		return err_set(err, -EINVAL, "it is not a regular file");
	}
	stream = fdopen(fd, "r");
	if (!stream)
		abort(); /* of the reasons only a lack of memory is left */
	(void)setvbuf(stream, NULL, _IOFBF, BUFFER_SIZE);
	code = state_read(stream, ret_state, err);
	if (code)
		(void)fclose(stream);
	else
		*ret_stream = stream;
	return code;
}

int state_save(const char *path, const struct state *state, const struct peers *peers,
	       struct err *err)
{
	struct file_replacement replacement;
	int code = file_replace_begin(path, 0600, &replacement, err);

	if (code)
		return code;
	(void)setvbuf(replacement.stream, NULL, _IOFBF, BUFFER_SIZE);
	state_write(replacement.stream, state, peers);
	return file_replace_end(&replacement, 0, err);
}
