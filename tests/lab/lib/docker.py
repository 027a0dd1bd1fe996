# SPDX-License-Identifier: Apache-2.0
"""docker.py - a real dockerd on a lab host, and its containers

    docker = Docker(host, Xtables(lab, "legacy"))
    docker.start("--bip=10.5.1.1/24")          # up; containers of the last run are back
    web = docker.run("web", "-p", "8080:80")   # a Container: for lib/traffic.py as a pod is
    docker.stop()

A dockerd wants more of a machine of its own than a network namespace: /run, where it and
containerd keep sockets, mounts and (here) images, is a tmpfs that only its processes see,
and they have a PID namespace. So all that Docker makes ends when the init of that
namespace ends, also when the run is killed: it belongs to the host's network namespace,
whose processes lib/netns.py finds. Only the cgroups remain; they bear the run's name.
"""

import contextlib
import json
import os
import shlex
import shutil
import subprocess

from . import cgroup, rootfs
from .expect import wait_until
from .inner import Inside, Namespaces

IMAGE = "lab"
_APPLETS = ["cat", "ip", "nc", "ping", "sh", "sleep", "true"]
_CONFIG = "/run/daemon.json"
_FLAGS = [
    f"--config-file={_CONFIG}", "--data-root=/run/images", "--storage-driver=vfs",
    # As by default, but that /var/run is a link, which path() would follow to here.
    "--exec-root=/run/docker", "--pidfile=/run/docker.pid",
    "--exec-opt=native.cgroupdriver=cgroupfs", "--oom-score-adjust=0",
    # More than a machine's own limit cannot be given without CAP_SYS_RESOURCE.
    "--default-ulimit=nofile=1024:1024", "--shutdown-timeout=1", "--live-restore",
]


class Xtables:
    """The iptables of one kind ("nft", "legacy") as the default one, by way of PATH."""

    def __init__(self, lab, kind):
        self.kind, self.path = kind, os.path.join(lab.dir, f"iptables-{kind}")
        os.makedirs(self.path, exist_ok=True)
        for program in ("iptables", "ip6tables"):
            for verb in ("", "-save", "-restore"):
                link = os.path.join(self.path, program + verb)
                target = shutil.which(f"{program}-{kind}{verb}")
                assert target, f"no {program}-{kind}{verb} on this machine"
                with contextlib.suppress(FileExistsError):
                    os.symlink(target, link)

    def env(self):
        return {"PATH": f"{self.path}:{os.environ['PATH']}"}


class Container:
    def __init__(self, docker, name):
        self.docker, self.name = docker, f"{docker.host.name}/{name}"
        self.id = name
        state = json.loads(docker.cli("inspect", name))[0]
        networks = state["NetworkSettings"]["Networks"].values()
        self.addresses = [n["IPAddress"] for n in networks]
        self.ns = Inside(docker.lab, docker.path(state["NetworkSettings"]["SandboxKey"]))

    def exec(self, *cmd):
        """Runs a program of the container's own."""
        return self.docker.cli("exec", self.id, *cmd)

    def running(self):
        return self.docker.cli("inspect", "-f", "{{.State.Running}}", self.id).strip() == "true"


class Docker(Namespaces):
    """A daemon, and the machine that it takes the host for."""

    def __init__(self, host, xtables):
        self.host, self.lab, self.xtables = host, host.lab, xtables
        self.socket = os.path.join(host.dir, "docker.sock")
        self.log_path = os.path.join(host.dir, "dockerd.log")
        self.cgroup = f"{self.lab.prefix}{host.ns.short}"
        self.process = None
        super().__init__(
            self.lab, ["nsenter", f"--net={self.host.ns.path}"], self.log_path,
            f"mount -t tmpfs lab /run && echo '{{}}' >{_CONFIG} && echo ready && "
            "exec docker-init -- sleep inf")

    def close(self):
        """Ends everything at once, containers too."""
        super().close()
        if self.process is not None:
            self.process.wait(20)
            self.process = None
        cgroup.remove(self.cgroup)

    # -- the daemon --------------------------------------------------------------------

    def start(self, options="", wait=True):
        """options: as they stand in a unit, in shell words."""
        assert self.process is None, f"{self.host.name}: dockerd already runs"
        argv = ["dockerd", f"--host=unix://{self.socket}", f"--cgroup-parent=/{self.cgroup}",
                *_FLAGS, *shlex.split(options)]
        with open(self.log_path, "ab") as log:
            self.process = self.lab.adopt(subprocess.Popen(
                self.argv(*argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, **self.xtables.env()}, start_new_session=True,
            ))
        if wait:
            self.wait_up()
        return self

    def wait_up(self):
        def check():
            code = self.process.poll()
            if code is not None:
                raise RuntimeError(f"dockerd ended with {code}:\n{self.log_text()}")
            return os.path.exists(self.socket) and self.cli("version", check=False)

        wait_until(check, 20, f"{self.host.name}: dockerd")

    def stop(self):
        self.stop_all([self])

    @staticmethod
    def stop_all(dockers):
        """SIGTERM, as systemd does it; containers go on (--live-restore)."""
        for docker in dockers:
            subprocess.run(docker.argv("sh", "-c", "kill $(cat /run/docker.pid)"), check=True)
        for docker in dockers:
            process, docker.process = docker.process, None
            try:
                code = process.wait(20)
            except subprocess.TimeoutExpired:
                docker.close()
                raise AssertionError(f"{docker.host.name}: dockerd ignored SIGTERM") from None
            assert code == 0, f"{docker.host.name}: dockerd failed:\n{docker.log_text()}"

    def log_text(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()[-4000:]

    # -- what it is told ---------------------------------------------------------------

    def cli(self, *args, check=True, input=None):
        """What `docker ARGS` prints; check=False: or "" when it fails."""
        done = subprocess.run(
            ["docker", "-H", f"unix://{self.socket}", *map(str, args)], input=input,
            capture_output=True, check=False, env={**os.environ, "DOCKER_CONFIG": self.host.dir},
        )
        if done.returncode != 0:
            if check:
                raise RuntimeError(f"{self.host.name}: docker {args[0]}: {done.stderr.decode()}")
            return ""
        return done.stdout.decode()

    def run(self, name, *flags):
        """A new container that does nothing by itself."""
        if not self.cli("image", "ls", "-q", IMAGE):
            self.cli("import", "-", IMAGE, input=rootfs.tar(_APPLETS))
        self.cli("run", "-d", "--name", name, *flags, IMAGE, "sleep", "inf")
        return Container(self, name)

    # -- what it did to the host -------------------------------------------------------

    def iptables(self, *args):
        """The lines of `iptables ARGS` of its kind."""
        return self.host.run(f"iptables-{self.xtables.kind}", *args).stdout.splitlines()
