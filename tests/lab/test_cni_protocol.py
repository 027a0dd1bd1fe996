# SPDX-License-Identifier: Apache-2.0
"""What a runtime and the plugin say to each other: versions, environment, configs, errors;
what the plugin and its delegates say, with delegates that behave badly.

    m --- cni0 --- veth --- eth0 of a pod
"""

import itertools
import json
import os
import subprocess

import pytest

from lib import cni

pytestmark = pytest.mark.needs("delegates")

_serial = itertools.count(1)

VERSION_UNSUPPORTED, ENVIRONMENT_INVALID, DECODING_FAILURE, CONFIG_INVALID = 1, 4, 6, 7
TRY_AGAIN_LATER, NOT_AVAILABLE = 11, 50
CONF = {"name": "cbr0", "cniVersion": "1.0.0", "type": "flannel",
        "delegate": {"hairpinMode": True, "isDefaultGateway": True}}


def conf(**more):
    return {**CONF, **more}


@pytest.fixture(scope="module")
def machine(lab):
    machine = cni.Machine(lab.namespace(f"p{next(_serial)}"), lab)
    yield machine
    machine.close()
    machine.ns.delete()


@pytest.fixture(autouse=True)
def clean(machine):
    machine.write_subnet_env()
    yield
    machine.assert_clean()


@pytest.fixture
def pod(machine):
    pod = machine.pod(f"pod{next(_serial)}")
    yield pod
    machine.remove_pod(pod)


def refused(machine, command, given, pod=None, **kwargs):
    """The error object of a call that must fail; nothing is there after it."""
    before = machine.files()
    answer = machine.call("flannel", command, given, pod, **kwargs)
    error = answer.error()
    assert "cniVersion" in error, error
    assert len(answer.text) < 4000
    assert machine.files() == before
    return error


# -- versions --------------------------------------------------------------------------


@pytest.mark.parametrize("given", [{"cniVersion": v} for v in cni.VERSIONS]
                         + [{}, "", conf(), {"cniVersion": "9.0.0"}],
                         ids=lambda g: str(g)[:24])
def test_version(machine, given):
    answer = machine.call("flannel", "VERSION", given)
    assert answer.code == 0, answer
    assert answer.json["supportedVersions"] == cni.VERSIONS
    wanted = given.get("cniVersion") if isinstance(given, dict) else None
    assert answer.json["cniVersion"] in ([wanted] if wanted in cni.VERSIONS else cni.VERSIONS)


@pytest.mark.parametrize("version", ["9.9.9", "0.5.0", "1.2.0", "2.0.0", "1", "latest"])
def test_version_that_nobody_knows(machine, pod, version):
    error = refused(machine, "ADD", conf(cniVersion=version), pod)
    assert error["code"] == VERSION_UNSUPPORTED
    assert version in error["msg"] + error.get("details", "")


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "0.3.0", "0.3.1"])
def test_check_is_of_later_versions(machine, pod, version):
    """As skel of the reference library says it."""
    assert refused(machine, "CHECK", conf(cniVersion=version), pod)["code"] == VERSION_UNSUPPORTED


@pytest.mark.parametrize("command", ["GC", "STATUS"])
def test_gc_and_status_are_of_1_1(machine, command):
    given = {**conf(cniVersion="1.0.0"), "cni.dev/valid-attachments": []}
    assert refused(machine, command, given)["code"] == VERSION_UNSUPPORTED


def test_config_without_version_is_the_oldest(machine, pod):
    given = {k: v for k, v in CONF.items() if k != "cniVersion"}
    answer = machine.call("flannel", "ADD", given, pod)
    assert answer.code == 0, answer
    assert answer.json["ip4"]["ip"].startswith("10.5.1.")
    assert machine.call("flannel", "DEL", given, pod).code == 0


@pytest.mark.parametrize("builtin", [True, False])
@pytest.mark.parametrize("version", cni.VERSIONS)
def test_shape_of_results(machine, pod, version, builtin):
    machine.write_subnet_env(cni.SUBNET_ENV_DUAL)
    network = cni.Network(machine, conf(cniVersion=version, builtin=builtin))
    result = network.add(pod)
    ip4, ip6 = (a for a in pod.addresses)
    if version in ("0.1.0", "0.2.0"):
        assert "ips" not in result and "interfaces" not in result
        assert result["ip4"]["ip"] == f"{ip4}/24" and result["ip4"]["gateway"] == "10.5.1.1"
        assert {"dst": "10.5.0.0/16"} in result["ip4"]["routes"]
        assert {"dst": "0.0.0.0/0", "gw": "10.5.1.1"} in result["ip4"]["routes"]
        assert result["ip6"]["ip"] == f"{ip6}/64"
    else:
        assert "ip4" not in result
        families = [ip.get("version") for ip in result["ips"]]
        assert families == ([None, None] if cni.at_least(version, "1.0.0") else ["4", "6"])
        assert [i["name"] for i in result["interfaces"]][::2] == ["cni0", "eth0"]
        assert [ip["interface"] for ip in result["ips"]] == [2, 2]
        assert result["interfaces"][2]["sandbox"] == pod.ns.path
    network.delete(pod)


def test_by_hand(machine):
    """Who starts it in a shell is told what it is."""
    answer = machine.call("flannel", "", "", unset=("CNI_COMMAND",))
    assert "flannel" in answer.text + answer.stderr


# -- environment -----------------------------------------------------------------------


@pytest.mark.parametrize("command,unset", [
    ("ADD", ["CNI_CONTAINERID"]), ("ADD", ["CNI_NETNS"]), ("ADD", ["CNI_IFNAME"]),
    ("ADD", ["CNI_PATH"]), ("ADD", ["CNI_CONTAINERID", "CNI_IFNAME"]),
    ("DEL", ["CNI_CONTAINERID"]), ("DEL", ["CNI_IFNAME"]), ("DEL", ["CNI_PATH"]),
    ("CHECK", ["CNI_CONTAINERID"]), ("CHECK", ["CNI_NETNS"]), ("CHECK", ["CNI_IFNAME"]),
])
def test_missing_variable(machine, pod, command, unset):
    error = refused(machine, command, CONF, pod, unset=unset)
    assert error["code"] == ENVIRONMENT_INVALID
    for name in unset:
        assert name in error["msg"], error


@pytest.mark.parametrize("command", ["add", "EXPLODE", "ADD "])
def test_unknown_command(machine, pod, command):
    error = refused(machine, command, CONF, pod)
    assert error["code"] == ENVIRONMENT_INVALID
    assert "CNI_COMMAND" in error["msg"]


TRICKS = ["../../../../etc/cron.d/x", "..", ".", "a/b", "/etc/passwd", ".hidden", "-rf", "a b",
          "a\nb", "a:eth0", "a;reboot", "$(reboot)", "%s%n", "\u00fcber", "x" * 300]


@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK"])
@pytest.mark.parametrize("name", TRICKS, ids=ascii)
def test_tricks_in_a_container_id(machine, pod, command, name):
    error = refused(machine, command, CONF, pod, container=name)
    assert error["code"] == ENVIRONMENT_INVALID
    assert "CNI_CONTAINERID" in error["msg"], error


@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK"])
@pytest.mark.parametrize("name", ["../x", "..", ".", "a/b", "a b", "a:b", "a\tb", "x" * 16,
                                  "eth0\n"], ids=ascii)
def test_tricks_in_an_interface_name(machine, pod, command, name):
    error = refused(machine, command, CONF, pod, ifname=name)
    assert error["code"] == ENVIRONMENT_INVALID
    assert "CNI_IFNAME" in error["msg"], error


@pytest.mark.parametrize("command", ["ADD", "DEL"])
@pytest.mark.parametrize("name", TRICKS, ids=ascii)
def test_tricks_in_a_network_name(machine, pod, command, name):
    error = refused(machine, command, conf(name=name), pod)
    assert error["code"] == CONFIG_INVALID
    assert "name" in error["msg"], error


@pytest.mark.parametrize("builtin", [True, False])
@pytest.mark.parametrize("container", ["a", "A.b_c-d", "0" * 64, "x" * 200])
@pytest.mark.parametrize("ifname", ["eth0", "net-1.2_3", "x" * 15, "%d", "\u00e4"], ids=ascii)
def test_sound_names(machine, pod, container, ifname, builtin):
    if ifname == "%d":
        pytest.skip("the kernel makes a number of it") if not builtin else None
    given = conf(builtin=builtin)
    answer = machine.call("flannel", "ADD", given, pod, ifname, container=container)
    if ifname == "%d":  # what the runtime asked for cannot be: then not at all
        answer.error()
        return
    assert answer.code == 0, answer
    assert pod.ns.ip_json("link", "show", "dev", ifname)
    assert machine.call("flannel", "DEL", given, pod, ifname, container=container).code == 0


# -- configs ---------------------------------------------------------------------------


@pytest.mark.parametrize("text", [
    "", "{", "[]", "null", "true", '"flannel"', '{"name": "cbr0",}', "{}{}", "\0", "{\xff}",
    '{"name":"cbr0","name', json.dumps(CONF)[:-1], "[" * 100000, '{"a":' * 50000,
], ids=lambda t: ascii(t[:16]))
@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_config_that_is_no_object(machine, pod, command, text):
    error = refused(machine, command, text.encode("latin-1"), pod)
    assert error["code"] in (DECODING_FAILURE, CONFIG_INVALID)


def test_config_that_is_endless(machine, pod):
    error = refused(machine, "ADD", conf(padding="x" * (2 << 20)), pod)
    assert error["code"] in (DECODING_FAILURE, CONFIG_INVALID)


@pytest.mark.parametrize("wrong,named", [
    ({"delegate": {"type": 7}}, "type"), ({"delegate": {"type": None}}, "type"),
    ({"delegate": {"type": ["bridge"]}}, "type"), ({"delegate": {"name": "x"}}, "name"),
    ({"delegate": {"ipam": {}}}, "ipam"), ({"delegate": []}, "delegate"),
    ({"delegate": "bridge"}, "delegate"), ({"ipam": []}, "ipam"), ({"ipam": "x"}, "ipam"),
    ({"subnetFile": 7}, "subnetFile"), ({"dataDir": 7}, "dataDir"),
    ({"builtin": "yes"}, "builtin"), ({"runtimeConfig": []}, "runtimeConfig"),
    ({"prevResult": "x"}, "prevResult"), ({"name": 7}, "name"), ({"name": None}, "name"),
    ({"cniVersion": 1}, "cniVersion"), ({"ipam": {"routes": "x"}}, "routes"),
    ({"ipam": {"routes": [{"dst": "nowhere"}]}}, "nowhere"), ({"ipam": {"type": 7}}, "type"),
], ids=str)
def test_config_with_wrong_types(machine, pod, wrong, named):
    error = refused(machine, "ADD", conf(**wrong), pod)
    assert error["code"] in (DECODING_FAILURE, CONFIG_INVALID, VERSION_UNSUPPORTED, 999)
    assert named in error["msg"] + error.get("details", ""), error


# -- the subnet file -------------------------------------------------------------------


@pytest.mark.parametrize("builtin", [True, False])
def test_subnet_file_missing(machine, pod, builtin):
    os.unlink(machine.subnet_file)
    error = refused(machine, "ADD", conf(builtin=builtin), pod)
    assert error["code"] == TRY_AGAIN_LATER
    assert "/run/flannel/subnet.env" in error["msg"]
    assert "is flanneld running on this node" in error["msg"]


def test_subnet_file_elsewhere(machine, pod):
    path = os.path.join(machine.dir, "other.env")
    error = refused(machine, "ADD", conf(subnetFile=path), pod)
    assert path in error["msg"]
    os.rename(machine.subnet_file, path)
    network = cni.Network(machine, conf(subnetFile=path))
    network.add(pod)
    network.delete(pod)


def test_subnet_file_missing_and_what_flanneld_last_said(machine, pod):
    os.unlink(machine.subnet_file)
    status = os.path.join(os.path.dirname(machine.subnet_file), "status")
    with open(status, "w", encoding="utf-8") as f:
        f.write("the datastore does not answer: connection refused\n")
    try:
        error = refused(machine, "ADD", CONF, pod)
        assert "the datastore does not answer" in error["msg"] + error.get("details", "")
    finally:
        os.unlink(status)


@pytest.mark.parametrize("lacking", [["FLANNEL_NETWORK"], ["FLANNEL_SUBNET"], ["FLANNEL_MTU"],
                                     ["FLANNEL_IPMASQ"], list(cni.SUBNET_ENV)], ids=str)
def test_subnet_file_incomplete(machine, pod, lacking):
    machine.write_subnet_env({k: v for k, v in cni.SUBNET_ENV.items() if k not in lacking})
    error = refused(machine, "ADD", CONF, pod)
    text = error["msg"] + error.get("details", "")
    assert "subnet.env" in text
    for key in lacking:
        assert key in text, error


@pytest.mark.parametrize("line", ["FLANNEL_SUBNET", "FLANNEL_SUBNET=", "FLANNEL_SUBNET=x",
                                  "FLANNEL_SUBNET=10.5.1.1/33", "FLANNEL_MTU=-1",
                                  "FLANNEL_MTU=many", "FLANNEL_NETWORK=10.5.0.0",
                                  "FLANNEL_NETWORK=,", "FLANNEL_IPV6_SUBNET=10.5.0.0/16"])
def test_subnet_file_wrong(machine, pod, line):
    key = line.split("=")[0]
    with open(machine.subnet_file, "w", encoding="ascii") as f:
        f.writelines(f"{k}={v}\n" for k, v in cni.SUBNET_ENV.items() if k != key)
        f.write(line + "\n")
    assert key in str(refused(machine, "ADD", CONF, pod))


def test_subnet_file_with_more_in_it(machine, pod):
    with open(machine.subnet_file, "a", encoding="ascii") as f:
        f.write("\n# a comment\nFLANNEL_FUTURE=7\n\n")
    network = cni.Network(machine, CONF)
    network.add(pod)
    network.delete(pod)


@pytest.mark.parametrize("what", ["directory", "fifo", "binary", "huge"])
def test_subnet_file_that_is_none(machine, pod, what):
    os.unlink(machine.subnet_file)
    if what == "directory":
        os.mkdir(machine.subnet_file)
    elif what == "fifo":
        os.mkfifo(machine.subnet_file)
    else:
        with open(machine.subnet_file, "wb") as f:
            f.write(bytes(range(256)) if what == "binary" else b"A=" + b"x" * (8 << 20))
    try:
        error = machine.call("flannel", "ADD", CONF, pod, timeout=5).error()
        assert "subnet.env" in error["msg"]
    finally:
        (os.rmdir if what == "directory" else os.unlink)(machine.subnet_file)


# -- STATUS ----------------------------------------------------------------------------


def test_status(machine):
    network = cni.Network(machine, conf(cniVersion="1.1.0"))
    network.status()
    os.unlink(machine.subnet_file)
    with pytest.raises(cni.CniError, match="is flanneld running on this node") as e:
        network.status()
    assert e.value.code == NOT_AVAILABLE
    machine.write_subnet_env({"FLANNEL_MTU": "1450"})
    with pytest.raises(cni.CniError, match="FLANNEL_SUBNET") as e:
        network.status()
    assert e.value.code == NOT_AVAILABLE


def test_status_without_the_delegate(machine):
    """A node that can make no pod is not ready."""
    given = conf(cniVersion="1.1.0", delegate={"type": "nosuch"})
    error = refused(machine, "STATUS", given)
    assert error["code"] == NOT_AVAILABLE
    assert "nosuch" in error["msg"]


# -- delegates -------------------------------------------------------------------------

RESULT = {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}],
          "ips": [{"address": "10.5.1.5/24", "gateway": "10.5.1.1", "interface": 0}],
          "routes": [{"dst": "10.5.0.0/16"}], "dns": {"nameservers": ["10.5.0.53"]}}


class Delegate:
    """A program of the test's as the delegate: keeps book of how it was called, and does
    what the test says for ADD."""

    def __init__(self, machine, name, on_add, on_del="", mode=0o755):
        self.dir = os.path.join(machine.dir, f"delegate-{name}")
        os.makedirs(self.dir)
        self.path = os.path.join(machine.bin, name)
        with open(self.path, "w", encoding="utf-8") as f:
            f.write(f"#!/bin/sh\ncd '{self.dir}' || exit 9\n"
                    "echo $CNI_COMMAND >>calls; env >env.$CNI_COMMAND; cat >stdin.$CNI_COMMAND\n"
                    f"case $CNI_COMMAND in ADD) {on_add or ':'} ;; DEL) {on_del or ':'} ;; esac\n")
        os.chmod(self.path, mode)

    def calls(self):
        try:
            with open(os.path.join(self.dir, "calls"), encoding="ascii") as f:
                return f.read().split()
        except FileNotFoundError:
            return []

    def stdin(self, command):
        with open(os.path.join(self.dir, f"stdin.{command}"), encoding="utf-8") as f:
            return json.load(f)

    def env(self, command):
        with open(os.path.join(self.dir, f"env.{command}"), encoding="utf-8") as f:
            return dict(line.rstrip("\n").split("=", 1) for line in f if "=" in line)


@pytest.fixture
def make_delegate(machine):
    made = []

    def make(*args, **kwargs):
        made.append(Delegate(machine, f"delegate{next(_serial)}", *args, **kwargs))
        return made[-1]

    yield make
    for one in made:
        os.unlink(one.path)


def says(value):
    return f"cat <<'EOF'\n{value if isinstance(value, str) else json.dumps(value)}\nEOF\n"


def with_delegate(delegate, **more):
    return conf(delegate={"type": os.path.basename(delegate.path), "custom": [1, {"a": None}]},
                **more)


@pytest.mark.parametrize("env", [cni.SUBNET_ENV, cni.SUBNET_ENV6, cni.SUBNET_ENV_DUAL,
                                 {**cni.SUBNET_ENV, "FLANNEL_IPMASQ": "false"},
                                 {**cni.SUBNET_ENV, "FLANNEL_NETWORK": "10.5.0.0/16,10.6.0.0/16"}],
                         ids=["ipv4", "ipv6", "dual", "masquerade", "networks"])
def test_what_a_delegate_is_told(machine, pod, make_delegate, env):
    machine.write_subnet_env(env)
    delegate = make_delegate(says(RESULT))
    given = with_delegate(
        delegate, ipam={"routes": [{"dst": "172.16.0.0/12", "gw": "10.5.1.9"}], "more": True},
        runtimeConfig={"portMappings": []})
    answer = machine.call("flannel", "ADD", given, pod, args="A=1;B=2")
    assert answer.code == 0, answer
    assert answer.json == RESULT
    want = {**cni.delegate_conf(given, env), "name": "cbr0", "cniVersion": "1.0.0",
            "runtimeConfig": {"portMappings": []}}
    assert machine.call("flannel", "CHECK", {**given, "prevResult": RESULT}, pod).code == 0
    assert machine.call("flannel", "DEL", given, pod, args="A=1;B=2").code == 0
    assert delegate.calls() == ["ADD", "CHECK", "DEL"]
    assert delegate.stdin("ADD") == want
    # Without a gateway Debian's plugins look for a route that has none, and find nothing.
    routes = [{"dst": "10.5.0.0/16", "gw": "10.5.1.1"}]
    assert delegate.stdin("CHECK")["prevResult"] == {**RESULT, "routes": routes}
    for command in ("CHECK", "DEL"):
        got = delegate.stdin(command)
        got.pop("prevResult", None)
        assert got == want
    for command in ("ADD", "DEL"):
        wanted = {"CNI_COMMAND": command, "CNI_CONTAINERID": pod.id, "CNI_NETNS": pod.ns.path,
                  "CNI_IFNAME": "eth0", "CNI_ARGS": "A=1;B=2", "CNI_PATH": machine.bin}
        got = delegate.env(command)
        assert {k: v for k, v in got.items() if k.startswith("CNI_")} == wanted
        assert got["PATH"] == os.environ["PATH"]


def test_gateway_is_for_bridges_only(machine, pod, make_delegate):
    delegate = make_delegate(says(RESULT))
    network = cni.Network(machine, with_delegate(delegate))
    network.add(pod)
    assert "isGateway" not in delegate.stdin("ADD")
    network.delete(pod)


def test_what_the_config_gives_stays(machine, pod, make_delegate):
    delegate = make_delegate(says(RESULT))
    given = with_delegate(delegate)
    given["delegate"].update(mtu=1234, ipMasq=True, isGateway=False)
    network = cni.Network(machine, given)
    network.add(pod)
    got = delegate.stdin("ADD")
    assert (got["mtu"], got["ipMasq"], got["isGateway"]) == (1234, True, False)
    network.delete(pod)


@pytest.mark.parametrize("version", cni.VERSIONS)
@pytest.mark.parametrize("answered", ["0.2.0", "0.3.1", "1.0.0"])
def test_answers_are_converted(machine, pod, make_delegate, version, answered):
    """A delegate may answer in a version of its own."""
    result = {"0.2.0": {"cniVersion": "0.2.0", "ip4": {
                  "ip": "10.5.1.5/24", "gateway": "10.5.1.1", "routes": [{"dst": "10.5.0.0/16"}]}},
              "0.3.1": {**RESULT, "cniVersion": "0.3.1",
                        "ips": [{**RESULT["ips"][0], "version": "4"}]},
              "1.0.0": RESULT}[answered]
    network = cni.Network(machine, with_delegate(make_delegate(says(result)), cniVersion=version))
    got = network.add(pod)
    assert pod.addresses == ["10.5.1.5"]
    assert got["cniVersion"] == version
    assert ("ip4" in got) == (version in ("0.1.0", "0.2.0"))
    if "ips" in got:
        assert got["ips"][0].get("version") == (None if cni.at_least(version, "1.0.0") else "4")
    network.delete(pod)


def test_delegate_that_knows_older_versions(machine, pod):
    """Debian's ptp knows 1.0.0."""
    network = cni.Network(machine, conf(cniVersion="1.1.0", delegate={"type": "ptp"}))
    assert network.add(pod)["cniVersion"] == "1.1.0"
    network.delete(pod)


@pytest.mark.parametrize("on_add,named", [
    (says({"cniVersion": "1.0.0", "code": 123, "msg": "no luck today", "details": "sorry"})
     + "exit 1", "no luck today"),
    (says({"code": 123, "msg": "no luck today"}) + "exit 1", "no luck today"),
    ("echo '{'; exit 1", None), ("exit 1", None), ("exit 3", "3"), ("kill -9 $$", "9"),
    ("echo garbage", None), (":", None), ("echo '[]'", None), ("echo '{\"ips\":7}'", None),
    ("echo '{\"cniVersion\":\"7.7.7\"}'", None), (says(RESULT) + "echo more", None),
    ("head -c 3000000 /dev/zero", None), ("yes", None),
    ("head -c 3000000 /dev/zero | tr '\\0' ' '", None),
], ids=lambda v: (v or "")[:20].replace("\n", " "))
def test_delegate_that_fails(machine, pod, make_delegate, on_add, named):
    """Its name is said, its error passed on, and what it may have done is undone."""
    delegate = make_delegate(on_add)
    error = refused(machine, "ADD", with_delegate(delegate), pod)
    assert os.path.basename(delegate.path) in error["msg"], error
    if named:
        assert named in error["msg"] + error.get("details", ""), error
    if "123" in on_add:
        assert error["code"] == 123
    assert delegate.calls() == ["ADD", "DEL"]


def test_delegate_whose_undoing_fails(machine, pod, make_delegate):
    """The first error is the one that is told; a runtime's DEL cleans up."""
    failing = says({"code": 123, "msg": "no luck"}) + "exit 1"
    delegate = make_delegate(failing, on_del=says({"code": 124, "msg": "nor now"}) + "exit 1")
    answer = machine.call("flannel", "ADD", with_delegate(delegate), pod)
    assert answer.error()["code"] == 123
    os.unlink(delegate.path)
    machine_delegate = Delegate.__new__(Delegate)
    machine_delegate.dir, machine_delegate.path = delegate.dir, delegate.path
    with open(delegate.path, "w", encoding="ascii") as f:
        f.write("#!/bin/sh\nexit 0\n")
    os.chmod(delegate.path, 0o755)
    assert machine.call("flannel", "DEL", with_delegate(delegate), pod).code == 0


def test_saved_config_stays_until_the_delegate_succeeds(machine, pod, make_delegate):
    delegate = make_delegate(
        says(RESULT), on_del="[ -e now ] || { " + says({"code": 11, "msg": "later"}) + "exit 1; }")
    network = cni.Network(machine, with_delegate(delegate))
    network.add(pod)
    for _ in range(2):
        with pytest.raises(cni.CniError, match="later"):
            network.delete(pod)
        assert machine.files("flannel")
    with open(os.path.join(delegate.dir, "now"), "w", encoding="ascii"):
        pass
    network.delete(pod)
    assert delegate.calls() == ["ADD", "DEL", "DEL", "DEL"]


def test_delegate_says_something_on_stderr(machine, pod, make_delegate):
    delegate = make_delegate("head -c 300000 /dev/zero | tr '\\0' x >&2; echo hello >&2\n"
                             + says(RESULT))
    given = with_delegate(delegate)
    answer = machine.call("flannel", "ADD", given, pod)
    assert answer.code == 0 and answer.json == RESULT
    assert answer.stderr.endswith("hello\n") and len(answer.stderr) > 300000
    assert machine.call("flannel", "DEL", given, pod).code == 0


def test_delegate_that_reads_nothing(machine, pod):
    """A config that does not fit into the pipe, and nobody at its other end."""
    path = os.path.join(machine.bin, "deaf")
    with open(path, "w", encoding="ascii") as f:
        f.write("#!/bin/sh\nexec <&-\n[ $CNI_COMMAND = DEL ] && exit 0\n" + says(RESULT))
    os.chmod(path, 0o755)
    given = conf(delegate={"type": "deaf", "padding": "x" * 500000})
    answer = machine.call("flannel", "ADD", given, pod, timeout=10)
    assert answer.code == 0 and answer.json == RESULT, answer.error()
    assert machine.call("flannel", "DEL", given, pod, timeout=10).code == 0
    os.unlink(path)


def test_delegate_that_leaves_a_process(machine, pod, make_delegate):
    """Who still holds the pipe's other end is no reason to wait for him."""
    delegate = make_delegate("sleep 60 2>/dev/null & echo $! >left\n" + says(RESULT))
    given = with_delegate(delegate)
    try:
        answer = machine.call("flannel", "ADD", given, pod, timeout=10)
        assert answer.code == 0 and answer.json == RESULT, answer
    finally:
        with open(os.path.join(delegate.dir, "left"), encoding="ascii") as f:
            os.kill(int(f.read()), 9)
    assert machine.call("flannel", "DEL", given, pod).code == 0


@pytest.mark.parametrize("builtin", [True, False])
def test_delegate_that_is_missing(machine, pod, builtin):
    error = refused(machine, "ADD", conf(delegate={"type": "nosuch"}, builtin=builtin), pod)
    assert "nosuch" in error["msg"] and machine.bin in error["msg"], error


def test_bridge_that_is_missing(machine, pod):
    path = machine.without("bridge")
    error = refused(machine, "ADD", conf(builtin=False), pod, path=path)
    assert "bridge" in error["msg"] and path in error["msg"], error


def test_delegate_that_is_missing_at_del(machine, pod, make_delegate):
    delegate = make_delegate(says(RESULT))
    network = cni.Network(machine, with_delegate(delegate))
    network.add(pod)
    os.rename(delegate.path, delegate.path + ".away")
    with pytest.raises(cni.CniError, match=os.path.basename(delegate.path)):
        network.delete(pod)
    os.rename(delegate.path + ".away", delegate.path)
    network.delete(pod)
    assert delegate.calls() == ["ADD", "DEL"]


def test_delegate_that_cannot_be_executed(machine, pod, make_delegate):
    delegate = make_delegate(says(RESULT), mode=0o644)
    error = refused(machine, "ADD", with_delegate(delegate), pod)
    assert os.path.basename(delegate.path) in error["msg"]
    os.chmod(delegate.path, 0o755)
    with open(delegate.path, "wb") as f:
        f.write(b"\x7fELF but no more")
    error = refused(machine, "ADD", with_delegate(delegate), pod)
    assert os.path.basename(delegate.path) in error["msg"]


@pytest.mark.parametrize("kind", ["../bin/bridge", "/usr/lib/cni/bridge", "./bridge", "..", "",
                                  "bridge;reboot", "flannel"], ids=ascii)
def test_tricks_in_a_delegate_s_type(machine, pod, kind):
    """Names are looked for in CNI_PATH, and nowhere else; and never the plugin itself."""
    error = refused(machine, "ADD", conf(delegate={"type": kind}), pod)
    assert "type" in error["msg"] or ascii(kind)[1:-1] in error["msg"] + error.get("details", "")


def test_path_of_several_directories(machine, pod, make_delegate):
    delegate = make_delegate(says(RESULT))
    given = with_delegate(delegate)
    path = f"/nonexistent:{machine.bin}/flannel:{machine.bin}"
    for command in ("ADD", "DEL"):
        answer = machine.call(f"{machine.bin}/flannel", command, given, pod, path=path)
        assert answer.code == 0, answer
    assert delegate.env("ADD")["CNI_PATH"] == path


# -- installing ------------------------------------------------------------------------


@pytest.mark.parametrize("single", [True, False])
def test_install(machine, pod, single):
    """What is installed is what a runtime finds and runs."""
    top = os.path.join(machine.dir, f"node{next(_serial)}")
    source = os.path.join(machine.dir, "source.json")
    given = CONF if single else {"name": "cbr0", "cniVersion": "1.0.0",
                                 "plugins": [{k: CONF[k] for k in ("type", "delegate")}]}
    with open(source, "w", encoding="utf-8") as f:
        json.dump(given, f)
    for directory in ("bin", "net.d"):
        os.makedirs(os.path.join(top, directory))
    command = [cni.FLANNEL, "--install", source, f"{top}/bin", f"{top}/net.d"]
    for _ in range(2):
        subprocess.run(command, check=True, capture_output=True)
        assert os.listdir(f"{top}/bin") == ["flannel"]
        assert os.stat(f"{top}/bin/flannel").st_mode & 0o777 == 0o755
        (name,) = os.listdir(f"{top}/net.d")
        assert name == ("10-flannel.conf" if single else "10-flannel.conflist")
    with open(f"{top}/net.d/{name}", encoding="utf-8") as f:
        network = cni.Network(machine, json.load(f), f"{top}/bin")
    network.add(pod)
    network.delete(pod)


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", json.dumps({**CONF, "type": "bridge"})])
def test_install_of_what_is_no_config(machine, text):
    """Nothing is touched."""
    top = os.path.join(machine.dir, f"node{next(_serial)}")
    source = os.path.join(machine.dir, "source.json")
    with open(source, "w", encoding="utf-8") as f:
        f.write(text)
    os.makedirs(top)
    done = subprocess.run([cni.FLANNEL, "--install", source, top, top], check=False,
                          capture_output=True, text=True)
    assert done.returncode != 0 and source in done.stderr
    assert os.listdir(top) == []
