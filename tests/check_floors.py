#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""check_floors.py - a floor of src/ includes only itself and floors below it

Rooms of one floor (model, io, kernel and so on) do not include each other.
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
SRC = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "src")


def faults(path):
    room = os.path.relpath(path, SRC).split(os.sep)[0]
    if room not in LEVEL:
        yield f"{path}: '{room}' is on no floor (see tests/check_floors.py)"
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


def main():
    paths = sorted(p for p in glob.glob(SRC + "/**/*", recursive=True) if p[-2:] in (".c", ".h"))
    found = [fault for path in paths for fault in faults(path)]
    print("\n".join(found) if found else f"{len(paths)} files")
    return 1 if found or not paths else 0


if __name__ == "__main__":
    sys.exit(main())
