# SPDX-License-Identifier: Apache-2.0
"""The life of a lease in the embedded store.

     h1 ... hn
    -+- ... -+- sw1
"""

import os
import signal

import pytest

from lib import expect, traffic
from lib.expect import stays, wait_until
from lib.shim import Clock
from lib.store import parse_rfc3339, rfc3339

pytestmark = pytest.mark.needs("vxlan")

# Hosts choose among the upper half, records that are written by hand are in the lower one.
CONFIG = {"Network": "10.5.0.0/16", "SubnetMin": "10.5.128.0",
          "Backend": {"Type": "vxlan"}}
DAY = 86400


def left(record):
    """Seconds until the record expires."""
    return parse_rfc3339(record["Expiration"]) - parse_rfc3339(rfc3339(0))


def test_the_entries_of_a_dead_host_go_when_its_lease_ends(make_topo):
    topo = make_topo(2)
    topo.start(CONFIG)
    h1 = topo["h1"]
    topo.store.put_peer("10.5.77.0-24", "192.168.64.77", mac="02:00:00:00:00:77", expires_in=5)
    wait_until(lambda: "10.5.77.0/24" in h1.pod_routes())
    with traffic.Stream([topo.pods()]) as stream:
        wait_until(lambda: "10.5.77.0/24" not in h1.pod_routes(), 15)

    def nothing_of_it():
        device = h1.overlay()["devices"]["flannel.1"]
        return ("10.5.77.0" not in device["neighbours"]
                and "02:00:00:00:00:77" not in dict(device["fdb"]))

    wait_until(nothing_of_it)
    assert str(topo["h2"].subnet()) in h1.pod_routes()
    assert stream.report.lost == 0


def test_a_lease_that_was_over_before_we_started_is_none(make_topo):
    topo = make_topo(1)
    topo.store.put_peer("10.5.77.0-24", "192.168.64.77", mac="02:00:00:00:00:77", expires_in=-60)
    topo.start(CONFIG)
    assert topo["h1"].pod_routes() == {}


def test_a_peer_that_leaves_is_removed(make_topo):
    topo = make_topo(2)
    topo.start(CONFIG)
    h1 = topo["h1"]
    topo.store.put_peer("10.5.77.0-24", "192.168.64.77", mac="02:00:00:00:00:77")
    wait_until(lambda: "10.5.77.0/24" in h1.pod_routes())
    topo.store.remove("10.5.77.0-24")
    wait_until(lambda: "10.5.77.0/24" not in h1.pod_routes())


@pytest.mark.parametrize("old, new", [
    (("192.168.64.77", "02:00:00:00:00:77"), ("192.168.64.77", "02:00:00:00:00:88")),
    (("192.168.64.77", "02:00:00:00:00:77"), ("192.168.64.88", "02:00:00:00:00:77")),
    (("192.168.64.77", "02:00:00:00:00:77"), ("192.168.64.88", "02:00:00:00:00:88")),
], ids=["mac", "ip", "both"])
def test_a_peer_that_changes_leaves_nothing_old(make_topo, old, new):
    topo = make_topo(2)
    topo.start(CONFIG)
    h1 = topo["h1"]

    def entries():
        device = h1.overlay()["devices"]["flannel.1"]
        mac2 = topo["h2"].overlay()["devices"]["flannel.1"]["mac"]
        return (device["neighbours"].get("10.5.77.0"), [e for e in device["fdb"] if e[0] != mac2])

    topo.store.put_peer("10.5.77.0-24", old[0], mac=old[1])
    wait_until(lambda: entries() == (old[1], [(old[1], old[0])]))
    topo.store.put_peer("10.5.77.0-24", new[0], mac=new[1])
    wait_until(lambda: entries() == (new[1], [(new[1], new[0])]))


def test_two_peers_that_swap_their_macs(make_topo):
    topo = make_topo(2)
    topo.allow_log("W", "Two leases want different things of one entry")  # half-way
    topo.start(CONFIG)
    h1 = topo["h1"]
    a, b = "02:00:00:00:00:77", "02:00:00:00:00:88"
    for mac77, mac88 in ((a, b), (b, a)):
        topo.store.put_peer("10.5.77.0-24", "192.168.64.77", mac=mac77)
        topo.store.put_peer("10.5.88.0-24", "192.168.64.88", mac=mac88)

        def right(mac77=mac77, mac88=mac88):
            device = h1.overlay()["devices"]["flannel.1"]
            return (
                device["neighbours"].get("10.5.77.0") == mac77
                and device["neighbours"].get("10.5.88.0") == mac88
                and dict(device["fdb"]).get(mac77) == "192.168.64.77"
                and dict(device["fdb"]).get(mac88) == "192.168.64.88"
                and len(device["fdb"]) == 3
            )

        wait_until(right)


def test_a_lease_near_its_end_is_renewed_at_the_start(make_topo):
    topo = make_topo(1)
    h1 = topo["h1"]
    topo.store.put_peer("10.5.223.0-24", h1.address, mac="02:00:00:00:01:23", expires_in=600)
    topo.start(CONFIG)
    wait_until(lambda: left(topo.store.lease("10.5.223.0-24")) > DAY - 120)


@pytest.mark.needs("cc")
def test_a_lease_is_renewed_by_the_margin(make_topo):
    """The clocks jump to just before, and then past, the margin. A touched file wakes the
    daemon up, since the kernel's own timers do not jump along."""
    topo = make_topo(1)
    h1 = topo["h1"]
    clock = Clock(h1)
    topo.start(CONFIG, "--subnet-lease-renew-margin=600", env=clock.env)
    key = h1.key()
    first = topo.store.lease(key)["Expiration"]

    def poke():
        topo.store.write("subnets/.poke", "")
        return topo.store.lease(key)

    early = DAY - 600 * 60 - 120
    clock.set(wall=early, monotonic=early)
    stays(lambda: poke()["Expiration"] == first, 0.2)
    late = early + 240
    clock.set(wall=late, monotonic=late)
    wait_until(lambda: left(poke()) - late > DAY - 300)
    h1.wait_log("Lease renewed, new expiration: ")
    assert h1.key() == key


def test_our_lease_deleted_or_spoilt_comes_back(make_topo):
    topo = make_topo(2)
    topo.allow_log("W", r"10\.5\.\d+\.0-24")
    topo["h2"].allow_log("W", "1 of 1 peers have vanished")
    topo.start(CONFIG)
    h1 = topo["h1"]
    key = h1.key()
    good = topo.store.lease(key)
    with traffic.Stream([topo.pods()]) as stream:
        for spoil in (
            lambda: topo.store.remove(key),
            lambda: topo.store.write(f"subnets/{key}", "{ half"),
            lambda: topo.store.put_lease(key, {**good, "BackendData": {"VNI": 9}}),
        ):
            spoil()

            def restored():
                now = topo.store.lease(key)
                return {**now, "Expiration": 0} == {**good, "Expiration": 0}

            wait_until(restored)
        stream.wait_flowing()
    assert stream.report.lost == 0
    assert h1.key() == key


def test_a_reservation_stays_one(make_topo):
    """A record without Expiration: ours, across restarts; and a peer's."""
    topo = make_topo(1)
    h1 = topo["h1"]
    topo.store.put_peer("10.5.223.0-24", h1.address, mac="02:00:00:00:01:23", expires_in=None)
    topo.store.put_peer("10.5.77.0-24", "192.168.64.77", mac="02:00:00:00:00:77", expires_in=None)
    topo.start(CONFIG)
    for _ in range(2):
        assert h1.key() == "10.5.223.0-24"
        assert "10.5.77.0/24" in h1.pod_routes()
        assert topo.store.lease("10.5.223.0-24").get("Expiration") is None
        h1.stop_flanneld()
        h1.start_flanneld()


def test_a_reservation_without_backend_data_is_filled_in(make_topo):
    """What an administrator writes by hand: the address, no more."""
    topo = make_topo(1)
    h1 = topo["h1"]
    topo.store.put_lease("10.5.223.0-24", {"PublicIP": h1.address}, expires_in=None)
    topo.start(CONFIG)
    record = topo.store.lease("10.5.223.0-24")
    assert h1.key() == "10.5.223.0-24"
    assert record["BackendType"] == "vxlan" and record["BackendData"]["VtepMAC"]
    assert record.get("Expiration") is None


def test_the_last_subnet_has_one_winner_and_the_loser_waits(make_topo):
    topo = make_topo(2)
    topo.allow_log("W", "subnet")
    topo.store.write_config({"Network": "10.5.0.0/22", "SubnetLen": 24,
                             "Backend": {"Type": "vxlan"}})
    for i in (1, 2):  # of 10.5.1.0, .2.0 and .3.0 one is left
        topo.store.put_peer(f"10.5.{i}.0-24", f"192.168.64.7{i}", mac=f"02:00:00:00:00:7{i}")
    for host in topo:
        host.start_flanneld(wait=False)
    ready = wait_until(lambda: [h for h in topo if "READY=1" in h._read_states()])
    winner = ready[0]
    loser = next(h for h in topo if h is not winner)
    assert str(winner.subnet()) == "10.5.3.0/24"
    loser.wait_readyz(503, "subnet|lease")
    stays(lambda: loser.process.poll() is None, 0.2)
    assert topo.store.lease("10.5.3.0-24")["PublicIP"] == winner.address
    topo.store.remove("10.5.1.0-24")
    loser.wait_ready(10)
    assert str(loser.subnet()) == "10.5.1.0/24"
    topo.wait_meshed()


def test_a_hundred_hosts_at_once_get_a_hundred_subnets(make_topo):
    topo = make_topo(100)
    topo.store.write_config(CONFIG)
    for host in topo:
        host.start_flanneld(wait=False)
    for host in topo:
        host.wait_ready(60)
    topo.wait_meshed(60)
    keys = topo.store.keys()
    assert len(set(keys)) == len(keys) == 100
    assert {h.key() for h in topo} == set(keys)
    assert {r["PublicIP"] for r in topo.store.leases().values()} == {h.address for h in topo}
    for host in topo:
        assert host.process.poll() is None
        assert len(host.pod_routes()) == 99
    # All at once, or a hundred seconds of sanitizer reports would add up.
    for host in topo:
        host.process.send_signal(signal.SIGTERM)
    for host in topo:
        process, host.process = host.process, None
        assert process.wait(30 * expect.TIME_FACTOR) == 0


def test_subnets_of_a_full_network_are_all_used(make_topo):
    """Three hosts, three subnets: nobody goes without."""
    topo = make_topo(3)
    topo.store.write_config({"Network": "10.5.0.0/22", "SubnetLen": 24,
                             "Backend": {"Type": "vxlan"}})
    for host in topo:
        host.start_flanneld(wait=False)
    for host in topo:
        host.wait_ready()
    assert topo.store.keys() == ["10.5.1.0-24", "10.5.2.0-24", "10.5.3.0-24"]


def test_an_expired_lease_is_free_for_others(make_topo):
    topo = make_topo(1)
    topo.store.write_config({"Network": "10.5.0.0/22", "SubnetLen": 24, "SubnetMin": "10.5.1.0",
                             "SubnetMax": "10.5.1.0", "Backend": {"Type": "vxlan"}})
    topo.store.put_peer("10.5.1.0-24", "192.168.64.77", mac="02:00:00:00:00:77", expires_in=-60)
    topo["h1"].start_flanneld()
    assert topo.store.lease("10.5.1.0-24")["PublicIP"] == topo["h1"].address
    assert os.listdir(topo.store.file("subnets")) == ["10.5.1.0-24"], "something was left over"
