#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""check_tree.py - two things about the tree that no compiler checks

A floor of src/ includes only itself and floors below it; rooms of one floor (model, io,
kernel) do not include each other. And no C file is forgotten by its meson.build: a test
that is not listed never fails.
"""

import glob
import os
import re
import sys

FLOORS = [
    ["base"],
    ["net"],
    ["model", "io", "kernel"],
    ["store", "reconcile", "rules"],
    ["backend"],
    ["daemon", "cni", "ctl"],
]
LEVEL = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
SRC = os.path.join(ROOT, "src")


def include_faults(path):
    room = os.path.relpath(path, SRC).split(os.sep)[0]
    if room not in LEVEL:
        yield f"{path}: '{room}' is on no floor (see tests/check_tree.py)"
        return
    with open(path, encoding="utf-8") as f:
        for n, line in enumerate(f, 1):
            match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if not match:
                continue
            target = match[1].split("/")[0]
            if target not in LEVEL:
                yield f"{path}:{n}: \"{match[1]}\" is not relative to src/"
            elif target != room and LEVEL[target] >= LEVEL[room]:
                yield f"{path}:{n}: {room} may not include {match[1]}"


def read(*path):
    with open(os.path.join(ROOT, *path), encoding="utf-8") as f:
        return f.read()


def list_faults():
    listed = set(re.findall(r"'([\w/]+\.c)'", read("src", "meson.build")))
    listed |= {name[4:] for name in re.findall(r"'(src/[\w/]+\.c)'", read("meson.build"))}
    for path in glob.glob(SRC + "/**/*.c", recursive=True):
        if os.path.relpath(path, SRC) not in listed:
            yield f"{path}: not in src/meson.build"
    for kind, prefix in (("unit", "test_"), ("fuzz", "fuzz_")):
        listed = set(re.findall(r"^\t'(\w+)',", read("tests", kind, "meson.build"), re.M))
        for path in glob.glob(f"{ROOT}/tests/{kind}/{prefix}*.c"):
            if os.path.basename(path)[len(prefix):-2] not in listed:
                yield f"{path}: not in tests/{kind}/meson.build"


def main():
    paths = sorted(p for p in glob.glob(SRC + "/**/*", recursive=True) if p[-2:] in (".c", ".h"))
    found = [fault for path in paths for fault in include_faults(path)] + sorted(list_faults())
    print("\n".join(found) if found else f"{len(paths)} files")
    return 1 if found or not paths else 0


if __name__ == "__main__":
    sys.exit(main())
