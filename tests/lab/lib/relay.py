# SPDX-License-Identifier: Apache-2.0
"""relay.py - a bad wire: between a host's port and its switch, what loses, doubles and swaps

Run as a program it carries frames between two devices until its standard input ends, and
then prints what it did to datagrams of backend udp, per direction (from the host, to it).
"""

import json
import os
import random
import select
import socket
import struct
import subprocess
import sys

from .udp import PORT

_IDLE = 0.004  # held ones do not wait longer for others to overtake them


class BadWire:
    """To one host, during the with block; seen is there after it."""

    def __init__(self, topo, host, **policy):
        self.switch, self.port = topo.switches[0], host.nics["eth0"].port
        self.policy, self.seen = policy, None
        for other in topo:
            # A relay sees frames as they are on a wire: of one packet, with checksums.
            other.run("ethtool", "-K", "eth0", "tx", "off")

    def __enter__(self):
        self.switch.ip("link add name bad0 type veth peer name bad1",
                       f"link set {self.port} nomaster", "link set bad1 master br0 up",
                       "link set bad0 up")
        self.process = self.switch.popen(
            sys.executable, "-m", "lib.relay", self.port, "bad0", json.dumps(self.policy),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            cwd=os.path.dirname(os.path.dirname(__file__)))
        assert self.process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.seen = json.loads(self.process.stdout.read())
        self.process.wait()
        self.switch.ip("link del bad0", f"link set {self.port} master br0")


def _device(name):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    sock.bind((name, 3))
    sock.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
    return sock


def _is_ours(frame):
    return len(frame) > 42 and frame[12:14] == b"\x08\0" and frame[23] == 17 \
        and struct.unpack_from("!H", frame, 36)[0] == PORT


class _Way:
    def __init__(self, to, policy):
        self.to, self.policy, self.held = to, policy, []
        self.random = random.Random(policy.get("seed", 1))
        self.seen = {"came": 0, "lost": 0, "doubled": 0, "held": 0}

    def carry(self, frame):
        if not _is_ours(frame):
            self.to.send(frame)
            return
        self.seen["came"] += 1
        dice = self.random.random()
        for what in ("lost", "doubled", "held"):
            share = self.policy.get(what, 0)
            if dice < share:
                self.seen[what] += 1
                break
            dice -= share
        else:
            what = ""
        if what == "held":
            self.held.append((self.seen["came"] + self.random.randint(1, 8), frame))
        elif what != "lost":
            for _ in range(2 if what == "doubled" else 1):
                self.to.send(frame)
        self.release(self.seen["came"])

    def release(self, until):
        for entry in [e for e in self.held if e[0] <= until]:
            self.held.remove(entry)
            self.to.send(entry[1])


def _main(near, far, policy):
    near, far = _device(near), _device(far)
    ways = {near: _Way(far, json.loads(policy)), far: _Way(near, json.loads(policy))}
    print("ready", flush=True)
    while True:
        ready = select.select([near, far, sys.stdin], [], [], _IDLE)[0]
        if sys.stdin in ready:
            break
        if not ready:
            for way in ways.values():
                way.release(1 << 62)
        for sock in ready:
            frame, address = sock.recvfrom(65536)
            if address[2] != 4:  # PACKET_OUTGOING
                ways[sock].carry(frame)
    print(json.dumps([way.seen for way in ways.values()]))


if __name__ == "__main__":
    _main(*sys.argv[1:])
