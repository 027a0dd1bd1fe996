# SPDX-License-Identifier: Apache-2.0
"""A restart, and taking over from the original flannel: no packet is lost.

     h1     h2     h3
    -+------+------+- sw1

What the original leaves behind is made here with ip(8) and bridge(8): flannel.1, routes of
protocol boot, permanent neighbours and FDB entries.
"""

import pytest

from lib import traffic
from lib.expect import wait_equal, wait_until

pytestmark = pytest.mark.needs("vxlan")

# Hosts choose among the upper half, records that are written by hand are in the lower one.
CONFIG = {"Network": "10.5.0.0/16", "SubnetMin": "10.5.128.0",
          "Backend": {"Type": "vxlan"}}
PEER = {"key": "10.5.77.0-24", "net": "10.5.77.0/24", "base": "10.5.77.0",
        "mac": "02:00:00:00:00:77", "ip": "192.168.64.77"}


def originals_device(host, base, mac, mtu=1450):
    """flannel.1 as the original makes it."""
    host.ip(
        f"link add name flannel.1 address {mac} mtu {mtu} type vxlan id 1 "
        f"local {host.address} dev eth0 dstport 8472 nolearning",
        f"addr add {base}/32 dev flannel.1",
        "link set flannel.1 up",
    )


def originals_entries(host, net, mac, public_ip):
    base = net.split("/")[0]
    host.ip(
        f"neigh replace {base} lladdr {mac} dev flannel.1 nud permanent",
        f"route replace {net} via {base} dev flannel.1 onlink proto boot",
    )
    host.ip(f"fdb replace {mac} dst {public_ip} dev flannel.1 self permanent", tool="bridge")


def test_a_restart_changes_nothing_and_loses_nothing(make_topo):
    topo = make_topo(2)
    topo.start(CONFIG)
    pods = topo.pods()
    before = topo.overlays()
    index = topo["h1"].ifindex("flannel.1")
    leases = topo.store.keys()
    with traffic.Stream([pods]) as stream:
        topo["h1"].stop_flanneld()
        stream.wait_flowing()
        topo["h1"].start_flanneld()
        stream.wait_flowing()
    assert stream.report.lost == 0, stream.report
    assert topo.overlays() == before
    assert topo["h1"].ifindex("flannel.1") == index
    assert topo.store.keys() == leases


def test_the_originals_entries_are_adopted_without_loss(make_topo):
    topo = make_topo(2)
    h1, h2 = topo.hosts
    mac = "02:00:00:00:01:01"
    topo.store.put_peer("10.5.150.0-24", h1.address, mac=mac)
    topo.start(CONFIG, hosts=["h2"])
    wait_until(lambda: "10.5.150.0/24" in h2.pod_routes())
    base2 = str(h2.subnet().network_address)
    originals_device(h1, "10.5.150.0", mac)
    originals_entries(h1, str(h2.subnet()), h2.overlay()["devices"]["flannel.1"]["mac"], h2.address)
    with open(h1.subnet_file, "w", encoding="ascii") as f:
        f.write("FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.150.1/24\n"
                "FLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n")
    pods = topo.pods()
    index, before = h1.ifindex("flannel.1"), h1.overlay()
    with traffic.Stream([pods]) as stream:
        h1.start_flanneld()
        stream.wait_flowing()
    assert stream.report.lost == 0, stream.report
    assert h1.ifindex("flannel.1") == index
    after = h1.overlay()
    assert after["devices"] == before["devices"]
    assert list(after["routes"]) == [str(h2.subnet())]
    assert after["routes"][str(h2.subnet())].startswith(f"via {base2} dev flannel.1 onlink")
    assert topo.store.lease_of(h1.address)[0] == "10.5.150.0-24"


def test_what_the_original_left_stale_is_removed(make_topo):
    topo = make_topo(2)
    h1, h2 = topo.hosts
    originals_device(h1, "10.5.150.0", "02:00:00:00:01:01")
    for i in range(80, 90):
        originals_entries(h1, f"10.5.{i}.0/24", f"02:00:00:00:00:{i}", f"192.168.64.{i}")
    topo.store.put_peer("10.5.150.0-24", h1.address, mac="02:00:00:00:01:01")
    topo.store.put_peer(PEER["key"], PEER["ip"], mac=PEER["mac"])
    originals_entries(h1, PEER["net"], "02:00:00:00:00:aa", "192.168.64.99")  # changed since
    topo.start(CONFIG)
    wait_equal(lambda: sorted(h1.pod_routes()), sorted([str(h2.subnet()), PEER["net"]]))

    def entries():
        device = h1.overlay()["devices"]["flannel.1"]
        return [sorted(device["neighbours"].items()), device["fdb"]]

    base2, mac2 = str(h2.subnet().network_address), h2.overlay()["devices"]["flannel.1"]["mac"]
    wait_equal(entries, [
        sorted([(base2, mac2), (PEER["base"], PEER["mac"])]),
        sorted([(mac2, h2.address), (PEER["mac"], PEER["ip"])]),
    ])


def test_routes_that_are_not_ours_stay(make_topo):
    topo = make_topo(2)
    h1 = topo["h1"]
    h1.ip("route add 10.99.0.0/24 via 192.168.64.254 dev eth0",
          "route add 172.31.0.0/16 via 192.168.64.254 proto static")
    topo.start(CONFIG)
    routes = {r["dst"] for r in h1.ip_json("route")}
    assert {"10.99.0.0/24", "172.31.0.0/16", "default"} <= routes


@pytest.mark.parametrize("attribute", ["mtu 1400", "dstport", "local", "vni"])
def test_an_existing_device_that_differs_is_brought_right(make_topo, attribute):
    topo = make_topo(2)
    topo.allow_log("W", "flannel.1")
    h1 = topo["h1"]
    id_, port, local = 1, 8472, h1.address
    if attribute == "dstport":
        port = 4789
    elif attribute == "local":
        local = "192.168.64.200"
    elif attribute == "vni":
        id_ = 7
    mtu = 1400 if attribute.startswith("mtu") else 1450
    h1.ip(f"link add name flannel.1 mtu {mtu} type vxlan id {id_} local {local} dev eth0 "
          f"dstport {port} nolearning", "link set flannel.1 up")
    topo.start(CONFIG)
    device = h1.overlay()["devices"]["flannel.1"]
    assert (device["mtu"], device["vni"], device["port"], device["local"]) == (
        1450, 1, 8472, h1.address)
    traffic.assert_all_to_all(topo.pods())


def test_a_foreign_device_of_our_name_is_named(make_topo):
    """A bridge called flannel.1 is in the way: it is replaced or complained of, not used."""
    topo = make_topo(2)
    h1 = topo["h1"]
    h1.allow_log("WE", "flannel.1")
    h1.ip("link add name flannel.1 type bridge")
    topo.start(CONFIG, hosts=["h2"])
    h1.start_flanneld(wait=False)
    h1.wait_log(r"flannel\.1")


def test_the_subnet_of_the_lease_is_used_again(make_topo):
    topo = make_topo(1)
    topo.store.put_peer("10.5.223.0-24", topo["h1"].address, mac="02:00:00:00:01:23")
    topo.start(CONFIG)
    assert topo.store.keys() == ["10.5.223.0-24"]
    assert str(topo["h1"].subnet()) == "10.5.223.0/24"


def test_the_subnet_of_the_old_subnet_file_is_used_again(make_topo):
    topo = make_topo(1)
    with open(topo["h1"].subnet_file, "w", encoding="ascii") as f:
        f.write("FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.199.1/24\n"
                "FLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n")
    topo.start(CONFIG)
    assert topo.store.keys() == ["10.5.199.0-24"]


@pytest.mark.parametrize("text", [
    "FLANNEL_NETWORK=10.9.0.0/16\nFLANNEL_SUBNET=10.9.1.1/24\nFLANNEL_MTU=1450\n"
    "FLANNEL_IPMASQ=false\n",
    "FLANNEL_SUBNET\n\0garbage",
    "",
], ids=["other-network", "garbage", "empty"])
def test_an_old_subnet_file_of_no_use_is_passed_over(make_topo, text):
    topo = make_topo(1)
    topo.allow_log("W", "subnet.env")
    with open(topo["h1"].subnet_file, "w", encoding="ascii") as f:
        f.write(text)
    topo.start(CONFIG)
    assert topo["h1"].key() == topo.store.keys()[0]
    assert topo["h1"].read_subnet_env()["FLANNEL_NETWORK"] == "10.5.0.0/16"


def test_a_taken_subnet_in_the_old_file_is_not_fought_for(make_topo):
    topo = make_topo(1)
    topo.store.put_peer("10.5.199.0-24", "192.168.64.77", mac="02:00:00:00:00:77")
    with open(topo["h1"].subnet_file, "w", encoding="ascii") as f:
        f.write("FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.199.1/24\n"
                "FLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n")
    topo.start(CONFIG)
    assert topo.store.lease("10.5.199.0-24")["PublicIP"] == "192.168.64.77"
    assert str(topo["h1"].subnet()) != "10.5.199.0/24"
