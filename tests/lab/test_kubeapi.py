# SPDX-License-Identifier: Apache-2.0
"""The lab's own API server of Kubernetes: framing, statuses, watches, patches, faults.

What is wanted here was seen from real ones. With KUBE_APISERVER the same tests ask that one,
but for the faults.
"""

import contextlib
import json
import socket
import ssl

import pytest

from lib.expect import wait_until
from lib.kube_client import MERGE, NODES, STRATEGIC, Stream, get, is_status, patch, watch
from lib.kube_nodes import Nodes
from lib.kube_rbac import FLANNEL, FLANNEL_RULES
from lib.kubeapi import PARTIAL, PARTIAL_LIST, Refused

pytestmark = pytest.mark.needs("etcd")  # its openssl

UP = {"type": "NetworkUnavailable", "status": "False", "reason": "FlannelIsUp",
      "message": "Flannel is running on this node",
      "lastHeartbeatTime": "2026-01-02T03:04:05Z", "lastTransitionTime": "2026-01-02T03:04:05Z"}


@pytest.fixture(scope="module")
def kube(topo_of):
    return topo_of(1).kube()


@pytest.fixture(autouse=True)
def clean(kube):
    yield
    if not kube.real:
        kube.end_faults()
        kube.settings(last_bookmark=2.0)
    kube.set_rules(FLANNEL_RULES)
    for name in kube.nodes():
        kube.delete_node(name)


@pytest.fixture
def stream(kube):
    with contextlib.ExitStack() as stack:
        yield lambda **how: stack.enter_context(contextlib.closing(Stream(kube, **how)))


# -- framing and sizes -----------------------------------------------------------------

def test_a_node_has_a_real_ones_size_and_is_one_chunk(kube, stream):
    kube.add_peer("n1", "10.5.1.0/24", "192.0.2.2", mac="02:00:00:00:00:01")
    s = stream().ask("GET", f"{NODES}/n1")
    status, headers = s.head()
    assert status == 200 and headers["transfer-encoding"] == "chunked"
    assert "content-length" not in headers and headers["cache-control"] == "no-cache, private"
    body = s.chunk()
    assert s.chunk() == b""
    assert kube.real or 13500 < len(body) < 15000
    assert body.startswith(b'{"kind":"Node","apiVersion":"v1","metadata":{"name":"n1",')
    assert json.loads(body)["spec"]["podCIDRs"] == ["10.5.1.0/24"]
    # The connection stays open; what is small has a length.
    s.ask("GET", f"{NODES}/none")
    status, headers = s.head()
    assert status == 404 and "transfer-encoding" not in headers
    assert json.loads(s.body(headers))["code"] == 404
    s.ask("GET", f"{NODES}/n1", Accept=PARTIAL)
    status, headers = s.head()
    partial = s.body(headers)
    assert partial.startswith(
        b'{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"n1"')
    assert set(json.loads(partial)) == {"kind", "apiVersion", "metadata"}
    assert kube.real or 2048 < len(partial) < 3200


def test_no_http2_is_offered(kube):
    if kube.real:
        pytest.skip("a real kube-apiserver offers HTTP/2")
    context = kube.context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    raw = kube.ns.socket(kind=socket.SOCK_STREAM)
    raw.connect((kube.addresses[0], 6443))
    with context.wrap_socket(raw, server_hostname=kube.addresses[0]) as sock:
        assert sock.selected_alpn_protocol() == "http/1.1"


def test_json_is_escaped_as_go_does(kube, stream):
    kube.add_node("n1", annotations={"a/b": "<&>\u2028é"})
    s = stream().ask("GET", f"{NODES}/n1")
    _, headers = s.head()
    assert '"a/b":"\\u003c\\u0026\\u003e\\u2028é"'.encode() in s.body(headers)


def test_long_lists_are_compressed_for_who_takes_it(kube):
    kube.add_nodes([{"name": f"n{i}"} for i in range(20)])
    _, plain, body = kube.request("GET", NODES)
    assert "Content-Encoding" not in plain
    _, headers, packed = kube.request("GET", NODES, headers={"Accept-Encoding": "gzip"})
    assert headers["Content-Encoding"] == "gzip" and len(packed) < len(body) / 3
    _, headers, _ = kube.request("GET", f"{NODES}/n1", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in headers


# -- lists -----------------------------------------------------------------------------

def test_a_list_comes_in_pages_of_one_resource_version(kube):
    kube.add_nodes([{"name": f"n{i:02}", "small": True} for i in range(10)])
    seen, rvs, left, token = [], set(), [], ""
    while token is not None:
        status, page = get(kube, f"{NODES}?limit=4" + (f"&continue={token}" if token else ""))
        assert status == 200 and page["kind"] == "NodeList"
        # What happens meanwhile is not in the later pages.
        if not token:
            kube.add_node("n99", small=True)
            kube.delete_node("n09")
        metadata = page["metadata"]
        seen += [item["metadata"]["name"] for item in page["items"]]
        assert all("kind" not in item for item in page["items"])
        rvs.add(metadata["resourceVersion"])
        left.append(metadata.get("remainingItemCount"))
        token = metadata.get("continue")
    assert seen == [f"n{i:02}" for i in range(10)]
    assert len(rvs) == 1 and left == [6, 2, None]


def test_version_0_knows_no_limit(kube):
    kube.add_nodes([{"name": f"n{i}", "small": True} for i in range(5)])

    def page():
        got = get(kube, f"{NODES}?limit=2&resourceVersion=0")[1]
        assert len(got["items"]) == 5 and "continue" not in got["metadata"]
        return True

    wait_until(page)  # a cache may be behind


def test_an_expired_continue_is_410_with_another_token(kube):
    kube.add_nodes([{"name": f"n{i}", "small": True} for i in range(5)])
    token = get(kube, f"{NODES}?limit=2")[1]["metadata"]["continue"]
    kube.add_node("n9", small=True)
    kube.compact()
    got = get(kube, f"{NODES}?limit=2&continue={token}")
    is_status(got, 410, "Expired")
    other = got[1]["metadata"]["continue"]
    page = get(kube, f"{NODES}?limit=9&continue={other}")[1]
    assert [i["metadata"]["name"] for i in page["items"]] == ["n2", "n3", "n4", "n9"]


def test_versions_that_no_list_has(kube):
    kube.add_node("n1", small=True)
    got = get(kube, f"{NODES}?resourceVersion={int(kube.rv()) + 1000}")
    is_status(got, 504, "Timeout")
    assert got[1]["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    old = kube.rv()
    kube.add_node("n2", small=True)
    kube.compact()
    is_status(get(kube, f"{NODES}?limit=5&resourceVersion={old}&resourceVersionMatch=Exact"),
              410, "Expired")


def test_selectors(kube):
    kube.add_nodes([{"name": f"n{i}", "small": True, "labels": {"odd": str(i % 2)}}
                    for i in range(4)])

    def names(query):
        return [i["metadata"]["name"] for i in get(kube, f"{NODES}?{query}")[1]["items"]]

    assert names("fieldSelector=metadata.name%3Dn2") == ["n2"]
    assert names("labelSelector=odd%3D1") == ["n1", "n3"]
    is_status(get(kube, f"{NODES}?fieldSelector=spec.podCIDR%3Dx"), 400, "BadRequest")


def test_partial_lists(kube):
    kube.add_node("n1", small=True)
    _, got = get(kube, NODES, Accept=PARTIAL_LIST)
    assert (got["kind"], got["apiVersion"]) == ("PartialObjectMetadataList", "meta.k8s.io/v1")
    assert [set(i) for i in got["items"]] == [{"kind", "apiVersion", "metadata"}]
    is_status(get(kube, NODES, Accept=PARTIAL), 406, "NotAcceptable")
    assert get(kube, f"{NODES}?limit=1&continue=x")[0] == 400


# -- watches ---------------------------------------------------------------------------

def test_a_watch_tells_what_happens(kube, stream):
    kube.add_node("n1", "10.5.1.0/24", small=True)
    s = watch(stream, kube.rv())
    kube.add_node("n2", small=True)
    kube.annotate("n1", {"a/b": "c"})
    kube.delete_node("n2")
    events = [s.event() for _ in range(3)]
    assert [(kind, o["metadata"]["name"]) for kind, o in events] == [
        ("ADDED", "n2"), ("MODIFIED", "n1"), ("DELETED", "n2")]
    assert all(o["kind"] == "Node" and o["apiVersion"] == "v1" for _, o in events)
    rvs = [int(o["metadata"]["resourceVersion"]) for _, o in events]
    assert rvs == sorted(set(rvs)) and (kube.real or rvs[-1] == int(kube.rv()))
    # Again from the middle.
    again = watch(stream, rvs[0], accept=f"{PARTIAL},application/json")
    assert again.event() == ("MODIFIED", {
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
        "metadata": events[1][1]["metadata"]})
    assert again.event()[0] == "DELETED"


@pytest.mark.parametrize("rv", ["", "0"])
def test_a_watch_from_nowhere_begins_with_all(kube, stream, rv):
    kube.add_nodes([{"name": f"n{i}", "small": True} for i in range(3)])
    s = watch(stream, rv)
    assert sorted(s.event()[1]["metadata"]["name"] for _ in range(3)) == ["n0", "n1", "n2"]
    kube.delete_node("n1")
    assert s.event()[0] == "DELETED"


def test_a_watch_of_one_node(kube, stream):
    kube.add_nodes([{"name": f"n{i}", "small": True} for i in range(3)])
    s = watch(stream, kube.rv(), "fieldSelector=metadata.name%3Dn1")
    kube.annotate("n0", {"a/b": "c"})
    kube.annotate("n1", {"a/b": "c"})
    assert s.event()[1]["metadata"]["name"] == "n1"


def test_a_watch_that_is_too_old_is_200_and_an_error(kube, stream):
    kube.add_node("n1", small=True)
    old = int(kube.rv())
    kube.annotate("n1", {"a/b": "c"})
    kube.compact()
    s = watch(stream, old)
    kind, status = s.event()
    assert kind == "ERROR" and status["message"].startswith(f"too old resource version: {old} (")
    is_status((410, status), 410, "Expired")
    assert s.event() is None


def test_a_watch_ends_at_its_time_after_a_bookmark(kube, stream):
    kube.add_node("n1", small=True)
    if not kube.real:
        kube.settings(last_bookmark=0.2)
    seconds = 4 if kube.real else 2  # the change has to come before the bookmark
    s = watch(stream, kube.rv(), "allowWatchBookmarks=true", f"timeoutSeconds={seconds}",
              "fieldSelector=metadata.name%3Dother")
    kube.annotate("n1", {"a/b": "c"})
    event = s.event()
    assert event or kube.real, "no bookmark"  # a real one may be too late for it
    while event:
        assert event[0] == "BOOKMARK"
        assert kube.real or event[1]["metadata"] == {
            "resourceVersion": kube.rv(), "creationTimestamp": None}
        assert event[1]["kind"] == "Node" and event[1]["spec"] == {}
        assert event[1]["status"]["nodeInfo"]["machineID"] == ""
        event = s.event()
    s.ask("GET", f"{NODES}/n1")
    assert s.head()[0] == 200, "the connection is good for more"


def test_no_bookmark_when_nothing_changed(kube, stream):
    kube.add_node("n1", small=True)
    s = watch(stream, kube.rv(), "allowWatchBookmarks=true", "timeoutSeconds=1")
    assert s.event() is None


def test_a_version_to_come_is_silence(kube, stream):
    kube.add_node("n1", small=True)
    s = watch(stream, int(kube.rv()) + 1000, "timeoutSeconds=1")
    kube.annotate("n1", {"a/b": "c"})
    assert s.event() is None


# -- patches ---------------------------------------------------------------------------

def test_a_status_patch_takes_annotations_and_conditions(kube):
    kube.add_node("n1", "10.5.1.0/24")
    types = [c["type"] for c in kube.node("n1")["status"]["conditions"]]
    annotations = {"flannel.alpha.coreos.com/public-ip": "192.0.2.2", "x/gone": None}
    status, node = patch(kube, "n1", {
        "metadata": {"annotations": annotations}, "spec": {"unschedulable": True},
        "status": {"conditions": [UP]}})
    assert status == 200 and node["kind"] == "Node"
    assert node["metadata"]["annotations"]["flannel.alpha.coreos.com/public-ip"] == "192.0.2.2"
    assert "unschedulable" not in node["spec"], "a status patch changed the spec"
    assert [c["type"] for c in node["status"]["conditions"]] == ["NetworkUnavailable", *types]
    assert kube.condition("n1") == UP
    # The same again changes nothing.
    before = kube.rv()
    status, partial = patch(kube, "n1", {"status": {"conditions": [UP]}}, Accept=PARTIAL)
    assert status == 200 and partial["kind"] == "PartialObjectMetadata"
    assert partial["metadata"]["resourceVersion"] == node["metadata"]["resourceVersion"]
    assert kube.real or kube.rv() == before
    kube.drop_condition("n1")
    assert kube.condition("n1") is None


def test_a_merge_patch_replaces_the_conditions(kube):
    kube.add_node("n1", small=True)
    status, node = patch(kube, "n1", {"status": {"conditions": [UP]}}, MERGE)
    assert status == 200 and [c["type"] for c in node["status"]["conditions"]] == [UP["type"]]


def test_patches_that_are_refused(kube):
    kube.add_node("n1", "10.5.1.0/24", small=True)
    change = {"metadata": {"annotations": {"a/b": "c"}}}
    is_status(patch(kube, "n1", change, {"Content-Type": "application/json"}), 415,
              "UnsupportedMediaType")
    is_status(patch(kube, "n2", change), 404, "NotFound", 'nodes "n2" not found')
    change["metadata"]["resourceVersion"] = "1"
    is_status(patch(kube, "n1", change), 409, "Conflict",
              'Operation cannot be fulfilled on nodes "n1": the object has been modified; please '
              "apply your changes to the latest version and try again")
    change["metadata"]["resourceVersion"] = kube.node("n1")["metadata"]["resourceVersion"]
    assert patch(kube, "n1", change)[0] == 200
    change = {"metadata": {"annotations": {"a/b/c": "d"}}}
    is_status(patch(kube, "n1", change), 422, "Invalid")
    cidr = {"spec": {"podCIDR": "10.5.2.0/24", "podCIDRs": ["10.5.2.0/24"]}}
    got = patch(kube, "n1", cidr, MERGE, sub="", token=kube.admin)
    is_status(got, 422, "Invalid")
    assert 'node updates may not change podCIDR except from "" to valid' in got[1]["message"]
    status, _ = get(kube, f"{NODES}/n1/status", "PATCH", "{no json", **STRATEGIC)
    assert status == 400


def test_a_pod_cidr_comes_once(kube):
    kube.add_node("n1", small=True)
    kube.set_pod_cidrs("n1", "10.5.1.0/24", "fc00:5:1::/64")
    assert kube.node("n1")["spec"]["podCIDRs"] == ["10.5.1.0/24", "fc00:5:1::/64"]
    with pytest.raises(Refused):
        kube.set_pod_cidrs("n1", "10.5.2.0/24")
    uid = kube.node("n1")["metadata"]["uid"]
    kube.reregister("n1", "10.5.2.0/24", small=True)
    assert kube.node("n1")["spec"]["podCIDR"] == "10.5.2.0/24"
    assert kube.node("n1")["metadata"]["uid"] != uid


# -- who may ---------------------------------------------------------------------------

def test_rbac_refuses_with_the_name_of_what_is_missing(kube):
    kube.add_node("n1", small=True)
    change = {"metadata": {"annotations": {"a/b": "c"}}}
    who = f'is forbidden: User "{FLANNEL}" cannot'
    scope = 'in API group "" at the cluster scope'
    is_status(patch(kube, "n1", change, sub=""), 403, "Forbidden",
              f'nodes "n1" {who} patch resource "nodes" {scope}')
    assert patch(kube, "n1", change)[0] == 200
    kube.set_rules([])
    got = wait_until(lambda: next(
        (x for x in [patch(kube, "n1", change)] if x[0] != 200), None))
    is_status(got, 403, "Forbidden", f'nodes "n1" {who} patch resource "nodes/status" {scope}')
    assert got[1]["details"] == {"name": "n1", "kind": "nodes"}
    is_status(get(kube, NODES), 403, "Forbidden", f'nodes {who} list resource "nodes" {scope}')
    is_status(get(kube, f"{NODES}?watch=1"), 403, "Forbidden",
              f'nodes {who} watch resource "nodes" {scope}')
    is_status(get(kube, "/api/v1/namespaces/kube-flannel/pods/p"), 403, "Forbidden",
              f'pods "p" {who} get resource "pods" in API group "" in the namespace '
              '"kube-flannel"')


def test_who_is_nobody(kube):
    is_status(get(kube, NODES, token="wrong"), 401, "Unauthorized", "Unauthorized")
    is_status(get(kube, NODES, token=""), 403, "Forbidden",
              'nodes is forbidden: User "system:anonymous" cannot list resource "nodes" in API '
              'group "" at the cluster scope')


def test_a_client_certificate_is_a_user(kube, stream):
    pair = kube.client_certificate()
    s = stream(pair=pair).ask("GET", NODES, token="")
    assert s.head()[0] == 200


def test_a_pod_has_its_node(kube):
    kube.add_pod("kube-flannel-ds-x", "n1")
    status, pod = get(kube, "/api/v1/namespaces/kube-flannel/pods/kube-flannel-ds-x")
    assert status == 200 and pod["spec"]["nodeName"] == "n1"
    is_status(get(kube, "/api/v1/namespaces/kube-flannel/pods/other"), 404, "NotFound",
              'pods "other" not found')


def test_a_rotated_token(kube, tmp_path):
    directory = kube.service_account(str(tmp_path / "sa"))

    def token():
        return (tmp_path / "sa" / "token").read_text()

    old = token()
    kube.rotate_token()
    assert token() == kube.token != old
    assert sorted(p.name for p in (tmp_path / "sa").iterdir() if p.name[0] != ".") == [
        "ca.crt", "namespace", "token"], directory
    is_status(get(kube, NODES, token=old), 401, "Unauthorized")
    assert get(kube, NODES)[0] == 200


# -- its life --------------------------------------------------------------------------

def test_a_restart_keeps_all_but_the_history(kube, stream):
    kube.add_node("n1", "10.5.1.0/24", small=True)
    old = kube.rv()
    kube.annotate("n1", {"a/b": "c"})
    before = kube.node("n1")
    s = watch(stream, kube.rv())
    kube.kill()
    assert not s.more(), "a watch outlived its server"
    kube.start()
    assert kube.node("n1") == before
    assert watch(stream, old).event()[0] == "ERROR"


def test_a_restored_backup_goes_back(kube):
    kube.add_node("n1", small=True)
    rv, backup = int(kube.rv()), kube.backup()
    kube.add_node("n2", small=True)
    kube.restore(backup)
    assert kube.nodes() == ["n1"]
    assert kube.real or int(kube.rv()) == rv


def test_another_certificate_and_another_authority(kube):
    def serial():
        with contextlib.closing(kube.connect()) as connection:
            return connection.sock.getpeercert()["serialNumber"]

    first = serial()
    kube.issue_server()
    wait_until(lambda: serial() != first, 90 if kube.real else 5)
    if kube.real:
        return  # reads the client authority late
    old = kube.context()
    kube.new_authority()
    serial()
    raw = kube.ns.socket(kind=socket.SOCK_STREAM)
    raw.connect((kube.addresses[0], 6443))
    with pytest.raises(ssl.SSLCertVerificationError), raw:
        old.wrap_socket(raw, server_hostname=kube.addresses[0])


def test_no_http_is_told_so(kube, stream):
    s = stream()
    s.sock.sendall(b"HELO kube\r\n\r\n")
    assert s.head()[0] == 400
    while s.more():
        pass


def test_one_of_two_addresses_is_dead(topo_of):
    topo = topo_of(1, ipv6=True)
    kube, h1 = topo.kube(addresses=2), topo["h1"].ns
    first, ipv6, second = kube.addresses
    kube.connect(ipv6, ns=h1).close()
    kube.connect(first, ns=h1).close()
    kube.block(first, refuse=True)
    with pytest.raises(ConnectionRefusedError):
        kube.connect(first, ns=h1)
    kube.connect(second, ns=h1).close()
    kube.let_in()
    kube.connect(first, ns=h1).close()


def test_what_was_asked_is_kept(kube):
    kube.add_node("n1", small=True)
    mark = kube.mark()
    patch(kube, "n1", {"metadata": {"annotations": {"a/b": "c"}}})
    get(kube, f"{NODES}?limit=5")
    seen = kube.requests(since=mark)
    assert [(r.verb, r.user, r.status) for r in seen] == [
        ("patch", FLANNEL, 200), ("list", FLANNEL, 200)]
    if not kube.real:
        assert json.loads(seen[0].body) == {"metadata": {"annotations": {"a/b": "c"}}}
        assert seen[0].headers["content-type"] == STRATEGIC["Content-Type"]
        assert seen[1].sent > 1000 and seen[1].query == {"limit": "5"}
    assert kube.requests(since=mark, path=f"{NODES}/.*")[0].method == "PATCH"


def test_nodes_are_a_store_of_the_lab(kube):
    store = Nodes(kube)
    store.put_peer("10.5.7.0-24", "192.0.2.7", mac="02:00:00:00:00:07")
    store.put_peer("10.5.8.0-24&fc00:5:8::-64", "192.0.2.8")
    assert store.keys() == ["n-10.5.7.0-24", "n-10.5.8.0-24-fc00-5-8-64"]
    assert kube.node("n-10.5.8.0-24-fc00-5-8-64")["spec"]["podCIDRs"] == [
        "10.5.8.0/24", "fc00:5:8::/64"]
    key, record = store.lease_of("192.0.2.7")
    assert (key, record["BackendData"]["VtepMAC"]) == ("n-10.5.7.0-24", "02:00:00:00:00:07")
    store.remove("10.5.7.0-24")
    assert len(store.keys()) == 1
    for network in ("10.5.0.0/16", "10.6.0.0/16"):
        store.write_config({"Network": network})
        with open(f"{store.config_dir}/net-conf.json", encoding="utf-8") as f:
            assert json.load(f) == {"Network": network}


def test_plain_http_and_many_nodes(topo_of):
    kube = topo_of(1).kube(tls=False)
    if kube.real:
        pytest.skip("a real kube-apiserver knows no plain HTTP")
    kube.add_nodes(({"name": f"n{i:04}", "pod_cidrs": [f"10.{i >> 8}.{i & 255}.0/24"]}
                    for i in range(300)), render=True)
    s = Stream(kube)
    with contextlib.closing(s):
        s.ask("GET", f"{NODES}?limit=500")
        s.head()
        body = s.chunk()
        assert len(body) > 300 * 13000
        page = json.loads(body)
        s.chunk()
        s.ask("GET", f"{NODES}?watch=1&resourceVersion={page['metadata']['resourceVersion']}")
        s.head()
        kube.heartbeat()
        beats = [s.event() for _ in range(300)]
    # A heartbeat changes the JSON in place: it must still be the object's.
    for i in (0, 299):
        assert beats[i][1] == kube.node(f"n{i:04}"), i
    old = {c["type"]: c for c in page["items"][0]["status"]["conditions"]}
    assert set(old) == {c["type"] for c in beats[0][1]["status"]["conditions"]}
    assert kube.heartbeats(0.05) == 0
    wait_until(lambda: int(kube.rv()) > int(beats[-1][1]["metadata"]["resourceVersion"]) + 300)
    assert kube.heartbeats(0) > 300
