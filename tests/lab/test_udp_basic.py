# SPDX-License-Identifier: Apache-2.0
"""Backend udp around its data path: device, address, route, records, restarts, metrics.

    pod a      pod a      pod a
      |          |          |            10.5.x.0/24 of Network 10.5.0.0/16
     cni0       cni0       cni0
      h1         h2         h3           flannel0, a tun; UDP 8285
      |eth0      |eth0      |eth0
     -+----------+----------+- sw1       192.168.64.0/24
"""

import contextlib
import errno
import re
import signal
import socket
import struct

import pytest

from lib import expect, traffic
from lib.expect import assert_subset, wait_equal, wait_until
from lib.load import repeated
from lib.udp import (
    IP_RECVERR, NETWORK, PORT, Connection, Wire, assert_meshed, config, is_udp, metrics,
    pods_of, route, routes, start, tun_of, vxlan, wanted,
)
from lib.udp_peer import UdpPeer

pytestmark = pytest.mark.needs("tun")


@pytest.fixture(scope="module")
def shared(topo_of):
    topo = topo_of(3)
    topo.store.write_config(config())
    for host in topo:
        host.start_flanneld(wait=False)
    for host in topo:
        host.wait_ready()
    topo.pods()
    # Peers are no kernel entries: only packets tell that all know of each other.
    traffic.assert_all_to_all([host.pods[0] for host in topo], timeout=5)
    return topo


@pytest.fixture
def topo(make_topo):
    """Two hosts, and a pod on each."""
    topo = start(make_topo(2))
    topo.pods()
    return topo


# -- the main job ----------------------------------------------------------------------

def test_all_pods_reach_each_other_by_their_own_address(shared):
    assert_meshed(shared)


def test_hosts_reach_pods(shared):
    for host in shared:
        for pod in pods_of(shared):
            assert traffic.ping(host, pod.addresses[0]) is not None, f"{host.name} -> {pod.name}"


def test_tcp_copies_arrive_whole(shared):
    a, b, _ = pods_of(shared)
    copy = traffic.tcp_copy(a, b, 4 << 20)
    assert copy.intact
    assert copy.seen_from == a.addresses[0]


def test_the_full_mtu_fits_and_not_a_byte_more(shared):
    a, b, _ = pods_of(shared)
    assert a.mtu == 1472
    assert traffic.arrives_unfragmented(a, b, 1472)
    assert not traffic.arrives_unfragmented(a, b, 1473)


def test_device_address_and_route(shared):
    for host in shared:
        assert tun_of(host) == wanted(host)
        assert routes(host) == route()
        env = host.read_subnet_env()
        assert (env["FLANNEL_NETWORK"], env["FLANNEL_MTU"]) == (NETWORK, "1472")


def test_records_have_no_data(shared):
    for host in shared:
        _, record = shared.store.lease_of(host.address)
        assert_subset(record, {"PublicIP": host.address, "BackendType": "udp"})
        assert record.get("BackendData") is None


def test_the_bytes_on_the_wire(shared):
    a, b, _ = pods_of(shared)
    words = b"the inner packet, as it is"
    with Wire(shared.switches[0], "h1") as wire:
        with a.ns.socket() as tx:
            tx.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 33)
            tx.bind((a.addresses[0], 4001))
            tx.sendto(words, (b.addresses[0], 4002))
        outer, udp, inner = wire.datagram(lambda payload: payload.endswith(words))
    h1, h2 = shared.hosts[:2]
    assert socket.inet_ntoa(outer[12:16]) == h1.address
    assert socket.inet_ntoa(outer[16:20]) == h2.address
    assert struct.unpack("!HH", udp[:4]) == (PORT, PORT)
    assert struct.unpack("!H", udp[4:6])[0] == 8 + len(inner)
    # The host's own hop, and the tunnel's.
    assert inner[8] == 33 - 2
    assert inner[0] == 0x45 and struct.unpack("!H", inner[2:4])[0] == len(inner)
    assert socket.inet_ntoa(inner[12:16]) == a.addresses[0]
    assert socket.inet_ntoa(inner[16:20]) == b.addresses[0]
    assert struct.unpack("!HH", inner[20:24]) == (4001, 4002)
    words16 = struct.unpack("!10H", inner[:20])
    total = sum(words16)
    assert (total & 0xFFFF) + (total >> 16) in (0xFFFF, 0x1FFFE), "the header's checksum"


def test_a_subnet_without_a_host_is_unreachable(shared):
    """The sender is told, and not left to wait: ICMP net unreachable from the device."""
    a = pods_of(shared)[0]
    before = metrics(shared.hosts[0])

    def refused():
        with a.ns.socket() as tx:
            tx.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)  # of UDP sockets only those hear of it
            tx.settimeout(0.3)
            tx.connect(("10.5.20.9", 9))
            tx.send(b"anybody?")
            with pytest.raises(OSError) as raised:
                tx.recv(16)
            assert raised.value.errno == errno.ENETUNREACH, raised.value
        return True

    wait_until(refused, 3, "ICMP net unreachable")
    with a.ns.socket(kind=socket.SOCK_RAW, proto=socket.IPPROTO_ICMP) as heard:
        heard.settimeout(3)
        assert traffic.ping(a, "10.5.20.9", 0.2) is None  # who pings is told, too
        icmp = heard.recv(2048)[20:]
    assert icmp[:2] == b"\x03\x00" and icmp[8 + 20] == 8, icmp
    after = metrics(shared.hosts[0])
    assert after["flannel_udp_unreachable_total"] > before["flannel_udp_unreachable_total"]


def test_metrics(shared):
    h1 = shared.hosts[0]
    a, b, _ = pods_of(shared)
    before = metrics(h1)
    for _ in range(10):
        assert traffic.ping(a, b.addresses[0]) is not None
    for direction in ("out", "in"):
        name = f'flannel_udp_packets_total{{direction="{direction}"}}'
        wait_until(lambda n=name: metrics(h1)[n] >= before[n] + 10, what=name)
    after = metrics(h1)
    assert after["flannel_udp_up"] == 1
    assert after["flannel_ready"] == 1
    assert after["flannel_leases"] >= 2
    assert any(name.startswith("flannel_build_info{") for name in after)
    assert any(name.startswith("flannel_udp_dropped_total{reason=") for name in after)
    assert any(name.startswith("flannel_udp_rung_packets_total{rung=") for name in after)


def test_metrics_have_the_form_that_prometheus_reads(shared):
    """Each family once: HELP, TYPE, its samples; no sample twice; histograms add up."""
    _, text = shared.hosts[0].get("/metrics")
    assert text.endswith("\n")
    families, samples, helped = [], {}, None
    for line in text.splitlines():
        if line.startswith("# HELP "):
            helped = line.split()[2]
            continue
        if line.startswith("# TYPE "):
            name, kind = line.split()[2:]
            assert name == helped and name not in families, line
            assert kind in ("counter", "gauge", "histogram")
            assert (kind == "counter") == name.endswith("_total")
            families.append(name)
            continue
        match = re.fullmatch(r'([a-z_]+)(\{[a-z]+="[^"]*"(?:,[a-z]+="[^"]*")*\})? (\d+)', line)
        assert match, line
        suffix = "(_bucket|_sum|_count)" if kind == "histogram" else ""
        assert re.fullmatch(families[-1] + suffix, match[1]), line
        assert match[1] + (match[2] or "") not in samples, line
        samples[match[1] + (match[2] or "")] = int(match[3])
    assert "flannel_udp_packet_size_bytes" in families
    for direction in ("out", "in"):
        assert_histogram(samples, "flannel_udp_packet_size_bytes", f'direction="{direction}"')


def assert_histogram(samples, name, label):
    bounds = {k.split('le="')[1][:-2]: v for k, v in samples.items()
              if k.startswith(f"{name}_bucket{{{label}")}
    assert list(bounds) == ["128", "256", "512", "1024", "1500", "+Inf"]
    assert list(bounds.values()) == sorted(bounds.values())
    assert bounds["+Inf"] == samples[f"{name}_count{{{label}}}"] > 0
    assert samples[f"{name}_sum{{{label}}}"] >= 20 * bounds["+Inf"]


def test_what_the_device_drops_is_counted(topo):
    """It holds 1000 packets while nobody reads; the kernel alone knows of the others."""
    h1 = topo["h1"]
    to = (topo["h2"].pods[0].addresses[0], 9)
    name = 'flannel_udp_dropped_total{reason="queue_full"}'
    assert metrics(h1)[name] == 0
    with h1.pods[0].ns.socket() as tx:
        def more_are_dropped():
            for _ in range(500):
                tx.sendto(b"one of many", to)
            return link_drops(h1, "flannel0") >= 500

        h1.signal_flanneld(signal.SIGSTOP)
        wait_until(more_are_dropped)
    h1.signal_flanneld(signal.SIGCONT)
    wait_until(lambda: metrics(h1)[name] == link_drops(h1, "flannel0") >= 500, what=name)


def link_drops(host, device):
    link, = host.ip_json("-s", "link", "show", "dev", device)
    return link["stats64"]["tx"]["dropped"]


# -- records of others -----------------------------------------------------------------

def test_an_old_record_without_a_type(topo):
    """As the original writes it; nothing but the public IP."""
    h1 = topo["h1"]
    a = h1.pods[0]
    topo.store.put_lease("10.5.77.0-24", {"PublicIP": "192.168.64.254"})
    h1.wait_log(r"Subnet added: 10\.5\.77\.0/24 via 192\.168\.64\.254")
    words = b"to a host of the original"
    with Wire(topo.switches[0], "h1") as wire:
        with a.ns.socket() as tx:
            tx.sendto(words, ("10.5.77.9", 9))
        outer, _, _ = wire.datagram(lambda payload: payload.endswith(words))
    assert socket.inet_ntoa(outer[16:20]) == "192.168.64.254"
    topo.store.remove("10.5.77.0-24")
    h1.wait_log(r"Subnet removed: 10\.5\.77\.0/24")


def test_a_record_of_another_backend_is_named(topo):
    topo.allow_log("W", "Ignoring lease 10.5.78.0-24")
    topo.store.put_peer("10.5.78.0-24", "192.168.64.78", mac="02:00:00:00:00:78")
    topo["h1"].wait_log(r"Ignoring lease 10\.5\.78\.0-24: its backend is vxlan, ours udp")


def test_100_peers_come_and_move(topo):
    h1 = topo["h1"]
    a = h1.pods[0]
    start_of_log = h1.log_position()
    for i in range(100):
        topo.store.put_lease(f"10.5.{50 + i}.0-24", {"PublicIP": f"192.168.64.{100 + i % 100}",
                                                     "BackendType": "udp"})
    h1.wait_log(r"Subnet added: 10\.5\.149\.0/24", start=start_of_log)
    topo.store.put_lease("10.5.60.0-24", {"PublicIP": "192.168.64.254", "BackendType": "udp"})
    h1.wait_log(r"Subnet added: 10\.5\.60\.0/24 via 192\.168\.64\.254", start=start_of_log)
    words = b"to where it is now"
    with Wire(topo.switches[0], "h1") as wire:
        with a.ns.socket() as tx:
            tx.sendto(words, ("10.5.60.9", 9))
        outer, _, _ = wire.datagram(lambda payload: payload.endswith(words))
    assert socket.inet_ntoa(outer[16:20]) == "192.168.64.254"
    assert routes(h1) == route()
    assert_meshed(topo)


@pytest.mark.parametrize("offload", ["auto", "gso", "mmsg", "plain"])
def test_a_host_of_flannel_at_the_other_end(make_topo, offload):
    """It does one packet per call, knows no offload, and writes no BackendType."""
    topo = make_topo(2)
    h1, h2 = topo.hosts
    topo.store.put_lease("10.5.90.0-24", {"PublicIP": h2.address})
    start(topo, config(Offload=offload), hosts=[h1])
    with contextlib.closing(UdpPeer(h2, NETWORK, "10.5.90.0/24",
                                    {str(h1.subnet()): h1.address})):
        a, b = topo.pods()
        assert_meshed(topo)
        for src, dst in ((a, b), (b, a)):
            copy = traffic.tcp_copy(src, dst, 2 << 20)
            assert copy.intact and copy.seen_from == src.addresses[0]
            assert traffic.arrives_unfragmented(src, dst, 1472)


# -- the device's name -----------------------------------------------------------------

def test_the_next_free_number(make_topo):
    topo = make_topo(2)
    h1 = topo["h1"]
    h1.ip("tuntap add dev flannel0 mode tun", "link add flannel1 type bridge")
    start(topo)
    topo.pods()
    assert tun_of(h1, "flannel2") == wanted(h1)
    assert routes(h1) == route("flannel2")
    assert is_udp(topo["h2"])
    assert_meshed(topo)
    # It is known again, though a lower number is free by now.
    index = h1.ifindex("flannel2")
    h1.stop_flanneld()
    h1.ip("link del flannel0")
    h1.start_flanneld()
    assert h1.ifindex("flannel2") == index
    assert tun_of(h1, "flannel0") is None
    assert routes(h1) == route("flannel2")
    assert_meshed(topo)


# -- restarts --------------------------------------------------------------------------

@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_a_restart_keeps_device_and_connections(topo, how):
    h1 = topo["h1"]
    index, before = h1.ifindex("flannel0"), tun_of(h1)
    with contextlib.closing(Connection(*pods_of(topo))) as connection:
        assert connection.works()
        if how == "SIGTERM":
            h1.stop_flanneld()
        else:
            h1.kill_flanneld()
        # The device stays with all that stands on it; only nobody carries packets.
        assert tun_of(h1) == before
        assert routes(h1) == route()
        h1.start_flanneld()
        assert connection.works()
    assert h1.ifindex("flannel0") == index
    assert is_udp(h1)
    assert_meshed(topo)


def test_no_packet_before_the_peers_are_known(topo):
    """Not yet known is not unreachable, and nobody is a stranger before the list is complete."""
    h1 = topo["h1"]
    mark = h1.log_position()
    h1.stop_flanneld()
    h1.start_flanneld()
    said = h1.log_text(mark)
    assert said.index("Watching for new subnet leases") < said.index("Carrying packets")
    assert_meshed(topo)


@contextlib.contextmanager
def blast(src, dst):
    """Datagrams from pod to pod without a pause, whatever becomes of them."""
    with src.ns.socket() as tx:
        tx.connect((dst.addresses[0], 9))
        with repeated(lambda: tx.send(b"again and again")):
            yield


def test_peers_are_known_from_the_first_packet_on(make_topo):
    """Not yet known is not unreachable: nobody is told so, and no peer is a stranger."""
    topo = make_topo(2)
    for i in range(3000):
        topo.store.put_lease(f"10.{i // 250}.{i % 250}.0-24",
                             {"PublicIP": f"172.{16 + i // 250}.{i % 250}.1"})
    conf = {"Network": "10.0.0.0/8", "SubnetMin": "10.200.0.0", "Backend": {"Type": "udp"}}
    start(topo, conf)
    a, b = topo.pods()
    h1 = topo["h1"]
    with blast(a, b), blast(b, a):
        for offload in ("plain", "mmsg", "auto"):
            mark = h1.log_position()
            topo.store.write_config({**conf, "Backend": {"Type": "udp", "Offload": offload}})
            h1.wait_log("Carrying packets", start=mark)
        assert_no_peer_is_missed(h1)
        h1.stop_flanneld()
        h1.start_flanneld()
        assert_meshed(topo)
    assert_no_peer_is_missed(h1)


def assert_no_peer_is_missed(host):
    now = metrics(host)
    for name in ("unreachable_total", 'dropped_total{reason="no_peer"}',
                 'dropped_total{reason="unknown_sender"}'):
        assert now[f"flannel_udp_{name}"] == 0, name


def test_it_takes_over_the_route_of_the_original(make_topo):
    """Whose tun went with its process, but for one that was made persistent."""
    topo = make_topo(1)
    h1 = topo["h1"]
    topo.store.put_lease("10.5.170.0-24", {"PublicIP": h1.address})
    start(topo)
    assert topo.store.keys() == ["10.5.170.0-24"]
    assert topo.store.lease("10.5.170.0-24")["BackendType"] == "udp"
    h1.ip(f"route replace {NETWORK} dev flannel0 proto boot")
    h1.allow_log("W", "Repaired what")
    wait_equal(lambda: routes(h1), route())


# -- peer check ------------------------------------------------------------------------

def forged(topo, words):
    """A datagram for h2's pod from a host that nobody knows: whether it arrives."""
    stranger, addresses = topo.server("stranger", 200)
    b = topo["h2"].pods[0]
    inner = _udp_packet("10.5.200.9", b.addresses[0], words)
    with b.ns.socket() as rx, stranger.socket() as tx:
        rx.bind((b.addresses[0], 4002))
        rx.settimeout(0.05)
        tx.bind((addresses[0], PORT))
        # The stranger's link has just come up, and may lose the first.
        for _ in range(int(20 * expect.TIME_FACTOR)):
            tx.sendto(inner, (topo["h2"].address, PORT))
            with contextlib.suppress(TimeoutError):
                return rx.recv(2048) == words
    return False


def _udp_packet(src, dst, words):
    udp = struct.pack("!HHHH", 4001, 4002, 8 + len(words), 0) + words
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0,
                       socket.inet_aton(src), socket.inet_aton(dst))
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return head[:10] + struct.pack("!H", total) + head[12:] + udp


def test_a_stranger_is_not_let_in(topo):
    assert not forged(topo, b"let me in")
    dropped = [v for k, v in metrics(topo["h2"]).items() if "unknown" in k and "dropped" in k]
    assert sum(dropped) >= 1
    tables = topo["h2"].run("nft", "list", "tables", check=False).stdout
    assert "weft-" not in tables, "a filter in the kernel, for a path that looks for itself"


def test_a_stranger_is_let_in_without_the_filter(make_topo):
    topo = start(make_topo(2), None, "--peer-filter=false")
    topo.pods()
    assert forged(topo, b"let me in")


# -- leaving ---------------------------------------------------------------------------

def test_cleanup_removes_the_device(topo):
    h1 = topo["h1"]
    h1.stop_flanneld()
    done = h1.run_flanneld("--cleanup", subnet_dir=False)
    assert done.code == 0, done.text
    assert tun_of(h1) is None
    assert routes(h1) == {}


@pytest.mark.needs("vxlan")
def test_a_start_with_another_backend_sweeps_the_device(make_topo):
    topo = start(make_topo(1))
    h1 = topo["h1"]
    h1.stop_flanneld()
    topo.store.write_config(vxlan())
    h1.start_flanneld()
    wait_until(lambda: tun_of(h1) is None, 5)
    assert h1.ifindex("flannel.1")


# -- other stores ----------------------------------------------------------------------

@pytest.mark.needs("etcd")
def test_over_kubernetes(make_topo):
    topo = make_topo(2)
    kube = topo.kube()
    for i, host in enumerate(topo, 1):
        kube.add_node(host.name, f"10.5.{i}.0/24", address=host.address)
    start(topo, {"Network": NETWORK, "Backend": {"Type": "udp"}})
    topo.pods()
    assert_meshed(topo)
    prefix = "flannel.alpha.coreos.com"
    for host in topo:
        found = kube.annotations(host.name)
        assert found[f"{prefix}/backend-type"] == "udp"
        assert found[f"{prefix}/backend-data"] == "null"
    # A node of flannel itself.
    kube.add_node("n7", "10.5.7.0/24", annotations={
        f"{prefix}/kube-subnet-manager": "true", f"{prefix}/public-ip": "192.168.64.77",
        f"{prefix}/backend-type": "", f"{prefix}/backend-data": "null"})
    topo["h1"].wait_log(r"Subnet added: 10\.5\.7\.0/24 via 192\.168\.64\.77")


@pytest.mark.needs("etcd")
def test_over_etcd(make_topo):
    topo = make_topo(2)
    topo.etcd()
    start(topo)
    topo.pods()
    assert_meshed(topo)
    for host in topo:
        assert is_udp(host)
        _, record = topo.store.lease_of(host.address)
        assert record["BackendType"] == "udp"
