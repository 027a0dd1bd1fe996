# SPDX-License-Identifier: Apache-2.0
"""flows.py - who sees whom under which address

     a1  b1        a2  b2
     -+---+-       -+---+-  cni0
       h1            h2          out     no flannel host; reaches the pods through h1
       |eth0         |eth0       |
    ---+-------------+-----------+--- sw1
       |vm0
       vm       behind h1, no pod: what is forwarded to it is none of flannel's business

A Flow is one packet (or TCP connection) and the source address under which it must
arrive; Site.run() sends all flows of a list at once. Each sender has a port that no other
had before, so that no connection that the kernel remembers decides for it.
"""

import itertools
import select
import socket
import struct
import time

from . import expect

_ports = itertools.count(0)
_SO_MARK = 36
_MRT_INIT, _MRT_ADD_VIF, _MRT_ADD_MFC = 200, 202, 204
_GROUP = {False: "239.77.0.1", True: "ff15::77"}


def next_port():
    return 20000 + next(_ports) % 40000


class Flow:
    """want: the address under which it arrives, None: not at all. to, at: (address, port)
    where it is sent, and where the receiver is; the same if at is not given."""

    def __init__(self, name, src, to, dst, want, at=None, proto="udp", bind=None, mark=0,
                 device=None, keeps_port=False, replies=True):
        self.name, self.src, self.dst, self.want, self.proto = name, src, dst, want, proto
        self.to, self.at, self.bind, self.mark = to, at or to, bind, mark
        self.device, self.keeps_port = device, keeps_port
        self.replies = replies and want is not None
        self.v6 = ":" in to[0]
        self.port, self.seen, self.answered = None, None, False

    def problem(self):
        label = f"{'IPv6' if self.v6 else 'IPv4'} {self.proto}: {self.name}"
        seen = self.seen[0] if self.seen else None
        if seen != self.want:
            return f"{label}: arrived from {seen}, want {self.want}"
        if self.keeps_port and self.seen[1] != self.port:
            return f"{label}: from port {self.seen[1]}, want the sender's own {self.port}"
        if self.replies and not self.answered:
            return (f"{label}: port {self.port} arrived as {seen} port {self.seen[1]}, but the "
                    "answer did not")
        return None

    def done(self):
        return self.seen is not None and (self.answered or not self.replies)


def _family(v6):
    return socket.AF_INET6 if v6 else socket.AF_INET


def _receiver(ns, proto, address, port, device):
    v6 = ":" in address
    multicast = int(address.split(".")[0]) >= 224 if not v6 else address.startswith("ff")
    s = ns.socket(_family(v6), socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if multicast:
        with ns.entered():
            index = socket.if_nametoindex(device)
        s.bind((address, port, 0, index) if v6 else (address, port))
        if v6:
            request = socket.inet_pton(socket.AF_INET6, address) + struct.pack("=I", index)
            s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
        else:
            request = socket.inet_aton(address) + bytes(4) + struct.pack("=I", index)
            s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, request)
    else:
        s.bind((address, port))
    s.setblocking(False)
    if proto == "tcp":
        s.listen(64)
    return s


class _Sender:
    def __init__(self, ns, flow, tag):
        self.flow, self.tag = flow, tag
        tcp = flow.proto == "tcp"
        self.socket = s = ns.socket(
            _family(flow.v6), socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM
        )
        s.setblocking(False)
        if flow.mark:
            s.setsockopt(socket.SOL_SOCKET, _SO_MARK, flow.mark)
        if flow.device:
            self._leave_by(ns, flow.device)
        any_address = "::" if flow.v6 else "0.0.0.0"
        while True:
            flow.port = next_port()
            try:
                s.bind((flow.bind or any_address, flow.port))
                break
            except OSError as e:
                if e.errno != 98:  # EADDRINUSE
                    raise
        self.connected = s.connect_ex(flow.to) == 0 if flow.replies or tcp else False

    def _leave_by(self, ns, device):
        """Multicast: by that device, with a TTL that a router leaves something of."""
        with ns.entered():
            index = socket.if_nametoindex(device)
        if self.flow.v6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 4)
        else:
            request = bytes(8) + struct.pack("=I", index)
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, request)
            self.socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 4)

    def send(self):
        try:
            if self.connected or self.flow.proto == "tcp":
                self.socket.send(self.tag)
            else:
                self.socket.sendto(self.tag, self.flow.to)
        except OSError:
            pass  # rejected, or not connected yet: it counts as not arrived

    def read(self):
        try:
            if self.socket.recv(64) == self.tag:
                self.flow.answered = True
        except OSError:
            pass


class Site:
    """The topology of the picture. start() brings flanneld up and makes what hangs on it."""

    def __init__(self, make_topo, backend="vxlan"):
        self.topo = make_topo(2, ipv6=True)
        self.backend = backend
        self.h1, self.h2 = self.topo.hosts
        self.out, self.out_addresses = self.topo.server("out", 200)
        self.vm = self.topo._namespace("vm")
        self.keep = ["198.51.100.0/24", "2001:db8:51::/48"]
        self.pods = {}
        self._routers = []

    def start(self, *flags, config=None, **kwargs):
        base = {
            "Network": "10.5.0.0/16", "EnableIPv6": True, "IPv6Network": "fc00:5::/48",
            "Backend": {"Type": self.backend},
        }
        self.topo.start({**base, **(config or {})}, *flags, **kwargs)
        if not self.pods:
            self._wire()
        return self

    def _wire(self):
        for host in self.topo:
            for letter in "ab":
                self.pods[f"{letter}{host.index}"] = host.pod(letter)
            for k in range(2):
                # A packet may go back to the pod that it came from: hairpin.
                host.ip(f"link set dev p{k} type bridge_slave hairpin on")
            host.ip(f"addr add {self.kube(host, False)}/32 dev lo",
                    f"addr add {self.kube(host, True)}/128 dev lo nodad")
        self._wire_outside()
        for v6 in (False, True):
            self._route_multicast(v6)

    def _wire_outside(self):
        h1 = self.h1
        for ns in (self.out, h1.ns, self.h2.ns):
            for family in ("ipv4", "ipv6"):
                ns.sysctl(f"net/{family}/conf/all/accept_redirects", 0)
                ns.sysctl(f"net/{family}/conf/eth0/accept_redirects", 0)
        self.out.ip(
            f"route add 10.5.0.0/16 via {h1.address}", f"route add fc00:5::/48 via {h1.address6}",
            f"route add 203.0.113.0/24 via {h1.address}",
            f"route add 2001:db8:113::/48 via {h1.address6}",
            "addr add 198.51.100.7/32 dev lo", "addr add 2001:db8:51::7/128 dev lo nodad",
        )
        h1.ip(
            f"link add name vm0 type veth peer name eth0 netns {self.vm.name}",
            "addr add 203.0.113.1/24 dev vm0", "addr add 2001:db8:113::1/64 dev vm0 nodad",
            "link set vm0 up",
        )
        self.vm.ip(
            "addr add 203.0.113.9/24 dev eth0", "addr add 2001:db8:113::9/64 dev eth0 nodad",
            "link set eth0 up", "route add default via 203.0.113.1",
            "route add default via 2001:db8:113::1",
        )
        for host in self.topo:
            host.ip(f"route add 198.51.100.0/24 via {self.out_addresses[0]}",
                    f"route add 2001:db8:51::/48 via {self.out_addresses[1]}")
        expect.wait_until(lambda: h1.ns.hears_solicitations("vm0"), what="h1: vm0")
        expect.wait_until(lambda: self.vm.hears_solicitations("eth0"), what="vm: eth0")

    def _route_multicast(self, v6):
        """h1 forwards what a1 sends to our group to the outside, as a multicast router does."""
        router = self.h1.ns.socket(
            _family(v6), socket.SOCK_RAW, socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_IGMP
        )
        level = socket.IPPROTO_IPV6 if v6 else socket.IPPROTO_IP
        router.setsockopt(level, _MRT_INIT, 1)
        with self.h1.ns.entered():
            devices = [socket.if_nametoindex(d) for d in ("cni0", "eth0")]
        for k, index in enumerate(devices):
            if v6:
                vif = struct.pack("=HBBHxxI", k, 0, 1, index, 0)
            else:
                vif = struct.pack("=HBBIi4s", k, 8, 1, 0, index, bytes(4))  # 8: by ifindex
            router.setsockopt(level, _MRT_ADD_VIF, vif)
        source, group = self.pods["a1"].addresses[v6], _GROUP[v6]
        if v6:
            sa = [struct.pack("=HHI16sI", socket.AF_INET6, 0, 0,
                              socket.inet_pton(socket.AF_INET6, a), 0) for a in (source, group)]
            entry = sa[0] + sa[1] + struct.pack("=Hxx8I", 0, 0b10, *[0] * 7)
        else:
            entry = (socket.inet_aton(source) + socket.inet_aton(group)
                     + struct.pack("=H32sxxIIIi", 0, bytes([0, 1]) + bytes(30), 0, 0, 0, 0))
        router.setsockopt(level, _MRT_ADD_MFC, entry)
        self._routers.append(router)

    def close(self):
        for router in self._routers:
            router.close()
        self._routers.clear()

    # -- addresses ---------------------------------------------------------------------

    @staticmethod
    def kube(host, v6):
        """An address of the host to which kube-proxy's rules of the lab masquerade."""
        return str(host.subnets()[v6].network_address + 200)

    def nets(self, host):
        """{v6: (network, subnet)} of a host."""
        return {False: ("10.5.0.0/16", str(host.subnets()[0])),
                True: ("fc00:5::/48", str(host.subnets()[1]))}

    def words(self, host):
        """{v6: what workload.rules needs to know}"""
        other = self.h2 if host is self.h1 else self.h1
        found = {}
        for v6 in (False, True):
            local = self.pods[f"a{host.index}"].addresses[v6]
            remote = self.pods[f"a{other.index}"].addresses[v6]
            found[v6] = {
                "local": f"[{local}]" if v6 else local,
                "remote": f"[{remote}]" if v6 else remote,
                "subnet": str(host.subnets()[v6]), "kube": self.kube(host, v6),
                "vip": self._vip(v6),
            }
        return found

    @staticmethod
    def _vip(v6):
        return "fd00:96::10" if v6 else "10.96.0.10"

    def _tunnel(self, host, v6):
        """Under which address a host's own packets go to remote pods."""
        if self.backend == "host-gw":
            return host.addresses[v6]
        return str(host.subnets()[v6].network_address)

    @staticmethod
    def gateway(host, v6):
        return str(host.subnets()[v6].network_address + 1)

    def _ns(self, place):
        if place in self.pods:
            return self.pods[place].ns
        return {"h1": self.h1.ns, "h2": self.h2.ns, "out": self.out, "vm": self.vm}[place]

    # -- the table ---------------------------------------------------------------------

    def flows(self, masquerade=True, firewall=True, keep=True):
        """All of them, for both families. firewall: somebody drops what nobody accepted."""
        found = []
        for v6 in (False, True):
            found += self._from_pods(v6, masquerade, keep)
            found += self._from_hosts(v6)
            found += self._from_outside(v6, firewall)
            found += self._multicast(v6)
        return found

    def _both(self, *args, **kwargs):
        return [Flow(*args, **kwargs), Flow(*args, proto="tcp", **kwargs)]

    def _from_pods(self, v6, masquerade, keep):
        a1, b1, a2 = (self.pods[p].addresses[v6] for p in ("a1", "b1", "a2"))
        h1, h2 = self.h1.addresses[v6], self.h2.addresses[v6]
        out, vip = self.out_addresses[v6], self._vip(v6)
        kept = "2001:db8:51::7" if v6 else "198.51.100.7"
        inside1, inside2 = self.gateway(self.h1, v6), self.gateway(self.h2, v6)
        leaves = h1 if masquerade else a1
        both = self._both
        return [
            *both("pod to pod, same host", "b1", (a1, 7000), "a1", b1),
            *both("pod to pod, other host", "a1", (a2, 7000), "a2", a1),
            *both("pod of the other host to pod", "a2", (a1, 7000), "a1", a2),
            Flow("pod to its own host", "a1", (h1, 7001), "h1", a1),
            Flow("pod to its own host's bridge", "a1", (inside1, 7001), "h1", a1),
            *both("pod to the other host", "a1", (h2, 7001), "h2", leaves),
            Flow("pod to the other host's bridge", "a1", (inside2, 7001), "h2", a1),
            *both("pod to outside", "a1", (out, 7000), "out", leaves),
            Flow("pod to a network that is not masqueraded", "a1", (kept, 7000), "out",
                 a1 if keep else leaves),
            Flow("pod to outside, marked 0x4008", "a1", (out, 7040), "out", a1),
            Flow("pod to outside, marked 0x4000", "a1", (out, 7041), "out", a1),
            Flow("pod to outside, marked 0x8", "a1", (out, 7042), "out", leaves),
            *both("pod to its own port mapping", "a1", (h1, 8001), "a1", inside1, (a1, 7000)),
            Flow("pod to its neighbour's port mapping", "b1", (h1, 8001), "a1", inside1,
                 (a1, 7000)),
            Flow("pod to a service, pod of the other host", "b1", (vip, 80), "a2", b1, (a2, 7000)),
            Flow("pod to a service, pod of the same host", "b1", (vip, 82), "a1", b1, (a1, 7000)),
            Flow("pod to a service, masqueraded by kube-proxy", "b1", (vip, 81), "a2",
                 self.kube(self.h1, v6), (a2, 7000)),
        ]

    def _from_hosts(self, v6):
        a1, a2 = (self.pods[p].addresses[v6] for p in ("a1", "a2"))
        h1, tunnel = self.h1.addresses[v6], self._tunnel(self.h1, v6)
        both, own = self._both, self.backend == "host-gw"
        return [
            *both("host to its own pod", "h1", (a1, 7000), "a1", self.gateway(self.h1, v6),
                  keeps_port=True),
            Flow("host by its NIC's address to its own pod", "h1", (a1, 7000), "a1", h1, bind=h1,
                 keeps_port=True),
            *both("host to remote pod", "h1", (a2, 7000), "a2", tunnel, keeps_port=True),
            *both("host by its NIC's address to remote pod", "h1", (a2, 7000), "a2", tunnel,
                  bind=h1, keeps_port=own),
            Flow("host, marked by kube-proxy, to remote pod", "h1", (a2, 7000), "a2",
                 self.kube(self.h1, v6), bind=h1, mark=0x4008),
            Flow("host to its own pod's port mapping", "h1", (h1, 8001), "a1", h1, (a1, 7000)),
            Flow("host to a service, remote pod", "h1", (self._vip(v6), 80), "a2", tunnel,
                 (a2, 7000)),
        ]

    def _from_outside(self, v6, firewall):
        a1, a2 = (self.pods[p].addresses[v6] for p in ("a1", "a2"))
        h1, out = self.h1.addresses[v6], self.out_addresses[v6]
        tunnel, vm = self._tunnel(self.h1, v6), "2001:db8:113::9" if v6 else "203.0.113.9"
        both = self._both
        return [
            *both("outside to pod", "out", (a1, 7000), "a1", out),
            *both("outside to pod by a port mapping", "out", (h1, 8001), "a1", out, (a1, 7000)),
            *both("outside to remote pod by a port mapping", "out", (h1, 8002), "a2", tunnel,
                  (a2, 7000)),
            Flow("outside to remote pod", "out", (a2, 7000), "a2", tunnel),
            Flow("outside to a node port", "out", (h1, 30080), "a2", self.kube(self.h1, v6),
                 (a2, 7000)),
            Flow("pod of the other host to a port mapping", "a2", (h1, 8001), "a1",
                 self.h2.addresses[v6], (a1, 7000)),
            Flow("outside to what is no pod", "out", (vm, 7000), "vm", None if firewall else out),
        ]

    def _multicast(self, v6):
        a1, group, inside = self.pods["a1"].addresses[v6], _GROUP[v6], self.gateway(self.h1, v6)
        return [
            Flow("pod to multicast, forwarded", "a1", (group, 7077), "out", a1, device="eth0",
                 replies=False),
            Flow("pod to multicast, on the bridge", "a1", (group, 7078), "b1", a1, device="eth0",
                 replies=False),
            Flow("host by its pods' address to multicast", "h1", (group, 7079), "out", inside,
                 bind=inside, device="eth0", replies=False),
        ]

    # -- running them ------------------------------------------------------------------

    def run(self, flows, timeout=3.0):
        """Sends all, again and again where need be; the problems, one line each."""
        receivers, senders = {}, []
        try:
            for flow in flows:
                key = (flow.proto, flow.dst, flow.at)
                if key not in receivers:
                    receivers[key] = _receiver(self._ns(flow.dst), flow.proto, *flow.at, "eth0")
            senders = [
                _Sender(self._ns(f.src), f, b"flow %d" % i) for i, f in enumerate(flows)
            ]
            _exchange(flows, receivers, senders, timeout * expect.TIME_FACTOR)
        finally:
            for s in [*receivers.values(), *(x.socket for x in senders)]:
                s.close()
        return [p for p in (f.problem() for f in flows) if p]


def _exchange(flows, receivers, senders, timeout):
    poll, by_fd, connections = select.poll(), {}, {}
    for key, s in receivers.items():
        by_fd[s.fileno()] = ("tcp-listen" if key[0] == "tcp" else "receive", s)
        poll.register(s, select.POLLIN)
    for sender in senders:
        by_fd[sender.socket.fileno()] = ("answer", sender)
        poll.register(sender.socket, select.POLLIN)
    begun = time.monotonic()
    wait, due = 0.05, begun
    silent = any(f.want is None for f in flows)
    while True:
        now = time.monotonic()
        open_ = [s for s in senders if s.flow.want is not None and not s.flow.done()]
        if now >= begun + timeout or (not open_ and now > begun + (0.2 if silent else 0)):
            break
        if now >= due:
            for sender in senders:
                if not sender.flow.done():
                    sender.send()
            wait *= 1.5
            due = now + wait
        for fd, _ in poll.poll(max(1, (due - now) * 1000)):
            kind, thing = by_fd[fd]
            if kind == "answer":
                thing.read()
                if thing.flow.answered:
                    poll.unregister(fd)
            elif kind == "tcp-listen":
                connection, peer = thing.accept()
                connection.setblocking(False)
                by_fd[connection.fileno()] = ("tcp", connection)
                connections[connection] = peer
                poll.register(connection, select.POLLIN)
            else:
                _receive(kind, thing, flows, connections, poll)
    for connection in connections:
        connection.close()


def _receive(kind, s, flows, connections, poll):
    try:
        data, peer = (s.recv(64), connections[s]) if kind == "tcp" else s.recvfrom(64)
    except OSError:
        return
    if kind == "tcp" and not data:
        poll.unregister(s)
        return
    if not data.startswith(b"flow "):
        return
    tag = data[: data.find(b"flow ", 1)] if data.find(b"flow ", 1) > 0 else data
    flow = flows[int(tag[5:])]
    flow.seen = flow.seen or peer[:2]
    try:
        if kind == "tcp":
            s.send(tag)
        elif flow.replies:
            s.sendto(tag, peer)
    except OSError:
        pass
