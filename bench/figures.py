# SPDX-License-Identifier: Apache-2.0
"""figures - what is measured, how, and against what in the same run

Each function takes a Bench and yields Result objects. The floor (what the machine can
do at all) or the peer (another way to the same end) of a figure is measured beside it,
in turns where both take long.
"""
import concurrent.futures
import contextlib
import ctypes
import dataclasses
import json
import os
import shutil
import signal
import statistics
import subprocess
import time

import rtnl
import world


@dataclasses.dataclass
class Result:
    name: str
    value: str  # for people
    goal: str
    ok: bool | None  # None: nothing was promised
    beside: str  # the floor or the peer
    data: dict
    noisy: bool = False  # the floor itself was beyond the goal: no verdict on us


@dataclasses.dataclass
class Bench:
    binary: str
    scratch: world.Scratch
    quick: bool
    large: bool = False

    def rounds(self, full, quick):
        return quick if self.quick else full

    def daemon(self, ns, store, *flags, **more):
        return world.Daemon(self.binary, ns, store, self.scratch, *flags, **more)

    def store(self, n_peers, **more):
        return world.fill_store(self.scratch.new("store"), n_peers, **more)


def ms(ns):
    return ns / 1e6


def percentile(values, percent):
    """Nearest rank: the largest of 200 rounds but two is their p99."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-len(ordered) * percent // 100) - 1))]


def spread(values):
    return {
        "n": len(values),
        "min": min(values),
        "p50": statistics.median(values),
        "p99": percentile(values, 99),
        "max": max(values),
    }


# -- repair ----------------------------------------------------------------------------

REPAIR_PEERS = 100
QUIET_S = 0.03
REPAIR_GOAL_MS = 20


ORDER = ("addr", "fdb", "neigh", "route")


def victims(kind, wanted, i):
    """What is deleted in round @i, and what goes with it, in the order of adding."""
    ordered = sorted(wanted, key=lambda e: (ORDER.index(e[0]), e))
    routes = [e for e in ordered if e[0] == "route"]
    if kind == "all routes":
        return routes, routes
    if kind == "device":
        return [], ordered
    one = [e for e in ordered if e[0] == kind]
    one = [one[i % len(one)]]
    # With a device's last address its neighbours and routes go: fib_disable_ip().
    return one, one + ([e for e in ordered if e[0] in ("neigh", "route")] if kind == "addr" else [])


def is_damage(kind, message, body):
    """The notification from which on there is something to repair. Much goes before a
    device does, and nobody can act before it has gone."""
    if kind == "device":
        return message == rtnl.DELLINK and rtnl.is_link(body, "flannel.1")
    return message in (rtnl.DELADDR, rtnl.DELROUTE, rtnl.DELNEIGH)


def watch_repair(kind, monitor, requests, wanted):
    """Reads notifications until everything is as before: ns from the first of the damage
    to the last restoration. Quiet and incomplete is not the end."""
    first = last = None
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for now, message, body in monitor.read(QUIET_S):
            if first is None and is_damage(kind, message, body):
                first = now
            restored = message in (rtnl.NEWADDR, rtnl.NEWROUTE, rtnl.NEWNEIGH)
            found = rtnl.parse(message, body) if first and restored else None
            if found and found[1] in wanted:
                last = now
        link = requests.link("flannel.1")
        if last and link and link[3] and requests.entries(link[0]) == wanted:
            return last - first
    raise world.Failure("%s: not repaired within 10 s" % kind)


def repair_rounds(ns, kind, rounds, by_hand=None):
    """ns of each round. @by_hand(requests, kind, lost) repairs where no daemon does."""
    with ns.entered():
        requests, killer, monitor = rtnl.Requests(), rtnl.Requests(), rtnl.Monitor()
    link = requests.link("flannel.1")
    wanted = requests.entries(link[0])
    took = []

    def damage_it(damage, lost):
        killer.send(rtnl.encode(damage))
        begin = time.monotonic_ns()
        if by_hand:
            by_hand(killer, kind, lost)
        return time.monotonic_ns() - begin

    with concurrent.futures.ThreadPoolExecutor(1) as hand:
        for i in range(rounds):
            before = requests.link("flannel.1")
            deleted, lost = victims(kind, wanted, i)
            damage = [rtnl.change(e, before[0], False) for e in deleted]
            monitor.drain()
            done = hand.submit(damage_it, damage or [rtnl.link_delete(before[0])], lost)
            noticed = watch_repair(kind, monitor, requests, wanted)
            repairing = done.result()
            # The two notifications of a quick hand are often read at one moment.
            took.append(max(noticed, repairing) if by_hand else noticed)
            after = requests.link("flannel.1")
            if not by_hand and after[1:] != before[1:]:
                raise world.Failure("flannel.1 came back as %s, was %s" % (after, before))
    for s in (requests, killer, monitor):
        s.close()
    return took


def restore_by_hand(requests, kind, missing):
    """What it takes at the least: who did the damage knows at once what is missing."""
    if kind == "device":
        lower = requests.link("eth0")[0]
        requests.send(rtnl.encode([
            rtnl.vxlan_create("flannel.1", 1, 8472, "192.168.77.2", lower, 1450)]))
    ifindex = requests.link("flannel.1")[0]
    requests.send(rtnl.encode([rtnl.change(e, ifindex, True) for e in missing]))


def repair_floor(kind, rounds):
    """What a repair by hand takes, in one program."""
    ns = world.host("floor")
    with ns.entered():
        requests = rtnl.Requests()
    everything = [("addr", "10.255.0.0", 32)]
    everything += [e for i in range(REPAIR_PEERS) for e in world.Peer(i).entries()]
    restore_by_hand(requests, "device", everything)
    requests.close()
    took = repair_rounds(ns, kind, rounds, restore_by_hand)
    ns.delete()
    return spread([ms(t) for t in took])


def create_vxlan(ns, name="flannel.1", vni=1, port=8472, local="192.168.77.2"):
    ns.ip("link", "add", name, "type", "vxlan", "id", str(vni), "dstport", str(port), "local",
          local, "dev", "eth0", "nolearning")
    ns.ip("link", "set", name, "mtu", "1450", "up")


REPAIR_KINDS = ("route", "neigh", "fdb", "addr", "device", "all routes")
REPAIR_NAMES = {"neigh": "neighbour", "fdb": "FDB entry", "addr": "address"}


def repair(bench):
    rounds = bench.rounds(200, 20)
    ns = world.host("repair")
    daemon = bench.daemon(ns, bench.store(REPAIR_PEERS))
    world.check_complete(ns, [world.Peer(i) for i in range(REPAIR_PEERS)])
    for kind in REPAIR_KINDS:
        took = [ms(t) for t in repair_rounds(ns, kind, rounds)]
        floor = repair_floor(kind, rounds)
        data = spread(took)
        yield Result(
            "repair: %s" % REPAIR_NAMES.get(kind, kind),
            "p50 %.2f, p99 %.2f ms" % (data["p50"], data["p99"]),
            "p99 < %d ms" % REPAIR_GOAL_MS,
            data["p99"] < REPAIR_GOAL_MS,
            "floor p50 %.2f, p99 %.2f ms: who deletes it adds it again"
            % (floor["p50"], floor["p99"]),
            {**data, "unit": "ms", "floor": floor, "peers": REPAIR_PEERS},
            noisy=floor["p99"] >= REPAIR_GOAL_MS,
        )
    daemon.stop()
    ns.delete()


# -- a peer appears --------------------------------------------------------------------


def appear_floor(bench, ns, rounds):
    """One program that does it without being woken: inotify, then one send."""
    libc = ctypes.CDLL(None, use_errno=True)
    with ns.entered():
        requests = rtnl.Requests()
    ifindex = requests.link("flannel.1")[0]
    watched, beside = bench.scratch.new("watched"), bench.scratch.new("beside")
    fd = libc.inotify_init1(0o2000000)
    libc.inotify_add_watch(fd, str(watched).encode(), 0x80)  # IN_MOVED_TO
    took = []
    for i in range(rounds):
        peer = world.Peer(40000 + i)
        (beside / peer.key).write_text(peer.record())
        begin = time.monotonic_ns()
        os.rename(beside / peer.key, watched / peer.key)
        os.read(fd, 4096)
        text = (watched / peer.key).read_text()
        json.loads(text)
        requests.send(rtnl.encode([rtnl.change(e, ifindex, True) for e in peer.entries()]))
        took.append(time.monotonic_ns() - begin)
        requests.send(rtnl.encode([rtnl.change(e, ifindex, False) for e in peer.entries()]))
    os.close(fd)
    requests.close()
    return spread([ms(t) for t in took])


def appear_once(store, beside, monitor, peer, by_link):
    new, target = beside / peer.key, store / "subnets" / peer.key
    new.write_text(peer.record())
    route = peer.entries()[2]
    monitor.drain()
    begin = time.monotonic_ns()
    if by_link:
        os.link(new, target)
    else:
        os.rename(new, target)
    for now, kind, body in monitor.read(5):
        found = rtnl.parse(kind, body) if kind == rtnl.NEWROUTE else None
        if found and found[1] == route:
            return now - begin
    raise world.Failure("no route to %s within 5 s" % peer.base)


def appear(bench):
    rounds = bench.rounds(500, 50)
    ns = world.host("appear")
    store = bench.store(100)
    beside = bench.scratch.new("beside")
    daemon = bench.daemon(ns, store)
    with ns.entered():
        monitor = rtnl.Monitor()
    took = []
    for i in range(rounds):
        peer = world.Peer(100 + i)
        took.append(ms(appear_once(store, beside, monitor, peer, by_link=i % 2)))
        time.sleep(0.002)  # news are apart
    world.check_complete(ns, [world.Peer(i) for i in range(100 + rounds)])
    monitor.close()
    daemon.stop()
    floor = appear_floor(bench, ns, rounds)
    ns.delete()
    data = spread(took)
    yield Result(
        "peer file to route",
        "p50 %.2f, p99 %.2f ms" % (data["p50"], data["p99"]),
        "p50 < 1, p99 < 3 ms",
        data["p50"] < 1 and data["p99"] < 3,
        "floor p50 %.2f, p99 %.2f ms: rename, inotify, one send, one process"
        % (floor["p50"], floor["p99"]),
        {**data, "unit": "ms", "floor": floor},
        noisy=floor["p99"] >= 3,
    )


# -- cold start ------------------------------------------------------------------------


def batch_files(path, n_peers):
    with open(path / "ip", "w", encoding="utf-8") as ip, \
         open(path / "bridge", "w", encoding="utf-8") as bridge:
        for i in range(n_peers):
            p = world.Peer(i)
            ip.write("neigh replace %s lladdr %s dev flannel.1 nud permanent\n" % (p.base, p.mac))
            ip.write("route replace %s/24 via %s dev flannel.1 onlink\n" % (p.base, p.base))
            bridge.write("fdb replace %s dev flannel.1 dst %s self permanent\n"
                         % (p.mac, p.public_ip))


def cold_batch(peers, files):
    ns = world.host("batch")
    create_vxlan(ns)
    ns.ip("addr", "add", "10.0.0.0/32", "dev", "flannel.1")
    begin = time.monotonic_ns()
    run_in = ("ip", "-n", ns.name, "-batch", str(files / "ip"))
    world.run("bridge", "-n", ns.name, "-batch", str(files / "bridge"))
    world.run(*run_in)
    took = time.monotonic_ns() - begin
    world.check_complete(ns, peers)
    ns.delete()
    return took


def cold_daemon(bench, peers, store, *flags):
    ns = world.host("cold")
    for own in (store / "subnets").glob("10.2[4-5]?.*"):
        own.unlink()
    daemon = bench.daemon(ns, store, *flags, timeout_s=600)
    world.check_complete(ns, peers)
    _, cpu_ns = daemon.activity()
    daemon.stop()
    ns.delete()
    return daemon.ready_ns, cpu_ns, daemon.memory_peak_kb


def cold(bench, n_peers, rounds):
    peers = [world.Peer(i) for i in range(n_peers)]
    store = bench.store(n_peers)
    files = bench.scratch.new("batch")
    batch_files(files, n_peers)
    ours, cpu, unfiltered, theirs, peak = [], [], [], [], 0
    for _ in range(rounds):
        theirs.append(cold_batch(peers, files))
        took, cpu_ns, peak_kb = cold_daemon(bench, peers, store)
        ours.append(took)
        cpu.append(cpu_ns)
        peak = max(peak, peak_kb)
        unfiltered.append(cold_daemon(bench, peers, store, "--peer-filter=false")[0])
    shutil.rmtree(store)
    ratios = [a / b for a, b in zip(ours, theirs)]
    ratio = statistics.median(ratios)
    batch_s = statistics.median(theirs) / 1e9
    bare = statistics.median(unfiltered) / statistics.median(theirs)
    yield Result(
        "cold start, {:,} peers".format(n_peers),
        "%.2f x (%.3f s)" % (ratio, statistics.median(ours) / 1e9),
        "<= 1.5 x",
        ratio <= 1.5,
        "ip + bridge -batch: %.3f s; without the peer filter %.2f x" % (batch_s, bare),
        {
            "unit": "s",
            "ratio": ratio,
            "ratios": ratios,
            "ours": [t / 1e9 for t in ours],
            "ours_cpu": [t / 1e9 for t in cpu],
            "ours_without_filter": [t / 1e9 for t in unfiltered],
            "batch": [t / 1e9 for t in theirs],
            "peak_kb": peak,
        },
    )


def cold_5000(bench):
    yield from cold(bench, 5000, bench.rounds(7, 2))


def cold_50000(bench):
    yield from cold(bench, 50000, bench.rounds(3, 1))


# -- memory ----------------------------------------------------------------------------


def settled_memory(daemon):
    """Once it has not moved for a second; its PSS moves with what others do."""
    same, before = 0, None
    while same < 4:
        now = daemon.memory_kb()
        same = same + 1 if before and now["Rss"] == before["Rss"] else 0
        before = now
        time.sleep(0.25)
    return before


def sleeper():
    # pylint: disable=consider-using-with
    return subprocess.Popen(["sleep", "3600"])


def memory(bench):
    goals = {100: 6 << 10, 5000: 12 << 10}
    floor = sleeper()
    floor_kb = wait_rss(floor.pid)
    for n_peers in (3, 100, 5000, 50000):
        ns = world.host("memory")
        store = bench.store(n_peers)
        daemon = bench.daemon(ns, store, timeout_s=600)
        kb = settled_memory(daemon)
        world.check_complete(ns, [world.Peer(i) for i in range(n_peers)])
        daemon.stop()
        ns.delete()
        shutil.rmtree(store)
        goal = goals.get(n_peers)
        yield Result(
            "memory, {:,} peers".format(n_peers),
            "RSS %.1f, PSS %.1f MB" % (kb["Rss"] / 1024, kb["Pss"] / 1024),
            "RSS < %d MB" % (goal >> 10) if goal else "shown",
            kb["Rss"] < goal if goal else None,
            "floor %.1f MB: sleep(1); our peak %.1f MB" % (floor_kb / 1024, kb["VmHWM"] / 1024),
            {**kb, "unit": "kB", "floor": floor_kb},
        )
    floor.kill()
    floor.wait()


def wait_rss(pid):
    time.sleep(0.2)
    for line in open("/proc/%d/smaps_rollup" % pid, encoding="utf-8"):
        if line.startswith("Rss:"):
            return int(line.split()[1])
    return 0


# -- start -----------------------------------------------------------------------------


def loader_floor(bench, rounds):
    """ns to execute the program and end: what the loader and its libraries cost."""
    took = []
    for _ in range(rounds):
        begin = time.monotonic_ns()
        subprocess.run([bench.binary, "--version"], stdout=subprocess.DEVNULL, check=True,
                       close_fds=False)
        took.append(time.monotonic_ns() - begin)
    return statistics.median(took)


def start(bench):
    rounds = bench.rounds(30, 10)
    fresh, again = [], []
    for _ in range(rounds):
        ns = world.host("start")
        store = bench.store(3)
        for into in (fresh, again):
            daemon = bench.daemon(ns, store)
            into.append(ms(daemon.ready_ns))
            world.check_complete(ns, [world.Peer(i) for i in range(3)])
            daemon.stop()
        ns.delete()
    floor = ms(loader_floor(bench, rounds))
    for name, took in (("host without a trace of it", fresh), ("restart", again)):
        data = spread(took)
        yield Result(
            "start to READY=1, 3 peers, %s" % name,
            "%.1f ms" % data["p50"],
            "< 15 ms",
            data["p50"] < 15,
            "floor %.1f ms: flanneld --version" % floor,
            {**data, "unit": "ms", "floor": floor},
        )


# -- idle ------------------------------------------------------------------------------


def idle(bench):
    seconds = bench.rounds(60, 20)
    ns = world.host("idle")
    daemon = bench.daemon(ns, bench.store(100))
    floor = sleeper()
    time.sleep(5)  # the kernel's own first steps: IPv6 addresses, link states
    before, begin = daemon.activity(), time.monotonic()
    time.sleep(seconds)
    after, end = daemon.activity(), time.monotonic()
    daemon.stop()
    ns.delete()
    floor.kill()
    floor.wait()
    wakeups, cpu = after[0] - before[0], (after[1] - before[1]) / 1e9 / (end - begin) * 100
    yield Result(
        "idle, 100 peers",
        "%d wake-ups in %d s, %.3f %% CPU" % (wakeups, seconds, cpu),
        "<= 1 in 10 s, 0.0 %",
        wakeups <= seconds / 10 and cpu < 0.05,
        "floor 0: sleep(1)",
        {"wakeups": wakeups, "seconds": end - begin, "cpu_percent": cpu},
    )


# -- traffic ---------------------------------------------------------------------------


class Pair:
    """Two hosts on one wire, a pod on each; the pods are on two networks: that of
    flanneld, and one of a vxlan made with `ip` alone."""

    def __init__(self, bench):
        self.bench = bench
        self.store = bench.store(0)
        self.hosts = [world.Namespace("host%d" % i) for i in (0, 1)]
        self.pods = [world.Namespace("pod%d" % i) for i in (0, 1)]
        self.daemons = [None, None]
        world.run("ip", "link", "add", "eth0", "netns", self.hosts[0].name, "type", "veth",
                  "peer", "name", "eth0", "netns", self.hosts[1].name)
        for i in (0, 1):
            world.set_uplink(self.hosts[i], 2 + i)
            world.add_pod(self.hosts[i], self.pods[i])
        self.start()
        self.addr = [d.pod_address() for d in self.daemons]
        for i in (0, 1):
            world.address_pod(self.hosts[i], self.pods[i], self.addr[i])
            world.address_pod(self.hosts[i], self.pods[i], "172.30.%d.2" % i)
            self._by_hand(i)

    def _by_hand(self, i):
        host, other = self.hosts[i], 1 - i
        create_vxlan(host, "hand", 2, 4789, "192.168.77.%d" % (2 + i))
        host.ip("link", "set", "hand", "address", "0e:aa:00:00:00:0%d" % i)
        mac, base = "0e:aa:00:00:00:0%d" % other, "172.30.%d.0" % other
        host.ip("neigh", "add", base, "lladdr", mac, "dev", "hand", "nud", "permanent")
        world.run("bridge", "-n", host.name, "fdb", "add", mac, "dev", "hand", "dst",
                  "192.168.77.%d" % (2 + other))
        host.ip("addr", "add", "172.30.%d.0/32" % i, "dev", "hand")
        host.ip("route", "add", base + "/24", "via", base, "dev", "hand", "onlink")

    def start(self):
        self.daemons = [self.bench.daemon(h, self.store) for h in self.hosts]
        world.await_peers(self.hosts)

    def stop(self):
        """No daemon, nor the filter that it leaves behind: hosts as if by hand."""
        for host, daemon in zip(self.hosts, self.daemons):
            daemon.stop()
            subprocess.run(["ip", "netns", "exec", host.name, "nft", "flush", "ruleset"],
                           check=False)


def iperf(pair, source, target, seconds):
    out = world.run("ip", "netns", "exec", pair.pods[0].name, "iperf3", "-J", "-t",
                    str(seconds), "-B", source, "-c", target)
    return json.loads(out)["end"]["sum_received"]["bits_per_second"] / 1e9


def tcp(bench):
    if not shutil.which("iperf3"):
        yield Result("pod-to-pod TCP", "skipped", ">= 0.95 x", None,
                     "iperf3 is not installed (Debian: iperf3)", {"skipped": True})
        return
    rounds, seconds = bench.rounds(7, 3), bench.rounds(3, 2)
    pair = Pair(bench)
    with pair.pods[1].entered():
        # pylint: disable=consider-using-with
        server = subprocess.Popen(["iperf3", "-s"], stdout=subprocess.DEVNULL)
    ours, theirs = [], []
    with contextlib.ExitStack() as stack:
        stack.callback(server.wait)
        stack.callback(server.send_signal, signal.SIGKILL)
        world.wait_for("iperf3", lambda: ":5201" in world.run(
            "ip", "netns", "exec", pair.pods[1].name, "ss", "-ltn"))
        for i in range(rounds):
            for which in ((0, 1) if i % 2 else (1, 0)):
                if which:
                    pair.stop()
                    theirs.append(iperf(pair, "172.30.0.2", "172.30.1.2", seconds))
                    pair.start()
                else:
                    ours.append(iperf(pair, pair.addr[0], pair.addr[1], seconds))
    pair.stop()
    ratio = statistics.median(a / b for a, b in zip(ours, theirs))
    yield Result(
        "pod-to-pod TCP",
        "%.2f x (%.2f Gbit/s)" % (ratio, statistics.median(ours)),
        ">= 0.95 x",
        ratio >= 0.95,
        "vxlan by hand: %.2f Gbit/s" % statistics.median(theirs),
        {"unit": "Gbit/s", "ratio": ratio, "ours": ours, "by_hand": theirs},
    )
    for ns in pair.hosts + pair.pods:
        ns.delete()


FIGURES = {
    "repair": (repair, "an entry, all routes or the device deleted, to all restored"),
    "appear": (appear, "a peer's file appears, to its route in the kernel"),
    "start": (start, "execution to READY=1"),
    "idle": (idle, "wake-ups and CPU time while nothing happens"),
    "tcp": (tcp, "pod-to-pod throughput"),
    "cold-5000": (cold_5000, "cold start with 5,000 peers"),
    "memory": (memory, "RSS and PSS at 3 to 50,000 peers"),
    "cold-50000": (cold_50000, "cold start with 50,000 peers"),
}
