# SPDX-License-Identifier: Apache-2.0
"""test_kernel.py - kernel behaviour that the daemon relies on

Where one of these fails, it is the design that has to change, not the test.
"""

import os
import select
import socket
import struct

import pytest

from kernel import (
    RTM_DELNEIGH, RTM_DELROUTE, RTM_NEWROUTE, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE,
    RTNLGRP_NEIGH, Monitor, fails, flat, ip_json, nic, run, tun, vxlan,
)

MAC, OTHER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
FAMILIES = [
    pytest.param("-4", "192.0.2.1/24", "192.0.2.{}", "10.5.1.0/24", id="ipv4"),
    pytest.param("-6", "2001:db8::1/64", "2001:db8::{}", "fc00:5:1::/64", id="ipv6"),
]


@pytest.mark.parametrize("family,address,gateway,subnet", FAMILIES)
def test_replace_swaps_a_route_in_place(family, address, gateway, subnet):
    """A peer's new address is one message: there is no moment with two routes or none."""
    nic("d0", address)
    run(f"ip {family} route add {subnet} via {gateway.format(2)} dev d0 proto 87")
    with Monitor(RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE) as monitor:
        run(f"ip {family} route replace {subnet} via {gateway.format(3)} dev d0 proto 87")
        assert [kind for kind, _ in monitor.queued()] == [RTM_NEWROUTE]
    routes = ip_json(f"{family} route show {subnet}")
    assert flat(routes, "dst", "gateway") == [(subnet, gateway.format(3))]


@pytest.mark.parametrize("family,address,gateway,subnet", FAMILIES)
def test_replace_takes_over_a_route_of_another_protocol(family, address, gateway, subnet):
    """Routes that the original left (protocol boot) are adopted, not doubled."""
    nic("d0", address)
    run(f"ip {family} route add {subnet} via {gateway.format(2)} dev d0 proto boot")
    run(f"ip {family} route replace {subnet} via {gateway.format(2)} dev d0 proto 87")
    routes = ip_json(f"{family} route show {subnet}")
    assert flat(routes, "dst", "protocol") == [(subnet, "87")]


def test_link_down_drops_ipv4_routes_in_silence():
    """Nobody is told of the routes: a link that goes down has to wake the diff itself."""
    nic("d0", "192.0.2.1/24")
    run("ip route add 10.5.1.0/24 via 192.0.2.2 dev d0")
    with Monitor(RTNLGRP_IPV4_ROUTE) as monitor:
        run("ip link set d0 down")
        assert (RTM_DELROUTE, "10.5.1.0") not in monitor.queued()
    assert ip_json("route show 10.5.1.0/24") == []


def test_link_down_announces_permanent_neighbours():
    vxlan("vx0")
    run("ip address add 10.5.0.0/32 dev vx0")
    run("ip link set vx0 up")
    run(f"ip neigh add 10.5.1.0 lladdr {MAC} dev vx0 nud permanent")
    with Monitor(RTNLGRP_NEIGH) as monitor:
        run("ip link set vx0 down")
        assert (RTM_DELNEIGH, "10.5.1.0") in monitor.queued()
    assert ip_json("neigh show dev vx0") == []


def test_mac_change_flushes_permanent_neighbours():
    """Putting the MAC back is half of the repair."""
    vxlan("vx0")
    run("ip link set vx0 up")
    run(f"ip neigh add 10.5.1.0 lladdr {MAC} dev vx0 nud permanent")
    run(f"ip link set vx0 address {OTHER_MAC}")
    assert ip_json("neigh show dev vx0 nud permanent") == []


def fdb(mac):
    entries = ip_json("fdb show dev vx0", tool="bridge")
    return sorted(entry["dst"] for entry in entries if entry["mac"] == mac)


@pytest.mark.parametrize("mac,destinations", [
    pytest.param(MAC, ["192.0.2.2"], id="unicast"),
    pytest.param("00:00:00:00:00:00", ["192.0.2.2", "192.0.2.3"], id="several"),
])
def test_fdb_deletion_without_destination_removes_the_mac(mac, destinations):
    """Deleting by MAC needs no knowledge of where it went."""
    vxlan("vx0")
    for destination in destinations:
        run(f"bridge fdb append {mac} dev vx0 dst {destination} self permanent")
    run(f"bridge fdb append {OTHER_MAC} dev vx0 dst 192.0.2.4 self permanent")
    assert fdb(mac) == destinations
    run(f"bridge fdb del {mac} dev vx0 self")
    assert fdb(mac) == []
    assert fdb(OTHER_MAC) == ["192.0.2.4"]


def test_fdb_replace_moves_a_mac():
    """A peer's new public IP is one message as well."""
    vxlan("vx0")
    run(f"bridge fdb append {MAC} dev vx0 dst 192.0.2.2 self permanent")
    run(f"bridge fdb replace {MAC} dev vx0 dst 192.0.2.3 self permanent")
    assert fdb(MAC) == ["192.0.2.3"]


def vxlan_data(name="vx0"):
    return ip_json(f"-d link show dev {name}")[0]["linkinfo"]["info_data"]


def test_vxlan_local_address_and_uplink_change_live():
    """A changed NIC or NIC address needs no new device."""
    nic("d0", "192.0.2.1/24")
    nic("d1", "198.51.100.1/24")
    vxlan("vx0", "id 1 dstport 8472 nolearning local 192.0.2.1 dev d0")
    run(f"bridge fdb append {MAC} dev vx0 dst 192.0.2.2 self permanent")
    run("ip link set vx0 type vxlan id 1 local 198.51.100.1 dev d1")
    data = vxlan_data()
    assert (data["local"], data["link"]) == ("198.51.100.1", "d1")
    assert fdb(MAC) == ["192.0.2.2"]


@pytest.mark.parametrize("change", ["id 1 dstport 4789", "id 2", "id 1 gbp"])
def test_vxlan_port_vni_and_gbp_do_not_change_live(change):
    """These need a new device."""
    vxlan("vx0")
    before = vxlan_data()
    assert fails(f"ip link set vx0 type vxlan {change}")
    assert vxlan_data() == before


def test_one_vxlan_device_of_a_vni_and_port():
    """Make before break cannot be two devices of one VNI and port..."""
    vxlan("vx0")
    why = fails("ip link add vx1 type vxlan id 1 dstport 8472 nolearning")
    assert why and "exists" in why
    # ... but a device of another port can stand beside it.
    vxlan("vx2", "id 1 dstport 4789 nolearning")


def test_ipv4_and_ipv6_vxlan_share_vni_and_port():
    """flannel.1 and flannel-v6.1 of a dual-stack host."""
    nic("d0", "192.0.2.1/24", "2001:db8::1/64")
    vxlan("vx4", "id 1 dstport 8472 nolearning local 192.0.2.1 dev d0")
    vxlan("vx6", "id 1 dstport 8472 nolearning local 2001:db8::1 dev d0")
    run("ip link set vx4 up")
    run("ip link set vx6 up")


def test_a_tun_keeps_what_stands_on_it_without_its_process():
    """Backend udp: a restart finds device, address and route as they were."""
    fd = tun("t0")
    run("ip link set t0 mtu 1472 up")
    run("ip address add 10.5.1.0/32 dev t0")
    run("ip route add 10.5.0.0/16 dev t0 proto 87")
    before = ip_json("link show t0")[0]["ifindex"]
    os.close(fd)
    after = ip_json("address show t0")[0]
    assert (after["ifindex"], after["mtu"]) == (before, 1472)
    assert "10.5.1.0" in [a["local"] for a in after["addr_info"]]
    assert flat(ip_json("route show 10.5.0.0/16"), "dev", "protocol") == [("t0", "87")]
    os.close(tun("t0"))
    assert ip_json("link show t0")[0]["ifindex"] == before


def test_a_tun_tells_when_it_was_deleted():
    """The data path of udp learns of it by poll, not by the next packet."""
    fd = tun("t0")
    try:
        run("ip link set t0 up")
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        run("ip link del t0")
        assert poll.poll(5000)[0][1] & select.POLLERR
    finally:
        os.close(fd)


def test_what_comes_in_with_an_address_of_our_own_is_dropped():
    """Why "net unreachable" is not written into the tun: the pod would never get it."""
    fd = tun("t0")
    try:
        run("ip link set t0 up")
        run("ip address add 10.5.1.0/32 dev t0")
        run("ip link set lo up")
        run("ip address add 10.5.1.2/32 dev lo")
        run("ip route add 10.5.0.0/16 dev t0")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rx:
            rx.bind(("10.5.1.2", 4000))
            rx.settimeout(0.2)
            for source in ("10.5.1.0", "10.5.9.9"):
                os.write(fd, datagram(source, "10.5.1.2", 4000))
            assert rx.recvfrom(16)[1][0] == "10.5.9.9"
    finally:
        os.close(fd)


def datagram(source, destination, port):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 29, 1, 0, 64, 17, 0,
                       socket.inet_aton(source), socket.inet_aton(destination))
    total = sum(struct.unpack("!10H", head))
    total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return head[:10] + struct.pack("!H", total) + head[12:] + struct.pack(
        "!HHHH", 9, port, 9, 0) + b"x"


def test_nft_transaction_is_all_or_nothing():
    """A rule set that is half refused leaves what was there."""
    probe = fails("nft -f -", "table inet probe {}\ndelete table inet probe\n")
    if probe:
        pytest.skip(f"this kernel has no nftables: {probe}")
    run("nft -f -", "add table inet weft\n"
        "add set inet weft peers { type ipv4_addr; }\n"
        "add element inet weft peers { 192.0.2.1 }\n")
    before = run("nft list ruleset")
    # nft itself finds no fault in it; the kernel does, at the last line.
    why = fails("nft -f -", "flush set inet weft peers\n"
                "add element inet weft peers { 192.0.2.2 }\n"
                "create table inet weft\n")
    assert why and "File exists" in why
    assert run("nft list ruleset") == before
