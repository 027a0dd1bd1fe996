# SPDX-License-Identifier: Apache-2.0
"""containerd.py - a real containerd on a lab host, and containers of `ctr run --cni`

    containerd = Containerd(Machine.of(host), "10-flannel.conf", {...}).start()
    box = containerd.run("box")      # ADD by go-cni, the library of Kubernetes' nodes
    containerd.stop(box)             # and DEL
    containerd.close()

ctr has no other places for configs and plugins than /etc/cni/net.d and /opt/cni/bin: here
they are mounts that only it sees.
"""

import contextlib
import io
import json
import os
import subprocess
import tarfile

from . import cgroup, rootfs
from .expect import wait_until
from .inner import Inner, Inside

_APPLETS = ["cat", "httpd", "ip", "ping", "sh", "sleep", "wget"]
_SOCKET = "/run/containerd/containerd.sock"
_CONFIG = """version = 2
root = "/run/containerd-root"
state = "/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "/run/containerd/containerd.sock"
"""


class Container:
    def __init__(self, containerd, name, process):
        self.containerd, self.id, self.process = containerd, name, process
        self.name = f"{containerd.machine.ns.short}/{name}"
        path = f"/proc/{containerd.pid_of(name)}/ns/net"
        self.ns = Inside(containerd.machine.lab, containerd.inner.path(path))
        addresses = json.dumps(containerd.machine.reserved())
        self.addresses = [a for a, owner in json.loads(addresses).items() if owner.endswith(name)]

    def exec(self, *cmd):
        return self.containerd.ctr("task", "exec", "--exec-id", f"x{os.urandom(4).hex()}", self.id,
                                   *cmd)


class Containerd:
    def __init__(self, machine, name, conf):
        self.machine, self.process = machine, None
        self.dir = os.path.join(machine.dir, "containerd")
        self.log_path = os.path.join(self.dir, "containerd.log")
        self.cgroup = f"{machine.lab.prefix}{machine.ns.short}"
        os.makedirs(os.path.join(self.dir, "net.d"))
        with open(os.path.join(self.dir, "net.d", name), "w", encoding="utf-8") as f:
            json.dump(conf, f)
        with open(os.path.join(self.dir, "config.toml"), "w", encoding="utf-8") as f:
            f.write(_CONFIG)
        with tarfile.open(fileobj=io.BytesIO(rootfs.tar(
                _APPLETS, {"www/index.html": "hello from a container\n"}))) as tar:
            tar.extractall(os.path.join(self.dir, "rootfs"))
        self.inner = Inner(
            machine, self.dir,
            "mount -t tmpfs lab /etc/cni", "mkdir /etc/cni/net.d",
            "mount --bind $0/containerd/net.d /etc/cni/net.d",
            "mount -t tmpfs lab /opt", "mkdir -p /opt/cni/bin", "mount --bind $0/bin /opt/cni/bin")

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = self.machine.lab.adopt(subprocess.Popen(
                self.inner.argv("containerd", "-c", os.path.join(self.dir, "config.toml")),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True))

        def check():
            code = self.process.poll()
            if code is not None:
                raise RuntimeError(f"containerd ended with {code}:\n{self.log_text()}")
            return os.path.exists(self.inner.path(_SOCKET)) and self.ctr("version", check=False)

        wait_until(check, 20, f"{self.machine.ns.short}: containerd")
        return self

    def log_text(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()[-4000:]

    def ctr(self, *args, check=True):
        return self.inner.run("ctr", *args, check=check)

    def pid_of(self, name):
        """As its own PID namespace counts; 0 for none."""
        for line in self.ctr("task", "ls").splitlines():
            fields = line.split()
            if fields[0] == name and fields[2] == "RUNNING":
                return int(fields[1])
        return 0

    def run(self, name, *cmd):
        """A new container; without a command one that does nothing by itself."""
        with open(self.log_path, "ab") as log:
            process = self.machine.lab.adopt(subprocess.Popen(
                self.inner.argv("ctr", "run", "--rm", "--cni", "--env=PATH=/bin",
                                f"--cgroup=/{self.cgroup}/{name}",
                                "--rootfs", os.path.join(self.dir, "rootfs"), name,
                                *(cmd or ("sleep", "inf"))),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True))

        def check():
            code = process.poll()
            if code is not None:
                raise RuntimeError(f"ctr ended with {code}:\n{self.log_text()}")
            return self.pid_of(name)

        wait_until(check, 20, f"{name} runs")
        return Container(self, name, process)

    def stop(self, container):
        """Its process is killed; ctr then removes network and container."""
        self.ctr("task", "kill", "-s", "KILL", container.id)
        assert container.process.wait(20) in (0, 137)

    def close(self):
        self.inner.close()
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(20)
        cgroup.remove(self.cgroup)
