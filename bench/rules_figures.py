# SPDX-License-Identifier: Apache-2.0
"""rules_figures - what is measured of the masquerade and forward rules

As in figures.py. The original (flannel v0.28.9) is not run: what it does is known from its
source and was measured earlier, and stands beside as text.
"""
import concurrent.futures
import contextlib
import pathlib
import random
import statistics
import time

import figures
import filters
import flows
import world
from figures import Result, ms, spread
from filters import IPT_NFT, LEGACY, NFTABLES, Host

ORIGINAL_RESYNC_S = 5
ORIGINAL_PROCESSES = 219  # a minute
RESTORED_KINDS = (filters.NEWTABLE, filters.NEWRULE)
DAMAGE_KINDS = (filters.DELTABLE, filters.DELRULE)


def skipped(name):
    """A result for a machine that lacks programs, or None."""
    missing = filters.missing_programs()
    if missing:
        return Result(name, "skipped", "", None, "not installed: " + " ".join(missing),
                      {"skipped": True})
    return None


# -- repair in nftables ----------------------------------------------------------------

# Who undoes our repairs more than ten times in ten seconds slows them down, on purpose:
# the hosts take turns.
REPAIR_HOSTS = 10
REPAIR_APART_S = 1.1
REPAIR_GOAL_MS = 20
QUIET_S = 0.03
REPAIR_TIMEOUT_S = 10


class Watched:
    """The tables of a host in nftables, and what tells of changes there."""

    def __init__(self, host, tables):
        with host.ns.entered():
            self.nft, self.hand = filters.Nft(), filters.Nft()
            self.monitor = filters.NftMonitor()
        self.tables = tables
        self.wanted = self.listing()
        self.next_s = 0

    def listing(self):
        return [self.nft.listing("ip " + table) for table in self.tables]

    def await_turn(self):
        time.sleep(max(0, self.next_s - time.monotonic()))

    def await_repair(self, on_damage=None):
        """ns from the first notification of damage to the last of a restoration; where
        @on_damage repairs and says so, until that has returned."""
        first = last = None
        deadline = time.monotonic() + REPAIR_TIMEOUT_S
        while time.monotonic() < deadline:
            for now, kind, table in self.monitor.changes(QUIET_S):
                if first is None and kind in DAMAGE_KINDS and table in self.tables:
                    first = now
                    if on_damage and on_damage():
                        return time.monotonic_ns() - first
                if first and kind in RESTORED_KINDS and table in self.tables:
                    last = now
            if last and self.listing() == self.wanted:
                return last - first
        raise world.Failure("%s: not repaired within %d s"
                            % (" ".join(self.tables), REPAIR_TIMEOUT_S))

    def close(self):
        self.nft.close()
        self.hand.close()
        self.monitor.close()


def nft_damage(watched, kind, i):
    """The command that does it in round @i."""
    table = "ip " + filters.TABLE
    if kind == "rule":
        handles = watched.nft.rule_handles(table)
        chain, handle = handles[i % len(handles)]
        return "delete rule %s %s handle %d" % (table, chain, handle)
    return {"table": "delete table " + table, "ruleset": "flush ruleset"}[kind]


def nft_repair_rounds(watched, kind, rounds, by_hand=None):
    """ms of each round, the hosts in turn."""
    took = []
    with concurrent.futures.ThreadPoolExecutor(1) as hand:
        for i in range(rounds):
            one = watched[i % len(watched)]
            if not by_hand:
                one.await_turn()
            damage = nft_damage(one, kind, i)
            one.monitor.drain()
            done = hand.submit(one.hand.run, damage)
            try:
                took.append(ms(one.await_repair(by_hand and (lambda o=one: by_hand(o)))))
            finally:
                done.result()  # if it failed, that is why
            one.next_s = time.monotonic() + REPAIR_APART_S
    return took


def nft_repair_floors(bench, kind, rounds, text):
    """The same table put back by who sees it go: by the library, and by `nft -f`."""
    host = Host(bench, "floor", NFTABLES)
    host.load(text)
    file = host.tools.dir / "table"
    file.write_text(text)
    watched = Watched(host, [filters.TABLE])

    def library(one):
        one.nft.run(text)
        return True

    with contextlib.ExitStack() as started:
        def program(_):
            started.enter_context(host.popen("nft", "-f", str(file)))  # its end is waited for
            return False

        by_library = nft_repair_rounds([watched], kind, rounds, library)
        by_program = nft_repair_rounds([watched], kind, rounds, program)
    watched.close()
    host.close()
    return spread(by_library), spread(by_program)


def repair_nftables(bench):
    rounds = bench.rounds(200, 20)
    hosts = [Host(bench, "repair%d" % i, NFTABLES) for i in range(REPAIR_HOSTS)]
    for host in hosts:
        host.start()
    text = hosts[0].ours()
    watched = [Watched(host, [filters.TABLE]) for host in hosts]
    for kind, name in (("table", "our table deleted"), ("rule", "one rule deleted"),
                       ("ruleset", "flush ruleset")):
        data = spread(nft_repair_rounds(watched, kind, rounds))
        library, program = nft_repair_floors(bench, kind, rounds, text)
        yield Result(
            "rules, nftables: %s, until back" % name,
            "p50 %.2f, p99 %.2f ms" % (data["p50"], data["p99"]),
            "p99 < %d ms" % REPAIR_GOAL_MS,
            data["p99"] < REPAIR_GOAL_MS,
            "floor p50 %.2f, p99 %.2f ms: libnftables by who sees it go; nft -f p50 %.2f, p99 "
            "%.2f ms; original v0.28.9: never"
            % (library["p50"], library["p99"], program["p50"], program["p99"]),
            {**data, "unit": "ms", "floor": library, "nft_f": program, "original": "never"},
            noisy=library["p99"] >= REPAIR_GOAL_MS,
        )
    for one in watched:
        one.close()
    for host in hosts:
        host.close()


# -- repair in iptables ----------------------------------------------------------------

IPT_DAMAGES = (
    ("-t", "nat", "-F", filters.MASQ_CHAIN),
    ("-t", "filter", "-F", filters.FORWARD_CHAIN),
    ("-t", "nat", "-D", "POSTROUTING", "1"),
    ("-t", "filter", "-D", "FORWARD", "1"),
)
IPT_NFT_APART_S = 3  # the checks that a repair is followed by have ended


def legacy_repair(host, rounds, resync_s, seed):
    """ms of each round: by counting the entries of both tables, every ms."""
    pick = random.Random(seed)
    with host.ns.entered():
        tables = [filters.LegacyTable(name) for name in ("nat", "filter")]
    wanted = [t.n_entries() for t in tables]
    took = []
    for i in range(rounds):
        time.sleep(pick.uniform(0, resync_s))
        host.iptables(*IPT_DAMAGES[(i + seed) % len(IPT_DAMAGES)])
        begin = time.monotonic_ns()
        while [t.n_entries() for t in tables] != wanted:
            time.sleep(0.001)
            if time.monotonic_ns() - begin > (resync_s + REPAIR_TIMEOUT_S) * 10 ** 9:
                raise world.Failure("iptables-legacy: not repaired in time")
        took.append(ms(time.monotonic_ns() - begin))
    for t in tables:
        t.close()
    return took


def ipt_nft_repair(host, rounds, _resync_s, seed):
    watched = Watched(host, ["nat", "filter"])
    took = []
    for i in range(rounds):
        time.sleep(IPT_NFT_APART_S)
        watched.monitor.drain()
        with host.popen("iptables", "-w", *IPT_DAMAGES[(i + seed) % len(IPT_DAMAGES)]):
            took.append(ms(watched.await_repair()))
    watched.close()
    return took


def iptables_repair(bench, mode, resync_s, rounds):
    """ms of so many rounds on each of some hosts at once."""
    hosts = [Host(bench, "repair%d" % i, mode) for i in range(REPAIR_HOSTS)]
    for host in hosts:
        host.start("--iptables-resync=%d" % resync_s)
    rounds_of = legacy_repair if mode == LEGACY else ipt_nft_repair
    with concurrent.futures.ThreadPoolExecutor(len(hosts)) as pool:
        jobs = [pool.submit(rounds_of, host, rounds, resync_s, i) for i, host in enumerate(hosts)]
        took = [t for job in jobs for t in job.result()]
    for host in hosts:
        host.close()
    return took


def repair_iptables(bench):
    for mode, resync_s, rounds in ((LEGACY, 1, bench.rounds(10, 3)),
                                   (LEGACY, ORIGINAL_RESYNC_S, bench.rounds(4, 1)),
                                   (IPT_NFT, ORIGINAL_RESYNC_S, bench.rounds(10, 2))):
        data = spread(iptables_repair(bench, mode, resync_s, rounds))
        goal_ms = 1000 * (resync_s + 1 if mode == LEGACY else 1)
        yield Result(
            "rules, %s, resync %d s: changed, until back" % (mode, resync_s),
            "p50 %.0f, p99 %.0f ms" % (data["p50"], data["p99"]),
            "p99 < %d ms" % goal_ms,
            data["p99"] < goal_ms,
            "%s; original v0.28.9: up to %d s"
            % ("nobody tells of changes: half the period is the floor of p50"
               if mode == LEGACY else "notified", ORIGINAL_RESYNC_S),
            {**data, "unit": "ms", "resync_s": resync_s},
        )


def repair(bench):
    why = skipped("rules: repair")
    if why:
        yield why
        return
    yield from repair_nftables(bench)
    yield from repair_iptables(bench)


# -- idle ------------------------------------------------------------------------------

IDLE_SETTLE_S = 8  # what follows a start has ended
HOUR_S = 3600
CHECK_BY_HAND = 20


class IdleSample:
    """What a daemon and its children did between two moments."""

    def __init__(self, host):
        self.host = host
        self.before = self._now()

    def _now(self):
        _, own_ns = self.host.daemon.activity()
        return (own_ns, filters.waited_cpu_ns(self.host.daemon.pid),
                len(self.host.tools.executed()), time.monotonic())

    def end(self):
        now = self._now()
        return dict(zip(("own_ns", "waited_ns", "processes", "seconds"),
                        (b - a for a, b in zip(self.before, now))))


def cpu_by_hand(host, *args):
    """Median CPU time in ns of one execution."""
    return statistics.median(host.timed(*args)[1] for _ in range(CHECK_BY_HAND))


def idle_samples(bench, mode, seconds):
    """Of a host whose processes are counted, of one that is as it comes, and of one that
    checks each second; the CPU time of a check, and of one of the original's, by hand."""
    hosts = [Host(bench, "idle%d" % i, mode, counted=i == 0) for i in range(3)]
    for host, resync_s in zip(hosts, (5, 5, 1)):
        host.start("--iptables-resync=%d" % resync_s)
    time.sleep(IDLE_SETTLE_S)
    samples = [IdleSample(host) for host in hosts]
    time.sleep(seconds)
    measured = [sample.end() for sample in samples]
    save = original = 0
    if mode != NFTABLES:
        save = cpu_by_hand(hosts[1], "iptables-save")
        original = cpu_by_hand(hosts[1], "iptables", "-w", "-t", "nat", "-C", "POSTROUTING", "-m",
                               "comment", "--comment", "flanneld masq", "-j", filters.MASQ_CHAIN)
    for host in hosts:
        host.close()
    return measured, save, original


def idle(bench):
    why = skipped("rules: idle")
    if why:
        yield why
        return
    seconds = bench.rounds(60, 20)
    for mode in filters.MODES:
        (counted, plain, fast), save_ns, original_ns = idle_samples(bench, mode, seconds)
        minute = counted["processes"] * 60 / counted["seconds"]
        own_s = plain["own_ns"] / 1e9 * HOUR_S / plain["seconds"]
        children_s = minute * 60 * save_ns / 1e9
        original_s = ORIGINAL_PROCESSES * 60 * original_ns / 1e9
        beside = "floor 0: nothing is asked" if mode == NFTABLES else (
            "iptables-save by hand %.1f ms CPU; original v0.28.9 (measured earlier): %d a minute, "
            "%.0f s of CPU an hour for as many iptables -C by hand"
            % (save_ns / 1e6, ORIGINAL_PROCESSES, original_s))
        yield Result(
            "rules, %s, idle" % mode,
            "%.1f processes a minute, %.1f s CPU an hour" % (minute, own_s + children_s),
            "<= 12 a minute",
            minute <= 12,
            beside,
            {"processes_a_minute": minute, "own_s_an_hour": own_s,
             "children_s_an_hour": children_s, "save_ns": save_ns, "counted": counted,
             "plain": plain, "each_second": fast, "original_s_an_hour": original_s},
        )


# -- time to apply ---------------------------------------------------------------------

KUBE_RULES = 10000
CHECK_SETTLE_S = 3
# Our rules are kept in the first; kube-proxy's are in the second, which is the host's iptables.
APPLY_HOSTS = ((LEGACY, LEGACY), (IPT_NFT, IPT_NFT), (NFTABLES, IPT_NFT), (NFTABLES, LEGACY))


def apply_daemon(bench, mode, variant, others):
    """ms to READY=1 for the first time and again, CPU of children until then; our rules."""
    host = Host(bench, "apply", mode, variant)
    if others:
        host.restore(others)
    first = host.start()
    cpu_ms = ms(filters.waited_cpu_ns(first.pid))
    text = host.ours()
    first.stop()
    again = host.start()
    host.close()
    return ms(first.ready_ns), ms(again.ready_ns), cpu_ms, text


def apply_by_hand(bench, mode, variant, others, text):
    """ms of the same text by hand, and of one iptables-save."""
    host = Host(bench, "apply", mode, variant)
    if others:
        host.restore(others)
    took = ms(host.load(text)[0])
    save = ms(host.timed("iptables-save")[0])
    host.close()
    return took, save


def apply_rounds(bench, mode, variant, others):
    columns = {"first": [], "again": [], "children_cpu": [], "by_hand": [], "save": []}
    for _ in range(bench.rounds(9, 3)):
        *ours, text = apply_daemon(bench, mode, variant, others)
        for column, value in zip(columns.values(),
                                 [*ours, *apply_by_hand(bench, mode, variant, others, text)]):
            column.append(value)
    return {name: spread(column) for name, column in columns.items()}


def cost_beside(bench, mode, variant, others):
    """ms of CPU, own and of children: for the checks of a second where each has one, and
    for noticing that kube-proxy has written all its chains again."""
    seconds = bench.rounds(15, 5)
    host = Host(bench, "check", mode, variant)
    host.restore(others)
    host.start("--iptables-resync=1")
    time.sleep(CHECK_SETTLE_S)
    sample = IdleSample(host)
    time.sleep(seconds)
    checks = sample.end()
    again = "".join(line for line in others.splitlines(True)
                    if not line.startswith(("-A PREROUTING", "-A OUTPUT", "-A POSTROUTING")))
    sample = IdleSample(host)
    host.restore(again)
    time.sleep(CHECK_SETTLE_S)
    rewritten = sample.end()
    host.close()
    return {"check_children": ms(checks["waited_ns"]) / checks["seconds"],
            "check_own": ms(checks["own_ns"]) / checks["seconds"],
            "rewritten_own": ms(rewritten["own_ns"])}


def apply(bench):
    why = skipped("rules: time to apply")
    if why:
        yield why
        return
    kube = filters.kube_rules(KUBE_RULES)
    for mode, variant in APPLY_HOSTS:
        empty = apply_rounds(bench, mode, variant, "")
        full = apply_rounds(bench, mode, variant, kube)
        beside = cost_beside(bench, mode, variant, kube)
        p50 = {k: v["p50"] for k, v in full.items()}
        yield Result(
            "rules, %s: start to READY=1, {:,} kube-proxy rules in %s".format(KUBE_RULES)
            % (mode, variant.removeprefix("iptables-")),
            "%.0f ms" % p50["first"],
            "shown",
            None,
            "restart %.0f ms; empty host %.0f ms; floor %.0f ms: the same text by %s (empty "
            "host %.0f); one iptables-save %.0f ms; with a resync of 1 s %.1f ms CPU a second "
            "of children, %.1f own; kube-proxy writes all again: %.1f ms own CPU"
            % (p50["again"], empty["first"]["p50"], p50["by_hand"],
               "nft -f" if mode == NFTABLES else "iptables-restore --noflush",
               empty["by_hand"]["p50"], p50["save"], beside["check_children"],
               beside["check_own"], beside["rewritten_own"]),
            {"unit": "ms", **full, "empty": empty, "cpu": beside, "rules": KUBE_RULES},
        )


# -- cost to packets -------------------------------------------------------------------

OUTSIDE, POD = "192.168.77.1", "10.240.0.2"
COST_GOAL = 0.95
COST_CONNECTIONS, COST_PACKETS = 400, 2000  # short: whoever disturbs, disturbs few rounds
ONE_RULE = {
    NFTABLES: ("nft", "add table ip one; add chain ip one post { type nat hook postrouting "
               "priority srcnat; }; add rule ip one post ip saddr 10.0.0.0/8 oifname eth0 "
               "masquerade fully-random"),
    LEGACY: ("iptables", "-w", "-t", "nat", "-A", "POSTROUTING", "-s", "10.0.0.0/8", "-o", "eth0",
             "-j", "MASQUERADE", "--random-fully"),
}
ONE_RULE[IPT_NFT] = ONE_RULE[LEGACY]
# What is measured: (how, name, way), each a method of Flow.
COSTS = (("out", "connections", "pod-to-outside connections", COST_CONNECTIONS),
         ("in", "connections", "outside-to-pod connections", COST_CONNECTIONS),
         ("out", "packets", "pod-to-outside packets of one flow", COST_PACKETS))


class Routed:
    """A pod behind a host, and a machine outside. The host has, as @rules says, ours, those
    of others in one rule, or none."""

    def __init__(self, bench, name, mode, rules):
        self.outside, self.pod, ns = (world.Namespace(name + s) for s in ("-out", "-pod", ""))
        world.run("ip", "link", "add", "eth0", "netns", ns.name, "type", "veth", "peer", "name",
                  "eth0", "netns", self.outside.name)
        self.outside.ip("addr", "add", OUTSIDE + "/24", "dev", "eth0")
        self.outside.ip("link", "set", "eth0", "up")
        world.set_uplink(ns, 2)
        self.outside.ip("route", "add", world.NETWORK, "via", "192.168.77.2")
        world.add_pod(ns, self.pod)
        self.host = Host(bench, name, mode, ns=ns)
        address = POD
        if rules == "ours":
            daemon = self.host.start("--peer-filter=false")
            address = daemon.pod_address()
            daemon.stop()
        elif rules == "one":
            self.host.run(*ONE_RULE[mode])
        self._forget_fast()
        world.address_pod(ns, self.pod, address)
        self.flows = {"out": flows.Flow(self.pod, self.outside, OUTSIDE),
                      "in": flows.Flow(self.outside, self.pod, address)}
        self._check(rules, address)

    def _forget_fast(self):
        """Closed connections do not take ports from those of the next round."""
        file = pathlib.Path("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close")
        with self.host.ns.entered(), contextlib.suppress(OSError):
            file.write_text("1", encoding="ascii")

    def _check(self, rules, address):
        wanted = {"out": address if rules == "none" else "192.168.77.2", "in": OUTSIDE}
        for way, flow in self.flows.items():
            seen = flow.seen_as()
            if seen != wanted[way]:
                raise world.Failure("%s, %s: seen as %s, not as %s"
                                    % (self.host.ns.name, way, seen, wanted[way]))

    def close(self):
        for flow in self.flows.values():
            flow.close()
        self.host.close()
        self.outside.delete()
        self.pod.delete()


def cost_rounds(bench, hosts):
    """Per (cost, host), how many a second in each round."""
    took = {(cost, key): [] for cost in COSTS for key in hosts}
    order = list(hosts)
    for i in range(bench.rounds(80, 15)):
        order = order[1:] + order[:1]
        for cost in COSTS:
            way, what, _, n = cost
            for key in order if i % 2 else reversed(order):
                took[cost, key].append(getattr(hosts[key].flows[way], what)(n))
    return took


def cost_result(took, cost, mode):
    ours, one, none, twin = (took[cost, key]
                             for key in ((mode, "ours"), (mode, "one"), "none", "twin"))

    def ratio(a, b):
        return statistics.median(x / y for x, y in zip(a, b))

    def each_us(rates):
        return 1e6 / statistics.median(rates)

    to_one, to_none, noise = ratio(ours, one), ratio(ours, none), ratio(twin, none)
    return Result(
        "rules, %s: %s" % (mode, cost[2]),
        "%.2f x one rule's (%d /s)" % (to_one, statistics.median(ours)),
        ">= %.2f x" % COST_GOAL,
        to_one >= COST_GOAL,
        "%.2f x no rules; each %.1f us, one masquerade rule %.1f, no rules (no conntrack) %.1f; "
        "no rules to its twin %.3f x"
        % (to_none, each_us(ours), each_us(one), each_us(none), noise),
        {"unit": "/s", "ratio": to_one, "to_none": to_none, "to_twin": noise,
         "ours": spread(ours), "one_rule": spread(one), "none": spread(none)},
        noisy=abs(noise - 1) > (1 - COST_GOAL) / 2,
    )


def cost(bench):
    why = skipped("rules: cost to packets")
    if why:
        yield why
        return
    hosts = {name: Routed(bench, name, NFTABLES, "none") for name in ("none", "twin")}
    for i, mode in enumerate(filters.MODES):
        for rules in ("one", "ours"):
            hosts[mode, rules] = Routed(bench, "%s%d" % (rules, i), mode, rules)
    took = cost_rounds(bench, hosts)
    for what in COSTS:
        for mode in filters.MODES:
            yield cost_result(took, what, mode)
    for host in hosts.values():
        host.close()


# -- start -----------------------------------------------------------------------------

NO_RULES = ("--ip-masq=false", "--iptables-forward-rules=false")


def start_rounds(bench, mode, rounds, *flags):
    """ms to READY=1, for the first time and again; kB."""
    fresh, again, memory = [], [], {}
    for i in range(rounds):
        host = Host(bench, "start", mode)
        for into in (fresh, again):
            daemon = host.start(*flags)
            into.append(ms(daemon.ready_ns))
            world.check_complete(host.ns, [world.Peer(i) for i in range(3)])
            if not flags:
                host.ours()  # fails where there are none
            if i == 0:
                memory = figures.settled_memory(daemon)
            daemon.stop()
        host.close()
    return spread(fresh), spread(again), memory


def start(bench):
    why = skipped("rules: start")
    if why:
        yield why
        return
    rounds = bench.rounds(20, 5)
    none, none_again, none_memory = start_rounds(bench, NFTABLES, rounds, *NO_RULES)
    for mode in filters.MODES:
        fresh, again, memory = start_rounds(bench, mode, rounds)
        yield Result(
            "rules, %s: start to READY=1, 3 peers" % mode,
            "%.1f, restart %.1f ms" % (fresh["p50"], again["p50"]),
            "shown",
            None,
            "without rules %.1f, %.1f ms; p99 %.1f, %.1f ms"
            % (none["p50"], none_again["p50"], fresh["p99"], again["p99"]),
            {"unit": "ms", "fresh": fresh, "restart": again, "without": none,
             "restart_without": none_again},
        )
        yield Result(
            "rules, %s: memory, 3 peers" % mode,
            "RSS %.1f, PSS %.1f MB" % (memory["Rss"] / 1024, memory["Pss"] / 1024),
            "shown",
            None,
            "without rules RSS %.1f, PSS %.1f MB; peak %.1f MB"
            % (none_memory["Rss"] / 1024, none_memory["Pss"] / 1024, memory["VmHWM"] / 1024),
            {**memory, "unit": "kB", "without": none_memory},
        )


FIGURES = {
    "rules-repair": (repair, "rules deleted or flushed, to all restored"),
    "rules-idle": (idle, "processes and CPU time to keep rules that nobody changes"),
    "rules-apply": (apply, "start beside 10,000 rules of kube-proxy"),
    "rules-cost": (cost, "connections and packets a second with our rules"),
    "rules-start": (start, "execution to READY=1, and memory, with --ip-masq"),
}
