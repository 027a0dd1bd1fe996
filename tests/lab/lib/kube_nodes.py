# SPDX-License-Identifier: Apache-2.0
"""kube_nodes.py - a cluster's nodes as a datastore of the lab, for tests that run on all"""

import json
import os
import re

from .expect import wait_until
from .kube_volume import mount_files
from .store import Records

PREFIX = "flannel.alpha.coreos.com"
_TEXTS = {"PublicIP": "public-ip", "PublicIPv6": "public-ipv6", "BackendType": "backend-type"}
_DATA = {"BackendData": "backend-data", "BackendV6Data": "backend-v6-data"}


def peer_annotations(public_ip, mac=None, vni=1, prefix=PREFIX):
    """What another node's flannel wrote: vxlan with mac, else host-gw."""
    data = json.dumps({"VNI": vni, "VtepMAC": mac}, separators=(",", ":")) if mac else "null"
    return {f"{prefix}/kube-subnet-manager": "true", f"{prefix}/public-ip": public_ip,
            f"{prefix}/backend-type": "vxlan" if mac else "host-gw",
            f"{prefix}/backend-data": data}


class Nodes(Records):
    """The cluster's nodes as the lab's datastore: a key is a node's name. Records written by
    hand are other nodes; each host's own node is named like the host."""

    def __init__(self, kube):
        self.kube = kube
        self.config_dir = os.path.join(kube.dir, "net-conf")
        self.flags = ["--kube-subnet-mgr", f"--kubeconfig-file={kube.kubeconfig()}",
                      f"--net-config-path={self.config_dir}/net-conf.json"]

    def flanneld_flags(self):
        return list(self.flags)

    def environment(self, host):
        return {"NODE_NAME": host.name}

    def wait_told(self, hosts, flags):
        if "--set-node-network-unavailable=false" not in flags:
            for host in hosts:
                wait_until(lambda h=host: self.kube.condition(h.name), 5, "the node's condition")

    def file(self, *names):
        return os.path.join(self.config_dir, *names)

    def write(self, name, text):
        """A ConfigMap as the kubelet mounts it."""
        assert name == "config"
        mount_files(self.config_dir, {"net-conf.json": text})

    def keys(self):
        return self.kube.nodes()

    def lease(self, key):
        found = self.kube.annotations(key)
        record = {k: found[f"{PREFIX}/{v}"] for k, v in _TEXTS.items() if f"{PREFIX}/{v}" in found}
        record.update({k: json.loads(found[f"{PREFIX}/{v}"]) for k, v in _DATA.items()
                       if f"{PREFIX}/{v}" in found})
        return record

    def put_lease(self, key, record, expires_in=86400):
        """A key like 10.5.7.0-24, with & and an IPv6 one after it for both, gives the node's
        PodCIDRs; its name is made of it."""
        annotations = {f"{PREFIX}/{v}": record[k] for k, v in _TEXTS.items() if k in record}
        annotations.update({f"{PREFIX}/{v}": json.dumps(record[k], separators=(",", ":"))
                            for k, v in _DATA.items() if k in record})
        annotations[f"{PREFIX}/kube-subnet-manager"] = "true"
        name = self.name(key)
        if name in self.kube.nodes():
            self.kube.annotate(name, annotations)
            return
        cidrs = ["/".join(part.rsplit("-", 1)) for part in key.split("&")]
        self.kube.add_node(name, *cidrs, annotations=annotations, address=record.get("PublicIP"))

    @staticmethod
    def name(key):
        """The node's name for a key of put_lease()."""
        return "n-" + re.sub("[^0-9a-z.]+", "-", key)

    def remove(self, key):
        self.kube.delete_node(key if key in self.kube.nodes() else self.name(key))


def wanted_overlay(kube, host, near=lambda ip: False):
    """What host's kernel has to hold of the other nodes, as API objects are now: {"routes",
    "neighbours", "fdb"}; near(public IP): a plain route goes there, whatever the backend."""
    routes, neighbours, fdb = {}, {}, []
    for name in kube.nodes():
        node = kube.node(name)
        found = node["metadata"].get("annotations", {})
        if name == host.name or found.get(f"{PREFIX}/kube-subnet-manager") != "true":
            continue
        for cidr in node["spec"].get("podCIDRs", []):
            v6 = "v6" if ":" in cidr else ""
            ip = found[f"{PREFIX}/public-ip{v6}"]
            if found[f"{PREFIX}/backend-type"] == "host-gw" or near(ip):
                routes[cidr] = f"via {ip} dev eth0 proto 87"
                continue
            device, base = f"flannel{v6 and '-v6'}.1", cidr.split("/")[0]
            mac = json.loads(found[f"{PREFIX}/backend{v6 and '-v6'}-data"])["VtepMAC"]
            routes[cidr] = f"via {base} dev {device} onlink proto 87"
            neighbours[base] = mac
            fdb.append((mac, ip))
    return {"routes": routes, "neighbours": neighbours, "fdb": sorted(fdb)}


def seen_overlay(host):
    """The same of what is there."""
    overlay = host.overlay()
    devices = overlay["devices"].values()
    return {"routes": overlay["routes"],
            "neighbours": {k: v for d in devices for k, v in d["neighbours"].items()},
            "fdb": sorted(e for d in devices for e in d["fdb"])}
