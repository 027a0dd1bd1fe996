#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""demo.py - Weft at work, made to be read: hosts, pods, traffic, damage, repair"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lib import netns, node, traffic  # noqa: E402
from lib.expect import Timeout, wait_equal  # noqa: E402
from lib.topo import Topo  # noqa: E402
from lib.watch import Watch  # noqa: E402

COPY_MIB = 64
NETWORK4, NETWORK6 = "10.5.0.0/16", "fc00:5::/48"
LABEL = 30  # width of the first column
SHOWN_HOSTS = 3  # in full; of the others one line each
SHOWN_ROUTES = 6


class Screen:
    """One line per step; colours only on a terminal."""

    def __init__(self):
        colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
        self._codes = {"ok": "32", "bad": "31", "bold": "1", "dim": "2"} if colour else {}
        self.failed = 0

    def paint(self, text, style):
        code = self._codes.get(style)
        return f"\033[{code}m{text}\033[0m" if code else text

    def title(self, text, more=""):
        print(f"\n{self.paint(text, 'bold')}{self.paint(more, 'dim')}", flush=True)

    def line(self, text=""):
        print(f"  {text}".rstrip(), flush=True)

    def note(self, text):
        self.line(self.paint(text, "dim"))

    def step(self, label, text, good=True):
        word = self.paint("ok  ", "ok") if good else self.paint("FAIL", "bad")
        self.failed += not good
        print(f"  {word} {label:<{LABEL}} {text}", flush=True)


def options(argv):
    parser = argparse.ArgumentParser(
        prog=os.environ.get("DEMO_PROG"),
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
    args.prog = parser.prog if "/" in parser.prog else os.path.relpath(sys.argv[0])
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

def box_of(host):
    """The lines of a host's box, from its pod down to its NIC; None: a wire."""
    env = host.read_subnet_env()
    gateways = [env[k] for k in ("FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET") if k in env]
    devices = host.overlay()["devices"]
    text = [f"pod {host.pods[0].name}"] + host.pods[0].addresses + [None]
    text += [f"cni0 {g}" for g in gateways] + [None]
    text += list(devices) + [None] if devices else []
    text += [f"eth0 {a}" for a in host.addresses]
    return text


def framed(name, text, width):
    """A box around lines; the wire leaves it in the middle and goes down to the L2."""
    head = f" host {name} "
    return (
        [f"+{head:-^{width + 2}}+"]
        + [f"| {t or '|':^{width}} |" for t in text]
        + [f"+{'+':-^{width + 2}}+", f" {'|':^{width + 2}} ", f"-{'+':-^{width + 2}}-"]
    )


def draw(screen, topo, groups, args):
    """Each host as a box on its L2."""
    texts = {h.name: box_of(h) for h in topo} if len(topo.hosts) <= 6 else {}
    inner = max((len(line or "") for text in texts.values() for line in text), default=0)
    room = shutil.get_terminal_size((80, 24)).columns - 2
    for name, members in groups:
        if not texts:
            screen.line(f"{name}: {members[0]} to {members[-1]}")
            continue
        per_row = max(1, (room + 1) // (inner + 5))
        for start in range(0, len(members), per_row):
            boxes = [framed(m, texts[m], inner) for m in members[start : start + per_row]]
            for lines in zip(*boxes):
                screen.line(("-" if lines[0][0] == "-" else " ").join(lines))
            screen.line(f"{name}{', continued' if start else ''}")
        screen.line()
    if len(groups) > 1:
        screen.line(f"{' and '.join(n for n, _ in groups)} are joined by a router.")
    screen.line({
        "vxlan": "From host to host the packets of pods travel in VXLAN: UDP 8472, VNI 1.",
        "host-gw": "From host to host the packets of pods travel as they are, by plain routes.",
        "vxlan-direct": "By plain routes inside an L2, in VXLAN (UDP 8472) between the two.",
    }[args.backend])


# -- the hosts -------------------------------------------------------------------------

def show_hosts(screen, topo):
    for host in topo.hosts[:SHOWN_HOSTS]:
        show_host(screen, topo, host)
    if len(topo.hosts) > SHOWN_HOSTS:
        screen.title("The others likewise")
        for host in topo.hosts[SHOWN_HOSTS:]:
            screen.line(f"{host.name:<4} {topo.store.lease_of(host.address)[0]}, "
                        f"{len(host.pod_routes())} routes")


def show_host(screen, topo, host):
    screen.title(f"Host {host.name}")
    key, record = topo.store.lease_of(host.address)
    show_rows(screen, "lease", [key, "until " + record["Expiration"].replace("T", " ")]
              + [f"{k} {mac}" for k, mac in vteps(record)])
    show_rows(screen, "subnet.env", [f"{k}={v}" for k, v in host.read_subnet_env().items()])
    routes = [f"{dst} {how}" for dst, how in host.pod_routes().items()]
    if len(routes) > SHOWN_ROUTES:
        routes[SHOWN_ROUTES:] = [f"and {len(routes) - SHOWN_ROUTES} more"]
    show_rows(screen, "routes", routes)


def vteps(record):
    for name, member in (("VTEP", "BackendData"), ("VTEP (IPv6)", "BackendV6Data")):
        data = record.get(member)
        if data and "VtepMAC" in data:
            yield name, data["VtepMAC"]


def show_rows(screen, label, rows):
    for i, row in enumerate(rows):
        screen.line(f"{'' if i else label:<12}{row}")


# -- traffic ---------------------------------------------------------------------------

def show_traffic(screen, pods):
    for src in pods:
        others = [p for p in pods if p is not src]
        for own in src.addresses:
            if len(pods) <= SHOWN_HOSTS:
                for dst in others:
                    show_pings(screen, src, own, [dst], f"ping {src.name} -> {dst.name}")
            else:
                show_pings(screen, src, own, others, f"ping {src.name} -> {len(others)} others")
    src, dst = pods[0], pods[-1]
    copy = traffic.tcp_copy(src, dst, COPY_MIB << 20)
    screen.step(
        f"TCP {src.name} -> {dst.name}",
        f"{COPY_MIB} MiB in {copy.seconds * 1000:.0f} ms "
        f"({copy.size * 8 / copy.seconds / 1e9:.1f} Gbit/s), SHA-256 "
        f"{'equal' if copy.intact else 'DIFFERS'}",
        copy.intact and copy.seen_from == src.addresses[0],
    )


def show_pings(screen, src, own, others, label):
    """Pings each of others, and has each say whom it sees."""
    times, wrong = [], []
    for dst in others:
        address = next(a for a in dst.addresses if (":" in a) == (":" in own))
        took = traffic.ping(src, address)
        seen = traffic.seen_source(src, dst, own, address)
        if took is None:
            wrong.append(f"{dst.name} ({address}) does not answer")
        elif seen != own:
            wrong.append(f"{dst.name} sees {seen}, not {own}")
        times.append(took or 0)
    spread = f"{min(times):.2f}" + (f" to {max(times):.2f}" if len(times) > 1 else "")
    screen.step(label, "; ".join(wrong) or f"{spread} ms, seen as {own}", not wrong)


def traffic_text(report):
    if report is None:
        return "did not come back"
    if not report.lost:
        return f"all {report.sent} datagrams arrived"
    return (f"{report.lost} of {report.sent} datagrams lost, "
            f"longest gap {report.longest_gap_ms:.0f} ms")


# -- damage ----------------------------------------------------------------------------

def damage(host, args):
    """What is going to be broken: (what to say, ip commands, device or None)."""
    if args.backend == "host-gw":
        return "all its pod routes deleted", [f"route del {d}" for d in host.pod_routes()], None
    device = "flannel.1" if args.v4 else "flannel-v6.1"
    return f"{device} deleted", [f"link del {device}"], device


def break_and_watch(screen, topo, pods, args):
    host = topo.hosts[0]
    before, mark = host.overlay(), host.log_position()
    what, lines, device = damage(host, args)
    restored = False
    stream = traffic.Stream.all_to_all(pods[:2] + pods[-1:] if len(pods) > 2 else pods)
    try:
        stream.start()
        index = device and host.ifindex(device)
        with Watch(host.ns) as watch:
            host.ip(*lines)
            watch.wait_quiet()
            wait_equal(host.overlay, before, timeout=5, what="restored")
            restored = not device or host.ifindex(device) != index
        stream.wait_flowing()
    except Timeout as e:
        screen.note(str(e))
    report = stream.stop()
    took = watch.repair_ms(device)
    good = restored and took is not None
    gone = "it was gone" if device else "the first was gone"
    text = f"all back {milliseconds(took)} after {gone}" if good else "not restored within 5 s"
    if good and device:
        text += f", {milliseconds(watch.outage_ms())} after it began to go"
    screen.step(what, text, good)
    screen.step("traffic meanwhile", traffic_text(report), restored)
    said = re.findall(r"^W.*?\] (Repaired .*)$", host.log_text(mark), re.M)
    for line in said[-1:]:
        screen.note(f"     flanneld logs: {line}")


def milliseconds(value):
    return f"{value:.1f} ms" if value >= 1 else f"{value:.2f} ms"


def kill_and_restart(screen, topo, pods):
    host = topo.hosts[0]
    before, key = host.overlay(), host.key()
    with traffic.Stream.all_to_all(pods[:3]) as stream:
        host.kill_flanneld()
        same = host.overlay() == before
        screen.step("flanneld killed (SIGKILL)",
                    "devices and routes stay" if same else "the overlay changed", same)
        stream.wait_flowing()
        start = time.monotonic()
        host.start_flanneld()
        took = (time.monotonic() - start) * 1000
        stream.wait_flowing()
    same = host.overlay() == before and host.key() == key
    screen.step("started again", f"ready after {took:.0f} ms; " + (
        "same subnet, same entries" if same else "the overlay is not what it was"), same)
    screen.step("traffic meanwhile", traffic_text(stream.report), not stream.report.lost)


def finish(screen, topo, pods):
    took = max(host.stop_flanneld() for host in topo)
    screen.step("SIGTERM to every flanneld", f"exit 0, each within {took * 1000:.0f} ms")
    own = pods[0].addresses[0]
    show_pings(screen, pods[0], own, pods[-1:],
               f"ping {pods[0].name} -> {pods[-1].name}, no daemon")


# -- all of it -------------------------------------------------------------------------

def run(screen, lab, args):
    names = [f"h{i}" for i in range(1, args.nodes + 1)]
    split = (args.nodes + 1) // 2
    l2s = [names[:split], names[split:]] if args.backend == "vxlan-direct" else [names]
    topo = None
    try:
        topo = Topo(lab, l2s, ipv4=args.v4, ipv6=args.v6)
        topo.start(config_of(args))
        steps(screen, lab, topo, [(f"L2 {i}", l) for i, l in enumerate(l2s, 1)], args)
    except BrokenPipeError:
        raise
    except (AssertionError, RuntimeError, OSError) as e:
        first, *rest = str(e).splitlines() or [type(e).__name__]
        screen.title("It does not go on")
        screen.step("the next step", first, False)
        for line in rest[:20]:
            screen.line(line)
    if screen.failed and topo:
        show_logs(screen, topo)


def steps(screen, lab, topo, groups, args):
    pods = topo.pods()
    screen.title(f"{args.nodes} hosts", ", each with its flanneld; the datastore is a directory")
    screen.line()
    draw(screen, topo, groups, args)
    show_hosts(screen, topo)
    screen.title("From pod to pod, across hosts", ", seen there under its own address")
    show_traffic(screen, pods)
    screen.title(f"Host {topo.hosts[0].name} is damaged",
                 ", with traffic running: a datagram every 2 ms from each pod to each")
    break_and_watch(screen, topo, pods, args)
    screen.title(f"The flanneld of {topo.hosts[0].name} dies", ", with traffic running")
    kill_and_restart(screen, topo, pods)
    if args.keep:
        keep(screen, lab, topo, args)
    else:
        screen.title("The end")
        finish(screen, topo, pods)


def show_logs(screen, topo):
    for host in topo:
        lines = host.log_text().splitlines()
        if not lines:
            continue
        screen.title(f"flanneld on {host.name}", ", its last lines and all its warnings")
        for i, line in enumerate(lines):
            if i >= len(lines) - 8 or re.match(r"[EW]\d{4} ", line):
                screen.line(line)


def fetch_command():
    url = f"http://127.0.0.1:{node.HEALTH_PORT}/readyz"
    for program, command in (("curl", f"curl -s {url}"), ("wget", f"wget -qO- {url}")):
        if shutil.which(program):
            return command
    return f"python3 -c 'import urllib.request as u; print(u.urlopen(\"{url}\").read().decode())'"


def keep(screen, lab, topo, args):
    """Leaves it running, for who may come back to it: the root of this machine. What a user
    namespace holds can be entered from inside only, so there a shell is started in it."""
    one = topo.hosts[0]
    inside = netns.in_user_namespace()
    screen.title("Everything runs on." + (" In this shell you can" if inside else " You can now"))
    for command, why in (
        (f"ip netns exec {one.ns.name} bash", f"be on host {one.name}"),
        (f"ip netns exec {one.pods[0].ns.name} bash", "be in its pod"),
        (f"ip -n {one.ns.name} route", "see its routes"),
        (f"ip netns exec {one.ns.name} {fetch_command()}", "ask whether it is ready"),
        (f"ls {topo.store.path}/subnets; cat {topo.store.path}/config", "see the datastore"),
        (f"tail -f {one.log_path}", "read its log"),
        ("exit" if inside else f"{args.prog} --clean {os.getpid()}", "stop and remove all of it"),
    ):
        screen.line(screen.paint(f"# {why}", "dim"))
        screen.line(command)
    if inside:
        subprocess.run([os.environ.get("SHELL", "/bin/sh")], check=False)
    else:
        lab.keep = True
        with open(os.path.join(lab.dir, "keep"), "w", encoding="ascii"):
            pass


def clean(pid):
    if not os.path.exists(f"/tmp/weft-{pid}/keep"):
        print(f"demo: nothing was kept by {pid}; there is: {', '.join(kept()) or 'nothing'}",
              file=sys.stderr)
        return 1
    netns.remove_run(pid)
    print(f"removed what {pid} had left running")
    return 0


def kept():
    return sorted(n[5:] for n in os.listdir("/tmp")
                  if re.fullmatch(r"weft-\d+", n) and os.path.exists(f"/tmp/{n}/keep"))


def refusal(args):
    """Why the demo cannot run here, or None."""
    if not os.access(node.FLANNELD, os.X_OK):
        return f"no program at {node.FLANNELD}: build it with ./dev build, or set FLANNELD"
    for program in ("ip", "bridge"):
        if not shutil.which(program):
            return f"no {program} in the path: install iproute2"
    if args.keep and netns.in_user_namespace() and not sys.stdin.isatty():
        return "--keep as a user opens a shell, which needs a terminal"
    return None


def main(argv):
    args = options(argv)
    netns.require_privilege()
    if args.clean:
        return clean(args.clean)
    why = refusal(args)
    if why:
        print(f"demo: {why}", file=sys.stderr)
        return 1
    screen, start, interrupted = Screen(), time.monotonic(), False
    lab = netns.Lab()
    try:
        run(screen, lab, args)
    except KeyboardInterrupt:
        lab.keep, interrupted = False, True
        screen.line("interrupted")
    except BrokenPipeError:  # `demo | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        interrupted = True
    finally:
        lab.cleanup()
    took = f"{time.monotonic() - start:.1f} s"
    if not lab.keep:
        screen.note(f"everything is removed again ({took} in all)")
    if screen.failed:
        screen.line(screen.paint(f"{screen.failed} failed, see above", "bad"))
    print()
    return 130 if interrupted else 1 if screen.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
