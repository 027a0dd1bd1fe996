# SPDX-License-Identifier: Apache-2.0
"""kube_rbac.py - who asks the API server, and whether they may

A token or a client certificate (CN: the user, O: the groups) makes a User; without either it
is system:anonymous; a token that nobody has is refused with 401. What a user may do is a list
of rules in the form of Kubernetes' PolicyRule, as a manifest has them. Members of
system:masters may do everything.
"""

from .kube_objects import Refusal

FLANNEL = "system:serviceaccount:kube-flannel:flannel"
MASTERS = "system:masters"
# What the manifest gives flannel, and nothing more.
FLANNEL_RULES = [
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": [""], "resources": ["nodes/status"], "verbs": ["patch"]},
]


class User:
    def __init__(self, name, groups=()):
        self.name, self.groups = name, tuple(groups)


ANONYMOUS = User("system:anonymous", ["system:unauthenticated"])


def of_certificate(peer):
    """The User of a verified certificate, as ssl's getpeercert() has it; None: it has no CN."""
    parts = [pair for rdn in (peer or {}).get("subject", ()) for pair in rdn]
    names = [value for key, value in parts if key == "commonName"]
    groups = [value for key, value in parts if key == "organizationName"]
    return User(names[0], [*groups, "system:authenticated"]) if names else None


class Ask:
    """One request as authorization sees it."""

    def __init__(self, verb, resource, name=None, namespace=None, subresource=None):
        self.verb, self.resource, self.name = verb, resource, name
        self.namespace, self.subresource = namespace, subresource

    @property
    def full(self):
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


def _matches(rule, ask):
    names = rule.get("resourceNames") or []
    return (
        any(g in ("", "*") for g in rule.get("apiGroups", [""]))
        and any(v in (ask.verb, "*") for v in rule.get("verbs", []))
        and any(r in (ask.full, "*") for r in rule.get("resources", []))
        and (not names or ask.name in names)
    )


def check(user, rules, ask):
    """Raises the 403 that the API server gives."""
    if MASTERS in user.groups or any(_matches(rule, ask) for rule in rules):
        return
    what = f'{ask.resource} "{ask.name}"' if ask.name else ask.resource
    where = f'in the namespace "{ask.namespace}"' if ask.namespace else "at the cluster scope"
    details = {"kind": ask.resource}
    if ask.name:
        details = {"name": ask.name, **details}
    raise Refusal(
        403, "Forbidden",
        f'{what} is forbidden: User "{user.name}" cannot {ask.verb} resource "{ask.full}" '
        f'in API group "" {where}', details)
