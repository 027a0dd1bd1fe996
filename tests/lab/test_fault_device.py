# SPDX-License-Identifier: Apache-2.0
"""Somebody breaks the tunnel device, or entries; traffic is running; all comes back.

     h1     h2     h3        the damage is done on h1
    -+------+------+- sw1
"""

import pytest

from lib import expect, traffic
from lib.expect import wait_equal
from lib.watch import Watch

pytestmark = pytest.mark.needs("vxlan")

VXLAN = {"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}
HOST_GW = {"Network": "10.5.0.0/16", "Backend": {"Type": "host-gw"}}
# LESSONS.md promises 50 ms. The limit here is for a busy machine; bench/ measures.
REPAIR_MS = 100
MAX_GAP_MS = 300


class Damaged:
    """A running overlay, and the means to break it on h1."""

    def __init__(self, make_topo, config, **kwargs):
        self.topo = make_topo(3, **kwargs)
        self.topo.allow_log("W", "Repaired what|restoring it")
        self.topo.start(config)
        self.h1, self.h2, self.h3 = self.topo.hosts
        self.pods = self.topo.pods()
        self.before = self.topo.overlays()
        self.peer = {
            "net": str(self.h2.subnet()),
            "base": str(self.h2.subnet().network_address),
            "ip": self.h2.address,
        }
        devices = self.h2.overlay()["devices"]
        if devices:
            self.peer["mac"] = devices["flannel.1"]["mac"]

    def fill(self, command):
        own = str(self.h1.subnet().network_address)
        return command.format(own=own, **self.peer)

    def repairs(self, damage, record_property, device="flannel.1", max_gap_ms=MAX_GAP_MS,
                max_repair_ms=REPAIR_MS):
        """Runs damage() under traffic; asserts that everything is as before, soon. Others may
        hold the machine up: of three times, one must be within the limits."""
        for last in (False, False, True):
            report, took = self._repair(damage, device)
            in_time = (
                (took or 0) < max_repair_ms * expect.TIME_FACTOR
                and report.longest_gap_ms < max_gap_ms * expect.TIME_FACTOR
            )
            if in_time or last:
                break
        record_property("repair_ms", took and round(took, 1))
        record_property("lost", report.lost)
        record_property("longest_gap_ms", round(report.longest_gap_ms, 1))
        assert in_time, f"repaired in {took} ms; {report}"
        traffic.assert_all_to_all(self.pods)
        return report

    def _repair(self, damage, device):
        with traffic.Stream.all_to_all(self.pods) as stream:
            with Watch(self.h1.ns) as watch:
                damage()
                watch.wait_quiet()
                wait_equal(self.topo.overlays, self.before, 10, "restored")
            stream.wait_flowing()
        return stream.report, watch.repair_ms(device)


@pytest.fixture
def vxlan(make_topo):
    return Damaged(make_topo, VXLAN)


@pytest.fixture
def host_gw(make_topo):
    return Damaged(make_topo, HOST_GW)


# -- the device ------------------------------------------------------------------------

def test_the_device_is_deleted(vxlan, record_property):
    index = vxlan.h1.ifindex("flannel.1")
    vxlan.repairs(lambda: vxlan.h1.ip("link del flannel.1"), record_property)
    assert vxlan.h1.ifindex("flannel.1") != index


def test_the_device_is_deleted_ten_times(vxlan, record_property):
    def damage():
        for _ in range(10):
            vxlan.h1.ip("link del flannel.1", force=True)

    vxlan.repairs(damage, record_property, max_gap_ms=1000, max_repair_ms=1000)


@pytest.mark.parametrize("command", [
    "link set flannel.1 down",
    "link set flannel.1 address 02:de:ad:be:ef:01",
    "link set flannel.1 mtu 1200",
    "addr flush dev flannel.1",
    "addr add 10.5.250.1/32 dev flannel.1",
    "link set flannel.1 name renamed0",
    "link set flannel.1 type vxlan learning",
], ids=["down", "mac", "mtu", "address-flushed", "address-added", "renamed", "learning"])
def test_the_device_is_changed(vxlan, command, record_property):
    lines = [command]
    if "name" in command:  # a device that is up can be renamed only by newer kernels
        lines = ["link set flannel.1 down", command, "link set renamed0 up"]
    # Before the third of three lines the device may have its own name again.
    vxlan.repairs(lambda: vxlan.h1.ip(*lines, force=len(lines) > 1 or "flush" in command),
                  record_property)


def test_the_address_is_replaced(vxlan, record_property):
    vxlan.repairs(lambda: vxlan.h1.ip(vxlan.fill("addr add 10.5.250.1/32 dev flannel.1"),
                                      vxlan.fill("addr del {own}/32 dev flannel.1")),
                  record_property)


def test_another_device_takes_the_name(vxlan, record_property):
    vxlan.repairs(
        lambda: vxlan.h1.ip(
            "link set flannel.1 down",
            "link del flannel.1",
            "link add name flannel.1 type vxlan id 99 dstport 9999 local 127.0.0.1",
            force=True,
        ),
        record_property,
    )


# -- single entries --------------------------------------------------------------------

@pytest.mark.parametrize("command", [
    "neigh del {base} dev flannel.1",
    "neigh replace {base} lladdr 02:de:ad:be:ef:02 dev flannel.1 nud permanent",
    "neigh flush dev flannel.1 nud permanent",
    "route del {net}",
    "route replace {net} via 192.168.64.254 dev eth0",
    "route replace blackhole {net}",
    "route replace {net} nexthop via 192.168.64.254 dev eth0 nexthop via 192.168.64.13 dev eth0",
    "route replace {net} via {base} dev flannel.1 onlink proto 87 mtu 600",
    "route prepend {net} via 192.168.64.254 dev eth0",
    "route prepend blackhole {net}",
    "route flush dev flannel.1",
], ids=["neigh-deleted", "neigh-changed", "neigh-flushed", "route-deleted", "route-foreign",
        "route-blackhole", "route-multipath", "route-with-mtu", "route-in-front", "blackhole-in-front",
        "routes-flushed"])
def test_an_entry_is_damaged(vxlan, command, record_property):
    # A flush goes on while anything is left, and says that it failed when we are quicker.
    vxlan.repairs(lambda: vxlan.h1.ip(vxlan.fill(command), force="flush" in command),
                  record_property)


@pytest.mark.parametrize("command", [
    "fdb del {mac} dst {ip} dev flannel.1 self",
    "fdb replace {mac} dst 192.168.64.99 dev flannel.1 self permanent",
    "fdb replace {mac} dst {ip} port 9999 dev flannel.1 self permanent",
    "fdb append {mac} dst 192.168.64.99 dev flannel.1 self permanent",
    "fdb add 02:de:ad:be:ef:03 dst 192.168.64.99 dev flannel.1 self permanent",
], ids=["deleted", "changed", "another-port", "second-remote", "foreign"])
def test_an_fdb_entry_is_damaged(vxlan, command, record_property):
    vxlan.repairs(lambda: vxlan.h1.ip(vxlan.fill(command), tool="bridge"), record_property)


def test_everything_is_flushed_at_once(vxlan, record_property):
    def damage():
        vxlan.h1.ip("route flush dev flannel.1", "neigh flush dev flannel.1 nud permanent",
                    "addr flush dev flannel.1", force=True)
        vxlan.h1.ip(*(f"fdb del {mac} dst {dst} dev flannel.1 self"
                      for mac, dst in vxlan.before["h1"]["devices"]["flannel.1"]["fdb"]),
                    tool="bridge", force=True)

    vxlan.repairs(damage, record_property)


def test_it_is_broken_on_all_hosts_at_once(vxlan, record_property):
    def damage():
        for host in vxlan.topo:
            host.ip("link del flannel.1")

    vxlan.repairs(damage, record_property)


# -- host-gw ---------------------------------------------------------------------------

@pytest.mark.parametrize("command", [
    "route del {net}",
    "route replace {net} via 192.168.64.254 dev eth0",
    "route replace blackhole {net}",
    "route flush root 10.5.0.0/16 proto 87",
], ids=["deleted", "foreign", "blackhole", "flushed"])
def test_a_host_gw_route_is_damaged(host_gw, command, record_property):
    host_gw.repairs(lambda: host_gw.h1.ip(host_gw.fill(command)), record_property, device=None)


# -- dual-stack ------------------------------------------------------------------------

@pytest.fixture
def dual(make_topo):
    return Damaged(make_topo, {**VXLAN, "EnableIPv6": True, "IPv6Network": "fc00:5::/48"},
                   ipv6=True)


@pytest.mark.needs("ipv6")
@pytest.mark.parametrize("command", [
    "link set flannel-v6.1 down",
    "addr flush dev flannel-v6.1",
    "-6 route del {net6}",
    "-6 route replace {net6} via fd00:64::fe dev eth0",
    "-6 route replace blackhole {net6}",
    "-6 route flush proto 87",
    "-6 neigh flush dev flannel-v6.1 nud permanent",
], ids=["down", "address-flushed", "route-deleted", "route-foreign", "route-blackhole",
        "routes-flushed", "neigh-flushed"])
def test_ipv6_is_damaged(dual, command, record_property):
    command = command.format(net6=dual.h2.subnets()[1])
    tool = "ip -6" if command.startswith("-6") else "ip"
    dual.repairs(lambda: dual.h1.ip(command.removeprefix("-6 "), tool=tool,
                                    force="flush" in command), record_property)


@pytest.mark.needs("ipv6")
def test_dual_stack_devices_are_deleted(dual, record_property):
    dual.repairs(lambda: dual.h1.ip("link del flannel.1", "link del flannel-v6.1"),
                 record_property)
