# SPDX-License-Identifier: Apache-2.0
"""deploy/kube-flannel.yml on two nodes, read and not repeated: lib/kubelet.py starts its pod
from the image that we ship, the API server gives its service account the rights of its
ClusterRole and no others, and pods are attached by the plugin and the config that its init
container has installed.

     a       b            attached by /opt/cni/bin/flannel
    cni0    cni0
     h1      h2     k1    10.244.1.0/24, 10.244.2.0/24; the API server
     |eth0   |eth0  |
    -+-------+------+- sw1      192.168.64.0/24
"""

import copy
import json
import os
import re
import subprocess

import pytest

from lib import cni, traffic
from lib.expect import wait_equal, wait_until
from lib.kube_rbac import FLANNEL

pytest.importorskip("yaml", reason="no python3-yaml on this machine")

from lib import image  # noqa: E402
from lib.kubelet import Kubelet  # noqa: E402

pytestmark = pytest.mark.needs("podman", "vxlan", "delegates", "nat", "iptables-nft", "etcd")

PREFIX = "flannel.alpha.coreos.com"
# The other capabilities are 1 << number.
CAPABILITIES = {"NET_ADMIN": 12, "NET_RAW": 13}


@pytest.fixture(name="archive", scope="module")
def _archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "weft.tar"
    image.build(path)
    return str(path)


class Cluster:
    """Two nodes on which nothing of flannel runs yet."""

    def __init__(self, topo, archive):
        self.topo, self.kube, self.objects = topo, topo.kube(), image.manifest()
        self.grant(self.objects["ClusterRole"]["rules"])
        self.kubelets, self.networks, self.running = [], [], []
        for i, host in enumerate(topo, 1):
            # /proc/sys is read-only in a container: hosts of Kubernetes forward already.
            host.ns.sysctl("net/ipv4/ip_forward", 1)
            self.kube.add_node(host.name, f"10.244.{i}.0/24", address=host.address)
            machine = cni.Machine.of(host)
            # What the init container has not put there does not exist.
            for name in os.listdir(machine.bin):
                if name != "portmap":
                    os.unlink(os.path.join(machine.bin, name))
            self.kubelets.append(Kubelet(machine, self.kube, archive))

    def grant(self, rules):
        """To the account of the manifest, which is the one whose token the pods have."""
        subject, = self.objects["ClusterRoleBinding"]["subjects"]
        assert subject["kind"] == "ServiceAccount" and subject["name"] \
            == self.objects["DaemonSet"]["spec"]["template"]["spec"]["serviceAccountName"]
        assert f"system:serviceaccount:{subject['namespace']}:{subject['name']}" == FLANNEL
        self.kube.set_rules(rules)

    def start(self, *kubelets, wait=True):
        pods = [k.start(self.objects) for k in kubelets or self.kubelets]
        self.running += pods
        try:
            for pod in pods if wait else []:
                wait_until(pod.is_ready, 20, f"{pod.name} is ready")
        except AssertionError as e:
            raise AssertionError(f"{e}\n{self.story()}") from None
        return pods

    def stop(self, pod):
        self.running.remove(pod)
        code, log = pod.stop()
        assert code == 0, log
        return log

    def story(self):
        return "\n".join(f"{pod.name}:\n{pod.log_text()}" for pod in self.running)

    def attach(self):
        """A pod on each node, by what is in its /etc/cni/net.d and /opt/cni/bin."""
        pods = []
        for kubelet in self.kubelets:
            directory = kubelet.path("/etc/cni/net.d")
            name, = os.listdir(directory)
            assert name == "10-flannel.conflist"
            with open(os.path.join(directory, name), encoding="utf-8") as f:
                network = cni.Network(kubelet.machine, json.load(f))
            pods.append(kubelet.machine.pod("ab"[len(pods)]))
            network.add(pods[-1])
            self.networks.append((network, pods[-1]))
        return pods

    def wait_meshed(self):
        for host, other in zip(self.topo, reversed(list(self.topo))):
            wait_until(lambda h=host, o=other: str(o.subnet()) in h.pod_routes(), 10,
                       f"{host.name}'s route to {other.name}")

    def close(self):
        """What a sanitizer reports is an exit code, too."""
        ends = [pod.stop() for pod in self.running]
        for kubelet in self.kubelets:
            kubelet.close()
            kubelet.machine.close()
        assert not [log for code, log in ends if code != 0], ends


@pytest.fixture
def cluster(make_topo, archive):
    made = Cluster(make_topo(2), archive)
    yield made
    made.close()


def complaints(log):
    """portmap puts its jump before ours, and flanneld says that it saw that."""
    return [line for line in log.splitlines() if re.match(r"[WE]\d{4} ", line)
            and "Restored our rules in iptables" not in line]


def test_pods_of_two_nodes(cluster):
    pods = cluster.start()
    cluster.wait_meshed()
    ends = cluster.attach()
    assert [p.addresses[0].rpartition(".")[0] for p in ends] == ["10.244.1", "10.244.2"]
    traffic.assert_all_to_all(ends)
    for one, other in (ends, reversed(ends)):
        assert traffic.ping(one, other.addresses[0]) is not None
    for pod, kubelet in zip(pods, cluster.kubelets):
        assert pod.probe("livenessProbe")[0] == pod.probe("readinessProbe")[0] == 200
        condition = wait_until(lambda k=kubelet: cluster.kube.condition(k.host.name))
        assert (condition["status"], condition["reason"]) == ("False", "FlannelIsUp")
        # What has to outlive the container is on the host, and read by others there.
        assert {"subnet.env", "status"} <= set(os.listdir(kubelet.path("/run/flannel")))
        wait_until(lambda k=kubelet: os.listdir(k.path("/var/lib/flannel")), 10)
        rules = kubelet.host.run("iptables-nft-save", "-t", "nat").stdout
        assert "-A FLANNEL-POSTRTG" in rules
    # One that is being answered has none yet.
    wait_equal(lambda: {r.status for r in cluster.kube.requests()}, {200}, 5, "no request refused")
    for network, end in cluster.networks:
        network.delete(end)
    for pod in pods:
        log = cluster.stop(pod)
        assert not complaints(log), log
        assert "Exiting cleanly" in log


def test_rights_are_those_of_the_manifest(cluster):
    pod, = cluster.start(cluster.kubelets[0])
    status = pod.status()
    wanted = pod.container["securityContext"]["capabilities"]["add"]
    for kind in ("CapEff", "CapPrm", "CapBnd"):
        assert int(status[kind], 16) == sum(1 << CAPABILITIES[c] for c in wanted), kind
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"


@pytest.mark.parametrize("owner", [0, 1001])
def test_install(cluster, owner):
    """Also into directories of another user, as Kubespray has them."""
    kubelet = cluster.kubelets[0]
    conf = kubelet.path("/etc/cni/net.d")
    os.makedirs(conf)
    for place in (conf, kubelet.machine.bin):
        os.chown(place, owner, owner)
    cluster.start(kubelet)
    done = subprocess.run([f"{kubelet.machine.bin}/flannel", "--version"], capture_output=True,
                          text=True, check=True, timeout=20)
    assert done.stdout.startswith(f"CNI plugin flannel, weft {image.VERSION}")
    with open(f"{conf}/10-flannel.conflist", encoding="utf-8") as f:
        assert f.read() == cluster.objects["ConfigMap"]["data"]["cni-conf.json"]


def test_alive_and_not_ready(cluster):
    """A cluster without pod CIDRs is no reason to restart the pod again and again."""
    kubelet = cluster.kubelets[0]
    cluster.kube.reregister("h1", address=kubelet.host.address)
    pod, = cluster.start(kubelet, wait=False)
    wait_until(lambda: "podCIDR" in pod.probe("readinessProbe")[1], 10)
    assert pod.probe("readinessProbe")[0] == 503 and pod.probe("livenessProbe")[0] == 200
    cluster.kube.set_pod_cidrs("h1", "10.244.1.0/24")
    wait_until(pod.is_ready, 10)


def test_the_host_does_not_forward(cluster):
    """/proc/sys is read-only in a container."""
    kubelet = cluster.kubelets[0]
    kubelet.host.ns.sysctl("net/ipv4/ip_forward", 0)
    pod, = cluster.start(kubelet, wait=False)
    wait_until(lambda: "sysctl -w net.ipv4.ip_forward=1" in pod.probe("readinessProbe")[1], 10)
    assert pod.probe("readinessProbe")[0] == 503
    kubelet.host.ns.sysctl("net/ipv4/ip_forward", 1)
    wait_until(pod.is_ready, 10)


def test_the_configmap_is_applied_again(cluster):
    kubelet = cluster.kubelets[0]
    pod, = cluster.start(kubelet)
    changed = copy.deepcopy(cluster.objects["ConfigMap"])
    conf = json.loads(changed["data"]["net-conf.json"])
    conf["Backend"]["VNI"] = 7
    changed["data"]["net-conf.json"] = json.dumps(conf)
    kubelet.update_configmap(changed)
    wait_until(lambda: "flannel.7" in kubelet.host.overlay()["devices"], 10)
    wait_until(pod.is_ready, 10)


# -- flannel's place is taken, and given back ------------------------------------------

MACS = {"h1": "02:00:00:00:01:01", "h2": "02:00:00:00:01:02"}
MASQ = """*nat
:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s {own} -d 10.244.0.0/16 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.244.0.0/16 -d {own} -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG ! -s 10.244.0.0/16 -d {own} -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s 10.244.0.0/16 ! -d 224.0.0.0/4 -m comment --comment "flanneld masq" \
-j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s 10.244.0.0/16 -d 10.244.0.0/16 -m comment --comment "flanneld masq" \
-j MASQUERADE --random-fully
COMMIT
*filter
:FLANNEL-FWD - [0:0]
-A FORWARD -m comment --comment "flanneld forward" -j FLANNEL-FWD
-A FLANNEL-FWD -s 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
-A FLANNEL-FWD -d 10.244.0.0/16 -m comment --comment "flanneld forward" -j ACCEPT
COMMIT
"""


def originals_node(cluster, host, other):
    """What flannel v0.28 has made of a node: Node object, device, routes, rules, files."""
    own, its = (f"10.244.{x.index}.0" for x in (host, other))
    cluster.kube.annotate(host.name, {
        f"{PREFIX}/kube-subnet-manager": "true", f"{PREFIX}/backend-type": "vxlan",
        f"{PREFIX}/backend-data": json.dumps({"VNI": 1, "VtepMAC": MACS[host.name]},
                                             separators=(",", ":")),
        f"{PREFIX}/public-ip": host.address})
    cluster.kube.set_condition(host.name, {
        "type": "NetworkUnavailable", "status": "False", "reason": "FlannelIsUp",
        "message": "Flannel is running on this node"})
    host.ip(f"link add name flannel.1 address {MACS[host.name]} mtu 1450 type vxlan id 1 "
            f"local {host.address} dev eth0 dstport 8472 nolearning",
            f"addr add {own}/32 dev flannel.1", "link set flannel.1 up",
            f"neigh replace {its} lladdr {MACS[other.name]} dev flannel.1 nud permanent",
            f"route replace {its}/24 via {its} dev flannel.1 onlink proto boot")
    host.ip(f"fdb replace {MACS[other.name]} dst {other.address} dev flannel.1 self permanent",
            tool="bridge")
    host.run("iptables-nft-restore", input=MASQ.format(own=f"{own}/24"))
    with open(host.subnet_file, "w", encoding="ascii") as f:
        f.write(f"FLANNEL_NETWORK=10.244.0.0/16\nFLANNEL_SUBNET=10.244.{host.index}.1/24\n"
                "FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n")


def rules_of(host):
    """Of the iptables that both use, without counters and the order of chains."""
    text = host.run("iptables-nft-save").stdout
    return [line for line in text.splitlines() if line.startswith("-A")]


def nodes_of(cluster):
    """What other nodes read."""
    return {h.name: (cluster.kube.annotations(h.name), cluster.kube.condition(h.name)["status"])
            for h in cluster.topo}


def tables_of(host):
    """Of nftables, but for iptables' own."""
    found = {e["table"]["name"] for e in host.nft_json() if "table" in e}
    return found - {"nat", "filter", "mangle", "raw"}


def test_and_given_back(cluster):
    """As docs/kubernetes.md has it: what stays is what flannel would have made, and no peer
    filter, which nobody would tell of nodes that join later."""
    h1, h2 = cluster.topo
    originals_node(cluster, h1, h2)
    originals_node(cluster, h2, h1)
    nodes, overlays = nodes_of(cluster), cluster.topo.overlays()
    ends = [host.pod() for host in cluster.topo]
    pods = cluster.start()
    wait_until(lambda: all(tables_of(h) == {"weft-flannel.1"} for h in cluster.topo), 10)
    args = cluster.objects["DaemonSet"]["spec"]["template"]["spec"]["containers"][0]["args"]
    args.append("--peer-filter=false")
    with traffic.Stream([ends]) as stream:
        for old, kubelet in zip(pods, cluster.kubelets):
            cluster.stop(old)
            new, = cluster.start(kubelet)
            cluster.stop(new)
        stream.wait_flowing()
    assert stream.report.lost == 0, stream.report
    assert nodes_of(cluster) == nodes
    for host in cluster.topo:
        assert not tables_of(host)
        after = host.overlay()
        assert after["devices"] == overlays[host.name]["devices"]
        assert set(after["routes"]) == set(overlays[host.name]["routes"])


def test_flannels_place_is_taken(cluster):
    """Pods that were attached before talk on without one packet lost; what other nodes have
    read of these stays as it is."""
    h1, h2 = cluster.topo
    originals_node(cluster, h1, h2)
    originals_node(cluster, h2, h1)
    nodes, overlays = nodes_of(cluster), cluster.topo.overlays()
    rules = {h.name: rules_of(h) for h in cluster.topo}
    indices = [h.ifindex("flannel.1") for h in cluster.topo]
    ends = [host.pod() for host in cluster.topo]
    with traffic.Stream([ends]) as stream:
        for kubelet in cluster.kubelets:
            cluster.start(kubelet)
        stream.wait_flowing()
    assert stream.report.lost == 0, stream.report
    assert nodes_of(cluster) == nodes
    assert [h.ifindex("flannel.1") for h in cluster.topo] == indices
    for host in cluster.topo:
        before, after = overlays[host.name], host.overlay()
        assert after["devices"] == before["devices"]
        assert set(after["routes"]) == set(before["routes"])
        # One more than flannel has: docs/rules.md.
        wait_equal(lambda h=host: [r for r in rules_of(h) if "--limit-iface-out" not in r],
                   rules[host.name])
    traffic.assert_all_to_all(ends)
