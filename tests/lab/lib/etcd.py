# SPDX-License-Identifier: Apache-2.0
"""etcd.py - real etcd on the lab's first switch: clusters of one or three members

     h1     h2      e1     e2     e3       members: .241, .242, .243 of the switch's L2,
     |eth0  |eth0   |eth0  |eth0  |eth0    each in a namespace of its own as the hosts are
    -+------+-------+------+------+- sw1

    etcd = topo.etcd(3)            # up and healthy; topo.store is its v3 key space now
    topo.start(CONFIG)             # hosts are started with --etcd-endpoints=...
    etcd.ctl("get", "--prefix", "/coreos.com/network")
    etcd.v3.put_peer(...), etcd.v2.put_peer(...)      as lib/store.py's, in either key space
    etcd.leader().kill(); etcd["e2"].pause(); etcd.cut_off(host); etcd.restore(etcd.backup())

What a test reads or writes goes through the real etcdctl; whether a member is well is seen
on its metrics port, which wants neither TLS nor a password.
"""

import base64
import http.client
import json
import os
import re
import shutil
import signal
import subprocess

from . import certs
from .expect import wait_until
from .service import Service
from .store import Records

PREFIX = "/coreos.com/network"
CLIENT_PORT, PEER_PORT, METRICS_PORT = 2379, 2380, 2381
ROOT = ("root", "root-secret")

# Users are checked at once; for the rest etcd as it comes, but for elections.
_FLAGS = [
    "--bcrypt-cost=4", "--unsafe-no-fsync", "--logger=zap", "--log-outputs=stderr",
    "--log-level=warn",
]
# A member alone elects itself at once; three must not lose their leader to a busy machine.
_ALONE = ["--heartbeat-interval=10", "--election-timeout=50"]
_THREE = ["--heartbeat-interval=100", "--election-timeout=1000"]


def _url(scheme, address, port):
    return f"{scheme}://[{address}]:{port}" if ":" in address else f"{scheme}://{address}:{port}"


class Member(Service):
    """One etcd. Running, paused, or not there; its data outlives it."""

    def __init__(self, etcd, name, ns, address):
        self.etcd, self.name, self.ns, self.address = etcd, name, ns, address
        self.dir = os.path.join(etcd.dir, name)
        self.data = os.path.join(self.dir, "data")
        self.log_path = os.path.join(self.dir, "etcd.log")
        os.makedirs(self.dir)
        self.cut = False

    @property
    def url(self):
        return _url(self.etcd.scheme, self.address, CLIENT_PORT)

    @property
    def peer_url(self):
        return _url("http", self.address, PEER_PORT)

    def start(self, state="new"):
        assert self.process is None, f"{self.name}: already runs"
        metrics = _url("http", self.address, METRICS_PORT)
        argv = [
            "etcd", f"--name={self.name}", f"--data-dir={self.data}",
            f"--listen-client-urls={self.url}", f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            f"--listen-metrics-urls={metrics}", f"--initial-cluster-state={state}",
            f"--initial-cluster={self.etcd.peers()}",
            f"--initial-cluster-token={self.etcd.token}", *_FLAGS,
            *(_ALONE if len(self.etcd.members) == 1 else _THREE), *self.etcd.flags,
        ]
        env = {k: v for k, v in os.environ.items() if not k.startswith("ETCD")}
        with open(self.log_path, "ab") as log:
            self.process = self.ns.popen(
                *argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**env, "GOMAXPROCS": "1"}, start_new_session=True,
            )
        return self

    def stop(self):
        """SIGTERM, as systemd does it."""
        self.end(signal.SIGTERM, f"{self.name}: etcd")

    def kill(self):
        self.end(signal.SIGKILL, f"{self.name}: etcd")

    def wipe(self):
        """Deletes the data of a member that does not run."""
        assert self.process is None
        shutil.rmtree(self.data, ignore_errors=True)

    def unplug(self):
        """Its cable: neither hosts nor the other members reach it."""
        self.etcd.switch.ip(f"link set {self.name} down")
        self.cut = True

    def plug(self):
        self.etcd.switch.ip(f"link set {self.name} up")
        self.cut = False

    def _fetch(self, path, timeout):
        return self.ns.http_get(self.address, METRICS_PORT, path, timeout)

    def healthy(self):
        """Whether it has a leader and gets an answer from a quorum. An alarm is no health."""
        try:
            return json.loads(self._fetch("/health", 0.5)[1])["health"] == "true"
        except (OSError, ValueError, KeyError, http.client.HTTPException):
            return False

    def metrics(self):
        """{name with labels: value}"""
        # A member that sixty daemons talk to takes its time, and not all ask again.
        text = self._fetch("/metrics", 10)[1]
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def log_text(self):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as f:
                # Our own asking is in there, too.
                return "".join(line for line in f if "/health error" not in line)
        except FileNotFoundError:
            return ""


class Etcd:
    """A cluster. tls: None, "server" (only the server shows a certificate) or "mutual"
    (--client-cert-auth). Everything goes with the topology that it was made for."""

    def __init__(self, topo, size=1, tls=None, enable_v2=False, quota=None, token="lab", flags=()):
        self.topo, self.tls, self.token = topo, tls, token
        self.switch = topo.switches[0]
        self.dir = os.path.join(topo.lab.dir, f"etcd{topo.number}")
        os.makedirs(self.dir)
        self.scheme = "https" if tls else "http"
        self.auth = False
        self.members = []
        for i in range(1, size + 1):
            ns, addresses = topo.server(f"e{i}", 240 + i)
            self.members.append(Member(self, f"e{i}", ns, addresses[0]))
        self.flags = list(flags) + [f"--enable-v2={str(enable_v2).lower()}"]
        if quota:
            self.flags.append(f"--quota-backend-bytes={quota}")
        topo.lab.etcd_members += self.members
        if tls:
            self._make_certificates()
        self.v3, self.v2 = Keys3(self), Keys2(self)
        # What flanneld is started with; tests change it.
        self.client = {"etcd-endpoints": ",".join(m.url for m in self.members)}
        if tls:
            self.client["etcd-cafile"] = self.ca.cert
        if tls == "mutual":
            self.client.update({"etcd-certfile": self.user.cert, "etcd-keyfile": self.user.key})
        self.start()

    def __iter__(self):
        return iter(self.members)

    def __getitem__(self, name):
        return next(m for m in self.members if m.name == name)

    def _make_certificates(self):
        """server; user, which flanneld gets (CN flannel); admin, which etcdctl gets."""
        self.ca = certs.Authority(self.dir)
        self.server = self.issue_server()
        self.user = self.ca.issue("flannel", cn="flannel", server=False)
        self.admin = self.ca.issue("admin", server=False)
        self.flags += [f"--cert-file={self.server.cert}", f"--key-file={self.server.key}"]
        if self.tls == "mutual":
            self.flags += ["--client-cert-auth", f"--trusted-ca-file={self.ca.cert}"]

    def issue_server(self, **how):
        """The members' certificate, or another one in its place: etcd reads the files anew at
        each handshake."""
        return self.ca.issue("server", cn="etcd", san=[m.address for m in self.members], **how)

    def flanneld_flags(self):
        return [f"--{name}={value}" for name, value in self.client.items()]

    # -- its life ----------------------------------------------------------------------

    def start(self, timeout=20.0):
        for member in self.members:
            if member.process is None:
                member.start()
        return self.wait_healthy(timeout)

    def stop(self):
        for member in self.members:
            if member.process is not None:
                member.stop()

    def kill(self):
        for member in self.members:
            if member.process is not None:
                member.kill()

    def restart(self):
        """All at once."""
        self.stop()
        self.start()

    def wipe(self, token=None):
        """All data is lost: the same URLs, an empty cluster; with another token it has
        another cluster id as well."""
        self.kill()
        for member in self.members:
            member.wipe()
        self.token = token or self.token
        self.auth = False
        self.start()

    def backup(self):
        """A snapshot of the data; where it is."""
        path = os.path.join(self.dir, "backup.db")
        self.ctl("snapshot", "save", path)
        return path

    def restore(self, path):
        """All members begin again with the data of a backup, as etcd's manual has it: it is
        another cluster then, and its revision is an old one."""
        self.kill()
        self.token += ".restored"
        for member in self.members:
            member.wipe()
            env = {**os.environ, "ETCDCTL_API": "3"}
            subprocess.run(
                ["etcdctl", "snapshot", "restore", path, f"--name={member.name}",
                 f"--data-dir={member.data}", f"--initial-cluster-token={self.token}",
                 f"--initial-cluster={self.peers()}",
                 f"--initial-advertise-peer-urls={member.peer_url}"],
                check=True, capture_output=True, env=env)
        self.start()

    def peers(self):
        return ",".join(f"{m.name}={m.peer_url}" for m in self.members)

    def replace(self, member):
        """A member dies with its disk; an empty one takes its place and its address."""
        member.kill()
        lines = self.ctl("member", "list").splitlines()
        ident = next(line.split(",")[0] for line in lines if member.peer_url in line)
        # Refused for five seconds after members last came or went.
        self._until_done("member", "remove", ident)
        member.wipe()
        self._until_done("member", "add", member.name, f"--peer-urls={member.peer_url}")
        member.start(state="existing")
        self.wait_healthy()

    def _until_done(self, *args):
        wait_until(lambda: self.ctl(*args, check=False).returncode == 0, 20, f"etcdctl {args}")

    def live(self):
        return [m for m in self.members if m.running() and not m.cut]

    def wait_healthy(self, timeout=20.0):
        """Every member that runs and is plugged in has a leader and a quorum."""

        def check():
            for member in self.live():
                if member.process.poll() is not None:
                    raise RuntimeError(f"{member.name}: etcd ended:\n{member.log_text()[-2000:]}")
                assert member.healthy(), f"{member.name} is not healthy"
            return True

        wait_until(check, timeout, "etcd is healthy")
        return self

    def leader(self):
        """The member that leads; waits until there is one."""
        return wait_until(lambda: next(
            (m for m in self.live() if m.metrics()["etcd_server_is_leader"] == 1), None
        ), 20, "a leader")

    def followers(self):
        leader = self.leader()
        return [m for m in self.members if m is not leader]

    def close(self):
        for member in self.members:
            if member.process is not None:
                member.kill()
            if member in self.topo.lab.etcd_members:
                self.topo.lab.etcd_members.remove(member)
        shutil.rmtree(self.dir, ignore_errors=True)

    # -- who reaches it ----------------------------------------------------------------

    def cut_off(self, host, members=None):
        """Packets between a host and the members vanish; all others of both get through."""
        rules = "".join(
            f"add rule inet away {chain} ip{'6' if ':' in a else ''} {what} {a} drop\n"
            for a in host.addresses for chain, what in (("in", "saddr"), ("out", "daddr"))
        )
        for member in members or self.members:
            member.ns.run("nft", "-f", "-", input=(
                "add table inet away\n"
                "add chain inet away in { type filter hook input priority 0; }\n"
                "add chain inet away out { type filter hook output priority 0; }\n" + rules))

    def let_in(self, members=None):
        """The end of all cut_off()."""
        for member in members or self.members:
            member.ns.run("nft", "-f", "-", input="add table inet away\ndelete table inet away\n")

    # -- etcdctl -----------------------------------------------------------------------

    def ctl_argv(self, api=3, endpoints=None, user=None, host=None):
        """etcdctl with what it needs to get in as root; from the switch, or from a host."""
        names = ("cacert", "cert", "key") if api == 3 else ("ca-file", "cert-file", "key-file")
        endpoints = endpoints or [self.live()[0].url]
        argv = ["env", f"ETCDCTL_API={api}", "etcdctl", f"--endpoints={','.join(endpoints)}"]
        # By itself it gives up after two to five seconds, and a busy machine has such.
        argv += (["--dial-timeout=20s", "--command-timeout=20s"] if api == 3
                 else ["--timeout=20s", "--total-timeout=20s"])
        if self.tls:
            files = (self.ca.cert, self.admin.cert, self.admin.key)
            argv += [f"--{n}={f}" for n, f in zip(names, files)][:1 if self.tls == "server" else 3]
        if self.auth or user:
            argv += [f"--{'user' if api == 3 else 'username'}={':'.join(user or ROOT)}"]
        return (host.ns if host else self.switch).argv(*argv)

    def ctl(self, *args, input=None, check=True, **how):
        """Runs etcdctl (api=2 or 3; endpoints, user, host: see above); what it printed."""
        cmd = self.ctl_argv(**how) + list(map(str, args))
        done = subprocess.run(cmd, input=input, capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            raise RuntimeError(f"etcdctl {args}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout if check else done

    def ctl_json(self, *args, **how):
        return json.loads(self.ctl(*args, "-w", "json", **how))

    def revision(self):
        return self.ctl_json("get", "no such key")["header"]["revision"]

    def compact(self):
        """Forgets all history but the present."""
        self.ctl("compact", "--physical", self.revision())

    def defrag(self):
        for member in self.live():
            self.ctl("defrag", endpoints=[member.url])

    def alarms(self):
        return self.ctl("alarm", "list").split()

    def fill(self):
        """Writes until the quota is used up and the NOSPACE alarm is on."""
        for i in range(1000):
            done = self.ctl("put", f"/filler/{i}", input="x" * 1000000, check=False)
            if done.returncode != 0:
                assert "space exceeded" in done.stderr, done.stderr
                return
        raise AssertionError("etcd never was full")

    def empty(self):
        """What an administrator does then."""
        self.ctl("del", "--prefix", "/filler/")
        self.compact()
        self.defrag()
        self.ctl("alarm", "disarm")

    # -- users -------------------------------------------------------------------------

    def enable_auth(self):
        if ROOT[0] not in self.ctl("user", "list").split():
            self.ctl("user", "add", ":".join(ROOT))
            self.ctl("user", "grant-role", "root", "root")
        self.ctl("auth", "enable")
        self.auth = True

    def disable_auth(self):
        self.ctl("auth", "disable")
        self.auth = False

    def add_user(self, name, password=None, prefixes=(PREFIX,)):
        """A user who may read and write below prefixes; without a password: by the CN of a
        certificate alone."""
        if password is None:
            self.ctl("user", "add", name, "--no-password")
        else:
            self.ctl("user", "add", f"{name}:{password}")
        self.ctl("role", "add", name)
        for prefix in prefixes:
            self.ctl("role", "grant-permission", name, "readwrite", "--prefix=true", prefix)
        self.ctl("user", "grant-role", name, name)

    def change_password(self, name, password):
        self.ctl("user", "passwd", "--interactive=false", name, input=password + "\n")

    # -- what it was asked -------------------------------------------------------------

    def requests(self):
        """{gRPC method: how many calls and streams were begun}, over all members."""
        found = {}
        for member in self.live():
            for name, value in member.metrics().items():
                if name.startswith("grpc_server_started_total") and value:
                    method = re.search(r'grpc_method="(\w+)"', name)[1]
                    found[method] = found.get(method, 0) + int(value)
        return found


def _quoted(text):
    """As Go quotes: what etcdctl's txn reads."""
    raw = text if isinstance(text, bytes) else text.encode()
    return '"' + "".join(f"\\x{b:02x}" for b in raw) + '"'


class Kv:
    """One key of v3, names as etcd's own."""

    def __init__(self, raw):
        self.key = base64.b64decode(raw["key"]).decode(errors="replace")
        self.value = base64.b64decode(raw.get("value", "")).decode(errors="replace")
        self.lease = raw.get("lease", 0)
        self.create_revision, self.mod_revision = raw["create_revision"], raw["mod_revision"]


class _Keys(Records):
    """The records in etcd. Names are those below the prefix, but in put and get: "config",
    "subnets/10.5.52.0-24"; keys of lease() and so on are those below subnets."""

    def __init__(self, etcd, prefix=PREFIX):
        self.etcd, self.prefix = etcd, prefix

    def flanneld_flags(self):
        return self.etcd.flanneld_flags()

    def file(self, *names):
        return "/".join((self.prefix, *names))

    def write(self, name, text):
        self.put(self.file(name), text)

    def put_lease(self, key, record, expires_in=86400):
        self.put(self.file("subnets", key), json.dumps(record), expires_in)

    def remove(self, key):
        self.delete(self.file("subnets", key))


class Keys3(_Keys):
    def get(self, key):
        """The Kv of a whole key, or None."""
        found = self.etcd.ctl_json("get", key).get("kvs")
        return Kv(found[0]) if found else None

    def list(self, prefix=None):
        prefix = self.file("") if prefix is None else prefix
        return [Kv(raw) for raw in self.etcd.ctl_json("get", "--prefix", prefix).get("kvs", [])]

    def grant(self, ttl):
        """A lease; its id as etcdctl wants it."""
        return self.etcd.ctl("lease", "grant", ttl).split()[1]

    def put(self, key, text, ttl=None):
        lease = [f"--lease={self.grant(ttl)}"] if ttl is not None else []
        self.etcd.ctl("put", *lease, "--", key, text)

    def put_many(self, texts, ttl=None):
        """{key: text or bytes} in as few transactions as etcd allows, under one lease."""
        lease = f"--lease={self.grant(ttl)} " if ttl is not None else ""
        lines = [f"put {lease}-- {_quoted(k)} {_quoted(v)}" for k, v in texts.items()]
        for i in range(0, len(lines), 100):
            self.etcd.ctl("txn", input="\n" + "\n".join(lines[i : i + 100]) + "\n\n\n")

    def delete(self, *keys):
        for key in keys:
            self.etcd.ctl("del", "--", key)

    def kv(self, key):
        """The Kv of a record."""
        return self.get(self.file("subnets", key))

    def keys(self):
        start = len(self.file("subnets", ""))
        return sorted(kv.key[start:] for kv in self.list(self.file("subnets", "")))

    def lease(self, key):
        kv = self.kv(key)
        if kv is None:
            raise LookupError(f"no key {key}")
        return json.loads(kv.value)

    def leases(self):
        found, start = {}, len(self.file("subnets", ""))
        for kv in self.list(self.file("subnets", "")):
            try:
                found[kv.key[start:]] = json.loads(kv.value)
            except ValueError:
                continue
        return found

    def ttl(self, key):
        """(seconds left, seconds granted) of a record; None: it has no lease."""
        kv = self.kv(key)
        if kv is None:
            raise LookupError(f"no key {key}")
        if not kv.lease:
            return None
        got = self.etcd.ctl_json("lease", "timetolive", f"{kv.lease:x}")
        return got["ttl"], got["granted-ttl"]

    def revoke(self, key):
        """Ends the lease of a record, as its running out does."""
        self.etcd.ctl("lease", "revoke", f"{self.kv(key).lease:x}")


class Keys2(_Keys):
    """The v2 key space: other data than that of v3, in the same etcd."""

    def ctl(self, *args, **how):
        return self.etcd.ctl(*args, api=2, **how)

    def get(self, key):
        """The text of a whole key, or None."""
        done = self.ctl("get", key, check=False)
        if done.returncode != 0:
            assert "Key not found" in done.stderr, done.stderr
            return None
        return done.stdout[:-1]

    def put(self, key, text, ttl=None):
        self.ctl("set", *([f"--ttl={ttl}"] if ttl is not None else []), "--", key, text)

    def delete(self, *keys):
        for key in keys:
            self.ctl("rm", key)

    def keys(self):
        done = self.ctl("ls", self.file("subnets"), check=False)
        return sorted(os.path.basename(line) for line in done.stdout.splitlines())

    def lease(self, key):
        text = self.get(self.file("subnets", key))
        if text is None:
            raise LookupError(f"no key {key}")
        return json.loads(text)

    def ttl(self, key):
        """Seconds left of a record; None: it stays for ever."""
        text = self.ctl("-o", "extended", "get", self.file("subnets", key))
        return int(re.search(r"^TTL: (\d+)", text, re.M)[1]) or None
