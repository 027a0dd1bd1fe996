# SPDX-License-Identifier: Apache-2.0
"""The daemon itself dies, is stopped, misses what the kernel says.

     h1     h2     h3
    -+------+------+- sw1
"""

import signal

import pytest

from lib import traffic
from lib.expect import let_pass, wait_equal, wait_until

pytestmark = pytest.mark.needs("vxlan")

# Hosts choose among the upper half, records that are written by hand are in the lower one.
CONFIG = {"Network": "10.5.0.0/16", "SubnetMin": "10.5.128.0",
          "Backend": {"Type": "vxlan"}}


def mac(n):
    return f"02:00:00:00:00:{n:02x}"


def test_killed_and_restarted_after_peers_left_joined_and_changed(make_topo):
    topo = make_topo(2)
    topo.store.put_peer("10.5.101.0-24", "192.168.64.101", mac=mac(1))  # will leave
    topo.store.put_peer("10.5.102.0-24", "192.168.64.102", mac=mac(2))  # will change
    topo.store.put_peer("10.5.103.0-24", "192.168.64.103", mac=mac(3))  # stays
    topo.start(CONFIG)
    h1, h2 = topo.hosts
    pods = topo.pods()
    wait_until(lambda: len(h1.pod_routes()) == 4)
    with traffic.Stream([pods]) as stream:
        h1.kill_flanneld()
        topo.store.remove("10.5.101.0-24")
        topo.store.put_peer("10.5.102.0-24", "192.168.64.112", mac=mac(12))
        topo.store.put_peer("10.5.104.0-24", "192.168.64.104", mac=mac(4))  # joins
        h1.start_flanneld()
        wait_equal(lambda: sorted(h1.pod_routes()), sorted(
            ["10.5.102.0/24", "10.5.103.0/24", "10.5.104.0/24", str(h2.subnet())]))
        stream.wait_flowing()
    assert stream.report.lost == 0, stream.report
    mac2 = h2.overlay()["devices"]["flannel.1"]["mac"]

    def entries():
        device = h1.overlay()["devices"]["flannel.1"]
        return [device["fdb"], device["neighbours"]]

    wait_equal(entries, [
        sorted([(mac(12), "192.168.64.112"), (mac(3), "192.168.64.103"),
                (mac(4), "192.168.64.104"), (mac2, h2.address)]),
        {"10.5.102.0": mac(12), "10.5.103.0": mac(3), "10.5.104.0": mac(4),
         str(h2.subnet().network_address): mac2},
    ])


def test_killed_and_the_device_deleted_meanwhile_keeps_its_mac(make_topo):
    topo = make_topo(2)
    topo.start(CONFIG)
    pods = topo.pods()
    before = topo.overlays()
    h1 = topo["h1"]
    with traffic.Stream([pods]) as stream:
        h1.kill_flanneld()
        h1.ip("link del flannel.1")
        h1.start_flanneld()
        wait_equal(topo.overlays, before)
        stream.wait_flowing()


def test_killed_at_any_moment_of_its_start(make_topo):
    """Killed ever later after its start, then left alone: it ends up right."""
    topo = make_topo(2)
    topo.start(CONFIG, hosts=["h2"])
    h1 = topo["h1"]
    for i in range(12):
        h1.start_flanneld(wait=False)
        let_pass(0.002 * i)
        h1.kill_flanneld()
    h1.start_flanneld()
    topo.wait_meshed()
    traffic.assert_all_to_all(topo.pods())
    assert len(topo.store.keys()) == 2, "a crash left a record behind"


def test_stopped_for_a_while(make_topo):
    topo = make_topo(2)
    topo.allow_log("W", "Repaired what|restoring it")
    topo.start(CONFIG)
    pods = topo.pods()
    before = topo.overlays()
    h1 = topo["h1"]
    with traffic.Stream([pods]) as stream:
        h1.signal_flanneld(signal.SIGSTOP)
        h1.ip("link del flannel.1")
        h1.signal_flanneld(signal.SIGCONT)
        wait_equal(topo.overlays, before)
        stream.wait_flowing()


def overruns(host):
    """Notifications that the kernel could not deliver to flanneld's netlink sockets."""
    lines = host.run("cat", "/proc/thread-self/net/netlink").stdout.splitlines()
    names = lines[0].split()
    rows = [dict(zip(names, line.split())) for line in lines[1:]]
    return sum(int(r["Drops"]) for r in rows if r["Eth"] == "0")


def test_the_netlink_socket_is_overrun(make_topo):
    """Stopped while tens of thousands of routes come and go, and with them its own entries:
    it has missed the news and must look for itself."""
    topo = make_topo(3)
    topo.allow_log("W", "Repaired what|restoring it|ENOBUFS|[Nn]otification")
    topo.start(CONFIG)
    h1, h2, h3 = topo.hosts
    pods = topo.pods()
    before = topo.overlays()
    noise = [f"route add 198.{18 + i // 32768}.{i // 128 % 256}.{i % 128 * 2}/31 dev lo"
             for i in range(30000)]
    with traffic.Stream.all_to_all(pods) as stream:
        h1.signal_flanneld(signal.SIGSTOP)
        h1.ip(*noise)
        h1.ip("route flush root 198.18.0.0/15")
        h1.ip(f"route del {h2.subnet()}",
              f"neigh del {h3.subnet().network_address} dev flannel.1")
        lost = overruns(h1)
        h1.signal_flanneld(signal.SIGCONT)
        assert lost > 0, "the socket took it all: this proves nothing"
        wait_equal(topo.overlays, before, 20)
        stream.wait_flowing()


def test_a_storm_of_foreign_events_is_survived(make_topo):
    """The same noise with the daemon awake: it stays in touch."""
    topo = make_topo(2)
    topo.allow_log("W", "Repaired what|restoring it|[Nn]otification")
    topo.start(CONFIG)
    h1 = topo["h1"]
    pods = topo.pods()
    before = topo.overlays()
    with traffic.Stream([pods]) as stream:
        h1.ip(*(f"route add 198.18.{i // 128 % 256}.{i % 128 * 2}/31 dev lo"
                for i in range(10000)))
        h1.ip("route flush root 198.18.0.0/15")
        h1.ip(f"route del {topo['h2'].subnet()}")
        wait_equal(topo.overlays, before, 20)
        stream.wait_flowing()
