# SPDX-License-Identifier: Apache-2.0
"""kube_real.py - a real kube-apiserver over the lab's etcd, with the methods of the fake one

Users are those of its token file and of client certificates, what they may do is ClusterRoles
made through its own API; objects are made there too, by a user of system:masters. What it was
asked is read from its audit log, without what the lab itself asked for. A new token is a
restart, as the token file is read once.
"""

import datetime
import json
import signal
import subprocess
import time
import urllib.parse

import pytest

from . import kube_objects as objects
from .expect import wait_until
from .kube_patch import MERGE, STRATEGIC
from .kube_rbac import FLANNEL_RULES
from .kubeapi import PORT, Kube, Refused, matching

_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_GROUP = "rbac.authorization.k8s.io"
_METHODS = {"get": "GET", "list": "GET", "watch": "GET", "patch": "PATCH", "create": "POST",
            "update": "PUT", "delete": "DELETE"}
_AUDIT = {
    "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
    "rules": [{"level": "None", "users": ["admin", "system:apiserver", "system:anonymous"],
               "nonResourceURLs": ["*"]},
              {"level": "None", "users": ["admin", "system:apiserver"]},
              {"level": "Metadata"}],
}


def _subject(name):
    parts = name.split(":")
    if parts[:2] == ["system", "serviceaccount"]:
        return {"kind": "ServiceAccount", "namespace": parts[2], "name": parts[3]}
    return {"kind": "User", "apiGroup": _GROUP, "name": name}


class RealKube(Kube):
    real = True

    def __init__(self, topo, binary, ns, addresses, directory, san=(), **_only_of_the_fake):
        self.etcd = topo.etcd(1)
        self.binary = binary
        self._started_with = None
        self._beats = 0
        super().__init__(topo.lab, ns, addresses, directory, True, san)
        key = ["openssl", "genpkey", "-algorithm", "RSA", "-out", self._path("sa.key")]
        subprocess.run(key, check=True, capture_output=True)
        subprocess.run(["openssl", "pkey", "-in", self._path("sa.key"), "-pubout", "-out",
                        self._path("sa.pub")], check=True, capture_output=True)
        with open(self._path("audit.yaml"), "w", encoding="utf-8") as f:
            json.dump(_AUDIT, f)
        self.start()

    def _argv(self):
        return [
            self.binary, f"--etcd-servers={self.etcd.members[0].url}", f"--secure-port={PORT}",
            "--bind-address=::" if any(":" in a for a in self.addresses)
            else "--bind-address=0.0.0.0",
            f"--advertise-address={self.addresses[0]}", "--endpoint-reconciler-type=none",
            f"--tls-cert-file={self._path('tls.pem')}",
            f"--tls-private-key-file={self._path('tls.pem')}",
            f"--client-ca-file={self._path('client-ca.crt')}",
            f"--token-auth-file={self._path('tokens.csv')}", "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-signing-key-file={self._path('sa.key')}",
            f"--service-account-key-file={self._path('sa.pub')}",
            "--service-cluster-ip-range=10.96.0.0/16",
            # Its pods need no ServiceAccount object.
            "--disable-admission-plugins=ServiceAccount",
            f"--cert-dir={self._path('made')}",
            f"--audit-policy-file={self._path('audit.yaml')}",
            f"--audit-log-path={self._path('audit.log')}", "--audit-log-format=json",
        ]

    # -- its life ----------------------------------------------------------------------

    def start(self):
        assert self.process is None, "the API server already runs"
        self._write_token_file()
        with open(self.log_path, "ab") as log:
            self.process = self.ns.popen(*self._argv(), stdin=subprocess.DEVNULL, stdout=log,
                                         stderr=log, start_new_session=True)
        self._started_with = dict(self.users)

        def ready():
            if self.process.poll() is not None:
                raise RuntimeError(f"no API server:\n{self.log_text()[-3000:]}")
            return self.request("GET", "/readyz")[0] == 200

        wait_until(ready, 60, "the API server is ready")
        for name in self.rules:
            self._give(name)
        return self

    def stop(self):
        self.end(signal.SIGTERM, "the API server")

    def kill(self):
        self.end(signal.SIGKILL, "the API server")

    def close(self):
        if self.process is not None:
            self.kill()

    def backup(self):
        return self.etcd.backup()

    def restore(self, path):
        self.kill()
        self.etcd.restore(path)
        self.start()

    # -- users -------------------------------------------------------------------------

    def _users_changed(self):
        if self.process is None:
            return
        if self.users != self._started_with:
            self.restart()
            return
        for name in self.rules:
            self._give(name)

    def _give(self, name):
        """A user's rules, and waits until they are in force."""
        role = {"apiVersion": f"{_GROUP}/v1", "kind": "ClusterRole",
                "metadata": {"name": f"lab:{name}"}, "rules": self.rules[name]}
        binding = {"apiVersion": f"{_GROUP}/v1", "kind": "ClusterRoleBinding",
                   "metadata": {"name": f"lab:{name}"}, "subjects": [_subject(name)],
                   "roleRef": {"apiGroup": _GROUP, "kind": "ClusterRole", "name": f"lab:{name}"}}
        for what, obj in (("clusterroles", role), ("clusterrolebindings", binding)):
            path = f"{_RBAC}/{what}"
            try:
                self._call("PUT", f"{path}/{urllib.parse.quote(obj['metadata']['name'])}", obj)
            except Refused as refused:
                if refused.code != 404:
                    raise
                self._call("POST", path, obj)
        if name == "admin":
            return
        wait_until(lambda: all(
            self._may(name, verb, resource) == self._should(name, verb, resource)
            for rule in FLANNEL_RULES + self.rules[name]
            for verb in rule["verbs"] for resource in rule["resources"]
            if "*" not in verb + resource
        ), 10, f"the rules of {name} are in force")

    def _should(self, name, verb, resource):
        return any({verb, "*"} & set(r["verbs"]) and {resource, "*"} & set(r["resources"])
                   and not r.get("resourceNames") for r in self.rules[name])

    def _may(self, name, verb, resource):
        resource, _, sub = resource.partition("/")
        attributes = {"verb": verb, "resource": resource, **({"subresource": sub} if sub else {})}
        groups = next((list(g) for n, g in self.users.values() if n == name), [])
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
                  "spec": {"user": name, "groups": groups, "resourceAttributes": attributes}}
        return self._call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews",
                          review)["status"]["allowed"]

    # -- objects -----------------------------------------------------------------------

    def _call(self, method, path, body=None, content_type="application/json"):
        data = None if body is None else json.dumps(body)
        status, _, text = self.request(method, path, data, headers={"Content-Type": content_type})
        try:
            answer = json.loads(text)
        except ValueError:
            answer = {"message": text.decode(errors="replace"), "code": status}
        if status >= 400:
            raise Refused(answer)
        return answer

    @staticmethod
    def _changed(obj):
        return {"rv": obj["metadata"].get("resourceVersion"), "at": time.monotonic()}

    def add_nodes(self, specs, render=False):
        made = None
        for spec in specs:
            node = objects.node(**spec)
            for name in ("uid", "creationTimestamp", "managedFields"):
                node["metadata"].pop(name, None)
            made = self._call("POST", "/api/v1/nodes", node)
        return made and self._changed(made)

    def delete_node(self, name):
        return self._changed(self._call("DELETE", f"/api/v1/nodes/{name}"))

    def reregister(self, name, *pod_cidrs, **spec):
        self.delete_node(name)
        return self.add_node(name, *pod_cidrs, **spec)

    def node(self, name):
        return self._call("GET", f"/api/v1/nodes/{name}")

    def nodes(self):
        return [i["metadata"]["name"] for i in self._call("GET", "/api/v1/nodes")["items"]]

    def patch(self, name, patch, content_type=STRATEGIC, subresource=None):
        path = f"/api/v1/nodes/{name}" + (f"/{subresource}" if subresource else "")
        return self._changed(self._call("PATCH", path, patch, content_type))

    def set_conditions(self, name, conditions):
        return self.patch(name, {"status": {"conditions": conditions}}, MERGE, "status")

    def add_pod(self, name, node_name, namespace="kube-flannel"):
        try:
            self._call("POST", "/api/v1/namespaces", {
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        except Refused as refused:
            if refused.code != 409:
                raise
        pod = objects.pod(name, namespace, node_name)
        pod.pop("status")
        for key in ("uid", "creationTimestamp"):
            pod["metadata"].pop(key)
        return self._changed(self._call("POST", f"/api/v1/namespaces/{namespace}/pods", pod))

    def heartbeat(self, names=None):
        """Each a second later than the one before: the same time would be no change."""
        self._beats += 1
        when = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(
            seconds=self._beats)
        beat = [{"type": t, "lastHeartbeatTime": when.strftime("%Y-%m-%dT%H:%M:%SZ")}
                for t in ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")]
        done = None
        for name in self.nodes() if names is None else names:
            done = self.patch(name, {"status": {"conditions": beat}}, subresource="status")
        return done

    def rv(self):
        return self._call("GET", "/api/v1/nodes?limit=1")["metadata"]["resourceVersion"]

    def bump(self, count=1):
        for i in range(count):
            self.etcd.v3.put("/lab/bump", str(i))
        return self.rv()

    def compact(self):
        """etcd's history, and with a restart that of the watch cache."""
        self.etcd.compact()
        self.restart()

    # -- what only the fake does -------------------------------------------------------

    def fault(self, kind, times=1, **how):
        pytest.skip(f"a real kube-apiserver does no fault {kind} to order")

    def end_faults(self, number=None):
        """There are none."""

    def heartbeats(self, period):
        pytest.skip("a real kube-apiserver has no heartbeats of its own")

    def settings(self, **values):
        pytest.skip(f"a real kube-apiserver has no setting {', '.join(values)}")

    def end_watches(self, how="clean"):
        pytest.skip("a real kube-apiserver ends no watches to order")

    def bookmark(self):
        pytest.skip("a real kube-apiserver sends no bookmark to order")

    # -- what it was asked -------------------------------------------------------------

    def _audited(self):
        """One record a request, in the order of their first lines; at and ended are of the
        wall clock, the body and the bytes sent are not known."""
        found = {}
        try:
            with open(self._path("audit.log"), encoding="utf-8") as f:
                lines = f.read().splitlines()
        except FileNotFoundError:
            return []
        for line in lines:
            raw = json.loads(line)
            uri = urllib.parse.urlsplit(raw["requestURI"])
            record = found.setdefault(raw["auditID"], {
                "verb": raw["verb"], "method": _METHODS.get(raw["verb"], raw["verb"].upper()),
                "target": raw["requestURI"], "path": uri.path,
                "query": dict(urllib.parse.parse_qsl(uri.query, keep_blank_values=True)),
                "user": raw["user"].get("username"), "body": None, "sent": None,
                "name": (raw.get("objectRef") or {}).get("name"), "ended": None,
                "headers": {"user-agent": raw.get("userAgent")},
                "peer": (raw.get("sourceIPs") or [None])[0],
                "at": datetime.datetime.fromisoformat(
                    raw["requestReceivedTimestamp"].replace("Z", "+00:00")).timestamp(),
            })
            record["status"] = (raw.get("responseStatus") or {}).get("code")
            if raw["stage"] in ("ResponseComplete", "Panic"):
                record["ended"] = datetime.datetime.fromisoformat(
                    raw["stageTimestamp"].replace("Z", "+00:00")).timestamp()
        return list(found.values())

    def watches(self, **match):
        return [r for r in matching(self._audited(), {"verb": "watch", **match})
                if r.ended is None]

    def mark(self):
        return len(self._audited())

    def requests(self, since=0, **match):
        return matching(self._audited()[since:], match)
