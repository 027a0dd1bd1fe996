# SPDX-License-Identifier: Apache-2.0
"""shim.py - what a test slips under flanneld: other clocks, a poorer kernel"""

import mmap
import os
import struct
import subprocess

_SOURCES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "shim")


def build(lab, name):
    """Compiles shim/NAME.c once per run; its path."""
    path = os.path.join(lab.dir, f"{name}.so")
    if not os.path.exists(path):
        source = os.path.join(_SOURCES, f"{name}.c")
        subprocess.run(["cc", "-O1", "-fPIC", "-shared", "-o", path, source], check=True)
    return path


def no_vxlan(lab):
    """Environment for a flanneld whose kernel has no vxlan."""
    return {"LD_PRELOAD": build(lab, "novxlan")}


class Clock:
    """The clocks of one flanneld: env for its start, then set() at any time."""

    def __init__(self, host):
        path = os.path.join(host.dir, "clock")
        with open(path, "wb") as f:
            f.write(bytes(16))
        with open(path, "r+b") as f:
            self._map = mmap.mmap(f.fileno(), 16)
        self.env = {"LD_PRELOAD": build(host.lab, "clock"), "LAB_CLOCK": path}

    def set(self, wall=0, monotonic=0):
        """Seconds ahead of the machine's clocks."""
        self._map[:] = struct.pack("=qq", wall, monotonic)
