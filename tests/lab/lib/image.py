# SPDX-License-Identifier: Apache-2.0
"""image.py - the image of deploy/image, and what deploy/kube-flannel.yml says of it"""

import os
import subprocess
import sys

import yaml

from . import node

ROOT = node.ROOT
MANIFEST = os.path.join(ROOT, "deploy", "kube-flannel.yml")


def manifest():
    """{kind: object}"""
    with open(MANIFEST, encoding="utf-8") as f:
        return {d["kind"]: d for d in yaml.safe_load_all(f) if d}


def pod():
    return manifest()["DaemonSet"]["spec"]["template"]["spec"]


# That the name which build.py gives by itself is this one is what test_layout looks at.
NAME, = {c["image"] for c in pod()["initContainers"] + pod()["containers"]}
VERSION = NAME.rpartition(":")[2]


def build(output, directory=os.path.dirname(node.FLANNELD), umask=0o022):
    """The archive's bytes."""
    subprocess.run([sys.executable, f"{ROOT}/deploy/image/build.py", "--build", directory,
                    "--output", output],
                   check=True, timeout=120, stdout=subprocess.DEVNULL, umask=umask,
                   env={"PATH": os.environ["PATH"]})
    with open(output, "rb") as f:
        return f.read()
