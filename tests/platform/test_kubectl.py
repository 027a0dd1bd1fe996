# SPDX-License-Identifier: Apache-2.0
"""test_kubectl.py - what the real kubectl makes of what we ship

Its own types of Kubernetes, its kustomize, and its `apply` over what flannel's files have
made. Any kubectl will do (Debian: kubernetes-client); for the variants of the kustomization
one of 1.21 or newer.
"""

import copy
import json
import os
import re
import shutil

import pytest
import yaml

from kernel import run as shell
from kubeobjects import Objects, run
from test_manifests import ROOT, chart, manifest, one, pod_of

KUBECTL = shutil.which("kubectl")
KUSTOMIZE = os.path.join(ROOT, "deploy", "kustomize")

pytestmark = pytest.mark.skipif(not KUBECTL, reason="no kubectl on this machine")


@pytest.fixture(name="server")
def _server():
    shell("ip link set lo up")
    with Objects(KUBECTL) as server:
        yield server


def newer_than_1_20():
    text = run(KUBECTL, "version", "--client", "-o", "json")
    version = json.loads(text)["clientVersion"]
    return (int(version["major"]), int(re.match(r"\d+", version["minor"])[0])) > (1, 20)


def as_text(documents):
    return "".join(json.dumps(d) + "\n" for d in documents)


# -- types -----------------------------------------------------------------------------

def through_types(daemonset):
    """The DaemonSet, read into Kubernetes' own types and written again."""
    account = daemonset["spec"]["template"]["spec"]["serviceAccountName"]
    found = json.loads(run(KUBECTL, "set", "serviceaccount", "--local", "-f", "-", account,
                           "-o", "json", input=json.dumps(daemonset)))
    found.pop("status")
    found["spec"].pop("updateStrategy")
    for metadata in (found["metadata"], found["spec"]["template"]["metadata"]):
        metadata.pop("creationTimestamp", None)
    return found


def without_empty(daemonset):
    """Types that are no pointers are written even when they are empty."""
    found = copy.deepcopy(daemonset)
    for container in pod_of([found])["containers"] + pod_of([found])["initContainers"]:
        container.setdefault("resources", {})
    return found


VARIANTS = {
    "manifest": manifest, "chart": chart,
    "chart with everything": lambda: chart(
        netpol__enabled=True, global__imagePullSecrets=[{"name": "s"}],
        flannel__nodeSelector={"a/b": "c"}, flannel__skipCNIConfigInstallation=True),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_field_is_one_of_kubernetes(name):
    daemonset = one(VARIANTS[name](), "DaemonSet")
    assert through_types(daemonset) == without_empty(daemonset)


@pytest.mark.parametrize("path, value, words", [
    (("spec", "hostnetwork"), True, None),
    (("spec", "containers", 0, "readinessProbe", "periodseconds"), 1, None),
    (("spec", "containers", 0, "ports", 0, "containerPort"), "8081", "unable to decode"),
    (("spec", "hostNetwork"), "true", "unable to decode"),
])
def test_a_field_that_is_none_is_found(path, value, words):
    daemonset = one(manifest(), "DaemonSet")
    place = daemonset["spec"]["template"]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    if words:
        with pytest.raises(AssertionError, match=words):
            through_types(daemonset)
    else:
        assert through_types(daemonset) != without_empty(daemonset)


# -- kustomize -------------------------------------------------------------------------

def kustomized(name):
    return list(yaml.safe_load_all(run(KUBECTL, "kustomize", f"{KUSTOMIZE}/{name}")))


def by_name(documents):
    return {(d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"]): d
            for d in documents}


def test_kustomized_base():
    """The manifest, and its label wherever kustomize puts one."""
    expected = manifest()
    daemonset = one(expected, "DaemonSet")
    daemonset["spec"]["selector"]["matchLabels"]["k8s-app"] = "flannel"
    daemonset["spec"]["template"]["metadata"]["labels"]["k8s-app"] = "flannel"
    assert by_name(kustomized("base")) == by_name(expected)


@pytest.mark.parametrize("name, adds", [
    ("nftables", {"EnableNFTables": True}),
    ("dual-stack", {"EnableIPv6": True, "IPv6Network": "fd00:10:244::/56"}),
])
def test_kustomized_variants(name, adds):
    if not newer_than_1_20():
        pytest.skip("patches with a path are not of this kubectl")
    found, base = kustomized(name), kustomized("base")
    conf, conf_base = (json.loads(one(d, "ConfigMap")["data"].pop("net-conf.json"))
                       for d in (found, base))
    assert by_name(found) == by_name(base)
    assert conf == {**conf_base, **adds}


# -- flannel's place is taken ----------------------------------------------------------

FLANNEL = "ghcr.io/flannel-io/flannel:v0.28.9"


def originals():
    """The objects of flannel v0.28's manifest: ours, and what of them is different there."""
    documents = manifest()
    pod = pod_of(documents)
    daemon, install = pod["containers"][0], pod["initContainers"][0]
    for container in (daemon, install):
        container["image"] = FLANNEL
        del container["imagePullPolicy"]
        for mount in container["volumeMounts"]:
            mount.pop("readOnly", None)
    del install["securityContext"], pod["securityContext"]
    daemon["securityContext"] = {"privileged": False,
                                 "capabilities": {"add": ["NET_ADMIN", "NET_RAW"]}}
    daemon["resources"] = {"requests": {"cpu": "100m", "memory": "50Mi"}}
    daemon["readinessProbe"]["initialDelaySeconds"] = 5
    daemon["env"] = daemon["env"][1:] + [
        {"name": "EVENT_QUEUE_DEPTH", "value": "5000"},
        {"name": "CONT_WHEN_CACHE_NOT_READY", "value": "false"}]
    daemon["volumeMounts"] = [m for m in daemon["volumeMounts"] if m["name"] != "state"]
    plugin = {"name": "install-cni-plugin", "volumeMounts": install["volumeMounts"][:1],
              "image": "ghcr.io/flannel-io/flannel-cni-plugin:v1.9.1-flannel3",
              "command": ["cp"], "args": ["-f", "/flannel", "/opt/cni/bin/flannel"]}
    install.update(command=["/opt/bin/install-conf"], volumeMounts=install["volumeMounts"][1:],
                   args=["/etc/kube-flannel/cni-conf.json",
                         "/etc/cni/net.d/10-flannel.conflist"])
    pod["initContainers"] = [plugin, install]
    pod["tolerations"] = [{"operator": "Exists", "effect": "NoSchedule"}]
    pod["volumes"] = [v for v in pod["volumes"] if v["name"] != "state"]
    for volume in pod["volumes"]:
        if volume["name"] != "xtables-lock":
            volume.get("hostPath", {}).pop("type", None)
    return documents


def with_selector(documents):
    """As either kustomization makes it."""
    daemonset = one(documents, "DaemonSet")
    for labels in (daemonset["spec"]["selector"]["matchLabels"],
                   daemonset["spec"]["template"]["metadata"]["labels"]):
        labels["k8s-app"] = "flannel"
    return documents


def apply(server, documents):
    return server.kubectl("apply", "--validate=false", "-f", "-", input=as_text(documents))


@pytest.mark.parametrize("change", [list, with_selector], ids=["plain", "kustomized"])
@pytest.mark.parametrize("back", [False, True], ids=["to ours", "and back"])
def test_applied_over_flannels(server, change, back):
    """What is there then is what the file says and no more, and no object was made anew."""
    sequence = [change(originals()), change(manifest())]
    if back:
        sequence.append(change(originals()))
    apply(server, sequence[0])
    uids = {key: value["metadata"]["uid"] for key, value in server.objects.items()}
    for documents in sequence[1:]:
        apply(server, documents)
    assert server.plain() == by_name(sequence[-1])
    assert {key: value["metadata"]["uid"] for key, value in server.objects.items()} == uids


def test_a_flag_of_ours_is_not_left_to_flannel(server):
    """--peer-filter=false, which the way back begins with: flannel would not start with it."""
    apply(server, manifest())
    daemonset = server.objects["DaemonSet", "kube-flannel", "kube-flannel-ds"]
    pod_of([daemonset])["containers"][0]["args"].append("--peer-filter=false")
    apply(server, originals())
    assert server.plain() == by_name(originals())


def test_what_was_created_is_not_known_to_apply(server):
    """Why docs/kubernetes.md tells to delete such a DaemonSet."""
    server.kubectl("create", "--validate=false", "-f", "-", input=as_text(originals()))
    apply(server, manifest())
    daemonset = server.objects["DaemonSet", "kube-flannel", "kube-flannel-ds"]
    assert {c["name"] for c in pod_of([daemonset])["initContainers"]} == {
        "install-cni", "install-cni-plugin"}


def test_a_selector_stays_what_it_is(server):
    """Why docs/kubernetes.md tells not to apply the one kind over the other."""
    apply(server, with_selector(originals()))
    with pytest.raises(AssertionError, match="immutable"):
        apply(server, manifest())


@pytest.mark.parametrize("made, deleted", [(originals, manifest), (manifest, originals)])
def test_either_file_deletes_all(server, made, deleted):
    apply(server, made())
    server.kubectl("delete", "--wait=false", "-f", "-", input=as_text(deleted()))
    assert not server.objects
