# SPDX-License-Identifier: Apache-2.0
"""podman.py - a real podman with its CNI backend on a lab host, and its containers

    podman = Podman(Machine.of(host))
    podman.write_network("10-flannel.conflist", {...})
    web = podman.run("web", "httpd", "-f", "-p", "80", flags=["-p", "8080:80"])
    podman.close()

It is no daemon: what runs is a conmon for each container. What it keeps, names of network
namespaces too, is in a /run of its own (lib/inner.py). Only the cgroups remain; they bear the
run's name.
"""

import json
import os

from . import cgroup, rootfs
from .inner import Inner, Inside

IMAGE = "lab"
_APPLETS = ["cat", "httpd", "ip", "nc", "ping", "sh", "sleep", "true", "wget"]
_CONF = """[network]
network_backend = "cni"
cni_plugin_dirs = ["{bin}"]
network_config_dir = "{networks}"
default_network = "{default}"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"
tmp_dir = "/run/libpod/tmp"
network_cmd_path = ""
[containers]
# More than a machine's own limit cannot be given without CAP_SYS_RESOURCE.
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"
"""


class Container:
    def __init__(self, podman, name):
        self.podman, self.short = podman, name
        self.name = f"{podman.machine.ns.short}/{name}"
        state = json.loads(podman.cli("inspect", name))[0]
        self.id = state["Id"]
        settings = state["NetworkSettings"]
        networks = settings["Networks"].values()
        self.addresses = [a for n in networks for a in (n["IPAddress"], n["GlobalIPv6Address"])
                          if a]
        self.ns = Inside(podman.lab, podman.inner.path(settings["SandboxKey"]))

    def exec(self, *cmd):
        return self.podman.cli("exec", self.short, *cmd)


class Podman:
    def __init__(self, machine, default="cbr0"):
        self.machine, self.lab = machine, machine.lab
        self.dir = os.path.join(machine.dir, "podman")
        self.networks = os.path.join(self.dir, "net.d")
        self.conf = os.path.join(self.dir, "containers.conf")
        self.cgroup = f"{self.lab.prefix}{machine.ns.short}"
        os.makedirs(self.networks)
        with open(self.conf, "w", encoding="utf-8") as f:
            f.write(_CONF.format(bin=machine.bin, networks=self.networks, default=default))
        self.inner = Inner(machine, self.dir)

    def write_network(self, name, conf):
        with open(os.path.join(self.networks, name), "w", encoding="utf-8") as f:
            json.dump(conf, f)

    def cli(self, *args, check=True, input=None):
        """What `podman ARGS` prints; check=False: or "" when it fails."""
        return self.inner.run(
            "podman", "--root=/run/storage", "--runroot=/run/storage-run", "--storage-driver=vfs",
            *args, check=check, input=input, CONTAINERS_CONF=self.conf)

    def run(self, name, *cmd, flags=()):
        """A new container; without a command one that does nothing by itself."""
        if not self.cli("images", "-q", IMAGE):
            page = {"www/index.html": "hello from a container\n"}
            self.cli("import", "-", IMAGE, input=rootfs.tar(_APPLETS, page))
        self.cli("run", "-d", "--name", name, f"--cgroup-parent=/{self.cgroup}", *flags, IMAGE,
                 *(cmd or ("sleep", "inf")))
        return Container(self, name)

    def remove(self, container):
        self.cli("rm", "-f", "-t", "0", container.short)

    def close(self):
        """Ends everything at once, containers too."""
        self.inner.close()
        cgroup.remove(self.cgroup)
