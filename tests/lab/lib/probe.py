# SPDX-License-Identifier: Apache-2.0
"""probe.py - a new connection with every packet: what do the rules do at each moment?

A Stream (traffic.py) keeps its ports, and the kernel decides on address translation only
when a connection begins. A Probe sends each of its numbered datagrams from a port of its
own, so that each is a question to the rules that are in force just then; its report has
the source address under which each arrived.

Run as a program this file is the process that sends and receives: it is inside the
sender's namespace, its receiving sockets are inherited.
"""

import json
import select
import socket
import subprocess
import sys
import time


class Answer:
    """What became of one path's datagrams. wrong: [(sent at, arrived from)], lost: [sent at],
    in seconds of the monotonic clock."""

    def __init__(self, name, raw):
        self.name, self.sent = name, raw["sent"]
        self.lost = raw["lost"]
        self.wrong = [tuple(w) for w in raw["wrong"]]

    def wrong_after(self, at):
        return [w for w in self.wrong if w[0] > at]

    def __str__(self):
        sources = sorted({w[1] for w in self.wrong})
        return f"{self.name}: sent {self.sent}, lost {len(self.lost)}, wrong {len(self.wrong)}" + (
            f" (from {', '.join(sources)})" if sources else ""
        )


class Probe:
    """paths: [(name, sending namespace, receiving namespace, address there, wanted source)],
    all of one sending namespace. with Probe(paths) as p: ...; then p.answers {name: Answer}."""

    def __init__(self, paths, interval_ms=3.0):
        self.paths, self.interval_ms = paths, interval_ms
        self.answers, self._process = {}, None

    def __enter__(self):
        sockets, specs = [], []
        for _, _, there, address, want in self.paths:
            s = there.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
            s.bind((address, 0))
            s.set_inheritable(True)
            sockets.append(s)
            specs.append({"fd": s.fileno(), "to": s.getsockname()[:2], "want": want})
        here = self.paths[0][1]
        argument = json.dumps({"interval_ms": self.interval_ms, "paths": specs})
        self._process = here.popen(
            sys.executable, "-I", "-S", __file__, argument, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, pass_fds=[s.fileno() for s in sockets],
        )
        for s in sockets:
            s.close()
        ready, _, _ = select.select([self._process.stdout], [], [], 10)
        assert ready and self._process.stdout.readline() == b"flows\n", "the probe does not begin"
        return self

    def __exit__(self, kind, value, traceback):
        if kind is not None:
            self._process.kill()
        raw, _ = self._process.communicate(b"end\n" if kind is None else None, timeout=10)
        if kind is None:
            names = [p[0] for p in self.paths]
            self.answers = {n: Answer(n, r) for n, r in zip(names, json.loads(raw))}


class _Path:
    def __init__(self, spec):
        self.rx = socket.socket(fileno=spec["fd"])
        self.rx.setblocking(False)
        self.rx.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.to, self.want = tuple(spec["to"]), spec["want"]
        self.family = socket.AF_INET6 if ":" in spec["want"] else socket.AF_INET
        self.sent_at, self.source = [], []
        self.first = 0  # those before it do not count

    def send(self, port):
        with socket.socket(self.family, socket.SOCK_DGRAM) as tx:
            try:
                tx.bind(("", port))
                self.sent_at.append(time.monotonic())
                self.source.append(None)
                tx.sendto(b"probe %d" % (len(self.sent_at) - 1), self.to)
            except OSError:
                pass  # a port that is taken; or no route: that one is lost

    def drain(self):
        while True:
            try:
                data, peer = self.rx.recvfrom(64)
            except BlockingIOError:
                return
            except OSError:
                continue
            if data.startswith(b"probe "):
                self.source[int(data[6:])] = peer[0]

    def result(self):
        pairs = list(zip(self.sent_at, self.source))[self.first:]
        return {
            "sent": len(pairs),
            "lost": [t for t, s in pairs if s is None],
            "wrong": [(t, s) for t, s in pairs if s not in (None, self.want)],
        }


def _main(spec):
    paths = [_Path(p) for p in spec["paths"]]
    interval = spec["interval_ms"] / 1000
    poll = select.poll()
    for path in paths:
        poll.register(path.rx, select.POLLIN)
    poll.register(0, select.POLLIN)
    port, due, end, begun = 20000, time.monotonic(), None, False
    while True:
        now = time.monotonic()
        if end is None and now >= due:
            for path in paths:
                path.send(port)
            port = port + 1 if port < 60000 else 20000
            due = max(due + interval, now)
        events = poll.poll(max(0, due - time.monotonic()) * 1000 if end is None else 5)
        for path in paths:
            path.drain()
        if not begun and all(any(p.source) for p in paths):
            # What the first packets meet (neighbour discovery) is not what is asked.
            for path in paths:
                path.first = len(path.source)
            begun = True
            print("flows", flush=True)
        if end is None and any(fd == 0 for fd, _ in events):
            sys.stdin.readline()
            end = now + 1.0
            poll.unregister(0)
        if end and (now > end or all(p.source[-1] for p in paths)):
            print(json.dumps([p.result() for p in paths]), flush=True)
            return


if __name__ == "__main__":
    _main(json.loads(sys.argv[1]))
