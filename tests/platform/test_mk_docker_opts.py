# SPDX-License-Identifier: Apache-2.0
"""test_mk_docker_opts.py - deploy/mk-docker-opts.sh, in each shell that a host may have

The expected bytes are those of flannel's script of the same name, but where said.
"""

import os
import shutil
import signal
import stat
import subprocess

import pytest

from kernel import nic, run

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SCRIPT = os.path.join(ROOT, "deploy", "mk-docker-opts.sh")
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
APPLETS = ["sh", "sort", "chmod", "mv", "rm", "cat", "ip"]

SUBNET = "FLANNEL_SUBNET=10.5.52.1/24\n"
FILE = f"FLANNEL_NETWORK=10.5.0.0/16\n{SUBNET}FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n"
PLAIN = FILE.replace("true", "false")

BIP = 'DOCKER_OPT_BIP="--bip=10.5.52.1/24"\n'
NO_MASQ = 'DOCKER_OPT_IPMASQ="--ip-masq=false"\n'
MASQ = 'DOCKER_OPT_IPMASQ="--ip-masq=true"\n'
MTU = 'DOCKER_OPT_MTU="--mtu=1450"\n'
OURS = " --bip=10.5.52.1/24 --ip-masq=false --mtu=1450"
THEIRS = " --bip=10.5.52.1/24 --ip-masq=true --mtu=1450"
BARE = " --bip=10.5.52.1/24 --mtu=1450"


def combined(value, key="DOCKER_OPTS"):
    return f'{key}="{value}"\n'


@pytest.fixture(params=["dash", "bash", "bash --posix", "busybox sh"])
def mk(request, tmp_path):
    return Script(request.param.split(), tmp_path)


class Script:
    """The script in one shell, and the two files. Within busybox there is nothing else."""

    def __init__(self, shell, tmp_path):
        if not shutil.which(shell[0], path=PATH):
            pytest.skip(f"no {shell[0]} on this machine")
        self.shell, self.dir, self.path = shell, tmp_path, PATH
        self.file, self.out = tmp_path / "subnet.env", tmp_path / "docker opts.env"
        self.out.write_text("before\n")
        self.within_busybox = shell[0] == "busybox"
        if self.within_busybox:
            self.path = str(tmp_path / "bin")
            os.mkdir(self.path)
            for name in APPLETS:
                os.symlink(shutil.which("busybox", path=PATH), f"{self.path}/{name}")
            self.shell = [f"{self.path}/sh"]

    def argv(self, *args, out=None):
        return [*self.shell, SCRIPT, "-f", str(self.file), "-d", str(out or self.out), *args]

    def __call__(self, *args, text=None, env=None, **kwargs):
        if text is not None:
            self.file.write_text(text)
        return subprocess.run(
            self.argv(*args, **kwargs), env={"PATH": self.path, **(env or {})}, cwd=self.dir,
            capture_output=True, text=True, check=False, timeout=20,
        )

    def makes(self, *args, **kwargs):
        """What it writes when all is well."""
        done = self(*args, **kwargs)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        return self.out.read_text()

    def refuses(self, *args, **kwargs):
        """What it says when it must leave the output as it is."""
        done = self(*args, **kwargs)
        assert (done.returncode, done.stdout) == (1, "")
        assert self.out.read_text() == "before\n"
        assert sorted(self.dir.glob("docker*")) == [self.out]
        return done.stderr


OPTIONS = [
    ("", BIP + NO_MASQ + MTU + combined(OURS)),
    ("-i", BIP + NO_MASQ + MTU),
    ("-c", combined(OURS)),
    ("-i -c", BIP + NO_MASQ + MTU + combined(OURS)),
    ("-ic", BIP + NO_MASQ + MTU + combined(OURS)),
    ("-m", BIP + MTU + combined(BARE)),
    ("-i -m", BIP + MTU),
    ("-c -m", combined(BARE)),
    ("-icm", BIP + MTU + combined(BARE)),
    ("-k NET", BIP + NO_MASQ + MTU + combined(OURS, "NET")),
    ("-i -k NET", BIP + NO_MASQ + MTU),
    ("-c -k NET", combined(OURS, "NET")),
    ("-m -k NET", BIP + MTU + combined(BARE, "NET")),
    ("-icmkNET", BIP + MTU + combined(BARE, "NET")),
    ("junk", BIP + NO_MASQ + MTU + combined(OURS)),
]


def test_options(mk):
    for args, expected in OPTIONS:
        assert mk.makes(*args.split(), text=FILE) == expected, args
        assert mk.out.stat().st_mode & 0o7777 == 0o644


VARIABLES = [
    ("docker masquerades", PLAIN, {}, BIP + MASQ + MTU + combined(THEIRS)),
    ("no word of it", SUBNET + "FLANNEL_MTU=1450\n", {}, BIP + MTU + combined(BARE)),
    ("no MTU", SUBNET + "FLANNEL_IPMASQ=true\n", {},
     BIP + NO_MASQ + combined(" --bip=10.5.52.1/24 --ip-masq=false")),
    ("any shell text", '# by hand\nFLANNEL_SUBNET="10.5.52.1/24"\nexport FLANNEL_MTU=1450', {},
     BIP + MTU + combined(BARE)),
    ("the file before the environment", SUBNET + "FLANNEL_MTU=1450\n", {"FLANNEL_MTU": "1400"},
     BIP + MTU + combined(BARE)),
    ("more options", FILE, {"DOCKER_OPTS": "-a  -b"},
     BIP + NO_MASQ + MTU + combined("-a  -b " + OURS)),
    ("more in the file", FILE + "DOCKER_OPTS=--debug\n", {},
     BIP + NO_MASQ + MTU + combined("--debug " + OURS)),
    ("more variables", FILE, {"DOCKER_OPT_LOG": "--log-level=warn", "DOCKER_OPT_ZZ": ""},
     BIP + NO_MASQ + 'DOCKER_OPT_LOG="--log-level=warn"\n' + MTU
     + 'DOCKER_OPT_ZZ=""\n'
     + combined(OURS.replace("--mtu", "--log-level=warn --mtu") + " ")),
    # Flannel's script makes `b'=""` of these blanks.
    ("blanks and lines", FILE,
     {"DOCKER_OPT_LOG": "--log-opt a  b", "X": "1\nDOCKER_OPT_MTU=1\nDOCKER_OPT_Y=2"},
     BIP + NO_MASQ + 'DOCKER_OPT_LOG="--log-opt a  b"\n' + MTU
     + combined(OURS.replace("--mtu", "--log-opt a  b --mtu"))),
]


def test_variables(mk):
    for what, text, env, expected in VARIABLES:
        assert mk.makes(text=text, env=env) == expected, what


def test_key_is_filled_up(mk):
    env = {"DOCKER_OPTS": "--debug", "NET": "-a  -b"}
    assert mk.makes("-c", "-k", "NET", text=FILE, env=env) == combined("-a  -b " + OURS, "NET")


@pytest.mark.parametrize("args,expected", [
    ("", combined("--debug ")), ("-i", ""), ("-c", combined("--debug ")),
])
def test_no_subnet_file(mk, args, expected):
    """As flannel's: an output without options, and success; but with a word about it."""
    done = mk(*args.split(), env={"DOCKER_OPTS": "--debug"})
    assert (done.returncode, mk.out.read_text()) == (0, expected)
    assert f"there is no {mk.file}" in done.stderr


def test_environment_alone(mk):
    env = {"FLANNEL_SUBNET": "10.5.52.1/24", "FLANNEL_MTU": "1450"}
    assert mk.makes(env=env) == BIP + MTU + combined(BARE)


def test_no_ipv4_subnet(mk):
    done = mk(text="FLANNEL_IPV6_SUBNET=fc00:5:1::1/64\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n")
    assert mk.out.read_text() == NO_MASQ + MTU + combined(" --ip-masq=false --mtu=1450")
    assert done.returncode == 0
    assert f"{mk.file} has no FLANNEL_SUBNET" in done.stderr


def test_usage(mk):
    for args in (["-h"], ["-?"], ["-q"], ["-k"], ["-i", "-f"]):
        assert "usage: " in mk.refuses(*args, text=FILE)


def test_wrong_masquerade(mk):
    said = mk.refuses(text=FILE.replace("true", "maybe"))
    assert str(mk.file) in said and "FLANNEL_IPMASQ is 'maybe'" in said
    assert mk.makes("-m", text=FILE.replace("true", "maybe")) == BIP + MTU + combined(BARE)


WRONG = [
    *(f"FLANNEL_SUBNET={value}" for value in (
        "garbage", "10.5.52.1", "10.5.52.1/", "10.5.52.1/33", "10.5.52/24", "10.5.52.1.1/24",
        "10.5.256.1/24", "10.5.052.1/24", "10.5..1/24", "10.5.52.1/24/24", "fc00::1/64",
        "'10.5.52.1/24 '", ".5.52.1/24", "10.5.52./24",
    )),
    "FLANNEL_MTU=x", "FLANNEL_MTU=-1", "FLANNEL_MTU=1450.5", "FLANNEL_MTU=99999999999999999999",
]


def test_wrong_values(mk):
    """Flannel's script hands them on; here the file and the value are named."""
    for line in WRONG:
        said = mk.refuses(text=FILE + line)
        name, value = line.split("=")
        value = value.strip("'")
        assert f"{mk.file}: {name} is '{value}'" in said


def test_wrong_key(mk):
    for key in ("", "A-B", "1A", "$(id)", "A B"):
        assert f"'{key}'" in mk.refuses("-k", key, text=FILE)


def test_paths_with_blanks_and_without_slash(mk):
    mk.file = mk.dir / "my subnet.env"
    assert mk.makes("-c", text=FILE) == combined(OURS)
    (mk.dir / "here").write_text(FILE.replace("52.1", "53.1"))
    done = mk("-c", "-f", "here", "-d", "there file")
    assert (done.returncode, done.stderr) == (0, "")
    assert (mk.dir / "there file").read_text() == combined(OURS.replace("52.1", "53.1"))


def test_output_is_replaced_as_a_whole(mk):
    """Who has the old file open reads the old text to its end; nothing else stays behind."""
    os.chmod(mk.out, 0o600)
    with open(mk.out, encoding="ascii") as old:
        mk.makes(text=FILE)
        assert old.read() == "before\n"
    assert mk.out.stat().st_mode & 0o7777 == 0o644
    assert sorted(mk.dir.glob("docker*")) == [mk.out]


def test_output_cannot_be_written(mk):
    missing = mk.dir / "missing" / "out.env"
    done = mk(text=FILE, out=missing)
    assert done.returncode == 1
    assert f"cannot write {missing}" in done.stderr


def test_output_that_is_no_plain_file(mk):
    done = mk("-c", text=FILE, out="/dev/stdout")
    assert (done.returncode, done.stdout) == (0, combined(OURS))
    assert stat.S_ISLNK(os.lstat("/dev/stdout").st_mode)
    link = mk.dir / "link"
    link.symlink_to(mk.out)
    assert mk.makes("-c", out=link) == combined(OURS)
    assert link.is_symlink()


@pytest.mark.parametrize("read_only", [False, True])
def test_output_that_is_mounted_alone(mk, read_only):
    """As into a container: it cannot be replaced, and maybe nothing put beside it."""
    place = mk.dir / "place"
    place.mkdir()
    (place / "out").touch()
    script = (f"mount --bind {place} {place} && mount --bind '{mk.out}' {place}/out && "
              + (f"mount -o remount,bind,ro {place} && " if read_only else "") + 'exec "$@"')
    mk.shell = ["unshare", "-m", "sh", "-c", script, "sh",
                *[shutil.which(mk.shell[0], path=mk.path), *mk.shell[1:]]]
    mk.file.write_text(FILE)
    done = subprocess.run(mk.argv("-c", out=place / "out"), capture_output=True, text=True,
                          check=False, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
    assert mk.out.read_text() == combined(OURS)
    assert [p.name for p in place.iterdir()] == ["out"]


def test_ended_while_it_writes(mk):
    """SIGTERM leaves the old file and no other."""
    if mk.within_busybox:
        pytest.skip("busybox runs its own chmod, whatever PATH says")
    tools = mk.dir / "tools"
    tools.mkdir()
    (tools / "chmod").write_text('#!/bin/sh\nkill -TERM $PPID\nread -r x <"$FIFO"\n')
    os.chmod(tools / "chmod", 0o755)
    os.mkfifo(mk.dir / "fifo")
    mk.file.write_text(FILE)
    with subprocess.Popen(
        mk.argv(), env={"PATH": f"{tools}:{mk.path}", "FIFO": str(mk.dir / "fifo")},
        stderr=subprocess.DEVNULL,
    ) as process:
        with open(mk.dir / "fifo", "w", encoding="ascii"):
            pass  # opens only once the script has been told to end
        assert process.wait(20) in (1, -signal.SIGTERM)
    assert mk.out.read_text() == "before\n"
    assert sorted(mk.dir.glob("docker*")) == [mk.out]


VIA = "via 192.0.2.2"


@pytest.mark.parametrize("subnet,route,taken", [
    ("10.5.52.1/24", f"10.5.52.0/24 {VIA}", True),
    ("10.5.52.9/24", f"10.5.52.0/24 {VIA}", True),
    ("10.5.52.129/25", f"10.5.52.128/25 {VIA}", True),
    ("10.5.48.1/20", f"10.5.48.0/20 {VIA}", True),
    ("10.7.255.1/13", f"10.0.0.0/13 {VIA}", True),
    ("10.5.52.9/30", f"10.5.52.8/30 {VIA}", True),
    ("10.5.52.1/32", f"10.5.52.1 {VIA}", True),
    ("10.5.52.1/24", f"10.5.52.0/24 {VIA} metric 7", True),
    ("10.5.52.1/24", "10.5.52.0/24 dev d0", False),
    ("10.5.52.1/24", "blackhole 10.5.52.0/24", False),
    ("10.5.52.1/24", f"10.5.0.0/16 {VIA}", False),
    ("10.5.52.1/24", f"10.5.52.0/25 {VIA}", False),
    ("10.5.52.1/24", f"110.5.52.0/24 {VIA}", False),
    ("10.5.52.1/2", f"10.5.52.0/24 {VIA}", False),
    ("10.5.52.1/24", f"default {VIA}", False),
])
def test_subnet_that_is_routed_to_another_host(mk, subnet, route, taken):
    """The file is written all the same, as flannel's script does it."""
    nic("d0", "192.0.2.1/24")
    run(f"ip route add {route}")
    done = mk("-c", text=FILE.replace("10.5.52.1/24", subnet))
    assert mk.out.read_text() == combined(OURS.replace("10.5.52.1/24", subnet))
    assert done.returncode == (1 if taken else 0), done.stderr
    if taken:
        assert f"{route.split()[0]} " in done.stderr and "192.0.2.2" in done.stderr
    else:
        assert done.stderr == ""


def test_subnet_that_is_routed_to_several(mk):
    if mk.within_busybox:
        pytest.skip("ip of busybox shows no next hops")
    nic("d0", "192.0.2.1/24")
    run("ip route add 10.5.52.0/24 nexthop via 192.0.2.2 nexthop via 192.0.2.3")
    done = mk(text=FILE)
    assert done.returncode == 1
    assert "10.5.52.0/24 via 192.0.2.2" in done.stderr


def test_without_ip(mk):
    tools = mk.dir / "tools"
    tools.mkdir()
    for name in APPLETS:
        if name not in ("ip", "sh"):
            os.symlink(shutil.which(name, path=mk.path), tools / name)
    mk.shell[0] = shutil.which(mk.shell[0], path=mk.path)
    mk.path = str(tools)
    assert mk.makes("-c", text=FILE) == combined(OURS)
