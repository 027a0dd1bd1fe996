# SPDX-License-Identifier: Apache-2.0
"""watch.py - when the kernel objects of a host changed, by the kernel's own word

A thread listens to the host's rtnetlink notifications and notes when each arrived. The
time of a repair is then the time between two notifications, the one of the loss and the
last one of the restoration; neither a command's start-up nor our polling is in it.
"""

import socket
import struct
import threading
import time

from .expect import wait_until

NEWLINK, DELLINK = 16, 17
NEWADDR, DELADDR, NEWROUTE, DELROUTE, NEWNEIGH, DELNEIGH = 20, 21, 24, 25, 28, 29
_NLMSG = struct.Struct("=IHHII")
_IFLA_IFNAME = 3
# RTMGRP_LINK, _NEIGH, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE
_GROUPS = 0x1 | 0x4 | 0x10 | 0x40 | 0x100 | 0x400


class Event:
    """One notification: time in seconds of the monotonic clock, message type, payload."""

    def __init__(self, at, kind, body):
        self.at, self.kind, self.body = at, kind, body

    def link_name(self):
        if self.kind not in (NEWLINK, DELLINK):
            return None
        attributes = self.body[16:]
        while len(attributes) >= 4:
            size, kind = struct.unpack_from("=HH", attributes)
            if size < 4:
                return None
            if kind == _IFLA_IFNAME:
                return attributes[4:size].rstrip(b"\0").decode()
            attributes = attributes[(size + 3) & ~3 :]
        return None

    def restores(self):
        """Whether somebody (not the kernel by itself) installed an entry of an overlay: a
        global address, a route that is not the kernel's own, a permanent neighbour or FDB
        entry."""
        if self.kind == NEWADDR:
            return self.body[3] == 0  # RT_SCOPE_UNIVERSE
        if self.kind == NEWROUTE:
            return self.body[5] != 2  # RTPROT_KERNEL
        if self.kind == NEWNEIGH:
            return bool(struct.unpack_from("=H", self.body, 8)[0] & 0x80)  # NUD_PERMANENT
        return False

    def loses(self, device):
        """Whether this says that the device, or a route or permanent entry, has gone."""
        if self.kind == DELLINK:
            return self.link_name() == device
        return self.kind == DELROUTE and self.body[5] != 2


class Watch:
    """with Watch(host.ns) as watch: ...; then watch.events."""

    def __init__(self, ns):
        self.events = []
        self._socket = ns.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        # Capped by net.core.rmem_max, unlike SO_RCVBUFFORCE, which a user namespace may not.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._socket.bind((0, _GROUPS))
        self._socket.settimeout(0.05)
        self._stop = False
        self._thread = threading.Thread(target=self._listen, daemon=True)

    def _listen(self):
        while not self._stop:
            try:
                data = self._socket.recv(1 << 16)
            except TimeoutError:
                continue
            now = time.monotonic()
            while len(data) >= _NLMSG.size:
                size, kind, _, _, _ = _NLMSG.unpack_from(data)
                self.events.append(Event(now, kind, data[_NLMSG.size : size]))
                data = data[(size + 3) & ~3 :]

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop = True
        self._thread.join()
        self._socket.close()

    def wait_quiet(self, seconds=0.02, timeout=5.0):
        """Waits until nothing has changed for so long. Looking at the host by ip(8) instead
        would hold up the repair: all of that takes turns at one lock of the kernel."""
        begun = time.monotonic()

        def quiet():
            last = self.events[-1].at if self.events else begun
            return time.monotonic() - last > seconds

        wait_until(quiet, timeout, "no more changes")

    def repair_ms(self, device):
        """Milliseconds from the loss (the first route's, or the device's) to the last
        restoration, or None."""
        return self._ms_since(next((e for e in self.events if e.loses(device)), None))

    def outage_ms(self):
        """The same, from the first thing that went. A device takes all that is on it along
        before it is gone itself, and before then nothing can be put back."""
        going = (DELLINK, DELADDR, DELROUTE, DELNEIGH)
        return self._ms_since(next((e for e in self.events if e.kind in going), None))

    def _ms_since(self, lost):
        if lost is None:
            return None
        restored = [e.at for e in self.events if e.at > lost.at and e.restores()]
        return (restored[-1] - lost.at) * 1000 if restored else None
