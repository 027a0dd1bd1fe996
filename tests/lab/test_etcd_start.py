# SPDX-License-Identifier: Apache-2.0
"""Starting with etcd away, and starting all at once.

     h1 ... hn     e1 ...
    -+------+------+- sw1
"""

import json
import os
import re
import signal
import subprocess

import pytest

from lib import expect, traffic
from lib.etcd import PREFIX
from lib.expect import stays, wait_equal, wait_until

pytestmark = pytest.mark.needs("vxlan", "etcd")

# Hosts choose among the upper half, records that are written by hand are in the lower one.
CONFIG = {"Network": "10.5.0.0/16", "SubnetMin": "10.5.128.0",
          "Backend": {"Type": "vxlan"}}
STALE = "stale|using the state of"


@pytest.fixture
def topo(make_topo):
    """Two hosts that ran once, and whose etcd is gone now; topo.before is how it was."""
    topo = make_topo(2)
    topo.allow_log("W", "etcd|[Dd]atastore|last good")
    etcd = topo.etcd()
    topo.start(CONFIG)
    topo.before, topo.gone = topo.overlays(), etcd
    return topo


def reboot(host):
    """What is in memory is lost: devices and routes of the overlay, /run."""
    host.stop_flanneld()
    host.ip("link del flannel.1", force=True)
    host.ip("route flush proto 87", force=True)
    os.unlink(host.subnet_file)


# -- etcd is away ----------------------------------------------------------------------


def test_the_last_good_state_is_in_force_at_once_and_marked_as_stale(topo):
    pods, h1 = topo.pods(), topo["h1"]
    env = h1.read_subnet_env()
    topo.gone.stop()
    for host in topo:
        reboot(host)
        host.start_flanneld(wait=False)
    # MACs included: they are in the records.
    wait_equal(topo.overlays, topo.before)
    wait_equal(h1.read_subnet_env, env)
    traffic.assert_all_to_all(pods)
    for host in topo:
        host.wait_readyz(200, STALE)
    with traffic.Stream([pods]) as stream:
        topo.gone.start()
        for host in topo:
            wait_until(lambda h=host: not re.search(STALE, h.get("/readyz")[1]), 30)
            host.wait_readyz(200)
        topo.follow_the_store()
        topo.gone.v3.remove("10.5.77.0-24")
        wait_equal(topo.overlays, topo.before)
    assert stream.report.lost == 0, stream.report
    assert topo.gone.v3.keys() == sorted(h.key() for h in topo)


def test_pods_can_be_started_while_etcd_is_away(topo):
    """The subnet file is there, systemd and the CNI plugin go on."""
    h1 = topo["h1"]
    topo.gone.stop()
    reboot(h1)
    h1.start_flanneld()
    assert traffic.ping(h1.pod(), h1.address) is not None


def test_what_changed_meanwhile_is_reconciled(topo):
    """A peer came, one went, one moved, and the config is another."""
    h1, h2 = topo.hosts
    v3 = topo.gone.v3
    for n in (60, 61):
        v3.put_peer(f"10.5.{n}.0-24", f"192.168.64.{n}", mac=f"02:00:00:00:00:{n}")
        wait_until(lambda n=n: f"10.5.{n}.0/24" in h1.pod_routes())
    reboot(h1)
    topo.gone.cut_off(h1)
    v3.remove("10.5.60.0-24")
    v3.put_peer("10.5.61.0-24", "192.168.64.99", mac="02:00:00:00:00:99")
    v3.put_peer("10.5.62.0-24", "192.168.64.62", mac="02:00:00:00:00:62")
    h1.start_flanneld(wait=False)
    wait_until(lambda: {"10.5.60.0/24", "10.5.61.0/24", str(h2.subnet())} == set(h1.pod_routes()))
    h1.wait_readyz(200, STALE)
    topo.gone.let_in()
    wait_equal(lambda: set(h1.pod_routes()),
               {"10.5.61.0/24", "10.5.62.0/24", str(h2.subnet())}, 30)
    wait_until(lambda: ("02:00:00:00:00:99", "192.168.64.99")
               in h1.overlay()["devices"]["flannel.1"]["fdb"])
    h1.stop_flanneld()
    topo.gone.cut_off(h1)
    v3.write_config({**CONFIG, "Backend": {"Type": "vxlan", "DirectRouting": True}})
    h1.start_flanneld(wait=False)
    wait_until(lambda: "flannel.1" in h1.pod_routes().get(str(h2.subnet()), ""))
    topo.gone.let_in()
    wait_until(lambda: "dev eth0" in h1.pod_routes()[str(h2.subnet())], 30)


def test_our_subnet_has_another_holder_when_etcd_is_back(topo):
    h1, v3 = topo["h1"], topo.gone.v3
    topo.allow_log("W", "10.5.")
    old = h1.key()
    reboot(h1)
    topo.gone.cut_off(h1)
    v3.put_peer(old, "192.168.64.66", mac="02:00:00:00:00:66")
    h1.start_flanneld(wait=False)
    wait_until(lambda: h1.key() == old)
    topo.gone.let_in()
    wait_until(lambda: h1.key() not in ("", old), 30)
    assert v3.lease(old)["PublicIP"] == "192.168.64.66"
    assert v3.lease(h1.key())["PublicIP"] == h1.address


def test_our_key_is_gone_when_etcd_is_back(topo):
    h1, v3 = topo["h1"], topo.gone.v3
    topo.allow_log("W", "10.5.")
    key = h1.key()
    reboot(h1)
    topo.gone.cut_off(h1)
    v3.revoke(key)
    h1.start_flanneld(wait=False)
    wait_until(lambda: h1.key() == key)
    topo.gone.let_in()
    wait_until(lambda: key in v3.keys(), 30)
    assert v3.ttl(key)[1] == 86400
    wait_equal(topo.overlays, topo.before, 20)


@pytest.mark.parametrize("text", ["", "{ half", "[]", "\0" * 4096, '{"version":99}'])
def test_a_state_that_cannot_be_read_is_none(topo, text):
    """It waits for etcd as at a first start."""
    h1 = topo["h1"]
    h1.stop_flanneld()
    topo.gone.stop()
    paths = [os.path.join(d, n) for d, _, names in os.walk(h1.state_dir) for n in names]
    assert paths, "no state was kept"
    for path in paths:
        with open(path, "w", encoding="ascii") as f:
            f.write(text)
    h1.allow_log("W", "state")
    h1.start_flanneld(wait=False)
    h1.wait_readyz(503, "etcd")
    stays(lambda: h1.process.poll() is None, 0.3)
    topo.gone.start()
    h1.wait_ready(30)
    wait_equal(topo.overlays, topo.before)


def test_the_state_is_for_our_eyes_and_without_rests(topo):
    topo.follow_the_store()
    for host in topo:

        def written(host=host):
            # While it is written there is another one, of which it is made.
            name, = os.listdir(host.state_dir)
            path = os.path.join(host.state_dir, name)
            with open(path, encoding="utf-8") as f:
                assert "10.5.77.0" in f.read()
            return path

        assert os.stat(wait_until(written)).st_mode & 0o022 == 0


def test_a_first_start_with_etcd_away_waits(make_topo):
    topo = make_topo(2)
    topo.allow_log("W", "etcd|[Dd]atastore")
    etcd = topo.etcd()
    etcd.v3.write_config(CONFIG)
    etcd.stop()
    for host in topo:
        host.start_flanneld(wait=False)
        host.wait_readyz(503, "etcd")
        host.wait_log(f"^W.*{etcd['e1'].url}")
    stays(lambda: all(h.process.poll() is None and not h.read_subnet_env() for h in topo), 1)
    etcd.start()
    for host in topo:
        host.wait_ready(15)
        host.wait_readyz(200)
    topo.wait_meshed()
    traffic.assert_all_to_all(topo.pods())


def test_without_a_flag_it_looks_for_etcd_on_its_own_host(make_topo):
    """The original's default endpoints, old port and new."""
    topo = make_topo(1)
    topo.allow_log("W", "etcd|[Dd]atastore")
    etcd, h1 = topo.etcd(), topo["h1"]
    etcd.client.clear()
    h1.start_flanneld(wait=False)
    h1.wait_readyz(503, "http://127.0.0.1:(2379|4001)")
    etcd.v3.write_config(CONFIG)
    h1.popen("etcd", "gateway", "start", "--listen-addr=127.0.0.1:2379",
             f"--endpoints={etcd['e1'].address}:2379", stdin=subprocess.DEVNULL,
             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    h1.wait_ready(15)
    assert etcd.v3.keys() == [h1.key()]


# -- all at once -----------------------------------------------------------------------


def start_at_once(topo, config):
    """Every daemon at the same moment; prints what that asked of etcd."""
    etcd = topo.etcd(3)
    etcd.v3.write_config(config)
    before = etcd.requests()
    for host in topo:
        host.start_flanneld(wait=False)
    for host in topo:
        host.wait_ready(120)
    after = etcd.requests()
    n = len(topo.hosts)
    calls = {m: after[m] - before.get(m, 0) for m in after if after[m] != before.get(m, 0)}
    print(f"calls per daemon, {n} at once: {sum(calls.values()) / n:.1f};",
          ", ".join(f"{m} {c / n:.2f}" for m, c in sorted(calls.items())))
    topo.wait_meshed(60)
    leases = etcd.v3.leases()
    assert {h.key() for h in topo} == set(leases) and len(leases) == n
    assert {r["PublicIP"] for r in leases.values()} == {h.address for h in topo}
    for host in topo:
        assert host.process.poll() is None
        assert len(host.pod_routes()) == n - 1
    # All at once, too: the reports of sanitizers would add up.
    for host in topo:
        host.process.send_signal(signal.SIGTERM)
    for host in topo:
        process, host.process = host.process, None
        assert process.wait(60 * expect.TIME_FACTOR) == 0


def test_sixty_daemons_at_once_get_sixty_subnets(make_topo):
    start_at_once(make_topo(60), {"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}})


def test_sixty_daemons_share_out_sixty_three_subnets(make_topo):
    """A network that is nearly full: the last ones have to look for theirs."""
    start_at_once(make_topo(60), {"Network": "10.5.0.0/18", "Backend": {"Type": "vxlan"}})


def test_two_hundred_daemons_at_once(make_topo):
    if expect.TIME_FACTOR > 1 and not os.environ.get("LAB_HEAVY"):
        pytest.skip("with sanitizers these take more memory than a machine has: set LAB_HEAVY=1")
    start_at_once(make_topo(200), {"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}})


def test_of_two_records_with_our_address_the_one_we_had_is_taken(make_topo):
    """Another may be left of an earlier life."""
    topo = make_topo(1)
    etcd = topo.etcd()
    topo.allow_log("W", "is our own")
    topo.start(CONFIG)
    key = topo["h1"].key()
    topo["h1"].kill_flanneld()
    etcd.v3.put(f"{PREFIX}/subnets/10.5.9.0-24", json.dumps(etcd.v3.lease(key)), ttl=86400)
    topo["h1"].start_flanneld()
    assert topo["h1"].key() == key, "the subnet that we had is the one of the two to take"
