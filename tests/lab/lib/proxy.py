# SPDX-License-Identifier: Apache-2.0
"""proxy.py - an HTTP proxy on the lab's first switch: CONNECT, and nothing else

    proxy = Proxy(topo, user="u:p")     # .230, port 3128
    proxy.url                           # http://192.168.64.230:3128
    proxy.asked()                       # ["192.168.64.240:6443", ...]

What it connects to sees the proxy's address. With user it wants that as Basic authorization.
"""

import base64
import contextlib
import os
import socket
import subprocess
import sys
import threading

from .expect import wait_until
from .service import Service

PORT = 3128
_LAB = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Proxy(Service):
    def __init__(self, topo, user=""):
        self.ns, (self.address, *_) = topo.server("p1", 230)
        self.url = f"http://{self.address}:{PORT}"
        self._log = os.path.join(topo.lab.dir, f"proxy{topo.number}.log")
        with open(self._log, "ab") as log:
            self.process = self.ns.popen(
                sys.executable, "-S", "-m", "lib.proxy", self.address, user,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=_LAB,
                start_new_session=True)

        def listens():
            with self.ns.socket(kind=socket.SOCK_STREAM) as s:
                s.connect((self.address, PORT))
            return True

        wait_until(listens, what="the proxy listens")

    def asked(self):
        """Whereto, in order; "-" before what was refused."""
        with open(self._log, encoding="utf-8") as f:
            return f.read().split()


def _copy(src, dst):
    with contextlib.suppress(OSError):
        while data := src.recv(65536):
            dst.sendall(data)
    for s in (src, dst):
        with contextlib.suppress(OSError):
            s.shutdown(socket.SHUT_RDWR)


def _converse(sock, user):
    head = b""
    while b"\r\n\r\n" not in head:
        data = sock.recv(65536)
        if not data:
            return
        head += data
    lines = head.decode("latin-1").split("\r\n")
    method, target = lines[0].split()[:2]
    given = [line.split()[-1] for line in lines if line.lower().startswith("proxy-auth")]
    if method != "CONNECT" or user and given != [base64.b64encode(user.encode()).decode()]:
        print(f"-{target}", flush=True)
        sock.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        return
    print(target, flush=True)
    host, _, port = target.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), 10) as server:
        server.settimeout(None)
        sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        threading.Thread(target=_copy, args=(server, sock), daemon=True).start()
        _copy(sock, server)


def _serve(sock, user):
    with sock, contextlib.suppress(OSError):
        _converse(sock, user)


def main(address, user):
    listener = socket.create_server((address, PORT))
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_serve, args=(sock, user), daemon=True).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
