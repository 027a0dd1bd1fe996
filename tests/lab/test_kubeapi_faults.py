# SPDX-License-Identifier: Apache-2.0
"""The faults of the lab's fake API server of Kubernetes: each does what it says, so often as
it was ordered and to those requests alone."""

import contextlib
import json
import os
import socket
import ssl

import pytest

from lib.expect import wait_until
from lib.kube_client import NODES, Stream, get, is_status, watch
from lib.kubeapi import PARTIAL

pytestmark = pytest.mark.needs("etcd")  # its openssl


@pytest.fixture(scope="module")
def kube(topo_of):
    return topo_of(1).kube()


@pytest.fixture(autouse=True)
def clean(kube):
    yield
    kube.end_faults()
    for name in kube.nodes():
        kube.delete_node(name)


@pytest.fixture
def stream(kube):
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(contextlib.closing(Stream(kube)))


@pytest.mark.parametrize("code,reason", [
    (401, "Unauthorized"), (404, "NotFound"), (409, "Conflict"), (410, "Expired"),
    (500, "InternalError"), (503, "ServiceUnavailable")])
def test_fault_status(kube, code, reason):
    number = kube.fault("status", code=code, times=2, verb="list")
    for _ in range(2):
        is_status(get(kube, NODES), code, reason)
    assert get(kube, NODES)[0] == 200
    assert kube.fault_used(number) == 2


def test_a_fault_is_for_some_requests_only(kube, stream):
    kube.add_nodes([{"name": f"n{i}", "small": True} for i in range(2)])
    kube.fault("status", times=None, code=500, verb="get", name="n1")
    kube.fault("status", times=None, code=503, watch=True)
    assert [get(kube, f"{NODES}/n{i}")[0] for i in range(2)] == [200, 500]
    assert get(kube, NODES)[0] == 200
    is_status(get(kube, f"{NODES}?watch=1"), 503, "ServiceUnavailable")
    kube.end_faults()
    assert get(kube, f"{NODES}/n1")[0] == 200


def test_fault_429(kube):
    kube.fault("status", code=429)
    status, headers, body = kube.request("GET", NODES)
    assert (status, headers["Retry-After"]) == (429, "1")
    assert headers["Content-Type"].startswith("text/plain")
    assert body == b"Too many requests, please try again later.\n"


def test_fault_split(kube, stream):
    kube.add_node("n1")
    want = kube.node("n1")
    for sizes in (1, [3, 7], 1000):
        kube.fault("split", sizes=sizes)
        s = stream().ask("GET", f"{NODES}/n1")
        assert s.head()[0] == 200
        assert json.loads(s.chunk()) == want
        assert s.chunk() == b""
    # Each piece is a TLS record of its own, and so a read of its own.
    kube.fault("split", sizes=10)
    s = stream().ask("GET", f"{NODES}/n1")
    assert [len(s.sock.recv(65536)) for _ in range(5)] == [10] * 5


def test_fault_cut(kube, stream):
    kube.add_node("n1")
    kube.fault("cut", after=100)
    s = stream().ask("GET", f"{NODES}/n1")
    s.head()
    while s.more():
        pass
    assert len(s.data) == 100
    kube.fault("reset")
    with pytest.raises((ConnectionResetError, ssl.SSLError, AssertionError)):
        stream().ask("GET", f"{NODES}/n1").head()
    assert stream().ask("GET", f"{NODES}/n1").head()[0] == 200


def test_fault_silent_and_slow(kube, stream):
    number = kube.fault("silent")
    s = stream().ask("GET", NODES)
    wait_until(lambda: kube.fault_used(number))  # by this request, not by the next
    s.sock.settimeout(0.2)
    with pytest.raises(TimeoutError):
        s.more()
    kube.fault("slow", seconds=0.1)
    get(kube, NODES)
    # The answer is here before its end is noted there.
    seen = wait_until(lambda: [r for r in kube.requests(verb="list")[-1:] if r.ended])[0]
    assert seen.ended - seen.at >= 0.1


def test_faults_of_content(kube):
    kube.add_node("n1", small=True)
    kube.fault("content_type", value="application/yaml")
    assert kube.request("GET", NODES)[1]["Content-Type"] == "application/yaml"
    kube.fault("full")
    assert get(kube, f"{NODES}/n1", Accept=PARTIAL)[1]["kind"] == "Node"
    kube.fault("body", text="{no json")
    assert kube.request("GET", NODES)[2] == b"{no json"


def test_faults_of_running_watches(kube, stream):
    kube.add_nodes([{"name": f"n{i}", "small": True} for i in range(3)])
    s = watch(stream, kube.rv())
    kube.fault("duplicate")
    kube.annotate("n0", {"a/b": "1"})
    assert s.event() == s.event()
    kube.fault("reorder")
    kube.annotate("n0", {"a/b": "2"})
    kube.annotate("n1", {"a/b": "2"})
    assert [s.event()[1]["metadata"]["name"] for _ in range(2)] == ["n1", "n0"]
    number = kube.fault("mute", times=None)
    kube.annotate("n2", {"a/b": "3"})
    s.sock.settimeout(0.1)
    with pytest.raises(TimeoutError):
        s.more()
    s.sock.settimeout(5)
    kube.end_faults(number)
    assert s.event()[1]["metadata"]["name"] == "n2"
    kube.fault("error")
    kube.annotate("n2", {"a/b": "4"})
    is_status((410, s.event()[1]), 410, "Expired")
    assert s.event() is None


def test_faults_that_end_watches(kube, stream):
    kube.add_node("n1", small=True)
    s = watch(stream, kube.rv())
    kube.fault("cut_event")
    kube.annotate("n1", {"a/b": "1"})
    while s.more():
        pass
    assert b'{"type":"MODIFIED"' in s.data and not s.data.endswith(b"}\n\r\n")
    # A client sees the end of a watch before it is one less.
    wait_until(lambda: not kube.watches())
    s = watch(stream, kube.rv())
    assert kube.end_watches("clean") == 1
    assert s.event() is None
    wait_until(lambda: not kube.watches())
    s = watch(stream, kube.rv(), "allowWatchBookmarks=true")
    assert len(kube.watches()) == 1
    kube.bookmark()
    assert s.event()[0] == "BOOKMARK"
    kube.end_watches("reset")
    # Below TLS, which takes the one end for the other.
    with socket.socket(fileno=os.dup(s.sock.fileno())) as raw:
        raw.settimeout(5)
        with pytest.raises(ConnectionResetError):
            while raw.recv(65536):
                pass
    s = watch(stream, kube.rv())
    s.close()
    wait_until(lambda: not kube.watches(), what="the client's end is seen")
