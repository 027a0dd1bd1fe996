# SPDX-License-Identifier: Apache-2.0
"""kube - the lab's API server on the bench's switch, and the clients that measure with it

The server is a program in Python: how long it works itself is in server_cpu_s(), and what a
client that does nothing with the answers takes is taken by curl, or by a bare Watch.
"""
import contextlib
import json
import os
import re
import socket
import subprocess
import time

import world
from lib import kubeapi
from lib.kube_nodes import peer_annotations

ADDRESS = "192.168.77.254"
PARTIAL = kubeapi.PARTIAL
WHOLE = "application/json"
FLOOR, DAEMON = "floor", "weft"  # user agents: who measures, and the daemon's begins so
HEARTBEAT_S = 300  # nodeStatusReportFrequency of the kubelet: so often when nothing changes


class _Netns:
    """world.Namespace as the lab's server wants it."""

    def __init__(self, ns):
        self.ns = ns

    def popen(self, *cmd, **how):
        with self.ns.entered():
            return subprocess.Popen(cmd, **how)  # pylint: disable=consider-using-with

    def socket(self, family, kind):
        with self.ns.entered():
            return socket.socket(family, kind)


def peer_spec(i, annotated=True):
    """The node of world.Peer(@i), 14 KB of JSON, as FakeKube.add_nodes() wants it."""
    peer = world.Peer(i)
    return {"name": "node-%05d" % i, "pod_cidrs": [peer.base + "/24"],
            "annotations": peer_notes(i) if annotated else {}, "address": peer.public_ip}


def peer_notes(i):
    peer = world.Peer(i)
    return peer_annotations(peer.public_ip, peer.mac)


class Kube:
    """An API server with the nodes of @peers, in a namespace on @switch, as `api`; with the
    floors' own connections."""

    def __init__(self, scratch, switch, n_peers):
        self.switch, self.ns = switch, world.Namespace("kube")
        switch.plug(self.ns, 254)
        self.dir = scratch.new("kube")
        self.api = kubeapi.FakeKube(None, _Netns(self.ns), [ADDRESS], str(self.dir / "server"))
        self.net_conf = self.dir / "net-conf.json"
        self.net_conf.write_text(world.network_config())
        self.kubeconfig = self.api.kubeconfig()
        self.outside = _Netns(switch.ns)
        self.api.add_nodes([peer_spec(i) for i in range(n_peers)], render=True)

    def stop(self):
        self.api.close()
        self.ns.delete()

    # -- daemons -----------------------------------------------------------------------

    def flags(self):
        """What a daemon is started with."""
        return ["--kube-subnet-mgr", "--kubeconfig-file=" + self.kubeconfig,
                "--net-config-path=%s" % self.net_conf]

    def new_node(self, octet):
        """A node without a flannel so far, in place of the one of this name; its name."""
        name = "host%d" % octet
        spec = {"pod_cidrs": ["10.240.%d.0/24" % octet], "address": "192.168.77.%d" % octet}
        if name in self.api.nodes():
            self.api.delete_node(name)
        self.api.add_nodes([{"name": name, **spec}], render=True)
        return name

    def daemon(self, bench, host, name, **more):
        return bench.daemon(host, self, env={"NODE_NAME": name}, **more)

    # -- what the server did -----------------------------------------------------------

    def cpu_s(self):
        with open("/proc/%d/stat" % self.api.process.pid, encoding="ascii") as f:
            fields = f.read().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def pages(self, mark):
        """The requests for pages of the list of all nodes since api.mark()."""
        return self.api.requests(since=mark, verb="list")

    def watch_of(self, agent):
        """The watch by who is so called, once it is there."""
        def find():
            return next((w for w in self.api.watches()
                         if w.headers.get("user-agent", "").startswith(agent)), None)

        return world.wait_for("the watch", find)

    def wait_told(self, rv):
        """Until all that happened up to @rv has been sent to each watch."""
        world.wait_for("the watches to be served", lambda: all(
            int(w.cursor) >= int(rv) for w in self.api.watches()))

    # -- floors ------------------------------------------------------------------------

    def curl(self, targets, accept=WHOLE):
        """A curl that fetches these, one after the other over one connection."""
        config = self.dir / ("curl-%d" % time.monotonic_ns())
        config.write_text("".join('url = "%s%s"\noutput = /dev/null\n' % (self.api.url, target)
                                  for target in targets))
        return self.outside.popen(
            "curl", "-sSN", "--fail", "--http1.1", "--cacert", self.api.ca.cert, "-A", FLOOR,
            "-H", "Accept: " + accept, "-H", "Authorization: Bearer " + self.api.admin,
            "-K", str(config), stdin=subprocess.DEVNULL)

    def curl_whole(self, targets):
        """(s, s of CPU time) of a curl."""
        begin = time.monotonic()
        process = self.curl(targets)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise world.Failure("curl: exit code %d" % process.returncode)
        return time.monotonic() - begin, usage.ru_utime + usage.ru_stime

    def watch_target(self):
        return "/api/v1/nodes?watch=true&resourceVersion=%s&timeoutSeconds=3600" % self.api.rv()

    def connect(self):
        return self.api.connect(ns=self.outside).sock


class Control:
    """Orders to the server that can be waited for beside other things; as etcd.Gateway."""

    def __init__(self, kube):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(10)
        self.socket.connect(str(kube.dir / "server/control"))
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(data)

    def answer(self):
        while b"\n" not in self.buffer:
            self.buffer += self.socket.recv(65536)
        line, _, self.buffer = self.buffer.partition(b"\n")
        found = json.loads(line)
        if "ok" not in found:
            raise world.Failure("the API server: %s" % found)
        return found["ok"]

    def close(self):
        self.socket.close()


def annotate(i):
    """The order that makes node @i one of flannel's."""
    return json.dumps({"do": "patch", "name": "node-%05d" % i,
                       "patch": {"metadata": {"annotations": peer_notes(i)}},
                       "content_type": kubeapi.STRATEGIC}).encode() + b"\n"


class Watch:
    """A watch of all nodes' metadata that does nothing with it."""

    def __init__(self, kube):
        self.socket = kube.connect()
        self.buffer = b""
        self.socket.sendall((
            "GET %s HTTP/1.1\r\nHost: kube\r\nUser-Agent: %s\r\nAccept: %s\r\n"
            "Authorization: Bearer %s\r\n\r\n"
            % (kube.watch_target(), FLOOR, PARTIAL, kube.api.admin)).encode())
        while b"\r\n\r\n" not in self.buffer:
            self.buffer += self.socket.recv(65536)

    def seen(self, i):
        """For put_once(): the time at which an event of node @i had come."""
        mark = b'"name":"node-%05d"' % i

        def has_come():
            self.buffer += self.socket.recv(1 << 16)
            while self.socket.pending():
                self.buffer += self.socket.recv(1 << 16)
            lines = self.buffer.split(b"\n")
            self.buffer = lines[-1]
            return time.monotonic_ns() if any(mark in line for line in lines[:-1]) else None

        return has_come

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.close()


def received_bytes(host):
    """What the host's uplink has received, all headers included."""
    text = host.ip("-s", "-j", "link", "show", "eth0")
    return json.loads(text)[0]["stats64"]["rx"]["bytes"]


def timeout_of(watch):
    return int(re.search("timeoutSeconds=([0-9]+)", watch.target)[1])
