# SPDX-License-Identifier: Apache-2.0
"""etcd_figures - what is measured with etcd as the store

As in figures.py. The original (flannel v0.28.9) is not run: what it took on this kind of
machine was measured earlier, and stands beside as text.
"""
import contextlib
import dataclasses
import os
import select
import socket
import statistics
import subprocess
import threading
import time

import etcd
import figures
import rtnl
import world
from figures import Result, ms, spread

GARBAGE = "{this is no record"


def result(name, value, goal, ok, beside, original, data, noisy=False):
    """A Result with what the original took, if that is known."""
    if original:
        beside += "; original v0.28.9 (measured earlier): " + original
        data = {**data, "original": original}
    return Result(name, value, goal, ok, beside, data, noisy)


@contextlib.contextmanager
def cluster(bench, tls=False):
    """A switch with an etcd on it."""
    switch = world.Switch()
    server = etcd.Etcd(bench.scratch, switch, tls)
    yield switch, server
    server.stop()
    switch.ns.delete()


# -- put to route ----------------------------------------------------------------------


def put_once(gateway, data, sock, has_come):
    """Sends a put: ns until @has_come() of what @sock has, and until the answer."""
    came = answered = None
    begin = time.monotonic_ns()
    gateway.send(data)
    while came is None or answered is None:
        readable = select.select([gateway.socket, sock], [], [], 5)[0]
        if not readable:
            raise world.Failure("put: %s within 5 s" % ("no answer" if came else "no news"))
        if sock in readable:
            seen = has_come()
            if seen and came is None:
                came = seen - begin
        if gateway.socket in readable:
            gateway.answer()
            answered = time.monotonic_ns() - begin
    return came, answered


def route_seen(monitor, route):
    def has_come():
        found = None
        for now, kind, body in monitor.read(0):
            entry = rtnl.parse(kind, body) if kind == rtnl.NEWROUTE else None
            if entry and entry[1] == route:
                found = now
        return found

    return has_come


def event_seen(watch, wanted):
    return lambda: time.monotonic_ns() if wanted in list(watch.events()) else None


def put_rounds(rounds, server, monitor, watch):
    """ms to the route, to its answer; to the event of a bare watcher, to its answer."""
    took = [], [], [], []
    for i in range(rounds):
        peer = world.Peer(100 + i)
        monitor.drain()
        ours = put_once(server.gateway, etcd.put(etcd.SUBNETS + peer.key, peer.value()),
                        monitor.socket, route_seen(monitor, peer.entries()[2]))
        time.sleep(0.002)  # news are apart
        key = "/floor/" + peer.key
        floor = put_once(server.gateway, etcd.put(key, peer.value()), watch.socket,
                         event_seen(watch, (key, False)))
        time.sleep(0.002)
        for into, ns in zip(took, ours + floor):
            into.append(ms(ns))
    return took


def etcd_put(bench):
    rounds = bench.rounds(300, 50)
    with cluster(bench) as (switch, server):
        server.fill([world.Peer(i) for i in range(100)])
        host = switch.host(2)
        daemon = bench.daemon(host, server)
        with host.entered():
            monitor = rtnl.Monitor(rtnl.IPV4_ROUTES)
        watch = etcd.Watch(switch.ns, "/floor/")
        route, answer, event, floor_answer = put_rounds(rounds, server, monitor, watch)
        world.check_complete(host, [world.Peer(i) for i in range(100 + rounds)])
        yield from put_result(route, answer, event, floor_answer)
        yield from burst(bench, server, host, monitor)
        watch.close()
        monitor.close()
        daemon.stop()
        host.delete()


def put_result(route, answer, event, floor_answer):
    data, floor = spread(route), spread(event)
    after = spread([a - b for a, b in zip(route, answer)])
    own = data["p50"] - floor["p50"]
    yield result(
        "etcd put (sent) to route",
        "p50 %.2f, p99 %.2f ms" % (data["p50"], data["p99"]),
        "p50 < 1, p99 < 3 ms",
        data["p50"] < 1 and data["p99"] < 3,
        "floor p50 %.2f, p99 %.2f ms: to the event of a bare watcher; ours p50 %.2f more; "
        "route after the put's answer p50 %.2f ms" % (floor["p50"], floor["p99"], own, after["p50"]),
        "p50 1.3, p99 5.8 ms",
        {**data, "unit": "ms", "floor": floor, "answer": spread(answer),
         "floor_answer": spread(floor_answer), "after_answer": after},
        noisy=floor["p50"] >= 1 or floor["p99"] >= 3,
    )


# -- a burst of puts -------------------------------------------------------------------

BURST, BURST_CONNECTIONS, BURST_FIRST_PEER = 1000, 8, 5000


def receive(sockets, is_done):
    """[(time, bytes)] of each socket until is_done(them); nothing is looked into here that
    could wait."""
    chunks = {s: [] for s in sockets}
    for s in sockets:
        s.settimeout(0)
    while not is_done(chunks):
        readable = select.select(sockets, [], [], 10)[0]
        if not readable:
            raise world.Failure("burst: nothing came for 10 s")
        for s in readable:
            with contextlib.suppress(BlockingIOError):
                for _ in range(64):
                    data = s.recv(1 << 17)
                    chunks[s].append((time.monotonic_ns(), data))
    for s in sockets:
        s.settimeout(10)
    return chunks


def burst_once(connections, requests, sock, count_news):
    """Sends all puts over all connections at once: (first sent, last answered, last news)."""
    each = len(requests) // len(connections)
    blobs = [b"".join(requests[i * each:(i + 1) * each]) for i in range(len(connections))]
    seen = {"answers": 0, "news": 0, "at": {}}

    def is_done(chunks):
        for s, found in chunks.items():
            for _, data in found[seen["at"].get(s, 0):]:
                if s is sock:
                    seen["news"] += count_news(data)
                else:
                    seen["answers"] += data.count(b"HTTP/1.1 200")
            seen["at"][s] = len(found)
        return seen["answers"] >= len(requests) and seen["news"] >= len(requests)

    begin = time.monotonic_ns()
    for connection, blob in zip(connections, blobs):
        connection.send(blob)
    chunks = receive([sock, *(c.socket for c in connections)], is_done)
    last = {s: found[-1][0] for s, found in chunks.items()}
    return begin, max(last[c.socket] for c in connections), last[sock]


def count_routes(data):
    return sum(kind == rtnl.NEWROUTE for kind, _, _, _ in rtnl.messages(data))


def burst_rounds(rounds, connections, prefix, sock, count_news, after_each):
    """ms from the last answer to the last news, and from the first put to it."""
    peers = [world.Peer(BURST_FIRST_PEER + i) for i in range(BURST)]
    requests = [etcd.put(prefix + p.key, p.value()) for p in peers]
    last, whole = [], []
    for _ in range(rounds):
        begin, answered, news = burst_once(connections, requests, sock, count_news)
        last.append(ms(news - answered))
        whole.append(ms(news - begin))
        after_each(peers)
    return last, whole


def burst(bench, server, host, monitor):
    rounds = bench.rounds(10, 3)
    connections = [etcd.Gateway(server.switch.ns) for _ in range(BURST_CONNECTIONS)]
    monitor.drain()

    def forget(peers):
        world.check_complete(host, peers)
        for peer in peers:
            server.gateway.send(etcd.delete(etcd.SUBNETS + peer.key))
            server.gateway.answer()
        world.wait_for("the peers to go", lambda: host.ip(
            "route", "show", peers[-1].base + "/24") == "")
        monitor.drain()

    last, whole = burst_rounds(rounds, connections, etcd.SUBNETS, monitor.socket, count_routes,
                               forget)
    watch = etcd.Watch(server.switch.ns, "/burst/")
    floor, floor_whole = burst_rounds(
        rounds, connections, "/burst/", watch.socket, lambda data: data.count(b'"mod_revision"'),
        lambda peers: None)
    watch.close()
    for connection in connections:
        connection.close()
    data, bare = spread(last), spread(floor)
    yield result(
        "{:,} puts in a burst, last put to last route".format(BURST),
        "p50 %.2f, max %.2f ms" % (data["p50"], data["max"]),
        "< 3 ms",
        data["p50"] < 3,
        "floor p50 %.2f ms: to the last event of a bare watcher; whole burst %.0f ms, floor %.0f"
        % (bare["p50"], statistics.median(whole), statistics.median(floor_whole)),
        "< 5 ms",
        {**data, "unit": "ms", "each": last, "floor_each": floor, "floor": bare, "whole": spread(whole),
         "floor_whole": spread(floor_whole)},
        noisy=bare["p50"] >= 3,
    )


# -- cold start ------------------------------------------------------------------------

COLD_PEERS = 5000


def cold_peer(server, peers, files):
    """ns of what a person would do: list, and program by batches."""
    begin = time.monotonic_ns()
    with open(files / "listed", "wb") as out:
        server.etcdctl("get", "--prefix", etcd.PREFIX, stdout=out)
    listed = time.monotonic_ns() - begin
    return listed, figures.cold_batch(peers, files)


def cold_once(bench, switch, server, peers):
    host = switch.host(2)
    calls = server.calls()
    daemon = bench.daemon(host, server)
    world.check_complete(host, peers)
    calls = server.calls() - calls
    _, cpu_ns = daemon.activity()
    daemon.stop()
    host.delete()
    server.forget_own()
    return daemon.ready_ns, cpu_ns, calls, daemon.memory_peak_kb


def etcd_cold(bench):
    peers = [world.Peer(i) for i in range(COLD_PEERS)]
    files = bench.scratch.new("batch")
    figures.batch_files(files, COLD_PEERS)
    ours, theirs, listed = [], [], []
    with cluster(bench) as (switch, server):
        server.fill(peers)
        for _ in range(bench.rounds(7, 2)):
            took, batch = cold_peer(server, peers, files)
            listed.append(took)
            theirs.append(took + batch)
            ours.append(cold_once(bench, switch, server, peers))
    ready, cpu, calls, peak = (list(column) for column in zip(*ours))
    ratio = statistics.median(a / b for a, b in zip(ready, theirs))
    data = {
        "unit": "s", "ratio": ratio, "ours": [t / 1e9 for t in ready],
        "ours_cpu": [t / 1e9 for t in cpu], "theirs": [t / 1e9 for t in theirs],
        "etcdctl": [t / 1e9 for t in listed], "calls": calls, "peak_kb": peak,
    }
    name = "cold start, {:,} leases in etcd".format(COLD_PEERS)
    yield result(
        name, "%.2f x (%.3f s)" % (ratio, statistics.median(ready) / 1e9), "<= 1.5 x", ratio <= 1.5,
        "etcdctl get + ip + bridge -batch: %.3f s" % (statistics.median(theirs) / 1e9),
        "2.57 s", data)
    yield result(name + ": calls", "%d" % max(calls), "4", max(calls) <= 4,
                 "by etcd's count of what was begun", "10,002", {"calls": calls})
    yield result(name + ": memory", "peak RSS %.1f MB" % (max(peak) / 1024), "< 16 MB",
                 max(peak) < 16 << 10, "VmHWM", "52 MB", {"unit": "kB", "peak": peak})


# -- start -----------------------------------------------------------------------------


def start_rounds(bench, switch, server, rounds):
    """ms to READY=1 of the second of two hosts, for the first time and again; kB; calls."""
    first = switch.host(2)
    other = bench.daemon(first, server)
    fresh, again, memory, calls = [], [], 0, []
    for i in range(rounds):
        host = switch.host(3)
        for into in (fresh, again):
            before = server.calls()
            daemon = bench.daemon(host, server)
            into.append(ms(daemon.ready_ns))
            if into is fresh:
                world.await_peers([first, host])
                calls.append(server.calls() - before)
            if i == 0:
                memory = max(memory, figures.settled_memory(daemon)["Rss"])
            daemon.stop()
        host.delete()
        server.gateway.call(etcd.delete(etcd.SUBNETS + daemon.own_key()))
        world.wait_for("the host to go", lambda: "flannel.1" not in first.ip(
            "route", "show", "root", world.NETWORK))
    other.stop()
    first.delete()
    return fresh, again, memory, calls


def etcd_start(bench):
    rounds = bench.rounds(20, 5)
    floor = ms(figures.loader_floor(bench, rounds))
    original = {"": "61 to 119 ms", ", TLS": ""}
    for tls in (False, True):
        with cluster(bench, tls) as (switch, server):
            fresh, again, memory, calls = start_rounds(bench, switch, server, rounds)
        by = ", TLS" if tls else ""
        for name, took in (("new host", fresh), ("restart", again)):
            data = spread(took)
            yield result(
                "start to READY=1, etcd%s, 2 hosts, %s" % (by, name),
                "%.1f ms" % data["p50"],
                "shown" if tls else "< 25 ms",
                None if tls else data["p50"] < 25,
                "floor %.1f ms: flanneld --version; p99 %.1f ms" % (floor, data["p99"]),
                original[by],
                {**data, "unit": "ms", "floor": floor, "calls": calls},
            )
        yield result(
            "memory, etcd%s, 2 hosts" % by,
            "RSS %.1f MB" % (memory / 1024),
            "shown" if tls else "< 9 MB",
            None if tls else memory < 9 << 10,
            "%d calls at the first start" % statistics.median(calls),
            "" if tls else "40 MB",
            {"unit": "kB", "Rss": memory},
        )


# -- many at once ----------------------------------------------------------------------


HERD_NETWORK, HERD_MIN = "10.244.0.0/16", "10.244.1.0"  # 255 subnets: many want the same one


def at_once(make):
    """What @make(gate) returns, and the time at which the gate was opened."""
    gate, closes = os.pipe()
    made = make(gate)
    os.close(gate)
    now = time.monotonic_ns()
    os.close(closes)
    return made, now


def herd_floor(bench, n):
    """s for the program to be executed and end so many times."""
    def make(gate):
        return [subprocess.Popen(world.gated(bench.binary, "--version"), stdin=gate,
                                 stdout=subprocess.DEVNULL) for _ in range(n)]

    processes, begin = at_once(make)
    for process in processes:
        process.wait()
    return (time.monotonic_ns() - begin) / 1e9


def herd_of(bench, n):
    with cluster(bench) as (switch, server):
        server.gateway.call(etcd.put(etcd.PREFIX + "/config",
                                     world.network_config(HERD_NETWORK, HERD_MIN)))
        hosts = [switch.host(2 + i) for i in range(n)]
        calls = server.calls()
        daemons, begin = at_once(
            lambda gate: [bench.daemon(host, server, gate=gate) for host in hosts])
        last = max(daemon.await_ready(120) for daemon in daemons)
        calls = server.calls() - calls
        world.await_peers(hosts, n - 1)
        whole = time.monotonic_ns()
        ended = sum(daemon.process.poll() is not None for daemon in daemons)
        subnets = {daemon.own_lease() for daemon in daemons}
        keys = set(server.gateway.keys())
        if keys != {daemon.own_key() for daemon in daemons}:
            raise world.Failure("etcd has %d keys of %d daemons" % (len(keys), n))
        cpu = [daemon.activity()[1] / 1e9 for daemon in daemons]
        for daemon in daemons:
            daemon.stop()
        for host in hosts:
            host.delete()
    took, floor = (last - begin) / 1e9, herd_floor(bench, n)
    yield result(
        "%d daemons at the same moment" % n,
        "%d subnets, %d ended" % (len(subnets), ended),
        "%d subnets, 0 ended" % n,
        len(subnets) == n and not ended,
        "the last was ready after %.2f s (floor %.2f s: flanneld --version); %.2f etcd calls each"
        % (took, floor, calls / n),
        "47 get a subnet, 13 exit" if n == 60 else "",
        {"daemons": n, "subnets": len(subnets), "ended": ended, "seconds": took, "floor": floor,
         "seconds_to_all_routes": (whole - begin) / 1e9, "cpu_each": statistics.mean(cpu),
         "calls_each": calls / n},
    )


def etcd_herd(bench):
    for n in (60, 200) if bench.large else (60,):
        yield from herd_of(bench, n)


# -- what etcd suffers -----------------------------------------------------------------


class Traffic:
    """A packet every millisecond from one pod to another, counted on arrival."""

    def __init__(self, source, target, address):
        with target.entered():
            self.receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.receiver.bind((address, 7000))
        self.receiver.settimeout(0)
        with source.entered():
            self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.to = address, 7000
        self.sent, self.received, self.going = 0, 0, True
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while self.going:
            with contextlib.suppress(OSError):  # no route: not received
                self.sender.sendto(b"x", self.to)
            self.sent += 1
            self._receive()
            time.sleep(0.001)

    def _receive(self):
        with contextlib.suppress(BlockingIOError, TimeoutError):
            while self.receiver.recv(16):
                self.received += 1

    def lost(self):
        """Ends it: how many did not arrive."""
        self.going = False
        self.thread.join()
        self.receiver.settimeout(0.3)
        self._receive()
        self.sender.close()
        self.receiver.close()
        return self.sent - self.received


@dataclasses.dataclass
class Pods:
    """Two hosts at one etcd, a pod on each."""

    switch: world.Switch
    server: etcd.Etcd
    hosts: list
    pods: list
    daemons: list

    @contextlib.contextmanager
    def watched(self):
        """A dict that has, after it, the packets and the routes that were lost meanwhile."""
        monitors = []
        for host in self.hosts:
            with host.entered():
                monitors.append(rtnl.Monitor(rtnl.IPV4_ROUTES))
        addresses = [d.pod_address() for d in self.daemons]
        traffic = [Traffic(self.pods[i], self.pods[1 - i], addresses[1 - i]) for i in (0, 1)]
        found = {}
        yield found
        found["sent"] = sum(t.sent for t in traffic)
        found["packets"] = sum(t.lost() for t in traffic)
        found["routes"] = sum(kind == rtnl.DELROUTE for m in monitors for _, kind, _ in m.read(0))
        for monitor in monitors:
            monitor.close()

    def close(self):
        for daemon in self.daemons:
            daemon.stop()
        for ns in self.hosts + self.pods:
            ns.delete()


def two_pods(bench, switch, server):
    pair = Pods(switch, server, [switch.host(2), switch.host(3)],
                [world.Namespace("pod%d" % i) for i in (0, 1)], [])
    for host, pod in zip(pair.hosts, pair.pods):
        world.add_pod(host, pod)
        pair.daemons.append(bench.daemon(host, server))
        world.address_pod(host, pod, pair.daemons[-1].pod_address())
    world.await_peers(pair.hosts)
    return pair


SETTLED_S = 3  # what a deleted key takes with it, it takes within this time


def deleted_once(pair, request, keys):
    """ms until all keys are back after the request that deletes them; and what was lost."""
    watch = etcd.Watch(pair.switch.ns, etcd.SUBNETS)
    with pair.watched() as lost:
        begin = time.monotonic_ns()
        pair.server.gateway.call(request)
        back = set()
        while back != keys:
            if not select.select([watch.socket], [], [], 10)[0]:
                raise world.Failure("%s not back within 10 s" % (keys - back))
            back |= {key for key, deleted in watch.events() if not deleted and key in keys}
        took = ms(time.monotonic_ns() - begin)
        time.sleep(SETTLED_S)
    watch.close()
    return took, lost


def lost_words(lost):
    return "%d packets, %d routes lost" % (sum(one["packets"] for one in lost),
                                           sum(one["routes"] for one in lost))


def nothing_lost(lost):
    return not any(one["packets"] or one["routes"] for one in lost)


def deleted_result(name, rounds, pair, requests):
    """@requests: (request, keys that it deletes) of each round."""
    took, lost = zip(*(deleted_once(pair, *requests[i % len(requests)]) for i in range(rounds)))
    data = spread(took)
    return result(
        name + " deleted", lost_words(lost), "nothing", nothing_lost(lost),
        "back after p50 %.1f, max %.1f ms; of %d packets"
        % (data["p50"], data["max"], sum(one["sent"] for one in lost)),
        "exits", {**data, "unit": "ms", "lost": lost})


def garbage_result(name, pair, key):
    with pair.watched() as lost:
        pair.server.gateway.call(etcd.put(etcd.SUBNETS + key, GARBAGE))
        time.sleep(SETTLED_S)
    return result(name, lost_words([lost]), "nothing", nothing_lost([lost]),
                  "of %d packets" % lost["sent"], "loses every peer", {"lost": lost})


STEADY_S = 6  # after a connection of so long the daemon's next attempts begin quickly


def restarted_once(pair, monitor, peer, down_s):
    """ms from etcd answering again to the route of a peer that was put then; what was lost;
    ms of the put's answer."""
    time.sleep(STEADY_S)
    with pair.watched() as lost:
        pair.server.kill()
        time.sleep(down_s)
        pair.server.start()
        pair.server.connect()
        took, answer = put_once(pair.server.gateway, etcd.put(etcd.SUBNETS + peer.key, peer.value()),
                                monitor.socket, route_seen(monitor, peer.entries()[2]))
    return ms(took), lost, ms(answer)


def restart_result(bench, pair, down_s, rounds, first_peer):
    with pair.hosts[0].entered():
        monitor = rtnl.Monitor(rtnl.IPV4_ROUTES)
    took, lost, answer = zip(*(restarted_once(pair, monitor, world.Peer(first_peer + i), down_s)
                               for i in range(rounds)))
    monitor.close()
    data = spread(took)
    return result(
        "etcd killed, away %d s, started" % down_s,
        "%.0f to %.0f ms, %s" % (data["min"], data["max"], lost_words(lost)),
        "< 1 s, nothing" if down_s == 0 else "shown",
        data["max"] < 1000 and nothing_lost(lost) if down_s == 0 else None,
        "from etcd's first answer to a new peer's route; of %d packets"
        % sum(one["sent"] for one in lost),
        "2.9 s", {**data, "unit": "ms", "lost": lost, "answer": answer})


def etcd_faults(bench):
    rounds = bench.rounds(10, 2)
    with cluster(bench) as (switch, server):
        pair = two_pods(bench, switch, server)
        own = [etcd.SUBNETS + d.own_key() for d in pair.daemons]
        yield deleted_result("own key", rounds, pair, [(etcd.delete(k), {k}) for k in own])
        yield deleted_result("all keys", rounds, pair, [
            (etcd.delete(etcd.SUBNETS, etcd.prefix_end(etcd.SUBNETS)), set(own))])
        yield garbage_result("an unparsable key more", pair, "10.9.9.0-24")
        yield garbage_result("a peer's key made unparsable", pair, pair.daemons[1].own_key())
        yield restart_result(bench, pair, 0, bench.rounds(5, 2), 100)
        yield restart_result(bench, pair, 10, bench.rounds(3, 1), 200)
        pair.close()


FIGURES = {
    "etcd-put": (etcd_put, "a put to etcd, and 1,000 in a burst, to the route in the kernel"),
    "etcd-cold": (etcd_cold, "cold start with 5,000 leases in etcd"),
    "etcd-start": (etcd_start, "execution to READY=1 with etcd, without and with TLS"),
    "etcd-herd": (etcd_herd, "60 daemons at the same moment (--large: and 200)"),
    "etcd-faults": (etcd_faults, "keys deleted and unparsable, etcd killed and started again"),
}
