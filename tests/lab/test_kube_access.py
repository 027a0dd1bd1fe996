# SPDX-License-Identifier: Apache-2.0
"""How flanneld finds the API server, and who it is there.

     h1     k1 (API server: .240, .239, ::f0)     p1 (proxy)
    -+------+-------------------------------------+- sw1
"""

import base64
import json
import os
import time

import pytest

from lib.expect import wait_equal, wait_until
from lib.kube_rbac import FLANNEL_RULES
from lib.kube_volume import in_pod, replace_file
from lib.proxy import Proxy

pytestmark = pytest.mark.needs("vxlan", "etcd", "ipv6")

CONFIG = {"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}
PREFIX = "flannel.alpha.coreos.com"
API = "api.example.com"


@pytest.fixture(scope="module")
def shared(topo_of):
    topo = topo_of(1, ipv6=True)
    return topo, topo.kube(addresses=2, san=[API])


@pytest.fixture(scope="module")
def proxy(shared):
    proxy = Proxy(shared[0], "flannel:p@ss")
    yield proxy
    proxy.process.kill()


class Access:
    """One host, and ways to the API server. run(): flanneld comes up by that way."""

    def __init__(self, topo, kube):
        self.topo, self.kube, self.h1 = topo, kube, topo["h1"]
        self.dir = os.path.join(kube.dir, "access")
        os.makedirs(self.dir, exist_ok=True)
        self.n = 20

    def write(self, name, text):
        path = os.path.join(self.dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        replace_file(path, text)
        return path

    def start(self, *flags, **how):
        """flags: how the API is found, in place of the lab's."""
        given = [f for f in self.topo.store.flags if "kubeconfig" not in f]
        self.h1.start_flanneld(*given, *flags, wait=False, subnet_dir=False, **how)

    def run(self, *flags, **how):
        mark = self.kube.mark()
        self.start(*flags, **how)
        self.h1.wait_ready(30)
        self.works()
        return self.kube.requests(since=mark)

    def works(self):
        """Reading, writing and watching."""
        self.n += 1
        self.topo.follow_the_store(self.n)
        self.kube.delete_node(f"n-10.5.{self.n}.0-24")
        name = f"{PREFIX}/backend-type"
        self.kube.annotate("h1", {name: None})
        wait_equal(lambda: self.kube.annotations("h1").get(name), "vxlan", 20)


@pytest.fixture
def access(shared):
    topo, kube = shared
    h1 = topo["h1"]
    topo.allow_log("W", "Kubernetes|[Dd]atastore|changed by")
    kube.add_node("h1", "10.5.1.0/24", address=h1.address)
    topo.store.write_config(CONFIG)
    yield Access(topo, kube)
    kube.let_in()
    kube.end_faults()
    kube.set_rules(FLANNEL_RULES)
    h1.forget_flanneld()
    for name in kube.nodes():
        kube.delete_node(name)


def pem(path):
    with open(path, "rb") as f:
        return base64.b64encode(f.read()).decode()


# -- kubeconfigs -----------------------------------------------------------------------


def test_contexts(access):
    """The current one counts; others may be whatever they are."""
    kube = access.kube
    path = access.write("contexts", json.dumps({
        "current-context": "right",
        "contexts": [{"name": "wrong", "context": {"cluster": "away", "user": "nobody"}},
                     {"name": "right", "context": {"cluster": "lab", "user": "flannel",
                                                   "namespace": "kube-flannel"}}],
        "clusters": [{"name": "away", "cluster": {"server": "https://192.0.2.1:6443"}},
                     {"name": "lab", "cluster": {"server": kube.url,
                                                 "certificate-authority": kube.ca.cert}}],
        "users": [{"name": "nobody", "user": {"auth-provider": {"name": "gcp"}}},
                  {"name": "flannel", "user": {"token": kube.token}}]}))
    access.run(f"--kubeconfig-file={path}")
    access.h1.wait_log(f"{path} \\(context right\\)")


def test_paths_are_relative_to_the_kubeconfig(access):
    kube = access.kube
    pair = kube.client_certificate()
    for source, name in ((kube.ca.cert, "ca"), (pair.cert, "c"), (pair.key, "k")):
        with open(source, encoding="ascii") as f:
            access.write(f"pki/{name}.pem", f.read())
    path = kube.kubeconfig("access/relative", user=(
        "    client-certificate: pki/c.pem\n    client-key: ./pki/k.pem\n"))
    with open(path, encoding="utf-8") as f:
        text = f.read()
    access.write("relative", text.replace(kube.ca.cert, "pki/ca.pem"))
    access.run(f"--kubeconfig-file={path}")


def test_data_beats_files(access):
    kube = access.kube
    pair = kube.client_certificate()
    nowhere = "/nowhere/at.all"
    path = access.write("data", json.dumps({
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {
            "server": kube.url, "certificate-authority": nowhere,
            "certificate-authority-data": pem(kube.ca.cert)}}],
        "users": [{"name": "u", "user": {
            "client-certificate": nowhere, "client-certificate-data": pem(pair.cert),
            "client-key": nowhere, "client-key-data": pem(pair.key)}}]}))
    access.run(f"--kubeconfig-file={path}")


def test_a_token_file_beats_a_token(access):
    kube = access.kube
    file = access.write("token", f"{kube.token}\n")
    path = kube.kubeconfig("both", user=f"    token: nobodys\n    tokenFile: {file}\n")
    access.run(f"--kubeconfig-file={path}")


@pytest.mark.parametrize("cluster", ["    insecure-skip-tls-verify: true\n",
                                     "    tls-server-name: api.example.com\n"])
def test_who_the_server_is(access, cluster):
    kube = access.kube
    path = kube.kubeconfig("verify", cluster=cluster)
    if "insecure" in cluster:
        with open(path, encoding="utf-8") as f:
            text = f.read()
        replace_file(path, text.replace(f"    certificate-authority: {kube.ca.cert}\n", ""))
    asked = access.run(f"--kubeconfig-file={path}")
    if not kube.real and "server-name" in cluster:
        assert {r.server_name for r in asked} == {API}


def test_a_client_certificate_that_is_renewed(access):
    """The files are read for each connection; the new one is another user's."""
    kube = access.kube
    pair = kube.client_certificate()
    access.run(f"--kubeconfig-file={kube.kubeconfig('certificate', pair=pair)}")
    kube.set_rules(FLANNEL_RULES, "renewed")
    kube.set_rules([])
    kube.client_certificate("renewed")
    kube.restart()
    access.works()
    assert kube.requests(user="renewed", verb="watch")


# -- the flag, and what a pod is given -------------------------------------------------


def test_the_url_of_the_flag_beats_that_of_the_kubeconfig(access):
    kube = access.kube
    path = kube.kubeconfig("url", server="https://192.0.2.1:6443")
    access.run(f"--kubeconfig-file={path}", f"--kube-api-url=https://{kube.addresses[-1]}:6443")
    access.h1.wait_log(f"https://192.168.64.239:6443 .--kube-api-url, {path}")


def test_a_server_that_wants_no_credentials(make_topo):
    """--kube-api-url alone, outside of a pod."""
    topo = make_topo(1)
    h1, kube = topo["h1"], topo.kube(tls=False)
    if kube.real:
        pytest.skip("a real kube-apiserver speaks TLS")
    kube.set_rules(FLANNEL_RULES, "system:anonymous")
    kube.add_node("h1", "10.5.1.0/24", address=h1.address)
    topo.store.flags[1] = f"--kube-api-url={kube.url}"
    topo.start(CONFIG, env={"KUBERNETES_SERVICE_HOST": ""})
    topo.follow_the_store()


def test_in_a_pod_of_an_ipv6_cluster(access):
    """KUBERNETES_SERVICE_HOST has no brackets."""
    kube = access.kube
    account = kube.service_account(os.path.join(access.dir, "account"))
    address = next(a for a in kube.addresses if ":" in a)
    access.run(env={**kube.in_cluster(), "KUBERNETES_SERVICE_HOST": address},
               wrap=in_pod(account))
    access.h1.wait_log(rf"https://\[{address}\]:6443 .the pod's environment")


# -- proxies ---------------------------------------------------------------------------


def through(proxy):
    """The environment of who is to use it."""
    return {"HTTPS_PROXY": proxy.url.replace("//", "//flannel:p%40ss@")}


def test_a_proxy_of_the_environment(access, proxy):
    kube = access.kube
    kube.cut_off(access.h1)
    asked = access.run(f"--kubeconfig-file={kube.kubeconfig()}", env=through(proxy))
    assert {r.peer for r in asked} == {proxy.address}
    assert "192.168.64.240:6443" in proxy.asked()
    assert "p@ss" not in access.h1.log_text() and "p%40ss" not in access.h1.log_text()


def test_a_proxy_of_the_kubeconfig(access, proxy):
    """It beats the environment's, NO_PROXY included."""
    kube = access.kube
    url = through(proxy)["HTTPS_PROXY"]
    path = kube.kubeconfig("proxy", cluster=f"    proxy-url: {url}\n")
    asked = access.run(f"--kubeconfig-file={path}",
                       env={"HTTPS_PROXY": "http://192.0.2.1:1", "NO_PROXY": "*"})
    assert {r.peer for r in asked} == {proxy.address}


@pytest.mark.parametrize("no", ["192.168.64.0/24", "192.168.64.240", "*",
                                "10.0.0.1, .240, 192.168.64.240:6443"])
def test_no_proxy(access, proxy, no):
    kube, before = access.kube, len(proxy.asked())
    asked = access.run(f"--kubeconfig-file={kube.kubeconfig()}",
                       env={**through(proxy), "NO_PROXY": no})
    assert {r.peer for r in asked} == {access.h1.address}
    assert len(proxy.asked()) == before


def test_a_proxy_that_refuses(access, proxy):
    access.start(f"--kubeconfig-file={access.kube.kubeconfig()}",
                 env={"HTTPS_PROXY": proxy.url.replace("//", "//flannel:hunter2@")})
    access.h1.wait_readyz(503, rf"{proxy.url}: it does not accept the user name and password")
    assert "hunter2" not in access.h1.log_text()


# -- several servers behind one name ---------------------------------------------------

HOSTS = """
mount --bind "$1" /etc/hosts
shift
exec "$@"
"""


def by_name(access, *addresses):
    """(flag, wrap) of an API server of that name."""
    hosts = access.write("hosts", "".join(f"{a} {API}\n" for a in addresses))
    path = access.kube.kubeconfig("name", server=f"https://{API}:6443")
    return f"--kubeconfig-file={path}", ("unshare", "-m", "sh", "-ec", HOSTS, "hosts", hosts)


@pytest.mark.parametrize("refuse", [True, False], ids=["refuses", "silent"])
def test_one_of_two_servers_is_dead(access, refuse):
    """Whichever is asked first; and when the one that is used dies as well, the other takes
    its place."""
    kube = access.kube
    first, second = kube.addresses[0], kube.addresses[-1]
    kube.block(first, refuse)
    flag, wrap = by_name(access, first, second)
    access.run(flag, wrap=wrap)
    kube.let_in()
    kube.block(second, refuse)
    kube.restart()
    access.works()


# -- certificates and tokens that change -----------------------------------------------


def test_the_servers_certificate_is_replaced(access):
    """Renewed by the same authority; expired for a while, which is said."""
    kube, h1 = access.kube, access.h1
    access.run(f"--kubeconfig-file={kube.kubeconfig()}")
    kube.issue_server()
    kube.restart()
    access.works()
    kube.issue_server(ends_in=-3600)
    kube.restart()
    h1.wait_readyz(200, "keeping what is known.*certificate.*expired", 10)
    kube.issue_server()
    kube.restart()
    access.works()


def test_a_token_is_refused_and_renewed_later(access):
    kube, h1 = access.kube, access.h1
    file = access.write("token", kube.token)
    path = kube.kubeconfig("later", user=f"    tokenFile: {file}\n")
    access.run(f"--kubeconfig-file={path}")
    kube.rotate_token()
    kube.restart()
    h1.wait_readyz(200, f"keeping what is known.*401.*the token in {file}", 10)
    access.write("token", kube.token)
    access.works()


def test_a_token_file_that_goes_away(access):
    """What was read last stays in use."""
    kube = access.kube
    file = access.write("token", kube.token)
    path = kube.kubeconfig("away", user=f"    tokenFile: {file}\n")
    access.run(f"--kubeconfig-file={path}")
    os.unlink(file)
    kube.restart()
    access.works()


# -- programs --------------------------------------------------------------------------


class Program:
    """A credential program that prints what was laid down for it, and notes each run."""

    def __init__(self, access, **more):
        self.access = access
        self.asked = access.write("asked", "")
        path = access.write("bin/login", (
            f'#!/bin/sh\necho "$KUBERNETES_EXEC_INFO $PROFILE $*" >>{self.asked}\n'
            f'cat {access.dir}/credential\n'))
        os.chmod(path, 0o755)
        spec = {"apiVersion": "client.authentication.k8s.io/v1", "interactiveMode": "Never",
                "command": "bin/login", "args": ["--cluster", "lab"],
                "env": [{"name": "PROFILE", "value": "lab-profile"}], **more}
        config = access.kube.kubeconfig("access/program",
                                        user=f"    exec: {json.dumps(spec)}\n")
        self.flag = f"--kubeconfig-file={config}"

    def prints(self, expires_in=None, **status):
        """When it expires, as time.time() has it."""
        expiry = None
        if expires_in is not None:
            expiry = int(time.time()) + expires_in
            status["expirationTimestamp"] = time.strftime("%Y-%m-%dT%H:%M:%SZ",
                                                          time.gmtime(expiry))
        self.access.write("credential", json.dumps({
            "kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1",
            "status": status}))
        return expiry

    def runs(self):
        with open(self.asked, encoding="utf-8") as f:
            return f.read().splitlines()


def test_a_program_is_run_once(access):
    program = Program(access, provideClusterInfo=True)
    program.prints(token=access.kube.token)
    access.run(program.flag)
    assert len(program.runs()) == 1
    info, profile, *args = program.runs()[0].rsplit(" ", 3)
    assert [profile, *args] == ["lab-profile", "--cluster", "lab"]
    info = json.loads(info)
    assert info["kind"] == "ExecCredential" and info["spec"]["interactive"] is False
    cluster = info["spec"]["cluster"]
    assert cluster["server"] == access.kube.url
    assert cluster["certificate-authority-data"] == pem(access.kube.ca.cert)


def test_a_program_whose_token_expires(access):
    """It is run again for the first request after that, not before."""
    program = Program(access)
    expiry = program.prints(2, token=access.kube.token)
    access.run(program.flag)
    assert time.time() > expiry or len(program.runs()) == 1
    program.prints(3600, token=access.kube.token)
    wait_until(lambda: time.time() > expiry)
    runs = len(program.runs())
    access.works()
    assert len(program.runs()) == runs + 1


def test_a_program_whose_token_is_refused(access):
    program = Program(access)
    program.prints(token=access.kube.token)
    access.run(program.flag)
    program.prints(token=access.kube.rotate_token())
    access.kube.restart()
    access.works()
    assert len(program.runs()) == 2


def test_a_program_that_prints_a_certificate(access):
    """And another one later: the connections of the first are not used any more."""
    kube, program = access.kube, Program(access)

    def print_certificate(user, **how):
        pair = kube.client_certificate(user)
        with open(pair.cert, encoding="ascii") as c, open(pair.key, encoding="ascii") as k:
            return program.prints(clientCertificateData=c.read(), clientKeyData=k.read(), **how)

    kube.set_rules(FLANNEL_RULES, "first")
    kube.set_rules(FLANNEL_RULES, "second")
    expiry = print_certificate("first", expires_in=2)
    assert {r.user for r in access.run(program.flag)} == {"first"}
    print_certificate("second")
    wait_until(lambda: time.time() > expiry)
    mark = kube.mark()
    access.works()
    assert {r.user for r in kube.requests(since=mark)} == {"second"}


@pytest.mark.parametrize("script, pattern", [
    ("echo no such account >&2; exit 3", "program .*/bin/login.*(exit|status).*3.*no such account"),
    ("echo '{'", "program .*/bin/login: it does not print one JSON object"),
    ("echo '{\"kind\":\"ExecCredential\",\"apiVersion\":\"client.authentication.k8s.io/v1\"}'",
     "has no status"),
    ("kill -9 $$", "program .*/bin/login.*signal"),
])
def test_a_program_that_fails(access, script, pattern):
    """It is run again, and when it works all goes on."""
    program = Program(access)
    path = access.write("bin/login", f"#!/bin/sh\n{script}\n")
    os.chmod(path, 0o755)
    access.start(program.flag)
    access.h1.wait_readyz(503, pattern)
    program = Program(access)
    program.prints(token=access.kube.token)
    access.h1.wait_ready(20)
