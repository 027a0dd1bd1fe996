# SPDX-License-Identifier: Apache-2.0
"""kube_objects.py - Kubernetes' objects as the API server writes them: nodes, pods, Status

Objects are dicts that nobody changes once they are made: a change makes a new dict that
shares what stays. A Snapshot is one object at one resourceVersion, and its JSON, rendered
when it is first asked for. The JSON is Go's: compact, members in the order of the API's
structs, maps sorted, and <, > and & escaped.

The synthetic node is of a real one's size: 14 KB with 50 images, 4 conditions and
managedFields, 2.7 KB as PartialObjectMetadata.
"""

import datetime
import json
import re
import uuid

PARTIAL_KIND = '"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1"'
KINDS = {"nodes": "Node", "pods": "Pod"}

_ORDER = {
    "object": ["kind", "apiVersion", "metadata", "spec", "status"],
    "metadata": ["name", "generateName", "namespace", "uid", "resourceVersion",
                 "creationTimestamp", "deletionTimestamp", "labels", "annotations",
                 "ownerReferences", "finalizers", "managedFields"],
    "spec": ["podCIDR", "podCIDRs", "providerID", "unschedulable", "taints"],
    "status": ["capacity", "allocatable", "phase", "conditions", "addresses",
               "daemonEndpoints", "nodeInfo", "images"],
    "condition": ["type", "status", "lastHeartbeatTime", "lastTransitionTime", "reason",
                  "message"],
}
_ESCAPES = {"&": "\\u0026", "<": "\\u003c", ">": "\\u003e", "\u2028": "\\u2028",
            "\u2029": "\\u2029"}
_ESCAPED = re.compile("[&<>\u2028\u2029]")


def go_json(value):
    """Compact JSON as Go's encoder writes it, in the order that value has."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    if _ESCAPED.search(text):
        text = _ESCAPED.sub(lambda m: _ESCAPES[m[0]], text)
    return text


def now():
    """The API's time: whole seconds of UTC."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _ordered(value, what):
    names = _ORDER[what]
    known = {k: value[k] for k in names if k in value}
    known.update({k: v for k, v in value.items() if k not in known})
    return known


def ordered_metadata(metadata):
    found = _ordered(metadata, "metadata")
    for name in ("labels", "annotations"):
        if found.get(name):
            found[name] = dict(sorted(found[name].items()))
        else:
            found.pop(name, None)
    return found


def ordered(obj):
    """An object of kind Node or Pod in the API's order."""
    found = _ordered(obj, "object")
    found["metadata"] = ordered_metadata(obj["metadata"])
    found["spec"] = _ordered(obj.get("spec") or {}, "spec")
    if "status" in found:
        status = found["status"] = _ordered(found["status"], "status")
        if "conditions" in status:
            status["conditions"] = [_ordered(c, "condition") for c in status["conditions"]]
    return found


class Snapshot:
    """One object at one resourceVersion. tail(partial): its JSON from "metadata" on, without
    the brace and the kind before it, as a list's items have none."""

    __slots__ = ("obj", "rv", "_full", "_partial")

    def __init__(self, obj, rv):
        self.obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(rv)}}
        self.rv = rv
        self._full = self._partial = None

    def __reduce__(self):
        return Snapshot, (self.obj, self.rv)

    @property
    def name(self):
        return self.obj["metadata"]["name"]

    def tail(self, partial=False):
        if partial:
            if self._partial is None:
                metadata = ordered_metadata(self.obj["metadata"])
                self._partial = f'"metadata":{go_json(metadata)}}}'.encode()
            return self._partial
        if self._full is None:
            full = ordered(self.obj)
            full.pop("kind", None)
            full.pop("apiVersion", None)
            self._full = go_json(full)[1:].encode()
        return self._full

    def whole(self, partial=False):
        kind = f'"kind":"{self.obj["kind"]}","apiVersion":"v1"'
        return b"{%s,%s" % ((PARTIAL_KIND if partial else kind).encode(), self.tail(partial))

    def heartbeat(self, rv, time):
        """The kubelet was heard of: another rv and other times, the JSON by replacement."""
        status = self.obj["status"]
        old = next((c["lastHeartbeatTime"] for c in status["conditions"]
                    if c["type"] != "NetworkUnavailable"), time)
        conditions = [
            {**c, "lastHeartbeatTime": time} if c["type"] != "NetworkUnavailable" else c
            for c in status["conditions"]
        ]
        other = Snapshot({**self.obj, "status": {**status, "conditions": conditions}}, rv)
        replaced = (f'"resourceVersion":"{self.rv}"'.encode(),
                    f'"resourceVersion":"{rv}"'.encode())
        same = all(c["lastHeartbeatTime"] == old for c in status["conditions"]
                   if c["type"] != "NetworkUnavailable")
        if self._full and same and not any(
            c["type"] == "NetworkUnavailable" and c.get("lastHeartbeatTime") == old
            for c in status["conditions"]
        ):
            other._full = self._full.replace(*replaced, 1).replace(
                f'"lastHeartbeatTime":"{old}"'.encode(),
                f'"lastHeartbeatTime":"{time}"'.encode())
        if self._partial:
            other._partial = self._partial.replace(*replaced, 1)
        # One rendered copy of each object is enough; history renders again what it needs.
        self._full = self._partial = None
        return other


# -- nodes and pods --------------------------------------------------------------------

def _image(i):
    digest = f"{i * 0x9E3779B97F4A7C15 % (1 << 256):064x}"
    repository = f"registry.example.com/platform/component-{i:02}"
    return {"names": [f"{repository}@sha256:{digest}", f"{repository}:v1.{i}.0"],
            "sizeBytes": 400000000 - 7654321 * i}


_IMAGES = [_image(i) for i in range(50)]


def _fields(names):
    return {f"f:{name}": {} for name in names}


def _managed_fields(time):
    condition = {".": {}, "f:lastHeartbeatTime": {}, "f:lastTransitionTime": {}, "f:message": {},
                 "f:reason": {}, "f:status": {}, "f:type": {}}
    types = ("DiskPressure", "MemoryPressure", "PIDPressure", "Ready")
    kubelet = {
        "f:metadata": {
            "f:annotations": {".": {}, "f:volumes.kubernetes.io/controller-managed-attach-detach":
                              {}},
            "f:labels": {".": {}, **_fields((
                "beta.kubernetes.io/arch", "beta.kubernetes.io/os", "kubernetes.io/arch",
                "kubernetes.io/hostname", "kubernetes.io/os"))},
        },
        "f:status": {
            "f:addresses": {f'k:{{"type":"{t}"}}': {".": {}, "f:address": {}, "f:type": {}}
                            for t in ("Hostname", "InternalIP")},
            "f:allocatable": {".": {}, **_fields(("cpu", "ephemeral-storage", "memory", "pods"))},
            "f:capacity": {".": {}, **_fields(("cpu", "ephemeral-storage", "memory", "pods"))},
            "f:conditions": {".": {}, **{f'k:{{"type":"{t}"}}': condition for t in types}},
            "f:daemonEndpoints": {"f:kubeletEndpoint": {"f:Port": {}}},
            "f:images": {},
            "f:nodeInfo": _fields((
                "architecture", "bootID", "containerRuntimeVersion", "kernelVersion",
                "kubeProxyVersion", "kubeletVersion", "machineID", "operatingSystem", "osImage",
                "systemUUID")),
        },
    }
    manager = {"f:spec": {"f:podCIDR": {}, "f:podCIDRs": {".": {}, 'v:"10.5.0.0/24"': {}}}}
    return [
        {"manager": name, "operation": "Update", "apiVersion": "v1", "time": time,
         "fieldsType": "FieldsV1", "fieldsV1": fields}
        for name, fields in (("kube-controller-manager", manager), ("kubelet", kubelet))
    ]


def condition(kind, status, reason, message, time):
    return {"type": kind, "status": status, "lastHeartbeatTime": time,
            "lastTransitionTime": time, "reason": reason, "message": message}


def _conditions(time):
    return [
        condition("MemoryPressure", "False", "KubeletHasSufficientMemory",
                  "kubelet has sufficient memory available", time),
        condition("DiskPressure", "False", "KubeletHasNoDiskPressure",
                  "kubelet has no disk pressure", time),
        condition("PIDPressure", "False", "KubeletHasSufficientPID",
                  "kubelet has sufficient PID available", time),
        condition("Ready", "True", "KubeletReady",
                  "kubelet is posting ready status. AppArmor enabled", time),
    ]


_RESOURCES = {"cpu": "8", "ephemeral-storage": "101430960Ki", "memory": "32657192Ki",
              "pods": "110"}


def node(name, pod_cidrs=(), annotations=None, labels=None, address=None, small=False, uid=None):
    """A node as kubelet and controller manager make it; small: without images and
    managedFields, for tests that read it."""
    time = now()
    uid = uid or str(uuid.uuid4())
    metadata = {
        "name": name, "uid": uid, "creationTimestamp": time,
        "labels": {"beta.kubernetes.io/arch": "amd64", "beta.kubernetes.io/os": "linux",
                   "kubernetes.io/arch": "amd64", "kubernetes.io/hostname": name,
                   "kubernetes.io/os": "linux", **(labels or {})},
        "annotations": {"volumes.kubernetes.io/controller-managed-attach-detach": "true",
                        **(annotations or {})},
    }
    spec = {"podCIDR": pod_cidrs[0], "podCIDRs": list(pod_cidrs)} if pod_cidrs else {}
    addresses = [{"type": "InternalIP", "address": address}] if address else []
    status = {
        "capacity": _RESOURCES, "allocatable": _RESOURCES, "conditions": _conditions(time),
        "addresses": [*addresses, {"type": "Hostname", "address": name}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10250}},
        "nodeInfo": {
            "machineID": uid.replace("-", ""), "systemUUID": uid, "bootID": uid,
            "kernelVersion": "6.1.0-26-amd64", "osImage": "Debian GNU/Linux 12 (bookworm)",
            "containerRuntimeVersion": "containerd://1.7.22", "kubeletVersion": "v1.31.1",
            "kubeProxyVersion": "v1.31.1", "operatingSystem": "linux", "architecture": "amd64"},
    }
    if not small:
        metadata["managedFields"] = _managed_fields(time)
        status["images"] = _IMAGES
    return {"kind": "Node", "apiVersion": "v1", "metadata": metadata, "spec": spec,
            "status": status}


def pod(name, namespace, node_name):
    spec = {"containers": [{"name": "kube-flannel", "image": "weft", "resources": {}}],
            "restartPolicy": "Always", "serviceAccountName": "flannel", "hostNetwork": True}
    if node_name:
        spec["nodeName"] = node_name
    return {"kind": "Pod", "apiVersion": "v1",
            "metadata": {"name": name, "namespace": namespace, "uid": str(uuid.uuid4()),
                         "creationTimestamp": now()},
            "spec": spec, "status": {"phase": "Running"}}


# What a bookmark's object has besides its resourceVersion: an empty Node.
EMPTY_NODE = (
    '"spec":{},"status":{"daemonEndpoints":{"kubeletEndpoint":{"Port":0}},"nodeInfo":'
    '{"machineID":"","systemUUID":"","bootID":"","kernelVersion":"","osImage":"",'
    '"containerRuntimeVersion":"","kubeletVersion":"","kubeProxyVersion":"",'
    '"operatingSystem":"","architecture":""}}')


def bookmark(rv, partial):
    metadata = f'"metadata":{{"resourceVersion":"{rv}","creationTimestamp":null}}'
    text = f"{PARTIAL_KIND},{metadata}" if partial else (
        f'"kind":"Node","apiVersion":"v1",{metadata},{EMPTY_NODE}')
    return f"{{{text}}}".encode()


# -- Status ----------------------------------------------------------------------------

class Refusal(Exception):
    """A request that is answered with a Status (or, by code 429, with a line of text)."""

    def __init__(self, code, reason, message, details=None, metadata=None, retry_after=None):
        super().__init__(message)
        self.code, self.retry_after = code, retry_after
        self.status = {"kind": "Status", "apiVersion": "v1", "metadata": metadata or {},
                       "status": "Failure", "message": message, "reason": reason,
                       **({"details": details} if details else {}), "code": code}

    def body(self):
        return go_json(self.status).encode() + b"\n"


def bad_request(message):
    return Refusal(400, "BadRequest", message)


def unauthorized():
    return Refusal(401, "Unauthorized", "Unauthorized")


def not_found(resource, name):
    return Refusal(404, "NotFound", f'{resource} "{name}" not found',
                   {"name": name, "kind": resource})


def not_acceptable(message):
    return Refusal(406, "NotAcceptable", message)


def conflict(resource, name, message):
    return Refusal(409, "Conflict",
                   f'Operation cannot be fulfilled on {resource} "{name}": {message}',
                   {"name": name, "kind": resource})


def modified(resource, name):
    return conflict(resource, name, "the object has been modified; please apply your changes "
                    "to the latest version and try again")


def expired(message, metadata=None):
    return Refusal(410, "Expired", message, metadata=metadata)


def too_old(rv, current):
    return expired(f"too old resource version: {rv} ({current})")


def too_large(rv, current):
    message = f"Too large resource version: {rv}, current: {current}"
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    return Refusal(504, "Timeout", message, {"causes": [cause], "retryAfterSeconds": 1},
                   retry_after=1)


def invalid(kind, name, field, reason, message):
    """reason: FieldValueInvalid, FieldValueForbidden."""
    details = {"name": name, "kind": kind,
               "causes": [{"reason": reason, "message": message, "field": field}]}
    if not name:
        details = {"causes": details["causes"]}
    return Refusal(422, "Invalid", f'{kind} "{name}" is invalid: {field}: {message}', details)
