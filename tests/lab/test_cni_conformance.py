# SPDX-License-Identifier: Apache-2.0
"""The plugin beside what it stands for: the same list of plugins is driven three ways, with
the delegate called directly by the runtime, with the plugin and "builtin": false, and with
the fast path. Every answer, all kernel state of host and pods after every step, and every
file of the delegates must be the same.

    m --- cni0 --- veth --- eth0 of pod a, pod b
"""

import copy
import itertools

import pytest

from lib import cni, expect

pytestmark = pytest.mark.needs("delegates")

_serial = itertools.count(1)


class Case:
    """flannel: the plugin's own entry; chain: what comes behind it; fast: whether the fast
    path can do it; runtime: capability arguments of ADD."""

    def __init__(self, name, flannel=None, env=None, version="1.0.0", chain=(), fast=True,
                 needs=(), runtime=None, args="", prepare=()):
        self.name, self.env, self.version = name, env or cni.SUBNET_ENV, version
        self.flannel = {"type": "flannel", **(flannel or {})}
        self.chain, self.fast, self.needs = list(chain), fast, needs
        self.runtime, self.args, self.prepare = runtime or {}, args, prepare

    def network(self, machine, way):
        flannel, version, path = copy.deepcopy(self.flannel), self.version, None
        if way == "delegates":
            flannel = cni.delegate_conf(flannel, self.env)
            if not cni.at_least(cni.DELEGATES_NEWEST, version):
                version = cni.DELEGATES_NEWEST
        elif way == "exec":
            flannel["builtin"] = False
        elif self.fast:
            path = machine.without("bridge", "host-local")  # then nobody else can have done it
        conf = {"name": "cbr0", "cniVersion": version, "plugins": [flannel, *self.chain]}
        return cni.Network(machine, conf, path)


def delegate(**kwargs):
    return {"delegate": kwargs}


# As deploy/ and the documents of flannel have it.
MANIFEST = delegate(hairpinMode=True, isDefaultGateway=True)
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}
FIREWALL = {"type": "firewall"}
BANDWIDTH = {"type": "bandwidth", "capabilities": {"bandwidth": True}}
PORTS = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
                          {"hostPort": 5353, "containerPort": 53, "protocol": "udp"}]}
RATES = {"bandwidth": {"ingressRate": 8000000, "ingressBurst": 800000,
                       "egressRate": 4000000, "egressBurst": 400000}}
MASQ = {"FLANNEL_IPMASQ": "false"}
UPLINK = ("link add up0 type veth peer name up1", "link set up0 up", "link set up1 up")

CASES = [
    *(Case(f"version-{v}", MANIFEST, version=v) for v in cni.VERSIONS),
    *(Case(f"version-{v}-dual", MANIFEST, cni.SUBNET_ENV_DUAL, v) for v in cni.VERSIONS),
    Case("plain"),
    Case("ipv6", MANIFEST, cni.SUBNET_ENV6),
    Case("ipv6-plain", env=cni.SUBNET_ENV6),
    Case("dual", MANIFEST, cni.SUBNET_ENV_DUAL),
    Case("dual-plain", env=cni.SUBNET_ENV_DUAL),
    Case("many-networks", MANIFEST,
         {**cni.SUBNET_ENV, "FLANNEL_NETWORK": "10.5.0.0/16,10.6.0.0/16"}),
    Case("hairpin-alone", delegate(hairpinMode=True)),
    Case("hairpin-off", delegate(hairpinMode=False, isDefaultGateway=True)),
    Case("promiscuous", delegate(promiscMode=True, isDefaultGateway=True)),
    Case("no-gateway", delegate(isGateway=False)),
    Case("no-gateway-dual", delegate(isGateway=False), cni.SUBNET_ENV_DUAL),
    Case("default-without-gateway", delegate(isGateway=False, isDefaultGateway=True)),
    Case("mtu", delegate(mtu=1280)),
    Case("mtu-9000", delegate(mtu=9000)),
    Case("bridge-name", delegate(bridge="flan0", isDefaultGateway=True)),
    Case("force-address", delegate(forceAddress=True)),
    Case("no-masquerade-said", delegate(ipMasq=False), {**cni.SUBNET_ENV, **MASQ}),
    Case("routes", {"ipam": {"routes": [{"dst": "172.16.0.0/12"},
                                        {"dst": "192.0.2.0/24", "gw": "10.5.1.9"}]}}),
    Case("default-route-given", {"ipam": {"routes": [{"dst": "0.0.0.0/0"}]}}),
    Case("default-route-with-gateway", {**MANIFEST, "ipam": {"routes": [
        {"dst": "0.0.0.0/0", "gw": "10.5.1.7"}]}}),
    Case("data-dir", {"ipam": {"dataDir": "/var/lib/cni/elsewhere"}}),
    Case("own-data-dir", {"dataDir": "/var/lib/cni/flannel/deep/er"}),
    Case("dns", {"dns": {"nameservers": ["10.5.0.53"], "search": ["weft.test"]}}),
    Case("dns-of-delegate", delegate(dns={"nameservers": ["10.5.0.53"], "domain": "weft.test"})),
    Case("other-types-default-false", delegate(ipMasq=False, vlan=0, macspoofchk=False,
                                               promiscMode=False)),
    Case("unused-capability", {**MANIFEST, "capabilities": {"portMappings": True}},
         runtime=PORTS),
    Case("bridge-is-there", MANIFEST, prepare=(
        "link add cni0 mtu 1450 type bridge", "addr add 10.5.1.1/24 dev cni0",
        "link set cni0 up")),
    Case("bridge-has-other-mtu", MANIFEST, prepare=(
        "link add cni0 mtu 1500 type bridge", "link set cni0 up")),
    Case("bridge-has-other-ipv6", MANIFEST, cni.SUBNET_ENV_DUAL, prepare=(
        "link add cni0 mtu 1450 type bridge", "addr add fd00:77::1/64 dev cni0 nodad",
        "link set cni0 up")),
    # Lists.
    Case("manifest", MANIFEST, chain=[PORTMAP], runtime=PORTS, needs=["nat"]),
    *(Case(f"manifest-{v}", MANIFEST, version=v, chain=[PORTMAP], runtime=PORTS, needs=["nat"])
      for v in ("0.2.0", "0.3.0", "0.3.1", "0.4.0")),
    Case("manifest-dual", MANIFEST, cni.SUBNET_ENV_DUAL, chain=[PORTMAP], runtime=PORTS,
         needs=["nat"]),
    Case("manifest-without-ports", MANIFEST, chain=[PORTMAP], needs=["nat"]),
    Case("firewall", MANIFEST, version="0.4.0", chain=[FIREWALL], needs=["nat"]),
    Case("bandwidth", MANIFEST, chain=[BANDWIDTH], runtime=RATES, needs=["shaping"]),
    Case("portmap-firewall", MANIFEST, cni.SUBNET_ENV_DUAL, chain=[PORTMAP, FIREWALL],
         runtime=PORTS, needs=["nat"]),
    Case("tuning", MANIFEST, chain=[
        {"type": "tuning", "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}}]),
    # What only the real delegates do.
    Case("masquerade", MANIFEST, {**cni.SUBNET_ENV, **MASQ}, fast=False, needs=["nat"]),
    Case("masquerade-dual", MANIFEST, {**cni.SUBNET_ENV_DUAL, **MASQ}, fast=False,
         needs=["nat"]),
    Case("vlan", delegate(vlan=5), fast=False, needs=["vlan"]),
    Case("mac-of-args", MANIFEST, args="IgnoreUnknown=1;MAC=02:00:00:00:00:77", fast=False),
    Case("address-of-args", MANIFEST, args="IgnoreUnknown=1;IP=10.5.1.77", fast=False),
    Case("mac-capability", {**MANIFEST, "capabilities": {"mac": True}},
         runtime={"mac": "02:00:00:00:00:78"}, fast=False),
    Case("ips-capability", {**MANIFEST, "capabilities": {"ips": True}},
         runtime={"ips": ["10.5.1.78/24"]}, fast=False),
    Case("other-ipam", {"ipam": {"type": "static", "addresses": [
        {"address": "10.5.1.66/24", "gateway": "10.5.1.1"}]}}, fast=False),
    Case("ptp", delegate(type="ptp"), fast=False),
    Case("ptp-dual", delegate(type="ptp"), cni.SUBNET_ENV_DUAL, fast=False),
    Case("ptp-manifest", delegate(type="ptp"), chain=[PORTMAP], runtime=PORTS, fast=False,
         needs=["nat"]),
    Case("ipvlan", delegate(type="ipvlan", master="up0"), fast=False, needs=["ipvlan"],
         prepare=UPLINK),
    Case("macvlan", delegate(type="macvlan", master="up0"), fast=False, needs=["macvlan"],
         prepare=UPLINK),
]
# One address for both pods cannot be; and a bridge without an address has the lowest MAC of
# its ports, which with two is a matter of chance.
ONE_POD = {"bridge-is-there", "no-gateway", "no-gateway-dual", "mac-of-args", "address-of-args",
           "mac-capability", "ips-capability", "other-ipam"}


def transcript(lab, case, way):
    """[(step, what was answered or is there)]"""
    machine = cni.Machine(lab.namespace(f"m{next(_serial)}"), lab)
    machine.write_subnet_env(case.env)
    # Nobody's bridge says anything of detection of duplicates, which takes its time.
    machine.ns.sysctl("net/ipv6/conf/default/accept_dad", 0)
    if case.prepare:
        machine.ns.ip(*case.prepare)
    network = case.network(machine, way)
    steps = []

    def note(step, value=None):
        steps.append((step, cni.comparable(machine, value)))
        steps.append((f"{step}: kernel", cni.kernel_state(machine, tables=bool(case.needs))))
        steps.append((f"{step}: files", cni.disk_state(machine)))

    def add(pod):
        result = network.add(pod, args=case.args, **case.runtime)
        _assert_result_is_true(machine, pod, result)
        # Debian's plugins write an empty "dns" in versions whose library leaves it out.
        note(f"ADD {pod.short}", {k: v for k, v in result.items()
                                  if k != "cniVersion" and (k, v) != ("dns", {})})

    pods = [machine.pod(name) for name in ("a", "b")]
    if case.name in ONE_POD:
        pods = pods[:1]
    for pod in pods:
        add(pod)
    if cni.at_least(case.version, "0.4.0"):
        for pod in pods:
            steps.append((f"CHECK {pod.short}", checked(network, case, pod)))
    for pod in pods:
        network.delete(pod, args=case.args)
        note(f"DEL {pod.short}")
    network.delete(pods[0], args=case.args)  # the second time
    add(pods[0])  # the next address, not the first
    network.delete(pods[0], args=case.args)
    note("DEL once more")
    if way != "delegates":
        assert not machine.files("flannel"), "saved configs are left"
    machine.close()
    machine.ns.delete()
    return steps


def checked(network, case, pod):
    """None, or what CHECK of the first plugin says; the others have bugs of their own. That
    of the plugin bridge (ValidateExpectedRoute() of version 1.1.1) finds no route whose gateway
    was left to the delegate, and flannel has no others: only its other findings count."""
    try:
        network.check(pod, args=case.args, plugins=network.plugins[:1])
    except cni.CniError as e:
        if e.msg.startswith("Expected Route") or ": Expected Route" in e.msg:
            return None
        return cni.comparable(network.machine, e.msg)
    return None


def _assert_result_is_true(machine, pod, result):
    """That names and MACs in it are the kernel's own, before they are replaced."""
    for interface in result.get("interfaces", []):
        ns = pod.ns if interface.get("sandbox") else machine.ns
        (link,) = ns.ip_json("link", "show", "dev", interface["name"])
        if "mac" in interface:
            assert interface["mac"] == link["address"], interface


_known = {}


@pytest.fixture(scope="module", autouse=True)
def forget():
    yield
    _known.clear()


@pytest.mark.parametrize("way", ["exec", "builtin"])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_same_as_delegates(lab, has, case, way):
    for feature in case.needs:
        if not has(feature):
            pytest.skip(f"this machine has no {feature}")
    if case.name not in _known:
        _known[case.name] = transcript(lab, case, "delegates")
    want, got = _known[case.name], transcript(lab, case, way)
    lines = []
    for (step, a), (same_step, b) in itertools.zip_longest(got, want, fillvalue=("nothing", None)):
        assert step == same_step
        lines += expect.diff(a, b, f"{step}: $")
    assert not lines, "\n" + "\n".join(lines)
