#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""demo.py - Weft at work, made to be read: hosts, pods, traffic, damage, repair"""

import argparse
import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lib import netns, node, traffic  # noqa: E402
from lib.expect import Timeout, wait_equal, wait_until  # noqa: E402
from lib.topo import Topo  # noqa: E402
from lib.watch import Watch  # noqa: E402

COPY_MIB = 20
NETWORK4, NETWORK6 = "10.5.0.0/16", "fc00:5::/48"
LABEL = 34  # width of the first column


class Screen:
    """One line per step; colours only on a terminal."""

    def __init__(self):
        colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._codes = {"ok": "32", "bad": "31", "bold": "1", "dim": "2"} if colour else {}
        self.failed = 0

    def paint(self, text, style):
        code = self._codes.get(style)
        return f"\033[{code}m{text}\033[0m" if code else text

    def title(self, text):
        print(f"\n{self.paint(text, 'bold')}", flush=True)

    def line(self, text=""):
        print(f"  {text}", flush=True)

    def note(self, text):
        self.line(self.paint(text, "dim"))

    def step(self, label, text, good=True):
        word = self.paint("ok  ", "ok") if good else self.paint("FAIL", "bad")
        self.failed += not good
        print(f"  {word} {label:<{LABEL}} {text}", flush=True)


def options(argv):
    parser = argparse.ArgumentParser(
        description="Starts hosts and pods as network namespaces, each host with its own "
        "flanneld over a directory; shows what they do, breaks it, and shows the repair."
    )
    parser.add_argument("--nodes", type=int, default=3, metavar="N", help="hosts, 2 to 20 (3)")
    parser.add_argument("--backend", choices=("vxlan", "host-gw", "vxlan-direct"), default="vxlan",
                        help="vxlan-direct: plain routes inside an L2, vxlan between two (vxlan)")
    family = parser.add_mutually_exclusive_group()
    family.add_argument("--ipv6", action="store_true", help="IPv6 only")
    family.add_argument("--dual-stack", action="store_true", help="IPv4 and IPv6")
    parser.add_argument("--keep", action="store_true", help="leave everything running")
    parser.add_argument("--clean", type=int, metavar="PID", help="remove what --keep left")
    args = parser.parse_args(argv)
    if not 2 <= args.nodes <= 20:
        parser.error(f"--nodes {args.nodes}: 2 to 20")
    args.v4, args.v6 = not args.ipv6, args.ipv6 or args.dual_stack
    args.prog = os.path.relpath(sys.argv[0])
    return args


def config_of(args):
    backend = {"Type": "host-gw"} if args.backend == "host-gw" else {"Type": "vxlan"}
    if args.backend == "vxlan-direct":
        backend["DirectRouting"] = True
    config = {"Backend": backend}
    if args.v4:
        config["Network"] = NETWORK4
    else:
        config["EnableIPv4"] = False
    if args.v6:
        config.update(EnableIPv6=True, IPv6Network=NETWORK6)
    return config


# -- the drawing -----------------------------------------------------------------------

def draw(screen, topo, groups, args):
    """Each host as a box on its L2, its first pod above it."""
    carried = {"vxlan": "VXLAN between the hosts, UDP 8472, VNI 1",
               "host-gw": "plain routes from host to host, no encapsulation",
               "vxlan-direct": "plain routes inside an L2, VXLAN between the two"}[args.backend]
    hosts = list(topo)
    boxes = [
        [f"pod {h.pods[0].ns.short}"] + h.pods[0].addresses + ["|"]
        + [f"host {h.name}"] + [str(s) for s in h.subnets()] + h.addresses
        for h in hosts
    ]
    width = max(len(line) for box in boxes for line in box) + 3
    per_row = max(1, 96 // width)
    for name, members in groups:
        for start in range(0, len(members), per_row):
            row = [boxes[hosts.index(topo[m])] for m in members[start : start + per_row]]
            for lines in zip(*row):
                screen.line("".join(f"{line:^{width}}" for line in lines).rstrip())
            screen.line("".join(f"{'|':^{width}}" for _ in row).rstrip())
            wire = "".join(f"{'+':-^{width}}" for _ in row)
            screen.line(f"{wire} {name}")
        screen.line()
    if len(groups) > 1:
        screen.line(f"router r joins {' and '.join(n for n, _ in groups)}")
    screen.line(carried)


# -- the steps -------------------------------------------------------------------------

def show_hosts(screen, topo):
    for host in topo:
        key, record = topo.store.lease_of(host.address)
        screen.title(f"Host {host.name}")
        data = record.get("BackendData") or record.get("BackendV6Data")
        mac = f"  VTEP {data['VtepMAC']}" if data and "VtepMAC" in data else ""
        screen.line(f"{'lease':<12}{key}  {record['BackendType']}{mac}  "
                    f"until {record['Expiration']}")
        env = host.read_subnet_env()
        for i, (name, value) in enumerate(env.items()):
            screen.line(f"{'subnet.env' if i == 0 else '':<12}{name}={value}")
        for i, (dst, how) in enumerate(host.pod_routes().items()):
            screen.line(f"{'routes' if i == 0 else '':<12}{dst} {how}")


def show_traffic(screen, pods):
    for src in pods:
        for dst in pods:
            if src is not dst:
                ping_pair(screen, src, dst)
    src, dst = pods[0], pods[-1]
    copy = traffic.tcp_copy(src, dst, COPY_MIB << 20)
    speed = copy.size * 8 / copy.seconds / 1e9
    good = copy.intact and copy.seen_from == src.addresses[0]
    screen.step(
        f"copy {src.name} -> {dst.name}",
        f"{COPY_MIB} MiB of TCP in {copy.seconds * 1000:.0f} ms ({speed:.1f} Gbit/s), SHA-256 "
        f"{'equal' if copy.intact else 'DIFFERS'}, seen from {copy.seen_from}", good,
    )


def ping_pair(screen, src, dst):
    for a, b in [(a, b) for a in src.addresses for b in dst.addresses
                 if (":" in a) == (":" in b)]:
        took = traffic.ping(src, b)
        seen = traffic.seen_source(src, dst, a, b)
        text = "no answer" if took is None else f"{took:6.2f} ms"
        screen.step(f"ping {src.name} -> {dst.name}",
                    f"{text}   {b} sees the pod's own address {seen}" if seen == a
                    else f"{text}   {b} sees {seen}, not {a}", took is not None and seen == a)


def damage(host, args):
    """What is going to be broken: (what to say, ip commands, device or None)."""
    if args.backend == "host-gw":
        return "all pod routes flushed", flush_lines(host), None
    device = "flannel.1" if args.v4 else "flannel-v6.1"
    return f"device {device} deleted", [f"link del {device}"], device


def flush_lines(host):
    return [f"route del {dst}" for dst in host.pod_routes()]


def break_and_watch(screen, topo, pods, args):
    host = topo.hosts[0]
    before = host.overlay()
    what, lines, device = damage(host, args)
    with traffic.Stream.all_to_all(pods[:2] + pods[-1:] if len(pods) > 2 else pods) as stream:
        index = device and host.ifindex(device)
        with Watch(host.ns) as watch:
            host.ip(*lines)
            try:
                wait_equal(host.overlay, before, timeout=5, what="restored")
                restored = not device or host.ifindex(device) != index
            except Timeout as e:
                restored = False
                screen.note(str(e))
            if restored:
                stream.wait_flowing()
    took = watch.repair_ms(device)
    screen.step(
        f"{host.name}: {what}",
        "not restored within 5 s" if not restored or took is None else
        f"all of it back after {took:.1f} ms (from the kernel's notice of the loss to the last "
        "entry)", restored and took is not None,
    )
    report = stream.report
    screen.step("traffic meanwhile", f"{report.lost} of {report.sent} datagrams lost, "
                f"longest gap {report.longest_gap_ms:.0f} ms" if report
                else "did not come back", report is not None)


def kill_and_restart(screen, topo, pods):
    host = topo.hosts[0]
    before, key = host.overlay(), host.key()
    with traffic.Stream.all_to_all(pods[:3]) as stream:
        host.kill_flanneld()
        screen.step(f"{host.name}: flanneld killed", "SIGKILL; devices and routes stay")
        stream.wait_flowing()
        host.start_flanneld()
        stream.wait_flowing()
    same = host.overlay() == before and host.key() == key
    screen.step(f"{host.name}: flanneld started again",
                "same subnet, same entries" if same else "the overlay is not what it was", same)
    screen.step("traffic meanwhile",
                f"{stream.report.lost} of {stream.report.sent} datagrams lost",
                stream.report.lost == 0)


def finish(screen, topo):
    topo.stop()
    screen.step("SIGTERM to every flanneld", "exit 0 within a second, data path stays up")


# -- all of it -------------------------------------------------------------------------

def run(screen, lab, args):
    names = [f"h{i}" for i in range(1, args.nodes + 1)]
    split = (args.nodes + 1) // 2
    l2s = [names[:split], names[split:]] if args.backend == "vxlan-direct" else [names]
    topo = Topo(lab, l2s, ipv4=args.v4, ipv6=args.v6)
    try:
        topo.start(config_of(args))
        pods = topo.pods()
        screen.title(f"{args.nodes} hosts, each with a flanneld; the datastore is a directory")
        screen.line()
        draw(screen, topo, [(f"L2 {i}", l) for i, l in enumerate(l2s, 1)], args)
        show_hosts(screen, topo)
        screen.title("Pod to pod, across hosts")
        show_traffic(screen, pods)
        screen.title("Something breaks, with traffic running")
        break_and_watch(screen, topo, pods, args)
        screen.title("The daemon dies, with traffic running")
        kill_and_restart(screen, topo, pods)
        if args.keep:
            keep(screen, lab, topo, args)
        else:
            screen.title("The end")
            finish(screen, topo)
    except (AssertionError, RuntimeError) as e:
        screen.step("this step failed", str(e).splitlines()[0], False)
        for line in str(e).splitlines()[1:20]:
            screen.line(line)
    if screen.failed:
        show_logs(screen, topo)


def show_logs(screen, topo):
    for host in topo:
        lines = host.log_text().splitlines()
        screen.title(f"flanneld on {host.name}, its last lines and all its warnings")
        for i, line in enumerate(lines):
            if i >= len(lines) - 8 or re.match(r"[EW]\d{4} ", line):
                screen.line(line)


def keep(screen, lab, topo, args):
    lab.keep = True
    with open(os.path.join(lab.dir, "keep"), "w", encoding="ascii"):
        pass
    one = topo.hosts[0]
    screen.title("Everything is left running. To look around:")
    for command, why in (
        (f"ip netns exec {one.ns.name} bash", f"a shell on {one.name}"),
        (f"ip netns exec {one.pods[0].ns.name} bash", f"a shell in its pod"),
        (f"ip -n {one.ns.name} route", "its routes"),
        (f"ip netns exec {one.ns.name} curl -s http://127.0.0.1:{node.HEALTH_PORT}/readyz",
         "is it ready?"),
        (f"cat {topo.store.path}/config; ls {topo.store.path}/subnets", "the datastore"),
        (f"tail -f {one.log_path}", "its log"),
        (f"{args.prog} --clean {os.getpid()}", "stops and removes all of it"),
    ):
        screen.line(f"{command:<72} {screen.paint('# ' + why, 'dim')}")


def main(argv):
    args = options(argv)
    netns.require_privilege()
    if args.clean:
        netns.remove_run(args.clean)
        return 0
    if not os.access(node.FLANNELD, os.X_OK):
        print(f"demo: no program at {node.FLANNELD}: build it, or set FLANNELD", file=sys.stderr)
        return 1
    screen = Screen()
    lab = netns.Lab()
    try:
        run(screen, lab, args)
    except KeyboardInterrupt:
        lab.keep = False
        screen.step("interrupted", "cleaning up", False)
    finally:
        lab.cleanup()
    if not args.keep:
        screen.note("cleaned up")
    print()
    return 1 if screen.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
