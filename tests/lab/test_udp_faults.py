# SPDX-License-Identifier: Apache-2.0
"""Backend udp: somebody breaks something, the uplink or the config changes.

     h1     h2     damage is done on h1
    -+------+- sw1
"""

import contextlib
import os
import re
import socket
import subprocess
import sys

import pytest

from lib import expect, traffic
from lib.expect import wait_equal, wait_until
from lib.udp import (
    NETWORK, PORT, Connection, Wire, assert_meshed, config, is_udp, metrics, pods_of, route,
    routes, start, tun_of, vxlan, wanted,
)

pytestmark = pytest.mark.needs("tun")


@pytest.fixture
def topo(make_topo):
    """Two hosts, and a pod on each."""
    topo = start(make_topo(2))
    topo.pods()
    return topo


# -- repairs ---------------------------------------------------------------------------

@pytest.mark.parametrize("commands", [
    ["link del flannel0"],
    ["link set flannel0 down", "link set flannel0 name renamed0", "link set renamed0 up"],
    ["link set flannel0 down"],
    ["link set flannel0 mtu 1300"],
    ["link set flannel0 txqueuelen 10"],
    ["link set flannel0 alias mine"],
    ["addr flush dev flannel0"],
    ["addr add 10.5.250.1/32 dev flannel0"],
    [f"route del {NETWORK}"],
    [f"route replace {NETWORK} via 192.168.64.254 dev eth0"],
    [f"route replace blackhole {NETWORK}"],
    ["link del flannel0", "tuntap add dev flannel0 mode tun"],
    ["link del flannel0", "link add flannel0 type bridge"],
], ids=["deleted", "renamed", "down", "mtu", "queue", "alias", "address-flushed", "address-added",
        "route-deleted", "route-foreign", "route-blackhole", "replaced", "replaced-by-a-bridge"])
def test_damage_is_repaired(topo, commands):
    topo.allow_log("W", "Repaired what|restoring it|UDP data path|somebody else's")
    h1 = topo["h1"]
    h1.ip(*commands, force=True)
    wait_equal(lambda: (tun_of(h1), routes(h1)), (wanted(h1), route()), 5, "restored")
    h1.wait_readyz(200)
    assert_meshed(topo)
    assert [link["ifname"] for link in h1.ip_json("link", "show")
            if link.get("linkinfo", {}).get("info_kind") == "tun"] == ["flannel0"]


def test_it_is_deleted_ten_times(topo):
    topo.allow_log("W", "Repaired what|restoring it|UDP data path|Device flannel0")
    h1 = topo["h1"]
    for _ in range(10):
        h1.ip("link del flannel0", force=True)
    wait_equal(lambda: (tun_of(h1), routes(h1)), (wanted(h1), route()), 5, "restored")
    wait_until(lambda: h1.get("/readyz")[0] == 200, 5)
    assert_meshed(topo)


# -- the uplink ------------------------------------------------------------------------

def test_the_uplink_gets_another_address(topo):
    topo.allow_log("W", "uplink|eth0|UDP data path")
    h1, h2 = topo.hosts
    topo.set_address(h1, "192.168.64.99")
    h2.wait_log(r"Subnet added: .* via 192\.168\.64\.99")
    h1.wait_readyz(200)
    assert_meshed(topo)
    assert topo.store.lease_of("192.168.64.99")[0] == h1.key()


def test_the_uplink_gets_another_mtu(topo):
    topo["h1"].ip("link set eth0 mtu 1400")
    wait_until(lambda: is_udp(topo["h1"], mtu=1372), 5)
    assert topo["h1"].read_subnet_env()["FLANNEL_MTU"] == "1372"


def test_the_uplink_is_pulled_and_comes_back(topo):
    topo.allow_log("W", "default route|interface|eth0|Repaired what|restoring it|"
                        "the kernel refuses to send")
    h1 = topo["h1"]
    with contextlib.closing(Connection(*pods_of(topo))) as connection:
        assert connection.works()
        topo.unplug(h1)
        h1.wait_readyz(503, "interface")
        topo.plug(h1)
        h1.wait_readyz(200)
        assert connection.works()
    assert is_udp(h1)


def test_a_firewall_of_this_host_drops_what_we_send(topo):
    """Netfilter refuses it, and we say so: nothing else would tell where packets stay."""
    topo.allow_log("W", "the kernel refuses to send")
    h1 = topo["h1"]
    h1.ns.run("nft", "-f", "-", input="table ip t { chain o { type filter hook output priority 0;"
                                      f" udp dport {PORT} drop; }}; }}")
    a, b = pods_of(topo)
    assert traffic.ping(a, b.addresses[0], 0.5) is None
    line = (f"UDP data path: the kernel refuses to send to {topo['h2'].address}: "
            "Operation not permitted (a firewall of this host?)")
    wait_until(lambda: h1.log_text().count(line) == 1, 5, line)
    assert metrics(h1)['flannel_udp_dropped_total{reason="send_refused"}'] > 0
    h1.ns.run("nft", "delete", "table", "ip", "t")
    assert_meshed(topo)


# -- what is missing -------------------------------------------------------------------

def test_there_is_no_tun_here(make_topo):
    topo = make_topo(1)
    h1 = topo["h1"]
    h1.allow_log("W", "/dev/net/tun")
    topo.store.write_config(config())
    h1.start_flanneld(wait=False, wrap=("unshare", "-m", "sh", "-c",
                                        'mount -t tmpfs none /dev/net && exec "$@"', "sh"))
    h1.wait_readyz(503, "opening /dev/net/tun: No such file")
    assert h1.read_subnet_env() is None
    assert metrics(h1)["flannel_udp_up"] == 0


# -- a port that is taken --------------------------------------------------------------

def test_the_port_is_taken(make_topo):
    topo = make_topo(2)
    topo.allow_log("W", f"UDP port {PORT} is taken")
    h1, h2 = topo.hosts
    with h1.ns.socket() as thief:
        thief.bind(("0.0.0.0", PORT))
        start(topo, hosts=[h2])
        h1.start_flanneld(wait=False)
        h1.wait_readyz(503, rf"UDP port {PORT} is taken: by python3\S* \(pid \d+\)")
        assert h1.read_subnet_env() is None, "pods may start, and reach nobody"
        assert metrics(h1)["flannel_udp_up"] == 0
    h1.wait_ready(timeout=10)
    topo.pods()
    assert_meshed(topo)


@pytest.mark.parametrize("family, address", [
    (socket.AF_INET6, "::"), (socket.AF_INET6, "::ffff:{}"), (socket.AF_INET, "{}"),
], ids=["ipv6", "mapped", "ours"])
def test_who_has_the_port_is_named(make_topo, family, address):
    """Most programs that speak both have a socket of IPv6. Who has it elsewhere is not in the way."""
    topo = make_topo(1)
    topo.allow_log("W", f"UDP port {PORT} is taken")
    h1 = topo["h1"]
    topo.store.write_config(config())
    innocent = contextlib.nullcontext() if address == "::" else another_at_loopback(h1)
    with innocent, h1.ns.socket(family) as thief:
        thief.bind((address.format(h1.address), PORT))
        h1.start_flanneld(wait=False)
        h1.wait_readyz(503, rf"UDP port {PORT} is taken: by python3\S* \(pid {os.getpid()}\)")
    h1.wait_ready(timeout=10)


@contextlib.contextmanager
def another_at_loopback(host):
    """Another process, which has PORT at 127.0.0.1."""
    program = (f"import socket; s = socket.socket(type=socket.SOCK_DGRAM); "
               f"s.bind(('127.0.0.1', {PORT})); print('bound', flush=True); input()")
    with host.popen(sys.executable, "-c", program, stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout.readline()
        yield
        process.stdin.close()


@pytest.mark.needs("vxlan")
def test_the_port_is_the_kernels(make_topo):
    topo = make_topo(1)
    h1 = topo["h1"]
    h1.allow_log("W", f"UDP port {PORT} is taken")
    h1.ip(f"link add name vx0 type vxlan id 7 dstport {PORT} local {h1.address} dev eth0",
          "link set vx0 up")
    topo.store.write_config(config())
    h1.start_flanneld(wait=False)
    h1.wait_readyz(503, rf"UDP port {PORT} is taken: by the kernel")
    h1.ip("link del vx0")
    h1.wait_ready(timeout=10)


# -- the config changes ----------------------------------------------------------------

def change(topo, new, reached):
    """Writes a new config under traffic; the report of what was lost."""
    subnets = [host.subnet() for host in topo]
    with traffic.Stream.all_to_all(pods_of(topo)) as stream:
        topo.store.write_config(new)
        for host in topo:
            wait_until(lambda h=host: reached(h), 5, f"{host.name}: {new['Backend']}")
        stream.wait_flowing()
    assert [host.subnet() for host in topo] == subnets, "the subnets were not kept"
    for host in topo:
        host.wait_readyz(200)
    assert_meshed(topo)
    assert stream.report.longest_gap_ms < 2000 * expect.TIME_FACTOR, stream.report


@pytest.mark.needs("vxlan")
def test_vxlan_to_udp_and_back(make_topo):
    topo = make_topo(3)
    topo.start(vxlan())
    topo.pods()

    def is_vxlan(host):
        return (host.pod_routes([NETWORK]).keys() == {str(h.subnet()) for h in topo
                                                      if h is not host}
                and tun_of(host) is None and host.read_subnet_env()["FLANNEL_MTU"] == "1450")

    def only_udp(host):
        return is_udp(host) and host.ifindex("flannel.1") is None \
            and host.read_subnet_env()["FLANNEL_MTU"] == "1472"

    change(topo, config(), only_udp)
    assert {r["BackendType"] for r in topo.store.leases().values()} == {"udp"}
    change(topo, vxlan(), is_vxlan)
    assert {r["BackendType"] for r in topo.store.leases().values()} == {"vxlan"}
    # Nothing that would look as if something should run.
    assert not [name for name in metrics(topo["h1"]) if name.startswith("flannel_udp")]


def test_host_gw_to_udp_and_back(make_topo):
    topo = make_topo(3)
    topo.start(config("host-gw"))
    topo.pods()

    def is_host_gw(host):
        return (host.pod_routes([NETWORK]).keys() == {str(h.subnet()) for h in topo
                                                      if h is not host}
                and tun_of(host) is None and host.read_subnet_env()["FLANNEL_MTU"] == "1500")

    change(topo, config(),
           lambda h: is_udp(h) and h.read_subnet_env()["FLANNEL_MTU"] == "1472")
    change(topo, config("host-gw"), is_host_gw)
    assert {r["BackendType"] for r in topo.store.leases().values()} == {"host-gw"}


@pytest.mark.needs("vxlan")
def test_a_host_that_is_still_on_vxlan_is_reached(make_topo):
    """One host does not follow; it keeps its record, and its pods."""
    topo = make_topo(2)
    topo.start(vxlan())
    topo.pods()
    h1, h2 = topo.hosts
    h2.kill_flanneld()
    topo.store.write_config(config())
    wait_until(lambda: tun_of(h1) == wanted(h1), 5)
    assert str(h2.subnet()) in h1.pod_routes([NETWORK])
    assert_meshed(topo)


@pytest.mark.needs("vxlan")
def test_a_host_that_is_still_on_udp_is_reached(make_topo):
    """The data path goes on for it, until it follows."""
    topo = start(make_topo(2))
    topo.pods()
    h1, h2 = topo.hosts
    h2.kill_flanneld()
    topo.store.write_config(vxlan())
    wait_until(lambda: h1.ifindex("flannel.1"), 5)
    h1.wait_readyz(200)
    words = b"as before"
    with Wire(topo.switches[0], "h1") as wire:
        with h1.pods[0].ns.socket() as tx:
            tx.sendto(words, (h2.pods[0].addresses[0], 9))
        outer, _, _ = wire.datagram(lambda payload: payload.endswith(words))
    assert socket.inet_ntoa(outer[16:20]) == h2.address
    assert tun_of(h1) == wanted(h1)
    h2.start_flanneld()
    for host in topo:
        wait_until(lambda h=host: tun_of(h) is None, 5)
    h1.wait_log("No longer carrying packets between flannel0 and UDP port 8285")
    assert_meshed(topo)


def test_the_port_changes(topo):
    change(topo, config(Port=18285), lambda h: "UDP port 18285" in h.log_text(h.log_mark))


@pytest.mark.parametrize("options", [
    {"Offload": "gso"}, {"Offload": "mmsg"}, {"Offload": "plain"}, {"BusyPoll": 100},
], ids=["gso", "mmsg", "plain", "busypoll"])
def test_how_it_works_changes(topo, options):
    index = topo["h1"].ifindex("flannel0")
    before = metrics(topo["h1"])
    change(topo, config(**options),
           lambda h: len(re.findall("Carrying packets", h.log_text(h.log_mark))) == 2)
    assert topo["h1"].ifindex("flannel0") == index
    # Another path; the counters are the same.
    after = metrics(topo["h1"])
    for name in after:
        assert after[name] >= before[name], name


def lacks_ipip(host):
    done = host.run("ip", "link", "add", "probe0", "type", "ipip", "local", "192.0.2.1",
                    check=False)
    if done.returncode == 0:
        host.ip("link del probe0")
    return done.returncode != 0


MODE_KERNEL = r'Mode "kernel" needs \(kernel modules ipip and fou\)'


def test_a_mode_that_this_kernel_has_not_is_refused_while_running(topo):
    h1 = topo["h1"]
    if not lacks_ipip(h1):
        pytest.skip("this kernel has ipip")
    topo.allow_log("E", MODE_KERNEL + "; going on with what was in force before")
    words = r"warning network config: .* this kernel has no ipip devices, which " + MODE_KERNEL
    topo.store.write_config(config(Mode="kernel"))
    for host in topo:
        host.wait_readyz(200, words)
        assert is_udp(host)
    assert_meshed(topo)
    assert len(re.findall("Carrying packets", h1.log_text(h1.log_mark))) == 1
    topo.store.write_config(config(BusyPoll=1))
    wait_until(lambda: "warning" not in h1.get("/readyz")[1])


def test_a_mode_that_this_kernel_has_not_ends_the_start(make_topo):
    topo = make_topo(1)
    h1 = topo["h1"]
    if not lacks_ipip(h1):
        pytest.skip("this kernel has ipip")
    topo.store.write_config(config(Mode="kernel"))
    done = h1.run_flanneld()
    assert done.code != 0
    assert re.search("Backend udp: this kernel has no ipip devices, which " + MODE_KERNEL,
                     done.text)


@pytest.mark.parametrize("options, words", [
    ({"Port": 70000}, "Backend udp: Port: 70000 is not a whole number from 0 to 65535"),
    ({"Offload": "fast"}, 'Offload is "fast"; it must be "auto", "gso", "mmsg" or "plain"'),
    ({"Mode": "fast"}, 'Mode is "fast"; it must be "userspace" or "kernel"'),
    ({"BusyPoll": -1}, "Backend udp: BusyPoll: -1 is not a whole number from 0 to 1000000"),
], ids=["port", "offload", "mode", "busypoll"])
def test_a_wrong_option_ends_the_start(make_topo, options, words):
    topo = make_topo(1)
    topo.store.write_config(config(**options))
    done = topo["h1"].run_flanneld()
    assert done.code != 0
    assert words in done.text


def test_ipv6_is_refused(make_topo):
    topo = make_topo(1, ipv6=True)
    topo.store.write_config({**config(), "EnableIPv6": True, "IPv6Network": "fc00:5::/48"})
    done = topo["h1"].run_flanneld()
    assert done.code != 0
    assert "IPv4 only" in done.text and "EnableIPv6" in done.text
