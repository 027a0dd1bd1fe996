# SPDX-License-Identifier: Apache-2.0
"""The NIC goes, comes back, changes its address; the default route moves.

     h1     h2     h3
    -+------+------+- sw1
    -+------+------+- sw99     where the test says so
"""

import pytest

from lib import traffic
from lib.expect import stays, wait_until

pytestmark = pytest.mark.needs("vxlan")

NETWORK = "10.5.0.0/16"
CONFIGS = [{"Network": NETWORK, "Backend": {"Type": t}} for t in ("vxlan", "host-gw")]
each_backend = pytest.mark.parametrize("config", CONFIGS, ids=["vxlan", "host-gw"])


@each_backend
def test_the_nic_is_deleted_and_made_again(make_topo, config):
    topo = make_topo(3)
    topo.allow_log("W", ".")
    topo.start(config)
    h1, pods = topo["h1"], topo.pods()
    before = topo.overlays()
    with traffic.Stream.all_to_all(pods) as stream:
        topo.unplug(h1)
        h1.wait_readyz(None, "eth0|default route|interface")
        topo.plug(h1)
        wait_until(lambda: topo.overlays() == before)
        stream.wait_flowing()
        h1.wait_readyz(200)
    between = [f for f in stream.report.flows if "h1/" not in f.name]
    assert all(f.lost == 0 for f in between), stream.report


@each_backend
def test_the_nic_goes_down_and_up(make_topo, config):
    topo = make_topo(3)
    topo.allow_log("W", ".")
    topo.start(config)
    h1, pods = topo["h1"], topo.pods()
    before = topo.overlays()
    with traffic.Stream.all_to_all(pods) as stream:
        h1.ip("link set eth0 down")
        stays(lambda: h1.process.poll() is None, 0.05)
        h1.ip("link set eth0 up", "route replace default via 192.168.64.254 dev eth0")
        wait_until(lambda: topo.overlays() == before)
        stream.wait_flowing()


@each_backend
def test_the_nics_address_changes(make_topo, config):
    topo = make_topo(3)
    topo.allow_log("W", ".")
    topo.start(config)
    h1, pods = topo["h1"], topo.pods()
    key, routes = h1.key(), set(h1.pod_routes())
    with traffic.Stream.all_to_all(pods) as stream:
        topo.set_address(h1, "192.168.64.51")

        def followed():
            now = topo.store.lease(key)
            assert now["PublicIP"] == "192.168.64.51", now
            assert set(h1.pod_routes()) == routes
            for device in h1.overlay()["devices"].values():
                assert device["local"] == "192.168.64.51"
            for peer in (topo["h2"], topo["h3"]):
                overlay = peer.overlay()
                assert "192.168.64.11" not in str(overlay), overlay
                assert "192.168.64.51" in str(overlay), overlay
            return True

        wait_until(followed, 10)
        stream.wait_flowing()
    assert h1.key() == key and len(topo.store.keys()) == 3
    between = [f for f in stream.report.flows if "h1/" not in f.name]
    assert all(f.lost == 0 for f in between), stream.report


def test_a_second_address_changes_nothing(make_topo):
    topo = make_topo(2)
    topo.start(CONFIGS[0])
    pods = topo.pods()
    before = topo.overlays()
    with traffic.Stream([pods]) as stream:
        topo["h1"].ip("addr add 192.168.64.200/24 dev eth0", "addr add 172.31.0.1/16 dev eth0")
        stays(lambda: topo.overlays() == before, 0.3)
    assert stream.report.lost == 0
    assert topo.store.lease_of("192.168.64.11")


def test_the_default_route_moves_to_another_nic(make_topo):
    topo = make_topo(3, second_nic=True)
    topo.allow_log("W", ".")
    topo.start(CONFIGS[0])
    pods = topo.pods()
    keys = topo.store.keys()
    with traffic.Stream.all_to_all(pods) as stream:
        for host in topo:
            host.ip("route replace default via 172.20.0.254 dev eth1")

        def moved():
            leases = topo.store.leases()
            ips = {r["PublicIP"] for r in leases.values()}
            assert ips == {"172.20.0.11", "172.20.0.12", "172.20.0.13"}, ips
            for host in topo:
                device = host.overlay()["devices"]["flannel.1"]
                assert device["lower"] == "eth1"
                assert device["local"].startswith("172.20.0.")
                assert all(dst.startswith("172.20.0.") for _, dst in device["fdb"])
            return True

        wait_until(moved, 10)
        stream.wait_flowing()
    assert topo.store.keys() == keys


def test_the_default_route_is_lost_and_the_data_path_stays(make_topo):
    topo = make_topo(2)
    topo.allow_log("W", "default route")
    topo.start(CONFIGS[0])
    pods = topo.pods()
    before = topo.overlays()
    h1 = topo["h1"]
    with traffic.Stream([pods]) as stream:
        h1.ip("route del default")
        h1.wait_readyz(None, "default route")
        stays(lambda: topo.overlays() == before, 0.2)
        h1.ip("route add default via 192.168.64.254")
        h1.wait_readyz(200, r"^(?!.*default route)")
    assert stream.report.lost == 0
    assert topo.overlays() == before


def test_the_nics_mtu_changes(make_topo):
    topo = make_topo(2)
    topo.allow_log("W", ".")
    topo.start(CONFIGS[0])
    h1 = topo["h1"]
    h1.ip("link set eth0 mtu 1400")
    wait_until(lambda: h1.overlay()["devices"]["flannel.1"]["mtu"] == 1350)
    wait_until(lambda: h1.read_subnet_env()["FLANNEL_MTU"] == "1350")
    h1.ip("link set eth0 mtu 1500")
    wait_until(lambda: h1.overlay()["devices"]["flannel.1"]["mtu"] == 1450)
