# SPDX-License-Identifier: Apache-2.0
"""vxlan with DirectRouting: plain routes inside an L2, VXLAN between two.

     h1     h2                h3     h4
     |eth0  |eth0             |eth0  |eth0
    -+------+- sw1           -+------+- sw2
            +------- r -------+
"""

import pytest

from lib import traffic
from lib.expect import wait_until

pytestmark = pytest.mark.needs("vxlan")

# Hosts choose among the upper half, records that are written by hand are in the lower one.
CONFIG = {"Network": "10.5.0.0/16", "SubnetMin": "10.5.128.0",
          "Backend": {"Type": "vxlan", "DirectRouting": True}}
NEAR = {"h1": "h2", "h2": "h1", "h3": "h4", "h4": "h3"}


@pytest.fixture(scope="module")
def topo(topo_of):
    topo = topo_of([["h1", "h2"], ["h3", "h4"]])
    topo.start(CONFIG)
    topo.pods()
    return topo


def test_all_pods_reach_each_other_by_their_own_address(topo):
    traffic.assert_all_to_all([host.pods[0] for host in topo])


def test_near_peers_have_plain_routes_and_far_ones_vxlan(topo):
    for host in topo:
        near = topo[NEAR[host.name]]
        far = [h for h in topo if h not in (host, near)]
        overlay = host.overlay()
        want = {str(near.subnet()): f"via {near.address} dev eth0 proto 87"}
        for peer in far:
            base = peer.subnet().network_address
            want[str(peer.subnet())] = f"via {base} dev flannel.1 onlink proto 87"
        assert overlay["routes"] == want
        device = overlay["devices"]["flannel.1"]
        assert set(device["neighbours"]) == {str(p.subnet().network_address) for p in far}
        assert {dst for _, dst in device["fdb"]} == {p.address for p in far}


def test_packets_travel_as_the_routes_say(topo):
    """Counts what goes through the tunnel device."""

    def sent(host):
        return host.ip_json("-s", "link", "show", "dev", "flannel.1")[0]["stats64"]["tx"]["packets"]

    h1, h2, h3 = topo["h1"], topo["h2"], topo["h3"]
    before = sent(h1)
    assert traffic.ping(h1.pods[0], h2.pods[0].addresses[0]) is not None
    assert sent(h1) == before
    assert traffic.ping(h1.pods[0], h3.pods[0].addresses[0]) is not None
    assert sent(h1) == before + 1


def test_the_mtu_is_that_of_the_tunnel(topo):
    assert topo["h1"].pods[0].mtu == 1450
    for peer in ("h2", "h3"):
        assert traffic.arrives_unfragmented(topo["h1"].pods[0], topo[peer].pods[0], 1450)


def test_a_peer_that_moves_into_our_l2_is_routed_plainly(make_topo):
    topo = make_topo([["h1"], ["h2"]])
    topo.start(CONFIG)
    h1 = topo["h1"]
    topo.store.put_peer("10.5.77.0-24", "192.168.65.77", mac="02:00:00:00:00:77")
    far = "via 10.5.77.0 dev flannel.1 onlink proto 87"
    wait_until(lambda: h1.pod_routes().get("10.5.77.0/24") == far)
    topo.store.put_peer("10.5.77.0-24", "192.168.64.77", mac="02:00:00:00:00:77")
    near = "via 192.168.64.77 dev eth0 proto 87"
    wait_until(lambda: h1.pod_routes().get("10.5.77.0/24") == near)

    def nothing_of_the_tunnel():
        device = h1.overlay()["devices"]["flannel.1"]
        return ("10.5.77.0" not in device["neighbours"]
                and "02:00:00:00:00:77" not in dict(device["fdb"]))

    wait_until(nothing_of_the_tunnel)
