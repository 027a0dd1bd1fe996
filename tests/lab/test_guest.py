# SPDX-License-Identifier: Apache-2.0
"""Tests that need another kernel than this machine's: those of tests/guest/

Each file of them has a guest, which runs those of its tests that were asked for; here each of
them passes or fails by itself.
"""

import ast
import os

import pytest
from lib import expect, guest
from lib.node import ROOT

DIRECTORY = os.path.join(ROOT, "tests", "guest")
# A guest takes one to two minutes. Where others want the processors, too, it takes four.
GUEST_S = 840
pytestmark = pytest.mark.timeout(GUEST_S + 60)


def _all():
    """(file, test function) of all that is there; the files can be imported in a guest only."""
    for name in sorted(os.listdir(DIRECTORY)):
        if name.endswith(".py"):
            with open(os.path.join(DIRECTORY, name), encoding="utf-8") as f:
                tree = ast.parse(f.read())
            for node in tree.body:
                if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                    yield pytest.param(name, node.name, id=f"{name[5:-3]}-{node.name[5:]}")


_outcomes = {}


def _outcome(lab, request, file):
    """Of the guest that runs the file's tests: the first of them starts it."""
    if file not in _outcomes:
        _outcomes[file] = guest.Outcome("", "it was interrupted")
        asked = [item.callspec.params for item in request.session.items
                 if getattr(item, "originalname", "") == test_in_guest.__name__]
        directory = os.path.join(lab.dir, "guest-" + file)
        os.makedirs(directory)
        _outcomes[file] = guest.run_pytest(
            lab, directory,
            [f"{DIRECTORY}/{file}::{a['test']}" for a in asked if a["file"] == file], GUEST_S)
    return _outcomes[file]


@pytest.mark.parametrize("file, test", _all())
def test_in_guest(lab, request, file, test):
    lacking = guest.missing()
    if lacking:
        pytest.skip(f"no guest: this machine has no {lacking}")
    if expect.TIME_FACTOR > 1:
        pytest.skip("no guest for a build with sanitizers: it is slow enough without")
    outcome = _outcome(lab, request, file)
    rows = [name for name in outcome.passed if name.split("[")[0] == test]
    assert rows, f"{test} did not come to an end in the guest:\n{outcome.end()}"
    bad = [name for name in rows if not outcome.passed[name]]
    if bad:
        pytest.fail("\n".join(outcome.story(name) for name in bad), pytrace=False)
