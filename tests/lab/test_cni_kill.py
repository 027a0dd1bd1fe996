# SPDX-License-Identifier: Apache-2.0
"""Many at once, and death at any moment: no address is given twice, none is lost, and DEL
cleans up after whatever an ADD or another DEL had reached.

    m --- cni0 --- 200 veths --- eth0 of 200 pods

WEFT_LAB_ALL_STEPS=1: the process dies at every system call also where real delegates make
that slow; otherwise there at every so many.
"""

import concurrent.futures
import itertools
import os
import re
import subprocess
import threading

import pytest

from lib import cni, expect, traffic
from lib.expect import wait_until

pytestmark = pytest.mark.needs("delegates")

_serial = itertools.count(1)

CONF = {"name": "cbr0", "cniVersion": "1.0.0", "type": "flannel",
        "delegate": {"hairpinMode": True, "isDefaultGateway": True}}
WAYS = {"exec": {"builtin": False}, "builtin": {}}
MANY, AT_ONCE = 200, 8
STEPS = 10_000 if os.environ.get("WEFT_LAB_ALL_STEPS") else 40


@pytest.fixture
def machine(lab):
    machine = cni.Machine(lab.namespace(f"k{next(_serial)}"), lab)
    machine.write_subnet_env()
    yield machine
    machine.close()
    machine.ns.delete()


def network_of(machine, way, **more):
    path = machine.without("bridge", "host-local") if way == "builtin" else None
    return cni.Network(machine, {**CONF, **WAYS[way], **more}, path)


# -- a delegate that hangs -------------------------------------------------------------
# It is given a minute and a half, in which the other tests here run.

DELEGATE_TIMEOUT_S = 90


class Hanging:
    """An ADD in the background, of a delegate that ignores SIGTERM and has a child."""

    def __init__(self, lab):
        self.machine = cni.Machine(lab.namespace("hang"), lab)
        self.machine.write_subnet_env()
        self.pod = self.machine.pod("a")
        self.path = os.path.join(self.machine.dir, "calls")
        program = os.path.join(self.machine.bin, "hanging")
        with open(program, "w", encoding="ascii") as f:
            f.write(f"#!/bin/sh\necho $CNI_COMMAND >>{self.path}\n[ $CNI_COMMAND = DEL ] && exit 0\n"
                    "trap '' TERM\nsleep 1000\n")
        os.chmod(program, 0o755)
        self.answer = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        conf = {**CONF, "delegate": {"type": "hanging"}}
        self.answer = self.machine.call("flannel", "ADD", conf, self.pod,
                                        timeout=DELEGATE_TIMEOUT_S + 20)


@pytest.fixture(scope="module")
def hanging(lab):
    hanging = Hanging(lab)
    yield hanging
    hanging.machine.close()
    hanging.machine.ns.delete()


def test_delegate_begins_to_hang(hanging):
    wait_until(lambda: os.path.exists(hanging.path), what="the delegate's start")


# -- many at once ----------------------------------------------------------------------


def at_once(fn, items):
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        for future in [pool.submit(fn, item) for item in items]:
            future.result()


def assert_each_has_its_own(machine, pods):
    addresses = [address for pod in pods for address in pod.addresses]
    assert len(set(addresses)) == len(addresses)
    assert sorted(machine.reserved()) == sorted(addresses)
    for pod in pods:
        assert machine.reserved()[pod.addresses[0]] == pod.id
    (bridge,) = machine.ns.ip_json("addr", "show", "dev", "cni0")
    assert [a["local"] for a in bridge["addr_info"] if a["family"] == "inet"] == ["10.5.1.1"]
    ports = machine.ns.ip_json("link", "show", "master", "cni0")
    assert sorted(p["ifname"] for p in ports) == machine.veths()
    assert len(ports) == len(pods)


@pytest.mark.parametrize("way", ["builtin", "exec", "mixed"])
def test_many_at_once(machine, way):
    """mixed: every other pod by the other of the two, who share the lock and the files."""
    count = MANY if way == "builtin" else MANY // 4
    machine.write_subnet_env(cni.SUBNET_ENV_DUAL if way == "mixed" else None)
    ways = ["builtin", "exec"] if way == "mixed" else [way]
    networks = [network_of(machine, w) for w in ways]
    pods = [machine.pod(f"{i}") for i in range(count)]

    def network(pod):
        return networks[int(pod.short) % len(networks)]

    for _ in range(2):
        at_once(lambda pod: network(pod).add(pod), pods)
        if way != "mixed":
            assert_each_has_its_own(machine, pods)
        assert len({a for pod in pods for a in pod.addresses}) == count * len(pods[0].addresses)
        some = pods[:: count // 5]
        for other in some[1:]:
            assert traffic.ping(some[0], other.addresses[0]) is not None
        if way == "mixed":  # and each cleans up for the other
            networks.reverse()
        at_once(lambda pod: network(pod).delete(pod), pods)
        machine.assert_clean()


def test_add_and_delete_at_once(machine):
    """Pods come and go, and a gap between DEL and ADD is nobody's address twice."""
    network = network_of(machine, "builtin")
    pods = [machine.pod(f"{i}") for i in range(24)]

    def come_and_go(pod):
        for _ in range(5):
            network.add(pod)
            network.delete(pod)
        network.add(pod)

    at_once(come_and_go, pods)
    assert_each_has_its_own(machine, pods)
    at_once(network.delete, pods)
    machine.assert_clean()


def test_one_attachment_at_once(machine):
    """The same ADD from several callers: one of them has it, and it is whole."""
    network = network_of(machine, "builtin")
    pod = machine.pod("a")
    won = []

    def add(_):
        try:
            won.append(network.add(pod))
        except cni.CniError:
            pass

    at_once(add, range(8))
    assert len(won) == 1
    pod.addresses = cni.addresses_of(won[0])
    assert machine.reserved() == {pod.addresses[0]: pod.id}
    assert traffic.ping(pod, "10.5.1.1") is not None
    at_once(lambda _: network.delete(pod), range(8))
    machine.assert_clean()


# -- death at any moment ---------------------------------------------------------------


def steps_of(machine, network, pod, command, log):
    """[(system call, which one of this name)] of a run in which nothing goes wrong."""
    machine.call("flannel", command, network.plugin_conf(network.plugins[0]), pod,
                 path=network.path, wrap=("strace", "-o", log))
    with open(log, encoding="utf-8", errors="replace") as f:
        names = re.findall(r"^(\w+)\(", f.read(), re.M)
    # strace itself starts the program: its own execve() is no step.
    seen, steps = {}, []
    for name in names[1:]:
        seen[name] = seen.get(name, 0) + 1
        steps.append((name, seen[name]))
    return steps


def killed_at(machine, network, pod, command, step):
    """Runs it until that system call begins; whether it died there."""
    name, number = step
    answer = machine.call(
        "flannel", command, network.plugin_conf(network.plugins[0]), pod, path=network.path,
        wrap=("strace", "-o", "/dev/null", "-e", f"inject={name}:signal=KILL:when={number}"))
    wait_until(lambda: not strangers(machine), 20, "an end of the delegates")
    return answer.code in (-9, 137)


def strangers(machine):
    """Processes on the machine that are not its own: delegates whose caller was killed."""
    done = subprocess.run(["ip", "netns", "pids", machine.ns.name], capture_output=True, text=True,
                          check=True)
    return [pid for pid in done.stdout.split() if int(pid) not in machine.processes()]


def sanitized():
    """A sanitizer makes hundreds of system calls of its own."""
    return expect.TIME_FACTOR > 1


def sample(steps):
    every = max(1, -(-len(steps) // STEPS))
    return steps[::every] + steps[-1:] if every > 1 else steps


@pytest.mark.needs("strace")
@pytest.mark.parametrize("env", [cni.SUBNET_ENV, cni.SUBNET_ENV_DUAL], ids=["ipv4", "dual"])
@pytest.mark.parametrize("way", ["builtin", "exec"])
@pytest.mark.parametrize("bridge", ["there", "new"])
def test_killed_during_add(machine, way, env, bridge):
    machine.write_subnet_env(env)
    network = network_of(machine, way)
    neighbour, pod = machine.pod("neighbour"), machine.pod("a")
    if bridge == "there":
        network.add(neighbour)
    log = os.path.join(machine.dir, "strace.log")
    steps = steps_of(machine, network, pod, "ADD", log)
    network.delete(pod)
    if way == "exec" or bridge == "new" or sanitized():
        steps = sample(steps)
    died, leaks = 0, []
    for step in steps:
        if bridge == "new":
            machine.ns.ip("link del cni0", force=True)
        died += killed_at(machine, network, pod, "ADD", step)
        network.delete(pod)
        left = left_over(machine, neighbour if bridge == "there" else None)
        if left:
            leaks.append(f"killed at {step[0]} number {step[1]}: {left}")
            machine.forget(pod)
    assert not leaks, "\n" + "\n".join(leaks)
    assert died >= len(steps) * 0.9 - 2, f"only {died} of {len(steps)} died"
    network.add(pod)
    if bridge == "there":
        traffic.assert_all_to_all([neighbour, pod])
        network.delete(neighbour)
    network.delete(pod)
    machine.assert_clean()


def left_over(machine, neighbour):
    """What is there but for the neighbour's."""
    wait_until(lambda: len(machine.veths()) <= (neighbour is not None), 5, "no veth too many")
    own = [neighbour.id] if neighbour else []
    names = neighbour.addresses if neighbour else []
    return [leak for leak in machine.leaks()
            if not any(word in leak for word in (*own, *names, "veth", "neighbour"))]


@pytest.mark.needs("strace")
@pytest.mark.parametrize("way", ["builtin", "exec"])
def test_killed_during_del(machine, way):
    network = network_of(machine, way)
    pod = machine.pod("a")
    log = os.path.join(machine.dir, "strace.log")
    network.add(pod)
    steps = steps_of(machine, network, pod, "DEL", log)
    if way == "exec" or sanitized():
        steps = sample(steps)
    died, leaks = 0, []
    for step in steps:
        network.add(pod)
        died += killed_at(machine, network, pod, "DEL", step)
        network.delete(pod)
        left = left_over(machine, None)
        if left:
            leaks.append(f"killed at {step[0]} number {step[1]}: {left}")
            machine.forget(pod)
    assert not leaks, "\n" + "\n".join(leaks)
    assert died >= len(steps) * 0.9 - 2, f"only {died} of {len(steps)} died"
    machine.assert_clean()


@pytest.mark.needs("strace")
def test_killed_and_nobody_deletes(machine):
    """A runtime that was killed as well: the address is taken until GC, and no longer."""
    network = network_of(machine, "builtin", cniVersion="1.1.0")
    pods = [machine.pod(f"{i}") for i in range(12)]
    log = os.path.join(machine.dir, "strace.log")
    steps = steps_of(machine, network, pods[0], "ADD", log)
    network.delete(pods[0])
    for pod, step in zip(pods, steps[:: len(steps) // len(pods)]):
        killed_at(machine, network, pod, "ADD", step)
    for pod in list(machine.pods):
        machine.remove_pod(pod)
    # One that was just being written is not touched: perhaps it still is.
    for name in os.listdir(machine.lib + "/flannel"):
        if name.startswith("."):
            os.utime(os.path.join(machine.lib, "flannel", name), (0, 0))
    network.gc([])
    machine.assert_clean()


FAILING = ["ENOMEM", "EPERM"]


@pytest.mark.needs("strace")
@pytest.mark.parametrize("error", FAILING)
def test_system_calls_that_fail(machine, error):
    """Every system call of an ADD fails once: it ends with an error object and nothing left,
    or it did without. Who does not get back into his own netns ends there, and DEL cleans up."""
    if sanitized():
        pytest.skip("a sanitizer's own system calls may not fail")
    network = network_of(machine, "builtin")
    pod = machine.pod("a")
    log = os.path.join(machine.dir, "strace.log")
    steps = steps_of(machine, network, pod, "ADD", log)
    network.delete(pod)
    # Before main() and after the answer nothing can be said; memory is abort(3)'s.
    spared = {"exit_group", "brk", "mmap", "munmap", "arch_prctl", "set_tid_address", "rseq",
              "set_robust_list", "prlimit64", "mprotect", "getrandom", "write", "close",
              "rt_sigaction", "rt_sigprocmask", "poll", "ppoll", "readlink"}
    wrong = []
    for name, number in steps:
        if name in spared:
            continue
        answer = machine.call(
            "flannel", "ADD", network.plugin_conf(network.plugins[0]), pod, path=network.path,
            wrap=("strace", "-o", "/dev/null", "-e",
                  f"inject={name}:error={error}:when={number}"))
        where = f"{name} number {number}"
        if answer.code == 0:
            pod.addresses = cni.addresses_of(answer.json)
            if traffic.ping(pod, "10.5.1.1") is None:
                wrong.append(f"{where}: success, but no network")
        elif not (name == "setns" and answer.code in (-6, 134)):
            try:
                answer.error()
            except AssertionError as e:
                wrong.append(f"{where}: {e}")
            left = [x for x in machine.leaks() if not x.startswith("veth")]
            if left:
                wrong.append(f"{where}: left {left}")
        network.delete(pod)
        left = [x for x in machine.leaks() if not x.startswith("veth")]
        if left:
            wrong.append(f"{where}: left after DEL {left}")
        try:
            expect.wait_until(lambda: not machine.veths(), 2, "no veth")
        except expect.Timeout:
            wrong.append(f"{where}: a veth stays after DEL")
            machine.ns.ip(*(f"link del {veth}" for veth in machine.veths()))
        machine.forget(pod)
    assert not wrong, "\n" + "\n".join(wrong)


# -- the delegate that hangs -----------------------------------------------------------


def test_delegate_that_hangs(hanging):
    """It is killed, with its child, and what it may have done is undone."""
    hanging.thread.join(DELEGATE_TIMEOUT_S + 30)
    error = hanging.answer.error()
    assert "hanging" in error["msg"], error
    assert str(DELEGATE_TIMEOUT_S) in error["msg"], error
    with open(hanging.path, encoding="ascii") as f:
        assert f.read().split() == ["ADD", "DEL"]
    wait_until(lambda: not strangers(hanging.machine), what="an end of the delegate's child")
    hanging.machine.assert_clean()
