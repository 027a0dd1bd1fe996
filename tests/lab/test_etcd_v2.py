# SPDX-License-Identifier: Apache-2.0
"""The key space of etcd v2, where networks of the years before v3 live.

     h1     h2     e1 (e2, e3)
    -+------+------+- sw1
"""

import http.client
import json
import socket
import urllib.parse

import pytest

from lib import traffic
from lib.etcd import CLIENT_PORT, PREFIX
from lib.expect import stays, wait_equal, wait_until

pytestmark = pytest.mark.needs("vxlan", "etcd")

# Hosts choose among the upper half, records that are written by hand are in the lower one.
CONFIG = {"Network": "10.5.0.0/16", "SubnetMin": "10.5.128.0",
          "Backend": {"Type": "vxlan"}}
OTHER = {"Network": "10.6.0.0/16", "Backend": {"Type": "vxlan"}}
DAY = 86400


@pytest.fixture
def topo(make_topo):
    """Two hosts whose network has its config in v2 alone."""
    topo = make_topo(2)
    etcd = topo.etcd(enable_v2=True)
    topo.use(etcd.v2)
    topo.v2, topo.v3 = etcd.v2, etcd.v3
    return topo


def without_nulls(record):
    return {k: v for k, v in record.items() if v is not None}


# -- which of the two ------------------------------------------------------------------


def test_a_config_in_v2_alone_is_found_and_the_choice_logged(topo):
    topo.start(CONFIG)
    traffic.assert_all_to_all(topo.pods())
    for host in topo:
        host.wait_log(r"\bv2\b")
        mac = host.overlay()["devices"]["flannel.1"]["mac"]
        assert without_nulls(topo.v2.lease(host.key())) == {
            "PublicIP": host.address, "BackendType": "vxlan",
            "BackendData": {"VNI": 1, "VtepMAC": mac},
        }
        assert DAY - 60 < topo.v2.ttl(host.key()) <= DAY
    assert topo.v2.keys() == sorted(h.key() for h in topo)
    assert topo.v3.list(PREFIX) == []


def test_v3_wins_when_both_have_a_config(topo):
    topo.v3.write_config(CONFIG)
    topo.start(OTHER)
    assert topo["h1"].read_subnet_env()["FLANNEL_NETWORK"] == "10.5.0.0/16"
    assert topo.v2.keys() == [] and len(topo.v3.keys()) == 2
    topo["h1"].wait_log(r"\bv3\b")


@pytest.mark.parametrize("api, network", [("v2", "10.6.0.0/16"), ("v3", "10.5.0.0/16")])
def test_the_api_can_be_chosen(topo, api, network):
    topo.v3.write_config(CONFIG)
    topo.start(OTHER, f"--etcd-api={api}")
    for host in topo:
        assert host.read_subnet_env()["FLANNEL_NETWORK"] == network
    assert len(getattr(topo, api).keys()) == 2


def test_v3_alone_waits_for_its_own_config(topo):
    topo.v2.write_config(OTHER)
    h1 = topo["h1"]
    h1.allow_log("W", f"{PREFIX}/config")
    h1.start_flanneld("--etcd-api=v3", wait=False)
    h1.wait_readyz(503, f"{PREFIX}/config")
    stays(lambda: h1.read_subnet_env() is None, 0.5)
    topo.v3.write_config(CONFIG)
    h1.wait_ready()
    assert h1.read_subnet_env()["FLANNEL_NETWORK"] == "10.5.0.0/16"


def test_v2_alone_where_etcd_has_it_off_says_so(make_topo):
    topo = make_topo(1)
    topo.etcd()
    h1 = topo["h1"]
    h1.allow_log("WE", "v2")
    h1.start_flanneld("--etcd-api=v2", wait=False)
    h1.wait_log("enable-v2")
    h1.wait_readyz(503, "v2")


def test_without_any_config_both_are_looked_at_until_one_is_there(topo):
    h1 = topo["h1"]
    h1.allow_log("W", f"{PREFIX}/config")
    h1.start_flanneld(wait=False)
    h1.wait_readyz(503, f"{PREFIX}/config")
    topo.v2.write_config(CONFIG)
    h1.wait_ready(20)
    assert topo.v2.keys() == [h1.key()] and topo.v3.keys() == []


# -- peers -----------------------------------------------------------------------------


@pytest.mark.parametrize("record", [
    '{"PublicIP":"192.168.64.77","BackendType":"vxlan",'
    '"BackendData":{"VtepMAC":"02:00:00:00:00:77"}}',
    '{"PublicIP":"192.168.64.77","BackendType":"vxlan",'
    '"BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:77"}}',
], ids=["v0.11", "ours"])
def test_records_of_the_original_are_used_until_they_go(topo, record):
    topo.start(CONFIG)
    h1 = topo["h1"]
    key = f"{PREFIX}/subnets/10.5.77.0-24"
    for end in ("rm", "ttl"):
        topo.v2.put(key, record, ttl=DAY)
        wait_until(lambda: "10.5.77.0/24" in h1.pod_routes())
        wait_until(lambda: ("02:00:00:00:00:77", "192.168.64.77")
                   in h1.overlay()["devices"]["flannel.1"]["fdb"])
        if end == "rm":
            topo.v2.delete(key)
        else:
            topo.v2.put(key, record, ttl=1)
        wait_until(lambda: "10.5.77.0/24" not in h1.pod_routes(), 10)


def test_peers_of_before_the_start_are_used(topo):
    for n in range(70, 80):
        topo.v2.put_peer(f"10.5.{n}.0-24", f"192.168.64.{n}", mac=f"02:00:00:00:00:{n}")
    topo.start(CONFIG)
    assert len(topo["h1"].pod_routes()) == 11


def test_rubbish_changes_nothing(topo):
    topo.allow_log("W", "subnets|[Rr]ecord|key")
    topo.start(CONFIG)
    before = topo.overlays()
    for name, text in (("nonsense", "x"), ("10.5.70.0-24", ""), ("10.5.71.0-24", "{ half"),
                       ("10.5.72.0-33", "{}"), ("10.5.73.0-24/below", "{}"),
                       ("10.5.74.0-24", '{"PublicIP":"banana"}'), ("%s%n", "{}")):
        topo.v2.put(f"{PREFIX}/subnets/{name}", text)
    topo.v2.put(f"{PREFIX}/other/dir", "x")
    topo.follow_the_store(79)
    topo.v2.remove("10.5.79.0-24")
    wait_equal(topo.overlays, before)


# -- our own record --------------------------------------------------------------------


def test_a_restart_keeps_the_subnet(topo):
    topo.start(CONFIG)
    h1, key = topo["h1"], topo["h1"].key()
    with traffic.Stream([topo.pods()]) as stream:
        h1.stop_flanneld()
        assert topo.v2.ttl(key)
        h1.start_flanneld()
        assert h1.key() == key and len(topo.v2.keys()) == 2
    assert stream.report.lost == 0, stream.report


def test_a_reservation_stays_one(topo):
    h1 = topo["h1"]
    topo.v2.put_peer("10.5.223.0-24", h1.address, mac="02:00:00:00:01:23", expires_in=None)
    topo.start(CONFIG)
    for _ in range(2):
        assert h1.key() == "10.5.223.0-24" and topo.v2.ttl("10.5.223.0-24") is None
        h1.stop_flanneld()
        h1.start_flanneld()


def test_a_key_near_its_end_gets_a_day_again(topo):
    h1 = topo["h1"]
    topo.v2.put_peer("10.5.223.0-24", h1.address, mac="02:00:00:00:01:23", expires_in=600)
    topo.start(CONFIG)
    assert h1.key() == "10.5.223.0-24"
    wait_until(lambda: topo.v2.ttl("10.5.223.0-24") > DAY - 60)


def test_our_key_deleted_or_spoilt_comes_back(topo):
    topo.allow_log("W", r"10\.5\.\d+\.0-24|vanished")
    topo.start(CONFIG)
    key = topo["h1"].key()
    good = topo.v2.lease(key)
    with traffic.Stream([topo.pods()]) as stream:
        for spoil in (
            lambda: topo.v2.remove(key),
            lambda: topo.v2.put(topo.v2.file("subnets", key), "{ half", ttl=DAY),
        ):
            spoil()
            wait_until(lambda: topo.v2.lease(key) == good and topo.v2.ttl(key) > DAY - 60)
        stream.wait_flowing()
    assert stream.report.lost == 0, stream.report
    assert topo["h1"].key() == key


def burn_history(etcd, events=1100):
    """So many changes elsewhere in the store: it remembers the last 1000 of all."""
    connection = http.client.HTTPConnection(etcd["e1"].address, CLIENT_PORT)
    with etcd["e1"].ns.socket(kind=socket.SOCK_STREAM) as connection.sock:
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sock.connect((etcd["e1"].address, CLIENT_PORT))
        for i in range(events):
            connection.request("PUT", "/v2/keys/elsewhere",
                               urllib.parse.urlencode({"value": i}),
                               {"Content-Type": "application/x-www-form-urlencoded"})
            response = connection.getresponse()
            response.read()
            assert response.status in (200, 201)


@pytest.mark.needs("nft")
def test_history_that_etcd_has_forgotten_is_listed_anew(topo):
    """Also while nobody is cut off: the prefix is quiet, the rest of the store is not."""
    topo.allow_log("W", "etcd|[Dd]atastore")
    topo.start(CONFIG)
    etcd, h1 = topo.v2.etcd, topo["h1"]
    before = topo.overlays()
    burn_history(etcd)
    topo.follow_the_store(77)
    etcd.cut_off(h1)
    topo.v2.remove("10.5.77.0-24")
    topo.v2.put_peer("10.5.78.0-24", "192.168.64.78", mac="02:00:00:00:00:78")
    burn_history(etcd)
    wait_until(lambda: "10.5.77.0/24" not in topo["h2"].pod_routes())
    etcd.let_in()
    wait_until(lambda: set(h1.pod_routes()) == {"10.5.78.0/24", str(topo["h2"].subnet())}, 40)
    topo.v2.remove("10.5.78.0-24")
    wait_equal(topo.overlays, before, 20)


def test_etcd_restarts(topo):
    topo.allow_log("W", "etcd|[Dd]atastore")
    topo.start(CONFIG)
    before = topo.overlays()
    with traffic.Stream([topo.pods()]) as stream:
        topo.v2.etcd.restart()
        topo.follow_the_store()
        topo.v2.remove("10.5.77.0-24")
        wait_equal(topo.overlays, before)
    assert stream.report.lost == 0, stream.report
    for host in topo:
        host.wait_readyz(200)


def test_the_user_of_v2_is_one_of_its_own(topo):
    etcd = topo.v2.etcd
    topo.allow_log("W", "etcd|[Dd]atastore")
    topo.v2.write_config(CONFIG)
    topo.v2.ctl("user", "add", "root:root-secret")
    topo.v2.ctl("user", "add", "flannel:flannel-secret")
    topo.v2.ctl("role", "add", "net")
    topo.v2.ctl("role", "grant", "net", "--path", f"{PREFIX}/*", "--readwrite")
    topo.v2.ctl("user", "grant", "flannel", "--roles", "net")
    topo.v2.ctl("auth", "enable")
    root = ("root", "root-secret")
    topo.v2.ctl("role", "remove", "guest", user=root, check=False)
    h1, h2 = topo.hosts
    h1.start_flanneld("--etcd-api=v2", "--etcd-username=flannel",
                      env={"FLANNELD_ETCD_PASSWORD": "flannel-secret"})
    h2.start_flanneld("--etcd-api=v2", "--etcd-username=flannel", "--etcd-password=wrong-secret",
                      wait=False)
    h2.wait_log(f"{etcd['e1'].url}.*(password|user)")
    assert "secret" not in h1.log_text() + h2.log_text()


# -- the tutorial, word for word -------------------------------------------------------


def test_the_tutorial_of_two_hosts(make_topo):
    """Three endpoints with client certificates, `etcdctl set`, and a supervisor that starts
    flanneld again after each change."""
    topo = make_topo(2)
    etcd = topo.etcd(3, tls="mutual", enable_v2=True)
    topo.use(etcd.v2)
    topo.allow_log("W", "etcd|[Dd]atastore|Ignoring lease")  # one of them is first
    h1, h2 = topo.hosts

    def tell(config):
        etcd.ctl("set", f"{PREFIX}/config", config, api=2, host=h1,
                 endpoints=[m.url for m in etcd])

    def goes(route):
        for host, other in ((h1, h2), (h2, h1)):
            wait_equal(host.pod_routes, {str(other.subnet()): route(other)}, 10)
        traffic.assert_all_to_all(pods)

    def plain(other):
        return f"via {other.address} dev eth0 proto 87"

    def tunnel(other):
        return f"via {other.subnet().network_address} dev flannel.1 onlink proto 87"

    tell('{"Network":"172.7.0.0/16","Backend":{"Type":"host-gw"}}')
    topo.start()
    pods = topo.pods()
    subnets = [host.subnet() for host in topo]
    for config, route in (
        (None, plain),
        ('{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan"}}', tunnel),
        ('{"Network":"172.7.0.0/16","Backend":{"Type":"vxlan","Directrouting":true}}', plain),
    ):
        if config:
            tell(config)
        goes(route)
        topo.stop()
        topo.start()
        goes(route)
        assert [host.subnet() for host in topo] == subnets
        kind = json.loads(etcd.v2.get(f"{PREFIX}/config"))["Backend"]["Type"]
        assert {r["BackendType"] for r in etcd.v2.leases().values()} == {kind}
        assert set(etcd.v2.leases()) == {host.key() for host in topo}
