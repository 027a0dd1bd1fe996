# SPDX-License-Identifier: Apache-2.0
"""flows - connections and packets between two namespaces, one after the other

Both ends are in this process, and on one CPU: a packet goes all its way within the system
call that sends it, nobody is woken, and what is measured is what it costs.
"""
import contextlib
import os
import socket
import struct
import time

PORT = 7777
NOW = struct.pack("ii", 1, 0)  # SO_LINGER: closing resets, nothing lingers


@contextlib.contextmanager
def one_cpu():
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class Flow:
    """From @client to @server, namespaces, of which the latter has @address."""

    def __init__(self, client, server, address):
        self.client, self.to = client, (address, PORT)
        with server.entered():
            self.listener = socket.create_server(self.to)
            self.sink = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.sink.bind(self.to)
        for s in (self.listener, self.sink):
            s.settimeout(5)
        with client.entered():
            self.source = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.source.connect(self.to)

    def seen_as(self):
        """The address from which a connection seems to come."""
        with self.client.entered():
            s = socket.create_connection(self.to, 5)
        came, peer = self.listener.accept()
        came.close()
        s.close()
        return peer[0]

    def connections(self, n):
        """How many a second, each new."""
        with one_cpu(), self.client.entered():
            begin = time.monotonic_ns()
            for _ in range(n):
                s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
                s.connect(self.to)
                came, _ = self.listener.accept()
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NOW)
                s.close()
                came.close()
            return n * 10 ** 9 / (time.monotonic_ns() - begin)

    def packets(self, n):
        """How many a second in one flow."""
        with one_cpu():
            begin = time.monotonic_ns()
            for _ in range(n):
                self.source.send(b"x")
                self.sink.recv(16)
            return n * 10 ** 9 / (time.monotonic_ns() - begin)

    def close(self):
        for s in (self.listener, self.sink, self.source):
            s.close()
