# SPDX-License-Identifier: Apache-2.0
"""cni.py - CNI plugins driven as libcni drives them, for whatever runtime is above it

    machine = Machine(lab.namespace("m"), lab)      # or Machine.of(host), of a lab host
    machine.write_subnet_env()
    network = Network(machine, conflist)            # a list of plugins, or a single one
    pod = machine.pod("a")
    result = network.add(pod, portMappings=[...])   # CniError with the plugin's error object
    network.check(pod); network.delete(pod); network.gc([]); network.status()

A machine has a /run/flannel, a /var/lib/cni and a directory of plugins that no other has:
its processes have a mount namespace of their own, which follows the names in /run/netns.
FLANNEL_CNI names the plugin under test (default: beside flanneld).
"""

import contextlib
import copy
import hashlib
import ipaddress
import itertools
import json
import os
import re
import shutil
import subprocess

from . import expect, node
from .expect import wait_until

PLUGINS = "/usr/lib/cni"
FLANNEL = os.path.abspath(
    os.environ.get("FLANNEL_CNI") or os.path.join(os.path.dirname(node.FLANNELD), "flannel"))
VERSIONS = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]
DELEGATES_NEWEST = "1.0.0"  # what Debian's plugins know

SUBNET_ENV = {"FLANNEL_NETWORK": "10.5.0.0/16", "FLANNEL_SUBNET": "10.5.1.1/24",
              "FLANNEL_MTU": "1450", "FLANNEL_IPMASQ": "true"}
SUBNET_ENV6 = {"FLANNEL_IPV6_NETWORK": "fd00:5::/48", "FLANNEL_IPV6_SUBNET": "fd00:5:0:1::1/64",
               "FLANNEL_MTU": "1450", "FLANNEL_IPMASQ": "true"}
SUBNET_ENV_DUAL = {**SUBNET_ENV, **SUBNET_ENV6}


def at_least(version, other):
    return VERSIONS.index(version) >= VERSIONS.index(other)


class Answer:
    """How a plugin ended, and what it said."""

    def __init__(self, code, text, stderr):
        self.code, self.text, self.stderr = code, text, stderr

    @property
    def json(self):
        return json.loads(self.text)

    def error(self):
        """The error object of one that failed, after a look at whether it is one."""
        assert self.code != 0, f"it succeeded: {self.text}"
        assert self.code < 128, f"it ended with {self.code}\n{self.stderr}"
        try:
            error = self.json
        except ValueError:
            raise AssertionError(f"no error object: {self.text!r}\n{self.stderr}") from None
        assert isinstance(error.get("code"), int) and error["code"] > 0, error
        assert isinstance(error.get("msg"), str) and error["msg"], error
        # Debian's plugins leave it out.
        assert error.get("cniVersion", VERSIONS[0]) in VERSIONS, error
        return error

    def __repr__(self):
        return f"exit {self.code}: {self.text} {self.stderr}"


class CniError(Exception):
    """A plugin of a network failed."""

    def __init__(self, plugin, answer):
        self.answer, self.error = answer, answer.error()
        super().__init__(f"{plugin}: {self.error}\n{answer.stderr}")

    @property
    def code(self):
        return self.error["code"]

    @property
    def msg(self):
        return f"{self.error['msg']} {self.error.get('details', '')}"


class Pod:
    """A pod's network namespace, empty until a network is added. addresses are those of
    the last result, for lib/traffic.py."""

    def __init__(self, machine, name, ns):
        self.machine, self.ns, self.short = machine, ns, name
        self.name = f"{machine.ns.short}/{name}"
        self.id = hashlib.sha256(name.encode()).hexdigest()
        self.addresses = []


class Machine:
    """A network namespace as a container runtime's host."""

    def __init__(self, ns, lab, directory=None, disk=None):
        """disk: the size of a file system of its own for /var/lib/cni."""
        self.ns, self.lab = ns, lab
        self.dir = os.path.join(directory or os.path.join(lab.dir, ns.short), "machine")
        self.lib = os.path.join(self.dir, "lib")    # /var/lib/cni
        self.run = os.path.join(self.dir, "run")    # /run
        self.bin = os.path.join(self.dir, "bin")    # CNI_PATH
        self.subnet_file = os.path.join(self.run, "flannel", "subnet.env")
        self.pods = []
        for path in (self.lib, self.bin, f"{self.run}/netns", f"{self.run}/flannel"):
            os.makedirs(path)
        if disk:
            lab.mount_tmpfs(self.lib, disk)
        self._install_plugins()
        self._make_mounts()

    @classmethod
    def of(cls, host, **kwargs):
        """A host of a topology; its flanneld is to be started after this."""
        machine = cls(host.ns, host.lab, host.dir, **kwargs)
        host.subnet_file = machine.subnet_file
        machine.host = host
        return machine

    def _install_plugins(self):
        names = os.listdir(PLUGINS) if os.path.isdir(PLUGINS) else []
        for name in names:
            os.symlink(os.path.join(PLUGINS, name), os.path.join(self.bin, name))
        flannel = os.path.join(self.bin, "flannel")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(flannel)
        os.symlink(FLANNEL, flannel)

    def _make_mounts(self):
        script = ("mount --rbind /run/netns $0/run/netns && mount --rbind $0/run /run && "
                  "mount -t tmpfs lab /var/lib && mkdir /var/lib/cni && "
                  "mount --bind $0/lib /var/lib/cni && echo ready && exec sleep inf")
        self._holder = self.lab.adopt(subprocess.Popen(
            ["nsenter", f"--net={self.ns.path}", "unshare", "--mount", "--propagation=slave",
             "sh", "-c", script, self.dir],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True,
        ))
        assert self._holder.stdout.readline() == b"ready\n", "no mount namespace"
        self._holder.stdout.close()

    def close(self):
        for pod in list(self.pods):
            self.remove_pod(pod)
        self._holder.kill()
        self._holder.wait()

    def argv(self, *cmd):
        return ["nsenter", f"--net={self.ns.path}", f"--mount=/proc/{self._holder.pid}/ns/mnt",
                *map(str, cmd)]

    def without(self, *plugins):
        """A directory of plugins that lacks these."""
        path = os.path.join(self.dir, "bin-without-" + "-".join(plugins))
        if not os.path.isdir(path):
            shutil.copytree(self.bin, path, symlinks=True)
            for name in plugins:
                os.unlink(os.path.join(path, name))
        return path

    # -- what flanneld would have written ----------------------------------------------

    def write_subnet_env(self, values=None, **more):
        values = {**(SUBNET_ENV if values is None else values), **more}
        with open(self.subnet_file, "w", encoding="ascii") as f:
            f.writelines(f"{k}={v}\n" for k, v in values.items())

    def subnet_env(self):
        with open(self.subnet_file, encoding="ascii") as f:
            return dict(line.strip().split("=", 1) for line in f if line.strip())

    # -- pods --------------------------------------------------------------------------

    def pod(self, name):
        pod = Pod(self, name, self.lab.namespace(f"{self.ns.short}-{name}"))
        self.pods.append(pod)
        return pod

    def remove_pod(self, pod):
        pod.ns.delete()
        self.pods.remove(pod)

    # -- running plugins ---------------------------------------------------------------

    def call(self, plugin, command, conf, pod=None, ifname="eth0", *, container=None, netns=None,
             args="", path=None, timeout=60, wrap=(), unset=()):
        """Runs a plugin once. conf: an object, or the text of one; container and netns
        replace what the pod says, unset names variables that are not to be there."""
        path = path or self.bin
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": pod.id if container is None and pod else container or "",
            "CNI_NETNS": pod.ns.path if netns is None and pod else netns or "",
            "CNI_IFNAME": ifname, "CNI_ARGS": args, "CNI_PATH": path,
        }
        if command in ("VERSION", "STATUS", "GC"):
            for key in ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"):
                del environment[key]
        environment = {k: v for k, v in environment.items() if k not in unset}
        program = plugin if "/" in plugin else self.find(plugin, path)
        process = self.lab.adopt(subprocess.Popen(
            self.argv(*wrap, program), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env={**self._environment("strace" in wrap), **environment},
            start_new_session=True,
        ))
        text = conf if isinstance(conf, (str, bytes)) else json.dumps(conf)
        try:
            out, err = process.communicate(
                text.encode() if isinstance(text, str) else text,
                timeout * expect.TIME_FACTOR)
        except subprocess.TimeoutExpired:
            process.kill()
            _, err = process.communicate()
            raise AssertionError(f"{plugin} {command}: still ran after {timeout} s\n"
                                 f"{err.decode(errors='replace')}") from None
        answer = Answer(process.returncode, out.decode(errors="replace"),
                        err.decode(errors="replace"))
        for mark in ("Sanitizer", "runtime error:"):
            assert mark not in answer.stderr, answer.stderr
        return answer

    @staticmethod
    def find(plugin, path):
        for directory in path.split(":"):
            if os.path.exists(os.path.join(directory, plugin)):
                return os.path.join(directory, plugin)
        raise FileNotFoundError(f"{plugin} is not in {path}")

    @staticmethod
    def _environment(traced):
        env = {k: v for k, v in os.environ.items() if not k.startswith("CNI_")}
        # The search for leaks is a ptrace(2) itself.
        env["ASAN_OPTIONS"] = (f"detect_leaks={int(not traced)}:verify_asan_link_order=0:"
                               "abort_on_error=0")
        env["UBSAN_OPTIONS"] = "print_stacktrace=1:halt_on_error=1"
        return env

    # -- what they left ----------------------------------------------------------------

    def files(self, under=""):
        """{path below /var/lib/cni: (mode, text)}"""
        found = {}
        top = os.path.join(self.lib, under)
        for directory, _, names in os.walk(top):
            for name in names:
                path = os.path.join(directory, name)
                if os.path.islink(path):
                    found[os.path.relpath(path, self.lib)] = ("link", os.readlink(path))
                    continue
                with contextlib.suppress(FileNotFoundError), \
                        open(path, encoding="utf-8", errors="replace", newline="") as f:
                    # host-local's lock is executable, which nobody needs.
                    mode = oct(os.fstat(f.fileno()).st_mode & (0o7666 if name == "lock" else 0o7777))
                    found[os.path.relpath(path, self.lib)] = (mode, f.read())
        return found

    def reserved(self, network="cbr0"):
        """{address: container id} of host-local's files."""
        found = {}
        directory = os.path.join(self.lib, "networks", network)
        for name in os.listdir(directory) if os.path.isdir(directory) else []:
            with contextlib.suppress(ValueError, OSError):
                ipaddress.ip_address(name)
                with open(os.path.join(directory, name), encoding="utf-8", errors="replace") as f:
                    found[name] = f.read().split("\n")[0].strip()
        return found

    def veths(self):
        """Names of devices that are some pod's other end."""
        return sorted(x["ifname"] for x in self.ns.ip_json("link", "show", "type", "veth")
                      if x["ifname"].startswith("veth"))

    def leaks(self, network="cbr0"):
        """What is there of attachments: all must be gone when there are none."""
        found = [f"veth {name}" for name in self.veths()]
        found += [f"address {a} of {c}" for a, c in self.reserved(network).items()]
        found += [f"file {name}" for name in self.files("flannel")]
        known = {"lock", "last_reserved_ip.0", "last_reserved_ip.1", *self.reserved(network)}
        found += [f"file {name}" for name in self.files(f"networks/{network}")
                  if os.path.basename(name) not in known]
        for pod in self.pods:
            found += [f"{x['ifname']} in {pod.name}" for x in pod.ns.ip_json("link", "show")
                      if x["ifname"] != "lo" and not x["ifname"].startswith("keep")]
        return found

    def assert_clean(self, network="cbr0"):
        """That nothing is left; what is does not concern the next test."""
        try:
            # The host's end of a veth goes a moment after the pod's has.
            wait_until(lambda: not self.veths(), 10, "no veth of a pod")
            assert not self.leaks(network), self.leaks(network)
        except AssertionError:
            self._wipe()
            raise

    def processes(self):
        """Ids of those that belong to it, not to a plugin."""
        return [self._holder.pid]

    def forget(self, pod):
        """Removes what is left of a pod by hand, for the next step of a test."""
        pod.ns.ip("link del eth0", force=True)
        for path, (_, text) in self.files().items():
            if pod.id in path or pod.id in text:
                os.unlink(os.path.join(self.lib, path))

    def _wipe(self):
        for name in os.listdir(self.lib):
            shutil.rmtree(os.path.join(self.lib, name), ignore_errors=True)
        self.ns.ip(*(f"link del {name}" for name in self.veths()), force=True)


class Network:
    """A network config as a runtime has loaded it."""

    def __init__(self, machine, conf, path=None):
        self.machine, self.path = machine, path or machine.bin
        if "plugins" not in conf:
            conf = {"name": conf.get("name"), "cniVersion": conf.get("cniVersion", "0.1.0"),
                    "plugins": [conf]}
        self.name, self.version, self.plugins = conf["name"], conf["cniVersion"], conf["plugins"]
        self.cache = {}  # (container id, interface): (result, capability arguments)

    def plugin_conf(self, plugin, previous=None, runtime=None):
        """As buildOneConfig() of libcni makes it."""
        conf = {**copy.deepcopy(plugin), "name": self.name, "cniVersion": self.version}
        if previous is not None:
            conf["prevResult"] = previous
        wanted = {k: v for k, v in (runtime or {}).items()
                  if plugin.get("capabilities", {}).get(k)}
        if wanted:
            conf["runtimeConfig"] = wanted
        return conf

    def _call(self, command, plugin, conf, pod=None, ifname="eth0", **kwargs):
        answer = self.machine.call(plugin["type"], command, conf, pod, ifname, path=self.path,
                                   **kwargs)
        if answer.code != 0:
            raise CniError(f"{plugin['type']} {command}", answer)
        return answer

    def add(self, pod, ifname="eth0", args="", **runtime):
        result = None
        for plugin in self.plugins:
            conf = self.plugin_conf(plugin, result, runtime)
            answer = self._call("ADD", plugin, conf, pod, ifname, args=args)
            result = answer.json
            # 0.1.0 may leave it out; all others are refused by libcni without.
            assert result.get("cniVersion", "0.1.0") == self.version, result
        self.cache[pod.id, ifname] = result, runtime
        pod.addresses = addresses_of(result)
        return result

    def check(self, pod, ifname="eth0", args="", previous=None, plugins=None):
        """plugins: these only of the list."""
        result, runtime = self.cache[pod.id, ifname]
        for plugin in plugins or self.plugins:
            conf = self.plugin_conf(plugin, previous or result, runtime)
            answer = self._call("CHECK", plugin, conf, pod, ifname, args=args)
            assert answer.text == "", f"CHECK prints nothing: {answer}"

    def delete(self, pod, ifname="eth0", args="", **kwargs):
        """May be called for what was never added, too."""
        result, runtime = self.cache.get((pod.id, ifname), (None, None))
        if not at_least(self.version, "0.4.0"):
            result = None
        for plugin in reversed(self.plugins):
            conf = self.plugin_conf(plugin, result, runtime)
            answer = self._call("DEL", plugin, conf, pod, ifname, args=args, **kwargs)
            assert answer.text == "", f"DEL prints nothing: {answer}"
        self.cache.pop((pod.id, ifname), None)

    def gc(self, pods, ifname="eth0"):
        """Only these are still there."""
        valid = [{"containerID": p.id, "ifname": ifname} for p in pods]
        for plugin in self.plugins:
            conf = {**self.plugin_conf(plugin), "cni.dev/valid-attachments": valid}
            self._call("GC", plugin, conf)

    def status(self):
        for plugin in self.plugins:
            answer = self._call("STATUS", plugin, self.plugin_conf(plugin))
            assert answer.text == "", f"STATUS prints nothing: {answer}"


def addresses_of(result):
    """Without prefix lengths, of a result in any version."""
    ips = result.get("ips")
    if ips is None:
        ips = [{"address": result[k]["ip"]} for k in ("ip4", "ip6") if k in result]
    return [ip["address"].split("/")[0] for ip in ips]


def delegate_conf(flannel, env):
    """What COMPAT.md, section 8, makes of a plugin entry of type flannel: an entry of the
    delegate's own type, so that a list works without flannel."""
    conf = copy.deepcopy(flannel.get("delegate", {}))
    conf.setdefault("type", "bridge")
    conf.setdefault("ipMasq", env["FLANNEL_IPMASQ"] != "true")
    conf.setdefault("mtu", int(env["FLANNEL_MTU"]))
    if "capabilities" in flannel:
        conf["capabilities"] = flannel["capabilities"]  # for libcni only
    if conf["type"] == "bridge":
        conf.setdefault("isGateway", True)
    ipam = copy.deepcopy(flannel.get("ipam", {}))
    ipam.setdefault("type", "host-local")
    subnets = [env[k] for k in ("FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET") if k in env]
    ipam["ranges"] = [[{"subnet": str(ipaddress.ip_interface(s).network)}] for s in subnets]
    networks = [n for k in ("FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK") if k in env
                for n in env[k].split(",")]
    ipam["routes"] = ipam.get("routes", []) + [{"dst": n} for n in networks]
    conf["ipam"] = ipam
    return conf


# -- all that there is, to be compared -------------------------------------------------

# Numbers that the kernel gives as they come, and clocks.
_VOLATILE = re.compile(r"ifindex|link_index|link_netnsid|.*timer|expires|stats.*|.*_ifindex|"
                       r"topology_change.*|cacheinfo")
_SYSCTLS = [
    ("ipv4", name) for name in ("arp_notify", "forwarding", "proxy_arp", "rp_filter",
                                "route_localnet", "accept_redirects")
] + [
    ("ipv6", name) for name in ("accept_dad", "enhanced_dad", "accept_ra", "autoconf",
                                "disable_ipv6", "forwarding", "keep_addr_on_down",
                                "addr_gen_mode")
]


def _stripped(value):
    if isinstance(value, dict):
        return {k: _stripped(v) for k, v in value.items() if not _VOLATILE.fullmatch(k)}
    return [_stripped(v) for v in value] if isinstance(value, list) else value


def _sysctls(ns, devices):
    found = {}
    with ns.entered():
        for device in devices:
            for family, name in _SYSCTLS:
                path = f"/proc/sys/net/{family}/conf/{device}/{name}"
                with contextlib.suppress(FileNotFoundError), open(path, encoding="ascii") as f:
                    found[f"{device}/{family}/{name}"] = f.read().strip()
    return found


def _assign_types(ns):
    """Whether a MAC is the kernel's choice or was set; only sysfs tells."""
    text = ns.run("sh", "-c", "cd /sys/class/net && grep -H . */addr_assign_type").stdout
    return dict(line.replace("/addr_assign_type", "").split(":") for line in text.splitlines())


def _listings(ns, family, *commands):
    """What each `ip -j -d` command says, all of one process."""
    done = subprocess.run(
        ["ip", "-n", ns.name, "-j", "-d", *family, "-batch", "-"],
        input="\n".join(commands) + "\n", capture_output=True, text=True, check=True)
    decoder, text, found = json.JSONDecoder(), done.stdout.strip(), []
    while text:
        value, end = decoder.raw_decode(text)
        found.append([x for x in value if x])
        text = text[end:].lstrip()
    assert len(found) == len(commands), done.stdout
    return found


def _namespace_state(ns):
    (addresses,) = _listings(ns, [], "addr show")
    state = {
        "links": {x["ifname"]: x for x in addresses},
        "sysctls": _sysctls(ns, ["all", "default", *(x["ifname"] for x in addresses)]),
        "mac kinds": _assign_types(ns),
        "vlans": {x["ifname"]: x for x in ns.ip_json("vlan", "show", tool="bridge")},
    }
    for family in ("-4", "-6"):
        names = [f"routes{family}", f"rules{family}", f"neighbours{family}"]
        state.update(zip(names, _listings(
            ns, [family], "route show table all", "rule show", "neigh show nud permanent")))
    _forget_carriers(list(state["links"].values()), state["routes-4"] + state["routes-6"])
    for link in state["links"].values():
        link.get("flags", []).sort()
        link.get("addr_info", []).sort(key=str)
    return state


def _portless(links):
    """Names of bridges without a port. That they have lost their carrier the kernel tells up to
    a second later: all that says so is left out of what is compared."""
    masters = {x.get("master") for x in links}
    return {x["ifname"] for x in links
            if x.get("linkinfo", {}).get("info_kind") == "bridge" and x["ifname"] not in masters}


def _forget_carriers(links, routes):
    portless = _portless(links)
    for link in links:
        if link["ifname"] in portless:
            link.pop("operstate", None)
            link["flags"] = [f for f in link["flags"] if f not in ("NO-CARRIER", "LOWER_UP")]
    for route in routes:
        if route.get("dev") in portless:
            route["flags"] = [f for f in route.get("flags", []) if f != "linkdown"]


def _wait_at_rest(spaces):
    """Until nothing changes any more: detection of duplicates, carriers."""

    def take():
        found = []
        for ns in spaces:
            (links,) = _stripped(_listings(ns, [], "addr show"))
            _forget_carriers(links, [])
            found.append(links)
        return found

    def at_rest():
        first = take()
        assert "tentative" not in str(first), "an address is still tentative"
        for link in itertools.chain(*first):
            assert link.get("linkinfo", {}).get("info_kind") != "bridge" \
                or link.get("operstate") in (None, "UP") or "UP" not in link["flags"], link
        assert take() == first, "still changing"
        return True

    wait_until(at_rest, 10, "a kernel at rest")


def _tables(machine):
    """Rules of both iptables, without counters."""
    found = {}
    for program in ("iptables", "ip6tables"):
        done = subprocess.run(machine.argv(f"{program}-save"), capture_output=True, text=True,
                              check=False)
        found[program] = [re.sub(r" ?\[\d+:\d+\]", "", line) for line in done.stdout.splitlines()
                          if not line.startswith("#")]
    return found


def _link_local(mac):
    parts = [int(x, 16) for x in mac.split(":")]
    parts[0] ^= 2
    raw = bytes([0xFE, 0x80, *[0] * 6, *parts[:3], 0xFF, 0xFE, *parts[3:]])
    return str(ipaddress.IPv6Address(raw))


def _labels(machine):
    """[(text, what to call it)] of names and numbers that chance has chosen."""
    found, macs = [], []
    here = {x["ifindex"]: x for x in machine.ns.ip_json("link", "show")}
    for pod in machine.pods:
        found.append((pod.ns.path, f"<netns of {pod.short}>"))
        for link in pod.ns.ip_json("link", "show"):
            if link["ifname"] == "lo":
                continue
            macs.append((link["address"], f"{pod.short}.{link['ifname']}"))
            if link.get("linkinfo", {}).get("info_kind") != "veth":
                continue
            other = here.get(link.get("link_index"))
            if other and other.get("linkinfo", {}).get("info_kind") == "veth":
                label = f"<veth of {pod.short}.{link['ifname']}>"
                assert re.fullmatch("veth[0-9a-f]{8}", other["ifname"]), other["ifname"]
                found.append((other["ifname"], label))
                macs.append((other["address"], label))
    macs += [(x["address"], x["ifname"]) for x in here.values() if x["ifname"] != "lo"]
    for mac, label in macs:
        # A bridge's identifier has no leading zeros.
        plain = ":".join(f"{int(x, 16):x}" for x in mac.split(":"))
        found += [(mac, f"<mac of {label}>"), (plain, f"<mac of {label}>"),
                  (_link_local(mac), f"<link-local of {label}>")]
    return found


def comparable(machine, value, labels=None):
    """A value with the names that chance has chosen replaced."""
    text = json.dumps(value)
    for old, new in labels or _labels(machine):
        text = text.replace(old, new)
    # A bridge keeps the one of the MAC that it had before its first port.
    text = re.sub(r"\bfe80::[0-9a-f:]+", "<link-local>", text)
    return json.loads(text)


def kernel_state(machine, tables=False):
    """Links, addresses, routes, rules, settings of the machine and all its pods."""

    _wait_at_rest([machine.ns, *(pod.ns for pod in machine.pods)])
    state = {"host": _namespace_state(machine.ns)}
    state.update({pod.short: _namespace_state(pod.ns) for pod in machine.pods})
    if tables:
        state["host"].update(_tables(machine))
    state = comparable(machine, _stripped(state))
    for space in state.values():
        for key in ("links", "mac kinds", "vlans", "sysctls"):
            space[key] = dict(sorted(space[key].items()))
        for key in space:
            if key.startswith(("routes", "neighbours")):
                space[key].sort(key=str)
    return state


def disk_state(machine):
    """What the delegates keep: everything but the plugin's own directory."""
    return comparable(machine, {k: v for k, v in machine.files().items()
                                if not k.startswith("flannel/")})
