# SPDX-License-Identifier: Apache-2.0
"""kube_nodes.py - a cluster's nodes as a datastore of the lab, for tests that run on all"""

import json
import os
import re

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
