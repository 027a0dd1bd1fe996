# SPDX-License-Identifier: Apache-2.0
"""The wall clock jumps, on one host; nobody loses peers or a lease.

     h1     h2        h1's flanneld sees other clocks (shim/clock.c)
    -+------+- sw1
"""

import pytest

from lib import traffic
from lib.expect import stays, wait_until
from lib.shim import Clock
from lib.store import parse_rfc3339, rfc3339

pytestmark = pytest.mark.needs("vxlan", "cc")

# Hosts choose among the upper half, records that are written by hand are in the lower one.
CONFIG = {"Network": "10.5.0.0/16", "SubnetMin": "10.5.128.0",
          "Backend": {"Type": "vxlan"}}
DAY = 86400


def start(make_topo):
    topo = make_topo(2)
    topo.allow_log("W", "clock|Expiration|expire")
    clock = Clock(topo["h1"])
    topo.store.write_config(CONFIG)
    topo["h1"].start_flanneld(env=clock.env)
    topo["h2"].start_flanneld()
    topo.wait_meshed()
    return topo, clock


def poke(topo):
    """Gives every flanneld a reason to look at the store."""
    topo.store.write("subnets/.poke", "")
    return True


@pytest.mark.parametrize("jump", [2 * DAY, 400 * DAY, -2 * DAY, -400 * DAY],
                         ids=["two-days-on", "a-year-on", "two-days-back", "a-year-back"])
def test_a_jump_removes_nobody(make_topo, jump):
    topo, clock = start(make_topo)
    before, keys = topo.overlays(), topo.store.keys()
    with traffic.Stream([topo.pods()]) as stream:
        clock.set(wall=jump)
        stays(lambda: poke(topo) and topo.overlays() == before, 0.3)
        # A peer that comes now is accepted, although by h1's clock its lease is long over,
        # or begins in the future.
        topo.store.put_peer("10.5.77.0-24", "192.168.64.77", mac="02:00:00:00:00:77")
        wait_until(lambda: "10.5.77.0/24" in topo["h1"].pod_routes())
        clock.set()
        stays(lambda: poke(topo) and len(topo["h1"].pod_routes()) == 2, 0.2)
    assert stream.report.lost == 0, stream.report
    assert topo.store.keys() == sorted(keys + ["10.5.77.0-24"])


def test_a_restart_with_a_wrong_clock_keeps_subnet_and_peers_traffic(make_topo):
    """Before NTP has set the clock: by it, all leases run for ages yet."""
    topo, clock = start(make_topo)
    h1 = topo["h1"]
    key = h1.key()
    with traffic.Stream([topo.pods()]) as stream:
        clock.set(wall=-400 * DAY)
        h1.stop_flanneld()
        h1.start_flanneld(env=clock.env)
        assert h1.key() == key
        topo.wait_meshed()
        stream.wait_flowing()
    assert stream.report.lost == 0, stream.report


def test_a_lease_ends_by_time_that_passes_not_by_the_clock(make_topo):
    topo, clock = start(make_topo)
    h1 = topo["h1"]
    topo.store.put_peer("10.5.77.0-24", "192.168.64.77", mac="02:00:00:00:00:77", expires_in=5)
    wait_until(lambda: "10.5.77.0/24" in h1.pod_routes())
    clock.set(wall=-2 * DAY)
    wait_until(lambda: poke(topo) and "10.5.77.0/24" not in h1.pod_routes(), 15)


def test_our_own_lease_is_not_written_into_the_past(make_topo):
    """While the clock is wrong, what others read of us must not look expired for long:
    once it is right again, so is the record."""
    topo, clock = start(make_topo)
    h1 = topo["h1"]
    clock.set(wall=-2 * DAY)
    poke(topo)
    clock.set()
    wait_until(lambda: poke(topo) and parse_rfc3339(topo.store.lease(h1.key())["Expiration"])
               > parse_rfc3339(rfc3339(DAY // 2)))
