# SPDX-License-Identifier: Apache-2.0
"""The network config changes while everything runs, with traffic.

     h1     h2     h3
    -+------+------+- sw1
"""

import os

import pytest

from lib import expect, traffic
from lib.expect import stays, wait_until

pytestmark = pytest.mark.needs("vxlan")

NETWORK = "10.5.0.0/16"
# Hosts read the new config at slightly different times, so two that speak different
# backends for a moment cannot be avoided. This is what it may cost.
MAX_GAP_MS = 400


def config(type_="vxlan", **options):
    return {"Network": NETWORK, "Backend": {"Type": type_, **options}}


@pytest.fixture
def topo(make_topo):
    topo = make_topo(3)
    topo.start(config())
    topo.pods()
    return topo


def pods_of(topo):
    return [host.pods[0] for host in topo]


def change(topo, new, reached, record_property):
    """Writes a new config under traffic, waits for reached(host) on all hosts; the report."""
    topo.allow_log("W", "Ignoring lease")  # a host that is a moment later than the others
    subnets = [host.subnet() for host in topo]
    with traffic.Stream.all_to_all(pods_of(topo)) as stream:
        topo.store.write_config(new)
        for host in topo:
            wait_until(lambda h=host: reached(h), 10, f"{host.name}: {new['Backend']}")
        stream.wait_flowing()
    record_property("lost", stream.report.lost)
    record_property("longest_gap_ms", round(stream.report.longest_gap_ms, 1))
    assert stream.report.longest_gap_ms < MAX_GAP_MS * expect.TIME_FACTOR, stream.report
    assert [host.subnet() for host in topo] == subnets, "the subnets were not kept"
    for host in topo:
        host.wait_readyz(200)
    traffic.assert_all_to_all(pods_of(topo))
    return stream.report


def peers_of(topo, host):
    return [h for h in topo if h is not host]


def is_vxlan(topo, host, device="flannel.1", port=8472, mtu=1450):
    overlay = host.overlay([NETWORK])
    made = overlay["devices"].get(device)
    return (
        list(overlay["devices"]) == [device]
        and (made["port"], made["mtu"], len(made["fdb"]), len(made["neighbours"]))
        == (port, mtu, len(topo.hosts) - 1, len(topo.hosts) - 1)
        and len(overlay["routes"]) == len(topo.hosts) - 1
        and all(f"dev {device} " in r for r in overlay["routes"].values())
        and host.read_subnet_env()["FLANNEL_MTU"] == str(mtu)
    )


def is_host_gw(topo, host):
    return (
        host.overlay([NETWORK]) == {
            "devices": {},
            "routes": {
                str(p.subnet()): f"via {p.address} dev eth0 proto 87" for p in peers_of(topo, host)
            },
        }
        and host.read_subnet_env()["FLANNEL_MTU"] == "1500"
    )


def test_vxlan_to_host_gw_and_back(topo, record_property):
    change(topo, config("host-gw"), lambda h: is_host_gw(topo, h), record_property)
    assert {r["BackendType"] for r in topo.store.leases().values()} == {"host-gw"}
    change(topo, config(), lambda h: is_vxlan(topo, h), record_property)
    assert {r["BackendType"] for r in topo.store.leases().values()} == {"vxlan"}


def test_the_vni_changes(topo, record_property):
    change(topo, config(VNI=42), lambda h: is_vxlan(topo, h, "flannel.42"), record_property)
    for record in topo.store.leases().values():
        assert record["BackendData"]["VNI"] == 42


def test_the_port_changes(topo, record_property):
    change(topo, config(Port=4789), lambda h: is_vxlan(topo, h, port=4789), record_property)


def test_the_mtu_changes(topo, record_property):
    report = change(topo, config(MTU=1400), lambda h: is_vxlan(topo, h, mtu=1350), record_property)
    assert report.lost == 0, "a smaller MTU needs no interruption"
    change(topo, config(), lambda h: is_vxlan(topo, h), record_property)


def test_direct_routing_is_switched_on_and_off(topo, record_property):
    def direct(host):
        return host.pod_routes() == {
            str(p.subnet()): f"via {p.address} dev eth0 proto 87" for p in peers_of(topo, host)
        }

    on = change(topo, config(DirectRouting=True), direct, record_property)
    off = change(topo, config(), lambda h: is_vxlan(topo, h), record_property)
    assert on.lost == 0 and off.lost == 0, f"{on}\n{off}"


def test_learning_is_switched_on(topo, record_property):
    change(topo, config(Learning=True),
           lambda h: h.overlay()["devices"]["flannel.1"]["learning"], record_property)


def test_gbp_is_switched_on(topo, record_property):
    change(topo, config(GBP=True),
           lambda h: h.overlay()["devices"].get("flannel.1", {}).get("gbp"), record_property)


def test_the_same_config_written_again_changes_nothing(topo):
    before = topo.overlays()
    index = topo["h1"].ifindex("flannel.1")
    with traffic.Stream.all_to_all(pods_of(topo)) as stream:
        for _ in range(5):
            topo.store.write_config(config())
        stays(lambda: topo["h1"].ifindex("flannel.1") == index, 0.2)
    assert stream.report.lost == 0
    assert topo.overlays() == before


@pytest.mark.parametrize("broken", [
    '{"Network": "10.5.0.0/16", "Backend": {"Type"',
    '{"Network": "10.5.0.0/99"}',
    '{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlna"}}',
    '{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "VNI": "one"}}',
    "",
], ids=["half", "cidr", "backend", "option", "empty"])
def test_a_broken_config_keeps_the_last_good_one(topo, broken):
    topo.allow_log("WE", "config")
    before = topo.overlays()
    with traffic.Stream.all_to_all(pods_of(topo)) as stream:
        topo.store.write_config(broken)
        for host in topo:
            host.wait_readyz(None, "config")
            host.wait_log(r"^[WE].*config")
        stream.wait_flowing()
    assert stream.report.lost == 0
    assert topo.overlays() == before
    topo.store.write_config(config())
    for host in topo:
        host.wait_readyz(200, r"^(?!.*config)")


def test_the_config_deleted_keeps_the_last_good_one(topo):
    topo.allow_log("WE", "config")
    before = topo.overlays()
    os.unlink(topo.store.file("config"))
    topo["h1"].wait_readyz(None, "config")
    assert topo.overlays() == before
    topo.store.write_config(config())
    topo["h1"].wait_readyz(200, r"^(?!.*config)")


def test_a_network_without_our_subnet_is_told_and_not_applied(topo):
    """It cannot change live: pods have addresses in the old one."""
    topo.allow_log("WE", r"10\.6\.0\.0/16")
    before = topo.overlays()
    with traffic.Stream.all_to_all(pods_of(topo)) as stream:
        topo.store.write_config({"Network": "10.6.0.0/16", "Backend": {"Type": "vxlan"}})
        for host in topo:
            host.wait_readyz(None, r"10\.6\.0\.0/16")
            host.wait_log(r"10\.6\.0\.0/16")
        stream.wait_flowing()
    assert stream.report.lost == 0
    assert topo.overlays() == before
    assert topo["h1"].read_subnet_env()["FLANNEL_NETWORK"] == NETWORK
    topo.store.write_config(config())
    for host in topo:
        host.wait_readyz(200)


DUAL = {"EnableIPv6": True, "IPv6Network": "fc00:5::/48"}


@pytest.mark.needs("ipv6")
@pytest.mark.parametrize("families", [DUAL, {**DUAL, "EnableIPv4": False}], ids=["dual", "ipv6"])
def test_ipv6_routes_follow_each_change(make_topo, families):
    """The kernel refuses an IPv6 route through the tunnel while the same prefix leads
    elsewhere, since the gateway is inside of it."""
    topo = make_topo(3, ipv6=True, ipv4="EnableIPv4" not in families)
    topo.allow_log("W", "Ignoring lease")  # a host that is a moment later than the others
    topo.start({**config(), **families})
    pods = topo.pods()

    def device_of_routes(host):
        return {how.split(" dev ")[1].split()[0] for dst, how in host.pod_routes().items()
                if ":" in dst}

    for new, device in (
        (config("host-gw"), "eth0"),
        (config(), "flannel-v6.1"),
        (config(DirectRouting=True), "eth0"),
        (config(VNI=42), "flannel-v6.42"),
        (config(), "flannel-v6.1"),
    ):
        topo.store.write_config({**new, **families})
        for host in topo:
            wait_until(lambda h=host, d=device: device_of_routes(h) == {d}, 5,
                       f"{host.name}: IPv6 routes over {device}")
            if device != "eth0":
                wait_until(lambda h=host, d=device: d in h.overlay()["devices"]
                           and len(h.overlay()["devices"]) == len(h.subnets()), 5,
                           f"{host.name}: no device of before")
            host.wait_readyz(200, r"^(?!.*warning)")
        traffic.assert_all_to_all(pods)


@pytest.mark.parametrize("old, new, devices", [
    (config(), config(VNI=42), ["flannel.42"]),
    (config(), config("host-gw"), []),
    (config(), config("alloc"), []),
], ids=["vni", "host-gw", "alloc"])
def test_a_change_while_no_daemon_ran_leaves_nothing_of_before(make_topo, old, new, devices):
    topo = make_topo(2)
    topo.allow_log("W", "Ignoring lease")  # the other host's, until that one runs again
    topo.start(old)
    keys = topo.store.keys()
    topo.stop()
    topo.store.write_config(new)
    for host in topo:
        host.start_flanneld()
    for host in topo:
        wait_until(lambda h=host: list(h.overlay()["devices"]) == devices, 5,
                   f"{host.name}: devices {devices}")
        routes = host.pod_routes()
        assert len(routes) == (0 if new["Backend"]["Type"] == "alloc" else 1), routes
    assert topo.store.keys() == keys
