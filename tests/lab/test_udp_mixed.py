# SPDX-License-Identifier: Apache-2.0
"""Backend udp: a network as it is run, with hosts of both kinds, one that changes, some dead.

     h1     h2     h3    h3 is a host of flannel (tests/peer/udp_reference.c)
    -+------+------+- sw1
"""

import contextlib
import time

import pytest

from lib import traffic
from lib.expect import wait_until
from lib.load import Bulk
from lib.udp import assert_meshed, config, metrics, start, vxlan
from lib.udp_reference import third_of_flannel

pytestmark = pytest.mark.needs("tun")

N_DEAD = 12


@pytest.fixture(name="topo")
def _topo(make_topo):
    topo = start(make_topo(2))
    topo.pods()
    assert_meshed(topo)
    return topo


@pytest.fixture(name="mixed")
def _mixed(make_topo):
    with third_of_flannel(make_topo(3)) as topo:
        topo.pods()
        assert_meshed(topo)
        yield topo


@pytest.mark.needs("vxlan")
def test_hosts_go_to_vxlan_and_back_while_one_of_flannel_stays(mixed):
    """No transfer ends, neither between those that change nor with the one that cannot."""
    h1, h2, h3 = mixed.hosts
    a, b, c = (host.pods[0] for host in mixed)
    with Bulk(a, b, timeout=60) as among, Bulk(c, a, streams=1, timeout=60) as with_flannel:
        for conf, there in ((vxlan(), True), (config(), False)):
            mixed.store.write_config(conf)
            for host in (h1, h2):
                wait_until(lambda h=host, t=there: bool(h.ifindex("flannel.1")) == t, 10,
                           "flannel.1 of " + host.name)
                host.wait_readyz(200)
            among.wait_more()
            with_flannel.wait_more()
            assert_meshed(mixed)


def test_the_uplinks_address_changes_under_load(topo):
    topo.allow_log("W", "refuses to send")
    h1, h2 = topo.hosts
    a, b = (host.pods[0] for host in topo)
    with Bulk(a, b, timeout=60) as there, Bulk(b, a, timeout=60) as back:
        mark = h2.log_position()
        h1.ip("addr flush dev eth0 scope global", "addr add 192.168.64.111/24 dev eth0",
              "route replace default via 192.168.64.1")
        h2.wait_log(rf"Subnet added: {h1.subnet()} via 192\.168\.64\.111", start=mark)
        there.wait_more()
        back.wait_more()


@contextlib.contextmanager
def sending_to_the_dead(topo):
    """A pod goes on to send to N_DEAD hosts that have a lease and answer no ARP."""
    h1 = topo["h1"]
    for i in range(N_DEAD):
        topo.store.put_lease(f"10.5.{10 + i}.0-24", {"PublicIP": f"192.168.64.{130 + i}"})
    h1.wait_log(rf"Subnet added: 10\.5\.{10 + N_DEAD - 1}\.0/24")
    with h1.pods[0].ns.socket() as sock:
        sock.setblocking(False)

        def send():
            for i in range(N_DEAD):
                with contextlib.suppress(BlockingIOError):
                    sock.sendto(bytes(1000), (f"10.5.{10 + i}.9", 9))
        yield send


def test_dead_peers_take_nothing_from_the_others(topo):
    h1 = topo["h1"]
    a, b = (host.pods[0] for host in topo)
    full = 'flannel_udp_dropped_total{reason="send_buffer_full"}'
    with sending_to_the_dead(topo) as send:
        # More than the kernel keeps for a neighbour that it looks for (unres_qlen_bytes).
        for _ in range(300):
            send()
            time.sleep(0.001)
        assert traffic.ping(a, b.addresses[0]) is not None
        assert metrics(h1)[full] == 0
