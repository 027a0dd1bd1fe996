# SPDX-License-Identifier: Apache-2.0
"""conftest.py - fixtures of the lab, and the checks that follow every test

    make_topo    builds topologies for one test
    topo_of      the same for all tests of a module, by a module's own fixture

After each test it fails when flanneld crashed, a sanitizer reported, or a warning or an
error was logged that the test did not declare with host.allow_log().

FLANNELD names the program under test (default build/flanneld).
"""

import os
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from lib import expect, netns, node  # noqa: E402
from lib.topo import Topo  # noqa: E402

_lab = None


def pytest_addoption(parser):
    parser.addoption("--pause", action="store_true",
                     help="stop after each failed test, with everything still running")


def pytest_configure(config):
    config.addinivalue_line("markers", "needs(*features): skip where the kernel lacks one")
    netns.require_privilege()
    if not os.access(node.FLANNELD, os.X_OK):
        pytest.exit(f"lab: no program to test: {node.FLANNELD} (build it, or set FLANNELD)", 4)
    if _is_sanitized(node.FLANNELD):
        expect.TIME_FACTOR = 4.0
    expect.TIME_FACTOR *= float(os.environ.get("WEFT_TIME_FACTOR", "1"))


def _is_sanitized(path):
    with open(path, "rb") as f:
        program = f.read()
    return b"__asan_init" in program or b"__tsan_init" in program


# -- what this machine can do ----------------------------------------------------------

# What a container needs of this machine: the real root, namespaces, a cgroup.
_CONTAINERS = ("grep -q 4294967295 /proc/self/uid_map && "
               "unshare -mpf --mount-proc mount -t tmpfs probe /run && "
               "c=/sys/fs/cgroup && { [ ! -d $c/pids ] || c=$c/pids; } && "
               "mkdir $c/weft-probe-$$ && rmdir $c/weft-probe-$$")
_PROBES = {
    "vxlan": "ip link add name probe type vxlan id 77 dstport 8472",
    "bridge": "ip link add name probe type bridge",
    "tun": "ip tuntap add dev probe mode tun",
    "veth": "ip link add name probe type veth peer name probe2",
    "nft": "nft add table inet probe",
    "ipv6": "ip link set lo up && ip -6 addr add fd00::1/128 dev lo",
    "nat": "nft add table ip probe && "
           "nft add chain ip probe c '{ type nat hook postrouting priority 100; }'",
    "macvlan": "ip link add name p1 type veth peer name p2 && "
               "ip link add name probe link p1 type macvlan",
    "ipvlan": "ip link add p1 type veth peer name p2 && "
              "ip link add name probe link p1 type ipvlan",
    "vlan": "ip link add probe type bridge vlan_filtering 1",
    # What the plugin bandwidth shapes with.
    "shaping": "ip link add p1 type veth peer name p2 && ip link add probe type ifb && "
               "tc qdisc add dev p1 root tbf rate 1mbit burst 32kbit latency 25ms && "
               "tc qdisc add dev p1 ingress && "
               "tc filter add dev p1 parent ffff: protocol all u32 match u32 0 0 "
               "action mirred egress redirect dev probe",
    "delegates": "cd /usr/lib/cni && ls bridge host-local portmap ptp firewall bandwidth",
    "strace": "strace -o /dev/null -e inject=getpid:signal=USR1 true",
    "iptables": "iptables-legacy -t nat -S && iptables-nft -t nat -S && ip6tables-legacy -t nat -S",
    "cc": "command -v cc",
    "setpriv": "command -v setpriv",
    "prlimit": "command -v prlimit",
    "etcd": "command -v etcd && command -v etcdctl && command -v openssl",
    "iptables-nft": "command -v iptables-nft-save && iptables-nft -t nat -L && "
                    "iptables-nft -A FORWARD -m conntrack --ctstate NEW -m addrtype "
                    "--dst-type LOCAL -m comment --comment probe",
    "iptables-legacy": "command -v iptables-legacy-save && iptables-legacy -t nat -L",
    "docker": "command -v dockerd docker docker-init docker-proxy containerd runc busybox && "
              + _CONTAINERS,
    "podman": "command -v podman conmon runc busybox && " + _CONTAINERS,
    "containerd": "command -v containerd ctr containerd-shim-runc-v2 runc busybox && "
                  "[ -d /etc/cni ] && [ -d /opt ] && " + _CONTAINERS,
}
_known = {}


def has(feature):
    """Probes in a namespace of its own; the answer is kept."""
    if feature not in _known:
        done = subprocess.run(
            ["unshare", "-n", "sh", "-c", _PROBES[feature]], capture_output=True, text=True,
            check=False,
        )
        _known[feature] = done.returncode == 0
    return _known[feature]


@pytest.fixture(name="has", scope="session")
def _has():
    """has(feature), for needs that a parameter has."""
    return has


def pytest_runtest_setup(item):
    for feature in ("veth", "bridge"):
        if not has(feature):
            pytest.skip(f"this kernel has no {feature}")
    for mark in item.iter_markers("needs"):
        for feature in mark.args:
            if not has(feature):
                pytest.skip(f"this machine has no {feature}")


# -- topologies ------------------------------------------------------------------------

@pytest.fixture(scope="session")
def lab():
    global _lab
    _lab = netns.Lab()
    yield _lab
    _lab.cleanup()


def _factory(lab):
    made = []

    def make(*args, **kwargs):
        topo = Topo(lab, *args, **kwargs)
        made.append(topo)
        return topo

    return make, made


@pytest.fixture
def make_topo(lab, request):
    make, made = _factory(lab)
    yield make
    if getattr(request.node, "failed_call", False):
        _show(request.node, lab)
    # Before the namespaces go: what a dying namespace does to flanneld is no fault of it.
    _judge(lab)
    for topo in made:
        topo.close()


@pytest.fixture(scope="module")
def topo_of(lab):
    """For modules whose tests share a topology and leave it as it was."""
    make, made = _factory(lab)
    yield make
    for topo in made:
        topo.close()


@pytest.fixture(autouse=True)
def check_hosts(lab, request):
    """For hosts shared by a module: judged after every test as well."""
    yield
    if getattr(request.node, "failed_call", False) and "make_topo" not in request.fixturenames:
        _show(request.node, lab)
    _judge(lab)


def _judge(lab):
    faults = [line for host in lab.hosts for line in host.faults()]
    if faults:
        pytest.fail("\n".join(faults), pytrace=False)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.when in ("setup", "call") and report.failed:
        item.failed_call = True
        if _lab is not None:
            report.sections += [
                (f"flanneld on {host.name}", host.log_text(host.log_mark)[-8000:])
                for host in _lab.hosts[:5]
                if host.log_text(host.log_mark)
            ]
            report.sections += [
                (f"etcd {member.name}", member.log_text()[-3000:])
                for member in _lab.etcd_members
                if member.log_text()
            ]
            report.sections += [("API server", kube.story()) for kube in _lab.kubes]


def _show(item, lab):
    """--pause: lets a person look around before the namespaces go."""
    if not item.config.getoption("--pause"):
        return
    capture = item.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        print(f"\n{item.nodeid} failed; everything still runs. Look around with, for instance")
        for host in lab.hosts[:10]:
            print(f"  ip netns exec {host.ns.name} {shutil.which('bash') or 'sh'}"
                  f"    # log: {host.log_path}")
        input("Enter goes on ")
