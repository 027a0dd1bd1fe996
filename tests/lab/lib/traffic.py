# SPDX-License-Identifier: Apache-2.0
"""traffic.py - packets from pod to pod, and what became of them

Sockets are made inside the pods' namespaces by the test's own process, so that no
helper programs run there. Only a Stream is a process of its own, because its clock
must not wait for the test: it sends a numbered datagram on every flow every few
milliseconds and keeps book of those that never arrived.

Run as a program this file is that process: flows on argv (JSON, sockets as inherited
file descriptors), commands on stdin, answers on stdout, one JSON value per line.
"""

import errno
import hashlib
import json
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time

IP_MTU_DISCOVER, IP_PMTUDISC_DO = 10, 2
IPV6_MTU_DISCOVER = 23


def _bound(pod, address, kind=socket.SOCK_DGRAM):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = pod.ns.socket(family, kind)
    s.bind((address, 0))
    return s


def _same_family(pod, other):
    """Pairs of addresses of two pods (or hosts), one for each family both have."""
    return [
        (a, b) for a in pod.addresses for b in other.addresses if (":" in a) == (":" in b)
    ]


def asked(client, server, address, port, inner_port):
    """By which address `client` is known to `server` when it connects to address:port."""
    with server.ns.socket(kind=socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((server.addresses[0], inner_port))
        listener.listen()
        listener.settimeout(10)
        with client.ns.socket(kind=socket.SOCK_STREAM) as s:
            s.settimeout(10)
            s.connect((address, port))
            connection, peer = listener.accept()
            with connection:
                return peer[0]


def seen_source(src, dst, src_address, dst_address, timeout=5.0, payload=b"hello"):
    """Sends datagrams until one arrives; the address it came from, or None."""
    with _bound(dst, dst_address) as rx, _bound(src, src_address) as tx:
        deadline = time.monotonic() + timeout
        wait = 0.02
        while time.monotonic() < deadline:
            try:
                tx.sendto(payload, (dst_address, rx.getsockname()[1]))
            except OSError as e:
                if e.errno == errno.EMSGSIZE:
                    raise
            rx.settimeout(min(wait, max(deadline - time.monotonic(), 0.001)))
            wait *= 2
            try:
                return rx.recvfrom(65536)[1][0]
            except TimeoutError:
                continue
    return None


def assert_all_to_all(pods, timeout=5.0):
    """Every pod reaches every other, and is seen there under its own address."""
    failed = []
    for src in pods:
        for dst in pods:
            if src is dst:
                continue
            for a, b in _same_family(src, dst):
                seen = seen_source(src, dst, a, b, timeout)
                if seen != a:
                    failed.append(f"{src.name} {a} -> {dst.name} {b}: seen as {seen}")
    assert not failed, "\n" + "\n".join(failed)


def arrives_unfragmented(src, dst, size, timeout=3.0):
    """Whether an IP packet of size bytes with DF set arrives, for the first family; it is sent
    again as long as none has, since the first may be lost while neighbours are asked for.
    EMSGSIZE (the sender's own device or a known path MTU is smaller) is False."""
    src_address, dst_address = _same_family(src, dst)[0]
    v6 = ":" in src_address
    with _bound(dst, dst_address) as rx, _bound(src, src_address) as tx:
        if v6:
            tx.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, IP_PMTUDISC_DO)
        else:
            tx.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        deadline = time.monotonic() + timeout
        rx.settimeout(0.2)
        while time.monotonic() < deadline:
            try:
                tx.sendto(b"x" * (size - (48 if v6 else 28)), (dst_address, rx.getsockname()[1]))
            except OSError as e:
                if e.errno == errno.EMSGSIZE:
                    return False
                raise
            try:
                rx.recvfrom(65536)
                return True
            except TimeoutError:
                continue
        return False


def ping(src, dst_address, timeout=3.0):
    """ICMP echo; round trip in milliseconds, or None."""
    v6 = ":" in dst_address
    family, proto = (socket.AF_INET6, 58) if v6 else (socket.AF_INET, 1)
    ident, payload = os.getpid() & 0xFFFF, os.urandom(16)
    head = struct.pack("!BBHHH", 128 if v6 else 8, 0, 0, ident, 1)
    if not v6:  # the kernel fills in the ICMPv6 checksum only
        total = sum(struct.unpack("!12H", head + payload))
        total = (total & 0xFFFF) + (total >> 16)
        total = (total & 0xFFFF) + (total >> 16)
        head = struct.pack("!BBHHH", 8, 0, ~total & 0xFFFF, ident, 1)
    with src.ns.socket(family, socket.SOCK_RAW, proto) as s:
        start = time.monotonic()
        s.sendto(head + payload, (dst_address, 0))
        while (left := start + timeout - time.monotonic()) > 0:
            s.settimeout(left)
            try:
                packet, sender = s.recvfrom(2048)
            except TimeoutError:
                break
            body = packet if v6 else packet[(packet[0] & 15) * 4 :]
            if sender[0] == dst_address and body[0] in (0, 129) and body[8:] == payload:
                return (time.monotonic() - start) * 1000
    return None


class Copy:
    """The outcome of tcp_copy()."""

    def __init__(self, size, seconds, seen_from, intact):
        self.size, self.seconds, self.seen_from, self.intact = size, seconds, seen_from, intact


def tcp_copy(src, dst, size, timeout=30.0):
    """Copies size random bytes over TCP from pod to pod and compares checksums."""
    src_address, dst_address = _same_family(src, dst)[0]
    data = os.urandom(size)
    received = {}
    with _bound(dst, dst_address, socket.SOCK_STREAM) as listener:
        listener.listen(1)
        listener.settimeout(timeout)

        def receive():
            connection, peer = listener.accept()
            chunks = []
            with connection:
                connection.settimeout(timeout)
                while chunk := connection.recv(1 << 20):
                    chunks.append(chunk)
            received.update(peer=peer[0], end=time.monotonic())
            received.update(digest=hashlib.sha256(b"".join(chunks)).digest())

        receiver = threading.Thread(target=receive, daemon=True)
        receiver.start()
        with _bound(src, src_address, socket.SOCK_STREAM) as s:
            s.settimeout(timeout)
            s.connect((dst_address, listener.getsockname()[1]))
            start = time.monotonic()
            s.sendall(data)
        receiver.join(timeout)
    return Copy(
        size,
        received.get("end", time.monotonic()) - start,
        received.get("peer"),
        received.get("digest") == hashlib.sha256(data).digest(),
    )


class FlowReport:
    """What happened to one flow. gaps: (first lost sent at, next arrived sent at, lost)
    in seconds of the monotonic clock."""

    def __init__(self, name, raw):
        self.name = name
        self.sent, self.lost = raw["sent"], raw["lost"]
        self.gaps = [tuple(g) for g in raw["gaps"]]

    @property
    def longest_gap_ms(self):
        return max(((b - a) * 1000 for a, b, _ in self.gaps), default=0.0)

    def __str__(self):
        return (
            f"{self.name}: sent {self.sent}, lost {self.lost}, "
            f"longest gap {self.longest_gap_ms:.1f} ms"
        )


class Report:
    def __init__(self, flows):
        self.flows = flows

    @property
    def sent(self):
        return sum(f.sent for f in self.flows)

    @property
    def lost(self):
        return sum(f.lost for f in self.flows)

    @property
    def longest_gap_ms(self):
        return max(f.longest_gap_ms for f in self.flows)

    def __str__(self):
        return "; ".join(map(str, self.flows))


class Stream:
    """Numbered datagrams between pods, both ways, until the end of the with block.

    The block begins when every flow flows; report is there after it.
    """

    def __init__(self, pairs, interval_ms=2.0, both_ways=True):
        self.pairs = [(a, b) for a, b in pairs]
        if both_ways:
            self.pairs += [(b, a) for a, b in pairs]
        self.interval_ms = interval_ms
        self.report = None
        self._names, self._process = [], None

    @classmethod
    def all_to_all(cls, pods, **kwargs):
        return cls(
            [(a, b) for i, a in enumerate(pods) for b in pods[i + 1 :]], both_ways=True, **kwargs
        )

    def start(self, timeout=10.0, wait_flowing=True):
        flows, sockets = [], []
        for src, dst in self.pairs:
            for a, b in _same_family(src, dst):
                tx, rx = _bound(src, a), _bound(dst, b)
                sockets += [tx, rx]
                flows.append({"tx": tx.fileno(), "rx": rx.fileno(), "to": [b, rx.getsockname()[1]]})
                self._names.append(f"{src.name} {a} -> {dst.name} {b}")
        argument = json.dumps({"interval_ms": self.interval_ms, "flows": flows})
        self._process = self.pairs[0][0].ns.lab.adopt(
            subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, argument],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[s.fileno() for s in sockets],
            )
        )
        for s in sockets:
            s.close()
        if wait_flowing:
            self.wait_flowing(timeout)
        return self

    def wait_flowing(self, timeout=10.0):
        """Waits until every flow has delivered a datagram that was sent after this call."""
        silent = self._ask({"do": "flowing", "timeout": timeout}, timeout + 5)
        assert not silent, f"no traffic within {timeout} s: " + "; ".join(
            self._names[i] for i in silent
        )

    def stop(self):
        if self._process is None:
            return self.report
        raw = self._ask({"do": "stop"}, 10)
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()
        self._process = None
        self.report = Report([FlowReport(n, r) for n, r in zip(self._names, raw)])
        return self.report

    def _ask(self, question, timeout):
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        self._process.stdin.flush()
        ready, _, _ = select.select([self._process.stdout], [], [], timeout)
        assert ready, "the traffic process does not answer"
        return json.loads(self._process.stdout.readline())

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, traceback):
        if kind is None:
            self.stop()
        else:
            self._process.kill()
            self._process.wait()


class _Flow:
    """One flow inside the stream's process."""

    def __init__(self, spec):
        self.tx = socket.socket(fileno=spec["tx"])
        self.rx = socket.socket(fileno=spec["rx"])
        self.rx.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.tx.setblocking(False)
        self.rx.setblocking(False)
        self.to = tuple(spec["to"])
        self.sent_at = []
        self.arrived = bytearray()
        self.last = -1  # highest number that arrived

    def send(self):
        number = len(self.sent_at)
        self.sent_at.append(time.monotonic())
        self.arrived.append(0)
        try:
            self.tx.sendto(number.to_bytes(8, "big"), self.to)
        except OSError:
            pass  # counts as lost, which it is

    def drain(self):
        while True:
            try:
                number = int.from_bytes(self.rx.recv(64), "big")
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error of an earlier datagram
            self.arrived[number] = 1
            self.last = max(self.last, number)

    def result(self):
        gaps, first, lost = [], None, 0
        for t, a in zip(self.sent_at, self.arrived):
            if not a:
                first, lost = (t, 1) if first is None else (first, lost + 1)
            elif first is not None:
                gaps.append((first, t, lost))
                first = None
        if first is not None:
            gaps.append((first, self.sent_at[-1], lost))
        total = len(self.sent_at)
        return {"sent": total, "lost": total - sum(self.arrived), "gaps": gaps}


def _answer(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def _stream_main(spec):
    flows = [_Flow(f) for f in spec["flows"]]
    interval = spec["interval_ms"] / 1000
    poll = select.poll()
    for flow in flows:
        poll.register(flow.rx, select.POLLIN)
    poll.register(0, select.POLLIN)
    waiting = None  # (deadline, first numbers that count)
    sending, end = True, None
    due = time.monotonic()
    while True:
        now = time.monotonic()
        if sending and now >= due:
            for flow in flows:
                flow.send()
            due = max(due + interval, now)  # a late tick is not made up for by a burst
        events = poll.poll(max(0, due - time.monotonic()) * 1000 if sending else 5)
        for flow in flows:
            flow.drain()
        if any(fd == 0 for fd, _ in events):
            line = sys.stdin.buffer.readline()
            if not line:
                return
            question = json.loads(line)
            if question["do"] == "flowing":
                waiting = (now + question["timeout"], [len(f.sent_at) for f in flows])
            else:
                sending, end = False, now + 1.0
        if waiting:
            silent = [i for i, f in enumerate(flows) if f.last < waiting[1][i]]
            if not silent or now > waiting[0]:
                _answer(silent)
                waiting = None
        if end and (now > end or all(f.last == len(f.sent_at) - 1 for f in flows)):
            _answer([f.result() for f in flows])
            return


if __name__ == "__main__":
    _stream_main(json.loads(sys.argv[1]))
