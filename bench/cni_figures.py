# SPDX-License-Identifier: Apache-2.0
"""cni_figures - what is measured of the CNI plugin

As in figures.py. The same pod is added and deleted by three ways in turns: the fast path,
the plugin with the real delegates (flannel, bridge, host-local: the chain that a runtime
has executed so far), and those delegates alone, which is the floor of that chain.
"""
import concurrent.futures
import contextlib
import fcntl
import json
import os
import pathlib
import subprocess
import time

import world
from figures import Result, ms, spread

DELEGATES = pathlib.Path("/usr/lib/cni")
WAYS = ("fast", "exec", "delegates")
NAMES = {"fast": "fast path", "exec": "with bridge, host-local", "delegates": "delegates alone"}
ADD_GOAL = 0.25  # of the exec chain's
RSS_GOAL_KB = 1536
AT_ONCE = 8
NEIGHBOURS = 10  # pods that stay while others come and go
SUBNET_ENV = ("FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.0.1/20\n"
              "FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n")
F_SETPIPE_SZ = 1031


def plugin_of(bench):
    named = os.environ.get("FLANNEL_CNI")
    return named or str(pathlib.Path(bench.binary).parent / "flannel")


def skipped(bench, name):
    """A result for a machine that lacks programs, or None."""
    missing = [p for p in (plugin_of(bench), *(str(DELEGATES / d)
                                               for d in ("bridge", "host-local")))
               if not os.access(p, os.X_OK)]
    if missing:
        return Result(name, "skipped", "", None, "not installed: " + " ".join(missing),
                      {"skipped": True})
    return None


class Node:
    """A host namespace with directories of its own, driven by one of the ways."""

    def __init__(self, bench, way):
        self.way, self.dir = way, bench.scratch.new("cni-" + way)
        self.ns = world.Namespace("cni-" + way)
        (self.dir / "subnet.env").write_text(SUBNET_ENV, encoding="ascii")
        delegate = {"hairpinMode": True, "isDefaultGateway": True}
        ipam = {"dataDir": str(self.dir / "networks")}
        common = {"name": "cbr0", "cniVersion": "1.0.0"}
        if way == "delegates":
            self.program = str(DELEGATES / "bridge")
            self.conf = {**common, **delegate, "type": "bridge", "ipMasq": False, "mtu": 1450,
                         "isGateway": True,
                         "ipam": {**ipam, "type": "host-local",
                                  "ranges": [[{"subnet": "10.5.0.0/20"}]],
                                  "routes": [{"dst": "10.5.0.0/16"}]}}
        else:
            self.program = plugin_of(bench)
            self.conf = {**common, "type": "flannel", "delegate": delegate, "ipam": ipam,
                         "dataDir": str(self.dir / "saved"), "builtin": way == "fast",
                         "subnetFile": str(self.dir / "subnet.env")}
        self.text = json.dumps(self.conf).encode()
        # The fast path cannot be what it is called, if somebody else had to be found.
        self.path = "/nonexistent" if way == "fast" else str(DELEGATES)

    def environment(self, command, pod):
        return {"PATH": os.environ["PATH"], "CNI_COMMAND": command, "CNI_CONTAINERID": pod.name,
                "CNI_NETNS": "/run/netns/" + pod.name, "CNI_IFNAME": "eth0",
                "CNI_PATH": self.path}

    def popen(self, command, pod, stdout=subprocess.PIPE):
        with self.ns.entered():
            return subprocess.Popen([self.program], stdin=subprocess.PIPE, stdout=stdout,
                                    stderr=subprocess.DEVNULL, env=self.environment(command, pod))

    def call(self, command, pod):
        """ns from before its execution to its end."""
        begin = time.monotonic_ns()
        process = self.popen(command, pod)
        out, _ = process.communicate(self.text)
        took = time.monotonic_ns() - begin
        if process.returncode:
            raise world.Failure("%s %s: %s" % (self.way, command, out.decode()[:300]))
        return took

    def peak_kb(self, pod):
        """VmHWM of an ADD when it is about to answer, which it cannot: the pipe is full."""
        reader, writer = os.pipe()
        size = fcntl.fcntl(writer, F_SETPIPE_SZ, 4096)
        os.write(writer, b" " * size)
        process = self.popen("ADD", pod, stdout=writer)
        process.stdin.write(self.text)
        process.stdin.close()

        def blocked():
            # "1 0x1 ...": write(2) to its stdout.
            with open("/proc/%d/syscall" % process.pid, encoding="ascii") as f:
                return f.read().startswith("1 0x1 ")

        try:
            world.wait_for("an answer", blocked)
            with open("/proc/%d/status" % process.pid, encoding="ascii") as f:
                return next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))
        finally:
            os.close(writer)
            while os.read(reader, 65536):
                pass
            os.close(reader)
            process.wait()

    def close(self):
        self.ns.delete()


def start_floor(rounds):
    """ms that it takes here to execute a program that does nothing."""
    took = []
    for _ in range(rounds):
        begin = time.monotonic_ns()
        subprocess.run(["/bin/true"], check=True, stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL)
        took.append(ms(time.monotonic_ns() - begin))
    return spread(took)


def removal_floor(ns, rounds):
    """ms of `ip link del` of a veth whose other end is in a pod: what the kernel takes."""
    took = []
    with_pod = world.Namespace("floor")
    for _ in range(rounds):
        ns.ip("link", "add", "floor0", "up", "type", "veth", "peer", "name", "eth0", "netns",
              with_pod.name)
        with_pod.ip("link", "set", "eth0", "up")
        begin = time.monotonic_ns()
        with_pod.ip("link", "del", "eth0")
        took.append(ms(time.monotonic_ns() - begin))
    with_pod.delete()
    return spread(took)


@contextlib.contextmanager
def nodes_and_pods(bench, n_pods):
    nodes = {way: Node(bench, way) for way in WAYS}
    pods = [world.Namespace("pod%d" % i) for i in range(n_pods)]
    try:
        yield nodes, pods
    finally:
        for pod in pods:
            pod.delete()
        for node in nodes.values():
            node.close()


def add_and_delete(bench):
    why = skipped(bench, "CNI: ADD, DEL")
    if why:
        yield why
        return
    rounds = bench.rounds(200, 20)
    took = {way: {"ADD": [], "DEL": []} for way in WAYS}
    with nodes_and_pods(bench, 1 + NEIGHBOURS * len(WAYS)) as (nodes, pods):
        for i, way in enumerate(WAYS):
            for pod in pods[1 + i * NEIGHBOURS:][:NEIGHBOURS]:
                nodes[way].call("ADD", pod)
        for i in range(rounds):
            for way in WAYS[i % len(WAYS):] + WAYS[:i % len(WAYS)]:
                for command in ("ADD", "DEL"):
                    took[way][command].append(ms(nodes[way].call(command, pods[0])))
        removal = removal_floor(nodes["fast"].ns, rounds)
    start = start_floor(rounds)
    data = {way: {c: spread(v) for c, v in both.items()} for way, both in took.items()}
    for command in ("ADD", "DEL"):
        fast, chain, alone = (data[way][command] for way in WAYS)
        ratio = fast["p50"] / chain["p50"]
        floor = start if command == "ADD" else removal
        what = "/bin/true" if command == "ADD" else "ip link del alone"
        yield Result(
            "CNI: %s, fast path" % command,
            "%.1f, p99 %.1f ms" % (fast["p50"], fast["p99"]),
            "<= 1/4 of the chain's" if command == "ADD" else "shown",
            ratio <= ADD_GOAL if command == "ADD" else None,
            "%s %.1f, p99 %.1f ms (1/%.1f); %s %.1f, p99 %.1f; %s %.1f"
            % (NAMES["exec"], chain["p50"], chain["p99"], 1 / ratio, NAMES["delegates"],
               alone["p50"], alone["p99"], what, floor["p50"]),
            {"unit": "ms", "ratio": ratio, "fast": fast, "exec": chain, "delegates": alone,
             "floor": floor},
        )


def all_at_once(node, command, pods):
    """Pods a second."""
    begin = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for future in [pool.submit(node.call, command, pod) for pod in pods]:
            future.result()
    return len(pods) / (time.monotonic() - begin)


def parallel(bench):
    why = skipped(bench, "CNI: pods a second")
    if why:
        yield why
        return
    n = bench.rounds(200, 40)
    rate = {}
    with nodes_and_pods(bench, n) as (nodes, pods):
        for way in WAYS:
            rate[way] = {c: all_at_once(nodes[way], c, pods) for c in ("ADD", "DEL")}
    for command in ("ADD", "DEL"):
        yield Result(
            "CNI: pods a second, %s, %d at once" % (command, AT_ONCE),
            "%.0f" % rate["fast"][command],
            "shown",
            None,
            "; ".join("%s %.0f" % (NAMES[way], rate[way][command]) for way in WAYS[1:]),
            {"unit": "1/s", "pods": n, **{way: rate[way][command] for way in WAYS}},
        )


def memory(bench):
    why = skipped(bench, "CNI: memory of ADD")
    if why:
        yield why
        return
    peak = {}
    with nodes_and_pods(bench, 1) as (nodes, pods):
        for way in WAYS:
            nodes[way].call("ADD", pods[0])  # the bridge is there
            nodes[way].call("DEL", pods[0])
            peak[way] = nodes[way].peak_kb(pods[0])
            nodes[way].call("DEL", pods[0])
    yield Result(
        "CNI: memory of ADD, fast path",
        "%.2f MB" % (peak["fast"] / 1024),
        "< %.1f MB" % (RSS_GOAL_KB / 1024),
        peak["fast"] < RSS_GOAL_KB,
        "%s %.2f MB beside a bridge of %.1f MB"
        % (NAMES["exec"], peak["exec"] / 1024, peak["delegates"] / 1024),
        {"unit": "kB", **peak},
    )


FIGURES = {
    "cni-add": (add_and_delete, "a pod's ADD and DEL"),
    "cni-parallel": (parallel, "pods a second, eight at once"),
    "cni-memory": (memory, "peak of an ADD"),
}
