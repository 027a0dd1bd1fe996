# SPDX-License-Identifier: Apache-2.0
"""etcd fails in every way it knows; the pods' traffic never notices.

     h1     h2     h3     e1     e2     e3
    -+------+------+------+------+------+- sw1
"""

import json
import re

import pytest

from lib import traffic
from lib.etcd import PREFIX
from lib.expect import stays, wait_equal, wait_until

pytestmark = pytest.mark.needs("vxlan", "etcd")

# Hosts choose among the upper half, records that are written by hand are in the lower one.
CONFIG = {"Network": "10.5.0.0/16", "SubnetMin": "10.5.128.0",
          "Backend": {"Type": "vxlan"}}
DAY = 86400


class Net:
    """Hosts and etcd, up and with pods; what a fault must leave as it was."""

    def __init__(self, topo, members, **how):
        self.topo = topo
        self.etcd = topo.etcd(members, **how)
        topo.allow_log("W", "etcd|[Dd]atastore")
        topo.start(CONFIG)
        self.pods, self.overlays = topo.pods(), topo.overlays()
        self.keys = sorted(h.key() for h in topo)
        self.stream = traffic.Stream.all_to_all(self.pods)
        self.begun = 0

    def __enter__(self):
        self.stream.start()
        return self

    def __exit__(self, kind, value, trace):
        self.stream.__exit__(kind, value, trace)
        if kind is None:
            assert self.stream.report.lost == 0, self.stream.report

    def follows(self, timeout=20.0):
        """New peers are seen, and go; nothing else has changed."""
        self.begun += 1
        n = 70 + self.begun
        self.topo.follow_the_store(n, timeout)
        self.topo.store.remove(f"10.5.{n}.0-24")
        wait_equal(self.topo.overlays, self.overlays, timeout)
        wait_equal(self.etcd.v3.keys, self.keys, timeout)
        for host in self.topo:
            host.wait_readyz(200)

    def unchanged(self, seconds):
        stays(lambda: self.topo.overlays() == self.overlays, seconds)


@pytest.fixture
def one(make_topo):
    """Two hosts on one member: what happens to it happens to all there is."""
    with Net(make_topo(2), 1) as net:
        yield net


@pytest.fixture
def three(make_topo):
    with Net(make_topo(3), 3) as net:
        yield net


def member_of(net, host):
    """The member that a host has a connection to, by the kernel's word."""
    found = host.run("ss", "-Htn", "state", "established", "dport = :2379").stdout
    return next((m for m in net.etcd if f"{m.address}:2379" in found), None)


def warnings(host):
    return re.findall(r"^W.*$", host.log_text(host.log_mark), re.M)


# -- members ---------------------------------------------------------------------------


def test_each_member_is_killed_in_turn(three):
    for member in three.etcd:
        member.kill()
        three.etcd.wait_healthy()
        three.follows()
        member.start()
        three.etcd.wait_healthy()
    three.follows()


def test_the_leader_is_killed(three):
    leader = three.etcd.leader()
    leader.kill()
    three.etcd.wait_healthy()
    three.follows()
    leader.start()
    three.etcd.wait_healthy()
    three.follows()


def test_the_member_in_use_loses_its_cable(three):
    """No reset, no answer: a connection into nothing is given up."""
    h1 = three.topo["h1"]
    member = wait_until(lambda: member_of(three, h1))
    member.unplug()
    three.etcd.wait_healthy()
    three.follows(60)
    assert member_of(three, h1) is not member
    member.plug()
    three.etcd.wait_healthy()


def test_the_member_in_use_stops_answering(three):
    """SIGSTOP: its connections stand, the kernel still acknowledges what is sent."""
    h1 = three.topo["h1"]
    member = wait_until(lambda: member_of(three, h1))
    member.pause()
    three.etcd.wait_healthy()
    three.follows(120)
    member.resume()
    three.etcd.wait_healthy()
    three.follows()


def test_a_member_is_replaced_by_an_empty_one(three):
    for name in ("e1", "e2"):
        three.etcd.replace(three.etcd[name])
        three.follows()


def test_the_quorum_is_lost_and_regained(three):
    """Two of three: what is left says "no leader", and nobody takes that for no peers."""
    dead = three.etcd.followers()
    for member in dead:
        member.kill()
    for host in three.topo:
        host.wait_readyz(None, "etcd", timeout=40)
    three.unchanged(8)
    for host in three.topo:
        assert len(warnings(host)) <= 20, warnings(host)
    for member in dead:
        member.start()
    three.etcd.wait_healthy(40)
    three.follows(30)


def test_the_cluster_is_defragmented_under_load(three):
    three.etcd.v3.put_many({f"/elsewhere/{i}": "x" * 1000 for i in range(1000)})
    three.etcd.compact()
    three.etcd.defrag()
    three.follows()
    for host in three.topo:
        assert warnings(host) == []


def test_a_compaction_disturbs_nobody_who_is_in_touch(three):
    for _ in range(3):
        three.etcd.compact()
        three.follows()
    for host in three.topo:
        assert warnings(host) == []


def test_every_member_is_restarted_one_by_one(three):
    """As for an upgrade: nobody lists anew, nobody complains for long."""
    for member in three.etcd:
        member.restart()
        three.etcd.wait_healthy()
    three.follows()


# -- all of it -------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_etcd_is_restarted(one, how):
    getattr(one.etcd, how)()
    for host in one.topo:
        host.wait_readyz(None, "etcd")
    one.unchanged(1)
    one.etcd.start()
    one.follows(10)


def test_peers_that_went_while_etcd_was_away_go_when_it_is_back(one):
    """And those that came are there."""
    one.etcd.v3.put_peer("10.5.60.0-24", "192.168.64.60", mac="02:00:00:00:00:60")
    for host in one.topo:
        wait_until(lambda h=host: "10.5.60.0/24" in h.pod_routes())
        host.stop_flanneld()
    one.etcd.v3.remove("10.5.60.0-24")
    one.etcd.v3.put_peer("10.5.61.0-24", "192.168.64.61", mac="02:00:00:00:00:61")
    for host in one.topo:
        host.start_flanneld()
        wait_until(lambda h=host: set(h.pod_routes()) & {"10.5.60.0/24", "10.5.61.0/24"}
                   == {"10.5.61.0/24"})
    one.etcd.v3.remove("10.5.61.0-24")
    one.follows()


@pytest.mark.parametrize("token", [None, "another"], ids=["same-id", "other-id"])
def test_etcd_is_restarted_with_its_data_lost(one, token):
    """The peers survive until a list has said so twice, and meanwhile all have published
    themselves again. One who does not is gone in the end."""
    one.topo.allow_log("W", "was deleted|vanished|data is not")
    one.etcd.v3.put_peer("10.5.60.0-24", "192.168.64.60", mac="02:00:00:00:00:60")
    for host in one.topo:
        wait_until(lambda h=host: "10.5.60.0/24" in h.pod_routes())
    one.etcd.wipe(token)
    # The config is not there yet: the network that we have stays in force.
    wait_equal(one.etcd.v3.keys, one.keys, 30)
    one.etcd.v3.write_config(CONFIG)
    for host in one.topo:
        wait_until(lambda h=host: "10.5.60.0/24" not in h.pod_routes(), 30)
        assert one.etcd.v3.ttl(host.key())[1] == DAY
    one.follows()


def test_etcd_is_restored_from_a_backup(one):
    """Revisions run backwards: who waits for the next one would wait long. What is in the
    backup counts, and who is not in it publishes again."""
    one.topo.allow_log("W", "was deleted|vanished|data is not")
    v3, h1 = one.etcd.v3, one.topo["h1"]
    v3.put_peer("10.5.60.0-24", "192.168.64.60", mac="02:00:00:00:00:60")
    key = h1.key()
    h1.stop_flanneld()
    v3.remove(key)
    backup = one.etcd.backup()
    h1.start_flanneld()
    assert h1.key() == key
    v3.put_peer("10.5.60.0-24", "192.168.64.99", mac="02:00:00:00:00:60")
    v3.put_peer("10.5.61.0-24", "192.168.64.61", mac="02:00:00:00:00:61")
    v3.put_many({f"/elsewhere/{i}": "x" for i in range(100)})
    for host in one.topo:
        wait_until(lambda h=host: "10.5.61.0/24" in h.pod_routes())
    one.etcd.restore(backup)
    wait_until(lambda: key in v3.keys(), 20)
    for host in one.topo:
        wait_until(lambda h=host: "10.5.61.0/24" not in h.pod_routes(), 40)
        assert ("02:00:00:00:00:60", "192.168.64.60") in host.overlay()[
            "devices"]["flannel.1"]["fdb"]
    v3.remove("10.5.60.0-24")
    one.follows()


@pytest.mark.needs("nft")
def test_data_that_is_lost_and_has_grown_again_is_not_taken_for_the_old(one):
    """The same URLs and token give the same cluster id; and by the time we are back, others
    have written so much that the revision is past that which we wait for."""
    one.topo.allow_log("W", "was deleted|vanished|data is not")
    v3, hosts = one.etcd.v3, one.topo.hosts
    v3.put_peer("10.5.60.0-24", "192.168.64.60", mac="02:00:00:00:00:60")
    for host in hosts:
        wait_until(lambda h=host: "10.5.60.0/24" in h.pod_routes())
        one.etcd.cut_off(host)
    one.etcd.wipe()
    v3.write_config(CONFIG)
    v3.put_peer("10.5.61.0-24", "192.168.64.61", mac="02:00:00:00:00:61")
    v3.put_many({f"/elsewhere/{i}": "x" for i in range(500)})
    one.etcd.let_in()
    wait_equal(lambda: set(v3.keys()), {*one.keys, "10.5.61.0-24"}, 25)
    for host in hosts:
        wait_until(lambda h=host: "10.5.61.0/24" in h.pod_routes()
                   and "10.5.60.0/24" not in h.pod_routes(), 40)
    v3.remove("10.5.61.0-24")
    one.follows()


def test_all_records_are_deleted_at_once(one):
    """etcdctl del --prefix: everybody publishes again."""
    one.topo.allow_log("W", "was deleted|vanished")
    one.etcd.ctl("del", "--prefix", f"{PREFIX}/subnets/")
    wait_equal(one.etcd.v3.keys, one.keys)
    one.follows()


def test_etcd_is_full(make_topo):
    """NOSPACE: what is there can be read, nothing can be written but by a keep-alive."""
    topo = make_topo(3)
    etcd = topo.etcd(quota=16 << 20)
    topo.allow_log("W", "space exceeded")
    etcd.v3.write_config(CONFIG)
    h1, h2, late = topo.hosts
    topo.start(hosts=[h1, h2])
    pods, before = [h1.pod(), h2.pod()], h1.overlay()
    with traffic.Stream([pods]) as stream:
        etcd.fill()
        assert "alarm:NOSPACE" in etcd.alarms()
        # Its record is there and needs no writing.
        h1.stop_flanneld()
        h1.start_flanneld()
        assert h1.overlay() == before
        late.start_flanneld(wait=False)
        late.wait_log("^W.*space exceeded.*alarm disarm")
        late.wait_readyz(503, "space exceeded")
        stays(lambda: late.process.poll() is None and h1.overlay() == before, 0.5)
        etcd.empty()
        late.wait_ready(90)
        topo.wait_meshed()
    assert stream.report.lost == 0, stream.report
    traffic.assert_all_to_all([*pods, late.pod()])


# -- one host from etcd ----------------------------------------------------------------


def change_peers(net, host):
    """Everything that may happen while a host is away; what it must have afterwards."""
    v3, other = net.etcd.v3, next(h for h in net.topo if h is not host)
    v3.put_peer("10.5.62.0-24", "192.168.64.62", mac="02:00:00:00:00:62")
    v3.put_peer("10.5.61.0-24", "192.168.64.99", mac="02:00:00:00:00:99")
    v3.remove("10.5.60.0-24")

    def settled(h):
        fdb = dict(h.overlay()["devices"]["flannel.1"]["fdb"])
        routes = h.pod_routes()
        return ("10.5.60.0/24" not in routes and "10.5.62.0/24" in routes
                and fdb.get("02:00:00:00:00:99") == "192.168.64.99"
                and "02:00:00:00:00:61" not in fdb)

    wait_until(lambda: settled(other))
    return settled


@pytest.mark.needs("nft")
@pytest.mark.parametrize("how_long", ["moment", "compacted"])
def test_a_host_is_cut_off_from_etcd_while_its_peers_change(three, how_long):
    """For less than TCP gives up; and for so long that the history has gone, too."""
    h1, etcd = three.topo["h1"], three.etcd
    for n in (60, 61):
        etcd.v3.put_peer(f"10.5.{n}.0-24", f"192.168.64.{n}", mac=f"02:00:00:00:00:{n}")
        for host in three.topo:
            wait_until(lambda h=host, n=n: f"10.5.{n}.0/24" in h.pod_routes())
    before = h1.overlay()
    etcd.cut_off(h1)
    settled = change_peers(three, h1)
    if how_long == "compacted":
        h1.wait_readyz(None, "etcd", timeout=60)
        etcd.v3.put_many({f"/elsewhere/{i}": "x" for i in range(10)})
        etcd.compact()
    assert h1.overlay() == before
    etcd.let_in()
    wait_until(lambda: settled(h1), 40)
    for n in (61, 62):
        etcd.v3.remove(f"10.5.{n}.0-24")
    wait_equal(three.topo.overlays, three.overlays)
    three.follows()
    assert len(warnings(h1)) <= 10, warnings(h1)


@pytest.mark.needs("nft")
def test_a_host_that_is_cut_off_from_one_member_uses_another(three):
    h1 = three.topo["h1"]
    member = wait_until(lambda: member_of(three, h1))
    three.etcd.cut_off(h1, [member])
    three.follows(60)
    assert member_of(three, h1) is not member
    three.etcd.let_in()
    three.follows()


# -- our own record --------------------------------------------------------------------


def test_our_key_is_deleted_spoilt_or_its_lease_revoked(one):
    one.topo.allow_log("W", r"10\.5\.\d+\.0-24|vanished|lease")
    v3, key = one.etcd.v3, one.topo["h1"].key()
    good, file = v3.lease(key), v3.file("subnets", key)
    for spoil in (
        lambda: v3.remove(key),
        lambda: v3.revoke(key),
        lambda: v3.put(file, "{ half", ttl=DAY),
        lambda: v3.put_lease(key, {**good, "BackendData": {"VNI": 9}}),
        lambda: v3.put(file, "not ours", ttl=3),
    ):
        spoil()
        # Undone at once; from the third time on slower and slower: it may be a dispute.
        wait_until(lambda: v3.lease(key) == good and v3.ttl(key)[1] == DAY, 30)
    one.follows()
    assert one.topo["h1"].key() == key


def test_a_lease_that_somebody_shortened_is_not_trusted(one):
    """Our record put by hand with a lease of two seconds: it must outlive them."""
    one.topo.allow_log("W", r"10\.5\.\d+\.0-24|vanished|lease")
    v3, key = one.etcd.v3, one.topo["h1"].key()
    good = v3.lease(key)
    v3.put_lease(key, good, expires_in=2)
    stays(lambda: v3.kv(key) is not None, 5)
    wait_until(lambda: v3.ttl(key)[0] > 3600)
    one.follows()


def test_our_record_is_made_a_reservation_while_we_run(one):
    """etcdctl put, without a lease: the administrator's word, also after a restart."""
    v3, h1 = one.etcd.v3, one.topo["h1"]
    key, old = h1.key(), one.etcd.v3.kv(h1.key()).lease
    v3.put_lease(key, v3.lease(key), expires_in=None)
    stays(lambda: v3.ttl(key) is None, 1)
    one.etcd.ctl("lease", "revoke", f"{old:x}", check=False)
    h1.stop_flanneld()
    h1.start_flanneld()
    assert h1.key() == key and v3.ttl(key) is None
    one.follows()


def test_our_address_changes(make_topo):
    """The connection to etcd goes with the old one; record, subnet and pods stay ours."""
    topo = make_topo(2)
    etcd = topo.etcd()
    topo.allow_log("W", "etcd|[Dd]atastore|address|uplink|10.5.")
    topo.start(CONFIG)
    h1, h2 = topo.hosts
    pods, key = topo.pods(), h1.key()
    topo.set_address(h1, "192.168.64.99")
    wait_until(lambda: etcd.v3.lease(key)["PublicIP"] == "192.168.64.99", 30)
    wait_until(lambda: "192.168.64.99" in dict(
        h2.overlay()["devices"]["flannel.1"]["fdb"]).values())
    traffic.assert_all_to_all(pods)
    assert h1.key() == key and len(etcd.v3.keys()) == 2 and etcd.v3.ttl(key)[1] == DAY
    topo.follow_the_store(77, 40)


def test_our_subnet_is_stolen(make_topo):
    """Another host has our key now, and we another subnet; the log names the old one, whose
    pods must be restarted, and new ones work."""
    topo = make_topo(3)
    etcd = topo.etcd()
    topo.allow_log("W", "etcd|[Dd]atastore|lease|taken|must be restarted|10.5.")
    topo.start(CONFIG)
    h1, h2, h3 = topo.hosts
    topo.pods()
    old, position = h1.key(), h1.log_position()
    others = [h2.pods[0], h3.pods[0]]
    with traffic.Stream([others]) as stream:
        etcd.v3.put_peer(old, "192.168.64.66", mac="02:00:00:00:00:66")
        wait_until(lambda: h1.key() != old, 15)
        line = h1.wait_log(rf"^W.*{old.replace('-', '[-/]')}.*restarted.*$", position)[0]
        print(line)
        new = h1.key()
        assert etcd.v3.lease(old)["PublicIP"] == "192.168.64.66", "the thief was robbed"
        assert etcd.v3.lease(new)["PublicIP"] == h1.address
        assert etcd.v3.ttl(new)[1] == DAY
        topo.wait_meshed()
        for host in topo:
            wait_until(lambda h=host: ("02:00:00:00:00:66", "192.168.64.66") in h.overlay()[
                "devices"]["flannel.1"]["fdb"])
        h1.remove_pods()
        traffic.assert_all_to_all([h1.pod("b"), *others])
    assert stream.report.lost == 0, stream.report
    assert h1.process.poll() is None
    h1.wait_readyz(200)


def test_two_records_with_our_address_are_not_fought_over(one):
    """A second key with our public IP, as an earlier life may have left it: it is nobody
    else's, and ours stays."""
    one.topo.allow_log("W", "10.5.")
    h1 = one.topo["h1"]
    record = one.etcd.v3.lease(h1.key())
    one.etcd.v3.put(one.etcd.v3.file("subnets", "10.5.50.0-24"), json.dumps(record), ttl=DAY)
    one.topo.follow_the_store(51)
    assert h1.key() in one.keys
    one.etcd.v3.remove("10.5.50.0-24")
    one.etcd.v3.remove("10.5.51.0-24")
    one.follows()


def test_two_hosts_with_one_public_ip_are_named(make_topo):
    """A host that was started with the address of another one: both say so, and once it has
    its own address again nothing of it is left in the other's way."""
    topo = make_topo(3)
    etcd = topo.etcd()
    topo.allow_log("W", "etcd|[Dd]atastore|lease|10.5.|VtepMAC|Two leases|MAC|Repaired")
    etcd.v3.write_config(CONFIG)
    h1, h2, h3 = topo.hosts
    h1.start_flanneld()
    h2.start_flanneld()
    h3.start_flanneld(f"--public-ip={h1.address}", "--iface=eth0", wait=False)
    for host in (h1, h3):
        host.wait_log("does another host have (the same|our) public IP", timeout=30)
    h1.wait_readyz(200, "does another host have our public IP", 30)
    h3.stop_flanneld()
    h3.start_flanneld()
    macs = [h.ip_json("link", "show", "flannel.1")[0]["address"] for h in topo]
    assert len(set(macs)) == 3, macs
    # The host that was there takes its time with what it puts back again and again.
    wait_until(lambda: etcd.v3.lease(h1.key())["BackendData"]["VtepMAC"] == macs[0], 60)
    topo.wait_meshed()
    traffic.assert_all_to_all(topo.pods())


def test_half_a_record_of_a_live_host_takes_nothing_away(one):
    """A person writes over a record again and again, without BackendData: the peers keep
    what they know."""
    one.topo.allow_log("W", "was changed by somebody else|again and again|10.5.")
    h1 = one.topo["h1"]
    for n in range(5):
        one.etcd.v3.put(one.etcd.v3.file("subnets", h1.key()),
                        json.dumps({"PublicIP": h1.address, "n": n}), ttl=DAY)
        wait_until(lambda: "BackendData" in one.etcd.v3.lease(h1.key()), 40)
