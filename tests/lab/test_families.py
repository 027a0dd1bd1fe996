# SPDX-License-Identifier: Apache-2.0
"""IPv6-only and dual-stack, vxlan and host-gw.

     h1     h2     h3        fd00:64::/64, and 192.168.64.0/24 when dual-stack
     |eth0  |eth0  |eth0     pods fc00:5:0:x::/64, and 10.5.x.0/24
    -+------+------+- sw1
"""

import ipaddress

import pytest

from lib import traffic
from lib.expect import assert_subset, wait_equal, wait_until

pytestmark = pytest.mark.needs("vxlan", "ipv6")

V6 = {"EnableIPv4": False, "EnableIPv6": True, "IPv6Network": "fc00:5::/48"}
# Hosts choose among the upper half, records that are written by hand are in the lower one.
DUAL = {"Network": "10.5.0.0/16", "SubnetMin": "10.5.128.0",
        "EnableIPv6": True, "IPv6Network": "fc00:5::/48"}


def make(topo_of, config, backend, dual):
    topo = topo_of(3, ipv4=dual, ipv6=True)
    topo.start({**config, "Backend": {"Type": backend}})
    topo.pods()
    return topo


@pytest.fixture(scope="module")
def v6_vxlan(topo_of):
    return make(topo_of, V6, "vxlan", False)


@pytest.fixture(scope="module")
def dual_vxlan(topo_of):
    return make(topo_of, DUAL, "vxlan", True)


@pytest.fixture(scope="module")
def v6_host_gw(topo_of):
    return make(topo_of, V6, "host-gw", False)


@pytest.fixture(scope="module")
def dual_host_gw(topo_of):
    return make(topo_of, DUAL, "host-gw", True)


@pytest.fixture(params=["v6_vxlan", "dual_vxlan", "v6_host_gw", "dual_host_gw"])
def topo(request):
    return request.getfixturevalue(request.param)


def test_all_pods_reach_each_other_by_their_own_addresses(topo):
    pods = [host.pods[0] for host in topo]
    assert all(len(p.addresses) == len(topo["h1"].subnets()) for p in pods)
    traffic.assert_all_to_all(pods)


def vxlan_device(host, subnet, v6):
    """What COMPAT.md wants of one family's device, its peers apart."""
    return {
        "mtu": 1430 if v6 else 1450,
        "up": True,
        "vni": 1,
        "port": 8472,
        "local": host.address6 if v6 else host.address,
        "lower": "eth0",
        "learning": False,
        "gbp": False,
        "addresses": [f"{subnet.network_address}/{128 if v6 else 32}"],
    }


@pytest.mark.parametrize("name", ["v6_vxlan", "dual_vxlan"])
def test_vxlan_objects(name, request):
    topo = request.getfixturevalue(name)
    for host in topo:
        overlay = host.overlay()
        names = ["flannel-v6.1"] + (["flannel.1"] if name == "dual_vxlan" else [])
        assert sorted(overlay["devices"]) == names
        routes = {}
        for i, subnet in enumerate(host.subnets()):
            v6 = subnet.version == 6
            device = "flannel-v6.1" if v6 else "flannel.1"
            assert_subset(overlay["devices"][device], vxlan_device(host, subnet, v6))
            neighbours, fdb = {}, []
            for peer in topo:
                if peer is host:
                    continue
                base = str(peer.subnets()[i].network_address)
                mac = peer.overlay()["devices"][device]["mac"]
                neighbours[base] = mac
                fdb.append((mac, peer.address6 if v6 else peer.address))
                routes[str(peer.subnets()[i])] = f"via {base} dev {device} onlink proto 87"
            assert overlay["devices"][device]["neighbours"] == neighbours
            assert overlay["devices"][device]["fdb"] == sorted(fdb)
        assert overlay["routes"] == routes


@pytest.mark.parametrize("name", ["v6_host_gw", "dual_host_gw"])
def test_host_gw_objects(name, request):
    topo = request.getfixturevalue(name)
    for host in topo:
        routes = {}
        for i, subnet in enumerate(host.subnets()):
            for peer in topo:
                if peer is not host:
                    via = peer.address6 if subnet.version == 6 else peer.address
                    routes[str(peer.subnets()[i])] = f"via {via} dev eth0 proto 87"
        assert host.overlay() == {"devices": {}, "routes": routes}


def test_subnet_env(topo):
    for host in topo:
        env = host.read_subnet_env()
        dual = len(host.subnets()) == 2
        vxlan = bool(host.overlay()["devices"])
        want = (["FLANNEL_NETWORK", "FLANNEL_SUBNET"] if dual else []) + [
            "FLANNEL_IPV6_NETWORK", "FLANNEL_IPV6_SUBNET", "FLANNEL_MTU", "FLANNEL_IPMASQ"]
        assert list(env) == want
        assert env["FLANNEL_MTU"] == ("1430" if vxlan else "1500")
        own = ipaddress.ip_interface(env["FLANNEL_IPV6_SUBNET"])
        assert own.network.prefixlen == 64 and own.ip == own.network.network_address + 1
        assert own.network.subnet_of(ipaddress.ip_network("fc00:5::/48"))


def test_record_keys_and_addresses(topo):
    for host in topo:
        key, record = topo.store.lease_of(host.address)
        assert key == host.key()
        assert record["PublicIPv6"] == host.address6
        if len(host.subnets()) == 2:
            assert "&" in key and record["PublicIP"] == host.address
        if host.overlay()["devices"]:
            mac = host.overlay()["devices"]["flannel-v6.1"]["mac"]
            assert record["BackendV6Data"] == {"VNI": 1, "VtepMAC": mac}


def test_the_full_mtu_fits_in_both_families(topo):
    a, b = topo["h1"].pods[0], topo["h2"].pods[0]
    assert traffic.arrives_unfragmented(a, b, a.mtu)
    assert not traffic.arrives_unfragmented(a, b, a.mtu + 1)


def test_one_familys_damage_leaves_the_other_alone(make_topo):
    topo = make_topo(2, ipv4=True, ipv6=True)
    topo.allow_log("W", "Repaired what|restoring it")
    topo.start({**DUAL, "Backend": {"Type": "vxlan"}})
    h1, h2 = topo.hosts
    pods = topo.pods()
    before, kept = h1.overlay(), h1.ifindex("flannel.1")
    with traffic.Stream([pods]) as stream:
        h1.ip("link del flannel-v6.1")
        wait_equal(h1.overlay, before)
        stream.wait_flowing()
    assert h1.ifindex("flannel.1") == kept
    assert all(f.lost == 0 for f in stream.report.flows if "10.5." in f.name), stream.report


def test_a_record_that_is_bad_in_one_family_serves_the_other(make_topo):
    topo = make_topo(1, ipv4=True, ipv6=True)
    topo.allow_log("W", r"10\.5\.77\.0")
    topo.start({**DUAL, "Backend": {"Type": "vxlan"}})
    topo.store.put_lease("10.5.77.0-24&fc00:5:0:77::-64", {
        "PublicIP": "192.168.64.77", "PublicIPv6": "fd00:64::77", "BackendType": "vxlan",
        "BackendData": {"VNI": 1, "VtepMAC": "not a mac"},
        "BackendV6Data": {"VNI": 1, "VtepMAC": "02:00:00:00:00:77"},
    })
    wait_until(lambda: "fc00:5:0:77::/64" in topo["h1"].pod_routes())
    assert "10.5.77.0/24" not in topo["h1"].pod_routes()
