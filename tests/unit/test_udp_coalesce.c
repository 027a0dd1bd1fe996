/* SPDX-License-Identifier: Apache-2.0 */
/* test_udp_coalesce.c - what is merged, what is not, and that it is the same afterwards */
#include "backend/udp/coalesce.c" /* NOLINT(bugprone-suspicious-include): its hash */

#include "flows.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#define N      10 /* packets of a flow that would be one run */
#define MIDDLE 5  /* the one that is another */
#define SIZE   1000

/* Packet @i of a flow like @base. */
static struct order nth(const struct order *base, int i)
{
	struct order o = *base;

	if (!o.payload)
		o.payload = SIZE;
	o.seq += (uint32_t)i * (uint32_t)o.payload;
	o.id = (uint16_t)(o.id + i);
	o.fill = (uint8_t)(i * 3);
	return o;
}

/* How the one in the middle differs: before it is made; from there on, if @on; or one of its
 * bytes, with checksums that are @right afterwards, or as they were. */
struct odd {
	const char *name;
	void (*change)(struct order *o);
	bool on;
	size_t at;
	uint8_t byte;
	bool right;
	int n_writes;
	enum { ANY, VOUCHED, UNVOUCHED } how;
};

static size_t make_nth(const struct order *base, const struct odd *odd, int i, uint8_t *out)
{
	struct order o = nth(base, i);
	bool is_odd = i == MIDDLE || (odd->on && i > MIDDLE);
	size_t len;

	if (is_odd && odd->change)
		odd->change(&o);
	len = packets_make(&o, out);
	if (!is_odd || !odd->at)
		return len;
	out[odd->at - 1] = odd->byte;
	if (odd->right) {
		ref_set_ip_check(out);
		ref_set_transport_check(out, len);
	}
	return len;
}

static void odd_one(const struct order *base, const struct odd *odd, bool vouched)
{
	static uint8_t packet[PACKETS_LEN_MAX];
	struct flows *f = flows_new(true, true);
	const char *problem;

	for (int i = 0; i < N; i++)
		flows_add(f, packet, make_nth(base, odd, i, packet), vouched);
	problem = flows_end(f);
	if (problem)
		fail_msg("%s%s: %s", odd->name, vouched ? ", vouched" : "", problem);
	if (f->n_writes != odd->n_writes)
		fail_msg("%s%s: %d writes, not %d", odd->name, vouched ? ", vouched" : "",
			 f->n_writes, odd->n_writes);
	flows_free(f);
}

static void odd_all(const struct order *base, const struct odd *odd, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (odd[i].how != VOUCHED)
			odd_one(base, &odd[i], false);
		if (odd[i].how != UNVOUCHED)
			odd_one(base, &odd[i], true);
	}
}

#define CHANGE(name, what)                                                                         \
	static void name(struct order *o)                                                          \
	{                                                                                          \
		what;                                                                              \
	}

CHANGE(same, (void)o)
CHANGE(to_ce, o->tos |= 3)
CHANGE(to_dscp, o->tos = 0xb8)
CHANGE(to_ttl, o->ttl = 63)
CHANGE(to_other_df, o->frag ^= DF)
CHANGE(to_next_id, o->id++)
CHANGE(to_no_id, o->id = 0)
CHANGE(to_ack, o->ack += 10)
CHANGE(to_window, o->window++)
CHANGE(to_urgent, o->urgent++)
CHANGE(to_option, o->option_byte ^= 1)
CHANGE(to_longer_options, o->tcp_options += 4)
CHANGE(to_ip_options, o->ip_options = 4)
CHANGE(to_psh, o->flags = ACK | PSH)
CHANGE(to_fin, o->flags = ACK | FIN)
CHANGE(to_syn, o->flags = ACK | SYN)
CHANGE(to_rst, o->flags = RST)
CHANGE(to_urg, o->flags = ACK | URG)
CHANGE(to_ece, o->flags = ACK | ECE)
CHANGE(to_cwr, o->flags = ACK | CWR)
CHANGE(to_no_ack, o->flags = PSH)
CHANGE(to_hole, o->seq += 1)
CHANGE(to_overlap, o->seq -= 1)
CHANGE(to_shorter, o->payload--)
CHANGE(to_longer, o->payload++)
CHANGE(to_fragment, o->frag = MF)
CHANGE(to_later_fragment, o->frag |= 100)
CHANGE(to_evil, o->frag |= 0x8000)
CHANGE(to_port, o->sport = 77)
CHANGE(to_host, o->dst = 0x0a050204)
CHANGE(to_udp, o->protocol = UDP)
CHANGE(to_icmp, o->protocol = 1)
CHANGE(to_empty, o->payload = 0)
CHANGE(to_empty_psh, o->payload = 0; o->flags = ACK | PSH)
CHANGE(to_empty_fin, o->payload = 0; o->flags = ACK | FIN)
CHANGE(to_empty_ack, o->payload = 0; o->ack += 10)

/* Positions of bytes are 1 more than their offsets: 0 is none. */
#define AT(offset) ((offset) + 1)

static const struct odd odd_tcp[] = {
	{"nothing", same, false, 0, 0, false, 1, ANY},
	{"CE", to_ce, false, 0, 0, false, 3, ANY},
	{"DSCP", to_dscp, true, 0, 0, false, 2, ANY},
	{"TTL", to_ttl, false, 0, 0, false, 3, ANY},
	{"DF", to_other_df, false, 0, 0, false, 3, ANY},
	{"ack", to_ack, true, 0, 0, false, 2, ANY},
	{"ack there and back", to_ack, false, 0, 0, false, 3, ANY},
	{"window", to_window, false, 0, 0, false, 3, ANY},
	{"urgent pointer without URG", to_urgent, false, 0, 0, false, 3, ANY},
	{"options", to_option, false, 0, 0, false, 3, ANY},
	{"longer options", to_longer_options, false, 0, 0, false, 3, ANY},
	{"IP options", to_ip_options, false, 0, 0, false, 3, ANY},
	{"PSH", to_psh, false, 0, 0, false, 2, ANY},
	{"PSH on all", to_psh, true, 0, 0, false, 5, ANY},
	{"FIN", to_fin, false, 0, 0, false, 3, ANY},
	{"FIN on all", to_fin, true, 0, 0, false, 6, ANY},
	{"SYN", to_syn, false, 0, 0, false, 3, ANY},
	{"SYN on all", to_syn, true, 0, 0, false, 6, ANY},
	{"RST", to_rst, false, 0, 0, false, 3, ANY},
	{"RST on all", to_rst, true, 0, 0, false, 6, ANY},
	{"URG", to_urg, false, 0, 0, false, 3, ANY},
	{"URG on all", to_urg, true, 0, 0, false, 6, ANY},
	{"ECE", to_ece, false, 0, 0, false, 3, ANY},
	{"ECE from there on", to_ece, true, 0, 0, false, 2, ANY},
	{"CWR", to_cwr, false, 0, 0, false, 3, ANY},
	{"CWR on all", to_cwr, true, 0, 0, false, 6, ANY},
	{"no ACK", to_no_ack, false, 0, 0, false, 3, ANY},
	{"no ACK on all", to_no_ack, true, 0, 0, false, 6, ANY},
	{"hole", to_hole, true, 0, 0, false, 2, ANY},
	{"overlap", to_overlap, false, 0, 0, false, 3, ANY},
	{"shorter", to_shorter, false, 0, 0, false, 2, ANY},
	/* Longer: it begins a run of its own, whose last is shorter. */
	{"longer", to_longer, false, 0, 0, false, 3, ANY},
	{"first fragment", to_fragment, false, 0, 0, false, 3, ANY},
	{"later fragment", to_later_fragment, false, 0, 0, false, 3, ANY},
	{"reserved bit", to_evil, false, 0, 0, false, 3, ANY},
	{"another flow", to_port, false, 0, 0, false, 3, ANY},
	{"another host", to_host, false, 0, 0, false, 3, ANY},
	{"UDP", to_udp, false, 0, 0, false, 3, ANY},
	{"ICMP", to_icmp, false, 0, 0, false, 3, ANY},
	{"PSH alone", to_empty_psh, false, 0, 0, false, 3, ANY},
	{"FIN alone", to_empty_fin, false, 0, 0, false, 3, ANY},
	{"ACK that says more", to_empty_ack, false, 0, 0, false, 3, ANY},
	{"wrong IP checksum", NULL, false, AT(10), 0xaa, false, 3, ANY},
	{"tot_len too small", NULL, false, AT(3), 100, true, 3, ANY},
	{"tot_len too large", NULL, false, AT(2), 0xff, true, 3, ANY},
	{"ihl 6", NULL, false, AT(0), 0x46, false, 3, ANY},
	{"ihl 4", NULL, false, AT(0), 0x44, false, 3, ANY},
	{"doff 4", NULL, false, AT(32), 0x40, true, 3, ANY},
	{"doff 0", NULL, false, AT(32), 0x00, true, 3, ANY},
	{"doff more", NULL, false, AT(32), 0xf0, true, 3, ANY},
	{"reserved bits", NULL, false, AT(32), 0x81, true, 3, ANY},
	{"damaged, but vouched for", NULL, false, AT(100), 0xff, false, 1, VOUCHED},
	{"damaged", NULL, false, AT(100), 0xff, false, 3, UNVOUCHED},
	{"damaged header", NULL, false, AT(35), 0xff, false, 3, UNVOUCHED},
};

static void test_tcp(void **state)
{
	const struct order plain = {.seq = 0xfffff000, .frag = DF, .tcp_options = 12};
	const struct order steps = {.seq = 1, .id = 0xfffc, .tcp_options = 12, .tos = 1};
	const struct order bare = {.seq = 1, .id = 1, .flags = ACK | ECE, .window = 0xffff};

	(void)state;
	odd_all(&plain, odd_tcp, ARRAY_SIZE(odd_tcp));
	odd_all(&steps, odd_tcp, ARRAY_SIZE(odd_tcp));
	odd_all(&bare, odd_tcp, 1);
}

static const struct odd odd_udp[] = {
	{"nothing", same, false, 0, 0, false, 1, ANY},
	{"CE", to_ce, false, 0, 0, false, 3, ANY},
	{"TTL", to_ttl, false, 0, 0, false, 3, ANY},
	{"DF", to_other_df, false, 0, 0, false, 3, ANY},
	{"IP options", to_ip_options, false, 0, 0, false, 3, ANY},
	{"shorter", to_shorter, false, 0, 0, false, 2, ANY},
	/* It takes one more, which is shorter. */
	{"longer", to_longer, false, 0, 0, false, 3, ANY},
	{"longer from there on", to_longer, true, 0, 0, false, 2, ANY},
	{"empty", to_empty, false, 0, 0, false, 3, ANY},
	{"fragment", to_fragment, false, 0, 0, false, 3, ANY},
	{"another flow", to_port, false, 0, 0, false, 2, ANY},
	{"another host", to_host, false, 0, 0, false, 2, ANY},
	{"wrong length", NULL, false, AT(25), 9, true, 3, ANY},
	{"length 0", NULL, false, AT(25), 0, true, 3, ANY},
	{"wrong IP checksum", NULL, false, AT(10), 0xaa, false, 3, ANY},
	{"damaged", NULL, false, AT(100), 0xff, false, 3, UNVOUCHED},
	{"damaged, but vouched for", NULL, false, AT(100), 0xff, false, 1, VOUCHED},
};

static void test_udp(void **state)
{
	const struct order plain = {.protocol = UDP, .frag = DF};

	(void)state;
	odd_all(&plain, odd_udp, ARRAY_SIZE(odd_udp));
}

/* Identifications matter where DF is clear, and only there. */
static void test_ids(void **state)
{
	const struct odd jump = {"jump", to_next_id, true, 0, 0, false, 2, ANY};
	const struct odd twice = {"twice", to_next_id, false, 0, 0, false, 3, ANY};
	const struct odd none = {"none", to_no_id, true, 0, 0, false, 6, ANY};
	struct odd alike[] = {jump, twice, none};
	const struct order steps[] = {{.id = 0xfff8}, {.id = 0xfff8, .protocol = UDP}};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(alike); i++)
		alike[i].n_writes = 1;
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		struct order df = steps[i];

		df.frag = DF;
		odd_all(&df, alike, ARRAY_SIZE(alike));
		odd_all(&steps[i], &jump, 1);
		odd_all(&steps[i], &twice, 1);
		odd_all(&steps[i], &none, 1);
	}
}

/* -- limits, places, order -------------------------------------------------------------- */

/* Adds packets @from to @to of the flow. */
static void add_some(struct flows *f, const struct order *base, int from, int to)
{
	static uint8_t packet[PACKETS_LEN_MAX];

	for (int i = from; i < to; i++) {
		struct order o = nth(base, i);

		flows_add(f, packet, packets_make(&o, packet), true);
	}
}

static void end_with(struct flows *f, int n_writes)
{
	const char *problem = flows_end(f);

	if (problem)
		fail_msg("%s", problem);
	assert_int_equal(f->n_writes, n_writes);
	flows_free(f);
}

static void test_limits(void **state)
{
	static const struct {
		size_t payload;
		int n, n_writes;
	} cases[] = {
		{10, 64, 1},   {10, 65, 2},   {10, 200, 4},  {1448, 45, 1},
		{1448, 46, 2}, {32747, 2, 1}, {32748, 2, 2}, {65495, 2, 2},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct order o = {.payload = cases[i].payload};
		struct flows *f = flows_new(true, true);

		add_some(f, &o, 0, cases[i].n);
		end_with(f, cases[i].n_writes);
	}
}

/* What the device does not take merged is not merged. */
static void test_switched_off(void **state)
{
	const struct order tcp = {0}, udp = {.protocol = UDP};

	(void)state;
	for (int on = 0; on < 4; on++) {
		struct flows *f = flows_new(on & 1, on & 2);

		add_some(f, &tcp, 0, N);
		add_some(f, &udp, 0, N);
		end_with(f, (on & 1 ? 1 : N) + (on & 2 ? 1 : N));
	}
}

static void test_tunnels(void **state)
{
	static const uint16_t ports[] = {4789, 8472, 6081};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ports); i++) {
		const struct order to = {.protocol = UDP, .dport = ports[i]};
		const struct order from = {.protocol = UDP, .sport = ports[i]};
		const struct order tcp = {.dport = ports[i]};
		struct flows *f = flows_new(true, true);

		add_some(f, &to, 0, N);
		add_some(f, &from, 0, N);
		add_some(f, &tcp, 0, N);
		end_with(f, 2 * N + 1);
	}
}

/* A datagram without checksum would get one. */
static void test_no_checksum(void **state)
{
	struct flows *f = flows_new(true, true);

	(void)state;
	for (int i = 0; i < N; i++) {
		struct order base = {.protocol = UDP}, o = nth(&base, i);
		uint8_t packet[28 + SIZE];
		size_t len = packets_make(&o, packet);

		ref_put(ref_transport_check(packet), 0);
		flows_add(f, packet, len, true);
	}
	end_with(f, N);
}

/* A run of three whose second is made odd. */
static void odd_second(void (*change)(uint8_t *packet, size_t len), uint16_t id)
{
	struct flows *f = flows_new(true, true);

	for (int i = 0; i < 3; i++) {
		struct order base = {.id = id}, o = nth(&base, i);
		uint8_t packet[40 + SIZE];
		size_t len = packets_make(&o, packet);

		if (i == 1)
			change(packet, len);
		flows_add(f, packet, len, false);
	}
	end_with(f, 3);
}

static void to_tcp_ffff(uint8_t *packet, size_t len)
{
	ref_put(packet + len - 2,
		ref_sum(ref_get(ref_transport_check(packet)), packet + len - 2, 2));
	ref_put(ref_transport_check(packet), 0xffff);
}

static void to_ip_ffff(uint8_t *packet, size_t len)
{
	(void)len;
	assert_int_equal(ref_get(packet + 10), 0);
	ref_put(packet + 10, 0xffff);
}

/* Right, but not the form that a segmentation would write: it stays as it is. */
static void test_other_zero(void **state)
{
	struct order o = {.payload = SIZE};
	uint8_t packet[40 + SIZE];

	(void)state;
	odd_second(to_tcp_ffff, 1);
	/* With this identification the header's checksum is 0. */
	packets_make(&o, packet);
	odd_second(to_ip_ffff, (uint16_t)(ref_get(packet + 10) - 1));
}

static void to_lie(uint8_t *packet, size_t len)
{
	(void)len;
	packet[0] = 0x46;
	ref_put(packet + 10, 0);
	ref_put(packet + 10, 0xffffu - ref_sum(0, packet, 20));
}

/* Its checksum is right for a header of another length: wrong, and stays so. */
static void test_other_header(void **state)
{
	(void)state;
	odd_second(to_lie, 1);
}

/* TCP headers that say they are shorter than one can be, and continue each other. */
static void test_short_headers(void **state)
{
	struct flows *f = flows_new(true, true);

	(void)state;
	for (uint32_t i = 0; i < 3; i++) {
		struct order o = {.payload = SIZE, .seq = i * (SIZE + 4), .frag = DF};
		uint8_t packet[40 + SIZE];
		size_t len = packets_make(&o, packet);

		packet[32] = 0x40;
		ref_set_transport_check(packet, len);
		flows_add(f, packet, len, true);
	}
	end_with(f, 3);
}

/* An ACK without news between data does not end the run; one with news does. */
static void test_pure_acks(void **state)
{
	const struct order base = {.ack = 100};
	struct order ack = nth(&base, 3);
	struct flows *f = flows_new(true, true);
	uint8_t packet[40];

	(void)state;
	ack.payload = 0;
	packets_make(&ack, packet);
	flows_add(f, packet, sizeof(packet), true); /* nothing waits: at once */
	assert_int_equal(f->n_writes, 1);
	add_some(f, &base, 0, 3);
	flows_add(f, packet, sizeof(packet), true);
	flows_add(f, packet, sizeof(packet), true);
	assert_int_equal(f->n_writes, 1);
	add_some(f, &base, 3, 6);
	end_with(f, 4);
}

/* More ACKs than places: the oldest that waits is written, and order is kept. */
static void test_many_acks(void **state)
{
	const struct order base = {.ack = 100};
	struct flows *f = flows_new(true, true);
	uint8_t packet[40];

	(void)state;
	add_some(f, &base, 0, 3);
	for (uint32_t i = 0; i < 2 * COALESCE_RUNS; i++) {
		struct order ack = nth(&base, 3);

		ack.payload = 0;
		ack.ack += i;
		packets_make(&ack, packet);
		flows_add(f, packet, sizeof(packet), true);
	}
	add_some(f, &base, 3, 6);
	end_with(f, 2 * COALESCE_RUNS + 2);
}

/* Flows in turns: as many as there are places are merged; one more and each goes alone. */
static void test_places(void **state)
{
	(void)state;
	for (int flows = COALESCE_RUNS; flows <= COALESCE_RUNS + 1; flows++) {
		struct flows *f = flows_new(true, true);

		for (int i = 0; i < N; i++) {
			for (int k = 0; k < flows; k++) {
				const struct order o = {.sport = (uint16_t)(5000 + k)};

				add_some(f, &o, i, i + 1);
			}
		}
		end_with(f, flows == COALESCE_RUNS ? flows : flows * N);
	}
}

static int compare_hashes(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return *x < *y ? -1 : *x > *y;
}

/* Flow @i of very many. */
static struct order flow_of(uint32_t i)
{
	return (struct order){.src = 0x0a000001 + i, .dst = 0x0b000001 + i * 0x9e3779b1u};
}

/* Two flows whose hash is the same are two flows. */
static void test_collision(void **state)
{
	enum { N_FLOWS = 1 << 19 };
	_cleanup_free_ uint64_t *hashes = mem_alloc(N_FLOWS, sizeof(*hashes));
	uint8_t packet[40];
	int n_found = 0;

	(void)state;
	for (uint32_t i = 0; i < N_FLOWS; i++) {
		struct order o = flow_of(i);

		packets_make(&o, packet);
		hashes[i] = (uint64_t)hash_flow(packet) << 32 | i;
	}
	qsort(hashes, N_FLOWS, sizeof(*hashes), compare_hashes);
	for (int i = 1; i < N_FLOWS; i++) {
		struct flows *f;

		if (hashes[i] >> 32 != hashes[i - 1] >> 32)
			continue;
		n_found++;
		f = flows_new(true, true);
		for (int k = 0; k < 4; k++) {
			struct order o = flow_of((uint32_t)hashes[i - k % 2]);

			add_some(f, &o, k, k + 1);
		}
		end_with(f, 4);
	}
	assert_true(n_found > 0);
}

/* A burst leaves nothing behind for the next. */
static void test_bursts(void **state)
{
	const struct order base = {0};
	struct flows *f = flows_new(true, true);

	(void)state;
	for (int i = 0; i < 3; i++) {
		add_some(f, &base, 3 * i, 3 * i + 3);
		assert_null(flows_end(f));
		assert_int_equal(f->n_writes, 1);
		flows_clear(f);
	}
	flows_free(f);
}

/* -- at random -------------------------------------------------------------------------- */

static uint32_t lcg;

static uint32_t random_below(uint32_t n)
{
	lcg = lcg * 1664525 + 1013904223;
	return (lcg >> 8) % n;
}

/* Mostly what continues, now and then something of all that there is. */
static size_t random_packet(struct order flow[], uint32_t n_flows, uint8_t *packet)
{
	struct order *base = &flow[random_below(n_flows)], o;
	const struct odd *odd = NULL;
	size_t len;

	if (base->protocol == UDP && random_below(8) == 0)
		odd = &odd_udp[random_below(ARRAY_SIZE(odd_udp))];
	else if (base->protocol != UDP && random_below(8) == 0)
		odd = &odd_tcp[random_below(ARRAY_SIZE(odd_tcp))];
	if (odd && odd->on && odd->change)
		odd->change(base);
	o = *base;
	if (odd && odd->change)
		odd->change(&o);
	else if (random_below(6) == 0)
		to_empty(&o);
	len = packets_make(&o, packet);
	if (odd && odd->at && odd->at <= len)
		packet[odd->at - 1] = odd->byte;
	if (odd && odd->right)
		ref_set_ip_check(packet);
	base->seq += (uint32_t)o.payload;
	base->id++;
	return len;
}

static void test_random(void **state)
{
	static uint8_t packet[PACKETS_LEN_MAX];
	struct flows *f = flows_new(true, true);
	int n_merged = 0;

	(void)state;
	for (lcg = 0; lcg < 2000; lcg++) {
		uint32_t seed = lcg, n = 1 + random_below(100), n_flows = 1 + random_below(10);
		struct order flow[10] = {{0}};

		for (uint32_t k = 0; k < n_flows; k++)
			flow[k] = (struct order){.payload = 1 + random_below(200),
						 .sport = (uint16_t)(1 + k),
						 .frag = random_below(2) ? DF : 0,
						 .protocol = random_below(3) ? TCP : UDP};
		for (uint32_t i = 0; i < n; i++)
			flows_add(f, packet, random_packet(flow, n_flows, packet), random_below(2));
		if (flows_end(f))
			fail_msg("seed %u: %s", seed, f->problem);
		n_merged += f->n_merged_writes;
		flows_clear(f);
		lcg = seed;
	}
	assert_true(n_merged > 10000);
	flows_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tcp),          cmocka_unit_test(test_udp),
		cmocka_unit_test(test_ids),          cmocka_unit_test(test_limits),
		cmocka_unit_test(test_switched_off), cmocka_unit_test(test_tunnels),
		cmocka_unit_test(test_no_checksum),  cmocka_unit_test(test_other_zero),
		cmocka_unit_test(test_other_header), cmocka_unit_test(test_short_headers),
		cmocka_unit_test(test_pure_acks),    cmocka_unit_test(test_many_acks),
		cmocka_unit_test(test_places),       cmocka_unit_test(test_collision),
		cmocka_unit_test(test_bursts),       cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
