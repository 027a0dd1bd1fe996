# SPDX-License-Identifier: Apache-2.0
"""flanneld on etcd v3: what it writes, what it reads, and that pods reach each other.

     h1     h2     h3     e1
    -+------+------+------+- sw1
"""

import json
import os
import re
import subprocess

import pytest

from lib import traffic
from lib.etcd import PREFIX
from lib.expect import stays, wait_equal, wait_until
from lib.shim import Clock

pytestmark = pytest.mark.needs("vxlan", "etcd")

# Hosts choose among the upper half, records that are written by hand are in the lower one.
CONFIG = {"Network": "10.5.0.0/16", "SubnetMin": "10.5.128.0",
          "Backend": {"Type": "vxlan"}}
HOST_GW = {**CONFIG, "Backend": {"Type": "host-gw"}}
DAY = 86400


def without_nulls(record):
    """Members that are empty may be absent."""
    return {k: v for k, v in record.items() if v is not None}


def vtep_mac(host, device="flannel.1"):
    return host.overlay()["devices"][device]["mac"]


# -- what is written -------------------------------------------------------------------


@pytest.mark.parametrize("config", [CONFIG, HOST_GW], ids=["vxlan", "host-gw"])
def test_pods_of_two_hosts_reach_each_other(make_topo, config):
    topo = make_topo(2)
    etcd = topo.etcd()
    topo.start(config)
    traffic.assert_all_to_all(topo.pods())
    for host in topo:
        record = {"PublicIP": host.address, "BackendType": config["Backend"]["Type"]}
        if config is CONFIG:
            record["BackendData"] = {"VNI": 1, "VtepMAC": vtep_mac(host)}
        assert without_nulls(etcd.v3.lease(host.key())) == record
        assert re.fullmatch(r"10\.5\.(1[3-9]\d|12[89]|2\d\d)\.0-24", host.key())
    # And nothing else.
    assert sorted(kv.key for kv in etcd.v3.list(PREFIX)) == sorted(
        [f"{PREFIX}/config"] + [f"{PREFIX}/subnets/{h.key()}" for h in topo])


def test_our_key_has_an_etcd_lease_of_a_day_to_itself(make_topo):
    topo = make_topo(2)
    etcd = topo.etcd()
    topo.start(CONFIG)
    for host in topo:
        left, granted = etcd.v3.ttl(host.key())
        assert granted == DAY and DAY - 60 < left <= DAY
    assert len({etcd.v3.kv(host.key()).lease for host in topo}) == 2


@pytest.mark.needs("ipv6")
def test_dual_stack_keys_and_records(make_topo):
    topo = make_topo(2, ipv6=True)
    etcd = topo.etcd()
    topo.start({**CONFIG, "EnableIPv6": True, "IPv6Network": "fd05::/48"})
    traffic.assert_all_to_all(topo.pods())
    for host in topo:
        assert re.fullmatch(r"10\.5\.\d+\.0-24&fd05:[0-9a-f:]*::-64", host.key())
        assert etcd.v3.lease(host.key()) == {
            "PublicIP": host.address, "PublicIPv6": host.address6, "BackendType": "vxlan",
            "BackendData": {"VNI": 1, "VtepMAC": vtep_mac(host)},
            "BackendV6Data": {"VNI": 1, "VtepMAC": vtep_mac(host, "flannel-v6.1")},
        }
    assert etcd.v3.ttl(topo["h1"].key())[1] == DAY


@pytest.mark.needs("ipv6")
def test_hosts_and_etcd_without_ipv4(make_topo):
    topo = make_topo(2, ipv4=False, ipv6=True)
    etcd = topo.etcd()
    assert "http://[fd00:" in etcd.client["etcd-endpoints"]
    topo.start({"EnableIPv4": False, "EnableIPv6": True, "IPv6Network": "fd05::/48",
                "Backend": {"Type": "vxlan"}})
    traffic.assert_all_to_all(topo.pods())


@pytest.mark.parametrize("flag, prefix", [
    ("/my/net/", "/my/net"), ("no/slash", "no/slash"), ("/", ""), ("/a b/%41\"\\", "/a b/%41\"\\"),
])
def test_another_prefix(make_topo, flag, prefix):
    """With a slash at its end, without one at its beginning: as the original takes it."""
    topo = make_topo(1)
    etcd = topo.etcd()
    etcd.v3.put(f"{prefix}/config", json.dumps(CONFIG))
    topo["h1"].start_flanneld(f"--etcd-prefix={flag}")
    assert sorted(kv.key for kv in etcd.v3.list("")) == sorted(
        [f"{prefix}/config", f"{prefix}/subnets/{topo['h1'].key()}"])


@pytest.mark.parametrize("kind", ["gateway", "grpc-proxy"])
def test_through_the_proxies_of_etcd(make_topo, kind):
    """On each host, as the manuals have it: one copies bytes, one speaks gRPC itself."""
    topo = make_topo(2)
    etcd = topo.etcd(3)
    for host in topo:
        host.popen("etcd", kind, "start", "--listen-addr=127.0.0.1:23790",
                   f"--endpoints={','.join(m.address + ':2379' for m in etcd)}",
                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                   start_new_session=True)
        wait_until(lambda h=host: h.run("ss", "-Htln", "sport = :23790").stdout)
    etcd.client["etcd-endpoints"] = "http://127.0.0.1:23790"
    topo.start(CONFIG)
    traffic.assert_all_to_all(topo.pods())
    topo.follow_the_store()
    etcd.v3.revoke("10.5.77.0-24")
    wait_until(lambda: "10.5.77.0/24" not in topo["h1"].pod_routes())
    for host in topo:
        assert etcd.v3.ttl(host.key())[1] == DAY
        host.wait_readyz(200)


def test_endpoints_by_environment(make_topo):
    topo = make_topo(1)
    etcd = topo.etcd()
    etcd.v3.write_config(CONFIG)
    endpoints = etcd.client.pop("etcd-endpoints")
    topo["h1"].start_flanneld(env={"FLANNELD_ETCD_ENDPOINTS": endpoints})
    assert etcd.v3.keys() == [topo["h1"].key()]


# -- what is read ----------------------------------------------------------------------


@pytest.mark.parametrize("record", [
    '{"PublicIP":"192.168.64.77","PublicIPv6":null,"BackendType":"vxlan",'
    '"BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:77"}}',
    '{"PublicIP":"192.168.64.77","BackendType":"vxlan","BackendData":'
    '{"VNI":1,"VtepMAC":"02:00:00:00:00:77"},"BackendV6Data":null}',
    '{"PublicIP":"192.168.64.77","BackendType":"vxlan",'
    '"BackendData":{"VtepMAC":"02:00:00:00:00:77"}}',
], ids=["v0.28", "nulls", "v0.11"])
def test_vxlan_records_of_the_original_are_used(make_topo, record):
    topo = make_topo(1)
    etcd = topo.etcd()
    topo.start(CONFIG)
    h1 = topo["h1"]
    etcd.v3.put(f"{PREFIX}/subnets/10.5.77.0-24", record, ttl=DAY)
    wait_until(lambda: "10.5.77.0/24" in h1.pod_routes())

    def entries():
        device = h1.overlay()["devices"]["flannel.1"]
        return device["neighbours"], device["fdb"]

    wait_equal(entries, ({"10.5.77.0": "02:00:00:00:00:77"},
                         [("02:00:00:00:00:77", "192.168.64.77")]))


def test_host_gw_records_of_the_original_are_used(make_topo):
    topo = make_topo(1)
    etcd = topo.etcd()
    topo.start(HOST_GW)
    h1 = topo["h1"]
    for n, more in ((77, ""), (78, ',"BackendData":null')):
        etcd.v3.put(
            f"{PREFIX}/subnets/10.5.{n}.0-24", ttl=DAY,
            text=f'{{"PublicIP":"192.168.64.{n}","PublicIPv6":null,"BackendType":"host-gw"{more}}}',
        )
    wait_equal(h1.pod_routes, {f"10.5.{n}.0/24": f"via 192.168.64.{n} dev eth0 proto 87"
                               for n in (77, 78)})


@pytest.mark.needs("ipv6")
def test_dual_stack_records_of_the_original_are_used(make_topo):
    topo = make_topo(1, ipv6=True)
    etcd = topo.etcd()
    topo.start({**CONFIG, "EnableIPv6": True, "IPv6Network": "fd05::/48"})
    etcd.v3.put(
        f"{PREFIX}/subnets/10.5.77.0-24&fd05:0:0:77::-64",
        '{"PublicIP":"192.168.64.77","PublicIPv6":"fd00:64::77","BackendType":"vxlan",'
        '"BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:77"},'
        '"BackendV6Data":{"VNI":1,"VtepMAC":"02:00:00:00:06:77"}}', ttl=DAY,
    )
    wait_until(lambda: {"10.5.77.0/24", "fd05:0:0:77::/64"} <= set(topo["h1"].pod_routes()))


def test_a_peer_that_changes_or_leaves_leaves_nothing_old(make_topo):
    topo = make_topo(1)
    etcd = topo.etcd()
    topo.start(CONFIG)
    h1 = topo["h1"]

    def fdb():
        return h1.overlay()["devices"]["flannel.1"]["fdb"]

    for mac, ip in (("77", "77"), ("77", "88"), ("99", "88")):
        etcd.v3.put_peer("10.5.77.0-24", f"192.168.64.{ip}", mac=f"02:00:00:00:00:{mac}")
        wait_equal(fdb, [(f"02:00:00:00:00:{mac}", f"192.168.64.{ip}")])
    etcd.v3.remove("10.5.77.0-24")
    wait_equal(lambda: (fdb(), h1.pod_routes()), ([], {}))


def test_five_hundred_peers_cost_one_list_and_one_watch(make_topo):
    """Not a call for each of them, neither at the start nor later."""
    topo = make_topo(1)
    etcd = topo.etcd()
    etcd.v3.write_config(CONFIG)
    etcd.v3.put_many({
        f"{PREFIX}/subnets/10.5.{i // 4}.{i % 4 * 64}-26": json.dumps(
            {"PublicIP": f"172.16.{i // 250}.{i % 250}", "BackendType": "vxlan",
             "BackendData": {"VNI": 1, "VtepMAC": f"02:00:00:00:{i // 250:02x}:{i % 250:02x}"}})
        for i in range(500)}, ttl=DAY)
    before = etcd.requests()
    h1 = topo["h1"]
    h1.start_flanneld()
    assert len(h1.pod_routes()) == 500
    after = etcd.requests()
    calls = {m: n - before.get(m, 0) for m, n in after.items() if n != before.get(m, 0)}
    print("calls of a start:", calls)
    assert calls["Watch"] <= 2 and sum(calls.values()) <= 6, calls
    etcd.v3.revoke("10.5.0.0-26")  # all 500
    wait_until(lambda: len(h1.pod_routes()) == 0, 60)


# -- the life of a lease ---------------------------------------------------------------


def test_a_restart_keeps_the_subnet_and_the_traffic(make_topo):
    topo = make_topo(2)
    etcd = topo.etcd()
    topo.start(CONFIG)
    h1 = topo["h1"]
    key, record, before = h1.key(), etcd.v3.lease(h1.key()), topo.overlays()
    with traffic.Stream.all_to_all(topo.pods()) as stream:
        for end in (h1.stop_flanneld, h1.kill_flanneld):
            end()
            h1.start_flanneld()
            assert h1.key() == key and etcd.v3.lease(key) == record
            assert etcd.v3.ttl(key)[1] == DAY
    assert stream.report.lost == 0, stream.report
    assert sorted(etcd.v3.keys()) == sorted(h.key() for h in topo)
    assert topo.overlays() == before


def test_the_lease_is_found_without_the_subnet_file(make_topo):
    topo = make_topo(1)
    etcd = topo.etcd()
    topo.start(CONFIG)
    h1 = topo["h1"]
    key = h1.key()
    h1.stop_flanneld()
    os.unlink(h1.subnet_file)
    h1.start_flanneld()
    assert h1.key() == key and etcd.v3.keys() == [key]


def test_the_subnet_of_the_old_file_is_asked_for_again(make_topo):
    topo = make_topo(1)
    etcd = topo.etcd()
    topo.start(CONFIG)
    h1 = topo["h1"]
    key = h1.key()
    h1.stop_flanneld()
    etcd.v3.remove(key)
    h1.start_flanneld()
    assert h1.key() == key and etcd.v3.keys() == [key]


def test_sigterm_leaves_the_record_and_the_data_path(make_topo):
    topo = make_topo(2)
    etcd = topo.etcd()
    topo.start(CONFIG)
    before, key = topo.overlays(), topo["h1"].key()
    with traffic.Stream([topo.pods()]) as stream:
        topo["h1"].stop_flanneld()
        left, _ = etcd.v3.ttl(key)
        assert left > DAY - 60
        stays(lambda: topo.overlays() == before, 0.3)
    assert stream.report.lost == 0, stream.report


@pytest.mark.parametrize("end", ["revoked", "expired"])
def test_the_entries_of_a_dead_host_go_with_its_lease(make_topo, end):
    topo = make_topo(3)
    etcd = topo.etcd()
    topo.start(CONFIG)
    dead = topo["h3"]
    key, route = dead.key(), str(dead.subnet())
    pods = topo.pods()[:2]
    dead.kill_flanneld()
    with traffic.Stream([pods]) as stream:
        if end == "revoked":
            etcd.v3.revoke(key)
        else:
            etcd.v3.put(etcd.v3.file("subnets", key), json.dumps(etcd.v3.lease(key)), ttl=1)
        for host in (topo["h1"], topo["h2"]):
            wait_until(lambda h=host: route not in h.pod_routes(), 10)
            # These go after the route, which needs them.
            for kind in ("fdb", "neighbours"):
                wait_equal(lambda h=host, k=kind: len(h.overlay()["devices"]["flannel.1"][k]), 1)
    assert stream.report.lost == 0, stream.report


@pytest.mark.needs("cc")
def test_a_lease_is_kept_alive_by_the_margin(make_topo):
    """The clock jumps to just before, and then past, the margin. It is the same etcd lease
    that goes on, and the record is not written again."""
    topo = make_topo(1)
    etcd = topo.etcd()
    h1 = topo["h1"]
    h1.allow_log("W", "etcd|[Dd]atastore")
    clock = Clock(h1)
    topo.start(CONFIG, "--subnet-lease-renew-margin=600", env=clock.env)
    before = etcd.v3.kv(h1.key())

    def renewals():
        etcd.v3.put(f"{PREFIX}/subnets/.poke", "wakes the daemon up")
        return etcd.requests().get("LeaseKeepAlive", 0)

    early = DAY - 600 * 60 - 120
    clock.set(wall=early, monotonic=early)
    stays(lambda: renewals() == 0, 0.5)
    clock.set(wall=early + 240, monotonic=early + 240)
    wait_until(renewals, 10)
    h1.wait_log("Lease renewed, new expiration: ")
    after = etcd.v3.kv(h1.key())
    assert (after.lease, after.mod_revision) == (before.lease, before.mod_revision)


def test_a_lease_near_its_end_gets_a_day_again(make_topo):
    """Kept alive, an etcd lease of ten minutes would be one of ten minutes for ever."""
    topo = make_topo(1)
    etcd = topo.etcd()
    etcd.v3.put_peer("10.5.223.0-24", topo["h1"].address, mac="02:00:00:00:01:23", expires_in=600)
    topo.start(CONFIG)
    assert topo["h1"].key() == "10.5.223.0-24"
    wait_until(lambda: etcd.v3.ttl("10.5.223.0-24")[0] > DAY - 60)


def test_a_reservation_that_is_made_for_us_is_taken_at_the_next_start(make_topo):
    """It comes before the lease that we have."""
    topo = make_topo(2)
    etcd = topo.etcd()
    topo.allow_log("W", "10.5.")
    topo.start(CONFIG)
    h1 = topo["h1"]
    record = {"PublicIP": h1.address}
    etcd.v3.put_lease("10.5.130.0-24", record, expires_in=None)
    h1.stop_flanneld()
    h1.start_flanneld()
    assert h1.key() == "10.5.130.0-24" and etcd.v3.ttl("10.5.130.0-24") is None
    topo.wait_meshed()
    traffic.assert_all_to_all(topo.pods())


@pytest.mark.parametrize("record", [
    {"BackendType": "vxlan", "BackendData": {"VNI": 1, "VtepMAC": "02:00:00:00:01:23"}}, {},
], ids=["full", "address-only"])
def test_a_reservation_stays_one(make_topo, record):
    """A key without an etcd lease: ours, across restarts; and a peer's."""
    topo = make_topo(1)
    etcd = topo.etcd()
    h1 = topo["h1"]
    etcd.v3.put_lease("10.5.223.0-24", {"PublicIP": h1.address, **record}, expires_in=None)
    etcd.v3.put_peer("10.5.77.0-24", "192.168.64.77", mac="02:00:00:00:00:77", expires_in=None)
    topo.start(CONFIG)
    for _ in range(2):
        assert h1.key() == "10.5.223.0-24" and len(etcd.v3.keys()) == 2
        assert "10.5.77.0/24" in h1.pod_routes()
        assert etcd.v3.ttl("10.5.223.0-24") is None
        assert etcd.v3.lease("10.5.223.0-24")["BackendData"]["VtepMAC"] == vtep_mac(h1)
        h1.stop_flanneld()
        h1.start_flanneld()


def test_the_last_subnet_has_one_winner_and_the_loser_waits(make_topo):
    topo = make_topo(2)
    etcd = topo.etcd()
    topo.allow_log("W", "subnet")
    etcd.v3.write_config({"Network": "10.5.0.0/22", "Backend": {"Type": "vxlan"}})
    for i in (1, 2):  # of 10.5.1.0, .2.0 and .3.0 one is left
        etcd.v3.put_peer(f"10.5.{i}.0-24", f"192.168.64.7{i}", mac=f"02:00:00:00:00:7{i}")
    for host in topo:
        host.start_flanneld(wait=False)
    ready = wait_until(lambda: [h for h in topo if "READY=1" in h._read_states()])
    winner = ready[0]
    loser = next(h for h in topo if h is not winner)
    assert str(winner.subnet()) == "10.5.3.0/24"
    loser.wait_readyz(503, "subnet|lease")
    assert etcd.v3.lease("10.5.3.0-24")["PublicIP"] == winner.address
    etcd.v3.remove("10.5.1.0-24")
    loser.wait_ready(15)
    assert str(loser.subnet()) == "10.5.1.0/24"
    topo.wait_meshed()
    traffic.assert_all_to_all(topo.pods())


# -- what must not matter --------------------------------------------------------------


def rubbish():
    """A thousand keys: foreign ones, bad names, bad values."""
    good = '{"PublicIP":"192.168.64.9","BackendType":"vxlan",' \
           '"BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:09"}}'
    names = {f"{PREFIX}/subnets/no-lease-{i}": good for i in range(200)}
    names.update({f"{PREFIX}/subnets/10.5.{i}.0-24": good[:i] for i in range(99)})
    names.update({f"{PREFIX}/subnets/10.5.{i}.7-24": good for i in range(100)})
    names.update({f"{PREFIX}/subnets/10.5.{i}.0-24/below": good for i in range(100)})
    names.update({f"{PREFIX}/other/{i}": good for i in range(200)})
    names.update({f"{PREFIX}{i}/subnets/10.5.{i}.0-24": good for i in range(100)})
    names.update({f"{PREFIX}/subnets/172.{i}.0.0-24": bytes(range(256)) for i in range(50)})
    names.update({f"{PREFIX}/subnets/10.{i}.0.0-16": "[" * 5000 for i in range(20, 70)})
    names.update({f"{PREFIX}/config{i}": "{}" for i in range(50)})
    names.update({f"{PREFIX}/subnets/": good, f"{PREFIX}/subnets": good, PREFIX: "{}",
                  f"{PREFIX}/subnets/%s%n%x": good, f"{PREFIX}/subnets/\n\0\xff": good,
                  f"{PREFIX}/subnets/10.5.101.0-24": good.replace("64.9", "64.900"),
                  f"{PREFIX}/subnets/10.5.102.0-24": "x" * 1000000,
                  f"{PREFIX}/subnets/" + "9" * 5000: good,
                  f"{PREFIX}/subnets/10.5.103.0-24&fd05::-64&": good,
                  f"{PREFIX}/subnets/10.5.104.0-99": good})
    return names


@pytest.mark.parametrize("when", ["running", "before"])
def test_a_thousand_foreign_keys_change_nothing(make_topo, when):
    topo = make_topo(2)
    etcd = topo.etcd()
    topo.allow_log("W", "subnets|[Rr]ecord|key")
    keys = rubbish()
    assert len(keys) > 950
    if when == "before":
        etcd.v3.put_many(keys)
    topo.start(CONFIG)
    before = topo.overlays()
    assert all(len(host.pod_routes()) == 1 for host in topo)
    with traffic.Stream([topo.pods()]) as stream:
        if when == "running":
            etcd.v3.put_many(keys)
        topo.follow_the_store(99)
        etcd.v3.remove("10.5.99.0-24")
        wait_equal(topo.overlays, before)
        etcd.v3.delete(*[k for k in list(keys)[::100] if "\0" not in k])
        stays(lambda: topo.overlays() == before, 0.2)
    assert stream.report.lost == 0, stream.report
    for host in topo:
        host.wait_readyz(200)


def test_a_record_that_turns_bad_stays_as_it_was(make_topo):
    topo = make_topo(1)
    etcd = topo.etcd()
    h1 = topo["h1"]
    h1.allow_log("W", r"10\.5\.77\.0-24")
    topo.start(CONFIG)
    topo.follow_the_store()
    before = h1.overlay()
    etcd.v3.put(f"{PREFIX}/subnets/10.5.77.0-24", "{ half")
    h1.wait_log(r"10\.5\.77\.0-24")
    stays(lambda: h1.overlay() == before, 0.1)
    etcd.v3.put_peer("10.5.77.0-24", "192.168.64.99", mac="02:00:00:00:00:77")
    wait_until(lambda: ("02:00:00:00:00:77", "192.168.64.99")
               in h1.overlay()["devices"]["flannel.1"]["fdb"])


# -- the config ------------------------------------------------------------------------


def test_without_a_config_key_it_waits_and_names_it(make_topo):
    topo = make_topo(1)
    etcd = topo.etcd()
    h1 = topo["h1"]
    h1.allow_log("W", f"{PREFIX}/config")
    h1.start_flanneld(wait=False)
    h1.wait_readyz(503, f"{PREFIX}/config")
    h1.wait_log(f"{PREFIX}/config")
    stays(lambda: h1.process.poll() is None and not h1.read_subnet_env(), 0.2)
    etcd.v3.write_config(CONFIG)
    h1.wait_ready()
    h1.wait_readyz(200)


def test_a_bad_config_is_refused_at_the_start_by_its_key(make_topo):
    topo = make_topo(1)
    etcd = topo.etcd()
    etcd.v3.write_config('{"Network": "10.5.0.0/33"}')
    done = topo["h1"].run_flanneld()
    errors = done.lines("E")
    assert done.code == 1 and len(errors) == 1, done.text
    assert f"{PREFIX}/config" in errors[0] and "10.5.0.0/33" in errors[0]


def test_a_bad_config_while_running_changes_nothing(make_topo):
    topo = make_topo(2)
    etcd = topo.etcd()
    topo.allow_log("WE", f"{PREFIX}/config")
    topo.start(CONFIG)
    before = topo.overlays()
    for text in ("", "{ half", '{"Network": "10.5.0.0/33"}', "x" * 100000):
        position = topo["h1"].log_position()
        etcd.v3.write_config(text)
        topo["h1"].wait_log(f"{PREFIX}/config", position)
    topo.follow_the_store()
    etcd.v3.remove("10.5.77.0-24")
    wait_equal(topo.overlays, before)


def test_the_config_changes_while_running(make_topo):
    topo = make_topo(2)
    etcd = topo.etcd()
    topo.allow_log("W", "Ignoring lease")  # one of them is first
    topo.start(CONFIG)
    pods, keys = topo.pods(), [host.key() for host in topo]
    h1, h2 = topo.hosts
    with traffic.Stream([pods]) as stream:
        for backend, how in (
            ({"Type": "host-gw"}, f"via {h2.address} dev eth0 proto 87"),
            ({"Type": "vxlan"}, f"via {h2.subnet().network_address} dev flannel.1 onlink proto 87"),
            ({"Type": "vxlan", "DirectRouting": True}, f"via {h2.address} dev eth0 proto 87"),
        ):
            etcd.v3.write_config({**CONFIG, "Backend": backend})
            wait_equal(h1.pod_routes, {str(h2.subnet()): how})
            stream.wait_flowing()
            assert [host.key() for host in topo] == keys
    print(stream.report)
    for host in topo:
        # What h1 does to its own record it does after its routes.
        wait_equal(lambda h=host: etcd.v3.lease(h.key())["BackendType"], "vxlan")
        assert etcd.v3.ttl(host.key())[1] == DAY


def test_another_network_is_for_the_next_start(make_topo):
    """Running pods have addresses of the one that we have."""
    topo = make_topo(2)
    etcd = topo.etcd()
    topo.allow_log("E", f"{PREFIX}/config: Network 10.6.0.0/16 .*restart")
    topo.allow_log("W", "10.5.")
    topo.start(CONFIG)
    before = topo.overlays()
    etcd.v3.write_config({"Network": "10.6.0.0/16", "Backend": {"Type": "vxlan"}})
    for host in topo:
        host.wait_log("restart")
    assert topo.overlays() == before
    topo.stop()
    topo.start()
    traffic.assert_all_to_all(topo.pods())
    for host in topo:
        assert host.key().startswith("10.6.") and etcd.v3.ttl(host.key())[1] == DAY
        assert host.pod_routes(["10.5.0.0/16"]) == {}


def test_the_config_key_is_deleted_and_the_network_stays(make_topo):
    topo = make_topo(2)
    etcd = topo.etcd()
    topo.allow_log("W", f"{PREFIX}/config")
    topo.start(CONFIG)
    before = topo.overlays()
    with traffic.Stream([topo.pods()]) as stream:
        etcd.v3.delete(f"{PREFIX}/config")
        topo.follow_the_store()
        etcd.v3.remove("10.5.77.0-24")
        wait_equal(topo.overlays, before)
        etcd.v3.write_config(CONFIG)
        stays(lambda: topo.overlays() == before, 0.2)
    assert stream.report.lost == 0, stream.report
    assert sorted(etcd.v3.keys()) == sorted(h.key() for h in topo)
