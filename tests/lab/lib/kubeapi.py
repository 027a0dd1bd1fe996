# SPDX-License-Identifier: Apache-2.0
"""kubeapi.py - an API server of Kubernetes on the lab's first switch: a fake one that can do
wrong, or a real one

     h1     h2     k1     .240 of the switch's L2, port 6443, https
     |eth0  |eth0  |eth0
    -+------+------+- sw1

    kube = topo.kube()             # up; topo.store is its nodes now, each host has one
    kube.add_peer("n7", "10.5.7.0/24", "192.168.64.77", mac="02:00:00:00:00:07")
    kube.annotate("h1", {"flannel.alpha.coreos.com/public-ip-overwrite": "192.0.2.1"})
    kube.fault("status", code=429, times=3, verb="list")
    kube.kill(); kube.start(); kube.requests(verb="watch")

KUBE_APISERVER names a kube-apiserver: then topo.kube() is that one (kube_real.py), over the
lab's etcd. It does no faults; a test that orders one is skipped by the fault's name.

The fake speaks HTTP/1.1 only (ALPN http/1.1); the real one offers HTTP/2 first. The process
is kube_server.py; the faults are listed in kube_faults.py.
"""

import contextlib
import http.client
import json
import os
import re
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import types

from . import certs
from .expect import wait_until
from .kube_nodes import peer_annotations
from .kube_patch import MERGE, STRATEGIC
from .kube_rbac import FLANNEL, FLANNEL_RULES, MASTERS
from .kube_volume import mount_files, replace_file
from .service import Service

PORT = 6443
PARTIAL = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
PARTIAL_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_SERVICE_ACCOUNTS = ("system:serviceaccounts", "system:serviceaccounts:kube-flannel",
                     "system:authenticated")
_LAB = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Refused(Exception):
    """The API server refused a change; status is its Status."""

    def __init__(self, status):
        super().__init__(status.get("message"))
        self.status, self.code = status, status.get("code")


def _family(address):
    return "ip6" if ":" in address else "ip"


class Kube(Service):
    """What the fake and the real one have in common: who may, its files, its objects."""

    real = False

    def __init__(self, lab, ns, addresses, directory, tls=True, san=()):
        self.lab, self.ns, self.addresses, self.dir = lab, ns, list(addresses), directory
        self.scheme, self.san = "https" if tls else "http", list(san)
        os.makedirs(directory)
        self.log_path = os.path.join(directory, "apiserver.log")
        self._volumes = {}
        self._authorities = 0
        self.users, self.rules = {}, {}
        self.admin = self.add_user("admin", [], (MASTERS, "system:authenticated"))
        self.token = self.add_user(FLANNEL, FLANNEL_RULES, _SERVICE_ACCOUNTS)
        self.new_authority()

    def _path(self, name):
        return os.path.join(self.dir, name)

    @property
    def url(self):
        address = self.addresses[0]
        return f"{self.scheme}://{f'[{address}]' if ':' in address else address}:{PORT}"

    # -- certificates and users --------------------------------------------------------

    def new_authority(self):
        """Another authority and another certificate, at once; service accounts learn of it,
        kubeconfigs made before do not."""
        self._authorities += 1
        self.ca = certs.Authority(self.dir, f"ca{self._authorities}")
        self.issue_server()
        self._refresh()

    def issue_server(self, **how):
        """The server's certificate, or another in its place: see Authority.issue()."""
        names = self.addresses + ["kubernetes.default.svc", "localhost", "127.0.0.1", *self.san]
        self.server = self.ca.issue("server", cn="kube-apiserver", san=names, **how)
        self._publish_tls()

    def client_certificate(self, user=FLANNEL, **how):
        """A certs.Pair that makes its owner this user."""
        return self.ca.issue("client", cn=user, server=False, **how)

    def _publish_tls(self):
        """Where the process reads them: certificate and key are one file, replaced as a whole."""
        for name, sources in (("client-ca.crt", [self.ca.cert]),
                              ("tls.pem", [self.server.cert, self.server.key])):
            text = ""
            for source in sources:
                with open(source, encoding="ascii") as f:
                    text += f.read()
            replace_file(self._path(name), text)

    def add_user(self, name, rules, groups=()):
        """A user with RBAC rules; the token."""
        token = secrets.token_urlsafe(24)
        self.users[token] = (name, tuple(groups))
        self.rules[name] = list(rules)
        self._users_changed()
        return token

    def set_rules(self, rules, name=FLANNEL):
        """RBAC rules as a manifest has them, in place of those that the user had."""
        self.rules[name] = list(rules)
        self._users_changed()

    def rotate_token(self, name=FLANNEL, keep_old=False):
        """Another token for a user; the old one is refused from now on."""
        old = next(token for token, who in self.users.items() if who[0] == name)
        token = secrets.token_urlsafe(24)
        self.users[token] = self.users[old]
        if not keep_old:
            del self.users[old]
        if self.token == old:
            self.token = token
            self._refresh()
        self._users_changed()
        return token

    def _write_token_file(self):
        lines = [f'{token},{name},{name},"{",".join(groups)}"\n'
                 for token, (name, groups) in self.users.items()]
        replace_file(self._path("tokens.csv"), "".join(lines))

    # -- how flanneld finds it ---------------------------------------------------------

    def service_account(self, directory):
        """A directory as /var/run/secrets/kubernetes.io/serviceaccount is; kept up to date."""
        self._volumes[directory] = True
        self._refresh()
        return directory

    def _refresh(self):
        with open(self.ca.cert, encoding="ascii") as f:
            files = {"token": self.token, "ca.crt": f.read(), "namespace": "kube-flannel"}
        for directory in self._volumes:
            mount_files(directory, files)

    def in_cluster(self):
        """The environment of a pod."""
        return {"KUBERNETES_SERVICE_HOST": self.addresses[0], "KUBERNETES_SERVICE_PORT": str(PORT)}

    def kubeconfig(self, name="kubeconfig", token=None, pair=None, server=None, cluster="",
                   user=None):
        """Writes one; its path. user: the lines of the user instead of a token or certs.Pair;
        cluster: more lines of the cluster. Lines are indented by four."""
        if user is None:
            user = (f"    client-certificate: {pair.cert}\n    client-key: {pair.key}\n" if pair
                    else f"    token: {token or self.token}\n")
        authority = f"    certificate-authority: {self.ca.cert}\n" * (self.scheme == "https")
        text = (
            "apiVersion: v1\nkind: Config\ncurrent-context: lab\n"
            f"clusters:\n- name: lab\n  cluster:\n    server: {server or self.url}\n"
            f"{authority}{cluster}"
            "contexts:\n- name: lab\n  context:\n    cluster: lab\n    user: flannel\n"
            f"users:\n- name: flannel\n  user:\n{user}")
        replace_file(self._path(name), text)
        return self._path(name)

    # -- asking it as a client ---------------------------------------------------------

    def context(self, pair=None):
        context = ssl.create_default_context(cafile=self.ca.cert)
        if pair:
            context.load_cert_chain(pair.cert, pair.key)
        return context

    def connect(self, address=None, pair=None, timeout=10.0, ns=None):
        """An http.client connection, from its own namespace or another."""
        address = address or self.addresses[0]
        connection = http.client.HTTPConnection(address, PORT, timeout=timeout)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        sock = (ns or self.ns).socket(family, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        sock.connect((address, PORT))
        if self.scheme == "https":
            sock = self.context(pair).wrap_socket(sock, server_hostname=address)
        connection.sock = sock
        return connection

    def request(self, method, path, body=None, token=None, headers=None, pair=None):
        """(status, headers, body) of one request of its own connection; token "": none."""
        token = self.admin if token is None else token
        asked = {"User-Agent": "lab", **({"Authorization": f"Bearer {token}"} if token else {})}
        connection = self.connect(pair=pair)
        with contextlib.closing(connection):
            connection.request(method, path, body, {**asked, **(headers or {})})
            response = connection.getresponse()
            return response.status, response.headers, response.read()

    # -- objects -----------------------------------------------------------------------

    def add_node(self, name, *pod_cidrs, **spec):
        """spec: annotations, labels, address, small; as kube_objects.node()."""
        return self.add_nodes([{"name": name, "pod_cidrs": pod_cidrs, **spec}])

    def add_peer(self, name, pod_cidrs, public_ip, mac=None, vni=1, more=None, **spec):
        """A node with a flannel that runs."""
        pod_cidrs = [pod_cidrs] if isinstance(pod_cidrs, str) else pod_cidrs
        annotations = {**peer_annotations(public_ip, mac, vni), **(more or {})}
        return self.add_node(name, *pod_cidrs, annotations=annotations, address=public_ip, **spec)

    def annotations(self, name):
        return self.node(name)["metadata"].get("annotations", {})

    def annotate(self, name, values):
        """None removes."""
        return self.patch(name, {"metadata": {"annotations": values}})

    def label(self, name, values):
        return self.patch(name, {"metadata": {"labels": values}})

    def set_pod_cidrs(self, name, *pod_cidrs):
        """Once only: from none."""
        spec = {"podCIDR": pod_cidrs[0], "podCIDRs": list(pod_cidrs)}
        return self.patch(name, {"spec": spec}, MERGE)

    def cordon(self, name, on=True):
        return self.patch(name, {"spec": {"unschedulable": on or None}}, MERGE)

    def condition(self, name, kind="NetworkUnavailable"):
        found = self.node(name)["status"].get("conditions", [])
        return next((c for c in found if c["type"] == kind), None)

    def set_condition(self, name, condition):
        """condition["type"] says which."""
        return self.patch(name, {"status": {"conditions": [condition]}}, subresource="status")

    def drop_condition(self, name, kind="NetworkUnavailable"):
        return self.set_condition(name, {"type": kind, "$patch": "delete"})

    # -- its life ----------------------------------------------------------------------

    def cut_off(self, host):
        """Packets between a host and it vanish."""
        self._filter(*(rule for a in host.addresses for rule in (
            f"in {_family(a)} saddr {a} drop", f"out {_family(a)} daddr {a} drop")))

    def block(self, address, refuse=False):
        """One of its own addresses is dead: silent, or refusing connections."""
        self._filter(f"in {_family(address)} daddr {address} meta l4proto tcp "
                     f"{'reject with tcp reset' if refuse else 'drop'}")

    def let_in(self):
        """The end of all cut_off() and block()."""
        self.ns.run("nft", "-f", "-", input="add table inet away\ndelete table inet away\n")

    def _filter(self, *rules):
        self.ns.run("nft", "-f", "-", input=(
            "add table inet away\n"
            "add chain inet away in { type filter hook input priority 0; }\n"
            "add chain inet away out { type filter hook output priority 0; }\n"
            + "".join(f"add rule inet away {rule}\n" for rule in rules)))

    def story(self):
        """What a person wants to see of it after a test failed."""
        lines = []
        with contextlib.suppress(OSError, RuntimeError):  # it may be paused, or gone
            lines = [f"{r.method} {r.target} by {r.user}: {r.status}, {r.sent} bytes"
                     for r in ([] if self.paused else self.requests())[-40:]]
        return "\n".join([*lines, self.log_text()[-3000:]])

    def log_text(self):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""


class FakeKube(Kube):
    """window: how many events back a watch or a continued list may begin; bookmark_period and
    watch_seconds (how long a watch without timeoutSeconds lasts: from, to) in seconds."""

    def __init__(self, lab, ns, addresses, directory, tls=True, san=(), window=10000,
                 bookmark_period=60.0, watch_seconds=(1800, 3600), rv=300):
        self._control = None
        self._seen = []
        super().__init__(lab, ns, addresses, directory, tls, san)
        files = {"cert": "tls.pem", "client_ca": "client-ca.crt"}
        self._config = {
            "port": PORT, "control": self._path("control"), "state": self._path("state"),
            "tls": {k: self._path(v) for k, v in files.items()} if tls else None,
            "window": window, "bookmark_period": bookmark_period,
            "last_bookmark": 2.0, "watch_seconds": list(watch_seconds), "partial": True, "rv": rv,
        }
        self.start()

    # -- orders ------------------------------------------------------------------------

    def _ask(self, order, /, **args):
        self._control.write(json.dumps({"do": order, **args}).encode() + b"\n")
        self._control.flush()
        line = self._control.readline()
        if not line:
            raise RuntimeError(f"the fake API server ended:\n{self.log_text()[-3000:]}")
        answer = json.loads(line)
        if "refused" in answer:
            raise Refused(answer["refused"])
        if "error" in answer:
            raise RuntimeError(f"{order}: {answer['error']}")
        return answer["ok"]

    def _users_changed(self):
        if self._control:
            self._ask("set_users", users=self.users, rules=self.rules)

    # -- its life ----------------------------------------------------------------------

    def start(self):
        assert self.process is None, "the API server already runs"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._config["control"])
        # Users are known before the first connection comes.
        config = {**self._config, "users": self.users, "rules": self.rules}
        replace_file(self._path("config.json"), json.dumps(config))
        with open(self.log_path, "ab") as log:
            self.process = self.ns.popen(
                sys.executable, "-S", "-m", "lib.kube_server", self._path("config.json"),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=_LAB,
                start_new_session=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

        def connect():
            if self.process.poll() is not None:
                raise RuntimeError(f"no API server:\n{self.log_text()[-3000:]}")
            sock.connect(self._config["control"])
            return True

        wait_until(connect, 10, "the API server takes orders")
        sock.settimeout(120)
        self._control = sock.makefile("rwb")
        sock.close()
        return self

    def _end(self, sig):
        """What it holds is kept, as etcd would."""
        if self.paused:
            self.resume()
        self._seen += self._ask("requests", since=0)
        self._ask("save", path=self._config["state"], halt=True)
        control, self._control = self._control, None
        self.end(sig, "the API server")
        control.close()

    def stop(self):
        self._end(signal.SIGTERM)

    def kill(self):
        self._end(signal.SIGKILL)

    def close(self):
        if self.process is not None:
            self.end(signal.SIGKILL, "the API server")
        if self._control:
            self._control.close()
            self._control = None
        assert "Traceback" not in self.log_text(), f"the fake's own fault:\n{self.log_text()}"

    def backup(self):
        """etcd's data as they are; where that is."""
        path = self._path("backup")
        self._ask("save", path=path, halt=False)
        return path

    def restore(self, path):
        """Another start with the data of a backup: nodes and resourceVersion go back."""
        self.kill()
        os.replace(path, self._config["state"])
        self.start()

    def settings(self, **values):
        """bookmark_period, last_bookmark (seconds before the end of a watch), watch_seconds;
        partial=False: as one that knows no partial objects."""
        self._config.update(values)
        for name, value in values.items():
            self._ask("set", name=name, value=value)

    # -- objects -----------------------------------------------------------------------

    def add_nodes(self, specs, render=False):
        """Many at once: kube_objects.node()'s arguments of each; render: their JSON now."""
        return self._ask("add_nodes", specs=list(specs), render=render)

    def delete_node(self, name):
        return self._ask("delete_node", name=name)

    def reregister(self, name, *pod_cidrs, **spec):
        """Deleted and made anew, with another uid."""
        return self._ask("reregister", name=name, spec={"pod_cidrs": pod_cidrs, **spec})

    def node(self, name):
        return self._ask("node", name=name)

    def nodes(self):
        return self._ask("nodes")

    def patch(self, name, patch, content_type=STRATEGIC, subresource=None):
        return self._ask("patch", name=name, patch=patch, content_type=content_type,
                         subresource=subresource)

    def set_conditions(self, name, conditions):
        """All of them, as by PUT."""
        return self._ask("set_conditions", name=name, conditions=conditions)

    def add_pod(self, name, node_name, namespace="kube-flannel"):
        return self._ask("add_pod", name=name, namespace=namespace, node_name=node_name)

    def heartbeat(self, names=None):
        """The kubelets (default: all) write their status, once and at once."""
        return self._ask("heartbeat", names=names)

    def heartbeats(self, period):
        """Each node's once a period from now on; 0 ends it: how many there were."""
        return self._ask("heartbeats", period=period)

    def rv(self):
        return self._ask("rv")

    def bump(self, count=1):
        """Things that are no nodes changed."""
        return self._ask("bump", count=count)

    def compact(self):
        """Forgets all history but the present."""
        return self._ask("compact")

    # -- faults ------------------------------------------------------------------------

    def fault(self, kind, times=1, verb=None, method=None, path=None, name=None, user=None,
              watch=None, **args):
        """Orders a fault of kube_faults.py for matching requests; its number."""
        match = {"verb": verb, "method": method, "path": path, "name": name, "user": user,
                 "watch": watch}
        return self._ask("fault", kind=kind, times=times, args=args,
                         match={k: v for k, v in match.items() if v is not None})

    def fault_used(self, number):
        return self._ask("fault_used", number=number)

    def end_faults(self, number=None):
        """Takes back one, or all."""
        self._ask("end_fault", number=number)

    def end_watches(self, how="clean"):
        """Ends all that run: clean, cut (FIN) or reset (RST); how many."""
        return self._ask("end_watches", how=how)

    def bookmark(self):
        """A bookmark to each watch that takes them, now."""
        self._ask("bookmark")

    # -- what it was asked -------------------------------------------------------------

    def watches(self, **match):
        """Those that run now, as requests() has them; cursor: up to where they are served."""
        return matching(self._ask("watches"), match)

    def mark(self):
        """For requests(since=...)."""
        return len(self._seen) + self._ask("request_count")

    def requests(self, since=0, **match):
        """Requests in their order: method, path, query, target, headers, body, verb, name,
        user, status, sent (bytes, before TLS), at, ended (monotonic), connection (number),
        peer, tls (version), server_name (SNI)."""
        now = self._ask("requests", since=0) if self._control else []
        return matching((self._seen + now)[since:], match)


def matching(records, match):
    patterns = {key: re.compile(pattern) for key, pattern in match.items()}
    return [types.SimpleNamespace(**r) for r in records
            if all(p.fullmatch(str(r[key])) for key, p in patterns.items())]


def kube_api(topo, addresses=1, **how):
    """The API server of a topology: a real one when KUBE_APISERVER names it. addresses: that
    many IPv4 ones (.240, .239, ...), as those of several servers behind one name."""
    ns, found = topo.server("k1", 240)
    for i in range(1, addresses):
        found.append(f"192.168.64.{240 - i}")
        ns.ip(f"addr add {found[-1]}/24 dev eth0")
    directory = os.path.join(topo.lab.dir, f"kube{topo.number}")
    binary = os.environ.get("KUBE_APISERVER")
    if binary:
        from .kube_real import RealKube

        return RealKube(topo, binary, ns, found, directory, **how)
    return FakeKube(topo.lab, ns, found, directory, **how)
