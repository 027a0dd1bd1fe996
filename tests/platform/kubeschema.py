# SPDX-License-Identifier: Apache-2.0
"""kubeschema.py - what Kubernetes would refuse of a manifest, for the kinds that we ship

    documents = load(text)        # strict YAML: no key twice
    check(documents)              # SchemaError with the path of the first fault

Stricter than the API server, which drops fields that it does not know: here they are faults.
A schema is a type, a set of allowed words, a regular expression, [schema of the items],
{"*": schema of all values}, or {key: schema}, where a key that ends in "!" must be there.
"""

import re

import yaml

NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
PATH = re.compile(r"/[^:]*")
PORT_NAME = re.compile(r"(?=.*[a-z])[a-z0-9]([-a-z0-9]{0,13}[a-z0-9])?")
QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|Ki|Mi|Gi|k|M|G)?")
IMAGE = re.compile(r"[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)+:[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
CAPABILITY = re.compile(r"(?!CAP_)[A-Z_]+")

_LABELS = {"*": LABEL}
_META = {"name!": NAME, "namespace": NAME, "labels": _LABELS, "annotations": {"*": str}}
_RESOURCES = {"requests": {"cpu": QUANTITY, "memory": QUANTITY},
              "limits": {"cpu": QUANTITY, "memory": QUANTITY}}
_PROBE = {
    "httpGet!": {"path!": PATH, "port!": (int, PORT_NAME)}, "initialDelaySeconds": int,
    "periodSeconds": int, "timeoutSeconds": int, "failureThreshold": int, "successThreshold": int,
}
_CONTAINER = {
    "name!": NAME, "image!": IMAGE, "imagePullPolicy": {"Always", "IfNotPresent", "Never"},
    "command": [str], "args": [str],
    "env": [{"name!": re.compile(r"[A-Z_]+"), "value": str,
             "valueFrom": {"fieldRef!": {"fieldPath!": {
                 "spec.nodeName", "metadata.name", "metadata.namespace"}}}}],
    "ports": [{"name!": PORT_NAME, "containerPort!": int, "protocol": {"TCP", "UDP"}}],
    "livenessProbe": _PROBE, "readinessProbe": _PROBE, "resources": _RESOURCES,
    "securityContext": {
        "privileged": bool, "allowPrivilegeEscalation": bool, "readOnlyRootFilesystem": bool,
        "capabilities": {"add": [CAPABILITY], "drop": [CAPABILITY]}},
    "volumeMounts": [{"name!": NAME, "mountPath!": PATH, "readOnly": bool}],
}
_VOLUME = {
    "name!": NAME, "configMap": {"name!": NAME}, "emptyDir": {},
    "hostPath": {"path!": PATH, "type": {"DirectoryOrCreate", "FileOrCreate", "Directory"}},
}
_POD = {
    "affinity": {"nodeAffinity!": {"requiredDuringSchedulingIgnoredDuringExecution!": {
        "nodeSelectorTerms!": [{"matchExpressions!": [{
            "key!": str, "operator!": {"In", "NotIn", "Exists"}, "values": [str]}]}]}}},
    "hostNetwork": bool, "priorityClassName": NAME, "serviceAccountName": NAME,
    "nodeSelector": _LABELS, "imagePullSecrets": [{"name!": NAME}],
    "tolerations": [{"operator": {"Exists", "Equal"}, "key": str, "value": str,
                     "effect": {"NoExecute", "NoSchedule", "PreferNoSchedule"}}],
    "securityContext": {"seccompProfile": {"type!": {"RuntimeDefault", "Unconfined"}}},
    "initContainers": [_CONTAINER], "containers!": [_CONTAINER], "volumes": [_VOLUME],
}
KINDS = {
    ("v1", "Namespace"): {"metadata!": _META},
    ("v1", "ServiceAccount"): {"metadata!": _META},
    ("v1", "ConfigMap"): {"metadata!": _META, "data": {"*": str}},
    ("rbac.authorization.k8s.io/v1", "ClusterRole"): {
        "metadata!": _META,
        "rules!": [{"apiGroups!": [str], "resources!": [re.compile(r"[a-z]+(/[a-z]+)?")],
                    "verbs!": [{"get", "list", "watch", "create", "update", "patch", "delete"}]}]},
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): {
        "metadata!": _META,
        "roleRef!": {"apiGroup!": {"rbac.authorization.k8s.io"}, "kind!": {"ClusterRole"},
                     "name!": NAME},
        "subjects!": [{"kind!": {"ServiceAccount"}, "name!": NAME, "namespace!": NAME}]},
    ("apps/v1", "DaemonSet"): {
        "metadata!": _META,
        "spec!": {"selector!": {"matchLabels!": _LABELS},
                  "template!": {"metadata!": {"labels!": _LABELS}, "spec!": _POD}}},
}
_CLUSTER_WIDE = {"Namespace", "ClusterRole", "ClusterRoleBinding"}


class SchemaError(Exception):
    pass


class _Loader(yaml.SafeLoader):
    pass


def _mapping(loader, node):
    pairs = [(loader.construct_object(k, True), loader.construct_object(v, True))
             for k, v in node.value]
    keys = [k for k, _ in pairs]
    if len(set(keys)) != len(keys):
        raise SchemaError(f"line {node.start_mark.line + 1}: a key stands there twice: {keys}")
    return dict(pairs)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def load(text):
    return [d for d in yaml.load_all(text, Loader=_Loader) if d is not None]


def _fault(path, why):
    raise SchemaError(f"{path}: {why}")


def _check_value(value, schema, path):
    if isinstance(schema, tuple):
        for one in schema:
            try:
                return _check_value(value, one, path)
            except SchemaError:
                continue
        _fault(path, f"{value!r} is none of what it may be")
    elif isinstance(schema, type):
        # True is an int to Python, not to Kubernetes.
        if type(value) is not schema:
            _fault(path, f"{value!r} is no {schema.__name__}")
    elif isinstance(schema, re.Pattern):
        if not isinstance(value, str) or not schema.fullmatch(value):
            _fault(path, f"{value!r} is not like {schema.pattern}")
    elif isinstance(schema, set):
        if not isinstance(value, str) or value not in schema:
            _fault(path, f"{value!r} is none of {sorted(schema)}")
    elif isinstance(schema, list):
        if not isinstance(value, list):
            _fault(path, "is no list")
        for i, item in enumerate(value):
            _check_value(item, schema[0], f"{path}[{i}]")
    else:
        _check_members(value, schema, path)


def _check_members(value, schema, path):
    if not isinstance(value, dict):
        _fault(path, "is no object")
    members = {key.rstrip("!"): sub for key, sub in schema.items()}
    for key in schema:
        if key.endswith("!") and key[:-1] not in value:
            _fault(path, f"lacks {key[:-1]}")
    for key, item in value.items():
        if key not in members and "*" not in members:
            _fault(path, f"has no field {key}")
        _check_value(item, members.get(key, members.get("*")), f"{path}.{key}")


def _check_pod(pod, path):
    volumes = [v["name"] for v in pod.get("volumes", [])]
    if len(set(volumes)) != len(volumes):
        _fault(path, "two volumes have one name")
    for volume in pod.get("volumes", []):
        if len(volume) != 2:
            _fault(path, f"volume {volume['name']} wants one source")
    containers = pod.get("initContainers", []) + pod["containers"]
    if len({c["name"] for c in containers}) != len(containers):
        _fault(path, "two containers have one name")
    used = set()
    for c in containers:
        where = f"{path}, container {c['name']}"
        ports = {p["name"] for p in c.get("ports", [])}
        mounts = [m["mountPath"].rstrip("/") for m in c.get("volumeMounts", [])]
        if len(set(mounts)) != len(mounts):
            _fault(where, "two volumes at one path")
        for mount in c.get("volumeMounts", []):
            used.add(mount["name"])
            if mount["name"] not in volumes:
                _fault(where, f"mounts {mount['name']}, which is no volume")
        for probe in ("livenessProbe", "readinessProbe"):
            port = c.get(probe, {}).get("httpGet", {}).get("port")
            if isinstance(port, str) and port not in ports:
                _fault(where, f"{probe} asks port {port}, which it has not")
        for env in c.get("env", []):
            if ("value" in env) == ("valueFrom" in env):
                _fault(where, f"{env['name']} wants value or valueFrom")
    for name in volumes:
        if name not in used:
            _fault(path, f"nobody mounts volume {name}")


def _check_references(documents):
    there = {(d["kind"], d["metadata"].get("namespace"), d["metadata"]["name"])
             for d in documents}
    if len(there) != len(documents):
        _fault("documents", "two objects of one kind and name")

    def want(kind, namespace, name, path):
        if (kind, namespace, name) not in there:
            _fault(path, f"refers to {kind} {name}, which is not there")

    for d in documents:
        path, namespace = f"{d['kind']} {d['metadata']['name']}", d["metadata"].get("namespace")
        if (namespace is None) != (d["kind"] in _CLUSTER_WIDE):
            _fault(path, "namespace: missing, or of a kind that has none")
        if d["kind"] == "ClusterRoleBinding":
            want("ClusterRole", None, d["roleRef"]["name"], path)
            for subject in d["subjects"]:
                want("ServiceAccount", subject["namespace"], subject["name"], path)
        if d["kind"] == "DaemonSet":
            template = d["spec"]["template"]
            if not d["spec"]["selector"]["matchLabels"].items() \
                    <= template["metadata"]["labels"].items():
                _fault(path, "the selector does not select the template's labels")
            want("ServiceAccount", namespace, template["spec"]["serviceAccountName"], path)
            for volume in template["spec"].get("volumes", []):
                if "configMap" in volume:
                    want("ConfigMap", namespace, volume["configMap"]["name"], path)
            _check_pod(template["spec"], path)


def check(documents):
    for i, d in enumerate(documents):
        path = f"{d.get('kind')} {d.get('metadata', {}).get('name', i)}"
        schema = KINDS.get((d.get("apiVersion"), d.get("kind")))
        if schema is None:
            _fault(path, "apiVersion and kind are none of ours")
        _check_members(d, {"apiVersion!": str, "kind!": str, **schema}, path)
    _check_references(documents)
