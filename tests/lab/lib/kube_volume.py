# SPDX-License-Identifier: Apache-2.0
"""kube_volume.py - files as the kubelet lays them out in a pod"""

import contextlib
import os
import secrets


def replace_file(path, text):
    """As a whole."""
    with open(path + ".new", "w", encoding="utf-8") as f:
        f.write(text)
    os.rename(path + ".new", path)


def mount_files(directory, files):
    """{name: text} as the kubelet lays out a volume: names that point into ..data, which is
    swapped as a whole."""
    os.makedirs(directory, exist_ok=True)
    real = os.path.join(directory, f"..{secrets.token_hex(6)}")
    os.makedirs(real)
    for name, text in files.items():
        with open(os.path.join(real, name), "w", encoding="utf-8") as f:
            f.write(text)
        with contextlib.suppress(FileExistsError):
            os.symlink(f"..data/{name}", os.path.join(directory, name))
    data = os.path.join(directory, "..data")
    old = os.readlink(data) if os.path.islink(data) else None
    os.symlink(os.path.basename(real), data + "_tmp")
    os.rename(data + "_tmp", data)
    if old:
        old = os.path.join(directory, old)
        for name in os.listdir(old):
            os.unlink(os.path.join(old, name))
        os.rmdir(old)


_IN_POD = """
mount -t tmpfs pod /run
mkdir -p /run/secrets/kubernetes.io/serviceaccount
mount --bind "$1" /run/secrets/kubernetes.io/serviceaccount
shift
exec "$@"
"""


def in_pod(account):
    """What goes before a program that is to find this service account where a pod does."""
    return "unshare", "-m", "sh", "-ec", _IN_POD, "pod", account
