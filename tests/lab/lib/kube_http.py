# SPDX-License-Identifier: Apache-2.0
"""kube_http.py - one connection of the fake API server: HTTP/1.1 as Go's server writes it

An answer of more than 2048 bytes is chunked, in one chunk; a smaller one has a Content-Length.
A watch is chunked, one chunk an event. Connections stay open.
"""

import email.utils
import http
import itertools
import socket
import ssl
import struct
import time
import urllib.parse
import uuid

_HEAD_MAX = 1 << 20
_UNCHUNKED_MAX = 2048
# What Go's server says to a client that begins with a method.
_NO_TLS = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"


class Gone(Exception):
    """The connection is at its end."""


class Malformed(Exception):
    """What came is no HTTP/1.1 request."""


class Request:
    def __init__(self, method, target, headers, body):
        self.method, self.headers, self.body = method, headers, body
        self.target = target
        path, _, query = target.partition("?")
        self.path = urllib.parse.unquote(path)
        self.query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))


class Connection:
    def __init__(self, sock, number):
        self.sock, self.number = sock, number
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server_name = None
        self._buffer = b""
        self.plain()

    def plain(self):
        """No fault is in what is written."""
        self._sizes, self._pause, self._body_left = None, 0, None
        self._reset, self.record = False, None

    def split(self, sizes, pause=0):
        self._sizes = itertools.cycle([sizes] if isinstance(sizes, int) else sizes)
        self._pause = pause

    def cut(self, after, reset=False):
        """Ends after so many bytes of the body, chunk sizes included."""
        self._body_left, self._reset = after, reset

    # -- TLS ---------------------------------------------------------------------------

    def handshake(self, context):
        self.sock.settimeout(10)
        if self.sock.recv(1, socket.MSG_PEEK) in b"CDGHOPT":
            self.sock.recv(_HEAD_MAX)
            self.sock.sendall(_NO_TLS)
            raise Gone
        self.sock = context.wrap_socket(self.sock, server_side=True)
        self.server_name = getattr(self.sock, "weft_server_name", None)
        self.sock.settimeout(None)

    def certificate(self):
        return self.sock.getpeercert() if isinstance(self.sock, ssl.SSLSocket) else None

    def tls_version(self):
        return self.sock.version() if isinstance(self.sock, ssl.SSLSocket) else None

    # -- reading -----------------------------------------------------------------------

    def _more(self):
        data = self.sock.recv(65536)
        if not data:
            raise Gone
        self._buffer += data

    def _line(self):
        while b"\r\n" not in self._buffer:
            self._more()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line.decode("latin-1")

    def _bytes(self, count):
        while len(self._buffer) < count:
            self._more()
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        return data

    def read(self):
        """The next Request; Gone at the end of the connection."""
        try:
            return self._read()
        except ValueError as e:
            raise Malformed(str(e)) from None

    def _read(self):
        while b"\r\n\r\n" not in self._buffer:
            self._more()
            if len(self._buffer) > _HEAD_MAX:
                raise Gone
        method, target, _ = self._line().split(" ", 2)
        headers = {}
        while line := self._line():
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        if headers.get("expect", "").lower() == "100-continue":
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = b""
            while size := int(self._line().split(";")[0], 16):
                body += self._bytes(size)
                self._line()
            while self._line():
                pass
        else:
            body = self._bytes(int(headers.get("content-length") or 0))
        return Request(method, target, headers, body)

    def is_gone(self):
        """Whether the client ended it, for one that is readable. What else may come while an
        answer is under way is kept."""
        self.sock.setblocking(False)
        try:
            data = self.sock.recv(65536)
            self._buffer += data
            return not data
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        except OSError:
            return True
        finally:
            self.sock.setblocking(True)

    # -- writing -----------------------------------------------------------------------

    def send(self, data):
        """Writes, through what faults there are."""
        # Before it goes: who has read it finds it counted.
        if self.record is not None:
            self.record["sent"] += len(data)
        if self._sizes is None:
            self.sock.sendall(data)
        else:
            view, at = memoryview(data), 0
            while at < len(view):
                size = next(self._sizes)
                self.sock.sendall(view[at : at + size])
                at += size
                if self._pause:
                    time.sleep(self._pause)

    def send_body(self, data):
        if self._body_left is not None:
            data = data[: self._body_left]
            self._body_left -= len(data)
        self.send(data)
        if self._body_left == 0:
            self.abandon(self._reset)

    def abandon(self, reset=False):
        """No more is said; reset: RST instead of FIN."""
        if reset:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raise Gone

    def head(self, status, headers, length=None):
        """length None: what follows is chunked."""
        own = {"Audit-Id": str(uuid.uuid4()), "Cache-Control": "no-cache, private", **headers}
        lines = [f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}"]
        lines += [f"{name}: {value}" for name, value in sorted(own.items())]
        lines.append(f"Date: {email.utils.formatdate(usegmt=True)}")
        lines.append("Transfer-Encoding: chunked" if length is None
                     else f"Content-Length: {length}")
        if self.record is not None:
            self.record["status"] = status
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def answer(self, status, headers, body):
        """A whole answer."""
        if len(body) <= _UNCHUNKED_MAX:
            head = self.head(status, headers, len(body))
            if self._body_left is None:
                self.send(head + body)
                return
            self.send(head)
            self.send_body(body)
            return
        self.send(self.head(status, headers))
        if self._body_left is None and len(body) > 65536:
            self.send(b"%x\r\n" % len(body))
            self.send(body)
            self.send(b"\r\n0\r\n\r\n")
        else:
            self.send_body(chunk(body) + b"0\r\n\r\n")

    def close(self):
        self.sock.close()


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)
