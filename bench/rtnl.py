# SPDX-License-Identifier: Apache-2.0
"""rtnl - as much rtnetlink as measuring needs: requests, dumps, a monitor

An entry is a small tuple, the same whether it comes from a dump or a notification:
("route", "10.1.0.0", 24, "10.1.0.0"), ("neigh", ip, mac), ("fdb", mac, remote),
("addr", ip, prefix length), each of one device, IPv4 only.
"""
import contextlib
import errno
import os
import socket
import struct
import time

NEWLINK, DELLINK, GETLINK = 16, 17, 18
NEWADDR, DELADDR, GETADDR = 20, 21, 22
NEWROUTE, DELROUTE, GETROUTE = 24, 25, 26
NEWNEIGH, DELNEIGH, GETNEIGH = 28, 29, 30
NLMSG_ERROR, NLMSG_DONE = 2, 3
F_REQUEST, F_ACK, F_DUMP = 1, 4, 0x300
F_REPLACE, F_CREATE = 0x100, 0x400
IPV4_ROUTES = 1 << 6
GROUPS = 1 << 0 | 1 << 2 | 1 << 4 | IPV4_ROUTES  # link, neigh, IPv4 address
AF_BRIDGE = 7
RT_TABLE_MAIN, RTPROT_BOOT, RTN_UNICAST, RTNH_F_ONLINK = 254, 3, 1, 4
NUD_PERMANENT, NTF_SELF = 0x80, 2
SOL_NETLINK, NETLINK_STRICT_CHK, SO_RCVBUFFORCE = 270, 12, 33
HEADER = struct.Struct("=IHHII")


def attr(kind, data):
    return struct.pack("=HH", 4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def attrs(data):
    found, at = {}, 0
    while at + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, at)
        if size < 4:
            break
        found[kind & 0x3FFF] = data[at + 4 : at + size]
        at += (size + 3) & ~3
    return found


def messages(data):
    at = 0
    while at + 16 <= len(data):
        size, kind, flags, seq, _ = HEADER.unpack_from(data, at)
        if size < 16:
            break
        yield kind, flags, seq, data[at + 16 : at + size]
        at += (size + 3) & ~3


def mac_text(raw):
    return ":".join("%02x" % b for b in raw)


def mac_raw(text):
    return bytes.fromhex(text.replace(":", ""))


def parse(kind, body):
    """(ifindex, entry) of a message about an entry, or None."""
    if kind in (NEWROUTE, DELROUTE):
        family, dst_len, _, _, table, _, _, _, _ = struct.unpack_from("=BBBBBBBBI", body)
        a = attrs(body[12:])
        if family != socket.AF_INET or table != RT_TABLE_MAIN or 4 not in a or 1 not in a:
            return None
        via = socket.inet_ntoa(a[5]) if 5 in a else ""
        return struct.unpack("=i", a[4])[0], ("route", socket.inet_ntoa(a[1]), dst_len, via)
    if kind in (NEWNEIGH, DELNEIGH):
        family, _, _, ifindex, state, _, _ = struct.unpack_from("=BBHiHBB", body)
        a = attrs(body[12:])
        if not state & NUD_PERMANENT or 2 not in a or len(a.get(1, b"")) != 4:
            return None
        if family == AF_BRIDGE:
            return ifindex, ("fdb", mac_text(a[2]), socket.inet_ntoa(a[1]))
        return ifindex, ("neigh", socket.inet_ntoa(a[1]), mac_text(a[2]))
    if kind in (NEWADDR, DELADDR):
        family, length, _, _, ifindex = struct.unpack_from("=BBBBi", body)
        a = attrs(body[8:])
        if family != socket.AF_INET or 2 not in a:
            return None
        return ifindex, ("addr", socket.inet_ntoa(a[2]), length)
    return None


def change(entry, ifindex, add):
    """The request that adds (or deletes) @entry."""
    kind = entry[0]
    flags = F_REQUEST | (F_CREATE | F_REPLACE if add else 0)
    if kind == "route":
        command = NEWROUTE if add else DELROUTE
        onlink = RTNH_F_ONLINK if entry[3] else 0
        scope = 0 if entry[3] else 253
        body = struct.pack("=BBBBBBBBI", socket.AF_INET, entry[2], 0, 0, RT_TABLE_MAIN,
                           RTPROT_BOOT if add else 0, scope if add else 255, RTN_UNICAST,
                           onlink if add else 0)
        body += attr(1, socket.inet_aton(entry[1])) + attr(4, struct.pack("=i", ifindex))
        if entry[3]:
            body += attr(5, socket.inet_aton(entry[3]))
    elif kind == "addr":
        command = NEWADDR if add else DELADDR
        raw = attr(2, socket.inet_aton(entry[1])) + attr(1, socket.inet_aton(entry[1]))
        body = struct.pack("=BBBBi", socket.AF_INET, entry[2], 0, 0, ifindex) + raw
    else:
        command = NEWNEIGH if add else DELNEIGH
        fdb = kind == "fdb"
        body = struct.pack("=BBHiHBB", AF_BRIDGE if fdb else socket.AF_INET, 0, 0, ifindex,
                           NUD_PERMANENT, NTF_SELF if fdb else 0, 0)
        ip, mac = (entry[2], entry[1]) if fdb else (entry[1], entry[2])
        body += attr(1, socket.inet_aton(ip))
        if fdb or add:
            body += attr(2, mac_raw(mac))
    return command, flags, body


def link_delete(ifindex):
    return DELLINK, F_REQUEST, struct.pack("=BBHiII", 0, 0, 0, ifindex, 0, 0)


def vxlan_create(name, vni, port, local, lower_ifindex, mtu):
    """The request that makes a vxlan device which learns nothing, and sets it up."""
    data = attr(1, struct.pack("=I", vni)) + attr(3, struct.pack("=I", lower_ifindex))
    data += attr(4, socket.inet_aton(local)) + attr(7, b"\0") + attr(15, struct.pack("!H", port))
    info = attr(1, b"vxlan\0") + attr(2, data)
    body = struct.pack("=BBHiII", 0, 0, 0, 0, 1, 1)
    body += attr(3, name.encode() + b"\0") + attr(4, struct.pack("=I", mtu)) + attr(18, info)
    return NEWLINK, F_REQUEST | F_CREATE, body


def is_link(body, name):
    return attrs(body[16:]).get(3, b"").rstrip(b"\0").decode() == name


def encode(requests):
    """One buffer of many requests; the last one asks for an answer."""
    out = []
    for seq, (kind, flags, body) in enumerate(requests, 1):
        flags |= F_ACK if seq == len(requests) else 0
        out.append(HEADER.pack(16 + len(body), kind, flags, seq, 0) + body)
    return b"".join(out), len(out)


def enlarge(sock, size):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)  # as far as anybody may
    with contextlib.suppress(PermissionError):  # only the first user namespace may
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)


class Requests:
    """A request socket; made in the network namespace that the thread is in."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
        self.socket.setsockopt(SOL_NETLINK, NETLINK_STRICT_CHK, 1)
        enlarge(self.socket, 8 << 20)
        self.socket.bind((0, 0))
        self.socket.settimeout(10)

    def send(self, encoded):
        """Sends what encode() made; OSError when the kernel refused any of it."""
        data, last = encoded
        self.socket.send(data)
        failure = 0
        while True:
            for kind, _, seq, body in messages(self.socket.recv(65536)):
                if kind != NLMSG_ERROR:
                    continue
                code = struct.unpack_from("=i", body)[0]
                failure = failure or -code
                if seq == last:
                    if failure:
                        raise OSError(failure, os.strerror(failure))
                    return

    def dump(self, kind, body):
        """(message type, body) of each object. To be read to its end: the next answers
        stand in the same queue."""
        self.socket.send(HEADER.pack(16 + len(body), kind, F_REQUEST | F_DUMP, 0, 0) + body)
        while True:
            for kind, _, _, answer in messages(self.socket.recv(1 << 17)):
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", answer)[0]
                    raise OSError(code, os.strerror(code))
                yield kind, answer

    def link(self, name):
        """(ifindex, MAC, MTU, up) of a device, or None."""
        found = None
        for _, body in self.dump(GETLINK, struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0)):
            if is_link(body, name):
                a = attrs(body[16:])
                ifindex, flags = struct.unpack_from("=iI", body, 4)
                mtu = struct.unpack("=I", a[4])[0]
                found = ifindex, mac_text(a.get(1, b"")), mtu, bool(flags & 1)
        return found

    def entries(self, ifindex):
        """All entries on the device, as a set. Routes are those with one nexthop there."""
        found = set()
        neigh = struct.pack("=BBHiHBB", socket.AF_INET, 0, 0, 0, 0, 0, 0)
        fdb = struct.pack("=BBHiHBB", AF_BRIDGE, 0, 0, ifindex, 0, 0, 0)
        for what, body in (
            (GETROUTE, struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, 0, 0, 0, 0, 0)),
            (GETADDR, struct.pack("=BBBBi", socket.AF_INET, 0, 0, 0, 0)),
            (GETNEIGH, neigh + attr(8, struct.pack("=i", ifindex))),
            (GETNEIGH, fdb),
        ):
            for kind, answer in self.dump(what, body):
                entry = parse(kind, answer)
                if entry and entry[0] == ifindex:
                    found.add(entry[1])
        return found

    def close(self):
        self.socket.close()


class Monitor:
    """Notifications with the time at which this process read them."""

    def __init__(self, groups=GROUPS, protocol=0):
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        enlarge(self.socket, 64 << 20)
        self.socket.bind((0, groups))

    def read(self, timeout_s):
        """(time in ns, message type, body) of each; ends when nothing came for so long."""
        self.socket.settimeout(timeout_s)
        while True:
            try:
                data = self.socket.recv(1 << 17)
            except (TimeoutError, BlockingIOError):
                return
            now = time.monotonic_ns()
            for kind, _, _, body in messages(data):
                yield now, kind, body

    def drain(self):
        """What overflowed before does not matter either."""
        again = True
        while again:
            try:
                again = False
                for _ in self.read(0):
                    pass
            except OSError as why:
                if why.errno != errno.ENOBUFS:
                    raise
                again = True

    def close(self):
        self.socket.close()
