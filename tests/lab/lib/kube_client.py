# SPDX-License-Identifier: Apache-2.0
"""kube_client.py - asks an API server as flannel's user, and reads the answer as it is framed"""

import json

NODES = "/api/v1/nodes"
STRATEGIC = {"Content-Type": "application/strategic-merge-patch+json"}
MERGE = {"Content-Type": "application/merge-patch+json"}


class Stream:
    """One connection, read byte by byte as it is framed."""

    def __init__(self, kube, pair=None):
        self.kube = kube
        self.connection = kube.connect(pair=pair)
        self.sock = self.connection.sock
        self.data = b""

    def ask(self, method, target, body=b"", token=None, **headers):
        token = self.kube.token if token is None else token
        lines = [f"{method} {target} HTTP/1.1", "Host: kube", "User-Agent: lab"]
        lines += [f"Authorization: Bearer {token}"] if token else []
        lines += [f"{k.replace('_', '-')}: {v}" for k, v in headers.items()]
        lines += [f"Content-Length: {len(body)}"] if body else []
        self.sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
        return self

    def more(self):
        data = self.sock.recv(65536)
        self.data += data
        return bool(data)

    def take(self, count):
        while len(self.data) < count:
            assert self.more(), f"the connection ended at {self.data[-200:]!r}"
        taken, self.data = self.data[:count], self.data[count:]
        return taken

    def line(self):
        while b"\r\n" not in self.data:
            assert self.more(), f"the connection ended at {self.data[-200:]!r}"
        line, _, self.data = self.data.partition(b"\r\n")
        return line.decode()

    def head(self):
        status = int(self.line().split()[1])
        headers = {}
        while line := self.line():
            name, _, value = line.partition(": ")
            headers[name.lower()] = value
        return status, headers

    def chunk(self):
        data = self.take(int(self.line(), 16))
        assert self.take(2) == b"\r\n"
        return data

    def body(self, headers):
        """A body, framed as its head says."""
        if "content-length" in headers:
            return self.take(int(headers["content-length"]))
        return b"".join(iter(self.chunk, b""))

    def event(self):
        """(type, object) of the next chunk, which is one event; None at the end."""
        data = self.chunk()
        if not data:
            return None
        assert data.endswith(b"}\n") and data.count(b"\n") == 1
        raw = json.loads(data)
        assert list(raw) == ["type", "object"]
        return raw["type"], raw["object"]

    def close(self):
        self.connection.close()


def get(kube, target, method="GET", body=None, token=None, **headers):
    """(status, object) as flannel's user."""
    headers = {k.replace("_", "-"): v for k, v in headers.items()}
    status, got, data = kube.request(method, target, body, kube.token if token is None else token,
                                     headers)
    assert got["Content-Type"] == "application/json", (status, got, data)
    return status, json.loads(data)


def patch(kube, name, change, headers=None, sub="/status", **more):
    return get(kube, f"{NODES}/{name}{sub}", "PATCH", json.dumps(change),
               **(headers or STRATEGIC), **more)


def watch(stream, rv, *query, accept="application/json", **more):
    """A Stream whose head was read."""
    s = stream()
    s.ask("GET", f"{NODES}?{'&'.join(['watch=true', f'resourceVersion={rv}', *query])}",
          Accept=accept, **more)
    status, headers = s.head()
    assert (status, headers["transfer-encoding"]) == (200, "chunked"), (status, headers)
    return s


def is_status(got, code, reason, message=None):
    assert got[0] == code, got
    status = got[1]
    assert status["kind"] == "Status" and status["apiVersion"] == "v1"
    assert (status["status"], status["reason"], status["code"]) == ("Failure", reason, code)
    if message:
        assert status["message"] == message
    return True
