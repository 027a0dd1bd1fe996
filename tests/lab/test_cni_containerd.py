# SPDX-License-Identifier: Apache-2.0
"""Real containers of containerd, which drives plugins by go-cni as a node of Kubernetes does:
a single plugin's config and the manifest's list.

    web     box
     |       |           containers on cni0, 10.5.x.0/24 of 10.5.0.0/16
    cni0    cni0
     h1      h2
     |eth0   |eth0
    -+-------+--- sw1     192.168.64.0/24
"""

import pytest

from lib import cni, traffic
from lib.containerd import Containerd

pytestmark = pytest.mark.needs("delegates", "vxlan", "nat", "containerd")

VXLAN = {"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}
FLANNEL = {"type": "flannel", "delegate": {"hairpinMode": True, "isDefaultGateway": True}}
LIST = {"name": "cbr0", "cniVersion": "0.3.1", "plugins": [
    FLANNEL, {"type": "portmap", "capabilities": {"portMappings": True}}]}
SINGLE = {"name": "cbr0", "cniVersion": "0.3.1", **FLANNEL}
HELLO = "hello from a container\n"


class Site:
    def __init__(self, topo, name, conf):
        self.topo = topo
        self.machines = [cni.Machine.of(host) for host in topo]
        self.containerds = [Containerd(machine, name, conf) for machine in self.machines]

    def start(self):
        self.topo.start(VXLAN, "--ip-masq")
        for containerd in self.containerds:
            containerd.start()
        self.web = self.containerds[0].run("web", "httpd", "-f", "-p", 80, "-h", "/www")
        self.box = self.containerds[1].run("box")
        self.containers = [self.web, self.box]
        return self

    def close(self):
        for containerd in self.containerds:
            containerd.close()
        for machine in self.machines:
            machine.close()
        self.topo.close()


@pytest.fixture(scope="module", params=[
    ("10-flannel.conf", SINGLE), ("10-flannel.conflist", LIST),
    ("10-flannel.conf", {**SINGLE, "builtin": False})], ids=["single", "list", "single-exec"])
def site(topo_of, request):
    site = Site(topo_of(2), *request.param)
    try:
        yield site.start()
    finally:
        site.close()


@pytest.fixture(autouse=True)
def portmap_moves_our_rules(site):
    site.topo.allow_log("W", "Restored our rules in iptables")


def test_containers_talk_by_their_own_address(site):
    for machine, container in zip(site.machines, site.containers):
        prefix = machine.subnet_env()["FLANNEL_SUBNET"].rsplit(".", 1)[0]
        assert container.addresses == [f"{prefix}.2"]
    traffic.assert_all_to_all(site.containers)


def test_programs_in_containers_talk(site):
    for a, b in ((site.web, site.box), (site.box, site.web)):
        assert "1 packets received" in a.exec("ping", "-c", "1", "-W", "2", b.addresses[0])
    assert site.box.exec("wget", "-qO-", f"http://{site.web.addresses[0]}/") == HELLO


def test_container_comes_and_goes(site):
    containerd, machine = site.containerds[1], site.machines[1]
    before = machine.reserved(), machine.files("flannel")
    other = containerd.run("other")
    assert len(machine.reserved()) == len(before[0]) + 1
    traffic.assert_all_to_all([*site.containers, other])
    containerd.stop(other)
    assert (machine.reserved(), machine.files("flannel")) == before
