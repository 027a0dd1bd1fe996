# SPDX-License-Identifier: Apache-2.0
"""kube_patch.py - what a PATCH makes of a node: merge patch, strategic merge patch, and what
the API server then allows

Neither changes what it is given: an object that stays the same is the same. JSON patch and
server-side apply, which the API has too, are not done here (415).
"""

import json
import re

from .kube_objects import Refusal, bad_request, conflict, invalid, modified

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
_KNOWN = ("application/json-patch+json", MERGE, STRATEGIC, "application/apply-patch+yaml")

# Lists that a strategic merge merges, by the key of their members; None: plain values.
_MERGE_KEYS = {"conditions": "type", "addresses": "type", "taints": "key", "podCIDRs": None,
               "finalizers": None, "ownerReferences": "uid"}
_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_DOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_ANNOTATIONS_MAX = 256 * 1024


def merge(old, patch):
    """RFC 7396: null removes, a list is replaced as a whole."""
    if not isinstance(patch, dict):
        return patch
    found = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merge(found.get(key), value)
    return found


def strategic(old, patch):
    """As merge(), but the lists that the API declares so are merged by their members' keys."""
    if not isinstance(patch, dict):
        return patch
    patch = dict(patch)
    directive = patch.pop("$patch", None)
    if directive == "replace":
        return {k: v for k, v in patch.items() if v is not None}
    if directive == "delete":
        return {}
    found = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if key.startswith(("$setElementOrder/", "$retainKeys")):
            continue
        if key.startswith("$deleteFromPrimitiveList/"):
            key = key.split("/", 1)[1]
            found[key] = [x for x in found.get(key, []) if x not in value]
        elif value is None:
            found.pop(key, None)
        elif isinstance(value, list) and key in _MERGE_KEYS:
            found[key] = _merge_list(found.get(key) or [], value, _MERGE_KEYS[key])
        else:
            found[key] = strategic(found.get(key), value)
    return found


def _merge_list(old, patch, merge_key):
    """New members come before those that were there, as the API server has it."""
    if merge_key is None:
        return [x for x in patch if x not in old] + old
    if any(x.get("$patch") == "replace" for x in patch if isinstance(x, dict)):
        return [x for x in patch if "$patch" not in x]
    new, merged = [], {x.get(merge_key): x for x in old}
    for x in patch:
        if not isinstance(x, dict) or merge_key not in x:
            raise bad_request(f"map: {json.dumps(x)} does not contain declared merge key: "
                              f"{merge_key}")
        key = x[merge_key]
        if x.get("$patch") == "delete":
            merged.pop(key, None)
        elif key in merged:
            merged[key] = strategic(merged[key], x)
        else:
            merged[key] = strategic({}, x)
            new.append(key)
    first = [merged[key] for key in new if key in merged]
    return first + [x for key, x in merged.items() if key not in new]


def apply(obj, content_type, body, subresource=None):
    """The node that a PATCH makes of obj; obj itself when nothing would change."""
    kind = (content_type or "").split(";")[0].strip()
    if kind not in (MERGE, STRATEGIC):
        raise Refusal(415, "UnsupportedMediaType",
                      "the body of the request was in an unknown format - accepted media types "
                      f"include: {', '.join(_KNOWN)}")
    patch = _parsed(body)
    name = obj["metadata"]["name"]
    metadata = patch.get("metadata") or {}
    if metadata.get("name", name) != name:
        raise bad_request(f"the name of the object ({metadata['name']}) does not match the name "
                          f"on the URL ({name})")
    if metadata.get("resourceVersion") not in (None, "", obj["metadata"]["resourceVersion"]):
        raise modified("nodes", name)
    uid = obj["metadata"]["uid"]
    if metadata.get("uid") not in (None, "", uid):
        raise conflict("nodes", name, f"Precondition failed: UID in precondition: "
                                      f"{metadata['uid']}, UID in object meta: {uid}")
    new = (strategic if kind == STRATEGIC else merge)(obj, patch)
    return _settle(obj, new, patch, subresource)


def _parsed(body):
    try:
        patch = json.loads(body)
    except ValueError as e:
        raise bad_request(f"error decoding patch: {e}") from None
    if not isinstance(patch, dict):
        raise bad_request("error decoding patch: json: cannot unmarshal into Go value of type "
                          "map[string]interface {}")
    return patch


def _settle(old, new, patch, subresource):
    """Puts back what this request may not change, and checks the rest."""
    kept = {k: old["metadata"].get(k) for k in
            ("name", "uid", "resourceVersion", "creationTimestamp", "managedFields")}
    metadata = {**new["metadata"], **{k: v for k, v in kept.items() if v is not None}}
    for part in ("labels", "annotations"):
        # A map whose last member was removed is left out.
        if not metadata.get(part):
            metadata.pop(part, None)
    new = {**new, "kind": old["kind"], "apiVersion": old["apiVersion"], "metadata": metadata}
    for part in ["spec"] if subresource == "status" else ["status"]:
        new[part] = old[part]
    _even_pod_cidrs(old, new)
    _check_status(new, patch)
    _check_map(new["metadata"]["name"], "annotations", metadata.get("annotations", {}))
    _check_map(new["metadata"]["name"], "labels", metadata.get("labels", {}))
    _check_pod_cidr(old, new)
    return old if new == old else new


def _check_status(new, patch):
    def wrong(what):
        return invalid("", "", "patch", "FieldValueInvalid",
                       f"Invalid value: {json.dumps(json.dumps(patch))}: {what}")

    for part in ("annotations", "labels"):
        values = new["metadata"].get(part, {})
        if not isinstance(values, dict) or any(not isinstance(v, str) for v in values.values()):
            raise wrong(f"unrecognized type: {part} wants strings")
    conditions = new["status"].get("conditions", [])
    if not isinstance(conditions, list) or not all(isinstance(c, dict) for c in conditions):
        raise wrong("unrecognized type: conditions wants a list of objects")
    new["status"] = {**new["status"], "conditions": [_condition(c, wrong) for c in conditions]}


def _condition(raw, wrong):
    """Times that were not given are null in the API's JSON."""
    found = {**raw, **{key: raw.get(key) for key in ("lastHeartbeatTime", "lastTransitionTime")}}
    for key, value in found.items():
        if key.endswith("Time"):
            if value is not None and not re.fullmatch(r"[-0-9]{10}T[0-9:]{8}Z", str(value)):
                raise wrong(f'parsing time "{value}" as "2006-01-02T15:04:05Z07:00"')
        elif not isinstance(value, str):
            raise wrong(f"unrecognized type: {key} wants a string")
    return found


def _check_map(name, field, values):
    for key in values:
        prefix, slash, last = key.rpartition("/")
        good = _NAME.fullmatch(last) and len(last) <= 63
        if slash:
            good = good and _DOMAIN.fullmatch(prefix) and len(prefix) <= 253
        if not good:
            raise invalid("Node", name, f"metadata.{field}", "FieldValueInvalid",
                          f'Invalid value: "{key}": a qualified name must consist of alphanumeric '
                          "characters, '-', '_' or '.', and must start and end with an "
                          "alphanumeric character")
    if field == "annotations":
        size = sum(len(k.encode()) + len(v.encode()) for k, v in values.items())
        if size > _ANNOTATIONS_MAX:
            raise invalid("Node", name, "metadata.annotations", "FieldValueTooLong",
                          f"Too long: must have at most {_ANNOTATIONS_MAX} bytes")


def _check_pod_cidr(old, new):
    was, now_ = _pod_cidrs(old), _pod_cidrs(new)
    if any(was) and was != now_:
        raise invalid("Node", new["metadata"]["name"], "spec.podCIDRs", "FieldValueForbidden",
                      'Forbidden: node updates may not change podCIDR except from "" to valid')


def _even_pod_cidrs(old, new):
    """podCIDR is the first of podCIDRs: who sets one of them has set both."""
    spec, was = new["spec"], old["spec"]
    if spec.get("podCIDR") and spec["podCIDR"] != was.get("podCIDR"):
        if spec["podCIDR"] not in spec.get("podCIDRs", ())[:1]:
            new["spec"] = {**spec, "podCIDRs": [spec["podCIDR"]]}
    elif spec.get("podCIDRs") and not spec.get("podCIDR"):
        new["spec"] = {**spec, "podCIDR": spec["podCIDRs"][0]}


def _pod_cidrs(obj):
    spec = obj.get("spec") or {}
    return spec.get("podCIDR", ""), tuple(spec.get("podCIDRs") or ())
