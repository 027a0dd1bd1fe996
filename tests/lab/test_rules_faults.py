# SPDX-License-Identifier: Apache-2.0
"""What the rules need is not there, fails, or hangs; --cleanup; two daemons on a host.

     h1     h2     out      dual-stack, no pods needed
    -+------+------+- sw1
"""

import fcntl
import json
import os

import pytest

from lib import expect, firewall
from lib.expect import stays, wait_equal, wait_until
from lib.firewall import LEGACY, MODES, NFT, NFTABLES
from lib.keeper import FLAGS, Keeper

pytestmark = pytest.mark.needs("vxlan", "ipv6", "nat", "iptables")

# Programs of a host that has none of the words, in the daemon's mount namespace only.
WITHOUT = """
set -e
real=$1
shift
mkdir -p "$real"
mount --bind /usr/sbin "$real"
mount -t tmpfs none /usr/sbin
for f in "$real"/*; do
	case ${f##*/} in PATTERN) ;; *) ln -s "$f" /usr/sbin/ ;; esac
done
exec "$@"
"""
IPTABLES_WORDS = "*tables*|xtables*"


def without(host, pattern):
    """Wrap for start_flanneld(): nothing in /usr/sbin whose name matches (sh case patterns)."""
    script = WITHOUT.replace("PATTERN", pattern)
    return ["sh", "-c", script, "sh", os.path.join(host.dir, "sbin")]


def mounted(command):
    """Wrap: a mount command before the program."""
    return ["sh", "-c", f'{command} && exec "$@"', "sh"]


def inside(host, *cmd):
    """A command in the mount namespace of a host's running flanneld."""
    host.run("nsenter", "-t", host.process.pid, "-m", *cmd)


@pytest.fixture
def make(lab, make_topo):
    made = []

    def build(mode, others=()):
        keeper = Keeper(lab, make_topo, mode, others)
        keeper.config()
        made.append(keeper)
        return keeper

    yield build
    for keeper in made:
        keeper.close()


class Wrapped:
    """PATH with iptables-restore and ip6tables-restore that do as told()."""

    def __init__(self, keeper):
        self.order = os.path.join(keeper.h1.dir, "order")
        self.dir = os.path.join(keeper.h1.dir, "bin")
        self.calls = os.path.join(keeper.h1.dir, "calls")
        os.makedirs(self.dir)
        for name in os.listdir(keeper.tools.dir):
            real = os.path.join(keeper.tools.dir, name)
            path = os.path.join(self.dir, name)
            with open(path, "w", encoding="ascii") as f:
                f.write("#!/bin/sh\n")
                if name.endswith("restore"):
                    f.write(f'case "$*" in *--version*) ;; *) echo >> {self.calls}\n'
                            f"[ ! -e {self.order} ] || . {self.order} ;; esac\n")
                f.write(f'exec {real} "$@"\n')
            os.chmod(path, 0o755)
        self.env = {**keeper.tools.env,
                    "PATH": f"{self.dir}:{os.environ['PATH']}"}

    def told(self, order):
        if order is None:
            os.unlink(self.order)
        else:
            with open(self.order, "w", encoding="ascii") as f:
                f.write(order + "\n")

    def n_calls(self):
        try:
            return os.path.getsize(self.calls)
        except FileNotFoundError:
            return 0


def start(keeper, *more, **kwargs):
    kwargs.setdefault("env", keeper.tools.env)
    keeper.h1.start_flanneld(*FLAGS, *more, **kwargs)


def in_force(keeper):
    """Whether there are masquerade and forward rules for both families."""
    ours = keeper.ours()
    if keeper.mode == NFTABLES:
        return all(f"nft {ip} {c}" in ours for c in ("postrtg", "forward")
                   for ip in ("ip flannel-ipv4", "ip6 flannel-ipv6"))
    return all(f"{keeper.mode}{n} {c}" in ours for n in "46"
               for c in ("nat FLANNEL-POSTRTG", "filter FLANNEL-FWD"))


def nothing_of_ours(keeper):
    return keeper.ours() == {}


# -- iptables-restore ------------------------------------------------------------------

@pytest.mark.parametrize("mode", [LEGACY, NFT])
def test_a_restore_that_fails_is_told_and_tried_again(make, mode):
    keeper = make(mode)
    h1, wrapped = keeper.h1, Wrapped(keeper)
    h1.allow_log("E", "line 7 failed")
    wrapped.told("echo 'iptables-restore: line 7 failed' >&2; exit 1")
    start(keeper, env=wrapped.env, wait=False)
    h1.wait_readyz(503, "line 7 failed")
    assert nothing_of_ours(keeper)
    calls = wrapped.n_calls()
    wait_until(lambda: wrapped.n_calls() >= calls + 4, 20)
    assert len([x for x in h1.log_text().splitlines() if "line 7 failed" in x]) <= 2
    wrapped.told(None)
    h1.wait_ready()
    assert in_force(keeper)
    h1.wait_readyz(200)
    h1.wait_log("The masquerade and forward rules are in force")


def test_a_restore_that_begins_to_fail_later(make):
    """The rules that are there stay; damage is named as long as it cannot be repaired."""
    keeper = make(NFT)
    h1, wrapped = keeper.h1, Wrapped(keeper)
    h1.allow_log("EW", "no memory today|Restored")
    start(keeper, env=wrapped.env)
    before = keeper.ours()
    wrapped.told("echo 'iptables-restore: no memory today' >&2; exit 4")
    keeper.tools.iptables(h1, False, "-t", "nat", "-F", "FLANNEL-POSTRTG")
    h1.wait_readyz(503, "no memory today")
    wrapped.told(None)
    wait_equal(keeper.ours, before, 20)
    h1.wait_readyz(200)


def test_a_restore_that_hangs_holds_up_nothing_else(make):
    keeper = make(NFT)
    h1, wrapped = keeper.h1, Wrapped(keeper)
    pid_file = os.path.join(h1.dir, "hanging")
    wrapped.told(f"echo $$ >> {pid_file}; exec sleep 300")
    h1.allow_log("EW", "rules|iptables")
    keeper.site.topo.store.put_peer("10.5.77.0-24", "192.168.64.77", mac="02:00:00:00:00:77")
    start(keeper, env=wrapped.env, wait=False)
    wait_until(lambda: "10.5.77.0/24" in h1.pod_routes(["10.5.0.0/16"]))
    wait_until(lambda: h1.get_or_none("/healthz"))
    keeper.site.topo.store.put_peer("10.5.78.0-24", "192.168.64.78", mac="02:00:00:00:00:78")
    wait_until(lambda: "10.5.78.0/24" in h1.pod_routes(["10.5.0.0/16"]))

    def hanging():
        with open(pid_file, encoding="ascii") as f:
            return [int(x) for x in f.read().split()]

    pids = wait_until(hanging)
    h1.stop_flanneld()
    wait_until(lambda: not any(os.path.exists(f"/proc/{p}") for p in pids), 10,
               "the child has gone with the daemon")


def test_a_warning_is_no_end_of_the_wait(make):
    """Ready, and pods, come when the rules are in force; not when something else is known or
    has changed."""
    keeper = make(NFT)
    h1, wrapped = keeper.h1, Wrapped(keeper)
    h1.allow_log("W", "drops forwarded packets by policy")
    h1.run("nft", "add table inet strict; add chain inet strict f "
           "{ type filter hook forward priority 7; policy drop; }")
    wrapped.told(f"while [ -e {wrapped.order} ]; do sleep 0.05; done")
    start(keeper, env=wrapped.env, wait=False)
    h1.wait_log("drops forwarded packets by policy")
    h1.ip("link set eth0 mtu 1400")
    wait_until(lambda: h1.overlay()["devices"]["flannel.1"]["mtu"] == 1350)
    stays(lambda: h1.get("/readyz")[0] == 503 and not os.path.exists(h1.subnet_file), 0.5)
    assert "missing rules: waiting" in h1.get("/readyz")[1]
    wrapped.told(None)
    h1.wait_ready()
    assert in_force(keeper)
    h1.wait_readyz(200, "by policy")


def test_another_holds_the_lock_of_iptables_legacy(make):
    keeper = make(LEGACY)
    h1 = keeper.h1
    h1.allow_log("EW", "lock")
    with open(keeper.tools.lock, "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        start(keeper, wait=False)
        wait_until(lambda: h1.get_or_none("/healthz"))
        stays(lambda: "READY=1" not in h1.log_text() and h1.process.poll() is None, 1.5)
        assert h1.get("/healthz")[0] == 200
    h1.wait_ready()
    assert in_force(keeper)
    wait_until(lambda: h1.get("/readyz")[0] == 200)


def test_the_lock_of_iptables_legacy_is_held_for_long(make):
    """Longer than our patience: it is said, and tried again."""
    keeper = make(LEGACY)
    h1 = keeper.h1
    h1.allow_log("EW", "lock")
    with open(keeper.tools.lock, "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        start(keeper, wait=False)
        h1.wait_readyz(503, "missing rules: waiting for iptables-restore\n")
        h1.wait_log("xtables.lock is held by .* \\(pid", timeout=10)
        h1.wait_readyz(503, "missing rules: waiting for ip6?tables-restore: .* is held by")
        h1.wait_readyz(503, "lock")
    h1.wait_ready()
    assert in_force(keeper)
    h1.wait_readyz(200)


# -- what is not installed -------------------------------------------------------------

def test_no_iptables_is_said_and_recovers(make):
    keeper = make(NFT)
    h1 = keeper.h1
    h1.allow_log("EW", "iptables")
    start(keeper, wait=False, env={}, wrap=without(h1, IPTABLES_WORDS))
    h1.wait_readyz(503, "iptables")
    inside(h1, "umount", "-l", "/usr/sbin")
    h1.wait_ready()
    assert in_force(keeper)
    h1.wait_readyz(200)


def test_nftables_mode_without_iptables(make):
    keeper = make(NFTABLES, ["docker.rules"])
    h1 = keeper.h1
    firewall.load(h1, keeper.tools, "docker.rules")
    start(keeper, env={}, wrap=without(h1, IPTABLES_WORDS))
    assert in_force(keeper)
    h1.wait_readyz(200)
    assert any("filter FORWARD" in k for k in keeper.ours()), "not accepted beside Docker"


def test_legacy_filters_and_its_tools_are_not_installed(make):
    """It is said what may be lost, and at the end what may be left."""
    keeper = make(NFTABLES)
    h1, legacy = keeper.h1, firewall.Tools(keeper.lab, LEGACY)
    legacy.iptables(h1, False, "-P", "FORWARD", "DROP")
    start(keeper)
    assert "legacy4 filter FLANNEL-FWD" in keeper.ours()
    h1.stop_flanneld()
    h1.allow_log("W", "iptables-legacy")
    start(keeper, env={}, wrap=without(h1, IPTABLES_WORDS))
    h1.wait_readyz(200, "iptables-legacy, beside nftables, may drop packets of pods: "
                        "iptables-legacy-save is not installed\n")
    h1.stop_flanneld()
    done = h1.run_flanneld("--cleanup", timeout=15, wrap=without(h1, IPTABLES_WORDS))
    assert done.code == 1 and any(
        "iptables-legacy may still have some of ours: iptables-legacy-save is not installed" in x
        for x in done.lines("E")), done.text
    done = cleanup(keeper)
    assert done.code == 0 and nothing_of_ours(keeper), done.text
    legacy.iptables(h1, False, "-P", "FORWARD", "ACCEPT")


def test_iptables_mode_without_nft(make):
    keeper = make(LEGACY)
    h1 = keeper.h1
    start(keeper, env=keeper.tools.env, wrap=without(h1, "nft|*-nft|xtables-nft-multi"))
    assert in_force(keeper)
    h1.wait_readyz(200)


@pytest.mark.parametrize("flags", [[], ["--iptables-forward-rules=false"]])
def test_nftables_mode_where_an_old_flannel_used_legacy(make, flags):
    """Its rules bear no sign, stand beside ours, and masquerade what is to keep its address."""
    keeper = make(NFTABLES)
    h1, legacy = keeper.h1, firewall.Tools(keeper.lab, LEGACY)
    start(keeper, *flags)
    h1.stop_flanneld()
    for v6, (net, sub) in keeper.site.nets(h1).items():
        legacy.restore(h1, v6, firewall.original_v011(net, sub, v6))
        legacy.iptables(h1, v6, "-t", "nat", "-A", "POSTROUTING", "-s", net, "-j", "RETURN")
    start(keeper, *flags)

    def left(v6):
        return [x for x in legacy.save(h1, v6) if x.startswith("-A POSTROUTING")]

    for v6, (net, _) in keeper.site.nets(h1).items():
        wait_equal(lambda: left(v6), [f"-A POSTROUTING -s {net} -j RETURN"], 5)
        legacy.iptables(h1, v6, "-t", "nat", "-F")
        legacy.iptables(h1, v6, "-F")


# -- the kernel ------------------------------------------------------------------------

def test_no_br_netfilter(make):
    keeper = make(NFT)
    h1 = keeper.h1
    h1.allow_log("E", "br_netfilter")
    start(keeper, wait=False, wrap=mounted("mount -t tmpfs none /proc/sys/net/bridge"))
    h1.wait_readyz(503, "br_netfilter")
    h1.wait_log("^E.*bridge-nf-call.*br_netfilter")
    wait_until(lambda: in_force(keeper))
    inside(h1, "umount", "/proc/sys/net/bridge")
    h1.wait_readyz(200, timeout=25)
    h1.wait_log("^I.*br_netfilter")


def test_nftables_mode_needs_no_br_netfilter(make):
    keeper = make(NFTABLES)
    start(keeper, wrap=mounted("mount -t tmpfs none /proc/sys/net/bridge"))
    assert in_force(keeper)
    keeper.h1.wait_readyz(200)


def forwarding(h1):
    return [int(h1.run("cat", f"/proc/sys/net/{k}").stdout)
            for k in ("ipv4/ip_forward", "ipv6/conf/all/forwarding")]


@pytest.mark.parametrize("mode", [NFT, NFTABLES])
def test_forwarding_is_switched_on_with_one_line(make, mode):
    keeper = make(mode)
    h1 = keeper.h1
    h1.ns.sysctl("net/ipv4/ip_forward", 0)
    h1.ns.sysctl("net/ipv6/conf/all/forwarding", 0)
    start(keeper)
    assert forwarding(h1) == [1, 1]
    assert len([x for x in h1.log_text().splitlines() if "ip_forward" in x]) == 1
    assert len([x for x in h1.log_text().splitlines() if "conf.all.forwarding" in x]) == 1


READ_ONLY = "mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys"


def test_forwarding_that_cannot_be_switched_on(make):
    keeper = make(NFTABLES)
    h1 = keeper.h1
    h1.allow_log("E", "forward")
    h1.ns.sysctl("net/ipv4/ip_forward", 0)
    start(keeper, wait=False, wrap=mounted(READ_ONLY))
    h1.wait_readyz(503, "missing forwarding: .*ip_forward")
    h1.wait_log("^E.*ip_forward")
    wait_until(lambda: in_force(keeper))
    wait_until(lambda: os.path.exists(h1.subnet_file))
    assert "READY=1" not in h1.log_text()
    h1.ns.sysctl("net/ipv4/ip_forward", 1)
    h1.wait_ready()
    h1.wait_readyz(200)


def test_forwarding_that_can_be_switched_on_later(make):
    keeper = make(NFTABLES)
    h1 = keeper.h1
    h1.allow_log("E", "forward")
    h1.ns.sysctl("net/ipv4/ip_forward", 0)
    start(keeper, wait=False, wrap=mounted(READ_ONLY))
    h1.wait_readyz(503, "missing forwarding")
    # After the last event of a start: there is nothing but the clock then.
    wait_until(lambda: os.path.exists(h1.subnet_file))
    stays(lambda: h1.get("/readyz")[0] == 503, 1)
    inside(h1, "umount", "/proc/sys")
    h1.wait_readyz(200, timeout=25)
    assert forwarding(h1) == [1, 1]


# -- --cleanup -------------------------------------------------------------------------

def cleanup(keeper, *more):
    return keeper.h1.run_flanneld("--cleanup", *more, env=keeper.tools.env, timeout=15)


@pytest.mark.parametrize("mode", MODES)
def test_cleanup_removes_ours_and_nothing_else(make, mode):
    keeper = make(mode, ["docker.rules", "firewalld.nft"])
    h1, h2 = keeper.h1, keeper.site.h2
    keeper.site.start()
    keeper.site.topo.stop()
    keeper.lay()
    h1.ip("route add 10.99.0.0/24 via 192.168.64.254 dev eth0", "link add name other type bridge")
    h1.run("nft", "add", "table", "inet", "mine")
    others = keeper.everything()
    keeper.config()
    start(keeper)
    h2.start_flanneld(*FLAGS, env=keeper.tools.env)
    keeper.site.topo.wait_meshed()
    assert in_force(keeper)
    done = cleanup(keeper)
    assert done.code == 1 and "is running" in done.text, done.text
    assert in_force(keeper) and h1.pod_routes()
    h1.stop_flanneld()
    done = cleanup(keeper)
    assert done.code == 0 and not done.lines("E") and not done.lines("W"), done.text
    removed = [x.split("] ")[1] for x in done.lines("I")]
    assert len(removed) == len(set(removed)), done.text
    for word in ("flannel.1", "flannel-v6.1", "route"):
        assert any(word in x for x in done.lines("I") if "Removed" in x), done.text
    assert keeper.everything() == others
    assert not h1.pod_routes() and not h1.overlay()["devices"]
    assert [e for e in h1.ip_json("route") if e["dst"] == "10.99.0.0/24"]
    assert h1.ifindex("other") and h1.ifindex("cni0")
    tables = [e["table"]["name"] for e in h1.nft_json() if "table" in e]
    assert "mine" in tables and not [t for t in tables if "weft" in t], tables
    assert os.path.exists(h1.subnet_file)
    again = cleanup(keeper)
    assert again.code == 0 and "Removed" not in again.text and "Nothing" in again.text
    assert cleanup(keeper, "--cleanup-files").code == 0
    assert not os.path.exists(h1.subnet_file)
    assert not os.path.exists(os.path.join(os.path.dirname(h1.subnet_file), "status"))


def test_cleanup_that_cannot_tell_whether_it_is_alone(make):
    keeper = make(NFTABLES)
    h1 = keeper.h1
    start(keeper)
    before = keeper.ours()
    done = h1.run_flanneld("--cleanup", env=keeper.tools.env, timeout=15,
                           wrap=mounted("mount -t tmpfs none /proc"))
    assert done.code == 1 and "cannot tell" in done.text, done.text
    assert keeper.ours() == before


def test_cleanup_beside_a_flanneld_that_waits_for_its_config(make):
    keeper = make(NFTABLES)
    h1 = keeper.h1
    start(keeper)
    h1.stop_flanneld()
    before = keeper.ours()
    config = os.path.join(keeper.site.topo.store.path, "config")
    os.rename(config, config + ".off")
    h1.allow_log("W", "config")
    start(keeper, wait=False)
    h1.wait_readyz(503, "network config")
    done = cleanup(keeper)
    assert done.code == 1 and "is running" in done.text, done.text
    assert keeper.ours() == before


def test_cleanup_of_much(make):
    """More than one answer of the kernel holds, and all of it goes at once."""
    keeper = make(NFTABLES)
    h1 = keeper.h1
    batch = [f"link add d{i} type bridge" for i in range(60)]
    batch += [f"link set d{i} alias 'weft {i}'" for i in range(60)]
    batch += [f"route add 10.{i >> 8}.{i & 255}.0/24 via 192.168.64.254 proto 87"
              for i in range(600)]
    h1.ip(*batch)
    h1.ip(*[f"route add fc00:{i:x}::/32 dev eth0 proto 87" for i in range(600)], tool="ip -6")
    done = cleanup(keeper)
    assert done.code == 0 and not done.lines("E"), done.text[-2000:]
    assert not [e for e in h1.ip_json("link") if e["ifname"].startswith("d")]
    assert not h1.ip_json("route", "show", "proto", 87)
    assert not h1.ip_json("-6", "route", "show", "proto", 87)
    assert len([x for x in done.lines("I") if "Removed" in x]) == 1260


def test_cleanup_says_what_it_did_to_files(make):
    keeper = make(NFTABLES)
    h1 = keeper.h1
    nowhere = os.path.join(h1.dir, "nowhere")
    with open(nowhere, "w", encoding="ascii"):
        pass
    done = cleanup(keeper, "--cleanup-files", f"--subnet-file={nowhere}/subnet.env")
    assert done.code == 0 and "Removed" not in done.text, done.text
    os.makedirs(os.path.join(h1.dir, "full", "subnet.env"))
    done = cleanup(keeper, "--cleanup-files", f"--subnet-file={h1.dir}/full/subnet.env")
    assert done.code == 1 and "full/subnet.env failed" in done.text, done.text


def test_cleanup_that_fails_in_iptables_legacy(make):
    keeper = make(LEGACY)
    h1, wrapped = keeper.h1, Wrapped(keeper)
    start(keeper, env=wrapped.env)
    h1.stop_flanneld()
    name = os.path.join(wrapped.dir, "iptables-legacy-restore")
    with open(name, "w", encoding="ascii") as f:
        f.write("#!/bin/sh\necho 'no memory today' >&2\nexit 4\n")
    os.chmod(name, 0o755)
    done = h1.run_flanneld("--cleanup", env=wrapped.env, timeout=15)
    assert done.code == 1 and "no memory today" in done.text, done.text
    os.unlink(name)
    done = h1.run_flanneld("--cleanup", env=wrapped.env, timeout=15)
    assert done.code == 0 and nothing_of_ours(keeper), done.text


# -- two on one host -------------------------------------------------------------------

class Second:
    """A flanneld in h1's namespace with files and a network of its own (the files are h2's)."""

    def __init__(self, keeper, *flags):
        self.h1, self.dir = keeper.h1, os.path.join(keeper.site.h2.dir, "other-store")
        os.makedirs(os.path.join(self.dir, "subnets"), exist_ok=True)
        self.config()
        argv = [self.h1.flanneld_argv()[0], f"--subnet-dir={self.dir}",
                f"--subnet-file={self.dir}/subnet.env", "--healthz-ip=127.0.0.1",
                "--healthz-port=8286", *flags]
        env = self.h1._environment({**keeper.tools.env, "FLANNELD_STATE_DIR": f"{self.dir}/state"})
        self.log = open(os.path.join(self.dir, "log"), "w+", encoding="utf-8")
        self.process = self.h1.popen(*argv, stdout=self.log, stderr=self.log, env=env)

    def config(self, **more):
        config = {"Network": "10.77.0.0/16", "EnableNFTables": True,
                  "Backend": {"Type": "vxlan", "VNI": 77, "Port": 8477}, **more}
        path = os.path.join(self.dir, "config")
        with open(path + ".new", "w", encoding="ascii") as f:
            json.dump(config, f)
        os.rename(path + ".new", path)

    def text(self):
        self.log.seek(0)
        return self.log.read()

    def wait_log(self, text):
        wait_until(lambda: text in self.text(), 10, text)

    def wait_readyz(self, status, text=""):
        def check():
            got = self.h1.ns.http_get("127.0.0.1", 8286, "/readyz")
            assert got[0] == status and text in got[1], got
            return True

        wait_until(check)

    def stop(self):
        self.process.terminate()
        assert self.process.wait(10 * expect.TIME_FACTOR) == 0
        self.log.close()


def test_a_second_flanneld_of_a_host_leaves_the_rules_alone(make):
    """Also when the first one is gone: its pods go on, and it may come back."""
    keeper = make(NFTABLES)
    h1 = keeper.h1
    start(keeper)
    before = keeper.ours()
    second = Second(keeper, *FLAGS)
    second.wait_log("another flanneld, for network 10.5.0.0/16;")
    second.wait_readyz(503, "another flanneld")
    assert keeper.ours() == before and "Restored" not in h1.log_text()
    h1.stop_flanneld()
    second.config(nonMasqueradeCIDRs=["198.51.100.0/24"])
    wait_until(lambda: second.text().count("Found network config") == 2)
    stays(lambda: keeper.ours() == before, 0.5)
    start(keeper)
    assert keeper.ours() == before
    h1.wait_readyz(200)
    h1.stop_flanneld()
    second.stop()
    second = Second(keeper, *FLAGS)
    wait_until(lambda: "10.77.0.0/16" in str(keeper.ours()), 10)
    second.wait_readyz(200)
    second.stop()


def test_who_wants_no_rules_gives_way(make):
    keeper = make(NFTABLES)
    second = Second(keeper, "--iptables-forward-rules=false")
    second.wait_log("flannel is ready")
    keeper.h1.allow_log("E", "another flanneld is at")
    start(keeper, wait=False)
    wait_until(lambda: in_force(keeper), 25)
    keeper.h1.wait_readyz(200)
    second.wait_readyz(200)
    second.stop()
