# SPDX-License-Identifier: Apache-2.0
"""etcd - a real etcd on the bench's switch, and the little client that measures with it

The client speaks etcd's JSON gateway over a connection that it keeps: requests are made
beforehand, can be sent many at once (HTTP/1.1 answers in order), and are sent and read by
whoever takes the time.
"""
import base64
import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import time

import world
from lib import certs

PREFIX = "/coreos.com/network"
SUBNETS = PREFIX + "/subnets/"
ADDRESS, PORT, TLS_PORT = "192.168.77.254", 2379, 2378
LEASE_S = 86400


def b64(text):
    return base64.b64encode(text.encode()).decode()


def prefix_end(prefix):
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def request(path, body):
    text = json.dumps(body).encode()
    return b"POST /v3%s HTTP/1.1\r\nHost: etcd\r\nContent-Length: %d\r\n\r\n%s" % (
        path.encode(), len(text), text)


def put(key, value, lease=None):
    return request("/kv/put", {"key": b64(key), "value": b64(value),
                               **({"lease": str(lease)} if lease else {})})


def delete(key, end=None):
    return request("/kv/deleterange", {"key": b64(key), **({"range_end": b64(end)} if end else {})})


def _connect(ns):
    with ns.entered():
        s = socket.create_connection((ADDRESS, PORT), timeout=10)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


class Gateway:
    """A kept-alive connection."""

    def __init__(self, ns):
        self.socket = _connect(ns)
        self.buffer = b""

    def send(self, data):
        self.socket.sendall(data)

    def _take_until(self, mark):
        while mark not in self.buffer:
            self._more()
        taken, _, self.buffer = self.buffer.partition(mark)
        return taken

    def _take(self, size):
        while len(self.buffer) < size:
            self._more()
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def _more(self):
        data = self.socket.recv(1 << 18)
        if not data:
            raise world.Failure("etcd closed the connection")
        self.buffer += data

    def _chunks(self):
        """Of a long answer."""
        size = None
        while size != 0:
            size = int(self._take_until(b"\r\n"), 16)
            yield self._take(size + 2)[:-2]

    def answer(self):
        """The body of the next answer."""
        status, *lines = self._take_until(b"\r\n\r\n").lower().split(b"\r\n")
        headers = dict(line.split(b": ", 1) for line in lines)
        if b"content-length" in headers:
            body = self._take(int(headers[b"content-length"]))
        else:
            body = b"".join(self._chunks())
        if b" 200 " not in status:
            raise world.Failure("etcd: " + body.decode(errors="replace").strip()[:200])
        return body

    def call(self, data):
        self.send(data)
        return json.loads(self.answer())

    def call_many(self, requests, at_once=250):
        """So many on their way at a time."""
        for i in range(0, len(requests), at_once):
            part = requests[i:i + at_once]
            self.send(b"".join(part))
            for _ in part:
                self.answer()

    def keys(self, prefix=SUBNETS):
        """{key below the prefix: value}"""
        found = self.call(request("/kv/range", {"key": b64(prefix),
                                                "range_end": b64(prefix_end(prefix))}))
        texts = ((base64.b64decode(kv["key"]).decode(), base64.b64decode(kv.get("value", "")))
                 for kv in found.get("kvs", []))
        return {key[len(prefix):]: value.decode(errors="replace") for key, value in texts}

    def close(self):
        self.socket.close()


class Watch:
    """A watch of all keys below @prefix: what a watcher that does nothing sees."""

    def __init__(self, ns, prefix):
        self.socket = _connect(ns)
        self.buffer = b""
        self.socket.sendall(request("/watch", {"create_request": {
            "key": b64(prefix), "range_end": b64(prefix_end(prefix))}}))
        while b'"created":true' not in self.buffer:
            self.buffer += self.socket.recv(65536)
        self.buffer = b""

    def events(self):
        """(key, deleted) of each event that has arrived; blocks when nothing has."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise world.Failure("etcd ended the watch")
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        for line in lines:  # of chunks, those that are JSON
            if not line.startswith(b'{"result"'):
                continue
            for event in json.loads(line)["result"].get("events", []):
                key = base64.b64decode(event["kv"]["key"]).decode()
                yield key, event.get("type") == "DELETE"

    def wait(self, wanted, timeout_s=10):
        """Until the event (key, deleted) has come: the time at which it was read."""
        end = time.monotonic() + timeout_s
        while select.select([self.socket], [], [], max(0, end - time.monotonic()))[0]:
            events = list(self.events())
            if wanted in events:
                return time.monotonic_ns()
        raise world.Failure("etcd told of no %s within %d s" % (wanted, timeout_s))

    def close(self):
        self.socket.close()


class Etcd:
    """One member with its data on the scratch tmpfs, in a namespace on @switch, as it comes
    but for that. With @tls the daemons have a port with client certificates; who measures
    uses the plain one. It knows no key but the config."""

    def __init__(self, scratch, switch, tls=False):
        self.dir = scratch.new("etcd")
        self.switch, self.ns = switch, world.Namespace("etcd")
        switch.plug(self.ns, 254)
        self.tls = self._certificates() if tls else None
        self.process = None
        self.start()
        self.gateway = Gateway(switch.ns)
        self.reset()

    def _certificates(self):
        ca = certs.Authority(str(self.dir))
        return ca, ca.issue("server", cn="etcd", san=[ADDRESS]), ca.issue(
            "flannel", cn="flannel", server=False)

    def start(self):
        plain, urls = "http://%s:%d" % (ADDRESS, PORT), []
        args = ["etcd", "--name=e1", "--data-dir=%s" % (self.dir / "data"),
                "--listen-peer-urls=http://127.0.0.1:2380", "--logger=zap",
                "--log-outputs=stderr", "--log-level=warn"]
        if self.tls:
            ca, server, _ = self.tls
            urls = ["https://%s:%d" % (ADDRESS, TLS_PORT)]
            args += ["--cert-file=" + server.cert, "--key-file=" + server.key,
                     "--client-cert-auth", "--trusted-ca-file=" + ca.cert]
        args += ["--listen-client-urls=" + ",".join([plain, *urls]),
                 "--advertise-client-urls=" + plain]
        env = {k: v for k, v in os.environ.items() if not k.startswith("ETCD")}
        with open(self.dir / "log", "ab") as log, self.ns.entered():
            # pylint: disable=consider-using-with
            self.process = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env=env)
        self.wait_healthy()

    def wait_healthy(self):
        """Until it has a leader; the time at which it answered so."""
        def healthy():
            if self.process.poll() is not None:
                raise world.Failure("etcd ended: " + (self.dir / "log").read_text()[-300:])
            with contextlib.suppress(OSError):
                return b'"true"' in self._get("/health")

        world.wait_for("etcd", healthy)
        return time.monotonic_ns()

    def _get(self, path):
        with _connect(self.switch.ns) as s:
            s.sendall(b"GET %s HTTP/1.0\r\n\r\n" % path.encode())
            return b"".join(iter(lambda: s.recv(65536), b""))

    def kill(self):
        self.gateway.close()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        self.kill()
        self.ns.delete()

    def connect(self):
        """Again, after start()."""
        self.gateway = Gateway(self.switch.ns)

    def reset(self):
        """As before the first daemon came."""
        self.gateway.call(delete("/", prefix_end("/")))
        self.gateway.call(put(PREFIX + "/config", world.network_config()))

    def fill(self, peers):
        """Their records, each under an etcd lease of its own, as the original has it."""
        grants = [request("/lease/grant", {"TTL": str(LEASE_S), "ID": str(1 + i)})
                  for i in range(len(peers))]
        self.gateway.call_many(grants)
        self.gateway.call_many([put(SUBNETS + p.key, p.value(), 1 + i)
                                for i, p in enumerate(peers)])

    def forget_own(self):
        """The records of daemons that were stopped: they are where no peer's are."""
        self.gateway.call(delete(SUBNETS + "10.24", SUBNETS + "10.26"))

    def calls(self):
        """How many calls and streams have been begun, by whom ever."""
        lines = self._get("/metrics").decode().splitlines()
        return sum(int(line.rsplit(" ", 1)[1]) for line in lines
                   if line.startswith("grpc_server_started_total"))

    def flags(self):
        """What a daemon is started with."""
        if not self.tls:
            return ["--etcd-endpoints=http://%s:%d" % (ADDRESS, PORT)]
        ca, _, user = self.tls
        return ["--etcd-endpoints=https://%s:%d" % (ADDRESS, TLS_PORT), "--etcd-cafile=" + ca.cert,
                "--etcd-certfile=" + user.cert, "--etcd-keyfile=" + user.key]

    def etcdctl(self, *args, stdout=subprocess.DEVNULL):
        with self.switch.ns.entered():
            subprocess.run(["etcdctl", "--endpoints=http://%s:%d" % (ADDRESS, PORT), *args],
                           stdout=stdout, check=True, env=dict(os.environ, ETCDCTL_API="3"))
