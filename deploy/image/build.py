#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""build.py - an OCI image of built programs and the libraries that they need

    deploy/image/build.py --build build --output weft.tar

No registry and no base image: files of this Debian, those that the programs' ELF headers ask
for, and by name those that are opened by dlopen(3). No shell in it. The output is an OCI image
layout in a tar that is also an archive of `docker save`: podman, docker and ctr load it.

The same programs on the same Debian make the same bytes: names are sorted, owners are root,
times are SOURCE_DATE_EPOCH (0 unless given).
"""

import argparse
import functools
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MULTI = {"nft": "xtables-nft-multi", "legacy": "xtables-legacy-multi"}
DLOPENED = ["libssl.so.3", "libcrypto.so.3", "libevent_openssl-2.1.so.7"]
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
PATH = "/opt/bin:/usr/sbin:/usr/bin"
# Mounted over, or written to by somebody who runs the image without Kubernetes.
DIRECTORIES = {"run/flannel": 0o755, "var/lib/flannel": 0o755, "etc/kube-flannel": 0o755,
               "opt/cni/bin": 0o755, "etc/cni/net.d": 0o755, "proc": 0o555, "sys": 0o555,
               "dev": 0o755, "tmp": 0o1777, "usr/bin": 0o755}
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "ppc64le": "ppc64le", "s390x": "s390x",
                 "riscv64": "riscv64", "armv7l": "arm", "i686": "386"}
# With a registry and a tag: what else would be put in is not the same for all who load it.
NAME = re.compile(r"(localhost(:\d+)?|[a-z0-9-]+(\.[a-z0-9-]+)+(:\d+)?|[a-z0-9-]+:\d+)"
                  r"(/[a-z0-9]+([._-]+[a-z0-9]+)*)+:\w[\w.-]{0,127}")


def die(text):
    sys.exit(f"build.py: {text}")


def output_of(*cmd):
    done = subprocess.run(cmd, capture_output=True, text=True, check=False,
                          env={**os.environ, "LC_ALL": "C"})
    if done.returncode:
        die(f"{' '.join(cmd)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


# -- what is in it ---------------------------------------------------------------------

class Tree:
    """The files of the image: path (without a leading slash) to (mode, bytes) or a link."""

    def __init__(self):
        self.files, self.links, self.sources = {}, {}, set()

    def put(self, path, data, mode=0o644):
        self.files[path] = (mode, data)

    def link(self, path, target):
        self.links[path] = target

    def copy(self, source, path=None, mode=0o644):
        """From this system, to the same place, which is never behind a link such as /lib."""
        path = path or merged(source)
        with open(source, "rb") as f:
            self.put(path, f.read(), mode)
        self.sources.add(os.path.realpath(source))

    def directories(self):
        found = dict(DIRECTORIES)
        for path in [*self.files, *self.links, *DIRECTORIES]:
            while "/" in path:
                path = path.rsplit("/", 1)[0]
                found.setdefault(path, 0o755)
        return found


def merged(path):
    """/lib/x as usr/lib/x."""
    path = os.path.normpath(path).lstrip("/")
    return f"usr/{path}" if path.split("/")[0] in ("bin", "sbin", "lib", "lib64") else path


@functools.cache
def library_directory():
    """/usr/lib/x86_64-linux-gnu"""
    return os.path.join("/usr/lib", output_of("gcc", "-print-multiarch").strip())


def needs_of(paths):
    """Names of libraries, and paths of loaders, that the headers of these files ask for."""
    text = output_of("readelf", "--wide", "--dynamic", "--program-headers", *paths)
    return set(re.findall(r"\(NEEDED\).*\[(.+)\]|program interpreter: (.+)\]", text))


def add_libraries_of(tree, *paths):
    """And those that these need in turn."""
    while paths:
        added = []
        for name, loader in sorted(needs_of(paths)):
            source = os.path.join(library_directory(), name or os.path.basename(loader))
            if not os.path.exists(source):
                die(f"{source} is not on this system, but needed by one of {', '.join(paths)}")
            if loader and merged(loader) != merged(source):
                tree.link(merged(loader), source)
            if merged(source) not in tree.files:
                tree.copy(source, mode=0o755)
                added.append(source)
        paths = added


def add_with_libraries(tree, source, path=None):
    tree.copy(source, path, 0o755)
    add_libraries_of(tree, source)


def add_programs(tree, build):
    for name in ("flanneld", "flannel"):
        source = os.path.join(build, name)
        if not os.access(source, os.X_OK):
            die(f"{source} is not there: ./dev build")
        add_with_libraries(tree, source, f"opt/bin/{name}")
        tree.sources.discard(os.path.realpath(source))
        # What gdb wants is a third of it.
        tree.put(f"opt/bin/{name}", stripped(source), 0o755)


def stripped(source):
    with tempfile.NamedTemporaryFile() as copy:
        output_of("strip", "--strip-all", "-o", copy.name, source)
        with open(copy.name, "rb") as f:
            return f.read()


def add_iptables(tree, directory):
    """Both kinds by name; without a kind it is nft, and in /usr/lib/iptables-legacy legacy."""
    for kind, program in MULTI.items():
        source = shutil.which(program, path="/usr/sbin:/sbin")
        if not source:
            die(f"no {program} on this system (Debian: iptables)")
        add_with_libraries(tree, source, f"usr/sbin/{program}")
        for family in ("iptables", "ip6tables"):
            for verb in ("", "-save", "-restore"):
                tree.link(f"usr/sbin/{family}-{kind}{verb}", program)
    for family in ("iptables", "ip6tables"):
        for verb in ("", "-save", "-restore"):
            tree.link(f"usr/sbin/{family}{verb}", MULTI["nft"])
            tree.link(f"usr/lib/iptables-legacy/{family}{verb}",
                      f"/usr/sbin/{MULTI['legacy']}")
    add_extensions(tree, os.path.join(directory, "xtables"))


def add_extensions(tree, directory):
    """All of them: iptables-save has to read the rules of others, too."""
    copied = []
    for name in sorted(os.listdir(directory)):
        source = os.path.join(directory, name)
        if not name.startswith(("libxt_", "libipt_", "libip6t_")):
            continue
        if os.path.islink(source):
            tree.link(merged(source), os.readlink(source))
        else:
            tree.copy(source)
            copied.append(source)
    add_libraries_of(tree, *copied)


def add_system(tree, directory):
    for top in ("bin", "sbin", "lib", "lib64"):
        if top != "lib64" or os.path.isdir("/lib64"):
            tree.link(top, f"usr/{top}")
    for name in DLOPENED:
        source = os.path.join(directory, name)
        if not os.path.exists(source):
            die(f"{source} is not there (Debian: libssl3, libevent-openssl-2.1-7)")
        add_with_libraries(tree, source)
    if not os.path.exists(CERTIFICATES):
        die(f"{CERTIFICATES} is not there (Debian: ca-certificates)")
    tree.copy(CERTIFICATES)
    # OpenSSL's own default.
    tree.link("usr/lib/ssl/cert.pem", CERTIFICATES)
    tree.put("etc/passwd", b"root:x:0:0:root:/:/nonexistent\n")
    tree.put("etc/group", b"root:x:0:\n")
    tree.put("etc/nsswitch.conf", b"hosts: files dns\n")
    tree.copy("/etc/protocols")
    tree.copy("/usr/lib/os-release")
    tree.link("etc/os-release", "../usr/lib/os-release")


def packages_of(sources):
    """dpkg knows some files by the name that they had before /lib became a link."""
    names = [name for s in sources for name in ([s, s[len("/usr"):]] if s.startswith("/usr/")
                                                else [s])]
    known = {}
    text = subprocess.run(["dpkg-query", "-S", *names], stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.DEVNULL, check=False).stdout
    for line in text.splitlines():
        package, _, path = line.rpartition(": ")
        known[f"/{merged(path)}"] = package.split(", ")[0]
    for source in sources:
        if f"/{merged(source)}" not in known:
            die(f"no package has {source}")
    return {known[f"/{merged(source)}"] for source in sources}


def add_origins(tree, version):
    """Licences, and for scanners which packages of which version these are."""
    # The list of certificates is made when its package is installed.
    packages = packages_of(sorted(tree.sources - {CERTIFICATES})) | {"ca-certificates"}
    for package in sorted(packages):
        name = package.split(":")[0]
        tree.put(f"var/lib/dpkg/status.d/{name}", output_of("dpkg-query", "-s", package).encode())
        tree.copy(f"/usr/share/doc/{name}/copyright")
    tree.copy(os.path.join(ROOT, "LICENSE"), "usr/share/doc/weft/copyright")
    tree.put("usr/share/doc/weft/version", f"{version}\n".encode())


def make_tree(build, version):
    tree = Tree()
    directory = library_directory()
    add_programs(tree, build)
    add_iptables(tree, directory)
    add_system(tree, directory)
    add_origins(tree, version)
    return tree


# -- how it is packed ------------------------------------------------------------------

def write_tar(entries, epoch):
    """entries: (path, mode, bytes, None for a directory, or a str for a link)"""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, mode, data in entries:
            info = tarfile.TarInfo(path)
            info.mode, info.mtime = mode, epoch
            info.uname = info.gname = "root"
            if data is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data
            else:
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data) if isinstance(data, bytes) else None)
    return buffer.getvalue()


def layer_of(tree, epoch):
    entries = [(path, mode, None) for path, mode in tree.directories().items()
               if path not in tree.links]
    entries += [(path, 0o777, target) for path, target in tree.links.items()]
    entries += [(path, mode, data) for path, (mode, data) in tree.files.items()]
    return write_tar(sorted(entries, key=lambda entry: entry[0]), epoch)


def to_json(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


class Blobs:
    def __init__(self):
        self.entries = {}

    def add(self, data, media_type):
        digest = hashlib.sha256(data).hexdigest()
        self.entries[f"blobs/sha256/{digest}"] = data
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data)}


def path_of(descriptor):
    return f"blobs/{descriptor['digest'].replace(':', '/')}"


def config_of(diff_id, version, when, architecture):
    return {
        "architecture": architecture, "os": "linux", "created": when,
        "config": {"Entrypoint": ["/opt/bin/flanneld"], "Env": [f"PATH={PATH}"],
                   "WorkingDir": "/", "User": "0",
                   "Labels": {"org.opencontainers.image.title": "weft",
                              "org.opencontainers.image.version": version,
                              "org.opencontainers.image.licenses": "Apache-2.0"}},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": when, "created_by": "deploy/image/build.py"}],
    }


def pack(layer, name, version, epoch):
    """The bytes of the archive."""
    oci, blobs = "application/vnd.oci.image", Blobs()
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch))
    architecture = ARCHITECTURES.get(os.uname().machine)
    if not architecture:
        die(f"no name for architecture {os.uname().machine}")
    packed = blobs.add(gzip.compress(layer, 9, mtime=0), f"{oci}.layer.v1.tar+gzip")
    diff_id = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    config = blobs.add(to_json(config_of(diff_id, version, when, architecture)),
                       f"{oci}.config.v1+json")
    manifest = blobs.add(to_json({
        "schemaVersion": 2, "mediaType": f"{oci}.manifest.v1+json", "config": config,
        "layers": [packed]}), f"{oci}.manifest.v1+json")
    index = {"schemaVersion": 2, "mediaType": f"{oci}.index.v1+json", "manifests": [{
        **manifest, "platform": {"architecture": architecture, "os": "linux"},
        "annotations": {"io.containerd.image.name": name,
                        "org.opencontainers.image.ref.name": name}}]}
    docker = [{"Config": path_of(config), "RepoTags": [name], "Layers": [path_of(packed)]}]
    files = {"oci-layout": to_json({"imageLayoutVersion": "1.0.0"}),
             "index.json": to_json(index), "manifest.json": to_json(docker), **blobs.entries}
    entries = [("blobs", 0o755, None), ("blobs/sha256", 0o755, None)]
    entries += [(path, 0o644, data) for path, data in sorted(files.items())]
    return write_tar(entries, epoch)


def project_version():
    with open(os.path.join(ROOT, "meson.build"), encoding="utf-8") as f:
        return re.search(r"^\tversion: '([^']+)',", f.read(), re.M)[1]


def main():
    parser = argparse.ArgumentParser(description="Makes an OCI image of built programs.")
    parser.add_argument("--build", default=os.path.join(ROOT, "build"),
                        help="where the programs are (build/)")
    parser.add_argument("--output", default="weft.tar", help="the archive (weft.tar)")
    parser.add_argument("--name", default=f"localhost/weft:{project_version()}",
                        help="the image's name, REGISTRY/NAME:TAG (%(default)s)")
    args = parser.parse_args()
    if not NAME.fullmatch(args.name):
        die(f"--name {args.name}: it wants REGISTRY/NAME:TAG, such as registry.example/weft:1 or "
            "localhost/weft:1")
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH") or 0)
    version = project_version()
    archive = pack(layer_of(make_tree(args.build, version), epoch), args.name, version, epoch)
    temporary = f"{args.output}.{os.getpid()}.new"
    with open(temporary, "wb") as f:
        f.write(archive)
    os.replace(temporary, args.output)
    print(f"{args.output}: {args.name}, {len(archive)} bytes")


if __name__ == "__main__":
    main()
