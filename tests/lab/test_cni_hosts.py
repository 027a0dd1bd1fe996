# SPDX-License-Identifier: Apache-2.0
"""Pods as Kubernetes makes them, on two hosts with flanneld: the config of the manifest,
subnet files that flanneld wrote.

     a  b     c
     |  |     |           pods on cni0, 10.5.x.0/24 of 10.5.0.0/16
    cni0     cni0
     h1       h2      x   x is outside: no route into the network
     |eth0    |eth0   |
    -+--------+-------+- sw1     192.168.64.0/24
"""

import json
import os

import pytest

from lib import cni, traffic
from lib.expect import wait_until

pytestmark = pytest.mark.needs("delegates", "vxlan", "nat")

VXLAN = {"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}
DUAL = {**VXLAN, "EnableIPv6": True, "IPv6Network": "fd00:5::/48"}
# net-conf of the Kubernetes manifest.
MANIFEST = {
    "name": "cbr0", "cniVersion": "0.3.1",
    "plugins": [
        {"type": "flannel", "delegate": {"hairpinMode": True, "isDefaultGateway": True}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}
PORT, INNER_PORT = 8080, 80


class Outside:
    def __init__(self, topo):
        self.name = "x"
        self.ns, self.addresses = topo.server("x", 50)


class Site:
    living = []  # the module's may still talk when a test has one of its own

    def __init__(self, topo, config, builtin, **plugin):
        self.topo = topo
        Site.living.append(self)
        self.x = Outside(topo)
        self.machines = [cni.Machine.of(host) for host in topo]
        topo.start(config, "--ip-masq")
        flannel, portmap = MANIFEST["plugins"]
        conf = {**MANIFEST, "plugins": [
            {**flannel, **plugin, **({} if builtin else {"builtin": False})}, portmap]}
        paths = [m.without("bridge", "host-local") if builtin else None for m in self.machines]
        self.networks = [cni.Network(m, conf, p) for m, p in zip(self.machines, paths)]

    def allow_moves(self):
        """portmap puts its jump first, and flanneld says that it saw that."""
        self.topo.allow_log("W", "Restored our rules in iptables")

    def start_pods(self):
        ports = [{"hostPort": PORT, "containerPort": INNER_PORT, "protocol": "tcp"}]
        self.a, self.b = (self.machines[0].pod(name) for name in "ab")
        self.c = self.machines[1].pod("c")
        self.networks[0].add(self.a, portMappings=ports)
        self.networks[0].add(self.b)
        self.networks[1].add(self.c)
        self.pods = [self.a, self.b, self.c]
        return self

    def close(self):
        Site.living.remove(self)
        for machine in self.machines:
            machine.close()
        self.topo.close()


@pytest.fixture(scope="module", params=[True, False], ids=["builtin", "exec"])
def site(topo_of, request):
    site = Site(topo_of(2), VXLAN, request.param)
    try:
        yield site.start_pods()
    finally:
        site.close()


@pytest.fixture(autouse=True)
def portmap_moves_our_rules(request):
    if "site" in request.fixturenames:
        request.getfixturevalue("site")
    for site in Site.living:
        site.allow_moves()


def test_pods_are_as_the_subnet_file_says(site):
    for pod in site.pods:
        env = pod.machine.host.read_subnet_env()
        gateway, length = env["FLANNEL_SUBNET"].split("/")
        (link,) = pod.ns.ip_json("addr", "show", "dev", "eth0")
        assert link["mtu"] == int(env["FLANNEL_MTU"])
        address = next(a for a in link["addr_info"] if a["family"] == "inet")
        assert [address["local"]] == pod.addresses and str(address["prefixlen"]) == length
        routes = {r["dst"]: r.get("gateway") for r in pod.ns.ip_json("route", "show")}
        assert routes["default"] == routes["10.5.0.0/16"] == gateway


def test_pods_talk_by_their_own_address(site):
    traffic.assert_all_to_all(site.pods)
    for other in (site.b, site.c):
        assert traffic.ping(site.a, other.addresses[0]) is not None
        copy = traffic.tcp_copy(site.a, other, 1 << 20)
        assert copy.intact
        assert copy.seen_from == site.a.addresses[0]


def test_hosts_reach_pods(site):
    for host in site.topo:
        for pod in site.pods:
            assert traffic.ping(host, pod.addresses[0]) is not None, (host.name, pod.name)


def test_outside_sees_the_host(site):
    for pod in site.pods:
        address = site.x.addresses[0]
        assert traffic.seen_source(pod, site.x, pod.addresses[0], address) \
            == pod.machine.host.address


def test_published_port(site):
    """From outside, the other host, a pod there and one here: DNAT. Who it was is seen, but
    for pods: portmap masquerades those of its own bridge, flanneld those that leave."""
    h1, h2 = site.topo
    for client, known_as in ((site.x, site.x.addresses[0]), (h2, h2.address),
                             (site.b, None), (site.c, None)):
        seen = traffic.asked(client, site.a, h1.address, PORT, INNER_PORT)
        assert known_as in (None, seen), client.name


def test_published_port_from_the_pod_itself(site):
    """Hairpin: what leaves by a port of the bridge comes back by it."""
    h1, _ = site.topo
    seen = traffic.asked(site.a, site.a, h1.address, PORT, INNER_PORT)
    assert seen == h1.read_subnet_env()["FLANNEL_SUBNET"].split("/")[0]


def test_delete_closes_the_port(site):
    network = site.networks[1]
    pod = site.machines[1].pod("d")
    network.add(pod, portMappings=[{"hostPort": 8081, "containerPort": 80, "protocol": "tcp"}])
    _, h2 = site.topo
    assert traffic.asked(site.x, pod, h2.address, 8081, 80)
    network.delete(pod)
    assert "8081" not in h2.run("iptables-save").stdout
    assert pod.id not in str(site.machines[1].files())


def test_add_and_delete_while_flanneld_is_down(site):
    """The subnet file is what counts; and flanneld adopts what it finds."""
    machine, network = site.machines[0], site.networks[0]
    host = machine.host
    pods = [machine.pod(f"down{i}") for i in range(2)]
    network.add(pods[0])
    host.kill_flanneld()
    network.add(pods[1])
    network.delete(pods[0])
    traffic.assert_all_to_all([pods[1], site.c])
    host.start_flanneld("--ip-masq")
    traffic.assert_all_to_all([pods[1], site.c])
    network.delete(pods[1])


@pytest.mark.parametrize("builtin", [True, False], ids=["builtin", "exec"])
def test_dual_stack(make_topo, builtin):
    site = Site(make_topo(2, ipv6=True), DUAL, builtin)
    site.allow_moves()
    site.start_pods()
    assert all(len(pod.addresses) == 2 for pod in site.pods)
    for pod in site.pods:  # the bridges' addresses are in detection of duplicates at first
        gateway = pod.machine.subnet_env()["FLANNEL_IPV6_SUBNET"].split("/")[0]
        wait_until(lambda p=pod, g=gateway: traffic.ping(p, g, 0.2) is not None,
                   what=f"{pod.name}: its IPv6 gateway")
    traffic.assert_all_to_all(site.pods)
    site.topo.stop()  # and the last move is told
    Site.living.remove(site)
    for machine in site.machines:
        machine.close()


@pytest.mark.parametrize("builtin", [True, False], ids=["builtin", "exec"])
def test_masquerade_by_the_bridge(make_topo, builtin):
    """flanneld without --ip-masq leaves it to the delegate."""
    topo = make_topo(2)
    machines = [cni.Machine.of(host) for host in topo]
    x = Outside(topo)
    topo.start(VXLAN)
    pods = []
    for machine in machines:
        network = cni.Network(machine, {**MANIFEST, "plugins": [
            {**MANIFEST["plugins"][0], "builtin": builtin}]})
        assert machine.subnet_env()["FLANNEL_IPMASQ"] == "false"
        pods.append(machine.pod("a"))
        network.add(pods[-1])
    assert traffic.seen_source(pods[0], x, pods[0].addresses[0], x.addresses[0]) \
        == topo["h1"].address
    for machine in machines:
        machine.close()


# -- before flanneld has a subnet ------------------------------------------------------


def test_no_subnet_yet(make_topo):
    """What a runtime shows while the node is not ready says why."""
    topo = make_topo(1)
    host = topo["h1"]
    machine = cni.Machine.of(host)
    network = cni.Network(machine, {**MANIFEST, "cniVersion": "1.1.0",
                                    "plugins": MANIFEST["plugins"][:1]})
    pod = machine.pod("a")
    with pytest.raises(cni.CniError, match="is flanneld running on this node"):
        network.add(pod)
    host.allow_log("WE", ".*")
    host.start_flanneld(wait=False)  # there is no network config
    status = os.path.join(os.path.dirname(host.subnet_file), "status")

    def word():
        with open(status, encoding="utf-8") as f:
            return f.read().strip()

    # Its first word is that it waits; what for, it says when it has looked.
    wait_until(lambda: os.path.exists(status) and "does not exist" in word(),
               what="flanneld's word on why")
    for call in (lambda: network.add(pod), network.status):
        with pytest.raises(cni.CniError) as e:
            call()
        assert word() in e.value.msg, (word(), e.value.msg)
    topo.store.write_config(VXLAN)
    wait_until(lambda: os.path.exists(host.subnet_file), what="the subnet file")
    network.status()
    network.add(pod)
    network.delete(pod)
    machine.close()


# -- a node that changes ---------------------------------------------------------------


def test_subnet_changes_under_pods(make_topo):
    """Another network: pods of the old one can be removed, new ones made once the old bridge
    is gone, and the error until then names the bridge and both addresses."""
    topo = make_topo(1)
    host = topo["h1"]
    machine = cni.Machine.of(host)
    topo.start(VXLAN)
    network = cni.Network(machine, {**MANIFEST, "plugins": MANIFEST["plugins"][:1]})
    old, new = machine.pod("old"), machine.pod("new")
    network.add(old)
    before = host.read_subnet_env()
    host.stop_flanneld()
    host.allow_log("W", ".*")
    topo.store.write_config({**VXLAN, "Network": "10.77.0.0/16"})
    host.start_flanneld()
    after = host.read_subnet_env()
    assert before["FLANNEL_SUBNET"] != after["FLANNEL_SUBNET"]
    with pytest.raises(cni.CniError) as e:
        network.add(new)
    assert "cni0" in e.value.msg and after["FLANNEL_SUBNET"] in e.value.msg
    network.delete(old)
    host.ip("link del cni0")
    network.add(new)
    assert new.addresses[0].startswith("10.77.")
    network.delete(new)
    machine.close()
    assert json.dumps(machine.reserved()) == "{}"
