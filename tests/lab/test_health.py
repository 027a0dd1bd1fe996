# SPDX-License-Identifier: Apache-2.0
"""/healthz, /readyz and systemd's notifications tell the truth from the first moment.

     h1     h2
    -+------+- sw1
"""

import os
import signal
import subprocess

import pytest

from lib import expect
from lib.expect import wait_until
from lib.node import HEALTH_PORT

pytestmark = pytest.mark.needs("vxlan")

# Hosts choose among the upper half, records that are written by hand are in the lower one.
CONFIG = {"Network": "10.5.0.0/16", "SubnetMin": "10.5.128.0",
          "Backend": {"Type": "vxlan"}}


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def test_before_and_after_the_config_is_there(make_topo):
    topo = make_topo(1)
    h1 = topo["h1"]
    h1.allow_log("W", "config")
    h1.start_flanneld(wait=False)
    wait_until(lambda: h1.get("/healthz")[1].strip() == "flanneld is running")
    code, body = h1.wait_readyz(503, "config")
    assert topo.store.file("config") in body, body
    assert "READY=1" not in h1._read_states()
    wait_until(lambda: any(s.startswith("STATUS=") for s in h1._read_states()))
    h1.wait_log("config")
    assert h1.read_subnet_env() is None
    status = os.path.join(os.path.dirname(h1.subnet_file), "status")
    # Its first word, that of a start, may be there before.
    wait_until(lambda: topo.store.file("config") in read(status))
    topo.store.write_config(CONFIG)
    h1.wait_ready()
    wait_until(lambda: read(status) == "ready\n")
    # Who wrote it lives, says the lock; and no longer.
    assert subprocess.run(["flock", "-n", "-s", status, "true"]).returncode == 1
    h1.stop_flanneld()
    assert subprocess.run(["flock", "-n", "-s", status, "true"]).returncode == 0
    h1.start_flanneld()
    assert h1.wait_readyz(200)[1].strip() == "flanneld is ready"
    assert h1.get("/healthz")[1].strip() == "flanneld is running"


def test_the_status_file_says_why_it_ended(make_topo):
    """Else a pod that waits is told that flanneld was about to read its config."""
    topo = make_topo(1)
    h1 = topo["h1"]
    topo.store.write_config(CONFIG)
    done = h1.run_flanneld("--iface=eth9")
    assert done.code == 1 and "eth9: there is no such interface" in done.text
    status = os.path.join(os.path.dirname(h1.subnet_file), "status")
    assert read(status) == "stopped: --iface=eth9: there is no such interface\n"
    topo.start()
    wait_until(lambda: read(status) == "ready\n")


def test_answers_to_other_requests(make_topo):
    topo = make_topo(1)
    topo.start(CONFIG)
    h1 = topo["h1"]
    assert h1.get("/nowhere")[0] == 404
    assert h1.get("/../../etc/passwd")[0] in (400, 404)


def test_a_busy_port_is_a_clear_error(make_topo):
    topo = make_topo(1)
    topo.store.write_config(CONFIG)
    h1 = topo["h1"]
    with h1.ns.socket(kind=1) as squatter:
        squatter.bind(("127.0.0.1", HEALTH_PORT))
        squatter.listen()
        done = h1.run_flanneld()
    assert done.code == 1
    errors = done.lines("E")
    assert len(errors) == 1, done.text
    assert str(HEALTH_PORT) in errors[0] and "127.0.0.1" in errors[0]
    assert topo.store.keys() == [] and h1.overlay([CONFIG["Network"]])["devices"] == {}


def test_port_zero_means_no_server(make_topo):
    topo = make_topo(1)
    topo.store.write_config(CONFIG)
    h1 = topo["h1"]
    h1.start_flanneld("--healthz-port=0")
    assert h1.get_or_none("/healthz") is None


def test_systemd_is_told_when_its_queue_has_been_full(make_topo):
    """A READY=1 that is lost would make systemd end the daemon when its start takes too long."""
    topo = make_topo(1)
    topo.store.write_config(CONFIG)
    h1 = topo["h1"]
    h1.start_flanneld(wait=False, notify_queue_full=True)
    h1.wait_readyz(200)
    h1.wait_ready()
    wait_until(lambda: "STATUS=ready" in h1._read_states())


def test_systemd_is_told_of_the_stop(make_topo):
    topo = make_topo(1)
    topo.start(CONFIG)
    h1 = topo["h1"]
    process = h1.process
    process.terminate()
    wait_until(lambda: "STOPPING=1" in h1._read_states())
    assert process.wait(10 * expect.TIME_FACTOR) == 0
    h1.process = None
    assert "Exiting cleanly..." in h1.log_text()


def test_ready_means_that_the_known_peers_are_in_the_kernel(make_topo):
    """READY=1 comes after the first complete sync, not before."""
    topo = make_topo(1)
    for i in range(60):
        topo.store.put_peer(f"10.5.{100 + i}.0-24", f"192.168.64.{100 + i}",
                            mac=f"02:00:00:00:00:{i:02x}")
    topo.store.write_config(CONFIG)
    h1 = topo["h1"]
    h1.start_flanneld()
    assert len(h1.pod_routes()) == 60
    device = h1.overlay()["devices"]["flannel.1"]
    assert len(device["fdb"]) == len(device["neighbours"]) == 60


def test_sigint_is_sigterm(make_topo):
    topo = make_topo(1)
    topo.start(CONFIG)
    h1 = topo["h1"]
    before = h1.overlay()
    process, h1.process = h1.process, None
    process.send_signal(signal.SIGINT)
    assert process.wait(10 * expect.TIME_FACTOR) == 0
    assert h1.overlay() == before


def test_a_subnet_file_that_is_right_again(make_topo):
    """It could not be written for a while, and then need not be."""
    topo = make_topo(1)
    topo.allow_log("W", ".")
    topo.start({"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}})
    h1 = topo["h1"]
    directory = os.path.join(h1.dir, "files")
    h1.stop_flanneld()
    h1.subnet_file = os.path.join(directory, "subnet.env")
    h1.start_flanneld()
    h1.wait_readyz(200)
    os.rename(directory, directory + ".away")
    with open(directory, "w", encoding="ascii"):
        pass
    h1.ip("link set eth0 mtu 1400")
    h1.wait_readyz(503, "missing subnet file")
    for mtu in 1390, 1380:
        h1.ip(f"link set eth0 mtu {mtu}")
        wait_until(lambda: h1.ip_json("link", "show", "flannel.1")[0]["mtu"] == mtu - 50)
    assert h1.log_text().count("Writing the subnet file failed") == 1
    h1.ip("link set eth0 mtu 1500")
    wait_until(lambda: h1.ip_json("link", "show", "flannel.1")[0]["mtu"] == 1450)
    os.unlink(directory)
    os.rename(directory + ".away", directory)
    h1.wait_readyz(200, timeout=10)
