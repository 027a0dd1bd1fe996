# SPDX-License-Identifier: Apache-2.0
"""test_manifests.py - deploy/kube-flannel.yml, the kustomizations and the chart

That Kubernetes takes them is what kubeschema.py knows of its types; there is no API server
here. What flannel's own manifests are called, and by which labels they are selected, is here.
"""

import copy
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

import gotemplate
import kubeschema

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests", "lab"))

from lib.kube_rbac import FLANNEL_RULES  # noqa: E402

CHART = "deploy/helm/kube-flannel"
# What flannel v0.28's manifest makes.
ORIGINALS = [
    ("Namespace", None, "kube-flannel"), ("ClusterRole", None, "flannel"),
    ("ClusterRoleBinding", None, "flannel"), ("ServiceAccount", "kube-flannel", "flannel"),
    ("ConfigMap", "kube-flannel", "kube-flannel-cfg"),
    ("DaemonSet", "kube-flannel", "kube-flannel-ds"),
]


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as f:
        return f.read()


def manifest():
    return kubeschema.load(read("deploy/kube-flannel.yml"))


def one(documents, kind):
    found, = [d for d in documents if d["kind"] == kind]
    return found


def pod_of(documents):
    return one(documents, "DaemonSet")["spec"]["template"]["spec"]


def version():
    return re.search(r"^\tversion: '(.*)',", read("meson.build"), re.M)[1]


# -- the manifest ----------------------------------------------------------------------

def test_kubernetes_takes_it():
    kubeschema.check(manifest())


def test_names_are_those_of_flannel():
    documents = manifest()
    names = [(d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"])
             for d in documents]
    assert names == ORIGINALS
    assert all(d["metadata"].get("labels", {}).get("k8s-app") == "flannel" for d in documents)
    daemonset = one(documents, "DaemonSet")
    assert daemonset["spec"]["selector"] == {"matchLabels": {"app": "flannel"}}
    assert daemonset["spec"]["template"]["metadata"]["labels"] == {"tier": "node",
                                                                   "app": "flannel"}
    assert set(one(documents, "ConfigMap")["data"]) == {"cni-conf.json", "net-conf.json"}


def test_rules_are_those_that_the_lab_gives():
    assert one(manifest(), "ClusterRole")["rules"] == FLANNEL_RULES


def test_privileges():
    pod = pod_of(manifest())
    assert pod["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
    added = {}
    for c in pod["initContainers"] + pod["containers"]:
        context = c["securityContext"]
        assert context["readOnlyRootFilesystem"] is True, c["name"]
        assert context["allowPrivilegeEscalation"] is False, c["name"]
        assert not context.get("privileged"), c["name"]
        assert context["capabilities"]["drop"] == ["ALL"], c["name"]
        added[c["name"]] = context["capabilities"]["add"]
    assert added == {"install-cni": ["DAC_OVERRIDE"], "kube-flannel": ["NET_ADMIN", "NET_RAW"]}
    assert pod["priorityClassName"] == "system-node-critical" and pod["hostNetwork"] is True
    assert pod["tolerations"] == [{"operator": "Exists", "effect": e}
                                  for e in ("NoExecute", "NoSchedule")]


def test_every_place_that_flanneld_writes_to_is_the_hosts():
    pod = pod_of(manifest())
    source = {v["name"]: v.get("hostPath", {}).get("path") for v in pod["volumes"]}
    daemon, = pod["containers"]
    mounts = {m["mountPath"]: source[m["name"]] for m in daemon["volumeMounts"]
              if not m.get("readOnly")}
    assert mounts == {p: p for p in ("/run/flannel", "/var/lib/flannel", "/run/xtables.lock")}


def test_options_are_flannelds():
    options = read("src/daemon/options_table.c")
    for container in pod_of(manifest())["containers"]:
        for arg in container["args"]:
            assert f'"{arg[2:].split("=")[0]}"' in options, arg
    install, = pod_of(manifest())["initContainers"]
    assert len(install["args"]) == 4 and install["args"][0] == "--install"
    mounted = {m["mountPath"].rstrip("/") for m in install["volumeMounts"]}
    assert {os.path.dirname(install["args"][1]), *install["args"][2:]} == mounted


def test_probes_ask_the_port_that_flanneld_has():
    daemon, = pod_of(manifest())["containers"]
    port, = daemon["ports"]
    assert f"--healthz-port={port['containerPort']}" in daemon["args"]
    assert daemon["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": port["name"]}
    assert daemon["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": port["name"]}


def test_configs():
    data = one(manifest(), "ConfigMap")["data"]
    assert json.loads(data["net-conf.json"]) == {
        "Network": "10.244.0.0/16", "EnableNFTables": False, "Backend": {"Type": "vxlan"}}
    assert [p["type"] for p in json.loads(data["cni-conf.json"])["plugins"]] == ["flannel",
                                                                                "portmap"]


def test_the_image_is_of_this_version():
    images = {c["image"] for c in pod_of(manifest())["containers"]
              + pod_of(manifest())["initContainers"]}
    assert images == {f"localhost/weft:{version()}"}


# -- what the check finds --------------------------------------------------------------

def _daemonset(path, value):
    """Sets (or with ... removes) a member of the DaemonSet's pod."""
    def change(documents):
        place = pod_of(documents)
        for key in path[:-1]:
            place = place[key]
        if value is ...:
            del place[path[-1]]
        else:
            place[path[-1]] = value
    return change


def _object(kind, *path):
    def change(documents):
        place = one(documents, kind)
        for key in path[:-2]:
            place = place[key]
        place[path[-2]] = path[-1]
    return change


FAULTS = [
    (_daemonset(["hostnetwork"], True), "has no field hostnetwork"),
    (_daemonset(["hostNetwork"], "true"), "is no bool"),
    (_daemonset(["containers", 0, "image"], ...), "lacks image"),
    (_daemonset(["containers", 0, "image"], "weft"), "is not like"),
    (_daemonset(["containers", 0, "volumeMounts", 0, "name"], "rum"), "mounts rum"),
    (_daemonset(["containers", 0, "volumeMounts", 1, "mountPath"], "/run/flannel/"), "one path"),
    (_daemonset(["containers", 0, "ports", 0, "name"], "health"), "asks port healthz"),
    (_daemonset(["containers", 0, "ports", 0, "containerPort"], "8081"), "is no int"),
    (_daemonset(["containers", 0, "resources", "requests", "cpu"], 1), "is not like"),
    (_daemonset(["containers", 0, "env", 0, "value"], "x"), "wants value or valueFrom"),
    (_daemonset(["containers", 0, "args", 0], 8), "is no str"),
    (_daemonset(["containers", 0, "securityContext", "capabilities", "add"], ["CAP_NET_RAW"]),
     "is not like"),
    (_daemonset(["volumes", 0, "hostPath", "type"], "Dir"), "is none of"),
    (_daemonset(["volumes", 0, "emptyDir"], {}), "wants one source"),
    (_daemonset(["volumes", 4, "configMap", "name"], "cfg"), "ConfigMap cfg"),
    (_daemonset(["serviceAccountName"], "flanneld"), "ServiceAccount flanneld"),
    (_daemonset(["tolerations", 0, "effect"], "Never"), "is none of"),
    (_daemonset(["initContainers", 0, "name"], "kube-flannel"), "one name"),
    (_object("DaemonSet", "apiVersion", "extensions/v1beta1"), "none of ours"),
    (_object("DaemonSet", "spec", "selector", "matchLabels", {"app": "x"}), "does not select"),
    (_object("ConfigMap", "data", {"n": 1}), "is no str"),
    (_object("ConfigMap", "metadata", "namespace", None), "is not like"),
    (_object("ClusterRoleBinding", "roleRef", "name", "x"), "ClusterRole x"),
    (_object("ClusterRole", "metadata", "namespace", "x"), "namespace"),
    (lambda documents: documents.append(copy.deepcopy(documents[0])), "two objects"),
]


@pytest.mark.parametrize("change, words", FAULTS)
def test_the_check_finds(change, words):
    documents = manifest()
    change(documents)
    with pytest.raises(kubeschema.SchemaError, match=re.escape(words)):
        kubeschema.check(documents)


def test_the_check_finds_keys_that_stand_twice():
    with pytest.raises(kubeschema.SchemaError, match="twice"):
        kubeschema.load("a: 1\nb: 2\na: 3\n")


# -- kustomize -------------------------------------------------------------------------

def test_kustomize_base():
    base, = kubeschema.load(read("deploy/kustomize/base/kustomization.yaml"))
    assert read("deploy/kustomize/base/kube-flannel.yml") == read("deploy/kube-flannel.yml")
    assert base == {
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "commonLabels": {"k8s-app": "flannel"}, "resources": ["kube-flannel.yml"],
        "images": [{"name": "localhost/weft", "newTag": version()}]}


@pytest.mark.parametrize("name, adds", [
    ("nftables", {"EnableNFTables": True}),
    ("dual-stack", {"EnableIPv6": True, "IPv6Network": "fd00:10:244::/56"}),
])
def test_kustomize_variants(name, adds):
    directory = f"deploy/kustomize/{name}"
    kustomization, = kubeschema.load(read(directory, "kustomization.yaml"))
    assert kustomization == {
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "resources": ["../base"], "patches": [{"path": "net-conf.yaml"}]}
    patch, = kubeschema.load(read(directory, "net-conf.yaml"))
    config = one(manifest(), "ConfigMap")
    for key in ("apiVersion", "kind"):
        assert patch[key] == config[key]
    assert patch["metadata"] == {k: config["metadata"][k] for k in ("name", "namespace")}
    assert set(patch["data"]) == {"net-conf.json"}
    assert json.loads(patch["data"]["net-conf.json"]) == {
        **json.loads(config["data"]["net-conf.json"]), **adds}


# -- the chart -------------------------------------------------------------------------

def values(**changes):
    """Those of the chart, changed: flannel__healthz__port=0."""
    data, = kubeschema.load(read(CHART, "values.yaml"))
    for name, value in changes.items():
        *parents, last = name.split("__")
        place = data
        for parent in parents:
            place = place[parent]
        assert last in place, f"{name} is no value of the chart"
        place[last] = value
    return data


def chart(namespace="kube-flannel", **changes):
    data = {"Values": values(**changes), "Release": {"Namespace": namespace}}
    documents = []
    for name in ("rbac", "serviceaccount", "config", "daemonset"):
        documents += kubeschema.load(
            gotemplate.render(read(CHART, "templates", f"{name}.yaml"), data))
    kubeschema.check(documents)
    return documents


def net_conf(**changes):
    return json.loads(one(chart(**changes), "ConfigMap")["data"]["net-conf.json"])


def test_no_template_is_forgotten():
    assert sorted(os.listdir(os.path.join(ROOT, CHART, "templates"))) == [
        "config.yaml", "daemonset.yaml", "rbac.yaml", "serviceaccount.yaml"]
    about, = kubeschema.load(read(CHART, "Chart.yaml"))
    assert about["name"] == "flannel" and about["apiVersion"] == "v2"
    assert {about["version"], about["appVersion"], values()["flannel"]["image"]["tag"]} \
        == {version()}


def _comparable(documents):
    documents = copy.deepcopy(documents)
    data = one(documents, "ConfigMap")["data"]
    data["net-conf.json"] = json.loads(data["net-conf.json"])
    return {d["kind"]: d for d in documents if d["kind"] != "Namespace"}


def test_chart_is_the_manifest():
    """But for the namespace, which Helm makes."""
    assert _comparable(chart()) == _comparable(manifest())


def test_chart_in_another_namespace():
    for d in chart(namespace="net"):
        if d["kind"] == "ClusterRoleBinding":
            assert d["subjects"][0]["namespace"] == "net"
        elif d["kind"] != "ClusterRole":
            assert d["metadata"]["namespace"] == "net"


ORIGINAL_VALUES = [
    "global.imagePullSecrets", "podCidr", "podCidrv6", "flannel.image.repository",
    "flannel.image.tag", "flannel.flannel_cni.image.repository", "flannel.flannel_cni.image.tag",
    "flannel.cniBinDir", "flannel.cniConfDir", "flannel.skipCNIConfigInstallation",
    "flannel.enableNFTables", "flannel.args", "flannel.backend", "flannel.backendPort",
    "flannel.mtu", "flannel.vni", "flannel.GBP", "flannel.directRouting", "flannel.macPrefix",
    "flannel.backendPortv6", "flannel.psk", "flannel.tunnelMode", "flannel.keepaliveInterval",
    "flannel.cniConf", "flannel.resources", "flannel.healthz.port",
    "flannel.healthz.livenessProbe", "flannel.healthz.readinessProbe", "flannel.tolerations",
    "flannel.nodeSelector", "netpol.enabled", "netpol.args", "netpol.image.repository",
    "netpol.image.tag",
]
NO_EFFECT = {"flannel.flannel_cni.image.repository", "flannel.flannel_cni.image.tag"}


@pytest.mark.parametrize("name", ORIGINAL_VALUES)
def test_every_value_of_flannels_chart_is_there(name):
    place = values()
    for part in name.split("."):
        place = place[part]
    text = "".join(read(CHART, "templates", f) for f in ("config.yaml", "daemonset.yaml"))
    assert (f".Values.{name} " in text) == (name not in NO_EFFECT)


@pytest.mark.parametrize("changes, expected", [
    ({"podCidr": "", "podCidrv6": "fd00::/56"},
     {"EnableIPv4": False, "EnableIPv6": True, "IPv6Network": "fd00::/56",
      "EnableNFTables": False, "Backend": {"Type": "vxlan"}}),
    ({"flannel__enableNFTables": True, "flannel__vni": 16777215, "flannel__backendPort": 4789,
      "flannel__directRouting": True, "flannel__GBP": True, "flannel__mtu": 1400,
      "flannel__macPrefix": "0E-2B"},
     {"Network": "10.244.0.0/16", "EnableNFTables": True,
      "Backend": {"Type": "vxlan", "VNI": 16777215, "Port": 4789, "DirectRouting": True,
                  "GBP": True, "MTU": 1400, "MacPrefix": "0E-2B"}}),
    ({"flannel__backend": "wireguard", "flannel__backendPort": 51000, "flannel__mtu": 1400,
      "flannel__backendPortv6": 51001, "flannel__psk": "a<b>&\"c", "flannel__tunnelMode": "auto",
      "flannel__keepaliveInterval": 25, "flannel__vni": 7},
     {"Network": "10.244.0.0/16", "EnableNFTables": False,
      "Backend": {"Type": "wireguard", "ListenPort": 51000, "ListenPortV6": 51001, "MTU": 1400,
                  "PSK": "a<b>&\"c", "Mode": "auto", "PersistentKeepaliveInterval": 25}}),
    ({"flannel__backend": "udp", "flannel__backendPort": 9000},
     {"Network": "10.244.0.0/16", "EnableNFTables": False,
      "Backend": {"Type": "udp", "Port": 9000}}),
    ({"flannel__backend": "host-gw", "flannel__backendPort": 9000},
     {"Network": "10.244.0.0/16", "EnableNFTables": False, "Backend": {"Type": "host-gw"}}),
])
def test_chart_net_conf(changes, expected):
    assert net_conf(**changes) == expected


def test_chart_pod():
    pod = pod_of(chart(
        flannel__image__repository="registry.example:5000/net/weft", flannel__image__tag="9",
        flannel__args=["--kube-subnet-mgr", "--iface=eth0:1"], flannel__cniBinDir="/var/bin",
        flannel__cniConfDir="/var/conf", flannel__nodeSelector={"a/b": "c"},
        flannel__tolerations=[], global__imagePullSecrets=[{"name": "s"}],
        flannel__healthz__port=9999, flannel__healthz__readinessProbe={"periodSeconds": 1}))
    daemon, install = pod["containers"][0], pod["initContainers"][0]
    assert daemon["image"] == install["image"] == "registry.example:5000/net/weft:9"
    assert daemon["args"] == ["--kube-subnet-mgr", "--iface=eth0:1", "--healthz-port=9999"]
    assert daemon["ports"][0]["containerPort"] == 9999
    assert daemon["readinessProbe"] == {"httpGet": {"path": "/readyz", "port": "healthz"},
                                        "periodSeconds": 1}
    paths = {v["name"]: v.get("hostPath", {}).get("path") for v in pod["volumes"]}
    assert (paths["cni-plugin"], paths["cni"]) == ("/var/bin", "/var/conf")
    assert pod["nodeSelector"] == {"a/b": "c"} and "tolerations" not in pod
    assert pod["imagePullSecrets"] == [{"name": "s"}]


def test_chart_without_health_server():
    daemon, = pod_of(chart(flannel__healthz__port=0))["containers"]
    assert daemon["args"] == ["--ip-masq", "--kube-subnet-mgr"]
    assert not {"ports", "livenessProbe", "readinessProbe"} & set(daemon)


def test_chart_without_cni_config():
    """It is installed to where nobody looks."""
    volume, = [v for v in pod_of(chart(flannel__skipCNIConfigInstallation=True))["volumes"]
               if v["name"] == "cni"]
    assert volume == {"name": "cni", "emptyDir": {}}


def test_chart_with_network_policies():
    documents = chart(netpol__enabled=True)
    names = [c["name"] for c in pod_of(documents)["containers"]]
    assert names == ["kube-flannel", "kube-network-policies"]
    rules = one(documents, "ClusterRole")["rules"]
    assert rules[:3] == FLANNEL_RULES and len(rules) == 6


@pytest.mark.skipif(not shutil.which("helm"), reason="no helm on this machine")
@pytest.mark.parametrize("changes", [
    {}, {"netpol__enabled": True}, {"flannel__healthz__port": 0, "flannel__args": ["--kube-subnet-mgr"]},
    {"flannel__skipCNIConfigInstallation": True, "flannel__tolerations": [],
     "flannel__nodeSelector": {"a/b": "c"}, "global__imagePullSecrets": [{"name": "s"}]},
    {"podCidr": "", "podCidrv6": "fd00::/56", "flannel__vni": 16777215,
     "flannel__directRouting": True, "flannel__backendPort": 4789},
    {"flannel__backend": "wireguard", "flannel__psk": "a<b>&\"c", "flannel__tunnelMode": "auto"},
])
def test_helm_renders_the_same(changes):
    done = subprocess.run(["helm", "template", "flannel", os.path.join(ROOT, CHART), "-n", "net",
                           "-f", "-"], input=json.dumps(values(**changes)), check=True, text=True,
                          capture_output=True, timeout=60)
    rendered = {d["kind"]: d for d in kubeschema.load(done.stdout)}
    assert rendered == {d["kind"]: d for d in chart("net", **changes)}


# -- the renderer ----------------------------------------------------------------------

DATA = {"Values": {"on": True, "off": False, "s": "x", "n": 3, "l": ["a", "b"],
                   "m": {"b": 2, "a": 1}}}


@pytest.mark.parametrize("text, expected", [
    ("a {{ .Values.s }} b", "a x b"),
    ("a \n{{- if .Values.on }}\n b\n{{- end }}\nc", "a\n b\nc"),
    ("{{ if .Values.off }}1{{ else if .Values.s }}2{{ else }}3{{ end }}", "2"),
    ('{{ if eq .Values.s "y" }}1{{ else }}3{{ end }}', "3"),
    ("{{ range .Values.l }}[{{ . }}]{{ end }}", "[a][b]"),
    ("{{ range $k, $v := .Values.m }}{{ $k }}={{ $v | int }} {{ end }}", "a=1 b=2 "),
    ("{{ .Values.m | toJson }}", '{"a":1,"b":2}'),
    ("x {{- .Values.s -}} \n y", "xxy"),
])
def test_renderer(text, expected):
    assert gotemplate.render(text, DATA) == expected


@pytest.mark.parametrize("text", [
    "{{ .Values.n }}", "{{ .Values.missing }}", "{{ .Values.s | quote }}", "{{ if .Values.on }}",
    "{{ end }}", "{{ include \"x\" . }}", "{{ with .Values.m }}{{ end }}", "{{ .Values.s",
    "{{ range .Values.l }}{{ .Values.s }}{{ end }}", "{{ range .Values.l }}{{ else }}{{ end }}",
    "{{ if .Values.on }}{{ else }}{{ else }}{{ end }}", "{{ .Values.s }} }}",
])
def test_renderer_refuses(text):
    with pytest.raises(gotemplate.TemplateError):
        gotemplate.render(text, DATA)
