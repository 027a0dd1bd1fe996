# SPDX-License-Identifier: Apache-2.0
"""host-gw: no device, no encapsulation, one plain route per peer.

     h1     h2     h3        route 10.5.x.0/24 via 192.168.64.1y dev eth0
     |eth0  |eth0  |eth0
    -+------+------+- sw1
"""

import pytest

from lib import traffic
from lib.store import key_to_net

# Hosts choose among the upper half, records that are written by hand are in the lower one.
CONFIG = {"Network": "10.5.0.0/16", "SubnetMin": "10.5.128.0",
          "Backend": {"Type": "host-gw"}}


@pytest.fixture(scope="module")
def topo(topo_of):
    topo = topo_of(3)
    topo.start(CONFIG)
    topo.pods()
    return topo


def test_all_pods_reach_each_other_by_their_own_address(topo):
    traffic.assert_all_to_all([host.pods[0] for host in topo])


def test_the_nics_mtu_is_the_pods(topo):
    a, b = topo["h1"].pods[0], topo["h2"].pods[0]
    assert topo["h1"].read_subnet_env()["FLANNEL_MTU"] == "1500"
    assert traffic.arrives_unfragmented(a, b, 1500)


def test_kernel_objects_are_exactly_these(topo):
    leases = topo.store.leases()
    assert len(leases) == 3
    for host in topo:
        assert host.overlay() == {
            "devices": {},
            "routes": {
                key_to_net(k): f"via {r['PublicIP']} dev eth0 proto 87"
                for k, r in leases.items()
                if r["PublicIP"] != host.address
            },
        }


def test_lease_records(topo):
    for record in topo.store.leases().values():
        assert record["BackendType"] == "host-gw"
        assert record.get("BackendData") is None


def test_a_public_ip_that_is_not_the_nics_is_refused(make_topo):
    topo = make_topo(1)
    topo.store.write_config(CONFIG)
    done = topo["h1"].run_flanneld("--public-ip=203.0.113.9")
    assert done.code == 1
    errors = done.lines("E")
    assert len(errors) == 1, done.text
    assert "203.0.113.9" in errors[0] and "host-gw" in errors[0]
    assert topo.store.keys() == [] and topo["h1"].read_subnet_env() is None


def test_a_vxlan_peer_is_left_alone(make_topo):
    topo = make_topo(2)
    topo.allow_log("W", "10.5.77.0")
    topo.store.put_peer("10.5.77.0-24", "192.168.64.77", mac="02:00:00:00:00:77")
    topo.start(CONFIG)
    assert "10.5.77.0/24" not in topo["h1"].pod_routes()
