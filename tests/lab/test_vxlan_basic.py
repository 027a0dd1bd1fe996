# SPDX-License-Identifier: Apache-2.0
"""The main job: every pod reaches every other, through exactly the kernel objects that
COMPAT.md section 6 names.

    pod a      pod a      pod a
      |          |          |            10.5.x.0/24 of Network 10.5.0.0/16
     cni0       cni0       cni0
      h1         h2         h3           flannel.1, vxlan VNI 1, UDP 8472
      |eth0      |eth0      |eth0
     -+----------+----------+- sw1       192.168.64.0/24
"""

import os

import pytest

from lib import traffic
from lib.expect import assert_subset
from lib.store import key_to_net, parse_rfc3339, rfc3339

pytestmark = pytest.mark.needs("vxlan")

CONFIG = {"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}


@pytest.fixture(scope="module")
def topo(topo_of):
    topo = topo_of(3)
    topo.start(CONFIG)
    topo.pods()
    return topo


def pods_of(topo):
    return [host.pods[0] for host in topo]


def test_all_pods_reach_each_other_by_their_own_address(topo):
    traffic.assert_all_to_all(pods_of(topo))


def test_hosts_reach_pods(topo):
    for host in topo:
        for pod in pods_of(topo):
            assert traffic.ping(host, pod.addresses[0]) is not None, f"{host.name} -> {pod.name}"


def test_tcp_copies_arrive_whole(topo):
    a, b, _ = pods_of(topo)
    copy = traffic.tcp_copy(a, b, 4 << 20)
    assert copy.intact
    assert copy.seen_from == a.addresses[0]


def test_the_full_mtu_fits_and_not_a_byte_more(topo):
    a, b, _ = pods_of(topo)
    assert a.mtu == 1450
    assert traffic.arrives_unfragmented(a, b, 1450)
    assert not traffic.arrives_unfragmented(a, b, 1451)
    for host in topo:
        counters = host.run("cat", "/proc/net/snmp").stdout.splitlines()
        names, values = [line.split()[1:] for line in counters if line.startswith("Ip:")]
        assert dict(zip(names, values))["FragCreates"] == "0", f"{host.name} fragmented"


def test_subnet_env(topo):
    for host in topo:
        key, _ = topo.store.lease_of(host.address)
        base = key.split("-")[0]
        with open(host.subnet_file, encoding="ascii") as f:
            text = f.read()
        assert text == (
            "FLANNEL_NETWORK=10.5.0.0/16\n"
            f"FLANNEL_SUBNET={base[:-1]}1/24\n"
            "FLANNEL_MTU=1450\n"
            "FLANNEL_IPMASQ=false\n"
        )
        assert os.stat(host.subnet_file).st_mode & 0o777 == 0o644


def test_lease_records(topo):
    leases = topo.store.leases()
    assert len(leases) == 3
    for host in topo:
        key, record = topo.store.lease_of(host.address)
        assert key == host.key()
        assert key.endswith(".0-24") and key.startswith("10.5.") and key != "10.5.0.0-24"
        mac = host.overlay()["devices"]["flannel.1"]["mac"]
        assert_subset(record, {
            "PublicIP": host.address,
            "BackendType": "vxlan",
            "BackendData": {"VNI": 1, "VtepMAC": mac},
        })
        left = parse_rfc3339(record["Expiration"]) - parse_rfc3339(rfc3339(0))
        assert 86400 - 120 < left <= 86400 + 5


def test_kernel_objects_are_exactly_these(topo):
    leases = topo.store.leases()
    for host in topo:
        own = host.key()
        peers = {k: r for k, r in leases.items() if k != own}
        base = {k: k.split("-")[0] for k in leases}
        assert host.overlay() == {
            "devices": {
                "flannel.1": {
                    "mac": leases[own]["BackendData"]["VtepMAC"],
                    "mtu": 1450,
                    "up": True,
                    "vni": 1,
                    "port": 8472,
                    "local": host.address,
                    "lower": "eth0",
                    "learning": False,
                    "gbp": False,
                    "addresses": [f"{base[own]}/32"],
                    "neighbours": {
                        base[k]: r["BackendData"]["VtepMAC"] for k, r in peers.items()
                    },
                    "fdb": sorted(
                        (r["BackendData"]["VtepMAC"], r["PublicIP"]) for r in peers.values()
                    ),
                }
            },
            "routes": {
                key_to_net(k): f"via {base[k]} dev flannel.1 onlink proto 87" for k in peers
            },
        }


def test_the_vtep_mac_is_a_sound_one(topo):
    for host in topo:
        first = int(host.overlay()["devices"]["flannel.1"]["mac"].split(":")[0], 16)
        assert first & 1 == 0, "a multicast address"
        assert first & 2 == 2, "not locally administered"


def test_words_that_people_grep_for(topo):
    for host in topo:
        text = host.log_text()
        for words in (
            f"Using interface with name eth0 and address {host.address}",
            f"Defaulting external address to interface address ({host.address})",
            "Found network config - Backend type: vxlan",
            f"Wrote subnet file to {host.subnet_file}",
            "Created subnet manager: ",
            "Watching for new subnet leases",
            "flannel is ready",
        ):
            assert words.lower() in text.lower(), f"{host.name}: not in its log: {words}"
