# SPDX-License-Identifier: Apache-2.0
"""kubeobjects.py - an API server for the real kubectl, with no cluster behind it

    with Objects(kubectl) as server:
        server.kubectl("apply", "-f", path)
        server.objects[("DaemonSet", "kube-flannel", "kube-flannel-ds")]

It keeps the objects of the kinds that we ship, without defaults. What a strategic merge patch
makes of one is kubectl's own code (`kubectl patch --local`); that a DaemonSet's selector is
never another one is what the API server would say. Nothing else is refused.
"""

import copy
import http.server
import json
import os
import subprocess
import tempfile
import threading
import uuid

STRATEGIC = "application/strategic-merge-patch+json"
# API path: {resource: (kind, whether it is in a namespace)}
RESOURCES = {
    "/api/v1": {"namespaces": ("Namespace", False), "serviceaccounts": ("ServiceAccount", True),
                "configmaps": ("ConfigMap", True)},
    "/apis/apps/v1": {"daemonsets": ("DaemonSet", True)},
    "/apis/rbac.authorization.k8s.io/v1": {
        "clusterroles": ("ClusterRole", False),
        "clusterrolebindings": ("ClusterRoleBinding", False)},
}
_VERBS = ["create", "delete", "get", "patch"]


class Refused(Exception):
    def __init__(self, code, reason, message):
        super().__init__(message)
        self.code, self.reason = code, reason


def _version(path):
    """The apiVersion of what is below an API path."""
    return path.removeprefix("/apis/").removeprefix("/api/")


def _discovery(path):
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if path == "/apis":
        versions = [_version(p) for p in RESOURCES if p.startswith("/apis/")]
        groups = [{"groupVersion": v, "version": v.split("/")[1]} for v in versions]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [
            {"name": g["groupVersion"].split("/")[0], "versions": [g], "preferredVersion": g}
            for g in groups]}
    if path in RESOURCES:
        return {"kind": "APIResourceList", "groupVersion": _version(path), "resources": [
            {"name": name, "singularName": "", "namespaced": namespaced, "kind": kind,
             "verbs": _VERBS} for name, (kind, namespaced) in RESOURCES[path].items()]}
    return None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def _answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        try:
            code, value = self.server.owner.serve(
                self.command, self.path.split("?")[0], body, self.headers.get("Content-Type"))
        except Refused as e:
            code, value = e.code, {"kind": "Status", "apiVersion": "v1", "status": "Failure",
                                   "message": str(e), "reason": e.reason, "code": e.code,
                                   "details": {"causes": [{"message": str(e)}]}}
        text = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PATCH = do_DELETE = _answer


class Objects:
    def __init__(self, program):
        self.program, self.objects = program, {}

    def __enter__(self):
        self._home = tempfile.TemporaryDirectory()
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.owner = self
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()
        self._home.cleanup()

    def kubectl(self, *args, input=None):
        """What it prints; an AssertionError with what it said when it fails."""
        return run(self.program, f"--server=http://127.0.0.1:{self._http.server_port}", *args,
                   input=input, home=self._home.name)

    # -- requests ----------------------------------------------------------------------

    def serve(self, method, path, body, content_type):
        """(code, object)"""
        found = _discovery(path)
        if found:
            return 200, found
        kind, namespace, name = self._place(path)
        value = json.loads(body) if body else None
        key = (kind, namespace, name or (value or {}).get("metadata", {}).get("name"))
        if method == "POST":
            value["metadata"]["uid"] = str(uuid.uuid4())
            self.objects[key] = value
            return 201, value
        if key not in self.objects:
            raise Refused(404, "NotFound", f"{kind} {name} not found")
        if method == "DELETE":
            return 200, self.objects.pop(key)
        if method == "PATCH":
            assert content_type == STRATEGIC, content_type
            self.objects[key] = self._patched(self.objects[key], body.decode())
        return 200, self.objects[key]

    @staticmethod
    def _place(path):
        for top, resources in RESOURCES.items():
            parts = path.removeprefix(f"{top}/").split("/")
            namespace = None
            if path.startswith(f"{top}/namespaces/") and len(parts) > 2:
                namespace, parts = parts[1], parts[2:]
            if path.startswith(f"{top}/") and parts[0] in resources:
                return resources[parts[0]][0], namespace, parts[1] if len(parts) > 1 else None
        raise Refused(404, "NotFound", f"no {path} here")

    def _patched(self, old, patch):
        text = run(self.program, "patch", "--local", "-f", "-", "--type=strategic", "-p", patch,
                   "-o", "json", input=json.dumps(old), home=self._home.name)
        new = json.loads(text)
        if old["kind"] == "DaemonSet" and old["spec"]["selector"] != new["spec"]["selector"]:
            raise Refused(422, "Invalid", "spec.selector: Invalid value: field is immutable")
        return new

    def plain(self):
        """The objects without what kubectl and the server have noted in them."""
        found = copy.deepcopy(self.objects)
        for value in found.values():
            del value["metadata"]["uid"]
            value["metadata"]["annotations"].pop(
                "kubectl.kubernetes.io/last-applied-configuration")
            if not value["metadata"]["annotations"]:
                del value["metadata"]["annotations"]
        return found


def run(*cmd, input=None, home="/nonexistent"):
    done = subprocess.run(cmd, input=input, capture_output=True, text=True, check=False,
                          errors="replace", timeout=60, env={"PATH": os.environ["PATH"], "HOME": home})
    assert done.returncode == 0, f"{' '.join(cmd)}: {done.stderr}{done.stdout}"
    return done.stdout
