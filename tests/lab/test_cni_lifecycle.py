# SPDX-License-Identifier: Apache-2.0
"""An attachment from ADD to DEL when something is not as it should be: the pod or the subnet
file gone, files of others in the directories, disks that are full, ranges that are used up;
and nodes that change between the real delegates and the fast path.

    m --- cni0 --- veth --- eth0 of a pod
"""

import contextlib
import itertools
import json
import os
import re
import subprocess

import pytest

from lib import cni, expect, traffic

pytestmark = pytest.mark.needs("delegates")

_serial = itertools.count(1)

CONF = {"name": "cbr0", "cniVersion": "1.0.0", "type": "flannel",
        "delegate": {"hairpinMode": True, "isDefaultGateway": True}}
WAYS = {"exec": {"builtin": False}, "builtin": {}}
NETWORKS = "networks/cbr0"


@pytest.fixture
def machine(lab):
    machine = cni.Machine(lab.namespace(f"l{next(_serial)}"), lab)
    machine.write_subnet_env()
    yield machine
    machine.close()
    machine.ns.delete()


@pytest.fixture(params=["exec", "builtin"])
def network(machine, request):
    return network_of(machine, request.param)


def network_of(machine, way, **more):
    """The fast path's runtime has no plugin that could do its work."""
    path = machine.without("bridge", "host-local") if way == "builtin" else None
    return cni.Network(machine, {**CONF, **WAYS[way], **more}, path)


def saved(machine):
    return sorted(os.path.basename(name) for name in machine.files("flannel"))


# -- DEL -------------------------------------------------------------------------------


def test_del_twice(machine, network):
    pod = machine.pod("a")
    network.add(pod)
    assert saved(machine) == [pod.id]
    for _ in range(3):
        network.delete(pod)
        machine.assert_clean()


def test_del_of_what_never_was(machine, network):
    network.delete(machine.pod("a"))
    machine.assert_clean()


@pytest.mark.parametrize("netns", ["", "/run/netns/gone", "/proc/1/ns/nothing"])
def test_del_when_the_netns_is_gone(machine, network, netns):
    pod = machine.pod("a")
    network.add(pod)
    machine.remove_pod(pod)
    network.delete(pod, netns=netns)
    machine.assert_clean()


@pytest.mark.parametrize("netns", ["/dev/null", "/var/lib/cni", "/var/lib/cni/stale"])
def test_del_when_the_netns_is_none(machine, netns):
    """The name of one that was mounted before a reboot. The plugin bridge refuses these."""
    network, pod = network_of(machine, "builtin"), machine.pod("a")
    network.add(pod)
    machine.remove_pod(pod)
    put(machine, "stale")
    network.delete(pod, netns=netns)
    machine.assert_clean()


def test_del_when_the_interface_is_gone(machine, network):
    pod = machine.pod("a")
    network.add(pod)
    pod.ns.ip("link del eth0")
    network.delete(pod)
    machine.assert_clean()


def test_del_when_the_bridge_is_gone(machine, network):
    pod = machine.pod("a")
    network.add(pod)
    machine.ns.ip("link del cni0")
    network.delete(pod)
    machine.assert_clean()


def test_del_without_subnet_file(machine, network):
    pod = machine.pod("a")
    network.add(pod)
    os.unlink(machine.subnet_file)
    network.delete(pod)
    machine.assert_clean()


def test_del_after_the_subnet_changed(machine, network):
    """The address of the old subnet is what is given back."""
    pod, other = machine.pod("a"), machine.pod("b")
    network.add(pod)
    machine.write_subnet_env(FLANNEL_SUBNET="10.5.9.1/24")
    network.delete(pod)
    machine.assert_clean()
    machine.ns.ip("link del cni0")  # its address is the old one
    network.add(other)
    assert other.addresses == ["10.5.9.2"]
    network.delete(other)


def test_del_leaves_others_alone(machine, network):
    pods = [machine.pod(name) for name in "abc"]
    for pod in pods:
        network.add(pod)
    network.delete(pods[1])
    assert sorted(machine.reserved().values()) == sorted([pods[0].id, pods[2].id])
    assert saved(machine) == sorted([pods[0].id, pods[2].id])
    traffic.assert_all_to_all([pods[0], pods[2]])


def test_addresses_are_used_again_last(machine, network):
    """A peer's neighbour table should not have the old pod's MAC for the new one."""
    pods = [machine.pod(name) for name in "ab"]
    network.add(pods[0])
    network.delete(pods[0])
    network.add(pods[1])
    assert (pods[0].addresses, pods[1].addresses) == (["10.5.1.2"], ["10.5.1.3"])


# -- ADD -------------------------------------------------------------------------------


def test_pods_talk(machine, network):
    machine.write_subnet_env(cni.SUBNET_ENV_DUAL)
    pods = [machine.pod(name) for name in "ab"]
    for pod in pods:
        network.add(pod)
    traffic.assert_all_to_all(pods)
    for pod in pods:
        for gateway in ("10.5.1.1", "fd00:5:0:1::1"):
            expect.wait_until(lambda p=pod, g=gateway: traffic.ping(p, g, 0.2) is not None,
                              what=f"{gateway} out of detection of duplicates")
    (link,) = pods[0].ns.ip_json("link", "show", "dev", "eth0")
    assert link["mtu"] == 1450


def test_two_interfaces(machine, network):
    """Of two networks; the original has one saved config for both and loses the other."""
    pod = machine.pod("a")
    second = cni.Network(machine, {
        **network.plugin_conf(network.plugins[0]), "name": "second",
        "subnetFile": os.path.join(machine.dir, "second.env"),
        "delegate": {"bridge": "cni1", "isGateway": True}}, network.path)
    with open(os.path.join(machine.dir, "second.env"), "w", encoding="ascii") as f:
        f.writelines(f"{k}={v}\n" for k, v in {
            **cni.SUBNET_ENV, "FLANNEL_NETWORK": "10.6.0.0/16",
            "FLANNEL_SUBNET": "10.6.1.1/24"}.items())
    network.add(pod, "eth0")
    second.add(pod, "eth1")
    assert len(saved(machine)) == 2 and pod.id in saved(machine)
    assert list(machine.reserved("second").values()) == [pod.id]
    second.delete(pod, "eth1")
    assert not machine.reserved("second")
    assert saved(machine) == [pod.id]
    assert pod.ns.ip_json("link", "show", "dev", "eth0")
    assert not pod.ns.ip_json("link", "show", "dev", "eth1")
    second.add(pod, "eth1")
    network.delete(pod, "eth0")
    assert pod.ns.ip_json("link", "show", "dev", "eth1")
    assert list(machine.reserved("second").values()) == [pod.id]
    second.delete(pod, "eth1")
    machine.assert_clean()
    assert not machine.reserved("second")


def test_two_interfaces_of_one_network(machine, network):
    pod = machine.pod("a")
    network.plugins[0] = {**network.plugins[0], "delegate": {}}  # one default route is enough
    network.add(pod, "eth0")
    network.add(pod, "eth1")
    first, second = sorted(machine.reserved())
    assert first == "10.5.1.2"
    network.delete(pod, "eth0")
    assert sorted(machine.reserved()) == [second]
    assert pod.ns.ip_json("link", "show", "dev", "eth1")
    network.delete(pod, "eth1")
    machine.assert_clean()


def test_add_twice(machine, network):
    """The second is refused, and the first one's attachment is none the worse for it."""
    a, b = machine.pod("a"), machine.pod("b")
    network.add(a)
    network.add(b)
    before = cni.kernel_state(machine), machine.files()
    result = network.cache[a.id, "eth0"]
    with pytest.raises(cni.CniError):
        network.add(a)
    network.cache[a.id, "eth0"] = result
    after = cni.kernel_state(machine), machine.files()
    assert not expect.diff(json.loads(json.dumps(after)), json.loads(json.dumps(before)))
    traffic.assert_all_to_all([a, b])
    network.delete(a)
    network.delete(b)
    machine.assert_clean()


def test_interface_is_there_already(machine):
    """Somebody else's: it stays."""
    network = network_of(machine, "builtin")
    pod = machine.pod("a")
    pod.ns.ip("link add eth0 type veth peer name keep0")
    with pytest.raises(cni.CniError, match="eth0"):
        network.add(pod)
    assert pod.ns.ip_json("link", "show", "dev", "eth0")
    pod.ns.ip("link del eth0")
    machine.assert_clean()
    network.add(pod)
    network.delete(pod)


@pytest.mark.parametrize("what,named", [
    ("link add cni0 type veth peer name other0", "cni0"),
    ("link add cni0 mtu 1450 type bridge\naddr add 10.5.7.1/24 dev cni0\nlink set cni0 up",
     "10.5.1.1/24"),
], ids=["no-bridge", "other-address"])
def test_bridge_that_cannot_be(machine, network, what, named):
    machine.ns.ip(*what.split("\n"))
    pod = machine.pod("a")
    with pytest.raises(cni.CniError) as e:
        network.add(pod)
    assert "cni0" in e.value.msg and named in e.value.msg
    machine.assert_clean()


def test_netns_that_is_none(machine, network):
    pod = machine.pod("a")
    for path in ("/nonexistent", "/dev/null", machine.dir, machine.subnet_file):
        answer = machine.call("flannel", "ADD", network.plugin_conf(network.plugins[0]), pod,
                              netns=path, path=network.path)
        assert path in str(answer.error())
        assert not machine.reserved()


def test_netns_of_the_host(machine, network):
    """As hostNetwork has it: its eth0 is not a pod's."""
    pod = machine.pod("a")
    machine.ns.ip("link add eth0 type veth peer name keep0")
    conf = network.plugin_conf(network.plugins[0])
    for command in ("ADD", "DEL"):
        answer = machine.call("flannel", command, conf, pod, netns=machine.ns.path,
                              path=network.path)
        if command == "ADD" or answer.code != 0:
            assert answer.error()["code"] == 8  # "invalid network namespace"
        assert machine.ns.ip_json("link", "show", "dev", "eth0")
    machine.assert_clean()


def test_default_route_twice(machine, network):
    """One that is given without a gateway, and one of isDefaultGateway: as the plugin bridge,
    which refuses; but nothing of it stays."""
    network.plugins[0]["ipam"] = {"routes": [{"dst": "0.0.0.0/0"}]}
    pod = machine.pod("a")
    with pytest.raises(cni.CniError):
        network.add(pod)
    machine.assert_clean()


# -- ranges ----------------------------------------------------------------------------


@pytest.mark.parametrize("env,capacity", [
    ({"FLANNEL_SUBNET": "10.5.1.1/29"}, 5), ({"FLANNEL_SUBNET": "10.5.1.1/30"}, 1),
])
def test_range_exhausted(machine, network, env, capacity):
    machine.write_subnet_env(**env)
    pods = [machine.pod(f"p{i}") for i in range(capacity + 1)]
    for pod in pods[:-1]:
        network.add(pod)
    assert len({pod.addresses[0] for pod in pods[:-1]}) == capacity
    with pytest.raises(cni.CniError) as e:
        network.add(pods[-1])
    first, last = "10.5.1.1", "10.5.1.6" if capacity == 5 else "10.5.1.2"
    assert re.search(f"{first}.*{last}", e.value.msg), e.value.msg
    assert len(machine.reserved()) == len(machine.veths()) == capacity
    network.delete(pods[0])
    network.add(pods[-1])
    assert pods[-1].addresses == pods[0].addresses
    for pod in pods[1:]:
        network.delete(pod)
    machine.assert_clean()


@pytest.mark.parametrize("subnet", ["10.5.1.1/31", "10.5.1.1/32"])
def test_range_too_small(machine, network, subnet):
    machine.write_subnet_env(FLANNEL_SUBNET=subnet)
    pod = machine.pod("a")
    with pytest.raises(cni.CniError, match="10.5.1"):
        network.add(pod)
    network.delete(pod)  # as every runtime does then; host-local refuses this config, too
    machine.assert_clean()


def test_second_family_exhausted(machine, network):
    """The first family's address is not kept."""
    machine.write_subnet_env({**cni.SUBNET_ENV_DUAL, "FLANNEL_IPV6_SUBNET": "fd00:5:0:1::1/126"})
    pods = [machine.pod(f"p{i}") for i in range(3)]
    network.add(pods[0])
    with contextlib.suppress(cni.CniError):  # whether the last address counts is host-local's
        network.add(pods[1])
    with pytest.raises(cni.CniError, match="fd00:5:0:1::"):
        network.add(pods[2])
    assert pods[2].id not in machine.reserved().values()
    for pod in pods:
        network.delete(pod)
    machine.assert_clean()


# -- who made it does not matter -------------------------------------------------------


@pytest.mark.parametrize("first,then", [("exec", "builtin"), ("builtin", "exec")])
def test_take_over(machine, first, then):
    machine.write_subnet_env(cni.SUBNET_ENV_DUAL)
    one, other = network_of(machine, first), network_of(machine, then)
    a, b, c = (machine.pod(name) for name in "abc")
    one.add(a)
    one.add(b)
    other.cache = one.cache
    other.add(c)
    assert [p.addresses[0] for p in (a, b, c)] == ["10.5.1.2", "10.5.1.3", "10.5.1.4"]
    assert [p.addresses[1] for p in (a, b, c)] == [f"fd00:5:0:1::{i}" for i in (2, 3, 4)]
    traffic.assert_all_to_all([a, b, c])
    if then == "builtin":
        other.check(a)
    other.delete(a)
    one.delete(c)
    other.delete(b)
    machine.assert_clean()
    other.add(a)
    assert a.addresses[0] == "10.5.1.5"
    one.delete(a)
    machine.assert_clean()


@pytest.mark.parametrize("way", ["exec", "builtin"])
def test_delegates_clean_up_after_us(machine, way):
    """A node on which the runtime is told to use bridge itself."""
    network, pod = network_of(machine, way), machine.pod("a")
    network.add(pod)
    plain = cni.delegate_conf(network.plugins[0], machine.subnet_env())
    conf = {**plain, "name": "cbr0", "cniVersion": "1.0.0"}
    answer = machine.call("bridge", "DEL", conf, pod)
    assert answer.code == 0, answer
    assert not machine.reserved()
    network.delete(pod)
    machine.assert_clean()


def write_as_original(machine, pod, network):
    """What the original leaves on ADD: the delegate's config, and no more."""
    plain = cni.delegate_conf(network.plugins[0], machine.subnet_env())
    conf = {**plain, "name": "cbr0", "cniVersion": network.version}
    directory = os.path.join(machine.lib, "flannel")
    os.makedirs(directory, mode=0o700, exist_ok=True)
    with open(os.path.join(directory, pod.id), "w", encoding="utf-8") as f:
        json.dump(conf, f)
    answer = machine.call("bridge", "ADD", conf, pod)
    assert answer.code == 0, answer
    network.cache[pod.id, "eth0"] = answer.json, {}
    pod.addresses = cni.addresses_of(answer.json)


def test_attachment_of_the_original(machine, network):
    """A node whose flannel is replaced while its pods run."""
    a, b = machine.pod("a"), machine.pod("b")
    write_as_original(machine, a, network)
    network.add(b)
    assert (a.addresses, b.addresses) == (["10.5.1.2"], ["10.5.1.3"])
    traffic.assert_all_to_all([a, b])
    network.delete(a)
    assert saved(machine) == [b.id]
    network.delete(b)
    machine.assert_clean()


def test_attachment_of_the_original_without_netns(machine, network):
    pod = machine.pod("a")
    write_as_original(machine, pod, network)
    machine.remove_pod(pod)
    os.unlink(machine.subnet_file)
    network.delete(pod, netns="")
    machine.assert_clean()


def test_original_s_interface_that_is_not_eth0(machine, network):
    """The original's one file of a container is for whatever interface is asked for."""
    pod = machine.pod("a")
    write_as_original(machine, pod, network)
    pod.ns.ip("link set eth0 down", "link set eth0 name net1")
    for name, (_, text) in machine.files(NETWORKS).items():
        with open(os.path.join(machine.lib, name), "w", encoding="utf-8", newline="") as f:
            f.write(text.replace("eth0", "net1"))
    network.delete(pod, "net1")
    machine.assert_clean()


# -- CHECK -----------------------------------------------------------------------------


BREAKS = {
    "interface": "link del eth0", "address": "addr flush dev eth0 scope global",
    "other address": "addr flush dev eth0 scope global\naddr add 10.5.1.99/24 dev eth0",
    "route": "route del 10.5.0.0/16", "default route": "route del default",
}


def test_check(machine):
    machine.write_subnet_env(cni.SUBNET_ENV_DUAL)
    network, pod = network_of(machine, "builtin"), machine.pod("a")
    network.add(pod)
    network.check(pod)
    network.check(pod)
    network.delete(pod)


@pytest.mark.parametrize("broken", BREAKS)
def test_check_finds_in_the_pod(machine, broken):
    network, pod = network_of(machine, "builtin"), machine.pod("a")
    network.add(pod)
    pod.ns.ip(*BREAKS[broken].split("\n"))
    with pytest.raises(cni.CniError):
        network.check(pod)
    network.delete(pod)
    machine.assert_clean()


@pytest.mark.parametrize("broken", ["bridge", "port", "reservation"])
def test_check_finds_on_the_host(machine, broken):
    network, pod = network_of(machine, "builtin"), machine.pod("a")
    network.add(pod)
    if broken == "bridge":
        machine.ns.ip("link del cni0")
    elif broken == "port":
        machine.ns.ip(f"link set {machine.veths()[0]} nomaster")
    else:
        os.unlink(os.path.join(machine.lib, NETWORKS, "10.5.1.2"))
    with pytest.raises(cni.CniError):
        network.check(pod)
    network.delete(pod)
    machine.assert_clean()


def test_check_without_previous_result(machine, network):
    pod = machine.pod("a")
    network.add(pod)
    conf = network.plugin_conf(network.plugins[0])
    machine.call("flannel", "CHECK", conf, pod, path=network.path).error()
    network.delete(pod)


def test_check_of_what_is_not_there(machine, network):
    pod = machine.pod("a")
    network.add(pod)
    result = network.cache[pod.id, "eth0"]
    network.delete(pod)
    network.cache[pod.id, "eth0"] = result
    with pytest.raises(cni.CniError):
        network.check(pod)


# -- GC --------------------------------------------------------------------------------


def test_gc(machine):
    """Reboots and crashes of a runtime leave attachments that nobody will ever DEL."""
    for way in WAYS:
        network = network_of(machine, way, cniVersion="1.1.0")
        pods = [machine.pod(f"{way}{i}") for i in range(4)]
        for pod in pods:
            network.add(pod)
        for pod in pods[2:]:
            machine.remove_pod(pod)
        os.unlink(machine.subnet_file)
        network.gc(pods[:2])
        assert sorted(machine.reserved().values()) == sorted(p.id for p in pods[:2]), way
        assert saved(machine) == sorted(p.id for p in pods[:2]), way
        network.gc(pods[:2])
        traffic.assert_all_to_all(pods[:2])
        for pod in pods:
            network.delete(pod, netns="" if pod not in machine.pods else None)
        machine.assert_clean()
        machine.write_subnet_env()


def test_gc_leaves_other_networks_alone(machine):
    one = network_of(machine, "builtin", cniVersion="1.1.0")
    other = network_of(machine, "builtin", cniVersion="1.1.0", name="other")
    a, b = machine.pod("a"), machine.pod("b")
    one.add(a)
    other.plugins[0]["delegate"] = {"bridge": "cni1"}
    other.plugins[0]["subnetFile"] = os.path.join(machine.dir, "other.env")
    with open(machine.subnet_file, encoding="ascii") as f:
        text = f.read().replace("10.5.1.1", "10.5.2.1")
    with open(os.path.join(machine.dir, "other.env"), "w", encoding="ascii") as f:
        f.write(text)
    other.add(b)
    one.gc([a])
    assert list(machine.reserved("other").values()) == [b.id]
    one.gc([])
    assert list(machine.reserved("other").values()) == [b.id]
    assert saved(machine) == [b.id]
    other.delete(b)


def test_gc_of_addresses_without_saved_config(machine):
    """Of pods that the plugin host-local has given addresses, whose files are left alone."""
    network = network_of(machine, "builtin", cniVersion="1.1.0")
    pod = machine.pod("a")
    network.add(pod)
    stale = os.path.join(machine.lib, NETWORKS, "10.5.1.77")
    with open(stale, "w", encoding="ascii") as f:
        f.write("f" * 64 + "\r\neth0")
    network.gc([pod])
    assert machine.reserved() == {"10.5.1.2": pod.id}
    network.delete(pod)
    machine.assert_clean()


def test_gc_without_a_list_frees_nothing(machine):
    network = network_of(machine, "builtin", cniVersion="1.1.0")
    pod = machine.pod("a")
    network.add(pod)
    for given in ({}, {"cni.dev/valid-attachments": "x"}, {"cni.dev/valid-attachments": [7]}):
        conf = {**network.plugin_conf(network.plugins[0]), **given}
        machine.call("flannel", "GC", conf)
        assert machine.reserved() == {"10.5.1.2": pod.id}
    network.delete(pod)


# -- files of others, torn files -------------------------------------------------------


def put(machine, name, content=b""):
    path = os.path.join(machine.lib, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as f:
        f.write(content)


LAST = ["", "10.5.1.", "10.5.1.200\n", "10.5.1.254", "10.5.1.255", "10.5.1.1", "10.5.77.3",
        "fd00::1", "garbage", "\0" * 10, "x" * 100000]


@pytest.mark.parametrize("last", LAST, ids=lambda v: ascii(v[:12]))
def test_torn_last_reserved(machine, last):
    """Both go on from the same address, whatever is there."""
    got = {}
    for way in WAYS:
        network, pod = network_of(machine, way), machine.pod(way)
        put(machine, f"{NETWORKS}/last_reserved_ip.0", last.encode())
        network.add(pod)
        got[way] = pod.addresses
        network.delete(pod)
    machine.assert_clean()
    assert got["builtin"] == got["exec"]


def test_foreign_files_among_addresses(machine):
    """What is there is taken, whoever put it there; what is no address does not matter."""
    put(machine, f"{NETWORKS}/10.5.1.2", b"\r\n")
    put(machine, f"{NETWORKS}/10.5.1.3", b"somebody else\r\neth0")
    put(machine, f"{NETWORKS}/10.5.1.4", b"\0\xff" * 5000)
    os.makedirs(os.path.join(machine.lib, NETWORKS, "10.5.1.5"))
    os.symlink("/nonexistent", os.path.join(machine.lib, NETWORKS, "10.5.1.6"))
    put(machine, f"{NETWORKS}/README", b"hands off")
    put(machine, f"{NETWORKS}/.hidden", b"")
    put(machine, f"{NETWORKS}/10.5.1.8.swp", b"")
    got = {}
    for way in WAYS:
        network, pod = network_of(machine, way), machine.pod(way)
        put(machine, f"{NETWORKS}/last_reserved_ip.0", b"10.5.1.254")
        try:
            network.add(pod)
            got[way] = pod.addresses
        except cni.CniError:
            got[way] = "refused"
        with contextlib.suppress(cni.CniError):
            network.delete(pod)
    assert got["builtin"] == ["10.5.1.7"]
    assert machine.files(NETWORKS)[f"{NETWORKS}/README"][1] == "hands off"
    assert machine.files(NETWORKS)[f"{NETWORKS}/10.5.1.3"][1].startswith("somebody else")


def test_torn_address(machine):
    """host-local that was killed between open() and write() leaves an empty file, and never
    gives that address again; we do."""
    network, pod = network_of(machine, "builtin"), machine.pod("a")
    put(machine, f"{NETWORKS}/10.5.1.2")
    network.add(pod)
    assert pod.addresses == ["10.5.1.2"]
    network.delete(pod)
    machine.assert_clean()


def test_prefix_of_a_container_id(machine, network):
    """The file's first line is compared as a whole."""
    pod = machine.pod("a")
    network.add(pod)
    put(machine, f"{NETWORKS}/10.5.1.50", pod.id[:20].encode() + b"\r\neth0")
    put(machine, f"{NETWORKS}/10.5.1.51", pod.id.encode() + b"0\r\neth0")
    put(machine, f"{NETWORKS}/10.5.1.52", pod.id.encode() + b"\r\neth00")
    network.delete(pod)
    assert sorted(machine.reserved()) == ["10.5.1.50", "10.5.1.51", "10.5.1.52"]


def test_old_format_of_host_local(machine, network):
    """Before version 0.7 there was no interface in the file."""
    pod = machine.pod("a")
    network.add(pod)
    put(machine, f"{NETWORKS}/10.5.1.2", pod.id.encode())
    network.delete(pod)
    machine.assert_clean()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\0" * 100, b"null", b"{}",
                                     b'{"type": "../../evil"}', b'{"type": 7}'], ids=ascii)
def test_torn_saved_config(machine, network, content):
    """As a power failure leaves the original's: what was saved is not known any more, but
    the address is, and a pod that cannot be removed is worse than all else."""
    pod = machine.pod("a")
    network.add(pod)
    put(machine, f"flannel/{pod.id}", content)
    network.delete(pod)
    assert not machine.reserved()
    machine.remove_pod(pod)
    machine.assert_clean()


def test_foreign_files_among_saved_configs(machine, network):
    put(machine, "flannel/README", b"hands off")
    os.makedirs(os.path.join(machine.lib, "flannel", "directory"))
    put(machine, "flannel/" + "0" * 64, b"{torn")
    pod = machine.pod("a")
    network.add(pod)
    network.delete(pod)
    if not network.plugins[0].get("builtin", True):
        return
    later = network_of(machine, "builtin", cniVersion="1.1.0")
    later.gc([])
    assert machine.files("flannel")["flannel/README"][1] == "hands off"


# -- disks -----------------------------------------------------------------------------


@pytest.fixture
def small_disk(lab):
    machine = cni.Machine(lab.namespace(f"l{next(_serial)}"), lab, disk="256k")
    machine.write_subnet_env()
    yield machine
    machine.close()
    machine.ns.delete()


def fill(machine, leave=0):
    """Until not a byte goes in, not even into a new file."""
    path = os.path.join(machine.lib, "filler")
    with contextlib.suppress(OSError), open(path, "wb", buffering=0) as f:
        while f.write(b"x" * 4096):
            pass
    if leave:
        os.truncate(path, os.path.getsize(path) - leave)
    return path


@pytest.mark.parametrize("way", ["exec", "builtin"])
@pytest.mark.parametrize("leave", [0, 4096, 8192, 12288])
def test_full_disk(small_disk, way, leave):
    """At whichever file it is, nothing stays of the attempt, and an attachment that is there
    can be removed."""
    machine = small_disk
    network = network_of(machine, way)
    a, b = machine.pod("a"), machine.pod("b")
    network.add(a)
    filler = fill(machine, leave)
    try:
        network.add(b)
    except cni.CniError as e:
        assert "No space left" in e.msg or "no space left" in e.msg, e.msg
        assert list(machine.reserved()) == ["10.5.1.2"]
        assert saved(machine) == [a.id]
        assert not b.ns.ip_json("link", "show", "dev", "eth0")
    else:
        assert leave, "a full disk is full"
        network.delete(b)
    network.delete(a)
    os.unlink(filler)
    machine.assert_clean()
    network.add(b)
    network.delete(b)
    machine.assert_clean()


@pytest.mark.parametrize("way", ["exec", "builtin"])
def test_read_only_disk(small_disk, way):
    machine = small_disk
    network = network_of(machine, way)
    a, b = machine.pod("a"), machine.pod("b")
    network.add(a)

    def remount(option):
        subprocess.run(machine.argv("mount", "-o", f"remount,bind,{option}", "/var/lib/cni"),
                       check=True)

    remount("ro")
    with pytest.raises(cni.CniError, match="ead-only"):
        network.add(b)
    assert not b.ns.ip_json("link", "show", "dev", "eth0")
    with pytest.raises(cni.CniError, match="ead-only"):
        network.delete(a)
    remount("rw")
    network.delete(a)
    machine.assert_clean()


def test_directories_that_are_files(machine, network):
    put(machine, "flannel", b"")
    pod = machine.pod("a")
    with pytest.raises(cni.CniError, match="/var/lib/cni/flannel"):
        network.add(pod)
    os.unlink(os.path.join(machine.lib, "flannel"))
    put(machine, "networks", b"")
    with pytest.raises(cni.CniError, match="/var/lib/cni/networks"):
        network.add(pod)
    os.unlink(os.path.join(machine.lib, "networks"))
    network.delete(pod)
    machine.assert_clean()


def test_modes_of_saved_configs(machine, network):
    """They may hold what is nobody's business."""
    pod = machine.pod("a")
    network.add(pod)
    ((mode, text),) = machine.files("flannel").values()
    assert mode == "0o600"
    assert os.stat(os.path.join(machine.lib, "flannel")).st_mode & 0o777 == 0o700
    assert json.loads(text)["weft"] == {"containerID": pod.id, "ifName": "eth0"}
    network.delete(pod)
