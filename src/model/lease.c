/* SPDX-License-Identifier: Apache-2.0 */
/* lease.c - a host's lease of its subnet(s), and its record in a datastore */
#include "model/lease.h"

#include "base/json.h"
#include "base/mem.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* The members that exist once per family. */
static const struct {
	const char *public_ip, *backend_data;
} members[IP_FAMILY_COUNT] = {
	[IP_V4] = {"PublicIP", "BackendData"},
	[IP_V6] = {"PublicIPv6", "BackendV6Data"},
};

void lease_done(struct lease *lease)
{
	if (!lease)
		return;
	IP_FOREACH_FAMILY (f)
		free(lease->backend_data[f]);
	*lease = (struct lease){0};
}

static void cleanup_lease(struct lease *lease)
{
	lease_done(lease);
}

struct lease lease_copy(const struct lease *lease)
{
	struct lease copy = *lease;

	IP_FOREACH_FAMILY (f)
		if (copy.backend_data[f])
			copy.backend_data[f] = mem_strdup(copy.backend_data[f]);
	return copy;
}

static bool same_text(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

bool lease_same_content(const struct lease *a, const struct lease *b)
{
	IP_FOREACH_FAMILY (f)
		if (!ip_net_equal(&a->subnet[f], &b->subnet[f]) ||
		    !ip_equal(&a->public_ip[f], &b->public_ip[f]) ||
		    !same_text(a->backend_data[f], b->backend_data[f]))
			return false;
	return !strcmp(a->backend_type, b->backend_type);
}

bool lease_same_public_ip(const struct lease *a, const struct lease *b)
{
	enum ip_family f = ip_is_set(&a->public_ip[IP_V4]) ? IP_V4 : IP_V6;

	return ip_is_set(&a->public_ip[f]) && ip_equal(&a->public_ip[f], &b->public_ip[f]);
}

/* One `10.5.52.0-24`: a prefix whose slash is a dash, since slashes part the
 * levels of a datastore's keys. */
static int parse_key_part(const char *part, size_t len, struct ip_net *ret_net)
{
	char text[IP_NET_STRLEN];
	struct ip_net net, base;
	char *dash;

	if (len >= sizeof(text) || memchr(part, '/', len))
		return -EINVAL;
	memcpy(text, part, len);
	text[len] = '\0';
	dash = strrchr(text, '-');
	if (!dash)
		return -EINVAL;
	*dash = '/';
	if (ip_net_parse(text, &net) < 0)
		return -EINVAL;
	base = ip_net_base(&net);
	if (!ip_net_equal(&net, &base))
		return -EINVAL;
	*ret_net = net;
	return 0;
}

/* The original writes an IPv6-only record as `0.0.0.0-0&fc00:1::-64`. */
static bool is_empty_ipv4(const struct ip_net *net)
{
	return net->ip.family == IP_V4 && net->len == 0;
}

int lease_parse_key(const char *key, struct ip_net ret_subnet[IP_FAMILY_COUNT], struct err *err)
{
	struct ip_net subnet[IP_FAMILY_COUNT] = {0}, net;
	const char *part = key;

	for (;;) {
		size_t len = strcspn(part, "&");
		bool more = part[len];

		if (parse_key_part(part, len, &net) < 0 || ip_net_is_set(&subnet[net.ip.family]) ||
		    (net.len == 0 && !(is_empty_ipv4(&net) && more)))
			return err_set(err, -EINVAL,
				       "\"%.100s\" is not the key of a lease such as 10.5.52.0-24 "
				       "or 10.5.52.0-24&fc00:1::-64",
				       key);
		subnet[net.ip.family] = net;
		if (!more)
			break;
		part += len + 1;
	}
	if (is_empty_ipv4(&subnet[IP_V4]))
		subnet[IP_V4] = (struct ip_net){0};
	memcpy(ret_subnet, subnet, sizeof(subnet));
	return 0;
}

const char *lease_format_key(const struct ip_net subnet[IP_FAMILY_COUNT], char buf[LEASE_KEY_MAX])
{
	size_t n = 0;

	buf[0] = '\0';
	IP_FOREACH_FAMILY (f) {
		char address[IP_STRLEN];

		if (!ip_net_is_set(&subnet[f]))
			continue;
		n += (size_t)snprintf(buf + n, LEASE_KEY_MAX - n, "%s%s-%u", n ? "&" : "",
				      ip_format(&subnet[f].ip, address), subnet[f].len);
	}
	return buf;
}

int lease_set_public_ip(struct lease *lease, enum ip_family family, const char *what,
			const char *text, struct err *err)
{
	struct ip ip = {0};

	if (*text && (ip_parse(text, &ip) < 0 || ip.family != family))
		return err_set(err, -EINVAL, "%s: \"%.60s\" is not an %s address", what, text,
			       ip_family_name(family));
	lease->public_ip[family] = ip_to_num(&ip) != 0 ? ip : (struct ip){0};
	return 0;
}

int lease_set_backend_type(struct lease *lease, const char *what, const char *text, struct err *err)
{
	size_t len = strlen(text);

	if (len >= sizeof(lease->backend_type))
		return err_set(err, -EINVAL, "%s: \"%.60s\" is longer than %zu characters", what,
			       text, sizeof(lease->backend_type) - 1);
	for (size_t i = 0; i <= len; i++)
		lease->backend_type[i] = (char)tolower((unsigned char)text[i]);
	return 0;
}

static int parse_public_ip(const json_t *obj, enum ip_family family, struct lease *lease,
			   struct err *err)
{
	const char *key = members[family].public_ip, *text = "";
	int r;

	r = json_member_string(obj, key, &text, err);
	if (r < 0)
		return r;
	r = lease_set_public_ip(lease, family, key, text, err);
	if (r < 0)
		return r;
	if (ip_net_is_set(&lease->subnet[family]) && !ip_is_set(&lease->public_ip[family]))
		return err_set(err, -EINVAL, "%s is missing, the %s subnet needs it", key,
			       ip_family_name(family));
	return 0;
}

static void parse_backend_data(const json_t *obj, enum ip_family family, struct lease *lease)
{
	const json_t *data = json_member(obj, members[family].backend_data);

	if (data)
		lease->backend_data[family] = json_dumps(data, JSON_COMPACT | JSON_ENCODE_ANY);
}

static int parse_backend_type(const json_t *obj, struct lease *lease, struct err *err)
{
	const char *type = "";
	int r;

	r = json_member_string(obj, "BackendType", &type, err);
	return r < 0 ? r : lease_set_backend_type(lease, "BackendType", type, err);
}

static int parse_expiration(const json_t *obj, struct lease *lease, struct err *err)
{
	const char *text = NULL;
	int r;

	r = json_member_string(obj, "Expiration", &text, err);
	if (r < 0 || !text)
		return r;
	if (lease_parse_time(text, &lease->expires_s) < 0)
		return err_set(err, -EINVAL,
			       "Expiration: \"%.60s\" is not a time such as 2026-02-20T14:31:23Z",
			       text);
	/* 0 means "never", and 1970 is not that. */
	if (lease->expires_s == 0)
		lease->expires_s = 1;
	return 0;
}

static int parse_members(const json_t *obj, struct lease *lease, struct err *err)
{
	int r;

	IP_FOREACH_FAMILY (f) {
		r = parse_public_ip(obj, f, lease, err);
		if (r < 0)
			return r;
		parse_backend_data(obj, f, lease);
	}
	r = parse_backend_type(obj, lease, err);
	return r < 0 ? r : parse_expiration(obj, lease, err);
}

int lease_parse(const char *key, const char *text, size_t len, struct lease *ret_lease,
		struct err *err)
{
	_cleanup_(cleanup_lease) struct lease lease = {0};
	_cleanup_json_ json_t *obj = NULL;
	char what[LEASE_KEY_MAX + sizeof("lease ")];
	int r;

	r = lease_parse_key(key, lease.subnet, err);
	if (r < 0)
		return r;
	(void)snprintf(what, sizeof(what), "lease %s", key);
	if (len > LEASE_RECORD_MAX)
		return err_set(err, -EINVAL, "%s is longer than %d bytes", what, LEASE_RECORD_MAX);
	r = json_parse_object(text, len, what, &obj, err);
	if (r < 0)
		return r;
	r = parse_members(obj, &lease, err);
	if (r < 0)
		return err_wrap(err, r, "%s", what);
	*ret_lease = lease;
	lease = (struct lease){0};
	return 0;
}

static json_t *public_ip_json(const struct lease *lease, enum ip_family family)
{
	char text[IP_STRLEN];

	if (ip_is_set(&lease->public_ip[family]))
		return json_string(ip_format(&lease->public_ip[family], text));
	return family == IP_V4 ? json_string("0.0.0.0") : json_null();
}

char *lease_format(const struct lease *lease)
{
	_cleanup_json_ json_t *obj = json_object();
	char time[32], *text;

	IP_FOREACH_FAMILY (f)
		(void)json_object_set_new(obj, members[f].public_ip, public_ip_json(lease, f));
	if (*lease->backend_type)
		(void)json_object_set_new(obj, "BackendType", json_string(lease->backend_type));
	IP_FOREACH_FAMILY (f)
		if (lease->backend_data[f])
			(void)json_object_set_new(
				obj, members[f].backend_data,
				json_loads(lease->backend_data[f], JSON_DECODE_ANY, NULL));
	if (lease->expires_s && lease->expires_s != LEASE_EXPIRES_SOMEDAY)
		(void)json_object_set_new(obj, "Expiration",
					  json_string(lease_format_time(lease->expires_s, time)));
	text = json_dumps(obj, JSON_COMPACT);
	if (!text)
		abort(); /* strings come from parsed JSON or from us: only memory can fail */
	return text;
}

/* Cuts a number of exactly @digits digits off *@cursor, then the character @end
 * unless that is '\0'. */
static bool cut_number(const char **cursor, int digits, char end, int *ret_number)
{
	const char *s = *cursor;
	int number = 0;

	for (int i = 0; i < digits; i++, s++) {
		if (!isdigit((unsigned char)*s))
			return false;
		number = number * 10 + (*s - '0');
	}
	if (end && toupper((unsigned char)*s++) != end)
		return false;
	*ret_number = number;
	*cursor = s;
	return true;
}

/* `Z`, or `+02:00`. */
static bool cut_offset(const char **cursor, int *ret_offset_s)
{
	char sign = *(*cursor)++;
	int hours, minutes;

	*ret_offset_s = 0;
	if (sign == 'Z' || sign == 'z')
		return true;
	if ((sign != '+' && sign != '-') || !cut_number(cursor, 2, ':', &hours) ||
	    !cut_number(cursor, 2, '\0', &minutes) || hours > 23 || minutes > 59)
		return false;
	*ret_offset_s = (hours * 60 + minutes) * 60 * (sign == '-' ? -1 : 1);
	return true;
}

static int days_in_month(int year, int month)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;

	return days[month - 1] + (month == 2 && leap);
}

int lease_parse_time(const char *text, int64_t *ret_unix_s)
{
	int year, month, offset_s;
	struct tm tm = {0};

	if (!cut_number(&text, 4, '-', &year) || !cut_number(&text, 2, '-', &month) ||
	    !cut_number(&text, 2, 'T', &tm.tm_mday) || !cut_number(&text, 2, ':', &tm.tm_hour) ||
	    !cut_number(&text, 2, ':', &tm.tm_min) || !cut_number(&text, 2, '\0', &tm.tm_sec))
		return -EINVAL;
	/* RFC 3339 knows the leap second 60. */
	if (month < 1 || month > 12 || tm.tm_mday < 1 || tm.tm_mday > days_in_month(year, month) ||
	    tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60)
		return -EINVAL;
	if (*text == '.') {
		size_t digits = strspn(text + 1, "0123456789");

		if (!digits)
			return -EINVAL;
		text += 1 + digits;
	}
	if (!*text || !cut_offset(&text, &offset_s) || *text)
		return -EINVAL;
	tm.tm_year = year - 1900;
	tm.tm_mon = month - 1;
	*ret_unix_s = (int64_t)timegm(&tm) - offset_s;
	return 0;
}

const char *lease_format_time(int64_t unix_s, char buf[32])
{
	/* RFC 3339 has four digits for the year. */
	const int64_t first = -62167219200, last = 253402300799;
	time_t t = (time_t)(unix_s < first ? first : unix_s > last ? last : unix_s);
	struct tm tm;

	if (!gmtime_r(&t, &tm))
		memset(&tm, 0, sizeof(tm));
	(void)snprintf(buf, 32, "%04d-%02d-%02dT%02d:%02d:%02dZ", (tm.tm_year + 1900) % 10000,
		       tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec);
	return buf;
}
