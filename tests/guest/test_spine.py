# SPDX-License-Identifier: Apache-2.0
"""The spine on an older kernel (Debian's 6.1): runs in a guest, see tests/lab/test_guest.py

    pod a      pod a
      |          |            10.5.x.0/24 of Network 10.5.0.0/16, fc00:5:0:x::/64
     cni0       cni0
      h1         h2           vxlan, then host-gw
      |eth0      |eth0
     -+----------+- sw1       192.168.64.0/24, fd00:64::/64

What is programmed must read back as what was wanted, or flanneld repairs it for ever.
"""

import os

import pytest
from lib import traffic
from lib.expect import stays, wait_equal, wait_until
from lib.udp import assert_meshed, pods_of

NO_RULES = "--iptables-forward-rules=false"  # which need a dozen modules
DEVICES = ("flannel.1", "flannel-v6.1")


def config(type_):
    return {"Network": "10.5.0.0/16", "EnableIPv6": True, "IPv6Network": "fc00:5::/48",
            "Backend": {"Type": type_}}


@pytest.fixture(scope="module", params=["vxlan", "host-gw"])
def topo(request, topo_of):
    topo = topo_of(2, ipv6=True)
    topo.start(config(request.param), NO_RULES)
    topo.pods()
    assert_meshed(topo)
    topo.backend = request.param
    return topo


def repairs(host):
    status, text = host.get("/metrics")
    assert status == 200
    line, = [line for line in text.splitlines() if line.startswith("flannel_repairs_total ")]
    return int(line.split()[1])


def cpu_s(host):
    with open(f"/proc/{host.process.pid}/stat", encoding="ascii") as f:
        words = f.read().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def assert_silent(topo, seconds=2):
    """Nothing is repaired, nothing is said, and the processor is left alone."""
    for host in topo:
        host.wait_readyz(200)
    before = {h: (repairs(h), h.log_position(), cpu_s(h)) for h in topo}
    stays(lambda: all((repairs(h), h.log_position()) == before[h][:2] for h in topo), seconds,
          "silence")
    for host in topo:
        # To answer us some hundred times is most of it.
        assert cpu_s(host) - before[host][2] < seconds / 2, f"{host.name} is busy"


def wanted(topo, host):
    """(FDB, neighbours, routes) for the one peer, by device; see COMPAT.md section 6."""
    peer, = [other for other in topo if other is not host]
    if topo.backend == "host-gw":
        return {}, {}, {str(net): f"via {address} dev eth0 proto 87"
                        for net, address in zip(peer.subnets(), peer.addresses)}
    fdb, neighbours, routes = {}, {}, {}
    for device, net, address in zip(DEVICES, peer.subnets(), peer.addresses):
        base, mac = str(net.network_address), peer.overlay()["devices"][device]["mac"]
        fdb[device] = [(mac, address)]
        neighbours[device] = {base: mac}
        routes[str(net)] = f"via {base} dev {device} onlink proto 87"
    return fdb, neighbours, routes


def state(host):
    overlay = host.overlay()
    devices = overlay["devices"].items()
    return ({name: device["fdb"] for name, device in devices},
            {name: device["neighbours"] for name, device in devices}, overlay["routes"])


def test_they_reach_each_other(topo):
    a, b = pods_of(topo)
    for src, dst in ((a, b), (b, a)):
        assert traffic.arrives_unfragmented(src, dst, a.mtu, timeout=3)
        copy = traffic.tcp_copy(src, dst, 1 << 20)
        assert copy.intact and copy.seen_from == src.addresses[0]


def test_kernel_objects(topo):
    for host in topo:
        wait_equal(lambda h=host: state(h), wanted(topo, host))


def test_silence(topo):
    assert_silent(topo)
    assert [repairs(host) for host in topo] == [0, 0]


def damages(topo, peer):
    """Commands that take something away from what a host has for its peer, or change it."""
    routes = [f"ip route del {peer.subnet()}", f"ip -6 route del {peer.subnets()[1]}",
              f"ip route replace {peer.subnet()} via 192.168.64.254"]
    if topo.backend == "host-gw":
        return routes
    device = peer.overlay()["devices"]["flannel.1"]
    fdb = f"{device['mac']} dev flannel.1"
    neigh = f"{peer.subnet().network_address} dev flannel.1"
    return routes + [
        f"bridge fdb del {fdb}", f"bridge fdb replace {fdb} dst 192.168.64.99",
        f"ip neigh del {neigh}", f"ip neigh replace {neigh} lladdr 02:00:00:00:00:99",
        "ip addr flush dev flannel.1", "ip link set flannel.1 mtu 1300 down",
        "ip link del flannel-v6.1",
    ]


def test_what_is_damaged_is_repaired_once(topo):
    h1, h2 = topo.hosts
    for command in damages(topo, h2):
        h1.allow_log("W", "Repaired what|restoring it|more lines about repairs")
        before, whole = repairs(h1), h1.overlay()
        h1.run(*command.split())
        wait_until(lambda b=before: repairs(h1) > b, what=f"repair of: {command}")
        wait_equal(h1.overlay, whole, what=f"repair of: {command}")
    assert_meshed(topo)
    assert_silent(topo)


def test_restart_changes_nothing(topo):
    h1 = topo["h1"]
    before = h1.overlay(), [h1.ifindex(name) for name in h1.overlay()["devices"]]
    h1.stop_flanneld()
    h1.start_flanneld(NO_RULES)
    assert (h1.overlay(), [h1.ifindex(name) for name in h1.overlay()["devices"]]) == before
    assert_silent(topo)
    assert repairs(h1) == 0


def test_backends_change_while_running(make_topo):
    topo = make_topo(2, ipv6=True)
    topo.start(config("host-gw"), NO_RULES)
    topo.pods()
    for topo.backend in ("vxlan", "host-gw", "vxlan"):
        topo.store.write_config(config(topo.backend))
        for host in topo:
            wait_until(lambda h=host: state(h) == wanted(topo, h), 10, topo.backend)
        assert_meshed(topo)
        assert_silent(topo)
