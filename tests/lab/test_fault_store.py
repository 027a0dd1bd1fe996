# SPDX-License-Identifier: Apache-2.0
"""The store's directory is unreadable, gone, full, or full of rubbish; the overlay stays.

     h1     h2     h3
    -+------+------+- sw1
"""

import json
import os
import shutil

import pytest

from lib import traffic
from lib.expect import stays, wait_equal, wait_until

pytestmark = pytest.mark.needs("vxlan")

# Hosts choose among the upper half, records that are written by hand are in the lower one.
CONFIG = {"Network": "10.5.0.0/16", "SubnetMin": "10.5.128.0",
          "Backend": {"Type": "vxlan"}}
# Root reads everything; without these capabilities the mode bits count for it, too.
MORTAL = ("setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all")


@pytest.fixture
def topo(make_topo):
    topo = make_topo(3)
    topo.allow_log("W", ".")
    return topo


def put_new_peer(topo, n=77):
    topo.store.put_peer(f"10.5.{n}.0-24", f"192.168.64.{n}", mac=f"02:00:00:00:00:{n}")


def follows_the_store(topo, n=77):
    """A peer that is written now appears on every host."""
    put_new_peer(topo, n)
    for host in topo:
        wait_until(lambda h=host: f"10.5.{n}.0/24" in h.pod_routes(), 20)


@pytest.mark.needs("setpriv")
@pytest.mark.parametrize("part", ["", "subnets"], ids=["directory", "subnets"])
def test_the_directory_becomes_unreadable(topo, part):
    topo.start(CONFIG, wrap=MORTAL)
    pods, before = topo.pods(), topo.overlays()
    path = topo.store.file(part)
    with traffic.Stream.all_to_all(pods) as stream:
        os.chmod(path, 0)
        topo["h1"].stop_flanneld()
        topo["h1"].start_flanneld(wait=False, wrap=MORTAL)
        topo["h1"].wait_readyz(503, "[Pp]ermission denied")
        stays(lambda: topo.overlays() == before, 0.3)
        # By root. Hosts that run may see it, by what they had opened before; h1 may not.
        put_new_peer(topo)
        stays(lambda: topo["h1"].overlay() == before["h1"], 0.1)
        os.chmod(path, 0o755)
        topo["h1"].wait_ready(20)
        follows_the_store(topo, 78)
        for host in topo:
            wait_until(lambda h=host: "10.5.77.0/24" in h.pod_routes(), 20)
    assert stream.report.lost == 0, stream.report


def test_the_directory_is_deleted_and_made_again(topo):
    topo.start(CONFIG)
    pods, before = topo.pods(), topo.overlays()
    keys = topo.store.keys()
    with traffic.Stream.all_to_all(pods) as stream:
        shutil.rmtree(topo.store.path)
        for host in topo:
            host.wait_readyz(None, "store")
        stays(lambda: topo.overlays() == before, 0.5)
        os.makedirs(topo.store.path)
        topo.store.write_config(CONFIG)
        # Every host puts its own record back, and nobody loses its subnet.
        wait_equal(topo.store.keys, keys, 20)
        follows_the_store(topo)
        stream.wait_flowing()
    assert stream.report.lost == 0, stream.report


def test_all_records_are_deleted_at_once(topo):
    """rm subnets/*: unknown is not empty, and everybody publishes again."""
    topo.start(CONFIG)
    pods, before, keys = topo.pods(), topo.overlays(), topo.store.keys()
    with traffic.Stream.all_to_all(pods) as stream:
        for key in keys:
            topo.store.remove(key)
        wait_equal(topo.store.keys, keys)
        stays(lambda: topo.overlays() == before, 0.3)
    assert stream.report.lost == 0, stream.report


def test_the_directory_is_moved_away_and_back(topo):
    topo.start(CONFIG)
    pods, before = topo.pods(), topo.overlays()
    with traffic.Stream.all_to_all(pods) as stream:
        os.rename(topo.store.path, topo.store.path + ".away")
        stays(lambda: topo.overlays() == before, 0.3)
        os.rename(topo.store.path + ".away", topo.store.path)
        follows_the_store(topo)
        stream.wait_flowing()
    assert stream.report.lost == 0, stream.report


def test_nobody_expires_while_the_directory_is_away(topo):
    """Who has renewed meanwhile can only be known when it is back."""
    topo.start(CONFIG)
    away = topo.store.path + ".away"
    for n in (77, 78):
        topo.store.put_peer(f"10.5.{n}.0-24", f"192.168.64.{n}", mac=f"02:00:00:00:00:{n}",
                            expires_in=5)  # all have to see them before
    for host in topo:
        wait_until(lambda h=host: "10.5.78.0/24" in h.pod_routes())
    os.rename(topo.store.path, away)
    stays(lambda: all("10.5.77.0/24" in h.pod_routes() for h in topo), 6)
    with open(os.path.join(away, "subnets", "10.5.77.0-24"), encoding="utf-8") as f:
        renewed = {**json.load(f), "Expiration": "2099-01-01T00:00:00Z"}
    with open(os.path.join(away, "subnets", "10.5.77.0-24"), "w", encoding="utf-8") as f:
        json.dump(renewed, f)
    os.rename(away, topo.store.path)
    for host in topo:
        wait_until(lambda h=host: "10.5.78.0/24" not in h.pod_routes(), 20)
        assert "10.5.77.0/24" in host.pod_routes()


def test_the_directory_does_not_exist_yet(topo):
    h1 = topo["h1"]
    shutil.rmtree(topo.store.path)
    h1.start_flanneld(wait=False)
    h1.wait_readyz(503, topo.store.path)
    os.makedirs(topo.store.path)
    topo.store.write_config(CONFIG)
    h1.wait_ready(20)


def test_the_file_system_is_full(make_topo):
    topo = make_topo(2, store_size="64k")
    topo.allow_log("W", ".")
    topo.start(CONFIG, hosts=["h1"])
    h1, h2 = topo.hosts
    before, key = h1.overlay(), h1.key()
    filler = topo.store.file(".filler")
    with open(filler, "wb") as f:
        with pytest.raises(OSError):
            while True:
                os.write(f.fileno(), bytes(512))
    h2.start_flanneld(wait=False)
    h2.wait_readyz(503, "[Nn]o space left")
    stays(lambda: h2.process.poll() is None and h1.overlay() == before, 0.3)
    assert topo.store.keys() == [key], "a half-written record was left"
    os.unlink(filler)
    h2.wait_ready(20)
    topo.wait_meshed()
    traffic.assert_all_to_all(topo.pods())
    left = [n for n in os.listdir(topo.store.file("subnets")) if n not in topo.store.keys()]
    assert left == []


# -- what is in the directory ----------------------------------------------------------

GOOD = '{"PublicIP":"192.168.64.9","BackendType":"vxlan",' \
       '"BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:09"}}'
RUBBISH = {
    "README.md": "put leases here",
    "10.5.70.0-24": "",
    "10.5.71.0-24": "not json at all",
    "10.5.72.0-24": GOOD[:40],
    "10.5.73.0-24": "[1, 2, 3]",
    "10.5.74.0-24": '{"PublicIP":"banana","BackendType":"vxlan"}',
    "10.5.75.0-24": GOOD.replace("02:00:00:00:00:09", "ff:ff:ff:ff:ff:ff"),
    "10.5.76.0-24": '{"PublicIP":"192.168.64.9"}',
    "10.5.78.0-24": GOOD.replace('"VNI":1', '"VNI":"one"'),
    "10.5.79.0-24": GOOD + "\0" * 100,
    "10.5.80.0-24": "x" * 200000,
    "10.5.81.0-24": GOOD[:-1] + ',"Expiration":"tomorrow"}',
    "10.5.82.0-33": GOOD,
    "10.5.83.7-24": GOOD,
    "999.5.83.0-24": GOOD,
    "10.5.84.0": GOOD,
    "10.5.85.0-24&": GOOD,
    "10.5.86.0-24&10.5.87.0-24": GOOD,
    ".10.5.88.0-24.swp": GOOD,
    "10.5.89.0-24~": GOOD,
    "name with \n newline": GOOD,
    "%s%n%x": GOOD,
    "10.5.90.0-24": '{"a":' * 3000,
}


def pour(topo):
    subnets = topo.store.file("subnets")
    for name, text in RUBBISH.items():
        topo.store.write(f"subnets/{name}", text)
    os.mkdir(os.path.join(subnets, "10.5.91.0-24"))
    os.symlink("10.5.92.0-24", os.path.join(subnets, "10.5.92.0-24"))
    os.symlink("/dev/zero", os.path.join(subnets, "10.5.93.0-24"))
    os.mkfifo(os.path.join(subnets, "10.5.94.0-24"))


def test_rubbish_while_running(topo):
    topo.start(CONFIG)
    pods, before = topo.pods(), topo.overlays()
    with traffic.Stream.all_to_all(pods) as stream:
        pour(topo)
        follows_the_store(topo)
        topo.store.remove("10.5.77.0-24")
        wait_equal(topo.overlays, before)
        stream.wait_flowing()
    assert stream.report.lost == 0, stream.report
    assert topo["h1"].wait_readyz(200)
    topo["h1"].wait_log(r"10\.5\.71\.0-24")


def test_rubbish_at_the_start(topo):
    pour(topo)
    topo.start(CONFIG)
    assert len(topo["h1"].pod_routes()) == 2
    traffic.assert_all_to_all(topo.pods())


def test_a_bad_record_put_right_is_used(topo):
    topo.start(CONFIG)
    topo.store.write("subnets/10.5.77.0-24", "{ half a rec")
    topo["h1"].wait_log(r"10\.5\.77\.0-24")
    follows_the_store(topo)


def test_a_good_record_that_turns_bad_stays_as_it_was(topo):
    """A writer that is not atomic shows half a file for a moment."""
    topo.start(CONFIG)
    h1 = topo["h1"]
    follows_the_store(topo)
    before = h1.overlay()
    for text in ("", "{", GOOD[:50]):
        with open(topo.store.file("subnets", "10.5.77.0-24"), "w", encoding="ascii") as f:
            f.write(text)
        stays(lambda: h1.overlay() == before, 0.1)
    topo.store.put_peer("10.5.77.0-24", "192.168.64.99", mac="02:00:00:00:00:77")
    wait_until(lambda: ("02:00:00:00:00:77", "192.168.64.99")
               in h1.overlay()["devices"]["flannel.1"]["fdb"])


def test_a_record_of_another_backend_or_vni_is_left_out(topo):
    topo.start(CONFIG)
    topo.store.put_peer("10.5.70.0-24", "192.168.64.70")  # host-gw
    topo.store.put_peer("10.5.71.0-24", "192.168.64.71", mac="02:00:00:00:00:71", vni=9)
    follows_the_store(topo)
    routes = topo["h1"].pod_routes()
    assert "10.5.70.0/24" not in routes and "10.5.71.0/24" not in routes


def test_a_record_that_would_take_over_our_own_subnet_is_not_programmed(topo):
    """Overlapping records: a peer cannot route our pods to itself."""
    topo.start(CONFIG)
    h1 = topo["h1"]
    own = h1.subnet()
    half = f"{own.network_address}-25"
    topo.store.put_peer(half, "192.168.64.66", mac="02:00:00:00:00:66")
    follows_the_store(topo)
    assert half.replace("-", "/") not in h1.pod_routes()
