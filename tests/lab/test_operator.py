# SPDX-License-Identifier: Apache-2.0
"""What operators do to hosts and stores besides breaking them.

     h1     h2
    -+------+- sw1
"""

import json
import os
import shutil
import subprocess

import pytest

from lib import expect, traffic
from lib.expect import stays, wait_equal, wait_until

pytestmark = pytest.mark.needs("vxlan")

VXLAN = {"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}
HOST_GW = {"Network": "10.5.0.0/16", "Backend": {"Type": "host-gw"}}


def device_mtu(host):
    return host.overlay()["devices"]["flannel.1"]["mtu"]


# -- the uplink ------------------------------------------------------------------------


@pytest.mark.parametrize("direct", [False, True], ids=["vxlan", "direct-routing"])
def test_addresses_of_a_cloud(make_topo, direct):
    """A /32 on the NIC and an onlink default route: nobody is a neighbour."""
    topo = make_topo([["h1"], ["h2"]])
    for host in topo:
        gateway = host.nics["eth0"].gateways[0]
        host.ip("addr flush dev eth0", f"addr add {host.address}/32 dev eth0",
                f"route add default via {gateway} dev eth0 onlink")
    topo.start({"Network": "10.5.0.0/16",
                "Backend": {"Type": "vxlan", "DirectRouting": direct}})
    traffic.assert_all_to_all(topo.pods())


def test_the_address_is_renewed_as_dhcp_does(make_topo):
    topo = make_topo(2)
    topo.start(VXLAN)
    h1 = topo["h1"]
    h1.allow_log("W", "uplink|default route|address")
    pods, before = topo.pods(), h1.overlay()
    for _ in range(3):
        h1.ip(f"addr del {h1.address}/24 dev eth0", f"addr add {h1.address}/24 dev eth0",
              "route add default via 192.168.64.254")
    wait_equal(h1.overlay, before)
    traffic.assert_all_to_all(pods)
    h1.wait_readyz(200)


@pytest.mark.parametrize("config", [VXLAN, HOST_GW], ids=["vxlan", "host-gw"])
def test_two_networks_on_the_same_hosts(make_topo, config, tmp_path):
    """Each daemon repairs its own, and neither sweeps what is the other's."""
    topo = make_topo(2)
    topo.allow_log("W", "Repaired|deleted")
    topo.start(config)
    pods = topo.pods()
    store = tmp_path / "other"
    store.mkdir()
    (store / "config").write_text(json.dumps(
        {"Network": "10.6.0.0/16", "Backend": {**config["Backend"], "VNI": 2}
         if config is VXLAN else config["Backend"]}), encoding="utf-8")
    others = [h.popen(h.flanneld_argv(subnet_dir=False)[0], f"--subnet-dir={store}",
                      f"--subnet-file={tmp_path}/{h.name}.env", stderr=subprocess.DEVNULL)
              for h in topo]
    try:
        h1 = topo["h1"]
        wait_until(lambda: [r for r in h1.pod_routes(["10.6.0.0/16"])
                            if r.startswith("10.6.")])
        before = h1.pod_routes(["10.5.0.0/16", "10.6.0.0/16"])
        h1.ip("route flush proto 87")
        wait_equal(lambda: h1.pod_routes(["10.5.0.0/16", "10.6.0.0/16"]), before)
        h1.stop_flanneld()
        h1.start_flanneld()
        stays(lambda: h1.pod_routes(["10.5.0.0/16", "10.6.0.0/16"]) == before, 0.3)
        traffic.assert_all_to_all(pods)
    finally:
        for process in others:
            process.terminate()
        for process in others:
            assert process.wait(10 * expect.TIME_FACTOR) == 0


def test_foreign_routes_to_a_pod_subnet_stay(make_topo):
    """Other metrics and longer prefixes belong to somebody else."""
    topo = make_topo(2)
    topo.store.write_config(VXLAN)
    topo.store.put_peer("10.5.77.0-24", "192.168.64.77", mac="02:00:00:00:00:77")
    h1 = topo["h1"]
    h1.ip("route add 10.5.77.0/24 via 192.168.64.9 metric 20 proto bird",
          "route add 10.5.77.128/25 via 192.168.64.9 proto static")
    h1.start_flanneld()
    routes = h1.ip_json("route", "show", "root", "10.5.77.0/24")
    assert [(r["dst"], r.get("metric", 0), r["dev"]) for r in routes] == [
        ("10.5.77.0/24", 0, "flannel.1"), ("10.5.77.0/24", 20, "eth0"),
        ("10.5.77.128/25", 0, "eth0")]


# -- a busy host -----------------------------------------------------------------------


def test_containers_that_come_and_go_cost_nothing(make_topo):
    topo = make_topo(2)
    topo.start(VXLAN)
    h1 = topo["h1"]
    position = h1.log_position()

    def ticks():
        with open(f"/proc/{h1.process.pid}/stat", encoding="ascii") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    before = ticks()
    h1.ip(*(line for i in range(250) for line in (
        f"link add v{i} type veth peer name p{i}", f"link set v{i} up", f"link del v{i}")))
    assert (ticks() - before) / os.sysconf("SC_CLK_TCK") < 0.5 * expect.TIME_FACTOR
    assert h1.log_text(position) == ""
    traffic.assert_all_to_all(topo.pods())


# -- edits of the config ---------------------------------------------------------------


def by_rename(path, text):
    with open(path + ".swp", "w", encoding="utf-8") as f:
        f.write(text)
    os.rename(path, path + "~")
    os.rename(path + ".swp", path)
    os.remove(path + "~")


def by_truncation(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def by_halves(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text[:len(text) // 2])
        f.flush()
        os.fsync(f.fileno())
        f.write(text[len(text) // 2:])


def by_copy(path, text):
    with open(path + ".new", "w", encoding="utf-8") as f:
        f.write(text)
    shutil.copyfile(path + ".new", path)


@pytest.mark.parametrize("edit", [by_rename, by_truncation, by_halves, by_copy])
def test_the_config_is_edited(make_topo, edit):
    topo = make_topo(1)
    topo.start(VXLAN)
    h1 = topo["h1"]
    h1.allow_log("WE", "config")
    for mtu in (1400, 1300):
        edit(topo.store.file("config"), json.dumps(
            {"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "MTU": mtu}}))
        wait_equal(lambda: device_mtu(h1), mtu - 50)
        wait_until(lambda m=mtu: h1.read_subnet_env()["FLANNEL_MTU"] == str(m - 50))
    h1.wait_readyz(200, r"ready\n\Z")


# -- records that are sent around ------------------------------------------------------


def push(topo, central):
    """What rsync --delete does: temporary names, renames, and away with all else."""
    for key, record in central.items():
        temporary = topo.store.file("subnets", f".{key}.Xa3d9f")
        with open(temporary, "w", encoding="utf-8") as f:
            json.dump(record, f)
        os.rename(temporary, topo.store.file("subnets", key))
    for key in topo.store.keys():
        if key not in central:
            topo.store.remove(key)


def test_a_push_that_lacks_our_own_record(make_topo):
    """The own record comes back, the subnet stays; the peers are those of the push."""
    topo = make_topo(1)
    topo.start({**VXLAN, "SubnetMin": "10.5.100.0"})  # away from the pushed ones
    h1 = topo["h1"]
    h1.allow_log("W", "was deleted|vanished")
    own, subnet = h1.key(), h1.subnet()
    central = {f"10.5.{n}.0-24": {
        "PublicIP": f"192.168.64.{n}", "BackendType": "vxlan",
        "BackendData": {"VNI": 1, "VtepMAC": f"02:00:00:00:00:{n}"}} for n in range(70, 80)}
    for gone in (None, "10.5.70.0-24", "10.5.75.0-24"):
        central.pop(gone, None)
        push(topo, central)
        wait_until(lambda: own in topo.store.keys())
        want = {key.replace("-", "/") for key in central}
        wait_equal(lambda: {r for r in h1.pod_routes() if r.startswith("10.5.7")}, want, 10)
        assert h1.subnet() == subnet
    h1.wait_readyz(200)


def test_a_reservation_is_moved(make_topo):
    """Written first, then the old lease is deleted: the host follows without a restart."""
    topo = make_topo(2)
    topo.start(VXLAN)
    h1, h2 = topo.hosts
    topo.allow_log("W", "was deleted|must be restarted|10.5.88.0")
    old = h1.key()
    topo.store.write("subnets/10.5.88.0-24", json.dumps({"PublicIP": h1.address}))
    stays(lambda: h1.key() == old, 0.2)
    topo.store.remove(old)
    wait_until(lambda: h1.read_subnet_env()["FLANNEL_SUBNET"] == "10.5.88.1/24")
    wait_until(lambda: "10.5.88.0/24" in h2.pod_routes())
    assert "Expiration" not in topo.store.lease("10.5.88.0-24")
    traffic.assert_all_to_all(topo.pods())


# -- what must never be taken away -----------------------------------------------------


def test_a_network_that_the_host_is_connected_to_is_never_replaced(make_topo):
    """Network overlaps the underlay by mistake: the host must stay on its own network."""
    topo = make_topo(2)
    h1 = topo["h1"]
    topo.allow_log("W", "overlaps 192.168.64.0/24|connected to|public IP .* is our own|vanished")
    topo.start({"Network": "192.168.0.0/16", "Backend": {"Type": "vxlan"}})
    assert all(not key.startswith("192.168.64.") for key in topo.store.keys())
    connected = h1.ip_json("route", "show", "192.168.64.0/24")
    topo.store.put_peer("192.168.64.0-24", topo["h2"].address, mac="02:00:00:00:00:64")
    h1.wait_log("W.*192.168.64.0/24 failed: it is a network that this host is connected to")
    h1.wait_readyz(200, "192.168.64.0/24")
    assert h1.ip_json("route", "show", "192.168.64.0/24") == connected
    topo.store.remove("192.168.64.0-24")
    wait_until(lambda: "connected to" not in h1.get("/readyz")[1])
    assert h1.ip_json("route", "show", "192.168.64.0/24") == connected


def test_a_config_behind_links_is_swapped(make_topo):
    """As a ConfigMap is updated: config -> ..data/config, and ..data is swapped."""
    topo = make_topo(1)
    h1, at = topo["h1"], topo.store.file
    for name, mtu in (("..1", 1500), ("..2", 1400)):
        os.mkdir(at(name))
        with open(at(name, "config"), "w", encoding="utf-8") as f:
            json.dump({"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "MTU": mtu}}, f)
    os.symlink("..1", at("..data"))
    os.symlink("..data/config", at("config"))
    h1.start_flanneld()
    assert device_mtu(h1) == 1450
    os.symlink("..2", at("..tmp"))
    os.rename(at("..tmp"), at("..data"))
    wait_until(lambda: device_mtu(h1) == 1350)
