# SPDX-License-Identifier: Apache-2.0
"""Bad input is answered by one line: which flag or file, what is there, what is right.

     h1
    -+- sw1

Exit code 1, 2 for usage; nothing half-applied: no record, no device, no subnet file.
"""

import json
import os
import re

import pytest

from lib import shim
from lib.expect import stays, wait_until

pytestmark = pytest.mark.needs("vxlan")

GOOD = {"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}


@pytest.fixture
def topo(make_topo):
    return make_topo(1)


@pytest.fixture
def h1(topo):
    host = topo["h1"]
    topo.store.write_config(GOOD)
    yield host
    assert topo.store.keys() == [], "a record was written"
    assert host.read_subnet_env() is None
    assert host.overlay(["10.0.0.0/8"]) == {"devices": {}, "routes": {}}
    assert not [e for e in host.nft_json() if "table" in e]


def assert_one_line(done, code, *patterns):
    """Exactly one error line, which matches all patterns."""
    assert done.code == code, f"exit {done.code}:\n{done.text}"
    lines = done.lines("E") if code == 1 else done.text.strip().splitlines()[:1]
    assert len(lines) == 1, done.text
    for pattern in patterns:
        assert re.search(pattern, lines[0], re.I), f"/{pattern}/ not in: {lines[0]}"


@pytest.mark.parametrize("flag, patterns", [
    ("--no-such-flag", ["no-such-flag"]),
    ("--no-such-flag=1", ["no-such-flag"]),
    ("stray", ["stray"]),
    ("--healthz-port=http", ["healthz-port", "http"]),
    ("--healthz-port=70000", ["healthz-port", "70000"]),
    ("--healthz-ip=localhost", ["healthz-ip", "localhost"]),
    ("--public-ip=1.2.3", ["public-ip", r"1\.2\.3"]),
    ("--public-ip=fd00::1", ["public-ip", "fd00::1"]),
    ("--public-ipv6=1.2.3.4", ["public-ipv6", r"1\.2\.3\.4"]),
    ("--ip-masq=perhaps", ["ip-masq", "perhaps"]),
    ("--subnet-lease-renew-margin=0", ["subnet-lease-renew-margin", "0", "1439"]),
    ("--subnet-lease-renew-margin=1440", ["subnet-lease-renew-margin", "1440", "1439"]),
    ("--tx-checksum=maybe", ["tx-checksum", "maybe", "auto"]),
    ("--iface-regex=([", ["iface-regex"]),
    ("--subnet-file=", ["subnet-file"]),
])
def test_a_bad_flag(h1, flag, patterns):
    assert_one_line(h1.run_flanneld(flag), 2, *patterns)


def test_a_bad_environment_variable(h1):
    done = h1.run_flanneld(env={"FLANNELD_IP_MASQ": "perhaps"})
    assert_one_line(done, 2, "FLANNELD_IP_MASQ", "perhaps")


def test_help_and_version(h1):
    done = h1.run_flanneld("--help")
    assert done.code == 0 and "--subnet-dir" in done.text and "--iface" in done.text
    done = h1.run_flanneld("--version")
    assert done.code == 0 and re.search(r"\d+\.\d+", done.text)


@pytest.mark.parametrize("change, patterns", [
    ({"Network": "10.5.0.0/99"}, ["Network", r"10\.5\.0\.0/99"]),
    ({"Network": "10.5.0.0"}, ["Network", r"10\.5\.0\.0"]),
    ({"Network": "banana"}, ["Network", "banana"]),
    ({"Network": 5}, ["Network", "string"]),
    ({"Network": None}, ["Network"]),
    ({"Network": "10.5.0.0/29"}, ["10.5.0.0/29"]),
    ({"SubnetLen": 31}, ["SubnetLen", "31", "30"]),
    ({"SubnetLen": 12}, ["SubnetLen", "12"]),
    ({"SubnetLen": "24"}, ["SubnetLen"]),
    ({"SubnetMin": "10.6.0.0"}, ["SubnetMin", r"10\.6\.0\.0", r"10\.5\.0\.0/16"]),
    ({"SubnetMax": "10.6.0.0"}, ["SubnetMax", r"10\.6\.0\.0"]),
    ({"SubnetMin": "10.5.1.7"}, ["SubnetMin", r"10\.5\.1\.7"]),
    ({"SubnetMin": "10.5.9.0", "SubnetMax": "10.5.8.0"}, ["SubnetM"]),
    ({"EnableIPv6": True}, ["IPv6Network"]),
    ({"EnableIPv6": True, "IPv6Network": "10.5.0.0/16"}, ["IPv6Network"]),
    ({"EnableIPv4": False}, ["EnableIPv"]),
    ({"EnableIPv4": "yes"}, ["EnableIPv4"]),
    ({"Backend": "vxlan"}, ["Backend"]),
    ({"Backend": {"Type": "vxlna"}}, ["vxlna", "vxlan", "host-gw"]),
    ({"Backend": {"Type": 7}}, ["Type"]),
    ({"Backend": {}}, ["Type"]),
    ({"Backend": {"Type": "vxlan", "VNI": "one"}}, ["VNI"]),
    ({"Backend": {"Type": "vxlan", "VNI": 16777216}}, ["VNI", "16777216", "16777215"]),
    ({"Backend": {"Type": "vxlan", "Port": 65536}}, ["Port", "65536", "65535"]),
    ({"Backend": {"Type": "vxlan", "DirectRouting": "true"}}, ["DirectRouting"]),
    ({"Backend": {"Type": "vxlan", "MTU": 300}}, ["MTU", "300"]),
])
def test_a_bad_config(h1, topo, change, patterns):
    topo.store.write_config({k: v for k, v in {**GOOD, **change}.items() if v is not None})
    assert_one_line(h1.run_flanneld(), 1, topo.store.file("config"), *patterns)


@pytest.mark.parametrize("text, patterns", [
    ('{"Network": "10.5.0.0/16",\n "Backend": {"Type" "vxlan"}}', ["line 2", "column|position"]),
    ("{", ["line 1"]),
    ("[]", ["object"]),
    ('{"Network": "10.5.0.0/16"} trailing', ["line 1"]),
    ("\xff\xfe\0", []),
    ("", []),
], ids=["colon", "half", "array", "trailing", "binary", "empty"])
def test_a_config_that_does_not_parse(h1, topo, text, patterns):
    topo.store.write_config(text)
    assert_one_line(h1.run_flanneld(), 1, topo.store.file("config"), *patterns)


def test_the_mtu_of_the_nic_is_too_small(h1):
    h1.ip("link set eth0 mtu 600")
    try:
        assert_one_line(h1.run_flanneld(), 1, "eth0", "600", "626")
    finally:
        h1.ip("link set eth0 mtu 1500")


KUBECONFIG = """apiVersion: v1
kind: Config
current-context: lab
contexts:
- name: other
  context: {cluster: lab, user: lab}
"""


@pytest.mark.parametrize("flags, env, patterns", [
    ([], {}, ["NODE_NAME", "POD_NAME and POD_NAMESPACE"]),
    ([], {"NODE_NAME": "h1"}, ["KUBERNETES_SERVICE_HOST", "--kubeconfig-file"]),
    ([], {"NODE_NAME": "h1/.."}, ["NODE_NAME", "h1/.."]),
    (["--kubeconfig-file=/nowhere/kubeconfig"], {"NODE_NAME": "h1"}, ["/nowhere/kubeconfig"]),
    (["--kubeconfig-file={dir}/kubeconfig"], {"NODE_NAME": "h1"}, ["kubeconfig", "lab"]),
    (["--kube-api-url=https://:bad"], {"NODE_NAME": "h1"}, ["https://:bad"]),
    (["--kube-api-url=http://192.0.2.1", "--kube-annotation-prefix=nodot"], {"NODE_NAME": "h1"},
     ["--kube-annotation-prefix"]),
], ids=str)
def test_kubernetes(h1, flags, env, patterns):
    with open(f"{h1.dir}/kubeconfig", "w", encoding="ascii") as f:
        f.write(KUBECONFIG)
    none = {name: "" for name in ("NODE_NAME", "POD_NAME", "POD_NAMESPACE",
                                  "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")}
    done = h1.run_flanneld("--kube-subnet-mgr", *(f.format(dir=h1.dir) for f in flags),
                           env={**none, **env}, subnet_dir=False)
    assert_one_line(done, 1, *patterns)


@pytest.mark.needs("setpriv")
def test_a_missing_capability_is_named(h1):
    done = h1.run_flanneld(wrap=("setpriv", "--bounding-set=-net_admin", "--inh-caps=-all"))
    assert_one_line(done, 1, "CAP_NET_ADMIN")


@pytest.mark.needs("cc")
def test_a_kernel_without_vxlan(h1, topo):
    """Whether the daemon gives up or goes on trying, it says what is missing."""
    done = h1.run_flanneld(env=shim.no_vxlan(topo.lab))
    assert_one_line(done, 1, "vxlan", "kernel")


def test_a_subnet_file_that_cannot_be_written(topo, h1):
    done = h1.run_flanneld("--subnet-file=/proc/nowhere/subnet.env")
    assert_one_line(done, 1, "/proc/nowhere")


def test_the_config_is_missing(make_topo):
    """Not an error: it is waited for, and says so."""
    topo = make_topo(1)
    h1 = topo["h1"]
    h1.allow_log("W", "config")
    h1.start_flanneld(wait=False)
    h1.wait_log(re.escape(topo.store.file("config")))
    stays(lambda: h1.process.poll() is None, 0.2)
    topo.store.write_config(GOOD)
    h1.wait_ready()


@pytest.mark.parametrize("config, word", [
    ({**GOOD, "Backend": {"Type": "vxlan", "DirectRoutin": True}}, "DirectRoutin"),
    ({**GOOD, "Backend": {"Type": "vxlan", "vnii": 7}}, "vnii"),
    ({**GOOD, "SubnetLength": 24}, "SubnetLength"),
    ({**GOOD, "EnableIPV66": True}, "EnableIPV66"),
], ids=lambda v: v if isinstance(v, str) else "")
def test_a_misspelt_option_is_warned_of(make_topo, config, word):
    topo = make_topo(1)
    topo.allow_log("W", f"(?i){word}")
    topo.start(config)
    topo["h1"].wait_log(f"(?i)^W.*{word}")


def test_an_mtu_above_that_of_the_nic_is_taken_with_a_warning(make_topo):
    """The kernel would cut it down, too; the NIC's own may be raised later."""
    topo = make_topo(1)
    topo.allow_log("W", "MTU 9000 is larger than the 1500 of eth0")
    topo.start({"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "MTU": 9000}})
    topo["h1"].wait_log("^W.*MTU 9000 is larger")
    assert topo["h1"].read_subnet_env()["FLANNEL_MTU"] == "1450"


@pytest.mark.parametrize("config", [
    '{"network":"10.5.0.0/16","backend":{"type":"vxlan","Directrouting":true}}',
    '{"NETWORK":"10.5.0.0/16","BACKEND":{"TYPE":"VXLAN","VNI":1}}',
    '{"Network":"10.5.3.7/16","Backend":{"Type":"vxlan"}}',
    '\n\n{"Network":"10.5.0.0/16", "Backend":{"Type":"vxlan","Port":0}}\n',
], ids=["mixed", "upper", "host-bits", "blank-lines"])
def test_configs_that_look_odd_and_are_fine(make_topo, config):
    topo = make_topo(1)
    topo.start(config)
    assert topo["h1"].read_subnet_env()["FLANNEL_NETWORK"] == "10.5.0.0/16"


def test_a_config_of_several_megabytes(make_topo):
    topo = make_topo(1)
    topo.store.write_config(json.dumps({**GOOD, "Padding": "x" * (3 << 20)}))
    h1 = topo["h1"]
    h1.allow_log("W", "is longer than")
    h1.start_flanneld(wait=False)
    h1.wait_readyz(503, "config is longer than 1048576 bytes")
    assert os.listdir(topo.store.file("subnets")) == []
    topo.store.write_config(GOOD)  # as one that cannot be read: waited for
    h1.wait_ready()


def test_a_config_that_is_a_fifo_does_not_block(make_topo):
    topo = make_topo(1)
    h1 = topo["h1"]
    h1.allow_log("WE", "config")
    os.mkfifo(topo.store.file("config"))
    h1.start_flanneld(wait=False)
    wait_until(lambda: h1.process.poll() is not None or h1.get_or_none("/healthz"))
    if h1.process.poll() is not None:
        assert h1.process.returncode == 1
        h1.process = None
