# SPDX-License-Identifier: Apache-2.0
"""Backend udp under load, of which every byte is looked at: rungs, many peers, bad wires.

     h1     h2     h3     h1 and h2 are ours, h3 (where there is one) is the reference
    -+------+------+- sw1

WEFT_UDP_BYTES is how much goes over each rung, one way (256 MB; with the reference, 64).
"""

import contextlib
import os
import signal
import socket
import struct
import threading

import pytest

from lib import expect
from lib.expect import wait_until
from lib.load import Bulk, Datagrams, repeated
from lib.relay import BadWire
from lib.udp import PORT, assert_meshed, config, metrics, pods_of, start, tun_of
from lib.udp_reference import third_of_flannel

pytestmark = pytest.mark.needs("tun")

LITTLE = 8 << 20


def size_of_bulk(megabytes=256):
    given = os.environ.get("WEFT_UDP_BYTES")
    return int(given) if given else (megabytes if expect.TIME_FACTOR == 1 else 16) << 20


def dropped(host, reason):
    return metrics(host)[f'flannel_udp_dropped_total{{reason="{reason}"}}']


@pytest.fixture(name="topo")
def _topo(make_topo):
    topo = start(make_topo(2))
    topo.pods()
    assert_meshed(topo)
    return topo


# -- rungs -----------------------------------------------------------------------------

@pytest.fixture(name="site", scope="module")
def _site(topo_of):
    with third_of_flannel(topo_of(3)) as topo:
        topo.pods()
        assert_meshed(topo)
        yield topo


@pytest.fixture(name="rung", scope="module", params=["auto", "gso", "mmsg", "plain"])
def _rung(site, request):
    marks = [host.log_position() for host in site.hosts[:2]]
    if request.param != "auto":
        site.store.write_config(config(Offload=request.param))
        for host, mark in zip(site.hosts, marks):
            host.wait_log("Carrying packets", start=mark)
    return request.param


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("ends", ["h1-h2", "h1-h3", "h3-h1"])
def test_bulk(site, rung, ends, record_property):
    a, b = (site[name].pods[0] for name in ends.split("-"))
    with Bulk(a, b, size_of_bulk(64 if "h3" in ends else 256), timeout=10) as bulk:
        pass
    assert sum(bulk.received) == bulk.each * bulk.streams
    rate = sum(bulk.received) * 8e-9 / bulk.seconds
    record_property("gbit_per_s", round(rate, 2))
    print(f"{rung} {ends}: {sum(bulk.received) / 1e9:.2f} GB, {rate:.2f} Gbit/s")


@pytest.mark.parametrize("ends", ["h1-h2", "h1-h3", "h3-h1"])
def test_datagrams_of_all_sizes(site, rung, ends):
    """The larger ones in fragments."""
    a, b = (site[name].pods[0] for name in ends.split("-"))
    with b.ns.socket() as rx, a.ns.socket() as tx:
        rx.bind((b.addresses[0], 0))
        rx.settimeout(5 * expect.TIME_FACTOR)
        tx.connect(rx.getsockname())
        for size in [*range(0, 70), *range(1430, 1460), 2888, 2889, 9000, 65506, 65507]:
            words = os.urandom(size)
            tx.send(words)
            assert rx.recv(65536) == words, f"{rung}: {size} bytes"


# -- many peers ------------------------------------------------------------------------

@contextlib.contextmanager
def crowd(topo, n):
    """n hosts that send back what comes from a pod, as if a pod of theirs did."""
    ns, _ = topo.server("crowd", 253)
    ns.ip(*(f"addr add 192.168.65.{i}/32 dev eth0" for i in range(1, n + 1)))
    for host in topo:
        host.ip("route add 192.168.65.0/24 dev eth0")
    for i in range(1, n + 1):
        topo.store.put_lease(f"10.5.{i}.0-24", {"PublicIP": f"192.168.65.{i}"})
    done = threading.Event()

    def echo(sock):
        while not done.is_set():
            with contextlib.suppress(TimeoutError):
                inner, peer = sock.recvfrom(65536)
                # Swapped, all checksums stay right.
                sock.sendto(inner[:12] + inner[16:20] + inner[12:16] + inner[22:24]
                            + inner[20:22] + inner[24:], peer)

    sockets = [ns.socket() for _ in range(n)]
    threads = [threading.Thread(target=echo, args=(sock,)) for sock in sockets]
    for i, (sock, thread) in enumerate(zip(sockets, threads), 1):
        sock.bind((f"192.168.65.{i}", PORT))
        sock.settimeout(0.1)
        thread.start()
    try:
        yield
    finally:
        done.set()
        for sock, thread in zip(sockets, threads):
            thread.join()
            sock.close()


def test_64_peers_at_a_time(topo):
    """In each burst there are packets to all of them; each gets its own, in order."""
    h1 = topo["h1"]
    with crowd(topo, 64), h1.pods[0].ns.socket() as sock:
        h1.wait_log(r"Subnet added: 10\.5\.64\.0/24")
        sock.bind((h1.pods[0].addresses[0], 0))
        sock.settimeout(3 * expect.TIME_FACTOR)
        sock.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
        for turn in range(40):
            wanted = {}
            for i in range(3):  # 192: the tun holds 256
                for peer in range(1, 65):
                    to = (f"10.5.{peer}.9", 4000)
                    words = struct.pack("!HH", turn, i) + os.urandom(8 + (peer * 37 + i) % 900)
                    sock.sendto(words, to)
                    wanted.setdefault(to, []).append(words)
            for _ in range(3 * 64):
                words, peer = sock.recvfrom(2048)
                assert wanted[peer].pop(0) == words, f"turn {turn}, peer {peer}"
    for reason in ("unknown_sender", "wrong_source", "no_peer"):
        assert dropped(h1, reason) == 0, reason


def test_5000_peers(make_topo):
    """Most of them silent; those that talk notice nothing."""
    topo = make_topo(2)
    big = {"Network": "10.0.0.0/8", "SubnetMin": "10.200.0.0", "SubnetMax": "10.250.0.0",
           "Backend": {"Type": "udp"}}
    for i in range(5000):
        topo.store.put_lease(f"10.{i // 250}.{i % 250}.0-24",
                             {"PublicIP": f"172.{16 + i // 250}.{i % 250}.1"})
    topo.store.write_config(big)
    for host in topo:
        host.start_flanneld(wait=False)
    for host in topo:
        host.wait_ready(timeout=30)  # it logs each
    a, b = topo.pods()
    assert_meshed(topo)
    wait_until(lambda: metrics(topo["h1"])["flannel_leases"] >= 5001, 10)
    with Bulk(a, b, size_of_bulk(64)):
        pass
    with Bulk(b, a, size_of_bulk(64)):
        pass


def test_records_change_under_load(topo):
    """As fast as they can be written; of those that talk nothing is lost. (The table by
    itself, replaced much faster yet: tests/unit/test_udp_path.c.)"""
    a, b = pods_of(topo)
    store = topo.store
    with Datagrams(a, b, window=64) as there, Datagrams(b, a, window=64) as back:
        for turn in range(10):
            for i in range(1, 101):
                store.put_lease(f"10.5.{i}.0-24", {"PublicIP": f"192.168.{100 + turn}.{i}"})
            for i in range(1 + turn % 2, 101, 2):
                store.remove(f"10.5.{i}.0-24")
        store.put_lease("10.5.150.0-24", {"PublicIP": "192.168.99.99"})
        for host in topo:
            host.wait_log(r"Subnet added: 10\.5\.150\.0/24")
        there.wait_more()
        back.wait_more()
    for datagrams in (there, back):
        assert datagrams.came == datagrams.sent
        assert datagrams.twice == datagrams.late == 0


# -- bad wires -------------------------------------------------------------------------

def test_a_wire_that_loses_doubles_and_swaps(topo):
    a, b = pods_of(topo)
    with BadWire(topo, topo["h1"], lost=0.005, doubled=0.01, held=0.02) as wire:
        with Bulk(a, b, LITTLE, timeout=60):
            pass
        with Bulk(b, a, LITTLE, timeout=60):
            pass
    for way in wire.seen:
        assert min(way.values()) > 0, "the wire was good"


@pytest.mark.parametrize("what", ["lost", "doubled", "held"])
def test_what_a_wire_did_is_what_pods_see(topo, what):
    """Not a datagram more or less."""
    a, b = pods_of(topo)
    with BadWire(topo, topo["h1"], **{what: 0.05}) as wire:
        with Datagrams(a, b, window=32) as datagrams:
            datagrams.wait_more(2000)
    seen = wire.seen[0]
    assert seen[what] > 0
    assert seen["came"] == datagrams.sent
    assert datagrams.came == datagrams.sent - seen["lost"] + seen["doubled"]
    assert datagrams.twice == seen["doubled"]
    assert (datagrams.late > 0) == (what == "held")


# -- the way to a peer -----------------------------------------------------------------

@pytest.fixture(name="routed")
def _routed(make_topo):
    """Two hosts, a router between them."""
    topo = start(make_topo([["h1"], ["h2"]]))
    topo.pods()
    assert_meshed(topo)
    return topo


def router(topo):
    return next(ns for ns in topo.namespaces if ns.short.startswith("r"))


def fragments_made(ns):
    with ns.entered(), open("/proc/thread-self/net/snmp", encoding="ascii") as f:
        names, values = [line.split() for line in f if line.startswith("Ip:")]
    return int(values[names.index("FragCreates")])


def test_the_ways_mtu_gets_smaller_and_larger(routed):
    """Full datagrams do not fit any more: they go on in fragments, as our kernel makes them."""
    routed.allow_log("W", "takes no datagrams of")
    a, b = pods_of(routed)
    with Bulk(a, b) as bulk:
        bulk.wait_more(16 << 20)
        router(routed).ip("link set l2 mtu 1300")
        routed["h1"].wait_log("takes no datagrams of")
        bulk.wait_more(16 << 20)
        assert fragments_made(router(routed)) == 0 < fragments_made(routed["h1"].ns)
        # Forgotten, as after ten minutes.
        router(routed).ip("link set l2 mtu 1500")
        routed["h1"].ip("route flush cache")
        bulk.wait_more(16 << 20)


def test_a_way_that_swallows_what_is_too_large(routed):
    """A black hole: nobody says that it did. Small ones go on; so do large ones once it is known."""
    routed.allow_log("W", "takes no datagrams of")
    a, b = pods_of(routed)
    r = router(routed)
    r.run("nft", "add table ip hole; add chain ip hole c { type filter hook output priority 0; };"
          "add rule ip hole c icmp type destination-unreachable counter drop")
    with Bulk(a, b, timeout=60) as bulk:
        bulk.wait_more(16 << 20)
        r.ip("link set l2 mtu 1300")
        wait_until(lambda: "packets 0 " not in r.run("nft", "list table ip hole").stdout)
        with Datagrams(a, b, sizes=(8, 100, 1000)) as datagrams:
            datagrams.wait_more(500)
        r.run("nft", "delete table ip hole")
        bulk.wait_more()
    assert datagrams.twice == datagrams.late == 0


def test_the_uplinks_mtu_changes_under_load(topo):
    topo.allow_log("W", "takes no datagrams of")
    h1 = topo["h1"]
    a, b = pods_of(topo)
    with Bulk(a, b) as bulk, Bulk(b, a) as back:
        for mtu in (1400, 1500, 1000, 1500):
            h1.ip(f"link set eth0 mtu {mtu}")
            wait_until(lambda m=mtu: tun_of(h1)["mtu"] == m - 28)
            bulk.wait_more(4 << 20)
            back.wait_more(4 << 20)


def test_a_peer_moves(topo):
    """Its address is another one; connections live."""
    topo.allow_log("W", "uplink|eth0|UDP data path")
    h1, h2 = topo.hosts
    a, b = pods_of(topo)
    with Bulk(a, b) as bulk, Bulk(b, a) as back:
        for last in (99, 98):
            topo.set_address(h1, f"192.168.64.{last}")
            h2.wait_log(rf"Subnet added: .* via 192\.168\.64\.{last}")
            bulk.wait_more()
            back.wait_more()


# -- strangers, and too much ------------------------------------------------------------

@contextlib.contextmanager
def flood(topo, victim):
    """Small packets from a stranger, as fast as it can."""
    ns, _ = topo.server("stranger", 200)
    with ns.socket() as sock:
        sock.bind(("0.0.0.0", PORT))
        sock.setsockopt(socket.IPPROTO_UDP, 103, 64)  # UDP_SEGMENT
        sock.connect((victim.address, PORT))
        with repeated(lambda: sock.send(bytes(64 * 60))):
            yield


def test_a_flood_from_strangers(topo):
    """What good hosts send goes on beside it."""
    h2 = topo["h2"]
    a, b = pods_of(topo)
    with flood(topo, h2):
        wait_until(lambda: dropped(h2, "unknown_sender") > 50_000, 10)
        with Bulk(a, b, LITTLE):
            pass
        with Bulk(b, a, LITTLE):
            pass
    assert dropped(h2, "wrong_source") == 0


def test_suspended_and_resumed(topo):
    """What came meanwhile is carried or counted, none of it twice."""
    h1, h2 = topo.hosts
    a, b = pods_of(topo)
    with Bulk(a, b) as bulk, Datagrams(b, a) as datagrams:
        for host in (h1, h2):
            bulk.wait_more()
            before = dropped(host, "receive_buffer_full")
            host.signal_flanneld(signal.SIGSTOP)
            if host is h2:
                with flood(topo, host):
                    wait_until(lambda h=host: socket_drops(h) > 0, 10)
            else:
                expect.let_pass(0.3)
            host.signal_flanneld(signal.SIGCONT)
            bulk.wait_more()
            datagrams.wait_more()
            if host is h2:
                wait_until(lambda h=host, n=before: dropped(h, "receive_buffer_full") > n)
    assert datagrams.twice == datagrams.late == 0


def socket_drops(host):
    """Of the socket at PORT, as the kernel has it."""
    with host.ns.entered(), open("/proc/thread-self/net/udp", encoding="ascii") as f:
        for line in f.read().splitlines()[1:]:
            if line.split()[1].endswith(f":{PORT:04X}"):
                return int(line.split()[12])
    return 0


# -- restarts --------------------------------------------------------------------------

@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_restarts_under_load(topo, how):
    """Device and port are taken over; nothing comes twice, or damaged, or behind later ones."""
    h1 = topo["h1"]
    a, b = pods_of(topo)
    index = h1.ifindex("flannel0")
    with Bulk(a, b) as bulk, Bulk(b, a) as back, Datagrams(a, b) as datagrams:
        for _ in range(3):
            for load in (bulk, back):
                load.wait_more()
            if how == "SIGTERM":
                h1.stop_flanneld()
            else:
                h1.kill_flanneld()
            h1.start_flanneld()
            datagrams.wait_more()
    assert h1.ifindex("flannel0") == index
    assert datagrams.twice == datagrams.late == 0
