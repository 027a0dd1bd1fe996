# SPDX-License-Identifier: Apache-2.0
"""The Debian package: what is in it, and that it installs, upgrades, goes and is purged; the
units of systemd and supervisord.

It is installed by dpkg into a directory with this machine's list of packages, so that what it
depends on is looked up there. The maintainer scripts run in that directory, with a busybox for
a shell, and a systemctl that writes down what it was asked.
"""

import configparser
import os
import re
import shutil
import subprocess

import pytest

from lib import node, traffic

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.dirname(node.FLANNELD)
UNIT = f"{ROOT}/deploy/systemd/flanneld.service"
FILES = {"/usr/sbin/flanneld", "/usr/lib/cni/flannel", "/usr/libexec/flannel/mk-docker-opts.sh",
         "/lib/systemd/system/flanneld.service", "/etc/default/flanneld",
         "/usr/share/man/man8/flanneld.8.gz", "/usr/share/doc/weft/copyright"}

pytestmark = pytest.mark.skipif(
    not all(shutil.which(p) for p in ("dpkg-shlibdeps", "dpkg", "strip", "busybox")),
    reason="this machine has no dpkg-dev, binutils or busybox")


def run(*cmd, **kwargs):
    done = subprocess.run(cmd, capture_output=True, text=True, check=False, timeout=120, **kwargs)
    assert done.returncode == 0, f"{cmd}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def build(output, programs=BUILD, umask=0o022):
    path = run(f"{ROOT}/deploy/debian/build.sh", programs, output, umask=umask).strip()
    assert os.path.dirname(path) == str(output)
    return path


@pytest.fixture(name="deb", scope="module")
def _deb(tmp_path_factory):
    return build(tmp_path_factory.mktemp("deb"))


# -- what is in it ---------------------------------------------------------------------

def test_same_bytes(deb, tmp_path):
    for name in ("flanneld", "flannel", "flanneld.8"):
        shutil.copyfile(f"{BUILD}/{name}", tmp_path / name)
        os.chmod(tmp_path / name, 0o700)
    again = build(tmp_path, tmp_path, 0o077)
    with open(deb, "rb") as one, open(again, "rb") as other:
        assert one.read() == other.read()


def test_what_it_needs(deb):
    """Libraries that are opened by dlopen(3) are in no header that dpkg-shlibdeps reads."""
    needs = {d.split()[0] for d in run("dpkg-deb", "-f", deb, "Depends").strip().split(", ")}
    opened = {"libssl3", "libevent-openssl-2.1-7"}
    assert opened | {"libc6", "libnftables1", "libmnl0", "libevent-core-2.1-7"} <= needs
    with open(f"{ROOT}/src/io/openssl.c", encoding="utf-8") as f:
        assert set(re.findall(r'"lib\S+\.so\.\S+", "(\S+)"', f.read())) == opened


# -- in and out ------------------------------------------------------------------------

SYSTEMCTL = '#!/bin/sh\necho "${0##*/} $*" >>/calls\n'


class Target:
    def __init__(self, path):
        self.path, self.admin = str(path), f"{path}/var/lib/dpkg"
        for name in ("bin", "tmp", "etc", "run", "proc", "var/lib/dpkg/info",
                     "var/lib/dpkg/updates"):
            os.makedirs(f"{path}/{name}")
        shutil.copyfile("/var/lib/dpkg/status", f"{self.admin}/status")
        shutil.copyfile(shutil.which("busybox"), f"{path}/bin/sh")
        os.chmod(f"{path}/bin/sh", 0o755)
        for name in ("rm", "systemctl", "deb-systemd-invoke"):
            if name == "rm":
                os.link(f"{path}/bin/sh", f"{path}/bin/rm")
                continue
            with open(f"{path}/bin/{name}", "w", encoding="ascii") as f:
                f.write(SYSTEMCTL)
            os.chmod(f"{path}/bin/{name}", 0o755)
        self.before = self.files()

    def boot_systemd(self):
        os.makedirs(f"{self.path}/run/systemd/system")
        return self

    def dpkg(self, *args):
        return run("dpkg", f"--root={self.path}", "--log=/dev/null", *args)

    def status(self):
        done = subprocess.run(
            ["dpkg-query", f"--admindir={self.admin}", "-W", "-f=${db:Status-Abbrev}", "weft"],
            capture_output=True, text=True, check=False, timeout=20)
        return done.stdout.strip() if done.returncode == 0 else ""

    def files(self):
        """All but what dpkg keeps for itself."""
        found = {os.path.join(d, f)[len(self.path):] for d, _, names in os.walk(self.path)
                 for f in names}
        return {f for f in found if not f.startswith("/var/lib/dpkg/")}

    def new_files(self):
        return self.files() - self.before - {"/calls"}

    def calls(self):
        """What systemd was asked since the last time."""
        try:
            with open(f"{self.path}/calls", encoding="ascii") as f:
                return f.read().splitlines()
        except FileNotFoundError:
            return []
        finally:
            if os.path.exists(f"{self.path}/calls"):
                os.unlink(f"{self.path}/calls")

    def write(self, path, text=""):
        os.makedirs(os.path.dirname(f"{self.path}{path}"), exist_ok=True)
        with open(f"{self.path}{path}", "w", encoding="ascii") as f:
            f.write(text)


@pytest.fixture(name="target")
def _target(tmp_path):
    return Target(tmp_path / "root")


def test_installs_and_goes(deb, target):
    target.dpkg("--install", deb)
    assert target.status() == "ii"
    assert FILES <= target.new_files()
    assert all(f in FILES or f.startswith("/usr/share/doc/weft/") for f in target.new_files())
    version = run(f"{target.path}/usr/sbin/flanneld", "--version")
    with open(f"{ROOT}/meson.build", encoding="utf-8") as f:
        assert re.search(r"version: '([^']+)'", f.read())[1] in version
    target.dpkg("--remove", "weft")
    assert (target.status(), target.new_files()) == ("rc", {"/etc/default/flanneld"})
    target.dpkg("--purge", "weft")
    assert (target.status(), target.new_files()) == ("", set())


def test_contents_are_as_packed(deb, target):
    target.dpkg("--install", deb)
    assert target.dpkg("--verify", "weft") == ""
    target.write("/usr/sbin/flanneld", "x")
    done = subprocess.run(["dpkg", f"--root={target.path}", "--verify", "weft"], check=False,
                          capture_output=True, text=True, timeout=20)
    assert "/usr/sbin/flanneld" in done.stdout


def test_purge_takes_what_came_later(deb, target):
    target.dpkg("--install", deb)
    target.write("/var/lib/flannel/run-flannel-subnet.env.state")
    wants = "/etc/systemd/system/multi-user.target.wants"
    os.makedirs(f"{target.path}{wants}")
    os.symlink("/lib/systemd/system/flanneld.service",
               f"{target.path}{wants}/flanneld.service")
    target.dpkg("--remove", "weft")
    assert len(target.new_files()) == 3
    target.dpkg("--purge", "weft")
    assert target.new_files() == set()


def test_settings_of_the_admin_stay(deb, target):
    target.dpkg("--install", deb)
    target.write("/etc/default/flanneld", "FLANNELD_IFACE=eth7\n")
    target.dpkg("--install", deb)
    target.dpkg("--remove", "weft")
    with open(f"{target.path}/etc/default/flanneld", encoding="ascii") as f:
        assert f.read() == "FLANNELD_IFACE=eth7\n"


def test_service_over_its_life(deb, target):
    """Not started when it is new, restarted (only if it runs) when it is newer."""
    target.boot_systemd()
    target.dpkg("--install", deb)
    assert target.calls() == ["systemctl --system daemon-reload"]
    target.dpkg("--install", deb)
    assert target.calls() == ["systemctl --system daemon-reload",
                              "deb-systemd-invoke try-restart flanneld.service"]
    target.write("/run/flannel/subnet.env")
    assert "flanneld --cleanup" in target.dpkg("--remove", "weft")
    assert target.calls() == ["deb-systemd-invoke stop flanneld.service",
                              "systemctl --system daemon-reload"]


def test_dependencies_are_looked_at(deb, target):
    """The other tests would pass as well if dpkg did not care."""
    with open(f"{target.admin}/status", "w", encoding="ascii"):
        pass
    done = subprocess.run(["dpkg", f"--root={target.path}", "--log=/dev/null", "--install", deb],
                          capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0 and "libssl3" in done.stderr


# -- units -----------------------------------------------------------------------------

def directives(path):
    with open(path, encoding="utf-8") as f:
        return [line.strip().partition("=")[::2] for line in f
                if "=" in line and not line.startswith(("#", ";"))]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")
@pytest.mark.parametrize("change, words", [
    (None, None),
    (("ProtectSystem=full", "ProtectSystem=ful"), "protect system"),
    (("Restart=on-failure", "Restarts=on-failure"), "Restarts"),
    (("/usr/sbin/flanneld", "/usr/sbin/flannels"), "flannels"),
])
def test_unit_is_what_systemd_knows(deb, tmp_path, change, words):
    """Its paths are those of the package's files, unpacked."""
    run("dpkg-deb", "-x", deb, str(tmp_path))
    path = f"{tmp_path}/lib/systemd/system/flanneld.service"
    with open(path, encoding="utf-8") as f:
        text = f.read()
    if change:
        assert change[0] in text
        text = text.replace(*change)
    for place in ("/usr/sbin/", "/usr/libexec/"):
        assert f"={place}" in text
        text = text.replace(f"={place}", f"={tmp_path}{place}")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", path], check=False,
                          capture_output=True, text=True, timeout=60)
    said = [line for line in done.stderr.splitlines() if "flanneld.service" in line]
    if words is None:
        assert said == [], done.stderr
    else:
        assert any(words in line for line in said), done.stderr


def test_unit_waits_for_the_network():
    unit = dict(directives(UNIT))
    assert unit["Type"] == "notify" and unit["TimeoutStartSec"] == "infinity"
    assert unit["Before"] == "docker.service"
    assert unit["RuntimeDirectory"] == unit["StateDirectory"] == "flannel"
    # A unit that stops must not take subnet.env away from those who use it.
    assert unit["RuntimeDirectoryPreserve"] == "yes"


@pytest.mark.needs("vxlan", "iptables", "setpriv")
def test_rights_of_the_unit_are_enough(make_topo):
    """There is no systemd in the lab: its bounding set and NoNewPrivileges by setpriv."""
    unit = dict(directives(UNIT))
    assert unit["NoNewPrivileges"] == "yes"
    caps = [f"+{c.removeprefix('CAP_').lower()}" for c in unit["CapabilityBoundingSet"].split()]
    topo = make_topo(2)
    topo.start({"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}, "--ip-masq",
               wrap=["setpriv", "--no-new-privs", f"--bounding-set={','.join(['-all', *caps])}"])
    for host in topo:
        with open(f"/proc/{host.process.pid}/status", encoding="ascii") as f:
            status = dict(line.split(":\t") for line in f if ":\t" in line)
        assert bin(int(status["CapEff"], 16)).count("1") == len(caps)
    traffic.assert_all_to_all(topo.pods())


def test_tunnel_device_is_not_forbidden():
    """Each of these makes systemd forbid all devices that are not named, /dev/net/tun too."""
    unit = dict(directives(UNIT))
    assert not {"ProtectClock", "PrivateDevices", "DeviceAllow", "DevicePolicy"} & set(unit)


def test_docker_reads_what_the_unit_writes():
    docker = directives(f"{ROOT}/deploy/systemd/docker.service.d/flannel.conf")
    post = dict(directives(UNIT))["ExecStartPost"].split()
    assert dict(docker)["EnvironmentFile"] == post[post.index("-d") + 1]
    starts = [value for key, value in docker if key == "ExecStart"]
    assert len(starts) == 2 and starts[0] == "" and starts[1].endswith(" $DOCKER_OPTS")
    assert dict(docker)["After"] == dict(docker)["Wants"] == "flanneld.service"


def known_options():
    with open(f"{ROOT}/src/daemon/options_table.c", encoding="utf-8") as f:
        return set(re.findall(r'\{OPTION_\w+, "([\w-]+)"', f.read()))


def test_settings_are_options():
    """A variable that is no option would be passed over in silence."""
    with open(f"{ROOT}/deploy/systemd/flanneld.default", encoding="utf-8") as f:
        names = re.findall(r"^#?FLANNELD_(\w+)=", f.read(), re.M)
    assert len(names) >= 3
    assert {n.lower().replace("_", "-") for n in names} <= known_options()


# Those of supervisord 4 that a program may have.
SUPERVISOR_KEYS = set("""command process_name numprocs numprocs_start priority autostart startsecs
startretries autorestart exitcodes stopsignal stopwaitsecs stopasgroup killasgroup user
redirect_stderr stdout_logfile stdout_logfile_maxbytes stdout_logfile_backups
stdout_capture_maxbytes stdout_events_enabled stdout_syslog stderr_logfile
stderr_logfile_maxbytes stderr_logfile_backups stderr_capture_maxbytes stderr_events_enabled
stderr_syslog environment directory umask serverurl""".split())


def test_supervisor():
    config = configparser.RawConfigParser(inline_comment_prefixes=(" ;",), strict=True)
    config.read(f"{ROOT}/deploy/supervisor/flanneld.conf", encoding="utf-8")
    assert config.sections() == ["program:flanneld"]
    program = dict(config["program:flanneld"])
    assert set(program) <= SUPERVISOR_KEYS
    assert program["stopsignal"] == "TERM" and program["autorestart"] == "true"
    command, *flags = program["command"].split()
    assert command == "/usr/sbin/flanneld"
    assert {flag[2:].split("=")[0] for flag in flags} <= known_options()
