# SPDX-License-Identifier: Apache-2.0
"""Many faults one upon another, at random; in the end all is as it was in the beginning.

     h1     h2     h3
    -+------+------+- sw1

A walk that fails names its seed and its steps; WEFT_SEED=N walks that one.
"""

import os
import random

import pytest

from lib import traffic
from lib.expect import let_pass, wait_equal

pytestmark = pytest.mark.needs("vxlan", "ipv6", "nft")

FAMILIES = {"Network": "10.5.0.0/16", "SubnetMax": "10.5.199.0",
            "EnableIPv6": True, "IPv6Network": "fc00:5::/48"}
BACKENDS = [
    {"Type": "vxlan"},
    {"Type": "vxlan", "DirectRouting": True},
    {"Type": "vxlan", "VNI": 7},
    {"Type": "vxlan", "Port": 4789},
    {"Type": "vxlan", "MTU": 1400},
    {"Type": "host-gw"},
]
STEPS = 60
SEEDS = [int(os.environ["WEFT_SEED"])] if "WEFT_SEED" in os.environ else [1, 2, 3, 4]


class Walk:
    """Each step_*(host, device) is one kind of fault; what it does may have no object."""

    def __init__(self, topo, seed):
        self.topo, self.random = topo, random.Random(seed)
        self.taken = []
        self.backend = BACKENDS[0]
        self.peers = set()

    def go(self):
        kinds = sorted(name for name in dir(self) if name.startswith("step_"))
        for _ in range(STEPS):
            kind, host = self.random.choice(kinds), self.random.choice(self.topo.hosts)
            device = self.random.choice(["flannel.1", "flannel-v6.1", "flannel.7"])
            self.taken.append(f"{kind[5:]} {host.name} {device}")
            getattr(self, kind)(host, device)
            let_pass(self.random.choice([0, 0, 0.005, 0.02, 0.1]))

    def home(self):
        """Undoes what is not for flanneld to undo."""
        for key in self.peers:
            self.topo.store.remove(key)
        self.topo.store.write_config({**FAMILIES, "Backend": BACKENDS[0]})

    def step_device_deleted(self, host, device):
        host.ip(f"link del {device}", force=True)

    def step_device_down(self, host, device):
        host.ip(f"link set {device} down", force=True)

    def step_device_down_and_up(self, host, device):
        host.ip(f"link set {device} down", f"link set {device} up", force=True)

    def step_device_renamed(self, host, device):
        host.ip(f"link set {device} down", f"link set {device} name lost{len(self.taken)}",
                force=True)

    def step_device_changed(self, host, device):
        host.ip(f"link set {device} address 02:00:00:00:00:{len(self.taken):02x}",
                f"link set {device} mtu 1300", force=True)

    def step_addresses_flushed(self, host, device):
        host.ip(f"addr flush dev {device}", force=True)

    def step_routes_flushed(self, host, _device):
        host.ip("route flush proto 87", force=True)
        host.ip("route flush proto 87", tool="ip -6", force=True)

    def step_neighbours_flushed(self, host, device):
        host.ip(f"neigh flush dev {device} nud permanent", force=True)

    def step_fdb_flushed(self, host, _device):
        host.ip(*(f"fdb del {mac} dst {dst} dev {name} self"
                  for name, device in host.overlay()["devices"].items()
                  for mac, dst in device["fdb"]), tool="bridge", force=True)

    def step_ruleset_flushed(self, host, _device):
        host.run("nft", "flush", "ruleset")

    def step_rubbish_added(self, host, device):
        host.ip("route replace 10.5.250.0/24 via 192.168.64.254 dev eth0 proto 87",
                f"neigh replace 10.5.250.0 lladdr 02:11:22:33:44:55 dev {device} nud permanent",
                force=True)

    def step_nic_down_and_up(self, host, _device):
        nic = host.nics["eth0"]
        host.ip("link set eth0 down", "link set eth0 up",
                f"addr replace {nic.ipv6}/64 dev eth0 nodad",
                *(f"route replace default via {g} dev eth0" for g in nic.gateways), force=True)

    def step_daemon_killed(self, host, _device):
        host.kill_flanneld()
        host.start_flanneld(wait=self.random.random() < 0.5)

    def step_config(self, _host, _device):
        self.backend = self.random.choice(BACKENDS)
        self.topo.store.write_config({**FAMILIES, "Backend": self.backend})

    def step_peers(self, _host, _device):
        """A burst of changes of foreign records."""
        for _ in range(self.random.randrange(1, 20)):
            n, last = self.random.choice([201, 202, 203]), self.random.randrange(100, 200)
            data = {"VNI": self.backend.get("VNI", 1), "VtepMAC": f"02:00:00:00:{n:02x}:{last:02x}"}
            key = f"10.5.{n}.0-24&fc00:5:0:{n:x}::-64"
            record = {"PublicIP": f"192.168.64.{last}", "PublicIPv6": f"fd00:64::{last}",
                      "BackendType": self.backend["Type"]}
            if self.backend["Type"] == "vxlan":
                record.update(BackendData=data, BackendV6Data=data)
            self.topo.store.put_lease(key, record)
            self.peers.add(key)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_walk_ends_where_it_began(make_topo, seed):
    topo = make_topo(3, ipv6=True)
    topo.allow_log("W", ".")
    topo.start({**FAMILIES, "Backend": BACKENDS[0]})
    pods, before = topo.pods(), topo.overlays()
    walk = Walk(topo, seed)
    try:
        walk.go()
        walk.home()
        wait_equal(topo.overlays, before, 30, "the overlay of the beginning")
        for host in topo:
            host.wait_readyz(200, r"^(?!.*warning)", 15)
        traffic.assert_all_to_all(pods)
    except AssertionError as e:
        raise AssertionError(f"{e}\nseed {seed}: " + ", ".join(walk.taken)) from None
