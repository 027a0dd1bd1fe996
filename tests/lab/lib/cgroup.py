# SPDX-License-Identifier: Apache-2.0
"""cgroup.py - removing control groups, which no namespace takes along when it goes"""

import contextlib
import glob
import os

from .expect import wait_until


def remove(pattern):
    """Removes the cgroups of this name in all hierarchies. Their processes were killed, but
    a cgroup is in use until the last of them has been waited for."""
    wait_until(lambda: not _remaining(pattern), what=f"no cgroup {pattern}")


def _remaining(pattern):
    tops = glob.glob(f"/sys/fs/cgroup/{pattern}") + glob.glob(f"/sys/fs/cgroup/*/{pattern}")
    for top in tops:
        for directory, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)
    return [top for top in tops if os.path.isdir(top)]
