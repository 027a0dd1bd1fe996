# SPDX-License-Identifier: Apache-2.0
"""inner_packets.py - packets that pods send, and worse ones, put into a tun and seen on another

An Injector gives a device packets as the kernel would that sends by it, super-packets
included; a Tap sees what a data path writes to a device, before the kernel has judged it,
cut into the packets it stands for.
"""

import select
import socket
import struct
import time

from . import expect

SOL_PACKET, PACKET_VNET_HDR, PACKET_OUTGOING = 263, 15, 4
ETH_P_ALL, ETH_P_IP, ETH_P_IPV6 = 3, 0x0800, 0x86DD
NEEDS_CSUM, GSO_NONE, GSO_TCPV4, GSO_UDP_L4 = 1, 0, 1, 5
TCP, UDP, ICMP = 6, 17, 1
FIN, SYN, RST, PSH, ACK, URG, ECE, CWR = (1 << i for i in range(8))
_VNET = struct.Struct("=BBHHHH")


def checksum(data, total=0):
    data = bytes(data) + b"\0" * (len(data) % 2)
    total += sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pattern(n, seed=0):
    """n bytes that differ from those of other seeds."""
    block = bytes((i * 7 + seed * 31 + (i >> 8)) & 0xFF for i in range(min(n, 4096)))
    return (block * (n // 4096 + 1))[:n]


class Maker:
    """Packets from one inner address to another."""

    def __init__(self, src, dst):
        self.src, self.dst = socket.inet_aton(src), socket.inet_aton(dst)

    def ip(self, proto, payload, *, tos=0, ident=0, frag=0, ttl=64, options=b"", total=None,
           header=None, check=None):
        ihl = 5 + len(options) // 4
        head = struct.pack("!BBHHHBBH4s4s", header or 0x40 | ihl, tos,
                           20 + len(options) + len(payload) if total is None else total, ident,
                           frag, ttl, proto, 0, self.src, self.dst) + options
        check = checksum(head) if check is None else check
        return head[:10] + struct.pack("!H", check) + head[12:] + payload

    def pseudo(self, proto, length):
        return sum(struct.unpack("!4H", self.src + self.dst)) + proto + length

    def tcp(self, payload=b"", *, flags=ACK, seq=1000, ack=7, options=b"", port=4001, window=512,
            urgent=0, bad=0, **how):
        """bad: what to spoil the checksum with."""
        head = struct.pack("!HHIIBBHHH", port, 5001, seq & 0xFFFFFFFF, ack, (5 + len(options) // 4) << 4,
                           flags, window, 0, urgent) + options
        check = checksum(head + payload, self.pseudo(TCP, len(head) + len(payload))) ^ bad
        return self.ip(TCP, head[:16] + struct.pack("!H", check) + head[18:] + payload, **how)

    def udp(self, payload=b"", *, port=4002, check=None, length=None, **how):
        head = struct.pack("!HHHH", port, 5002, 8 + len(payload) if length is None else length, 0)
        if check is None:
            check = checksum(head + payload, self.pseudo(UDP, 8 + len(payload))) or 0xFFFF
        return self.ip(UDP, head[:6] + struct.pack("!H", check) + payload, **how)

    def icmp(self, payload=b"", *, kind=8, **how):
        body = struct.pack("!BBHHH", kind, 0, 0, 77, 1) + payload
        return self.ip(ICMP, body[:2] + struct.pack("!H", checksum(body)) + body[4:], **how)

    def fragments(self, packet, mtu=1472):
        """What a router makes of a packet."""
        step = (mtu - 20) & ~7
        ident, proto, ttl = struct.unpack("!H", packet[4:6])[0], packet[9], packet[8]
        body = packet[20:]
        return [self.ip(proto, body[at:at + step], ident=ident, ttl=ttl,
                        frag=at >> 3 | (0x2000 if at + step < len(body) else 0))
                for at in range(0, len(body), step)]


# -- super-packets -----------------------------------------------------------------------

def vnet(packet=None, size=0):
    """The header of a packet with the segment size; None: of one that is what it is."""
    if not size:
        return bytes(_VNET.size)
    tcp = packet[9] == TCP
    ihl = (packet[0] & 15) * 4
    head = ihl + ((packet[ihl + 12] >> 4) * 4 if tcp else 8)
    return _VNET.pack(NEEDS_CSUM, GSO_TCPV4 if tcp else GSO_UDP_L4, head, size, ihl,
                      16 if tcp else 6)


def unfinished(packet):
    """A TCP or UDP packet with the sum of the pseudo header in the place of its checksum."""
    ihl = (packet[0] & 15) * 4
    at = ihl + (16 if packet[9] == TCP else 6)
    total = sum(struct.unpack("!4H", packet[12:20])) + packet[9] + len(packet) - ihl
    return packet[:at] + struct.pack("!H", checksum(b"", total) ^ 0xFFFF) + packet[at + 2:]


def _finish(packet, start, offset):
    packet = bytearray(packet)
    packet[start + offset:start + offset + 2] = b"\0\0"
    total = sum(struct.unpack("!4H", packet[12:20])) + packet[9] + len(packet) - start
    check = checksum(packet[start:], total)
    if packet[9] == UDP:
        check = check or 0xFFFF
    packet[start + offset:start + offset + 2] = struct.pack("!H", check)
    return bytes(packet)


def split(head, packet):
    """The packets that a packet with a vnet header stands for, as one receives them singly."""
    flags, kind, _, size, start, offset = _VNET.unpack(head)
    kind &= 0x7F  # ECN
    if kind == GSO_NONE:
        return [_finish(packet, start, offset)] if flags & NEEDS_CSUM else [packet]
    tcp = kind == GSO_TCPV4
    ihl = (packet[0] & 15) * 4
    head_len = ihl + ((packet[ihl + 12] >> 4) * 4 if tcp else 8)
    body, out = packet[head_len:], []
    ident, = struct.unpack("!H", packet[4:6])
    for i, at in enumerate(range(0, len(body), size)):
        part = bytearray(packet[:head_len] + body[at:at + size])
        struct.pack_into("!HH", part, 2, len(part), ident + i & 0xFFFF)
        part[10:12] = b"\0\0"
        struct.pack_into("!H", part, 10, checksum(part[:ihl]))
        if tcp:
            seq, = struct.unpack_from("!I", part, ihl + 4)
            struct.pack_into("!I", part, ihl + 4, seq + at & 0xFFFFFFFF)
            if at:
                part[ihl + 13] &= ~CWR
            if at + size < len(body):
                part[ihl + 13] &= ~(FIN | PSH)
        else:
            struct.pack_into("!H", part, ihl + 4, len(part) - ihl)
        out.append(_finish(part, ihl, 16 if tcp else 6))
    return out


# -- devices -----------------------------------------------------------------------------

class Injector:
    """Sends by a device of a host, past its routes and its firewall."""

    def __init__(self, host, device="flannel0"):
        self.device = device
        self.socket = host.ns.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)

    def send(self, packet, size=0):
        """size: it is a super-packet of segments with that much payload."""
        proto = ETH_P_IPV6 if packet[0] >> 4 == 6 else ETH_P_IP
        self.socket.sendto(vnet(packet, size) + packet, (self.device, proto))

    def close(self):
        self.socket.close()


class Tap:
    """What is written to a device of a host, from now on."""

    def __init__(self, host, device="flannel0"):
        self.socket = host.ns.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self.socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        self.socket.bind((device, ETH_P_ALL))

    def read(self, is_last, timeout=5.0):
        """Packets until is_last(packet, number), that one included, or until none comes."""
        deadline = time.monotonic() + timeout * expect.TIME_FACTOR
        out = []
        while True:
            left = max(0, deadline - time.monotonic())
            if not select.select([self.socket], [], [], left)[0]:
                return out
            frame, address = self.socket.recvfrom(1 << 17)
            if address[2] == PACKET_OUTGOING:
                continue
            for packet in split(frame[:_VNET.size], frame[_VNET.size:]):
                out.append(packet)
                if is_last(packet, len(out)):
                    return out

    def close(self):
        self.socket.close()
