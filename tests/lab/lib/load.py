# SPDX-License-Identifier: Apache-2.0
"""load.py - much traffic between pods, of which every byte is looked at

Bulk is TCP, Datagrams is UDP; both run in threads from the beginning of a with block, and
have checked all of it at its end. Each knows what must come by its place alone, so that
there is nothing to keep: 10 GB are as easy as one.
"""

import contextlib
import random
import socket
import threading
import time

from . import expect

_BLOCK = random.Random(7).randbytes(1_000_003)  # no size of a packet or buffer divides it
_CHUNK = 1 << 18


class Bulk:
    """TCP streams from pod to pod: size bytes in all, or (None) as many as go until the end."""

    def __init__(self, src, dst, size=None, streams=4, timeout=30.0):
        self.src, self.dst, self.streams = src, dst, streams
        self.each = None if size is None else size // streams
        self.timeout = timeout * expect.TIME_FACTOR
        self.received = [0] * streams
        self.seconds = 0.0
        self._problems, self._threads, self._sockets = [], [], []
        self._enough = False

    def _run(self, what, *args):
        try:
            what(*args)
        except (OSError, AssertionError) as e:
            self._problems.append(f"{what.__name__}: {e}")

    def _send(self, sock, start):
        data = memoryview(_BLOCK + _BLOCK[:_CHUNK])
        at, left = start, self.each
        while not self._enough and left != 0:
            n = sock.send(data[at:at + (_CHUNK if left is None else min(left, _CHUNK))])
            at = (at + n) % len(_BLOCK)
            left = left if left is None else left - n
        sock.shutdown(socket.SHUT_WR)

    def _receive(self, sock, start, i):
        data, buffer = memoryview(_BLOCK + _BLOCK[:_CHUNK]), bytearray(_CHUNK)
        view, at = memoryview(buffer), start
        while n := sock.recv_into(buffer):
            assert view[:n] == data[at:at + n], f"damaged within {n} bytes at {self.received[i]}"
            at = (at + n) % len(_BLOCK)
            self.received[i] += n
        assert self.each in (None, self.received[i]), f"ended at {self.received[i]}"

    def __enter__(self):
        with self.dst.ns.socket(kind=socket.SOCK_STREAM) as listener:
            listener.bind((self.dst.addresses[0], 0))
            listener.listen()
            listener.settimeout(self.timeout)
            for i in range(self.streams):
                near = self.src.ns.socket(kind=socket.SOCK_STREAM)
                near.settimeout(self.timeout)
                near.connect(listener.getsockname())
                far, peer = listener.accept()
                assert peer[0] == self.src.addresses[0]
                far.settimeout(self.timeout)
                self._sockets += [near, far]
                start = i * 77_777
                self._threads += [
                    threading.Thread(target=self._run, args=(self._send, near, start)),
                    threading.Thread(target=self._run, args=(self._receive, far, start, i)),
                ]
        self._begun = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def wait_more(self, size=1 << 20, timeout=20.0):
        """Every stream goes on."""
        before = list(self.received)
        expect.wait_until(lambda: all(b - a > size // self.streams or self.each == b
                                      for a, b in zip(before, self.received)),
                          timeout, f"{size} bytes more: {self._problems}")

    def __exit__(self, kind, value, traceback):
        self._enough = self.each is None or kind is not None
        if kind is not None:
            for sock in self._sockets:
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self.seconds = time.monotonic() - self._begun
        for sock in self._sockets:
            sock.close()
        assert kind is not None or not self._problems, self._problems


class Datagrams:
    """Numbered datagrams from pod to pod, a window of them on their way. After the block:
    how many were sent, came, came twice, came after a later one."""

    def __init__(self, src, dst, window=128, sizes=(8, 60, 64, 500, 1400, 1444)):
        self.window, self.sizes = window, sizes
        self.sent = self.came = self.twice = self.late = 0
        self._seen, self._problems, self._done = bytearray(1 << 22), [], False
        self._tx, self._rx = src.ns.socket(), dst.ns.socket()
        self._rx.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
        self._rx.bind((dst.addresses[0], 0))
        self._rx.settimeout(0.02)
        self._tx.settimeout(1)
        self._tx.bind((src.addresses[0], 0))
        self._tx.connect(self._rx.getsockname())
        self._threads = [threading.Thread(target=t) for t in (self._send, self._receive)]

    def _words(self, number):
        at = number * 4099 % (len(_BLOCK) - 65536)
        size = self.sizes[number // 16 % len(self.sizes)]
        return number.to_bytes(8, "big") + _BLOCK[at:at + size - 8]

    def _send(self):
        waited_for = 0
        while not self._done and self.sent < len(self._seen):
            if self.sent - max(self.came, waited_for) >= self.window:
                # Those that do not come are lost, and waited for no longer.
                limit, came = time.monotonic() + 0.05, self.came
                while self.came == came and time.monotonic() < limit:
                    time.sleep(0.0005)
                if self.came == came:
                    waited_for = self.sent
                continue
            try:
                self._tx.send(self._words(self.sent))
            except OSError:
                pass  # as good as lost
            self.sent += 1

    def _receive(self):
        last = -1
        while not self._done:
            try:
                words = self._rx.recv(65536)
            except TimeoutError:
                continue
            number = int.from_bytes(words[:8], "big")
            if number >= self.sent + 1 or words != self._words(number):
                self._problems.append(f"damaged: {words[:16].hex()}, {len(words)} bytes")
                continue
            self.twice += self._seen[number]
            self._seen[number] = 1
            self.late += number < last
            last = max(number, last)
            self.came += 1

    def wait_more(self, n=200, timeout=10.0):
        before = self.came
        expect.wait_until(lambda: self.came >= before + n, timeout, f"{n} datagrams more")

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind, value, traceback):
        self._done = True
        for thread in self._threads:
            thread.join()
        # What is still on its way came.
        self._done = False
        self._rx.settimeout(0.3 * expect.TIME_FACTOR)
        while True:
            try:
                words = self._rx.recv(65536)
            except TimeoutError:
                break
            number = int.from_bytes(words[:8], "big")
            self.twice += self._seen[number]
            self._seen[number] = 1
            self.came += 1
        self._tx.close()
        self._rx.close()
        assert kind is not None or not self._problems, self._problems[:5]


@contextlib.contextmanager
def repeated(send):
    """Calls send() without a pause, in a thread, whatever becomes of what it sends."""
    enough = threading.Event()

    def run():
        while not enough.is_set():
            with contextlib.suppress(OSError):
                send()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()
