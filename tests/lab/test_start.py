# SPDX-License-Identifier: Apache-2.0
"""Starting: choice of the uplink, waiting for what is not there yet, one daemon per host.

     h1     h2          eth1 of each host is on a switch of its own
    -+------+- sw1
    -+------+- sw99
"""

import pytest

from lib import traffic
from lib.expect import stays, wait_until

pytestmark = pytest.mark.needs("vxlan")

CONFIG = {"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}


def lower_of(host):
    return host.overlay()["devices"]["flannel.1"]["lower"]


def test_a_second_daemon_is_refused(make_topo):
    topo = make_topo(1)
    topo.start(CONFIG)
    h1 = topo["h1"]
    before = h1.overlay()
    done = h1.run_flanneld("--healthz-port=0")
    assert done.code == 1
    errors = done.lines("E")
    assert len(errors) == 1, done.text
    assert "another flanneld" in errors[0] and h1.subnet_file in errors[0]
    assert h1.overlay() == before
    assert h1.wait_readyz(200)


def test_the_lock_of_a_killed_daemon_does_not_hold(make_topo):
    topo = make_topo(1)
    topo.start(CONFIG)
    topo["h1"].kill_flanneld()
    topo["h1"].start_flanneld()


def test_no_default_route_yet_is_waited_for(make_topo):
    topo = make_topo(1)
    h1 = topo["h1"]
    h1.allow_log("W", "default route")
    h1.ip("route del default")
    topo.store.write_config(CONFIG)
    h1.start_flanneld(wait=False)
    assert wait_until(lambda: h1.get_or_none("/healthz"))[0] == 200
    h1.wait_readyz(503, "default route")
    h1.wait_log("default route")
    stays(lambda: h1.process.poll() is None, 0.1)
    h1.ip("route add default via 192.168.64.254")
    h1.wait_ready()
    assert lower_of(h1) == "eth0"


def test_a_multipath_default_route_counts(make_topo):
    topo = make_topo(1, second_nic=True)
    h1 = topo["h1"]
    h1.ip("route del default",
          "route add default nexthop via 192.168.64.254 dev eth0 nexthop via 172.20.0.254 dev eth1")
    topo.start(CONFIG)
    assert lower_of(h1) in ("eth0", "eth1")


def test_the_lowest_metric_wins(make_topo):
    topo = make_topo(1, second_nic=True)
    h1 = topo["h1"]
    h1.ip("route del default", "route add default via 192.168.64.254 dev eth0 metric 200",
          "route add default via 172.20.0.254 dev eth1 metric 100")
    topo.start(CONFIG)
    assert lower_of(h1) == "eth1"
    assert list(topo.store.leases().values())[0]["PublicIP"] == "172.20.0.11"


@pytest.mark.parametrize("flag", [
    "--iface=eth1", "--iface=172.20.0.11", "--iface-regex=^172\\.20\\.", "--iface-regex=eth[1-3]",
    "--iface-can-reach=172.20.0.12",
])
def test_the_uplink_can_be_chosen(make_topo, flag):
    topo = make_topo(2, second_nic=True)
    topo["h1"].nics["eth0"], topo["h1"].nics["eth1"] = topo["h1"].nics["eth1"], None
    topo.store.write_config(CONFIG)
    topo["h1"].start_flanneld(flag)
    assert lower_of(topo["h1"]) == "eth1"
    assert topo.store.lease_of("172.20.0.11")


def test_an_interface_that_does_not_exist_yet_is_waited_for_or_refused(make_topo):
    """--iface that does not exist: named, exit code 1, nothing half-applied."""
    topo = make_topo(1)
    topo.store.write_config(CONFIG)
    done = topo["h1"].run_flanneld("--iface=eth7")
    assert done.code == 1
    errors = done.lines("E")
    assert len(errors) == 1 and "eth7" in errors[0], done.text
    assert topo.store.keys() == []


def test_a_public_ip_of_ones_own_is_published(make_topo):
    topo = make_topo(1)
    topo.store.write_config(CONFIG)
    topo["h1"].start_flanneld("--public-ip=203.0.113.9")
    assert topo.store.lease_of("203.0.113.9")
    assert topo["h1"].overlay()["devices"]["flannel.1"]["local"] == "192.168.64.11"


def test_flags_by_environment(make_topo):
    topo = make_topo(1, second_nic=True)
    topo.store.write_config(CONFIG)
    topo["h1"].start_flanneld(env={"FLANNELD_IFACE": "eth1"})
    assert lower_of(topo["h1"]) == "eth1"


def test_the_blackhole_route(make_topo):
    topo = make_topo(2)
    topo.start(CONFIG, "--ip-blackhole-route")
    h1, h2 = topo.hosts
    for host in topo:
        assert host.pod_routes()[str(host.subnet())].startswith("blackhole")
    # An address without a pod must not leave by the default route.
    with h1.ns.socket() as s, pytest.raises(OSError):
        s.sendto(b"x", (str(h1.subnet().network_address + 9), 9))
    traffic.assert_all_to_all(topo.pods())
    h1.stop_flanneld()
    h1.start_flanneld()
    wait_until(lambda: str(h1.subnet()) not in h1.pod_routes())


def test_tx_checksum_of_the_tunnel_device(make_topo):
    topo = make_topo(2)
    topo.start(CONFIG, "--tx-checksum=off")
    traffic.assert_all_to_all(topo.pods())
    if topo["h1"].run("sh", "-c", "command -v ethtool", check=False).returncode == 0:
        text = topo["h1"].run("ethtool", "-k", "flannel.1").stdout
        assert "tx-checksumming: off" in text


def test_without_a_backend_it_is_vxlan_and_says_so(make_topo):
    topo = make_topo(1)
    topo.allow_log("W", "vxlan")
    topo.start({"Network": "10.5.0.0/16"})
    topo["h1"].wait_log("vxlan")
    assert "flannel.1" in topo["h1"].overlay()["devices"]
