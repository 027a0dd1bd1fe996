# SPDX-License-Identifier: Apache-2.0
"""node.py - a host that runs flanneld, and the pods on it"""

import contextlib
import http.client
import ipaddress
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import time

from . import expect
from .expect import wait_until

HEALTH_PORT = 8285
ROUTE_PROTOCOL = "87"

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))
FLANNELD = os.path.abspath(os.environ.get("FLANNELD", os.path.join(ROOT, "build", "flanneld")))


class Pod:
    """A namespace plugged into a bridge of its host, as a CNI plugin would do it."""

    def __init__(self, host, name, ns, addresses, mtu):
        self.host, self.name, self.ns = host, f"{host.name}/{name}", ns
        self.addresses, self.mtu = addresses, mtu


class Exit:
    """How a process that was run to its end ended."""

    def __init__(self, code, text):
        self.code, self.text = code, text

    def lines(self, severity):
        return [line for line in self.text.splitlines() if line.startswith(severity)]


class Host:
    """One host. nics: {"eth0": Nic}; the first is the uplink."""

    def __init__(self, lab, name, ns, store, index):
        self.lab, self.name, self.ns, self.store, self.index = lab, name, ns, store, index
        self.nics = {}
        self.dir = os.path.join(lab.dir, ns.short)
        os.makedirs(self.dir, exist_ok=True)
        self.subnet_file = os.path.join(self.dir, "subnet.env")
        self.state_dir = os.path.join(self.dir, "state")
        self.log_path = os.path.join(self.dir, "flanneld.log")
        self.log_mark = 0  # what came before was judged by an earlier test
        self.process = None
        self.allowed = []  # (severity, pattern) of lines that the test expects
        self.crash = None
        self.pods = []
        self._notify = None
        self.states = []  # what was sent to NOTIFY_SOCKET
        lab.hosts.append(self)

    # -- the host itself ---------------------------------------------------------------

    @property
    def address(self):
        """The uplink's first address: the one peers are told when there is one family."""
        nic = next(iter(self.nics.values()))
        return nic.ipv4 or nic.ipv6

    @property
    def address6(self):
        return next(iter(self.nics.values())).ipv6

    @property
    def addresses(self):
        nic = next(iter(self.nics.values()))
        return [a for a in (nic.ipv4, nic.ipv6) if a]

    def run(self, *cmd, **kwargs):
        return self.ns.run(*cmd, **kwargs)

    def popen(self, *cmd, **kwargs):
        return self.ns.popen(*cmd, **kwargs)

    def ip(self, *lines, **kwargs):
        self.ns.ip(*lines, **kwargs)

    def ip_json(self, *args, **kwargs):
        return self.ns.ip_json(*args, **kwargs)

    def nft_json(self):
        return json.loads(self.run("nft", "-j", "list", "ruleset").stdout)["nftables"]

    # -- flanneld ----------------------------------------------------------------------

    def flanneld_argv(self, *flags, subnet_dir=True, binary=None):
        """subnet_dir=False: without the flags of the lab's datastore."""
        argv = [binary or FLANNELD]
        if subnet_dir:
            argv += self.store.flanneld_flags()
        argv += [
            f"--subnet-file={self.subnet_file}",
            "--healthz-ip=127.0.0.1",
            f"--healthz-port={HEALTH_PORT}",
        ]
        return argv + list(flags)

    def _environment(self, extra):
        env = {k: v for k, v in os.environ.items() if not k.startswith("FLANNELD_")}
        env.pop("NOTIFY_SOCKET", None)
        env["FLANNELD_STATE_DIR"] = self.state_dir
        env["ASAN_OPTIONS"] = (
            f"log_path={self.dir}/asan:detect_leaks=1:verify_asan_link_order=0:abort_on_error=0"
        )
        env["UBSAN_OPTIONS"] = f"print_stacktrace=1:halt_on_error=1:log_path={self.dir}/asan"
        env["TSAN_OPTIONS"] = f"halt_on_error=1:second_deadlock_stack=1:log_path={self.dir}/asan"
        env.update(self.store.environment(self))
        env.update(extra or {})
        return env

    def start_flanneld(self, *flags, wait=True, env=None, wrap=(), timeout=10.0,
                       notify_queue_full=False, subnet_dir=True):
        """Starts flanneld; wait: until it says READY=1. wrap goes before the program.
        notify_queue_full: the first of its words to systemd find no room."""
        assert self.process is None, f"{self.name}: flanneld already runs"
        path = os.path.join(self.dir, "notify")
        if self._notify:
            self._notify.close()
            os.unlink(path)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(path)
        self._notify.setblocking(False)
        self.states = []
        if notify_queue_full:
            self._fill_notify_queue(path)
        env = self._environment(env)
        env["NOTIFY_SOCKET"] = path
        with open(self.log_path, "ab") as log:
            self.process = self.popen(
                *wrap, *self.flanneld_argv(*flags, subnet_dir=subnet_dir),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                start_new_session=True,  # no Ctrl-C of the terminal, no end with it
            )
        if wait:
            self.wait_ready(timeout)
        return self

    @staticmethod
    def _fill_notify_queue(path):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
            other.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    other.sendto(b"STATUS=another", path)

    def _read_states(self, timeout=0.0):
        pidfd = os.pidfd_open(self.process.pid)
        try:
            select.select([self._notify, pidfd], [], [], timeout)
        finally:
            os.close(pidfd)
        while True:
            try:
                self.states += self._notify.recv(65536).decode().splitlines()
            except BlockingIOError:
                return self.states

    def wait_ready(self, timeout=10.0):
        deadline = time.monotonic() + timeout * expect.TIME_FACTOR
        while "READY=1" not in self._read_states(max(0, deadline - time.monotonic())):
            code = self.process.poll()
            assert code is None, f"{self.name}: flanneld ended with {code}:\n{self.log_text()}"
            assert time.monotonic() < deadline, (
                f"{self.name}: no READY=1 within {timeout} s; told: {self.states}; "
                f"readyz: {self.get_or_none('/readyz')}\n{self.log_text()}"
            )

    def run_flanneld(self, *flags, timeout=5.0, env=None, wrap=(), subnet_dir=True):
        """Runs flanneld to its end, apart from the host's own one: for refusals."""
        process = self.popen(
            *wrap, *self.flanneld_argv(*flags, subnet_dir=subnet_dir),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, env=self._environment(env),
        )
        try:
            text, _ = process.communicate(timeout=timeout * expect.TIME_FACTOR)
        except subprocess.TimeoutExpired:
            process.kill()
            text, _ = process.communicate()
            raise AssertionError(f"flanneld still ran after {timeout} s:\n{text}") from None
        return Exit(process.returncode, text)

    def stop_flanneld(self):
        """SIGTERM; it must exit 0 within a second. How many seconds it took."""
        process, self.process = self.process, None
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{self.name}: flanneld ignored SIGTERM") from None
        took = time.monotonic() - start
        assert code == 0, f"{self.name}: exit {code} after SIGTERM\n{self.log_text()}"
        assert took < 1.0 * expect.TIME_FACTOR, f"{self.name}: SIGTERM took {took:.2f} s"
        self._wait_port_free()
        return took

    def kill_flanneld(self):
        process, self.process = self.process, None
        process.kill()
        process.wait()
        self._wait_port_free()

    def _wait_port_free(self):
        """A child that flanneld was about to start has its sockets and locks for a moment longer:
        the next flanneld would end, since it is not alone."""

        def bind():
            with self.ns.socket(kind=socket.SOCK_STREAM) as s:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                s.bind(("127.0.0.1", HEALTH_PORT))
            return True

        wait_until(bind, what=f"{self.name}: flanneld's port is free")

    def forget_flanneld(self):
        """As if it had never run here: for tests that share a host."""
        if self.process is not None:
            self.kill_flanneld()
        devices = [link["ifname"] for link in self.ip_json("link")
                   if link["ifname"].startswith("flannel")]
        self.ip(*(f"link del {name}" for name in devices), force=True)
        for family in ("ip -4", "ip -6"):
            self.ip(f"route flush proto {ROUTE_PROTOCOL}", tool=family, force=True)
        shutil.rmtree(self.state_dir, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.subnet_file)

    def signal_flanneld(self, sig):
        self.process.send_signal(sig)

    def get(self, path, timeout=2.0):
        """(status, body) of the health server."""
        return self.ns.http_get("127.0.0.1", HEALTH_PORT, path, timeout)

    def get_or_none(self, path):
        try:
            return self.get(path)
        except (OSError, http.client.HTTPException):
            return None

    def wait_readyz(self, status, pattern=".*", timeout=5.0):
        """Waits for a status (None: any) with a matching body; returns both."""

        def check():
            got = self.get_or_none("/readyz")
            assert got and status in (None, got[0]), f"readyz: {got}"
            assert re.search(pattern, got[1], re.S | re.I), f"readyz: {got}"
            return got

        return wait_until(check, timeout, f"{self.name}: readyz {status or ''} with /{pattern}/")

    # -- its log -----------------------------------------------------------------------

    def log_text(self, start=0):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as f:
                f.seek(start)
                return f.read()
        except FileNotFoundError:
            return ""

    def log_position(self):
        try:
            return os.path.getsize(self.log_path)
        except FileNotFoundError:
            return 0

    def wait_log(self, pattern, start=None, timeout=5.0):
        """Waits for a line that matches, after position start (default: this test's part)."""
        start = self.log_mark if start is None else start

        def check():
            found = re.search(pattern, self.log_text(start), re.M)
            assert found, f"no line matches /{pattern}/ in:\n{self.log_text(start)}"
            return found

        return wait_until(check, timeout, f"{self.name}: log line")

    def allow_log(self, severities, pattern):
        """Declares that the test expects warnings ("W") or errors ("E") of this kind."""
        self.allowed.append((severities, pattern))

    def faults(self):
        """What went wrong with this host's flanneld since the last call: a list of lines."""
        found = []
        if self.process is not None and self.process.poll() is not None:
            found.append(f"{self.name}: flanneld ended with {self.process.returncode}")
            self.process = None
        for name in sorted(os.listdir(self.dir)):
            if name.startswith("asan."):
                path = os.path.join(self.dir, name)
                with open(path, encoding="utf-8", errors="replace") as f:
                    found.append(f"{self.name}: sanitizer report\n{f.read()}")
                os.unlink(path)
        for line in self.log_text(self.log_mark).splitlines():
            if "runtime error:" in line or "Sanitizer" in line:
                found.append(f"{self.name}: {line}")
            if not re.match(r"[EW]\d{4} ", line):
                continue
            if not any(line[0] in s and re.search(p, line) for s, p in self.allowed):
                found.append(f"{self.name}: undeclared: {line}")
        self.log_mark = self.log_position()
        self.allowed.clear()
        return found

    # -- its subnet, its pods ----------------------------------------------------------

    def read_subnet_env(self):
        """The subnet file as a dict, or None when it is not there."""
        try:
            with open(self.subnet_file, encoding="ascii") as f:
                return dict(line.strip().split("=", 1) for line in f if line.strip())
        except FileNotFoundError:
            return None

    def subnets(self):
        """The host's own subnets as networks, IPv4 first."""
        env = self.read_subnet_env() or {}
        return [
            ipaddress.ip_interface(env[k]).network
            for k in ("FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET")
            if k in env
        ]

    def subnet(self):
        return self.subnets()[0]

    def key(self):
        """The key of its record in the store."""
        return "&".join(f"{n.network_address}-{n.prefixlen}" for n in self.subnets())

    def pod(self, name="a"):
        """A new pod with the next free address of the host's subnet."""
        env = self.read_subnet_env()
        mtu = int(env["FLANNEL_MTU"])
        gateways = [
            ipaddress.ip_interface(env[k])
            for k in ("FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET")
            if k in env
        ]
        if not self.pods:
            self._make_bridge(gateways, mtu)
        ns = self.lab.namespace(f"{self.ns.short}-{name}")
        ns.sysctl("net/ipv6/conf/default/accept_dad", 0)
        port = f"p{len(self.pods)}"
        # The host's end first: the pod's own subnet must be reachable once it is up.
        self.ip(
            f"link add name {port} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {ns.name}",
            f"link set {port} master cni0 up",
        )
        lines, addresses = ["link set eth0 up"], []
        for gateway in gateways:
            address = gateway.ip + 1 + len(self.pods)
            nodad = " nodad" if address.version == 6 else ""
            lines += [
                f"addr add {address}/{gateway.network.prefixlen} dev eth0{nodad}",
                f"route add default via {gateway.ip}",
            ]
            addresses.append(str(address))
        ns.ip(*lines)
        if len(self.subnets()) > 1 or self.subnet().version == 6:
            for where, device in ((self.ns, "cni0"), (ns, "eth0")):
                wait_until(
                    lambda w=where, d=device: w.hears_solicitations(d), what=f"{ns.short}: IPv6"
                )
        pod = Pod(self, name, ns, addresses, mtu)
        self.pods.append(pod)
        return pod

    def remove_pods(self):
        # Their ends here first: a namespace goes a while after its name.
        self.ip(*(f"link del p{i}" for i in range(len(self.pods))), "link del cni0")
        for pod in self.pods:
            pod.ns.delete()
        self.pods.clear()

    def _make_bridge(self, gateways, mtu):
        lines = [f"link add name cni0 mtu {mtu} type bridge mcast_snooping 0", "link set cni0 up"]
        for gateway in gateways:
            nodad = " nodad" if gateway.version == 6 else ""
            lines.append(f"addr add {gateway} dev cni0{nodad}")
        with self.ns.without_dad():
            self.ip(*lines)

    # -- what the daemon made in the kernel --------------------------------------------

    def overlay(self, networks=None):
        """All kernel objects of the overlay in one comparable value: vxlan devices with
        attributes and addresses, their permanent neighbours, their FDB, and the routes into
        the pod networks. No ifindex, nothing that changes by itself."""
        devices = {}
        for link in self.ip_json("addr", "show"):
            if link.get("linkinfo", {}).get("info_kind") == "vxlan":
                devices[link["ifname"]] = self._device(link)
        return {"devices": devices, "routes": self.pod_routes(networks)}

    def _device(self, link):
        name, data = link["ifname"], link["linkinfo"]["info_data"]
        neighbours = {
            n["dst"]: n["lladdr"]
            for family in ("-4", "-6")
            for n in self.ip_json(family, "neigh", "show", "dev", name, "nud", "permanent")
        }
        fdb = sorted(
            (e["mac"], e["dst"])
            for e in self.ip_json("fdb", "show", "dev", name, tool="bridge")
            if "dst" in e
        )
        return {
            "mac": link["address"],
            "mtu": link["mtu"],
            "up": "UP" in link["flags"],
            "vni": data["id"],
            "port": data["port"],
            "local": data.get("local") or data.get("local6"),
            "lower": data.get("link"),
            "learning": data.get("learning", False),
            "gbp": data.get("gbp", False),
            "addresses": sorted(
                f"{a['local']}/{a['prefixlen']}"
                for a in link["addr_info"]
                if a["scope"] == "global"
            ),
            "neighbours": neighbours,
            "fdb": fdb,
        }

    def pod_routes(self, networks=None):
        """Routes of table main into the pod networks (default: those of subnet.env), but for
        the kernel's own to cni0, as {"10.5.1.0/24": "via 10.5.1.0 dev flannel.1 onlink"}."""
        if networks is None:
            env = self.read_subnet_env() or {}
            networks = [
                env[k] for k in ("FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK") if k in env
            ]
        networks = [ipaddress.ip_network(n) for n in networks]
        found = {}
        for family in ("-4", "-6"):
            for route in self.ip_json(family, "route", "show", "table", "main"):
                if route["dst"] == "default" or route.get("protocol") == "kernel":
                    continue
                dst = ipaddress.ip_network(route["dst"])
                if any(dst.version == n.version and dst.subnet_of(n) for n in networks):
                    found[str(dst)] = _route_text(route)
        return found

    def ifindex(self, device):
        links = self.ip_json("link", "show", "dev", device)
        return links[0]["ifindex"] if links else None


def _route_text(route):
    words = [] if route.get("type", "unicast") == "unicast" else [route["type"]]
    if "gateway" in route:
        words += ["via", route["gateway"]]
    if "dev" in route and route.get("type") != "blackhole":
        words += ["dev", route["dev"]]
    if "onlink" in route.get("flags", []):
        words.append("onlink")
    words += ["proto", str(route.get("protocol", "boot"))]
    return " ".join(words)
