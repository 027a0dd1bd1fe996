# SPDX-License-Identifier: Apache-2.0
"""Backend udp by the kernel (ipip in FOU): runs in a guest, see tests/lab/test_guest.py

    pod a      pod a      pod a
      |          |          |            10.5.x.0/24 of Network 10.5.0.0/16
     cni0       cni0       cni0
      h1         h2         h3           flannel0; UDP 8285
      |eth0      |eth0      |eth0
     -+----------+----------+- sw1       192.168.64.0/24

h1 and h2 are in Mode kernel; h3 reads a config of its own, and is in user space.
"""

import contextlib
import os
import signal
import socket
import struct

import pytest
from lib import traffic
from lib.expect import wait_equal, wait_until
from lib.store import Store
from lib.udp import (
    NETWORK, PORT, Connection, Wire, assert_meshed, config, is_udp, pods_of, start,
)
from lib.udp_peer import UdpPeer

KERNEL = config(Mode="kernel")
NO_RULES = "--iptables-forward-rules=false"  # which need a dozen modules


def start_mixed(topo):
    """The last host in user space, the others by the kernel."""
    topo.store.write_config(KERNEL)
    other = topo.hosts[-1]
    path = topo.store.path + "-other"
    os.mkdir(path)
    os.symlink(topo.store.file("subnets"), f"{path}/subnets")
    other.store = Store(path)
    other.store.write_config(config())
    for host in topo:
        host.start_flanneld(NO_RULES, wait=False)
    for host in topo:
        host.wait_ready()
    topo.pods()
    return topo


@pytest.fixture(scope="module")
def shared(topo_of):
    topo = start_mixed(topo_of(3))
    assert_meshed(topo)
    return topo


@pytest.fixture
def pair(make_topo):
    """Two hosts by the kernel, and a pod on each."""
    topo = start(make_topo(2), KERNEL, NO_RULES)
    topo.pods()
    return topo


# -- what there is ---------------------------------------------------------------------

def fou_ports(host):
    """{port: protocol} of the namespace."""
    lines = host.run("ip", "fou", "show").stdout.splitlines()
    words = [line.split() for line in lines]
    return {int(w[1]): int(w[w.index("ipproto") + 1]) for w in words}


def device_of(host, name="flannel0"):
    links = [link for link in host.ip_json("-d", "addr", "show") if link["ifname"] == name]
    if not links:
        return None
    link, = links
    data = link["linkinfo"].get("info_data", {})
    encap = data.get("encap", {})
    return {
        "kind": link["linkinfo"]["info_kind"],
        "mtu": link["mtu"],
        "up": "UP" in link["flags"],
        "alias": link.get("ifalias"),
        "addresses": [f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]
                      if a["scope"] == "global"],
        "local": data.get("local"),
        "remote": data.get("remote"),
        "ttl": data.get("ttl"),
        "encap": (encap.get("type"), encap.get("sport"), encap.get("dport"), encap.get("csum")),
    }


def wanted(host, mtu=1472, port=PORT):
    return {"kind": "ipip", "mtu": mtu, "up": True, "alias": f"weft {NETWORK}",
            "addresses": [f"{host.subnet().network_address}/32"],
            "local": host.address, "remote": "any", "ttl": 64,
            "encap": ("fou", port, port, True)}


def routes(topo, host):
    return {str(other.subnet()): f"via {other.address} dev flannel0 onlink proto 87"
            for other in topo if other is not host}


def state(host):
    return device_of(host), fou_ports(host), host.pod_routes([NETWORK])


def right(topo, host, port=PORT):
    return wanted(host, port=port), {port: 4}, routes(topo, host)


def test_device_port_and_routes(shared):
    for host in shared.hosts[:2]:
        wait_equal(lambda h=host: state(h), right(shared, host))
        env = host.read_subnet_env()
        assert (env["FLANNEL_NETWORK"], env["FLANNEL_MTU"]) == (NETWORK, "1472")
        _, record = shared.store.lease_of(host.address)
        assert record["BackendType"] == "udp" and record.get("BackendData") is None
    assert is_udp(shared["h3"])


# -- packets ---------------------------------------------------------------------------

def test_all_pods_reach_each_other_by_their_own_address(shared):
    assert_meshed(shared)
    for host in shared:
        for pod in pods_of(shared):
            assert traffic.ping(host, pod.addresses[0]) is not None, f"{host.name} -> {pod.name}"


@pytest.mark.parametrize("way", ["h1 h2", "h1 h3", "h3 h1"])
def test_tcp_copies_arrive_whole(shared, way):
    src, dst = (shared[name].pods[0] for name in way.split())
    copy = traffic.tcp_copy(src, dst, 1 << 20)
    assert copy.intact and copy.seen_from == src.addresses[0]


@pytest.mark.parametrize("way", ["h1 h2", "h1 h3", "h3 h1"])
def test_the_full_mtu_fits_and_not_a_byte_more(shared, way):
    src, dst = (shared[name].pods[0] for name in way.split())
    assert traffic.arrives_unfragmented(src, dst, 1472, timeout=3)
    assert not traffic.arrives_unfragmented(src, dst, 1473)


def checksum(data):
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


NOBODY = "192.168.64.200"


@pytest.fixture
def nobody(shared):
    """A peer that no host is. A kernel that receives changes the packet, in FOU, under the eyes
    of who looks at it from another namespace."""
    shared.store.put_lease("10.5.90.0-24", {"PublicIP": NOBODY, "BackendType": "udp"})
    for host in shared:
        host.ip(f"neigh replace {NOBODY} lladdr 02:00:00:00:00:c8 dev eth0 nud permanent")
    yield
    shared.store.remove("10.5.90.0-24")
    for host in shared.hosts[:2]:
        wait_equal(lambda h=host: state(h), right(shared, host))


def sent_by(shared, host, words):
    """Outer header, UDP header, inner packet of one inner datagram from a host to nobody."""
    src = shared[host].pods[0]
    with Wire(shared.switches[0], host) as wire, src.ns.socket() as tx:
        tx.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 33)
        tx.bind((src.addresses[0], 4001))

        def send():
            tx.sendto(words, ("10.5.90.2", 4002))
            with contextlib.suppress(AssertionError):
                return wire.datagram(lambda payload: payload.endswith(words), timeout=0.1)
            return None

        return wait_until(send)  # it may not know the peer yet


def test_the_bytes_on_the_wire(shared, nobody):
    """As from user space, in each field that the format fixes."""
    words = b"the inner packet, as it is"
    outer, udp, inner = sent_by(shared, "h1", words)
    outer3, udp3, inner3 = sent_by(shared, "h3", words)
    assert socket.inet_ntoa(outer[12:16]) == shared["h1"].address
    assert socket.inet_ntoa(outer[16:20]) == NOBODY
    assert struct.unpack("!H", outer[2:4])[0] == 28 + len(inner)
    assert checksum(outer) == 0xFFFF
    # Version and header length, ToS, length; don't fragment; TTL, protocol; ports, length.
    assert outer[:4] == outer3[:4] and outer[6:10] == outer3[6:10]
    assert udp[:6] == udp3[:6] == struct.pack("!HHH", PORT, PORT, 8 + len(inner))
    # The checksum is asked for; a veth leaves the sum itself to whoever is behind it.
    assert udp[6:8] != b"\0\0" and udp3[6:8] != b"\0\0"
    # The inner packet: but for source, id and sums the same. The tunnel takes a hop in user space.
    assert (inner[8], inner3[8]) == (32, 31)
    assert checksum(inner[:20]) == 0xFFFF
    assert inner[:4] + inner[6:8] == inner3[:4] + inner3[6:8]
    assert inner[16:26] == inner3[16:26] and inner[28:] == inner3[28:] == words
    # And the inner checksum is finished, as a peer in user space needs it.
    assert checksum(inner[12:20] + struct.pack("!HH", 17, len(inner) - 20) + inner[20:]) == 0xFFFF


def test_with_a_host_of_flannel(make_topo):
    topo = make_topo(2)
    h1, h2 = topo.hosts
    topo.store.put_lease("10.5.90.0-24", {"PublicIP": h2.address})
    start(topo, KERNEL, NO_RULES, hosts=[h1])
    with contextlib.closing(UdpPeer(h2, NETWORK, "10.5.90.0/24",
                                    {str(h1.subnet()): h1.address})):
        a, b = topo.pods()
        assert_meshed(topo)
        for src, dst in ((a, b), (b, a)):
            copy = traffic.tcp_copy(src, dst, 1 << 18)
            assert copy.intact and copy.seen_from == src.addresses[0]
            assert traffic.arrives_unfragmented(src, dst, 1472, timeout=3)


def test_only_peers_may_send(shared):
    """A datagram from the switch's own address, which no lease has, is dropped."""
    a = shared["h1"].pods[0]
    words = b"from nobody"
    udp = struct.pack("!HHHH", 4001, 4002, 8 + len(words), 0) + words
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0,
                       socket.inet_aton("10.5.255.1"), socket.inet_aton(a.addresses[0]))
    packet = head[:10] + struct.pack("!H", ~checksum(head) & 0xFFFF) + head[12:] + udp
    with a.ns.socket() as rx, shared.switches[0].socket() as stranger, \
            shared["h2"].ns.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as peer:
        rx.bind((a.addresses[0], 4002))
        rx.settimeout(0.5)
        stranger.sendto(packet, (shared["h1"].address, PORT))
        with pytest.raises(TimeoutError):
            rx.recv(100)
        # The same from a peer, whose port 8285 the kernel has: by a raw socket.
        rx.settimeout(5)
        peer.sendto(struct.pack("!HHHH", PORT, PORT, 8 + len(packet), 0) + packet,
                    (shared["h1"].address, 0))
        assert rx.recv(100) == words


# -- kept ------------------------------------------------------------------------------

@pytest.mark.parametrize("damage", [
    ("ip link del flannel0",),
    ("ip fou del port 8285",),
    ("ip fou del port 8285", "ip fou add port 8285 ipproto 47"),
    ("ip link del flannel0", "ip fou del port 8285"),
    ("ip route flush proto 87",),
    ("ip addr flush dev flannel0",),
    ("ip link set flannel0 mtu 1300 down",),
    ("ip link set flannel0 type ipip local 192.168.64.99 ttl 5 encap none",),
    ("ip link set flannel0 type ipip encap fou encap-sport 99 encap-dport 98 noencap-csum",),
], ids=["device", "port", "another port", "device and port", "routes", "address", "MTU, down",
        "encap none", "encap"])
def test_what_is_damaged_is_repaired(shared, damage):
    h1 = shared["h1"]
    h1.allow_log("W", "restoring it|Repaired what|somebody else's|more lines about repairs")
    assert state(h1) == right(shared, h1)
    h1.signal_flanneld(signal.SIGSTOP)  # or it would repair the half of it
    for command in damage:
        h1.run(*command.split())
    h1.signal_flanneld(signal.SIGCONT)
    wait_equal(lambda: state(h1), right(shared, h1))
    assert_meshed(shared)


def test_restart_and_kill_lose_no_packet(shared):
    h1 = shared["h1"]
    pods = [shared["h1"].pods[0], shared["h2"].pods[0]]
    before = h1.ifindex("flannel0")
    with traffic.Stream.all_to_all(pods, interval_ms=10) as stream:
        h1.stop_flanneld()
        h1.start_flanneld(NO_RULES)
        h1.kill_flanneld()
        h1.start_flanneld(NO_RULES)
        report = stream.stop()
    assert report.lost == 0, report
    assert h1.ifindex("flannel0") == before
    assert state(h1) == right(shared, h1)


def test_a_port_that_is_taken(make_topo):
    topo = make_topo(2)
    h1 = topo["h1"]
    topo.store.write_config(KERNEL)
    h1.allow_log("W", "is taken")
    with h1.ns.socket() as owner:
        owner.bind(("0.0.0.0", PORT))
        h1.start_flanneld(NO_RULES, wait=False)
        h1.wait_readyz(503, f"UDP port {PORT} is taken: by python3")
        assert device_of(h1) is None
    h1.wait_readyz(200, timeout=20)
    assert device_of(h1)["kind"] == "ipip" and fou_ports(h1) == {PORT: 4}


# -- changes ---------------------------------------------------------------------------

def test_port_and_mode_change_while_running(pair):
    store, hosts = pair.store, pair.hosts
    connection = Connection(*pods_of(pair))
    store.write_config(config(Mode="kernel", Port=8300))
    for host in hosts:
        wait_equal(lambda h=host: state(h), right(pair, host, port=8300))
    assert connection.works()
    for _ in range(2):
        store.write_config(config())
        for host in hosts:
            wait_until(lambda h=host: is_udp(h) and not fou_ports(h), 10, "user space")
            wait_until(lambda h=host: "weft-flannel0" not in h.run("nft", "list", "tables").stdout)
            host.wait_readyz(200)
        assert connection.works()
        store.write_config(KERNEL)
        for host in hosts:
            wait_equal(lambda h=host: state(h), right(pair, host), 10)
            host.wait_readyz(200)
        assert connection.works()
    connection.close()
    # To another backend: nothing of it stays.
    store.write_config(config("host-gw"))
    for host in hosts:
        wait_until(lambda h=host: not fou_ports(h) and not device_of(h), 10, "nothing left")
    assert_meshed(pair)


def test_modes_change_while_it_is_stopped(pair):
    h1 = pair["h1"]
    h1.stop_flanneld()
    pair.store.write_config(config())
    h1.start_flanneld(NO_RULES)
    wait_until(lambda: is_udp(h1) and not fou_ports(h1), what="user space")
    wait_until(lambda: is_udp(pair["h2"]), what="the other, too")
    assert_meshed(pair)
    h1.stop_flanneld()
    pair.store.write_config(config(Mode="kernel", Port=8300))
    h1.start_flanneld(NO_RULES)
    for host in pair:
        wait_equal(lambda h=host: state(h), right(pair, host, port=8300))
    assert_meshed(pair)


def test_cleanup(pair):
    h1 = pair["h1"]
    wait_equal(lambda: state(h1), right(pair, h1))
    h1.run("ip", "fou", "add", "port", "7777", "ipproto", "4")
    h1.stop_flanneld()
    assert state(h1) == right(pair, h1)[:1] + ({PORT: 4, 7777: 4},) + right(pair, h1)[2:]
    done = h1.run_flanneld("--cleanup", timeout=20, subnet_dir=False)
    assert done.code == 0, done.text
    assert state(h1) == (None, {7777: 4}, {})
    assert "weft-" not in h1.run("nft", "list", "tables").stdout


def test_mtu_follows_the_nic(pair):
    h1 = pair["h1"]
    h1.ip("link set eth0 mtu 1400")
    wait_equal(lambda: device_of(h1)["mtu"], 1372)
    wait_equal(lambda: h1.read_subnet_env()["FLANNEL_MTU"], "1372")
    a, b = pods_of(pair)
    # A pod of the old MTU is told what fits.
    wait_until(lambda: not traffic.arrives_unfragmented(a, b, 1373, timeout=0.2))
    wait_until(lambda: traffic.arrives_unfragmented(a, b, 1372))
