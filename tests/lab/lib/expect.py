# SPDX-License-Identifier: Apache-2.0
"""expect.py - waiting for a state, and comparing what is with what should be

A lab test never sleeps: it says what must become true and how long that may take.
This module is the only place where the lab lets time pass.
"""

import time

# Sanitizers make the daemon several times slower; conftest.py raises this for them.
TIME_FACTOR = 1.0


class Timeout(AssertionError):
    """What was waited for did not come."""


def wait_until(fn, timeout=5.0, what=None):
    """Calls fn until it returns something true, and returns that.

    An AssertionError or a lookup error of fn means "not yet". At the end of timeout
    (seconds) the last of them, or the last value, is in the Timeout's text.
    """
    deadline = time.monotonic() + timeout * TIME_FACTOR
    pause = 0.001
    while True:
        late = time.monotonic() >= deadline
        try:
            value = fn()
            if value:
                return value
            last = f"last value: {value!r}"
        except (AssertionError, LookupError, OSError, ValueError) as e:
            last = f"{type(e).__name__}: {e}"
        if late:
            raise Timeout(f"{what or 'state'} not reached within {timeout} s; {last}")
        time.sleep(pause)
        pause = min(pause * 1.4, 0.05)


def wait_equal(fn, want, timeout=5.0, what=None):
    """Waits until fn() == want; a Timeout shows the difference."""

    def check():
        got = fn()
        assert got == want, "\n" + "\n".join(diff(got, want) or [f"got {got!r}, want {want!r}"])
        return True

    return wait_until(check, timeout, what)


def stays(fn, seconds, what=None):
    """Asserts that fn() is true now and for the next seconds: for what must not happen."""
    deadline = time.monotonic() + seconds
    while True:
        late = time.monotonic() >= deadline
        assert fn(), f"{what or 'state'} did not last"
        if late:
            return
        time.sleep(0.01)


def let_pass(seconds):
    """Lets a real period go by, where the period itself is what is tested."""
    time.sleep(seconds)


def diff(got, want, path="$"):
    """Both ways: every path where got and want differ, one line each."""
    if isinstance(got, dict) and isinstance(want, dict):
        lines = []
        for key in sorted(set(got) | set(want), key=str):
            if key not in got:
                lines.append(f"{path}.{key}: missing, want {want[key]!r}")
            elif key not in want:
                lines.append(f"{path}.{key}: not wanted, got {got[key]!r}")
            else:
                lines += diff(got[key], want[key], f"{path}.{key}")
        return lines
    if isinstance(got, list) and isinstance(want, list):
        lines = [f"{path}[]: missing {w!r}" for w in want if w not in got]
        lines += [f"{path}[]: not wanted {g!r}" for g in got if g not in want]
        if not lines and got != want:
            lines = [f"{path}: same members, other order or number: {got!r}"]
        return lines
    return [] if got == want else [f"{path}: got {got!r}, want {want!r}"]


def subset_diff(got, want, path="$"):
    """Where got lacks something of want. Members that want does not name are free;
    each member of a wanted list must match some member of the list that is there."""
    if isinstance(want, dict):
        if not isinstance(got, dict):
            return [f"{path}: got {got!r}, want an object"]
        lines = []
        for key, value in want.items():
            if key not in got:
                lines.append(f"{path}.{key}: missing, want {value!r}")
            else:
                lines += subset_diff(got[key], value, f"{path}.{key}")
        return lines
    if isinstance(want, list):
        if not isinstance(got, list):
            return [f"{path}: got {got!r}, want a list"]
        return [
            f"{path}[]: nothing there matches {w!r}; there is {got!r}"
            for w in want
            if all(subset_diff(g, w) for g in got)
        ]
    return [] if got == want else [f"{path}: got {got!r}, want {want!r}"]


def assert_subset(got, want):
    lines = subset_diff(got, want)
    assert not lines, "\n" + "\n".join(lines)
