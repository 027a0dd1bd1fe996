# SPDX-License-Identifier: Apache-2.0
"""Docker as the tutorials run it: flanneld writes the subnet file, mk-docker-opts.sh makes
options of it, dockerd is started with them. Docker's own FORWARD policy is DROP, and its
rules are in nftables or in the legacy tables, ours in either.

    web      box
     |        |          containers on docker0, 10.5.x.0/24 of 10.5.0.0/16
    docker0  docker0
     h1       h2      x      x is outside: no route into the network
     |eth0    |eth0   |
    -+--------+-------+- sw1     192.168.64.0/24
"""

import os
import subprocess
import time

import pytest

from lib import traffic
from lib.docker import Docker, Xtables
from lib.expect import wait_until
from lib.node import ROOT

pytestmark = pytest.mark.needs("vxlan", "nft", "docker", "iptables-nft", "iptables-legacy")

CONFIG = {"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}
OPTIONS = "$DOCKER_OPT_BIP $DOCKER_OPT_IPMASQ $DOCKER_OPT_MTU"
PORT, INNER_PORT = 8080, 80

# Our rules, and the tables that Docker's are in.
MODES = [(False, "nft"), (False, "legacy"), (True, "nft"), (True, "legacy")]
NAMES = ["iptables-nft", "iptables-legacy", "nftables", "nftables-docker-legacy"]


class Outside:
    """A host that takes no part; for lib/traffic.py."""

    def __init__(self, topo):
        self.name = "x"
        self.ns, self.addresses = topo.server("x", 50)


class Site:
    """Two hosts with Docker on them."""

    def __init__(self, topo_of, nftables, kind):
        self.topo, self.nftables = topo_of(2), nftables
        self.x = Outside(self.topo)
        self.xtables = Xtables(self.topo.lab, kind)
        self.dockers = []

    def start(self):
        self._install_docker()
        self.topo.start(
            {**CONFIG, "EnableNFTables": self.nftables}, "--ip-masq", "--iptables-resync=1",
            env=self.xtables.env(),
        )
        begun = time.monotonic()
        self.start_docker()
        self.docker_took = time.monotonic() - begun
        self.web = self.dockers[0].run("web", "-p", f"{PORT}:{INNER_PORT}")
        self.box = self.dockers[1].run("box")
        self.containers = [self.web, self.box]

    def _install_docker(self):
        """The package starts it once, before there is a flanneld. Forwarding is off in a
        new machine: that Docker turns it on is why it also sets the DROP."""
        for host in self.topo:
            host.ns.sysctl("net/ipv4/ip_forward", 0)
            self.dockers.append(Docker(host, self.xtables).start(wait=False))
        for docker in self.dockers:
            docker.wait_up()
        Docker.stop_all(self.dockers)

    def start_docker(self):
        for docker in self.dockers:
            docker.start(docker_options(docker.host), wait=False)
        for docker in self.dockers:
            docker.wait_up()

    def close(self):
        for docker in self.dockers:
            docker.close()
        self.topo.close()


def docker_options(host):
    """What docker.service has in its ExecStart, with the file as its EnvironmentFile."""
    out = os.path.join(host.dir, "docker_opts.env")
    host.run(os.path.join(ROOT, "deploy", "mk-docker-opts.sh"), "-f", host.subnet_file, "-d", out)
    done = subprocess.run(
        ["sh", "-c", f'. "$1"; echo "{OPTIONS}"', "sh", out], capture_output=True, text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture(scope="module", params=MODES, ids=NAMES)
def site(topo_of, request):
    site = Site(topo_of, *request.param)
    try:
        site.start()
        yield site
    finally:
        site.close()


@pytest.fixture(autouse=True)
def docker_moves_our_rules(site):
    """It puts its own chains first whenever it starts, and flanneld says that it saw that."""
    site.topo.allow_log("W", "Restored our rules in .*FORWARD")


def test_docker_is_as_the_subnet_file_says(site):
    for docker, container in zip(site.dockers, site.containers):
        env = docker.host.read_subnet_env()
        (link,) = docker.host.ip_json("addr", "show", "dev", "docker0")
        assert f"{link['addr_info'][0]['local']}/24" == env["FLANNEL_SUBNET"]
        assert f"mtu {env['FLANNEL_MTU']} " in container.exec("ip", "link", "show", "dev", "eth0")


def test_a_start_of_docker_is_one_line_in_the_log(site):
    """It inserts rule after rule; ours move once, or twice when it takes its time: we look once
    a second, and a busy machine may need some for it."""
    for host in site.topo:
        moved = [line for line in host.log_text().splitlines() if "Restored" in line]
        assert len(moved) <= max(2, site.docker_took), moved


def test_docker_drops_what_it_does_not_know(site):
    """What all other tests here are about: without our rules nothing would pass."""
    for docker in site.dockers:
        assert "-P FORWARD DROP" in docker.iptables("-S", "FORWARD")


def test_docker_leaves_masquerading_to_us(site):
    for docker in site.dockers:
        rules = docker.iptables("-t", "nat", "-S", "POSTROUTING")
        assert not [r for r in rules if "! -o docker0 -j MASQUERADE" in r]


def assert_containers_talk(site):
    traffic.assert_all_to_all(site.containers)
    for a, b in ((site.web, site.box), (site.box, site.web)):
        assert traffic.ping(a, b.addresses[0]) is not None
        copy = traffic.tcp_copy(a, b, 1 << 20)
        assert copy.intact
        assert copy.seen_from == a.addresses[0]


def test_containers_talk_by_their_own_address(site):
    assert_containers_talk(site)


def test_programs_in_containers_talk(site):
    for a, b in ((site.web, site.box), (site.box, site.web)):
        assert "1 packets received" in a.exec("ping", "-c", "1", "-W", "2", b.addresses[0])


def test_host_reaches_containers(site):
    for host in site.topo:
        for container in site.containers:
            assert traffic.ping(host, container.addresses[0]) is not None, host.name


def test_published_port(site):
    """DNAT, and the client's own address: from outside and from the other host."""
    h1, h2 = site.topo
    for client, known_as in ((site.x, site.x.addresses[0]), (h2, h2.address)):
        assert traffic.asked(client, site.web, h1.address, PORT, INNER_PORT) == known_as


def test_published_port_from_a_container(site):
    """It leaves the network on its way to the host's address: as its own host."""
    h1, h2 = site.topo
    assert traffic.asked(site.box, site.web, h1.address, PORT, INNER_PORT) == h2.address


def test_outside_sees_the_host(site):
    for container, host in zip(site.containers, site.topo):
        address = site.x.addresses[0]
        assert traffic.seen_source(container, site.x, container.addresses[0], address) \
            == host.address
        assert traffic.asked(container, site.x, address, PORT, PORT) == host.address


def ours_stand_first(docker):
    """Whether nothing that Docker has for docker0 comes before our accept."""
    rules = docker.iptables("-S", "FORWARD")
    ours = [i for i, rule in enumerate(rules) if "flanneld forward" in rule]
    return ours[-1] < min(i for i, rule in enumerate(rules) if "docker0" in rule)


def test_docker_keeps_its_networks_apart(site):
    """A network of its own is no part of ours: towards other hosts its containers are their
    host, and those on docker0 are none of their business."""
    docker = site.dockers[0]
    wait_until(lambda: ours_stand_first(docker), what="our rules before Docker's")
    docker.cli("network", "create", "apart")
    other = docker.run("other", "--network", "apart")
    try:
        address = site.box.addresses[0]
        seen = traffic.seen_source(other, site.box, other.addresses[0], address)
        (link,) = docker.host.ip_json("addr", "show", "dev", "flannel.1")
        assert seen == link["addr_info"][0]["local"]
        assert traffic.ping(other, site.web.addresses[0], timeout=0.5) is None
        assert traffic.ping(site.web, other.addresses[0], timeout=0.5) is None
    finally:
        docker.cli("rm", "-f", "other")
        docker.cli("network", "rm", "apart")


def test_docker_is_started_again(site):
    """It puts its chains back to the top; connections that stood go on."""
    with traffic.Stream([(site.web, site.box)], interval_ms=5) as stream:
        Docker.stop_all(site.dockers)
        site.start_docker()
        for docker in site.dockers:
            wait_until(lambda d=docker: ours_stand_first(d), what="our rules before Docker's")
        stream.wait_flowing()
    assert stream.report.lost == 0, stream.report
    assert all(container.running() for container in site.containers)
    test_docker_drops_what_it_does_not_know(site)
    assert_containers_talk(site)
