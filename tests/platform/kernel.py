# SPDX-License-Identifier: Apache-2.0
"""kernel.py - what the platform tests share: `ip` and friends, and a netlink listener"""

import fcntl
import json
import os
import socket
import struct
import subprocess

import pytest

RTM_NEWROUTE, RTM_DELROUTE, RTM_DELNEIGH = 24, 25, 29
RTNLGRP_NEIGH, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE = 3, 7, 11
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1
RTA_DST = NDA_DST = 1
NLMSG_HEADER = struct.Struct("=LHHLL")
ATTRIBUTE = struct.Struct("=HH")
# Of struct rtmsg and struct ndmsg, which happen to be equally long.
BODY_LENGTH = 12


def run(command, stdin=None):
    """Runs one command line; raises with what it said when it fails."""
    done = subprocess.run(command.split(), input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def fails(command, stdin=None):
    """The words with which a command fails; None when it succeeds."""
    try:
        run(command, stdin)
    except RuntimeError as e:
        return str(e)
    return None


def ip_json(arguments, tool="ip"):
    return json.loads(run(f"{tool} -j {arguments}") or "[]")


def need(command, feature):
    """Runs the command that makes what the test is about; skips where the kernel cannot."""
    why = fails(command)
    if why and ("Unknown device type" in why or "not supported" in why):
        pytest.skip(f"this kernel has no {feature}")
    assert why is None, why


def nic(name, *addresses):
    """One end of a veth pair, which more kernels have than dummy devices."""
    need(f"ip link add {name} type veth peer name {name}-peer", "veth")
    run(f"ip link set {name}-peer up")
    # Without DAD an IPv6 address can be used at once.
    for address in addresses:
        run(f"ip address add {address} dev {name}{' nodad' if ':' in address else ''}")
    run(f"ip link set {name} up")


def vxlan(name, options="id 1 dstport 8472 nolearning"):
    need(f"ip link add {name} type vxlan {options}", "vxlan")


IFF_TUN, IFF_NO_PI, TUNSETIFF, TUNSETPERSIST = 1, 0x1000, 0x400454CA, 0x400454CB


def tun(name):
    """A persistent tun device: the descriptor that is attached to it."""
    try:
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    except OSError as e:
        pytest.skip(f"this machine has no tun: {e}")
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    fcntl.ioctl(fd, TUNSETPERSIST, 1)
    return fd


def flat(entries, *keys):
    return [tuple(entry.get(key) for key in keys) for entry in entries]


def attributes(data):
    """(type, value) of each netlink attribute."""
    while len(data) >= ATTRIBUTE.size:
        length, kind = ATTRIBUTE.unpack_from(data)
        yield kind, data[ATTRIBUTE.size:length]
        data = data[(length + 3) & ~3:]


class Monitor:
    """A socket that has joined multicast groups, as the daemon's has."""

    def __init__(self, *groups, bus=socket.NETLINK_ROUTE):
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, bus)
        self._socket.bind((0, 0))
        for group in groups:
            self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._socket.close()

    def queued(self):
        """[(message type, destination address)] of what was notified so far."""
        return [(kind, self._destination(body)) for kind, body in self.messages()]

    def messages(self):
        """[(message type, body)]. The kernel notifies before it answers the request, so
        nothing has to be waited for."""
        found = []
        while True:
            try:
                data = self._socket.recv(65536, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return found
            while data:
                length, kind, _, _, _ = NLMSG_HEADER.unpack_from(data)
                found.append((kind, data[NLMSG_HEADER.size:length]))
                data = data[(length + 3) & ~3:]

    @staticmethod
    def _destination(body):
        for kind, value in attributes(body[BODY_LENGTH:]):
            if kind == RTA_DST and len(value) in (4, 16):
                family = socket.AF_INET if len(value) == 4 else socket.AF_INET6
                return socket.inet_ntop(family, value)
        return None
