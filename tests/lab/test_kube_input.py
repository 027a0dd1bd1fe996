# SPDX-License-Identifier: Apache-2.0
"""Kubernetes as the datastore, and something about it is wrong: one line says what, and what
to do about it.

     h1     k1 (API server)
    -+------+- sw1

What only a person can change ends flanneld with exit code 1 and one line; what may get better
by itself is waited for, and is in the log and in /readyz.
"""

import re

import pytest

from lib import certs
from lib.kube_rbac import FLANNEL_RULES

pytestmark = pytest.mark.needs("vxlan", "etcd")

CONFIG = {"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}
DUAL = {**CONFIG, "EnableIPv6": True, "IPv6Network": "fd05::/48"}
PREFIX = "flannel.alpha.coreos.com"
NO_NODE = {"NODE_NAME": "", "POD_NAME": "", "POD_NAMESPACE": ""}
NO_POD = {"KUBERNETES_SERVICE_HOST": "", "KUBERNETES_SERVICE_PORT": ""}
SECRET = "hunter2hunter2"


@pytest.fixture(scope="module")
def shared(topo_of):
    topo = topo_of(1)
    return topo, topo.kube()


@pytest.fixture
def kube(shared):
    """An API server that knows h1, and a host without a past; afterwards nothing is left."""
    topo, kube = shared
    h1 = topo["h1"]
    topo.allow_log("W", "Kubernetes|[Dd]atastore|waiting for|keeping what|net-conf")
    kube.add_node("h1", "10.5.1.0/24", address=h1.address)
    topo.store.write_config(CONFIG)
    yield kube
    kube.end_faults()
    kube.set_rules(FLANNEL_RULES)
    h1.forget_flanneld()
    h1.ip("addr del fd00:64::11/64 dev eth0", force=True)
    for name in kube.nodes():
        kube.delete_node(name)


@pytest.fixture
def h1(kube, shared):
    return shared[0]["h1"]


def flags(shared, *more):
    """Those of the lab, but for how the API is found."""
    return [f for f in shared[0].store.flags if "kubeconfig" not in f] + list(more)


def ours(kube):
    """What flanneld has written to h1."""
    return [name for name in kube.annotations("h1") if name.startswith(PREFIX)]


def assert_one_line(done, *patterns, code=1):
    """Exactly one error line, which matches all patterns in this order."""
    assert done.code == code, f"exit {done.code}:\n{done.text}"
    lines = done.lines("E") if code == 1 else done.text.splitlines()[:1]
    assert len(lines) == 1, done.text
    assert re.search(".*".join(patterns), lines[0]), f"no {patterns} in: {lines[0]}"
    assert SECRET not in done.text


def assert_refused(shared, h1, given, *patterns, env=None):
    done = h1.run_flanneld(*flags(shared), *given, env=env, subnet_dir=False)
    assert_one_line(done, *patterns)
    assert h1.read_subnet_env() is None
    assert h1.overlay(["10.0.0.0/8"]) == {"devices": {}, "routes": {}}


# -- which node, which prefix ----------------------------------------------------------


@pytest.mark.parametrize("env, patterns", [
    (NO_NODE, ["which node is this", "NODE_NAME", "POD_NAME and POD_NAMESPACE", "fieldRef"]),
    ({**NO_NODE, "POD_NAME": "flannel-x7k"}, ["NODE_NAME", "POD_NAMESPACE"]),
    ({**NO_NODE, "POD_NAMESPACE": "kube-flannel"}, ["NODE_NAME", "POD_NAME"]),
    ({"NODE_NAME": "h1/status"}, ["NODE_NAME", "h1/status"]),
    ({**NO_NODE, "POD_NAME": "a b", "POD_NAMESPACE": "c"}, ["POD_NAME", "a b"]),
], ids=["none", "no namespace", "no pod", "slash", "blank"])
def test_which_node(shared, kube, h1, env, patterns):
    assert_refused(shared, h1, [f"--kubeconfig-file={kube.kubeconfig()}"], *patterns, env=env)


@pytest.mark.parametrize("prefix", ["a.example/b/c", "a.example//"])
def test_a_prefix_of_two_slashes(h1, prefix):
    done = h1.run_flanneld(f"--kube-annotation-prefix={prefix}")
    assert_one_line(done, f"--kube-annotation-prefix={prefix}: may hold at most one slash", code=2)


@pytest.mark.parametrize("prefix, patterns", [
    ("localhost", ["domain name with a dot", "flannel.alpha.coreos.com"]),
    ("Flannel.example", ["lower case"]),
    ("", ["domain name"]),
])
def test_a_prefix(shared, kube, h1, prefix, patterns):
    assert_refused(shared, h1, [f"--kubeconfig-file={kube.kubeconfig()}",
                                f"--kube-annotation-prefix={prefix}"],
                   "--kube-annotation-prefix", re.escape(f'"{prefix}"'), *patterns)


# -- how the API is reached ------------------------------------------------------------


@pytest.mark.parametrize("env, patterns", [
    (NO_POD, ["no pod of Kubernetes", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT",
              "--kubeconfig-file"]),
    ({**NO_POD, "KUBERNETES_SERVICE_HOST": "10.96.0.1"}, ["KUBERNETES_SERVICE_PORT"]),
    ({"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "https"},
     ["KUBERNETES_SERVICE_PORT", "https", "port"]),
    ({"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"},
     ["serviceaccount/token", "automountServiceAccountToken"]),
], ids=["none", "half", "no port", "no token"])
def test_not_in_a_pod(shared, kube, h1, env, patterns):
    assert_refused(shared, h1, [], *patterns, env=env)


@pytest.mark.parametrize("url, patterns", [
    ("https://192.168.64.240:port", ["port"]),
    ("ftp://192.168.64.240", ["ftp|http"]),
    ("https://192.168.64.240:6443?a=b", ["query"]),
    ("https://", ["URL"]),
])
def test_an_url(shared, kube, h1, url, patterns):
    assert_refused(shared, h1, [f"--kubeconfig-file={kube.kubeconfig()}", f"--kube-api-url={url}"],
                   "--kube-api-url", *patterns)


def user_of(text):
    return "".join(f"    {line}\n" for line in text.splitlines())


EXEC = ("exec:\n  apiVersion: client.authentication.k8s.io/v1\n  interactiveMode: Never\n"
        "  command: ")


@pytest.mark.parametrize("user, patterns", [
    ("tokenFile: /nowhere/token\n", ["/nowhere/token", "No such file"]),
    ("tokenFile: /\n", ["token", "/", "directory|regular"]),
    ("tokenFile: /dev/null\n", ["/dev/null", "empty|regular"]),
    ("client-certificate: /nowhere/c.pem\nclient-key: /nowhere/k.pem\n",
     ["/nowhere/c.pem", "No such file"]),
    ("client-certificate-data: '*'\nclient-key: /k\n", ["line 17", "client-certificate-data",
                                                        "base64"]),
    ("client-certificate: /nowhere/c.pem\n", ["flannel", "client-certificate", "client-key"]),
    (f"token: {SECRET}\nusername: a\npassword: b\n", ["token", "username"]),
    (f"token: [{SECRET}]\n", ["line 17", "token"]),
    ("auth-provider: {name: gcp}\n", ["line 17", "auth-provider", "exec"]),
    ("as: admin\n", ["line 17", "as"]),
    (EXEC + "/nowhere/aws\n  installHint: get it at aws.example\n",
     ["/nowhere/aws", "aws.example"]),
    (EXEC.replace("  interactiveMode: Never\n", "") + "/bin/true\n", ["interactiveMode"]),
    (EXEC.replace("Never", "Always") + "/bin/true\n", ["interactiveMode", "Always"]),
    (EXEC.replace("/v1\n", "/v1alpha1\n") + "/bin/true\n", ["apiVersion"]),
], ids=lambda v: v.split("\n")[0][:24] if isinstance(v, str) else "")
def test_a_user_of_a_kubeconfig(shared, kube, h1, user, patterns):
    path = kube.kubeconfig("bad", user=user_of(user))
    assert_refused(shared, h1, [f"--kubeconfig-file={path}"], *patterns)


@pytest.mark.parametrize("cluster, patterns", [
    ("    insecure-skip-tls-verify: true\n", ["line 9", "insecure-skip-tls-verify",
                                              "certificate-authority"]),
    ("    proxy-url: ftp://a\n", ["line 9", "proxy-url", "socks5"]),
    ("    certificate-authority-data: SGVsbG8=\n", ["certificate-authority"]),
], ids=["insecure", "proxy", "authority"])
def test_a_cluster_of_a_kubeconfig(shared, kube, h1, cluster, patterns):
    path = kube.kubeconfig("bad", cluster=cluster)
    assert_refused(shared, h1, [f"--kubeconfig-file={path}"], "/bad", *patterns)


@pytest.mark.parametrize("old, new, patterns", [
    ("kind: Config\n", "kind: [\n", ["line [0-9]+, column [0-9]+"]),
    ("kind: Config\n", "kind: Conf\n", ["line 2", "kind"]),
    ("kind: Config\n", "kind: Config\n\tindented\n", ["line 3"]),
    ("current-context: lab\n", "", ["current-context"]),
    ("current-context: lab\n", "current-context: bal\n", ["line 3", "bal", "contexts"]),
    ("    cluster: lab\n", "    cluster: bal\n", ["line 12", "bal", "clusters"]),
    ("    user: flannel\n", "    user: lennalf\n", ["line 13", "lennalf", "users"]),
    ("    server:", "    serve:", ['cluster "lab" has no server']),
    ("    token:", f"    {SECRET}: a\n    {SECRET}:", ["line 18", "already"]),
])
def test_a_kubeconfig(shared, kube, h1, old, new, patterns):
    path = kube.kubeconfig("bad")
    with open(path, encoding="utf-8") as f:
        text = f.read()
    assert old in text
    with open(path, "w", encoding="utf-8") as f:
        f.write(text.replace(old, new))
    assert_refused(shared, h1, [f"--kubeconfig-file={path}"], re.escape(path), *patterns)


@pytest.mark.parametrize("path, patterns", [
    ("/nowhere/kubeconfig", ["/nowhere/kubeconfig", "No such file"]),
    ("/", ["/ is not a regular file"]),
    ("/dev/null", ["/dev/null", "empty|regular"]),
])
def test_no_kubeconfig(shared, kube, h1, path, patterns):
    assert_refused(shared, h1, [f"--kubeconfig-file={path}"], "--kubeconfig-file", *patterns)


# -- the config ------------------------------------------------------------------------


@pytest.mark.parametrize("text, patterns", [
    ("{ nothing", ["line 1", "column|position"]),
    ("", ["empty|line 1"]),
    ("[]", ["object"]),
    ('{"Network": "10.5.0.0/99"}', ["Network", r"10\.5\.0\.0/99"]),
    ('{"Network": "10.5.0.0/16", "EnableIPv6": true}', ["IPv6Network"]),
])
def test_a_config(shared, kube, h1, text, patterns):
    topo, _ = shared
    topo.store.write("config", text)
    assert_one_line(h1.run_flanneld(), re.escape(topo.store.file("net-conf.json")), *patterns)
    assert not ours(kube)


@pytest.mark.parametrize("path, patterns", [
    ("/nowhere/net-conf.json", ["/nowhere/net-conf.json does not exist", "--net-config-path",
                                "ConfigMap"]),
    ("/", ["waiting for the network config", "/"]),
])
def test_no_config(shared, kube, h1, path, patterns):
    h1.start_flanneld(f"--net-config-path={path}", wait=False)
    h1.wait_readyz(503, ".*".join(patterns))


# -- what the API says -----------------------------------------------------------------


def told(host, pattern, status=503, timeout=10):
    """It is in /readyz and, as a warning, in the log."""
    _, text = host.wait_readyz(status, pattern, timeout)
    host.wait_log(f"^W.*{pattern}")
    assert SECRET not in text + host.log_text()


@pytest.mark.parametrize("verb, resource", [
    ("get", "nodes"), ("list", "nodes"), ("watch", "nodes"), ("patch", "nodes/status"),
    ("get", "pods")])
def test_a_right_is_missing(kube, h1, verb, resource):
    """The rule that is missing can be copied into a ClusterRole; given it, all goes on."""
    pod = f"flannel-{verb}-{resource.replace('/', '-')}"
    kube.add_pod(pod, "h1")
    kube.set_rules([{**r, "verbs": [v for v in r["verbs"]
                                    if (v, r["resources"]) != (verb, [resource])]}
                    for r in FLANNEL_RULES])
    h1.start_flanneld(wait=False, env={**NO_NODE, "POD_NAME": pod,
                                       "POD_NAMESPACE": "kube-flannel"})
    told(h1, "403: system:serviceaccount:kube-flannel:flannel may not "
         f"{verb} {resource}: a ClusterRole bound to it needs the rule "
         + re.escape(f'{{apiGroups: [""], resources: ["{resource}"], verbs: ["{verb}"]}}'), None)
    kube.set_rules(FLANNEL_RULES)
    h1.wait_ready(20)
    h1.wait_readyz(200, r"\A(?!.*403)", 20)


def test_no_rights_at_all(kube, h1):
    """As when the manifest's ClusterRoleBinding is forgotten."""
    kube.set_rules([])
    h1.start_flanneld(wait=False)
    told(h1, r"403: .*may not get nodes: .*needs the rule")


def test_a_token_that_nobody_knows(shared, kube, h1):
    path = kube.kubeconfig("bad", token=SECRET)
    h1.start_flanneld(f"--kubeconfig-file={path}", wait=False)
    told(h1, r"https://192.168.64.240:6443: 401: it does not accept the token: expired")


def test_no_credentials(shared, kube, h1):
    """The API server takes one without for system:anonymous."""
    path = kube.kubeconfig("bad", user="    {}\n")
    h1.start_flanneld(f"--kubeconfig-file={path}", wait=False)
    told(h1, "40[13]: (it takes us for system:anonymous: )?no credentials are given: it wants a token")


def test_a_node_of_another_name(kube, h1):
    h1.start_flanneld(wait=False, env={"NODE_NAME": "h1.example.com"})
    told(h1, r"waiting for our node h1\.example\.com: Kubernetes has none of this name.*NODE_NAME")
    kube.add_node("h1.example.com", "10.5.2.0/24")
    h1.wait_ready(20)


def test_a_pod_that_is_not_there(kube, h1):
    h1.start_flanneld(wait=False, env={**NO_NODE, "POD_NAME": "flannel-gone",
                                       "POD_NAMESPACE": "kube-flannel"})
    told(h1, "404: there is no pod flannel-gone: POD_NAME and POD_NAMESPACE have to be")


def test_a_pod_on_no_node(kube, h1):
    kube.add_pod("flannel-lost", "")
    h1.start_flanneld(wait=False, env={**NO_NODE, "POD_NAME": "flannel-lost",
                                       "POD_NAMESPACE": "kube-flannel"})
    told(h1, "pod flannel-lost in namespace kube-flannel .*has no node's name")


@pytest.mark.parametrize("config, cidrs, pattern", [
    (CONFIG, ["10.9.1.0/24"], r"podCIDR 10\.9\.1\.0/24 of node h1 is outside of Network "
     r"10\.5\.0\.0/16 in .*/net-conf\.json: change that, or .*--cluster-cidr"),
    (CONFIG, ["10.0.0.0/8"], r"podCIDR 10\.0\.0\.0/8 of node h1 is outside of Network"),
    (CONFIG, [], "waiting for the podCIDR: node h1 has none of IPv4.*--allocate-node-cidrs"),
    (CONFIG, ["fd05:0:0:1::/64"], "node h1 has none of IPv4.*--cluster-cidr of that family"),
    (DUAL, ["10.5.1.0/24"], "node h1 has none of IPv6.*--cluster-cidr of that family"),
    (DUAL, ["10.5.1.0/24", "fd09:0:0:1::/64"],
     "podCIDR fd09:0:0:1::/64 of node h1 is outside of IPv6Network fd05::/48"),
], ids=["outside", "larger", "none", "wrong family", "one family", "outside of IPv6"])
def test_a_podcidr(shared, kube, h1, config, cidrs, pattern):
    """Nothing is programmed, nothing is published; what is right is taken at once."""
    topo, _ = shared
    nic = h1.nics["eth0"]
    h1.ip("addr replace fd00:64::11/64 dev eth0 nodad", "route replace default via fd00:64::fe")
    kube.delete_node("h1")
    kube.add_node("h1", *cidrs, address=nic.ipv4)
    topo.store.write_config(config)
    h1.start_flanneld(wait=False)
    told(h1, pattern)
    assert not ours(kube) and h1.read_subnet_env() is None
    kube.delete_node("h1")
    topo.allow_log("W", "node h1")
    kube.add_node("h1", "10.5.1.0/24", "fd05:0:0:1::/64", address=nic.ipv4)
    h1.wait_ready(20)


@pytest.mark.parametrize("url, pattern", [
    ("http://192.168.64.240:6443", "400: it speaks TLS: https:// instead of http://|"
     "closed the connection"),
    ("https://192.168.64.240:6444", "connection refused.*is kube-apiserver running there"),
    ("https://192.168.64.99:6443", "(no route to host|no answer).*is that the right address"),
    ("https://192.168.64.240:6443/k8s", "404, not from a Kubernetes API: are host, port and path"),
])
def test_an_url_of_something_else(shared, kube, h1, url, pattern):
    h1.start_flanneld(f"--kube-api-url={url}", wait=False)
    told(h1, pattern, timeout=15)


def test_a_certificate_of_an_unknown_authority(shared, kube, h1):
    other = certs.Authority(kube.dir, "other")
    path = kube.kubeconfig("bad")
    with open(path, encoding="utf-8") as f:
        text = f.read()
    with open(path, "w", encoding="utf-8") as f:
        f.write(text.replace(kube.ca.cert, other.cert))
    h1.start_flanneld(f"--kubeconfig-file={path}", wait=False)
    told(h1, "certificate")


def test_a_certificate_of_another_name(shared, kube, h1):
    path = kube.kubeconfig("bad", cluster="    tls-server-name: api.example.com\n")
    h1.start_flanneld(f"--kubeconfig-file={path}", wait=False)
    told(h1, "api.example.com")


@pytest.mark.parametrize("answer, pattern", [
    ({"kind": "body", "text": "<html>Login</html>"}, "https://.*what it answers for our node is not that: is it a Kubernetes API"),
    ({"kind": "body", "text": '{"kind":"Status"}'}, "https://.*what it answers for our node is not that: is it a Kubernetes API"),
    ({"kind": "status", "code": 404, "body": "default backend"}, "404, not from a Kubernetes API"),
    ({"kind": "status", "code": 302}, "302: it sends us elsewhere"),
    ({"kind": "status", "code": 500, "body": "oh dear\nmore"}, "500: .*oh dear"),
    ({"kind": "raw", "text": "SSH-2.0-OpenSSH_9.2\r\n"}, "HTTP"),
], ids=lambda v: str(v)[:30])
def test_an_answer_of_something_else(kube, h1, answer, pattern):
    answer = dict(answer)
    number = kube.fault(answer.pop("kind"), times=None, verb="get", **answer)
    h1.start_flanneld(wait=False)
    told(h1, pattern)
    kube.end_faults(number)
    h1.wait_ready(20)
