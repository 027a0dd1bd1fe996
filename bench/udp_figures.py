# SPDX-License-Identifier: Apache-2.0
"""udp_figures - the user-space data path beside kernel vxlan and one packet per call

Two hosts on one wire with a pod behind each, all on this machine's CPUs: both ends of the
tunnel and both programs share them. The wire is one of two models of a NIC:
  nic   the sender's kernel cuts super-packets before they leave, the receiver's puts them
        together again: a NIC without segmentation of UDP
  pass  super-packets cross as they are: a NIC that does it all
"reference" is tests/peer/udp_reference.c, which is what the original does.
"""
import contextlib
import json
import re
import shutil
import signal
import statistics
import subprocess

import figures
import world

Result = figures.Result

# What veth says it can cut by itself.
CUTTING = ("tcp-segmentation-offload", "tx-udp-segmentation", "tx-udp_tnl-segmentation",
           "tx-udp_tnl-csum-segmentation", "tx-gre-segmentation", "tx-gre-csum-segmentation",
           "tx-ipxip4-segmentation", "tx-ipxip6-segmentation", "tx-gso-list")
SUBNET = "10.5.%d.0"
LOAD_PORT = 7001


class Wire:
    """The two hosts, their pods, and a tunnel between them, of any kind."""

    def __init__(self, bench, model):
        self.bench = bench
        self.hosts = [world.Namespace("host%d" % i) for i in (0, 1)]
        self.pods = [world.Namespace("pod%d" % i) for i in (0, 1)]
        self.tools = bench.binary.rsplit("/", 1)[0]
        world.run("ip", "link", "add", "eth0", "netns", self.hosts[0].name, "type", "veth",
                  "peer", "name", "eth0", "netns", self.hosts[1].name)
        for host, pod, i in zip(self.hosts, self.pods, (0, 1)):
            world.set_uplink(host, 2 + i)
            if model == "nic":
                self._ethtool(host, *(x for name in CUTTING for x in (name, "off")))
                self._ethtool(host, "gro", "on")
            world.add_pod(host, pod)
            world.address_pod(host, pod, self.pod(i))

    @staticmethod
    def _ethtool(host, *settings):
        world.run("ip", "netns", "exec", host.name, "ethtool", "-K", "eth0", *settings)

    @staticmethod
    def pod(i):
        return (SUBNET % i)[:-1] + "2"

    @contextlib.contextmanager
    def tunnel(self, kind, **more):
        """One of TUNNELS, up between the two."""
        with contextlib.ExitStack() as stack:
            TUNNELS[kind](self, stack, **more)
            for pod in self.pods:
                pod.ip("link", "set", "eth0", "mtu", "1450" if kind == "vxlan" else "1472")
            world.wait_for("the pods to reach each other", lambda: subprocess.run(
                ["ip", "netns", "exec", self.pods[0].name, "ping", "-c", "1", "-W", "1",
                 self.pod(1)], capture_output=True, check=False).returncode == 0)
            yield

    def background(self, stack, ns, *args):
        """A program in @ns that says "ready"; killed with the stack."""
        with ns.entered():
            # pylint: disable=consider-using-with
            process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                       text=True)
        stack.callback(process.wait)
        stack.callback(process.kill)
        if process.stdout.readline() != "ready\n":
            raise world.Failure("%s did not start" % args[0])
        return process

    def delete(self):
        for ns in self.hosts + self.pods:
            ns.delete()


def ours(wire, stack, peers=0, **backend):
    """flanneld; @peers others besides, whom nobody talks to."""
    store = wire.bench.scratch.new("store")
    subnets = store / "subnets"
    subnets.mkdir()
    (store / "config").write_text(json.dumps({
        "Network": "10.0.0.0/8", "SubnetLen": 24,
        "Backend": {"Type": "udp", **backend}}))
    leases = {SUBNET % i: "192.168.77.%d" % (2 + i) for i in (0, 1)}
    leases.update((world.Peer(i).base, world.Peer(i).public_ip) for i in range(5 * 256,
                                                                            5 * 256 + peers))
    for base, address in leases.items():
        (subnets / (base + "-24")).write_text(
            '{"PublicIP":"%s","BackendType":"udp","Expiration":"2099-01-01T00:00:00Z"}' % address)
    for host in wire.hosts:
        daemon = wire.bench.daemon(host, store)
        stack.callback(delete_device, host)
        stack.callback(daemon.stop)


def reference(wire, stack):
    for i, host in enumerate(wire.hosts):
        host.ip("tuntap", "add", "flannel0", "mode", "tun")
        stack.callback(delete_device, host)
        host.ip("addr", "add", SUBNET % i + "/32", "dev", "flannel0")
        host.ip("link", "set", "flannel0", "mtu", "1472", "up")
        host.ip("route", "add", "10.0.0.0/8", "dev", "flannel0")
        wire.background(stack, host, wire.tools + "/udp_reference", "flannel0",
                        "192.168.77.%d" % (2 + i), "8285", SUBNET % i,
                        "%s/24=192.168.77.%d" % (SUBNET % (1 - i), 3 - i))


def vxlan(wire, stack):
    for i, host in enumerate(wire.hosts):
        other, base = 1 - i, SUBNET % (1 - i)
        figures.create_vxlan(host, "flannel0", 1, 8472, "192.168.77.%d" % (2 + i))
        stack.callback(delete_device, host)
        host.ip("link", "set", "flannel0", "address", "0e:aa:00:00:00:0%d" % i)
        mac = "0e:aa:00:00:00:0%d" % other
        host.ip("neigh", "add", base, "lladdr", mac, "dev", "flannel0", "nud", "permanent")
        world.run("bridge", "-n", host.name, "fdb", "add", mac, "dev", "flannel0", "dst",
                  "192.168.77.%d" % (2 + other))
        host.ip("addr", "add", SUBNET % i + "/32", "dev", "flannel0")
        host.ip("route", "add", base + "/24", "via", base, "dev", "flannel0", "onlink")


TUNNELS = {"ours": ours, "reference": reference, "vxlan": vxlan}


def delete_device(host):
    subprocess.run(["ip", "-n", host.name, "link", "del", "flannel0"], check=False,
                   capture_output=True)


# -- TCP -------------------------------------------------------------------------------


def cpu_s():
    """Of the whole machine, busy, so far."""
    with open("/proc/stat", encoding="ascii") as stat:
        user, nice, system, _idle, _iowait, irq, softirq = map(int, stat.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / 100


def iperf(wire, streams, seconds):
    """(Gbit/s, CPU seconds per Gbit)"""
    with contextlib.ExitStack() as stack:
        with wire.pods[1].entered():
            # pylint: disable=consider-using-with
            server = subprocess.Popen(["iperf3", "-s", "-1"], stdout=subprocess.DEVNULL)
        stack.callback(server.wait)
        stack.callback(server.send_signal, signal.SIGKILL)
        world.wait_for("iperf3", lambda: ":5201" in world.run(
            "ip", "netns", "exec", wire.pods[1].name, "ss", "-ltn"))
        before = cpu_s()
        end = json.loads(world.run("ip", "netns", "exec", wire.pods[0].name, "iperf3", "-J", "-t",
                                   str(seconds), "-P", str(streams), "-c", wire.pod(1)))["end"]
        bits = end["sum_received"]["bytes"] * 8 / 1e9
        return end["sum_received"]["bits_per_second"] / 1e9, (cpu_s() - before) / bits


GOALS = {  # (model, streams): (times the reference, times vxlan)
    ("nic", 1): (8, 1.0),
    ("nic", 4): (8, 1.0),
    ("pass", 1): (None, 0.8),
    ("pass", 4): (None, None),
}


def tcp(bench):
    rounds, seconds = bench.rounds(5, 3), bench.rounds(3, 1)
    for model in ("nic", "pass"):
        took = {(kind, n): [] for kind in TUNNELS for n in (1, 4)}
        wire = Wire(bench, model)
        for _ in range(rounds):
            for kind in TUNNELS:
                with wire.tunnel(kind):
                    for n in (1, 4):
                        took[kind, n].append(iperf(wire, n, seconds))
        wire.delete()
        for n in (1, 4):
            yield tcp_result(model, n, {kind: took[kind, n] for kind in TUNNELS})


def tcp_result(model, streams, took):
    rate = {kind: statistics.median(t[0] for t in took[kind]) for kind in took}
    cost = {kind: statistics.median(t[1] for t in took[kind]) for kind in took}
    goals = GOALS[model, streams]
    ratios = [rate["ours"] / rate[kind] for kind in ("reference", "vxlan")]
    ok = [ratio >= goal for ratio, goal in zip(ratios, goals) if goal]
    wanted = [">= %g x %s" % (goal, kind)
              for goal, kind in zip(goals, ("reference", "vxlan")) if goal]
    return Result(
        "udp: TCP, %d stream%s, \"%s\"" % (streams, "s" if streams > 1 else "", model),
        "%.2f Gbit/s, %.2f CPU s/Gbit" % (rate["ours"], cost["ours"]),
        ", ".join(wanted),
        all(ok) if ok else None,
        "reference %.2f (%.1f x), vxlan %.2f (%.2f x, %.2f CPU s/Gbit)" % (
            rate["reference"], ratios[0], rate["vxlan"], ratios[1], cost["vxlan"]),
        {"unit": "Gbit/s", "rounds": {k: [t[0] for t in v] for k, v in took.items()},
         "cpu_s_per_gbit": cost},
    )


# -- small packets ---------------------------------------------------------------------


def offered(wire, rate, seconds):
    """(sent a second, received a second, part that was lost)"""
    tool = wire.tools + "/udp_load"
    with contextlib.ExitStack() as stack:
        sink = wire.background(stack, wire.pods[1], tool, "recv", str(LOAD_PORT), "0.3")
        calls, _sent, took = map(float, world.run(
            "ip", "netns", "exec", wire.pods[0].name, tool, "send", wire.pod(1), str(LOAD_PORT),
            "64", str(rate), str(seconds)).split())
        came = int(sink.stdout.readline())
    return calls / took, came / took, 1 - came / calls


RATES = (50e3, 75e3, 100e3, 125e3, 150e3, 175e3, 200e3, 250e3, 300e3, 400e3, 600e3)


def small(bench):
    rounds, seconds = bench.rounds(5, 3), bench.rounds(1, 0.5)
    got = {}
    wire = Wire(bench, "nic")
    for kind in TUNNELS:
        with wire.tunnel(kind):
            got[kind] = [[offered(wire, rate, seconds) for _ in range(rounds)] for rate in RATES]
    wire.delete()
    medians = {kind: [[statistics.median(r[i] for r in at_rate) for i in range(3)]
                      for at_rate in got[kind]] for kind in got}
    best = {kind: max((m[1] for m in medians[kind] if m[2] < 0.01), default=0) for kind in got}
    # Four times the load that was still well.
    index = next(i for i, rate in enumerate(RATES) if rate >= min(RATES[-1], 4 * best["vxlan"]))
    flooded = medians["ours"][index][1]
    ratio = best["ours"] / best["vxlan"] if best["vxlan"] else 0
    yield Result(
        "udp: 64-byte datagrams a second, < 1 % lost",
        "%.0f k" % (best["ours"] / 1e3), ">= 1.5 x vxlan", ratio >= 1.5,
        "vxlan %.0f k (%.1f x), reference %.0f k" % (
            best["vxlan"] / 1e3, ratio, best["reference"] / 1e3),
        {"unit": "1/s", "rates": RATES, "medians": medians})
    yield Result(
        "udp: the same, %.0f k offered" % (RATES[index] / 1e3),
        "%.0f k received" % (flooded / 1e3), "no collapse", flooded >= 0.9 * best["ours"],
        "reference %.0f k" % (medians["reference"][index][1] / 1e3),
        {"unit": "1/s", "received": flooded})


# -- latency ---------------------------------------------------------------------------


def ping_us(wire, n):
    out = world.run("ip", "netns", "exec", wire.pods[0].name, "ping", "-q", "-c", str(n), "-i",
                    "0.002", wire.pod(1))
    return float(re.search(r"= [\d.]+/([\d.]+)/", out).group(1)) * 1e3


def ping(bench):
    n = bench.rounds(1000, 300)
    rounds = bench.rounds(5, 3)
    cases = {"ours": ("ours", {}), "busy": ("ours", {"BusyPoll": 5000}),
             "reference": ("reference", {}), "vxlan": ("vxlan", {})}
    got = {}
    wire = Wire(bench, "nic")
    for name, (kind, more) in cases.items():
        with wire.tunnel(kind, **more):
            got[name] = statistics.median(ping_us(wire, n) for _ in range(rounds))
    wire.delete()
    beside = "reference %.0f us, vxlan %.0f us" % (got["reference"], got["vxlan"])
    yield Result("udp: idle ping", "%.0f us" % got["ours"], "<= reference",
                 got["ours"] <= got["reference"] * 1.05, beside, {"unit": "us", **got})
    yield Result("udp: idle ping with BusyPoll", "%.0f us" % got["busy"], "< 20 us",
                 got["busy"] < 20, beside, {"unit": "us", **got})


# -- many peers ------------------------------------------------------------------------


def peers(bench):
    rounds, seconds = bench.rounds(5, 3), bench.rounds(3, 1)
    few, many = [], []
    wire = Wire(bench, "nic")
    for _ in range(rounds):
        for n, into in ((0, few), (4998, many)):
            with wire.tunnel("ours", peers=n):
                into.append(iperf(wire, 1, seconds)[0])
    wire.delete()
    ratio = statistics.median(many) / statistics.median(few)
    yield Result("udp: TCP with 5,000 peers", "%.2f x (%.2f Gbit/s)"
                 % (ratio, statistics.median(many)), ">= 0.97 x", ratio >= 0.97,
                 "2 peers: %.2f Gbit/s" % statistics.median(few),
                 {"unit": "Gbit/s", "few": few, "many": many})


def with_tools(figure):
    def checked(bench):
        missing = [tool for tool in ("iperf3", "ethtool", "ping") if not shutil.which(tool)]
        if missing:
            yield Result("udp", "skipped", "", None, "%s missing" % ", ".join(missing),
                         {"skipped": True})
            return
        yield from figure(bench)
    return checked


FIGURES = {
    "udp-tcp": (with_tools(tcp), "backend udp: TCP beside vxlan and one packet per call"),
    "udp-small": (with_tools(small), "backend udp: 64-byte datagrams"),
    "udp-ping": (with_tools(ping), "backend udp: round trip while idle, with and without BusyPoll"),
    "udp-peers": (with_tools(peers), "backend udp: 5,000 peers instead of 2"),
}
