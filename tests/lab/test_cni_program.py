# SPDX-License-Identifier: Apache-2.0
"""The CNI plugin as a program: what is on stdout and stderr, how it ends, by hand and in chains
with the real plugins. No flanneld here: the subnet file is a file.
"""

import json
import os
import subprocess

import pytest

from lib.node import FLANNELD

FLANNEL = os.path.join(os.path.dirname(FLANNELD), "flannel")
PLUGINS = "/usr/lib/cni"
VERSIONS = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]


def run(*args, stdin="", **env):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("CNI_")}
    done = subprocess.run([FLANNEL, *args], input=stdin, capture_output=True, text=True,
                          timeout=60, env=clean | env)
    return done


def error_of(done):
    assert done.returncode == 1 and done.stderr == "", done
    return json.loads(done.stdout)


def test_by_hand():
    done = run()
    assert done.returncode == 0 and done.stdout == ""
    assert done.stderr.startswith("CNI plugin flannel, weft ") and "1.1.0" in done.stderr
    assert run(CNI_COMMAND="").returncode == 0
    done = run("--version")
    assert done.returncode == 0 and done.stdout.startswith("CNI plugin flannel, weft ")
    done = run("--help")
    assert done.returncode == 0 and "--install CONF BIN-DIR CONF-DIR" in done.stdout
    for args in (["--nonsense"], ["--install", "x"], ["--version", "x"]):
        done = run(*args)
        assert done.returncode == 2 and done.stdout == "" and args[0] in done.stderr


def test_version():
    for stdin in ("", '{"cniVersion": "1.0.0"}', "rubbish"):
        done = run(stdin=stdin, CNI_COMMAND="VERSION")
        assert done.returncode == 0 and done.stderr == ""
        assert json.loads(done.stdout) == {"cniVersion": "1.1.0", "supportedVersions": VERSIONS}


@pytest.mark.parametrize("stdin, env, code, words", [
    ("{}", {"CNI_COMMAND": "FROB"}, 4, "CNI_COMMAND=FROB"),
    ("{}", {"CNI_COMMAND": "ADD"}, 4, "CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_PATH"),
    ("{", {}, 6, "line 1"),
    ("", {}, 6, "network config"),
    ("{}", {}, 7, "name: missing"),
    ('{"name": "n", "cniVersion": "1.9.0"}', {}, 1, '"1.9.0"'),
    ('{"name": "n"}', {"CNI_CONTAINERID": "../x"}, 4, "CNI_CONTAINERID=../x"),
    ('{"name": "n"}', {"CNI_NETNS": "/proc/self/ns/net"}, 8, "/proc/self/ns/net"),
    ('{"name": "n", "subnetFile": "/nowhere"}', {}, 11, "is flanneld running on this node?"),
])
def test_error_objects(stdin, env, code, words):
    names = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "a", "CNI_IFNAME": "eth0",
             "CNI_NETNS": "/nowhere", "CNI_PATH": "/nowhere"}
    error = error_of(run(stdin=stdin, **(env if "CNI_COMMAND" in env else names | env)))
    assert error["code"] == code and words in error["msg"], error
    assert error["cniVersion"] in VERSIONS


def test_a_config_without_end():
    error = error_of(run(stdin="x" * (1 << 20) + "x", CNI_COMMAND="STATUS", CNI_PATH="/nowhere"))
    assert error["code"] == 6 and "longer than 1048576 bytes" in error["msg"], error


# -- with the real plugins -------------------------------------------------------------

def ip(*args):
    subprocess.run(["ip", *args], check=True, timeout=30)


@pytest.fixture
def host(tmp_path):
    """A subnet file, two namespaces: the host's, a pod's."""
    if not os.access(f"{PLUGINS}/bridge", os.X_OK):
        pytest.skip("no plugins here (Debian: containernetworking-plugins)")
    names = [f"{n}-{os.getpid()}" for n in ("weft-cni-host", "weft-cni-pod")]
    for name in names:
        ip("netns", "add", name)
    (tmp_path / "subnet.env").write_text(
        "FLANNEL_NETWORK=10.244.0.0/16,10.99.0.0/16\nFLANNEL_SUBNET=10.244.1.1/24\n"
        "FLANNEL_IPV6_NETWORK=fd00::/48\nFLANNEL_IPV6_SUBNET=fd00:0:0:1::1/64\n"
        "FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n")
    yield Host(tmp_path, *names)
    for name in names:
        ip("netns", "del", name)


class Host:
    def __init__(self, path, name, pod):
        self.path, self.name, self.pod = path, name, pod

    def call(self, command, version, **members):
        done = self.run(command, version, subprocess.PIPE, **members)
        assert done.returncode == 0 and done.stderr == "", done
        return json.loads(done.stdout) if done.stdout else None

    def run(self, command, version, stdout, **members):
        conf = {"cniVersion": version, "name": "cbr0", "type": "flannel", "builtin": False,
                "subnetFile": str(self.path / "subnet.env"), "dataDir": str(self.path / "data"),
                "ipam": {"dataDir": str(self.path / "net")}} | members
        env = {"PATH": os.environ["PATH"], "CNI_COMMAND": command, "CNI_CONTAINERID": "abc",
               "CNI_NETNS": f"/run/netns/{self.pod}", "CNI_IFNAME": "eth0", "CNI_PATH": PLUGINS}
        return subprocess.run(["ip", "netns", "exec", self.name, FLANNEL], stdout=stdout,
                              stderr=subprocess.PIPE, input=json.dumps(conf), text=True,
                              timeout=60, env=env)

    def pod_json(self, *args):
        out = subprocess.run(["ip", "-j", "-n", self.pod, *args], check=True, capture_output=True,
                             timeout=30).stdout
        return json.loads(out or "[]")

    def left(self):
        net = self.path / "net" / "cbr0"
        return sorted([p.name for p in (self.path / "data").iterdir()]
                      + [p.name for p in net.iterdir() if p.name[0].isdigit()])


@pytest.mark.parametrize("kind", ["bridge", "ptp"])
@pytest.mark.parametrize("version", VERSIONS)
def test_with_the_real_plugins(host, version, kind):
    delegate = {"delegate": {"type": kind}}
    result = host.call("ADD", version, **delegate)
    assert result["cniVersion"] == version
    if version < "0.3.0":
        addresses = {result["ip4"]["ip"], result["ip6"]["ip"]}
    else:
        addresses = {entry["address"] for entry in result["ips"]}
        assert result["interfaces"][-1]["sandbox"].endswith(host.pod)
        assert all(("version" in entry) == (version < "1.0.0") for entry in result["ips"])
    link, = [e for e in host.pod_json("addr", "show", "eth0")]
    there = {f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["scope"] == "global"}
    assert {a.split("/")[0] for a in addresses} == {a.split("/")[0] for a in there}
    assert link["mtu"] == 1450
    routes = {r["dst"] for r in host.pod_json("route") + host.pod_json("-6", "route")}
    assert {"10.244.0.0/16", "10.99.0.0/16", "fd00::/48"} <= routes, routes
    if version >= "0.4.0":
        host.call("CHECK", version, prevResult=result, **delegate)
    if version >= "1.1.0":
        host.call("STATUS", version, **delegate)
        valid = [{"containerID": "abc", "ifname": "eth0"}]
        host.call("GC", version, **{"cni.dev/valid-attachments": valid}, **delegate)
        assert host.pod_json("addr", "show", "eth0")
    (host.path / "subnet.env").unlink()
    for _ in range(2):
        host.call("DEL", version, **delegate)
        assert host.left() == []
    assert "eth0" not in {e["ifname"] for e in host.pod_json("link")}


def test_an_answer_that_nobody_reads(host):
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = host.run("ADD", "1.0.0", full)
    assert done.returncode == 1 and "cannot write the answer: No space left" in done.stderr
    assert host.left() == []
    assert "eth0" not in {e["ifname"] for e in host.pod_json("link")}
