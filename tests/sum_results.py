#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""sum_results.py DIRECTORY - the sum over the suites of one ./dev test

For each suite DIRECTORY holds NAME.rc, the exit code of its runner, and NAME.xml, what it
ran, as JUnit (meson and pytest both write it). Programs that failed without a failed test
of theirs (they crashed, leaked, hung) are in meson's NAME.json, one object per line. A
runner that failed, with nothing in either, counts as one failure.
"""

import json
import os
import sys
import xml.etree.ElementTree as ElementTree


def outcome(case):
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "skipped" if case.find("skipped") is not None else "passed"


def read_cases(path):
    """[(name, outcome, message)]; a file that is missing or cut short has none. An unsteady one
    (second_look.py) has passed, with a message."""
    try:
        tree = ElementTree.parse(path)
    except (OSError, ElementTree.ParseError):
        return []
    cases = {}
    for case in tree.iter("testcase"):
        name = ".".join(filter(None, (case.get("classname"), case.get("name"))))
        skipped = case.find("skipped")
        message = skipped.get("message") if skipped is not None else case.get("unsteady")
        # pytest lists a test twice when its clean-up failed too.
        if cases.get(name, ("passed",))[0] != "failed":
            cases[name] = (outcome(case), message or "")
    return [(name, *rest) for name, rest in cases.items()]


def broken_programs(path, cases):
    """Of meson's log: the programs that failed though all that they told passed."""
    try:
        with open(path, encoding="utf-8") as f:
            programs = [json.loads(line) for line in f]
    except OSError:
        return
    failed = [name for name, result, _ in cases if result == "failed"]
    for program in programs:
        name = program["name"].split(" / ")[-1]
        if program["result"] in ("FAIL", "ERROR", "TIMEOUT", "INTERRUPT") and not any(
            name in other for other in failed
        ):
            yield (name, "failed", program["result"].lower())


def main():
    directory = sys.argv[1]
    total = {"passed": 0, "failed": 0, "skipped": 0}
    for entry in sorted(os.listdir(directory)):
        suite, ext = os.path.splitext(entry)
        if ext != ".rc":
            continue
        with open(os.path.join(directory, entry), encoding="ascii") as f:
            code = int(f.read())
        cases = read_cases(os.path.join(directory, suite + ".xml"))
        cases += broken_programs(os.path.join(directory, suite + ".json"), cases)
        if code != 0 and not any(result == "failed" for _, result, _ in cases):
            cases.append((f"the suite itself (exit code {code})", "failed", ""))
        count = {"passed": 0, "failed": 0, "skipped": 0}
        for name, result, message in cases:
            count[result] += 1
            total[result] += 1
            if result != "passed" or message:
                word = "unsteady" if result == "passed" else result
                print(f"  {word}: {suite}: {name}{': ' if message else ''}{message}")
        print(f"{suite:<14}" + ", ".join(f"{n:4} {result}" for result, n in count.items()))
    print(", ".join(f"{n} {result}" for result, n in total.items()))
    return 1 if total["failed"] or not total["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
