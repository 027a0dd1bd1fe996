# SPDX-License-Identifier: Apache-2.0
"""conftest.py - each platform test runs in a network namespace of its own

The process enters a fresh namespace before each test and goes home after it, so that
`ip`, `nft` and netlink sockets all mean that namespace, and the kernel removes it with
all that a test has made.
"""

import ctypes
import os

import pytest

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result, what):
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


@pytest.fixture(autouse=True)
def namespace():
    with open("/proc/thread-self/ns/net", "rb") as home:
        _check(_libc.unshare(CLONE_NEWNET), "unshare(CLONE_NEWNET)")
        try:
            yield
        finally:
            _check(_libc.setns(home.fileno(), CLONE_NEWNET), "setns")
