# SPDX-License-Identifier: Apache-2.0
"""kubelet.py - the pods of a manifest, as the kubelet of a lab host would run them

    kubelet = Kubelet(Machine.of(host), kube, archive)   # podman, with this image loaded
    pod = kubelet.start(manifest())                      # init containers in order, then the daemon
    pod.probe("readinessProbe"); pod.log_text(); pod.stop()

Nothing of the pod is repeated here: image, command, args, env, rights, volumes and probes are
those of the object. What it does not know of a container or a volume is an error, so that a
field that it passed over cannot make a test green.

A path of the host is below a directory of the machine's, but for what the machine has of its
own: /run, and the plugins in /opt/cni/bin.
"""

import json
import os
import secrets

from .kube_volume import mount_files
from .podman import Podman

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
_POD = {"affinity", "hostNetwork", "priorityClassName", "tolerations", "serviceAccountName",
        "securityContext", "initContainers", "containers", "volumes"}
_CONTAINER = {"name", "image", "imagePullPolicy", "command", "args", "ports", "livenessProbe",
              "readinessProbe", "resources", "securityContext", "env", "volumeMounts"}
_CONTEXT = {"privileged", "allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities"}


def rights(container):
    """The securityContext as flags of podman, whose seccomp profile is on by default."""
    context = container["securityContext"]
    assert set(context) <= _CONTEXT and not context.get("privileged"), context
    flags = [f"--cap-{verb}={c}" for verb in ("drop", "add")
             for c in context["capabilities"].get(verb, [])]
    if context["readOnlyRootFilesystem"]:
        flags += ["--read-only", "--read-only-tmpfs=false"]
    if not context["allowPrivilegeEscalation"]:
        flags.append("--security-opt=no-new-privileges")
    return flags


class Pod:
    """One that was started; its node's host is where it is."""

    def __init__(self, kubelet, name, container):
        self.kubelet, self.name, self.container = kubelet, name, container

    def _inspect(self, what):
        return self.kubelet.podman.cli("inspect", "-f", f"{{{{{what}}}}}", self.name).strip()

    def probe(self, which):
        """(status, body), asked as the kubelet does: at the node's address."""
        get = self.container[which]["httpGet"]
        port, = [p["containerPort"] for p in self.container["ports"] if p["name"] == get["port"]]
        host = self.kubelet.host
        return host.ns.http_get(host.address, port, get["path"])

    def is_ready(self):
        return self.probe("readinessProbe")[0] == 200

    def log_text(self):
        """As `kubectl logs` shows it."""
        path = self.kubelet.podman.inner.path(self._inspect(".HostConfig.LogConfig.Path"))
        with open(path, encoding="utf-8", errors="replace") as f:
            return "".join(line.split(" ", 3)[3] for line in f)

    def exit_code(self):
        return int(self._inspect(".State.ExitCode"))

    def status(self):
        """/proc/PID/status of its process."""
        path = self.kubelet.podman.inner.path(f"/proc/{self._inspect('.State.Pid')}/status")
        with open(path, encoding="ascii") as f:
            return dict(line.strip().split(":\t", 1) for line in f if ":\t" in line)

    def stop(self):
        """As a pod that is deleted; (exit code, all of its log)."""
        podman = self.kubelet.podman
        podman.cli("stop", "-t", "10", self.name)
        end = (self.exit_code(), self.log_text())
        podman.cli("rm", self.name)
        return end


class Kubelet:
    def __init__(self, machine, kube, archive):
        self.machine, self.kube, self.host = machine, kube, machine.host
        self.podman = Podman(machine)
        self.podman.cli("load", "-i", archive)
        self._account = kube.service_account(os.path.join(machine.dir, "serviceaccount"))

    def close(self):
        self.podman.close()

    # -- volumes -----------------------------------------------------------------------

    def path(self, path):
        """Where a path of the host is."""
        if path.startswith("/run/"):
            return self.machine.run + path[len("/run"):]
        if path == "/opt/cni/bin":
            return self.machine.bin
        return f"{self.machine.dir}/host{path}"

    def _host_path(self, path, type):
        place = self.path(path)
        if type == "DirectoryOrCreate":
            os.makedirs(place, 0o755, exist_ok=True)
        elif type == "FileOrCreate":
            with open(place, "a", encoding="ascii"):
                pass
        return place

    def update_configmap(self, configmap):
        """As some time after a `kubectl apply`."""
        place = os.path.join(self.machine.dir, f"configmap-{configmap['metadata']['name']}")
        mount_files(place, configmap["data"])
        return place

    def _places(self, pod, objects):
        """{volume: directory or file}"""
        places = {}
        for volume in pod["volumes"]:
            kind, = set(volume) - {"name"}
            if kind == "hostPath":
                places[volume["name"]] = self._host_path(**volume[kind])
            else:
                configmap = objects["ConfigMap"]
                assert (kind, volume[kind]) == ("configMap",
                                                {"name": configmap["metadata"]["name"]})
                places[volume["name"]] = self.update_configmap(configmap)
        return places

    # -- containers --------------------------------------------------------------------

    def _environment(self, container, fields):
        env = self.kube.in_cluster()
        for variable in container.get("env", []):
            value = variable.get("value")
            env[variable["name"]] = (fields[variable["valueFrom"]["fieldRef"]["fieldPath"]]
                                     if value is None else value)
        return [f"--env={k}={v}" for k, v in env.items()]

    def run(self, container, places, *more, env=()):
        """podman run; what it prints."""
        assert set(container) <= _CONTAINER, set(container) - _CONTAINER
        volumes = [f"--volume={places[m['name']]}:{m['mountPath']}"
                   + (":ro" if m.get("readOnly") else "") for m in container["volumeMounts"]]
        entry, *args = container["command"] + container["args"]
        return self.podman.cli(
            "run", "--network=host", f"--cgroup-parent=/{self.podman.cgroup}",
            *rights(container), *volumes, f"--volume={self._account}:{ACCOUNT}:ro", *env, *more,
            f"--entrypoint={json.dumps([entry])}", container["image"], *args)

    def start(self, objects):
        """The DaemonSet's pod on this node: what of objects it refers to is there."""
        template = objects["DaemonSet"]["spec"]["template"]
        pod, namespace = template["spec"], objects["DaemonSet"]["metadata"]["namespace"]
        assert set(pod) <= _POD and pod["hostNetwork"], set(pod) - _POD
        assert pod["securityContext"] == {"seccompProfile": {"type": "RuntimeDefault"}}
        name = f"{objects['DaemonSet']['metadata']['name']}-{secrets.token_hex(3)}"
        fields = {"spec.nodeName": self.host.name, "metadata.name": name,
                  "metadata.namespace": namespace}
        self.kube.add_pod(name, self.host.name, namespace)
        places = self._places(pod, objects)
        for container in pod["initContainers"]:
            self.run(container, places, "--rm", env=self._environment(container, fields))
        container, = pod["containers"]
        self.run(container, places, "-d", f"--name={name}",
                 env=self._environment(container, fields))
        return Pod(self, name, container)
