# SPDX-License-Identifier: Apache-2.0
"""Real containers: podman with its CNI backend on two hosts, flanneld between them, and the
network as flannel's manifest has it. (podman takes lists of plugins only: a single plugin is
test_cni_containerd.py's.)

    web     box
     |       |           containers on cni0, 10.5.x.0/24 of 10.5.0.0/16
    cni0    cni0
     h1      h2      x   x is outside: no route into the network
     |eth0   |eth0   |
    -+-------+-------+- sw1     192.168.64.0/24
"""

import os

import pytest

from lib import cni, traffic
from lib.expect import wait_until
from lib.podman import IMAGE, Podman

pytestmark = pytest.mark.needs("delegates", "vxlan", "nat", "podman")

VXLAN = {"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}
FLANNEL = {"type": "flannel", "delegate": {"hairpinMode": True, "isDefaultGateway": True}}
LIST = {"name": "cbr0", "cniVersion": "0.3.1", "plugins": [
    FLANNEL, {"type": "portmap", "capabilities": {"portMappings": True}}]}
PORT, INNER_PORT = 8080, 80
HELLO = "hello from a container\n"


class Outside:
    def __init__(self, topo):
        self.name = "x"
        self.ns, self.addresses = topo.server("x", 50)


class Site:
    def __init__(self, topo, conf):
        self.topo, self.x = topo, Outside(topo)
        self.machines = [cni.Machine.of(host) for host in topo]
        self.podmans = [Podman(machine) for machine in self.machines]
        for podman in self.podmans:
            podman.write_network("10-flannel.conflist", conf)

    def start(self):
        self.topo.start(VXLAN, "--ip-masq")
        self.web = self.podmans[0].run("web", "httpd", "-f", "-p", INNER_PORT, "-h", "/www",
                                       flags=["-p", f"{PORT}:{INNER_PORT}"])
        self.box = self.podmans[1].run("box")
        self.containers = [self.web, self.box]
        return self

    def close(self):
        for podman in self.podmans:
            podman.close()
        for machine in self.machines:
            machine.close()
        self.topo.close()


WITHOUT_BUILTIN = {**LIST, "plugins": [{**FLANNEL, "builtin": False}, LIST["plugins"][1]]}


@pytest.fixture(scope="module", params=[LIST, WITHOUT_BUILTIN], ids=["builtin", "exec"])
def site(topo_of, request):
    site = Site(topo_of(2), request.param)
    try:
        yield site.start()
    finally:
        site.close()


@pytest.fixture(autouse=True)
def portmap_moves_our_rules(site):
    site.topo.allow_log("W", "Restored our rules in iptables")


def test_podman_sees_the_network(site):
    for podman in site.podmans:
        assert "cbr0" in podman.cli("network", "ls")


def test_containers_are_as_the_subnet_file_says(site):
    for machine, container in zip(site.machines, site.containers):
        env = machine.subnet_env()
        prefix = env["FLANNEL_SUBNET"].rsplit(".", 1)[0]
        assert container.addresses == [f"{prefix}.2"]
        assert f"mtu {env['FLANNEL_MTU']} " in container.exec("ip", "link", "show", "dev", "eth0")
        assert f"default via {prefix}.1" in container.exec("ip", "route")
        assert machine.reserved() == {f"{prefix}.2": container.id}
        assert list(machine.files("flannel")) == [f"flannel/{container.id}"]


def test_containers_talk_by_their_own_address(site):
    traffic.assert_all_to_all(site.containers)
    for a, b in ((site.web, site.box), (site.box, site.web)):
        copy = traffic.tcp_copy(a, b, 1 << 20)
        assert copy.intact
        assert copy.seen_from == a.addresses[0]


def test_programs_in_containers_talk(site):
    for a, b in ((site.web, site.box), (site.box, site.web)):
        assert "1 packets received" in a.exec("ping", "-c", "1", "-W", "2", b.addresses[0])
    assert site.box.exec("wget", "-qO-", f"http://{site.web.addresses[0]}/") == HELLO


def test_published_port(site):
    h1, h2 = site.topo
    assert site.box.exec("wget", "-qO-", f"http://{h1.address}:{PORT}/") == HELLO
    assert site.web.exec("wget", "-qO-", f"http://{h1.address}:{PORT}/") == HELLO  # hairpin
    for client in (site.x, h2):
        assert client.ns.http_get(h1.address, PORT, "/") == (200, HELLO)


def test_container_comes_and_goes(site):
    podman, machine = site.podmans[1], site.machines[1]
    before = machine.reserved(), machine.files("flannel"), machine.veths()
    other = podman.run("other")
    traffic.assert_all_to_all([*site.containers, other])
    podman.remove(other)
    wait_until(lambda: machine.veths() == before[2], what="no veth of it")
    assert (machine.reserved(), machine.files("flannel")) == before[:2]


def test_container_dies(site):
    """podman sees it, and takes its network down."""
    podman, machine = site.podmans[1], site.machines[1]
    before = machine.reserved()
    podman.cli("run", "--rm", f"--cgroup-parent=/{podman.cgroup}", IMAGE, "sleep", "0.01")
    wait_until(lambda: machine.reserved() == before, what="its address is free again")


def test_no_container_without_a_subnet(site):
    """What a person sees of it."""
    podman, machine = site.podmans[0], site.machines[0]
    before = machine.reserved(), machine.files("flannel")
    os.rename(machine.subnet_file, machine.subnet_file + ".away")
    try:
        with pytest.raises(RuntimeError, match="subnet.env missing"):
            podman.run("early")
    finally:
        os.rename(machine.subnet_file + ".away", machine.subnet_file)
        podman.cli("rm", "-f", "early", check=False)
    assert (machine.reserved(), machine.files("flannel")) == before
