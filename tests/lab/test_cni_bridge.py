# SPDX-License-Identifier: Apache-2.0
"""test_cni_bridge.py - the fast path makes what the plugins bridge and host-local make

    host netns: cni0 -- veth1234abcd ==== eth0 in the pod's netns

The same network config is added once with the real plugins ("builtin": false) and once
without; then everything that ip(8) and /proc/sys tell of both is compared, but for names,
MACs and timers, which are no two times the same.
"""

import json
import os
import re
import shutil
import socket
import subprocess

import pytest

from lib import node
from lib.expect import diff, wait_until

PLUGINS = "/usr/lib/cni"
FLANNEL = os.environ.get("FLANNEL_CNI") or os.path.join(os.path.dirname(node.FLANNELD), "flannel")

V4 = {"FLANNEL_NETWORK": "10.5.0.0/16", "FLANNEL_SUBNET": "10.5.7.1/24"}
V6 = {"FLANNEL_IPV6_NETWORK": "fc00:5::/48", "FLANNEL_IPV6_SUBNET": "fc00:5:7::1/64"}
DUAL = {**V4, **V6}

pytestmark = pytest.mark.skipif(
    not all(os.access(f"{PLUGINS}/{name}", os.X_OK) for name in ("bridge", "host-local")),
    reason="no plugins bridge and host-local (Debian: containernetworking-plugins)")


class Node:
    """A network namespace with a subnet file, and pods."""

    def __init__(self, lab, name, networks, builtin, delegate):
        self.lab, self.ns = lab, lab.namespace(name)
        self.dir = f"{lab.dir}/{name}"
        self.pods = []
        os.makedirs(self.dir)
        self.conf = {
            "cniVersion": "1.0.0", "name": "cbr0", "type": "flannel", "builtin": builtin,
            "subnetFile": f"{self.dir}/subnet.env", "dataDir": f"{self.dir}/data",
            "ipam": {"dataDir": f"{self.dir}/networks"}, "delegate": delegate,
        }
        with open(self.conf["subnetFile"], "w", encoding="ascii") as f:
            for key, value in {**networks, "FLANNEL_MTU": 1450, "FLANNEL_IPMASQ": "true"}.items():
                f.write(f"{key}={value}\n")

    def pod(self):
        ns = self.lab.namespace(f"{self.ns.short}-p{len(self.pods)}")
        # As a runtime's: nothing is set up yet.
        ns.ip("link set lo down")
        self.pods.append(ns)
        return ns

    def call(self, command, ns, prefix=(), container="c1", conf=None, netns=None):
        """(exit code, what was answered or None)."""
        env = {**os.environ, "CNI_COMMAND": command, "CNI_CONTAINERID": container,
               "CNI_NETNS": netns or ns.path, "CNI_IFNAME": "eth0", "CNI_PATH": PLUGINS}
        if prefix:  # the leak sanitizer cannot work in a traced process
            env["ASAN_OPTIONS"] = env.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
        done = subprocess.run(
            self.ns.argv(*prefix, FLANNEL), input=json.dumps({**self.conf, **(conf or {})}),
            env=env, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode in (0, 1, -9, 137), done
        return done.returncode, json.loads(done.stdout) if done.stdout else None

    def add(self, ns, **kwargs):
        code, answer = self.call("ADD", ns, **kwargs)
        assert code == 0, answer
        return answer

    def fails(self, command, ns, **kwargs):
        code, answer = self.call(command, ns, **kwargs)
        assert code == 1, answer
        return answer["msg"]

    def delete(self, ns, **kwargs):
        assert self.call("DEL", ns, **kwargs) == (0, None)

    def addresses_taken(self):
        directory = f"{self.dir}/networks/cbr0"
        names = os.listdir(directory) if os.path.isdir(directory) else []
        return sorted(n for n in names if n != "lock" and not n.startswith("last_reserved"))

    def veths(self):
        return [link["ifname"] for link in self.ns.ip_json("link", "show", "type", "veth")]

    def is_clean(self):
        assert self.addresses_taken() == []
        wait_until(lambda: not self.veths(), what="no veth: this end goes after the pod's")
        assert os.listdir(f"{self.dir}/data") == []
        return True

    def close(self):
        for ns in self.pods + [self.ns]:
            ns.delete()
        shutil.rmtree(self.dir)


@pytest.fixture
def make_node(lab):
    made = []

    def make(networks, builtin=True, **delegate):
        made.append(Node(lab, f"cni{len(made)}", networks, builtin, delegate))
        return made[-1]

    yield make
    for one in made:
        one.close()


# -- what there is, without what is no two times the same ------------------------------

MAC = re.compile(r"\b[0-9a-f]{1,2}(:[0-9a-f]{1,2}){5}\b")
KEPT_MACS = ("00:00:00:00:00:00", "0:0:0:0:0:0", "ff:ff:ff:ff:ff:ff", "01:80:c2:00:00:00")
VETH = re.compile(r"\bveth[0-9a-f]{8}\b")
LINK_LOCAL = re.compile(r"\bfe80::[0-9a-f:]+(?!/)")


def anonymous(value):
    if isinstance(value, dict):
        return {anonymous(k): anonymous(v) for k, v in value.items() if not k.endswith("_timer")}
    if isinstance(value, list):
        return [anonymous(v) for v in value]
    if isinstance(value, str):
        value = LINK_LOCAL.sub("LL", VETH.sub("VETH", value))
        return MAC.sub(lambda m: m[0] if m[0] in KEPT_MACS else "MAC", value)
    return value


def settings(ns, devices):
    """All of /proc/sys/net/ipv*/conf of some devices, and what forwards."""
    found = {}
    with ns.entered():
        for family in ("ipv4", "ipv6"):
            for device in ["all", "default", *devices]:
                directory = f"/proc/sys/net/{family}/conf/{device}"
                for name in sorted(os.listdir(directory)):
                    try:
                        with open(f"{directory}/{name}", encoding="ascii") as f:
                            found[f"{family}/{anonymous(device)}/{name}"] = f.read().strip()
                    except OSError as e:
                        found[f"{family}/{anonymous(device)}/{name}"] = e.strerror
        with open("/proc/sys/net/ipv4/ip_forward", encoding="ascii") as f:
            found["ip_forward"] = f.read().strip()
    return found


def is_settled(ns):
    """Nothing is on its way any more: DAD, link-local addresses, link states."""
    links = ns.ip_json("-d", "addr")
    with_ports = {link.get("master") for link in links if link["operstate"] == "UP"}
    for link in links:
        if link["ifname"] == "lo":
            continue
        assert link["operstate"] in ("UP", "DOWN"), link
        if link.get("linkinfo", {}).get("info_kind") == "bridge":
            assert (link["operstate"] == "UP") == (link["ifname"] in with_ports), link
        for address in link["addr_info"]:
            assert not address.get("tentative"), address
    return True


def snapshot(ns):
    wait_until(lambda: is_settled(ns), timeout=20, what=f"{ns.short} at rest")
    links = ns.ip_json("-d", "link")
    for link in links:
        link.get("linkinfo", {}).get("info_data", {}).pop("gc_timer", None)
    return {
        "link": anonymous(links),
        "addr": anonymous(ns.ip_json("-d", "addr")),
        "route": ordered(anonymous(ns.ip_json("-d", "-4", "route", "show", "table", "all"))),
        "route6": ordered(anonymous(ns.ip_json("-d", "-6", "route", "show", "table", "all"))),
        "sysctl": settings(ns, [link["ifname"] for link in links]),
    }


def ordered(routes):
    """Link-local addresses of random MACs sort them differently each time."""
    return sorted(routes, key=lambda route: json.dumps(route, sort_keys=True))


def numbered(value):
    """Lists as dictionaries: what differs in one element is told as that."""
    if isinstance(value, list):
        return {i: numbered(v) for i, v in enumerate(value)}
    if isinstance(value, dict):
        return {k: numbered(v) for k, v in value.items()}
    return value


def assert_same(got, want, what):
    if got != want:
        lines = diff(numbered(got), numbered(want))
        pytest.fail(f"{what}, builtin and plugin:\n" + "\n".join(lines), pytrace=False)


def prepare_mtu(one):
    one.ns.ip("link add cni0 type bridge", "link set cni0 mtu 1300 address 02:00:00:00:00:01")
    one.ns.run("sysctl", "-qw", "net.ipv6.conf.cni0.accept_ra=2")


def prepare_address(one):
    one.ns.ip("link add cni0 type bridge", "link set cni0 up",
              "addr add 10.5.9.1/24 dev cni0", "addr add fc00:5:7::9/64 dev cni0 nodad",
              "addr add fc00:99::1/64 dev cni0 nodad")


def prepare_no_ipv6_in_pods(one):
    for pod in one.pods:
        pod.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1",
                "net.ipv6.conf.default.disable_ipv6=1")


def prepare_dad_in_pods(one):
    for pod in one.pods:
        pod.run("sysctl", "-qw", "net.ipv6.conf.all.accept_dad=1")


@pytest.mark.needs("ipv6")
@pytest.mark.parametrize("networks, delegate, prepare", [
    (V4, {}, None),
    (V6, {}, None),
    (DUAL, {"hairpinMode": True, "isDefaultGateway": True}, None),
    (DUAL, {"mtu": 0}, None),
    (V4, {"promiscMode": True, "bridge": "br-pods"}, None),
    (DUAL, {"isGateway": False}, None),
    (DUAL, {}, prepare_mtu),
    (DUAL, {"forceAddress": True}, prepare_address),
    (DUAL, {}, prepare_no_ipv6_in_pods),
    (V6, {}, prepare_dad_in_pods),
], ids=["ipv4", "ipv6", "dual", "mtu0", "promisc", "no-gateway", "existing", "force",
        "no-ipv6", "dad"])
def test_same_as_the_plugins(make_node, networks, delegate, prepare):
    seen = []
    for builtin in (True, False):
        one = make_node(networks, builtin, **{"ipMasq": False, **delegate})
        pods = [one.pod(), one.pod()]
        if prepare:
            prepare(one)
        answers = [one.add(pod, container=f"c{i}") for i, pod in enumerate(pods)]
        for answer, pod in zip(answers, pods):
            assert answer["interfaces"][2].pop("sandbox") == pod.path
            names = [interface["name"] for interface in answer["interfaces"]]
            bridge, host_end = (one.ns.ip_json("link", "show", n)[0] for n in names[:2])
            pod_end = pod.ip_json("link", "show", "eth0")[0]
            macs = [interface["mac"] for interface in answer["interfaces"]]
            assert macs[1:] == [host_end["address"], pod_end["address"]]
            # Without an address, the bridge's changes as pods come and go.
            if answer is answers[-1] or delegate.get("isGateway", True):
                assert macs[0] == bridge["address"]
        seen.append({
            "answers": [anonymous({"dns": {}, **answer}) for answer in answers],
            "addresses": one.addresses_taken(),
            "host": snapshot(one.ns),
            "pods": [snapshot(pod) for pod in pods],
        })
        for i, pod in enumerate(pods):
            one.delete(pod, container=f"c{i}")
        one.is_clean()
        seen[-1]["what is left"] = snapshot(one.ns)
    for part in ("answers", "addresses", "host", "pods", "what is left"):
        assert_same(seen[0][part], seen[1][part], part)


@pytest.mark.needs("ipv6")
def test_usable_at_once(make_node):
    """The first packet of a pod arrives: the port forwards, the addresses are no longer
    tentative. A neighbour is asked for again after a second only."""
    one = make_node(DUAL, ipMasq=False)
    for n in range(10):
        pods = [one.pod(), one.pod()]
        answers = [one.add(pod, container=f"c{n}-{i}") for i, pod in enumerate(pods)]
        for family, (a, b) in zip((socket.AF_INET, socket.AF_INET6), zip(
                *([ip["address"].split("/")[0] for ip in answer["ips"]] for answer in answers))):
            with pods[0].socket(family, socket.SOCK_DGRAM) as rx, \
                    pods[1].socket(family, socket.SOCK_DGRAM) as tx:
                rx.bind((a, 0))
                tx.bind((b, 0))
                rx.settimeout(0.9)
                tx.sendto(b"first", rx.getsockname()[:2])
                assert rx.recv(16) == b"first"


# -- what cannot be --------------------------------------------------------------------

def other_device(one, _pod):
    one.ns.ip("link add cni0 type veth peer name other")


def other_address(one, _pod):
    one.ns.ip("link add cni0 type bridge", "addr add 10.5.9.1/24 dev cni0")


def interface_exists(_one, pod):
    pod.ip("link add eth0 type bridge")


@pytest.mark.parametrize("prepare, delegate, words", [
    (other_device, {}, "cni0"),
    (other_address, {}, "10.5.7.1/24"),
    (interface_exists, {}, "eth0"),
    (None, {"hairpinMode": True, "promiscMode": True}, ""),
    (None, {"mtu": 1}, "cni0"),
    (None, {"isDefaultGateway": True, "bridge": "cni0"}, "0.0.0.0/0"),
], ids=["device", "address", "interface", "hairpin-promisc", "mtu", "route-twice"])
def test_fails_where_the_plugins_fail(make_node, prepare, delegate, words):
    for builtin in (False, True):
        one = make_node(V4, builtin, **{"ipMasq": False, **delegate})
        pod = one.pod()
        if prepare:
            prepare(one, pod)
        if "isDefaultGateway" in delegate:
            one.conf["ipam"]["routes"] = [{"dst": "0.0.0.0/0"}]
        before = (one.veths(), [link["ifname"] for link in pod.ip_json("link")])
        message = one.fails("ADD", pod)
    # The fast path says what it was about, and leaves nothing.
    assert words in message
    assert (one.veths(), [link["ifname"] for link in pod.ip_json("link")]) == before
    assert one.addresses_taken() == []


def test_no_netns(make_node, tmp_path):
    one = make_node(V4, ipMasq=False)
    pod = one.pod()
    not_one = tmp_path / "file"
    not_one.write_text("")
    for path in ("/run/netns/weft-nowhere", str(not_one)):
        assert path in one.fails("ADD", pod, netns=path)
        assert one.addresses_taken() == []
        one.add(pod)
        one.delete(pod, netns=path)
        assert one.addresses_taken() == []
        pod.ip("link del eth0")
    one.delete(pod)
    one.is_clean()


# -- either cleans up after the other --------------------------------------------------

@pytest.mark.parametrize("made_by, removed_by", [(True, False), (False, True), (True, True)],
                         ids=["builtin-plugin", "plugin-builtin", "builtin"])
def test_delete(make_node, made_by, removed_by):
    one = make_node(DUAL, made_by, ipMasq=False)
    pod = one.pod()
    one.add(pod)
    assert len(one.addresses_taken()) == 2
    for _ in range(2):
        one.delete(pod, conf={"builtin": removed_by})
        one.is_clean()
    assert [link["ifname"] for link in pod.ip_json("link")] == ["lo"]


def test_check(make_node):
    one = make_node(DUAL, ipMasq=False, isDefaultGateway=True)
    pod = one.pod()
    result = one.add(pod)
    veth, pod_mac = result["interfaces"][1]["name"], result["interfaces"][2]["mac"]

    def check():
        return one.call("CHECK", pod, conf={"prevResult": result})

    assert check() == (0, None)
    for ns, damage, repair, words in [
        (one.ns, f"link set {veth} nomaster", f"link set {veth} master cni0", veth),
        (one.ns, "link set cni0 promisc on", "link set cni0 promisc off", "cni0"),
        (one.ns, f"link set {veth} address 02:00:00:00:00:07",
         f"link set {veth} address {result['interfaces'][1]['mac']}", veth),
        (pod, "link set eth0 address 02:00:00:00:00:07", f"link set eth0 address {pod_mac}",
         pod_mac),
        (pod, "route del 10.5.0.0/16", "route add 10.5.0.0/16 via 10.5.7.1", "10.5.0.0/16"),
        (pod, "route change 10.5.0.0/16 via 10.5.7.9", "route change 10.5.0.0/16 via 10.5.7.1",
         "10.5.7.1"),
        (pod, "-6 route del fc00:5::/48", "-6 route add fc00:5::/48 via fc00:5:7::1",
         "fc00:5::/48"),
        (pod, "route del default", "route add default via 10.5.7.1", "0.0.0.0/0"),
        (pod, "addr del fc00:5:7::2/64 dev eth0", "addr add fc00:5:7::2/64 dev eth0 nodad",
         "fc00:5:7::2/64"),
        (pod, "link set eth0 down", None, "10.5."),
    ]:
        ns.run("ip", *damage.split())
        code, answer = check()
        assert code == 1 and words in answer["msg"], (damage, answer)
        if repair:
            ns.run("ip", *repair.split())
            assert check() == (0, None), damage
    one.delete(pod)
    assert check()[0] == 1


# -- killed ----------------------------------------------------------------------------

@pytest.mark.skipif(not shutil.which("strace"), reason="no strace")
@pytest.mark.parametrize("calls", ["sendto", "recvmsg,setns", "openat"])
def test_killed_at_any_call(make_node, calls):
    """After DEL nothing is left, and the next ADD is as good as the first."""
    one = make_node(DUAL, ipMasq=False, hairpinMode=True)
    pod = one.pod()
    for n in range(1, 200):
        prefix = ["strace", "-qqq", "-o", "/dev/null", "-e", f"trace={calls}",
                  "-e", f"inject={calls}:signal=KILL:when={n}"]
        code, answer = one.call("ADD", pod, prefix=prefix)
        if code == 0:
            break
        assert not answer, answer
        one.delete(pod)
        assert one.veths() == [] and one.addresses_taken() == [], f"killed at {calls} {n}"
    assert code == 0 and n > 6, n
    assert one.call("CHECK", pod, conf={"prevResult": answer}) == (0, None)
    one.delete(pod)
    one.is_clean()
