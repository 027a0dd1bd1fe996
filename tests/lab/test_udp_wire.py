# SPDX-License-Identifier: Apache-2.0
"""Backend udp, packet by packet: on each rung, both ways, the bytes of the reference.

     h1     h2     h3      h1 and h2 are ours, h3 is tests/peer/udp_reference.c
    -+------+------+- sw1  ref0 on h1 and h2: the same packets by two of the reference

What is put into a tun at one end must come out of the tun at the other exactly as between
two of the reference: not a packet more or less, each flow in order, all bytes equal.
"""

import contextlib
import ipaddress
import itertools
import os
import struct

import pytest

from lib.inner_packets import (
    ACK, CWR, ECE, FIN, ICMP, PSH, RST, SYN, TCP, UDP, URG, Injector, Maker, Tap, pattern,
    unfinished,
)
from lib.udp import NETWORK, Wire, config, metrics
from lib.udp_reference import Reference, third_of_flannel

pytestmark = pytest.mark.needs("tun")

MSS = 1432
REF_PORT = 18285


# -- the packets -----------------------------------------------------------------------

def tcp_packets(m):
    for flags in (SYN, SYN | ACK, ACK, ACK | PSH, ACK | FIN, ACK | RST, RST, ACK | URG,
                  ACK | ECE, ACK | CWR, SYN | ECE | CWR, 0, 0xFF):
        for payload in (b"", b"x", pattern(100), pattern(MSS)):
            yield m.tcp(payload, flags=flags)
    yield m.tcp(pattern(99), flags=ACK | URG, urgent=7)
    timestamps = b"\1\1\x08\x0a" + b"\0\0\0\1" * 2
    for options in (b"\2\4\5\xa0", timestamps, b"\1" * 40, timestamps + b"\1\1\5\x0a" + bytes(8)):
        yield m.tcp(pattern(50), options=options)
        yield m.tcp(b"", options=options, flags=SYN)
    # Runs that can be merged, and ones that break in each of the ways there are.
    for port, how in enumerate(({}, {"tos": 1}, {"tos": 3}, {"tos": 0xB8}, {"frag": 0x4000},
                                {"options": timestamps}, {"ttl": 3}), 6000):
        size = MSS - len(how.get("options", b""))
        for i in range(12):
            yield m.tcp(pattern(size, i), seq=2**32 - 3000 + size * i, port=port, ident=65530 + i
                        & 0xFFFF, **how)
        yield m.tcp(pattern(17), seq=2**32 - 3000 + size * 12, port=port, flags=ACK | PSH, **how)
    for i, change in enumerate(({"ack": 8}, {"window": 9}, {"tos": 2}, {"ttl": 63},
                                {"frag": 0x4000}, {"seq": 5}, {"flags": ACK | FIN},
                                {"flags": ACK | CWR}, {"ident": 999})):
        base = {"port": 6100 + i, "ident": 10}
        yield m.tcp(pattern(500, 1), seq=100, **base)
        yield m.tcp(pattern(500, 2), **{"seq": 600, **base, "ident": 11, **change})
        yield m.tcp(pattern(500, 3), seq=1100, **{**base, "ident": 12})


def udp_packets(m):
    for size in (0, 1, 2, 7, 8, 63, 64, 511, 512, 1443, 1444):
        yield m.udp(pattern(size))
        yield m.udp(pattern(size), check=0)
        yield m.udp(pattern(size), frag=0x4000, ident=size)
    for i in range(20):
        yield m.udp(pattern(200, i), port=6200, ident=i)
    yield m.udp(pattern(20), port=6200, ident=20)
    for i in range(5):
        yield m.udp(pattern(200, i), port=6201, ident=7)
    for i, check in enumerate((None, 0, None, 0, None)):
        yield m.udp(pattern(300, i), port=6202, ident=i, check=check)
    # A sum of zero is written as its other form.
    zero = next(p for p in (m.udp(pattern(2) + i.to_bytes(2, "big")) for i in range(65536))
                if p[26:28] == b"\xff\xff")
    yield zero
    yield zero[:26] + b"\0\0" + zero[28:]
    for length in (0, 7, 9, 8, 500, 65535):
        yield m.udp(pattern(40), length=length)
    for size in (1445, 3000, 65507):
        yield from m.fragments(m.udp(pattern(size), ident=size))
    yield from reversed(m.fragments(m.udp(pattern(5000), ident=3)))


def other_packets(m):
    for size in (0, 1, 56, 1444):
        yield m.icmp(pattern(size))
        yield m.icmp(pattern(size), kind=0, tos=0xFF, frag=0x4000, ident=0xFFFF)
    yield from m.fragments(m.icmp(pattern(9000), ident=9))
    for proto in (0, 2, 4, 41, 47, 50, 89, 132, 255):
        yield m.ip(proto, pattern(33))
    for ttl in (0, 1, 2, 3, 255):
        yield m.udp(b"hops", ttl=ttl)
        yield m.tcp(b"hops", ttl=ttl, options=b"\1" * 4)
    for options in (b"\1" * 4, b"\x94\4\0\0", b"\7\7\4\0\0\0\0\0", b"\x83\7\4\1\2\3\4\0",
                    b"\1" * 40):
        yield m.udp(pattern(60), options=options) if len(options) < 40 else m.icmp(
            pattern(60), options=options)
        yield m.ip(TCP, m.tcp(pattern(60))[20:], options=options)
    for frag in (0x8000, 0x4000, 0x2000, 0x2001, 0x1FFF):
        yield m.ip(ICMP, pattern(64), frag=frag)


def broken_packets(m):
    good = m.tcp(pattern(40))
    for size in (1, 2, 19):
        yield good[:size]
    for size in (20, 21, 39, 40, 50):
        yield good[:size]
    for total in (0, 19, 20, 39, 79, 81, 1500, 65535):
        yield m.ip(TCP, good[20:], total=total)
        yield m.ip(UDP, m.udp(pattern(40))[20:], total=total)
    for header in (0x40, 0x44, 0x46, 0x4F, 0x55, 0x15, 0xF5):
        yield m.ip(TCP, good[20:], header=header)
    for check in (0, 1, 0xFEFF, 0xFF00, 0xFFFE, 0xFFFF):
        yield m.ip(UDP, m.udp(pattern(12))[20:], check=check)
    for doff in (0x00, 0x40, 0xF0):
        yield m.ip(TCP, good[20:32] + bytes([doff]) + good[33:])
    yield m.udp(pattern(3)) + pattern(9)  # more than it says
    six = b"\x60" + bytes(3) + b"\0\x08\x11\x40" + bytes(31) + b"\1" + m.udp()[20:]
    yield six


def damaged_packets(m):
    """Whose transport checksum is wrong."""
    for bad in (1, 0xFF00, 0xFFFF):
        yield m.tcp(pattern(64), bad=bad)
    for i in range(12):
        yield m.tcp(pattern(500, i), seq=500 * i, port=6300, ident=i, bad=i % 3 == 1)
        yield m.udp(pattern(300, i), port=6301, ident=i, check=0x1234 if i % 3 == 1 else None)


def super_packets(m):
    """(packet, its segment size)"""
    for flags in (ACK, ACK | PSH, ACK | FIN | PSH, ACK | ECE | CWR, ACK | ECE):
        yield m.tcp(pattern(20000), flags=flags, seq=2**32 - 5000, ident=65530), MSS
    yield m.tcp(pattern(65000), frag=0x4000), MSS
    yield m.tcp(pattern(2 * MSS), options=b"\1" * 12, tos=3), MSS - 12
    yield m.tcp(pattern(900)), 100
    yield m.udp(pattern(20000), ident=65530), 1400
    yield m.udp(pattern(640)), 10
    yield m.udp(pattern(60000), frag=0x4000), 1444


CASES = {
    "tcp": tcp_packets, "udp": udp_packets, "others": other_packets, "broken": broken_packets,
    "damaged": damaged_packets, "super": super_packets,
}


# -- ways ------------------------------------------------------------------------------

class Way:
    """From a device of a host to a device of another."""

    def __init__(self, near, far, device="flannel0"):
        self.injector, self.tap = Injector(near, device), Tap(far, device)

    def carry(self, m, packets, n=0):
        """What comes of them, which should be n packets (0: nobody knows)."""
        marker, got = os.urandom(16), []
        for packet, size in packets:
            self.injector.send(packet, size)
        if n:
            got = self.tap.read(lambda _, i: i == n)
        # Flows may overtake each other: it goes after all others have come.
        self.injector.send(m.ip(254, marker, ttl=9))
        got += self.tap.read(lambda packet, _: packet.endswith(marker))
        assert got and got.pop().endswith(marker), "the way is dead"
        return got

    def close(self):
        self.injector.close()
        self.tap.close()


def flow(packet):
    """Packets are kept in order inside of it."""
    ihl = (packet[0] & 15) * 4
    ports = packet[ihl:ihl + 4] if packet[9] in (TCP, UDP) and packet[6] & 0x1F == 0 else b""
    return packet[9:10] + packet[12:20] + ports


def without_id(packet):
    """The identification of a packet that must not be fragmented says nothing (RFC 6864), and
    that of merged ones steps: it is left out, and out of the checksum."""
    if len(packet) < 20 or packet[6] & 0x7F != 0x40 or packet[7]:
        return packet
    ident, check = struct.unpack("!HxxxxH", packet[4:12])
    check += ident
    check = (check & 0xFFFF) + (check >> 16)
    return packet[:4] + b"\0\0" + packet[6:10] + struct.pack("!H", check % 0xFFFF) + packet[12:]


def without_checksum(packet):
    at = 20 + (16 if packet[9] == TCP else 6)
    return packet[:at] + b"\0\0" + packet[at + 2:]


def assert_same(got, want):
    got, want = ({key: list(group) for key, group in itertools.groupby(sorted(x, key=flow), flow)}
                 for x in (got, want))
    assert got.keys() == want.keys(), f"flows: {got.keys() ^ want.keys()}"
    for key, packets in want.items():
        assert len(got[key]) == len(packets), f"flow {key.hex()}"
        for i, (a, b) in enumerate(zip(got[key], packets)):
            assert a == b, f"flow {key.hex()}, packet {i}:\n{a.hex()}\n{b.hex()}"


def bursts(packets):
    """As many at a time as the reference's socket has room for."""
    burst, n = [], 0
    for packet, size in packets:
        count = len(packet) // size + 1 if size else 1
        if n + count > 48 and burst:
            yield burst
            burst, n = [], 0
        burst.append((packet, size))
        n += count
    yield burst


@pytest.fixture(name="site", scope="module")
def _site(topo_of):
    """Three hosts, and between h1 and h2 a way by two of the reference."""
    with contextlib.ExitStack() as stack:
        topo = stack.enter_context(third_of_flannel(topo_of(3)))
        h1, h2, _ = topo.hosts
        for host, other in ((h1, h2), (h2, h1)):
            reference = Reference(host, "ref0", "10.9.0.1", {"0.0.0.0/0": other.address}, REF_PORT)
            stack.enter_context(contextlib.closing(reference))
        # What is injected is answered by nobody.
        for host in topo:
            host.run("nft", "add table ip quiet; add chain ip quiet c "
                     "{ type filter hook prerouting priority -300; }; "
                     f"add rule ip quiet c ip saddr {NETWORK} ip daddr {NETWORK} drop")
        yield topo


class Rung:
    def __init__(self, site, offload):
        self.offload, self.host = offload, site["h2"]
        self.merges = offload in ("auto", "gso")
        self._before = metrics(self.host)

    def packets(self, name):
        """How many went that way at h2."""
        name = f'flannel_udp_rung_packets_total{{rung="{name}"}}'
        return metrics(self.host)[name] - self._before[name]


@pytest.fixture(name="rung", scope="module", params=["auto", "gso", "mmsg", "plain"])
def _rung(site, request):
    marks = [host.log_position() for host in site.hosts[:2]]
    if request.param != "auto":
        site.store.write_config(config(Offload=request.param))
        for host, mark in zip(site.hosts, marks):
            host.wait_log("Carrying packets", start=mark)
    return Rung(site, request.param)


def subnet_of(host):
    return ipaddress.ip_network("10.5.190.0/24") if host.name == "h3" else host.subnet()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("ends", ["h1-h2", "h2-h1", "h2-h3", "h3-h2"])
def test_the_bytes_are_those_of_the_reference(site, rung, case, ends):
    near, far = (site[name] for name in ends.split("-"))
    m = Maker(str(subnet_of(near)[77]), str(subnet_of(far)[78]))
    packets = list(CASES[case](m))
    if case != "super":
        packets = [(p, 0) for p in packets]
    else:
        packets = [(unfinished(p), size) for p, size in packets]
    with contextlib.closing(Way(site["h1"], site["h2"], "ref0")) as reference, \
            contextlib.closing(Way(near, far)) as way:
        for burst in bursts(packets):
            want = reference.carry(m, burst)
            assert want or case == "broken", "the reference lost them"
            got = way.carry(m, burst, len(want))
            # An outer checksum has vouched for what came in a batch; a merged one gets a new
            # inner one.
            if case == "damaged" and ends in ("h1-h2", "h2-h1") and rung.merges:
                got, want = map(without_checksum, got), map(without_checksum, want)
            assert_same(map(without_id, got), map(without_id, want))


def test_no_router_may_fragment(site, rung):
    """Of batches the identifications repeat soon: fragments of several would be mixed up."""
    h2, h3 = site["h2"], site["h3"]
    m = Maker(str(subnet_of(h2)[77]), str(subnet_of(h3)[78]))
    with Wire(site.switches[0], "h2") as wire, contextlib.closing(Injector(h2)) as injector:
        injector.send(unfinished(m.tcp(pattern(20000))), MSS)
        outer, _, _ = wire.datagram(lambda inner: inner[12:20] == m.src + m.dst)
    assert outer[6] & 0x40, rung.offload


def test_the_rung_was_the_one_meant(rung):
    """After the others, which else might have seen nothing of what they are for."""
    for name in ("out_tso", "send_gso", "receive_gro", "in_tso"):
        assert (rung.packets(name) > 0) == rung.merges, name
    for name in ("out_uso", "in_uso"):
        assert (rung.packets(name) > 0) == (rung.offload == "auto"), name
    for name in ("out_single", "send_single", "receive_single", "in_single"):
        assert rung.packets(name) > 0, name
