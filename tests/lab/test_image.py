# SPDX-License-Identifier: Apache-2.0
"""The image (deploy/image): what is in it, who can load it, and its iptables with no more rights
than deploy/kube-flannel.yml gives. Two nodes with it are in test_manifest.py.
"""

import gzip
import hashlib
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile

import pytest

from lib import cni, node
from lib.containerd import Containerd
from lib.docker import Docker, Xtables
from lib.podman import Podman

pytest.importorskip("yaml", reason="no python3-yaml on this machine")

from lib import image  # noqa: E402
from lib.image import NAME, VERSION, build  # noqa: E402
from lib.kubelet import rights  # noqa: E402

LIMIT = 25_000_000


@pytest.fixture(name="archive", scope="module")
def _archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "weft.tar"
    build(path)
    return str(path)


@pytest.fixture(name="blobs", scope="module")
def _blobs(archive):
    """{name in the archive: bytes}"""
    with tarfile.open(archive) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}


def blob(blobs, descriptor):
    data = blobs["blobs/" + descriptor["digest"].replace(":", "/")]
    assert len(data) == descriptor["size"]
    return data


@pytest.fixture(name="root", scope="module")
def _root(blobs, tmp_path_factory):
    """The image's files, unpacked."""
    manifest = json.loads(blob(blobs, json.loads(blobs["index.json"])["manifests"][0]))
    layer, = manifest["layers"]
    path = tmp_path_factory.mktemp("root")
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(blob(blobs, layer)))) as tar:
        tar.extractall(path)
    return path


# -- the archive -----------------------------------------------------------------------

def test_layout(blobs):
    for path, data in blobs.items():
        if path.startswith("blobs/"):
            assert path == f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"
    assert json.loads(blobs["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    about, = json.loads(blobs["index.json"])["manifests"]
    manifest = json.loads(blob(blobs, about))
    config = json.loads(blob(blobs, manifest["config"]))
    layer, = manifest["layers"]
    diff = hashlib.sha256(gzip.decompress(blob(blobs, layer))).hexdigest()
    assert config["rootfs"] == {"type": "layers", "diff_ids": [f"sha256:{diff}"]}
    assert config["config"]["Entrypoint"] == ["/opt/bin/flanneld"]
    assert about["annotations"]["org.opencontainers.image.ref.name"] == NAME
    # As `docker load` of a Docker older than 25 reads it: the same blobs.
    old, = json.loads(blobs["manifest.json"])
    assert old["RepoTags"] == [NAME]
    assert [blobs[p] for p in [old["Config"], *old["Layers"]]] == [
        blob(blobs, manifest["config"]), blob(blobs, layer)]


def test_size(archive, root):
    with open(f"{root}/opt/bin/flanneld", "rb") as f:
        if b"__asan_init" in f.read():
            pytest.skip("a build with sanitizers is larger, and ships nowhere")
    unpacked = sum(os.lstat(os.path.join(d, f)).st_size for d, _, files in os.walk(root)
                   for f in files)
    assert os.path.getsize(archive) < unpacked < LIMIT, (os.path.getsize(archive), unpacked)


def test_same_bytes(archive, tmp_path):
    """Neither umask nor times nor the place of the programs are in it."""
    for name in ("flanneld", "flannel"):
        shutil.copyfile(os.path.join(os.path.dirname(node.FLANNELD), name), tmp_path / name)
        os.chmod(tmp_path / name, 0o700)
        os.utime(tmp_path / name, (1, 1))
    with open(archive, "rb") as f:
        assert build(tmp_path / "again.tar", tmp_path, 0o077) == f.read()


@pytest.mark.parametrize("name, taken", [
    ("registry.example/net/weft:1.0", True), ("registry:5000/weft:1", True),
    ("localhost/a/b/weft:latest", True), ("weft:1", False), ("net/weft:1", False),
    ("registry.example/weft", False), ("registry.example/Weft:1", False),
    ("registry:5000/weft:", False),
])
def test_names_that_mean_one_image_to_all(tmp_path, name, taken):
    """ctr takes weft:1 as it is, where the kubelet looks for docker.io/library/weft:1."""
    done = subprocess.run(
        [sys.executable, f"{image.ROOT}/deploy/image/build.py", "--name", name, "--build",
         "/nowhere", "--output", tmp_path / "x.tar"], capture_output=True, text=True, check=False,
        timeout=60)
    assert done.returncode == 1
    assert ("/nowhere/flanneld is not there" if taken else f"--name {name}:") in done.stderr


# -- what is in it ---------------------------------------------------------------------

def files_of(root):
    for directory, _, names in os.walk(root):
        for name in names:
            path = os.path.join(directory, name)
            yield "/" + os.path.relpath(path, root), os.lstat(path)


def test_no_shell_and_nothing_to_become_root_with(root):
    programs = {os.path.basename(path) for path, st in files_of(root)
                if st.st_mode & 0o111 and stat.S_ISREG(st.st_mode) and ".so" not in path}
    assert programs == {"flanneld", "flannel", "xtables-nft-multi", "xtables-legacy-multi"}
    assert not [path for path, st in files_of(root)
                if stat.S_ISREG(st.st_mode) and st.st_mode & 0o7022]


def test_links_lead_somewhere(root):
    for path, st in files_of(root):
        if stat.S_ISLNK(st.st_mode):
            target = os.readlink(f"{root}{path}")
            target = os.path.normpath(os.path.join(os.path.dirname(path), target))
            assert os.path.exists(f"{root}{target}"), path


def elf_files(root):
    for path, st in files_of(root):
        if stat.S_ISREG(st.st_mode):
            with open(f"{root}{path}", "rb") as f:
                if f.read(4) == b"\x7fELF":
                    yield path


def test_every_library_is_there(root):
    """As the image's own loader sees it."""
    loader, = [p for p in elf_files(root) if os.path.basename(p).startswith("ld-linux")]
    listed = 0
    for path in elf_files(root):
        done = subprocess.run(["chroot", root, loader, "--list", path], capture_output=True,
                              text=True, check=False, timeout=30)
        if path == loader or "statically linked" in done.stdout + done.stderr:
            continue
        assert done.returncode == 0 and "not found" not in done.stdout, (path, done)
        listed += 1
    assert listed > 50, "no files were looked at"
    for name in ("libssl.so.3", "libcrypto.so.3", "libevent_openssl-2.1.so.7"):
        assert [p for p in elf_files(root) if os.path.basename(p) == name], name


def test_certificates(root):
    with open(f"{root}/etc/ssl/certs/ca-certificates.crt", encoding="ascii") as f:
        assert f.read().count("BEGIN CERTIFICATE") > 50
    assert os.readlink(f"{root}/usr/lib/ssl/cert.pem") == "/etc/ssl/certs/ca-certificates.crt"


def test_origins(root):
    packages = os.listdir(f"{root}/var/lib/dpkg/status.d")
    assert {"libc6", "libssl3", "iptables", "libnftables1", "ca-certificates"} <= set(packages)
    for name in [*packages, "weft"]:
        assert os.path.getsize(f"{root}/usr/share/doc/{name}/copyright"), name


# -- who loads it ----------------------------------------------------------------------

@pytest.fixture(name="machine", scope="module")
def _machine(topo_of):
    topo = topo_of(1)
    machine = cni.Machine.of(next(iter(topo)))
    yield machine
    machine.close()
    topo.close()


def says_version(text):
    assert f"weft {VERSION}" in text, text


@pytest.mark.needs("docker")
def test_docker_loads_it(machine, archive):
    docker = Docker(machine.host, Xtables(machine.lab, "nft"))
    try:
        docker.start("--iptables=false --bridge=none")
        assert NAME in docker.cli("load", "-i", archive)
        says_version(docker.cli("run", "--rm", "--network=none", NAME, "--version"))
    finally:
        docker.close()


@pytest.mark.needs("containerd")
def test_containerd_loads_it(machine, archive):
    containerd = Containerd(machine, "10-flannel.conf", {})
    try:
        containerd.start()
        containerd.ctr("image", "import", "--snapshotter=native", archive)
        assert containerd.ctr("image", "ls", "-q").split() == [NAME]
        says_version(containerd.ctr(
            "run", "--rm", "--snapshotter=native", f"--cgroup=/{containerd.cgroup}/v", NAME, "v",
            "/opt/bin/flanneld", "--version"))
    finally:
        containerd.close()


# -- with the rights of the manifest ---------------------------------------------------

@pytest.fixture(name="podman", scope="module")
def _podman(machine, archive):
    podman = Podman(machine)
    podman.cli("load", "-i", archive)
    yield podman
    podman.close()


podman_here = pytest.mark.needs("podman")


@podman_here
def test_podman_loads_it(podman):
    assert NAME in podman.cli("images", "--format={{.Repository}}:{{.Tag}}").split()
    says_version(podman.cli("run", "--rm", "--network=none",
                            f"--cgroup-parent=/{podman.cgroup}", NAME, "--version"))
    with pytest.raises(RuntimeError, match="(?i)no such file|not found"):
        podman.cli("run", "--rm", "--network=none", f"--cgroup-parent=/{podman.cgroup}",
                   "--entrypoint=sh", NAME, "-c", "true")


RULES = """*nat
:FLANNEL-TEST - [0:0]
-A FLANNEL-TEST -s 10.5.0.0/16 -m comment --comment "a b" -m mark --mark 0x4000/0x4000 -j RETURN
-A FLANNEL-TEST -m conntrack --ctstate NEW -j MASQUERADE --random-fully
COMMIT
"""


@podman_here
@pytest.mark.needs("iptables")
@pytest.mark.parametrize("path, kind", [
    (None, "nft"), ("/usr/lib/iptables-legacy:/opt/bin:/usr/sbin", "legacy"),
])
@pytest.mark.parametrize("family", ["iptables", "ip6tables"])
def test_iptables(podman, path, kind, family):
    """By name, and as PATH has it; rules that one has put there the other kind has not."""
    daemon, = image.pod()["containers"]
    rules = RULES if family == "iptables" else RULES.replace("10.5.0.0/16", "fd00::/48")

    def tool(name, *args, **kwargs):
        return podman.cli("run", "--rm", "-i", "--network=host",
                          f"--cgroup-parent=/{podman.cgroup}", *rights(daemon),
                          *([f"--env=PATH={path}"] if path else []),
                          "--volume=/run/lock:/run", f"--entrypoint={name}", NAME, *args, **kwargs)

    podman.inner.run("mkdir", "-p", "/run/lock")
    assert kind.replace("nft", "nf_tables") in tool(f"{family}-restore", "--version")
    tool(f"{family}-restore", "--noflush", "-w", input=rules.encode())
    wanted = [line for line in rules.splitlines() if line.startswith("-A")]
    for name in (f"{family}-save", f"{family}-{kind}-save"):
        assert [s for s in tool(name, "-t", "nat").splitlines() if "-A FLANNEL-TEST" in s] == wanted
    other = {"nft": "legacy", "legacy": "nft"}[kind]
    assert "FLANNEL-TEST" not in tool(f"{family}-{other}-save", "-t", "nat")
    tool(f"{family}-restore", "--noflush",
         input=b"*nat\n-F FLANNEL-TEST\n-X FLANNEL-TEST\nCOMMIT\n")
