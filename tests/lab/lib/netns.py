# SPDX-License-Identifier: Apache-2.0
"""netns.py - network namespaces, and the registry that makes sure they go away

Every namespace of a run is called weft-<pid>-<name> and every file of it lives in
/tmp/weft-<pid>, so that a run can tell its own things from those of others, and can
remove what a run that was killed has left behind.
"""

import atexit
import contextlib
import ctypes
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

from . import cgroup

RUN_NETNS = "/run/netns"
CLONE_NEWNET = 0x40000000
_IFA_F_TENTATIVE = 0x40
_libc = ctypes.CDLL(None, use_errno=True)


def require_privilege():
    """Makes sure that namespaces can be made: as root, or as any user in a user
    namespace of our own (this program is then started again inside one)."""
    if os.geteuid() != 0:
        if os.environ.get("WEFT_LAB_USERNS"):
            sys.exit("lab: the user namespace gave no root; run as root")
        os.environ["WEFT_LAB_USERNS"] = "1"
        argv = [sys.executable] + sys.orig_argv[1:]
        try:
            os.execvp("unshare", ["unshare", "-Urnm", "--"] + argv)
        except OSError as e:
            sys.exit(f"lab: needs root, or unprivileged user namespaces: unshare: {e.strerror}")
    if os.environ.get("WEFT_LAB_USERNS") and not os.access(RUN_NETNS, os.W_OK):
        subprocess.run(["mount", "-t", "tmpfs", "lab", "/run"], check=True)


def in_user_namespace():
    """Whether we are root in a user namespace only, as require_privilege() or ./dev made it."""
    with open("/proc/self/uid_map", encoding="ascii") as f:
        return f.read().split() != ["0", "0", "4294967295"]


@contextlib.contextmanager
def _entered(path):
    """This thread in another network namespace: sockets made here belong to it for ever."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        there = os.open(path, os.O_RDONLY)
        try:
            if _libc.setns(there, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), f"setns {path}")
        finally:
            os.close(there)
        try:
            yield
        finally:
            if _libc.setns(home, CLONE_NEWNET) != 0:
                os._exit(70)  # nothing that follows would be where it thinks it is
    finally:
        os.close(home)


def _interrupt(_number, _frame):
    """As Ctrl-C: pytest takes an exit for a failed test, and would go on to the next."""
    raise KeyboardInterrupt


class Lab:
    """All that one run has made. cleanup() may be called at any time, and again."""

    def __init__(self):
        self.prefix = f"weft-{os.getpid()}-"
        self.dir = f"/tmp/weft-{os.getpid()}"
        self.keep = False
        self._namespaces = []
        self._processes = []
        self._mounts = []
        self.hosts = []  # living ones, for the checks after each test
        self.etcd_members = []
        self.kubes = []  # API servers
        remove_leftovers()
        os.makedirs(self.dir, mode=0o755)
        atexit.register(self.cleanup, os.getpid())
        for sig in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(sig, _interrupt)

    def namespace(self, name):
        ns = Netns(self, name)
        self._namespaces.append(ns)
        return ns

    def forget_namespace(self, ns):
        if ns in self._namespaces:
            self._namespaces.remove(ns)

    def adopt(self, process):
        """Takes over a Popen: it is killed at the end if it still runs."""
        self._processes = [p for p in self._processes if p.poll() is None]
        self._processes.append(process)
        return process

    def mount_tmpfs(self, path, size):
        os.makedirs(path, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "lab", path], check=True)
        self._mounts.append(path)

    def cleanup(self, pid=None):
        if self.keep or (pid is not None and pid != os.getpid()):
            return
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        self._processes.clear()
        self.hosts.clear()
        for ns in list(self._namespaces):
            ns.delete()
        self._mounts.clear()
        # By name as well: a signal may have come between a thing's making and our noting it.
        remove_run(os.getpid())


def _alive(pid):
    return os.path.exists(f"/proc/{pid}")


def _kill_inside(name):
    """Ends every process of a namespace of ours."""
    cmd = ["ip", "netns", "pids", name]
    done = subprocess.run(cmd, capture_output=True, text=True, check=False)
    for pid in done.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


def remove_run(pid):
    """Removes everything of run pid: processes, namespaces, mounts, files."""
    directory = f"/tmp/weft-{pid}"
    names = os.listdir(RUN_NETNS) if os.path.isdir(RUN_NETNS) else []
    for name in names:
        if name.startswith(f"weft-{pid}-"):
            _kill_inside(name)
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
            with contextlib.suppress(OSError):
                os.unlink(f"{RUN_NETNS}/{name}")  # one that was never mounted
    with open("/proc/self/mounts", encoding="utf-8") as f:
        mounts = [line.split()[1] for line in f]
    for path in mounts:
        if path.startswith(directory + "/"):
            subprocess.run(["umount", "-l", path], check=False)
    cgroup.remove(f"weft-{pid}-*")
    shutil.rmtree(directory, ignore_errors=True)


def remove_leftovers():
    """Removes what runs that no longer exist have left, but for those kept on purpose."""
    names = os.listdir(RUN_NETNS) if os.path.isdir(RUN_NETNS) else []
    names += os.listdir("/tmp")
    pids = {int(m[1]) for m in (re.match(r"weft-(\d+)(-|$)", name) for name in names) if m}
    for pid in pids:
        if pid == os.getpid() or not _alive(pid) and not os.path.exists(f"/tmp/weft-{pid}/keep"):
            remove_run(pid)


class Netns:
    """One namespace."""

    def __init__(self, lab, short):
        self.lab = lab
        self.short = short
        self.name = lab.prefix + short
        self.path = f"{RUN_NETNS}/{self.name}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.ip("link set lo up")

    def delete(self):
        if os.path.exists(self.path):
            _kill_inside(self.name)
            subprocess.run(["ip", "netns", "del", self.name], check=False)
        self.lab.forget_namespace(self)

    def entered(self):
        return _entered(self.path)

    def argv(self, *cmd):
        return ["ip", "netns", "exec", self.name, *map(str, cmd)]

    def run(self, *cmd, check=True, input=None):
        """Runs a command inside, to its end; failures show what it said."""
        done = subprocess.run(
            self.argv(*cmd), input=input, capture_output=True, text=True, check=False
        )
        if check and done.returncode != 0:
            raise RuntimeError(
                f"{self.short}: {' '.join(map(str, cmd))}: exit {done.returncode}: "
                f"{done.stderr.strip() or done.stdout.strip()}"
            )
        return done

    def popen(self, *cmd, **kwargs):
        return self.lab.adopt(subprocess.Popen(self.argv(*cmd), **kwargs))

    def ip(self, *lines, force=False, tool="ip"):
        """ip(8) or bridge(8) commands in one batch; force goes on after one failed."""
        cmd = tool.split() + ["-n", self.name] + (["-force"] if force else []) + ["-batch", "-"]
        done = subprocess.run(
            cmd, input="\n".join(lines) + "\n", capture_output=True, text=True, check=False
        )
        if done.returncode != 0 and not force:
            raise RuntimeError(f"{self.short}: {tool}: {done.stderr.strip()}\n" + "\n".join(lines))

    def ip_json(self, *args, tool="ip"):
        """What `ip -j -d ARGS` says; [] when it says nothing or the device is not there."""
        cmd = [tool, "-n", self.name, "-j", "-d", *map(str, args)]
        done = subprocess.run(cmd, capture_output=True, text=True, check=False)
        out = done.stdout.strip()
        return [x for x in json.loads(out) if x] if done.returncode == 0 and out else []

    def socket(self, family=socket.AF_INET, kind=socket.SOCK_DGRAM, proto=0):
        with self.entered():
            return socket.socket(family, kind | socket.SOCK_CLOEXEC, proto)

    def http_get(self, address, port, path, timeout=2.0):
        """(status, body) of a plain HTTP server that is reached from inside."""
        connection = http.client.HTTPConnection(address, port, timeout=timeout)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        connection.sock = self.socket(family, socket.SOCK_STREAM)
        try:
            connection.sock.settimeout(timeout)
            connection.sock.connect((address, port))
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    @contextlib.contextmanager
    def without_dad(self):
        """Devices that are made in here skip duplicate address detection, whose second or two
        nothing that we test depends on: until then they send no neighbour solicitation. It is
        for NICs, bridges and pods; what flanneld makes keeps the kernel's default."""
        key = "net/ipv6/conf/default/accept_dad"
        self.sysctl(key, 0)
        try:
            yield
        finally:
            self.sysctl(key, 1)

    def hears_solicitations(self, device):
        """Whether each IPv6 address of a device is out of detection and answers neighbour
        discovery: the kernel sees to that by itself, but later, and what is solicited before
        is repeated only after a second."""
        with self.entered():
            with open("/proc/thread-self/net/if_inet6", encoding="ascii") as f:
                addresses = [x for x in map(str.split, f) if x[5] == device]
            with open("/proc/thread-self/net/igmp6", encoding="ascii") as f:
                groups = {x[2] for x in map(str.split, f) if x[1] == device}
        return bool(addresses) and all(
            not int(x[4], 16) & _IFA_F_TENTATIVE
            and "ff0200000000000000000001ff" + x[0][-6:] in groups
            for x in addresses
        )

    def sysctl(self, key, value):
        """Sets net.*; key with slashes (`net/ipv4/ip_forward`)."""
        with self.entered(), open(f"/proc/sys/{key}", "w", encoding="ascii") as f:
            f.write(str(value))
