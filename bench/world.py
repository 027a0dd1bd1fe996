# SPDX-License-Identifier: Apache-2.0
"""world - network namespaces, store directories, daemons: made here, and cleaned up"""
import contextlib
import ctypes
import datetime
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import rtnl

# The lab's servers and certificates are used here, too: `from lib import ...`.
sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "tests/lab"))

CLONE_NEWNET = 0x40000000
PREFIX = "weft-bench-%d" % os.getpid()
NETWORK = "10.0.0.0/8"
_libc = ctypes.CDLL(None, use_errno=True)


class Failure(Exception):
    """A figure that could not be taken; its text is for a person."""


def run(*args):
    done = subprocess.run(args, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failure("%s: %s" % (" ".join(args[:8]), done.stderr.strip()[:300]))
    return done.stdout


def wait_for(what, ready, timeout_s=30):
    end = time.monotonic() + timeout_s
    while True:
        answer = ready()
        if answer:
            return answer
        if time.monotonic() > end:
            raise Failure("waited %d s for %s" % (timeout_s, what))
        time.sleep(0.005)


class Namespace:
    made = []

    def __init__(self, name):
        self.name = "%s-%s" % (PREFIX, name)
        run("ip", "netns", "add", self.name)
        Namespace.made.append(self)
        self.ip("link", "set", "lo", "up")

    def ip(self, *args):
        return run("ip", "-n", self.name, *args)

    @contextlib.contextmanager
    def entered(self):
        """This thread is inside: sockets and processes that it makes belong there."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open("/run/netns/" + self.name, os.O_RDONLY)
        try:
            _setns(there)
            yield self
        finally:
            _setns(home)
            os.close(there)
            os.close(home)

    def delete(self):
        """What stands on flannel.1 goes at once, not when the kernel gets to it: the hash
        of IPv4 nexthops is one for all namespaces, and long chains slow down the others. So
        does the uplink: the switch has its other end."""
        Namespace.made.remove(self)
        for device in ("flannel.1", "eth0"):
            subprocess.run(["ip", "-n", self.name, "link", "del", device], check=False,
                           capture_output=True)
        run("ip", "netns", "del", self.name)


def _setns(fd):
    if _libc.setns(fd, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def host(name, octet=2):
    """A namespace with an uplink that has a default route; whatever is sent is lost."""
    ns = Namespace(name)
    ns.ip("link", "add", "eth0", "type", "veth", "peer", "name", "wire")
    ns.ip("link", "set", "wire", "up")
    set_uplink(ns, octet)
    return ns


def set_uplink(ns, octet):
    ns.ip("link", "set", "eth0", "up")
    ns.ip("addr", "add", "192.168.77.%d/24" % octet, "dev", "eth0")
    ns.ip("route", "add", "default", "via", "192.168.77.1")


class Switch:
    """A namespace with a bridge, on which hosts and etcd are; it is 192.168.77.1 there."""

    def __init__(self, name="switch"):
        self.ns = Namespace(name)
        self.ns.ip("link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        self.ns.ip("addr", "add", "192.168.77.1/24", "dev", "br0")
        self.ns.ip("link", "set", "br0", "up")

    def plug(self, ns, octet):
        port = "p%d" % octet
        self.ns.ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", ns.name)
        self.ns.ip("link", "set", port, "master", "br0", "up")
        set_uplink(ns, octet)

    def host(self, octet):
        ns = Namespace("host%d" % octet)
        self.plug(ns, octet)
        return ns


def add_pod(host, pod):
    """A namespace behind @host, which forwards for it."""
    with host.entered():
        pathlib.Path("/proc/sys/net/ipv4/ip_forward").write_text("1", encoding="ascii")
    run("ip", "link", "add", "pod", "netns", host.name, "type", "veth", "peer", "name",
              "eth0", "netns", pod.name)
    host.ip("link", "set", "pod", "up")
    host.ip("addr", "add", "169.254.1.1/32", "dev", "pod")
    pod.ip("link", "set", "eth0", "mtu", "1450", "up")
    pod.ip("route", "add", "169.254.1.1", "dev", "eth0")
    pod.ip("route", "add", "default", "via", "169.254.1.1", "dev", "eth0")


def address_pod(host, pod, address):
    pod.ip("addr", "add", address + "/32", "dev", "eth0")
    host.ip("route", "add", address + "/32", "dev", "pod")


def await_peers(hosts, n=1):
    """Each has the routes of so many others."""
    def all_routed():
        return all(h.ip("route", "show", "root", "10.0.0.0/8").count("flannel.1") >= n
                   for h in hosts)

    wait_for("the hosts to see each other", all_routed)


class Scratch:
    """Directories on a tmpfs of their own: no disk is measured."""

    def __init__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix=PREFIX + "-", dir="/tmp"))
        self.n = 0
        run("mount", "-t", "tmpfs", "-o", "size=2g,nr_inodes=0", "weft-bench", str(self.path))

    def new(self, name):
        self.n += 1
        path = self.path / ("%03d-%s" % (self.n, name))
        path.mkdir()
        return path

    def close(self):
        subprocess.run(["umount", "-l", str(self.path)], check=False)
        shutil.rmtree(self.path, ignore_errors=True)


class Peer:
    """The peer number @i, from 0: subnets from 10.1.0.0/24 on."""

    def __init__(self, i):
        j = i + 256
        self.base = "10.%d.%d.0" % (j >> 8, j & 255)
        self.public_ip = "100.%d.%d.%d" % (64 + (j >> 16), j >> 8 & 255, j & 255)
        self.mac = "0e:be:%02x:%02x:%02x:%02x" % (j >> 24, j >> 16 & 255, j >> 8 & 255, j & 255)
        self.key = self.base + "-24"

    def value(self):
        """The record as etcd has it; a file says beside that when it ends."""
        return (
            '{"PublicIP":"%s","PublicIPv6":null,"BackendType":"vxlan",'
            '"BackendData":{"VNI":1,"VtepMAC":"%s"}}' % (self.public_ip, self.mac)
        )

    def record(self):
        expiry = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=24)
        return self.value()[:-1] + ',"Expiration":"%s"}' % expiry.strftime("%Y-%m-%dT%H:%M:%SZ")

    def entries(self):
        return [
            ("fdb", self.mac, self.public_ip),
            ("neigh", self.base, self.mac),
            ("route", self.base, 24, self.base),
        ]


def network_config(network=NETWORK, subnet_min="10.240.0.0", nftables=False):
    return (
        '{"Network":"%s","SubnetLen":24,"SubnetMin":"%s","EnableNFTables":%s,'
        '"Backend":{"Type":"vxlan"}}'
        % (network, subnet_min, "true" if nftables else "false")
    )


def fill_store(path, n_peers, network=NETWORK, nftables=False):
    """A store directory with the records of so many peers; our own will come beside them,
    outside of where theirs are."""
    subnets = path / "subnets"
    subnets.mkdir(parents=True)
    for i in range(n_peers):
        peer = Peer(i)
        (subnets / peer.key).write_text(peer.record())
    (path / "config").write_text(network_config(network, nftables=nftables))
    return path


def gated(*args):
    """The command that executes @args when its standard input ends."""
    return ["sh", "-c", 'read -r _; exec "$@" </dev/null', "sh", *args]


class Daemon:
    """A flanneld in a namespace. Ready when the constructor returns; with @gate, the end of a
    pipe, it is executed when the other end closes, and await_ready() is the caller's."""

    running = []

    def __init__(self, binary, ns, store, scratch, *flags, timeout_s=120, gate=None,
                 env=None):
        self.ns = ns
        self.dir = scratch.new("daemon")
        self.memory_peak_kb = 0
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(self.dir / "notify"))
        self.log = self.dir / "log"
        self.subnet_file = self.dir / "subnet.env"
        # A directory, or an etcd.
        where = store.flags() if hasattr(store, "flags") else ["--subnet-dir=%s" % store]
        args = [binary, *where, "--subnet-file=%s" % self.subnet_file,
                "--state-dir=%s" % (self.dir / "state"), "--healthz-port=0", *flags]
        if gate is not None:
            args = gated(*args)
        env = dict(os.environ, **(env or {}), NOTIFY_SOCKET=str(self.dir / "notify"))
        with open(self.log, "wb") as log, ns.entered():
            begin = time.monotonic_ns()
            # pylint: disable=consider-using-with
            self.process = subprocess.Popen(
                args, stdin=subprocess.DEVNULL if gate is None else gate, stdout=log, stderr=log,
                env=env, close_fds=gate is not None)
        Daemon.running.append(self)
        self.pid = self.process.pid
        if gate is None:
            self.ready_ns = self.await_ready(timeout_s) - begin

    def await_ready(self, timeout_s):
        """The time at which it said so."""
        end = time.monotonic() + timeout_s
        why = "was not ready in time"
        while time.monotonic() < end:
            self.notify.settimeout(1)
            try:
                if b"READY=1" in self.notify.recv(4096):
                    now = time.monotonic_ns()
                    self.notify.close()
                    return now
            except TimeoutError:
                if self.process.poll() is not None:
                    why = "ended"
                    break
        self.stop()
        raise Failure("flanneld %s: %s" % (why, self.last_words()))

    def last_words(self):
        lines = self.log.read_text(errors="replace").splitlines()
        return " | ".join(lines[-3:])

    def own_lease(self):
        for line in self.subnet_file.read_text().splitlines():
            if line.startswith("FLANNEL_SUBNET="):
                return line.split("=")[1].rsplit(".", 1)[0] + ".0"
        raise Failure("no lease in " + str(self.subnet_file))

    def own_key(self):
        return self.own_lease() + "-24"

    def pod_address(self):
        return self.own_lease().rsplit(".", 1)[0] + ".2"

    def memory_kb(self):
        """Rss, Pss, Private_Dirty, and the peak."""
        found = {}
        for name in ("smaps_rollup", "status"):
            for line in open("/proc/%d/%s" % (self.pid, name), encoding="utf-8"):
                key, _, value = line.partition(":")
                if key in ("Rss", "Pss", "Private_Dirty", "VmHWM"):
                    found[key] = int(value.split()[0])
        return found

    def activity(self):
        """(times that it went to sleep or was pushed aside, CPU time in ns)"""
        switches = cpu_ns = 0
        for task in os.listdir("/proc/%d/task" % self.pid):
            base = "/proc/%d/task/%s/" % (self.pid, task)
            for line in open(base + "status", encoding="utf-8"):
                if "ctxt_switches" in line:
                    switches += int(line.split()[1])
            cpu_ns += int(open(base + "schedstat", encoding="utf-8").read().split()[0])
        return switches, cpu_ns

    def waited_s(self):
        """How long it could have run and had no CPU: others are at work on the machine."""
        with open("/proc/%d/schedstat" % self.pid, encoding="ascii") as f:
            return int(f.read().split()[1]) / 1e9

    def stop(self, sig=signal.SIGTERM):
        if self not in Daemon.running:
            return
        Daemon.running.remove(self)
        with contextlib.suppress(OSError):
            self.memory_peak_kb = self.memory_kb().get("VmHWM", 0)
        self.process.send_signal(sig)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def check_complete(ns, peers):
    """Everything that the peers need is in the kernel; says what is not."""
    with ns.entered():
        requests = rtnl.Requests()
    link = requests.link("flannel.1")
    have = requests.entries(link[0]) if link else set()
    requests.close()
    want = {entry for peer in peers for entry in peer.entries()}
    missing = want - have
    if missing:
        raise Failure("%d of %d entries are missing, such as %s"
                      % (len(missing), len(want), " ".join(map(str, missing.pop()))))
    if not any(entry[0] == "addr" for entry in have):
        raise Failure("flannel.1 has no address")


def clear():
    """Ends and removes all daemons and namespaces, and what runs in these."""
    for daemon in list(Daemon.running):
        daemon.stop(signal.SIGKILL)
    for ns in list(Namespace.made):
        for pid in subprocess.run(["ip", "netns", "pids", ns.name], capture_output=True,
                                  text=True, check=False).stdout.split():
            with contextlib.suppress(OSError):
                os.kill(int(pid), signal.SIGKILL)
        with contextlib.suppress(Failure):
            ns.delete()


def cleanup(scratch):
    clear()
    scratch.close()
