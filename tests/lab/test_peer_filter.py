# SPDX-License-Identifier: Apache-2.0
"""VXLAN packets are taken from peers only: a stranger cannot inject into pods.

     h1     h2     x          x runs no flanneld; it builds a vxlan of its own and sends
    -+------+------+- sw1     to h1's VTEP
"""

import socket
import time

import pytest

from lib import traffic
from lib.expect import wait_equal, wait_until

pytestmark = pytest.mark.needs("vxlan", "nft")

# Hosts choose among the upper half, records that are written by hand are in the lower one.
CONFIG = {"Network": "10.5.0.0/16", "SubnetMin": "10.5.128.0",
          "Backend": {"Type": "vxlan"}}
STRANGER_MAC = "02:00:00:00:00:66"


class Stranger:
    """A host that speaks VXLAN to h1 although nobody knows it."""

    def __init__(self, host, victim):
        self.host, self.pod = host, victim.pods[0]
        mac = victim.overlay()["devices"]["flannel.1"]["mac"]
        base = str(victim.subnet().network_address)
        host.ip(
            f"link add name evil address {STRANGER_MAC} mtu 1450 type vxlan id 1 "
            f"local {host.address} dev eth0 dstport 8472 nolearning",
            "addr add 10.5.66.0/32 dev evil",
            "link set evil up",
            f"neigh replace {base} lladdr {mac} dev evil nud permanent",
            f"route replace {victim.subnet()} via {base} dev evil onlink",
        )
        host.ip(f"fdb replace {mac} dst {victim.address} dev evil self permanent", tool="bridge")

    def gets_through(self, timeout):
        address = self.pod.addresses[0]
        with self.pod.ns.socket() as rx, self.host.ns.socket() as tx:
            rx.bind((address, 7777))
            tx.bind(("10.5.66.0", 0))
            for _ in range(5):
                tx.sendto(b"injected", (address, 7777))
            rx.settimeout(timeout)
            try:
                return rx.recvfrom(64)[1][0] == "10.5.66.0"
            except socket.timeout:
                return False


def make(make_topo, *flags):
    topo = make_topo([["h1", "h2", "x"]])
    topo.start(CONFIG, *flags, hosts=["h1", "h2"])
    for name in ("h1", "h2"):
        topo[name].pod()
    return topo, Stranger(topo["x"], topo["h1"])


def test_a_stranger_is_dropped_and_peers_are_not(make_topo):
    topo, stranger = make(make_topo)
    with traffic.Stream([(topo["h1"].pods[0], topo["h2"].pods[0])]) as stream:
        assert not stranger.gets_through(0.3)
        stream.wait_flowing()
    assert stream.report.lost == 0


def filter_tables(host):
    return [e for e in host.nft_json() if e.get("table", {}).get("name", "").startswith("weft-")]


def test_without_the_filter_a_stranger_gets_through(make_topo):
    topo, stranger = make(make_topo, "--peer-filter=false")
    assert stranger.gets_through(2)
    assert not filter_tables(topo["h1"])


def test_a_stranger_that_becomes_a_peer_and_stops_being_one(make_topo):
    topo, stranger = make(make_topo)
    pods = (topo["h1"].pods[0], topo["h2"].pods[0])
    with traffic.Stream([pods]) as stream:
        for _ in range(3):
            topo.store.put_peer("10.5.66.0-24", topo["x"].address, mac=STRANGER_MAC)
            wait_until(lambda: stranger.gets_through(0.05))
            topo.store.remove("10.5.66.0-24")
            wait_until(lambda: not stranger.gets_through(0.05))
    assert stream.report.lost == 0, "peers came and went, and others felt it"


def test_the_filter_survives_a_restart_without_a_gap(make_topo):
    topo, stranger = make(make_topo)
    h1 = topo["h1"]
    with traffic.Stream([(h1.pods[0], topo["h2"].pods[0])]) as stream:
        h1.kill_flanneld()
        assert not stranger.gets_through(0.1)
        h1.start_flanneld()
        assert not stranger.gets_through(0.1)
        stream.wait_flowing()
    assert stream.report.lost == 0


def test_switching_it_off_leaves_no_table(make_topo):
    topo, stranger = make(make_topo)
    h1 = topo["h1"]
    assert filter_tables(h1)
    h1.stop_flanneld()
    h1.start_flanneld("--peer-filter=false")
    wait_equal(lambda: filter_tables(h1), [])
    assert stranger.gets_through(2)


def test_other_tables_are_left_alone(make_topo):
    topo = make_topo(2)
    h1 = topo["h1"]
    h1.run("nft", "-f", "-", input="table inet other {\n set s { type ipv4_addr; }\n"
           " chain c {\n  type filter hook input priority 0;\n  ip saddr @s drop;\n }\n}\n")
    before = h1.run("nft", "list", "table", "inet", "other").stdout
    topo.start(CONFIG)
    assert h1.run("nft", "list", "table", "inet", "other").stdout == before


@pytest.mark.parametrize("command", [
    "flush ruleset", "delete table {table}", "flush set {set}", "flush chain {chain}",
])
def test_damage_to_the_filter_is_repaired(make_topo, command):
    topo, stranger = make(make_topo, "--iptables-forward-rules=false")
    h1 = topo["h1"]
    topo.allow_log("W", "Repaired|restor|filter|nft")
    listed = h1.nft_json()
    find = {k: next(e[k] for e in listed if k in e) for k in ("table", "set", "chain")}
    words = {"table": f"{find['table']['family']} {find['table']['name']}"}
    for kind in ("set", "chain"):
        words[kind] = f"{words['table']} {find[kind]['name']}"

    def rules():
        return h1.run("nft", "-s", "list", "ruleset").stdout

    before = rules()
    with traffic.Stream([(h1.pods[0], topo["h2"].pods[0])]) as stream:
        h1.run("nft", command.format(**words))
        wait_equal(lambda: sorted(rules().split()), sorted(before.split()), 10)
        stream.wait_flowing()
    assert not stranger.gets_through(0.1)


def test_damage_again_and_again_does_not_fill_the_log(make_topo):
    topo = make_topo(2)
    h1 = topo["h1"]
    topo.start(CONFIG)
    topo.allow_log("W", "Repaired|restoring|more lines")
    before, begun = len(h1.log_text().splitlines()), time.monotonic()
    for _ in range(30):
        wait_until(lambda: "peers" in h1.run("nft", "list", "ruleset").stdout)
        h1.run("nft", "delete", "table", "ip", "weft-flannel.1")
    wait_until(lambda: "@peers" in h1.run("nft", "list", "ruleset").stdout)
    lines = h1.log_text().splitlines()[before:]
    # 20 in a window of 10 s, and a line of its end; they begin with a line.
    windows = 2 + int(time.monotonic() - begun) // 10
    assert 0 < len(lines) <= 21 * windows, lines
    assert not [x for x in lines if "Accepting VXLAN" in x], lines
