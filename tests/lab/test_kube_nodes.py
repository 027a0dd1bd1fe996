# SPDX-License-Identifier: Apache-2.0
"""Nodes come, go, and come back as others, with each backend, while flanneld is restarted in
the middle of it; in the end the kernel holds what the nodes say, and nothing else.

     h1     h2     h3     k1 (API server)          with direct routing h3 is
    -+------+------+------+- sw1                   behind a router
"""

import random

import pytest

from lib import traffic
from lib.expect import wait_equal, wait_until
from lib.kube_nodes import peer_annotations, seen_overlay, wanted_overlay

pytestmark = pytest.mark.needs("vxlan", "etcd", "ipv6")

PREFIX = "flannel.alpha.coreos.com"
V4 = {"Network": "10.5.0.0/16"}
V6 = {"EnableIPv6": True, "IPv6Network": "fd05::/48"}
FLAT = 3
ROUTED = [["h1", "h2"], ["h3"]]
SCENES = {
    "vxlan": (FLAT, V4, {"Type": "vxlan"}),
    "host-gw": (FLAT, V4, {"Type": "host-gw"}),
    "direct": (ROUTED, V4, {"Type": "vxlan", "DirectRouting": True}),
    "dual": (FLAT, {**V4, **V6}, {"Type": "vxlan"}),
    "dual-host-gw": (FLAT, {**V4, **V6}, {"Type": "host-gw"}),
    "v6": (FLAT, {"EnableIPv4": False, **V6}, {"Type": "vxlan"}),
    "v6-direct": (ROUTED, {"EnableIPv4": False, **V6}, {"Type": "vxlan", "DirectRouting": True}),
}


class Scene:
    def __init__(self, make_topo, hosts, families, backend):
        self.v4, self.v6 = families.get("EnableIPv4", True), "EnableIPv6" in families
        self.config = {**families, "Backend": backend}
        self.topo = make_topo(hosts, ipv4=self.v4, ipv6=self.v6)
        self.kube = self.topo.kube()
        self.restarts = {}

    def cidrs(self, n):
        return [f"10.5.{n}.0/24"] * self.v4 + [f"fd05:0:0:{n}::/64"] * self.v6

    def add(self, name, n):
        self.kube.add_node(name, *self.cidrs(n), address=self.topo[name].address)

    def near(self, host):
        """Whether a public IP is in host's L2, and that matters."""
        if not self.config["Backend"].get("DirectRouting"):
            return lambda ip: False
        l2s = [a.rpartition(":" if ":" in a else ".")[0] for a in host.addresses]
        return lambda ip: ip.rpartition(":" if ":" in ip else ".")[0] in l2s

    def exact(self, *names, timeout=10):
        """The kernels of these hosts are what the nodes say."""
        for host in map(self.topo.__getitem__, names):
            wait_equal(lambda h=host: seen_overlay(h),
                       wanted_overlay(self.kube, host, self.near(host)), timeout, host.name)

    def restart(self):
        """As it is told by self.restarts, {host's name: how it ends}."""
        for name, how in self.restarts.items():
            host = self.topo[name]
            getattr(host, f"{how}_flanneld")()
            host.start_flanneld(wait=False)

    # -- steps of h3's node ------------------------------------------------------------

    def added(self, n):
        h3 = self.topo["h3"]
        self.add("h3", n)
        self.restart()
        h3.wait_ready(20)
        wait_equal(lambda: [str(s) for s in h3.subnets()], self.cidrs(n))
        self.kube_says_of_h3()
        if h3.pods:
            h3.remove_pods()
        h3.pod()
        self.exact("h1", "h2", "h3")
        traffic.assert_all_to_all([host.pods[0] for host in self.topo])

    def kube_says_of_h3(self):
        h3, ip = self.topo["h3"], "public-ip" if self.v4 else "public-ipv6"
        wait_equal(lambda: self.kube.annotations("h3").get(f"{PREFIX}/{ip}"), h3.address)
        wait_until(lambda: self.kube.condition("h3"))

    def cordoned(self):
        mark, before = self.kube.mark(), self.topo.overlays()
        for on in (True, False):
            self.kube.cordon("h3", on)
            self.restart()
            for name in self.restarts:
                self.topo[name].wait_ready(20)
        assert self.topo.overlays() == before
        assert not self.kube.requests(since=mark, method="PATCH")

    def deleted(self, n):
        self.kube.delete_node("h3")
        self.restart()
        self.exact("h1", "h2")
        h3 = self.topo["h3"]
        h3.wait_readyz(None, "our node h3.*keeping its subnet" if not self.restarts
                       else "our node h3")
        assert [str(s) for s in h3.subnets()] == self.cidrs(n)


@pytest.mark.parametrize("name", SCENES)
def test_a_node_comes_and_goes(make_topo, name):
    """Three times: undisturbed, and with flanneld ended in both ways, there and elsewhere."""
    scene = Scene(make_topo, *SCENES[name])
    topo = scene.topo
    topo.allow_log("W", "node h3|Our lease|pods|state of|[Vv]anished|Kubernetes")
    for i in (1, 2):
        scene.add(f"h{i}", i)
    topo.start(scene.config, hosts=["h1", "h2"])
    topo["h3"].start_flanneld(wait=False)
    pods = [topo[h].pod() for h in ("h1", "h2")]
    with traffic.Stream([pods]) as stream:
        for n, restarts in enumerate([{}, {"h1": "kill", "h3": "stop"},
                                      {"h1": "stop", "h3": "kill"}], 30):
            scene.restarts = restarts
            scene.added(n)
            scene.cordoned()
            scene.deleted(n)
    assert stream.report.lost == 0, stream.report


# -- many nodes, and a server that dies ------------------------------------------------


class Churn:
    """What happens to nodes in a cluster, at random."""

    def __init__(self, kube, seed):
        self.kube, self.random = kube, random.Random(seed)
        self.free = [f"10.5.{n}.0/24" for n in range(50, 70)]
        self.nodes = {}  # name: its podCIDR
        self.count = 0

    def annotations(self):
        self.count += 1
        return peer_annotations(f"192.168.64.{self.count % 100 + 100}",
                                f"02:00:00:00:{self.count // 256:02x}:{self.count % 256:02x}")

    def go(self, steps):
        for _ in range(steps):
            step = self.random.choice([self.add, self.add, self.delete, self.annotate,
                                       self.wipe, self.reregister, self.rename, self.cordon])
            if self.nodes or step == self.add:
                step()

    def add(self, name=None):
        if not self.free:
            return
        self.count += 1
        name = name or f"c{self.count}"
        self.nodes[name] = self.free.pop(self.random.randrange(len(self.free)))
        self.kube.add_node(name, self.nodes[name], annotations=self.annotations(), small=True)

    def some(self):
        return self.random.choice(sorted(self.nodes))

    def delete(self):
        name = self.some()
        self.kube.delete_node(name)
        self.free.append(self.nodes.pop(name))

    def annotate(self):
        self.kube.annotate(self.some(), self.annotations())

    def wipe(self):
        self.kube.annotate(self.some(), dict.fromkeys(self.annotations()))

    def reregister(self):
        """With another podCIDR."""
        name = self.some()
        self.free.append(self.nodes.pop(name))
        self.kube.delete_node(name)
        self.add(name)

    def rename(self):
        """Another node has its podCIDR at once."""
        self.count += 1
        name, other = self.some(), f"c{self.count}"
        self.kube.delete_node(name)
        self.nodes[other] = self.nodes.pop(name)
        self.kube.add_node(other, self.nodes[other], annotations=self.annotations(), small=True)

    def cordon(self):
        self.kube.cordon(self.some(), self.random.random() < 0.5)


def test_the_server_is_killed_and_replaced_under_churn(make_topo):
    """flanneld as well, in the middle of it; at the end the kernels are what the nodes say."""
    scene = Scene(make_topo, *SCENES["vxlan"])
    topo, kube = scene.topo, scene.kube
    # After a gap a podCIDR's new node may be listed long before the end of its old one.
    topo.allow_log("W", "Kubernetes|[Dd]atastore|[Vv]anished|state of|Two leases")
    for i in (1, 2, 3):
        scene.add(f"h{i}", i)
    # So many that are quiet that the list after a gap lacks a few of all.
    kube.add_nodes([{"name": f"q{n}", "pod_cidrs": [f"10.5.{n}.0/24"], "small": True,
                     "annotations": peer_annotations(f"192.168.64.{n}", f"02:00:00:00:ff:{n:02x}")}
                    for n in range(210, 240)])
    topo.start(scene.config)
    churn = Churn(kube, 7)
    with traffic.Stream.all_to_all(topo.pods()) as stream:
        for restarts in ({}, {"h2": "kill"}, {"h2": "stop", "h3": "kill"}):
            scene.restarts = restarts
            churn.go(15)
            kube.kill()
            scene.restart()
            kube.start()
            churn.go(15)
        scene.exact("h1", "h2", "h3", timeout=40)
    assert stream.report.lost == 0, stream.report
