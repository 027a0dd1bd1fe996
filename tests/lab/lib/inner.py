# SPDX-License-Identifier: Apache-2.0
"""inner.py - a PID namespace and a /run on a machine, for a container runtime

All that the runtime starts ends when the first process of the namespace does, also when
the run is killed: it belongs to the machine's network namespace, whose processes
lib/netns.py finds. What is the machine's own stays so: /run/flannel, /var/lib/cni, plugins.
"""

import os
import signal
import subprocess

from .netns import Netns

_RUN = ("mount -t tmpfs lab /run && mkdir -p /run/flannel && "
        "mount --bind $0/run/flannel /run/flannel")


class Inside(Netns):
    """A container's network namespace, for lib/traffic.py: it has no name, so that neither
    run() nor ip() works."""

    def __init__(self, lab, path):
        self.lab, self.path = lab, path


class Namespaces:
    """Of mounts and processes: all that runs inside ends with close()."""

    def __init__(self, lab, enter, log_path, script, *args):
        """enter: argv that goes before; script: of a shell, says "ready" and stays; args: its
        $0 and on."""
        with open(log_path, "ab") as log:
            self._holder = lab.adopt(subprocess.Popen(
                [*enter, "unshare", "-mpf", "--mount-proc", "--kill-child", "sh", "-c", script,
                 *args],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
                start_new_session=True,
            ))
        if self._holder.stdout.readline() != b"ready\n":
            with open(log_path, encoding="utf-8", errors="replace") as f:
                raise AssertionError(f"no namespaces:\n{f.read()}")
        self._holder.stdout.close()
        with open(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children",
                  encoding="ascii") as f:
            self._init = int(f.read())

    def path(self, path):
        """A file of its own, seen from here."""
        return f"/proc/{self._init}/root{path}"

    def argv(self, *cmd):
        return ["nsenter", f"--target={self._init}", "--mount", "--pid", "--net", *map(str, cmd)]

    def close(self):
        if self._holder.poll() is None:
            os.kill(self._init, signal.SIGKILL)
        self._holder.wait(20)


class Inner(Namespaces):
    def __init__(self, machine, directory, *mounts):
        """mounts: shell commands; $0 is the machine's directory."""
        self.machine, self.lab = machine, machine.lab
        script = " && ".join([_RUN, *mounts, "echo ready", "exec sleep inf"])
        super().__init__(self.lab, machine.argv(), os.path.join(directory, "inner.log"), script,
                         machine.dir)

    def run(self, *cmd, check=True, input=None, **env):
        """What it prints; check=False: or "" when it fails."""
        done = subprocess.run(self.argv(*cmd), input=input, capture_output=True, check=False,
                              timeout=60, env={**os.environ, **env})
        if done.returncode != 0:
            if check:
                raise RuntimeError(f"{self.machine.ns.short}: {' '.join(map(str, cmd))}: "
                                   f"{done.stderr.decode()}")
            return ""
        return done.stdout.decode()
